"""Label files of labeling tools, which define labels and colors."""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterable
from typing import Any

from keras_deconv import _arguments
from keras_deconv.data._errors import printable
from keras_deconv.data._sets import Color, color_map

__all__ = ["read_label_map"]

# Lowercase names that tools and datasets use for void.
_VOID_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled")
_LABELME_VOID = "__ignore__"
_NUMBER = r"\s*(\d{1,3})\s*"
# CVAT and datumaro: name:red,green,blue:parts:actions.
_CVAT = re.compile(rf"([^:]+):{_NUMBER},{_NUMBER},{_NUMBER}(?::.*)?", re.ASCII)
# The same form without colors. Like datumaro, use the colors of VOC then.
_NO_COLORS = re.compile(r"([^:]+):::.*")
# CamVid: red green blue name.
_CAMVID = re.compile(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*)", re.ASCII)
# First line of CSV tables, such as that of CamVid on Kaggle.
_CSV_HEADER = re.compile(r"name\s*,\s*r\s*,\s*g\s*,\s*b", re.IGNORECASE)
_CSV = re.compile(rf'([^",]+),{_NUMBER},{_NUMBER},{_NUMBER}', re.ASCII)
# Lines of unsupported forms that could be mistaken for names: 0 void, 1: road,
# 2. car, or road 128 64 128.
_NUMBERED = re.compile(r"\d+(\s*[:=,;]|[.)]?\s)", re.ASCII)
_COLORED = re.compile(
    r".*[\s,;:=(\[]\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3}[)\]]?", re.ASCII
)
_HEXADECIMAL = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_FORMS = (
    "name:red,green,blue:: (CVAT, VOC), red green blue name (CamVid), CSV with "
    "the header name,r,g,b, one name per line, or a JSON object such as "
    '{"0": "sky", "1": "road"} or {"sky": [70, 130, 180]}'
)


