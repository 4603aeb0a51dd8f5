"""Functions for behavior that differs between the Keras backends."""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras


def is_traced(tensor: Any) -> bool:
    """Return whether a function that uses `tensor` is being traced.

    Values cannot be read there.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.is_symbolic_tensor(tensor)
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    if backend == "torch":
        import torch

        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return True
        return tensor.is_meta or not _has_storage(tensor)
    return False


def _has_storage(tensor: Any) -> bool:
    """Return whether a PyTorch tensor has data; wrappers do not."""
    import torch

    # Another class handles the operations, as for fake tensors.
    dispatch = type(tensor).__torch_dispatch__
    if dispatch is not torch.Tensor.__torch_dispatch__:
        return False
    try:
        tensor.data_ptr()
    # Wrappers such as those of torch.vmap raise it. PyTorch does not have a
    # public function to recognize them.
    except RuntimeError:
        return False
    return True


def shape(tensor: Any) -> tuple:
    """Return `keras.ops.shape`, with ints while a model is exported.

    The batch size is -1 during an export. On PyTorch, traced sizes would mix
    int32 and int64 tensors in one operation, which ONNX runtimes refuse. On
    OpenVINO, they would be the sizes of the image that Keras traces with.
    """
    if is_traced_for_file():
        return (-1, *static_shape(tensor)[1:])
    if keras.config.backend() == "torch":
        return tuple(tensor.shape)
    return keras.ops.shape(tensor)


def static_shape(tensor: Any) -> tuple[int | None, ...]:
    """Return the static shape, with None for unknown sizes."""
    if keras.config.backend() == "jax":
        # In `jax.export`, sizes can be expressions such as "h // 2".
        return tuple(n if isinstance(n, int) else None for n in tensor.shape)
    if not is_traced_for_file():
        return tuple(tensor.shape)
    if keras.config.backend() == "openvino":
        return (None, *tensor.shape[1:])
    # Traced sizes are tensors. PyTorch warns that these become constants. Keras
    # ignores the warning in `model.export`; whoever traces a model directly
    # sees it.
    return (None, *(int(n) for n in tensor.shape[1:]))


def is_traced_for_file() -> bool:
    """Whether operations are traced for a file whose sizes are constants.

    PyTorch traces so with `torch.jit.trace`, which `model.export` uses, and the
    OpenVINO backend while it exports.
    """
    if keras.config.backend() == "openvino":
        return _arguments_of(*_OPENVINO_EXPORT) is not None
    if keras.config.backend() != "torch":
        return False
    import torch

    return torch.jit.is_tracing()


def has_open_sizes() -> bool:
    """Whether a file that is being written leaves a size open.

    The batch does not count. The traced example has numbers for all sizes.
    Only the arguments of the function that writes the file tell which of
    them are open.
    """
    if not is_traced_for_file():
        return False
    export = _arguments_of(*_OPENVINO_EXPORT) or {}
    specs = keras.tree.flatten(export.get("input_signature"))
    if any(None in spec.shape[1:] for spec in specs if spec is not None):
        return True
    export = _arguments_of("torch.onnx", "export") or {}
    axes = export.get("dynamic_axes") or {}
    return any(axis != 0 for of_name in axes.values() for axis in of_name)


# Keras has no public way to ask whether it exports. The tests of exports from
# these backends fail if a version of Keras moves the function.
_OPENVINO_EXPORT = ("keras.src.export.openvino", "export_openvino")


def _arguments_of(module: str, function: str) -> dict[str, Any] | None:
    """Return the local variables of a function on the stack, or None."""
    frame = sys._getframe()
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == (
            module,
            function,
        ):
            return frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]
    return None


def check_scatter(batch: Any) -> None:
    """Check that the backend can scatter with this batch size.

    Raises:
        ValueError: If the batch size is unknown, on OpenVINO.
    """
    if keras.config.backend() != "openvino":
        return
    if not isinstance(batch, int) or batch < 0:
        raise ValueError(
            "index_format='flat' and 'plane' cannot be unpooled by `predict` "
            "or `export` on the OpenVINO backend, whose scatter needs a known "
            "batch size. Use index_format='window', call the model directly, "
            "or export it with KERAS_BACKEND=tensorflow."
        )


def are_decidable(rules: Iterable[Any]) -> bool:
    """Return whether comparisons of sizes, from a generator, can be decided.

    Comparisons of the symbolic sizes of `jax.export` may be undecidable.
    """
    if keras.config.backend() != "jax":
        return True
    import jax

    try:
        all(rules)
    except jax.errors.InconclusiveDimensionOperation:
        return False
    return True


def longer(a: Any, b: Any) -> Any:
    """Return the larger of two sizes; unknown sizes are not ints."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if keras.config.backend() == "jax":
        import jax

        # The result must stay an expression, since a shape cannot contain
        # tensors.
        return jax.core.max_dim(a, b)
    return keras.ops.maximum(a, b)


