"""Normalize and check arguments: one rule and one error text for each.

Every error names the argument, states the rule, shows what came and says what
to write instead.
"""

import inspect
import itertools
import math
import numbers
import operator
import os
import pathlib
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import keras
import numpy as np

from keras_deconv import _backends

IntOrInts = int | Sequence[int]
ValueRange = Sequence[float]

INDEX_FORMATS = ("window", "flat", "plane")
OVERLAPS = ("sum", "mean")
VOID = 255
"""The label of pixels that count neither in training nor in scores."""
TWO_CLASSES = (
    "A binary model needs num_classes=2: one logit for the background and one "
    "for the foreground."
)
TWO_LOGITS = (
    f"{TWO_CLASSES} A model with one logit z becomes such a model with zeros "
    "for the background: "
    "keras.ops.concatenate([keras.ops.zeros_like(z), z], axis=-1)."
)
"""What to do with a model, or with predictions, of one logit per pixel."""
FLOAT32_MAX = float(np.finfo("float32").max)
MAX_CLASSES = 10_000
"""A confusion matrix of so many classes takes 800 MB."""
MAX_CELLS = 4096
# Of fixed unpooling, where cells are filled together; gradients add one by one.
MAX_FILLED_CELLS = 2**14
"""Cells of a window, in all; 64x64 in two dimensions.

The kernels look at the cells one by one, which takes seconds for so many.
"""
MAX_ELEMENTS = 2**16
"""Where a sequence that is an argument is taken to be endless."""


def choice(value: object, name: str, choices: Sequence[str]) -> str:
    """One of some strings, in lower case.

    Raises:
        ValueError: It is none of them.
    """
    normal = value.lower() if isinstance(value, str) else ""
    if normal not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )
    return normal


def _as_int(value: object) -> int | None:
    """`value` as int, or None if it is not a whole number (True is not)."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    # Tensors that are not ints raise errors of every kind.
    except Exception:
        return None


def elements(value: object) -> list[Any] | None:
    """The elements of a sequence, or None if it is not one.

    A str is not one, nor are a dict and a set, which has no order. Scalar and
    symbolic tensors are iterable by their class, and raise errors of every
    kind.
    """
    if not isinstance(value, Iterable) or isinstance(
        value, str | bytes | Mapping | Set
    ):
        return None
    try:
        found = list(itertools.islice(value, MAX_ELEMENTS + 1))
    except Exception:
        return None
    return found if len(found) <= MAX_ELEMENTS else None


def _check_bits(
    values: Iterable[int], name: str, value: object, bits: int = 31
) -> None:
    if any(n >= 2**bits for n in values):
        raise ValueError(
            f"`{name}` must not be larger than 2**{bits} - 1. Received: "
            f"{name}={value!r}"
        )


def ints(
    value: object, num_spatial_dims: int, name: str, minimum: int
) -> tuple[int, ...]:
    """Give one int per spatial axis, each at least `minimum`.

    Args:
        value: int (used for every axis) or sequence of `num_spatial_dims`
            ints.
        num_spatial_dims: Number of spatial axes.
        name: Name of the argument, for the error.
        minimum: Smallest value allowed.

    Raises:
        ValueError: No int, wrong number of ints, or an int below `minimum` or
            above 2**31 - 1.
    """
    single = _as_int(value)
    if single is not None:
        values = [_as_int(value)] * num_spatial_dims
    else:
        values = [_as_int(v) for v in elements(value) or ()]
    result = tuple(v for v in values if v is not None and v >= minimum)
    if len(result) != num_spatial_dims or len(values) != num_spatial_dims:
        raise ValueError(
            f"`{name}` must be an int or a tuple of {num_spatial_dims} ints "
            f"(one per spatial axis), each >= {minimum}. "
            f"Received: {name}={value!r}"
        )
    _check_bits(result, name, value)
    return result


def _int_from(minimum: int, value: object, name: str, bits: int) -> int:
    result = _as_int(value)
    if result is None or result < minimum:
        raise ValueError(
            f"`{name}` must be an int >= {minimum}. Received: {name}={value!r}"
        )
    _check_bits([result], name, value, bits)
    return result


def positive_int(value: object, name: str) -> int:
    """An int from 1 to 2**31 - 1: frameworks count in int32.

    Raises:
        ValueError: If `value` is not one.
    """
    return _int_from(1, value, name, bits=31)


def natural_int(value: object, name: str) -> int:
    """An int from 0 to 2**63 - 1, as seeds may be.

    Raises:
        ValueError: If `value` is not one.
    """
    return _int_from(0, value, name, bits=63)


def counts(value: object, name: str) -> tuple[int, ...]:
    """A sequence of ints >= 1, one at least.

    Raises:
        ValueError: It is none.
    """
    values = [_as_int(v) for v in elements(value) or ()]
    result = tuple(v for v in values if v is not None and v >= 1)
    if not values or len(result) < len(values):
        raise ValueError(
            f"`{name}` must be a sequence of ints >= 1. Received: "
            f"{name}={value!r}"
        )
    _check_bits(result, name, value)
    return result


def rate(value: object, name: str) -> float:
    """A share that is dropped: at least 0 and below 1.

    Raises:
        ValueError: It is none.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not 0 <= float(value) < 1
    ):
        raise ValueError(
            f"`{name}` must be a rate of at least 0 and below 1. Received: "
            f"{name}={value!r}"
        )
    return float(value)


