"""QuickNAT and Bayesian QuickNAT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from keras_deconv import _arguments
from keras_deconv.models import _blocks, _weight_files
from keras_deconv.models._blocks import LAST

__all__ = ["QuickNAT"]

Tensor = Any

NUM_STAGES = 4
FILTERS = 64
KERNEL_SIZE = 5
# PyTorch's default epsilon.
EPSILON = 1e-5
# Squeeze-and-excitation reduces the number of channels by this factor.
REDUCTION = 2
# The authors' forward pass calls decode4, decode1, decode2, decode3.
DECODERS = {4: "decode4", 3: "decode1", 2: "decode2", 1: "decode3"}


def QuickNAT(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = FILTERS,
    squeeze_excitation: bool = False,
    dropout: float = 0.2,
    decoder: str = "max_unpool",
    weights: str | Path | None = None,
    classifier_activation: str | None = None,
    name: str = "quicknat",
) -> keras.Model:
    """QuickNAT: dense blocks, max unpooling and skips, for slices of the brain.

    Use it for medical volumes that are segmented slice by slice, or for any
    images where you want both unpooling and skip connections. It has four
    encoder stages, a bottleneck and four decoder stages, each with one dense
    block: convolutions of 5x5, 5x5 and 1x1, each of which takes the block's
    input and all earlier outputs. Batch normalization and PReLU precede each
    convolution. A decoder stage unpools with the index of its encoder stage and
    concatenates the encoder's features.

    Spatial dropout follows each block except the bottleneck, before pooling.
    With it, the network is also Bayesian QuickNAT: pass the trained model to
    `inference.predict_monte_carlo` to estimate uncertainty.

    Reference: Roy et al., 2019, "QuickNAT: A fully convolutional network for
    quick and accurate segmentation of neuroanatomy",
    https://arxiv.org/abs/1801.04161. Bayesian QuickNAT: Roy et al., "Bayesian
    QuickNAT: Model uncertainty in deep whole-brain segmentation for
    structure-wise quality control", https://arxiv.org/abs/1811.09800. The
    architecture is that of the authors' code,
    https://github.com/ai-med/quickNAT_pytorch (quicknat.py): convolutions have
    biases, batch normalization has PyTorch's epsilon (1e-5), and the three
    PReLUs of a block share one weight. There are two differences. Height and
    width need not be multiples of 16, as theirs must. Initial kernels are He
    normal, not PyTorch's.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 16. The authors use 1 channel.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
            The paper has 28; the authors' later settings have 33.
        filters: int >= 1. Number of filters of each convolution except the
            classifier; an even number with `squeeze_excitation=True`. With a
            value other than 64, the network is not the published one.
        squeeze_excitation: bool. Whether each block except the bottleneck is
            followed by channel and spatial squeeze-and-excitation, of which the
            larger value is taken (Roy, Navab and Wachinger, 2018,
            https://arxiv.org/abs/1803.02579). A file of `weights` requires it
            if its names contain "SELayer". Such layers of the bottleneck are
            not used, as in the authors' code.
        dropout: float, 0 <= rate < 1. Share of the channels that dropout sets
            to 0. With 0, the model does not have dropout layers.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        weights: None, or the path of a PyTorch state dict of the authors'
            network: .pth, .pt, .tar or .model (these require torch) or
            .safetensors (requires safetensors). Both packages are in the extra
            `keras-deconv[torch]`. A training checkpoint that contains a state
            dict is read too. Some files of the authors are whole models, which
            hold code. Make a state dict of one that you trust, in an
            environment that can import their code: `torch.save(torch.load(path,
            map_location="cpu", weights_only=False).state_dict(),
            "weights.pth")`. The file is treated as data; code in it is never
            executed.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The authors feed slices of volumes scaled to 0..1;
        a layer of the model divides by 255.

        Number of trainable parameters with 1 channel and without
        squeeze-and-excitation: 3,516,971 with 28 classes, and 3,517,296 with
        33. 8,070 are non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `filters` is not an int >= 1, or if it is odd and
            `squeeze_excitation` is True.
        ValueError: If `squeeze_excitation` is not a bool.
        ValueError: If `dropout` is not a number with 0 <= `dropout` < 1.
        ValueError: If `decoder` is not one of the four methods.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If the file of `weights` does not exist, cannot be read, or
            holds NaN, infinities or negative variances.
        ValueError: If that file lacks an array of the model, has an array that
            the model does not have, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.QuickNAT((None, None, 1), 28, filters=8)
        >>> prediction = keras_deconv.inference.predict_monte_carlo(
        ...     model, np.zeros((1, 19, 37, 1), "float32"), samples=2, verbose=0
        ... )
        >>> prediction.probabilities.shape, prediction.mean_variance.shape
        ((1, 19, 37, 28), (1, 19, 37))
    """
    _arguments.num_classes(num_classes)
    filters = _arguments.positive_int(filters, "filters")
    _arguments.boolean(squeeze_excitation, "squeeze_excitation")
    _arguments.rate(dropout, "dropout")
    _arguments.classifier_activation(classifier_activation)
    decoder = _arguments.choice(decoder, "decoder", _blocks.DECODERS)
    _weight_files.check(weights, _weight_files.TORCH_SUFFIXES)
    if squeeze_excitation and filters % REDUCTION:
        raise ValueError(
            f"`filters` must be a multiple of {REDUCTION} if "
            f"squeeze_excitation=True. Received: filters={filters}"
        )

    def after_block(x: Tensor, stage: str) -> Tensor:
        if squeeze_excitation:
            x = _squeeze_and_excite(x, stage)
        if dropout:
            x = layers.SpatialDropout2D(
                dropout, data_format=LAST, name=f"{stage}_dropout"
            )(x)
        return x

    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    poolings = []
    for number in range(1, NUM_STAGES + 1):
        stage = f"block{number}"
        x = after_block(_dense_block(x, filters, stage), stage)
        x, pooling = _blocks.pool(x, decoder=decoder, name=f"{stage}_pool")
        poolings.append(pooling)
    x = _dense_block(x, filters, "bottleneck")
    for number in range(NUM_STAGES, 0, -1):
        pooling, stage = poolings[number - 1], f"decoder{number}"
        x = _blocks.unpool(x, pooling, decoder=decoder, name=f"{stage}_unpool")
        x = _blocks.concatenate_skip(x, pooling.features, name=f"{stage}_skip")
        x = after_block(_dense_block(x, filters, stage), stage)
    outputs = _blocks.classifier(
        x, num_classes, 1, activation=classifier_activation
    )
    model = keras.Model(inputs, outputs, name=name)
    if weights is not None:
        _weight_files.load(
            model,
            weights,
            _names(),
            source="a PyTorch state dict of the authors' QuickNAT (one with "
            "SELayer in its names needs squeeze_excitation=True)",
            # The authors' code does not use the bottleneck's either.
            ignored=("bottleneck.SELayer.",),
        )
    return model


def _dense_block(x: Tensor, filters: int, stage: str) -> Tensor:
    """Apply three convolutions, each to the input and all earlier outputs."""
    activation = _blocks.prelu(shared_axes=(1, 2, 3), name=f"{stage}_prelu")
    found = [x]
    for i, kernel_size in enumerate((KERNEL_SIZE, KERNEL_SIZE, 1), start=1):
        x = found[0]
        if len(found) > 1:
            x = layers.Concatenate(name=f"{stage}_concatenate{i - 1}")(found)
        x = _blocks.norm(x, name=f"{stage}_norm{i}", epsilon=EPSILON, shift=0.0)
        x = layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            data_format=LAST,
            kernel_initializer="he_normal",
            name=f"{stage}_conv{i}",
        )(activation(x))
        found.append(x)
    return x


def _squeeze_and_excite(x: Tensor, stage: str) -> Tensor:
    """Weight channels and pixels, and take the larger value of the two."""
    filters = x.shape[-1]
    channels = layers.GlobalAveragePooling2D(
        data_format=LAST, keepdims=True, name=f"{stage}_squeeze"
    )(x)
    channels = layers.Dense(
        filters // REDUCTION, activation="relu", name=f"{stage}_excite1"
    )(channels)
    channels = layers.Dense(
        filters, activation="sigmoid", name=f"{stage}_excite2"
    )(channels)
    pixels = layers.Conv2D(
        1,
        1,
        activation="sigmoid",
        data_format=LAST,
        name=f"{stage}_excite_pixels",
    )(x)
    by_channel = layers.Multiply(name=f"{stage}_by_channel")([x, channels])
    by_pixel = layers.Multiply(name=f"{stage}_by_pixel")([x, pixels])
    return layers.Maximum(name=f"{stage}_maximum")([by_channel, by_pixel])


def _names() -> dict[str, str]:
    """Map names of our layers to those of the authors."""
    blocks = {"bottleneck": "bottleneck"}
    for number in range(1, NUM_STAGES + 1):
        blocks[f"block{number}"] = f"encode{number}"
        blocks[f"decoder{number}"] = DECODERS[number]
    names = {"logits": "classifier.conv"}
    for ours, theirs in blocks.items():
        for i in (1, 2, 3):
            names[f"{ours}_norm{i}"] = f"{theirs}.batchnorm{i}"
            names[f"{ours}_conv{i}"] = f"{theirs}.conv{i}"
        names[f"{ours}_prelu"] = f"{theirs}.prelu"
        names[f"{ours}_excite1"] = f"{theirs}.SELayer.cSE.fc1"
        names[f"{ours}_excite2"] = f"{theirs}.SELayer.cSE.fc2"
        names[f"{ours}_excite_pixels"] = f"{theirs}.SELayer.sSE.conv"
    return names
