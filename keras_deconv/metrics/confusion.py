"""Accuracies and IoU, computed from a confusion matrix."""

from typing import Any

import keras
from keras import ops

from keras_deconv import _backends, _labels
from keras_deconv._labels import IgnoreClass, Tensor
from keras_deconv.metrics._base import NamedScores, SegmentationMetric

__all__ = ["ClassAccuracy", "GlobalAccuracy", "MeanIoU"]


class ConfusionMatrixMetric(SegmentationMetric):
    """Base class of metrics that count pixels by true and predicted class.

    The score is that of all pixels since `reset_state`; it is not an average
    over batches. Pixels with a void label are not counted.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels are
            not counted. The default is 255. None counts every pixel.
        name: str or None. Name of the metric.
        dtype: Float dtype or dtype policy of the result. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32.
            Counts are always integers.

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
            `(batch, height, width)`. A pixel of weight 0 is not counted. Every
            other weight counts the pixel once, since counts are integers.

    Raises:
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None, or
            is 255, the default, with more than 255 classes.
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

        A predicted id outside the classes, for example from a network with a
        void output, counts as a wrong prediction of the true class, in the last
        column of `confusion_matrix`. A pixel with NaN in `y_pred` counts in the
        same way.

        Counts are exact up to 2**63 pixels on TensorFlow and PyTorch, and up to
        2**31 pixels on JAX unless `jax_enable_x64` is set. If no pixel has been
        counted, the result is 0.

    Attributes:
        confusion_matrix: Integer variable of shape
            `(num_classes, num_classes + 1)`. Rows are true classes and columns
            are predicted classes. The last column counts predictions outside
            the classes.
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
        """Divide two counts; the result is 0 if the denominator is 0."""
        # ops.maximum would convert int64 to int32 on PyTorch.
        divisor = ops.maximum(ops.cast(denominator, self.dtype), 1.0)
        return ops.cast(numerator, self.dtype) / divisor


class ClassMeanMetric(NamedScores, ConfusionMatrixMetric):
    """Base class of metrics with a score for each class, averaged over classes.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels are
            not counted. The default is 255. None counts every pixel.
        absent_classes: `"skip"` averages over the classes that have a score,
            `"zero"` averages over all classes and counts absent ones as 0. The
            default is `"skip"`.
        name: str or None. Name of the metric.
        dtype: Float dtype or dtype policy of the result. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32.
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
                "occur) or 'zero' (mean over all classes, absent ones as 0). "
                f"Received: absent_classes={absent_classes!r}"
            )
        self.absent_classes = absent_classes

    def per_class(self) -> Tensor:
        """Return the score of each class as a tensor `(num_classes,)`.

        The score is NaN for classes that `absent_classes="skip"` leaves out.
        """
        scores, present = self._scores()
        return ops.where(present, scores, float("nan"))

    def result(self) -> Tensor:
        """Return the mean score of the classes, as a scalar tensor."""
        scores, present = self._scores()
        if self.absent_classes == "zero":
            return ops.mean(scores)
        num_present = ops.sum(ops.cast(present, self.dtype))
        return ops.sum(scores) / ops.maximum(num_present, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {**super().get_config(), "absent_classes": self.absent_classes}

    def _scores(self) -> tuple[Tensor, Tensor]:
        """Return the score of each class, and whether it is present."""
        numerator, denominator = self._fraction()
        return self._divide(numerator, denominator), denominator > 0

    def _fraction(self) -> tuple[Tensor, Tensor]:
        """Return the numerators and denominators of the scores, in pixels."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_deconv")
class GlobalAccuracy(ConfusionMatrixMetric):
    """Fraction of the pixels that are predicted correctly.

    Use this metric to compare with published results; the SegNet authors select
    their model by this score on the validation set. Large classes dominate it.
    If small classes matter, use `ClassAccuracy` or `MeanIoU`. Pixels with a
    void label are not counted. The score is that of all pixels since
    `reset_state`.

    Reference: Badrinarayanan et al., 2015, "SegNet", section 4 ("G"),
    https://arxiv.org/abs/1511.00561. This metric does not differ from theirs.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels are
            not counted. The default is 255. None counts every pixel.
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
            `(batch, height, width)`. A pixel of weight 0 is not counted. Every
            other weight counts the pixel once, since counts are integers.

    Raises:
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None, or
            is 255, the default, with more than 255 classes.
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

        A predicted id outside the classes, for example from a network with a
        void output, counts as a wrong prediction of the true class, in the last
        column of `confusion_matrix`. A pixel with NaN in `y_pred` counts in the
        same way.

        Counts are exact up to 2**63 pixels on TensorFlow and PyTorch, and up to
        2**31 pixels on JAX unless `jax_enable_x64` is set. If no pixel has been
        counted, the result is 0.

    Attributes:
        confusion_matrix: Integer variable of shape
            `(num_classes, num_classes + 1)`. Rows are true classes and columns
            are predicted classes. The last column counts predictions outside
            the classes.

    Example:
        There are four pixels, and one of them is void. Two of the other three
        are correct:

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
        """Return correct divided by counted pixels, as a scalar tensor."""
        matrix = self.confusion_matrix
        return self._divide(ops.sum(ops.diagonal(matrix)), ops.sum(matrix))


@keras.saving.register_keras_serializable("keras_deconv")
class ClassAccuracy(ClassMeanMetric):
    """Accuracy (recall) of each class, averaged over the classes.

    Use this metric if small classes matter as much as large ones. The accuracy
    of a class is the fraction of its pixels that are predicted correctly. A
    class that does not occur in the labels does not have an accuracy, even if
    it is predicted: wrong predictions already lower the accuracy of the true
    classes. Pixels with a void label are not counted. The scores are those of
    all pixels since `reset_state`.

    `per_class()` returns the score of each class as a tensor, and
    `per_class_by_name(class_names)` returns a dict.

    Reference: Badrinarayanan et al., 2015, "SegNet", section 4 ("C"),
    https://arxiv.org/abs/1511.00561. The authors count absent classes as 0, as
    this metric does with `absent_classes="zero"`.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels are
            not counted. The default is 255. None counts every pixel.
        absent_classes: `"skip"` averages over the classes that occur in the
            labels, `"zero"` averages over all classes and counts absent ones as
            0. The default is `"skip"`.
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
            `(batch, height, width)`. A pixel of weight 0 is not counted. Every
            other weight counts the pixel once, since counts are integers.

    Raises:
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None, or
            is 255, the default, with more than 255 classes.
        ValueError: If `absent_classes` is not "skip" or "zero".
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

        A predicted id outside the classes, for example from a network with a
        void output, counts as a wrong prediction of the true class, in the last
        column of `confusion_matrix`. A pixel with NaN in `y_pred` counts in the
        same way.

        Counts are exact up to 2**63 pixels on TensorFlow and PyTorch, and up to
        2**31 pixels on JAX unless `jax_enable_x64` is set. If no pixel has been
        counted, the result is 0.

    Attributes:
        confusion_matrix: Integer variable of shape
            `(num_classes, num_classes + 1)`. Rows are true classes and columns
            are predicted classes. The last column counts predictions outside
            the classes.

    Example:
        One of the two pixels of class 0 is correct, and the only pixel of class
        1 is correct. Class 2 does not occur:

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
    """Intersection over union (IoU) of each class, averaged over the classes.

    Use this metric as the standard score of semantic segmentation. The IoU of a
    class is `correct / (true + predicted - correct)`, counted in pixels: the
    intersection of prediction and ground truth, divided by their union. Pixels
    with a void label are not counted. The scores are those of all pixels since
    `reset_state`.

    `per_class()` returns the score of each class as a tensor, and
    `per_class_by_name(class_names)` returns a dict.

    `per_class()` returns the score of each class as a tensor, and
    `per_class_by_name(class_names)` returns a dict.

    Unlike `keras.metrics.MeanIoU`, this metric accepts logits, probabilities or
    class ids, supports several void labels, counts in integers, and counts
    predictions outside the classes as wrong.

    Reference: Badrinarayanan et al., 2015, "SegNet", section 4 ("mIoU"),
    https://arxiv.org/abs/1511.00561. The authors count absent classes as 0, as
    this metric does with `absent_classes="zero"`. They also drop predictions of
    void, which raises the score of networks that can predict void; this metric
    keeps them in the union.

    Args:
        num_classes: int from 2 to 10,000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels are
            not counted. The default is 255. None counts every pixel.
        absent_classes: `"skip"` averages over the classes that occur in the
            labels or in the predictions, as FCN and Keras do. `"zero"` averages
            over all classes and counts absent ones as 0. The default is
            `"skip"`.
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
            `(batch, height, width)`. A pixel of weight 0 is not counted. Every
            other weight counts the pixel once, since counts are integers.

    Raises:
        ValueError: If `num_classes` is not an int from 2 to 10,000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None, or
            is 255, the default, with more than 255 classes.
        ValueError: If `absent_classes` is not "skip" or "zero".
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

        A predicted id outside the classes, for example from a network with a
        void output, counts as a wrong prediction of the true class, in the last
        column of `confusion_matrix`. A pixel with NaN in `y_pred` counts in the
        same way.

        Counts are exact up to 2**63 pixels on TensorFlow and PyTorch, and up to
        2**31 pixels on JAX unless `jax_enable_x64` is set. If no pixel has been
        counted, the result is 0.

    Attributes:
        confusion_matrix: Integer variable of shape
            `(num_classes, num_classes + 1)`. Rows are true classes and columns
            are predicted classes. The last column counts predictions outside
            the classes.

    Example:
        Class 0 and class 1 each have one correct pixel and a union of two
        pixels. Class 2 does not occur:

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
