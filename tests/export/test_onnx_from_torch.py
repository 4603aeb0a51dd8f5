"""ONNX files that Keras exports on the PyTorch backend give equal results."""

import keras
import numpy as np
import pytest

import keras_deconv
from keras_deconv import _graphs, models
from tests import formats

if keras.config.backend() != "torch":
    pytest.skip("needs KERAS_BACKEND=torch", allow_module_level=True)

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.backend,
    # PyTorch's and Keras' own, of which there are many.
    pytest.mark.filterwarnings("ignore"),
]


def check_export(model, folder):
    """The batch is open: the file runs with one image and with three."""
    shape = model.input_shape[1:]
    model(np.zeros((1, *shape), "float32"))
    file = str(folder / "model.onnx")
    model.export(file, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(file)
    [images] = session.get_inputs()
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        x = rng.standard_normal((batch, *shape)).astype("float32")
        outputs = session.run(None, {images.name: x})
        expected = keras.tree.flatten(model(x))
        for output, tensor in zip(outputs, expected, strict=True):
            wanted = keras.ops.convert_to_numpy(tensor)
            assert output.dtype == wanted.dtype
            np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)


def unpooling(rank, shape, overlap="sum", **options):
    pool = getattr(keras_deconv, f"MaxPoolWithArgmax{rank}D")(**options)
    unpool = getattr(keras_deconv, f"MaxUnpool{rank}D")(
        **options, overlap=overlap
    )
    inputs = keras.Input(shape)
    pooled, argmax = pool(inputs)
    restored = unpool(pooled, argmax, like=inputs)
    return keras.Model(inputs, [pooled, argmax, restored])


SHAPES = {1: (7, 3), 2: (5, 7, 3), 3: (3, 4, 5, 2)}


def test_a_network_runs(tmp_path):
    check_export(models.SegNetBasic((18, 25, 3), 3), tmp_path)


@pytest.mark.parametrize("index_format", ["window", "plane"])
def test_unpooling_runs(index_format, tmp_path):
    options = dict(padding="same", index_format=index_format)
    check_export(unpooling(2, SHAPES[2], **options), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("index_format", ["window", "flat", "plane"])
@pytest.mark.parametrize("overlap", ["sum", "mean"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("pool_size", [2, 3])
@pytest.mark.parametrize("rank", SHAPES)
def test_every_unpooling_runs(
    rank, pool_size, data_format, overlap, index_format, tmp_path
):
    shape = SHAPES[rank]
    if data_format == "channels_first":
        shape = (shape[-1], *shape[:-1])
    model = unpooling(
        rank,
        shape,
        overlap,
        pool_size=pool_size,
        strides=2,
        padding="same",
        data_format=data_format,
        index_format=index_format,
    )
    check_export(model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["NearestUnpool", "BedOfNailsUnpool"])
@pytest.mark.parametrize("rank", SHAPES)
def test_every_fixed_unpooling_runs(layer, rank, tmp_path):
    inputs = keras.Input(SHAPES[rank])
    unpool = getattr(keras_deconv, f"{layer}{rank}D")()
    check_export(keras.Model(inputs, unpool(inputs)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "decoder", ["bed_of_nails", "nearest", "conv_transpose"]
)
def test_every_decoder_runs(decoder, tmp_path):
    model = models.SegNetBasic((18, 25, 3), 3, decoder=decoder)
    check_export(model, tmp_path)


@pytest.mark.parametrize("decoder", ["max_unpool", "nearest", "conv_transpose"])
def test_an_open_size_is_refused(decoder, tmp_path):
    model = models.SegNetBasic((None, None, 3), 3, decoder=decoder)
    model(np.zeros((1, 16, 16, 3), "float32"))
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        model.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)


@pytest.mark.parametrize("size", [(16, 24), (None, 24)])
def test_openvino_files_have_known_sizes(size, tmp_path):
    pytest.importorskip("openvino")
    model = models.SegNetBasic((*size, 3), 3, filters=(4, 4))
    x = np.random.default_rng(0).random((2, 16, 24, 3), "float32")
    expected = keras.ops.convert_to_numpy(model(x))
    file = str(tmp_path / "model.xml")
    if None in size:
        with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
            model.export(file, format="openvino", verbose=False)
        return
    model.export(file, format="openvino", verbose=False)
    run = formats.in_openvino(file)
    for images, logits in ((x[:1], expected[:1]), (x, expected)):
        np.testing.assert_allclose(run(images), logits, rtol=1e-4, atol=1e-5)


def test_predicting_other_sizes_does_not_open_a_size(tmp_path):
    model = models.SegNetBasic((16, 16, 3), 3)
    _graphs.of_any_size(model)
    check_export(model, tmp_path)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.pool = keras_deconv.MaxPoolWithArgmax2D(padding="same")
        self.unpool = keras_deconv.MaxUnpool2D(padding="same")

    def call(self, x):
        return self.unpool(*self.pool(x), like=x)


def test_an_open_size_of_a_subclassed_model_is_refused(tmp_path):
    model = Subclassed()
    model(np.zeros((1, 16, 16, 3), "float32"))
    file = tmp_path / "model.onnx"

    def export(*size):
        signature = [keras.InputSpec(shape=(None, *size, 3), dtype="float32")]
        model.export(
            str(file), format="onnx", verbose=False, input_signature=signature
        )

    for size in ((None, None), (16, None)):
        with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
            export(*size)
    assert not file.exists()
    export(6, 7)
    x = np.random.default_rng(0).standard_normal((3, 6, 7, 3), "float32")
    session = onnxruntime.InferenceSession(str(file))
    [inputs] = session.get_inputs()
    [y] = session.run(None, {inputs.name: x})
    np.testing.assert_array_equal(y, keras.ops.convert_to_numpy(model(x)))
