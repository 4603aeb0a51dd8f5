"""Max pooling that returns the index of each maximum."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes, ops
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers._base import WindowLayer

__all__ = ["MaxPoolWithArgmax1D", "MaxPoolWithArgmax2D", "MaxPoolWithArgmax3D"]


class MaxPoolWithArgmax(WindowLayer):
    """Family of `MaxPoolWithArgmax1D`, `2D` and `3D`."""

    def __init__(
        self,
        pool_size: IntOrInts = 2,
        strides: IntOrInts | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        index_format: str = "window",
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.index_format = _arguments.index_format(index_format)

    def call(self, inputs: Any) -> tuple[Any, Any]:
        self._check_traced_sizes()
        return ops.max_pool_with_argmax(
            inputs, *self._window, self.data_format, self.index_format
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[tuple, tuple]:
        size = _shapes.pooled_size(
            self._spatial_size(input_shape), *self._window
        )
        shape = self._with_spatial_size(input_shape, size)
        return shape, shape

    def compute_output_spec(
        self, inputs: Any
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        _arguments.check_number_dtype(inputs.dtype, "inputs")
        self._require_tensors(inputs)
        # Keras would give both outputs the compute dtype.
        pooled_shape, argmax_shape = self.compute_output_shape(inputs.shape)
        argmax_dtype = _arguments.argmax_dtype(
            self.pool_size, self.index_format
        )
        return (
            keras.KerasTensor(pooled_shape, self._output_dtype(inputs)),
            keras.KerasTensor(argmax_shape, argmax_dtype),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index_format": self.index_format}


@keras.saving.register_keras_serializable("keras_deconv")
class MaxPoolWithArgmax1D(MaxPoolWithArgmax):
    """Max pooling of sequences that returns the index of each maximum.

    Input and outputs are `(batch, steps, channels)`, or `(batch, channels,
    steps)` with `data_format="channels_first"`. Arguments, index formats and
    edge cases are those of `MaxPoolWithArgmax2D`, with one int per tuple.

    Example:
        >>> import numpy as np, keras_deconv
        >>> x = np.array([3, 9, 4, 1], "float32").reshape(1, 4, 1)
        >>> pooled, argmax = keras_deconv.MaxPoolWithArgmax1D()(x)
        >>> np.ravel(pooled).tolist(), np.ravel(argmax).tolist()
        ([9.0, 4.0], [1, 0])
    """

    num_spatial_dims = 1


@keras.saving.register_keras_serializable("keras_deconv")
class MaxPoolWithArgmax2D(MaxPoolWithArgmax):
    """Max pooling of images that returns the index of each maximum.

    The maxima are those of `keras.layers.MaxPooling2D`. The index is what
    `MaxUnpool2D` needs to put values back where the maxima were: the encoder
    half of SegNet and DeconvNet.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation",
    section 3, https://arxiv.org/abs/1511.00561. There the index is kept as a
    position in the feature map; here it is, by default, one inside the
    window, which is smaller and cannot point outside.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Window height and width in
            pixels; at most 4096 pixels in all, such as 64x64, since they are
            compared one by one. Default 2.
        strides: int, tuple of 2 ints >= 1, or None for `pool_size`. Their
            product is at most 4096.
        padding: "valid" (windows lie inside the input; what is left over at
            the end is dropped) or "same" (windows cover all of it; padding
            never wins). Caffe, which rounds sizes up, is "same" for a window
            of 2 and strides of 2.
        data_format: "channels_last", "channels_first" or None for the one of
            the Keras configuration.
        index_format: What the index counts, row by row from 0.
            "window": the position inside the window, uint8 (int32 if the
            window has more than 256 cells).
            "flat": `(row * width + column) * channels + channel` within one
            image, int64, as `tf.nn.max_pool_with_argmax` returns.
            "plane": `row * width + column` within one channel, int64, as
            PyTorch returns. Rows, columns and width are the input's, never a
            padded input's.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        inputs: Tensor of any float or integer dtype.

    Input shape:
        `(batch, height, width, channels)`; any of them may be None.

    Output shape:
        Twice `(batch, new_height, new_width, channels)`, where
        `new = (size - pool_size) // strides + 1` for "valid" and
        `new = ceil(size / strides)` for "same".

    Returns:
        The pair `(pooled, argmax)`: the maxima in the dtype of the inputs
        (half precision under a mixed policy), and their integer index.

    Raises:
        ValueError: At construction, an argument breaks its rule. At call,
            the inputs have another rank, hold neither floats nor integers, or
            are smaller than one "valid" window.
        tf.errors.InvalidArgumentError: In a TensorFlow graph that did not know
            the sizes before, the inputs are smaller than one "valid" window.

    Edge cases: of equal maxima the first in row-major order is taken, as in
    Caffe, PyTorch and TensorFlow on CPUs; after a ReLU many windows are all
    zero and point to their first cell. -inf is a number like others. A window
    with NaN gives NaN and points to it (to the first one, if several, where
    PyTorch points to the last; or to +inf, if that comes before).
    `keras.ops.max_pool` gives NaN too on JAX and PyTorch, while on TensorFlow
    it drops some NaN. The gradient goes to the cell of the index alone,
    whatever the values are: a window with NaN or infinity hands its gradient
    to the cell that its index names. The index has no gradient.

    Example:
        >>> import numpy as np, keras_deconv
        >>> x = np.array([[1, 9, 2, 2],
        ...               [3, 4, 2, 8]], "float32").reshape(1, 2, 4, 1)
        >>> pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(x)
        >>> np.squeeze(pooled).tolist()
        [9.0, 8.0]
        >>> np.squeeze(argmax).tolist()  # 0 1 above 2 3
        [1, 3]
        >>> y = keras_deconv.MaxUnpool2D()(pooled, argmax)
        >>> np.squeeze(y).tolist()
        [[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 8.0]]
    """

    num_spatial_dims = 2


@keras.saving.register_keras_serializable("keras_deconv")
class MaxPoolWithArgmax3D(MaxPoolWithArgmax):
    """Max pooling of volumes that returns the index of each maximum.

    Input and outputs are `(batch, depth, height, width, channels)`, or
    `(batch, channels, depth, height, width)` with
    `data_format="channels_first"`. Arguments, index formats and edge cases
    are those of `MaxPoolWithArgmax2D`, with three ints per tuple; rows of a
    plane follow each other, then planes.

    Example:
        >>> import numpy as np, keras_deconv
        >>> x = np.arange(8, dtype="float32").reshape(1, 2, 2, 2, 1)
        >>> pooled, argmax = keras_deconv.MaxPoolWithArgmax3D()(x)
        >>> np.ravel(pooled).tolist(), np.ravel(argmax).tolist()
        ([7.0], [7])
    """

    num_spatial_dims = 3
