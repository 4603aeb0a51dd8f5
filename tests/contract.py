"""The checks that every layer must pass, each for any `LayerCase`.

`layers/test_contract.py` proves that each check fails on a broken layer.
"""

import inspect

import keras
import numpy as np
import tensorflow as tf

from tests.cases import LayerCase

LAYER_ARGUMENTS = {"kwargs", "self"}


def outputs(layer, arrays):
    """Return the outputs of a layer as NumPy arrays."""
    return [np.asarray(y) for y in tf.nest.flatten(layer(*arrays))]


def symbolic(arrays, *, known):
    """Return Keras inputs for arrays; only axis 1 is known unless `known`."""
    return [
        keras.Input(
            batch_shape=a.shape
            if known
            else (None, a.shape[1], *[None] * (a.ndim - 2)),
            dtype=str(a.dtype),
        )
        for a in arrays
    ]


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def config_names_every_argument(case: LayerCase, rng):
    names = set(inspect.signature(case.layer).parameters)
    for base in case.layer.__mro__:
        if "__init__" in vars(base) and base.__module__.startswith("keras_"):
            names |= set(inspect.signature(base.__init__).parameters)
    names -= LAYER_ARGUMENTS
    assert names, "a layer without arguments is not in this package"
    config = case.build().get_config()
    missing = names - set(config)
    assert not missing, f"not in the config: {missing}"
    for name in case.config:
        assert config[name] == getattr(case.build(), name)
    assert {"name", "dtype", "trainable"} <= set(config)


def config_round_trip(case: LayerCase, rng):
    arrays = case.inputs(rng)
    layer = case.build(name="named", dtype="float16")
    restored = case.layer.from_config(layer.get_config())
    assert restored.get_config() == layer.get_config()
    assert restored.name == "named"
    assert_equal(outputs(restored, arrays), outputs(layer, arrays))


def spec_equals_eager(case: LayerCase, rng):
    arrays = case.inputs(rng)
    eager = outputs(case.build(), arrays)
    for known in (True, False):
        # Cases with channels_first have the channels in axis 1.
        inputs = [
            keras.Input(
                batch_shape=a.shape if known else [None] * a.ndim,
                dtype=str(a.dtype),
            )
            for a in arrays
        ]
        specs = tf.nest.flatten(case.build()(*inputs))
        assert len(specs) == len(eager)
        for spec, y in zip(specs, eager, strict=True):
            assert keras.backend.standardize_dtype(spec.dtype) == str(y.dtype)
            assert len(spec.shape) == y.ndim
            for a, b in zip(spec.shape, y.shape, strict=True):
                assert a == b or (a is None and not known)


def graph_equals_eager(case: LayerCase, rng):
    arrays = case.inputs(rng)
    layer = case.build()
    eager = outputs(layer, arrays)
    for known in (True, False):
        signature = [
            tf.TensorSpec(a.shape if known else [None] * a.ndim, a.dtype)
            for a in arrays
        ]
        function = tf.function(layer, input_signature=signature)
        assert_equal(outputs(function, arrays), eager)


def xla_equals_eager(case: LayerCase, rng):
    arrays = [tf.constant(a) for a in case.inputs(rng)]
    layer = case.build()
    function = tf.function(layer, jit_compile=True)
    assert_equal(outputs(function, arrays), outputs(layer, arrays))


def mixed_precision_keeps_index(case: LayerCase, rng):
    # With values rounded to eight bits, half precision has the same maxima.
    first, *rest = case.inputs(rng)
    arrays = [np.round(first * 32) / 32, *rest]
    full = outputs(case.build(), arrays)
    for policy, half in (
        ("mixed_float16", "float16"),
        ("mixed_bfloat16", "bfloat16"),
    ):
        layer = case.build(dtype=policy)
        mixed = outputs(layer, arrays)
        specs = tf.nest.flatten(layer(*symbolic(arrays, known=True)))
        for spec, y, reference in zip(specs, mixed, full, strict=True):
            dtype = half if "float" in str(reference.dtype) else reference.dtype
            assert str(y.dtype) == str(dtype)
            assert keras.backend.standardize_dtype(spec.dtype) == str(dtype)
            if dtype == reference.dtype:
                np.testing.assert_array_equal(y, reference)


def model_file_round_trip(case: LayerCase, rng, folder):
    arrays = case.inputs(rng)
    inputs = symbolic(arrays, known=True)
    model = keras.Model(inputs, case.build()(*inputs))
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    assert_equal(
        outputs(lambda *x: loaded(x), arrays),
        outputs(lambda *x: model(x), arrays),
    )


def gradient_equals_numeric(case: LayerCase, rng):
    """Check <J v, w> = <v, J' w>, which holds for piecewise linear layers."""
    first, *rest = case.inputs(rng)
    x = tf.constant(first.astype("float64"))
    layer = case.build(dtype="float64")
    direction = tf.constant(rng.standard_normal(first.shape))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.nest.flatten(layer(x, *rest))[0]
        weights = rng.standard_normal(y.shape)
        total = tf.reduce_sum(y * weights)
    gradient = tape.gradient(total, x)
    step = 1e-6

    def value(scale):
        moved = tf.nest.flatten(layer(x + scale * direction, *rest))[0]
        return float(tf.reduce_sum(moved * weights))

    numeric = (value(step) - value(-step)) / (2 * step)
    exact = float(tf.reduce_sum(gradient * direction))
    np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-7)


CHECKS = [
    config_names_every_argument,
    config_round_trip,
    spec_equals_eager,
    graph_equals_eager,
    xla_equals_eager,
    mixed_precision_keeps_index,
    gradient_equals_numeric,
]
