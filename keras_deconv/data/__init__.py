"""Data sets for semantic segmentation, on top of tensorflow-datasets."""

from keras_deconv.data.augmentation import augmentation
from keras_deconv.data.camvid import CamVid
from keras_deconv.data.catalog import SegmentationSet, colour_map, describe
from keras_deconv.data.pairs import load, segmentation_pairs, splits
from keras_deconv.data.scenes import Scenes, draw_scene

__all__ = [
    "CamVid",
    "Scenes",
    "SegmentationSet",
    "augmentation",
    "colour_map",
    "describe",
    "draw_scene",
    "load",
    "segmentation_pairs",
    "splits",
]
