"""Equalize the ranges of channels for arithmetic with one range per tensor.

Eight bits divide the range of a tensor into 255 steps. A channel whose values
stay below half of the range uses only half of the steps, so its windows have
about twice as many ties. A batch normalization can multiply each channel to the
full range if the convolutions that read it divide by the same factor. The
layers between them process each channel separately and are linear for positive
factors, so the index of a maximum does not change, except by rounding.

Reference: Nagel, van Baalen, Blankevoort and Welling, 2019, "Data-free
quantization through weight equalization and bias correction", section 4.1,
https://arxiv.org/abs/1906.04721. The paper equalizes the ranges of weights;
this module equalizes those of activations, which decide the ties.
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
"""Values of a channel are clipped only above four times its measured range."""

# Exact types are compared, since subclasses may compute something else.
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
# Layers that process each channel separately, and double the output if the
# input is doubled. Their first input and their first output hold the values.
_SCALE_WITH_CHANNELS = (
    *_ARGMAX_POOLINGS,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Dropout,
)


class _Chain(NamedTuple):
    """A normalization to change, and the convolutions that compensate."""

    norm: layers.BatchNormalization
    quantized: Tensor  # the tensor that gets a range, after the ReLU if any
    convolutions: list[layers.Layer]


@contextlib.contextmanager
def equal_channels(
    model: keras.Model, batches: Iterable[Any]
) -> Iterator[None]:
    """Equalize channels during the block; the model computes the same.

    This changes batch normalizations before `MaxPoolWithArgmax`, provided that
    only convolutions read them. ReLU, max pooling, max unpooling and dropout
    may be in between. A model that calls a layer twice or contains another
    model stays as it is.

    Args:
        model: Functional model with one input and one output. Its weights are
            restored when the block ends, also after an error.
        batches: Batches of images to measure the ranges with.
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
    """Scale the output of a normalization, and compensate in its readers."""
    norm = chain.norm
    norm.gamma.assign(norm.gamma * factors)
    if norm.center:
        norm.beta.assign(norm.beta * factors)
    for convolution in chain.convolutions:
        kernel = convolution.kernel
        # Kernels are (..., in, out), those of transposed ones (..., out, in).
        axes = (-1,) if type(convolution) in _TRANSPOSED else (-1, 1)
        kernel.assign(kernel / factors.reshape(axes))


def _chains(model: keras.Model) -> list[_Chain]:
    operations = model.operations
    made = {id(tensor) for op in operations for tensor in _flat(op.output)}
    taken = [t for op in operations for t in _flat(op.input)] + model.outputs
    # Keras tells only the first call of a layer. If a layer is called again,
    # its other readers are unknown.
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
            # Only pooling with an index has ties that matter.
            if any(type(other) in _ARGMAX_POOLINGS for other in below):
                quantized = _after_relu(op.output, model)
                convolutions = [x for x in below if type(x) in _CONVOLUTIONS]
                chains.append(_Chain(op, quantized, convolutions))
    return chains


def _down_to_convolutions(
    tensor: Tensor, model: keras.Model
) -> list[layers.Layer] | None:
    """Return the layers that read a tensor, down to the convolutions.

    None if another kind of layer reads it, since it would see the factors.
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
        # At another position only the size of the tensor is used.
    return found


def _readers(tensor: Tensor, model: keras.Model) -> list[tuple[Any, list[int]]]:
    """Return the operations that read a tensor, and at which positions."""
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
        # With low-rank adaptation the kernel is a sum.
        and isinstance(op.kernel, keras.Variable)
    )


def _scales_with_channels(op: Any) -> bool:
    if _is_relu(op):
        return True
    if getattr(op, "data_format", "channels_last") != "channels_last":
        return False
    if type(op) in _MAX_UNPOOLINGS:
        # If the inputs were passed by name, the index comes first.
        dtype = keras.backend.standardize_dtype(op.input[0].dtype)
        return "float" in dtype
    return type(op) in _SCALE_WITH_CHANNELS


def _is_relu(op: Any) -> bool:
    if type(op) is layers.ReLU:
        # With a slope, negative values would have a range too.
        return op.max_value is None and not (op.threshold or op.negative_slope)
    return (
        type(op) is layers.Activation
        and op.activation is keras.activations.relu
    )


def _after_relu(tensor: Tensor, model: keras.Model) -> Tensor:
    """Return the tensor that is quantized: TFLite fuses a following ReLU."""
    readers = _readers(tensor, model)
    if len(readers) == 1 and _is_relu(readers[0][0]):
        return readers[0][0].output
    return tensor


def _flat(tensors: Any) -> list[Tensor]:
    return keras.tree.flatten(tensors)


def _ranges(
    model: keras.Model, chains: list[_Chain], batches: Iterable[Any]
) -> list[np.ndarray]:
    """Return the largest magnitude in each channel of the quantized tensors."""
    quantized = [chain.quantized for chain in chains]
    ranges = [np.zeros(x.shape[-1], "float32") for x in quantized]
    if not chains:
        return ranges
    inner = keras.Model(model.inputs[0], quantized)
    # Images may have many sizes, and each would be compiled.
    inner.jit_compile = False
    for batch in batches:
        # For a list of one output, Keras returns the output itself.
        for total, x in zip(
            ranges, _flat(inner.predict_on_batch(batch)), strict=True
        ):
            np.maximum(
                total, np.abs(x).max(tuple(range(x.ndim - 1))), out=total
            )
    return ranges


def _factors(highest: np.ndarray) -> np.ndarray:
    """Return the factors to the largest range, at most `MAX_FACTOR`.

    The factor is 1 for channels that are always 0, and for all channels if a
    range is not finite.
    """
    factors = np.ones_like(highest)
    if np.isfinite(highest).all():
        np.divide(highest.max(), highest, out=factors, where=highest > 0)
    return np.minimum(factors, MAX_FACTOR)
