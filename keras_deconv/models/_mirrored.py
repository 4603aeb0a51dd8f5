"""Decoder layers that undo the changes of size of an encoder, one by one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import layers

from keras_deconv.layers import (
    BedOfNailsUnpool2D,
    MaxUnpool2D,
    NearestUnpool2D,
)
from keras_deconv.layers.cropping import CropLike2D
from keras_deconv.models import _blocks, _reductions
from keras_deconv.models._blocks import LAST
from keras_deconv.models._reductions import Change

Tensor = Any

# The decoder that undoes each reduction by its counterpart.
MIRROR = "mirror"
SKIPS = ("concat", "add")


class Stage(NamedTuple):
    """A reduction and the smaller changes of size around it."""

    number: int  # 1 has the size of the image
    reduction: Change
    before: tuple[Change, ...]  # changes since the previous reduction
    after: tuple[Change, ...] = ()  # only in the last stage

    @property
    def is_image(self) -> bool:
        """Whether the reduction applies to the image itself."""
        return self.number == 1 and self.reduction.is_of_image

    @property
    def features(self) -> Tensor:
        """The feature map of this size, before padding."""
        return (*self.margins, self.reduction)[0].features

    @property
    def margins(self) -> tuple[Change, ...]:
        """Paddings and croppings directly before the reduction."""
        num = len(self.before)
        while num and is_margin(self.before[num - 1]):
            num -= 1
        return self.before[num:]


def is_margin(change: Change) -> bool:
    """Whether a change only adds or removes rows and columns."""
    return change.kind in (_reductions.PADDING, _reductions.CROPPING)


def stages(changes: Sequence[Change]) -> list[Stage]:
    """Group the changes of an encoder by stages."""
    found: list[Stage] = []
    pending: list[Change] = []
    for change in changes:
        if change.is_reduction:
            found.append(Stage(len(found) + 1, change, tuple(pending)))
            pending = []
        else:
            pending.append(change)
    if found:
        found[-1] = found[-1]._replace(after=tuple(pending))
    return found


def method(change: Change, decoder: str) -> str:
    """Return which of `_blocks.DECODERS` undoes a reduction."""
    if decoder != MIRROR:
        return decoder
    return "max_unpool" if change.remembers else "conv_transpose"


def undo_reduction(
    x: Tensor,
    change: Change,
    *,
    decoder: str,
    filters: int,
    overlap: str,
    name: str,
) -> Tensor:
    """Restore the height and width from before a reduction.

    Args:
        x: Values.
        change: The reduction.
        decoder: One of `_blocks.DECODERS`.
        filters: Number of filters of a transposed convolution.
        overlap: Argument of `MaxUnpool2D`.
        name: Name of the layer, such as "decoder1_unpool".
    """
    if decoder == "max_unpool":
        return _max_unpool(x, change, overlap, name)
    if decoder == "bed_of_nails":
        return BedOfNailsUnpool2D(
            change.window,
            change.strides,
            change.padding,
            data_format=LAST,
            position=tuple((k - 1) // 2 for k in change.window),
            name=name,
        )(x, change.features)
    if decoder == "nearest":
        unpool = NearestUnpool2D(
            change.strides, None, change.padding, data_format=LAST, name=name
        )
        if change.padding == "same" or change.window == change.strides:
            return unpool(x, change.features)
        return _fit(unpool(x), change, change.strides, name)
    kernel = _covering_kernel(change)
    x = layers.Conv2DTranspose(
        filters,
        kernel,
        strides=change.strides,
        padding="valid",
        data_format=LAST,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return _fit(x, change, kernel, name)


def undo_others(
    x: Tensor,
    changes: Sequence[Change],
    *,
    decoder: str,
    overlap: str,
    prefix: str,
) -> Tensor:
    """Undo changes without strides, the last one first.

    Args:
        x: Values.
        changes: Changes in the order of the encoder.
        decoder: The user's `decoder` argument.
        overlap: Argument of `MaxUnpool2D`.
        prefix: Prefix of the names of layers.
    """
    for change in reversed(changes):
        name = f"{prefix}_undo_{change.name}"
        if change.kind == _reductions.PADDING:
            x = layers.Cropping2D(change.margins, data_format=LAST, name=name)(
                x
            )
        elif change.kind == _reductions.CROPPING:
            x = layers.ZeroPadding2D(
                change.margins, data_format=LAST, name=name
            )(x)
        elif change.remembers and decoder in (MIRROR, "max_unpool"):
            x = _max_unpool(x, change, overlap, name)
        else:
            x = _blocks.conv_norm_relu(
                x,
                change.features.shape[-1],
                change.window,
                convolution=layers.Conv2DTranspose,
                padding="valid",
                use_bias=True,
                name=name,
            )
    return x


def _max_unpool(x: Tensor, change: Change, overlap: str, name: str) -> Tensor:
    return project_and_unpool(
        x,
        change.argmax,
        like=change.features,
        unpool=MaxUnpool2D(
            change.window,
            change.strides,
            change.padding,
            data_format=LAST,
            index_format=change.index_format,
            overlap=overlap,
            name=name,
        ),
    )


def project_and_unpool(
    x: Tensor, argmax: Tensor, *, like: Tensor, unpool: MaxUnpool2D
) -> Tensor:
    """Unpool, after a 1x1 convolution if the index has other channels.

    The convolution with batch normalization is that of ENet.
    """
    if x.shape[-1] != argmax.shape[-1]:
        x = _blocks.conv_norm(
            x,
            argmax.shape[-1],
            1,
            use_bias=False,
            name=f"{unpool.name}_projection",
        )
    return unpool(x, argmax, like)


def check_skips(value: object, name: str) -> str | bool:
    """Return how features of the encoder join the decoder, in lower case.

    Raises:
        ValueError: If `value` is neither False nor one of `SKIPS`.
    """
    if value is False:
        return False
    normal = value.lower() if isinstance(value, str) else ""
    if normal not in SKIPS:
        raise ValueError(
            f"`{name}` must be False, 'concat' or 'add'. Received: "
            f"{name}={value!r}"
        )
    return normal


def join(x: Tensor, features: Tensor, skips: str, name: str) -> Tensor:
    """Concatenate or add values and the encoder's features."""
    if skips == "concat":
        return layers.Concatenate(name=f"{name}_concatenate")([x, features])
    if features.shape[-1] != x.shape[-1]:
        features = _blocks.conv_norm(
            features, x.shape[-1], 1, use_bias=False, name=f"{name}_projection"
        )
    return layers.Add(name=f"{name}_add")([x, features])


