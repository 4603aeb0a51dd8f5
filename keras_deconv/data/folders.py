"""Images and masks that lie in two folders."""

from __future__ import annotations

import os
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv.data import _images, _value_ranges
from keras_deconv.data._epochs import Augment
from keras_deconv.data._errors import printable, require
from keras_deconv.data._images import IMAGE_SUFFIXES, OTHER_SUFFIXES
from keras_deconv.data._mask_formats import (
    Classes,
    Labels,
    MaskFormat,
    mask_format,
)
from keras_deconv.data._masks import MASK_SUFFIXES, check_not_binary, read_pair
from keras_deconv.data._splits import check_subset, split_files
from keras_deconv.data.catalog import Color, plain_set
from keras_deconv.data.pipeline import (
    ClassWeights,
    check_arguments,
    segmentation_pairs,
)

__all__ = ["from_folders"]

StrPath: TypeAlias = str | os.PathLike[str]
# Common name, image, mask.
Files: TypeAlias = list[tuple[str, pathlib.Path, pathlib.Path]]
# How many file names a report lists, for each problem.
_NUM_SHOWN = 5


def from_folders(
    images: StrPath,
    masks: StrPath,
    *,
    classes: Classes | None = None,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    labels: Labels | None = None,
    foreground: int | None = None,
    void_labels: Sequence[int] | None = None,
    value_range: _value_ranges.ValueRange | None = None,
    palette: Sequence[Color] | None = None,
    void_colors: Sequence[Color] = (),
    mask_suffix: str = "",
    unmatched: str = "error",
    files: Sequence[str] | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    shuffle: bool | None = None,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: bool = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> Any:
    """Load a folder of images and a folder of masks, ready for `fit`.

    An image and a mask belong together if their paths inside the two folders
    are the same except for the suffix: `photos/street/7.jpg` and
    `truth/street/7.png`. Links are followed. Files and folders whose names
    start with a dot are ignored.

    Images are PNG or JPEG files. Files of other image formats are an error
    that names them, unless `unmatched` is `"skip"`. Images are turned by their
    EXIF orientation, as viewers show them; so are masks that have one. Images
    of 16 bits per channel need `value_range`.

    Masks are PNG files of 8 bits per channel or less (JPEG would change
    labels). What counts as the label of a pixel:

    - In a grayscale mask, its value. RGB masks whose three channels are equal
      are grayscale too; OpenCV writes them.
    - In an indexed mask, as in VOC and DAVIS, its index, whatever color the
      index has: where index 0 is white, white pixels have the label 0.
    - In a mask of 1 bit, 0 for black and 1 for white.
    - In every mask, its color, if `palette` is passed.

    What a label means:

    - By default, labels 0, 1, 2 and so on are the classes, and 255 is void.
    - Binary masks of 0 and 255 need `foreground=255`.
    - Any other numbering needs `labels`.

    Args:
        images: Path of the folder of images. It may have subfolders.
        masks: Path of the folder of masks.
        classes: int, the number of classes; or a sequence of their names; or a
            `SegmentationSet`, which has its own labels. May be omitted with
            `labels` or `foreground`.
        image_size: int, tuple (height, width) of ints > 0, or None. See
            `segmentation_pairs`.
        batch_size: int > 0.
        labels: dict from mask value to class id or class name, such as
            `{0: 0, 255: 1}` or `{0: "background", 255: "building"}`. Names
            become the names of the classes, in this order or in that of
            `classes`.
        foreground: int in 1..255. The value of the foreground in binary masks:
            short for `labels={0: "background", V: "foreground"}`. `classes`
            may give other names to the two. This value is not void, whatever
            `void_labels` says.
        void_labels: Sequence of labels in 0..255 that mean void; () if nothing
            is void. Without `labels`, the classes take the remaining labels in
            order: with `(0,)` they are labeled 1, 2, 3 and so on. Defaults to
            (255,), unless 255 is in `labels`.
        value_range: Tuple (low, high) of the image values that become 0 and
            255, such as (0, 65535). Values beyond are clipped, so a narrower
            range is a window, such as (-160, 240) for CT images. An image is
            an error if most of its values exceed `low` by more than three
            times the width of the range, or if its values are integers above
            a range such as (0, 1): it would become white. Images are then
            float32 and keep their precision. Defaults to none, for images of
            8 bits.
        palette: Sequence of (red, green, blue) in 0..255, one per class. The
            color then counts in every mask, grayscale and indexed ones
            included. Defaults to that of a `SegmentationSet`, for RGB masks
            that are not gray.
        void_colors: Sequence of colors that mean void.
        mask_suffix: str. What the names of the masks have in addition to those
            of the images: "_mask" for `7.jpg` and `7_mask.png`. Other masks
            are ignored, so images and masks may share a folder.
        unmatched: `"error"` to refuse images without a mask, masks without an
            image, and images and masks of other formats; or `"skip"` to leave
            them out and print how many. Another format of an image that is
            read, such as `7.tif` beside `7.png`, does not matter.
        files: Sequence of str. Load these pairs only, given by their path
            inside the folders without suffix: `"street/7"`. Defaults to all.
        validation_split: float above 0 and below 1. Share of the pairs that
            are set aside for validation. Needs `subset`.
        subset: `"training"`, `"validation"`, or `"both"` for a tuple of the
            two. Which pairs belong to which follows from `seed` and the names
            of the files. With `"both"`, `augment`, `class_weights` and
            `drop_remainder` apply to the training part only.
        shuffle: bool. As in `segmentation_pairs`. Defaults to True, except for
            the validation part. Pass False to get the order of the names.
        seed: int or None. As in `segmentation_pairs`. It also draws the parts;
            None stands for 0 there.
        epoch: `tf.Variable` or None. As in `segmentation_pairs`.
        cache: bool. As in `segmentation_pairs`.
        drop_remainder: bool. As in `segmentation_pairs`.
        augment: Function or None. As in `segmentation_pairs`.
        class_weights: Floats or None. As in `segmentation_pairs`.

    Returns:
        A `tf.data.Dataset` as from `segmentation_pairs`. With `subset="both"`
        a tuple of two: training and validation.

    Raises:
        ValueError: If a folder is missing or has no such files.
        ValueError: If two files differ in their suffix only, or `unmatched` is
            `"error"` and an image has no mask, a mask has no image, or a file
            has another image format.
        ValueError: If `classes`, `labels`, `foreground`, `void_labels` and
            `palette` contradict each other.
        ValueError: If the masks of two classes hold the values 0 and 255
            alone, and `labels`, `foreground` and `void_labels` are omitted.
        ValueError: If another argument is out of range.
        tf.errors.InvalidArgumentError: While iterating, with the name of the
            file: if it cannot be read, if a color is not in `palette`, if a
            label is neither a class nor void, if an image has more than 8 bits
            and `value_range` is None, if `value_range` is far too narrow for
            an image, or if an image and its mask differ in size.

    Example:
        >>> import pathlib, tempfile, tensorflow as tf
        >>> from keras_deconv.data import draw_scene, from_folders
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder = pathlib.Path(folder)
        ...     for number in range(5):
        ...         image, mask = draw_scene(number)
        ...         for kind, pixels in (("x", image), ("y", mask[..., None])):
        ...             path = folder / kind / f"{number}.png"
        ...             path.parent.mkdir(exist_ok=True)
        ...             _ = path.write_bytes(tf.io.encode_png(pixels).numpy())
        ...     train, validation = from_folders(
        ...         folder / "x", folder / "y", classes=6, image_size=(48, 64),
        ...         batch_size=4, validation_split=0.2, subset="both")
        ...     [(image, mask)] = train
        >>> tuple(image.shape), tuple(mask.shape), len(validation)
        ((4, 48, 64, 3), (4, 48, 64), 1)
    """
    check_arguments(image_size, batch_size, seed, epoch, augment)
    limits = _value_ranges.checked(value_range)
    subset = check_subset(validation_split, subset, seed)
    format = mask_format(
        printable(str(images)),
        classes,
        labels=labels,
        foreground=foreground,
        void_labels=void_labels,
        palette=palette,
        void_colors=void_colors,
    )
    if files is None:
        found = match_files(images, masks, mask_suffix, unmatched)
    else:
        # Others do not matter, so they need no partner.
        found = match_files(images, masks, mask_suffix, "skip", verbose=False)
    # Of all files: a small part may have no foreground.
    check_not_binary([mask for _, _, mask in found], format)
    if files is not None:
        found = _only(found, files)

    def load(part: Files, is_training: bool, **changes: Any) -> tf.data.Dataset:
        return segmentation_pairs(
            _examples(part, format, limits),
            _entry_of_classes(format),
            image_size=image_size,
            batch_size=batch_size,
            # Scaled by now: a range that changes nothing.
            value_range=None if limits is None else (0, 255),
            shuffle=is_training if shuffle is None else shuffle,
            seed=seed,
            epoch=epoch,
            cache=cache,
            **changes,
        )

    changes: dict[str, Any] = {
        "augment": augment,
        "class_weights": class_weights,
        "drop_remainder": drop_remainder,
    }
    if validation_split is None:
        return load(found, True, **changes)
    training, validation = split_files(found, validation_split, seed or 0)
    if subset == "training":
        return load(training, True, **changes)
    if subset == "validation":
        return load(validation, False, **changes)
    return load(training, True, **changes), load(validation, False)


def _entry_of_classes(format: MaskFormat) -> Any:
    """Describe masks that hold classes and 255, as `read_pair` gives them."""
    entry = format.entry
    return plain_set(
        entry.name, "image", "mask", entry.class_names, palette=entry.palette
    )


def _examples(
    files: Files,
    format: MaskFormat,
    value_range: tuple[float, float] | None,
) -> tf.data.Dataset:
    """Read the files, each when it is needed."""
    dtype = np.uint8 if value_range is None else np.float32

    def read_files(
        image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> tuple[np.ndarray, np.ndarray, str]:
        path, mask = (
            pathlib.Path(os.fsdecode(tensor.numpy()))
            for tensor in (image_path, mask_path)
        )
        try:
            pixels, classes = read_pair(path, mask, format)
            values = _images.in_range(pixels, value_range, printable(path))
        # As text, so that TensorFlow does not add where it was raised.
        except ValueError as error:
            return np.zeros((0, 0, 3), dtype), np.zeros((0, 0, 1)), str(error)
        return values, classes[..., None], ""

    def read(
        name: tf.Tensor, image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # In Python, so that an error names the file.
        image, mask, problem = tf.py_function(
            read_files, (image_path, mask_path), (dtype, tf.uint8, tf.string)
        )
        require(tf.equal(problem, ""), [problem])
        return {
            "image": tf.ensure_shape(image, (None, None, 3)),
            "mask": tf.ensure_shape(mask, (None, None, 1)),
            "file_name": name,
        }

    columns = (
        [printable(name) for name, _, _ in files],
        # As bytes: names need not be UTF-8.
        [os.fsencode(path) for _, path, _ in files],
        [os.fsencode(path) for _, _, path in files],
    )
    return tf.data.Dataset.from_tensor_slices(columns).map(
        read, num_parallel_calls=tf.data.AUTOTUNE
    )


def _only(files: Files, names: Sequence[str]) -> Files:
    """Return the pairs of some names, in the order of `files`.

    Raises:
        ValueError: If a name is not there, or none is given.
    """
    wanted = {unicodedata.normalize("NFC", str(name)) for name in names}
    missing = sorted(wanted - {name for name, _, _ in files})
    if missing or not wanted or isinstance(names, str):
        shown = ", ".join(map(printable, missing[:_NUM_SHOWN]))
        raise ValueError(
            "`files` must be a sequence of names of pairs, without suffix, at "
            "least one. Received: "
            + (
                f"{len(missing)} that are not there ({shown})"
                if missing
                else f"files={names!r}"
            )
        )
    return [file for file in files if file[0] in wanted]


def median_size(files: Files) -> tuple[int, int]:
    """Return the median height and width of the images, as viewers show them.

    Raises:
        ValueError: If a file is not an image.
    """
    return _images.median_size(path for _, path, _ in files)


def match_files(
    images: StrPath,
    masks: StrPath,
    mask_suffix: str,
    unmatched: str,
    verbose: bool = True,
) -> Files:
    """Pair the files of two folders: (common name, image, mask), in order."""
    unmatched = _arguments.choice(unmatched, "unmatched", ("error", "skip"))
    if not isinstance(mask_suffix, str):
        raise ValueError(
            "`mask_suffix` must be a str such as '_mask', or '' for none. "
            f"Received: mask_suffix={mask_suffix!r}"
        )
    mask_suffix = unicodedata.normalize("NFC", mask_suffix)
    all_masks, other_masks = _list_files(masks, "masks", MASK_SUFFIXES)
    mask_files = {
        stem.removesuffix(mask_suffix): path
        for stem, path in all_masks.items()
        if stem.endswith(mask_suffix)
    }
    taken = set(mask_files.values())
    all_images, other_images = _list_files(images, "images", IMAGE_SUFFIXES)
    image_files = {
        stem: path for stem, path in all_images.items() if path not in taken
    }
    # The folder may be the same for both.
    read = {*all_images.values(), *taken}
    other_masks = [
        path
        for path in other_masks
        if unicodedata.normalize("NFC", path.stem).endswith(mask_suffix)
        and path not in read
    ]
    read.update(other_masks)
    other_images = [path for path in other_images if path not in read]
    both = sorted(image_files.keys() & mask_files.keys())
    report = [f"pairs: {len(both)}"]
    for kind, stems in (
        ("images without mask", image_files.keys() - set(both)),
        ("masks without image", mask_files.keys() - set(both)),
    ):
        if stems:
            report.append(f"{kind}: {_shown(sorted(stems))}")
    for kind, suffixes, paths in (
        ("images", IMAGE_SUFFIXES, other_images),
        ("masks", MASK_SUFFIXES, other_masks),
    ):
        if paths:
            report.append(
                f"{kind} that are not {' or '.join(suffixes)}: {_shown(paths)}"
            )
    is_complete = len(report) == 1
    if not both or (unmatched == "error" and not is_complete):
        raise ValueError(
            "`images` and `masks` must hold files of the same names, except "
            f"for the suffix. Received: '{printable(images)}' and "
            f"'{printable(masks)}' with "
            f"{'; '.join(report)}. "
            "Give `mask_suffix` if all masks are named so, or leave files out "
            "with unmatched='skip'."
            + (
                " Convert files of other formats to PNG."
                if other_images or other_masks
                else ""
            )
        )
    if not is_complete and verbose:
        folders = f"'{printable(images)}' and '{printable(masks)}'"
        print(f"{folders}: {'; '.join(report)}.")
    return [(stem, image_files[stem], mask_files[stem]) for stem in both]


def _shown(names: Sequence[StrPath]) -> str:
    """Write how many there are, with some of them."""
    more = ", ..." if len(names) > _NUM_SHOWN else ""
    shown = ", ".join(
        printable(getattr(name, "name", name)) for name in names[:_NUM_SHOWN]
    )
    return f"{len(names)} ({shown}{more})"


def list_pictures(
    folder: StrPath, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """List the files in a folder and below that have one of some suffixes.

    Links are followed, but not back to a folder above them. Files and folders
    whose names start with a dot are left out: macOS, Jupyter and others
    create such.

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


def other_pictures(
    folder: StrPath, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """List the image files that `list_pictures` leaves out."""
    others = {*IMAGE_SUFFIXES, *OTHER_SUFFIXES} - {*suffixes}
    return list_pictures(folder, sorted(others))


def _leads_back(path: pathlib.Path) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    return path.is_symlink() and os.path.realpath(path) in map(
        os.path.realpath, path.parents
    )


def name_of(path: pathlib.Path, folder: StrPath) -> str:
    """Return the name of a pair: the path inside the folder, without suffix.

    It is in one form of Unicode: macOS writes letters with accents as two
    characters, others as one.
    """
    name = path.relative_to(folder).with_suffix("").as_posix()
    return unicodedata.normalize("NFC", name)


def _list_files(
    folder: StrPath, argument: str, suffixes: tuple[str, ...]
) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
    """List files by their names, and files of other image formats.

    Returns:
        The files, and those of other image formats, unless there is a file of
        the same name that is read.
    """
    if isinstance(folder, str | os.PathLike):
        folder = pathlib.Path(folder).expanduser()
    if not isinstance(folder, pathlib.Path) or not folder.is_dir():
        raise ValueError(
            f"`{argument}` must be a folder that exists. "
            f"Received: {argument}='{printable(str(folder))}'"
        )
    files: dict[str, pathlib.Path] = {}
    others = []
    for path in list_pictures(folder, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES)):
        if path.suffix.lower() not in suffixes:
            others.append(path)
            continue
        stem = name_of(path, folder)
        if stem in files:
            raise ValueError(
                f"`{argument}` must have one file of a name. Received: "
                f"'{printable(files[stem])}' and '{printable(path)}'. "
                "Remove one of them."
            )
        files[stem] = path
    others = [path for path in others if name_of(path, folder) not in files]
    if not files:
        raise ValueError(
            f"`{argument}` must hold {', '.join(suffixes)} files. "
            f"Received: {argument}='{printable(folder)}', which has none."
            + (
                f" It has files of other formats: {_shown(others)}. Convert "
                "them to PNG."
                if others
                else ""
            )
        )
    return files, others
