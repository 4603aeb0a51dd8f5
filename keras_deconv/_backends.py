"""The few things that Keras' backends do differently."""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras


def is_traced(tensor: Any) -> bool:
    """Whether `tensor` stands for numbers that are not there yet.

    So it is inside a function that is being compiled, where values cannot be
    looked at.
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
    """Whether a PyTorch tensor is more than a wrapper, as in `torch.vmap`."""
    import torch

    # Operations on it are somebody else's, as with fake tensors.
    dispatch = type(tensor).__torch_dispatch__
    if dispatch is not torch.Tensor.__torch_dispatch__:
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # There is no public function that tells.
        return False
    return True


def shape(tensor: Any) -> tuple:
    """`keras.ops.shape`, in ints while a model is traced for a file.

    The batch is -1 there. On PyTorch, traced sizes would be int32 and int64
    tensors in one operation, which ONNX runtimes refuse; on OpenVINO they would
    be those of the one image that Keras traces with.
    """
    if is_traced_for_file():
        return (-1, *static_shape(tensor)[1:])
    if keras.config.backend() == "torch":
        return tuple(tensor.shape)
    return keras.ops.shape(tensor)


def static_shape(tensor: Any) -> tuple[int | None, ...]:
    """The shape as known now; a length that is not known is None."""
    if keras.config.backend() == "jax":
        # `jax.export` puts expressions such as "h // 2" in place of lengths.
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
    """Local variables of a function that is being called; None if it is not."""
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
    """Refuse a scatter whose number of cells the backend has to know.

    Raises:
        ValueError: If the batch is open, on OpenVINO.
    """
    if keras.config.backend() != "openvino":
        return
    if not isinstance(batch, int) or batch < 0:
        raise ValueError(
            "index_format='flat' and 'plane' cannot be unpooled by `predict` "
            "or `export` on the OpenVINO backend, whose scatter needs a known "
            "batch size. Use index_format='window', call the model instead, "
            "or export it with KERAS_BACKEND=tensorflow."
        )


def are_decidable(rules: Iterable[Any]) -> bool:
    """Whether comparisons of lengths, from a generator, have an answer.

    Those of the expressions that `jax.export` has for lengths may not.
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
    """The larger of two lengths, which are not known if they are not ints."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if keras.config.backend() == "jax":
        import jax

        # Lengths stay expressions; as tensors they could not make a shape.
        return jax.core.max_dim(a, b)
    return keras.ops.maximum(a, b)


def maximum(a: Any, b: Any) -> Any:
    """`keras.ops.maximum`, which on PyTorch narrows 64 bits to 32.

    Of equal numbers PyTorch gives the first here, so that the sign of zero does
    not depend on how tensors lie in memory.
    """
    if keras.config.backend() != "torch":
        return keras.ops.maximum(a, b)
    import torch

    if not torch.is_tensor(b):
        return a.clamp(min=b)
    is_first = a >= b
    if a.is_floating_point():
        is_first = is_first | (a != a)  # so that NaN stays
    return a.where(is_first, b)


def any_nan(tensors: Sequence[Any], largest: Any) -> Any:
    """Where one of the tensors is NaN, given the `maximum` of all.

    XLA's maximum may lose NaN on CPUs.
    """
    if keras.config.backend() == "torch":
        return largest != largest  # PyTorch compiles `isnan` to a slow loop.
    return functools.reduce(keras.ops.logical_or, map(keras.ops.isnan, tensors))


def pad(tensor: Any, pads: Sequence[tuple[Any, Any]], value: Any) -> Any:
    """`keras.ops.pad` with a value; None is for borders of equal cells.

    Keras makes an object with a name of its own there, which `torch.compile`
    does not take inside a function with a gradient of its own.
    """
    backend = keras.config.backend()
    if value is None:
        if backend == "jax":
            import jax

            # Mirroring has to know how many cells are added.
            return jax.numpy.pad(tensor, pads, mode="edge")
        return keras.ops.pad(tensor, pads, mode="symmetric")
    if backend != "torch":
        return keras.ops.pad(tensor, pads, constant_values=value)
    import torch

    flat = [n for pair in reversed(pads) for n in pair]
    return torch.nn.functional.pad(tensor, flat, value=value)


def is_readable(tensor: Any) -> bool:
    """Whether values can be looked at without making an accelerator wait."""
    if is_traced(tensor):
        return False
    backend = keras.config.backend()
    if backend == "tensorflow":
        return "CPU" in tensor.device
    if backend == "jax":
        return all(d.platform == "cpu" for d in tensor.devices())
    if backend == "torch":
        return tensor.device.type == "cpu"
    # Another backend may be tracing, as OpenVINO's always is in `predict`.
    return backend == "numpy"


def is_ragged(x: Any) -> bool:
    """Whether `x` is a `tf.RaggedTensor`, whose rows differ in length."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(x, tf.RaggedTensor)


