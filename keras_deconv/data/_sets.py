"""Descriptions of datasets: the class of each label in their masks."""

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
    """Return distinct colors for classes: the color map of PASCAL VOC.

    Use it to save or show masks with the colors that VOC, CVAT and other tools
    expect. The lowest bits of an index become the highest bits of red, green
    and blue in turn, so consecutive indices have clearly different colors.

    Args:
        num_colors: int in 1..256. Number of colors.

    Returns:
        Tuple of `num_colors` tuples (red, green, blue) of ints in 0..255. The
        first color is black. The colors do not depend on `num_colors`.

    Raises:
        ValueError: If `num_colors` is not an int in 1..256.

    Reference:
        Everingham et al., 2010, "The Pascal Visual Object Classes (VOC)
        Challenge", `VOCcode/VOClabelcolormap.m` in the `VOCdevkit`. The colors
        are identical.

    Example:
        >>> from keras_deconv.data import color_map
        >>> color_map(4)
        ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    """
    if _arguments.positive_int(num_colors, "num_colors") > 256:
        raise ValueError(
            "`num_colors` must be at most 256, so that colors are distinct. "
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
    """Description of a dataset: its features, and the class of each label.

    Pass it as `name` to `load` or `segmentation_pairs`, or as `classes` to
    `from_folders`, for datasets that the catalog does not contain. Datasets
    number their labels in different ways: some start at 1, some have gaps, and
    some mark void with 0 or 255. The description maps all labels to the classes
    0..num_classes-1. The labels in `void_labels` become 255.

    By default, the mask is the feature `mask_key`: one channel of labels of an
    integer dtype or bool. Pass `read_mask` for other masks, such as one channel
    of several, one mask per class or object, or ids stored as colors.

    Args:
        name: str. Name of the dataset in tfds.
        image_key: str. Feature that contains the image.
        mask_key: str. Feature that contains the label of every pixel.
        class_names: Tuple of distinct str, one per class. 2 to 255 classes.
            Names must not be empty, start or end with whitespace, or contain
            line breaks.
        palette: Tuple of one color (red, green, blue) in 0..255 per class, for
            figures and for RGB masks in folders.
        labels: dict from each label in the masks, an int in 0..255, to a class
            id or a class name, such as `{0: "background", 255: "building"}`.
            Several labels may map to the same class.
        void_labels: Tuple of the labels in 0..255 that mean void. Defaults to
            (), which means that nothing is void.
        read_mask: Function that returns the labels of an example, or None. It
            receives a dict of tensors and returns an integer or bool tensor of
            shape (height, width). It must consist of TensorFlow operations.
        frames_key: str or None. For videos: the feature that contains the
            frames. Each frame is an example with `image_key` and `mask_key`.
        splits: Tuple of str. Names of the splits that have masks, if known.

    Raises:
        ValueError: If `name`, `image_key`, `mask_key` or `frames_key` is not a
            non-empty str.
        ValueError: If `class_names` has invalid names, or fewer than 2 or more
            than 255 classes.
        ValueError: If `palette` does not have one color per class.
        ValueError: If `labels` does not map to exactly the classes.
        ValueError: If `labels` and `void_labels` are not distinct ints in
            0..255.
        ValueError: If `read_mask` is not callable.

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

        A dataset with one mask per class, in the features "mask_road" and
        "mask_car":

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
        >>> traffic.num_classes
        3
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
                f"{VOID} is void in all masks. Received: {self.num_classes} "
                f"classes in {self.name!r}."
            )
        _arguments.palette(self.palette)
        ids = class_ids(self.labels, self.class_names)
        # Assignment would fail, because the dataclass is frozen.
        object.__setattr__(self, "labels", ids)
        if len(self.palette) != self.num_classes:
            raise ValueError(
                "`palette` must have one color per class. Received: "
                f"{len(self.palette)} colors for {self.num_classes} classes "
                f"in {self.name!r}."
            )
        if set(self.labels.values()) != set(range(self.num_classes)):
            raise ValueError(
                "`labels` must map to exactly the classes "
                f"0..{self.num_classes - 1}. Received: "
                f"labels={dict(self.labels)} in {self.name!r}. Pass labels "
                "that are ignored as `void_labels`."
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
    """Describe a dataset whose labels are the classes, and 255 for void."""
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
    """Return `labels` with class ids in place of class names.

    Raises:
        ValueError: If a key is not an int.
        ValueError: If a value is neither an int nor one of the names.
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
    """Return names for classes of which only the number is known."""
    return tuple(f"class_{number}" for number in range(num_classes))


def class_table(entry: SegmentationSet) -> list[int]:
    """Return the class of every label 0..255, or -1 for an unknown label.

    The additional last entry, -1, is for labels outside 0..255.
    """
    table = [-1] * 257
    for label in entry.void_labels:
        table[label] = VOID
    for label, number in entry.labels.items():
        table[label] = number
    return table
