"""Images with masks: a dataset of tfds, or folders."""

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

# The share of folders that is for validation, unless the user says otherwise.
VALIDATION_SHARE = "20%"

_NAME = re.compile(
    r"[a-z]\w*(/[\w.+-]+)?(:[0-9*]+\.[0-9*]+\.[0-9*]+)?", re.ASCII
)


@dataclasses.dataclass(frozen=True)
class Part:
    """Pairs of two folders, by their names without suffix."""

    images: str
    masks: str
    files: Files

    @property
    def names(self) -> list[str]:
        """The names of the pairs."""
        return [name for name, _, _ in self.files]

    def of(self, files: Files) -> Part:
        """The same folders with some of the files."""
        return dataclasses.replace(self, files=files)


@dataclasses.dataclass(frozen=True)
class Source:
    """Images with masks, in one or more splits, and the classes they have.

    `parts` holds the files of each split; it is empty for a dataset of tfds.
    `labels` is what the labels of masks in folders mean.
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
        """The splits that have masks, with their numbers of examples.

        It prepares a dataset that is not prepared yet.
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
        """Loads a split; options as those of `data.load`."""
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
        """The pairs of a split of folders, which may be a slice."""
        found = splits.ranges(split, self.sizes())
        names = {name for name, _, _ in found}
        if len(names) > 1:
            raise ValueError(
                "Splits of several folders cannot be joined. "
                f"Received: {split!r}"
            )
        [name] = names
        part = self.parts[name]
        files = [file for _, a, b in found for file in part.files[a:b]]
        if not files:
            raise ValueError(
                f"SPLIT must have at least one image. Received: {split!r} of "
                f"{len(part.files)} images"
            )
        return part.of(files)

    def divide(
        self, train: str, validation: str | None, seed: int
    ) -> tuple[Source, dict[str, str]]:
        """Decides which examples to train on, and which to validate on.

        Args:
            train: a split or a slice of one.
            validation: likewise; `20%` for that share of `train`, `rest` for
                what `train` leaves out, `none`, or None to decide.
            seed: draws the share from folders.

        Returns:
            The source with these parts, and the names of its splits "train"
            and, if there is one, "validation".
        """
        sizes = self.sizes()
        if validation is None:
            validation = _default_validation(train, sizes)
        number = splits.share(validation)
        is_shared = False
        if not number and validation not in ("none", "rest"):
            # Splits that do not exist are reported where they are loaded.
            with contextlib.suppress(ValueError):
                is_shared = splits.overlap(train, validation, sizes)
        if is_shared:
            raise ValueError(
                "--train-split and --val-split must not share images, or the "
                "best epoch would be chosen on images of the training. "
                f"Received: --train-split {train} with --val-split "
                f"{validation}. --val-split rest takes what the training "
                "leaves out; --val-split none trains without validation."
            )
        if self.parts:
            return self._divide_folders(train, validation, number, seed)
        if number:
            if train not in sizes:
                raise ValueError(
                    "--val-split with a share needs a whole split to train "
                    f"on. Received: --train-split {train} with --val-split "
                    f"{validation}"
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
                    "--val-split must be a share such as 20%, rest, none, or "
                    f"images of these folders. {error}"
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
    """Reads a label map, and puts the colors of VOC in the place of the word.

    So a run records what its masks mean, wherever that came from.

    Raises:
        ValueError: the label map cannot be read.
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
    """What the options say about the masks of folders."""
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
    """Finds out which files of two folders belong together.

    Raises:
        ValueError: a folder does not exist, or has no such files; or options
            about masks contradict each other.
    """
    _format(options)
    return find_pairs(
        str(options.images), str(options.masks), **_naming(options)
    )


def _naming(options: commands.Data) -> dict[str, Any]:
    """What decides which file is the mask of which image."""
    names = ("image_suffix", "mask_suffix", "lossy_masks")
    return {name: getattr(options, name) for name in names}


def find(
    options: commands.Data,
    files: Mapping[str, Sequence[str]] | None = None,
    verbose: bool = True,
) -> Source:
    """Finds the classes and the splits of some data.

    Args:
        options: where the data are.
        files: for folders, the names of the pairs of each part, if that is
            decided already. Default: all of them.
        verbose: whether to print which files are left out.

    Raises:
        ValueError: the dataset is not known, or folders do not fit together.
    """
    if options.dataset:
        entry = describe(options.dataset, options.data_dir)
        stored = library.stored_value_range(options.dataset, options.data_dir)
        value_range = options.value_range or stored
        return Source(
            *(options, entry.class_names, entry.palette, {}, value_range, {})
        )
    entry = _format(options).entry
    # With colors, labels are not what the masks hold.
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
                    f"{images} must have the images of the run. "
                    f"{len(missing)} are missing, such as {min(missing)!r}."
                )
        parts[name] = Part(images, masks, found)
    # A word was replaced before.
    palette = options.palette if isinstance(options.palette, tuple) else None
    return Source(
        *(options, entry.class_names, palette or entry.palette),
        *(labels, options.value_range, parts),
    )


def describe(name: str, data_dir: str | None) -> data.SegmentationSet:
    """The classes of a dataset.

    Raises:
        ValueError: it is not known; the text is for users of the command.
    """
    # tfds would take other names for an address, or for a loader of code.
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
            "with a configuration and a version if need be, such as cam_vid "
            f"or coco/2017_panoptic:1.1.0. Received: {name!r}"
        )
    raise ValueError(
        f"{unknown_text(name)}Datasets that data.to_tfds wrote are found in "
        "--data-dir."
    )


def moved(before: commands.Data, **now: Any) -> commands.Data:
    """The data of a run, in the folders where they are now.

    How they are read is as before, unless the user says otherwise now.
    """
    given = {name: value for name, value in now.items() if value is not None}
    return dataclasses.replace(before, **given)
