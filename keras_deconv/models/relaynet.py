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
# PyTorch's default epsilon.
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
    """ReLayNet: max unpooling and skips, for the layers of the retina.

    Use it for OCT scans of the retina, or when you want a small network with
    both unpooling and skip connections. It has three encoder stages of one
    convolution, a bottleneck, and three decoder stages. A decoder stage unpools
    with the index of its encoder stage and concatenates the encoder's features.
    Kernels are 7 pixels high and 3 wide, because the layers of the retina are
    horizontal.

    Reference: Roy et al., 2017, "ReLayNet: Retinal layer and fluid segmentation
    of macular optical coherence tomography using fully convolutional networks",
    https://arxiv.org/abs/1704.02161. The architecture is that of the authors'
    code, https://github.com/ai-med/relaynet_pytorch (networks/relay_net.py):
    convolutions have biases, batch normalization has PyTorch's epsilon (1e-5),
    and each PReLU has one weight for all channels. There are two differences.
    Height and width need not be multiples of 8, as theirs must. Initial kernels
    are He normal, not PyTorch's.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 8. The authors use 1 channel.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
            The authors' code has 10, the paper 9.
        filters: int >= 1. Number of filters of each convolution except the
            classifier. With a value other than 64, the network is not the
            published one.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        weights: None, or the path of a PyTorch state dict of the authors'
            network: .pth, .pt, .tar or .model (these require torch) or
            .safetensors (requires safetensors). Both packages are in the extra
            `keras-deconv[torch]`. The authors save whole models, which hold
            code. Make a state dict of one that you trust, in an environment
            that can import their code: `torch.save(torch.load(path,
            map_location="cpu", weights_only=False).state_dict(),
            "weights.pth")`. The file is treated as data; code in it is never
            executed.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` to float32 logits or probabilities `(batch, height, width,
        num_classes)`. You can train with any range of values. With `weights`,
        pass the range of their training; the authors' code does not document
        the range of its data file.

        Number of trainable parameters: 777,489 with 1 channel and 10 classes,
        777,424 with 1 and 9, 780,242 with 3 and 11. 896 are non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `filters` is not an int >= 1.
        ValueError: If `decoder` is not one of the four methods.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If the file of `weights` does not exist, cannot be read, or
            holds NaN, infinities or negative variances.
        ValueError: If that file lacks an array of the model, has an array that
            the model does not have, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.ReLayNet((None, None, 1), 10, filters=8)
        >>> logits = model.predict(np.zeros((1, 45, 61, 1)), verbose=0)
        >>> logits.shape
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
    """Map names of our layers to those of the authors.

    They number decoder stages in the order of the network.
    """
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
