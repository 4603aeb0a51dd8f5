"""Prediction by sampling: what dropout says about certainty."""

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
# They draw random numbers in training, and are no dropout.
AUGMENTATIONS = (
    layers.GaussianNoise,
    *(getattr(layers, name) for name in dir(layers) if name[:4] == "Rand"),
)
# A layer's seeds are counted from its number times this.
SEEDS_PER_LAYER = 2**20
# Seeds are int32 on some backends.
MAX_SEED = 2**31 - 1


class MonteCarloPrediction(NamedTuple):
    """What networks drawn by dropout say together, pixel by pixel.

    Arrays from eager calls, tensors inside a compiled function. For a model of
    one class per image there is no height and width.

    Attributes:
        probabilities: Mean of the softmax over the samples; float32 `(batch,
            height, width, num_classes)`, 0..1.
        class_ids: The class of the largest mean; int32 `(batch, height,
            width)`.
        variance: Population variance of the softmax over the samples, in each
            class; float32 `(batch, height, width, num_classes)`, 0..0.25.
        mean_variance: Mean of `variance` over the classes: the authors' map of
            model uncertainty; float32 `(batch, height, width)`.
        predictive_entropy: Entropy of `probabilities` in nats, of all
            uncertainty; float32 `(batch, height, width)`, 0..log(num_classes).
        mutual_information: `predictive_entropy` less the mean entropy of the
            samples: what they disagree about; same shape and unit, >= 0.

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
    """Predict with dropout on, several times, and say how sure the model is.

    Only dropout is as in training; every other layer, batch normalization
    foremost, is as in prediction, and nothing of the model changes. Moments are
    summed up as samples are drawn, so memory does not grow with their number.

    Reference: Kendall, Badrinarayanan and Cipolla, 2015, "Bayesian SegNet",
    https://arxiv.org/abs/1511.02680, and the authors'
    Scripts/test_bayesian_segnet.py of
    https://github.com/alexgkendall/SegNet-Tutorial, for mean, variance and its
    mean over classes. Entropy and mutual information: Gal, Islam and
    Ghahramani, 2017, "Deep Bayesian active learning with image data",
    https://arxiv.org/abs/1703.02910, section 4.

    Args:
        model: Functional or Sequential model with one input, one output of two
            classes or more, and dropout layers, such as
            `models.BayesianSegNet`. Models inside it are sampled too, if they
            are Functional or Sequential. Without dropout all samples are
            equal, and a warning says so.
        images: Array or tensor `(batch, height, width, channels)` that the
            model takes. On JAX not inside a compiled function.
        samples: int >= 1, in a compiled function also a scalar int tensor.
            Weight averaging is beaten from about 6, 40 are close to the limit.
        batch_size: int >= 1. Images at a time, so that they fit in memory. The
            last batch is filled up, so that one graph does for all.
        seed: int from 0 to 2**31 - 1. The same seed gives the same samples,
            with the same batch size and backend; the model's own sequence goes
            on afterwards as if nothing had been drawn. None: it draws on.
        from_logits: Whether the model gives logits, or probabilities.
        verbose: 0 silent, 1 progress bar. A compiled function is silent, and
            takes the batch as a whole.

    Returns:
        A `MonteCarloPrediction`.

    Raises:
        ValueError: An argument breaks the rule that the error names. Of
            `from_logits` that is seen where the model ends in a softmax or a
            sigmoid, and where what it gives can be read.

    Edge cases:
        - A layer that has dropout inside, such as `LSTM(dropout=0.1)`, a
          wrapper or a subclassed model, is refused: its dropout cannot be
          switched on alone, and left off it would look certain. So is every
          layer with random seeds that may be for dropout.
        - Noise and random augmentation are off, as in prediction.
        - Several threads may call it for one model: each waits until the
          others have drawn, since the seeds of dropout are part of the model.
          A function that is compiled does not wait, nor do `fit` and calls of
          the model itself with `training=True`: keep these out of other
          threads meanwhile.
        - Dropout without a seed generator of its layer goes unnoticed.

    Example:
        In a SavedModel, with the number of samples as an input:

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
            "`images` must have values on JAX: compiled functions cannot "
            "change a model's seeds, which are variables. Call "
            "predict_monte_carlo outside of jax.jit. Received: traced images"
        )
    with _locks.held(every_layer(model)):
        sampler = _sampler(model)
    if not sampler.generators:
        warnings.warn(
            "`model` has no dropout, so that all samples are equal. Received: "
            f"{model.name!r}. models.BayesianSegNet has it, and so has SegNet "
            "with dropout=0.5",
            stacklevel=2,
        )
    if compiling:
        with _seeded(sampler.generators, seed):
            return sampler.plain(images, samples, from_logits)
    images = ops.convert_to_numpy(images)
    # A tensor, so that another number needs no new graph.
    samples = ops.convert_to_tensor(samples, "int32")

    def predict(chosen: np.ndarray) -> list[np.ndarray]:
        # One dtype, so that another needs no new graph.
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
    """Whether a model has dropout, and none that cannot be switched on."""
    parts = list(layers_of(model))
    return any(map(_is_dropout, parts)) and not any(map(_may_hide_it, parts))


