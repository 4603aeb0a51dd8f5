"""Sizes that are known only at run time are checked by the same rules."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import ops

pytestmark = pytest.mark.oldest

VALUES = np.ones((1, 2, 3, 4), "float32")
INDEX = np.zeros((1, 2, 3, 4), "uint8")


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


# A function, arrays that it must refuse, and the argument in the error.
REFUSED = {
    "a window that does not fit": (
        ops.max_pool_with_argmax,
        [zeros(1, 1, 1, 2)],
        "`inputs`",
    ),
    "a window that does not fit, channels first": (
        lambda x: ops.max_pool_with_argmax(x, 3, data_format="channels_first"),
        [zeros(1, 9, 9, 2)],
        "`inputs`",
    ),
    "inputs without cells": (
        lambda x: ops.max_pool_with_argmax(x, padding="same"),
        [zeros(1, 0, 4, 2)],
        "`inputs` must not be empty",
    ),
    "inputs without channels": (
        ops.nearest_unpool,
        [zeros(1, 2, 2, 0)],
        "`values` must not be empty",
    ),
    "an index of another shape, as large": (
        ops.max_unpool,
        [VALUES, INDEX.reshape(1, 3, 2, 4)],
        "`argmax` must have the shape",
    ),
    "a position of another shape, as large": (
        lambda v, i: ops.max_unpool(v, i, index_format="plane"),
        [VALUES, INDEX.reshape(2, 1, 3, 4)],
        "`argmax` must have the shape",
    ),
    "an index of another number of channels": (
        ops.max_unpool,
        [VALUES, INDEX[..., :1]],
        "`argmax` must have the shape",
    ),
    "like of a size that does not pool to it": (
        lambda v, i, like: ops.max_unpool(v, i, like=like),
        [VALUES, INDEX, zeros(1, 6, 6, 1)],
        "The size to restore",
    ),
    "like without cells": (
        lambda v, i, like: ops.max_unpool(
            v, i, like=like, index_format="plane"
        ),
        [VALUES, INDEX, zeros(1, 0, 6, 1)],
        "`like` must not be empty",
    ),
    "like that contradicts output_size": (
        lambda v, i, like: ops.max_unpool(v, i, output_size=(4, 6), like=like),
        [VALUES, INDEX, zeros(1, 5, 6, 1)],
        "`output_size` and `like`",
    ),
    "nearest: like that contradicts output_size": (
        lambda v, like: ops.nearest_unpool(v, output_size=(4, 6), like=like),
        [VALUES, zeros(1, 4, 5, 1)],
        "`output_size` and `like`",
    ),
    "output_size that values do not fill": (
        lambda v: ops.nearest_unpool(v, output_size=(9, 9)),
        [VALUES],
        "The size to restore",
    ),
    "bed of nails: like that is too large": (
        lambda v, like: ops.bed_of_nails_unpool(v, like=like),
        [VALUES, zeros(1, 4, 9, 1)],
        "The size to restore",
    ),
    "an index that the input size does not give": (
        lambda i: ops.convert_argmax(i, "window", "plane", input_size=(6, 6)),
        [INDEX],
        "size",
    ),
    "fewer channels than the index has": (
        lambda i: ops.convert_argmax(
            i, "plane", "flat", input_size=(4, 6), channels=3
        ),
        [INDEX],
        "`channels`",
    ),
    "a crop to a larger size": (
        lambda x, like: keras_deconv.layers.CropLike2D()(x, like=like),
        [VALUES, zeros(1, 2, 4, 1)],
        "`like` must not be larger",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_eager_calls_refuse_graphs_refuse(name):
    function, arrays, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        function(*arrays)
    unknown = [tf.TensorSpec([None] * a.ndim, a.dtype) for a in arrays]
    graph = tf.function(function, input_signature=unknown)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        graph(*arrays)


def test_sizes_that_fit_pass():
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 3), "float32")

    @tf.function(input_signature=[tf.TensorSpec([None] * 4)])
    def there_and_back(x):
        pooled, argmax = ops.max_pool_with_argmax(x)
        return ops.max_unpool(pooled, argmax, output_size=(5, 7), like=x)

    expected = ops.max_unpool(*ops.max_pool_with_argmax(x), like=x)
    np.testing.assert_array_equal(there_and_back(x), expected)
    # A batch may be empty.
    assert there_and_back(x[:0]).shape == (0, 5, 7, 3)


@pytest.mark.parametrize(
    "layer",
    [
        keras_deconv.MaxPoolWithArgmax2D(),
        keras_deconv.NearestUnpool2D(),
        keras_deconv.BedOfNailsUnpool2D(),
    ],
)
def test_variables_are_inputs(layer):
    """Variables can be inputs, as in Keras layers, and have gradients."""
    x = np.arange(8, dtype="float32").reshape(1, 2, 4, 1)
    constant = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(constant)
        outputs = keras.tree.flatten(layer(constant))
    gradient = tape.gradient(outputs[0], constant)
    for variable in (keras.Variable(x), tf.Variable(x)):
        is_keras = isinstance(variable, keras.Variable)
        with tf.GradientTape() as tape:
            found = keras.tree.flatten(layer(variable))
        for y, expected in zip(found, outputs, strict=True):
            np.testing.assert_array_equal(y, expected)
        source = variable.value if is_keras else variable
        np.testing.assert_array_equal(tape.gradient(found[0], source), gradient)


def test_variables_are_values_and_index():
    values = keras.Variable(np.ones((1, 1, 2, 1), "float32"))
    argmax = keras.Variable(
        np.array([1, 3], "uint8").reshape(1, 1, 2, 1), dtype="uint8"
    )
    for overlap in ("sum", "mean"):
        y = keras_deconv.MaxUnpool2D(overlap=overlap)(values, argmax)
        assert np.ravel(y).tolist() == [0, 1, 0, 0, 0, 0, 0, 1]


# In each format, one of four values points outside.
OUTSIDE = {
    "window": [-1, 4, 200, -(2**31)],
    "plane": [-1, 16, 10**6, 2**63 - 1, -(2**63)],
    "flat": [-1, -2, 32, 10**6, 2**63 - 1, -(2**63)],
}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(
    "overlap", ["sum", pytest.param("mean", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("index_format", OUTSIDE)
def test_graphs_drop_values_that_point_outside(index_format, overlap, is_known):
    """Graphs drop such values; eager calls raise an error."""
    x = np.random.default_rng(0).uniform(1, 2, (2, 4, 4, 2)).astype("float32")
    values, argmax = ops.max_pool_with_argmax(x, index_format=index_format)
    argmax = np.array(argmax, "int64")

    def unpool(values, argmax):
        return ops.max_unpool(
            values, argmax, index_format=index_format, overlap=overlap
        )

    def unpool_with_gradient(values, argmax):
        with tf.GradientTape() as tape:
            tape.watch(values)
            y = unpool(values, argmax)
            total = tf.reduce_sum(y * y)
        return y, tape.gradient(total, values)

    shape = values.shape if is_known else [None] * 4
    specs = [tf.TensorSpec(shape, dtype) for dtype in ("float32", "int64")]
    # XLA compiles for known sizes.
    graphs = [
        tf.function(
            unpool_with_gradient, input_signature=specs, jit_compile=is_compiled
        )
        for is_compiled in ([False, True] if is_known else [False])
    ]
    kept = np.array(values)
    kept[0, 1, 0, 1] = 0
    expected = unpool(kept, argmax)
    for wrong in OUTSIDE[index_format]:
        broken = argmax.copy()
        broken[0, 1, 0, 1] = wrong
        with pytest.raises(ValueError, match="`argmax` in the format"):
            unpool(values, broken)
        for graph in graphs:
            y, gradient = graph(values, broken)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(gradient, 2 * kept)


with_jax = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="sizes of jax.export"
)


def exported_by_jax(function, constraints=()):
    from jax import ShapeDtypeStruct, export, jit

    shape = export.symbolic_shape("b, h, w, 3", constraints=constraints)
    return export.export(jit(function))(ShapeDtypeStruct(shape, "float32"))


@pytest.mark.backend
@with_jax
@pytest.mark.parametrize(
    ("pool_size", "padding", "constraints"),
    [(3, "same", []), (2, "valid", ["h >= 8", "w >= 8"])],
)
def test_jax_exports_unknown_sizes(pool_size, padding, constraints, rng):
    import jax

    def there_and_back(x):
        window = dict(pool_size=pool_size, strides=2, padding=padding)
        pooled, argmax = ops.max_pool_with_argmax(x, **window)
        _, plane = ops.max_pool_with_argmax(x, index_format="plane", **window)
        window["like"] = x
        unpooled = [
            ops.max_unpool(pooled, argmax, overlap="mean", **window),
            ops.bed_of_nails_unpool(pooled, **window),
        ]
        if pool_size == 2:
            unpooled.append(ops.nearest_unpool(pooled, **window))
        return pooled, plane, *unpooled

    exported = exported_by_jax(there_and_back, constraints)
    # Windows of 2 fill one length exactly, but not the other.
    x = rng.standard_normal((2, 8, 11, 3)).astype("float32")
    expected = jax.jit(there_and_back)(x)
    for y, right in zip(exported.call(x), expected, strict=True):
        np.testing.assert_array_equal(y, right)


@pytest.mark.backend
@with_jax
def test_jax_asks_for_bounds_of_sizes():
    with pytest.raises(ValueError, match="requires a lower bound"):
        exported_by_jax(ops.max_pool_with_argmax)


@pytest.mark.backend
@with_jax
@pytest.mark.filterwarnings("ignore:The `native_serialization`")
def test_jax_models_of_unknown_size_become_saved_models(rng, tmp_path):
    inputs = keras.Input((None, None, 3))
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(inputs)
    unpool = keras_deconv.MaxUnpool2D(padding="same")
    model = keras.Model(inputs, unpool(pooled, argmax, like=inputs))
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    x = rng.standard_normal((2, 9, 14, 3)).astype("float32")
    np.testing.assert_array_equal(loaded.serve(x), model(x))
