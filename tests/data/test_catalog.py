"""The descriptions in the catalog match the builders of tfds."""

import contextlib
import dataclasses
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv import _network
from keras_deconv.data import (
    SegmentationSet,
    _catalog,
    color_map,
    describe,
    load,
    segmentation_pairs,
    splits,
)
from keras_deconv.losses import SegmentationCrossentropy
from tests import networks

pytestmark = pytest.mark.oldest

# Height and width of datasets that do not define them, and the number of frames
# and objects.
SIZE = (5, 260)
NUM_PARTS = 3


def specs_of(builder):
    return tf.nest.map_structure(
        lambda info: tf.TensorSpec(info.shape, info.tf_dtype),
        builder.info.features.get_tensor_info(),
    )


def blank(spec):
    """Return zeros of the declared shape."""
    open_sizes = {1: (NUM_PARTS,), 2: (NUM_PARTS,), 3: SIZE}
    fill = open_sizes.get(spec.shape.rank, (NUM_PARTS, *SIZE))
    shape = [
        fill[axis] if size is None else size
        for axis, size in enumerate(spec.shape)
    ]
    if spec.dtype == tf.string:
        return np.full(shape, b"", object)
    return np.zeros(shape, spec.dtype.as_numpy_dtype)


@contextlib.contextmanager
def builders_give(change, num_examples=1):
    """Make tfds return examples that a function has filled in."""

    def as_dataset(self, split, **_):
        specs = specs_of(self)
        examples = []
        for number in range(num_examples):
            example = tf.nest.map_structure(blank, specs)
            change(example, number)
            examples.append(example)
        return tf.data.Dataset.from_generator(
            lambda: examples, output_signature=specs
        ).apply(tf.data.experimental.assert_cardinality(num_examples))

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield


def labels_in_columns(entry, width):
    """Return all labels of a dataset, one per column, and their classes."""
    meaning = {**dict.fromkeys(entry.void_labels, 255), **entry.labels}
    known = np.array(sorted(meaning))
    columns = known[np.arange(width) % len(known)]
    return columns, np.array([meaning[label] for label in columns])


def fill_one_channel(example, entry):
    holder = example[entry.frames_key] if entry.frames_key else example
    mask = holder[entry.mask_key]
    assert (mask.dtype, mask.shape[-1]) == (np.uint8, 1)
    columns, expected = labels_in_columns(entry, mask.shape[-2])
    mask[...] = columns[:, None]
    return expected


def fill_scene_parse(example, entry):
    mask = example[entry.mask_key]
    columns, expected = labels_in_columns(entry, mask.shape[1])
    mask[..., 0] = columns
    mask[..., 1] = 7  # the number of the object
    return expected


def fill_panoptic(example, entry):
    # Unsorted ids of segments that need all three channels.
    numbers, classes = [70000, 300, 5], [132, 0, 17]
    objects = example["panoptic_objects"]
    objects["id"][:] = numbers
    objects["label"][:] = classes
    # Two additional segments that are not listed. 0 marks pixels that are not
    # annotated.
    parts = np.array([*numbers, 0, 2**24 - 1])
    which = np.arange(SIZE[1]) % len(parts)
    for channel in range(3):
        example[entry.mask_key][..., channel] = (
            parts[which] // 256**channel % 256
        )
    return np.array([*classes, 255, 255])[which]


def fill_abnormalities(example, entry):
    masks = example[entry.mask_key]["mask"]
    assert masks.shape == (NUM_PARTS, *SIZE, 1)
    masks[0, :, 10:20] = 255
    masks[2, :, 15:30] = 1
    expected = np.zeros(SIZE[1], int)
    expected[10:30] = 1
    return expected


FILL = {
    "scene_parse150": fill_scene_parse,
    "coco/2017_panoptic": fill_panoptic,
    "curated_breast_imaging_ddsm/original-calc": fill_abnormalities,
    "curated_breast_imaging_ddsm/original-mass": fill_abnormalities,
}


