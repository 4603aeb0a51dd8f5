"""What `keras-deconv train` leaves in a folder: a model, and how to use it."""

import dataclasses
import json
import os
import pathlib
import re
import zipfile

import keras

# Importing models is what makes Keras know the layers of a saved one.
from keras_deconv import _arguments, _files, models  # noqa: F401
from keras_deconv._arguments import VOID

MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
# The label after them is void in every mask.
MAX_CLASSES = VOID

_RULE = f"a folder that keras-deconv train wrote, with {MODEL_FILE}, or a "
_RULE += ".keras file"
# Characters of an error of Keras that are repeated.
_MAX_SHOWN = 200


@dataclasses.dataclass(frozen=True)
class Images:
    """How the images of a training were read.

    Args:
        image_size: Height and width that they were resized to; None if they
            kept their sizes.
        value_range: The values that became 0 and 255, or None.
    """

    image_size: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None


def load(path: str | os.PathLike[str]) -> tuple[keras.Model, Images]:
    """Load the model of a run folder, or a model file.

    Raises:
        ValueError: If there is no model, it does not segment images, or
            `run.json` beside it is not as a training writes it.
    """
    model, file = load_model(path)
    return model, _images_of(file, model.output_shape[-1])


def load_model(
    path: str | os.PathLike[str],
) -> tuple[keras.Model, pathlib.Path]:
    """Load a model that segments images, and return it with its file.

    Raises:
        ValueError: If there is no model, or it does not segment images.
    """
    model, file = read_model(path, "`model`")
    check_segments(model, f"'{file}'")
    return model, file


class UnknownLayersError(ValueError):
    """A model with layers that Keras does not know.

    Args:
        text: What is wrong.
        file: The file of the model.
    """

    def __init__(self, text: str, file: pathlib.Path) -> None:
        super().__init__(text)
        self.file = file


def read_model(
    path: str | os.PathLike[str], shown: str
) -> tuple[keras.Model, pathlib.Path]:
    """Load the model of a run folder, or a model file, whatever it does.

    Args:
        path: Path of the folder or the file.
        shown: What errors call the path.

    Returns:
        The model, not compiled, and its file.

    Raises:
        UnknownLayersError: If Keras cannot load the file.
        ValueError: If there is no model.
    """
    path = os.fspath(path)
    file = pathlib.Path(path).expanduser()
    if (file / "saved_model.pb").exists():
        raise ValueError(
            f"{shown} must be {_RULE}. Received: {path!r}, a SavedModel, which "
            "tf.saved_model.load and servers load. Give the model that it was "
            "exported from."
        )
    if file.is_dir():
        file = file / MODEL_FILE
    if not file.is_file():
        raise ValueError(
            f"{shown} must be {_RULE}. Received: {path!r}, but there is no "
            f"file '{file}'."
        )
    if not zipfile.is_zipfile(file):
        raise ValueError(
            f"{shown} must be {_RULE}. Received: '{file}', which is another "
            "file or is not complete."
        )
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Whatever foreign layers lead to.
        raise UnknownLayersError(
            f"{shown} must be {_RULE} whose layers are known. "
            f"Received: '{file}', of which Keras says: {reason_of(error)}",
            file,
        ) from error
    return model, file


def reason_of(error: Exception) -> str:
    """Find the line of an error of Keras that says what is wrong.

    Around it, Keras tells where that is, and with which arguments.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when"):
        lines = [re.sub("\x1b\\[[0-9]*m", "", lines[1])]
    for line in lines:
        if line.startswith("Exception encountered: "):
            lines = [line.removeprefix("Exception encountered: ")]
            break
    line = lines[0] if lines else type(error).__name__
    line = line.partition(" Full object config: ")[0]
    # TensorFlow begins with the operation.
    line = re.sub(r"^\{\{.*?\}\} ", "", line)
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."


def check_segments(model: keras.Model, shown: str) -> None:
    """Refuse a model that does not give scores for the classes of pixels.

    Args:
        model: Functional or Sequential model.
        shown: What the error calls it.

    Raises:
        ValueError: If input or output do not have the axes (batch, height,
            width, channels), or if there are not 2 to 255 classes.
    """
    takes = getattr(model, "input_shape", None)
    gives = getattr(model, "output_shape", None)
    if not (
        isinstance(takes, tuple)
        and isinstance(gives, tuple)
        and len(takes) == len(gives) == 4
        and takes[-1]
        and gives[-1]
    ):
        raise ValueError(
            "`model` must map images (batch, height, width, channels) to "
            f"classes (batch, height, width, num_classes). Received: {shown}, "
            f"which maps {takes} to {gives}."
        )
    if not 2 <= gives[-1] <= MAX_CLASSES:
        raise ValueError(
            f"`model` must give scores for 2 to {MAX_CLASSES} classes. "
            f"Received: {shown}, which gives {gives[-1]}."
            + (f" {_arguments.TWO_LOGITS}" if gives[-1] == 1 else "")
        )


def check_belongs(file: pathlib.Path, num_classes: int, of_run: int) -> None:
    """Refuse a model beside the `run.json` of another one.

    Raises:
        ValueError: If they do not have the same number of classes.
    """
    if num_classes != of_run:
        raise ValueError(
            f"'{file}' and '{RUN_FILE}' beside it must belong together. "
            f"Received: {num_classes} classes and {of_run}."
        )


def _images_of(model_file: pathlib.Path, num_classes: int) -> Images:
    """Read what `run.json` says about images; nothing if it does not exist."""
    file = model_file.with_name(RUN_FILE)
    if not file.exists():
        return Images()
    try:
        _files.check_readable(file)
        run = json.loads(file.read_text("utf-8"))
        size, of_run = run["image_size"], len(run["class_names"])
        if size is not None:
            size = _arguments.ints(size, 2, "image_size", minimum=1)
        found = Images(size, _arguments.value_range(run.get("value_range")))
    # Lists in lists in lists end in a RecursionError.
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} must be as keras-deconv train writes it. Received: {error}"
        ) from error
    check_belongs(model_file, num_classes, of_run)
    return found
