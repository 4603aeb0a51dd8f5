"""Arguments: what is accepted, and what each error says."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import _arguments, data

pytestmark = [pytest.mark.backend, pytest.mark.oldest]


def test_int_is_for_every_axis():
    assert _arguments.ints(3, 2, "pool_size", 1) == (3, 3)
    assert _arguments.ints([3, 4], 2, "pool_size", 1) == (3, 4)
    assert _arguments.ints(np.int64(3), 1, "pool_size", 1) == (3,)


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, True, "2", None, (1, 2, 3), (1, 0), (), [1, 2.0]]
)
def test_bad_ints(value):
    with pytest.raises(ValueError, match="tuple of 2 ints") as error:
        keras_deconv.MaxPoolWithArgmax2D(pool_size=value)
    assert "`pool_size`" in str(error.value)
    assert repr(value) in str(error.value)


def test_a_tensor_of_a_float_is_no_int():
    with pytest.raises(ValueError, match="`seed` must be an int >= 0"):
        _arguments.natural_int(keras.ops.convert_to_tensor(2.5), "seed")


def test_strides_default_to_the_window():
    assert keras_deconv.MaxUnpool2D((2, 3)).strides == (2, 3)


def test_padding_ignores_case():
    layer = keras_deconv.MaxPoolWithArgmax2D(padding="SAME")
    assert layer.padding == "same"
    assert layer(keras.Input((5, 5, 1)))[0].shape == (None, 3, 3, 1)


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("padding", "causal", "'valid', 'same'"),
        ("data_format", "NHWC", "'channels_last', 'channels_first'"),
        ("index_format", "torch", "'window', 'flat', 'plane'"),
        ("overlap", "max", "'sum', 'mean'"),
        ("padding", 3, "'valid', 'same'"),
    ],
)
def test_bad_choices(name, value, choices):
    with pytest.raises(ValueError, match=f"`{name}` must be one of") as error:
        keras_deconv.MaxUnpool2D(**{name: value})
    assert choices in str(error.value)
    assert f"{name}={value!r}" in str(error.value)


@pytest.mark.parametrize("position", [2, -1, (0, 3), (1,), 0.5])
def test_position_lies_in_the_block(position):
    with pytest.raises(ValueError, match="`position`"):
        keras_deconv.BedOfNailsUnpool2D((2, 3), position=position)


def test_data_format_follows_the_keras_configuration():
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        assert keras_deconv.MaxUnpool2D().data_format == "channels_first"
    finally:
        keras.config.set_image_data_format(before)
    assert keras_deconv.MaxUnpool2D().data_format == before


def _color_mask():
    keras_deconv.visualize.color_mask([[0, 255]], [(0, 0, 0)] * 256)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _arguments.ignore_class(255, 256),
        lambda: data.check([], 300),
        lambda: data.class_frequencies(
            tf.data.Dataset.from_tensors(
                (np.zeros((2, 2, 3)), np.zeros((2, 2), "uint8"))
            ),
            300,
        ),
        _color_mask,
    ],
)
def test_more_than_255_classes_need_another_void_class(call):
    with pytest.raises(ValueError, match="`ignore_class` must not be its de"):
        call()


def test_class_255_of_a_dataset_would_be_void():
    names = tuple(f"class_{i}" for i in range(256))
    with pytest.raises(ValueError, match="name at most 255 classes"):
        data.SegmentationSet(
            name="wide",
            image_key="image",
            mask_key="mask",
            class_names=names,
            palette=data.color_map(256),
            labels={i: i for i in range(256)},
        )
