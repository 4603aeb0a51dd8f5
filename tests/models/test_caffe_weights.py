"""Files of Caffe: arrays, networks that load them, and invalid files."""

import tracemalloc

import keras
import numpy as np
import pytest

from keras_deconv import models
from keras_deconv.models import _caffemodels, _weight_files, segnet
from tests import caffe_files
from tests.caffe_files import (
    CHANNELS,
    basic_params,
    conv_params,
    message,
    norm_params,
    write,
)
from tests.seeds import SEED

pytestmark = [pytest.mark.oldest, pytest.mark.backend]

NUM_CLASSES = caffe_files.NUM_CLASSES


def large_params(rng, filters, convs, extra_classifier=False):
    """Random arrays, named as in segnet_train.prototxt, with fewer filters."""
    params, channels = {}, CHANNELS
    for n, (num, count) in enumerate(zip(filters, convs, strict=True), 1):
        for i in range(1, count + 1):
            params[f"conv{n}_{i}"] = conv_params(rng, num, channels, 3)
            params[f"conv{n}_{i}_bn"] = norm_params(rng, num)
            channels = num
    for n in range(len(filters), 0, -1):
        for i in range(convs[n - 1], 0, -1):
            name, num = f"conv{n}_{i}_D", channels
            if i == 1:
                num = filters[max(n - 2, 0)]
            if name == "conv1_1_D" and not extra_classifier:
                params[name] = conv_params(rng, NUM_CLASSES, channels, 3)
                break
            params[name] = conv_params(rng, num, channels, 3)
            params[f"{name}_bn"] = norm_params(rng, num)
            channels = num
    if extra_classifier:
        params["camvid"] = conv_params(rng, NUM_CLASSES, channels, 3)
    return params


def reference(torch, params, images, filters, convs):
    """The output of the authors' prototxt for RGB, with folded statistics.

    `convs` is None for SegNet-Basic.
    """
    functional = torch.nn.functional
    tensors = {
        name: [torch.from_numpy(np.float64(a)) for a in arrays]
        for name, arrays in params.items()
    }
    is_basic = convs is None

    def conv(x, name):
        kernel, bias = tensors[name]
        x = functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)
        if f"{name}_bn" in tensors:
            scale, shift = tensors[f"{name}_bn"]
            x = x * scale + shift
        return x

    bgr = images[..., ::-1].transpose(0, 3, 1, 2).copy()
    x = torch.from_numpy(np.float64(bgr))
    if is_basic:
        x = functional.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)
    poolings = []
    for n in range(1, len(filters) + 1):
        names = [f"conv{n}"]
        if not is_basic:
            names = [f"conv{n}_{i}" for i in range(1, convs[n - 1] + 1)]
        for name in names:
            x = functional.relu(conv(x, name))
        size = x.shape[2:]
        x, index = functional.max_pool2d(
            x, 2, 2, ceil_mode=True, return_indices=True
        )
        poolings.append((size, index))
    for n in range(len(filters), 0, -1):
        size, index = poolings[n - 1]
        x = functional.max_unpool2d(x, index, 2, 2, output_size=size)
        if is_basic:
            x = conv(x, f"conv_decode{n}")
            continue
        for i in range(convs[n - 1], 0, -1):
            x = conv(x, f"conv{n}_{i}_D")
            if f"conv{n}_{i}_D_bn" in tensors:
                x = functional.relu(x)
    for name in ("conv_classifier", "camvid"):
        if name in tensors:
            x = conv(x, name)
    return x.numpy().transpose(0, 2, 3, 1)


def check_close(actual, expected):
    """Check that values differ by at most 1e-5 of the largest one."""
    actual = keras.ops.convert_to_numpy(actual)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


def without_norms(params):
    """Fold normalization into the convolutions before it."""
    folded = {}
    for name, (kernel, bias) in params.items():
        if name.endswith("_bn"):
            continue
        if f"{name}_bn" in params:
            scale, shift = map(np.ravel, params[f"{name}_bn"])
            kernel = kernel * scale[:, None, None, None]
            bias = bias * scale + shift
        folded[name] = [kernel, bias]
    return folded


