"""Prediction of photos and large images, and estimates of uncertainty."""

from keras_deconv.inference.monte_carlo import (
    MonteCarloPrediction,
    predict_monte_carlo,
)
from keras_deconv.inference.photos import Prediction, predict
from keras_deconv.inference.sliding_window import predict_sliding_window
from keras_deconv.inference.tiled import predict_tiled

__all__ = [
    "MonteCarloPrediction",
    "Prediction",
    "predict",
    "predict_monte_carlo",
    "predict_sliding_window",
    "predict_tiled",
]
