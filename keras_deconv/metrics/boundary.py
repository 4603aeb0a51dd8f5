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
"""A squared distance beyond any tolerance."""


@keras.saving.register_keras_serializable("keras_deconv")
class BoundaryF1(NamedScores, SegmentationMetric):
    """F1 score of the boundaries of each class (BF), averaged over images.

    Accuracies and IoU hardly see whether contours are sharp; this does. For
    each image and class, boundary pixels of labels and prediction are
    compared: *precision* is the share of the predicted ones that lie within
    `tolerance` of a true one, *recall* the share of the true ones that lie
    within it of a predicted one, and F1 is `2 * P * R / (P + R)`. An image's
    score is the mean over the classes that have a boundary in its labels, the
    result is the mean over the images that have one at all.

    A pixel is on the boundary of a class if one of it and its right, lower or
    lower right neighbor is in the class and the other is not, so boundaries
    are one pixel wide. The edge of the image is no boundary. Neither is a
    border against void, in labels or prediction: pairs of pixels count where
    the label of neither is void, so what is predicted at void pixels changes
    nothing.

    Reference: Csurka et al., 2013, "What is a good evaluation measure for
    semantic segmentation?"; Badrinarayanan et al., 2015, "SegNet", section 3.3.
    https://arxiv.org/abs/1511.00561. We differ from the authors' script in
    four things: (1) they match boundary pixels one to one (`correspondPixels`,
    bipartite), here one pixel may match several, which approximates it from
    above, so thick or doubled boundaries cost less; (2) their script also
    averages over classes that have a boundary in the prediction alone, while
    their paper, and we, take the classes in the labels; (3) they treat void as
    one more class, whose borders count; (4) an image without any boundary
    in its labels takes no part, a case that their paper does not mention.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        tolerance: float >= 0 and < 1. Largest distance of boundaries that
            match, between the centers of pixels, as a share of the diagonal of
            the image: 0.0075 is 4.5 pixels of 360x480. Below one pixel they
            have to be equal.
        name: Name of the metric.
        dtype: Dtype of the result; half precision is raised to float32.

    Call arguments of `update_state`:
        y_true, y_pred, sample_weight: As in `MeanIoU`, with exactly two
            spatial axes, whose sizes may be unknown. Weight 0 makes an image,
            shape (batch,), or a pixel, shape (batch, height, width), void.

    Raises:
        ValueError: At construction: an argument out of range. At update: as
            `MeanIoU`, and labels without two spatial axes.
        tf.errors.InvalidArgumentError: Stray labels in a TensorFlow graph.

    Edge cases:
        A class that fills its image, or only touches void, has no boundary
        there and takes no part. One without predicted boundary has F1 0.
        Predictions outside the classes belong to none; the classes around
        them end there.
        Without any boundary in any image the result is 0.
        An update takes some 100 bytes per pixel and class: evaluate large
        pictures in small batches.

    Example:
        The true border lies between the second and the third column, the
        predicted one is a column further right:

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
        # Sums of scores, and how many images they are of.
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
                "(batch, height, width, 1), since boundaries are lines in a "
                f"plane. Received label maps of shape {tuple(ids.shape)}"
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
        """Mean F1 of each class: tensor (num_classes,).

        The mean is over the images where the class has a boundary; NaN if
        there is none. The mean of these is not the result, which averages over
        the images last.
        """
        count = ops.cast(self.num_class_images, self.dtype)
        scores = ops.divide_no_nan(self.class_scores, count)
        return ops.where(count > 0, scores, float("nan"))

    def result(self) -> Tensor:
        """Mean over the images; scalar tensor."""
        return ops.divide_no_nan(
            self.image_scores, ops.cast(self.num_images, self.dtype)
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, as plain Python values."""
        return {**super().get_config(), "tolerance": self.tolerance}

    def _counts(self) -> str:
        return f"{super()._counts()}, tolerance={self.tolerance}"

    def _image_scores(
        self, ids: Tensor, predicted_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """F1 by image and class, 0 where none, and whether there is one."""
        height, width = ops.shape(ids)[1:]
        # The slack is for rounding: an exact distance matches.
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
        """Boundary of each class: bool (batch, height, width, num_classes)."""
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
        """Share of the boundary pixels that are matched, by image and class."""
        matched = ops.logical_and(matched, boundaries)
        return ops.divide_no_nan(
            ops.sum(ops.cast(matched, self.dtype), axis=(1, 2)),
            ops.sum(ops.cast(boundaries, self.dtype), axis=(1, 2)),
        )


def _neighbors(ids: Tensor, rows: int, columns: int) -> Tensor:
    """The pixels below and to the right; outside the image `LEFT_OUT`."""
    ids = ops.pad(
        ids,
        ((0, 0), (0, rows), (0, columns)),
        constant_values=_labels.LEFT_OUT,
    )
    return ids[:, rows:, columns:]


def _near(boundaries: Tensor, squared_radius: Tensor) -> Tensor:
    """Whether a pixel is within the radius of a boundary of its channel.

    Squared distances are the smallest of `row distance ** 2 + column distance
    ** 2`, so each axis can be searched on its own.
    """
    squares = ops.where(boundaries, 0.0, FAR)
    for axis in (1, 2):
        squares = _nearest(squares, axis, squared_radius)
    return squares <= squared_radius


def _nearest(squares: Tensor, axis: int, squared_radius: Tensor) -> Tensor:
    """The smallest square along an axis, with the squared way added.

    A loop, since the radius may be known only when the size of the images is.
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
            "`tolerance` must be a float >= 0 and < 1, a share of the diagonal "
            "of the image (pixels / diagonal). "
            f"Received: tolerance={value!r}"
        )
    return result
