"""Encoder stages of a finished network, with their decoder stages."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from keras_deconv import _graphs
from keras_deconv.models import _mirrored, _reductions

# Names of decoder layers for readers.
WORDS = {
    "MaxUnpool2D": "max unpooling",
    "BedOfNailsUnpool2D": "bed of nails",
    "NearestUnpool2D": "nearest unpooling",
    "Conv2DTranspose": "transposed convolution",
}
# The size for images of unknown size.
_SIZE = 256


class Pair(NamedTuple):
    """A stage of the encoder, and the stage of the decoder that mirrors it.

    Shapes are `(height, width, channels)`.
    """

    number: int  # 1 has the size of the image
    reduction: str  # such as "block1_pool (max pooling 2x2/2)"
    unpooling: str  # such as "max unpooling"
    before: tuple[int, ...]  # input of the reduction
    after: tuple[int, ...]  # output of the reduction
    restored: tuple[int, ...]  # output of the decoder stage


def encoder_of(
    model: keras.Model, image_size: Sequence[int] | None = None
) -> keras.Model:
    """Return the part of a network between image and decoder."""
    return _record(model, image_size)[0]


def pairs(
    model: keras.Model, image_size: Sequence[int] | None = None
) -> list[Pair]:
    """Return the stages, starting at the size of the image.

    Args:
        model: Network whose decoder layers are named `decoder1_unpool` and so
            on.
        image_size: Height and width. None takes those of the model, or 256 if
            they are unknown.

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
            f"{len(stages)} reductions and unpooling layers of the stages "
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
    """Return the encoder, and output and unpooling of each decoder stage."""
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
            "that mirror its encoder, such as EncoderDecoder or SegNet. Its "
            "layers must be named decoder1_unpool and so on. Received: "
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
    """Return the decoder stage in the name of a layer, or 0."""
    match = re.match(r"decoder(\d+)_", name)
    return int(match[1]) if match else 0
