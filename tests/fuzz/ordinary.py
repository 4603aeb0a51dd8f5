"""Ordinary values of the arguments of public names.

Hostile calls use them for the required arguments that are not hostile. A key is
the name of an argument, or the name of a function or class, a dot and the name
of the argument. The longer key is looked up first. Values are functions of the
number of spatial axes.
"""

import functools
import pathlib

import keras
import numpy as np
import tensorflow as tf

import keras_deconv
from keras_deconv import data, distribution, inference
from tests.networks import one_stage
from tests.tiny_datasets import write_png

NAMES = ("sky", "road", "car")
PALETTE = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
IMAGES = np.zeros((2, 8, 8, 3), "float32")
MASKS = np.zeros((2, 8, 8), "uint8")
MASKS[:, :2], MASKS[:, 2:4] = 1, 2


@functools.cache
def model():
    network = one_stage((8, 8), 3)
    network.compile("sgd", keras_deconv.losses.SegmentationCrossentropy())
    return network


@functools.cache
def patch_model():
    return keras_deconv.models.PatchClassifier(
        (5, 5, 3), 3, filters=(2, 2), fc_units=4
    )


@functools.cache
def sampled_model():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.5)(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(3, 1)(x))


@functools.cache
def encoder():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.MaxPooling2D()(x)
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same")(x))


def frequencies():
    return data.ClassFrequencies((4, 4), (1, 1), (8, 8), 8, 1)


def prediction():
    one = np.zeros((2, 8, 8), "float32")
    many = np.full((2, 8, 8, 3), 1 / 3, "float32")
    return inference.MonteCarloPrediction(
        many, one.astype("int32"), many, one, one, one
    )


@functools.cache
def folders():
    """Write images and masks to the temporary folder of the process."""
    for number in range(2):
        for kind, pixels in (("images", IMAGES), ("masks", MASKS[..., None])):
            write_png(
                pathlib.Path("folders", kind, f"{number}.png"),
                pixels[number].astype("uint8"),
            )
    return {"train": ("folders/images", "folders/masks")}


@functools.cache
def prepared():
    data.to_tfds("tiny", folders(), classes=NAMES, data_dir="prepared")
    return "tiny"


def label_map():
    path = pathlib.Path("labels.txt")
    path.write_text("sky\nroad\n")
    return path


def batches():
    return tf.data.Dataset.from_tensors((IMAGES, MASKS))


def examples():
    return tf.data.Dataset.from_tensor_slices(
        {"image": IMAGES.astype("uint8"), "segmentation_mask": MASKS[..., None]}
    )


def shape(length, channels=2):
    return lambda rank: (1, *(length,) * rank, channels)


def zeros(length, dtype="float32"):
    return lambda rank: np.zeros(shape(length)(rank), dtype)


def constant(value):
    return lambda rank: value


def made(function):
    return lambda rank: function()


