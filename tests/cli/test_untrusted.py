"""Tests with untrusted files, whose code must not run."""

import json
import pickle
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import models
from keras_deconv_cli import main, runs


class Evil:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.keras"
    models.SegNetBasic((16, 24, 3), 2).save(path)
    return path


def truncated(good, path):
    path.write_bytes(good.read_bytes()[:1000])


def truncated_inside(good, path):
    """Write a complete archive that contains a truncated file."""
    repack(good, path, "model.weights.h5", lambda data: data[: len(data) // 2])


def without_weights(good, path):
    repack(good, path, "model.weights.h5", lambda data: None)


def foreign_archive(good, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not a model")


def foreign_file(good, path):
    path.write_bytes(b"GIF89a" * 100)


def of_unknown_layers(good, path):
    repack(
        good,
        path,
        "config.json",
        lambda data: data.replace(
            b"MaxPoolWithArgmax2D", b"MaxPoolNoSuchLayer"
        ),
    )


def of_another_module(good, path):
    """Replace a layer by a class that exists but is not a layer."""
    repack(
        good,
        path,
        "config.json",
        lambda data: data.replace(
            b'"module": "keras.layers", "class_name": "ReLU"',
            b'"module": "subprocess", "class_name": "Popen"',
        ),
    )


def repack(good, path, name, change):
    """Copy an archive, and change or leave out one file."""
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        assert name in old.namelist()
        for entry in old.namelist():
            data = old.read(entry)
            changed = change(data) if entry == name else data
            assert entry != name or changed != data
            if changed is not None:
                new.writestr(entry, changed)


@pytest.mark.parametrize(
    "make",
    [
        truncated,
        truncated_inside,
        without_weights,
        foreign_archive,
        foreign_file,
        of_unknown_layers,
        of_another_module,
    ],
)
def test_broken_and_foreign_models(make, good, tmp_path, capsys):
    path = tmp_path / "model.keras"
    make(good, path)
    with pytest.raises(ValueError, match="`model` must be a folder that"):
        runs.load(str(path))
    assert main(["info", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: MODEL must be")
    assert len(error.splitlines()) == 1
    assert runs.load(str(good))


@pytest.mark.parametrize("content", [b"", b"half a graph"])
def test_saved_models_are_left_to_tensorflow(content, tmp_path, capsys):
    (tmp_path / "saved_model.pb").write_bytes(content)
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "a SavedModel, which tf.saved_model.load" in capsys.readouterr().err


def test_no_code_of_a_model_runs(tmp_path):
    mark = tmp_path / "ran"
    inputs = keras.Input((4, 4, 3))
    touch = keras.layers.Lambda(
        lambda x, path: (open(path, "w").close(), x)[1],
        output_shape=(4, 4, 3),
        arguments={"path": str(mark)},
    )
    keras.Model(inputs, touch(inputs)).save(tmp_path / "model.keras")
    mark.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="Lambda"):
        runs.load(str(tmp_path))
    assert not mark.exists()
    # Without safe mode, the code would have run.
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    # In Keras 3.10, the loaded model expects a list of one tensor.
    keras.Model(loaded.inputs[0], loaded.outputs[0])(np.zeros((1, 4, 4, 3)))
    assert mark.exists()


def test_no_code_of_encoder_weights_runs(tmp_path):
    torch = pytest.importorskip("torch")
    mark = tmp_path / "ran"
    path = tmp_path / "vgg16.pth"
    torch.save({"features.0.weight": Evil(mark)}, path)
    with pytest.raises(ValueError, match=r"`encoder_weights` in a \.pth file"):
        models.SegNet((32, 32, 3), 2, encoder_weights=path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark))).close()
    assert mark.exists()


def test_pictures_that_are_none_do_not_stop_the_others(good, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    whole = tf.io.encode_png(np.zeros((16, 24, 3), "uint8")).numpy()
    (pictures / "whole.png").write_bytes(whole)
    (pictures / "half.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "foreign.jpg").write_bytes(b"#!/bin/sh\n")
    (pictures / "empty.bmp").touch()
    output = tmp_path / "out"
    status = main(
        ["predict", str(good), str(pictures), "--output", str(output)]
    )
    assert status == 1
    error = capsys.readouterr().err
    for name in ("half.png", "foreign.jpg", "empty.bmp"):
        assert f"{name} cannot be labeled: The file cannot be read" in error
    assert {path.name.split("_")[0] for path in output.iterdir()} == {"whole"}


def test_names_of_pictures_stay_in_the_output_folder(good, tmp_path):
    whole = tf.io.encode_png(np.zeros((16, 24, 3), "uint8")).numpy()
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    names = ["..png", "...png", "~.png", "$HOME.png", "a\nb.png", "-rf.png"]
    for folder in (tmp_path / "a", inside):
        for name in names:
            (folder / name).write_bytes(whole)
    before = set(tmp_path.rglob("*"))
    output = tmp_path / "out"
    arguments = [
        *(str(inside / name) for name in names),
        *(f"{inside}/../{name}" for name in names),
    ]
    assert (
        main(["predict", str(good), "--output", str(output), *arguments]) == 0
    )
    new = set(tmp_path.rglob("*")) - before - {output}
    assert {path.parent for path in new} == {output}
    assert len(new) == 3 * len(arguments)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        pytest.param("a/../../evil", marks=pytest.mark.slow),
        pytest.param("/evil", marks=pytest.mark.slow),
    ],
)
def test_a_run_cannot_write_elsewhere(name, good, tmp_path):
    """Names in run.json are never used as paths of files."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(good, folder / "model.keras")
    run = dict(
        class_names=[name, "b"],
        palette=[[0, 0, 0], [255, 255, 255]],
        image_size=[16, 24],
    )
    (folder / "run.json").write_text(json.dumps(run))
    picture = tmp_path / "picture.png"
    picture.write_bytes(
        tf.io.encode_png(np.zeros((16, 24, 3), "uint8")).numpy()
    )
    before = set(tmp_path.rglob("*"))
    output = tmp_path / "out" / "deep"
    arguments = [str(folder), str(picture), "--output", str(output)]
    assert main(["predict", *arguments]) == 0
    new = set(tmp_path.rglob("*")) - before
    assert new
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