def maximum(a: Any, b: Any) -> Any:
    """Return the elementwise maximum, without narrowing 64 bits on PyTorch.

    If numbers are equal, the PyTorch version returns the first, so that the
    sign of zero does not depend on the memory layout.
    """
    if keras.config.backend() != "torch":
        return keras.ops.maximum(a, b)
    import torch

    if not torch.is_tensor(b):
        return a.clamp(min=b)
    is_first = a >= b
    if a.is_floating_point():
        is_first = is_first | (a != a)  # Keeps NaN.
    return a.where(is_first, b)


def any_nan(tensors: Sequence[Any], largest: Any) -> Any:
    """Return where one of the tensors is NaN, given the maximum of all.

    The maximum alone does not suffice, since XLA may lose NaN on CPUs.
    """
    if keras.config.backend() == "torch":
        # PyTorch compiles `isnan` to a slow loop.
        return largest != largest
    return functools.reduce(keras.ops.logical_or, map(keras.ops.isnan, tensors))


def pad(tensor: Any, pads: Sequence[tuple[Any, Any]], value: Any) -> Any:
    """Pad with a value; None repeats the border, whose cells must be equal.

    `keras.ops.pad` creates a named object. On PyTorch, `torch.compile` does not
    support this inside a custom gradient.
    """
    backend = keras.config.backend()
    if value is None:
        if backend == "jax":
            import jax

            # Mirroring would need a known number of cells.
            return jax.numpy.pad(tensor, pads, mode="edge")
        return keras.ops.pad(tensor, pads, mode="symmetric")
    if backend != "torch":
        return keras.ops.pad(tensor, pads, constant_values=value)
    import torch

    flat = [n for pair in reversed(pads) for n in pair]
    return torch.nn.functional.pad(tensor, flat, value=value)


def is_readable(tensor: Any) -> bool:
    """Return whether values can be read without stalling an accelerator."""
    if is_traced(tensor):
        return False
    backend = keras.config.backend()
    if backend == "tensorflow":
        return "CPU" in tensor.device
    if backend == "jax":
        return all(d.platform == "cpu" for d in tensor.devices())
    if backend == "torch":
        return tensor.device.type == "cpu"
    # OpenVINO may be tracing; it always is in `predict`.
    return backend == "numpy"


def is_ragged(x: Any) -> bool:
    """Return whether `x` is a `tf.RaggedTensor`."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(x, tf.RaggedTensor)


def as_tensor(x: Any) -> Any:
    """Convert to a tensor, including the variables of TensorFlow.

    `keras.ops.convert_to_tensor` returns variables unchanged, but
    `tf.custom_gradient` requires tensors.
    """
    x = keras.ops.convert_to_tensor(x)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(x)
    return x


def is_sparse(tensor: Any) -> bool:
    """Return whether a tensor is sparse."""
    if keras.config.backend() == "torch":
        import torch

        return tensor.layout != torch.strided
    if keras.config.backend() == "jax":
        import jax.experimental.sparse

        return isinstance(tensor, jax.experimental.sparse.JAXSparse)
    return False  # `as_tensor` refuses sparse tensors of other backends.


def require(condition: Any, *message: Any, before: Any = None) -> Any:
    """Assert a condition in TensorFlow graphs, with a message.

    XLA, and therefore JAX, does not have assertions. Computations from the
    returned tensor, `before`, wait for the assertion. Without this, another
    operation could fail first with a less helpful message.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        asked = tf.debugging.Assert(condition, list(message))
        if before is not None and asked is not None:
            with tf.control_dependencies([asked]):
                return tf.identity(before)
    return before


