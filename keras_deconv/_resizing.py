"""Functions that resize images, labels and scores.

Training and prediction call the same functions, so they get the same pixels.
Exported models resize images by `exported_images`, which agrees up to rounding.
All functions map the centers of pixels to each other. TensorFlow is imported
when they are called, since JAX and PyTorch users may not have it.
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
    """Resize batches of integer images with operations that OpenVINO supports.

    OpenVINO cannot convert the antialiased resizing of TensorFlow. The results
    can differ, because the order of the sums does: with random images, up to 7
    in 10,000 values were rounded to the neighboring whole number. The source
    pixels of each target pixel are gathered as float32, which takes about 8
    times the memory of a uint8 image.
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
    """Return the source pixels of each target pixel in a row, and their shares.

    The shares decrease linearly with the distance from the center of the target
    pixel. They are 0 from a distance of max(1, scale) source pixels on, where
    scale is the number of source pixels per target pixel.

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
