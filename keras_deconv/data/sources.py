"""Load datasets of tfds by name, and prepare them if necessary."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv import _arguments, _network

# Importing the builders registers their names in tfds.
from keras_deconv.data import (
    _caching,
    _preparation,
    _value_ranges,
    camvid,  # noqa: F401
    scenes,  # noqa: F401
)
from keras_deconv.data._caching import Cache
from keras_deconv.data._catalog import did_you_mean, find, known_set, names
from keras_deconv.data._epochs import Augment
from keras_deconv.data._sets import SegmentationSet, plain_set
from keras_deconv.data.pipeline import (
    IMAGE_KEY,
    MASK_KEY,
    ClassWeights,
    check_arguments,
    resolve_set,
    segmentation_pairs,
    weight_table,
)

__all__ = ["describe", "load", "splits"]


def load(
    name: str | SegmentationSet,
    split: str | Sequence[str],
    *,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    image_key: str | None = None,
    mask_key: str | None = None,
    num_classes: int | None = None,
    value_range: _value_ranges.ValueRange | None = None,
    shuffle: bool | None = None,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: Cache = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> Any:
    """Load a dataset of tfds as batches of images and masks for `fit`.

    Use it for the datasets of the catalog, and for datasets that `to_tfds`
    wrote. The catalog contains `caltech_birds2010`, `caltech_birds2011`,
    `cam_vid`, `cityscapes`, `coco/2017_panoptic`,
    `curated_breast_imaging_ddsm/original-calc`,
    `curated_breast_imaging_ddsm/original-mass`, `davis`, `lost_and_found`,
    `oxford_iiit_pet`, `scene_parse150` and `scenes`.

    If `data_dir` does not contain the dataset, it is prepared first: it is read
    from `manual_dir` if that folder contains its archives, and downloaded
    otherwise. A prepared dataset is read from `data_dir`, whatever `manual_dir`
    contains.

    On a machine without a network, put the archives of the dataset into a
    folder and pass it as `manual_dir`. For `oxford_iiit_pet`, these are
    `images.tar.gz` and `annotations.tar.gz`. `cam_vid` also accepts a folder of
    images, see `CamVid`. `scenes` does not need any files. You can also copy a
    prepared `data_dir` from another machine.

    Datasets that are not in the catalog work if their labels are the classes
    0..num_classes-1, and 255 for void: pass `num_classes`, and `image_key` and
    `mask_key` if their features have other names. `to_tfds` stores all of this.
    For all other datasets, pass a `SegmentationSet` that describes the labels.

    Args:
        name: str, the name of a tfds dataset, with an optional configuration
            and version, such as `"oxford_iiit_pet:4.*.*"`; or a
            `SegmentationSet`.
        split: str or sequence of str. A split or a part of one, as in tfds:
            `"train"`, `"train[:10%]"`, `"train+validation"`. `splits` lists
            them. With a sequence, `augment`, `class_weights` and
            `drop_remainder` only apply to the splits that start with "train".
        image_size: int or tuple (height, width) of ints > 0, in pixels. None
            keeps the sizes. A `batch_size` above 1 then requires images of
            equal size, or an `augment` that makes them equal.
        batch_size: int > 0. The last batch may be smaller.
        data_dir: Path of the folder of prepared datasets. Defaults to the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        manual_dir: Path of a folder with the archives or images of the dataset,
            or None.
        image_key: str or None. Feature that contains the image, for datasets
            that are not in the catalog. Defaults to "image".
        mask_key: str or None. Feature that contains the label of every pixel,
            for datasets that are not in the catalog. Defaults to
            "segmentation_mask".
        num_classes: int or None. Number of classes, for datasets that are not
            in the catalog. Defaults to the number of names of the feature
            `mask_key`, if it has names.
        value_range: Tuple (low, high) of the image values that become 0 and
            255. See `segmentation_pairs`. Defaults to the range that `to_tfds`
            stored with the dataset, if any.
        shuffle: bool or None. Whether to use a new random order in every epoch.
            Defaults to True for splits that start with "train".
        seed: int >= 0 or None. Makes order and augmentation reproducible. See
            `segmentation_pairs`.
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
        `mask`. If `split` is a sequence, a list of such datasets.

    Raises:
        ValueError: If `name` is unknown, or its labels are not described.
        ValueError: If the dataset does not have the split. The message lists
            its splits.
        ValueError: If `manual_dir` does not exist, or does not contain the
            files.
        ValueError: If the files of the dataset are invalid.
        ValueError: If the dataset is stored as array_record, which tf.data does
            not support.
        ValueError: If an argument is out of range, as in `segmentation_pairs`.
        FileNotFoundError: If a file is missing in an archive.
        OSError: If the dataset cannot be downloaded or written.
        tf.errors.InvalidArgumentError: While iterating, as in
            `segmentation_pairs`.

    Edge cases:
        Processes that prepare the same dataset wait for each other. The files
        of a process that was killed are deleted by the next process, except for
        interrupted downloads. tfds starts these again, and leaves
        `downloads/*.tmp.*` in `data_dir`. Delete these files when no process is
        downloading.

    Example:
        >>> from keras_deconv.data import load
        >>> train, validation = load(
        ...     "scenes", ["train[:16]", "validation"],
        ...     image_size=(48, 64), batch_size=8)
        >>> [(image, mask), _] = train
        >>> tuple(image.shape), tuple(mask.shape), len(train), len(validation)
        ((8, 48, 64, 3), (8, 48, 64), 2, 7)
    """
    # Check arguments before the preparation, which can take long.
    is_single = isinstance(split, str)
    several = split if isinstance(split, Sequence) else ()
    all_splits = [split] if isinstance(split, str) else list(several)
    if not all_splits or not all(isinstance(one, str) for one in all_splits):
        raise ValueError(
            "`split` must be a str such as 'train' or 'train[:10%]', or a "
            f"sequence of them. Received: split={split!r}"
        )
    check_arguments(
        *(image_size, batch_size, seed, epoch, augment, shuffle),
        drop_remainder=drop_remainder,
    )
    _caching.checked(cache)
    _arguments.optional_text(mask_key, "mask_key")
    builder = _find_builder(name, data_dir)
    entry = resolve_set(
        name, image_key, mask_key, num_classes, _class_names(builder, mask_key)
    )
    weight_table(class_weights, entry)
    value_range = _value_ranges.checked(value_range)
    if value_range is None:
        value_range = _stored_range(builder, entry)
    _prepare(builder, manual_dir)

    def read(split: str) -> tf.data.Dataset:
        is_training = split.startswith("train")
        is_shuffled = is_training if shuffle is None else shuffle
        changes: dict[str, Any] = (
            {
                "augment": augment,
                "class_weights": class_weights,
                "drop_remainder": drop_remainder,
            }
            if is_single or is_training
            else {}
        )
        # If all examples are cached, the order of files does not matter.
        examples = _examples(builder, split, is_shuffled and not cache, seed)
        return segmentation_pairs(
            examples,
            entry,
            image_size=image_size,
            batch_size=batch_size,
            value_range=value_range,
            shuffle=is_shuffled,
            seed=seed,
            epoch=epoch,
            cache=cache,
            **changes,
        )

    datasets = [read(one) for one in all_splits]
    return datasets[0] if is_single else datasets


def _examples(
    builder: tfds.core.DatasetBuilder,
    split: str,
    shuffle_files: bool,
    seed: int | None,
) -> tf.data.Dataset:
    """Return the examples of a prepared split."""
    read_config = tfds.ReadConfig(
        # tfds would cache the images at their full size.
        try_autocache=False,
        shuffle_seed=seed,
        # A seed determines a single order, which all epochs share.
        shuffle_reshuffle_each_iteration=seed is None,
    )
    try:
        return builder.as_dataset(
            split=split, shuffle_files=shuffle_files, read_config=read_config
        )
    except NotImplementedError as error:
        raise ValueError(
            f"Dataset {builder.name!r} in '{builder.data_dir}' must be stored "
            "as TFRecord for tf.data to read it. Prepare it in another "
            "`data_dir` with tfds.builder(name, data_dir=..., "
            "file_format='tfrecord').download_and_prepare(). Or pass the "
            "examples of builder.as_data_source() to "
            "tf.data.Dataset.from_generator, and that dataset to "
            f"segmentation_pairs. {error}"
        ) from None
    except ValueError as error:
        available = ", ".join(builder.info.splits)
        raise ValueError(
            f"`split` must be one of the splits of {builder.name!r} in "
            f"'{builder.data_dir}' ({available}), or a slice such as "
            f"'train[:10%]'. Received: split={split!r}. {error}"
        ) from None


def describe(
    name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> SegmentationSet:
    """Return the description of a dataset: features, classes and labels.

    Use it to get the class names, colors and number of classes of a dataset
    that `load` can read.

    Args:
        name: str. Name of a tfds dataset, with an optional configuration and
            version, such as `"cam_vid"` or `"oxford_iiit_pet:4.*.*"`.
        data_dir: Path of the folder of prepared datasets, for datasets that
            `to_tfds` wrote. Defaults to the environment variable
            `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.

    Returns:
        The `SegmentationSet` of the dataset.

    Raises:
        ValueError: If the dataset is neither in the catalog nor a prepared
            dataset whose masks have class names. For datasets that only have
            boxes or masks of single objects (`voc`), the message says so.

    Example:
        >>> from keras_deconv.data import describe
        >>> describe("oxford_iiit_pet:4.*.*").class_names
        ('pet', 'background', 'border')
        >>> describe("cam_vid").num_classes
        11
    """
    _check_name(name)
    _check_data_dir(data_dir)
    entry = find(name)
    if entry is not None:
        return entry
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        class_names = builder.is_prepared() and _class_names(builder, None)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError):
        class_names = None
    if class_names:
        return plain_set(name, IMAGE_KEY, MASK_KEY, tuple(class_names))
    return known_set(name)


def splits(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """Return the splits of a dataset and their numbers of examples.

    Use it to find out which splits `load` accepts. If `data_dir` does not
    contain the dataset, it is prepared first, which may download it.

    Args:
        name: str. Name of a tfds dataset, with an optional configuration and
            version.
        data_dir: Path of the folder of prepared datasets. Defaults to the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        manual_dir: Path of a folder with the archives or images of the dataset,
            or None.

    Returns:
        dict from the name of each split to its number of examples.

    Raises:
        ValueError: If `name` is unknown.
        ValueError: If `manual_dir` does not exist, or does not contain the
            files.
        ValueError: If the files of the dataset are invalid.
        FileNotFoundError: If a file is missing in an archive.
        OSError: If the dataset cannot be downloaded or written.

    Example:
        >>> from keras_deconv.data import splits
        >>> splits("scenes")
        {'train': 400, 'validation': 50, 'test': 100}
    """
    builder = _find_builder(name, data_dir)
    _prepare(builder, manual_dir)
    return {
        split: info.num_examples for split, info in builder.info.splits.items()
    }


def _class_names(
    builder: tfds.core.DatasetBuilder, mask_key: str | None
) -> Sequence[str] | None:
    """Return the names that tfds stores for the labels of a mask, or None."""
    features = dict(builder.info.features.items())
    feature = features.get(mask_key or MASK_KEY)
    if isinstance(feature, tfds.features.LabeledImage):
        return feature.names
    return None


def stored_value_range(
    name: str, data_dir: str | os.PathLike[str] | None
) -> tuple[float, float] | None:
    """Return the value range that `to_tfds` stored with a dataset, or None."""
    entry = describe(name, data_dir=data_dir)
    return _stored_range(_find_builder(name, data_dir), entry)


def _stored_range(
    builder: tfds.core.DatasetBuilder, entry: SegmentationSet
) -> tuple[float, float] | None:
    """Return the value range that `to_tfds` stored with a dataset, or None."""
    features = dict(builder.info.features.items())
    feature = features.get(entry.image_key)
    if feature is None or feature.np_dtype != np.uint16:
        return None
    return _value_ranges.parsed(feature.doc.value_range)


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise ValueError(
            "`name` must be a str, the name of a tfds dataset, or a "
            "SegmentationSet. "
            f"Received: name={name!r}"
        )


def _check_data_dir(data_dir: Any) -> None:
    # Only check the type: tfds accepts paths such as `gs://...`.
    if data_dir is not None:
        _arguments.path(data_dir, "data_dir")


