"""The one list of layers that every contract test runs on."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import keras_deconv

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer, a configuration without defaults, and arrays to call it on."""

    id: str
    layer: type
    config: dict[str, Any]
    inputs: Callable[[np.random.Generator], Arrays]

    def build(self, **kwargs):
        return self.layer(**{**self.config, **kwargs})


def _images(*shape):
    return lambda rng: (rng.standard_normal(shape).astype("float32"),)


def _with_index(values_shape, limit, like_shape=None, dtype="uint8"):
    def inputs(rng):
        values = rng.standard_normal(values_shape).astype("float32")
        argmax = rng.integers(0, limit, values_shape).astype(dtype)
        like = () if like_shape is None else (np.zeros(like_shape, "float32"),)
        return (values, argmax, *like)

    return inputs


def _with_like(values_shape, like_shape):
    return lambda rng: (
        rng.standard_normal(values_shape).astype("float32"),
        np.zeros(like_shape, "float32"),
    )


LAYER_CASES = [
    LayerCase(
        "pool1d",
        keras_deconv.MaxPoolWithArgmax1D,
        dict(
            pool_size=3,
            strides=2,
            padding="same",
            data_format="channels_first",
            index_format="plane",
        ),
        _images(2, 3, 7),
    ),
    LayerCase(
        "pool2d",
        keras_deconv.MaxPoolWithArgmax2D,
        dict(
            pool_size=(2, 3),
            strides=(2, 4),
            padding="same",
            data_format="channels_first",
            index_format="flat",
        ),
        _images(2, 3, 5, 9),
    ),
    LayerCase(
        "pool2d_window",
        keras_deconv.MaxPoolWithArgmax2D,
        dict(pool_size=2, padding="same"),
        _images(2, 5, 7, 3),
    ),
    LayerCase(
        "pool2d_flat",
        keras_deconv.MaxPoolWithArgmax2D,
        dict(pool_size=3, strides=2, index_format="flat"),
        _images(2, 5, 7, 3),
    ),
    LayerCase(
        "pool3d",
        keras_deconv.MaxPoolWithArgmax3D,
        dict(
            pool_size=(1, 2, 2),
            strides=(2, 2, 1),
            padding="same",
            data_format="channels_first",
            index_format="flat",
        ),
        _images(2, 3, 3, 4, 5),
    ),
    LayerCase(
        "unpool1d",
        keras_deconv.MaxUnpool1D,
        dict(
            pool_size=3,
            strides=2,
            padding="same",
            output_size=7,
            data_format="channels_first",
            index_format="plane",
            overlap="mean",
        ),
        _with_index((2, 3, 4), 7, dtype="int64"),
    ),
    LayerCase(
        "unpool2d",
        keras_deconv.MaxUnpool2D,
        dict(
            pool_size=(3, 2),
            strides=(2, 2),
            padding="same",
            output_size=(5, 8),
            data_format="channels_first",
            index_format="flat",
            overlap="mean",
        ),
        _with_index((2, 3, 3, 4), 120, dtype="int64"),
    ),
    LayerCase(
        "unpool2d_flat",
        keras_deconv.MaxUnpool2D,
        dict(pool_size=2, index_format="flat", overlap="mean"),
        _with_index((2, 3, 4, 3), 144, dtype="int64"),
    ),
    LayerCase(
        "unpool2d_plane_like",
        keras_deconv.MaxUnpool2D,
        dict(pool_size=2, index_format="plane"),
        _with_index((2, 3, 4, 3), 40, like_shape=(2, 5, 8, 1), dtype="int64"),
    ),
    LayerCase(
        "unpool2d_like",
        keras_deconv.MaxUnpool2D,
        dict(pool_size=2, padding="same"),
        _with_index((2, 3, 4, 3), 4, like_shape=(2, 5, 8, 1)),
    ),
    LayerCase(
        "unpool2d_overlap",
        keras_deconv.MaxUnpool2D,
        dict(pool_size=3, strides=2, overlap="mean"),
        _with_index((2, 3, 4, 3), 9),
    ),
    LayerCase(
        "unpool3d",
        keras_deconv.MaxUnpool3D,
        dict(
            pool_size=2,
            strides=(2, 3, 2),
            padding="same",
            output_size=(3, 4, 5),
            data_format="channels_first",
            index_format="plane",
            overlap="mean",
        ),
        _with_index((2, 3, 2, 2, 3), 60, dtype="int64"),
    ),
    LayerCase(
        "nearest1d",
        keras_deconv.NearestUnpool1D,
        dict(pool_size=3, data_format="channels_first"),
        _with_like((2, 3, 4), (2, 1, 11)),
    ),
    LayerCase(
        "nearest2d",
        keras_deconv.NearestUnpool2D,
        dict(pool_size=(2, 3), data_format="channels_first"),
        _with_like((2, 3, 4, 2), (2, 1, 9, 5)),
    ),
    LayerCase(
        "nearest3d",
        keras_deconv.NearestUnpool3D,
        dict(
            pool_size=(2, 1, 3),
            padding="same",
            output_size=(3, 2, 5),
            data_format="channels_first",
        ),
        _with_like((2, 3, 2, 2, 2), (2, 1, 3, 2, 5)),
    ),
    LayerCase(
        "bed_of_nails1d",
        keras_deconv.BedOfNailsUnpool1D,
        dict(
            pool_size=3,
            strides=2,
            padding="same",
            output_size=8,
            position=1,
            data_format="channels_first",
        ),
        _with_like((2, 3, 4), (2, 1, 8)),
    ),
    LayerCase(
        "bed_of_nails2d",
        keras_deconv.BedOfNailsUnpool2D,
        dict(pool_size=(2, 3), position=(1, 2), data_format="channels_first"),
        _with_like((2, 3, 4, 2), (2, 1, 9, 5)),
    ),
    LayerCase(
        "bed_of_nails3d",
        keras_deconv.BedOfNailsUnpool3D,
        dict(
            pool_size=(2, 1, 3),
            position=(1, 0, 2),
            data_format="channels_first",
        ),
        _with_like((2, 3, 2, 2, 2), (2, 1, 3, 2, 5)),
    ),
    LayerCase(
        "crop_like2d",
        keras_deconv.layers.CropLike2D,
        dict(data_format="channels_first", center=True),
        _with_like((2, 3, 4, 7), (2, 1, 3, 5)),
    ),
]
