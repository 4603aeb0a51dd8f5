"""Prediction pixel by pixel, from the time before encoder-decoders."""

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
    """Predict every pixel of images from the patch around it.

    Use it with `models.PatchClassifier`, as a baseline for encoder-decoders. It
    is slow: neighboring patches share all but one row or column, but nothing of
    the computation. Beyond the border of the image, patches are black (0), like
    the padding of convolutions.

    Reference: Ciresan et al., 2012, "Deep neural networks segment neuronal
    membranes in electron microscopy images", https://papers.nips.cc/paper/4741.
    The authors mirror the image at its border instead.

    Args:
        model: Functional or Sequential `keras.Model` that maps patches `(batch,
            height, width, channels)` of known size to `(batch, num_classes)`.
            Its prediction is assigned to the pixel in row `height // 2` and
            column `width // 2` of the patch.
        images: Array `(batch, height, width, channels)` with any height and
            width, in the value range that the model takes.
        batch_size: int >= 1. Number of patches per call of the model.
        verbose: int. 0 for silent, 1 for a progress bar over the pixels.

    Returns:
        float32 array `(batch, height, width, num_classes)` with the outputs of
        the model, logits or probabilities.

    Raises:
        ValueError: If `model` does not map patches of a known size to one
            vector each.
        ValueError: If `images` has another rank or other channels than the
            model takes, or is traced by a compiled function.
        ValueError: If `batch_size` is not an int >= 1.

    Edge cases:
        Other functions of this package that temporarily change the model wait
        in other threads until the prediction is complete.

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
            "`images` must not be traced: predict_sliding_window cannot be "
            "compiled. Call it outside of compiled functions. Received: traced "
            "images"
        )
    before = [(0, 0), *((n // 2, (n - 1) // 2) for n in patch_size), (0, 0)]
    # A view, so that only one batch of patches is copied at a time.
    patches = np.lib.stride_tricks.sliding_window_view(
        np.pad(ops.convert_to_numpy(images), before), patch_size, axis=(1, 2)
    )
    size = patches.shape[:3]

    def predict(chosen: np.ndarray) -> list[np.ndarray]:
        batch = patches[np.unravel_index(chosen, size)]
        # The window's axes are last; move them before the channels.
        scores = model.predict_on_batch(np.moveaxis(batch, 1, -1))
        return [np.asarray(y, "float32") for y in keras.tree.flatten(scores)]

    # Locked for all pixels, so that weights and statistics do not change.
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
