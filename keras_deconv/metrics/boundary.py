"""F1 score of the boundaries between classes."""

import math
from typing import Any

import keras
from keras import ops

from keras_deconv import _backends, _labels
from keras_deconv._labels import IgnoreClass, Tensor
from keras_deconv.metrics._base import NamedScores, SegmentationMetric

__all__ = ["BoundaryF1"]

FAR = 1e9
"""A squared distance that is larger than any tolerance."""


@keras.saving.register_keras_serializable("keras_deconv")
class BoundaryF1(NamedScores, SegmentationMetric):
    """F1 score of the boundaries of each class (BF), averaged over images.

    Use this metric to measure how sharp contours are; accuracies and IoU depend
    on them only slightly. For each image and class, the metric compares the
    boundary pixels of labels and predictions. *Precision* is the fraction of
    the predicted boundary pixels within `tolerance` of a true one. *Recall* is
    the fraction of the true boundary pixels within `tolerance` of a predicted
    one. F1 is `2 * P * R / (P + R)`. The score of an image is the mean over the
    classes that have a boundary in its labels. The result is the mean over the
    images with at least one boundary in their labels.

    `per_class()` returns the score of each class as a tensor, and
    `per_class_by_name(class_names)` returns a dict.

    A pixel is on the boundary of a class if the class contains either the pixel
    or its right, lower or lower right neighbor, but not both. Boundaries are
    therefore one pixel wide. The edge of the image is not a boundary, and
    neither is a border between a class and void: a border counts only if the
    labels of both pixels are not void. Predictions at void pixels do not change
    the score.

    Reference: Csurka et al., 2013, "What is a good evaluation measure for
    semantic segmentation?"; Badrinarayanan et al., 2015, "SegNet", section 3.3,
    https://arxiv.org/abs/1511.00561. This metric differs from the authors'
    script:

    - The script matches boundary pixels one to one (`correspondPixels`,
      bipartite). Here, several pixels may match the same pixel. The score is
      therefore slightly higher, and thick or doubled boundaries cost less.
    - The script also averages over classes that have a boundary only in the
      prediction. The paper and this metric use the classes in the labels.
    - The script treats void as one more class, whose borders count.
    - An image without a boundary in its labels is not part of the mean. The
      paper does not mention this case.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels are
            not counted. The default is 255. None counts every pixel.
        tolerance: float >= 0 and < 1. Largest distance between matching
            boundary pixels, as a fraction of the diagonal of the image. The
            default is 0.0075, which is 4.5 pixels for images of 360x480. With a
            distance below one pixel, boundaries must be equal.
        name: str or None. Name of the metric.
        dtype: Float dtype or dtype policy of the result. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32.

    Call arguments:
        y_true: Tensor of class ids, of an integer dtype or integers as floats.
            The shape is `(batch, height, width)` or
            `(batch, height, width, 1)`.
        y_pred: A float tensor holds logits or probabilities of shape
            `(batch, height, width, num_classes)`. The largest value is the
            predicted class; if several are equal, the first one. There may be
            more channels than `num_classes`. An integer tensor holds class ids
            of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        sample_weight: None, or a tensor of shape `(batch,)` or
            `(batch, height, width)`. Weight 0 turns an image or a pixel
            into void. Every other weight counts as 1.

    Raises:
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None, or
            is 255, the default, with more than 255 classes.
        ValueError: If `tolerance` is not a float >= 0 and < 1.
        ValueError: If `name` is not a str or None, or `dtype` is not a float
            dtype.
        ValueError: If the shapes of `y_true` and `y_pred` do not match, or a
            float `y_pred` has fewer channels than `num_classes`.
        ValueError: If a label is neither a class nor void, or a sample weight
            is negative or not finite. Only eager code checks this.
        tf.errors.InvalidArgumentError: If a label, a sample weight or a shape
            is wrong, in a TensorFlow graph.

    Edge cases:
        Compiled code (XLA and `jax.jit`) cannot raise errors. A label that is
        neither a class nor void then counts as void.

        A class that fills its image, or borders only on void, does not have a
        boundary and is not part of the mean. A class without a predicted
        boundary has F1 0. Predictions outside the classes do not belong to any
        class; the neighboring classes have a boundary there. If there are no
        boundaries in any image, the result is 0.

        An update needs about 100 bytes per pixel and class. Evaluate large
        images in small batches.

    Example:
        The true boundary lies between the second and the third column. The
        predicted boundary lies one column further right:

        >>> from keras_deconv.metrics import BoundaryF1
        >>> y_true = [[[0, 0, 1, 1, 1]] * 4]
        >>> y_pred = [[[0, 0, 0, 1, 1]] * 4]
        >>> strict = BoundaryF1(num_classes=3)
        >>> strict.update_state(y_true, y_pred)
        >>> float(strict.result())
        0.0
        >>> lenient = BoundaryF1(num_classes=3, tolerance=0.2)  # 1.28 pixels
        >>> lenient.update_state(y_true, y_pred)
        >>> float(lenient.result())
        1.0
        >>> lenient.per_class_by_name(["sky", "road", "car"])
        {'sky': 1.0, 'road': 1.0, 'car': None}
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass = 255,
        tolerance: float = 0.0075,
        name: str | None = "boundary_f1",
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes, ignore_class, name=name, dtype=dtype)
        self.tolerance = _tolerance(tolerance)
        # Sums of scores, and the number of images in each sum.
        self.image_scores = self.add_variable((), "zeros", name="image_scores")
        self.class_scores = self.add_variable(
            (self.num_classes,), "zeros", name="class_scores"
        )
        int_dtype = _backends.widest_int()
        self.num_images = self.add_variable(
            (), "zeros", dtype=int_dtype, name="num_images"
        )
        self.num_class_images = self.add_variable(
            (self.num_classes,),
            "zeros",
            dtype=int_dtype,
            name="num_class_images",
        )

    def update_state(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        """Add the scores of the images of a batch."""
        ids, predicted_ids = self._read(y_true, y_pred, sample_weight)
        if len(ids.shape) == 4 and ids.shape[-1] == 1:
            ids, predicted_ids = ids[..., 0], predicted_ids[..., 0]
        if len(ids.shape) != 3:
            raise ValueError(
                "`y_true` must have the shape (batch, height, width) or "
                "(batch, height, width, 1), since boundaries require two "
                f"spatial axes. Received: y_true.shape={tuple(ids.shape)}"
            )
        scores, present = self._image_scores(ids, predicted_ids)
        num_present = ops.sum(ops.cast(present, self.dtype), axis=1)
        means = ops.divide_no_nan(ops.sum(scores, axis=1), num_present)
        self.image_scores.assign_add(ops.sum(means))
        self.class_scores.assign_add(ops.sum(scores, axis=0))
        present = ops.cast(present, self.num_images.dtype)
        self.num_images.assign_add(ops.sum(ops.max(present, axis=1)))
        self.num_class_images.assign_add(ops.sum(present, axis=0))

    def per_class(self) -> Tensor:
        """Return the mean F1 of each class as a tensor `(num_classes,)`.

        The mean is over the images in which the class has a boundary. It is NaN
        if there is no such image. The mean of these scores is not `result()`,
        which averages over classes first and then over images.
        """
        count = ops.cast(self.num_class_images, self.dtype)
        scores = ops.divide_no_nan(self.class_scores, count)
        return ops.where(count > 0, scores, float("nan"))

    def result(self) -> Tensor:
        """Return the mean score of the images, as a scalar tensor."""
        return ops.divide_no_nan(
            self.image_scores, ops.cast(self.num_images, self.dtype)
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {**super().get_config(), "tolerance": self.tolerance}

    def _counts(self) -> str:
        return f"{super()._counts()}, tolerance={self.tolerance}"

    def _image_scores(
        self, ids: Tensor, predicted_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return F1 by image and class, and whether it is present."""
        height, width = ops.shape(ids)[1:]
        # With this tolerance for rounding, an exact distance matches.
        squared_radius = ops.cast(
            height * height + width * width, "float32"
        ) * (self.tolerance**2 * (1 + 1e-6))
        true = self._boundaries(ids, ids)
        predicted = self._boundaries(predicted_ids, ids)
        near = _near(ops.concatenate([true, predicted], -1), squared_radius)
        near_true, near_predicted = ops.split(near, 2, axis=-1)

        recall = self._share(near_predicted, true)
        precision = self._share(near_true, predicted)
        scores = ops.divide_no_nan(2 * precision * recall, precision + recall)
        return scores, ops.any(true, axis=(1, 2))

    def _boundaries(self, ids: Tensor, true_ids: Tensor) -> Tensor:
        """Return boundaries as bool `(batch, height, width, num_classes)`."""
        classes = ops.arange(self.num_classes, dtype=ids.dtype)
        result = ops.zeros_like(ids[..., None] == classes)
        for rows, columns in ((0, 1), (1, 0), (1, 1)):
            neighbors = _neighbors(ids, rows, columns)
            true_neighbors = _neighbors(true_ids, rows, columns)
            is_border = ops.logical_and(
                ids != neighbors,
                ops.logical_and(
                    true_ids != _labels.LEFT_OUT,
                    true_neighbors != _labels.LEFT_OUT,
                ),
            )
            for side in (ids, neighbors):
                of_class = ops.where(is_border, side, _labels.LEFT_OUT)
                result = ops.logical_or(result, of_class[..., None] == classes)
        return result

    def _share(self, matched: Tensor, boundaries: Tensor) -> Tensor:
        """Return the fraction of matched boundary pixels by image and class."""
        matched = ops.logical_and(matched, boundaries)
        return ops.divide_no_nan(
            ops.sum(ops.cast(matched, self.dtype), axis=(1, 2)),
            ops.sum(ops.cast(boundaries, self.dtype), axis=(1, 2)),
        )


