"""Models of one logit: refused with the way out, which gives the same."""

import keras
import numpy as np
import pytest

from keras_deconv import (
    callbacks,
    data,
    export,
    inference,
    losses,
    metrics,
    models,
    visualize,
)

IMAGES = np.zeros((2, 4, 5, 1), "float32")
MASKS = np.zeros((2, 4, 5), "int32")
NAMED = dict(class_names=["road", "car"], palette=[(0, 0, 0), (255, 0, 0)])
NETWORKS = sorted(set(models.__all__) - {"EncoderDecoder"})
NETWORKS = [name for name in NETWORKS if name[0].isupper()]


def one_logit(activation=None):
    """Its logit is the value of the pixel."""
    image = keras.Input((4, 5, 1))
    layer = keras.layers.Conv2D(
        1, 1, use_bias=False, kernel_initializer="ones", activation=activation
    )
    return keras.Model(image, layer(image))


def two_logits(model):
    """Follow the advice of the error messages and of docs/models.md."""
    z = model.output
    zeros = keras.ops.zeros_like(z)
    return keras.Model(model.input, keras.ops.concatenate([zeros, z], axis=-1))


def begin_training(*_):
    preview = callbacks.PredictionPreview(
        [(np.zeros((2, 4, 5, 3)), MASKS)], "nowhere", **NAMED
    )
    preview.set_model(one_logit())
    preview.on_train_begin()


ENTRANCES = {
    **{
        f"models.{name}": lambda _, name=name: getattr(models, name)(
            (224, 224, 3), 1
        )
        for name in NETWORKS
    },
    "models.EncoderDecoder": lambda _: models.EncoderDecoder(
        keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 2, strides=2)]
        ),
        1,
    ),
    **{
        f"losses.{name}": lambda _, name=name: getattr(losses, name)()(
            MASKS, IMAGES
        )
        for name in losses.__all__
    },
    **{
        f"metrics.{name}": lambda _, name=name: getattr(metrics, name)(1)
        for name in metrics.__all__
    },
    **{
        f"metrics.{name}.update_state": lambda _, name=name: getattr(
            metrics, name
        )(2).update_state(MASKS, IMAGES)
        for name in metrics.__all__
    },
    "visualize.draw_predictions": lambda _: visualize.draw_predictions(
        IMAGES, IMAGES, **NAMED
    ),
    "callbacks.PredictionPreview": begin_training,
    "inference.predict_tiled": lambda model: inference.predict_tiled(
        model, IMAGES[0], None, 0, class_ids=True
    ),
    "inference.predict_monte_carlo": lambda model: (
        inference.predict_monte_carlo(model, IMAGES, 2)
    ),
    "data.check": lambda _: data.check([(IMAGES, MASKS)], 1),
    "data.class_frequencies": lambda _: data.class_frequencies(
        [(IMAGES, MASKS)], 1
    ),
}


@pytest.mark.backend
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_one_logit_is_refused_with_the_way_out(entrance):
    with pytest.raises(ValueError, match=r"needs num_classes=2: one ") as error:
        ENTRANCES[entrance](one_logit())
    if "metrics" in entrance and "update" in entrance:
        assert "keras.metrics.BinaryIoU" in str(error.value)


def test_a_saved_model_of_one_logit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs num_classes=2: one "):
        export.to_saved_model(one_logit(), tmp_path / "saved")


@pytest.mark.backend
def test_class_ids_are_not_scores():
    metric = metrics.MeanIoU(2)
    metric.update_state(MASKS, MASKS[..., None])
    metric.update_state(MASKS, MASKS)
    assert float(metric.result()) == 1


@pytest.mark.backend
@pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`")
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_zeros_as_first_logit_give_the_same(activation, tmp_path):
    model = one_logit(activation)
    # A sigmoid is removed first.
    model.layers[-1].activation = keras.activations.linear
    binary = two_logits(model)
    binary.save(tmp_path / "binary.keras")
    binary = keras.saving.load_model(tmp_path / "binary.keras")
    values = [-50, -1, -1e-30, -0.0, 0, 1e-30, 1e-3, 0.5, 1, 50]
    images = np.resize(np.float32(values), (2, 4, 5, 1))
    logits = keras.ops.convert_to_tensor(images[..., 0])
    found = binary(images)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.softmax(found)[..., 1]),
        keras.ops.convert_to_numpy(keras.ops.sigmoid(logits)),
        rtol=1e-5,
    )
    # A logit of 0 is the background.
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(keras.ops.argmax(found, -1)),
        images[..., 0] > 0,
    )
    classes = inference.predict_tiled(
        binary, images[0], None, 0, class_ids=True, verbose=0
    )
    np.testing.assert_array_equal(classes, images[0, ..., 0] > 0)
