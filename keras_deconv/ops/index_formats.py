"""Conversion between the index formats of different frameworks."""

import math
from typing import Any

from keras import ops

from keras_deconv import _arguments, _backends, _shapes
from keras_deconv._arguments import IntOrInts
from keras_deconv._kernels.positions import to_offsets, to_positions
from keras_deconv._kernels.windows import cast_length, lay_windows
from keras_deconv.ops._layout import (
    as_batch,
    channel_axis,
    check_range,
    in_kernel,
    numbers_along,
    position_dtype,
)

Tensor = Any
__all__ = ["convert_argmax"]


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
    source = _arguments.argmax_format(source, "source")
    target = _arguments.argmax_format(target, "target")
    argmax = as_batch(argmax, "argmax")
    _arguments.check_integer_index(argmax.dtype)
    num_spatial_dims = len(argmax.shape) - 2
    pool_size, strides, padding = _arguments.window(
        # Nothing compares the cells here.
        *(pool_size, strides, padding, num_spatial_dims),
        max_cells=2**31 - 1,
    )
    data_format = _arguments.data_format(data_format)
    size = _arguments.ints(input_size, num_spatial_dims, "input_size", 1)
    num_channels = _backends.shape(argmax)[channel_axis(data_format)]
    if channels is not None:
        own, num_channels = (
            num_channels,
            _arguments.positive_int(channels, "channels"),
        )
        rule = (
            "`channels` must be the number of channels that were pooled, "
            "at least the"
        )
        end = f"of `argmax`. Received: channels={channels}"
        if isinstance(own, int) and num_channels < own:
            raise ValueError(f"{rule} {own} {end}")
        argmax = _backends.require_lengths(
            (n >= own for n in (num_channels,)), rule, own, end, before=argmax
        )
    if "window" in (source, target):
        _shapes.check_unpooled_size(
            size,
            _shapes.spatial_size(_backends.static_shape(argmax), data_format),
            pool_size,
            strides,
            padding,
        )
        argmax = _require_windows(
            argmax, size, (pool_size, strides, padding), data_format
        )
    batch = _backends.shape(argmax)[0]
    check_range(argmax, source, pool_size, size, num_channels, batch)
    dtype = position_dtype(size, num_channels, batch)
    windows = lay_windows(size, pool_size, strides, padding)

    plane = ops.cast(argmax, dtype)
    if source == "window":
        plane = in_kernel(
            lambda x: to_positions(x, windows, dtype), plane, data_format
        )
        _check_no_padding(
            argmax,
            in_kernel(lambda x: to_offsets(x, windows), plane, data_format),
        )
    elif source == "flat":
        plane = plane // cast_length(num_channels, dtype)
    elif source == "onnx":
        plane = plane % math.prod(size)

    if target == "window":
        result = in_kernel(lambda x: to_offsets(x, windows), plane, data_format)
        _check_inside_windows(result)
        return ops.cast(result, _arguments.argmax_dtype(pool_size, "window"))
    if target == "plane":
        return plane
    channel = numbers_along(plane, channel_axis(data_format))
    if target == "flat":
        return plane * cast_length(num_channels, dtype) + channel
    image = numbers_along(plane, 0)
    return (image * cast_length(num_channels, dtype) + channel) * math.prod(
        size
    ) + plane


def _require_windows(
    argmax: Tensor, size: tuple[int, ...], window: tuple, data_format: str
) -> Tensor:
    """`_shapes.check_unpooled_size` for sizes not known until run time."""
    found = _shapes.spatial_size(_backends.shape(argmax), data_format)
    expected = _shapes.pooled_size(size, *window)
    return _backends.require_lengths(
        (m == n for m, n in zip(found, expected, strict=True)),
        "`argmax` must have the size that pooling gives. Give the pooling's "
        "own `input_size`, `pool_size`, `strides` and `padding`. Received: "
        f"input_size={size}, which gives {expected}, and argmax of size",
        *found,
        before=argmax,
    )


def _check_no_padding(argmax: Tensor, again: Tensor) -> None:
    if not _backends.is_readable(argmax):
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
    if not _backends.is_readable(offsets):
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