@pytest.mark.parametrize("name", _catalog.names())
def test_entry_fits_the_builder(name, tmp_path):
    entry = describe(name)
    expected = []

    def change(example, number):
        holder = example[entry.frames_key] if entry.frames_key else example
        holder[entry.image_key][...] = 100
        fill = FILL.get(name, fill_one_channel)
        expected.append(fill(example, entry))

    with builders_give(change):
        pairs = load(
            name,
            entry.splits[0],
            image_size=None,
            batch_size=1,
            shuffle=False,
            data_dir=tmp_path,
        )
        assert pairs.element_spec[0].shape[-1] in (1, 3)
        found = list(pairs.as_numpy_iterator())
    assert len(found) == (NUM_PARTS if entry.frames_key else 1)
    for image, mask in found:
        assert image.dtype == np.float32
        assert np.all(image == 100)
        assert mask.dtype == np.int32
        assert np.all(mask == expected[0])


@pytest.mark.parametrize("name", _catalog.names())
def test_entry_names_and_colors_are_distinct(name):
    entry = describe(name)
    assert entry.name == name
    assert len(set(entry.class_names)) == entry.num_classes
    assert len(set(entry.palette)) == entry.num_classes
    assert not any(text != text.strip() for text in entry.class_names)


def test_a_wrong_key_would_be_found(tmp_path):
    broken = SegmentationSet(
        name="cityscapes",
        image_key="image",
        mask_key="segmentation_label",
        class_names=("a", "b"),
        palette=color_map(2),
        labels={0: 0, 1: 1},
    )
    with builders_give(lambda example, number: None):
        with pytest.raises(ValueError, match="must have the feature 'image'"):
            load(broken, "train", image_size=8, batch_size=1, data_dir=tmp_path)


@pytest.mark.parametrize(
    "class_names",
    [
        "ab",
        ("a",),
        ("a", "a"),
        ("a", ""),
        ("a", " b"),
        ("a", "b\t"),
        ("a", "b\nc"),
        ("a", "b\u2028c"),
        ("a", 2),
        ("a", ["b"]),
        None,
    ],
)
def test_class_names_that_are_none(class_names):
    entry = describe("lost_and_found")
    with pytest.raises(ValueError, match="`class_names` must be at least two"):
        dataclasses.replace(entry, class_names=class_names)


def test_known_numbers_of_classes(tmp_path):
    expected = {
        "cityscapes": 19,
        "coco/2017_panoptic": 133,
        "scene_parse150": 101,
        "lost_and_found": 2,
        "davis": 2,
    }
    for name, num_classes in expected.items():
        assert describe(name).num_classes == num_classes
    # The only number of classes that tfds defines.
    coco = tfds.builder("coco/2017_panoptic", data_dir=tmp_path)
    assert coco.info.features["panoptic_objects"]["label"].num_classes == 133


def test_cityscapes_train_ids():
    entry = describe("cityscapes/semantic_segmentation:1.0.0")
    assert entry is describe("cityscapes")
    assert entry.labels[7] == entry.class_names.index("road") == 0
    assert entry.labels[33] == entry.class_names.index("bicycle") == 18
    assert entry.labels[31] == entry.class_names.index("train") == 16
    assert {0, 6, 9, 10, 14, 18, 29, 30} < set(entry.void_labels)
    assert entry.palette[13] == (0, 0, 142)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("coco/2017", "has only boxes, except in coco/2017_panoptic"),
        ("voc", "has only boxes in tfds"),
        ("lvis:1.4.0", "objects, of 1203 classes"),
        ("youtube_vis/full", "in videos"),
        ("ref_coco", "a sentence refers to"),
        ("segment_anything", "without classes"),
        ("curated_breast_imaging_ddsm/patches", "original-calc"),
    ],
)
def test_describe_says_why_a_set_is_not_there(name, reason):
    with pytest.raises(ValueError, match=f"{reason}.*SegmentationSet"):
        describe(name)


