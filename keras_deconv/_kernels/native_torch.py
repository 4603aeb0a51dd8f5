"""Kernels with gradients for PyTorch, based on its pooling and scattering.

In eager calls on a CPU, each PyTorch operation is a separate loop over memory,
so kernels should use few operations. `max_pool2d` or `max_pool3d` finds the
maxima and their positions in the plane. A table converts positions to window
indices and back. Values are scattered to positions.

The plain kernels run instead, with the same results, in these cases:

- The tensor holds integers.
- PyTorch cannot pad the windows in the same way.
- A maximum is NaN or -inf, where PyTorch returns another position.
- Values cannot be read: inside `torch.compile`, which fuses the loops, in
  `torch.vmap` and in models that are traced for a file.
- The tensor is on an accelerator, which reading values would stall.

For positions in the plane, the loops of `torch.compile` are slower than
PyTorch's kernels. On a CPU, compiled functions therefore call these kernels as
opaque operations.

The gradient of a kernel is its adjoint, which is also a kernel. It only keeps
the index.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from keras_deconv import _backends
from keras_deconv._kernels import windows as plain
from keras_deconv._kernels.windows import (
    Windows,
    bed_of_nails,
    nearest,
)

Tensor = Any

__all__ = [
    "bed_of_nails",
    "nearest",
    "pool",
    "pool_to_positions",
    "scatter",
    "unpool",
]

# Number of tables of each kind to keep, for planes of up to `MAX_CELLS` cells.
# Three kinds with up to 8 bytes per cell take 24 MB at most.
MAX_TABLES = 64
MAX_CELLS = 2**14


def pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """Run `plain.pool`, whose adjoint is unpooling."""
    if _is_exporting():
        return _pool_plainly(x, windows, dtype)
    kernel = functools.partial(_pool_to_offsets, windows=windows, dtype=dtype)
    return _pool(x, kernel, _offset_kernels(windows))


def pool_to_positions(
    x: Tensor, windows: Windows, window_dtype: str, dtype: str
) -> tuple[Tensor, Tensor]:
    """Return the maxima and their positions in the plane."""
    if _is_exporting():
        return _pool_plainly_to_positions(x, windows)
    kernel = functools.partial(_pool_to_positions, windows=windows)
    return _pool(x, kernel, _position_kernels(windows.size))


def unpool(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str
) -> Tensor:
    """Run `plain.unpool`; the adjoint of "sum" reads at the index."""
    if _is_exporting():
        return _unpool_plainly(values, argmax, windows, overlap)
    return _unpool(values, argmax, _offset_kernels(windows), overlap)


def scatter(
    values: Tensor, positions: Tensor, size: Sequence[int], overlap: str
) -> Tensor:
    """Unpool with positions in the plane, which need not belong to windows.

    Raises:
        RuntimeError: If a position lies outside the plane, in eager calls on
            the CPU. In other cases its value is dropped.
    """
    kernels = _position_kernels(tuple(size))
    if _is_exporting():
        kernel = kernels.put if overlap == "sum" else kernels.mean
        return kernel(values, positions)
    return _unpool(values, positions, kernels, overlap)


def _is_exporting() -> bool:
    """Return whether PyTorch is tracing a model to write it to a file."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


# Gradients


@dataclasses.dataclass(frozen=True)
class _Kernels:
    """Unpooling with one kind of index, and its adjoint.

    This is not a tuple, since `torch.func` would search a tuple for tensors.
    """

    put: Callable[[Tensor, Tensor], Tensor]
    read: Callable[[Tensor, Tensor], Tensor]
    mean: Callable[[Tensor, Tensor], Tensor]

    @property
    def adjoint(self) -> "_Kernels":
        return dataclasses.replace(self, put=self.read, read=self.put)


def _offset_kernels(windows: Windows) -> _Kernels:
    """Return kernels for the index of a cell in its window."""
    return _Kernels(
        functools.partial(_put_at_offsets, windows=windows),
        functools.partial(_read_at_offsets, windows=windows),
        functools.partial(_unpool_plainly, windows=windows, overlap="mean"),
    )


