"""Reading image files: bits, orientation, faults, names."""

import io
import os

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from keras_deconv import data
from keras_deconv.data import _images
from keras_deconv.data._images import median_size, read_image
from keras_deconv.data._pairs import list_pictures
from tests.tiny_datasets import write_png

pytestmark = pytest.mark.oldest

# All 16 bits of the values are used.
DEEP = np.array([[0, 1, 255, 256], [0x1234, 4095, 65534, 65535]], np.uint16)


def deep_png(kind):
    """Return a 16-bit PNG file and its RGB values."""
    second, third = DEEP[::-1], DEEP[:, ::-1]
    gray = np.stack([DEEP] * 3, axis=-1)
    channels, rgb = {
        "gray": ([DEEP], gray),
        "gray and alpha": ([DEEP, second], gray),
        "RGB": ([DEEP, second, third], np.stack([DEEP, second, third], -1)),
        "RGBA": (
            [DEEP, second, third, second],
            np.stack([DEEP, second, third], -1),
        ),
    }[kind]
    return tf.io.encode_png(np.stack(channels, -1)).numpy(), rgb


DEEP_KINDS = ["gray", "gray and alpha", "RGB", "RGBA"]


@pytest.mark.parametrize("kind", DEEP_KINDS)
@pytest.mark.parametrize("value_range", [(0, 65535), (0, 4095), (100, 3000.5)])
def test_deep_images_are_read_exactly(kind, value_range):
    content, rgb = deep_png(kind)
    image = read_image(content, value_range=value_range)
    low, high = value_range
    exact = (rgb.astype(np.float64) - low) * 255 / (high - low)
    assert image.dtype == np.float32
    np.testing.assert_array_max_ulp(
        image, np.clip(exact, 0, 255).astype(np.float32), maxulp=1
    )
    # The values are restored exactly.
    if value_range == (0, 65535):
        np.testing.assert_array_equal(np.rint(image * 257.0), rgb)


@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_deep_images_without_a_range(kind):
    content, _ = deep_png(kind)
    with pytest.raises(
        ValueError,
        match=r"^photo\.png: The image has more than 8 bits.*from 0 to 65535 "
        r".*value_range=\(0, 65535\)\.$",
    ):
        read_image(content, name="photo.png")


def test_the_range_that_is_proposed():
    pixels = np.uint16([[[4000], [7]]])
    content = tf.io.encode_png(pixels).numpy()
    with pytest.raises(
        ValueError,
        match=r"7 to 4000 in this image\..*of all images, .*=\(0, 4095\)\.$",
    ):
        read_image(content)


def test_a_range_of_8_bits():
    image = np.uint8([[[10, 20, 30]]])
    content = tf.io.encode_png(image).numpy()
    np.testing.assert_array_equal(read_image(content), image)
    scaled = read_image(content, value_range=(10, 20))
    np.testing.assert_array_equal(scaled, np.float32([[[0, 255, 255]]]))
    with pytest.raises(ValueError, match="image: Images of dtype uint8 must"):
        read_image(content, value_range=(0, 65535))


@pytest.mark.parametrize(
    ("values", "value_range", "proposed"),
    [
        (np.uint8([0, 100, 255]), (0, 1), r"\(0, 255\)"),
        # Most pixels of a fluorescence image are black.
        (np.uint8([0, 0, 0, 0, 200]), (0, 1), r"\(0, 255\)"),
        (np.uint16([0, 0, 0, 0, 200]), (0, 1), r"\(0, 255\)"),
        (np.uint16([100, 20000, 40000]), (0, 255), r"\(0, 65535\)"),
        (np.uint16([100, 2000, 4000]), (0, 255), r"\(0, 4095\)"),
    ],
)
def test_a_range_that_makes_an_image_white(
    tmp_path, values, value_range, proposed
):
    """Such a range is an error in folders, in `to_tfds` and for files."""
    content = tf.io.encode_png(values.reshape(1, -1, 1)).numpy()
    mask = np.zeros((1, len(values)), np.uint8)
    write_folder(tmp_path, {"a": content}, mask)
    message = (
        r"`value_range` is too narrow for the image, which would become "
        rf"white\. Received: value_range=.* to {values.max()} in this image\. "
        rf"Pass the range of all images, such as value_range={proposed}\."
    )
    with pytest.raises(ValueError, match=f"^x: {message}$"):
        read_image(content, value_range=value_range, name="x")
    pairs = load_folder(tmp_path, value_range=value_range)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"images/a\.png: {message}"
    ):
        list(pairs)
    folders = {"train": (tmp_path / "images", tmp_path / "masks")}
    with pytest.raises(ValueError, match=message):
        data.to_tfds(
            "own",
            folders,
            classes=2,
            value_range=value_range,
            data_dir=tmp_path / "tfds",
        )


