"""Comparison of the metrics with slow NumPy definitions, and their laws."""

import inspect
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage, sparse, spatial

from keras_deconv.losses import SegmentationCrossentropy
from keras_deconv.metrics import (
    BoundaryF1,
    ClassAccuracy,
    GlobalAccuracy,
    MeanIoU,
)
from tests import bounds
from tests.paths import ROOT

pytestmark = pytest.mark.oldest

BACKEND = keras.config.backend()
METRICS = [GlobalAccuracy, ClassAccuracy, MeanIoU]
CLASS_METRICS = [ClassAccuracy, MeanIoU]
tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow graphs"
)


def batch(seed=0, shape=(2, 5, 6), num_classes=4):
    """Return labels with void (255), and logits; the last class is absent."""
    random = np.random.default_rng(seed)
    y_true = random.integers(0, num_classes - 1, shape)
    logits = random.normal(size=(*shape, num_classes)).astype("float32")
    logits += 2 * (y_true[..., None] == np.arange(num_classes))
    logits[..., -1] = -9
    y_true[random.random(shape) < 0.3] = 255
    return y_true, logits


def oracle(metric, y_true, predicted, num_classes, absent_classes="skip"):
    """Return the scores by definition, class by class, without void."""
    counted = y_true != 255
    y_true, predicted = y_true[counted], predicted[counted]
    if metric is GlobalAccuracy:
        return np.mean(y_true == predicted)
    scores = []
    for index in range(num_classes):
        true, found = y_true == index, predicted == index
        whole = true if metric is ClassAccuracy else true | found
        if whole.any():
            scores.append((true & found).sum() / whole.sum())
        elif absent_classes == "zero":
            scores.append(0.0)
    return np.mean(scores)


def score(metric, *update):
    metric.reset_state()
    metric.update_state(*update)
    return float(metric.result())


def matrix(metric):
    return np.asarray(metric.confusion_matrix)


def tiny_model(num_classes=3):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Conv2D(num_classes, 1)]
    )


def training_data():
    random = np.random.default_rng(0)
    images = random.normal(size=(8, 4, 4, 2)).astype("float32")
    masks = (images[..., 0] > 0).astype("uint8") + (images[..., 1] > 0)
    masks[:, 0] = 255
    return images, masks.astype("uint8")


def three_metrics(num_classes=3):
    return [metric(num_classes) for metric in METRICS]


@pytest.mark.backend
@pytest.mark.numeric
def test_oracle_can_fail():
    y_true, logits = batch()
    predicted = logits.argmax(-1)
    for metric in METRICS:
        right = oracle(metric, y_true, predicted, 4)
        assert right != pytest.approx(oracle(metric, y_true, predicted + 1, 4))
        with_void = np.where(y_true == 255, 0, y_true)
        assert right != pytest.approx(oracle(metric, with_void, predicted, 4))


