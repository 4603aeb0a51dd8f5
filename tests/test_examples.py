"""The main job and the other examples, as a user runs them."""

import json
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.paths import ROOT

EXAMPLES = ROOT / "examples"
SCRIPT = EXAMPLES / "train_segnet.py"

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


@pytest.mark.slow
def test_smoke_run_reports_and_writes_everything(smoke):
    folder, printed = smoke
    for words in ("mIoU", "pavement", "validation", "Saved model.keras"):
        assert words in printed
    assert (folder / "predictions.png").stat().st_size > 10_000


@pytest.mark.slow
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


@pytest.mark.slow
def test_model_file_loads_in_a_new_process(smoke, tmp_path, rng):
    folder, _ = smoke
    images = rng.uniform(0, 255, (2, 48, 64, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    model = folder / "model.keras"
    arguments = [model, tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True)
    here = keras.saving.load_model(model).predict(images, verbose=0)
    np.testing.assert_allclose(np.load(arguments[2]), here, atol=1e-5)


def run_example(name, folder, *arguments):
    return subprocess.run(
        [
            *[sys.executable, EXAMPLES / name, *arguments],
            *["--data-dir", folder / "tfds", "--output", folder / "out"],
        ],
        capture_output=True,
        text=True,
    )


# why_unpooling.py is run by test_story.py, and both by CI as notebooks.
@pytest.mark.slow
def test_unpooling_is_drawn(tmp_path):
    result = run_example("unpooling_pictures.py", tmp_path, "--smoke")
    assert result.returncode == 0, result.stderr[-3000:]
    drawn = {picture.name for picture in (tmp_path / "out").iterdir()}
    assert drawn == {
        *("grids.png", "index_formats.png", "odd_sizes.png"),
        *("feature_map.png", "matrix.png"),
    }
    for name in drawn:
        assert (ROOT / "docs" / "images" / name).exists()


@pytest.mark.slow
def test_decoders_are_compared(tmp_path):
    result = run_example("compare_decoders.py", tmp_path, "--smoke")
    assert result.returncode == 0, result.stderr[-3000:]
    folder = tmp_path / "out"
    report = json.loads((folder / "table.json").read_text())
    rows = report["rows"]
    assert set(rows) == {
        *("max_unpool", "bed_of_nails", "nearest", "conv_transpose")
    }
    for decoder, row in rows.items():
        assert decoder in (folder / "table.md").read_text()
        for name in ("mean_iou", "boundary_f1"):
            assert len(row[name]) == report["seeds"]
            assert all(0 <= score <= 1 for score in row[name])
    # One byte per window of four; 64 channels, four stages.
    windows = sum((48 // 2**n) * (64 // 2**n) for n in (1, 2, 3, 4))
    assert rows["max_unpool"].pop("index_bytes") == 64 * windows
    assert not any(row.get("index_bytes") for row in rows.values())
    # Of float32, and four cells to a window.
    assert report["skip_bytes"] == 16 * 64 * windows
    assert (folder / "scores.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("compare_decoders.py", ["--seeds", "0"], "must be at least 1"),
        ("why_unpooling.py", ["--camvid", "nowhere"], "nowhere is no folder"),
    ],
)
def test_mistake_ends_in_one_sentence(
    tmp_path, name, arguments, words, monkeypatch, capsys
):
    script = str(EXAMPLES / name)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert end.value.code == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
