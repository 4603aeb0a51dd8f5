"""What a GPU would do with the networks, and what it does where there is one.

The first part needs no GPU. It asks TensorFlow's registry, which knows the
kernels of all devices that it was built for, whether each operation of a
training step has one, whether results depend on the order of threads, and
whether an index would have to go through the memory of the host. The second
part, `pytest -n 0 -m gpu`, runs on one.
"""

import contextlib
import dataclasses
import functools
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

# Private, and used in these tests alone: there is no public list of kernels.
from tensorflow.python.framework import kernels as registry

from keras_deconv import config, losses, models, ops
from tests import networks

needs_gpu_kernels = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(),
    reason="this build of TensorFlow has no GPU kernels to look up",
)

# TensorFlow looks for a device's own kernel first.
GPU = ("GPU", "DEFAULT")
XLA = ("XLA_GPU_JIT",)

# No kernel on a GPU, and none needed.
ON_HOST = {
    ("Const", "string"): "the message of Assert",
}

# Operations with atomic additions, or others whose order is not fixed, on
# GPUs, as long as `tf.config.experimental.enable_op_determinism` is not called.
NONDETERMINISTIC = re.compile(
    "Scatter|Segment|MaxPool|Bincount|Histogram|ResizeBilinearGrad"
    "|ResizeNearestNeighborGrad|ResizeBicubicGrad|CropAndResize"
    "|SparseTensorDense|Conv.*Backprop|BiasAddGrad|SparseSoftmax|FusedBatchNorm"
    "|CTCLoss|DepthwiseConv"
)

# Those of Keras, in every network that convolves and classifies.
OF_KERAS = {
    "Conv2DBackpropFilter": "keras.layers.Conv2D: cuDNN may choose atomics",
    "Conv2DBackpropInput": "keras.layers.Conv2D: cuDNN may choose atomics",
    "BiasAddGrad": "keras.layers.Conv2D, use_bias: sums with atomics",
    "SparseSoftmaxCrossEntropyWithLogits": (
        "keras.ops.sparse_categorical_crossentropy: TensorFlow names it among "
        "what it makes deterministic"
    ),
    "MaxPool": "keras.layers.MaxPooling2D, in ENet's first block: cuDNN's",
}

# A window index in one byte tells up to so many cells apart: an integer tensor
# that is no larger is a table about one window, and not one entry per window.
LARGEST_TABLE = 256


@functools.cache
def _kernels(op_type):
    return tuple(registry.get_registered_kernels_for_op(op_type).kernel)


def _dtypes(attr):
    numbers = attr.list.type if attr.HasField("list") else [attr.type]
    return [tf.as_dtype(n) for n in numbers]


def _fits(kernel, attrs):
    return not kernel.label and all(
        set(_dtypes(attrs[c.name])) <= set(_dtypes(c.allowed_values))
        for c in kernel.constraint
    )


def _find_kernel(op, devices):
    op_type, attrs = op.type, op.node_def.attr
    if op_type == "Placeholder":  # An argument; it becomes another operation.
        op_type, attrs = "_Arg", {"T": attrs["dtype"]}
    for device in devices:
        for kernel in _kernels(op_type):
            if kernel.device_type == device and _fits(kernel, attrs):
                return kernel
    return None


@dataclasses.dataclass(frozen=True)
class Step:
    """An operation of a traced function, and where it is."""

    op: tf.Operation
    compiled: bool  # By XLA, as a part of what is compiled as a whole.
    constant: bool  # Computed from constants alone: once, before all steps.
    of_labels: bool  # Reads what was computed from class ids.

    def __str__(self):
        attrs = self.op.node_def.attr
        dtypes = ", ".join(
            f"{name}={'/'.join(d.name for d in _dtypes(attr))}"
            for name, attr in sorted(attrs.items())
            if attr.type or attr.list.type
        )
        where = " (in XLA)" * self.compiled
        return f"{self.op.type}({dtypes}){where}: {self.op.name}"


def _called(op):
    for attr in op.node_def.attr.values():
        yield from [attr.func] if attr.HasField("func") else attr.list.func