def convolve(x: Tensor, filters: Sequence[int], *, prefix: str) -> Tensor:
    """Apply 3x3 convolutions with batch normalization and ReLU."""
    for i, num_filters in enumerate(filters, start=1):
        x = _blocks.conv_norm_relu(
            x, num_filters, 3, use_bias=True, name=f"{prefix}_conv{i}"
        )
    return x


def _covering_kernel(change: Change) -> tuple[int, ...]:
    """Return a multiple of the strides as kernel of a transposed convolution.

    It covers the kernel of a convolution. Depthwise kernels have few weights,
    while a transposed one mixes all channels, so they get the smallest size.
    """
    if change.kind != _reductions.CONVOLUTION:
        return change.strides
    pairs = zip(change.window, change.strides, strict=True)
    return tuple(-(-k // s) * s for k, s in pairs)


def _fit(x: Tensor, change: Change, kernel: Sequence[int], name: str) -> Tensor:
    """Align windows of size `kernel` with those of the reduction.

    Both have the same center, up to half a pixel. With padding="same", windows
    smaller than their strides are off by up to half the difference. With
    padding="valid", pixels that no window covered are 0.
    """
    is_same = change.padding == "same"
    if not is_same:
        cut, added = [], []
        for k, s, window in zip(
            kernel, change.strides, change.window, strict=True
        ):
            first = int((window - k) / 2)
            cut.append((max(-first, 0), 0))
            # "valid" drops up to `s - 1` pixels at the end.
            last = window + s - 1 - k - first
            added.append((max(first, 0), max(last, 0)))
        if any(map(any, cut)):
            x = layers.Cropping2D(cut, data_format=LAST, name=f"{name}_cut")(x)
        if any(map(any, added)):
            x = layers.ZeroPadding2D(
                added, data_format=LAST, name=f"{name}_pad"
            )(x)
    # Keras pads before the image as much as after it, or one pixel less.
    crop = CropLike2D(data_format=LAST, center=is_same, name=f"{name}_crop")
    return crop(x, change.features)
