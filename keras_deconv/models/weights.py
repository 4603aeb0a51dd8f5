"""Weights of published classifiers for the encoders."""

from pathlib import Path

import keras
import numpy as np

# Mean colour (RGB, 0..255) that VGG-16 was trained to have taken away.
VGG16_MEAN = np.array([123.68, 116.779, 103.939], "float32")


def load_vgg16(model: keras.Model, weights: str | Path) -> None:
    """Copy VGG-16's convolutions into the layers of the same names.

    VGG-16 takes BGR less its mean colour. The first convolution is turned so
    that it takes RGB in 0..255 as it is; where it has no bias, the batch
    normalisation after it takes the mean away. Batch normalisation keeps its
    initial values.

    Args:
        model: Model with layers `block1_conv1` to `block5_conv3` on 3 input
            channels; changed in place.
        weights: "imagenet" (downloaded by Keras), or the path of a VGG-16
            weights file that `keras.applications.VGG16` takes.

    Raises:
        ValueError: The input has not 3 channels, or the weights cannot be had.
    """
    if model.input_shape[-1] != 3:
        raise ValueError(
            "`encoder_weights` of VGG-16 need an `input_shape` with 3 "
            f"channels. Received: {model.input_shape[1:]}. Use "
            "encoder_weights=None for other channel counts."
        )
    try:
        vgg16 = keras.applications.VGG16(
            include_top=False, weights=str(weights)
        )
    except Exception as error:
        raise ValueError(
            "`encoder_weights` must be None, 'imagenet' (needs a network, or "
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 in "
            "~/.keras/models) or the path of such a file. Received: "
            f"encoder_weights={str(weights)!r}, which failed with: {error}"
        ) from error
    for source in vgg16.layers:
        if not isinstance(source, keras.layers.Conv2D):
            continue
        kernel, bias = source.get_weights()
        if source.name == "block1_conv1":
            kernel = kernel[:, :, ::-1]
            bias = bias - np.einsum("hwio,i->o", kernel, VGG16_MEAN)
        target = model.get_layer(source.name)
        target.set_weights([kernel, bias][: len(target.get_weights())])
