"""Image files of many kinds, and their pixels."""

import dataclasses
import io
import struct
import warnings
import zlib

import numpy as np
import PIL.ExifTags
import PIL.Image

# Blocks of one color, which JPEG only changes by rounding.
_COLORS = np.uint8(
    [
        [[200, 40, 40], [40, 200, 40], [40, 40, 200]],
        [[250, 250, 250], [120, 90, 10], [10, 60, 120]],
    ]
)
RGB = np.repeat(np.repeat(_COLORS, 8, axis=0), 8, axis=1)
GRAY = RGB[..., 1]
LABELS = np.repeat(np.repeat(np.uint8([[0, 1, 2], [3, 1, 0]]), 8, 0), 8, 1)
BITS = (LABELS == 1).astype(np.uint8)
# All 16 bits of the values are used.
DEEP = (RGB.astype(np.uint16) * 257 + np.arange(3)).clip(0, 65535)
DEEP = DEEP.astype(np.uint16)
PALETTE = np.uint8([[9, 9, 9], [200, 0, 0], [0, 200, 0], [0, 0, 200]])


@dataclasses.dataclass(frozen=True)
class Kind:
    """An image or mask file.

    Args:
        name: File name, as a str of Python.
        content: Content of the file.
        expected: Pixels or labels, or None if the file is not supported.
        error: Part of the error message if the file is not supported.
        tolerance: Largest error of the values, for lossy compression.
    """

    name: str
    content: bytes
    expected: np.ndarray | None = None
    error: str = ""
    tolerance: int = 0


