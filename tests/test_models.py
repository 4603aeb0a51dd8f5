"""The networks: sizes and counts as published, and that they learn."""

import math

import keras
import numpy as np
import pytest

from keras_deconv import blocks
from keras_deconv.models import SegNet, SegNetBasic


def count(weights):
    return sum(math.prod(w.shape) for w in weights)


# Counted from the authors' prototxt files (with biases) and for the paper's
# networks (without).
@pytest.mark.parametrize(
    ("model", "num_classes", "use_bias", "trainable", "fixed"),
    [
        (SegNet, 11, True, 29_449_355, 15_872),
        (SegNet, 11, False, 29_441_419, 15_872),
        (SegNetBasic, 11, True, 1_416_587, 1_024),
        (SegNetBasic, 11, False, 1_416_075, 1_024),
    ],
)
def test_parameters(model, num_classes, use_bias, trainable, fixed):
    net = model((360, 480, 3), num_classes, use_bias=use_bias)
    assert count(net.trainable_weights) == trainable
    assert count(net.non_trainable_weights) == fixed


@pytest.mark.parametrize("decoder", blocks.DECODERS)
def test_sizes_of_every_stage(decoder):
    net = SegNet((360, 480, 3), 11, decoder=decoder)
    heights = [360, 180, 90, 45, 23, 12]
    widths = [480, 240, 120, 60, 30, 15]
    filters = [64, 128, 256, 512, 512]
    for number in range(1, 6):
        pool = net.get_layer(f"block{number}_pool").output
        pooled = pool[0] if isinstance(pool, list | tuple) else pool
        down = (None, heights[number], widths[number], filters[number - 1])
        assert pooled.shape == down
        up = (None, heights[number - 1], widths[number - 1])
        conv = net.get_layer(f"decoder{number}_conv1").output
        assert conv.shape[:3] == up
    assert net.output_shape == (None, 360, 480, 11)


def test_channels_last_whatever_the_configuration(rng):
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        for decoder in blocks.DECODERS:
            net = SegNetBasic((9, 10, 3), 2, decoder=decoder)
            assert net.output_shape == (None, 9, 10, 2)
            assert tuple(net(np.zeros((1, 9, 10, 3))).shape) == (1, 9, 10, 2)
    finally:
        keras.config.set_image_data_format(before)


def test_layer_names_are_those_of_vgg16():
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    net = SegNet((None, None, 3), 11)
    for layer in vgg16.layers:
        if isinstance(layer, keras.layers.Conv2D):
            ours = net.get_layer(layer.name)
            assert [w.shape for w in ours.weights] == [
                w.shape for w in layer.weights
            ]


@pytest.mark.parametrize("decoder", blocks.DECODERS)
@pytest.mark.parametrize("known", [True, False])
def test_odd_sizes_are_restored(decoder, known, rng):
    size = (29, 35)
    shape = (*size, 3) if known else (None, None, 3)
    net = SegNetBasic(shape, 4, decoder=decoder)
    x = rng.uniform(0, 255, (2, *size, 3)).astype("float32")
    y = net(x)
    assert tuple(y.shape) == (2, *size, 4)
    # What fit and predict run is a graph.
    np.testing.assert_allclose(
        net.predict(x, verbose=0), y, rtol=1e-4, atol=1e-4
    )


def test_unpooling_brings_maxima_back_to_their_pixels():
    """Ones for values: the decoder's picture is where the maxima were."""
    image = keras.Input((6, 7, 1))
    x, pooling = blocks.pool(image, decoder="max_unpool", name="pool")
    ones = keras.layers.Rescaling(0.0, 1.0)(x)
    y = blocks.unpool(ones, pooling, decoder="max_unpool", name="unpool")
    x = np.random.default_rng(3).permutation(42).reshape(1, 6, 7, 1)
    marked = np.asarray(keras.Model(image, y)(x.astype("float32")))[0, :, :, 0]
    for row in range(0, 6, 2):
        for column in range(0, 7, 2):
            cell = x[0, row : row + 2, column : column + 2, 0]
            mark = marked[row : row + 2, column : column + 2]
            assert mark.sum() == 1
            assert cell[mark == 1] == cell.max()


