import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv.data import augmentation, segmentation_pairs

pytestmark = [pytest.mark.oldest]

HEIGHT, WIDTH = 16, 24
EVERYTHING = dict(
    scale=(0.5, 2.0),
    rotation=180,
    crop=(20, 20),
    brightness=0.0,
    contrast=0.0,
)


def position_pair(num_pairs=40, axis=1):
    """Return images and masks whose values are the column (or row)."""
    place = np.indices((HEIGHT, WIDTH))[axis]
    mask = np.broadcast_to(place, (num_pairs, HEIGHT, WIDTH)).astype(np.uint8)
    image = np.repeat(10.0 * mask[..., None] + 10, 3, axis=-1)
    return image.astype(np.float32), mask


def seeded(**options):
    """Return an augmentation for `map` of a dataset."""
    augment = augmentation(**options)
    return lambda image, mask: augment(image, mask, seed=(0, 1))


def augmented(image, mask, seed=1, **options):
    image, mask = augmentation(**options)(image, mask, seed=(0, seed))
    return image.numpy(), mask.numpy()


# -------------------------------------------------------------- geometry


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": (0.5, 2.0)},
        {"rotation": 30},
        {"crop": (7, 30)},
        {"flip": False, "rotation": 180},
        EVERYTHING,
    ],
    ids=str,
)
def test_mask_stays_with_image(options, axis):
    image, mask = augmented(*position_pair(axis=axis), seed=1, **options)
    inside = mask != 255
    # Images are mixed with black within one pixel of their edge, or two pixels
    # of the output if the scale is 2.
    black = image[..., 0] == 0
    padded = np.pad(black, [(0, 0), (2, 2), (2, 2)], constant_values=True)
    near_edge = sum(
        padded[:, y : y + mask.shape[1], x : x + mask.shape[2]]
        for y in range(5)
        for x in range(5)
    ).astype(bool)
    whole = inside & ~near_edge
    assert whole.mean() > 0.05
    position = image[..., 0] / 10 - 1
    error = np.abs(position - mask)[whole]
    assert error.max() <= 0.5 + 1e-3
    # Pixels are void where the image ends, except for these edges.
    assert not np.any(black & inside)
    assert np.all(mask[~near_edge] != 255)


def test_misalignment_would_be_seen():
    image, mask = augmented(*position_pair(), rotation=30, seed=1)
    _, other = augmented(*position_pair(), rotation=30, seed=2)
    both = (mask != 255) & (other != 255) & (image[..., 0] > 0)
    assert np.abs(image[..., 0] / 10 - 1 - other)[both].max() > 3


def test_nothing_asked_changes_nothing():
    image, mask = position_pair(2)
    found_image, found_mask = augmented(image, mask, flip=False, seed=3)
    np.testing.assert_array_equal(found_image, image)
    np.testing.assert_array_equal(found_mask, mask)


@pytest.mark.numeric
def test_flip_half_of_the_time():
    image, mask = position_pair(200)
    found_image, found_mask = augmented(image, mask, seed=1)
    flipped = found_mask[:, 0, 0] == WIDTH - 1
    assert 70 < flipped.sum() < 130
    np.testing.assert_array_equal(
        found_mask[flipped], mask[flipped][:, :, ::-1]
    )
    np.testing.assert_array_equal(found_mask[~flipped], mask[~flipped])
    np.testing.assert_allclose(
        found_image[flipped], image[flipped][:, :, ::-1], atol=1e-3
    )


@pytest.mark.numeric
@pytest.mark.parametrize("crop", [(5, 7), (6, 24), (16, 1)])
def test_crop_is_a_piece_of_the_picture(crop):
    rows, found_rows = augmented(
        *position_pair(200, axis=0), flip=False, crop=crop, seed=1
    )
    columns, found_columns = augmented(
        *position_pair(200, axis=1), flip=False, crop=crop, seed=1
    )
    assert rows.shape == (200, *crop, 3)
    tops, lefts = found_rows[:, 0, 0], found_columns[:, 0, 0]
    assert set(tops) == set(range(HEIGHT - crop[0] + 1))
    assert set(lefts) == set(range(WIDTH - crop[1] + 1))
    for top, left, *found in zip(
        tops, lefts, rows, found_rows, columns, found_columns, strict=True
    ):
        height, width = crop
        place = np.indices((HEIGHT, WIDTH))
        piece = place[:, top : top + height, left : left + width]
        for axis in range(2):
            image, mask = found[2 * axis : 2 * axis + 2]
            np.testing.assert_array_equal(mask, piece[axis])
            np.testing.assert_allclose(
                image[..., 1], 10 * piece[axis] + 10, atol=1e-3
            )