@pytest.mark.parametrize(
    ("values", "value_range"),
    [
        # Reflectances with clouds; binary images; a median value that is just
        # below the limit.
        (np.uint16([8000, 8500, 200, 8000]), (0, 3000)),
        (np.uint8([0, 1, 1]), (0, 1)),
        (np.uint8([3, 255, 30, 30]), (0, 10)),
    ],
)
def test_windows_clip(values, value_range):
    content = tf.io.encode_png(values.reshape(1, -1, 1)).numpy()
    image = read_image(content, value_range=value_range)
    expected = np.clip(values / value_range[1] * 255, 0, 255)
    np.testing.assert_allclose(image[0, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "value_range",
    [
        7,
        (0,),
        (0, 1, 2),
        (1, 0),
        (0, 0),
        (0, np.inf),
        (0, np.nan),
        "01",
        (0, "1"),
    ],
)
def test_wrong_ranges(tmp_path, value_range):
    write_folder(tmp_path)
    for make in (
        lambda: read_image(b"", value_range=value_range),
        lambda: load_folder(tmp_path, value_range=value_range),
        lambda: data.augmentation(value_range=value_range),
    ):
        with pytest.raises(ValueError, match="`value_range` must be a tuple"):
            make()


def write_folder(folder, images=None, mask=None):
    """Write image files with a given content, and masks."""
    images = images or {"a": deep_png("RGB")[0]}
    for name, content in images.items():
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        mask = np.uint8([[0, 1, 1, 0]] * 2) if mask is None else mask
        write_png(folder / "masks" / f"{name}.png", mask[..., None])


def load_folder(folder, **options):
    options = {
        "classes": 2,
        "image_size": None,
        "batch_size": 1,
        "shuffle": False,
    } | options
    return data.from_folders(folder / "images", folder / "masks", **options)


def test_deep_images_in_folders(tmp_path):
    _, rgb = deep_png("RGB")
    write_folder(tmp_path)
    ((image, _),) = load_folder(tmp_path, value_range=(0, 65535))
    np.testing.assert_array_equal(np.rint(image[0] * 257.0), rgb)
    pairs = load_folder(tmp_path)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"images/a\.png: .*value_range=\(0, 65535\)",
    ):
        list(pairs)


def test_resized_deep_images_keep_their_precision(tmp_path):
    write_folder(tmp_path)
    ((image, _),) = load_folder(
        tmp_path, value_range=(0, 65535), image_size=(2, 8)
    )
    assert (image.numpy() % 1).any()
    assert image.shape == (1, 2, 8, 3)


def test_to_tfds_keeps_deep_images(tmp_path):
    _, rgb = deep_png("RGB")
    write_folder(tmp_path)
    folders = {"train": (tmp_path / "images", tmp_path / "masks")}
    where = {"data_dir": tmp_path / "tfds"}
    with pytest.raises(ValueError, match=r"a\.png: .*value_range=\(0, 65535\)"):
        data.to_tfds("own", folders, classes=2, **where)
    data.to_tfds("own", folders, classes=2, value_range=(0, 4095), **where)
    ((image, _),) = data.load(
        "own", "train", image_size=None, batch_size=1, **where
    )
    expected = np.minimum(rgb, 4095) * (255 / 4095)
    np.testing.assert_array_equal(image[0], np.float32(expected))
    ((image, _),) = data.load(
        "own",
        "train",
        image_size=None,
        batch_size=1,
        value_range=(0, 65535),
        **where,
    )
    np.testing.assert_array_equal(np.rint(image[0] * 257.0), rgb)


# ------------------------------------------------------------- orientation