def _position_kernels(size: tuple[int, ...]) -> _Kernels:
    """Return kernels for the position of a cell in the plane."""
    return _Kernels(
        functools.partial(_put_at_positions, size=size),
        _read_at_positions,
        functools.partial(_mean_at_positions, size=size),
    )


def _pool(x: Tensor, kernel: Callable[..., Any], kernels: _Kernels) -> Any:
    if not _is_differentiated(x):
        return kernel(x)
    return _now(_Pool).apply(x, kernel, kernels)


def _unpool(
    values: Tensor, index: Tensor, kernels: _Kernels, overlap: str
) -> Tensor:
    if overlap == "sum":
        return _linear(values, index, kernels)
    if not _is_differentiated(values):
        return kernels.mean(values, index)
    return _now(_Mean).apply(values, index, kernels)


def _linear(x: Tensor, index: Tensor, kernels: _Kernels) -> Tensor:
    if not _is_differentiated(x):
        return kernels.put(x, index)
    return _now(_Linear).apply(x, index, kernels)


def _is_differentiated(x: Tensor) -> bool:
    """Return whether derivatives may be needed.

    If not, calling the kernel without `torch.autograd.Function` saves more time
    than the kernel takes for a small tensor.
    """
    if _backends.is_traced(x) or (x.requires_grad and torch.is_grad_enabled()):
        return True
    return forward_ad.unpack_dual(x).tangent is not None


def _now(function: Any) -> Any:
    """Return the function with forward-mode derivatives if possible.

    `torch.compile` does not support functions with forward-mode derivatives.
    """
    if torch.compiler.is_compiling():
        return function
    return _IN_FORWARD_MODE[function]


class _Pool(torch.autograd.Function):
    """Pooling with a gradient only for the cell of the index."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Any, kernels: _Kernels) -> Any:
        pooled, argmax = kernel(x)
        return _owned(pooled), _owned(argmax)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *_, ctx.kernels = inputs
        _, argmax = output
        ctx.mark_non_differentiable(argmax)
        ctx.save_for_backward(argmax)
        ctx.save_for_forward(argmax)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> Any:
        (argmax,) = ctx.saved_tensors
        return _linear(upstream, argmax, ctx.kernels), None, None


class _PoolInForwardMode(_Pool):
    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        (argmax,) = ctx.saved_tensors
        return _linear(tangent, argmax, ctx.kernels.adjoint), None


class _Linear(torch.autograd.Function):
    """A kernel that is linear in the values, with the adjoint as gradient.

    The adjoint is linear too, so derivatives of any order are right.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor, kernels: _Kernels) -> Tensor:
        return _owned(kernels.put(x, index))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, index, ctx.kernels = inputs
        ctx.save_for_backward(index)
        ctx.save_for_forward(index)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (index,) = ctx.saved_tensors
        return _linear(upstream, index, ctx.kernels.adjoint), None, None


class _LinearInForwardMode(_Linear):
    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (index,) = ctx.saved_tensors
        return _linear(tangent, index, ctx.kernels)


class _Mean(_Linear):
    """Unpooling with the mean of the values on a cell.

    All values on a cell get the same share of the gradient. The automatic
    gradient of PyTorch would be 0 at infinity.
    """

    @staticmethod
    def forward(values: Tensor, index: Tensor, kernels: _Kernels) -> Tensor:
        # A strided tensor would require tangents of the same layout.
        return _owned(kernels.mean(values, index).contiguous())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (index,) = ctx.saved_tensors
        share = upstream / _count(index, ctx.kernels, upstream.dtype)
        return _linear(share, index, ctx.kernels.adjoint), None, None


class _MeanInForwardMode(_Mean):
    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (index,) = ctx.saved_tensors
        total = _linear(tangent, index, ctx.kernels)
        return total / _count(index, ctx.kernels, tangent.dtype)


_IN_FORWARD_MODE = {
    _Pool: _PoolInForwardMode,
    _Linear: _LinearInForwardMode,
    _Mean: _MeanInForwardMode,
}


