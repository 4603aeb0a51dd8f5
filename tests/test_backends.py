"""Tests that must pass on every Keras backend, run on the current one.

CI also runs them with KERAS_BACKEND=jax and KERAS_BACKEND=torch.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_deconv
from tests import networks, oracles
from tests.paths import ROOT

pytestmark = [pytest.mark.backend, pytest.mark.oldest]


def as_numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.numeric
@pytest.mark.parametrize("index_format", ["window", "flat", "plane"])
@pytest.mark.parametrize("strides", [2, 3, 4])
def test_layers_equal_the_loops(index_format, strides, rng):
    x = rng.integers(-3, 4, (2, 7, 8, 3)).astype("float32")
    expected, _, plane = oracles.max_pool(x, (3, 3), (strides, strides), "same")
    options = dict(
        pool_size=3, strides=strides, padding="same", index_format=index_format
    )
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(**options)(x)
    np.testing.assert_array_equal(as_numpy(pooled), expected)
    for overlap in ("sum", "mean"):
        unpool = keras_deconv.MaxUnpool2D(**options, overlap=overlap)
        np.testing.assert_allclose(
            as_numpy(unpool(pooled, argmax, like=x)),
            oracles.max_unpool(expected, plane, (7, 8), overlap),
            rtol=1e-6,
        )


@pytest.mark.numeric
@pytest.mark.parametrize("index_format", ["window", "plane"])
def test_gradient_goes_to_the_first_maximum_alone(index_format):
    """If values tie, the gradient must not be split between them."""
    pool = keras_deconv.MaxPoolWithArgmax2D(index_format=index_format)
    unpool = keras_deconv.MaxUnpool2D(index_format=index_format)

    @keras.saving.register_keras_serializable("tests")
    class Learned(keras.layers.Layer):
        def build(self, shape):
            self.x = self.add_weight(shape=(1, 4, 4, 1), initializer="zeros")

        def call(self, inputs):
            pooled, argmax = pool(self.x + 0 * inputs)
            return unpool(pooled + 1, argmax)

    layer = Learned()
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    # The gradient of the sum is 1 at the first cell of each window.
    model.compile(
        keras.optimizers.SGD(1.0),
        loss=lambda y_true, y_pred: keras.ops.sum(y_pred),
        jit_compile=False,
    )
    zeros = np.zeros((1, 4, 4, 1), "float32")
    model.fit(zeros, zeros, verbose=0)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = -1
    np.testing.assert_array_equal(as_numpy(layer.x)[0, :, :, 0], expected)


@pytest.mark.numeric
def test_segnet_basic_trains(rng, tmp_path, monkeypatch):
    networks.make_slim(monkeypatch)
    model = keras_deconv.models.SegNetBasic((16, 24, 3), 3)
    x = rng.uniform(0, 255, (4, 16, 24, 3)).astype("float32")
    y = np.argmax(x, axis=-1)
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras_deconv.losses.SegmentationCrossentropy(),
        metrics=[keras_deconv.metrics.MeanIoU(3)],
    )
    history = model.fit(x, y, batch_size=2, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["mean_iou"][-1] > history["mean_iou"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4
    )


def test_data_feed_fit_on_every_backend(rng):
    """Datasets are tf.data pipelines on every backend."""
    tf = pytest.importorskip("tensorflow")
    examples = tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.integers(0, 255, (4, 16, 16, 3)).astype("uint8"),
            "segmentation_mask": rng.integers(1, 4, (4, 16, 16, 1)).astype(
                "uint8"
            ),
        }
    )
    pairs = keras_deconv.data.segmentation_pairs(
        examples, "oxford_iiit_pet", image_size=16, batch_size=2
    )
    model = networks.one_stage((16, 16), 3)
    model.compile("adam", keras_deconv.losses.SegmentationCrossentropy())
    history = model.fit(pairs, epochs=1, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()


def test_overlapping_layers_train(rng):
    """AlexNet and ResNet have 3x3 windows with strides of 2."""
    inputs = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    window = dict(pool_size=3, strides=2, padding="same")
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(**window)(x)
    y = keras_deconv.MaxUnpool2D(overlap="mean", **window)(
        pooled, argmax, like=x
    )
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(y))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x = rng.standard_normal((8, 9, 9, 2)).astype("float32")
    losses = model.fit(x, x, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_nan_wins_and_is_found():
    nan, inf = np.nan, np.inf
    windows = [[nan, 1, 2, 3], [1, 3, nan, inf], [inf, nan, 0, 1], [1, 1, 0, 0]]
    x = np.array(windows, "float32").reshape(4, 2, 2, 1)
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(x)
    np.testing.assert_array_equal(np.ravel(as_numpy(pooled)), [nan] * 3 + [1])
    assert np.ravel(as_numpy(argmax)).tolist() == [0, 2, 0, 0]


def test_half_precision(rng):
    x = rng.integers(-3, 4, (2, 5, 5, 3)).astype("float32")
    for policy, dtype in (
        ("mixed_float16", "float16"),
        ("mixed_bfloat16", "bfloat16"),
    ):
        pool = keras_deconv.MaxPoolWithArgmax2D(padding="same", dtype=policy)
        unpool = keras_deconv.MaxUnpool2D(padding="same", dtype=policy)
        pooled, argmax = pool(x)
        y = unpool(pooled, argmax, like=x)
        standard = keras.backend.standardize_dtype
        assert standard(pooled.dtype) == standard(y.dtype) == dtype
        assert standard(argmax.dtype) == "uint8"
        expected, _, plane = oracles.max_pool(x, (2, 2), (2, 2), "same")
        np.testing.assert_array_equal(
            as_numpy(keras.ops.cast(y, "float32")),
            oracles.max_unpool(expected, plane, (5, 5)),
        )


ON_NUMPY = """
import sys
import keras, numpy as np
import keras_deconv
from keras_deconv.layers import CropLike2D

assert keras.config.backend() == "numpy"
folder = sys.argv[1]
model = keras.saving.load_model(f"{folder}/model.keras")
known = np.load(f"{folder}/known.npz")
found = model.predict(known["x"], verbose=0)
np.testing.assert_allclose(found, known["y"], rtol=1e-4, atol=1e-4)
for rank in (1, 2, 3):
    layers = {
        name: getattr(keras_deconv, f"{name}{rank}D")(padding="same")
        for name in "MaxPoolWithArgmax MaxUnpool NearestUnpool BedOfNailsUnpool"
        .split()
    }
    x = known["x"][:, :9, :9].reshape(2, *[3] * rank, -1)
    pooled, argmax = layers["MaxPoolWithArgmax"](x)
    y = layers["MaxUnpool"](pooled, argmax, like=x)
    # Each maximum is where it was.
    assert y.shape == x.shape and (y != 0).any()
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    assert layers["NearestUnpool"](pooled, like=x).shape == x.shape
    assert layers["BedOfNailsUnpool"](pooled, like=x).shape == x.shape
assert CropLike2D()(known["x"], known["x"][:, :2, :3]).shape == (2, 2, 3, 3)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="once is enough"
)
def test_numpy_backend_predicts(rng, tmp_path):
    model = keras_deconv.models.SegNetBasic(
        (None, None, 3), 3, filters=(4, 4), kernel_size=3
    )
    x = rng.uniform(0, 255, (2, 9, 10, 3)).astype("float32")
    np.savez(tmp_path / "known.npz", x=x, y=model(x))
    model.save(tmp_path / "model.keras")
    subprocess.run(
        [sys.executable, "-c", ON_NUMPY, tmp_path],
        check=True,
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "numpy"},
    )
