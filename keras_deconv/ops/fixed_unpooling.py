"""Unpooling that remembers nothing, as functions."""

from typing import Any

from keras import ops

from keras_deconv import _arguments, _backends, _kernels, _shapes
from keras_deconv._arguments import IntOrInts
from keras_deconv._kernels.windows import Windows, fit, lay_windows
from keras_deconv.ops._layout import (
    as_batch,
    channel_axis,
    from_kernel,
    target_size,
    to_kernel,
)

Tensor = Any
__all__ = ["bed_of_nails_unpool", "nearest_unpool"]


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
    values = as_batch(values, "values")
    size = _arguments.ints(size, len(values.shape) - 2, "size", 1)
    data_format = _arguments.data_format(data_format)
    values, target = _block_target(values, size, like, data_format)
    result = _kernels.nearest(
        to_kernel(values, data_format), _blocks(values, size, data_format)
    )
    result = fit(result, target, fill=None)
    channels = _backends.shape(values)[channel_axis(data_format)]
    return from_kernel(result, channels, data_format)


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
    values = as_batch(values, "values")
    size = _arguments.ints(size, len(values.shape) - 2, "size", 1)
    position = _arguments.position(position, size)
    data_format = _arguments.data_format(data_format)
    values, target = _block_target(values, size, like, data_format)
    result = _kernels.bed_of_nails(
        to_kernel(values, data_format),
        _blocks(values, size, data_format),
        position,
    )
    result = fit(result, target, fill=0)
    channels = _backends.shape(values)[channel_axis(data_format)]
    return from_kernel(result, channels, data_format)


def _blocks(
    values: Tensor, block: tuple[int, ...], data_format: str
) -> Windows:
    """The blocks that values become, as windows side by side."""
    size = _shapes.spatial_size(_backends.shape(values), data_format)
    whole = [n * b for n, b in zip(size, block, strict=True)]
    return lay_windows(whole, block, block, "valid")


def _block_target(
    values: Tensor,
    block: tuple[int, ...],
    like: Tensor | None,
    data_format: str,
) -> tuple[Tensor, tuple]:
    """The values, checked to be blocks of the size, and the size to restore."""
    target, static = target_size(
        values,
        None,
        like,
        data_format,
        lambda m: _shapes.unpooled_size(m, block, block, "same"),
    )
    _shapes.check_block_size(
        static,
        _shapes.spatial_size(_backends.static_shape(values), data_format),
        block,
    )
    size = _shapes.spatial_size(_backends.shape(values), data_format)
    for n, m, s in zip(target, size, block, strict=True):
        if like is not None and (ops.is_tensor(n) or ops.is_tensor(m)):
            values = _backends.require(
                ops.logical_and((m - 1) * s < n, n < (m + 1) * s),
                "`like` must have a size that shrinks to the size of `values` "
                "when divided by `size`. Size, values, block:",
                *(n, m, s),
                before=values,
            )
    return values, target
