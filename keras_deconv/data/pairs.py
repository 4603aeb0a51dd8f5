"""From a tfds data set to batches of (picture, mask) that `fit` takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv import arguments

# Importing the builders is what makes their names known to tfds.
from keras_deconv.data import camvid, scenes  # noqa: F401
from keras_deconv.data.catalog import VOID, SegmentationSet, describe

# How many examples are shuffled at a time when they are not in memory anyway.
_UNCACHED_SHUFFLE_SIZE = 1000


def load(
    name: str,
    split: str,
    *,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    shuffle: bool | None = None,
    seed: int | None = None,
    cache: bool = True,
) -> tf.data.Dataset:
    """Loads a data set as batches of pictures and masks, ready for `fit`.

    The set is prepared first if `data_dir` does not hold it yet, which
    downloads it unless `manual_dir` has what it needs. What is prepared
    already is read as it is, whatever `manual_dir` holds by now.

    Without a network: put the archives that the set is made of into a folder
    and pass it as `manual_dir`; `oxford_iiit_pet` is made of `images.tar.gz`
    and `annotations.tar.gz`, `cam_vid` also takes a folder of pictures (see
    `CamVid`). `scenes` needs neither. A prepared `data_dir` can be carried to
    another machine as well.

    Args:
        name: str. A data set of the catalog, with configuration and version
            if need be, e.g. `"oxford_iiit_pet:4.*.*"`.
        split: str. A split or a slice of one, as in tfds: `"train"`,
            `"train[:10%]"`, `"train+validation"`. `splits` lists them.
        image_size: int, tuple (height, width) of ints > 0, or None. See
            `segmentation_pairs`.
        batch_size: int > 0.
        data_dir: path of prepared sets. Default: as in tfds, the environment
            variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        manual_dir: path of a folder with archives or pictures. Default: none.
        shuffle: bool. Default: whether `split` is (part of) a training split.
        seed: int or None. Makes the order of a shuffled set reproducible.
        cache: bool. Keep the resized pictures in memory.

    Returns:
        A `tf.data.Dataset` as from `segmentation_pairs`.

    Raises:
        ValueError: if `name` is not in the catalog, the set has no such split
            (the text names those it has), `manual_dir` is not there or lacks
            the files, or the data are faulty.
        FileNotFoundError: if a file is missing in an archive.
        OSError: if the set cannot be downloaded or written.

    Example:
        >>> import tempfile
        >>> from keras_deconv.data import load
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     train = load("scenes", "train[:16]", image_size=(48, 64),
        ...                  batch_size=8, data_dir=folder)
        ...     [(image, mask), _] = train
        Downloading and preparing dataset ...
        >>> tuple(image.shape), tuple(mask.shape), len(train)
        ((8, 48, 64, 3), (8, 48, 64), 2)
    """
    # Before anything is prepared, which can take long.
    if not isinstance(split, str):
        raise ValueError(
            "`split` must be a str such as 'train' or 'train[:10%]'. "
            f"Received: split={split!r}"
        )
    if image_size is not None:
        image_size = arguments.ints(image_size, 2, "image_size", minimum=1)
    arguments.positive_int(batch_size, "batch_size")
    if shuffle is None:
        shuffle = split.startswith("train")
    builder = _prepare(name, data_dir, manual_dir)
    read_config = tfds.ReadConfig(
        # tfds would keep the pictures in memory at full size.
        try_autocache=False,
        shuffle_seed=seed,
    )
    try:
        dataset = builder.as_dataset(
            split=split,
            # Once everything is in the cache, the order of files is nothing.
            shuffle_files=shuffle and not cache,
            read_config=read_config,
        )
    except ValueError as error:
        available = ", ".join(builder.info.splits)
        raise ValueError(
            f"`split` must be one of the splits of {name!r} as prepared in "
            f"'{builder.data_dir}' ({available}), or a slice such as "
            f"'train[:10%]'. Received: split={split!r}. {error}"
        ) from None
    return segmentation_pairs(
        dataset,
        name,
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        cache=cache,
    )


def splits(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """Lists the splits of a data set, preparing it if it is not there.

    Args:
        name: str. As in `load`.
        data_dir: path. As in `load`.
        manual_dir: path. As in `load`.

    Returns:
        dict from the name of a split to its number of examples.

    Raises:
        ValueError, OSError: as `load` does when it prepares a set.

    Example:
        >>> import tempfile
        >>> from keras_deconv.data import splits
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     splits("scenes", data_dir=folder)
        Downloading and preparing dataset ...
        {'train': 400, 'validation': 50, 'test': 100}
    """
    builder = _prepare(name, data_dir, manual_dir)
    return {
        split: info.num_examples for split, info in builder.info.splits.items()
    }


def segmentation_pairs(
    dataset: tf.data.Dataset,
    name: str | SegmentationSet,
    *,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    shuffle: bool = False,
    seed: int | None = None,
    cache: bool = True,
) -> tf.data.Dataset:
    """Turns examples of a tfds data set into batches of pictures and masks.

    Labels become classes 0..num_classes-1 and void 255 whatever the set
    writes. Pictures are resized bilinearly (with antialiasing when they
    shrink), masks by taking the nearest pixel, both with the centres of pixels
    as reference, so they stay aligned.

    Args:
        dataset: `tf.data.Dataset` of single examples as dicts, e.g. from
            `tfds.load(name, split="train")`: no `as_supervised` (the mask is
            not in it) and no `batch_size` (it pads with class 0).
        name: str or `SegmentationSet`. What the features and labels mean.
        image_size: int or tuple (height, width) of ints > 0, in pixels; or
            None to keep sizes, where a `batch_size` above 1 needs equal ones.
        batch_size: int > 0. The last batch may be smaller.
        shuffle: bool. Draw a new order every epoch. All examples are shuffled
            if they are cached, else 1000 at a time.
        seed: int or None. Makes the orders of the epochs reproducible.
        cache: bool. Keep the resized examples in memory, 4 bytes per pixel.

    Returns:
        A `tf.data.Dataset` of (image, mask). `image` is float32 (batch,
        height, width, channels) in 0..255; `mask` is int32 (batch, height,
        width) of classes and 255. Its number of batches is known whenever
        that of `dataset` is.

    Raises:
        ValueError: if `name` is unknown, `image_size` or `batch_size` are not
            positive, or the features of `dataset` are not those of `name`.
        tf.errors.InvalidArgumentError: while iterating, naming the example:
            if picture and mask differ in size, or a label is neither a class
            nor void.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> from keras_deconv.data import segmentation_pairs
        >>> examples = tf.data.Dataset.from_tensor_slices({
        ...     "image": np.full((3, 2, 2, 3), 200, np.uint8),
        ...     "segmentation_mask": np.uint8([[[[1], [2]], [[3], [3]]]] * 3),
        ... })
        >>> pairs = segmentation_pairs(
        ...     examples, "oxford_iiit_pet", image_size=None, batch_size=2)
        >>> image, mask = next(iter(pairs))
        >>> image.shape.as_list(), mask[0].numpy().tolist()
        ([2, 2, 2, 3], [[0, 1], [2, 2]])
    """
    entry = describe(name) if isinstance(name, str) else name
    if image_size is not None:
        image_size = arguments.ints(image_size, 2, "image_size", minimum=1)
    _check_arguments(dataset, entry, batch_size)
    # Numbered, so that an error can say which example is faulty.
    pairs = dataset.enumerate().map(
        _pair_maker(entry, image_size), num_parallel_calls=tf.data.AUTOTUNE
    )
    if cache:
        pairs = pairs.cache()
    if shuffle:
        num_examples = int(pairs.cardinality())
        buffer_size = (
            num_examples
            if cache and num_examples > 0
            else _UNCACHED_SHUFFLE_SIZE
        )
        pairs = pairs.shuffle(buffer_size, seed=seed)
    return (
        pairs.batch(batch_size)
        # Four times smaller until here.
        .map(_cast_pair, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _cast_pair(
    image: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(image, tf.float32), tf.cast(mask, tf.int32)


def _pair_maker(
    entry: SegmentationSet, image_size: Sequence[int] | None
) -> Callable[[tf.Tensor, dict[str, Any]], tuple[tf.Tensor, tf.Tensor]]:
    """Makes the function from a numbered example to uint8 (image, mask)."""
    unknown = -1
    classes = [unknown] * 256
    for label in entry.void_labels:
        classes[label] = VOID
    for label, number in entry.labels.items():
        classes[label] = number

    def make_pair(
        index: tf.Tensor, example: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image = example[entry.image_key]
        labels = tf.cast(example[entry.mask_key][..., 0], tf.int32)
        where = _describe_example(entry, index, example)
        image_shape, mask_shape = tf.shape(image)[:2], tf.shape(labels)
        tf.debugging.Assert(
            tf.reduce_all(image_shape == mask_shape),
            [
                where,
                "Picture and mask must have the same size. Received (height, "
                "width):",
                image_shape,
                mask_shape,
            ],
        )
        mask = tf.gather(tf.constant(classes), labels)
        is_known = mask != unknown
        tf.debugging.Assert(
            tf.reduce_all(is_known),
            [
                where,
                f"Labels of {entry.mask_key} must be classes or void, one of "
                f"{sorted([*entry.labels, *entry.void_labels])}. Received:",
                tf.reduce_max(tf.where(is_known, 0, labels)),
                "Correct the mask, or describe the data set with a "
                "SegmentationSet that knows this label.",
            ],
        )
        mask = tf.cast(mask, tf.uint8)
        return _resize(image, mask, image_size) if image_size else (image, mask)

    return make_pair


def _describe_example(
    entry: SegmentationSet, index: tf.Tensor, example: dict[str, Any]
) -> tf.Tensor:
    # No quotes: TensorFlow would escape them.
    parts = [f"Data set {entry.name}, example ", tf.strings.as_string(index)]
    if "file_name" in example:
        parts += [" (", example["file_name"], ")"]
    return tf.strings.join([*parts, ":"])


def _resize(
    image: tf.Tensor, mask: tf.Tensor, image_size: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    image = tf.image.resize(image, image_size, "bilinear", antialias=True)
    mask = tf.image.resize(mask[..., None], image_size, "nearest")[..., 0]
    return tf.saturate_cast(tf.round(image), tf.uint8), mask


def _check_arguments(
    dataset: tf.data.Dataset,
    entry: SegmentationSet,
    batch_size: int,
) -> None:
    arguments.positive_int(batch_size, "batch_size")
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            "`dataset` must be a tf.data.Dataset, as tfds.load gives it; "
            f"data.load takes a name. Received: {type(dataset).__name__}"
        )
    features = dataset.element_spec
    if not isinstance(features, dict):
        raise ValueError(
            "`dataset` must give every example as a dict of features. Received "
            f"elements: {features}. Load it without as_supervised."
        )
    for key in (entry.image_key, entry.mask_key):
        if key not in features:
            raise ValueError(
                f"`dataset` must have the feature {key!r} that {entry.name!r} "
                f"is known by. Received features: {sorted(features)}. Pass "
                "the `name` that belongs to the dataset."
            )
        feature = features[key]
        if feature.dtype != tf.uint8 or feature.shape.rank != 3:
            raise ValueError(
                f"Feature {key!r} of `dataset` must be uint8 with the axes "
                "(height, width, channels). Received: dtype "
                f"{feature.dtype.name}, shape {feature.shape}. Load the "
                "dataset without batch_size."
            )
    if features[entry.mask_key].shape[-1] != 1:
        raise ValueError(
            f"Feature {entry.mask_key!r} of `dataset` must have one channel, "
            "which holds labels. Received: shape "
            f"{features[entry.mask_key].shape}."
        )


def _prepare(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    manual_dir: str | os.PathLike[str] | None,
) -> tfds.core.DatasetBuilder:
    """Gives the builder of a data set once its data are on disk."""
    describe(name)
    if manual_dir is not None:
        manual_dir = os.path.expanduser(manual_dir)
        if not os.path.isdir(manual_dir):
            raise ValueError(
                "`manual_dir` must be a folder that exists. "
                f"Received: manual_dir={manual_dir!r}."
            )
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (AssertionError, ValueError) as error:
        raise ValueError(
            "`name` must name a version and configuration that tfds has. "
            f"Received: name={name!r}. {error}"
        ) from None
    if not builder.is_prepared():
        _download_and_prepare(builder, manual_dir)
    return builder


def _download_and_prepare(
    builder: tfds.core.DatasetBuilder, manual_dir: str | None
) -> None:
    """Prepares a data set; says plainly what is wrong if that fails."""
    archives = sorted(
        info.filename for info in (builder.url_infos or {}).values()
    )
    # tfds would download what it does not find there, or try to.
    if (
        manual_dir is not None
        and archives
        and not set(archives) & set(os.listdir(manual_dir))
    ):
        raise ValueError(
            f"`manual_dir` must hold the archives of {builder.name!r}: "
            f"{', '.join(archives)}. Received: manual_dir={manual_dir!r} "
            "without them. Leave manual_dir out to download them."
        )
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
        )
    except Exception as error:
        problem = f"Data set {builder.name!r} could not be prepared. {error}"
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(problem) from None
        if isinstance(error, OSError):
            advice = builder.MANUAL_DOWNLOAD_INSTRUCTIONS or (
                f"put {', '.join(archives)} into a folder and give it as "
                "manual_dir"
            )
            raise OSError(
                f"{problem} -- If there is no network, {advice}."
            ) from None
        # Most classes of errors that tfds has are not exported.
        is_from_tfds = type(error).__module__.startswith("tensorflow_datasets.")
        if is_from_tfds or isinstance(error, (AssertionError, ValueError)):
            raise ValueError(problem) from None
        raise
