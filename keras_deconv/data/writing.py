"""Folders of images and masks, written as a dataset of tfds."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_deconv import _arguments
from keras_deconv.data import _preparation, _value_ranges
from keras_deconv.data._catalog import names
from keras_deconv.data._errors import printable
from keras_deconv.data._images import Pixels, in_range
from keras_deconv.data._mask_formats import (
    Classes,
    Labels,
    MaskFormat,
    Palette,
    mask_format,
)
from keras_deconv.data._masks import check_not_binary, read_pair
from keras_deconv.data._pairs import Files, StrPath, match_files
from keras_deconv.data._sets import Color

__all__ = ["to_tfds"]


def to_tfds(
    name: str,
    folders: Mapping[str, tuple[StrPath, StrPath]],
    *,
    classes: Classes | None = None,
    data_dir: StrPath | None = None,
    labels: Labels | None = None,
    foreground: int | None = None,
    void_labels: Sequence[int] | None = None,
    value_range: _value_ranges.ValueRange | None = None,
    palette: Palette | None = None,
    void_colors: Sequence[Color] = (),
    image_suffix: str = "",
    mask_suffix: str = "",
    lossy_masks: bool = False,
    unmatched: str = "error",
    version: str = "1.0.0",
) -> dict[str, int]:
    """Write folders of images and masks as a prepared tfds dataset.

    From then on `load(name, split, data_dir=...)` reads it, and so does
    `tfds.load`, here and wherever the folder `data_dir/name` is copied to.
    Images are stored upright, as viewers show them; files that already are
    upright are stored unchanged. Masks are stored as classes
    0..num_classes-1 and 255, with the names of the classes. Every pair is
    checked, and nothing is kept if one fails.

    Args:
        name: str of lowercase letters, digits and underscores. It must not be
            the name of a tfds dataset.
        folders: dict from the name of a split, such as "train", to a tuple of
            paths (folder of images, folder of masks).
        classes: int, names, `SegmentationSet` or None. As in `from_folders`.
        data_dir: Path of the folder to write to, which need not exist.
            Defaults to that of `load`.
        labels: dict or None. As in `from_folders`.
        foreground: int or None. As in `from_folders`.
        void_labels: Labels or None. As in `from_folders`.
        value_range: Tuple (low, high) or None. As in `from_folders`. Images
            are then stored exactly, as uint16, together with the range, which
            `load` applies.
        palette: Colors or None. As in `from_folders`.
        void_colors: Colors. As in `from_folders`.
        image_suffix: str. As in `from_folders`.
        mask_suffix: str. As in `from_folders`.
        lossy_masks: bool. As in `from_folders`.
        unmatched: str. As in `from_folders`.
        version: str of three numbers, "1.0.0".

    Returns:
        dict from the name of a split to its number of examples.

    Raises:
        ValueError: As `from_folders`, at once, for a faulty file too.
        ValueError: If the dataset already exists, or `data_dir` leads to a
            file.
        ValueError: If `name`, the name of a split or `version` has another
            form. They become names of files, and must not lead out of
            `data_dir`.

    Example:
        >>> import pathlib, tempfile, tensorflow as tf
        >>> from keras_deconv.data import draw_scene, load, to_tfds
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     folder = pathlib.Path(folder)
        ...     for number in range(2):
        ...         image, mask = draw_scene(number)
        ...         for kind, pixels in (("x", image), ("y", mask[..., None])):
        ...             path = folder / kind / f"{number}.png"
        ...             path.parent.mkdir(exist_ok=True)
        ...             _ = path.write_bytes(tf.io.encode_png(pixels).numpy())
        ...     sizes = to_tfds("my_streets", {"train": (folder / "x",
        ...                     folder / "y")}, classes=6, data_dir=folder)
        ...     train = load("my_streets", "train", image_size=(48, 64),
        ...                  batch_size=2, data_dir=folder)
        ...     [(image, mask)] = train
        Downloading and preparing dataset ...
        >>> sizes, tuple(mask.shape)
        ({'train': 2}, (2, 48, 64))
    """
    _check_names(name, folders, version)
    root = _root(data_dir)
    limits = _value_ranges.checked(value_range)
    format = mask_format(
        name,
        classes,
        labels=labels,
        foreground=foreground,
        void_labels=void_labels,
        palette=palette,
        void_colors=void_colors,
        lossy_masks=lossy_masks,
    )
    files = {
        split: match_files(
            images,
            masks,
            unmatched,
            image_suffix=image_suffix,
            mask_suffix=mask_suffix,
            lossy_masks=lossy_masks,
        )
        for split, (images, masks) in folders.items()
    }
    all_masks = [mask for found in files.values() for _, _, mask in found]
    check_not_binary(all_masks, format)
    features = tfds.features.FeaturesDict(
        {
            "image": _image_feature(limits),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=list(format.entry.class_names),
                shape=(None, None, 1),
                encoding_format="png",
            ),
            "file_name": tfds.features.Text(),
        }
    )
    # What tfds makes even if it writes nothing; the innermost come first.
    new_folders = [
        path
        for path in (
            *(root / "downloads" / "extracted", root / "downloads"),
            *(root / name, root),
        )
        if not path.exists()
    ]
    try:
        with _preparation.alone(root / name / version):
            builder = tfds.dataset_builders.AdhocBuilder(
                name=name,
                version=version,
                features=features,
                split_datasets={
                    split: _checked_examples(found, format, limits)
                    for split, found in files.items()
                },
                data_dir=None if data_dir is None else str(root),
                description="Images and masks from folders.",
            )
            if builder.is_prepared():
                raise RuntimeError("It was already prepared.")
            _preparation.note_folder(builder)
            builder.download_and_prepare()
    except RuntimeError as error:
        raise ValueError(
            f"Dataset {name!r} could not be written. {error} If it exists "
            "already, delete its folder or choose another `name` or `version`. "
            f"Received: name={name!r}, version={version!r}, data_dir='{root}'"
        ) from None
    finally:
        for path in new_folders:
            # It goes if it is empty.
            with contextlib.suppress(OSError):
                path.rmdir()
    return {
        split: info.num_examples for split, info in builder.info.splits.items()
    }


def _root(data_dir: Any) -> pathlib.Path:
    """Return the folder that datasets are written to; it need not exist."""
    if data_dir is None:
        data_dir = tfds.core.constants.DATA_DIR
    root = _arguments.path(data_dir, "data_dir")
    if not any(path.is_file() for path in (root, *root.parents)):
        return root
    raise ValueError(
        "`data_dir` must be the path of a folder, which need not exist, or "
        "None. "
        f"Received: data_dir={data_dir!r}"
    )


def _image_feature(
    value_range: tuple[float, float] | None,
) -> tfds.features.Image:
    if value_range is None:
        return tfds.features.Image(shape=(None, None, 3))
    return tfds.features.Image(
        shape=(None, None, 3),
        dtype=np.uint16,
        encoding_format="png",
        # Where `load` finds it.
        doc=tfds.features.Documentation(
            value_range=_value_ranges.shown(value_range)
        ),
    )


def _checked_examples(
    files: Files,
    format: MaskFormat,
    value_range: tuple[float, float] | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, image_path, mask_path in files:
        pixels, classes = read_pair(image_path, mask_path, format)
        # It refuses images that do not fit the range.
        in_range(pixels, value_range, printable(image_path))
        name = printable(name)
        yield (
            name,
            {
                "image": _stored(image_path, pixels, value_range is not None),
                "segmentation_mask": classes[..., None],
                "file_name": name,
            },
        )


def _stored(path: pathlib.Path, pixels: Pixels, is_wide: bool) -> Any:
    """Return what tfds stores: the file if it can, which is smaller."""
    if is_wide:
        stored = pixels.values.astype(np.uint16)
        if not np.array_equal(stored, pixels.values):
            raise ValueError(
                f"{printable(path)}: tfds can store values in 0..65535, whole "
                f"numbers. Received: an image of {pixels.values.dtype.name}. "
                "Load the folders with from_folders, or convert the images."
            )
        return stored
    if pixels.orientation == 1 and pixels.format in ("PNG", "JPEG"):
        return io.BytesIO(path.read_bytes())
    return pixels.values


def _check_names(name: Any, folders: Any, version: Any) -> None:
    """Refuse names that cannot name files, or stand for something else."""
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        raise ValueError(
            "`name` must be lowercase letters, digits and underscores, a "
            f"letter first. Received: name={name!r}"
        )
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(version), re.ASCII):
        raise ValueError(
            "`version` must be three numbers such as '1.0.0'. "
            f"Received: version={version!r}"
        )
    if (
        not isinstance(folders, Mapping)
        or not folders
        or not all(
            isinstance(pair, tuple | list) and len(pair) == 2
            for pair in folders.values()
        )
    ):
        raise ValueError(
            "`folders` must be a dict from split to (folder of images, "
            f"folder of masks). Received: folders={folders!r}"
        )
    for split in folders:
        if (
            not re.fullmatch(r"[a-z]\w*", str(split), re.ASCII)
            or split == "all"
        ):
            raise ValueError(
                "The names of splits in `folders` must be letters, digits and "
                "underscores, a lowercase letter first, and not 'all'. "
                f"Received: {split!r}"
            )
    if name in {*names(), *tfds.list_builders(with_community_datasets=False)}:
        raise ValueError(
            "`name` must not be the name of a tfds dataset, or `load` could "
            f"not tell the two apart. Received: name={name!r}"
        )
