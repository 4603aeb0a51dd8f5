"""Descriptions of datasets: which label in a mask means which class."""

from __future__ import annotations

import dataclasses
import numbers
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv._arguments import VOID
from keras_deconv._palettes import default_palette

Color: TypeAlias = tuple[int, int, int]


def color_map(num_colors: int) -> tuple[Color, ...]:
    """Gives distinct colors, the same ones always.

    The lowest bits of an index become the highest bits of red, green and blue
    in turn, so that near indices get colors far apart.

    Reference: the `VOCdevkit` of Everingham et al., 2010, "The Pascal Visual
    Object Classes (VOC) Challenge", `VOCcode/VOClabelcolormap.m`. No
    differences.

    Args:
        num_colors: int in 1..256.

    Returns:
        tuple of (red, green, blue) in 0..255. The first one is black.

    Raises:
        ValueError: if `num_colors` is not in 1..256.

    Example:
        >>> from keras_deconv.data import color_map
        >>> color_map(4)
        ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    """
    if _arguments.positive_int(num_colors, "num_colors") > 256:
        raise ValueError(
            "`num_colors` must be at most 256, for colors to be distinct. "
            f"Received: num_colors={num_colors!r}"
        )

    def spread(index: int, channel: int) -> int:
        bits = (index >> (3 * place + channel) & 1 for place in range(8))
        return sum(bit << (7 - place) for place, bit in enumerate(bits))

    return tuple(
        (spread(index, 0), spread(index, 1), spread(index, 2))
        for index in range(num_colors)
    )


