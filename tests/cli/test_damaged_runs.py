"""Tests with edited or damaged runs, and with two trainings at once."""

import contextlib
import json
import math
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_deconv import _files, callbacks, distribution, losses, models
from keras_deconv_cli import api, evaluation, history, main, runs, sources
from tests.cli.samples import read_history, tiny_model
from tests.paths import ROOT

RUN = dict(
    class_names=["a", "b"],
    palette=[[0, 0, 0], [1, 1, 1]],
    image_size=[16, 24],
)
HEADER = "epoch,loss,val_mean_iou\n"


def history_with(tmp_path, content, patience=2, has_score=True):
    """Return a function that reads a history with the given file content."""
    model = tiny_model((16, 24, 3), 2)
    model.compile("adam", losses.SegmentationCrossentropy())

    def read():
        kept = history.History(
            tmp_path,
            model,
            patience,
            distribution.Replicas(),
            has_score=has_score,
        )
        kept.set_model(model)
        return kept

    kept = read()
    for epoch, score in enumerate([0.2, 0.5]):
        scores = {"val_mean_iou": score} if has_score else {}
        kept.on_epoch_end(epoch, {"loss": 1.0, **scores})
    assert [float(row["loss"]) for row in read().rows] == [1.0, 1.0]
    (tmp_path / "history.csv").write_bytes(content)
    return read


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 of 2 epochs"),
        (f"{HEADER}0,1.0,0.2\n".encode(), "1 of 2 epochs"),
        (b"epoch,loss\n0,1.0\n1,1.0\n", "missing column val_mean_iou"),
        (b"a,b\n0,1.0\n1,1.0\n", "missing column epoch, loss, val_mean_iou"),
        (f"{HEADER}0,1.0,0.2\n1,1.0\n".encode(), "val_mean_iou None"),
        (f"{HEADER}0,1.0,nan\n1,1.0,0.5\n".encode(), "val_mean_iou 'nan' in"),
        (f"{HEADER}0,1.0,inf\n1,1.0,0.5\n".encode(), "val_mean_iou 'inf' in"),
        (f"{HEADER}0,1.0,9.0\n1,1.0,0.5\n".encode(), "val_mean_iou '9.0' in"),
        (f"{HEADER}0,nan,0.2\n1,1.0,0.5\n".encode(), "loss 'nan' in epoch 0"),
        (b"epoch,loss,loss,val_mean_iou\n0,1,1,0\n1,1,1,0\n", "duplicate col"),
        (f"{HEADER}0,1.0,x\n1,1.0,0.5\n".encode(), "val_mean_iou 'x' in"),
        (f"{HEADER}1,1.0,0.2\n0,1.0,0.5\n".encode(), "'1' instead of 0"),
        (f"{HEADER}0,1.0,0.2,7\n1,1.0,0.5\n".encode(), r"\['7'\] in epoch 0"),
        (f"{HEADER}0,1.0,0.2\n1,\0,0.5\n".encode(), "as keras-deconv train"),
        (f"{HEADER}0,1.0,0.2\n1,\xff,0.5\n".encode("latin-1"), "utf-8"),
    ],
)
@pytest.mark.parametrize(
    "patience", [2, pytest.param(None, marks=pytest.mark.slow)]
)
def test_a_damaged_history_is_named(content, words, patience, tmp_path):
    read = history_with(tmp_path, content, patience)
    with pytest.raises(ValueError, match=r"history\.csv must be as") as error:
        read()
    assert error.match(words)


@pytest.mark.parametrize("header", ["epoch,loss,val_mean_iou,x", "epoch,loss"])
def test_other_columns_do_not_replace_the_best_model(header, tmp_path):
    has_score = "iou" in header
    rows = "0,1.0,0.2,1\n1,1.0,0.5,1\n" if has_score else "0,1.0\n1,1.0\n"
    content = f"{header}\n{rows}".encode()
    kept = history_with(tmp_path, content, has_score=has_score, patience=None)()
    before = (tmp_path / "model.keras").read_bytes()
    logs = {"loss": 1.0, "val_mean_iou": 0.9}
    with pytest.raises(ValueError, match=r"history\.csv must be as.*columns"):
        kept.on_epoch_end(2, logs)
    assert (tmp_path / "model.keras").read_bytes() == before
    assert (tmp_path / "history.csv").read_bytes() == content


def test_a_lost_history_is_named(tmp_path):
    read = history_with(tmp_path, b"")
    (tmp_path / "history.csv").unlink()
    with pytest.raises(ValueError, match=r"history\.csv must be as"):
        read()


def test_a_lost_backup_is_named(tmp_path):
    """A new training would overwrite the best model."""
    read = history_with(tmp_path, f"{HEADER}0,1.0,0.2\n1,1.0,0.5\n".encode())
    shutil.rmtree(tmp_path / ".resume")
    with pytest.raises(ValueError, match=r"2 epochs in .*--init-from"):
        read()
    # history.csv contains the first epoch before its backup exists.
    (tmp_path / "history.csv").write_text(f"{HEADER}0,1.0,0.2\n")
    assert read().num_done == 0


