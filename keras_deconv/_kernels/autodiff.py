"""The kernels for backends whose own differentiation does the gradients."""

from typing import Any

import keras
from keras import ops

from keras_deconv._kernels import windows as plain
from keras_deconv._kernels.windows import (
    Windows,
    bed_of_nails,
    nearest,
    unpool,
)

Tensor = Any

__all__ = ["bed_of_nails", "nearest", "pool", "unpool"]


def pool(x: Tensor, windows: Windows, dtype: str) -> tuple[Tensor, Tensor]:
    """`plain.pool`, with the gradient going to the index's cell alone.

    The gradient of a maximum would be shared among equal values.
    """
    best, argmax = plain.pool(ops.stop_gradient(x), windows, dtype)
    pooled = plain.gather(x, argmax, windows)
    if "float" in keras.backend.standardize_dtype(x.dtype):
        # The index may say +inf where the window has NaN too.
        pooled = ops.where(ops.isnan(best), best, pooled)
    return pooled, argmax
