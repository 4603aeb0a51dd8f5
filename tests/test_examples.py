"""The main job, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "train_segnet.py"

# Loads a model as a user would, who has imported keras_deconv and no more.
LOAD = """
import sys, keras, keras_deconv, numpy as np
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""

# Runs as a server would: with TensorFlow alone.
SERVE = """
import sys
import numpy as np
import tensorflow as tf
folder, images, predictions = sys.argv[1:]
model = tf.saved_model.load(folder)
np.save(predictions, model.serve(np.load(images)))
if "keras_deconv" in sys.modules:
    sys.exit("the SavedModel needed keras_deconv")
"""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    result = subprocess.run(
        [
            *[sys.executable, SCRIPT, "--smoke"],
            *["--data-dir", folder / "tfds", "--output", folder / "runs"],
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "runs", result.stdout


def test_smoke_run_reports_and_writes_everything(smoke):
    folder, printed = smoke
    for words in ("mIoU", "pavement", "validation", "Saved model.keras"):
        assert words in printed
    assert (folder / "predictions.png").stat().st_size > 10_000


def test_saved_model_predicts_without_keras_deconv(smoke, tmp_path, rng):
    folder, _ = smoke
    images = rng.uniform(0, 255, (2, 48, 64, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    saved = folder / "saved_model"
    arguments = [saved, tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", SERVE, *arguments], check=True)
    model = keras.saving.load_model(folder / "model.keras")
    here = model.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(arguments[2]), here, atol=1e-3)


def test_model_file_loads_in_a_new_process(smoke, tmp_path, rng):
    folder, _ = smoke
    images = rng.uniform(0, 255, (2, 48, 64, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    model = folder / "model.keras"
    arguments = [model, tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True)
    here = keras.saving.load_model(model).predict(images, verbose=0)
    np.testing.assert_allclose(np.load(arguments[2]), here, atol=1e-5)
