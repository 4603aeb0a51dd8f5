"""DeconvNet."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_deconv import _arguments
from keras_deconv.models import _blocks, _vgg16

__all__ = ["DeconvNet"]

# By number of the encoder stage, as in SegNet.
DECODER_FILTERS = (
    (64, 64),
    (128, 64),
    (256, 256, 128),
    (512, 512, 256),
    (512, 512, 512),
)
# Kernel of the fully connected layers: what is left of 224 pixels.
FC_KERNEL_SIZE = 7
# The smallest image that five poolings leave so much of, rounding up.
MIN_SIZE = (FC_KERNEL_SIZE - 1) * 2**5 + 1


def DeconvNet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    fc_units: int = 4096,
    decoder: str = "max_unpool",
    decoder_kernel_size: int = 2,
    decoder_initializer: Any = "he_normal",
    encoder_weights: str | Path | None = None,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "deconvnet",
) -> keras.Model:
    """DeconvNet: VGG-16 with its fully connected layers, and its mirror image.

    The decoder unpools with the encoder's indices and convolves transposed.
    The fully connected layers are convolutions over 7x7 and 1x1, so that other
    sizes than the authors' 224x224 can be given.

    Reference: Noh, Hong and Han, 2015, "Learning deconvolution network for
    semantic segmentation", https://arxiv.org/abs/1505.04366, and the authors'
    network, https://github.com/HyeonwooNoh/DeconvNet (model/DeconvNet), which
    is built here: every convolution has a bias, batch normalization and ReLU.
    SegNet's paper measures a variant with `fc_units=1024`.

    Args:
        input_shape: `(height, width, channels)`. Height and width are at least
            193, or None; they need not be multiples of 32.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        fc_units: int >= 1. Filters of the two fully connected layers.
        decoder: How a decoder stage restores its size, as for `SegNet`.
        decoder_kernel_size: As for `SegNet`.
        decoder_initializer: As for `SegNet`.
        encoder_weights: As for `SegNet`; with `fc_units=4096` the fully
            connected layers are loaded too, so the file has to hold them.
        use_bias: Whether convolutions before batch normalization have biases.
            The classifier always has.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255 to float32 `(batch, height, width, num_classes)`.
        The authors feed BGR less its mean; batch normalization takes any order
        and scale, and RGB where VGG-16 weights are loaded.

        Trainable parameters with 3 channels and 21 classes: 251,805,653, or
        81,917,909 with `fc_units=1024`; 33,408 more do not train (21,120).

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Edge cases:
        Where sizes are None, an image of less than 193 pixels is an error of
        the backend when it comes to `fc6`, whose kernel does not fit.

    Example:
        >>> import keras_deconv
        >>> model = keras_deconv.models.DeconvNet(
        ...     (224, 224, 3), 21, fc_units=64
        ... )
        >>> model.get_layer("fc6").output.shape
        (None, 1, 1, 64)
        >>> model.output_shape
        (None, 224, 224, 21)
    """
    _arguments.num_classes(num_classes)
    _arguments.positive_int(fc_units, "fc_units")
    _arguments.classifier_activation(classifier_activation)
    _vgg16.check_encoder_weights(encoder_weights)
    decoder = _arguments.choice(decoder, "decoder", _blocks.DECODERS)
    if decoder == "conv_transpose":
        _arguments.transposed_kernel_size(
            decoder_kernel_size, 2, "decoder_kernel_size"
        )
    small = keras.initializers.RandomNormal(stddev=0.01)
    conv_transpose = functools.partial(
        _blocks.conv_norm_relu,
        convolution=keras.layers.Conv2DTranspose,
        kernel_initializer=small,
        use_bias=use_bias,
    )
    conv = functools.partial(_blocks.conv_norm_relu, use_bias=use_bias)

    inputs = keras.Input(
        _arguments.image_shape(input_shape, minimum=MIN_SIZE), name="image"
    )
    x, poolings = _blocks.encode(
        inputs, _blocks.VGG16_FILTERS, 3, decoder=decoder, use_bias=use_bias
    )
    num_filters = x.shape[-1]
    x = conv(x, fc_units, FC_KERNEL_SIZE, padding="valid", name="fc6")
    x = conv(x, fc_units, 1, name="fc7")
    x = conv_transpose(
        x,
        num_filters,
        FC_KERNEL_SIZE,
        padding="valid",
        name="fc6_conv_transpose",
    )
    x = _blocks.decode(
        x,
        poolings,
        DECODER_FILTERS,
        3,
        conv=conv_transpose,
        decoder=decoder,
        decoder_kernel_size=decoder_kernel_size,
        decoder_initializer=decoder_initializer,
    )
    outputs = _blocks.classifier(
        x,
        num_classes,
        1,
        activation=classifier_activation,
        kernel_initializer=small,
    )
    model = keras.Model(inputs, outputs, name=name)
    if encoder_weights is not None:
        _vgg16.load_vgg16(model, encoder_weights)
    return model
