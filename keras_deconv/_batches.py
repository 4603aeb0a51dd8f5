"""Images as models take them, batch by batch."""

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
    """Images as array or tensor of a shape that the model takes.

    Raises:
        ValueError: The shape is another, there is no image, or no numbers.
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
            f"{tuple(takes)}. Received: {name}.shape={shape}. A single image "
            f"becomes a batch by {name}[None]."
        )
    return images


def is_traced(model: keras.Model, images: Any) -> bool:
    """Whether a function is being compiled, with whatever images."""
    return _backends.is_traced(ops.cast(images[:1], model.inputs[0].dtype))


def in_batches(
    function: Callable[[np.ndarray], Sequence[np.ndarray]],
    number: int,
    batch_size: int,
    verbose: int,
) -> list[np.ndarray]:
    """Arrays of what `function` gives for the items from 0 to `number`.

    It takes as many indices each time, so that one graph does for all: the
    last batch is filled up with the last item.
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
            # Replicas of a distribution strategy each give all: cut.
            whole[start:stop] = part[: stop - start]
        progress.update(stop)
    return wholes
