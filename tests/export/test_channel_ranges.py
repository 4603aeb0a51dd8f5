"""Channels of equal range: another network that computes the same."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_deconv import (
    MaxPoolWithArgmax2D,
    MaxUnpool2D,
    NearestUnpool2D,
    models,
)
from keras_deconv.export._channel_ranges import (
    MAX_FACTOR,
    _factors,
    equal_channels,
)
from tests import bounds

pytestmark = pytest.mark.export


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (4, 16, 24, 3)).astype("float32")


def uneven(model):
    """Normalizations whose channels differ by up to eight times."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization) and layer.scale:
            scale = rng.uniform(0.25, 2, layer.gamma.shape)
            layer.gamma.assign(scale * rng.choice([-1, 1], scale.shape))
            if layer.center:
                layer.beta.assign(rng.normal(size=scale.shape))
    return model


def read_by(model, name, images):
    """The largest magnitude in each channel of what a convolution reads."""
    inner = keras.Model(model.inputs[0], model.get_layer(name).input)
    return np.abs(inner(images)).max((0, 1, 2))


def scales_of(model):
    """By the name of their layer."""
    return {
        layer.name: np.array(layer.gamma)
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization) and layer.scale
    }


def changed_in(model, images, see=lambda model: None):
    """Which normalizations change, and what is seen then.

    The network has to compute the same, and to have its own weights afterwards.
    """
    weights, scales = model.get_weights(), scales_of(model)
    expected = np.asarray(model(images))
    with equal_channels(model, [images[:1], images[1:]]):
        others, seen = scales_of(model), see(model)
        is_changed = not all(map(np.array_equal, weights, model.get_weights()))
        outputs = np.asarray(model(images))
    assert all(map(np.array_equal, weights, model.get_weights()))
    if model.compute_dtype == "float32":
        bounds.assert_close(outputs, expected, bounds.num_terms(model))
    changed = {name for name in scales if np.any(scales[name] != others[name])}
    assert is_changed == bool(changed)
    return changed, seen


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("BayesianSegNetBasic", "float32"),
        pytest.param(
            "SegNetBasic",
            "mixed_bfloat16",
            marks=[pytest.mark.slow, bounds.needs_half_precision],
        ),
        pytest.param("SegNetBasic", "float32", marks=pytest.mark.slow),
    ],
)
def test_all_that_is_read_has_one_range(name, policy, images):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = uneven(getattr(models, name)((16, 24, 3), 4))
    finally:
        keras.config.set_dtype_policy(before)
    # Each is behind the pooling of the block before.
    names = [*(f"block{n}_conv1" for n in (2, 3, 4)), "decoder4_conv1"]

    def read(model):
        return {name: read_by(model, name, images) for name in names}

    before = read(model)
    changed, after = changed_in(model, images, read)
    assert changed == {f"block{n}_conv1_norm" for n in (1, 2, 3, 4)}
    if policy != "float32":
        # Rounding makes other maxima there.
        return
    for name in names:
        whole = before[name].max()
        assert before[name].min() < 0.7 * whole
        expected = np.minimum(whole, MAX_FACTOR * before[name])
        # A factor enlarges what was rounded, too.
        terms = MAX_FACTOR * bounds.num_terms(model, last=name)
        bounds.assert_close(after[name], expected, terms)


@pytest.mark.slow
@pytest.mark.numeric
def test_what_has_a_slope_before_it_is_pooled_is_left_alone(images):
    changed, _ = changed_in(uneven(models.ENet((16, 24, 3), 4)), images)
    assert not changed


def test_a_network_has_its_weights_again_after_an_error(images):
    model = CHANGED["relu"]()
    weights = model.get_weights()

    def batches():
        yield images
        raise KeyError

    with pytest.raises(KeyError), equal_channels(model, batches()):
        pass

    def fail():
        assert not all(map(np.array_equal, weights, model.get_weights()))
        raise KeyError

    with pytest.raises(KeyError), equal_channels(model, [images]):
        fail()
    assert all(map(np.array_equal, weights, model.get_weights()))


def pooled_and_unpooled(x):
    pooled, argmax = MaxPoolWithArgmax2D()(x)
    return MaxUnpool2D()(pooled, argmax, like=x)


def unpooled_by_name(x):
    pooled, argmax = MaxPoolWithArgmax2D()(x)
    return MaxUnpool2D()(values=pooled, argmax=argmax, like=x)


def nearest_by_name(x):
    pooled = layers.MaxPooling2D()(x)
    return NearestUnpool2D()(values=layers.Conv2D(3, 1)(pooled), like=x)


def added(x):
    return layers.Add()([layers.ReLU()(x), x])


class Squared(layers.ReLU):
    def call(self, inputs):
        return super().call(inputs) ** 2


def chain(*made):
    """A model of layers one after the other, made when it is asked for."""

    def build():
        inputs = x = keras.Input((16, 24, 3))
        for make in made:
            x = make()(x)
        return uneven(keras.Model(inputs, x))

    return build


def layer(kind, /, *arguments, **options):
    return lambda: getattr(layers, kind)(*arguments, **options)


def norm(**options):
    return layer("BatchNormalization", name="norm", **options)


def adapted():
    made = layers.Normalization()
    made.adapt(np.random.default_rng(0).uniform(0, 255, (9, 16, 24, 3)))
    return made


relu = layer("ReLU")
conv = layer("Conv2D", 2, 3)


def pooled():
    return pooled_and_unpooled


