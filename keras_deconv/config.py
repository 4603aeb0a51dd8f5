"""Settings of the package: compiled kernels, and tracing for a file."""

import contextlib
import contextvars
import math
from collections.abc import Iterator

from keras_deconv import _arguments

__all__ = [
    "compiled_kernels_threshold",
    "enable_compiled_kernels",
    "exporting",
    "is_exporting",
]

_threshold: float = 2**19
_exporting = contextvars.ContextVar("_exporting", default=False)


def enable_compiled_kernels(
    enabled: bool = True, min_elements: int = 2**19
) -> None:
    """Enable or disable compiled kernels for later calls and traces.

    On TensorFlow, XLA compiles pooling and unpooling of large tensors, each
    kernel separately. The results are the same with and without compilation.
    Other backends ignore this setting.

    Args:
        enabled: bool. Whether kernels may be compiled. The default is True.
        min_elements: int >= 0. Tensors with fewer elements, counted before
            pooling, are not compiled. Compilation takes a tenth of a second and
            saves less than a millisecond for them. If the batch size is
            unknown, the elements of one image count; with "channels_first" or
            one channel, those of 64 planes. The default is 2**19.

    Raises:
        ValueError: If `enabled` is not a bool.
        ValueError: If `min_elements` is not an int >= 0.

    Example:
        >>> from keras_deconv import config
        >>> config.enable_compiled_kernels(False)
        >>> config.compiled_kernels_threshold()
        inf
        >>> config.enable_compiled_kernels(True)
        >>> config.compiled_kernels_threshold()
        524288
    """
    global _threshold
    if not isinstance(enabled, bool):
        raise ValueError(
            f"`enabled` must be True or False. Received: enabled={enabled!r}"
        )
    min_elements = _arguments.natural_int(min_elements, "min_elements")
    _threshold = min_elements if enabled else math.inf


def compiled_kernels_threshold() -> float:
    """Return the smallest number of elements for which kernels are compiled.

    Returns:
        The `min_elements` of `enable_compiled_kernels`, or infinity if compiled
        kernels are disabled.

    Example:
        >>> from keras_deconv import config
        >>> config.compiled_kernels_threshold()
        524288
    """
    return _threshold


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Trace layers as plain operations, which converters can write to a file.

    Use this context around code that traces a `tf.function` for a converter,
    such as `tf.lite.TFLiteConverter.from_concrete_functions`. You do not need
    it for `keras_deconv.export`, `model.export`, `tf.saved_model.save` and
    `TFLiteConverter.from_keras_model`.

    Only TensorFlow needs this context. JAX does not have compiled kernels of
    this package, and on PyTorch the layers recognize its exporters.

    Edge cases:
        Trace the function inside the context. A function that was traced before
        keeps its compiled kernels, and a call inside the context does not
        retrace it.

        Eager calls and their gradients are the same inside and outside the
        context.

    Example:
        >>> import tensorflow as tf
        >>> from keras_deconv import MaxPoolWithArgmax2D, config
        >>> pool = MaxPoolWithArgmax2D()
        >>> @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 1))])
        ... def pooled(images):
        ...     return pool(images)[0]
        >>> with config.exporting():
        ...     function = pooled.get_concrete_function()
        >>> converter = tf.lite.TFLiteConverter.from_concrete_functions(
        ...     [function], pooled)
        >>> len(converter.convert()) > 0
        True
    """
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Return whether the caller runs inside `exporting()`.

    Returns:
        A bool.

    Example:
        >>> from keras_deconv import config
        >>> with config.exporting():
        ...     config.is_exporting()
        True
    """
    return _exporting.get()
