"""Base classes of the metrics."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_deconv import _arguments, _backends, _labels
from keras_deconv._labels import IgnoreClass, Tensor

_ONE_SCORE = (
    f" {_arguments.TWO_LOGITS} For one score per pixel and a threshold, use "
    "keras.metrics.BinaryIoU."
)


class SegmentationMetric(keras.metrics.Metric):
    """Base class of metrics that read label maps and predictions."""

    # Callbacks that monitor a metric with mode="auto" read this attribute.
    # There is no public way to say that larger values are better.
    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        ignore_class: IgnoreClass,
        name: str | None,
        dtype: Any,
    ) -> None:
        super().__init__(
            name=_arguments.optional_text(name, "name"),
            dtype=_labels.precise_dtype(dtype),
        )
        self.num_classes = _arguments.num_classes(num_classes)
        self.ignore_class = _arguments.ignore_class(
            ignore_class, self.num_classes
        )

    def merge_state(self, metrics: Iterable["SegmentationMetric"]) -> None:
        """Add the counts of other metrics.

        Use it to merge the metrics of different parts of a dataset.

        Args:
            metrics: Sequence of metrics that count the same: accuracies and IoU
                can be merged with each other, `BoundaryF1` only with
                `BoundaryF1`. All arguments that change the counts must agree.

        Raises:
            ValueError: If `metrics` is not a sequence.
            ValueError: If a metric counts something else.
        """
        own = self._counts()
        for metric in _arguments.sequence(metrics, "metrics"):
            is_known = isinstance(metric, SegmentationMetric)
            other = metric._counts() if is_known else "something else"
            if other != own:
                raise ValueError(
                    "`metrics` must count the same as the metric that they are "
                    f"merged into ({own}). Received: {metric!r}, which counts "
                    f"{other}"
                )
            for variable, added in zip(
                self.variables, metric.variables, strict=True
            ):
                variable.assign_add(added.value)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }

    def _counts(self) -> str:
        """Describe the counts; metrics with equal counts can be merged."""
        names = ", ".join(variable.name for variable in self.variables)
        return (
            f"{names} with num_classes={self.num_classes}, "
            f"ignore_class={self.ignore_class}"
        )

    def _read(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return class ids (`LEFT_OUT` at ignored pixels) and predictions."""
        y_true, predicted_ids = self._label_maps(y_true, y_pred)
        ids = _labels.class_ids(
            y_true, self.num_classes, self.ignore_class, sample_weight
        )
        return ids, ops.cast(predicted_ids, ids.dtype)

    def _label_maps(
        self, y_true: Tensor, y_pred: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return labels and predicted ids in the same shape."""
        y_true = _arguments.tensor(y_true, "y_true")
        y_pred = _arguments.tensor(y_pred, "y_pred")
        shape = tuple(y_pred.shape)
        dtype = keras.backend.standardize_dtype(y_pred.dtype)
        if keras.backend.is_float_dtype(dtype):
            num_channels = shape[-1] if shape else 0
            if num_channels is not None and num_channels < self.num_classes:
                raise ValueError(
                    "A float `y_pred` must end with an axis of at least "
                    f"num_classes={self.num_classes} logits or probabilities. "
                    f"Received: y_pred.shape={shape}. Cast class ids to an "
                    "integer dtype." + (_ONE_SCORE if num_channels == 1 else "")
                )
            # NaN counts as a prediction outside the classes.
            is_nan = ops.any(ops.isnan(y_pred), axis=-1)
            best = ops.cast(ops.argmax(y_pred, axis=-1), _backends.widest_int())
            y_pred = ops.where(is_nan, self.num_classes, best)
        elif len(shape) == len(y_true.shape) + 1 and shape[-1] == 1:
            y_pred = ops.squeeze(y_pred, axis=-1)
        y_true = _labels.label_map(y_true, ops.shape(y_pred), shape)
        return y_true, y_pred


class NamedScores:
    """Metrics with a score for each class."""

    num_classes: int

    def per_class(self) -> Tensor:
        """Return the score of each class, `(num_classes,)`; NaN if absent."""
        raise NotImplementedError

    def per_class_by_name(
        self, class_names: Sequence[str]
    ) -> dict[str, float | None]:
        """Return the score of each class by its name.

        Args:
            class_names: Sequence of one str per class, in the order of the
                class ids. For a dataset of the catalog, pass
                `data.describe(name).class_names`.

        Returns:
            A dict from class name to score. A class without a score, which does
            not occur, has None.

        Raises:
            ValueError: If `class_names` is not one distinct name for each
                class.
        """
        names = _arguments.class_names(class_names, self.num_classes)
        scores = ops.convert_to_numpy(self.per_class()).tolist()
        return {
            name: None if math.isnan(score) else score
            for name, score in zip(names, scores, strict=True)
        }
