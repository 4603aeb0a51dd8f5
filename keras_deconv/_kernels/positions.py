"""Kernels for positions in the plane: the general case of an index.

The window kernels count cells inside a window. Other libraries count cells of
the whole plane in row-major order. Their windows may overlap, and may use
another padding.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_deconv._kernels.windows import Length, Windows, along, cast_length

Tensor = Any


def to_positions(argmax: Tensor, windows: Windows, dtype: str) -> Tensor:
    """Convert window indices to row-major positions in the plane."""
    rest = ops.cast(argmax, dtype)
    offsets: list[Tensor] = []
    for k in reversed(windows.pool_size):
        offsets.insert(0, rest % k)
        rest = rest // k
    result = ops.zeros((), dtype)
    for axis, offset in enumerate(offsets):
        first = _first_cell(axis, windows, dtype)
        result = (
            result * cast_length(windows.size[axis], dtype) + first + offset
        )
    return result


def to_offsets(positions: Tensor, windows: Windows) -> Tensor:
    """Convert positions in the plane to window indices in int32.

    A position outside the window becomes -1.
    """
    dtype = positions.dtype
    rest = positions
    coordinates: list[Tensor] = []
    for length in reversed(windows.size):
        n = cast_length(length, dtype)
        coordinates.insert(0, rest % n)
        rest = rest // n
    result = ops.zeros((), dtype)
    inside = rest == 0
    for axis, coordinate in enumerate(coordinates):
        k = windows.pool_size[axis]
        offset = coordinate - _first_cell(axis, windows, dtype)
        inside = inside & (offset >= 0) & (offset < k)
        result = result * k + offset
    return ops.cast(ops.where(inside, result, -1), "int32")


def _first_cell(axis: int, windows: Windows, dtype: str) -> Tensor:
    """Return the coordinate of each window's first cell along an axis.

    It is negative in the padding.
    """
    first = ops.arange(
        cast_length(windows.num_windows[axis], dtype), dtype=dtype
    ) * windows.strides[axis] - cast_length(windows.before[axis], dtype)
    return along(axis, first, len(windows.size))


def scatter(
    values: Tensor, positions: Tensor, size: Sequence[Length], overlap: str
) -> Tensor:
    """Unpool with positions in the plane, which need not belong to windows.

    The value of a position outside the plane is dropped.
    """
    cell, inside, num_cells = _cells(positions, size)
    inner = ops.shape(values)[-1]
    values = ops.reshape(values, (-1,))
    zero = ops.zeros((), values.dtype)

    def total(x: Tensor) -> Tensor:
        return ops.segment_sum(ops.where(inside, x, zero), cell, num_cells)

    if overlap == "sum":
        result = total(values)
    else:
        count = total(ops.ones_like(values))
        # Averaging the differences from the largest value keeps the mean of
        # equal values exact and avoids overflow in half precision.
        largest = ops.segment_max(
            ops.where(inside, values, -math.inf), cell, num_cells
        )
        largest = ops.stop_gradient(ops.where(count > 0, largest, zero))
        rest = values - ops.take(largest, cell)
        rest = ops.where(ops.isnan(rest) & ~ops.isnan(values), zero, rest)
        result = largest + total(rest) / ops.maximum(count, 1)
    return ops.reshape(result, (-1, *size, inner))


def read(x: Tensor, positions: Tensor) -> Tensor:
    """Read the cell at each position: the adjoint of "sum" unpooling.

    Positions outside the plane read 0.
    """
    cell, inside, _ = _cells(positions, ops.shape(x)[1:-1])
    found = ops.take(ops.reshape(x, (-1,)), cell)
    found = ops.where(inside, found, ops.zeros((), x.dtype))
    return ops.reshape(found, ops.shape(positions))


def _cells(
    positions: Tensor, size: Sequence[Length]
) -> tuple[Tensor, Tensor, Length]:
    """Return cell numbers, whether they are valid, and the number of cells."""
    outer, *_, inner = ops.shape(positions)
    dtype = positions.dtype
    plane = math.prod(cast_length(n, dtype) for n in size)
    outer, inner = cast_length(outer, dtype), cast_length(inner, dtype)
    # First the row of each value in (outer * plane), then its cell number.
    first = ops.arange(outer, dtype=dtype) * plane
    first = ops.reshape(first, (-1, *[1] * (len(positions.shape) - 1)))
    row = ops.reshape(positions + first, (-1, ops.shape(positions)[-1]))
    cell = row * inner + ops.arange(inner, dtype=dtype)
    inside = ops.logical_and(positions >= 0, positions < plane)
    inside = ops.reshape(inside, (-1,))
    cell = ops.where(inside, ops.reshape(cell, (-1,)), 0)
    return cell, inside, outer * plane * inner
