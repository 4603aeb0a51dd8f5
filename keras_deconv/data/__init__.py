"""Data sets for semantic segmentation, on top of tensorflow-datasets."""

from keras_deconv.data.augmentation import augmentation
from keras_deconv.data.camvid import CamVid
from keras_deconv.data.catalog import SegmentationSet, colour_map, describe
from keras_deconv.data.checking import DataReport, check
from keras_deconv.data.folders import from_folders, to_tfds
from keras_deconv.data.pairs import load, segmentation_pairs, splits
from keras_deconv.data.scenes import Scenes, draw_scene

__all__ = [
    "CamVid",
    "DataReport",
    "Scenes",
    "SegmentationSet",
    "augmentation",
    "check",
    "colour_map",
    "describe",
    "draw_scene",
    "from_folders",
    "load",
    "segmentation_pairs",
    "splits",
    "to_tfds",
]
