"""Exporting is a context, and compiled kernels are a switch."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import config, ops

pytestmark = [
    pytest.mark.oldest,
    pytest.mark.export,
    pytest.mark.usefixtures("compiled_kernels"),
    # TensorFlow says that its interpreter will move.
    pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter"),
]
SPEC = tf.TensorSpec((1, 6, 8, 2))


def there_and_back():
    """Return a new function to trace."""
    pool = keras_deconv.MaxPoolWithArgmax2D()
    unpool = keras_deconv.MaxUnpool2D()
    nearest = keras_deconv.NearestUnpool2D()
    nails = keras_deconv.BedOfNailsUnpool2D(position=1)

    @tf.function(input_signature=[SPEC])
    def function(images):
        pooled, argmax = pool(images)
        return unpool(pooled, argmax) + nearest(pooled) + nails(pooled)

    return function


def must_compile(function):
    """Functions that a graph asks XLA to compile."""
    definitions = function.graph.as_graph_def().library.function
    return [
        d.signature.name for d in definitions if d.attr["_XlaMustCompile"].b
    ]


def test_a_function_traced_while_exporting_converts(rng):
    function = there_and_back()
    with config.exporting():
        traced = function.get_concrete_function()
    assert must_compile(traced) == []
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced], function
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    x = rng.standard_normal(SPEC.shape).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    output = interpreter.get_output_details()[0]["index"]
    np.testing.assert_array_equal(
        interpreter.get_tensor(output), there_and_back()(x)
    )


def test_a_function_traced_before_keeps_its_compiled_kernels():
    function = there_and_back()
    before = function.get_concrete_function()
    assert must_compile(before)
    with config.exporting():
        assert function.get_concrete_function() is before


def test_the_context_ends_with_an_error_and_nests():
    assert not config.is_exporting()
    with contextlib.suppress(KeyError), config.exporting():
        with config.exporting():
            pass
        assert config.is_exporting()
        raise KeyError
    assert not config.is_exporting()
    assert must_compile(there_and_back().get_concrete_function())


@pytest.mark.parametrize(
    "overlap", ["sum", pytest.param("mean", marks=pytest.mark.slow)]
)
def test_eager_calls_and_gradients_are_the_usual_ones(overlap, rng):
    # Ties, where the gradient of a maximum would be shared.
    x = tf.constant(rng.integers(0, 3, (2, 5, 7, 3)).astype("float32"))
    weights = tf.constant(rng.standard_normal(x.shape).astype("float32"))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            pooled, argmax = ops.max_pool_with_argmax(x, 3, 2, "same")
            y = ops.max_unpool(
                pooled, argmax, 3, 2, "same", like=x, overlap=overlap
            )
            total = tf.reduce_sum(y * weights)
        return tape.gradient(total, x)

    usual = gradient(x)
    with config.exporting():
        eager = gradient(x)
        traced = tf.function(gradient, autograph=False)(x)
    np.testing.assert_array_equal(eager, usual)
    np.testing.assert_allclose(traced, usual, rtol=1e-6, atol=1e-6)


def test_switched_off_no_kernel_is_compiled():
    config.enable_compiled_kernels(False)
    assert must_compile(there_and_back().get_concrete_function()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(enabled="no"), "`enabled` must be True or False"),
        (dict(min_elements=-1), "`min_elements` must be an int >= 0"),
    ],
)
def test_mistakes(arguments, words):
    with pytest.raises(ValueError, match=words):
        config.enable_compiled_kernels(**arguments)
