"""A decoder for any encoder."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_deconv import _arguments, _graphs
from keras_deconv.models import (
    _blocks,
    _mirrored,
    _preprocessing,
    _reductions,
)
from keras_deconv.models._mirrored import MIRROR, Stage, check_skips

__all__ = ["EncoderDecoder"]

Tensor = Any
Preprocessing = Callable[[Tensor], Tensor] | str | None

DECODERS = (MIRROR, *_blocks.DECODERS)
# Fewest filters at the size of the image, at which an encoder may not have a
# feature map.
MIN_FILTERS = 16
# From these strides on, a mirrored step would have to restore too many details.
LARGE_STRIDES = 4
# Keras layers that move pixels at random during training.
_MOVING = (
    *(layers.AugMix, layers.CutMix, layers.MixUp, layers.RandAugment),
    *(layers.RandomCrop, layers.RandomElasticTransform, layers.RandomFlip),
    *(layers.RandomPerspective, layers.RandomRotation, layers.RandomShear),
    *(layers.RandomTranslation, layers.RandomZoom),
)


def EncoderDecoder(  # noqa: N802
    encoder: keras.Model,
    num_classes: int,
    *,
    decoder: str = MIRROR,
    decoder_filters: int | Sequence[int] | None = None,
    decoder_convs: int | Sequence[int] = 2,
    skips: str | bool = False,
    overlap: str = "sum",
    dropout: float = 0.0,
    preprocessing: Preprocessing = None,
    freeze_encoder: bool = False,
    classifier_activation: str | None = None,
    name: str = "encoder_decoder",
) -> keras.Model:
    """A segmentation network from any encoder and a mirrored decoder.

    Use it to segment with an encoder of `keras.applications`, pretrained or
    not, or with one of your own. The decoder undoes every operation of the
    encoder that changes height or width, in reverse order. Max pooling is
    undone by max unpooling with its index; average pooling and strided
    convolutions by transposed convolutions. Zero padding is cropped, and
    cropping is padded. A "valid" convolution without strides is undone by a
    "valid" transposed convolution. Every stage restores the exact size, so
    sizes may be odd or unknown.

    Max pooling layers of the encoder are replaced by `MaxPoolWithArgmax2D`,
    which returns the same values. All other layers and their weights are shared
    with the encoder: training one model changes both.

    If an encoder has parallel branches, the decoder mirrors one of them. It
    prefers branches with features over resized copies of the image, then the
    branch with the most strided max poolings, then the shortest. Global
    pooling, as in squeeze-and-excitation, is ignored. Models inside the encoder
    that change the size are expanded into their layers.

    Args:
        encoder: Functional or Sequential `keras.Model`, or a subclass of them,
            with one input and one output. It maps images `(batch, height,
            width, channels)` to a feature map `(batch, height, width,
            channels)`, in the data format "channels_last". An example is
            `keras.applications.ResNet50(include_top=False)`.
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        decoder: str. How the decoder upsamples. "mirror" undoes each operation
            by its counterpart, as explained above. "max_unpool" does the same,
            but rejects encoders that reduce in other ways than by max pooling.
            The other methods apply to every reduction: "bed_of_nails" (each
            value goes to one cell of its window), "nearest" (each value fills
            its window) and "conv_transpose" (transposed convolutions).
        decoder_filters: int >= 1 for all decoder stages, a sequence with one
            int per reduction of the encoder, or None. Number of filters of the
            convolutions of each stage. A sequence starts at the size of the
            image. If max unpooling needs another number of channels, a 1x1
            convolution precedes it. With None, a stage has as many filters as
            the encoder has channels at that size, and its last convolution has
            as many as the next stage. At the size of the image, where the
            encoder may not have a feature map, None takes half of the channels
            of the next size, but at least 16.
        decoder_convs: int >= 1 for all decoder stages, or a sequence with one
            int per reduction, starting at the size of the image. Number of 3x3
            convolutions of each stage.
        skips: How features of the encoder join the decoder after unpooling:
            False (not at all), "concat" (as in U-Net) or "add" (after a 1x1
            convolution if the number of channels differs). The image itself
            does not join.
        overlap: str. How max unpooling combines the values of several windows
            with the same maximum: "sum" adds their values, "mean" averages
            them. Only matters if windows of max pooling overlap, as the 3x3
            windows of ResNet do.
        dropout: float, 0 <= rate < 1. Rate of the dropout after each decoder
            stage except the last.
        preprocessing: None, a Keras layer or "auto". Preprocessing of the
            images before the encoder. None: the model takes the same images as
            the encoder. A Keras layer: it is called on the images. "auto": the
            model takes RGB images in 0..255, which are preprocessed as by the
            `preprocess_input` function of the encoder in `keras.applications`:

            - BGR minus the mean color ("caffe"): VGG16, VGG19, ResNet50,
              ResNet101, ResNet152.
            - -1..1 ("tf"): ResNet50V2, ResNet101V2, ResNet152V2, MobileNet,
              MobileNetV2, Xception, InceptionV3, InceptionResNetV2, NASNet.
            - 0..1 minus the mean, divided by the standard deviation ("torch"):
              DenseNet.
            - Unchanged, because the encoder preprocesses images itself:
              MobileNetV3, EfficientNet, EfficientNetV2, ConvNeXt.

            "auto" recognizes encoders by their names. It does not add
            preprocessing to an encoder that contains a Rescaling or
            Normalization layer.
        freeze_encoder: bool. True sets `trainable = False` for all layers of
            the encoder, whose batch normalization then runs in inference mode.
            This also affects other models that share the encoder. To fine-tune
            later, set `encoder.trainable = True`, then `trainable = False` for
            each `keras.layers.BatchNormalization` in it, including those of
            inner models, and compile again.
        classifier_activation: None to return logits, or "softmax" to return
            probabilities.
        name: str. Name of the model.

    Returns:
        A functional `keras.Model` that maps images `(batch, height, width,
        channels)` to float32 logits or probabilities `(batch, height, width,
        num_classes)`. The layers of the decoder are named `decoder1_unpool`,
        `decoder1_conv1` and so on; stage 1 has the size of the image. A layer
        that undoes a padding, a cropping or a convolution without strides is
        named `decoder1_undo_` plus the name of the encoder's layer.

    Raises:
        ValueError: If `encoder` is not a Functional or Sequential model from
            images to a feature map, or overrides `call`.
        ValueError: If `encoder` or `preprocessing` contains a layer that moves
            pixels at random during training, such as RandomFlip.
        ValueError: If `encoder` does not reduce height or width, or changes
            them in a way that cannot be undone (resizing, upsampling, tokens).
        ValueError: If two layers of `encoder` and its inner models have the
            same name, or if one has a name that the network needs.
        ValueError: If `decoder` is "max_unpool" and a reduction is not max
            pooling.
        ValueError: If `decoder` is "mirror" and every reduction has strides of
            4 or more, as the patches of a vision transformer have.
        ValueError: If `decoder_filters` or `decoder_convs` is neither an int >=
            1 nor a sequence with one such int per reduction.
        ValueError: If `preprocessing` is "auto" and the encoder is unknown, or
            if `preprocessing` is a layer that changes the shape of the images.
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `decoder`, `skips`, `overlap` or `classifier_activation`
            is not one of the listed values.
        ValueError: If `dropout` is not a number with 0 <= `dropout` < 1, or
            `freeze_encoder` is not a bool.

    Example:
        >>> import keras, keras_deconv
        >>> encoder = keras.applications.MobileNetV2(
        ...     input_shape=(None, None, 3),
        ...     alpha=0.35,
        ...     include_top=False,
        ...     weights=None,
        ... )
        >>> model = keras_deconv.models.EncoderDecoder(
        ...     encoder,
        ...     num_classes=5,
        ...     decoder_filters=16,
        ...     decoder_convs=1,
        ...     preprocessing="auto",
        ... )
        >>> model.compute_output_shape((1, 45, 61, 3))
        (1, 45, 61, 5)
    """
    _check_encoder(encoder)
    _arguments.num_classes(num_classes)
    _arguments.classifier_activation(classifier_activation)
    decoder = _arguments.choice(decoder, "decoder", DECODERS)
    skips = check_skips(skips, "skips")
    overlap = _arguments.overlap(overlap)
    rate = _arguments.rate(dropout, "dropout")
    _arguments.boolean(freeze_encoder, "freeze_encoder")

    given = encoder.inputs[0]
    images = keras.Input(given.shape[1:], dtype=given.dtype, name="image")
    prepared = _prepare(images, encoder, preprocessing)
    x, changes = _reductions.read(
        encoder,
        prepared,
        with_index=decoder in (MIRROR, "max_unpool"),
    )
    stages = _mirrored.stages(changes)
    _check_stages(stages, encoder, decoder)
    filters = _filters(decoder_filters, decoder_convs, stages)
    x = _decode(x, stages, filters, decoder, skips, overlap, rate)
    outputs = _blocks.classifier(
        x, num_classes, 3, activation=classifier_activation
    )
    model = keras.Model(images, outputs, name=name)
    if freeze_encoder:
        encoder.trainable = False
    return model


def _check_encoder(encoder: Any) -> None:
    _graphs.check_graph(encoder, "encoder")
    _check_stays(encoder, "encoder")
    takes, gives = encoder.inputs[0].shape, encoder.outputs[0].shape
    if not len(takes) == len(gives) == 4 or None in (takes[-1], gives[-1]):
        raise ValueError(
            "`encoder` must map images (batch, height, width, channels) to a "
            "feature map (batch, height, width, channels). Received: "
            f"{encoder.name!r} from {takes} to {gives}. Build it without a "
            "classifier and global pooling (include_top=False, pooling=None), "
            "or cut it: keras.Model(encoder.input, "
            "encoder.get_layer(name).output)."
        )


def _check_stays(layer: keras.Layer, name: str) -> None:
    """Reject layers that move pixels away from their labels in the mask.

    Raises:
        ValueError: If `layer` contains a layer that moves pixels at random.
    """
    for inner in _graphs.every_layer(layer):
        if isinstance(inner, _MOVING):
            raise ValueError(
                f"`{name}` must not move pixels at random, since the mask does "
                f"not move with them. Received: a layer {inner.name!r} "
                f"({type(inner).__name__}). Remove it, and transform image and "
                "mask together with the `augment` argument of the dataset, "
                "such as data.augmentation()."
            )


def _check_stages(stages: list[Stage], encoder: Any, decoder: str) -> None:
    reductions = [stage.reduction for stage in stages]
    if not reductions:
        raise ValueError(
            "`encoder` must reduce height and width at least once, so that "
            f"the decoder can upsample. Received: {encoder.name!r}"
        )
    others = [str(one) for one in reductions if not one.remembers]
    if decoder == "max_unpool" and others:
        raise ValueError(
            "decoder='max_unpool' needs an encoder in which every reduction "
            "is max pooling. Received: an encoder that also reduces by "
            f"{', '.join(others)}. Use decoder='mirror', which undoes these by "
            "transposed convolution. (Unpooling supports "
            "keras.layers.MaxPooling2D and MaxPoolWithArgmax2D, but not their "
            "subclasses, which may pool in another way.)"
        )
    strides = [min(one.strides) for one in reductions]
    if decoder == MIRROR and min(strides) >= LARGE_STRIDES:
        raise ValueError(
            "decoder='mirror' needs a reduction with strides of 2 or 3. "
            f"Received: an encoder that reduces only by {reductions[0]}, so "
            "that one step would have to restore all details. Use "
            "decoder='conv_transpose' or decoder='nearest' to do so anyway, or "
            "an encoder with smaller strides."
        )


def _prepare(
    images: Tensor, encoder: keras.Model, preprocessing: Preprocessing
) -> Tensor:
    if preprocessing is None:
        return images
    if isinstance(preprocessing, str):
        _arguments.choice(preprocessing, "preprocessing", ("auto",))
        mode = _preprocessing.mode_of(encoder)
        return _preprocessing.prepare(images, mode)
    if not isinstance(preprocessing, keras.Layer):
        raise ValueError(
            "`preprocessing` must be None, 'auto' or a Keras layer. Received: "
            f"preprocessing={preprocessing!r}"
        )
    _check_stays(preprocessing, "preprocessing")
    prepared = preprocessing(images)
    if tuple(prepared.shape) != tuple(images.shape):
        raise ValueError(
            "`preprocessing` must keep the shape of the images, because the "
            f"encoder requires it. Received: a layer from {images.shape} to "
            f"{prepared.shape}"
        )
    return prepared


def _per_stage(value: Any, name: str, num_stages: int) -> tuple[int, ...]:
    """Return one int per decoder stage, starting at the size of the image."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = _arguments.counts(value, name)
        if len(numbers) == num_stages:
            return numbers
        raise ValueError(
            f"`{name}` must be an int or one int per reduction of the encoder, "
            f"which has {num_stages}. Received: {name}={value!r}"
        )
    return (_arguments.positive_int(value, name),) * num_stages


