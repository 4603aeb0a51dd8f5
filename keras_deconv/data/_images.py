"""Read image files with the pixels that image viewers show."""

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
# Image formats that are not supported. They are listed in errors, instead of
# being ignored silently.
OTHER_SUFFIXES = (
    *(".avif", ".dcm", ".dng", ".exr", ".hdr", ".heic", ".heif", ".jp2"),
    *(".nii", ".npy", ".pbm", ".pgm", ".ppm", ".tga"),
)
# Pillow decides by the content of a file, not by its suffix. All other formats
# are refused, because some start other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Pillow's names for JPEG files. MPO files, as phones write them, contain a
# second image: a smaller copy, or a gain map.
_JPEG = ("JPEG", "MPO")
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Pillow modes with one channel of more than 8 bits, with alpha, and with a
# fourth channel. The fourth channel of RGBX is not alpha.
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA, _FOUR = ("LA", "PA", "RGBA"), ("RGBA", "RGBX")
# Weights of red, green and blue, as in ITU-R BT.601 and Pillow.
_GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114])


class ChannelsError(ValueError):
    """Error for an image with an unexpected number of channels.

    Args:
        message: Error message.
        found: Number of channels of the image.
    """

    def __init__(self, message: str, found: int) -> None:
        super().__init__(message)
        self.found = found


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An open image file whose pixels are loaded.

    Args:
        image: The image, as Pillow represents it.
        depth: Bits per channel in the file, which may differ from those of
            `image`.
        orientation: EXIF orientation of the file, 1..8; 1 is upright.
        is_lossy: Whether the file has lossy compression.
        name: Name of the file in error messages.
    """

    image: PIL.Image.Image
    depth: int
    orientation: int
    is_lossy: bool
    name: str

    @property
    def mode(self) -> str:
        """Pillow mode of the pixels."""
        return self.image.mode

    @property
    def is_deep(self) -> bool:
        """Whether the image has one channel of more than 8 bits."""
        return self.mode in _DEEP

    def array(self, mode: str | None = None) -> np.ndarray:
        """Return the pixels upright, converted to a Pillow mode.

        Raises:
            ValueError: If Pillow does not support the conversion.
        """
        image = self.image
        if mode is not None and mode != self.mode:
            try:
                image = image.convert(mode)
            except ValueError:
                raise ValueError(
                    f"{self.name}: The pixels must be gray, indexed, RGB or "
                    f"CMYK. Received: Pillow mode {self.mode!r}. Save the file "
                    "as a grayscale or RGB PNG file."
                ) from None
        # Pillow already rotates TIFF files, and deletes the tag.
        return upright(np.asarray(image), orientation_of(self.image))


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels of an image file.

    Args:
        values: Array of shape `(height, width, channels)`, upright. The dtype
            is uint8, or that of a file with more bits per channel.
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
    """Read an image file and rotate it as its EXIF orientation says.

    Args:
        source: Path or content of a PNG, JPEG, TIFF, WebP, BMP or GIF file.
        channels: int >= 1. With 3, grayscale is repeated and alpha is dropped.
            With 1, colors are converted to grayscale and alpha is dropped. Any
            other number must be that of the file.
        value_range: Tuple (low, high) of the values that become 0 and 255.
            Values outside the range are clipped. Required for images with more
            than 8 bits per channel.
        name: Name of the file in error messages. Defaults to its path.

    Returns:
        Array of shape `(height, width, channels)` with values in 0..255. The
        dtype is uint8, or float32 with `value_range`.

    Raises:
        ValueError: If the file is not a complete image of a supported format.
        ValueError: If the file has several frames or pages.
        ValueError: If the image cannot be converted to `channels` channels.
        ValueError: If the image has more than 8 bits per channel and
            `value_range` is None.
        ValueError: If `value_range` is outside the dtype of the file, or far
            too narrow for its values.
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
    """Convert an array `(height, width, channels)` like an image file.

    Raises:
        ValueError: If the array cannot be converted to `channels` channels.
        ValueError: If the values do not fit `value_range`.
    """
    values = _with_channels(values, False, channels, name)
    return in_range(Pixels(values, 1, "array"), value_range, name)


