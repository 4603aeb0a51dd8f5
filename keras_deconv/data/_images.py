"""Reading image files as viewers show them."""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
import statistics
from collections.abc import Iterable

import numpy as np
import PIL.ExifTags
import PIL.Image
import tensorflow as tf

from keras_deconv.data import _tiff, _value_ranges
from keras_deconv.data._errors import printable

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif"),
    ".tiff",
)
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jfif")
# Of images that are not read, so that they are not left out without a word.
OTHER_SUFFIXES = (
    *(".avif", ".dcm", ".dng", ".exr", ".hdr", ".heic", ".heif", ".jp2"),
    *(".nii", ".npy", ".pbm", ".pgm", ".ppm", ".tga"),
)
# Others are refused whatever the file is called: some run programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# What Pillow calls a JPEG file with a second image, as phones write it: that
# is a smaller copy, or a map of the light.
_JPEG = ("JPEG", "MPO")
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Pillow's names for kinds of pixels: one channel of more than 8 bits, and
# those that have alpha or a fourth channel, which is no alpha.
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA, _FOUR = ("LA", "PA", "RGBA"), ("RGBA", "RGBX")
# Of red, green and blue in gray, as in television (ITU-R BT.601) and Pillow.
_GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114])


class ChannelsError(ValueError):
    """An image has another number of channels than is asked for.

    Args:
        message: What is wrong.
        found: Number of channels of the image.
    """

    def __init__(self, message: str, found: int) -> None:
        super().__init__(message)
        self.found = found


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An image file that is open, with its pixels loaded.

    Args:
        image: The pixels, as Pillow has them.
        depth: Bits per channel of the file, which may be more or less.
        orientation: EXIF orientation of the file, 1..8; 1 is upright.
        is_lossy: Whether the compression of the file changes values.
        name: What errors call the file.
    """

    image: PIL.Image.Image
    depth: int
    orientation: int
    is_lossy: bool
    name: str

    @property
    def mode(self) -> str:
        """Pillow's name for the kind of the pixels."""
        return self.image.mode

    @property
    def is_deep(self) -> bool:
        """Whether the image has one channel of more than 8 bits."""
        return self.mode in _DEEP

    def array(self, mode: str | None = None) -> np.ndarray:
        """Return the pixels as viewers show them, converted to a mode.

        Raises:
            ValueError: If there is no such conversion.
        """
        image = self.image
        if mode is not None and mode != self.mode:
            try:
                image = image.convert(mode)
            except ValueError:
                raise ValueError(
                    f"{self.name}: The pixels must be gray, indexed, RGB or "
                    f"CMYK. Received: pixels of the kind {self.mode!r}, as "
                    "Pillow calls it. Save the file as PNG, gray or RGB."
                ) from None
        # Pillow turns TIFF files by itself, and deletes the tag.
        return upright(np.asarray(image), orientation_of(self.image))


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels of an image file.

    Args:
        values: Array `(height, width, channels)`, turned as viewers show it:
            uint8, or what a deeper file holds.
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
    channels: int = 3,
    value_range: _value_ranges.ValueRange | None = None,
    name: str | None = None,
) -> np.ndarray:
    """Read an image file as viewers show it: turned by its EXIF orientation.

    Args:
        source: Path or content of a PNG, JPEG, TIFF, WebP, BMP or GIF file.
        channels: int >= 1. 3 repeats gray and leaves alpha out, 1 makes colors
            gray and leaves alpha out; other numbers must be that of the file.
        value_range: Tuple (low, high) of the values that become 0 and 255.
            Values beyond are clipped. Images of more than 8 bits need it.
        name: What errors call the file. Defaults to its path.

    Returns:
        Array `(height, width, channels)` in 0..255: uint8, or float32 with
        `value_range`.

    Raises:
        ValueError: If the file is not a complete image, has several frames or
            another number of channels, has more than 8 bits per channel and
            `value_range` is None, or `value_range` is beyond what the file can
            hold or far too narrow for its values.
    """
    limits = _value_ranges.checked(value_range)
    content, name = _content_and_name(source, name)
    return in_range(read_pixels(content, name, channels), limits, name)


def from_array(
    values: np.ndarray,
    name: str,
    channels: int,
    value_range: tuple[float, float] | None,
) -> np.ndarray:
    """Treat an array `(height, width, channels)` as `read_image` does a file.

    Raises:
        ValueError: If it has another number of channels, or does not fit
            `value_range`.
    """
    values = _with_channels(values, False, channels, name)
    return in_range(Pixels(values, 1, "array"), value_range, name)


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
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        raise ValueError(
            f"{name}: The image has more than 8 bits per channel, so "
            "`value_range` must say which values become 0 and 255. Received: "
            f"values from {low:g} to {high:g} in this image. Pass the range of "
            "all images, such as "
            f"value_range={_value_ranges.proposed(low, high)}."
        )
    return values


