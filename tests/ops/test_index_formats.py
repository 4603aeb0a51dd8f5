"""Conversion of index formats, and comparison with other frameworks.

`golden/make.py` wrote the golden vectors with PyTorch, TensorFlow and ONNX. The
tests do not require these frameworks.
"""

import keras
import numpy as np
import pytest

from keras_deconv import ops
from tests import oracles
from tests.paths import GOLDEN

pytestmark = pytest.mark.oldest

GOLDEN_VECTORS = dict(np.load(GOLDEN))
CASES = sorted({name.split("/")[0] for name in GOLDEN_VECTORS})
FORMATS = ("window", "flat", "plane", "onnx")


def golden(case):
    prefix = f"{case}/"
    return {
        name.removeprefix(prefix): value
        for name, value in GOLDEN_VECTORS.items()
        if name.startswith(prefix)
    }


def window_of(case):
    """Return window and strides from a name such as torch_2d_3_2."""
    _, _, window, strides, *_ = case.split("_")
    return int(window), int(strides)


def as_numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("case", [c for c in CASES if c[:5] == "torch"])
def test_golden_pytorch(case):
    vectors = golden(case)
    window, strides = window_of(case)
    options = dict(data_format="channels_first", index_format="plane")
    pooled, argmax = ops.max_pool_with_argmax(
        vectors["x"], window, strides, **options
    )
    np.testing.assert_array_equal(as_numpy(pooled), vectors["pooled"])
    np.testing.assert_array_equal(as_numpy(argmax), vectors["argmax"])
    if "unpooled" in vectors:
        y = ops.max_unpool(
            vectors["pooled"],
            vectors["argmax"],
            window,
            strides,
            like=vectors["x"],
            **options,
        )
        np.testing.assert_array_equal(as_numpy(y), vectors["unpooled"])


def test_golden_pytorch_with_its_own_padding():
    """Positions do not depend on windows, so they are not converted."""
    vectors = golden("padded_2d")
    y = ops.max_unpool(
        vectors["pooled"],
        vectors["argmax"],
        output_size=vectors["x"].shape[2:],
        data_format="channels_first",
        index_format="plane",
    )
    np.testing.assert_array_equal(as_numpy(y), vectors["unpooled"])


@pytest.mark.parametrize("case", [c for c in CASES if c[:2] == "tf"])
def test_golden_tensorflow(case):
    vectors = golden(case)
    window, strides = window_of(case)
    padding, batch = case.split("_")[-2:]
    x = vectors["x"]
    pooled, argmax = ops.max_pool_with_argmax(
        x, window, strides, padding, index_format="flat"
    )
    np.testing.assert_array_equal(as_numpy(pooled), vectors["pooled"])
    expected = vectors["argmax"]
    if batch == "True":
        expected = expected % np.prod(x.shape[1:])
    np.testing.assert_array_equal(as_numpy(argmax), expected)
    offsets = ops.convert_argmax(
        expected,
        "flat",
        "window",
        input_size=x.shape[1:3],
        pool_size=window,
        strides=strides,
        padding=padding,
    )
    _, window_argmax = ops.max_pool_with_argmax(x, window, strides, padding)
    np.testing.assert_array_equal(as_numpy(offsets), as_numpy(window_argmax))


@pytest.mark.backend
@pytest.mark.parametrize("case", [c for c in CASES if c[:4] == "onnx"])
def test_golden_onnx(case):
    vectors = golden(case)
    window, strides = window_of(case)
    options = dict(pool_size=window, strides=strides)
    pooled, argmax = ops.max_pool_with_argmax(
        vectors["x"], data_format="channels_first", **options
    )
    np.testing.assert_array_equal(as_numpy(pooled), vectors["pooled"])
    onnx = ops.convert_argmax(
        argmax,
        "window",
        "onnx",
        input_size=vectors["x"].shape[2:],
        data_format="channels_first",
        **options,
    )
    np.testing.assert_array_equal(as_numpy(onnx), vectors["argmax"])


@pytest.mark.backend
@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize(
    ("data_format", "size"),
    [
        ("channels_first", (7,)),
        ("channels_last", (5, 6)),
        ("channels_first", (4, 5, 3)),
    ],
)
def test_there_and_back_is_the_identity(source, target, data_format, size, rng):
    x = rng.standard_normal((2, *size, 3)).astype("float32")
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    window = dict(
        pool_size=3, strides=2, padding="same", data_format=data_format
    )
    _, offsets = ops.max_pool_with_argmax(x, **window)

    def convert(argmax, source, target):
        return ops.convert_argmax(
            argmax, source, target, input_size=size, **window
        )

    start = convert(offsets, "window", source)
    back = convert(convert(start, source, target), target, source)
    np.testing.assert_array_equal(as_numpy(back), as_numpy(start))
    again = convert(start, source, "window")
    np.testing.assert_array_equal(as_numpy(again), as_numpy(offsets))
    assert keras.backend.standardize_dtype(again.dtype) == "uint8"


