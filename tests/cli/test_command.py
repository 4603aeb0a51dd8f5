"""Tests of the files, output and resumed trainings of the command."""

import contextlib
import csv
import json
import math
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import (
    _files,
    callbacks,
    data,
    distribution,
    inference,
    losses,
    metrics,
    models,
)
from keras_deconv_cli import (
    evaluation,
    history,
    main,
    parser,
    prediction,
    runs,
    training,
)
from tests import caffe_files, formats, networks, tiny_datasets
from tests.cli.samples import read_history, tiny_model, write_scenes
from tests.paths import CAMVID

SIZE = (16, 24)
SEED = 3


@pytest.fixture(scope="module", autouse=True)
def _slim():
    """Build networks with few filters; model files keep their own number."""
    with pytest.MonkeyPatch.context() as patch:
        networks.make_slim(patch)
        yield


@pytest.fixture(scope="module")
def train_options(scenes_dir):
    """Options of a short training with dropout and augmentation."""
    return [
        *["--data-dir", str(scenes_dir), "--image-size", "16x24"],
        *["--train-split", "train[:16]", "--val-split", "validation[:8]"],
        *["--model", "bayesian_segnet_basic", "--epochs", "2", "--augment"],
        *["--batch-size", "4", "--seed", str(SEED)],
    ]


@pytest.fixture(scope="module")
def quick_options(train_options):
    """The same options for one epoch, without previews."""
    return [*train_options, "--epochs", "1", "--preview-every", "0"]


