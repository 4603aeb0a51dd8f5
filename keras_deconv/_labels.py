"""What the losses and the metrics both need to know about label maps.

A label map holds one class id per pixel. Ids 0..num_classes-1 are classes, the
ids of `ignore_class` are void: nobody says what is there, so such pixels take
no part. Any other id is a mistake in the data.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_deconv import _arguments, _backends

Tensor: TypeAlias = Any
Shape: TypeAlias = tuple[int | None, ...]
IgnoreClass: TypeAlias = int | Sequence[int] | None

LEFT_OUT = -1
"""What `class_ids` writes where a pixel takes no part."""


def precise_dtype(dtype: Any) -> str:
    """Give the dtype to compute in; half precision becomes float32.

    A sum over the pixels of a batch overflows float16, and neither float16 nor
    bfloat16 counts pixels.
    """
    name = _arguments.float_dtype(dtype)
    return "float32" if name in ("float16", "bfloat16") else name


def label_map(
    y_true: Tensor, sizes: tuple[Any, ...], y_pred_shape: Shape
) -> Tensor:
    """Give `y_true` in one shape, without the axis of size 1 it may end with.

    Args:
        y_true: Labels of shape `sizes` or `sizes + (1,)`.
        sizes: Shape to have, as `keras.ops.shape` gives it: a size that is not
            known until run time is a tensor.
        y_pred_shape: Shape of the predictions, for the error.

    Raises:
        ValueError: Any other shape, one-hot labels among them.
        tf.errors.InvalidArgumentError: The same at run time.
    """
    shape = _known(sizes)
    y_true = _arguments.tensor(y_true, "y_true")
    y_true_shape = tuple(y_true.shape)
    if len(y_true_shape) == len(shape) + 1:
        if y_true_shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        elif y_true_shape == y_pred_shape:
            raise ValueError(
                "`y_true` must hold one class id per pixel, but it has the "
                f"shape of `y_pred`, {y_pred_shape}. One-hot labels become "
                "ids with keras.ops.argmax(y_true, axis=-1); class ids as "
                "predictions must be of an integer dtype."
            )
    if not _may_broadcast(tuple(y_true.shape), shape, stretch=False):
        raise ValueError(
            "`y_true` must hold one class id for each pixel of `y_pred`. "
            f"Received: y_true.shape={y_true_shape}, "
            f"y_pred.shape={y_pred_shape}. Expected y_true.shape={shape}, or "
            "the same with a last axis of size 1; resize the masks (nearest "
            "neighbor) or the predictions."
        )
    received = ops.shape(y_true)
    return _backends.require_lengths(
        (n == to for n, to in zip(received, sizes, strict=True)),
        "`y_true` must hold one class id for each pixel of `y_pred`; resize "
        "the masks (nearest neighbor) or the predictions. Received: y_true of "
        "shape",
        *received,
        "predictions for",
        *sizes,
        before=y_true,
    )


def class_ids(
    y_true: Tensor,
    num_classes: int,
    ignore_class: IgnoreClass,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Read a label map: class ids, and `LEFT_OUT` where a pixel is void.

    Args:
        y_true: Label map of any integer dtype, or whole numbers as floats.
        num_classes: Number of classes.
        ignore_class: Void ids. They win over class ids.
        sample_weight: Weights of images or pixels; 0 leaves them out, too.

    Returns:
        Tensor of the same shape and of the widest int dtype. In compiled code,
        where nothing can be raised, labels that are neither class nor void
        become `LEFT_OUT` too.

    Raises:
        ValueError: A label that is neither class nor void, in eager code;
            weights that fit neither images nor pixels.
        tf.errors.InvalidArgumentError: The same in a TensorFlow graph.
    """
    # TensorFlow keeps int32 in a GPU's host memory, int64 on the device.
    ids = ops.cast(y_true, _backends.widest_int())
    if "float" in _dtype(y_true):  # no class: 0.5, NaN
        whole = ops.equal(ops.cast(ids, _dtype(y_true)), y_true)
    else:
        whole = ops.ones_like(ids, dtype="bool")
    is_void = ops.zeros_like(whole)
    for void in _as_tuple(ignore_class):
        is_void = ops.logical_or(is_void, ops.equal(ids, void))
    is_class = ops.logical_and(ids >= 0, ids < num_classes)
    known = ops.logical_and(whole, ops.logical_or(is_void, is_class))
    _require_known(y_true, known, num_classes, ignore_class)
    counted = ops.logical_and(known, ops.logical_not(is_void))
    if sample_weight is not None:
        weights = pixel_weights(sample_weight, ids)
        counted = ops.logical_and(counted, ops.cast(weights, "bool"))
    return ops.where(counted, ids, LEFT_OUT)


