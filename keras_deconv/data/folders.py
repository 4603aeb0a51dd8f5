"""Images and masks that lie in two folders."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv.data import _caching, _images, _value_ranges
from keras_deconv.data._caching import Cache
from keras_deconv.data._epochs import Augment
from keras_deconv.data._errors import printable, require
from keras_deconv.data._mask_formats import (
    Classes,
    Labels,
    MaskFormat,
    Palette,
    mask_format,
)
from keras_deconv.data._masks import check_not_binary, read_pair
from keras_deconv.data._pairs import Files, StrPath, match_files, only
from keras_deconv.data._sets import Color, plain_set
from keras_deconv.data._splits import check_subset, split_files
from keras_deconv.data.pipeline import (
    ClassWeights,
    check_arguments,
    segmentation_pairs,
)

__all__ = ["from_folders"]

# Of how many images the size is looked at.
_NUM_SIZES = 32


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
    palette: Palette | None = None,
    void_colors: Sequence[Color] = (),
    image_suffix: str = "",
    mask_suffix: str = "",
    lossy_masks: bool = False,
    channels: int = 3,
    unmatched: str = "error",
    files: Sequence[str] | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    shuffle: bool | None = None,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: Cache = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> Any:
    """Load a folder of images and a folder of masks, ready for `fit`.

    An image and a mask belong together if their paths inside the two folders
    are the same except for the suffix: `photos/street/7.jpg` and
    `truth/street/7.png`. Links are followed. Files and folders whose names
    start with a dot are ignored.

    Images are PNG, JPEG, TIFF, WebP, BMP or GIF files. Files of other image
    formats, and files without a partner, are an error that names them, unless
    `unmatched` is `"skip"`. Images are turned by their EXIF orientation, as
    viewers show them; so are masks that have one. Images of 16 bits per
    channel, and of floats, need `value_range`. TIFF files of more than 4
    channels, of several channels with more than 8 bits, or with a fourth
    channel that is not alpha, such as near infrared, need rasterio:
    `pip install 'keras-deconv[geo]'`. Files with several pages or frames are
    an error.

    Masks are files of the same formats, but for JPEG, which changes labels at
    the edges of objects. What counts as the label of a pixel:

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
        palette: Sequence of (red, green, blue) in 0..255, one per class; or
            "voc" for those of `color_map`, with (224, 224, 192) for void. The
            color then counts in every mask, grayscale and indexed ones
            included. Defaults to that of a `SegmentationSet`, for RGB masks
            that are not gray.
        void_colors: Sequence of colors that mean void.
        image_suffix: str. What the names of the images have after the common
            name: "_leftImg8bit" in Cityscapes. Other images are ignored.
        mask_suffix: str. What the names of the masks have after the common
            name: "_mask" for `7.jpg` and `7_mask.png`. Other masks are
            ignored, so images and masks may share a folder.
        lossy_masks: bool. Read JPEG masks, and round their values to labels
            (to the colors of `palette`), if every value is within 2 of one and
            labels are at least 5 apart. Other masks of such files are an error.
        channels: int >= 1. Number of channels of the images: 3 repeats gray
            and leaves alpha out, 1 makes colors gray and leaves alpha out. For
            other numbers, every file must have as many.
        unmatched: `"error"` to refuse images without a mask, masks without an
            image, several files of one name, and images and masks of other
            formats; or `"skip"` to leave them out and print how many. A format
            that is not read, such as `7.dng` beside `7.png`, does not matter;
            nor does a JPEG file beside a mask of its name.
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
        cache: True, "disk" or False. As in `segmentation_pairs`.
        drop_remainder: bool. As in `segmentation_pairs`.
        augment: Function or None. As in `segmentation_pairs`.
        class_weights: Floats or None. As in `segmentation_pairs`.

    Returns:
        A `tf.data.Dataset` as from `segmentation_pairs`. With `subset="both"`
        a tuple of two: training and validation.

    Raises:
        ValueError: If a folder is missing or has no such files.
        ValueError: If `unmatched` is `"error"` and an image has no mask, a
            mask has no image, two files differ in their suffix only, or a file
            has another image format.
        ValueError: If `classes`, `labels`, `foreground`, `void_labels` and
            `palette` contradict each other.
        ValueError: If the masks of two classes hold the values 0 and 255
            alone, and `labels`, `foreground` and `void_labels` are omitted.
        ValueError: If another argument is out of range.
        tf.errors.InvalidArgumentError: While iterating, with the name of the
            file: if it cannot be read, if a color is not in `palette`, if a
            label is neither a class nor void, if an image has another number
            of channels, if an image has more than 8 bits and `value_range` is
            None, if `value_range` is far too narrow for an image, or if an
            image and its mask differ in size.

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
    check_arguments(
        *(image_size, batch_size, seed, epoch, augment, shuffle),
        drop_remainder=drop_remainder,
    )
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
        lossy_masks=lossy_masks,
    )
    channels = _arguments.positive_int(channels, "channels")
    naming: dict[str, Any] = {
        "image_suffix": image_suffix,
        "mask_suffix": mask_suffix,
        "lossy_masks": lossy_masks,
    }
    if files is None:
        found = match_files(images, masks, unmatched, **naming)
    else:
        # Others do not matter, so they need no partner.
        found = match_files(images, masks, "skip", verbose=False, **naming)
    # Of all files: a small part may have no foreground.
    check_not_binary([mask for _, _, mask in found], format)
    if files is not None:
        found = only(found, files)

    # Other caches are checked when their size is known, each for itself.
    if image_size is None or subset == "both":
        _check_cache(cache, found, image_size, channels, limits is not None)

    def load(part: Files, is_training: bool, **changes: Any) -> tf.data.Dataset:
        return segmentation_pairs(
            _examples(part, format, limits, channels),
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


def _check_cache(
    cache: Cache,
    files: Files,
    image_size: int | Sequence[int] | None,
    channels: int,
    is_float: bool,
) -> None:
    """Refuse a cache of all parts together that is too large.

    For images of their own sizes, those of some of the files are enough, spread
    over all of them.
    """
    if _caching.checked(cache) is not True:
        return
    if image_size is not None:
        height, width = _arguments.ints(image_size, 2, "image_size", minimum=1)
        about = ""
    else:
        step = math.ceil(len(files) / _NUM_SIZES)
        paths = [path for _, path, _ in files[::step]]
        try:
            height, width = _images.median_size(paths)
        except ValueError:
            # It is reported when the image is loaded.
            return
        about = "about "
    _caching.check_fits(
        cache,
        _caching.num_bytes(len(files), (height, width), channels, is_float),
        f"{len(files)} examples of {about}{height}x{width} pixels",
    )


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
    channels: int,
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
            pixels, classes = read_pair(path, mask, format, channels)
            values = _images.in_range(pixels, value_range, printable(path))
        # As text, so that TensorFlow does not add where it was raised.
        except ValueError as error:
            nothing = np.zeros((0, 0, channels), dtype)
            return nothing, np.zeros((0, 0, 1)), str(error)
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
            "image": tf.ensure_shape(image, (None, None, channels)),
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