def positive_number(value: object, name: str) -> float:
    """A finite number > 0.

    Raises:
        ValueError: If `value` is not one.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not 0 < float(value) < math.inf
    ):
        raise ValueError(
            f"`{name}` must be a finite number > 0. Received: {name}={value!r}"
        )
    return float(value)


def activation(value: object, name: str) -> Any:
    """An activation as `keras.layers.Activation` takes it: name or function.

    Raises:
        ValueError: If `value` is not a name that Keras knows, nor callable.
    """
    try:
        if value is not None and callable(keras.activations.get(value)):
            return value
    except Exception:  # Of every kind, for what is not hashable and others.
        pass
    raise ValueError(
        f"`{name}` must be the name of an activation of Keras, such as 'relu' "
        f"or 'gelu', or a function. Received: {name}={value!r}"
    )


def initializer(value: object, name: str) -> Any:
    """An initializer of Keras, given one, its name or its configuration.

    Raises:
        ValueError: If `value` is something else.
    """
    try:
        found = keras.initializers.get(value)
    except Exception:  # Of every kind, for what is not hashable and others.
        found = None
    if not callable(found):
        raise ValueError(
            f"`{name}` must be the name of an initializer of Keras, such as "
            f"'he_normal', or an instance of one. Received: {name}={value!r}"
        )
    return found


def check_epoch(epoch: Any) -> None:
    """Check the variable that carries the number of the epoch, or None.

    Raises:
        ValueError: It is something else; a number would never change.
    """
    if epoch is None:
        return
    # Backends other than TensorFlow do without it until here.
    import tensorflow as tf

    if (
        not isinstance(epoch, tf.Variable)
        or epoch.dtype != tf.int64
        or epoch.shape.rank != 0
    ):
        raise ValueError(
            "`epoch` must be a tf.Variable that holds one int64, such as "
            f"tf.Variable(0, dtype='int64'), or None. Received: epoch={epoch!r}"
        )


def image_shape(
    value: object, minimum: int = 1, static: bool = False
) -> tuple[int | None, int | None, int]:
    """Shape of the images a network takes: height, width, channels.

    Args:
        value: Sequence of three; height and width may be None.
        minimum: Smallest height and width allowed.
        static: Whether None is refused.

    Raises:
        ValueError: As described.
    """
    sizes = elements(value) or []
    unknown = "must be known" if static else "may be None"
    is_known = [size is not None for size in sizes]
    if len(sizes) != 3 or not is_known[2] or (static and not all(is_known)):
        raise ValueError(
            "`input_shape` must be (height, width, channels) without the "
            f"batch; height and width {unknown}, channels may not be None. "
            f"Received: input_shape={value!r}"
        )
    height, width = (
        None if size is None else positive_int(size, "input_shape")
        for size in sizes[:2]
    )
    if any(size is not None and size < minimum for size in (height, width)):
        raise ValueError(
            "`input_shape` must have a height and width of at least "
            f"{minimum} for this network. Received: input_shape={value!r}"
        )
    return height, width, positive_int(sizes[2], "input_shape")


def classifier_activation(value: object) -> str | None:
    """What a network makes of its logits."""
    if value is not None and not _is_same_str(value, "softmax"):
        raise ValueError(
            "`classifier_activation` must be None (logits) or 'softmax'. "
            f"Received: classifier_activation={value!r}"
        )
    return value  # type: ignore[return-value]


def _is_same_str(value: object, text: str) -> bool:
    """`value == text`, which is an array for arrays."""
    return isinstance(value, str) and value == text


def num_classes(value: object) -> int:
    """Number of classes: an int from 2 to 10,000, void not included.

    The same rule for networks, losses, metrics and data: a softmax over one
    class is always 1.

    Raises:
        ValueError: If `value` is not an int from 2 to 10,000.
    """
    result = _as_int(value)
    if result is None or result < 2:
        raise ValueError(
            "`num_classes` must be an int >= 2; void is not a class. Received: "
            f"num_classes={value!r}. {TWO_CLASSES}"
        )
    if result > MAX_CLASSES:
        raise ValueError(
            f"`num_classes` must be at most {MAX_CLASSES:,}. Received: "
            f"num_classes={value!r}"
        )
    return result


def class_names(
    value: object, num_classes: int | None = None, name: str = "class_names"
) -> tuple[str, ...]:
    """Names of classes: different texts of one line, in the order of the ids.

    tfds and the files of an export write one name a line.

    Args:
        value: Sequence of str.
        num_classes: How many names there must be; None for at least two.
        name: Name of the argument, for the error.

    Raises:
        ValueError: If `value` is not a sequence of `num_classes` different str,
            or if one of them is empty, has blanks around it or a control
            character, such as a line break.
    """
    names = tuple(elements(value) or ())
    least, most = (num_classes, num_classes) if num_classes else (2, math.inf)
    if (
        not least <= len(names) <= most
        or not all(
            isinstance(one, str)
            and one.strip().splitlines() == [one]
            # They are printed; a terminal obeys an escape sequence.
            and "Cc" not in map(unicodedata.category, one)
            for one in names
        )
        or len(set(names)) < len(names)
    ):
        number = num_classes or "at least two"
        raise ValueError(
            f"`{name}` must be {number} distinct names, one per class (void "
            "is not a class): str that are not empty, without blanks around "
            "them and without line breaks or other control characters. "
            f"Received: {name}={value!r}"
        )
    return names


def boolean(value: object, name: str) -> bool:
    """True or False; the str "False" would count as True.

    Raises:
        ValueError: If `value` is not a bool.
    """
    if not isinstance(value, bool):
        raise ValueError(
            f"`{name}` must be True or False. Received: {name}={value!r}"
        )
    return value


def ignore_class(
    value: object, num_classes: int | None = None
) -> int | tuple[int, ...] | None:
    """The void ids as plain ints: one int, a tuple of ints or None.

    Args:
        value: int, sequence of ints or None.
        num_classes: Number of classes, where it is known.

    Raises:
        ValueError: If `value` is not an int, a sequence of ints or None, or if
            it is the default, 255, and there are so many classes that 255 is
            one of them.
    """
    if value is None:
        return None
    single = _as_int(value)
    if single == VOID and num_classes and num_classes > VOID:
        raise ValueError(
            "`ignore_class` must not be its default, 255, for more than 255 "
            "classes: class 255 would be void. Received: ignore_class=255, "
            f"{num_classes} classes. Pass ignore_class=None if nothing is "
            "void, another id such as -1, or (255,) if class 255 is to be void."
        )
    found = elements(value) if single is None else [single]
    ids = [None] if found is None else [_as_int(v) for v in found]
    result = tuple(n for n in ids if n is not None)
    if len(result) < len(ids):
        raise ValueError(
            "`ignore_class` must be an int, a tuple of ints or None (nothing "
            f"is void). Received: ignore_class={value!r}"
        )
    _check_bits(map(abs, result), "ignore_class", value)
    return result if single is None else single


def class_weights(
    value: Sequence[float] | Mapping[int, float] | None,
) -> tuple[float, ...] | None:
    """One weight per class as plain floats, or None.

    Raises:
        ValueError: No numbers, a negative one, or one beyond float32.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):  # as Keras' own class_weight
            value = [value[i] for i in range(len(value))]
        found = elements(value)
        weights = tuple(map(float, [-1] if found is None else found))
    except Exception:  # Of every kind, for tensors that are not scalars.
        weights = (-1.0,)
    # Beyond float32 a weight would be infinite in the loss.
    if not all(0 <= w <= FLOAT32_MAX for w in weights):
        raise ValueError(
            "`class_weights` must be finite floats >= 0, one per class, as a "
            "sequence or as a dict by class id, or None. "
            f"Received: class_weights={value!r}"
        )
    return weights


