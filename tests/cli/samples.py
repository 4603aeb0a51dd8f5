"""Small networks and folders for tests of the command."""

import csv

import keras

from keras_deconv import data
from tests import tiny_datasets


def tiny_model(input_shape, num_classes, *, decoder="max_unpool"):
    """Return a model that replaces larger networks in tests of the command."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    logits = keras.layers.Conv2D(num_classes, 3, padding="same")(x)
    return keras.Model(
        inputs, keras.layers.Activation("linear", dtype="float32")(logits)
    )


def read_history(folder):
    with (folder / "history.csv").open(newline="") as text:
        return list(csv.DictReader(text))


def write_scenes(folder, num_pictures=3):
    """Write generated scenes as folders of images and masks."""
    for number in range(num_pictures):
        image, mask = data.draw_scene(number)
        name = f"{number}.png"
        tiny_datasets.write_png(folder / "images" / name, image)
        tiny_datasets.write_png(folder / "masks" / name, mask[..., None])
    return [
        *["--images", str(folder / "images")],
        *["--masks", str(folder / "masks")],
    ]
