"""Batches of images, in the shape that a model accepts."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deconv import _arguments, _backends


def check_images(
    model: keras.Model,
    images: Any,
    any_size: bool = False,
    name: str = "images",
) -> Any:
    """Return images as an array or tensor of a shape that the model accepts.

    Raises:
        ValueError: If the shape does not match the input of the model.
        ValueError: If there are no images.
        ValueError: If the images are not numbers.
    """
    if not ops.is_tensor(images):
        images = np.asarray(images)
    _arguments.check_number_dtype(images.dtype, name)
    takes = list(model.inputs[0].shape)
    if any_size:
        takes[1:-1] = [None] * (len(takes) - 2)
    shape = tuple(images.shape)
    if (
        len(shape) != len(takes)
        or 0 in shape
        or any(
            s is not None and t is not None and s != t
            for s, t in zip(shape, takes, strict=True)
        )
    ):
        raise ValueError(
            f"`{name}` must be a batch of at least one image, of shape "
            f"{tuple(takes)}. Received: {name}.shape={shape}. Pass a single "
            f"image as {name}[None]."
        )
    return images


def is_traced(model: keras.Model, images: Any) -> bool:
    """Return whether the code runs while a function is compiled."""
    return _backends.is_traced(ops.cast(images[:1], model.inputs[0].dtype))


def in_batches(
    function: Callable[[np.ndarray], Sequence[np.ndarray]],
    number: int,
    batch_size: int,
    verbose: int,
) -> list[np.ndarray]:
    """Return the results of `function` for the items 0 to `number - 1`.

    Every call receives the same number of indices, so that one compiled graph
    is enough. The last batch is filled up with the last item.
    """
    batch_size = min(batch_size, number)
    progress = keras.utils.Progbar(number, verbose=_arguments.verbose(verbose))
    wholes: list[np.ndarray] = []
    for start in range(0, number, batch_size):
        stop = min(start + batch_size, number)
        chosen = np.arange(start, start + batch_size)
        parts = function(np.minimum(chosen, number - 1))
        wholes = wholes or [
            np.empty((number, *part.shape[1:]), part.dtype) for part in parts
        ]
        for whole, part in zip(wholes, parts, strict=True):
            # Each replica of a distribution strategy returns the whole batch,
            # so the result may be longer than needed.
            whole[start:stop] = part[: stop - start]
        progress.update(stop)
    return wholes
