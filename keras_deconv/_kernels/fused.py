"""TensorFlow kernels with gradients, each compiled by XLA.

A compiled kernel is one or two loops over memory. Keras compiles whole models
on GPUs but not on CPUs. This module always compiles the kernel alone. The
gradient of a kernel is its adjoint, which is also a kernel. It only keeps the
index: one byte per window of up to 256 cells.

The plain kernels run instead, with the same results, in these cases:

- A spatial size or the number of channels is unknown.
- The tensor has fewer elements than `config.compiled_kernels_threshold()`.
- Keras or TensorFlow trace a graph to write it to a file (`model.export`,
  `tf.saved_model.save`, TFLite). The file must run without a compiler, and has
  the gradients of the plain operations.
- It is the first eager call with new sizes. Otherwise, images of many sizes
  would compile many kernels.
- The kernel has already been compiled for `MAX_SIZES` sizes.
- XLA is missing, or does not support the dtype or the device. A warning says
  so once.
- `config.enable_compiled_kernels(False)` has been called.
"""

import collections
import contextlib
import contextvars
import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deconv import config
from keras_deconv._kernels import positions as general
from keras_deconv._kernels import windows as plain
from keras_deconv._kernels.windows import Length, Windows

Tensor = Any

MAX_SIZES = 16
"""Largest number of sizes to compile per kernel, window and channel count.

In eager calls, another batch size counts as another size. In a graph with an
unknown batch size, XLA compiles once per batch size.
"""

# Number of different eager calls to remember before the memory is cleared.
MAX_EAGER_CALLS = 10_000

# Modules that trace functions in order to write them to a file.
_EXPORTERS = (
    "keras.src.export.",
    "keras.src.saving.",
    "tensorflow.lite.",
    "tensorflow.python.saved_model.",
    "tf2onnx.",
)

_eager_calls = collections.Counter[Any]()
_compiled_sizes = collections.defaultdict[Any, set](set)
_numbers_alone = contextvars.ContextVar("_numbers_alone", default=False)


@contextlib.contextmanager
def numbers_alone() -> Iterator[None]:
    """Export kernels for inputs without NaN and infinity, for quantization."""
    token = _numbers_alone.set(True)
    try:
        yield
    finally:
        _numbers_alone.reset(token)


def pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """Run `plain.pool`, whose adjoint is unpooling."""
    if _is_exporting():
        # TFLite does not support uint8 addition.
        kernel = _pool_numbers if _numbers_alone.get() else plain.pool
        pooled, argmax = kernel(x, windows, "int32")
        return pooled, tf.cast(argmax, dtype)

    @tf.custom_gradient
    def function(x: Tensor) -> Any:
        pooled, argmax = _run(_pool, windows, x, dtype=dtype)

        def gradient(upstream: Tensor, _: Tensor) -> Tensor:
            return _linear(
                plain.unpool, plain.gather, windows, upstream, argmax
            )

        return (pooled, argmax), gradient

    return function(x)


def pool_to_positions(
    x: Tensor, windows: Windows, window_dtype: str, dtype: str
) -> tuple[Tensor, Tensor]:
    """Return the maxima and their positions in the plane."""
    pooled, argmax = pool(x, windows, window_dtype)
    return pooled, general.to_positions(argmax, windows, dtype)


def unpool(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str
) -> Tensor:
    """Run `plain.unpool`; the adjoint of "sum" reads at the index."""
    if _is_exporting():
        # ONNX runtimes do not support uint8 comparison.
        argmax = tf.cast(argmax, tf.int32)
        return plain.unpool(values, argmax, windows, overlap)
    if overlap == "sum":
        return _linear(plain.unpool, plain.gather, windows, values, argmax)

    @tf.custom_gradient
    def function(values: Tensor) -> Any:
        result = _run(plain.unpool, windows, values, argmax, overlap="mean")

        def gradient(upstream: Tensor) -> Tensor:
            ones = tf.ones_like(argmax, dtype=upstream.dtype)
            count = unpool(ones, argmax, windows, "sum")
            return _linear(
                plain.gather,
                plain.unpool,
                windows,
                upstream / tf.maximum(count, 1),
                argmax,
            )

        return result, gradient

    return function(values)


