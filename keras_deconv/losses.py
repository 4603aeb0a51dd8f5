"""Losses for semantic segmentation, which ignore void pixels.

Cross-entropy and focal loss are averaged over the pixels. Dice and Tversky loss
are averaged over the classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_deconv import _arguments, _backends, _labels
from keras_deconv._labels import IgnoreClass, Tensor

__all__ = [
    "SegmentationCrossentropy",
    "SegmentationDice",
    "SegmentationFocal",
    "SegmentationTversky",
]

_MEANS = ("sum_over_batch_size", "mean")
_REDUCTIONS = (*_MEANS, "sum", "mean_with_sample_weight", "none")


class SegmentationLoss(keras.losses.Loss):
    """Base class of losses that read label maps and ignore void pixels.

    The values of `y_pred` at void pixels change neither the loss nor its
    gradient, even if they are NaN or infinity. Their gradient is 0.
    """

    def __init__(
        self,
        ignore_class: IgnoreClass,
        from_logits: bool,
        reduction: str | None,
        name: str | None,
        dtype: Any,
    ) -> None:
        super().__init__(
            name=_arguments.optional_text(name, "name"),
            reduction=_reduction(reduction),
            dtype=_labels.precise_dtype(dtype),
        )
        self.ignore_class = _arguments.ignore_class(ignore_class)
        self.from_logits = _arguments.boolean(from_logits, "from_logits")

    def __call__(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss of the pixels that are not void."""
        y_pred = _arguments.tensor(y_pred, "y_pred")
        num_classes = self._num_classes(y_pred)
        _arguments.ignore_class(self.ignore_class, num_classes)
        y_true = _labels.label_map(
            y_true, ops.shape(y_pred)[:-1], tuple(y_pred.shape)
        )
        ids = _labels.class_ids(y_true, num_classes, self.ignore_class)

        counted = ids != _labels.LEFT_OUT
        weights = ops.cast(counted, self.dtype)
        if sample_weight is not None:
            factors = _labels.pixel_weights(sample_weight, ids)
            weights = weights * ops.cast(factors, self.dtype)
            # A pixel of weight 0 is ignored, even if it holds NaN.
            counted = ops.logical_and(counted, ops.cast(factors, "bool"))
        return self._reduce(ids, self._logits(y_pred, counted), weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {
            **super().get_config(),
            "ignore_class": self.ignore_class,
            "from_logits": self.from_logits,
            "dtype": self.dtype,
        }

    def _reduce(self, ids: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        """Return the loss; void pixels have the id `LEFT_OUT` and weight 0."""
        raise NotImplementedError

    def _reduce_counted(
        self, y_true: Tensor, y_pred: Tensor, weights: Tensor, counted: Tensor
    ) -> Tensor:
        """Reduce the losses of `call`, as if only `counted` losses existed."""
        if self.reduction in _MEANS:
            # Keras divides by the number of all losses and scales the result
            # for several replicas. The weights correct the divisor.
            num_losses = ops.cast(ops.size(counted), self.dtype)
            num_counted = ops.sum(ops.cast(counted, _backends.widest_int()))
            divisor = self._over_replicas(ops.cast(num_counted, self.dtype))
            divisor = ops.where(divisor > 0, divisor, 1.0)
            weights = weights * (num_losses / divisor)
            loss = super().__call__(y_true, y_pred, sample_weight=weights)
            # Each replica returns the loss of the whole batch.
            return self._over_replicas(loss)
        return super().__call__(y_true, y_pred, sample_weight=weights)

    def _over_replicas(self, tensor: Tensor) -> Tensor:
        """Return the mean over the replicas if the reduction is a mean."""
        if self.reduction in _MEANS:
            return _backends.mean_over_replicas(tensor)
        return tensor

    def _logits(self, y_pred: Tensor, counted: Tensor) -> Tensor:
        # Constant scores at ignored pixels keep NaN out of the gradient.
        scores = ops.where(
            ops.expand_dims(counted, axis=-1),
            ops.cast(y_pred, self.dtype),
            1.0,
        )
        if self.from_logits:
            return scores
        # Probabilities are the softmax of their logarithms.
        return ops.log(ops.maximum(scores, keras.config.epsilon()))

    def _num_classes(self, y_pred: Tensor) -> int:
        shape = tuple(y_pred.shape)
        num_classes = shape[-1] if shape else None
        if num_classes is None or num_classes < 2:
            raise ValueError(
                "`y_pred` must end with an axis of known size, with two or "
                f"more classes. Received: y_pred.shape={shape}. "
                f"{_arguments.TWO_LOGITS} For one logit per pixel, use "
                "keras.losses.BinaryCrossentropy."
            )
        return num_classes


class PixelLoss(SegmentationLoss):
    """Base class of losses of pixels with class weights.

    The loss of a batch is `sum(w[label] * loss) / num_counted`. The sum
    includes all pixels of the batch that are not void, and `num_counted` is
    their number.
    """

    def __init__(
        self,
        class_weights: Sequence[float] | Mapping[int, float] | None,
        ignore_class: IgnoreClass,
        from_logits: bool,
        reduction: str | None,
        name: str | None,
        dtype: Any,
    ) -> None:
        super().__init__(ignore_class, from_logits, reduction, name, dtype)
        self.class_weights = _arguments.class_weights(class_weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the weighted loss of each pixel, and 0 for void pixels.

        Args:
            y_true: Class ids, and -1 at void pixels.
            y_pred: Logits (..., num_classes), finite everywhere.
        """
        ids = ops.cast(y_true, _backends.widest_int())
        counted = ids != _labels.LEFT_OUT
        ids = ops.maximum(ids, 0)
        losses = self._pixel_losses(
            ops.sparse_categorical_crossentropy(ids, y_pred, from_logits=True)
        )
        if self.class_weights is not None:
            class_weights = ops.convert_to_tensor(
                self.class_weights, dtype=losses.dtype
            )
            losses = losses * ops.take(class_weights, ids)
        return ops.where(counted, losses, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {**super().get_config(), "class_weights": self.class_weights}

    def _pixel_losses(self, crossentropies: Tensor) -> Tensor:
        """Return the loss of each pixel, given its cross-entropy."""
        raise NotImplementedError

    def _reduce(self, ids: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        return self._reduce_counted(
            ids, logits, weights, counted=ids != _labels.LEFT_OUT
        )

    def _num_classes(self, y_pred: Tensor) -> int:
        num_classes = super()._num_classes(y_pred)
        weights = self.class_weights
        if weights is not None and len(weights) != num_classes:
            raise ValueError(
                "`class_weights` must hold one weight per class. Received: "
                f"{len(weights)} weights, but y_pred.shape="
                f"{tuple(y_pred.shape)} has {num_classes} classes."
            )
        return num_classes


class RegionLoss(SegmentationLoss):
    """Base class of losses of regions: 1 minus the Tversky index of each class.

    The loss of a batch is the mean over the classes.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        ignore_class: IgnoreClass,
        from_logits: bool,
        reduction: str | None,
        name: str | None,
        dtype: Any,
    ) -> None:
        super().__init__(ignore_class, from_logits, reduction, name, dtype)
        # With beta=0, the index of a class without true positives would be
        # 0 / 0.
        self.alpha = _factor(alpha, "alpha", may_be_zero=False)
        self.beta = _factor(beta, "beta", may_be_zero=False)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each class, and 0 for classes that do not occur.

        Args:
            y_true: Tensor (..., num_classes) with the weight of a pixel at its
                class and 0 at other classes. Void pixels are 0 at every class.
            y_pred: Logits (..., num_classes), finite everywhere.
        """
        pixel_axes = tuple(range(len(y_pred.shape) - 1))
        probabilities = ops.softmax(y_pred, axis=-1)
        weights = ops.sum(y_true, axis=-1, keepdims=True)
        # The index is a quotient, so means over the replicas can replace sums.
        true, predicted, overlap = (
            self._over_replicas(ops.sum(pixels, axis=pixel_axes))
            for pixels in (
                y_true,
                weights * probabilities,
                y_true * probabilities,
            )
        )
        occurs = _is_not_zero(true)
        cost = self.alpha * (predicted - overlap) + self.beta * (true - overlap)
        index = overlap / ops.where(occurs, overlap + cost, 1.0)
        return ops.where(occurs, 1.0 - index, 0.0)

    def _reduce(self, ids: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        num_classes = logits.shape[-1]
        # A pixel of weight 2 counts as two pixels.
        y_true = ops.one_hot(
            ops.maximum(ids, 0), num_classes, dtype=self.dtype
        ) * ops.expand_dims(weights, axis=-1)
        occurs = _is_not_zero(
            self._over_replicas(
                ops.sum(y_true, axis=tuple(range(len(ids.shape))))
            )
        )
        return self._reduce_counted(
            y_true, logits, ops.cast(occurs, self.dtype), counted=occurs
        )


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationCrossentropy(PixelLoss):
    """Softmax cross-entropy of pixels, with class weights and void pixels.

    Use this loss to train a segmentation model with class ids as labels. The
    loss of a batch is `sum(w[label] * cross_entropy) / num_counted`. The sum
    includes the pixels that are not void, and `num_counted` is their number.
    The divisor is neither the sum of the weights nor the number of all pixels,
    so void pixels do not reduce the gradient. (If you mark void with sample
    weights instead, Keras divides by the number of all pixels.)

    Reference: Badrinarayanan et al., 2015, "SegNet", section 3.2,
    https://arxiv.org/abs/1511.00561. The divisor is that of the authors'
    `softmax_loss_layer.cpp`, https://github.com/alexgkendall/caffe-segnet. The
    result equals theirs.

    Args:
        class_weights: None, a sequence of one finite float >= 0 per class, or a
            dict from class id to weight, for example from
            `data.median_frequency_weights`. None weights all classes with 1. A
            pixel of a class with weight 0 still counts in the divisor.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels the
            loss ignores. They may lie outside the classes (255, -1) or replace
            a class (0, 11). The default is 255.
        from_logits: bool. Whether `y_pred` holds logits (any finite values) or
            probabilities. Logits are more precise: probabilities below
            `keras.config.epsilon()` are raised to it and do not have a
            gradient. The default is True.
        reduction: `"sum_over_batch_size"` or `"mean"` returns the mean over the
            pixels that are not void, `"sum"` returns their sum.
            `"mean_with_sample_weight"` divides by the sum of their sample
            weights.
            `"none"` or None returns the loss of each pixel.
        name: str or None. Name of the loss.
        dtype: Float dtype or dtype policy of the computation. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32,
            so that sums over many pixels stay finite under `mixed_float16`.

    Call arguments:
        y_true: Tensor of class ids, of an integer dtype or integers as floats.
        y_pred: Float tensor of logits or probabilities.
        sample_weight: None, or a tensor of weights >= 0 of images or pixels.
            They do not change the divisor of the mean.

    Input shape:
        `y_true` has the shape `(batch, height, width)` or
        `(batch, height, width, 1)`, `y_pred` has the shape
        `(batch, height, width, num_classes)`. `sample_weight` has the shape
        `(batch,)`, `(batch, 1, 1)` or `(batch, height, width)`. Inputs may have
        any number of spatial axes, including 0.

    Returns:
        A scalar, or a tensor `(batch, height, width)` with `reduction="none"`,
        which is 0 at void pixels. It has the dtype of the loss.

    Raises:
        ValueError: If `class_weights` are not finite floats >= 0, or not one
            per class.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.
        ValueError: If `from_logits` is not a bool, `reduction` is not one of
            the values above, `name` is not a str or None, or `dtype` is not a
            float dtype.
        ValueError: If the shapes of `y_true` and `y_pred` do not match, for
            example for one-hot labels.
        ValueError: If `y_pred` has fewer than two classes, or more than 255
            classes with the default `ignore_class`.
        ValueError: If a label is neither a class nor void, or a sample weight
            is negative or not finite. Only eager code checks this.
        tf.errors.InvalidArgumentError: If a label, a sample weight or a shape
            is wrong, in a TensorFlow graph.

    Edge cases:
        Compiled code (XLA with `jit_compile=True`, and `jax.jit`) cannot raise
        errors. A label that is neither a class nor void then counts as void,
        and a sample weight that is negative or not finite makes the loss NaN.
        Keras compiles by default on GPUs, so check a dataset once without
        compilation.

        For a batch of only void pixels, the loss and its gradient are 0. The
        values of `y_pred` at void pixels never change the result, even if they
        are NaN or infinity.

        The replicas of a `tf.distribute` strategy count the pixels of the whole
        batch together, and each returns the loss of the whole batch. With
        `reduction="mean_with_sample_weight"`, each divides by its own sum of
        weights.

    Example:
        There are three pixels, and the last one is void. Both classes are
        equally likely, so the loss of each pixel is log(2) = 0.693:

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
            class_weights, ignore_class, from_logits, reduction, name, dtype
        )

    def _pixel_losses(self, crossentropies: Tensor) -> Tensor:
        return crossentropies


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationFocal(PixelLoss):
    """Focal loss of pixels, which reduces the weight of easy pixels.

    Use this loss if most pixels are already predicted correctly and dominate
    the cross-entropy. The loss of a pixel is
    `w[label] * (1 - p) ** gamma * -log(p)`, where `p` is the probability of its
    class. The larger `gamma`, the less easy pixels count. With `gamma=0` the
    loss equals `SegmentationCrossentropy`. The loss of a batch is the sum over
    the pixels that are not void, divided by their number.

    Reference: Lin et al., 2017, "Focal Loss for Dense Object Detection",
    equation 5, https://arxiv.org/abs/1708.02002. The authors' detector uses a
    sigmoid per class and divides by the number of assigned anchors. This loss
    uses a softmax, as `keras.losses.CategoricalFocalCrossentropy` does. The
    `alpha` of the paper is `class_weights`.

    Args:
        gamma: float >= 0. Power of `1 - p`. The default is 2, which the authors
            found best.
        class_weights: None, a sequence of one finite float >= 0 per class, or a
            dict from class id to weight, for example from
            `data.median_frequency_weights`. None weights all classes with 1. A
            pixel of a class with weight 0 still counts in the divisor.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels the
            loss ignores. They may lie outside the classes (255, -1) or replace
            a class (0, 11). The default is 255.
        from_logits: bool. Whether `y_pred` holds logits (any finite values) or
            probabilities. Logits are more precise: probabilities below
            `keras.config.epsilon()` are raised to it and do not have a
            gradient. The default is True.
        reduction: `"sum_over_batch_size"` or `"mean"` returns the mean over the
            pixels that are not void, `"sum"` returns their sum.
            `"mean_with_sample_weight"` divides by the sum of their sample
            weights.
            `"none"` or None returns the loss of each pixel.
        name: str or None. Name of the loss.
        dtype: Float dtype or dtype policy of the computation. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32,
            so that sums over many pixels stay finite under `mixed_float16`.

    Call arguments:
        y_true: Tensor of class ids, of an integer dtype or integers as floats.
        y_pred: Float tensor of logits or probabilities.
        sample_weight: None, or a tensor of weights >= 0 of images or pixels.
            They do not change the divisor of the mean.

    Input shape:
        `y_true` has the shape `(batch, height, width)` or
        `(batch, height, width, 1)`, `y_pred` has the shape
        `(batch, height, width, num_classes)`. `sample_weight` has the shape
        `(batch,)`, `(batch, 1, 1)` or `(batch, height, width)`. Inputs may have
        any number of spatial axes, including 0.

    Returns:
        A scalar, or a tensor `(batch, height, width)` with `reduction="none"`,
        which is 0 at void pixels. It has the dtype of the loss.

    Raises:
        ValueError: If `gamma` is not a finite float >= 0.
        ValueError: If `class_weights` are not finite floats >= 0, or not one
            per class.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.
        ValueError: If `from_logits` is not a bool, `reduction` is not one of
            the values above, `name` is not a str or None, or `dtype` is not a
            float dtype.
        ValueError: If the shapes of `y_true` and `y_pred` do not match, for
            example for one-hot labels.
        ValueError: If `y_pred` has fewer than two classes, or more than 255
            classes with the default `ignore_class`.
        ValueError: If a label is neither a class nor void, or a sample weight
            is negative or not finite. Only eager code checks this.
        tf.errors.InvalidArgumentError: If a label, a sample weight or a shape
            is wrong, in a TensorFlow graph.

    Edge cases:
        Compiled code (XLA with `jit_compile=True`, and `jax.jit`) cannot raise
        errors. A label that is neither a class nor void then counts as void,
        and a sample weight that is negative or not finite makes the loss NaN.
        Keras compiles by default on GPUs, so check a dataset once without
        compilation.

        For a batch of only void pixels, the loss and its gradient are 0. The
        values of `y_pred` at void pixels never change the result, even if they
        are NaN or infinity.

        The replicas of a `tf.distribute` strategy count the pixels of the whole
        batch together, and each returns the loss of the whole batch. With
        `reduction="mean_with_sample_weight"`, each divides by its own sum of
        weights.

    Example:
        There are three pixels, and the last one is void. Both classes are
        equally likely, so `p` is 0.5 and the loss of each pixel is 0.5 ** 2 *
        log(2) = 0.173:

        >>> import numpy as np
        >>> from keras_deconv.losses import SegmentationFocal
        >>> y_true = np.array([[[0, 1, 255]]])
        >>> y_pred = np.zeros((1, 1, 3, 2), "float32")
        >>> round(float(SegmentationFocal(gamma=2)(y_true, y_pred)), 3)
        0.173
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weights: Sequence[float] | Mapping[int, float] | None = None,
        ignore_class: IgnoreClass = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "segmentation_focal",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            class_weights, ignore_class, from_logits, reduction, name, dtype
        )
        self.gamma = _factor(gamma, "gamma", may_be_zero=True)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {**super().get_config(), "gamma": self.gamma}

    def _pixel_losses(self, crossentropies: Tensor) -> Tensor:
        # This is 1 - p without cancellation. The maximum avoids the infinite
        # slope of a power at 0.
        distances = ops.maximum(
            -ops.expm1(-crossentropies), keras.config.epsilon()
        )
        return ops.power(distances, self.gamma) * crossentropies


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationTversky(RegionLoss):
    """Tversky loss of regions, which weights both kinds of errors.

    Use this loss for rare classes: every class has the same weight in the mean,
    even if it has few pixels, so class weights are not needed. The loss of a
    class is

        1 - true positives / (true positives + alpha * false positives
                              + beta * false negatives)

    With the softmax probability `p` of the class at a pixel, the true positives
    are the sum of `p` over the pixels of the class. The false positives are the
    sum of `p` over the other pixels. The false negatives are the sum of `1 - p`
    over the pixels of the class. The sums include all pixels of the batch that
    are not void; batches of one image give sums per image. The loss of a batch
    is the mean over the classes that occur in its labels.

    With `alpha=beta=1` it is the Jaccard (IoU) loss, with `alpha=beta=0.5` the
    Dice loss. With `beta > alpha` the model finds more pixels of rare classes,
    at the cost of more false positives.

    Reference: Salehi et al., 2017, "Tversky loss function for image
    segmentation using 3D fully convolutional deep networks",
    https://arxiv.org/abs/1706.05721. As in the paper, `alpha` weights false
    positives. In `keras.losses.tversky` (Keras 3.15) `alpha` weights false
    negatives, although its documentation says otherwise. The authors have two
    classes and use only one of them; this loss averages all classes that occur.

    Args:
        alpha: float > 0. Weight of false positives. The default is 0.3.
        beta: float > 0. Weight of false negatives. The default is 0.7. The
            authors found 0.3 and 0.7 best.
        ignore_class: int, tuple of ints or None. Void labels, whose pixels the
            loss ignores. They may lie outside the classes (255, -1) or replace
            a class (0, 11). The default is 255.
        from_logits: bool. Whether `y_pred` holds logits (any finite values) or
            probabilities, which are normalized to sum to 1. Probabilities below
            `keras.config.epsilon()` are raised to it and do not have a
            gradient. The default is True.
        reduction: `"sum_over_batch_size"`, `"mean"` or
            `"mean_with_sample_weight"` returns the mean over the classes that
            occur in the labels, `"sum"` returns their sum. `"none"` or None
            returns the loss of each class.
        name: str or None. Name of the loss.
        dtype: Float dtype or dtype policy of the computation. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32,
            so that sums over many pixels stay finite under `mixed_float16`.

    Call arguments:
        y_true: Tensor of class ids, of an integer dtype or integers as floats.
        y_pred: Float tensor of logits or probabilities.
        sample_weight: None, or a tensor of weights >= 0 of images or pixels. A
            pixel of weight 2 counts as two pixels in every sum.

    Input shape:
        `y_true` has the shape `(batch, height, width)` or
        `(batch, height, width, 1)`, `y_pred` has the shape
        `(batch, height, width, num_classes)`. `sample_weight` has the shape
        `(batch,)`, `(batch, 1, 1)` or `(batch, height, width)`. Inputs may have
        any number of spatial axes, including 0.

    Returns:
        A scalar, or a tensor `(num_classes,)` with `reduction="none"`, which is
        0 for classes that do not occur. It has the dtype of the loss.

    Raises:
        ValueError: If `alpha` or `beta` is not a finite float > 0.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.
        ValueError: If `from_logits` is not a bool, `reduction` is not one of
            the values above, `name` is not a str or None, or `dtype` is not a
            float dtype.
        ValueError: If the shapes of `y_true` and `y_pred` do not match, for
            example for one-hot labels.
        ValueError: If `y_pred` has fewer than two classes, or more than 255
            classes with the default `ignore_class`.
        ValueError: If a label is neither a class nor void, or a sample weight
            is negative or not finite. Only eager code checks this.
        tf.errors.InvalidArgumentError: If a label, a sample weight or a shape
            is wrong, in a TensorFlow graph.

    Edge cases:
        A class without labeled pixels in the batch is not part of the mean. If
        it is predicted anyway, the losses of the classes that lose these pixels
        increase.

        The loss of a batch is not the mean of the losses of its images. Use
        batches that contain several classes.

        Compiled code (XLA with `jit_compile=True`, and `jax.jit`) cannot raise
        errors. A label that is neither a class nor void then counts as void,
        and a sample weight that is negative or not finite makes the loss NaN.
        Keras compiles by default on GPUs, so check a dataset once without
        compilation.

        For a batch of only void pixels, the loss and its gradient are 0. The
        values of `y_pred` at void pixels never change the result, even if they
        are NaN or infinity.

        The replicas of a `tf.distribute` strategy sum over the whole batch
        together, except with `reduction="sum"`, `"none"` and
        `"mean_with_sample_weight"`.

    Example:
        Class 0 has two pixels, of which one is predicted correctly. Class 1 has
        one pixel, which is predicted correctly. The last pixel is void. Both
        Jaccard indices are 1/2:

        >>> import numpy as np
        >>> from keras_deconv.losses import SegmentationTversky
        >>> y_true = np.array([[[0, 0, 1, 255]]])
        >>> y_pred = np.array(
        ...     [[[[9.0, -9], [-9, 9], [-9, 9], [9, -9]]]], "float32")
        >>> jaccard = SegmentationTversky(alpha=1, beta=1)
        >>> round(float(jaccard(y_true, y_pred)), 3)
        0.5
        >>> cautious = SegmentationTversky(alpha=3, beta=1)
        >>> round(float(cautious(y_true, y_pred)), 3)  # (1/2 + 3/4) / 2
        0.625
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        ignore_class: IgnoreClass = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "segmentation_tversky",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            alpha, beta, ignore_class, from_logits, reduction, name, dtype
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain Python values."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
        }


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationDice(RegionLoss):
    """Dice loss of regions, averaged over the classes.

    Use this loss for rare classes: every class has the same weight in the mean,
    even if it has few pixels, so class weights are not needed. The loss of a
    class is `1 - 2 * overlap / (true + predicted)`. `overlap` is the sum of the
    softmax probabilities of the class over its pixels, `predicted` is their sum
    over all pixels, and `true` is the number of its pixels. The sums include
    all pixels of the batch that are not void. The loss of a batch is the mean
    over the classes that occur in its labels. It equals
    `SegmentationTversky(alpha=0.5, beta=0.5)`.

    Reference: Milletari et al., 2016, "V-Net", section 3,
    https://arxiv.org/abs/1606.04797. The authors have one class, sum over each
    volume, and square the probabilities in the denominator. This loss does not
    square them, as `keras.losses.Dice` does not. Keras also sums over the
    classes, so that large classes dominate.

    Args:
        ignore_class: int, tuple of ints or None. Void labels, whose pixels the
            loss ignores. They may lie outside the classes (255, -1) or replace
            a class (0, 11). The default is 255.
        from_logits: bool. Whether `y_pred` holds logits (any finite values) or
            probabilities, which are normalized to sum to 1. Probabilities below
            `keras.config.epsilon()` are raised to it and do not have a
            gradient. The default is True.
        reduction: `"sum_over_batch_size"`, `"mean"` or
            `"mean_with_sample_weight"` returns the mean over the classes that
            occur in the labels, `"sum"` returns their sum. `"none"` or None
            returns the loss of each class.
        name: str or None. Name of the loss.
        dtype: Float dtype or dtype policy of the computation. None means
            `keras.config.floatx()`. float16 and bfloat16 are raised to float32,
            so that sums over many pixels stay finite under `mixed_float16`.

    Call arguments:
        y_true: Tensor of class ids, of an integer dtype or integers as floats.
        y_pred: Float tensor of logits or probabilities.
        sample_weight: None, or a tensor of weights >= 0 of images or pixels. A
            pixel of weight 2 counts as two pixels in every sum.

    Input shape:
        `y_true` has the shape `(batch, height, width)` or
        `(batch, height, width, 1)`, `y_pred` has the shape
        `(batch, height, width, num_classes)`. `sample_weight` has the shape
        `(batch,)`, `(batch, 1, 1)` or `(batch, height, width)`. Inputs may have
        any number of spatial axes, including 0.

    Returns:
        A scalar, or a tensor `(num_classes,)` with `reduction="none"`, which is
        0 for classes that do not occur. It has the dtype of the loss.

    Raises:
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.
        ValueError: If `from_logits` is not a bool, `reduction` is not one of
            the values above, `name` is not a str or None, or `dtype` is not a
            float dtype.
        ValueError: If the shapes of `y_true` and `y_pred` do not match, for
            example for one-hot labels.
        ValueError: If `y_pred` has fewer than two classes, or more than 255
            classes with the default `ignore_class`.
        ValueError: If a label is neither a class nor void, or a sample weight
            is negative or not finite. Only eager code checks this.
        tf.errors.InvalidArgumentError: If a label, a sample weight or a shape
            is wrong, in a TensorFlow graph.

    Edge cases:
        A class without labeled pixels in the batch is not part of the mean. If
        it is predicted anyway, the losses of the classes that lose these pixels
        increase.

        The loss of a batch is not the mean of the losses of its images. Use
        batches that contain several classes.

        Compiled code (XLA with `jit_compile=True`, and `jax.jit`) cannot raise
        errors. A label that is neither a class nor void then counts as void,
        and a sample weight that is negative or not finite makes the loss NaN.
        Keras compiles by default on GPUs, so check a dataset once without
        compilation.

        For a batch of only void pixels, the loss and its gradient are 0. The
        values of `y_pred` at void pixels never change the result, even if they
        are NaN or infinity.

        The replicas of a `tf.distribute` strategy sum over the whole batch
        together, except with `reduction="sum"`, `"none"` and
        `"mean_with_sample_weight"`.

    Example:
        Class 0 has two pixels, of which one is predicted correctly. Class 1 has
        one pixel, which is predicted correctly. The last pixel is void. Both
        Dice scores are 2 * 1 / (2 + 1):

        >>> import numpy as np
        >>> from keras_deconv.losses import SegmentationDice
        >>> y_true = np.array([[[0, 0, 1, 255]]])
        >>> y_pred = np.array(
        ...     [[[[9.0, -9], [-9, 9], [-9, 9], [9, -9]]]], "float32")
        >>> round(float(SegmentationDice()(y_true, y_pred)), 3)
        0.333
    """

    def __init__(
        self,
        ignore_class: IgnoreClass = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "segmentation_dice",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            0.5, 0.5, ignore_class, from_logits, reduction, name, dtype
        )


def _reduction(value: str | None) -> str | None:
    if value is None:
        return None
    return _arguments.choice(value, "reduction", _REDUCTIONS)


def _is_not_zero(weight: Tensor) -> Tensor:
    """Return whether a sum of weights is > 0 or NaN, which must not be lost."""
    return ops.logical_not(weight <= 0)


def _factor(value: float, name: str, may_be_zero: bool) -> float:
    """Return a finite float > 0, or >= 0 if `may_be_zero`."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not 0 <= result <= _arguments.FLOAT32_MAX or (
        result == 0 and not may_be_zero
    ):
        rule = ">= 0" if may_be_zero else "> 0"
        raise ValueError(
            f"`{name}` must be a finite float {rule}. "
            f"Received: {name}={value!r}"
        )
    return result
