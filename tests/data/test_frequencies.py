"""Class frequencies against a slow count, and class weights."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv.data import (
    CAMVID_MEDIAN_FREQUENCY_WEIGHTS,
    CAMVID_SEGNET_CLASS_WEIGHTS,
    CAMVID_TRAIN_FREQUENCIES,
    ClassFrequencies,
    class_frequencies,
    describe,
    enet_weights,
    median_frequency_weights,
)
from keras_deconv.losses import SegmentationCrossentropy
from tests.paths import CAMVID


def random_masks():
    """Return masks with some void; class 2 is rare, class 3 never occurs."""
    random = np.random.default_rng(0)
    masks = random.integers(0, 2, (7, 5, 6))
    masks[2, :2] = 2
    masks[5, 1, 1:3] = 2
    masks[random.random(masks.shape) < 0.2] = 255
    masks[4] = 0
    return masks


def dataset_of(masks, *weights, batch_size=3):
    images = np.zeros((*masks.shape[:3], 3), "float32")
    dataset = tf.data.Dataset.from_tensor_slices((images, masks, *weights))
    return dataset.batch(batch_size) if batch_size else dataset


def slow_count(masks, num_classes=4):
    """Count image by image, as defined."""
    pixels, images, pixels_of_images = np.zeros((3, num_classes), int)
    for mask in masks:
        for index in range(num_classes):
            if (mask == index).any():
                pixels[index] += (mask == index).sum()
                images[index] += 1
                pixels_of_images[index] += mask.size
    return ClassFrequencies(
        tuple(pixels.tolist()),
        tuple(images.tolist()),
        tuple(pixels_of_images.tolist()),
        masks.size,
        len(masks),
    )


def count(dataset, num_classes=4, **options):
    return class_frequencies(dataset, num_classes, verbose=0, **options)


def test_slow_count_can_fail():
    masks = random_masks()
    right = slow_count(masks)
    assert right.images[2] == 2
    assert right.pixels[3] == right.images[3] == right.pixels_of_images[3] == 0
    assert right != slow_count(np.where(masks == 255, 0, masks))
    assert right != slow_count(masks.reshape(1, -1))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 7])
@pytest.mark.parametrize("channel", [False, True])
def test_counts_are_exact(dtype, batch_size, channel):
    masks = random_masks()
    received = masks[..., None] if channel else masks
    dataset = dataset_of(received.astype(dtype), batch_size=batch_size)
    frequencies = count(dataset)
    assert frequencies == slow_count(masks)
    assert frequencies.num_classes == 4
    assert frequencies.void_pixels == (masks == 255).sum()
    assert all(type(n) is int for n in frequencies.pixels)


def test_images_of_several_sizes_and_unknown_number():
    masks = [random_masks()[i : i + 1, :i] for i in (2, 3, 5)]

    def examples():
        for mask in masks:
            yield np.zeros((*mask.shape[1:], 1), "uint8"), mask[0]

    dataset = tf.data.Dataset.from_generator(
        examples,
        output_signature=(
            tf.TensorSpec(None, tf.uint8),
            tf.TensorSpec(None, tf.int64),
        ),
    )
    parts = [slow_count(mask) for mask in masks]
    frequencies = count(dataset)
    for field in ("pixels", "images", "pixels_of_images"):
        total = np.sum([getattr(part, field) for part in parts], axis=0)
        assert getattr(frequencies, field) == tuple(total)
    assert frequencies.num_pixels == sum(mask.size for mask in masks)
    assert frequencies.num_images == 3


def test_masks_may_be_smaller_than_images():
    masks = random_masks()
    images = np.zeros((len(masks), 40, 48, 3), "uint8")
    dataset = tf.data.Dataset.from_tensor_slices((images, masks))
    assert count(dataset.batch(2)) == slow_count(masks)


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("per_pixel", [True, False])
def test_weight_0_makes_void(batch_size, per_pixel):
    masks = random_masks()
    random = np.random.default_rng(1)
    shape = masks.shape if per_pixel else masks.shape[:1]
    weights = (0.5 * (random.random(shape) < 0.6)).astype("float32")
    dataset = dataset_of(masks, weights, batch_size=batch_size)
    whole = weights.reshape(shape + (1,) * (3 - len(shape)))
    as_void = np.where(whole == 0, 255, masks)
    assert count(dataset) == slow_count(as_void) != slow_count(masks)


def test_other_void_labels():
    masks = random_masks()
    as_void = np.where(masks == 1, 255, masks)
    dataset = dataset_of(masks)
    assert count(dataset, ignore_class=(1, 255)) == slow_count(as_void)


def test_nothing_to_count():
    nothing = count(dataset_of(np.full((2, 3, 4), 255)))
    assert nothing == ClassFrequencies((0,) * 4, (0,) * 4, (0,) * 4, 24, 2)
    assert median_frequency_weights(nothing) == (1,) * 4
    assert enet_weights(nothing) == (1 / math.log(1.02),) * 4
    assert count(dataset_of(random_masks()).take(0)).num_images == 0
    empty = ClassFrequencies((0, 0), (0, 0), (0, 0), 0, 0)
    assert np.isfinite(enet_weights(empty)).all()


def test_progress_bar(capsys):
    dataset = dataset_of(random_masks())
    class_frequencies(dataset, 4)
    assert "3/3" in capsys.readouterr().out
    class_frequencies(dataset.filter(lambda image, mask: True), 4)
    assert "3/Unknown" in capsys.readouterr().out
    class_frequencies(dataset, 4, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (7, "`dataset` must be an iterable of batches.*Received: 7"),
        ([1, 2], "`dataset` must have elements.*Received: int"),
        (tf.data.Dataset.range(3), r"\(image, mask\).*segmentation_pairs"),
        (dataset_of(random_masks()).repeat(), r"have an end.*\.take"),
        (
            dataset_of(random_masks()[..., None, None]),
            r"Element 0.* with 4 axes and a mask of shape \(3, 5, 6, 1, 1",
        ),
        (
            dataset_of(np.zeros((2, 5, 6), int)).map(
                lambda image, mask: (image[..., 0], mask)
            ),
            "Element 0.*an image with 3 axes",
        ),
        (
            dataset_of(np.zeros((2, 5, 6, 3), int)),
            r"Element 0.*a mask of shape \(2, 5, 6, 3\)",
        ),
        (
            dataset_of(random_masks(), batch_size=1).map(
                lambda image, mask: (image, mask + 1)
            ),
            "Element 0.*0..3.*Found other labels: 256",
        ),
        (
            dataset_of(random_masks(), np.ones((7, 3, 2))),
            "Element 0.*`sample_weight`",
        ),
    ],
)
def test_faulty_data_sets(dataset, message):
    with pytest.raises(ValueError, match=message):
        count(dataset)


def test_other_datasets_than_those_of_tensorflow():
    masks = random_masks()
    images = np.zeros((*masks.shape, 3), "float32")

    class Batches(keras.utils.PyDataset):
        num_batches = 2

        def __getitem__(self, i):
            part = slice(4 * i, 4 * i + 4)
            return images[part], masks[part]

    expected = count(dataset_of(masks))
    pairs = list(zip(images, masks, strict=True))
    for dataset in (Batches(), pairs, iter(pairs), [(images, masks)]):
        assert count(dataset) == expected


def test_faulty_arguments():
    dataset = dataset_of(random_masks())
    with pytest.raises(ValueError, match="`num_classes` must"):
        count(dataset, 1)
    with pytest.raises(ValueError, match="`ignore_class` must"):
        count(dataset, ignore_class="void")
    for c in (1, 0.5, math.nan, math.inf, "1.02"):
        with pytest.raises(ValueError, match="`c` must be a finite float > 1"):
            enet_weights(CAMVID_TRAIN_FREQUENCIES, c)
    with pytest.raises(ValueError, match="2, 1, 2 counts"):
        ClassFrequencies((1, 2), (1,), (3, 4), 5, 6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        CAMVID_TRAIN_FREQUENCIES.num_images = 1


def test_weights_of_a_known_case():
    """The frequencies are 1/2, 1/4 and 1/8, so the median is 1/4."""
    frequencies = ClassFrequencies(
        pixels=(8, 2, 2, 0),
        images=(1, 1, 1, 0),
        pixels_of_images=(16, 8, 16, 0),
        num_pixels=16,
        num_images=1,
    )
    assert median_frequency_weights(frequencies) == (0.5, 1, 2, 1)
    np.testing.assert_allclose(
        enet_weights(frequencies, c=1.5),
        [1 / math.log(1.5 + p) for p in (8 / 16, 2 / 16, 2 / 16, 0)],
    )


def test_weights_go_into_a_loss():
    masks = random_masks()
    frequencies = count(dataset_of(masks))
    logits = np.zeros((*masks.shape, 4), "float32")
    for weights in (
        median_frequency_weights(frequencies),
        enet_weights(frequencies),
    ):
        assert np.isfinite(weights).all()
        loss = float(SegmentationCrossentropy(weights)(masks, logits))
        mean = np.mean(np.take(weights, masks[masks != 255]))
        assert loss == pytest.approx(mean * math.log(4), rel=1e-5)


def test_published_numbers_of_camvid():
    camvid = CAMVID_TRAIN_FREQUENCIES
    entry = describe("cam_vid")
    assert camvid.num_classes == entry.num_classes == 11
    assert camvid.num_pixels == 367 * 360 * 480
    assert camvid.void_pixels == 2_503_995
    shares = np.divide(camvid.pixels, camvid.pixels_of_images)
    assert shares.round(6).tolist() == [
        *(0.168911, 0.233861, 0.009856, 0.316582, 0.047177, 0.111872),
        *(0.012264, 0.023904, 0.059797, 0.007401, 0.005325),
    ]
    assert np.round(CAMVID_MEDIAN_FREQUENCY_WEIGHTS, 4).tolist() == [
        *(0.2793, 0.2017, 4.7865, 0.1490, 1.0000, 0.4217),
        *(3.8467, 1.9736, 0.7889, 6.3747, 8.8587),
    ]
    assert np.round(enet_weights(camvid), 3).tolist() == [
        *(5.792, 4.440, 34.022, 3.447, 15.912, 9.020),
        *(32.014, 32.479, 13.207, 38.388, 44.135),
    ]
    assert len(CAMVID_SEGNET_CLASS_WEIGHTS) == 11
    sign = entry.class_names.index("sign_symbol")
    assert CAMVID_SEGNET_CLASS_WEIGHTS[sign] == 9.6446


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.exists(), reason=f"CamVid is not at {CAMVID}")
def test_camvid_counted_at_half_size():
    """Every second pixel gives about a quarter of the counts."""
    paths = sorted(map(str, (CAMVID / "trainannot").glob("*.png")))

    def read(path):
        mask = tf.io.decode_png(tf.io.read_file(path))
        return mask, mask

    counted = class_frequencies(
        tf.data.Dataset.from_tensor_slices(paths).map(read),
        num_classes=11,
        ignore_class=11,
        verbose=0,
    )
    full = CAMVID_TRAIN_FREQUENCIES
    assert counted.num_images == full.num_images
    assert 4 * counted.num_pixels == full.num_pixels
    np.testing.assert_allclose(
        4 * np.array(counted.pixels), full.pixels, rtol=0.01
    )
    assert 4 * counted.void_pixels == pytest.approx(full.void_pixels, rel=0.01)
    assert counted.images == full.images
    np.testing.assert_allclose(
        median_frequency_weights(counted),
        CAMVID_MEDIAN_FREQUENCY_WEIGHTS,
        rtol=0.01,
    )


def test_a_length_that_is_not_known():
    """A PyTorch DataLoader of an IterableDataset behaves like this."""

    class Loader:
        def __len__(self):
            raise TypeError("object of type 'Stream' has no len()")

        def __iter__(self):
            yield np.zeros((1, 2, 2, 3)), np.array([[[0, 1], [1, 1]]])

    counted = class_frequencies(Loader(), 2, verbose=0)
    assert counted.pixels == (1, 3)
