import os
import pathlib
import re
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv.data import (
    augmentation,
    color_map,
    describe,
    from_folders,
    load,
    splits,
    to_tfds,
)
from keras_deconv.data._pairs import find_pairs, list_pictures
from tests.paths import CAMVID
from tests.tiny_datasets import write_camvid, write_png

CLASSES = 3
LABELS = np.uint8([[0, 1, 2, 255], [2, 2, 0, 1]])
PALETTE = ((128, 64, 128), (0, 0, 0), (220, 20, 60))
VOID_COLOR = (255, 255, 255)


def write_indexed_png(path, labels, palette, depth=8):
    """Write an indexed PNG file, which TensorFlow does not support."""

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    height, width = labels.shape
    bits = (labels[..., None] >> np.arange(depth)[::-1] & 1).reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", width, height, depth, 3, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", np.uint8(palette).tobytes())
        + chunk(b"tRNS", b"\0\xff")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_gray(path, labels):
    write_png(path, labels[..., None])


def write_indexed(path, labels):
    # All indices have the same color, as unused indices often do.
    write_indexed_png(path, labels, ((9, 9, 9),) * 256)


def write_indexed_in_color(path, labels):
    """Write indices in another order, like programs that index colors."""
    colors = np.full((256, 3), VOID_COLOR, np.uint8)
    order = np.array([2, 0, 1, 3])
    colors[order[:CLASSES]] = PALETTE
    write_indexed_png(path, order[np.minimum(labels, 3)], colors)


def write_gray_as_colors(path, labels):
    """Write three channels of labels, like OpenCV."""
    write_png(path, np.repeat(labels[..., None], 3, axis=-1))


def write_colors(path, labels):
    colors = np.full((256, 3), VOID_COLOR, np.uint8)
    colors[:CLASSES] = PALETTE
    write_png(path, colors[labels])


def write_known_colors(path, labels):
    """Write colors without void, which is not in the palette."""
    write_colors(path, labels % 255)


def write_colors_and_alpha(path, labels):
    colors = np.full((256, 4), (*VOID_COLOR, 7), np.uint8)
    colors[:CLASSES, :3] = PALETTE
    write_png(path, colors[labels])


def write_pairs(folder, write_mask=write_gray, names=("a", "b/c", "d")):
    """Write images whose red is ten times the label, and their masks."""
    for number, name in enumerate(names):
        labels = np.roll(LABELS, number, axis=1)
        image = np.repeat((10 * labels.astype(int) % 256)[..., None], 3, -1)
        write_png(folder / "images" / f"{name}.png", np.uint8(image))
        write_mask(folder / "masks" / f"{name}.png", labels)
    return folder / "images", folder / "masks"


def read(folder, **options):
    options = {
        "classes": CLASSES,
        "image_size": None,
        "batch_size": 3,
        "shuffle": False,
    } | options
    return from_folders(folder / "images", folder / "masks", **options)


ALL_KINDS = [
    (write_gray, {}),
    (write_indexed, {}),
    (
        write_indexed_in_color,
        {"palette": PALETTE, "void_colors": (VOID_COLOR,)},
    ),
    (write_gray_as_colors, {}),
    (write_colors, {"palette": PALETTE, "void_colors": (VOID_COLOR,)}),
    (
        write_colors_and_alpha,
        {"palette": PALETTE, "void_colors": (VOID_COLOR,)},
    ),
]