@pytest.fixture(scope="module")
def run_folder(train_options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    arguments = ["train", *train_options, "--output", str(folder)]
    with (
        folder.with_name("log.txt").open("w") as log,
        contextlib.redirect_stdout(log),
    ):
        assert main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model without dropout that was saved by Keras, without run.json."""
    path = tmp_path_factory.mktemp("model") / "foreign.keras"
    models.SegNetBasic((*SIZE, 3), 6).save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train nope", "lost_and_found, oxford_iiit_pet, scene_parse150"),
        ("train oxford_pets", "Did you mean 'oxford_iiit_pet'?"),
        ("train {tmp}", "use --images {tmp} --masks FOLDER --classes NAME"),
        ("train {data} --val-split 20% --train-split train[:8]", "whole split"),
        ("train cam_vid --manual-dir {tmp}/missing", "{tmp}/missing"),
        (
            "train --train-split nope {data}",
            "SPLIT must be train or validation",
        ),
        ("train --val-split nope {data}", "SPLIT must be one of the splits"),
        (
            "train --model deconvnet {data}",
            "--image-size must have a height and width of at least 193",
        ),
        pytest.param(
            "train --model deconvnet {data} --image-size 200x200 --crop 64x96",
            "--crop must be large enough for the network. Received: --crop "
            "64x96 with deconvnet",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "train --weights {tmp}/missing.caffemodel {data}",
            "--weights must be None or the path of an existing file",
            marks=pytest.mark.slow,
        ),
        (
            "train --weights {tmp}/classes.caffemodel {data}",
            "conv_classifier.weight must have the shape (6, 16, 1, 1), but is "
            "(5, 16, 1, 1)",
        ),
        ("train --early-stopping 2 --val-split none {data}", "validation"),
        ("train --output {here}", "--output must be a folder"),
        ("train --strategy mirrored", "at least two devices"),
        ("train --strategy multi_worker", "TF_CONFIG must list"),
        ("train --strategy data_parallel", "Set KERAS_BACKEND=jax"),
        ("train --output {tmp}/foreign", "but not run.json"),
        ("train --images {tmp} --masks {tmp}/no --classes 2", "{tmp}/no"),
        ("evaluate {tmp}/none", "none' does not exist"),
        ("evaluate {tmp}", "model.keras"),
        ("evaluate {here}", "is not complete"),
        ("evaluate {tmp}/truncated.keras", "is not complete"),
        ("evaluate {tmp}/other.keras", "to classes"),
        ("evaluate {tmp}/layer.keras", "layers are known"),
        ("predict {1 classes} {tmp}/p.png --output {tmp}/o", "num_classes=2: "),
        ("evaluate {1 classes}", "2 to 255 classes"),
        ("evaluate {256 classes}", "2 to 255 classes"),
        ("evaluate {model}", "DATASET or --images must be given"),
        ("evaluate {model} cam_vid", "11 classes in cam_vid, 6"),
        ("evaluate {model} {data} scenes --split x", "SPLIT must be one of"),
        ("predict {model} {tmp}/empty --output {tmp}/o", "not contain any"),
        ("predict {model} {tmp}/*.jpg --output {tmp}/o", "not contain any"),
        ("predict {model} {tmp}/emp* --output {tmp}/o", "not contain any"),
        ("predict {model} . --output {tmp}/a/b", "is inside '.'"),
        ("predict {model} {tmp} --output {tmp}", "must be outside"),
        (
            "predict {model} {tmp}/p.png --output {tmp}/o --monte-carlo 2",
            "with dropout",
        ),
        ("predict {model} {tmp}/p.png --output {here}", "--output must be a"),
        (
            "predict {tmp}/dense.keras {tmp}/p.png --at original --output o",
            "MODEL must accept images of any size. Received: 'dense', which "
            "only accepts images of 8x8 pixels. Predict with tiles of this "
            "size: --tile 8x8.",
        ),
        ("predict {model} {tmp}/p.png --output /dev/null", "--output must be"),
        ("train {data} --output /dev/null", "--output must be a folder"),
        ("export {model} --output /dev/null", "--output must be a regular"),
        ("evaluate {model} {data} --json {tmp}", "--json must be a file"),
        (
            "evaluate {model} {data} --json {here}/x",
            "--json must be a path that can",
        ),
        ("check huggingface:x", "DATASET must be the name of a dataset"),
        ("export {tmp}/none --output {tmp}/saved", "none' does not exist"),
        ("export {model} --output {tmp}", "a folder that is new, empty or"),
        (
            "export {model} --output {tmp}/o --format tflite --quantize int8",
            "Use --quantize dynamic, which does",
        ),
        ("info none.keras", "none.keras' does not exist"),
        ("info voc", "has only boxes"),
        ("check nope", "DATASET must be a dataset of the catalog"),
        ("info pets", "give the same --data-dir"),
    ],
)
def test_mistakes_end_with_1_and_one_line(
    arguments, words, capsys, tmp_path, scenes_dir, model_file, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "model.keras").touch()
    whole = model_file.read_bytes()
    (tmp_path / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    if "other" in arguments:
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        other.save(tmp_path / "other.keras")
    if "dense" in arguments:
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Dense(128)(keras.layers.Flatten()(inputs))
        outputs = keras.layers.Reshape((8, 8, 2))(x)
        dense = keras.Model(inputs, outputs, name="dense")
        dense.save(tmp_path / "dense.keras")
    for number in ("1", "256"):
        path = tmp_path / f"{number}.keras"
        if number + " classes" in arguments:
            tiny_model((*SIZE, 3), int(number)).save(path)
        arguments = arguments.replace(f"{{{number} classes}}", str(path))
    if "classes.caffemodel" in arguments:
        params = caffe_files.basic_params(
            np.random.default_rng(0), networks.SLIM_BASIC
        )
        caffe_files.write(tmp_path / "classes.caffemodel", params)
    if "layer" in arguments:
        save_with_unknown_layer(tmp_path / "layer.keras")
    tiny_datasets.write_png(tmp_path / "p.png", data.draw_scene(0)[0])

    def fill(text):
        return (
            text.replace("{tmp}", str(tmp_path))
            .replace("{model}", str(model_file))
            .replace("{here}", __file__)
            .replace("{data}", f"--data-dir {scenes_dir}")
        )

    assert main(fill(arguments).split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") or "\nerror: " in error
    assert error.count("error: ") == 1
    assert error.endswith("\n")
    assert fill(words) in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("class_names", [6, None, [], ["a"], list("aabcde"), [1] * 6]),
        ("palette", [None, [[0, 0, 0]], [[0, 0]] * 6, [[0, 0, 256]] * 6]),
        ("image_size", ["x", [0, 0], [16], [16, 24.0], [True, 24]]),
        ("ignore_class", [None, "255", 256]),
        ("is_finished", ["yes", 1]),
        ("earlier_epochs", [None, [2], [{"epochs": 2}]]),
        ("versions", [None]),
        ("options", [[1], "x", None, {"model": "segnet"}]),
        ("options.dataset", [5, None]),
        ("options.images", [5, "photos"]),
        ("options.data_dir", [5]),
        ("options.val_masks", [[]]),
        ("options.train_split", [None, 5]),
        ("options.epochs", ["2", 0]),
    ],
)
def test_a_run_file_that_was_edited_is_refused(
    field, values, run_folder, tmp_path, capsys
):
    content = json.loads((run_folder / "run.json").read_text())
    *outer, name = field.split(".")
    part = content[outer[0]] if outer else content
    for value in values:
        part[name] = value
        (tmp_path / "run.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="not a valid run"):
            runs.read(tmp_path)
    assert main(["train", "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert name in error


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("masks", None), ("val_images", "photos"), ("classes", "a")],
        *[("classes", 1), ("classes", [1]), ("labels", {"a": "b"})],
        *[("labels", []), ("void_labels", [256]), ("mask_suffix", None)],
        *[("palette", [[0, 0]]), ("void_colors", ["fff"])],
        *[("unmatched", None), ("splits", {}), ("splits", {"train": 1})],
        *[("files", {}), ("files", {"train": [7]}), ("files", None)],
        *[("value_range", [1.0, 0.0]), ("value_range", [1, 2, 3])],
        *[("value_range", [0.0, math.inf]), ("value_range", [math.nan, 1.0])],
        *[("classes", 256), ("class_names", [f"c{i}" for i in range(256)])],
    ],
)
def test_a_run_of_folders_that_was_edited_is_refused(name, value):
    options = dict.fromkeys(
        ["dataset", "data_dir", "manual_dir", "val_images", "val_masks"]
    )
    options |= {"images": "photos", "masks": "labels", "classes": 2}
    options |= {"labels": {"0": "a"}, "void_labels": [255], "mask_suffix": ""}
    options |= {"unmatched": "error", "train_split": "train"}
    options |= {"palette": None, "void_colors": []}
    fields = dict(class_names=["a", "b"], palette=[[0, 0, 0], [1, 1, 1]])
    fields |= dict(image_size=None, options=options)
    fields |= dict(splits={"train": "train"}, files={"train": ["7"]})
    run = runs.Run(**fields)
    assert run.data.labels == {0: "a"}
    if name in options:
        value = {**options, name: value}
        name, option = "options", name
    else:
        option = name
    with pytest.raises(ValueError, match=option):
        runs.Run(**{**fields, name: value})


def save_with_unknown_layer(path):
    class Unknown(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    keras.Sequential([keras.Input((4, 4, 3)), Unknown()]).save(path)


def test_debug_and_faults_of_ours_show_where(monkeypatch):
    with pytest.raises(ValueError, match="none' does not exist"):
        main(["evaluate", "none", "--debug"])
    monkeypatch.setattr(runs, "load", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", "none"])


def test_train_writes_everything(run_folder):
    assert [row["epoch"] for row in read_history(run_folder)] == list("01")
    found = {path.name for path in run_folder.iterdir()}
    assert found == {
        *["model.keras", "history.csv", "per_class.csv", "previews"],
        *["run.json", ".resume"],
    }
    assert len(list((run_folder / "previews").iterdir())) == 2
    record = json.loads((run_folder / "run.json").read_text())
    assert record["is_finished"]
    assert record["class_names"] == list(data.describe("scenes").class_names)
    assert record["image_size"] == list(SIZE)
    assert record["options"]["model"] == "bayesian_segnet_basic"
    with (run_folder / "per_class.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["class"] for row in rows] == 2 * record["class_names"]
    assert [row["epoch"] for row in rows[::6]] == list("01")


def test_bars_are_for_terminals(run_folder):
    log = run_folder.with_name("log.txt").read_text()
    assert not set(log) & set("\x1b\b\r")
    assert len([line for line in log.splitlines() if "mean_iou:" in line]) == 2


def test_a_finished_run_is_left_alone(run_folder, train_options, capsys):
    before = (run_folder / "model.keras").read_bytes()
    arguments = ["train", *train_options, "--output", str(run_folder)]
    assert main(arguments) == 0
    assert "is finished" in capsys.readouterr().out
    # A run may be resumed with another cache.
    assert main([*arguments, "--cache", "disk"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main([*arguments, "--loss", "dice", "--epochs", "1"]) == 1
    error = capsys.readouterr().err
    assert "--loss was crossentropy and is dice" in error
    assert "--epochs was 2 and is 1 (it can only be raised)" in error
    assert f"delete {run_folder}" in error
    assert (run_folder / "model.keras").read_bytes() == before


def test_a_run_from_before_there_were_strategies(
    run_folder, train_options, tmp_path, capsys
):
    content = json.loads((run_folder / "run.json").read_text())
    assert content["options"].pop("strategy") == "one"
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert main(["train", *train_options, "--output", str(tmp_path)]) == 0
    assert "is finished" in capsys.readouterr().out


def train_with_api(name, train_split, val_split, epochs, file, **where):
    """Train with the library in the same way as the command."""
    keras.utils.set_random_seed(SEED)
    num_classes = data.describe(name).num_classes
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    options = dict(image_size=SIZE, batch_size=4, **where)
    train_set = data.load(
        name,
        train_split,
        augment=data.augmentation(scale=(1.0, 1.5), brightness=0.1),
        seed=SEED,
        epoch=epoch,
        **options,
    )
    model = models.BayesianSegNetBasic((*SIZE, 3), num_classes)
    decay = keras.optimizers.schedules.CosineDecay(
        2e-3, epochs * len(train_set)
    )
    model.compile(
        keras.optimizers.Adam(decay),
        losses.SegmentationCrossentropy(),
        metrics=[metrics.MeanIoU(num_classes)],
    )
    history = model.fit(
        train_set,
        validation_data=data.load(name, val_split, **options),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            callbacks.EpochSeed(SEED, epoch),
            keras.callbacks.ModelCheckpoint(
                file, "val_mean_iou", mode="max", save_best_only=True
            ),
        ],
    )
    return keras.saving.load_model(file), history.history


def assert_same_weights(first, second):
    # The weights were identical on all CPUs where this was tested.
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(
            one.numpy(), other.numpy(), rtol=0, atol=1e-6
        )


def assert_same_scores(folder, history):
    for name in ("loss", "val_loss", "val_mean_iou"):
        written = [float(row[name]) for row in read_history(folder)]
        np.testing.assert_allclose(written, history[name], rtol=1e-6)


@pytest.mark.numeric
@pytest.mark.release
@pytest.mark.slow
def test_the_library_gives_the_same(run_folder, scenes_dir, tmp_path):
    splits = "train[:16]", "validation[:8]"
    model, history = train_with_api(
        "scenes", *splits, 2, tmp_path / "best.keras", data_dir=scenes_dir
    )
    assert_same_scores(run_folder, history)
    assert_same_weights(runs.load(str(run_folder))[0], model)


@pytest.mark.numeric
@pytest.mark.release
@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.exists(), reason="no CamVid here")
def test_the_library_gives_the_same_on_camvid(tmp_path):
    where = {"data_dir": tmp_path / "tfds", "manual_dir": CAMVID}
    splits = "train[:16]", "validation[:8]"
    arguments = [
        *["train", "cam_vid", "--output", str(tmp_path / "run")],
        *["--data-dir", str(where["data_dir"])],
        *["--manual-dir", str(where["manual_dir"]), "--image-size", "16x24"],
        *["--train-split", splits[0], "--val-split", splits[1], "--augment"],
        *["--model", "bayesian_segnet_basic", "--epochs", "2"],
        *["--batch-size", "4", "--seed", str(SEED)],
    ]
    assert main(arguments) == 0
    model, history = train_with_api(
        "cam_vid", *splits, 2, tmp_path / "best.keras", **where
    )
    assert_same_scores(tmp_path / "run", history)
    assert_same_weights(runs.load(str(tmp_path / "run"))[0], model)


class Killed(BaseException):
    """Error that ends a training immediately, like killing its process.

    tests/cli/test_kills.py kills processes.
    """


@pytest.mark.numeric
@pytest.mark.release
@pytest.mark.slow
def test_a_killed_training_goes_on(
    run_folder, train_options, tmp_path, monkeypatch, capsys
):
    arguments = ["train", *train_options, "--output", str(tmp_path / "run")]
    backups = tmp_path / "run" / ".resume"

    def kill(self, batch, logs=None):
        if batch == 2 and (backups / "backup-1.weights.h5").exists():
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochSeed, "on_train_batch_begin", kill)
        with pytest.raises(Killed):
            main(arguments)
    assert [row["epoch"] for row in read_history(tmp_path / "run")] == ["0"]

    capsys.readouterr()
    assert main(arguments) == 0
    assert "Resuming at epoch 2 of 2." in capsys.readouterr().out
    rows = read_history(tmp_path / "run")
    assert [row["epoch"] for row in rows] == list("01")
    for row, other in zip(rows, read_history(run_folder), strict=True):
        np.testing.assert_allclose(
            float(row["loss"]), float(other["loss"]), rtol=1e-6
        )
    assert_same_weights(
        runs.load(str(tmp_path / "run"))[0], runs.load(str(run_folder))[0]
    )
    by_class = (tmp_path / "run" / "per_class.csv").read_text()
    assert by_class.count("pavement") == 2
    assert [file.name for file in backups.iterdir()] == ["backup-2.weights.h5"]


def history_of(folder, model):
    return history.History(folder, model, 2, distribution.Replicas())


def killed_while_writing(folder):
    """Write the files of a process that is killed while it writes a backup."""
    with _files.replaced(folder / "backup-4.weights.h5") as part:
        part.write_bytes(b"half")
        temporary = part.parent.parent
        left = temporary.with_name(".keras_deconv.killed__")
        shutil.copytree(temporary, left)
    (folder / part.name).unlink()
    assert (left / part.parent.name / part.name).exists()


def test_an_epoch_that_was_not_backed_up_is_repeated(tmp_path):
    model = models.SegNetBasic((*SIZE, 3), 6)
    model.compile("adam", losses.SegmentationCrossentropy())
    kept = history_of(tmp_path, model)
    kept.set_model(model)
    for epoch, score in enumerate([0.2, 0.5, 0.4]):
        kept.on_epoch_end(epoch, {"loss": 1.0, "val_mean_iou": score})
    assert not kept.is_stuck
    (tmp_path / ".resume" / "backup-3.weights.h5").rename(
        tmp_path / ".resume" / "backup-2.weights.h5"
    )
    killed_while_writing(tmp_path / ".resume")
    kept = history_of(tmp_path, model)
    kept.set_model(model)
    assert kept.num_done == 2
    # The best score and the number of epochs without a better one are restored.
    written = (tmp_path / "model.keras").stat().st_mtime_ns
    kept.on_epoch_end(2, {"loss": 1.0, "val_mean_iou": 0.45})
    assert not kept.is_stuck
    kept.on_epoch_end(3, {"loss": 1.0, "val_mean_iou": 0.5})
    assert kept.is_stuck
    assert model.stop_training
    assert (tmp_path / "model.keras").stat().st_mtime_ns == written
    assert [row["epoch"] for row in read_history(tmp_path)] == list("0123")
    # If the process is killed now, the training is complete.
    kept = history_of(tmp_path, model)
    assert kept.is_stuck
    # If --epochs is raised, only epochs after the last one count.
    kept.start = kept.num_done
    assert not kept.is_stuck
    kept.rows.append(kept.rows[-1])
    assert not kept.is_stuck
    kept.rows.append(kept.rows[-1])
    assert kept.is_stuck


@pytest.mark.parametrize(
    "name",
    [
        *["model.keras", "history.csv", "per_class.csv", "previews"],
        *["tensorboard", ".resume"],
    ],
)
def test_files_of_others_are_not_replaced(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    assert main(["train", "--output", str(tmp_path)]) == 1
    assert f"contains {name} but not run.json" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_files_of_others_are_not_deleted(
    tiny_models, quick_options, tmp_path, monkeypatch
):
    mine = [
        tmp_path / name for name in ("probe", "backup/x", ".resume/notes.txt")
    ]
    close = training._close

    def write_and_close(*arguments):
        mine[2].write_text("mine")
        killed_while_writing(tmp_path / ".resume")
        close(*arguments)

    monkeypatch.setattr(training, "_close", write_and_close)
    for file in mine[:2]:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    assert main(["train", *quick_options, "--output", str(tmp_path)]) == 0
    assert all(file.read_text() == "mine" for file in mine)
    left = {file.name for file in mine[2].parent.iterdir()}
    assert left == {"notes.txt", "backup-1.weights.h5"}


@pytest.mark.slow
def test_a_training_is_finished_before_it_is_measured(
    tiny_models, quick_options, tmp_path, capsys, monkeypatch
):
    sizes = []

    def fail(model, dataset, run, verbose):
        sizes.extend(len(images) for images, _ in dataset)
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(training.evaluation, "measure", fail)
    arguments = ["train", *quick_options, "--output", str(tmp_path)]
    assert main(arguments) == 1
    assert "no memory" in capsys.readouterr().err
    assert sizes == 8 * [1]
    assert main(arguments) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_interrupt_keeps_what_was_learned(
    tiny_models, quick_options, tmp_path, capsys, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    arguments = ["train", *quick_options, "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochSeed, "on_train_batch_end", interrupt)
        assert main(arguments) == 130
    assert "The model is in" in capsys.readouterr().out
    assert runs.load(str(tmp_path))[1].num_classes == 6
    # Interrupt again when only the final scores are missing.
    with monkeypatch.context() as patch:
        patch.setattr(training, "_close", interrupt)
        assert main(arguments) == 130
    assert main(arguments) == 0
    assert "Resuming at epoch 2" not in capsys.readouterr().out
    assert len(read_history(tmp_path)) == 1


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_not_kept(
    tiny_models, quick_options, tmp_path, capsys
):
    assert (
        main(
            [
                *["train", *quick_options, "--learning-rate", "1e38"],
                *["--output", str(tmp_path)],
            ]
        )
        == 1
    )
    assert "smaller --learning-rate" in capsys.readouterr().err
    assert not (tmp_path / ".resume").exists()


@pytest.mark.parametrize(
    ("package", "options"),
    [("matplotlib", []), ("tensorboard", ["--tensorboard"])],
)
def test_missing_packages_are_named(package, options, monkeypatch, capsys):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: {package: None}.get(name, 1)
    )
    assert main(["train", *options]) == 1
    assert f"pip install {package}" in capsys.readouterr().err


@pytest.mark.release
@pytest.mark.slow
def test_every_option_of_training(tiny_models, scenes_dir, tmp_path, capsys):
    common = ["train", "--smoke", "--data-dir", str(scenes_dir)]
    common += ["--image-size", "16x24", "--preview-every", "0"]
    for number, options in enumerate(
        [
            "--loss dice --mixed-precision bfloat16 --val-split none",
            "--loss focal --class-weights median --train-split train[:8] "
            "--crop 8x12",
            "--class-weights enet --train-split train[:8] --early-stopping 1 "
            "--model enet --decoder bed_of_nails",
        ]
    ):
        output = tmp_path / str(number)
        arguments = [*common, *options.split(), "--output", str(output)]
        assert main(arguments) == 0, options
        assert len(read_history(output)) == 1
    assert "Class weights: sky" in capsys.readouterr().out
    assert keras.config.dtype_policy().name == "float32"


def is_part(part, whole):
    """Return whether an image is a crop of `whole`."""
    height, width, _ = part.shape
    windows = np.lib.stride_tricks.sliding_window_view(
        whole, (height, width), axis=(0, 1)
    )
    part = np.moveaxis(part, -1, 0)
    return np.isclose(windows, part).all(axis=(2, 3, 4)).any()


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--augment"], marks=pytest.mark.slow)]
)
def test_training_on_crops(
    more, tiny_models, scenes_dir, tmp_path, monkeypatch, capsys
):
    seen = []

    def fit(model, history, train_set, validation, *rest):
        seen.extend(iter(train_set.take(1)))
        seen.append(validation.element_spec[0].shape[1:])

    # The training completes without any steps.
    monkeypatch.setattr(training, "_fit", fit)
    monkeypatch.setattr(training, "_close", lambda *rest: None)
    output = tmp_path / "run"
    arguments = [
        *["train", "--smoke", "--data-dir", str(scenes_dir), *more],
        *["--image-size", "16x24", "--output", str(output)],
    ]
    assert main([*arguments, "--crop", "8x12"]) == 0
    assert "on random crops of 8x12" in capsys.readouterr().out
    [(image, _), validation_shape] = seen
    assert image.shape == (8, 8, 12, 3)
    assert validation_shape == (16, 24, 3)
    whole = data.load(
        *["scenes", "train"],
        image_size=SIZE,
        batch_size=8,
        shuffle=False,
        data_dir=scenes_dir,
    )
    [(whole, _)] = whole.take(1)
    # Without --augment, images are only cropped.
    assert more or all(map(is_part, image, whole))
    assert runs.read(output).options["crop"] == [8, 12]
    assert main([*arguments, "--crop", "8x8"]) == 1
    assert "--crop was [8, 12] and is [8, 8]" in capsys.readouterr().err


def test_crops_need_a_network_for_any_size():
    with pytest.raises(ValueError, match=r"^--crop needs .* images of 16x24"):
        training._check_crop(tiny_model((*SIZE, 3), 2), (8, 12))


@pytest.mark.slow
def test_a_network_that_learned_crops_takes_whole_images(
    scenes_dir, tmp_path, capsys
):
    arguments = [
        *["train", "--smoke", "--data-dir", str(scenes_dir)],
        *["--image-size", "16x24", "--crop", "8x12", "--preview-every", "1"],
    ]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    assert "Validation scores" in capsys.readouterr().out
    model, run = runs.load(str(tmp_path / "run"))
    assert model.input_shape == (None, None, None, 3)
    assert run.image_size == [16, 24]


@pytest.mark.slow
def test_a_training_starts_from_weights(scenes_dir, rng, tmp_path):
    params = caffe_files.basic_params(rng, networks.SLIM_BASIC, num_classes=6)
    path = caffe_files.write(tmp_path / "basic.caffemodel", params)
    arguments = [
        *["train", "--smoke", "--data-dir", str(scenes_dir)],
        *["--image-size", "16x24", "--preview-every", "0"],
        *["--learning-rate", "1e-12", "--weights", str(path)],
    ]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    model = keras.saving.load_model(
        tmp_path / "run" / "model.keras", compile=False
    )
    for ours, theirs in (("block2_conv1", "conv2"), ("logits", "conv_class")):
        [theirs] = [name for name in params if name.startswith(theirs)][:1]
        expected = params[theirs][0].transpose(2, 3, 1, 0)
        np.testing.assert_allclose(
            model.get_layer(ours).kernel, expected, atol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "layer"),
    [
        ("segnet --extra-classifier", "decoder1_conv2"),
        ("quicknat --squeeze-excitation", "block1_excite1"),
        ("enet --decoder-activation prelu", "bottleneck5_0_prelu"),
    ],
)
def test_networks_of_trained_files(arguments, layer):
    built = [
        training._build_published(parser.parse(given)[0], (64, 96, 1), 3)
        for given in (
            ["train", "--model", *arguments.split()],
            ["train", "--model", arguments.split()[0]],
        )
    ]
    names = [{layer.name for layer in model.layers} for model in built]
    assert layer in names[0] - names[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", ["relaynet", pytest.param("quicknat", marks=pytest.mark.release)]
)
def test_networks_with_skips(word, scenes_dir, tmp_path):
    arguments = [
        *["train", "--smoke", "--data-dir", str(scenes_dir), "--model", word],
        *["--image-size", "16x24", "--preview-every", "0"],
    ]
    output = tmp_path / "run"
    assert main([*arguments, "--output", str(output)]) == 0
    model, run = runs.load(str(output))
    assert model.name == word
    assert model.output_shape == (None, 16, 24, 6)
    assert run.is_finished


@pytest.mark.slow
@pytest.mark.release
def test_encoder_of_keras_applications(scenes_dir, tmp_path):
    arguments = [
        *["train", "--smoke", "--data-dir", str(scenes_dir)],
        *["--image-size", "32x48", "--preview-every", "0"],
        *["--encoder", "mobilenetv2", "--skips", "add"],
    ]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    model = keras.saving.load_model(
        tmp_path / "run" / "model.keras", compile=False
    )
    names = [layer.name for layer in model.layers]
    assert model.name == "mobilenetv2_encoder_decoder"
    assert {"preprocessing", "decoder5_unpool", "decoder5_skip_add"} < {*names}


@pytest.mark.numeric
def test_evaluate_measures_as_the_library(
    run_folder, scenes_dir, tmp_path, capsys
):
    written = tmp_path / "scores.json"
    assert (
        main(
            [
                *["evaluate", str(run_folder), "--split", "test[:8]"],
                *["--json", str(written)],
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    for words in ("global accuracy", "boundary F1", "pavement"):
        assert words in printed
    scores = json.loads(written.read_text())
    test_set = data.load(
        *["scenes", "test[:8]"],
        image_size=SIZE,
        batch_size=8,
        data_dir=scenes_dir,
    )
    model = keras.saving.load_model(run_folder / "model.keras", compile=False)
    [(images, masks)] = test_set
    logits = model.predict(images, verbose=0)
    for metric in (
        metrics.GlobalAccuracy(6),
        metrics.ClassAccuracy(6),
        metrics.MeanIoU(6),
        metrics.BoundaryF1(6),
    ):
        metric.update_state(masks, logits)
        np.testing.assert_allclose(
            scores[metric.name], float(metric.result()), atol=1e-6
        )
    iou = metrics.MeanIoU(6)
    iou.update_state(masks, logits)
    np.testing.assert_allclose(
        [values["iou"] for values in scores["classes"].values()],
        np.asarray(iou.per_class()),
        atol=1e-6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("scenes --split validation[:8]", True),
        ("--split validation[8:16]", False),
        ("--images {0}/images --masks {0}/masks --classes 6", False),
    ],
)
def test_evaluate_says_whether_the_split_chose_the_model(
    arguments, expected, run_folder, scenes_dir, tmp_path, capsys
):
    write_scenes(tmp_path)
    written = tmp_path / "scores.json"
    arguments = arguments.format(tmp_path).split()
    arguments += ["--data-dir", str(scenes_dir), "--json", str(written)]
    assert main(["evaluate", str(run_folder), *arguments]) == 0
    assert ("was selected on this split" in capsys.readouterr().out) == expected
    assert json.loads(written.read_text())["split_chose_model"] == expected


def test_evaluate_refuses_classes_in_another_order(
    run_folder, tmp_path, capsys
):
    folders = write_scenes(tmp_path)
    names = data.describe("scenes").class_names
    classes = ",".join((*names[1:], names[0]))
    arguments = ["evaluate", str(run_folder), *folders, "--classes", classes]
    assert main(arguments) == 1
    assert "order of classes as the model: sky, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        pytest.param(
            "sky,building,raod,pavement,tree,car",
            "Class 2 is 'road' in the model and 'raod' here.",
            marks=pytest.mark.slow,
        ),
        (
            "a,b,c,d,e,f",
            "class 4 is 'tree' in the model and 'e' here; 1 more differ.",
        ),
        ("6", None),
        pytest.param(
            "sky,building,road,pavement,tree,car", None, marks=pytest.mark.slow
        ),
    ],
)
def test_evaluate_notes_other_names(
    classes, note, run_folder, tmp_path, capsys
):
    folders = write_scenes(tmp_path)
    arguments = ["evaluate", str(run_folder), *folders, "--classes", classes]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert note in printed if note else "in the model and" not in printed
    # Progress shows the scores, but not the loss, which is always 0.
    assert "mean_iou: " in printed
    assert "loss" not in printed


@pytest.mark.parametrize(
    "verbose", [pytest.param(1, marks=pytest.mark.slow), 2]
)
def test_the_progress_of_evaluate_shows_no_loss(
    verbose, run_folder, scenes_dir, capsys
):
    model, run = runs.load(str(run_folder))
    dataset = data.load(
        "scenes", "test[:4]", image_size=SIZE, batch_size=2, data_dir=scenes_dir
    )
    evaluation.measure(model, dataset, run, verbose)
    printed = capsys.readouterr().out
    assert "mean_iou: " in printed
    assert "loss" not in printed


@pytest.mark.slow
def test_evaluate_a_model_from_elsewhere(model_file, scenes_dir, capsys):
    arguments = ["evaluate", str(model_file), "scenes", "--split", "test[:4]"]
    assert main([*arguments, "--data-dir", str(scenes_dir)]) == 0
    assert "pavement" in capsys.readouterr().out


def test_predict_writes_masks_of_the_size_of_the_picture(
    run_folder, tmp_path, capsys
):
    for place in ("a/street.png", "b/street.png", "b/deep/one.png"):
        path = tmp_path / "in" / place
        tiny_datasets.write_png(path, data.draw_scene(0)[0])
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    output = tmp_path / "out"
    assert (
        main(
            [
                *["predict", str(run_folder), str(tmp_path / "in")],
                *[str(tmp_path / "in" / "b" / "*.png")],
                *[str(tmp_path / "missing.png"), "--output", str(output)],
            ]
        )
        == 1
    )
    printed = capsys.readouterr()
    assert "Wrote 3 labeled images" in printed.out
    assert "\x1b" not in printed.out
    assert (
        "broken.jpg cannot be labeled: The file cannot be read." in printed.err
    )
    assert (
        "missing.png cannot be labeled: The file cannot be read: No such"
        in printed.err
    )
    assert sorted(path.name for path in output.iterdir()) == sorted(
        f"{name}_{kind}.png"
        for name in ("in_a_street", "in_b_street", "one")
        for kind in ("mask", "color", "overlay")
    )
    image = data.draw_scene(0)[0]
    mask = tf.io.decode_png((output / "one_mask.png").read_bytes())
    assert mask.shape == (*image.shape[:2], 1)
    # Compute the same mask with Keras and TensorFlow.
    model = keras.saving.load_model(run_folder / "model.keras", compile=False)
    small = tf.image.resize(image[None], SIZE, antialias=True)
    logits = model.predict(np.round(small), verbose=0)
    probabilities = tf.image.resize(tf.nn.softmax(logits), image.shape[:2])
    expected = np.argmax(probabilities[0], axis=-1)
    assert (mask.numpy()[..., 0] == expected).mean() > 0.999
    color = tf.io.decode_png((output / "one_color.png").read_bytes())
    palette = np.array(data.describe("scenes").palette)
    np.testing.assert_array_equal(color, palette[mask.numpy()[..., 0]])


@pytest.mark.parametrize("bias", [0.0, np.nan])
def test_predict_goes_on_after_a_failure(bias, tmp_path, capsys):
    model = tiny_model((*SIZE, 3), 6)
    model.layers[-2].bias.assign(6 * [bias])
    model.save(tmp_path / "model.keras")
    files = [tmp_path / "in" / f"{stem}.png" for stem in (246 * "a", "z")]
    for file in files:
        tiny_datasets.write_png(file, data.draw_scene(0)[0])
    arguments = ["predict", str(tmp_path / "model.keras")]
    arguments += [str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    errors = capsys.readouterr().err.splitlines()
    if np.isnan(bias):
        for file, error in zip(files, errors[-2:], strict=True):
            assert f"{file} cannot be labeled" in error
            assert "scores are not finite" in error
        assert list((tmp_path / "out").iterdir()) == []
    else:
        assert f"{files[0]} cannot be labeled: " in errors[-1]
        assert "File name too long" in errors[-1]
        assert (tmp_path / "out" / "z_overlay.png").exists()


def test_predict_at_the_size_of_the_picture(tmp_path):
    models.SegNetBasic((None, None, 3), 6).save(tmp_path / "free.keras")
    tiny_datasets.write_png(tmp_path / "street.png", data.draw_scene(0)[0])
    arguments = ["predict", str(tmp_path / "free.keras")]
    arguments += [str(tmp_path / "street.png"), "--output", str(tmp_path / "o")]
    assert main(arguments) == 0
    mask = tf.io.decode_png((tmp_path / "o" / "street_mask.png").read_bytes())
    assert mask.shape == (96, 128, 1)


def test_predict_gives_what_the_library_gives(tmp_path, capsys):
    tiny_model((*SIZE, 3), 3).save(tmp_path / "model.keras")
    folder = tmp_path / "in"
    image = data.draw_scene(0)[0]
    tiny_datasets.write_png(folder / "color.png", image)
    tiny_datasets.write_png(folder / "gray.png", image[:50, :, :1])
    (folder / "gray.jpg").write_bytes(tf.io.encode_jpeg(image).numpy())
    names = ["color", "gray", "gray_2"]
    for number, (words, options) in enumerate(
        (
            ("", {}),
            ("--at original --flip", {"image_size": "original", "flip": True}),
            ("--tile 32x40 --overlap 9", {"tile": (32, 40), "overlap": 9}),
        )
    ):
        output = tmp_path / str(number)
        arguments = ["predict", str(tmp_path / "model.keras"), str(folder)]
        assert main([*arguments, "--output", str(output), *words.split()]) == 0
        found = inference.predict(tmp_path / "model.keras", folder, **options)
        for name, (_, _, mask) in zip(names, found, strict=True):
            written = (output / f"{name}_mask.png").read_bytes()
            pixels = tf.io.decode_png(written)[..., 0]
            np.testing.assert_array_equal(pixels, mask)
    printed = capsys.readouterr().out
    assert f"get a number: {folder}/gray.png as gray_2\n" in printed
    assert "NAME_mask.png are class ids" in printed


@pytest.mark.slow
def test_predict_says_how_sure_it_is(run_folder, tmp_path):
    tiny_datasets.write_png(tmp_path / "street.png", data.draw_scene(0)[0])
    arguments = ["predict", str(run_folder), str(tmp_path / "street.png")]
    arguments += ["--monte-carlo", "2", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    figure = tmp_path / "out" / "street_uncertainty.png"
    assert figure.stat().st_size > 5000
    assert (tmp_path / "out" / "street_mask.png").exists()


def test_sizes_that_cannot_be_sampled_are_said(tmp_path, capsys):
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.UpSampling2D()(keras.layers.MaxPooling2D()(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.Concatenate()([x, inputs]))
    keras.Model(inputs, x).save(tmp_path / "model.keras")
    image = data.draw_scene(0, image_size=(33, 49))[0]
    tiny_datasets.write_png(tmp_path / "odd.png", image)
    arguments = ["predict", str(tmp_path / "model.keras")]
    arguments += [str(tmp_path / "odd.png"), "--output", str(tmp_path / "o")]
    arguments += ["--monte-carlo", "2", "--at", "original"]
    assert main(arguments) == 1
    assert "of the stride of the model (2). Received: an image of 33x49" in (
        capsys.readouterr().err
    )


def test_pictures_are_found_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        *("in/a.png", "in/deep/b.JPG", "in/.c.png", "in/.deep/d.png"),
        *("in/notes.txt", ".hidden/e.png", "in/folder.png/f.png"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for arguments, expected in (
        (["in"], ["in/a.png", "in/deep/b.JPG", "in/folder.png/f.png"]),
        (["in/*.png"], ["in/a.png"]),
        ([".hidden"], [".hidden/e.png"]),
        (["in/a.png", "in/deep/../*.png"], ["in/a.png"]),
        (["in/a.png", f"{tmp_path}/in/a.png"], ["in/a.png"]),
        (["in/missing.png"], ["in/missing.png"]),
    ):
        found = prediction._find(arguments)
        assert [str(file) for file in found] == expected


def test_output_names_are_distinct_and_stay_inside():
    files = ["x/a.png", "x/a.jpg", "y/a.png", "b.png", "../up.png", "x/...png"]
    files = [pathlib.Path("/pictures/here", file) for file in files]
    names = prediction._output_names(files)
    assert len(set(names)) == len(files)
    assert not any("/" in name for name in names)
    assert names[3] == "b"
    assert names[0].endswith("x_a")
    assert names[1] == f"{names[0]}_2"


@pytest.mark.slow
def test_export_serves_what_predict_says(run_folder, tmp_path):
    output = tmp_path / "saved"
    assert main(["export", str(run_folder), "--output", str(output)]) == 0
    image = data.draw_scene(0, (30, 50))[0]
    tiny_datasets.write_png(tmp_path / "scene.png", image)
    arguments = [str(run_folder), str(tmp_path / "scene.png")]
    assert main(["predict", *arguments, "--output", str(tmp_path / "o")]) == 0
    content = (tmp_path / "o" / "scene_mask.png").read_bytes()
    mask = tf.io.decode_png(content).numpy()[..., 0]
    loaded = tf.saved_model.load(output)
    served = loaded.signatures["serving_default"](images=image[None])
    assert (served["class_ids"].numpy()[0] == mask).mean() > 0.999
    assert "monte_carlo" in loaded.signatures
    names = (output / "assets" / "class_names.txt").read_text().split()
    assert names == runs.read(run_folder).class_names


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantize",
    [
        pytest.param(None, marks=pytest.mark.release),
        pytest.param("dynamic", marks=pytest.mark.release),
        "int8",
    ],
)
def test_export_gives_a_tflite_file(quantize, run_folder, tmp_path):
    output = tmp_path / "model.tflite"
    arguments = ["export", str(run_folder), "--output", str(output)]
    arguments += ["--format", "tflite"]
    arguments += ["--quantize", quantize] if quantize else []
    arguments += ["--io-dtype", "uint8"] if quantize == "int8" else []
    assert main(arguments) == 0
    litert = formats.missing_is_skipped("ai_edge_litert.interpreter", "litert")
    [images] = litert.Interpreter(str(output)).get_input_details()
    assert images["dtype"] == (np.uint8 if quantize == "int8" else np.float32)
    bytes_per_weight = output.stat().st_size / num_weights(run_folder)
    assert bytes_per_weight < 3 if quantize else bytes_per_weight > 4


@pytest.mark.slow
@pytest.mark.export
def test_export_gives_an_onnx_file(run_folder, tmp_path):
    pytest.importorskip("tf2onnx", reason='pip install "keras-deconv[onnx]"')
    output = tmp_path / "model.onnx"
    arguments = ["export", str(run_folder), "--output", str(output)]
    assert main([*arguments, "--format", "onnx"]) == 0
    assert output.stat().st_size / num_weights(run_folder) > 4
    described = json.loads((tmp_path / "model.onnx.json").read_text())
    run = runs.read(run_folder)
    for name in ("class_names", "palette", "image_size", "value_range"):
        assert described[name] == getattr(run, name)


def num_weights(folder):
    return runs.load(str(folder))[0].count_params()


@pytest.mark.slow
def test_errors_while_reading_are_one_plain_line(model_file, tmp_path, capsys):
    folders = write_scenes(tmp_path)
    mask = np.full((48, 64, 1), 77, "uint8")
    tiny_datasets.write_png(tmp_path / "masks" / "1.png", mask)
    image = np.zeros((48, 64, 3), "uint8")
    tiny_datasets.write_png(tmp_path / "images" / "1.png", image)
    arguments = ["evaluate", str(model_file), *folders, "--classes", "6"]
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    # The message appears once, without the text that TensorFlow adds.
    assert error == (
        f"error: {folders[3]}/1.png: The mask contains label 77, neither class "
        "nor void: use --void-labels 77, or --labels to say which class each "
        "value is."
    )


def test_check_reports(tmp_path, scenes_dir, capsys):
    folders = write_scenes(tmp_path)
    assert main(["check", *folders, "--classes", "6"]) == 0
    printed = capsys.readouterr().out
    assert "ok: 3 examples, 6 classes" in printed
    assert "Class 5 (class_5)" in printed
    assert main(["check", *folders, "--classes", "5"]) == 1
    printed = capsys.readouterr().out
    assert "NOT OK" in printed
    assert "label 5, neither class nor void: use --classes 6" in printed
    arguments = [*folders, "--classes", "5", "--void-labels", "5,255"]
    assert main(["check", *arguments]) == 0
    capsys.readouterr()
    # Classes get the labels that are not void: 1 to 5.
    arguments = [*folders, "--classes", "5", "--void-labels", "0,255"]
    assert main(["check", *arguments]) == 0
    assert "ok: 3 examples, 5 classes" in capsys.readouterr().out
    arguments = ["check", "--split", "test[:3]", "--data-dir", str(scenes_dir)]
    assert main(arguments) == 0
    # The class boat does not occur.
    arguments = ["check", *folders, "--classes", "a,b,c,d,e,f,boat"]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "never occur: 6 (boat)" in printed
    assert "--allow-missing-classes" in printed
    assert main([*arguments, "--allow-missing-classes"]) == 0


def test_info_of_a_data_set_beside_a_folder_of_its_name(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    folders = write_scenes(tmp_path)
    (tmp_path / "scenes").mkdir()
    assert main(["info", "scenes"]) == 0
    assert "scenes: 6 classes" in capsys.readouterr().out
    (tmp_path / "scenes" / "run.json").touch()
    assert main(["info", "scenes"]) == 1
    assert "MODEL must be" in capsys.readouterr().err
    data.to_tfds(
        "my_streets",
        {"train": (folders[1], folders[3])},
        classes=list("abcdef"),
        data_dir=tmp_path / "sets",
    )
    assert main(["info", "my_streets", "--data-dir", "sets"]) == 0
    assert "my_streets: 6 classes" in capsys.readouterr().out


def test_info_tells_what_there_is(run_folder, model_file, capsys):
    for arguments, words in (
        (
            [],
            [
                *["tensorflow", "CPU", "cam_vid", "segnet_basic"],
                *["Encoders: vgg16", "relaynet, quicknat\n"],
                "Weights in .caffemodel: segnet_basic, segnet, ",
            ],
        ),
        (["cam_vid"], ["11 classes", "#804080  road", "validation"]),
        ([str(run_folder)], ["parameters", "16 x 24", "scenes (finished)"]),
        ([str(model_file)], ["class_5", "16 x 24"]),
    ):
        assert main(["info", *arguments]) == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in words), printed


def test_masks_of_a_dataset_whose_length_is_not_known():
    images, masks = np.zeros((3, 2, 2, 1), "float32"), np.ones((3, 2, 2), int)
    dataset = tf.data.Dataset.from_tensor_slices((images, masks))
    dataset = dataset.filter(lambda *_: True).batch(2)
    labeled = evaluation._labeled(
        dataset, lambda image: image[..., 0] + 1, "uint8"
    )
    found = np.concatenate([ids for ids, _ in labeled.as_numpy_iterator()])
    np.testing.assert_array_equal(found, masks)
