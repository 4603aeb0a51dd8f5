"""Checks of arguments, and their error messages."""

import itertools
import pathlib
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import (
    _arguments,
    data,
    distribution,
    losses,
    metrics,
    models,
    ops,
)
from keras_deconv.initializers import BilinearInitializer

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


ZEROS = np.zeros((1, 4, 4, 1), "float32")


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.max_pool_with_argmax(ZEROS, 300, padding="same"),
        lambda: ops.bed_of_nails_unpool(ZEROS, 2, 300),
        lambda: keras_deconv.MaxUnpool2D(65),
        lambda: keras_deconv.NearestUnpool2D(129),
    ],
)
def test_windows_are_bounded(call):
    """Cells are processed one by one: 90,000 would take minutes."""
    with pytest.raises(
        ValueError, match=r"must have at most (4096|16384) cells"
    ):
        call()
    assert keras_deconv.MaxPoolWithArgmax2D(64).pool_size == (64, 64)
    assert keras_deconv.MaxPoolWithArgmax1D(4096).pool_size == (4096,)
    # DeepLab unpools the features of the whole image to 65x65.
    values = np.ones((1, 1, 1, 1), "float32")
    assert ops.nearest_unpool(values, 65).shape == (1, 65, 65, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.check([], 2**31), "`num_classes` must be at most 10,000"),
        (lambda: metrics.MeanIoU(10_001), "`num_classes` must be at most"),
        (lambda: BilinearInitializer(2**31), "`strides` must not be larger"),
        (
            lambda: ops.conv2d_matrix(np.ones((3, 3)), 2**14),
            "`input_size` must result in a matrix",
        ),
        (
            lambda: ops.max_unpool(
                ZEROS, np.zeros(ZEROS.shape, int), output_size=2**16
            ),
            "`output_size` must have at most",
        ),
        (
            lambda: metrics.MeanIoU(2, ignore_class=2**31),
            "`ignore_class` must not be larger",
        ),
    ],
)
def test_sizes_are_bounded(call, words):
    """Without bounds, these calls would allocate gigabytes."""
    with pytest.raises(ValueError, match=words):
        call()


def test_large_strides_take_no_memory():
    tracemalloc.start()
    kernel = BilinearInitializer(2**31 - 1)((4, 4, 1, 1))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert keras.ops.convert_to_numpy(kernel).max() == 1


NO_TENSORS = {
    "a str": lambda: "text",
    "None": lambda: None,
    "a dict": lambda: {"a": 1},
    "strs": lambda: np.full((1, 4, 4, 1), "a"),
    "a masked array": lambda: np.ma.masked_equal(ZEROS, 1),
    "complex numbers": lambda: ZEROS.astype("complex64"),
    "a sparse tensor": lambda: tf.sparse.from_dense(ZEROS),
    "a symbolic tensor": lambda: keras.Input((4, 4, 1)),
}
TAKE_TENSORS = {
    "y_true": lambda x: losses.SegmentationDice()(x, np.zeros((1, 4, 4, 2))),
    "y_pred": lambda x: metrics.MeanIoU(2).update_state(ZEROS[..., 0], x),
    "sample_weight": lambda x: losses.SegmentationCrossentropy()(
        ZEROS[..., 0], np.zeros((1, 4, 4, 2)), x
    ),
    "argmax": lambda x: ops.max_unpool(ZEROS, x),
    "like": lambda x: ops.nearest_unpool(ZEROS, like=x),
    "kernel": lambda x: ops.conv2d_matrix(x, 4),
}


@pytest.mark.parametrize("kind", NO_TENSORS)
@pytest.mark.parametrize("name", TAKE_TENSORS)
def test_what_is_not_a_tensor(name, kind):
    if kind == "None" and name in ("sample_weight", "like"):
        pytest.skip("None is the default")
    value = NO_TENSORS[kind]()
    with pytest.raises(
        ValueError, match=f"`{name}` (must hold real|must not be a sym)"
    ):
        TAKE_TENSORS[name](value)


@pytest.mark.parametrize(
    "value", [None, 5, "", b"a", "a\0b", ["a"], object(), np.dtype("int8")]
)
def test_what_is_not_a_path(value):
    with pytest.raises(ValueError, match="`folder` must be a path"):
        _arguments.path(value, "folder")
    assert _arguments.path("~/a", "folder") == pathlib.Path.home() / "a"


@pytest.mark.parametrize("value", ["float99", "int32", {}, [1], 5, ZEROS])
def test_what_is_not_a_dtype(value):
    for make in (
        losses.SegmentationDice,
        lambda dtype: metrics.MeanIoU(2, dtype=dtype),
        lambda dtype: BilinearInitializer()((4, 4, 1, 1), dtype),
    ):
        with pytest.raises(ValueError, match="`dtype` must be a"):
            make(dtype=value)


@pytest.mark.parametrize("value", [["a"], ZEROS, 5])
def test_what_is_not_a_name(value):
    for make in (
        losses.SegmentationDice,
        lambda name: metrics.MeanIoU(2, name=name),
    ):
        with pytest.raises(ValueError, match="`name` must be a str"):
            make(name=value)


@pytest.mark.parametrize(
    "value", [None, 5, "ab", {"a", "b"}, keras.KerasTensor((2,)), np.array(2)]
)
def test_what_is_not_a_sequence(value):
    metric = metrics.MeanIoU(2)
    with pytest.raises(ValueError, match="`metrics` must be a sequence"):
        metric.merge_state(value)
    with pytest.raises(ValueError, match="`class_names` must be 2 distinct"):
        metric.per_class_by_name(value)


def test_a_sequence_without_an_end():
    with pytest.raises(ValueError, match="`strides` must be an int or a tuple"):
        keras_deconv.MaxUnpool2D(strides=itertools.count(1))


@pytest.mark.parametrize("value", [ZEROS, "1", None, 3, -1])
def test_what_is_not_a_level_of_words(value):
    with pytest.raises(ValueError, match="`verbose` must be 0"):
        data.check([], 2, verbose=value)


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


def test_what_would_be_ignored_is_refused():
    """The fuzz tests found that these arguments were accepted but ignored."""
    for make, words in (
        (
            lambda: models.SegNetBasic((16, 16, 3), 2, decoder_kernel_size="a"),
            "`decoder_kernel_size`",
        ),
        (
            lambda: models.SegNetBasic((16, 16, 3), 2, decoder_initializer=5),
            "`decoder_initializer`",
        ),
        (lambda: distribution.Replicas(num_replicas="two"), "`num_replicas`"),
        (lambda: data.augmentation(flip="no"), "`flip` must be True or False"),
        (
            lambda: data.ClassFrequencies((1,), (1,), (1,), 1, "one"),
            "`num_images`",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            make()
