"""GPUs that TensorFlow must not use when it only reads data."""

import os

import keras
import tensorflow as tf

KEEP_VARIABLE = "KERAS_DECONV_TENSORFLOW_GPU"


def hide_gpus() -> None:
    """Hide GPUs from TensorFlow if Keras uses another backend.

    TensorFlow reserves memory on every visible GPU as soon as it creates a
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
        # TensorFlow is initialized and has already reserved the memory.
        pass