def read_label_map(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Read a label file of a labeling tool, as arguments of `from_folders`.

    Use it for masks that were exported with a file of their labels or colors.
    Pass the result as `from_folders(images, masks, **arguments, ...)` or to
    `to_tfds`. The content of the file decides which of five forms it has:

    - `labelmap.txt` of CVAT, datumaro and VOC: one line `name:red,green,blue::`
      per class. The masks contain colors. If the lines have the form `name:::`,
      the colors are those of `color_map`, in the order of the lines.
    - `label_colors.txt` of CamVid: one line `red green blue name` per class.
      The masks contain colors.
    - `class_dict.csv`, as in CamVid on Kaggle: the line `name,r,g,b`, followed
      by one line such as `sky,70,130,180` per class. The masks contain colors.
    - A list of names, one per line, or a JSON array of names. The labels are 0,
      1, 2 and so on, in this order. If the first name is `__ignore__`, as in
      files of labelme, the labels start with 0 at the second name.
    - A JSON object from label to name (`{"0": "sky", "7": "road"}`), from name
      to label (`{"sky": 0, "road": 7}`), or from name to color
      (`{"sky": [70, 130, 180]}` or `{"sky": "#4682b4"}`).

    Empty lines and lines that start with `#` are ignored. Entries named void,
    ignore, ignored, unlabeled or `unlabelled`, in upper or lower case, are
    void.

    Args:
        path: Path of the file, encoded in UTF-8.

    Returns:
        dict of arguments of `from_folders` and `to_tfds`. For colors: `classes`
        and `palette`, and `void_colors` if an entry is void. For labels:
        `labels`, and `void_labels` if an entry is void. 255 is then void too,
        unless it is the label of a class.

    Raises:
        ValueError: If the file cannot be read, or is not encoded in UTF-8.
        ValueError: If the file has none of these forms, such as a list of names
            with a number before the name or a color after it.
        ValueError: If the names, labels or colors are not distinct.
        ValueError: If there are fewer than two classes.
        ValueError: If a label or a part of a color is not an int in 0..255.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_deconv.data import read_label_map
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "labelmap.txt")
        ...     _ = path.write_text("# label:color_rgb:parts:actions\n"
        ...                         "road:128,64,128::\nsky:70,130,180::\n")
        ...     arguments = read_label_map(path)
        >>> arguments["classes"], arguments["palette"]
        (('road', 'sky'), ((128, 64, 128), (70, 130, 180)))
    """
    file = _arguments.path(path, "path")
    shown = printable(path)
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise _refusal(shown, f"The file cannot be read: {reason}.") from None
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, shown)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [_NO_COLORS.fullmatch(line) for line in lines]
    if lines and all(matches):
        names = [match[1] for match in matches if match]
        colors = color_map(min(len(names), 256))
        return _of_colors(zip(names, colors, strict=False), shown)
    is_table = bool(lines) and _CSV_HEADER.fullmatch(lines[0]) is not None
    if is_table:
        del lines[0]
    forms = ((_CVAT, True), (_CAMVID, False))
    for pattern, name_first in ((_CSV, True),) if is_table else forms:
        matches = [pattern.fullmatch(line) for line in lines]
        if not any(matches) and not is_table:
            continue
        if not all(matches):
            wrong = lines[matches.index(None)]
            raise _refusal(shown, f"One line has a different form: {wrong!r}.")
        found = [match.groups() for match in matches if match]
        return _of_colors(
            [
                (parts[0], [*map(int, parts[1:])])
                if name_first
                else (parts[3], [*map(int, parts[:3])])
                for parts in found
            ],
            shown,
        )
    if lines[:1] == [_LABELME_VOID]:
        # labelme stores 255 for this entry.
        del lines[0]
    for line in lines:
        if _NUMBERED.match(line) or _COLORED.fullmatch(line):
            raise _refusal(
                shown,
                f"This line contains more than a name: {line!r}. In a list of "
                "names, the labels are 0, 1, 2 and so on. Write other labels "
                "as a JSON object, and colors in one of the other forms.",
            )
    return _of_labels(enumerate(lines), shown)


def _from_json(text: str, shown: str) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_distinct)
    # Deeply nested lists raise a RecursionError.
    except (RecursionError, ValueError) as error:
        raise _refusal(shown, f"It is not JSON: {error}.") from None
    if isinstance(content, list):
        if not all(isinstance(name, str) for name in content):
            raise _refusal(shown, "The array must contain only names.")
        return _of_labels(enumerate(content), shown)
    values = list(content.values())
    if all(re.fullmatch("[0-9]+", key, re.ASCII) for key in content) and all(
        isinstance(value, str) for value in values
    ):
        return _of_labels(
            [(int(key), value) for key, value in content.items()], shown
        )
    if all(type(value) is int for value in values):
        return _of_labels([(v, name) for name, v in content.items()], shown)
    return _of_colors(content.items(), shown)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate keys, which Python would silently overwrite."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two entries have the same key")
    return found


def _of_labels(pairs: Iterable[tuple[int, str]], shown: str) -> dict[str, Any]:
    labels, void = dict[int, str](), list[int]()
    for label, name in pairs:
        name = name.strip()
        if label in labels or label in void or not 0 <= label <= 255:
            raise _refusal(
                shown, f"Labels must be distinct and in 0..255, not {label}."
            )
        if name.lower() in _VOID_NAMES:
            void.append(label)
        else:
            labels[label] = name
    _check_names(labels.values(), shown)
    found: dict[str, Any] = {"labels": labels}
    if void:
        # 255 is void by default, and stays void.
        more = [] if 255 in labels or 255 in void else [255]
        found["void_labels"] = (*void, *more)
    return found


def _of_colors(pairs: Iterable[tuple[str, Any]], shown: str) -> dict[str, Any]:
    palette, void = dict[str, Color](), list[Color]()
    names = []
    for name, value in pairs:
        name, color = name.strip(), _color(value, shown)
        if name.lower() in _VOID_NAMES:
            void.append(color)
        else:
            names.append(name)
            palette[name] = color
    _check_names(names, shown)
    colors = [*palette.values(), *void]
    if len(set(colors)) < len(colors):
        twice = next(color for color in colors if colors.count(color) > 1)
        raise _refusal(shown, f"Two entries have the color {twice}.")
    found: dict[str, Any] = {
        "classes": tuple(names),
        "palette": tuple(palette.values()),
    }
    if void:
        found["void_colors"] = tuple(void)
    return found


def _color(value: Any, shown: str) -> Color:
    parts: Any = value
    if isinstance(value, str):
        match = _HEXADECIMAL.fullmatch(value)
        parts = [int(part, 16) for part in match.groups()] if match else ()
    try:
        if any(isinstance(part, bool) for part in parts):
            raise TypeError
        red, green, blue = map(operator.index, parts)
    except (TypeError, ValueError):
        red = green = blue = -1
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise _refusal(shown, f"This is not a color in 0..255: {value!r}.")
    return red, green, blue


def _check_names(names: Iterable[str], shown: str) -> None:
    try:
        _arguments.class_names(tuple(names))
    except ValueError as error:
        raise _refusal(shown, str(error)) from None


def _refusal(shown: str, problem: str) -> ValueError:
    return ValueError(f"{shown}: A label map must hold {_FORMS}. {problem}")
