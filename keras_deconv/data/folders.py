"""Images and masks that lie in two folders."""

from __future__ import annotations

import dataclasses
import operator
import os
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv.data._epochs import Augment
from keras_deconv.data._images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_pair
from keras_deconv.data.catalog import (
    VOID,
    Color,
    SegmentationSet,
    generic_names,
    plain_set,
)
from keras_deconv.data.pipeline import ClassWeights, segmentation_pairs

__all__ = ["from_folders"]

StrPath: TypeAlias = str | os.PathLike[str]
Classes: TypeAlias = int | Sequence[str] | SegmentationSet
# How many names of files a report lists, for each thing it found.
_NUM_SHOWN = 5


def from_folders(
    images: StrPath,
    masks: StrPath,
    *,
    classes: Classes,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    palette: Sequence[Color] | None = None,
    void_labels: Sequence[int] = (VOID,),
    void_colors: Sequence[Color] = (),
    mask_suffix: str = "",
    unmatched: str = "error",
    shuffle: bool = False,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: bool = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> tf.data.Dataset:
    """Loads a folder of pictures and a folder of masks, ready for `fit`.

    A picture and a mask belong together if their paths inside the two folders
    are the same but for the suffix: `photos/street/7.jpg` and
    `truth/street/7.png`. Links are followed; files and folders with a dot in
    front are left out. Pictures are PNG or JPEG files, masks PNG files of 8
    bits or less (JPEG would change labels), each of one of three kinds:

    - shades of gray: the shade of a pixel is its label;
    - indexed colors, as in VOC and DAVIS: the index is the label, whatever
      color it has;
    - RGB: the color is looked up in `palette`.

    Args:
        images: path of the folder of pictures, with or without subfolders.
        masks: path of the folder of masks.
        classes: int, the number of classes, which are then labeled 0, 1, 2
            and so on, without the `void_labels`; or a sequence of their names,
            likewise; or a `SegmentationSet`, which knows other labels too.
        image_size: int, tuple (height, width) of ints > 0, or None. See
            `segmentation_pairs`.
        batch_size: int > 0.
        palette: sequence of (red, green, blue) in 0..255, one per class, for
            RGB masks. Default: that of the `SegmentationSet`, if there is one.
        void_labels: sequence of labels in 0..255 that mean void. They are left
            out where classes are counted: with `(0,)` the classes are labeled
            1, 2, 3 and so on. A `SegmentationSet` has its own.
        void_colors: sequence of colors that mean void in RGB masks.
        mask_suffix: str. What the names of the masks have more than those of
            the pictures: "_mask" for `7.jpg` and `7_mask.png`. Other masks
            are not looked at, so both may lie in one folder.
        unmatched: `"error"` to refuse pictures without mask and masks without
            picture, or `"skip"` to leave them out and print how many.
        shuffle: bool. As in `segmentation_pairs`.
        seed: int or None. As in `segmentation_pairs`.
        epoch: `tf.Variable` or None. As in `segmentation_pairs`.
        cache: bool. As in `segmentation_pairs`.
        drop_remainder: bool. As in `segmentation_pairs`.
        augment: function or None. As in `segmentation_pairs`.
        class_weights: floats or None. As in `segmentation_pairs`.

    Returns:
        A `tf.data.Dataset` as from `segmentation_pairs`, in the order of the
        names.

    Raises:
        ValueError: if a folder is missing or has no such files, two files
            differ in their suffix alone, something does not match, or
            an argument is out of range.
        tf.errors.InvalidArgumentError: while iterating, naming the file: if it
            cannot be read, is of another kind, has a color that is not in
            `palette`, or a label that is neither class nor void, or if picture
            and mask differ in size.

    Example:
        >>> import pathlib, tempfile, tensorflow as tf
        >>> from keras_deconv.data import draw_scene, from_folders
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder = pathlib.Path(folder)
        ...     for number in range(3):
        ...         image, mask = draw_scene(number)
        ...         for kind, pixels in (("x", image), ("y", mask[..., None])):
        ...             path = folder / kind / f"{number}.png"
        ...             path.parent.mkdir(exist_ok=True)
        ...             _ = path.write_bytes(tf.io.encode_png(pixels).numpy())
        ...     pairs = from_folders(folder / "x", folder / "y", classes=6,
        ...                          image_size=(48, 64), batch_size=3)
        ...     [(image, mask)] = pairs
        >>> tuple(image.shape), tuple(mask.shape)
        ((3, 48, 64, 3), (3, 48, 64))
    """
    source = mask_format(
        classes, palette, void_labels, void_colors, str(images)
    )
    files = match_files(images, masks, mask_suffix, unmatched)

    def read_files(
        image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        return read_pair(
            pathlib.Path(image_path.numpy().decode()),
            pathlib.Path(mask_path.numpy().decode()),
            source.label_of_color,
        )

    def read(
        name: tf.Tensor, image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # In Python, so that an error names the file.
        image, mask = tf.py_function(
            read_files, (image_path, mask_path), (tf.uint8, tf.uint8)
        )
        return {
            "image": tf.ensure_shape(image, (None, None, 3)),
            "mask": tf.ensure_shape(mask, (None, None, 1)),
            "file_name": name,
        }

    columns = [list(column) for column in zip(*files, strict=True)]
    dataset = tf.data.Dataset.from_tensor_slices(
        tuple([str(value) for value in column] for column in columns)
    ).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return segmentation_pairs(
        dataset,
        source.entry,
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        epoch=epoch,
        cache=cache,
        drop_remainder=drop_remainder,
        augment=augment,
        class_weights=class_weights,
    )


@dataclasses.dataclass(frozen=True)
class MaskFormat:
    """What the labels and colors of the masks of a folder mean."""

    entry: SegmentationSet
    # The label of each color; a color is red * 65536 + green * 256 + blue.
    label_of_color: dict[int, int]


def mask_format(
    classes: Classes,
    palette: Sequence[Color] | None,
    void_labels: Sequence[int],
    void_colors: Sequence[Color],
    name: str,
) -> MaskFormat:
    void_labels = _void_labels(void_labels)
    if isinstance(classes, SegmentationSet):
        palette = classes.palette if palette is None else palette
        entry = dataclasses.replace(
            classes,
            name=name,
            image_key="image",
            mask_key="mask",
            read_mask=None,
            frames_key=None,
        )
    else:
        if isinstance(classes, str):
            raise ValueError(
                "`classes` must be an int, a sequence of names or a "
                f"SegmentationSet. Received: classes={classes!r}"
            )
        if isinstance(classes, Sequence):
            class_names = _arguments.class_names(classes, name="classes")
        else:
            class_names = generic_names(_arguments.num_classes(classes))
        free = [label for label in range(256) if label not in void_labels]
        if len(class_names) > len(free):
            raise ValueError(
                "`classes` must be at most as many as there are labels in "
                f"0..255 that are not void, {len(free)}. Received: "
                f"{len(class_names)} classes, void_labels={void_labels}"
            )
        entry = plain_set(
            name,
            "image",
            "mask",
            class_names,
            labels={free[number]: number for number in range(len(class_names))},
            void_labels=void_labels,
        )
    void_codes = _color_codes(void_colors, "void_colors")
    if palette is None:
        return MaskFormat(entry, {})
    codes = _color_codes(palette, "palette")
    if len(codes) != entry.num_classes:
        raise ValueError(
            "`palette` must have one color per class. Received: "
            f"{len(codes)} colors for {entry.num_classes} classes."
        )
    if void_codes and not entry.void_labels:
        raise ValueError(
            "`void_colors` need a label that means void. Add 255 to the "
            "`void_labels`."
        )
    # Any label of a class will do; there may be several.
    label_of_class = {number: label for label, number in entry.labels.items()}
    meanings = [
        *((codes[number], label) for number, label in label_of_class.items()),
        *((code, entry.void_labels[0]) for code in void_codes),
    ]
    label_of_color = dict(meanings)
    if len(label_of_color) < len(meanings):
        raise ValueError(
            "The colors of `palette` and `void_colors` must be distinct. "
            f"Received: palette={palette!r}, void_colors={void_colors!r}"
        )
    return MaskFormat(entry, label_of_color)


def _void_labels(value: Any) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(label) for label in value)
    except TypeError:
        found = (-1,)
    if len(set(found)) < len(found) or not set(found) <= set(range(256)):
        raise ValueError(
            "`void_labels` must be a sequence of distinct ints in 0..255, such "
            f"as (255,), or () for none. Received: void_labels={value!r}"
        )
    return found


def _color_codes(value: Any, argument: str) -> list[int]:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        raise ValueError(
            f"`{argument}` must be a sequence of colors (red, green, blue). "
            f"Received: {argument}={value!r}"
        )
    return [_color_code(color) for color in value]


def _color_code(color: Any) -> int:
    try:
        red, green, blue = (operator.index(value) for value in color)
    except (TypeError, ValueError):
        red = green = blue = -1
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(
            "A color must be three ints (red, green, blue) in 0..255. "
            f"Received: {color!r}"
        )
    return 65536 * red + 256 * green + blue


def match_files(
    images: StrPath, masks: StrPath, mask_suffix: str, unmatched: str
) -> list[tuple[str, pathlib.Path, pathlib.Path]]:
    """Pairs files of two folders: (common name, picture, mask), in order."""
    unmatched = _arguments.choice(unmatched, "unmatched", ("error", "skip"))
    if not isinstance(mask_suffix, str):
        raise ValueError(
            "`mask_suffix` must be a str such as '_mask', or '' for none. "
            f"Received: mask_suffix={mask_suffix!r}"
        )
    mask_suffix = unicodedata.normalize("NFC", mask_suffix)
    mask_files = {
        stem.removesuffix(mask_suffix): path
        for stem, path in _list_files(masks, "masks", MASK_SUFFIXES).items()
        if stem.endswith(mask_suffix)
    }
    taken = set(mask_files.values())
    image_files = {
        stem: path
        for stem, path in _list_files(images, "images", IMAGE_SUFFIXES).items()
        if path not in taken
    }
    both = sorted(image_files.keys() & mask_files.keys())
    report = [f"pairs: {len(both)}"]
    for kind, stems in (
        ("pictures without mask", image_files.keys() - set(both)),
        ("masks without picture", mask_files.keys() - set(both)),
    ):
        if stems:
            more = ", ..." if len(stems) > _NUM_SHOWN else ""
            shown = ", ".join(sorted(stems)[:_NUM_SHOWN])
            report.append(f"{kind}: {len(stems)} ({shown}{more})")
    is_complete = len(report) == 1
    if not both or (unmatched == "error" and not is_complete):
        raise ValueError(
            "`images` and `masks` must hold files of the same names, but for "
            f"the suffix. Received: '{images}' and '{masks}' with "
            f"{'; '.join(report)}. "
            "Give `mask_suffix` if all masks are named so, or leave files out "
            "with unmatched='skip'."
        )
    if not is_complete:
        print(f"'{images}' and '{masks}': {'; '.join(report)}.")
    return [(stem, image_files[stem], mask_files[stem]) for stem in both]


def list_pictures(
    folder: StrPath, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """Lists the files in a folder and below that have one of some suffixes.

    Links are followed, but not back to a folder above them. What has a dot in
    front is left out, folders too: macOS, Jupyter and others leave such.

    Args:
        folder: path.
        suffixes: sequence of str in small letters, with the dot: ".png".

    Returns:
        list of paths that begin with `folder`, sorted.
    """
    found = []
    for name, folder_names, file_names in os.walk(folder, followlinks=True):
        parent = pathlib.Path(name)
        folder_names[:] = [
            name
            for name in folder_names
            if not name.startswith(".") and not _leads_back(parent / name)
        ]
        found += [
            parent / name
            for name in file_names
            if not name.startswith(".")
            and pathlib.Path(name).suffix.lower() in suffixes
            # No links to nowhere.
            and (parent / name).is_file()
        ]
    return sorted(found)


def _leads_back(path: pathlib.Path) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    return path.is_symlink() and os.path.realpath(path) in map(
        os.path.realpath, path.parents
    )


def _list_files(
    folder: StrPath, argument: str, suffixes: tuple[str, ...]
) -> dict[str, pathlib.Path]:
    """Lists files by their path inside the folder, without suffix.

    The path is in one form of Unicode: macOS writes letters with accents as
    two characters, others as one.
    """
    if isinstance(folder, str | os.PathLike):
        folder = pathlib.Path(folder).expanduser()
    if not isinstance(folder, pathlib.Path) or not folder.is_dir():
        raise ValueError(
            f"`{argument}` must be a folder that exists. "
            f"Received: {argument}='{folder}'"
        )
    files: dict[str, pathlib.Path] = {}
    for path in list_pictures(folder, suffixes):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        stem = unicodedata.normalize("NFC", stem)
        if stem in files:
            raise ValueError(
                f"`{argument}` must have one file of a name. Received: "
                f"'{files[stem]}' and '{path}'. Remove one of them."
            )
        files[stem] = path
    if not files:
        raise ValueError(
            f"`{argument}` must hold {', '.join(suffixes)} files. "
            f"Received: {argument}='{folder}', which has none."
        )
    return files