def with_norms_of_0(params):
    """Arrays as the authors' BN-absorber.py writes them."""
    norms = {k: [0 * a for a in v] for k, v in params.items() if "_bn" in k}
    return without_norms(params) | norms


def of_the_zoo(params):
    return {
        name.replace("conv_classifier", "dense_softmax_inner_prod"): arrays
        for name, arrays in params.items()
    }


@pytest.mark.live
@pytest.mark.numeric
def test_segnet_basic_gives_what_caffe_does(rng, tmp_path):
    torch = pytest.importorskip("torch")
    params = basic_params(rng)
    images = np.float32(rng.uniform(0, 255, (1, 13, 19, 3)))
    path = write(tmp_path / "basic.caffemodel", params)
    shape = (None, None, CHANNELS)
    model = models.SegNetBasic(shape, NUM_CLASSES, weights=path)
    expected = reference(torch, params, images, (64,) * 4, None)
    check_close(model(images), expected)


@pytest.mark.live
@pytest.mark.numeric
def test_forms_that_the_same_weights_come_in(small, rng, tmp_path):
    torch = pytest.importorskip("torch")
    model, params = small
    images = np.float32(rng.uniform(0, 255, (1, 8, 8, 3)))
    expected = reference(torch, params, images, (4, 4), None)
    path = tmp_path / "basic.caffemodel"
    for change, options in (
        (dict, dict(old=True)),
        (dict, dict(diff=True)),
        (of_the_zoo, {}),
        (without_norms, {}),
        (with_norms_of_0, {}),
    ):
        model.set_weights([0 * w for w in model.get_weights()])
        load(model, write(path, change(params), **options))
        check_close(model(images), expected)


FILTERS, CONVS = (4, 8, 8), (2, 2, 3)


@pytest.mark.live
@pytest.mark.numeric
@pytest.mark.parametrize("extra_classifier", [False, True])
def test_segnet_gives_what_caffe_does(extra_classifier, rng, tmp_path):
    """With fewer stages and filters, names are as in the large network."""
    torch = pytest.importorskip("torch")
    params = large_params(rng, FILTERS, CONVS, extra_classifier)
    path = write(tmp_path / "segnet.CaffeModel", params)
    images = np.float32(rng.uniform(0, 255, (1, 13, 19, 3)))
    model = models.SegNet(
        (None, None, CHANNELS),
        NUM_CLASSES,
        filters=FILTERS,
        convs_per_stage=CONVS,
        extra_classifier=extra_classifier,
        weights=str(path),
    )
    expected = reference(torch, params, images, FILTERS, CONVS)
    check_close(model(images), expected)


def test_names_are_those_of_the_authors():
    names = segnet._names([(64,) * n for n in segnet.CONVS_PER_STAGE])
    assert names["block5_conv3"] == "conv5_3"
    assert names["decoder5_conv1"] == "conv5_3_D"
    assert names["decoder4_conv3"] == "conv4_1_D"
    assert names["decoder1_conv1"] == "conv1_2_D"
    assert len(names) == 26


@pytest.fixture(scope="module")
def small():
    """A SegNet-Basic with two stages, and arrays that fit it."""
    params = basic_params(np.random.default_rng(SEED), (4, 4), 3)
    model = models.SegNetBasic(
        (8, 8, CHANNELS), NUM_CLASSES, filters=(4, 4), kernel_size=3
    )
    return model, params


def load(model, path):
    names = segnet._basic_names(2)
    segnet._load_caffe(model, path, names, "SegNet-Basic")


