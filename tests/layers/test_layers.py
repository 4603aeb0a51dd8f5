"""Every layer passes every check of `contract.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from tests import contract
from tests.cases import LAYER_CASES

pytestmark = [pytest.mark.oldest]

CASE_IDS = [case.id for case in LAYER_CASES]


@pytest.mark.numeric
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("case", LAYER_CASES, ids=CASE_IDS)
def test_layer(case, check, rng):
    check(case, rng)


@pytest.mark.numeric
@pytest.mark.parametrize("case", LAYER_CASES, ids=CASE_IDS)
def test_layer_in_saved_model_file(case, rng, tmp_path):
    contract.model_file_round_trip(case, rng, tmp_path)


def test_cases_name_every_public_layer():
    public = {
        getattr(keras_deconv.layers, name)
        for name in keras_deconv.layers.__all__
    }
    assert public == {case.layer for case in LAYER_CASES}


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("jit_compile", [True, False, "auto"])
def test_fit_with_every_jit_setting(jit_compile, rng):
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(x)
    y = keras_deconv.MaxUnpool2D(padding="same")(pooled, argmax, like=x)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same")(y))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    x = rng.standard_normal((4, 5, 7, 2)).astype("float32")
    before = model.get_weights()
    history = model.fit(x, x[..., :1], batch_size=2, epochs=3, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    assert np.any(before[0] != model.get_weights()[0])


def test_layer_called_twice_with_other_sizes(rng):
    pool = keras_deconv.MaxPoolWithArgmax2D(padding="same")
    unpool = keras_deconv.MaxUnpool2D(padding="same")
    for size in ((5, 7), (8, 2), (1, 1)):
        x = rng.standard_normal((1, *size, 2)).astype("float32")
        y = unpool(*pool(x), like=x)
        assert tuple(y.shape) == x.shape


def test_conv_after_unpool_knows_its_channels():
    inputs = keras.Input((None, None, 3))
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(inputs)
    y = keras_deconv.MaxUnpool2D()(pooled, argmax)
    assert keras.layers.Conv2D(5, 3)(y).shape == (None, None, None, 5)


def test_index_is_one_byte_a_window():
    pool = keras_deconv.MaxPoolWithArgmax2D
    x = keras.Input((64, 64, 1))
    assert pool(2)(x)[1].dtype == "uint8"
    assert pool(16)(x)[1].dtype == "uint8"
    assert pool(17)(x)[1].dtype == "int32"
    assert tf.as_dtype(pool(17)(np.zeros((1, 64, 64, 1)))[1].dtype) == tf.int32


def test_output_size_wins_where_sizes_are_open():
    values = keras.Input((None, None, 1))
    argmax = keras.Input((None, None, 1), dtype="uint8")
    layer = keras_deconv.MaxUnpool2D(padding="same", output_size=(45, 60))
    assert layer(values, argmax).shape == (None, 45, 60, 1)


@pytest.mark.parametrize("family", ["NearestUnpool", "BedOfNailsUnpool"])
def test_files_that_call_the_window_size_still_load(family):
    layer = getattr(keras_deconv, f"{family}2D")(3, name="old")
    config = layer.get_config()
    for name in ("strides", "padding", "output_size"):
        del config[name]
    config["size"] = config.pop("pool_size")
    restored = type(layer).from_config(config)
    assert restored.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "family", ["MaxUnpool", "NearestUnpool", "BedOfNailsUnpool"]
)
def test_decoders_are_swapped_by_one_word(family):
    image = keras.Input((9, 7, 2))
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(image)
    layer = getattr(keras_deconv, f"{family}2D")(
        padding="same", output_size=(9, 7)
    )
    inputs = (pooled, argmax) if family == "MaxUnpool" else (pooled,)
    assert layer(*inputs).shape == (None, 9, 7, 2)
