"""Pooling with indices, unpooling and their relatives as functions.

They run on every Keras backend, on eager tensors and inside compiled
functions. Inside a functional model use the layers, which call them.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deconv import arguments, backends, kernels, shapes
from keras_deconv.arguments import IntOrInts

differentiable: Any
if keras.config.backend() == "tensorflow":
    from keras_deconv import fused as differentiable
else:
    from keras_deconv import autodiff as differentiable

Tensor = Any

__all__ = [
    "bed_of_nails_unpool",
    "conv2d_matrix",
    "convert_argmax",
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
    window_dtype = arguments.argmax_dtype(pool_size, "window")
    pooled, argmax = differentiable.pool(
        _to_kernel(inputs, data_format), windows, window_dtype
    )
    channels = ops.shape(inputs)[_channel_axis(data_format)]
    pooled = _from_kernel(pooled, channels, data_format)
    if index_format == "window":
        return pooled, _from_kernel(argmax, channels, data_format)
    dtype = _position_dtype(windows.size, channels)
    argmax = kernels.positions(argmax, windows, dtype)
    argmax = _from_kernel(argmax, channels, data_format)
    if index_format == "flat":
        channel = _numbers_along(argmax, _channel_axis(data_format))
        argmax = argmax * kernels.cast_length(channels, dtype) + channel
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
    arguments.check_overlap_dtype(overlap, values.dtype)
    # Where sizes are not known, a shape that differs stops here.
    argmax = ops.reshape(argmax, ops.shape(values))
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
        kernel_values = _require_windows(
            kernel_values,
            windows,
            shapes.spatial_size(ops.shape(values), data_format),
        )
        argmax = _to_kernel(argmax, data_format)
        result = differentiable.unpool(kernel_values, argmax, windows, overlap)
    else:
        batch = ops.shape(values)[0]
        argmax = ops.cast(argmax, _position_dtype(size, channels, batch))
        if index_format == "flat":
            argmax = argmax // kernels.cast_length(channels, argmax.dtype)
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
    values, target = _block_target(values, size, like, data_format)
    result = differentiable.nearest(
        _to_kernel(values, data_format), _blocks(values, size, data_format)
    )
    result = kernels.fit(result, target, fill=None)
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
    values, target = _block_target(values, size, like, data_format)
    result = differentiable.bed_of_nails(
        _to_kernel(values, data_format),
        _blocks(values, size, data_format),
        position,
    )
    result = kernels.fit(result, target, fill=0)
    channels = ops.shape(values)[_channel_axis(data_format)]
    return _from_kernel(result, channels, data_format)


def convert_argmax(
    argmax: Tensor,
    source: str,
    target: str,
    *,
    input_size: IntOrInts,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    channels: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Write the index of max pooling in the way of another framework.

    Formats, each counted from 0 over the input of the pooling:

    - "window": position inside the window, row by row.
    - "plane": `row * width + column` within one channel (PyTorch; with depth,
      `(depth * height + row) * width + column`).
    - "flat": `(row * width + column) * channels + channel` within one image
      (`tf.nn.max_pool_with_argmax`, TF Addons). With
      `include_batch_in_index=True` TensorFlow adds `height * width *
      channels` per image: take `argmax % (height * width * channels)` first.
    - "onnx": `((image * channels + channel) * height + row) * width + column`,
      as ONNX MaxPool counts.

    Args:
        argmax: Integer tensor of rank 3, 4 or 5.
        source: Format of `argmax`: "window", "flat", "plane" or "onnx".
        target: Format to give.
        input_size: int or tuple of ints >= 1. Spatial size that was pooled.
        pool_size: Window of that pooling. Used for "window" alone, as are
            `strides` and `padding`.
        strides: Strides of that pooling; None means `pool_size`.
        padding: Padding of that pooling, "valid" or "same".
        channels: int >= 1. Channels that were pooled; None takes those of
            `argmax`.
        data_format: How `argmax` is laid out: "channels_last",
            "channels_first" or None.

    Returns:
        Tensor in the shape of `argmax`: uint8 or int32 for "window", else
        int64 (on JAX int32, unless `jax_enable_x64` is set).

    Raises:
        ValueError: An argument breaks the rule that the error names; the index
            is no integer or, where that can be seen, points outside the input
            or outside its window. In compiled functions, where it cannot be
            seen, what comes out of such an index means nothing.

    Example:
        >>> import numpy as np, keras_deconv
        >>> argmax = np.array([3, 0], "uint8").reshape(1, 1, 2, 1)
        >>> plane = keras_deconv.ops.convert_argmax(
        ...     argmax, "window", "plane", input_size=(2, 4))
        >>> np.ravel(plane).tolist()
        [5, 2]
        >>> np.ravel(keras_deconv.ops.convert_argmax(
        ...     plane, "plane", "window", input_size=(2, 4))).tolist()
        [3, 0]
    """
    source = arguments.argmax_format(source, "source")
    target = arguments.argmax_format(target, "target")
    argmax = _batch(argmax, "argmax")
    arguments.check_integer_index(argmax.dtype)
    num_spatial_dims = len(argmax.shape) - 2
    pool_size = arguments.ints(pool_size, num_spatial_dims, "pool_size", 1)
    strides = arguments.strides(strides, pool_size)
    padding = arguments.padding(padding)
    data_format = arguments.data_format(data_format)
    size = arguments.ints(input_size, num_spatial_dims, "input_size", 1)
    num_channels = ops.shape(argmax)[_channel_axis(data_format)]
    if channels is not None:
        own, num_channels = (
            num_channels,
            arguments.positive_int(channels, "channels"),
        )
        if isinstance(own, int) and num_channels < own:
            raise ValueError(
                "`channels` must be the number of channels that were pooled, "
                f"at least the {own} of `argmax`. Received: "
                f"channels={channels}"
            )
    if "window" in (source, target):
        shapes.check_unpooled_size(
            size,
            shapes.spatial_size(argmax.shape, data_format),
            pool_size,
            strides,
            padding,
        )
    batch = ops.shape(argmax)[0]
    _check_range(argmax, source, pool_size, size, num_channels, batch)
    dtype = _position_dtype(size, num_channels, batch)
    windows = kernels.windows(size, pool_size, strides, padding)

    plane = ops.cast(argmax, dtype)
    if source == "window":
        plane = _in_kernel(
            lambda x: kernels.positions(x, windows, dtype), plane, data_format
        )
        _check_no_padding(
            argmax,
            _in_kernel(
                lambda x: kernels.offsets(x, windows), plane, data_format
            ),
        )
    elif source == "flat":
        plane = plane // kernels.cast_length(num_channels, dtype)
    elif source == "onnx":
        plane = plane % math.prod(size)

    if target == "window":
        result = _in_kernel(
            lambda x: kernels.offsets(x, windows), plane, data_format
        )
        _check_inside_windows(result)
        return ops.cast(result, arguments.argmax_dtype(pool_size, "window"))
    if target == "plane":
        return plane
    channel = _numbers_along(plane, _channel_axis(data_format))
    if target == "flat":
        return plane * kernels.cast_length(num_channels, dtype) + channel
    image = _numbers_along(plane, 0)
    return (
        image * kernels.cast_length(num_channels, dtype) + channel
    ) * math.prod(size) + plane


