"""Losses for label maps.

All read labels and predictions alike; they differ in what they sum. Losses of
pixels (cross-entropy, focal) are averaged over the pixels, losses of regions
(Dice, Tversky) over the classes.
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
    """Reads labels and predictions; subclasses say what they cost.

    Void pixels are as good as removed: what `y_pred` holds there, NaN and inf
    included, changes neither the loss nor its gradient, and is given none.

    Arguments, call arguments, errors and edge cases are described where users
    read them, in `SegmentationCrossentropy`.
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
        """Reduce the losses of what is not void."""
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
            # What weighs nothing is as good as removed, NaN included.
            counted = ops.logical_and(counted, ops.cast(factors, "bool"))
        return self._reduce(ids, self._logits(y_pred, counted), weights)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, as plain Python values."""
        return {
            **super().get_config(),
            "ignore_class": self.ignore_class,
            "from_logits": self.from_logits,
            "dtype": self.dtype,
        }

    def _reduce(self, ids: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        """Loss of class ids, with `LEFT_OUT` and weight 0 where void."""
        raise NotImplementedError

    def _reduce_counted(
        self, y_true: Tensor, y_pred: Tensor, weights: Tensor, counted: Tensor
    ) -> Tensor:
        """Reduce what `call` gives, as if only `counted` losses were there."""
        if self.reduction in _MEANS:
            # Keras divides by the number of all losses. Leaving the division
            # to it also leaves it the scaling for several replicas.
            num_losses = ops.cast(ops.size(counted), self.dtype)
            num_counted = ops.sum(ops.cast(counted, _backends.widest_int()))
            divisor = self._over_replicas(ops.cast(num_counted, self.dtype))
            divisor = ops.where(divisor > 0, divisor, 1.0)
            weights = weights * (num_losses / divisor)
            loss = super().__call__(y_true, y_pred, sample_weight=weights)
            # So each replica tells the loss of the whole batch.
            return self._over_replicas(loss)
        return super().__call__(y_true, y_pred, sample_weight=weights)

    def _over_replicas(self, tensor: Tensor) -> Tensor:
        """Mean over the replicas, for losses that are means of a batch."""
        if self.reduction in _MEANS:
            return _backends.mean_over_replicas(tensor)
        return tensor

    def _logits(self, y_pred: Tensor, counted: Tensor) -> Tensor:
        # Harmless scores at the pixels left out keep NaN out of the gradient.
        scores = ops.where(
            ops.expand_dims(counted, axis=-1),
            ops.cast(y_pred, self.dtype),
            1.0,
        )
        if self.from_logits:
            return scores
        # Probabilities are the softmax of their own logarithms.
        return ops.log(ops.maximum(scores, keras.config.epsilon()))

    def _num_classes(self, y_pred: Tensor) -> int:
        shape = tuple(y_pred.shape)
        num_classes = shape[-1] if shape else None
        if num_classes is None or num_classes < 2:
            raise ValueError(
                "`y_pred` must end with an axis of two or more classes, whose "
                f"size is known. Received: y_pred.shape={shape}. "
                f"{_arguments.TWO_LOGITS} "
                "keras.losses.BinaryCrossentropy takes one logit per pixel."
            )
        return num_classes


class PixelLoss(SegmentationLoss):
    """A loss of every pixel, times the weight of its class.

    The loss of a batch is `sum(w[label] * loss) / num_counted`: the sum runs
    over the pixels of the whole batch that are not void, and `num_counted` is
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
        """Weighted loss of every pixel, 0 where none is counted.

        Args:
            y_true: Class ids, and -1 at pixels to leave out.
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
        """Constructor arguments, as plain Python values."""
        return {**super().get_config(), "class_weights": self.class_weights}

    def _pixel_losses(self, crossentropies: Tensor) -> Tensor:
        """Loss of every pixel, given its cross-entropy."""
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
    """One minus the Tversky index of every class, averaged over the classes.

    Sums and mean are described in `SegmentationTversky`.
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
        # With beta 0 the index of a class that is not found would be 0 / 0.
        self.alpha = _factor(alpha, "alpha", may_be_zero=False)
        self.beta = _factor(beta, "beta", may_be_zero=False)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Loss of every class, 0 where it does not occur.

        Args:
            y_true: Tensor (..., num_classes): the weight of a pixel at its
                class, 0 elsewhere and everywhere at pixels to leave out.
            y_pred: Logits (..., num_classes), finite everywhere.
        """
        pixel_axes = tuple(range(len(y_pred.shape) - 1))
        probabilities = ops.softmax(y_pred, axis=-1)
        weights = ops.sum(y_true, axis=-1, keepdims=True)
        # The index is a quotient: means over the replicas do as well as sums.
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
            no numbers, `ignore_class` no ints, `from_logits` not a bool. At
            call: shapes that do not match, one-hot labels, fewer than two
            classes, more than 255 classes with the default `ignore_class`,
            `class_weights` of another length; in eager code also labels that
            are neither class nor void, and sample weights that are negative
            or not finite.
        tf.errors.InvalidArgumentError: Such labels or sample weights in a
            TensorFlow graph, and shapes that do not match where they are not
            known before.

    Edge cases:
        Compiled code (XLA, `jit_compile=True`, and `jax.jit`) cannot raise:
        there, labels that are neither class nor void count as void, and a
        sample weight that is negative or not finite makes the loss NaN. Keras
        compiles by default on GPUs, so check a dataset once without.
        A batch of void alone gives loss 0 and gradient 0. What `y_pred` holds
        at a void pixel never matters, NaN and inf included.
        Several replicas (`tf.distribute`) count the pixels of the whole batch
        together, and each of them gives the loss of the whole batch; with
        `reduction="mean_with_sample_weight"` each divides by its own sum.

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
            class_weights, ignore_class, from_logits, reduction, name, dtype
        )

    def _pixel_losses(self, crossentropies: Tensor) -> Tensor:
        return crossentropies


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationFocal(PixelLoss):
    """Focal loss per pixel: cross-entropy that cares less for easy pixels.

    The loss of a pixel is `w[label] * (1 - p) ** gamma * -log(p)`, where `p` is
    the probability of its class. Pixels that are right already, most of them
    in a label map, hardly count; `gamma` says how little. With `gamma=0` it is
    `SegmentationCrossentropy`. The loss of a batch is the sum over all its
    pixels that are not void, divided by their number. A class that does not
    occur adds nothing.

    Reference: Lin et al., 2017, "Focal Loss for Dense Object Detection",
    equation 5. https://arxiv.org/abs/1708.02002. The authors' detector uses a
    sigmoid per class and divides by the number of assigned anchors; here, as
    in `keras.losses.CategoricalFocalCrossentropy`, it is a softmax. Their
    `alpha` is `class_weights`.

    Args:
        gamma: float >= 0. Power of `1 - p`. The authors found 2 best.
        class_weights: Sequence of one finite float >= 0 per class, or a dict
            from class id to weight, or None for 1 everywhere.
        ignore_class: int, tuple of ints or None. Labels that are void.
        from_logits: Whether `y_pred` holds logits or probabilities.
        reduction: As in `SegmentationCrossentropy`.
        name: Name of the loss.
        dtype: Dtype to compute in; half precision is raised to float32.

    Call arguments, shapes, results, errors and edge cases are those of
    `SegmentationCrossentropy`; `gamma` negative or not finite is an error.

    Example:
        Three pixels, the last one void. Both classes are equally likely, so
        `p` is 0.5 and each pixel costs 0.5 ** 2 * log(2) = 0.173:

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
        """Constructor arguments, as plain Python values."""
        return {**super().get_config(), "gamma": self.gamma}

    def _pixel_losses(self, crossentropies: Tensor) -> Tensor:
        # 1 - p without cancellation. The slope of a power may be inf at 0.
        distances = ops.maximum(
            -ops.expm1(-crossentropies), keras.config.epsilon()
        )
        return ops.power(distances, self.gamma) * crossentropies


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationTversky(RegionLoss):
    """Tversky loss: overlap of regions, with a cost for either error.

    The loss of a class is

        1 - true positives / (true positives + alpha * false positives
                              + beta * false negatives)

    where, with `p` the softmax probability of the class at a pixel, the true
    positives are the sum of `p` over the pixels of the class, the false
    positives the sum of `p` over the other pixels, and the false negatives the
    sum of `1 - p` over the pixels of the class. The sums run over all pixels
    of the whole batch that are not void; batches of one image give sums per
    image. The loss of a batch is the mean over the classes that occur in its
    labels. Every class counts alike, however few pixels it has, so class
    weights are not needed.

    With `alpha=beta=1` it is the Jaccard (IoU) loss, with `alpha=beta=0.5` the
    Dice loss. `beta > alpha` finds more of rare classes, at the price of false
    alarms.

    Reference: Salehi et al., 2017, "Tversky loss function for image
    segmentation using 3D fully convolutional deep networks".
    https://arxiv.org/abs/1706.05721. As there, `alpha` weighs false positives;
    in `keras.losses.tversky` (Keras 3.15) it weighs false negatives, whatever
    its documentation says. The authors have two classes and keep one of them;
    here all that occur are averaged.

    Args:
        alpha: float > 0. Cost of false positives.
        beta: float > 0. Cost of false negatives. The authors found 0.3 and
            0.7 best.
        ignore_class: int, tuple of ints or None. Labels that are void.
        from_logits: Whether `y_pred` holds logits (of any finite size) or, if
            False, probabilities, which are made to sum to 1.
        reduction: `"sum_over_batch_size"`, `"mean"` or
            `"mean_with_sample_weight"` for the mean over the classes that
            occur, `"sum"` for their sum, `"none"` or None for the loss of
            every class, shape (num_classes,), 0 for one that does not occur.
        name: Name of the loss.
        dtype: Dtype to compute in; half precision is raised to float32.

    Call arguments:
        y_true: Class ids of any integer dtype, or whole numbers as floats.
        y_pred: Float tensor of logits or probabilities.
        sample_weight: Factors for images or pixels: a pixel of weight 2 counts
            as two pixels in every sum.

    Input shape:
        As in `SegmentationCrossentropy`.

    Returns:
        Scalar, or with `reduction="none"` a tensor (num_classes,).

    Raises:
        ValueError: At construction: `alpha` or `beta` not finite or <= 0.
            Everything else as in `SegmentationCrossentropy`.

    Edge cases:
        A class without a labeled pixel in the batch is left out of the mean.
        Where it is predicted all the same, the classes it is taken from lose.
        The loss of a batch is not the mean of the losses of its images; use
        batches that hold several classes. Several replicas sum over the whole
        batch together, but for `reduction="sum"`, `"none"` and
        `"mean_with_sample_weight"`.
        Stray labels, void and batches of void alone are treated as by
        `SegmentationCrossentropy`.

    Example:
        Class 0 has two pixels, one of them found; class 1 has one pixel,
        found; the last pixel is void. Jaccard indices: 1/2 and 1/2.

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
        """Constructor arguments, as plain Python values."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
        }