@pytest.mark.parametrize(("write_mask", "options"), ALL_KINDS)
def test_kinds_of_masks(tmp_path, write_mask, options):
    write_pairs(tmp_path, write_mask)
    pairs = read(tmp_path, **options)
    assert len(pairs) == 1
    assert pairs.element_spec[0].shape.as_list() == [None, None, None, 3]
    ((image, mask),) = pairs.as_numpy_iterator()
    expected = [np.roll(LABELS, number, axis=1) for number in range(3)]
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(image[..., 0], 10 * mask % 256)
    assert (image.dtype, mask.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_indexed_masks_of_few_bits(tmp_path, depth):
    write_pairs(tmp_path, names=["a"])
    labels = (np.arange(10).reshape(2, 5) % 2**depth).astype(np.uint8)
    write_png(tmp_path / "images" / "a.png", np.zeros((2, 5, 3), np.uint8))
    colors = color_map(2**depth)
    write_indexed_png(tmp_path / "masks" / "a.png", labels, colors, depth)
    ((_, mask),) = read(tmp_path, classes=2**depth)
    np.testing.assert_array_equal(mask[0], labels)


def test_labels_of_a_description(tmp_path):
    """Grayscale masks use the labels, RGB masks the palette; also void."""
    entry = describe("cityscapes")
    labels = np.uint8([[7, 33, 0, 26]])
    classes = [[0, 18, 255, 13]]
    image = np.zeros((1, 4, 3), np.uint8)
    colors = np.uint8(
        [[entry.palette[0], entry.palette[18], (0, 0, 0), entry.palette[13]]]
    )
    for name, mask in (("gray", labels[..., None]), ("colors", colors)):
        write_png(tmp_path / "images" / f"{name}.png", image)
        write_png(tmp_path / "masks" / f"{name}.png", mask)
    ((_, mask),) = read(tmp_path, classes=entry, void_colors=[(0, 0, 0)])
    assert mask.numpy().tolist() == [classes, classes]


def test_camvid_layout(tmp_path):
    write_camvid(tmp_path, {"train": 2})
    ((_, mask),) = from_folders(
        tmp_path / "train",
        tmp_path / "trainannot",
        classes=11,
        void_labels=[11],
        image_size=None,
        batch_size=2,
    )
    expected = np.arange(16) % 12
    expected[expected == 11] = 255
    assert np.all(mask == expected)


@pytest.mark.parametrize("void_labels", [(0,), (1, 0), [2], np.array([1])])
@pytest.mark.parametrize(
    "in_color", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_classes_are_numbered_without_void(tmp_path, void_labels, in_color):
    free = [label for label in range(256) if label not in void_labels]
    labels = np.uint8([[void_labels[0], free[2], free[0], free[1]]])
    if in_color:
        colors = [VOID_COLOR, PALETTE[2], PALETTE[0], PALETTE[1]]
        write_png(tmp_path / "masks" / "a.png", np.uint8([colors]))
    else:
        write_gray(tmp_path / "masks" / "a.png", labels)
    write_png(tmp_path / "images" / "a.png", np.zeros((1, 4, 3), np.uint8))
    options = {"void_labels": void_labels}
    if in_color:
        options |= {"palette": PALETTE, "void_colors": [VOID_COLOR]}
    ((_, mask),) = read(tmp_path, **options)
    assert mask.numpy().tolist() == [[[255, 2, 0, 1]]]
    write_set(tmp_path, tmp_path / "data", **options)
    ((_, mask),) = load(
        "own_streets",
        "test",
        image_size=None,
        batch_size=1,
        data_dir=tmp_path / "data",
    )
    assert mask.numpy().tolist() == [[[255, 2, 0, 1]]]


def test_options_of_the_pipeline(tmp_path):
    write_pairs(tmp_path)

    def run():
        pairs = read(
            tmp_path,
            image_size=(8, 8),
            batch_size=2,
            shuffle=True,
            seed=3,
            augment=augmentation(crop=5),
            class_weights=[1, 2, 3],
        )
        assert len(pairs) == 2
        return list(pairs.as_numpy_iterator())

    first, second = run(), run()
    assert [len(image) for image, _, _ in first] == [2, 1]
    for one, other in zip(first, second, strict=True):
        image, mask, weight = one
        assert image.shape[1:] == (5, 5, 3)
        np.testing.assert_array_equal(
            weight, np.array([1, 2, 3, 0])[np.minimum(mask, 3)]
        )
        for element, again in zip(one, other, strict=True):
            np.testing.assert_array_equal(element, again)


# -------------------------------------------------------------- matching


def test_jpeg_pictures_and_masks_in_one_folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("x", "y"):
        image = np.full((2, 4, 3), 80, np.uint8)
        jpeg = tf.io.encode_jpeg(image, quality=100).numpy()
        (folder / f"{name}.JPG").write_bytes(jpeg)
        write_gray(folder / f"{name}_mask.png", LABELS)
    (folder / "._x_mask.png").write_bytes(b"left by macOS")
    (folder / "notes.txt").write_text("no picture")
    pairs = from_folders(
        folder,
        folder,
        classes=3,
        mask_suffix="_mask",
        image_size=None,
        batch_size=2,
    )
    ((image, mask),) = pairs.as_numpy_iterator()
    assert np.abs(image - 80).max() <= 2
    np.testing.assert_array_equal(mask, [LABELS, LABELS])


def spoil_by_removing(folder):
    (folder / "masks" / "a.png").unlink()
    write_gray(folder / "masks" / "zebra.png", LABELS)


def test_what_does_not_match(tmp_path, capsys):
    write_pairs(tmp_path)
    spoil_by_removing(tmp_path)
    message = (
        r"with pairs: 2; images without mask: 1 \(a\); "
        r"masks without image: 1 \(zebra\)\. Pass `mask_suffix`"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path)
    ((image, _),) = read(tmp_path, unmatched="skip")
    assert len(image) == 2
    assert (
        "pairs: 2; images without mask: 1 (a); masks" in capsys.readouterr().out
    )


def test_many_that_do_not_match(tmp_path):
    write_pairs(tmp_path, names=[f"p{number}" for number in range(8)])
    for path in (tmp_path / "masks").iterdir():
        path.rename(path.with_name("m" + path.name))
    message = r"with pairs: 0; images without mask: 8 \(p0, p1, .*p4, \.\.\.\)"
    for unmatched in ("error", "skip"):
        with pytest.raises(ValueError, match=message):
            read(tmp_path, unmatched=unmatched)


def test_other_formats_are_not_left_out_silently(tmp_path, capsys):
    write_pairs(tmp_path)
    for name in ("images/e.dng", "images/f.HEIC", "masks/e.dng", "masks/f.jpg"):
        (tmp_path / name).write_bytes(b"")
    # A second file beside a supported one, and files that are not images.
    for name in ("images/a.dng", "masks/a.jpg", "images/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    report = (
        r"pairs: 3; images that are not \.png .*: 2 \(e\.dng, f\.HEIC\); masks "
        r"that are not \.png .*: 1 \(e\.dng\); masks with lossy compression: 1 "
        r"\(f\.jpg\)\."
    )
    with pytest.raises(
        ValueError,
        match=rf"{report}.*JPEG changes labels.*Convert .* to PNG\.$",
    ):
        read(tmp_path)
    ((image, _),) = read(tmp_path, unmatched="skip")
    assert len(image) == 3
    assert re.search(report, capsys.readouterr().out)


def test_a_folder_of_another_format(tmp_path):
    write_pairs(tmp_path)
    for path in (tmp_path / "images").rglob("*.png"):
        path.rename(path.with_suffix(".heic"))
    message = (
        r"`images` must contain \.png, .*any\. It contains files of other "
        r"formats: 3 \(a\.heic, c\.heic, d\.heic\)\. Convert them to PNG\.$"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_other_formats_in_a_shared_folder(tmp_path):
    """Images are not read as masks, and masks are not read as images."""
    write_pairs(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    for kind, suffix in (("images", ""), ("masks", "_mask")):
        path = tmp_path / kind / "a.png"
        path.rename(shared / f"a{suffix}.png")
    options = {"classes": 3, "image_size": None, "batch_size": 1}
    options["mask_suffix"] = "_mask"
    assert len(from_folders(shared, shared, **options)) == 1
    (shared / "b.dng").write_bytes(b"")
    (shared / "b_mask.dng").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"images that are not .*: 1 \(b\.dng\); masks that are not .*: 1 "
        r"\(b_mask\.dng",
    ):
        from_folders(shared, shared, **options)


def test_the_layout_of_cityscapes(tmp_path):
    """Both suffixes are needed. Other files in the folder are ignored."""
    parts = tmp_path / "leftImg8bit", tmp_path / "gtFine"
    for name in ("aachen/a_0", "bochum/b_1"):
        image = np.full((*LABELS.shape, 3), len(name), np.uint8)
        write_png(parts[0] / f"{name}_leftImg8bit.png", image)
        write_gray(parts[1] / f"{name}_gtFine_labelIds.png", LABELS)
        write_gray(parts[1] / f"{name}_gtFine_color.png", LABELS)
        (parts[1] / f"{name}_gtFine_polygons.json").write_text("{}")
    suffixes = {
        "image_suffix": "_leftImg8bit",
        "mask_suffix": "_gtFine_labelIds",
    }
    options = {"classes": 3, "image_size": None, "batch_size": 2} | suffixes
    ((image, mask),) = from_folders(*parts, **options)
    np.testing.assert_array_equal(mask, [LABELS] * 2)
    ((_, mask),) = from_folders(*parts, files=["aachen/a_0"], **options)
    assert len(mask) == 1
    to_tfds(
        "own_streets",
        {"train": parts},
        classes=["road", "car", "sky"],
        data_dir=tmp_path / "data",
        **suffixes,
    )
    (parts[1] / "aachen/a_0_gtFine_labelIds.png").unlink()
    with pytest.raises(ValueError, match=r"without mask: 1 \(aachen/a_0\)"):
        from_folders(*parts, **options)


@pytest.mark.parametrize(
    ("image_suffix", "mask_suffix"),
    [("_image", "_mask"), ("_image", ""), ("", "_mask")],
)
def test_suffixes_in_one_folder(tmp_path, image_suffix, mask_suffix):
    for name in "ab":
        image = np.zeros((*LABELS.shape, 3), np.uint8)
        write_png(tmp_path / f"{name}{image_suffix}.png", image)
        write_gray(tmp_path / f"{name}{mask_suffix}.png", LABELS)
    pairing = find_pairs(
        tmp_path, tmp_path, image_suffix=image_suffix, mask_suffix=mask_suffix
    )
    assert [
        (name, image.stem, mask.stem) for name, image, mask in pairing.files
    ] == [(n, n + image_suffix, n + mask_suffix) for n in "ab"]
    assert not pairing.problems


def test_jpeg_images_beside_masks_of_the_same_name(tmp_path):
    jpeg = tf.io.encode_jpeg(np.zeros((*LABELS.shape, 3), np.uint8)).numpy()
    (tmp_path / "a.jpg").write_bytes(jpeg)
    write_gray(tmp_path / "a.png", LABELS)
    options = {"classes": 3, "image_size": None, "batch_size": 1}
    for lossy_masks in (False, True):
        ((_, mask),) = from_folders(
            tmp_path, tmp_path, lossy_masks=lossy_masks, **options
        )
        np.testing.assert_array_equal(mask, [LABELS])


def test_files_of_the_same_name_are_left_out(tmp_path, capsys):
    write_pairs(tmp_path)
    twice(tmp_path)
    write_gray(tmp_path / "masks" / "d.png", LABELS)
    (tmp_path / "masks" / "d.tif").write_bytes(b"")
    ((image, _),) = read(tmp_path, unmatched="skip")
    assert len(image) == 1
    assert (
        "pairs: 1; images of the same name: 2 (a.jpg, a.png); masks of the "
        "same name: 2 (d.png, d.tif)."
    ) in capsys.readouterr().out


def test_all_that_does_not_match_can_be_listed(tmp_path):
    write_pairs(tmp_path, names=[f"p{number}" for number in range(8)])
    for number in range(7):
        (tmp_path / "masks" / f"p{number}.png").unlink()
    pairing = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert pairing.lines() == [
        "images without mask: 7 (p0, p1, p2, p3, p4, p5, p6)"
    ]
    assert pairing.lines(2) == ["images without mask: 7 (p0, p1, ...)"]


def test_list_pictures(tmp_path):
    folder = tmp_path / ".hidden_above" / "x"
    for name in (
        *("b.PNG", "a/c.jpg", "a/notes.txt", "a.b/d.png", "e.jpeg"),
        *(".f.png", ".ipynb_checkpoints/g.png", "a/.h/i/j.png", "k.png/l.png"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "m.png").write_bytes(b"")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "n.png").symlink_to(tmp_path / "outside" / "m.png")
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    found = list_pictures(folder, (".png", ".jpg"))
    names = ["a/c.jpg", "a.b/d.png", "b.PNG", "k.png/l.png", "link/m.png"]
    assert found == sorted(folder / name for name in [*names, "n.png"])


def test_list_pictures_ends_where_links_lead_back(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").write_bytes(b"")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "other").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "other").symlink_to(tmp_path / "a")
    found = [
        path.relative_to(tmp_path).as_posix()
        for path in list_pictures(tmp_path)
    ]
    assert found == ["a/a.png", "a/other/b.png", "b/b.png", "b/other/a.png"]


def test_linked_folders_and_links_to_nowhere(tmp_path):
    write_pairs(tmp_path)
    for kind in ("images", "masks"):
        (tmp_path / kind / "b").rename(tmp_path / f"{kind}_of_b")
        (tmp_path / kind / "b").symlink_to(tmp_path / f"{kind}_of_b")
    ((image, _),) = read(tmp_path)
    assert len(image) == 3
    (tmp_path / "masks_of_b" / "c.png").unlink()
    (tmp_path / "masks_of_b" / "c.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"without mask: 1 \(b/c\)"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["", "_ä"])
def test_names_match_in_every_form_of_unicode(tmp_path, suffix):
    for forms in (("NFC", "NFD"), ("NFD", "NFC")):
        in_images, in_masks = (
            unicodedata.normalize(form, f"straße/é{'-'.join(forms)}")
            for form in forms
        )
        suffix = unicodedata.normalize(forms[0], suffix)
        image = np.zeros((*LABELS.shape, 3), np.uint8)
        write_png(tmp_path / "images" / f"{in_images}.png", image)
        other = unicodedata.normalize(forms[1], suffix)
        write_gray(tmp_path / "masks" / f"{in_masks}{other}.png", LABELS)
    ((image, _),) = read(tmp_path, mask_suffix=suffix)
    assert len(image) == 2


def test_matching_does_not_compare_all_with_all(tmp_path, monkeypatch):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for number in range(100):
            (tmp_path / kind / f"{number}.png").touch()
    num_compared = 0
    is_equal = pathlib.PurePath.__eq__

    def count(one, other):
        nonlocal num_compared
        num_compared += 1
        return is_equal(one, other)

    monkeypatch.setattr(pathlib.PurePath, "__eq__", count)
    read(tmp_path)
    assert num_compared < 1000


def remove_folder(folder):
    (folder / "masks").rename(folder / "elsewhere")


def empty_folder(folder):
    remove_folder(folder)
    (folder / "masks").mkdir()


@pytest.mark.parametrize("no_path", [None, 7, b"x"])
def test_no_path(tmp_path, no_path):
    write_pairs(tmp_path)
    for argument in ("images", "masks"):
        paths = {kind: tmp_path / kind for kind in ("images", "masks")}
        with pytest.raises(ValueError, match=f"`{argument}` must be a folder"):
            from_folders(
                **paths | {argument: no_path},
                classes=3,
                image_size=None,
                batch_size=1,
            )


def twice(folder):
    (folder / "images" / "a.jpg").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_folder, "`masks` must be a folder that exists.*/masks'"),
        (
            empty_folder,
            r"`masks` must contain \.png, .* files.*does not contain any",
        ),
        (
            twice,
            r"images of the same name: 2 \(a\.jpg, a\.png\).*Keep one file of",
        ),
    ],
)
def test_faulty_folders(tmp_path, spoil, message):
    write_pairs(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 1}, "`num_classes` must be an int >= 2"),
        ({"classes": "road"}, "`classes` must be an int, a sequence of names"),
        ({"classes": ["a", "a"]}, "`classes` must be at least two distinct"),
        ({"classes": []}, "`classes` must be at least two distinct names"),
        ({"classes": [1, 2]}, "`classes` must be at least two distinct names"),
        ({"palette": PALETTE[:2]}, "2 colors for 3 classes"),
        ({"palette": [*PALETTE[:2], PALETTE[0]]}, "must be distinct"),
        (
            {"palette": PALETTE, "void_colors": PALETTE[:1]},
            "must be distinct",
        ),
        ({"palette": [*PALETTE[:2], (0, 256, 0)]}, r"\(0, 256, 0\)"),
        ({"palette": [*PALETTE[:2], 7]}, "Received: 7"),
        (
            {
                "palette": PALETTE,
                "void_labels": (),
                "void_colors": [VOID_COLOR],
            },
            "`void_colors` requires a label",
        ),
        ({"classes": 256}, "at most 255 classes, .* not void"),
        ({"void_labels": 255}, "`void_labels` must be .*void_labels=255"),
        ({"void_labels": (0, 0)}, "`void_labels` must be"),
        ({"void_labels": (256,)}, "`void_labels` must be"),
        ({"void_labels": (1.5,)}, "`void_labels` must be"),
        ({"void_labels": "1"}, "`void_labels` must be"),
        ({"palette": [*PALETTE[:2], (0, 50.7, 0)]}, r"three ints.*\(0, 50.7"),
        ({"palette": 7}, "`palette` must be a sequence of colors.*=7"),
        ({"void_colors": 7}, "`void_colors` must be a sequence of colors"),
        ({"void_colors": VOID_COLOR}, "three ints.*Received: 255"),
        ({"mask_suffix": None}, "`mask_suffix` must be a str.*=None"),
        ({"image_suffix": 7}, "`image_suffix` must be a str.*=7"),
        ({"unmatched": "ignore"}, "`unmatched` must be one of 'error', 'skip'"),
        ({"batch_size": 0}, "`batch_size` must be"),
    ],
)
def test_wrong_arguments(tmp_path, change, message):
    write_pairs(tmp_path)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **change)


