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
FILTERS = (64, 128)  # of stage 1, and of stages 2 and 3
# Bottlenecks of stages 2 and 3: 3x3 with a dilation rate, or 5x1 and 1x5.
ASYMMETRIC = "asymmetric"
STAGE: tuple[int | str, ...] = (1, 2, ASYMMETRIC, 4, 1, 8, ASYMMETRIC, 16)
ASYMMETRIC_SIZE = 5
# Numbers of the bottlenecks of each stage, in the order of the network.
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
    """ENet: a large encoder of bottlenecks, a small decoder, few parameters.

    Images are halved three times at the beginning, features are computed at an
    eighth of the size, and the decoder mostly restores it: two blocks unpool
    with the indices of the encoder, the last step is a transposed convolution.

    Reference: Paszke, Chaurasia, Kim and Culurciello, 2016, "ENet: A deep
    neural network architecture for real-time semantic segmentation",
    https://arxiv.org/abs/1606.02147, and the authors' network in Lua,
    https://github.com/e-lab/ENet-training (train/models), which is built here.
    It differs from the paper and from the ports in what the paper leaves open:
    a bottleneck is a quarter of its *output* wide, the main convolution of a
    bottleneck has a bias, the asymmetric pair is one row high first and has
    nothing between its two, the expansion has no activation, PReLU has one
    weight per channel, the decoder has ReLU and no dropout. Max unpooling takes
    the projected tensor, and the initial block's index is not used again.
    Dropout of whole channels is 0.01 in stage 1, 0.1 in stages 2 and 3. First
    values are those of this package, He's normal distribution for kernels and
    a shift of 0.001 after normalization, and not Torch's. Before training,
    predictions are of no use, not even as a start: what many added branches
    leave is large until normalization has seen some batches.

    Args:
        input_shape: `(height, width, channels)`. Height and width may be None
            and need not be multiples of 8. The initial block adds 13 filters to
            the channels, so that color images get 16.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        width_multiplier: float > 0. Scales the filters of all blocks: 13 in the
            initial block, 64 in stage 1 and 128 in stages 2 and 3, the latter
            two rounded to multiples of 4. A value other than 1 leaves the
            published network.
        decoder: How blocks 4.0 and 5.0 restore their size: "max_unpool" (the
            published one), "bed_of_nails", "nearest" or "conv_transpose".
        decoder_activation: Activation of the decoder: "relu", as in the
            authors' code, or "prelu", as in the network that they trained on
            Cityscapes.
        weights: None, or the path of a PyTorch state dict of the authors' Torch
            network: .pth, .pt, .tar or .model (needs torch) or .safetensors
            (needs safetensors), both in the extra `keras-deconv[torch]`.
            https://github.com/bermanmaxim/Enet-PyTorch converts it; arrays are
            named by their place, from "0.0.weight" on. Torch's dropout scales
            in prediction, not in training: the normalization before it takes
            that over. Ports to PyTorch that were written anew, such as
            PyTorch-ENet, are other networks, and are refused. Code in a file
            is never run.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255 to float32 `(batch, height, width, num_classes)`.
        The authors feed RGB in 0..1: a layer of the model divides by 255.

        Trainable parameters with 3 channels: 363,791 with 11 classes, 363,856
        with 12, 364,311 with 19; 8,352 more do not train.
        `decoder_activation="prelu"` adds 336.

    Raises:
        ValueError: If an argument is not as described, or if the file of
            `weights` lacks an array, has others, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.ENet((None, None, 3), 11)
        >>> tuple(model(np.zeros((1, 45, 61, 3))).shape)
        (1, 45, 61, 11)
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
    width = _arguments.positive_number(width_multiplier, "width_multiplier")
    # A bottleneck is a quarter of its output wide.
    narrow, wide = (4 * max(round(n * width / 4), 1) for n in FILTERS)

    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = _initial_block(x, max(round(INITIAL_FILTERS * width), 4))
    if x.shape[-1] > narrow:
        raise ValueError(
            "`width_multiplier` must be larger for images of so many channels: "
            f"stage 1 would have {narrow} channels, fewer than the "
            f"{x.shape[-1]} of the initial block. Received: "
            f"width_multiplier={width_multiplier!r}, "
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
    # 16 of a color image: as many as the first index has channels.
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
    """Half the size: a convolution and a pooling side by side."""
    # As in Torch, one pixel at either side; "same" would add it at the end.
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
    """Half the size and more channels; the new ones are 0 in the main branch.

    The `Pooling` is what `_up_block` needs.
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
    """What a narrow branch finds, added to its input."""
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
    """Twice the size: unpooling beside a transposed convolution."""
    extension = _blocks.conv_norm(
        x, filters // 4, 1, use_bias=False, name=f"{name}_conv1"
    )
    extension = activation(extension, f"{name}_conv1")
    # Torch cuts one pixel at the beginning (its padding), "same" at the end.
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
    # What is unpooled needs the channels of the index.
    main = _blocks.conv_norm(
        x, filters, 1, use_bias=False, name=f"{name}_projection"
    )
    main = _blocks.unpool(main, pooling, decoder=decoder, name=f"{name}_unpool")
    return _expand_and_add(extension, main, 0.0, activation, name)


def _main_convolution(
    x: Tensor, kind: int | str, *, activation: Activation, name: str
) -> Tensor:
    """Convolution in the middle of a bottleneck, then its activation."""
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
    """Bring the extension to the channels of the main branch, and add it."""
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
    """Places in the authors' network by the names of layers.

    It is a list of modules, some of which are lists: the extension of a
    bottleneck is at 0.0, its main branch at 0.1, and what follows their sum at
    2. Activations without weights have a place too.
    """
    names = {"initial_conv": "0.0", "initial_norm": "2", "initial_prelu": "3"}
    # At 1 the two halves of the initial block are joined.
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
        # After the identity.
        names[f"{block}_projection"] = f"{place}.0.1.1"
        names[f"{block}_projection_norm"] = f"{place}.0.1.2"
        names[f"{block}_prelu"] = f"{place}.2"
        place += 1
    names["fullconv"] = f"{place}"
    return names


def _scale_before_dropout(
    arrays: _weight_files.Arrays, *, rates: Mapping[str, float]
) -> None:
    """Let normalization do what Torch's dropout does in prediction."""
    for block, rate in rates.items():
        scale, shift, *statistics = arrays[f"{block}_conv3_norm"]
        keep = np.float32(1 - rate)
        arrays[f"{block}_conv3_norm"] = [
            keep * scale,
            keep * shift,
            *statistics,
        ]
