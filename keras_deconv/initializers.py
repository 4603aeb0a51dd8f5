"""First values for the kernels of transposed convolutions.

Both make a `keras.layers.Conv2DTranspose` start without a checkerboard. Kernels
have the layout of Keras' transposed convolutions, `(*kernel_size, filters,
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
    """Start a transposed convolution as linear interpolation.

    Filter `i` interpolates channel `i`, and has no other. The weights that
    reach an output sum to 1, so that constant images stay constant inside.

    Reference: Long, Shelhamer and Darrell, 2015, "Fully convolutional networks
    for semantic segmentation", section 3.3, https://arxiv.org/abs/1411.4038,
    and `upsample_filt` of the authors' surgery.py,
    https://github.com/shelhamer/fcn.berkeleyvision.org, which is the same where
    the kernel is `2 * strides - strides % 2` wide. They do not train it.

    Args:
        strides: int or one int per spatial axis: the strides of the layer.
            None: half the kernel, rounded up, where the kernel has that width
            for these strides: 4 for 2, 5 for 3, 8 for 4.

    Call arguments:
        shape: `(*kernel_size, filters, channels)`. Filters beyond the number
            of channels start at 0.
        dtype: A float dtype; None for `keras.config.floatx()`.

    Returns:
        Tensor of that shape and dtype, values 0..1.

    Raises:
        ValueError: `strides` are no ints >= 1, or None for a kernel of another
            width; the shape is not that of a kernel, or the dtype no float.

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
    """Start a transposed convolution as convolution and nearest upsampling.

    All outputs of a block of `strides` get the same weights, so that nothing
    in the first image tells the cells of a block apart; training then may.
    "Initialized to convolution NN resize".

    Reference: Aitken et al., 2017, "Checkerboard artifact free sub-pixel
    convolution", https://arxiv.org/abs/1707.02937, section 3. The paper has
    kernels of sub-pixel convolution; a transposed convolution whose kernel is
    `k * strides` wide is the sub-pixel convolution of width `k`.

    Args:
        strides: int or one int per spatial axis: the strides of the layer.
        initializer: Name or instance of the initializer of the convolution.

    Call arguments:
        shape: `(*kernel_size, filters, channels)`; each kernel size is a
            multiple of the strides.
        dtype: A float dtype; None for `keras.config.floatx()`.

    Returns:
        Tensor of that shape and dtype.

    Raises:
        ValueError: `strides` are no ints >= 1, the shape is not that of a
            kernel, the kernel is no multiple of the strides, or the dtype no
            float.

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
                "`strides` must divide the kernel size in ICNR: a block of "
                "outputs has to share its weights. Received: strides="
                f"{strides}, kernel of {kernel_size}. Use a kernel that is a "
                "multiple of the strides."
            )
        small = [k // s for k, s in zip(kernel_size, strides, strict=True)]
        # As a convolution's kernel, for the initializer's fan-in to be right.
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
    """Kernel size, filters and channels of a transposed convolution."""
    sizes = _arguments.counts(shape, "shape")
    if len(sizes) < 3:
        raise ValueError(
            "`shape` must be (*kernel_size, filters, channels), the kernel of "
            f"a transposed convolution. Received: shape={sizes}"
        )
    *kernel_size, filters, channels = sizes
    return tuple(kernel_size), filters, channels


def _strides_of(kernel_size: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that a kernel is as wide as linear interpolation for."""
    # 2 * strides - strides % 2 is 1, 4, 5, 8, 9 and so on.
    if any(size % 4 > 1 for size in kernel_size):
        raise ValueError(
            "`strides` must be given for a kernel that is not "
            "2 * strides - strides % 2 wide, as 4 is for 2. Received: "
            f"strides=None, kernel of {kernel_size}. Give the strides of the "
            "layer, e.g. BilinearInitializer(strides=2)."
        )
    return tuple((size + 1) // 2 for size in kernel_size)


def _triangle(size: int, stride: int) -> np.ndarray:
    """Weights of linear interpolation along one axis.

    Every `stride`-th weight reaches the same output, so these sum to 1.
    """
    distance = np.abs(np.arange(size) - (size - 1) / 2)
    weights = np.maximum(0.0, 1 - distance / stride)
    phases = np.arange(size) % stride
    sums = np.bincount(phases, weights)
    return weights / np.where(sums, sums, 1)[phases]
