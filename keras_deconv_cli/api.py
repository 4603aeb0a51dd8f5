"""A table of the options of the command and the arguments of the library.

The table contains only names, so `--help` does not import Keras or TensorFlow.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import re
from collections.abc import Mapping
from typing import Any
from unicodedata import category

__all__ = [
    "CHOICES",
    "FOLDER_ARGUMENTS",
    "OPTIONS",
    "PLACES",
    "WEIGHT_FILES",
    "Option",
    "find",
    "flag",
    "in_options",
    "plain",
    "words_for",
]


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the command and its counterpart in the library.

    Args:
        arguments: The arguments that get the value of the option, each with its
            function.
        choices: The allowed words and their meaning in the library. A meaning
            with a dot is an object of `keras_deconv`. Any other meaning is the
            value of the argument.
        only_for: Other options, and the words of each with which this option is
            allowed.
        shown: The name that the user sees. Defaults to `--` and the name of the
            option.
        is_place: Whether the option is the location of data.
        is_decided: Whether training chooses a value based on the data if the
            option is not given.
    """

    arguments: tuple[str, ...] = ()
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    only_for: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )
    shown: str | None = None
    is_place: bool = False
    is_decided: bool = False


def _feeds(*arguments: str, **more: Any) -> Option:
    return Option(arguments, **more)


def _same(*words: str) -> dict[str, str]:
    return {word: word for word in words}


WEIGHT_FILES = {
    ".caffemodel": (
        *("segnet_basic", "segnet"),
        *("bayesian_segnet_basic", "bayesian_segnet"),
    ),
    ".pth, .pt, .safetensors, .tar or .model": ("enet", "relaynet", "quicknat"),
}
"""Suffixes of weight files, and the networks whose authors publish them."""

