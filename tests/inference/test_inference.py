"""Monte Carlo prediction and the sliding window."""

import keras
import numpy as np
import pytest

from keras_deconv import _backends, inference, models
from keras_deconv.inference import monte_carlo
from keras_deconv.models import _blocks
from tests import networks
from tests.seeds import SEED

pytestmark = pytest.mark.oldest

as_numpy = keras.ops.convert_to_numpy

IMAGES = np.random.default_rng(SEED).uniform(0, 255, (3, 16, 24, 3))
IMAGES = IMAGES.astype("float32")


def sample(model, images=IMAGES, samples=6, **options):
    return inference.predict_monte_carlo(
        model, images, samples, verbose=0, **options
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(SEED)
    with pytest.MonkeyPatch.context() as patch:
        networks.make_slim(patch)
        model = models.BayesianSegNetBasic((16, 24, 3), 4)
    # Statistics differ from the initial ones, so that tests detect changes.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 0.5)
            layer.moving_variance.assign(layer.moving_variance * 2)
    return model


def tiny(rate=0.5, **options):
    """A model whose logits are the image after dropout."""
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.Dropout(rate, name="dropout")(inputs)
    return keras.Model(inputs, keras.layers.Activation("linear")(x), **options)


@pytest.mark.backend
@pytest.mark.numeric
def test_moments_are_those_of_the_samples():
    """The reference draws the same samples through Keras' calls."""
    model, x = tiny(), IMAGES[:2, :2, :2] / 50
    prediction = sample(model, x, samples=9, seed=3)
    state = model.get_layer("dropout").seed_generator.state
    state.assign([3, 0])
    with _backends.global_seed(3):
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


@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    "build",
    [
        lambda: models.BayesianSegNetBasic((2, 2, 3), 4, dropout=0.0),
        lambda: tiny(rate=0.0),
    ],
)
def test_without_dropout_the_variance_is_0(build):
    model, x = build(), IMAGES[:, :2, :2]
    with pytest.warns(UserWarning, match="`model` has no dropout"):
        prediction = sample(model, x)
    assert not prediction.variance.any()
    np.testing.assert_allclose(prediction.mutual_information, 0, atol=1e-6)
    np.testing.assert_allclose(
        prediction.probabilities,
        keras.ops.softmax(model.predict(x, verbose=0)),
        atol=1e-5,
    )


@pytest.mark.backend
@pytest.mark.slow
def test_sampling_changes_nothing_of_the_model(model):
    before = [np.array(v) for v in model.variables]
    logits = model.predict(IMAGES, verbose=0)
    prediction = sample(model, seed=7)
    assert prediction.mean_variance.min() > 0
    after = [np.array(v) for v in model.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), logits)


@pytest.mark.backend
@pytest.mark.slow
def test_the_check_of_unchanged_variables_sees_training(model):
    """The check detects a call with training=True, a common mistake."""
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


@pytest.mark.backend
def test_layers_of_dropout_draw_different_masks():
    inputs = keras.Input((64,))
    first = keras.layers.Dropout(0.5)(inputs)
    second = keras.layers.Dropout(0.5)(inputs)
    model = keras.Model(inputs, keras.layers.Subtract()([first, second]))
    assert sample(model, np.ones((1, 64)), 1, seed=0).probabilities.std() > 0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_batches_keep_the_order_of_images(batch_size):
    """Image i belongs to class i, and dropout makes it uncertain."""
    classes = np.arange(5)
    inputs = keras.Input((2, 2, 5))
    model = keras.Model(inputs, keras.layers.Dropout(0.3)(inputs))
    x = np.broadcast_to(9 * np.eye(5)[:, None, None], (5, 2, 2, 5))
    prediction = sample(model, x, 60, seed=0, batch_size=batch_size)
    assert prediction.class_ids.dtype == "int32"
    np.testing.assert_array_equal(
        prediction.class_ids, np.broadcast_to(classes[:, None, None], (5, 2, 2))
    )
    # Dropout changes only the value of the class.
    np.testing.assert_array_equal(
        prediction.variance.argmax(-1), prediction.class_ids
    )
    for array in prediction:
        assert array.shape[:3] == (5, 2, 2)
        assert np.isfinite(array).all()


class Watch(keras.layers.Layer):
    """A layer that stores the result of `look` for its inputs."""

    def __init__(self, look, **options):
        super().__init__(**options)
        self.look, self.seen = look, []

    def call(self, inputs):
        self.seen.append(self.look(inputs))
        return inputs