def test_crop_larger_than_the_picture():
    image, mask = augmented(
        *position_pair(100), flip=False, crop=(HEIGHT + 3, WIDTH), seed=1
    )
    void_rows = np.all(mask == 255, axis=2)
    assert np.all(void_rows.sum(axis=1) == 3)
    assert {int(np.argmin(rows)) for rows in void_rows} == {0, 1, 2, 3}
    assert np.all(image[void_rows] == 0)
    assert not np.any(mask[~void_rows] == 255)


def test_shrinking_leaves_a_border_of_void():
    image, mask = augmented(*position_pair(200), scale=(0.5, 0.5), seed=1)
    rows = np.any(mask != 255, axis=2)
    columns = np.any(mask != 255, axis=1)
    assert np.all(rows.sum(axis=1) == HEIGHT // 2)
    assert np.all(columns.sum(axis=1) == WIDTH // 2)
    inside = rows[:, :, None] & columns[:, None, :]
    np.testing.assert_array_equal(mask != 255, inside)
    # Every position occurs.
    assert set(np.argmax(rows, axis=1)) == set(range(HEIGHT // 2 + 1))
    assert set(np.argmax(columns, axis=1)) == set(range(WIDTH // 2 + 1))
    assert np.all(image[~inside] < 200)


def test_enlarging_brings_in_nothing():
    _, mask = augmented(*position_pair(50), scale=(1.0, 3.0), seed=1)
    assert mask.max() < WIDTH
    # The largest view is almost the whole image, the smallest about a third.
    spread = np.ptp(mask.astype(int), axis=(1, 2))
    assert spread.max() >= WIDTH - 3
    assert spread.min() <= WIDTH // 2


@pytest.mark.numeric
def test_turned_by_up_to_rotation():
    size = 41
    ramp = np.indices((size, size))[1].astype(np.float32) + 1
    images = np.broadcast_to(ramp[None, ..., None], (100, size, size, 1))
    image, mask = augmented(
        images,
        np.zeros(images.shape[:3], np.uint8),
        flip=False,
        rotation=30,
        seed=1,
    )
    center = size // 2
    slope_x = image[:, center, center + 1, 0] - image[:, center, center - 1, 0]
    slope_y = image[:, center + 1, center, 0] - image[:, center - 1, center, 0]
    angle = np.degrees(np.arctan2(slope_y, slope_x))
    assert np.abs(angle).max() <= 30.01
    assert angle.max() > 25
    assert angle.min() < -25
    # The center does not move. Corners show pixels outside the image.
    np.testing.assert_allclose(image[:, center, center, 0], center + 1, 1e-4)
    assert np.all(mask[np.abs(angle) > 5][:, 0, 0] == 255)


def test_no_label_is_invented():
    mask = np.zeros((30, HEIGHT, WIDTH), np.int32)
    mask[:, ::2, ::3] = 200
    image = np.zeros((30, HEIGHT, WIDTH, 3), np.uint8)
    _, found = augmented(image, mask, seed=4, **EVERYTHING)
    assert set(np.unique(found)) == {0, 200, 255}


# --------------------------------------------------------------- colors


@pytest.mark.numeric
def test_brightness_shifts_the_picture_alone():
    image = np.full((60, 2, 3, 3), 100, np.uint8)
    mask = np.ones((60, 2, 3), np.uint8)
    found, found_mask = augmented(image, mask, brightness=0.2, seed=1)
    np.testing.assert_array_equal(found_mask, mask)
    shifts = found[:, 0, 0, 0] - 100
    np.testing.assert_allclose(
        found, np.broadcast_to(found[:, :1, :1, :1], found.shape), rtol=1e-5
    )
    assert 45 < np.abs(shifts).max() <= 51.01
    assert shifts.min() < 0 < shifts.max()


@pytest.mark.numeric
def test_contrast_keeps_the_mean():
    image, mask = position_pair(60)
    image = image / 2 + 60  # far enough from 0 and 255
    found, found_mask = augmented(image, mask, flip=False, contrast=0.3, seed=1)
    np.testing.assert_array_equal(found_mask, mask)
    np.testing.assert_allclose(
        found.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-4
    )
    factors = found.std(axis=(1, 2)) / image.std(axis=(1, 2))
    assert 0.69 < factors.min() < 0.8
    assert 1.2 < factors.max() < 1.31


def test_values_stay_in_range():
    image, mask = position_pair(50)
    found, _ = augmented(image, mask, brightness=1.0, contrast=1.0, seed=1)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == 255


# ------------------------------------------------------ types and shapes


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
def test_dtypes(dtype):
    image = np.full((3, 4, 1), 7, np.uint8)
    mask = np.ones((3, 4), dtype)
    image, mask = augmented(image, mask, crop=(5, 5), seed=1)
    assert (image.dtype, image.shape) == (np.float32, (5, 5, 1))
    assert (mask.dtype, mask.shape) == (dtype, (5, 5))
    assert set(np.unique(mask)) == {1, 255}


@pytest.mark.slow
def test_shapes_in_a_dataset():
    image, mask = position_pair(3)
    pairs = tf.data.Dataset.from_tensor_slices((image, mask))
    plain = pairs.map(seeded()).element_spec
    assert plain[0].shape.as_list() == [HEIGHT, WIDTH, 3]
    assert plain[1].shape.as_list() == [HEIGHT, WIDTH]
    batches = pairs.batch(2).map(seeded(crop=8)).element_spec
    assert batches[0].shape.as_list() == [None, 8, 8, 3]
    assert batches[1].shape.as_list() == [None, 8, 8]
    unknown = tf.data.Dataset.from_generator(
        lambda: zip(image, mask, strict=True),
        output_signature=(
            tf.TensorSpec((None, None, 3), tf.float32),
            tf.TensorSpec((None, None), tf.uint8),
        ),
    ).map(seeded(rotation=10))
    assert unknown.element_spec[0].shape.as_list() == [None, None, 3]
    assert [i.shape for i, _ in unknown] == [(HEIGHT, WIDTH, 3)] * 3


# ----------------------------------------------------------------- seeds


def test_seed_is_all_that_is_drawn_from():
    first = augmented(*position_pair(), seed=1, **EVERYTHING)
    again = augmented(*position_pair(), seed=1, **EVERYTHING)
    other = augmented(*position_pair(), seed=2, **EVERYTHING)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)
    # The images of a batch are changed independently.
    assert len({mask.tobytes() for mask in first[1]}) > 30


def drawn_pairs(augment, num_epochs=2, **options):
    """Return the masks of some epochs of shuffled and augmented pairs."""
    image, mask = position_pair(10)
    mask = mask + np.arange(10, dtype=np.uint8)[:, None, None]
    dataset = tf.data.Dataset.from_tensor_slices(
        {"image": np.uint8(image), "segmentation_mask": mask[..., None]}
    )
    pairs = segmentation_pairs(
        dataset,
        num_classes=WIDTH + 10,
        image_size=None,
        batch_size=4,
        shuffle=True,
        augment=augment,
        **options,
    )
    assert len(pairs) == 3
    return [
        np.concatenate([m for _, m in pairs.as_numpy_iterator()])
        for _ in range(num_epochs)
    ]


@pytest.mark.parametrize(
    ("augment", "cache"), [(None, False), (augmentation(**EVERYTHING), True)]
)
def test_pairs_are_reproducible(augment, cache):
    first, second = drawn_pairs(augment, seed=2, cache=cache)
    assert np.any(first != second)
    again = drawn_pairs(augment, seed=2, cache=cache)
    np.testing.assert_array_equal(again, [first, second])
    assert np.any(drawn_pairs(augment, seed=3)[0] != first)


@pytest.mark.slow
def test_without_a_seed_keras_decides():
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        results.append(drawn_pairs(augmentation(**EVERYTHING)))
    np.testing.assert_array_equal(*results)
    other, _ = drawn_pairs(augmentation(**EVERYTHING))
    assert np.any(other != results[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("augment", [None, augmentation(**EVERYTHING)])
def test_epoch_and_seed_are_all_that_matters(augment):
    epoch = tf.Variable(3, dtype="int64")
    third, same = drawn_pairs(augment, seed=2, epoch=epoch)
    np.testing.assert_array_equal(same, third)
    epoch.assign(4)
    fourth, _ = drawn_pairs(augment, seed=2, epoch=epoch)
    assert np.any(fourth != third)
    epoch.assign(3)
    np.testing.assert_array_equal(
        drawn_pairs(augment, seed=2, epoch=epoch)[0], third
    )
    assert np.any(drawn_pairs(augment, seed=1, epoch=epoch)[0] != third)


def test_augmentation_without_seed_in_pairs():
    def mirror(image, mask):
        return image[:, ::-1], mask[:, ::-1]

    plain, mirrored = (
        drawn_pairs(augment, seed=2)[0] for augment in (None, mirror)
    )
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.5}, r"`scale` must be a tuple.*Received: scale=0\.5"),
        ({"scale": (2, 1)}, "`scale` must be a tuple"),
        ({"scale": (0, 1)}, "`scale` must be a tuple"),
        ({"rotation": -1}, r"`rotation` must be a number in 0\.\.180"),
        ({"crop": (0, 4)}, r"crop=\(0, 4\)"),
        ({"brightness": 2}, r"`brightness` must be a number in 0\.\.1"),
        ({"contrast": "much"}, "contrast='much'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        augmentation(**options)


@pytest.mark.parametrize(
    ("image_shape", "mask_shape", "dtype"),
    [
        ((4, 4), (4, 4), "uint8"),
        ((4, 4, 3), (4, 4, 1), "uint8"),
        ((4, 4, 3), (4, 4), "float32"),
        ((2, 4, 4, 3), (4, 4), "uint8"),
    ],
)
def test_wrong_pairs(image_shape, mask_shape, dtype):
    with pytest.raises(ValueError, match=r"`image` must have.*mask\.shape="):
        augmented(np.zeros(image_shape), np.zeros(mask_shape, dtype))


# ------------------------------------------------------------ value range


def changed(image, seed=(0, 1), **options):
    mask = np.zeros(image.shape[:-1], np.int32)
    return augmentation(**options)(image, mask, seed)[0].numpy()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([-1000, 0, 400], "from -1000 to 400"),
        ([0, 100, 256], "from 0 to 256"),
        ([0, np.nan, 1], "from nan to nan"),
        ([0, 0.5, 1], r"fractions in 0\.\.1"),
    ],
)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_values_outside_the_range(values, message, is_compiled):
    image = np.float32(values).reshape(1, 3, 1)
    mask = np.zeros((1, 3), np.int32)
    augment = augmentation()
    if is_compiled:
        augment = tf.function(augment)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        augment(image, mask, (0, 1))


def test_values_outside_the_range_in_a_dataset():
    images = np.float32([[[[0], [0.25], [1]]]] * 2)
    masks = np.zeros((2, 1, 3), np.int32)
    augment = augmentation()
    pairs = tf.data.Dataset.from_tensor_slices((images, masks)).map(
        lambda image, mask: augment(image, mask, seed=(0, 1))
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="Multiply the images by 255"
    ):
        list(pairs)


@pytest.mark.parametrize("values", [[0, 1, 1], [0, 0, 0], [0.5, 2, 255]])
def test_values_within_the_range(values):
    image = np.float32(values).reshape(1, 3, 1)
    np.testing.assert_array_equal(changed(image, flip=False), image)


@pytest.mark.numeric
def test_what_is_scaled_by_the_range():
    """Hounsfield units change like values in 0..255, but scaled."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 9, 3)).astype(np.float32)
    options = {
        "scale": (0.5, 0.9),
        "rotation": 30,
        "brightness": 0.4,
        "contrast": 0.5,
    }
    expected = changed(image, **options)
    low, high = -1000, 3000
    found = changed(
        low + image * (high - low) / 255, value_range=(low, high), **options
    )
    scaled = (found - low) * 255 / (high - low)
    # float32 values near 3000 are 2.4e-4 apart. A few rounding errors of this
    # size add up, and are scaled by 255 / 4000.
    np.testing.assert_allclose(scaled, expected, atol=1e-3)
    assert found.min() == low


def test_the_check_can_be_left_out():
    image = np.float32([[[0.5], [1]]])
    mask = np.zeros((1, 2), np.int32)
    augment = augmentation(flip=False)
    found, _ = augment(image, mask, (0, 1), check_values=False)
    np.testing.assert_array_equal(found, image)
