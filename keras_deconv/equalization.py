"""Channels of equal range, for arithmetic that has one range per tensor.

Eight bits quantise a tensor in 255 steps of its largest value. A channel whose
values stay below half of that has half of the steps, and twice as many ties in
its windows. Batch normalisation can bring each channel to the full range, and
the convolutions that read it take the factor back: what is in between treats
each channel by itself and scales with it, and the index of a maximum does not
change but for rounding.

Reference: Nagel, van Baalen, Blankevoort and Welling, 2019, "Data-free
quantization through weight equalization and bias correction", section 4.1,
https://arxiv.org/abs/1906.04721. There ranges of weights are made equal; here
those of activations, which decide the ties.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_deconv.layers import (
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
)

Tensor = Any

MAX_FACTOR = 16.0
"""16 is four bits: a channel that is lower still is next to nothing."""

# Types and no kinds of them: a subclass may compute something else.
_TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED)
_MAX_UNPOOLINGS = (MaxUnpool1D, MaxUnpool2D, MaxUnpool3D)
# Layers that treat each channel by itself, and give twice as much for twice as
# much. Their first input and their first output hold the values.
_SCALE_WITH_CHANNELS = (
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Dropout,
)


class _Chain(NamedTuple):
    """A normalisation that may be changed, and what makes up for it."""

    norm: layers.BatchNormalization
    quantized: Tensor  # what has a range: after the ReLU, if there is one
    convolutions: list[layers.Layer]


def equalize_channels(
    model: keras.Model, batches: Iterable[Any]
) -> keras.Model:
    """The same function with other weights, whose channels have equal ranges.

    Only batch normalisations that nothing but convolutions read are changed,
    directly or through ReLU, max pooling, max unpooling and dropout. Those of
    models within the model stay, and all of a model that calls a layer twice.

    Args:
        model: Functional model with one input and one output.
        batches: Batches of images, from which the ranges are taken.

    Returns:
        A model that shares all other layers, or the model itself where there is
        nothing to change.
    """
    chains = _chains(model)
    if not chains:
        return model
    ranges = _ranges(model, chains, batches)
    changed = {
        layer.name
        for chain in chains
        for layer in (chain.norm, *chain.convolutions)
    }

    def copied(layer: Any) -> Any:
        if layer.name not in changed:
            return layer
        return type(layer).from_config(layer.get_config())

    equalized = keras.models.clone_model(model, clone_function=copied)
    for name in changed:
        weights = model.get_layer(name).get_weights()
        equalized.get_layer(name).set_weights(weights)
    for chain, highest in zip(chains, ranges, strict=True):
        factors = _factors(highest)
        norm = equalized.get_layer(chain.norm.name)
        norm.gamma.assign(norm.gamma * factors)
        if norm.center:
            norm.beta.assign(norm.beta * factors)
        for convolution in chain.convolutions:
            kernel = equalized.get_layer(convolution.name).kernel
            # (..., in, out), and (..., out, in) of transposed ones.
            axes = (-1,) if type(convolution) in _TRANSPOSED else (-1, 1)
            kernel.assign(kernel / factors.reshape(axes))
    return equalized


def _chains(model: keras.Model) -> list[_Chain]:
    operations = model.operations
    made = {id(tensor) for op in operations for tensor in _flat(op.output)}
    taken = [t for op in operations for t in _flat(op.input)] + model.outputs
    # Only the first call of a layer is told. Where there are more, nobody
    # knows who else reads.
    if not made.issuperset(map(id, taken)):
        return []
    chains = []
    for op in operations:
        if (
            type(op) is layers.BatchNormalization
            and op.scale
            and op.axis in (-1, len(op.output.shape) - 1)
        ):
            convolutions = _convolutions_that_read(op.output, model)
            if convolutions:
                quantized = _after_relu(op.output, model)
                chains.append(_Chain(op, quantized, convolutions))
    return chains


def _convolutions_that_read(
    tensor: Tensor, model: keras.Model
) -> list[layers.Layer] | None:
    """Nothing but these read a tensor of a model; None where others do."""
    if any(tensor is output for output in model.outputs):
        return None
    found = list[layers.Layer]()
    for op, positions in _readers(tensor, model):
        if _is_plain_convolution(op):
            found.append(op)
        elif not _scales_with_channels(op):
            return None
        elif 0 in positions:
            further = _convolutions_that_read(_flat(op.output)[0], model)
            if further is None:
                return None
            found += further
        # At another position it is there for its size alone.
    return found


def _readers(tensor: Tensor, model: keras.Model) -> list[tuple[Any, list[int]]]:
    """Operations that take a tensor, and which of their inputs it is."""
    readers = []
    for op in model.operations:
        positions = [i for i, x in enumerate(_flat(op.input)) if x is tensor]
        if positions:
            readers.append((op, positions))
    return readers


def _is_plain_convolution(op: Any) -> bool:
    return (
        type(op) in _CONVOLUTIONS
        and op.data_format == "channels_last"
        and getattr(op, "groups", 1) == 1
        # With low-rank adaptation it is a sum.
        and isinstance(op.kernel, keras.Variable)
    )


def _scales_with_channels(op: Any) -> bool:
    if _is_relu(op):
        return True
    if getattr(op, "data_format", "channels_last") != "channels_last":
        return False
    if type(op) in _MAX_UNPOOLINGS:
        # Given by name the index comes first.
        dtype = keras.backend.standardize_dtype(op.input[0].dtype)
        return "float" in dtype
    return type(op) in _SCALE_WITH_CHANNELS


def _is_relu(op: Any) -> bool:
    if type(op) is layers.ReLU:
        # A slope would leave a range in what nobody reads.
        return op.max_value is None and not (op.threshold or op.negative_slope)
    return (
        type(op) is layers.Activation
        and op.activation is keras.activations.relu
    )


def _after_relu(tensor: Tensor, model: keras.Model) -> Tensor:
    """What is quantised: TFLite makes a ReLU one with what is before it."""
    readers = _readers(tensor, model)
    if len(readers) == 1 and _is_relu(readers[0][0]):
        return readers[0][0].output
    return tensor


def _flat(tensors: Any) -> list[Tensor]:
    return keras.tree.flatten(tensors)


def _ranges(
    model: keras.Model, chains: list[_Chain], batches: Iterable[Any]
) -> list[np.ndarray]:
    """The largest magnitude in each channel of what is quantised."""
    highest = [
        ops.max(ops.abs(x), tuple(range(1, len(x.shape) - 1)))
        for x in (chain.quantized for chain in chains)
    ]
    inner = keras.Model(model.inputs[0], highest)
    # Images may be of ever new sizes.
    inner.jit_compile = False
    ranges = [np.zeros(x.shape[-1], "float32") for x in highest]
    for batch in batches:
        # Keras gives a list of one as its one.
        found = _flat(inner.predict_on_batch(batch))
        for total, one in zip(ranges, found, strict=True):
            np.maximum(total, np.float32(one).max(0), out=total)
    return ranges


def _factors(highest: np.ndarray) -> np.ndarray:
    """What brings each channel to the largest range, up to `MAX_FACTOR`.

    1 for what is always 0.
    """
    factors = np.divide(
        highest.max(), highest, out=np.ones_like(highest), where=highest > 0
    )
    return np.minimum(factors, MAX_FACTOR)
