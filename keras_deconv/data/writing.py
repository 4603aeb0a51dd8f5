"""Folders of images and masks, written as a dataset of tfds."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_deconv.data._images import read_pair
from keras_deconv.data.catalog import (
    VOID,
    Color,
    class_table,
    names,
)
from keras_deconv.data.folders import (
    Classes,
    MaskFormat,
    StrPath,
    mask_format,
    match_files,
)

__all__ = ["to_tfds"]


def to_tfds(
    name: str,
    folders: Mapping[str, tuple[StrPath, StrPath]],
    *,
    classes: Classes,
    data_dir: StrPath | None = None,
    palette: Sequence[Color] | None = None,
    void_labels: Sequence[int] = (VOID,),
    void_colors: Sequence[Color] = (),
    mask_suffix: str = "",
    unmatched: str = "error",
    version: str = "1.0.0",
) -> dict[str, int]:
    """Writes folders of pictures and masks as a prepared tfds data set.

    From then on `load(name, split, data_dir=...)` reads it, and `tfds.load`,
    here and wherever the folder `data_dir/name` is copied to. Pictures are
    kept as they are, masks as classes 0..num_classes-1 and 255, with the names
    of the classes. Every pair is checked, and nothing is kept if one fails.

    Args:
        name: str of small letters, digits and underscores. No name of tfds.
        folders: dict from the name of a split, e.g. "train", to a tuple of
            paths (folder of pictures, folder of masks).
        classes: int, names or `SegmentationSet`. As in `from_folders`.
        data_dir: path to write to, of a folder or of none yet. Default: as in
            `load`.
        palette: colors. As in `from_folders`.
        void_labels: labels. As in `from_folders`.
        void_colors: colors. As in `from_folders`.
        mask_suffix: str. As in `from_folders`.
        unmatched: str. As in `from_folders`.
        version: str of three numbers, "1.0.0".

    Returns:
        dict from the name of a split to its number of examples.

    Raises:
        ValueError: as `from_folders` raises it, at once; the set is there
            already; `data_dir` leads to a file; `name`, a split or `version`
            is not as described (they become names of files and must not lead
            out of `data_dir`).

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
    source = mask_format(classes, palette, void_labels, void_colors, name)
    files = {
        split: match_files(images, masks, mask_suffix, unmatched)
        for split, (images, masks) in folders.items()
    }
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=list(source.entry.class_names),
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
        builder = tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=features,
            split_datasets={
                split: _checked_examples(found, source)
                for split, found in files.items()
            },
            data_dir=None if data_dir is None else str(root),
            description="Pictures and masks from folders.",
        )
    except RuntimeError as error:
        # Then follows all that tfds knows of the set that is there.
        reason = str(error).split(" Dataset info:")[0]
        raise ValueError(
            f"Data set {name!r} could not be written. {reason} If it is there "
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
    """The folder that data sets are written to; it need not be there yet."""
    if data_dir is None:
        data_dir = tfds.core.constants.DATA_DIR
    if isinstance(data_dir, str | os.PathLike):
        root = pathlib.Path(data_dir).expanduser()
        if not any(path.is_file() for path in (root, *root.parents)):
            return root
    raise ValueError(
        "`data_dir` must be the path of a folder, or of none yet, or None. "
        f"Received: data_dir={data_dir!r}"
    )


def _checked_examples(
    files: list[tuple[str, pathlib.Path, pathlib.Path]], source: MaskFormat
) -> Iterator[tuple[str, dict[str, Any]]]:
    table = np.array(class_table(source.entry))
    for name, image_path, mask_path in files:
        image, mask = read_pair(image_path, mask_path, source.label_of_color)
        if image.shape[:2] != mask.shape[:2]:
            raise ValueError(
                "A picture and its mask must have the same size. Received "
                f"(height, width): {image.shape[:2]} in '{image_path}', "
                f"{mask.shape[:2]} in '{mask_path}'."
            )
        classes = table[mask]
        strays = np.unique(mask[classes < 0])
        if strays.size:
            raise ValueError(
                f"Labels must be classes or void, one of "
                f"{sorted([*source.entry.labels, *source.entry.void_labels])}. "
                f"Received: {', '.join(map(str, strays[:10]))} in "
                f"'{mask_path}'."
            )
        yield (
            name,
            {
                "image": image_path,
                "segmentation_mask": classes.astype(np.uint8),
                "file_name": name,
            },
        )


def _check_names(name: Any, folders: Any, version: Any) -> None:
    """Refuses names that are no names of files, or stand for something else."""
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        raise ValueError(
            "`name` must be small letters, digits and underscores, a letter "
            f"first. Received: name={name!r}"
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
            "`folders` must be a dict from split to (folder of pictures, "
            f"folder of masks). Received: folders={folders!r}"
        )
    for split in folders:
        if (
            not re.fullmatch(r"[a-z]\w*", str(split), re.ASCII)
            or split == "all"
        ):
            raise ValueError(
                "The names of splits in `folders` must be letters, digits and "
                "underscores, a small letter first, and not 'all'. "
                f"Received: {split!r}"
            )
    if name in {*names(), *tfds.list_builders(with_community_datasets=False)}:
        raise ValueError(
            "`name` must not be that of a data set that tfds knows, or it "
            f"could not be told from it. Received: name={name!r}"
        )
