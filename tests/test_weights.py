"""Weights of VGG-16 for the encoders, and recomputed statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import models
from keras_deconv.models import DeconvNet, SegNet, SegNetBasic, weights

as_numpy = keras.ops.convert_to_numpy

# torchvision's order in `features`: convolution, normalisation, ReLU; "M" is
# a pooling.
VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M"]
VGG16 += [512, 512, 512, "M", 512, 512, 512, "M"]


def state_dict(rng, batch_norm, top=False):
    """Random weights under torchvision's names, which are public."""
    state, number, channels = {}, 0, 3

    def put(name, *shape, centre=0.0, spread=0.05):
        values = centre + spread * rng.standard_normal(shape)
        state[name] = values.astype("float32")

    for filters in VGG16:
        if filters == "M":
            number += 1
            continue
        put(f"features.{number}.weight", filters, channels, 3, 3)
        put(f"features.{number}.bias", filters)
        if batch_norm:
            number += 1
            for part in ("weight", "running_var"):
                put(f"features.{number}.{part}", filters, centre=1.0)
            for part in ("bias", "running_mean"):
                put(f"features.{number}.{part}", filters)
        number += 2
        channels = filters
    if top:
        put("classifier.0.weight", 4096, 512 * 49, spread=0.001)
        put("classifier.0.bias", 4096)
        put("classifier.3.weight", 4096, 4096, spread=0.001)
        put("classifier.3.bias", 4096)
    return state