def as_tensor(x: Any) -> Any:
    """`keras.ops.convert_to_tensor`, which leaves TensorFlow's variables.

    They are no tensors to `tf.custom_gradient`.
    """
    x = keras.ops.convert_to_tensor(x)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(x)
    return x


def is_sparse(tensor: Any) -> bool:
    """Whether a tensor has few elements, with their places."""
    if keras.config.backend() == "torch":
        import torch

        return tensor.layout != torch.strided
    if keras.config.backend() == "jax":
        import jax.experimental.sparse

        return isinstance(tensor, jax.experimental.sparse.JAXSparse)
    return False  # `as_tensor` refuses it.


def require(condition: Any, *message: Any, before: Any = None) -> Any:
    """Stop with the message where a compiled function finds it broken.

    TensorFlow's graphs can; XLA, and with it JAX, has no such thing. What is
    computed from the tensor that is returned, `before`, waits for the answer:
    or an operation that cannot go on might be faster, and say less.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        asked = tf.debugging.Assert(condition, list(message))
        if before is not None and asked is not None:
            with tf.control_dependencies([asked]):
                return tf.identity(before)
    return before


def require_lengths(rules: Iterable[Any], *message: Any, before: Any) -> Any:
    """Where sizes are not known, refuse at run time what does not fit.

    TensorFlow's graphs can; other backends leave the rules alone, since those
    of `jax.export` may not be decidable.

    Args:
        rules: Comparisons of lengths, from a generator. Those that are known
            now, and not tensors, have been checked already.
        *message: What to say, with the lengths that came.
        before: Tensor that is returned, and computed from after that.
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
    """int64, or int32 on JAX, which has int64 only with `jax_enable_x64`."""
    if keras.config.backend() == "jax":
        import jax

        return jax.dtypes.canonicalize_dtype("int64").name
    return "int64"


def num_replicas() -> int:
    """Replicas among which `mean_over_replicas` would take the mean.

    1 but inside `tf.distribute.Strategy.run`: JAX sees whole batches.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            return context.num_replicas_in_sync
    return 1


def mean_over_replicas(tensor: Any) -> Any:
    """The mean of what the replicas of a strategy have; gradients too."""
    if num_replicas() == 1:
        return tensor
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, tensor)


MAX_GRAPHS = 16
"""How many shapes get a graph of their own; a large network's takes 20 MB."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a graph on TensorFlow; elsewhere as it is.

    A graph that knows all sizes is the faster one. So each of the first shapes
    of the first argument has its own, and those that come later share.
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
    """`state = body(i, state)` for i from 0 on; `times` may be traced.

    A loop in Python but in TensorFlow's graphs: the seeds of layers are
    variables, which JAX cannot change inside a traced loop.
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
    """One thread at a time where all draw from one global generator."""
    if keras.config.backend() == "torch":
        with _drawing:
            yield
    else:
        yield


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Draw from `seed` where a backend draws without a seed generator.

    Keras' dropout does so on PyTorch.
    """
    if keras.config.backend() == "torch":
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    else:
        yield


def set_global_seed(seed: int) -> None:
    """Draw from `seed` from now on, as `global_seed` does for a while."""
    if keras.config.backend() == "torch":
        import torch

        torch.manual_seed(seed)


@contextlib.contextmanager
def no_gradients() -> Iterator[None]:
    """Keep nothing for a backward pass, which PyTorch does unless told."""
    if keras.config.backend() == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield
