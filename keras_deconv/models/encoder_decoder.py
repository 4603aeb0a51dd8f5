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
# Filters at the size of the image, where the encoder has none: at least these.
MIN_FILTERS = 16
# A step that enlarges more than this is not a mirror image of anything.
LARGE_STRIDES = 4
# Layers of Keras that change where things are in an image, in training.
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
    """Any encoder, and a decoder that undoes what it did to the image's size.

    Each reduction of height and width in the encoder is undone by its
    counterpart, in reverse order: max pooling by max unpooling with its index,
    average pooling and convolutions with strides by transposed convolution.
    Zero padding is cropped, cropping is padded, and a "valid" convolution
    without strides is undone by a "valid" transposed one. Every stage restores
    the exact size, so that odd and unknown sizes are possible.

    Max pooling of the encoder becomes `MaxPoolWithArgmax2D`, which gives the
    same values. All other layers, and the weights, are the encoder's own: both
    models change together.

    Where the encoder has branches, features are followed and not a smaller copy
    of the image; then the branch with the most strided max poolings, then the
    shortest. Global pooling (squeeze-and-excitation) is passed over. Models
    inside the encoder that change the size are opened.

    Args:
        encoder: Functional or Sequential `keras.Model`, or a subclass of them,
            with one input and one output: from images `(batch, height, width,
            channels)` to a feature map `(batch, height, width, channels)`, in
            "channels_last". For example
            `keras.applications.ResNet50(include_top=False)`.
        num_classes: int from 2 to 10,000. Classes, void not counted.
        decoder: What undoes the reductions. "mirror" is the rule above.
            "max_unpool" is the same, and refuses encoders in which not all
            reductions are max pooling. "bed_of_nails", "nearest" and
            "conv_transpose" undo all of them in this way.
        decoder_filters: Filters of the convolutions of each decoder stage: an
            int for all, or a sequence with one int per reduction, beginning at
            the size of the image. Max unpooling is then preceded by a
            convolution of 1x1, if its index has another number of channels.
            None takes the channels that the encoder has at this size (at the
            size of the image, where it has none: half of those that follow, 16
            at least), and the last convolution of each stage gives the
            channels that the next one needs.
        decoder_convs: Number of 3x3 convolutions of each decoder stage: an
            int >= 1 for all, or a sequence as above.
        skips: Whether the encoder's features of a stage join after its
            unpooling: False, "concat" (U-Net) or "add" (after a convolution of
            1x1, if channels differ). The image itself never does.
        overlap: "sum" or "mean", as in `MaxUnpool2D`. Matters where windows of
            max pooling overlap, as the 3x3 windows of ResNet do.
        dropout: 0 <= rate < 1. Dropout after each decoder stage but the last.
        preprocessing: What happens to images before the encoder. None:
            nothing, the model takes what the encoder takes. A layer: it is
            called on the images. "auto": the model takes RGB in 0..255, and an
            encoder of `keras.applications` gets what its `preprocess_input`
            would give it:

            - "caffe" (BGR less its mean): VGG16, VGG19, ResNet50, 101, 152
            - "tf" (-1..1): ResNet50V2, 101V2, 152V2, MobileNet, MobileNetV2,
              Xception, InceptionV3, InceptionResNetV2, NASNet
            - "torch" (0..1, less its mean, over its deviation): DenseNet
            - nothing, for they do it themselves: MobileNetV3, EfficientNet,
              EfficientNetV2, ConvNeXt

            Encoders are recognized by their name. Nothing is added to one that
            holds a Rescaling or Normalization layer.
        freeze_encoder: True sets `trainable` of all layers of the encoder to
            False; its batch normalization then runs in inference mode. Other
            models that share the encoder freeze with it. For fine-tuning, set
            `encoder.trainable = True`, then `trainable = False` for each
            `keras.layers.BatchNormalization` in it, those of models inside the
            encoder included, and compile again.
        classifier_activation: None for logits, or "softmax".
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width,
        channels)` to float32 `(batch, height, width, num_classes)`. The layers
        of the decoder are called `decoder1_unpool`, `decoder1_conv1` and so
        on; 1 is the stage at the size of the image. What undoes a padding or a
        convolution without strides is called `decoder1_undo_` and the name of
        the encoder's layer.

    Raises:
        ValueError: If `encoder` is not such a model, or has a `call` of its
            own; if it or `preprocessing` has layers that move pixels at random
            in training, as RandomFlip does.
        ValueError: If `encoder` has nothing to undo, or if it changes height or
            width in a way that cannot be undone (resizing, upsampling, tokens).
        ValueError: If two layers of the encoder and of models inside it have
            one name, or a name that the network needs.
        ValueError: If `decoder` is "max_unpool" and a reduction is not max
            pooling; if it is "mirror" and every reduction has strides of 4 or
            more, as the patches of a vision transformer.
        ValueError: If `preprocessing` is "auto" and the encoder is unknown.
        ValueError: If another argument is not as described.

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
            f"{encoder.name!r} from {takes} to {gives}. Build it without "
            "classifier and global pooling (include_top=False, pooling=None), "
            "or cut it: keras.Model(encoder.input, "
            "encoder.get_layer(name).output)."
        )


def _check_stays(layer: keras.Layer, name: str) -> None:
    """Refuse layers after which pixels are where the mask does not have them.

    Raises:
        ValueError: As described.
    """
    for inner in _graphs.every_layer(layer):
        if isinstance(inner, _MOVING):
            raise ValueError(
                f"`{name}` must not move pixels at random, since the mask does "
                f"not move with them. Received: a layer {inner.name!r} "
                f"({type(inner).__name__}). Leave it out, and change image and "
                "mask together with the `augment` of the dataset, such as "
                "data.augmentation()."
            )


def _check_stages(stages: list[Stage], encoder: Any, decoder: str) -> None:
    reductions = [stage.reduction for stage in stages]
    if not reductions:
        raise ValueError(
            "`encoder` must reduce height and width at least once: otherwise "
            f"there is nothing to undo. Received: {encoder.name!r}"
        )
    others = [str(one) for one in reductions if not one.remembers]
    if decoder == "max_unpool" and others:
        raise ValueError(
            "decoder='max_unpool' needs an encoder in which every reduction "
            "is max pooling. Received: an encoder that also reduces by "
            f"{', '.join(others)}. Use decoder='mirror', which undoes these by "
            "transposed convolution. (Of layers for max pooling, "
            "keras.layers.MaxPooling2D and MaxPoolWithArgmax2D are undone by "
            "unpooling, not subclasses of them, which may pool in another way.)"
        )
    strides = [min(one.strides) for one in reductions]
    if decoder == MIRROR and min(strides) >= LARGE_STRIDES:
        raise ValueError(
            "decoder='mirror' needs a reduction with strides of 2 or 3. "
            f"Received: an encoder that reduces by {reductions[0]} only, so "
            "that one step would have to restore all details. Use "
            "decoder='conv_transpose' or decoder='nearest' to do it "
            "nevertheless, or an encoder with smaller steps."
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
            "`preprocessing` must keep the shape of the images, which is what "
            f"the encoder takes. Received: a layer from {images.shape} to "
            f"{prepared.shape}"
        )
    return prepared


def _per_stage(value: Any, name: str, num_stages: int) -> tuple[int, ...]:
    """One int per decoder stage, from the size of the image on."""
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
    """Of each stage, filters of its unpooling and of its convolutions."""
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
    """What the encoder has at the size of a stage."""
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
    """All of the network between the encoder and the classifier."""
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