def _owned(x: Tensor) -> Tensor:
    """Return a tensor that is not a view of a temporary tensor.

    PyTorch does not allow in-place operations on views that a function returns.
    """
    return x if _backends.is_traced(x) else x.detach()


def _count(index: Tensor, kernels: _Kernels, dtype: Any) -> Tensor:
    """Return the number of values on each cell, and 1 for empty cells."""
    return kernels.put(torch.ones_like(index, dtype=dtype), index).clamp(min=1)


# Window indices


def _pool_to_offsets(
    x: Tensor, windows: Windows, dtype: str
) -> tuple[Tensor, Tensor]:
    native = _pool_natively(x, windows)
    if native is None:
        return _pool_plainly(x, windows, dtype)
    pooled, positions = native
    if _overlap(windows):
        positions = positions - _first_in_plane(windows, x.device)
    table = _offset_table(windows, dtype, x.device)
    return pooled, _look_up(table, positions)


def _put_at_offsets(values: Tensor, argmax: Tensor, windows: Windows) -> Tensor:
    if not _are_readable(values, argmax):
        return _unpool_plainly(values, argmax, windows, "sum")
    positions = _to_covered(argmax, windows)
    if _overlap(windows):
        # The plain kernel adds the last window first.
        axes = tuple(range(1, values.dim() - 1))
        values, positions = values.flip(axes), positions.flip(axes)
    result = _zeros_like_plane(values, _covered_size(windows))
    # Without adding, scattering keeps -0.0.
    add = result.scatter_add_ if _overlap(windows) else result.scatter_
    add(1, _as_plane(positions), _as_plane(values))
    return _crop(_from_plane(result, values, _covered_size(windows)), windows)


def _read_at_offsets(x: Tensor, argmax: Tensor, windows: Windows) -> Tensor:
    if not _are_readable(x, argmax):
        return plain.gather(x, argmax, windows)
    positions = _to_covered(argmax, windows)
    return _read_at_positions(_extend(x, windows), positions)


def _pool_plainly(
    x: Tensor, windows: Windows, dtype: str
) -> tuple[Tensor, Tensor]:
    """Run `plain.pool` in int32, which compilers and ONNX runtimes support."""
    pooled, argmax = plain.pool(x, windows, "int32")
    return pooled, argmax.to(getattr(torch, dtype))


def _unpool_plainly(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str
) -> Tensor:
    result = plain.unpool(values, argmax.to(torch.int32), windows, overlap)
    if overlap == "sum" and _overlap(windows) and values.is_floating_point():
        # The scattered sum starts at 0.0, so it never returns -0.0.
        result = result + 0.0
    return result


def _are_readable(*tensors: Tensor) -> bool:
    return all(map(_backends.is_readable, tensors))


def _overlap(windows: Windows) -> bool:
    return math.prod(windows.reach) > 1


def _to_covered(argmax: Tensor, windows: Windows) -> Tensor:
    """Return the position of each index in the area that windows cover."""
    if argmax.dtype not in (torch.int32, torch.int64):
        argmax = argmax.to(torch.int32)
    positions = _look_up(_covered_offsets(windows, argmax.device), argmax)
    positions += _first_covered(windows, argmax.device)
    return positions


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.reshape(-1)).view(index.shape)


@functools.lru_cache(MAX_TABLES)
def _covered_size(windows: Windows) -> tuple[int, ...]:
    """Return the size of the area that windows cover, padding included."""
    return tuple(
        max(before + n, (m - 1) * s + k) for n, m, k, s, before in windows.axes
    )


def _crop(covered: Tensor, windows: Windows) -> Tensor:
    """Crop the area that windows cover to the plane."""
    if tuple(covered.shape[1:-1]) == windows.size:
        return covered
    for axis, (n, before) in enumerate(
        zip(windows.size, windows.before, strict=True), start=1
    ):
        covered = covered.narrow(axis, before, n)
    return covered


def _extend(x: Tensor, windows: Windows) -> Tensor:
    """Pad the plane with zeros to the area that windows cover."""
    pads = [0, 0]
    for n, before, length in zip(
        reversed(windows.size),
        reversed(windows.before),
        reversed(_covered_size(windows)),
        strict=True,
    ):
        pads += [before, length - n - before]
    return torch.nn.functional.pad(x, pads) if any(pads) else x


