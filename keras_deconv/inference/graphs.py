"""What the graph of a model tells: layers, ends, and whether it is one."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers


def check_graph(model: Any) -> None:
    """Refuse what is no model, is not built, or has several ends.

    Raises:
        ValueError: As described.
    """
    if not is_graph(model) or not (
        len(model.inputs) == len(model.outputs) == 1
    ):
        raise ValueError(
            "`model` must be a built Functional or Sequential model with one "
            f"input and one output. Received: {model!r}"
        )


def is_graph(layer: Any) -> bool:
    """Whether it is a Functional model, or a Sequential one that is built."""
    return isinstance(layer, keras.Model) and bool(
        getattr(layer, "inputs", None)
    )


def layers_of(model: keras.Model) -> Iterator[layers.Layer]:
    """Layers of a model and of the graphs inside it, in order."""
    for layer in model.layers:
        if is_graph(layer):
            yield from layers_of(layer)
        else:
            yield layer


def _last_operation(model: keras.Model) -> Any:
    """The operation that gives the output, be it in a model inside."""
    last = keras.Model(model.inputs, model.outputs).operations[-1]
    if is_graph(last) and len(last.outputs) == 1:
        return _last_operation(last)
    return last


def gives_probabilities(model: keras.Model) -> bool:
    """Whether a model ends in a softmax, so that it gives no logits."""
    return last_activation(model) == "softmax"


def last_activation(model: keras.Model) -> str:
    """The name of what a model ends in, such as "softmax" or "linear"."""
    last = _last_operation(model)
    # An operation of Keras, or the activation of a layer.
    function = getattr(last, "activation", None) or type(last)
    return getattr(function, "__name__", "").lower()
