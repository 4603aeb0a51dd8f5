"""Prediction beyond `model.predict`: by sampling, and pixel by pixel."""

from keras_deconv.inference.monte_carlo import (
    MonteCarloPrediction,
    predict_monte_carlo,
)
from keras_deconv.inference.sliding_window import predict_sliding_window

__all__ = [
    "MonteCarloPrediction",
    "predict_monte_carlo",
    "predict_sliding_window",
]