# All pixels differ, so every orientation gives a different array.
STORED = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10


def oriented(orientation, values=STORED, format="PNG", **options):
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, format, exif=exif, **options)
    return buffer.getvalue()


def as_shown(content):
    """Return the upright pixels according to Pillow."""
    with PIL.Image.open(io.BytesIO(content)) as image:
        return np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientations(orientation, format):
    content = oriented(orientation, format=format)
    image = read_image(content)
    np.testing.assert_array_equal(image, as_shown(content))
    size = (4, 2) if 5 <= orientation <= 8 else (2, 4)
    assert image.shape == (*size, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_of_deep_images(orientation):
    content, rgb = deep_png("RGB")
    start = content.index(b"IDAT") - 4
    chunks = oriented(orientation)
    exif = chunks.index(b"eXIf") - 4
    length = int.from_bytes(chunks[exif : exif + 4], "big") + 12
    content = content[:start] + chunks[exif : exif + length] + content[start:]
    image = read_image(content, value_range=(0, 65535))
    expected = _images.upright(rgb, orientation)
    np.testing.assert_array_equal(np.rint(image * 257.0), expected)


@pytest.mark.parametrize(
    "format", ["PNG", pytest.param("JPEG", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "orientation",
    # One orientation mirrors and one rotates. test_orientations reads all of
    # them.
    [
        pytest.param(n, marks=() if n in (2, 6) else pytest.mark.slow)
        for n in range(1, 9)
    ],
)
def test_orientations_in_folders(tmp_path, orientation, format):
    """Masks may be upright, or have the same orientation as the image."""
    content = oriented(orientation, format=format)
    shown = as_shown(content)
    shown_mask = (shown[..., 0] > 100).astype(np.uint8)
    stored_mask = (STORED[..., 0] > 100).astype(np.uint8)
    write_folder(tmp_path, {"a": content, "b": content}, shown_mask)
    (tmp_path / "masks" / "b.png").write_bytes(
        oriented(orientation, stored_mask)
    )
    expected = [shown_mask.tolist()] * 2
    folders = {"train": (tmp_path / "images", tmp_path / "masks")}
    data.to_tfds("own", folders, classes=2, data_dir=tmp_path / "tfds")
    for pairs in (
        load_folder(tmp_path, batch_size=2),
        data.load(
            "own",
            "train",
            image_size=None,
            batch_size=2,
            shuffle=False,
            data_dir=tmp_path / "tfds",
        ),
    ):
        ((images, masks),) = pairs
        assert masks.numpy().tolist() == expected
        # JPEG decoders may round differently.
        tolerance = 3 if format == "JPEG" else 0
        assert np.abs(images.numpy() - shown).max() <= tolerance
    report = data.check(load_folder(tmp_path), 2, verbose=False)
    assert report.ok
    assert set(report.sizes) == {shown.shape[:2]}


def test_only_one_is_turned(tmp_path):
    mask = np.uint8([[0, 1, 1, 0]] * 2)
    write_folder(tmp_path, {"a": oriented(6)}, mask)
    for carrier, other in (("image", "mask"), ("mask", "image")):
        pairs = load_folder(tmp_path)
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=f"same size.*The {carrier} is rotated by its EXIF "
            f"orientation, 6, but the {other} is not",
        ):
            list(pairs)
        write_folder(tmp_path, {"a": tf.io.encode_png(STORED).numpy()}, mask)
        (tmp_path / "masks" / "a.png").write_bytes(oriented(6, mask))


def test_both_are_turned_in_other_ways(tmp_path):
    write_folder(tmp_path, {"a": oriented(6)})
    mask = np.uint8([[0, 1, 1, 0]] * 2)
    (tmp_path / "masks" / "a.png").write_bytes(oriented(3, mask))
    pairs = load_folder(tmp_path)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"same size.*The EXIF orientation of the image is 6, that of the "
        r"mask is 3",
    ):
        list(pairs)


def test_median_size(tmp_path):
    sizes = {"a": (2, 9), "b": (4, 5), "c": (6, 7)}
    images = {
        name: tf.io.encode_png(np.zeros((*size, 3), np.uint8)).numpy()
        for name, size in sizes.items()
    }
    # This image is 30 pixels high after rotation.
    images["d"] = oriented(8, np.zeros((3, 30, 3), np.uint8))
    images["e"] = images["c"]
    write_folder(tmp_path, images)
    files = list_pictures(tmp_path / "images")
    assert median_size(files) == (6, 7)
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.png: The file cannot be read"):
        median_size(files)


# ------------------------------------------------------------------ faults


def broken_checksum(content):
    place = content.index(b"IDAT") + 6
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"not an image",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-14],
        broken_checksum,
        # Other formats. Pillow would start a program for the second file.
        lambda content: b"II*\0" + content,
        lambda content: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_broken_files(spoil):
    content = spoil(deep_png("RGB")[0])
    shallow = spoil(tf.io.encode_png(STORED).numpy())
    for broken in (content, shallow):
        with pytest.raises(ValueError, match=r"^x: The file cannot be read\. "):
            read_image(broken, value_range=(0, 255), name="x")


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"no\.png: .*cannot be read: No such"):
        read_image(tmp_path / "no.png")


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(ValueError, match="x: The image has more pixels than"):
        read_image(tf.io.encode_png(STORED).numpy(), name="x")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_8_bits(mode):
    image = PIL.Image.fromarray(np.where(STORED > 100, 255, 0).astype("uint8"))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "PNG")
    found = read_image(buffer.getvalue())
    with PIL.Image.open(buffer) as written:
        expected = np.asarray(written.convert("RGB"))
    np.testing.assert_array_equal(found, expected)
    by_tensorflow = tf.io.decode_png(buffer.getvalue(), channels=3)
    np.testing.assert_array_equal(found, by_tensorflow)


