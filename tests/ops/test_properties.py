"""Random cases against NumPy loops, PyTorch and TensorFlow.

The default tests use the same few cases each time. The tests marked `release`
use many new ones.
"""

import dataclasses

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_deconv import config, ops
from tests import oracles

pytestmark = [pytest.mark.live]


@pytest.fixture(scope="module", autouse=True)
def _plain_kernels():
    """Disable compilation, which is slow; one case in eight still compiles."""
    config.enable_compiled_kernels(False)
    yield
    config.enable_compiled_kernels(True)


DTYPES = ("float16", "bfloat16", "float32", "float64")
FEW = hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
MANY = hypothesis.settings(max_examples=2000, deadline=None)


@dataclasses.dataclass(frozen=True)
class Case:
    """Arguments of a pooling, and the seed of its inputs."""

    size: tuple[int, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str = "valid"
    index_format: str = "window"
    data_format: str = "channels_last"
    dtype: str = "float32"
    channels: int = 2
    seed: int = 0

    def inputs(self, infinite=True):
        """Return integers, exact in every dtype; most windows have ties."""
        rng = np.random.default_rng(self.seed)
        x = rng.integers(-3, 4, (2, *self.size, self.channels))
        x = x.astype("float32")
        if infinite and self.seed % 4 == 0:
            x[rng.random(x.shape) < 0.4] = -np.inf
        return x

    @property
    def overlaps(self):
        return any(
            s < k for s, k in zip(self.strides, self.pool_size, strict=True)
        )


@st.composite
def cases(draw, ranks=(1, 2, 3), paddings=("valid", "same")):
    rank = draw(st.sampled_from(ranks))
    largest = {1: 17, 2: 8, 3: 5}[rank]
    padding = draw(st.sampled_from(paddings))

    def axes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    size = axes(1, largest)
    pool_size = axes(1, 4)
    if padding == "valid":
        pool_size = tuple(min(p) for p in zip(pool_size, size, strict=True))
    return Case(
        size,
        pool_size,
        axes(1, 4),
        padding,
        draw(st.sampled_from(("window", "flat", "plane"))),
        draw(st.sampled_from(("channels_last", "channels_first"))),
        draw(st.sampled_from(DTYPES)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 2**20)),
    )


def equals_loops(case):
    x = case.inputs()
    expected, _, plane = oracles.max_pool(
        x, case.pool_size, case.strides, case.padding
    )
    rng = np.random.default_rng(case.seed)
    upstream = rng.integers(-3, 4, expected.shape).astype("float32")
    values = rng.integers(-3, 4, expected.shape).astype("float32")

    def to_layer(array):
        if case.data_format == "channels_first":
            array = np.moveaxis(array, -1, 1)
        return tf.cast(array, case.dtype)

    def from_layer(tensor):
        array = np.asarray(tf.cast(tensor, "float32"))
        if case.data_format == "channels_first":
            array = np.moveaxis(array, 1, -1)
        return array

    window = dict(
        pool_size=case.pool_size,
        strides=case.strides,
        padding=case.padding,
        data_format=case.data_format,
        index_format=case.index_format,
    )
    inputs, decoded = to_layer(x), to_layer(values)

    def pool_and_unpool(inputs, decoded):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            pooled, argmax = ops.max_pool_with_argmax(inputs, **window)
            # A product with -inf would hide the gradient.
            is_inf = tf.math.is_inf(pooled)
            finite = tf.where(is_inf, tf.zeros_like(pooled), pooled)
            total = tf.reduce_sum(finite * to_layer(upstream))
        results = [pooled, argmax, tape.gradient(total, inputs)]
        for overlap in ("sum", "mean"):
            with tf.GradientTape() as tape:
                tape.watch(decoded)
                y = ops.max_unpool(
                    decoded, argmax, like=inputs, overlap=overlap, **window
                )
                total = tf.reduce_sum(y * y)
            results += [y, tape.gradient(total, decoded)]
        return results

    is_fused = case.seed % 8 == 1
    config.enable_compiled_kernels(is_fused, min_elements=0)
    if is_fused:
        pool_and_unpool = tf.function(pool_and_unpool)
    pooled, argmax, gradient, *unpooled = pool_and_unpool(inputs, decoded)
    config.enable_compiled_kernels(False)
    assert pooled.dtype == inputs.dtype
    assert argmax.dtype.is_integer
    np.testing.assert_array_equal(from_layer(pooled), expected)
    finite = np.where(np.isinf(expected), 0, upstream)
    np.testing.assert_array_equal(
        from_layer(gradient), oracles.max_unpool(finite, plane, case.size)
    )
    count = oracles.max_unpool(np.ones_like(values), plane, case.size)
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}.get(case.dtype, 1e-6)
    for overlap, y, gradient in (
        ("sum", *unpooled[:2]),
        ("mean", *unpooled[2:]),
    ):
        expected = oracles.max_unpool(values, plane, case.size, overlap)
        exact = overlap == "sum" or not case.overlaps
        compare(from_layer(y), expected, exact, tolerance)
        # d(sum y^2)/dv is 2 y at the index, divided by the count for "mean".
        share = 2 * expected
        if overlap == "mean":
            share = share / np.maximum(count, 1)
        compare(
            from_layer(gradient),
            oracles.read(share, plane),
            exact,
            4 * tolerance,
        )


