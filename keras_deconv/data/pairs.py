"""From a tfds data set to batches of (picture, mask) that `fit` takes."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv import arguments, labels

# Importing the builders is what makes their names known to tfds.
from keras_deconv.data import camvid, scenes  # noqa: F401
from keras_deconv.data.catalog import (
    VOID,
    SegmentationSet,
    class_table,
    find,
    generic_names,
    known_set,
    names,
    plain_set,
)

Augment: TypeAlias = Callable[..., tuple[tf.Tensor, tf.Tensor]]
ClassWeights: TypeAlias = Sequence[float] | Mapping[int, float]

# How many examples are shuffled at a time when they are not in memory anyway.
_UNCACHED_SHUFFLE_SIZE = 1000

# The features of sets that the catalog does not know, unless told otherwise.
_IMAGE_KEY = "image"
_MASK_KEY = "segmentation_mask"


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
    shuffle: bool | None = None,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: bool = True,
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

    Example:
        >>> import tempfile
        >>> from keras_deconv.data import load
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     train, validation = load(
        ...         "scenes", ["train[:16]", "validation"],
        ...         image_size=(48, 64), batch_size=8, data_dir=folder)
        ...     [(image, mask), _] = train
        Downloading and preparing dataset ...
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
    _check_arguments(image_size, batch_size, seed, epoch, augment)
    builder = _find_builder(name, data_dir)
    entry = _describe(
        name, image_key, mask_key, num_classes, _class_names(builder, mask_key)
    )
    _table_of_weights(class_weights, entry)
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
            f"Data set {builder.name!r} in '{builder.data_dir}' must be stored "
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
    entry = find(name)
    if entry is not None:
        return entry
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        class_names = builder.is_prepared() and _class_names(builder, None)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError):
        class_names = None
    if class_names:
        return plain_set(name, _IMAGE_KEY, _MASK_KEY, tuple(class_names))
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
        >>> import tempfile
        >>> from keras_deconv.data import splits
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     splits("scenes", data_dir=folder)
        Downloading and preparing dataset ...
        {'train': 400, 'validation': 50, 'test': 100}
    """
    builder = _find_builder(name, data_dir)
    _prepare(builder, manual_dir)
    return {
        split: info.num_examples for split, info in builder.info.splits.items()
    }


