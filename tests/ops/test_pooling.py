"""Comparison of the functions with NumPy loops and other frameworks."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import ops
from tests import oracles

pytestmark = pytest.mark.oldest

# Sizes with every remainder, with and without left-over cells.
LENGTHS = range(1, 10)


def _distinct(rng, shape):
    """Return distinct values, so that maxima are unique."""
    return rng.permutation(np.prod(shape)).reshape(shape).astype("float32")


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "window",
    [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 4))],
)
def test_pool_and_unpool_for_every_size(window, padding, rng):
    compared = 0
    for height, width in itertools.product(LENGTHS, LENGTHS):
        if padding == "valid" and window > min(height, width):
            continue
        # With small integers, most windows have ties.
        x = rng.integers(-2, 3, (2, height, width, 3)).astype("float32")
        pooled, argmax = ops.max_pool_with_argmax(x, window, padding=padding)
        expected, window_index, plane_index = oracles.max_pool(
            x, (window, window), (window, window), padding
        )
        np.testing.assert_array_equal(pooled, expected)
        np.testing.assert_array_equal(argmax, window_index)
        assert keras.backend.standardize_dtype(argmax.dtype) == "uint8"
        np.testing.assert_array_equal(
            pooled, keras.ops.max_pool(x, window, padding=padding)
        )
        y = np.asarray(
            ops.max_unpool(pooled, argmax, window, padding=padding, like=x)
        )
        np.testing.assert_array_equal(
            y, oracles.max_unpool(expected, plane_index, (height, width))
        )
        kept = y != 0
        np.testing.assert_array_equal(y[kept], x[kept])
        compared += 1
    assert compared == (81 if padding == "same" else (10 - window) ** 2)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_first_of_equal_maxima_wins(padding):
    x = np.zeros((1, 6, 6, 1), "float32")
    _, argmax = ops.max_pool_with_argmax(x, 2, padding=padding)
    np.testing.assert_array_equal(argmax, 0)
    # The whole first row comes before the second row.
    x = np.array([[0, 1], [1, 0]], "float32").reshape(1, 2, 2, 1)
    assert np.ravel(ops.max_pool_with_argmax(x)[1]) == [1]


@pytest.mark.parametrize("strides", [1, 2, 3, (1, 3)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("window", [(2, 2), (3, 3), (3, 1), (4, 2)])
def test_windows_that_overlap_or_leave_gaps(window, strides, padding, rng):
    x = rng.integers(-2, 3, (2, 8, 7, 3)).astype("float32")
    strides = (strides, strides) if isinstance(strides, int) else strides
    expected, window_index, plane_index = oracles.max_pool(
        x, window, strides, padding
    )
    pooled, argmax = ops.max_pool_with_argmax(x, window, strides, padding)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(argmax, window_index)
    for overlap in ("sum", "mean"):
        y = ops.max_unpool(
            pooled,
            argmax,
            window,
            strides,
            padding,
            like=x,
            overlap=overlap,
        )
        np.testing.assert_allclose(
            y,
            oracles.max_unpool(expected, plane_index, (8, 7), overlap),
            rtol=1e-6,
        )
    kept = np.asarray(y) != 0
    np.testing.assert_array_equal(np.asarray(y)[kept], x[kept])


@pytest.mark.parametrize("size", [(7,), (5, 6), (4, 5, 3)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("index_format", ["window", "flat", "plane"])
def test_every_rank_layout_and_index(size, data_format, index_format, rng):
    x = _distinct(rng, (2, *size, 3))
    num_spatial_dims = len(size)
    window, strides = (3,) * num_spatial_dims, (2,) * num_spatial_dims
    expected, window_index, plane_index = oracles.max_pool(
        x, window, strides, "same"
    )
    index = {
        "window": window_index,
        "plane": plane_index,
        "flat": plane_index * 3 + np.arange(3),
    }[index_format]
    unpooled = oracles.max_unpool(expected, plane_index, size)

    def moved(array):
        if data_format == "channels_first":
            return np.moveaxis(array, -1, 1)
        return array

    options = dict(
        padding="same", data_format=data_format, index_format=index_format
    )
    pooled, argmax = ops.max_pool_with_argmax(moved(x), 3, 2, **options)
    np.testing.assert_array_equal(pooled, moved(expected))
    np.testing.assert_array_equal(argmax, moved(index))
    assert str(np.asarray(argmax).dtype) == (
        "uint8" if index_format == "window" else "int64"
    )
    y = ops.max_unpool(pooled, argmax, 3, 2, like=moved(x), **options)
    np.testing.assert_array_equal(y, moved(unpooled))


@pytest.mark.parametrize("size", [(7,), (5, 6), (4, 5, 3)])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_fixed_unpooling(size, extra, rng):
    values = rng.standard_normal((2, *size, 3)).astype("float32")
    block = (3, 2, 2)[: len(size)]
    position = (2, 0, 1)[: len(size)]
    target = tuple(n * b + extra for n, b in zip(size, block, strict=True))
    like = np.zeros((1, *target, 1))
    np.testing.assert_array_equal(
        ops.nearest_unpool(values, block, like=like),
        oracles.nearest_unpool(values, block, target),
    )
    np.testing.assert_array_equal(
        ops.bed_of_nails_unpool(values, block, like=like, position=position),
        oracles.bed_of_nails_unpool(values, block, position, target),
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_fixed_unpooling_lies_where_pooling_with_padding_did(data_format, rng):
    # Windows of 4 on 9 cells need 3 cells of padding, 1 of them in front.
    values = rng.standard_normal((2, 3, 3, 5)).astype("float32")

    def moved(array):
        is_first = data_format == "channels_first"
        return np.moveaxis(array, -1, 1) if is_first else array

    options = dict(padding="same", output_size=9, data_format=data_format)
    np.testing.assert_array_equal(
        ops.nearest_unpool(moved(values), 4, **options),
        moved(oracles.nearest_unpool(values, (4, 4), (9, 9), before=1)),
    )
    for position in ((0, 3), (2, 0)):
        np.testing.assert_array_equal(
            ops.bed_of_nails_unpool(
                moved(values), 4, position=position, **options
            ),
            moved(
                oracles.bed_of_nails_unpool(
                    values, (4, 4), position, (9, 9), before=1
                )
            ),
        )


@pytest.mark.parametrize(
    ("pool_size", "strides", "padding", "size"),
    [(3, 2, "valid", 9), (3, 2, "same", 7), (2, 3, "valid", 11)],
)
def test_bed_of_nails_with_gaps_and_overlaps(
    pool_size, strides, padding, size, rng
):
    values = rng.standard_normal((2, 4, 3)).astype("float32")
    before = 1 if padding == "same" else 0
    for position in range(pool_size):
        argmax = np.full(values.shape, position, "uint8")
        y = ops.bed_of_nails_unpool(
            values, pool_size, strides, padding, size, position=position
        )
        np.testing.assert_array_equal(
            y,
            oracles.bed_of_nails_unpool(
                values, (strides,), (position,), (size,), before
            ),
        )
        # Bed of nails is max unpooling with the same index everywhere.
        np.testing.assert_array_equal(
            y, ops.max_unpool(values, argmax, pool_size, strides, padding, size)
        )


def test_nearest_unpooling_refuses_strides_that_leave_no_nearest_value():
    for call in (
        lambda: ops.nearest_unpool(VALUES, 3, 2),
        lambda: keras_deconv.NearestUnpool2D(3, strides=2),
    ):
        with pytest.raises(ValueError, match="`strides` must be None or"):
            call()


def test_values_come_from_the_decoder_not_from_pooling(rng):
    x = _distinct(rng, (1, 4, 4, 2))
    pooled, argmax = ops.max_pool_with_argmax(x)
    values = rng.standard_normal(tuple(pooled.shape)).astype("float32")
    y = np.asarray(ops.max_unpool(values, argmax))
    expected = np.where(
        x == np.asarray(ops.nearest_unpool(pooled)),
        np.asarray(ops.nearest_unpool(values)),
        0,
    )
    np.testing.assert_array_equal(y, expected)


def test_same_as_tensorflow_and_its_recipe(rng):
    x = rng.integers(-9, 9, (2, 6, 8, 3)).astype("float32")
    pooled, flat = tf.nn.max_pool_with_argmax(x, 2, 2, "VALID")
    ours, argmax = ops.max_pool_with_argmax(x, index_format="flat")
    np.testing.assert_array_equal(ours, pooled)
    np.testing.assert_array_equal(argmax, flat)
    image = tf.tile(tf.range(2)[:, None], [1, tf.size(flat[0])])
    image = tf.cast(tf.reshape(image, -1), tf.int64)
    recipe = tf.scatter_nd(
        tf.stack([image, tf.reshape(flat, -1)], -1),
        tf.reshape(pooled, -1),
        tf.constant([2, 6 * 8 * 3], tf.int64),
    )
    np.testing.assert_array_equal(
        ops.max_unpool(ours, argmax, index_format="flat"),
        tf.reshape(recipe, x.shape),
    )
    window = ops.max_pool_with_argmax(x)
    np.testing.assert_array_equal(
        ops.max_unpool(*window), tf.reshape(recipe, x.shape)
    )


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param("float16", marks=pytest.mark.slow),
        pytest.param("bfloat16", marks=pytest.mark.slow),
        "float32",
        pytest.param("float64", marks=pytest.mark.slow),
    ],
)
def test_nan_and_infinities(dtype, jit_compile):
    nan, inf = np.nan, np.inf
    windows = np.array(
        [
            [-inf, -inf, -inf, -inf],
            [-inf, -inf, 1, -inf],
            [inf, 1, inf, 2],
            [nan, 1, 2, 3],
            [1, 3, nan, 2],
            [nan, 5, nan, 7],
            [-inf, nan, -inf, inf],
        ]
    )
    x = tf.cast(windows.reshape(-1, 2, 2, 1), dtype)
    function = tf.function(ops.max_pool_with_argmax, jit_compile=jit_compile)
    for pool in (ops.max_pool_with_argmax, function):
        pooled, argmax = pool(x)
        assert np.ravel(argmax).tolist() == [0, 2, 0, 0, 2, 0, 1]
        np.testing.assert_array_equal(
            np.ravel(tf.cast(pooled, "float64")),
            [-inf, 1, inf, nan, nan, nan, nan],
        )
        y = np.asarray(tf.cast(ops.max_unpool(pooled, argmax), "float64"))
        np.testing.assert_array_equal(
            np.isnan(y).reshape(-1, 4).sum(1), [0, 0, 0, 1, 1, 1, 1]
        )


def test_padding_never_wins():
    x = np.full((1, 5, 5, 2), -np.inf, "float32")
    pooled, argmax = ops.max_pool_with_argmax(x, 4, padding="same")
    expected, window_index, _ = oracles.max_pool(x, (4, 4), (4, 4), "same")
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(argmax, window_index)
    y = ops.max_unpool(np.ones_like(pooled), argmax, 4, padding="same", like=x)
    assert float(np.sum(y)) == pooled.shape[1] * pooled.shape[2] * 2


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers(dtype, rng):
    info = np.iinfo(dtype)
    x = rng.integers(info.min, 8, (1, 5, 5, 2)).astype(dtype)
    x[0, :2, :2] = info.min
    pooled, argmax = ops.max_pool_with_argmax(x, padding="same")
    expected, window_index, plane = oracles.max_pool(x, (2, 2), (2, 2), "same")
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(argmax, window_index)
    assert np.asarray(pooled).dtype == dtype
    y = ops.max_unpool(pooled, argmax, padding="same", like=x)
    np.testing.assert_array_equal(
        y, oracles.max_unpool(expected, plane, (5, 5))
    )


def test_empty_batch():
    pooled, argmax = ops.max_pool_with_argmax(np.zeros((0, 5, 5, 3), "float32"))
    assert pooled.shape == argmax.shape == (0, 2, 2, 3)
    assert ops.max_unpool(pooled, argmax, output_size=5).shape == (0, 5, 5, 3)


def test_large_window_has_a_wider_index(rng):
    x = rng.standard_normal((1, 20, 18, 1)).astype("float32")
    pooled, argmax = ops.max_pool_with_argmax(x, (20, 18))
    assert np.ravel(argmax) == [np.argmax(x)]
    assert np.asarray(argmax).dtype == "int32"
    y = ops.max_unpool(pooled, argmax, (20, 18))
    assert np.argmax(y) == np.argmax(x)


# --- what is refused ---------------------------------------------------------

VALUES = np.zeros((1, 2, 3, 4), "float32")
INDEX = np.zeros((1, 2, 3, 4), "uint8")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: ops.max_unpool(VALUES, INDEX.astype("float32")),
            ["`argmax` must be the integer index", "float32"],
        ),
        (
            lambda: ops.max_unpool(VALUES, INDEX[..., :2]),
            ["shape of `values`", "(1, 2, 3, 4)", "(1, 2, 3, 2)"],
        ),
        (
            lambda: ops.max_unpool(VALUES, INDEX, output_size=(6, 6)),
            ["4 to 5 x 6 to 7", "(6, 6)", "`like`"],
        ),
        (
            lambda: ops.max_unpool(VALUES, INDEX, like=np.zeros((1, 4, 9, 4))),
            ["4 to 5 x 6 to 7", "(4, 9)"],
        ),
        (
            lambda: ops.max_unpool(
                VALUES, INDEX, output_size=(5, 6), like=np.zeros((1, 4, 6, 4))
            ),
            ["`output_size` and `like`", "(5, 6)", "(4, 6)"],
        ),
        (
            lambda: ops.max_unpool(VALUES, INDEX, like=np.zeros((1, 4, 6))),
            ["`like` must have the rank", "like with 1"],
        ),
        (
            lambda: ops.max_unpool(VALUES, INDEX.astype("int64") + 4),
            ["must lie in 0..3", "from 4 to 4", "index_format"],
        ),
        (
            lambda: ops.max_unpool(
                VALUES, INDEX.astype("int64") - 1, index_format="plane"
            ),
            ["must lie in 0..23", "from -1 to -1"],
        ),
        (
            lambda: ops.max_unpool(
                VALUES, INDEX.astype("int64") + 96, index_format="flat"
            ),
            ["must lie in 0..95", "from 96 to 96"],
        ),
        (
            lambda: ops.max_unpool(
                VALUES.astype("int32"), INDEX, 3, 1, overlap="mean"
            ),
            ["overlap='mean'", "int32"],
        ),
        (
            lambda: ops.max_pool_with_argmax(VALUES, 3),
            ["at least the window", "(3, 3)", "(2, 3)", "padding='same'"],
        ),
        (
            lambda: ops.max_pool_with_argmax(VALUES[0, 0]),
            ["1, 2 or 3 spatial axes", "(3, 4)"],
        ),
        (
            lambda: ops.max_pool_with_argmax(VALUES > 0),
            ["floats or integers", "bool"],
        ),
        (
            lambda: ops.max_pool_with_argmax(VALUES.astype("uint32")),
            ["`inputs` must hold", "uint32"],
        ),
        (
            lambda: ops.max_pool_with_argmax(VALUES.astype("complex64")),
            ["`inputs` must hold", "complex64"],
        ),
        (
            lambda: ops.max_pool_with_argmax(VALUES[..., :0]),
            ["must not be empty", "(1, 2, 3, 0)"],
        ),
        (
            lambda: ops.nearest_unpool(VALUES, like=(4, 6)),
            ["`like` must be a batch", "output_size"],
        ),
        (
            lambda: keras_deconv.MaxUnpool2D()((VALUES, INDEX)),
            ["two arguments", "unpool(*pool(inputs))"],
        ),
        (
            lambda: keras_deconv.MaxUnpool2D()(VALUES[0], INDEX[0]),
            ["1 ints", "pool_size"],
        ),
        (
            lambda: ops.nearest_unpool(VALUES, like=np.zeros((1, 6, 6, 1))),
            ["`like`", "(2, 3)", "(6, 6)"],
        ),
        (
            lambda: ops.bed_of_nails_unpool(VALUES, position=2),
            ["`position`", "pool_size=(2, 2)", "position=2"],
        ),
        (
            lambda: ops.max_pool_with_argmax(keras.Input((4, 4, 1))),
            ["symbolic", "MaxUnpool2D"],
        ),
    ],
)
def test_error_says_what_came_the_rule_and_the_way_out(call, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        call()
    for word in words:
        assert word in str(error.value)


def test_graphs_refuse_sizes_that_do_not_belong(rng):
    """If sizes are unknown, the graph checks them at run time."""
    argmax = tf.zeros((1, 3, 3, 1), "uint8")
    values = tf.ones((1, 3, 3, 1))
    anything = [None] * 4
    signature = [
        tf.TensorSpec(anything),
        tf.TensorSpec(anything, tf.uint8),
        tf.TensorSpec(anything),
    ]
    unpool = tf.function(
        lambda v, i, like: ops.max_unpool(v, i, like=like),
        input_signature=signature,
    )
    assert unpool(values, argmax, tf.zeros((1, 7, 6, 1))).shape == (1, 7, 6, 1)
    for size in ((3, 3), (6, 9), (20, 20)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`like`"):
            unpool(values, argmax, tf.zeros((1, *size, 1)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        unpool(values, argmax[:, :1], tf.zeros((1, 6, 6, 1)))
    nearest = tf.function(
        lambda v, like: ops.nearest_unpool(v, like=like),
        input_signature=[signature[0], signature[2]],
    )
    assert nearest(values, tf.zeros((1, 5, 7, 1))).shape == (1, 5, 7, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`like`"):
        nearest(values, tf.zeros((1, 20, 20, 1)))


def test_position_outside_the_plane_stays_out_of_other_images():
    """A compiled function cannot check the index."""
    argmax = np.array([5, -1, 0, 3]).reshape(4, 1, 1, 1)
    values = np.ones((4, 1, 1, 1), "float32")
    for overlap in ("sum", "mean"):
        unpool = tf.function(
            lambda v, i, overlap=overlap: ops.max_unpool(
                v, i, index_format="plane", overlap=overlap
            )
        )
        y = np.asarray(unpool(values, tf.constant(argmax))).reshape(4, 4)
        expected = np.zeros((4, 4))
        expected[2, 0] = expected[3, 3] = 1
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("index_format", ["window", "plane"])
def test_mean_of_equal_values_is_that_value(index_format, rng):
    window = dict(strides=1, index_format=index_format)
    x = rng.standard_normal((1, 12, 12, 4)).astype("float32")
    x[0, 3, 3] = np.inf
    x[0, 8, 8] = -np.inf
    for dtype in ("float32", "float16"):
        inputs = tf.cast(x * 6e4 if dtype == "float16" else x, dtype)
        pooled, argmax = ops.max_pool_with_argmax(inputs, 3, **window)
        y = ops.max_unpool(
            pooled, argmax, 3, like=inputs, overlap="mean", **window
        )
        y = np.asarray(y)
        kept = y != 0
        np.testing.assert_array_equal(y[kept], np.asarray(inputs)[kept])
        assert np.isinf(y[0, 3, 3]).all()


@pytest.mark.parametrize("index_format", ["window", "plane"])
def test_gradient_of_mean_is_shared_equally(index_format):
    x = np.zeros((1, 3, 3, 1), "float32")
    x[0, 1, 1] = 5
    window = dict(strides=1, index_format=index_format)
    _, argmax = ops.max_pool_with_argmax(x, 2, **window)
    values = tf.constant([1.0, 2.0, 3.0, 6.0], shape=(1, 2, 2, 1))
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = ops.max_unpool(values, argmax, 2, like=x, overlap="mean", **window)
    assert np.ravel(y).tolist() == [0, 0, 0, 0, 3, 0, 0, 0, 0]
    np.testing.assert_allclose(np.ravel(tape.gradient(y, values)), 0.25)


def test_an_index_of_a_larger_window_is_refused():
    pooled, argmax = ops.max_pool_with_argmax(np.eye(6)[None, ..., None], 3)
    with pytest.raises(ValueError, match="must lie in"):
        ops.max_unpool(pooled, argmax + 4, 2)


def test_layers_refuse_while_a_model_is_built():
    values = keras.Input((2, 3, 4))
    unpool = keras_deconv.MaxUnpool2D()
    with pytest.raises(ValueError, match="integer index"):
        unpool(values, keras.Input((2, 3, 4)))
    with pytest.raises(ValueError, match="shape of `values`"):
        unpool(values, keras.Input((2, 3, 5), dtype="uint8"))
    with pytest.raises(ValueError, match="4 to 5 x 6 to 7"):
        unpool(
            values,
            keras.Input((2, 3, 4), dtype="uint8"),
            like=keras.Input((None, 8, 1)),
        )
    with pytest.raises(ValueError, match="at least the window size"):
        keras_deconv.MaxPoolWithArgmax2D(3)(values)
    with pytest.raises(ValueError, match="dtype bool"):
        keras_deconv.MaxPoolWithArgmax2D()(keras.Input((4, 4, 1), dtype="bool"))
    index = keras.Input((2, 3, 4), dtype="uint8")
    with pytest.raises(ValueError, match="overlap='mean'"):
        keras_deconv.MaxUnpool2D(overlap="mean")(
            keras.Input((2, 3, 4), dtype="int32"), index
        )
    with pytest.raises(ValueError, match="2 spatial axes"):
        unpool(values, index, like=keras.Input((4, 6)))
    with pytest.raises(ValueError, match="two arguments"):
        unpool([values, index])
    with pytest.raises(ValueError, match="must not be larger"):
        keras_deconv.layers.CropLike2D()(values, like=keras.Input((3, 3, 1)))
    with pytest.raises(ValueError, match="must give the size of `values`"):
        keras_deconv.NearestUnpool2D()(values, like=keras.Input((3, 9, 1)))


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="RaggedTensor"
)
@pytest.mark.parametrize(
    "pool", [ops.max_pool_with_argmax, keras_deconv.MaxPoolWithArgmax2D()]
)
def test_ragged_tensors_are_refused(pool):
    ragged = tf.RaggedTensor.from_tensor(np.zeros((1, 4, 4, 1)), ragged_rank=2)
    with pytest.raises(ValueError, match=r"RaggedTensor .*to_tensor\(\)"):
        pool(ragged)
