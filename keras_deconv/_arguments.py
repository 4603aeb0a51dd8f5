"""Functions that check arguments and convert them to one form.

Every error names the argument, says what it must be, shows the received value
and says what to pass instead.
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
"""The label of pixels that training and metrics ignore."""
TWO_CLASSES = (
    "A binary model needs num_classes=2: one logit for the background and one "
    "for the foreground."
)
TWO_LOGITS = (
    f"{TWO_CLASSES} To convert a model with one logit z per pixel, add zeros "
    "for the background: "
    "keras.ops.concatenate([keras.ops.zeros_like(z), z], axis=-1)."
)
"""Advice for models, and for predictions, with one logit per pixel."""
FLOAT32_MAX = float(np.finfo("float32").max)
MAX_CLASSES = 10_000
"""With this number of classes, a confusion matrix takes 800 MB."""
MAX_CELLS = 4096
"""Largest number of cells of a window, for example 64x64.

The kernels process the cells one by one, which takes seconds for so large a
window.
"""
MAX_FILLED_CELLS = 2**14
"""The same for fixed unpooling.

It fills all cells at once; only its gradient processes them one by one.
"""
MAX_ELEMENTS = 2**16
"""A longer sequence is refused as an argument, since it may be endless."""


def choice(value: object, name: str, choices: Sequence[str]) -> str:
    """Return `value` in lower case, which must be one of `choices`.

    Raises:
        ValueError: If `value` is not one of `choices`.
    """
    normal = value.lower() if isinstance(value, str) else ""
    if normal not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )
    return normal


def _as_int(value: object) -> int | None:
    """Return `value` as int, or None if it is a bool or not an integer."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except Exception:  # Tensors raise errors of many types.
        return None


def elements(value: object) -> list[Any] | None:
    """Return the elements of a sequence, or None if `value` is not a sequence.

    A str, a dict and a set do not count as sequences. Scalar and symbolic
    tensors seem iterable but raise errors of many types.
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
    """Return one int per spatial axis, each at least `minimum`.

    Args:
        value: int (used for every axis) or sequence of `num_spatial_dims`
            ints.
        num_spatial_dims: Number of spatial axes.
        name: Name of the argument, for the error.
        minimum: Smallest value allowed.

    Raises:
        ValueError: If `value` is not an int or `num_spatial_dims` ints from
            `minimum` to 2**31 - 1.
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
    """Return an int from 1 to 2**31 - 1, since frameworks count in int32.

    Raises:
        ValueError: If `value` is not such an int.
    """
    return _int_from(1, value, name, bits=31)


def natural_int(value: object, name: str) -> int:
    """Return an int from 0 to 2**63 - 1, the range of seeds.

    Raises:
        ValueError: If `value` is not such an int.
    """
    return _int_from(0, value, name, bits=63)


def counts(value: object, name: str) -> tuple[int, ...]:
    """Return a sequence of ints >= 1 as a tuple.

    Raises:
        ValueError: If `value` is not a sequence of ints >= 1, or is empty.
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
    """Return a dropout rate, which is at least 0 and less than 1.

    Raises:
        ValueError: If `value` is not such a number.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not 0 <= float(value) < 1
    ):
        raise ValueError(
            f"`{name}` must be a number >= 0 and < 1. Received: "
            f"{name}={value!r}"
        )
    return float(value)


