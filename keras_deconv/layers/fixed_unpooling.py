"""Unpooling that remembers nothing: nearest and bed of nails."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes, ops
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers._base import SpatialLayer

__all__ = [
    "BedOfNailsUnpool1D",
    "BedOfNailsUnpool2D",
    "BedOfNailsUnpool3D",
    "NearestUnpool1D",
    "NearestUnpool2D",
    "NearestUnpool3D",
]


class FixedUnpool(SpatialLayer):
    """Both families: a value becomes a block of `size` cells."""

    def __init__(
        self,
        size: IntOrInts = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.size = self.ints(size, "size")

    def compute_output_shape(
        self, values_shape: Any, like_shape: Any = None
    ) -> tuple:
        size = self.spatial_size(values_shape)
        target = _shapes.settle_size(
            None,
            None if like_shape is None else self.spatial_size(like_shape),
            default=_shapes.unpooled_size(size, self.size, self.size, "same"),
        )
        _shapes.check_block_size(target, size, self.size)
        return self.with_spatial_size(values_shape, target)

    def compute_output_spec(
        self, values: Any, like: Any = None
    ) -> keras.KerasTensor:
        self.note_open_sizes(values, like)
        shape = self.compute_output_shape(
            values.shape, None if like is None else like.shape
        )
        return keras.KerasTensor(shape, self.output_dtype(values))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


class NearestUnpool(FixedUnpool):
    """Family of `NearestUnpool1D`, `2D` and `3D`."""

    def call(self, values: Any, like: Any = None) -> Any:
        self.check_traced_sizes()
        return ops.nearest_unpool(values, self.size, like, self.data_format)


class BedOfNailsUnpool(FixedUnpool):
    """Family of `BedOfNailsUnpool1D`, `2D` and `3D`."""

    def __init__(
        self,
        size: IntOrInts = 2,
        position: IntOrInts = 0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, data_format=data_format, **kwargs)
        self.position = _arguments.position(position, self.size)

    def call(self, values: Any, like: Any = None) -> Any:
        self.check_traced_sizes()
        return ops.bed_of_nails_unpool(
            values, self.size, self.position, like, self.data_format
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "position": self.position}


@keras.saving.register_keras_serializable("keras_deconv")
class NearestUnpool1D(NearestUnpool):
    """Repeat each value of a sequence `size` times.

    Tensors are `(batch, steps, channels)`, or `(batch, channels, steps)` with
    `data_format="channels_first"`. See `NearestUnpool2D` for the rest.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 2, 1)
        >>> np.ravel(keras_deconv.NearestUnpool1D()(values)).tolist()
        [5.0, 5.0, 7.0, 7.0]
    """

    num_spatial_dims = 1


@keras.saving.register_keras_serializable("keras_deconv")
class NearestUnpool2D(NearestUnpool):
    """Repeat each value over a block of `size` pixels.

    The simplest way to undo pooling: no position is remembered. Like
    `keras.layers.UpSampling2D` with "nearest", and able to restore odd sizes.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928, compares it with the bed of nails.

    Args:
        size: int or tuple of 2 ints >= 1. Height and width of the block that
            one value fills. Default 2.
        data_format: "channels_last", "channels_first" or None for the one of
            the Keras configuration.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        values: Tensor of any float or integer dtype.
        like: Optional tensor whose height and width are to be restored;
            unknown ones allowed. Its values and channels do not matter.

    Input shape:
        `(batch, height, width, channels)`; any of them may be None.

    Output shape:
        `(batch, height * size, width * size, channels)`, or with the height
        and width of `like`.

    Returns:
        Tensor in the dtype of `values`.

    Raises:
        ValueError: At construction, an argument breaks its rule. At call,
            the size of `like`, divided by `size` and rounded up or down, is
            not that of the values.

    Edge cases: a `like` that is smaller cuts the last block; one that is
    larger (pooling dropped a rest) repeats the last value. The gradient is
    the sum over the block.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([[1.0, 2.0]], "float32").reshape(1, 1, 2, 1)
        >>> unpool = keras_deconv.NearestUnpool2D()
        >>> np.squeeze(unpool(values)).tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
        >>> np.squeeze(unpool(values, like=np.zeros((1, 1, 3, 8)))).tolist()
        [1.0, 1.0, 2.0]
    """

    num_spatial_dims = 2


@keras.saving.register_keras_serializable("keras_deconv")
class NearestUnpool3D(NearestUnpool):
    """Repeat each value over a block of `size` cells of a volume.

    Tensors are `(batch, depth, height, width, channels)`, or `(batch,
    channels, depth, height, width)` with `data_format="channels_first"`. See
    `NearestUnpool2D` for the rest.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.full((1, 1, 1, 1, 1), 5.0, "float32")
        >>> y = keras_deconv.NearestUnpool3D((1, 1, 2))(values)
        >>> np.ravel(y).tolist()
        [5.0, 5.0]
    """

    num_spatial_dims = 3


@keras.saving.register_keras_serializable("keras_deconv")
class BedOfNailsUnpool1D(BedOfNailsUnpool):
    """Put each value of a sequence on one step of `size`; zero elsewhere.

    Tensors are `(batch, steps, channels)`, or `(batch, channels, steps)` with
    `data_format="channels_first"`. See `BedOfNailsUnpool2D` for the rest.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 2, 1)
        >>> np.ravel(keras_deconv.BedOfNailsUnpool1D()(values)).tolist()
        [5.0, 0.0, 7.0, 0.0]
    """

    num_spatial_dims = 1


@keras.saving.register_keras_serializable("keras_deconv")
class BedOfNailsUnpool2D(BedOfNailsUnpool):
    """Put each value on one fixed pixel of a block; zero elsewhere.

    Max unpooling without the memory: the position is the same in each block.
    Followed by a convolution it is a transposed convolution.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928 (values go to the upper left corner).

    Args:
        size: int or tuple of 2 ints >= 1. Height and width of the block of
            one value. Default 2.
        position: int or tuple of 2 ints >= 0, each below `size`. Row and
            column in the block that take the value. Default 0, the upper
            left corner.
        data_format: "channels_last", "channels_first" or None for the one of
            the Keras configuration.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        values: Tensor of any float or integer dtype.
        like: Optional tensor whose height and width are to be restored;
            unknown ones allowed. Its values and channels do not matter.

    Input shape:
        `(batch, height, width, channels)`; any of them may be None.

    Output shape:
        `(batch, height * size, width * size, channels)`, or with the height
        and width of `like`.

    Returns:
        Tensor in the dtype of `values`.

    Raises:
        ValueError: At construction, an argument breaks its rule. At call,
            the size of `like`, divided by `size` and rounded up or down, is
            not that of the values.

    Edge cases: a `like` that is smaller cuts the last block, and its value if
    that lies beyond; one that is larger gets zeros. The gradient is read at
    the position.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([[1.0, 2.0]], "float32").reshape(1, 1, 2, 1)
        >>> unpool = keras_deconv.BedOfNailsUnpool2D(position=(1, 0))
        >>> np.squeeze(unpool(values)).tolist()
        [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0]]
    """

    num_spatial_dims = 2


@keras.saving.register_keras_serializable("keras_deconv")
class BedOfNailsUnpool3D(BedOfNailsUnpool):
    """Put each value on one cell of a block of a volume; zero elsewhere.

    Tensors are `(batch, depth, height, width, channels)`, or `(batch,
    channels, depth, height, width)` with `data_format="channels_first"`. See
    `BedOfNailsUnpool2D` for the rest.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.full((1, 1, 1, 1, 1), 5.0, "float32")
        >>> y = keras_deconv.BedOfNailsUnpool3D((1, 1, 2))(values)
        >>> np.ravel(y).tolist()
        [5.0, 0.0]
    """

    num_spatial_dims = 3