def conv2d_matrix(
    kernel: Any,
    input_size: IntOrInts,
    strides: IntOrInts = 1,
    padding: str = "valid",
    sparse: bool | None = None,
) -> Any:
    """Write a 2D convolution as the matrix that it is.

    With images laid out as vectors, convolution is `M @ x`, and transposed
    convolution is `M.T @ y`: the same pattern of weights, from outputs back to
    inputs. It is not an inverse: `M.T @ M` is not the identity.

    Reference: Dumoulin and Visin, 2016, "A guide to convolution arithmetic for
    deep learning", sections 4.1 and 4.2, https://arxiv.org/abs/1603.07285.

    Args:
        kernel: Array `(kernel_height, kernel_width)`, or with channels
            `(kernel_height, kernel_width, in_channels, out_channels)`, as in
            `keras.layers.Conv2D`.
        input_size: int or tuple of 2 ints >= 1. Height and width.
        strides: int or tuple of 2 ints >= 1.
        padding: "valid" or "same".
        sparse: Whether to give a SciPy sparse matrix. None does so for more
            than 2**22 entries.

    Returns:
        NumPy array, or `scipy.sparse.csr_array`, of shape `(out_height *
        out_width * out_channels, height * width * in_channels)` in the dtype
        of the kernel (half precision becomes float32 in a sparse one).
        `M @ x.ravel()` is `keras.ops.conv` of one image `x`
        (height, width, channels), and `M.T @ y.ravel()` is
        `keras.ops.conv_transpose` with the same kernel, where that has the
        size of the input.

    Raises:
        ValueError: An argument breaks the rule that the error names, or the
            kernel does not fit into the input.

    Example:
        >>> import numpy as np, keras_deconv
        >>> kernel = np.arange(1, 10).reshape(3, 3)
        >>> matrix = keras_deconv.ops.conv2d_matrix(kernel, (4, 4))
        >>> matrix.shape
        (4, 16)
        >>> matrix[0].tolist()
        [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]
    """
    kernel = np.asarray(ops.convert_to_numpy(kernel))
    if kernel.ndim == 2:
        kernel = kernel[:, :, None, None]
    if kernel.ndim != 4 or 0 in kernel.shape:
        raise ValueError(
            "`kernel` must be (height, width) or (height, width, in_channels, "
            f"out_channels). Received: shape {kernel.shape}"
        )
    size = arguments.ints(input_size, 2, "input_size", 1)
    strides = arguments.ints(strides, 2, "strides", 1)
    padding = arguments.padding(padding)
    window = kernel.shape[:2]
    if padding == "valid" and any(
        n < k for n, k in zip(size, window, strict=True)
    ):
        raise ValueError(
            "`input_size` must be at least the kernel with padding='valid'. "
            f"Received: input_size={size}, kernel of {window}. Use a larger "
            "input_size or padding='same'."
        )
    pooled_size = shapes.pooled_size(size, window, strides, padding)
    out_size = [m for m in pooled_size if m is not None]
    first = [
        np.arange(m) * s - shapes.padding_before(n, m, k, s, padding)
        for n, m, k, s in zip(size, out_size, window, strides, strict=True)
    ]
    # One entry per output pixel, kernel cell, input and output channel.
    out_row, out_column, row, column, channel, out_channel = np.ix_(
        *map(np.arange, (*out_size, *kernel.shape))
    )
    y = first[0][out_row] + row
    x = first[1][out_column] + column
    inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
    inputs = (y * size[1] + x) * kernel.shape[2] + channel
    outputs = (out_row * out_size[1] + out_column) * kernel.shape[
        3
    ] + out_channel
    shape = (
        math.prod(out_size) * kernel.shape[3],
        math.prod(size) * kernel.shape[2],
    )
    everywhere = np.broadcast_arrays(kernel, inside, outputs, inputs)
    weights, inside, outputs, inputs = (a.ravel() for a in everywhere)
    weights, outputs, inputs = (a[inside] for a in (weights, outputs, inputs))
    if sparse is None:
        sparse = math.prod(shape) > 2**22
    if not sparse:
        matrix = np.zeros(shape, kernel.dtype)
        matrix[outputs, inputs] = weights
        return matrix
    from scipy.sparse import csr_array  # slow to import

    if weights.dtype.itemsize < 4 and "float" in weights.dtype.name:
        weights = weights.astype("float32")  # SciPy has no half precision
    return csr_array((weights, (outputs, inputs)), shape=shape)


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
            "(batch, height, width, channels); sizes in numbers are given as "
            f"`output_size`. Received: shape {tuple(x.shape)}"
        )
    if 0 in tuple(x.shape)[1:]:
        raise ValueError(
            f"`{name}` must not be empty: only the batch may be. Received: "
            f"shape {tuple(x.shape)}"
        )
    arguments.check_number_dtype(x.dtype, name)
    return x