@pytest.fixture
def save(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")

    def function(state, name="vgg16_bn.safetensors"):
        numpy.save_file(state, tmp_path / name)
        return tmp_path / name

    return function


def encoder(net, layer):
    return keras.Model(net.input, net.get_layer(layer).output)


def reference(state, rgb, num_convs):
    """The first convolutions of PyTorch's network, by NumPy."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    x = (rgb / 255 - np.float32(mean)) / np.float32(std)
    number = 0
    for _ in range(num_convs):
        kernel = state[f"features.{number}.weight"]
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
        x = np.einsum("bhwcij,ocij->bhwo", windows, kernel)
        x = x + state[f"features.{number}.bias"]
        norm = f"features.{number + 1}"
        if f"{norm}.running_mean" in state:
            x = x - state[f"{norm}.running_mean"]
            x = x / np.sqrt(state[f"{norm}.running_var"] + 1e-5)
            x = x * state[f"{norm}.weight"] + state[f"{norm}.bias"]
            number += 1
        x = np.maximum(x, 0)
        number += 2
    return x


@pytest.mark.parametrize("use_bias", [True, False])
def test_vgg16_bn_predicts_what_pytorch_does(use_bias, rng, save):
    state = state_dict(rng, batch_norm=True)
    net = SegNet((10, 12, 3), 4, encoder_weights=save(state), use_bias=use_bias)
    rgb = rng.uniform(0, 255, (1, 10, 12, 3)).astype("float32")
    ours = as_numpy(encoder(net, "block1_conv2_relu")(rgb))[:, 2:-2, 2:-2]
    # Without the border, where PyTorch pads with the mean colour.
    np.testing.assert_allclose(
        ours, reference(state, rgb, 2), rtol=1e-3, atol=1e-4
    )
    kernel = state["features.40.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(net.get_layer("block5_conv3").kernel, kernel)


def test_vgg16_without_normalisation(rng, save):
    state = state_dict(rng, batch_norm=False)
    net = SegNet((10, 12, 3), 4, encoder_weights=save(state))
    rgb = rng.uniform(0, 255, (1, 10, 12, 3)).astype("float32")
    ours = as_numpy(encoder(net, "block1_conv1")(rgb))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(
        np.maximum(ours, 0), reference(state, rgb, 1), rtol=1e-3, atol=1e-4
    )
    norm = net.get_layer("block1_conv1_norm")
    np.testing.assert_array_equal(norm.gamma, 1)
    np.testing.assert_array_equal(norm.moving_mean, 0)


@pytest.mark.slow
def test_fully_connected_layers_of_pytorch(rng, save):
    state = state_dict(rng, batch_norm=True, top=True)
    path = save(state)
    net = DeconvNet((224, 224, 3), 4, encoder_weights=path)
    pooled = rng.uniform(0, 1, (1, 7, 7, 512)).astype("float32")
    fc6 = as_numpy(net.get_layer("fc6")(pooled)).ravel()
    # PyTorch flattens channels first.
    flat = pooled.transpose(0, 3, 1, 2).ravel()
    expected = state["classifier.0.weight"] @ flat + state["classifier.0.bias"]
    np.testing.assert_allclose(fc6, expected, rtol=1e-3, atol=1e-4)
    # Of another width, they are not VGG-16's.
    DeconvNet((None, None, 3), 4, fc_units=8, encoder_weights=path)


@pytest.mark.slow
def test_fully_connected_layers_of_keras(tmp_path, rng):
    vgg16 = keras.applications.VGG16(include_top=True, weights=None)
    path = tmp_path / "vgg16.weights.h5"
    vgg16.save_weights(path)
    net = DeconvNet((224, 224, 3), 4, encoder_weights=path)
    pooled = rng.uniform(0, 1, (1, 7, 7, 512)).astype("float32")
    expected = vgg16.get_layer("fc1")(pooled.reshape(1, -1))  # with its ReLU
    ours = net.get_layer("fc6")(pooled)
    np.testing.assert_allclose(
        np.maximum(as_numpy(ours).ravel(), 0),
        np.ravel(expected),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("nested", [True, False])
def test_pth_files(rng, tmp_path, nested):
    torch = pytest.importorskip("torch")
    state = state_dict(rng, batch_norm=True)
    tensors = {name: torch.from_numpy(v) for name, v in state.items()}
    path = tmp_path / "vgg16_bn.pth"
    torch.save({"state_dict": tensors} if nested else tensors, path)
    net = SegNet((8, 8, 3), 4, encoder_weights=str(path))
    kernel = state["features.0.weight"].transpose(2, 3, 1, 0)
    std = np.array([0.229, 0.224, 0.225]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(
        net.get_layer("block1_conv1").kernel, kernel / (255 * std), rtol=1e-5
    )


def test_code_in_a_pth_file_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self):
            return (witness.touch, ())

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="must be a PyTorch state dict"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "evil.pth")
    assert not witness.exists()


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
    ours = encoder(net, "block1_conv1")(rgb)
    theirs = keras.ops.conv(
        bgr, *vgg16.get_layer("block1_conv1").weights[:1], padding="same"
    )
    theirs = theirs + vgg16.get_layer("block1_conv1").bias
    # At the border VGG-16 pads with the mean colour, ours with black.
    ours, theirs = (as_numpy(x)[:, 1:-1, 1:-1] for x in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(
        net.get_layer("block5_conv3").kernel,
        vgg16.get_layer("block5_conv3").kernel,
    )


def test_bad_encoder_weights(tmp_path, rng, save):
    with pytest.raises(ValueError, match="3 channels"):
        SegNet((8, 8, 1), 4, encoder_weights="imagenet")
    with pytest.raises(ValueError, match="`encoder_weights` must be"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "missing.weights.h5")
    with pytest.raises(ValueError, match="must be a PyTorch state dict"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "missing.safetensors")
    state = state_dict(rng, batch_norm=True)
    del state["features.0.bias"]
    with pytest.raises(ValueError, match=r"torchvision's vgg16.*features\.0"):
        SegNet((8, 8, 3), 4, encoder_weights=save(state))
    state = {"layer1.weight": np.zeros((3, 3), "float32")}
    with pytest.raises(ValueError, match="in which 0 convolutions"):
        SegNet((8, 8, 3), 4, encoder_weights=save(state))
    state = state_dict(rng, batch_norm=True)
    state["features.0.weight"] = state["features.0.weight"][:32]
    with pytest.raises(ValueError, match="`encoder_weights` must be"):
        SegNet((8, 8, 3), 4, encoder_weights=save(state))


def test_imagenet_without_a_network_says_which_file_to_put_where(
    monkeypatch, tmp_path
):
    def download(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "VGG16", download)
    with pytest.raises(ValueError, match=r"kernels_notop\.h5 in ~/\.keras"):
        SegNet((8, 8, 3), 4, encoder_weights="imagenet")
    with pytest.raises(ValueError, match=r"tf_kernels\.h5 in ~/\.keras"):
        weights._read_keras("imagenet", ["fc6"])


def batches(rng, number=5, batch_size=4):
    """Images whose statistics differ from batch to batch."""
    x = rng.uniform(0, 255, (number * batch_size, 8, 8, 3)).astype("float32")
    x *= np.linspace(0.2, 1, len(x)).reshape(-1, 1, 1, 1)
    return x


def first_norm(x):
    """A model whose first batch normalisation sees the image itself."""
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            norm,
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(name="second"),
        ]
    )
    return model, norm


@pytest.mark.parametrize("batch_size", [4, 6])
def test_statistics_are_averages_over_the_batches(rng, batch_size):
    x = batches(rng)
    model, norm = first_norm(x)
    dataset = tf.data.Dataset.from_tensor_slices((x, x)).batch(batch_size)
    models.recompute_batch_statistics(model, dataset, verbose=0)
    parts = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    sizes = [len(part) for part in parts]
    for ours, function in (
        (norm.moving_mean, np.mean),
        (norm.moving_variance, np.var),
    ):
        expected = np.average(
            [function(part, axis=(0, 1, 2)) for part in parts],
            axis=0,
            weights=sizes,
        )
        np.testing.assert_allclose(ours, expected, rtol=1e-4)
    assert norm.momentum == 0.99


def test_a_model_predicts_what_it_saw_in_training(rng):
    """One batch, no dropout: inference is then what training computes."""
    net = SegNetBasic((8, 8, 3), 3)
    x = batches(rng, 1)
    before = as_numpy(net(x))
    seen = as_numpy(net(x, training=True))
    models.recompute_batch_statistics(net, [x], verbose=0)
    after = as_numpy(net(x))
    np.testing.assert_allclose(after, seen, rtol=1e-3, atol=1e-3)
    assert np.abs(before - seen).max() > 0.1


def test_steps_frozen_layers_and_inner_models(rng):
    x = batches(rng)
    inner, norm = first_norm(x)
    inner.get_layer("second").trainable = False
    model = keras.Sequential([keras.Input((8, 8, 3)), inner])
    forever = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    models.recompute_batch_statistics(model, forever, steps=2, verbose=0)
    expected = np.mean([x[:4].mean((0, 1, 2)), x[4:8].mean((0, 1, 2))], axis=0)
    np.testing.assert_allclose(norm.moving_mean, expected, rtol=1e-4)
    np.testing.assert_array_equal(inner.get_layer("second").moving_mean, 0)


def test_statistics_stay_where_something_is_wrong(rng):
    x = batches(rng)
    model, norm = first_norm(x)

    def breaks():
        yield x[:4]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk"):
        models.recompute_batch_statistics(model, breaks(), verbose=0)
    with pytest.raises(ValueError, match="`dataset` must give"):
        models.recompute_batch_statistics(model, [], verbose=0)
    np.testing.assert_array_equal(norm.moving_mean, 0)
    np.testing.assert_array_equal(norm.moving_variance, 1)
    assert norm.momentum == 0.99
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="`model` must have a Batch"):
        models.recompute_batch_statistics(model, [x], verbose=0)
