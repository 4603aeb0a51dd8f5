"""Each check of `contract.py` fails on a broken layer."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_deconv
from tests import contract
from tests.cases import LAYER_CASES, LayerCase

pytestmark = pytest.mark.oldest

GOOD = next(case for case in LAYER_CASES if case.id == "nearest2d")
POOL = next(case for case in LAYER_CASES if case.id == "pool2d_window")


class ForgetsAnArgument(keras_deconv.BedOfNailsUnpool2D):
    def get_config(self):
        config = super().get_config()
        del config["position"]
        return config


class RestoresAnotherArgument(keras_deconv.BedOfNailsUnpool2D):
    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "position": 0})


class HasAnotherShape(keras_deconv.NearestUnpool2D):
    def compute_output_shape(self, values_shape, like_shape=None):
        *rest, last = super().compute_output_shape(values_shape, like_shape)
        return (*rest, None if last is None else last + 1)


class HasAnotherDtype(keras_deconv.MaxPoolWithArgmax2D):
    def compute_output_spec(self, inputs):
        pooled, argmax = super().compute_output_spec(inputs)
        return pooled, keras.KerasTensor(argmax.shape, pooled.dtype)


class GivesAFloatIndex(keras_deconv.MaxPoolWithArgmax2D):
    def call(self, inputs):
        pooled, argmax = super().call(inputs)
        return pooled, ops.cast(argmax, pooled.dtype)


class DiffersWhenTraced(keras_deconv.NearestUnpool2D):
    def call(self, values, like=None):
        y = super().call(values, like)
        return y + 1 if "Symbolic" in type(values).__name__ else y


class DiffersInModels(keras_deconv.NearestUnpool2D):
    def get_config(self):
        return {**super().get_config(), "pool_size": (2, 4), "strides": None}


class HasAnotherGradient(keras_deconv.NearestUnpool2D):
    def call(self, values, like=None):
        y = super().call(values, like)
        return y + ops.stop_gradient(y) - y / 2 - ops.stop_gradient(y) / 2


def broken(layer, case, **config):
    return LayerCase("broken", layer, {**case.config, **config}, case.inputs)


POSITION = dict(position=(1, 2))


@pytest.mark.parametrize(
    ("check", "case"),
    [
        (
            contract.config_names_every_argument,
            broken(ForgetsAnArgument, GOOD, **POSITION),
        ),
        (
            contract.config_round_trip,
            broken(RestoresAnotherArgument, GOOD, **POSITION),
        ),
        (contract.spec_equals_eager, broken(HasAnotherShape, GOOD)),
        (contract.spec_equals_eager, broken(HasAnotherDtype, POOL)),
        (contract.graph_equals_eager, broken(DiffersWhenTraced, GOOD)),
        (contract.xla_equals_eager, broken(DiffersWhenTraced, GOOD)),
        (contract.mixed_precision_keeps_index, broken(GivesAFloatIndex, POOL)),
        (contract.gradient_equals_numeric, broken(HasAnotherGradient, GOOD)),
    ],
    ids=lambda x: getattr(x, "__name__", None) or x.layer.__name__,
)
def test_check_fails_on_a_broken_layer(check, case, rng):
    with pytest.raises(AssertionError):
        check(case, rng)


def test_model_file_check_fails_on_a_broken_layer(rng, tmp_path):
    keras.saving.register_keras_serializable("tests")(DiffersInModels)
    case = LayerCase(
        "broken",
        DiffersInModels,
        dict(pool_size=2),
        lambda rng: (rng.standard_normal((1, 2, 2, 1)).astype("float32"),),
    )
    with pytest.raises(AssertionError):
        contract.model_file_round_trip(case, rng, tmp_path)


def test_every_check_is_proved():
    proved = {
        mark.args[1][i][0]
        for mark in test_check_fails_on_a_broken_layer.pytestmark
        for i in range(len(mark.args[1]))
    }
    assert proved == set(contract.CHECKS)


def test_assert_equal_sees_dtypes_and_values():
    one = np.ones(3, "float32")
    contract.assert_equal([one], [one.copy()])
    for other in (one.astype("float64"), one * 2):
        with pytest.raises(AssertionError):
            contract.assert_equal([one], [other])
