"""SegNet and SegNet-Basic, and the two as Bayesian networks."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_deconv import _arguments
from keras_deconv.models import _blocks, _vgg16, _weight_files
from keras_deconv.models._layers import LocalResponseNorm

__all__ = ["BayesianSegNet", "BayesianSegNetBasic", "SegNet", "SegNetBasic"]

# As published, stage by stage.
FILTERS = (64, 128, 256, 512, 512)
CONVS_PER_STAGE = (2, 2, 3, 3, 3)
BASIC_FILTERS = (64,) * 4
# Stages that have dropout, where there is any: the central ones.
DROPOUT_STAGES = (3, 4, 5)


def SegNet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: Sequence[int] = FILTERS,
    convs_per_stage: int | Sequence[int] = CONVS_PER_STAGE,
    kernel_size: int = 3,
    activation: Any = "relu",
    decoder: str = "max_unpool",
    decoder_kernel_size: int = 2,
    decoder_initializer: Any = "he_normal",
    encoder_weights: str | Path | None = None,
    weights: str | Path | None = None,
    extra_classifier: bool = False,
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
        num_classes: int from 2 to 10,000. Classes, void not counted.
        filters: Filters of each stage, one int >= 1 per stage. Their number is
            the depth of the network. Like the next three arguments, a value
            other than the default leaves the published network.
        convs_per_stage: Number of convolutions of each stage: an int >= 1 for
            all, or one per stage. The decoder mirrors it; its last one is the
            classifier.
        kernel_size: int >= 1. Kernel size of all convolutions.
        activation: What follows each batch normalization: the name of an
            activation of Keras, or a function.
        decoder: How a decoder stage restores its size: "max_unpool" (the
            published one), "bed_of_nails", "nearest" or "conv_transpose"
            (transposed convolution with the strides of pooling, which adds
            parameters).
        decoder_kernel_size: Kernel size of decoder="conv_transpose". No
            multiple of the strides, 2, draws a checkerboard, and a warning.
        decoder_initializer: Its initializer; `initializers` has two made for
            transposed convolution.
        encoder_weights: None (He initialization), "imagenet", or the path of
            a weights file: VGG-16 of `keras.applications`, or VGG-16 and
            VGG-16-BN of torchvision (.pth or .safetensors). For the published
            `filters`, `convs_per_stage` and `kernel_size` only. For gray
            images the kernels of the first convolution are summed over red,
            green and blue; for other numbers of channels they are repeated.
            Padding is black, as in the authors' networks, and not the mean
            color as in VGG-16 itself: features at the border differ from it.
        weights: None, or the path of a `.caffemodel` that the authors trained;
            Caffe is not needed. The model then takes RGB: the kernel of the
            first convolution is turned, since the authors feed BGR (0..255,
            without subtracting a mean). If a file was trained with a mean
            subtracted, subtract it from your images, too.
            A file that `compute_bn_statistics.py` wrote is ready to predict. A
            snapshot of a training has no statistics of batch normalization:
            call `models.recompute_batch_statistics` with training images
            first. To train on, start from a snapshot.
        extra_classifier: Whether the classifier is one convolution more, as in
            the authors' Bayesian SegNet for CamVid of their model zoo. By
            default it takes the place of the last one.
        dropout: 0 <= rate < 1. Dropout after pooling 3 to 5 and after decoder
            stages 5 to 3, where Bayesian SegNet has it. The authors' SegNet
            has none.
        use_bias: Whether convolutions before batch normalization have biases.
            The classifier always has.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255 to float32 `(batch, height, width, num_classes)`.
        The authors feed BGR without taking a mean away; batch normalization
        takes any order and scale, and RGB where weights are loaded.

        Trainable parameters with 3 channels and 11 classes: 29,449,355 with
        biases, 29,441,419 without; 15,872 more do not train. With biases and
        `extra_classifier` 29,486,411, and 16,000 that do not train.

    Raises:
        ValueError: If an argument is not as described, or if a file of weights
            lacks an array, has others, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNet((None, None, 3), 11)
        >>> tuple(model(np.zeros((1, 35, 47, 3))).shape)
        (1, 35, 47, 11)
    """
    _arguments.num_classes(num_classes)
    _arguments.classifier_activation(classifier_activation)
    encoder, mirror = _stages(filters, convs_per_stage)
    kernel_size = _arguments.positive_int(kernel_size, "kernel_size")
    _arguments.activation(activation, "activation")
    _arguments.boolean(extra_classifier, "extra_classifier")
    _vgg16.check_encoder_weights(encoder_weights)
    _weight_files.check(weights, _weight_files.CAFFE_SUFFIXES)
    if encoder_weights is not None:
        _check_is_vgg16(encoder, kernel_size)
        if weights is not None:
            raise ValueError(
                "`encoder_weights` must be None where `weights` are given, "
                "which hold the encoder too. Received: encoder_weights="
                f"{encoder_weights!r}, weights={weights!r}"
            )
    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = _encode_and_decode(
        inputs,
        encoder,
        # What would be the last convolution is the classifier.
        mirror if extra_classifier else [mirror[0][:-1], *mirror[1:]],
        kernel_size=kernel_size,
        conv=functools.partial(_blocks.conv_norm_relu, activation=activation),
        activation=activation,
        use_bias=use_bias,
        dropout=dropout,
        decoder=decoder,
        decoder_kernel_size=decoder_kernel_size,
        decoder_initializer=decoder_initializer,
    )
    outputs = _blocks.classifier(
        x, num_classes, kernel_size, activation=classifier_activation
    )
    model = keras.Model(inputs, outputs, name=name)
    if encoder_weights is not None:
        _vgg16.load_vgg16(model, encoder_weights)
    if weights is not None:
        names = _names(encoder)
        names["logits"] = "camvid" if extra_classifier else "conv1_1_D"
        _load_caffe(model, weights, names, "SegNet")
    return model


