"""Stages of encoder-decoder networks, as functions from tensor to tensor.

The interface of the two halves: an encoder stage returns the pooled tensor and
a `Pooling`, which holds all that the decoder stage of the same size needs to
restore that size. Layers are named `<stage>_<layer>`, such as `block1_conv2`,
`block1_pool` and `decoder1_unpool`. Weights are loaded by these names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_deconv import _arguments
from keras_deconv.layers import (
    BedOfNailsUnpool2D,
    MaxPoolWithArgmax2D,
    MaxUnpool2D,
    NearestUnpool2D,
)
from keras_deconv.layers.cropping import CropLike2D

Tensor = Any

# Independent of the Keras configuration: TensorFlow's convolutions on CPUs do
# not support channels_first.
LAST = "channels_last"

# Filters of each convolution of VGG-16, stage by stage.
VGG16_FILTERS = (
    (64, 64),
    (128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (512, 512, 512),
)

DECODERS = ("max_unpool", "bed_of_nails", "nearest", "conv_transpose")


class Pooling(NamedTuple):
    """The output of an encoder stage that its decoder stage needs."""

    features: Tensor  # the input of the pooling
    argmax: Tensor | None  # None if the decoder does not use an index


def conv_norm(
    x: Tensor,
    filters: int,
    kernel_size: Any,
    *,
    use_bias: bool,
    name: str,
    convolution: type[keras.Layer] = layers.Conv2D,
    padding: str = "same",
    kernel_initializer: Any = "he_normal",
    **options: Any,
) -> Tensor:
    """Apply a convolution and batch normalization.

    Initial values are those of the SegNet authors: He normal for kernels, and
    scale 1 and shift 0.001 for batch normalization.
    """
    x = convolution(
        filters,
        kernel_size,
        padding=padding,
        data_format=LAST,
        use_bias=_arguments.boolean(use_bias, "use_bias"),
        kernel_initializer=_fresh(kernel_initializer),
        name=name,
        **options,
    )(x)
    return norm(x, name=f"{name}_norm")


def _fresh(initializer: Any) -> Any:
    """Return a copy of an initializer with a different seed.

    An initializer returns the same values for each layer with the same shape.
    One without `get_config` cannot be copied and is returned unchanged.
    """
    base = keras.initializers.Initializer
    if (
        isinstance(initializer, base)
        and type(initializer).get_config is not base.get_config
    ):
        return initializer.clone()
    return initializer


def norm(
    x: Tensor, *, name: str, epsilon: float = 1e-3, shift: float = 0.001
) -> Tensor:
    """Apply batch normalization over images and pixels.

    The SegNet authors do not keep moving averages. With a momentum of 0.9, as
    in PyTorch, ours follow the weights within tens of steps. The default
    `epsilon` is that of Keras; the SegNet authors use 1e-9. PyTorch's defaults
    are an `epsilon` of 1e-5 and an initial `shift` of 0.
    """
    return layers.BatchNormalization(
        momentum=0.9,
        epsilon=epsilon,
        beta_initializer=keras.initializers.Constant(shift),
        name=name,
    )(x)


def prelu(*, shared_axes: Sequence[int], name: str) -> layers.PReLU:
    """Return a PReLU with PyTorch's initial value and shared weights."""
    return layers.PReLU(
        alpha_initializer=keras.initializers.Constant(0.25),
        shared_axes=list(shared_axes),
        name=name,
    )


def concatenate_skip(x: Tensor, features: Tensor, *, name: str) -> Tensor:
    """Concatenate the encoder's features and the unpooled values."""
    return layers.Concatenate(name=f"{name}_concatenate")([features, x])


def conv_norm_relu(
    x: Tensor,
    filters: int,
    kernel_size: Any,
    *,
    name: str,
    activation: Any = "relu",
    **options: Any,
) -> Tensor:
    """Apply `conv_norm`, then ReLU or another activation."""
    x = conv_norm(x, filters, kernel_size, name=name, **options)
    if activation == "relu":
        return layers.ReLU(name=f"{name}_relu")(x)
    return layers.Activation(activation, name=f"{name}_activation")(x)


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


