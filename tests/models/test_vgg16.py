"""Weights of VGG-16 for encoders."""

import sys
from unittest import mock

import keras
import numpy as np
import pytest

from keras_deconv import _network
from keras_deconv.models import DeconvNet, SegNet, _blocks, _vgg16
from tests import networks

pytestmark = [
    pytest.mark.backend,
    pytest.mark.oldest,
    pytest.mark.live,
]

as_numpy = keras.ops.convert_to_numpy

# The layers of torchvision's `features` with few filters; "M" is a pooling.
VGG16 = [n for stage in networks.SLIM_ENCODER for n in (*stage, "M")]
# The published filters, which the fully connected layers require.
PUBLISHED = [n for stage in _blocks.VGG16_FILTERS for n in (*stage, "M")]


def state_dict(rng, batch_norm, top=False):
    """Random weights with torchvision's names.

    Its layers are convolution, normalization and ReLU.
    """
    state, number, channels = {}, 0, 3

    def put(name, *shape, center=0.0, spread=0.05):
        values = center + spread * rng.standard_normal(shape)
        state[name] = values.astype("float32")

    for filters in PUBLISHED if top else VGG16:
        if filters == "M":
            number += 1
            continue
        put(f"features.{number}.weight", filters, channels, 3, 3)
        put(f"features.{number}.bias", filters)
        if batch_norm:
            number += 1
            for part in ("weight", "running_var"):
                put(f"features.{number}.{part}", filters, center=1.0)
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
def slim(monkeypatch):
    """Build networks with the filters of the state dicts."""
    networks.make_slim(monkeypatch)


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
    """The first convolutions of PyTorch's network, in NumPy."""
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


@pytest.mark.numeric
@pytest.mark.parametrize("use_bias", [True, False])
def test_vgg16_bn_predicts_what_pytorch_does(use_bias, rng, save, slim):
    state = state_dict(rng, batch_norm=True)
    net = SegNet((10, 12, 3), 4, encoder_weights=save(state), use_bias=use_bias)
    rgb = rng.uniform(0, 255, (1, 10, 12, 3)).astype("float32")
    ours = as_numpy(encoder(net, "block1_conv2_relu")(rgb))[:, 2:-2, 2:-2]
    # The border differs, because PyTorch pads with the mean color.
    np.testing.assert_allclose(
        ours, reference(state, rgb, 2), rtol=1e-3, atol=1e-4
    )
    kernel = state["features.40.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(net.get_layer("block5_conv3").kernel, kernel)


@pytest.mark.numeric
def test_vgg16_without_normalization(rng, save, slim):
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


@pytest.mark.numeric
def test_vgg16_of_gray_images(rng, save, slim):
    """Outputs equal those of an image with three equal channels."""
    path = save(state_dict(rng, batch_norm=True))
    gray = rng.uniform(0, 255, (1, 10, 12, 1)).astype("float32")
    outputs = []
    for channels in (1, 3):
        net = SegNet((10, 12, channels), 4, encoder_weights=path)
        x = np.repeat(gray, channels, axis=-1)
        outputs.append(as_numpy(encoder(net, "block1_conv1_relu")(x)))
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)


def test_vgg16_of_many_channels(rng, save, slim):
    state = state_dict(rng, batch_norm=True)
    net = SegNet((8, 8, 5), 4, encoder_weights=save(state))
    kernel = as_numpy(net.get_layer("block1_conv1").kernel)
    rgb = SegNet((8, 8, 3), 4, encoder_weights=save(state))
    of_rgb = as_numpy(rgb.get_layer("block1_conv1").kernel)
    expected = of_rgb[:, :, [0, 1, 2, 0, 1]] * np.float32(3 / 5)
    np.testing.assert_array_equal(kernel, expected)
    for name in _vgg16.CONVOLUTIONS[1:]:
        np.testing.assert_array_equal(
            net.get_layer(name).kernel, rgb.get_layer(name).kernel
        )


