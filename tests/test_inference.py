"""Monte Carlo prediction and the sliding window."""

import keras
import numpy as np
import pytest

from keras_deconv import backends, blocks, inference, models

as_numpy = keras.ops.convert_to_numpy

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 16, 24, 3))
IMAGES = IMAGES.astype("float32")


def sample(model, images=IMAGES, samples=6, **options):
    return inference.predict_monte_carlo(
        model, images, samples, verbose=0, **options
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = models.BayesianSegNetBasic((16, 24, 3), 4)
    # Statistics unlike the initial ones, for a change of them to be seen.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 0.5)
            layer.moving_variance.assign(layer.moving_variance * 2)
    return model


def tiny(rate=0.5, **options):
    """Logits that are dropped values of the image: easy to compute again."""
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.Dropout(rate, name="dropout")(inputs)
    return keras.Model(inputs, keras.layers.Activation("linear")(x), **options)


def test_moments_are_those_of_the_samples():
    """The same draws, one by one, through Keras' own calls."""
    model, x = tiny(), IMAGES[:2, :2, :2] / 50
    prediction = sample(model, x, samples=9, seed=3)
    state = model.get_layer("dropout").seed_generator.state
    state.assign([3, 0])
    with backends.global_seed(3):
        logits = [as_numpy(model(x, training=True)) for _ in range(9)]
    draws = as_numpy(keras.ops.softmax(np.stack(logits)))

    def entropy(p):
        return -(p * np.log(p)).sum(-1)

    mean = draws.mean(0)
    expected = inference.MonteCarloPrediction(
        probabilities=mean,
        class_ids=mean.argmax(-1),
        variance=draws.var(0),
        mean_variance=draws.var(0).mean(-1),
        predictive_entropy=entropy(mean),
        mutual_information=entropy(mean) - entropy(draws).mean(0),
    )
    for ours, theirs in zip(prediction, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert prediction.mean_variance.max() > 0.01
    assert prediction.class_ids.dtype == "int32"
    assert prediction.probabilities.dtype == "float32"


def test_without_dropout_the_variance_is_0():
    model = models.BayesianSegNetBasic((16, 24, 3), 4, dropout=0.0)
    with pytest.warns(UserWarning, match="`model` has no dropout"):
        prediction = sample(model)
    assert not prediction.variance.any()
    np.testing.assert_allclose(prediction.mutual_information, 0, atol=1e-6)
    np.testing.assert_allclose(
        prediction.probabilities,
        keras.ops.softmax(model.predict(IMAGES, verbose=0)),
        atol=1e-5,
    )


def test_sampling_changes_nothing_of_the_model(model):
    before = [np.array(v) for v in model.variables]
    logits = model.predict(IMAGES, verbose=0)
    prediction = sample(model, seed=7)
    assert prediction.mean_variance.min() > 0
    after = [np.array(v) for v in model.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), logits)


def test_the_check_of_unchanged_variables_sees_training(model):
    """What a call with training=True, the usual mistake, would have done."""
    copy = keras.models.clone_model(model)
    before = [np.array(v) for v in copy.variables]
    copy(IMAGES, training=True)
    after = [np.array(v) for v in copy.variables]
    assert any(
        np.any(old != new) for old, new in zip(before, after, strict=True)
    )


def test_seeds(model):
    first, again = sample(model, seed=5), sample(model, seed=5)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = sample(model, seed=6)
    assert np.abs(first.variance - other.variance).max() > 0
    free = sample(model), sample(model)
    assert np.abs(free[0].variance - free[1].variance).max() > 0


def test_layers_of_dropout_draw_different_masks():
    inputs = keras.Input((64,))
    first = keras.layers.Dropout(0.5)(inputs)
    second = keras.layers.Dropout(0.5)(inputs)
    model = keras.Model(inputs, keras.layers.Subtract()([first, second]))
    assert sample(model, np.ones((1, 64)), 1, seed=0).probabilities.std() > 0


def test_batches_of_any_size(model):
    whole = sample(model, batch_size=3, samples=200)
    parts = sample(model, batch_size=2, samples=200)
    for a, b in zip(whole, parts, strict=True):
        assert a.shape == b.shape
    # Estimates of the same mean.
    np.testing.assert_allclose(
        whole.probabilities.mean((0, 1, 2)),
        parts.probabilities.mean((0, 1, 2)),
        atol=0.02,
    )


def test_bounds(model):
    prediction = sample(model, samples=12)
    assert 0 <= prediction.variance.min() <= prediction.variance.max() <= 0.25
    assert prediction.mutual_information.min() >= 0
    assert (
        prediction.mutual_information <= prediction.predictive_entropy + 1e-6
    ).all()
    assert prediction.predictive_entropy.max() <= np.log(4) + 1e-5


def test_dropout_alone_is_on():
    """Noise and inner models: only dropout samples, wherever it is."""
    inner_inputs = keras.Input((2, 2, 3))
    x = keras.layers.SpatialDropout2D(0.5)(inner_inputs)
    inner = keras.Model(inner_inputs, keras.layers.BatchNormalization()(x))
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, inner(keras.layers.GaussianNoise(1.0)(inputs)))
    prediction = sample(model, np.ones((1, 2, 2, 3), "float32"), 30, seed=1)
    # Each channel is 0 or 2 in all pixels: at most 8 softmaxes.
    assert prediction.variance.std(axis=(1, 2)).max() == 0
    assert prediction.variance.max() > 0


def test_a_sequential_model_and_a_compiled_one():
    model = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Dropout(0.5)]
    )
    model.compile("adam", "mse")
    x = np.ones((1, 2, 2, 3), "float32")
    assert sample(model, x).variance.max() > 0


