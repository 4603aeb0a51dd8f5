"""Encoder stages of a finished network, and what undoes each of them."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from keras_deconv import _graphs
from keras_deconv.models import _mirrored, _reductions

# What undoes a reduction, in words.
WORDS = {
    "MaxUnpool2D": "max unpooling",
    "BedOfNailsUnpool2D": "bed of nails",
    "NearestUnpool2D": "nearest unpooling",
    "Conv2DTranspose": "transposed convolution",
}
# Stands in for a size that is not known.
_SIZE = 256


class Pair(NamedTuple):
    """One stage of the encoder, and the stage of the decoder that mirrors it.

    Shapes are `(height, width, channels)`.
    """

    number: int  # 1 has the size of the image
    reduction: str  # such as "block1_pool (max pooling 2x2/2)"
    unpooling: str  # such as "max unpooling"
    before: tuple[int, ...]  # what is reduced
    after: tuple[int, ...]  # what is left
    restored: tuple[int, ...]  # what the decoder stage ends with


def encoder_of(
    model: keras.Model, image_size: Sequence[int] | None = None
) -> keras.Model:
    """The part of a network between image and decoder, with its layers."""
    return _record(model, image_size)[0]


def pairs(
    model: keras.Model, image_size: Sequence[int] | None = None
) -> list[Pair]:
    """Stages from the size of the image on.

    Args:
        model: Network whose decoder layers are called `decoder1_unpool` and so
            on.
        image_size: Height and width. None takes those of the model, and 256
            where they are not known.

    Raises:
        ValueError: If `model` is not such a network.
    """
    encoder, restored, unpoolings = _record(model, image_size)
    image = encoder.inputs[0]
    _, changes = _reductions.read(encoder, keras.Input(image.shape[1:]))
    stages = _mirrored.stages(changes)
    if {stage.number for stage in stages} != set(unpoolings):
        raise ValueError(
            "`model` must have a layer decoder1_unpool, decoder2_unpool, ... "
            "for each reduction of its encoder. Received: a model with "
            f"{len(stages)} reductions and the unpoolings of stages "
            f"{sorted(unpoolings)}"
        )
    return [
        Pair(
            stage.number,
            str(stage.reduction),
            unpoolings[stage.number],
            _shape(stage.features),
            _shape(stage.reduction.result),
            _shape(restored[stage.number]),
        )
        for stage in stages
    ]


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _record(
    model: keras.Model, image_size: Sequence[int] | None
) -> tuple[keras.Model, dict[int, Any], dict[int, str]]:
    """The encoder; of each decoder stage its end, and what unpools in it."""
    names = (
        [layer.name for layer in model.layers]
        if _graphs.is_graph(model)
        else []
    )
    numbers = [_stage_of(name) for name in names]
    deepest = max(numbers, default=0)
    if deepest == 0 or len(model.inputs) != 1:
        raise ValueError(
            "`model` must be a network of this package with decoder stages "
            "that mirror its encoder, such as EncoderDecoder or SegNet: its "
            "layers are called decoder1_unpool and so on. Received: "
            f"{model!r}"
        )
    given = model.inputs[0]
    size = [
        n or _SIZE
        for n in (given.shape[1:3] if image_size is None else image_size)
    ]
    image = keras.Input((*size, given.shape[-1]), dtype=given.dtype)
    ends: list[Any] = []
    restored: dict[int, Any] = {}
    unpoolings: dict[int, str] = {}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = layer(*args, **kwargs)
        number = _stage_of(layer.name)
        if number and "_skip" not in layer.name:
            if number == deepest and not ends:
                ends.append(keras.tree.flatten((args, kwargs))[0])
            restored[number] = result
            if layer.name == f"decoder{number}_unpool":
                word = type(layer).__name__
                unpoolings[number] = WORDS.get(word, word)
        return result

    _reductions.rebuilt(model, image, call)
    return keras.Model(image, ends[0]), restored, unpoolings


def _stage_of(name: str) -> int:
    """The number of a decoder stage, from the name of a layer; 0 of others."""
    match = re.match(r"decoder(\d+)_", name)
    return int(match[1]) if match else 0
