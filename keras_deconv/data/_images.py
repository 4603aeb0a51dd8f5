"""Reading image files as viewers show them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import statistics
from collections.abc import Iterable, Iterator

import numpy as np
import PIL.ExifTags
import PIL.Image
import tensorflow as tf

from keras_deconv.data import _value_ranges
from keras_deconv.data._errors import printable

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# Of images that are not read, so that they are not left out without a word.
OTHER_SUFFIXES = (
    *(".avif", ".bmp", ".dcm", ".dng", ".exr", ".gif", ".hdr", ".heic"),
    *(".heif", ".jfif", ".jp2", ".nii", ".npy", ".pbm", ".pgm", ".ppm"),
    *(".tga", ".tif", ".tiff", ".webp"),
)
# Others are refused whatever the file is called: some run programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG")
_PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels of an image file.

    Args:
        values: Array `(height, width, 3)`, turned as viewers show it: uint8,
            or what a deeper file holds.
        orientation: EXIF orientation of the file, 1..8; 1 is upright.
        format: Format of the file, such as "PNG".
    """

    values: np.ndarray
    orientation: int
    format: str

    @property
    def is_deep(self) -> bool:
        """Whether the file has more than 8 bits per channel."""
        return self.values.dtype != np.uint8


def read_image(
    source: str | os.PathLike[str] | bytes,
    *,
    value_range: _value_ranges.ValueRange | None = None,
    name: str | None = None,
) -> np.ndarray:
    """Read an image file as viewers show it: turned by its EXIF orientation.

    Args:
        source: Path or content of a PNG, JPEG, BMP or GIF file.
        value_range: Tuple (low, high) of the values that become 0 and 255.
            Values beyond are clipped. Images of more than 8 bits need it.
        name: What errors call the file. Defaults to its path.

    Returns:
        RGB array `(height, width, 3)` in 0..255: uint8, or float32 with
        `value_range`. Gray is repeated, alpha is left out.

    Raises:
        ValueError: If the file is not a complete image, has more than 8 bits
            per channel and `value_range` is None, or `value_range` is beyond
            what the file can hold or far too narrow for its values.
    """
    limits = _value_ranges.checked(value_range)
    content, name = _content_and_name(source, name)
    return in_range(read_pixels(content, name), limits, name)


def in_range(
    pixels: Pixels, value_range: tuple[float, float] | None, name: str
) -> np.ndarray:
    """Scale pixels to 0..255, or refuse those that need a range."""
    values = pixels.values
    if value_range is not None:
        _value_ranges.check_fits(value_range, values.dtype, name)
        _value_ranges.check_holds(values, value_range, name)
        return _value_ranges.scaled(values, value_range)
    if pixels.is_deep:
        low, high = float(values.min()), float(values.max())
        raise ValueError(
            f"{name}: The image has more than 8 bits per channel, so "
            "`value_range` must say which values become 0 and 255. Received: "
            f"values from {low:g} to {high:g} in this image. Pass the range of "
            "all images, such as "
            f"value_range={_value_ranges.proposed(low, high)}."
        )
    return values


def read_pixels(content: bytes, name: str) -> Pixels:
    """Read the pixels of an image file, exactly."""
    with opened(content, name) as image:
        orientation = orientation_of(image)
        if png_depth(content) == 16:
            # Pillow reduces all but plain gray to 8 bits, without a word.
            values = tf.io.decode_png(content, dtype=tf.uint16).numpy()
        elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
            values = np.asarray(image)[..., None]
        else:
            values = np.asarray(image.convert("RGB"))
        format = str(image.format)
    if values.shape[-1] < 3:
        values = np.repeat(values[..., :1], 3, axis=-1)
    return Pixels(upright(values[..., :3], orientation), orientation, format)


@contextlib.contextmanager
def opened(content: bytes, name: str) -> Iterator[PIL.Image.Image]:
    """Open a complete image file, with its pixels loaded.

    Raises:
        ValueError: If it cannot be read, here or in the block.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            # Checksums, which loading does not look at.
            image.verify()
        with PIL.Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            image.load()
            # It concerns nothing here, and Pillow warns about some of it.
            image.info.pop("transparency", None)
            yield image
    except PIL.Image.DecompressionBombError:
        raise ValueError(
            f"{name}: The image has more pixels than Pillow accepts, "
            f"{2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)}. Cut it into tiles, or "
            "raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from None
    # A broken file makes Pillow raise errors of many kinds.
    except Exception as error:
        raise ValueError(
            f"{name}: The file cannot be read. It must be a complete image of "
            f"the format {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}."
            f"{_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    # That nothing is known of the file, with the address of its content.
    return "" if "<_io." in line else f" Reason: {line.rstrip('.')}."


def orientation_of(image: PIL.Image.Image) -> int:
    """Return the EXIF orientation; values that mean nothing are upright."""
    value = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array `(height, width, ...)` as its EXIF orientation says."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def png_depth(content: bytes) -> int | None:
    """Return the bits per channel of a PNG file, None for other files."""
    # 8 bytes say PNG, 8 say header, 8 are the size.
    is_png = content.startswith(_PNG_START) and len(content) > 33
    return content[24] if is_png else None


def median_size(paths: Iterable[str | os.PathLike[str]]) -> tuple[int, int]:
    """Return the median height and the median width of image files.

    Sizes are those that viewers show; pixels are not read.

    Raises:
        ValueError: If a file is not an image, or there are none.
    """
    sizes = [_size(path) for path in paths]
    if not sizes:
        raise ValueError("`paths` must hold at least one image file.")
    heights, widths = zip(*sizes, strict=True)
    return statistics.median_high(heights), statistics.median_high(widths)


def _size(path: str | os.PathLike[str]) -> tuple[int, int]:
    try:
        with PIL.Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            is_lying = orientation_of(image) >= 5
    except Exception as error:
        raise ValueError(
            f"{printable(path)}: The file cannot be read.{_reason(error)}"
        ) from None
    return (width, height) if is_lying else (height, width)


def _content_and_name(
    source: str | os.PathLike[str] | bytes, name: str | None
) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, name or "image"
    return read_bytes(source), name or printable(source)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file.

    Raises:
        ValueError: If it cannot be opened or read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{printable(path)}: The file cannot be read: {error.strerror}."
        ) from None
