"""Functions for max pooling with indices and max unpooling."""

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
    """Return the maximum of each pooling window and its index.

    This is the function behind `MaxPoolWithArgmax1D`, `MaxPoolWithArgmax2D` and
    `MaxPoolWithArgmax3D`. It runs on every Keras backend, on eager
    tensors and inside compiled functions. In a functional model use the layers.

    Args:
        inputs: Tensor of rank 3, 4 or 5, with 1, 2 or 3 spatial axes. The dtype
            is float16, bfloat16, float32, float64, int8, int16, int32, int64 or
            uint8.
        pool_size: int or tuple of ints >= 1, one per spatial axis. Window; at
            most 4096 cells in all, such as 64x64. The cells of a window are
            compared one by one. The default is 2.
        strides: None, int or tuple of ints >= 1, one per spatial axis. Distance
            between windows; their product is at most 4096. None means
            `pool_size`.
        padding: "valid" or "same". With "valid", windows lie inside the input,
            and cells left over at the end are dropped. With "same", windows
            cover the whole input; padding is never the maximum.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index, which
            counts from 0 in row-major order.
            "window" is the position inside the window, in uint8 (int32 for
            windows of more than 256 cells).
            "flat" is `(row * width + column) * channels + channel` within one
            image, in int64, as `tf.nn.max_pool_with_argmax` returns it.
            "plane" is `row * width + column` within one channel, in int64, as
            PyTorch returns it.
            In 3D, `row` becomes `slice * height + row`. "flat" and "plane"
            refer to the input without padding. On JAX they are int32 unless
            `jax_enable_x64` is set.

    Returns:
        The pair `(pooled, argmax)`: the maxima in the dtype of `inputs`, and
        their integer indices in the same shape.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            ints >= 1, or has more than 4096 cells.
        ValueError: If `padding`, `data_format` or `index_format` is not one of
            the values above.
        ValueError: If `inputs` is a symbolic Keras tensor, does not have rank
            3, 4 or 5, has another dtype, or is empty in an axis other than the
            batch.
        ValueError: If a spatial axis of `inputs` is shorter than the window and
            `padding="valid"`.
        ValueError: If a "flat" or "plane" index does not fit into int32 on JAX
            without `jax_enable_x64`.
        tf.errors.InvalidArgumentError: If `inputs` are smaller than a window,
            in a TensorFlow graph built for unknown sizes.

    Edge cases:
        If several cells of a window hold the maximum, the index is that of the
        first one in row-major order. A window with NaN returns NaN, and its
        index is that of the first cell that is NaN or +inf.

        The gradient of a maximum goes only to the cell that its index names,
        even if the window holds NaN or infinity. The index does not have a
        gradient.

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
    """Put each value where pooling found its maximum; all other cells are 0.

    This is the function behind `MaxUnpool1D`, `MaxUnpool2D` and
    `MaxUnpool3D`. It runs on every Keras backend, on eager
    tensors and inside compiled functions. In a functional model use the layers.

    Args:
        values: Tensor of rank 3, 4 or 5, with 1, 2 or 3 spatial axes. The dtype
            is float16, bfloat16, float32, float64, int8, int16, int32, int64 or
            uint8.
        argmax: Integer tensor with the shape of `values`, as
            `max_pool_with_argmax` returns it.
        pool_size: int or tuple of ints >= 1, one per spatial axis. Window of
            the pooling; at most 4096 cells in all. The default is 2.
        strides: None, int or tuple of ints >= 1, one per spatial axis. Strides
            of the pooling; their product is at most 4096. None means
            `pool_size`.
        padding: "valid" or "same". Padding of the pooling.
        output_size: None, int or tuple of ints >= 1, one per spatial axis.
            Spatial size to restore. None restores the size of `like`, or
            without `like` the size that the windows cover exactly:
            `(size - 1) * strides + pool_size` for "valid" and `size * strides`
            for "same".
        like: Optional tensor with the spatial size to restore, usually the
            tensor that was pooled. Its values and its channels are not used.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        index_format: "window", "flat" or "plane". Meaning of the index, as in
            `max_pool_with_argmax`: the position inside the window,
            `(row * width + column) * channels + channel` within one image, or
            `row * width + column` within one channel. "flat" and "plane" depend
            only on the size to restore, not on the windows.
        overlap: "sum" or "mean". How to combine values that land on the same
            cell, which happens only if `strides` is smaller than `pool_size`.
            "sum" is the exact adjoint of pooling. With "mean", unpooling the
            pooled values restores each maximum.

    Returns:
        A tensor with the dtype and the channels of `values`, in the size to
        restore.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            ints >= 1, or has more than 4096 cells.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of ints
            >= 1, one per spatial axis.
        ValueError: If `padding`, `data_format`, `index_format` or `overlap` is
            not one of the values above.
        ValueError: If `values` is a symbolic Keras tensor, does not have rank
            3, 4 or 5, has another dtype, or is empty in an axis other than the
            batch.
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
        tf.errors.InvalidArgumentError: If shapes differ, or a size does not
            pool to the size of `values`, in a TensorFlow graph built for
            unknown sizes.

    Edge cases:
        In compiled functions and on a GPU, a value whose index points outside
        its window or outside the size to restore is dropped, and its gradient
        is 0. Values are never written to a wrong place.

        The gradient of a value is the gradient at the cell that its index
        names. With `overlap="mean"` it is divided by the number of values at
        that cell. The index and `like` do not have gradients.

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
            check()  # Its error message is better.
            raise
    return from_kernel(result, channels, data_format)