def walk(graph, compiled=False, labels=()):
    """Every operation of a graph and of all functions that it calls.

    Args:
        graph: `tf.Graph`.
        compiled: Whether XLA compiles it as a whole.
        labels: Names of the arguments that hold class ids.
    """
    constants, from_labels = set(), {f"{name}:0" for name in labels}
    for op in graph.get_operations():
        inputs = {x.name for x in op.inputs}
        outputs = {y.name for y in op.outputs}
        constant = op.type == "Const" or (bool(inputs) and inputs <= constants)
        of_labels = bool(inputs & from_labels)
        yield Step(op, compiled, constant, of_labels)
        if constant:
            constants |= outputs
        elif of_labels:
            # Selections by labels are no labels. Casts, even to floats, are.
            if not inputs <= from_labels | constants:
                outputs = {
                    y.name
                    for y in op.outputs
                    if y.dtype.is_integer or y.dtype.is_bool
                }
            from_labels |= outputs
        attrs = op.node_def.attr
        inside = compiled or (
            "_XlaMustCompile" in attrs and attrs["_XlaMustCompile"].b
        )
        for function in _called(op):
            # Private too; a graph has no public way to its functions.
            body = graph._get_function(function.name).graph
            yield from walk(body, inside)


def without_kernel(steps):
    """What has no kernel on a GPU, and not in XLA where that compiles."""
    return [
        str(step)
        for step in steps
        if _find_kernel(step.op, XLA if step.compiled else GPU) is None
        and not any(
            (step.op.type, y.dtype.name) in ON_HOST for y in step.op.outputs
        )
    ]


def nondeterministic(steps, allowed=()):
    """What may give another result each time."""
    return [
        str(step)
        for step in steps
        if NONDETERMINISTIC.search(step.op.type) and step.op.type not in allowed
    ]


def through_host(steps):
    """Where a GPU's kernel wants an integer tensor in the host's memory.

    Only tensors with an entry per window, or pixel: shapes and the like belong
    there. XLA has its own ways with what it compiles.
    """
    return [
        f"{step}, {argument} {x.dtype.name}{x.shape}"
        for step in steps
        if not step.compiled
        and not step.constant
        and step.op.type != "Placeholder"
        for argument, x in _host_tensors(step.op)
        if x.dtype.is_integer and _is_index_sized(x.shape)
    ]


def _is_index_sized(shape):
    if shape.rank is None:
        return True
    if shape.rank < 3:
        return False
    return (shape.num_elements() or np.inf) > LARGEST_TABLE


def _host_tensors(op):
    if any(True for _ in _called(op)):
        # No kernel says so, but TensorFlow takes it that functions want int32
        # there (memory_types.cc).
        for x in (*op.inputs, *op.outputs):
            if x.dtype == tf.int32:
                yield "argument", x
        return
    kernel = _find_kernel(op, GPU)
    if kernel is None:
        return
    for arguments, tensors in (
        (op.op_def.input_arg, op.inputs),
        (op.op_def.output_arg, op.outputs),
    ):
        rest = iter(tensors)
        for argument in arguments:
            attrs = op.node_def.attr
            count = 1
            if argument.number_attr:
                count = attrs[argument.number_attr].i
            elif argument.type_list_attr:
                count = len(attrs[argument.type_list_attr].list.type)
            for x in (next(rest) for _ in range(count)):
                if argument.name in kernel.host_memory_arg:
                    yield argument.name, x


@functools.cache
def _register_xla():
    """XLA tells its kernels when it first compiles."""
    tf.function(tf.negative, jit_compile=True)(tf.zeros(()))


def _trace(function, *specs):
    _register_xla()
    return tf.function(function, autograph=False).get_concrete_function(*specs)


@contextlib.contextmanager
def _ways(is_fused):
    """Compile all kernels, those of small tensors too, or none."""
    config.enable_compiled_kernels(is_fused, min_elements=0)
    try:
        yield
    finally:
        config.enable_compiled_kernels(True)