class _Sampler(NamedTuple):
    """How a model is sampled, prepared once."""

    plain: Callable[..., MonteCarloPrediction]
    compiled: Callable[..., MonteCarloPrediction]
    generators: list[keras.random.SeedGenerator]
    layers_and_rates: list[tuple[layers.Layer, Any]]


_SAMPLERS: weakref.WeakKeyDictionary[keras.Model, _Sampler] = (
    weakref.WeakKeyDictionary()
)


def _sampler(model: keras.Model) -> _Sampler:
    """Prepare a model, anew where its layers or their rates have changed."""
    parts = list(layers_of(model))
    layers_and_rates = [(part, getattr(part, "rate", None)) for part in parts]
    known = _SAMPLERS.get(model)
    if known is not None and known.layers_and_rates == layers_and_rates:
        return known
    for part in parts:
        if _may_hide_it(part):
            raise ValueError(
                "`model` must have its dropout in layers such as "
                "keras.layers.Dropout, in Functional or Sequential models. "
                "Inside other layers it cannot be switched on alone, and they "
                f"would look certain. Received: layer {part.name!r} of class "
                f"{type(part).__name__}, which has random seeds"
            )
    # A second graph over the same layers. That of `model` as it is would be
    # compiled as `model` is.
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
    """Whether a layer has seeds, and may need them for dropout inside.

    Random seeds are the variables that are no weights.
    """
    return (
        len(layer.variables) > len(layer.weights)
        and not isinstance(layer, (*DROPOUTS, *AUGMENTATIONS))
        # Recurrent layers have seeds without dropout, too.
        and (
            getattr(layer, "dropout", True)
            or getattr(layer, "recurrent_dropout", True)
        )
    )


class _DropoutOn(layers.Layer):
    """A dropout layer that drops whatever the model is doing."""

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
    """Draw from `seed` for a while."""
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
    """Draw, and sum up: Welford's moments, which lose no digits."""

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
        # Never below 0 but by rounding.
        mutual_information=ops.maximum(predictive_entropy - mean_entropy, 0.0),
    )


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy over the last axis in nats; 0 log 0 is 0."""
    logarithms = ops.log(ops.maximum(probabilities, keras.config.epsilon()))
    return -ops.sum(probabilities * logarithms, axis=-1)


def _check_samples(samples: Any) -> Any:
    """An int >= 1, or where a function is compiled an int32 tensor.

    Raises:
        ValueError: It is none.
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
    """A seed that every backend takes, or None.

    Raises:
        ValueError: It is none.
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
    """Refuse what is no softmax; NaN passes.

    Raises:
        ValueError: Numbers below 0, or that do not add up to 1 but by the
            rounding of half precision.
    """
    sums = probabilities.sum(axis=-1)
    if (probabilities < 0).any() or (np.abs(sums - 1) > 0.01).any():
        raise ValueError(
            "`from_logits` must be True for a model whose outputs are no "
            "probabilities, at least 0 and with a sum of 1 over the classes. "
            f"Received: from_logits=False, outputs from {probabilities.min()} "
            f"on, sums from {sums.min()} to {sums.max()}"
        )
