"""What options are called in the library, and arguments in the command.

Names only, so that `--help` needs neither Keras nor TensorFlow.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
from typing import Any
from unicodedata import category


def _same(*words: str) -> dict[str, str]:
    return {word: word for word in words}


CHOICES: dict[str, dict[str, str]] = {
    "model": {
        "segnet_basic": "models.SegNetBasic",
        "segnet": "models.SegNet",
        "bayesian_segnet_basic": "models.BayesianSegNetBasic",
        "bayesian_segnet": "models.BayesianSegNet",
        "deconvnet": "models.DeconvNet",
        "enet": "models.ENet",
    },
    "decoder": _same("max_unpool", "bed_of_nails", "nearest", "conv_transpose"),
    "loss": {
        "crossentropy": "losses.SegmentationCrossentropy",
        "focal": "losses.SegmentationFocal",
        "dice": "losses.SegmentationDice",
        "tversky": "losses.SegmentationTversky",
    },
    "class_weights": {
        "none": "",
        "median": "data.median_frequency_weights",
        "enet": "data.enet_weights",
    },
    "mixed_precision": {
        "float16": "mixed_float16",
        "bfloat16": "mixed_bfloat16",
    },
    "strategy": _same("one", "mirrored", "multi_worker", "data_parallel"),
    "format": {
        "saved_model": "export.to_saved_model",
        "tflite": "export.to_tflite",
        "onnx": "export.to_onnx",
    },
    "quantize": _same("float16", "dynamic", "int8"),
    "unmatched": _same("error", "skip"),
}
"""For each option its words, and what each is in the library.

With a dot an object of `keras_deconv`, else the value of the argument.
"""

OPTIONS = {
    **{"name": "DATASET", "split": "SPLIT", "path": "--output"},
    **{"input_shape": "--image-size", "validation_split": "--val-split"},
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            *("data_dir", "manual_dir", "images", "masks", "classes", "labels"),
            *("foreground", "void_labels", "value_range", "mask_suffix"),
            *("palette", "void_colors"),
            *("unmatched", "allow_missing_classes", "image_size", "batch_size"),
            *("decoder", "encoder_weights", "class_weights", "seed"),
            *("strategy", "quantize"),
        )
    },
}
"""The option for each argument of the library that the command passes on."""

FOLDER_ARGUMENTS = (
    *("classes", "labels", "foreground", "void_labels", "value_range"),
    *("palette", "void_colors", "mask_suffix", "unmatched"),
)
"""The arguments of `data.from_folders` that are options."""

_NAME = "|".join(OPTIONS)
_QUOTED = re.compile(rf"`({_NAME})`")
_PASSED = re.compile(
    rf"(?<![\w/.-])({_NAME})="
    r"(\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]|'[^']*'|\"[^\"]*\"|[\w.%-]+)"
)
# Models with the layers of VGG-16, and losses that weigh classes.
WITH_ENCODER_WEIGHTS = ("segnet", "bayesian_segnet", "deconvnet")
WITH_CLASS_WEIGHTS = ("crossentropy", "focal")


def plain(text: str) -> str:
    r"""Writes control characters as escapes: a terminal would obey them.

    >>> plain("a" + chr(27) + "[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        repr(character)[1:-1] if category(character) == "Cc" else character
        for character in text
    )


def in_options(text: str) -> str:
    """Rewrites a text about arguments to one about options.

    >>> in_options("`classes` must be an int. Pass void_labels=(0, 255).")
    '--classes must be an int. Pass --void-labels 0,255.'
    """
    text = _QUOTED.sub(lambda match: OPTIONS[match[1]], text)
    return _PASSED.sub(lambda match: _as_option(match[1], match[2]), text)


def _as_option(name: str, text: str) -> str:
    option = OPTIONS[name]
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):  # It stands for something: labels=V.
        return f"{option} {text}"
    if value is None:
        return f"no {option}"
    if name in CHOICES and isinstance(value, str):
        text = value
    elif isinstance(value, dict):
        text = ",".join(f"{key}={item}" for key, item in value.items())
    elif isinstance(value, tuple | list) and option == "--image-size":
        text = "x".join(map(str, value[:2]))
    elif name in ("palette", "void_colors") and value:
        with contextlib.suppress(TypeError, ValueError):
            text = ",".join("{:02x}{:02x}{:02x}".format(*c) for c in value)
    elif isinstance(value, tuple | list):
        text = ",".join(map(str, value)) or "none"
    return f"{option} {text}"


def find(option: str, word: str) -> Any:
    """The object of the library that a word of an option stands for."""
    module, _, name = CHOICES[option][word].partition(".")
    return getattr(importlib.import_module(f"keras_deconv.{module}"), name)
