"""Images with masks: a dataset of tfds, or folders."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from keras_deconv import data
from keras_deconv.data.catalog import Color, generic_names
from keras_deconv_cli import commands


@dataclasses.dataclass(frozen=True)
class Source:
    """Images with masks, in one or more splits, and the classes they have.

    `folders` holds the folders of images and masks of each split; it is empty
    for a dataset of tfds.
    """

    options: commands.Data
    folders: dict[str, tuple[str, str]]
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, void not included."""
        return len(self.class_names)

    def splits(self) -> list[str]:
        """The splits that have masks; prepares the dataset if needed."""
        if self.folders:
            return list(self.folders)
        known = data.describe(self._name, data_dir=self.options.data_dir).splits
        available = data.splits(self._name, **self._where())
        return [split for split in available if split in known or not known]

    def load(self, split: str, **options: Any) -> tf.data.Dataset:
        """Loads a split; options as those of `data.load`."""
        if not self.folders:
            return data.load(self._name, split, **self._where(), **options)
        if split not in self.folders:
            raise ValueError(
                f"The split of folders must be {' or '.join(self.folders)}. "
                f"Received: {split!r}. Slices are for datasets of tfds."
            )
        images, masks = self.folders[split]
        return data.from_folders(
            images,
            masks,
            classes=self.class_names,
            void_labels=self.options.void_labels,
            mask_suffix=self.options.mask_suffix,
            **options,
        )

    def __str__(self) -> str:
        return self.options.dataset or str(self.options.images)

    @property
    def _name(self) -> str:
        return str(self.options.dataset)

    def _where(self) -> dict[str, Any]:
        return {
            "data_dir": self.options.data_dir,
            "manual_dir": self.options.manual_dir,
        }


def find(options: commands.Data) -> Source:
    """Finds the classes and the splits of some data.

    Raises:
        ValueError: the dataset is not known.
    """
    if options.dataset:
        entry = data.describe(options.dataset, data_dir=options.data_dir)
        return Source(options, {}, entry.class_names, entry.palette)
    folders = {"train": (str(options.images), str(options.masks))}
    if options.val_images:
        folders["validation"] = (options.val_images, str(options.val_masks))
    names = (
        generic_names(options.classes)
        if isinstance(options.classes, int)
        else tuple(options.classes or ())
    )
    return Source(options, folders, names, data.color_map(len(names)))


def moved(before: commands.Data, now: commands.Data) -> commands.Data:
    """The data of a run, in the folders where they are now."""
    return dataclasses.replace(
        before,
        data_dir=now.data_dir or before.data_dir,
        manual_dir=now.manual_dir or before.manual_dir,
    )
