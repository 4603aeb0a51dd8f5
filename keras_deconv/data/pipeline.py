"""Turn examples of a dataset into the batches that `fit` accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_deconv import _arguments, _resizing
from keras_deconv._arguments import VOID
from keras_deconv.data import _caching, _value_ranges
from keras_deconv.data._caching import Cache
from keras_deconv.data._catalog import find, known_set
from keras_deconv.data._epochs import Augment, drawn_by_epoch
from keras_deconv.data._errors import require
from keras_deconv.data._sets import (
    SegmentationSet,
    class_table,
    generic_names,
    plain_set,
)

__all__ = ["segmentation_pairs"]

ClassWeights: TypeAlias = Sequence[float] | Mapping[int, float]
# Size of the shuffle buffer for examples that are not cached in memory.
_UNCACHED_SHUFFLE_SIZE = 1000
# Name of datasets that were passed without a name.
_UNNAMED = ""
_EMPTY = (
    "`dataset` must have at least one example. Received: an empty dataset. "
    "Check the split, and any filters that you applied."
)
# Largest number of labels that an error lists.
_NUM_SHOWN = 5
# Default features of datasets that are not in the catalog.
IMAGE_KEY = "image"
MASK_KEY = "segmentation_mask"


def segmentation_pairs(
    dataset: tf.data.Dataset,
    name: str | SegmentationSet | None = None,
    *,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    image_key: str | None = None,
    mask_key: str | None = None,
    num_classes: int | None = None,
    value_range: _value_ranges.ValueRange | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: Cache = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> tf.data.Dataset:
    """Turn examples of a tfds dataset into batches of images and masks.

    Use it for datasets that you load yourself, with `tfds.load` or from your
    own `tf.data.Dataset`. `load` and `from_folders` do the loading as well, and
    return the same batches.

    Labels become the classes 0..num_classes-1, and 255 for void, whatever the
    dataset contains. Images are resized bilinearly, with antialiasing when they
    shrink. Masks are resized with nearest neighbor. Both methods align the
    centers of pixels, so image and mask stay aligned.

    Pairs are read and resized, then cached, shuffled, augmented one by one, and
    batched, in this order. So the augmentation changes in every epoch.

    Args:
        dataset: `tf.data.Dataset` of single examples as dicts, such as
            `tfds.load(name, split="train")`. Do not pass `as_supervised` to
            `tfds.load`, which drops the mask, or `batch_size`, which pads masks
            with class 0.
        name: str, `SegmentationSet` or None. Name of a dataset in the catalog,
            or the description of a dataset. It defines the features and the
            labels. None requires `num_classes`.
        image_size: int or tuple (height, width) of ints > 0, in pixels. None
            keeps the sizes. A `batch_size` above 1 then requires images of
            equal size, or an `augment` that makes them equal.
        batch_size: int > 0. The last batch may be smaller.
        image_key: str or None. Feature that contains the image, for datasets
            that are not in the catalog. Defaults to "image".
        mask_key: str or None. Feature that contains the label of every pixel,
            for datasets that are not in the catalog. Defaults to
            "segmentation_mask".
        num_classes: int or None. Number of classes, for datasets that are not
            in the catalog.
        value_range: Tuple (low, high) of the image values that become 0 and
            255, such as (0, 65535) or (-1000, 1000). Values outside the range
            are clipped, so you can pass a window such as (-160, 240) for CT
            images. An image raises an error if most of its values exceed `low`
            by more than three times the width of the range. It also raises an
            error if the range is at most 1 wide, such as (0, 1), and integer
            values are above it. With a range, images are kept as float32 and
            do not lose precision. Defaults to None, for uint8 images.
        shuffle: bool. Whether to use a new random order in every epoch. All
            examples are shuffled together if they are cached in memory.
            Otherwise, and for videos, a buffer of 1000 examples is shuffled.
        seed: int >= 0 or None. Makes the order and the augmentation
            reproducible: they are the same in the first iteration over the
            dataset, in the second, and so on.
        epoch: `tf.Variable`, an int64 scalar, or None. Number of the epoch,
            read when an epoch starts. Order and augmentation then only depend
            on `seed` and this number, not on the number of iterations over the
            dataset. Pass it with `callbacks.EpochSeed`, which updates it, so
            that a resumed training continues as if it had not been interrupted.
            This requires that `fit` iterates over the dataset once per epoch:
            do not pass `steps_per_epoch`, which reads ahead.
        cache: True, "disk" or False. True keeps the resized examples in memory:
            4 bytes per pixel of an RGB image, or 13 with `value_range`. "disk"
            keeps them in a temporary file until Python ends, in the folder that
            the environment variable TMPDIR names. False reads them in every
            epoch.
        drop_remainder: bool. Whether to drop a last batch that is not full, so
            that all batches have the same size. Training on several replicas
            needs it.
        augment: Function or None. It receives `image`, float32 of shape
            (height, width, channels) in 0..255, and `mask`, int32 of shape
            (height, width), and returns such a pair. See `augmentation`. If it
            has an argument `seed`, it receives an integer tensor of shape (2,)
            for `tf.random.stateless_uniform`, which differs for every example
            and epoch. Other sources of randomness are not reproducible.
        class_weights: Sequence of one finite float >= 0 per class, dict from
            class to weight, or None. Adds the weight of every pixel as a third
            element, with 0 for void. `fit` uses it as sample weights. Pass
            class weights here or to the loss, not to both.

    Returns:
        A `tf.data.Dataset` of (image, mask), or of (image, mask, weight) with
        `class_weights`.

        - `image`: float32 of shape (batch, height, width, channels) in 0..255.
        - `mask`: int32 of shape (batch, height, width), with classes and 255.
        - `weight`: float32 of the shape of `mask`.

        The number of batches is known if that of `dataset` is, except for
        videos.

    Raises:
        ValueError: If `name` is not in the catalog, and `num_classes` is None.
        ValueError: If `image_key`, `mask_key` or `num_classes` is passed with a
            `SegmentationSet` that has other values.
        ValueError: If `image_size` or `batch_size` is not positive.
        ValueError: If `dataset` does not have the features of `name`.
        ValueError: If images are not uint8 and `value_range` is None.
        ValueError: If `dataset` is known to be empty, or known to be smaller
            than one batch with `drop_remainder`.
        ValueError: If `class_weights` does not have one weight per class.
        ValueError: If `augment` does not return an image and an integer mask.
        ValueError: If `cache` is True and the examples, at `image_size`, need
            more than the free memory. The free memory is only known on Linux.
        tf.errors.InvalidArgumentError: While iterating, if an image and its
            mask differ in size. The message contains the number of the example.
        tf.errors.InvalidArgumentError: While iterating, if a label is neither a
            class nor void.
        tf.errors.InvalidArgumentError: While iterating, if `value_range` is far
            too narrow for an image, or an image contains NaN or inf.
        tf.errors.InvalidArgumentError: After the last example, if `dataset`
            turns out to be empty, or smaller than one batch with
            `drop_remainder`.

    Edge cases:
        A class that never occurs does not raise an error, because a part of a
        dataset may lack one. Binary masks of 0 and 255 that are read with
        `num_classes=2` do not have pixels of class 1, because 255 is void. Pass
        a `SegmentationSet` with `labels={0: 0, 255: 1}` for them. `check` finds
        such masks.

        With several workers (`tf.distribute`), each worker reads the whole
        dataset and uses its part of it (`AutoShardPolicy.DATA`), so the dataset
        can have fewer files than workers. Pass a `seed` with `shuffle`:
        otherwise the workers use different orders, and do not see every example
        once.

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

        With class weights:

        >>> pairs = segmentation_pairs(
        ...     examples, "oxford_iiit_pet", image_size=None, batch_size=2,
        ...     class_weights=[0.5, 1, 4])
        >>> image, mask, weight = next(iter(pairs))
        >>> weight[0].numpy().tolist()
        [[0.5, 1.0], [4.0, 4.0]]
    """
    check_arguments(
        *(image_size, batch_size, seed, epoch, augment, shuffle),
        drop_remainder=drop_remainder,
    )
    limits = _value_ranges.checked(value_range)
    entry = resolve_set(name, image_key, mask_key, num_classes)
    weights = weight_table(class_weights, entry)
    dataset = _single_examples(dataset, entry)
    _check_features(dataset, entry, limits)
    # Errors contain the number of the example.
    pairs = dataset.enumerate().map(
        _pair_maker(entry, image_size, limits),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    num_examples = int(pairs.cardinality())
    _check_number(num_examples, batch_size, drop_remainder)
    cache = _caching.checked(cache)
    if cache:
        _check_cache(cache, pairs, num_examples)
        # Without this check, a dataset that ends early would be cached as
        # complete.
        if num_examples >= 0:
            pairs = pairs.apply(
                tf.data.experimental.assert_cardinality(num_examples)
            )
        pairs = _caching.cached(pairs, cache)
    if shuffle or augment is not None:
        shuffle_size = (
            num_examples
            if cache is True and num_examples > 0
            else _UNCACHED_SHUFFLE_SIZE
        )
        pairs = drawn_by_epoch(
            pairs, shuffle_size if shuffle else 0, augment, seed, epoch
        )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    batches = pairs.batch(batch_size, drop_remainder=drop_remainder)
    if num_examples < 0:
        batches = _with_a_batch(batches, batch_size, drop_remainder)
    return (
        batches
        # uint8 images and masks are four times smaller, so the cast comes last.
        .map(_batch_maker(weights), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def resolve_set(
    name: str | SegmentationSet | None,
    image_key: str | None,
    mask_key: str | None,
    num_classes: int | None,
    class_names: Sequence[str] | None = None,
) -> SegmentationSet:
    """Return the description of a dataset, given its name or its features."""
    _arguments.optional_text(image_key, "image_key")
    _arguments.optional_text(mask_key, "mask_key")
    given = (image_key, mask_key, num_classes)
    entry = find(name) if isinstance(name, str) else name
    if entry is not None:
        known = (entry.image_key, entry.mask_key, entry.num_classes)
        pairs = zip(given, known, strict=True)
        if all(value in (None, right) for value, right in pairs):
            return entry
    if isinstance(name, SegmentationSet):
        raise ValueError(
            "`image_key`, `mask_key` and `num_classes` must not be passed with "
            f"a SegmentationSet. Received: {given}, but {name.name!r} has "
            f"{known}. Change the SegmentationSet with dataclasses.replace."
        )
    image_key = image_key or IMAGE_KEY
    mask_key = mask_key or MASK_KEY
    if num_classes is not None:
        number = _arguments.num_classes(num_classes)
        if class_names is None or len(class_names) != number:
            class_names = generic_names(number)
    elif name is None or (class_names is None and any(given)):
        raise ValueError(
            "`num_classes` must be given with `image_key` and `mask_key`. "
            f"Received: name={name!r}, image_key={image_key!r}, "
            f"mask_key={mask_key!r}. For a dataset in the catalog, pass only "
            "its `name`."
        )
    elif class_names is None:
        return known_set(name)
    return plain_set(
        _UNNAMED if name is None else str(name),
        image_key,
        mask_key,
        tuple(class_names),
    )


def _single_examples(
    dataset: tf.data.Dataset, entry: SegmentationSet
) -> tf.data.Dataset:
    """Return the frames of videos as examples, and other datasets unchanged."""
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            "`dataset` must be a tf.data.Dataset, such as the result of "
            "tfds.load. "
            f"Received: {type(dataset).__name__}. Use data.load to load a "
            "dataset by its name."
        )
    features = dataset.element_spec
    if not isinstance(features, dict):
        raise ValueError(
            "`dataset` must contain examples that are dicts of features. "
            f"Received elements: {features}. Load it without as_supervised."
        )
    if entry.frames_key is None:
        return dataset
    _check_has(
        features,
        entry.frames_key,
        f"the frames of {entry.name!r}; pass the `name` of this dataset",
    )
    return dataset.flat_map(
        lambda example: tf.data.Dataset.from_tensor_slices(
            example[entry.frames_key]
        )
    )


def weight_table(
    class_weights: ClassWeights | None, entry: SegmentationSet
) -> list[float] | None:
    """Return the weight of each class, followed by that of void."""
    weights = _arguments.class_weights(class_weights)
    if weights is None:
        return None
    if len(weights) != entry.num_classes:
        raise ValueError(
            "`class_weights` must hold one weight per class. Received: "
            f"{len(weights)} weights for {entry.num_classes} classes: "
            f"{', '.join(entry.class_names)}."
        )
    return [*weights, 0.0]


def _batch_maker(
    weights: list[float] | None,
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    def make_batch(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image = tf.cast(image, tf.float32)
        # An augmentation may return int64 labels, which a plain cast would wrap
        # around.
        mask = tf.saturate_cast(mask, tf.int32)
        if weights is None:
            return image, mask
        rows = tf.where(mask == VOID, len(weights) - 1, mask)
        return image, mask, tf.gather(tf.constant(weights, tf.float32), rows)

    return make_batch


def _pair_maker(
    entry: SegmentationSet,
    image_size: int | Sequence[int] | None,
    value_range: tuple[float, float] | None,
) -> Callable[[tf.Tensor, dict[str, Any]], tuple[tf.Tensor, tf.Tensor]]:
    """Return a function from a numbered example to (image, uint8 mask)."""
    classes = class_table(entry)
    known = ", ".join(map(str, sorted([*entry.labels, *entry.void_labels])))
    if image_size is not None:
        image_size = _arguments.ints(image_size, 2, "image_size", minimum=1)

    def make_pair(
        index: tf.Tensor, example: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image = example[entry.image_key]
        found = (
            example[entry.mask_key][..., 0]
            if entry.read_mask is None
            else entry.read_mask(example)
        )
        where = _describe_example(entry, index, example)
        image_shape, mask_shape = tf.shape(image)[:2], tf.shape(found)
        require(
            tf.reduce_all(image_shape == mask_shape),
            [
                where,
                ": Image and mask must have the same size. Received (height, "
                "width): ",
                tf.strings.format("{} and {}", (image_shape, mask_shape)),
            ],
        )
        if found.dtype.is_bool:
            found = tf.cast(found, tf.uint8)
        # A cast to int32 would wrap around. int64 only makes huge uint64 labels
        # negative, which are invalid too.
        wide = tf.cast(found, tf.int64)
        is_byte = (wide >= 0) & (wide < 256)
        rows = tf.where(is_byte, wide, 256)
        mask = tf.gather(tf.constant(classes), rows)
        is_known = mask >= 0
        strays, _ = tf.unique(tf.boolean_mask(found, ~is_known))
        require(
            tf.reduce_all(is_known),
            [
                where,
                ": The mask contains ",
                tf.where(tf.size(strays) > 1, "labels ", "label "),
                tf.strings.reduce_join(
                    tf.strings.as_string(strays[:_NUM_SHOWN]), separator=", "
                ),
                f", neither class nor void: the labels of {entry.mask_key} "
                f"are {known}. Correct the mask, or describe the dataset with "
                "a SegmentationSet that has these labels.",
            ],
        )
        mask = tf.cast(mask, tf.uint8)
        if value_range is not None:
            image = _value_ranges.scaled_tensor(image, value_range, where)
        if not image_size:
            return image, mask
        resized = _resizing.images(image, image_size)
        if not image.dtype.is_floating:
            # uint8 takes a quarter of the memory of float32 in the cache.
            resized = tf.saturate_cast(resized, tf.uint8)
        return resized, _resizing.labels(mask, image_size)

    return make_pair


def _describe_example(
    entry: SegmentationSet, index: tf.Tensor, example: dict[str, Any]
) -> tf.Tensor:
    start = f"Dataset {entry.name}, example " if entry.name else "Example "
    parts = [start, tf.strings.as_string(index)]
    if "file_name" in example:
        parts += [" (", example["file_name"], ")"]
    return tf.strings.join(parts)


def check_arguments(
    image_size: int | Sequence[int] | None,
    batch_size: int,
    seed: int | None,
    epoch: tf.Variable | None,
    augment: Augment | None,
    shuffle: bool | None,
    drop_remainder: bool,
) -> None:
    if shuffle is not None:
        _arguments.boolean(shuffle, "shuffle")
    _arguments.boolean(drop_remainder, "drop_remainder")
    if seed is not None:
        _arguments.natural_int(seed, "seed")
    _arguments.check_epoch(epoch)
    if image_size is not None:
        _arguments.ints(image_size, 2, "image_size", minimum=1)
    _arguments.positive_int(batch_size, "batch_size")
    if augment is not None and not callable(augment):
        raise ValueError(
            "`augment` must be a function from (image, mask) to (image, mask), "
            "such as the result of data.augmentation(). "
            f"Received: augment={augment!r}"
        )


def _check_cache(
    cache: Cache, pairs: tf.data.Dataset, num_examples: int
) -> None:
    """Refuse a cache in memory that does not fit, if all sizes are equal."""
    image, _ = pairs.element_spec
    if num_examples > 0 and None not in image.shape:
        height, width, channels = image.shape
        _caching.check_fits(
            cache,
            _caching.num_bytes(
                *(num_examples, (height, width), channels),
                image.dtype.is_floating,
            ),
            f"{num_examples} examples of {height}x{width} pixels",
        )


def _check_number(
    num_examples: int, batch_size: int, drop_remainder: bool
) -> None:
    """Refuse a dataset without batches, because `fit` would silently end."""
    # The number is negative if it is unknown.
    if num_examples == 0:
        raise ValueError(_EMPTY)
    if drop_remainder and 0 < num_examples < batch_size:
        raise ValueError(
            "`batch_size` must be at most the number of examples if "
            "drop_remainder=True, which drops smaller batches. Received: "
            f"batch_size={batch_size} for {num_examples} examples"
        )


def _with_a_batch(
    batches: tf.data.Dataset, batch_size: int, drop_remainder: bool
) -> tf.data.Dataset:
    """Raise an error at the end of a dataset that has no batches.

    Needed for datasets whose number of examples is unknown before they are
    read.
    """
    # An additional element after the last batch, where the check runs.
    end = tf.data.Dataset.from_tensors(
        tuple(
            tf.zeros([size or 0 for size in spec.shape], spec.dtype)
            for spec in batches.element_spec
        )
    )
    if drop_remainder:
        text = (
            "`batch_size` must be at most the number of examples if "
            "drop_remainder=True, which drops smaller batches. Received: "
            f"batch_size={batch_size} for fewer examples"
        )
    else:
        text = _EMPTY

    def flagged(is_end: bool) -> Callable[..., tuple[Any, bool]]:
        return lambda *pair: (pair, is_end)

    def check(num_batches: tf.Tensor, element: Any) -> tuple[tf.Tensor, Any]:
        _, is_end = element
        require(~is_end | (num_batches > 0), [text])
        return num_batches + 1, element

    def is_batch(_: Any, is_end: tf.Tensor) -> tf.Tensor:
        return ~is_end

    def restored(pair: Any, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(
            tf.ensure_shape(part, spec.shape)
            for part, spec in zip(pair, batches.element_spec, strict=True)
        )

    return (
        batches.map(flagged(False))
        .concatenate(end.map(flagged(True)))
        .scan(tf.constant(0, tf.int64), check)
        .filter(is_batch)
        .map(restored)
    )


def _check_has(features: Mapping[str, Any], key: str, source: str) -> None:
    if key not in features:
        raise ValueError(
            f"`dataset` must have the feature {key!r}, {source}. Received "
            f"features: {', '.join(map(repr, sorted(features)))}."
        )


def _check_features(
    dataset: tf.data.Dataset,
    entry: SegmentationSet,
    value_range: tuple[float, float] | None,
) -> None:
    features = dataset.element_spec
    for key, argument in (
        (entry.image_key, "image_key"),
        (entry.mask_key, "mask_key"),
    ):
        _check_has(
            features,
            key,
            f"the `{argument}`"
            if entry.name == _UNNAMED
            else f"the `{argument}` of {entry.name!r}; pass the `name` of this "
            f"dataset, or another `{argument}`",
        )
    image = features[entry.image_key]
    if image.shape.rank != 3:
        raise ValueError(
            f"Feature {entry.image_key!r} of `dataset` must be an image with "
            "the axes (height, width, channels). Received: shape "
            f"{image.shape}. Load the dataset without batch_size."
        )
    is_number = image.dtype.is_integer or image.dtype.is_floating
    if not is_number or (value_range is None and image.dtype != tf.uint8):
        raise ValueError(
            f"Feature {entry.image_key!r} of `dataset` must be uint8, or "
            "`value_range` must say which values become 0 and 255, such as "
            "value_range=(0, 65535) or (0.0, 1.0). Received: dtype "
            f"{image.dtype.name}, value_range={value_range}"
        )
    if value_range is not None:
        _value_ranges.check_fits(
            value_range,
            np.dtype(image.dtype.as_numpy_dtype),
            f"Feature {entry.image_key!r} of `dataset`",
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
            f"Feature {entry.mask_key!r} of `dataset` must contain labels of "
            f"an integer dtype or bool. Received: dtype {mask.dtype.name}."
        )
    if mask.shape.rank != 3 or mask.shape[-1] != 1:
        raise ValueError(
            f"Feature {entry.mask_key!r} of `dataset` must have one channel "
            "of labels, with the axes (height, width, 1). Received: shape "
            f"{mask.shape}. Load the dataset without batch_size. For other "
            "masks, pass a SegmentationSet with read_mask."
        )
