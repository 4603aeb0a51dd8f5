"""Inspect the graph of a model: its layers, and the activation it ends in."""

import weakref
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from keras_deconv import _arguments


def check_graph(model: Any, name: str = "model") -> None:
    """Refuse a value that is not a model graph with one input and one output.

    Args:
        model: Any value.
        name: Name of the argument, for the error.

    Raises:
        ValueError: If `model` is not a built Functional or Sequential model.
        ValueError: If it has several inputs or outputs.
    """
    if not is_graph(model):
        raise ValueError(
            f"`{name}` must be a built Functional or Sequential keras.Model, "
            "or a subclass that does not override `call`. Received: "
            f"{name}={model!r}. To build a Sequential model, start it with a "
            "keras.Input."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"`{name}` must have one input and one output. Received: "
            f"{model.name!r} with {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs. Select one of them: "
            "keras.Model(model.inputs[0], model.outputs[-1])."
        )


def check_is_segmentation(model: keras.Model) -> None:
    """Refuse a model that does not return scores for each pixel.

    Raises:
        ValueError: If the input or the output does not have rank 4 with a known
            number of channels.
    """
    takes, gives = model.inputs[0].shape, model.outputs[0].shape
    if not len(takes) == len(gives) == 4 or None in (takes[-1], gives[-1]):
        raise ValueError(
            "`model` must map images (batch, height, width, channels) to "
            "(batch, height, width, num_classes). Received: a model that maps "
            f"{takes} to {gives}"
        )


def is_graph(layer: Any) -> bool:
    """Whether a layer is a Functional model or a built Sequential one.

    A subclass that overrides `call` does not count, since it need not compute
    its graph.
    """
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    kind = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return kind.__module__.partition(".")[0] == "keras"


def layers_of(model: keras.Model) -> Iterator[layers.Layer]:
    """Yield the layers of a model and of the graphs inside it, in order."""
    for layer in model.layers:
        if is_graph(layer):
            yield from layers_of(layer)
        else:
            yield layer


def _last_operation(model: keras.Model) -> Any:
    """Return the operation that computes the scores, also in a nested model.

    Later operations that only move or interpolate scores are skipped, since
    probabilities stay probabilities.
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
    """Whether a model ends in a softmax, so that it returns probabilities.

    A softmax inside a custom layer is not detected.
    """
    return _last_activation(model) == "softmax"


def ends_in_probabilities(model: keras.Model) -> bool:
    """Whether a model ends in a softmax or a sigmoid."""
    return _last_activation(model) in ("softmax", "sigmoid")


def _last_activation(model: keras.Model) -> str:
    """Return the activation that a model ends in, such as "softmax"."""
    last = _last_operation(model)
    # Either the activation of a layer, or an operation of Keras.
    function = getattr(last, "activation", None) or type(last)
    return getattr(function, "__name__", "").lower()


def check_from_logits(model: keras.Model, from_logits: Any) -> None:
    """Refuse models with one class, and `from_logits` if there are no logits.

    Raises:
        ValueError: If `from_logits` is not a bool.
        ValueError: If the model has fewer than two classes.
        ValueError: If `from_logits` is True for a model that ends in a softmax
            or a sigmoid.
    """
    _arguments.boolean(from_logits, "from_logits")
    shape = model.outputs[0].shape
    if len(shape) < 2 or shape[-1] == 1:
        raise ValueError(
            "`model` must return two or more classes along the last axis, "
            "since the softmax of one class is always 1. Received: "
            f"{model.name!r} with outputs of shape {shape}. "
            f"{_arguments.TWO_LOGITS}"
        )
    name = _last_activation(model)
    if from_logits and name == "softmax":
        raise ValueError(
            "`from_logits` must be False for a model that ends in a softmax. "
            f"Received: from_logits=True for {model.name!r}"
        )
    if from_logits and name == "sigmoid":
        raise ValueError(
            "`model` must return logits or end in a softmax. A model that ends "
            "in a sigmoid is not supported, since its classes do not exclude "
            f"each other. Received: {model.name!r}, which ends in a sigmoid"
        )


# Keeps the models, so that each is compiled only once.
_OF_ANY_SIZE: weakref.WeakKeyDictionary[keras.Model, keras.Model] = (
    weakref.WeakKeyDictionary()
)


def of_any_size(model: keras.Model) -> keras.Model:
    """Return a model of the same layers that accepts images of any size.

    Raises:
        ValueError: If a layer accepts only one size, or returns only one.
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
        reason = f"It always returns scores of shape {gives}."
    except Exception as error:  # Layers raise various errors about sizes.
        gives, cause = (), error
        reason = "It has a layer that accepts only one size."
    if len(gives) != 4 or set(gives[:3]) != {None}:
        raise ValueError(
            "`model` must accept images of any size. Received: "
            f"{model.name!r}, which only accepts images of "
            f"{takes[1]}x{takes[2]} pixels. Predict with tiles of this size: "
            f"tile={takes[1:3]}. {reason}"
        ) from cause
    _OF_ANY_SIZE[model] = result
    return result


def _with_any_size(model: keras.Model) -> keras.Model:
    images = model.inputs[0]
    # `clone_model` needs a Functional model.
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
    """Return all batch normalizations of a model, also nested, each once."""
    return [
        layer
        for layer in every_layer(model)
        if isinstance(layer, layers.BatchNormalization)
    ]


def every_layer(model: keras.Model) -> list[Any]:
    """Return a model and all layers in it, also nested ones, each once."""
    found, seen, todo = [], set(), [model]
    while todo:
        layer = todo.pop(0)  # keeps their order
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        found.append(layer)
        # Keras keeps all sublayers in a list among the attributes.
        for value in vars(layer).values():
            values = value if isinstance(value, list) else [value]
            todo += [v for v in values if isinstance(v, keras.Layer)]
    return found
