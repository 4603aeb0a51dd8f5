"""Datasets of tfds by name, prepared where they are not there yet."""

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

# Importing the builders is what makes their names known to tfds.
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
    """Loads a data set as batches of pictures and masks, ready for `fit`.

    The set is prepared first if `data_dir` does not hold it yet, which
    downloads it unless `manual_dir` has what it needs. What is prepared
    already is read as it is, whatever `manual_dir` holds by now.

    Without a network: put the archives that the set is made of into a folder
    and pass it as `manual_dir`; `oxford_iiit_pet` is made of `images.tar.gz`
    and `annotations.tar.gz`, `cam_vid` also takes a folder of pictures (see
    `CamVid`). `scenes` needs neither. A prepared `data_dir` can be carried to
    another machine as well.

    A set that the catalog does not know is read by the names of its features,
    if its labels are classes 0..num_classes-1 and 255 void; what `to_tfds`
    wrote needs not even those. For all others describe what the labels mean
    with a `SegmentationSet` and pass that.

    Args:
        name: str. A data set of tfds, with configuration and version if need
            be, e.g. `"oxford_iiit_pet:4.*.*"`. Or a `SegmentationSet`.
        split: str. A split or a slice of one, as in tfds: `"train"`,
            `"train[:10%]"`, `"train+validation"`. `splits` lists them. Or a
            sequence of such: `augment` and `class_weights` are then for those
            of them that are (part of) a training split.
        image_size: int, tuple (height, width) of ints > 0, or None. See
            `segmentation_pairs`.
        batch_size: int > 0.
        data_dir: path of prepared sets. Default: as in tfds, the environment
            variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        manual_dir: path of a folder with archives or pictures. Default: none.
        image_key: str. As in `segmentation_pairs`.
        mask_key: str. As in `segmentation_pairs`.
        num_classes: int. As in `segmentation_pairs`. Default: the number of
            names that the feature `mask_key` has, if it has names.
        value_range: Tuple (low, high) or None. As in `segmentation_pairs`.
            Defaults to the one that `to_tfds` stored with the dataset, if any.
        shuffle: bool. Default: whether `split` is (part of) a training split.
        seed: int or None. As in `segmentation_pairs`.
        epoch: `tf.Variable` or None. As in `segmentation_pairs`.
        cache: bool. Keep the resized pictures in memory.
        drop_remainder: bool. As in `segmentation_pairs`; of `split` as a
            sequence for those that are (part of) a training split.
        augment: function or None. As in `segmentation_pairs`.
        class_weights: floats or None. As in `segmentation_pairs`.

    Returns:
        A `tf.data.Dataset` as from `segmentation_pairs`, or a list of them if
        `split` is a sequence.

    Raises:
        ValueError: if `name` is unknown, the set has no such split (the text
            names those it has), `manual_dir` is not there or lacks the files,
            the data are faulty or stored as array_record, which tf.data does
            not read.
        FileNotFoundError: if a file is missing in an archive.
        OSError: if the set cannot be downloaded or written.

    Edge cases:
        Processes that prepare one set wait for each other. What a process
        wrote that was killed is deleted by the next one, except for downloads
        that were cut off: tfds starts them again, and leaves
        `downloads/*.tmp.*` in `data_dir`. Delete them when no process is
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
    # Before anything is prepared, which can take long.
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
        # Once everything is in the cache, the order of files is nothing.
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
    """Reads the examples of a split that is prepared."""
    read_config = tfds.ReadConfig(
        # tfds would keep the pictures in memory at full size.
        try_autocache=False,
        shuffle_seed=seed,
        # An order that a seed gives is the same in every epoch.
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
            "file_format='tfrecord').download_and_prepare(), or give what "
            "builder.as_data_source() reads to tf.data.Dataset.from_generator "
            f"and that to segmentation_pairs. {error}"
        ) from None
    except ValueError as error:
        available = ", ".join(builder.info.splits)
        raise ValueError(
            f"`split` must be one of the splits of {builder.name!r} as "
            "prepared in "
            f"'{builder.data_dir}' ({available}), or a slice such as "
            f"'train[:10%]'. Received: split={split!r}. {error}"
        ) from None


def describe(
    name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> SegmentationSet:
    """Says what the masks of a data set mean.

    Args:
        name: str. Name as tfds writes it, with or without configuration and
            version, e.g. `"cam_vid"` or `"oxford_iiit_pet:4.*.*"`.
        data_dir: path of prepared sets, for those that `to_tfds` wrote there.

    Returns:
        The `SegmentationSet` of that name.

    Raises:
        ValueError: if the name is neither in the catalog nor a prepared set
            whose masks have names for their classes. For sets that have masks
            of objects, or none, though their names promise a segmentation, the
            text says so.

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
    """The names that tfds has for the labels of a mask, if it has any."""
    features = dict(builder.info.features.items())
    feature = features.get(mask_key or MASK_KEY)
    if isinstance(feature, tfds.features.LabeledImage):
        return feature.names
    return None