def segmentation_pairs(
    dataset: tf.data.Dataset,
    name: str | SegmentationSet | None = None,
    *,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    image_key: str | None = None,
    mask_key: str | None = None,
    num_classes: int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: bool = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> tf.data.Dataset:
    """Turns examples of a tfds data set into batches of pictures and masks.

    Labels become classes 0..num_classes-1 and void 255 whatever the set
    writes. Pictures are resized bilinearly (with antialiasing when they
    shrink), masks by taking the nearest pixel, both with the centres of pixels
    as reference, so they stay aligned.

    In this order: pairs are read and resized, kept in memory, shuffled,
    augmented one by one, batched. So an augmentation changes every epoch.

    Several workers (`tf.distribute`) each go through the whole set and take
    their share of it (`AutoShardPolicy.DATA`), so the set need not have a file
    for each of them. Where it is shuffled they need a `seed`: only then do all
    of them see one order, and every example once.

    Args:
        dataset: `tf.data.Dataset` of single examples as dicts, e.g. from
            `tfds.load(name, split="train")`: no `as_supervised` (the mask is
            not in it) and no `batch_size` (it pads with class 0).
        name: str or `SegmentationSet`. What the features and labels mean.
        image_size: int or tuple (height, width) of ints > 0, in pixels; or
            None to keep sizes, where a `batch_size` above 1 needs equal ones
            (or an `augment` that makes them equal).
        batch_size: int > 0. The last batch may be smaller.
        image_key: str. Feature that holds the picture, for sets that the
            catalog does not know. Default: "image".
        mask_key: str. Feature that holds the label of every pixel, likewise.
            Default: "segmentation_mask".
        num_classes: int. Number of classes, likewise.
        shuffle: bool. Draw a new order every epoch. All examples are shuffled
            if they are cached, else (and of films) 1000 at a time.
        seed: int >= 0 or None. Makes order and augmentation of every epoch
            reproducible: the first time the dataset is gone through, the
            second time, and so on.
        epoch: `tf.Variable`, an int64 scalar, or None. The number of the
            epoch, read when one begins: order and augmentation then depend on
            `seed` and this number alone, however often the dataset was gone
            through. `callbacks.EpochSeed` writes it. So a training that was
            cut off and resumed sees what it would have seen, provided that
            `fit` goes through the dataset once in each epoch (without
            `steps_per_epoch`, which reads ahead).
        cache: bool. Keep the resized examples in memory, 4 bytes per pixel.
        drop_remainder: bool. Leave out a last batch that is not full, so that
            all are of one size, as training on many replicas needs it.
        augment: function or None. From `image`, float32 (height, width,
            channels) in 0..255, and `mask`, int32 (height, width), to another
            such pair, e.g. what `augmentation` returns. If it has an argument
            `seed`, it is given an integer tensor of shape (2,), another one
            for every example and epoch, as `tf.random.stateless_uniform` and
            its kin take it; what is random in other ways is not reproducible.
        class_weights: sequence of one finite float >= 0 per class, or dict
            from class to weight. Adds a third element to what the dataset
            gives: the weight of every pixel, 0 for void, which `fit` takes as
            sample weights. Weigh in the loss or here, not in both.

    Returns:
        A `tf.data.Dataset` of (image, mask), or (image, mask, weight) with
        `class_weights`. `image` is float32 (batch, height, width, channels) in
        0..255; `mask` is int32 (batch, height, width) of classes and 255;
        `weight` is float32 of the shape of `mask`. Its number of batches is
        known whenever that of `dataset` is, but for films.

    Raises:
        ValueError: if `name` is unknown, `image_size` or `batch_size` are not
            positive, the features of `dataset` are not those of `name`,
            `class_weights` has not one weight per class, or `augment` gives
            something else than a picture and a mask.
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
        >>> pairs = segmentation_pairs(
        ...     examples, "oxford_iiit_pet", image_size=None, batch_size=2,
        ...     class_weights=[0.5, 1, 4])
        >>> image, mask, weight = next(iter(pairs))
        >>> weight[0].numpy().tolist()
        [[0.5, 1.0], [4.0, 4.0]]
    """
    _check_arguments(image_size, batch_size, seed, epoch, augment)
    entry = _describe(name, image_key, mask_key, num_classes)
    weights = _table_of_weights(class_weights, entry)
    dataset = _single_examples(dataset, entry)
    _check_features(dataset, entry)
    # Numbered, so that an error can say which example is faulty.
    pairs = dataset.enumerate().map(
        _pair_maker(entry, image_size), num_parallel_calls=tf.data.AUTOTUNE
    )
    num_examples = int(pairs.cardinality())
    if cache:
        # A cache that ends early would be kept without what could not be read.
        if num_examples >= 0:
            pairs = pairs.apply(
                tf.data.experimental.assert_cardinality(num_examples)
            )
        pairs = pairs.cache()
    if shuffle or augment is not None:
        shuffle_size = (
            num_examples
            if cache and num_examples > 0
            else _UNCACHED_SHUFFLE_SIZE
        )
        pairs = _drawn_by_epoch(
            pairs, shuffle_size if shuffle else 0, augment, seed, epoch
        )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return (
        pairs.batch(batch_size, drop_remainder=drop_remainder)
        # Four times smaller until here.
        .map(_batch_maker(weights), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def _describe(
    name: str | SegmentationSet | None,
    image_key: str | None,
    mask_key: str | None,
    num_classes: int | None,
    class_names: Sequence[str] | None = None,
) -> SegmentationSet:
    """Finds out what the features and labels of a set mean."""
    given = (image_key, mask_key, num_classes)
    entry = find(name) if isinstance(name, str) else name
    if entry is not None:
        known = (entry.image_key, entry.mask_key, entry.num_classes)
        pairs = zip(given, known, strict=True)
        if all(value in (None, right) for value, right in pairs):
            return entry
    if isinstance(name, SegmentationSet):
        raise ValueError(
            "`image_key`, `mask_key` and `num_classes` are for sets without a "
            f"SegmentationSet. Received: {given} beside {known} of "
            f"{name.name!r}. Change it with dataclasses.replace."
        )
    image_key = image_key or _IMAGE_KEY
    mask_key = mask_key or _MASK_KEY
    if num_classes is not None:
        number = labels.num_classes(num_classes)
        if class_names is None or len(class_names) != number:
            class_names = generic_names(number)
    elif name is None or (class_names is None and any(given)):
        raise ValueError(
            "`num_classes` must be given with `image_key` and `mask_key`, or a "
            f"`name` without them. Received: name={name!r}, "
            f"image_key={image_key!r}, mask_key={mask_key!r}."
        )
    elif class_names is None:
        return known_set(name)
    return plain_set(str(name), image_key, mask_key, tuple(class_names))


def _class_names(
    builder: tfds.core.DatasetBuilder, mask_key: str | None
) -> Sequence[str] | None:
    """The names that tfds has for the labels of a mask, if it has any."""
    features = dict(builder.info.features.items())
    feature = features.get(mask_key or _MASK_KEY)
    if isinstance(feature, tfds.features.LabeledImage):
        return feature.names
    return None


def _single_examples(
    dataset: tf.data.Dataset, entry: SegmentationSet
) -> tf.data.Dataset:
    """Gives the frames of films one by one; other sets as they are."""
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
    if entry.frames_key is None:
        return dataset
    _check_has(features, entry.frames_key, entry)
    return dataset.flat_map(
        lambda example: tf.data.Dataset.from_tensor_slices(
            example[entry.frames_key]
        )
    )


def _table_of_weights(
    class_weights: ClassWeights | None, entry: SegmentationSet
) -> list[float] | None:
    """Gives the weight of every class, and of void as the last one."""
    weights = labels.class_weights(class_weights)
    if weights is None:
        return None
    if len(weights) != entry.num_classes:
        raise ValueError(
            "`class_weights` must hold one weight per class. Received: "
            f"{len(weights)} weights for {entry.num_classes} classes of "
            f"{entry.name!r}: {', '.join(entry.class_names)}."
        )
    return [*weights, 0.0]


def _batch_maker(
    weights: list[float] | None,
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    def make_batch(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image, mask = tf.cast(image, tf.float32), tf.cast(mask, tf.int32)
        if weights is None:
            return image, mask
        rows = tf.where(mask == VOID, len(weights) - 1, mask)
        return image, mask, tf.gather(tf.constant(weights, tf.float32), rows)

    return make_batch


def _drawn_by_epoch(
    pairs: tf.data.Dataset,
    shuffle_size: int,
    augment: Augment | None,
    seed: int | None,
    epoch: tf.Variable | None,
) -> tf.data.Dataset:
    """Draws the order and the changes of an epoch from the epoch's seed."""
    if seed is None:
        # As keras.utils.set_random_seed wants it.
        seed = random.getrandbits(31)

    def draw(epoch_seed: tf.Tensor) -> tf.data.Dataset:
        if not tf.executing_eagerly():
            # For this function alone: TensorFlow mixes its own seed into ours,
            # and fails if its own is 0 and ours a tensor.
            tf.random.set_seed(1)
        drawn = pairs
        if shuffle_size:
            drawn = drawn.shuffle(
                shuffle_size, seed=epoch_seed, reshuffle_each_iteration=False
            )
        if augment is not None:
            drawn = drawn.enumerate().map(
                _augmenting(augment, epoch_seed),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        return drawn

    if epoch is None:
        numbers = tf.data.Dataset.random(
            seed, rerandomize_each_iteration=True
        ).take(1)
    else:
        numbers = tf.data.Dataset.from_tensors(seed).map(
            lambda seed: _mixed(seed, epoch)
        )
    epochs = numbers.flat_map(draw)
    cardinality = int(pairs.cardinality())
    return (
        epochs.apply(tf.data.experimental.assert_cardinality(cardinality))
        if cardinality >= 0
        else epochs
    )


def _mixed(seed: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """A seed (int64 scalar) that is another one for every number."""
    seed = tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])
    return tf.random.stateless_uniform(
        [], seed, maxval=2**31 - 1, dtype=tf.int64
    )


def _augmenting(
    augment: Augment, epoch_seed: tf.Tensor
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Holds an augmentation to what it promises, as far as can be seen."""
    parameters = inspect.signature(augment).parameters
    takes_seed = "seed" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )

    def augment_pair(
        number: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image, mask = pair
        num_channels = image.shape[-1]
        image, mask = tf.cast(image, tf.float32), tf.cast(mask, tf.int32)
        options = {"seed": tf.stack([epoch_seed, number])} if takes_seed else {}
        pair = augment(image, mask, **options)
        if isinstance(pair, tuple) and len(pair) == 2:
            image, mask = (tf.convert_to_tensor(element) for element in pair)
            ranks = image.shape.rank or 3, mask.shape.rank or 2
            if ranks == (3, 2) and mask.dtype.is_integer:
                image_size, mask_size = tf.shape(image)[:2], tf.shape(mask)
                tf.debugging.Assert(
                    tf.reduce_all(image_size == mask_size),
                    [
                        "`augment` must return a picture and a mask of the same"
                        " size. Received (height, width):",
                        image_size,
                        mask_size,
                    ],
                )
                return (
                    tf.ensure_shape(image, (None, None, num_channels)),
                    tf.ensure_shape(mask, (None, None)),
                )
        raise ValueError(
            "`augment` must return a tuple (image, mask): image (height, width,"
            " channels), and mask (height, width) of an integer dtype. "
            f"Received: {pair}"
        )

    return augment_pair


def _pair_maker(
    entry: SegmentationSet, image_size: int | Sequence[int] | None
) -> Callable[[tf.Tensor, dict[str, Any]], tuple[tf.Tensor, tf.Tensor]]:
    """Makes the function from a numbered example to uint8 (image, mask)."""
    classes = class_table(entry)
    if image_size is not None:
        image_size = arguments.ints(image_size, 2, "image_size", minimum=1)

    def make_pair(
        index: tf.Tensor, example: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image = example[entry.image_key]
        found = (
            example[entry.mask_key][..., 0]
            if entry.read_mask is None
            else entry.read_mask(example)
        )
        found = tf.cast(found, tf.int32)
        where = _describe_example(entry, index, example)
        image_shape, mask_shape = tf.shape(image)[:2], tf.shape(found)
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
        is_byte = (found >= 0) & (found < 256)
        mask = tf.gather(tf.constant(classes), tf.where(is_byte, found, 256))
        is_known = mask >= 0
        tf.debugging.Assert(
            tf.reduce_all(is_known),
            [
                where,
                f"Labels of {entry.mask_key} must be classes or void, one of "
                f"{sorted([*entry.labels, *entry.void_labels])}. Received:",
                _largest(tf.boolean_mask(found, ~is_known)),
                "Correct the mask, or describe the data set with a "
                "SegmentationSet that knows this label.",
            ],
        )
        mask = tf.cast(mask, tf.uint8)
        return _resize(image, mask, image_size) if image_size else (image, mask)

    return make_pair


def _largest(found: tf.Tensor) -> tf.Tensor:
    """The largest label; what comes of none at all is never shown."""
    return tf.reduce_max(tf.concat([found, [tf.int32.min]], axis=0))


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
    image_size: int | Sequence[int] | None,
    batch_size: int,
    seed: int | None,
    epoch: tf.Variable | None,
    augment: Augment | None,
) -> None:
    if seed is not None:
        arguments.natural_int(seed, "seed")
    arguments.check_epoch(epoch)
    if image_size is not None:
        arguments.ints(image_size, 2, "image_size", minimum=1)
    arguments.positive_int(batch_size, "batch_size")
    if augment is not None and not callable(augment):
        raise ValueError(
            "`augment` must be a function from (image, mask) to (image, mask), "
            "e.g. what data.augmentation() returns. "
            f"Received: augment={augment!r}"
        )


def _check_has(
    features: Mapping[str, Any], key: str, entry: SegmentationSet
) -> None:
    if key not in features:
        raise ValueError(
            f"`dataset` must have the feature {key!r} that {entry.name!r} "
            f"is known by. Received features: {sorted(features)}. Pass "
            "the `name` that belongs to the dataset."
        )


def _check_features(dataset: tf.data.Dataset, entry: SegmentationSet) -> None:
    features = dataset.element_spec
    for key in (entry.image_key, entry.mask_key):
        _check_has(features, key, entry)
    image = features[entry.image_key]
    if image.dtype != tf.uint8 or image.shape.rank != 3:
        raise ValueError(
            f"Feature {entry.image_key!r} of `dataset` must be uint8 with the "
            "axes (height, width, channels). Received: dtype "
            f"{image.dtype.name}, shape {image.shape}. Load the "
            "dataset without batch_size."
        )
    if image.shape[-1] is None:
        raise ValueError(
            f"Feature {entry.image_key!r} of `dataset` must have a known number"
            f" of channels. Received: shape {image.shape}. Set it with "
            "tf.ensure_shape in dataset.map."
        )
    if entry.read_mask is not None:
        return
    mask = features[entry.mask_key]
    if not (mask.dtype.is_integer or mask.dtype.is_bool):
        raise ValueError(
            f"Feature {entry.mask_key!r} of `dataset` must be labels of an "
            f"integer dtype or bool. Received: dtype {mask.dtype.name}."
        )
    if mask.shape.rank != 3 or mask.shape[-1] != 1:
        raise ValueError(
            f"Feature {entry.mask_key!r} of `dataset` must have one channel "
            "of labels, with the axes (height, width, 1). Received: shape "
            f"{mask.shape}. Load the dataset without batch_size; for other "
            "masks give a SegmentationSet with read_mask."
        )


def _find_builder(
    name: str | SegmentationSet, data_dir: str | os.PathLike[str] | None
) -> tfds.core.DatasetBuilder:
    if isinstance(name, SegmentationSet):
        name = name.name
    if not isinstance(name, str):
        raise ValueError(
            "`name` must be a str, as tfds writes it, or a SegmentationSet. "
            f"Received: name={name!r}"
        )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        # The text of tfds has every name that it knows, and no way out.
        raise ValueError(
            "`name` must be a data set of tfds, or one that lies prepared in "
            f"`data_dir`. Received: name={name!r}, data_dir={data_dir!r}. "
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
        manual_dir = os.path.expanduser(manual_dir)
        if not os.path.isdir(manual_dir):
            raise ValueError(
                "`manual_dir` must be a folder that exists. "
                f"Received: manual_dir={manual_dir!r}."
            )
    if not builder.is_prepared():
        _download_and_prepare(builder, manual_dir)


def _download_and_prepare(
    builder: tfds.core.DatasetBuilder, manual_dir: str | None
) -> None:
    """Prepares a data set; says plainly what is wrong if that fails."""
    files = [info.filename for info in (builder.url_infos or {}).values()]
    # What has no name for tfds cannot be taken from a folder.
    archives = sorted(name for name in files if name)
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
                if archives and len(archives) == len(files)
                else "prepare it where there is one and copy its data_dir"
            )
            raise OSError(
                f"{problem} -- If there is no network, {advice}."
            ) from None
        # Most classes of errors that tfds has are not exported.
        is_from_tfds = type(error).__module__.startswith("tensorflow_datasets.")
        if is_from_tfds or isinstance(error, (AssertionError, ValueError)):
            raise ValueError(problem) from None
        raise
