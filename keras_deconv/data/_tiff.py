"""Read the tags of TIFF files, and the channels that need rasterio."""

from __future__ import annotations

import dataclasses
import io
import threading
import warnings
from typing import IO, Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Ids of TIFF tags.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_COLORS, _ORIENTATION, _NUM_CHANNELS = 262, 274, 277
_EXTRA_CHANNELS, _NUMBER_KIND = 338, 339
# Bits of the tag `_SUBFILE` that mark smaller copies and transparency masks of
# other pages.
_NO_PAGE = 0b101
_WHITE_IS_ZERO = 0
_GRAYS, _RGB, _UNSIGNED = (0, 1), 2, 1
# Ids of JPEG compression: the old form, the new form, and that of DNG.
_LOSSY = (6, 7, 34892)
# Bits and number formats that Pillow reads exactly from a single channel.
_BY_PILLOW = {
    *((bits, _UNSIGNED) for bits in (1, 2, 4, 8, 12, 16)),
    *((bits, 2) for bits in (16, 32)),
    (32, 3),
}
# All threads share the warning filters.
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Page:
    """Properties of the pixels of one page of a TIFF file.

    Args:
        size: Height and width as stored, before rotation.
        num_channels: Number of channels, including alpha.
        has_alpha: Whether the last of 2 or 4 channels is alpha.
        depth: Bits per channel.
        is_lossy: Whether the page has lossy compression.
        orientation: Orientation tag, 1..8; 1 is upright.
        fits_pillow: Whether Pillow reads the pixels exactly.
    """

    size: tuple[int, int]
    num_channels: int
    has_alpha: bool
    depth: int
    is_lossy: bool
    orientation: int
    fits_pillow: bool


def is_tiff(start: bytes) -> bool:
    """Return whether a file that starts with these bytes is a TIFF file."""
    return start.startswith(_STARTS)


def pages(stream: IO[bytes]) -> list[Page]:
    """Return the pages of a TIFF file, without smaller copies of other pages.

    Raises:
        Exception: If the file is damaged; Pillow raises many kinds of errors.
    """
    header = stream.read(8)
    if header[2] == 43:  # BigTIFF
        header += stream.read(8)
    found = []
    directory = ImageFileDirectory_v2(header)
    places = set[int]()
    while place := directory.next:
        # The list of pages is circular, or Pillow did not find its end and
        # `next` is unchanged.
        if place in places:
            raise ValueError("The list of pages is cut off.")
        places.add(place)
        stream.seek(place)
        directory = ImageFileDirectory_v2(header)
        directory.load(stream)
        if not directory.get(_SUBFILE, 0) & _NO_PAGE:
            found.append(_page(directory))
    if not found:
        raise ValueError("The file does not contain pages.")
    return found


def _page(tags: Any) -> Page:
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ValueError("The size of the image is missing.")
    num_channels = tags.get(_NUM_CHANNELS, 1)
    depth = max(tags.get(_BITS, (1,)))
    colors = tags.get(_COLORS, 0)
    if colors == _WHITE_IS_ZERO and depth > 8:
        raise ValueError(
            "White-is-zero images are supported only up to 8 bits per channel. "
            f"Received: {depth} bits. Save it with the smallest value as black"
        )
    extra = tuple(tags.get(_EXTRA_CHANNELS, ()))
    has_alpha = extra in ((1,), (2,)) and num_channels in (2, 4)
    if num_channels == 1:
        kind = max(tags.get(_NUMBER_KIND, (_UNSIGNED,)))
        fits = (depth, kind) in _BY_PILLOW
    elif colors in _GRAYS:
        fits = depth == 8 and num_channels == 2 and has_alpha
    else:
        # Pillow reads an undeclared fourth channel as alpha, or drops it. Such
        # a channel is often near infrared.
        is_clear = num_channels < 4 or colors != _RGB or has_alpha
        fits = depth <= 8 and num_channels <= 4 and is_clear
    orientation = tags.get(_ORIENTATION, 1)
    return Page(
        (tags[_HEIGHT], tags[_WIDTH]),
        num_channels,
        has_alpha,
        depth,
        tags.get(_COMPRESSION, 1) in _LOSSY,
        orientation if orientation in range(1, 9) else 1,
        fits,
    )


def read_bands(content: bytes, name: str) -> np.ndarray:
    """Read all channels of a TIFF file exactly, as `(height, width, channels)`.

    Raises:
        ValueError: If rasterio is not installed.
        ValueError: If rasterio cannot read the file.
        ValueError: If the file contains complex numbers.
    """
    try:
        import rasterio
    except ImportError:
        raise ValueError(
            f"{name}: This TIFF file needs the package rasterio, because of "
            "its number of channels or its bits per channel. Install it with: "
            "pip install 'keras-deconv[geo]'. Or convert the file to 8-bit "
            "grayscale or RGB."
        ) from None
    try:
        with _lock, warnings.catch_warnings():
            # rasterio warns if there is no georeference, which is not needed.
            warnings.simplefilter("ignore")
            with (
                rasterio.MemoryFile(content) as file,
                # Other drivers may open other files.
                file.open(driver="GTiff") as bands,
            ):
                values = bands.read()
    except Exception as error:
        raise ValueError(
            f"{name}: The file cannot be read by rasterio. Reason: "
            f"{' '.join(str(error).split()).rstrip('.')}."
        ) from None
    if values.dtype.kind == "c":
        raise ValueError(
            f"{name}: The file must contain real numbers. Received: "
            f"{values.dtype.name}. Save the real part or the absolute value."
        )
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))


def pages_of(content: bytes) -> list[Page]:
    """Return the pages of a TIFF file, given its content."""
    return pages(io.BytesIO(content))