def watched(look):
    """A model with dropout for any size, and the results of `look`."""
    inputs = keras.Input((None, None, 3))
    watch = Watch(look)
    x = keras.layers.Dropout(0.5)(watch(inputs))
    return keras.Model(inputs, x), watch.seen


def test_one_graph_does_for_all_batches():
    model, seen = watched(lambda x: tuple(x.shape))
    sample(model, IMAGES)  # creates the sampled copy
    del seen[:]
    x = np.ones((5, 2, 2, 3), "uint8")
    for dtype in ("uint8", "float32", "int64"):
        sample(model, x.astype(dtype), samples=2, batch_size=2)
    assert set(seen) == {(2, 2, 2, 3)}
    if keras.config.backend() == "tensorflow":
        assert len(seen) == 2  # the first sample, and the loop
    del seen[:]
    sample(model, x[:1], batch_size=4)
    assert set(seen) == {(1, 2, 2, 3)}


@pytest.mark.backend
def test_so_many_shapes_have_a_graph_of_their_own(monkeypatch):
    if keras.config.backend() != "tensorflow":
        pytest.skip("TensorFlow graphs")
    monkeypatch.setattr(_backends, "MAX_GRAPHS", 2)
    shapes = []

    def function(x):
        shapes.append(tuple(x.shape))
        return x + 1

    compiled = _backends.compiled(function)
    for size in (1, 2, 3, 4, 5, 1, 2):
        x = np.ones(size, "float32")
        np.testing.assert_array_equal(
            as_numpy(compiled(keras.ops.convert_to_tensor(x))), x + 1
        )
    assert shapes == [(1,), (2,), (3,), (None,)]


@pytest.mark.backend
def test_nothing_is_kept_for_gradients():
    torch = pytest.importorskip("torch")
    if keras.config.backend() != "torch":
        pytest.skip("PyTorch keeps what it computes, unless told")
    model, seen = watched(lambda x: torch.is_grad_enabled())
    sample(model, samples=3)
    assert seen[-3:] == [False] * 3
    assert torch.is_grad_enabled()


def test_bounds(model):
    prediction = sample(model, samples=12)
    assert 0 <= prediction.variance.min() <= prediction.variance.max() <= 0.25
    assert prediction.mutual_information.min() >= 0
    assert (
        prediction.mutual_information <= prediction.predictive_entropy + 1e-6
    ).all()
    assert prediction.predictive_entropy.max() <= np.log(4) + 1e-5


@pytest.mark.backend
def test_dropout_alone_is_on():
    """Dropout in inner models is on, and noise is off."""
    inner_inputs = keras.Input((2, 2, 3))
    x = keras.layers.SpatialDropout2D(0.5)(inner_inputs)
    inner = keras.Model(inner_inputs, keras.layers.BatchNormalization()(x))
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, inner(keras.layers.GaussianNoise(1.0)(inputs)))
    prediction = sample(model, np.ones((1, 2, 2, 3), "float32"), 30, seed=1)
    # Each channel is 0 or 2 in all pixels, so at most 8 softmaxes are possible.
    assert prediction.variance.std(axis=(1, 2)).max() == 0
    assert prediction.variance.max() > 0


def test_a_sequential_model_and_a_compiled_one():
    model = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Dropout(0.5)]
    )
    model.compile("adam", "mse")
    x = np.ones((1, 2, 2, 3), "float32")
    assert sample(model, x).variance.max() > 0


def graph(*steps, shape=(2, 2, 3)):
    """A model that is a sequence of layers or operations."""
    inputs = outputs = keras.Input(shape)
    for step in steps:
        outputs = step(outputs)
    return keras.Model(inputs, outputs)


