"""Functions that resize images, labels and scores.

Training, prediction and exported models use the same functions, so that their
results agree bit for bit. All functions align the centers of pixels. They
import TensorFlow only when called, since JAX and PyTorch users may not have it.
"""

from collections.abc import Sequence
from typing import Any


def images(values: Any, size: Sequence[int]) -> Any:
    """Resize images in 0..255 to float32; integer images are rounded.

    Args:
        values: Tensor `([batch,] height, width, channels)` of any number dtype.
        size: New height and width.
    """
    import tensorflow as tf

    values = tf.convert_to_tensor(values)
    resized = tf.image.resize(values, size, "bilinear", antialias=True)
    # An image file with the resized image would hold integers too.
    return resized if values.dtype.is_floating else tf.round(resized)


def exported_images(values: Any, size: Sequence[int]) -> Any:
    """Resize batches of integer images with operations that can be exported.

    OpenVINO does not convert `tf.image.resize`. The sums here have another
    order, so that up to 7 of 10,000 values of random images were rounded to a
    neighboring integer.
    """
    import tensorflow as tf

    batch, height, width, channels = tf.unstack(tf.shape(values))
    pixels, shares = _shares(height, size[0])
    x = tf.reshape(values, (batch, height, width * channels))
    x = tf.cast(tf.gather(x, pixels, axis=1), tf.float32)
    x = tf.reshape(shares @ x, (batch * size[0], width, channels))
    pixels, shares = _shares(width, size[1])
    x = shares @ tf.gather(x, pixels, axis=1)
    # Reshaping loses the static number of channels.
    return tf.round(tf.reshape(x, (batch, *size, values.shape[-1])))


def _shares(length: Any, to: int) -> tuple[Any, Any]:
    """Return the weights of the old pixels in each pixel of a resized row.

    The weights fall linearly with the distance from the center of the new
    pixel. They reach 0 at a distance of one new pixel or one old pixel; the
    larger of the two counts.

    Returns:
        Indices `(to, number)` and shares `(to, 1, number)`.
    """
    import tensorflow as tf

    scale = 1 / (to / tf.cast(length, tf.float32))
    radius = tf.maximum(scale, 1)
    number = tf.cast(tf.math.ceil(2 * radius), tf.int32) + 1
    number = tf.minimum(number, length)
    centers = (tf.range(to, dtype=tf.float32) + 0.5) * scale
    first = tf.cast(tf.math.ceil(centers - radius - 0.5), tf.int32)
    first = tf.clip_by_value(first, 0, length - number)
    pixels = first[:, None] + tf.range(number)
    distances = tf.abs(tf.cast(pixels, tf.float32) + 0.5 - centers[:, None])
    shares = tf.maximum(1 - distances / radius, 0)
    shares /= tf.reduce_sum(shares, -1, keepdims=True)
    return pixels, shares[:, None]


def labels(values: Any, size: Sequence[int]) -> Any:
    """Resize a label map `(height, width)` with nearest-neighbor sampling."""
    import tensorflow as tf

    return tf.image.resize(values[..., None], size, "nearest")[..., 0]


def scores(values: Any, size: Any) -> Any:
    """Resize scores `(batch, height, width, channels)` to float32."""
    import tensorflow as tf

    return tf.image.resize(values, size, "bilinear")