def _require_window(
    inputs: Tensor, pool_size: tuple[int, ...], padding: str, data_format: str
) -> Tensor:
    """Check at run time that a window fits into the inputs."""
    if padding == "same":
        return inputs
    size = _shapes.spatial_size(_backends.shape(inputs), data_format)

    def rules() -> Iterator[Any]:
        return (n >= k for n, k in zip(size, pool_size, strict=True))

    if not _backends.are_decidable(rules()):
        raise ValueError(
            "padding='valid' requires a lower bound for each unknown spatial "
            "size of `inputs` in jax.export and model.export, to ensure that a "
            "window fits into it. Use padding='same', known sizes or, in "
            "jax.export, constraints: symbolic_shape('b, h, w, 3', "
            "constraints=['h >= 32', 'w >= 32']). Received: pool_size="
            f"{pool_size}, inputs of size {size}"
        )
    return _backends.require_lengths(
        rules(),
        "Each spatial size of `inputs` must be at least the window size with "
        "padding='valid'. Use larger inputs, a smaller `pool_size` or "
        f"padding='same'. Received: pool_size={pool_size}, inputs of size",
        *size,
        before=inputs,
    )


def _require_same_shape(argmax: Tensor, values: Tensor) -> Tensor:
    """Check at run time that the index has the shape of the values."""
    shape, expected = _backends.shape(argmax), _backends.shape(values)
    if all(isinstance(n, int) for n in (*shape, *expected)):
        return argmax  # `_arguments.check_argmax` has already compared them.
    argmax = _backends.require_lengths(
        (a == b for a, b in zip(shape, expected, strict=True)),
        "`argmax` must have the shape of `values`, one index for each value. "
        "Received: argmax of shape",
        *shape,
        "values of shape",
        *expected,
        before=argmax,
    )
    # A size that is known for one tensor then holds for both.
    return ops.reshape(argmax, expected)


def _require_windows(values: Tensor, windows: Windows, size: tuple) -> Tensor:
    """Run `_shapes.check_unpooled_size` on sizes known only at run time."""
    return _backends.require_lengths(
        (m == n for m, n in zip(windows.num_windows, size, strict=True)),
        "The size to restore does not pool to the size of `values`. Pass the "
        "tensor that was pooled as `like`, and the arguments of the pooling "
        "layer. Received: size to restore",
        *windows.size,
        "windows in it",
        *windows.num_windows,
        "values of size",
        *size,
        before=values,
    )
