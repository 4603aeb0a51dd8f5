"""The folder that a training writes, and models that come from one or not."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import tempfile
import unicodedata
import zipfile
from typing import Any

import keras

import keras_deconv

# Importing models is what makes Keras know the layers of a saved one.
from keras_deconv import _arguments, _files, data, models  # noqa: F401
from keras_deconv._arguments import VOID
from keras_deconv.data._sets import generic_names
from keras_deconv_cli import api, commands

__all__ = [
    "MAX_CLASSES",
    "MODEL_FILE",
    "RUN_FILE",
    "Run",
    "load",
    "make_folder",
    "read",
]

MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
# The label after them is void in every mask.
MAX_CLASSES = VOID
# Characters of a wrong value that are printed.
_MAX_SHOWN = 200


@dataclasses.dataclass(frozen=True)
class Run:
    """What is needed to evaluate a model and to predict with it.

    Args:
        class_names: one name per class.
        palette: one (red, green, blue) per class.
        image_size: height and width that images are resized to; None to
            keep their sizes.
        ignore_class: the label that means void.
        options: the options of the training by name, as `Train.record` gives
            them; empty for a model that was not trained by the command.
        value_range: the values of images that become 0 and 255, or None.
        splits: the splits "train" and, if there is one, "validation" that the
            model was trained with.
        files: for folders, the names of the pairs of each of these splits.
        is_finished: whether the training is complete.
        versions: of the packages that trained.

    Raises:
        ValueError: a field is not as described; `run.json` may be edited.
    """

    class_names: list[str]
    palette: list[list[int]]
    image_size: list[int] | None
    ignore_class: int = VOID
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    value_range: list[float] | None = None
    splits: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    is_finished: bool = False
    versions: dict[str, str] = dataclasses.field(
        default_factory=lambda: {
            "keras_deconv": keras_deconv.__version__,
            "keras": keras.__version__,
        }
    )

    def __post_init__(self) -> None:
        names, size = self.class_names, self.image_size
        _check(
            isinstance(names, list) and len(names) <= MAX_CLASSES,
            f"class_names must be a list of at most {MAX_CLASSES} names",
            names,
        )
        _arguments.class_names(names)
        _check(
            _is_palette(self.palette) and len(self.palette) == len(names),
            "palette must be one [red, green, blue] in 0..255 per class",
            self.palette,
        )
        _check(
            size is None or (_is_list(size, int, 1) and len(size) == 2),
            "image_size must be [height, width] above 0, or null",
            size,
        )
        _check(
            _is_list([self.ignore_class], int, 0, 255),
            "ignore_class must be an int in 0..255",
            self.ignore_class,
        )
        _check(
            isinstance(self.is_finished, bool),
            "is_finished must be true or false",
            self.is_finished,
        )
        _check(
            isinstance(self.versions, dict),
            "versions must be an object",
            self.versions,
        )
        limits = self.value_range
        _check(
            limits is None
            or (
                _is_list(limits, float)
                and len(limits) == 2
                and all(map(math.isfinite, limits))
                and limits[0] < limits[1]
            ),
            "value_range must be [low, high], finite, with low < high, or null",
            limits,
        )
        _check(
            isinstance(self.splits, dict)
            and all(map(_is_plain, self.splits.values())),
            "splits must be an object of texts without control characters",
            self.splits,
        )
        _check(
            isinstance(self.files, dict)
            and all(_is_list(names, str) for names in self.files.values()),
            "files must be an object of lists of texts",
            self.files,
        )
        _check_options(self.options)
        _check(
            not self.options or "train" in self.splits,
            "splits must have train",
            self.splits,
        )
        _check(
            not (self.options and self.options["images"])
            or self.files.keys() == self.splits.keys(),
            "files must have the keys of splits",
            list(self.files),
        )

    @property
    def num_classes(self) -> int:
        """Number of classes, void not included."""
        return len(self.class_names)

    @property
    def data(self) -> commands.Data | None:
        """What the model was trained with, if that is known."""
        if not self.options:
            return None

        # JSON has neither tuples nor numbers as keys.
        def of_tuples(value: Any) -> Any:
            is_list = isinstance(value, list)
            return tuple(map(of_tuples, value)) if is_list else value

        values: dict[str, Any] = {
            name: of_tuples(value) for name, value in self.options.items()
        }
        if values.get("labels"):
            values["labels"] = {int(k): v for k, v in values["labels"].items()}
        known = {field.name for field in dataclasses.fields(commands.Data)}
        return commands.Data(**{n: values[n] for n in known & values.keys()})

    def write(self, folder: pathlib.Path) -> None:
        """Writes `run.json`."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        with _files.replaced(folder / RUN_FILE) as part:
            part.write_text(f"{text}\n")


def _check(holds: bool, rule: str, value: Any) -> None:
    if not holds:
        text = repr(value)
        if len(text) > _MAX_SHOWN:
            text = f"{text[:_MAX_SHOWN]}..."
        raise ValueError(f"{rule}, and is {text}")


def _is_list(
    value: Any, kind: type, low: float = -math.inf, high: float = math.inf
) -> bool:
    """Whether it is a list of one type, numbers from `low` to `high`."""
    return (
        isinstance(value, list)
        # Not isinstance, for which True is an int.
        and all(type(item) is kind for item in value)
        and (kind is not int or all(low <= item <= high for item in value))
    )


