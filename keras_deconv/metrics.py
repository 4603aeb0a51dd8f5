"""Metrics for label maps.

Accuracies and IoU come from one confusion matrix over the whole data set,
`BoundaryF1` from the boundaries of each image.

Reference: `compute_test_results.m` and `computeBFmeasure.m` of the SegNet
authors, https://github.com/alexgkendall/SegNet-Tutorial, and section 4 of
https://arxiv.org/abs/1511.00561.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_deconv import backends, labels
from keras_deconv.labels import IgnoreClass, Tensor

__all__ = ["BoundaryF1", "ClassAccuracy", "GlobalAccuracy", "MeanIoU"]

FAR = 1e9
"""A squared distance beyond any tolerance."""


class SegmentationMetric(keras.metrics.Metric):
    """Reads labels and predictions; subclasses keep what they need of them.

    Arguments, call arguments and errors are described in
    `ConfusionMatrixMetric`.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass,
        name: str | None,
        dtype: Any,
    ) -> None:
        super().__init__(name=name, dtype=labels.precise_dtype(dtype))
        self.num_classes = labels.num_classes(num_classes)
        self.ignore_class = labels.ignore_class(ignore_class)

    def merge_state(self, metrics: Iterable["SegmentationMetric"]) -> None:
        """Add what other metrics counted, say in other parts of a set.

        Args:
            metrics: Metrics that count alike: accuracies and IoU merge with
                each other, `BoundaryF1` with its like, and all arguments that
                change the counts agree.

        Raises:
            ValueError: A metric counts something else.
        """
        own = self._counts()
        for metric in metrics:
            is_known = isinstance(metric, SegmentationMetric)
            other = metric._counts() if is_known else "nothing known"
            if other != own:
                raise ValueError(
                    "`metrics` must all count what the metric counts that they "
                    f"are merged into ({own}). Received: {metric!r}, which "
                    f"counts {other}"
                )
            for variable, added in zip(
                self.variables, metric.variables, strict=True
            ):
                variable.assign_add(added.value)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, as plain Python values."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }

    def _counts(self) -> str:
        """What the variables count; metrics with the same can be merged."""
        names = ", ".join(variable.name for variable in self.variables)
        return (
            f"{names} with num_classes={self.num_classes}, "
            f"ignore_class={self.ignore_class}"
        )

    def _read(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Class ids, `LEFT_OUT` where no pixel is counted, and predictions."""
        y_true, predicted_ids = self._label_maps(y_true, y_pred)
        ids = labels.class_ids(
            y_true, self.num_classes, self.ignore_class, sample_weight
        )
        return ids, ops.cast(predicted_ids, ids.dtype)

    def _label_maps(
        self, y_true: Tensor, y_pred: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Labels and predicted ids in one shape."""
        y_true = ops.convert_to_tensor(y_true)
        y_pred = ops.convert_to_tensor(y_pred)
        shape = tuple(y_pred.shape)
        dtype = keras.backend.standardize_dtype(y_pred.dtype)
        if keras.backend.is_float_dtype(dtype):
            num_channels = shape[-1] if shape else 0
            if num_channels is not None and num_channels < self.num_classes:
                raise ValueError(
                    "A float `y_pred` must end with an axis of at least "
                    f"num_classes={self.num_classes} logits or probabilities. "
                    f"Received: y_pred.shape={shape}. Cast class ids to an "
                    "integer dtype."
                )
            # NaN is no prediction: outside the classes, and wrong.
            is_nan = ops.any(ops.isnan(y_pred), axis=-1)
            best = ops.cast(ops.argmax(y_pred, axis=-1), backends.widest_int())
            y_pred = ops.where(is_nan, self.num_classes, best)
        elif len(shape) == len(y_true.shape) + 1 and shape[-1] == 1:
            y_pred = ops.squeeze(y_pred, axis=-1)
        y_true = labels.label_map(y_true, tuple(y_pred.shape), shape)
        return y_true, y_pred


class NamedScores:
    """Gives the scores per class of a metric their names."""

    num_classes: int

    def per_class(self) -> Tensor:
        """Score of each class: tensor (num_classes,), NaN where it has none."""
        raise NotImplementedError

    def per_class_by_name(
        self, class_names: Sequence[str]
    ) -> dict[str, float | None]:
        """Score of each class by its name.

        Args:
            class_names: One name per class, in the order of the ids; for a set
                of the catalog `data.describe(name).class_names`.

        Returns:
            Dict from name to score. A class without a score, which occurs
            nowhere, has None.

        Raises:
            ValueError: Not one name for each class, or a name twice.
        """
        names = tuple(class_names)
        if (
            isinstance(class_names, str)
            or len(names) != self.num_classes
            or len(set(names)) != len(names)
        ):
            raise ValueError(
                f"`class_names` must be {self.num_classes} different names, "
                "one per class (void is no class). "
                f"Received: class_names={class_names!r}"
            )
        scores = ops.convert_to_numpy(self.per_class()).tolist()
        return {
            name: None if math.isnan(score) else score
            for name, score in zip(names, scores, strict=True)
        }


class ConfusionMatrixMetric(SegmentationMetric):
    """Counts pixels by true and predicted class; subclasses make it a score.

    Nothing is averaged over batches: the score is that of all pixels since
    `reset_state`. Pixels whose *label* is void are removed first.

    Args:
        num_classes: int >= 2. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        name: Name of the metric.
        dtype: Dtype of the result; half precision is raised to float32.
            Counts are always integers.

    Call arguments of `update_state`:
        y_true: Class ids of any integer dtype, or whole numbers as floats.
            Shape (batch, height, width) or (batch, height, width, 1).
        y_pred: The dtype decides. *Float*: logits or probabilities, shape
            (batch, height, width, num_classes); the largest wins, the first
            of equal ones. More channels than `num_classes` are allowed.
            *Integer*: class ids, shape (batch, height, width) or
            (batch, height, width, 1).
        sample_weight: Weight 0 removes an image, shape (batch,), or a pixel,
            shape (batch, height, width). Any other weight counts a pixel
            once, because the counts are whole.

    Raises:
        ValueError: At construction: an argument out of range. At update:
            shapes that do not match; in eager code also labels that are
            neither class nor void.
        tf.errors.InvalidArgumentError: Such labels in a TensorFlow graph.

    Edge cases:
        Compiled code (XLA, `jax.jit`) cannot raise: there, labels that are
        neither class nor void count as void.
        A predicted id outside the classes (a net with a void output) is
        wrong: it counts for its label's row, in the last column, so it lowers
        the accuracy and the IoU of the true class.
        Counts are exact up to 2^63 pixels on TensorFlow and PyTorch, up to
        2^31 on JAX unless `jax_enable_x64` is set.
        Without any counted pixel the result is 0.

    Attributes:
        confusion_matrix: Integer variable (num_classes, num_classes + 1). Rows
            are true classes, columns predicted ones; the last column counts
            predictions outside the classes.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes, ignore_class, name=name, dtype=dtype)
        self.confusion_matrix = self.add_variable(
            shape=(self.num_classes, self.num_classes + 1),
            initializer="zeros",
            dtype=backends.widest_int(),
            name="confusion_matrix",
        )

    def update_state(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        """Add the pixels of a batch to the confusion matrix."""
        ids, predicted_ids = self._read(y_true, y_pred, sample_weight)
        counted = ids != labels.LEFT_OUT
        num_columns = self.num_classes + 1
        is_class = ops.logical_and(
            predicted_ids >= 0, predicted_ids < self.num_classes
        )
        columns = ops.where(is_class, predicted_ids, self.num_classes)
        cells = ops.maximum(ids, 0) * num_columns + columns
        counts = ops.segment_sum(
            ops.reshape(ops.cast(counted, ids.dtype), (-1,)),
            ops.reshape(cells, (-1,)),
            num_segments=self.num_classes * num_columns,
        )
        counts = ops.reshape(counts, (self.num_classes, num_columns))
        self.confusion_matrix.assign_add(
            ops.cast(counts, self.confusion_matrix.dtype)
        )

    def _divide(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """Quotient of two counts, 0 where the denominator is 0."""
        # Cast before comparing: ops.maximum narrows int64 on PyTorch.
        divisor = ops.maximum(ops.cast(denominator, self.dtype), 1.0)
        return ops.cast(numerator, self.dtype) / divisor


class ClassMeanMetric(NamedScores, ConfusionMatrixMetric):
    """A score per class, and the mean of it over the classes.

    Args:
        num_classes: int >= 2. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        absent_classes: What a class without a score does to the mean:
            `"skip"` leaves it out, `"zero"` counts it as 0.
        name: Name of the metric.
        dtype: Dtype of the result; half precision is raised to float32.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass = 255,
        absent_classes: str = "skip",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes, ignore_class, name=name, dtype=dtype)
        if absent_classes not in ("skip", "zero"):
            raise ValueError(
                "`absent_classes` must be 'skip' (mean over the classes that "
                "occur) or 'zero' (mean over all, absent ones as 0). "
                f"Received: absent_classes={absent_classes!r}"
            )
        self.absent_classes = absent_classes

    def per_class(self) -> Tensor:
        """Score of each class: tensor (num_classes,), NaN where it has none.

        A class has none where `"skip"` would leave it out of the mean.
        """
        scores, present = self._scores()
        return ops.where(present, scores, float("nan"))

    def result(self) -> Tensor:
        """Mean of the scores over the classes; scalar tensor."""
        scores, present = self._scores()
        if self.absent_classes == "zero":
            return ops.mean(scores)
        num_present = ops.sum(ops.cast(present, self.dtype))
        return ops.sum(scores) / ops.maximum(num_present, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, as plain Python values."""
        return {**super().get_config(), "absent_classes": self.absent_classes}

    def _scores(self) -> tuple[Tensor, Tensor]:
        """Score of each class, 0 where it has none, and whether it has one."""
        numerator, denominator = self._fraction()
        return self._divide(numerator, denominator), denominator > 0

    def _fraction(self) -> tuple[Tensor, Tensor]:
        """Pixel counts: numerator and denominator of each class's score."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_deconv")
class GlobalAccuracy(ConfusionMatrixMetric):
    """Share of the pixels that have the right class.

    Void pixels are not counted. Large classes dominate it: use
    `ClassAccuracy` or `MeanIoU` where small ones matter. The SegNet authors
    pick their model by this score on the validation set.

    Reference: Badrinarayanan et al., 2015, "SegNet", section 4 ("G").
    https://arxiv.org/abs/1511.00561. No differences.

    Args:
        num_classes: int >= 2. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        name: Name of the metric.
        dtype: Dtype of the result; half precision is raised to float32.

    Inputs, errors, edge cases and the attribute `confusion_matrix` are those
    of `ConfusionMatrixMetric`.

    Example:
        Four pixels, one of them void; two of the other three are right:

        >>> from keras_deconv.metrics import GlobalAccuracy
        >>> metric = GlobalAccuracy(num_classes=2)
        >>> metric.update_state([[[0, 0, 1, 255]]], [[[0, 1, 1, 1]]])
        >>> round(float(metric.result()), 3)
        0.667
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass = 255,
        name: str | None = "global_accuracy",
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes, ignore_class, name=name, dtype=dtype)

    def result(self) -> Tensor:
        """Right pixels / counted pixels; scalar tensor."""
        matrix = self.confusion_matrix
        return self._divide(ops.sum(ops.diagonal(matrix)), ops.sum(matrix))


@keras.saving.register_keras_serializable("keras_deconv")
class ClassAccuracy(ClassMeanMetric):
    """Accuracy (recall) of each class, averaged over the classes.

    The accuracy of a class is the share of its pixels that are predicted
    right. A class that never occurs in the labels has none, predicted or not:
    wrong predictions of it already lower the classes they were taken from.

    Reference: Badrinarayanan et al., 2015, "SegNet", section 4 ("C").
    https://arxiv.org/abs/1511.00561. The authors count absent classes as 0:
    that is `absent_classes="zero"`.

    Args:
        num_classes: int >= 2. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        absent_classes: `"skip"` averages over the classes that occur in the
            labels, `"zero"` over all classes, absent ones counting as 0.
        name: Name of the metric.
        dtype: Dtype of the result; half precision is raised to float32.

    Inputs, errors, edge cases and the attribute `confusion_matrix` are those
    of `ConfusionMatrixMetric`.

    Example:
        Class 0 has one of its two pixels right, class 1 its only one, class 2
        does not occur:

        >>> import numpy as np
        >>> from keras_deconv.metrics import ClassAccuracy
        >>> metric = ClassAccuracy(num_classes=3)
        >>> metric.update_state([[[0, 0, 1, 255]]], [[[0, 1, 1, 1]]])
        >>> float(metric.result())
        0.75
        >>> print(np.asarray(metric.per_class()))
        [0.5 1.  nan]
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass = 255,
        absent_classes: str = "skip",
        name: str | None = "class_accuracy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_classes, ignore_class, absent_classes, name=name, dtype=dtype
        )

    def _fraction(self) -> tuple[Tensor, Tensor]:
        matrix = self.confusion_matrix
        return ops.diagonal(matrix), ops.sum(matrix, axis=1)