def test_without_validation_there_is_no_score(tmp_path):
    content = b"epoch,loss\n0,1.0\n1,1.0\n"
    read = history_with(tmp_path, content, patience=None, has_score=False)
    assert read().num_done == 2
    (tmp_path / "history.csv").write_text(f"{HEADER}0,1.0,0.2\n1,1.0,0.5\n")
    with pytest.raises(ValueError, match="without validation data"):
        read()


def test_nobody_waits_for_a_pipe(tmp_path):
    """Opening a pipe for reading blocks until another process writes to it."""
    read = history_with(tmp_path, b"")
    (tmp_path / "history.csv").unlink()
    os.mkfifo(tmp_path / "history.csv")
    words = "it is not a regular file"
    with pytest.raises(ValueError, match=rf"history\.csv must be as.*{words}"):
        read()
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(ValueError, match=rf"run\.json is not a valid.*{words}"):
        runs.read(tmp_path)
    report = callbacks.PerClassReport(("a", "b"), path=tmp_path / "run.json")
    with pytest.raises(ValueError, match=rf"`path` must be.*{words}"):
        report._rows_before(1)
    [backup] = (tmp_path / ".resume").iterdir()
    backup.unlink()
    os.mkfifo(backup)
    with pytest.raises(ValueError, match=rf"The backup .*{words}"):
        read()


