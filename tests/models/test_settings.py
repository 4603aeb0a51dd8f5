"""Settings that change the published networks."""

import keras
import numpy as np
import pytest

from keras_deconv import models
from tests import networks

pytestmark = pytest.mark.oldest


def filters_of(net, prefix):
    return [
        layer.filters
        for layer in net.layers
        if isinstance(layer, keras.layers.Conv2D)
        and layer.name.startswith(prefix)
    ]


def test_segnet_of_three_stages():
    net = models.SegNet(
        (30, 45, 3),
        4,
        filters=(8, 16, 24),
        convs_per_stage=(1, 2, 3),
        kernel_size=5,
        activation="gelu",
    )
    assert filters_of(net, "block") == [8, 16, 16, 24, 24, 24]
    # A stage ends with the channels of the next index. The classifier replaces
    # the last convolution.
    assert filters_of(net, "decoder") == [24, 24, 16, 16, 8]
    kernels = {
        layer.kernel_size
        for layer in net.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    assert kernels == {(5, 5)}
    assert not any(isinstance(x, keras.layers.ReLU) for x in net.layers)
    assert net.get_layer("decoder3_conv1_activation").activation is (
        keras.activations.gelu
    )
    assert tuple(net(np.zeros((1, 30, 45, 3))).shape) == (1, 30, 45, 4)


def test_segnet_basic_of_two_stages():
    net = models.SegNetBasic(
        (30, 45, 3), 4, filters=(8, 16), convs_per_stage=2, kernel_size=3
    )
    assert filters_of(net, "block") == [8, 8, 16, 16]
    assert filters_of(net, "decoder") == [16, 8, 8, 8]
    assert net.get_layer("logits").kernel_size == (1, 1)
    assert tuple(net(np.zeros((1, 30, 45, 3))).shape) == (1, 30, 45, 4)


def test_defaults_are_the_published_ones():
    with networks.without_values():
        net = models.SegNet((32, 32, 3), 4)
        same = models.SegNet(
            (32, 32, 3),
            4,
            filters=[64, 128, 256, 512, 512],
            convs_per_stage=[2, 2, 3, 3, 3],
            activation=keras.activations.relu,
        )
    shapes = [[tuple(w.shape) for w in one.weights] for one in (net, same)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "width",
    [
        0.25,
        *[pytest.param(width, marks=pytest.mark.slow) for width in (0.5, 2)],
    ],
)
def test_width_of_enet(width):
    net = models.ENet((45, 61, 3), 4, width_multiplier=width)
    assert net.get_layer("bottleneck1_0_add").output.shape[-1] == 64 * width
    assert net.get_layer("bottleneck3_7_add").output.shape[-1] == 128 * width
    assert tuple(net(np.zeros((1, 45, 61, 3))).shape) == (1, 45, 61, 4)


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (models.SegNet, dict(filters=64), "`filters` must be a sequence"),
        (models.SegNet, dict(filters=()), "`filters` must be a sequence"),
        (
            models.SegNet,
            dict(convs_per_stage=(1, 2)),
            "one int per stage.*Received: convs_per_stage=\\(1, 2\\)",
        ),
        (models.SegNet, dict(kernel_size=0), "`kernel_size` must be an int"),
        (models.SegNet, dict(activation="rely"), "'relu' or 'gelu'.*'rely'"),
        (models.SegNetBasic, dict(activation=None), "`activation` must be"),
        (
            models.SegNet,
            dict(filters=(8, 8), convs_per_stage=1, encoder_weights="imagenet"),
            "Use encoder_weights=None",
        ),
        (models.ENet, dict(width_multiplier=0), "a number > 0 and <= 16"),
        (models.ENet, dict(width_multiplier=2**31), "a number > 0 and <= 16"),
        (models.ENet, dict(width_multiplier=10**400), "a number > 0 and"),
        (
            models.ENet,
            dict(width_multiplier=0.0625, input_shape=(32, 32, 9)),
            "`width_multiplier` is too small",
        ),
    ],
)
def test_errors(build, options, words):
    options = dict(input_shape=(32, 32, 3), num_classes=4) | options
    with pytest.raises(ValueError, match=words):
        build(**options)
