"""Prediction of photos: inputs, sizes and mirror images."""

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from keras import layers

from keras_deconv import inference
from keras_deconv.inference import photos
from keras_deconv.inference._scores import predict_probabilities
from tests.inference.test_tiled import pooled_twice
from tests.tiny_datasets import write_png

SIZE = (16, 24)
PHOTO = np.random.default_rng(1).integers(0, 256, (37, 50, 3), "uint8")


def neighbors(kernel_size, size=(None, None), channels=3, num_classes=4):
    """A model that is not symmetric, with a given receptive field."""
    inputs = keras.Input((*size, channels))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(seed=3),
    )(x)
    return keras.Model(inputs, x)


def dense(size):
    """A model that takes only one size."""
    inputs = keras.Input((*size, 3))
    x = layers.Dense(size[0] * size[1] * 2)(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Reshape((*size, 2))(x))


def masks(model, images, **options):
    return [found.mask for found in inference.predict(model, images, **options)]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.numeric
@pytest.mark.backend
@pytest.mark.parametrize("kernel_size", [1, (1, 3)])
def test_the_mirror_image_is_averaged(kernel_size):
    model = neighbors(kernel_size)
    batch = np.float32(PHOTO[None])
    [there, back] = (
        softmax(keras.ops.convert_to_numpy(model(x)))
        for x in (batch, batch[:, :, ::-1])
    )
    expected = (there + back[:, :, ::-1]) / 2
    # Mirroring does not affect a model of single pixels.
    assert np.allclose(expected, there, atol=1e-6) == (kernel_size == 1)
    found = predict_probabilities(model, batch)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    found = inference.predict_tiled(model, PHOTO, 16, 8, flip=True, verbose=0)
    np.testing.assert_allclose(found, expected[0], atol=1e-6)
    for options in ({"tile": 16, "overlap": 8}, {"image_size": "original"}):
        [mask] = masks(model, PHOTO, flip=True, **options)
        assert (mask == expected[0].argmax(-1)).mean() > 0.999


@pytest.mark.numeric
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_probabilities_are_averaged_as_they_are(scores):
    logits = neighbors((1, 3))
    model = keras.Model(
        logits.inputs[0], layers.Activation(scores)(logits.outputs[0])
    )
    batch = np.float32(PHOTO[None])
    mirrored = model.predict_on_batch(batch[:, :, ::-1])[:, :, ::-1]
    expected = (model.predict_on_batch(batch) + mirrored) / 2
    np.testing.assert_allclose(predict_probabilities(model, batch), expected)


@pytest.mark.backend
@pytest.mark.numeric
@pytest.mark.parametrize(
    "options",
    [
        {"image_size": "original"},
        pytest.param({"tile": 40, "overlap": 36}, marks=pytest.mark.slow),
    ],
)
def test_a_model_of_one_size_predicts_others(options):
    """It uses the same layers as a model for any size."""
    free, fixed = pooled_twice(), pooled_twice(SIZE)
    fixed.set_weights(free.get_weights())
    photo = np.resize(PHOTO, (40, 60, 3))
    expected = free.predict_on_batch(np.float32(photo[None]))[0].argmax(-1)
    [mask] = masks(fixed, photo, **options)
    assert (mask == expected).mean() > 0.999
    assert fixed.input_shape[1:3] == SIZE
    # Calls share one graph.
    models = [photos.labeler(fixed, **options).model for _ in range(2)]
    assert models[0] is models[1]


def test_a_layer_of_one_size_is_said():
    model = dense((6, 8))
    for options in ({"image_size": "original"}, {"tile": 16}):
        with pytest.raises(ValueError, match=r"of 6x8 pixels.*tile=\(6, 8\)"):
            inference.predict(model, PHOTO, **options)
    assert masks(model, PHOTO, tile=(6, 8), overlap=1)[0].shape == (37, 50)
    inputs = keras.Input((6, 8, 3))
    model = keras.Model(inputs, layers.Resizing(6, 8)(inputs))
    with pytest.raises(ValueError, match="always returns scores of shape"):
        inference.predict(model, PHOTO, image_size=(12, 16))


@pytest.mark.numeric
@pytest.mark.parametrize(
    "options",
    [
        {"image_size": "original"},
        pytest.param({"tile": 64}, marks=pytest.mark.slow),
    ],
)
def test_a_network_that_rounds_sizes_down_sees_a_photo_filled_up(options):
    """Many U-Nets round down; they would fail, or stretch scores."""
    model = rounding(SIZE)
    [mask] = masks(model, PHOTO, **options)
    filled = np.pad(PHOTO, [(0, 1), (0, 0), (0, 0)], "symmetric")
    free = rounding((None, None))
    free.set_weights(model.get_weights())
    expected = free.predict_on_batch(np.float32(filled[None]))[0].argmax(-1)
    np.testing.assert_array_equal(mask, expected[:-1])
    [mask] = masks(model, PHOTO[:1, :1], **options)
    assert mask.shape == (1, 1)


