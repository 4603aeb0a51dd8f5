"""Prediction beyond `model.predict`: by sampling, and pixel by pixel."""

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_deconv import arguments, backends

__all__ = [
    "MonteCarloPrediction",
    "predict_monte_carlo",
    "predict_sliding_window",
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

    Only dropout is as in training; every other layer, batch normalisation
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
    _check_graph(model)
    _check_from_logits(model, from_logits)
    images = _check_images(model, images)
    samples = _check_samples(samples)
    batch_size = arguments.positive_int(batch_size, "batch_size")
    seed = _check_seed(seed)
    is_traced = _is_traced(model, images)
    if is_traced and keras.config.backend() == "jax":
        raise ValueError(
            "`images` must have values on JAX: compiled functions cannot "
            "change a model's seeds, which are variables. Call "
            "predict_monte_carlo outside of jax.jit. Received: traced images"
        )
    sampler = _sampler(model)
    if not sampler.generators:
        warnings.warn(
            "`model` has no dropout, so that all samples are equal. Received: "
            f"{model.name!r}. models.BayesianSegNet has it, and so has SegNet "
            "with dropout=0.5",
            stacklevel=2,
        )
    if is_traced:
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

    with _seeded(sampler.generators, seed):
        return MonteCarloPrediction(
            *_in_batches(predict, len(images), batch_size, verbose)
        )


def predict_sliding_window(
    model: keras.Model,
    images: Any,
    *,
    batch_size: int = 256,
    verbose: int = 1,
) -> np.ndarray:
    """Predict every pixel from the patch around it, one patch per pixel.

    Right, and wasteful: neighbours share all of their patch but one row or
    column, and nothing of what is computed. Beyond the border the patch is
    black, as the padding of convolutions is.

    Reference: Ciresan et al., 2012, "Deep neural networks segment neuronal
    membranes in electron microscopy images",
    https://papers.nips.cc/paper/4741; they mirror the image at its border.

    Args:
        model: Model from patches `(batch, height, width, channels)` of known
            size to `(batch, num_classes)`, such as `models.PatchClassifier`.
            It is taken to name the pixel at row `height // 2`, column
            `width // 2`.
        images: Array `(batch, height, width, channels)` of any height and
            width, in the range that the model takes.
        batch_size: int >= 1. Patches at a time.
        verbose: 0 silent, 1 progress bar over the pixels.

    Returns:
        float32 array `(batch, height, width, num_classes)` of what the model
        gives: logits or probabilities.

    Raises:
        ValueError: The model does not take patches of a known size to one
            vector each, or the images have other channels or, inside a
            compiled function, no values.

    Example:
        >>> import numpy as np
        >>> from keras_deconv import inference, models
        >>> model = models.PatchClassifier((8, 8, 3), 4)
        >>> images = np.zeros((1, 5, 6, 3), "float32")
        >>> logits = inference.predict_sliding_window(
        ...     model, images, verbose=0)
        >>> logits.shape
        (1, 5, 6, 4)
    """
    _check_graph(model)
    patch_size = _patch_size(model)
    batch_size = arguments.positive_int(batch_size, "batch_size")
    images = _check_images(model, images, any_size=True)
    if _is_traced(model, images):
        raise ValueError(
            "`images` must have values: predict_sliding_window cannot be "
            "compiled. Call it outside. Received: traced images"
        )
    before = [(0, 0), *((n // 2, (n - 1) // 2) for n in patch_size), (0, 0)]
    # A view: patches are only copied batch by batch.
    patches = np.lib.stride_tricks.sliding_window_view(
        np.pad(ops.convert_to_numpy(images), before), patch_size, axis=(1, 2)
    )
    size = patches.shape[:3]

    def predict(chosen: np.ndarray) -> list[np.ndarray]:
        batch = patches[np.unravel_index(chosen, size)]
        # The window's axes are the last: back before the channels.
        scores = model.predict_on_batch(np.moveaxis(batch, 1, -1))
        return [np.asarray(y, "float32") for y in keras.tree.flatten(scores)]

    [scores] = _in_batches(predict, math.prod(size), batch_size, verbose)
    return scores.reshape(*size, -1)


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
    parts = list(_layers_of(model))
    layers_and_rates = [(part, getattr(part, "rate", None)) for part in parts]
    known = _SAMPLERS.get(model)
    if known is not None and known.layers_and_rates == layers_and_rates:
        return known
    for part in parts:
        _check_is_sampled(part)
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
        backends.compiled(sample),
        [p.seed_generator for p in parts if isinstance(p, DROPOUTS) and p.rate],
        layers_and_rates,
    )
    return _SAMPLERS[model]


def _is_graph(layer: Any) -> bool:
    """Whether it is a Functional model, or a Sequential one that is built."""
    return isinstance(layer, keras.Model) and bool(
        getattr(layer, "inputs", None)
    )


def _layers_of(model: keras.Model) -> Iterator[layers.Layer]:
    """Layers of a model and of the graphs inside it, in order."""
    for layer in model.layers:
        if _is_graph(layer):
            yield from _layers_of(layer)
        else:
            yield layer


def _check_is_sampled(layer: layers.Layer) -> None:
    """Refuse a layer that has dropout inside, where it stays off.

    Random seeds are the variables that are no weights.

    Raises:
        ValueError: It has seeds, and may need them for dropout.
    """
    if (
        len(layer.variables) > len(layer.weights)
        and not isinstance(layer, (*DROPOUTS, *AUGMENTATIONS))
        # Recurrent layers have seeds without dropout, too.
        and (
            getattr(layer, "dropout", True)
            or getattr(layer, "recurrent_dropout", True)
        )
    ):
        raise ValueError(
            "`model` must have its dropout in layers such as keras.layers."
            "Dropout, in Functional or Sequential models. Inside other layers "
            "it cannot be switched on alone, and they would look certain. "
            f"Received: layer {layer.name!r} of class {type(layer).__name__}, "
            "which has random seeds"
        )


class _DropoutOn(layers.Layer):
    """A dropout layer that drops whatever the model is doing."""

    def __init__(self, dropout: layers.Layer) -> None:
        super().__init__(name=dropout.name, dtype=dropout.dtype_policy)
        self.dropout = dropout

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.dropout(inputs, training=True)


def _with_dropout_on(layer: Any) -> Any:
    if _is_graph(layer):
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
        with backends.global_seed(seed):
            yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.state.assign(state)


@backends.no_gradients()
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
    mean, deviation, mean_entropy = backends.repeat(
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


def _in_batches(
    function: Callable[[np.ndarray], Sequence[np.ndarray]],
    number: int,
    batch_size: int,
    verbose: int,
) -> list[np.ndarray]:
    """Arrays of what `function` gives for the items from 0 to `number`.

    It takes as many indices each time, so that one graph does for all: the
    last batch is filled up with the last item.
    """
    batch_size = min(batch_size, number)
    progress = keras.utils.Progbar(number, verbose=verbose)
    wholes: list[np.ndarray] = []
    for start in range(0, number, batch_size):
        stop = min(start + batch_size, number)
        chosen = np.arange(start, start + batch_size)
        parts = function(np.minimum(chosen, number - 1))
        wholes = wholes or [
            np.empty((number, *part.shape[1:]), part.dtype) for part in parts
        ]
        for whole, part in zip(wholes, parts, strict=True):
            # Replicas of a distribution strategy each give all: cut.
            whole[start:stop] = part[: stop - start]
        progress.update(stop)
    return wholes


def _check_graph(model: Any) -> None:
    """Refuse what is no model, is not built, or has several ends.

    Raises:
        ValueError: As described.
    """
    if not _is_graph(model) or not (
        len(model.inputs) == len(model.outputs) == 1
    ):
        raise ValueError(
            "`model` must be a built Functional or Sequential model with one "
            f"input and one output. Received: {model!r}"
        )


def _patch_size(model: keras.Model) -> tuple[int, int]:
    takes, gives = model.inputs[0].shape, model.outputs[0].shape
    if len(takes) != 4 or None in takes[1:] or len(gives) != 2:
        raise ValueError(
            "`model` must map patches (batch, height, width, channels) of "
            "known size to (batch, num_classes), as models.PatchClassifier "
            f"does. Received: a model from {takes} to {gives}"
        )
    return takes[1:3]


def _check_images(
    model: keras.Model, images: Any, any_size: bool = False
) -> Any:
    """Images as array or tensor of a shape that the model takes.

    Raises:
        ValueError: The shape is another, there is no image, or no numbers.
    """
    if not ops.is_tensor(images):
        images = np.asarray(images)
    arguments.check_number_dtype(images.dtype, "images")
    takes = list(model.inputs[0].shape)
    if any_size:
        takes[1:-1] = [None] * (len(takes) - 2)
    shape = tuple(images.shape)
    if (
        len(shape) != len(takes)
        or 0 in shape
        or any(
            s is not None and t is not None and s != t
            for s, t in zip(shape, takes, strict=True)
        )
    ):
        raise ValueError(
            "`images` must be a batch of at least one image, of shape "
            f"{tuple(takes)}. Received: images.shape={shape}. A single image "
            "becomes a batch by images[None]."
        )
    return images


def _is_traced(model: keras.Model, images: Any) -> bool:
    """Whether a function is being compiled, with whatever images."""
    return backends.is_traced(ops.cast(images[:1], model.inputs[0].dtype))


def _check_samples(samples: Any) -> Any:
    """An int >= 1, or where a function is compiled an int32 tensor.

    Raises:
        ValueError: It is none.
    """
    if not ops.is_tensor(samples):
        return arguments.positive_int(samples, "samples")
    if not backends.is_traced(samples):
        return _check_samples(ops.convert_to_numpy(samples))
    dtype = keras.backend.standardize_dtype(samples.dtype)
    if "int" not in dtype or tuple(samples.shape) != ():
        raise ValueError(
            "`samples` must be an int >= 1 or a scalar tensor of it. "
            f"Received: shape {tuple(samples.shape)}, dtype {dtype}"
        )
    backends.require(
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
    number = arguments.natural_int(seed, "seed")
    if number > MAX_SEED:
        raise ValueError(
            f"`seed` must be an int from 0 to {MAX_SEED}. Received: "
            f"seed={seed!r}"
        )
    return number


def _check_from_logits(model: keras.Model, from_logits: Any) -> None:
    """Refuse one class, and to take the softmax of a softmax or a sigmoid.

    Raises:
        ValueError: As described.
    """
    if not isinstance(from_logits, bool):
        raise ValueError(
            "`from_logits` must be True or False. Received: "
            f"from_logits={from_logits!r}"
        )
    shape = model.outputs[0].shape
    if len(shape) < 2 or shape[-1] == 1:
        raise ValueError(
            "`model` must give two classes or more along the last axis: the "
            "softmax of one is 1. A binary model needs a logit for each of its "
            f"two classes. Received: {model.name!r} with outputs of shape "
            f"{shape}"
        )
    last = _last_operation(model)
    # An operation of Keras, or the activation of a layer.
    function = getattr(last, "activation", None) or type(last)
    name = getattr(function, "__name__", "").lower()
    if from_logits and name in ("softmax", "sigmoid"):
        raise ValueError(
            "`from_logits` must be False for a model that ends in a softmax; "
            "one that ends in a sigmoid, whose classes do not exclude each "
            "other, is not taken. Received: from_logits=True, and "
            f"{model.name!r} ends in a {name}"
        )


def _last_operation(model: keras.Model) -> Any:
    """The operation that gives the output, be it in a model inside."""
    last = keras.Model(model.inputs, model.outputs).operations[-1]
    if _is_graph(last) and len(last.outputs) == 1:
        return _last_operation(last)
    return last


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
