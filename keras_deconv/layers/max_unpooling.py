"""Max unpooling: values go back where pooling found its maxima."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes, ops
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers._base import UnpoolLayer

__all__ = ["MaxUnpool1D", "MaxUnpool2D", "MaxUnpool3D"]


class MaxUnpool(UnpoolLayer):
    """Family of `MaxUnpool1D`, `2D` and `3D`."""

    def __init__(
        self,
        pool_size: IntOrInts = 2,
        strides: IntOrInts | None = None,
        padding: str = "valid",
        output_size: IntOrInts | None = None,
        data_format: str | None = None,
        index_format: str = "window",
        overlap: str = "sum",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, output_size, data_format, **kwargs
        )
        self.index_format = _arguments.index_format(index_format)
        self.overlap = _arguments.overlap(overlap)
        # Keras would count a pair as two inputs; see `_check_call`.
        self.input_spec = None

    def call(self, values: Any, argmax: Any = None, like: Any = None) -> Any:
        self._check_call(values, argmax)
        self._check_traced_sizes()
        return ops.max_unpool(
            values,
            argmax,
            *self._window,
            self.output_size,
            like,
            self.data_format,
            self.index_format,
            self.overlap,
        )

    def compute_output_shape(
        self, values_shape: Any, argmax_shape: Any, like_shape: Any = None
    ) -> tuple:
        size = self._spatial_size(values_shape)
        target = self._restored_size(values_shape, like_shape)
        if self.index_format == "window":
            _shapes.check_unpooled_size(target, size, *self._window)
        return self._with_spatial_size(values_shape, target)

    def compute_output_spec(
        self, values: Any, argmax: Any = None, like: Any = None
    ) -> keras.KerasTensor:
        self._check_call(values, argmax)
        self._require_tensors(values, argmax, like)
        _arguments.check_overlap_dtype(self.overlap, values.dtype)
        _arguments.check_argmax(values.shape, argmax.shape, argmax.dtype)
        shape = self.compute_output_shape(
            values.shape, argmax.shape, None if like is None else like.shape
        )
        return keras.KerasTensor(shape, self._output_dtype(values))

    def _check_call(self, values: Any, argmax: Any) -> None:
        if argmax is None or isinstance(values, list | tuple):
            raise ValueError(
                "Unpooling takes the values and the index as two arguments: "
                "unpool(values, argmax), or unpool(*pool(inputs)) for what a "
                "pooling layer returns. Received: "
                f"{type(values).__name__} and {type(argmax).__name__}"
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "index_format": self.index_format,
            "overlap": self.overlap,
        }


@keras.saving.register_keras_serializable("keras_deconv")
class MaxUnpool1D(MaxUnpool):
    """Put values back where `MaxPoolWithArgmax1D` found its maxima.

    Tensors are `(batch, steps, channels)`, or `(batch, channels, steps)` with
    `data_format="channels_first"`. Arguments, sizes and edge cases are those
    of `MaxUnpool2D`, with one int per tuple.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([9.0, 4.0], "float32").reshape(1, 2, 1)
        >>> argmax = np.array([1, 0], "uint8").reshape(1, 2, 1)
        >>> y = keras_deconv.MaxUnpool1D()(values, argmax)
        >>> np.ravel(y).tolist()
        [0.0, 9.0, 4.0, 0.0]
    """

    num_spatial_dims = 1


@keras.saving.register_keras_serializable("keras_deconv")
class MaxUnpool2D(MaxUnpool):
    """Put values back where `MaxPoolWithArgmax2D` found its maxima.

    All other cells are 0. The values usually come from a decoder and the
    index from the encoder stage of the same size, so that fine positions
    survive the pooling at the price of one byte per window.

    Several input sizes pool to one size: 45 and 46 rows both give 23 (strides
    of 2, "same"). Without more, the size that windows cover exactly is
    restored, here 46. Give the tensor that was pooled as `like`, or its size
    as `output_size`, and the result has just that size.

    References: Zeiler and Fergus, 2014, "Visualizing and understanding
    convolutional networks", section 2.1, https://arxiv.org/abs/1311.2901;
    Noh, Hong and Han, 2015, "Learning deconvolution network for semantic
    segmentation", section 3.2, https://arxiv.org/abs/1505.04366.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Window of the pooling that
            made the index; at most 4096 pixels in all. Default 2.
        strides: Its strides: int, tuple of 2 ints >= 1, or None for
            `pool_size`.
        padding: Its padding: "valid" or "same".
        output_size: int or tuple of 2 ints >= 1, or None. Height and width
            to restore.
        data_format: "channels_last", "channels_first" or None for the one of
            the Keras configuration.
        index_format: What the index counts: "window", "flat" or "plane", as
            in `MaxPoolWithArgmax2D`. With "flat" and "plane" the size to
            restore alone counts, so that indices come in unchanged from
            TensorFlow, PyTorch or Caffe, whatever their padding was.
        overlap: What happens where several windows chose the same cell, as
            they can if strides are smaller than the window: "sum" (the exact
            adjoint of pooling) or "mean" (unpooling what was pooled gives
            each maximum back).
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        values: Tensor of any float or integer dtype.
        argmax: Integer tensor of the same shape.
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
        ValueError: At construction, an argument breaks its rule. At call,
            shapes of values and index differ, the index is not of an integer
            dtype, the size does not pool to the size of the values, or an
            index points outside where that can be seen (eager calls on
            the CPU).
        tf.errors.InvalidArgumentError: In a TensorFlow graph that did not know
            the sizes before, shapes differ or a size does not pool to the size
            of the values.

    Edge cases: the gradient of each value is read at its index, and with
    `overlap="mean"` divided by the number of values on that cell, whatever the
    values are, NaN and infinity included; neither the index nor `like` has
    one. Compiled functions, and so `fit` and `predict`, check the shape of the
    index but not its values, nor do calls on a GPU: that would be another pass
    over the index. There, an index in any format that points outside (its
    window, or the size that is restored) drops its value, whose gradient is 0.
    Nothing is written elsewhere. So does a window index that points into
    padding.

    Example:
        >>> import numpy as np, keras_deconv
        >>> x = np.arange(9, dtype="float32").reshape(1, 3, 3, 1)
        >>> pool = keras_deconv.MaxPoolWithArgmax2D(padding="same")
        >>> unpool = keras_deconv.MaxUnpool2D(padding="same")
        >>> pooled, argmax = pool(x)
        >>> np.squeeze(unpool(pooled, argmax, like=x)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 4.0, 5.0], [0.0, 7.0, 8.0]]
        >>> tuple(unpool(pooled, argmax).shape)
        (1, 4, 4, 1)
    """

    num_spatial_dims = 2


@keras.saving.register_keras_serializable("keras_deconv")
class MaxUnpool3D(MaxUnpool):
    """Put values back where `MaxPoolWithArgmax3D` found its maxima.

    Tensors are `(batch, depth, height, width, channels)`, or `(batch,
    channels, depth, height, width)` with `data_format="channels_first"`.
    Arguments, sizes and edge cases are those of `MaxUnpool2D`, with three
    ints per tuple.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.full((1, 1, 1, 1, 1), 7.0, "float32")
        >>> argmax = np.full((1, 1, 1, 1, 1), 6, "uint8")
        >>> y = keras_deconv.MaxUnpool3D()(values, argmax)
        >>> np.ravel(y).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0]
    """

    num_spatial_dims = 3