def png(values, depth=8, palette=None, extra=()):
    """Write a PNG file chunk by chunk: Pillow does not write every kind."""

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[-1]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if palette is None else 3
    if depth == 16:
        rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    elif depth == 8:
        rows = values.reshape(height, -1)
    else:
        bits = values[..., None] >> np.arange(depth)[::-1] & 1
        rows = np.packbits(bits.reshape(height, -1), axis=-1)
    data = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header)]
    if palette is not None:
        chunks.append(chunk(b"PLTE", np.uint8(palette).tobytes()))
    chunks += [chunk(*pair) for pair in extra]
    chunks += [chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(values, format, mode=None, **options):
    """Write a file with Pillow."""
    image = PIL.Image.fromarray(values)
    if mode == "P":
        image.putpalette(PALETTE.tobytes())
    elif mode is not None:
        image = image.convert(mode)
    if "orientation" in options:
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = options.pop("orientation")
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def several(format, number=2, **options):
    """Write a file with several frames or pages."""
    others = [PIL.Image.fromarray(RGB // (n + 2)) for n in range(number - 1)]
    return saved(RGB, format, save_all=True, append_images=others, **options)


def geotiff(values, overviews=(), **options):
    """Write a GeoTIFF file with one band per channel."""
    import rasterio

    height, width, count = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.MemoryFile() as file:
            with file.open(
                driver="GTiff",
                height=height,
                width=width,
                count=count,
                dtype=values.dtype,
                **options,
            ) as bands:
                bands.write(np.moveaxis(values, -1, 0))
                if overviews:
                    bands.build_overviews(list(overviews))
            return bytes(file.getbuffer())


def turned(values, orientation):
    """Return the upright pixels of an array with an EXIF orientation."""
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: np.rot90,
    }
    return turns[orientation](values)


def _repeated(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


def _cmyk(format, **options):
    """Write the RGB colors as CMYK, without black."""
    inks = np.zeros((*RGB.shape[:2], 4), np.uint8)
    inks[..., :3] = 255 - RGB
    size = RGB.shape[1::-1]
    buffer = io.BytesIO()
    image = PIL.Image.frombytes("CMYK", size, inks.tobytes())
    image.save(buffer, format, **options)
    return buffer.getvalue()


def in_lab():
    """Write a TIFF file that Pillow cannot convert to grayscale."""
    buffer = io.BytesIO()
    PIL.Image.new("LAB", RGB.shape[1::-1]).save(buffer, "TIFF")
    return buffer.getvalue()


def infrared():
    """Write a TIFF file of three colors and a fourth band."""
    bands = np.dstack([RGB, GRAY])
    return geotiff(bands, photometric="rgb", alpha="unspecified")


def untold():
    """Write the file of `infrared` without a description of the fourth band."""
    # Replace the tag that describes the band by an unknown tag.
    tag, unknown = struct.pack("<HH", 338, 3), struct.pack("<HH", 65000, 3)
    content = infrared()
    assert content.count(tag) == 1
    return content.replace(tag, unknown)


def associated():
    """Write a grayscale TIFF file with premultiplied alpha."""
    return geotiff(np.dstack([GRAY, GRAY]), alpha="premultiplied")


def images():
    """Supported image files with 8 bits per channel."""
    alpha = np.dstack([RGB, GRAY])
    in_colors = PALETTE[LABELS]
    yield from (
        Kind("gray1.png", png(BITS, 1), _repeated(BITS * np.uint8(255))),
        Kind("gray2.png", png(LABELS, 2), _repeated(LABELS * np.uint8(85))),
        Kind("gray4.png", png(LABELS, 4), _repeated(LABELS * np.uint8(17))),
        Kind("gray8.png", png(GRAY), _repeated(GRAY)),
        Kind("gray_alpha.png", png(alpha[..., :2]), _repeated(RGB[..., 0])),
        Kind("rgb8.png", png(RGB), RGB),
        Kind("rgba8.png", png(alpha), RGB),
        Kind("transparent.png", png(RGB, extra=[(b"tRNS", bytes(6))]), RGB),
        *(
            Kind(f"indexed{n}.png", png(LABELS, n, PALETTE), in_colors)
            for n in (2, 4, 8)
        ),
        Kind("indexed1.png", png(BITS, 1, PALETTE[:2]), PALETTE[BITS]),
        Kind(
            "indexed_transparent.png",
            png(LABELS, 8, PALETTE, extra=[(b"tRNS", b"\0\xff")]),
            in_colors,
        ),
    )
    for format in ("PNG", "JPEG"):
        options = {} if format == "PNG" else {"quality": 100, "subsampling": 0}
        for n in range(1, 9):
            content = saved(RGB, format, orientation=n, **options)
            suffix = "png" if format == "PNG" else "jpg"
            expected, loss = turned(RGB, n), 0 if format == "PNG" else 4
            yield Kind(
                f"turned{n}_{suffix}.{suffix}", content, expected, "", loss
            )
    best = {"quality": 100, "subsampling": 0}
    yield from (
        Kind("gray.jpg", saved(GRAY, "JPEG", **best), _repeated(GRAY), "", 4),
        Kind("rgb.jpeg", saved(RGB, "JPEG", **best), RGB, "", 4),
        Kind("upper.JPG", saved(RGB, "JPEG", **best), RGB, "", 4),
        Kind("windows.jfif", saved(RGB, "JPEG", **best), RGB, "", 4),
        Kind(
            "progressive.jpg",
            saved(RGB, "JPEG", progressive=True, **best),
            RGB,
            "",
            4,
        ),
        Kind("cmyk.jpg", _cmyk("JPEG", quality=100), RGB, "", 8),
        # Phones add a second, smaller image.
        Kind("phone.jpg", several("MPO", **best), RGB, "", 4),
        Kind("gif.gif", saved(LABELS, "GIF", "P"), in_colors),
        Kind("gray.gif", saved(GRAY, "GIF"), _repeated(GRAY)),
        Kind("rgb.bmp", saved(RGB, "BMP"), RGB),
        Kind("gray.bmp", saved(GRAY, "BMP"), _repeated(GRAY)),
        Kind("indexed.bmp", saved(LABELS, "BMP", "P"), in_colors),
        Kind(
            "bits.bmp",
            saved(BITS * np.uint8(255), "BMP", "1"),
            _repeated(BITS * np.uint8(255)),
        ),
        Kind("exact.webp", saved(RGB, "WEBP", lossless=True), RGB),
        Kind(
            "alpha.webp",
            saved(alpha, "WEBP", lossless=True, exact=True),
            RGB,
        ),
        Kind(
            "lossy.webp",
            # Grayscale, because lossy WebP blurs colors.
            saved(_repeated(GRAY), "WEBP", quality=100),
            _repeated(GRAY),
            "",
            4,
        ),
        Kind("rgb.tif", saved(RGB, "TIFF"), RGB),
        Kind("alpha.tif", saved(alpha, "TIFF"), RGB),
        Kind("gray.tiff", saved(GRAY, "TIFF"), _repeated(GRAY)),
        Kind("indexed.tif", saved(LABELS, "TIFF", "P"), in_colors),
        Kind(
            "bits.tif",
            saved(BITS * np.uint8(255), "TIFF", "1"),
            _repeated(BITS * np.uint8(255)),
        ),
        Kind("cmyk.tif", _cmyk("TIFF"), RGB),
        Kind("lzw.tif", saved(RGB, "TIFF", compression="tiff_lzw"), RGB),
        Kind(
            "deflate.tif",
            saved(RGB, "TIFF", compression="tiff_deflate"),
            RGB,
        ),
        *(
            Kind(
                f"turned{n}.tif",
                saved(RGB, "TIFF", orientation=n),
                turned(RGB, n),
            )
            for n in (3, 6)
        ),
        # Smaller copies of a page do not count as pages.
        Kind("overviews.tif", geotiff(RGB, overviews=(2, 4)), RGB),
        # The content of a file defines its format, not the suffix.
        Kind("misnamed.png", saved(RGB, "BMP"), RGB),
    )
    for name in NAMES:
        yield Kind(f"{name}.png", png(RGB), RGB)


NAMES = (
    "with space",
    "accents äöü é",
    "decomposed e\u0301",
    "[brackets] (1)",
    "100%",
    "%20%s",
    "#hash & co",
    "two.dots.here",
    # Latin-1 bytes, which are not valid UTF-8.
    b"caf\xe9".decode("utf-8", "surrogateescape"),
)


def deep_images():
    """Image files that need a value range; (0, 65535) keeps them exact."""
    gray = DEEP[..., 1]
    half = gray // 2
    return (
        Kind("gray16.png", png(gray, 16), _repeated(gray)),
        Kind("rgb16.png", png(DEEP, 16), DEEP),
        Kind(
            "gray_alpha16.png",
            png(DEEP[..., :2], 16),
            _repeated(DEEP[..., 0]),
        ),
        Kind("rgba16.png", png(np.dstack([DEEP, gray]), 16), DEEP),
        Kind("gray16.tif", saved(gray, "TIFF"), _repeated(gray)),
        Kind(
            "signed16.tif",
            geotiff(half[..., None].astype(np.int16)),
            _repeated(half),
        ),
        Kind(
            "float.tif",
            saved(gray.astype(np.float32), "TIFF"),
            _repeated(gray),
        ),
        Kind(
            "double.tif",
            geotiff(gray[..., None].astype(np.float64)),
            _repeated(gray),
        ),
        Kind("rgb16.tif", geotiff(DEEP, photometric="rgb"), DEEP),
    )


def faulty_images():
    """Unsupported image files, each with the advice of its error."""
    whole = {
        "png": png(RGB),
        "jpg": saved(RGB, "JPEG"),
        "gif": saved(LABELS, "GIF", "P"),
        "bmp": saved(RGB, "BMP"),
        "webp": saved(RGB, "WEBP", lossless=True),
        "tif": saved(RGB, "TIFF"),
    }
    for suffix, content in whole.items():
        broken = "The file cannot be read. It must be a complete image"
        half = content[: len(content) * 2 // 3]
        yield Kind(f"truncated_{suffix}.{suffix}", half, None, broken)
        yield Kind(f"empty_{suffix}.{suffix}", b"", None, broken)
    lzw = saved(RGB, "TIFF", compression="tiff_lzw")
    many = np.dstack([RGB, GRAY, GRAY])
    yield from (
        Kind("truncated_lzw.tif", lzw[:-30], None, broken),
        Kind("text.png", b"no image", None, broken),
        Kind("pages.tif", several("TIFF", 3), None, "with 3 pages. Save the"),
        Kind("frames.gif", several("GIF"), None, "with 2 frames. Save the"),
        Kind("frames.webp", several("WEBP"), None, "with 2 frames. Save the"),
        Kind("frames.png", several("PNG"), None, "with 2 frames. Save the"),
        Kind(
            "bands4.tif",
            geotiff(many[..., :4], photometric="minisblack"),
            None,
            "Pass channels=4",
        ),
        Kind("bands5.tif", geotiff(many), None, "Pass channels=5"),
        # Red, green, blue and near infrared.
        Kind("infrared.tif", infrared(), None, "Pass channels=4"),
        Kind("infrared_untold.tif", untold(), None, "Pass channels=4"),
        Kind("gray_associated.tif", associated(), None, "associated.tif"),
        Kind(
            "white16.tif",
            geotiff(DEEP[..., :1], photometric="miniswhite"),
            None,
            "White-is-zero images",
        ),
        # Pillow reads this file, but strict decoders refuse it.
        Kind(
            "unknown_part.png",
            png(DEEP, 16, extra=[(b"ABCD", b"")]),
            None,
            broken,
        ),
    )


def write(folder, kinds):
    """Write files to one folder per format, because names must differ."""
    for kind in kinds:
        path = folder / kind.name.rpartition(".")[2] / kind.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.content)
        yield kind, path


def masks():
    """Supported mask files with labels 0 to 3, or 0 and 1."""
    lossless = {"lossless": True, "exact": True}
    return (
        Kind("gray1.png", png(BITS, 1), BITS),
        Kind("gray2.png", png(LABELS, 2), LABELS),
        Kind("gray4.png", png(LABELS, 4), LABELS),
        Kind("gray8.png", png(LABELS), LABELS),
        Kind("gray16.png", png(LABELS.astype(np.uint16), 16), LABELS),
        Kind("alpha.png", png(np.dstack([LABELS, GRAY])), LABELS),
        Kind("equal.png", png(_repeated(LABELS)), LABELS),
        *(
            Kind(f"indexed{n}.png", png(LABELS, n, PALETTE), LABELS)
            for n in (2, 4, 8)
        ),
        Kind("indexed1.png", png(BITS, 1, PALETTE[:2]), BITS),
        Kind(
            "turned.png", saved(LABELS, "PNG", orientation=6), turned(LABELS, 6)
        ),
        Kind("gray.bmp", saved(LABELS, "BMP"), LABELS),
        Kind("indexed.bmp", saved(LABELS, "BMP", "P"), LABELS),
        Kind("bits.bmp", saved(BITS * np.uint8(255), "BMP", "1"), BITS),
        Kind("gif.gif", saved(LABELS, "GIF", "P"), LABELS),
        Kind(
            "exact.webp", saved(_repeated(LABELS), "WEBP", **lossless), LABELS
        ),
        Kind("gray.tif", saved(LABELS, "TIFF"), LABELS),
        Kind("lzw.tif", saved(LABELS, "TIFF", compression="tiff_lzw"), LABELS),
        Kind("indexed.tif", saved(LABELS, "TIFF", "P"), LABELS),
        Kind("bits.tif", saved(BITS * np.uint8(255), "TIFF", "1"), BITS),
        Kind("gray16.tiff", saved(LABELS.astype(np.uint16), "TIFF"), LABELS),
        Kind("int32.tiff", saved(LABELS.astype(np.int32), "TIFF"), LABELS),
        Kind("float.tiff", saved(LABELS.astype(np.float32), "TIFF"), LABELS),
        # Pillow does not read these files.
        *(
            Kind(
                f"{name}_by_rasterio.tiff",
                geotiff(LABELS[..., None].astype(name), **options),
                LABELS,
            )
            for name, options in (
                *[("float64", {}), ("int64", {}), ("uint64", {})],
                ("uint32", {"ENDIANNESS": "big"}),
            )
        ),
    )


def faulty_masks():
    """Unsupported mask files, each with the advice of its error."""
    broken = "The file cannot be read. It must be a complete image"
    large = LABELS.astype(np.uint16) * 300
    half = LABELS.astype(np.float32) / 2
    one_channel = "Save the labels as one channel."
    lossy = "lossy compression, which changes labels"
    return (
        Kind("large.png", png(large, 16), None, "whole numbers in 0..255"),
        Kind("half.tif", saved(half, "TIFF"), None, "whole numbers in 0..255"),
        Kind("rgb16.png", png(DEEP, 16), None, one_channel),
        Kind("rgb16.tif", geotiff(DEEP, photometric="rgb"), None, one_channel),
        Kind("bands.tif", geotiff(np.dstack([RGB, RGB])), None, one_channel),
        Kind(
            "two_bands.tif",
            geotiff(np.dstack([LABELS, LABELS])),
            None,
            "2 channels of 8 bits. Save the labels",
        ),
        Kind(
            "large64.tif",
            geotiff(large[..., None].astype(np.int64)),
            None,
            "whole numbers in 0..255",
        ),
        Kind(
            "complex.tif",
            geotiff(LABELS[..., None].astype(np.complex64)),
            None,
            "real numbers",
        ),
        Kind("gray_associated.tif", associated(), None, "associated.tif"),
        Kind("pages.tif", several("TIFF"), None, "with 2 pages. Save the"),
        Kind("frames.gif", several("GIF"), None, "with 2 frames. Save the"),
        # The suffix is that of another format.
        Kind("jpeg.png", saved(LABELS, "JPEG"), None, lossy),
        Kind("lossy.webp", saved(_repeated(LABELS), "WEBP"), None, lossy),
        Kind(
            "lossy.tif",
            saved(LABELS, "TIFF", compression="jpeg"),
            None,
            lossy,
        ),
        Kind("truncated.png", png(LABELS)[:40], None, broken),
        Kind("empty.tif", b"", None, broken),
        Kind("colors.png", png(RGB), None, "The mask has colors, so"),
    )
