"""The OpenVINO backend refuses exactly the calls that it cannot run."""

import keras
import numpy as np
import pytest

import keras_deconv
from tests import formats

if keras.config.backend() != "openvino":
    pytest.skip("needs KERAS_BACKEND=openvino", allow_module_level=True)


def unpooling(size, **options):
    inputs = keras.Input((*size, 2))
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(**options)(inputs)
    unpool = keras_deconv.MaxUnpool2D(**options)
    return keras.Model(inputs, unpool(pooled, argmax, like=inputs))


def test_unknown_sizes_are_predicted_and_not_exported(tmp_path, rng):
    """Keras would export the sizes of the one image that it traces with."""
    model = unpooling((None, None))
    for size in ((4, 6), (5, 7)):
        # Whole numbers, which half precision holds.
        x = rng.integers(0, 9, (2, *size, 2)).astype("float32")
        expected = keras.ops.convert_to_numpy(model(x))
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    file = str(tmp_path / "model.xml")
    with pytest.raises(ValueError, match="from the OpenVINO backend with an"):
        model.export(file, format="openvino", verbose=False)

    # A subclassed model says only while it is exported what it takes.
    class Subclassed(keras.Model):
        def build(self, shape):
            pass

        def call(self, x):
            return keras_deconv.NearestUnpool2D()(x)

    model = Subclassed()
    model(np.zeros((1, 4, 4, 2), "float32"))
    for shape in ((None, None, None, 2), (None, 4, 4, 2)):
        options = dict(
            format="openvino",
            verbose=False,
            input_signature=[keras.InputSpec(shape=shape, dtype="float32")],
        )
        if shape[1] is None:
            with pytest.raises(ValueError, match="OpenVINO backend with an"):
                model.export(file, **options)
        else:
            model.export(file, **options)
            x = rng.random((3, 4, 4, 2), "float32")
            expected = x.repeat(2, axis=1).repeat(2, axis=2)
            np.testing.assert_array_equal(
                formats.in_openvino(file)(x), expected
            )


@pytest.mark.parametrize("index_format", ["flat", "plane"])
def test_positions_are_unpooled_in_calls_alone(index_format, tmp_path, rng):
    model = unpooling((4, 6), index_format=index_format)
    x = rng.random((2, 4, 6, 2), "float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(x)),
        keras.ops.convert_to_numpy(unpooling((4, 6))(x)),
    )
    with pytest.raises(ValueError, match=r"index_format='window', call"):
        model.predict(x, verbose=0)
    with pytest.raises(ValueError, match=r"index_format='window', call"):
        model.export(str(tmp_path / "m.xml"), format="openvino", verbose=False)


def test_training_is_refused_by_keras():
    model = unpooling((4, 6))
    with pytest.raises(NotImplementedError, match="fit"):
        model.fit(np.zeros((1, 4, 6, 2)), np.zeros((1, 4, 6, 2)))
