"""Prediction tile by tile."""

import gc
import tracemalloc

import keras
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_deconv
from keras_deconv import models
from keras_deconv.inference import tiled
from tests import networks

as_numpy = keras.ops.convert_to_numpy

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 70, 3), "uint8")


def predict(model, image=IMAGE, tile=16, overlap=8, **options):
    return tiled.predict_tiled(
        model, image, tile, overlap, verbose=0, **options
    )


def whole(model, image=IMAGE):
    return as_numpy(model(np.float32(image)[None]))[0]


def convolutions(number, size=(None, None), num_classes=4):
    """A model with a receptive field of 2 * number + 1 pixels."""
    inputs = keras.Input((*size, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for _ in range(number - 1):
        x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    outputs = layers.Conv2D(num_classes, 3, padding="same")(x)
    return keras.Model(inputs, outputs)


def pooled_twice(size=(None, None)):
    """An encoder and a decoder with a stride of 4.

    It looks at one cell of 4 pixels on each side, and at a pixel and a cell of
    2 pixels before that: at most 16 pixels.
    """
    inputs = keras.Input((*size, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    poolings = []
    for _ in range(2):
        x = layers.Conv2D(6, 3, padding="same")(x)
        pooled, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(x)
        poolings.append((x, argmax))
        x = pooled
    x = layers.Conv2D(6, 3, padding="same")(x)
    for like, argmax in reversed(poolings):
        x = keras_deconv.MaxUnpool2D(padding="same")(x, argmax, like=like)
        x = layers.Conv2D(6, 3, padding="same")(x)
    return keras.Model(inputs, x)


def strided():
    """A strided convolution; "same" padding aligns it with the end."""
    inputs = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(6, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(4, 4, 2, padding="same")(x)
    return keras.Model(inputs, x)


def mean_of_tile(size=(None, None)):
    """A model that returns the mean of its tile, to show the weights."""
    inputs = keras.Input((*size, 1))
    mean = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    return keras.Model(inputs, layers.Add()([inputs * 0, mean]))


def assert_close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.numeric
@pytest.mark.backend
@pytest.mark.parametrize(
    ("tile", "overlap"),
    [
        (16, 8),
        (24, 9),  # an odd overlap
        (16, 14),  # eight tiles over a pixel
        ((20, 33), (8, 11)),
        ((16, 70), 8),  # as wide as the image
        ((60, 16), (8, 8)),  # taller than the image
        (400, 300),  # one tile
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_prediction_is_that_of_the_whole_image(tile, overlap, batch_size):
    """A receptive field of 7 pixels is smaller than an overlap of 8."""
    model = convolutions(3)
    scores = predict(model, IMAGE, tile, overlap, batch_size=batch_size)
    assert scores.dtype == "float32"
    assert_close(scores, whole(model))


@pytest.mark.numeric
@pytest.mark.backend
def test_a_field_above_the_overlap_is_seen():
    """The test above would detect one pixel more, or a smaller margin."""
    model = convolutions(4)
    error = np.abs(predict(model) - whole(model)).max(axis=-1)
    assert error.max() > 1e-3
    # The interior of a tile is exact.
    assert error[:11, :11].max() < 1e-5
    model = convolutions(3)
    assert np.abs(predict(model, margin=2) - whole(model)).max() > 1e-3
    assert_close(predict(model, overlap=10, margin=3), whole(model))
    assert_close(predict(model, overlap=6, margin=3), whole(model))


@pytest.mark.numeric
@pytest.mark.parametrize("tile", [60, (56, 64)])
@pytest.mark.parametrize("build", [pooled_twice, strided])
def test_pooling_windows_are_those_of_the_whole_image(build, tile):
    model = build()
    image = np.tile(IMAGE, (3, 2, 1))[:124, :132]
    scores = predict(model, image, tile, 33)
    assert_close(scores, whole(model, image))


def test_pooling_out_of_step_is_seen():
    model = pooled_twice()
    image = np.tile(IMAGE, (3, 2, 1))[:124, :132]
    scores = predict(model, image, 50, 33, stride=1)
    assert np.abs(scores - whole(model, image)).max() > 1e-2


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((121, 130), 60),
        ((122, 133), (58, 63)),
        pytest.param((123, 131), 60, marks=pytest.mark.slow),
        pytest.param((123, 131), (58, 63), marks=pytest.mark.slow),
    ],
)
def test_other_sizes_are_exact_but_near_the_end(size, tile):
    """The last tiles are padded, and inner ones end within a window."""
    model = pooled_twice()
    image = np.tile(IMAGE, (3, 2, 1))[: size[0], : size[1]]
    scores = predict(model, image, tile, 33)
    expected = whole(model, image)
    assert scores.shape == expected.shape
    assert_close(scores[:-16, :-16], expected[:-16, :-16])
    assert np.isfinite(scores).all()


@pytest.mark.numeric
@pytest.mark.backend
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_tiles_of_an_axis(data):
    stride = data.draw(st.integers(1, 8), "stride")
    tile = data.draw(st.integers(stride, 60), "tile")
    whole_windows = tile // stride * stride
    overlap = data.draw(st.integers(0, whole_windows - stride), "overlap")
    margin = data.draw(st.integers(0, overlap // 2), "margin")
    size = data.draw(st.integers(tile, 300), "size")
    axis = tiled._Axis.of(size, tile, overlap, margin, stride)
    sums = np.zeros(size)
    for number, start in enumerate(axis.starts):
        inside, shares = axis.weights(number)
        assert len(shares) == inside.stop - inside.start
        assert (shares >= 0).all()
        sums[inside] += shares
        # A tile contributes to its margin only at the ends of the image.
        is_first, is_last = number == 0, number + 1 == len(axis.starts)
        assert inside.start >= start + (0 if is_first else margin)
        if is_last:
            assert inside.stop == size
        else:
            assert inside.stop <= start + whole_windows - margin
            shared = start + whole_windows - axis.starts[number + 1]
            assert overlap <= shared < whole_windows
        assert start % stride == 0
    assert axis.starts[0] == 0
    assert size <= axis.starts[-1] + tile < size + stride
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    # There are not more tiles than necessary.
    hop = (whole_windows - overlap) // stride * stride
    assert len(axis.starts) <= 2 + (size - tile) // hop


@pytest.mark.numeric
@pytest.mark.backend
@pytest.mark.parametrize(
    ("margin", "shares"),
    [
        (0, [1, 1, 0.9, 0.7, 0.5, 0.3, 0.1, 0, 0]),
        (1, [1, 1, 1, 5 / 6, 0.5, 1 / 6, 0, 0, 0]),
        (None, [1, 1, 1, 1, 0.5, 0, 0, 0, 0]),
    ],
)
def test_tiles_fade_into_each_other(margin, shares):
    """Two tiles of 7 share 5 pixels. The second is brighter by 2/7."""
    image = np.zeros((3, 9, 1), "float32")
    image[:, -2:] = 1
    if margin is not None:
        margin = (0, margin)
    scores = predict(mean_of_tile(), image, (3, 7), (0, 5), margin=margin)
    expected = (1 - np.array(shares)) * 2 / 7
    np.testing.assert_allclose(scores[1, :, 0], expected, atol=1e-6)


def test_class_ids_are_of_the_largest_score():
    model = convolutions(3)
    class_ids = predict(model, class_ids=True)
    assert class_ids.dtype == "uint8"
    np.testing.assert_array_equal(class_ids, predict(model).argmax(-1))
    many = convolutions(1, num_classes=300)
    class_ids = predict(many, class_ids=True)
    assert class_ids.dtype == "int32"
    assert class_ids.max() > 255


class Slices:
    """An array that supports only slices, and records them."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read, self.written = [], []

    def __getitem__(self, window):
        rows, columns = window
        self.read.append((rows.stop - rows.start, columns.stop - columns.start))
        return self.array[window]

    def __setitem__(self, rows, values):
        self.written.append((rows.start, rows.stop))
        assert values.dtype == self.dtype
        assert values.shape == self.array[rows].shape
        self.array[rows] = values


@pytest.mark.parametrize("class_ids", [False, True])
def test_image_is_read_by_tiles_and_rows_are_written_once(class_ids):
    model = convolutions(3)
    image = Slices(IMAGE)
    shape, dtype = ((45, 70), "int16") if class_ids else ((45, 70, 4), "f8")
    output = Slices(np.full(shape, 99, dtype))
    result = predict(model, image, output=output, class_ids=class_ids)
    assert result is output
    assert set(image.read) == {(16, 16)}
    stops = [0, *(stop for _, stop in output.written)]
    assert [start for start, _ in output.written] == stops[:-1]
    assert stops[-1] == 45
    assert len(stops) == 6
    expected = predict(model, class_ids=class_ids)
    np.testing.assert_array_equal(output.array, expected)


@pytest.fixture
def _frequent_collections():
    """Collect garbage often; tests/conftest.py reduces its frequency.

    On PyTorch, Keras flattens structures with `torch.utils._pytree`, whose
    local functions refer to themselves. Each call leaves a cycle that holds the
    tiles until the garbage collector runs.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100, 10, 10)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("_frequent_collections")
def test_memory_does_not_grow_with_the_height(tmp_path):
    """Memory holds the scores of one row of tiles."""
    model = convolutions(1, (32, 32), num_classes=20)
    predict(model, IMAGE, None, 8)

    def peak(height):
        image = np.memmap(
            tmp_path / "image", "uint8", "w+", shape=(height, 200, 3)
        )
        output = np.memmap(
            tmp_path / "scores", "float32", "w+", shape=(height, 200, 20)
        )
        tracemalloc.start()
        predict(model, image, None, 8, output=output)
        [_, most] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    band = 32 * 200 * 20 * 4
    small, large = peak(100), peak(400)
    assert band < small < 2 * band
    assert large < 1.2 * small


def test_from_file_to_file(tmp_path):
    model = convolutions(3)
    np.save(tmp_path / "image.npy", IMAGE)
    output = np.memmap(tmp_path / "classes", "uint8", "w+", shape=(45, 70))
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    result = predict(model, image, class_ids=True, output=output)
    assert result is output
    output.flush()
    written = np.fromfile(tmp_path / "classes", "uint8").reshape(45, 70)
    np.testing.assert_array_equal(written, whole(model).argmax(-1))


class FakeRaster:
    """The part of rasterio's datasets that the package uses."""

    def __init__(self, bands, dtype):
        self.bands = bands
        self.count, self.height, self.width = bands.shape
        self.shape = bands.shape[1:]
        self.dtypes = (dtype,) * self.count

    def read(self, window):
        assert isinstance(window, tuple)  # rasterio rejects lists
        (top, bottom), (left, right) = window
        return self.bands[:, top:bottom, left:right]

    def write(self, bands, window):
        assert bands.dtype == self.dtypes[0]
        assert len(bands) == self.count
        (top, bottom), (left, right) = window
        self.bands[:, top:bottom, left:right] = bands


@pytest.mark.numeric
@pytest.mark.backend
def test_raster():
    model = convolutions(3)
    image = FakeRaster(np.moveaxis(IMAGE, -1, 0), "uint8")
    scores = FakeRaster(np.zeros((4, 45, 70), "float32"), "float32")
    assert predict(model, image, output=scores) is scores
    assert_close(np.moveaxis(scores.bands, 0, -1), whole(model))
    classes = FakeRaster(np.zeros((1, 45, 70), "uint8"), "uint8")
    predict(model, image, class_ids=True, output=classes)
    np.testing.assert_array_equal(classes.bands[0], whole(model).argmax(-1))
    with pytest.raises(ValueError, match="`output` must have the shape"):
        predict(model, image, class_ids=True, output=scores)


@pytest.mark.numeric
@pytest.mark.backend
@pytest.mark.filterwarnings("ignore")  # about a missing georeference
def test_raster_of_rasterio(tmp_path):
    model = convolutions(3)
    profile = dict(driver="GTiff", height=45, width=70, tiled=True)
    profile |= dict(blockxsize=16, blockysize=16, compress="deflate")
    path = tmp_path / "image.tif"
    with rasterio.open(path, "w", count=3, dtype="uint8", **profile) as image:
        image.write(np.moveaxis(IMAGE, -1, 0))
    path = tmp_path / "classes.tif"
    with (
        rasterio.open(tmp_path / "image.tif") as image,
        rasterio.open(path, "w", count=1, dtype="uint8", **profile) as output,
        rasterio.open(
            tmp_path / "scores.tif", "w", count=4, dtype="float32", **profile
        ) as scores,
    ):
        predict(model, image, class_ids=True, output=output)
        predict(model, image, output=scores)
        with pytest.raises(ValueError, match="must not be the image"):
            predict(model, image, class_ids=True, output=image)
    with (
        rasterio.open(tmp_path / "image.tif") as image,
        rasterio.open(tmp_path / "image.tif") as read_only,
        pytest.raises(ValueError, match="can be written"),
    ):
        predict(model, image, class_ids=True, output=read_only)
    with rasterio.open(path) as written:
        np.testing.assert_array_equal(written.read(1), whole(model).argmax(-1))
    with rasterio.open(tmp_path / "scores.tif") as written:
        assert_close(np.moveaxis(written.read(), 0, -1), whole(model))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_all_batches_have_one_shape(monkeypatch, batch_size):
    model = convolutions(3)
    shapes = []
    known = model.predict_on_batch

    def watched(images):
        shapes.append(images.shape)
        assert images.dtype == "float32"
        return known(images)

    monkeypatch.setattr(model, "predict_on_batch", watched)
    predict(model, batch_size=batch_size)
    assert set(shapes) == {(batch_size, 16, 16, 3)}
    # 5 rows of 8 tiles
    assert len(shapes) == 5 * -(-8 // batch_size)


@pytest.mark.numeric
@pytest.mark.backend
def test_model_of_one_size():
    model = convolutions(3, (16, 20))
    any_size = convolutions(3)
    any_size.set_weights(model.get_weights())
    assert_close(predict(model, IMAGE, None, 8), whole(any_size))
    assert_close(predict(model, IMAGE, (16, 20), 8), whole(any_size))
    # An image smaller than a tile is exact, except near its end.
    small = IMAGE[:9, :70]
    scores = predict(model, small, None, 8)
    assert scores.shape == (9, 70, 4)
    assert_close(scores[:-3], whole(any_size, small)[:-3])
    # The padding is mirrored, not black.
    mirrored = np.pad(small, [(0, 7), (0, 0), (0, 0)], "symmetric")
    assert_close(scores, whole(any_size, mirrored)[:9])
    assert predict(model, IMAGE[:1, :1], None, 8).shape == (1, 1, 4)


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.backend
def test_small_image_is_one_tile_of_its_size():
    model = pooled_twice()
    image = IMAGE[:13, :11]
    assert_close(predict(model, image, 40, 20), whole(model, image))
    assert_close(
        predict(model, IMAGE[:1, :1], 40, 20), whole(model, IMAGE[:1, :1])
    )


@pytest.mark.numeric
@pytest.mark.backend
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float16", "f8"])
def test_image_of_any_number_dtype(dtype):
    model = convolutions(3)
    assert_close(predict(model, IMAGE.astype(dtype)), whole(model))


@pytest.mark.numeric
@pytest.mark.backend
def test_image_may_be_a_tensor_or_a_list():
    model = convolutions(3)
    tensor = keras.ops.convert_to_tensor(IMAGE)
    assert_close(predict(model, tensor), whole(model))
    assert_close(predict(model, IMAGE.tolist()), whole(model))


def stem(size=(None, None)):
    inputs = keras.Input((*size, 3))
    x = layers.MaxPooling2D(3)(inputs)
    return keras.Model(inputs, layers.UpSampling2D(3)(x))


def thinned(size=(None, None)):
    """A model that reduces three pixels to two, and restores them."""
    inputs = keras.Input((*size, 3))
    x = layers.UpSampling2D(2)(layers.MaxPooling2D(3)(inputs))
    x = layers.UpSampling2D(3)(layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "size", [(None, None), pytest.param((48, 60), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("build", "stride"),
    [
        (lambda size: models.SegNet((*size, 3), 4), 32),
        (lambda size: models.SegNetBasic((*size, 3), 4), 16),
        (lambda size: models.ENet((*size, 3), 4), 8),
        (lambda size: models.FullResolutionNet((*size, 3), 4), 1),
        (lambda size: pooled_twice(size), 4),
        (stem, 3),
        (thinned, 3),
        # Inner models: whole networks, and a part of one.
        (lambda size: keras.Sequential([keras.Input((*size, 3)), stem()]), 3),
        (
            lambda size: keras.Sequential(
                [keras.Input((*size, 3)), layers.MaxPooling2D(2), stem()]
            ),
            6,
        ),
    ],
)
def test_stride_is_found(monkeypatch, build, stride, size):
    networks.make_slim(monkeypatch)
    model = build(size)
    assert tiled.stride_of(model) == stride


def test_stride_that_cannot_be_read():
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, inputs + np.ones((16, 16, 3), "float32"))
    with pytest.raises(ValueError, match="`stride` must be given"):
        predict(model, tile=None)
    np.testing.assert_array_equal(
        predict(model, tile=None, stride=1), IMAGE + 1.0
    )


@pytest.mark.parametrize("stride", [17, 128])
def test_stride_that_the_probe_does_not_divide_by(stride):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.AveragePooling2D(stride),
            layers.UpSampling2D(stride),
        ]
    )
    with pytest.raises(ValueError, match="is not a multiple of the stride"):
        tiled.stride_of(model)


def test_progress_bar_counts_tiles(capsys):
    model = convolutions(1)
    tiled.predict_tiled(model, IMAGE, 32, 4)
    assert "6/6" in capsys.readouterr().out
    predict(model)
    assert capsys.readouterr().out == ""


def test_scores_that_are_not_finite_are_refused():
    model = convolutions(1)
    output = np.zeros((45, 70, 4), "float32")
    image = np.float32(IMAGE)
    image[40, 60] = np.nan
    with pytest.raises(ValueError, match=r"finite scores.*row 29.*columns"):
        predict(model, image, output=output)
    # Finished rows are kept.
    assert output[:28].any()


OTHER = keras.Input((16, 16, 3))


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (lambda: "model", {}, "`model` must be a built"),
        (
            lambda: keras.Model(OTHER, [OTHER, OTHER + 1]),
            {},
            "one input and one output",
        ),
        (
            lambda: keras.Model(OTHER, layers.Flatten()(OTHER)),
            {},
            "`model` must map images",
        ),
        (
            lambda: keras.Model(OTHER, layers.MaxPooling2D()(OTHER)),
            dict(tile=None),
            "`model` must return scores for each pixel",
        ),
        (lambda: convolutions(1, (16, 20)), {}, "`tile` must be the size"),
        (lambda: convolutions(1), dict(tile=None), "`tile` must be given"),
        (lambda: convolutions(1), dict(tile=0), "`tile` must be an int or"),
        (lambda: convolutions(1), dict(tile="9"), "`tile` must be an int or"),
        (lambda: convolutions(1), dict(overlap=-1), "`overlap` must be"),
        (lambda: convolutions(1), dict(overlap=16), "smaller than the tile"),
        (pooled_twice, dict(overlap=13), "by at least the stride, 4"),
        (pooled_twice, dict(tile=3), "by at least the stride, 4"),
        (lambda: convolutions(1), dict(margin=5), "at most half of"),
        (lambda: convolutions(1), dict(margin=-1), "`margin` must be"),
        (lambda: convolutions(1), dict(stride=0), "`stride` must be"),
        (lambda: convolutions(1), dict(batch_size=0), "`batch_size` must be"),
        (lambda: convolutions(1), dict(class_ids=1), "`class_ids` must be"),
        (
            lambda: convolutions(1, num_classes=1),
            dict(class_ids=True),
            "False for a model with one score per pixel",
        ),
        (lambda: convolutions(1), dict(image=IMAGE[None]), "one image"),
        (lambda: convolutions(1), dict(image=IMAGE[..., :2]), "3 channels"),
        (lambda: convolutions(1), dict(image=IMAGE[:0]), "at least one pixel"),
        (lambda: convolutions(1), dict(image="a.tif"), "Open a file first"),
        (lambda: convolutions(1), dict(image=IMAGE > 9), "ints or floats"),
        (
            lambda: convolutions(1),
            dict(output=np.zeros((45, 70))),
            r"`output` must have the shape \(45, 70, 4\)",
        ),
        (
            lambda: convolutions(1),
            dict(output=np.zeros((45, 70, 4), "uint8")),
            "hold float32 or float64",
        ),
        (
            lambda: convolutions(1, num_classes=200),
            dict(output=np.zeros((45, 70), "int8"), class_ids=True),
            "ints up to 199",
        ),
        (
            lambda: convolutions(1),
            dict(output=np.broadcast_to(np.float32(0), (45, 70, 4))),
            "can be written to",
        ),
        (
            lambda: convolutions(1),
            dict(output="a.npy"),
            "`output` must be an array",
        ),
        (
            lambda: models.DeconvNet((None, None, 3), 4, fc_units=8),
            dict(image=np.zeros((40, 40, 3)), tile=224),
            "`tile` must be a size that the model takes",
        ),
    ],
)
def test_mistakes(monkeypatch, build, options, message):
    networks.make_slim(monkeypatch)
    with pytest.raises(ValueError, match=message):
        predict(build(), **options)


@pytest.mark.slow
def test_inside_a_compiled_function():
    if keras.config.backend() != "tensorflow":
        pytest.skip("of TensorFlow")
    import tensorflow as tf

    model = convolutions(1)
    with pytest.raises(ValueError, match="cannot be compiled"):
        tf.function(lambda image: predict(model, image))(tf.constant(IMAGE))


def test_the_image_is_no_output():
    image = np.zeros((40, 40, 3), "float32")
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)]
    )
    for output in (image, image[:]):
        with pytest.raises(ValueError, match="`output` must not be the image"):
            tiled.predict_tiled(model, image, 16, 8, output=output, verbose=0)
