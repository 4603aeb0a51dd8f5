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
    """Convert the index of max pooling to the format of another framework.

    Use this function to unpool with an index from TensorFlow, PyTorch or ONNX,
    or to compare indices with them. All formats count from 0 over the input of
    the pooling:

    - "window": position inside the window, in row-major order.
    - "plane": `row * width + column` within one channel, as in PyTorch. In 3D,
      it is `(slice * height + row) * width + column`.
    - "flat": `(row * width + column) * channels + channel` within one image, as
      in `tf.nn.max_pool_with_argmax` and TF Addons. With
      `include_batch_in_index=True` TensorFlow adds `height * width * channels`
      per image: pass `argmax % (height * width * channels)`.
    - "onnx": `((image * channels + channel) * height + row) * width + column`,
      as in ONNX MaxPool.

    Args:
        argmax: Integer tensor of rank 3, 4 or 5.
        source: "window", "flat", "plane" or "onnx". Format of `argmax`.
        target: "window", "flat", "plane" or "onnx". Format to return.
        input_size: int or tuple of ints >= 1, one per spatial axis. Spatial
            size of the input of the pooling.
        pool_size: int or tuple of ints >= 1, one per spatial axis. Window of
            the pooling. The default is 2. Only the format "window" uses
            `pool_size`, `strides` and `padding`.
        strides: None, int or tuple of ints >= 1, one per spatial axis. Strides
            of the pooling. None means `pool_size`.
        padding: "valid" or "same". Padding of the pooling.
        channels: None or int >= 1. Number of channels of the input of the
            pooling. None uses the number of channels of `argmax`.
        data_format: "channels_last", "channels_first" or None. Layout of
            `argmax`. None uses the Keras configuration.

    Returns:
        A tensor with the shape of `argmax`. The dtype is uint8 or int32 for
        "window", and int64 otherwise (int32 on JAX unless `jax_enable_x64` is
        set).

    Raises:
        ValueError: If `source`, `target`, `padding` or `data_format` is not one
            of the values above.
        ValueError: If `input_size`, `pool_size` or `strides` is not an int >= 1
            or a tuple of ints >= 1, one per spatial axis.
        ValueError: If `argmax` is a symbolic Keras tensor, does not have rank
            3, 4 or 5, or does not have an integer dtype.
        ValueError: If `channels` is less than the number of channels of
            `argmax`.
        ValueError: If `source` or `target` is "window" and pooling `input_size`
            does not give the size of `argmax`.
        ValueError: If an index points outside the input, outside its window or
            into padding. Only eager calls on the CPU check this.
        ValueError: If positions do not fit into int32 on JAX without
            `jax_enable_x64`.
        tf.errors.InvalidArgumentError: If sizes do not match, in a TensorFlow
            graph built for unknown sizes.

    Edge cases:
        In compiled functions and on a GPU, the result for an index that points
        outside is undefined.

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
        # Conversion does not compare the cells, so the window may be large.
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
    """Run `_shapes.check_unpooled_size` on sizes known only at run time."""
    found = _shapes.spatial_size(_backends.shape(argmax), data_format)
    expected = _shapes.pooled_size(size, *window)
    return _backends.require_lengths(
        (m == n for m, n in zip(found, expected, strict=True)),
        "`argmax` must have the size of the pooled tensor. Pass the "
        "`input_size`, `pool_size`, `strides` and `padding` of the pooling. "
        f"Received: input_size={size}, which pools to {expected}, and argmax "
        "of size",
        *found,
        before=argmax,
    )


def _check_no_padding(argmax: Tensor, again: Tensor) -> None:
    if not _backends.is_readable(argmax):
        return
    differs = ops.convert_to_numpy(argmax) != ops.convert_to_numpy(again)
    if differs.any():
        raise ValueError(
            "`argmax` must point to cells of the input. Received: "
            f"{differs.sum()} of {differs.size} window indices point into "
            "padding. Pass the `input_size`, `pool_size`, `strides` and "
            "`padding` of the pooling."
        )


def _check_inside_windows(offsets: Tensor) -> None:
    if not _backends.is_readable(offsets):
        return
    seen = ops.convert_to_numpy(offsets)
    if seen.size and seen.min() < 0:
        raise ValueError(
            "`argmax` must point into the windows that `pool_size`, `strides` "
            f"and `padding` define. Received: {(seen < 0).sum()} of "
            f"{seen.size} indices point outside. Pass the arguments of the "
            "pooling. If the pooling used another padding, as PyTorch and "
            "Caffe can, it does not have window indices. Unpool with "
            "index_format='plane' or 'flat' instead."
        )
