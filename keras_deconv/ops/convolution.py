"""Convolution as a matrix."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_deconv import _arguments, _shapes
from keras_deconv._arguments import IntOrInts

__all__ = ["conv2d_matrix"]

MAX_WEIGHTS = 2**26
"""Of a matrix; more would take gigabytes."""


def conv2d_matrix(
    kernel: Any,
    input_size: IntOrInts,
    strides: IntOrInts = 1,
    padding: str = "valid",
    sparse: bool | None = None,
) -> Any:
    """Write a 2D convolution as the matrix that it is.

    With images laid out as vectors, convolution is `M @ x`, and transposed
    convolution is `M.T @ y`: the same pattern of weights, from outputs back to
    inputs. It is not an inverse: `M.T @ M` is not the identity.

    Reference: Dumoulin and Visin, 2016, "A guide to convolution arithmetic for
    deep learning", sections 4.1 and 4.2, https://arxiv.org/abs/1603.07285.

    Args:
        kernel: Array `(kernel_height, kernel_width)`, or with channels
            `(kernel_height, kernel_width, in_channels, out_channels)`, as in
            `keras.layers.Conv2D`.
        input_size: int or tuple of 2 ints >= 1. Height and width. The matrix
            may have at most 2**26 weights, zeros not counted.
        strides: int or tuple of 2 ints >= 1.
        padding: "valid" or "same".
        sparse: Whether to return a SciPy sparse matrix, which needs the extra
            `keras-deconv[sparse]`. None does so for more than 2**22 entries.

    Returns:
        NumPy array, or `scipy.sparse.csr_array`, of shape `(out_height *
        out_width * out_channels, height * width * in_channels)` in the dtype
        of the kernel (half precision becomes float32 in a sparse one).
        `M @ x.ravel()` is `keras.ops.conv` of one image `x`
        (height, width, channels), and `M.T @ y.ravel()` is
        `keras.ops.conv_transpose` with the same kernel, where that has the
        size of the input.

    Raises:
        ValueError: If an argument is not as described, or the kernel does not
            fit into the input.
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
    # Only a check: JAX would make float64 narrower.
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
            "`input_size` must be at least the kernel with padding='valid'. "
            f"Received: input_size={size}, kernel of {window}. Use a larger "
            "input_size or padding='same'."
        )
    pooled_size = _shapes.pooled_size(size, window, strides, padding)
    out_size = [m for m in pooled_size if m is not None]
    num_weights = math.prod((*out_size, *kernel.shape))
    if num_weights > MAX_WEIGHTS:
        raise ValueError(
            "`input_size` must be one whose matrix has at most "
            f"{MAX_WEIGHTS:,} weights. Received: input_size={size}, which "
            f"gives {num_weights:,}. Use a smaller size."
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
            "A sparse matrix needs SciPy, which is not installed: pip install "
            f'"keras-deconv[sparse]". The matrix has {math.prod(shape):,} '
            "entries; sparse=False returns a NumPy array."
        ) from error
    if weights.dtype.itemsize < 4 and "float" in weights.dtype.name:
        weights = weights.astype("float32")  # SciPy has no half precision
    return csr_array((weights, (outputs, inputs)), shape=shape)
