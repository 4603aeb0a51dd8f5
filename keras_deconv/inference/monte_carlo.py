"""Uncertainty of predictions, estimated by sampling with dropout."""

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_deconv import _arguments, _backends, _locks
from keras_deconv._batches import (
    check_images,
    in_batches,
    is_traced,
)
from keras_deconv._graphs import (
    check_from_logits,
    check_graph,
    every_layer,
    is_graph,
    layers_of,
)

__all__ = [
    "MonteCarloPrediction",
    "predict_monte_carlo",
]

Tensor = Any

DROPOUTS = (layers.Dropout, layers.GaussianDropout, layers.AlphaDropout)
# Layers that draw random numbers in training but are not dropout.
AUGMENTATIONS = (
    layers.GaussianNoise,
    *(getattr(layers, name) for name in dir(layers) if name[:4] == "Rand"),
)
# The seeds of a layer start at its number times this value.
SEEDS_PER_LAYER = 2**20
# Seeds are int32 on some backends.
MAX_SEED = 2**31 - 1


class MonteCarloPrediction(NamedTuple):
    """Statistics over samples of a model with dropout, for each pixel.

    `predict_monte_carlo` returns it. Attributes are NumPy arrays from eager
    calls, and tensors inside a compiled function. For a model that predicts one
    class per image, shapes do not have height and width.

    Attributes:
        probabilities: float32 `(batch, height, width, num_classes)`, 0..1. Mean
            of the softmax over the samples.
        class_ids: int32 `(batch, height, width)`. Class with the largest mean.
        variance: float32 `(batch, height, width, num_classes)`, 0..0.25.
            Population variance of the softmax over the samples, per class.
        mean_variance: float32 `(batch, height, width)`, 0..0.25. Mean of
            `variance` over the classes: the model uncertainty of the paper.
        predictive_entropy: float32 `(batch, height, width)`,
            0..log(num_classes). Entropy of `probabilities` in nats: the total
            uncertainty.
        mutual_information: float32 `(batch, height, width)`, >= 0.
            `predictive_entropy` minus the mean entropy of the samples, in nats:
            how much the samples disagree.

    Example:
        >>> import numpy as np, keras_deconv
        >>> model = keras_deconv.models.BayesianSegNetBasic((8, 8, 3), 2)
        >>> prediction = keras_deconv.inference.predict_monte_carlo(
        ...     model, np.zeros((1, 8, 8, 3), "float32"), samples=2, verbose=0
        ... )
        >>> prediction.class_ids.shape, prediction.variance.shape
        ((1, 8, 8), (1, 8, 8, 2))
    """

    probabilities: Tensor
    class_ids: Tensor
    variance: Tensor
    mean_variance: Tensor
    predictive_entropy: Tensor
    mutual_information: Tensor