@pytest.mark.backend
def test_models_inside_models_inside_models():
    inner = graph(keras.layers.Dropout(0.5))
    middle = keras.Sequential([keras.Input((2, 2, 3)), inner])
    model = graph(middle)
    x = np.ones((1, 2, 2, 3), "float32")
    first, again = sample(model, x, seed=1), sample(model, x, seed=1)
    assert first.variance.max() > 0
    np.testing.assert_array_equal(first.variance, again.variance)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dropout(0.5),
        keras.layers.SpatialDropout1D(0.5),
        keras.layers.GaussianDropout(0.5),
        keras.layers.AlphaDropout(0.5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_dropout_is_sampled(layer):
    model, x = graph(layer, shape=(4, 3)), np.ones((1, 4, 3), "float32")
    first, again = sample(model, x, seed=1), sample(model, x, seed=1)
    assert first.variance.max() > 0
    np.testing.assert_array_equal(first.variance, again.variance)


class Inside(keras.layers.Layer):
    """A layer with dropout inside it."""

    def __init__(self):
        super().__init__()
        self.dropout_layer = keras.layers.Dropout(0.5)

    def call(self, inputs, training=False):
        return self.dropout_layer(inputs, training=training)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dropout_layer = keras.layers.Dropout(0.5)

    def call(self, inputs, training=False):
        return self.dropout_layer(inputs, training=training)


def attend(inputs):
    layer = keras.layers.MultiHeadAttention(2, 2, dropout=0.5)
    return layer(inputs, inputs)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("step", "name"),
    [
        (Inside(), "Inside"),
        (Subclassed(), "Subclassed"),
        (graph(Subclassed(), shape=(4, 3)), "Subclassed"),
        (
            keras.layers.TimeDistributed(keras.layers.Dropout(0.5)),
            "TimeDistributed",
        ),
        (keras.layers.LSTM(3, dropout=0.5), "LSTM"),
        (keras.layers.LSTM(3, recurrent_dropout=0.5), "LSTM"),
        (attend, "MultiHeadAttention"),
    ],
)
def test_dropout_that_would_stay_off_is_refused(step, name):
    model = graph(keras.layers.Dropout(0.5), step, shape=(4, 3))
    with pytest.raises(ValueError, match=f"of class {name}, which has random"):
        sample(model, np.ones((1, 4, 3), "float32"))


@pytest.mark.backend
def test_what_draws_without_dropout_is_left_off():
    model = graph(
        keras.layers.RandomFlip(),
        keras.layers.GaussianNoise(1.0),
        keras.layers.Reshape((4, 3)),
        keras.layers.LSTM(3),
    )
    x = np.arange(12.0).reshape(1, 2, 2, 3)
    with pytest.warns(UserWarning, match="`model` has no dropout"):
        assert not sample(model, x).variance.any()


def test_a_model_that_changes_is_sampled_as_it_is():
    x = np.ones((1, 2, 2, 3), "float32")
    model = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Dropout(0.5)]
    )
    assert sample(model, x).variance.max() > 0.01
    assert monte_carlo._sampler(model) is monte_carlo._sampler(model)
    model.layers[0].rate = 1e-6
    assert sample(model, x).variance.max() < 0.01
    model.add(keras.layers.Dense(5))
    assert sample(model, x).probabilities.shape == (1, 2, 2, 5)


@pytest.mark.backend
@pytest.mark.numeric
def test_probabilities():
    model = graph(keras.layers.Dropout(0.5), keras.layers.Softmax())
    ours = sample(model, np.ones((1, 2, 2, 3)), seed=2, from_logits=False)
    theirs = sample(tiny(), np.ones((1, 2, 2, 3)), seed=2)
    np.testing.assert_allclose(ours.variance, theirs.variance, atol=1e-6)


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (keras.layers.Softmax(), "softmax"),
        (keras.layers.Activation("softmax"), "softmax"),
        (keras.layers.Dense(2, activation="sigmoid"), "sigmoid"),
        (keras.ops.softmax, "softmax"),
        (keras.ops.sigmoid, "sigmoid"),
        # The last layer keeps the probabilities.
        (
            graph(
                keras.layers.Softmax(),
                keras.layers.UpSampling2D(),
                keras.layers.Cropping2D(1),
                keras.layers.Activation("linear", dtype="float32"),
            ),
            "softmax",
        ),
        (graph(graph(keras.layers.Softmax())), "softmax"),
        (
            keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Softmax()]),
            "softmax",
        ),
    ],
)
def test_no_softmax_of_a_softmax(last, name):
    model = graph(keras.layers.Dropout(0.5), last)
    with pytest.raises(ValueError, match=f"model that ends in a {name}"):
        sample(model, np.ones((1, 2, 2, 3)))


def test_logits_of_an_inner_model_with_two_outputs():
    inputs = keras.Input((2, 2, 3))
    inner = keras.Model(inputs, [inputs + 1, keras.ops.softmax(inputs)])
    model = graph(keras.layers.Dropout(0.5), lambda x: inner(x)[0])
    assert sample(model, np.ones((1, 2, 2, 3))).variance.max() > 0


@pytest.mark.parametrize("scores", [[1, 1, 1], [2, -1, 0]])
def test_logits_are_no_probabilities(scores):
    x = np.broadcast_to(np.float32(scores), (1, 2, 2, 3))
    with pytest.raises(ValueError, match="`from_logits` must be True"):
        sample(tiny(rate=1e-6), x, from_logits=False)


