"""Networks that the user provides as a function or as a file."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_deconv import _arguments, _graphs, _runs
from keras_deconv_cli import modules, runs

__all__ = ["build", "check_runs", "check_saves", "image_size", "initialize"]


def build(
    name: str, input_shape: tuple[int | None, ...], num_classes: int
) -> keras.Model:
    """Return the model that `--model` names, with one input and one output.

    Args:
        name: `module:function`, or the path of a file.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, void not included.

    Raises:
        ValueError: If the model does not exist.
        ValueError: If the shapes of the model do not match the data.
        ValueError: If the model ends in a sigmoid.
    """
    if ":" in name and not name.endswith(".keras"):
        model = _call(name, input_shape, num_classes)
    else:
        model, _ = runs.load_model(name, "--model")
    if not _graphs.is_graph(model) or not (
        len(model.inputs) == len(model.outputs) == 1
    ):
        raise ValueError(
            "--model must be a built Functional or Sequential keras.Model "
            "with one input and one output. Received: "
            f"{name}, which returns {_described(model)}. To wrap another "
            "network, use inputs = keras.Input(input_shape) and "
            "keras.Model(inputs, network(inputs))."
        )
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    _check_shapes(name, model, input_shape, num_classes)
    try:
        _graphs.check_from_logits(
            model, from_logits=not _graphs.gives_probabilities(model)
        )
    except ValueError as error:
        raise ValueError(
            "--model must return logits, or end in a softmax. Received: "
            f"{name}, which ends in a sigmoid and can predict several classes "
            "for a pixel. Remove the activation of its last layer."
        ) from error
    return model


def _call(
    name: str, input_shape: tuple[int | None, ...], num_classes: int
) -> Any:
    module_name, _, function_name = name.rpartition(":")
    module = modules.load(module_name, "--model")
    function = getattr(module, function_name, None)
    if not callable(function):
        # Built-in modules and folders do not have a file.
        file = getattr(module, "__file__", None)
        where = file or f"{module_name}, which is not a file"
        found = f"{function_name} there is {function!r:.40}"
        if not hasattr(module, function_name):
            found = f"{function_name} does not exist there"
        raise ValueError(
            "--model must be package.module:function. Received: "
            f"{name}, which leads to {where}, but {found}."
        )
    try:
        return function(input_shape=input_shape, num_classes=num_classes)
    # The code of the user may raise any error, and a script may exit.
    except (Exception, SystemExit) as error:
        with_crop = ""
        if None in input_shape:
            with_crop = (
                ". With --crop, height and width are None, since the network "
                "must support images of any size."
            )
        raise ValueError(
            "--model must be a function that returns a model and has the "
            f"arguments input_shape, here {input_shape}, and num_classes, here "
            f"{num_classes}. Received: {name}, which raises "
            f"{type(error).__name__}: {error}{with_crop}"
        ) from error


def _described(model: Any) -> str:
    if not isinstance(model, keras.Model):
        return f"an object of type {type(model).__name__}"
    if not _graphs.is_graph(model):
        return f"a {type(model).__name__} without a graph"
    return f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"


def _check_shapes(
    name: str,
    model: keras.Model,
    input_shape: tuple[int | None, ...],
    num_classes: int,
) -> None:
    takes = tuple(model.inputs[0].shape[1:])
    if None in input_shape and len(takes) == 3 and None not in takes[:2]:
        raise ValueError(
            "--crop needs a network that supports images of any size, since "
            "it is trained on crops and validated on whole images. Received: "
            f"--model {name} with input shape {takes}. Leave out --crop, or "
            "build the network for (None, None, channels)."
        )
    if len(takes) != 3 or any(
        size not in (None, given)
        for size, given in zip(takes, input_shape, strict=True)
    ):
        raise ValueError(
            "--model must have the input shape (height, width, channels) of "
            f"the images, {input_shape}. Received: {name} with input shape "
            f"{takes}. Change the images with --image-size and, for folders, "
            "with --channels."
        )
    gives = tuple(model.compute_output_shape((None, *input_shape)))[1:]
    if gives[-1:] == (1,):
        raise ValueError(
            f"--model must return one score for each of {num_classes} classes. "
            f"Received: {name}, which returns 1. {_arguments.TWO_LOGITS} In "
            "Python, keras.losses.BinaryCrossentropy and "
            "keras.metrics.BinaryIoU support one logit."
        )
    if len(gives) != 3 or gives[-1] != num_classes:
        raise ValueError(
            "--model must have the output shape (height, width, num_classes) "
            f"for {num_classes} classes. Received: {name} with output shape "
            f"{gives}. The classes are those of the data, without void. A "
            "function gets their number as num_classes. To start from a model "
            "with other classes, use --init-from."
        )
    if any(
        None not in (size, given) and size != given
        for size, given in zip(gives[:2], input_shape[:2], strict=True)
    ):
        raise ValueError(_wrong_size(name, input_shape[:2], gives[:2]))


def _wrong_size(
    name: str, size: Any, found: Any, option: str = "--image-size"
) -> str:
    return (
        "--model must return scores of the size of the images, "
        f"{tuple(size)}. Received: {name}, which returns {tuple(found)}. Add "
        "an upsampling layer at the end, such as keras.layers.UpSampling2D or "
        f"keras.layers.Resizing, or use another {option} that is a multiple of "
        "the strides."
    )


def image_size(name: str) -> tuple[int, int] | None:
    """Return the height and width that a model file requires, or None."""
    model, _ = runs.load_model(name, "--model")
    shape: tuple[Any, ...] = ()
    if _graphs.is_graph(model):
        shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or None in shape[1:3]:
        return None
    return int(shape[1]), int(shape[2])


def check_runs(
    name: str,
    model: keras.Model,
    image_size: tuple[int, int],
    option: str = "--image-size",
) -> None:
    """Raise an error, before the training, if a model fails on an image.

    Args:
        name: The value of `--model`.
        model: The model.
        image_size: Height and width of the images.
        option: The option that sets this size.

    Raises:
        ValueError: If the model raises an error.
        ValueError: If the scores of the model have another size than the image.
        ValueError: If the scores are not finite.
        ValueError: If the scores are probabilities although the model does not
            end in a softmax.
    """
    shape = (1, *image_size, model.inputs[0].shape[-1])
    image = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    try:
        scores = model(image, training=False)
    except Exception as error:  # Layers of the user may raise any error.
        raise ValueError(
            f"--model must support images of size {image_size}. Received: "
            f"{name}, which raises {type(error).__name__}: "
            f"{_runs.reason_of(error)} Another {option} may help."
        ) from error
    scores = keras.ops.convert_to_numpy(keras.ops.cast(scores, "float32"))
    if scores.shape[:-1] != shape[:-1]:
        found = scores.shape[1:3]
        raise ValueError(_wrong_size(name, image_size, found, option))
    if not np.isfinite(scores).all():
        raise ValueError(
            "--model must return finite scores. Received: "
            f"{name}, whose scores of an image with values from 0 to 255 are "
            "not finite. The command does not scale images. Use "
            "keras.layers.Rescaling as the first layer."
        )
    if (
        not _graphs.gives_probabilities(model)
        and (scores >= 0).all()
        and np.allclose(scores.sum(-1), 1, atol=1e-3)
    ):
        raise ValueError(
            "--model must return logits, or end in a softmax layer or "
            f"activation. Received: {name}, whose scores are probabilities "
            "although it does not end in a softmax layer or activation. Remove "
            "the softmax inside the model."
        )


def check_saves(name: str, model: keras.Model) -> None:
    """Raise an error, before the training, if a model cannot be restored.

    Raises:
        ValueError: If the model cannot be saved and loaded with all of its
            weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, runs.MODEL_FILE)
        try:
            model.save(file)
            loaded = keras.saving.load_model(
                file, compile=False, safe_mode=True
            )
            before, after = model.get_weights(), loaded.get_weights()
            reason = (
                ""
                if len(before) == len(after)
                and all(map(np.array_equal, before, after))
                else "the loaded weights differ from the saved weights"
            )
        except Exception as error:  # Layers of the user may raise any error.
            reason = _runs.reason_of(error)
    if reason:
        raise ValueError(
            "--model must be a network that can be saved and loaded. Add "
            "get_config to your layers, decorate them with "
            "@keras.saving.register_keras_serializable(), and use a layer "
            f"instead of keras.layers.Lambda. Received: {name}, which fails "
            f"with: {reason}"
        )


