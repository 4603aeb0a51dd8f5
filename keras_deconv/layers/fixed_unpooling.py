"""Unpooling without an index: nearest neighbor and bed of nails."""

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
    """Base class of the unpooling layers that do not need an index."""

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
        if "size" in config:  # Files written before version 0.1.
            config["pool_size"] = config.pop("size")
        return cls(**config)


class NearestUnpool(FixedUnpool):
    """Base class of `NearestUnpool1D`, `2D` and `3D`."""

    _takes_any_strides = False

    def call(self, values: Any, like: Any = None) -> Any:
        self._check_traced_sizes()
        return ops.nearest_unpool(
            values, *self._window, self.output_size, like, self.data_format
        )


class BedOfNailsUnpool(FixedUnpool):
    """Base class of `BedOfNailsUnpool1D`, `2D` and `3D`."""

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
    """Nearest-neighbor unpooling of sequences: each value fills its window.

    This is the simplest way to undo pooling: it does not need an index. The
    result equals `keras.layers.UpSampling1D` if the size is a multiple of
    `pool_size`. This layer can also restore sizes that are not.

    Several input sizes pool to the same size: 45 and 46 steps both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928. The paper compares it with bed-of-nails
    unpooling of images.

    Args:
        pool_size: int or tuple of 1 int >= 1. Window length that one value
            fills, at most 16,384 steps. The default is 2.
        strides: None, or the same as `pool_size`, so that windows do not
            overlap or leave gaps.
        padding: "valid" or "same". Padding of the pooling layer that is undone.
        output_size: None, int or tuple of 1 int >= 1. Number of steps to
            restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
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
            1 int >= 1, or has more than 16,384 steps.
        ValueError: If `strides` is neither None nor `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 1
            int >= 1.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` does not have rank 3, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If a model with an unknown number of steps is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. The first window may therefore be cut. A size to restore that
        is smaller than the default cuts the last window. A larger size, where
        pooling dropped steps at the end, repeats the last value.

        The gradient of a value is the sum over its window.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 2, 1)
        >>> np.ravel(keras_deconv.NearestUnpool1D()(values)).tolist()
        [5.0, 5.0, 7.0, 7.0]
    """

    num_spatial_dims = 1


@keras.saving.register_keras_serializable("keras_deconv")
class NearestUnpool2D(NearestUnpool):
    """Nearest-neighbor unpooling of images: each value fills its window.

    This is the simplest way to undo pooling: it does not need an index. The
    result equals `keras.layers.UpSampling2D` with `interpolation="nearest"` if
    the size is a multiple of `pool_size`. This layer can also restore sizes
    that are not.

    Several input sizes pool to the same size: 45 and 46 rows both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928. The paper compares it with bed-of-nails
    unpooling.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Window height and width that one
            value fills, at most 16,384 pixels in all. The default is 2.
        strides: None, or the same as `pool_size`, so that windows do not
            overlap or leave gaps.
        padding: "valid" or "same". Padding of the pooling layer that is undone.
        output_size: None, int or tuple of 2 ints >= 1. Height and width to
            restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
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
            2 ints >= 1, or has more than 16,384 pixels in all.
        ValueError: If `strides` is neither None nor `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 2
            ints >= 1.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` does not have rank 4, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If a model with an unknown height or width is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. The first window may therefore be cut. A size to restore that
        is smaller than the default cuts the last window. A larger size, where
        pooling dropped pixels at the end, repeats the last value.

        The gradient of a value is the sum over its window.

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
    """Nearest-neighbor unpooling of volumes: each value fills its window.

    This is the simplest way to undo pooling: it does not need an index. The
    result equals `keras.layers.UpSampling3D` if the size is a multiple of
    `pool_size`. This layer can also restore sizes that are not.

    Several input sizes pool to the same size: 45 and 46 rows both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928. The paper compares it with bed-of-nails
    unpooling of images.

    Args:
        pool_size: int or tuple of 3 ints >= 1. Window depth, height and width
            that one value fills, at most 16,384 voxels in all. The default is
            2.
        strides: None, or the same as `pool_size`, so that windows do not
            overlap or leave gaps.
        padding: "valid" or "same". Padding of the pooling layer that is undone.
        output_size: None, int or tuple of 3 ints >= 1. Depth, height and width
            to restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
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
            3 ints >= 1, or has more than 16,384 voxels in all.
        ValueError: If `strides` is neither None nor `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 3
            ints >= 1.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` does not have rank 5, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If a model with an unknown depth, height or width is
            exported from the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. The first window may therefore be cut. A size to restore that
        is smaller than the default cuts the last window. A larger size, where
        pooling dropped voxels at the end, repeats the last value.

        The gradient of a value is the sum over its window.

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
    """Bed-of-nails unpooling of sequences: values get a fixed position.

    The layer puts each value at the same position of its window; all other
    steps are 0. Unlike max unpooling, it does not need an index. Bed-of-nails
    unpooling followed by a convolution is a transposed convolution.

    Several input sizes pool to the same size: 45 and 46 steps both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928. The paper uses the top-left pixel of
    images.

    Args:
        pool_size: int or tuple of 1 int >= 1. Window length of one value, at
            most 16,384 steps. The default is 2.
        strides: None, int or tuple of 1 int >= 1. Distance between windows,
            which may overlap; at most 16,384. None means `pool_size`.
        padding: "valid" or "same". Padding of the pooling layer that is undone.
        output_size: None, int or tuple of 1 int >= 1. Number of steps to
            restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        position: int or tuple of 1 int >= 0, each less than `pool_size`. Step
            of the window that gets the value. The default is 0, the first step.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
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
            1 int >= 1, or has more than 16,384 steps.
        ValueError: If `position` is not an int >= 0 or a tuple of 1 int >= 0,
            or is not less than `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 1
            int >= 1.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` does not have rank 3, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If a model with an unknown number of steps is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. A value is dropped if its position lies in the padding or
        outside the size to restore. A size that is larger than the default,
        where pooling dropped steps at the end, is filled with 0.

        The gradient of a value is the gradient at its position.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 2, 1)
        >>> np.ravel(keras_deconv.BedOfNailsUnpool1D()(values)).tolist()
        [5.0, 0.0, 7.0, 0.0]
    """

    num_spatial_dims = 1