def positive_number(value: object, name: str, maximum: float) -> float:
    """Return a number > 0 and <= `maximum` as float.

    Raises:
        ValueError: If `value` is not such a number.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or value <= 0
        or not value <= maximum  # also refuses NaN
    ):
        raise ValueError(
            f"`{name}` must be a number > 0 and <= {maximum}. Received: "
            f"{name}={value!r}"
        )
    return float(value)


def activation(value: object, name: str) -> Any:
    """Return an activation for `keras.layers.Activation`: a name or a function.

    Raises:
        ValueError: If `value` is not a name that Keras knows or a callable.
    """
    try:
        if value is not None and callable(keras.activations.get(value)):
            return value
    except Exception:  # Keras raises other types for unhashable values.
        pass
    raise ValueError(
        f"`{name}` must be the name of a Keras activation, such as 'relu' or "
        f"'gelu', or a function. Received: {name}={value!r}"
    )


def initializer(value: object, name: str) -> Any:
    """Return a Keras initializer from an instance, a name or a configuration.

    Raises:
        ValueError: If `value` does not name or define an initializer.
    """
    try:
        found = keras.initializers.get(value)
    except Exception:  # Keras raises other types for unhashable values.
        found = None
    if not callable(found):
        raise ValueError(
            f"`{name}` must be the name of a Keras initializer, such as "
            f"'he_normal', or an initializer. Received: {name}={value!r}"
        )
    return found


def check_epoch(epoch: Any) -> None:
    """Check the variable that holds the number of the epoch.

    Raises:
        ValueError: If `epoch` is neither None nor a scalar int64 `tf.Variable`.
    """
    if epoch is None:
        return
    # Other backends do not require TensorFlow.
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
    """Return the input shape of a network: height, width and channels.

    Args:
        value: Sequence of three ints >= 1; height and width may be None.
        minimum: Smallest height and width allowed.
        static: Whether height and width must be known.

    Raises:
        ValueError: If `value` is not such a sequence.
    """
    sizes = elements(value) or []
    unknown = "must be known" if static else "may be None"
    is_known = [size is not None for size in sizes]
    if len(sizes) != 3 or not is_known[2] or (static and not all(is_known)):
        raise ValueError(
            "`input_shape` must be (height, width, channels) without the "
            f"batch. Height and width {unknown}; channels may not be None. "
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
    """Return the activation of the logits: None or "softmax"."""
    if value is not None and not _is_same_str(value, "softmax"):
        raise ValueError(
            "`classifier_activation` must be None (logits) or 'softmax'. "
            f"Received: classifier_activation={value!r}"
        )
    return value  # type: ignore[return-value]


def _is_same_str(value: object, text: str) -> bool:
    """Return whether `value` is this str; arrays do not support `==` here."""
    return isinstance(value, str) and value == text


def num_classes(value: object) -> int:
    """Return the number of classes, not counting void: an int from 2 to 10,000.

    Networks, losses, metrics and data use this rule. One class is not enough,
    since a softmax over one class is always 1.

    Raises:
        ValueError: If `value` is not an int from 2 to 10,000.
    """
    result = _as_int(value)
    if result is None or result < 2:
        raise ValueError(
            "`num_classes` must be an int >= 2, not counting void. Received: "
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
    """Return distinct class names in the order of the class ids.

    A name must be a single line, since tfds and exports write one name per
    line.

    Args:
        value: Sequence of str.
        num_classes: Number of names; None for at least two.
        name: Name of the argument, for the error.

    Raises:
        ValueError: If `value` is not a sequence of `num_classes` distinct str.
        ValueError: If a name is empty, starts or ends with whitespace, or
            contains a control character such as a line break.
    """
    names = tuple(elements(value) or ())
    least, most = (num_classes, num_classes) if num_classes else (2, math.inf)
    if (
        not least <= len(names) <= most
        or not all(
            isinstance(one, str)
            and one.strip().splitlines() == [one]
            # Names are printed, and a terminal executes escape sequences.
            and "Cc" not in map(unicodedata.category, one)
            for one in names
        )
        or len(set(names)) < len(names)
    ):
        number = num_classes or "at least two"
        raise ValueError(
            f"`{name}` must be {number} distinct names, one per class, not "
            "counting void. A name must be a str that is not empty, without "
            "whitespace at its start or end, and without line breaks or other "
            f"control characters. Received: {name}={value!r}"
        )
    return names


def boolean(value: object, name: str) -> bool:
    """Return a bool; other values are refused, since the str "False" is true.

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
    """Return the void ids as plain ints: one int, a tuple of ints or None.

    Args:
        value: int, sequence of ints or None.
        num_classes: Number of classes; None if it is not known.

    Raises:
        ValueError: If `value` is not an int, a sequence of ints or None.
        ValueError: If `value` is the default, 255, and 255 is also a class.
    """
    if value is None:
        return None
    single = _as_int(value)
    if single == VOID and num_classes and num_classes > VOID:
        raise ValueError(
            "`ignore_class` must not be its default, 255, for more than 255 "
            "classes, since it would ignore class 255. Received: "
            f"ignore_class=255, {num_classes} classes. Pass ignore_class=None "
            "if the masks do not contain void, another id such as -1, or "
            "(255,) to ignore class 255."
        )
    found = elements(value) if single is None else [single]
    ids = [None] if found is None else [_as_int(v) for v in found]
    result = tuple(n for n in ids if n is not None)
    if len(result) < len(ids):
        raise ValueError(
            "`ignore_class` must be an int, a tuple of ints, or None to count "
            f"every pixel. Received: ignore_class={value!r}"
        )
    _check_bits(map(abs, result), "ignore_class", value)
    return result if single is None else single


