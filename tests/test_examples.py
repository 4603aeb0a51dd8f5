"""The main job, as a user runs it."""

import os
import signal
import subprocess
import sys
import time
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


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    result = subprocess.run(
        [
            *[sys.executable, SCRIPT, "--smoke", "--decoder", "max_unpool"],
            *["--data-dir", folder / "tfds", "--output", folder / "runs"],
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "runs", result.stdout


def test_smoke_run_reports_and_writes_everything(smoke):
    folder, printed = smoke
    for words in (
        "Training on",
        "mIoU",
        "pavement",
        "predicts the same in a process without keras_deconv",
    ):
        assert words in printed
    assert (folder / "saved_model" / "saved_model.pb").exists()
    assert (folder / "predictions.png").stat().st_size > 10_000


def test_model_file_loads_in_a_new_process(smoke, tmp_path, rng):
    folder, _ = smoke
    images = rng.uniform(0, 255, (2, 48, 64, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    model = folder / "model.keras"
    arguments = [model, tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True)
    here = keras.saving.load_model(model).predict(images, verbose=0)
    np.testing.assert_allclose(np.load(arguments[2]), here, atol=1e-5)


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True
    )


def test_mistakes_end_in_one_sentence(tmp_path):
    result = run("--image-size", "64")
    assert result.returncode == 2
    assert "must be HEIGHTxWIDTH" in result.stderr
    missing = tmp_path / "missing"
    result = run(
        *["--dataset", "cam_vid", "--manual-dir", missing],
        *["--data-dir", tmp_path / "tfds"],
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert str(missing) in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "integer >= 1"),
        (["--batch-size", "-1"], "integer >= 1"),
        (["--learning-rate", "nan"], "number above 0"),
        (["--learning-rate", "0"], "number above 0"),
        (["--seed", "x"], "integer >= 0"),
        (["--image-size", "0x0"], "HEIGHTxWIDTH"),
        (
            ["--dataset", "nope"],
            "lost_and_found, oxford_iiit_pet, scene_parse150, scenes",
        ),
        (["--output", __file__], "--output must be a folder"),
    ],
)
def test_options_are_checked_before_training(
    arguments, words, monkeypatch, capsys
):
    sys.path.insert(0, str(SCRIPT.parent))
    monkeypatch.setattr(sys, "path", sys.path)
    import train_segnet

    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    monkeypatch.setattr(train_segnet, "say_device", pytest.fail)
    monkeypatch.chdir(SCRIPT.parent)
    with pytest.raises(SystemExit) as error:
        train_segnet.main()
    assert words in f"{error.value}" + capsys.readouterr().err


@pytest.mark.slow
def test_interrupt_saves_what_was_learned(tmp_path):
    with subprocess.Popen(
        [
            *[sys.executable, SCRIPT, "--epochs", "100"],
            *["--data-dir", tmp_path / "tfds", "--output", tmp_path / "runs"],
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if "step" in line:
                break
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        printed = process.stdout.read()
    assert process.returncode == 0
    assert "saving what has been learned so far" in printed
    assert "mIoU" in printed
    assert (tmp_path / "runs" / "model.keras").exists()
    assert os.listdir(tmp_path / "runs" / "saved_model")
