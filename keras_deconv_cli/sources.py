"""Find images and masks in a tfds dataset or in folders."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_deconv import data
from keras_deconv.data import sources as library
from keras_deconv.data._catalog import unknown_text
from keras_deconv.data._mask_formats import (
    MaskFormat,
    mask_format,
    voc_colors,
)
from keras_deconv.data._pairs import Files, Pairing, find_pairs, match_files
from keras_deconv.data._sets import Color
from keras_deconv.data._splits import split_files
from keras_deconv_cli import api, commands, splits

__all__ = [
    "VALIDATION_SHARE",
    "Part",
    "Source",
    "describe",
    "find",
    "moved",
    "pairing",
    "resolved",
]

# The default share of the images of folders that is used for validation.
VALIDATION_SHARE = "20%"

_NAME = re.compile(
    r"[a-z]\w*(/[\w.+-]+)?(:[0-9*]+\.[0-9*]+\.[0-9*]+)?", re.ASCII
)


@dataclasses.dataclass(frozen=True)
class Part:
    """Pairs of images and masks in two folders, named without suffix."""

    images: str
    masks: str
    files: Files

    @property
    def names(self) -> list[str]:
        """Names of the pairs."""
        return [name for name, _, _ in self.files]

    def of(self, files: Files) -> Part:
        """Return the same folders with other files."""
        return dataclasses.replace(self, files=files)


@dataclasses.dataclass(frozen=True)
class Source:
    """Images and masks in one or more splits, and their classes.

    `parts` contains the files of each split, and is empty for a tfds dataset.
    `labels` maps the values in the masks of folders to names.
    """

    options: commands.Data
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    labels: Mapping[int, str]
    value_range: tuple[float, float] | None
    parts: Mapping[str, Part]

    @property
    def num_classes(self) -> int:
        """Number of classes, void not included."""
        return len(self.class_names)

    def sizes(self) -> dict[str, int]:
        """Return the number of examples of each split with masks.

        A dataset that is not prepared yet is prepared first.
        """
        if self.parts:
            return {name: len(part.files) for name, part in self.parts.items()}
        known = describe(self._name, self.options.data_dir).splits
        available = data.splits(self._name, **self._where())
        return {
            split: size
            for split, size in available.items()
            if split in known or not known
        }

    def load(self, split: str, **options: Any) -> tf.data.Dataset:
        """Load a split with options of `data.load`."""
        options = {"shuffle": False, **options}
        if not self.parts:
            return data.load(
                self._name,
                split,
                value_range=self.options.value_range,
                **self._where(),
                **options,
            )
        part = self.part(split)
        return data.from_folders(
            part.images,
            part.masks,
            files=part.names,
            **{
                name: getattr(self.options, name)
                for name in api.FOLDER_ARGUMENTS
            }
            | {"unmatched": self.options.unmatched or "error"},
            **options,
        )

    def part(self, split: str) -> Part:
        """Return the pairs of a split of folders, or of a slice of one."""
        found = splits.ranges(split, self.sizes())
        names = {name for name, _, _ in found}
        if len(names) > 1:
            raise ValueError(
                "SPLIT must not join splits of several folders. Received: "
                f"{split!r}"
            )
        [name] = names
        part = self.parts[name]
        files = [file for _, a, b in found for file in part.files[a:b]]
        if not files:
            raise ValueError(
                f"SPLIT must contain at least one image. Received: {split!r} "
                f"of {len(part.files)} images"
            )
        return part.of(files)

    def divide(
        self, train: str, validation: str | None, seed: int
    ) -> tuple[Source, dict[str, str]]:
        """Split the examples into training and validation.

        Args:
            train: A split, or a slice of one.
            validation: A split or a slice; a share of `train` such as `20%`;
                `rest` for the examples that `train` leaves out; `none`; or None
                for the default.
            seed: The seed that draws the share of the images of folders.

        Returns:
            The source with these parts, and the names of its splits by "train"
            and, with validation, "validation".
        """
        sizes = self.sizes()
        if validation is None:
            validation = _default_validation(train, sizes)
        number = splits.share(validation)
        is_shared = False
        if not number and validation not in ("none", "rest"):
            # Loading a split that does not exist raises the error.
            with contextlib.suppress(ValueError):
                is_shared = splits.overlap(train, validation, sizes)
        if is_shared:
            raise ValueError(
                "--train-split and --val-split must not share images, since "
                "training images would select the best epoch. "
                f"Received: --train-split {train} with --val-split "
                f"{validation}. Use `--val-split rest` to validate on the "
                "other images, or `--val-split none` to train without "
                "validation."
            )
        if self.parts:
            return self._divide_folders(train, validation, number, seed)
        if number:
            if train not in sizes:
                raise ValueError(
                    "--val-split can be a share only if --train-split is a "
                    f"whole split. Received: --train-split {train} with "
                    f"--val-split {validation}. Use --val-split rest instead."
                )
            validation = f"{train}[{100 - number}%:]"
            train = f"{train}[:{100 - number}%]"
        elif validation == "rest":
            validation = splits.rest(train, sizes) or "none"
        if validation == "none":
            return self, {"train": train}
        return self, {"train": train, "validation": validation}

    def _divide_folders(
        self, train: str, validation: str, number: int | None, seed: int
    ) -> tuple[Source, dict[str, str]]:
        parts = {"train": self.part(train)}
        if number and len(parts["train"].files) > 1:
            part = parts["train"]
            kept, drawn = split_files(part.files, number / 100, seed)
            parts = {"train": part.of(kept), "validation": part.of(drawn)}
        elif validation == "rest":
            left = splits.rest(train, self.sizes())
            if left:
                parts["validation"] = self.part(left)
        elif not number and validation != "none":
            try:
                parts["validation"] = self.part(validation)
            except ValueError as error:
                raise ValueError(
                    "--val-split must be a share such as 20%, `rest`, `none`, "
                    f"or a slice of the images in these folders. {error}"
                ) from None
        names = {name: name for name in parts}
        return dataclasses.replace(self, parts=parts), names

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


def _default_validation(train: str, sizes: Mapping[str, int]) -> str:
    for split in ("validation", "test"):
        if split in sizes:
            return split
    return VALIDATION_SHARE if train in sizes else "rest"


def resolved(options: commands.Data) -> commands.Data:
    """Read the label map, and replace the word `voc` by the colors of VOC.

    A run then records the meaning of its masks, not the name of a file.

    Raises:
        ValueError: If the label map cannot be read.
    """
    if options.label_map:
        found = data.read_label_map(options.label_map)
        if options.void_labels is not None:
            found["void_labels"] = options.void_labels
        options = dataclasses.replace(options, label_map=None, **found)
    if isinstance(options.palette, str):
        plain = dataclasses.replace(options, palette=None, void_colors=())
        entry = _format(plain).entry
        palette, void = voc_colors(entry, options.palette, options.void_colors)
        options = dataclasses.replace(
            options, palette=tuple(palette), void_colors=tuple(void)
        )
    return options


def _format(options: commands.Data) -> MaskFormat:
    """Return the format of the masks of folders."""
    return mask_format(
        str(options.images),
        options.classes,
        labels=options.labels,
        foreground=options.foreground,
        void_labels=options.void_labels,
        palette=options.palette,
        void_colors=options.void_colors,
        lossy_masks=options.lossy_masks,
    )


def pairing(options: commands.Data) -> Pairing:
    """Match the images and masks of two folders.

    Raises:
        ValueError: If a folder does not exist, or does not contain such files.
        ValueError: If options of the masks contradict each other.
    """
    _format(options)
    return find_pairs(
        str(options.images), str(options.masks), **_naming(options)
    )


def _naming(options: commands.Data) -> dict[str, Any]:
    """Return the options that match masks and images."""
    names = ("image_suffix", "mask_suffix", "lossy_masks")
    return {name: getattr(options, name) for name in names}


def find(
    options: commands.Data,
    files: Mapping[str, Sequence[str]] | None = None,
    verbose: bool = True,
) -> Source:
    """Find the classes and the splits of a dataset or of folders.

    Args:
        options: The locations and the format of the data.
        files: For folders, the names of the pairs of each part. Defaults to all
            pairs.
        verbose: Whether to print the files that are skipped.

    Raises:
        ValueError: If the dataset is unknown.
        ValueError: If the images and masks of folders do not match.
    """
    if options.dataset:
        entry = describe(options.dataset, options.data_dir)
        stored = library.stored_value_range(options.dataset, options.data_dir)
        value_range = options.value_range or stored
        return Source(
            *(options, entry.class_names, entry.palette, {}, value_range, {})
        )
    entry = _format(options).entry
    # Masks with a palette contain colors instead of labels.
    labels = (
        {}
        if options.palette
        else {
            **{
                label: entry.class_names[id]
                for label, id in entry.labels.items()
            },
            **dict.fromkeys(entry.void_labels, "void"),
        }
    )
    folders = {"train": (str(options.images), str(options.masks))}
    if options.val_images:
        folders["validation"] = (options.val_images, str(options.val_masks))
    elif files and "validation" in files:
        folders["validation"] = folders["train"]
    parts = {}
    for name, (images, masks) in folders.items():
        found = match_files(
            images,
            masks,
            options.unmatched or "error",
            verbose,
            **_naming(options),
        )
        if files:
            wanted = set(files.get(name, ()))
            found = [file for file in found if file[0] in wanted]
            missing = wanted - {file[0] for file in found}
            if missing:
                raise ValueError(
                    f"{images} must contain the images of the run. Missing: "
                    f"{len(missing)}, such as {min(missing)!r}. Restore them, "
                    "or start another run with another --output."
                )
        parts[name] = Part(images, masks, found)
    # `resolved` has replaced a word by its colors.
    palette = options.palette if isinstance(options.palette, tuple) else None
    return Source(
        *(options, entry.class_names, palette or entry.palette),
        *(labels, options.value_range, parts),
    )


def describe(name: str, data_dir: str | None) -> data.SegmentationSet:
    """Return the classes of a dataset.

    Raises:
        ValueError: If the dataset is unknown. The message names options of the
            command.
    """
    # tfds would interpret other names as addresses or as code to load.
    is_name = _NAME.fullmatch(name)
    if is_name:
        with contextlib.suppress(ValueError):
            return data.describe(name, data_dir=data_dir)
    if os.path.isdir(os.path.expanduser(name)):
        raise ValueError(
            "DATASET must be the name of a dataset of tensorflow-datasets. "
            f"Received: {name!r}, which is a folder. For your own images "
            f"use --images {name} --masks FOLDER --classes NAME,NAME,..."
        )
    if not is_name:
        raise ValueError(
            "DATASET must be the name of a dataset of tensorflow-datasets, "
            "optionally with a configuration and a version, such as cam_vid "
            f"or coco/2017_panoptic:1.1.0. Received: {name!r}"
        )
    raise ValueError(
        f"{unknown_text(name)}For a dataset that data.to_tfds wrote, give "
        "the same --data-dir."
    )


def moved(before: commands.Data, **now: Any) -> commands.Data:
    """Return the data of a run in the folders where they are now.

    The other options are those of the run unless the user gives them again.
    """
    given = {name: value for name, value in now.items() if value is not None}
    return dataclasses.replace(before, **given)
