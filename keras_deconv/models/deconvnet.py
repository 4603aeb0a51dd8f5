"""DeconvNet."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_deconv import _arguments
from keras_deconv.models import _blocks, _vgg16

__all__ = ["DeconvNet"]

# Ordered by the number of the encoder stage, as in SegNet.
DECODER_FILTERS = (
    (64, 64),
    (128, 64),
    (256, 256, 128),
    (512, 512, 256),
    (512, 512, 512),
)
# Five poolings reduce 224 pixels to 7.
FC_KERNEL_SIZE = 7
# Five poolings, which round up, reduce this size to FC_KERNEL_SIZE.
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

    Use it to reproduce the paper, or when the decoder needs features of the
    whole image: the fully connected layers see all of a 224x224 image. With 252
    million parameters, it is the largest network of this package. The decoder
    unpools with the indices of the encoder and applies transposed convolutions.
    The fully connected layers are built as convolutions of 7x7 and 1x1, so that
    the model takes images of any size from 193x193 pixels on, not only the
    authors' 224x224.

    Reference: Noh, Hong and Han, 2015, "Learning deconvolution network for
    semantic segmentation", https://arxiv.org/abs/1505.04366. The architecture
    is that of the authors' code, https://github.com/HyeonwooNoh/DeconvNet
    (model/DeconvNet): every convolution has a bias, batch normalization and
    ReLU. The SegNet paper measures a variant with `fc_units=1024`.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width are >= 193 or None, for images of any size >= 193.
            They need not be multiples of 32.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        fc_units: int >= 1. Number of filters of the two fully connected layers.
            With a value other than 4096, the network is not the published one.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        decoder_kernel_size: int >= 1. Kernel size of the transposed
            convolutions of `decoder="conv_transpose"`; other decoders do not
            use it. A value that is not a multiple of the stride (2) causes
            checkerboard artifacts and emits a warning.
        decoder_initializer: Kernel initializer of the same transposed
            convolutions: a Keras initializer, its name or its configuration.
            `keras_deconv.initializers` has two for transposed convolutions.
        encoder_weights: None for random initial values (He normal), "imagenet"
            to download VGG-16 with Keras, or the path of a file with the
            weights of VGG-16. The file is one of `keras.applications` (.h5,
            .hdf5 or .keras), or a state dict of torchvision's VGG-16 or
            VGG-16-BN (.pth, .pt or .safetensors, which require
            `keras-deconv[torch]`). With `fc_units=4096`, the fully connected
            layers are loaded too, so the file must contain them. The model then
            takes RGB images in 0..255. For grayscale images, the kernels of the
            first convolution are summed over red, green and blue; for other
            numbers of channels, they are repeated. Features at the border
            differ from those of VGG-16: here convolutions pad with black, as in
            the authors' networks, and not with the mean color.
        use_bias: bool. Whether convolutions before batch normalization have
            biases, as in the authors' code. The classifier always has biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The authors feed BGR images with the mean color
        subtracted. Because of batch normalization, you can train with any order
        of channels and any scale; with VGG-16 weights, pass RGB in 0..255.

        Number of parameters with 3 channels and 21 classes: 251,805,653
        trainable and 33,408 non-trainable. With `fc_units=1024`: 81,917,909
        trainable and 21,120 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`, or if
            height or width is less than 193.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `fc_units` or `decoder_kernel_size` is not an int >= 1.
        ValueError: If `decoder` is not one of the four methods, or
            `decoder_initializer` is not an initializer.
        ValueError: If `use_bias` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If the file of `encoder_weights` does not exist, cannot be
            read, lacks an array or has one of another shape, or holds NaN,
            infinities or negative variances.

    Edge cases:
        If height and width are None in `input_shape`, an image of less than 193
        pixels causes an error of the backend at the layer `fc6`, because its
        kernel does not fit.

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
