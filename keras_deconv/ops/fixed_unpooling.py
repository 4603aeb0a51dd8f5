"""Functions for unpooling without an index."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from keras_deconv import _arguments, _backends, _kernels, _shapes
from keras_deconv._arguments import IntOrInts
from keras_deconv._kernels.windows import Windows, fit, lay_windows
from keras_deconv.ops._layout import (
    as_batch,
    channel_axis,
    from_kernel,
    target_size,
    to_kernel,
)

Tensor = Any
__all__ = ["bed_of_nails_unpool", "nearest_unpool"]


def nearest_unpool(
    values: Tensor,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    output_size: IntOrInts | None = None,
    like: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Repeat each value over its pooling window.

    This is the function behind `NearestUnpool1D`, `NearestUnpool2D` and
    `NearestUnpool3D`. It runs on every Keras backend, on eager
    tensors and inside compiled functions. In a functional model use the layers.

    Args:
        values: Tensor of rank 3, 4 or 5, with 1, 2 or 3 spatial axes. The dtype
            is float16, bfloat16, float32, float64, int8, int16, int32, int64 or
            uint8.
        pool_size: int or tuple of ints >= 1, one per spatial axis. Window that
            one value fills; at most 16,384 cells in all, such as 128x128. The
            default is 2.
        strides: None, or the same as `pool_size`, so that windows do not
            overlap or leave gaps.
        padding: "valid" or "same". Padding of the pooling that is undone.
        output_size: None, int or tuple of ints >= 1, one per spatial axis.
            Spatial size to restore. None restores the size of `like`, or
            without `like` the size that the windows cover exactly:
            `(size - 1) * strides + pool_size` for "valid" and `size * strides`
            for "same".
        like: Optional tensor with the spatial size to restore, usually the
            tensor that was pooled. Its values and its channels are not used.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).

    Returns:
        A tensor with the dtype and the channels of `values`, in the size to
        restore.

    Raises:
        ValueError: If `pool_size` is not an int >= 1 or a tuple of ints >= 1,
            or has more than 16,384 cells.
        ValueError: If `strides` is neither None nor `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of ints
            >= 1, one per spatial axis.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` is a symbolic Keras tensor, does not have rank
            3, 4 or 5, has another dtype, or is empty in an axis other than the
            batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. The first window may therefore be cut. A size to restore that
        is smaller than the default cuts the last window. A larger size, where
        pooling dropped cells at the end, repeats the last value.

        The gradient of a value is the sum over its window.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> np.squeeze(keras_deconv.ops.nearest_unpool(values)).tolist()
        [[5.0, 5.0, 7.0, 7.0], [5.0, 5.0, 7.0, 7.0]]
    """
    values = as_batch(values, "values")
    num_spatial_dims = len(values.shape) - 2
    pool_size, strides, padding = _arguments.window(
        *(pool_size, strides, padding, num_spatial_dims),
        max_cells=_arguments.MAX_FILLED_CELLS,
    )
    _arguments.check_side_by_side(strides, pool_size)
    return _unpool(
        values,
        pool_size,
        strides,
        padding,
        output_size,
        like,
        data_format,
        _kernels.nearest,
        first=(0,) * num_spatial_dims,
        fill=None,
    )