def test_local_response_norm_is_caffes(rng):
    x = rng.uniform(0, 255, (1, 2, 2, 7)).astype("float32")
    inputs = keras.Input((2, 2, 7))
    net = keras.Model(inputs, blocks.local_response_norm(inputs))
    expected = np.zeros_like(x)
    for channel in range(7):
        window = x[..., max(channel - 2, 0) : channel + 3]
        energy = np.square(window).sum(-1)
        expected[..., channel] = (
            x[..., channel] / (1 + 1e-4 / 5 * energy) ** 0.75
        )
    np.testing.assert_allclose(net(x), expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_overfits_two_images(policy, rng):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        net = SegNetBasic((16, 24, 3), 3)
    finally:
        keras.config.set_dtype_policy(before)
    x = rng.uniform(0, 255, (2, 16, 24, 3)).astype("float32")
    # The class of a pixel depends on its colours and its neighbours'.
    y = np.argmax(x + np.roll(x, 1, axis=2), axis=-1)
    net.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    history = net.fit(x, y, batch_size=2, epochs=30, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert net.output.dtype == "float32"


def test_softmax_and_dropout():
    net = SegNet((None, None, 3), 5, dropout=0.5)
    names = {layer.name for layer in net.layers if "dropout" in layer.name}
    assert names == {
        f"{half}{number}_dropout"
        for half in ("block", "decoder")
        for number in (3, 4, 5)
    }
    net = SegNetBasic((8, 8, 3), 5, classifier_activation="softmax")
    y = np.asarray(net(np.zeros((1, 8, 8, 3))))
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)


def test_vgg16_weights_take_rgb(tmp_path, rng):
    """The first convolution sees what VGG-16 sees of BGR less the mean."""
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    for layer in vgg16.layers:
        layer.set_weights(
            [rng.normal(0, 0.05, w.shape) for w in layer.get_weights()]
        )
    path = tmp_path / "vgg16.weights.h5"
    vgg16.save_weights(path)
    net = SegNet((16, 16, 3), 4, encoder_weights=path)
    rgb = rng.uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    bgr = keras.applications.vgg16.preprocess_input(rgb.copy())
    ours = keras.Model(net.input, net.get_layer("block1_conv1").output)(rgb)
    theirs = keras.ops.conv(
        bgr, *vgg16.get_layer("block1_conv1").weights[:1], padding="same"
    )
    theirs = theirs + vgg16.get_layer("block1_conv1").bias
    # At the border VGG-16 pads with the mean colour, ours with black.
    np.testing.assert_allclose(
        ours[:, 1:-1, 1:-1], theirs[:, 1:-1, 1:-1], rtol=1e-3, atol=1e-2
    )
    np.testing.assert_array_equal(
        net.get_layer("block5_conv3").kernel,
        vgg16.get_layer("block5_conv3").kernel,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(input_shape=(None, None)), "`input_shape` must be"),
        (dict(input_shape=(8, 8, None)), "channels may not"),
        (dict(input_shape=(0, 8, 3)), "`input_shape` must be"),
        (dict(input_shape=64), "`input_shape` must be"),
        (dict(input_shape=("48", 8, 3)), "`input_shape` must be"),
        (dict(num_classes=0), "`num_classes` must be"),
        (dict(num_classes="11"), "`num_classes` must be"),
        (dict(num_classes=2.5), "`num_classes` must be"),
        (dict(dropout="0.5"), "`dropout` must be"),
        (dict(decoder="unpool"), "'max_unpool', 'bed_of_nails', 'nearest'"),
        (dict(dropout=1.0), "`dropout` must be"),
        (dict(classifier_activation="relu"), "`classifier_activation`"),
    ],
)
@pytest.mark.parametrize("model", [SegNet, SegNetBasic])
def test_bad_arguments(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        model(**{"input_shape": (8, 8, 3), "num_classes": 4, **arguments})


def test_bad_encoder_weights(tmp_path):
    with pytest.raises(ValueError, match="3 channels"):
        SegNet((8, 8, 1), 4, encoder_weights="imagenet")
    with pytest.raises(ValueError, match="`encoder_weights` must be"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "missing.weights.h5")