def predict_monte_carlo(
    model: keras.Model,
    images: Any,
    samples: Any = 40,
    *,
    batch_size: int = 4,
    seed: int | None = None,
    from_logits: bool = True,
    verbose: int = 1,
) -> MonteCarloPrediction:
    """Predict several times with dropout on, and estimate the uncertainty.

    Use it to find out where a segmentation cannot be trusted, with a model that
    was trained with dropout, such as `models.BayesianSegNet`. Only dropout runs
    as in training. All other layers, including batch normalization, run as in
    inference, and the model is not changed. Statistics are accumulated while
    samples are drawn, so the memory does not depend on their number.

    Reference: Kendall, Badrinarayanan and Cipolla, 2015, "Bayesian SegNet",
    https://arxiv.org/abs/1511.02680, and the authors' code,
    https://github.com/alexgkendall/SegNet-Tutorial
    (Scripts/test_bayesian_segnet.py), for mean, variance and its mean over the
    classes. Entropy and mutual information: Gal, Islam and Ghahramani, 2017,
    "Deep Bayesian active learning with image data", section 4,
    https://arxiv.org/abs/1703.02910.

    Args:
        model: Functional or Sequential `keras.Model` with dropout layers, one
            input, and one output with at least two classes. Dropout of inner
            Functional and Sequential models is sampled too. If the model does
            not have dropout, all samples are equal, and a warning is emitted.
        images: Array or tensor `(batch, height, width, channels)` that the
            model takes. On JAX, it must not be traced by a compiled function.
        samples: int >= 1. Number of samples. Inside a compiled function, it may
            also be a scalar int tensor. Samples are better than one prediction
            without dropout from about 6 on, and 40 are close to the limit.
        batch_size: int >= 1. Number of images per call of the model, which
            limits the memory. The last batch is padded, so that the graph is
            not compiled again.
        seed: int from 0 to 2**31 - 1, or None. With the same seed, batch size
            and backend, samples are the same, and the random state of the model
            is not changed. None continues the random sequence of the model.
        from_logits: bool. Whether the model returns logits or probabilities.
        verbose: int. 0 for silent, 1 for a progress bar. Calls inside a
            compiled function are silent, and process all images at once.

    Returns:
        A `MonteCarloPrediction`.

    Raises:
        ValueError: If `model` is not a Functional or Sequential model with one
            input and one output, or contains a layer that may hide dropout (see
            edge cases).
        ValueError: If `images` does not have the shape that the model takes, or
            is traced on JAX.
        ValueError: If `samples` or `batch_size` is not an int >= 1, or `seed`
            is not an int from 0 to 2**31 - 1.
        ValueError: If `from_logits` contradicts the last layer of the model (a
            softmax or sigmoid), or is False and the outputs are not
            probabilities. Outputs cannot be checked inside a compiled function.

    Edge cases:
        - Layers that contain dropout, such as `LSTM(dropout=0.1)`, wrappers or
          subclassed models, are rejected: their dropout cannot be turned on
          separately, and without it the model would appear certain. The same
          applies to other layers with random seeds that may be for dropout.
        - Noise and random augmentation layers are off, as in inference.
        - Several threads may call this function for one model. Each waits until
          the others have drawn their samples, because the seeds of dropout are
          part of the model. Compiled functions, `fit` and calls of the model
          with `training=True` do not wait: do not use them in other threads at
          the same time.
        - Dropout in layers without a Keras seed generator is not detected.

    Example:
        Export a SavedModel whose second input is the number of samples:

        >>> import keras, tempfile, tensorflow as tf
        >>> from keras_deconv import inference, models
        >>> model = models.BayesianSegNetBasic((8, 8, 3), 2)
        >>> archive = keras.export.ExportArchive()
        >>> archive.track(model)
        >>> def sample(images, samples):
        ...     return inference.predict_monte_carlo(
        ...         model, images, samples)._asdict()
        >>> _ = archive.add_endpoint("monte_carlo", sample, [
        ...     tf.TensorSpec((None, 8, 8, 3), "float32", "images"),
        ...     tf.TensorSpec((), "int32", "samples")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     archive.write_out(folder, verbose=False)
        ...     served = tf.saved_model.load(folder).signatures["monte_carlo"]
        >>> outputs = served(
        ...     images=tf.zeros((1, 8, 8, 3)), samples=tf.constant(5))
        >>> outputs["mean_variance"].shape.as_list()
        [1, 8, 8]
    """
    check_graph(model)
    check_from_logits(model, from_logits)
    images = check_images(model, images)
    samples = _check_samples(samples)
    batch_size = _arguments.positive_int(batch_size, "batch_size")
    seed = _check_seed(seed)
    compiling = is_traced(model, images)
    if compiling and keras.config.backend() == "jax":
        raise ValueError(
            "`images` must not be traced on JAX: compiled functions cannot "
            "change a model's seeds, which are variables. Call "
            "predict_monte_carlo outside of jax.jit. Received: traced images"
        )
    with _locks.held(every_layer(model)):
        sampler = _sampler(model)
    if not sampler.generators:
        warnings.warn(
            "`model` has no dropout, so all samples are equal. Received: "
            f"{model.name!r}. Use a model with dropout, such as "
            "models.BayesianSegNet, or models.SegNet with dropout=0.5.",
            stacklevel=2,
        )
    if compiling:
        with _seeded(sampler.generators, seed):
            return sampler.plain(images, samples, from_logits)
    images = ops.convert_to_numpy(images)
    # A tensor, so that another number does not require a new graph.
    samples = ops.convert_to_tensor(samples, "int32")

    def predict(chosen: np.ndarray) -> list[np.ndarray]:
        # One dtype, so that other images do not require a new graph.
        batch = ops.cast(images[chosen], model.inputs[0].dtype)
        prediction = sampler.compiled(batch, samples, from_logits)
        arrays = [ops.convert_to_numpy(tensor) for tensor in prediction]
        if not from_logits:
            _check_probabilities(arrays[0])
        return arrays

    with (
        _locks.held(every_layer(model)),
        _backends.draws_alone(),
        _seeded(sampler.generators, seed),
    ):
        return MonteCarloPrediction(
            *in_batches(predict, len(images), batch_size, verbose)
        )


