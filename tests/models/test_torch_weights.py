"""Files of PyTorch: networks that load them, and invalid files.

This module defines the networks in PyTorch, with the authors' names of layers.
"""

import zipfile

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

from keras_deconv import inference, models  # noqa: E402
from keras_deconv.models import (  # noqa: E402
    _state_dicts,
    _weight_files,
    relaynet,
)

pytestmark = [pytest.mark.live, pytest.mark.backend]

NUM_CLASSES = 5


def block(channels, filters):
    """ReLayNet's block: 7x3 convolution, normalization, PReLU of one weight."""
    module = nn.Module()
    module.conv = nn.Conv2d(channels, filters, (7, 3), padding=(3, 1))
    module.batchnorm = nn.BatchNorm2d(filters)
    module.prelu = nn.PReLU()
    return module


def unpooled_beside(x, pooled, features, index):
    """Concatenate the encoder's features and the unpooled values."""
    x = nn.functional.max_unpool2d(pooled, index, 2, output_size=x.shape[2:])
    return torch.cat((features, x), dim=1)


class ReLayNet(nn.Module):
    def __init__(self, channels, filters):
        super().__init__()
        self.encode1 = block(channels, filters)
        self.encode2 = block(filters, filters)
        self.encode3 = block(filters, filters)
        self.bottleneck = block(filters, filters)
        for number in (1, 2, 3):
            setattr(self, f"decode{number}", block(2 * filters, filters))
        self.classifier = nn.Module()
        self.classifier.conv = nn.Conv2d(filters, NUM_CLASSES, 1)

    def forward(self, x):
        def run(block, x):
            return block.prelu(block.batchnorm(block.conv(x)))

        kept = []
        for one in (self.encode1, self.encode2, self.encode3):
            features = run(one, x)
            x, index = nn.functional.max_pool2d(
                features, 2, return_indices=True
            )
            kept.append((features, index))
        x = run(self.bottleneck, x)
        for one in (self.decode1, self.decode2, self.decode3):
            features, index = kept.pop()
            x = run(one, unpooled_beside(features, x, features, index))
        return self.classifier.conv(x)


