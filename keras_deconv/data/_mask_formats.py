"""Meaning of the values and colors of mask files."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from keras_deconv import _arguments
from keras_deconv._arguments import VOID
from keras_deconv.data._sets import (
    Color,
    SegmentationSet,
    class_ids,
    color_map,
    generic_names,
    plain_set,
)

Classes: TypeAlias = int | Sequence[str] | SegmentationSet
Labels: TypeAlias = Mapping[int, int] | Mapping[int, str]
Palette: TypeAlias = Sequence[Color] | str
_BINARY_NAMES = ("background", "foreground")
# Color of the lines around objects in VOC masks, which are void.
_VOC_BORDER = (224, 224, 192)


@dataclasses.dataclass(frozen=True)
class MaskFormat:
    """Meaning of the values and colors of the masks in a folder.

    Args:
        entry: Classes, and their labels in the masks.
        label_of_color: Label of each color, where the key is red * 65536 +
            green * 256 + blue.
        colors_decide: Whether to use the color of a pixel in every mask. If
            False, the color is only used in RGB masks that are not gray.
        assumes_void: Whether 255 is void by default in a dataset of two
            classes. Masks with only 0 and 255 would then have a single class.
        is_described: Whether the user described all labels.
        is_lossy_allowed: Whether values of files with lossy compression are
            rounded to labels.
    """

    entry: SegmentationSet
    label_of_color: Mapping[int, int]
    colors_decide: bool
    assumes_void: bool
    is_described: bool
    is_lossy_allowed: bool = False


def mask_format(
    name: str,
    classes: Classes | None,
    *,
    labels: Labels | None = None,
    foreground: int | None = None,
    void_labels: Sequence[int] | None = None,
    palette: Palette | None = None,
    void_colors: Sequence[Color] = (),
    lossy_masks: bool = False,
) -> MaskFormat:
    """Combine the arguments of `from_folders` that describe masks.

    Raises:
        ValueError: If the arguments contradict each other or are out of range.
    """
    is_described = isinstance(classes, SegmentationSet)
    if labels is not None or foreground is not None:
        _check_not_both(classes, labels, foreground, palette)
    colors_decide = palette is not None
    if isinstance(classes, SegmentationSet):
        palette = classes.palette if palette is None else palette
        entry = dataclasses.replace(
            classes,
            name=name,
            image_key="image",
            mask_key="mask",
            read_mask=None,
            frames_key=None,
        )
    else:
        entry = _entry(name, classes, labels, foreground, void_labels)
    if isinstance(palette, str):
        palette, void_colors = voc_colors(entry, palette, void_colors)
    return MaskFormat(
        entry,
        _label_of_color(entry, palette, void_colors),
        colors_decide=colors_decide,
        assumes_void=entry.num_classes == 2
        and VOID in entry.void_labels
        and not is_described
        and void_labels is None
        and palette is None,
        is_described=is_described or labels is not None,
        is_lossy_allowed=lossy_masks,
    )


def voc_colors(
    entry: SegmentationSet, palette: str, void_colors: Sequence[Color]
) -> tuple[Sequence[Color], Sequence[Color]]:
    """Return the VOC colors of classes and void, for `palette="voc"`.

    Raises:
        ValueError: If `palette` is any other str.
    """
    if palette != "voc":
        raise ValueError(
            "`palette` must be a sequence of colors (red, green, blue), or "
            f"'voc'. Received: palette={palette!r}"
        )
    void = list(void_colors)
    if entry.void_labels and _VOC_BORDER not in map(tuple, void):
        void.append(_VOC_BORDER)
    return color_map(entry.num_classes), void


def _check_not_both(
    classes: Classes | None,
    labels: Labels | None,
    foreground: int | None,
    palette: Palette | None,
) -> None:
    given = "labels" if foreground is None else "foreground"
    if labels is not None and foreground is not None:
        other = "`foreground`, which is short for labels={0: 0, V: 1}"
        given = "labels"
    elif isinstance(classes, SegmentationSet):
        other = "a SegmentationSet as `classes`, which defines the labels"
    elif palette is not None:
        other = "`palette`, which describes colors instead of labels"
    else:
        return
    raise ValueError(
        f"`{given}` must not be passed together with {other}. Received: "
        f"labels={labels!r}, foreground={foreground!r}"
    )


def _entry(
    name: str,
    classes: int | Sequence[str] | None,
    labels: Labels | None,
    foreground: int | None,
    void_labels: Sequence[int] | None,
) -> SegmentationSet:
    class_names = _class_names(classes)
    void = (VOID,) if void_labels is None else _void_labels(void_labels)
    if foreground is not None:
        names = class_names or _BINARY_NAMES
        if isinstance(classes, int):
            names = _BINARY_NAMES
        if len(class_names or names) != 2:
            raise ValueError(
                "`foreground` is for two classes, background and foreground. "
                f"Received: foreground={foreground!r}, classes={classes!r}. "
                "Pass `labels` for more classes."
            )
        value = _foreground(foreground)
        return _plain(
            name,
            names,
            {0: 0, value: 1},
            tuple(label for label in void if label != value),
        )
    if labels is not None:
        names, table = _named_labels(labels, class_names, classes)
        if void_labels is None:
            void = tuple(label for label in void if label not in table)
        both = sorted(set(table) & set(void))
        if both:
            raise ValueError(
                "`labels` and `void_labels` must not share a label. Received: "
                f"{', '.join(map(str, both))} in both. Remove it from one of "
                "them; void_labels=() means that nothing is void."
            )
        return _plain(name, names, table, void)
    if class_names is None:
        raise ValueError(
            "`classes` must be given unless `labels` or `foreground` is. "
            "Received: classes=None"
        )
    free = [label for label in range(256) if label not in void]
    if len(class_names) > len(free):
        raise ValueError(
            f"`classes` must be at most {len(free)} classes, the number of "
            "labels in 0..255 that are not void. Received: "
            f"{len(class_names)} classes, void_labels={void}"
        )
    table = {free[number]: number for number in range(len(class_names))}
    return _plain(name, class_names, table, void)


def _plain(
    name: str,
    class_names: tuple[str, ...],
    labels: Mapping[int, int],
    void_labels: tuple[int, ...],
) -> SegmentationSet:
    return plain_set(
        name,
        "image",
        "mask",
        class_names,
        labels=labels,
        void_labels=void_labels,
    )


def _class_names(
    classes: int | Sequence[str] | None,
) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if isinstance(classes, str):
        raise ValueError(
            "`classes` must be an int, a sequence of names or a "
            f"SegmentationSet. Received: classes={classes!r}"
        )
    if isinstance(classes, Sequence):
        return _arguments.class_names(classes, name="classes")
    return generic_names(_arguments.num_classes(classes))


def _foreground(value: Any) -> int:
    try:
        label = operator.index(value)
    except TypeError:
        label = 0
    if isinstance(value, bool) or not 1 <= label <= 255:
        raise ValueError(
            "`foreground` must be an int in 1..255, the value of the "
            "foreground in the masks; 0 is the background. Received: "
            f"foreground={value!r}. If the background has another value, pass "
            "`labels`, such as labels={255: 0, 0: 1}."
        )
    return label


def _named_labels(
    labels: Any,
    class_names: tuple[str, ...] | None,
    classes: int | Sequence[str] | None,
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return the names of the classes, and the class of each label."""
    if not isinstance(labels, Mapping) or not labels:
        raise ValueError(
            "`labels` must be a dict from mask value to class, such as "
            "{0: 0, 255: 1} or {0: 'background', 255: 'building'}. "
            f"Received: labels={labels!r}"
        )
    given = list(dict.fromkeys(labels.values()))
    if all(isinstance(value, str) for value in given):
        if class_names is None:
            class_names = _arguments.class_names(given, name="labels")
        elif isinstance(classes, int):
            class_names = tuple(given)
            if len(given) != classes:
                raise _disagreement(labels, classes)
        if set(given) != set(class_names):
            raise _disagreement(labels, classes)
        table = class_ids(labels, class_names)
    else:
        table = class_ids(labels, None)
        number = max(table.values(), default=-1) + 1
        if class_names is None and number >= 2:
            class_names = generic_names(number)
        if class_names is None or set(table.values()) != set(
            range(len(class_names))
        ):
            raise _disagreement(labels, classes)
    if not set(table) <= set(range(256)):
        raise ValueError(
            "The mask values in `labels` must be ints in 0..255. "
            f"Received: labels={labels!r}"
        )
    return class_names, table


