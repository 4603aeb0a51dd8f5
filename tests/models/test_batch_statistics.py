"""Recomputed statistics of batch normalization.

Datasets are tf.data pipelines on every backend.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import models
from keras_deconv.models import SegNetBasic
from tests import networks

pytestmark = [pytest.mark.backend, pytest.mark.oldest]

as_numpy = keras.ops.convert_to_numpy


def batches(rng, number=5, batch_size=4):
    """Images whose statistics differ from batch to batch."""
    x = rng.uniform(0, 255, (number * batch_size, 8, 8, 3)).astype("float32")
    x *= np.linspace(0.2, 1, len(x)).reshape(-1, 1, 1, 1)
    return x


def moments(*parts):
    """Mean and variance of each batch, averaged over the batches."""
    axes = (0, 1, 2)
    return [
        np.mean([function(part, axis=axes) for part in parts], axis=0)
        for function in (np.mean, np.var)
    ]


def assert_statistics(norm, expected, rtol=1e-4):
    moving = (norm.moving_mean, norm.moving_variance)
    for ours, value in zip(moving, expected, strict=True):
        np.testing.assert_allclose(as_numpy(ours), value, rtol=rtol)


def first_norm():
    """A model whose first batch normalization sees the image itself."""
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            norm,
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(name="second"),
        ]
    )
    return model, norm


@pytest.mark.numeric
@pytest.mark.parametrize("batch_size", [4, 6])
def test_statistics_are_averages_over_the_batches(rng, batch_size):
    x = batches(rng)
    model, norm = first_norm()
    dataset = tf.data.Dataset.from_tensor_slices((x, x)).batch(batch_size)
    models.recompute_batch_statistics(model, dataset, verbose=0)
    parts = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    # Each batch counts once per image, so a smaller last one counts less.
    assert_statistics(norm, moments(*(p for p in parts for _ in p)))
    assert norm.momentum == 0.99


@pytest.mark.numeric
def test_a_model_predicts_what_it_saw_in_training(rng, monkeypatch):
    """With one batch and without dropout, inference equals training."""
    networks.make_slim(monkeypatch)
    net = SegNetBasic((8, 8, 3), 3)
    x = batches(rng, 1)
    before = as_numpy(net(x))
    seen = as_numpy(net(x, training=True))
    models.recompute_batch_statistics(net, [x], verbose=0)
    after = as_numpy(net(x))
    np.testing.assert_allclose(after, seen, rtol=1e-3, atol=1e-3)
    assert np.abs(before - seen).max() > 0.1


@pytest.mark.numeric
def test_steps_frozen_layers_and_inner_models(rng):
    x = batches(rng)
    inner, norm = first_norm()
    inner.get_layer("second").trainable = False
    model = keras.Sequential([keras.Input((8, 8, 3)), inner])
    forever = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    models.recompute_batch_statistics(model, forever, steps=2, verbose=0)
    assert_statistics(norm, moments(x[:4], x[4:8]))
    assert_statistics(inner.get_layer("second"), (0, 1), rtol=0)


@pytest.mark.numeric
def test_statistics_stay_where_something_is_wrong(rng):
    x = batches(rng)
    model, norm = first_norm()
    nan = np.full_like(x[:4], np.nan)
    # Statistics of a different dataset, which must be restored after errors.
    norm.set_weights([np.full(3, v) for v in (1, 0, 5, 7)])

    def breaks():
        yield x[:4]
        raise OSError("the disk is gone")

    def fails(dataset, match, error=ValueError):
        with pytest.raises(error, match=match):
            models.recompute_batch_statistics(model, dataset, verbose=0)
        assert_statistics(norm, (5, 7), rtol=0)
        assert norm.momentum == 0.99
        assert "call" not in vars(norm)

    fails(breaks(), "the disk", OSError)
    fails([], "`dataset` must yield at least")
    fails([x[:4], nan], "batch 2, counted from 1, .*'norm' is NaN")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="`model` must have a Batch"):
        models.recompute_batch_statistics(model, [x], verbose=0)


@pytest.mark.numeric
def test_statistics_that_are_not_finite_are_mended(rng):
    x = batches(rng, 1)
    model, norm = first_norm()
    norm.moving_mean.assign(np.array([np.nan, np.inf, 3]))
    norm.moving_variance.assign(np.array([np.nan, np.inf, 3]))
    models.recompute_batch_statistics(model, [x], verbose=0)
    assert_statistics(norm, moments(x))


@keras.saving.register_keras_serializable("tests")
class Composite(keras.layers.Layer):
    """A layer with batch normalizations, one of which it never calls."""

    def __init__(self):
        super().__init__()
        self.own = keras.layers.BatchNormalization()
        self.nested = [{"a": keras.layers.BatchNormalization()}]
        self.spare = keras.layers.BatchNormalization()
        self.unbuilt = keras.layers.BatchNormalization()

    def build(self, shape):
        for norm in (self.own, self.nested[0]["a"], self.spare):
            norm.build(shape)

    def call(self, x):
        return self.own(x) + self.nested[0]["a"](2 * x)


@pytest.mark.numeric
def test_layers_inside_layers(rng):
    x = batches(rng, 1)
    layer = Composite()
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    layer.spare.set_weights([np.full(3, v) for v in (1, 0, 5, 7)])
    models.recompute_batch_statistics(model, [x], verbose=0)
    assert_statistics(layer.own, moments(x))
    assert_statistics(layer.nested[0]["a"], moments(2 * x))
    assert_statistics(layer.spare, (5, 7), rtol=0)


@pytest.mark.numeric
def test_a_layer_called_twice_gets_the_average_of_its_calls(rng):
    x = batches(rng, 3)
    norm = keras.layers.BatchNormalization()
    inputs = keras.Input((8, 8, 3))
    once = keras.layers.BatchNormalization()
    twice = norm(inputs) + norm(3 * inputs)
    model = keras.Model(inputs, once(twice))
    parts = [x[:4], x[4:8], x[8:]]
    models.recompute_batch_statistics(model, parts, verbose=0)
    assert_statistics(norm, moments(*parts, *(3 * part for part in parts)))


@pytest.mark.numeric
def test_data_sets_that_do_not_know_their_length(rng, capsys):
    x = batches(rng)
    model, norm = first_norm()
    known = tf.data.Dataset.from_tensor_slices(x)
    for dataset in (
        known.filter(lambda image: True),
        tf.data.Dataset.from_generator(
            lambda: iter(x), output_signature=tf.TensorSpec((8, 8, 3))
        ),
    ):
        models.recompute_batch_statistics(model, dataset.batch(20))
        assert_statistics(norm, moments(x))
        assert "Unknown" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"`steps` must .* indefinitely"):
        models.recompute_batch_statistics(model, known.batch(4).repeat())


@pytest.mark.numeric
def test_batches_may_be_dicts(rng):
    x = batches(rng, 2)
    norm = keras.layers.BatchNormalization()
    inputs = {n: keras.Input((8, 8, 3), name=n) for n in ("left", "right")}
    model = keras.Model(inputs, norm(inputs["left"]) + inputs["right"])
    parts = [x[:4], x[4:]]
    models.recompute_batch_statistics(
        model, [{"left": part, "right": part} for part in parts], verbose=0
    )
    assert_statistics(norm, moments(*parts))


def test_arguments_of_recompute_batch_statistics(rng):
    x = batches(rng, 1)
    model, norm = first_norm()
    unbuilt = keras.Sequential([keras.layers.BatchNormalization()])
    for wrong in (None, norm, unbuilt, "model"):
        with pytest.raises(ValueError, match=r"`model` must be a keras\.Model"):
            models.recompute_batch_statistics(wrong, [x], verbose=0)
    for wrong in (None, 5, x, keras.ops.convert_to_tensor(x)):
        with pytest.raises(ValueError, match=r"`dataset` must be an iterable"):
            models.recompute_batch_statistics(model, wrong, verbose=0)
    for steps in (0, -1, 2.5, "2", True):
        with pytest.raises(ValueError, match="`steps` must be an int >= 1"):
            models.recompute_batch_statistics(
                model, [x], steps=steps, verbose=0
            )


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="PyTorch alone keeps gradients"
)
def test_nothing_is_kept_for_a_backward_pass(rng):
    import torch

    seen = []

    class Witness(keras.layers.Layer):
        def call(self, x):
            seen.append(torch.is_grad_enabled())
            return x

    model, _ = first_norm()
    model = keras.Sequential([model, Witness()])
    x = batches(rng, 1)
    model(x)
    seen.clear()
    models.recompute_batch_statistics(model, [x], verbose=0)
    assert seen == [False]
    assert torch.is_grad_enabled()
