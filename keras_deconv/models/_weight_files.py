"""Weights that the authors of a network trained, copied into its layers.

A table maps each layer of a network to a layer of the authors' file. All arrays
are found, checked and converted before the first one is assigned.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from keras_deconv.models import _caffemodels, _state_dicts

CAFFE_SUFFIXES = _caffemodels.SUFFIXES
# ReLayNet and QuickNAT save as .model and .pth.tar.
TORCH_SUFFIXES = (*_state_dicts.SUFFIXES, ".tar", ".model")

_STATE_DICT_OF_A_MODEL = (
    "If the file holds a whole model and you trust it, make a state dict in an "
    "environment that can import the authors' code (this executes the code in "
    "the file): torch.save(torch.load(path, map_location='cpu', "
    "weights_only=False).state_dict(), 'weights.pth')"
)
# Number of names in an error message.
_NUM_SHOWN = 3

# Arrays of a layer, in the order of its weights.
Arrays = dict[str, list[np.ndarray]]


def check(value: object, suffixes: Sequence[str]) -> None:
    """Check `weights` for `load` before a model is built.

    Args:
        value: None, or a path as str or `os.PathLike`. `~` is the home folder,
            and the case of the suffix does not matter.
        suffixes: Suffixes that the file may have.

    Raises:
        ValueError: If `value` is something else, or the file does not exist.
    """
    if value is None:
        return
    if isinstance(value, str | os.PathLike):
        path = _path(value)
        if path.suffix.lower() in suffixes and path.is_file():
            return
    raise ValueError(
        "`weights` must be None or the path of an existing file that ends in "
        f"{', '.join(suffixes)}. Received: weights={value!r}"
    )


def load(
    model: keras.Model,
    weights: str | os.PathLike[str],
    names: Mapping[str, str],
    *,
    source: str,
    aliases: Mapping[str, str] | None = None,
    ignored: Sequence[str] = (),
    change: Callable[[Arrays], None] | None = None,
) -> None:
    """Copy the arrays of a file into the layers that a table names.

    In a `.caffemodel`, normalization is a scale and a shift. Statistics are
    missing or folded into both, so the mean becomes 0 and the variance 1. If
    scale and shift are 0, or missing, normalization was folded into the
    convolutions, and the scale becomes 1.

    Args:
        model: Model, which is changed in place.
        weights: Path of the file; see `check`.
        names: The layer of the file for each layer of the model that may have
            weights.
        source: Description of the expected file, for errors.
        aliases: Names in `names` of layers that have another name in some
            files, by this other name.
        ignored: Prefixes of names in the file that are not used.
        change: Function that changes the arrays, which are in Keras' layout,
            before they are assigned.

    Raises:
        ValueError: If the file cannot be read, lacks an array, has one that the
            model does not have or one of another shape, or contains NaN,
            infinities or a negative variance. The model is not changed then.
    """
    path = _path(weights)
    is_caffe = path.suffix.lower() in CAFFE_SUFFIXES
    targets = {layer.name: layer for layer in model.layers if layer.weights}
    unknown = [name for name in targets if name not in names]
    if unknown:
        raise ValueError(
            "`weights` must be None for a model with layers that the authors' "
            f"network does not have. Received: {str(path)!r} and a model with "
            f"{_some(unknown)}. Use decoder='max_unpool' and the published "
            "number of convolutions."
        )
    # The arrays of each layer, by their keys in the file.
    parts = {
        name: {f"{names[name]}.{part.name}": part for part in _parts(layer)}
        for name, layer in targets.items()
    }
    needed = {key: part for of in parts.values() for key, part in of.items()}
    if is_caffe:
        state = _renamed(_caffemodels.read(path, "weights"), aliases or {})
        needed = _needed_of_caffe(state, needed)
    else:
        state = _state_dicts.read(path, "weights", _STATE_DICT_OF_A_MODEL)
    _check_keys(state, needed, ignored, source, path)
    found = take(
        state,
        {key: part.shape for key, part in needed.items()},
        f"`weights` must be {source}, and the model must have its number of "
        "classes, its image channels and its other settings",
        path,
        "weights",
    )
    if is_caffe:
        _drop_folded_norms(found, needed)
    arrays: Arrays = {
        name: [part.to_keras(found.get(key)) for key, part in of.items()]
        for name, of in parts.items()
    }
    if change is not None:
        change(arrays)
    for name, values in arrays.items():
        targets[name].set_weights(values)


def take(
    state: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    rule: str,
    path: Path,
    argument: str,
) -> dict[str, np.ndarray]:
    """Return the arrays of the given names in float32, after checking them.

    Args:
        state: Result of `_state_dicts.read` or `_caffemodels.read`.
        shapes: Shapes in the file, by name.
        rule: Description of the expected file, for errors.
        path: The file, for errors.
        argument: Name of the user's argument, for errors.

    Raises:
        ValueError: If an array is missing, has another shape, does not contain
            floats, or contains NaN, infinities or a negative variance.
    """
    for key, expected in shapes.items():
        found = tuple(state[key].shape) if key in state else "missing"
        if found != expected:
            raise ValueError(
                f"{rule}. Received: {str(path)!r}, whose {key} must have the "
                f"shape {expected}, but is {found}"
            )
    arrays = {}
    for key in shapes:
        try:
            arrays[key] = _state_dicts.to_array(state[key])
        # Other kinds of tensors, such as sparse ones, raise different errors.
        except Exception as error:
            raise ValueError(
                f"{rule}. Received: {str(path)!r}, whose {key} must hold "
                f"floats. It failed with {type(error).__name__}: {error}"
            ) from None
        check_numbers(arrays[key], key, path, argument)
    return arrays


def check_numbers(
    array: np.ndarray, name: str, path: str | Path, argument: str
) -> None:
    """Check that an array contains values that a training can produce.

    Raises:
        ValueError: If it contains NaN, infinities or a negative variance.
    """
    negative = name.endswith("running_var") and (array < 0).any()
    if negative or not np.isfinite(array).all():
        raise ValueError(
            f"`{argument}` must contain finite values, and variances >= 0. "
            f"Received: {str(path)!r}, whose {name} does not"
        )


class _Part(NamedTuple):
    """A weight of a layer, and its layout in PyTorch and Caffe."""

    name: str
    shape: tuple[int, ...]  # in the file
    keras_shape: tuple[int, ...]
    axes: tuple[int, ...]  # of the file, in Keras' order
    default: float = math.nan  # of normalization, which files may lack

    @property
    def is_norm(self) -> bool:
        return not math.isnan(self.default)

    def to_keras(self, array: np.ndarray | None) -> np.ndarray:
        if array is None:
            return np.full(self.keras_shape, self.default, "float32")
        return array.transpose(self.axes).reshape(self.keras_shape)


def _parts(layer: layers.Layer) -> list[_Part]:
    """Return the parts of a layer, in the order of its weights.

    Raises:
        TypeError: If the layer is of another kind.
    """
    if isinstance(layer, layers.BatchNormalization):
        defaults = {
            "weight": 1.0,
            "bias": 0.0,
            "running_mean": 0.0,
            "running_var": 1.0 - layer.epsilon,
        }
        return [
            _vector(name, layer.gamma, default)
            for name, default in defaults.items()
        ]
    if isinstance(layer, layers.PReLU):
        return [_vector("weight", layer.alpha)]
    if not isinstance(
        layer, layers.Conv2D | layers.Conv2DTranspose | layers.Dense
    ):
        raise TypeError(f"layer {layer.name!r} of {type(layer).__name__}")
    shape = tuple(layer.kernel.shape)
    # PyTorch puts filters before channels and Keras after them. Both exchange
    # the two for transposed convolutions, so one permutation fits both.
    axes = (1, 0) if len(shape) == 2 else (2, 3, 1, 0)
    in_file = tuple(shape[axes.index(axis)] for axis in range(len(shape)))
    found = [_Part("weight", in_file, shape, axes)]
    if layer.use_bias:
        found.append(_vector("bias", layer.bias))
    return found


def _vector(name: str, weight: Any, default: float = math.nan) -> _Part:
    """Return a part with one number per channel, whatever axes Keras adds."""
    shape = tuple(weight.shape)
    return _Part(name, (math.prod(shape),), shape, (0,), default)


def _check_keys(
    state: Mapping[str, Any],
    needed: Mapping[str, _Part],
    ignored: Sequence[str],
    source: str,
    path: Path,
) -> None:
    """Reject a file with other arrays than the model has.

    Raises:
        ValueError: If an array is missing, or one is not used.
    """
    missing = [key for key in needed if key not in state]
    others = [
        key
        for key in state
        if key not in needed
        and not key.startswith(tuple(ignored))
        # PyTorch counts batches; Keras does not.
        and not key.endswith(".num_batches_tracked")
    ]
    if missing or others:
        raise ValueError(
            f"`weights` must be {source}, and the model must have its "
            f"settings. Received: {str(path)!r}. Missing in the file: "
            f"{_some(missing)}. Unknown to the model: {_some(others)}."
        )


def _renamed(
    state: Mapping[str, np.ndarray], aliases: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Replace aliases of layers in the names of arrays."""
    renamed = {}
    for key, value in state.items():
        layer, _, part = key.rpartition(".")
        new = f"{aliases.get(layer, layer)}.{part}"
        # A file with both names belongs to another network.
        renamed[key if new in state else new] = value
    return renamed


