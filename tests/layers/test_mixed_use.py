"""The layers together with other features of Keras and TensorFlow."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import ops

pytestmark = [pytest.mark.oldest]


@pytest.mark.numeric
@pytest.mark.parametrize("index_format", ["window", "flat"])
@pytest.mark.parametrize("strides", [1, 2])
def test_second_derivatives(index_format, strides, rng):
    """d2/dx2 of sum(unpool(pool(x))^3) is 6 * count^3 * x."""
    x = tf.constant(rng.standard_normal((1, 4, 6, 2)))
    window = dict(pool_size=2, strides=strides, index_format=index_format)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            pooled, argmax = ops.max_pool_with_argmax(x, **window)
            y = ops.max_unpool(pooled, argmax, like=x, **window)
            total = tf.reduce_sum(y**3)
        first = inner.gradient(total, x)
    second = outer.gradient(first, x)
    ones = ops.max_unpool(tf.ones_like(pooled), argmax, like=x, **window)
    # Each chosen cell holds count * x, so the sum of cubes is count^3 x^3.
    np.testing.assert_allclose(first, 3 * ones**3 * x**2)
    np.testing.assert_allclose(second, 6 * ones**3 * x)


def test_sequential_and_time_distributed(rng):
    x = rng.standard_normal((2, 3, 4, 5, 2)).astype("float32")
    for layer in (
        keras_deconv.NearestUnpool2D(),
        keras_deconv.BedOfNailsUnpool2D(position=1),
    ):
        frames = keras.layers.TimeDistributed(layer)
        model = keras.Sequential([keras.Input((3, 4, 5, 2)), frames])
        assert model.output_shape == (None, 3, 8, 10, 2)
        y = model.predict(x, verbose=0)
        for frame in range(3):
            np.testing.assert_array_equal(y[:, frame], layer(x[:, frame]))


def test_video_frames_pool_as_volumes(rng):
    """3D layers replace TimeDistributed, which does not support two outputs."""
    x = rng.standard_normal((2, 3, 4, 6, 2)).astype("float32")
    pooled, argmax = keras_deconv.MaxPoolWithArgmax3D((1, 2, 2))(x)
    y = keras_deconv.MaxUnpool3D((1, 2, 2))(pooled, argmax)
    pool, unpool = (
        keras_deconv.MaxPoolWithArgmax2D(),
        keras_deconv.MaxUnpool2D(),
    )
    for frame in range(3):
        values, index = pool(x[:, frame])
        np.testing.assert_array_equal(argmax[:, frame], index)
        np.testing.assert_array_equal(y[:, frame], unpool(values, index))


def test_other_sizes_do_not_trace_again(rng):
    pool = keras_deconv.MaxPoolWithArgmax2D(padding="same")
    unpool = keras_deconv.MaxUnpool2D(padding="same")
    traces = []

    @tf.function(reduce_retracing=True)
    def there_and_back(x):
        traces.append(tuple(x.shape))
        return unpool(*pool(x), like=x)

    for size in ((5, 7), (6, 4), (9, 3), (1, 8), (2, 2)):
        x = rng.standard_normal((1, *size, 2)).astype("float32")
        y = there_and_back(tf.constant(x))
        np.testing.assert_array_equal(y, unpool(*pool(x), like=x))
    assert len(traces) == 2, traces


def test_inside_a_subclassed_model_and_a_clone(rng):
    inputs = keras.Input((None, None, 2))
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(inputs)
    outputs = keras_deconv.MaxUnpool2D(padding="same")(
        pooled, argmax, like=inputs
    )
    model = keras.Model(inputs, outputs)
    clone = keras.models.clone_model(model)
    x = rng.standard_normal((1, 5, 5, 2)).astype("float32")
    np.testing.assert_array_equal(model(x), clone(x))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.pool = keras_deconv.MaxPoolWithArgmax2D(padding="same")
            self.unpool = keras_deconv.MaxUnpool2D(padding="same")

        def call(self, x):
            return self.unpool(*self.pool(x), like=x)

    np.testing.assert_array_equal(Subclassed().predict(x, verbose=0), model(x))


def test_plain_tf_functions_say_nothing(caplog, capfd):
    """AutoGraph must not print a warning that asks users to report a bug."""

    @tf.function
    def there_and_back(x):
        pooled, argmax = ops.max_pool_with_argmax(x, index_format="plane")
        return ops.max_unpool(pooled, argmax, like=x, index_format="plane")

    there_and_back(tf.zeros((1, 4, 4, 1)))
    assert "AutoGraph" not in caplog.text + capfd.readouterr().err


DETERMINISTIC = """\
import sys
import keras, numpy as np, tensorflow as tf
import keras_deconv
tf.config.experimental.enable_op_determinism()
def run():
    keras.utils.set_random_seed(5)
    inputs = keras.Input((12, 12, 2))
    y = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    for index_format in ("window", "flat"):
        window = dict(pool_size=3, strides=2, index_format=index_format)
        pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(**window)(y)
        y = keras_deconv.MaxUnpool2D(**window)(pooled, argmax, like=y)
    y = keras_deconv.NearestUnpool2D()(keras.layers.Conv2D(4, 3)(y))
    y = keras_deconv.BedOfNailsUnpool2D()(y)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3)(y))
    model.compile("adam", "mse")
    x = np.random.default_rng(0).standard_normal((8, 12, 12, 2))
    y = np.zeros((8, 38, 38, 1))
    model.fit(x.astype("float32"), y, epochs=3, batch_size=4, verbose=0)
    return model.get_weights()
for a, b in zip(run(), run(), strict=True):
    if a.tobytes() != b.tobytes():
        sys.exit("two runs differ")
print("identical")
"""


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
def test_two_runs_are_identical_with_op_determinism():
    result = subprocess.run(
        [sys.executable, "-c", DETERMINISTIC], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == "identical"