@pytest.mark.numeric
def test_a_snapshot_predicts_after_its_statistics_are_measured(
    small, rng, tmp_path
):
    model, params = small
    load(model, write(tmp_path / "snapshot.caffemodel", params))
    batch = np.float32(rng.uniform(0, 255, (4, 8, 8, CHANNELS)))
    models.recompute_batch_statistics(model, [batch], verbose=0)
    norm = model.get_layer("block1_conv1_norm")
    ends = [norm.input, norm.output]
    before, after = map(
        keras.ops.convert_to_numpy, keras.Model(model.input, ends)(batch)
    )
    scale, shift = map(np.ravel, params["conv1_bn"])
    axes = (0, 1, 2)
    deviation = np.sqrt(before.var(axes) + norm.epsilon)
    expected = scale * (before - before.mean(axes)) / deviation + shift
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-3)


def check_error(model, path, words):
    """Check the error, and that the model is not changed."""
    before = model.get_weights()
    with pytest.raises(ValueError, match=words) as caught:
        load(model, path)
    assert str(path) in str(caught.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def without(params, name):
    return {key: value for key, value in params.items() if key != name}


def other_shape(params):
    kernel, bias = params["conv2"]
    return params | {"conv2": [kernel[:3], bias]}


def other_classes(params):
    kernel, bias = params["conv_classifier"]
    return params | {"conv_classifier": [kernel[:3], bias[:3]]}


def flat(params):
    kernel, bias = params["conv2"]
    return params | {"conv2": [kernel.reshape(-1, 1), bias]}


def holding(value):
    def change(params):
        kernel, bias = params["conv_decode1"]
        bias = np.where(np.arange(4) == 3, np.float32(value), bias)
        return params | {"conv_decode1": [kernel, bias]}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: without(p, "conv2"), r"file: conv2\.weight, conv2\.bias\."),
        (lambda p: without(p, "conv1_bn"), r"file: conv1_bn\.weight, conv1"),
        (
            lambda p: p | {"fc6": p["conv1"]},
            r"file: none\. Unknown to the model: fc6\.weight",
        ),
        (
            lambda p: p | {"conv1_bn": p["conv1_bn"] * 2},
            r"to the model: conv1_bn\.blob2, conv1_bn\.blob3",
        ),
        (
            lambda p: p | {"conv1": p["conv1"][:1]},
            r"file: conv1\.bias\. Unknown to the model: none",
        ),
        (other_shape, r"conv2\.weight must have the shape \(4, 4, 3, 3\), but"),
        (flat, r"\(4, 4, 3, 3\), but is \(144, 1\)"),
        (other_classes, r"of classes.*\(5, 4, 1, 1\), but is \(3, 4, 1, 1"),
        (holding(np.nan), r"must contain finite.*conv_decode1\.bias does not"),
        (holding(np.inf), r"must contain finite.*conv_decode1\.bias does not"),
    ],
)
def test_files_of_other_networks(change, words, small, tmp_path):
    model, params = small
    check_error(
        model, write(tmp_path / "other.caffemodel", change(params)), words
    )


def test_a_file_of_the_large_segnet(small, rng, tmp_path):
    params = large_params(rng, FILTERS, CONVS)
    path = write(tmp_path / "segnet.caffemodel", params)
    words = (
        r"must be a \.caffemodel of the authors' SegNet-Basic.*in the "
        r"file: conv1\.weight, conv1\.bias, conv2\.weight and 7 more\. Unknown "
        r"to the model: "
        r"conv1_1\.weight, conv1_1\.bias, .* and \d+ more\."
    )
    check_error(small[0], path, words)


def test_every_cut_of_a_file_is_an_error(small, tmp_path):
    """A file that ends between two layers is still a valid message."""
    model, _ = small
    path = tmp_path / "cut.caffemodel"
    params = {"conv1": [np.ones((2, 2), "float32"), np.ones(2, "float32")]}
    params["conv2"] = params["conv1"]
    whole = message(params).SerializeToString()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="`weights` must be"):
            load(model, path)
    # One byte of the file has another value.
    rng = np.random.default_rng(SEED)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] = rng.integers(256)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="`weights` must be"):
            load(model, path)