def BayesianSegNet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    decoder: str = "max_unpool",
    decoder_kernel_size: int = 2,
    decoder_initializer: Any = "he_normal",
    encoder_weights: str | Path | None = None,
    weights: str | Path | None = None,
    extra_classifier: bool = False,
    dropout: float = 0.5,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "bayesian_segnet",
) -> keras.Model:
    """SegNet that can say how sure it is: dropout in its six central stages.

    The same network as `SegNet`, with the same parameters. Dropout that stays
    on in prediction draws networks from what was learned;
    `inference.predict_monte_carlo` does it, and measures how far they disagree.
    `model.predict` is without dropout, as everywhere in Keras.

    Reference: Kendall, Badrinarayanan and Cipolla, 2015, "Bayesian SegNet:
    Model uncertainty in deep convolutional encoder-decoder architectures for
    scene understanding", https://arxiv.org/abs/1511.02680, and the authors'
    network, https://github.com/alexgkendall/SegNet-Tutorial
    (Models/bayesian_segnet_train.prototxt), which is built here ("central
    enc-dec"): dropout of single values after pooling 3, 4 and 5, so that the
    index is of what was pooled before, and after decoder stages 5, 4 and 3.
    Their batch normalization of this network starts with shift 0, here 0.001
    as in SegNet. Their nets for PASCAL drop before pooling and elsewhere; they
    are not built.

    Args:
        input_shape: As for `SegNet`.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        decoder: As for `SegNet`.
        decoder_kernel_size: As for `SegNet`.
        decoder_initializer: As for `SegNet`.
        encoder_weights: As for `SegNet`.
        weights: As for `SegNet`. `bayesian_segnet_camvid.caffemodel` of the
            authors' model zoo needs `extra_classifier=True`.
        extra_classifier: As for `SegNet`.
        dropout: 0 <= rate < 1. Share of the values dropped.
        use_bias: As for `SegNet`.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` as from `SegNet`.

    Raises:
        ValueError: If an argument is not as described, or if a file of weights
            lacks an array, has others, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.BayesianSegNet((32, 32, 3), 11)
        >>> model.get_layer("decoder5_dropout").rate
        0.5
        >>> tuple(model(np.zeros((1, 32, 32, 3))).shape)
        (1, 32, 32, 11)
    """
    return SegNet(
        input_shape,
        num_classes,
        decoder=decoder,
        decoder_kernel_size=decoder_kernel_size,
        decoder_initializer=decoder_initializer,
        encoder_weights=encoder_weights,
        weights=weights,
        extra_classifier=extra_classifier,
        dropout=dropout,
        use_bias=use_bias,
        classifier_activation=classifier_activation,
        name=name,
    )