def palette(value: Any, num_classes: int | None = None) -> np.ndarray:
    """The colors of classes as uint8 array `(num_classes, 3)`.

    Raises:
        ValueError: There is not one (red, green, blue) of 0..255 per class.
    """
    try:
        colors = np.asarray(value)
    except Exception:  # Rows of different lengths, symbolic tensors, others.
        colors = np.zeros(0)
    if (
        colors.ndim != 2
        or colors.shape[0] == 0
        or colors.shape[1] != 3
        or colors.dtype.kind not in "iu"
        or colors.min() < 0
        or colors.max() > 255
        or num_classes not in (None, len(colors))
    ):
        number = "" if num_classes is None else f", {num_classes} in all"
        raise ValueError(
            "`palette` must hold one (red, green, blue) of ints in 0..255 for "
            f"each class{number}. Received: palette={value!r}. "
            "visualize.default_palette(num_classes) makes one."
        )
    return colors.astype("uint8")


def value_range(value: Any) -> tuple[float, float] | None:
    """Return (low, high) as floats, or None if no range is given.

    Raises:
        ValueError: If `value` is not two finite numbers, low below high.
    """
    if value is None:
        return None
    parts = (
        list(value)
        if isinstance(value, Sequence | np.ndarray)
        and not isinstance(value, str)
        else []
    )
    is_valid = len(parts) == 2 and all(
        isinstance(part, numbers.Real) and math.isfinite(part) for part in parts
    )
    if not is_valid or not parts[0] < parts[1]:
        raise ValueError(
            "`value_range` must be a tuple (low, high) of finite numbers with "
            "low < high, such as (0, 65535), or None. "
            f"Received: value_range={value!r}"
        )
    return float(parts[0]), float(parts[1])