def _name(dtype: Any) -> str:
    return keras.backend.standardize_dtype(dtype)


def _channel_axis(data_format: str) -> int:
    return -1 if data_format == "channels_last" else 1


def _numbers_along(like: Tensor, axis: int) -> Tensor:
    """Numbers 0, 1, ... along one axis, to be broadcast over `like`."""
    shape = [1] * len(like.shape)
    shape[axis] = -1
    count = kernels.cast_length(ops.shape(like)[axis], like.dtype)
    return ops.reshape(ops.arange(count, dtype=like.dtype), shape)


def _position_dtype(size: tuple, channels: Any, batch: Any = 1) -> str:
    """Dtype that holds every position of the input.

    Raises:
        ValueError: There is no such dtype, on JAX without int64.
    """
    dtype = backends.widest_int()
    known = [n for n in (*size, channels, batch) if isinstance(n, int)]
    if dtype == "int32" and math.prod(known) > 2**31:
        raise ValueError(
            f"Positions in an input of size {tuple(size)} with {channels} "
            "channels do not fit into int32, the widest integer that JAX has "
            "now. Use index_format='window', or set "
            "jax.config.update('jax_enable_x64', True) first."
        )
    return dtype


def _to_kernel(x: Tensor, data_format: str) -> Tensor:
    """View as (outer, *spatial, inner); nothing is moved in memory."""
    if data_format == "channels_last":
        return x
    return ops.reshape(x, (-1, *ops.shape(x)[2:], 1))


