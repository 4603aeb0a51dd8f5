"""Exported models give the model's numbers, where there is no keras_deconv."""

import collections
import concurrent.futures
import contextlib
import functools
import importlib
import json
import os
import pathlib
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import _resizing, data, export, losses, models
from keras_deconv._kernels import fused
from keras_deconv.export._quiet import quiet
from keras_deconv.export.tflite import QUANTIZATIONS
from tests import bounds, formats, indices, networks
from tests.networks import DECODERS
from tests.paths import CAMVID, ROOT
from tests.seeds import SEED

pytestmark = [pytest.mark.export, pytest.mark.oldest]

NUM_CLASSES = 6
SIZES = ((32, 48), (29, 45))


class Network(NamedTuple):
    build: Callable[..., keras.Model]
    sizes: tuple[tuple[int, int], ...]
    num_images: int
    train_size: tuple[int, int]
    is_slim: bool


def case(network, sizes=SIZES, num_images=3, train_size=SIZES[0], **options):
    """A network and its images; slow but for small images of one decoder."""
    is_slow = sizes != SIZES or options.get("decoder") != DECODERS[0]
    build = functools.partial(getattr(models, network), **options)
    return pytest.param(
        Network(build, sizes, num_images, train_size, not is_slow),
        id="-".join((network, *map(str, options.values()), str(sizes[0][0]))),
        marks=(pytest.mark.slow, pytest.mark.release) if is_slow else (),
    )


WHOLE = ((180, 240), (179, 239))
NETWORKS = [
    case("BayesianSegNetBasic"),
    *(case("SegNetBasic", decoder=decoder) for decoder in DECODERS),
    case("BayesianSegNetBasic", WHOLE, 8),
    *(case("SegNetBasic", WHOLE, 8, decoder=decoder) for decoder in DECODERS),
    case("ENet", WHOLE, 8),
    case("SegNet", WHOLE, 8),
    # DeconvNet does not support smaller images.
    case("DeconvNet", ((200, 200), (193, 195)), 8, (200, 200), fc_units=32),
]


