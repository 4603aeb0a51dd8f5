"""Pooling and unpooling as slow loops that a reader can check."""

import itertools

import numpy as np


def window_starts(length, window, stride, padding):
    """First cell of each window along one axis; negative in the padding."""
    if padding == "valid":
        return list(range(0, length - window + 1, stride))
    num_windows = -(-length // stride)
    total = max((num_windows - 1) * stride + window - length, 0)
    return [i * stride - total // 2 for i in range(num_windows)]


def max_pool(x, pool_size, strides, padding):
    """Pool (batch, *spatial, channels).

    Returns the maxima, the index inside the window, and the position in the
    plane of each channel. The first maximum counts, and NaN is above all.
    """
    size = x.shape[1:-1]
    starts = [
        window_starts(n, k, s, padding)
        for n, k, s in zip(size, pool_size, strides, strict=True)
    ]
    shape = (x.shape[0], *map(len, starts), x.shape[-1])
    pooled = np.zeros(shape, x.dtype)
    window_index = np.zeros(shape, "int64")
    plane_index = np.zeros(shape, "int64")
    for place in np.ndindex(shape):
        batch, *window, channel = place
        best = None
        for index, offset in enumerate(
            itertools.product(*map(range, pool_size))
        ):
            cell = tuple(
                starts[axis][w] + o
                for axis, (w, o) in enumerate(zip(window, offset, strict=True))
            )
            if any(c < 0 or c >= n for c, n in zip(cell, size, strict=True)):
                continue
            value = x[(batch, *cell, channel)]
            if value != value:
                pooled[place] = value
                value = np.inf  # NaN is as high, for the index
            if best is None or value > best:
                best = value
                if pooled[place] == pooled[place]:
                    pooled[place] = value
                window_index[place] = index
                plane_index[place] = np.ravel_multi_index(cell, size)
    return pooled, window_index, plane_index


def max_unpool(values, plane_index, size, overlap="sum"):
    """Put values at their positions in the plane of each channel."""
    batches, channels = values.shape[0], values.shape[-1]
    result = np.zeros((batches, int(np.prod(size)), channels), values.dtype)
    count = np.zeros(result.shape, int)
    for place in np.ndindex(values.shape):
        cell = (place[0], plane_index[place], place[-1])
        result[cell] += values[place]
        count[cell] += 1
    if overlap == "mean":
        result = result / np.maximum(count, 1)
    return result.reshape((batches, *size, channels))


def read(x, plane_index):
    """The cells of each channel's plane that an index names."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    index = plane_index.reshape(x.shape[0], -1, x.shape[-1])
    found = np.take_along_axis(flat, index, axis=1)
    return found.reshape(plane_index.shape)


def nearest_unpool(values, block, size, before=0):
    """Repeat values over blocks; beyond the last block repeat its value."""
    result = np.zeros((values.shape[0], *size, values.shape[-1]), values.dtype)
    for cell in np.ndindex(*size):
        source = tuple(
            min((c + before) // b, m - 1)
            for c, b, m in zip(cell, block, values.shape[1:-1], strict=True)
        )
        result[(slice(None), *cell)] = values[(slice(None), *source)]
    return result


def bed_of_nails_unpool(values, strides, position, size, before=0):
    """Put each value on the cell `position` of its window."""
    result = np.zeros((values.shape[0], *size, values.shape[-1]), values.dtype)
    for source in np.ndindex(*values.shape[1:-1]):
        cell = tuple(
            i * s + p - before
            for i, s, p in zip(source, strides, position, strict=True)
        )
        if all(0 <= c < n for c, n in zip(cell, size, strict=True)):
            result[(slice(None), *cell)] = values[(slice(None), *source)]
    return result
