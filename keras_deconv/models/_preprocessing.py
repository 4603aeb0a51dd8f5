"""What the encoders of `keras.applications` expect of RGB images in 0..255."""

import itertools
import re
from typing import Any

import keras
from keras import layers, ops

from keras_deconv import _graphs
from keras_deconv.models._vgg16 import TORCH_MEAN, TORCH_STD, VGG16_MEAN

Tensor = Any

# Names of models by the mode of `preprocess_input`.
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
    """How an encoder of `keras.applications` wants its images.

    Returns:
        "caffe", "tf", "torch", or "none" where the encoder rescales the images
        itself.

    Raises:
        ValueError: If the family is not known, or if an encoder that usually
            rescales the images was built without that.
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
            "preprocessing='auto' needs an encoder of keras.applications, which"
            " is known by its name. Received: an encoder with the name "
            f"{encoder.name!r}. Pass the layer that prepares RGB images in "
            "0..255 for it, such as keras.layers.Rescaling(1 / 255), or None. "
            "Where a part of such a network was cut out, name it as before: "
            "keras.Model(..., name='resnet50')."
        )
    # Before the first convolution: later ones are of features.
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
    """What `keras.applications.imagenet_utils.preprocess_input` makes of RGB.

    Args:
        images: Tensor in 0..255.
        mode: As from `mode_of`.
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
    # Rescaling by channels would follow keras.config.image_data_format.
    return layers.Normalization(
        axis=-1,
        mean=(255 * TORCH_MEAN.astype("float64")).tolist(),
        variance=((255 * TORCH_STD.astype("float64")) ** 2).tolist(),
        name=name,
    )(images)