def in_range(
    pixels: Pixels, value_range: tuple[float, float] | None, name: str
) -> np.ndarray:
    """Return pixels scaled to 0..255.

    Raises:
        ValueError: If the pixels have more than 8 bits and `value_range` is
            None.
        ValueError: If the pixels do not fit `value_range`.
    """
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
    """Read the pixels of an image file without loss of precision.

    Raises:
        ValueError: If the file cannot be read.
        ChannelsError: If the image cannot be converted to `channels` channels.
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
        # Pillow silently reduces 16-bit PNG files to 8 bits, except for
        # grayscale files.
        try:
            values = tf.io.decode_png(content, dtype=tf.uint16).numpy()
        except tf.errors.OpError:
            reason = "TensorFlow cannot decode this PNG file; save it again"
            raise _unreadable(name, ValueError(reason)) from None
        has_alpha = values.shape[-1] in (2, 4)
        values = _with_channels(values, has_alpha, channels, name)
        values = upright(values, decoded.orientation)
    elif decoded.is_deep:
        values = decoded.array()[..., None]
        # TensorFlow needs the byte order of the machine.
        values = values.astype(values.dtype.newbyteorder("="))
        values = _with_channels(values, False, channels, name)
    else:
        values = _shallow(decoded, channels, name)
    return Pixels(values, decoded.orientation, str(decoded.image.format))


def _shallow(decoded: DecodedImage, channels: int, name: str) -> np.ndarray:
    """Return uint8 pixels with the given number of channels."""
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
    """Change the number of channels, if the conversion is unambiguous.

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
        f"{name}: The number of channels must match `channels`. "
        f"Received: channels={channels}, and {found} in this image. Pass "
        f"channels={found} if all images have {found}, or convert the files.",
        found,
    )


def decode(content: bytes, name: str) -> DecodedImage:
    """Open a complete image file with Pillow.

    Raises:
        ValueError: If the file is not a complete image of a supported format.
        ValueError: If the file has several frames or pages.
    """
    page = page_of(content, name) if _tiff.is_tiff(content) else None
    num_frames = 1
    try:
        image = _open(content)
        if image.format == "PNG":
            # Loading the pixels does not verify checksums.
            image.verify()
            image = _open(content)
        if image.format not in (*_JPEG, "TIFF"):
            num_frames = getattr(image, "n_frames", 1)
        orientation = orientation_of(image)
        if num_frames == 1:
            image.load()
        # Transparency is not used, and Pillow warns about some of its forms.
        image.info.pop("transparency", None)
    except PIL.Image.DecompressionBombError:
        raise _too_large(name) from None
    # Pillow raises many kinds of errors for damaged files.
    except Exception as error:
        raise _unreadable(name, error) from None
    if num_frames > 1:
        raise ValueError(
            f"{name}: The file must have one frame. Received: a "
            f"{image.format} file with {num_frames} frames. Save the frames "
            "that you need as separate files."
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
        ValueError: If the file has several pages.
        ValueError: If the image is too large.
        ValueError: If the file is damaged.
    """
    try:
        pages = _tiff.pages_of(content)
    except Exception as error:
        raise _unreadable(name, error) from None
    if len(pages) > 1:
        raise ValueError(
            f"{name}: The file must have one page. Received: a TIFF file with "
            f"{len(pages)} pages. Save the pages that you need as separate "
            "files, or as the channels of one page, and pass `channels`."
        )
    [page] = pages
    height, width = page.size
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise _too_large(name)
    return page


def _too_large(name: str) -> ValueError:
    return ValueError(
        f"{name}: The image has more pixels than Pillow accepts: "
        f"{2 * (PIL.Image.MAX_IMAGE_PIXELS or 0):,}. Cut it into tiles, or "
        "increase PIL.Image.MAX_IMAGE_PIXELS."
    )


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"{name}: The file cannot be read. It must be a complete image in "
        f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} format."
        f"{_reason(error)}"
    )


def _reason(error: Exception) -> str:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Such a message only says that the file is not known, and contains a memory
    # address.
    return "" if "<_io." in line else f" Reason: {line.rstrip('.')}."


def orientation_of(image: PIL.Image.Image) -> int:
    """Return the EXIF orientation; undefined values mean upright."""
    value = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror an array `(height, width, ...)` to orientation 1."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def png_depth(content: bytes) -> int | None:
    """Return the bits per channel of a PNG file, or None for other files."""
    # The signature, the chunk header and the size take 8 bytes each.
    is_png = content.startswith(_PNG_START) and len(content) > 33
    return content[24] if is_png else None


def _is_lossy_webp(content: bytes) -> bool:
    """Return whether a WebP file has lossy compression."""
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
    """Return the median height and the median width of image files, upright.

    Only the headers of the files are read, not the pixels.

    Raises:
        ValueError: If a file is not an image.
        ValueError: If `paths` is empty.
    """
    sizes = [_size(path) for path in paths]
    if not sizes:
        raise ValueError("`paths` must contain at least one image file.")
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
    """Return the content of a file.

    Raises:
        ValueError: If the file cannot be opened or read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{printable(path)}: The file cannot be read: {error.strerror}."
        ) from None
