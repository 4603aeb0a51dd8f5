"""The two older answers, which encoder-decoders replaced.

A patch classifier names one pixel at a time, and computes nearly the same for
its neighbor again; a network at full resolution names all pixels at once, and
keeps every feature map at full size.
"""

from collections.abc import Sequence

import keras
from keras import layers

from keras_deconv import _arguments
from keras_deconv.models import _blocks

__all__ = ["FullResolutionNet", "PatchClassifier"]


def PatchClassifier(  # noqa: N802
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: Sequence[int] = (32, 64),
    fc_units: int = 128,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "patch_classifier",
) -> keras.Model:
    """A classifier of patches: the class of the pixel in the middle.

    3x3 convolutions with batch normalization and ReLU, each halved by max
    pooling, then a fully connected layer and the classifier.
    `inference.predict_sliding_window` runs it over an image, pixel by pixel.

    Reference: Ciresan, Giusti, Gambardella and Schmidhuber, 2012, "Deep neural
    networks segment neuronal membranes in electron microscopy images",
    https://papers.nips.cc/paper/4741, for the idea; its network is another.

    Args:
        input_shape: `(height, width, channels)` of a patch, all known. The
            pixel that is named is at row `height // 2`, column `width // 2`.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        filters: Filters of each convolution.
        fc_units: int >= 1. Units of the fully connected layer.
        use_bias: Whether convolutions before batch normalization have biases.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from patches `(batch, height, width,
        channels)` in 0..255, in any order and scale, to float32 `(batch,
        num_classes)`.

        Trainable parameters of 16x16 patches with 3 channels and 11 classes:
        152,203; 192 more do not train.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.PatchClassifier((16, 16, 3), 11)
        >>> tuple(model(np.zeros((8, 16, 16, 3))).shape)
        (8, 11)
        >>> model.count_params()
        152395
    """
    _arguments.num_classes(num_classes)
    _arguments.positive_int(fc_units, "fc_units")
    _arguments.classifier_activation(classifier_activation)
    inputs = keras.Input(
        _arguments.image_shape(input_shape, static=True), name="patch"
    )
    x, _ = _blocks.encode(
        inputs,
        [(n,) for n in _arguments.counts(filters, "filters")],
        3,
        decoder="nearest",  # No index is needed.
        use_bias=use_bias,
    )
    x = layers.Flatten(data_format=_blocks.LAST, name="flatten")(x)
    x = layers.Dense(
        fc_units,
        activation="relu",
        kernel_initializer="he_normal",
        name="fc",
    )(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(
        inputs, _blocks.activate(logits, classifier_activation), name=name
    )


def FullResolutionNet(  # noqa: N802
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: Sequence[int] = (64,) * 8,
    kernel_size: int = 7,
    use_bias: bool = True,
    classifier_activation: str | None = None,
    name: str = "full_resolution_net",
) -> keras.Model:
    """Same-padded convolutions that never shrink, one class per pixel.

    By default the convolutions of `SegNetBasic` without its pooling and
    unpooling: the same eight layers, at full size all of them. A pixel of the
    output sees 49x49 pixels of the image, in `SegNetBasic` some 190x190.

    Reference: Long, Shelhamer and Darrell, 2015, "Fully convolutional networks
    for semantic segmentation", https://arxiv.org/abs/1411.4038, section 3, on
    why one pass over the image replaces the patches; the network is ours.

    Args:
        input_shape: `(height, width, channels)`; height and width may be None.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        filters: Filters of each convolution.
        kernel_size: int >= 1. Size of their kernels.
        use_bias: Whether convolutions before batch normalization have biases.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` in 0..255, in any order and scale, to float32 `(batch,
        height, width, num_classes)`.

        Trainable parameters with 3 channels and 11 classes: 1,416,587, as
        SegNet-Basic; 1,024 more do not train.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.FullResolutionNet(
        ...     (None, None, 3), 11, filters=(16,) * 4, kernel_size=3
        ... )
        >>> tuple(model(np.zeros((1, 30, 45, 3))).shape)
        (1, 30, 45, 11)
    """
    _arguments.num_classes(num_classes)
    _arguments.positive_int(kernel_size, "kernel_size")
    _arguments.classifier_activation(classifier_activation)
    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = inputs
    for i, n in enumerate(_arguments.counts(filters, "filters"), start=1):
        x = _blocks.conv_norm_relu(
            x, n, kernel_size, use_bias=use_bias, name=f"conv{i}"
        )
    outputs = _blocks.classifier(
        x, num_classes, 1, activation=classifier_activation
    )
    return keras.Model(inputs, outputs, name=name)