def test_confusion_matrix_of_a_known_case():
    metric = MeanIoU(2)
    metric.update_state([[0, 0, 0, 1, 1, 255]], [[0, 1, 1, 1, 7, 0]])
    assert matrix(metric).tolist() == [[1, 2, 0], [0, 1, 1]]


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("absent_classes", ["skip", "zero"])
def test_equals_definition(metric, absent_classes):
    y_true, logits = batch()
    has_policy = metric is not GlobalAccuracy
    policy = {"absent_classes": absent_classes} if has_policy else {}
    assert score(metric(4, **policy), y_true, logits) == pytest.approx(
        oracle(metric, y_true, logits.argmax(-1), 4, absent_classes)
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("metric", METRICS)
def test_counts_the_whole_set_not_batches(metric):
    first, second = batch(0, (1, 2, 3)), batch(1, (3, 5, 6))
    whole = metric(4)
    whole.update_state(*first)
    whole.update_state(*second)
    y_true = np.concatenate([first[0].ravel(), second[0].ravel()])
    logits = np.concatenate([first[1].reshape(-1, 4), second[1].reshape(-1, 4)])
    expected = oracle(metric, y_true, logits.argmax(-1), 4)
    assert float(whole.result()) == pytest.approx(expected)
    mean = (score(metric(4), *first) + score(metric(4), *second)) / 2
    assert mean != pytest.approx(expected)

    merged, other = metric(4), metric(4)
    merged.update_state(*first)
    other.update_state(*second)
    merged.merge_state([other])
    np.testing.assert_array_equal(matrix(merged), matrix(whole))
    merged.reset_state()
    assert not matrix(merged).any()
    assert score(merged, *first) == score(metric(4), *first)


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("label_dtype", ["uint8", "int32", "int64", "float32"])
@pytest.mark.parametrize("label_channel", [False, True])
@pytest.mark.parametrize("kind", ["logits", "half", "ids", "ids with channel"])
def test_forms_of_the_inputs(label_dtype, label_channel, kind):
    y_true, logits = batch()
    y_pred = {
        "logits": logits,
        "half": logits.astype("float16"),
        "ids": logits.argmax(-1),
        "ids with channel": logits.argmax(-1)[..., None].astype("uint8"),
    }[kind]
    received = y_true[..., None] if label_channel else y_true
    assert score(MeanIoU(4), received.astype(label_dtype), y_pred) == (
        pytest.approx(oracle(MeanIoU, y_true, logits.argmax(-1), 4))
    )


def test_probabilities_give_what_logits_give():
    y_true, logits = batch()
    probabilities = ops.softmax(logits)
    assert score(MeanIoU(4), y_true, logits) == (
        score(MeanIoU(4), y_true, probabilities)
    )


@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_scores_by_name(metric):
    metric = metric(3)
    metric.update_state([[0, 0, 0, 0]], [[0, 0, 0, 0]])
    named = {"sky": 1.0, "road": None, "car": None}
    assert metric.per_class_by_name(list(named)) == named
    assert json.loads(json.dumps(named)) == named
    for wrong in (("sky", "road"), ("sky", "road", "sky"), "abcd", "abc"):
        with pytest.raises(ValueError, match="`class_names` must be 3 dist"):
            metric.per_class_by_name(wrong)


@pytest.mark.backend
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("garbage", [0.0, np.inf, np.nan])
def test_void_is_as_good_as_removed(metric, garbage):
    y_true, logits = batch()
    counted = y_true != 255
    kept = score(metric(4), y_true[counted], logits[counted])
    logits[~counted] = garbage
    assert score(metric(4), y_true, logits) == kept
    # Sample weights of 0 have the same effect.
    y_true[~counted] = 1
    assert score(metric(4), y_true, logits, counted.astype("int32")) == kept
    assert score(metric(4), y_true, logits, counted) == kept
    assert score(metric(4), y_true, logits, 0.1 * counted[..., None]) == kept
    assert score(metric(4), y_true, logits) != kept


@pytest.mark.parametrize("metric", METRICS)
def test_nan_is_no_prediction(metric):
    """argmax of NaN would return class 0."""
    y_true, logits = batch()
    best = logits.argmax(-1)
    nan = np.random.default_rng(0).random(best.shape) < 0.3
    logits[nan, 1] = np.nan
    best[nan] = 4
    assert score(metric(4), y_true, logits) == score(metric(4), y_true, best)
    assert score(metric(4), y_true, logits * np.nan) == 0


def test_sample_weight_zero_removes_an_image():
    y_true, logits = batch()
    assert score(MeanIoU(4), y_true, logits, np.array([0.0, 2.0])) == (
        score(MeanIoU(4), y_true[1:], logits[1:])
    )


def test_several_void_labels():
    y_true, logits = batch()
    as_void = np.where(y_true == 1, 255, y_true)
    assert score(MeanIoU(4, ignore_class=(1, 255)), y_true, logits) == (
        score(MeanIoU(4), as_void, logits)
    )


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("metric", METRICS)
def test_prediction_outside_the_classes_is_wrong(metric):
    y_true, logits = batch()
    predicted = logits.argmax(-1)
    for outside in (4, 255, -1):
        predicted[0] = outside
        assert score(metric(4), y_true, predicted) == pytest.approx(
            oracle(metric, y_true, predicted, 4)
        )


@pytest.mark.backend
@pytest.mark.numeric
def test_void_output_of_a_net_is_wrong():
    y_true, logits = batch()
    void_output = np.full((*y_true.shape, 1), -9.0, "float32")
    void_output[0] = 9
    with_void = np.concatenate([logits, void_output], axis=-1)
    metric = GlobalAccuracy(4)
    assert score(metric, y_true, with_void) == pytest.approx(
        oracle(GlobalAccuracy, y_true, with_void.argmax(-1), 4)
    )
    assert matrix(metric)[:, 4].sum() == (y_true[0] != 255).sum()
    assert matrix(metric).sum() == (y_true != 255).sum()


@pytest.mark.backend
@pytest.mark.numeric
def test_absent_classes():
    """Class 2 does not occur, and class 1 only occurs in predictions."""
    y_true, y_pred = [[0, 0, 0, 0]], [[0, 0, 0, 1]]
    expected = {
        (ClassAccuracy, "skip"): 3 / 4,
        (ClassAccuracy, "zero"): 3 / 4 / 3,
        (MeanIoU, "skip"): 3 / 4 / 2,
        (MeanIoU, "zero"): 3 / 4 / 3,
    }
    for (metric, absent_classes), value in expected.items():
        received = score(
            metric(3, absent_classes=absent_classes), y_true, y_pred
        )
        assert received == pytest.approx(value), (metric, absent_classes)


@pytest.mark.backend
@pytest.mark.numeric
def test_per_class_is_nan_for_absent_classes():
    accuracy, iou = ClassAccuracy(3), MeanIoU(3)
    for metric in (accuracy, iou):
        metric.update_state([[0, 0, 0, 0]], [[0, 0, 0, 1]])
    np.testing.assert_allclose(
        ops.convert_to_numpy(accuracy.per_class()), [0.75, np.nan, np.nan]
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(iou.per_class()), [0.75, 0, np.nan]
    )


@pytest.mark.parametrize("metric", [*METRICS, BoundaryF1])
def test_nothing_counted_gives_zero(metric):
    metric = metric(3)
    assert float(metric.result()) == 0
    nothing = np.full((1, 2, 3), 255)
    assert score(metric, nothing, np.zeros((1, 2, 3), "int32")) == 0


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("size", [2**24, 2**31, 2**40])
def test_counts_stay_exact(size):
    if BACKEND == "jax" and size >= 2**31:
        pytest.skip("JAX has no int64 here")
    metric = GlobalAccuracy(2)
    metric.confusion_matrix.assign(
        ops.convert_to_tensor(np.full((2, 3), size), dtype="int64")
        if BACKEND != "jax"
        else np.full((2, 3), size, "int32")
    )
    metric.update_state([[0, 1, 1]], [[0, 0, 1]])
    expected = [[size + 1, size, size], [size + 1, size + 1, size]]
    assert matrix(metric).tolist() == expected
    if size < 2**31 and BACKEND == "jax":
        return
    assert int(ops.sum(metric.confusion_matrix)) == 6 * size + 3
    assert float(metric.result()) == pytest.approx(1 / 3)


def test_float32_counts_would_not_be_exact():
    """This proves that the test above can fail."""
    assert np.float32(2**24) + np.float32(1) == 2**24


@pytest.mark.backend
@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16"])
def test_half_precision_is_raised(dtype):
    metric = GlobalAccuracy(2, dtype=dtype)
    many = np.zeros((1, 300, 300), "int32")
    assert score(metric, many, many) == 1
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "`num_classes` must be an int >= 2.*=1"),
        ({"num_classes": 2.0}, r"`num_classes` must be.*=2\.0"),
        ({"num_classes": None}, "`num_classes` must be.*=None"),
        ({"num_classes": 3, "ignore_class": "x"}, "`ignore_class` must.*'x'"),
    ],
)
@pytest.mark.parametrize("metric", [*METRICS, BoundaryF1])
def test_constructor_errors(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(**arguments)


@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_unknown_absent_classes_policy_is_an_error(metric):
    with pytest.raises(ValueError, match=r"'skip'.*'zero'.*='nan'"):
        metric(3, absent_classes="nan")


@pytest.mark.parametrize(
    ("y_true", "y_pred", "dtype", "message"),
    [
        ((2, 3, 4, 3), (2, 3, 4, 3), "float32", r"one-hot.*argmax"),
        ((2, 4, 4), (2, 3, 4, 3), "float32", r"\(2, 4, 4\).*\(2, 3, 4, 3\)"),
        ((2, 3, 5), (2, 3, 4), "int32", r"\(2, 3, 5\).*\(2, 3, 4\)"),
        ((2, 3, 4), (2, 3, 4, 3), "int32", r"\(2, 3, 4\).*\(2, 3, 4, 3\)"),
        ((2, 3, 4), (2, 3, 4, 2), "float32", "at least num_classes=3"),
        ((2, 3, 4), (2, 3, 4), "float32", r"\(2, 3, 4\)"),
        ((2, 3, 2), (2, 3, 2), "float32", "Cast class ids to an integer"),
    ],
)
def test_shape_errors(y_true, y_pred, dtype, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(3).update_state(np.zeros(y_true, int), np.zeros(y_pred, dtype))


@pytest.mark.parametrize("metric", [*METRICS, BoundaryF1])
def test_stray_labels_are_an_error(metric):
    y_true, logits = batch()
    y_true[0, 0, 0] = 11
    with pytest.raises(ValueError, match=r"0\.\.3.*=255.*labels: 11\. Add"):
        metric(4).update_state(y_true, logits)


def test_sample_weights_of_another_shape_are_an_error():
    y_true, logits = batch()
    with pytest.raises(ValueError, match="`sample_weight`"):
        MeanIoU(4).update_state(y_true, logits, np.ones((5, 6)))


def test_merging_another_number_of_classes_is_an_error():
    with pytest.raises(ValueError, match="num_classes=4"):
        MeanIoU(3).merge_state([MeanIoU(4)])


@pytest.mark.parametrize("metric", [*METRICS, BoundaryF1])
def test_config_names_every_argument_and_round_trips(metric):
    expected = {
        "num_classes": 5,
        "ignore_class": (-1, 255),
        "name": "other",
        "dtype": "float64",
    }
    if metric in CLASS_METRICS:
        expected["absent_classes"] = "zero"
    if metric is BoundaryF1:
        expected["tolerance"] = 0.125
    assert set(inspect.signature(metric).parameters) == set(expected)
    original = metric(**expected)
    assert original.get_config() == expected
    through_json = json.loads(json.dumps(original.get_config()))
    assert metric.from_config(through_json).get_config() == expected
    by_keras = keras.metrics.deserialize(keras.metrics.serialize(original))
    assert type(by_keras) is metric
    assert by_keras.get_config() == expected


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    "jit_compile",
    [
        pytest.param(True, marks=[pytest.mark.slow, pytest.mark.release]),
        False,
        pytest.param("auto", marks=[pytest.mark.slow, pytest.mark.release]),
    ],
)
def test_fit_and_evaluate(jit_compile):
    if BACKEND == "torch" and jit_compile is True:
        pytest.skip("torch.compile is not tried")
    images, masks = training_data()
    model = tiny_model()
    model.compile(
        keras.optimizers.Adam(0.1),
        loss=SegmentationCrossentropy(),
        metrics=three_metrics(),
        weighted_metrics=[MeanIoU(3, name="weighted")],
        jit_compile=jit_compile,
    )
    weights = np.ones(masks.shape, "float32")
    weights[0] = 0
    history = model.fit(
        images,
        masks,
        batch_size=3,
        epochs=2,
        verbose=0,
        validation_data=(images, masks, weights),
    ).history
    predicted = ops.convert_to_numpy(model(images)).argmax(-1)
    for metric in METRICS:
        name = metric(3).name
        expected = oracle(metric, masks, predicted, 3)
        assert history[f"val_{name}"][-1] == pytest.approx(expected)
    results = model.evaluate(
        images, masks, 3, 0, sample_weight=weights, return_dict=True
    )
    assert results["mean_iou"] == history["val_mean_iou"][-1]
    assert results["weighted"] == pytest.approx(
        oracle(MeanIoU, masks[1:], predicted[1:], 3)
    )


def test_callbacks_take_the_highest_score(tmp_path):
    # Before Keras 3.11, two of the callbacks search the name for "acc".
    mode = "auto" if keras.version() >= "3.11" else "max"
    file = tmp_path / "best.keras"
    # Default names, and a name from the user.
    scores = [*three_metrics(), BoundaryF1(3, name="contours")]
    callbacks = {
        f"val_{score.name}": [
            keras.callbacks.EarlyStopping(f"val_{score.name}"),
            keras.callbacks.ModelCheckpoint(
                file, f"val_{score.name}", save_best_only=True, mode=mode
            ),
            keras.callbacks.ReduceLROnPlateau(f"val_{score.name}", mode=mode),
        ]
        for score in scores
    }
    images, masks = training_data()
    model = tiny_model()
    model.compile(
        loss=SegmentationCrossentropy(), metrics=scores, run_eagerly=True
    )
    model.fit(
        images,
        masks,
        verbose=0,
        validation_data=(images, masks),
        callbacks=[one for group in callbacks.values() for one in group],
    )
    for monitor, group in callbacks.items():
        for callback in group:
            for epoch, value in enumerate([2.0, 3.0, 1.0], start=1):
                callback.on_epoch_end(epoch, {monitor: value})
            assert callback.best == 3


@pytest.mark.backend
@pytest.mark.numeric
@bounds.needs_half_precision
def test_mixed_precision():
    images, masks = training_data()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy(policy)
    model.compile(
        loss=SegmentationCrossentropy(),
        metrics=three_metrics(),
        jit_compile=False,
    )
    results = model.evaluate(images, masks, verbose=0, return_dict=True)
    predicted = ops.convert_to_numpy(model(images)).argmax(-1)
    assert results["mean_iou"] == pytest.approx(
        oracle(MeanIoU, masks, predicted, 3)
    )


# Keras 3.15 uses a protocol for TensorFlow variables that NumPy 2 deprecates.
@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_keras_file_keeps_the_metrics(tmp_path):
    images, masks = training_data()
    model = tiny_model()
    model.compile(
        "sgd",
        loss=SegmentationCrossentropy(),
        metrics=[*three_metrics(), MeanIoU(3, 7, "zero", name="zero")],
        jit_compile=False,
    )
    masks[masks == 255] = 1
    model.fit(images, masks, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(images, masks, verbose=0) == pytest.approx(
        model.evaluate(images, masks, verbose=0)
    )


@tensorflow_only
def test_stray_labels_stop_a_graph():
    import tensorflow as tf

    images, masks = training_data()
    masks[1, 2, 3] = 7
    model = tiny_model()
    model.compile(
        loss=lambda y_true, y_pred: ops.mean(y_pred),
        metrics=[MeanIoU(3)],
        jit_compile=False,
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"(?s)0\.\.2.*7.*Add them"
    ):
        model.evaluate(images, masks, verbose=0)


@pytest.mark.backend
@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly")
def test_stray_labels_count_as_void_in_compiled_code():
    images, masks = training_data()
    stray = masks.copy()
    stray[:, 1] = 7
    masks[:, 1] = 255
    model = tiny_model()
    model.compile(
        loss=SegmentationCrossentropy(),
        metrics=three_metrics(),
        jit_compile=True,
    )
    received = model.evaluate(images, stray, verbose=0)
    assert received == model.evaluate(images, masks, verbose=0)


@pytest.mark.backend
@pytest.mark.numeric
@tensorflow_only
def test_update_in_a_graph_with_unknown_sizes():
    import tensorflow as tf

    metric = MeanIoU(4)
    update = tf.function(
        metric.update_state,
        input_signature=[
            tf.TensorSpec((None, None, None, 1), tf.uint8),
            tf.TensorSpec((None, None, None, 4)),
        ],
    )
    for shape in [(2, 5, 6), (1, 3, 2)]:
        y_true, logits = batch(shape=shape)
        metric.reset_state()
        update(y_true[..., None].astype("uint8"), logits)
        assert float(metric.result()) == pytest.approx(
            oracle(MeanIoU, y_true, logits.argmax(-1), 4)
        )


REPLICAS = """\
import keras, numpy as np, tensorflow as tf
from keras_deconv.losses import SegmentationCrossentropy
from keras_deconv.metrics import (
    BoundaryF1, ClassAccuracy, GlobalAccuracy, MeanIoU
)

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def evaluate():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1)]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=SegmentationCrossentropy(),
        metrics=[
            GlobalAccuracy(3), ClassAccuracy(3), MeanIoU(3),
            BoundaryF1(3, tolerance=0.2),
        ],
        jit_compile=False,
    )
    random = np.random.default_rng(0)
    images = random.normal(size=(8, 4, 4, 2)).astype("float32")
    masks = (images[..., 0] > 0).astype("uint8") + (images[..., 1] > 0)
    masks[:, 0] = 255
    masks = masks.astype("uint8")
    # As much void in every image: the mean over replicas is the whole.
    model.fit(images, masks, batch_size=4, shuffle=False, verbose=0)
    return model.evaluate(images, masks, batch_size=4, verbose=0)

alone = evaluate()
with strategy.scope():
    together = evaluate()
assert len(alone) == 5 and min(alone) > 0, alone
np.testing.assert_allclose(together, alone, rtol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.release
@tensorflow_only
def test_two_replicas_give_what_one_gives():
    root = str(ROOT)
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


def test_merge_state_takes_metrics_of_the_same_classes_only():
    for other in (
        MeanIoU(4),
        MeanIoU(3, ignore_class=0),
        keras.metrics.MeanIoU(3),
        BoundaryF1(3),
    ):
        with pytest.raises(ValueError, match="`metrics` must count the same"):
            MeanIoU(3).merge_state([other])


# ------------------------------------------------------------- BoundaryF1


def boundary(ids, true_ids, index):
    """Return the boundary of a class in an image, pixel by pixel."""
    result = np.zeros(ids.shape, bool)
    for row, column in np.ndindex(*ids.shape):
        for step in ((0, 1), (1, 0), (1, 1)):
            other = row + step[0], column + step[1]
            if other[0] == ids.shape[0] or other[1] == ids.shape[1]:
                continue
            if 255 in (true_ids[row, column], true_ids[other]):
                continue
            if (ids[row, column] == index) != (ids[other] == index):
                result[row, column] = True
    return result


def share_near(boundaries, others, distance):
    """Return the fraction of boundary pixels that are near other ones."""
    if not (boundaries.any() and others.any()):
        return 0.0
    distances = ndimage.distance_transform_edt(~others)
    return (distances[boundaries] <= distance + 1e-4).mean()


def boundary_oracle(y_true, predicted, num_classes, tolerance):
    """Return F1 by image and class, and NaN if it is not defined."""
    scores = np.full((len(y_true), num_classes), np.nan)
    distance = tolerance * np.hypot(*y_true.shape[1:])
    for image, index in np.ndindex(*scores.shape):
        true = boundary(y_true[image], y_true[image], index)
        found = boundary(predicted[image], y_true[image], index)
        if true.any():
            precision = share_near(found, true, distance)
            recall = share_near(true, found, distance)
            both = precision + recall
            scores[image, index] = 2 * precision * recall / both if both else 0
    return scores


def mean_over_images(scores):
    return np.mean([np.nanmean(s) for s in scores if not np.isnan(s).all()])


def patches(seed=0, shape=(3, 13, 17), num_classes=4, num_void=2):
    """Return masks of rectangles with void, and noisy, shifted predictions.

    Class 3 only occurs in the last image and in predictions.
    """
    random = np.random.default_rng(seed)
    coarse = random.integers(0, num_classes - 1, (shape[0], 4, 5))
    coarse[-1, 1, 1] = num_classes - 1
    y_true = coarse.repeat(4, axis=1).repeat(4, axis=2)
    y_true = y_true[:, : shape[1], : shape[2]].copy()
    predicted = np.roll(y_true, (1, 2), axis=(1, 2))
    noise = random.random(shape) < 0.05
    predicted[noise] = num_classes - 1
    for image in y_true:
        for _ in range(num_void):
            row, column = random.integers(0, shape[1]), random.integers(0, 9)
            image[row : row + 3, column : column + 4] = 255
    return y_true, predicted


def discs(center, radius, shape=(24, 30)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = np.hypot(rows - center[0], columns - center[1]) <= radius
    return inside.astype("int64")[None]


def check_that_void_hides_predictions(metric):
    y_true, predicted = patches()
    clean = score(metric, y_true, predicted)
    logits = np.eye(4, dtype="float32")[predicted]
    for garbage in (0, 2, 99):
        changed = np.where(y_true == 255, garbage, predicted)
        assert score(metric, y_true, changed) == clean
    for garbage in (np.nan, np.inf, 7.0):
        logits[y_true == 255] = garbage
        assert score(metric, y_true, logits) == clean
    assert score(metric, y_true, np.where(y_true == 255, predicted, 3)) != clean


def check_that_void_is_as_good_as_cut_off(metric):
    """Void margins must not change the score compared to a cropped image."""
    y_true, predicted = patches(num_void=0)
    margins = np.full(y_true.shape, 255)
    margins[:, 1:10, 4:15] = y_true[:, 1:10, 4:15]
    whole = metric(4, tolerance=1.9 / np.hypot(13, 17))
    cut = metric(4, tolerance=1.9 / np.hypot(9, 11))
    expected = score(cut, y_true[:, 1:10, 4:15], predicted[:, 1:10, 4:15])
    assert score(whole, margins, predicted) == pytest.approx(expected)
    np.testing.assert_allclose(
        ops.convert_to_numpy(whole.per_class()),
        ops.convert_to_numpy(cut.per_class()),
        rtol=1e-6,
    )


@pytest.mark.backend
@pytest.mark.numeric
def test_boundary_oracle_can_fail():
    y_true, predicted = patches()
    right = boundary_oracle(y_true, predicted, 4, 0.1)
    for wrong in (
        boundary_oracle(y_true, predicted, 4, 0.05),
        boundary_oracle(np.where(y_true == 255, 1, y_true), predicted, 4, 0.1),
        boundary_oracle(y_true, np.roll(predicted, 1, 1), 4, 0.1),
    ):
        assert mean_over_images(wrong) != pytest.approx(mean_over_images(right))


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize("tolerance", [0, 0.04, 0.05, 0.1, 0.15, 0.3, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_boundary_f1_equals_definition(tolerance, seed):
    y_true, predicted = patches(seed)
    metric = BoundaryF1(4, tolerance=tolerance)
    scores = boundary_oracle(y_true, predicted, 4, tolerance)
    assert score(metric, y_true, predicted) == pytest.approx(
        mean_over_images(scores), rel=1e-5
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(metric.per_class()),
        [np.nanmean(column) for column in scores.T],
        rtol=1e-5,
    )


@pytest.mark.numeric
@pytest.mark.parametrize("tolerance", [0.0075, 0.03, 0.08])
def test_boundary_f1_of_discs(tolerance):
    y_true = discs((11, 14), 7)
    for predicted in (discs((11, 14), 8.5), discs((12, 16), 7), 0 * y_true):
        expected = boundary_oracle(y_true, predicted, 2, tolerance)
        metric = BoundaryF1(2, tolerance=tolerance)
        assert score(metric, y_true, predicted) == pytest.approx(
            mean_over_images(expected), rel=1e-5
        )
    assert score(BoundaryF1(2, tolerance=tolerance), y_true, y_true) == 1
    nothing = score(BoundaryF1(2, tolerance=tolerance), y_true, 0 * y_true)
    assert nothing == 0


@pytest.mark.parametrize("scale", [1, 2, 10])
def test_a_distance_equal_to_the_tolerance_matches(scale):
    """The diagonal is 50 * scale pixels, and the shift is 5 * scale."""
    y_true = np.zeros((1, 30 * scale, 40 * scale), "int64")
    predicted = y_true.copy()
    y_true[0, 10, 10] = predicted[0, 10 + 3 * scale, 10 + 4 * scale] = 1
    assert score(BoundaryF1(2, tolerance=0.1), y_true, predicted) == 1
    assert score(BoundaryF1(2, tolerance=0.0999), y_true, predicted) < 1


def test_boundary_f1_bounds_one_to_one_matching_from_above():
    """The authors pair each pixel once, which gives slightly lower scores."""
    y_true, predicted = discs((11, 14), 7), discs((12, 15), 8)
    true, found = (
        np.argwhere(boundary(ids[0], y_true[0], 1))
        for ids in (y_true, predicted)
    )
    distance = 0.05 * np.hypot(*y_true.shape[1:])
    is_near = spatial.distance.cdist(true, found) <= distance
    pairs = sparse.csgraph.maximum_bipartite_matching(
        sparse.csr_matrix(is_near)
    )
    # F1 for P = pairs / found and R = pairs / true.
    one_to_one = 2 * (pairs >= 0).sum() / (len(true) + len(found))
    metric = BoundaryF1(2, tolerance=0.05)
    metric.update_state(y_true, predicted)
    several = float(metric.per_class()[1])
    assert one_to_one < several < one_to_one + 0.1


@pytest.mark.numeric
def test_classes_count_where_the_labels_have_a_boundary_of_them():
    y_true = np.zeros((3, 4, 4), "int64")  # The first image has no boundary.
    y_true[1, :, 2:] = 1
    y_true[2] = [
        [0, 255, 2, 2]
    ] * 4  # The last one only has a border with void.
    predicted = y_true.copy()
    predicted[0, 0, 0] = 2
    predicted[1, 3] = 2
    metric = BoundaryF1(3, tolerance=0)
    scores = boundary_oracle(y_true, predicted, 3, 0)
    assert np.isnan(scores).tolist() == [
        [True] * 3,
        [False, False, True],
        [True] * 3,
    ]
    assert score(metric, y_true, predicted) == pytest.approx(
        scores[1, :2].mean()
    )
    named = metric.per_class_by_name(("sky", "road", "car"))
    assert named["sky"] == pytest.approx(scores[1, 0])
    assert named["car"] is None


@pytest.mark.parametrize("kind", ["logits", "half", "channel"])
def test_boundary_f1_takes_what_other_metrics_take(kind):
    y_true, predicted = patches()
    y_pred = {
        "logits": np.eye(4, dtype="float32")[predicted],
        "half": np.eye(4, dtype="float16")[predicted],
        "channel": predicted[..., None].astype("uint8"),
    }[kind]
    metric = BoundaryF1(4, tolerance=0.1)
    expected = score(metric, y_true, predicted)
    assert score(metric, y_true.astype("uint8")[..., None], y_pred) == expected


@pytest.mark.numeric
def test_boundaries_at_void():
    check_that_void_hides_predictions(BoundaryF1(4, tolerance=0.1))
    check_that_void_is_as_good_as_cut_off(BoundaryF1)


class BoundariesOfVoid(BoundaryF1):
    """A broken metric that treats void as a class, as the authors do."""

    def _boundaries(self, ids, true_ids):
        return super()._boundaries(ids, ops.zeros_like(true_ids))


@pytest.mark.backend
@pytest.mark.numeric
def test_a_metric_that_sees_void_is_found():
    with pytest.raises(AssertionError):
        check_that_void_hides_predictions(BoundariesOfVoid(4, tolerance=0.1))
    with pytest.raises(AssertionError):
        check_that_void_is_as_good_as_cut_off(BoundariesOfVoid)


def test_weight_0_makes_void():
    y_true, predicted = patches(num_void=0)
    random = np.random.default_rng(1)
    weights = (random.random(y_true.shape) < 0.9) * 0.5
    metric = BoundaryF1(4, tolerance=0.1)
    expected = score(metric, np.where(weights, y_true, 255), predicted)
    assert score(metric, y_true, predicted, weights) == expected
    assert score(metric, y_true, predicted) != expected
    images = np.array([0.0, 2.0, 1.0])
    assert score(metric, y_true, predicted, images) == (
        score(metric, y_true[1:], predicted[1:])
    )


@pytest.mark.numeric
def test_boundary_f1_over_batches_and_merged():
    y_true, predicted = patches()
    whole = BoundaryF1(4, tolerance=0.1)
    expected = score(whole, y_true, predicted)
    parts, merged = BoundaryF1(4, tolerance=0.1), BoundaryF1(4, tolerance=0.1)
    for image in range(3):
        one = slice(image, image + 1)
        parts.update_state(y_true[one], predicted[one])
        other = BoundaryF1(4, tolerance=0.1)
        other.update_state(y_true[one], predicted[one])
        merged.merge_state([other])
    assert float(parts.result()) == pytest.approx(expected)
    assert float(merged.result()) == pytest.approx(expected)
    np.testing.assert_allclose(
        ops.convert_to_numpy(merged.per_class()),
        ops.convert_to_numpy(whole.per_class()),
        rtol=1e-6,
    )
    with pytest.raises(ValueError, match=r"`metrics` must.*tolerance=0\.1"):
        merged.merge_state([BoundaryF1(4)])
    merged.reset_state()
    assert float(merged.result()) == 0


def test_boundary_f1_errors():
    for shape in ((4,), (2, 4), (2, 3, 4, 5), (2, 3, 4, 5, 1)):
        with pytest.raises(ValueError, match=r"\(batch, height, width\)"):
            BoundaryF1(3).update_state(
                np.zeros(shape, int), np.zeros(shape, int)
            )
    for tolerance in (-0.1, 1, 4.5, np.nan, None, "wide"):
        with pytest.raises(ValueError, match=r"`tolerance` must.*tolerance="):
            BoundaryF1(3, tolerance=tolerance)


# Compilation takes ten seconds; the graphs below are compiled anyway.
@pytest.mark.slow
@pytest.mark.release
@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    "jit_compile", [pytest.param(True, marks=pytest.mark.slow), False]
)
def test_boundary_f1_in_fit_and_evaluate(jit_compile, tmp_path):
    if BACKEND == "torch" and jit_compile is True:
        pytest.skip("torch.compile is not tried")
    y_true, predicted = patches()
    images = np.eye(4, dtype="float16")[predicted]
    model = keras.Sequential(
        [keras.Input((None, None, 4)), keras.layers.Conv2D(4, 1)]
    )
    model.set_weights([np.eye(4)[None, None], np.zeros(4)])
    model.compile(
        keras.optimizers.SGD(1e-6),
        loss=SegmentationCrossentropy(),
        metrics=[BoundaryF1(4, tolerance=0.1)],
        jit_compile=jit_compile,
    )
    expected = pytest.approx(
        mean_over_images(boundary_oracle(y_true, predicted, 4, 0.1)), rel=1e-5
    )
    history = model.fit(
        images,
        y_true,
        batch_size=2,
        verbose=0,
        validation_data=(images, y_true),
    ).history
    assert history["boundary_f1"] == [expected]
    assert history["val_boundary_f1"] == [expected]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    results = again.evaluate(images, y_true, 2, verbose=0, return_dict=True)
    assert results["boundary_f1"] == expected


@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.numeric
@tensorflow_only
@pytest.mark.parametrize("jit_compile", [True, False])
def test_boundary_f1_in_a_graph_with_unknown_sizes(jit_compile):
    import tensorflow as tf

    metric = BoundaryF1(4, tolerance=0.15)
    update = tf.function(
        metric.update_state,
        input_signature=[
            tf.TensorSpec((None, None, None), tf.int32),
            tf.TensorSpec((None, None, None), tf.int32),
        ],
        jit_compile=jit_compile,
    )
    for shape in [(2, 9, 12), (1, 13, 17)]:
        y_true, predicted = patches(shape=shape)
        metric.reset_state()
        update(y_true.astype("int32"), predicted.astype("int32"))
        expected = boundary_oracle(y_true, predicted, 4, 0.15)
        assert float(metric.result()) == pytest.approx(
            mean_over_images(expected), rel=1e-5
        )


@pytest.mark.backend
def test_boundary_f1_under_half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        metric = BoundaryF1(2)
    finally:
        keras.config.set_dtype_policy(policy)
    stripes = np.zeros((1, 300, 400), "uint8")
    stripes[:, ::2] = 1  # More boundary pixels than float16 can count.
    assert score(metric, stripes, stripes.astype("int32")) == 1
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


@pytest.mark.parametrize("metric", [*METRICS, BoundaryF1])
def test_class_255_is_not_void_unasked(metric):
    with pytest.raises(ValueError, match="`ignore_class` must not be its de"):
        metric(256)
    for ignore_class in (None, -1, (255,)):
        assert metric(256, ignore_class=ignore_class).num_classes == 256
    assert metric(255).ignore_class == 255


@pytest.mark.parametrize("weight", [np.nan, -1.0, np.inf])
def test_weights_that_are_none_are_an_error(weight):
    y_true, logits = batch()
    weights = np.ones(y_true.shape, "float32")
    weights[0, 0, 0] = weight
    with pytest.raises(ValueError, match="`sample_weight` must hold finite"):
        MeanIoU(4).update_state(y_true, logits, weights)


@pytest.mark.parametrize("metric", [*METRICS, BoundaryF1])
def test_complex_weights_are_an_error(metric):
    y_true, logits = batch()
    weights = np.ones(y_true.shape[:1], "complex64")
    with pytest.raises(ValueError, match="`sample_weight` must hold real"):
        metric(4).update_state(y_true, logits, weights)
