"""Gradients with NaN and infinity are the same on every backend.

The gradient of pooling goes to the cell of the index, and unpooling reads its
gradient there, for all values.
"""

import keras
import numpy as np
import pytest

from keras_deconv import ops
from tests import gradients

pytestmark = pytest.mark.backend

nan, inf = np.nan, np.inf


def as_numpy(x):
    return np.ravel(keras.ops.convert_to_numpy(x)).tolist()


def tensor(values, shape):
    return keras.ops.convert_to_tensor(
        np.array(values, "float32").reshape(shape)
    )


@pytest.mark.parametrize("index_format", ["window", "plane", "flat"])
@pytest.mark.parametrize(
    ("window", "index"),
    [
        ([nan, 1, 2, 3], 0),
        ([1, nan, nan, 3], 1),
        ([1, 3, nan, inf], 2),
        ([0, inf, nan, 1], 1),
        ([-inf, -inf, -inf, -inf], 0),
        ([1, inf, 2, inf], 1),
    ],
)
def test_pooling_hands_it_to_the_cell_of_the_index(window, index, index_format):
    x = tensor(window, (1, 2, 2, 1))
    gradient = gradients.vjp(
        lambda x: ops.max_pool_with_argmax(x, index_format=index_format)[0],
        x,
        tensor([5], (1, 1, 1, 1)),
    )
    expected = np.zeros(4)
    expected[index] = 5
    assert as_numpy(gradient) == expected.tolist()


@pytest.mark.parametrize("index_format", ["window", "plane", "flat"])
@pytest.mark.parametrize("overlap", ["sum", "mean"])
@pytest.mark.parametrize(
    "values", [[inf, 1], [inf, inf], [-inf, inf], [nan, 1], [2, 1]]
)
def test_unpooling_reads_it_there(values, overlap, index_format):
    """The maximum of both windows is the middle one of three cells."""
    window = dict(pool_size=2, strides=1, index_format=index_format)
    argmax = keras.ops.convert_to_tensor(
        np.array([1, 0] if index_format == "window" else [1, 1], "int32")
    )
    gradient = gradients.vjp(
        lambda values: ops.max_unpool(
            values,
            keras.ops.reshape(argmax, (1, 2, 1)),
            overlap=overlap,
            **window,
        ),
        tensor(values, (1, 2, 1)),
        tensor([7, 6, 7], (1, 3, 1)),
    )
    assert as_numpy(gradient) == ([3, 3] if overlap == "mean" else [6, 6])


@pytest.mark.parametrize("upstream", [nan, inf])
def test_what_comes_from_above_stays_on_its_cell(upstream):
    x = tensor([1, 4, 2, 3], (1, 2, 2, 1))
    gradient = gradients.vjp(
        lambda x: ops.max_pool_with_argmax(x)[0],
        x,
        tensor([upstream], (1, 1, 1, 1)),
    )
    np.testing.assert_array_equal(as_numpy(gradient), [0, upstream, 0, 0])


@pytest.mark.parametrize("index_format", ["window", "plane", "flat"])
@pytest.mark.parametrize("overlap", ["sum", "mean"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_batch_may_be_empty(index_format, overlap, data_format):
    shape = (0, 5, 6, 3) if data_format == "channels_last" else (0, 3, 5, 6)
    options = dict(
        padding="same", index_format=index_format, data_format=data_format
    )
    x = keras.ops.zeros(shape, "float32")
    pooled, argmax = ops.max_pool_with_argmax(x, **options)
    y = ops.max_unpool(pooled, argmax, like=x, overlap=overlap, **options)
    assert tuple(y.shape) == shape
    assert tuple(pooled.shape) == tuple(argmax.shape)
    gradient = gradients.vjp(
        lambda values: ops.max_unpool(
            values, argmax, like=x, overlap=overlap, **options
        ),
        pooled,
        y,
    )
    assert tuple(gradient.shape) == tuple(pooled.shape)
