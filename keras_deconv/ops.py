"""Pooling with indices, unpooling and their relatives as functions.

They run on every Keras backend, on eager tensors and inside compiled
functions. Inside a functional model use the layers, which call them.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_deconv import arguments, backends, kernels, shapes
from keras_deconv.arguments import IntOrInts

Tensor = Any

__all__ = [
    "bed_of_nails_unpool",
    "max_pool_with_argmax",
    "max_unpool",
    "nearest_unpool",
]


def max_pool_with_argmax(
    inputs: Tensor,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    data_format: str | None = None,
    index_format: str = "window",
) -> tuple[Tensor, Tensor]:
    """Max pooling that also returns where each maximum came from.

    See `MaxPoolWithArgmax2D` for the arguments, the edge cases and the index
    formats.

    Args:
        inputs: Tensor of rank 3, 4 or 5 (1, 2 or 3 spatial axes), any float
            or integer dtype.
        pool_size: int or tuple of ints >= 1. Window, per spatial axis.
        strides: int, tuple of ints >= 1 or None (`pool_size`).
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first" or None (as in the
            Keras configuration).
        index_format: "window", "flat" or "plane".

    Returns:
        The maxima, in the dtype of `inputs`, and their integer indices, in
        the same shape.

    Raises:
        ValueError: An argument breaks the rule that the error names, or a
            window does not fit into the inputs.

    Example:
        >>> import numpy as np, keras_deconv
        >>> x = np.array([[1, 9, 2, 2], [3, 4, 2, 8]], "float32")
        >>> pooled, argmax = keras_deconv.ops.max_pool_with_argmax(
        ...     x.reshape(1, 2, 4, 1))
        >>> np.ravel(pooled).tolist(), np.ravel(argmax).tolist()
        ([9.0, 8.0], [1, 3])
    """
    inputs = _batch(inputs, "inputs")
    num_spatial_dims = len(inputs.shape) - 2
    pool_size = arguments.ints(pool_size, num_spatial_dims, "pool_size", 1)
    strides = arguments.strides(strides, pool_size)
    padding = arguments.padding(padding)
    data_format = arguments.data_format(data_format)
    index_format = arguments.index_format(index_format)
    static_size = shapes.spatial_size(inputs.shape, data_format)
    shapes.pooled_size(static_size, pool_size, strides, padding)

    windows = kernels.windows(
        shapes.spatial_size(ops.shape(inputs), data_format),
        pool_size,
        strides,
        padding,
    )
    pooled, argmax = kernels.pool(_to_kernel(inputs, data_format), windows)
    channels = ops.shape(inputs)[_channel_axis(data_format)]
    dtype = arguments.argmax_dtype(pool_size, index_format)
    if index_format != "window":
        argmax = kernels.positions(argmax, windows, dtype)
    pooled = _from_kernel(pooled, channels, data_format)
    argmax = _from_kernel(argmax, channels, data_format)
    if index_format == "flat":
        channel = _channels(argmax, data_format)
        argmax = argmax * ops.cast(channels, dtype) + channel
    return pooled, ops.cast(argmax, dtype)


def max_unpool(
    values: Tensor,
    argmax: Tensor,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    output_size: IntOrInts | None = None,
    like: Tensor | None = None,
    data_format: str | None = None,
    index_format: str = "window",
    overlap: str = "sum",
) -> Tensor:
    """Put values back where pooling found its maxima; zero elsewhere.

    See `MaxUnpool2D` for the arguments, the edge cases and the sizes.

    Args:
        values: Tensor of rank 3, 4 or 5.
        argmax: Integer tensor of the same shape, from `max_pool_with_argmax`.
        pool_size: Window of the pooling that made `argmax`.
        strides: Strides of that pooling; None means `pool_size`.
        padding: Padding of that pooling.
        output_size: int or tuple of ints >= 1. Spatial size to restore.
        like: Tensor whose spatial size is to be restored, usually the one
            that was pooled. Its values do not matter.
        data_format: "channels_last", "channels_first" or None.
        index_format: What `argmax` counts: "window", "flat" or "plane".
        overlap: "sum" or "mean", for windows that overlap.

    Returns:
        Tensor in the dtype of `values`, in the size that was pooled.

    Raises:
        ValueError: An argument breaks the rule that the error names; shapes
            or sizes do not belong together; the index is no integer or, where
            that can be seen, lies outside.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> argmax = np.array([1, 3], "uint8").reshape(1, 1, 2, 1)
        >>> y = keras_deconv.ops.max_unpool(values, argmax)
        >>> np.squeeze(y).tolist()
        [[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0]]
    """
    values = _batch(values, "values")
    num_spatial_dims = len(values.shape) - 2
    pool_size = arguments.ints(pool_size, num_spatial_dims, "pool_size", 1)
    strides = arguments.strides(strides, pool_size)
    padding = arguments.padding(padding)
    output_size = arguments.output_size(output_size, num_spatial_dims)
    data_format = arguments.data_format(data_format)
    index_format = arguments.index_format(index_format)
    overlap = arguments.overlap(overlap)
    argmax = ops.convert_to_tensor(argmax)
    arguments.check_argmax(values.shape, argmax.shape, argmax.dtype)
    if overlap == "mean" and not _is_float(values.dtype):
        raise ValueError(
            "overlap='mean' needs `values` of a float dtype, since a mean of "
            "integers is none. Cast them, or use overlap='sum'. Received: "
            f"values of dtype {_name(values.dtype)}"
        )
    size, static_size = _target_size(
        values,
        output_size,
        like,
        data_format,
        lambda m: shapes.unpooled_size(m, pool_size, strides, padding),
    )
    if index_format == "window":
        shapes.check_unpooled_size(
            static_size,
            shapes.spatial_size(values.shape, data_format),
            pool_size,
            strides,
            padding,
        )
    channels = ops.shape(values)[_channel_axis(data_format)]
    _check_range(argmax, index_format, pool_size, static_size, channels)

    kernel_values = _to_kernel(values, data_format)
    if index_format == "window":
        windows = kernels.windows(size, pool_size, strides, padding)
        argmax = _to_kernel(argmax, data_format)
        result = kernels.unpool(kernel_values, argmax, windows, overlap)
    else:
        argmax = ops.cast(
            argmax, arguments.argmax_dtype(pool_size, index_format)
        )
        if index_format == "flat":
            argmax = argmax // ops.cast(channels, argmax.dtype)
        argmax = _to_kernel(argmax, data_format)
        result = kernels.scatter(kernel_values, argmax, size, overlap)
    return _from_kernel(result, channels, data_format)


def nearest_unpool(
    values: Tensor,
    size: IntOrInts = 2,
    like: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Repeat each value over a block of `size`.

    See `NearestUnpool2D`.

    Args:
        values: Tensor of rank 3, 4 or 5.
        size: int or tuple of ints >= 1. Block per value, per spatial axis.
        like: Tensor whose spatial size is to be restored.
        data_format: "channels_last", "channels_first" or None.

    Returns:
        Tensor in the dtype of `values`, `size` times as large, or as large
        as `like`.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> np.squeeze(keras_deconv.ops.nearest_unpool(values)).tolist()
        [[5.0, 5.0, 7.0, 7.0], [5.0, 5.0, 7.0, 7.0]]
    """
    values = _batch(values, "values")
    size = arguments.ints(size, len(values.shape) - 2, "size", 1)
    data_format = arguments.data_format(data_format)
    target = _block_target(values, size, like, data_format)
    result = kernels.nearest(_to_kernel(values, data_format), size, target)
    channels = ops.shape(values)[_channel_axis(data_format)]
    return _from_kernel(result, channels, data_format)