def can_be_sampled(model: keras.Model) -> bool:
    """Whether a model has dropout, all of which can be turned on."""
    parts = list(layers_of(model))
    return any(map(_is_dropout, parts)) and not any(map(_may_hide_it, parts))


class _Sampler(NamedTuple):
    """The sampling functions of a model."""

    plain: Callable[..., MonteCarloPrediction]
    compiled: Callable[..., MonteCarloPrediction]
    generators: list[keras.random.SeedGenerator]
    layers_and_rates: list[tuple[layers.Layer, Any]]


_SAMPLERS: weakref.WeakKeyDictionary[keras.Model, _Sampler] = (
    weakref.WeakKeyDictionary()
)


def _sampler(model: keras.Model) -> _Sampler:
    """Return the sampler of a model, new if layers or rates changed."""
    parts = list(layers_of(model))
    layers_and_rates = [(part, getattr(part, "rate", None)) for part in parts]
    known = _SAMPLERS.get(model)
    if known is not None and known.layers_and_rates == layers_and_rates:
        return known
    for part in parts:
        if _may_hide_it(part):
            raise ValueError(
                "`model` must have dropout only in layers such as "
                "keras.layers.Dropout, in Functional or Sequential models. "
                "Dropout inside other layers cannot be turned on separately, "
                "so the model would appear certain. Received: layer "
                f"{part.name!r} of class {type(part).__name__}, which has "
                "random seeds"
            )
    # A second graph with the same layers, because a clone of `model` itself
    # would also be compiled.
    stochastic = _with_dropout_on(
        keras.Model(model.inputs[0], model.outputs[0])
    )

    def sample(
        images: Tensor, samples: Any, from_logits: bool
    ) -> MonteCarloPrediction:
        return _sample(stochastic, images, samples, from_logits)

    _SAMPLERS[model] = _Sampler(
        sample,
        _backends.compiled(sample),
        [part.seed_generator for part in parts if _is_dropout(part)],
        layers_and_rates,
    )
    return _SAMPLERS[model]


def _is_dropout(layer: layers.Layer) -> bool:
    return isinstance(layer, DROPOUTS) and bool(layer.rate)


def _may_hide_it(layer: layers.Layer) -> bool:
    """Whether a layer has seeds, and may need them for dropout inside it.

    Random seeds are variables that are not weights.
    """
    return (
        len(layer.variables) > len(layer.weights)
        and not isinstance(layer, (*DROPOUTS, *AUGMENTATIONS))
        # Recurrent layers have seeds even without dropout.
        and (
            getattr(layer, "dropout", True)
            or getattr(layer, "recurrent_dropout", True)
        )
    )


class _DropoutOn(layers.Layer):
    """A dropout layer that is on in training and in inference."""

    def __init__(self, dropout: layers.Layer) -> None:
        super().__init__(name=dropout.name, dtype=dropout.dtype_policy)
        self.dropout = dropout

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.dropout(inputs, training=True)


def _with_dropout_on(layer: Any) -> Any:
    if is_graph(layer):
        return keras.models.clone_model(layer, clone_function=_with_dropout_on)
    return _DropoutOn(layer) if isinstance(layer, DROPOUTS) else layer


