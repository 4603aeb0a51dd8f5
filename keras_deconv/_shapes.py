"""Output sizes of pooling and unpooling, in pure Python.

An unknown size is None and stays None.

Notation for one spatial axis: n input size, k window, s stride, m number of
windows. Dumoulin and Visin, 2016, "A guide to convolution arithmetic for deep
learning", relationships 5 (pooling) and 8 (its transpose),
https://arxiv.org/abs/1603.07285.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Size = Sequence[int | None]


def pooled_length(
    length: int | None, window: int, stride: int, padding: str
) -> int | None:
    """Return the number of windows along one axis.

    >>> pooled_length(45, 2, 2, "valid"), pooled_length(45, 2, 2, "same")
    (22, 23)
    """
    if length is None:
        return None
    if padding == "same":
        return -(-length // stride)
    return max((length - window) // stride + 1, 0)


def unpooled_length(
    num_windows: int | None, window: int, stride: int, padding: str
) -> int | None:
    """Return the size that the windows cover exactly along one axis.

    Other sizes can have the same number of windows.

    >>> unpooled_length(23, 2, 2, "same"), unpooled_length(22, 3, 2, "valid")
    (46, 45)
    """
    if num_windows is None:
        return None
    if padding == "same":
        return num_windows * stride
    return (num_windows - 1) * stride + window


def lengths_before_pooling(
    num_windows: Any, window: int, stride: int, padding: str
) -> tuple[Any, Any]:
    """Return the smallest and the largest size with `num_windows` windows.

    >>> lengths_before_pooling(23, 2, 2, "same")
    (45, 46)
    """
    if padding == "same":
        largest = num_windows * stride
    else:
        largest = (num_windows - 1) * stride + window + stride - 1
    return largest - stride + 1, largest


def padding_before(
    length: int, num_windows: int, window: int, stride: int, padding: str
) -> int:
    """Return the number of padding cells before the first cell of an axis.

    With "same" padding, this is half of the padding, rounded down.

    >>> padding_before(45, 23, 2, 2, "same"), padding_before(9, 3, 4, 4, "same")
    (0, 1)
    """
    if padding == "valid":
        return 0
    return max((num_windows - 1) * stride + window - length, 0) // 2


def pooled_size(
    size: Size, pool_size: Sequence[int], strides: Sequence[int], padding: str
) -> tuple[int | None, ...]:
    """Return the spatial size after pooling.

    Raises:
        ValueError: If an axis is empty or, with "valid" padding, shorter than
            its window.
    """
    result = tuple(
        pooled_length(n, k, s, padding)
        for n, k, s in zip(size, pool_size, strides, strict=True)
    )
    if any(m == 0 and n != 0 for n, m in zip(size, result, strict=True)) or any(
        n == 0 for n in size
    ):
        raise ValueError(
            "Each spatial size of `inputs` must be at least 1 and, with "
            "padding='valid', at least the window size. Received: inputs of "
            f"size {tuple(size)}, pool_size={tuple(pool_size)}, "
            f"padding={padding!r}. Use larger inputs, a smaller `pool_size` "
            "or padding='same'."
        )
    return result


def unpooled_size(
    size: Size, pool_size: Sequence[int], strides: Sequence[int], padding: str
) -> tuple[int | None, ...]:
    """Return the default spatial size after unpooling."""
    return tuple(
        unpooled_length(m, k, s, padding)
        for m, k, s in zip(size, pool_size, strides, strict=True)
    )


def check_unpooled_size(
    target: Size,
    size: Size,
    pool_size: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> None:
    """Check that `target` pools to `size`; unknown sizes pass.

    Raises:
        ValueError: If `target` does not pool to `size`.
    """
    ranges = []
    fits = True
    for n, m, k, s in zip(target, size, pool_size, strides, strict=True):
        if m is None:
            ranges.append("any")
            continue
        smallest, largest = lengths_before_pooling(m, k, s, padding)
        ranges.append(
            str(largest)
            if smallest == largest
            else f"{max(smallest, 1)} to {largest}"
        )
        fits = fits and (n is None or smallest <= n <= largest)
    if not fits:
        raise ValueError(
            "The size to restore (`output_size` or `like`) must pool to the "
            f"size of `values`, {tuple(size)}, with "
            f"pool_size={tuple(pool_size)}, strides={tuple(strides)}, "
            f"padding={padding!r}. Possible sizes: {' x '.join(ranges)}. "
            f"Received: {tuple(target)}. Pass the tensor that was pooled as "
            "`like`, and the arguments of the pooling layer."
        )


def block_lengths(
    num_windows: Any, window: int, stride: int, padding: str
) -> tuple[Any, Any]:
    """Return the smallest and the largest size that windows can fill.

    With "valid" padding, the last window may be incomplete.

    >>> block_lengths(3, 2, 2, "valid"), block_lengths(3, 2, 2, "same")
    ((5, 7), (5, 6))
    """
    smallest, largest = lengths_before_pooling(
        num_windows, window, stride, padding
    )
    if padding == "valid":
        smallest = (num_windows - 1) * stride + 1
    return smallest, largest


def check_block_size(
    target: Sequence,
    size: Sequence,
    pool_size: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> None:
    """Check that windows of `size` values can fill `target`; None passes.

    Raises:
        ValueError: If pooling `target` does not give `size`. With "valid"
            padding, the last window may be incomplete.
    """
    window = zip(target, size, pool_size, strides, strict=True)
    for n, m, k, s in window:
        if n is None or m is None:
            continue
        smallest, largest = block_lengths(m, k, s, padding)
        if not smallest <= n <= largest:
            raise ValueError(
                "The size to restore (`output_size` or `like`) must give the "
                f"size of `values`, {tuple(size)}, when pooled with "
                f"pool_size={tuple(pool_size)}, strides={tuple(strides)}, "
                f"padding={padding!r}. Received: {tuple(target)}. Pass the "
                "tensor that was pooled as `like`, and the arguments of the "
                "pooling layer."
            )


def settle_size(
    output_size: Sequence | None, like_size: Sequence | None, default: Sequence
) -> tuple:
    """Return the spatial size of `like`, else `output_size`, else the default.

    Raises:
        ValueError: If `output_size` and `like` have different sizes.
        ValueError: If `like` does not have the rank of the values.
    """
    if like_size is not None and len(like_size) != len(default):
        raise ValueError(
            "`like` must have the rank of `values`. Received: values with "
            f"{len(default)} spatial axes, like with {len(like_size)}"
        )
    if output_size is None or like_size is None:
        return tuple(like_size or output_size or default)
    if any(
        isinstance(b, int) and a != b
        for a, b in zip(output_size, like_size, strict=True)
    ):
        raise ValueError(
            "`output_size` and `like` must not request different sizes. Pass "
            "only one of them. Received: "
            f"output_size={tuple(output_size)}, like of spatial size "
            f"{tuple(like_size)}"
        )
    return tuple(output_size)


def spatial_axes(num_spatial_dims: int, data_format: str) -> range:
    """Return the axes of the spatial dimensions of a batch."""
    first = 1 if data_format == "channels_last" else 2
    return range(first, first + num_spatial_dims)


def spatial_size(shape: Sequence, data_format: str) -> tuple:
    """Return the spatial part of the shape of a batch.

    >>> spatial_size((8, 3, 45, None), "channels_first")
    (45, None)
    """
    axes = spatial_axes(len(shape) - 2, data_format)
    return tuple(shape[axis] for axis in axes)


def with_spatial_size(
    shape: Sequence, size: Iterable, data_format: str
) -> tuple:
    """Return the shape of a batch with another spatial size.

    >>> with_spatial_size((8, 45, 60, 3), (23, 30), "channels_last")
    (8, 23, 30, 3)
    """
    result = list(shape)
    axes = spatial_axes(len(shape) - 2, data_format)
    for axis, length in zip(axes, size, strict=True):
        result[axis] = length
    return tuple(result)
