"""Accuracies and IoU, from one confusion matrix over the whole dataset."""

from typing import Any

import keras
from keras import ops

from keras_deconv import _backends, _labels
from keras_deconv._labels import IgnoreClass, Tensor
from keras_deconv.metrics._base import NamedScores, SegmentationMetric

__all__ = ["ClassAccuracy", "GlobalAccuracy", "MeanIoU"]


class ConfusionMatrixMetric(SegmentationMetric):
    """Counts pixels by true and predicted class; subclasses make it a score.

    Nothing is averaged over batches: the score is that of all pixels since
    `reset_state`. Pixels whose *label* is void are removed first.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, void not included.
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
        ValueError: At construction: an argument out of range, or more than
            255 classes with the default `ignore_class`. At update: shapes that
            do not match; in eager code also labels that are neither class nor
            void, and sample weights that are negative or not finite.
        tf.errors.InvalidArgumentError: Such labels or sample weights in a
            TensorFlow graph, and shapes that do not match where they are not
            known before.

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
            dtype=_backends.widest_int(),
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
        counted = ids != _labels.LEFT_OUT
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
        num_classes: int from 2 to 10,000. Number of classes, void not included.
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
        if not isinstance(absent_classes, str) or absent_classes not in (
            "skip",
            "zero",
        ):
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
        num_classes: int from 2 to 10,000. Number of classes, void not included.
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
        num_classes: int from 2 to 10,000. Number of classes, void not included.
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
        num_classes: int from 2 to 10,000. Number of classes, void not included.
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