CHANGED = {
    "nothing else": chain(norm(), pooled, conv),
    "relu": chain(norm(), relu, pooled, conv),
    "activation": chain(norm(), layer("Activation", "relu"), pooled, conv),
    "dropout": chain(norm(), relu, pooled, layer("Dropout", 0.5), conv),
    "twice": chain(norm(), layer("MaxPooling2D"), pooled, conv),
    "transposed": chain(
        norm(), pooled, layer("Conv2DTranspose", 5, 3, strides=2)
    ),
    "strided": chain(norm(), pooled, layer("Conv2D", 3, 3, strides=2), relu),
    "dilated": chain(norm(), pooled, layer("Conv2D", 2, 2, dilation_rate=2)),
    "no shift": chain(norm(center=False), pooled, conv),
    "axis by number": chain(norm(axis=3), pooled, conv),
    # Layers that their configuration alone cannot restore.
    "function": chain(
        norm(), pooled, layer("Conv2D", 2, 3, activation=lambda x: x * 2)
    ),
    "state": chain(adapted, norm(), pooled, conv),
    "code": chain(
        lambda: layers.Lambda(lambda x: x / 255), norm(), pooled, conv
    ),
}


@pytest.mark.numeric
@pytest.mark.parametrize("case", CHANGED)
def test_what_scales_with_channels(case, images):
    changed, _ = changed_in(CHANGED[case](), images)
    assert changed == {"norm"}


LEFT_ALONE = {
    "no pooling": chain(pooled, norm(), relu, conv),
    "added": chain(norm(), lambda: added, pooled, conv),
    "by name": chain(norm(), lambda: unpooled_by_name, conv),
    "size of another": chain(norm(), lambda: nearest_by_name, pooled, conv),
    "capped": chain(norm(), layer("ReLU", max_value=6), pooled, conv),
    "threshold": chain(norm(), layer("ReLU", threshold=1), pooled, conv),
    "slope": chain(norm(), layer("ReLU", negative_slope=0.1), pooled, conv),
    "sigmoid": chain(norm(), layer("Activation", "sigmoid"), pooled, conv),
    "across channels": chain(norm(), layer("Softmax"), pooled, conv),
    "of another kind": chain(norm(), Squared, pooled, conv),
    "channels first": chain(
        norm(),
        layer("MaxPooling2D", data_format="channels_first"),
        pooled,
        conv,
    ),
    "no scale": chain(norm(scale=False), pooled, conv),
    "another axis": chain(norm(axis=1), pooled, conv),
    "groups": chain(norm(), pooled, layer("Conv2D", 3, 3, groups=3)),
    "one channel each": chain(norm(), pooled, layer("DepthwiseConv2D", 3)),
    "not read": chain(conv, norm(), pooled),
}


@pytest.mark.numeric
@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_does_not_is_left_alone(case, images):
    changed, _ = changed_in(LEFT_ALONE[case](), images)
    assert not changed


@pytest.mark.numeric
def test_what_is_given_out_or_read_twice_is_left_alone(images):
    inputs = keras.Input((16, 24, 3))
    x = layers.BatchNormalization()(inputs)
    read = pooled_and_unpooled(x)
    y = layers.Conv2D(3, 1)(read)
    given_out = keras.Model(inputs, [y, x])
    twice = layers.Conv2D(3, 3)
    read_twice = keras.Model(inputs, twice(twice(read)))
    for model in map(uneven, (given_out, read_twice)):
        weights = model.get_weights()
        with equal_channels(model, [images]):
            assert all(map(np.array_equal, weights, model.get_weights()))
    # It is for that alone.
    changed, _ = changed_in(keras.Model(inputs, y), images)
    assert changed


@pytest.mark.numeric
def test_weights_that_are_adapted_are_left_alone(images):
    model = chain(norm(), pooled, conv)()
    model.layers[-1].enable_lora(1)
    changed, _ = changed_in(model, images)
    assert not changed


@pytest.mark.numeric
def test_all_readers_take_the_factors_back(images):
    inputs = keras.Input((16, 24, 3))
    x = layers.BatchNormalization(name="norm")(inputs)
    pooled, argmax = MaxPoolWithArgmax2D()(x)
    y = MaxUnpool2D()(layers.Conv2D(3, 1)(pooled), argmax, like=x)
    outputs = layers.Add()([y, layers.Conv2D(3, 1)(x)])
    changed, _ = changed_in(uneven(keras.Model(inputs, outputs)), images)
    assert changed == {"norm"}


def test_ranges_are_of_what_is_quantized(images):
    """Without a ReLU low values count, though pooling hides them."""
    model = chain(norm(), layer("MaxPooling2D", 4), pooled, conv)()
    changing = model.get_layer("norm")
    changing.gamma.assign([1.0, -1.0, 1.0])
    changing.beta.assign([0.0, 0.0, 0.0])
    # The middle channel is in -255..0, the other two are in 0..255.
    with equal_channels(model, [images]):
        assert np.abs(changing.gamma).max() < 1.1


@pytest.mark.parametrize(
    ("highest", "factors"),
    [
        ([4.0, 2.0, 1.0], [1, 2, 4]),
        ([1.0, 0.0, 1e-6], [1, 1, MAX_FACTOR]),
        ([0.0, 0.0], [1, 1]),
        ([np.inf, 1.0], [1, 1]),
        ([np.nan, 1.0], [1, 1]),
    ],
)
def test_factors(highest, factors):
    found = _factors(np.array(highest, "float32"))
    np.testing.assert_array_equal(found, factors)