# ---------------------------------------------------------- faulty files


def not_a_picture(path):
    path.write_bytes(b"not a picture")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


def sixteen_bits(path):
    write_png(path, np.full((2, 4, 1), 300, np.uint16))


def in_color(path):
    write_colors(path, LABELS)


def unknown_label(path):
    write_gray(path, np.full_like(LABELS, 77))


def other_size(path):
    write_gray(path, LABELS[:, :3])


FAULTY_MASKS = [
    (not_a_picture, {}, r"c\.png: The file cannot be read"),
    (cut_off, {}, r"c\.png: The file cannot be read"),
    (sixteen_bits, {}, r"c\.png: The labels .* in 0\.\.255.*300"),
    (in_color, {}, r"c\.png: The mask has colors.*`palette`"),
    (
        in_color,
        {"palette": PALETTE},
        r"c\.png: .*Found other colors \(1\): \(255, 255, 255\)\. .*nearest",
    ),
    (unknown_label, {}, r"77"),
    (other_size, {}, "must have the same size"),
]


@pytest.mark.parametrize(("spoil", "options", "message"), FAULTY_MASKS)
def test_faulty_mask(tmp_path, spoil, options, message):
    write_pairs(tmp_path, write_known_colors if options else write_gray)
    spoil(tmp_path / "masks" / "b" / "c.png")
    pairs = read(tmp_path, batch_size=1, **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message) as error:
        list(pairs)
    assert "b/c" in str(error.value)