def scatter(
    values: Tensor, positions: Tensor, size: Sequence[Length], overlap: str
) -> Tensor:
    """Run `general.scatter`, not compiled, with the gradient of `unpool`.

    The automatic gradient of a mean would be 0 at infinity.
    """
    if overlap == "sum" or _is_exporting():
        return general.scatter(values, positions, size, overlap)

    @tf.custom_gradient
    def function(values: Tensor) -> Any:
        result = general.scatter(
            tf.stop_gradient(values), positions, size, "mean"
        )

        def gradient(upstream: Tensor) -> Tensor:
            ones = tf.ones_like(positions, dtype=upstream.dtype)
            count = general.scatter(ones, positions, size, "sum")
            return general.read(upstream / tf.maximum(count, 1), positions)

        return result, gradient

    return function(values)


def nearest(values: Tensor, windows: Windows) -> Tensor:
    """Run `plain.nearest`, whose adjoint sums over blocks."""
    return _linear(plain.nearest, plain.nearest_adjoint, windows, values)


def bed_of_nails(
    values: Tensor, windows: Windows, position: tuple[int, ...]
) -> Tensor:
    """Run `plain.bed_of_nails`, whose adjoint reads one cell of each block."""
    return _linear(
        plain.bed_of_nails,
        plain.bed_of_nails_adjoint,
        windows,
        values,
        position=position,
    )


def _pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """Run `plain.pool` so that it also works in `tf.vectorized_map`."""
    return plain.pool(x, windows, dtype, cells=_cells)


def _cells(x: Tensor, windows: Windows, fill: float) -> list[Tensor]:
    """Run `plain.cells` with a padding of zeros, and add `fill` to the padding.

    `tf.vectorized_map` ignores the padding value of `tf.pad`. The other cells
    get -0.0 added, which does not change any number.
    """
    if not windows.are_padded or fill == 0:
        return plain.cells(x, windows, fill)
    cells = plain.cells(x, windows, fill=0)
    for i, offset in enumerate(plain.offsets(windows.pool_size)):
        inside = _inside(windows, offset)
        if inside is not None:
            zero, lowest = (tf.cast(n, x.dtype) for n in (-0.0, fill))
            cells[i] += tf.where(inside, zero, lowest)
    return cells


def _inside(windows: Windows, offset: tuple[int, ...]) -> Tensor | None:
    """Return where the cell at `offset` is not padding; None: everywhere."""
    inside = None
    for axis, (cell, (n, m, _, s, b)) in enumerate(
        zip(offset, windows.axes, strict=True)
    ):
        if isinstance(b, int) and cell == b:
            continue
        are_known = all(isinstance(length, int) for length in (n, m, b))
        first = (np.arange if are_known else tf.range)(m) * s - b
        here = (first + cell >= 0) & (first + cell < n)
        if are_known and here.all():
            continue
        here = plain.along(axis, here, len(offset))
        inside = here if inside is None else inside & here
    return inside


def _pool_numbers(
    x: Tensor, windows: Windows, dtype: str
) -> tuple[Tensor, Tensor]:
    """Run `plain.pool` so that it is exact when TFLite quantizes it.

    The input must not hold NaN or infinity. TFLite compares quantized tensors
    incorrectly if the quantization step is 1 or more. Its argmax compares the
    quantized levels, and also returns the first maximum.
    """
    x = _with_range_of_its_own(x)
    cells = plain.cells(x, windows, fill=tf.reduce_min(x))
    pooled = functools.reduce(tf.maximum, cells)
    argmax = tf.argmax(
        tf.stack([tf.reshape(cell, (-1,)) for cell in cells]),
        output_type=dtype,
    )
    argmax = tf.reshape(argmax, keras.ops.shape(pooled))
    return pooled, plain.skip_padding(argmax, windows)