def test_color_map_is_that_of_voc():
    colors = color_map(256)
    assert len(set(colors)) == 256
    # Values of the table that the VOC challenge publishes.
    assert colors[15] == (192, 128, 128)
    assert colors[20] == (0, 64, 128)
    assert colors[255] == (224, 224, 192)
    assert color_map(3) == colors[:3]
    for wrong in (0, 257, "3"):
        with pytest.raises(ValueError, match="`num_colors` must be"):
            color_map(wrong)


# ----------------------------------------------------------- three lines


def draw_pet(example, number):
    example["image"][:, :100] = 200
    example["segmentation_mask"][...] = 2
    example["segmentation_mask"][:, :100] = 1
    example["segmentation_mask"][:, 100:104] = 3


def test_three_lines_to_fit(tmp_path):
    with builders_give(draw_pet, num_examples=4):
        train = load(
            "oxford_iiit_pet",
            "train",
            image_size=(8, 16),
            batch_size=2,
            data_dir=tmp_path,
        )
        model = networks.one_stage((8, 16), num_classes=3)
        model.compile("adam", SegmentationCrossentropy(), metrics=["accuracy"])
        history = model.fit(train, epochs=1, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()


def test_class_weights_weigh_as_in_the_loss(tmp_path):
    weights = [0.5, 1.0, 3.0]
    arguments = {"image_size": (8, 16), "batch_size": 4, "data_dir": tmp_path}
    with builders_give(draw_pet, num_examples=4):
        weighed = load(
            "oxford_iiit_pet", "train", class_weights=weights, **arguments
        )
        ((_, mask, weight),) = weighed
    np.testing.assert_array_equal(weight, np.array(weights)[mask])
    assert (weight.dtype, weight.shape) == (tf.float32, mask.shape)
    scores = np.random.default_rng(0).normal(size=(*mask.shape, 3))
    np.testing.assert_allclose(
        SegmentationCrossentropy()(mask, scores, sample_weight=weight),
        SegmentationCrossentropy(class_weights=weights)(mask, scores),
        rtol=1e-6,
    )
    # `fit` accepts the weights.
    model = networks.one_stage((8, 16), num_classes=3)
    model.compile("sgd", SegmentationCrossentropy())
    model.fit(weighed, epochs=1, verbose=0, shuffle=False)


def examples(num_examples=1, size=(2, 3), **changes):
    mask = np.zeros((num_examples, *size, 1), np.uint8)
    image = np.zeros((num_examples, *size, 3), np.uint8)
    image[..., 0] += np.arange(num_examples, dtype=np.uint8)[:, None, None]
    return tf.data.Dataset.from_tensor_slices(
        {"image": image, "segmentation_mask": mask, **changes}
    )


def test_class_weights_of_void_are_0():
    mask = np.uint8([[[[0], [1], [255]]]])
    ((_, _, weight),) = segmentation_pairs(
        examples(size=(1, 3), segmentation_mask=mask),
        num_classes=2,
        image_size=None,
        batch_size=1,
        class_weights={0: 2, 1: 0.25},
    )
    assert weight.numpy().tolist() == [[[2, 0.25, 0]]]


# ------------------------------------------------- sets nobody described


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16])
def test_pairs_of_a_set_by_its_keys(dtype):
    mask = np.array([[[[0], [4], [255]]]], dtype)
    dataset = tf.data.Dataset.from_tensor_slices(
        {"photo": np.zeros((1, 1, 3, 4), np.uint8), "truth": mask}
    )
    ((image, found),) = segmentation_pairs(
        dataset,
        image_key="photo",
        mask_key="truth",
        num_classes=5,
        image_size=None,
        batch_size=1,
    )
    assert image.shape == (1, 1, 3, 4)
    assert found.numpy().tolist() == [[[0, 4, 255]]]


@pytest.mark.parametrize("label", [-1, 5, 254, 256, 2**20])
def test_pairs_of_a_set_by_its_keys_unknown_label(label):
    pairs = segmentation_pairs(
        examples(
            size=(1, 1), segmentation_mask=np.full((1, 1, 1, 1), label, "int32")
        ),
        num_classes=5,
        image_size=None,
        batch_size=1,
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=f"Example 0: The mask contains label {label}, ",
    ):
        list(pairs)