@pytest.mark.parametrize("mode", ["CMYK", "L", "YCbCr"])
def test_modes_of_jpeg(mode):
    buffer = io.BytesIO()
    image = PIL.Image.new("RGB", (16, 16), (200, 100, 50))
    image.convert(mode).save(buffer, "JPEG", quality=100)
    expected = np.asarray(image.convert(mode).convert("RGB"), int)
    assert np.abs(read_image(buffer.getvalue()) - expected).max() <= 4


# ------------------------------------------------------------------- names


def test_names_in_other_encodings(tmp_path):
    """Names of Latin-1 bytes, as on old disks, are read and shown."""
    content = tf.io.encode_png(STORED).numpy()
    write_folder(tmp_path, {"plain": content})
    odd = os.fsdecode(b"caf\xe9")
    for kind in ("images", "masks"):
        folder = tmp_path / kind
        try:
            os.rename(folder / "plain.png", folder / f"{odd}.png")
        except OSError:
            pytest.skip("The file system refuses such names.")
    ((image, _),) = load_folder(tmp_path)
    np.testing.assert_array_equal(image[0], STORED)
    folders = {"train": (tmp_path / "images", tmp_path / "masks")}
    data.to_tfds("own", folders, classes=2, data_dir=tmp_path / "tfds")
    (tmp_path / "masks" / f"{odd}.png").write_bytes(b"no image")
    pairs = load_folder(tmp_path)
    # TensorFlow escapes the name a second time.
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"masks/caf.*udce9\.png: The file"
    ):
        list(pairs)
    (failure,) = data.check(load_folder(tmp_path), 2, verbose=False).failures
    assert r"masks/caf\udce9.png: The file cannot be" in failure
    (tmp_path / "masks" / f"{odd}.png").unlink()
    with pytest.raises(ValueError, match=r"must contain \.png"):
        load_folder(tmp_path)
    write_png(tmp_path / "masks" / "other.png", np.zeros((2, 4, 1), np.uint8))
    with pytest.raises(ValueError, match=r"without mask: 1 \(caf.udce9\)"):
        load_folder(tmp_path)


def test_errors_are_one_sentence(tmp_path):
    """The message comes first and only once, without TensorFlow's text."""
    write_folder(tmp_path, {"a": b"no image"})
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(load_folder(tmp_path))
    text = str(caught.value)
    assert text.count("The file cannot be read") == 1
    assert "Traceback" not in text
    (failure,) = data.check(load_folder(tmp_path), 2, verbose=False).failures
    assert failure.startswith(f"{tmp_path}/images/a.png: The file cannot be ")
    assert "[" not in failure