def SegNetBasic(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: Sequence[int] = BASIC_FILTERS,
    convs_per_stage: int | Sequence[int] = 1,
    kernel_size: int = 7,
    activation: Any = "relu",
    decoder: str = "max_unpool",
    decoder_kernel_size: int = 2,
    decoder_initializer: Any = "he_normal",
    weights: str | Path | None = None,
    dropout: float = 0.0,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "segnet_basic",
) -> keras.Model:
    """SegNet-Basic: four 7x7 convolutions down, four up, 64 filters each.

    The small SegNet that the paper compares decoders with. Decoder stages have
    no ReLU, and the image is normalized across its channels first.

    Reference: as for `SegNet`, section 3 of the paper and
    Models/segnet_basic_train.prototxt of the authors, which is built here:
    it has biases before batch normalization (the paper: none), and local
    response normalization with Caffe's alpha of 1e-4 over 5 channels (the
    paper: local contrast normalization).

    Args:
        input_shape: As for `SegNet`.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        filters: Filters of each stage, one int >= 1 per stage. Their number is
            the depth of the network. Like the next three arguments, a value
            other than the default leaves the published network.
        convs_per_stage: Number of convolutions of each stage, in encoder and
            decoder: an int >= 1 for all, or one per stage.
        kernel_size: int >= 1. Kernel size of all convolutions but the
            classifier.
        activation: What follows each batch normalization of the encoder: the
            name of an activation of Keras, or a function.
        decoder: As for `SegNet`.
        decoder_kernel_size: As for `SegNet`.
        decoder_initializer: As for `SegNet`.
        weights: As for `SegNet`.
        dropout: 0 <= rate < 1. Dropout after pooling 3 and 4 and after decoder
            stages 4 and 3, where Bayesian SegNet-Basic has it.
        use_bias: Whether convolutions before batch normalization have biases.
            The classifier always has.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255 to float32 `(batch, height, width, num_classes)`.
        The range matters here, for the normalization of the image is no linear
        function; the order of the colors does not, and is RGB where weights are
        loaded.

        Trainable parameters with 3 channels and 11 classes: 1,416,587 with
        biases, 1,416,075 without; 1,024 more do not train.

    Raises:
        ValueError: If an argument is not as described, or if a file of weights
            lacks an array, has others, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNetBasic((30, 45, 3), 4)
        >>> tuple(model(np.zeros((2, 30, 45, 3))).shape)
        (2, 30, 45, 4)
        >>> model.count_params()
        1417156
    """
    _arguments.num_classes(num_classes)
    _arguments.classifier_activation(classifier_activation)
    encoder, mirror = _stages(filters, convs_per_stage)
    kernel_size = _arguments.positive_int(kernel_size, "kernel_size")
    _arguments.activation(activation, "activation")
    _weight_files.check(weights, _weight_files.CAFFE_SUFFIXES)
    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = _encode_and_decode(
        LocalResponseNorm(name="local_response_norm")(inputs),
        encoder,
        mirror,
        kernel_size=kernel_size,
        conv=_blocks.conv_norm,
        activation=activation,
        use_bias=use_bias,
        dropout=dropout,
        decoder=decoder,
        decoder_kernel_size=decoder_kernel_size,
        decoder_initializer=decoder_initializer,
    )
    outputs = _blocks.classifier(
        x, num_classes, 1, activation=classifier_activation
    )
    model = keras.Model(inputs, outputs, name=name)
    if weights is not None:
        names = _basic_names(len(encoder))
        _load_caffe(model, weights, names, "SegNet-Basic")
    return model


def BayesianSegNetBasic(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    decoder: str = "max_unpool",
    decoder_kernel_size: int = 2,
    decoder_initializer: Any = "he_normal",
    weights: str | Path | None = None,
    dropout: float = 0.5,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "bayesian_segnet_basic",
) -> keras.Model:
    """SegNet-Basic that can say how sure it is: dropout in its center.

    To `SegNetBasic` what `BayesianSegNet` is to `SegNet`: dropout after pooling
    3 and 4, and after decoder stages 4 and 3 (the "central four").

    Reference: as for `BayesianSegNet`; of the authors' networks,
    Models/bayesian_segnet_basic_train.prototxt.

    Args:
        input_shape: As for `SegNet`.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        decoder: As for `SegNet`.
        decoder_kernel_size: As for `SegNet`.
        decoder_initializer: As for `SegNet`.
        weights: As for `SegNet`.
        dropout: 0 <= rate < 1. Share of the values dropped.
        use_bias: As for `SegNetBasic`.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` as from `SegNetBasic`.

    Raises:
        ValueError: If an argument is not as described, or if a file of weights
            lacks an array, has others, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.BayesianSegNetBasic((16, 24, 3), 4)
        >>> prediction = keras_deconv.inference.predict_monte_carlo(
        ...     model, np.zeros((1, 16, 24, 3), "float32"), samples=3, verbose=0
        ... )
        >>> prediction.mean_variance.shape
        (1, 16, 24)
    """
    return SegNetBasic(
        input_shape,
        num_classes,
        decoder=decoder,
        decoder_kernel_size=decoder_kernel_size,
        decoder_initializer=decoder_initializer,
        weights=weights,
        dropout=dropout,
        use_bias=use_bias,
        classifier_activation=classifier_activation,
        name=name,
    )