def bed_of_nails_unpool(
    values: Tensor,
    size: IntOrInts = 2,
    position: IntOrInts = 0,
    like: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Put each value on one fixed cell of a block; zero elsewhere.

    See `BedOfNailsUnpool2D`.

    Args:
        values: Tensor of rank 3, 4 or 5.
        size: int or tuple of ints >= 1. Block per value, per spatial axis.
        position: int or tuple of ints, each < `size`. The cell that takes
            the value.
        like: Tensor whose spatial size is to be restored.
        data_format: "channels_last", "channels_first" or None.

    Returns:
        Tensor in the dtype of `values`, `size` times as large, or as large
        as `like`.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> np.squeeze(keras_deconv.ops.bed_of_nails_unpool(values)).tolist()
        [[5.0, 0.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    values = _batch(values, "values")
    size = arguments.ints(size, len(values.shape) - 2, "size", 1)
    position = arguments.position(position, size)
    data_format = arguments.data_format(data_format)
    target = _block_target(values, size, like, data_format)
    result = kernels.bed_of_nails(
        _to_kernel(values, data_format), size, position, target
    )
    channels = ops.shape(values)[_channel_axis(data_format)]
    return _from_kernel(result, channels, data_format)


def _batch(x: Tensor, name: str) -> Tensor:
    if isinstance(x, keras.KerasTensor):
        raise ValueError(
            f"`{name}` is a symbolic Keras tensor: inside a functional model "
            "use the layer of the same name (for example "
            "keras_deconv.MaxUnpool2D), which keeps unknown sizes."
        )
    x = ops.convert_to_tensor(x)
    if len(x.shape) not in (3, 4, 5):
        raise ValueError(
            f"`{name}` must be a batch with 1, 2 or 3 spatial axes, such as "
            "(batch, height, width, channels). Received: shape "
            f"{tuple(x.shape)}"
        )
    if _name(x.dtype) == "bool" or "complex" in _name(x.dtype):
        raise ValueError(
            f"`{name}` must hold floats or integers. Received: dtype "
            f"{_name(x.dtype)}"
        )
    return x


def _name(dtype: Any) -> str:
    return keras.backend.standardize_dtype(dtype)


def _is_float(dtype: Any) -> bool:
    return "float" in _name(dtype)


def _channel_axis(data_format: str) -> int:
    return -1 if data_format == "channels_last" else 1


def _channels(like: Tensor, data_format: str) -> Tensor:
    """Channel numbers, to be broadcast over `like`."""
    shape = [1] * len(like.shape)
    shape[_channel_axis(data_format)] = -1
    count = ops.shape(like)[_channel_axis(data_format)]
    channel = ops.arange(ops.cast(count, like.dtype), dtype=like.dtype)
    return ops.reshape(channel, shape)


def _to_kernel(x: Tensor, data_format: str) -> Tensor:
    """View as (outer, *spatial, inner); nothing is moved in memory."""
    if data_format == "channels_last":
        return x
    return ops.reshape(x, (-1, *ops.shape(x)[2:], 1))


def _from_kernel(x: Tensor, channels: Any, data_format: str) -> Tensor:
    if data_format == "channels_last":
        return x
    return ops.reshape(x, (-1, channels, *ops.shape(x)[1:-1]))


def _target_size(
    values: Tensor,
    output_size: tuple[int, ...] | None,
    like: Tensor | None,
    data_format: str,
    default: Any,
) -> tuple[tuple, tuple]:
    """Spatial size to restore: as known at run time, and as known now."""
    if like is not None:
        like = _batch(like, "like")
        if len(like.shape) != len(values.shape):
            raise ValueError(
                "`like` must have the rank of `values`. Received: values of "
                f"shape {tuple(values.shape)}, like of shape "
                f"{tuple(like.shape)}"
            )
        static = shapes.spatial_size(like.shape, data_format)
        size = shapes.spatial_size(ops.shape(like), data_format)
        if output_size is not None:
            shapes.check_one_size(output_size, static)
        return size, static
    if output_size is not None:
        return output_size, output_size
    size = default(shapes.spatial_size(ops.shape(values), data_format))
    return size, default(shapes.spatial_size(values.shape, data_format))


def _block_target(
    values: Tensor,
    block: tuple[int, ...],
    like: Tensor | None,
    data_format: str,
) -> tuple:
    size, static = _target_size(
        values,
        None,
        like,
        data_format,
        lambda m: shapes.unpooled_size(m, block, block, "same"),
    )
    shapes.check_block_size(
        static, shapes.spatial_size(values.shape, data_format), block
    )
    return size


def _check_range(
    argmax: Tensor,
    index_format: str,
    pool_size: tuple[int, ...],
    size: tuple,
    channels: Any,
) -> None:
    """Refuse an index that points outside, where its values can be seen.

    Inside a compiled function they cannot. The index that our own pooling
    made is not looked at: its dtype cannot leave a window of 256 cells, and
    looking would make an accelerator wait.
    """
    if backends.is_traced(argmax):
        return
    if index_format == "window":
        if _name(argmax.dtype) == arguments.argmax_dtype(pool_size, "window"):
            return
        limit = math.prod(pool_size)
    else:
        limit = math.prod(size)
        limit *= channels if index_format == "flat" else 1
    seen = ops.convert_to_numpy(argmax)
    if seen.size and (seen.min() < 0 or seen.max() >= limit):
        raise ValueError(
            f"`argmax` with index_format={index_format!r} must lie in 0.."
            f"{limit - 1}. Received: indices from {seen.min()} to "
            f"{seen.max()}. Give the `index_format` that the pooling used "
            "(tf.nn.max_pool_with_argmax returns 'flat', PyTorch 'plane'), "
            "and with it the `output_size` or `like` that was pooled."
        )
