"""The examples, as a user runs them; .ci/run runs the main job."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys

import pytest

from keras_deconv_cli import main, parser
from tests.paths import ROOT

pytestmark = pytest.mark.docs

EXAMPLES = ROOT / "examples"


def run_example(name, folder, *arguments):
    return subprocess.run(
        [
            *[sys.executable, EXAMPLES / name, *arguments],
            *["--data-dir", folder / "tfds", "--output", folder / "out"],
        ],
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_segnet_is_trained(tmp_path, monkeypatch):
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    result = run_example("train_segnet.py", tmp_path, "--smoke")
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr == ""
    output = tmp_path / "out"
    assert result.stdout.startswith(
        "Training SegNet-Basic on 16 scenes for 1 epoch. Results go to "
        f"{output}/.\n"
    )
    _, results = result.stdout.split("Results:\n")
    for path in re.findall(r"^  (/.*):", results, re.MULTILINE):
        assert os.path.exists(path), path
    assert len(list((output / "images").glob("*.png"))) == 4
    commands = re.findall(
        r"^  keras-deconv (.*)$", results.replace("\\\n", ""), re.MULTILINE
    )
    evaluate, predict, train = map(shlex.split, commands)
    assert main(evaluate) == 0
    assert main(predict) == 0
    assert (output / "labeled" / "0_overlay.png").exists()
    parser.parse(train)


# why_unpooling.py is run by test_story.py.
@pytest.mark.slow
def test_unpooling_is_drawn(tmp_path):
    result = run_example("unpooling_pictures.py", tmp_path, "--smoke")
    assert result.returncode == 0, result.stderr[-3000:]
    drawn = {picture.name for picture in (tmp_path / "out").iterdir()}
    assert drawn == {
        *("grids.png", "index_formats.png", "odd_sizes.png"),
        *("feature_map.png", "matrix.png"),
    }
    for name in drawn:
        assert (ROOT / "docs" / "images" / name).exists()


@pytest.mark.slow
def test_decoders_are_compared(tmp_path):
    result = run_example("compare_decoders.py", tmp_path, "--smoke")
    assert result.returncode == 0, result.stderr[-3000:]
    folder = tmp_path / "out"
    report = json.loads((folder / "table.json").read_text())
    rows = report["rows"]
    assert set(rows) == {"max_unpool", "bed_of_nails"}
    for decoder, row in rows.items():
        assert decoder in (folder / "table.md").read_text()
        for name in ("mean_iou", "boundary_f1"):
            assert len(row[name]) == report["seeds"]
            assert all(0 <= score <= 1 for score in row[name])
    # One byte per window of four; 64 channels, four stages.
    windows = sum((48 // 2**n) * (64 // 2**n) for n in (1, 2, 3, 4))
    assert rows["max_unpool"].pop("index_bytes") == 64 * windows
    assert not any(row.get("index_bytes") for row in rows.values())
    # float32 values, and four cells per window.
    assert report["skip_bytes"] == 16 * 64 * windows
    assert (folder / "scores.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.release
def test_encoders_are_compared(tmp_path):
    result = run_example(
        "compare_encoders.py", tmp_path, "--smoke", "--encoders", "MobileNetV2"
    )
    assert result.returncode == 0, result.stderr[-3000:]
    folder = tmp_path / "out"
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert len(rows) == 2
    for key, row in rows.items():
        assert key in (folder / "table.md").read_text()
        for name in ("mean_iou", "boundary_f1"):
            assert all(0 <= score <= 1 for score in row[name])


def test_table_of_encoders_is_that_of_the_stored_trainings(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from comparing import with_spread

    folder = ROOT / "benchmarks" / "results" / "encoders"
    trainings = json.loads((folder / "scores.json").read_text())
    rows = re.findall(
        r"^\| (\w+ \| \w+ \| \w+) \| ([\d,]+) \| (.+?) \| (.+?) \|$",
        (folder / "table.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) * 3 == len(trainings) == 48
    for name, parameters, *shown in rows:
        found = [trainings[f"{name} | seed {i}, epochs 5 "] for i in range(3)]
        assert {f"{one['parameters']:,}" for one in found} == {parameters}
        for metric, text in zip(
            ("mean_iou", "boundary_f1"), shown, strict=True
        ):
            assert text == with_spread([one[metric] for one in found])


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("compare_encoders.py", ["--epochs", "0"], "must be at least 1"),
        ("compare_decoders.py", ["--seeds", "0"], "must be at least 1"),
        ("why_unpooling.py", ["--camvid", "nowhere"], "is not a folder"),
    ],
)
def test_mistake_ends_in_one_sentence(
    tmp_path, name, arguments, words, monkeypatch, capsys
):
    script = str(EXAMPLES / name)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    # As `python examples/name.py` does.
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert end.value.code == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
