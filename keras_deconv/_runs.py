"""Functions that read a run folder, which `keras-deconv train` writes."""

import dataclasses
import json
import os
import pathlib
import re
import zipfile

import keras

# The import of `models` registers the layers that saved models contain.
from keras_deconv import _arguments, _files, models  # noqa: F401
from keras_deconv._arguments import VOID

MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
# The label 255 is void in every mask.
MAX_CLASSES = VOID

_RULE = f"a folder that keras-deconv train wrote, with {MODEL_FILE}, or a "
_RULE += ".keras file"
# Number of characters to quote from an error of Keras.
_MAX_SHOWN = 200


@dataclasses.dataclass(frozen=True)
class Images:
    """Options for reading images, as used in training.

    Args:
        image_size: Height and width after resizing; None if images keep their
            sizes.
        value_range: The values that are mapped to 0 and 255, or None.
    """

    image_size: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None


def load(path: str | os.PathLike[str]) -> tuple[keras.Model, Images]:
    """Load the model of a run folder, or a model file, and its image options.

    Raises:
        ValueError: If the path does not hold a model that segments images.
        ValueError: If `run.json` in the same folder is damaged or belongs to
            another model.
    """
    model, file = load_model(path)
    return model, _images_of(file, model.output_shape[-1])


def load_model(
    path: str | os.PathLike[str],
) -> tuple[keras.Model, pathlib.Path]:
    """Load a model that segments images, and return it with its file.

    Raises:
        ValueError: If the path does not hold a model that segments images.
    """
    model, file = read_model(path, "`model`")
    check_segments(model, f"'{file}'")
    return model, file


class UnknownLayersError(ValueError):
    """Error for a model with layers that Keras does not know.

    Args:
        text: The error message.
        file: The file of the model.
    """

    def __init__(self, text: str, file: pathlib.Path) -> None:
        super().__init__(text)
        self.file = file


def read_model(
    path: str | os.PathLike[str], shown: str
) -> tuple[keras.Model, pathlib.Path]:
    """Load the model of a run folder, or a model file, of any kind.

    Args:
        path: Path of the folder or the file.
        shown: Name of the path in error messages.

    Returns:
        The model, not compiled, and its file.

    Raises:
        UnknownLayersError: If Keras cannot load the file.
        ValueError: If the path does not hold a model.
    """
    path = os.fspath(path)
    file = pathlib.Path(path).expanduser()
    if (file / "saved_model.pb").exists():
        raise ValueError(
            f"{shown} must be {_RULE}. Received: {path!r}, a SavedModel, which "
            "tf.saved_model.load and servers can load. Pass the model that it "
            "was exported from."
        )
    if file.is_dir():
        file = file / MODEL_FILE
    if not file.is_file():
        raise ValueError(
            f"{shown} must be {_RULE}. Received: {path!r}, but '{file}' does "
            "not exist."
        )
    if not zipfile.is_zipfile(file):
        raise ValueError(
            f"{shown} must be {_RULE}. Received: '{file}', which is not a "
            ".keras file or is not complete."
        )
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Unknown layers raise errors of many types.
        raise UnknownLayersError(
            f"{shown} must be {_RULE} whose layers are known to Keras. "
            f"Received: '{file}'. Error of Keras: {reason_of(error)}",
            file,
        ) from error
    return model, file


def reason_of(error: Exception) -> str:
    """Return the line of a Keras error that says what is wrong.

    The other lines say where, and with which arguments.
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
    # Errors of TensorFlow begin with the name of the operation.
    line = re.sub(r"^\{\{.*?\}\} ", "", line)
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."


def check_segments(model: keras.Model, shown: str) -> None:
    """Check that a model outputs class scores for each pixel.

    Args:
        model: Functional or Sequential model.
        shown: Name of the model in error messages.

    Raises:
        ValueError: If the input or the output does not have the axes (batch,
            height, width, channels).
        ValueError: If the number of classes is not 2 to 255.
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
            f"`model` must output scores for 2 to {MAX_CLASSES} classes. "
            f"Received: {shown}, which outputs {gives[-1]} per pixel."
            + (f" {_arguments.TWO_LOGITS}" if gives[-1] == 1 else "")
        )


def check_belongs(file: pathlib.Path, num_classes: int, of_run: int) -> None:
    """Check that a model and the `run.json` in its folder belong together.

    Raises:
        ValueError: If their numbers of classes differ.
    """
    if num_classes != of_run:
        raise ValueError(
            f"'{file}' and '{RUN_FILE}' in the same folder must have the same "
            f"number of classes. Received: {num_classes} and {of_run}. One of "
            "the files belongs to another training."
        )


def _images_of(model_file: pathlib.Path, num_classes: int) -> Images:
    """Read the image options from `run.json`, if it exists."""
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
    # Deeply nested lists cause a RecursionError.
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{file}' is not a valid run.json written by keras-deconv train. "
            f"Error: {error}"
        ) from error
    check_belongs(model_file, num_classes, of_run)
    return found