def transposed_kernel_size(value: object, strides: int, name: str) -> int:
    """Kernel size of a transposed convolution, with a warning if it is uneven.

    Where the kernel is no multiple of the strides, the outputs get unequal
    numbers of terms: the checkerboard of Odena, Dumoulin and Olah, 2016,
    "Deconvolution and checkerboard artifacts",
    https://distill.pub/2016/deconv-checkerboard.
    """
    size = positive_int(value, name)
    if size % strides:
        warnings.warn(
            f"`{name}` should be a multiple of the strides, {strides}: "
            "otherwise some outputs sum more terms than their neighbors, "
            f"which draws a checkerboard. Received: {name}={size}",
            stacklevel=_level_of_caller(),
        )
    return size


def _level_of_caller() -> int:
    """Stack level, for a warning, of whoever called this package."""
    package = os.path.dirname(__file__)
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    return level


def strides(
    value: object, pool_size: tuple[int, ...], name: str = "strides"
) -> tuple[int, ...]:
    """Strides per spatial axis; None means windows side by side."""
    if value is None:
        return pool_size
    return ints(value, len(pool_size), name, minimum=1)


def window(
    pool_size: object,
    strides_: object,
    padding_: object,
    num_spatial_dims: int,
    max_cells: int = MAX_CELLS,
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Window, strides and padding of a pooling, per spatial axis.

    Raises:
        ValueError: If an argument is not as described, or the window or the
            strides have more than `max_cells` cells in all.
    """
    size = ints(pool_size, num_spatial_dims, "pool_size", minimum=1)
    steps = strides(strides_, size)
    for name, cells in (("pool_size", size), ("strides", steps)):
        if math.prod(cells) > max_cells:
            raise ValueError(
                f"`{name}` must have at most {max_cells} cells in all, since "
                f"they are handled one by one. Received: {name}={cells}. Pool "
                "or unpool in several steps; to pool the whole image, use "
                "keras.layers.GlobalMaxPooling."
            )
    return size, steps, padding(padding_)


def check_side_by_side(
    strides: tuple[int, ...], pool_size: tuple[int, ...]
) -> None:
    """Refuse windows that overlap or leave gaps.

    Raises:
        ValueError: If `strides` are not `pool_size`.
    """
    if strides != pool_size:
        raise ValueError(
            "`strides` must be None or `pool_size` for nearest unpooling: a "
            "cell that belongs to two windows or to none has no nearest value. "
            f"Received: strides={strides}, pool_size={pool_size}. Use "
            "MaxUnpool or BedOfNailsUnpool for such windows."
        )


def output_size(value: object, num_spatial_dims: int) -> tuple[int, ...] | None:
    """Spatial size to restore, or None to let the pooling rule decide."""
    if value is None:
        return None
    size = ints(value, num_spatial_dims, "output_size", minimum=1)
    if math.prod(size) >= 2**31:
        raise ValueError(
            "`output_size` must have at most 2**31 - 1 cells in all. Received: "
            f"output_size={value!r}"
        )
    return size


def position(value: object, pool_size: tuple[int, ...]) -> tuple[int, ...]:
    """Cell of each window that takes the value, one index per spatial axis."""
    result = ints(value, len(pool_size), "position", minimum=0)
    if any(p >= k for p, k in zip(result, pool_size, strict=True)):
        raise ValueError(
            "`position` counts cells inside a window of `pool_size`, from 0, "
            f"so it must be below {pool_size}. Received: position={value!r}"
        )
    return result


def padding(value: object) -> str:
    """Padding as in Keras pooling, in lower case."""
    return choice(value, "padding", ("valid", "same"))


def data_format(value: object) -> str:
    """Data format; None means the one of the Keras configuration."""
    if value is None:
        return keras.config.image_data_format()
    return choice(value, "data_format", ("channels_last", "channels_first"))


def index_format(value: object) -> str:
    """What an argmax index counts."""
    return choice(value, "index_format", INDEX_FORMATS)


def argmax_format(value: object, name: str) -> str:
    """An index format to convert from or to; ONNX's is one more."""
    return choice(value, name, (*INDEX_FORMATS, "onnx"))


def overlap(value: object) -> str:
    """What happens where several windows chose the same input."""
    return choice(value, "overlap", OVERLAPS)


def argmax_dtype(pool_size: Sequence[int], index_format: str) -> str:
    """Dtype of the index that pooling returns.

    One byte does for a window of up to 256 cells. Positions take int64, or
    what JAX has in its place.

    >>> argmax_dtype((2, 2), "window"), argmax_dtype((17, 17), "window")
    ('uint8', 'int32')
    """
    if index_format == "window":
        return "uint8" if math.prod(pool_size) <= 256 else "int32"
    return _backends.widest_int()


NUMBERS = (
    *("float16", "bfloat16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8"),
)


def check_number_dtype(dtype: Any, name: str) -> None:
    """Refuse what no backend can compare: bool, text, wide unsigned ints.

    Raises:
        ValueError: As described.
    """
    try:
        given = keras.backend.standardize_dtype(dtype)
    except ValueError:  # no dtype of Keras, such as complex ones
        given = str(dtype)
    if given not in NUMBERS:
        raise ValueError(
            f"`{name}` must hold floats or integers, of a dtype among "
            f"{', '.join(NUMBERS)}. Cast it. Received: dtype {given}"
        )


def check_overlap_dtype(overlap: str, dtype: Any) -> None:
    """Refuse to average integers.

    Raises:
        ValueError: As described.
    """
    name = keras.backend.standardize_dtype(dtype)
    if overlap == "mean" and "float" not in name:
        raise ValueError(
            "overlap='mean' needs `values` of a float dtype, since a mean of "
            "integers is none. Cast them, or use overlap='sum'. Received: "
            f"values of dtype {name}"
        )


def check_integer_index(dtype: Any) -> None:
    """Refuse an index that is no integer.

    Raises:
        ValueError: As described.
    """
    name = keras.backend.standardize_dtype(dtype)
    if "int" not in name:
        raise ValueError(
            "`argmax` must be the integer index that MaxPoolWithArgmax "
            "returns. Float indices lose positions (float32 beyond 2**24, "
            "float16 beyond 2048): do not cast the index. Received: argmax "
            f"of dtype {name}"
        )


def check_argmax(values_shape: Any, argmax_shape: Any, dtype: Any) -> None:
    """Refuse an index that is no integer, or of another shape.

    Raises:
        ValueError: As described.
    """
    check_integer_index(dtype)
    values_shape, argmax_shape = tuple(values_shape), tuple(argmax_shape)
    if len(values_shape) != len(argmax_shape) or any(
        a is not None and b is not None and a != b
        for a, b in zip(values_shape, argmax_shape, strict=True)
    ):
        raise ValueError(
            "`argmax` must have the shape of `values`: one index for each "
            "value. Bring `values` to the index's number of channels (a "
            "convolution does it) and size first. Received: values of shape "
            f"{values_shape}, argmax of shape {argmax_shape}"
        )


def sequence(value: object, name: str) -> list[Any]:
    """The elements of a list, a tuple or another sequence.

    Raises:
        ValueError: If `value` is not one.
    """
    found = elements(value)
    if found is None:
        raise ValueError(
            f"`{name}` must be a sequence, such as a list. Received: "
            f"{_kind(value)}"
        )
    return found


def tensor(value: Any, name: str) -> Any:
    """A tensor or an array of real numbers, or nested lists, as a tensor.

    Raises:
        ValueError: If `value` is something else, or symbolic, sparse,
            ragged or masked.
    """
    if isinstance(value, keras.KerasTensor):
        raise _not_a_tensor(
            value, name, "It is symbolic: a functional model needs layers."
        )
    if isinstance(value, np.ma.MaskedArray):
        raise _not_a_tensor(
            value, name, "Its mask would be lost: take value.filled(...)."
        )
    if _backends.is_ragged(value):
        raise _not_a_tensor(
            value, name, "Pad it with its method to_tensor() first."
        )
    try:
        result = _backends.as_tensor(value)
        dtype = keras.backend.standardize_dtype(result.dtype)
    except Exception:  # Of every kind; each backend has others.
        raise _not_a_tensor(value, name) from None
    if _backends.is_sparse(result):
        raise _not_a_tensor(value, name, "Make it dense first.")
    if dtype != "bool" and "int" not in dtype and "float" not in dtype:
        hint = "Take the real part or the absolute value first."
        raise _not_a_tensor(value, name, hint if "complex" in dtype else "")
    return result


def array(value: Any, name: str) -> np.ndarray:
    """A tensor or an array of real numbers, or nested lists, as an array.

    Raises:
        ValueError: If `value` is something else, or symbolic.
    """
    try:
        result = np.asarray(value)
    except Exception:  # Of every kind; each framework has others.
        raise _not_a_tensor(value, name) from None
    if result.dtype.kind in "OSUMm" or result.dtype.names:
        raise _not_a_tensor(value, name)
    return result


def batches(value: Any, name: str) -> Any:
    """An iterable of batches, such as a `tf.data.Dataset`.

    Raises:
        ValueError: If `value` is something else, such as an array.
    """
    if (
        not isinstance(value, Iterable | keras.utils.PyDataset)
        or isinstance(value, str | bytes | Mapping | Set)
        or hasattr(value, "shape")
    ):
        raise ValueError(
            f"`{name}` must be an iterable of batches. Make one of an array: "
            "tf.data.Dataset.from_tensor_slices(array).batch(batch_size). "
            f"Received: {_kind(value)}"
        )
    return value


def _not_a_tensor(value: object, name: str, hint: str = "") -> ValueError:
    return ValueError(
        f"`{name}` must hold real numbers, as a tensor or an array. Received: "
        f"{_kind(value)}. {hint}".rstrip()
    )


def _kind(value: object) -> str:
    """What errors say of a value that may be large."""
    if value is None or isinstance(value, bool | numbers.Number):
        return repr(value)
    shape, dtype = (getattr(value, n, None) for n in ("shape", "dtype"))
    if shape is not None and dtype is not None:
        return f"{type(value).__name__} of shape {shape} and dtype {dtype}"
    shown = repr(value) if isinstance(value, str | bytes) else ""
    kind = f"a value of type {type(value).__name__}"
    return f"{kind}, {shown}" if 0 < len(shown) <= 80 else kind


def path(value: Any, name: str) -> pathlib.Path:
    """A path of the file system; `~` is the home folder.

    Raises:
        ValueError: If `value` is not a str or a path object, or is empty.
    """
    text = ""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(
            f"`{name}` must be a path: a str that is not empty, or a "
            f"pathlib.Path. Received: {name}={value!r}"
        )
    return pathlib.Path(text).expanduser()


def verbose(value: Any) -> int:
    """Whether a progress bar is shown: 0, 1 or 2, or a bool.

    Raises:
        ValueError: If `value` is something else.
    """
    level = int(value) if isinstance(value, bool) else _as_int(value)
    if level not in (0, 1, 2):
        raise ValueError(
            "`verbose` must be 0 (silent), 1 (a progress bar) or 2 (one line). "
            f"Received: verbose={value!r}"
        )
    return level


def text(value: Any, name: str) -> str:
    """A str.

    Raises:
        ValueError: If `value` is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a str. Received: {name}={value!r}")
    return value


def optional_text(value: Any, name: str) -> str | None:
    """A str or None.

    Raises:
        ValueError: If `value` is something else.
    """
    return None if value is None else text(value, name)


def dtype_policy(value: Any) -> Any:
    """A dtype policy of Keras, given one, its name, a dtype or None.

    Raises:
        ValueError: If `value` is something else.
    """
    try:
        return keras.dtype_policies.get(
            keras.config.floatx() if value is None else value
        )
    except Exception:  # Of every kind, for what is not hashable and others.
        raise ValueError(
            "`dtype` must be a dtype such as 'float32', a dtype policy of "
            f"Keras, or None. Received: dtype={value!r}"
        ) from None


def float_dtype(value: Any) -> str:
    """The float dtype to compute in, given what `dtype_policy` takes.

    Raises:
        ValueError: If `value` is something else, or the dtype is not a float.
    """
    result = dtype_policy(value).compute_dtype
    if not result or not keras.backend.is_float_dtype(result):
        raise ValueError(
            "`dtype` must be a float dtype, such as 'float32'. Received: "
            f"dtype={value!r}"
        )
    return result


def one_of_class(value: Any, name: str, kind: type, text: str) -> Any:
    """An object of a class of this package or of Keras.

    Args:
        value: The object.
        name: Name of the argument, for the error.
        kind: The class.
        text: What to pass, for the error.

    Raises:
        ValueError: If `value` is not an object of the class.
    """
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` must be {text}. Received: {_kind(value)}")
    return value
