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
from keras_deconv.equalization import (
    MAX_FACTOR,
    _factors,
    equalize_channels,
)


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


def check_changed(model, images, *changed):
    """Another network that computes the same; by names what has changed."""
    weights = model.get_weights()
    equalized = equalize_channels(model, [images[:1], images[1:]])
    check_same(model, equalized, images)
    norms = [
        layer.name
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
        and layer.scale
        and np.any(layer.gamma != equalized.get_layer(layer.name).gamma)
    ]
    assert set(norms) == set(changed)
    # What was given is left alone.
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    return equalized


BASIC_NORMS = [
    f"{stage}{n}_conv1_norm"
    for stage in ("block", "decoder")
    for n in (1, 2, 3, 4)
]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["SegNetBasic", "BayesianSegNetBasic"])
def test_all_that_is_read_has_one_range(name, policy, images):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = uneven(getattr(models, name)((16, 24, 3), 4))
    finally:
        keras.config.set_dtype_policy(before)
    if policy != "float32":
        # Rounding makes other maxima there.
        assert equalize_channels(model, [images]) is not model
        return
    equalized = check_changed(model, images, *BASIC_NORMS)
    names = [
        *(f"block{n}_conv1" for n in (2, 3, 4)),
        *(f"decoder{n}_conv1" for n in (4, 3, 2, 1)),
        "logits",
    ]
    for name in names:
        before = read_by(model, name, images)
        after = read_by(equalized, name, images)
        assert before.min() < 0.7 * before.max()
        expected = np.minimum(before.max(), MAX_FACTOR * before)
        np.testing.assert_allclose(after, expected, rtol=1e-4)


def test_a_network_with_branches_computes_the_same(images):
    model = uneven(models.ENet((16, 24, 3), 4))
    equalized = equalize_channels(model, [images])
    assert equalized is not model
    check_same(model, equalized, images)


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

CHANGED = {
    "nothing between": chain(norm(), conv),
    "pooled": chain(norm(), lambda: pooled_and_unpooled, conv),
    "activation": chain(norm(), layer("Activation", "relu"), conv),
    "dropout": chain(norm(), relu, layer("Dropout", 0.5), conv),
    "transposed": chain(
        norm(), relu, layer("Conv2DTranspose", 5, 3, strides=2)
    ),
    "strided, dilated": chain(
        norm(),
        relu,
        layer("Conv2D", 3, 3, strides=2),
        layer("Conv2D", 2, 2, dilation_rate=2),
    ),
    "no shift": chain(norm(center=False), conv),
    "axis by number": chain(norm(axis=3), relu, conv),
    # What a copy would lose, or could not be.
    "state": chain(lambda: adapted(), norm(), relu, conv),
    "code": chain(lambda: layers.Lambda(lambda x: x / 255), norm(), relu, conv),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_scales_with_channels(case, images):
    check_changed(CHANGED[case](), images, "norm")


LEFT_ALONE = {
    "added": chain(norm(), lambda: added, conv),
    "by name": chain(norm(), lambda: unpooled_by_name, conv),
    "size of another": chain(norm(), lambda: nearest_by_name, conv),
    "capped": chain(norm(), layer("ReLU", max_value=6), conv),
    "threshold": chain(norm(), layer("ReLU", threshold=1), conv),
    "slope": chain(norm(), layer("ReLU", negative_slope=0.1), conv),
    "sigmoid": chain(norm(), layer("Activation", "sigmoid"), conv),
    "across channels": chain(norm(), layer("Softmax"), conv),
    "of another kind": chain(norm(), Squared, conv),
    "channels first": chain(
        norm(), layer("MaxPooling2D", data_format="channels_first"), conv
    ),
    "no scale": chain(norm(scale=False), relu, conv),
    "another axis": chain(norm(axis=1), relu, conv),
    "groups": chain(norm(), relu, layer("Conv2D", 3, 3, groups=3)),
    "one channel each": chain(norm(), relu, layer("DepthwiseConv2D", 3)),
    "not read": chain(conv, norm(), relu),
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


def test_weights_that_are_adapted_are_left_alone(images):
    model = chain(norm(), relu, conv)()
    model.layers[-1].enable_lora(1)
    assert equalize_channels(model, [images]) is model


def test_all_readers_take_the_factors_back(images):
    inputs = keras.Input((16, 24, 3))
    x = layers.BatchNormalization(name="norm")(inputs)
    pooled, argmax = MaxPoolWithArgmax2D()(x)
    y = MaxUnpool2D()(layers.Conv2D(3, 1)(pooled), argmax, like=x)
    outputs = layers.Add()([y, layers.Conv2D(3, 1)(x)])
    check_changed(uneven(keras.Model(inputs, outputs)), images, "norm")


def test_ranges_are_of_what_is_quantised(images):
    """Without a ReLU low values count, though pooling hides them."""
    model = chain(norm(), layer("MaxPooling2D", 4), conv)()
    changing = model.get_layer("norm")
    changing.gamma.assign([1.0, -1.0, 1.0])
    changing.beta.assign([0.0, 0.0, 0.0])
    # Between -255 and 0 in the middle, and 0 and 255 besides.
    equalized = equalize_channels(model, [images])
    factors = np.abs(equalized.get_layer("norm").gamma)
    assert factors.max() < 1.1


@pytest.mark.parametrize(
    ("highest", "factors"),
    [
        ([4.0, 2.0, 1.0], [1, 2, 4]),
        ([1.0, 0.0, 1e-6], [1, 1, MAX_FACTOR]),
        ([0.0, 0.0], [1, 1]),
    ],
)
def test_factors(highest, factors):
    found = _factors(np.array(highest, "float32"))
    np.testing.assert_array_equal(found, factors)
