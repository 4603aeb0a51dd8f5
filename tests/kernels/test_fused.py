"""Kernels that XLA compiles separately, and when the plain ones run."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import config, ops
from keras_deconv._kernels import fused

pytestmark = pytest.mark.oldest

SHAPE = (2, 6, 8, 3)


@pytest.fixture(autouse=True)
def _fused_on(monkeypatch):
    # The tensors of the tests are below the default threshold.
    config.enable_compiled_kernels(min_elements=0)
    yield
    config.enable_compiled_kernels(True)


def there_and_back(x):
    pooled, argmax = ops.max_pool_with_argmax(x)
    y = ops.max_unpool(pooled, argmax, like=x)
    y = y + ops.nearest_unpool(pooled)
    return y + ops.bed_of_nails_unpool(pooled, position=1)


def with_gradient(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = there_and_back(x)
    return y, tape.gradient(y, x, output_gradients=tf.cos(y))


def num_compiled(graph_def):
    """Return how many functions of a graph require XLA."""
    return sum(
        function.attr["_XlaMustCompile"].b
        for function in graph_def.library.function
    )


def traced(function, shape=SHAPE):
    concrete = tf.function(function).get_concrete_function(
        tf.TensorSpec(shape, tf.float32)
    )
    return num_compiled(concrete.graph.as_graph_def())


def test_each_kernel_and_its_adjoint_is_compiled():
    assert traced(there_and_back) == 4
    # The adjoint of pooling is unpooling, which is already compiled.
    assert traced(with_gradient) == 7


def test_plain_kernels_where_sizes_are_open_or_switched_off():
    assert traced(with_gradient, (2, None, 8, 3)) == 0
    assert traced(with_gradient, (2, 6, 8, None)) == 0
    assert traced(with_gradient, (None, 6, 8, 3)) == 7
    config.enable_compiled_kernels(False)
    assert traced(with_gradient) == 0


@pytest.mark.parametrize(
    ("pool_size", "strides", "dtype"),
    [
        pytest.param(
            *window,
            dtype,
            # Windows and dtypes are independent of each other.
            marks=()
            if (window, dtype) in [((3, 2), "bfloat16"), ((2, 3), "float64")]
            else (pytest.mark.slow, pytest.mark.release),
        )
        for window in ((2, 2), (3, 2), (2, 3), (3, 1))
        for dtype in ("float16", "bfloat16", "float32", "float64")
    ],
)
def test_same_results_as_the_plain_kernels(pool_size, strides, dtype, rng):
    x = rng.integers(-3, 4, (2, 7, 8, 3)).astype("float64")
    x[rng.random(x.shape) < 0.1] = -np.inf
    x[rng.random(x.shape) < 0.05] = np.nan
    x = tf.cast(x, dtype)

    def function(x):
        results = []
        for overlap in ("sum", "mean"):
            options = dict(padding="same", pool_size=pool_size, strides=strides)
            with tf.GradientTape() as tape:
                tape.watch(x)
                pooled, argmax = ops.max_pool_with_argmax(x, **options)
                y = ops.max_unpool(
                    pooled, argmax, like=x, overlap=overlap, **options
                )
                total = tf.reduce_sum(y * y)
            results += [pooled, argmax, y, tape.gradient(total, x)]
        return results

    compiled = tf.function(function)(x)
    config.enable_compiled_kernels(False)
    plain = tf.function(function)(x)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(
            tf.cast(a, "float64"), tf.cast(b, "float64")
        )


def test_the_index_is_all_that_is_kept():
    """The backward pass only needs one byte per window."""

    @tf.function
    def function(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            pooled, argmax = ops.max_pool_with_argmax(x)
            y = ops.max_unpool(pooled, argmax)
        tf.identity(y, name="end_of_forward")
        return tape.gradient(y, x, output_gradients=upstream)

    for enabled in (True, False):
        config.enable_compiled_kernels(enabled, min_elements=0)
        spec = tf.TensorSpec(SHAPE, tf.float32)
        graph = function.get_concrete_function(spec, spec).graph
        operations = graph.get_operations()
        names = [operation.name for operation in operations]
        end = names.index("end_of_forward")
        kept = {
            tensor.ref()
            for operation in operations[end + 1 :]
            for tensor in operation.inputs
            if names.index(tensor.op.name) < end
            and tensor.op.type not in ("Const", "Placeholder")
        }
        tensors = [reference.deref() for reference in kept]
        sizes = [t.shape.num_elements() * t.dtype.size for t in tensors]
        # The backward pass may also keep shapes, of a few bytes.
        large = [t for t, n in zip(tensors, sizes, strict=True) if n > 64]
        assert {t.dtype for t in large} == {tf.uint8}
        assert {t.shape.num_elements() for t in large} == {2 * 3 * 4 * 3}
        # The same tensor may appear several times, through identities.
        assert {t.op.type for t in large} <= {
            *("Identity", "IdentityN", "StatefulPartitionedCall"),
            *("PartitionedCall", "StopGradient", "Reshape", "Cast", "AddV2"),
        }, large
        function = tf.function(function.python_function)


def test_small_tensors_are_left_alone(monkeypatch):
    config.enable_compiled_kernels(min_elements=6 * 8 * 3 + 1)
    assert traced(there_and_back, (1, 6, 8, 3)) == 0
    assert traced(there_and_back, (None, 6, 8, 3)) == 0
    assert traced(there_and_back, (2, 6, 8, 3)) == 4


def test_channels_first_with_an_open_batch(monkeypatch):
    config.enable_compiled_kernels(min_elements=6 * 8 * 64)

    def pool(x):
        return ops.max_pool_with_argmax(x, data_format="channels_first")

    assert traced(pool, (None, 3, 6, 8)) == 1
    assert traced(pool, (None, 3, 4, 8)) == 0


@pytest.mark.slow
def test_layers_of_equal_shape_share_one_function():
    before = fused._compiled.cache_info().currsize
    for _ in range(3):
        pool = keras_deconv.MaxPoolWithArgmax2D()
        for batch in (1, 2, 5):
            tf.function(pool)(tf.zeros((batch, 34, 38, 3)))
    assert fused._compiled.cache_info().currsize == before + 1


def test_eager_calls_compile_from_the_second_on(monkeypatch):
    kernels = []
    compiled = fused._compiled

    def watched(kernel, windows, options):
        kernels.append(kernel.__name__)
        return compiled(kernel, windows, options)

    monkeypatch.setattr(fused, "_compiled", watched)
    for height in range(40, 50, 2):  # New sizes each time.
        ops.max_pool_with_argmax(np.zeros((1, height, 4, 1), "float32"))
    assert kernels == []
    ops.max_pool_with_argmax(np.zeros((1, 40, 4, 1), "float32"))
    assert kernels == ["_pool"]


@pytest.mark.slow
def test_not_more_than_so_many_sizes_are_compiled():
    compiled = [
        traced(ops.max_pool_with_argmax, (1, height, 6, 7))
        for height in range(2, 2 * fused.MAX_SIZES + 8, 2)
    ]
    assert compiled == [1] * fused.MAX_SIZES + [0] * 3
    # A size that has been compiled stays compiled.
    assert traced(ops.max_pool_with_argmax, (1, 4, 6, 7)) == 1


def test_one_warning_where_xla_refuses(monkeypatch):
    fused._xla_takes.cache_clear()

    def refuse(*args, **kwargs):
        raise tf.errors.UnimplementedError(None, None, "no compiler here")

    x = np.arange(48, dtype="float32").reshape(1, 6, 8, 1)
    expected = there_and_back(tf.constant(x))
    with monkeypatch.context() as patch:
        patch.setattr(tf, "init_scope", refuse)
        with pytest.warns(UserWarning, match="no compiler here") as caught:
            fused._xla_takes(tf.float32)
    assert "plain kernels" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert traced(there_and_back) == 0  # The warning is not repeated.
        np.testing.assert_array_equal(there_and_back(tf.constant(x)), expected)
    fused._xla_takes.cache_clear()
    assert traced(there_and_back) == 4


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((6, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    outputs = keras.layers.Lambda(there_and_back, output_shape=(6, 8, 4))(x)
    return keras.Model(inputs, outputs)


def test_models_fuse_in_fit_and_predict(model, monkeypatch):
    """Kernels are compiled for every value of jit_compile."""
    kernels = set()
    compiled = fused._compiled

    def watched(kernel, windows, options):
        kernels.add(kernel.__name__)
        return compiled(kernel, windows, options)

    monkeypatch.setattr(fused, "_compiled", watched)
    x = np.random.default_rng(0).standard_normal((4, 6, 8, 3))
    for jit_compile in (False, "auto", True):
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(x, np.zeros((4, 6, 8, 4)), verbose=0)
        assert {"_pool", "unpool", "gather", "nearest_adjoint"} <= kernels
        kernels.clear()
        model.predict(x, verbose=0)
        assert {"_pool", "unpool", "nearest", "bed_of_nails"} <= kernels
        kernels.clear()


def saved_functions(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    return [num_compiled(m.graph_def) for m in saved.meta_graphs]


def test_files_hold_nothing_that_needs_a_compiler(model, tmp_path, rng, caplog):
    x = rng.standard_normal((2, 6, 8, 3)).astype("float32")
    expected = model.predict(x, verbose=0)  # Compiled, and traced before.
    model.export(tmp_path / "export", verbose=False)
    assert saved_functions(tmp_path / "export") == [0]
    loaded = tf.saved_model.load(tmp_path / "export")
    served = loaded.serve(x)
    assert "custom gradients" not in caplog.text
    np.testing.assert_allclose(served, expected, rtol=1e-6)
    tf.saved_model.save(model, tmp_path / "saved")
    assert saved_functions(tmp_path / "saved") == [0]


def test_tflite_uses_built_in_operations(model, rng):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    content = converter.convert()  # Only built-in operations by default.
    with warnings.catch_warnings():
        # TensorFlow warns that its interpreter moves to LiteRT.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    x = rng.standard_normal((1, 6, 8, 3)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("pool_size", "dtype"), [(2, "float32"), (3, "int32")])
def test_vectorized_map(pool_size, dtype, rng):
    """tf.vectorized_map ignores the value of tf.pad and pads with zeros."""
    x = tf.cast(rng.integers(-9, 0, (2, 5, 7, 3)), dtype)

    @tf.function
    def pool_one(image):
        pooled, argmax = ops.max_pool_with_argmax(
            image[None], pool_size, 2, "same"
        )
        return pooled[0], argmax[0]

    expected = ops.max_pool_with_argmax(x, pool_size, 2, "same")
    for y, right in zip(tf.vectorized_map(pool_one, x), expected, strict=True):
        np.testing.assert_array_equal(y, right)
