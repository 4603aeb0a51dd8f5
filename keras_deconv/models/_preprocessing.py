"""Preprocessing of RGB images in 0..255 for `keras.applications`."""

import itertools
import re
from typing import Any

import keras
from keras import layers, ops

from keras_deconv import _graphs
from keras_deconv.models._vgg16 import TORCH_MEAN, TORCH_STD, VGG16_MEAN

Tensor = Any

# Patterns of model names, by the mode of `preprocess_input`.
FAMILIES = {
    "caffe": r"vgg1[69]|resnet(50|101|152)",
    "tf": (
        r"resnet(50|101|152)v2|mobilenet_\d.*|mobilenetv2_.*|nasnet.*"
        r"|xception|inception_v3|inception_resnet_v2"
    ),
    "torch": r"densenet\d+",
    "none": r"mobilenetv3.*|efficientnet.*|convnext_.*",
}


def mode_of(encoder: keras.Model) -> str:
    """Return the preprocessing that an encoder of `keras.applications` needs.

    Returns:
        A key of `FAMILIES`: the last one if the encoder rescales images.

    Raises:
        ValueError: If the name of the encoder is not known, or the encoder does
            not take 3 channels.
        ValueError: If an encoder that usually rescales images was built without
            its preprocessing.
    """
    mode = next(
        (
            mode
            for mode, names in FAMILIES.items()
            if re.fullmatch(names, encoder.name, re.IGNORECASE)
        ),
        None,
    )
    if mode is None:
        raise ValueError(
            "preprocessing='auto' needs an encoder of keras.applications, "
            "which is recognized by its name. Received: an encoder with the "
            f"name {encoder.name!r}. Pass the layer that prepares RGB images "
            "in 0..255 for it, such as keras.layers.Rescaling(1 / 255), or "
            "None. If the encoder is a part of such a network, give it the "
            "original name: keras.Model(..., name='resnet50')."
        )
    # After the first convolution, such layers apply to features.
    first = itertools.takewhile(
        lambda layer: not isinstance(layer, layers.Conv2D),
        _graphs.layers_of(encoder),
    )
    rescales = any(
        isinstance(layer, layers.Rescaling | layers.Normalization)
        for layer in first
    )
    if rescales:
        return "none"
    if mode == "none":
        raise ValueError(
            "preprocessing='auto' needs an encoder of this family with its own "
            f"preprocessing. Received: {encoder.name!r} without Rescaling or "
            "Normalization. Build it with include_preprocessing=True, or pass "
            "the layer that prepares its images."
        )
    if encoder.inputs[0].shape[-1] != 3:
        raise ValueError(
            "preprocessing='auto' is for RGB images. Received: an encoder that "
            f"takes {encoder.inputs[0].shape[-1]} channels. Pass a layer, or "
            "None."
        )
    return mode


def prepare(images: Tensor, mode: str) -> Tensor:
    """Preprocess RGB images as `preprocess_input` of `keras.applications` does.

    Args:
        images: Tensor in 0..255.
        mode: A result of `mode_of`.
    """
    if mode == "none":
        return images
    name = "preprocessing"
    if mode == "tf":
        return layers.Rescaling(1 / 127.5, -1.0, name=name)(images)
    if mode == "caffe":
        images = ops.flip(images, axis=-1)  # to BGR
        offset = [-float(str(mean)) for mean in VGG16_MEAN[::-1]]
        return layers.Rescaling(1.0, offset, name=name)(images)
    # Rescaling with one value per channel depends on the Keras configuration.
    return layers.Normalization(
        axis=-1,
        mean=(255 * TORCH_MEAN.astype("float64")).tolist(),
        variance=((255 * TORCH_STD.astype("float64")) ** 2).tolist(),
        name=name,
    )(images)
