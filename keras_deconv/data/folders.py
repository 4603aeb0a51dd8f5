"""Load images and masks from two folders."""

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

# Largest number of images whose size is read to estimate the cache.
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
    """Load a folder of images and a folder of masks as batches for `fit`.

    Use it for your own images: all you need is two folders and the number of
    classes. An image and a mask belong together if their paths inside the two
    folders are equal except for the suffix, such as `photos/street/7.jpg` and
    `truth/street/7.png`. Links are followed. Files and folders whose names
    start with a dot are ignored.

    Images can be PNG, JPEG, TIFF, WebP, BMP or GIF files. Images and masks are
    rotated according to their EXIF orientation, like in image viewers. Images
    with 16 bits or floats per channel require `value_range`. Some TIFF files
    require rasterio (`pip install 'keras-deconv[geo]'`): files with more than 4
    channels, with several channels of more than 8 bits, or with a fourth
    channel that is not alpha, such as near infrared. Files with several pages
    or frames raise an error.

    Masks can be files of the same formats, except JPEG, which changes labels at
    the edges of objects. The label of a pixel is:

    - in a grayscale mask, its value. RGB masks whose three channels are equal
      are grayscale too, because OpenCV writes them.
    - in an indexed mask, as in VOC and DAVIS, its index, whatever the color of
      the index is. If index 0 is white, white pixels have the label 0.
    - in a 1-bit mask, 0 for black and 1 for white.
    - in every mask, the class of its color, if you pass `palette`.

    The class of a label is defined as follows:

    - By default, the labels 0, 1, 2 and so on are the classes, and 255 is void.
    - Binary masks of 0 and 255 require `foreground=255`.
    - All other masks require `labels`.

    Args:
        images: Path of the folder of images. It may have subfolders.
        masks: Path of the folder of masks.
        classes: int, the number of classes; a sequence of their names; or a
            `SegmentationSet`, which defines the labels too. Optional with
            `labels` or `foreground`.
        image_size: int or tuple (height, width) of ints > 0, in pixels. None
            keeps the sizes. A `batch_size` above 1 then requires images of
            equal size, or an `augment` that makes them equal.
        batch_size: int > 0. The last batch may be smaller.
        labels: dict from mask value to class id or class name, such as
            `{0: 0, 255: 1}` or `{0: "background", 255: "building"}`. The names
            become the class names, in this order or in that of `classes`.
        foreground: int in 1..255. Value of the foreground in binary masks.
            Short for `labels={0: "background", V: "foreground"}`. You can pass
            other names for the two classes as `classes`. This value is a class
            even if `void_labels` contains it.
        void_labels: Sequence of labels in 0..255 that mean void, or () if
            nothing is void. If you do not pass `labels`, the classes are the
            remaining labels in order: with `(0,)`, they are labeled 1, 2, 3 and
            so on. Defaults to (255,), unless 255 is in `labels`.
        value_range: Tuple (low, high) of the image values that become 0 and
            255, such as (0, 65535). Values outside the range are clipped, so
            you can pass a window such as (-160, 240) for CT images. An image
            raises an error if most of its values exceed `low` by more than
            three times the width of the range. It also raises an error if the
            range is at most 1 wide, such as (0, 1), and integer values are
            above it. With a range, images are kept as float32 and do not lose
            precision. Defaults to None, for 8-bit images.
        palette: Sequence of one color (red, green, blue) in 0..255 per class,
            or "voc" for the colors of `color_map`, with (224, 224, 192) for
            void. The class of a pixel is then its color in every mask,
            including grayscale and indexed masks. Defaults to the palette of a
            `SegmentationSet`, which is only used for RGB masks that are not
            gray.
        void_colors: Sequence of colors that mean void.
        image_suffix: str. End of the names of images, which is not part of the
            common name, such as "_leftImg8bit" in Cityscapes. Images with other
            names are ignored.
        mask_suffix: str. End of the names of masks, such as "_mask" for `7.jpg`
            and `7_mask.png`. Masks with other names are ignored, so images and
            masks can share a folder.
        lossy_masks: bool. Whether to read JPEG masks. Their values are rounded
            to the labels, or to the colors of `palette`. All values must be
            within 2 of a label, and labels at least 5 apart. Other lossy masks
            raise an error.
        channels: int >= 1. Number of channels of the images. 3 repeats
            grayscale and drops alpha. 1 converts colors to grayscale and drops
            alpha. Any other number must be that of all files.
        unmatched: "error" or "skip". "error" refuses images without a mask,
            masks without an image, several files of the same name, and files of
            other image formats. "skip" ignores them and prints how many there
            are. Files of unsupported formats beside a supported file, such as
            `7.dng` beside `7.png`, are always ignored. JPEG files beside a mask
            of the same name are ignored too.
        files: Sequence of str, or None for all files. Loads only these pairs.
            The names are paths inside the folders without suffix, such as
            "street/7".
        validation_split: float above 0 and below 1, or None. Fraction of the
            pairs for validation. Requires `subset`.
        subset: "training", "validation", or "both" for a tuple of the two.
            `seed` and the names of the files determine the parts. With "both",
            `augment`, `class_weights` and `drop_remainder` only apply to the
            training part.
        shuffle: bool or None. Whether to use a new random order in every epoch.
            Defaults to True, except for the validation part. False keeps the
            order of the names.
        seed: int >= 0 or None. Makes order and augmentation reproducible, as in
            `segmentation_pairs`. It also determines the parts of `subset`,
            where None means 0.
        epoch: `tf.Variable`, an int64 scalar, or None. Number of the epoch,
            which makes resumed trainings reproducible. See
            `segmentation_pairs`.
        cache: True, "disk" or False. Whether to keep the resized examples in
            memory, in a temporary file, or not at all. See
            `segmentation_pairs`.
        drop_remainder: bool. Whether to drop a last batch that is not full.
        augment: Function from (image, mask) to (image, mask), or None. See
            `augmentation`.
        class_weights: Sequence of one finite float >= 0 per class, dict from
            class to weight, or None. Adds the weight of every pixel to the
            dataset. See `segmentation_pairs`.

    Returns:
        A `tf.data.Dataset` of (image, mask), or of (image, mask, weight) with
        `class_weights`: `image` is float32 of shape (batch, height, width,
        channels) in 0..255, `mask` is int32 of shape (batch, height, width)
        with classes and 255 for void, and `weight` is float32 of the shape of
        `mask`. With `subset="both"`, a tuple of two such datasets: training and
        validation.

    Raises:
        ValueError: If a folder does not exist, or does not contain images or
            masks.
        ValueError: If `unmatched` is "error" and a file is not part of a pair.
        ValueError: If `classes`, `labels`, `foreground`, `void_labels` and
            `palette` contradict each other.
        ValueError: If the masks of two classes contain only the values 0 and
            255, and `labels`, `foreground` and `void_labels` are omitted.
        ValueError: If only one of `validation_split` and `subset` is passed, or
            one part is requested without a `seed`.
        ValueError: If `files` contains a name that does not exist.
        ValueError: If `cache` is True and the examples need more than the free
            memory. The free memory is only known on Linux.
        ValueError: If another argument is out of range.
        tf.errors.InvalidArgumentError: While iterating, if a file cannot be
            read. These messages contain the name of the file.
        tf.errors.InvalidArgumentError: While iterating, if a color is not in
            `palette`, or a label is neither a class nor void.
        tf.errors.InvalidArgumentError: While iterating, if an image cannot be
            converted to `channels` channels.
        tf.errors.InvalidArgumentError: While iterating, if an image has more
            than 8 bits per channel and `value_range` is None.
        tf.errors.InvalidArgumentError: While iterating, if `value_range` is
            outside the dtype of an image or far too narrow for it.
        tf.errors.InvalidArgumentError: While iterating, if an image and its
            mask differ in size.

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
        # Other files are not loaded, so they may lack a partner.
        found = match_files(images, masks, "skip", verbose=False, **naming)
    # Check all files, because a small part may lack the foreground.
    check_not_binary([mask for _, _, mask in found], format)
    if files is not None:
        found = only(found, files)

    # In the other cases, segmentation_pairs checks the cache of each part.
    if image_size is None or subset == "both":
        _check_cache(cache, found, image_size, channels, limits is not None)

    def load(part: Files, is_training: bool, **changes: Any) -> tf.data.Dataset:
        return segmentation_pairs(
            _examples(part, format, limits, channels),
            _entry_of_classes(format),
            image_size=image_size,
            batch_size=batch_size,
            # `_examples` has already scaled the images, so this range does not
            # change them.
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
    """Refuse a cache that does not fit into memory, for all parts together.

    If images keep their sizes, the cache is estimated from the sizes of a
    sample of the files.
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
            # Loading the image reports the error.
            return
        about = "about "
    _caching.check_fits(
        cache,
        _caching.num_bytes(len(files), (height, width), channels, is_float),
        f"{len(files)} examples of {about}{height}x{width} pixels",
    )


def _entry_of_classes(format: MaskFormat) -> Any:
    """Describe masks of classes and 255, which `read_pair` returns."""
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
    """Return a dataset that reads each file when it is needed."""
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
        # Return the error as text, because TensorFlow would add a traceback.
        except ValueError as error:
            nothing = np.zeros((0, 0, channels), dtype)
            return nothing, np.zeros((0, 0, 1)), str(error)
        return values, classes[..., None], ""

    def read(
        name: tf.Tensor, image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # Read files in Python, so that errors contain the name of the file.
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
        # Paths are bytes, because names may not be valid UTF-8.
        [os.fsencode(path) for _, path, _ in files],
        [os.fsencode(path) for _, _, path in files],
    )
    return tf.data.Dataset.from_tensor_slices(columns).map(
        read, num_parallel_calls=tf.data.AUTOTUNE
    )