@keras.saving.register_keras_serializable("keras_deconv")
class SegmentationDice(RegionLoss):
    """Dice loss: `1 - 2 * overlap / (true + predicted)`, mean over classes.

    For each class, `overlap` is the sum of its softmax probabilities over its
    pixels, `predicted` their sum over all pixels, and `true` the number of its
    pixels. The sums run over all pixels of the whole batch that are not void,
    and the mean over the classes that occur in its labels. Every class counts
    alike, however few pixels it has, so class weights are not needed.

    Reference: Milletari et al., 2016, "V-Net", section 3.
    https://arxiv.org/abs/1606.04797. The authors have one class, sum over each
    volume, and square the probabilities in the denominator; here, as in
    `keras.losses.Dice`, they are not squared. Keras sums over the classes,
    too, so large ones dominate there.

    Args:
        ignore_class: int, tuple of ints or None. Labels that are void.
        from_logits: Whether `y_pred` holds logits or probabilities.
        reduction: As in `SegmentationTversky`.
        name: Name of the loss.
        dtype: Dtype to compute in; half precision is raised to float32.

    It is `SegmentationTversky(alpha=0.5, beta=0.5)`: call arguments, shapes,
    results, errors and edge cases (classes that do not occur) are those.

    Example:
        Class 0 has two pixels, one of them found; class 1 has one pixel,
        found; the last pixel is void. Dice is 2 * 1 / (2 + 1) and
        2 * 1 / (1 + 2).

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
    """Whether a sum of weights is above 0, or NaN, which must not be lost."""
    return ops.logical_not(weight <= 0)


def _factor(value: float, name: str, may_be_zero: bool) -> float:
    """A finite float above 0, or 0 where allowed."""
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
