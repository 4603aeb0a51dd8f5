"""Initializers for the kernels of transposed convolutions.

Both initializers make a `keras.layers.Conv2DTranspose` start without
checkerboard artifacts. Kernels have the shape `(*kernel_size, filters,
channels)`, with any number of spatial axes.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deconv import _arguments

__all__ = ["ICNR", "BilinearInitializer"]

Tensor = Any


@keras.saving.register_keras_serializable("keras_deconv")
class BilinearInitializer(keras.initializers.Initializer):
    """Initializer of a transposed convolution as linear interpolation.

    Use it for upsampling layers, as FCN does: filter `i` interpolates channel
    `i` and ignores the other channels. The weights that reach an output sum to
    1, so constant images stay constant except near their edges.

    Reference: Long, Shelhamer and Darrell, 2015, "Fully convolutional networks
    for semantic segmentation", section 3.3, https://arxiv.org/abs/1411.4038,
    and `upsample_filt` in the authors' surgery.py,
    https://github.com/shelhamer/fcn.berkeleyvision.org. The weights are the
    same if the kernel size is `2 * strides - strides % 2`. The authors do not
    train them.

    Args:
        strides: None, int or sequence of ints >= 1, one per spatial axis.
            Strides of the layer. None uses half the kernel size, rounded up.
            This requires the kernel size `2 * strides - strides % 2`: 4 for
            strides of 2, 5 for 3, 8 for 4.

    Call arguments:
        shape: Sequence of ints `(*kernel_size, filters, channels)`. If there
            are more filters than channels, the additional filters start at 0.
        dtype: Float dtype of the kernel. None means `keras.config.floatx()`.

    Returns:
        A tensor of this shape and dtype, with values in 0..1.

    Raises:
        ValueError: If `strides` is not an int >= 1, one int >= 1 per spatial
            axis, or None.
        ValueError: If `strides` is None and the kernel size is not
            `2 * strides - strides % 2` for any strides.
        ValueError: If `shape` is not at least three ints >= 1.
        ValueError: If `dtype` is not a float dtype.

    Example:
        >>> import keras, keras_deconv
        >>> initializer = keras_deconv.initializers.BilinearInitializer()
        >>> kernel = initializer((4, 4, 1, 1))
        >>> print(keras.ops.convert_to_numpy(kernel)[0, :, 0, 0] * 16)
        [1. 3. 3. 1.]
        >>> layer = keras.layers.Conv2DTranspose(
        ...     3, 4, strides=2, padding="same", kernel_initializer=initializer
        ... )
    """

    def __init__(self, strides: _arguments.IntOrInts | None = None) -> None:
        self.strides = None if strides is None else _strides(strides)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        kernel_size, filters, channels = _split(shape)
        dtype = _arguments.float_dtype(dtype)
        if self.strides is None:
            strides = _strides_of(kernel_size)
        else:
            strides = _arguments.ints(
                self.strides, len(kernel_size), "strides", minimum=1
            )
        window = np.ones(())
        for size, stride in zip(kernel_size, strides, strict=True):
            window = np.multiply.outer(window, _triangle(size, stride))
        kernel = window[..., None, None] * np.eye(filters, channels)
        return ops.convert_to_tensor(kernel, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"strides": self.strides}


@keras.saving.register_keras_serializable("keras_deconv")
class ICNR(keras.initializers.Initializer):
    """Initializer of a transposed convolution as convolution and upsampling.

    Use it to start without checkerboard artifacts but train all weights. At the
    start, the layer is a convolution followed by nearest-neighbor upsampling:
    all outputs in a block of `strides` have the same weights. Training may
    change them separately. The name stands for "initialized to convolution NN
    resize".

    Reference: Aitken et al., 2017, "Checkerboard artifact free sub-pixel
    convolution", section 3, https://arxiv.org/abs/1707.02937. The paper
    initializes kernels of sub-pixel convolutions. A transposed convolution with
    the kernel size `k * strides` equals a sub-pixel convolution with the kernel
    size `k`.

    Args:
        strides: int or sequence of ints >= 1, one per spatial axis. Strides of
            the layer.
        initializer: Initializer of the convolution, or its name. The default is
            "he_normal".

    Call arguments:
        shape: Sequence of ints `(*kernel_size, filters, channels)`. Each kernel
            size must be a multiple of the strides.
        dtype: Float dtype of the kernel. None means `keras.config.floatx()`.

    Returns:
        A tensor of this shape and dtype.

    Raises:
        ValueError: If `strides` is not an int >= 1 or one int >= 1 per spatial
            axis.
        ValueError: If `initializer` is not a Keras initializer or its name.
        ValueError: If `shape` is not at least three ints >= 1.
        ValueError: If a kernel size is not a multiple of the strides.
        ValueError: If `dtype` is not a float dtype.

    Example:
        >>> import keras, keras_deconv
        >>> initializer = keras_deconv.initializers.ICNR(strides=2)
        >>> kernel = keras.ops.convert_to_numpy(initializer((2, 2, 1, 1)))
        >>> bool((kernel == kernel[0, 0]).all())
        True
    """

    def __init__(
        self, strides: _arguments.IntOrInts, initializer: Any = "he_normal"
    ) -> None:
        self.strides = _strides(strides)
        self.initializer = _arguments.initializer(initializer, "initializer")

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        kernel_size, filters, channels = _split(shape)
        strides = _arguments.ints(
            self.strides, len(kernel_size), "strides", minimum=1
        )
        if any(k % s for k, s in zip(kernel_size, strides, strict=True)):
            raise ValueError(
                "`strides` must divide the kernel size in ICNR, since a block "
                "of outputs shares its weights. Received: strides="
                f"{strides}, kernel size {kernel_size}. Use a kernel size that "
                "is a multiple of the strides."
            )
        small = [k // s for k, s in zip(kernel_size, strides, strict=True)]
        # With the axes of a convolution kernel, the initializer computes the
        # right fan-in.
        kernel = self.initializer(
            (*small, channels, filters), dtype=_arguments.float_dtype(dtype)
        )
        kernel = ops.swapaxes(kernel, -1, -2)
        for axis, stride in enumerate(strides):
            kernel = ops.repeat(kernel, stride, axis=axis)
        return kernel

    def get_config(self) -> dict[str, Any]:
        return {
            "strides": self.strides,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def _strides(value: _arguments.IntOrInts) -> int | tuple[int, ...]:
    if isinstance(value, Iterable):
        return _arguments.counts(value, "strides")
    return _arguments.positive_int(value, "strides")


def _split(shape: Any) -> tuple[tuple[int, ...], int, int]:
    """Split the shape of a kernel into kernel size, filters and channels."""
    sizes = _arguments.counts(shape, "shape")
    if len(sizes) < 3:
        raise ValueError(
            "`shape` must be (*kernel_size, filters, channels), the shape of "
            "the kernel of a transposed convolution. Received: "
            f"shape={sizes}"
        )
    *kernel_size, filters, channels = sizes
    return tuple(kernel_size), filters, channels


def _strides_of(kernel_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides whose linear interpolation has this kernel size."""
    # 2 * strides - strides % 2 is 1, 4, 5, 8, 9 and so on.
    if any(size % 4 > 1 for size in kernel_size):
        raise ValueError(
            "`strides` must be set if the kernel size is not "
            "2 * strides - strides % 2, for example 4 for strides of 2. "
            f"Received: strides=None, kernel size {kernel_size}. Pass the "
            "strides of the layer, such as BilinearInitializer(strides=2)."
        )
    return tuple((size + 1) // 2 for size in kernel_size)


def _triangle(size: int, stride: int) -> np.ndarray:
    """Return the weights of linear interpolation along one axis.

    Weights at a distance of `stride` reach the same output. They sum to 1.
    """
    distance = np.abs(np.arange(size) - (size - 1) / 2)
    weights = np.maximum(0.0, 1 - distance / stride)
    phases = np.arange(size) % stride
    sums = np.bincount(phases, weights)
    return weights / np.where(sums, sums, 1)[phases]
