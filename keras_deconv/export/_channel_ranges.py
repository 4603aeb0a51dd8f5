"""Channels of equal range, for arithmetic that has one range per tensor.

Eight bits quantize a tensor in 255 steps of its largest value. A channel whose
values stay below half of that has half of the steps, and twice as many ties in
its windows. Batch normalization can bring each channel to the full range, and
the convolutions that read it take the factor back: what is in between treats
each channel by itself and scales with it, and the index of a maximum does not
change but for rounding.

Reference: Nagel, van Baalen, Blankevoort and Welling, 2019, "Data-free
quantization through weight equalization and bias correction", section 4.1,
https://arxiv.org/abs/1906.04721. There ranges of weights are made equal; here
those of activations, which decide the ties.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from keras_deconv.layers import (
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
)

Tensor = Any

MAX_FACTOR = 4.0
"""A channel that was low is cut off later only above four times its range."""

# Types and no kinds of them: a subclass may compute something else.
_TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED)
_ARGMAX_POOLINGS = (
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
)
_MAX_UNPOOLINGS = (MaxUnpool1D, MaxUnpool2D, MaxUnpool3D)
# Layers that treat each channel by itself, and give twice as much for twice as
# much. Their first input and their first output hold the values.
_SCALE_WITH_CHANNELS = (
    *_ARGMAX_POOLINGS,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Dropout,
)


class _Chain(NamedTuple):
    """A normalization that may be changed, and what makes up for it."""

    norm: layers.BatchNormalization
    quantized: Tensor  # what has a range: after the ReLU, if there is one
    convolutions: list[layers.Layer]


@contextlib.contextmanager
def equal_channels(
    model: keras.Model, batches: Iterable[Any]
) -> Iterator[None]:
    """Gives a model other weights for a while, with which it computes the same.

    Only batch normalizations before `MaxPoolWithArgmax` are changed, and only
    where nothing but convolutions reads them, with ReLU, max pooling, max
    unpooling and dropout between; and none at all in a model that calls a layer
    twice or holds another model.

    Args:
        model: Functional model with one input and one output. It has its own
            weights again afterwards, whatever happens.
        batches: Batches of images, from which the ranges are taken.
    """
    chains = _chains(model)
    changed = [
        variable
        for chain in chains
        for layer in (chain.norm, *chain.convolutions)
        for variable in layer.variables
    ]
    before = [np.array(variable) for variable in changed]
    try:
        for chain, highest in zip(
            chains, _ranges(model, chains, batches), strict=True
        ):
            _scale(chain, _factors(highest))
        yield
    finally:
        for variable, value in zip(changed, before, strict=True):
            variable.assign(value)


def _scale(chain: _Chain, factors: np.ndarray) -> None:
    """Scales what a normalization gives, and takes it back where it is read."""
    norm = chain.norm
    norm.gamma.assign(norm.gamma * factors)
    if norm.center:
        norm.beta.assign(norm.beta * factors)
    for convolution in chain.convolutions:
        kernel = convolution.kernel
        # (..., in, out), and (..., out, in) of transposed ones.
        axes = (-1,) if type(convolution) in _TRANSPOSED else (-1, 1)
        kernel.assign(kernel / factors.reshape(axes))


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
            below = _down_to_convolutions(op.output, model) or []
            # Elsewhere there are no ties, and nothing is won.
            if any(type(other) in _ARGMAX_POOLINGS for other in below):
                quantized = _after_relu(op.output, model)
                convolutions = [x for x in below if type(x) in _CONVOLUTIONS]
                chains.append(_Chain(op, quantized, convolutions))
    return chains


def _down_to_convolutions(
    tensor: Tensor, model: keras.Model
) -> list[layers.Layer] | None:
    """What reads a tensor of a model, down to convolutions.

    None where something else reads it, which would see the factors.
    """
    if any(tensor is output for output in model.outputs):
        return None
    found = list[layers.Layer]()
    for op, positions in _readers(tensor, model):
        if _is_plain_convolution(op):
            found.append(op)
        elif not _scales_with_channels(op):
            return None
        elif 0 in positions:
            further = _down_to_convolutions(_flat(op.output)[0], model)
            if further is None:
                return None
            found += [op, *further]
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
    """What is quantized: TFLite makes a ReLU one with what is before it."""
    readers = _readers(tensor, model)
    if len(readers) == 1 and _is_relu(readers[0][0]):
        return readers[0][0].output
    return tensor


def _flat(tensors: Any) -> list[Tensor]:
    return keras.tree.flatten(tensors)


def _ranges(
    model: keras.Model, chains: list[_Chain], batches: Iterable[Any]
) -> list[np.ndarray]:
    """The largest magnitude in each channel of what is quantized."""
    quantized = [chain.quantized for chain in chains]
    ranges = [np.zeros(x.shape[-1], "float32") for x in quantized]
    if not chains:
        return ranges
    inner = keras.Model(model.inputs[0], quantized)
    # Images may be of ever new sizes.
    inner.jit_compile = False
    for batch in batches:
        # Keras gives a list of one as its one.
        for total, x in zip(
            ranges, _flat(inner.predict_on_batch(batch)), strict=True
        ):
            np.maximum(
                total, np.abs(x).max(tuple(range(x.ndim - 1))), out=total
            )
    return ranges


def _factors(highest: np.ndarray) -> np.ndarray:
    """What brings each channel to the largest range, up to `MAX_FACTOR`.

    1 for what is always 0, and for all if a range is no number.
    """
    factors = np.ones_like(highest)
    if np.isfinite(highest).all():
        np.divide(highest.max(), highest, out=factors, where=highest > 0)
    return np.minimum(factors, MAX_FACTOR)