@pytest.mark.backend
def test_formats_count_as_documented(rng):
    x = rng.permutation(2 * 5 * 7 * 3).reshape(2, 5, 7, 3).astype("float32")
    _, argmax = ops.max_pool_with_argmax(x, padding="same")
    _, _, plane = oracles.max_pool(x, (2, 2), (2, 2), "same")
    image, channel = np.ix_(range(2), range(3))
    image, channel = image.reshape(2, 1, 1, 1), channel.reshape(1, 1, 1, 3)
    expected = {
        "plane": plane,
        "flat": plane * 3 + channel,
        "onnx": (image * 3 + channel) * 35 + plane,
    }
    for target, positions in expected.items():
        result = ops.convert_argmax(
            argmax, "window", target, input_size=(5, 7), padding="same"
        )
        np.testing.assert_array_equal(as_numpy(result), positions)


@pytest.mark.backend
def test_channels_of_the_pooled_tensor_count():
    """An index of some channels refers to all channels of the input."""
    plane = np.array([5, 2]).reshape(1, 1, 2, 1)
    flat = ops.convert_argmax(
        plane, "plane", "flat", input_size=(2, 4), channels=64
    )
    assert np.ravel(as_numpy(flat)).tolist() == [5 * 64, 2 * 64]
    back = ops.convert_argmax(
        flat, "flat", "plane", input_size=(2, 4), channels=64
    )
    np.testing.assert_array_equal(as_numpy(back), plane)


@pytest.mark.backend
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX counts in int32 here"
)
def test_positions_beyond_int32():
    """The input would have 3 rows of 2**30 columns; only the index exists."""
    rows, columns, width = 3, 2**30, 4096
    argmax = np.full((1, rows, columns // width, 1), width - 1, "int32")
    window = dict(input_size=(rows, columns), pool_size=(1, width), channels=5)
    plane = as_numpy(ops.convert_argmax(argmax, "window", "plane", **window))
    last = rows * columns - 1
    assert plane[0, -1, -1, 0] == last > 2**31
    flat = as_numpy(ops.convert_argmax(argmax, "window", "flat", **window))
    assert flat[0, -1, -1, 0] == last * 5
    onnx = ops.convert_argmax(
        np.repeat(argmax, 2, axis=0), "window", "onnx", **window
    )
    assert as_numpy(onnx)[1, -1, -1, 0] == 5 * rows * columns + last
    for source, positions in (("plane", plane), ("flat", flat)):
        back = ops.convert_argmax(positions, source, "window", **window)
        np.testing.assert_array_equal(as_numpy(back), argmax)


@pytest.mark.backend
@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="only JAX lacks int64"
)
def test_jax_refuses_positions_beyond_int32():
    argmax = np.zeros((1, 1, 1, 1), "int32")
    with pytest.raises(ValueError, match="jax_enable_x64"):
        ops.convert_argmax(argmax, "plane", "flat", input_size=(2**16, 2**16))


INDEX = np.zeros((1, 2, 3, 4), "int64")


@pytest.mark.backend
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(source="torch"), ["`source` must be one of", "'onnx'"]),
        (dict(target="tf"), ["`target` must be one of", "'plane'"]),
        (dict(argmax=INDEX * 1.0), ["integer index", "of dtype float"]),
        (dict(argmax=INDEX[0, 0]), ["1, 2 or 3 spatial axes"]),
        (dict(input_size=(4,)), ["`input_size`", "2 ints"]),
        (dict(input_size=(6, 6)), ["4 to 5 x 6 to 7", "(6, 6)"]),
        (dict(channels=0), ["`channels`", "channels=0"]),
        (dict(channels=3), ["at least the 4", "channels=3"]),
        (
            dict(
                argmax=INDEX.astype("uint8") + 3,
                source="window",
                target="plane",
                input_size=(3, 5),
                padding="same",
            ),
            ["point into padding", "16 of 24"],
        ),
        (dict(argmax=INDEX + 24), ["must lie in 0..23", "`source`"]),
        (
            dict(argmax=INDEX + 23),
            ["20 of 24 indices", "point into the windows"],
        ),
        (
            dict(argmax=INDEX + 96, source="onnx", target="plane"),
            ["must lie in 0..95"],
        ),
    ],
)
def test_errors(arguments, words):
    good = dict(
        argmax=INDEX, source="plane", target="window", input_size=(4, 6)
    )
    with pytest.raises(ValueError, match="`") as error:
        ops.convert_argmax(**{**good, **arguments})
    for word in words:
        assert word in str(error.value)