def compare(actual, expected, exact, tolerance):
    if exact:
        np.testing.assert_array_equal(actual, expected)
    else:
        np.testing.assert_allclose(
            actual, expected, rtol=tolerance, atol=tolerance
        )


def equals_pytorch(case):
    torch = pytest.importorskip("torch")
    rank = len(case.size)
    pool = getattr(torch.nn.functional, f"max_pool{rank}d")
    unpool = getattr(torch.nn.functional, f"max_unpool{rank}d")
    x = np.moveaxis(case.inputs(), -1, 1).copy()
    theirs = torch.from_numpy(x).requires_grad_()
    expected, plane = pool(
        theirs, case.pool_size, case.strides, return_indices=True
    )
    rng = np.random.default_rng(case.seed)
    upstream = rng.integers(-3, 4, expected.shape).astype("float32")
    expected.backward(torch.from_numpy(upstream))
    window = dict(
        pool_size=case.pool_size,
        strides=case.strides,
        data_format="channels_first",
        index_format="plane",
    )
    ours = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        pooled, argmax = ops.max_pool_with_argmax(ours, **window)
    np.testing.assert_array_equal(pooled, expected.detach().numpy())
    np.testing.assert_array_equal(argmax, plane.numpy())
    np.testing.assert_array_equal(
        tape.gradient(pooled, ours, output_gradients=tf.constant(upstream)),
        theirs.grad.numpy(),
    )
    if case.overlaps:  # PyTorch does not define which of several values stays.
        return
    values = torch.from_numpy(upstream).requires_grad_()
    restored = unpool(
        values, plane, case.pool_size, case.strides, output_size=x.shape
    )
    weights = rng.integers(-3, 4, x.shape).astype("float32")
    restored.backward(torch.from_numpy(weights))
    # The window index uses the fast kernels, the plane index the general ones.
    _, offsets = ops.max_pool_with_argmax(
        ours, **{**window, "index_format": "window"}
    )
    for index_format, index in (("plane", argmax), ("window", offsets)):
        decoded = tf.constant(upstream)
        with tf.GradientTape() as tape:
            tape.watch(decoded)
            y = ops.max_unpool(
                decoded,
                index,
                like=ours,
                **{**window, "index_format": index_format},
            )
        np.testing.assert_array_equal(y, restored.detach().numpy())
        np.testing.assert_array_equal(
            tape.gradient(y, decoded, output_gradients=tf.constant(weights)),
            values.grad.numpy(),
        )


