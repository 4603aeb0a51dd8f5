"""Transposed convolutions as they start."""

import keras
import numpy as np
import pytest

from keras_deconv.initializers import ICNR, BilinearInitializer
from keras_deconv.models import SegNetBasic

pytestmark = [pytest.mark.backend, pytest.mark.oldest]

as_numpy = keras.ops.convert_to_numpy


def upsample(x, initializer, kernel_size, strides, filters):
    layer = keras.layers.Conv2DTranspose(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        data_format="channels_last",
        use_bias=False,
        kernel_initializer=initializer,
    )
    return as_numpy(layer(x)), layer


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("kernel_size", "strides"), [(4, 2), (6, 3), (8, 4), (5, 3), (3, 2)]
)
@pytest.mark.parametrize("given", [True, False])
def test_bilinear_is_linear_interpolation(kernel_size, strides, given, rng):
    """A plane through the pixels stays that plane, away from the border."""
    if not given and kernel_size != 2 * strides - strides % 2:
        pytest.skip("the kernel does not tell these strides")
    rows, columns = np.mgrid[:7, :8].astype("float32")
    x = np.stack([2 * rows - 3 * columns, rows + 5], axis=-1)[None]
    initializer = BilinearInitializer(strides if given else None)
    y, _ = upsample(x, initializer, kernel_size, strides, 2)
    inside = y[0, kernel_size:-kernel_size, kernel_size:-kernel_size]
    steps = np.diff(inside, axis=0), np.diff(inside, axis=1)
    for step, slopes in zip(steps, ([2, 1], [-3, 0]), strict=True):
        np.testing.assert_allclose(
            step, np.broadcast_to(slopes, step.shape) / strides, atol=1e-4
        )


@pytest.mark.numeric
def test_bilinear_is_keras_resizing(rng):
    x = rng.standard_normal((1, 6, 7, 3)).astype("float32")
    y, _ = upsample(x, BilinearInitializer(), 4, 2, 3)
    expected = keras.ops.image.resize(
        x, (12, 14), interpolation="bilinear", data_format="channels_last"
    )
    np.testing.assert_allclose(
        y[:, 1:-1, 1:-1], as_numpy(expected)[:, 1:-1, 1:-1], atol=1e-5
    )


@pytest.mark.numeric
def test_bilinear_of_the_window_is_nearest(rng):
    """A kernel as wide as the strides reaches one input alone."""
    x = rng.standard_normal((1, 3, 4, 2)).astype("float32")
    y, _ = upsample(x, BilinearInitializer(2), 2, 2, 2)
    np.testing.assert_allclose(y, x.repeat(2, 1).repeat(2, 2), atol=1e-6)


@pytest.mark.numeric
def test_bilinear_in_one_and_three_axes():
    line = as_numpy(BilinearInitializer(2)((4, 1, 1)))[:, 0, 0]
    np.testing.assert_allclose(line, [0.25, 0.75, 0.75, 0.25])
    cube = as_numpy(BilinearInitializer((1, 2, 2))((1, 4, 4, 2, 3)))
    np.testing.assert_allclose(cube[0, :, :, 0, 0], np.outer(line, line))
    assert not cube[..., 0, 1].any()


