"""Every kind of file gives the correct array, or an error with advice."""

import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_deconv import data
from keras_deconv.data._images import median_size, read_image
from keras_deconv.data._mask_formats import mask_format
from keras_deconv.data._masks import read_labels
from tests.data import file_kinds
from tests.data.file_kinds import DEEP, GRAY, LABELS, RGB, geotiff, png, saved

# Versions of Pillow differ in some files.
pytestmark = pytest.mark.oldest

pytest.importorskip("rasterio")


def write_pairs(folder, kinds, as_masks=False):
    """Write files and their partners; return the kinds by path."""
    one, other = ("masks", "images") if as_masks else ("images", "masks")
    kinds = {path: k for k, path in file_kinds.write(folder / one, kinds)}
    for path, kind in kinds.items():
        shape = (2, 2) if kind.expected is None else kind.expected.shape[:2]
        partner = folder / other / path.relative_to(folder / one)
        partner = partner.with_suffix(".png")
        partner.parent.mkdir(parents=True, exist_ok=True)
        partner.write_bytes(png(np.zeros(shape, np.uint8)))
    return kinds


def load(folder, **options):
    options = {"classes": 4, "image_size": None, "batch_size": 1} | options
    return data.from_folders(
        folder / "images", folder / "masks", shuffle=False, **options
    )


def compare(folder, kinds, pairs, is_mask):
    """Compare pairs with the expected pixels; both are sorted by name."""
    in_order = sorted(kinds, key=lambda p: p.with_suffix("").as_posix())
    found = list(pairs)
    assert len(found) == len(kinds)
    for path, (image, mask) in zip(in_order, found, strict=True):
        kind = kinds[path]
        values = (mask if is_mask else image)[0].numpy().astype(float)
        assert values.shape == kind.expected.shape, kind.name
        loss = np.abs(values - kind.expected).max()
        assert loss <= kind.tolerance, (kind.name, loss)


def test_there_are_many_kinds():
    kinds = [
        *file_kinds.images(),
        *file_kinds.deep_images(),
        *file_kinds.faulty_images(),
    ]
    assert len(kinds) >= 90
    assert len([*file_kinds.masks(), *file_kinds.faulty_masks()]) >= 35


def test_images_of_every_kind(tmp_path):
    kinds = write_pairs(tmp_path, file_kinds.images())
    compare(tmp_path, kinds, load(tmp_path), is_mask=False)


def test_images_of_every_kind_of_more_bits(tmp_path):
    kinds = write_pairs(tmp_path, file_kinds.deep_images())
    pairs = load(tmp_path, value_range=(0, 65535), cache=False)
    # 65535 / 255 is 257. The result has the precision of the file.
    exact = [(tf.round(image * 257), mask) for image, mask in pairs]
    compare(tmp_path, kinds, exact, is_mask=False)
    report = data.check(load(tmp_path, cache=False), 4, verbose=False)
    assert len(report.failures) == len(kinds)
    assert all("`value_range` must say" in text for text in report.failures)


def test_masks_of_every_kind(tmp_path):
    kinds = write_pairs(tmp_path, file_kinds.masks(), as_masks=True)
    compare(tmp_path, kinds, load(tmp_path), is_mask=True)


@pytest.mark.parametrize("as_masks", [False, True])
def test_files_that_are_not_read_are_named(tmp_path, as_masks):
    faulty = file_kinds.faulty_masks if as_masks else file_kinds.faulty_images
    broken = [
        file_kinds.Kind(f"{name}.png", b"", None, "The file cannot be read")
        for name in file_kinds.NAMES
    ]
    kinds = write_pairs(tmp_path, [*faulty(), *broken], as_masks)
    report = data.check(load(tmp_path, cache=False), 4, verbose=False)
    assert report.num_examples == 0
    assert len(report.failures) == len(kinds)
    for path, kind in kinds.items():
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        [text] = [t for t in report.failures if t.startswith(f"{shown}: ")]
        assert kind.error in text, text
    # The report lists all of them.
    assert all(text in str(report) for text in report.failures)


def test_sizes_are_those_of_viewers(tmp_path):
    for kind, path in file_kinds.write(tmp_path, file_kinds.images()):
        assert median_size([path]) == kind.expected.shape[:2], kind.name


# ---------------------------------------------------------------- channels


def test_channels():
    many = np.dstack([RGB, GRAY, GRAY + 1])
    alpha = np.dstack([RGB, GRAY])
    gray = (RGB @ np.array([0.299, 0.587, 0.114]))[..., None]
    for content, channels, expected in (
        (geotiff(many), 5, many),
        (geotiff(many[..., :4], photometric="minisblack"), 4, many[..., :4]),
        (file_kinds.infrared(), 4, alpha),
        (file_kinds.untold(), 4, alpha),
        (png(alpha), 4, alpha),
        (saved(alpha, "TIFF"), 4, alpha),
        (png(alpha[..., :2]), 2, alpha[..., :2]),
        (png(GRAY), 1, GRAY[..., None]),
        (geotiff(many[..., :2]), 2, many[..., :2]),
    ):
        found = read_image(content, channels=channels)
        np.testing.assert_array_equal(found, expected)
    for content in (png(RGB), png(alpha), saved(RGB, "TIFF")):
        found = read_image(content, channels=1)
        # Pillow computes grayscale with integers.
        assert np.abs(found.astype(float) - gray).max() <= 1
    found = read_image(png(DEEP, 16), channels=1, value_range=(0, 65535))
    assert np.abs(found - gray).max() < 0.02
    with pytest.raises(ValueError, match=r"^x: The pixels .* mode 'LAB'"):
        read_image(file_kinds.in_lab(), channels=1, name="x")
    for content, channels in ((png(RGB), 4), (png(GRAY), 2), (png(RGB), 5)):
        with pytest.raises(
            ValueError, match=rf"^x: .*channels={channels}, and \d in this"
        ):
            read_image(content, channels=channels, name="x")


