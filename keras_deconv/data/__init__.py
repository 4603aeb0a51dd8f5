"""Data sets for semantic segmentation, on top of tensorflow-datasets."""

from keras_deconv.data.augmentation import augmentation
from keras_deconv.data.camvid import CamVid
from keras_deconv.data.catalog import SegmentationSet, colour_map
from keras_deconv.data.checking import DataReport, check
from keras_deconv.data.folders import from_folders, to_tfds
from keras_deconv.data.frequencies import (
    CAMVID_MEDIAN_FREQUENCY_WEIGHTS,
    CAMVID_SEGNET_CLASS_WEIGHTS,
    CAMVID_TRAIN_FREQUENCIES,
    ClassFrequencies,
    class_frequencies,
    enet_weights,
    median_frequency_weights,
)
from keras_deconv.data.pairs import (
    describe,
    load,
    segmentation_pairs,
    splits,
)
from keras_deconv.data.scenes import Scenes, draw_scene

__all__ = [
    "CAMVID_MEDIAN_FREQUENCY_WEIGHTS",
    "CAMVID_SEGNET_CLASS_WEIGHTS",
    "CAMVID_TRAIN_FREQUENCIES",
    "CamVid",
    "ClassFrequencies",
    "DataReport",
    "Scenes",
    "SegmentationSet",
    "augmentation",
    "check",
    "class_frequencies",
    "colour_map",
    "describe",
    "draw_scene",
    "enet_weights",
    "from_folders",
    "load",
    "median_frequency_weights",
    "segmentation_pairs",
    "splits",
    "to_tfds",
]
