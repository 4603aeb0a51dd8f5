"""Tests of models of the user, and of runs that are trained longer."""

import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import callbacks, data, losses
from keras_deconv_cli import main, runs, user_models
from tests import tiny_datasets
from tests.cli.samples import read_history, tiny_model, write_scenes

SHAPE = (16, 24, 3)
NETS = '''
import keras
from keras import layers


@keras.saving.register_keras_serializable("nets")
class Double(layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs


class Unregistered(layers.Layer):
    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("nets")
class Hidden(layers.Layer):
    def call(self, inputs):
        return keras.ops.softmax(inputs)


@keras.saving.register_keras_serializable("nets")
class Square(layers.Layer):
    """Layer that fails on images with unequal sides, but not symbolically."""

    def call(self, inputs):
        size = round(inputs.shape[1] * inputs.shape[2]) ** 0.5
        keras.ops.reshape(keras.ops.ones((384,)), (int(size), int(size)))
        return inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def unet(input_shape, num_classes, activation=None, last=None):
    inputs = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(inputs)
    skip = layers.Conv2D(4, 3, padding="same", name="conv")(x)

    x = layers.MaxPooling2D()(skip)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="deep")(x)
    x = Double(name="double")(layers.UpSampling2D()(x))
    x = layers.Concatenate()([x, skip])

    classifier = layers.Conv2D(num_classes, 1, name="logits")
    if activation:
        classifier.activation = keras.activations.get(activation)
    x = classifier(x)
    return keras.Model(inputs, last(x) if last else x, name="unet")


def softmax(input_shape, num_classes):
    return unet(input_shape, num_classes, "softmax")


def sigmoid(input_shape, num_classes):
    return unet(input_shape, num_classes, "sigmoid")


def unregistered(input_shape, num_classes):
    return unet(input_shape, num_classes, last=Unregistered())


def untraceable(input_shape, num_classes):
    return unet(input_shape, num_classes, last=layers.Lambda(lambda x: x))


def hidden_softmax(input_shape, num_classes):
    return unet(input_shape, num_classes, last=Hidden())


def square(input_shape, num_classes):
    return unet(input_shape, num_classes, last=Square())


def one(input_shape, num_classes):
    return unet(input_shape, 1)


def three(input_shape, num_classes):
    return unet(input_shape, 3)


def half(input_shape, num_classes):
    return unet(input_shape, num_classes, last=layers.MaxPooling2D())


def gray(input_shape, num_classes):
    return unet((*input_shape[:2], 1), num_classes)


def rounds_down(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = layers.UpSampling2D()(layers.MaxPooling2D()(inputs))
    return keras.Model(inputs, layers.Conv2D(num_classes, 1)(x))


def half_size(input_shape, num_classes):
    return keras.Input((input_shape[0] // 2, 1, 3))


def quits(input_shape, num_classes):
    raise SystemExit(4)


def nothing(input_shape, num_classes):
    pass


def other_arguments(shape, classes):
    pass


def subclass(input_shape, num_classes):
    class Network(keras.Model):
        pass

    return Network()


constant = 5
'''