def test_the_first_convolution_of_rgb_stays_as_it_was(rng):
    kernel = rng.standard_normal((3, 3, 3, 4)).astype("float32")
    bias = rng.standard_normal(4).astype("float32")
    mean = _vgg16.VGG16_MEAN
    found, new_bias = _vgg16._for_channels(kernel, bias, mean, 3)
    assert found is kernel
    expected = bias - np.einsum("hwio,i->o", kernel, mean)
    np.testing.assert_array_equal(new_bias, expected)


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
def test_fully_connected_layers_of_pytorch(rng, save):
    state = state_dict(rng, batch_norm=True, top=True)
    path = save(state)
    net = DeconvNet((224, 224, 3), 4, encoder_weights=path)
    pooled = rng.uniform(0, 1, (1, 7, 7, 512)).astype("float32")
    fc6 = as_numpy(net.get_layer("fc6")(pooled)).ravel()
    # PyTorch flattens channels-first tensors.
    flat = pooled.transpose(0, 3, 1, 2).ravel()
    expected = state["classifier.0.weight"] @ flat + state["classifier.0.bias"]
    np.testing.assert_allclose(fc6, expected, rtol=1e-3, atol=1e-4)
    # Fully connected layers of another width are not loaded.
    DeconvNet((None, None, 3), 4, fc_units=8, encoder_weights=path)


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
def test_fully_connected_layers_of_keras(tmp_path, rng):
    vgg16 = keras.applications.VGG16(include_top=True, weights=None)
    path = tmp_path / "vgg16.weights.h5"
    vgg16.save_weights(path)
    net = DeconvNet((224, 224, 3), 4, encoder_weights=path)
    pooled = rng.uniform(0, 1, (1, 7, 7, 512)).astype("float32")
    expected = vgg16.get_layer("fc1")(pooled.reshape(1, -1))  # includes ReLU
    ours = net.get_layer("fc6")(pooled)
    np.testing.assert_allclose(
        np.maximum(as_numpy(ours).ravel(), 0),
        np.ravel(expected),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.numeric
@pytest.mark.parametrize("nested", [True, False])
def test_pth_files(rng, tmp_path, nested, slim):
    torch = pytest.importorskip("torch")
    state = state_dict(rng, batch_norm=True)
    # `named_parameters` returns parameters instead of tensors.
    tensors = {
        name: torch.nn.Parameter(torch.from_numpy(v))
        for name, v in state.items()
    }
    path = tmp_path / "vgg16_bn.pth"
    torch.save({"state_dict": tensors} if nested else tensors, path)
    net = SegNet((8, 8, 3), 4, encoder_weights=str(path))
    kernel = state["features.0.weight"].transpose(2, 3, 1, 0)
    std = np.array([0.229, 0.224, 0.225]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(
        net.get_layer("block1_conv1").kernel, kernel / (255 * std), rtol=1e-5
    )


def test_code_in_a_pth_file_is_not_run(tmp_path, slim):
    torch = pytest.importorskip("torch")
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self):
            return (witness.touch, ())

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="file must be a PyTorch state dict"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "evil.pth")
    assert not witness.exists()