def _find_builder(
    name: str | SegmentationSet, data_dir: str | os.PathLike[str] | None
) -> tfds.core.DatasetBuilder:
    if isinstance(name, SegmentationSet):
        name = name.name
    _check_name(name)
    _check_data_dir(data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        # The message of tfds lists all of its datasets without advice.
        known = tfds.list_builders(with_community_datasets=False)
        raise ValueError(
            "`name` must be a dataset of tfds, or a prepared dataset in "
            f"`data_dir`. Received: name={name!r}, data_dir={data_dir!r}. "
            f"{did_you_mean(name, sorted({*names(), *known}))}"
            f"The datasets of the catalog are {', '.join(names())}."
        ) from None
    except (AssertionError, ValueError) as error:
        raise ValueError(
            "`name` must have a version and configuration that tfds knows. "
            f"Received: name={name!r}. {error}"
        ) from None


def _prepare(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | os.PathLike[str] | None,
) -> None:
    """Prepare a dataset, or clean up after an earlier preparation."""
    if manual_dir is not None:
        manual_dir = os.fspath(_arguments.path(manual_dir, "manual_dir"))
        if not os.path.isdir(manual_dir):
            raise ValueError(
                "`manual_dir` must be a folder that exists. "
                f"Received: manual_dir={manual_dir!r}."
            )
    if builder.is_prepared():
        _preparation.clean(builder.data_dir)
    else:
        _download_and_prepare(builder, manual_dir)


def _download_and_prepare(
    builder: tfds.core.DatasetBuilder, manual_dir: str | None
) -> None:
    """Prepare a dataset, and explain errors."""
    files = [info.filename for info in (builder.url_infos or {}).values()]
    # tfds cannot find a file without a name in a folder.
    archives = sorted(name for name in files if name)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_preparation.alone(builder.data_dir))
        except OSError as error:
            raise _explained(error, builder, archives) from None
        # Another process may have prepared the dataset in the meantime. Then
        # neither archives nor a network are needed.
        if not builder.is_prepared():
            _check_archives(builder, manual_dir, archives)
            _check_network(builder, manual_dir, archives)
            _preparation.note_folder(builder)
            config = tfds.download.DownloadConfig(manual_dir=manual_dir)
            try:
                builder.download_and_prepare(download_config=config)
                return
            except Exception as error:
                # A process that uses tfds directly does not wait for the lock,
                # and may have prepared the dataset.
                if not builder.is_prepared():
                    raise _explained(error, builder, archives) from None
    builder.info.read_from_directory(builder.data_dir)


