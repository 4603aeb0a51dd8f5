"""Max unpooling layers, which put values where pooling found its maxima."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes, ops
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers._base import UnpoolLayer

__all__ = ["MaxUnpool1D", "MaxUnpool2D", "MaxUnpool3D"]


class MaxUnpool(UnpoolLayer):
    """Base class of `MaxUnpool1D`, `2D` and `3D`."""

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
        # With a spec, Keras would count a pair as two inputs and raise its own
        # error before `_check_call`.
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
                "`values` and `argmax` must be passed as two arguments: "
                "unpool(values, argmax), or unpool(*pool(inputs)) to unpack "
                "the pair from a pooling layer. Received: "
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
    """Max unpooling of sequences, which reverses `MaxPoolWithArgmax1D`.

    The layer puts each value at the step where the pooling found its maximum;
    all other steps are 0. The values usually come from the decoder, and the
    index from the encoder stage of the same size. The decoder thus recovers the
    exact positions of the maxima, at the cost of one byte per window.

    Several input sizes pool to the same size: 45 and 46 steps both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    References: Zeiler and Fergus, 2014, "Visualizing and understanding
    convolutional networks", section 2.1, https://arxiv.org/abs/1311.2901; Noh,
    Hong and Han, 2015, "Learning deconvolution network for semantic
    segmentation", section 3.2, https://arxiv.org/abs/1505.04366. Both unpool
    images.

    Args:
        pool_size: int or tuple of 1 int >= 1. Window length of the pooling
            layer, at most 4096 steps. The default is 2.
        strides: None, int or tuple of 1 int >= 1. Strides of the pooling layer;
            at most 4096. None means `pool_size`.
        padding: "valid" or "same". Padding of the pooling layer.
        output_size: None, int or tuple of 1 int >= 1. Number of steps to
            restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index:
            "window" is the position inside the window, as `MaxPoolWithArgmax1D`
            returns it by default.
            "flat" is `step * channels + channel` within one sequence.
            "plane" is `step` within one channel, as PyTorch returns it.
            "flat" and "plane" depend only on the size to restore, not on the
            windows. The layer therefore accepts an index from TensorFlow,
            PyTorch or Caffe with any padding.
        overlap: "sum" or "mean". How to combine values that land on the same
            step, which happens only if `strides` is smaller than `pool_size`.
            "sum" is the exact adjoint of pooling. With "mean", unpooling the
            pooled values restores each maximum.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
        argmax: Integer tensor with the shape of `values`: the index that the
            pooling layer returned.
        like: Optional tensor with the number of steps to restore, usually the
            tensor that was pooled. Sizes may be unknown. Its values and its
            channels are not used.

    Input shape:
        `(batch, steps, channels)`, or `(batch, channels, steps)` with
        `data_format="channels_first"`. Each size may be None.

    Output shape:
        `(batch, new_steps, channels)`, where the new size is that of `like` or
        `output_size`. Without them it is `(size - 1) * strides + pool_size` for
        "valid" and `size * strides` for "same". With "channels_first" the
        channels are the second axis.

    Returns:
        A tensor in the compute dtype of the layer for float `values`, and in
        the dtype of `values` for integers.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            1 int >= 1, or has more than 4096 steps.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 1
            int >= 1.
        ValueError: If `padding`, `data_format`, `index_format` or `overlap` is
            not one of the values above.
        ValueError: If `values` and `argmax` are not passed as two arguments.
        ValueError: If `values` does not have rank 3, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If `values` and `argmax` have different shapes, or `argmax`
            does not have an integer dtype.
        ValueError: If `index_format="window"` and the size to restore does not
            pool to the size of `values`.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If `overlap="mean"` and `values` has an integer dtype.
        ValueError: If an index points outside its window or outside the size to
            restore. Only eager calls on the CPU check this.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        ValueError: If `predict` or an export uses a "flat" or "plane" index on
            the OpenVINO backend.
        ValueError: If a model with an unknown number of steps is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If shapes differ, or a size does not
            pool to the size of `values`, in a TensorFlow graph built for
            unknown sizes.

    Edge cases:
        Compiled functions, and therefore `fit` and `predict`, do not check the
        values of the index, and neither do calls on a GPU: the check would read
        the whole index once more. There, a value whose index points outside its
        window or outside the size to restore is dropped, and its gradient is 0.
        The same holds for a window index that points into padding. Values are
        never written to a wrong place.

        The gradient of a value is the gradient at the step that its index
        names. With `overlap="mean"` it is divided by the number of values at
        that step. Both hold for NaN and infinity too. The index and `like` do
        not have gradients.

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
    """Max unpooling of images, which reverses `MaxPoolWithArgmax2D`.

    The layer puts each value at the pixel where the pooling found its maximum;
    all other pixels are 0. The values usually come from the decoder, and the
    index from the encoder stage of the same size. The decoder thus recovers the
    exact positions of the maxima, at the cost of one byte per window.

    Several input sizes pool to the same size: 45 and 46 rows both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    References: Zeiler and Fergus, 2014, "Visualizing and understanding
    convolutional networks", section 2.1, https://arxiv.org/abs/1311.2901; Noh,
    Hong and Han, 2015, "Learning deconvolution network for semantic
    segmentation", section 3.2, https://arxiv.org/abs/1505.04366.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Window height and width of the
            pooling layer, at most 4096 pixels in all. The default is 2.
        strides: None, int or tuple of 2 ints >= 1. Strides of the pooling
            layer; their product is at most 4096. None means `pool_size`.
        padding: "valid" or "same". Padding of the pooling layer.
        output_size: None, int or tuple of 2 ints >= 1. Height and width to
            restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index:
            "window" is the position inside the window, as `MaxPoolWithArgmax2D`
            returns it by default.
            "flat" is `(row * width + column) * channels + channel` within one
            image, as `tf.nn.max_pool_with_argmax` returns it.
            "plane" is `row * width + column` within one channel, as PyTorch
            returns it.
            "flat" and "plane" depend only on the size to restore, not on the
            windows. The layer therefore accepts an index from TensorFlow,
            PyTorch or Caffe with any padding.
        overlap: "sum" or "mean". How to combine values that land on the same
            pixel, which happens only if `strides` is smaller than `pool_size`.
            "sum" is the exact adjoint of pooling. With "mean", unpooling the
            pooled values restores each maximum.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
        argmax: Integer tensor with the shape of `values`: the index that the
            pooling layer returned.
        like: Optional tensor with the height and width to restore, usually the
            tensor that was pooled. Sizes may be unknown. Its values and its
            channels are not used.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` with `data_format="channels_first"`.
        Each size may be None.

    Output shape:
        `(batch, new_height, new_width, channels)`, where the new size is that
        of `like` or `output_size`. Without them it is
        `(size - 1) * strides + pool_size` for "valid" and `size * strides` for
        "same". With "channels_first" the channels are the second axis.

    Returns:
        A tensor in the compute dtype of the layer for float `values`, and in
        the dtype of `values` for integers.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            2 ints >= 1, or has more than 4096 pixels in all.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 2
            ints >= 1.
        ValueError: If `padding`, `data_format`, `index_format` or `overlap` is
            not one of the values above.
        ValueError: If `values` and `argmax` are not passed as two arguments.
        ValueError: If `values` does not have rank 4, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If `values` and `argmax` have different shapes, or `argmax`
            does not have an integer dtype.
        ValueError: If `index_format="window"` and the size to restore does not
            pool to the size of `values`.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If `overlap="mean"` and `values` has an integer dtype.
        ValueError: If an index points outside its window or outside the size to
            restore. Only eager calls on the CPU check this.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        ValueError: If `predict` or an export uses a "flat" or "plane" index on
            the OpenVINO backend.
        ValueError: If a model with an unknown height or width is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If shapes differ, or a size does not
            pool to the size of `values`, in a TensorFlow graph built for
            unknown sizes.

    Edge cases:
        Compiled functions, and therefore `fit` and `predict`, do not check the
        values of the index, and neither do calls on a GPU: the check would read
        the whole index once more. There, a value whose index points outside its
        window or outside the size to restore is dropped, and its gradient is 0.
        The same holds for a window index that points into padding. Values are
        never written to a wrong place.

        The gradient of a value is the gradient at the pixel that its index
        names. With `overlap="mean"` it is divided by the number of values at
        that pixel. Both hold for NaN and infinity too. The index and `like` do
        not have gradients.

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
    """Max unpooling of volumes, which reverses `MaxPoolWithArgmax3D`.

    The layer puts each value at the voxel where the pooling found its maximum;
    all other voxels are 0. The values usually come from the decoder, and the
    index from the encoder stage of the same size. The decoder thus recovers the
    exact positions of the maxima, at the cost of one byte per window.

    Several input sizes pool to the same size: 45 and 46 rows both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    References: Zeiler and Fergus, 2014, "Visualizing and understanding
    convolutional networks", section 2.1, https://arxiv.org/abs/1311.2901; Noh,
    Hong and Han, 2015, "Learning deconvolution network for semantic
    segmentation", section 3.2, https://arxiv.org/abs/1505.04366. Both unpool
    images.

    Args:
        pool_size: int or tuple of 3 ints >= 1. Window depth, height and width
            of the pooling layer, at most 4096 voxels in all. The default is 2.
        strides: None, int or tuple of 3 ints >= 1. Strides of the pooling
            layer; their product is at most 4096. None means `pool_size`.
        padding: "valid" or "same". Padding of the pooling layer.
        output_size: None, int or tuple of 3 ints >= 1. Depth, height and width
            to restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index:
            "window" is the position inside the window, as `MaxPoolWithArgmax3D`
            returns it by default.
            "flat" is `((slice * height + row) * width + column) * channels +
            channel` within one volume.
            "plane" is `(slice * height + row) * width + column` within one
            channel, as PyTorch returns it.
            "flat" and "plane" depend only on the size to restore, not on the
            windows. The layer therefore accepts an index from TensorFlow,
            PyTorch or Caffe with any padding.
        overlap: "sum" or "mean". How to combine values that land on the same
            voxel, which happens only if `strides` is smaller than `pool_size`.
            "sum" is the exact adjoint of pooling. With "mean", unpooling the
            pooled values restores each maximum.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
        argmax: Integer tensor with the shape of `values`: the index that the
            pooling layer returned.
        like: Optional tensor with the depth, height and width to restore,
            usually the tensor that was pooled. Sizes may be unknown. Its values
            and its channels are not used.

    Input shape:
        `(batch, depth, height, width, channels)`, or
        `(batch, channels, depth, height, width)` with
        `data_format="channels_first"`. Each size may be None.

    Output shape:
        `(batch, new_depth, new_height, new_width, channels)`, where the new
        size is that of `like` or `output_size`. Without them it is
        `(size - 1) * strides + pool_size` for "valid" and `size * strides` for
        "same". With "channels_first" the channels are the second axis.

    Returns:
        A tensor in the compute dtype of the layer for float `values`, and in
        the dtype of `values` for integers.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            3 ints >= 1, or has more than 4096 voxels in all.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 3
            ints >= 1.
        ValueError: If `padding`, `data_format`, `index_format` or `overlap` is
            not one of the values above.
        ValueError: If `values` and `argmax` are not passed as two arguments.
        ValueError: If `values` does not have rank 5, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If `values` and `argmax` have different shapes, or `argmax`
            does not have an integer dtype.
        ValueError: If `index_format="window"` and the size to restore does not
            pool to the size of `values`.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If `overlap="mean"` and `values` has an integer dtype.
        ValueError: If an index points outside its window or outside the size to
            restore. Only eager calls on the CPU check this.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        ValueError: If `predict` or an export uses a "flat" or "plane" index on
            the OpenVINO backend.
        ValueError: If a model with an unknown depth, height or width is
            exported from the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If shapes differ, or a size does not
            pool to the size of `values`, in a TensorFlow graph built for
            unknown sizes.

    Edge cases:
        Compiled functions, and therefore `fit` and `predict`, do not check the
        values of the index, and neither do calls on a GPU: the check would read
        the whole index once more. There, a value whose index points outside its
        window or outside the size to restore is dropped, and its gradient is 0.
        The same holds for a window index that points into padding. Values are
        never written to a wrong place.

        The gradient of a value is the gradient at the voxel that its index
        names. With `overlap="mean"` it is divided by the number of values at
        that voxel. Both hold for NaN and infinity too. The index and `like` do
        not have gradients.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.full((1, 1, 1, 1, 1), 7.0, "float32")
        >>> argmax = np.full((1, 1, 1, 1, 1), 6, "uint8")
        >>> y = keras_deconv.MaxUnpool3D()(values, argmax)
        >>> np.ravel(y).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0]
    """

    num_spatial_dims = 3
