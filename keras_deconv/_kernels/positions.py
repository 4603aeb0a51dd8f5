"""Positions in the plane: the general case, with any index from anywhere.

The window kernels count cells inside a window. Other libraries count over the
whole plane, row-major, and their windows may overlap or be padded in their own
way. Only `scatter` scatters.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_deconv._kernels.windows import Length, Windows, along, cast_length

Tensor = Any


def to_positions(argmax: Tensor, windows: Windows, dtype: str) -> Tensor:
    """Window index to the position in the plane, row-major."""
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
    """Position in the plane to the window index (int32); the inverse.

    A position outside the window comes out as -1.
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
    """Coordinate of each window's first cell; negative in the padding."""
    first = ops.arange(
        cast_length(windows.num_windows[axis], dtype), dtype=dtype
    ) * windows.strides[axis] - cast_length(windows.before[axis], dtype)
    return along(axis, first, len(windows.size))


def scatter(
    values: Tensor, positions: Tensor, size: Sequence[Length], overlap: str
) -> Tensor:
    """Unpool with positions in the plane, wherever they come from.

    The general case: a position need not belong to a window. One outside the
    plane puts its value nowhere.
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
        # From the largest one on, so that the mean of equal values is that
        # value to the bit, and sums do not leave half precision.
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

    Outside the plane there are zeros.
    """
    cell, inside, _ = _cells(positions, ops.shape(x)[1:-1])
    found = ops.take(ops.reshape(x, (-1,)), cell)
    found = ops.where(inside, found, ops.zeros((), x.dtype))
    return ops.reshape(found, ops.shape(positions))


def _cells(
    positions: Tensor, size: Sequence[Length]
) -> tuple[Tensor, Tensor, Length]:
    """Cell of each position among all, whether it is one, and their number."""
    outer, *_, inner = ops.shape(positions)
    dtype = positions.dtype
    plane = math.prod(cast_length(n, dtype) for n in size)
    outer, inner = cast_length(outer, dtype), cast_length(inner, dtype)
    # Of each value: its row of (outer, plane), then its cell of all.
    first = ops.arange(outer, dtype=dtype) * plane
    first = ops.reshape(first, (-1, *[1] * (len(positions.shape) - 1)))
    row = ops.reshape(positions + first, (-1, ops.shape(positions)[-1]))
    cell = row * inner + ops.arange(inner, dtype=dtype)
    inside = ops.logical_and(positions >= 0, positions < plane)
    inside = ops.reshape(inside, (-1,))
    cell = ops.where(inside, ops.reshape(cell, (-1,)), 0)
    return cell, inside, outer * plane * inner