def _is_palette(value: Any) -> bool:
    """Whether it is a list of [red, green, blue] in 0..255."""
    return _is_list(value, list) and all(
        len(color) == 3 and _is_list(color, int, 0, 255) for color in value
    )


def _is_plain(value: Any) -> bool:
    """Whether it is a text that a terminal prints, and does not obey."""
    return isinstance(value, str) and not any(
        unicodedata.category(character) == "Cc" for character in value
    )


def _check_options(options: Any) -> None:
    """Refuses options that do not describe data."""
    _check(isinstance(options, dict), "options must be an object", options)
    if not options:
        return
    for name in api.PLACES:
        value = options.get(name)
        _check(
            name in options and (value is None or _is_plain(value)),
            f"options must have {name}, a text without control characters or "
            "null",
            value,
        )
    _check(
        _is_plain(options.get("train_split")),
        "options must have train_split, a text without control characters",
        options.get("train_split"),
    )
    images, classes = options["images"], options.get("classes")
    _check(
        bool(options["dataset"]) != bool(images),
        "options must have either dataset or images",
        images,
    )
    if not images:
        return
    labels, void = options.get("labels"), options.get("void_labels")
    _check(
        bool(options["masks"])
        and bool(options["val_images"]) == bool(options["val_masks"])
        and all(
            isinstance(options.get(name, ""), str)
            for name in ("image_suffix", "mask_suffix")
        )
        and isinstance(options.get("lossy_masks", False), bool)
        and _is_list([options.get("channels", 3)], int, 1)
        and all(
            _is_palette(options.get(name) or [])
            for name in ("palette", "void_colors")
        )
        and options.get("unmatched") in api.CHOICES["unmatched"]
        and (void is None or _is_list(void, int, 0, 255))
        and (
            classes is None
            or _is_list([classes], int, 2, MAX_CLASSES)
            or _is_list(classes, str)
        )
        and (
            labels is None
            or (
                isinstance(labels, dict)
                and all(re.fullmatch("[0-9]{1,3}", key) for key in labels)
            )
        ),
        "options with images must have masks and unmatched, and classes, "
        "labels, void_labels, palette, void_colors, channels, image_suffix, "
        "mask_suffix and lossy_masks as the command writes them",
        options,
    )


def read(folder: pathlib.Path) -> Run | None:
    """Reads `run.json`; None if it does not exist.

    Raises:
        ValueError: it is not as a training writes it.
    """
    path = folder / RUN_FILE
    if not path.exists():
        return None
    try:
        _files.check_readable(path)
        return Run(**json.loads(path.read_text("utf-8")))
    # Lists in lists in lists end in a RecursionError.
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be as keras-deconv train writes it. "
            f"Received: {error}. Delete it to train again there."
        ) from error


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder for results.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written to: {error}"
        ) from error


def load(path: str) -> tuple[keras.Model, Run]:
    """Loads the model of a run folder, or a model file.

    Raises:
        ValueError: there is no model, or it does not segment images.
    """
    file = pathlib.Path(path).expanduser()
    if (file / "saved_model.pb").exists():
        raise ValueError(
            f"MODEL must be {_MODEL}. Received: {path!r}, a SavedModel, which "
            "tf.saved_model.load and servers load. Give the model that it was "
            "exported from."
        )
    if file.is_dir():
        file = file / MODEL_FILE
    if not file.is_file():
        raise ValueError(
            f"MODEL must be {_MODEL}. Received: {path!r}, but there is no "
            f"file '{file}'."
        )
    if not zipfile.is_zipfile(file):
        raise ValueError(
            f"MODEL must be {_MODEL}. Received: '{file}', which is another "
            "file or is not complete."
        )
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Whatever foreign layers lead to.
        reason = str(error).split("\n")[0][:200]
        raise ValueError(
            f"MODEL must be {_MODEL} whose layers are known. "
            f"Received: '{file}', of which Keras says: {reason}"
        ) from error
    takes, gives = model.input_shape, model.output_shape
    if not (
        isinstance(takes, tuple)
        and isinstance(gives, tuple)
        and len(takes) == len(gives) == 4
        and takes[-1]
        and gives[-1]
    ):
        raise ValueError(
            "MODEL must map images (batch, height, width, channels) to classes "
            f"(batch, height, width, num_classes). Received: '{file}', which "
            f"maps {takes} to {gives}."
        )
    if not 2 <= gives[-1] <= MAX_CLASSES:
        raise ValueError(
            f"MODEL must give scores for 2 to {MAX_CLASSES} classes. "
            f"Received: '{file}', which gives {gives[-1]}."
            + (f" {_arguments.TWO_LOGITS}" if gives[-1] == 1 else "")
        )
    run = read(file.parent)
    if run is None:
        run = _foreign(takes, gives[-1])
    if run.num_classes != gives[-1]:
        raise ValueError(
            f"'{file}' and '{RUN_FILE}' beside it must belong together. "
            f"Received: {gives[-1]} classes and {run.num_classes}."
        )
    return model, run


_MODEL = f"a folder that keras-deconv train wrote, with {MODEL_FILE}, or a "
_MODEL += ".keras file"


def _foreign(takes: tuple[Any, ...], num_classes: int) -> Run:
    """What the shapes of a model without `run.json` say."""
    image_size = None if None in takes[1:3] else list(takes[1:3])
    return Run(
        class_names=list(generic_names(num_classes)),
        palette=[list(color) for color in data.color_map(num_classes)],
        image_size=image_size,
    )
