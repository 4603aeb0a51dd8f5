"""The kernels' tensor layout, and checks shared by all functions."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deconv import _arguments, _backends, _shapes
from keras_deconv._kernels.windows import cast_length

Tensor = Any


def as_batch(x: Tensor, name: str) -> Tensor:
    if isinstance(x, keras.KerasTensor):
        raise ValueError(
            f"`{name}` must not be a symbolic Keras tensor. In a functional "
            "model use the layer of the same name, such as "
            "keras_deconv.MaxUnpool2D, which supports unknown sizes."
        )
    x = _arguments.tensor(x, name)
    if len(x.shape) not in (3, 4, 5):
        raise ValueError(
            f"`{name}` must be a batch with 1, 2 or 3 spatial axes, such as "
            "(batch, height, width, channels). To pass a size in numbers, use "
            f"`output_size`. Received: shape {tuple(x.shape)}"
        )
    if 0 in _backends.static_shape(x)[1:]:
        raise ValueError(
            f"`{name}` must not be empty in an axis other than the batch. "
            f"Received: shape {tuple(x.shape)}"
        )
    _arguments.check_number_dtype(x.dtype, name)
    shape = _backends.shape(x)
    return _backends.require_lengths(
        (n > 0 for n in shape[1:]),
        f"`{name}` must not be empty in an axis other than the batch. "
        "Received: shape",
        *shape,
        before=x,
    )


def channel_axis(data_format: str) -> int:
    return -1 if data_format == "channels_last" else 1


def numbers_along(like: Tensor, axis: int) -> Tensor:
    """Return the numbers 0, 1, ... along one axis, to broadcast to `like`."""
    shape = [1] * len(like.shape)
    shape[axis] = -1
    count = cast_length(_backends.shape(like)[axis], like.dtype)
    return ops.reshape(ops.arange(count, dtype=like.dtype), shape)


def position_dtype(size: tuple, channels: Any, batch: Any = 1) -> str:
    """Return a dtype that can hold every position of the input.

    Raises:
        ValueError: If positions do not fit into int32, on JAX without int64.
    """
    dtype = _backends.widest_int()
    known = [n for n in (*size, channels, batch) if isinstance(n, int)]
    if dtype == "int32" and math.prod(known) > 2**31:
        raise ValueError(
            f"Positions in an input of size {tuple(size)} with {channels} "
            "channels do not fit into int32, the widest integer of JAX by "
            "default. Use index_format='window', or call "
            "jax.config.update('jax_enable_x64', True) first."
        )
    return dtype


def to_kernel(x: Tensor, data_format: str) -> Tensor:
    """Reshape to (outer, *spatial, inner) without moving data in memory."""
    if data_format == "channels_last":
        return x
    return ops.reshape(x, (-1, *_backends.shape(x)[2:], 1))


def in_kernel(function: Any, x: Tensor, data_format: str) -> Tensor:
    """Apply a function in the kernels' layout that preserves the shape."""
    channels = _backends.shape(x)[channel_axis(data_format)]
    y = function(to_kernel(x, data_format))
    return from_kernel(y, channels, data_format)


def from_kernel(x: Tensor, channels: Any, data_format: str) -> Tensor:
    if data_format == "channels_last":
        return x
    return ops.reshape(x, (-1, channels, *_backends.shape(x)[1:-1]))


def target_size(
    values: Tensor,
    output_size: tuple[int, ...] | None,
    like: Tensor | None,
    data_format: str,
    default: Any,
) -> tuple[tuple, tuple]:
    """Return the spatial size to restore: at run time, and statically."""
    if like is not None:
        like = as_batch(like, "like")
        like = _require_same_size(like, output_size, data_format)

    def settle(shape: Any) -> tuple:
        return _shapes.settle_size(
            output_size,
            None
            if like is None
            else _shapes.spatial_size(shape(like), data_format),
            default(_shapes.spatial_size(shape(values), data_format)),
        )

    return settle(_backends.shape), settle(_backends.static_shape)


def _require_same_size(
    like: Tensor, output_size: tuple[int, ...] | None, data_format: str
) -> Tensor:
    size = _shapes.spatial_size(_backends.shape(like), data_format)
    if output_size is None or len(output_size) != len(size):
        return like
    return _backends.require_lengths(
        (n == to for n, to in zip(size, output_size, strict=True)),
        "`output_size` and `like` must not request different sizes. Pass only "
        f"one of them. Received: output_size={output_size}, like of spatial "
        "size",
        *size,
        before=like,
    )


def check_range(
    argmax: Tensor,
    index_format: str,
    pool_size: tuple[int, ...],
    size: tuple,
    channels: Any,
    batch: Any = 1,
) -> None:
    """Raise an error if an index points outside, in eager calls on the CPU.

    Values cannot be read in a compiled function, and reading them would stall
    an accelerator. An assertion in a graph would read the whole index once
    more in each call. In these cases the kernels drop the values instead.
    """
    if not _backends.is_readable(argmax):
        return
    if not all(isinstance(n, int) for n in (*size, channels, batch)):
        return
    if index_format == "window":
        limit = math.prod(pool_size)
    else:
        limit = math.prod(size)
        limit *= channels if index_format in ("flat", "onnx") else 1
        limit *= batch if index_format == "onnx" else 1
    seen = np.asarray(argmax)
    if seen.size and (seen.min() < 0 or seen.max() >= limit):
        raise ValueError(
            f"`argmax` in the format {index_format!r} must lie in 0.."
            f"{limit - 1}. Received: indices from {seen.min()} to "
            f"{seen.max()}. Pass the format of the pooling as `index_format` "
            "(`source` in convert_argmax); tf.nn.max_pool_with_argmax returns "
            "'flat', PyTorch returns 'plane'. Pass the size before pooling as "
            "`output_size` or `like` (`input_size` in convert_argmax)."
        )
