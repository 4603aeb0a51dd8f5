"""Read mask files, and pairs of an image and a mask."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_deconv.data import _images, _tiff
from keras_deconv.data._errors import printable
from keras_deconv.data._images import DecodedImage, Pixels
from keras_deconv.data._mask_formats import MaskFormat
from keras_deconv.data._sets import class_table
from keras_deconv.data._stray_labels import stray_labels_text

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Pillow modes of indexed and grayscale images.
_INDEXED, _GRAY = ("P", "PA"), ("1", "L", "LA")
# Largest change by lossy compression that is rounded back.
_MAX_LOSS = 2


@dataclasses.dataclass(frozen=True)
class MaskPixels:
    """The labels of a mask file.

    Args:
        labels: uint8 array of shape `(height, width)`, upright.
        orientation: EXIF orientation of the file, 1..8; 1 is upright.
        depth: Bits per channel of the file.
    """

    labels: np.ndarray
    orientation: int
    depth: int


def read_pair(
    image_path: pathlib.Path,
    mask_path: pathlib.Path,
    format: MaskFormat,
    channels: int = 3,
) -> tuple[Pixels, np.ndarray]:
    """Read an image and its mask.

    Returns:
        The image, and the class of each pixel, or 255 for void, as a uint8
        array of shape `(height, width)`.

    Raises:
        ValueError: If a file cannot be read.
        ValueError: If the image and the mask differ in size.
        ValueError: If a label is neither a class nor void.
    """
    content = _images.read_bytes(image_path)
    image = _images.read_pixels(content, printable(image_path), channels)
    mask = read_labels(mask_path, format)
    labels = mask.labels
    image_size = image.values.shape[:2]
    if image_size != labels.shape:
        raise ValueError(
            f"{printable(image_path)}: Image and mask must have the same size. "
            f"Received (height, width): {image_size}, and {labels.shape} in "
            f"{printable(mask_path)}."
            + _explain_turns(image.orientation, mask.orientation)
        )
    return image, _classes(mask_path, labels, format)


def _explain_turns(of_image: int, of_mask: int) -> str:
    if of_image == of_mask:
        return ""
    if 1 not in (of_image, of_mask):
        return (
            f" The EXIF orientation of the image is {of_image}, that of the "
            f"mask is {of_mask}. Save both upright, or both with the same "
            "orientation."
        )
    turned, other = ("image", "mask") if of_mask == 1 else ("mask", "image")
    return (
        f" The {turned} is rotated by its EXIF orientation, "
        f"{max(of_image, of_mask)}, but the {other} is not. Save both "
        "upright, or both with the same orientation."
    )


def read_labels(path: pathlib.Path, format: MaskFormat) -> MaskPixels:
    """Read the labels of a mask.

    Raises:
        ValueError: If the file cannot be read.
        ValueError: If a color has no meaning.
    """
    name = printable(path)
    content = _images.read_bytes(path)
    _check_channels(content, name)
    if (page := _page_of_numbers(content, name)) is not None:
        values = _tiff.read_bands(content, name)[..., 0]
        values = _in_bytes(name, _images.upright(values, page.orientation))
        labels = values
        if format.colors_decide:
            colors = np.repeat(values[..., None], 3, axis=-1)
            labels = _look_up(name, colors, format.label_of_color)
        return MaskPixels(labels, page.orientation, page.depth)
    decoded = _images.decode(content, name)
    mode, depth = decoded.mode, decoded.depth
    if decoded.is_lossy:
        values = _rounded(name, decoded, format)
    elif decoded.is_deep:
        values = _in_bytes(name, decoded.array())
    elif mode in (*_INDEXED, *_GRAY) and not format.colors_decide:
        values = decoded.array()
    else:
        values = decoded.array("RGB")
    if format.colors_decide:
        if values.ndim == 2:
            values = np.repeat(values[..., None], 3, axis=-1)
        labels = _look_up(name, values, format.label_of_color)
    elif values.ndim == 2 or mode in ("LA", "PA"):
        # Alpha is ignored.
        labels = values if values.ndim == 2 else values[..., 0]
        if mode in _GRAY and depth in (2, 4):
            # Pillow spreads values of 2 and 4 bits over 0..255.
            labels = labels // np.uint8(255 // (2**depth - 1))
    else:
        labels = _without_palette(name, values, format)
    return MaskPixels(labels.astype(np.uint8), decoded.orientation, depth)


def _page_of_numbers(content: bytes, name: str) -> _tiff.Page | None:
    """Return the page of a TIFF mask that Pillow cannot read, or None."""
    if not _tiff.is_tiff(content):
        return None
    page = _images.page_of(content, name)
    is_deep = page.num_channels == 1 and page.depth > 8
    # Pillow reads uint32 correctly up to 2**31, which is enough for labels. It
    # does not support uint32 in big-endian files.
    fits = page.fits_pillow or (page.depth == 32 and content[:1] == b"I")
    return page if is_deep and not fits else None


def _check_channels(content: bytes, name: str) -> None:
    """Refuse files that contain neither one channel nor 8-bit colors.

    Raises:
        ValueError: If the file has other channels.
    """
    num_channels, depth = 1, _images.png_depth(content) or 8
    has_alpha = True
    if depth == 16:
        # The byte after the bit depth is the color type: gray, colors, alpha.
        num_channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(content[25], 1)
    if _tiff.is_tiff(content):
        page = _images.page_of(content, name)
        num_channels, depth = page.num_channels, page.depth
        has_alpha = page.has_alpha
    are_two_bands = num_channels == 2 and not has_alpha
    is_deep = num_channels > 1 and depth > 8
    if num_channels > 4 or is_deep or are_two_bands:
        raise ValueError(
            f"{name}: The mask must have one channel of labels, or colors with "
            f"8 bits per channel. Received: {num_channels} channels of {depth} "
            "bits. Save the labels as one channel."
        )


def _in_bytes(name: str, values: np.ndarray) -> np.ndarray:
    """Return the labels of a mask with more than 8 bits as uint8.

    Raises:
        ValueError: If a value is not a whole number in 0..255.
    """
    is_label = (values >= 0) & (values <= 255) & (values == np.floor(values))
    strays = np.unique(values[~is_label])
    if strays.size:
        shown = ", ".join(f"{value:g}" for value in strays[:5].tolist())
        raise ValueError(
            f"{name}: The labels of the mask must be whole numbers in 0..255. "
            f"Found other values ({strays.size}): {shown}. Save the mask with "
            "8-bit labels."
        )
    return values.astype(np.uint8)


def _rounded(
    name: str, decoded: DecodedImage, format: MaskFormat
) -> np.ndarray:
    """Round values that lossy compression changed to labels or colors.

    Returns:
        uint8 array of shape `(height, width)` for gray masks, or `(height,
        width, 3)` for colors.

    Raises:
        ValueError: If rounding is not allowed.
        ValueError: If a value is not close to exactly one label or color.
    """
    if not format.is_lossy_allowed:
        raise ValueError(
            f"{name}: The mask must be a file without lossy compression. "
            f"Received: {decoded.image.format} with lossy compression, which "
            "changes labels at the edges of objects. Save masks as PNG. If all "
            "values are within 2 of a label, lossy_masks=True rounds them."
        )
    values = decoded.array("RGB").astype(int)
    is_gray = bool((np.ptp(values, axis=-1) <= _MAX_LOSS).all())
    by_color = bool(format.label_of_color) and (
        format.colors_decide or not is_gray
    )
    if by_color:
        known = _colors(np.array(sorted(format.label_of_color)))
    elif is_gray:
        shades = sorted([*format.entry.labels, *format.entry.void_labels])
        known = np.repeat(np.array(shades)[:, None], 3, axis=-1)
    else:
        # Such colors have no meaning. The caller reports them, as for other
        # masks.
        return values.astype(np.uint8)
    codes, place = np.unique(_codes(values), return_inverse=True)
    colors = _colors(codes)
    distances = np.abs(colors[:, None] - known).max(-1)
    is_near = distances <= _MAX_LOSS
    kind = "color" if by_color else "label"
    far = colors[~is_near.any(-1)]
    if far.size:
        stray = tuple(far[0].tolist()) if by_color else int(far[0, 0])
        raise ValueError(
            f"{name}: All values must be within {_MAX_LOSS} of a {kind} for "
            f"`lossy_masks` to round them. Found other values ({len(far)}), "
            f"such as {stray}. Save the mask again from its source, as PNG."
        )
    if (is_near.sum(-1) > 1).any():
        raise ValueError(
            f"{name}: The {kind}s must be at least {2 * _MAX_LOSS + 1} apart "
            "for `lossy_masks` to round values. Describe the masks with "
            "`foreground`, `labels` or `palette`, or save them as PNG."
        )
    nearest = known[distances.argmin(-1)].astype(np.uint8)
    rounded = nearest[place.reshape(-1)].reshape(values.shape)
    return rounded if by_color else rounded[..., 0]


def _without_palette(
    name: str, values: np.ndarray, format: MaskFormat
) -> np.ndarray:
    """Return the labels of an RGB mask if the user did not pass `palette`.

    Gray masks may have three equal channels, because OpenCV writes them so.
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
            "`palette` if its colors define the classes. Save the mask with "
            "one channel if its values are labels."
        )
    return labels


