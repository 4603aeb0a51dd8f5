"""Bounds on the difference of floats between CPUs, derived from arithmetic.

Kernels may add the same terms in another order, or multiply and add in one
step. Each term is then rounded differently, by one unit in the last place of a
sum on the scale of the tensor. Small values therefore have the same error as
large values of the same tensor.
"""

import os

import keras
import numpy as np
import pytest

EPSILON = float(np.finfo("float32").eps)
# TensorFlow only checks the CPU, but this variable restricts oneDNN too.
needs_half_precision = pytest.mark.skipif(
    "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="oneDNN for an older CPU does not support half precision",
)


def of_sum(scale, num_terms):
    """Return the bound for a sum of a number of float32 terms."""
    return EPSILON * scale * num_terms


def num_terms(model, last=None):
    """Return the number of terms in the sums up to a layer or the output."""
    count = 0
    for layer in model.layers:
        if layer.name == last:
            break
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            is_transposed = isinstance(layer, keras.layers.Conv2DTranspose)
            filters = kernel.shape[-2 if is_transposed else -1]
            count += int(np.prod(kernel.shape)) // filters
    return count


def assert_close(actual, expected, num_terms):
    """Assert that arrays are equal up to the rounding of float32 sums."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    bound = of_sum(np.abs(expected).max(), num_terms)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
