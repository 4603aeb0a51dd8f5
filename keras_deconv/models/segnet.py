"""SegNet, SegNet-Basic and their Bayesian variants."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_deconv import _arguments
from keras_deconv.models import _blocks, _vgg16, _weight_files
from keras_deconv.models._layers import LocalResponseNorm

__all__ = ["BayesianSegNet", "BayesianSegNetBasic", "SegNet", "SegNetBasic"]

# Published values, stage by stage.
FILTERS = (64, 128, 256, 512, 512)
CONVS_PER_STAGE = (2, 2, 3, 3, 3)
BASIC_FILTERS = (64,) * 4
# Bayesian SegNet has dropout in its central stages only.
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
    """SegNet: VGG-16 as encoder, a mirrored decoder with max unpooling.

    Use it to segment images when you want the published network, with 13
    convolutions in the encoder and 13 in the decoder, or pretrained VGG-16
    weights. Each of the five decoder stages unpools with the indices of its
    encoder stage, then convolves. The last convolution is the classifier. For
    fewer parameters, see `SegNetBasic` and `ENet`.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation", section
    3, https://arxiv.org/abs/1511.00561. The architecture is that of the
    authors' code, https://github.com/alexgkendall/SegNet-Tutorial
    (Models/segnet_train.prototxt): pooling rounds sizes up, unpooling restores
    them exactly, and convolutions have biases. According to the paper, they do
    not have biases (`use_bias=False`).

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 32.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        filters: Sequence of ints >= 1. Number of filters of each encoder stage.
            Its length is the number of stages. With a value of `filters`,
            `convs_per_stage`, `kernel_size` or `activation` other than the
            default, the network is not the published one.
        convs_per_stage: int >= 1 for all stages, or one int per stage. Number
            of convolutions of each encoder stage. The decoder mirrors it, and
            the classifier replaces its last convolution.
        kernel_size: int >= 1. Kernel size of all convolutions, in pixels.
        activation: Activation after each batch normalization: the name of a
            Keras activation, or a callable.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        decoder_kernel_size: int >= 1. Kernel size of the transposed
            convolutions of `decoder="conv_transpose"`; other decoders do not
            use it. A value that is not a multiple of the stride (2) causes
            checkerboard artifacts and emits a warning.
        decoder_initializer: Kernel initializer of the same transposed
            convolutions: a Keras initializer, its name or its configuration.
            `keras_deconv.initializers` has two for transposed convolutions.
        encoder_weights: None for random initial values (He normal), "imagenet"
            to download VGG-16 with Keras, or the path of a file with the
            weights of VGG-16. The file is one of `keras.applications` (.h5,
            .hdf5 or .keras), or a state dict of torchvision's VGG-16 or
            VGG-16-BN (.pth, .pt or .safetensors, which require
            `keras-deconv[torch]`). These weights require the default `filters`,
            `convs_per_stage` and `kernel_size`. The model then takes RGB images
            in 0..255. For grayscale images, the kernels of the first
            convolution are summed over red, green and blue; for other numbers
            of channels, they are repeated. Features at the border differ from
            those of VGG-16: here convolutions pad with black, as in the
            authors' networks, and not with the mean color.
        weights: None, or the path of a `.caffemodel` file that the authors
            trained; Caffe is not required. The model then takes RGB images in
            0..255: the kernel of the first convolution is converted from BGR,
            the order of the authors, who do not subtract a mean. If a file was
            trained with a mean subtracted, subtract it from your images too. A
            file that the authors' `compute_bn_statistics.py` wrote is ready for
            prediction. A snapshot of a training does not hold statistics of
            batch normalization: before you predict, call
            `models.recompute_batch_statistics` with training images. To
            continue a training, start from a snapshot. Cannot be combined with
            `encoder_weights`.
        extra_classifier: bool. Whether the classifier is an additional
            convolution after the last decoder stage, as in the authors'
            Bayesian SegNet for CamVid in their model zoo. By default, the
            classifier replaces the last convolution of the decoder.
        dropout: float, 0 <= rate < 1. Rate of the dropout after poolings 3 to 5
            and after decoder stages 5 to 3, where Bayesian SegNet has it. The
            authors' SegNet does not have dropout.
        use_bias: bool. Whether convolutions before batch normalization have
            biases, as in the authors' code. The paper does not use them
            (`use_bias=False`). The classifier always has biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The authors feed BGR images without subtracting a
        mean. Because of batch normalization, you can train with any order of
        channels and any scale; with pretrained weights, pass RGB in 0..255.

        Number of parameters with 3 channels and 11 classes: 29,449,355
        trainable with biases, 29,441,419 without biases, and 15,872
        non-trainable. With biases and `extra_classifier=True`: 29,486,411
        trainable and 16,000 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`, or
            `num_classes` is not an int from 2 to 10,000.
        ValueError: If `filters` is not a sequence of ints >= 1, or if
            `convs_per_stage` is neither an int >= 1 nor one such int per stage.
        ValueError: If `kernel_size` or `decoder_kernel_size` is not an int >=
            1.
        ValueError: If `activation` is not callable or the name of an
            activation.
        ValueError: If `decoder` is not one of the four methods, or
            `decoder_initializer` is not an initializer.
        ValueError: If `dropout` is not a number with 0 <= `dropout` < 1.
        ValueError: If `use_bias` or `extra_classifier` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If `encoder_weights` is given together with `weights`, or
            with other `filters`, `convs_per_stage` or `kernel_size` than
            VGG-16's.
        ValueError: If the file of `weights` or `encoder_weights` does not
            exist, cannot be read, or holds NaN, infinities or negative
            variances.
        ValueError: If that file lacks an array of the model or has one of
            another shape, or if the file of `weights` has an array that the
            model does not have.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNet((None, None, 3), 11)
        >>> logits = model.predict(np.zeros((1, 35, 47, 3)), verbose=0)
        >>> logits.shape
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
                "`encoder_weights` must be None if `weights` is given: that "
                "file also holds the weights of the encoder. Received: "
                f"encoder_weights={encoder_weights!r}, weights={weights!r}"
            )
    inputs = keras.Input(_arguments.image_shape(input_shape), name="image")
    x = _encode_and_decode(
        inputs,
        encoder,
        # The classifier replaces the last convolution.
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
    """SegNet with dropout in its six central stages, to estimate uncertainty.

    Use it when you need to know how certain each prediction is, not only the
    class. Pass the trained model to `inference.predict_monte_carlo`: it keeps
    dropout on, averages several predictions, and measures how much they differ.
    `model.predict` runs without dropout, as for any Keras model. Apart from
    dropout, the layers are those of `SegNet`.

    Reference: Kendall, Badrinarayanan and Cipolla, 2015, "Bayesian SegNet:
    Model uncertainty in deep convolutional encoder-decoder architectures for
    scene understanding", https://arxiv.org/abs/1511.02680. The architecture is
    that of the authors' code, https://github.com/alexgkendall/SegNet-Tutorial
    (Models/bayesian_segnet_train.prototxt, "central enc-dec"). Dropout of
    single values comes after poolings 3, 4 and 5 and after decoder stages 5, 4
    and 3. The indices of pooling are those of the values before dropout. There
    are two differences. In the authors' file, the shift of batch normalization
    starts at 0; here it starts at 0.001, as in SegNet. The authors' networks
    for PASCAL, which have dropout before pooling and in other places, are not
    available.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 32.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        decoder_kernel_size: int >= 1. Kernel size of the transposed
            convolutions of `decoder="conv_transpose"`; other decoders do not
            use it. A value that is not a multiple of the stride (2) causes
            checkerboard artifacts and emits a warning.
        decoder_initializer: Kernel initializer of the same transposed
            convolutions: a Keras initializer, its name or its configuration.
            `keras_deconv.initializers` has two for transposed convolutions.
        encoder_weights: None for random initial values (He normal), "imagenet"
            to download VGG-16 with Keras, or the path of a file with the
            weights of VGG-16. The file is one of `keras.applications` (.h5,
            .hdf5 or .keras), or a state dict of torchvision's VGG-16 or
            VGG-16-BN (.pth, .pt or .safetensors, which require
            `keras-deconv[torch]`). The model then takes RGB images in 0..255.
            For grayscale images, the kernels of the first convolution are
            summed over red, green and blue; for other numbers of channels, they
            are repeated. Features at the border differ from those of VGG-16:
            here convolutions pad with black, as in the authors' networks, and
            not with the mean color.
        weights: None, or the path of a `.caffemodel` file that the authors
            trained; Caffe is not required. The model then takes RGB images in
            0..255: the kernel of the first convolution is converted from BGR,
            the order of the authors, who do not subtract a mean. If a file was
            trained with a mean subtracted, subtract it from your images too. A
            file that the authors' `compute_bn_statistics.py` wrote is ready for
            prediction. A snapshot of a training does not hold statistics of
            batch normalization: before you predict, call
            `models.recompute_batch_statistics` with training images. To
            continue a training, start from a snapshot. Cannot be combined with
            `encoder_weights`. The file `bayesian_segnet_camvid.caffemodel` of
            the authors' model zoo requires `extra_classifier=True`.
        extra_classifier: bool. Whether the classifier is an additional
            convolution after the last decoder stage, as in the authors'
            Bayesian SegNet for CamVid in their model zoo. By default, the
            classifier replaces the last convolution of the decoder.
        dropout: float, 0 <= rate < 1. Share of the values that dropout sets to
            0. With 0, the model does not have dropout layers.
        use_bias: bool. Whether convolutions before batch normalization have
            biases, as in the authors' code. The paper does not use them
            (`use_bias=False`). The classifier always has biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The authors feed BGR images without subtracting a
        mean. Because of batch normalization, you can train with any order of
        channels and any scale; with pretrained weights, pass RGB in 0..255.

        Number of parameters with 3 channels and 11 classes: 29,449,355
        trainable with biases, 29,441,419 without biases, and 15,872
        non-trainable. With biases and `extra_classifier=True`: 29,486,411
        trainable and 16,000 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`, or
            `num_classes` is not an int from 2 to 10,000.
        ValueError: If `decoder_kernel_size` is not an int >= 1.
        ValueError: If `decoder` is not one of the four methods, or
            `decoder_initializer` is not an initializer.
        ValueError: If `dropout` is not a number with 0 <= `dropout` < 1.
        ValueError: If `use_bias` or `extra_classifier` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If `encoder_weights` is given together with `weights`.
        ValueError: If the file of `weights` or `encoder_weights` does not
            exist, cannot be read, or holds NaN, infinities or negative
            variances.
        ValueError: If that file lacks an array of the model or has one of
            another shape, or if the file of `weights` has an array that the
            model does not have.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.BayesianSegNet((32, 32, 3), 11)
        >>> model.get_layer("decoder5_dropout").rate
        0.5
        >>> prediction = keras_deconv.inference.predict_monte_carlo(
        ...     model, np.zeros((1, 32, 32, 3), "float32"), samples=2, verbose=0
        ... )
        >>> prediction.probabilities.shape, prediction.mean_variance.shape
        ((1, 32, 32, 11), (1, 32, 32))
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
    """SegNet-Basic: four 7x7 convolutions as encoder, four as decoder.

    Use it for quick experiments, small datasets or devices with little memory:
    it has 20 times fewer parameters than `SegNet`. The SegNet paper compares
    decoders with it. Each stage has one convolution of 64 filters. The decoder
    does not have ReLU activations, and the input is normalized across channels.

    Reference: Badrinarayanan, Kendall and Cipolla, 2015, "SegNet: A deep
    convolutional encoder-decoder architecture for image segmentation", section
    3, https://arxiv.org/abs/1511.00561. The architecture is that of the
    authors' code, https://github.com/alexgkendall/SegNet-Tutorial
    (Models/segnet_basic_train.prototxt), which differs from the paper in two
    points. Convolutions before batch normalization have biases; the paper does
    not use them. The input is normalized by local response normalization over 5
    channels with Caffe's alpha of 1e-4; the paper uses local contrast
    normalization.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 16.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        filters: Sequence of ints >= 1. Number of filters of each encoder stage.
            Its length is the number of stages. With a value of `filters`,
            `convs_per_stage`, `kernel_size` or `activation` other than the
            default, the network is not the published one.
        convs_per_stage: int >= 1 for all stages, or one int per stage. Number
            of convolutions of each stage, in the encoder and in the decoder.
        kernel_size: int >= 1. Kernel size in pixels of all convolutions except
            the classifier, which is 1x1.
        activation: Activation after each batch normalization of the encoder:
            the name of a Keras activation, or a callable.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        decoder_kernel_size: int >= 1. Kernel size of the transposed
            convolutions of `decoder="conv_transpose"`; other decoders do not
            use it. A value that is not a multiple of the stride (2) causes
            checkerboard artifacts and emits a warning.
        decoder_initializer: Kernel initializer of the same transposed
            convolutions: a Keras initializer, its name or its configuration.
            `keras_deconv.initializers` has two for transposed convolutions.
        weights: None, or the path of a `.caffemodel` file that the authors
            trained; Caffe is not required. The model then takes RGB images in
            0..255: the kernel of the first convolution is converted from BGR,
            the order of the authors, who do not subtract a mean. If a file was
            trained with a mean subtracted, subtract it from your images too. A
            file that the authors' `compute_bn_statistics.py` wrote is ready for
            prediction. A snapshot of a training does not hold statistics of
            batch normalization: before you predict, call
            `models.recompute_batch_statistics` with training images. To
            continue a training, start from a snapshot.
        dropout: float, 0 <= rate < 1. Rate of the dropout after poolings 3 and
            4 and after decoder stages 4 and 3, where Bayesian SegNet-Basic has
            it. The authors' SegNet-Basic does not have dropout.
        use_bias: bool. Whether convolutions before batch normalization have
            biases, as in the authors' code. The paper does not use them
            (`use_bias=False`). The classifier always has biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The range of the images matters, because local
        response normalization is not linear. The order of the channels does
        not; with pretrained weights, pass RGB.

        Number of parameters with 3 channels and 11 classes: 1,416,587 trainable
        with biases, 1,416,075 without biases, and 1,024 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`, or
            `num_classes` is not an int from 2 to 10,000.
        ValueError: If `filters` is not a sequence of ints >= 1, or if
            `convs_per_stage` is neither an int >= 1 nor one such int per stage.
        ValueError: If `kernel_size` or `decoder_kernel_size` is not an int >=
            1.
        ValueError: If `activation` is not callable or the name of an
            activation.
        ValueError: If `decoder` is not one of the four methods, or
            `decoder_initializer` is not an initializer.
        ValueError: If `dropout` is not a number with 0 <= `dropout` < 1.
        ValueError: If `use_bias` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If the file of `weights` does not exist, cannot be read, or
            holds NaN, infinities or negative variances.
        ValueError: If that file lacks an array of the model, has an array that
            the model does not have, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNetBasic((30, 45, 3), 4)
        >>> logits = model.predict(np.zeros((2, 30, 45, 3)), verbose=0)
        >>> logits.shape
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
    """SegNet-Basic with dropout in its center, to estimate uncertainty.

    Use it when you need to know how certain each prediction is and
    `BayesianSegNet` is too large. Pass the trained model to
    `inference.predict_monte_carlo`: it keeps dropout on, averages several
    predictions, and measures how much they differ. `model.predict` runs without
    dropout, as for any Keras model. Apart from dropout, the layers are those of
    `SegNetBasic`. Dropout of single values comes after poolings 3 and 4 and
    after decoder stages 4 and 3 (the "central four").

    Reference: Kendall, Badrinarayanan and Cipolla, 2015, "Bayesian SegNet:
    Model uncertainty in deep convolutional encoder-decoder architectures for
    scene understanding", https://arxiv.org/abs/1511.02680. The architecture is
    that of the authors' code, https://github.com/alexgkendall/SegNet-Tutorial
    (Models/bayesian_segnet_basic_train.prototxt), in which convolutions before
    batch normalization have biases and local response normalization replaces
    the paper's local contrast normalization.

    Args:
        input_shape: Tuple `(height, width, channels)`, without the batch.
            Height and width may be None, for images of any size, and need not
            be multiples of 16.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        decoder: str. How each decoder stage upsamples. "max_unpool", as
            published: each value goes to the position of its maximum.
            "bed_of_nails": each value goes to the top left cell of its window.
            "nearest": each value fills its window. "conv_transpose": transposed
            convolutions with a stride of 2, which add parameters.
        decoder_kernel_size: int >= 1. Kernel size of the transposed
            convolutions of `decoder="conv_transpose"`; other decoders do not
            use it. A value that is not a multiple of the stride (2) causes
            checkerboard artifacts and emits a warning.
        decoder_initializer: Kernel initializer of the same transposed
            convolutions: a Keras initializer, its name or its configuration.
            `keras_deconv.initializers` has two for transposed convolutions.
        weights: None, or the path of a `.caffemodel` file that the authors
            trained; Caffe is not required. The model then takes RGB images in
            0..255: the kernel of the first convolution is converted from BGR,
            the order of the authors, who do not subtract a mean. If a file was
            trained with a mean subtracted, subtract it from your images too. A
            file that the authors' `compute_bn_statistics.py` wrote is ready for
            prediction. A snapshot of a training does not hold statistics of
            batch normalization: before you predict, call
            `models.recompute_batch_statistics` with training images. To
            continue a training, start from a snapshot.
        dropout: float, 0 <= rate < 1. Share of the values that dropout sets to
            0. With 0, the model does not have dropout layers.
        use_bias: bool. Whether convolutions before batch normalization have
            biases, as in the authors' code. The paper does not use them
            (`use_bias=False`). The classifier always has biases.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` in 0..255 to float32 logits or probabilities `(batch, height,
        width, num_classes)`. The range of the images matters, because local
        response normalization is not linear. The order of the channels does
        not; with pretrained weights, pass RGB.

        Number of parameters with 3 channels and 11 classes: 1,416,587 trainable
        with biases, 1,416,075 without biases, and 1,024 non-trainable.

    Raises:
        ValueError: If `input_shape` is not `(height, width, channels)`, or
            `num_classes` is not an int from 2 to 10,000.
        ValueError: If `decoder_kernel_size` is not an int >= 1.
        ValueError: If `decoder` is not one of the four methods, or
            `decoder_initializer` is not an initializer.
        ValueError: If `dropout` is not a number with 0 <= `dropout` < 1.
        ValueError: If `use_bias` is not a bool.
        ValueError: If `classifier_activation` is neither None nor "softmax".
        ValueError: If the file of `weights` does not exist, cannot be read, or
            holds NaN, infinities or negative variances.
        ValueError: If that file lacks an array of the model, has an array that
            the model does not have, or has one of another shape.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.BayesianSegNetBasic((16, 24, 3), 4)
        >>> prediction = keras_deconv.inference.predict_monte_carlo(
        ...     model, np.zeros((1, 16, 24, 3), "float32"), samples=3, verbose=0
        ... )
        >>> prediction.class_ids.shape, prediction.mean_variance.shape
        ((1, 16, 24), (1, 16, 24))
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
    """Return the filters of each convolution of the encoder and of the decoder.

    A decoder stage ends with the channels that the next index requires.
    """
    filters = _arguments.counts(filters, "filters")
    if isinstance(convs_per_stage, Sequence):
        convs = _arguments.counts(convs_per_stage, "convs_per_stage")
    else:
        each = _arguments.positive_int(convs_per_stage, "convs_per_stage")
        convs = (each,) * len(filters)
    if len(convs) != len(filters):
        raise ValueError(
            "`convs_per_stage` must be an int, or have one int per stage, like "
            f"`filters`. Received: convs_per_stage={convs_per_stage!r} and "
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
            "`encoder_weights` requires the default `filters`, "
            "`convs_per_stage` and `kernel_size`, since the weights are those "
            "of VGG-16. Received: a network with filters "
            f"{[list(stage) for stage in encoder]} and "
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
    """Build the part of a SegNet between the image and the classifier."""
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
        # The model zoo names the classifier differently.
        aliases={"dense_softmax_inner_prod": "conv_classifier"},
        change=_take_rgb,
    )


def _names(encoder: Sequence[Sequence[int]]) -> dict[str, str]:
    """Map our names of convolutions to those of the authors.

    Their decoder counts the convolutions of a stage backward.
    """
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
    """Convert the kernel of the first convolution from BGR to RGB.

    The local response normalization before it in SegNet-Basic does not depend
    on the order of three channels.
    """
    kernel, *rest = arrays["block1_conv1"]
    if kernel.shape[2] == 3:
        kernel = kernel[:, :, ::-1]
    arrays["block1_conv1"] = [kernel, *rest]
