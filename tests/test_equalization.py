"""Channels of equal range: another network that computes the same."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_deconv import MaxPoolWithArgmax2D, MaxUnpool2D, models
from keras_deconv.equalization import MAX_FACTOR, equalize_channels


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (4, 16, 24, 3)).astype("float32")


def uneven(model):
    """Normalisations whose channels differ by up to eight times."""
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


def check_same(model, equalized, images):
    expected = np.asarray(model(images))
    np.testing.assert_allclose(
        equalized(images), expected, atol=1e-4 * np.abs(expected).max()
    )


NETWORKS = {
    "SegNetBasic": 8,
    "BayesianSegNetBasic": 8,
    # Where branches are added, channels stay as they are.
    "ENet": 54,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_the_same(name, images):
    build = getattr(models, name)
    model = uneven(build((16, 24, 3), 4))
    equalized = equalize_channels(model, [images[:1], images[1:]])
    check_same(model, equalized, images)
    changed = [
        layer.name
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
        and np.any(layer.gamma != equalized.get_layer(layer.name).gamma)
    ]
    assert len(changed) == NETWORKS[name]


@pytest.mark.parametrize(
    "decoder", ["max_unpool", "bed_of_nails", "nearest", "conv_transpose"]
)
def test_all_that_is_read_has_one_range(decoder, images):
    model = uneven(models.SegNetBasic((16, 24, 3), 4, decoder=decoder))
    weights = model.get_weights()
    equalized = equalize_channels(model, [images])
    check_same(model, equalized, images)
    decoding = "unpool" if decoder == "conv_transpose" else "conv1"
    names = [
        *(f"block{n}_conv1" for n in (2, 3, 4)),
        *(f"decoder{n}_{decoding}" for n in (4, 3, 2, 1)),
        "logits",
    ]
    for name in names:
        before = read_by(model, name, images)
        after = read_by(equalized, name, images)
        assert before.min() < 0.7 * before.max()
        expected = np.minimum(before.max(), MAX_FACTOR * before)
        np.testing.assert_allclose(after, expected, rtol=1e-4)
    # What was given is left alone.
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def pooled_and_unpooled(x):
    pooled, argmax = MaxPoolWithArgmax2D()(x)
    return MaxUnpool2D()(pooled, argmax, like=x)


def added(x):
    return layers.Add()([layers.ReLU()(x), x])


def chain(*made):
    """A model of layers one after the other, made when it is asked for."""

    def build():
        inputs = x = keras.Input((16, 24, 3))
        for make in made:
            x = make()(x)
        return uneven(keras.Model(inputs, x))

    return build


def layer(name, *arguments, **options):
    return lambda: getattr(layers, name)(*arguments, **options)


norm, relu = layer("BatchNormalization"), layer("ReLU")
conv = layer("Conv2D", 2, 3)

CHANGED = {
    "pooled": chain(norm, lambda: pooled_and_unpooled, conv),
    "activations": chain(
        norm,
        layer("Activation", "relu"),
        layer("LeakyReLU"),
        layer("PReLU", "ones"),
        conv,
    ),
    "transposed": chain(norm, relu, layer("Conv2DTranspose", 5, 3, strides=2)),
    "no shift": chain(layer("BatchNormalization", center=False), relu, conv),
    "axis by number": chain(layer("BatchNormalization", axis=3), relu, conv),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_scales_with_channels(case, images):
    model = CHANGED[case]()
    equalized = equalize_channels(model, [images])
    assert equalized is not model
    check_same(model, equalized, images)


LEFT_ALONE = {
    "added": chain(norm, lambda: added, conv),
    "capped": chain(norm, layer("ReLU", max_value=6), conv),
    "threshold": chain(norm, layer("ReLU", threshold=1), conv),
    "sigmoid": chain(norm, layer("Activation", "sigmoid"), conv),
    "across channels": chain(norm, layer("Softmax"), conv),
    "channels first": chain(
        norm, layer("UpSampling2D", data_format="channels_first"), conv
    ),
    "no scale": chain(layer("BatchNormalization", scale=False), relu, conv),
    "another axis": chain(layer("BatchNormalization", axis=1), relu, conv),
    "groups": chain(norm, relu, layer("Conv2D", 3, 3, groups=3)),
    "one channel each": chain(norm, relu, layer("DepthwiseConv2D", 3)),
    "not read": chain(conv, norm, relu),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_does_not_is_left_alone(case, images):
    model = LEFT_ALONE[case]()
    assert equalize_channels(model, [images]) is model


def test_what_is_given_out_or_read_twice_is_left_alone(images):
    inputs = keras.Input((16, 24, 3))
    x = layers.BatchNormalization()(inputs)
    given_out = keras.Model(inputs, [layers.Conv2D(3, 3)(x), x])
    assert equalize_channels(given_out, [images]) is given_out
    twice = layers.Conv2D(3, 3)
    model = keras.Model(inputs, twice(twice(x)))
    assert equalize_channels(model, [images]) is model


def test_all_readers_take_the_factors_back(images):
    inputs = keras.Input((16, 24, 3))
    x = layers.BatchNormalization()(inputs)
    pooled, argmax = MaxPoolWithArgmax2D()(x)
    y = MaxUnpool2D()(layers.Conv2D(3, 1)(pooled), argmax, like=x)
    outputs = layers.Add()([y, layers.Conv2D(3, 1)(x)])
    model = uneven(keras.Model(inputs, outputs))
    equalized = equalize_channels(model, [images])
    assert equalized is not model
    check_same(model, equalized, images)


def test_a_channel_that_is_nothing_stays_nothing(images):
    model = chain(norm, relu, conv)()
    changing = model.layers[1]
    changing.gamma.assign([1.0, 0.0, 1e-6])
    changing.beta.assign([0.0, 0.0, 0.0])
    equalized = equalize_channels(model, [images])
    changed = np.asarray(equalized.get_layer(changing.name).gamma)
    np.testing.assert_allclose(changed, [1, 0, 1e-6 * MAX_FACTOR], rtol=1e-6)
    check_same(model, equalized, images)
