"""Checks and conversions of label maps, shared by losses and metrics.

A label map contains one class id per pixel. Ids 0..num_classes-1 are classes.
The ids in `ignore_class` are void: the class of the pixel is unknown, so losses
and metrics ignore it. Any other id is an error in the data.
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
"""The id that `class_ids` returns for ignored pixels."""


def precise_dtype(dtype: Any) -> str:
    """Return the dtype to compute in: float32 instead of half precision.

    The sum over the pixels of a batch overflows float16. Neither float16 nor
    bfloat16 can count pixels exactly.
    """
    name = _arguments.float_dtype(dtype)
    return "float32" if name in ("float16", "bfloat16") else name


def label_map(
    y_true: Tensor, sizes: tuple[Any, ...], y_pred_shape: Shape
) -> Tensor:
    """Return `y_true` with the shape `sizes`, without a last axis of size 1.

    Args:
        y_true: Labels of shape `sizes` or `sizes + (1,)`.
        sizes: Expected shape, as returned by `keras.ops.shape`. A size that is
            only known at run time is a tensor.
        y_pred_shape: Shape of the predictions, for the error message.

    Raises:
        ValueError: If `y_true` has any other shape, such as that of one-hot
            labels.
        tf.errors.InvalidArgumentError: If the shapes only differ at run time.
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
                f"shape of `y_pred`, {y_pred_shape}. Convert one-hot labels "
                "with keras.ops.argmax(y_true, axis=-1). If `y_pred` holds "
                "class ids, it must have an integer dtype."
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
    """Return the class ids of a label map, and `LEFT_OUT` for void pixels.

    Args:
        y_true: Label map of any integer dtype, or whole numbers as floats.
        num_classes: Number of classes.
        ignore_class: Void ids. An id that is also a class id is void.
        sample_weight: Weights of images or pixels. A weight of 0 also makes
            pixels void.

    Returns:
        Tensor of the same shape, with the widest integer dtype of the backend.
        Compiled code cannot raise errors. There, labels that are neither a
        class nor void become `LEFT_OUT` too.

    Raises:
        ValueError: If a label is neither a class nor void, in eager code.
        ValueError: If the weights do not match images or pixels.
        tf.errors.InvalidArgumentError: For the same reasons, in a TensorFlow
            graph.
    """
    # TensorFlow keeps int32 tensors in host memory, and int64 tensors on the
    # GPU.
    ids = ops.cast(y_true, _backends.widest_int())
    if "float" in _dtype(y_true):  # 0.5 and NaN are not class ids.
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
    """Return sample weights that broadcast to `ids`.

    Args:
        sample_weight: Weights per image, of shape `(batch,)`; per pixel, of the
            shape of `ids` with or without a last axis of size 1; or with any
            number of axes in between.
        ids: Label map.

    Returns:
        The weights, with the rank of `ids`. Compiled code cannot raise errors.
        There, invalid weights become NaN.

    Raises:
        ValueError: If the weights do not match images or pixels.
        ValueError: If the weights are complex.
        ValueError: If a weight is negative or not finite, in eager code.
        tf.errors.InvalidArgumentError: For the same reasons, in a TensorFlow
            graph.
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
    """Return a static shape: None replaces sizes that are not known."""
    return tuple(n if isinstance(n, int) else None for n in sizes)


def _as_tuple(ignore_class: IgnoreClass) -> tuple[int, ...]:
    if isinstance(ignore_class, int):
        return (ignore_class,)
    return tuple(ignore_class or ())


def _dtype(tensor: Tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def _may_broadcast(source: Shape, target: Shape, stretch: bool) -> bool:
    """Return whether known sizes agree; `stretch` lets 1 match any size."""
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
        # A graph cannot list the labels, but it can print their range.
        found = ops.cast(y_true, "float32")
        smallest = ops.min(ops.where(known, np.inf, found))
        largest = ops.max(ops.where(known, -np.inf, found))
        _backends.require(
            ops.all(known), rule, smallest, "to", largest, way_out
        )