@contextlib.contextmanager
def _policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# The Bayesian ones are their parents, with dropout.
NETWORKS = {
    "SegNetBasic": functools.partial(models.SegNetBasic, dropout=0.5),
    "SegNet": functools.partial(models.SegNet, dropout=0.5),
    "DeconvNet": functools.partial(models.DeconvNet, fc_units=32),
    "ENet": models.ENet,
}


@functools.cache
def _training_step(network, policy, is_fused):
    """All steps of one training step: Keras does the same in `fit`."""
    image_size = (193, 209) if network == "DeconvNet" else (32, 48)
    with (
        pytest.MonkeyPatch.context() as patch,
        _ways(is_fused),
        _policy(policy),
    ):
        # The same operations on fewer channels.
        networks.make_slim(patch)
        model = NETWORKS[network]((*image_size, 3), 4)
        optimizer = keras.optimizers.Adam()
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        loss_of = losses.SegmentationCrossentropy(class_weights=[1, 2, 3, 4])

        def train(images, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(images, training=True))
                scaled = optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        return _trace(
            train,
            tf.TensorSpec((None, *image_size, 3), "float32", "images"),
            # As `data.load` gives them.
            tf.TensorSpec((None, *image_size), "int32", "labels"),
        )


@functools.cache
def _steps(*case, compiled=False):
    graph = _training_step(*case).graph
    return list(walk(graph, compiled, labels=["labels"]))


all_training_steps = pytest.mark.parametrize(
    ("network", "policy", "is_fused"),
    [
        pytest.param(
            *case,
            id="-".join((*case[:2], way)),
            # They take ten seconds to trace.
            marks=pytest.mark.slow if network in ("DeconvNet", "ENet") else (),
        )
        for network in NETWORKS
        for policy in ("float32", "mixed_float16")
        for case, way in (
            ((network, policy, True), "fused"),
            ((network, policy, False), "plain"),
        )
        # Of the largest graph, once each way will do.
        if network != "ENet" or (policy == "float32") != (way == "fused")
    ],
)


@needs_gpu_kernels
@all_training_steps
def test_every_operation_has_a_gpu_kernel(network, policy, is_fused):
    steps = _steps(network, policy, is_fused)
    assert any(s.compiled for s in steps) == is_fused
    assert without_kernel(steps) == []


@needs_gpu_kernels
@all_training_steps
def test_xla_compiles_the_whole_step(network, policy, is_fused):
    """`fit` asks for that on a GPU, with jit_compile="auto"."""
    steps = _steps(network, policy, is_fused, compiled=True)
    assert without_kernel(steps) == []


@needs_gpu_kernels
@all_training_steps
def test_only_keras_own_operations_may_vary(network, policy, is_fused):
    steps = _steps(network, policy, is_fused)
    assert nondeterministic(steps, allowed=OF_KERAS) == []


@needs_gpu_kernels
@all_training_steps
def test_index_stays_on_the_device(network, policy, is_fused):
    steps = _steps(network, policy, is_fused)
    indices = [
        s for s in steps if any(y.dtype == tf.uint8 for y in s.op.outputs)
    ]
    assert indices
    assert through_host(s for s in steps if not s.of_labels) == []


@needs_gpu_kernels
@all_training_steps
def test_labels_stay_on_the_device(network, policy, is_fused):
    steps = _steps(network, policy, is_fused)
    assert through_host(s for s in steps if s.of_labels) == []


def _pool_and_unpool(overlap="sum", **window):
    def function(x):
        pooled, argmax = ops.max_pool_with_argmax(x, **window)
        return ops.max_unpool(pooled, argmax, **window, like=x, overlap=overlap)

    return function


# Gradients of all of them are taken too.
FUNCTIONS = {
    "valid": (2, _pool_and_unpool()),
    "same": (2, _pool_and_unpool(padding="same")),
    "1d": (1, _pool_and_unpool(padding="same")),
    "3d": (3, _pool_and_unpool(padding="same")),
    "channels first": (2, _pool_and_unpool(data_format="channels_first")),
    "overlap": (2, _pool_and_unpool(pool_size=3, strides=2, padding="same")),
    "mean": (2, _pool_and_unpool("mean", pool_size=3, strides=2)),
    "bed of nails": (2, ops.bed_of_nails_unpool),
    "nearest": (2, ops.nearest_unpool),
}