def test_probabilities():
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.Dropout(0.5)(inputs)
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    with pytest.raises(ValueError, match="`from_logits` must be False"):
        sample(model, np.ones((1, 2, 2, 3)))
    ours = sample(model, np.ones((1, 2, 2, 3)), seed=2, from_logits=False)
    theirs = sample(tiny(), np.ones((1, 2, 2, 3)), seed=2)
    np.testing.assert_allclose(ours.variance, theirs.variance, atol=1e-6)


def test_in_a_function_and_a_saved_model(model, tmp_path):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow graphs")

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 16, 24, 3), "float32", "images"),
            tf.TensorSpec((), "int32", "samples"),
        ]
    )
    def function(images, samples):
        return inference.predict_monte_carlo(model, images, samples)._asdict()

    seeded = tf.function(lambda x: sample(model, x, seed=4))
    for a, b in zip(seeded(IMAGES), sample(model, seed=4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("monte_carlo", function)
    archive.write_out(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    served = loaded.signatures["monte_carlo"]
    one = served(images=tf.constant(IMAGES), samples=tf.constant(1))
    assert not np.any(one["variance"])
    outputs = served(images=tf.constant(IMAGES), samples=tf.constant(20))
    assert set(outputs) == set(inference.MonteCarloPrediction._fields)
    assert outputs["mean_variance"].shape == (3, 16, 24)
    assert np.all(outputs["mean_variance"] > 0)
    # Anew each time.
    again = served(images=tf.constant(IMAGES), samples=tf.constant(20))
    assert np.any(outputs["variance"] != again["variance"])


def test_uncertainty_is_larger_where_the_image_is_unclear():
    """After training on two clear classes, a mixture of them is unsure."""
    inputs = keras.Input((8, 8, 1))
    x = blocks.conv_norm_relu(inputs, 16, 3, use_bias=True, name="conv")
    x = keras.layers.Dropout(0.5)(x)
    outputs = keras.layers.Conv2D(2, 1)(x)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (32, 1, 1)) * np.ones((1, 8, 8), "int32")
    x = labels[..., None] * 1.0 + 0.1 * random.standard_normal((32, 8, 8, 1))
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.fit(x, labels, epochs=60, verbose=0)
    unclear = 0.5 + 0.1 * random.standard_normal((8, 8, 8, 1))
    clear = sample(model, x[:8], samples=20)
    unsure = sample(model, unclear, samples=20)
    low, high = (p.predictive_entropy.mean() for p in (clear, unsure))
    assert high > 1.5 * low


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(samples=0), "`samples` must be an int >= 1"),
        (dict(samples=2.5), "`samples` must be an int >= 1"),
        (dict(batch_size=0), "`batch_size` must be an int >= 1"),
        (dict(seed=-1), "`seed` must be an int >= 0"),
        (dict(images=IMAGES[0]), r"images\[None\]"),
        (dict(images=IMAGES[:0]), "at least one image"),
        (dict(images=IMAGES[..., :2]), "`images` must be a batch"),
        (dict(model=keras.layers.Dense(1)), "`model` must be a built"),
    ],
)
def test_mistakes(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        inference.predict_monte_carlo(
            **{"model": model, "images": IMAGES, "verbose": 0, **arguments}
        )


def test_sliding_window_gives_each_pixel_its_own_patch(rng):
    """A model that returns the middle of the patch returns the image."""
    for size in ((5, 5), (4, 6), (1, 1)):
        inputs = keras.Input((*size, 2))
        middle = inputs[:, size[0] // 2, size[1] // 2]
        model = keras.Model(inputs, middle)
        x = rng.standard_normal((2, 7, 9, 2)).astype("float32")
        y = inference.predict_sliding_window(model, x, batch_size=50, verbose=0)
        np.testing.assert_array_equal(y, x)


def test_sliding_window_of_a_convolution(rng):
    """A linear model of patches is a same-padded convolution."""
    inputs = keras.Input((3, 5, 2))
    conv = keras.layers.Conv2D(4, (3, 5), data_format="channels_last")
    model = keras.Model(inputs, keras.layers.Flatten()(conv(inputs)))
    x = rng.standard_normal((1, 6, 8, 2)).astype("float32")
    y = inference.predict_sliding_window(model, x, verbose=0)
    same = keras.ops.conv(
        x, conv.kernel, padding="same", data_format="channels_last"
    )
    np.testing.assert_allclose(y, as_numpy(same), rtol=1e-4, atol=1e-5)


def test_sliding_window_is_what_predict_says_of_the_patch(rng):
    model = models.PatchClassifier((8, 8, 3), 4, filters=(4,), fc_units=8)
    x = rng.uniform(0, 255, (1, 9, 10, 3)).astype("float32")
    y = inference.predict_sliding_window(model, x, batch_size=7, verbose=0)
    assert y.shape == (1, 9, 10, 4)
    patch = x[:, 0:8, 1:9]  # around row 4, column 5
    np.testing.assert_allclose(
        y[:, 4, 5], model.predict(patch, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_sliding_window_mistakes(model):
    with pytest.raises(ValueError, match="`model` must map patches"):
        inference.predict_sliding_window(model, IMAGES, verbose=0)
    classifier = models.PatchClassifier((8, 8, 3), 4)
    with pytest.raises(ValueError, match=r"of shape \(None, None, None, 3\)"):
        inference.predict_sliding_window(classifier, IMAGES[..., :1])
    with pytest.raises(ValueError, match="`batch_size`"):
        inference.predict_sliding_window(classifier, IMAGES, batch_size=0)