def _with_range_of_its_own(x: Tensor) -> Tensor:
    """Copy `x` by a product with 1 that converters do not remove.

    TFLite quantizes a tensor, its cells and their maximum with the same range.
    Without the copy, `x` would get the range of the maxima, and every other
    reader of `x` would see its lower values clipped.
    """
    return x * tf.cast(tf.shape(x)[0] >= 0, x.dtype)


def _linear(
    kernel: Callable[..., Any],
    adjoint: Callable[..., Any],
    windows: Windows,
    x: Tensor,
    *index: Tensor,
    **options: Any,
) -> Tensor:
    """Run a kernel that is linear in `x`, with the adjoint as its gradient.

    The adjoint is linear too, so derivatives of any order are right.
    """
    if _is_exporting():
        return kernel(x, *index, windows=windows, **options)

    @tf.custom_gradient
    def function(x: Tensor) -> Any:
        result = _run(kernel, windows, x, *index, **options)
        return result, lambda upstream: _linear(
            adjoint, kernel, windows, upstream, *index, **options
        )

    return function(x)


def _run(
    kernel: Callable[..., Any],
    windows: Windows,
    *tensors: Tensor,
    **options: Any,
) -> Any:
    if _may_compile(kernel, windows, tensors, options):
        function = _compiled(kernel, windows, tuple(options.items()))
    else:
        function = functools.partial(kernel, windows=windows, **options)
    # Otherwise, tapes would also record the operations inside the kernel.
    return function(*map(tf.stop_gradient, tensors))


@functools.cache
def _compiled(
    kernel: Callable[..., Any], windows: Windows, options: tuple
) -> Callable[..., Any]:
    """Return one function for all layers and batches with the same windows."""

    def function(*tensors: Tensor) -> Any:
        return kernel(*tensors, windows=windows, **dict(options))

    return tf.function(
        function, jit_compile=True, autograph=False, reduce_retracing=True
    )


def _may_compile(
    kernel: Callable[..., Any],
    windows: Windows,
    tensors: Sequence[Tensor],
    options: dict[str, Any],
) -> bool:
    channels = tensors[0].shape[-1]
    lengths = (*windows.size, *windows.num_windows, *windows.before, channels)
    if not all(isinstance(n, int) for n in lengths):
        return False
    batch = tensors[0].shape[0]
    planes = batch or (64 if channels == 1 else 1)
    if (
        math.prod((*windows.size, channels, planes))
        < config.compiled_kernels_threshold()
    ):
        return False
    size = windows.size
    if not tf.inside_function():
        shapes = tuple(tuple(t.shape) for t in tensors)
        call = (kernel, windows, shapes, tensors[0].dtype, *options.items())
        if len(_eager_calls) > MAX_EAGER_CALLS:
            _eager_calls.clear()
        _eager_calls[call] += 1
        if _eager_calls[call] == 1:
            return False
        size = (batch, *size)
    sizes = _compiled_sizes[
        (kernel, windows.pool_size, windows.strides, channels)
    ]
    if len(sizes) >= MAX_SIZES and size not in sizes:
        return False
    if not _xla_takes(tensors[0].dtype):
        return False
    sizes.add(size)
    return True


def _is_exporting() -> bool:
    """Return whether the function is being traced for an exported file.

    `config.exporting()` marks this package's exports. Exports of Keras and
    TensorFlow are recognized by the modules on the call stack. This search is
    slow, but it only runs in traces, not in eager calls.
    """
    if not tf.inside_function():
        return False
    if config.is_exporting():
        return True
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_EXPORTERS):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


@functools.cache
def _xla_takes(dtype: tf.DType) -> bool:
    """Return whether XLA can compile a comparison and a selection."""
    try:
        with tf.init_scope():
            function = tf.function(
                lambda x: tf.where(x > 0, x, 0), jit_compile=True
            )
            function(tf.zeros((1,), dtype))
    except tf.errors.OpError as error:
        warnings.warn(
            f"XLA does not support {dtype.name} on this device. keras_deconv "
            "uses plain kernels instead, which are slower and return the same "
            f"results. Error of XLA: {error.message}",
            stacklevel=2,
        )
        return False
    return True