def initialize(model: keras.Model, path: str) -> Iterator[str]:
    """Copy the weights of layers with the same name and shapes.

    Args:
        model: The model that gets the weights.
        path: The path of a run folder or a model file.

    Yields:
        A report of the layers that were copied and of those that were not, in
        lines.

    Raises:
        ValueError: If there is not a model at this path.
        ValueError: If no layer has the same name and shapes.
    """
    other, file = runs.load_model(path, "--init-from")
    ours, theirs = _by_name(model), _by_name(other)
    same = [name for name in ours if name in theirs]
    fits = [n for n in same if _shapes(ours[n]) == _shapes(theirs[n])]
    if not fits:
        raise ValueError(
            "--init-from must be a model with layers of the same names and "
            f"shapes as {model.name}. Received: '{file}' without such a layer. "
            f"Its layers are {_listed(theirs)}. Those of {model.name} are "
            f"{_listed(ours)}."
        )
    for name in fits:
        ours[name].set_weights(theirs[name].get_weights())
        if isinstance(ours[name], keras.layers.Normalization):
            # The layer computes with values derived from its weights.
            ours[name].finalize_state()
    yield f"Loaded {len(fits)} of {len(ours)} layers with weights from {file}"
    for reason, names in (
        ("have other shapes in the file", [n for n in same if n not in fits]),
        ("do not exist in the file", [n for n in ours if n not in theirs]),
    ):
        if names:
            yield (
                f"These layers were not loaded, since they {reason}: "
                f"{', '.join(names)}"
            )
    left = [name for name in theirs if name not in ours]
    if left:
        yield f"Unused layers of the file: {', '.join(left)}"


def _by_name(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """Return the layers with weights; names in inner models have a prefix."""
    found: dict[str, Any] = {}
    for layer in model.layers:
        name = f"{prefix}{layer.name}"
        if _graphs.is_graph(layer):
            found |= _by_name(layer, f"{name}/")
        elif layer.weights:
            found[name] = layer
    return found


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _listed(names: dict[str, Any]) -> str:
    shown = list(names)[:5]
    return ", ".join([*shown, "..."] if len(names) > len(shown) else shown)
