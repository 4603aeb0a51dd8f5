"""SegmentationCrossentropy against a slow NumPy definition, and its laws."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_deconv import labels
from keras_deconv.losses import SegmentationCrossentropy

BACKEND = keras.config.backend()
CLASS_WEIGHTS = (0.5, 2.0, 0.0)
tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow graphs"
)


def batch(seed=0, shape=(2, 3, 4), num_classes=3):
    """Labels with some void (255) and logits."""
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
):
    """The definition, pixel by pixel in float64."""
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
        losses[pixel] = -weight * math.log(probabilities[pixel][label])
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / max(num_counted, 1)


def value_and_gradient(loss, y_true, y_pred):
    """Loss and its gradient for `y_pred`, as NumPy arrays."""
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


def test_oracle_can_fail():
    y_true, logits = batch()
    right = oracle(y_true, logits)
    assert right != pytest.approx(oracle(y_true, logits, CLASS_WEIGHTS))
    kept = np.where(y_true == 255, 0, y_true)
    assert right != pytest.approx(oracle(kept, logits))


def test_value_and_gradient_of_a_known_case():
    loss = SegmentationCrossentropy()
    value, gradient = value_and_gradient(
        loss, np.array([[0, 255]]), np.zeros((1, 2, 2), "float32")
    )
    assert value == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient, [[[-0.5, 0.5], [0, 0]]], atol=1e-6)


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


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 4), (2, 2, 3, 2)])
@pytest.mark.parametrize("channel", [False, True])
def test_any_number_of_spatial_axes(shape, channel):
    y_true, logits = batch(shape=shape)
    received = y_true[..., None] if channel else y_true
    assert float(SegmentationCrossentropy()(received, logits)) == (
        pytest.approx(oracle(y_true, logits), rel=1e-5)
    )


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "int64", "float16", "float32"]
)
def test_label_dtypes(dtype):
    y_true, logits = batch()
    assert float(SegmentationCrossentropy()(y_true.astype(dtype), logits)) == (
        pytest.approx(oracle(y_true, logits), rel=1e-5)
    )


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


def test_without_void_every_label_is_a_class():
    y_true, logits = batch(num_classes=300)
    y_true[0, 0, 0] = 255
    loss = SegmentationCrossentropy(ignore_class=None)
    assert float(loss(y_true, logits)) == pytest.approx(
        oracle(y_true, logits, void=()), rel=1e-5
    )


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


def test_mean_with_sample_weight_divides_by_the_weights_that_count():
    y_true, logits = batch()
    weights = np.random.default_rng(1).random(y_true.shape).astype("float32")
    loss = SegmentationCrossentropy(reduction="mean_with_sample_weight")
    total = oracle(y_true, logits, sample_weight=weights, reduction="sum")
    assert float(loss(y_true, logits, weights)) == pytest.approx(
        total / weights[y_true != 255].sum(), rel=1e-5
    )


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("garbage", [0.0, 1e30, np.inf, -np.inf, np.nan])
def test_void_is_as_good_as_removed(from_logits, garbage):
    y_true, logits = batch()
    y_pred = logits if from_logits else softmax(logits)
    counted = y_true != 255
    loss = SegmentationCrossentropy((1.0, 2.0, 3.0), from_logits=from_logits)
    kept, kept_gradient = value_and_gradient(
        loss, y_true[counted], y_pred[counted]
    )
    y_pred[~counted] = garbage
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    np.testing.assert_allclose(value, kept, rtol=1e-6)
    np.testing.assert_allclose(gradient[counted], kept_gradient, rtol=1e-5)
    assert not gradient[~counted].any()
    assert kept_gradient.any()


@pytest.mark.parametrize("size", [1.0, 1e38])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_void_alone_gives_zero(size, reduction):
    loss = SegmentationCrossentropy(reduction=reduction)
    logits = size * np.random.default_rng(0).normal(size=(1, 2, 2, 3))
    value, gradient = value_and_gradient(
        loss, np.full((1, 2, 2), 255), logits.astype("float32")
    )
    assert value == 0
    assert not gradient.any()


def test_large_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [3e4, -3e4]], "float16")
    value, gradient = value_and_gradient(
        SegmentationCrossentropy(), np.array([1, 0]), logits
    )
    assert value == pytest.approx(1e4, rel=1e-3)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_half_precision_is_raised(dtype):
    y_true, logits = batch(shape=(4, 256, 256))
    loss = SegmentationCrossentropy(dtype=dtype, reduction="sum")
    value = loss(y_true, logits.astype("float16"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert float(value) > 65504  # The largest float16.


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"class_weights": [1.0, -1.0]}, r"-1\.0"),
        ({"class_weights": [1.0, math.nan]}, "nan"),
        ({"class_weights": [1.0, math.inf]}, "inf"),
        ({"class_weights": "weights"}, "'weights'"),
        ({"class_weights": 3.0}, r"3\.0"),
        ({"ignore_class": 2.5}, r"2\.5"),
        ({"ignore_class": "void"}, "'void'"),
    ],
)
def test_constructor_errors(arguments, found):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be.*{name}=.*{found}"):
        SegmentationCrossentropy(**arguments)


def test_unknown_reduction_is_an_error():
    with pytest.raises(ValueError, match="reduction=median"):
        SegmentationCrossentropy(reduction="median")


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
def test_stray_labels_are_an_error(dtype, stray, found):
    if dtype == "int64" and BACKEND == "jax":
        pytest.skip("JAX has no int64 here; it takes 2**32 for 0")
    y_true, logits = batch()
    y_true = y_true.astype(dtype)
    y_true[0, 1, 2] = stray
    with pytest.raises(
        ValueError, match=rf"0\.\.2.*ignore_class=255.*{found}\. Add them"
    ):
        SegmentationCrossentropy()(y_true, logits)


def test_many_stray_labels_are_not_all_listed():
    y_true = np.arange(3, 27).reshape(2, 3, 4)
    with pytest.raises(ValueError, match=r"3, 4, .*, 12, \.\.\.\. Add"):
        SegmentationCrossentropy()(y_true, batch()[1])


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ((2, 3, 4, 3), (2, 3, 4, 3), r"One-hot.*ops\.argmax"),
        ((2, 4, 4), (2, 3, 4, 3), r"\(2, 4, 4\).*\(2, 3, 4, 3\)"),
        ((2, 4, 4, 1), (2, 3, 4, 3), r"\(2, 4, 4, 1\).*\(2, 3, 4, 3\)"),
        ((2, 3), (2, 3, 4, 3), r"\(2, 3\).*\(2, 3, 4, 3\)"),
        ((2, 3, 4), (2, 3, 4, 1), "two or more classes.*BinaryCrossentropy"),
        ((), (), "two or more classes"),
    ],
)
def test_shape_errors(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        SegmentationCrossentropy()(
            np.zeros(y_true, "int32"), np.zeros(y_pred, "float32")
        )


def test_number_of_class_weights_is_checked():
    y_true, logits = batch()
    with pytest.raises(ValueError, match=r"2 weights.* 3 classes"):
        SegmentationCrossentropy([1.0, 2.0])(y_true, logits)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (3, 4), (2, 3, 4, 2)])
def test_sample_weights_of_another_shape_are_an_error(shape):
    y_true, logits = batch()
    with pytest.raises(ValueError, match=r"`sample_weight`.*\(batch,\)"):
        SegmentationCrossentropy()(y_true, logits, np.ones(shape))


def test_config_names_every_argument_and_round_trips():
    loss = SegmentationCrossentropy(
        class_weights=np.array([1.0, 2.0, 3.0]),
        ignore_class=[-1, np.int64(255)],
        from_logits=False,
        reduction="sum",
        name="other",
        dtype="float64",
    )
    expected = {
        "class_weights": (1.0, 2.0, 3.0),
        "ignore_class": (-1, 255),
        "from_logits": False,
        "reduction": "sum",
        "name": "other",
        "dtype": "float64",
    }
    assert loss.get_config() == expected
    through_json = json.loads(json.dumps(loss.get_config()))
    again = SegmentationCrossentropy.from_config(through_json)
    assert again.get_config() == expected
    by_keras = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(by_keras, SegmentationCrossentropy)
    assert by_keras.get_config() == expected


def test_half_precision_is_recognised():
    assert labels.precise_dtype(None) == "float32"
    assert labels.precise_dtype("float64") == "float64"
    assert labels.precise_dtype("mixed_bfloat16") == "float32"


@pytest.mark.parametrize(
    ("jit_compile", "dtype"),
    [(True, "uint8"), (False, "int32"), ("auto", "float32")],
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


def test_mixed_precision_scales_the_loss_and_trains():
    images, masks = training_data()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy(policy)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1))
    model.compile(optimizer, loss=SegmentationCrossentropy(), jit_compile=False)
    losses = model.fit(images, masks, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert keras.backend.standardize_dtype(model(images).dtype) == "float16"


# Keras 3.15 reads TensorFlow variables by a protocol that NumPy 2 deprecates.
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


@tensorflow_only
@pytest.mark.parametrize("jit_compile", [True, False])
def test_unknown_sizes_in_a_graph(jit_compile):
    import tensorflow as tf

    loss = SegmentationCrossentropy(CLASS_WEIGHTS)
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
            oracle(y_true, logits, CLASS_WEIGHTS), rel=1e-5
        )


def test_class_weights_as_a_dict_by_class_id():
    """As Keras' own class_weight; the keys are no weights."""
    loss = SegmentationCrossentropy(class_weights={2: 1, 0: 0.2, 1: 4})
    np.testing.assert_allclose(loss.class_weights, (0.2, 4, 1), rtol=1e-6)
    for wrong in ({0: 1, 2: 1}, {"sky": 1}, "12x", [1e39, 1]):
        with pytest.raises(ValueError, match="`class_weights` must be"):
            SegmentationCrossentropy(class_weights=wrong)
