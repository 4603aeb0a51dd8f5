"""Meaning of the values and colors of masks in folders."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import data
from keras_deconv.data import SegmentationSet, describe, from_folders, to_tfds
from tests.tiny_datasets import write_png

BINARY = np.uint8([[0, 255, 255, 0], [0, 0, 255, 0]])
ONES = BINARY // 255


def write(folder, *masks):
    """Write masks 0.png, 1.png and so on, and images with their values."""
    for number, mask in enumerate(masks):
        mask = np.asarray(mask, np.uint8)
        pixels = mask if mask.ndim == 3 else mask[..., None]
        image = np.repeat(pixels[..., :1], 3, axis=-1)
        write_png(folder / "images" / f"{number}.png", image)
        write_png(folder / "masks" / f"{number}.png", pixels)
    return folder


def read(folder, **options):
    options = {"image_size": None, "batch_size": 9, "shuffle": False} | options
    return from_folders(folder / "images", folder / "masks", **options)


def masks_of(folder, **options):
    ((_, masks),) = read(folder, **options).as_numpy_iterator()
    return masks.tolist()


def stored_masks(folder, **options):
    """Return the masks that `to_tfds` stores, sorted by name."""
    folders = {"train": (folder / "images", folder / "masks")}
    to_tfds("own", folders, data_dir=folder / "tfds", **options)
    builder = data.sources.tfds.builder("own", data_dir=folder / "tfds")
    examples = sorted(
        builder.as_dataset(split="train").as_numpy_iterator(),
        key=lambda example: example["file_name"],
    )
    names = builder.info.features["segmentation_mask"].names
    return [e["segmentation_mask"][..., 0].tolist() for e in examples], names


BINARY_OPTIONS = [
    ({"foreground": 255}, ["background", "foreground"]),
    ({"foreground": 255, "classes": 2}, ["background", "foreground"]),
    ({"foreground": 255, "classes": ["no", "yes"]}, ["no", "yes"]),
    (
        {"foreground": 255, "void_labels": (255, 7)},
        ["background", "foreground"],
    ),
    ({"labels": {0: 0, 255: 1}}, ["class_0", "class_1"]),
    ({"labels": {0: 0, 255: 1}, "classes": ["no", "yes"]}, ["no", "yes"]),
    ({"labels": {0: "no", 255: "yes"}}, ["no", "yes"]),
    ({"labels": {0: "no", 255: "yes"}, "classes": 2}, ["no", "yes"]),
    (
        {"labels": {255: "yes", 0: "no"}, "classes": ["no", "yes"]},
        ["no", "yes"],
    ),
    ({"labels": {0: 0, 255: 1}, "void_labels": ()}, ["class_0", "class_1"]),
]


@pytest.mark.parametrize(("options", "names"), BINARY_OPTIONS)
def test_binary_masks(tmp_path, options, names):
    write(tmp_path, BINARY, BINARY[::-1])
    expected = [ONES.tolist(), ONES[::-1].tolist()]
    assert masks_of(tmp_path, **options) == expected
    assert stored_masks(tmp_path, **options) == (expected, names)


def test_inverted_masks_and_gaps(tmp_path):
    write(tmp_path, [[0, 255, 9, 40]])
    labels = {255: "wall", 0: "road", 9: "road"}
    assert masks_of(tmp_path, labels=labels, void_labels=[40]) == [
        [[1, 0, 1, 255]]
    ]


def test_a_segmentation_set_of_names(tmp_path):
    write(tmp_path, BINARY)
    entry = SegmentationSet(
        name="buildings",
        image_key="image",
        mask_key="mask",
        class_names=("background", "building"),
        palette=((0, 0, 0), (255, 0, 0)),
        labels={0: "background", 255: "building"},
    )
    assert entry.labels == {0: 0, 255: 1}
    assert masks_of(tmp_path, classes=entry) == [ONES.tolist()]
    with pytest.raises(ValueError, match=r"names of classes \(background, bui"):
        data.SegmentationSet(
            **{**vars(entry), "labels": {0: "background", 255: "biulding"}}
        )


def test_void_of_labels(tmp_path):
    """255 is void unless it is a label of a class."""
    write(tmp_path, [[0, 7, 255]])
    assert masks_of(tmp_path, labels={0: 0, 7: 1}) == [[[0, 1, 255]]]
    pairs = read(tmp_path, labels={0: 0, 7: 1}, void_labels=())
    with pytest.raises(tf.errors.InvalidArgumentError, match="label 255"):
        list(pairs)


STOPPED = (
    r"The 2 masks contain only the values 0 and 255, .* foreground=255 .*"
    r"void_labels=\(255,\)"
)


@pytest.mark.parametrize("classes", [2, ["no", "yes"]])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_binary_masks_without_a_word(tmp_path, classes, num_channels):
    write(tmp_path, *[np.stack([BINARY] * num_channels, axis=-1)] * 2)
    with pytest.raises(ValueError, match=STOPPED):
        read(tmp_path, classes=classes)
    with pytest.raises(ValueError, match=STOPPED):
        stored_masks(tmp_path, classes=classes)
    assert not (tmp_path / "tfds").exists()
    # 255 is void if the user says so, even if only class 0 remains.
    masks = masks_of(tmp_path, classes=classes, void_labels=(255,))
    assert masks == [BINARY.tolist()] * 2


@pytest.mark.parametrize(
    "masks",
    [
        [[[0, 255]], [[0, 1]]],
        [[[0, 0]], [[0, 0]]],
        [[[255, 255]], [[255, 255]]],
        [[[0, 255]], [[0, 7]]],
    ],
)
def test_masks_that_are_not_binary(tmp_path, masks):
    write(tmp_path, *masks)
    assert len(read(tmp_path, classes=2)) == 1


def test_binary_masks_of_three_classes_or_a_description(tmp_path):
    write(tmp_path, BINARY)
    assert masks_of(tmp_path, classes=3) == [BINARY.tolist()]
    entry = SegmentationSet(
        name="own",
        image_key="image",
        mask_key="mask",
        class_names=("a", "b"),
        palette=((0, 0, 0), (1, 1, 1)),
        labels={0: 0, 1: 1},
        void_labels=(255,),
    )
    assert masks_of(tmp_path, classes=entry) == [BINARY.tolist()]


def test_a_part_without_foreground_is_no_reason_to_stop(tmp_path):
    write(tmp_path, *[[[0, 1, 255]]] * 1, *[[[0, 0, 255]]] * 9)
    for subset in ("training", "validation"):
        read(tmp_path, classes=2, validation_split=0.2, subset=subset, seed=0)


def test_an_unreadable_mask_is_reported_when_it_is_read(tmp_path):
    write(tmp_path, BINARY, ONES)
    (tmp_path / "masks" / "0.png").write_bytes(b"")
    pairs = read(tmp_path, classes=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"0\.png: The "):
        list(pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`classes` must be given unless `labels` or `foreground`"),
        ({"foreground": 0}, r"`foreground` must be an int in 1\.\.255"),
        ({"foreground": 256}, r"`foreground` must be an int in 1\.\.255"),
        ({"foreground": True}, r"`foreground` must be an int in 1\.\.255"),
        ({"foreground": "255"}, r"`foreground` must be an int in 1\.\.255"),
        ({"foreground": 255, "classes": 3}, "`foreground` is for two classes"),
        ({"foreground": 255, "classes": ["a", "b", "c"]}, "for two classes"),
        ({"foreground": 255, "labels": {0: 0, 255: 1}}, "`labels` must not"),
        (
            {"foreground": 255, "palette": [(0,) * 3] * 2},
            "`foreground` must no",
        ),
        (
            {"labels": {0: 0, 9: 1}, "palette": [(0,) * 3] * 2},
            "`labels` must n",
        ),
        (
            {"labels": {0: 0, 9: 1}, "classes": describe("scenes")},
            "`labels` must not be passed together with a SegmentationSet",
        ),
        ({"labels": {}}, "`labels` must be a dict"),
        ({"labels": [0, 255]}, "`labels` must be a dict"),
        ({"labels": {0: 0, 256: 1}}, r"must be ints in 0\.\.255"),
        ({"labels": {0: 0, "a": 1}}, "`labels` must map ints"),
        ({"labels": {0: 0, 255: "b"}}, "`labels` must map ints"),
        ({"labels": {0: 0, 255: 1.5}}, "`labels` must map ints"),
        ({"labels": {0: 0, 255: 2}}, "`labels` must map to"),
        ({"labels": {0: 0, 255: -1}}, "`labels` must map to"),
        ({"labels": {0: 0}}, "`labels` must map to"),
        ({"labels": {0: "a"}}, "`labels` must be at least two distinct names"),
        (
            {"labels": {0: 0, 9: 1}, "classes": 3},
            "`labels` must map to",
        ),
        (
            {"labels": {0: "a", 9: "b"}, "classes": ["a", "c"]},
            "`labels` must map to",
        ),
        (
            {"labels": {0: "a", 9: "b"}, "classes": 3},
            "`labels` must map to",
        ),
        (
            {"labels": {0: 0, 9: 1}, "void_labels": (9, 255)},
            "must not share a label. Received: 9 in both",
        ),
        (
            {"labels": {0: 0, 255: 1}, "void_labels": (255,)},
            r"255 in both.*void_labels=\(\)",
        ),
        ({"classes": 2, "void_colors": [(0, 0, 0)]}, "requires a `palette`"),
    ],
)
def test_contradictions(tmp_path, options, message):
    write(tmp_path, ONES)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        stored_masks(tmp_path, **options)


# ----------------------------------------------------------------- colors


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def indexed(values, colors):
    image = PIL.Image.fromarray(np.uint8(values), mode="P")
    image.putpalette(np.uint8(colors).tobytes())
    return image


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_a_palette_counts_in_masks_of_every_kind(tmp_path, mode):
    """White is class 0 and black is class 1 in every kind of file."""
    shades = PIL.Image.fromarray(BINARY)
    if mode == "P":
        # White has index 1 in the first file and index 0 in the second.
        mask = indexed(ONES, [(0,) * 3, (255,) * 3])
        other = indexed(1 - ONES, [(255,) * 3, (0,) * 3])
    else:
        mask = other = shades.convert(mode)
    write(tmp_path, BINARY, BINARY)
    save(tmp_path / "masks" / "0.png", mask)
    save(tmp_path / "masks" / "1.png", other)
    palette = [(255, 255, 255), (0, 0, 0)]
    assert (
        masks_of(tmp_path, classes=2, palette=palette)
        == [(1 - ONES).tolist()] * 2
    )


@pytest.mark.parametrize("num_channels", [1, 3])
def test_a_palette_without_the_grays_of_a_mask(tmp_path, num_channels):
    write(tmp_path, np.stack([ONES] * num_channels, axis=-1))
    pairs = read(tmp_path, classes=2, palette=[(0, 0, 0), (255, 0, 0)])
    message = r"colors \(1\): \(1, 1, 1\)\. The mask is gray: omit `pale"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(pairs)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_gray_of_every_kind(tmp_path, mode):
    write(tmp_path, ONES)
    image = PIL.Image.fromarray(ONES).convert("RGB" if mode == "RGBA" else mode)
    if mode == "RGBA":
        image.putalpha(7)
    elif mode == "P":
        image = indexed(ONES, [(9, 8, 7)] * 2)
    elif mode == "1":
        image = PIL.Image.fromarray(ONES == 1)
    save(tmp_path / "masks" / "0.png", image)
    with PIL.Image.open(tmp_path / "masks" / "0.png") as written:
        assert written.mode == mode
    assert masks_of(tmp_path, classes=2) == [ONES.tolist()]


@pytest.mark.parametrize("transparency", [0, b"\0\x80"])
def test_transparent_indices(tmp_path, transparency):
    write(tmp_path, ONES)
    image = indexed(ONES, [(0, 0, 0), (255, 0, 0)])
    save(tmp_path / "masks" / "0.png", image, transparency=transparency)
    save(tmp_path / "images" / "0.png", image, transparency=transparency)
    for options in ({}, {"palette": [(0, 0, 0), (255, 0, 0)]}):
        ((image, masks),) = read(tmp_path, classes=2, **options)
        assert masks.numpy().tolist() == [ONES.tolist()]
        assert image[0, ..., 0].numpy().tolist() == BINARY.tolist()


def test_gray_colors_of_a_set_with_a_palette(tmp_path):
    """Values that could be labels or colors are an error."""
    entry = describe("scenes")  # 0 is sky, (0, 0, 0) is a car.
    gray = np.full((1, 2, 3), 2)
    write(tmp_path, gray)
    assert masks_of(tmp_path, classes=entry) == [[[2, 2]]]
    road = np.broadcast_to(entry.palette[2], (1, 2, 3))
    assert len(set(entry.palette[2])) == 1
    write(tmp_path, road)
    assert masks_of(tmp_path, classes=entry) == [[[2, 2]]]
    write(tmp_path, np.zeros((1, 2, 3)))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="both labels and colors"
    ):
        list(read(tmp_path, classes=entry))
    masks = masks_of(tmp_path, classes=entry, palette=entry.palette)
    assert masks == [[[5, 5]]]


# ------------------------------------------------------------ stray labels


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (
            2,
            [0, 2],
            r"contains label 2, .*use classes=3 or void_labels=\(2,\)",
        ),
        (
            2,
            [3, 2],
            r"labels 2, 3, .*classes=4 or void_labels=\(2, 3\)",
        ),
        (2, [0, 99], r"contains label 99, .*: use void_labels=\(99,\)"),
        (
            3,
            [1, 2, 3],
            r"if classes are numbered from 1, use void_labels=\(0,\) or "
            r"labels=\{1: .*class_0.*, 2: .*class_1.*, 3: .*class_2.*\}",
        ),
        (
            ["sky", "road"],
            [1, 2],
            r"use void_labels=\(0,\) or labels=\{1: .*sky.*, 2: .*road.*\}\.",
        ),
        (
            2,
            [0, 1, 2],
            r"numbered from 1 and 0 is void, use void_labels=\(0,\)\.",
        ),
        (2, range(20), r"labels 2, 3, 4, 5, 6 and 13 others.*nearest neighbor"),
    ],
)
def test_stray_labels(tmp_path, classes, labels, message):
    write(tmp_path, [[0, 1]], [list(labels)])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"masks/1\.png: The.*{message}"
    ):
        list(read(tmp_path, classes=classes))


def test_check_merges_stray_labels(tmp_path):
    write(tmp_path, *[[[0, 1, 2]]] * 12, [[0, 0, 3]])
    pairs = read(tmp_path, classes=2, cache=False, batch_size=1)
    report = data.check(pairs, 2, verbose=False)
    lines = str(report).splitlines()
    (line,) = [line for line in lines if "label 2" in line]
    start = "  12 masks contain label 2, neither class nor void: use classes=3"
    assert line.startswith(f"{start} or void_labels=(2,); if ")
    assert sum("label 3" in line for line in lines) == 1
    assert not [line for line in lines if "never occur" in line or "[" in line]
    assert not report.ok


def test_labels_numbered_from_1(tmp_path):
    write(tmp_path, [[1, 2, 3]])
    assert masks_of(tmp_path, classes=3, void_labels=(0,)) == [[[0, 1, 2]]]


# --------------------------------------------------------------- it trains


@pytest.mark.slow
@pytest.mark.release
def test_binary_folders_train(tmp_path):
    """A network finds the foreground in 24 pairs with masks of 0 and 255."""
    generator = np.random.default_rng(0)
    for number in range(24):
        mask = np.zeros((32, 32), np.uint8)
        row, column = generator.integers(0, 16, 2)
        mask[row : row + 16, column : column + 16] = 255
        noise = generator.integers(0, 60, (32, 32, 3))
        image = noise + np.where(mask, 180, 20)[..., None]
        write_png(tmp_path / "images" / f"{number}.png", np.uint8(image))
        write_png(tmp_path / "masks" / f"{number}.png", mask[..., None])
    train = read(tmp_path, foreground=255, batch_size=4, shuffle=True, seed=0)
    tf.keras.utils.set_random_seed(0)
    model = keras_deconv.models.SegNetBasic((32, 32, 3), 2)
    iou = keras_deconv.metrics.MeanIoU(num_classes=2)
    model.compile(
        tf.keras.optimizers.Adam(1e-3),
        keras_deconv.losses.SegmentationCrossentropy(),
        metrics=[iou],
    )
    model.fit(train, epochs=3, verbose=0, shuffle=False)
    names = ("background", "foreground")
    assert iou.per_class_by_name(names)["foreground"] > 0.5


def test_bytes_are_enough(tmp_path):
    buffer = io.BytesIO()
    PIL.Image.fromarray(BINARY).save(buffer, "PNG")
    from keras_deconv.data._images import read_image

    image = read_image(buffer.getvalue())
    assert image.tolist() == np.stack([BINARY] * 3, -1).tolist()


def test_masks_of_one_bit_among_binary_ones_do_not_hide_them(tmp_path):
    write(tmp_path, BINARY, BINARY, BINARY)
    white = PIL.Image.fromarray(BINARY).convert("1")
    white.save(tmp_path / "masks" / "0.png")
    with pytest.raises(ValueError, match="foreground=255"):
        masks_of(tmp_path, classes=2)
    for number in (1, 2):
        white.save(tmp_path / "masks" / f"{number}.png")
    assert masks_of(tmp_path, classes=2) == [ONES.tolist()] * 3


@pytest.mark.parametrize(
    "options", [{"foreground": 1}, {"labels": {0: 0, 1: 1}}]
)
def test_binary_masks_with_another_foreground_stop(tmp_path, options):
    write(tmp_path, BINARY)
    with pytest.raises(ValueError, match="foreground=255"):
        masks_of(tmp_path, **options)
    masks_of(tmp_path, **options, void_labels=(255,))


def test_a_part_without_foreground_is_loaded(tmp_path):
    write(tmp_path, [[0, 1, 255]], [[0, 0, 255]])
    assert masks_of(tmp_path, classes=2, files=["1"]) == [[[0, 0, 255]]]


def test_an_augmentation_for_another_range_is_refused(tmp_path):
    write(tmp_path, [[0, 1, 200]])
    augment = data.augmentation(value_range=(0, 1))
    pairs = read(tmp_path, classes=201, augment=augment, seed=0)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"must be in 0\.\.1"
    ):
        list(pairs)


@pytest.mark.parametrize("name", ["a[[1]]", "{{b}}", "c [[x]] {{y}} [Op:1]"])
def test_brackets_in_names_of_files_are_kept(tmp_path, name):
    write(tmp_path, ONES)
    for kind in ("images", "masks"):
        file = tmp_path / kind / "0.png"
        file.rename(file.with_name(f"{name}.png"))
    (tmp_path / "masks" / f"{name}.png").write_bytes(b"")
    pairs = read(tmp_path, classes=2, cache=False)
    (failure,) = data.check(pairs, 2, verbose=False).failures
    assert failure.startswith(f"{tmp_path}/masks/{name}.png: The file cannot")
    assert failure.endswith("TIFF or WEBP format.")


@pytest.mark.parametrize(
    ("options", "mask", "message"),
    [
        ({"foreground": 255}, ONES, "use foreground=1 if 1 is foreground in"),
        ({"foreground": 255}, ONES * 7, "use foreground=7 if 7 is foregr"),
        ({"classes": 2}, ONES * 3, "use classes=4 or void_labels"),
        ({"classes": "ab"}, ONES * 3, "`classes` must be"),
        (
            {"classes": ["a", "b"]},
            ONES * 3,
            r"name 4 classes in `classes`, or use void_labels=\(3,\)",
        ),
        # The gap between labels is void, so `foreground` was not passed.
        (
            {"classes": 2, "void_labels": (1,)},
            ONES * 3,
            r"use void_labels=\(3,\), or `labels`",
        ),
    ],
)
def test_advice_about_stray_labels(tmp_path, options, mask, message):
    write(tmp_path, mask)
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError), match=message
    ):
        list(read(tmp_path, **options))


def test_white_of_one_bit_masks_with_a_foreground_of_255(tmp_path):
    """White has the value 1. The advice is not to make it void."""
    write(tmp_path, BINARY, BINARY)
    for number in (0, 1):
        white = PIL.Image.fromarray(BINARY).convert("1")
        white.save(tmp_path / "masks" / f"{number}.png")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        masks_of(tmp_path, foreground=255)
    assert "foreground=1 if" in str(caught.value)
    assert "void_labels" not in str(caught.value)
    assert masks_of(tmp_path, foreground=1) == [ONES.tolist()] * 2


@pytest.mark.parametrize("bits", [1, 8])
def test_white_as_index_0_has_the_label_0(tmp_path, bits):
    """Indices are labels, whatever their colors, unless there is a palette."""
    write(tmp_path, ONES)
    white, black = (255, 255, 255), (0, 0, 0)
    save(tmp_path / "masks" / "0.png", indexed(ONES, [white, black]), bits=bits)
    with PIL.Image.open(tmp_path / "masks" / "0.png") as image:
        assert image.mode == "P"
        assert np.asarray(image.convert("L")).tolist() == (
            (255 - BINARY).tolist()
        )
    assert masks_of(tmp_path, classes=2) == [ONES.tolist()]
    by_color = masks_of(tmp_path, classes=2, palette=[black, white])
    assert by_color == [(1 - ONES).tolist()]
