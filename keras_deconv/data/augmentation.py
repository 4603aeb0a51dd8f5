"""Random augmentation of an image together with its mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv._arguments import VOID
from keras_deconv.data import _value_ranges
from keras_deconv.data._errors import require
from keras_deconv.data._value_ranges import ValueRange

__all__ = ["augmentation"]


def augmentation(
    *,
    flip: bool = True,
    scale: Sequence[float] | None = None,
    rotation: float = 0.0,
    crop: int | Sequence[int] | None = None,
    brightness: float = 0.0,
    contrast: float = 0.0,
    value_range: ValueRange = (0, 255),
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Make a function that augments an image and its mask in the same way.

    Use it for training with `load`, `segmentation_pairs` or `from_folders`:
    pass it as `augment`, and every image gets a new seed in every epoch. It
    consists of TensorFlow operations, like the rest of the tf.data pipeline,
    and works with every Keras backend.

    Flip, scale, rotation and crop are combined into a single transform. It is
    bilinear for the image and nearest neighbor for the mask, so it does not
    create new labels. Pixels outside the image become black in the image and
    void (255) in the mask, so the model does not learn from them. Brightness
    and contrast only change the image.

    The random layers of Keras are not suitable for masks. They fill image and
    mask with the same value, they interpolate between labels up to Keras 3.10,
    and `RandomCrop` requires known sizes.

    Args:
        flip: bool. Whether to flip half of the images horizontally.
        scale: Tuple (smallest, largest) of floats > 0, or None. Each image is
            scaled by a random factor in this range; factors above 1 enlarge it.
            The visible part of a larger image and the position of a smaller
            image are random too. Defaults to None, which keeps the scale.
        rotation: float in 0..180. Each image is rotated about its center by a
            random angle between -rotation and rotation, in degrees.
        crop: int, tuple (height, width) of ints > 0, or None. Size of the
            output in pixels, cut from a random position of the scaled image. A
            smaller image is placed at a random position of the output. Defaults
            to None, which keeps the size of the image.
        brightness: float in 0..1. Largest random offset of the image values, as
            a fraction of the width of `value_range`.
        contrast: float in 0..1. The distance of each pixel from the mean of its
            channel is multiplied by a random factor in 1-contrast..1+contrast.
        value_range: Tuple (low, high) of floats. Range of the image values,
            where `low` is black. Keep the default, (0, 255), for `load`,
            `segmentation_pairs` and `from_folders`: they scale images to
            0..255, whatever their own `value_range` is. Pass another range,
            such as (0, 1), if you call the function with your own images.

    Returns:
        A function `augment(image, mask, seed, check_values=True)`.

        - `image` is a numeric tensor of shape ([batch,] height, width,
          channels) with values in `value_range`.
        - `mask` is an integer tensor of shape ([batch,] height, width). Its
          dtype must be able to store 255.
        - `seed` is an integer tensor of shape (2,). It determines all random
          values, as in `tf.random.stateless_uniform`. The images of a batch are
          changed independently.
        - `check_values=False` skips the check of the image values.

        The function returns (image, mask): the image as float32 in the same
        range, and the mask with its dtype.

    Raises:
        ValueError: If an argument is outside its range.
        tf.errors.InvalidArgumentError: From `augment`, if image values are
            outside `value_range`.
        tf.errors.InvalidArgumentError: From `augment`, if float images contain
            fractions in 0..1 and `value_range` is (0, 255).

    Edge cases:
        A rotated or scaled image is mixed with black within one pixel of its
        edge.

    Example:
        >>> import numpy as np
        >>> from keras_deconv.data import augmentation
        >>> image = np.full((2, 3, 3), 100, np.uint8)
        >>> mask = np.int32([[0, 1, 2], [0, 1, 2]])
        >>> augment = augmentation(flip=False, crop=(2, 5))
        >>> image, mask = augment(image, mask, seed=(0, 1))
        >>> mask.numpy().tolist()
        [[255, 255, 0, 1, 2], [255, 255, 0, 1, 2]]
        >>> image[0, :, 0].numpy().tolist()
        [0.0, 0.0, 100.0, 100.0, 100.0]
    """
    _arguments.boolean(flip, "flip")
    smallest, largest = _scale(scale)
    _in_range(rotation, "rotation", 180)
    _in_range(brightness, "brightness", 1)
    _in_range(contrast, "contrast", 1)
    if crop is not None:
        crop = _arguments.ints(crop, 2, "crop", minimum=1)
    limits = _value_ranges.checked(value_range) or (0.0, 255.0)

    def augment(
        image: tf.Tensor,
        mask: tf.Tensor,
        seed: tf.Tensor,
        check_values: bool = True,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image, mask = tf.convert_to_tensor(image), tf.convert_to_tensor(mask)
        _check_pair(image, mask)
        # Pipelines have already scaled images to 0..255, so only other ranges
        # need the check there.
        if check_values or limits != (0, 255):
            _check_values(image, limits)
        is_single = image.shape.rank == 3
        if is_single:
            image, mask = image[None], mask[None]
        seeds = tf.random.split(seed, 7)

        def draw(row: int, low: float, high: float) -> tf.Tensor:
            return tf.random.stateless_uniform(
                [tf.shape(image)[0]], seeds[row], low, high
            )

        image_size = tf.shape(image)[1:3]
        output_size = image_size if crop is None else tf.constant(crop)
        coordinates = _coordinates(
            tf.cast(image_size, tf.float32),
            tf.cast(output_size, tf.float32),
            mirror=tf.where(draw(0, 0, 1) < 0.5, -1.0, 1.0) if flip else 1.0,
            factor=draw(1, smallest, largest),
            angle=draw(2, -1, 1) * math.radians(rotation),
            place=(draw(3, 0, 1), draw(4, 0, 1)),
        )
        image = _move(
            tf.cast(image, tf.float32),
            coordinates,
            output_size,
            "BILINEAR",
            limits[0],
        )
        moved = _move(
            tf.cast(mask[..., None], tf.int32),
            coordinates,
            output_size,
            "NEAREST",
            VOID,
        )
        mask = tf.cast(moved[..., 0], mask.dtype)
        if brightness or contrast:
            image = _change_colors(
                image,
                shift=(limits[1] - limits[0])
                * draw(5, -brightness, brightness),
                factor=draw(6, 1 - contrast, 1 + contrast),
                value_range=limits,
            )
        return (image[0], mask[0]) if is_single else (image, mask)

    return augment


def _coordinates(
    image_size: tf.Tensor,
    output_size: tf.Tensor,
    *,
    mirror: tf.Tensor | float,
    factor: tf.Tensor,
    angle: tf.Tensor,
    place: tuple[tf.Tensor, tf.Tensor],
) -> tf.Tensor:
    """Return the transform from output pixels to image pixels.

    Returns:
        float32 tensor of shape (batch, 8) with rows a, b, c, d, e, f, 0, 0. The
        pixel (X, Y) of the output shows the image at x = a*X + b*Y + c and y =
        d*X + e*Y + f.
    """
    # The centers of the first and the last pixel are 0 and size - 1.
    middle_y, middle_x = tf.unstack((image_size - 1) / 2)
    output_y, output_x = tf.unstack((output_size - 1) / 2)
    # Distance between the centers of the output and of the scaled image. The
    # first pixels of both are a whole number of pixels apart, so a crop alone
    # does not interpolate.
    shifts = []
    for axis in range(2):
        slack = factor * image_size[axis] - output_size[axis]
        shifts.append(tf.round(place[axis] * slack) - slack / 2)
    shift_y, shift_x = shifts
    cosine, sine = tf.cos(angle) / factor, tf.sin(angle) / factor
    a, b = mirror * cosine, -mirror * sine
    d, e = sine, cosine
    from_x, from_y = shift_x - output_x, shift_y - output_y
    c = a * from_x + b * from_y + middle_x
    f = d * from_x + e * from_y + middle_y
    nothing = tf.zeros_like(a)
    return tf.stack([a, b, c, d, e, f, nothing, nothing], axis=-1)


def _move(
    tensor: tf.Tensor,
    coordinates: tf.Tensor,
    output_size: tf.Tensor,
    interpolation: str,
    fill: float,
) -> tf.Tensor:
    """Resample images at the positions that `_coordinates` returned."""
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tensor,
        transforms=coordinates,
        output_shape=output_size,
        fill_value=float(fill),
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )
    size = tf.get_static_value(output_size)
    rows, columns = tensor.shape[1:3] if size is None else size
    return tf.ensure_shape(
        moved, (tensor.shape[0], rows, columns, tensor.shape[-1])
    )


