"""Every network learns, in every precision, and comes back from a file."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import inference, losses, models
from tests import networks
from tests.networks import NETWORKS

pytestmark = [pytest.mark.oldest]

NAMES = list(NETWORKS)
MODES = [
    ("float32", False),
    ("float32", True),
    ("mixed_float16", False),
    ("mixed_float16", True),
    ("mixed_bfloat16", False),
    ("mixed_bfloat16", True),
]


@pytest.fixture
def policies():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def examples(name):
    """Inputs and targets of the network, from four drawn scenes."""
    network = NETWORKS[name]
    if name == "PatchClassifier":
        return networks.patches(network.size, *networks.scenes((16, 24)))
    return networks.scenes(network.size)


def build(name):
    network = NETWORKS[name]
    size = network.size if network.known_size else (None, None)
    return network.build((*size, 3))


def compiled(name, jit_compile):
    decay = keras.optimizers.schedules.CosineDecay(
        NETWORKS[name].learning_rate, NETWORKS[name].steps
    )
    model = build(name)
    model.compile(
        keras.optimizers.Adam(decay),
        losses.SegmentationCrossentropy(),
        jit_compile=jit_compile,
    )
    return model


def fits(name, policy, jit_compile):
    keras.config.set_dtype_policy(policy)
    model = compiled(name, jit_compile)
    x, y = (array[:4] for array in examples(name))
    before = [np.array(w) for w in model.trainable_weights]
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    # In half precision a first step can overflow, and is then left out.
    if policy != "mixed_float16":
        changed = [
            np.any(old != np.array(new))
            for old, new in zip(before, model.trainable_weights, strict=True)
        ]
        assert np.mean(changed) > 0.9
    assert model.output.dtype == "float32"


# CI has SegNetBasic, and all networks are tested before a release.
@pytest.mark.slow
@pytest.mark.release
def test_a_network_fits_compiled_in_half_precision(monkeypatch, policies):
    one_stage = networks.Network(lambda _: networks.one_stage((32, 48)))
    monkeypatch.setitem(NETWORKS, "one stage", one_stage)
    fits("one stage", "mixed_bfloat16", jit_compile=True)


@pytest.mark.slow
@pytest.mark.release
def test_slim_network_fits_compiled_in_half_precision(monkeypatch, policies):
    networks.make_slim(monkeypatch)
    fits("SegNetBasic", "mixed_bfloat16", jit_compile=True)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("policy", "jit_compile"), MODES)
def test_network_fits(name, policy, jit_compile, policies):
    fits(name, policy, jit_compile)


def overfits(name, path):
    """Learn four images by heart; then save, load, and compare."""
    model = compiled(name, jit_compile=False)
    x, y = examples(name)
    batch_size = math.ceil(len(x) / 4) if name == "PatchClassifier" else 4
    epochs = NETWORKS[name].steps * batch_size // len(x)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)
    models.recompute_batch_statistics(model, batches, verbose=0)
    if name == "PatchClassifier":
        x, y = networks.scenes((16, 24))
        logits = inference.predict_sliding_window(model, x, verbose=0)
    else:
        logits = model.predict(x, verbose=0)
    counted = y != 255
    accuracy = (logits.argmax(-1) == y)[counted].mean()
    assert accuracy > 0.97, accuracy

    x = examples(name)[0][:2]
    expected = model.predict(x, verbose=0)
    model.save(path / "model.keras")
    loaded = keras.saving.load_model(path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4
    )
    model.export(path / "saved_model", verbose=False)
    served = tf.saved_model.load(path / "saved_model")
    np.testing.assert_allclose(served.serve(x), expected, rtol=1e-4, atol=1e-4)


# The Bayesian ones are their parents, with dropout.
@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    "name", [name for name in NAMES if "Bayesian" not in name]
)
def test_slim_network_overfits_and_is_saved(name, monkeypatch, tmp_path):
    networks.make_slim(monkeypatch)
    overfits(name, tmp_path)


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("name", NAMES)
def test_network_overfits_and_is_saved(name, tmp_path):
    overfits(name, tmp_path)
