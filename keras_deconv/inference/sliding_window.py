"""Prediction pixel by pixel, as it was before encoder-decoders."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deconv import _arguments, _locks
from keras_deconv._batches import (
    check_images,
    in_batches,
    is_traced,
)
from keras_deconv._graphs import check_graph, every_layer

__all__ = ["predict_sliding_window"]


def predict_sliding_window(
    model: keras.Model,
    images: Any,
    *,
    batch_size: int = 256,
    verbose: int = 1,
) -> np.ndarray:
    """Predict every pixel from the patch around it, one patch per pixel.

    Right, and wasteful: neighbors share all of their patch but one row or
    column, and nothing of what is computed. Beyond the border the patch is
    black, as the padding of convolutions is.

    Reference: Ciresan et al., 2012, "Deep neural networks segment neuronal
    membranes in electron microscopy images",
    https://papers.nips.cc/paper/4741; they mirror the image at its border.

    Args:
        model: Model from patches `(batch, height, width, channels)` of known
            size to `(batch, num_classes)`, such as `models.PatchClassifier`.
            It is taken to name the pixel at row `height // 2`, column
            `width // 2`.
        images: Array `(batch, height, width, channels)` of any height and
            width, in the range that the model takes.
        batch_size: int >= 1. Patches at a time.
        verbose: 0 silent, 1 progress bar over the pixels.

    Returns:
        float32 array `(batch, height, width, num_classes)` of what the model
        gives: logits or probabilities.

    Raises:
        ValueError: The model does not take patches of a known size to one
            vector each, or the images have other channels or, inside a
            compiled function, no values.

    Edge cases: other functions of this package that change the model for a
    while wait in other threads until the prediction is complete.

    Example:
        >>> import numpy as np
        >>> from keras_deconv import inference, models
        >>> model = models.PatchClassifier((8, 8, 3), 4)
        >>> images = np.zeros((1, 5, 6, 3), "float32")
        >>> logits = inference.predict_sliding_window(
        ...     model, images, verbose=0)
        >>> logits.shape
        (1, 5, 6, 4)
    """
    check_graph(model)
    patch_size = _patch_size(model)
    batch_size = _arguments.positive_int(batch_size, "batch_size")
    images = check_images(model, images, any_size=True)
    if is_traced(model, images):
        raise ValueError(
            "`images` must have values: predict_sliding_window cannot be "
            "compiled. Call it outside. Received: traced images"
        )
    before = [(0, 0), *((n // 2, (n - 1) // 2) for n in patch_size), (0, 0)]
    # A view: patches are only copied batch by batch.
    patches = np.lib.stride_tricks.sliding_window_view(
        np.pad(ops.convert_to_numpy(images), before), patch_size, axis=(1, 2)
    )
    size = patches.shape[:3]

    def predict(chosen: np.ndarray) -> list[np.ndarray]:
        batch = patches[np.unravel_index(chosen, size)]
        # The window's axes are the last: back before the channels.
        scores = model.predict_on_batch(np.moveaxis(batch, 1, -1))
        return [np.asarray(y, "float32") for y in keras.tree.flatten(scores)]

    # All the while, so that all pixels are of the same weights and statistics.
    with _locks.held(every_layer(model)):
        [scores] = in_batches(predict, math.prod(size), batch_size, verbose)
    return scores.reshape(*size, -1)


def _patch_size(model: keras.Model) -> tuple[int, int]:
    takes, gives = model.inputs[0].shape, model.outputs[0].shape
    if len(takes) != 4 or None in takes[1:] or len(gives) != 2:
        raise ValueError(
            "`model` must map patches (batch, height, width, channels) of "
            "known size to (batch, num_classes), as models.PatchClassifier "
            f"does. Received: a model from {takes} to {gives}"
        )
    return takes[1:3]
