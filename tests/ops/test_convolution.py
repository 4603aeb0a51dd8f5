"""Convolution as a matrix, and transposed convolution as its transpose."""

import itertools
import sys

import keras
import numpy as np
import pytest
from scipy.sparse import csr_array

from keras_deconv import ops

pytestmark = [pytest.mark.backend, pytest.mark.oldest]

KERNEL = np.arange(1, 10, dtype="float32").reshape(3, 3)


def as_numpy(x):
    return keras.ops.convert_to_numpy(x)


def test_three_by_three_on_four_by_four():
    matrix = ops.conv2d_matrix(KERNEL, 4)
    assert matrix.shape == (4, 16)
    assert np.count_nonzero(matrix) == 4 * 9


@pytest.mark.numeric
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3, (2, 1)])
@pytest.mark.parametrize("window", [(3, 3), (2, 4), (1, 1)])
def test_convolution(window, strides, padding, rng):
    kernel = rng.standard_normal((*window, 3, 2)).astype("float32")
    for size in itertools.product((4, 5, 7), (4, 6)):
        x = rng.standard_normal((*size, 3)).astype("float32")
        y = as_numpy(keras.ops.conv(x[None], kernel, strides, padding))
        matrix = ops.conv2d_matrix(kernel, size, strides, padding)
        np.testing.assert_allclose(
            matrix @ x.ravel(), y.ravel(), rtol=1e-4, atol=1e-5
        )
        sparse = ops.conv2d_matrix(kernel, size, strides, padding, sparse=True)
        np.testing.assert_array_equal(sparse.toarray(), matrix)


@pytest.mark.numeric
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, (2, 1)])
@pytest.mark.parametrize("window", [(3, 3), (2, 4)])
def test_transposed_convolution(window, strides, padding, rng):
    kernel = rng.standard_normal((*window, 3, 2)).astype("float32")
    y = rng.standard_normal((1, 3, 4, 2)).astype("float32")
    x = as_numpy(keras.ops.conv_transpose(y, kernel, strides, padding))
    matrix = ops.conv2d_matrix(kernel, x.shape[1:3], strides, padding)
    np.testing.assert_allclose(
        matrix.T @ y.ravel(), x.ravel(), rtol=1e-4, atol=1e-5
    )


def test_large_ones_are_sparse():
    matrix = ops.conv2d_matrix(KERNEL, (64, 65), padding="same")
    assert isinstance(matrix, csr_array)
    assert matrix.shape == (64 * 65, 64 * 65)
    assert matrix.nnz == (64 * 3 - 2) * (65 * 3 - 2)
    assert isinstance(ops.conv2d_matrix(KERNEL, (8, 8)), np.ndarray)


def test_dtype_is_the_kernels():
    assert ops.conv2d_matrix(KERNEL.astype("float64"), 4).dtype == "float64"
    half = ops.conv2d_matrix(KERNEL.astype("float16"), 4, sparse=True)
    assert half.dtype == "float32"
    assert ops.conv2d_matrix(np.eye(2, dtype=int), 4).dtype == int


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(kernel=np.zeros(3)), "`kernel` must be"),
        (dict(kernel=np.zeros((0, 3))), "`kernel` must be"),
        (dict(input_size=(4, 4, 4)), "`input_size`"),
        (dict(input_size=2), "`input_size` must be at least the kernel"),
        (dict(strides=0), "`strides`"),
        (dict(padding="full"), "`padding`"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        ops.conv2d_matrix(**{"kernel": KERNEL, "input_size": 4, **arguments})


def test_a_sparse_matrix_without_scipy_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    kernel = np.ones((2, 2))
    assert ops.conv2d_matrix(kernel, 4).shape == (9, 16)
    with pytest.raises(
        ImportError, match=r"keras-deconv\[sparse\].*sparse=False"
    ):
        ops.conv2d_matrix(kernel, 4, sparse=True)
