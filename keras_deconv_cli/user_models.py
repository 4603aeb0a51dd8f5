"""Networks of the user: from a function, or from a file."""

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
    """Makes the model that `--model` names, from one tensor to one tensor.

    Args:
        name: `module:function`, or the path of a file.
        input_shape: height, width and channels of the images.
        num_classes: void not included.

    Raises:
        ValueError: there is no such model, or it does not fit the data.
    """
    if ":" in name and not name.endswith(".keras"):
        model = _call(name, input_shape, num_classes)
    else:
        model, _ = runs.load_model(name, "--model")
    if not _graphs.is_graph(model) or not (
        len(model.inputs) == len(model.outputs) == 1
    ):
        raise ValueError(
            "--model must give a built Functional or Sequential keras.Model "
            "with one input and one output. Wrap another one: inputs = "
            "keras.Input(input_shape), keras.Model(inputs, network(inputs)). "
            f"Received: {name}, which gives {_described(model)}"
        )
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    _check_shapes(name, model, input_shape, num_classes)
    try:
        _graphs.check_from_logits(
            model, from_logits=not _graphs.gives_probabilities(model)
        )
    except ValueError as error:
        raise ValueError(
            "--model must give logits, or end in a softmax. Received: "
            f"{name}, which ends in a sigmoid, whose classes do not exclude "
            "each other. Remove the activation of its last layer."
        ) from error
    return model


def _call(
    name: str, input_shape: tuple[int | None, ...], num_classes: int
) -> Any:
    module_name, _, function_name = name.rpartition(":")
    module = modules.load(module_name, "--model")
    function = getattr(module, function_name, None)
    if not callable(function):
        # Modules inside Python and folders do not have a file.
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
    # Whatever code of somebody else raises, or a script that exits.
    except (Exception, SystemExit) as error:
        with_crop = ""
        if None in input_shape:
            with_crop = (
                ". With --crop, height and width are None: the network must "
                "take images of any size."
            )
        raise ValueError(
            "--model must be a function that makes a model when it is called "
            f"with the keyword arguments input_shape, here {input_shape}, and "
            f"num_classes, here {num_classes}. Received: {name}, which raises "
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
            "--crop needs a network that takes images of any size: it is "
            "trained on parts and validated on whole images. Received: "
            f"--model {name}, which takes {takes}. Leave out --crop, or build "
            "the network for (None, None, channels)."
        )
    if len(takes) != 3 or any(
        size not in (None, given)
        for size, given in zip(takes, input_shape, strict=True)
    ):
        raise ValueError(
            "--model must take the images of the training, which are "
            f"(height, width, channels) {input_shape}. Received: {name}, "
            f"which takes {takes}. --image-size and, for folders, --channels "
            "change the images."
        )
    gives = tuple(model.compute_output_shape((None, *input_shape)))[1:]
    if gives[-1:] == (1,):
        raise ValueError(
            f"--model must give scores for {num_classes} classes. Received: "
            f"{name}, which gives 1. {_arguments.TWO_LOGITS} In Python, "
            "keras.losses.BinaryCrossentropy and keras.metrics.BinaryIoU take "
            "one logit as it is."
        )
    if len(gives) != 3 or gives[-1] != num_classes:
        raise ValueError(
            "--model must give scores (height, width, num_classes) for "
            f"{num_classes} classes. Received: {name}, which gives {gives}. "
            "The classes are those of the data, without void; a function is "
            "told their number. --init-from starts from a model with others."
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
        "--model must give scores of the size of the images, "
        f"{tuple(size)}. Received: {name}, which gives {tuple(found)}. End it "
        "with an upsampling, such as keras.layers.UpSampling2D or "
        f"keras.layers.Resizing, or choose another {option}, one that its "
        "strides divide."
    )


def image_size(name: str) -> tuple[int, int] | None:
    """The height and width that a model file takes, if it takes one alone."""
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
    """Refuses, before the training, a model that fails on an image.

    Args:
        name: what `--model` names.
        model: of it.
        image_size: of the images.
        option: that decides their size.

    Raises:
        ValueError: it raises, or gives what no loss can be computed of.
    """
    shape = (1, *image_size, model.inputs[0].shape[-1])
    image = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    try:
        scores = model(image, training=False)
    except Exception as error:  # Whatever layers of somebody else raise.
        raise ValueError(
            f"--model must take images of size {image_size}. Received: {name}, "
            f"which raises {type(error).__name__}: {_runs.reason_of(error)} "
            f"Another {option} may help."
        ) from error
    scores = keras.ops.convert_to_numpy(keras.ops.cast(scores, "float32"))
    if scores.shape[:-1] != shape[:-1]:
        found = scores.shape[1:3]
        raise ValueError(_wrong_size(name, image_size, found, option))
    if not np.isfinite(scores).all():
        raise ValueError(
            "--model must give finite scores. Received: "
            f"{name}, whose scores of an image of values in 0..255 are not. "
            "Images are not scaled before: begin with keras.layers.Rescaling."
        )
    if (
        not _graphs.gives_probabilities(model)
        and (scores >= 0).all()
        and np.allclose(scores.sum(-1), 1, atol=1e-3)
    ):
        raise ValueError(
            "--model must give logits, or end in a softmax that is a layer or "
            f"an activation. Received: {name}, whose scores are probabilities "
            "although it does not end so. Remove the softmax inside."
        )


def check_saves(name: str, model: keras.Model) -> None:
    """Refuses, before the training, a model that is not read back.

    Raises:
        ValueError: it cannot be saved and loaded with all of its weights.
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
                else "the loaded weights are not those that were saved"
            )
        except Exception as error:  # Whatever layers of somebody else raise.
            reason = _runs.reason_of(error)
    if reason:
        raise ValueError(
            "--model must give a network that can be saved and loaded. Give "
            "layers of your own a get_config, decorate them with "
            "@keras.saving.register_keras_serializable(), and use a layer "
            f"instead of keras.layers.Lambda. Received: {name}, of which Keras "
            f"says: {reason}"
        )


def initialize(model: keras.Model, path: str) -> Iterator[str]:
    """Copies the weights of the layers of equal names and shapes.

    Args:
        model: that gets the weights.
        path: of a run folder or a model file.

    Returns:
        What is copied and what is not, in lines.

    Raises:
        ValueError: there is no model, or nothing of it fits.
    """
    other, file = runs.load_model(path, "--init-from")
    ours, theirs = _by_name(model), _by_name(other)
    same = [name for name in ours if name in theirs]
    fits = [n for n in same if _shapes(ours[n]) == _shapes(theirs[n])]
    if not fits:
        raise ValueError(
            "--init-from must be a model with layers of the same names and "
            f"shapes as {model.name}. Received: '{file}', of which no layer "
            f"fits. Its layers are {_listed(theirs)}; those of the network "
            f"are {_listed(ours)}."
        )
    for name in fits:
        ours[name].set_weights(theirs[name].get_weights())
        if isinstance(ours[name], keras.layers.Normalization):
            # It computes with what it has made of its weights.
            ours[name].finalize_state()
    yield f"Loaded {len(fits)} of {len(ours)} layers with weights from {file}"
    for reason, names in (
        ("have other shapes there", [n for n in same if n not in fits]),
        ("do not exist there", [n for n in ours if n not in theirs]),
    ):
        if names:
            yield f"Not loaded, since they {reason}: {', '.join(names)}"
    left = [name for name in theirs if name not in ours]
    if left:
        yield f"Not used of that file: {', '.join(left)}"


def _by_name(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """The layers with weights; those of models inside have both names."""
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
