"""Reading mask files, and images together with their masks."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_deconv.data import _images
from keras_deconv.data._errors import printable
from keras_deconv.data._images import Pixels
from keras_deconv.data._mask_formats import MaskFormat
from keras_deconv.data._sets import class_table
from keras_deconv.data._stray_labels import stray_labels_text

MASK_SUFFIXES = (".png",)
# Pillow's names for kinds of pixels.
_INDEXED, _COLORS = ("P",), ("RGB", "RGBA")


def read_pair(
    image_path: pathlib.Path, mask_path: pathlib.Path, format: MaskFormat
) -> tuple[Pixels, np.ndarray]:
    """Read an image, and the class or 255 of each pixel.

    Returns:
        Image, and uint8 `(height, width)`.

    Raises:
        ValueError: If a file is faulty, the sizes differ, or a label is
            neither a class nor void.
    """
    content = _images.read_bytes(image_path)
    image = _images.read_pixels(content, printable(image_path))
    labels, orientation = read_labels(mask_path, format)
    image_size = image.values.shape[:2]
    if image_size != labels.shape:
        raise ValueError(
            f"{printable(image_path)}: Image and mask must have the same size. "
            f"Received (height, width): {image_size}, and {labels.shape} in "
            f"{printable(mask_path)}."
            + _explain_turns(image.orientation, orientation)
        )
    return image, _classes(mask_path, labels, format)


def _explain_turns(of_image: int, of_mask: int) -> str:
    if of_image == of_mask:
        return ""
    if 1 not in (of_image, of_mask):
        return (
            f" The image is turned by its EXIF orientation, {of_image}, and "
            f"the mask by another one, {of_mask}. Save both upright, or both "
            "with the same orientation."
        )
    turned, other = ("image", "mask") if of_mask == 1 else ("mask", "image")
    return (
        f" The {turned} is turned by its EXIF orientation, "
        f"{max(of_image, of_mask)}, and the {other} has none. Save both "
        "upright, or both with the same orientation."
    )


def read_labels(
    path: pathlib.Path, format: MaskFormat
) -> tuple[np.ndarray, int]:
    """Read the labels of a mask, uint8 (height, width), and its orientation.

    Raises:
        ValueError: If the file is faulty, or its colors have no meaning.
    """
    name = printable(path)
    content = _images.read_bytes(path)
    depth = _images.png_depth(content)
    if depth not in (1, 2, 4, 8):
        raise ValueError(
            f"{name}: The mask must be a PNG file of 8 bits per channel or "
            "less. Received: "
            + (f"{depth} bits." if depth else "a file that is not PNG.")
        )
    with _images.opened(content, name) as image:
        orientation = _images.orientation_of(image)
        mode = image.mode
        values = np.asarray(image)
        if format.colors_decide or mode in _COLORS:
            values = np.asarray(image.convert("RGB"))
    if format.colors_decide:
        labels = _look_up(name, values, format.label_of_color)
    elif mode in _COLORS:
        labels = _without_palette(name, values, format)
    elif mode in _INDEXED:
        labels = values
    else:
        # Shades of less than 8 bits come spread over 0..255, but for 1 bit.
        shades = values[..., 0] if values.ndim == 3 else values
        spread = 1 if depth == 1 else 255 // (2**depth - 1)
        labels = shades.astype(np.uint8) // np.uint8(spread)
    return _images.upright(labels, orientation), orientation


def _without_palette(
    name: str, values: np.ndarray, format: MaskFormat
) -> np.ndarray:
    """Read an RGB mask of which nobody said that colors count.

    OpenCV writes gray as three equal channels.
    """
    is_gray = (values == values[..., :1]).all()
    known = format.label_of_color
    if not is_gray:
        if not known:
            raise ValueError(
                f"{name}: The mask has colors, so `palette` must say what they "
                "mean. Received: palette=None"
            )
        return _look_up(name, values, known)
    labels = values[..., 0]
    if known and set(np.unique(_codes(values)).tolist()) <= set(known):
        by_color = _look_up(name, values, known)
        table = np.array(class_table(format.entry))
        if np.array_equal(table[by_color], table[labels]):
            return labels
        if (table[labels] < 0).any():
            return by_color
        raise ValueError(
            f"{name}: The mask has gray colors that are both labels and colors "
            "of the palette, with different meanings. Pass the palette as "
            "`palette` if colors count, or save the mask with one channel if "
            "values are labels."
        )
    return labels


def _codes(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64) @ np.array([65536, 256, 1])


def _look_up(
    name: str, values: np.ndarray, label_of_color: Mapping[int, int]
) -> np.ndarray:
    codes = _codes(values)
    known = np.array(sorted(label_of_color))
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    strays = np.unique(codes[known[place] != codes])
    if strays.size:
        colors = [
            (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255)
            for code in strays[:5]
        ]
        raise ValueError(
            f"{name}: The mask must have the colors of `palette` and "
            f"`void_colors` alone. Found {strays.size} others: "
            f"{', '.join(map(str, colors))}. "
            + (
                "The mask is gray: leave out `palette` if values are labels."
                if (values == values[..., :1]).all()
                else "Colors in between come from smoothing: resize masks with "
                "nearest neighbor only."
            )
        )
    found = np.array([label_of_color[code] for code in known.tolist()])
    return found[place].astype(np.uint8)


def _classes(
    path: pathlib.Path, labels: np.ndarray, format: MaskFormat
) -> np.ndarray:
    classes = np.array(class_table(format.entry))[labels]
    strays = np.unique(labels[classes < 0]).tolist()
    if strays:
        raise ValueError(
            stray_labels_text(
                printable(path),
                strays,
                format.entry,
                is_described=format.is_described,
            )
        )
    return classes.astype(np.uint8)


def check_not_binary(
    mask_paths: Sequence[pathlib.Path], format: MaskFormat
) -> None:
    """Refuse masks of 0 and 255 alone if 255 is void only by default.

    Such masks are the most common of two classes. Reading ends with the first
    mask that has another value, which is usually the first one. In a mask of 1
    bit, 1 is white, which other masks of the same set write as 255.

    Raises:
        ValueError: If no mask has another value, and 255 occurs.
    """
    if not format.assumes_void:
        return
    found: set[int] = set()
    for path in mask_paths:
        try:
            labels, _ = read_labels(path, format)
        except ValueError:
            # It is reported when the mask is loaded.
            continue
        values = set(np.unique(labels).tolist())
        if 1 in values and _images.png_depth(_images.read_bytes(path)) == 1:
            values.discard(1)
        found |= values
        if not found <= {0, 255}:
            return
    if found == {0, 255}:
        first, second = format.entry.class_names
        raise ValueError(
            f"The {len(mask_paths)} masks hold the values 0 and 255 alone, and "
            f"255 means void by default, so {second!r} would never occur. "
            f"Pass foreground=255 if 255 is {second!r} and 0 is {first!r}. "
            "Pass void_labels=(255,) if 255 means void."
        )