def test_faulty_picture(tmp_path):
    write_pairs(tmp_path)
    cut_off(tmp_path / "images" / "d.png")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"d\.png: The file cannot be read"
    ):
        list(read(tmp_path))


# --------------------------------------------------------------- to_tfds


def write_set(folder, data_dir, name="own_streets", **options):
    pair = folder / "images", folder / "masks"
    options = {"classes": ["road", "car", "sky"]} | options
    return to_tfds(
        name, {"train": pair, "test": pair}, data_dir=data_dir, **options
    )


@pytest.mark.parametrize(("write_mask", "options"), ALL_KINDS)
def test_to_tfds_and_back(tmp_path, write_mask, options):
    write_pairs(tmp_path, write_mask)
    data_dir = tmp_path / "data"
    sizes = write_set(tmp_path, data_dir, **options)
    assert sizes == {"train": 3, "test": 3}
    assert splits("own_streets", data_dir=data_dir) == sizes
    ((image, mask),) = load(
        "own_streets",
        "test",
        image_size=None,
        batch_size=3,
        data_dir=data_dir,
        class_weights=[1, 1, 1],
    ).map(lambda image, mask, weight: (image, mask))
    np.testing.assert_array_equal(image[..., 0], 10 * mask.numpy() % 256)
    assert set(np.unique(mask)) == {0, 1, 2, 255}
    # tfds reads the dataset too.
    dataset, info = tfds.load(
        "own_streets", split="train", data_dir=data_dir, with_info=True
    )
    assert info.features["segmentation_mask"].names == ["road", "car", "sky"]
    found = {e["file_name"].numpy().decode() for e in dataset}
    assert found == {"a", "b/c", "d"}


