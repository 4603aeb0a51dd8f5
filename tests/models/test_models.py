"""The networks: published sizes and parameter counts, and training."""

import functools
import inspect
import math
import warnings

import keras
import numpy as np
import pytest

from keras_deconv.models import (
    BayesianSegNet,
    BayesianSegNetBasic,
    DeconvNet,
    ENet,
    FullResolutionNet,
    PatchClassifier,
    QuickNAT,
    ReLayNet,
    SegNet,
    SegNetBasic,
    _blocks,
    _pairs,
    enet,
)
from keras_deconv.models._layers import LocalResponseNorm
from tests import networks

pytestmark = [pytest.mark.oldest]


def count(weights):
    return sum(math.prod(w.shape) for w in weights)


# Counted from the authors' network files, with biases before normalization, or
# without (the papers' SegNets): trainable and non-trainable parameters.
PUBLISHED = [
    (SegNet, 11, {}, 29_449_355, 15_872),
    (SegNet, 12, {}, 29_449_932, 15_872),
    (SegNet, 21, {}, 29_455_125, 15_872),
    (SegNet, 11, dict(use_bias=False), 29_441_419, 15_872),
    (SegNet, 12, dict(use_bias=False), 29_441_996, 15_872),
    (SegNet, 21, dict(use_bias=False), 29_447_189, 15_872),
    (SegNetBasic, 11, {}, 1_416_587, 1_024),
    (SegNetBasic, 12, {}, 1_416_652, 1_024),
    (SegNetBasic, 11, dict(use_bias=False), 1_416_075, 1_024),
    (SegNetBasic, 12, dict(use_bias=False), 1_416_140, 1_024),
    (DeconvNet, 21, {}, 251_805_653, 33_408),
    (DeconvNet, 21, dict(use_bias=False), 251_788_949, 33_408),
    (DeconvNet, 21, dict(fc_units=1024), 81_917_909, 21_120),
    (DeconvNet, 11, dict(fc_units=1024), 81_917_259, 21_120),
    (ENet, 11, {}, 363_791, 8_352),
    (ENet, 12, {}, 363_856, 8_352),
    (ENet, 19, {}, 364_311, 8_352),
    (ENet, 20, {}, 364_376, 8_352),
]
# The same with the number of channels.
OTHER_CHANNELS = [
    (ReLayNet, 1, 10, {}, 777_489, 896),
    (ReLayNet, 1, 9, {}, 777_424, 896),
    (ReLayNet, 3, 11, {}, 780_242, 896),
    (QuickNAT, 1, 28, {}, 3_516_971, 8_070),
    (QuickNAT, 1, 33, {}, 3_517_296, 8_070),
    # Eight blocks: two layers over channels, and one over pixels.
    (
        QuickNAT,
        1,
        28,
        dict(squeeze_excitation=True),
        3_516_971 + 8 * (64 * 32 + 32 + 32 * 64 + 64 + 64 + 1),
        8_070,
    ),
    # The authors' network for CamVid in the model zoo.
    (BayesianSegNet, 3, 11, dict(extra_classifier=True), 29_486_411, 16_000),
    (ENet, 3, 11, dict(decoder_activation="prelu"), 364_127, 8_352),
]
# They differ only in dropout.
BAYESIAN = {SegNet: BayesianSegNet, SegNetBasic: BayesianSegNetBasic}
PUBLISHED_BAYESIAN = [
    (BAYESIAN[model], *row) for model, *row in PUBLISHED if model in BAYESIAN
]


@pytest.mark.parametrize(
    ("model", "num_classes", "options", "trainable", "fixed"),
    [
        # Other numbers of classes change only the last layer.
        pytest.param(*row, marks=() if row[1] == 11 else pytest.mark.slow)
        for row in (*PUBLISHED, *PUBLISHED_BAYESIAN)
    ],
)
def test_parameters(model, num_classes, options, trainable, fixed):
    check_parameters(
        model, (None, None, 3), num_classes, options, trainable, fixed
    )


