"""Scale images with other value ranges to 0..255."""

from __future__ import annotations

import ast

import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv.data._errors import require

ValueRange = _arguments.ValueRange
checked = _arguments.value_range
# If most values exceed the lower end of a range by more than this multiple of
# its width, the range is wrong. Windows of CT images and reflectances clip
# bones and clouds, which exceed the range by less.
_MAX_WIDTHS = 3
# Common bits per channel of files and sensors.
_BITS = (1, 8, 10, 12, 14, 16)


def shown(value_range: tuple[float, float]) -> str:
    """Return a range as Python code, such as `(0, 4095)`."""
    low, high = (int(v) if v.is_integer() else v for v in value_range)
    return f"({low}, {high})"


def parsed(text: str | None) -> tuple[float, float] | None:
    """Parse a range that `shown` wrote; return None for any other text."""
    try:
        value = ast.literal_eval(text or "None")
    except (SyntaxError, ValueError):
        return None
    return checked(value) if isinstance(value, tuple) else None


def check_fits(
    value_range: tuple[float, float], dtype: np.dtype, where: str
) -> None:
    """Refuse a range that is outside the limits of an integer dtype.

    An 8-bit image among 16-bit images would otherwise become almost black.

    Raises:
        ValueError: If the range exceeds the limits of the dtype.
    """
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if not limits.min <= value_range[0] < value_range[1] <= limits.max:
        raise ValueError(
            f"{where}: Images of dtype {dtype.name} must have a `value_range` "
            f"within {limits.min}..{limits.max}. Received: "
            f"value_range={shown(value_range)}. Convert all images to the same "
            "dtype, or load them separately."
        )


def proposed(low: float, high: float) -> str:
    """Return the most likely range of images with these extremes."""
    bits = next((b for b in _BITS if high < 2**b), None)
    if low >= 0 and bits:
        return shown((0.0, float(2**bits - 1)))
    return shown((float(low), float(high)))


def check_holds(
    image: np.ndarray, value_range: tuple[float, float], where: str
) -> None:
    """Refuse a range that is far too narrow for an image.

    Clipping would turn the image white, or black and white.

    Raises:
        ValueError: If most values are far above the range.
        ValueError: If the image has an integer dtype, the width of the range is
            at most 1, and a value is above it.
        ValueError: If a value is not finite.
    """
    if not image.size:
        return
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(
            f"{where}: The image must contain finite numbers. Found NaN or "
            "inf. Replace missing values by a number in the range."
        )
    low, high = value_range
    is_above = image > _limit(value_range)
    if image.dtype.kind in "iu" and high - low <= 1:
        is_wrong = bool((image > high).any())
    else:
        is_wrong = bool(is_above.mean() > 0.5)
    if is_wrong:
        lowest, highest = float(image.min()), float(image.max())
        raise ValueError(
            f"{where}: `value_range` is too narrow for the image, which would "
            f"become white. Received: value_range={shown(value_range)}, and "
            f"values from {lowest:g} to {highest:g} in this image. Pass the "
            "range of all images, such as "
            f"value_range={proposed(lowest, highest)}."
        )


def _limit(value_range: tuple[float, float]) -> float:
    low, high = value_range
    return low + _MAX_WIDTHS * (high - low)


def scaled(image: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Scale `low..high` to 0..255 as float32, and clip values outside it."""
    low, high = value_range
    # float64 arithmetic gives the nearest float32 value.
    values = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.clip(values, 0, 255).astype(np.float32)


def scaled_tensor(
    image: tf.Tensor, value_range: tuple[float, float], where: tf.Tensor
) -> tf.Tensor:
    """Check and scale an image in a graph."""
    low, high = value_range
    wide = tf.cast(image, tf.float64)
    values = (wide - low) * (255 / (high - low))
    if image.dtype.is_floating:
        require(
            tf.reduce_all(tf.math.is_finite(values)),
            [
                where,
                ": The image must contain finite numbers. Found NaN or inf.",
            ],
        )
    if image.dtype.is_integer and high - low <= 1:
        is_wrong = tf.reduce_any(wide > high)
    else:
        is_above = tf.cast(wide > _limit(value_range), tf.float64)
        is_wrong = tf.reduce_mean(is_above) > 0.5
    require(
        ~is_wrong,
        [
            where,
            ": `value_range` is too narrow for the image, which would become "
            f"white. Received: value_range={shown(value_range)}, and values "
            "from ",
            _written(tf.reduce_min(wide)),
            " to ",
            _written(tf.reduce_max(wide)),
            " in this image. Pass the range of all images.",
        ],
    )
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.float32)


def _written(value: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(value, shortest=True)
