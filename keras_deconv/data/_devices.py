"""GPUs, which TensorFlow leaves alone where it only reads data."""

import os

import keras
import tensorflow as tf

KEEP_VARIABLE = "KERAS_DECONV_TENSORFLOW_GPU"


def hide_gpus() -> None:
    """Hide GPUs from TensorFlow where another backend computes.

    TensorFlow uses memory on every GPU that it sees as soon as it makes a
    tensor, which `data.load` does. Nothing changes if TensorFlow is already
    initialized, or if the environment variable KERAS_DECONV_TENSORFLOW_GPU is
    1.
    """
    if keras.config.backend() == "tensorflow":
        return
    if os.environ.get(KEEP_VARIABLE) == "1":
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        # TensorFlow is initialized, so the memory is taken.
        pass