def dense_block(channels, filters, with_excitation):
    """QuickNAT's block: each convolution takes all earlier outputs."""
    module = nn.Module()
    module.conv1 = nn.Conv2d(channels, filters, 5, padding=2)
    module.conv2 = nn.Conv2d(channels + filters, filters, 5, padding=2)
    module.conv3 = nn.Conv2d(channels + 2 * filters, filters, 1)
    for i in range(3):
        norm = nn.BatchNorm2d(channels + i * filters)
        setattr(module, f"batchnorm{i + 1}", norm)
    module.prelu = nn.PReLU()
    if with_excitation:
        module.SELayer = nn.Module()
        module.SELayer.cSE = nn.Module()
        module.SELayer.cSE.fc1 = nn.Linear(filters, filters // 2)
        module.SELayer.cSE.fc2 = nn.Linear(filters // 2, filters)
        module.SELayer.sSE = nn.Module()
        module.SELayer.sSE.conv = nn.Conv2d(filters, 1, 1)
    return module


def excite(layer, x):
    channels = torch.relu(layer.cSE.fc1(x.mean((2, 3))))
    channels = torch.sigmoid(layer.cSE.fc2(channels))[:, :, None, None]
    return torch.maximum(x * channels, x * torch.sigmoid(layer.sSE.conv(x)))


class QuickNAT(nn.Module):
    """QuickNAT, with masks of dropout by the names of our layers."""

    def __init__(self, channels, filters, with_excitation=False, masks=None):
        super().__init__()
        self.masks = masks
        for number in range(1, 5):
            given = channels if number == 1 else filters
            for name, width in (("encode", given), ("decode", 2 * filters)):
                one = dense_block(width, filters, with_excitation)
                setattr(self, f"{name}{number}", one)
        self.bottleneck = dense_block(filters, filters, with_excitation)
        self.classifier = nn.Module()
        self.classifier.conv = nn.Conv2d(filters, NUM_CLASSES, 1)

    def dense(self, block, x):
        first = block.conv1(block.prelu(block.batchnorm1(x)))
        both = torch.cat((x, first), dim=1)
        second = block.conv2(block.prelu(block.batchnorm2(both)))
        three = torch.cat((x, first, second), dim=1)
        return block.conv3(block.prelu(block.batchnorm3(three)))

    def whole(self, block, x, name):
        x = self.dense(block, x)
        if hasattr(block, "SELayer"):
            x = excite(block.SELayer, x)
        if self.masks is not None:
            x = x * torch.from_numpy(self.masks[name].transpose(0, 3, 1, 2))
        return x

    def forward(self, x):
        kept = []
        for number in range(1, 5):
            one = getattr(self, f"encode{number}")
            features = self.whole(one, x, f"block{number}_dropout")
            x, index = nn.functional.max_pool2d(
                features, 2, return_indices=True
            )
            kept.append((features, index))
        x = self.dense(self.bottleneck, x)
        # This is the order of the authors.
        for one in (self.decode4, self.decode1, self.decode2, self.decode3):
            name = f"decoder{len(kept)}_dropout"
            features, index = kept.pop()
            x = unpooled_beside(features, x, features, index)
            x = self.whole(one, x, name)
        return self.classifier.conv(x)


class TorchDropout(nn.Module):
    """Dropout of Torch, which scales values in prediction."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return x * (1 - self.rate)


class Both(nn.Sequential):
    """Torch's ConcatTable: every module gets the input."""

    def forward(self, x):
        return [module(x) for module in self]


class Sum(nn.Module):
    def forward(self, tensors):
        return tensors[0] + tensors[1]


class Join(nn.Module):
    def forward(self, tensors):
        return torch.cat(tensors, dim=1)


class Pool(nn.Module):
    """Pooling that stores the input of `Unpool`, and adds channels of 0."""

    def __init__(self, kept, num_new):
        super().__init__()
        self.kept, self.num_new = kept, num_new

    def forward(self, x):
        pooled, index = nn.functional.max_pool2d(x, 2, return_indices=True)
        self.kept.append((index, x.shape[2:]))
        new = pooled[:, :1].expand(-1, self.num_new, -1, -1)
        return torch.cat((pooled, 0 * new), dim=1)


class Unpool(nn.Module):
    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, x):
        index, size = self.kept.pop()
        return nn.functional.max_unpool2d(x, index, 2, output_size=size)


def enet(decoder_activation):
    """ENet as a list of modules, as the authors' Torch code adds them."""
    kept = []

    def norm(filters):
        return nn.BatchNorm2d(filters, 1e-3)

    def bottleneck(given, filters, kind, activation, rate=0.0, change=None):
        n = filters // 4
        size = 2 if change == "down" else 1
        if kind == "asymmetric":
            middle = [
                nn.Conv2d(n, n, (1, 5), padding=(0, 2), bias=False),
                nn.Conv2d(n, n, (5, 1), padding=(2, 0)),
            ]
        elif change == "up":
            middle = [nn.ConvTranspose2d(n, n, 3, 2, 1, 1)]
        else:
            middle = [nn.Conv2d(n, n, 3, padding=kind, dilation=kind)]
        extension = [
            nn.Conv2d(given, n, size, size, bias=False),
            norm(n),
            activation(n),
            *middle,
            norm(n),
            activation(n),
            nn.Conv2d(n, filters, 1, bias=False),
            norm(filters),
        ]
        if rate:
            extension.append(TorchDropout(rate))
        main = [nn.Identity()]
        if change == "down":
            main.append(Pool(kept, filters - given))
        if change == "up":
            main.append(nn.Conv2d(given, filters, 1, bias=False))
            main += [norm(filters), Unpool(kept)]
        both = Both(nn.Sequential(*extension), nn.Sequential(*main))
        return nn.Sequential(both, Sum(), activation(filters))

    def relu(_):
        return nn.ReLU()

    last = {"relu": relu, "prelu": nn.PReLU}[decoder_activation]
    initial = Both(nn.Conv2d(3, 13, 3, 2, 1), nn.MaxPool2d(2))
    modules = [initial, Join(), norm(16), nn.PReLU(16)]
    modules.append(bottleneck(16, 64, 1, nn.PReLU, 0.01, "down"))
    modules += [bottleneck(64, 64, 1, nn.PReLU, 0.01) for _ in range(4)]
    modules.append(bottleneck(64, 128, 1, nn.PReLU, 0.1, "down"))
    for kind in 2 * (1, 2, "asymmetric", 4, 1, 8, "asymmetric", 16):
        modules.append(bottleneck(128, 128, kind, nn.PReLU, 0.1))
    modules.append(bottleneck(128, 64, 1, last, change="up"))
    modules += [bottleneck(64, 64, 1, last) for _ in range(2)]
    modules.append(bottleneck(64, 16, 1, last, change="up"))
    modules.append(bottleneck(16, 16, 1, last))
    modules.append(nn.ConvTranspose2d(16, NUM_CLASSES, 2, 2))
    return nn.Sequential(*modules)


def randomize(network, rng):
    """Assign random values to all weights and statistics."""
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = tuple(tensor.shape)
        if len(shape) > 1:
            scale = np.sqrt(2 / np.prod(shape[1:]))
            values = scale * rng.standard_normal(shape)
        elif "running_var" in name:
            values = rng.uniform(0.5, 1.5, shape)
        elif "running_mean" in name or "bias" in name:
            values = 0.2 * rng.standard_normal(shape)
        else:  # scales, and weights of PReLU
            is_prelu = "prelu" in name or shape == (1,)
            values = rng.uniform(0.5, 1.5, shape) * (0.3 if is_prelu else 1)
        tensor.copy_(torch.from_numpy(values))
    return network.eval()


def expected_of(network, images):
    """Outputs of the network in float64, for channels-last images."""
    x = torch.from_numpy(np.float64(images.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        return network.double()(x).numpy().transpose(0, 2, 3, 1)


def check_close(actual, expected):
    """Check that values differ by at most 1e-5 of the largest one."""
    actual = keras.ops.convert_to_numpy(actual)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.numeric
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_relaynet_gives_what_pytorch_does(suffix, rng, tmp_path):
    network = randomize(ReLayNet(1, 64), rng)
    path = tmp_path / f"relaynet.{suffix}"
    if suffix == "pth":
        torch.save(network.state_dict(), path)
    else:
        numpy = pytest.importorskip("safetensors.numpy")
        state = {k: v.numpy() for k, v in network.state_dict().items()}
        numpy.save_file(state, path)
    model = models.ReLayNet((None, None, 1), NUM_CLASSES, weights=path)
    images = np.float32(rng.uniform(0, 1, (2, 16, 24, 1)))
    check_close(model(images), expected_of(network, images))


def with_masks(model, masks):
    """The model with fixed masks instead of dropout."""

    class Mask(keras.layers.Layer):
        def call(self, inputs):
            mask = masks[self.name].astype("float32")
            return keras.ops.multiply(inputs, keras.ops.convert_to_tensor(mask))

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    def change(layer):
        is_dropout = isinstance(layer, keras.layers.Dropout)
        return Mask(name=layer.name) if is_dropout else layer

    return keras.models.clone_model(model, clone_function=change)


@pytest.mark.numeric
@pytest.mark.parametrize(
    "with_excitation", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_quicknat_gives_what_pytorch_does(with_excitation, rng, tmp_path):
    filters = 16 if with_excitation else 64
    network = randomize(QuickNAT(1, filters, with_excitation), rng)
    path = tmp_path / "checkpoint_epoch_1.pth.tar"
    checkpoint = {"epoch": 2, "state_dict": network.state_dict()}
    torch.save(checkpoint, path)
    model = models.QuickNAT(
        (None, None, 1),
        NUM_CLASSES,
        filters=filters,
        squeeze_excitation=with_excitation,
        weights=path,
    )
    # The authors' network takes images in 0..1.
    images = np.float32(rng.uniform(0, 1, (2, 16, 32, 1)))
    check_close(model(255 * images), expected_of(network, images))
    names = [n.name for n in model.layers if n.name.endswith("dropout")]
    assert len(names) == 8
    network.masks = {
        name: rng.choice([0.0, 1 / 0.8], (2, 1, 1, filters), p=[0.2, 0.8])
        for name in names
    }
    masked = with_masks(model, network.masks)
    check_close(masked(255 * images), expected_of(network, images))
    if with_excitation:
        return
    # Dropout makes it Bayesian QuickNAT.
    prediction = inference.predict_monte_carlo(
        model, 255 * images, samples=3, seed=1, verbose=0
    )
    assert prediction.mean_variance.min() > 0


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("decoder_activation", ["relu", "prelu"])
def test_enet_gives_what_torch_does(decoder_activation, rng, tmp_path):
    network = randomize(enet(decoder_activation), rng)
    path = tmp_path / "enet.pth"
    torch.save(network.state_dict(), path)
    options = dict(input_shape=(None, None, 3), num_classes=NUM_CLASSES)
    model = models.ENet(
        **options, decoder_activation=decoder_activation, weights=path
    )
    images = np.float32(rng.uniform(0, 1, (1, 16, 24, 3)))
    check_close(model(255 * images), expected_of(network, images))
    other = {"relu": "prelu", "prelu": "relu"}[decoder_activation]
    with pytest.raises(ValueError, match=r"26\.0\.0\.2\.weight.*and 12 more"):
        models.ENet(**options, decoder_activation=other, weights=path)


def test_quicknat_needs_the_settings_of_the_file(rng, tmp_path):
    options = dict(input_shape=(16, 16, 1), num_classes=NUM_CLASSES, filters=8)
    path = tmp_path / "quicknat.pth"
    torch.save(QuickNAT(1, 8, with_excitation=True).state_dict(), path)
    with pytest.raises(
        ValueError,
        match=r"squeeze_excitation=True.*Unknown to the model: encode1\.SELay",
    ):
        models.QuickNAT(**options, weights=path)
    torch.save(QuickNAT(1, 8).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"in the file: encode1\.SELayer\.cSE\.fc1"
    ):
        models.QuickNAT(**options, squeeze_excitation=True, weights=path)


@pytest.fixture(scope="module")
def small():
    """A ReLayNet with few filters, and a state dict that fits it."""
    torch.manual_seed(0)
    model = models.ReLayNet((8, 8, 1), NUM_CLASSES, filters=4)
    return model, ReLayNet(1, 4).state_dict()


def check_error(model, path, words):
    """Check the error, and that the model is not changed."""
    before = model.get_weights()
    with pytest.raises(ValueError, match=words) as caught:
        _weight_files.load(
            model,
            path,
            relaynet._names(),
            source="a PyTorch state dict of the authors' ReLayNet",
        )
    assert str(path) in str(caught.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    return str(caught.value)


def sparse(tensor):
    return tensor.to_sparse()


def of_another_size(tensor):
    return tensor[:2].clone()


def of_a_claimed_size(tensor):
    """A tensor of a terabyte that takes four bytes in the file."""
    return torch.zeros(1).expand(2**38)


def of_integers(tensor):
    return tensor.long()


def of_nan(tensor):
    return tensor * float("nan")


def beyond_float32(tensor):
    return torch.full_like(tensor, 1e300, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            of_another_size,
            r"encode2\.batchnorm\.running_var must have the shap",
        ),
        (of_a_claimed_size, r"\(4,\), but is \(274877906944,\)"),
        (of_integers, "must hold floats.*TypeError: dtype torch.int64"),
        (sparse, "must hold floats"),
        (of_nan, "must contain finite"),
        (beyond_float32, "must contain finite"),
        (torch.neg, "variances >= 0"),
    ],
)
def test_arrays_that_do_not_fit(change, words, small, tmp_path):
    model, state = small
    name = "encode2.batchnorm.running_var"
    path = tmp_path / "changed.pth"
    torch.save(state | {name: change(state[name])}, path)
    check_error(model, path, words)


def test_state_dicts_of_other_networks(small, tmp_path):
    model, state = small
    path = tmp_path / "other.pth"
    first = next(iter(state))
    torch.save({k: v for k, v in state.items() if k != first}, path)
    check_error(
        model, path, r"file: encode1\.conv\.weight\. Unknown to the model: none"
    )
    torch.save(QuickNAT(1, 4).state_dict(), path)
    words = (
        r"file: encode1\.conv\.weight, .*to the model: encode1\.conv1\.weight"
    )
    check_error(model, path, words)
    torch.save({f"module.{k}": v for k, v in state.items()}, path)
    check_error(model, path, r"to the model: module\.encode1\.conv\.weight")
    torch.save({}, path)
    check_error(model, path, r"and 48 more\. Unknown to the model: none")


def test_a_whole_model_is_refused_with_a_way_out(small, tmp_path):
    """The authors save a pickle of their classes."""
    model, _ = small
    path = tmp_path / "relaynet.model"
    network = ReLayNet(1, 4)
    torch.save(network, path)
    said = check_error(model, path, "this executes the code in the file")
    recipe = said[said.index("torch.save(torch.load(") :]
    names = {"torch": torch, "path": path}
    target = str(tmp_path / "weights.pth")
    exec(recipe.replace("'weights.pth'", repr(target)), names)
    loaded = models.ReLayNet((8, 8, 1), NUM_CLASSES, filters=4, weights=target)
    np.testing.assert_array_equal(
        loaded.get_layer("logits").bias,
        network.classifier.conv.bias.detach().numpy(),
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped, small, tmp_path):
    model, state = small
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self):
            return (witness.touch, ())

    path = tmp_path / "evil.pth"
    torch.save(
        state | {"encode1.conv.weight": Evil()},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    check_error(model, path, "file must be a PyTorch state dict")
    assert not witness.exists()


def test_damaged_files(small, tmp_path):
    model, state = small
    path = tmp_path / "damaged.pth"
    torch.save(state, path)
    whole = path.read_bytes()
    for content in (b"", b"junk" * 50, whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        check_error(model, path, "file must be a PyTorch state dict")
    for value in ([torch.zeros(2)], {"state_dict": 5}, torch.zeros(2)):
        torch.save(value, path)
        check_error(model, path, "file must be a PyTorch state dict")
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(b"junk")
    check_error(model, path, "failed with SafetensorError")


def test_an_archive_that_would_grow(small, tmp_path):
    """PyTorch does not compress files; this archive is compressed."""
    model, state = small
    torch.save(state | {"zeros": torch.zeros(10**6)}, tmp_path / "stored.pth")
    path = tmp_path / "compressed.pth"
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    check_error(model, path, "file must be a PyTorch state dict")


def test_old_versions_of_pytorch_are_refused(small, tmp_path, monkeypatch):
    """They execute code in archives of the oldest format."""
    path = tmp_path / "relaynet.pth"
    torch.save(small[1], path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ValueError, match=r"must be 2\.6 or newer.*2\.5\.1"):
        _state_dicts.read(path, "weights")


@pytest.mark.parametrize(
    "network", [models.ENet, models.ReLayNet, models.QuickNAT]
)
def test_weights_are_looked_at_before_a_model_is_built(
    network, monkeypatch, tmp_path
):
    monkeypatch.setattr(keras, "Input", lambda *args, **options: 1 / 0)
    (tmp_path / "x.caffemodel").touch()
    for value in (True, 5, "", tmp_path / "missing.pth", tmp_path):
        with pytest.raises(ValueError, match="`weights` must be None or the"):
            network((32, 32, 3), NUM_CLASSES, weights=value)
    with pytest.raises(ValueError, match=r"ends in \.pth, \.pt, \.safetensors"):
        network((32, 32, 3), NUM_CLASSES, weights=tmp_path / "x.caffemodel")