def equals_tensorflow(case):
    x = case.inputs(infinite=False)
    expected, flat = tf.nn.max_pool_with_argmax(
        x, case.pool_size, case.strides, case.padding.upper()
    )
    window = dict(
        pool_size=case.pool_size, strides=case.strides, padding=case.padding
    )
    pooled, argmax = ops.max_pool_with_argmax(x, index_format="flat", **window)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(argmax, flat)
    rng = np.random.default_rng(case.seed)
    values = tf.constant(rng.integers(-3, 4, pooled.shape).astype("float32"))
    num_cells = int(np.prod(x.shape[1:]))
    first = tf.reshape(tf.range(2, dtype=tf.int64) * num_cells, (2, 1, 1, 1))
    recipe = tf.scatter_nd(
        tf.reshape(flat + first, (-1, 1)),
        tf.reshape(values, (-1,)),
        tf.constant([2 * num_cells], tf.int64),
    )
    _, offsets = ops.max_pool_with_argmax(x, **window)
    np.testing.assert_array_equal(
        ops.max_unpool(values, offsets, like=x, **window),
        tf.reshape(recipe, x.shape),
    )


COMPARISONS = {
    "loops": (equals_loops, cases()),
    "pytorch": (equals_pytorch, cases(paddings=("valid",))),
    "tensorflow": (equals_tensorflow, cases(ranks=(2,))),
}


@pytest.mark.numeric
@pytest.mark.parametrize("name", COMPARISONS)
def test_few_random_cases(name):
    comparison, strategy = COMPARISONS[name]
    FEW(hypothesis.given(strategy)(comparison))()


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("name", COMPARISONS)
def test_many_random_cases(name):
    comparison, strategy = COMPARISONS[name]
    MANY(hypothesis.given(strategy)(comparison))()


# --- laws --------------------------------------------------------------------


@pytest.mark.numeric
@FEW
@hypothesis.given(cases())
def test_unpool_is_the_adjoint_of_pooling(case):
    """<J d, v> = <d, unpool(v)> holds for the linearization J of pooling."""
    rng = np.random.default_rng(case.seed)
    x = tf.constant(rng.standard_normal((2, *case.size, case.channels)))
    direction = tf.constant(rng.standard_normal(x.shape))
    window = dict(
        pool_size=case.pool_size, strides=case.strides, padding=case.padding
    )
    with tf.autodiff.ForwardAccumulator(x, direction) as forward:
        pooled, argmax = ops.max_pool_with_argmax(x, **window)
    values = rng.standard_normal(pooled.shape)
    unpooled = ops.max_unpool(tf.constant(values), argmax, like=x, **window)
    np.testing.assert_allclose(
        np.sum(forward.jvp(pooled) * values),
        np.sum(direction * unpooled),
        rtol=1e-9,
        atol=1e-9,
    )


@FEW
@hypothesis.given(cases())
def test_pooling_gives_back_what_was_unpooled(case):
    """pool(unpool(v, i)) = v holds for v >= 0 without overlap."""
    strides = tuple(map(max, case.strides, case.pool_size))
    window = dict(
        pool_size=case.pool_size, strides=strides, padding=case.padding
    )
    x = case.inputs(infinite=False)
    _, argmax = ops.max_pool_with_argmax(x, **window)
    rng = np.random.default_rng(case.seed)
    values = rng.random(argmax.shape).astype("float32")
    y = ops.max_unpool(values, argmax, like=x, **window)
    again, where = ops.max_pool_with_argmax(y, **window)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(where, argmax)