ORDINARY = {
    **{name: constant(IMAGES[..., 0]) for name in prediction()._fields},
    "alpha": constant(0.5),
    "argmax": zeros(2, "uint8"),
    **{f"MaxUnpool{n}D.argmax": zeros(2, "uint8") for n in (1, 2, 3)},
    "batch_size": constant(2),
    "CamVid.data_dir": constant("camvid"),
    "class_names": constant(NAMES),
    "dataset": made(batches),
    "recompute_batch_statistics.model": made(lambda: one_stage((8, 8), 3)),
    "segmentation_pairs.dataset": made(examples),
    "segmentation_pairs.num_classes": constant(3),
    "encoder": made(encoder),
    "enabled": constant(False),
    "folder": constant("backup"),
    "folders": made(folders),
    "to_tfds.data_dir": constant("written"),
    "to_tfds.classes": constant(NAMES),
    "to_tfds.name": constant("other"),
    "from_folders.classes": constant(NAMES),
    "from_folders.image_size": constant(8),
    "from_folders.images": made(lambda: folders()["train"][0]),
    "from_folders.masks": made(lambda: folders()["train"][1]),
    "load.data_dir": constant("prepared"),
    "load.name": made(prepared),
    "splits.data_dir": constant("prepared"),
    "splits.name": made(prepared),
    "describe.data_dir": constant("prepared"),
    "describe.name": made(prepared),
    "frequencies": made(frequencies),
    "image": constant(IMAGES[0]),
    "image_size": constant(8),
    "images": constant(IMAGES),
    "ClassFrequencies.images": constant((1, 1)),
    "image_key": constant("image"),
    "input_shape": constant((16, 16, 3)),
    "DeconvNet.input_shape": constant((224, 224, 3)),
    "DeconvNet.fc_units": constant(8),
    "PatchClassifier.input_shape": constant((5, 5, 3)),
    "PatchClassifier.filters": constant((2, 2)),
    "PatchClassifier.fc_units": constant(4),
    "FullResolutionNet.filters": constant((2, 2)),
    "SegNet.filters": constant((2, 2)),
    "SegNet.convs_per_stage": constant((1, 1)),
    "SegNetBasic.filters": constant((2, 2)),
    "ReLayNet.filters": constant(4),
    "QuickNAT.filters": constant(4),
    "input_size": constant(4),
    "inputs": zeros(4),
    "like": zeros(4),
    "CropLike2D.inputs": zeros(5),
    "kernel": constant(np.ones((3, 3))),
    "labels": constant({0: 0, 1: 1, 2: 2}),
    "mask": constant(MASKS[0]),
    "mask_key": constant("segmentation_mask"),
    "metrics": constant([]),
    "model": made(model),
    "predict_monte_carlo.model": made(sampled_model),
    "predict_monte_carlo.samples": constant(2),
    "predict_sliding_window.model": made(patch_model),
    "draw_stages.model": made(
        lambda: keras_deconv.models.SegNetBasic((16, 16, 3), 3, filters=(2, 2))
    ),
    "name": constant("some_name"),
    "num_classes": constant(3),
    "num_colors": constant(3),
    "num_done": constant(1),
    "num_examples": constant(1),
    "num_images": constant(1),
    "num_pixels": constant(8),
    "num_void_pixels": constant(0),
    "number": constant(1),
    "output_dir": constant("previews"),
    "overlap": constant(2),
    "palette": constant(PALETTE),
    "path": constant("written_file"),
    "to_saved_model.path": constant("saved_model"),
    "read_label_map.path": made(label_map),
    "pixel_counts": constant((1, 1)),
    "pixels": constant((4, 4)),
    "pixels_of_images": constant((8, 8)),
    "pooled_from": made(lambda: keras.Input((4, 4, 2))),
    "prediction": made(prediction),
    "draw_predictions.predictions": constant(MASKS),
    "replicas": made(distribution.Replicas),
    "representative_images": constant(IMAGES),
    "seed": constant(1),
    "shape": constant((4, 4, 2, 2)),
    "sizes": constant({}),
    "mismatches": constant(()),
    "failures": constant(()),
    "strays": constant({}),
    "source": constant("window"),
    "split": constant("train"),
    "strategy": constant("one"),
    "strides": constant(2),
    "target": constant("plane"),
    "tile": constant(8),
    "train": made(batches),
    "values": zeros(2),
    "what": constant("the number"),
    "x": made(lambda: keras.Input((2, 2, 2))),
    "unpool_stage.argmax": made(lambda: keras.Input((2, 2, 2), dtype="uint8")),
    "y_pred": constant(np.zeros((1, 4, 4, 3), "float32")),
    "y_true": constant(np.zeros((1, 4, 4), "int32")),
    "epochs": constant(1),
    "verbose": constant(0),
}
# They are given although they have defaults: the defaults take long, or write
# outside of the process' own folder.
ALWAYS = {key for key in ORDINARY if "." in key} | {"verbose"}


def ordinary(owner, argument):
    """Return the function for an argument's value, or None if it is unknown."""
    for key in (f"{owner}.{argument}", argument):
        if key in ORDINARY:
            return ORDINARY[key]
    return None