def _filters(
    decoder_filters: Any, decoder_convs: Any, stages: list[Stage]
) -> list[list[int]]:
    """Return the filters of unpooling and convolutions, per stage."""
    num_convs = _per_stage(decoder_convs, "decoder_convs", len(stages))
    if decoder_filters is not None:
        given = _per_stage(decoder_filters, "decoder_filters", len(stages))
        return [[f] * (n + 1) for f, n in zip(given, num_convs, strict=True)]
    own = [_own_filters(stage) for stage in stages]
    return [
        [f] * n + [after]
        for f, after, n in zip(own, own[:1] + own, num_convs, strict=False)
    ]


def _own_filters(stage: Stage) -> int:
    """Return the number of channels of the encoder at the size of a stage."""
    if stage.is_image:
        return max(stage.reduction.result.shape[-1] // 2, MIN_FILTERS)
    return stage.reduction.features.shape[-1]


def _decode(
    x: Tensor,
    stages: list[Stage],
    filters: list[list[int]],
    decoder: str,
    skips: str | bool,
    overlap: str,
    rate: float,
) -> Tensor:
    """Build the part of the network between encoder and classifier."""
    for stage in reversed(stages):
        prefix = f"decoder{stage.number}"
        first, *convs = filters[stage.number - 1]
        others: dict[str, Any] = dict(
            decoder=decoder, overlap=overlap, prefix=prefix
        )
        x = _mirrored.undo_others(x, stage.after, **others)
        x = _mirrored.undo_reduction(
            x,
            stage.reduction,
            decoder=_mirrored.method(stage.reduction, decoder),
            filters=first,
            overlap=overlap,
            name=f"{prefix}_unpool",
        )
        x = _mirrored.undo_others(x, stage.margins, **others)
        if skips and not stage.is_image:
            x = _mirrored.join(x, stage.features, str(skips), f"{prefix}_skip")
        rest = stage.before[: len(stage.before) - len(stage.margins)]
        x = _mirrored.undo_others(x, rest, **others)
        x = _mirrored.convolve(x, convs, prefix=prefix)
        if stage.number > 1:
            x = _blocks.dropout(x, rate, name=f"{prefix}_dropout")
    return x
