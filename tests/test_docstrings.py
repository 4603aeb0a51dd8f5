"""Every public class and function documents all its arguments."""

import importlib
import inspect
import re

import keras
import pytest

HOMES = (
    *("layers", "ops", "initializers", "losses", "metrics", "callbacks"),
    *("visualize", "config", "models", "data", "export", "inference"),
    "distribution",
)
SECTIONS = ("Args", "Call arguments", "Attributes")
# Methods that users call on an object, directly or by calling the object.
CALLED = (
    (keras.layers.Layer, "call"),
    (keras.initializers.Initializer, "__call__"),
    (keras.losses.Loss, "__call__"),
    (keras.metrics.Metric, "update_state"),
)


def public_objects():
    for home in HOMES:
        module = importlib.import_module(f"keras_deconv.{home}")
        for name in module.__all__:
            value = getattr(module, name)
            # The constructors of CamVid and Scenes are those of tfds.
            if callable(value) and name not in ("CamVid", "Scenes"):
                yield pytest.param(value, id=f"{home}.{name}")


def arguments(value):
    """The names of the arguments of a function, or of a class and its call."""
    names = list(inspect.signature(value).parameters)
    for kind, method in CALLED:
        if inspect.isclass(value) and issubclass(value, kind):
            parameters = inspect.signature(getattr(value, method)).parameters
            names += [name for name in parameters if name != "self"]
    return names


def documented(value):
    """The names of the arguments that a docstring describes."""
    text = inspect.cleandoc(value.__doc__) + "\n"
    names = set()
    for section in SECTIONS:
        found = re.search(rf"^{section}:\n((?: .*\n|\n)+)", text, re.MULTILINE)
        if found:
            names |= set(re.findall(r"^ {4}\**(\w+): ", found[1], re.MULTILINE))
    return names


def undocumented(value):
    return [name for name in arguments(value) if name not in documented(value)]


@pytest.mark.parametrize("value", [*public_objects()])
def test_every_argument_is_documented(value):
    assert not undocumented(value)


class Incomplete(keras.layers.Layer):
    """A layer.

    Args:
        size: int. Not the last argument, `name`.

    Call arguments:
        inputs: Tensor.
    """

    def __init__(self, size, name=None):
        super().__init__(name=name)
        self.size = size

    def call(self, inputs, like=None):
        return inputs


def test_missing_arguments_are_found():
    assert undocumented(Incomplete) == ["name", "like"]
