"""Functions for pooling with indices, unpooling and convolution matrices.

They run on every Keras backend, on eager tensors and inside compiled
functions. In a functional model use the layers, which call these functions.
"""

from keras_deconv.ops.convolution import conv2d_matrix
from keras_deconv.ops.fixed_unpooling import bed_of_nails_unpool, nearest_unpool
from keras_deconv.ops.index_formats import convert_argmax
from keras_deconv.ops.pooling import max_pool_with_argmax, max_unpool

__all__ = [
    "bed_of_nails_unpool",
    "conv2d_matrix",
    "convert_argmax",
    "max_pool_with_argmax",
    "max_unpool",
    "nearest_unpool",
]