def _kept(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Cache the tables of small planes.

    For a large plane, building the table takes little time compared to its use.
    """
    kept = functools.lru_cache(MAX_TABLES)(build)

    @functools.wraps(build)
    def table(windows: Windows, *options: Any) -> Tensor:
        is_small = math.prod(_covered_size(windows)) <= MAX_CELLS
        return (kept if is_small else build)(windows, *options)

    return table


@_kept
def _covered_offsets(windows: Windows, device: torch.device) -> Tensor:
    """Return the position of each cell of the first window.

    Positions are row-major in the area that windows cover.
    """
    covered = _covered_size(windows)
    lengths = [np.arange(k) for k in windows.pool_size]
    return torch.from_numpy(_positions(lengths, covered).ravel()).to(device)


@_kept
def _first_covered(windows: Windows, device: torch.device) -> Tensor:
    """Return the position of each window's first cell, `(*num_windows, 1)`.

    Positions are row-major in the area that windows cover.
    """
    covered = _covered_size(windows)
    starts = [
        np.arange(m) * s
        for m, s in zip(windows.num_windows, windows.strides, strict=True)
    ]
    return torch.from_numpy(_positions(starts, covered)[..., None]).to(device)


@_kept
def _first_in_plane(windows: Windows, device: torch.device) -> Tensor:
    """Return the position of each window's first cell in the plane.

    It is negative in the padding.
    """
    starts = [
        np.arange(m) * s - before
        for m, s, before in zip(
            windows.num_windows, windows.strides, windows.before, strict=True
        )
    ]
    first = _positions(starts, windows.size)[..., None]
    return torch.from_numpy(first).to(device)


@_kept
def _offset_table(windows: Windows, dtype: str, device: torch.device) -> Tensor:
    """Return a table of window indices by position in the plane.

    If windows overlap, the position is relative to the window's first cell.
    """
    index = np.arange(math.prod(windows.pool_size)).reshape(windows.pool_size)
    if _overlap(windows):
        lengths = [np.arange(k) for k in windows.pool_size]
        places = _positions(lengths, windows.size)
        table = np.zeros(places.max() + 1, dtype)
        table[places] = index
    else:
        # Cells in gaps between windows get index 0.
        block = np.zeros(windows.strides, dtype)
        block[tuple(map(slice, windows.pool_size))] = index
        table = np.tile(
            block,
            [
                -(-(n + before) // s)
                for n, s, before in zip(
                    windows.size, windows.strides, windows.before, strict=True
                )
            ],
        )
        table = table[
            tuple(
                slice(before, before + n)
                for n, before in zip(windows.size, windows.before, strict=True)
            )
        ]
    return torch.from_numpy(table.reshape(-1).copy()).to(device)


def _positions(
    coordinates: Sequence[np.ndarray], size: Sequence[int]
) -> np.ndarray:
    """Return row-major positions of a grid of possibly negative coordinates."""
    result = np.zeros((), "int64")
    for of_axis, n in zip(coordinates, size, strict=True):
        result = np.add.outer(result * n, of_axis)
    return result


# Positions in the plane


def _pool_to_positions(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    if _is_compiled_for_cpu(x):
        return _opaque_pool(x, *zip(*windows.axes, strict=True))
    native = _pool_natively(x, windows)
    return _pool_plainly_to_positions(x, windows) if native is None else native


def _pool_plainly_to_positions(
    x: Tensor, windows: Windows
) -> tuple[Tensor, Tensor]:
    pooled, argmax = plain.pool(x, windows, "int32")
    # Divisions and 64-bit integers would slow compiled loops down.
    dtype = torch.int32 if math.prod(windows.size) < 2**31 else torch.int64
    first = torch.zeros((), dtype=dtype, device=x.device)
    for axis, (n, m, _, s, before) in enumerate(windows.axes):
        start = torch.arange(m, dtype=dtype, device=x.device) * s - before
        first = first * n + plain.along(axis, start, len(windows.size))
    offsets = [0]
    for n, k in zip(windows.size, windows.pool_size, strict=True):
        offsets = [offset * n + o for offset in offsets for o in range(k)]
    offset = torch.zeros_like(argmax, dtype=dtype)
    for index, number in enumerate(offsets):
        offset = offset.where(argmax != index, number)
    return pooled, (first + offset).to(torch.int64)


def _pool_natively(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor] | None:
    """Run PyTorch's pooling; return None if its results would differ."""
    if not x.is_floating_point() or not _are_readable(x) or not x.numel():
        return None
    options = _native_options(windows)
    if options is None:
        return None
    rank = len(windows.size)
    x = x.movedim(-1, 1)
    if rank == 1:
        x = x.unsqueeze(2)
    native = torch.nn.functional
    function = native.max_pool3d if rank == 3 else native.max_pool2d
    pooled, positions = function(x, **options, return_indices=True)
    if rank == 1:
        pooled, positions = pooled.squeeze(2), positions.squeeze(2)
    pooled = pooled.movedim(1, -1).contiguous()
    positions = positions.movedim(1, -1).contiguous()
    # A finite sum proves in one pass over memory that all maxima are finite.
    if not math.isfinite(pooled.sum().item()) and _are_odd(pooled):
        return None
    return pooled, positions


def _are_odd(pooled: Tensor) -> bool:
    """Return whether PyTorch's positions may not be those of the first maxima.

    PyTorch returns the last of several NaN. For windows that hold only -inf, it
    returns position 0 if the tensor has three axes and channels last.
    """
    return bool((pooled.isnan() | pooled.isneginf()).any().item())


@functools.lru_cache(MAX_TABLES)
def _native_options(windows: Windows) -> dict[str, Any] | None:
    """Return arguments for PyTorch's pooling, or None if windows differ."""
    axes = windows.axes
    if _overlap(windows) and any(k > n for n, _, k, _, _ in axes):
        return None  # Relative positions would be ambiguous.

    def num_windows(axis: tuple[int, ...], rest: int) -> int:
        n, _, k, s, before = axis
        m = (n + 2 * before - k + rest) // s + 1
        return m - 1 if (m - 1) * s >= n + before else m

    for ceil_mode in (False, True):
        if all(
            num_windows(axis, axis[3] - 1 if ceil_mode else 0) == axis[1]
            for axis in axes
        ):
            break
    else:
        return None
    leading = len(axes) == 1
    return dict(
        kernel_size=(*[1] * leading, *windows.pool_size),
        stride=(*[1] * leading, *windows.strides),
        padding=(*[0] * leading, *windows.before),
        ceil_mode=ceil_mode,
    )


def _put_at_positions(
    values: Tensor, positions: Tensor, size: tuple[int, ...]
) -> Tensor:
    if _is_compiled_for_cpu(values):
        return _opaque_put(values, positions, size)
    result = _zeros_like_plane(values, size)
    if _are_readable(values, positions):
        result.scatter_add_(1, _as_plane(positions), _as_plane(values))
    else:
        inside = _inside(positions, size)
        result = result.scatter_add(
            1,
            _as_plane(positions.where(inside, 0)),
            _as_plane(values.where(inside, 0)),
        )
    return _from_plane(result, values, size)


def _read_at_positions(x: Tensor, positions: Tensor) -> Tensor:
    if _is_compiled_for_cpu(x):
        return _opaque_read(x, positions)
    if _are_readable(x, positions):
        found = _as_plane(x).gather(1, _as_plane(positions))
        return found.view(positions.shape)
    inside = _inside(positions, x.shape[1:-1])
    found = _as_plane(x).gather(1, _as_plane(positions.where(inside, 0)))
    return found.reshape(_backends.shape(positions)).where(inside, 0)


def _mean_at_positions(
    values: Tensor, positions: Tensor, size: tuple[int, ...]
) -> Tensor:
    """Average the differences from the largest value, as `general.scatter`."""

    def total(x: Tensor) -> Tensor:
        return _put_at_positions(x, positions, size)

    count = total(torch.ones_like(values))
    inside = _inside(positions, size)
    index = _as_plane(positions.where(inside, 0))
    lowest = _as_plane(values.where(inside, -math.inf))
    largest = _zeros_like_plane(values, size).sub(math.inf)
    largest = largest.scatter_reduce(1, index, lowest, "amax")
    largest = _from_plane(largest, values, size).where(count > 0, 0)
    rest = values - _read_at_positions(largest, positions)
    rest = rest.where(values.isnan() | ~rest.isnan(), 0)
    return largest + total(rest) / count.clamp(min=1)


def _inside(positions: Tensor, size: Sequence[int]) -> Tensor:
    return (positions >= 0) & (positions < math.prod(size))


def _as_plane(x: Tensor) -> Tensor:
    """Reshape to (outer, cells, inner), or (outer, cells) if inner is 1.

    PyTorch scatters twice as fast along the last axis.
    """
    batch, *size, inner = _backends.shape(x)
    last = () if inner == 1 else (inner,)
    return x.reshape(batch, math.prod(size), *last)


def _zeros_like_plane(values: Tensor, size: Sequence[int]) -> Tensor:
    inner = _backends.static_shape(values)[-1]
    last = () if inner == 1 else (inner,)
    return values.new_zeros((values.shape[0], math.prod(size), *last))


def _from_plane(plane: Tensor, values: Tensor, size: Sequence[int]) -> Tensor:
    return plane.reshape(-1, *size, _backends.static_shape(values)[-1])


# Inside `torch.compile`


def _is_compiled_for_cpu(x: Tensor) -> bool:
    return (
        torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.is_floating_point()
    )


# PyTorch derives the signature of the operation from the annotations.
@torch.library.custom_op("keras_deconv::pool_to_positions", mutates_args=())
def _opaque_pool(
    x: torch.Tensor,
    size: Sequence[int],
    num_windows: Sequence[int],
    pool_size: Sequence[int],
    strides: Sequence[int],
    before: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    windows = Windows(
        tuple(size),
        tuple(num_windows),
        tuple(pool_size),
        tuple(strides),
        tuple(before),
    )
    return _pool_to_positions(x, windows)


@_opaque_pool.register_fake
def _(
    x: torch.Tensor, size: Any, num_windows: Sequence[int], *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    pooled = x.new_empty((x.shape[0], *num_windows, x.shape[-1]))
    return pooled, torch.empty_like(pooled, dtype=torch.int64)


@torch.library.custom_op("keras_deconv::put_at_positions", mutates_args=())
def _opaque_put(
    values: torch.Tensor, positions: torch.Tensor, size: Sequence[int]
) -> torch.Tensor:
    return _put_at_positions(values, positions, tuple(size))


@_opaque_put.register_fake
def _(values: torch.Tensor, _: Any, size: Sequence[int]) -> torch.Tensor:
    return values.new_empty((values.shape[0], *size, values.shape[-1]))


@torch.library.custom_op("keras_deconv::read_at_positions", mutates_args=())
def _opaque_read(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return _read_at_positions(x, positions)


@_opaque_read.register_fake
def _(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(positions, dtype=x.dtype)


def _over_batches(operation: Any) -> None:
    """Let `torch.vmap` merge all batches into one call of the operation."""

    def rule(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
        merged = []
        for argument, dim in zip(arguments, in_dims, strict=True):
            if torch.is_tensor(argument):
                if dim is None:
                    argument = argument.expand(info.batch_size, *argument.shape)
                else:
                    argument = argument.movedim(dim, 0)
                argument = argument.flatten(0, 1)
            merged.append(argument)
        results = operation(*merged)
        if torch.is_tensor(results):
            return results.unflatten(0, (info.batch_size, -1)), 0
        parts = (x.unflatten(0, (info.batch_size, -1)) for x in results)
        return tuple(parts), (0,) * len(results)

    operation.register_vmap(rule)


for _operation in (_opaque_pool, _opaque_put, _opaque_read):
    _over_batches(_operation)