@dataclasses.dataclass(frozen=True)
class SegmentationSet:
    """Where a tfds data set keeps its masks and what the labels mean.

    Sets number their labels as they like: some start at 1, some have gaps,
    some mark void with 0, some with 255. An entry maps them all to classes
    0..num_classes-1; whatever stands in `void_labels` becomes 255.

    A mask is one channel of labels of an integer dtype or bool. Where a set
    keeps it otherwise, `read_mask` says how to get it: one channel of several,
    one mask per class or object, numbers written as colors.

    Args:
        name: str. Name of the set in tfds.
        image_key: str. Feature that holds the image.
        mask_key: str. Feature that holds the label of every pixel.
        class_names: tuple of at least two distinct str, one per class, none of
            them empty or with blanks around it or line breaks in it.
        palette: tuple of (red, green, blue) in 0..255, one per class.
        labels: mapping from label in the source, 0..255, to class id, or to
            the name of a class: {0: "background", 255: "building"}.
        void_labels: tuple of the labels in the source, 0..255, that mean void.
            () if nothing is void.
        read_mask: function from an example, a dict of tensors, to its labels,
            an integer or bool tensor (height, width); in TensorFlow
            operations. Default: the feature `mask_key` as it is.
        frames_key: str. For films: feature that holds the frames, each of them
            an example with `image_key` and `mask_key`. Default: none.
        splits: tuple of str. Splits that have masks, where that is known.

    Raises:
        ValueError: if palette, labels and class names do not fit together or
            are not as described.

    Example:
        >>> from keras_deconv.data import SegmentationSet
        >>> roads = SegmentationSet(
        ...     name="my_roads",
        ...     image_key="image",
        ...     mask_key="mask",
        ...     class_names=("other", "road"),
        ...     palette=((0, 0, 0), (128, 64, 128)),
        ...     labels={1: 0, 7: 1},
        ...     void_labels=(0,),
        ... )
        >>> roads.num_classes
        2

        One mask per class, the features "mask_road" and "mask_car":

        >>> import tensorflow as tf
        >>> def read_mask(example):
        ...     road, car = example["mask_road"], example["mask_car"]
        ...     road = tf.cast(road[..., 0], "int32")
        ...     return tf.where(car[..., 0] > 0, 2, road)
        >>> traffic = SegmentationSet(
        ...     name="my_traffic",
        ...     image_key="image",
        ...     mask_key="mask_road",
        ...     class_names=("other", "road", "car"),
        ...     palette=((0, 0, 0), (128, 64, 128), (64, 0, 128)),
        ...     labels={0: 0, 1: 1, 2: 2},
        ...     read_mask=read_mask,
        ... )
    """

    name: str
    image_key: str
    mask_key: str
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    labels: Mapping[int, Any]
    void_labels: tuple[int, ...] = ()
    read_mask: Callable[[dict[str, Any]], tf.Tensor] | None = None
    frames_key: str | None = None
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("name", "image_key", "mask_key"):
            _arguments.text(getattr(self, key), key)
        _arguments.optional_text(self.frames_key, "frames_key")
        for key in ("void_labels", "splits"):
            _arguments.sequence(getattr(self, key), key)
        if self.read_mask is not None and not callable(self.read_mask):
            raise ValueError(
                "`read_mask` must be a function from an example to its labels, "
                f"or None. Received: read_mask={self.read_mask!r}"
            )
        _arguments.class_names(self.class_names)
        if self.num_classes > VOID:
            raise ValueError(
                f"`class_names` must name at most {VOID} classes, since label "
                f"{VOID} is void in every mask. Received: {self.num_classes} "
                f"classes in {self.name!r}."
            )
        _arguments.palette(self.palette)
        ids = class_ids(self.labels, self.class_names)
        # The dataclass is frozen for others.
        object.__setattr__(self, "labels", ids)
        if len(self.palette) != self.num_classes:
            raise ValueError(
                "`palette` must have one color per class. Received: "
                f"{len(self.palette)} colors for {self.num_classes} classes "
                f"in {self.name!r}."
            )
        if set(self.labels.values()) != set(range(self.num_classes)):
            raise ValueError(
                f"`labels` must map to every class 0..{self.num_classes - 1} "
                f"and to nothing else. Received: labels={dict(self.labels)} "
                f"in {self.name!r}. Labels to be left out are void_labels."
            )
        sources = [*self.labels, *self.void_labels]
        if not all(
            isinstance(label, numbers.Integral) and 0 <= int(label) <= 255
            for label in sources
        ) or len(set(sources)) < len(sources):
            raise ValueError(
                "`labels` and `void_labels` must be distinct and in 0..255. "
                f"Received: labels {list(self.labels)}, void_labels "
                f"{list(self.void_labels)} in {self.name!r}."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, not counting void."""
        return len(self.class_names)


def plain_set(
    name: str,
    image_key: str,
    mask_key: str,
    class_names: tuple[str, ...],
    **changes: Any,
) -> SegmentationSet:
    """Describes a set whose labels are classes, and 255 void."""
    description: dict[str, Any] = {
        "palette": default_palette(len(class_names)),
        "labels": {label: label for label in range(len(class_names))},
        "void_labels": (VOID,),
    }
    return SegmentationSet(
        name, image_key, mask_key, class_names, **(description | changes)
    )


def class_ids(
    labels: Mapping[Any, Any], class_names: Sequence[str] | None
) -> dict[int, int]:
    """Return `labels` with ints alone: class ids in place of class names.

    Raises:
        ValueError: If a key is not an int, or a value is neither an int nor
            one of the names.
    """
    ids = {name: number for number, name in enumerate(class_names or ())}
    try:
        return {
            operator.index(label): operator.index(ids.get(value, value))
            for label, value in labels.items()
        }
    except (AttributeError, TypeError):  # Not a mapping, or not hashable.
        raise ValueError(
            "`labels` must map ints to class ids or to names of classes"
            + (f" ({', '.join(ids)})" if ids else "")
            + f". Received: labels={labels!r}"
        ) from None


def generic_names(num_classes: int) -> tuple[str, ...]:
    """Names for classes of which nothing but the number is known."""
    return tuple(f"class_{number}" for number in range(num_classes))


def class_table(entry: SegmentationSet) -> list[int]:
    """Return the class of every label 0..255, or -1 for an unknown label.

    The last entry, -1, is for labels outside 0..255.
    """
    table = [-1] * 257
    for label in entry.void_labels:
        table[label] = VOID
    for label, number in entry.labels.items():
        table[label] = number
    return table