def forget():
    """Remove the module and its layers, as in a new process."""
    sys.modules.pop("nets", None)
    objects = keras.saving.get_custom_objects()
    for name in [name for name in objects if name.startswith("nets>")]:
        del objects[name]


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """The current folder, which contains a module of networks."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget()


@pytest.fixture(scope="module")
def options(scenes_dir):
    return [
        *["train", "--data-dir", str(scenes_dir), "--image-size", "16x24"],
        *["--train-split", "train[:8]", "--val-split", "none"],
        *["--batch-size", "4", "--preview-every", "0"],
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", r"nets\.py, but missing does not exist there"),
        ("constant", r"but constant there is 5\."),
        ("other_arguments", "the arguments input_shape.* raises TypeError"),
        ("quits", "raises SystemExit: 4"),
        ("nothing", "which returns an object of type NoneType"),
        ("subclass", "returns a Network without a graph"),
        ("gray", r"with input shape \(16, 24, 1\)"),
        ("three", r"for 6 classes.*with output shape \(16, 24, 3\)"),
        ("one", r"returns 1\. .*num_classes=2.*keras\.metrics\.BinaryIoU"),
        ("half", r"of the size of the images, \(16, 24\).*returns \(8, 12\)"),
        ("sigmoid", "ends in a sigmoid"),
        ("square", r"support images of size \(16, 24\).*raises .*384"),
        ("hidden_softmax", "scores are probabilities"),
        ("unregistered", "Could not locate class 'Unregistered'"),
        ("untraceable", "`Lambda` layer"),
    ],
)
def test_networks_that_do_not_fit(name, words, nets):
    with pytest.raises(ValueError, match=f"^--model must .*{words}"):
        build_and_check(f"nets:{name}")


def build_and_check(name):
    model = user_models.build(name, SHAPE, 6)
    user_models.check_runs(name, model, SHAPE[:2])
    user_models.check_saves(name, model)


def test_networks_that_do_not_fit_parts(nets):
    unet = user_models.build("nets:unet", SHAPE, 6)
    unet.save("unet.keras")
    for name, words in (
        ("nets:half_size", r"\. With --crop, height and width are None"),
        ("unet.keras", r"^--crop needs .* input shape \(16, 24, 3\)"),
    ):
        with pytest.raises(ValueError, match=words):
            user_models.build(name, (None, None, 3), 6)
    model = user_models.build("nets:rounds_down", (None, None, 3), 6)
    user_models.check_runs("nets:rounds_down", model, SHAPE[:2])
    with pytest.raises(ValueError, match=r"ns \(14, 14\).* another --crop"):
        user_models.check_runs("nets:rounds_down", model, (15, 15), "--crop")


def test_folders_and_built_in_modules_are_not_files(nets):
    (nets / "folder").mkdir()
    for name in ("folder:unet", "sys:unet"):
        with pytest.raises(ValueError, match="not a file, but unet does not"):
            user_models.build(name, SHAPE, 6)


def test_modules_that_cannot_be_imported(nets, capsys):
    (nets / "ends.py").write_text("import sys\nsys.exit(3)\n")
    for module, words in (
        ("nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("ends", "SystemExit: 3"),
    ):
        assert main(["info", "scenes", "--import", module]) == 1
        assert words in capsys.readouterr().err


def test_files_that_do_not_fit(tmp_path):
    path = str(tmp_path / "other.keras")
    tiny_model(SHAPE, 6).save(path)
    assert user_models.image_size(path) == SHAPE[:2]
    assert user_models.build(path, SHAPE, 6).output_shape[-1] == 6
    for shape, num_classes, words in (
        (SHAPE, 5, "output shape .*6"),
        ((32, 32, 3), 6, r"input shape \(16, 24, 3\)"),
    ):
        with pytest.raises(ValueError, match=f"--model must .*{words}"):
            user_models.build(path, shape, num_classes)


def test_layers_start_from_those_of_their_name_and_shapes(nets):
    build = user_models.build
    other = build("nets:unet", SHAPE, 2)
    other.save(nets / "other.keras")
    model = build("nets:unet", SHAPE, 6)
    before = model.get_layer("logits").get_weights()
    lines = [*user_models.initialize(model, str(nets / "other.keras"))]
    assert lines == [
        f"Loaded 2 of 3 layers with weights from {nets}/other.keras",
        "These layers were not loaded, since they have other shapes in the "
        "file: logits",
    ]
    for name in ("conv", "deep", "logits"):
        expected = before
        if name != "logits":
            expected = other.get_layer(name).get_weights()
        for ours, theirs in zip(
            model.get_layer(name).get_weights(), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    tiny_model(SHAPE, 3).save(nets / "foreign.keras")
    with pytest.raises(ValueError, match=r"--init-from must .*conv, deep, log"):
        [*user_models.initialize(model, str(nets / "foreign.keras"))]


def test_a_module_that_a_run_names_is_not_imported(nets, capsys):
    """The code runs only if the user names the module in the command."""
    mark = nets / "imported"
    user_models.build("nets:unet", SHAPE, 6).save(nets / "model.keras")
    forget()
    names = {"train_split": "train", "model": "nets:unet", "module": "nets"}
    names |= {"dataset": "scenes", "images": None, "epochs": 1}
    names |= dict.fromkeys(["data_dir", "manual_dir", "masks"])
    names |= dict.fromkeys(["val_images", "val_masks"])
    runs.Run(
        class_names=list("abcdef"),
        palette=6 * [[0, 0, 0]],
        image_size=[16, 24],
        options=names,
        splits={"train": "train"},
    ).write(nets)
    (nets / "nets.py").write_text(f"open({str(mark)!r}, 'w').close()\n{NETS}")
    for arguments in (
        *("info .", "evaluate .", "predict . x.png --output o"),
        *("export . --output o", "train --output ."),
        "train --init-from . --output new --smoke --image-size 16x24",
    ):
        assert main(arguments.split()) == 1
    assert not mark.exists()
    error = capsys.readouterr().err
    assert error.count("If you trust its code, add --import nets.") == 5
    assert main(["info", ".", "--import", "nets"]) == 0
    assert mark.exists()


@pytest.mark.slow
def test_a_network_of_ones_own(nets, options):
    assert main([*options, "--epochs", "1", "--model", "nets:unet"]) == 0
    run = "runs/scenes_unet"
    forget()
    for arguments in (
        ["evaluate", run, "--split", "test[:4]"],
        ["predict", run, "street.png", "--output", "out"],
        ["export", run, "--output", "saved"],
        ["info", run],
    ):
        tiny_datasets.write_png(nets / "street.png", data.draw_scene(0)[0])
        assert main([*arguments, "--import", "nets"]) == 0
    assert (nets / "out" / "street_mask.png").exists()
    served = tf.saved_model.load("saved").signatures["serving_default"]
    probabilities = served(images=np.zeros((1, 16, 24, 3), "uint8"))
    np.testing.assert_allclose(
        np.sum(probabilities["probabilities"], axis=-1), 1, rtol=1e-3
    )


@pytest.mark.slow
@pytest.mark.numeric
def test_a_finished_run_goes_on_with_more_epochs(
    nets, options, scenes_dir, capsys
):
    options = [*options, "--model", "nets:softmax", "--output", "run"]
    assert main([*options, "--epochs", "1"]) == 0
    assert main([*options, "--epochs", "3"]) == 0
    assert "From epoch 2, the learning rate decays over 3" in (
        capsys.readouterr().out
    )
    assert main([*options]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main([*options, "--epochs", "4", "--smoke"]) == 1
    assert "only be raised" not in capsys.readouterr().err
    record = json.loads((nets / "run" / "run.json").read_text())
    assert record["earlier_epochs"] == [{"epochs": 1, "trained": 1}]
    assert record["options"]["epochs"] == 3
    rows = read_history(nets / "run")
    assert [row["epoch"] for row in rows] == list("012")

    # Train in the same way with Keras.
    keras.utils.set_random_seed(0)
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    train_set = data.load(
        *["scenes", "train[:8]"],
        image_size=SHAPE[:2],
        batch_size=4,
        data_dir=scenes_dir,
        seed=0,
        epoch=epoch,
    )
    model = user_models.build("nets:softmax", SHAPE, 6)
    optimizer, scores = keras.optimizers.Adam(), []
    for first, last in ((0, 1), (1, 3)):
        optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(
            2e-3, last * 2
        )
        model.compile(
            optimizer, losses.SegmentationCrossentropy(from_logits=False)
        )
        fitted = model.fit(
            train_set,
            epochs=last,
            initial_epoch=first,
            shuffle=False,
            verbose=0,
            callbacks=[callbacks.EpochSeed(0, epoch)],
        )
        scores += fitted.history["loss"]
    np.testing.assert_allclose(
        [float(row["loss"]) for row in rows], scores, rtol=1e-5
    )
    # Without the backup of the last epoch, it cannot be trained longer.
    [backup] = (nets / "run" / ".resume").iterdir()
    assert backup.name == "backup-3.weights.h5"
    backup.unlink()
    assert main([*options, "--epochs", "4"]) == 1
    assert f"--init-from {nets}/run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_starts_from_another_one_with_other_classes(
    nets, monkeypatch, capsys
):
    user_models.build("nets:unet", SHAPE, 2).save("two.keras")
    folders = write_scenes(nets)
    options = ["train", *folders, "--classes", "6", "--image-size", "16x24"]
    options += ["--epochs", "1", "--preview-every", "0", "--val-split", "none"]
    options += ["--model", "nets:unet", "--init-from", "two.keras"]
    options += ["--output", "six"]

    class Killed(BaseException):
        """End the training in its first epoch."""

    def kill(self, batch, logs=None):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochSeed, "on_train_batch_begin", kill)
        with pytest.raises(Killed):
            main(options)
    assert "Loaded 2 of 3 layers" in capsys.readouterr().out
    # The run contains these weights and does not need the file.
    (nets / "two.keras").unlink()
    assert main([*options, "--epochs", "2"]) == 0
    assert "Loaded" not in capsys.readouterr().out
    record = json.loads((nets / "six" / "run.json").read_text())
    assert record["options"]["init_from"] == str(nets / "two.keras")
    assert record["earlier_epochs"] == [{"epochs": 1, "trained": 0}]
