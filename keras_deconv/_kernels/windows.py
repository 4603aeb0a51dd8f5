"""Window kernels for any number of spatial axes, in `keras.ops` alone.

A tensor here is `(outer, *spatial, inner)`: batches that keep their channels
last come as they are, others with batch and channels as `outer` and an `inner`
of 1. The argmax index of a window is the row-major position of its maximum
inside the window.

One axis is cut into blocks of `stride` cells. With `m` windows of `k` cells,
window `i` starts at block `i` and reaches over `q = ceil(k / stride)` blocks,
so that pooling and unpooling are splitting into blocks, shifting by whole
blocks, comparing and selecting: nothing could leave the window. Windows that do
not overlap have `q = 1` and no shifts. Positions in the plane are the general
case, in `positions.py`.

Tensors have rank 5 at the most, since TFLite's built-in operations ask for it.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_deconv import _backends, _shapes

Tensor = Any
Length = Any  # int, or a scalar tensor where a size is not known


class Windows(NamedTuple):
    """Where the windows of one pooling lie, one entry per spatial axis."""

    size: tuple[Length, ...]
    num_windows: tuple[Length, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    before: tuple[Length, ...]
    are_padded: bool = False  # whether they may reach beyond the input

    @property
    def axes(self) -> list[tuple[Length, ...]]:
        """Size, number, window, stride and first padding of each axis."""
        return list(zip(*self[:5], strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Number of blocks that a window touches."""
        return tuple(
            -(-k // s)
            for k, s in zip(self.pool_size, self.strides, strict=True)
        )

    @property
    def num_blocks(self) -> tuple[Length, ...]:
        """Number of blocks that all windows together touch."""
        return tuple(
            m + q - 1 for m, q in zip(self.num_windows, self.reach, strict=True)
        )


def cast_length(length: Length, dtype: str) -> Length:
    """A length in the dtype of positions; one that is known is just an int."""
    return ops.cast(length, dtype) if ops.is_tensor(length) else length


def lay_windows(
    size: Sequence[Length],
    pool_size: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> Windows:
    """Lay windows over an input of `size`; its entries may be tensors."""
    num_windows = []
    before = []
    for n, k, s in zip(size, pool_size, strides, strict=True):
        if isinstance(n, int):
            m = _shapes.pooled_length(n, k, s, padding)
            start = _shapes.padding_before(n, m or 0, k, s, padding)
        elif padding == "same":
            m = (n + s - 1) // s
            # Half of at most k - 1 cells, rounded down.
            padded = _backends.longer((m - 1) * s + k - n, 0)
            start = padded // 2 if k > 2 else 0
        else:
            m, start = _backends.longer((n - k) // s + 1, 0), 0
        num_windows.append(m)
        before.append(start)
    return Windows(
        tuple(size),
        tuple(num_windows),
        tuple(pool_size),
        tuple(strides),
        tuple(before),
        are_padded=padding == "same",
    )


def offsets(pool_size: Sequence[int]) -> list[tuple[int, ...]]:
    """Offsets inside a window in row-major order."""
    return list(itertools.product(*map(range, pool_size)))


def _pad_or_crop(
    x: Tensor,
    before: Sequence[Length],
    lengths: Sequence[Length],
    fill: Any,
) -> Tensor:
    """Give the spatial axes `lengths`, with `before` new cells in front.

    A negative `before` takes cells away; a `fill` of None repeats the border.
    """
    size = _backends.shape(x)[1:-1]
    after = [to - n - b for to, n, b in zip(lengths, size, before, strict=True)]
    pads = [
        (_backends.longer(b, 0), _backends.longer(a, 0))
        for b, a in zip(before, after, strict=True)
    ]
    if any(not isinstance(p, int) or p > 0 for pair in pads for p in pair):
        x = _backends.pad(x, [(0, 0), *pads, (0, 0)], fill)
    if any(not isinstance(n, int) or n < 0 for n in (*before, *after)):
        x = _slice(x, [_backends.longer(-b, 0) for b in before], lengths)
    if not all(isinstance(n, int) for n in lengths):
        # Converters lose sight of the channels, which convolutions ask for.
        batch, *_, inner = _backends.shape(x)
        x = ops.reshape(x, (batch, *lengths, inner))
    return x


def _slice(
    x: Tensor, starts: Sequence[Length], lengths: Sequence[Length]
) -> Tensor:
    spatial = (
        slice(start, start + length)
        for start, length in zip(starts, lengths, strict=True)
    )
    return x[(slice(None), *spatial)]


def cells(x: Tensor, windows: Windows, fill: Any) -> list[Tensor]:
    """Give one tensor per offset in row-major order: that cell of each window.

    They have the shape of what is pooled.
    """
    strides, num_blocks = windows.strides, windows.num_blocks
    inner = _backends.shape(x)[-1]
    lengths = [n * s for n, s in zip(num_blocks, strides, strict=True)]
    x = _pad_or_crop(x, windows.before, lengths, fill)
    pieces: dict[tuple[int, ...], Tensor] = {(): x}
    # Axes before the last two are cut one by one, so that rank 5 is enough.
    for axis, stride in enumerate(strides[:-2]):
        view = (-1, stride, math.prod((*lengths[axis + 1 :], inner)))
        pieces = {
            (*offset, i): ops.reshape(piece, view)[:, i]
            for offset, piece in pieces.items()
            for i in range(stride)
        }
    # The last two are cut at once, in one pass over memory. One axis is two,
    # of which the first has one cell.
    rows, columns = (1, *strides)[-2:]
    rank5 = (-1, rows, num_blocks[-1], columns, inner)
    blocks = {
        offset: ops.transpose(ops.reshape(piece, rank5), (1, 3, 0, 2, 4))
        for offset, piece in pieces.items()
    }

    def cell(offset: tuple[int, ...]) -> Tensor:
        pairs = zip(offset, strides, strict=True)
        firsts, inside = zip(*(divmod(o, s) for o, s in pairs), strict=True)
        row, column = (0, *inside)[-2:]
        # Slices of the first axis are no copies.
        piece = ops.reshape(
            blocks[inside[:-2]][row][column], (-1, *num_blocks, inner)
        )
        if math.prod(windows.reach) == 1:
            return piece
        return _slice(piece, firsts, windows.num_windows)

    return [cell(offset) for offset in offsets(windows.pool_size)]


def _first_inside(windows: Windows, dtype: str) -> Tensor | None:
    """Index of each window's first cell that is no padding; None for all 0."""
    if all(isinstance(b, int) and b == 0 for b in windows.before):
        return None
    first = ops.zeros((), dtype=dtype)
    for axis, (m, k, s, b) in enumerate(
        zip(
            windows.num_windows,
            windows.pool_size,
            windows.strides,
            windows.before,
            strict=True,
        )
    ):
        inside = ops.maximum(b - ops.arange(m, dtype="int32") * s, 0)
        inside = ops.cast(inside, dtype)
        first = first * k + along(axis, inside, len(windows.size))
    return first


def along(axis: int, x: Tensor, num_spatial_dims: int) -> Tensor:
    """Lay a vector along one spatial axis, for broadcasting."""
    shape = [1] * (num_spatial_dims + 2)
    shape[axis + 1] = -1
    return ops.reshape(x, shape)


def pool(
    x: Tensor,
    windows: Windows,
    dtype: str = "int32",
    cells: Callable[[Tensor, Windows, Any], list[Tensor]] = cells,
) -> tuple[Tensor, Tensor]:
    """Maximum of each window, and its index in `dtype`.

    Of equal maxima the first in row-major order wins. NaN and infinity beat
    every number; a window with NaN gives NaN and points to its first cell that
    is NaN or infinite.
    """
    is_float = "float" in _name(x)
    lowest = -math.inf if is_float else int(np.iinfo(_name(x)).min)
    values = cells(x, windows, lowest)
    best = highest = functools.reduce(_backends.maximum, values)
    if is_float:
        has_nan = _backends.any_nan(values, highest)
        best = ops.where(has_nan, math.nan, highest)
        highest = ops.where(has_nan, math.inf, highest)
    # The index is the number of cells before the first that is not lower.
    argmax = before = None
    for value in values[:-1]:
        lower = ops.less(value, highest)
        before = lower if before is None else ops.logical_and(before, lower)
        step = ops.cast(before, dtype)
        argmax = step if argmax is None else argmax + step
    if argmax is None:
        argmax = ops.zeros_like(best, dtype=dtype)
    return best, skip_padding(argmax, windows)


def skip_padding(argmax: Tensor, windows: Windows) -> Tensor:
    """The index, where padding in front of a window is not chosen.

    It is as low as the lowest cell, and wins only where all are as low.
    """
    first_inside = _first_inside(windows, _name(argmax))
    return argmax if first_inside is None else ops.maximum(argmax, first_inside)


def _name(x: Tensor) -> str:
    return keras.backend.standardize_dtype(x.dtype)


def unpool(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str = "sum"
) -> Tensor:
    """Put each value where its window's index says, 0 elsewhere.

    Where windows overlap, "sum" adds what lands on one cell and "mean"
    averages it.
    """
    argmax = _as_rows(argmax)
    if math.prod(windows.pool_size) > 255:
        # One more number is needed, for no cell at all.
        argmax = ops.cast(argmax, "int32")
    landings = {
        shift: _choose(argmax, _block_index(windows, shift), windows.strides)
        for shift in itertools.product(*map(range, windows.reach))
    }

    def land(x: Tensor) -> list[Tensor]:
        """What each block of the windows brings to the cells."""
        return [
            _shift(spread(x, windows.strides, chosen), windows, shift)
            for shift, chosen in landings.items()
        ]

    terms = land(values)
    if overlap == "sum" or len(terms) == 1:
        result = functools.reduce(ops.add, terms)
    else:
        result = _mean(terms, land(ops.ones_like(values)))
    return _pad_or_crop(
        result, [-b for b in windows.before], windows.size, fill=0
    )


def _mean(terms: list[Tensor], ones: list[Tensor]) -> Tensor:
    """Mean of the terms where `ones` is 1, and 0 where there is none.

    Counted from the largest term, so that the mean of equal values is that
    value to the bit, and no sum leaves half precision.
    """
    landed = [one > 0 for one in ones]
    zero = ops.zeros((), terms[0].dtype)
    largest = functools.reduce(
        _backends.maximum,
        [
            ops.where(here, term, -math.inf)
            for here, term in zip(landed, terms, strict=True)
        ],
    )
    count = functools.reduce(ops.add, ones)
    # No selection between tensors: tf2onnx multiplies them by 0 and 1, and
    # infinity times 0 is no number.
    nothing = ops.where(count > 0, -math.inf, zero)
    largest = ops.stop_gradient(_backends.maximum(largest, nothing))

    def rest(here: Tensor, term: Tensor) -> Tensor:
        # inf - inf is no number; the mean of two inf is inf.
        same = ops.logical_and(ops.isinf(term), term == largest)
        counts = ops.logical_and(here, ops.logical_not(same))
        return ops.where(counts, term - largest, zero)

    total = functools.reduce(ops.add, map(rest, landed, terms))
    return largest + total / _backends.maximum(count, 1)


def _block_index(windows: Windows, shift: tuple[int, ...]) -> list[int]:
    """Window index of each cell of the block `shift` blocks into the window.

    Row-major. Cells beyond the window, and between windows with gaps, have the
    number after the last. (In Python, since `torch.compile` traces NumPy.)
    """
    outside = math.prod(windows.pool_size)
    result = []
    for cell in offsets(windows.strides):
        index = 0
        for c, b, k, s in zip(
            cell, shift, windows.pool_size, windows.strides, strict=True
        ):
            offset = b * s + c
            index = index * k + offset if offset < k else outside * k
        result.append(min(index, outside))
    return result


def _shift(x: Tensor, windows: Windows, shift: tuple[int, ...]) -> Tensor:
    if math.prod(windows.reach) == 1:
        return x
    before = [b * s for b, s in zip(shift, windows.strides, strict=True)]
    lengths = [
        n * s for n, s in zip(windows.num_blocks, windows.strides, strict=True)
    ]
    return _pad_or_crop(x, before, lengths, fill=0)


def gather(x: Tensor, argmax: Tensor, windows: Windows) -> Tensor:
    """Read each window's cell at its index: the adjoint of "sum" unpooling."""

    def choose(cells: list[Tensor], first: int) -> Tensor:
        """Halve the cells until one is left."""
        if len(cells) == 1:
            return cells[0]
        half = len(cells) // 2
        return ops.where(
            argmax < first + half,
            choose(cells[:half], first),
            choose(cells[half:], first + half),
        )

    return choose(cells(x, windows, fill=0), 0)


def nearest(values: Tensor, windows: Windows) -> Tensor:
    """Repeat each value over its block; blocks are windows side by side."""
    return spread(values, windows.strides, lambda leading: None)


def nearest_adjoint(x: Tensor, windows: Windows) -> Tensor:
    """Sum over each block."""
    return functools.reduce(ops.add, cells(x, windows, fill=0))


def bed_of_nails(
    values: Tensor, windows: Windows, position: Sequence[int]
) -> Tensor:
    """Put each value on one cell of its block, 0 elsewhere."""
    here = [int(o != tuple(position)) for o in offsets(windows.strides)]
    zero = ops.zeros((1,) * 5, dtype="int32")
    chosen = _choose(zero, here, windows.strides)
    return spread(values, windows.strides, chosen)


def bed_of_nails_adjoint(
    x: Tensor, windows: Windows, position: Sequence[int]
) -> Tensor:
    """Read that one cell of each block."""
    index = np.ravel_multi_index(tuple(position), windows.pool_size)
    return cells(x, windows, fill=0)[index]


def fit(
    x: Tensor,
    before: Sequence[Length],
    size: Sequence[Length],
    fill: float | None,
) -> Tensor:
    """Move blocks by `before` cells, and crop or pad them to `size`.

    A `fill` of None repeats the last value: the new cells at the end are fewer
    than a block, so that the border, mirrored or not, holds that value alone.
    """
    return _pad_or_crop(x, before, size, fill)


def _as_rows(x: Tensor) -> Tensor:
    """View as (outer * rows, 1, columns, 1, inner), to be given blocks."""
    *_, columns, inner = _backends.shape(x)
    return ops.reshape(x, (-1, 1, columns, 1, inner))


def _choose(
    argmax: Tensor, block_index: Sequence[int], block: Sequence[int]
) -> Callable[[tuple[int, ...]], Tensor]:
    """Condition for `spread`: the index of the cell is the one remembered."""
    *_, rows, columns = (1, *block)
    area = rows * columns

    def chosen(leading: tuple[int, ...]) -> Tensor:
        first = 0
        for offset, length in zip(leading, block[:-2], strict=True):
            first = first * length + offset
        plane = ops.convert_to_tensor(
            block_index[first * area : (first + 1) * area], _name(argmax)
        )
        return ops.equal(argmax, ops.reshape(plane, (1, rows, 1, columns, 1)))

    return chosen


def spread(
    values: Tensor,
    block: Sequence[int],
    chosen: Callable[[tuple[int, ...]], Tensor | None],
) -> Tensor:
    """Give each value a block of cells: itself where chosen, 0 elsewhere.

    Args:
        values: `(outer, *spatial, inner)`.
        block: Cells per value along each spatial axis.
        chosen: Called with an offset along all but the last two axes of a
            block; gives the condition for that plane of the blocks, which
            must broadcast to `(outer * rows, block rows, columns, block
            columns, inner)`, or None for everywhere.
    """
    *spatial, inner = _backends.shape(values)[1:]
    rows = _as_rows(values)
    *leading, block_rows, block_columns = (1, *block)[-max(len(block), 2) :]
    plane_shape = (block_rows, spatial[-1], block_columns, inner)
    planes = []
    for offset in itertools.product(*map(range, leading)):
        condition = chosen(offset)
        batch = _backends.shape(rows)[0]
        # In 3D OpenVINO cannot broadcast to what ONNX files compute as batch.
        is_open = batch < 0 if isinstance(batch, int) else bool(leading)
        if condition is None and is_open:
            # A selection does not need the batch, which is open in a file.
            condition = ops.ones((1, block_rows, 1, block_columns, 1), "bool")
        planes.append(
            ops.broadcast_to(rows, (batch, *plane_shape))
            if condition is None
            else ops.where(condition, rows, ops.zeros((), values.dtype))
        )
    result = planes[0]
    if len(planes) > 1:
        width = math.prod((*spatial[-2:-1], *plane_shape))
        result = ops.concatenate(
            [ops.reshape(plane, (-1, width)) for plane in planes], axis=1
        )
    lengths = (n * b for n, b in zip(spatial, block, strict=True))
    return ops.reshape(result, (-1, *lengths, inner))
