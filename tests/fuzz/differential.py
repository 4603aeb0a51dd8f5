"""Random poolings and unpoolings, and what of them differs from NumPy loops.

One generator for every backend, and for every way to run a function there:
eager, in a graph, compiled, with sizes that are not known. Values need all
digits of their dtype, so that narrowing shows, but their sums need no more;
some are not finite. So nothing may differ by a bit, except where a mean is
rounded.
"""

import dataclasses
import sys

import hypothesis
import keras
import numpy as np
from hypothesis import strategies as st

from keras_deconv import config, ops
from tests import gradients, oracles

# Distance from 1 to the next number.
EPSILONS = {
    "float16": 2**-10,
    "bfloat16": 2**-7,
    "float32": 2**-23,
    "float64": 2**-52,
}
# Values are small multiples of it. Sums of 64 are below 256: they have 8 bits
# above the point, and the dtype holds what is left below.
STEPS = {
    "float16": 2**-3,
    "bfloat16": 1.0,  # a float, or arrays of it could not hold NaN
    "float32": 2**-12,  # lost in half precision
    "float64": 2**-40,  # lost in float32
}
# Values lie around two of them, and may differ by less than a float can tell.
ANCHORS = {
    "int8": (0, 100, -100),
    "int16": (0, 2**8, 2**11, -(2**14)),
    "int32": (0, 2**8, 2**24, -(2**24), -(2**30)),
    "int64": (0, 2**24, 2**31, -(2**31), 2**32, 2**53, -(2**53), 2**56),
    "uint8": (3, 127),
}
FLOATS = tuple(EPSILONS)
INTEGERS = tuple(ANCHORS)

standard = keras.backend.standardize_dtype


@dataclasses.dataclass(frozen=True)
class Case:
    """A pooling, and the seed of what is pooled."""

    size: tuple[int, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    index_format: str
    data_format: str
    dtype: str
    overlap: str
    channels: int
    batch: int
    seed: int

    @property
    def is_float(self):
        return self.dtype in FLOATS

    @property
    def held_dtype(self):
        """The dtype on the backend: JAX may replace 64 bits by 32."""
        return standard(keras.ops.zeros((), self.dtype).dtype)

    def numbers(self, shape, seed, *more_anchors):
        """Float64 or int64, which hold them and sums of 64 exactly."""
        rng = np.random.default_rng((self.seed, seed))
        small = rng.integers(-3, 4, shape)
        if self.is_float:
            step = STEPS[self.held_dtype]
            x = small + step * rng.integers(-3, 4, shape)
            return x * rng.choice((-1, 1), shape)  # gives minus zero too
        anchors = (*ANCHORS[self.held_dtype], *more_anchors)
        return small + rng.choice(rng.choice(anchors, 2), shape)

    def inputs(self):
        shape = (self.batch, *self.size, self.channels)
        if not self.is_float:
            limits = np.iinfo(self.held_dtype)
            return self.numbers(shape, 0, limits.min + 3, limits.max - 3)
        x = self.numbers(shape, 0)
        rng = np.random.default_rng((self.seed, 1))
        if self.seed % 3 == 0:
            places = rng.random(x.shape) < 0.4
            x[places] = rng.choice([-np.inf, np.inf, np.nan], places.sum())
        return x


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 3))
    largest = {1: 17, 2: 8, 3: 5}[rank]
    padding = draw(st.sampled_from(("valid", "same")))

    def axes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    size, pool_size = axes(1, largest), axes(1, 4)
    if padding == "valid":
        pool_size = tuple(min(p) for p in zip(pool_size, size, strict=True))
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    overlap = draw(st.sampled_from(("sum", "mean")))
    return Case(
        size,
        pool_size,
        axes(1, 4),
        padding,
        draw(st.sampled_from(("window", "flat", "plane"))),
        draw(st.sampled_from(("channels_last", "channels_first"))),
        dtype,
        overlap if dtype in FLOATS else "sum",
        draw(st.integers(1, 3)),
        draw(st.integers(1, 2)),
        draw(st.integers(0, 2**20)),
    )


