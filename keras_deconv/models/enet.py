"""ENet."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_deconv import _arguments
from keras_deconv.layers.cropping import CropLike2D
from keras_deconv.models import _blocks, _weight_files
from keras_deconv.models._blocks import LAST, Pooling
from keras_deconv.models._layers import PadChannels

__all__ = ["ENet"]

Tensor = Any
Activation = Callable[[Tensor, str], Tensor]

INITIAL_FILTERS = 13
FILTERS = (64, 128)  # of stage 1; of stages 2 and 3
MAX_WIDTH_MULTIPLIER = 16  # about 90 million parameters
# Bottlenecks of stages 2 and 3: the dilation rate of a 3x3 kernel, or
# ASYMMETRIC for a pair of 1x5 and 5x1 convolutions.
ASYMMETRIC = "asymmetric"
STAGE: tuple[int | str, ...] = (1, 2, ASYMMETRIC, 4, 1, 8, ASYMMETRIC, 16)
ASYMMETRIC_SIZE = 5
# (stage, bottleneck) in the order of the network.
BOTTLENECKS = (
    *((1, i) for i in range(5)),
    *((2, i) for i in range(9)),
    *((3, i) for i in range(8)),
    *((4, i) for i in range(3)),
    *((5, i) for i in range(2)),
)


def ENet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    width_multiplier: float = 1.0,
    decoder: str = "max_unpool",
    decoder_activation: str = "relu",
    weights: str | Path | None = None,
    classifier_activation: str | None = None,
    name: str = "enet",
) -> keras.Model:
    """ENet: a small network for real-time segmentation on limited hardware.

    Use it where speed and size matter most: it has 80 times fewer parameters
    than `SegNet`. A large encoder of bottleneck blocks halves images three
    times and computes most features at an eighth of the image size. The small
    decoder upsamples: two blocks unpool with the indices of the encoder, and
    the last layer is a transposed convolution.

    Reference: Paszke, Chaurasia, Kim and Culurciello, 2016, "ENet: A deep
    neural network architecture for real-time semantic segmentation",
    https://arxiv.org/abs/1606.02147. The architecture is that of the authors'
    Lua code, https://github.com/e-lab/ENet-training (train/models). In these
    details, which the paper leaves open, it differs from the paper or from
    ports of the network:

    - A bottleneck is a quarter of its *output* wide, and its main convolution
      has a bias.
    - In the asymmetric pair of convolutions, the kernel of height 1 comes
      first, and nothing is between the two.
    - The last convolution of a bottleneck is not followed by an activation
      before the sum.
    - PReLU has one weight per channel. The decoder has ReLU and no dropout.
    - Max unpooling follows the 1x1 projection. The index of the initial block
      is not used.
    - The rate of spatial dropout is 0.01 in stage 1, and 0.1 in stages 2 and 3.

    Initial values are those of this package, not Torch's: He normal for
    kernels, and a shift of 0.001 for batch normalization.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 8. The initial block appends 13 filters to the
            channels of the image, which makes 16 for color images.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        width_multiplier: float > 0 and <= 16. Scales the number of filters: 13
            in the initial block, 64 in stage 1 and 128 in stages 2 and 3. The
            latter two are rounded to multiples of 4. With a value other than 1,
            the network is not the published one.
        decoder: str. How blocks 4.0 and 5.0 upsample. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        decoder_activation: str. Activation of the decoder: "relu", as in the
            authors' code, or "prelu", as in the network that they trained on
            Cityscapes.
        weights: None, or the path of a PyTorch state dict of the authors' Torch
            network: .pth, .pt, .tar or .model (these require torch) or
            .safetensors (requires safetensors). Both packages are in the extra
            `keras-deconv[torch]`. To convert the authors' file, use
            https://github.com/bermanmaxim/Enet-PyTorch; it names arrays by
            their position, from "0.0.weight" on. Torch scales values in dropout
            during prediction, not during training; on loading, that scale moves
            into the batch normalization before it. Reimplementations in
            PyTorch, such as PyTorch-ENet, are different networks, and their
            files are rejected. The file is treated as data; code in it is never
            executed.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The authors feed RGB images in 0..1; a layer of
        the model divides by 255.

        Number of trainable parameters with 3 channels: 363,791 with 11 classes,
        363,856 with 12 and 364,311 with 19. 8,352 are non-trainable.
        `decoder_activation="prelu"` adds 336.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `width_multiplier` is not a number > 0 and <= 16, or so
            small that stage 1 has fewer channels than the initial block.
        ValueError: If `decoder` is not one of the four methods.
        ValueError: If `decoder_activation` is neither "relu" nor "prelu".
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If the file of `weights` does not exist, cannot be read, or
            holds NaN, infinities or negative variances.
        ValueError: If that file lacks an array of the model, has an array that
            the model does not have, or has one of another shape.

    Edge cases:
        The predictions of an untrained model are not useful, not even as a
        starting point: the sums over many residual branches stay large until
        batch normalization has seen some batches.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.ENet((None, None, 3), 11)
        >>> logits = model.predict(np.zeros((1, 45, 61, 3)), verbose=0)
        >>> logits.shape
        (1, 45, 61, 11)
        >>> model.count_params()
        372143
    """
    _arguments.num_classes(num_classes)
    _arguments.classifier_activation(classifier_activation)
    decoder = _arguments.choice(decoder, "decoder", _blocks.DECODERS)
    activation = ACTIVATIONS[
        _arguments.choice(
            decoder_activation, "decoder_activation", tuple(ACTIVATIONS)
        )
    ]
    _weight_files.check(weights, _weight_files.TORCH_SUFFIXES)
    width = _arguments.positive_number(
        width_multiplier, "width_multiplier", MAX_WIDTH_MULTIPLIER
    )
    # Multiples of 4: a bottleneck is a quarter of its output wide.
    narrow, wide = (4 * max(round(n * width / 4), 1) for n in FILTERS)

    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = _initial_block(x, max(round(INITIAL_FILTERS * width), 4))
    if x.shape[-1] > narrow:
        raise ValueError(
            "`width_multiplier` is too small for the number of image channels: "
            f"stage 1 would have {narrow} channels, fewer than the "
            f"{x.shape[-1]} of the initial block. Use a larger value. "
            f"Received: width_multiplier={width_multiplier!r}, "
            f"input_shape={tuple(input_shape)}"
        )
    x, pooling1 = _down_block(x, narrow, 0.01, decoder, "bottleneck1_0")
    for i in range(1, 5):
        x = _bottleneck(x, 1, 0.01, _prelu, f"bottleneck1_{i}")
    x, pooling2 = _down_block(x, wide, 0.1, decoder, "bottleneck2_0")
    for stage, first in ((2, 1), (3, 0)):
        for i, kind in enumerate(STAGE, start=first):
            x = _bottleneck(x, kind, 0.1, _prelu, f"bottleneck{stage}_{i}")
    x = _up_block(x, narrow, pooling2, decoder, activation, "bottleneck4_0")
    for i in range(1, 3):
        x = _bottleneck(x, 1, 0.0, activation, f"bottleneck4_{i}")
    # The channels of the first index: 16 for color images.
    num_filters = pooling1.features.shape[-1]
    x = _up_block(
        x, num_filters, pooling1, decoder, activation, "bottleneck5_0"
    )
    x = _bottleneck(x, 1, 0.0, activation, "bottleneck5_1")
    x = layers.Conv2DTranspose(
        num_classes,
        2,
        strides=2,
        data_format=LAST,
        kernel_initializer="he_normal",
        dtype="float32",
        name="fullconv",
    )(x)
    x = CropLike2D(data_format=LAST, dtype="float32", name="logits")(x, inputs)
    model = keras.Model(
        inputs, _blocks.activate(x, classifier_activation), name=name
    )
    if weights is not None:
        rates = {
            layer.name.removesuffix("_dropout"): layer.rate
            for layer in model.layers
            if isinstance(layer, layers.SpatialDropout2D)
        }
        _weight_files.load(
            model,
            weights,
            _names(),
            source="a PyTorch state dict of the authors' ENet, converted from "
            "Torch (one with 26.2.weight needs decoder_activation='prelu')",
            change=functools.partial(_scale_before_dropout, rates=rates),
        )
    return model


def _initial_block(x: Tensor, filters: int) -> Tensor:
    """Halve the size with a convolution and a pooling side by side."""
    # Torch pads both sides by one pixel; "same" would pad only the end.
    padded = layers.ZeroPadding2D(1, data_format=LAST, name="initial_padding")(
        x
    )
    conv = layers.Conv2D(
        filters,
        3,
        strides=2,
        data_format=LAST,
        kernel_initializer="he_normal",
        name="initial_conv",
    )(padded)
    pooled = layers.MaxPooling2D(
        padding="same", data_format=LAST, name="initial_pool"
    )(x)
    x = layers.Concatenate(name="initial_concatenate")([conv, pooled])
    return _prelu(_blocks.norm(x, name="initial_norm"), "initial")


def _down_block(
    x: Tensor, filters: int, rate: float, decoder: str, name: str
) -> tuple[Tensor, Pooling]:
    """Halve the size and add channels, which are 0 in the main branch.

    The returned `Pooling` is for `_up_block`.
    """
    extension = _blocks.conv_norm(
        x, filters // 4, 2, strides=2, use_bias=False, name=f"{name}_conv1"
    )
    extension = _prelu(extension, f"{name}_conv1")
    extension = _main_convolution(
        extension, 1, activation=_prelu, name=f"{name}_conv2"
    )
    main, pooling = _blocks.pool(x, decoder=decoder, name=f"{name}_pool")
    added = filters - main.shape[-1]
    main = PadChannels(added, name=f"{name}_channels")(main)
    return _expand_and_add(extension, main, rate, _prelu, name), pooling


def _bottleneck(
    x: Tensor, kind: int | str, rate: float, activation: Activation, name: str
) -> Tensor:
    """Add the output of a narrow branch to its input."""
    extension = _blocks.conv_norm(
        x, x.shape[-1] // 4, 1, use_bias=False, name=f"{name}_conv1"
    )
    extension = activation(extension, f"{name}_conv1")
    extension = _main_convolution(
        extension, kind, activation=activation, name=f"{name}_conv2"
    )
    return _expand_and_add(extension, x, rate, activation, name)


def _up_block(
    x: Tensor,
    filters: int,
    pooling: Pooling,
    decoder: str,
    activation: Activation,
    name: str,
) -> Tensor:
    """Double the size: unpooling beside a transposed convolution."""
    extension = _blocks.conv_norm(
        x, filters // 4, 1, use_bias=False, name=f"{name}_conv1"
    )
    extension = activation(extension, f"{name}_conv1")
    # Torch's padding removes one pixel at the start; "same" does at the end.
    extension = layers.Conv2DTranspose(
        filters // 4,
        3,
        strides=2,
        data_format=LAST,
        kernel_initializer="he_normal",
        name=f"{name}_conv2",
    )(extension)
    extension = layers.Cropping2D(
        ((1, 0), (1, 0)), data_format=LAST, name=f"{name}_conv2_padding"
    )(extension)
    extension = CropLike2D(data_format=LAST, name=f"{name}_conv2_crop")(
        extension, pooling.features
    )
    extension = _blocks.norm(extension, name=f"{name}_conv2_norm")
    extension = activation(extension, f"{name}_conv2")
    # Unpooling needs as many channels as the index has.
    main = _blocks.conv_norm(
        x, filters, 1, use_bias=False, name=f"{name}_projection"
    )
    main = _blocks.unpool(main, pooling, decoder=decoder, name=f"{name}_unpool")
    return _expand_and_add(extension, main, 0.0, activation, name)


def _main_convolution(
    x: Tensor, kind: int | str, *, activation: Activation, name: str
) -> Tensor:
    """Apply the middle convolution of a bottleneck and its activation."""
    filters = x.shape[-1]
    options: dict[str, Any] = dict(kernel_size=3, dilation_rate=kind)
    if kind == ASYMMETRIC:
        x = layers.Conv2D(
            filters,
            (1, ASYMMETRIC_SIZE),
            padding="same",
            data_format=LAST,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_row",
        )(x)
        options = dict(kernel_size=(ASYMMETRIC_SIZE, 1))
    x = _blocks.conv_norm(x, filters, use_bias=True, name=name, **options)
    return activation(x, name)


def _expand_and_add(
    extension: Tensor,
    main: Tensor,
    rate: float,
    activation: Activation,
    name: str,
) -> Tensor:
    """Expand the extension to the channels of the main branch, and add them."""
    extension = _blocks.conv_norm(
        extension,
        main.shape[-1],
        1,
        use_bias=False,
        name=f"{name}_conv3",
    )
    if rate:
        extension = layers.SpatialDropout2D(
            rate, data_format=LAST, name=f"{name}_dropout"
        )(extension)
    return activation(layers.Add(name=f"{name}_add")([main, extension]), name)


def _prelu(x: Tensor, name: str) -> Tensor:
    return _blocks.prelu(shared_axes=(1, 2), name=f"{name}_prelu")(x)


def _relu(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(name=f"{name}_relu")(x)


ACTIVATIONS: dict[str, Activation] = {"relu": _relu, "prelu": _prelu}


def _names() -> dict[str, str]:
    """Map names of our layers to positions in the authors' network.

    It is a list of modules, some of which are lists. In a bottleneck, 0.0 is
    the extension, 0.1 the main branch and 2 the module after their sum.
    Activations without weights count as modules too.
    """
    names = {"initial_conv": "0.0", "initial_norm": "2", "initial_prelu": "3"}
    # Position 1 joins the two halves of the initial block.
    place = len(names) + 1
    for stage, number in BOTTLENECKS:
        block = f"bottleneck{stage}_{number}"
        extension = ["conv1", "conv1_norm", "conv1_prelu"]
        first = 1 if stage == 2 else 0
        if stage in (2, 3) and number >= first:
            if STAGE[number - first] == ASYMMETRIC:
                extension.append("conv2_row")
        extension += ["conv2", "conv2_norm", "conv2_prelu"]
        extension += ["conv3", "conv3_norm"]
        for i, part in enumerate(extension):
            names[f"{block}_{part}"] = f"{place}.0.0.{i}"
        # Position 0 of this branch is the identity.
        names[f"{block}_projection"] = f"{place}.0.1.1"
        names[f"{block}_projection_norm"] = f"{place}.0.1.2"
        names[f"{block}_prelu"] = f"{place}.2"
        place += 1
    names["fullconv"] = f"{place}"
    return names


def _scale_before_dropout(
    arrays: _weight_files.Arrays, *, rates: Mapping[str, float]
) -> None:
    """Move the scale of Torch's dropout into batch normalization."""
    for block, rate in rates.items():
        scale, shift, *statistics = arrays[f"{block}_conv3_norm"]
        keep = np.float32(1 - rate)
        arrays[f"{block}_conv3_norm"] = [
            keep * scale,
            keep * shift,
            *statistics,
        ]
