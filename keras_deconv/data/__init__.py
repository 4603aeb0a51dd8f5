"""Data sets for semantic segmentation, on top of tensorflow-datasets."""

from keras_deconv.data.camvid import CamVid
from keras_deconv.data.catalog import SegmentationSet, describe
from keras_deconv.data.frequencies import (
    CAMVID_MEDIAN_FREQUENCY_WEIGHTS,
    CAMVID_SEGNET_CLASS_WEIGHTS,
    CAMVID_TRAIN_FREQUENCIES,
    ClassFrequencies,
    class_frequencies,
    enet_weights,
    median_frequency_weights,
)
from keras_deconv.data.pairs import load, segmentation_pairs, splits
from keras_deconv.data.scenes import Scenes, draw_scene

__all__ = [
    "CAMVID_MEDIAN_FREQUENCY_WEIGHTS",
    "CAMVID_SEGNET_CLASS_WEIGHTS",
    "CAMVID_TRAIN_FREQUENCIES",
    "CamVid",
    "ClassFrequencies",
    "Scenes",
    "SegmentationSet",
    "class_frequencies",
    "describe",
    "draw_scene",
    "enet_weights",
    "load",
    "median_frequency_weights",
    "segmentation_pairs",
    "splits",
]
