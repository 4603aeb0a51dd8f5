"""Export networks to files that run without keras_deconv.

`to_saved_model` writes a SavedModel for TensorFlow Serving and
`tf.saved_model.load`, `to_tflite` a TFLite file for LiteRT on phones, and
`to_onnx` an ONNX file for all other runtimes. The files contain only built-in
operations, because unpooling with window indices needs only comparisons and
selections.
"""

from keras_deconv.export.onnx import to_onnx
from keras_deconv.export.saved_model import to_saved_model
from keras_deconv.export.tflite import to_tflite

__all__ = ["to_onnx", "to_saved_model", "to_tflite"]
