"""Kernels for backends with automatic differentiation, such as JAX.

The kernels are linear in the values, even if the values are not finite.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_deconv._kernels import positions as general
from keras_deconv._kernels import windows as plain
from keras_deconv._kernels.windows import (
    Length,
    Windows,
    bed_of_nails,
    nearest,
)

Tensor = Any

__all__ = [
    "bed_of_nails",
    "nearest",
    "pool",
    "pool_to_positions",
    "scatter",
    "unpool",
]


def pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """Run `plain.pool` with a gradient only for the cell of the index.

    The automatic gradient of a maximum would be shared among equal values.
    """
    best, argmax = plain.pool(ops.stop_gradient(x), windows, dtype)
    pooled = plain.gather(x, argmax, windows)
    if "float" in keras.backend.standardize_dtype(x.dtype):
        # The index may name +inf if the window also has NaN. Adding -0.0 does
        # not change any number, but adding 0.0 would change -0.0.
        nothing = ops.cast(-0.0, best.dtype)
        pooled = pooled + ops.where(ops.isnan(best), best, nothing)
    return pooled, argmax


def pool_to_positions(
    x: Tensor, windows: Windows, window_dtype: str, dtype: str
) -> tuple[Tensor, Tensor]:
    """Return the maxima and their positions in the plane."""
    pooled, argmax = pool(x, windows, window_dtype)
    return pooled, general.to_positions(argmax, windows, dtype)


def unpool(
    values: Tensor, argmax: Tensor, windows: Windows, overlap: str
) -> Tensor:
    """Run `plain.unpool` with the right derivative of a mean at infinity."""

    def put(values: Tensor, argmax: Tensor, overlap: str) -> Tensor:
        return plain.unpool(values, argmax, windows, overlap)

    return _put(put, values, argmax, overlap)


def scatter(
    values: Tensor, positions: Tensor, size: Sequence[Length], overlap: str
) -> Tensor:
    """Run `general.scatter` with the right derivative of a mean at infinity."""

    def put(values: Tensor, positions: Tensor, overlap: str) -> Tensor:
        return general.scatter(values, positions, size, overlap)

    return _put(put, values, positions, overlap)


def _put(
    put: Callable[..., Tensor], values: Tensor, index: Tensor, overlap: str
) -> Tensor:
    if overlap == "sum" or keras.config.backend() != "jax":
        return put(values, index, overlap)
    import jax

    @jax.custom_jvp
    def mean(values: Tensor, index: Tensor) -> Tensor:
        return put(values, index, "mean")

    @mean.defjvp
    def derivative(primals: tuple, tangents: tuple) -> tuple[Tensor, Tensor]:
        values, index = primals
        count = put(ops.ones_like(values), index, "sum")
        tangent = put(tangents[0], index, "sum") / ops.maximum(count, 1)
        return mean(values, index), tangent

    return mean(values, index)