def test_cut_file_of_the_right_network(small, tmp_path):
    model, params = small
    whole = message(params).SerializeToString()
    path = tmp_path / "cut.caffemodel"
    path.write_bytes(whole[: len(whole) // 2])
    check_error(model, path, "data is missing at the end")
    # The file ends after a layer.
    path = write(path, dict(list(params.items())[:5]))
    check_error(model, path, r"file: conv2_bn|file: conv_decode2_bn")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_those_that_were_written(old, packed, rng, tmp_path):
    params = {
        "conv": [np.float32(rng.normal(size=(2, 3, 1, 4)))],
        "bn": [np.float32(rng.normal(size=(1, 5, 1, 1))) for _ in range(4)],
        "ip": [np.float32(rng.normal(size=(3, 2))), np.zeros(0, "float32")],
    }
    path = write(tmp_path / "x.caffemodel", params, old=old, packed=packed)
    read = _caffemodels.read(path, "weights")
    parts = ("weight", "bias", "blob2", "blob3")
    expected = {
        f"{name}.{part}": array
        for name, arrays in params.items()
        for part, array in zip(parts, arrays, strict=False)
    }
    assert read.keys() == expected.keys()
    for key, array in expected.items():
        shape = (1, 1, 1, *array.shape)[-4:] if old else array.shape
        assert read[key].dtype == "float32"
        np.testing.assert_array_equal(read[key], array.reshape(shape))


def varint(value):
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def field(number, content, kind=2):
    """A field that contains a message, or bytes."""
    return varint(8 * number + kind) + varint(len(content)) + content


def layer(*fields):
    return field(100, field(1, b"conv1") + b"".join(fields))


def nested(depth):
    content = b""
    for _ in range(depth):
        content = field(100, content)
    return content


MANY = 200_000
HOSTILE = {
    "empty": (b"", "there are 0 bytes"),
    "text": (b"name: 'segnet'\nlayer {}", "missing|does not write"),
    "no layers": (field(1, b"net"), "there is no layer with weights"),
    "huge length": (varint(802) + varint(2**62), "missing at the end"),
    "endless number": (b"\xff" * 50, "more than ten bytes"),
    "cut number": (b"\xff" * 5, "missing at the end"),
    "group": (varint(8 * 100 + 3), "fields that Caffe does not write"),
    "number for a layer": (varint(800) + b"\x01", "no layer with weights"),
    "deep": (nested(300), "no layer with weights"),
    "many layers": (field(100, b"") * MANY, "more than 100000 fields"),
    "many old layers": (field(2, b"") * MANY, "more than 100000 fields"),
    "many blobs": (layer(field(7, b"") * MANY), "more than 100000 fields"),
    "many shapes": (
        layer(field(7, field(7, b"") * MANY)),
        "more than 100000 fields",
    ),
    "many axes": (
        layer(field(7, field(7, field(1, b"\x01" * MANY)))),
        "more than 32 axes",
    ),
    "axes one by one": (
        layer(field(7, field(7, b"\x08\x01" * 40))),
        "more than 32 axes",
    ),
    "huge shape": (
        layer(field(7, field(7, field(1, varint(2**40))))),
        "0 bytes for float32 of shape",
    ),
    "huge empty shape": (
        layer(field(7, field(7, field(1, b"\x00" + varint(2**63))))),
        "0 bytes for float32 of shape",
    ),
    "sizes beyond any array": (
        layer(field(7, field(7, field(1, b"\x00" + varint(2**31 - 1) * 3)))),
        "0 bytes for float32 of shape",
    ),
    "floats in two pieces": (
        layer(field(7, field(5, b"1234") * 2 + field(7, field(1, b"\x02")))),
        "floats in two pieces",
    ),
    "negative size": (
        layer(field(7, b"\x08" + b"\xff" * 9 + b"\x01")),
        "0 bytes for float32 of shape",
    ),
    "half a float": (
        layer(field(7, field(5, b"xx") + field(7, field(1, b"\x01")))),
        "2 bytes for float32",
    ),
    "blob without a shape": (layer(field(7, field(5, b"1234"))), "4 bytes for"),
    "long name": (field(100, field(1, b"x" * 5000)), "name of more than"),
    "name of no text": (field(100, field(1, b"\xff")), "is not UTF-8"),
    "two of a name": (
        2 * message({"conv1": [np.ones(1, "f")]}).SerializeToString(),
        "two layers are called 'conv1'",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, small, tmp_path):
    content, words = HOSTILE[name]
    path = tmp_path / "hostile.caffemodel"
    path.write_bytes(content)
    check_error(small[0], path, rf"must be a complete \.caffemodel.*({words})")


@pytest.mark.parametrize("name", ["many blobs", "many axes"])
def test_hostile_files_take_little_memory(name, tmp_path, monkeypatch):
    """The protobuf library takes 20 times the size of such a file."""
    monkeypatch.setattr(_caffemodels, "_MAX_FIELDS", 10_000)
    path = tmp_path / "hostile.caffemodel"
    path.write_bytes(HOSTILE[name][0])
    tracemalloc.start()
    with pytest.raises(ValueError, match="must be a complete"):
        _caffemodels.read(path, "weights")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The reader may create a view for each field.
    assert peak < 250 * _caffemodels._MAX_FIELDS, peak


def test_a_large_file_is_not_read(small, tmp_path):
    path = tmp_path / "large.caffemodel"
    with open(path, "wb") as file:
        file.truncate(2**31)
    check_error(small[0], path, "there are 2147483648 bytes")


@pytest.mark.parametrize(
    "network", [models.SegNet, models.SegNetBasic, models.BayesianSegNet]
)
def test_weights_are_looked_at_before_a_model_is_built(
    network, monkeypatch, tmp_path
):
    monkeypatch.setattr(keras, "Input", lambda *args, **options: 1 / 0)
    (tmp_path / "folder.caffemodel").mkdir()
    (tmp_path / "segnet.pth").touch()
    for value in (
        *(True, 5, b"x.caffemodel", "", "imagenet", "~nobody/x.caffemodel"),
        *(tmp_path / "missing.caffemodel", tmp_path / "folder.caffemodel"),
        tmp_path / "segnet.pth",
    ):
        with pytest.raises(ValueError, match="`weights` must be None or the"):
            network((32, 32, 3), NUM_CLASSES, weights=value)


def test_encoder_weights_besides_weights(tmp_path):
    path = write(tmp_path / "x.caffemodel", {})
    with pytest.raises(ValueError, match="`encoder_weights` must be None if"):
        models.SegNet((8, 8, 3), 5, encoder_weights="imagenet", weights=path)


def test_models_with_layers_that_no_file_has(small, tmp_path):
    _, params = small
    path = write(tmp_path / "basic.caffemodel", params)
    for options in (
        dict(decoder="conv_transpose"),
        dict(convs_per_stage=2, filters=(4,)),
    ):
        options = dict(filters=(4, 4), kernel_size=3, weights=path) | options
        with pytest.raises(ValueError, match="must be None for a model with l"):
            models.SegNetBasic((8, 8, 3), NUM_CLASSES, **options)


def test_gray_images_are_not_turned(rng, tmp_path):
    params = basic_params(rng, (4,), 3)
    kernel, bias = params["conv1"]
    params["conv1"] = [kernel[:, :1], bias]
    path = write(tmp_path / "gray.caffemodel", params)
    model = models.SegNetBasic(
        (8, 8, 1), NUM_CLASSES, filters=(4,), kernel_size=3, weights=path
    )
    found = keras.ops.convert_to_numpy(model.get_layer("block1_conv1").kernel)
    expected = kernel[:, :1].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found, expected)


def test_layers_of_other_kinds_are_a_fault_of_the_table():
    layer = keras.layers.LayerNormalization()
    with pytest.raises(TypeError, match="LayerNormalization"):
        _weight_files._parts(layer)


def test_messages_of_both_kinds_differ():
    """The test helper writes the format that it is asked for."""
    params = {"conv1": [np.ones((2, 1, 1, 1), "float32")]}
    new, old = (message(params, old=old) for old in (False, True))
    assert [one.name for one in new.layer] == ["data", "data", "conv1", "loss"]
    assert not new.layers
    assert old.layers[2].blobs[0].num == 2