def _in_kernel(function: Any, x: Tensor, data_format: str) -> Tensor:
    """Apply a function of the kernels' layout that keeps the shape."""
    channels = ops.shape(x)[_channel_axis(data_format)]
    y = function(_to_kernel(x, data_format))
    return _from_kernel(y, channels, data_format)


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

    def settle(shape: Any) -> tuple:
        return shapes.settle_size(
            output_size,
            None
            if like is None
            else shapes.spatial_size(shape(like), data_format),
            default(shapes.spatial_size(shape(values), data_format)),
        )

    return settle(ops.shape), settle(lambda x: tuple(x.shape))


def _require_windows(
    values: Tensor, windows: kernels.Windows, size: tuple
) -> Tensor:
    """Where sizes are not known, refuse at run time what does not fit.

    The values that are returned come after that.
    """
    for n, m, expected in zip(
        windows.size, windows.num_windows, size, strict=True
    ):
        if ops.is_tensor(n) or ops.is_tensor(expected):
            values = backends.require(
                ops.equal(m, expected),
                "The size to restore does not pool to the size of `values`: "
                "give the tensor that was pooled as `like`, and the pooling "
                "layer's own arguments. Size, windows in it, values:",
                *(n, m, expected),
                before=values,
            )
    return values


def _blocks(
    values: Tensor, block: tuple[int, ...], data_format: str
) -> kernels.Windows:
    """The blocks that values become, as windows side by side."""
    size = shapes.spatial_size(ops.shape(values), data_format)
    whole = [n * b for n, b in zip(size, block, strict=True)]
    return kernels.windows(whole, block, block, "valid")


def _block_target(
    values: Tensor,
    block: tuple[int, ...],
    like: Tensor | None,
    data_format: str,
) -> tuple[Tensor, tuple]:
    """The values, checked to be blocks of the size, and the size to restore."""
    target, static = _target_size(
        values,
        None,
        like,
        data_format,
        lambda m: shapes.unpooled_size(m, block, block, "same"),
    )
    shapes.check_block_size(
        static, shapes.spatial_size(values.shape, data_format), block
    )
    size = shapes.spatial_size(ops.shape(values), data_format)
    for n, m, s in zip(target, size, block, strict=True):
        if like is not None and (ops.is_tensor(n) or ops.is_tensor(m)):
            values = backends.require(
                ops.logical_and((m - 1) * s < n, n < (m + 1) * s),
                "`like` must have a size that shrinks to the size of `values` "
                "when divided by `size`. Size, values, block:",
                *(n, m, s),
                before=values,
            )
    return values, target


def _check_range(
    argmax: Tensor,
    index_format: str,
    pool_size: tuple[int, ...],
    size: tuple,
    channels: Any,
    batch: Any = 1,
) -> None:
    """Refuse an index that points outside, where its values can be seen.

    Inside a compiled function they cannot, and on an accelerator looking
    would make it wait.
    """
    if not backends.is_readable(argmax):
        return
    if not all(isinstance(n, int) for n in (*size, channels, batch)):
        return
    if index_format == "window":
        limit = math.prod(pool_size)
    else:
        limit = math.prod(size)
        limit *= channels if index_format in ("flat", "onnx") else 1
        limit *= batch if index_format == "onnx" else 1
    seen = ops.convert_to_numpy(argmax)
    if seen.size and (seen.min() < 0 or seen.max() >= limit):
        raise ValueError(
            f"`argmax` in the format {index_format!r} must lie in 0.."
            f"{limit - 1}. Received: indices from {seen.min()} to "
            f"{seen.max()}. Give the format that the pooling used as "
            "`index_format`, or `source` when converting "
            "(tf.nn.max_pool_with_argmax returns 'flat', PyTorch 'plane'), "
            "and the size that was pooled as `output_size` or `like`, or "
            "`input_size` when converting."
        )


def _check_no_padding(argmax: Tensor, again: Tensor) -> None:
    if not backends.is_readable(argmax):
        return
    differs = ops.convert_to_numpy(argmax) != ops.convert_to_numpy(again)
    if differs.any():
        raise ValueError(
            "`argmax` must point at cells of the input; "
            f"{differs.sum()} of {differs.size} window indices point into "
            "padding. Give the pooling's own `input_size`, `pool_size`, "
            "`strides` and `padding`."
        )


def _check_inside_windows(offsets: Tensor) -> None:
    if not backends.is_readable(offsets):
        return
    seen = ops.convert_to_numpy(offsets)
    if seen.size and seen.min() < 0:
        raise ValueError(
            "`argmax` must point into the windows that `pool_size`, `strides` "
            f"and `padding` lay out; {(seen < 0).sum()} of {seen.size} indices "
            "do not. Give the pooling's own arguments. If it padded in "
            "another way, as PyTorch and Caffe can, there is no window index: "
            "unpool with index_format='plane' or 'flat' instead."
        )
