"""Scaling images of other value ranges to 0..255."""

from __future__ import annotations

import ast

import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv.data._errors import require

ValueRange = _arguments.ValueRange
checked = _arguments.value_range
# How many times its width a range may be exceeded by most values. Windows of
# CT images and reflectances clip bones and clouds, which are less far away.
_MAX_WIDTHS = 3
# Bits per channel that files and sensors have.
_BITS = (1, 8, 10, 12, 14, 16)


def shown(value_range: tuple[float, float]) -> str:
    """Write a range as it would be written in Python: `(0, 4095)`."""
    low, high = (int(v) if v.is_integer() else v for v in value_range)
    return f"({low}, {high})"


def parsed(text: str | None) -> tuple[float, float] | None:
    """Read what `shown` wrote; None if it is something else."""
    try:
        value = ast.literal_eval(text or "None")
    except (SyntaxError, ValueError):
        return None
    return checked(value) if isinstance(value, tuple) else None


def check_fits(
    value_range: tuple[float, float], dtype: np.dtype, where: str
) -> None:
    """Refuse a range that integers of a dtype cannot fill.

    An 8-bit image among images of 16 bits would become almost black.
    """
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if not limits.min <= value_range[0] < value_range[1] <= limits.max:
        raise ValueError(
            f"{where}: Images of dtype {dtype.name} must have a `value_range` "
            f"within {limits.min}..{limits.max}. Received: "
            f"value_range={shown(value_range)}. Convert all images to one "
            "number of bits, or load them separately."
        )


def proposed(low: float, high: float) -> str:
    """Write the range that images with these values probably have."""
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
        ValueError: If most values are far above the range, values of an
            integer dtype are above a range that holds two integers only, or
            values are not finite.
    """
    if not image.size:
        return
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(
            f"{where}: The image must hold finite numbers. Found NaN or inf. "
            "Write a number of the range where there are no data."
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
    """Scale `low..high` to 0..255 as float32; values beyond are clipped."""
    low, high = value_range
    # In float64, so that the result is the nearest float32.
    values = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.clip(values, 0, 255).astype(np.float32)


def scaled_tensor(
    image: tf.Tensor, value_range: tuple[float, float], where: tf.Tensor
) -> tf.Tensor:
    """Do what `scaled` does, in a graph."""
    low, high = value_range
    wide = tf.cast(image, tf.float64)
    values = (wide - low) * (255 / (high - low))
    if image.dtype.is_floating:
        require(
            tf.reduce_all(tf.math.is_finite(values)),
            [where, ": The image must hold finite numbers. Found NaN or inf."],
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