def _function_steps(name, dtype, is_fused, length):
    num_spatial_dims, function = FUNCTIONS[name]

    def with_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    sizes = [length] * num_spatial_dims
    shape = (None, 5, *sizes) if "first" in name else (None, *sizes, 5)
    with _ways(is_fused):
        traced = _trace(with_gradient, tf.TensorSpec(shape, dtype))
    return list(walk(traced.graph))


@needs_gpu_kernels
@pytest.mark.parametrize(
    ("dtype", "is_fused", "length"),
    [
        pytest.param("float32", True, 33, id="fused"),
        pytest.param("float16", True, 33, id="half fused"),
        pytest.param("float32", False, 33, id="plain"),
        pytest.param("float16", False, 33, id="half plain"),
        # Never fused, see `keras_deconv._kernels.fused`.
        pytest.param("float32", False, None, id="unknown size"),
    ],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_alone(name, dtype, is_fused, length):
    steps = _function_steps(name, dtype, is_fused, length)
    assert any(s.compiled for s in steps) == is_fused
    assert without_kernel(steps) == []
    assert nondeterministic(steps) == []
    assert through_host(steps) == []


# The checks are proved on what they are to find.


def _tensorflow_pool(index_dtype):
    return lambda x: tf.nn.max_pool_with_argmax(
        x, 2, 2, "SAME", output_dtype=index_dtype
    )


def _scatter(x):
    return tf.scatter_nd(tf.zeros((4, 1), "int32"), x[0, :4, 0, 0], [9])


def _gather_gradient(x):
    x = tf.reshape(x, (-1,))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.gather(x, [0, 0])
    return tf.convert_to_tensor(tape.gradient(y, x))


def _segment_sum(x):
    return tf.math.unsorted_segment_sum(x, tf.argmax(x, -1), 3)


def _count_in_int32(x):
    return tf.cast(x > 0, tf.int32) + 1


def _in_branch(function):
    return lambda x: tf.cond(
        x[0, 0, 0, 0] > 0, lambda: function(x), lambda: function(-x)
    )


def _in_xla(function):
    return tf.function(function, jit_compile=True, autograph=False)


def _broken(function):
    traced = _trace(function, tf.TensorSpec((None, 8, 8, 3), "float32"))
    return list(walk(traced.graph))


@needs_gpu_kernels
@pytest.mark.parametrize(
    ("function", "found"),
    [
        (_tensorflow_pool(tf.int32), "MaxPoolWithArgmax"),
        (_in_branch(_tensorflow_pool(tf.int32)), "MaxPoolWithArgmax"),
        (_in_xla(_tensorflow_pool(tf.int64)), "MaxPoolWithArgmax"),
        (_in_xla(lambda x: tf.strings.length(tf.as_string(x))), "AsString"),
        (lambda x: tf.strings.length(tf.as_string(x)), "AsString"),
        (lambda x: tf.reduce_min(tf.cast(x, tf.int64)), "Min"),
    ],
)
def test_missing_kernels_are_found(function, found):
    missing = without_kernel(_broken(function))
    assert any(text.startswith(f"{found}(") for text in missing), missing


@needs_gpu_kernels
@pytest.mark.parametrize(
    ("function", "found"),
    [
        (_tensorflow_pool(tf.int64), "MaxPoolWithArgmax"),
        (_scatter, "ScatterNd"),
        (_in_branch(_scatter), "ScatterNd"),
        (_in_xla(_scatter), "ScatterNd"),
        (_gather_gradient, "UnsortedSegmentSum"),
        (_segment_sum, "UnsortedSegmentSum"),
    ],
)
def test_nondeterminism_is_found(function, found):
    steps = _broken(function)
    assert any(t.startswith(f"{found}(") for t in nondeterministic(steps))
    assert nondeterministic(steps, allowed=[found]) == []


@needs_gpu_kernels
@pytest.mark.parametrize(
    ("function", "found"),
    [
        (_count_in_int32, "AddV2"),
        (_in_branch(_count_in_int32), "AddV2"),
        (lambda x: _in_xla(_count_in_int32)(x), "PartitionedCall"),
        (lambda x: tf.reduce_sum(tf.cast(x, tf.int32)), "Sum"),
        (lambda x: tf.reshape(tf.cast(x, tf.int32), (-1,)), "Reshape"),
        (lambda x: tf.maximum(tf.cast(x, tf.int32), 0), "Maximum"),
        (lambda x: tf.cast(x, tf.int32) < 3, "Less"),
    ],
)
def test_ways_through_the_host_are_found(function, found):
    held = through_host(_broken(function))
    assert any(text.startswith(f"{found}(") for text in held), held


@needs_gpu_kernels
def test_what_stays_on_the_device_is_not_reported():
    def function(x):
        small = tf.cast(x > 0, tf.uint8)
        wide = tf.cast(small, tf.int64)
        return small + 1, tf.reduce_sum(wide), tf.shape(x) + 1

    steps = _broken(function)
    assert through_host(steps) == []
    assert without_kernel(steps) == []
    assert nondeterministic(steps) == []


# With a GPU.

WAYS = pytest.mark.parametrize(
    "is_fused", [True, False], ids=["fused", "plain"]
)
COPY_SHAPE = (8, 360, 480, 64)
COPY_RUNS = 20


def _gpu():
    """Name of the device; without one these tests fail, they do not skip."""
    if not tf.config.list_physical_devices("GPU"):
        pytest.fail("needs a GPU; TensorFlow finds none", pytrace=False)
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
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    # What is bright is one class, what is dark the other.
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


def _seconds(function, *tensors):
    function = tf.function(function, autograph=False)
    for _ in range(2):
        function(*tensors)
    tf.test.experimental.sync_devices()
    start = time.perf_counter()
    for _ in range(COPY_RUNS):
        function(*tensors)
    tf.test.experimental.sync_devices()
    return (time.perf_counter() - start) / COPY_RUNS


def _bytes(*tensors):
    return sum(x.dtype.size * int(tf.size(x)) for x in tensors)


@pytest.mark.gpu
def test_gpu_bandwidth(capsys):
    """Prints GB/s, counting what must be read and written once."""
    gpu = _gpu()
    lines = ["", f"{'GB/s':<24}{'float32':>10}{'float16':>10}"]
    rates = {}
    for dtype in ("float32", "float16"):
        with tf.device(gpu):
            x = tf.cast(tf.random.normal(COPY_SHAPE), dtype)
            pooled, argmax = ops.max_pool_with_argmax(x)
            # The negative reads and writes all; an identity copies nothing.
            seconds = _seconds(tf.negative, x)
            rates["copy", dtype] = 2 * _bytes(x) / seconds
            # Reads or writes `x`, and the reverse for the rest.
            moved = _bytes(x, pooled, argmax)
            for is_fused, way in ((True, "fused"), (False, "plain")):
                with _ways(is_fused):
                    seconds = _seconds(ops.max_pool_with_argmax, x)
                    rates[f"pool, {way}", dtype] = moved / seconds
                    seconds = _seconds(ops.max_unpool, pooled, argmax)
                    rates[f"unpool, {way}", dtype] = moved / seconds
            moved = _bytes(x, pooled)
            seconds = _seconds(lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), x)
            rates["tf.nn.max_pool2d", dtype] = moved / seconds
    for name in dict.fromkeys(name for name, _ in rates):
        row = (rates[name, dtype] / 1e9 for dtype in ("float32", "float16"))
        lines.append(f"{name:<24}" + "".join(f"{rate:>10.1f}" for rate in row))
    with capsys.disabled():
        print("\n".join(lines))
    assert min(rates.values()) > 0
