"""Statistics of batch normalization, computed with the final weights."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_deconv import _arguments, _backends, _locks
from keras_deconv._graphs import batch_norms, every_layer

__all__ = ["recompute_batch_statistics"]


def recompute_batch_statistics(
    model: keras.Model,
    dataset: Iterable[Any],
    *,
    steps: int | None = None,
    verbose: int = 1,
) -> None:
    """Set the statistics of batch normalization by a pass over a dataset.

    Use it after training, before you predict or export: the moving averages of
    the training lag behind the weights. This function runs the model over a
    dataset as training does, but without changing weights. It sets the mean and
    variance of each batch normalization to the averages over the batches.

    Reference: the SegNet authors do the same before testing
    (Scripts/compute_bn_statistics.py of
    https://github.com/alexgkendall/SegNet-Tutorial). In contrast to their
    script, a smaller last batch counts in proportion to its size, and batches
    do not count twice.

    Args:
        model: Built `keras.Model`, which is changed in place. All batch
            normalization layers are updated, including those in inner models
            and layers. Layers with `trainable=False` keep their statistics, as
            in training. Dropout is on, as in training.
        dataset: `tf.data.Dataset` or another iterable of batches. A batch
            consists of images, or is a tuple that begins with images, as for
            `fit`. Use training images and the batch size of the training,
            because the variance within smaller batches is smaller.
        steps: int >= 1, or None. Maximum number of batches to read. None reads
            all of them; a dataset that repeats indefinitely requires an int.
        verbose: int. 0 for silent, 1 for a progress bar. The bar does not show
            the total if the dataset does not know its length.

    Raises:
        ValueError: If `model` is not a built `keras.Model`, or does not have a
            batch normalization layer with `trainable=True`.
        ValueError: If `dataset` is not an iterable of batches, or is empty.
        ValueError: If `steps` is not an int >= 1, or is None for a dataset that
            repeats indefinitely.
        ValueError: If a batch makes a mean or variance NaN or infinite.

    Edge cases:
        - After an error, the statistics are the same as before the call.
        - A layer that the model calls several times gets the average over its
          calls. A layer that is not called keeps its statistics.
        - Statistics that are NaN or infinite before the call are replaced.
        - While a batch is processed, functions of `keras_deconv.inference` in
          other threads wait, and then use the statistics from before. Calls of
          the model itself, its `predict` and its `fit` do not wait: do not use
          them in other threads until this function returns.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNetBasic((16, 16, 3), 4)
        >>> norm = model.get_layer("block1_conv1_norm")
        >>> images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3))
        >>> keras_deconv.models.recompute_batch_statistics(
        ...     model, [images[:4], images[4:]], verbose=0
        ... )
        >>> bool(np.any(np.asarray(norm.moving_mean) != 0))  # 0 before
        True
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "`model` must be a keras.Model that is built. Call it on a batch "
            f"first. Received: model={model!r}"
        )
    dataset = _arguments.batches(dataset, "dataset")
    if steps is None:
        steps = _num_batches(dataset)
    else:
        steps = _arguments.positive_int(steps, "steps")
    norms = [n for n in batch_norms(model) if n.trainable and n.built]
    if not norms:
        raise ValueError(
            "`model` must have a BatchNormalization layer with trainable=True. "
            f"Received: {model.name!r}, which does not have one"
        )
    totals: list[Any] = [0.0] * len(norms)
    weights = [0] * len(norms)
    step = 0
    progress = keras.utils.Progbar(steps, verbose=_arguments.verbose(verbose))
    for step, batch in enumerate(dataset, start=1):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        size = _num_images(images)
        for i, measured in enumerate(_measure(model, norms, images)):
            if not np.isfinite(measured).all():
                raise ValueError(
                    "`dataset` must yield batches for which the values in "
                    f"the model are finite. Received: batch {step}, counted "
                    f"from 1, for which the mean or variance in "
                    f"{norms[i].name!r} is NaN or infinite. Look for NaN in "
                    "the batch and in the weights."
                )
            totals[i] += size * sum(measured)
            weights[i] += size * len(measured)
        progress.update(step)
        if step == steps:
            break
    if step == 0:
        raise ValueError(
            "`dataset` must yield at least one batch of images. Received: "
            f"{dataset!r}, which is empty"
        )
    with _locks.held(every_layer(model)):
        for norm, total, weight in zip(norms, totals, weights, strict=True):
            if weight:
                _set_statistics(norm, total / weight)


def _num_images(images: Any) -> int:
    parts = keras.tree.flatten(images)
    shape = tuple(getattr(parts[0], "shape", ())) if parts else ()
    if not shape:
        raise ValueError(
            "`dataset` must yield batches of images, alone or with masks. "
            f"Received: a batch of type {type(images).__name__}"
        )
    return int(shape[0])


def _num_batches(dataset: Any) -> int | None:
    """Return the length of a finite dataset, or None if it is unknown."""
    try:
        return len(dataset)
    except TypeError:
        cardinality = getattr(dataset, "cardinality", lambda: None)()
    if cardinality == -1:  # tf.data.INFINITE_CARDINALITY
        raise ValueError(
            "`steps` must be an int >= 1 for a `dataset` that repeats "
            "indefinitely. Received: steps=None"
        )
    return None


def _measure(
    model: keras.Model, norms: Iterable[Any], images: Any
) -> list[list[np.ndarray]]:
    """Return the statistics of each call of each normalization for one batch.

    The model is restored before the lock is released, so that predictions in
    other threads do not use the statistics of one batch.
    """
    with (
        _locks.held(every_layer(model)),
        contextlib.ExitStack() as stack,
        _backends.no_gradients(),
    ):
        calls = [stack.enter_context(_measuring(norm)) for norm in norms]
        model(images, training=True)
    return calls


@contextlib.contextmanager
def _measuring(norm: Any) -> Iterator[list[np.ndarray]]:
    """Yield a list that collects the statistics of each call, then restore."""
    call, momentum, before = norm.call, norm.momentum, _statistics(norm)
    measured = []

    def measure(*args: Any, **options: Any) -> Any:
        outputs = call(*args, **options)
        measured.append(_statistics(norm))
        return outputs

    # With momentum 0, a call multiplies the previous statistics by 0, and 0
    # times NaN is NaN.
    finite = np.where(np.isfinite(before), before, [[0.0], [1.0]])
    _set_statistics(norm, finite)
    norm.momentum = 0.0
    norm.call = measure
    try:
        yield measured
    finally:
        del norm.call
        norm.momentum = momentum
        _set_statistics(norm, before)


def _statistics(norm: Any) -> np.ndarray:
    """Return the mean and variance of a batch normalization, in two rows."""
    values = (norm.moving_mean, norm.moving_variance)
    return np.stack([keras.ops.convert_to_numpy(v) for v in values])


def _set_statistics(norm: Any, statistics: np.ndarray) -> None:
    mean, variance = statistics
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
