"""Window kernels for any number of spatial axes, written in `keras.ops`.

Tensors have the shape `(outer, *spatial, inner)`. With "channels_last", this is
the shape of the batch. With "channels_first", `outer` is the batch times the
channels, and `inner` is 1. The argmax index of a window is the row-major
position of its maximum inside the window.

Each axis is split into blocks of `stride` cells. Window `i` of `k` cells starts
at block `i` and covers `q = ceil(k / stride)` blocks. Pooling and unpooling
split the input into blocks, shift it by whole blocks, compare and select. The
result therefore cannot leave the window. Windows that do not overlap have
`q = 1` and do not need shifts. `positions.py` handles the general case of
positions in the plane.

Tensors have rank 5 at most, which is the limit of TFLite's built-in ops.
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
Length = Any  # An int, or a scalar tensor if the size is unknown.


class Windows(NamedTuple):
    """The layout of pooling windows, with one entry per spatial axis."""

    size: tuple[Length, ...]
    num_windows: tuple[Length, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    before: tuple[Length, ...]
    are_padded: bool = False  # Whether windows may extend beyond the input.

    @property
    def axes(self) -> list[tuple[Length, ...]]:
        """Per axis: size, number of windows, window, stride, padding before."""
        return list(zip(*self[:5], strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Number of blocks that a window covers, per axis."""
        return tuple(
            -(-k // s)
            for k, s in zip(self.pool_size, self.strides, strict=True)
        )

    @property
    def num_blocks(self) -> tuple[Length, ...]:
        """Number of blocks that all windows together cover, per axis."""
        return tuple(
            m + q - 1 for m, q in zip(self.num_windows, self.reach, strict=True)
        )


def cast_length(length: Length, dtype: str) -> Length:
    """Cast an unknown size to the dtype of positions; ints stay ints."""
    return ops.cast(length, dtype) if ops.is_tensor(length) else length


def lay_windows(
    size: Sequence[Length],
    pool_size: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> Windows:
    """Lay windows over an input of a size whose entries may be tensors."""
    num_windows = []
    before = []
    for n, k, s in zip(size, pool_size, strides, strict=True):
        if isinstance(n, int):
            m = _shapes.pooled_length(n, k, s, padding)
            start = _shapes.padding_before(n, m or 0, k, s, padding)
        elif padding == "same":
            m = (n + s - 1) // s
            # There are at most k - 1 cells of padding, half of them before.
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
    """Return the offsets inside a window in row-major order."""
    return list(itertools.product(*map(range, pool_size)))


def _pad_or_crop(
    x: Tensor,
    before: Sequence[Length],
    lengths: Sequence[Length],
    fill: Any,
) -> Tensor:
    """Add `before` cells in front, then pad or crop to `lengths`.

    A negative `before` removes cells. A `fill` of None repeats the border.
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
        # Converters lose the static number of channels, which convolutions
        # need.
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
    """Return one tensor per window offset, with that cell of each window.

    The offsets are in row-major order. Each tensor has the pooled shape.
    """
    strides, num_blocks = windows.strides, windows.num_blocks
    inner = _backends.shape(x)[-1]
    lengths = [n * s for n, s in zip(num_blocks, strides, strict=True)]
    x = _pad_or_crop(x, windows.before, lengths, fill)
    pieces: dict[tuple[int, ...], Tensor] = {(): x}
    # The axes before the last two are split one by one, to stay within rank 5.
    for axis, stride in enumerate(strides[:-2]):
        view = (-1, stride, math.prod((*lengths[axis + 1 :], inner)))
        pieces = {
            (*offset, i): ops.reshape(piece, view)[:, i]
            for offset, piece in pieces.items()
            for i in range(stride)
        }
    # The last two axes are split together, in one pass over memory. In 1D, the
    # first of the two has one cell.
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
        # Slicing the first axis does not copy memory.
        piece = ops.reshape(
            blocks[inside[:-2]][row][column], (-1, *num_blocks, inner)
        )
        if math.prod(windows.reach) == 1:
            return piece
        return _slice(piece, firsts, windows.num_windows)

    return [cell(offset) for offset in offsets(windows.pool_size)]


def _first_inside(windows: Windows, dtype: str) -> Tensor | None:
    """Return the index of each window's first cell inside the input.

    None means that it is 0 for every window.
    """
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
    """Reshape a vector so that it broadcasts along one spatial axis."""
    shape = [1] * (num_spatial_dims + 2)
    shape[axis + 1] = -1
    return ops.reshape(x, shape)


def pool(
    x: Tensor,
    windows: Windows,
    dtype: str = "int32",
    cells: Callable[[Tensor, Windows, Any], list[Tensor]] = cells,
) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, and its index in `dtype`.

    If several cells hold the maximum, the first one in row-major order counts.
    A window with NaN returns NaN, and the index of its first cell that is NaN
    or +inf.
    """
    is_float = "float" in _name(x)
    lowest = -math.inf if is_float else int(np.iinfo(_name(x)).min)
    values = cells(x, windows, lowest)
    best = highest = functools.reduce(_backends.maximum, values)
    if is_float:
        has_nan = _backends.any_nan(values, highest)
        best = ops.where(has_nan, math.nan, highest)
        highest = ops.where(has_nan, math.inf, highest)
    # The index is the number of cells before the first one that is not less.
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
    """Replace an index in the padding before a window by its first cell.

    Padding has the lowest value. It can only be the maximum if every cell of
    the window has this value.
    """
    first_inside = _first_inside(windows, _name(argmax))
    return argmax if first_inside is None else ops.maximum(argmax, first_inside)


def _name(x: Tensor) -> str:
    return keras.backend.standardize_dtype(x.dtype)


def unpool(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str = "sum"
) -> Tensor:
    """Put each value at the index of its window; other cells are 0.

    If windows overlap, `overlap` says whether values on the same cell are added
    ("sum") or averaged ("mean").
    """
    argmax = _as_rows(argmax)
    if math.prod(windows.pool_size) > 255:
        # One more number is needed, for cells outside the window.
        argmax = ops.cast(argmax, "int32")
    landings = {
        shift: _choose(argmax, _block_index(windows, shift), windows.strides)
        for shift in itertools.product(*map(range, windows.reach))
    }

    def land(x: Tensor, shift: tuple[int, ...]) -> Tensor:
        """Put each value at its cell of the block, or nowhere."""
        return spread(x, windows.strides, landings[shift])

    def terms(x: Tensor) -> list[Tensor]:
        """Return one term per block of the windows, in the layout of cells."""
        return [
            _shift(land(x, shift), windows, dict(enumerate(shift)))
            for shift in landings
        ]

    if overlap == "sum" or len(landings) == 1:
        result = _sum(lambda shift: land(values, shift), windows)
    else:
        result = _mean(terms(values), terms(ops.ones_like(values)))
    return _pad_or_crop(
        result, [-b for b in windows.before], windows.size, fill=0
    )


def _sum(
    land: Callable[[tuple[int, ...]], Tensor],
    windows: Windows,
    shift: tuple[int, ...] = (),
) -> Tensor:
    """Return the sum of `land(s)` over all shifts `s` that begin with `shift`.

    The terms are shifted and added along one axis after another. Four terms
    that are shifted along two axes at once crash in XLA on CPUs with AVX-512,
    if a plane is two cells wide and has one channel (TensorFlow 2.21, JAX
    0.10). `_mean` needs the shifted terms, and did not crash.
    """
    axis = len(shift)
    if axis == len(windows.size):
        return land(shift)
    return functools.reduce(
        ops.add,
        [
            _shift(_sum(land, windows, (*shift, block)), windows, {axis: block})
            for block in range(windows.reach[axis])
        ],
    )


def _mean(terms: list[Tensor], ones: list[Tensor]) -> Tensor:
    """Return the mean of the terms where `ones` is 1, and 0 for empty cells.

    Averaging the differences from the largest term keeps the mean of equal
    values exact and avoids overflow in half precision.
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
    # This avoids `where` with two tensors: tf2onnx multiplies them by 0 and 1,
    # and infinity times 0 is NaN.
    nothing = ops.where(count > 0, -math.inf, zero)
    largest = ops.stop_gradient(_backends.maximum(largest, nothing))

    def rest(here: Tensor, term: Tensor) -> Tensor:
        # inf - inf is NaN, but the mean of two inf is inf.
        same = ops.logical_and(ops.isinf(term), term == largest)
        counts = ops.logical_and(here, ops.logical_not(same))
        return ops.where(counts, term - largest, zero)

    total = functools.reduce(ops.add, map(rest, landed, terms))
    return largest + total / _backends.maximum(count, 1)


def _block_index(windows: Windows, shift: tuple[int, ...]) -> list[int]:
    """Return the window index of each cell of a block, in row-major order.

    The block lies `shift` blocks after the start of the window. Cells outside
    the window get the number of cells of a window. The function does not use
    NumPy, since `torch.compile` would trace it.
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


def _shift(x: Tensor, windows: Windows, blocks: dict[int, int]) -> Tensor:
    """Shift the cells by a number of blocks along each of the given axes."""
    pads = [(0, 0)] * len(x.shape)
    for axis, block in blocks.items():
        stride, reach = windows.strides[axis], windows.reach[axis]
        pads[axis + 1] = block * stride, (reach - 1 - block) * stride
    return x if not any(map(any, pads)) else _backends.pad(x, pads, 0)


def gather(x: Tensor, argmax: Tensor, windows: Windows) -> Tensor:
    """Read the cell at each window's index: the adjoint of "sum" unpooling."""

    def choose(cells: list[Tensor], first: int) -> Tensor:
        """Select by a binary search over the cells."""
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
    """Repeat each value over its block."""
    return spread(values, windows.strides, lambda leading: None)


def nearest_adjoint(x: Tensor, windows: Windows) -> Tensor:
    """Sum over each block."""
    return functools.reduce(ops.add, cells(x, windows, fill=0))


def bed_of_nails(
    values: Tensor, windows: Windows, position: Sequence[int]
) -> Tensor:
    """Put each value at one position of its block; other cells are 0."""
    here = [int(o != tuple(position)) for o in offsets(windows.strides)]
    zero = ops.zeros((1,) * 5, dtype="int32")
    chosen = _choose(zero, here, windows.strides)
    return spread(values, windows.strides, chosen)


def bed_of_nails_adjoint(
    x: Tensor, windows: Windows, position: Sequence[int]
) -> Tensor:
    """Read the cell at one position of each block."""
    index = np.ravel_multi_index(tuple(position), windows.pool_size)
    return cells(x, windows, fill=0)[index]


def fit(
    x: Tensor,
    before: Sequence[Length],
    size: Sequence[Length],
    fill: float | None,
) -> Tensor:
    """Move blocks by `before` cells, and crop or pad the result to `size`.

    A `fill` of None repeats the last value. Fewer cells than a block are added
    at the end, so repeating and mirroring the border are equivalent.
    """
    return _pad_or_crop(x, before, size, fill)


def _as_rows(x: Tensor) -> Tensor:
    """Reshape to (outer * rows, 1, columns, 1, inner), with axes for blocks."""
    *_, columns, inner = _backends.shape(x)
    return ops.reshape(x, (-1, 1, columns, 1, inner))


def _choose(
    argmax: Tensor, block_index: Sequence[int], block: Sequence[int]
) -> Callable[[tuple[int, ...]], Tensor]:
    """Return a condition for `spread`: the cell's index equals `argmax`."""
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
    """Expand each value to a block of cells: the value if chosen, else 0.

    Args:
        values: Tensor `(outer, *spatial, inner)`.
        block: Cells per value along each spatial axis.
        chosen: Function of an offset along all but the last two axes of a
            block. It returns the condition for that plane of the blocks, which
            must broadcast to `(outer * rows, block rows, columns, block
            columns, inner)`. None chooses every cell.
    """
    *spatial, inner = _backends.shape(values)[1:]
    rows = _as_rows(values)
    *leading, block_rows, block_columns = (1, *block)[-max(len(block), 2) :]
    plane_shape = (block_rows, spatial[-1], block_columns, inner)
    planes = []
    for offset in itertools.product(*map(range, leading)):
        condition = chosen(offset)
        batch = _backends.shape(rows)[0]
        # In 3D, OpenVINO cannot broadcast to a batch size computed in ONNX.
        is_open = batch < 0 if isinstance(batch, int) else bool(leading)
        if condition is None and is_open:
            # `where` does not need the batch size, which is dynamic in a file.
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
