"""Runs, which are the folders that a training writes, and their models."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import re
import tempfile
import unicodedata
from typing import Any

import keras

import keras_deconv
from keras_deconv import _arguments, _files, _runs
from keras_deconv._arguments import VOID
from keras_deconv._palettes import default_palette
from keras_deconv._runs import MAX_CLASSES, MODEL_FILE, RUN_FILE
from keras_deconv.data._sets import generic_names
from keras_deconv_cli import api, commands, modules

__all__ = [
    "MAX_CLASSES",
    "MODEL_FILE",
    "RUN_FILE",
    "Run",
    "load",
    "load_model",
    "make_folder",
    "read",
]

# Messages show at most this many characters of a wrong value.
_MAX_SHOWN = 200


@dataclasses.dataclass(frozen=True)
class Run:
    """The information that evaluation and prediction need about a model.

    Args:
        class_names: One name per class.
        palette: One (red, green, blue) per class.
        image_size: Height and width to which images are resized, or None to
            keep their sizes.
        ignore_class: The label that means void.
        options: The options of the training by name, as returned by
            `Train.record`. Empty for a model that the command did not train.
        value_range: The image values that are scaled to 0 and 255, or None.
        splits: The split "train" and, with validation, the split "validation".
        files: For folders, the names of the pairs of each of these splits.
        is_finished: Whether the training is complete.
        earlier_epochs: The values of `--epochs` before it was raised, in order.
            {"epochs": 6, "trained": 4} means that 4 epochs were trained while
            the learning rate decayed over 6.
        versions: The versions of the packages during training.

    Raises:
        ValueError: If a field is invalid, for example because somebody edited
            `run.json`.
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
    earlier_epochs: list[dict[str, int]] = dataclasses.field(
        default_factory=list
    )
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
            "palette must contain one [red, green, blue] in 0..255 per class",
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
            _is_list(self.earlier_epochs, dict)
            and all(
                part.keys() == {"epochs", "trained"}
                and _is_list([*part.values()], int, 0)
                for part in self.earlier_epochs
            ),
            'earlier_epochs must be a list of {"epochs": int, "trained": int}',
            self.earlier_epochs,
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
            "splits must be an object of strings without control characters",
            self.splits,
        )
        _check(
            isinstance(self.files, dict)
            and all(_is_list(names, str) for names in self.files.values()),
            "files must be an object of lists of strings",
            self.files,
        )
        _check_options(self.options)
        _check(
            not self.options or "train" in self.splits,
            "splits must have the key train",
            self.splits,
        )
        _check(
            not (self.options and self.options["images"])
            or self.files.keys() == self.splits.keys(),
            "files must have the same keys as splits",
            list(self.files),
        )

    @property
    def num_classes(self) -> int:
        """Number of classes, void not included."""
        return len(self.class_names)

    @property
    def data(self) -> commands.Data | None:
        """The training dataset; None if it is unknown."""
        if not self.options:
            return None

        # JSON does not support tuples, or numbers as keys.
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
        """Write `run.json`."""
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
    """Return whether a value is a list of a type, with ints in a range."""
    return (
        isinstance(value, list)
        # isinstance would accept True as an int.
        and all(type(item) is kind for item in value)
        and (kind is not int or all(low <= item <= high for item in value))
    )


def _is_palette(value: Any) -> bool:
    """Return whether a value is a list of [red, green, blue] in 0..255."""
    return _is_list(value, list) and all(
        len(color) == 3 and _is_list(color, int, 0, 255) for color in value
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value is a string without control characters."""
    return isinstance(value, str) and not any(
        unicodedata.category(character) == "Cc" for character in value
    )


def _check_options(options: Any) -> None:
    """Raise an error for options that do not describe data."""
    _check(isinstance(options, dict), "options must be an object", options)
    if not options:
        return
    for name in api.PLACES:
        value = options.get(name)
        _check(
            name in options and (value is None or _is_plain(value)),
            f"options must have {name}, a string without control characters or "
            "null",
            value,
        )
    _check(
        _is_plain(options.get("train_split")),
        "options must have train_split, a string without control characters",
        options.get("train_split"),
    )
    epochs = options.get("epochs")
    _check(
        epochs is None or _is_list([epochs], int, 1),
        "options must have epochs, an int above 0 or null",
        epochs,
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
    """Read `run.json`; return None if it does not exist.

    Raises:
        ValueError: If the file is not as a training writes it.
    """
    path = folder / RUN_FILE
    if not path.exists():
        return None
    try:
        _files.check_readable(path)
        return Run(**json.loads(path.read_text("utf-8")))
    # Deeply nested lists raise a RecursionError.
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a valid run.json written by keras-deconv train. "
            f"Error: {error}. Delete the file to train again in its folder."
        ) from error


def make_folder(folder: pathlib.Path) -> None:
    """Create a folder for results.

    Raises:
        ValueError: If the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written to: {error}"
        ) from error


def load_model(path: str, option: str) -> tuple[keras.Model, pathlib.Path]:
    """Load any model from a run folder or a model file.

    Args:
        path: The path of the folder or the file.
        option: The name of the option in error messages.

    Returns:
        The model, not compiled, and its file.

    Raises:
        ValueError: If there is not a model at this path.
        ValueError: If a layer of the model is unknown.
    """
    try:
        return _runs.read_model(path, option)
    except _runs.UnknownLayersError as error:
        hint = _about_layers(error.file.parent)
        raise ValueError(f"{error} {hint}") from error.__cause__


def _about_layers(folder: pathlib.Path) -> str:
    """Return a hint on unknown layers, whose code runs only on request."""
    with contextlib.suppress(ValueError):
        run = read(folder)
        options = run.options if run else {}
        model, colon, _ = str(options.get("model")).partition(":")
        name = options.get("module") or (colon and model)
        if modules.is_name(name):
            return (
                f"The run was trained with the module {name}. If you trust "
                f"its code, add --import {name}."
            )
    return (
        "If you have defined these layers, add --import MODULE with the module "
        "that registers them."
    )


def load(path: str) -> tuple[keras.Model, Run]:
    """Load a segmentation model from a run folder or a model file.

    Raises:
        ValueError: If there is not a model at this path.
        ValueError: If the model does not segment images.
        ValueError: If the model does not match `run.json` in the same folder.
    """
    model, file = load_model(path, "`model`")
    _runs.check_segments(model, f"'{file}'")
    takes, gives = model.input_shape, model.output_shape
    run = read(file.parent)
    if run is None:
        run = _foreign(takes, gives[-1])
    _runs.check_belongs(file, gives[-1], run.num_classes)
    return model, run


def _foreign(takes: tuple[Any, ...], num_classes: int) -> Run:
    """Return a run based on the shapes of a model without `run.json`."""
    image_size = None if None in takes[1:3] else list(takes[1:3])
    return Run(
        class_names=list(generic_names(num_classes)),
        palette=[list(color) for color in default_palette(num_classes)],
        image_size=image_size,
    )
