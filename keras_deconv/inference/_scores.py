"""Outputs of a model for a batch of images, as NumPy arrays."""

import keras
import numpy as np
from keras import ops

from keras_deconv._graphs import ends_in_probabilities


def predict_scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the outputs of the model as float32."""
    [scores] = keras.tree.flatten(model.predict_on_batch(images))
    # Under a distribution strategy, each replica predicts the whole batch.
    return np.asarray(scores, "float32")[: len(images)]


def predict_probabilities(
    model: keras.Model, images: np.ndarray, flip: bool = True
) -> np.ndarray:
    """Return probabilities `(batch, height, width, num_classes)`.

    With `flip`, average them with those of the mirror images, mirrored back.
    """
    scores = predict_scores(model, images)
    if not ends_in_probabilities(model):
        activation = ops.softmax if scores.shape[-1] > 1 else ops.sigmoid
        scores = ops.convert_to_numpy(activation(scores))
    if not flip:
        return scores
    mirrored = predict_probabilities(model, images[:, :, ::-1], flip=False)
    return (scores + mirrored[:, :, ::-1]) / 2
