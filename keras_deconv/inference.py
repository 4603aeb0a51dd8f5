"""Prediction beyond `model.predict`: by sampling, and pixel by pixel."""

import contextlib
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

DROPOUTS = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.AlphaDropout,
)
# A layer's seeds are counted from its number times this.
SEEDS_PER_LAYER = 2**20


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
        model: Functional or Sequential model with one input, one output and
            dropout layers, such as `models.BayesianSegNet`. Models inside it
            are sampled too. Without dropout all samples are equal, and a
            warning says so.
        images: Array or tensor `(batch, height, width, channels)` that the
            model takes.
        samples: int >= 1, in a compiled function also a scalar int tensor.
            Weight averaging is beaten from about 6, 40 are close to the limit.
        batch_size: int >= 1. Images at a time, so that they fit in memory.
        seed: int >= 0. The same seed gives the same samples, with the same
            batch size and backend; the model's own sequence goes on
            afterwards as if nothing had been drawn. None: it draws on.
        from_logits: Whether the model gives logits, or probabilities.
        verbose: 0 silent, 1 progress bar. A compiled function is silent, and
            takes the batch as a whole.

    Returns:
        A `MonteCarloPrediction`.

    Raises:
        ValueError: An argument breaks the rule that the error names.

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
    sampler = _sampler(model)
    _check_from_logits(model, from_logits)
    images = check_images(model, images)
    if not ops.is_tensor(samples):
        arguments.positive_int(samples, "samples")
    arguments.positive_int(batch_size, "batch_size")
    if seed is not None:
        arguments.natural_int(seed, "seed")
    if not sampler.generators:
        warnings.warn(
            "`model` has no dropout, so that all samples are equal. Received: "
            f"{model.name!r}. models.BayesianSegNet has it, and so has SegNet "
            "with dropout=0.5",
            stacklevel=2,
        )
    if ops.is_tensor(images) and backends.is_traced(images):
        with _seeded(sampler.generators, seed):
            return sampler.plain(images, samples, from_logits)
    # A tensor, so that another number needs no new graph.
    samples = ops.convert_to_tensor(samples, "int32")
    with _seeded(sampler.generators, seed):
        parts = [
            map(
                ops.convert_to_numpy,
                sampler.compiled(batch, samples, from_logits),
            )
            for batch in _batches(images, batch_size, verbose)
        ]
    return MonteCarloPrediction(*map(np.concatenate, zip(*parts, strict=True)))


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
            vector each, or the images have other channels.

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
    patch_size = _patch_size(model)
    arguments.positive_int(batch_size, "batch_size")
    images = ops.convert_to_numpy(check_images(model, images, any_size=True))
    before = [(0, 0), *((n // 2, (n - 1) // 2) for n in patch_size), (0, 0)]
    # A view: patches are only copied batch by batch.
    patches = np.lib.stride_tricks.sliding_window_view(
        np.pad(images, before), patch_size, axis=(1, 2)
    )
    num_images, height, width = patches.shape[:3]
    rows, columns = np.divmod(np.arange(num_images * height * width), width)
    numbers, rows = np.divmod(rows, height)
    logits = [
        # The window's axes are the last: back before the channels.
        model.predict_on_batch(
            np.moveaxis(patches[numbers[i], rows[i], columns[i]], 1, -1)
        )
        for i in _batches(np.arange(len(rows)), batch_size, verbose)
    ]
    return np.concatenate(logits).reshape(num_images, height, width, -1)


def single_input_and_output(model: Any) -> tuple[Tensor, Tensor]:
    """The symbolic tensors at either end of a model.

    Raises:
        ValueError: There are others, or none.
    """
    if not getattr(model, "inputs", None) or not (
        len(model.inputs) == len(model.outputs) == 1
    ):
        raise ValueError(
            "`model` must be a built Functional or Sequential model with one "
            f"input and one output. Received: {model!r}"
        )
    return model.inputs[0], model.outputs[0]


def gives_probabilities(model: keras.Model) -> bool:
    """Whether a model ends in a softmax, so that it gives no logits."""
    last = model.layers[-1]
    if isinstance(last, keras.Model):
        return gives_probabilities(last)
    return (
        isinstance(last, layers.Softmax)
        or getattr(last, "activation", None) is keras.activations.softmax
    )


def has_dropout(model: keras.Model) -> bool:
    """Whether there is something to sample in a model."""
    return any(True for _ in _seed_generators(model))


class _Sampler(NamedTuple):
    """How a model is sampled, prepared once."""

    plain: Callable[..., MonteCarloPrediction]
    compiled: Callable[..., MonteCarloPrediction]
    generators: list[keras.random.SeedGenerator]


_SAMPLERS: weakref.WeakKeyDictionary[keras.Model, _Sampler] = (
    weakref.WeakKeyDictionary()
)


def _sampler(model: keras.Model) -> _Sampler:
    inputs, outputs = single_input_and_output(model)
    if model not in _SAMPLERS:
        # A second graph over the same layers. That of `model` as it is would
        # be compiled as `model` is.
        stochastic = keras.models.clone_model(
            keras.Model(inputs, outputs),
            clone_function=_with_dropout_on,
            recursive=True,
        )

        def sample(
            images: Tensor, samples: Any, from_logits: bool
        ) -> MonteCarloPrediction:
            return _sample(stochastic, images, samples, from_logits)

        _SAMPLERS[model] = _Sampler(
            sample, backends.compiled(sample), list(_seed_generators(model))
        )
    return _SAMPLERS[model]


class _DropoutOn(layers.Layer):
    """A dropout layer that drops whatever the model is doing."""

    def __init__(self, dropout: layers.Layer) -> None:
        super().__init__(name=dropout.name, dtype=dropout.dtype_policy)
        self.dropout = dropout

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.dropout(inputs, training=True)


def _with_dropout_on(layer: layers.Layer) -> layers.Layer:
    return _DropoutOn(layer) if isinstance(layer, DROPOUTS) else layer


def _seed_generators(layer: Any) -> Iterator[keras.random.SeedGenerator]:
    """Sources of randomness of the dropouts in a model, in order."""
    if isinstance(layer, DROPOUTS) and layer.rate:
        yield layer.seed_generator
    for inner in getattr(layer, "layers", ()):
        yield from _seed_generators(inner)


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


def _batches(items: Any, batch_size: int, verbose: int) -> Iterator[Any]:
    """Slices of `items` along the first axis, with a progress bar."""
    progress = keras.utils.Progbar(len(items), verbose=verbose)
    for start in range(0, len(items), batch_size):
        yield items[start : start + batch_size]
        progress.update(min(start + batch_size, len(items)))


def _patch_size(model: keras.Model) -> tuple[int, int]:
    takes, gives = model.input_shape, model.output_shape
    if len(takes) != 4 or None in takes[1:] or len(gives) != 2:
        raise ValueError(
            "`model` must map patches (batch, height, width, channels) of "
            "known size to (batch, num_classes), as models.PatchClassifier "
            f"does. Received: a model from {takes} to {gives}"
        )
    return takes[1:3]


def check_images(
    model: keras.Model,
    images: Any,
    any_size: bool = False,
    name: str = "images",
) -> Any:
    """Images as array or tensor of a shape that the model takes.

    Raises:
        ValueError: The shape is another, or there is no image.
    """
    if not ops.is_tensor(images):
        images = np.asarray(images)
    takes = list(model.input_shape)
    if any_size:
        takes[1:-1] = [None] * (len(takes) - 2)
    shape = tuple(images.shape)
    if (
        len(shape) != len(takes)
        or shape[0] == 0
        or any(
            s is not None and t is not None and s != t
            for s, t in zip(shape, takes, strict=True)
        )
    ):
        raise ValueError(
            f"`{name}` must be a batch of at least one image, of shape "
            f"{tuple(takes)}. Received: {name}.shape={shape}. A single image "
            f"becomes a batch by {name}[None]."
        )
    return images


def _check_from_logits(model: keras.Model, from_logits: bool) -> None:
    if from_logits and gives_probabilities(model):
        raise ValueError(
            "`from_logits` must be False for a model that ends in a softmax: "
            f"{model.name!r} gives probabilities. Received: from_logits=True"
        )