@pytest.mark.parametrize(
    "content", [b"\0", b"epoch,split,class,x\n", b"epoch,split\nx,1\n", b"\xff"]
)
def test_a_damaged_report_is_named(content, tmp_path):
    path = tmp_path / "per_class.csv"
    path.write_bytes(content)
    report = callbacks.PerClassReport(("a", "b"), path=path)
    with pytest.raises(ValueError, match=r"`path` must be .*per_class\.csv"):
        report._rows_before(1)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"options": ' + "[" * 100_000,
        "\0",
        "[1]",
        json.dumps({**RUN, "palette": [[9] * 100_000]}),
        json.dumps({**RUN, "class_names": ["a", "\x1b]0;title\x07"]}),
        json.dumps({**RUN, "class_names": ["a", "b\x9b2J"]}),
        json.dumps({**RUN, "splits": {"train": "train\x1b[2J"}}),
        json.dumps({**RUN, "value_range": [0.0, math.inf]}),
        json.dumps({**RUN, "value_range": [math.nan, 1.0]}),
    ],
)
def test_a_hostile_run_file_is_one_plain_line(content, tmp_path, capsys):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match="not a valid run"):
        runs.read(tmp_path)
    assert main(["train", "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert len(error) < 1000
    assert not set(error) & {"\x1b", "\x07", "\x9b"}


def test_what_is_printed_is_plain(tmp_path, capsys):
    model = tiny_model((16, 24, 3), 2)
    model.name = "evil\x1b[2J"
    model.save(tmp_path / "model.keras")
    assert main(["info", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert r"evil\x1b[2J: " in captured.out
    assert "\x1b" not in captured.out
    name = "no\x1bc.png"
    arguments = [str(tmp_path), str(tmp_path / name)]
    assert main(["predict", *arguments, "--output", str(tmp_path / "o")]) == 1
    assert r"no\x1bc.png cannot be" in capsys.readouterr().err
    assert api.plain("é 中 \n") == r"é 中 \n"


@pytest.mark.parametrize(
    "name",
    [
        "huggingface:x",
        "huggingface:x/y",
        "gs://bucket/set",
        "kubric:movi_a",
        "../cam_vid",
        "/etc",
        "cam_vid:1.0.0:x",
    ],
)
def test_a_run_does_not_choose_a_loader(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        sources.data, "describe", lambda *_, **__: pytest.fail("loaded")
    )
    tiny_model((16, 24, 3), 2).save(tmp_path / "model.keras")
    options = dict.fromkeys(
        ["data_dir", "manual_dir", "images", "masks", "val_images", "val_masks"]
    )
    options |= {"dataset": name, "train_split": "train"}
    run = {**RUN, "options": options, "splits": {"train": "train"}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "DATASET must be the name of a dat" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["cam_vid", "coco/2017_panoptic:1.1.0", "cam_vid:1.*.*", "set_2"]
)
def test_names_of_datasets(name):
    assert sources._NAME.fullmatch(name)


def test_the_second_training_at_once_stops(tmp_path, capsys, monkeypatch):
    """The first training holds the lock before it writes any files."""
    from keras_deconv_cli import training

    entered, ended = threading.Event(), threading.Event()

    def train(*_):
        entered.set()
        assert ended.wait(60)

    monkeypatch.setattr(training, "_train", train)
    arguments = ["train", "scenes", "--output", str(tmp_path / "run")]
    codes = []
    first = threading.Thread(target=lambda: codes.append(main(arguments)))
    first.start()
    assert entered.wait(60)
    try:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert "--output must be a folder that is not in use by" in error
        assert len(error.splitlines()) == 1
    finally:
        ended.set()
        first.join()
    assert codes == [0]
    assert os.listdir(tmp_path / "run") == []
    # The lock is released for the next training.
    assert main(arguments) == 0


@contextlib.contextmanager
def command(arguments, **options):
    """Start a process that runs the command; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "keras_deconv_cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        text=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.release
def test_of_two_processes_at_once_the_first_one_trains(scenes_dir, tmp_path):
    """The first process is stopped during its training."""
    folder, num_epochs = tmp_path / "run", 6
    arguments = [
        *["train", "scenes", "--data-dir", str(scenes_dir)],
        *["--train-split", "train[:8]", "--val-split", "validation[:4]"],
        *["--image-size", "16x24", "--model", "segnet_basic"],
        *["--epochs", str(num_epochs), "--preview-every", "0"],
        *["--output", str(folder)],
    ]
    silent = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with command(arguments, **silent) as first:
        while not (folder / "history.csv").exists():
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        before = {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}
        with command(arguments, stderr=subprocess.PIPE) as second:
            _, error = second.communicate(timeout=300)
        assert second.returncode == 1
        assert "error: --output must be a folder that is not in use" in error
        after = {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}
        # Folders are excluded, since the second process checks that they are
        # writable.
        assert after.keys() == before.keys()
        assert all(before[p] == after[p] for p in before if p.is_file())
        assert first.poll() is None
        first.send_signal(signal.SIGCONT)
        assert first.wait(300) == 0
    assert runs.load(str(folder))[1].is_finished
    assert len(read_history(folder)) == num_epochs
    names = [".resume", "history.csv", "model.keras", "per_class.csv"]
    names += ["run.json"]
    assert sorted(os.listdir(folder)) == names


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The folder of a finished training that was killed before its cleanup."""
    from keras_deconv_cli import resuming

    run = runs.Run(**RUN, is_finished=True)
    run.write(tmp_path)
    monkeypatch.setattr(resuming, "resumed", lambda options, _: (options, run))
    for folder in (tmp_path, tmp_path / ".resume", tmp_path / "previews"):
        left = folder / ".keras_deconv.abcdefgh"
        (left / "new").mkdir(parents=True)
        (left / "new" / "half").write_bytes(b"half")
        (left / "lock").touch()
    (tmp_path / ".resume" / "backup-3.weights.h5").touch()
    (tmp_path / "previews" / "0.png").touch()
    (tmp_path / ".keras_deconv.lock").touch()
    return tmp_path


def test_what_a_finished_training_left_is_deleted(finished, capsys):
    assert main(["train", "scenes", "--output", str(finished)]) == 0
    assert "is finished" in capsys.readouterr().out
    kept = [".resume", "previews", "run.json"]
    assert sorted(os.listdir(finished)) == kept
    # The backup of the last epoch is kept for a larger --epochs.
    assert os.listdir(finished / ".resume") == ["backup-3.weights.h5"]
    assert os.listdir(finished / "previews") == ["0.png"]


def test_a_training_at_its_end_is_left_alone(finished, capsys):
    before = sorted(finished.rglob("*"))
    with _files.locked(finished / ".keras_deconv.lock", wait=False):
        assert main(["train", "scenes", "--output", str(finished)]) == 0
        assert "is finished" in capsys.readouterr().out
        assert sorted(finished.rglob("*")) == before


@pytest.mark.parametrize("name", [".lock", ".keras_deconv.lock"])
def test_files_with_the_name_of_a_lock_stay(
    name, tmp_path, capsys, monkeypatch
):
    from keras_deconv_cli import training

    monkeypatch.setattr(training, "_train", lambda *_: None)
    (tmp_path / name).write_text("mine")
    is_ours = name != ".lock"
    assert main(["train", "scenes", "--output", str(tmp_path)]) == is_ours
    error = capsys.readouterr().err
    assert ("must not exist or must be an empty file" in error) == is_ours
    assert (tmp_path / name).read_text() == "mine"


def test_scores_are_written_to_a_pipe(tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    evaluation._check_json(str(pipe))
    evaluation._write_json(pipe, {"mean_iou": 0.5})
    reader.join()
    assert json.loads(found[0]) == {"mean_iou": 0.5}
    evaluation._write_json(pathlib.Path("/dev/null"), {})
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert capsys.readouterr().out == ""
    file = tmp_path / "scores.json"
    evaluation._write_json(file, {})
    assert file.read_text() == "{}\n"


def test_a_picture_is_not_written_to_a_pipe(tmp_path, capsys):
    models.SegNetBasic((16, 24, 3), 2).save(tmp_path / "model.keras")
    picture = tmp_path / "x.png"
    from tests import tiny_datasets

    tiny_datasets.write_png(picture, np.zeros((16, 24, 3), np.uint8))
    output = tmp_path / "out"
    output.mkdir()
    (output / "x_mask.png").symlink_to("/dev/null")
    arguments = [str(tmp_path), str(picture), "--output", str(output)]
    assert main(["predict", *arguments]) == 1
    assert "must be a regular file" in capsys.readouterr().err
    assert (output / "x_mask.png").is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
