"""Losses for label maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_deconv import backends, labels
from keras_deconv.labels import IgnoreClass, Tensor

__all__ = ["SegmentationCrossentropy"]


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationCrossentropy(keras.losses.Loss):
    """Softmax cross-entropy per pixel, with class weights and void pixels.

    The loss of a batch is `sum(w[label] * cross_entropy) / num_counted`: the
    sum runs over the pixels that are not void, and `num_counted` is their
    number. It is neither the sum of the weights nor the number of all pixels,
    so void shrinks no gradient. (Keras divides by all pixels when void is
    expressed with sample weights.)

    Reference: Badrinarayanan et al., 2015, "SegNet", section 3.2.
    https://arxiv.org/abs/1511.00561. The divisor is that of the authors'
    `softmax_loss_layer.cpp`, https://github.com/alexgkendall/caffe-segnet.
    No differences.

    Args:
        class_weights: Sequence of one finite float >= 0 per class, or a dict
            from class id to weight, for example
            median-frequency weights, or None for 1 everywhere. A pixel whose
            class weighs 0 still counts in the divisor.
        ignore_class: int, tuple of ints or None. Labels that are void. They
            may lie outside the classes (255, -1) or replace one (0, 11).
        from_logits: Whether `y_pred` holds logits (of any finite size) or, if
            False, probabilities. Prefer logits: probabilities below
            `keras.config.epsilon()` are raised to it and have no gradient.
        reduction: `"sum_over_batch_size"` or `"mean"` as above, `"sum"`
            without the divisor, `"mean_with_sample_weight"` to divide by the
            sum of the sample weights of the pixels that are not void, `"none"`
            or None for the loss of every pixel.
        name: Name of the loss.
        dtype: Dtype to compute in; None means `keras.config.floatx()`. Half
            precision is raised to float32, which keeps a sum over many pixels
            finite, so the loss is safe under `mixed_float16`.

    Call arguments:
        y_true: Class ids of any integer dtype, or whole numbers as floats.
        y_pred: Float tensor of logits or probabilities.
        sample_weight: Factors for images or pixels. They do not change the
            divisor.

    Input shape:
        `y_true`: (batch, height, width) or (batch, height, width, 1).
        `y_pred`: (batch, height, width, num_classes). `sample_weight`:
        (batch,), (batch, 1, 1) or (batch, height, width). Any number of
        spatial axes will do, none too.

    Returns:
        Scalar, or with `reduction="none"` a tensor (batch, height, width) that
        is 0 at void pixels. It has the dtype of the loss.

    Raises:
        ValueError: At construction: `class_weights` negative, not finite or
            no numbers, `ignore_class` no ints. At call: shapes that do not
            match, one-hot labels, fewer than two classes, `class_weights` of
            another length; in eager code also labels that are neither class
            nor void.
        tf.errors.InvalidArgumentError: Such labels in a TensorFlow graph.

    Edge cases:
        Compiled code (XLA, `jit_compile=True`, and `jax.jit`) cannot raise:
        there, labels that are neither class nor void count as void. Keras
        compiles by default on GPUs, so check a data set once without.
        A batch of void alone gives loss 0 and gradient 0. What `y_pred` holds
        at a void pixel never matters, NaN and inf included.
        Several replicas each divide by their own number of pixels; their
        losses are averaged, as Keras does.

    Example:
        Three pixels, the last one void; both classes are equally likely
        everywhere, so every pixel costs log(2) = 0.693:

        >>> import numpy as np
        >>> from keras_deconv.losses import SegmentationCrossentropy
        >>> y_true = np.array([[[0, 1, 255]]])
        >>> y_pred = np.zeros((1, 1, 3, 2), "float32")
        >>> round(float(SegmentationCrossentropy()(y_true, y_pred)), 3)
        0.693
        >>> weighted = SegmentationCrossentropy(class_weights=[1, 3])
        >>> round(float(weighted(y_true, y_pred)), 3)  # (1 + 3) * 0.693 / 2
        1.386
    """

    def __init__(
        self,
        class_weights: Sequence[float] | Mapping[int, float] | None = None,
        ignore_class: IgnoreClass = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "segmentation_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            name=name, reduction=reduction, dtype=labels.precise_dtype(dtype)
        )
        self.class_weights = labels.class_weights(class_weights)
        self.ignore_class = labels.ignore_class(ignore_class)
        self.from_logits = from_logits

    def __call__(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Reduce the losses of the pixels that are not void."""
        y_pred = ops.convert_to_tensor(y_pred)
        num_classes = self._num_classes(y_pred)
        shape = tuple(y_pred.shape)
        y_true = labels.label_map(y_true, shape[:-1], shape)
        ids = labels.class_ids(y_true, num_classes, self.ignore_class)

        counted = ids != labels.LEFT_OUT
        weights = ops.cast(counted, self.dtype)
        if sample_weight is not None:
            factors = labels.pixel_weights(sample_weight, ids)
            weights = weights * ops.cast(factors, self.dtype)
        if self.reduction in ("sum_over_batch_size", "mean"):
            # Keras divides by the number of all pixels. Leaving the division
            # to it also leaves it the scaling for several replicas.
            num_pixels = ops.cast(ops.size(ids), self.dtype)
            num_counted = ops.sum(ops.cast(counted, ids.dtype))
            divisor = ops.cast(ops.maximum(num_counted, 1), self.dtype)
            weights = weights * (num_pixels / divisor)
        return super().__call__(ids, y_pred, sample_weight=weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Weighted cross-entropy of every pixel, 0 where none is counted.

        Args:
            y_true: Class ids, and -1 at pixels to leave out.
            y_pred: Logits or probabilities (..., num_classes).
        """
        ids = ops.cast(y_true, backends.widest_int())
        counted = ids != labels.LEFT_OUT
        ids = ops.maximum(ids, 0)
        # Harmless scores at the pixels left out keep NaN out of the gradient.
        scores = ops.where(ops.expand_dims(counted, axis=-1), y_pred, 1.0)
        if not self.from_logits:
            # Probabilities are the softmax of their own logarithms.
            scores = ops.log(ops.maximum(scores, keras.config.epsilon()))
        losses = ops.sparse_categorical_crossentropy(
            ids, scores, from_logits=True
        )
        if self.class_weights is not None:
            class_weights = ops.convert_to_tensor(
                self.class_weights, dtype=losses.dtype
            )
            losses = losses * ops.take(class_weights, ids)
        return ops.where(counted, losses, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, as plain Python values."""
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "ignore_class": self.ignore_class,
            "from_logits": self.from_logits,
            "dtype": self.dtype,
        }

    def _num_classes(self, y_pred: Tensor) -> int:
        shape = tuple(y_pred.shape)
        num_classes = shape[-1] if shape else None
        if num_classes is None or num_classes < 2:
            raise ValueError(
                "`y_pred` must end with an axis of two or more classes, whose "
                "size is known. For a single score per pixel use "
                "keras.losses.BinaryCrossentropy. "
                f"Received: y_pred.shape={shape}"
            )
        weights = self.class_weights
        if weights is not None and len(weights) != num_classes:
            raise ValueError(
                "`class_weights` must hold one weight per class. Received: "
                f"{len(weights)} weights, but y_pred.shape={shape} has "
                f"{num_classes} classes."
            )
        return num_classes
