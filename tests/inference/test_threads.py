"""Several threads that use one model."""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest

from keras_deconv import _graphs, _locks, inference, models

pytestmark = pytest.mark.oldest

as_numpy = keras.ops.convert_to_numpy
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3))
IMAGES = IMAGES.astype("float32")


def model_with_dropout(inner=None):
    """A model that may share its dropout layer with another model."""
    inputs = keras.Input((8, 8, 3))
    dropout = keras.layers.Dropout(0.5) if inner is None else inner.layers[1]
    outputs = keras.layers.Conv2D(2, 1)(dropout(inputs))
    return keras.Model(inputs, outputs)


def test_a_seed_gives_its_samples_in_every_thread():
    model = model_with_dropout()
    other = model_with_dropout(inner=model)
    state = model.layers[1].seed_generator.state
    before = as_numpy(state)

    def sample(number):
        return inference.predict_monte_carlo(
            (model, other)[number % 2],
            IMAGES,
            samples=5,
            batch_size=1,
            seed=number % 4,
            verbose=0,
        ).probabilities

    expected = [sample(number) for number in range(4)]
    for a, b in ((0, 2), (1, 3)):
        assert (expected[a] != expected[b]).any()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(sample, range(40))):
            np.testing.assert_array_equal(found, expected[number % 4])
    np.testing.assert_array_equal(as_numpy(state), before)


@keras.saving.register_keras_serializable("tests")
class Turnstile(keras.layers.Layer):
    """A layer that signals a training pass, and delays it."""

    def build(self, shape):
        self.entered = threading.Event()

    def call(self, inputs, training=False):
        if training:
            self.entered.set()
            # Long enough for a prediction that does not wait.
            threading.Event().wait(0.5)
        return inputs


def tiled(model, image):
    return inference.predict_tiled(model, image, 8, 0, stride=1, verbose=0)


def monte_carlo(model, image):
    images = image[None]
    return inference.predict_monte_carlo(
        model, images, samples=2, seed=0, verbose=0
    ).probabilities


@pytest.mark.slow
@pytest.mark.parametrize("predict", [tiled, monte_carlo])
def test_predictions_do_not_see_a_batch_that_is_measured(predict):
    turnstile = Turnstile()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            turnstile,
            keras.layers.Conv2D(2, 1),
        ]
    )
    expected = predict(model, IMAGES[0])
    predicted = threading.Event()

    def dataset():
        yield IMAGES
        # The second batch keeps the pass running after the first one.
        assert predicted.wait(60)
        yield IMAGES * 3

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        measuring = pool.submit(
            models.recompute_batch_statistics, model, dataset(), verbose=0
        )
        try:
            assert turnstile.entered.wait(60)
            found = predict(model, IMAGES[0])
        finally:
            predicted.set()
        measuring.result()
    np.testing.assert_array_equal(found, expected)
    assert (predict(model, IMAGES[0]) != expected).any()


def in_tiles(model):
    images = np.tile(IMAGES[0], (2, 2, 1))
    inference.predict_tiled(model, images, 8, 0, stride=1, verbose=0)


def pixel_by_pixel(model):
    patches = keras.Sequential([model, keras.layers.GlobalMaxPooling2D()])
    inference.predict_sliding_window(
        patches, IMAGES[:1, :2], batch_size=4, verbose=0
    )


@pytest.mark.parametrize("predict", [in_tiles, pixel_by_pixel])
def test_nobody_changes_a_model_between_two_batches(predict, monkeypatch):
    model = model_with_dropout()
    changed, found, threads = threading.Event(), [], []

    def change():
        with _locks.held(_graphs.every_layer(model)):
            changed.set()

    class BetweenBatches:
        def __init__(self, *_, **__):
            pass

        def update(self, _):
            threads.append(threading.Thread(target=change))
            threads[-1].start()
            # Long enough for a thread that does not wait.
            found.append(changed.wait(0.2))

        add = update

    monkeypatch.setattr(keras.utils, "Progbar", BetweenBatches)
    predict(model)
    for thread in threads:
        thread.join()
    assert len(found) > 1
    assert not any(found)
    assert changed.is_set()
