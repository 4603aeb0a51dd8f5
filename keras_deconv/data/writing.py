"""Write folders of images and masks as a dataset of tfds."""

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
    """Write folders of images and masks as a prepared dataset of tfds.

    Use it to check and convert the files once, and then to load the dataset by
    its name, with `load(name, split, data_dir=...)` or `tfds.load`. You can
    copy the folder `data_dir/name` to other machines.

    Images are stored upright, as image viewers show them. Files that are
    already upright are stored unchanged. Masks are stored as the classes
    0..num_classes-1, and 255 for void, together with the class names. Every
    pair is checked. If a check fails, the dataset is not written.

    Args:
        name: str of lowercase letters, digits and underscores, a letter first.
            Must not be the name of an existing tfds dataset.
        folders: dict from the name of a split, such as "train", to a tuple of
            paths (folder of images, folder of masks).
        classes: int, the number of classes; a sequence of their names; or a
            `SegmentationSet`. Optional with `labels` or `foreground`. See
            `from_folders`.
        data_dir: Path of the folder to write to. It is created if it does not
            exist. Defaults to the environment variable `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.
        labels: dict from mask value to class id or class name, or None. See
            `from_folders`.
        foreground: int in 1..255 or None. Value of the foreground in binary
            masks.
        void_labels: Sequence of labels in 0..255 that mean void. Defaults to
            (255,), unless 255 is in `labels`.
        value_range: Tuple (low, high) of the image values that become 0 and
            255, or None for 8-bit images. With a range, images are stored
            exactly, as uint16. `load` applies the range.
        palette: Sequence of one color (red, green, blue) in 0..255 per class,
            "voc", or None. See `from_folders`.
        void_colors: Sequence of colors that mean void.
        image_suffix: str. End of the names of images, which is not part of the
            common name. See `from_folders`.
        mask_suffix: str. End of the names of masks. See `from_folders`.
        lossy_masks: bool. Whether to read JPEG masks and round their values to
            labels. See `from_folders`.
        unmatched: "error" to refuse files that are not part of a pair, or
            "skip" to ignore them and print how many there are.
        version: str of three numbers, such as "1.0.0".

    Returns:
        dict from the name of each split to its number of examples.

    Raises:
        ValueError: If `name`, the name of a split or `version` is invalid. They
            are used in paths, which must stay inside `data_dir`.
        ValueError: If the dataset already exists, or `data_dir` is the path of
            a file.
        ValueError: If a folder does not exist, or does not contain images or
            masks.
        ValueError: If `unmatched` is "error" and a file is not part of a pair.
        ValueError: If the arguments that describe masks contradict each other.
        ValueError: If the masks of two classes contain only the values 0 and
            255, and `labels`, `foreground` and `void_labels` are omitted.
        ValueError: If an image or a mask is invalid, for the reasons that
            `from_folders` lists.
        ValueError: If `value_range` is passed and an image has values that are
            not whole numbers in 0..65535, which tfds cannot store.

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
    # tfds creates these folders even if it does not write a dataset. Subfolders
    # come first, so that they are deleted before their parents.
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
            f"Dataset {name!r} could not be written. {error} If it already "
            "exists, delete its folder or choose another `name` or `version`. "
            f"Received: name={name!r}, version={version!r}, data_dir='{root}'"
        ) from None
    finally:
        for path in new_folders:
            # `rmdir` only deletes empty folders.
            with contextlib.suppress(OSError):
                path.rmdir()
    return {
        split: info.num_examples for split, info in builder.info.splits.items()
    }


def _root(data_dir: Any) -> pathlib.Path:
    """Return the folder that datasets are written to, which may not exist."""
    if data_dir is None:
        data_dir = tfds.core.constants.DATA_DIR
    root = _arguments.path(data_dir, "data_dir")
    if not any(path.is_file() for path in (root, *root.parents)):
        return root
    raise ValueError(
        "`data_dir` must be None or the path of a folder, which may not exist "
        "yet. "
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
        # `load` reads the range from here.
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
        # This call refuses images that do not fit the range.
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
    """Return the file, which is smaller, if tfds can store it; or pixels."""
    if is_wide:
        stored = pixels.values.astype(np.uint16)
        if not np.array_equal(stored, pixels.values):
            raise ValueError(
                f"{printable(path)}: tfds can only store whole numbers in "
                f"0..65535. Received: an image of {pixels.values.dtype.name}. "
                "Load the folders with from_folders, or convert the images."
            )
        return stored
    if pixels.orientation == 1 and pixels.format in ("PNG", "JPEG"):
        return io.BytesIO(path.read_bytes())
    return pixels.values


def _check_names(name: Any, folders: Any, version: Any) -> None:
    """Refuse names that are not valid in paths, or that have another meaning.

    Raises:
        ValueError: If `name`, `folders` or `version` is invalid.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        raise ValueError(
            "`name` must consist of lowercase letters, digits and underscores, "
            f"and start with a letter. Received: name={name!r}"
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
            "`folders` must be a dict from the name of a split to (folder of "
            f"images, folder of masks). Received: folders={folders!r}"
        )
    for split in folders:
        if (
            not re.fullmatch(r"[a-z]\w*", str(split), re.ASCII)
            or split == "all"
        ):
            raise ValueError(
                "The names of splits in `folders` must consist of letters, "
                "digits and underscores, start with a lowercase letter, and "
                f"not be 'all'. Received: {split!r}"
            )
    if name in {*names(), *tfds.list_builders(with_community_datasets=False)}:
        raise ValueError(
            "`name` must not be the name of a tfds dataset, because `load` "
            f"would find that dataset instead. Received: name={name!r}"
        )
