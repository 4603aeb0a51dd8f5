"""Published encoder-decoder networks, as functions that return models."""

from keras_deconv.models.segnet import SegNet, SegNetBasic

__all__ = ["SegNet", "SegNetBasic"]
