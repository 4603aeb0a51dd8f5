"""TensorFlow only: kernels compiled by XLA, each on its own, with gradients.

Compiled, a kernel is a loop or two over memory. Keras compiles whole models on
GPUs and not on CPUs; here the kernel alone is compiled, whatever the model is.
The gradient of a kernel is its adjoint, again a kernel, and the index is all
that is kept for it, neither inputs nor slices: one byte per window of up to 256
cells.

The plain kernels run instead, with the same results,

- where a spatial size or the number of channels is not known, or the tensor
  has fewer elements than `config.compiled_kernels_threshold()`,
- in graphs that Keras or TensorFlow trace in order to write them to a file
  (`model.export`, `tf.saved_model.save`, TFLite), which are to run where there
  is no compiler; gradients there are those of the plain operations,
- in the first eager call with new sizes, so that images of ever new sizes do
  not compile ever new kernels, and beyond `MAX_SIZES` sizes of one kernel,
- where XLA is missing or refuses the dtype or the device (said in one
  warning),
- after `config.enable_compiled_kernels(False)`.
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
"""How many sizes of one kernel, window and channel count are compiled.

In eager calls another batch is another size. In a graph that leaves the batch
open XLA compiles for each batch that comes.
"""

# Kinds of eager calls that are remembered; then memory starts anew.
MAX_EAGER_CALLS = 10_000

# Who traces functions in order to write them to a file.
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
    """For what is exported meanwhile, tensors hold no NaN and no infinity.

    There is nothing in it then that could not be quantized.
    """
    token = _numbers_alone.set(True)
    try:
        yield
    finally:
        _numbers_alone.reset(token)


def pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """`plain.pool`; its adjoint is unpooling."""
    if _is_exporting():
        # TFLite adds no uint8.
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
    """Maxima, and their positions in the plane."""
    pooled, argmax = pool(x, windows, window_dtype)
    return pooled, general.to_positions(argmax, windows, dtype)


def unpool(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str
) -> Tensor:
    """`plain.unpool`; the adjoint of "sum" reads at the index."""
    if _is_exporting():
        # ONNX runtimes compare no uint8.
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
    """`general.scatter`, not compiled; a mean has the gradient of `unpool`.

    TensorFlow's own would be 0 at infinity.
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
    """`plain.nearest`; its adjoint sums over blocks."""
    return _linear(plain.nearest, plain.nearest_adjoint, windows, values)


def bed_of_nails(
    values: Tensor, windows: Windows, position: tuple[int, ...]
) -> Tensor:
    """`plain.bed_of_nails`; its adjoint reads one cell of each block."""
    return _linear(
        plain.bed_of_nails,
        plain.bed_of_nails_adjoint,
        windows,
        values,
        position=position,
    )


def _pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """`plain.pool`, for `tf.vectorized_map` too."""
    return plain.pool(x, windows, dtype, cells=_cells)


def _cells(x: Tensor, windows: Windows, fill: float) -> list[Tensor]:
    """`plain.cells`, padded with zeros, to which `fill` is added.

    `tf.vectorized_map` forgets what else `tf.pad` is to pad with. Minus zero,
    which is added elsewhere, changes no number.
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
    """Where the cell at `offset` of a window is not padding; None: all."""
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
    """`plain.pool` of numbers alone, exact when TFLite quantizes it.

    Its comparison of quantized tensors is wrong where one step is 1 or more;
    its argmax compares the steps themselves, and takes the first maximum too.
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
    """A copy of `x`, by a product with 1 that no converter sees through.

    TFLite quantizes a tensor, its cells and their maximum alike: it would give
    `x` the range of the maxima, and cut off what is lower for all who read it.
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
    """Run a kernel that is linear in `x`; its gradient is the adjoint's run.

    That is as linear, so derivatives of any order are right.
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
    # Or tapes would keep what happens inside, beside the gradient given.
    return function(*map(tf.stop_gradient, tensors))


@functools.cache
def _compiled(
    kernel: Callable[..., Any], windows: Windows, options: tuple
) -> Callable[..., Any]:
    """One function for all layers and batches with the same windows."""

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
    """Whether the function being traced is on its way into a file.

    `config.exporting()` says so. Keras' and TensorFlow's own exports do not, so
    the callers are looked at. Traces are rare; eager calls do not come here.
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
    """Whether XLA compiles a comparison and a selection here."""
    try:
        with tf.init_scope():
            function = tf.function(
                lambda x: tf.where(x > 0, x, 0), jit_compile=True
            )
            function(tf.zeros((1,), dtype))
    except tf.errors.OpError as error:
        warnings.warn(
            f"XLA does not compile for {dtype.name} on this device: "
            "keras_deconv uses its plain kernels, which are slower and give "
            f"the same results. XLA said: {error.message}",
            stacklevel=2,
        )
        return False
    return True
