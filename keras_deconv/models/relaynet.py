"""ReLayNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from keras_deconv import _arguments
from keras_deconv.models import _blocks, _weight_files
from keras_deconv.models._blocks import LAST

__all__ = ["ReLayNet"]

Tensor = Any

NUM_STAGES = 3
FILTERS = 64
KERNEL_SIZE = (7, 3)
# Of PyTorch.
EPSILON = 1e-5


def ReLayNet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = FILTERS,
    decoder: str = "max_unpool",
    weights: str | Path | None = None,
    classifier_activation: str | None = None,
    name: str = "relaynet",
) -> keras.Model:
    """ReLayNet: unpooling and skips, for the layers of the retina.

    Three encoder stages of one convolution, a bottleneck, and three decoder
    stages. A decoder stage unpools with the index of its encoder stage, and
    puts what the encoder had beside it. Kernels are 7 high and 3 wide, since
    the layers of the retina lie flat in the image.

    Reference: Roy et al., 2017, "ReLayNet: Retinal layer and fluid segmentation
    of macular optical coherence tomography using fully convolutional networks",
    https://arxiv.org/abs/1704.02161, and the authors' network,
    https://github.com/ai-med/relaynet_pytorch (networks/relay_net.py), which is
    built here: convolutions have biases, batch normalization is that of PyTorch
    (epsilon 1e-5), and each PReLU has one weight for all channels. Sizes that
    do not divide by 8 are restored, where theirs need ones that do. Kernels
    start with He's normal distribution, not with PyTorch's.

    Args:
        input_shape: `(height, width, channels)`. Height and width may be None
            and need not be multiples of 8. The authors have 1 channel.
        num_classes: int from 2 to 10,000. Classes, void not counted. The
            authors' code has 10, the paper 9.
        filters: int >= 1. Filters of each convolution but the classifier. A
            value other than the default leaves the published network.
        decoder: How a decoder stage restores its size: "max_unpool" (the
            published one), "bed_of_nails", "nearest" or "conv_transpose".
        weights: None, or the path of a PyTorch state dict of the authors'
            network: .pth, .pt, .tar or .model (needs torch) or .safetensors
            (needs safetensors), both in the extra `keras-deconv[torch]`. Code
            in a file is never run. The authors save whole models, which hold
            code; make a state dict of one that you trust, where their code can
            be imported: `torch.save(torch.load(path, map_location="cpu",
            weights_only=False).state_dict(), "weights.pth")`.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` to float32 `(batch, height, width, num_classes)`. Any range
        of values can be trained with. With `weights`, give the range of their
        training: the authors' code does not say what their data file holds.

        Trainable parameters: 777,489 with 1 channel and 10 classes, 777,424
        with 1 and 9, 780,242 with 3 and 11; 896 more do not train.

    Raises:
        ValueError: If an argument is not as described, or if the file of
            `weights` lacks an array, has others, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.ReLayNet((None, None, 1), 10)
        >>> tuple(model(np.zeros((1, 45, 61, 1))).shape)
        (1, 45, 61, 10)
    """
    _arguments.num_classes(num_classes)
    filters = _arguments.positive_int(filters, "filters")
    _arguments.classifier_activation(classifier_activation)
    decoder = _arguments.choice(decoder, "decoder", _blocks.DECODERS)
    _weight_files.check(weights, _weight_files.TORCH_SUFFIXES)

    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x, poolings = inputs, []
    for number in range(1, NUM_STAGES + 1):
        x = _block(x, filters, f"block{number}")
        x, pooling = _blocks.pool(
            x, decoder=decoder, name=f"block{number}_pool"
        )
        poolings.append(pooling)
    x = _block(x, filters, "bottleneck")
    for number in range(NUM_STAGES, 0, -1):
        pooling, stage = poolings[number - 1], f"decoder{number}"
        x = _blocks.unpool(x, pooling, decoder=decoder, name=f"{stage}_unpool")
        x = _blocks.concatenate_skip(x, pooling.features, name=f"{stage}_skip")
        x = _block(x, filters, stage)
    outputs = _blocks.classifier(
        x, num_classes, 1, activation=classifier_activation
    )
    model = keras.Model(inputs, outputs, name=name)
    if weights is not None:
        _weight_files.load(
            model,
            weights,
            _names(),
            source="a PyTorch state dict of the authors' ReLayNet",
        )
    return model


def _block(x: Tensor, filters: int, name: str) -> Tensor:
    x = layers.Conv2D(
        filters,
        KERNEL_SIZE,
        padding="same",
        data_format=LAST,
        kernel_initializer="he_normal",
        name=f"{name}_conv1",
    )(x)
    x = _blocks.norm(x, name=f"{name}_conv1_norm", epsilon=EPSILON, shift=0.0)
    prelu = _blocks.prelu(shared_axes=(1, 2, 3), name=f"{name}_conv1_prelu")
    return prelu(x)


def _names() -> dict[str, str]:
    """The authors' names of layers by ours. They count the decoder from 1."""
    blocks = {"bottleneck": "bottleneck"}
    for number in range(1, NUM_STAGES + 1):
        blocks[f"block{number}"] = f"encode{number}"
        blocks[f"decoder{NUM_STAGES + 1 - number}"] = f"decode{number}"
    names = {"logits": "classifier.conv"}
    for ours, theirs in blocks.items():
        names[f"{ours}_conv1"] = f"{theirs}.conv"
        names[f"{ours}_conv1_norm"] = f"{theirs}.batchnorm"
        names[f"{ours}_conv1_prelu"] = f"{theirs}.prelu"
    return names