def images_of(size, number):
    """Images of CamVid where there are some, else drawn ones; uint8."""
    files = sorted((CAMVID / "val").glob("*.png"))[:: 100 // number]
    if size[0] < 100 or len(files) < number:
        return np.stack([data.draw_scene(i, size)[0] for i in range(number)])
    images = [
        tf.image.resize(tf.io.decode_png(file.read_bytes(), 3), size)
        for file in files[:number]
    ]
    return np.round(images).astype("uint8")


def brightness_model(input_shape, activation="linear"):
    """Logits that are the colors, as they come out of resizing."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 16)(inputs)
    return keras.Model(inputs, keras.layers.Activation(activation)(x))


FORMATS = {
    "keras": formats.run_keras,
    "saved_model": formats.run_saved_model,
    "tflite": formats.run_tflite,
    "onnx": formats.run_onnx,
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    keras.utils.set_random_seed(SEED)
    with pytest.MonkeyPatch.context() as patch:
        if request.param.is_slim:
            networks.make_slim(patch)
        model = request.param.build((None, None, 3), num_classes=NUM_CLASSES)
    # Before, no class is ahead of the others.
    train(model, num_images=48, size=request.param.train_size)
    return model, request.param.sizes, request.param.num_images


# The others write what these do, or Keras does.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=() if name in ("saved_model", "tflite") else pytest.mark.slow,
        )
        for name in FORMATS
    ],
)
def test_formats_give_the_numbers_of_the_model(name, network, tmp_path):
    model, sizes, num_images = network
    run = FORMATS[name](indices.with_indices(model), tmp_path)
    for size in sizes:
        images = images_of(size, num_images).astype("float32")
        indices.check_numbers(run, model, images)


def train(model, num_images, size, epochs=1):
    """Train a little, on scenes."""
    drawn = [data.draw_scene(seed, size) for seed in range(num_images)]
    images, masks = map(np.stack, zip(*drawn, strict=True))
    steps = epochs * num_images // 8
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        losses.SegmentationCrossentropy(),
    )
    model.fit(images, masks, batch_size=8, epochs=epochs, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((images, masks)).batch(8)
    models.recompute_batch_statistics(model, dataset)
    return images.astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(SEED)
    return networks.one_stage()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_files_for_one_size(name, size, model, tmp_path):
    run = FORMATS[name](indices.with_indices(model), tmp_path, image_size=size)
    indices.check_numbers(run, model, images_of(size, 2).astype("float32"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_mixed_precision_is_written_as_float32(name, model, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = networks.one_stage()
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    images = images_of((45, 61), 2).astype("float32")
    indices.check_numbers(
        FORMATS[name](indices.with_indices(mixed), tmp_path), model, images
    )
    # It is not what half precision gives.
    half = indices.with_indices(mixed)
    with pytest.raises(AssertionError):
        indices.check_numbers(lambda x: np.asarray(half(x)), model, images)


@pytest.mark.slow
@pytest.mark.numeric
def test_what_was_adapted_stays_in_float32(tmp_path, rng):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        normalize = keras.layers.Normalization()
        normalize.adapt(rng.uniform(0, 255, (9, 4, 4, 3)).astype("float32"))
        inputs = keras.Input((4, 4, 3))
        model = keras.Model(inputs, normalize(inputs))
    finally:
        keras.config.set_dtype_policy("float32")
    images = rng.uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    run = formats.run_tflite(model, tmp_path)
    np.testing.assert_allclose(run(images), model(images), atol=0.01)


@pytest.mark.numeric
def test_what_was_adapted_is_no_input_of_an_onnx_file(tmp_path, rng):
    normalize = keras.layers.Normalization()
    normalize.adapt(rng.uniform(0, 255, (9, 4, 4, 3)).astype("float32"))
    inputs = keras.Input((4, 4, 3))
    inner = keras.Sequential([keras.Input((4, 4, 3)), normalize])
    model = keras.Model(inputs, inner(inputs))
    images = rng.uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    expected = np.asarray(model(images))
    run = formats.run_onnx(model, tmp_path)
    # One subtraction and one division.
    np.testing.assert_allclose(run(images), expected, rtol=1e-6, atol=1e-6)
    # The model itself stays as it is.
    assert tf.is_tensor(normalize.mean)


@pytest.mark.numeric
def test_groups_of_one_channel_and_gelu_in_onnx(tmp_path, rng):
    inputs = keras.Input((6, 7, 4))
    conv = keras.layers.Conv2D(8, 3, padding="same", groups=4)
    gelu = keras.layers.Activation("gelu")
    model = keras.Model(inputs, gelu(conv(inputs)))
    images = rng.normal(size=(2, 6, 7, 4)).astype("float32")
    expected = np.asarray(model(images))
    run = formats.run_onnx(model, tmp_path)
    # Sums of nine products.
    np.testing.assert_allclose(run(images), expected, rtol=1e-5, atol=1e-5)


def test_groups_of_several_channels_are_refused_in_onnx(tmp_path):
    inputs = keras.Input((6, 7, 4))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3, groups=2)(inputs))
    with pytest.raises(ValueError, match="operations that ONNX has"):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


class KeepsATensor(keras.layers.Layer):
    def build(self, shape):
        self.numbers = keras.ops.ones(shape[-1])

    def call(self, x):
        return x + self.numbers


def test_a_tensor_in_a_layer_is_refused_in_onnx(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), KeepsATensor()])
    with pytest.raises(ValueError, match=r"keep its numbers in weights.*add"):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.numeric
def test_the_check_sees_other_weights_and_other_classes(model, tmp_path):
    images = images_of(SIZES[0], 2).astype("float32")
    expected = np.asarray(model(images))
    indices.check_same(expected, expected)
    broken = keras.models.clone_model(model)
    broken.set_weights([w * 1.001 for w in model.get_weights()])
    with pytest.raises(AssertionError):
        indices.check_same(
            formats.run_saved_model(broken, tmp_path)(images), expected
        )
    with pytest.raises(AssertionError):
        indices.check_same(expected[:, 1:], expected)
    # The logits are almost equal, but the classes differ.
    almost = np.ones((1, 10, 10, 2), "float32")
    almost[..., 0] += 1e-6
    with pytest.raises(AssertionError):
        indices.check_same(almost[..., ::-1], almost)


# The contents of the files.


@pytest.mark.slow
@pytest.mark.numeric
def test_saved_model_holds_core_operations_alone(
    compiled_kernels, tmp_path, monkeypatch
):
    networks.make_slim(monkeypatch)
    model = models.BayesianSegNetBasic((16, 24, 3), 2)
    model.predict(np.zeros((1, 16, 24, 3)), verbose=0)  # compiled here
    export.to_saved_model(model, tmp_path / "saved")
    assert formats.foreign_ops(tmp_path / "saved") == set()
    assert formats.must_compile(tmp_path / "saved") == []


@pytest.mark.numeric
def test_foreign_and_compiled_operations_are_seen(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec((None,))])
    def function(x):
        compiled = tf.function(lambda x: x + 1, jit_compile=True)
        return tf.numpy_function(lambda x: x, [compiled(x)], tf.float32)

    module = tf.Module()
    module.function = function
    tf.saved_model.save(module, tmp_path)
    assert formats.foreign_ops(tmp_path) == {"PyFunc"}
    assert formats.must_compile(tmp_path)


@pytest.mark.numeric
@pytest.mark.parametrize(
    "quantize",
    [
        pytest.param(q, marks=pytest.mark.slow if q != "int8" else ())
        for q in (None, *QUANTIZATIONS)
    ],
)
def test_tflite_holds_built_in_operations_alone(quantize, model, tmp_path):
    file = tmp_path / "model.tflite"
    images = images_of((16, 25), 2) if quantize == "int8" else None
    export.to_tflite(model, file, quantize, representative_images=images)
    assert formats.flex_and_custom_ops(file) == set()


def test_flex_operations_are_seen_and_refused(tmp_path):
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Lambda(tf.linalg.expm, output_shape=(4, 4, 3))(
        keras.ops.transpose(inputs, (0, 3, 1, 2))
    )
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="`model` must only use"):
        export.to_tflite(model, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.numeric
def test_onnx_holds_standard_operations_alone(model, tmp_path):
    formats.run_onnx(model, tmp_path)
    assert formats.foreign_domains(tmp_path / "model.onnx") == set()
    onnx = importlib.import_module("onnx")
    broken = onnx.load(tmp_path / "model.onnx")
    broken.graph.node[0].domain = "com.example"
    broken.opset_import.add(domain="com.example", version=1)
    onnx.save(broken, tmp_path / "broken.onnx")
    assert formats.foreign_domains(tmp_path / "broken.onnx") == {"com.example"}


# The SavedModel by itself.

# First serves the SavedModel with TensorFlow only, like a server. Then loads
# the .keras file after importing keras_deconv only, like a user.
SERVE = """\
import sys
import numpy as np
import tensorflow as tf
folder, file, images, outputs = sys.argv[1:]
model = tf.saved_model.load(folder)
serve = model.signatures["serving_default"]
images = np.load(images)
for batch in (images[:1], images):
    results = serve(images=tf.constant(batch))
if "keras_deconv" in sys.modules or "keras_deconv_cli" in sys.modules:
    sys.exit("the SavedModel needed keras_deconv")
import keras, keras_deconv
loaded = keras.saving.load_model(file, safe_mode=True)
outputs_of_file = loaded.predict(images.astype("float32"), verbose=0)
results = {name: x.numpy() for name, x in results.items()}
np.savez(outputs, **results, loaded=outputs_of_file)
"""


@pytest.mark.numeric
@pytest.mark.slow
def test_files_in_a_new_process(model, tmp_path):
    folder, file = tmp_path / "saved", tmp_path / "model.keras"
    export.to_saved_model(model, folder)
    model.save(file)
    images = images_of((45, 61), 2)
    np.save(tmp_path / "images.npy", images)
    outputs = tmp_path / "outputs.npz"
    arguments = [folder, file, tmp_path / "images.npy", outputs]
    subprocess.run(
        [sys.executable, "-c", SERVE, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    outputs = np.load(outputs)
    logits = np.asarray(model(images.astype("float32")))
    same = outputs["class_ids"] == logits.argmax(-1)
    assert same.mean() >= indices.MIN_SAME_CLASSES
    np.testing.assert_allclose(
        outputs["probabilities"], tf.nn.softmax(logits), atol=1e-3
    )
    indices.check_same(outputs["loaded"], logits)


@pytest.mark.slow
def test_saved_model_cli_runs_it(model, tmp_path):
    export.to_saved_model(model, tmp_path / "saved")
    command = [
        *[sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"],
        *["run", "--dir", tmp_path / "saved", "--tag_set", "serve"],
        *["--signature_def", "serving_default", "--outdir", tmp_path],
        *["--inputs", f"images={tmp_path / 'images.npy'}"],
    ]
    images = images_of((30, 41), 2)
    np.save(tmp_path / "images.npy", images)
    subprocess.run(command, check=True, capture_output=True)
    expected = np.asarray(model(images.astype("float32"))).argmax(-1)
    same = np.load(tmp_path / "class_ids.npy") == expected
    assert same.mean() >= indices.MIN_SAME_CLASSES
    assert np.load(tmp_path / "probabilities.npy").shape == (2, 30, 41, 6)


def serve(folder, name="serving_default", **inputs):
    loaded = tf.saved_model.load(folder)
    outputs = loaded.signatures[name](
        **{key: tf.constant(value) for key, value in inputs.items()}
    )
    return {key: value.numpy() for key, value in outputs.items()}


@pytest.mark.numeric
@pytest.mark.parametrize("channels", [1, 5])
def test_saved_models_take_any_number_of_channels(channels, tmp_path, rng):
    inputs = keras.Input((None, None, channels))
    outputs = keras.layers.Conv2D(3, 1)(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, outputs)
    export.to_saved_model(model, tmp_path / "saved", image_size=(4, 6))
    # Images of one color, because resizing preserves it.
    color = rng.integers(0, 256, (2, 1, 1, channels)).astype("uint8")
    images = np.broadcast_to(color, (2, 8, 9, channels))
    found = serve(tmp_path / "saved", images=images)["probabilities"]
    logits = model(color.astype("float32"))
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    bounds.assert_close(
        found, np.broadcast_to(expected, (2, 8, 9, 3)), 20 + channels
    )
    logits = serve(
        tmp_path / "saved", "logits", images=images.astype("float32")
    )["logits"]
    assert logits.shape == (2, 8, 9, 3)


@pytest.mark.numeric
@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_images_are_resized_and_results_resized_back(activation, tmp_path):
    images = images_of((30, 50), 2)
    expected = tf.image.resize(images, (16, 24), antialias=True)
    expected = tf.nn.softmax(np.round(expected) / 16)
    expected = tf.image.resize(expected, (30, 50)).numpy()
    for shape, size in (((16, 24, 3), None), ((None, None, 3), (16, 24))):
        export.to_saved_model(
            brightness_model(shape, activation),
            tmp_path / "saved",
            image_size=size,
        )
        outputs = serve(tmp_path / "saved", images=images)
        np.testing.assert_allclose(
            outputs["probabilities"], expected, atol=1e-5
        )
        np.testing.assert_array_equal(
            outputs["class_ids"], outputs["probabilities"].argmax(-1)
        )
        assert outputs["class_ids"].dtype == "int32"


@pytest.mark.numeric
@pytest.mark.parametrize("size", [(16, 24), (30, 50), (97, 200), (1, 2)])
def test_images_are_resized_in_files_as_in_the_command(size, rng):
    """But for what sums of another order round to the next value."""
    images = rng.integers(0, 256, (3, *size, 5)).astype("uint8")
    difference = np.abs(
        _resizing.exported_images(images, (16, 24))
        - _resizing.images(images, (16, 24))
    )
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
    if size == (16, 24):
        assert not difference.any()


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("size", [(32, 48), (None, None)])
def test_openvino_runs_saved_models(size, tmp_path):
    """Resizing, which it cannot do in TensorFlow's way, included."""
    openvino = formats.missing_is_skipped("openvino", "openvino")
    model = brightness_model((*size, 3))
    export.to_saved_model(model, tmp_path / "saved")
    images = images_of((45, 61), 2)
    expected = serve(tmp_path / "saved", images=images)
    compiled = openvino.Core().compile_model(
        openvino.convert_model(str(tmp_path / "saved")),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    found = compiled({"images": images})
    same = found["class_ids"] == expected["class_ids"]
    assert same.mean() >= indices.MIN_SAME_CLASSES
    np.testing.assert_allclose(
        found["probabilities"], expected["probabilities"], atol=1e-3
    )


@pytest.mark.numeric
def test_images_of_the_size_are_left_as_they_are(tmp_path):
    images = images_of((16, 25), 2)
    for shape in ((16, 25, 3), (None, None, 3)):
        model = brightness_model(shape)
        export.to_saved_model(model, tmp_path / "saved")
        outputs = serve(tmp_path / "saved", images=images)
        np.testing.assert_allclose(
            outputs["probabilities"],
            tf.nn.softmax(images.astype("float32") / 16),
            atol=1e-6,
        )


@pytest.mark.numeric
def test_logits_of_a_model_that_ends_in_a_softmax(tmp_path):
    export.to_saved_model(
        brightness_model((16, 24, 3), "softmax"), tmp_path / "saved"
    )
    images = images_of((16, 24), 1).astype("float32")
    logits = serve(tmp_path / "saved", "logits", images=images)["logits"]
    np.testing.assert_allclose(
        tf.nn.softmax(logits), tf.nn.softmax(images / 16), atol=1e-5
    )


@pytest.mark.slow
def test_monte_carlo(tmp_path, monkeypatch):
    networks.make_slim(monkeypatch)
    images = images_of((30, 41), 2)
    export.to_saved_model(
        models.BayesianSegNetBasic((16, 24, 3), 4), tmp_path / "saved"
    )
    loaded = tf.saved_model.load(tmp_path / "saved")
    sample = loaded.signatures["monte_carlo"]

    def draw(samples):
        outputs = sample(
            images=tf.constant(images), samples=tf.constant(samples)
        )
        return {name: output.numpy() for name, output in outputs.items()}

    assert not draw(1)["variance"].any()
    first, again = draw(20), draw(20)
    fields = keras_deconv.inference.MonteCarloPrediction._fields
    assert set(first) == set(fields)
    shapes = {name: output.shape for name, output in first.items()}
    assert shapes.pop("probabilities") == (2, 30, 41, 4)
    assert shapes.pop("variance") == (2, 30, 41, 4)
    assert set(shapes.values()) == {(2, 30, 41)}
    assert (first["mean_variance"] > 0).all()
    assert np.any(first["variance"] != again["variance"])  # New samples.
    np.testing.assert_array_equal(
        first["class_ids"], first["probabilities"].argmax(-1)
    )


@pytest.mark.slow
def test_no_monte_carlo_without_dropout(model, tmp_path):
    export.to_saved_model(model, tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    assert set(loaded.signatures) == {"serving_default", "logits"}


def test_class_names_and_palette_are_assets(tmp_path):
    names, palette = ["Himmel", "Straße", "car"], data.color_map(3)
    export.to_saved_model(
        brightness_model((16, 24, 3)),
        tmp_path / "saved",
        class_names=names,
        palette=palette,
    )
    # The folder can be moved.
    folder = (tmp_path / "saved").rename(tmp_path / "moved")
    text = (folder / "assets" / "class_names.txt").read_text("utf-8")
    assert text.splitlines() == names
    text = (folder / "assets" / "palette.txt").read_text()
    assert [tuple(map(int, line.split(","))) for line in text.split()] == [
        tuple(map(int, color)) for color in palette
    ]
    loaded = tf.saved_model.load(folder)
    path = loaded.class_names.asset_path.numpy().decode()
    assert pathlib.Path(path).read_text("utf-8").splitlines() == names
    assert loaded.palette.asset_path.numpy().endswith(b"palette.txt")


@pytest.mark.slow
@pytest.mark.numeric
def test_a_loaded_model_is_exported_as_the_one_saved(model, tmp_path):
    """A model that Keras 3.10 loads takes a list of one tensor."""
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = images_of((16, 24), 1).astype("float32")
    run = formats.run_saved_model(loaded, tmp_path)
    indices.check_same(run(images), np.asarray(model(images)))


# Descriptions in all files.

DESCRIBED = dict(
    class_names=["Himmel", "Straße", "car"],
    palette=[[0, 0, 0], [128, 64, 0], [1, 2, 3]],
    value_range=(0, 4095),
)


@pytest.mark.parametrize("size", [(16, 24), None])
@pytest.mark.parametrize("name", ["saved_model", "tflite", "onnx"])
def test_names_and_description(name, size, tmp_path):
    """Tensors are called images and logits; JSON has what the file lacks."""
    model = brightness_model((*(size or (None, None)), 3))
    path = tmp_path / f"model.{name}"
    file = tmp_path / f"model.{name}.json"
    if name == "onnx":
        onnx = formats.missing_is_skipped("onnx", "onnx")
        formats.missing_is_skipped("tf2onnx", "onnx")
    function = getattr(export, f"to_{name}")
    for _ in range(2):  # The second replaces the first.
        function(model, path, **DESCRIBED)
    expected = {
        "written_by": "keras_deconv",
        **DESCRIBED,
        "value_range": [0, 4095],
        "image_size": size and list(size),
    }
    if name == "saved_model":
        loaded = tf.saved_model.load(path)
        file = loaded.description.asset_path.numpy().decode()
        logits = loaded.signatures["logits"]
        [images] = logits.structured_input_signature[1]
        assert (images, *logits.structured_outputs) == ("images", "logits")
    elif name == "tflite":
        litert = formats.missing_is_skipped(
            "ai_edge_litert.interpreter", "litert"
        )
        assert litert.Interpreter(str(path)).get_signature_list() == {
            "serving_default": {"inputs": ["images"], "outputs": ["logits"]}
        }
    else:
        found = onnx.load(path)
        [images], [logits] = found.graph.input, found.graph.output
        assert (images.name, logits.name) == ("images", "logits")
        for tensor, open_sizes in (
            (images, ["height", "width"]),
            (logits, ["output_height", "output_width"]),
        ):
            shape = tensor.type.tensor_type.shape.dim
            assert [n.dim_param or n.dim_value for n in shape] == [
                *("batch", *(size or open_sizes), 3)
            ]
        assert {
            one.key: json.loads(one.value) for one in found.metadata_props
        } == expected
    assert json.loads(pathlib.Path(file).read_text("utf-8")) == expected


def test_json_from_elsewhere_is_kept(tmp_path):
    file = tmp_path / "model.tflite.json"
    model = brightness_model((16, 24, 3))
    for text in ('{"mine": 1}', "[1]", "1", "no JSON"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"whose '\.json' is free"):
            export.to_tflite(model, tmp_path / "model.tflite")
        assert file.read_text() == text
    assert os.listdir(tmp_path) == [file.name]


def test_a_model_is_kept_if_its_json_cannot_be_written(tmp_path):
    """Its name is 4 bytes longer than file systems allow."""
    path = tmp_path / ("m" * 254)
    path.write_text("before")
    with pytest.raises(ValueError, match=r"`path` must be a path that can be"):
        export.to_tflite(brightness_model((16, 24, 3)), path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((None, 2), ["batch", "length", 2]),
        ((None, None, 6, 2), ["batch", "depth", "height", 6, 2]),
        ((2, None, None), ["batch", 2, "height", "width"]),
    ],
)
def test_names_of_open_sizes_in_onnx(shape, names, tmp_path):
    onnx = formats.missing_is_skipped("onnx", "onnx")
    formats.missing_is_skipped("tf2onnx", "onnx")
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.ReLU()(inputs))
    export.to_onnx(model, tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    for tensor, prefix in ((graph.input[0], ""), (graph.output[0], "output_")):
        expected = [
            prefix + name if isinstance(name, str) and name != "batch" else name
            for name in names
        ]
        sizes = tensor.type.tensor_type.shape.dim
        assert [n.dim_param or n.dim_value for n in sizes] == expected


def test_noise_of_converters_is_held_back(tmp_path, capfd):
    model = brightness_model((16, 24, 3))
    images = images_of((16, 24), 2)
    capfd.readouterr()
    export.to_tflite(
        model, tmp_path / "m", "int8", representative_images=images
    )
    assert capfd.readouterr() == ("", "")
    lines = [
        b"W0000 00:00:1795957937.213151   25295 helpers.cc:364] Ignored x.",
        b"2026-11-29 12:00:00.123456: I tensorflow/core/x.cc:1] Restoring",
        b"E0000 00:00:1795957937.213151   25295 helpers.cc:364] an error",
        b"2026-11-29 12:00:00: I am a line of the user",
        b"said by another thread",
    ]
    with quiet():
        os.write(2, b"\n".join(lines))
    expected = b"\n".join(lines[2:]).decode()
    assert capfd.readouterr() == ("", expected)


def write_noise(text):
    os.write(2, b"W0000 00:00:1795957937.213151   25295 x.cc:364] noise\n")
    os.write(2, f"{text}\n".encode())


def test_errors_pass_through_quiet(capfd):
    def fail():
        with quiet(), quiet():
            write_noise("before the error")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    os.write(2, b"after it\n")
    assert capfd.readouterr().err == "before the error\nafter it\n"


def test_noise_is_kept_on_request(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet():
        write_noise("text")
    assert "noise" in capfd.readouterr().err


def test_quiet_without_standard_error(capfd):
    kept = os.dup(2)
    os.close(2)
    try:
        with quiet():
            pass
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(2)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    write_noise("restored")
    assert capfd.readouterr().err.endswith("restored\n")


def test_quiet_in_two_threads(capfd):
    """The second waits, so that each restores the real standard error."""

    def write(text):
        with quiet():
            write_noise(text)
            time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "abcd"))
    os.write(2, b"end\n")
    text = capfd.readouterr().err
    assert sorted(text.split()) == ["a", "b", "c", "d", "end"]
    assert text.endswith("end\n")


EXPORT_ALL = """\
import sys
import keras
from keras_deconv import export
inputs = keras.Input((8, 8, 3))
model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
images = keras.ops.ones((2, 8, 8, 3))
for stream in (sys.stdout, sys.stderr):
    print("BEGIN", file=stream, flush=True)
export.to_tflite(model, sys.argv[1] + "/m.tflite")
export.to_tflite(
    model, sys.argv[1] + "/8.tflite", "int8", representative_images=images
)
try:
    import tf2onnx
except ImportError:
    pass
else:
    export.to_onnx(model, sys.argv[1] + "/m.onnx")
export.to_saved_model(model, sys.argv[1] + "/m")
"""


@pytest.mark.slow
def test_exports_of_a_new_process_print_nothing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # TensorFlow says all that it has to say.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    result = subprocess.run(
        [sys.executable, "-c", EXPORT_ALL, tmp_path],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    for text in (result.stdout, result.stderr):
        assert text.partition("BEGIN\n")[2] == ""


# Quantized.


def pooled_and_unpooled(step):
    """Quantized in steps of `step`; the model gives back what it pooled."""
    inputs = keras.Input((6, 8, 2))
    identity = keras.initializers.Constant(np.eye(2))
    conv = keras.layers.Conv2D(2, 1, kernel_initializer=identity)
    x = keras.layers.ReLU()(conv(inputs))
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(x)
    model = keras.Model(inputs, keras_deconv.MaxUnpool2D()(pooled, argmax))
    whole = np.zeros((1, 6, 8, 2), "float32")
    whole[:, ::2, ::2] = 255 * step
    return model, whole


def unpooled(steps):
    """The oracle: the first maximum of each window stays, in whole steps."""
    result = np.zeros_like(steps)
    for index in np.ndindex(3, 4, 2):
        row, column, channel = index
        window = (
            0,
            slice(2 * row, 2 * row + 2),
            slice(2 * column, 2 * column + 2),
            channel,
        )
        cells = steps[window].ravel()
        kept = np.zeros_like(cells)
        kept[cells.argmax()] = cells.max()
        result[window] = kept.reshape(2, 2)
    return result


# Below and above 1, where TFLite's comparisons of quantized tensors fail.
@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize(
    "step", [pytest.param(0.25, marks=pytest.mark.slow), 4.0]
)
def test_unpooling_is_exact_in_int8(step, tmp_path, rng, monkeypatch):
    model, whole = pooled_and_unpooled(step)
    steps = rng.integers(0, 256, whole.shape).astype("float32")
    run = formats.run_tflite(
        model, tmp_path, "int8", representative_images=whole
    )
    np.testing.assert_allclose(run(steps * step) / step, unpooled(steps), 1e-3)
    if step > 1:
        # With the plain kernels, it is not exact.
        monkeypatch.setattr(
            fused, "_pool_numbers", keras_deconv._kernels.windows.pool
        )
        run = formats.run_tflite(
            model, tmp_path, "int8", representative_images=whole
        )
        result = run(steps * step) / step
        assert np.abs(result - unpooled(steps)).max() > 100


@pytest.mark.slow
@pytest.mark.numeric
def test_what_is_equal_in_int8_is_a_tie_and_the_first_wins(tmp_path, rng):
    model, whole = pooled_and_unpooled(1.0)
    steps = rng.integers(0, 4, whole.shape).astype("float32")
    # Floats have other maxima where several are one quantized value.
    x = steps + rng.uniform(-0.4, 0.4, steps.shape).astype("float32")
    run = formats.run_tflite(
        model, tmp_path, "int8", representative_images=whole
    )
    result = run(x)
    np.testing.assert_allclose(result, unpooled(steps), 1e-3)
    floats = np.asarray(model(x))
    elsewhere = (floats > 0) != (result > 0)
    # Two cells of each window that ties: how many do depends on the seed.
    assert 0 < elsewhere.mean() < 0.5
    # Nothing is lost or doubled: one maximum to a window.
    windows = result.reshape(3, 2, 4, 2, 2)
    assert ((windows > 0).sum((1, 3)) <= 1).all()


@pytest.mark.numeric
@pytest.mark.slow
def test_channels_have_equal_ranges_in_int8(tmp_path, rng, monkeypatch):
    """A channel of a quarter of the range has all steps nevertheless."""
    inputs = keras.Input((6, 8, 2))
    identity = keras.initializers.Constant(np.eye(2))
    conv = functools.partial(
        keras.layers.Conv2D, 2, 1, kernel_initializer=identity
    )
    norm = keras.layers.BatchNormalization(
        gamma_initializer=keras.initializers.Constant([1, 1 / 4])
    )
    x = keras.layers.ReLU()(norm(conv()(inputs)))
    unpooled = keras_deconv.MaxUnpool2D()(
        *keras_deconv.MaxPoolWithArgmax2D()(x)
    )
    model = keras.Model(inputs, conv()(unpooled))
    images = rng.uniform(0, 255, (200, 6, 8, 2)).astype("float32")
    expected = np.asarray(model(images)) > 0

    def elsewhere():
        run = formats.run_tflite(
            model, tmp_path, "int8", representative_images=images
        )
        return np.mean((run(images) > 0) != expected, axis=(0, 1, 2))

    high, low = elsewhere()
    assert max(high, low) < 0.01
    monkeypatch.setattr(
        export._channel_ranges,
        "equal_channels",
        lambda model, _: contextlib.nullcontext(),
    )
    high, unequal = elsewhere()
    print(f"elsewhere: {low:.4f}, with unequal ranges {unequal:.4f}")
    assert high < 0.01
    assert unequal > 2 * low


@pytest.mark.numeric
@pytest.mark.slow
def test_who_else_reads_what_is_pooled_sees_all_of_it(
    tmp_path, rng, monkeypatch
):
    """As in ENet. The lowest maximum is 1, and the lowest value -3."""
    inputs = keras.Input((6, 8, 2))
    conv = functools.partial(
        keras.layers.Conv2D,
        *(2, 1),
        kernel_initializer=keras.initializers.Constant(np.eye(2)),
    )
    x = conv()(inputs)
    unpooled = keras_deconv.MaxUnpool2D()(
        *keras_deconv.MaxPoolWithArgmax2D()(x)
    )
    model = keras.Model(inputs, keras.layers.Add()([unpooled, conv()(x)]))
    images = rng.uniform(-3, 0, (20, 6, 8, 2)).astype("float32")
    images[:, ::2, ::2] = rng.uniform(1, 5, (20, 3, 4, 2))
    expected = np.asarray(model(images))

    def largest_error():
        run = formats.run_tflite(
            model, tmp_path, "int8", representative_images=images
        )
        return np.abs(run(images) - expected).max()

    assert largest_error() < 0.1
    monkeypatch.setattr(fused, "_with_range_of_its_own", lambda x: x)
    assert largest_error() > 2


@pytest.mark.numeric
@pytest.mark.slow
def test_windows_and_paddings_in_tflite(tmp_path, rng):
    """All values are negative, and some windows all equal to the lowest."""
    inputs = keras.Input((7, 9, 2))
    outputs = []
    for pool_size, strides in ((2, 2), (3, 2), (3, 1)):
        for padding in ("same", "valid"):
            window = dict(pool_size=pool_size, strides=strides, padding=padding)
            pool = keras_deconv.MaxPoolWithArgmax2D(**window)
            unpool = keras_deconv.MaxUnpool2D(**window)
            outputs.append(unpool(*pool(inputs), like=inputs))
    model = keras.Model(inputs, keras.layers.Concatenate()(outputs))
    x = -rng.integers(1, 4, (2, 7, 9, 2)).astype("float32")
    x[:, :4, :4] = x[:, -3:, -3:] = -3
    run = formats.run_tflite(model, tmp_path)
    np.testing.assert_allclose(run(x), model(x), rtol=1e-6)


WHOLE_SCENE = (96, 128)


@pytest.fixture(scope="module")
def trained():
    """A SegNet-Basic trained as long as by the main job; and its images."""
    keras.utils.set_random_seed(SEED)
    model = models.SegNetBasic((*WHOLE_SCENE, 3), NUM_CLASSES)
    return model, train(model, num_images=400, size=WHOLE_SCENE, epochs=6)


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("quantize", "min_same", "max_size"),
    [("float16", 0.995, 0.55), ("dynamic", 0.99, 0.3), ("int8", 0.99, 0.3)],
)
def test_quantized_models_keep_classes(
    quantize, min_same, max_size, trained, tmp_path
):
    model, seen = trained
    images = [data.draw_scene(10_000 + i, WHOLE_SCENE)[0] for i in range(32)]
    images = np.float32(images)
    expected = formats.run_tflite(model, tmp_path)(images)
    whole = (tmp_path / "model.tflite").stat().st_size
    representative = seen[:100] if quantize == "int8" else None
    run = formats.run_tflite(
        model, tmp_path, quantize, representative_images=representative
    )
    same = (run(images).argmax(-1) == expected.argmax(-1)).mean()
    size = (tmp_path / "model.tflite").stat().st_size / whole
    print(f"{quantize}: same classes {same:.3%}, size {size:.1%}")
    assert same >= min_same
    assert size <= max_size


