"""Layers of single networks; `.h5` files support only layers."""

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("keras_deconv")
class LocalResponseNorm(keras.layers.Layer):
    """Division of each value by the energy of its neighbors across channels.

    The output is `x / (bias + alpha * sum(x ** 2)) ** beta`, summed over
    `radius` channels on both sides. Caffe divides its alpha by the number of
    channels in the window: its 1e-4 over 5 channels is 2e-5 here. The layer
    computes in float32, because squares of 0..255 exceed float16.

    Reference: Krizhevsky, Sutskever and Hinton, 2012, "ImageNet classification
    with deep convolutional neural networks", section 3.3.
    """

    def __init__(
        self,
        radius: int = 2,
        bias: float = 1.0,
        alpha: float = 2e-5,
        beta: float = 0.75,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype, **kwargs)
        self.radius = radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def build(self, input_shape: Any) -> None:
        channels = np.arange(input_shape[-1])
        is_near = np.abs(channels[:, None] - channels) <= self.radius
        self.kernel = (self.alpha * is_near).astype("float32")[None, None]

    def call(self, x: Tensor) -> Tensor:
        # A quantized convolution sums before it rounds.
        energy = ops.conv(
            ops.square(x), self.kernel, data_format="channels_last"
        )
        # TFLite's calibration applies the range of the product to both factors
        # too, so one must be small. Powers of 2 do not cause rounding.
        return x / 256 * ops.power(self.bias + energy, -self.beta) * 256

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        names = ("radius", "bias", "alpha", "beta")
        return super().get_config() | {n: getattr(self, n) for n in names}


@keras.saving.register_keras_serializable("keras_deconv")
class PadChannels(keras.layers.Layer):
    """Padding with `channels` channels of zeros after those of the input."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, x: Tensor) -> Tensor:
        return ops.pad(x, [(0, 0)] * 3 + [(0, self.channels)])

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[:-1], input_shape[-1] + self.channels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"channels": self.channels}