def stored_value_range(
    name: str, data_dir: str | os.PathLike[str] | None
) -> tuple[float, float] | None:
    """Return the value range that `to_tfds` stored with a dataset, if any."""
    entry = describe(name, data_dir=data_dir)
    return _stored_range(_find_builder(name, data_dir), entry)


def _stored_range(
    builder: tfds.core.DatasetBuilder, entry: SegmentationSet
) -> tuple[float, float] | None:
    """Return the value range that `to_tfds` stored with a dataset."""
    features = dict(builder.info.features.items())
    feature = features.get(entry.image_key)
    if feature is None or feature.np_dtype != np.uint16:
        return None
    return _value_ranges.parsed(feature.doc.value_range)


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise ValueError(
            "`name` must be a str, as tfds writes it, or a SegmentationSet. "
            f"Received: name={name!r}"
        )


def _check_data_dir(data_dir: Any) -> None:
    # It stays as it is: `gs://...` is a path for tfds.
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
        # The text of tfds has every name that it knows, and no way out.
        known = tfds.list_builders(with_community_datasets=False)
        raise ValueError(
            "`name` must be a dataset of tfds, or one that is prepared in "
            f"`data_dir`. Received: name={name!r}, data_dir={data_dir!r}. "
            f"{did_you_mean(name, sorted({*names(), *known}))}"
            f"Those of the catalog are {', '.join(names())}."
        ) from None
    except (AssertionError, ValueError) as error:
        raise ValueError(
            "`name` must name a version and configuration that tfds has. "
            f"Received: name={name!r}. {error}"
        ) from None


def _prepare(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | os.PathLike[str] | None,
) -> None:
    """Sees to it that the data of a set are on disk."""
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
    """Prepares a data set; says plainly what is wrong if that fails."""
    files = [info.filename for info in (builder.url_infos or {}).values()]
    # What has no name for tfds cannot be taken from a folder.
    archives = sorted(name for name in files if name)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_preparation.alone(builder.data_dir))
        except OSError as error:
            raise _explained(error, builder, archives) from None
        # Another process may have prepared it meanwhile, so that neither
        # archives nor a network are needed.
        if not builder.is_prepared():
            _check_archives(builder, manual_dir, archives)
            _check_network(builder, manual_dir, archives)
            _preparation.note_folder(builder)
            config = tfds.download.DownloadConfig(manual_dir=manual_dir)
            try:
                builder.download_and_prepare(download_config=config)
                return
            except Exception as error:
                # So may tfds itself, which does not wait for the lock.
                if not builder.is_prepared():
                    raise _explained(error, builder, archives) from None
    builder.info.read_from_directory(builder.data_dir)


def _explained(
    error: Exception,
    builder: tfds.core.DatasetBuilder,
    archives: Sequence[str],
) -> Exception:
    """Say of which dataset an error is, and what to do without a network."""
    problem = f"Dataset {builder.name!r} could not be prepared. {error}"
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(problem)
    if isinstance(error, OSError):
        advice = _without_network(builder, archives)
        return OSError(f"{problem} -- If there is no network, {advice}.")
    # Most classes of errors that tfds has are not exported.
    is_from_tfds = type(error).__module__.startswith("tensorflow_datasets.")
    if is_from_tfds or isinstance(error, (AssertionError, ValueError)):
        return ValueError(problem)
    return error


def _check_archives(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | None,
    archives: Sequence[str],
) -> None:
    """Refuse a folder without archives: tfds would download them, or try to.

    Raises:
        ValueError: If none of them is in `manual_dir`.
    """
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


def _check_network(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | None,
    archives: Sequence[str],
) -> None:
    """Fail within seconds if files must be downloaded and cannot be."""
    preparing = tfds.core.DatasetBuilder.download_and_prepare
    if preparing.__name__ != "download_and_prepare":
        # tfds.testing.mock_data replaces it, and nothing is downloaded.
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
    """Say how to get a dataset onto a machine that has no network."""
    return builder.MANUAL_DOWNLOAD_INSTRUCTIONS or (
        f"put {', '.join(archives)} into a folder and pass it as manual_dir"
        if archives and len(archives) == len(builder.url_infos or {})
        else "prepare it on a machine that has one and copy its data_dir"
    )