def _disagreement(labels: Any, classes: Any) -> ValueError:
    return ValueError(
        "`labels` must map to exactly the classes: to all names in `classes`, "
        "or to all ids 0, 1, 2 and so on, at least two. "
        f"Received: labels={labels!r}, classes={classes!r}"
    )


def _void_labels(value: Any) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(label) for label in value)
    except TypeError:
        found = (-1,)
    if len(set(found)) < len(found) or not set(found) <= set(range(256)):
        raise ValueError(
            "`void_labels` must be a sequence of distinct ints in 0..255, such "
            "as (255,), or () if nothing is void. "
            f"Received: void_labels={value!r}"
        )
    return found


def _label_of_color(
    entry: SegmentationSet,
    palette: Sequence[Color] | None,
    void_colors: Sequence[Color],
) -> dict[int, int]:
    void_codes = _color_codes(void_colors, "void_colors")
    if palette is None:
        if void_codes:
            raise ValueError(
                "`void_colors` requires a `palette` with the class colors. "
                f"Received: void_colors={void_colors!r}, palette=None"
            )
        return {}
    codes = _color_codes(palette, "palette")
    if len(codes) != entry.num_classes:
        raise ValueError(
            "`palette` must have one color per class. Received: "
            f"{len(codes)} colors for {entry.num_classes} classes."
        )
    if void_codes and not entry.void_labels:
        raise ValueError(
            "`void_colors` requires a label that means void. Add 255 to "
            "`void_labels`."
        )
    # A class may have several labels. Any of them identifies it.
    label_of_class = {number: label for label, number in entry.labels.items()}
    meanings = [
        *((codes[number], label) for number, label in label_of_class.items()),
        *((code, entry.void_labels[0]) for code in void_codes),
    ]
    label_of_color = dict(meanings)
    if len(label_of_color) < len(meanings):
        raise ValueError(
            "The colors of `palette` and `void_colors` must be distinct. "
            f"Received: palette={palette!r}, void_colors={void_colors!r}"
        )
    return label_of_color


def _color_codes(value: Any, argument: str) -> list[int]:
    colors = _arguments.elements(value)
    if colors is None:
        raise ValueError(
            f"`{argument}` must be a sequence of colors (red, green, blue). "
            f"Received: {argument}={value!r}"
        )
    return [_color_code(color) for color in colors]


def _color_code(color: Any) -> int:
    try:
        red, green, blue = (operator.index(value) for value in color)
    except Exception:  # Tensors that are not ints raise other errors.
        red = green = blue = -1
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(
            "A color must be three ints (red, green, blue) in 0..255. "
            f"Received: {color!r}"
        )
    return 65536 * red + 256 * green + blue
