"""Layers, models, losses, metrics and `fit` on JAX and PyTorch alone."""

import os
import subprocess
import sys

import pytest

from tests.processes import without_tensorflow

EVERYTHING = """\
import sys
import numpy as np
import keras
import keras_deconv
from keras_deconv import callbacks, config, inference, initializers, losses
from keras_deconv import metrics, models, ops, visualize

images = np.random.default_rng(0).uniform(0, 255, (2, 8, 12, 3))
masks = (images[..., 0] > images[..., 1]).astype("int32")
pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(images)
keras_deconv.MaxUnpool2D()(pooled, argmax)
keras_deconv.NearestUnpool2D()(pooled)
keras_deconv.BedOfNailsUnpool2D()(pooled)
ops.max_unpool(pooled, ops.convert_argmax(
    argmax, "window", "plane", input_size=(8, 12)), index_format="plane")

inputs = keras.Input((8, 12, 3))
x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(x)
x = models.unpool_stage(pooled, x, argmax, name="decoder1")
small = keras.Model(inputs, keras.layers.Conv2D(2, 1)(x))
small.compile("adam", losses.SegmentationCrossentropy(), metrics=[
    metrics.GlobalAccuracy(num_classes=2), metrics.ClassAccuracy(num_classes=2),
    metrics.MeanIoU(num_classes=2), metrics.BoundaryF1(num_classes=2)])
small.fit(images, masks, verbose=0)
scores = small.evaluate(images, masks, verbose=0, return_dict=True)
assert all(map(np.isfinite, scores.values())), scores
for loss in (losses.SegmentationFocal(), losses.SegmentationDice(),
             losses.SegmentationTversky()):
    assert np.isfinite(float(loss(masks, small(images))))
assert small.predict(images, verbose=0).shape == (2, 8, 12, 2)
small.save(sys.argv[1])
keras.saving.load_model(sys.argv[1])

with keras.StatelessScope(initialize_variables=False):
    for name in ("SegNet", "BayesianSegNetBasic", "ENet", "ReLayNet"):
        getattr(models, name)((16, 24, 3), num_classes=2)
keras.utils.clear_session(free_memory=False)

assert "tensorflow" not in sys.modules
try:
    keras_deconv.data
except ImportError as error:
    assert "keras_deconv.data reads datasets with TensorFlow" in str(error)
else:
    raise AssertionError("tensorflow was found")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_everything_but_data_and_exports(backend, tmp_path):
    pytest.importorskip(backend)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", EVERYTHING, tmp_path / "model.keras"],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            **without_tensorflow(hidden),
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