def bed_of_nails_unpool(
    values: Tensor,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    output_size: IntOrInts | None = None,
    like: Tensor | None = None,
    data_format: str | None = None,
    position: IntOrInts = 0,
) -> Tensor:
    """Put each value at a fixed position of its window; all other cells are 0.

    This is the function behind `BedOfNailsUnpool1D`, `BedOfNailsUnpool2D` and
    `BedOfNailsUnpool3D`. It runs on every Keras backend, on eager
    tensors and inside compiled functions. In a functional model use the layers.

    Args:
        values: Tensor of rank 3, 4 or 5, with 1, 2 or 3 spatial axes. The dtype
            is float16, bfloat16, float32, float64, int8, int16, int32, int64 or
            uint8.
        pool_size: int or tuple of ints >= 1, one per spatial axis. Window of
            one value; at most 16,384 cells in all, such as 128x128. The default
            is 2.
        strides: None, int or tuple of ints >= 1, one per spatial axis. Distance
            between windows, which may overlap; their product is at most 16,384.
            None means `pool_size`.
        padding: "valid" or "same". Padding of the pooling that is undone.
        output_size: None, int or tuple of ints >= 1, one per spatial axis.
            Spatial size to restore. None restores the size of `like`, or
            without `like` the size that the windows cover exactly:
            `(size - 1) * strides + pool_size` for "valid" and `size * strides`
            for "same".
        like: Optional tensor with the spatial size to restore, usually the
            tensor that was pooled. Its values and its channels are not used.
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        position: int or tuple of ints >= 0, one per spatial axis, each less
            than `pool_size`. Cell of the window that gets the value. The
            default is 0, the first cell.

    Returns:
        A tensor with the dtype and the channels of `values`, in the size to
        restore.

    Raises:
        ValueError: If `pool_size` or `strides` is not an int >= 1 or a tuple of
            ints >= 1, or has more than 16,384 cells.
        ValueError: If `position` is not an int >= 0 or a tuple of ints >= 0, or
            is not less than `pool_size`.
        ValueError: If `output_size` is not None, an int >= 1 or a tuple of ints
            >= 1, one per spatial axis.
        ValueError: If `padding` or `data_format` is not one of the values
            above.
        ValueError: If `values` is a symbolic Keras tensor, does not have rank
            3, 4 or 5, has another dtype, or is empty in an axis other than the
            batch.
        ValueError: If pooling the size to restore does not give the size of
            `values`. With "valid" padding, the last window may be incomplete.
        ValueError: If `like` has another rank than `values`, or another size
            than `output_size`.
        tf.errors.InvalidArgumentError: If pooling the size to restore does not
            give the size of `values`, in a TensorFlow graph built for unknown
            sizes.

    Edge cases:
        With "same" padding, windows begin in the padding, as they do in
        pooling. A value is dropped if its position lies in the padding or
        outside the size to restore. A size that is larger than the default,
        where pooling dropped cells at the end, is filled with 0.

        The gradient of a value is the gradient at its position.

    Example:
        >>> import numpy as np, keras_deconv
        >>> values = np.array([5.0, 7.0], "float32").reshape(1, 1, 2, 1)
        >>> np.squeeze(keras_deconv.ops.bed_of_nails_unpool(values)).tolist()
        [[5.0, 0.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    values = as_batch(values, "values")
    num_spatial_dims = len(values.shape) - 2
    pool_size, strides, padding = _arguments.window(
        *(pool_size, strides, padding, num_spatial_dims),
        max_cells=_arguments.MAX_FILLED_CELLS,
    )
    position = _arguments.position(position, pool_size)
    # The kernel fills blocks of `strides` cells. A position outside the first
    # block lies in a later one.
    blocks, cells = zip(*map(divmod, position, strides), strict=True)
    return _unpool(
        values,
        pool_size,
        strides,
        padding,
        output_size,
        like,
        data_format,
        functools.partial(_kernels.bed_of_nails, position=cells),
        first=tuple(b * s for b, s in zip(blocks, strides, strict=True)),
        fill=0,
    )


def _unpool(
    values: Tensor,
    pool_size: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    output_size: IntOrInts | None,
    like: Tensor | None,
    data_format: str | None,
    kernel: Callable[[Tensor, Windows], Tensor],
    first: tuple[int, ...],
    fill: float | None,
) -> Tensor:
    """Turn each value into a block of `strides` cells, and arrange the blocks.

    A block begins `first` cells after the first cell of its window.
    """
    output_size = _arguments.output_size(output_size, len(pool_size))
    data_format = _arguments.data_format(data_format)
    window = (pool_size, strides, padding)
    target, static = target_size(
        values,
        output_size,
        like,
        data_format,
        lambda m: _shapes.unpooled_size(m, *window),
    )
    _shapes.check_block_size(
        static,
        _shapes.spatial_size(_backends.static_shape(values), data_format),
        *window,
    )
    size = _shapes.spatial_size(_backends.shape(values), data_format)
    values = _require_blocks(values, target, size, window)
    whole = [n * s for n, s in zip(size, strides, strict=True)]
    result = kernel(
        to_kernel(values, data_format),
        lay_windows(whole, strides, strides, "valid"),
    )
    padded = lay_windows(target, *window).before
    before = [f - b for f, b in zip(first, padded, strict=True)]
    result = fit(result, before, target, fill)
    channels = _backends.shape(values)[channel_axis(data_format)]
    return from_kernel(result, channels, data_format)


def _require_blocks(
    values: Tensor, target: tuple, size: tuple, window: tuple
) -> Tensor:
    """Run `_shapes.check_block_size` on sizes known only at run time."""
    pool_size, strides, padding = window

    def rules() -> Iterator[Any]:
        for n, m, k, s in zip(target, size, pool_size, strides, strict=True):
            smallest, largest = _shapes.block_lengths(m, k, s, padding)
            yield smallest <= n
            yield n <= largest

    return _backends.require_lengths(
        rules(),
        "The size to restore (`output_size` or `like`) must give the size of "
        f"`values` when pooled with pool_size={pool_size}, strides={strides}, "
        f"padding={padding!r}. Received: size to restore",
        *target,
        "values of size",
        *size,
        before=values,
    )