def _neighbors(ids: Tensor, rows: int, columns: int) -> Tensor:
    """Return the neighbor of each pixel; `LEFT_OUT` outside the image."""
    ids = ops.pad(
        ids,
        ((0, 0), (0, rows), (0, columns)),
        constant_values=_labels.LEFT_OUT,
    )
    return ids[:, rows:, columns:]


def _near(boundaries: Tensor, squared_radius: Tensor) -> Tensor:
    """Return whether a pixel is within the radius of a boundary of its channel.

    The squared distance is `row distance ** 2 + column distance ** 2`, so each
    axis can be searched separately.
    """
    squares = ops.where(boundaries, 0.0, FAR)
    for axis in (1, 2):
        squares = _nearest(squares, axis, squared_radius)
    return squares <= squared_radius


def _nearest(squares: Tensor, axis: int, squared_radius: Tensor) -> Tensor:
    """Return the smallest `square + distance ** 2` along an axis.

    This is a loop, since the radius may depend on an unknown image size.
    """

    def shift(tensor: Tensor, padding: tuple[int, int]) -> Tensor:
        whole, inside = [(0, 0)] * 4, [slice(None)] * 4
        whole[axis] = padding
        inside[axis] = slice(None, -1) if padding == (1, 0) else slice(1, None)
        return ops.pad(tensor, whole, constant_values=FAR)[tuple(inside)]

    def is_in_reach(way: Tensor, *_: Tensor) -> Tensor:
        return way * way <= squared_radius

    def take_a_step(
        way: Tensor, before: Tensor, after: Tensor, smallest: Tensor
    ) -> tuple[Tensor, ...]:
        before, after = shift(before, (1, 0)), shift(after, (0, 1))
        found = ops.minimum(before, after) + way * way
        return way + 1.0, before, after, ops.minimum(smallest, found)

    first = ops.ones((), dtype="float32")
    state = (first, squares, squares, squares)
    return ops.while_loop(is_in_reach, take_a_step, state)[-1]


def _tolerance(value: float) -> float:
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not 0 <= result < 1:
        raise ValueError(
            "`tolerance` must be a float >= 0 and < 1, as a fraction of the "
            "diagonal of the image (pixels / diagonal). "
            f"Received: tolerance={value!r}"
        )
    return result