def test_to_tfds_maps_labels_to_classes(tmp_path):
    entry = describe("cityscapes")
    write_png(tmp_path / "images" / "a.png", np.zeros((1, 3, 3), np.uint8))
    write_gray(tmp_path / "masks" / "a.png", np.uint8([[7, 33, 4]]))
    write_set(tmp_path, tmp_path / "data", classes=entry)
    ((_, mask),) = load(
        "own_streets",
        "train",
        image_size=None,
        batch_size=1,
        data_dir=tmp_path / "data",
    )
    assert mask.numpy().tolist() == [[[0, 18, 255]]]


@pytest.mark.parametrize(("spoil", "options", "message"), FAULTY_MASKS)
def test_to_tfds_faulty_mask(tmp_path, spoil, options, message):
    write_pairs(tmp_path, write_known_colors if options else write_gray)
    path = tmp_path / "masks" / "b" / "c.png"
    good = path.read_bytes()
    spoil(path)
    data_dir = tmp_path / "new" / "data"
    data_dir.parent.mkdir()
    with pytest.raises(ValueError, match=message) as error:
        write_set(tmp_path, data_dir, **options)
    assert "c.png" in str(error.value)
    assert not data_dir.exists()
    path.write_bytes(good)
    assert write_set(tmp_path, data_dir, **options) == {"train": 3, "test": 3}


