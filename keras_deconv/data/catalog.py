"""What each data set's labels mean, since tfds does not say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

VOID = 255
"""The label of pixels that count neither in training nor in scores."""


def describe(name: str) -> SegmentationSet:
    """Looks up what is known of a data set.

    Args:
        name: str. Name as tfds writes it, with or without configuration and
            version, e.g. `"cam_vid"` or `"oxford_iiit_pet:4.*.*"`.

    Returns:
        The `SegmentationSet` of that name.

    Raises:
        ValueError: if the name is not in the catalog.

    Example:
        >>> from keras_deconv.data import describe
        >>> describe("oxford_iiit_pet:4.*.*").class_names
        ('pet', 'background', 'border')
        >>> describe("cam_vid").num_classes
        11
    """
    entry = _CATALOG.get(re.split("[/:]", str(name), maxsplit=1)[0])
    if entry is None:
        known = ", ".join(sorted(_CATALOG))
        raise ValueError(
            f"`name` must be a data set of the catalog ({known}). "
            f"Received: name={name!r}. Any other tfds set can be read with "
            "segmentation_pairs and a SegmentationSet of your own."
        )
    return entry


@dataclasses.dataclass(frozen=True)
class SegmentationSet:
    """Where a tfds data set keeps its masks and what the labels mean.

    Sets number their labels as they like: some start at 1, some have gaps,
    some mark void with 0, some with 255. An entry maps them all to classes
    0..num_classes-1; whatever stands in `void_labels` becomes 255.

    Args:
        name: str. Name of the set in tfds.
        image_key: str. Feature that holds the picture.
        mask_key: str. Feature that holds the label of every pixel.
        class_names: tuple of str, one per class.
        palette: tuple of (red, green, blue) in 0..255, one per class.
        labels: mapping from label in the source, 0..255, to class.
        void_labels: tuple of the labels in the source, 0..255, that mean void.

    Raises:
        ValueError: if palette, labels and class names do not fit together.

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
    """

    name: str
    image_key: str
    mask_key: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    labels: Mapping[int, int]
    void_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.palette) != self.num_classes:
            raise ValueError(
                "`palette` must have one colour per class. Received: "
                f"{len(self.palette)} colours for {self.num_classes} classes "
                f"in {self.name!r}."
            )
        if set(self.labels.values()) != set(range(self.num_classes)):
            raise ValueError(
                f"`labels` must map to every class 0..{self.num_classes - 1} "
                f"and to nothing else. Received: labels={dict(self.labels)} "
                f"in {self.name!r}. Labels to be left out are void_labels."
            )
        sources = [*self.labels, *self.void_labels]
        if len(set(sources)) < len(sources) or not set(sources) <= set(
            range(256)
        ):
            raise ValueError(
                "`labels` and `void_labels` must be distinct and in 0..255. "
                f"Received: labels {list(self.labels)}, void_labels "
                f"{list(self.void_labels)} in {self.name!r}."
            )

    @property
    def num_classes(self) -> int:
        """How many classes there are; void is none of them."""
        return len(self.class_names)


_CATALOG = {
    entry.name: entry
    for entry in (
        # Colours as in the SegNet demonstration.
        SegmentationSet(
            name="cam_vid",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=(
                "sky",
                "building",
                "pole",
                "road",
                "pavement",
                "tree",
                "sign_symbol",
                "fence",
                "car",
                "pedestrian",
                "bicyclist",
            ),
            palette=(
                (128, 128, 128),
                (128, 0, 0),
                (192, 192, 128),
                (128, 64, 128),
                (60, 40, 222),
                (128, 128, 0),
                (192, 128, 128),
                (64, 64, 128),
                (64, 0, 128),
                (64, 64, 0),
                (0, 128, 192),
            ),
            labels={label: label for label in range(11)},
            void_labels=(11,),
        ),
        SegmentationSet(
            name="oxford_iiit_pet",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=("pet", "background", "border"),
            palette=((220, 80, 60), (60, 90, 160), (250, 210, 90)),
            labels={1: 0, 2: 1, 3: 2},
        ),
        SegmentationSet(
            name="scenes",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=(
                "sky",
                "building",
                "road",
                "pavement",
                "tree",
                "car",
            ),
            palette=(
                (128, 128, 128),
                (128, 0, 0),
                (128, 64, 128),
                (60, 40, 222),
                (128, 128, 0),
                (64, 0, 128),
            ),
            labels={label: label for label in range(6)},
            void_labels=(VOID,),
        ),
    )
}