def columns():
    """The ways to run a function on the backend in use."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        return "eager", "graph", "compiled", "unknown_sizes"
    return ("eager", "compiled") if backend == "jax" else ("eager",)


def in_column(column, function, *arrays):
    """The function as a column runs it, for arrays such as these."""
    if column == "eager":
        return function
    if keras.config.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    signature = None
    if column == "unknown_sizes":
        signature = [
            tf.TensorSpec([None] * len(a.shape), a.dtype) for a in arrays
        ]
    return tf.function(
        function,
        input_signature=signature,
        jit_compile=column == "compiled",
    )


def differences(case, column="eager"):
    """Return pairs of arrays that should be equal to the loops but are not."""
    x = case.inputs()
    expected, window_index, plane = oracles.max_pool(
        x, case.pool_size, case.strides, case.padding
    )
    index = {
        "window": window_index,
        "plane": plane,
        "flat": plane * case.channels + np.arange(case.channels),
    }[case.index_format]
    values = case.numbers(expected.shape, 2)
    upstream = case.numbers(expected.shape, 3)
    weights = case.numbers(x.shape, 4)
    count = oracles.max_unpool(np.ones_like(values), plane, case.size)
    restored = oracles.max_unpool(values, plane, case.size, case.overlap)
    if not case.is_float:
        restored = restored.astype(case.held_dtype)  # Sums wrap around.
    share = (
        weights / np.maximum(count, 1) if case.overlap == "mean" else weights
    )

    window = dict(
        pool_size=case.pool_size,
        strides=case.strides,
        padding=case.padding,
        data_format=case.data_format,
        index_format=case.index_format,
    )

    def to_layer(array):
        if case.data_format == "channels_first":
            array = np.moveaxis(array, -1, 1)
        if case.dtype in ("float16", "bfloat16"):
            array = array.astype(
                "float32"
            )  # which NumPy has, and which holds it
        else:
            array = array.astype(case.held_dtype)
        return keras.ops.cast(keras.ops.convert_to_tensor(array), case.dtype)

    def from_layer(tensor):
        array = keras.ops.convert_to_numpy(tensor)
        array = array.astype(
            "float64" if array.dtype.kind not in "iu" else "int64"
        )
        if case.data_format == "channels_first":
            array = np.moveaxis(array, 1, -1)
        return array

    inputs, decoded = to_layer(x), to_layer(values)
    pool = in_column(
        column, lambda x: ops.max_pool_with_argmax(x, **window), inputs
    )
    pooled, argmax = pool(inputs)
    restore = in_column(
        column,
        lambda values, argmax, like: ops.max_unpool(
            values, argmax, like=like, overlap=case.overlap, **window
        ),
        *(decoded, argmax, inputs),
    )

    def unpool(decoded):
        return restore(decoded, argmax, inputs)

    assert standard(pooled.dtype) == standard(inputs.dtype)
    found = [
        (pooled, expected),
        (argmax, index),
        (unpool(decoded), restored),
    ]
    if case.is_float:
        gradient = gradients.vjp(
            lambda x: pool(x)[0],
            inputs,
            to_layer(upstream),
        )
        found += [
            (gradient, oracles.max_unpool(upstream, plane, case.size)),
            (
                gradients.vjp(unpool, decoded, to_layer(weights)),
                oracles.read(share, plane),
            ),
        ]
    # Means and shares are rounded: three roundings of the dtype.
    exact = case.overlap == "sum" or count.max() <= 1
    tolerance = 0 if exact else 4 * EPSILONS[case.held_dtype]
    for actual, wanted in found:
        actual = from_layer(actual)
        same = actual == wanted
        if tolerance:
            same = np.isclose(
                actual, wanted, rtol=tolerance, atol=tolerance, equal_nan=True
            )
        elif case.is_float:
            same |= np.isnan(actual) & np.isnan(wanted)
        if not same.all():
            yield actual, wanted
    # TensorFlow's maximum of 0 and -0 is the one or the other.
    if case.is_float and keras.config.backend() != "tensorflow":
        actual = from_layer(pooled)
        signs = np.signbit(actual), np.signbit(expected)
        if (signs[0] != signs[1])[~np.isnan(expected)].any():
            yield signs


def equals_loops(case, column="eager"):
    for actual, wanted in differences(case, column):
        np.testing.assert_array_equal(actual, wanted)


def hunt(column, seed, number):
    """Compare random cases, always the same ones for a seed."""

    @hypothesis.settings(max_examples=number, deadline=None, database=None)
    @hypothesis.seed(seed)
    @hypothesis.given(cases())
    def compare(case):
        equals_loops(case, column)

    compare()


if __name__ == "__main__":
    # Nothing is compiled by XLA unless the column says so: that takes long for
    # ever new sizes.
    config.enable_compiled_kernels(False)
    name, *numbers = sys.argv[1:]
    hunt(name, *map(int, numbers))