@pytest.mark.parametrize(
    ("model", "channels", "num_classes", "options", "trainable", "fixed"),
    OTHER_CHANNELS,
)
def test_parameters_of_other_images(
    model, channels, num_classes, options, trainable, fixed
):
    check_parameters(
        model, (None, None, channels), num_classes, options, trainable, fixed
    )


def check_parameters(model, shape, num_classes, options, trainable, fixed):
    with networks.without_values():
        net = model(shape, num_classes, **options)
    assert count(net.trainable_weights) == trainable
    seeds = [w for w in net.non_trainable_weights if "seed" in w.path]
    assert count(net.non_trainable_weights) - count(seeds) == fixed


@pytest.mark.parametrize("decoder", networks.DECODERS)
def test_sizes_of_every_stage(decoder):
    with networks.without_values():
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
        for decoder in networks.DECODERS:
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


@pytest.mark.numeric
@pytest.mark.parametrize("decoder", networks.DECODERS)
@pytest.mark.parametrize(
    "known", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_odd_sizes_are_restored(decoder, known, rng):
    size = (29, 35)
    shape = (*size, 3) if known else (None, None, 3)
    net = SegNetBasic(shape, 4, decoder=decoder)
    x = rng.uniform(0, 255, (2, *size, 3)).astype("float32")
    y = net(x)
    assert tuple(y.shape) == (2, *size, 4)
    # `fit` and `predict` run a graph.
    np.testing.assert_allclose(
        net.predict(x, verbose=0), y, rtol=1e-4, atol=1e-4
    )


@pytest.mark.numeric
def test_unpooling_brings_maxima_back_to_their_pixels():
    """Unpooled ones mark the positions of the maxima."""
    image = keras.Input((6, 7, 1))
    x, pooling = _blocks.pool(image, decoder="max_unpool", name="pool")
    ones = keras.layers.Rescaling(0.0, 1.0)(x)
    y = _blocks.unpool(ones, pooling, decoder="max_unpool", name="unpool")
    x = np.random.default_rng(3).permutation(42).reshape(1, 6, 7, 1)
    marked = np.asarray(keras.Model(image, y)(x.astype("float32")))[0, :, :, 0]
    for row in range(0, 6, 2):
        for column in range(0, 7, 2):
            cell = x[0, row : row + 2, column : column + 2, 0]
            mark = marked[row : row + 2, column : column + 2]
            assert mark.sum() == 1
            assert cell[mark == 1] == cell.max()


def test_layers_of_one_shape_start_with_different_weights(monkeypatch):
    """An initializer must not be shared: it would repeat its values."""
    networks.make_slim(monkeypatch)
    initializer = keras.initializers.RandomNormal(stddev=0.1)
    net = DeconvNet(
        (None, None, 3),
        2,
        fc_units=8,
        decoder="conv_transpose",
        decoder_initializer=initializer,
    )
    seen = [
        np.asarray(layer.kernel)
        for layer in net.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose)
    ]
    for i, kernel in enumerate(seen):
        for other in seen[:i]:
            assert kernel.shape != other.shape or np.any(kernel != other)