def class_weights(
    value: Sequence[float] | Mapping[int, float] | None,
) -> tuple[float, ...] | None:
    """Return one weight per class as plain floats, or None.

    Raises:
        ValueError: If a weight is not a number, is negative or exceeds the
            range of float32.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):  # Like `class_weight` of `fit`.
            value = [value[i] for i in range(len(value))]
        found = elements(value)
        weights = tuple(map(float, [-1] if found is None else found))
    except Exception:  # Tensors that are not scalars raise many types.
        weights = (-1.0,)
    # The loss would convert larger weights to infinity.
    if not all(0 <= w <= FLOAT32_MAX for w in weights):
        raise ValueError(
            "`class_weights` must be finite floats >= 0, one per class, as a "
            "sequence or as a dict by class id, or None. "
            f"Received: class_weights={value!r}"
        )
    return weights


def palette(value: Any, num_classes: int | None = None) -> np.ndarray:
    """Return the colors of the classes as a uint8 array `(num_classes, 3)`.

    Raises:
        ValueError: If `value` is not one (red, green, blue) in 0..255 per
            class.
    """
    try:
        colors = np.asarray(value)
    except Exception:  # For example for rows of different lengths.
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
            f"each class{number}. Received: palette={value!r}. To create one, "
            "call visualize.default_palette(num_classes)."
        )
    return colors.astype("uint8")


def value_range(value: Any) -> tuple[float, float] | None:
    """Return the pair (low, high) as floats, or None.

    Raises:
        ValueError: If `value` is neither None nor two finite numbers with
            low < high.
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
    """Return the kernel size of a transposed convolution.

    Warns if the kernel size is not a multiple of the strides. The outputs are
    then sums of different numbers of terms, which causes the checkerboard of
    Odena, Dumoulin and Olah, 2016, "Deconvolution and checkerboard artifacts",
    https://distill.pub/2016/deconv-checkerboard.
    """
    size = positive_int(value, name)
    if size % strides:
        warnings.warn(
            f"`{name}` should be a multiple of the strides ({strides}); other "
            "kernel sizes cause checkerboard artifacts. Received: "
            f"{name}={size}",
            stacklevel=_level_of_caller(),
        )
    return size


def _level_of_caller() -> int:
    """Return the `stacklevel` at which a warning shows the user's code."""
    package = os.path.dirname(__file__)
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    return level


def strides(
    value: object, pool_size: tuple[int, ...], name: str = "strides"
) -> tuple[int, ...]:
    """Return the strides per spatial axis; None means `pool_size`."""
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
    """Return the window, the strides and the padding of a pooling.

    Raises:
        ValueError: If `pool_size` or `strides_` is not ints >= 1, one per
            spatial axis, or has more than `max_cells` cells in all.
        ValueError: If `padding_` is not "valid" or "same".
    """
    size = ints(pool_size, num_spatial_dims, "pool_size", minimum=1)
    steps = strides(strides_, size)
    for name, cells in (("pool_size", size), ("strides", steps)):
        if math.prod(cells) > max_cells:
            raise ValueError(
                f"`{name}` must have at most {max_cells} cells in all, since "
                f"they are processed one by one. Received: {name}={cells}. "
                "Pool or unpool in several steps. To pool a whole image, use a "
                "keras.layers.GlobalMaxPooling layer."
            )
    return size, steps, padding(padding_)


def check_side_by_side(
    strides: tuple[int, ...], pool_size: tuple[int, ...]
) -> None:
    """Raise an error if windows overlap or leave gaps.

    Raises:
        ValueError: If `strides` is not `pool_size`.
    """
    if strides != pool_size:
        raise ValueError(
            "`strides` must be None or `pool_size` for nearest unpooling, "
            "since windows must not overlap or leave gaps. Received: "
            f"strides={strides}, pool_size={pool_size}. Use MaxUnpool or "
            "BedOfNailsUnpool for such windows."
        )


def output_size(value: object, num_spatial_dims: int) -> tuple[int, ...] | None:
    """Return the spatial size to restore, or None for the default size."""
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
    """Return the cell of a window that gets the value, one int per axis."""
    result = ints(value, len(pool_size), "position", minimum=0)
    if any(p >= k for p, k in zip(result, pool_size, strict=True)):
        raise ValueError(
            "`position` must be less than `pool_size`, since it counts cells "
            f"of a window from 0. Received: position={value!r}, "
            f"pool_size={pool_size}"
        )
    return result


def padding(value: object) -> str:
    """Return "valid" or "same"."""
    return choice(value, "padding", ("valid", "same"))


def data_format(value: object) -> str:
    """Return the data format; None means that of the Keras configuration."""
    if value is None:
        return keras.config.image_data_format()
    return choice(value, "data_format", ("channels_last", "channels_first"))


