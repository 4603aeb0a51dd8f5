"""Stages of encoder-decoder networks, as functions from tensor to tensor.

The contract between the two halves: an encoder stage gives the pooled tensor
and a `Pooling`, in which the decoder stage of the same size finds all it needs
to restore that size. Layers are named `<stage>_<what>`: `block1_conv2`,
`block1_pool`, `decoder1_unpool`; weights are matched by these names.
"""

from typing import Any, NamedTuple

import keras
from keras import layers, ops

from keras_deconv.layers import (
    BedOfNailsUnpool2D,
    MaxPoolWithArgmax2D,
    MaxUnpool2D,
    NearestUnpool2D,
)
from keras_deconv.layers.cropping import CropLike2D

Tensor = Any

# Whatever the Keras configuration says: convolutions on CPUs need it.
LAST = "channels_last"

DECODERS = ("max_unpool", "bed_of_nails", "nearest", "conv_transpose")


class Pooling(NamedTuple):
    """What an encoder stage leaves for the decoder stage of its size."""

    features: Tensor  # what was pooled; only its height and width are used
    argmax: Tensor | None  # None where the decoder needs no index


def conv_norm(
    x: Tensor,
    filters: int,
    kernel_size: int,
    *,
    use_bias: bool,
    name: str,
) -> Tensor:
    """Same-padded convolution and batch normalisation.

    Initial values are those of the SegNet authors: He's normal distribution,
    scale 1 and shift 0.001. Their batch normalisation keeps no moving average;
    a momentum of 0.9 lets ours follow the weights within tens of steps.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        data_format=LAST,
        use_bias=use_bias,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return layers.BatchNormalization(
        momentum=0.9,
        beta_initializer=keras.initializers.Constant(0.001),
        name=f"{name}_norm",
    )(x)


def conv_norm_relu(
    x: Tensor,
    filters: int,
    kernel_size: int,
    *,
    use_bias: bool,
    name: str,
) -> Tensor:
    """`conv_norm`, then ReLU."""
    x = conv_norm(x, filters, kernel_size, use_bias=use_bias, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)


def pool(x: Tensor, *, decoder: str, name: str) -> tuple[Tensor, Pooling]:
    """Halve height and width, rounding up as Caffe does."""
    if decoder == "max_unpool":
        pooled, argmax = MaxPoolWithArgmax2D(
            padding="same", data_format=LAST, name=name
        )(x)
    else:
        pooled = layers.MaxPooling2D(
            padding="same", data_format=LAST, name=name
        )(x)
        argmax = None
    return pooled, Pooling(x, argmax)


def unpool(x: Tensor, pooling: Pooling, *, decoder: str, name: str) -> Tensor:
    """Restore the height and width that `pool` halved, channels unchanged."""
    if decoder == "max_unpool":
        layer = MaxUnpool2D(padding="same", data_format=LAST, name=name)
        return layer(x, pooling.argmax, like=pooling.features)
    if decoder == "bed_of_nails":
        return BedOfNailsUnpool2D(data_format=LAST, name=name)(
            x, like=pooling.features
        )
    if decoder == "nearest":
        return NearestUnpool2D(data_format=LAST, name=name)(
            x, like=pooling.features
        )
    # Kernel and strides are the pooling window: no overlap, so no
    # checkerboard.
    x = layers.Conv2DTranspose(
        x.shape[-1],
        2,
        strides=2,
        padding="same",
        data_format=LAST,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return CropLike2D(data_format=LAST, name=f"{name}_crop")(
        x, like=pooling.features
    )


def dropout(x: Tensor, rate: float, *, name: str) -> Tensor:
    """Dropout of single values; no layer at all where `rate` is 0."""
    return layers.Dropout(rate, name=name)(x) if rate else x


def classifier(
    x: Tensor,
    num_classes: int,
    kernel_size: int,
    *,
    activation: str | None,
) -> Tensor:
    """Logits per pixel, or what `activation` makes of them, in float32."""
    x = layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        data_format=LAST,
        kernel_initializer="he_normal",
        dtype="float32",
        name="logits",
    )(x)
    if activation is None:
        return x
    return layers.Activation(activation, dtype="float32", name=activation)(x)


def local_response_norm(
    x: Tensor,
    *,
    radius: int = 2,
    bias: float = 1.0,
    alpha: float = 2e-5,
    beta: float = 0.75,
) -> Tensor:
    """Divide each value by the energy of its neighbours across channels.

    `x / (bias + alpha * sum(x ** 2)) ** beta`, summed over `radius` channels
    at either side. Caffe divides its alpha by the number of channels of the
    window: its 1e-4 over 5 channels is 2e-5 here. In float32, since squares
    of 0..255 leave float16.

    Reference: Krizhevsky, Sutskever and Hinton, 2012, "ImageNet
    classification with deep convolutional neural networks", section 3.3.
    """
    num_channels = x.shape[-1]
    x = ops.cast(x, "float32")
    energy = ops.pad(ops.square(x), [(0, 0)] * 3 + [(radius, radius)])
    total = energy[..., :num_channels]
    for shift in range(1, 2 * radius + 1):
        total = total + energy[..., shift : shift + num_channels]
    return x / ops.power(bias + alpha * total, beta)
