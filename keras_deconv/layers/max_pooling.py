"""Max pooling layers that also return the index of each maximum."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes, ops
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers._base import WindowLayer

__all__ = ["MaxPoolWithArgmax1D", "MaxPoolWithArgmax2D", "MaxPoolWithArgmax3D"]


class MaxPoolWithArgmax(WindowLayer):
    """Base class of `MaxPoolWithArgmax1D`, `2D` and `3D`."""

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
    """Max pooling of sequences that also returns the index of each maximum.

    Use this layer in an encoder, and `MaxUnpool1D` at the same depth of the
    decoder. The index tells the unpooling layer where to put each value, as in
    SegNet and DeconvNet. The maxima equal those of `keras.layers.MaxPooling1D`,
    except for NaN (see the edge cases).

    By default, the index is the position inside the window. It takes one byte
    per window and cannot point outside the window.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation",
    section 3, https://arxiv.org/abs/1511.00561. The paper pools images. It
    stores the position in the feature map instead.

    Args:
        pool_size: int or tuple of 1 int >= 1. Window length in steps, at most
            4096 steps. The steps of a window are compared one by one. The
            default is 2.
        strides: None, int or tuple of 1 int >= 1. Distance between windows in
            steps; at most 4096. None means `pool_size`.
        padding: "valid" or "same". With "valid", windows lie inside the input,
            and steps left over at the end are dropped. With "same", windows
            cover the whole input; padding is never the maximum. Caffe rounds
            sizes up, which is the same as "same" for a window and strides of 2.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index, which
            counts from 0:
            "window" is the position inside the window, in uint8 (int32 for
            windows of more than 256 steps).
            "flat" is `step * channels + channel` within one sequence, in int64.
            "plane" is `step` within one channel, in int64, as PyTorch returns
            it.
            "flat" and "plane" refer to the input without padding. On JAX they
            are int32 unless `jax_enable_x64` is set.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        inputs: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.

    Input shape:
        `(batch, steps, channels)`, or `(batch, channels, steps)` with
        `data_format="channels_first"`. Each size may be None.

    Output shape:
        Two tensors of shape `(batch, new_steps, channels)`, where
        `new = (size - pool_size) // strides + 1` for "valid" and
        `new = ceil(size / strides)` for "same". With "channels_first" the
        channels are the second axis.

    Returns:
        The pair `(pooled, argmax)`. `pooled` holds the maxima, in the compute
        dtype of the layer for float inputs and in the dtype of the inputs for
        integers. `argmax` holds the integer index of each maximum.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            1 int >= 1, or has more than 4096 steps.
        ValueError: If `padding`, `data_format` or `index_format` is not one of
            the values above.
        ValueError: If `inputs` does not have rank 3, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If the inputs are shorter than the window and
            `padding="valid"`.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        ValueError: If a model with an unknown number of steps is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If the inputs are smaller than a window,
            in a TensorFlow graph built for unknown sizes.

    Edge cases:
        If several steps of a window hold the maximum, the index is that of the
        first one, as in Caffe, PyTorch and TensorFlow on CPUs. After a ReLU,
        many windows hold only zeros; their index is that of the first step.

        -inf is treated like any other number. A window with NaN returns NaN,
        and its index is that of the first step that is NaN or +inf. PyTorch
        returns the index of the last NaN. `keras.ops.max_pool` also returns NaN
        on JAX and PyTorch, but loses some NaN on TensorFlow.

        The gradient of a maximum goes only to the step that its index names,
        even if the window holds NaN or infinity. The index does not have a
        gradient.

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
    """Max pooling of images that also returns the index of each maximum.

    Use this layer in an encoder, and `MaxUnpool2D` at the same depth of the
    decoder. The index tells the unpooling layer where to put each value, as in
    SegNet and DeconvNet. The maxima equal those of `keras.layers.MaxPooling2D`,
    except for NaN (see the edge cases).

    By default, the index is the position inside the window. It takes one byte
    per window and cannot point outside the window.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation",
    section 3, https://arxiv.org/abs/1511.00561. The paper stores the position
    in the feature map instead.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Window height and width in
            pixels, at most 4096 pixels in all, such as 64x64. The pixels of a
            window are compared one by one. The default is 2.
        strides: None, int or tuple of 2 ints >= 1. Distance between windows in
            pixels; their product is at most 4096. None means `pool_size`.
        padding: "valid" or "same". With "valid", windows lie inside the input,
            and pixels left over at the end are dropped. With "same", windows
            cover the whole input; padding is never the maximum. Caffe rounds
            sizes up, which is the same as "same" for a window and strides of 2.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index, which
            counts from 0 in row-major order:
            "window" is the position inside the window, in uint8 (int32 for
            windows of more than 256 pixels).
            "flat" is `(row * width + column) * channels + channel` within one
            image, in int64, as `tf.nn.max_pool_with_argmax` returns it.
            "plane" is `row * width + column` within one channel, in int64, as
            PyTorch returns it.
            "flat" and "plane" refer to the input without padding. On JAX they
            are int32 unless `jax_enable_x64` is set.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        inputs: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` with `data_format="channels_first"`.
        Each size may be None.

    Output shape:
        Two tensors of shape `(batch, new_height, new_width, channels)`, where
        `new = (size - pool_size) // strides + 1` for "valid" and
        `new = ceil(size / strides)` for "same". With "channels_first" the
        channels are the second axis.

    Returns:
        The pair `(pooled, argmax)`. `pooled` holds the maxima, in the compute
        dtype of the layer for float inputs and in the dtype of the inputs for
        integers. `argmax` holds the integer index of each maximum.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            2 ints >= 1, or has more than 4096 pixels in all.
        ValueError: If `padding`, `data_format` or `index_format` is not one of
            the values above.
        ValueError: If `inputs` does not have rank 4, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If an axis of the inputs is shorter than the window and
            `padding="valid"`.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        ValueError: If a model with an unknown height or width is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If the inputs are smaller than a window,
            in a TensorFlow graph built for unknown sizes.

    Edge cases:
        If several pixels of a window hold the maximum, the index is that of the
        first one in row-major order, as in Caffe, PyTorch and TensorFlow on
        CPUs. After a ReLU, many windows hold only zeros; their index is that of
        the first pixel.

        -inf is treated like any other number. A window with NaN returns NaN,
        and its index is that of the first pixel that is NaN or +inf. PyTorch
        returns the index of the last NaN. `keras.ops.max_pool` also returns NaN
        on JAX and PyTorch, but loses some NaN on TensorFlow.

        The gradient of a maximum goes only to the pixel that its index names,
        even if the window holds NaN or infinity. The index does not have a
        gradient.

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
    """Max pooling of volumes that also returns the index of each maximum.

    Use this layer in an encoder, and `MaxUnpool3D` at the same depth of the
    decoder. The index tells the unpooling layer where to put each value, as in
    SegNet and DeconvNet. The maxima equal those of `keras.layers.MaxPooling3D`,
    except for NaN (see the edge cases).

    By default, the index is the position inside the window. It takes one byte
    per window and cannot point outside the window.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation",
    section 3, https://arxiv.org/abs/1511.00561. The paper pools images. It
    stores the position in the feature map instead.

    Args:
        pool_size: int or tuple of 3 ints >= 1. Window depth, height and width
            in voxels, at most 4096 voxels in all, such as 16x16x16. The voxels
            of a window are compared one by one. The default is 2.
        strides: None, int or tuple of 3 ints >= 1. Distance between windows in
            voxels; their product is at most 4096. None means `pool_size`.
        padding: "valid" or "same". With "valid", windows lie inside the input,
            and voxels left over at the end are dropped. With "same", windows
            cover the whole input; padding is never the maximum. Caffe rounds
            sizes up, which is the same as "same" for a window and strides of 2.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index, which
            counts from 0 in row-major order:
            "window" is the position inside the window, in uint8 (int32 for
            windows of more than 256 voxels).
            "flat" is `((slice * height + row) * width + column) * channels +
            channel` within one volume, in int64.
            "plane" is `(slice * height + row) * width + column` within one
            channel, in int64, as PyTorch returns it.
            "flat" and "plane" refer to the input without padding. On JAX they
            are int32 unless `jax_enable_x64` is set.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        inputs: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.

    Input shape:
        `(batch, depth, height, width, channels)`, or
        `(batch, channels, depth, height, width)` with
        `data_format="channels_first"`. Each size may be None.

    Output shape:
        Two tensors of shape
        `(batch, new_depth, new_height, new_width, channels)`, where
        `new = (size - pool_size) // strides + 1` for "valid" and
        `new = ceil(size / strides)` for "same". With "channels_first" the
        channels are the second axis.

    Returns:
        The pair `(pooled, argmax)`. `pooled` holds the maxima, in the compute
        dtype of the layer for float inputs and in the dtype of the inputs for
        integers. `argmax` holds the integer index of each maximum.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            3 ints >= 1, or has more than 4096 voxels in all.
        ValueError: If `padding`, `data_format` or `index_format` is not one of
            the values above.
        ValueError: If `inputs` does not have rank 5, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If an axis of the inputs is shorter than the window and
            `padding="valid"`.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        ValueError: If a model with an unknown depth, height or width is
            exported from the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If the inputs are smaller than a window,
            in a TensorFlow graph built for unknown sizes.

    Edge cases:
        If several voxels of a window hold the maximum, the index is that of the
        first one in row-major order, as in Caffe, PyTorch and TensorFlow on
        CPUs. After a ReLU, many windows hold only zeros; their index is that of
        the first voxel.

        -inf is treated like any other number. A window with NaN returns NaN,
        and its index is that of the first voxel that is NaN or +inf. PyTorch
        returns the index of the last NaN. `keras.ops.max_pool` also returns NaN
        on JAX and PyTorch, but loses some NaN on TensorFlow.

        The gradient of a maximum goes only to the voxel that its index names,
        even if the window holds NaN or infinity. The index does not have a
        gradient.

    Example:
        >>> import numpy as np, keras_deconv
        >>> x = np.arange(8, dtype="float32").reshape(1, 2, 2, 2, 1)
        >>> pooled, argmax = keras_deconv.MaxPoolWithArgmax3D()(x)
        >>> np.ravel(pooled).tolist(), np.ravel(argmax).tolist()
        ([7.0], [7])
    """

    num_spatial_dims = 3