def test_to_tfds_does_not_overwrite(tmp_path):
    write_pairs(tmp_path)
    write_set(tmp_path, tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ValueError, match="already exists, delete its folder"
    ) as error:
        write_set(tmp_path, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    write_set(tmp_path, tmp_path / "data", version="1.1.0")


def test_to_tfds_keeps_what_was_there(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "data" / "downloads").mkdir(parents=True)
    not_a_picture(tmp_path / "masks" / "a.png")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="The file cannot be read"):
        write_set(tmp_path, tmp_path / "data")
    assert sorted(tmp_path.rglob("*")) == before


def test_to_tfds_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path)
    sizes = write_set(tmp_path, "~/data")
    assert splits("own_streets", data_dir=tmp_path / "data") == sizes
    assert not (tmp_path / "~").exists()


def test_to_tfds_without_data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "data"))
    write_pairs(tmp_path)
    write_set(tmp_path, None)
    found = {path.name for path in (tmp_path / "data").iterdir()}
    assert found == {"own_streets"}


def test_to_tfds_where_no_folder_can_be(tmp_path):
    write_pairs(tmp_path)
    file = tmp_path / "file"
    file.touch()
    for data_dir in (file, file / "data", 7):
        with pytest.raises(ValueError, match="`data_dir` must be"):
            write_set(tmp_path, data_dir)


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/b", "My_Set", "1a", "a.b", "", "a\n"]
)
def test_to_tfds_stays_in_its_folder(tmp_path, name):
    write_pairs(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="`name` must consist of lowercase"):
        write_set(tmp_path, tmp_path / "data", name=name)
    pair = tmp_path / "images", tmp_path / "masks"
    for change in (
        {"folders": {"../../evil": pair}},
        {"folders": {"all": pair}},
        {"folders": {}},
        {"folders": {"train": "xy"}},
        {"folders": {"train": (tmp_path,)}},
        {"version": "../1.0.0"},
        {"version": "1.0"},
    ):
        arguments = {"folders": {"train": pair}, "classes": 3} | change
        (key,) = change
        with pytest.raises(ValueError, match=f"`{key}` must be|in `{key}`"):
            to_tfds("good", data_dir=tmp_path / "data", **arguments)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("third", ["", "sky\nsea", " sky", "car"])
