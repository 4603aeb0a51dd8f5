"""The networks at sizes that tests can train, and four images to learn."""

import contextlib
import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_deconv import MaxPoolWithArgmax2D, MaxUnpool2D, data, models
from keras_deconv.models import _blocks, deconvnet

NUM_CLASSES = 6

# The `decoder` argument of the networks.
DECODERS = ("max_unpool", "bed_of_nails", "nearest", "conv_transpose")

# Filters of slim networks, with the stages of the published ones.
SLIM_ENCODER = ((16, 16), (16, 16), (16, 16, 16), (32, 32, 32), (32, 32, 32))
SLIM_BASIC = (16,) * 4
SLIM_DECODER = ((16,), (16, 16), (16, 16, 16), (32, 32, 16), (32, 32, 32))


class Network(NamedTuple):
    build: Callable  # from the shape of an image to a model
    size: tuple[int, int] = (32, 48)
    known_size: bool = False  # whether None is not supported
    # Enough to overfit four images. The learning rate decays to 0.
    learning_rate: float = 1e-2
    steps: int = 120


def network(function, **options):
    return functools.partial(function, num_classes=NUM_CLASSES, **options)


# Less dropout than published, because 32 channels of 2x3 pixels are few.
NETWORKS = {
    "SegNet": Network(network(models.SegNet)),
    "SegNetBasic": Network(network(models.SegNetBasic)),
    "BayesianSegNet": Network(
        network(models.BayesianSegNet, dropout=0.1), steps=160
    ),
    "BayesianSegNetBasic": Network(
        network(models.BayesianSegNetBasic, dropout=0.1), steps=160
    ),
    "DeconvNet": Network(
        network(models.DeconvNet, fc_units=32), (deconvnet.MIN_SIZE,) * 2
    ),
    "ENet": Network(network(models.ENet), learning_rate=2e-2, steps=200),
    "ReLayNet": Network(network(models.ReLayNet)),
    "QuickNAT": Network(network(models.QuickNAT, dropout=0.1)),
    "FullResolutionNet": Network(
        network(models.FullResolutionNet, filters=(16,) * 4, kernel_size=5)
    ),
    "PatchClassifier": Network(
        network(models.PatchClassifier, filters=(16, 16), fc_units=64),
        (12, 12),
        known_size=True,
        steps=240,
    ),
}


@contextlib.contextmanager
def without_values():
    """Build networks whose weights have shapes but do not use memory."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Otherwise Keras allocates gigabytes when it leaves the next scope.
    keras.utils.clear_session(free_memory=False)


def one_stage(size=(None, None), num_classes=NUM_CLASSES):
    """An encoder-decoder that pools once, for tests that need any network."""
    inputs = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    pooled, argmax = MaxPoolWithArgmax2D(padding="same")(x)
    y = keras.layers.Conv2D(8, 3, padding="same")(pooled)
    y = MaxUnpool2D(padding="same")(y, argmax, like=x)
    y = keras.layers.Conv2D(num_classes, 3, padding="same")(y)
    return keras.Model(
        inputs, keras.layers.Activation("linear", dtype="float32")(y)
    )


def make_slim(monkeypatch):
    """Build networks with few filters by default."""
    monkeypatch.setattr(_blocks, "VGG16_FILTERS", SLIM_ENCODER)
    for function, filters in (
        (models.SegNet, (16, 16, 16, 32, 32)),
        (models.SegNetBasic, SLIM_BASIC),
        (models.ReLayNet, 16),
        (models.QuickNAT, 16),
    ):
        monkeypatch.setitem(function.__kwdefaults__, "filters", filters)
    monkeypatch.setattr(
        deconvnet, "DECODER_FILTERS", ((16, 16), *SLIM_DECODER[1:])
    )


def scenes(size, number=4):
    """Drawn images (0..255 as float32) and masks, with 255 for void."""
    drawn = [data.draw_scene(seed, size) for seed in range(number)]
    images, masks = zip(*drawn, strict=True)
    return np.float32(images), np.int32(masks)


def patches(size, images, masks):
    """Patch and class of each pixel, which is at size // 2."""
    height, width = size
    black = [(0, 0), (height, height), (width, width), (0, 0)]
    cut = [
        image[top : top + height, left : left + width]
        for image in np.pad(images, black)
        for top in height - height // 2 + np.arange(images.shape[1])
        for left in width - width // 2 + np.arange(images.shape[2])
    ]
    return np.stack(cut), masks.reshape(-1)
