"""Tests that kill commands 20 times and look for lost or incomplete files."""

import filecmp
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import _files, data, models
from keras_deconv_cli import main, runs
from tests import formats, networks, tiny_datasets
from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.release]
NUM_KILLS = 20
SIZE = (48, 64)


def run_and_kill(reference, arguments, finished=None):
    """Kill a command; return the number of runs that ended before the kill."""
    instructions = dict(
        reference=reference,
        arguments=arguments,
        finished=finished,
        num_kills=NUM_KILLS,
        seed=0,
    )
    completed = subprocess.run(
        [sys.executable, "-m", "tests.kills", json.dumps(instructions)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(completed.stdout)


def tree(folder):
    """Return the files in a folder and its subfolders by name."""
    return {
        str(path.relative_to(folder)): path
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }


def is_temporary(name):
    return name.startswith(".keras_deconv.") or name.endswith(".lock")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        networks.make_slim(patch)
        model = models.SegNetBasic((*SIZE, 3), 6)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


def test_train(scenes_dir, tmp_path, tiny_models):
    folders = [tmp_path / "whole", tmp_path / "killed"]
    reference, arguments = (
        [
            *["train", "scenes", "--data-dir", str(scenes_dir)],
            *["--train-split", "train[:8]", "--val-split", "validation[:4]"],
            *["--image-size", "16x24", "--model", "segnet_basic"],
            *["--epochs", "8", "--batch-size", "4", "--preview-every", "3"],
            *["--output", str(folder)],
        ]
        for folder in folders
    )
    done = run_and_kill(
        reference, arguments, (str(folders[1]), str(tmp_path / "done"))
    )
    # All files that exist can be read.
    for name, path in tree(folders[1]).items():
        if name == "model.keras":
            keras.saving.load_model(path)
        elif name == "run.json":
            assert runs.read(folders[1])
    assert main(arguments) == 0
    for number in range(done):
        folders.append(tmp_path / f"done{number}")
    whole, *others = map(tree, folders)
    [weights, *others_weights] = (
        runs.load(str(folder))[0].get_weights() for folder in folders
    )
    for other, other_weights in zip(others, others_weights, strict=True):
        assert other.keys() == whole.keys()
        for name in ("history.csv", "per_class.csv", "run.json"):
            assert other[name].read_text() == whole[name].read_text()
        for a, b in zip(weights, other_weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_predict(model_file, tmp_path):
    for number in range(60):
        image, _ = data.draw_scene(number)
        tiny_datasets.write_png(tmp_path / "in" / f"{number}.png", image)
    folders = [tmp_path / "whole", tmp_path / "killed"]
    reference, arguments = (
        [
            *["predict", str(model_file), str(tmp_path / "in")],
            *["--output", str(folder)],
        ]
        for folder in folders
    )
    run_and_kill(reference, arguments)
    whole, killed = map(tree, folders)
    for name, path in killed.items():
        assert is_temporary(name.split("/")[0]) or filecmp.cmp(
            path, whole[name], shallow=False
        )
    assert main(arguments) == 0
    assert tree(folders[1]).keys() == whole.keys()
    for name, path in tree(folders[1]).items():
        assert filecmp.cmp(path, whole[name], shallow=False)


@pytest.mark.parametrize("format", ["saved_model", "tflite"])
def test_export(format, model_file, tmp_path):
    paths = [tmp_path / "a" / "whole", tmp_path / "b" / "killed"]
    reference, arguments = (
        ["export", str(model_file), "--format", format, "--output", str(path)]
        for path in paths
    )
    # The old export must exist until the new one is complete.
    assert main(arguments) == 0
    run_and_kill(reference, arguments)

    def predict(path):
        image = np.full((1, *SIZE, 3), 100)
        if format == "tflite":
            return formats.in_litert(path)(image.astype("float32"))
        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        return serve(images=tf.constant(image, "uint8"))["probabilities"]

    expected = predict(paths[0])
    np.testing.assert_array_equal(predict(paths[1]), expected)
    _files._cleaned.clear()
    assert main(arguments) == 0
    np.testing.assert_array_equal(predict(paths[1]), expected)
    assert os.listdir(paths[1].parent) == ["killed"]


def test_prepare(tmp_path):
    tiny_datasets.write_camvid(tmp_path / "manual", {"train": 140, "val": 100})
    folders = [tmp_path / "whole", tmp_path / "killed"]
    reference, arguments = (
        [
            *["check", "cam_vid", "--manual-dir", str(tmp_path / "manual")],
            *["--data-dir", str(folder), "--allow-missing-classes"],
        ]
        for folder in folders
    )
    run_and_kill(reference, arguments)
    assert main(arguments) == 0
    whole, killed = (
        {name for name in tree(folder) if name.startswith("cam_vid")}
        for folder in folders
    )
    assert killed == whole
    for name in whole:
        if ".tfrecord" in name:
            assert filecmp.cmp(*(f / name for f in folders), shallow=False)
