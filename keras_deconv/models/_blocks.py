"""Stages of encoder-decoder networks, as functions from tensor to tensor.

The contract between the two halves: an encoder stage gives the pooled tensor
and a `Pooling`, in which the decoder stage of the same size finds all it needs
to restore that size. Layers are named `<stage>_<what>`: `block1_conv2`,
`block1_pool`, `decoder1_unpool`; weights are matched by these names.
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

# Whatever the Keras configuration says: convolutions on CPUs need it.
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
    """What an encoder stage leaves for the decoder stage of its size."""

    features: Tensor  # what was pooled; only its height and width are used
    argmax: Tensor | None  # None where the decoder needs no index


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
    """Convolution, transposed if `convolution` says so, and normalization.

    Initial values are those of the SegNet authors: He's normal distribution,
    scale 1 and shift 0.001.
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
    """An instance of its own for each layer, with a seed of its own.

    An initializer gives the same values whenever it is asked for a shape. One
    that does not say what it was made with stays as it is.
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
    """Batch normalization over images and pixels.

    The SegNet authors keep no moving average; a momentum of 0.9 lets ours
    follow the weights within tens of steps. It is also that of PyTorch, whose
    `epsilon` is 1e-5 and whose first `shift` is 0. The default `epsilon` is
    that of Keras; the SegNet authors' is 1e-9.
    """
    return layers.BatchNormalization(
        momentum=0.9,
        epsilon=epsilon,
        beta_initializer=keras.initializers.Constant(shift),
        name=name,
    )(x)


def prelu(*, shared_axes: Sequence[int], name: str) -> layers.PReLU:
    """PReLU as PyTorch begins it, one weight for all of `shared_axes`."""
    return layers.PReLU(
        alpha_initializer=keras.initializers.Constant(0.25),
        shared_axes=list(shared_axes),
        name=name,
    )


def concatenate_skip(x: Tensor, features: Tensor, *, name: str) -> Tensor:
    """What the encoder had at this size, then what was unpooled."""
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
    """`conv_norm`, then ReLU or another activation."""
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
    """Restore the height and width that `pool` halved, channels unchanged.

    Kernel size and initializer are those of transposed convolution. By default
    its kernel and strides are the pooling window: no overlap.
    """
    _arguments.positive_int(decoder_kernel_size, "decoder_kernel_size")
    # An instance is not made for the check: that would draw a seed.
    if not callable(decoder_initializer) and not isinstance(
        decoder_initializer, str | Mapping
    ):
        raise ValueError(
            "`decoder_initializer` must be an initializer of Keras or its "
            f"name. Received: decoder_initializer={decoder_initializer!r}"
        )
    options: dict[str, Any] = dict(padding="same", data_format=LAST, name=name)
    # `like` without its name: `keras.RematScope` takes no names on TensorFlow.
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
    """Stages of convolutions, each halved at its end.

    Args:
        x: Images.
        filters: Filters of each convolution, stage by stage.
        kernel_size: Size of all kernels.
        decoder: One of `DECODERS`; decides whether indices are needed.
        use_bias: Whether the convolutions have biases.
        dropout_rates: Rate after each stage; none by default.
        activation: What follows each normalization.

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
    """Stages of unpooling and convolutions, the mirror image of `encode`.

    Args:
        x: What comes out of `encode`, or further layers on it.
        poolings: What `encode` left, stage by stage.
        filters: Filters of each convolution, by number of the encoder stage.
            A stage ends with as many as the next one's index has channels.
        kernel_size: Size of all kernels.
        conv: Maps tensor, filters, kernel size and name to a tensor.
        dropout_rates: Rate after each stage; none by default.
        **options: As for `unpool`.
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
    """Dropout of single values; no layer at all where `rate` is 0."""
    return layers.Dropout(rate, name=name)(x) if rate else x


def classifier(
    x: Tensor,
    num_classes: int,
    kernel_size: int,
    *,
    activation: str | None,
    kernel_initializer: Any = "he_normal",
) -> Tensor:
    """Logits per pixel, or what `activation` makes of them, in float32."""
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
    """What `activation` makes of logits, in float32; None keeps them."""
    if activation is None:
        return logits
    layer = layers.Activation(activation, dtype="float32", name=activation)
    return layer(logits)