def require_lengths(rules: Iterable[Any], *message: Any, before: Any) -> Any:
    """Assert conditions on sizes that are known only at run time.

    Only TensorFlow graphs can assert. Other backends do not evaluate the
    rules, since comparisons in `jax.export` may be undecidable.

    Args:
        rules: Comparisons of sizes, from a generator. Only tensors are
            asserted; the others have already been checked.
        *message: Parts of the error message, with the received sizes.
        before: Tensor to return. Computations from it wait for the assertion.
    """
    if keras.config.backend() != "tensorflow":
        return before
    unknown = [
        rule
        for rule in rules
        if not isinstance(rule, bool) and keras.ops.is_tensor(rule)
    ]
    if not unknown:
        return before
    rule = keras.ops.all(keras.ops.stack(unknown))
    return require(rule, *message, before=before)


def widest_int() -> str:
    """Return int64, or int32 on JAX without `jax_enable_x64`."""
    if keras.config.backend() == "jax":
        import jax

        return jax.dtypes.canonicalize_dtype("int64").name
    return "int64"


def num_replicas() -> int:
    """Return the number of replicas that `mean_over_replicas` averages over.

    It is 1 outside `tf.distribute.Strategy.run`, and on JAX, where a function
    always gets the whole batch.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            return context.num_replicas_in_sync
    return 1


def mean_over_replicas(tensor: Any) -> Any:
    """Return the mean over the replicas of a strategy; it has gradients."""
    if num_replicas() == 1:
        return tensor
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, tensor)


MAX_GRAPHS = 16
"""Number of shapes with a separate graph, which takes 20 MB if it is large."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on TensorFlow; other backends return it unchanged.

    Graphs with known sizes are faster. Each of the first `MAX_GRAPHS` shapes of
    the first argument therefore gets a separate graph. Later shapes share one.
    """
    if keras.config.backend() != "tensorflow":
        return function
    import tensorflow as tf

    exact = tf.function(function)
    shared = tf.function(function, reduce_retracing=True)
    shapes = set[tuple]()

    def call(first: Any, *rest: Any) -> Any:
        shape = tuple(first.shape)
        if len(shapes) < MAX_GRAPHS:
            shapes.add(shape)
        return (exact if shape in shapes else shared)(first, *rest)

    return call


def repeat(times: Any, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """Repeat `state = body(i, state)` for i in 0..times - 1.

    `times` may be a traced tensor on TensorFlow. Other backends run a Python
    loop: the seeds of layers are variables, which JAX cannot update inside a
    traced loop.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            return keras.ops.fori_loop(0, times, body, state)
    for i in range(int(times)):
        state = body(i, state)
    return state


_drawing = threading.RLock()


@contextlib.contextmanager
def draws_alone() -> Iterator[None]:
    """Lock the global random generator of PyTorch for one thread."""
    if keras.config.backend() == "torch":
        with _drawing:
            yield
    else:
        yield


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global random generator of PyTorch, and restore it afterward.

    The dropout of Keras uses this generator.
    """
    if keras.config.backend() == "torch":
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    else:
        yield


def set_global_seed(seed: int) -> None:
    """Seed the global random generator of PyTorch."""
    if keras.config.backend() == "torch":
        import torch

        torch.manual_seed(seed)


@contextlib.contextmanager
def no_gradients() -> Iterator[None]:
    """Disable the recording of gradients on PyTorch."""
    if keras.config.backend() == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield
