"""Check the models and paths that all exports take."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_deconv import (
    _arguments,
    _files,
    _graphs,
)

Path = str | os.PathLike[str]
HALF_PRECISION = ("float16", "bfloat16")
SAVED_MODEL_FILES = ("saved_model.pb", "fingerprint.pb", "variables", "assets")


def check_backend(function: str) -> Any:
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"export.{function} needs the TensorFlow backend. Received: "
            f"backend {keras.config.backend()!r}. Save the model as a .keras "
            "file, and load and export it with KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    return tf


def one_tensor(model: keras.Model) -> keras.Model:
    """Return the model with one tensor as input and one as output.

    A loaded model may take a list of one tensor, which would appear in the
    signature.
    """
    _graphs.check_graph(model)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def of_size(
    model: keras.Model, image_size: Sequence[int] | None
) -> keras.Model:
    """Return the model for images of `image_size`, or as it is for None."""
    if image_size is None:
        return model
    size = checked_size(model, image_size)
    takes = model.inputs[0]
    inputs = keras.Input(
        (*size, *takes.shape[3:]), name=takes.name, dtype=takes.dtype
    )
    return keras.Model(inputs, model(inputs), name=model.name)


def known_size(model: keras.Model) -> tuple[int, ...] | None:
    """Return the height and width of the images that a model takes.

    None if it accepts any size, or something other than images.
    """
    size = model.input_shape[1:3]
    return None if None in size or len(model.input_shape) != 4 else size


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model, or a float32 copy if it computes in half precision.

    Converters do not handle mixed precision correctly.
    """
    is_half = False

    def in_float32(layer: Any) -> Any:
        nonlocal is_half
        if getattr(layer, "compute_dtype", None) not in HALF_PRECISION:
            return layer
        is_half = True
        config = {**layer.get_config(), "dtype": "float32"}
        return type(layer).from_config(config)

    single = keras.models.clone_model(
        model, clone_function=in_float32, recursive=True
    )
    if not is_half:
        return model
    single.set_weights(model.get_weights())
    for layer in _graphs.layers_of(single):
        if isinstance(layer, keras.layers.Normalization):
            # The layer computes with constants made from its weights.
            layer.finalize_state()
    return single


def checked_size(
    model: keras.Model, image_size: Sequence[int]
) -> tuple[int, ...]:
    size = _arguments.ints(image_size, 2, "image_size", 1)
    takes = model.input_shape[1:3]
    if len(model.input_shape) != 4 or any(
        n not in (None, to) for n, to in zip(takes, size, strict=True)
    ):
        raise ValueError(
            "`image_size` must be a height and width that the model takes. "
            f"Received: image_size={size}, for a model of images "
            f"{model.input_shape}"
        )
    return size


def image_spec(model: keras.Model) -> Any:
    import tensorflow as tf

    shape = (None, *model.input_shape[1:])
    return tf.TensorSpec(shape, model.inputs[0].dtype, "images")


def kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


@contextlib.contextmanager
def replaced(path: Path, is_folder: bool = False) -> Iterator[pathlib.Path]:
    """`_files.replaced`, with the errors that an export raises.

    Raises:
        ValueError: If files cannot be written there.
        ValueError: If `path` holds something that must not be replaced.
    """
    path = _arguments.path(path, "path")
    _files.check_replaceable(path)
    target = path.resolve()
    if is_folder and target.exists():
        is_ours = (target / "saved_model.pb").is_file() and all(
            path.name in SAVED_MODEL_FILES for path in target.iterdir()
        )
        if not is_ours and not (target.is_dir() and not any(target.iterdir())):
            raise ValueError(
                "`path` must be a folder that is new, empty or a SavedModel "
                "without files of others in it, which is replaced. Received: "
                f"path={os.fspath(path)!r}"
            )
    if not is_folder and target.is_dir():
        raise ValueError(
            "`path` must be a file. Received: "
            f"path={os.fspath(path)!r}, which is a folder"
        )
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(_files.replaced(target))
        except OSError as error:
            raise ValueError(
                "`path` must be a path that can be written to. Received: "
                f"path={os.fspath(path)!r}: {error.strerror}"
            ) from error
        yield part