@FEW
@hypothesis.given(cases())
def test_mean_unpooling_keeps_every_maximum(case):
    x = np.random.default_rng(case.seed).standard_normal(
        (2, *case.size, case.channels)
    )
    x = x.astype("float32")
    window = dict(
        pool_size=case.pool_size, strides=case.strides, padding=case.padding
    )
    pooled, argmax = ops.max_pool_with_argmax(x, **window)
    y = np.asarray(
        ops.max_unpool(pooled, argmax, like=x, overlap="mean", **window)
    )
    _, _, plane = oracles.max_pool(
        x, case.pool_size, case.strides, case.padding
    )
    # The mean of equal values is exactly that value.
    np.testing.assert_array_equal(oracles.read(y, plane), pooled)
    assert np.count_nonzero(y) == len(
        {(n, p, c) for (n, *_, c), p in np.ndenumerate(plane)}
    )


@FEW
@hypothesis.given(cases(ranks=(1,)))
def test_height_one_is_one_dimensional(case):
    x = case.inputs()
    (k,), (s,) = case.pool_size, case.strides
    window = dict(padding=case.padding, index_format=case.index_format)
    one = ops.max_pool_with_argmax(x, k, s, **window)
    two = ops.max_pool_with_argmax(x[:, None], (1, k), (1, s), **window)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, tf.squeeze(b, 1))
    y = ops.max_unpool(*one, k, s, like=x, **window)
    z = ops.max_unpool(*two, (1, k), (1, s), like=x[:, None], **window)
    np.testing.assert_array_equal(y, tf.squeeze(z, 1))


@pytest.mark.numeric
def test_jacobian_of_transposed_conv_is_the_transpose(rng):
    kernel = tf.constant(rng.standard_normal((3, 3, 2, 3)))
    x = tf.constant(rng.standard_normal((1, 4, 4, 2)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.ops.conv(x, kernel, 1, padding="same")
    jacobian = np.reshape(tape.jacobian(y, x), (48, 32))
    with tf.GradientTape() as tape:
        y = tf.constant(np.asarray(y))
        tape.watch(y)
        z = keras.ops.conv_transpose(y, kernel, 1, padding="same")
    transposed = np.reshape(tape.jacobian(z, y), (32, 48))
    np.testing.assert_allclose(jacobian, transposed.T, atol=1e-12)
    matrix = ops.conv2d_matrix(kernel, 4, padding="same")
    np.testing.assert_allclose(jacobian, matrix, atol=1e-12)


@pytest.mark.parametrize("comparison", ["loops", "pytorch", "tensorflow"])
def test_a_wrong_index_is_found(comparison, monkeypatch):
    """The comparisons fail for the last of equal maxima."""
    if comparison == "pytorch":
        pytest.importorskip("torch")
    real = ops.max_pool_with_argmax

    def last_of_ties(inputs, *args, **kwargs):
        # Reversing the axes turns the first of equal maxima into the last.
        backwards = tf.reverse(tf.convert_to_tensor(inputs), [1, 2])
        last_first = kwargs.get("data_format") == "channels_first"
        if last_first:
            backwards = tf.reverse(tf.convert_to_tensor(inputs), [2, 3])
        window = {**kwargs, "index_format": "window"}
        _, argmax = real(backwards, *args, **window)
        argmax = 3 - tf.reverse(argmax, [2, 3] if last_first else [1, 2])
        pooled, _ = real(inputs, *args, **kwargs)
        wanted = kwargs.get("index_format", "window")
        if wanted != "window":
            argmax = ops.convert_argmax(
                argmax,
                "window",
                wanted,
                input_size=6,
                data_format=kwargs.get("data_format"),
            )
        return pooled, argmax

    distinct = np.random.default_rng(0).permutation(36).reshape(1, 6, 6, 1)
    for answer, mutant in zip(
        real(distinct), last_of_ties(distinct), strict=True
    ):
        np.testing.assert_array_equal(answer, mutant)
    monkeypatch.setattr(ops, "max_pool_with_argmax", last_of_ties)
    case = Case((6, 6), (2, 2), (2, 2), seed=1)
    with pytest.raises(AssertionError):
        COMPARISONS[comparison][0](case)
