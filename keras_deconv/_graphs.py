"""What the graph of a model tells: layers, ends, and whether it is one."""

import weakref
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from keras_deconv import _arguments


def check_graph(model: Any, name: str = "model") -> None:
    """Refuse what is not a graph, or has several ends.

    Args:
        model: What should be a model.
        name: The argument that it was passed as.

    Raises:
        ValueError: As described.
    """
    if not is_graph(model):
        raise ValueError(
            f"`{name}` must be a built Functional or Sequential keras.Model, "
            "or a subclass of them without a `call` of its own. Received: "
            f"{name}={model!r}. A Sequential model is built by an Input as its "
            "first layer."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"`{name}` must have one input and one output. Received: "
            f"{model.name!r} with {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs. Make a model of one of them: "
            "keras.Model(model.inputs[0], model.outputs[-1])."
        )


def check_is_segmentation(model: keras.Model) -> None:
    """Refuse a model that does not give scores for each pixel.

    Raises:
        ValueError: As described.
    """
    takes, gives = model.inputs[0].shape, model.outputs[0].shape
    if not len(takes) == len(gives) == 4 or None in (takes[-1], gives[-1]):
        raise ValueError(
            "`model` must map images (batch, height, width, channels) to "
            "(batch, height, width, num_classes). Received: a model from "
            f"{takes} to {gives}"
        )


def is_graph(layer: Any) -> bool:
    """Whether it is a Functional model, or a Sequential one that is built.

    A subclass with a `call` of its own does something else than its graph.
    """
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    kind = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return kind.__module__.partition(".")[0] == "keras"


def layers_of(model: keras.Model) -> Iterator[layers.Layer]:
    """Layers of a model and of the graphs inside it, in order."""
    for layer in model.layers:
        if is_graph(layer):
            yield from layers_of(layer)
        else:
            yield layer


def _last_operation(model: keras.Model) -> Any:
    """The operation that makes the scores, be it in a model inside.

    What only moves or interpolates them afterwards is passed over: of
    probabilities it makes probabilities.
    """
    operations = keras.Model(model.inputs, model.outputs).operations
    last = next(op for op in reversed(operations) if not _moves_scores(op))
    if is_graph(last) and len(last.outputs) == 1:
        return _last_operation(last)
    return last


def _moves_scores(operation: Any) -> bool:
    if isinstance(operation, layers.Activation):
        return operation.activation is keras.activations.linear
    return isinstance(
        operation,
        layers.Cropping2D
        | layers.Identity
        | layers.Reshape
        | layers.Resizing
        | layers.UpSampling2D,
    )


def gives_probabilities(model: keras.Model) -> bool:
    """Whether a model ends in a softmax, so that it gives no logits.

    A softmax inside a layer of another kind is not seen.
    """
    return _last_activation(model) == "softmax"


def ends_in_probabilities(model: keras.Model) -> bool:
    """Whether a model ends in a softmax or a sigmoid."""
    return _last_activation(model) in ("softmax", "sigmoid")


def _last_activation(model: keras.Model) -> str:
    """The name of what a model ends in, such as "softmax" or "linear"."""
    last = _last_operation(model)
    # An operation of Keras, or the activation of a layer.
    function = getattr(last, "activation", None) or type(last)
    return getattr(function, "__name__", "").lower()


def check_from_logits(model: keras.Model, from_logits: Any) -> None:
    """Refuse one class, and to take the softmax of a softmax or a sigmoid.

    Raises:
        ValueError: As described.
    """
    _arguments.boolean(from_logits, "from_logits")
    shape = model.outputs[0].shape
    if len(shape) < 2 or shape[-1] == 1:
        raise ValueError(
            "`model` must give two classes or more along the last axis: the "
            f"softmax of one is 1. Received: {model.name!r} with outputs of "
            f"shape {shape}. {_arguments.TWO_LOGITS}"
        )
    name = _last_activation(model)
    if from_logits and name in ("softmax", "sigmoid"):
        raise ValueError(
            "`from_logits` must be False for a model that ends in a softmax; "
            "one that ends in a sigmoid, whose classes do not exclude each "
            "other, is not taken. Received: from_logits=True, and "
            f"{model.name!r} ends in a {name}"
        )


# Each is compiled once.
_OF_ANY_SIZE: weakref.WeakKeyDictionary[keras.Model, keras.Model] = (
    weakref.WeakKeyDictionary()
)


def of_any_size(model: keras.Model) -> keras.Model:
    """The same layers, with the same weights, for images of any size.

    Raises:
        ValueError: If a layer takes one size only, or scores are of one size.
    """
    takes = tuple(model.inputs[0].shape)
    if set(takes[1:3]) == {None}:
        return model
    if model in _OF_ANY_SIZE:
        return _OF_ANY_SIZE[model]
    cause: Exception | None = None
    try:
        result = _with_any_size(model)
        gives = tuple(result.outputs[0].shape)
        reason = f"It always gives scores of shape {gives}."
    except Exception as error:  # Whatever the layers say about sizes.
        gives, cause = (), error
        reason = "It has a layer that takes one size only."
    if len(gives) != 4 or set(gives[:3]) != {None}:
        raise ValueError(
            "`model` must accept images of any size. Received: "
            f"{model.name!r}, which takes images of {takes[1]}x{takes[2]} "
            f"pixels only. Predict with tiles of this size: tile={takes[1:3]}. "
            f"{reason}"
        ) from cause
    _OF_ANY_SIZE[model] = result
    return result


def _with_any_size(model: keras.Model) -> keras.Model:
    images = model.inputs[0]
    # A Sequential model as a Functional one.
    return keras.models.clone_model(
        keras.Model(images, model.outputs[0], name=model.name),
        input_tensors=keras.Input(
            (None, None, images.shape[-1]), dtype=images.dtype
        ),
        clone_function=lambda layer: (
            _with_any_size(layer) if is_graph(layer) else layer
        ),
    )


def batch_norms(model: keras.Model) -> list[Any]:
    """Batch normalizations of a model and of all that it holds, each once."""
    return [
        layer
        for layer in every_layer(model)
        if isinstance(layer, layers.BatchNormalization)
    ]


def every_layer(model: keras.Model) -> list[Any]:
    """A model and all layers that it holds, in whatever layer, each once."""
    found, seen, todo = [], set(), [model]
    while todo:
        layer = todo.pop(0)  # so that they come in order
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        found.append(layer)
        # Keras keeps the layers in a layer, however they are nested, in a list
        # among its attributes.
        for value in vars(layer).values():
            values = value if isinstance(value, list) else [value]
            todo += [v for v in values if isinstance(v, keras.Layer)]
    return found
