"""Value ranges, and masks of wide dtypes, in `segmentation_pairs`."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import data


def pairs_of(images, labels=None, **options):
    """Return pairs of images (number, height, width, channels)."""
    images = np.asarray(images)
    if labels is None:
        labels = np.zeros((*images.shape[:3], 1), np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices(
        {"image": images, "segmentation_mask": labels}
    )
    options = {"num_classes": 2, "image_size": None, "batch_size": 1} | options
    return data.segmentation_pairs(dataset, **options)


@pytest.mark.parametrize(
    ("dtype", "value_range", "values"),
    [
        ("uint16", (0, 65535), [0, 1, 65535]),
        ("uint16", (0, 4095), [0, 4095, 5000]),
        ("int16", (-1000, 1000), [-1024, 0, 999]),
        ("float32", (0, 1), [0, 0.5, 1]),
        ("float64", (-1.0, 1.0), [-1, 0.1, 2]),
        ("uint8", (0, 255), [0, 7, 255]),
        ("int32", (0, 100000), [0, 50000, 99999]),
    ],
)
def test_scaling(dtype, value_range, values):
    image = np.array(values, dtype).reshape(1, 1, 3, 1)
    ((found, _),) = pairs_of(image, value_range=value_range)
    low, high = value_range
    exact = (np.array(values, dtype).astype("float64") - low) * (
        255 / (high - low)
    )
    np.testing.assert_array_equal(
        found.numpy().ravel(), np.clip(exact, 0, 255).astype("float32")
    )


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int16", "int64"])
def test_other_images_need_a_range(dtype):
    with pytest.raises(
        ValueError,
        match=r"must be uint8, or `value_range` must say.*Received: dtype "
        rf"{dtype}, value_range=None$",
    ):
        pairs_of(np.zeros((1, 2, 2, 3), dtype))


def test_batches_and_features_that_are_missing():
    dataset = tf.data.Dataset.from_tensor_slices(
        {"photo": np.zeros((4, 2, 2, 3), np.uint8)}
    )
    options = {"num_classes": 2, "image_size": None, "batch_size": 1}
    with pytest.raises(ValueError, match="without batch_size"):
        data.segmentation_pairs(
            dataset.map(lambda e: e | {"mask": e["photo"]}).batch(2),
            image_key="photo",
            mask_key="mask",
            **options,
        )
    with pytest.raises(
        ValueError,
        match=r"feature 'image', the `image_key`\. Received features: 'photo'",
    ):
        data.segmentation_pairs(dataset, **options)


def test_a_range_that_the_dtype_cannot_fill():
    with pytest.raises(ValueError, match=r"uint8 must have .* within 0\.\.255"):
        pairs_of(np.zeros((1, 2, 2, 3), np.uint8), value_range=(0, 65535))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(value):
    images = np.zeros((2, 1, 2, 1), np.float32)
    images[1, 0, 1] = value
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"Example 1: .*finite"
    ):
        list(pairs_of(images, value_range=(0, 1)))


def test_hounsfield_units_can_be_augmented():
    """The augmentation receives values in 0..255 and keeps them."""
    images = np.float32([[[[-1000], [0], [1000]]]])
    augment = data.augmentation(flip=False)
    pairs = pairs_of(images, value_range=(-1000, 1000), augment=augment)
    ((found, _),) = pairs
    assert found.numpy().ravel().tolist() == [0, 127.5, 255]


def test_a_dark_image_is_not_taken_for_fractions():
    images = np.uint16([[[[0], [100], [200]]]])
    pairs = pairs_of(
        images,
        value_range=(0, 65535),
        augment=data.augmentation(flip=False),
    )
    ((found, _),) = pairs
    assert 0 < found.numpy().max() < 1


# ------------------------------------------------------------- wide labels


@pytest.mark.parametrize(
    ("dtype", "label"),
    [
        ("int64", 2**32),
        ("int64", 2**32 + 1),
        ("int64", -(2**40)),
        ("int64", 2**63 - 1),
        ("uint64", 2**32 + 1),
        ("uint64", 2**63),
        ("uint64", 2**64 - 1),
        ("uint64", 2**64 - 256),
        ("uint32", 2**31),
        ("uint32", 2**32 - 1),
        ("int32", 2**31 - 1),
        ("uint16", 256),
        ("int8", -1),
    ],
)
def test_labels_do_not_wrap_around(dtype, label):
    labels = np.zeros((1, 2, 2, 1), dtype)
    labels[0, 1, 1] = np.array(label, dtype)
    pairs = pairs_of(np.zeros((1, 2, 2, 3), np.uint8), labels)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"contains label {label}, "
    ):
        list(pairs)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32", "int8", "bool"])
def test_labels_of_every_dtype(dtype):
    labels = np.array([[[[0], [1]]]], dtype)
    ((_, mask),) = pairs_of(np.zeros((1, 1, 2, 3), np.uint8), labels)
    assert mask.numpy().tolist() == [[[0, 1]]]


def test_labels_of_an_augmentation_do_not_wrap_around():
    ((_, mask),) = pairs_of(
        np.zeros((1, 1, 2, 3), np.uint8),
        augment=lambda image, mask: (image, tf.cast(mask, "int64") + 2**32),
    )
    assert mask.numpy().min() == 2**31 - 1


# --------------------------------------------------------- number of batches


def test_fewer_examples_than_a_batch():
    images = np.zeros((3, 1, 1, 3), np.uint8)
    assert len(pairs_of(images, batch_size=3, drop_remainder=True)) == 1
    assert len(pairs_of(images, batch_size=4)) == 1
    with pytest.raises(
        ValueError, match=r"`batch_size` must be.*batch_size=4 for 3 examples$"
    ):
        pairs_of(images, batch_size=4, drop_remainder=True)


def test_no_examples():
    dataset = tf.data.Dataset.from_tensor_slices(
        {
            "image": np.zeros((1, 1, 1, 3), np.uint8),
            "segmentation_mask": np.zeros((1, 1, 1, 1), np.uint8),
        }
    )
    options = {"num_classes": 2, "image_size": None, "batch_size": 1}
    with pytest.raises(ValueError, match="at least one example"):
        data.segmentation_pairs(dataset.take(0), **options)


@pytest.mark.parametrize(
    ("image", "value_range"),
    [
        (np.uint8([0, 100, 255]), (0, 1)),
        (np.uint16([0, 0, 0, 9]), (0, 1)),
        (np.float32([0, 100, 255]), (0, 1)),
        (np.int16([2000, 3000, 0]), (-160, 240)),
    ],
)
def test_a_range_that_makes_an_image_white(image, value_range):
    low, high = value_range
    pairs = pairs_of(image.reshape(1, 1, -1, 1), value_range=value_range)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"Example 0: `value_range` is too narrow.*Received: "
        rf"value_range=\({low}, {high}\), and values from {image.min():g} to "
        rf"{image.max():g} in this image",
    ):
        list(pairs)


@pytest.mark.parametrize(
    ("image", "value_range"),
    [
        # A body with a bone, surrounded by air; a slice of air; a black image.
        (np.int16([-1000] * 9 + [40, 1500]), (-160, 240)),
        (np.int16([-1000, -990, -1010]), (0, 80)),
        (np.uint8([0, 0, 0]), (0, 1)),
        (np.float32([0, 0.5, 1]), (0, 1)),
    ],
)
def test_windows_clip(image, value_range):
    ((found, _),) = pairs_of(
        image.reshape(1, 1, -1, 1), value_range=value_range
    )
    low, high = value_range
    expected = np.clip((image - float(low)) * 255 / (high - low), 0, 255)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "drop_remainder", "found"),
    [
        (0, 2, False, "`dataset` must have at least one example"),
        (0, 2, True, "`batch_size` must be at most the number of examples"),
        (1, 2, True, "`batch_size` must be at most .*batch_size=2 for fewer"),
        (3, 2, True, [2]),
        (3, 2, False, [2, 1]),
    ],
)
def test_datasets_of_unknown_length(
    num_examples, batch_size, drop_remainder, found
):
    """Every iteration finds out at its end that there are no batches."""

    def keep(index, example):
        return index < num_examples

    def example_of(index, example):
        return example

    examples = tf.data.Dataset.from_tensor_slices(
        {
            "image": np.zeros((4, 2, 3, 3), np.uint8),
            "segmentation_mask": np.zeros((4, 2, 3, 1), np.uint8),
        }
    )
    pairs = data.segmentation_pairs(
        examples.enumerate().filter(keep).map(example_of),
        num_classes=2,
        class_weights=[1, 2],
        image_size=None,
        batch_size=batch_size,
        drop_remainder=drop_remainder,
    )
    size = batch_size if drop_remainder else None
    assert pairs.element_spec[0].shape.as_list() == [size, 2, 3, 3]
    for _ in range(2):
        if isinstance(found, str):
            with pytest.raises(tf.errors.InvalidArgumentError, match=found):
                list(pairs)
        else:
            assert [len(image) for image, _, _ in pairs] == found