def read_pixels(content: bytes, name: str, channels: int = 3) -> Pixels:
    """Read the pixels of an image file, exactly.

    Raises:
        ValueError: If it cannot be read, or has another number of channels.
    """
    if _tiff.is_tiff(content):
        page = page_of(content, name)
        if not page.fits_pillow:
            values = _with_channels(
                _tiff.read_bands(content, name), page.has_alpha, channels, name
            )
            values = upright(values, page.orientation)
            return Pixels(values, page.orientation, "TIFF")
    decoded = decode(content, name)
    if decoded.depth == 16 and not _tiff.is_tiff(content):
        # Pillow reduces all but plain gray to 8 bits, without a word.
        try:
            values = tf.io.decode_png(content, dtype=tf.uint16).numpy()
        except tf.errors.OpError:
            reason = "TensorFlow finds errors in this PNG file; save it again"
            raise _unreadable(name, ValueError(reason)) from None
        has_alpha = values.shape[-1] in (2, 4)
        values = _with_channels(values, has_alpha, channels, name)
        values = upright(values, decoded.orientation)
    elif decoded.is_deep:
        values = decoded.array()[..., None]
        # In the byte order of this machine, which TensorFlow wants.
        values = values.astype(values.dtype.newbyteorder("="))
        values = _with_channels(values, False, channels, name)
    else:
        values = _shallow(decoded, channels, name)
    return Pixels(values, decoded.orientation, str(decoded.image.format))


def _shallow(decoded: DecodedImage, channels: int, name: str) -> np.ndarray:
    """Return uint8 pixels with a number of channels."""
    mode = decoded.mode
    has_alpha = mode in _ALPHA
    if channels in (1, 3) and mode != "RGBX":
        values = decoded.array("L" if channels == 1 else "RGB")
        return values[..., None] if channels == 1 else values
    if mode in _FOUR or mode == "LA":
        return _with_channels(decoded.array(), has_alpha, channels, name)
    values = decoded.array("L" if mode in ("1", "L") else "RGB")
    values = values[..., None] if values.ndim == 2 else values
    return _with_channels(values, False, channels, name)


def _with_channels(
    values: np.ndarray, has_alpha: bool, channels: int, name: str
) -> np.ndarray:
    """Change the number of channels, where it is clear how.

    Raises:
        ChannelsError: If it is not.
    """
    found = values.shape[-1]
    if found == channels:
        return values
    colors = values[..., :-1] if has_alpha else values
    if colors.shape[-1] == 1 and channels == 3:
        return np.repeat(colors, 3, axis=-1)
    if colors.shape[-1] == 3 and channels == 1:
        gray = (colors @ _GRAY_WEIGHTS)[..., None]
        if values.dtype.kind in "iu":
            gray = np.rint(gray)
        return gray.astype(values.dtype)
    if colors.shape[-1] == channels:
        return colors
    raise ChannelsError(
        f"{name}: The image must have as many channels as `channels` says. "
        f"Received: channels={channels}, and {found} in this image. Pass "
        f"channels={found} if all images have {found}, or convert the files.",
        found,
    )


def decode(content: bytes, name: str) -> DecodedImage:
    """Open a complete image file with Pillow.

    Raises:
        ValueError: If it is not a complete image, or has several frames.
    """
    page = page_of(content, name) if _tiff.is_tiff(content) else None
    num_frames = 1
    try:
        image = _open(content)
        if image.format == "PNG":
            # Checksums, which loading does not look at.
            image.verify()
            image = _open(content)
        if image.format not in (*_JPEG, "TIFF"):
            num_frames = getattr(image, "n_frames", 1)
        orientation = orientation_of(image)
        if num_frames == 1:
            image.load()
        # It concerns nothing here, and Pillow warns about some of it.
        image.info.pop("transparency", None)
    except PIL.Image.DecompressionBombError:
        raise _too_large(name) from None
    # A broken file makes Pillow raise errors of many kinds.
    except Exception as error:
        raise _unreadable(name, error) from None
    if num_frames > 1:
        raise ValueError(
            f"{name}: The file must have one frame. Received: a "
            f"{image.format} file with {num_frames} frames. Save the frames "
            "that you want as files of their own."
        )
    if page is not None:
        return DecodedImage(
            image, page.depth, page.orientation, page.is_lossy, name
        )
    is_lossy = image.format in _JPEG or _is_lossy_webp(content)
    depth = png_depth(content) or 8
    return DecodedImage(image, depth, orientation, is_lossy, name)


def _open(content: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(content), formats=_FORMATS)


def page_of(content: bytes, name: str) -> _tiff.Page:
    """Return the only page of a TIFF file.

    Raises:
        ValueError: If there are several, it is too large, or it is broken.
    """
    try:
        pages = _tiff.pages_of(content)
    except Exception as error:
        raise _unreadable(name, error) from None
    if len(pages) > 1:
        raise ValueError(
            f"{name}: The file must have one page. Received: a TIFF file with "
            f"{len(pages)} pages. Save the pages that you want as files of "
            "their own, or as channels of one page with `channels`."
        )
    [page] = pages
    height, width = page.size
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise _too_large(name)
    return page


def _too_large(name: str) -> ValueError:
    return ValueError(
        f"{name}: The image has more pixels than Pillow accepts, "
        f"{2 * (PIL.Image.MAX_IMAGE_PIXELS or 0):,}. Cut it into tiles, or "
        "raise PIL.Image.MAX_IMAGE_PIXELS."
    )


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"{name}: The file cannot be read. It must be a complete image of the "
        f"format {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}."
        f"{_reason(error)}"
    )


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


def _is_lossy_webp(content: bytes) -> bool:
    """Whether a WebP file is compressed like a video: chunks say so."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return False
    place = 12
    while place + 8 <= len(content):
        kind = content[place : place + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return False


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
        with open(path, "rb") as stream:
            if _tiff.is_tiff(stream.read(4)):
                stream.seek(0)
                page = _tiff.pages(stream)[0]
                (height, width), orientation = page.size, page.orientation
            else:
                stream.seek(0)
                with PIL.Image.open(stream, formats=_FORMATS) as image:
                    width, height = image.size
                    orientation = orientation_of(image)
            is_lying = orientation >= 5
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
