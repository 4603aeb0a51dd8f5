"""Unpooling that remembers nothing, as functions."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

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
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    output_size: IntOrInts | None = None,
    like: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Repeat each value over the window that it was pooled from.

    See `NearestUnpool2D` for the arguments, the edge cases and the sizes.

    Args:
        values: Tensor of rank 3, 4 or 5.
        pool_size: int or tuple of ints >= 1. Cells per value, per spatial axis;
            at most 16,384 in all, such as 128x128.
        strides: None or `pool_size`: windows that lie side by side.
        padding: "valid" or "same", as in the pooling that is undone.
        output_size: int or tuple of ints >= 1. Spatial size to restore.
        like: Tensor whose spatial size is to be restored.
        data_format: "channels_last", "channels_first" or None.

    Returns:
        Tensor in the dtype of `values`, `pool_size` times as large, or in the
        size to restore.

    Raises:
        ValueError: If an argument is not as described, or the size to restore
            does not belong to the size of `values`.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> np.squeeze(keras_deconv.ops.nearest_unpool(values)).tolist()
        [[5.0, 5.0, 7.0, 7.0], [5.0, 5.0, 7.0, 7.0]]
    """
    values = as_batch(values, "values")
    num_spatial_dims = len(values.shape) - 2
    pool_size, strides, padding = _arguments.window(
        *(pool_size, strides, padding, num_spatial_dims),
        max_cells=_arguments.MAX_FILLED_CELLS,
    )
    _arguments.check_side_by_side(strides, pool_size)
    return _unpool(
        values,
        pool_size,
        strides,
        padding,
        output_size,
        like,
        data_format,
        _kernels.nearest,
        first=(0,) * num_spatial_dims,
        fill=None,
    )


def bed_of_nails_unpool(
    values: Tensor,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    output_size: IntOrInts | None = None,
    like: Tensor | None = None,
    data_format: str | None = None,
    position: IntOrInts = 0,
) -> Tensor:
    """Put each value on one fixed cell of its window; zero elsewhere.

    See `BedOfNailsUnpool2D` for the arguments, the edge cases and the sizes.

    Args:
        values: Tensor of rank 3, 4 or 5.
        pool_size: int or tuple of ints >= 1. Window, per spatial axis; at most
            16,384 cells in all, such as 128x128.
        strides: int, tuple of ints >= 1 or None (`pool_size`). Distance
            between windows.
        padding: "valid" or "same", as in the pooling that is undone.
        output_size: int or tuple of ints >= 1. Spatial size to restore.
        like: Tensor whose spatial size is to be restored.
        data_format: "channels_last", "channels_first" or None.
        position: int or tuple of ints, each < `pool_size`. The cell of the
            window that takes the value.

    Returns:
        Tensor in the dtype of `values`, in the size that was pooled.

    Raises:
        ValueError: If an argument is not as described, or the size to restore
            does not belong to the size of `values`.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> np.squeeze(keras_deconv.ops.bed_of_nails_unpool(values)).tolist()
        [[5.0, 0.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    values = as_batch(values, "values")
    num_spatial_dims = len(values.shape) - 2
    pool_size, strides, padding = _arguments.window(
        *(pool_size, strides, padding, num_spatial_dims),
        max_cells=_arguments.MAX_FILLED_CELLS,
    )
    position = _arguments.position(position, pool_size)
    # Each stride is a block of cells; a position beyond it lies in a later one.
    blocks, cells = zip(*map(divmod, position, strides), strict=True)
    return _unpool(
        values,
        pool_size,
        strides,
        padding,
        output_size,
        like,
        data_format,
        functools.partial(_kernels.bed_of_nails, position=cells),
        first=tuple(b * s for b, s in zip(blocks, strides, strict=True)),
        fill=0,
    )


def _unpool(
    values: Tensor,
    pool_size: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    output_size: IntOrInts | None,
    like: Tensor | None,
    data_format: str | None,
    kernel: Callable[[Tensor, Windows], Tensor],
    first: tuple[int, ...],
    fill: float | None,
) -> Tensor:
    """Make each value a block of `strides` cells, and lay blocks on windows.

    A block begins `first` cells after the first cell of its window.
    """
    output_size = _arguments.output_size(output_size, len(pool_size))
    data_format = _arguments.data_format(data_format)
    window = (pool_size, strides, padding)
    target, static = target_size(
        values,
        output_size,
        like,
        data_format,
        lambda m: _shapes.unpooled_size(m, *window),
    )
    _shapes.check_block_size(
        static,
        _shapes.spatial_size(_backends.static_shape(values), data_format),
        *window,
    )
    size = _shapes.spatial_size(_backends.shape(values), data_format)
    values = _require_blocks(values, target, size, window)
    whole = [n * s for n, s in zip(size, strides, strict=True)]
    result = kernel(
        to_kernel(values, data_format),
        lay_windows(whole, strides, strides, "valid"),
    )
    padded = lay_windows(target, *window).before
    before = [f - b for f, b in zip(first, padded, strict=True)]
    result = fit(result, before, target, fill)
    channels = _backends.shape(values)[channel_axis(data_format)]
    return from_kernel(result, channels, data_format)


def _require_blocks(
    values: Tensor, target: tuple, size: tuple, window: tuple
) -> Tensor:
    """`_shapes.check_block_size` for sizes not known until run time."""
    pool_size, strides, padding = window

    def rules() -> Iterator[Any]:
        for n, m, k, s in zip(target, size, pool_size, strides, strict=True):
            smallest, largest = _shapes.block_lengths(m, k, s, padding)
            yield smallest <= n
            yield n <= largest

    return _backends.require_lengths(
        rules(),
        "The size to restore (`output_size` or `like`) must be one that "
        f"shrinks to the size of `values`, with pool_size={pool_size}, "
        f"strides={strides}, padding={padding!r}. Received: size to restore",
        *target,
        "values of size",
        *size,
        before=values,
    )