def _stages(
    filters: Any, convs_per_stage: Any
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Filters of each convolution of the encoder, and of its mirror image.

    A decoder stage ends with the filters that the next one's index asks for.
    """
    filters = _arguments.counts(filters, "filters")
    if isinstance(convs_per_stage, Sequence):
        convs = _arguments.counts(convs_per_stage, "convs_per_stage")
    else:
        each = _arguments.positive_int(convs_per_stage, "convs_per_stage")
        convs = (each,) * len(filters)
    if len(convs) != len(filters):
        raise ValueError(
            "`convs_per_stage` must be an int or one int per stage, as "
            f"`filters` has. Received: convs_per_stage={convs_per_stage!r} and "
            f"filters={filters!r}"
        )
    encoder = [(f,) * n for f, n in zip(filters, convs, strict=True)]
    before = (filters[0], *filters)
    mirror = [
        (*stage[:-1], after)
        for stage, after in zip(encoder, before, strict=False)
    ]
    return encoder, mirror


def _check_is_vgg16(encoder: Sequence[Sequence[int]], kernel_size: int) -> None:
    if tuple(encoder) != _blocks.VGG16_FILTERS or kernel_size != 3:
        raise ValueError(
            "`encoder_weights` are those of VGG-16 and need its `filters`, "
            "`convs_per_stage` and `kernel_size`, the defaults. Received: a "
            f"network with filters {[list(stage) for stage in encoder]} and "
            f"kernel_size={kernel_size}. Use encoder_weights=None."
        )


def _encode_and_decode(
    x: Any,
    encoder_filters: Sequence[Sequence[int]],
    decoder_filters: Sequence[Sequence[int]],
    *,
    kernel_size: int,
    conv: Callable[..., Any],
    activation: Any,
    use_bias: bool,
    dropout: float,
    decoder: str,
    decoder_kernel_size: int,
    decoder_initializer: Any,
) -> Any:
    """All of a SegNet between the image and the classifier."""
    decoder = _arguments.choice(decoder, "decoder", _blocks.DECODERS)
    _arguments.rate(dropout, "dropout")
    if decoder == "conv_transpose":
        _arguments.transposed_kernel_size(
            decoder_kernel_size, 2, "decoder_kernel_size"
        )
    dropout_rates = [
        dropout if number in DROPOUT_STAGES else 0.0
        for number in range(1, len(encoder_filters) + 1)
    ]
    x, poolings = _blocks.encode(
        x,
        encoder_filters,
        kernel_size,
        decoder=decoder,
        use_bias=use_bias,
        dropout_rates=dropout_rates,
        activation=activation,
    )
    return _blocks.decode(
        x,
        poolings,
        decoder_filters,
        kernel_size,
        conv=functools.partial(conv, use_bias=use_bias),
        dropout_rates=dropout_rates,
        decoder=decoder,
        decoder_kernel_size=decoder_kernel_size,
        decoder_initializer=decoder_initializer,
    )


def _load_caffe(
    model: keras.Model, weights: str | Path, names: dict[str, str], network: str
) -> None:
    norms = {f"{ours}_norm": f"{names[ours]}_bn" for ours in names}
    _weight_files.load(
        model,
        weights,
        names | norms,
        source=f"a .caffemodel of the authors' {network}",
        # In the model zoo.
        aliases={"dense_softmax_inner_prod": "conv_classifier"},
        change=_take_rgb,
    )


def _names(encoder: Sequence[Sequence[int]]) -> dict[str, str]:
    """The authors' names of convolutions by ours; they count down again."""
    names = {}
    for number, stage in enumerate(encoder, start=1):
        for i in range(1, len(stage) + 1):
            mirrored = len(stage) + 1 - i
            names[f"block{number}_conv{i}"] = f"conv{number}_{i}"
            names[f"decoder{number}_conv{i}"] = f"conv{number}_{mirrored}_D"
    return names


def _basic_names(num_stages: int) -> dict[str, str]:
    names = {"logits": "conv_classifier"}
    for number in range(1, num_stages + 1):
        names[f"block{number}_conv1"] = f"conv{number}"
        names[f"decoder{number}_conv1"] = f"conv_decode{number}"
    return names


def _take_rgb(arrays: _weight_files.Arrays) -> None:
    """Turn the kernel of the first convolution from BGR to RGB.

    What comes before it in SegNet-Basic treats three channels alike.
    """
    kernel, *rest = arrays["block1_conv1"]
    if kernel.shape[2] == 3:
        kernel = kernel[:, :, ::-1]
    arrays["block1_conv1"] = [kernel, *rest]
