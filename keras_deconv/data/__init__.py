"""Datasets for semantic segmentation, built on tensorflow-datasets (tfds).

`load` reads a dataset of tfds by name. `from_folders` reads a folder of images
and a folder of masks. Both return a `tf.data.Dataset` that you can pass to
`fit`.

If Keras uses JAX or PyTorch, importing this module hides GPUs from TensorFlow,
which would reserve their memory. Set the environment variable
KERAS_DECONV_TENSORFLOW_GPU to 1 to keep them visible.
"""

from keras_deconv.data._devices import hide_gpus
from keras_deconv.data._sets import SegmentationSet, color_map
from keras_deconv.data.augmentation import augmentation
from keras_deconv.data.camvid import CamVid
from keras_deconv.data.checking import DataReport, check
from keras_deconv.data.folders import from_folders
from keras_deconv.data.frequencies import (
    CAMVID_MEDIAN_FREQUENCY_WEIGHTS,
    CAMVID_SEGNET_CLASS_WEIGHTS,
    CAMVID_TRAIN_FREQUENCIES,
    ClassFrequencies,
    class_frequencies,
    enet_weights,
    median_frequency_weights,
)
from keras_deconv.data.label_maps import read_label_map
from keras_deconv.data.pipeline import segmentation_pairs
from keras_deconv.data.scenes import Scenes, draw_scene
from keras_deconv.data.sources import describe, load, splits
from keras_deconv.data.writing import to_tfds

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
    "color_map",
    "describe",
    "draw_scene",
    "enet_weights",
    "from_folders",
    "load",
    "median_frequency_weights",
    "read_label_map",
    "segmentation_pairs",
    "splits",
    "to_tfds",
]

hide_gpus()