@pytest.mark.slow
@pytest.mark.numeric
def test_vgg16_weights_take_rgb(tmp_path, rng):
    """The first convolution equals VGG-16's for BGR minus the mean."""
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
    # VGG-16 pads the border with the mean color, and ours with black.
    ours, theirs = (as_numpy(x)[:, 1:-1, 1:-1] for x in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(
        net.get_layer("block5_conv3").kernel,
        vgg16.get_layer("block5_conv3").kernel,
    )


def test_suffix_in_capitals_and_the_home_folder(
    rng, save, monkeypatch, tmp_path, slim
):
    state = state_dict(rng, batch_norm=False)
    save(state, "vgg16.SafeTensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    net = SegNet((8, 8, 3), 4, encoder_weights="~/vgg16.SafeTensors")
    kernel = state["features.28.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(net.get_layer("block5_conv3").kernel, kernel)


@pytest.mark.parametrize("network", [SegNet, DeconvNet])
def test_encoder_weights_are_looked_at_before_a_model_is_built(
    network, monkeypatch, tmp_path
):
    monkeypatch.setattr(keras, "Input", lambda *args, **options: 1 / 0)
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "vgg16.npz").touch()
    for value in (
        *(True, 5, {}, b"x.pth", "", "vgg16", "~nobody/x.pth"),
        *(tmp_path / "missing.pth", tmp_path / "missing.h5"),
        *(tmp_path / "folder.pth", tmp_path / "vgg16.npz"),
    ):
        with pytest.raises(ValueError, match=r"`encoder_weights` must be None"):
            network((224, 224, 3), 4, encoder_weights=value)


def test_bad_encoder_weights(tmp_path, slim):
    (tmp_path / "junk.weights.h5").write_bytes(b"junk")
    with pytest.raises(ValueError, match="`encoder_weights` must be None"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "junk.weights.h5")


@pytest.mark.slow
def test_keras_weights_must_be_finite(tmp_path):
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    bias = vgg16.get_layer("block5_conv3").bias
    bias.assign(np.full(512, np.nan))
    vgg16.save_weights(tmp_path / "vgg16.weights.h5")
    with pytest.raises(ValueError, match="block5_conv3's bias does not"):
        SegNet((8, 8, 3), 4, encoder_weights=tmp_path / "vgg16.weights.h5")


def changed(state, name, change):
    """Change one array of a state dict; None removes it."""
    array = change(state[name].copy())
    rest = {n: v for n, v in state.items() if n != name}
    return rest if array is None else {name: array} | rest


def fill(value):
    def function(array):
        array.flat[-1] = value
        return array

    return function


def test_every_array_is_checked_before_one_is_loaded(rng, save, slim):
    state = state_dict(rng, batch_norm=True)
    net = SegNet((8, 8, 3), 4)
    before = net.get_weights()
    for name, change, message in (
        ("features.0.bias", lambda a: None, r"shape \(16,\), but is missing"),
        ("features.41.weight", lambda a: None, "but is missing"),
        ("features.1.running_mean", lambda a: None, "but is missing"),
        ("features.0.weight", lambda a: a[:8], r"\(16, 3, 3, 3\), but is"),
        ("features.0.weight", lambda a: a[:, :1].copy(), r"\(16, 1, 3, 3\)"),
        ("features.40.bias", lambda a: a[:1], r"\(32,\), but is \(1,\)"),
        ("features.41.weight", lambda a: a[:1], r"\(32,\), but is \(1,\)"),
        ("features.40.weight", fill(np.nan), "finite values.*40.weight does"),
        ("features.41.running_mean", fill(np.inf), "must contain finite"),
        ("features.41.running_var", fill(-1e-3), "variances >= 0"),
    ):
        path = save(changed(state, name, change))
        with pytest.raises(ValueError, match=message):
            _vgg16.load_vgg16(net, path)
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_state_dicts_of_others_are_counted(rng, save, slim):
    state = state_dict(rng, batch_norm=False)
    prefixed = {f"module.{name}": v for name, v in state.items()}
    message = r"with 13 conv.* with 0; .* begin with \['module\.features\.0"
    with pytest.raises(ValueError, match=message):
        SegNet((8, 8, 3), 4, encoder_weights=save(prefixed))
    vgg19 = state | {"features.99.weight": state["features.0.weight"]}
    with pytest.raises(ValueError, match="with 14; its names"):
        SegNet((8, 8, 3), 4, encoder_weights=save(vgg19))


@pytest.mark.slow
@pytest.mark.release
def test_fully_connected_layers_are_checked(rng, save):
    state = state_dict(rng, batch_norm=False, top=True)
    del state["classifier.0.weight"]
    options = dict(input_shape=(224, 224, 3), num_classes=4)
    with pytest.raises(ValueError, match=r"classifier\.0\.weight .* missing"):
        DeconvNet(**options, encoder_weights=save(state))
    state["classifier.0.weight"] = np.zeros((512 * 49, 4096), "float32")
    with pytest.raises(ValueError, match=r"\(4096, 25088\), but is \(25088"):
        DeconvNet(**options, encoder_weights=save(state))


def test_files_that_are_no_state_dict(tmp_path, save, slim):
    torch = pytest.importorskip("torch")
    path = tmp_path / "vgg16.pth"

    def message(match):
        with pytest.raises(ValueError, match=match) as caught:
            SegNet((8, 8, 3), 4, encoder_weights=path)
        assert caught.value.__suppress_context__ or not caught.value.__context__
        assert "weights_only" not in str(caught.value)

    for junk in (b"", b"junk" * 50, b"PK\x03\x04junk"):
        path.write_bytes(junk)
        message("file must be a PyTorch state dict.*failed with")
    # A whole model, and values that are not a state dict.
    for value in (torch.nn.Linear(2, 2), [torch.zeros(2)], {"state_dict": 5}):
        torch.save(value, path)
        message("file must be a PyTorch state dict.*failed with")
    for value in ({}, {0: torch.zeros(1), "epoch": 3}):
        torch.save(value, path)
        message(r"with 0; its names begin with \[\]")
    path = tmp_path / "vgg16.safetensors"
    path.write_bytes(b"junk")
    message("failed with SafetensorError")


def test_a_missing_package_is_named(monkeypatch, rng, save, slim):
    path = save(state_dict(rng, batch_norm=False))
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ValueError, match=r"pip install 'keras-deconv\[torch"):
        SegNet((8, 8, 3), 4, encoder_weights=path)


def test_imagenet_without_a_network_says_which_file_to_put_where(
    monkeypatch, tmp_path, slim
):
    def download(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(_network, "unreachable_hosts", lambda urls: [])
    monkeypatch.setattr(keras.applications, "VGG16", download)
    with pytest.raises(ValueError, match=r"kernels_notop\.h5 in ~/\.keras"):
        SegNet((8, 8, 3), 4, encoder_weights="imagenet")
    with pytest.raises(ValueError, match=r"tf_kernels\.h5 in ~/\.keras"):
        _vgg16._read_keras("imagenet", ["fc6"], 3)


def test_imagenet_without_a_network_does_not_try(monkeypatch, tmp_path, slim):
    """The host is checked before the download."""
    asked = []

    def unreachable(urls):
        asked.extend(urls)
        return ["storage.googleapis.com"]

    download = mock.Mock(side_effect=OSError("it would try for minutes"))
    monkeypatch.setattr(_network, "unreachable_hosts", unreachable)
    monkeypatch.setattr(keras.applications, "VGG16", download)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"`encoder_weights` must be .* in ~/\.keras/models\).*there is "
        r"no connection to storage\.googleapis\.com$",
    ):
        SegNet((8, 8, 3), 4, encoder_weights="imagenet")
    download.assert_not_called()
    (url,) = asked
    assert url == (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    )
    # An existing file does not require a network.
    file = tmp_path / "models" / url.rpartition("/")[2]
    file.parent.mkdir()
    file.touch()
    with pytest.raises(ValueError, match="it would try for minutes"):
        SegNet((8, 8, 3), 4, encoder_weights="imagenet")
    download.assert_called_once()