def has_checkerboard(y, strides):
    """Whether blocks of outputs differ inside, away from the border."""
    blocks = y[:, 2 * strides : -2 * strides, 2 * strides : -2 * strides]
    offsets = [
        np.abs(np.diff(blocks, axis=axis)).max(axis=(0, 3)) for axis in (1, 2)
    ]
    # Somewhere a difference stands between all rows (columns) of pixels.
    return any(
        (np.moveaxis(offset, axis, 0).max(axis=1) > 1e-5).all()
        for axis, offset in enumerate(offsets)
    )


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("kernel_size", "strides"), [(2, 2), (4, 2), (6, 2), (6, 3)]
)
def test_icnr_gives_blocks_of_equal_values(kernel_size, strides, rng):
    x = rng.standard_normal((2, 8, 8, 3)).astype("float32")
    y, layer = upsample(x, ICNR(strides), kernel_size, strides, 5)
    assert not has_checkerboard(y, strides)
    # The check sees one where there is one.
    y, _ = upsample(x, "he_normal", kernel_size, strides, 5)
    assert has_checkerboard(y, strides)
    # The variance is that of the convolution with the small kernel.
    fan_in = (kernel_size // strides) ** 2 * 3
    assert np.std(layer.kernel) == pytest.approx((2 / fan_in) ** 0.5, rel=0.5)


@pytest.mark.numeric
def test_icnr_of_the_window_is_convolution_and_nearest(rng):
    x = rng.standard_normal((1, 4, 5, 3)).astype("float32")
    y, layer = upsample(x, ICNR(2), 2, 2, 6)
    small = x @ as_numpy(layer.kernel)[0, 0].T
    np.testing.assert_allclose(y, small.repeat(2, 1).repeat(2, 2), atol=1e-5)


@pytest.mark.parametrize(
    "initializer",
    [
        BilinearInitializer(),
        BilinearInitializer((2, 3)),
        ICNR(2, keras.initializers.RandomNormal(stddev=0.5, seed=3)),
    ],
)
def test_initializers_are_saved(initializer, tmp_path):
    layer = keras.layers.Conv2DTranspose(
        4, (4, 8), strides=2, kernel_initializer=initializer
    )
    model = keras.Sequential([keras.Input((5, 5, 2)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.layers[0].kernel_initializer
    assert type(again) is type(initializer)
    assert again.get_config() == initializer.get_config()
    shape = (4, 8, 2, 2)
    np.testing.assert_array_equal(again(shape), initializer(shape))


@pytest.mark.numeric
def test_bilinear_asks_for_strides_that_the_kernel_does_not_tell():
    """With strides of 2 half of this kernel would be a quarter too dark."""
    for kernel_size in (2, 3, 6, 7):
        with pytest.raises(ValueError, match=r"BilinearInitializer\(strides"):
            BilinearInitializer()((kernel_size, kernel_size, 1, 1))
    net = SegNetBasic(
        (8, 8, 3),
        2,
        decoder="conv_transpose",
        decoder_initializer=BilinearInitializer(strides=2),
    )
    y = net.get_layer("decoder1_unpool")(np.ones((1, 4, 4, 64), "float32"))
    np.testing.assert_allclose(as_numpy(y), 1)


def test_half_precision():
    kernel = BilinearInitializer()((4, 4, 1, 1), dtype="bfloat16")
    assert keras.backend.standardize_dtype(kernel.dtype) == "bfloat16"
    kernel = ICNR(2)((4, 4, 1, 1), dtype="float16")
    assert keras.backend.standardize_dtype(kernel.dtype) == "float16"


def test_mistakes():
    with pytest.raises(ValueError, match="`strides` must divide the kernel"):
        ICNR(2)((3, 3, 1, 1))
    with pytest.raises(ValueError, match="`strides` must be an int >= 1"):
        ICNR(0)
    with pytest.raises(ValueError, match="`strides` must be a sequence"):
        BilinearInitializer((2, 0))
    with pytest.raises(ValueError, match="`strides` must be an int or"):
        BilinearInitializer((2, 2, 2))((4, 4, 1, 1))
    for shape in ((4, 4), (0, 4, 1, 1), (None, 4, 1, 1), 5):
        with pytest.raises(ValueError, match="`shape` must be"):
            BilinearInitializer()(shape)
        with pytest.raises(ValueError, match="`shape` must be"):
            ICNR(2)(shape)
    for initializer in (BilinearInitializer(), ICNR(2)):
        with pytest.raises(ValueError, match="`dtype` must be a float"):
            initializer((4, 4, 1, 1), dtype="int32")


@pytest.mark.numeric
def test_decoders_of_the_networks_take_them(rng):
    """decoder="conv_transpose" starting as bilinear upsampling."""
    net = SegNetBasic(
        (9, 14, 3),
        2,
        decoder="conv_transpose",
        decoder_kernel_size=4,
        decoder_initializer=BilinearInitializer(),
    )
    layer = net.get_layer("decoder1_unpool")
    assert layer.kernel.shape == (4, 4, 64, 64)
    np.testing.assert_allclose(
        as_numpy(layer.kernel)[:, :, 5, 5] * 16,
        np.outer([1, 3, 3, 1], [1, 3, 3, 1]),
    )
    assert tuple(net(np.zeros((1, 9, 14, 3))).shape) == (1, 9, 14, 2)


def test_an_uneven_kernel_is_warned_of():
    # Only the decoder with this kernel warns. The warning points to this file.
    SegNetBasic((8, 8, 3), 2, decoder_kernel_size=3)
    with pytest.warns(UserWarning, match="checkerboard artifacts") as caught:
        SegNetBasic(
            (8, 8, 3), 2, decoder="conv_transpose", decoder_kernel_size=3
        )
    assert [w.filename for w in caught] == [__file__]
