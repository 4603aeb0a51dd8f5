"""What the options are called in the library.

Names only, so that `--help` needs neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any


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
}
"""For each option its words, and what each is in the library.

With a dot an object of `keras_deconv`, else the value of the argument.
"""

# Models with the layers of VGG-16, and losses that weigh classes.
WITH_ENCODER_WEIGHTS = ("segnet", "bayesian_segnet", "deconvnet")
WITH_CLASS_WEIGHTS = ("crossentropy", "focal")


def find(option: str, word: str) -> Any:
    """The object of the library that a word of an option stands for."""
    module, _, name = CHOICES[option][word].partition(".")
    return getattr(importlib.import_module(f"keras_deconv.{module}"), name)