def test_bands_in_folders(tmp_path):
    many = np.dstack([DEEP, DEEP])
    kinds = [file_kinds.Kind("a.tif", geotiff(many), many)]
    kinds = write_pairs(tmp_path, kinds)
    pairs = load(tmp_path, channels=6, value_range=(0, 65535))
    assert pairs.element_spec[0].shape[-1] == 6
    [(image, mask)] = pairs
    compare(tmp_path, kinds, [(tf.round(image * 257), mask)], is_mask=False)
    with pytest.raises(ValueError, match="`channels` must be an int >= 1"):
        load(tmp_path, channels=0)


def test_what_needs_rasterio_says_so(tmp_path, monkeypatch):
    content = geotiff(np.dstack([RGB, RGB]))
    path = tmp_path / "a.tif"
    path.write_bytes(geotiff(LABELS[..., None].astype(np.uint32)))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(
        ValueError, match=r"^x: .*pip install 'keras-deconv\[geo\]'"
    ):
        read_image(content, channels=6, name="x")
    # Other files do not need rasterio.
    np.testing.assert_array_equal(read_image(saved(RGB, "TIFF")), RGB)
    np.testing.assert_array_equal(labels_of(path, classes=4), LABELS)


def test_too_many_pixels_of_bands(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    content = geotiff(np.dstack([RGB, RGB]))
    with pytest.raises(ValueError, match="x: The image has more pixels than"):
        read_image(content, channels=6, name="x")


def test_images_must_be_finite():
    values = np.float32([[0, 1], [np.nan, 0.5]])
    with pytest.raises(ValueError, match=r"x: .*finite numbers\. Found NaN"):
        read_image(saved(values, "TIFF"), value_range=(0, 1), name="x")


def test_to_tfds_does_not_change_values(tmp_path):
    values = np.float32([[0.25, 1], [0, 0.5]])
    kind = file_kinds.Kind("a.tif", saved(values, "TIFF"), values)
    write_pairs(tmp_path, [kind])
    folders = {"train": (tmp_path / "images", tmp_path / "masks")}
    with pytest.raises(ValueError, match="tfds can only store"):
        data.to_tfds(
            "own",
            folders,
            classes=2,
            value_range=(0, 1),
            data_dir=tmp_path / "tfds",
        )


# ------------------------------------------------------------- lossy masks


def labels_of(path, **options):
    format = mask_format("x", options.pop("classes", None), **options)
    return read_labels(path, format).labels


def test_colors_of_masks_of_64_bits(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(geotiff(LABELS[..., None].astype(np.int64)))
    palette = [(3 - label,) * 3 for label in range(4)]
    found = labels_of(path, classes=4, palette=palette)
    np.testing.assert_array_equal(found, 3 - LABELS)


def test_lossy_masks_are_rounded(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(LABELS * 60, "JPEG", quality=100))
    labels = {60 * label: label for label in range(4)}
    found = labels_of(path, labels=labels, lossy_masks=True)
    np.testing.assert_array_equal(found, LABELS * 60)
    path.write_bytes(saved(LABELS * 60, "JPEG", mode="RGB", quality=100))
    found = labels_of(path, labels=labels, lossy_masks=True)
    np.testing.assert_array_equal(found, LABELS * 60)


def test_lossy_masks_in_colors(tmp_path):
    path = tmp_path / "a.jpg"
    colors = np.unique(RGB.reshape(-1, 3), axis=0)
    path.write_bytes(saved(RGB, "JPEG", quality=100, subsampling=0))
    found = labels_of(
        path, classes=6, palette=colors.tolist(), lossy_masks=True
    )
    np.testing.assert_array_equal(colors[found], RGB)


@pytest.mark.parametrize(
    ("labels", "quality", "message"),
    [
        ({0: 0, 60: 1, 120: 2, 180: 3}, 5, "within 2 of a label"),
        ({0: 0, 60: 1, 120: 2, 180: 3, 182: 3}, 100, "at least 5 apart"),
    ],
)
def test_lossy_masks_that_cannot_be_rounded(tmp_path, labels, quality, message):
    path = tmp_path / "a.jpg"
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(LABELS * 60, axis=1)
    path.write_bytes(saved(shuffled, "JPEG", quality=quality))
    with pytest.raises(ValueError, match=rf"a\.jpg: .*{message}"):
        labels_of(path, labels=labels, lossy_masks=True)


def test_folders_of_jpeg_masks(tmp_path):
    for number in range(3):
        image = tmp_path / "images" / f"{number}.png"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(png(RGB))
        mask = tmp_path / "masks" / f"{number}.jpg"
        mask.parent.mkdir(exist_ok=True)
        mask.write_bytes(saved(LABELS // 2 * 255, "JPEG", quality=100))
    message = "JPEG changes labels at the edges.*lossy_masks=True rounds them"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, classes=None, foreground=255)
    [(_, mask), *_] = load(
        tmp_path, classes=None, foreground=255, lossy_masks=True
    )
    np.testing.assert_array_equal(mask[0], LABELS // 2)
    # If there are other masks, the message names the lossy masks.
    (tmp_path / "masks" / "0.png").write_bytes(png(LABELS // 2 * 255))
    with pytest.raises(
        ValueError, match=r"lossy compression: 2 \(1\.jpg, 2\.jpg\)"
    ):
        load(tmp_path, classes=None, foreground=255)
