"""Random poolings and unpoolings, and what of them differs from NumPy loops.

One generator for every backend. Values are small integers, exact in every
dtype, and some are not finite, so that nothing may differ by a bit, except
where a mean is rounded.
"""

import dataclasses

import keras
import numpy as np
from hypothesis import strategies as st

from keras_deconv import ops
from tests import gradients, oracles

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


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

    def numbers(self, shape, seed):
        rng = np.random.default_rng((self.seed, seed))
        low = 0 if self.dtype == "uint8" else -3
        return rng.integers(low, 4, shape).astype("float64")

    def inputs(self):
        x = self.numbers((self.batch, *self.size, self.channels), 0)
        rng = np.random.default_rng((self.seed, 1))
        if self.is_float and self.seed % 3 == 0:
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


def differences(case):
    """What differs from the loops: pairs of arrays that ought to be equal."""
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

    def to_layer(array, dtype=case.dtype):
        if case.data_format == "channels_first":
            array = np.moveaxis(array, -1, 1)
        return keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)

    def from_layer(tensor):
        array = keras.ops.convert_to_numpy(tensor).astype("float64")
        if case.data_format == "channels_first":
            array = np.moveaxis(array, 1, -1)
        return array

    inputs, decoded = to_layer(x), to_layer(values)
    pooled, argmax = ops.max_pool_with_argmax(inputs, **window)

    def unpool(decoded):
        return ops.max_unpool(
            decoded, argmax, like=inputs, overlap=case.overlap, **window
        )

    standard = keras.backend.standardize_dtype
    assert standard(pooled.dtype) == standard(inputs.dtype)
    found = [
        (pooled, expected),
        (argmax, index),
        (unpool(decoded), restored),
    ]
    if case.is_float:
        gradient = gradients.vjp(
            lambda x: ops.max_pool_with_argmax(x, **window)[0],
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
    tolerance = 0 if exact else 4 * float(np.finfo("float32").eps)
    if case.dtype in ("float16", "bfloat16"):
        tolerance = (
            0 if exact else {"float16": 2e-3, "bfloat16": 2e-2}[case.dtype]
        )
    for actual, wanted in found:
        actual = from_layer(actual)
        same = np.isclose(
            actual, wanted, rtol=tolerance, atol=tolerance, equal_nan=True
        )
        if not same.all():
            yield actual, wanted


def equals_loops(case):
    for actual, wanted in differences(case):
        np.testing.assert_array_equal(actual, wanted)
