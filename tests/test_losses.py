"""Comparison of the losses with slow NumPy definitions, and their laws."""

import inspect
import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_deconv import _labels
from keras_deconv.losses import (
    SegmentationCrossentropy,
    SegmentationDice,
    SegmentationFocal,
    SegmentationTversky,
)

pytestmark = pytest.mark.oldest

BACKEND = keras.config.backend()
CLASS_WEIGHTS = (0.5, 2.0, 0.0)
LOSSES = [
    SegmentationCrossentropy,
    SegmentationFocal,
    SegmentationDice,
    SegmentationTversky,
]
tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow graphs"
)


def batch(seed=0, shape=(2, 3, 4), num_classes=3):
    """Return labels with void (255), and logits."""
    random = np.random.default_rng(seed)
    y_true = random.integers(0, num_classes, shape)
    y_true[random.random(shape) < 0.3] = 255
    return y_true, random.normal(size=(*shape, num_classes)).astype("float32")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def oracle(
    y_true,
    logits,
    class_weights=None,
    void=(255,),
    sample_weight=None,
    reduction="sum_over_batch_size",
    gamma=0.0,
):
    """Compute cross-entropy and focal loss, pixel by pixel in float64."""
    probabilities = softmax(logits.astype("float64"))
    losses = np.zeros(y_true.shape)
    num_counted = 0
    for pixel in np.ndindex(*y_true.shape):
        label = int(y_true[pixel])
        if label in void:
            continue
        num_counted += 1
        weight = 1.0 if class_weights is None else class_weights[label]
        if sample_weight is not None:
            weight *= sample_weight[pixel]
        probability = probabilities[pixel][label]
        weight *= (1 - probability) ** gamma
        losses[pixel] = -weight * math.log(probability)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / max(num_counted, 1)


def region_oracle(
    y_true,
    logits,
    alpha,
    beta,
    sample_weight=None,
    reduction="sum_over_batch_size",
):
    """Compute the Tversky loss, class by class in float64, without void."""
    counted = y_true != 255
    labels_left = y_true[counted]
    probabilities = softmax(logits.astype("float64"))[counted]
    weights = np.ones(y_true.shape) if sample_weight is None else sample_weight
    weights = np.broadcast_to(weights, y_true.shape)[counted]
    losses = np.zeros(logits.shape[-1])
    occurs = np.zeros(logits.shape[-1], bool)
    for index in range(logits.shape[-1]):
        true, found = labels_left == index, probabilities[:, index]
        if true.any():
            occurs[index] = True
            positives = (weights * found)[true].sum()
            false_positives = (weights * found)[~true].sum()
            false_negatives = (weights * (1 - found))[true].sum()
            losses[index] = 1 - positives / (
                positives + alpha * false_positives + beta * false_negatives
            )
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses[occurs].mean()


def expected_value(loss, y_true, logits, **options):
    """Return the value of a loss with default arguments from its oracle."""
    if isinstance(loss, SegmentationDice | SegmentationTversky):
        return region_oracle(y_true, logits, loss.alpha, loss.beta, **options)
    gamma = getattr(loss, "gamma", 0.0)
    return oracle(y_true, logits, gamma=gamma, **options)