@keras.saving.register_keras_serializable("keras_deconv")
class BedOfNailsUnpool2D(BedOfNailsUnpool):
    """Bed-of-nails unpooling of images: values get a fixed position.

    The layer puts each value at the same position of its window; all other
    pixels are 0. Unlike max unpooling, it does not need an index. Bed-of-nails
    unpooling followed by a convolution is a transposed convolution.

    Several input sizes pool to the same size: 45 and 46 rows both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928. The paper uses the top-left pixel.

    Args:
        pool_size: int or tuple of 2 ints >= 1. Window height and width of one
            value, at most 16,384 pixels in all. The default is 2.
        strides: None, int or tuple of 2 ints >= 1. Distance between windows,
            which may overlap; their product is at most 16,384. None means
            `pool_size`.
        padding: "valid" or "same". Padding of the pooling layer that is undone.
        output_size: None, int or tuple of 2 ints >= 1. Height and width to
            restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        position: int or tuple of 2 ints >= 0, each less than `pool_size`. Row
            and column of the window that gets the value. The default is 0, the
            top-left pixel.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
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
            2 ints >= 1, or has more than 16,384 pixels in all.
        ValueError: If `position` is not an int >= 0 or a tuple of 2 ints >= 0,
            or is not less than `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 2
            ints >= 1.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` does not have rank 4, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If a model with an unknown height or width is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. A value is dropped if its position lies in the padding or
        outside the size to restore. A size that is larger than the default,
        where pooling dropped pixels at the end, is filled with 0.

        The gradient of a value is the gradient at its position.

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
    """Bed-of-nails unpooling of volumes: values get a fixed position.

    The layer puts each value at the same position of its window; all other
    voxels are 0. Unlike max unpooling, it does not need an index. Bed-of-nails
    unpooling followed by a convolution is a transposed convolution.

    Several input sizes pool to the same size: 45 and 46 rows both give 23 with
    strides of 2 and "same" padding. By default, the layer restores the size
    that the windows cover exactly, here 46. To restore the original size, pass
    the tensor that was pooled as `like`, or set `output_size`.

    Reference: Dosovitskiy, Springenberg and Brox, 2015, "Learning to generate
    chairs with convolutional neural networks", section 3,
    https://arxiv.org/abs/1411.5928. The paper uses the top-left pixel of
    images.

    Args:
        pool_size: int or tuple of 3 ints >= 1. Window depth, height and width
            of one value, at most 16,384 voxels in all. The default is 2.
        strides: None, int or tuple of 3 ints >= 1. Distance between windows,
            which may overlap; their product is at most 16,384. None means
            `pool_size`.
        padding: "valid" or "same". Padding of the pooling layer that is undone.
        output_size: None, int or tuple of 3 ints >= 1. Depth, height and width
            to restore. None restores the size that the windows cover exactly,
            unless `like` is passed.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        position: int or tuple of 3 ints >= 0, each less than `pool_size`.
            Slice, row and column of the window that gets the value. The default
            is 0, the first voxel.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        values: Tensor of dtype float16, bfloat16, float32, float64, int8,
            int16, int32, int64 or uint8.
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
            3 ints >= 1, or has more than 16,384 voxels in all.
        ValueError: If `position` is not an int >= 0 or a tuple of 3 ints >= 0,
            or is not less than `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of 3
            ints >= 1.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` does not have rank 5, has another dtype, or is
            empty in an axis other than the batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        ValueError: If a model with an unknown depth, height or width is
            exported from the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. A value is dropped if its position lies in the padding or
        outside the size to restore. A size that is larger than the default,
        where pooling dropped voxels at the end, is filled with 0.

        The gradient of a value is the gradient at its position.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.full((1, 1, 1, 1, 1), 5.0, "float32")
        >>> y = keras_deconv.BedOfNailsUnpool3D((1, 1, 2))(values)
        >>> np.ravel(y).tolist()
        [5.0, 0.0]
    """

    num_spatial_dims = 3
