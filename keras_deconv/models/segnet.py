"""SegNet and SegNet-Basic."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_deconv import arguments, blocks
from keras_deconv.models import weights

# Filters of each convolution, stage by stage: VGG-16, and its mirror image.
ENCODER_FILTERS = (
    (64, 64),
    (128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (512, 512, 512),
)
# A stage ends with the filters that the next one's index asks for. What would
# be the last convolution of the last stage is the classifier.
DECODER_FILTERS = (
    (64,),
    (128, 64),
    (256, 256, 128),
    (512, 512, 256),
    (512, 512, 512),
)
BASIC_FILTERS = ((64,),) * 4
# Dropout, where there is any, is in the stages from this one on.
FIRST_DROPOUT = 3


def SegNet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    decoder: str = "max_unpool",
    encoder_weights: str | Path | None = None,
    dropout: float = 0.0,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "segnet",
) -> keras.Model:
    """SegNet on VGG-16: 13 convolutions down, 13 up, one class per pixel.

    Each of the five decoder stages unpools with the index of its encoder
    stage, then convolves; the last convolution is the classifier.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation",
    https://arxiv.org/abs/1511.00561, and the authors' network,
    https://github.com/alexgkendall/SegNet-Tutorial
    (Models/segnet_train.prototxt), which is built here: sizes are rounded up
    in pooling and restored exactly, and convolutions have biases. The paper
    says that they have none: `use_bias=False`.

    Args:
        input_shape: `(height, width, channels)`. Height and width may be None
            and need not be multiples of 32.
        num_classes: int >= 1. Classes, void not counted.
        decoder: How a decoder stage restores its size: "max_unpool" (the
            published one), "bed_of_nails", "nearest" or "conv_transpose"
            (transposed convolution with the window and strides of pooling,
            which adds parameters).
        encoder_weights: None (He initialisation), "imagenet", or the path of
            a VGG-16 weights file of `keras.applications`.
        dropout: 0 <= rate < 1. Dropout after pooling 3 to 5 and after decoder
            stages 5 to 3, where Bayesian SegNet has it. The authors' SegNet
            has none.
        use_bias: Whether convolutions before batch normalisation have biases.
            The classifier always has.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255 to float32 `(batch, height, width, num_classes)`.
        The authors feed BGR without taking a mean away; batch normalisation
        takes any order and scale, and RGB where VGG-16 weights are loaded.

        Trainable parameters with 3 channels and 11 classes: 29,449,355 with
        biases, 29,441,419 without; 15,872 more do not train.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNet((None, None, 3), 11)
        >>> tuple(model(np.zeros((1, 35, 47, 3))).shape)
        (1, 35, 47, 11)
    """
    decoder = _check(
        input_shape, num_classes, decoder, dropout, classifier_activation
    )
    inputs = keras.Input(input_shape, name="image")
    x = _encode_and_decode(
        inputs,
        ENCODER_FILTERS,
        DECODER_FILTERS,
        kernel_size=3,
        decoder_conv=blocks.conv_norm_relu,
        decoder=decoder,
        dropout=dropout,
        use_bias=use_bias,
    )
    outputs = blocks.classifier(
        x, num_classes, 3, activation=classifier_activation
    )
    model = keras.Model(inputs, outputs, name=name)
    if encoder_weights is not None:
        weights.load_vgg16(model, encoder_weights)
    return model


def SegNetBasic(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    decoder: str = "max_unpool",
    dropout: float = 0.0,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "segnet_basic",
) -> keras.Model:
    """SegNet-Basic: four 7x7 convolutions down, four up, 64 filters each.

    The small SegNet that the paper compares decoders with. Decoder stages have
    no ReLU, and the image is normalised across its channels first.

    Reference: as for `SegNet`, section 3 of the paper and
    Models/segnet_basic_train.prototxt of the authors, which is built here:
    it has biases before batch normalisation (the paper: none), and local
    response normalisation with Caffe's alpha of 1e-4 over 5 channels (the
    paper: local contrast normalisation).

    Args:
        input_shape: As for `SegNet`.
        num_classes: int >= 1. Classes, void not counted.
        decoder: As for `SegNet`.
        dropout: 0 <= rate < 1. Dropout after pooling 3 and 4 and after decoder
            stages 4 and 3, where Bayesian SegNet-Basic has it.
        use_bias: Whether convolutions before batch normalisation have biases.
            The classifier always has.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255 to float32 `(batch, height, width, num_classes)`.
        The range matters here, for the normalisation of the image is no linear
        function; the order of the colours does not.

        Trainable parameters with 3 channels and 11 classes: 1,416,587 with
        biases, 1,416,075 without; 1,024 more do not train.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNetBasic((30, 45, 3), 4)
        >>> tuple(model(np.zeros((2, 30, 45, 3))).shape)
        (2, 30, 45, 4)
        >>> model.count_params()
        1417156
    """
    decoder = _check(
        input_shape, num_classes, decoder, dropout, classifier_activation
    )
    inputs = keras.Input(input_shape, name="image")
    x = _encode_and_decode(
        blocks.local_response_norm(inputs),
        BASIC_FILTERS,
        BASIC_FILTERS,
        kernel_size=7,
        decoder_conv=blocks.conv_norm,
        decoder=decoder,
        dropout=dropout,
        use_bias=use_bias,
    )
    outputs = blocks.classifier(
        x, num_classes, 1, activation=classifier_activation
    )
    return keras.Model(inputs, outputs, name=name)


def _encode_and_decode(
    x: Any,
    encoder_filters: Sequence[Sequence[int]],
    decoder_filters: Sequence[Sequence[int]],
    *,
    kernel_size: int,
    decoder_conv: Callable[..., Any],
    decoder: str,
    dropout: float,
    use_bias: bool,
) -> Any:
    """All of a SegNet between the image and the classifier."""
    poolings = []
    for number, stage in enumerate(encoder_filters, start=1):
        for i, filters in enumerate(stage, start=1):
            x = blocks.conv_norm_relu(
                x,
                filters,
                kernel_size,
                use_bias=use_bias,
                name=f"block{number}_conv{i}",
            )
        x, pooling = blocks.pool(x, decoder=decoder, name=f"block{number}_pool")
        poolings.append(pooling)
        if number >= FIRST_DROPOUT:
            x = blocks.dropout(x, dropout, name=f"block{number}_dropout")
    for number in range(len(poolings), 0, -1):
        x = blocks.unpool(
            x,
            poolings[number - 1],
            decoder=decoder,
            name=f"decoder{number}_unpool",
        )
        for i, filters in enumerate(decoder_filters[number - 1], start=1):
            x = decoder_conv(
                x,
                filters,
                kernel_size,
                use_bias=use_bias,
                name=f"decoder{number}_conv{i}",
            )
        if number >= FIRST_DROPOUT:
            x = blocks.dropout(x, dropout, name=f"decoder{number}_dropout")
    return x


def _check(
    input_shape: Sequence[int | None],
    num_classes: int,
    decoder: str,
    dropout: float,
    classifier_activation: str | None,
) -> str:
    """Check what all SegNets take; give the decoder in lower case."""
    sizes = list(input_shape) if isinstance(input_shape, Iterable) else []
    if len(sizes) != 3 or sizes[2] is None:
        raise ValueError(
            "`input_shape` must be (height, width, channels) without the "
            "batch; height and width may be None, channels may not. "
            f"Received: input_shape={input_shape!r}"
        )
    for size in sizes:
        if size is not None:
            arguments.positive_int(size, "input_shape")
    arguments.positive_int(num_classes, "num_classes")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(
            "`dropout` must be a rate of at least 0 and below 1. Received: "
            f"dropout={dropout!r}"
        )
    if classifier_activation not in (None, "softmax"):
        raise ValueError(
            "`classifier_activation` must be None (logits) or 'softmax'. "
            f"Received: classifier_activation={classifier_activation!r}"
        )
    return arguments.choice(decoder, "decoder", blocks.DECODERS)