def value_and_gradient(loss, y_true, y_pred):
    """Return a loss and its gradient for `y_pred`, as NumPy arrays."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        y_pred = tf.convert_to_tensor(y_pred)
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = loss(y_true, y_pred)
        gradient = tape.gradient(value, y_pred)
    elif BACKEND == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda x: loss(y_true, x))(
            jax.numpy.asarray(y_pred)
        )
    else:
        import torch

        y_pred = torch.tensor(y_pred, requires_grad=True)
        value = loss(y_true, y_pred)
        value.backward()
        gradient = y_pred.grad
        value = value.detach()
    return ops.convert_to_numpy(value), ops.convert_to_numpy(gradient)


def tiny_model(num_classes=3, activation=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(num_classes, 1, activation=activation),
        ]
    )


def training_data(dtype="uint8"):
    random = np.random.default_rng(0)
    images = random.normal(size=(8, 4, 4, 2)).astype("float32")
    masks = (images[..., 0] > 0).astype("int64") + (images[..., 1] > 0)
    masks[:, 0] = 255
    return images, masks.astype(dtype)


@pytest.mark.backend
@pytest.mark.numeric
def test_oracle_can_fail():
    y_true, logits = batch()
    right = oracle(y_true, logits)
    assert right != pytest.approx(oracle(y_true, logits, CLASS_WEIGHTS))
    kept = np.where(y_true == 255, 0, y_true)
    assert right != pytest.approx(oracle(kept, logits))
    assert right != pytest.approx(oracle(y_true, logits, gamma=1.0))
    right = region_oracle(y_true, logits, 0.3, 0.7)
    assert right != pytest.approx(region_oracle(y_true, logits, 0.7, 0.3))
    assert right != pytest.approx(region_oracle(kept, logits, 0.3, 0.7))


@pytest.mark.backend
@pytest.mark.numeric
def test_value_and_gradient_of_a_known_case():
    loss = SegmentationCrossentropy()
    value, gradient = value_and_gradient(
        loss, np.array([[0, 255]]), np.zeros((1, 2, 2), "float32")
    )
    assert value == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient, [[[-0.5, 0.5], [0, 0]]], atol=1e-6)


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("from_logits", [True, False])
def test_equals_definition(reduction, class_weights, from_logits):
    y_true, logits = batch()
    loss = SegmentationCrossentropy(
        class_weights, from_logits=from_logits, reduction=reduction
    )
    y_pred = logits if from_logits else softmax(logits)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(y_true, y_pred)),
        oracle(y_true, logits, class_weights, reduction=reduction),
        rtol=1e-5,
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("gamma", [0, 0.5, 2])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
def test_focal_equals_definition(gamma, class_weights, reduction):
    y_true, logits = batch()
    loss = SegmentationFocal(gamma, class_weights, reduction=reduction)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(y_true, logits)),
        oracle(y_true, logits, class_weights, (255,), None, reduction, gamma),
        rtol=1e-5,
    )


@pytest.mark.backend
@pytest.mark.numeric
def test_focal_equals_keras():
    y_true, logits = batch()
    y_true[y_true == 255] = 1
    by_keras = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=2.0, from_logits=True
    )
    one_hot = np.eye(3, dtype="float32")[y_true]
    assert float(SegmentationFocal()(y_true, logits)) == pytest.approx(
        float(by_keras(one_hot, logits)), rel=1e-5
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_tversky_equals_definition(alpha, weighted, reduction, from_logits):
    """Class 3 of 4 does not occur, but is predicted."""
    y_true, logits = batch()
    logits = np.concatenate([logits, logits[..., :1] + 1], axis=-1)
    weights = np.random.default_rng(1).random(y_true.shape) + 0.1
    weights = weights.astype("float32") if weighted else None
    loss = SegmentationTversky(
        alpha, 0.7, from_logits=from_logits, reduction=reduction
    )
    y_pred = logits if from_logits else softmax(logits)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(y_true, y_pred, weights)),
        region_oracle(y_true, logits, alpha, 0.7, weights, reduction),
        rtol=1e-5,
    )


@pytest.mark.backend
@pytest.mark.numeric
def test_dice_and_jaccard_are_tversky_losses():
    y_true, logits = batch()
    counted = y_true != 255
    true = np.eye(3)[y_true[counted]]
    found = softmax(logits.astype("float64"))[counted]
    overlap = (true * found).sum(0)
    sizes = true.sum(0) + found.sum(0)
    dice = SegmentationDice()(y_true, logits)
    assert float(dice) == pytest.approx((1 - 2 * overlap / sizes).mean())
    assert float(SegmentationTversky(0.5, 0.5)(y_true, logits)) == float(dice)
    jaccard = SegmentationTversky(alpha=1, beta=1)(y_true, logits)
    union = sizes - overlap
    assert float(jaccard) == pytest.approx((1 - overlap / union).mean())


@pytest.mark.backend
@pytest.mark.numeric
def test_dice_of_each_class_equals_keras():
    y_true, logits = batch()
    y_true[y_true == 255] = 1
    by_keras = keras.losses.dice(
        np.eye(3, dtype="float32")[y_true], ops.softmax(logits), axis=(0, 1, 2)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(
            SegmentationDice(reduction="none")(y_true, logits)
        ),
        ops.convert_to_numpy(by_keras),
        rtol=1e-5,
    )


@pytest.mark.backend
@pytest.mark.numeric
def test_beta_makes_missed_pixels_dear():
    """Every prediction is class 0: it has a false positive, class 1 a miss."""
    y_true = np.array([[0, 0, 0, 1]])
    logits = np.float32([[[30, -30]] * 4])
    losses = SegmentationTversky(alpha=2, beta=5, reduction="none")
    np.testing.assert_allclose(
        ops.convert_to_numpy(losses(y_true, logits)), [1 - 3 / (3 + 2), 1]
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("loss", [SegmentationDice, SegmentationTversky])
def test_sums_run_over_the_batch_and_absent_classes_are_left_out(loss):
    y_true = np.array([[0, 0], [1, 0]])
    _, logits = batch(shape=(2, 2))
    whole = float(loss()(y_true, logits))
    assert whole == pytest.approx(
        expected_value(loss(), y_true, logits), rel=1e-5
    )
    images = [
        float(loss()(y_true[i : i + 1], logits[i : i + 1])) for i in (0, 1)
    ]
    assert whole != pytest.approx(np.mean(images))
    # Class 2 does not occur; its probability is missing from other classes.
    logits[..., 2] += 3
    assert float(loss()(y_true, logits)) > whole


@pytest.mark.numeric
@pytest.mark.parametrize("loss", [SegmentationDice, SegmentationTversky])
def test_a_pixel_of_weight_2_is_there_twice(loss):
    y_true, logits = batch(shape=(1, 6))
    twice = np.concatenate([y_true, y_true[:, :3]], axis=1)
    logits_twice = np.concatenate([logits, logits[:, :3]], axis=1)
    weights = np.float32([[2, 2, 2, 1, 1, 1]])
    assert float(loss()(y_true, logits, weights)) == pytest.approx(
        float(loss()(twice, logits_twice)), rel=1e-5
    )


@pytest.mark.numeric
@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 4), (2, 2, 3, 2)])
@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_any_number_of_spatial_axes(loss, shape, channel):
    y_true, logits = batch(shape=shape)
    received = y_true[..., None] if channel else y_true
    assert float(loss()(received, logits)) == pytest.approx(
        expected_value(loss(), y_true, logits), rel=1e-5
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "int64", "float16", "float32"]
)
def test_label_dtypes(dtype):
    y_true, logits = batch()
    assert float(SegmentationCrossentropy()(y_true.astype(dtype), logits)) == (
        pytest.approx(oracle(y_true, logits), rel=1e-5)
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    ("ignore_class", "void"),
    [(0, (0, 255)), ((1, 255), (1, 255)), ((-1, 255), (-1, 255))],
)
def test_several_void_labels(ignore_class, void):
    y_true, logits = batch()
    y_true[0, 0, 0] = void[0]
    if ignore_class == 0:
        y_true[y_true == 255] = 1
    loss = SegmentationCrossentropy(ignore_class=ignore_class)
    assert float(loss(y_true, logits)) == pytest.approx(
        oracle(y_true, logits, void=void), rel=1e-5
    )


@pytest.mark.backend
@pytest.mark.numeric
def test_without_void_every_label_is_a_class():
    y_true, logits = batch(num_classes=300)
    y_true[0, 0, 0] = 255
    loss = SegmentationCrossentropy(ignore_class=None)
    assert float(loss(y_true, logits)) == pytest.approx(
        oracle(y_true, logits, void=()), rel=1e-5
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    "shape", [(2,), (2, 1), (2, 1, 1), (2, 3, 4), (2, 3, 4, 1)]
)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
def test_sample_weights(shape, reduction):
    y_true, logits = batch()
    weights = np.random.default_rng(1).random(shape).astype("float32")
    per_pixel = weights[..., 0] if len(shape) == 4 else weights
    per_pixel = np.broadcast_to(
        per_pixel.reshape(per_pixel.shape + (1,) * (3 - per_pixel.ndim)),
        y_true.shape,
    )
    loss = SegmentationCrossentropy(CLASS_WEIGHTS, reduction=reduction)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(y_true, logits, weights)),
        oracle(
            y_true,
            logits,
            CLASS_WEIGHTS,
            sample_weight=per_pixel,
            reduction=reduction,
        ),
        rtol=1e-5,
    )


@pytest.mark.backend
@pytest.mark.numeric
def test_mean_with_sample_weight_divides_by_the_weights_that_count():
    y_true, logits = batch()
    weights = np.random.default_rng(1).random(y_true.shape).astype("float32")
    loss = SegmentationCrossentropy(reduction="mean_with_sample_weight")
    total = oracle(y_true, logits, sample_weight=weights, reduction="sum")
    assert float(loss(y_true, logits, weights)) == pytest.approx(
        total / weights[y_true != 255].sum(), rel=1e-5
    )


def check_that_void_is_as_good_as_removed(loss, from_logits, garbage):
    y_true, logits = batch()
    y_pred = logits if from_logits else softmax(logits)
    counted = y_true != 255
    kept, kept_gradient = value_and_gradient(
        loss, y_true[counted], y_pred[counted]
    )
    y_pred[~counted] = garbage
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    np.testing.assert_allclose(value, kept, rtol=1e-6)
    np.testing.assert_allclose(
        gradient[counted], kept_gradient, rtol=1e-5, atol=1e-8
    )
    assert not gradient[~counted].any()
    assert kept_gradient.any()


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("garbage", [0.0, 1e30, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("loss", LOSSES)
def test_void_is_as_good_as_removed(loss, from_logits, garbage):
    weighted = loss in (SegmentationCrossentropy, SegmentationFocal)
    weights = {"class_weights": (1.0, 2.0, 3.0)} if weighted else {}
    check_that_void_is_as_good_as_removed(
        loss(from_logits=from_logits, **weights), from_logits, garbage
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("loss", LOSSES)
def test_what_weighs_nothing_may_be_nan(loss):
    y_true = np.array([[[0, 1, 2, 1]]])
    logits = np.random.default_rng(0).normal(size=(1, 1, 4, 3))
    weights = np.array([[[1.0, 0.0, 2.0, 1.0]]])
    expected = float(loss()(y_true, logits, weights))
    logits[0, 0, 1] = np.nan
    assert float(loss()(y_true, logits, weights)) == pytest.approx(expected)
    weights[0, 0, 1] = 1
    assert math.isnan(float(loss()(y_true, logits, weights)))


def void_by_sample_weight(y_true, y_pred):
    """A common mistake, since Keras also divides by void pixels."""
    counted = ops.cast(ops.not_equal(y_true, 255), "float32")
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        ops.where(counted > 0, y_true, 0), y_pred, counted
    )


def void_as_a_class(y_true, y_pred):
    """A common mistake: void is class 0, so its predictions count."""
    y_true = ops.where(ops.equal(y_true, 255), 0, y_true)
    return keras.losses.Dice()(ops.one_hot(y_true, 3), ops.softmax(y_pred))


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("broken", [void_by_sample_weight, void_as_a_class])
def test_a_loss_that_counts_void_is_found(broken):
    with pytest.raises(AssertionError):
        check_that_void_is_as_good_as_removed(broken, True, 0.0)


@pytest.mark.parametrize("size", [1.0, 1e38])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
@pytest.mark.parametrize("loss", LOSSES)
def test_void_alone_gives_zero(loss, size, reduction):
    loss = loss(reduction=reduction)
    logits = size * np.random.default_rng(0).normal(size=(1, 2, 2, 3))
    value, gradient = value_and_gradient(
        loss, np.full((1, 2, 2), 255), logits.astype("float32")
    )
    assert value == 0
    assert not gradient.any()


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_sure_pixels_keep_every_gradient_finite(gamma, dtype):
    """At `1 - p` = 0, the slope of a power may be undefined or infinite."""
    logits = np.array([[1e4, -1e4], [3e4, -3e4], [0, 0]], dtype)
    for loss in (
        SegmentationFocal(gamma),
        SegmentationDice(),
        SegmentationTversky(1, gamma + 0.1),
    ):
        for y_true in ([1, 0, 0], [0, 0, 1], [1, 1, 1]):
            value, gradient = value_and_gradient(loss, np.array(y_true), logits)
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()
            assert gradient.any()


@pytest.mark.backend
@pytest.mark.numeric
def test_large_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [3e4, -3e4]], "float16")
    value, gradient = value_and_gradient(
        SegmentationCrossentropy(), np.array([1, 0]), logits
    )
    assert value == pytest.approx(1e4, rel=1e-3)
    assert np.isfinite(gradient).all()


@pytest.mark.backend
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_half_precision_is_raised(dtype):
    y_true, logits = batch(shape=(4, 256, 256))
    loss = SegmentationCrossentropy(dtype=dtype, reduction="sum")
    value = loss(y_true, logits.astype("float16"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert float(value) > 65504  # The largest number in float16.


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"class_weights": [1.0, -1.0]}, r"-1\.0"),
        ({"class_weights": [1.0, math.nan]}, "nan"),
        ({"class_weights": [1.0, math.inf]}, "inf"),
        ({"class_weights": "weights"}, "'weights'"),
        ({"class_weights": "1234"}, "'1234'"),
        ({"class_weights": 3.0}, r"3\.0"),
        ({"ignore_class": 2.5}, r"2\.5"),
        ({"ignore_class": "void"}, "'void'"),
    ],
)
def test_constructor_errors(arguments, found):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be.*{name}=.*{found}"):
        SegmentationCrossentropy(**arguments)


@pytest.mark.parametrize(
    ("loss", "name", "values", "rule"),
    [
        (SegmentationFocal, "gamma", (-1, "2x", None, math.nan), ">= 0"),
        (SegmentationTversky, "alpha", (-1, 0, math.inf, [1, 2]), "> 0"),
        (SegmentationTversky, "beta", (-1, 0, math.nan, None), "> 0"),
    ],
)
def test_factor_errors(loss, name, values, rule):
    for value in values:
        with pytest.raises(
            ValueError, match=rf"`{name}` must be.*{rule}\. Received: {name}="
        ):
            loss(**{name: value})


def test_unknown_reduction_is_an_error():
    with pytest.raises(ValueError, match="reduction='median'"):
        SegmentationCrossentropy(reduction="median")


@pytest.mark.backend
@pytest.mark.parametrize(
    ("dtype", "stray", "found"),
    [
        ("int32", 3, "labels: 3"),
        ("int32", -1, "labels: -1"),
        ("uint8", 254, "labels: 254"),
        ("int64", 2**32, r"labels: 4\.29497e\+09"),
        ("float32", 0.5, r"labels: 0\.5"),
        ("float32", np.nan, "labels: nan"),
    ],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_stray_labels_are_an_error(loss, dtype, stray, found):
    if dtype == "int64" and BACKEND == "jax":
        pytest.skip("JAX has no int64 here; it takes 2**32 for 0")
    y_true, logits = batch()
    y_true = y_true.astype(dtype)
    y_true[0, 1, 2] = stray
    with pytest.raises(
        ValueError, match=rf"0\.\.2.*ignore_class=255.*{found}\. Add them"
    ):
        loss()(y_true, logits)


def test_many_stray_labels_are_not_all_listed():
    y_true = np.arange(3, 27).reshape(2, 3, 4)
    with pytest.raises(ValueError, match=r"3, 4, .*, 12, \.\.\.\. Add"):
        SegmentationCrossentropy()(y_true, batch()[1])


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ((2, 3, 4, 3), (2, 3, 4, 3), r"one-hot.*ops\.argmax"),
        ((2, 4, 4), (2, 3, 4, 3), r"\(2, 4, 4\).*\(2, 3, 4, 3\)"),
        ((2, 4, 4, 1), (2, 3, 4, 3), r"\(2, 4, 4, 1\).*\(2, 3, 4, 3\)"),
        ((2, 3), (2, 3, 4, 3), r"\(2, 3\).*\(2, 3, 4, 3\)"),
        ((2, 3, 4), (2, 3, 4, 1), "two or more classes.*BinaryCrossentropy"),
        ((), (), "two or more classes"),
    ],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_shape_errors(loss, y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        loss()(np.zeros(y_true, "int32"), np.zeros(y_pred, "float32"))


@pytest.mark.parametrize("loss", [SegmentationCrossentropy, SegmentationFocal])
def test_number_of_class_weights_is_checked(loss):
    y_true, logits = batch()
    with pytest.raises(ValueError, match=r"2 weights.* 3 classes"):
        loss(class_weights=[1.0, 2.0])(y_true, logits)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (3, 4), (2, 3, 4, 2)])
def test_sample_weights_of_another_shape_are_an_error(shape):
    y_true, logits = batch()
    with pytest.raises(ValueError, match=r"`sample_weight`.*\(batch,\)"):
        SegmentationCrossentropy()(y_true, logits, np.ones(shape))


@pytest.mark.parametrize(
    ("loss", "own"),
    [
        (SegmentationCrossentropy, {"class_weights": (1.0, 2.0, 3.0)}),
        (SegmentationFocal, {"class_weights": (1.0, 2.0), "gamma": 1.5}),
        (SegmentationDice, {}),
        (SegmentationTversky, {"alpha": 0.25, "beta": 2.0}),
    ],
)
def test_config_names_every_argument_and_round_trips(loss, own):
    expected = {
        **own,
        "ignore_class": (-1, 255),
        "from_logits": False,
        "reduction": "sum",
        "name": "other",
        "dtype": "float64",
    }
    assert set(inspect.signature(loss).parameters) == set(expected)
    given = {**expected, "ignore_class": [-1, np.int64(255)]}
    if "class_weights" in own:
        given["class_weights"] = np.array(own["class_weights"])
    original = loss(**given)
    assert original.get_config() == expected
    through_json = json.loads(json.dumps(original.get_config()))
    assert loss.from_config(through_json).get_config() == expected
    by_keras = keras.losses.deserialize(keras.losses.serialize(original))
    assert type(by_keras) is loss
    assert by_keras.get_config() == expected


@pytest.mark.backend
def test_half_precision_is_recognized():
    assert _labels.precise_dtype(None) == "float32"
    assert _labels.precise_dtype("float64") == "float64"
    assert _labels.precise_dtype("mixed_bfloat16") == "float32"


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    ("jit_compile", "dtype"),
    [
        (True, "uint8"),
        pytest.param(False, "int32", marks=pytest.mark.slow),
        pytest.param("auto", "float32", marks=pytest.mark.slow),
    ],
)
def test_fit_and_evaluate(jit_compile, dtype):
    if BACKEND == "torch" and jit_compile is True:
        pytest.skip("torch.compile is not tried")
    images, masks = training_data(dtype)
    model = tiny_model()
    loss = SegmentationCrossentropy([1.0, 2.0, 1.5])
    model.compile(
        keras.optimizers.Adam(0.1), loss=loss, jit_compile=jit_compile
    )
    losses = model.fit(
        images, masks, batch_size=4, epochs=3, verbose=0
    ).history["loss"]
    assert losses[-1] < losses[0]
    logits = ops.convert_to_numpy(model(images))
    assert model.evaluate(images, masks, batch_size=8, verbose=0) == (
        pytest.approx(oracle(masks, logits, [1.0, 2.0, 1.5]), rel=1e-5)
    )
    weights = np.random.default_rng(1).random(masks.shape).astype("float32")
    assert model.evaluate(images, masks, 8, 0, sample_weight=weights) == (
        pytest.approx(
            oracle(masks, logits, [1.0, 2.0, 1.5], sample_weight=weights),
            rel=1e-5,
        )
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    ("loss", "jit_compile"),
    [
        pytest.param(
            loss,
            jit_compile,
            # Each case is slow to trace; by default, one is enough.
            marks=pytest.mark.slow
            if jit_compile or loss is not LOSSES[-1]
            else (),
        )
        for loss in LOSSES[1:]
        for jit_compile in (True, False)
    ],
)
def test_each_loss_in_fit_and_evaluate(loss, jit_compile):
    if BACKEND == "torch" and jit_compile is True:
        pytest.skip("torch.compile is not tried")
    images, masks = training_data()
    model = tiny_model()
    model.compile(
        keras.optimizers.Adam(0.1), loss=loss(), jit_compile=jit_compile
    )
    losses = model.fit(
        images, masks, batch_size=4, epochs=3, verbose=0
    ).history["loss"]
    assert losses[-1] < losses[0]
    assert model.evaluate(images, masks, batch_size=8, verbose=0) == (
        pytest.approx(
            expected_value(loss(), masks, ops.convert_to_numpy(model(images))),
            rel=1e-5,
        )
    )


@pytest.mark.backend
@pytest.mark.parametrize(
    "loss",
    [
        LOSSES[0],
        *[pytest.param(loss, marks=pytest.mark.slow) for loss in LOSSES[1:]],
    ],
)
def test_mixed_precision_scales_the_loss_and_trains(loss):
    images, masks = training_data()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy(policy)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1))
    model.compile(optimizer, loss=loss(), jit_compile=False)
    losses = model.fit(images, masks, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert keras.backend.standardize_dtype(model(images).dtype) == "float16"


# Keras 3.15 uses a protocol for TensorFlow variables that NumPy 2 deprecates.
@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_keras_file_keeps_the_loss(tmp_path):
    images, masks = training_data()
    model = tiny_model(activation="softmax")
    loss = SegmentationCrossentropy([1, 2, 3], (7, 255), from_logits=False)
    model.compile("sgd", loss=loss, jit_compile=False)
    model.fit(images, masks, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == loss.get_config()
    assert again.evaluate(images, masks, verbose=0) == pytest.approx(
        model.evaluate(images, masks, verbose=0)
    )


@tensorflow_only
def test_stray_labels_stop_a_graph():
    import tensorflow as tf

    images, masks = training_data()
    masks[1, 2, 3] = 7
    masks[1, 2, 2] = 9
    model = tiny_model()
    model.compile("sgd", loss=SegmentationCrossentropy(), jit_compile=False)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"(?s)0\.\.2.*Found other labels:\].*7.*to.*9.*Add them",
    ):
        model.fit(images, masks, verbose=0)


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly")
def test_stray_labels_count_as_void_in_compiled_code():
    images, masks = training_data()
    stray = masks.copy()
    stray[:, 1] = 7
    expected = masks.copy()
    expected[:, 1] = 255
    model = tiny_model()
    model.compile("sgd", loss=SegmentationCrossentropy(), jit_compile=True)
    logits = ops.convert_to_numpy(model(images))
    assert model.evaluate(images, stray, batch_size=8, verbose=0) == (
        pytest.approx(oracle(expected, logits), rel=1e-5)
    )
    model.fit(images, stray, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.backend
@pytest.mark.numeric
@tensorflow_only
@pytest.mark.parametrize(
    "jit_compile", [True, pytest.param(False, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_unknown_sizes_in_a_graph(loss, jit_compile):
    import tensorflow as tf

    loss = loss()
    graph = tf.function(
        loss,
        input_signature=[
            tf.TensorSpec((None, None, None), tf.uint8),
            tf.TensorSpec((None, None, None, 3)),
            tf.TensorSpec((None,)),
        ],
        jit_compile=jit_compile,
    )
    for shape in [(2, 3, 4), (1, 5, 2)]:
        y_true, logits = batch(shape=shape)
        value = graph(y_true.astype("uint8"), logits, tf.ones(shape[0]))
        assert float(value) == pytest.approx(
            expected_value(loss, y_true, logits), rel=1e-5
        )


@pytest.mark.backend
@pytest.mark.numeric
def test_class_weights_as_a_dict_by_class_id():
    """The dict has the form of class_weight of `fit`; keys are class ids."""
    loss = SegmentationCrossentropy(class_weights={2: 1, 0: 0.2, 1: 4})
    np.testing.assert_allclose(loss.class_weights, (0.2, 4, 1), rtol=1e-6)
    for wrong in ({0: 1, 2: 1}, {"sky": 1}, "12x", [1e39, 1]):
        with pytest.raises(ValueError, match="`class_weights` must be"):
            SegmentationCrossentropy(class_weights=wrong)


BAD_WEIGHTS = [np.nan, -1.0, np.inf, -np.inf]


@pytest.mark.parametrize("weight", BAD_WEIGHTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_weights_that_are_none_are_an_error(loss, weight):
    y_true, logits = batch()
    weights = np.ones(y_true.shape, "float32")
    weights[1, 2, 3] = weight
    message = rf"`sample_weight` must hold finite numbers >= 0.*: {weight:g}\."
    with pytest.raises(ValueError, match=message):
        loss()(y_true, logits, weights)
    for per_image in ([1.0, weight], [weight, weight]):
        with pytest.raises(ValueError, match="`sample_weight`"):
            loss()(y_true, logits, np.float32(per_image))


@pytest.mark.parametrize("loss", LOSSES)
def test_complex_weights_are_an_error(loss):
    """A cast would silently drop the imaginary part."""
    y_true, logits = batch()
    weights = np.ones(y_true.shape, "complex64")
    for given in (weights, weights.tolist(), keras.ops.array([1 + 2j, 1])):
        with pytest.raises(ValueError, match="`sample_weight` must hold real"):
            loss()(y_true, logits, given)


@tensorflow_only
@pytest.mark.parametrize(
    ("loss", "weight"), list(zip(LOSSES, BAD_WEIGHTS, strict=True))
)
def test_weights_that_are_none_give_no_number_in_graphs(loss, weight):
    import tensorflow as tf

    y_true, logits = batch()
    weights = np.ones(y_true.shape, "float32")
    weights[0, 0, 0] = weight
    arguments = (tf.constant(y_true), logits, weights)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sample_weight"):
        tf.function(loss())(*arguments)
    # XLA cannot raise errors, but the loss must not look perfect.
    assert math.isnan(float(tf.function(loss(), jit_compile=True)(*arguments)))


@pytest.mark.backend
@pytest.mark.numeric
def test_weights_may_be_bool_or_int():
    y_true, logits = batch()
    weights = np.arange(y_true.size).reshape(y_true.shape) % 2
    for loss in LOSSES:
        expected = float(loss()(y_true, logits, weights.astype("float32")))
        for dtype in ("bool", "uint8", "int64"):
            value = loss()(y_true, logits, weights.astype(dtype))
            assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["False", 0, None, np.zeros(1)])
@pytest.mark.parametrize("loss", LOSSES)
def test_from_logits_is_a_bool(loss, value):
    with pytest.raises(ValueError, match="`from_logits` must be True or False"):
        loss(from_logits=value)


@pytest.mark.numeric
@pytest.mark.parametrize("loss", LOSSES)
def test_class_255_is_not_void_unasked(loss):
    y_true = np.array([[254, 255, 299, 0]])
    logits = np.random.default_rng(0).normal(size=(1, 4, 300))
    with pytest.raises(ValueError, match="`ignore_class` must not be its de"):
        loss()(y_true, logits)
    every = float(loss(ignore_class=None)(y_true, logits))
    assert every == pytest.approx(float(loss(ignore_class=-1)(y_true, logits)))
    # Users can request this explicitly.
    asked = loss(ignore_class=(255,))
    asked = loss.from_config(asked.get_config())
    assert float(asked(y_true, logits)) != pytest.approx(every)
    # The ids of 255 classes are 0..254.
    loss()(y_true[:, :2], logits[:, :2, :255])


@pytest.mark.backend
@pytest.mark.numeric
@tensorflow_only
@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_that_are_not_known_are_held_to_the_same_rule(loss):
    import tensorflow as tf

    graph = tf.function(
        loss(),
        input_signature=[
            tf.TensorSpec((None, None, None), tf.int32),
            tf.TensorSpec((None, None, None, 3)),
            tf.TensorSpec((None, None, None)),
        ],
    )
    y_true, logits = batch()
    ones = np.ones(y_true.shape, "float32")
    y_true = y_true.astype("int32")
    for weights in (ones, ones[:, :1, :1], ones[:1, :1, :1]):
        value = float(loss()(y_true, logits, weights))
        assert float(graph(y_true, logits, weights)) == pytest.approx(value)
    # One label or weight would be broadcast to all pixels.
    for labels, weights, name in (
        (y_true[:1, :1, :1], ones, "y_true"),
        (y_true.reshape(2, 4, 3), ones, "y_true"),
        (y_true, ones[:, :2], "sample_weight"),
    ):
        with pytest.raises(ValueError, match=name):
            loss()(labels, logits, weights)
        with pytest.raises(tf.errors.InvalidArgumentError, match=name):
            graph(labels, logits, weights)