def _codes(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64) @ np.array([65536, 256, 1])


def _colors(codes: np.ndarray) -> np.ndarray:
    """Return the colors of codes, the inverse of `_codes`."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)


def _look_up(
    name: str, values: np.ndarray, label_of_color: Mapping[int, int]
) -> np.ndarray:
    codes = _codes(values)
    known = np.array(sorted(label_of_color))
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    strays = np.unique(codes[known[place] != codes])
    if strays.size:
        colors = map(tuple, _colors(strays[:5]).tolist())
        raise ValueError(
            f"{name}: The mask must contain only the colors of `palette` and "
            f"`void_colors`. Found other colors ({strays.size}): "
            f"{', '.join(map(str, colors))}. "
            + (
                "The mask is gray: omit `palette` if its values are labels."
                if (values == values[..., :1]).all()
                else "Resizing with interpolation mixes colors: resize masks "
                "with nearest neighbor only."
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
                has_zero=bool((labels == 0).any()),
                is_described=format.is_described,
            )
        )
    return classes.astype(np.uint8)


def check_not_binary(
    mask_paths: Sequence[pathlib.Path], format: MaskFormat
) -> None:
    """Refuse masks that contain only 0 and 255 if 255 is void by default.

    Most masks of two classes are of this kind. The check ends at the first mask
    with another value, which is usually the first mask. In a 1-bit mask, 1 is
    white, which other masks of the same dataset store as 255.

    Raises:
        ValueError: If 0 and 255 both occur and are the only values.
    """
    if not format.assumes_void:
        return
    found: set[int] = set()
    for path in mask_paths:
        try:
            mask = read_labels(path, format)
        except ValueError:
            # Loading the mask reports the error.
            continue
        values = set(np.unique(mask.labels).tolist())
        if mask.depth == 1:
            values.discard(1)
        found |= values
        if not found <= {0, 255}:
            return
    if found == {0, 255}:
        first, second = format.entry.class_names
        raise ValueError(
            f"The {len(mask_paths)} masks contain only the values 0 and 255, "
            f"and 255 means void by default, so {second!r} would never occur. "
            f"Pass foreground=255 if 255 is {second!r} and 0 is {first!r}. "
            "Pass void_labels=(255,) if 255 means void."
        )