def _needed_of_caffe(
    state: dict[str, np.ndarray], needed: Mapping[str, _Part]
) -> dict[str, _Part]:
    """Return the parts that a file of Caffe must have.

    It does not have statistics, and may lack normalization. Caffe's vectors
    have four axes; `state` is changed so that they have one.
    """
    has_norms = any(
        key in state for key, part in needed.items() if part.is_norm
    )
    kept = {}
    for key, part in needed.items():
        if part.is_norm and not (has_norms and part.name in ("weight", "bias")):
            continue
        kept[key] = part
        if len(part.shape) == 1 and key in state:
            squeezed = tuple(n for n in state[key].shape if n != 1) or (1,)
            if squeezed == part.shape:
                state[key] = state[key].reshape(squeezed)
    return kept


def _drop_folded_norms(
    found: dict[str, np.ndarray], needed: Mapping[str, _Part]
) -> None:
    """Remove scales and shifts of 0.

    The authors' BN-absorber.py leaves them after it has folded normalization
    into the convolutions.
    """
    scales = [key for key, part in needed.items() if part.is_norm]
    for scale in scales:
        if scale.endswith(".weight"):
            shift = f"{scale.removesuffix('weight')}bias"
            if not found[scale].any() and not found[shift].any():
                del found[scale], found[shift]


def _path(value: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(value))


def _some(names: Sequence[str]) -> str:
    """Return the first names as text, and how many more there are."""
    if not names:
        return "none"
    shown = ", ".join(names[:_NUM_SHOWN])
    more = len(names) - _NUM_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
