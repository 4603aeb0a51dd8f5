"""Channels of equal range, for arithmetic that has one range per tensor.

Eight bits quantise a tensor in 255 steps of its largest value. A channel whose
values stay below half of that has half of the steps, and twice as many ties in
its windows. Batch normalisation can bring each channel to the full range, and
the convolutions that read it take the factor back: what is in between treats
each channel by itself and scales with it, and the index of a maximum does not
change at all.

Reference: Nagel, van Baalen, Blankevoort and Welling, 2019, "Data-free
quantization through weight equalization and bias correction", section 4.1,
https://arxiv.org/abs/1906.04721. There ranges of weights are made equal; here
those of activations, which decide the ties.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_deconv.layers import (
    BedOfNailsUnpool1D,
    BedOfNailsUnpool2D,
    BedOfNailsUnpool3D,
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
    NearestUnpool1D,
    NearestUnpool2D,
    NearestUnpool3D,
)
from keras_deconv.layers.cropping import CropLike2D

Tensor = Any

MAX_FACTOR = 16.0
"""More is four bits: a channel that is lower still is next to nothing."""

_TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED)
# Layers that treat each channel by itself, and give twice as much for twice as
# much. Their first input and their first output hold the values.
_SCALE_WITH_CHANNELS = (
    *(MaxPoolWithArgmax1D, MaxPoolWithArgmax2D, MaxPoolWithArgmax3D),
    *(MaxUnpool1D, MaxUnpool2D, MaxUnpool3D),
    *(NearestUnpool1D, NearestUnpool2D, NearestUnpool3D),
    *(BedOfNailsUnpool1D, BedOfNailsUnpool2D, BedOfNailsUnpool3D),
    CropLike2D,
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.Dropout, layers.SpatialDropout2D),
    *(layers.LeakyReLU, layers.PReLU),
)


def equalize_channels(
    model: keras.Model, batches: Iterable[Any]
) -> keras.Model:
    """The same function with other weights, whose channels have equal ranges.

    Only batch normalisations that nothing but convolutions read, through layers
    that scale with their input, are changed; a model without any is given back.

    Args:
        model: Functional or Sequential model with one input and one output.
        batches: Batches of images, from which the ranges are taken.

    Returns:
        A copy of the model, or the model itself.
    """
    readers = _readers_of_norms(model)
    if not readers:
        return model
    ranges = _ranges(model, readers, batches)
    equalized = keras.models.clone_model(model)
    equalized.set_weights(model.get_weights())
    for name, convolutions in readers.items():
        factors = _factors(ranges[name])
        norm = equalized.get_layer(name)
        norm.gamma.assign(norm.gamma * factors)
        if norm.center:
            norm.beta.assign(norm.beta * factors)
        for convolution in convolutions:
            kernel = equalized.get_layer(convolution.name).kernel
            # (..., in, out), and (..., out, in) of transposed ones.
            axes = (-1,) if isinstance(convolution, _TRANSPOSED) else (-1, 1)
            kernel.assign(kernel / factors.reshape(axes))
    return equalized


def _readers_of_norms(model: keras.Model) -> dict[str, list[keras.Layer]]:
    """By name of a normalisation that may be changed: what reads it."""
    operations = model.operations
    made = {id(tensor) for op in operations for tensor in _all(op.output)}
    taken = [t for op in operations for t in _all(op.input)] + model.outputs
    # Only the first call of a layer is told. Where there are more, nobody
    # knows who else reads.
    if not made.issuperset(map(id, taken)):
        return {}
    readers = {}
    for op in operations:
        if (
            isinstance(op, layers.BatchNormalization)
            and op.scale
            and op.axis in (-1, len(op.output.shape) - 1)
        ):
            found = _convolutions_that_read(op.output, model)
            if found:
                readers[op.name] = found
    return readers


def _convolutions_that_read(
    tensor: Tensor, model: keras.Model
) -> list[keras.Layer] | None:
    """Nothing but these read a tensor of a model; None where others do."""
    if any(tensor is output for output in model.outputs):
        return None
    found = list[keras.Layer]()
    for op in model.operations:
        positions = [i for i, x in enumerate(_all(op.input)) if x is tensor]
        if not positions:
            continue
        if _is_plain_convolution(op):
            found.append(op)
        elif not _scales_with_channels(op):
            return None
        elif 0 in positions:
            further = _convolutions_that_read(_all(op.output)[0], model)
            if further is None:
                return None
            found += further
        # At other positions it is there for its size alone.
    return found


def _is_plain_convolution(op: Any) -> bool:
    return (
        isinstance(op, _CONVOLUTIONS)
        and op.data_format == "channels_last"
        and getattr(op, "groups", 1) == 1
    )


def _scales_with_channels(op: Any) -> bool:
    if getattr(op, "data_format", "channels_last") != "channels_last":
        return False
    if isinstance(op, layers.ReLU):
        return op.max_value is None and not op.threshold
    if isinstance(op, layers.Activation):
        return op.activation in (
            keras.activations.relu,
            keras.activations.linear,
        )
    return isinstance(op, _SCALE_WITH_CHANNELS)


def _all(tensors: Any) -> list[Tensor]:
    return keras.tree.flatten(tensors)


def _ranges(
    model: keras.Model,
    readers: Mapping[str, list[keras.Layer]],
    batches: Iterable[Any],
) -> dict[str, np.ndarray]:
    """The largest magnitude in each channel of what the convolutions read."""
    inner = keras.Model(
        model.inputs[0],
        {name: [c.input for c in found] for name, found in readers.items()},
    )
    ranges = {name: np.zeros(()) for name in readers}
    for batch in batches:
        for name, tensors in inner.predict_on_batch(batch).items():
            for x in tensors:
                highest = np.abs(x).max(tuple(range(x.ndim - 1)))
                ranges[name] = np.maximum(ranges[name], highest)
    return ranges


def _factors(ranges: np.ndarray) -> np.ndarray:
    """What brings each channel to the largest range; 1 for what is always 0."""
    factors = np.divide(
        ranges.max(), ranges, out=np.ones_like(ranges), where=ranges > 0
    )
    return np.minimum(factors, MAX_FACTOR).astype("float32")
