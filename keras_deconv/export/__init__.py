"""Networks as files that run without keras_deconv, and without Python.

A SavedModel for TensorFlow Serving and `tf.saved_model.load`, a TFLite file for
LiteRT on phones, an ONNX file for everything else. All three hold plain
operations alone: unpooling with window indices is comparisons and selections.
"""

from keras_deconv.export.onnx import to_onnx
from keras_deconv.export.saved_model import to_saved_model
from keras_deconv.export.tflite import to_tflite

__all__ = ["to_onnx", "to_saved_model", "to_tflite"]