def index_format(value: object) -> str:
    """Return an index format of the layers."""
    return choice(value, "index_format", INDEX_FORMATS)


def argmax_format(value: object, name: str) -> str:
    """Return an index format of `convert_argmax`, which includes ONNX's."""
    return choice(value, name, (*INDEX_FORMATS, "onnx"))


def overlap(value: object) -> str:
    """Return how to combine values that land on the same cell."""
    return choice(value, "overlap", OVERLAPS)


def argmax_dtype(pool_size: Sequence[int], index_format: str) -> str:
    """Return the dtype of the index that pooling returns.

    One byte suffices for windows of up to 256 cells. Positions need int64,
    which is int32 on JAX by default.

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
    """Raise an error for dtypes that not every backend can compare.

    Raises:
        ValueError: If `dtype` is not one of `NUMBERS`. It may be bool, text or
            a wide unsigned integer.
    """
    try:
        given = keras.backend.standardize_dtype(dtype)
    except ValueError:  # Keras does not have this dtype, such as complex64.
        given = str(dtype)
    if given not in NUMBERS:
        raise ValueError(
            f"`{name}` must hold floats or integers of one of the dtypes "
            f"{', '.join(NUMBERS)}. Received: dtype {given}. Cast it first."
        )


def check_overlap_dtype(overlap: str, dtype: Any) -> None:
    """Raise an error if integers would be averaged.

    Raises:
        ValueError: If `overlap` is "mean" and the dtype is not a float dtype.
    """
    name = keras.backend.standardize_dtype(dtype)
    if overlap == "mean" and "float" not in name:
        raise ValueError(
            "overlap='mean' requires `values` of a float dtype, since integers "
            "cannot be averaged exactly. Received: values of dtype "
            f"{name}. Cast them, or use overlap='sum'."
        )


def check_integer_index(dtype: Any) -> None:
    """Raise an error if the index is not an integer.

    Raises:
        ValueError: If `dtype` is not an integer dtype.
    """
    name = keras.backend.standardize_dtype(dtype)
    if "int" not in name:
        raise ValueError(
            "`argmax` must be the integer index that MaxPoolWithArgmax "
            f"returns. Received: argmax of dtype {name}. Do not cast the index "
            "to floats: float32 is exact only up to 2**24, float16 up to 2048."
        )


def check_argmax(values_shape: Any, argmax_shape: Any, dtype: Any) -> None:
    """Raise an error if the index does not match the values.

    Raises:
        ValueError: If the index is not an integer.
        ValueError: If the shapes differ.
    """
    check_integer_index(dtype)
    values_shape, argmax_shape = tuple(values_shape), tuple(argmax_shape)
    if len(values_shape) != len(argmax_shape) or any(
        a is not None and b is not None and a != b
        for a, b in zip(values_shape, argmax_shape, strict=True)
    ):
        raise ValueError(
            "`argmax` must have the shape of `values`, one index for each "
            f"value. Received: values of shape {values_shape}, argmax of shape "
            f"{argmax_shape}. Resize `values` first, or change their number of "
            "channels with a convolution."
        )


def sequence(value: object, name: str) -> list[Any]:
    """Return the elements of a sequence as a list.

    Raises:
        ValueError: If `value` is not a sequence.
    """
    found = elements(value)
    if found is None:
        raise ValueError(
            f"`{name}` must be a sequence, such as a list. Received: "
            f"{_kind(value)}"
        )
    return found


def tensor(value: Any, name: str) -> Any:
    """Convert a tensor, an array or nested lists of real numbers to a tensor.

    Raises:
        ValueError: If `value` cannot be converted, or is symbolic, sparse,
            ragged or masked.
    """
    if isinstance(value, keras.KerasTensor):
        raise _not_a_tensor(
            value, name, "In a functional model use layers instead."
        )
    if isinstance(value, np.ma.MaskedArray):
        raise _not_a_tensor(
            value, name, "Call value.filled(...) first to replace its mask."
        )
    if _backends.is_ragged(value):
        raise _not_a_tensor(
            value, name, "Call value.to_tensor() first to pad it."
        )
    try:
        result = _backends.as_tensor(value)
        dtype = keras.backend.standardize_dtype(result.dtype)
    except Exception:  # The type depends on the backend.
        raise _not_a_tensor(value, name) from None
    if _backends.is_sparse(result):
        raise _not_a_tensor(value, name, "Convert it to a dense tensor first.")
    if dtype != "bool" and "int" not in dtype and "float" not in dtype:
        hint = "Compute the real part or the absolute value first."
        raise _not_a_tensor(value, name, hint if "complex" in dtype else "")
    return result


def array(value: Any, name: str) -> np.ndarray:
    """Convert a tensor, an array or nested lists of real numbers to an array.

    Raises:
        ValueError: If `value` cannot be converted, or is symbolic.
    """
    try:
        result = np.asarray(value)
    except Exception:  # The type depends on the framework.
        raise _not_a_tensor(value, name) from None
    if result.dtype.kind in "OSUMm" or result.dtype.names:
        raise _not_a_tensor(value, name)
    return result


def batches(value: Any, name: str) -> Any:
    """Return an iterable of batches, such as a `tf.data.Dataset`.

    Raises:
        ValueError: If `value` is not an iterable, or is an array, a str or a
            mapping.
    """
    if (
        not isinstance(value, Iterable | keras.utils.PyDataset)
        or isinstance(value, str | bytes | Mapping | Set)
        or hasattr(value, "shape")
    ):
        raise ValueError(
            f"`{name}` must be an iterable of batches. Received: "
            f"{_kind(value)}. To split an array into batches, use "
            "tf.data.Dataset.from_tensor_slices(array).batch(batch_size)."
        )
    return value


def _not_a_tensor(value: object, name: str, hint: str = "") -> ValueError:
    return ValueError(
        f"`{name}` must hold real numbers, as a tensor or an array. Received: "
        f"{_kind(value)}. {hint}".rstrip()
    )


def _kind(value: object) -> str:
    """Describe a value that may be too large for an error message."""
    if value is None or isinstance(value, bool | numbers.Number):
        return repr(value)
    shape, dtype = (getattr(value, n, None) for n in ("shape", "dtype"))
    if shape is not None and dtype is not None:
        return f"{type(value).__name__} of shape {shape} and dtype {dtype}"
    shown = repr(value) if isinstance(value, str | bytes) else ""
    kind = f"a value of type {type(value).__name__}"
    return f"{kind}, {shown}" if 0 < len(shown) <= 80 else kind


def path(value: Any, name: str) -> pathlib.Path:
    """Return a path, with `~` replaced by the home folder.

    Raises:
        ValueError: If `value` is not a str or a path object, or is empty.
    """
    text = ""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(
            f"`{name}` must be a path, as a pathlib.Path or a str that is not "
            f"empty. Received: {name}={value!r}"
        )
    return pathlib.Path(text).expanduser()


def verbose(value: Any) -> int:
    """Return the verbosity: 0, 1 or 2.

    Raises:
        ValueError: If `value` is not 0, 1, 2 or a bool.
    """
    level = int(value) if isinstance(value, bool) else _as_int(value)
    if level not in (0, 1, 2):
        raise ValueError(
            "`verbose` must be 0 (silent), 1 (a progress bar) or 2 (one line). "
            f"Received: verbose={value!r}"
        )
    return level


def text(value: Any, name: str) -> str:
    """Return a str.

    Raises:
        ValueError: If `value` is not a str.
    """
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a str. Received: {name}={value!r}")
    return value


def optional_text(value: Any, name: str) -> str | None:
    """Return a str or None.

    Raises:
        ValueError: If `value` is not a str or None.
    """
    return None if value is None else text(value, name)


def dtype_policy(value: Any) -> Any:
    """Return a Keras dtype policy from a policy, a name, a dtype or None.

    Raises:
        ValueError: If `value` does not name or define a dtype policy.
    """
    try:
        return keras.dtype_policies.get(
            keras.config.floatx() if value is None else value
        )
    except Exception:  # Keras raises other types for unhashable values.
        raise ValueError(
            "`dtype` must be a dtype such as 'float32', a Keras dtype policy, "
            f"or None. Received: dtype={value!r}"
        ) from None


def float_dtype(value: Any) -> str:
    """Return the compute dtype of a policy, a name, a dtype or None.

    Raises:
        ValueError: If `value` does not define a policy, or its compute dtype is
            not a float dtype.
    """
    result = dtype_policy(value).compute_dtype
    if not result or not keras.backend.is_float_dtype(result):
        raise ValueError(
            "`dtype` must be a float dtype, such as 'float32'. Received: "
            f"dtype={value!r}"
        )
    return result


def one_of_class(value: Any, name: str, kind: type, text: str) -> Any:
    """Return `value` if it is an instance of a class.

    Args:
        value: The object.
        name: Name of the argument, for the error.
        kind: The class.
        text: Description of the expected object, for the error.

    Raises:
        ValueError: If `value` is not an instance of `kind`.
    """
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` must be {text}. Received: {_kind(value)}")
    return value
