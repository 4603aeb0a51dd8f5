"""Training steps have GPU kernels, and run on a GPU.

The first part does not need a GPU: TensorFlow's registry lists the kernels of
all devices that it was built for. The second part, `pytest -n 0 -m gpu`, runs
on a GPU.
"""

import contextlib
import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

# Private, and used here alone: there is no public list of kernels.
from tensorflow.python.framework import kernels as registry

from keras_deconv import config, losses, models, ops
from tests import networks
from tests.seeds import SEED

WAYS = pytest.mark.parametrize(
    "is_fused",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["fused", "plain"],
)


@contextlib.contextmanager
def _ways(is_fused):
    """Compile the kernels of tensors of all sizes, or do not compile any."""
    config.enable_compiled_kernels(is_fused, min_elements=0)
    try:
        yield
    finally:
        config.enable_compiled_kernels()


@contextlib.contextmanager
def _policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# Without a GPU.


@functools.cache
def _kernels(op_type):
    return tuple(registry.get_registered_kernels_for_op(op_type).kernel)


def _dtypes(attr):
    numbers = attr.list.type if attr.HasField("list") else [attr.type]
    return {tf.as_dtype(number) for number in numbers}


def _has_kernel(op, devices):
    attrs = op.node_def.attr
    return any(
        kernel.device_type in devices
        and not kernel.label
        and all(
            _dtypes(attrs[c.name]) <= _dtypes(c.allowed_values)
            for c in kernel.constraint
        )
        for kernel in _kernels(op.type)
    )


def _without_kernel(graph, in_xla=False):
    """The operations of a graph that cannot run on a GPU, and in XLA there."""
    devices = ("XLA_GPU_JIT",) if in_xla else ("GPU", "DEFAULT")
    for op in graph.get_operations():
        # Arguments, and the messages of assertions.
        is_for_host = op.type == "Placeholder" or any(
            y.dtype == tf.string for y in op.outputs if op.type == "Const"
        )
        if not is_for_host and not _has_kernel(op, devices):
            yield f"{op.type}: {op.name}"
        attrs = op.node_def.attr
        is_compiled = "_XlaMustCompile" in attrs and attrs["_XlaMustCompile"].b
        for attr in attrs.values():
            functions = [attr.func] if attr.HasField("func") else attr.list.func
            for function in functions:
                # Private too; a graph has no public way to its functions.
                body = graph._get_function(function.name).graph
                yield from _without_kernel(body, in_xla or is_compiled)


def _trace(function, *specs):
    # XLA tells its kernels when it first compiles.
    tf.function(tf.negative, jit_compile=True)(tf.zeros(()))
    return tf.function(function, autograph=False).get_concrete_function(*specs)


needs_gpu_kernels = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(),
    reason="this build of TensorFlow has no GPU kernels to look up",
)


@pytest.mark.slow
@needs_gpu_kernels
@WAYS
def test_every_operation_of_a_training_step_has_a_gpu_kernel(
    is_fused, monkeypatch
):
    """By itself, and where `fit` compiles the whole step, as on a GPU."""
    networks.make_slim(monkeypatch)
    model = models.SegNetBasic((32, 48, 3), 4, dropout=0.5)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss_of = losses.SegmentationCrossentropy(class_weights=[1, 2, 3, 4])

    def train(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    with _ways(is_fused):
        graph = _trace(
            train,
            tf.TensorSpec((None, 32, 48, 3), "float32"),
            tf.TensorSpec((None, 32, 48), "int32"),
        ).graph
    assert list(_without_kernel(graph)) == []
    assert list(_without_kernel(graph, in_xla=True)) == []


@needs_gpu_kernels
def test_operations_without_a_gpu_kernel_are_found():
    """The usual recipe, which `fit` cannot compile."""

    def pool(x):
        return tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")

    graph = _trace(pool, tf.TensorSpec((None, 8, 8, 3), "float32")).graph
    [missing] = _without_kernel(graph, in_xla=True)
    assert missing.startswith("MaxPoolWithArgmax")
    compiled = tf.function(pool, jit_compile=True, autograph=False)
    graph = _trace(compiled, tf.TensorSpec((None, 8, 8, 3), "float32")).graph
    [missing] = _without_kernel(graph)
    assert missing.startswith("MaxPoolWithArgmax")


# With a GPU.


def _gpu():
    """Return the name of the GPU. Without one, these tests fail."""
    if not tf.config.list_physical_devices("GPU"):
        pytest.fail("TensorFlow does not find a GPU.", pytrace=False)
    return "/GPU:0"


def _results(x, device, is_fused, **window):
    """Pooling, unpooling and both gradients, as NumPy arrays."""

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            pooled, argmax = ops.max_pool_with_argmax(x, **window)
            y = ops.max_unpool(pooled * 2, argmax, **window, like=x)
        gradient = tape.gradient(y, x, output_gradients=x + 1)
        return pooled, argmax, y, gradient

    with _ways(is_fused), tf.device(device):
        results = run(tf.identity(x))
    wanted = device.strip("/").split(":")[0]
    assert all(wanted in y.device for y in results), results[0].device
    return [y.numpy() for y in results]


@pytest.mark.gpu
@WAYS
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "window",
    [dict(), dict(padding="same"), dict(pool_size=3, strides=3)],
    ids=str,
)
def test_gpu_equals_cpu(is_fused, dtype, window, rng):
    gpu = _gpu()
    # Ties, infinities and NaN; no sums of more than one number.
    x = rng.integers(-3, 4, (2, 33, 47, 5)).astype(dtype)
    x[0, :9][rng.random(x[0, :9].shape) < 0.2] = -np.inf
    x[1, :9][rng.random(x[1, :9].shape) < 0.1] = np.nan
    for a, b in zip(
        _results(x, gpu, is_fused, **window),
        _results(x, "/CPU:0", is_fused, **window),
        strict=True,
    ):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.gpu
@WAYS
def test_gpu_repeats_itself(is_fused, rng):
    """To the bit, without asking TensorFlow for determinism."""
    gpu = _gpu()
    x = rng.normal(size=(4, 91, 119, 16)).astype("float32")
    window = dict(pool_size=3, strides=2, padding="same")
    first = _results(x, gpu, is_fused, **window)
    for _ in range(3):
        for a, b in zip(
            first, _results(x, gpu, is_fused, **window), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def _fit(policy="float32", epochs=5):
    """Loss of each epoch, and the model."""
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    # Bright pixels are one class, dark pixels are the other.
    images = rng.integers(0, 256, (16, 6, 8, 1)).repeat(8, 1).repeat(8, 2)
    labels = (images[..., 0] > 127).astype("int32")
    images = images.repeat(3, -1).astype("float32")
    with _policy(policy):
        model = models.SegNetBasic((48, 64, 3), 2)
    model.compile("adam", losses.SegmentationCrossentropy(), jit_compile="auto")
    history = model.fit(
        images, labels, batch_size=4, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history["loss"], model


@pytest.mark.gpu
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_gpu_trains(policy):
    _gpu()
    history, model = _fit(policy)
    assert model.jit_compile
    assert np.isfinite(history).all()
    assert history[-1] < 0.8 * history[0], history


@pytest.mark.gpu
def test_gpu_trains_twice_the_same():
    """With op determinism, which lasts as long as the process does."""
    _gpu()
    code = """
import tensorflow as tf
from tests import test_gpu
tf.config.experimental.enable_op_determinism()
(a, one), (b, two) = test_gpu._fit(epochs=2), test_gpu._fit(epochs=2)
assert a == b, (a, b)
for v, w in zip(one.get_weights(), two.get_weights(), strict=True):
    assert (v == w).all()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