def _change_colors(
    image: tf.Tensor,
    shift: tf.Tensor,
    factor: tf.Tensor,
    value_range: tuple[float, float],
) -> tf.Tensor:
    mean = tf.reduce_mean(image, axis=(1, 2), keepdims=True)
    shift, factor = (value[:, None, None, None] for value in (shift, factor))
    changed = (image - mean) * factor + mean + shift
    return tf.clip_by_value(changed, *value_range)


def _scale(scale: Any) -> tuple[float, float]:
    if scale is None:
        return 1.0, 1.0
    try:
        low, high = (float(value) for value in scale)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low <= high < math.inf:
        raise ValueError(
            "`scale` must be a tuple (smallest, largest) of floats > 0, such "
            f"as (0.8, 1.25), or None. Received: scale={scale!r}"
        )
    return low, high


def _in_range(value: Any, name: str, largest: int) -> None:
    if not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError(
            f"`{name}` must be a number in 0..{largest}. "
            f"Received: {name}={value!r}"
        )


def _check_values(image: tf.Tensor, value_range: tuple[float, float]) -> None:
    """Refuse image values outside the range, which would be clipped.

    Raises:
        tf.errors.InvalidArgumentError: If a value is outside the range, or the
            image has a smaller range.
    """
    if image.dtype == tf.uint8 and value_range == (0, 255):
        return
    low, high = value_range
    image = tf.cast(image, tf.float32)
    smallest, largest = tf.reduce_min(image), tf.reduce_max(image)
    found = tf.strings.format("{} to {}", (smallest, largest))
    # Comparisons with NaN are false, so NaN is refused too. An image without
    # pixels passes: its extremes are inf and -inf.
    require(
        (smallest >= low) & (largest <= high),
        [
            f"The image values must be in {low:g}..{high:g} for the "
            "augmentation. Received: values from ",
            found,
            ". Pass their range, such as augmentation(value_range=(-1000, "
            "1000)), or scale the images with the argument value_range of "
            "load, segmentation_pairs or from_folders.",
        ],
    )
    if value_range == (0, 255) and image.dtype.is_floating:
        has_fractions = tf.reduce_any(image % 1 > 0)
        require(
            ~((largest <= 1) & has_fractions),
            [
                "The image values must be in 0..255 for the augmentation. "
                "Received: fractions in 0..1. Multiply the images by 255, or "
                "pass augmentation(value_range=(0, 1)).",
            ],
        )


def _check_pair(image: tf.Tensor, mask: tf.Tensor) -> None:
    ranks = image.shape.rank, mask.shape.rank
    if ranks not in ((3, 2), (4, 3)) or not mask.dtype.is_integer:
        raise ValueError(
            "`image` must have the axes ([batch,] height, width, channels) and "
            "`mask`, of an integer dtype, the axes ([batch,] height, width). "
            f"Received: image.shape={image.shape}, mask.shape={mask.shape}, "
            f"mask.dtype={mask.dtype.name}"
        )