@contextlib.contextmanager
def _seeded(
    generators: Sequence[keras.random.SeedGenerator], seed: int | None
) -> Iterator[None]:
    """Draw from `seed` inside the context, then restore the seeds."""
    if seed is None:
        yield
        return
    before = [ops.copy(generator.state) for generator in generators]
    for number, generator in enumerate(generators):
        generator.state.assign([seed, number * SEEDS_PER_LAYER])
    try:
        with _backends.global_seed(seed):
            yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.state.assign(state)


@_backends.no_gradients()
def _sample(
    stochastic: keras.Model, images: Tensor, samples: Any, from_logits: bool
) -> MonteCarloPrediction:
    """Draw samples, and accumulate their moments by Welford's algorithm."""

    def draw() -> tuple[Tensor, Tensor]:
        scores = ops.cast(stochastic(images, training=False), "float32")
        scores = ops.softmax(scores) if from_logits else scores
        return scores, _entropy(scores)

    def add(number: Tensor, moments: tuple) -> tuple:
        mean, deviation, mean_entropy = moments
        probabilities, entropy = draw()
        count = ops.cast(number + 2, "float32")
        difference = probabilities - mean
        mean = mean + difference / count
        deviation = deviation + difference * (probabilities - mean)
        mean_entropy = mean_entropy + (entropy - mean_entropy) / count
        return mean, deviation, mean_entropy

    first, entropy = draw()
    mean, deviation, mean_entropy = _backends.repeat(
        samples - 1, add, (first, ops.zeros_like(first), entropy)
    )
    variance = deviation / ops.cast(samples, "float32")
    predictive_entropy = _entropy(mean)
    return MonteCarloPrediction(
        probabilities=mean,
        class_ids=ops.cast(ops.argmax(mean, axis=-1), "int32"),
        variance=variance,
        mean_variance=ops.mean(variance, axis=-1),
        predictive_entropy=predictive_entropy,
        # Rounding can make it negative.
        mutual_information=ops.maximum(predictive_entropy - mean_entropy, 0.0),
    )


def _entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy over the last axis in nats, where 0 log 0 is 0."""
    logarithms = ops.log(ops.maximum(probabilities, keras.config.epsilon()))
    return -ops.sum(probabilities * logarithms, axis=-1)


def _check_samples(samples: Any) -> Any:
    """Return an int >= 1 or, in a compiled function, an int32 tensor.

    Raises:
        ValueError: If `samples` is not such a number.
    """
    if not ops.is_tensor(samples):
        return _arguments.positive_int(samples, "samples")
    if not _backends.is_traced(samples):
        return _check_samples(ops.convert_to_numpy(samples))
    dtype = keras.backend.standardize_dtype(samples.dtype)
    if "int" not in dtype or tuple(samples.shape) != ():
        raise ValueError(
            "`samples` must be an int >= 1 or a scalar tensor of it. "
            f"Received: shape {tuple(samples.shape)}, dtype {dtype}"
        )
    _backends.require(
        samples >= 1, "`samples` must be an int >= 1. Received:", samples
    )
    return ops.cast(samples, "int32")


def _check_seed(seed: Any) -> int | None:
    """Return a seed that all backends support, or None.

    Raises:
        ValueError: If `seed` is not an int from 0 to `MAX_SEED`.
    """
    if seed is None:
        return None
    number = _arguments.natural_int(seed, "seed")
    if number > MAX_SEED:
        raise ValueError(
            f"`seed` must be an int from 0 to {MAX_SEED}. Received: "
            f"seed={seed!r}"
        )
    return number


def _check_probabilities(probabilities: np.ndarray) -> None:
    """Reject outputs that are not a softmax; NaN is accepted.

    Raises:
        ValueError: If there are values below 0, or sums that differ from 1 by
            more than the rounding of half precision.
    """
    sums = probabilities.sum(axis=-1)
    if (probabilities < 0).any() or (np.abs(sums - 1) > 0.01).any():
        raise ValueError(
            "`from_logits` must be True for a model whose outputs are not "
            "probabilities (>= 0, with a sum of 1 over the classes). Received: "
            "from_logits=False, outputs with a minimum of "
            f"{probabilities.min()}, sums from {sums.min()} to {sums.max()}"
        )
