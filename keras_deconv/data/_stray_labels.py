"""Error messages for labels that are neither a class nor void."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence

from keras_deconv.data._sets import SegmentationSet, generic_names

_NUM_SHOWN = 5
# More labels than this come from interpolated edges, or from files that are not
# masks.
_MANY = 10
_PATTERN = re.compile(r"(.*?): The mask contains (label.*)", flags=re.DOTALL)


def stray_labels_text(
    where: str,
    strays: Sequence[int],
    entry: SegmentationSet,
    *,
    has_zero: bool,
    is_described: bool,
) -> str:
    """Return the error message for one mask in a folder.

    Args:
        where: Name of the mask file.
        strays: Sorted labels that are neither a class nor void.
        entry: Classes and their labels.
        has_zero: Whether the label 0 occurs in the mask.
        is_described: Whether the user described every label.
    """
    shown = ", ".join(map(str, strays[:_NUM_SHOWN]))
    if len(strays) > _NUM_SHOWN:
        shown += f" and {len(strays) - _NUM_SHOWN} others"
    plural = "s" if len(strays) > 1 else ""
    if is_described or len(strays) > _MANY:
        known = ", ".join(map(str, sorted([*entry.labels, *entry.void_labels])))
        advice = f"the labels of classes and void are {known}"
        if len(strays) > _MANY:
            advice += "; resize masks with nearest neighbor only"
    else:
        advice = _advice(strays, entry, has_zero)
    return (
        f"{where}: The mask contains label{plural} {shown}, neither class nor "
        f"void: {advice}."
    )


def _advice(
    strays: Sequence[int], entry: SegmentationSet, has_zero: bool
) -> str:
    number = entry.num_classes
    is_counted = list(entry.labels) == list(range(number))
    void = ", ".join(map(str, strays))
    void = f"void_labels=({void}{',' if len(strays) == 1 else ''})"
    has_names = entry.class_names != generic_names(number)
    free = [n for n in range(256) if n not in entry.void_labels]
    # If `labels` was not passed, only `foreground` leaves gaps between labels.
    is_binary = list(entry.labels) != free[:number]
    if is_binary and list(strays) == [1]:
        text = (
            f"use foreground=1 if 1 is {entry.class_names[1]} in all masks; "
            "if some masks have 1 bit per pixel, where 1 is white, save these "
            "with 8 bits"
        )
    elif is_binary and len(strays) == 1:
        text = (
            f"use foreground={strays[0]} if {strays[0]} is "
            f"{entry.class_names[1]} in all masks, or {void}"
        )
    elif strays[-1] < number + _MANY and is_counted and has_names:
        text = f"name {strays[-1] + 1} classes in `classes`, or use {void}"
    elif strays[-1] < number + _MANY and is_counted:
        text = f"use classes={strays[-1] + 1} or {void}"
    else:
        text = f"use {void}, or `labels` to say which class each value is"
    if list(strays) == [number] and is_counted:
        text += "; if classes are numbered from 1"
        text += " and 0 is void" if has_zero else ""
        text += ", use void_labels=(0,)"
        if not has_zero:
            # Names are valid for both `labels` and the option of the command.
            names = enumerate(entry.class_names, start=1)
            text += f" or labels={dict(names)}"
    return text


def summarize(texts: Iterable[str]) -> list[str]:
    """Merge messages about the same labels in several masks into one line.

    Other messages follow unchanged.
    """
    files: dict[str, list[str]] = collections.defaultdict(list)
    others = []
    for text in texts:
        match = _PATTERN.fullmatch(text)
        if match:
            files[match[2]].append(match[1])
        else:
            others.append(text)
    lines = []
    for rest, names in files.items():
        is_one = len(names) == 1
        masks = "1 mask contains" if is_one else f"{len(names)} masks contain"
        more = ", ..." if len(names) > _NUM_SHOWN else ""
        shown = ", ".join(names[:_NUM_SHOWN])
        lines.append(f"{masks} {rest.rstrip('.')} ({shown}{more})")
    return [*lines, *others]