def test_pairs_of_bool_masks():
    mask = np.array([[[[False], [True]]]])
    ((_, found),) = segmentation_pairs(
        examples(size=(1, 2), segmentation_mask=mask),
        num_classes=2,
        image_size=None,
        batch_size=1,
    )
    assert found.numpy().tolist() == [[[0, 1]]]


def test_pairs_keys_of_a_known_set():
    """Keys may repeat the description, or replace it."""
    dataset = examples(segmentation_mask=np.ones((1, 2, 3, 1), np.uint8))
    arguments = {"image_size": None, "batch_size": 1}
    for name in ("oxford_iiit_pet", describe("oxford_iiit_pet")):
        ((_, mask),) = segmentation_pairs(
            dataset, name, image_key="image", num_classes=3, **arguments
        )
        assert np.all(mask == 0)
    ((_, mask),) = segmentation_pairs(
        dataset, "oxford_iiit_pet", num_classes=4, **arguments
    )
    assert np.all(mask == 1)
    with pytest.raises(ValueError, match=r"with a SegmentationSet.*replace"):
        segmentation_pairs(
            dataset, describe("oxford_iiit_pet"), num_classes=4, **arguments
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "`num_classes` must be given with `image_key`"),
        ({"image_key": "photo"}, "`num_classes` must be given"),
        ({"num_classes": 1}, "`num_classes` must be an int >= 2"),
        ({"class_weights": [1, 2]}, "2 weights for 3 classes.*pet, background"),
        ({"class_weights": [1, -2, 3]}, "`class_weights` must be finite"),
        ({"augment": 3}, "`augment` must be a function"),
        ({"augment": lambda image, mask: image}, "`augment` must return"),
        (
            {"augment": lambda image, mask: (image, image)},
            "`augment` must return",
        ),
        (
            {"augment": lambda i, m: (i, tf.cast(m, "float32"))},
            "`augment` must return.*integer",
        ),
    ],
)
def test_pairs_wrong_new_arguments(change, message):
    arguments = {"name": "oxford_iiit_pet", "image_size": 4, "batch_size": 1}
    with pytest.raises(ValueError, match=message):
        segmentation_pairs(examples(), **arguments | change)


def test_augment_keeps_picture_and_mask_of_one_size():
    pairs = segmentation_pairs(
        examples(),
        num_classes=2,
        image_size=4,
        batch_size=1,
        augment=lambda image, mask: (image, mask[:3]),
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="of the same"):
        next(iter(pairs))


def test_augment_may_take_any_options():
    seeds = []

    def augment(image, mask, **options):
        seeds.append(options)
        return image, mask

    segmentation_pairs(
        examples(),
        "oxford_iiit_pet",
        image_size=4,
        batch_size=1,
        augment=augment,
    )
    assert {name for options in seeds for name in options} == {"seed"}


def test_pairs_number_of_channels_must_be_known():
    dataset = tf.data.Dataset.from_generator(
        examples,
        output_signature={
            "image": tf.TensorSpec((None, None, None), tf.uint8),
            "segmentation_mask": tf.TensorSpec((None, None, 1), tf.uint8),
        },
    )
    with pytest.raises(ValueError, match="known number of channels"):
        segmentation_pairs(
            dataset, "oxford_iiit_pet", image_size=4, batch_size=1
        )


def store(data_dir, mask_feature, **options):
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": mask_feature,
        }
    )
    example = {
        "image": np.full((4, 4, 3), 9, np.uint8),
        "segmentation_mask": np.ones((4, 4, 1), np.uint8),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="own_set",
        version="1.0.0",
        features=features,
        split_datasets={"train": [(0, example), (1, example)]},
        data_dir=data_dir,
        **options,
    )


