"""Unpooling that remembers nothing: nearest and bed of nails."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes, ops
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers._base import UnpoolLayer

__all__ = [
    "BedOfNailsUnpool1D",
    "BedOfNailsUnpool2D",
    "BedOfNailsUnpool3D",
    "NearestUnpool1D",
    "NearestUnpool2D",
    "NearestUnpool3D",
]


class FixedUnpool(UnpoolLayer):
    """Both families: a value goes to its window without an index."""

    _max_cells = _arguments.MAX_FILLED_CELLS

    _takes_any_strides = True

    def __init__(
        self,
        pool_size: IntOrInts = 2,
        strides: IntOrInts | None = None,
        padding: str = "valid",
        output_size: IntOrInts | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, output_size, data_format, **kwargs
        )
        if not self._takes_any_strides:
            _arguments.check_side_by_side(self.strides, self.pool_size)

    def compute_output_shape(
        self, values_shape: Any, like_shape: Any = None
    ) -> tuple:
        size = self._spatial_size(values_shape)
        target = self._restored_size(values_shape, like_shape)
        _shapes.check_block_size(target, size, *self._window)
        return self._with_spatial_size(values_shape, target)

    def compute_output_spec(
        self, values: Any, like: Any = None
    ) -> keras.KerasTensor:
        self._require_tensors(values, like)
        shape = self.compute_output_shape(
            values.shape, None if like is None else like.shape
        )
        return keras.KerasTensor(shape, self._output_dtype(values))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FixedUnpool":
        config = dict(config)
        if "size" in config:  # files from before 0.1
            config["pool_size"] = config.pop("size")
        return cls(**config)


class NearestUnpool(FixedUnpool):
    """Family of `NearestUnpool1D`, `2D` and `3D`."""

    _takes_any_strides = False

    def call(self, values: Any, like: Any = None) -> Any:
        self._check_traced_sizes()
        return ops.nearest_unpool(
            values, *self._window, self.output_size, like, self.data_format
        )


class BedOfNailsUnpool(FixedUnpool):
    """Family of `BedOfNailsUnpool1D`, `2D` and `3D`."""

    def __init__(
        self,
        pool_size: IntOrInts = 2,
        strides: IntOrInts | None = None,
        padding: str = "valid",
        output_size: IntOrInts | None = None,
        data_format: str | None = None,
        position: IntOrInts = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, output_size, data_format, **kwargs
        )
        self.position = _arguments.position(position, self.pool_size)

    def call(self, values: Any, like: Any = None) -> Any:
        self._check_traced_sizes()
        return ops.bed_of_nails_unpool(
            values,
            *self._window,
            self.output_size,
            like,
            self.data_format,
            self.position,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "position": self.position}


@keras.saving.register_keras_serializable("keras_deconv")
class NearestUnpool1D(NearestUnpool):
    """Repeat each value of a sequence `pool_size` times.

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
    """Repeat each value over the window that it was pooled from.

    The simplest way to undo pooling: no position is remembered. Like
    `keras.layers.UpSampling2D` with "nearest", and able to restore odd sizes.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928, compares it with the bed of nails.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Height and width of the window
            that one value fills; at most 16,384 pixels in all. The default
            is 2.
        strides: None or `pool_size`: windows lie side by side.
        padding: "valid" or "same", as in the pooling that is undone.
        output_size: int or tuple of 2 ints >= 1, or None. Height and width
            to restore.
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
        `(batch, new_height, new_width, channels)`, where new is that of
        `like` or `output_size`, else `(size - 1) * strides + pool_size` for
        "valid" and `size * strides` for "same".

    Returns:
        Tensor in the dtype of `values`.

    Raises:
        ValueError: If an argument is not as described, or, at call, if the
            size to restore does not shrink to the size of the values: rounded
            up with "same" padding, up or down with "valid".

    Edge cases: with "same" padding, windows begin in the padding as they do
    in pooling, so that the first of them may be cut. A size to restore that is
    smaller cuts the last window; a larger one (pooling dropped a rest) repeats
    the last value. The gradient is the sum over the window.

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
    """Repeat each value of a volume over the window that it was pooled from.

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
    """Put each value of a sequence on one step of its window; zero elsewhere.

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
    """Put each value on one fixed pixel of its window; zero elsewhere.

    Max unpooling without the memory: the position is the same in each block.
    Followed by a convolution it is a transposed convolution.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928 (values go to the upper left corner).

    Args:
        pool_size: int or tuple of 2 ints >= 1. Height and width of the window
            of one value; at most 16,384 pixels in all. The default is 2.
        strides: int, tuple of 2 ints >= 1, or None for `pool_size`. Distance
            between windows, which may overlap.
        padding: "valid" or "same", as in the pooling that is undone.
        output_size: int or tuple of 2 ints >= 1, or None. Height and width
            to restore.
        data_format: "channels_last", "channels_first" or None for the one of
            the Keras configuration.
        position: int or tuple of 2 ints >= 0, each below `pool_size`. Row and
            column in the window that take the value. The default is 0, the
            upper left corner.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        values: Tensor of any float or integer dtype.
        like: Optional tensor whose height and width are to be restored;
            unknown ones allowed. Its values and channels do not matter.

    Input shape:
        `(batch, height, width, channels)`; any of them may be None.

    Output shape:
        `(batch, new_height, new_width, channels)`, where new is that of
        `like` or `output_size`, else `(size - 1) * strides + pool_size` for
        "valid" and `size * strides` for "same".

    Returns:
        Tensor in the dtype of `values`.

    Raises:
        ValueError: If an argument is not as described, or, at call, if the
            size to restore does not shrink to the size of the values: rounded
            up with "same" padding, up or down with "valid".

    Edge cases: with "same" padding, windows begin in the padding as they do
    in pooling; a value whose position lies in the padding, or beyond the size
    to restore, goes nowhere. A larger size (pooling dropped a rest) gets
    zeros. The gradient is read at the position.

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
    """Put each value of a volume on one cell of its window; zero elsewhere.

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
