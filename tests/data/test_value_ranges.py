"""Images of other ranges and masks of wide dtypes in `segmentation_pairs`."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import data


def pairs_of(images, labels=None, **options):
    """Pairs from images (number, height, width, channels)."""
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
    """They come in 0..255, and stay what they are."""
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
    # Where it is not known in advance.
    empty = dataset.filter(lambda example: False)
    assert list(data.segmentation_pairs(empty, **options)) == []