def set_identity(net):
    """Make convolutions and normalizations identity functions."""
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, "float32")
            rows, columns = ((n - 1) // 2 for n in layer.kernel_size)
            kernel[rows, columns] = np.eye(*kernel.shape[2:])
            layer.set_weights([kernel, np.zeros(layer.filters)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            ones, zeros = np.ones(layer.gamma.shape), np.zeros(layer.beta.shape)
            layer.set_weights([ones, zeros, zeros, ones - layer.epsilon])


def maxima_of_blocks(x, size):
    """Keep the maxima of each block and channel; other values become 0."""
    kept = np.zeros_like(x)
    for row in range(0, x.shape[1], size):
        for column in range(0, x.shape[2], size):
            cells = np.s_[:, row : row + size, column : column + size]
            top = x[cells].max((1, 2), keepdims=True)
            kept[cells] = np.where(x[cells] == top, x[cells], 0)
    return kept


@pytest.mark.numeric
def test_maxima_return_to_their_pixels_through_all_of_segnet():
    """With identities for convolutions, SegNet keeps the maxima of blocks.

    The maximum of a 32x32 block wins all five poolings. Each unpooling brings
    it one step back, and the last one to its own pixel.
    """
    net = SegNet((45, 70, 3), 3)
    set_identity(net)
    random = np.random.default_rng(5)
    x = random.permutation(45 * 70 * 3).reshape(1, 45, 70, 3) / 1e4 + 1
    x = x.astype("float32")
    expected = maxima_of_blocks(x, 32)
    assert (expected > 0).sum() == 2 * 3 * 3
    np.testing.assert_allclose(net(x), expected, rtol=1e-5)
    # The last stage uses only the first index, of the maxima of 2x2 blocks.
    stage = keras.Model(
        net.get_layer("decoder1_unpool").input,
        net.get_layer("decoder1_conv1_relu").output,
    )
    encoder = keras.Model(net.input, net.get_layer("block1_pool").output)
    pooled, argmax = encoder(x)
    features = keras.ops.zeros((1, 45, 70, 64))
    y = np.asarray(stage([pooled, argmax, features]))[..., :3]
    np.testing.assert_allclose(y, maxima_of_blocks(x, 2), rtol=1e-5)


@pytest.mark.numeric
def test_maxima_return_to_their_pixels_through_enet_blocks():
    """The projection is unpooled, and the extension is 0."""
    inputs = keras.Input((7, 10, 16))
    x, pooling = enet._down_block(inputs, 64, 0.0, "max_unpool", "down")
    x = enet._up_block(x, 16, pooling, "max_unpool", enet._relu, "up")
    net = keras.Model(inputs, x)
    set_identity_norms_and_close_extensions(net)
    x = np.random.default_rng(6).permutation(7 * 10 * 16) / 100 + 1
    x = x.reshape(1, 7, 10, 16).astype("float32")
    y = np.asarray(net(x))
    np.testing.assert_allclose(y, maxima_of_blocks(x, 2), rtol=1e-5)


def set_identity_norms_and_close_extensions(net):
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            ones, zeros = np.ones(layer.gamma.shape), np.zeros(layer.beta.shape)
            # The last normalization of an extension multiplies by 0.
            scale = 0 if layer.name.endswith("conv3_norm") else 1
            layer.set_weights(
                [scale * ones, zeros, zeros, ones - layer.epsilon]
            )
    projection = net.get_layer("up_projection")
    projection.set_weights([np.eye(64, 16).reshape(1, 1, 64, 16)])


def test_enet_projects_before_it_unpools():
    """Indices have 64 and 16 channels, inputs of the blocks 128 and 64."""
    with networks.without_values():
        net = ENet((64, 96, 3), 5)
    for up, down, size in (
        ("bottleneck4_0", "bottleneck2_0", (16, 24, 64)),
        ("bottleneck5_0", "bottleneck1_0", (32, 48, 16)),
    ):
        assert net.get_layer(f"{up}_unpool").output.shape == (None, *size)
        argmax = net.get_layer(f"{down}_pool").output[1]
        assert argmax.shape[-1] == size[-1]
    # The stages of the authors' table, with 64x96 instead of 512x512 pixels.
    shapes = {
        "initial_prelu": (32, 48, 16),
        "bottleneck1_4_prelu": (16, 24, 64),
        "bottleneck2_8_prelu": (8, 12, 128),
        "bottleneck3_7_prelu": (8, 12, 128),
        "bottleneck4_2_relu": (16, 24, 64),
        "bottleneck5_1_relu": (32, 48, 16),
    }
    for name, shape in shapes.items():
        assert net.get_layer(name).output.shape == (None, *shape)


def of_blocks(stage, *numbers):
    return [f"bottleneck{stage}_{number}" for number in numbers]


def test_enet_block_by_block():
    """Blocks are those of the authors' `encoder.lua` and `decoder.lua`."""
    with networks.without_values():
        net = ENet((64, 96, 3), 5)
    found = {
        layer.name: (
            layer.kernel_size,
            layer.strides[0],
            layer.dilation_rate[0],
            layer.use_bias,
        )
        for layer in net.layers
        if isinstance(layer, keras.layers.Conv2D)
        and layer.name.startswith("bottleneck")
    }
    expected = {}
    down, up = ["bottleneck1_0", "bottleneck2_0"], of_blocks(4, 0)
    up += of_blocks(5, 0)
    eight = [*of_blocks(2, *range(1, 9)), *of_blocks(3, *range(8))]
    dilations = dict(
        zip(eight, 2 * [1, 2, None, 4, 1, 8, None, 16], strict=True)
    )
    others = [*of_blocks(1, 1, 2, 3, 4), *of_blocks(4, 1, 2), *of_blocks(5, 1)]
    dilations |= dict.fromkeys(others + down, 1)
    for name, dilation in dilations.items():
        expected[f"{name}_conv1"] = ((1, 1), 1, 1, False)
        expected[f"{name}_conv2"] = ((3, 3), 1, dilation, True)
        expected[f"{name}_conv3"] = ((1, 1), 1, 1, False)
        if dilation is None:
            expected[f"{name}_conv2_row"] = ((1, 5), 1, 1, False)
            expected[f"{name}_conv2"] = ((5, 1), 1, 1, True)
    for name in down:
        expected[f"{name}_conv1"] = ((2, 2), 2, 1, False)
    for name in up:
        for part in ("conv1", "conv3", "projection"):
            expected[f"{name}_{part}"] = ((1, 1), 1, 1, False)
    assert found == expected

    rates = {
        layer.name.removesuffix("_dropout"): layer.rate
        for layer in net.layers
        if isinstance(layer, keras.layers.Dropout)
    }
    assert rates == {
        **dict.fromkeys(of_blocks(1, *range(5)), 0.01),
        **dict.fromkeys(["bottleneck2_0", *eight], 0.1),
    }
    activations = {
        type(layer)
        for layer in net.layers
        if layer.name.startswith(("bottleneck4", "bottleneck5"))
        and layer.name.endswith("lu")
    }
    assert activations == {keras.layers.ReLU}


@pytest.mark.numeric
@pytest.mark.parametrize("size", [6, 7])
def test_enet_transposed_convolution_is_aligned_as_in_torch(size, rng):
    """Torch's padding 1 and output padding 1: input i meets 2i - 1 .. 2i + 1.

    The test passes a single pixel through `conv2` of an up block.
    """
    half = -(-size // 2)
    inputs = keras.Input((half, half, 64))
    like = keras.Input((size, size, 64))
    _, pooling = _blocks.pool(like, decoder="nearest", name="pool")
    x = enet._up_block(inputs, 64, pooling, "nearest", enet._relu, "up")
    net = keras.Model([inputs, like], x)
    part = keras.Model([inputs, like], net.get_layer("up_conv2_crop").output)
    net.get_layer("up_conv1").set_weights([np.eye(64, 16)[None, None]])
    norm = net.get_layer("up_conv1_norm")
    ones, zeros = np.ones(16), np.zeros(16)
    norm.set_weights([ones, zeros, zeros, ones - norm.epsilon])
    x = np.zeros((1, half, half, 64), "float32")
    x[0, 1, 2, 3] = 1
    y = np.asarray(part([x, np.zeros((1, size, size, 64), "float32")]))
    kernel = np.asarray(net.get_layer("up_conv2").kernel)[:, :, :, 3]
    expected = np.zeros((1, size, size, 16), "float32")
    expected[0, 1:4, 3:6] = kernel[:, : size - 3]
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (SegNetBasic, 1),
        (SegNetBasic, 4),
        (ENet, 4),
        (functools.partial(FullResolutionNet, filters=(4,)), 2),
    ],
)
def test_any_number_of_channels(build, channels):
    net = build((None, None, channels), 5)
    assert net(np.zeros((1, 17, 23, channels))).shape == (1, 17, 23, 5)


def test_segnet_basic_has_no_relu_in_its_decoder():
    names = {layer.name for layer in SegNetBasic((8, 8, 3), 2).layers}
    relus = {name for name in names if name.endswith("relu")}
    assert relus == {f"block{number}_conv1_relu" for number in range(1, 5)}


@pytest.mark.slow
@pytest.mark.numeric
def test_first_values_are_the_authors():
    net = DeconvNet((193, 193, 3), 2, fc_units=8)
    norms = [
        layer
        for layer in net.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        np.testing.assert_allclose(layer.beta, 0.001)
    encoder, decoder, classifier = (
        np.asarray(net.get_layer(name).kernel)
        for name in ("block4_conv2", "decoder4_conv2", "logits")
    )
    assert encoder.std() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.05)
    assert decoder.std() == pytest.approx(0.01, rel=0.05)
    assert classifier.std() == pytest.approx(0.01, rel=0.2)


def test_own_initializers_keep_what_they_were_made_with():
    class Constant(keras.initializers.Initializer):
        def __init__(self, value):
            self.value = value

        def __call__(self, shape, dtype=None):
            return keras.ops.full(shape, self.value, dtype)

    net = SegNetBasic(
        (8, 8, 3),
        2,
        decoder="conv_transpose",
        decoder_initializer=Constant(7.0),
    )
    for number in range(1, 5):
        layer = net.get_layer(f"decoder{number}_unpool")
        np.testing.assert_array_equal(layer.kernel, 7)


def test_enet_channels_that_are_new_are_0():
    inputs = keras.Input((4, 4, 16))
    x, _ = enet._down_block(inputs, 64, 0.0, "max_unpool", "down")
    net = keras.Model(inputs, x)
    for layer in net.layers:
        if layer.name == "down_conv3_norm":
            layer.gamma.assign(0 * layer.gamma)
            layer.beta.assign(0 * layer.beta)
    y = np.asarray(net(np.ones((1, 4, 4, 16), "float32")))
    assert (y[..., :16] == 1).all()
    assert not y[..., 16:].any()


@pytest.mark.numeric
def test_enet_convolutions_are_aligned_as_in_torch():
    """Torch's value of a pixel, computed by hand, at even and odd sizes."""
    for size in (8, 9):
        inputs = keras.Input((size, size, 3))
        net = keras.Model(inputs, enet._initial_block(inputs, 13))
        conv = net.get_layer("initial_conv")
        x = np.random.default_rng(0).standard_normal((1, size, size, 3))
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        first = keras.Model(inputs, conv.output)(x.astype("float32"))
        assert first.shape[1:3] == (-(-size // 2),) * 2
        kernel = np.asarray(conv.kernel)
        for row, column in ((0, 0), (2, 3)):
            window = padded[0, 2 * row :, 2 * column :][:3, :3]
            expected = np.einsum("hwi,hwio->o", window, kernel)
            np.testing.assert_allclose(
                first[0, row, column], expected, rtol=1e-4, atol=1e-5
            )


def test_deconvnet_narrows_to_one_pixel_and_returns():
    with networks.without_values():
        net = DeconvNet((224, 224, 3), 21, fc_units=16)
    for name, shape in {
        "block5_pool": (7, 7, 512),
        "fc6": (1, 1, 16),
        "fc7": (1, 1, 16),
        "fc6_conv_transpose": (7, 7, 512),
        "decoder5_conv3": (14, 14, 512),
        "decoder4_conv3": (28, 28, 256),
        "decoder3_conv3": (56, 56, 128),
        "decoder2_conv2": (112, 112, 64),
        "decoder1_conv2": (224, 224, 64),
        "logits": (224, 224, 21),
    }.items():
        output = net.get_layer(name).output
        output = output[0] if isinstance(output, list | tuple) else output
        assert output.shape == (None, *shape)
    # Only the convolutions of the decoder are transposed.
    transposed = [
        layer.name
        for layer in net.layers
        if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    assert len(transposed) == 1 + 3 + 3 + 3 + 2 + 2
    assert not any("Dropout" in type(layer).__name__ for layer in net.layers)


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize(
    ("build", "size"),
    [
        (ENet, (29, 35)),
        pytest.param(ENet, (1, 2), marks=pytest.mark.slow),
        (FullResolutionNet, (5, 4)),
        (DeconvNet, (193, 201)),
        # These sizes are not multiples of 8 or 16.
        (functools.partial(ReLayNet, filters=8), (29, 35)),
        pytest.param(
            functools.partial(QuickNAT, filters=8),
            (29, 35),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_odd_sizes_of_the_other_networks(build, size, rng, monkeypatch):
    if build is DeconvNet:
        networks.make_slim(monkeypatch)
        build = functools.partial(DeconvNet, fc_units=8)
    x = rng.uniform(0, 255, (1, *size, 3)).astype("float32")
    known = build((*size, 3), 4)
    unknown = build((None, None, 3), 4)
    unknown.set_weights(known.get_weights())
    y = known(x)
    assert tuple(y.shape) == (1, *size, 4)
    # Logits of untrained networks reach hundreds.
    y = np.asarray(y)
    np.testing.assert_allclose(
        unknown.predict(x, verbose=0), y, atol=1e-5 * np.abs(y).max()
    )


def test_relaynet_stage_by_stage():
    """Stages are those of the authors' `relay_net.py`."""
    with networks.without_values():
        net = ReLayNet((48, 64, 1), 10)
    kernels = {
        layer.kernel_size
        for layer in net.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.name != "logits"
    }
    assert kernels == {(7, 3)}
    for name, shape in {
        "block3_conv1_prelu": (12, 16, 64),
        "bottleneck_conv1_prelu": (6, 8, 64),
        "decoder3_skip_concatenate": (12, 16, 128),
        "decoder1_conv1_prelu": (48, 64, 64),
    }.items():
        assert net.get_layer(name).output.shape == (None, *shape)
    check_skips(net, [f"block{n}_conv1_prelu" for n in (1, 2, 3)])


def test_quicknat_stage_by_stage():
    """Stages are those of the authors' `quicknat.py`."""
    with networks.without_values():
        net = QuickNAT((48, 64, 1), 28)
    for stage, channels in {
        "block1": 1,
        "block4": 64,
        "bottleneck": 64,
        "decoder4": 128,
        "decoder1": 128,
    }.items():
        for i, size in ((1, 5), (2, 5), (3, 1)):
            conv = net.get_layer(f"{stage}_conv{i}")
            assert conv.kernel_size == (size, size)
            assert conv.input.shape[-1] == channels + (i - 1) * 64
    dropouts = [
        layer for layer in net.layers if isinstance(layer, keras.layers.Dropout)
    ]
    assert {type(layer) for layer in dropouts} == {
        keras.layers.SpatialDropout2D
    }
    assert {layer.name for layer in dropouts} == {
        f"{half}{n}_dropout"
        for half in ("block", "decoder")
        for n in range(1, 5)
    }
    # Dropout precedes pooling and skips.
    check_skips(net, [f"block{n}_dropout" for n in (1, 2, 3, 4)])
    assert net.get_layer("decoder4_skip_concatenate").output.shape == (
        *(None, 6, 8, 128),
    )


@pytest.mark.parametrize(
    ("build", "num_stages"), [(ReLayNet, 3), (QuickNAT, 4)]
)
def test_stages_of_networks_with_skips_are_found(build, num_stages):
    """`visualize.draw_stages` shows these pairs."""
    found = _pairs.pairs(build((45, 61, 1), 4, filters=4), (45, 61))
    assert [pair.number for pair in found] == list(range(1, num_stages + 1))
    assert {pair.unpooling for pair in found} == {"max unpooling"}
    assert found[0].before == found[0].restored == (45, 61, 4)


def check_skips(net, names):
    """Check that the encoder's features come first in the concatenation."""
    for number, name in enumerate(names, start=1):
        features = net.get_layer(name).output
        assert net.get_layer(f"block{number}_pool").input is features
        joined = net.get_layer(f"decoder{number}_skip_concatenate").input
        unpooled = net.get_layer(f"decoder{number}_unpool").output
        assert [id(x) for x in joined] == [id(features), id(unpooled)]


@pytest.mark.slow
def test_every_decoder_of_the_other_networks(monkeypatch):
    networks.make_slim(monkeypatch)
    for decoder in networks.DECODERS:
        for build in (ReLayNet, QuickNAT):
            net = build((15, 22, 1), 4, filters=8, decoder=decoder)
            assert tuple(net(np.zeros((1, 15, 22, 1))).shape) == (1, 15, 22, 4)
        net = ENet((15, 22, 3), 4, decoder=decoder)
        assert tuple(net(np.zeros((1, 15, 22, 3))).shape) == (1, 15, 22, 4)
        net = DeconvNet((195, 193, 3), 4, fc_units=8, decoder=decoder)
        assert net.output_shape == (None, 195, 193, 4)


def test_full_resolution_net_is_segnet_basic_that_never_shrinks():
    net = FullResolutionNet((20, 30, 3), 11)
    assert count(net.trainable_weights) == 1_416_587
    sizes = {layer.output.shape[1:3] for layer in net.layers}
    assert sizes == {(20, 30)}


@pytest.mark.numeric
def test_local_response_norm_is_caffes(rng):
    x = rng.uniform(0, 255, (1, 2, 2, 7)).astype("float32")
    inputs = keras.Input((2, 2, 7))
    net = keras.Model(inputs, LocalResponseNorm()(inputs))
    expected = np.zeros_like(x)
    for channel in range(7):
        window = x[..., max(channel - 2, 0) : channel + 3]
        energy = np.square(window).sum(-1)
        expected[..., channel] = (
            x[..., channel] / (1 + 1e-4 / 5 * energy) ** 0.75
        )
    np.testing.assert_allclose(net(x), expected, rtol=1e-5)


@pytest.mark.numeric
def test_softmax_and_dropout():
    with networks.without_values():
        net = SegNet((None, None, 3), 5, dropout=np.float32(0.5))
    names = {layer.name for layer in net.layers if "dropout" in layer.name}
    assert names == {
        f"{half}{number}_dropout"
        for half in ("block", "decoder")
        for number in (3, 4, 5)
    }
    net = SegNetBasic((8, 8, 3), 5, classifier_activation="softmax")
    y = np.asarray(net(np.zeros((1, 8, 8, 3))))
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(input_shape=(None, None)), "`input_shape` must be"),
        (dict(input_shape=(8, 8, None)), "channels may not"),
        (dict(input_shape=(0, 8, 3)), "`input_shape` must be"),
        (dict(input_shape=64), "`input_shape` must be"),
        (dict(input_shape=("48", 8, 3)), "`input_shape` must be"),
        (dict(num_classes=1), "`num_classes` must be"),
        (dict(num_classes="11"), "`num_classes` must be"),
        (dict(num_classes=2.5), "`num_classes` must be"),
        (dict(dropout="0.5"), "`dropout` must be"),
        (dict(dropout=False), "`dropout` must be"),
        (dict(decoder="unpool"), "'max_unpool', 'bed_of_nails', 'nearest'"),
        (dict(dropout=1.0), "`dropout` must be"),
        (dict(classifier_activation="relu"), "`classifier_activation`"),
    ],
)
@pytest.mark.parametrize(
    "model",
    [
        *(SegNet, SegNetBasic, BayesianSegNet, BayesianSegNetBasic),
        *(DeconvNet, ENet, FullResolutionNet, PatchClassifier),
        *(ReLayNet, QuickNAT),
    ],
)
def test_bad_arguments(model, arguments, words):
    if next(iter(arguments)) not in inspect.signature(model).parameters:
        pytest.skip("not an argument of this network")
    with pytest.raises(ValueError, match=words):
        model(**{"input_shape": (224, 224, 3), "num_classes": 4, **arguments})


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (DeconvNet, dict(input_shape=(192, 224, 3)), "at least 193"),
        (DeconvNet, dict(fc_units=0), "`fc_units` must be an int >= 1"),
        (PatchClassifier, dict(input_shape=(None, 8, 3)), "must be known"),
        (PatchClassifier, dict(filters=()), "`filters` must be a sequence"),
        (PatchClassifier, dict(fc_units="8"), "`fc_units` must be an int"),
        (FullResolutionNet, dict(filters=8), "`filters` must be a sequence"),
        (ReLayNet, dict(filters=0), "`filters` must be an int >= 1"),
        (QuickNAT, dict(filters=(8, 8)), "`filters` must be an int >= 1"),
        (
            QuickNAT,
            dict(squeeze_excitation=True, filters=7),
            "`filters` must be a multiple of 2",
        ),
        (QuickNAT, dict(squeeze_excitation=1), "must be True or False"),
        (ENet, dict(decoder_activation="elu"), "one of 'relu', 'prelu'"),
        (SegNet, dict(extra_classifier="yes"), "must be True or False"),
        (FullResolutionNet, dict(filters=(8, 0)), "`filters` must be a seq"),
        (FullResolutionNet, dict(kernel_size=0), "`kernel_size` must be"),
    ],
)
def test_bad_arguments_of_one_network(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        model(**{"input_shape": (224, 224, 3), "num_classes": 4, **arguments})


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("SegNetBasic", "PatchClassifier")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in networks.NETWORKS
        # The other networks differ from these only in dropout and sizes.
        if name not in ("SegNet", "BayesianSegNet", "BayesianSegNetBasic")
    ],
)
def test_files_of_every_kind_hold_the_network(name, tmp_path, monkeypatch, rng):
    networks.make_slim(monkeypatch)
    build, size, *_ = networks.NETWORKS[name]
    net = build((*size, 3))
    net.save(tmp_path / "net.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # .h5 is an old format.
        net.save(tmp_path / "net.h5")
    net.save_weights(tmp_path / "net.weights.h5")
    loaded = [
        keras.saving.load_model(tmp_path / "net.keras"),
        keras.saving.load_model(tmp_path / "net.h5"),
        build((*size, 3)),
    ]
    loaded[-1].load_weights(tmp_path / "net.weights.h5")
    x = rng.uniform(0, 255, (1, *size, 3)).astype("float32")
    for other in loaded:
        assert [one.name for one in other.layers] == [
            one.name for one in net.layers
        ]
        with warnings.catch_warnings():
            # Keras 3.10 expects a list of inputs after reading .h5 files.
            warnings.filterwarnings("ignore", "The structure of `inputs`")
            outputs = other(x)
        np.testing.assert_array_equal(outputs, net(x))


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="names fail there alone"
)
@pytest.mark.parametrize(
    "decoder",
    [
        pytest.param(one, marks=() if one == "max_unpool" else pytest.mark.slow)
        for one in networks.DECODERS
    ],
)
def test_poolings_and_unpoolings_are_rematerialized(decoder):
    def trained():
        keras.utils.set_random_seed(0)
        net = SegNetBasic(
            (5, 7, 3), 2, filters=(4,), kernel_size=3, decoder=decoder
        )
        net.compile("sgd", "mse", jit_compile=False)
        net.train_on_batch(np.ones((1, 5, 7, 3)), np.ones((1, 5, 7, 2)))
        return net

    expected = trained()
    names = [one.name for one in expected.layers if "pool" in one.name]
    with keras.RematScope(mode="list_of_layers", layer_names=names):
        net = trained()
    for found, right in zip(net.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(found, right)
