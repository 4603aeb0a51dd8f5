"""Resize images to the size a model takes, and its scores back.

Training, prediction and exported models call these functions, so they agree
to the bit. All of them map centers of pixels to each other. TensorFlow is
imported when they are called: JAX and PyTorch users may not have it.
"""

from collections.abc import Sequence
from typing import Any


def images(values: Any, size: Sequence[int]) -> Any:
    """Resize images in 0..255 to float32; integers become whole numbers.

    Args:
        values: `([batch,] height, width, channels)`, of any number dtype.
        size: Height and width.
    """
    import tensorflow as tf

    values = tf.convert_to_tensor(values)
    resized = tf.image.resize(values, size, "bilinear", antialias=True)
    # As a file of the resized image would hold them.
    return resized if values.dtype.is_floating else tf.round(resized)


def labels(values: Any, size: Sequence[int]) -> Any:
    """Resize label maps `(height, width)` by taking the nearest pixel."""
    import tensorflow as tf

    return tf.image.resize(values[..., None], size, "nearest")[..., 0]


def scores(values: Any, size: Any) -> Any:
    """Resize maps `(batch, height, width, channels)` to float32."""
    import tensorflow as tf

    return tf.image.resize(values, size, "bilinear")