OPTIONS: dict[str, Option] = {
    # Data.
    "dataset": _feeds("data.load.name", shown="DATASET", is_place=True),
    "data_dir": _feeds("data.load.data_dir", is_place=True),
    "manual_dir": _feeds("data.load.manual_dir", is_place=True),
    "images": _feeds("data.from_folders.images", is_place=True),
    "masks": _feeds("data.from_folders.masks", is_place=True),
    "val_images": _feeds("data.from_folders.images", is_place=True),
    "val_masks": _feeds("data.from_folders.masks", is_place=True),
    # The command reads the file with `data.read_label_map`, which returns the
    # arguments below.
    "label_map": _feeds(),
    "classes": _feeds("data.from_folders.classes"),
    "labels": _feeds("data.from_folders.labels"),
    "foreground": _feeds("data.from_folders.foreground"),
    "void_labels": _feeds("data.from_folders.void_labels"),
    "value_range": _feeds(
        "data.from_folders.value_range", "data.load.value_range"
    ),
    "palette": _feeds("data.from_folders.palette"),
    "void_colors": _feeds("data.from_folders.void_colors"),
    "image_suffix": _feeds("data.from_folders.image_suffix"),
    "mask_suffix": _feeds("data.from_folders.mask_suffix"),
    "lossy_masks": _feeds("data.from_folders.lossy_masks"),
    "channels": _feeds("data.from_folders.channels"),
    "unmatched": _feeds(
        "data.from_folders.unmatched", choices=_same("error", "skip")
    ),
    "split": _feeds("data.load.split", shown="SPLIT"),
    "train_split": _feeds("data.load.split"),
    "val_split": _feeds("data.from_folders.validation_split", is_decided=True),
    "batch_size": _feeds("data.load.batch_size"),
    "image_size": _feeds(
        "data.load.image_size", "models.SegNet.input_shape", is_decided=True
    ),
    "cache": _feeds(
        "data.load.cache",
        choices={"memory": "memory", "disk": "disk", "none": ""},
    ),
    "seed": _feeds("data.load.seed", "inference.predict_monte_carlo.seed"),
    # Training.
    "model": _feeds(
        choices={
            "segnet_basic": "models.SegNetBasic",
            "segnet": "models.SegNet",
            "bayesian_segnet_basic": "models.BayesianSegNetBasic",
            "bayesian_segnet": "models.BayesianSegNet",
            "deconvnet": "models.DeconvNet",
            "enet": "models.ENet",
            "relaynet": "models.ReLayNet",
            "quicknat": "models.QuickNAT",
        }
    ),
    "encoder": _feeds(
        # Functions of keras.applications.
        choices={
            "vgg16": "VGG16",
            "vgg19": "VGG19",
            "resnet50": "ResNet50",
            "resnet50v2": "ResNet50V2",
            "mobilenet": "MobileNet",
            "mobilenetv2": "MobileNetV2",
            "mobilenetv3small": "MobileNetV3Small",
            "mobilenetv3large": "MobileNetV3Large",
            "densenet121": "DenseNet121",
            "efficientnetb0": "EfficientNetB0",
            "efficientnetv2b0": "EfficientNetV2B0",
            "xception": "Xception",
            "inceptionv3": "InceptionV3",
            "nasnetmobile": "NASNetMobile",
            "convnexttiny": "ConvNeXtTiny",
        }
    ),
    "skips": _feeds(
        "models.EncoderDecoder.skips", choices=_same("concat", "add")
    ),
    "decoder": _feeds(
        "models.SegNet.decoder",
        choices=_same(
            *("max_unpool", "bed_of_nails", "nearest", "conv_transpose")
        ),
    ),
    "encoder_weights": _feeds(
        "models.SegNet.encoder_weights",
        only_for={"model": ("segnet", "bayesian_segnet", "deconvnet")},
    ),
    "weights": _feeds(
        "models.SegNet.weights",
        only_for={"model": sum(WEIGHT_FILES.values(), ())},
    ),
    "init_from": _feeds(),
    # `import` is a keyword of Python and cannot be the name of a field.
    "module": _feeds(shown="--import"),
    "extra_classifier": _feeds(
        "models.SegNet.extra_classifier",
        only_for={"model": ("segnet", "bayesian_segnet")},
    ),
    "squeeze_excitation": _feeds(
        "models.QuickNAT.squeeze_excitation", only_for={"model": ("quicknat",)}
    ),
    "decoder_activation": _feeds(
        "models.ENet.decoder_activation",
        choices=_same("relu", "prelu"),
        only_for={"model": ("enet",)},
    ),
    "epochs": _feeds(is_decided=True),
    "learning_rate": _feeds(),
    "loss": _feeds(
        choices={
            "crossentropy": "losses.SegmentationCrossentropy",
            "focal": "losses.SegmentationFocal",
            "dice": "losses.SegmentationDice",
            "tversky": "losses.SegmentationTversky",
        }
    ),
    "class_weights": _feeds(
        "losses.SegmentationCrossentropy.class_weights",
        choices={
            "none": "",
            "median": "data.median_frequency_weights",
            "enet": "data.enet_weights",
        },
        only_for={"loss": ("crossentropy", "focal")},
    ),
    "augment": _feeds(),
    "crop": _feeds("data.augmentation.crop"),
    "mixed_precision": _feeds(
        choices={"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
    ),
    "early_stopping": _feeds(),
    "strategy": _feeds(
        "distribution.connect.strategy",
        choices=_same("one", "mirrored", "multi_worker", "data_parallel"),
    ),
    "smoke": _feeds(),
    "preview_every": _feeds("callbacks.PredictionPreview.every"),
    "tensorboard": _feeds(),
    # The other commands.
    "model_path": _feeds("inference.predict.model", shown="MODEL"),
    "json": _feeds(),
    "at": _feeds(
        "inference.predict.image_size",
        choices={"training": "", "original": "original"},
    ),
    "tile": _feeds("inference.predict.tile"),
    "overlap": _feeds("inference.predict.overlap"),
    "flip": _feeds("inference.predict.flip"),
    "inputs": _feeds(shown="IMAGE"),
    "monte_carlo": _feeds("inference.predict_monte_carlo.samples"),
    "output": _feeds("export.to_saved_model.path"),
    "format": _feeds(
        choices={
            "saved_model": "export.to_saved_model",
            "tflite": "export.to_tflite",
            "onnx": "export.to_onnx",
        }
    ),
    "quantize": _feeds(
        "export.to_tflite.quantize",
        choices=_same("float16", "dynamic", "int8"),
        only_for={"format": ("tflite",)},
    ),
    "io_dtype": _feeds(
        "export.to_tflite.io_dtype",
        choices=_same("uint8", "int8"),
        only_for={"format": ("tflite",), "quantize": ("int8",)},
    ),
    "allow_missing_classes": _feeds("data.check.allow_missing_classes"),
    "subject": _feeds(shown="MODEL | DATASET"),
}
"""Every option of every command, by the name of its field in `commands`."""

CHOICES = {
    name: option.choices for name, option in OPTIONS.items() if option.choices
}
PLACES = tuple(name for name, option in OPTIONS.items() if option.is_place)
FOLDER_ARGUMENTS = tuple(
    name
    for name, option in OPTIONS.items()
    if f"data.from_folders.{name}" in option.arguments and not option.is_place
)
"""Options that `data.from_folders` gets as arguments, except the folders."""


def flag(name: str) -> str:
    """Return the name of an option as the user writes it."""
    return OPTIONS[name].shown or f"--{name.replace('_', '-')}"


def words_for(name: str, other: str) -> str:
    """Return the words of `other` with which option `name` is allowed."""
    words = OPTIONS[name].only_for[other]
    return (" and " if len(words) == 2 else ", ").join(words)


_SIZES = ("--image-size", "--crop", "--tile")
# If several options set the same argument, messages name the first one.
_SHOWN = {
    argument.rpartition(".")[2]: flag(name)
    for name, option in reversed(OPTIONS.items())
    for argument in option.arguments
}
_NAME = "|".join(_SHOWN)
_QUOTED = re.compile(rf"`({_NAME})`")
_PASSED = re.compile(
    rf"(?<![\w/.-])({_NAME})="
    r"(\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]|'[^']*'|\"[^\"]*\"|[\w.%-]+)"
)


def plain(text: str) -> str:
    r"""Escape control characters, which would act on a terminal.

    >>> plain("a" + chr(27) + "[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        repr(character)[1:-1] if category(character) == "Cc" else character
        for character in text
    )


def in_options(text: str) -> str:
    """Replace the arguments in a text by the options of the command.

    >>> in_options("`classes` must be an int. Pass void_labels=(0, 255).")
    '--classes must be an int. Pass --void-labels 0,255.'
    """
    text = _QUOTED.sub(lambda match: _SHOWN[match[1]], text)
    return _PASSED.sub(lambda match: _as_option(match[1], match[2]), text)


def _as_option(name: str, text: str) -> str:
    option = _SHOWN[name]
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):  # A placeholder, as in labels=V.
        return f"{option} {text}"
    if value is None:
        return f"no {option}"
    if name == "cache" and isinstance(value, bool):
        text = "memory" if value else "none"
    elif value is True:
        return option
    elif name in CHOICES and isinstance(value, str):
        text = value
    elif isinstance(value, dict):
        text = ",".join(f"{key}={item}" for key, item in value.items())
    elif isinstance(value, tuple | list) and option in _SIZES:
        text = "x".join(map(str, value[:2]))
    elif name in ("palette", "void_colors") and value:
        with contextlib.suppress(TypeError, ValueError):
            text = ",".join("{:02x}{:02x}{:02x}".format(*c) for c in value)
    elif isinstance(value, tuple | list):
        text = ",".join(map(str, value)) or "none"
    return f"{option} {text}"


def find(option: str, word: str) -> Any:
    """Return the object of the library that a word of an option selects."""
    module, _, name = CHOICES[option][word].partition(".")
    return getattr(importlib.import_module(f"keras_deconv.{module}"), name)
