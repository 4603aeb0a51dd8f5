"""Reading image and mask files."""

from __future__ import annotations

import pathlib
import zlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MASK_SUFFIXES = (".png",)
# What the header of a PNG file says of its colors.
_GRAY, _RGB, _INDEXED, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6


def read_pair(
    image_path: pathlib.Path,
    mask_path: pathlib.Path,
    label_of_color: Mapping[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Reads uint8 (height, width, 3) and labels (height, width, 1)."""
    image = _decode(image_path, image_path.read_bytes(), 3)
    return image, _read_labels(mask_path, label_of_color)


def _decode(
    path: pathlib.Path, content: bytes, num_channels: int
) -> np.ndarray:
    try:
        return tf.io.decode_image(
            content, num_channels, expand_animations=False
        ).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"File '{path}' cannot be read: it must be a complete picture "
            "of the kind that its suffix says."
        ) from None


def _read_labels(
    path: pathlib.Path, label_of_color: Mapping[int, int]
) -> np.ndarray:
    content = path.read_bytes()
    # 8 bytes say PNG, 8 say header, 8 are the size.
    is_png = content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 33
    depth, kind = content[24:26] if is_png else (0, 0)
    if depth not in (1, 2, 4, 8):
        raise ValueError(
            f"Mask '{path}' must be a PNG file of 8 bits per channel or less. "
            "Received: " + (f"{depth} bits." if is_png else "no PNG file.")
        )
    if kind in (_RGB, _RGB_ALPHA):
        return _look_up_colors(path, _decode(path, content, 3), label_of_color)
    if kind == _INDEXED:
        content = _as_gray(content)
    # Shades of less than 8 bits come spread over 0..255.
    return _decode(path, content, 1) // np.uint8(255 // (2**depth - 1))


def _as_gray(content: bytes) -> bytes:
    """Makes an indexed PNG file one of gray: what was index is shade then."""
    kept, start = [content[:8]], 8
    while start < len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        kind = content[start + 4 : start + 8]
        body = content[start + 8 : start + 8 + length]
        start += 12 + length
        if kind == b"IHDR":
            body = body[:9] + bytes([_GRAY]) + body[10:]
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            checksum = zlib.crc32(kind + body).to_bytes(4, "big")
            kept.append(len(body).to_bytes(4, "big") + kind + body + checksum)
    return b"".join(kept)


def _look_up_colors(
    path: pathlib.Path, pixels: np.ndarray, label_of_color: Mapping[int, int]
) -> np.ndarray:
    if not label_of_color:
        raise ValueError(
            f"Mask '{path}' is an RGB picture, for which `palette` must say "
            "what the colors mean. Received: palette=None"
        )
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    known = np.array(sorted(label_of_color))
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    strays = np.unique(codes[known[place] != codes])
    if strays.size:
        colors = [
            (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255)
            for code in strays[:5]
        ]
        raise ValueError(
            f"Mask '{path}' must have the colors of `palette` and "
            f"`void_colors` alone. Found {strays.size} others: "
            f"{', '.join(map(str, colors))}. Colors in between come from "
            "smoothing: resize masks with nearest neighbor only."
        )
    found = np.array([label_of_color[code] for code in known.tolist()])
    return found[place].astype(np.uint8)[..., None]