def pixel_weights(sample_weight: Tensor, ids: Tensor) -> Tensor:
    """Give sample weights the rank of `ids`, so that the two broadcast.

    Args:
        sample_weight: Weights per image (batch,), per pixel (the shape of
            `ids`, or that and a last axis of size 1), or in between.
        ids: Label map.

    Returns:
        The weights. In compiled code, where nothing can be raised, NaN stands
        for what is not a weight.

    Raises:
        ValueError: The weights fit neither images nor pixels, or are complex;
            in eager code also weights that are negative or not finite.
        tf.errors.InvalidArgumentError: The same in a TensorFlow graph.
    """
    weights = _arguments.tensor(sample_weight, "sample_weight")
    received, shape = tuple(weights.shape), tuple(ids.shape)
    if len(received) == len(shape) + 1 and received[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    for _ in range(len(shape) - len(received)):
        weights = ops.expand_dims(weights, axis=-1)
    rule = (
        "`sample_weight` must hold one weight per image, shape (batch,), or "
        "one per pixel, shape"
    )
    if not _may_broadcast(tuple(weights.shape), shape, stretch=True):
        raise ValueError(
            f"{rule} {shape}. Received: sample_weight.shape={received}"
        )
    sizes, found = ops.shape(ids), ops.shape(weights)
    weights = _backends.require_lengths(
        ((n == to) | (n == 1) for n, to in zip(found, sizes, strict=True)),
        rule,
        *sizes,
        "Received: sample_weight of shape",
        *found,
        before=weights,
    )
    return _valid_weights(weights)


def _valid_weights(weights: Tensor) -> Tensor:
    if "bool" in _dtype(weights):
        return weights
    values = ops.cast(weights, "float32")
    valid = ops.logical_and(ops.isfinite(values), values >= 0)
    rule = "`sample_weight` must hold finite numbers >= 0. Received:"
    way_out = "Weight 0 leaves out an image or a pixel."
    if not _backends.is_traced(valid):
        wrong = np.logical_not(ops.convert_to_numpy(valid))
        if wrong.any():
            found = np.unique(ops.convert_to_numpy(values)[wrong])
            listed = ", ".join(f"{weight:g}" for weight in found[:10])
            more = ", ..." if len(found) > 10 else ""
            raise ValueError(f"{rule} {listed}{more}. {way_out}")
        return weights
    count = ops.sum(ops.cast(ops.logical_not(valid), "int32"))
    _backends.require(ops.all(valid), rule, count, "others.", way_out)
    if "float" not in _dtype(weights):
        weights = values
    return ops.where(valid, weights, ops.cast(np.nan, weights.dtype))


def _known(sizes: tuple[Any, ...]) -> Shape:
    """Sizes as in a static shape, None for what is not known yet."""
    return tuple(n if isinstance(n, int) else None for n in sizes)


def _as_tuple(ignore_class: IgnoreClass) -> tuple[int, ...]:
    if isinstance(ignore_class, int):
        return (ignore_class,)
    return tuple(ignore_class or ())


def _dtype(tensor: Tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def _may_broadcast(source: Shape, target: Shape, stretch: bool) -> bool:
    """Whether the sizes known so far agree; `stretch` lets a 1 fit any size."""
    return len(source) == len(target) and all(
        s is None or t is None or s == t or (stretch and s == 1)
        for s, t in zip(source, target, strict=True)
    )


def _require_known(
    y_true: Tensor,
    known: Tensor,
    num_classes: int,
    ignore_class: IgnoreClass,
) -> None:
    rule = (
        f"`y_true` must hold class ids 0..{num_classes - 1} or void "
        f"(ignore_class={ignore_class}). Found other labels:"
    )
    way_out = (
        "Add them to `ignore_class` if they are void, shift the ids if they "
        "start at 1, and resize masks with nearest neighbor only."
    )
    if not _backends.is_traced(known):
        strays = np.logical_not(ops.convert_to_numpy(known))
        if strays.any():
            found = np.unique(ops.convert_to_numpy(y_true)[strays])
            listed = ", ".join(f"{label:g}" for label in found[:10])
            more = ", ..." if len(found) > 10 else ""
            raise ValueError(f"{rule} {listed}{more}. {way_out}")
    else:
        # A graph cannot list them, but it can name the extremes.
        found = ops.cast(y_true, "float32")
        smallest = ops.min(ops.where(known, np.inf, found))
        largest = ops.max(ops.where(known, -np.inf, found))
        _backends.require(
            ops.all(known), rule, smallest, "to", largest, way_out
        )
