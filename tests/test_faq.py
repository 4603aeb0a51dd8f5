"""docs/faq.md: the errors on the page occur, and the solutions work."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_deconv
from keras_deconv import data, export, losses, metrics, models, visualize
from keras_deconv.visualize import default_palette
from tests.paths import ROOT

pytestmark = pytest.mark.docs

PAGE = (ROOT / "docs" / "faq.md").read_text()
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
ONE_LINE = " ".join(PAGE.split())
X = np.random.default_rng(0).normal(size=(2, 7, 7, 3)).astype("float32")

pool = keras_deconv.MaxPoolWithArgmax2D(padding="same")
unpool = keras_deconv.MaxUnpool2D(padding="same")


# --- Code as people write it without this package -----------------------------


class TensorFlowPool(layers.Layer):
    def call(self, x):
        return tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")


class ScatterUnpool(layers.Layer):
    """The usual recipe, with a size that is computed at run time."""

    def call(self, values, flat):
        shape = tf.shape(values, out_type=tf.int64) * [1, 2, 2, 1]
        first = tf.range(shape[0]) * tf.reduce_prod(shape[1:])
        index = tf.reshape(flat + tf.reshape(first, (-1, 1, 1, 1)), (-1, 1))
        y = tf.scatter_nd(
            index, tf.reshape(values, (-1,)), [tf.reduce_prod(shape)]
        )
        return tf.reshape(y, shape)


def compile_with_xla():
    function = tf.function(
        lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")[0],
        jit_compile=True,
    )
    function(X)


def pool_a_symbolic_tensor():
    tf.nn.max_pool_with_argmax(keras.Input((8, 8, 3)), 2, 2, "SAME")


def recipe_in_a_model():
    return ScatterUnpool()(*TensorFlowPool()(keras.Input((8, 8, 3))))


def convolve_after_the_recipe():
    layers.Conv2D(2, 1)(recipe_in_a_model())


def normalize_after_the_recipe():
    layers.BatchNormalization()(recipe_in_a_model())


def unpool_other_channels():
    _, flat = tf.nn.max_pool_with_argmax(X, 2, 2, "SAME")
    values = tf.zeros((2, 4, 4, 6))
    tf.scatter_nd(
        tf.reshape(flat, (-1, 1)), tf.reshape(values, (-1,)), [2 * 7 * 7 * 3]
    )


def concatenate_odd_sizes():
    inputs = keras.Input((89, 89, 3))
    y = layers.UpSampling2D()(layers.MaxPooling2D()(inputs))
    layers.Concatenate()([y, inputs])


def differentiate_with_int32():
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled, _ = tf.nn.max_pool_with_argmax(
            x, 2, 2, "SAME", output_dtype=tf.int32
        )
    tape.gradient(pooled, x)


def train_on_void():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss(np.array([[[0, 1], [2, 255]]]), np.zeros((1, 2, 2, 3)))


def pixel_classifier(loss):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1)])
    model.compile("sgd", loss)
    return model


def fit_with_class_weight():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pixel_classifier(loss).fit(
        np.zeros((2, 8, 8, 3)),
        np.zeros((2, 8, 8), "int32"),
        class_weight={0: 1.0, 1: 3.0},
        verbose=0,
    )


def mean_iou_of_logits():
    metric = keras.metrics.MeanIoU(3)
    metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 3)))


def convert_to_tflite():
    inputs = keras.Input((8, 8, 3), batch_size=1)
    model = keras.Model(inputs, TensorFlowPool()(inputs))
    tf.lite.TFLiteConverter.from_keras_model(model).convert()


class Error(NamedTuple):
    said: str  # a part of the message that the page shows, too
    kind: type[Exception]
    cause: Callable[[], None]


ERRORS = [
    Error(
        "No registered 'MaxPoolWithArgmax' OpKernel for XLA_",
        tf.errors.InvalidArgumentError,
        compile_with_xla,
    ),
    Error(
        "A KerasTensor cannot be used as input to a TensorFlow function",
        ValueError,
        pool_a_symbolic_tensor,
    ),
    Error(
        "unsupported operand type(s) for %: 'NoneType' and 'int'",
        TypeError,
        convolve_after_the_recipe,
    ),
    Error(
        "Shapes used to initialize variables must be fully-defined",
        ValueError,
        normalize_after_the_recipe,
    ),
    Error(
        "Dimensions [0,1) of indices[shape=[96,1]] must match dimensions [0,1)"
        " of updates[shape=[192]]",
        tf.errors.InvalidArgumentError,
        unpool_other_channels,
    ),
    Error(
        "A `Concatenate` layer requires inputs with matching shapes",
        ValueError,
        concatenate_odd_sizes,
    ),
    Error(
        "{{node MaxPoolGradWithArgmax}}",
        tf.errors.NotFoundError,
        differentiate_with_int32,
    ),
    Error(
        "Received a label value of 255 which is outside the valid range",
        tf.errors.InvalidArgumentError,
        train_on_void,
    ),
    Error(
        "only 0-dimensional arrays can be converted to Python scalars",
        TypeError,
        fit_with_class_weight,
    ),
    Error(
        "[Op:LogicalAnd]",
        tf.errors.InvalidArgumentError,
        mean_iou_of_logits,
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.said[:30])
def test_error_occurs_and_is_on_the_page(error):
    assert error.said in ONE_LINE
    with pytest.raises(error.kind, match=re.escape(error.said)):
        error.cause()


def test_tflite_does_not_convert_the_op(capfd):
    with pytest.raises(Exception, match="MaxPoolWithArgmax"):
        convert_to_tflite()
    said = "Some ops are not supported by the native TFLite runtime"
    # The converter prints the message. The exception says something else.
    assert said in capfd.readouterr().err
    assert said in PAGE


def test_hand_written_layer_is_unknown(tmp_path):
    path = tmp_path / "model.h5"
    layer = type("MaxPoolingWithArgmax2D", (layers.Layer,), {})()
    keras.Sequential([keras.Input((8, 8, 3)), layer]).save(path)
    with pytest.raises(ValueError, match=r"Unknown layer: .?MaxPoolingWith"):
        keras.models.load_model(path)
    assert "Unknown layer: MaxPoolingWithArgmax2D" in HEADINGS


# --- Solutions ----------------------------------------------------------------


def test_layers_compile_with_xla():
    @tf.function(jit_compile=True)
    def pool_and_unpool(x):
        pooled, argmax = pool(x)
        return unpool(pooled, argmax, like=x)

    y = np.asarray(pool_and_unpool(X))
    assert np.array_equal(y[y != 0], X[y != 0])
    assert np.count_nonzero(y) == 2 * 4 * 4 * 3


@pytest.mark.parametrize("size", [(8, 8), (None, None)])
def test_channels_are_known_after_unpooling(size):
    inputs = keras.Input((*size, 3))
    y = unpool(*pool(inputs), like=inputs)
    assert y.shape == (None, *size, 3)
    for layer in (
        *(layers.Conv2D(2, 1), layers.Conv2DTranspose(2, 2)),
        layers.BatchNormalization(),
    ):
        layer(y)


def test_like_keeps_values_in_their_columns():
    for width, is_slanted in ((8, False), (7, True)):
        x = X[:, :6, :7] if width == 7 else np.tile(X[:, :6, :1], (1, 1, 8, 1))
        x = x + np.linspace(0, 1, width, dtype="float32")[:, None]
        pooled, flat = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")
        slanted = np.asarray(ScatterUnpool()(pooled, flat))[:, :6, :width]
        is_kept = np.array_equal(slanted[slanted != 0], x[slanted != 0])
        assert is_kept != is_slanted
        y = keras_deconv.MaxUnpool2D(padding="same", index_format="flat")(
            pooled, flat, like=x
        )
        y = np.asarray(y)
        assert np.array_equal(y[y != 0], x[y != 0])
        assert np.count_nonzero(y) == np.size(pooled)


def test_like_restores_odd_sizes():
    inputs = keras.Input((89, 89, 3))
    pooled = layers.MaxPooling2D(padding="same")(inputs)
    y = keras_deconv.NearestUnpool2D(padding="same")(pooled, like=inputs)
    assert layers.Concatenate()([y, inputs]).shape == (None, 89, 89, 6)


def ops_of_gradient(function):
    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    graph = gradient.get_concrete_function(tf.TensorSpec((1, 8, 8, 3))).graph
    graph = graph.as_graph_def()
    nodes = [*graph.node]
    for inner in graph.library.function:
        nodes += inner.node_def
    return {node.op for node in nodes}


def test_gradient_does_not_use_the_op_of_the_message():
    assert "MaxPoolGrad" in ops_of_gradient(layers.MaxPooling2D())
    ours = ops_of_gradient(lambda x: keras_deconv.MaxPoolWithArgmax2D()(x)[0])
    assert "SelectV2" in ours
    assert not [op for op in ours if "Pool" in op or "Scatter" in op]


def test_void_is_left_out():
    masks = np.array([[[0, 1], [2, 255]]])
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 2, 2, 3)).astype("float32")
    of_the_others = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True
    )(masks.ravel()[:3], logits.reshape(4, 3)[:3])
    loss = losses.SegmentationCrossentropy()(masks, logits)
    np.testing.assert_allclose(loss, of_the_others, rtol=1e-5)


def test_masks_of_0_and_255(tmp_path):
    masks = np.full((8, 8), 255)
    masks[:4] = 0
    binary = keras.losses.BinaryCrossentropy(from_logits=True)
    assert float(binary(masks[None, ..., None], np.full((1, 8, 8, 1), 3))) < 0
    # A model that predicts background has nothing left to learn.
    logits = np.zeros((1, 8, 8, 2), "float32")
    logits[..., 0] = 20
    loss = losses.SegmentationCrossentropy()
    assert float(loss(masks[None], logits)) < 1e-6
    assert float(loss(np.where(masks == 255, 1, masks)[None], logits)) > 1
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        content = tf.io.encode_png(np.uint8(masks)[..., None])
        tf.io.write_file(str(tmp_path / folder / "1.png"), content)
    size = dict(image_size=(8, 8), batch_size=1)
    folders = (tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ValueError, match="foreground=255"):
        data.from_folders(*folders, classes=2, **size)
    [(_, read)] = data.from_folders(*folders, foreground=255, **size)
    assert np.array_equal(read[0], masks == 255)


@pytest.mark.slow
def test_class_weights_find_rare_pixels():
    rng = np.random.default_rng(0)
    masks = (rng.random((1, 64, 64)) < 0.03).astype("int32")
    images = rng.normal(size=(1, 64, 64, 1)) + 1.5 * masks[..., None]
    frequencies = data.class_frequencies(
        [(images, masks)], num_classes=2, verbose=0
    )
    weights = data.median_frequency_weights(frequencies)
    batches = tf.data.Dataset.from_tensors((images, masks)).repeat(60)
    found = []
    for class_weights in (None, weights):
        loss = losses.SegmentationCrossentropy(class_weights=class_weights)
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((64, 64, 1)), layers.Conv2D(2, 1)]
        )
        model.compile(keras.optimizers.Adam(0.1), loss)
        model.fit(batches, shuffle=False, verbose=0)
        predicted = np.asarray(model(images)).argmax(-1)
        found.append(predicted[masks == 1].mean())
    # Bayes' rule: 6 % without weights, 77 % with them.
    assert found[0] < 0.2
    assert found[1] > 0.6


def test_scores_show_that_only_background_is_predicted():
    masks = np.zeros((1, 10, 10), "int32")
    masks[0, 0, :3] = 1
    metric = metrics.MeanIoU(2)
    metric.update_state(masks, np.zeros_like(masks))
    scores = metric.per_class_by_name(["background", "object"])
    assert scores["object"] == 0
    assert scores["background"] == pytest.approx(0.97)


def test_color_mask_can_be_seen():
    mask = np.array([[0, 1], [2, 1]])
    colors = np.asarray(default_palette(3))
    assert np.array_equal(visualize.color_mask(mask), colors[mask])
    assert min(color.max() for color in colors) > 80 > mask.max()


def test_loss_takes_weights_of_classes():
    masks = np.zeros((2, 8, 8), "int32")
    masks[:, :4] = 1
    logits = np.tile(np.float32([1, 0]), (2, 8, 8, 1))
    of_0, of_1 = np.log1p(np.exp(-1)), np.log1p(np.exp(1))
    loss = losses.SegmentationCrossentropy(class_weights=[1, 3])
    # A sum over all pixels, divided by their number.
    expected = (of_0 + 3 * of_1) / 2
    np.testing.assert_allclose(loss(masks, logits), expected, rtol=1e-5)
    pixel_classifier(loss).fit(np.zeros((2, 8, 8, 3)), masks, verbose=0)


def test_mean_iou_takes_logits():
    masks, logits = np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 3))
    assert float(metrics.MeanIoU(3)(masks, logits)) == 1
    metric = keras.metrics.MeanIoU(3, sparse_y_pred=False)
    assert float(metric(masks, logits)) == pytest.approx(1)


@pytest.fixture
def small_model():
    return models.SegNetBasic((16, 24, 3), num_classes=2, filters=(4, 4))


@pytest.mark.slow
@pytest.mark.export
def test_tflite_files_have_built_in_ops_only(small_model, tmp_path):
    lite = pytest.importorskip("ai_edge_litert.interpreter")
    path = tmp_path / "model.tflite"
    export.to_tflite(small_model, path)
    # Without the delegate for TensorFlow's ops.
    interpreter = lite.Interpreter(
        str(path),
        experimental_op_resolver_type=(
            lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    run = interpreter.get_signature_runner("serving_default")
    logits = run(images=np.zeros((1, 16, 24, 3), "float32"))["logits"]
    assert logits.shape == (1, 16, 24, 2)
    assert b"Flex" not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.export
def test_onnx_files_have_standard_ops_only(small_model, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    export.to_onnx(small_model, tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert {node.domain for node in nodes} <= {"", "ai.onnx"}
    assert not {"MaxUnpool", "MaxPoolWithArgmax"} & {n.op_type for n in nodes}


LOAD = """
import pickle
import sys
{imports}
with open(sys.argv[1], "rb") as file:
    print(pickle.load(file).name)
"""


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["import keras", "import keras_deconv"])
def test_pickled_models_need_the_package(imports, tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, unpool(*pool(inputs)), name="pickled")
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(model))
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(imports=imports), path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if imports == "import keras_deconv":
        assert done.stdout == "pickled\n"
    else:
        assert done.returncode == 1
        assert "Could not locate class 'MaxPoolWithArgmax2D'" in done.stderr
        assert "Could not locate class 'MaxPoolWithArgmax2D'" in HEADINGS


def test_headings_are_not_repeated():
    assert len(set(HEADINGS)) == len(HEADINGS) > 20
