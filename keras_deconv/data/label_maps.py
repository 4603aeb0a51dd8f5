"""Files in which labeling tools write what labels and colors mean."""

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

# Names that tools and datasets give to pixels of no class, in small letters.
_VOID_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled")
_LABELME_VOID = "__ignore__"
_NUMBER = r"\s*(\d{1,3})\s*"
# CVAT and datumaro: name:red,green,blue:parts:actions.
_CVAT = re.compile(rf"([^:]+):{_NUMBER},{_NUMBER},{_NUMBER}(?::.*)?", re.ASCII)
# The same without colors, which are those of VOC then: so does datumaro.
_NO_COLORS = re.compile(r"([^:]+):::.*")
# CamVid: red green blue name.
_CAMVID = re.compile(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*)", re.ASCII)
# Tables of classes, as in the CamVid of Kaggle, begin with this line.
_CSV_HEADER = re.compile(r"name\s*,\s*r\s*,\s*g\s*,\s*b", re.IGNORECASE)
_CSV = re.compile(rf'([^",]+),{_NUMBER},{_NUMBER},{_NUMBER}', re.ASCII)
# Lines of other files, which are more than a name: 0 void, 1: road, 2. car,
# or road 128 64 128.
_NUMBERED = re.compile(r"\d+(\s*[:=,;]|[.)]?\s)", re.ASCII)
_COLORED = re.compile(
    r".*[\s,;:=(\[]\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3}[)\]]?", re.ASCII
)
_HEXADECIMAL = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_FORMS = (
    "name:red,green,blue:: (CVAT, VOC), red green blue name (CamVid), CSV with "
    "the header name,r,g,b, one name a line, or a JSON object such as "
    '{"0": "sky", "1": "road"} or {"sky": [70, 130, 180]}'
)


def read_label_map(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Read a label file of a labeling tool, as arguments of `from_folders`.

    Five kinds of files are known by what is in them:

    - `labelmap.txt` of CVAT, datumaro and VOC: `name:red,green,blue::`, one
      class a line. Colors count in the masks. Where no line has a color
      (`name:::`), they are those of `color_map`, in the order of the lines.
    - `label_colors.txt` of CamVid: `red green blue name`, one class a line.
      Colors count in the masks.
    - `class_dict.csv`, as in the CamVid of Kaggle: the line `name,r,g,b`, and
      then such a line for each class: `sky,70,130,180`. Colors count in the
      masks.
    - A list of names, one a line, or as a JSON array. The labels are 0, 1, 2
      and so on, in this order; after `__ignore__`, which labelme writes first,
      they begin with 0 too. Lines with a number before the name, or a color
      after it, are an error.
    - A JSON object from label to name (`{"0": "sky", "7": "road"}`), from name
      to label (`{"sky": 0, "road": 7}`), or from name to color
      (`{"sky": [70, 130, 180]}` or `{"sky": "#4682b4"}`).

    Empty lines, and lines that begin with `#`, are left out. Entries of the
    names void, ignore, ignored, unlabeled and unlabelled, in any case, are
    void.

    Args:
        path: Path of the file, UTF-8.

    Returns:
        dict of arguments of `from_folders` and `to_tfds`: `classes` and
        `palette`, and `void_colors` if there is void; or `labels`, and
        `void_labels` if there is void.

    Raises:
        ValueError: If the file cannot be read, has none of these forms, or
            its names or labels are not distinct.

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
            raise _refusal(shown, f"One line has another form: {wrong!r}.")
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
        # Its label is 255 in the masks.
        del lines[0]
    for line in lines:
        if _NUMBERED.match(line) or _COLORED.fullmatch(line):
            raise _refusal(
                shown,
                f"This line is more than a name: {line!r}. In a list of names, "
                "the labels are 0, 1, 2 and so on. Write other labels as a "
                "JSON object, and colors in one of the other forms.",
            )
    return _of_labels(enumerate(lines), shown)


def _from_json(text: str, shown: str) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_distinct)
    # Lists in lists in lists end in a RecursionError.
    except (RecursionError, ValueError) as error:
        raise _refusal(shown, f"It is not JSON: {error}.") from None
    if isinstance(content, list):
        if not all(isinstance(name, str) for name in content):
            raise _refusal(shown, "The array does not hold names alone.")
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
    """Make an object, of which Python would keep the last of equal keys."""
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
        # 255 stays void, as it is by default.
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
