"""Statistics of batch normalization, measured with the final weights."""

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
    """Measure what batch normalization expects, with the final weights.

    Training leaves moving averages, which lag behind the weights. This runs
    the model over a data set as training does, but without learning, and sets
    mean and variance of each batch normalization to the averages over the
    batches: what the SegNet authors do before they test
    (Scripts/compute_bn_statistics.py of
    https://github.com/alexgkendall/SegNet-Tutorial). Unlike their script, a
    smaller last batch counts by its size and no batch counts twice.

    Use the batch size of the training, and training data: variances within
    small batches are smaller.

    Args:
        model: Built model. Batch normalizations are set wherever it holds
            them, in models and layers inside it too. Layers with
            `trainable=False` are left as they are, as in training; dropout is
            on, as in training.
        dataset: `tf.data.Dataset` or other iterable of batches: images, or
            tuples that begin with them, as `fit` takes.
        steps: int >= 1. Batches to read at most; None for all of them. A data
            set that repeats for ever needs it.
        verbose: 0 silent, 1 progress bar, without an end where the data set
            does not know its length.

    Raises:
        ValueError: An argument breaks the rule that the error names, the data
            set has no batch, or a batch makes a mean or variance NaN or
            infinite. Whatever is raised, statistics are as before.

    Edge cases:
        A layer that is called several times in a pass gets the average over
        its calls; one that is not called keeps what it has. Statistics that
        are NaN or infinite before are mended.
        While a batch is measured, the functions of `keras_deconv.inference`
        wait in other threads, and see the statistics as they were before.
        Calls, `predict` and `fit` of the model itself do not wait: keep them
        out of other threads until this function has returned.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.SegNetBasic((16, 16, 3), 4)
        >>> norm = model.get_layer("block1_conv1_norm")
        >>> images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3))
        >>> keras_deconv.models.recompute_batch_statistics(
        ...     model, [images[:4], images[4:]], verbose=0
        ... )
        >>> bool(np.any(np.asarray(norm.moving_mean) != 0))
        True
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "`model` must be a keras.Model that is built: call it on a batch "
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
            f"Received: {model.name!r} without one"
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
                    "`dataset` must give batches that keep the model "
                    "finite; look for NaN in the batch and in the weights. "
                    f"Received: batch {step}, counted from 1, whose mean "
                    f"or variance in {norms[i].name!r} is NaN or infinite"
                )
            totals[i] += size * sum(measured)
            weights[i] += size * len(measured)
        progress.update(step)
        if step == steps:
            break
    if step == 0:
        raise ValueError(
            "`dataset` must give at least one batch of images. Received: "
            f"{dataset!r}, which is empty"
        )
    with _locks.held(every_layer(model)):
        for norm, total, weight in zip(norms, totals, weights, strict=True):
            if weight:
                _set_statistics(norm, total / weight)


def _num_images(images: Any) -> int:
    parts = keras.tree.flatten(images)
    shape: Any = getattr(parts[0], "shape", ()) if parts else ()
    if not len(shape):
        raise ValueError(
            "`dataset` must give batches of images, alone or with masks. "
            f"Received: a batch of type {type(images).__name__}"
        )
    return int(shape[0])


def _num_batches(dataset: Any) -> int | None:
    """Length of a data set that ends; None where it does not know."""
    try:
        return len(dataset)
    except TypeError:
        cardinality = getattr(dataset, "cardinality", lambda: None)()
    if cardinality == -1:  # tf.data.INFINITE_CARDINALITY
        raise ValueError(
            "`steps` must be an int >= 1 for a `dataset` that repeats for "
            "ever. Received: steps=None"
        )
    return None


def _measure(
    model: keras.Model, norms: Iterable[Any], images: Any
) -> list[list[np.ndarray]]:
    """For each normalization the statistics of its calls with one batch.

    The model is as before afterwards: predictions of other threads, which wait
    for that, do not see the batch.
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
    """Give a list that takes the statistics of each call; then undo it all."""
    call, momentum, before = norm.call, norm.momentum, _statistics(norm)
    measured = []

    def measure(*args: Any, **options: Any) -> Any:
        outputs = call(*args, **options)
        measured.append(_statistics(norm))
        return outputs

    # A call leaves its own statistics and, times 0, those from before; but 0
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
    """Mean and variance of a batch normalization, in two rows."""
    values = (norm.moving_mean, norm.moving_variance)
    return np.stack([keras.ops.convert_to_numpy(v) for v in values])


def _set_statistics(norm: Any, statistics: np.ndarray) -> None:
    mean, variance = statistics
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