@pytest.mark.slow
def test_load_a_prepared_set(tmp_path):
    """The class names or the keys describe a prepared dataset."""
    store(
        tmp_path,
        tfds.features.LabeledImage(labels=["a", "b"], shape=(None, None, 1)),
    )
    arguments = {"image_size": 2, "batch_size": 2, "data_dir": tmp_path}
    assert splits("own_set", data_dir=tmp_path) == {"train": 2}
    for keys in (
        {},
        {"num_classes": 2},
        {"mask_key": "segmentation_mask"},
        {"num_classes": 7},
    ):
        ((image, mask),) = load("own_set", "train", **keys, **arguments)
        assert np.all(image == 9)
        assert np.all(mask == 1)
    with pytest.raises(ValueError, match=r"one weight per class.*: a, b"):
        load("own_set", "train", class_weights=[1, 2, 3], **arguments)


def test_load_a_prepared_set_without_names(tmp_path):
    store(tmp_path, tfds.features.Image(shape=(None, None, 1)))
    arguments = {"image_size": 2, "batch_size": 2, "data_dir": tmp_path}
    with pytest.raises(ValueError, match=r"name='own_set'.*`num_classes`"):
        load("own_set", "train", **arguments)
    with pytest.raises(ValueError, match="`num_classes` must be given"):
        load("own_set", "train", mask_key="segmentation_mask", **arguments)
    assert len(load("own_set", "train", num_classes=2, **arguments)) == 1


def test_load_array_record(tmp_path):
    store(
        tmp_path,
        tfds.features.LabeledImage(labels=["a", "b"], shape=(None, None, 1)),
        file_format="array_record",
    )
    with pytest.raises(ValueError, match=r"TFRecord.*file_format='tfrecord'"):
        load("own_set", "train", image_size=2, batch_size=2, data_dir=tmp_path)


# ---------------------------------------------- augment, order and workers


def add_number(image, mask):
    return image + 100, mask + 1


def test_pairs_augment_after_the_cache():
    seen = []

    def augment(image, mask):
        tf.py_function(lambda: seen.append(1), [], [])
        return add_number(image, mask)

    pairs = segmentation_pairs(
        examples(3),
        num_classes=2,
        image_size=None,
        batch_size=2,
        augment=augment,
        class_weights=[1, 5],
    )
    for _ in range(2):
        for image, mask, weight in pairs:
            assert image.shape[1:] == (2, 3, 3)
            assert np.all(mask == 1)
            assert np.all(weight == 5)
            assert np.all(image[..., 1] == 100)
    # The augmentation runs once per example and epoch.
    assert len(seen) == 6


def test_pairs_augment_may_change_the_size():
    def crop(image, mask):
        return image[:1, :2], mask[:1, :2]

    dataset = examples(2, (2, 3)).concatenate(examples(2, (4, 5)))
    pairs = segmentation_pairs(
        dataset, num_classes=2, image_size=None, batch_size=4, augment=crop
    )
    ((image, mask),) = pairs
    assert image.shape == (4, 1, 2, 3)
    assert mask.shape == (4, 1, 2)


def test_load_without_network_or_archives(tmp_path):
    with (
        mock.patch.object(_network, "unreachable_hosts", return_value=[]),
        mock.patch.object(
            tfds.download.DownloadManager,
            "download",
            side_effect=OSError("gone"),
        ),
    ):
        with pytest.raises(OSError, match=r"gone.*copy its data_dir"):
            splits("caltech_birds2010", data_dir=tmp_path)


def test_pairs_shards_share_the_set():
    def shard(number):
        pairs = segmentation_pairs(
            examples(12),
            num_classes=2,
            image_size=None,
            batch_size=1,
            shuffle=True,
            seed=3,
        )
        policy = pairs.options().experimental_distribute.auto_shard_policy
        assert policy == tf.data.experimental.AutoShardPolicy.DATA
        return [int(i[0, 0, 0, 0]) for i, _ in pairs.shard(2, number)]

    assert sorted(shard(0) + shard(1)) == list(range(12))
