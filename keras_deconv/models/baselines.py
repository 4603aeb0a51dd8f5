"""Two earlier approaches to segmentation that encoder-decoders replaced.

A patch classifier predicts one pixel at a time and repeats nearly the same
computation for the next pixel. A full-resolution network predicts all pixels at
once, but keeps every feature map at full size.
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
    """A classifier of patches, for the class of the pixel in the middle.

    Use it as a baseline, to compare encoder-decoders with the approach before
    them. Each convolution is 3x3, with batch normalization, ReLU and max
    pooling. A fully connected layer and the classifier follow.
    `inference.predict_sliding_window` applies the model to every pixel of an
    image.

    Reference: Ciresan, Giusti, Gambardella and Schmidhuber, 2012, "Deep neural
    networks segment neuronal membranes in electron microscopy images",
    https://papers.nips.cc/paper/4741. Only the idea is theirs; the architecture
    is different.

    Args:
        input_shape: Tuple `(height, width, channels)` of a patch, without the
            batch. None is not supported. The predicted pixel is in row `height
            // 2` and column `width // 2`.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        filters: Sequence of ints >= 1. Number of filters of each convolution.
        fc_units: int >= 1. Number of units of the fully connected layer.
        use_bias: bool. Whether convolutions before batch normalization have
            biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps patches `(batch, height, width,
        channels)` to float32 logits or probabilities `(batch, num_classes)`.
        Because of batch normalization, patches may have any order of channels
        and any scale, such as 0..255.

        Number of parameters for 16x16 patches with 3 channels and 11 classes:
        152,203 trainable and 192 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)` of known
            ints >= 1.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `filters` is not a sequence of ints >= 1.
        ValueError: If `fc_units` is not an int >= 1.
        ValueError: If `use_bias` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.PatchClassifier((16, 16, 3), 11)
        >>> model.predict(np.zeros((8, 16, 16, 3)), verbose=0).shape
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
        decoder="nearest",  # so that pooling does not return an index
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
    """Convolutions without pooling, with every feature map at full size.

    Use it as a baseline, to compare encoder-decoders with a network that does
    not downsample. By default, the eight convolutions are those of
    `SegNetBasic`, without pooling and unpooling. Each output pixel depends on
    49x49 pixels of the image, compared to about 190x190 for `SegNetBasic`.

    Reference: Long, Shelhamer and Darrell, 2015, "Fully convolutional networks
    for semantic segmentation", section 3, https://arxiv.org/abs/1411.4038,
    explains why one pass over the image replaces patches. The architecture is
    not from that paper.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        filters: Sequence of ints >= 1. Number of filters of each convolution.
        kernel_size: int >= 1. Kernel size of these convolutions, in pixels.
        use_bias: bool. Whether convolutions before batch normalization have
            biases. The classifier always has biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` to float32 logits or probabilities `(batch, height, width,
        num_classes)`. Because of batch normalization, images may have any order
        of channels and any scale, such as 0..255.

        Number of parameters with 3 channels and 11 classes: 1,416,587
        trainable, as for SegNet-Basic, and 1,024 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `filters` is not a sequence of ints >= 1.
        ValueError: If `kernel_size` is not an int >= 1.
        ValueError: If `use_bias` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.FullResolutionNet(
        ...     (None, None, 3), 11, filters=(16,) * 4, kernel_size=3
        ... )
        >>> model.predict(np.zeros((1, 30, 45, 3)), verbose=0).shape
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
