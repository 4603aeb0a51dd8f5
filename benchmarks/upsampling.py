"""Networks with the upsampling layers of Keras, for comparison."""

from collections.abc import Callable
from typing import Any

import keras

from keras_deconv import NearestUnpool2D

BASELINE = "keras upsampling"


def segnet(
    build: Callable[..., keras.Model],
    image_size: tuple[int, int],
    num_classes: int,
    decoder: str,
) -> keras.Model:
    """Build a network with one of the decoders, or with `BASELINE`."""
    is_baseline = decoder == BASELINE
    model = build(
        (*image_size, 3),
        num_classes,
        decoder="nearest" if is_baseline else decoder,
    )
    if is_baseline:
        return keras.models.clone_model(
            model, clone_function=with_keras_upsampling
        )
    return model


def with_keras_upsampling(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, NearestUnpool2D):
        return CroppedUpSampling2D(data_format="channels_last", name=layer.name)
    return layer.__class__.from_config(layer.get_config())


class CroppedUpSampling2D(keras.layers.UpSampling2D):
    """`UpSampling2D` that crops the output to an odd size."""

    def call(self, values: Any, like: Any) -> Any:
        return super().call(values)[:, : like.shape[1], : like.shape[2]]

    def compute_output_shape(self, values_shape: Any, like_shape: Any) -> Any:
        return (*like_shape[:3], values_shape[3])
