"""Where pictures with masks come from: a set of tfds, or folders."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import tensorflow as tf

from keras_deconv import data
from keras_deconv.data.catalog import Color, generic_names


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures with masks, in one or more splits, and what classes they have.

    `folders` has, for folders, those of the pictures and of the masks of each
    split; for a set of tfds it is empty.
    """

    options: argparse.Namespace
    folders: dict[str, tuple[str, str]]
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]

    @property
    def num_classes(self) -> int:
        """How many classes there are; void is none of them."""
        return len(self.class_names)

    def splits(self) -> list[str]:
        """The splits that have masks; prepares a set that is not there."""
        if self.folders:
            return list(self.folders)
        known = _describe(self.options).splits
        available = data.splits(self.options.dataset, **self._where())
        return [split for split in available if split in known or not known]

    def load(self, split: str, **options: Any) -> tf.data.Dataset:
        """Loads a split; options as those of `data.load`."""
        if not self.folders:
            return data.load(
                self.options.dataset, split, **self._where(), **options
            )
        if split not in self.folders:
            raise ValueError(
                f"the split of folders must be {' or '.join(self.folders)}. "
                f"Received: {split!r}. Slices are for data sets of tfds."
            )
        images, masks = self.folders[split]
        return data.from_folders(
            images,
            masks,
            classes=self.options.classes,
            void_labels=self.options.void_labels,
            mask_suffix=self.options.mask_suffix,
            **options,
        )

    def __str__(self) -> str:
        return self.options.dataset or self.options.images

    def _where(self) -> dict[str, Any]:
        return {
            "data_dir": self.options.data_dir,
            "manual_dir": self.options.manual_dir,
        }


def _describe(options: argparse.Namespace) -> data.SegmentationSet:
    return data.describe(options.dataset, data_dir=options.data_dir)


def from_options(options: argparse.Namespace) -> Source:
    """The source that options of the command name.

    Raises:
        ValueError: the data set is not known.
    """
    if options.dataset:
        entry = _describe(options)
        return Source(options, {}, entry.class_names, entry.palette)
    folders = {"train": (options.images, options.masks)}
    if getattr(options, "val_images", None):
        folders["validation"] = (options.val_images, options.val_masks)
    names = (
        generic_names(options.classes)
        if isinstance(options.classes, int)
        else tuple(options.classes)
    )
    return Source(options, folders, names, data.color_map(len(names)))


def of_run(run_options: dict[str, Any], options: argparse.Namespace) -> Source:
    """The source of a training, which may have moved since."""
    moved = {
        name: getattr(options, name, None) or run_options.get(name)
        for name in ("data_dir", "manual_dir")
    }
    return from_options(argparse.Namespace(**{**run_options, **moved}))