def unpool(
    x: Tensor,
    pooling: Pooling,
    *,
    decoder: str,
    name: str,
    decoder_kernel_size: int = 2,
    decoder_initializer: Any = "he_normal",
) -> Tensor:
    """Restore the height and width that `pool` halved, with the same channels.

    `decoder_kernel_size` and `decoder_initializer` apply to transposed
    convolution. By default, its kernel is the pooling window, so that outputs
    do not overlap.
    """
    _arguments.positive_int(decoder_kernel_size, "decoder_kernel_size")
    # Checked without creating an instance, which would draw a seed.
    if not callable(decoder_initializer) and not isinstance(
        decoder_initializer, str | Mapping
    ):
        raise ValueError(
            "`decoder_initializer` must be a Keras initializer or its name. "
            f"Received: decoder_initializer={decoder_initializer!r}"
        )
    options: dict[str, Any] = dict(padding="same", data_format=LAST, name=name)
    # `keras.RematScope` does not support keyword arguments on TensorFlow, so
    # `like` is positional.
    if decoder == "max_unpool":
        unpooling = MaxUnpool2D(**options)
        return unpooling(x, pooling.argmax, pooling.features)
    if decoder == "bed_of_nails":
        return BedOfNailsUnpool2D(**options)(x, pooling.features)
    if decoder == "nearest":
        return NearestUnpool2D(**options)(x, pooling.features)
    x = layers.Conv2DTranspose(
        x.shape[-1],
        decoder_kernel_size,
        strides=2,
        padding="same",
        data_format=LAST,
        kernel_initializer=_fresh(decoder_initializer),
        name=name,
    )(x)
    return CropLike2D(data_format=LAST, name=f"{name}_crop")(
        x, pooling.features
    )


def encode(
    x: Tensor,
    filters: Sequence[Sequence[int]],
    kernel_size: int,
    *,
    decoder: str,
    use_bias: bool,
    dropout_rates: Sequence[float] = (),
    activation: Any = "relu",
) -> tuple[Tensor, list[Pooling]]:
    """Apply encoder stages: convolutions, then max pooling.

    Args:
        x: Images.
        filters: Filters of each convolution, stage by stage.
        kernel_size: Size of all kernels.
        decoder: One of `DECODERS`. Only "max_unpool" requires indices.
        use_bias: Whether the convolutions have biases.
        dropout_rates: Rate after each stage. The default is without dropout.
        activation: Activation after each normalization.

    Returns:
        The last pooled tensor, and the `Pooling` of each stage.
    """
    poolings = []
    for number, stage in enumerate(filters, start=1):
        for i, num_filters in enumerate(stage, start=1):
            x = conv_norm_relu(
                x,
                num_filters,
                kernel_size,
                use_bias=use_bias,
                activation=activation,
                name=f"block{number}_conv{i}",
            )
        x, pooling = pool(x, decoder=decoder, name=f"block{number}_pool")
        poolings.append(pooling)
        if dropout_rates:
            rate = dropout_rates[number - 1]
            x = dropout(x, rate, name=f"block{number}_dropout")
    return x, poolings


def decode(
    x: Tensor,
    poolings: Sequence[Pooling],
    filters: Sequence[Sequence[int]],
    kernel_size: int,
    *,
    conv: Callable[..., Tensor],
    dropout_rates: Sequence[float] = (),
    **options: Any,
) -> Tensor:
    """Apply decoder stages: unpooling, then convolutions.

    Args:
        x: Output of `encode`, or of further layers on it.
        poolings: The `Pooling` of each encoder stage.
        filters: Filters of each convolution, by number of the encoder stage.
            The last ones of a stage equal the channels of the next index.
        kernel_size: Size of all kernels.
        conv: Function of tensor, filters, kernel size and name that returns a
            tensor.
        dropout_rates: Rate after each stage. The default is without dropout.
        **options: Keyword arguments of `unpool`.
    """
    for number in range(len(poolings), 0, -1):
        x = unpool(
            x, poolings[number - 1], name=f"decoder{number}_unpool", **options
        )
        for i, num_filters in enumerate(filters[number - 1], start=1):
            x = conv(
                x, num_filters, kernel_size, name=f"decoder{number}_conv{i}"
            )
        if dropout_rates:
            rate = dropout_rates[number - 1]
            x = dropout(x, rate, name=f"decoder{number}_dropout")
    return x


def dropout(x: Tensor, rate: float, *, name: str) -> Tensor:
    """Apply dropout of single values, without a layer if `rate` is 0."""
    return layers.Dropout(rate, name=name)(x) if rate else x


def classifier(
    x: Tensor,
    num_classes: int,
    kernel_size: int,
    *,
    activation: str | None,
    kernel_initializer: Any = "he_normal",
) -> Tensor:
    """Return float32 logits per pixel, or probabilities with an activation."""
    x = layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        data_format=LAST,
        kernel_initializer=_fresh(kernel_initializer),
        dtype="float32",
        name="logits",
    )(x)
    return activate(x, activation)


def activate(logits: Tensor, activation: str | None) -> Tensor:
    """Apply an activation to logits in float32; None does not change them."""
    if activation is None:
        return logits
    layer = layers.Activation(activation, dtype="float32", name=activation)
    return layer(logits)