def rounding(size):
    inputs = keras.Input((*size, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.UpSampling2D()(layers.MaxPooling2D()(x))
    return keras.Model(inputs, layers.Concatenate()([x, inputs]))


def test_sizes():
    sizes = []

    class Seen(layers.Layer):
        def call(self, x):
            sizes.append(tuple(x.shape[1:3]))
            return x

    def model_of(size):
        inputs = keras.Input((*size, 3))
        model = keras.Model(inputs, Seen()(inputs))
        model.run_eagerly = True
        sizes.clear()
        return model

    for size, image_size, seen in (
        (SIZE, None, SIZE),
        (SIZE, SIZE, SIZE),
        ((None, None), None, PHOTO.shape[:2]),
        ((None, None), "original", PHOTO.shape[:2]),
        ((None, None), SIZE, SIZE),
    ):
        model = model_of(size)
        [mask] = masks(model, PHOTO, image_size=image_size)
        assert mask.shape == PHOTO.shape[:2]
        assert sizes[-1] == seen


def test_files_folders_and_arrays(tmp_path):
    model = neighbors(3, SIZE)
    turned = tmp_path / "photos" / "b" / "turned.png"
    write_png(tmp_path / "photos" / "a.png", PHOTO)
    (tmp_path / "photos" / "notes.txt").touch()
    turned.parent.mkdir()
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    lying = np.ascontiguousarray(PHOTO.swapaxes(0, 1)[::-1])
    PIL.Image.fromarray(lying).save(turned, exif=exif)
    [expected] = masks(model, PHOTO)
    found = list(inference.predict(model, str(tmp_path / "photos")))
    assert [p.path for p in found] == [tmp_path / "photos" / "a.png", turned]
    for prediction in found:
        np.testing.assert_array_equal(prediction.image, PHOTO)
        np.testing.assert_array_equal(prediction.mask, expected)
        assert prediction.mask.dtype == "uint8"
    gray = PHOTO[..., 0]
    for images, number in (
        (PHOTO, 1),
        (tf.constant(PHOTO), 1),
        (np.stack([PHOTO] * 2), 2),
        ((image for image in (turned, PHOTO)), 2),
        (str(turned), 1),
    ):
        same = masks(model, images)
        assert len(same) == number
        assert all((mask == expected).all() for mask in same)
    np.testing.assert_array_equal(
        *masks(model, [gray, np.repeat(gray[..., None], 3, -1)])
    )


def test_values_of_more_than_8_bits(tmp_path):
    model = neighbors(3, channels=1)
    gray = PHOTO[..., :1]
    deep = tf.io.encode_png(gray.astype("uint16") * 16).numpy()
    (tmp_path / "deep.png").write_bytes(deep)
    expected = masks(model, gray)
    for images, value_range in (
        (tmp_path / "deep.png", (0, 4080)),
        (gray / np.float32(255), (0, 1)),
        (gray.astype("float64"), (0, 255)),
    ):
        found = masks(model, images, value_range=value_range)
        np.testing.assert_array_equal(found, expected)
        with pytest.raises(ValueError, match="`value_range` must say"):
            masks(model, images)


def test_after_an_error_the_next_image_follows(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = inference.predict(
        neighbors(1), [tmp_path / "broken.png", PHOTO, np.zeros((2, 2, 5))]
    )
    with pytest.raises(ValueError, match=r"broken\.png: The file cannot be"):
        next(found)
    assert next(found).mask.shape == PHOTO.shape[:2]
    with pytest.raises(ValueError, match="The image has 5 channels, but the"):
        next(found)
    assert next(found, None) is None


@pytest.mark.numeric
@pytest.mark.parametrize("size", [(5, 7), (12, 9), (61, 83)])
def test_class_by_class_is_as_all_at_once(size, rng, monkeypatch):
    # Few different values, so that many are equal.
    scores = rng.integers(0, 3, (1, 12, 9, 21)).astype("float32")
    scores[0, :4, :4] = 0
    resize = tf.image.resize
    expected = np.argmax(resize(scores, size)[0], axis=-1)
    num_channels = []

    def watch(images, *arguments):
        num_channels.append(images.shape[-1])
        return resize(images, *arguments)

    monkeypatch.setattr(tf.image, "resize", watch)
    found = photos.most_probable(scores, size)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == "uint8"
    assert set(num_channels) == {1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(model="none.keras"), "`model` must be a folder that keras-dec"),
        (dict(model=None), "`model` must be a built"),
        (dict(model=neighbors(1, num_classes=1)), "2 to 255 classes"),
        (dict(images="none.png"), "a file or a folder that exists"),
        (dict(images="."), "does not contain any"),
        (dict(images=3), "an iterable of file names and arrays"),
        (dict(images=[[1, 2]]), r"images\[0\]: An image must be a file name"),
        (dict(images=[PHOTO > 3]), "dtype bool"),
        (dict(image_size="full"), "'original' or None"),
        (dict(image_size=(0, 4)), "`image_size` must be"),
        (
            dict(model=rounding(SIZE), image_size=(15, 25)),
            r"multiples of its stride, 2, such as \(16, 26\)",
        ),
        (dict(images=[(PHOTO, PHOTO[..., 0])]), "pass only the images"),
        (dict(tile=16, image_size=SIZE), "`tile` cannot be combined with"),
        (dict(tile=0), "`tile` must be an int"),
        (
            dict(
                model=keras.Sequential([rounding(SIZE), layers.Conv2D(2, 1)]),
                tile=SIZE,
            ),
            "pass the stride to keras_deconv.inference.predict_tiled",
        ),
        (dict(overlap=4), "`overlap` requires `tile`"),
        (dict(tile=16, overlap=16), "`overlap` must be smaller than the tile"),
        (dict(flip=1), "`flip` must be"),
        (dict(value_range=3), "`value_range` must be"),
    ],
)
def test_mistakes(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"model": neighbors(1), "images": PHOTO, **arguments}
    with pytest.raises(ValueError, match=words):
        list(inference.predict(**given))


def test_scores_that_are_not_finite_are_said():
    model = neighbors(1)
    model.layers[-1].bias.assign(4 * [np.nan])
    with pytest.raises(ValueError, match=r"images\[0\]: The model's scores"):
        list(inference.predict(model, PHOTO))