@pytest.mark.numeric
@pytest.mark.parametrize("io_dtype", ["uint8", "int8"])
def test_images_and_logits_as_integers(io_dtype, tmp_path):
    """The numbers of the file with floats, of images that lack 0 and 255."""
    litert = formats.missing_is_skipped("ai_edge_litert.interpreter", "litert")
    model = brightness_model((16, 24, 3))
    images = images_of((16, 24), 3) // 2 + 30
    file = tmp_path / "model.tflite"
    int8 = dict(quantize="int8", representative_images=images)
    export.to_tflite(model, file, io_dtype=io_dtype, **int8)
    interpreter = litert.Interpreter(str(file))
    (scale, zero), (logit_scale, logit_zero) = (
        one["quantization"]
        for [one] in (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
    )
    assert (scale, zero) == (1, 0 if io_dtype == "uint8" else -128)
    run = interpreter.get_signature_runner("serving_default")
    integers = run(images=(images + np.int16(zero)).astype(io_dtype))["logits"]
    assert integers.dtype == io_dtype
    logits = (integers.astype("float32") - logit_zero) * logit_scale
    run = formats.run_tflite(model, tmp_path, **int8)
    floats = run(images.astype("float32"))
    assert np.abs(logits - floats).max() <= logit_scale
    np.testing.assert_allclose(logits, images / 16, atol=logit_scale)


@pytest.mark.numeric
@pytest.mark.slow
def test_classes_of_integers_are_those_of_floats(tmp_path):
    model = networks.one_stage((16, 24))
    images = images_of((16, 24), 3)
    # One step is 1 in both files.
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    int8 = dict(quantize="int8", representative_images=images)
    floats = formats.run_tflite(model, tmp_path, **int8)(np.float32(images))
    integers = formats.run_tflite(model, tmp_path, io_dtype="uint8", **int8)(
        images
    )
    same = integers.argmax(-1) == floats.argmax(-1)
    assert same.mean() >= indices.MIN_SAME_CLASSES


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.parametrize("with_masks", [False, True])
def test_representative_images_from_a_data_set(with_masks, tmp_path):
    model = brightness_model((16, 24, 3))
    images = images_of((16, 24), 3)
    masks = np.zeros((3, 16, 24))
    dataset = tf.data.Dataset.from_tensor_slices(
        (images, masks) if with_masks else images
    ).batch(2)
    x = images.astype("float32")

    def outputs(representative):
        run = formats.run_tflite(
            model, tmp_path, "int8", representative_images=representative
        )
        return run(x)

    expected = outputs(images)
    np.testing.assert_array_equal(outputs(dataset), expected)
    # An iterator can be read only once.
    np.testing.assert_array_equal(outputs(iter([images])), expected)


# Errors.


def two_inputs():
    inputs = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    return keras.Model(inputs, keras.layers.Add()(inputs))


EXPORTS = (export.to_saved_model, export.to_tflite, export.to_onnx)


@pytest.mark.numeric
@pytest.mark.parametrize("function", EXPORTS)
def test_mistakes_of_all_formats(function, model, tmp_path, monkeypatch):
    path = tmp_path / "model"
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    if function is export.to_onnx:
        formats.missing_is_skipped("tf2onnx", "onnx")
    for arguments, words in (
        ((two_inputs(), path), "`model` must have one input and one output"),
        ((keras.Sequential(), path), "`model` must be a built Functional"),
        (
            (model, tmp_path / "file" / "model"),
            "must be a path that can be written",
        ),
        ((model, tmp_path / "folder"), "`path` must be a f"),
        ((model, None), "`path` must be a path"),
        ((model, ""), "`path` must be a path"),
    ):
        with pytest.raises(ValueError, match=words):
            function(*arguments)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("pipe", "link", "/dev/null", "/dev/stdout"):
        with pytest.raises(ValueError, match="`path` must be a regular file"):
            function(model, tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "pipe").unlink()
    (tmp_path / "link").unlink()
    with pytest.raises(ValueError, match="`image_size` must be an int or"):
        function(model, path, image_size=(0, 3))
    known = brightness_model((16, 24, 3))
    with pytest.raises(ValueError, match="that the model takes"):
        function(known, path, image_size=(16, 25))
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        function(model, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "folder" / "precious").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(class_names=["a"]), "`class_names` must be 3 distinct"),
        (dict(value_range=(1, 1)), "`value_range` must be a tuple"),
        (dict(class_names="abc"), "`class_names` must be 3 distinct"),
        (dict(class_names=["a", "b\nc", "d"]), "without line breaks"),
        (dict(palette=[(0, 0, 0)]), "each class, 3 in all"),
        (dict(palette=[(0, 0, 256)] * 3), "`palette` must hold"),
        (
            dict(model=models.PatchClassifier((8, 8, 3), 3)),
            r"`model` must map images",
        ),
        (
            dict(model=brightness_model((16, 24, 1))),
            "two or more classes",
        ),
        (
            dict(model=brightness_model((16, 24, 3), "sigmoid")),
            "`model` must return logits or end in a softmax",
        ),
    ],
)
def test_mistakes_of_saved_models(arguments, words, tmp_path):
    model = arguments.pop("model", brightness_model((16, 24, 3)))
    with pytest.raises(ValueError, match=words):
        export.to_saved_model(model, tmp_path / "saved", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(quantize="int4"), "'float16', 'dynamic', 'int8'"),
        (dict(quantize="int8"), "`representative_images` must be given"),
        (dict(representative_images=1), "and only then"),
        (dict(io_dtype="int16"), "'float32', 'uint8', 'int8'"),
        (
            dict(
                model=keras.Sequential(
                    [
                        keras.Input((16, 24, 3), dtype="uint8"),
                        keras.layers.Rescaling(1 / 16),
                    ]
                ),
                quantize="int8",
                representative_images=np.zeros((1, 16, 24, 3)),
            ),
            "must take floats with .* Received: a model that takes uint8",
        ),
        *(
            (
                dict(
                    quantize="int8",
                    io_dtype="uint8",
                    representative_images=np.full((1, 16, 24, 3), value),
                ),
                "must have values in 0..255, not in 0..1, for an integer",
            )
            for value in (-1.0, 1.0, 256.0)
        ),
        (
            dict(quantize="dynamic", io_dtype="uint8"),
            "`io_dtype` must be 'float32' unless quantize='int8'",
        ),
        (
            dict(quantize="int8", representative_images=np.zeros((1, 9, 9, 3))),
            "`representative_images` must be a batch",
        ),
        (dict(quantize="int8", representative_images=[]), "at least one image"),
        (dict(quantize="int8", representative_images=5), "Received: int"),
        (
            dict(quantize="int8", representative_images=["x"]),
            "of type str",
        ),
        (
            dict(
                quantize="int8",
                representative_images=np.full((1, 16, 24, 3), np.nan),
            ),
            "must hold finite numbers",
        ),
    ],
)
def test_mistakes_of_tflite(arguments, words, tmp_path):
    model = arguments.pop("model", None) or brightness_model((16, 24, 3))
    with pytest.raises(ValueError, match=words):
        export.to_tflite(model, tmp_path / "model.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_onnx_says_what_is_missing(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r'"keras-deconv\[onnx\]"'):
        export.to_onnx(model, tmp_path / "model.onnx")


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    model = brightness_model((16, 24, 3))
    saved, file = tmp_path / "new" / "saved", tmp_path / "new" / "model.tflite"
    for _ in range(2):
        export.to_saved_model(model, saved)
        export.to_tflite(model, file)
    (saved / "notes.txt").touch()
    with pytest.raises(ValueError, match="without files of others"):
        export.to_saved_model(model, saved)
    (saved / "notes.txt").unlink()
    before = file.read_bytes(), (saved / "saved_model.pb").read_bytes()

    def fail(*arguments, **options):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", fail)
        for function, path in (
            (export.to_saved_model, saved),
            (export.to_tflite, file),
        ):
            with pytest.raises(OSError, match="the disk is full"):
                function(model, path)
    after = file.read_bytes(), (saved / "saved_model.pb").read_bytes()
    assert before == after
    names = collections.Counter(p.name for p in (tmp_path / "new").iterdir())
    assert names == {"saved": 1, "model.tflite": 1, "model.tflite.json": 1}


def test_a_saved_model_is_there_while_it_is_replaced(tmp_path, monkeypatch):
    model, path = brightness_model((16, 24, 3)), tmp_path / "saved"
    export.to_saved_model(model, path)
    replace = os.replace

    def watched(source, target):
        """Fails where it would be gone if the process were killed now."""
        replace(source, target)
        assert (path / "saved_model.pb").exists()

    monkeypatch.setattr(os, "replace", watched)
    export.to_saved_model(model, path)
    assert os.listdir(tmp_path) == ["saved"]


@pytest.mark.parametrize(
    "name", ["class_names.txt", "palette.txt", "description.json", "lock"]
)
def test_a_saved_model_may_have_the_name_of_an_asset(name, tmp_path):
    for _ in range(2):
        export.to_saved_model(
            brightness_model((16, 24, 3)),
            tmp_path / name,
            class_names=["a", "b", "c"],
            palette=[[0, 0, 0], [1, 1, 1], [2, 2, 2]],
        )
    names = tmp_path / name / "assets" / "class_names.txt"
    assert names.read_text() == "a\nb\nc\n"
    assert os.listdir(tmp_path) == [name]


def test_a_link_to_a_model_stays_a_link(tmp_path):
    model, link = brightness_model((16, 24, 3)), tmp_path / "latest"
    link.symlink_to("saved")
    for _ in range(2):
        export.to_saved_model(model, link)
        assert link.is_symlink()
        assert (tmp_path / "saved" / "saved_model.pb").exists()


@pytest.mark.slow
def test_any_kind_of_path_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    export.to_saved_model(brightness_model((16, 24, 3)), "~/home")
    export.to_saved_model(brightness_model((16, 24, 3)), "here")
    # Even named as what is written on the way.
    export.to_tflite(brightness_model((16, 24, 3)), "saved_model")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"home", "here", "saved_model", "saved_model.json"}


def test_the_way_out_of_unknown_sizes_is_named(tmp_path):
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.MaxPooling2D()(inputs)
    merged = keras.layers.Concatenate()(
        [inputs, keras.layers.UpSampling2D()(pooled)]
    )
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(merged))
    with pytest.raises(ValueError, match=r"Conv2D\. .*pass `image_size`"):
        export.to_tflite(model, tmp_path / "model.tflite")
    export.to_tflite(model, tmp_path / "model.tflite", image_size=(8, 8))