@pytest.mark.backend
def test_on_jax_nothing_is_traced():
    jax = pytest.importorskip("jax")
    if keras.config.backend() != "jax":
        pytest.skip("JAX keeps no variables in what it compiles")
    model, x = tiny(), IMAGES[:, :2, :2]
    for function in (
        jax.jit(lambda x: sample(model, x).variance),
        jax.jit(lambda _: sample(model, IMAGES[:, :2, :2]).variance),
        jax.vmap(lambda x: sample(model, x[None]).variance),
    ):
        with pytest.raises(ValueError, match="`images` must not be traced"):
            function(x)
    # The model still works.
    assert sample(model, x).variance.max() > 0


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.slow
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
    def serve(images, samples):
        return inference.predict_monte_carlo(model, images, samples)._asdict()

    expected = sample(model, seed=4)
    for function in (
        tf.function(lambda x: sample(model, x, seed=4)),
        # A graph may close over NumPy images.
        tf.function(lambda _: sample(model, seed=4)),
    ):
        for a, b in zip(function(IMAGES), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("monte_carlo", serve)
    archive.write_out(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    served = loaded.signatures["monte_carlo"]
    one = served(images=tf.constant(IMAGES), samples=tf.constant(1))
    assert not np.any(one["variance"])
    outputs = served(images=tf.constant(IMAGES), samples=tf.constant(20))
    assert set(outputs) == set(inference.MonteCarloPrediction._fields)
    assert outputs["mean_variance"].shape == (3, 16, 24)
    assert np.all(outputs["mean_variance"] > 0)
    # Each call draws other samples.
    again = served(images=tf.constant(IMAGES), samples=tf.constant(20))
    assert np.any(outputs["variance"] != again["variance"])


@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.numeric
def test_samples_as_tensor_of_a_function():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow graphs")
    model, x = tiny(), IMAGES[:, :2, :2]

    @tf.function
    def function(samples):
        return sample(model, x, samples, seed=3).variance

    expected = sample(model, x, 5, seed=3).variance
    for dtype in ("int32", "int64", "uint8"):
        np.testing.assert_allclose(
            function(tf.constant(5, dtype)), expected, atol=1e-6
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match="`samples` must"):
        function(tf.constant(0))
    for wrong in (tf.constant(2.7), tf.constant([3]), tf.constant("3")):
        with pytest.raises(ValueError, match="`samples` must"):
            function(wrong)


@pytest.mark.slow
def test_uncertainty_is_larger_where_the_image_is_unclear():
    """After training on two classes, a mixture of them is uncertain."""
    inputs = keras.Input((8, 8, 1))
    x = _blocks.conv_norm_relu(inputs, 16, 3, use_bias=True, name="conv")
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


@pytest.mark.backend
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(samples=0), "`samples` must be an int >= 1"),
        (dict(samples=2.5), "`samples` must be an int >= 1"),
        (dict(batch_size=0), "`batch_size` must be an int >= 1"),
        (dict(seed=-1), "`seed` must be an int >= 0"),
        (dict(seed=2**31), "`seed` must be an int from 0 to 2147483647"),
        (dict(from_logits=None), "`from_logits` must be True or False"),
        (dict(from_logits="no"), "`from_logits` must be True or False"),
        (dict(images=np.full(IMAGES.shape, "0")), "`images` must hold floats"),
        (dict(images=IMAGES[0]), r"images\[None\]"),
        (dict(images=IMAGES[:0]), "at least one image"),
        (dict(images=IMAGES[..., :2]), "`images` must be a batch"),
        (dict(images=IMAGES[:, :0]), "at least one image"),
        (dict(model=keras.layers.Dense(1)), "`model` must be a built"),
        (dict(model=Subclassed()), "`model` must be a built"),
        (dict(model=None), "`model` must be a built"),
        (
            dict(model=graph(lambda x: [x + 1] * 2, shape=(16, 24, 3))),
            "`model` must have one input and one output",
        ),
        (
            dict(model=graph(keras.layers.Dense(1), shape=(16, 24, 3))),
            "two or more classes .* shape .*, 1",
        ),
        (
            dict(model=graph(lambda x: x[:, 0, 0, 0], shape=(16, 24, 3))),
            "two or more classes",
        ),
    ],
)
def test_mistakes(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        inference.predict_monte_carlo(
            **{"model": model, "images": IMAGES, "verbose": 0, **arguments}
        )


@pytest.mark.backend
def test_the_largest_seed():
    assert sample(tiny(), IMAGES[:, :2, :2], seed=2**31 - 1).variance.max() > 0


@pytest.mark.parametrize("value", [0, 2.7, [3], [3, 4]])
def test_samples_are_one_int(value):
    value = keras.ops.convert_to_tensor(value)
    with pytest.raises(ValueError, match="`samples` must be an int >= 1"):
        sample(tiny(), IMAGES[:, :2, :2], value)


@pytest.mark.backend
@pytest.mark.numeric
def test_samples_and_images_as_tensors():
    x = IMAGES[:, :2, :2]
    np.testing.assert_allclose(
        sample(
            tiny(),
            keras.ops.convert_to_tensor(x),
            keras.ops.convert_to_tensor(5),
            seed=1,
        ).variance,
        sample(tiny(), x, 5, seed=1).variance,
        atol=1e-6,
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


def test_sliding_window_cuts_the_patch_around_each_pixel(rng):
    """A model that returns its patch returns the patches of a loop."""
    for size in ((4, 6), (5, 3)):
        model = graph(keras.layers.Flatten(), shape=(*size, 3))
        x = rng.standard_normal((2, 7, 5, 3)).astype("float32")
        cut, numbers = networks.patches(size, x, np.arange(70))
        y = inference.predict_sliding_window(model, x, batch_size=9, verbose=0)
        np.testing.assert_array_equal(y.reshape(cut.shape), cut[numbers])


@pytest.mark.backend
def test_sliding_window_gives_float32():
    inputs = keras.Input((3, 3, 2), dtype="float16")
    model = keras.Model(inputs, {"scores": inputs[:, 1, 1]})
    x = np.arange(24.0).reshape(1, 3, 4, 2)
    y = inference.predict_sliding_window(model, x, verbose=0)
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y, x)


def test_sliding_window_on_several_devices(monkeypatch, rng):
    """With MirroredStrategy, each replica predicts the whole batch."""
    inputs = keras.Input((3, 3, 2))
    model = keras.Model(inputs, inputs[:, 1, 1])
    predict = model.predict_on_batch
    monkeypatch.setattr(
        model, "predict_on_batch", lambda x: np.concatenate([predict(x)] * 2)
    )
    x = rng.standard_normal((2, 4, 5, 2)).astype("float32")
    y = inference.predict_sliding_window(model, x, batch_size=7, verbose=0)
    np.testing.assert_array_equal(y, x)


@pytest.mark.backend
@pytest.mark.numeric
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


@pytest.mark.backend
@pytest.mark.numeric
def test_sliding_window_is_what_predict_says_of_the_patch(rng):
    model = models.PatchClassifier((8, 8, 3), 4, filters=(4,), fc_units=8)
    x = rng.uniform(0, 255, (1, 9, 10, 3)).astype("float32")
    y = inference.predict_sliding_window(model, x, batch_size=7, verbose=0)
    assert y.shape == (1, 9, 10, 4)
    patch = x[:, 0:8, 1:9]  # around row 4, column 5
    np.testing.assert_allclose(
        y[:, 4, 5], model.predict(patch, verbose=0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(model=graph(keras.layers.Dense(1))), "`model` must map patches"),
        (
            dict(model=graph(lambda x: x[:, 0, 0], shape=(None, 2, 3))),
            "`model` must map patches",
        ),
        (dict(model=graph(lambda x: [x[:, 0, 0]] * 2)), "one output"),
        (dict(model=Subclassed()), "`model` must be a built"),
        (dict(model=keras.layers.Dense(1)), "`model` must be a built"),
        (dict(model=None), "`model` must be a built"),
        (dict(images=IMAGES[..., :1]), r"of shape \(None, None, None, 3\)"),
        (dict(images=IMAGES[:, :0]), "at least one image"),
        (dict(batch_size=0), "`batch_size`"),
    ],
)
def test_sliding_window_mistakes(arguments, words):
    model = graph(lambda x: x[:, 0, 0])
    with pytest.raises(ValueError, match=words):
        inference.predict_sliding_window(
            **{"model": model, "images": IMAGES, "verbose": 0, **arguments}
        )


@pytest.mark.backend
def test_sliding_window_is_not_compiled():
    model = graph(lambda x: x[:, 0, 0])

    def function(_):
        return inference.predict_sliding_window(model, IMAGES, verbose=0)

    if keras.config.backend() == "tensorflow":
        compiled = _backends.compiled(function)
    elif keras.config.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        pytest.skip("PyTorch runs what it cannot compile")
    with pytest.raises(ValueError, match="`images` must not be traced"):
        compiled(keras.ops.zeros(1))
