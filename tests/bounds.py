"""How much floats may differ between CPUs: bounds that follow from arithmetic.

Kernels add the same terms in another order, or multiply and add in one step:
each term then rounds in another way, by a unit in the last place of a sum that
has the scale of the tensor. A small value among large ones gets as large an
error as they do.
"""

import os

import keras
import numpy as np
import pytest

EPSILON = float(np.finfo("float32").eps)
# TensorFlow asks the CPU, and then oneDNN for kernels that it must not use.
needs_half_precision = pytest.mark.skipif(
    "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="a oneDNN that is held to an older CPU lacks half precision",
)


def of_sum(scale, num_terms):
    """What a sum of so many float32 terms may differ by."""
    return EPSILON * scale * num_terms


def num_terms(model, last=None):
    """The terms of all sums on the way to a layer, or to the end."""
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
    """Equal, but for the rounding of sums of float32."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    bound = of_sum(np.abs(expected).max(), num_terms)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