@keras.saving.register_keras_serializable("keras_deconv")
class MeanIoU(ClassMeanMetric):
    """Intersection over union of each class, averaged over the classes.

    The IoU of a class is `correct / (true + predicted - correct)` pixels. It
    differs from `keras.metrics.MeanIoU` in what it takes (logits,
    probabilities or ids), in several void ids, in whole counts, and in not
    dropping predictions outside the classes.

    Reference: Badrinarayanan et al., 2015, "SegNet", section 4 ("mIoU").
    https://arxiv.org/abs/1511.00561. The authors count absent classes as 0:
    that is `absent_classes="zero"`. They also drop predictions of void, which
    flatters a net that can predict it; here these stay in the union.

    Args:
        num_classes: int >= 2. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        absent_classes: `"skip"` averages over the classes that occur in the
            labels or in the predictions (FCN and Keras do so), `"zero"` over
            all classes, absent ones counting as 0.
        name: Name of the metric.
        dtype: Dtype of the result; half precision is raised to float32.

    Inputs, errors, edge cases and the attribute `confusion_matrix` are those
    of `ConfusionMatrixMetric`.

    Example:
        Class 0: one pixel right of the two in its union. Class 1: the same.
        Class 2 does not occur:

        >>> import numpy as np
        >>> from keras_deconv.metrics import MeanIoU
        >>> metric = MeanIoU(num_classes=3)
        >>> metric.update_state([[[0, 0, 1, 255]]], [[[0, 1, 1, 1]]])
        >>> float(metric.result())
        0.5
        >>> print(np.asarray(metric.per_class()))
        [0.5 0.5 nan]
        >>> metric.per_class_by_name(["sky", "road", "car"])
        {'sky': 0.5, 'road': 0.5, 'car': None}
        >>> print(np.asarray(metric.confusion_matrix))
        [[1 1 0 0]
         [0 1 0 0]
         [0 0 0 0]]
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass = 255,
        absent_classes: str = "skip",
        name: str | None = "mean_iou",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_classes, ignore_class, absent_classes, name=name, dtype=dtype
        )

    def _fraction(self) -> tuple[Tensor, Tensor]:
        matrix = self.confusion_matrix
        correct = ops.diagonal(matrix)
        true = ops.sum(matrix, axis=1)
        predicted = ops.sum(matrix[:, : self.num_classes], axis=0)
        return correct, true + predicted - correct


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
    lower right neighbour is in the class and the other is not, so boundaries
    are one pixel wide. The edge of the image is no boundary. Neither is a
    border against void, in labels or prediction: pairs of pixels count where
    the label of neither is void, so what is predicted at void pixels changes
    nothing.

    Reference: Csurka et al., 2013, "What is a good evaluation measure for
    semantic segmentation?"; Badrinarayanan et al., 2015, "SegNet", section 3.3.
    https://arxiv.org/abs/1511.00561. We differ from the authors' script in
    three things: (1) they match boundary pixels one to one (`correspondPixels`,
    bipartite), here one pixel may match several, which approximates it from
    above, so thick or doubled boundaries cost less; (2) their script also
    averages over classes that have a boundary in the prediction alone, while
    their paper, and we, take the classes in the labels; (3) they treat void as
    one more class, whose borders count.

    Args:
        num_classes: int >= 2. Number of classes, void not included.
        ignore_class: int, tuple of ints or None. Labels that are void.
        tolerance: float >= 0 and < 1. Largest distance of boundaries that
            match, between the centres of pixels, as a share of the diagonal of
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
        int_dtype = backends.widest_int()
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
            neighbours = _neighbours(ids, rows, columns)
            true_neighbours = _neighbours(true_ids, rows, columns)
            is_border = ops.logical_and(
                ids != neighbours,
                ops.logical_and(
                    true_ids != labels.LEFT_OUT,
                    true_neighbours != labels.LEFT_OUT,
                ),
            )
            for side in (ids, neighbours):
                of_class = ops.where(is_border, side, labels.LEFT_OUT)
                result = ops.logical_or(result, of_class[..., None] == classes)
        return result

    def _share(self, matched: Tensor, boundaries: Tensor) -> Tensor:
        """Share of the boundary pixels that are matched, by image and class."""
        matched = ops.logical_and(matched, boundaries)
        return ops.divide_no_nan(
            ops.sum(ops.cast(matched, self.dtype), axis=(1, 2)),
            ops.sum(ops.cast(boundaries, self.dtype), axis=(1, 2)),
        )


def _neighbours(ids: Tensor, rows: int, columns: int) -> Tensor:
    """The pixels below and to the right; outside the image `LEFT_OUT`."""
    ids = ops.pad(
        ids,
        ((0, 0), (0, rows), (0, columns)),
        constant_values=labels.LEFT_OUT,
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