def test_to_tfds_keeps_no_names_that_tfds_would_change(tmp_path, third):
    write_pairs(tmp_path)
    with pytest.raises(ValueError, match="`classes` must be at least two dist"):
        write_set(tmp_path, tmp_path / "data", classes=["road", "car", third])


@pytest.mark.parametrize("name", ["cam_vid", "oxford_iiit_pet", "mnist"])
def test_to_tfds_names_that_are_taken(tmp_path, name):
    write_pairs(tmp_path)
    with pytest.raises(
        ValueError, match="must not be the name of a tfds dataset"
    ):
        write_set(tmp_path, tmp_path / "data", name=name)


def test_to_tfds_names_of_files_lead_nowhere(tmp_path):
    """Links are read. Names of files do not appear in the output paths."""
    write_pairs(tmp_path, names=["a"])
    outside = tmp_path / "outside.png"
    os.rename(tmp_path / "masks" / "a.png", outside)
    (tmp_path / "masks" / "a.png").symlink_to(outside)
    odd = "x..\\..\\evil"
    os.rename(tmp_path / "images" / "a.png", tmp_path / f"images/{odd}.png")
    os.rename(tmp_path / "masks" / "a.png", tmp_path / f"masks/{odd}.png")
    before = {*tmp_path.rglob("*")}
    write_set(tmp_path, tmp_path / "data")
    written = {*tmp_path.rglob("*")} - before
    assert all((tmp_path / "data") in [p, *p.parents] for p in written)
    assert not any("evil" in path.name for path in written)


@pytest.mark.skipif(not CAMVID.exists(), reason=f"CamVid is not at {CAMVID}")
def test_real_camvid():
    pairs = from_folders(
        CAMVID / "val",
        CAMVID / "valannot",
        classes=describe("cam_vid"),
        image_size=None,
        batch_size=2,
        cache=False,
    )
    image, mask = next(iter(pairs))
    assert image.shape[1:3] == mask.shape[1:]
    assert set(np.unique(mask)) <= {*range(11), 255}