def _explained(
    error: Exception,
    builder: tfds.core.DatasetBuilder,
    archives: Sequence[str],
) -> Exception:
    """Return an error with the name of the dataset, and with advice."""
    problem = f"Dataset {builder.name!r} could not be prepared. {error}"
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(problem)
    if isinstance(error, OSError):
        advice = _without_network(builder, archives)
        return OSError(f"{problem} -- If there is no network, {advice}.")
    # tfds does not export most of its error classes.
    is_from_tfds = type(error).__module__.startswith("tensorflow_datasets.")
    if is_from_tfds or isinstance(error, (AssertionError, ValueError)):
        return ValueError(problem)
    return error


def _check_archives(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | None,
    archives: Sequence[str],
) -> None:
    """Refuse a folder without archives, which tfds would download.

    Raises:
        ValueError: If `manual_dir` does not contain any of them.
    """
    if (
        manual_dir is not None
        and archives
        and not set(archives) & set(os.listdir(manual_dir))
    ):
        raise ValueError(
            f"`manual_dir` must contain the archives of {builder.name!r}: "
            f"{', '.join(archives)}. Received: manual_dir={manual_dir!r} "
            "without them. Omit manual_dir to download them."
        )


def _check_network(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | None,
    archives: Sequence[str],
) -> None:
    """Raise an error within seconds if a download is needed but not possible.

    Raises:
        OSError: If a host cannot be reached.
    """
    preparing = tfds.core.DatasetBuilder.download_and_prepare
    if preparing.__name__ != "download_and_prepare":
        # tfds.testing.mock_data replaces this method and does not download.
        return
    root = pathlib.Path(builder.data_dir_root)
    folder = pathlib.Path(manual_dir or root / "downloads" / "manual")
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and folder.is_dir():
        return
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = {
        url
        for url, info in (builder.url_infos or {}).items()
        if info.filename not in there
    }
    missing |= getattr(builder, "download_urls", frozenset())
    if not missing:
        return
    missing -= _network.downloaded_urls(root / "downloads")
    hosts = _network.unreachable_hosts(missing)
    if hosts:
        raise OSError(
            f"Dataset {builder.name!r} cannot be downloaded: there is no "
            f"connection to {', '.join(hosts)}. Without a network, "
            f"{_without_network(builder, archives)}."
        )


def _without_network(
    builder: tfds.core.DatasetBuilder, archives: Sequence[str]
) -> str:
    """Return advice for a machine without a network."""
    return builder.MANUAL_DOWNLOAD_INSTRUCTIONS or (
        f"put {', '.join(archives)} into a folder and pass it as manual_dir"
        if archives and len(archives) == len(builder.url_infos or {})
        else "prepare it on a machine with a network and copy its data_dir"
    )
