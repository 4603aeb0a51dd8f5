"""Max pooling with indices and max unpooling as functions."""

import functools
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_deconv import _arguments, _backends, _kernels, _shapes
from keras_deconv._arguments import IntOrInts
from keras_deconv._kernels.windows import Windows, cast_length, lay_windows
from keras_deconv.ops._layout import (
    as_batch,
    channel_axis,
    check_range,
    from_kernel,
    numbers_along,
    position_dtype,
    target_size,
    to_kernel,
)

Tensor = Any
__all__ = ["max_pool_with_argmax", "max_unpool"]


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
        pool_size: int or tuple of ints >= 1. Window, per spatial axis; at most
            4096 cells in all, such as 64x64, since they are compared one by
            one. So are strides.
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
    inputs = as_batch(inputs, "inputs")
    num_spatial_dims = len(inputs.shape) - 2
    pool_size, strides, padding = _arguments.window(
        pool_size, strides, padding, num_spatial_dims
    )
    data_format = _arguments.data_format(data_format)
    index_format = _arguments.index_format(index_format)
    static_size = _shapes.spatial_size(
        _backends.static_shape(inputs), data_format
    )
    _shapes.pooled_size(static_size, pool_size, strides, padding)
    inputs = _require_window(inputs, pool_size, padding, data_format)

    windows = lay_windows(
        _shapes.spatial_size(_backends.shape(inputs), data_format),
        pool_size,
        strides,
        padding,
    )
    channels = _backends.shape(inputs)[channel_axis(data_format)]
    window_dtype = _arguments.argmax_dtype(pool_size, "window")
    kernel_inputs = to_kernel(inputs, data_format)
    if index_format == "window":
        pooled, argmax = _kernels.pool(kernel_inputs, windows, window_dtype)
    else:
        dtype = position_dtype(windows.size, channels)
        pooled, argmax = _kernels.pool_to_positions(
            kernel_inputs, windows, window_dtype, dtype
        )
    pooled = from_kernel(pooled, channels, data_format)
    argmax = from_kernel(argmax, channels, data_format)
    if index_format == "flat":
        channel = numbers_along(argmax, channel_axis(data_format))
        argmax = argmax * cast_length(channels, dtype) + channel
    return pooled, argmax


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
    values = as_batch(values, "values")
    num_spatial_dims = len(values.shape) - 2
    pool_size, strides, padding = _arguments.window(
        pool_size, strides, padding, num_spatial_dims
    )
    output_size = _arguments.output_size(output_size, num_spatial_dims)
    data_format = _arguments.data_format(data_format)
    index_format = _arguments.index_format(index_format)
    overlap = _arguments.overlap(overlap)
    argmax = _arguments.tensor(argmax, "argmax")
    static_shape = _backends.static_shape(values)
    _arguments.check_argmax(
        static_shape, _backends.static_shape(argmax), argmax.dtype
    )
    _arguments.check_overlap_dtype(overlap, values.dtype)
    argmax = _require_same_shape(argmax, values)
    size, static_size = target_size(
        values,
        output_size,
        like,
        data_format,
        lambda m: _shapes.unpooled_size(m, pool_size, strides, padding),
    )
    if index_format == "window":
        _shapes.check_unpooled_size(
            static_size,
            _shapes.spatial_size(static_shape, data_format),
            pool_size,
            strides,
            padding,
        )
    channels = _backends.shape(values)[channel_axis(data_format)]
    check = functools.partial(
        check_range, argmax, index_format, pool_size, static_size, channels
    )
    if index_format == "window" or not _kernels.REFUSES_OUTSIDE:
        check()

    kernel_values = to_kernel(values, data_format)
    if index_format == "window":
        windows = lay_windows(size, pool_size, strides, padding)
        kernel_values = _require_windows(
            kernel_values,
            windows,
            _shapes.spatial_size(_backends.shape(values), data_format),
        )
        argmax = to_kernel(argmax, data_format)
        result = _kernels.unpool(kernel_values, argmax, windows, overlap)
    else:
        batch = _backends.shape(values)[0]
        _backends.check_scatter(batch)
        dtype = position_dtype(size, channels, batch)
        if keras.backend.standardize_dtype(argmax.dtype) != dtype:
            argmax = ops.cast(argmax, dtype)
        if index_format == "flat":
            argmax = argmax // cast_length(channels, argmax.dtype)
        argmax = to_kernel(argmax, data_format)
        try:
            result = _kernels.scatter(kernel_values, argmax, size, overlap)
        except RuntimeError:
            check()  # It says better what is wrong.
            raise
    return from_kernel(result, channels, data_format)


def _require_window(
    inputs: Tensor, pool_size: tuple[int, ...], padding: str, data_format: str
) -> Tensor:
    """`_shapes.pooled_size` for sizes that are not known until run time."""
    if padding == "same":
        return inputs
    size = _shapes.spatial_size(_backends.shape(inputs), data_format)

    def rules() -> Iterator[Any]:
        return (n >= k for n, k in zip(size, pool_size, strict=True))

    if not _backends.are_decidable(rules()):
        raise ValueError(
            "padding='valid' needs a lower bound for each unknown spatial size "
            "of `inputs` in jax.export and model.export: whether a window fits "
            "into it is not known. Use padding='same', known sizes or, in "
            "jax.export, constraints: symbolic_shape('b, h, w, 3', "
            "constraints=['h >= 32', 'w >= 32']). Received: pool_size="
            f"{pool_size}, inputs of size {size}"
        )
    return _backends.require_lengths(
        rules(),
        "Each spatial size of `inputs` must be at least the window with "
        "padding='valid'. Use larger inputs, a smaller `pool_size` or "
        f"padding='same'. Received: pool_size={pool_size}, inputs of size",
        *size,
        before=inputs,
    )


def _require_same_shape(argmax: Tensor, values: Tensor) -> Tensor:
    """`_arguments.check_argmax` for shapes not known until run time."""
    shape, expected = _backends.shape(argmax), _backends.shape(values)
    if all(isinstance(n, int) for n in (*shape, *expected)):
        return argmax  # `_arguments.check_argmax` has compared them.
    argmax = _backends.require_lengths(
        (a == b for a, b in zip(shape, expected, strict=True)),
        "`argmax` must have the shape of `values`: one index for each value. "
        "Received: argmax of shape",
        *shape,
        "values of shape",
        *expected,
        before=argmax,
    )
    # What is known of one is known of both.
    return ops.reshape(argmax, expected)


def _require_windows(values: Tensor, windows: Windows, size: tuple) -> Tensor:
    """`_shapes.check_unpooled_size` for sizes not known until run time."""
    return _backends.require_lengths(
        (m == n for m, n in zip(windows.num_windows, size, strict=True)),
        "The size to restore does not pool to the size of `values`: give the "
        "tensor that was pooled as `like`, and the pooling layer's own "
        "arguments. Received: size to restore",
        *windows.size,
        "windows in it",
        *windows.num_windows,
        "values of size",
        *size,
        before=values,
    )
