"""The matrix of a convolution."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_deconv import _arguments, _shapes
from keras_deconv._arguments import IntOrInts

__all__ = ["conv2d_matrix"]

MAX_WEIGHTS = 2**26
"""Largest number of weights of a matrix; more would take gigabytes."""


def conv2d_matrix(
    kernel: Any,
    input_size: IntOrInts,
    strides: IntOrInts = 1,
    padding: str = "valid",
    sparse: bool | None = None,
) -> Any:
    """Return the matrix of a 2D convolution.

    Use this function to see that convolution is a linear map. If images are
    flattened to vectors, convolution is `M @ x`, and transposed convolution is
    `M.T @ y`: it uses the same weights in the opposite direction, from outputs
    to inputs. It is not the inverse: `M.T @ M` is not the identity.

    Reference: Dumoulin and Visin, 2016, "A guide to convolution arithmetic for
    deep learning", sections 4.1 and 4.2, https://arxiv.org/abs/1603.07285.

    Args:
        kernel: Array of shape `(kernel_height, kernel_width)`, or
            `(kernel_height, kernel_width, in_channels, out_channels)` as in
            `keras.layers.Conv2D`.
        input_size: int or tuple of 2 ints >= 1. Height and width of the image.
            The matrix may have at most 2**26 weights, not counting the zeros.
        strides: int or tuple of 2 ints >= 1. The default is 1.
        padding: "valid" or "same".
        sparse: bool or None. Whether to return a SciPy sparse matrix, which
            requires the extra `keras-deconv[sparse]`. None returns a sparse
            matrix if it has more than 2**22 entries.

    Returns:
        A NumPy array or a `scipy.sparse.csr_array` of shape `(out_height *
        out_width * out_channels, height * width * in_channels)`. It has the
        dtype of the kernel, except that SciPy stores half precision as float32.
        `M @ x.ravel()` equals `keras.ops.conv` of one image `x` of shape
        `(height, width, channels)`. `M.T @ y.ravel()` equals
        `keras.ops.conv_transpose` with the same kernel if its output has the
        size of the image.

    Raises:
        ValueError: If `kernel` does not have one of the shapes above, or is
            empty.
        ValueError: If `input_size` or `strides` is not an int >= 1 or a tuple
            of 2 ints >= 1.
        ValueError: If `padding` is not "valid" or "same".
        ValueError: If `sparse` is not a bool or None.
        ValueError: If the kernel is larger than the image and
            `padding="valid"`.
        ValueError: If the matrix would have more than 2**26 weights.
        ImportError: If the matrix is sparse and SciPy is not installed.

    Example:
        >>> import numpy as np, keras_deconv
        >>> kernel = np.arange(1, 10).reshape(3, 3)
        >>> matrix = keras_deconv.ops.conv2d_matrix(kernel, (4, 4))
        >>> matrix.shape
        (4, 16)
        >>> matrix[0].tolist()
        [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]
    """
    # The result is not used, since JAX would convert float64 to float32.
    _arguments.tensor(kernel, "kernel")
    kernel = np.asarray(ops.convert_to_numpy(kernel))
    if kernel.ndim == 2:
        kernel = kernel[:, :, None, None]
    if kernel.ndim != 4 or 0 in kernel.shape:
        raise ValueError(
            "`kernel` must be (height, width) or (height, width, in_channels, "
            f"out_channels). Received: shape {kernel.shape}"
        )
    size = _arguments.ints(input_size, 2, "input_size", 1)
    strides = _arguments.ints(strides, 2, "strides", 1)
    padding = _arguments.padding(padding)
    if sparse is not None:
        _arguments.boolean(sparse, "sparse")
    window = kernel.shape[:2]
    if padding == "valid" and any(
        n < k for n, k in zip(size, window, strict=True)
    ):
        raise ValueError(
            "`input_size` must be at least the kernel size with "
            f"padding='valid'. Received: input_size={size}, kernel size "
            f"{window}. Use a larger input_size or padding='same'."
        )
    pooled_size = _shapes.pooled_size(size, window, strides, padding)
    out_size = [m for m in pooled_size if m is not None]
    num_weights = math.prod((*out_size, *kernel.shape))
    if num_weights > MAX_WEIGHTS:
        raise ValueError(
            "`input_size` must result in a matrix with at most "
            f"{MAX_WEIGHTS:,} weights. Received: input_size={size}, which "
            f"results in {num_weights:,} weights. Use a smaller size."
        )
    first = [
        np.arange(m) * s - _shapes.padding_before(n, m, k, s, padding)
        for n, m, k, s in zip(size, out_size, window, strides, strict=True)
    ]
    # One entry per output pixel, kernel cell, input and output channel.
    out_row, out_column, row, column, channel, out_channel = np.ix_(
        *map(np.arange, (*out_size, *kernel.shape))
    )
    y = first[0][out_row] + row
    x = first[1][out_column] + column
    inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
    inputs = (y * size[1] + x) * kernel.shape[2] + channel
    outputs = (out_row * out_size[1] + out_column) * kernel.shape[
        3
    ] + out_channel
    shape = (
        math.prod(out_size) * kernel.shape[3],
        math.prod(size) * kernel.shape[2],
    )
    everywhere = np.broadcast_arrays(kernel, inside, outputs, inputs)
    weights, inside, outputs, inputs = (a.ravel() for a in everywhere)
    weights, outputs, inputs = (a[inside] for a in (weights, outputs, inputs))
    if sparse is None:
        sparse = math.prod(shape) > 2**22
    if not sparse:
        matrix = np.zeros(shape, kernel.dtype)
        matrix[outputs, inputs] = weights
        return matrix
    try:
        from scipy.sparse import csr_array
    except ImportError as error:
        raise ImportError(
            "A sparse matrix requires SciPy, which is not installed. Install "
            'it with: pip install "keras-deconv[sparse]". To get a NumPy array '
            f"of {math.prod(shape):,} entries instead, pass sparse=False."
        ) from error
    if weights.dtype.itemsize < 4 and "float" in weights.dtype.name:
        # SciPy does not support half precision.
        weights = weights.astype("float32")
    return csr_array((weights, (outputs, inputs)), shape=shape)
