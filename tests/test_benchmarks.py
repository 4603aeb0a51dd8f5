"""The benchmarks run and report every candidate; never how fast."""

import importlib
import json
import math
import os
import runpy
import signal
import subprocess
import sys
from importlib import util

import keras
import numpy as np
import pytest

from tests.paths import CAMVID, ROOT
from tests.processes import without_tensorflow

FOLDER = ROOT / "benchmarks"

OPERATIONS = {"pool", "unpool", "both", "train"}
DECODERS = {
    "max_unpool",
    "nearest",
    "bed_of_nails",
    "conv_transpose",
    "keras upsampling",
}


BACKENDS = ("tensorflow", "jax", "torch")


def run(script, *arguments, **variables):
    return subprocess.run(
        [sys.executable, FOLDER / script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


@pytest.fixture
def module(monkeypatch):
    """Imports a file of the folder, as the scripts there do."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def report(script, folder, *arguments):
    file = folder / "report.json"
    result = run(script, "--smoke", "--json", file, *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(file.read_text())
    assert found["about"]["device"] in result.stdout
    return found


def is_time(milliseconds):
    return math.isfinite(milliseconds) and milliseconds > 0


def expected_rows(rank, is_overlapping):
    names = {"ours fused", "ours plain", "keras upsampling"}
    if rank == 2:
        names.add("argmax + scatter_nd")
    rows = {(o, name) for o in OPERATIONS for name in names}
    if util.find_spec("torch"):
        torches = {"torch channels_first"}
        if rank > 1:
            torches.add("torch channels_last")
        operations = {"pool"} if is_overlapping else OPERATIONS
        rows |= {(o, name) for o in operations for name in torches}
    return rows | {("copy", "copy")}


@pytest.mark.slow
@pytest.mark.release
def test_every_way_to_unpool_is_timed(tmp_path):
    cases = report("unpool.py", tmp_path)["cases"]
    assert {len(case["shape"]) - 2 for case in cases} == {1, 2, 3}
    for case in cases:
        found = {(r["operation"], r["candidate"]): r for r in case["rows"]}
        is_overlapping = case["pool_size"] > case["strides"]
        rank = len(case["shape"]) - 2
        assert set(found) == expected_rows(rank, is_overlapping)
        assert len(found) == len(case["rows"])
        for row in found.values():
            assert is_time(row["milliseconds"])
            assert is_time(row["copies"])
            assert math.isfinite(row["spread"])
        assert {r["operation"] for r in case["ratios"]} == OPERATIONS


@pytest.mark.slow
@pytest.mark.release
def test_memory_of_one_candidate():
    result = run("unpool.py", "--smoke", "--memory-of", "ours fused")
    assert result.returncode == 0, result.stderr[-3000:]
    row = json.loads(result.stdout)
    assert row["peak_bytes"] >= 0
    # A byte per window of four floats is all that is kept.
    assert row["kept_inputs"] == 1 / 16


@pytest.mark.slow
@pytest.mark.release
def test_first_calls_are_timed(tmp_path):
    rows = report("unpool.py", tmp_path, "--compile")["compile"]
    assert len(rows) == 9
    for row in rows:
        if row["candidate"] == "fused - plain":
            assert math.isfinite(row["milliseconds"])
        else:
            assert is_time(row["milliseconds"])


@pytest.mark.slow
@pytest.mark.release
def test_every_decoder_is_timed(tmp_path):
    rows = report("models.py", tmp_path)["rows"]
    found = {(row["operation"], row["decoder"]) for row in rows}
    assert found == {(o, d) for o in ("train", "predict") for d in DECODERS}
    assert len(rows) == len(found)
    for row in rows:
        assert is_time(row["milliseconds"])
        assert is_time(row["baselines"])


@pytest.mark.slow
@pytest.mark.release
def test_every_way_to_feed_is_timed(tmp_path):
    rows = report("data.py", tmp_path)["rows"]
    assert [row["what"] for row in rows] == [
        "from disk",
        "from disk, augmented",
        "cached",
        "cached, augmented",
        "folder of PNG",
        "folder of JPEG",
        "train SegNetBasic",
    ]
    assert all(row["images_per_second"] > 0 for row in rows)
    assert rows[-1]["trainings"] == 1


@pytest.mark.slow
@pytest.mark.release
def test_serving_is_timed_and_watched(tmp_path):
    found = report("serving.py", tmp_path)
    assert {(r["size"], r["batch_size"]) for r in found["rows"]} == {
        (size, batch_size)
        for size in ("9x13", "16x24")
        for batch_size in (1, 2, 4, 8, 16)
    }
    for row in found["rows"]:
        assert 0 < row["p50"] <= row["p99"]
    assert sum(row["calls"] for row in found["rows"]) == found["calls"] == 200
    assert found["threads"] == 2
    assert found["graphs"][0] == found["graphs"][1] > 0
    assert found["memory"]["after_warm_up"] > 1e8
    assert not found["knows_keras_deconv"]


@pytest.mark.slow
@pytest.mark.release
def test_serving_sees_memory_that_is_kept():
    result = run("serving.py", "--smoke", "--calls", "400", "--fault", "leak")
    assert result.returncode == 1
    assert "Memory grew by" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.release
def test_serving_sees_what_is_traced_again():
    result = run(
        "serving.py",
        *("--smoke", "--image-size", "9x13", "--calls", "20"),
        *("--fault", "retrace"),
    )
    assert result.returncode == 1
    assert "graphs were added after the warm-up" in result.stderr


def test_mistake_ends_in_one_sentence(monkeypatch, capsys):
    script = str(FOLDER / "unpool.py")
    monkeypatch.setattr(sys, "argv", [script, "--case", "9x9"])
    monkeypatch.syspath_prepend(FOLDER)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert end.value.code == 2
    assert "--case 9x9 is not one of: 8x180x240x64, " in capsys.readouterr().err


# On a GPU.


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_what_a_gpu_answers_is_tried_without_tensorflow(backend, tmp_path):
    pytest.importorskip(backend)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    names = ["correctness", "bandwidth"]
    names += ["fit segnet_basic max_unpool mixed_bfloat16"]
    names += ["fit segnet keras upsampling float32"]
    if backend == "torch":
        names += ["torch bandwidth", "torch segnet"]
    result = run(
        "gpu.py",
        *("--smoke", "--output", tmp_path),
        # All of them are all that there are, where PyTorch is not installed.
        *(word for name in names for word in ("--only", name)),
        KERAS_BACKEND=backend,
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",  # it compiles most of the time
        OMP_NUM_THREADS="1",
        **without_tensorflow(hidden),
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    found = json.loads((tmp_path / f"gpu_{backend}.json").read_text())
    assert found["backend"] == backend
    parts = {part["name"]: part for part in found["parts"]}
    assert list(parts) == names
    assert {part["status"] for part in parts.values()} == {"done"}

    rows = parts["correctness"]["rows"]
    of_dtypes = {row["dtype"]: row for row in rows if "dtype" in row}
    assert set(of_dtypes) == {"float32", "float16", "bfloat16"}
    for row in of_dtypes.values():
        assert row["wrong"] == row["not_repeated"] == 0
        assert row["exact"] + row["within_bounds"] == row["compared"] > 0
    assert sum(row["cases"] for row in of_dtypes.values()) == 6
    [repeated] = [row for row in rows if "index" in row]
    assert repeated["identical"]

    rows = parts["bandwidth"]["rows"]
    candidates = {"ours", "keras upsampling", "positions and scatter"}
    assert {(row["operation"], row["candidate"]) for row in rows} == {
        ("copy", "copy"),
        *((o, name) for o in OPERATIONS for name in candidates),
    }
    assert all(is_time(row["microseconds"]) for row in rows)

    for name in names[2:4]:
        [row] = parts[name]["rows"]
        shown = [row[key] for key in ("network", "decoder", "precision")]
        assert name == f"fit {' '.join(shown)}"
        assert is_time(row["images_per_second"])
    text = (tmp_path / f"gpu_{backend}.md").read_text()
    assert "## Correctness" in text
    assert "bfloat16" in text


def test_one_wrong_number_of_a_gpu_is_seen(module, monkeypatch):
    gpu = module("gpu")
    case = next(c for c in gpu.random_cases(9) if c.dtype == "bfloat16")
    found = list(gpu.check_case(case, 1))
    assert len(found) == 5
    assert all(row["is_repeated"] and not row["is_wrong"] for row in found)
    right, calls = gpu.as_numpy, []

    def wrong(tensor):
        array = right(tensor).copy()
        calls.append(array)
        if len(calls) == 6:  # of the first run on the GPU, the other inputs
            array.flat[0] += 1
        return array

    # The pooled values of normal numbers are compared first.
    calls += [None] * 5
    monkeypatch.setattr(gpu, "as_numpy", wrong)
    first, *others = gpu.check_case(case, 1)
    assert first["name"] == "pooled"
    assert first["is_wrong"]
    assert not first["is_repeated"]
    assert not any(row["is_wrong"] for row in others)


def test_bounds_of_a_gpu_follow_from_the_windows(module):
    gpu = module("gpu")
    cases = list(gpu.random_cases(60))
    assert {len(case.size) for case in cases} == {1, 2, 3}
    assert {case.num_terms > 1 for case in cases} == {True, False}
    for field in ("padding", "data_format", "overlap", "index_format", "dtype"):
        assert len({getattr(case, field) for case in cases}) >= 2
    for case in cases:
        for number in range(2):
            arrays = gpu.draw_inputs(case, number)
            assert gpu.allowed(case, "pooled", arrays) == 0
            assert gpu.allowed(case, "argmax", arrays) == 0
            summed = gpu.allowed(case, "gradient_of_pooling", arrays)
            assert (summed > 0) == (case.num_terms > 1 and number == 0)


@pytest.mark.live
def test_the_segnet_of_pytorch_is_ours(module):
    pytest.importorskip("torch")
    network = module("torch_segnet").SegNet(11)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == 29_449_355


# On CamVid.


def test_batches_depend_on_seed_and_epoch(module):
    training = module("training")
    images = np.arange(7, dtype="uint8").reshape(7, 1, 1, 1) * np.ones(
        (1, 4, 6, 3), "uint8"
    )
    masks = images[..., 0]

    def order(**options):
        batches = training.Batches(images, masks, 3, **options)
        assert len(batches) == 3
        found = [batches[number] for number in range(3)]
        assert [len(mask) for _, mask in found] == [3, 3, 1]
        return np.concatenate([mask[:, 0, 0] for _, mask in found]).tolist()

    assert order() == list(range(7))
    assert sorted(order(draw=(1, 0))) == list(range(7))
    assert order(draw=(1, 0)) == order(draw=(1, 0))
    assert len({tuple(order(draw=(1, epoch))) for epoch in range(4)}) == 4


def test_augmented_masks_stay_on_their_images(module, monkeypatch, rng):
    training = module("training")
    monkeypatch.setattr(training, "BRIGHTNESS", 0.0)
    rows, columns = np.indices((24, 32))
    mask = (rows // 4 * 8 + columns // 4).astype("uint8")
    image = np.stack([rows, columns, mask], axis=-1).astype("uint8")
    scales, is_mirrored = [], set()
    for seed in range(20):
        moved, found = training.augmented(
            image, mask, np.random.default_rng(seed)
        )
        assert moved.shape == image.shape
        # The first two channels are the source position of each pixel.
        row, column = (np.rint(moved[..., i]).astype(int) for i in (0, 1))
        assert (mask[row, column] == found).mean() > 0.9
        scales.append(32 / np.ptp(moved[..., 1]))
        is_mirrored.add(bool(moved[0, 0, 1] > moved[0, -1, 1]))
    assert 0.99 < min(scales) < 1.2 < max(scales) < 1.7
    assert is_mirrored == {True, False}


PALETTE = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], "uint8")


def random_images(file):
    """Three classes, of the colors that say which one it is."""
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["sky", "road", "car"])}
    for split, number in (("train", 10), ("validation", 4)):
        masks = rng.integers(0, 3, (number, 6, 8)).repeat(4, 1).repeat(4, 2)
        noise = rng.integers(0, 60, (*masks.shape, 3))
        arrays[f"{split}_images"] = (masks[..., None] * 90 + noise).astype(
            "uint8"
        )
        masks[:, :2] = 255
        arrays[f"{split}_masks"] = masks.astype("uint8")
    for name in ("median", "enet", "segnet", "none"):
        arrays[f"{name}_weights"] = np.array([1.0, 2.0, 0.5])
    arrays["palette"] = PALETTE
    np.savez(file, **arrays)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_killed_training_gives_the_same_row(backend, tmp_path):
    pytest.importorskip(backend)
    file = tmp_path / "images.npz"
    random_images(file)
    arguments = ["--data", file, "--network", "bayesian_segnet_basic"]
    arguments += ["--epochs", "4", "--augment", "--output"]
    variables = {"KERAS_BACKEND": backend}
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if backend != "tensorflow":
        variables |= without_tensorflow(hidden)

    drawn = tmp_path / "predictions.png"
    whole = run(
        "camvid.py",
        *arguments,
        *(tmp_path / "whole", "--draw", drawn),
        **variables,
    )
    assert whole.returncode == 0, whole.stderr[-3000:]
    pixels = keras.utils.img_to_array(keras.utils.load_img(drawn))
    # Class maps cover most of the image, and the legend covers little.
    is_class = [(pixels == color).all(-1).mean() for color in PALETTE]
    assert sum(is_class) > 0.5
    with subprocess.Popen(
        [sys.executable, FOLDER / "camvid.py", *arguments, tmp_path / "killed"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    ) as process:
        for line in process.stdout:
            if line.startswith("Epoch 2/4: "):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = run("camvid.py", *arguments, tmp_path / "killed", **variables)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "Resuming after epoch " in resumed.stdout

    rows = [
        json.loads((tmp_path / name / "row.json").read_text())
        for name in ("whole", "killed")
    ]
    for row in rows:
        for times in ("minutes", "scoring_minutes"):
            assert is_time(row.pop(times))
        for epoch in row["history"]:
            assert is_time(epoch.pop("seconds"))
    assert rows[0] == rows[1]
    assert rows[0]["history"][3]["loss"] < rows[0]["history"][0]["loss"]
    # The other row of the same training.
    sampled = run(
        "camvid.py",
        *arguments,
        tmp_path / "whole",
        "--samples",
        "3",
        **variables,
    )
    assert sampled.returncode == 0, sampled.stderr[-3000:]
    row = json.loads((tmp_path / "whole" / "row_3_samples.json").read_text())
    assert row["samples"] == 3
    assert row["history"][0]["loss"] == rows[0]["history"][0]["loss"]
    # Another training would be mixed with it.
    other = run(
        "camvid.py", *arguments, tmp_path / "whole", "--seed", "2", **variables
    )
    assert "seed was 1 and is 2" in other.stderr


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.skipif(not CAMVID.exists(), reason="no CamVid here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_camvid_are_those_of_evaluate(backend, tmp_path):
    pytest.importorskip(backend)
    file = tmp_path / "camvid.npz"
    where = ["--data-dir", tmp_path / "tfds", "--manual-dir", CAMVID]
    packed = run("camvid.py", *where, "--image-size", "90x120", "--pack", file)
    assert packed.returncode == 0, packed.stderr[-3000:]
    trained = run(
        "camvid.py",
        *("--data", file, "--epochs", "2", "--output", tmp_path / "run"),
        KERAS_BACKEND=backend,
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    row = json.loads((tmp_path / "run" / "row.json").read_text())
    assert row["images"] == {"train": 367, "validation": 101}
    assert row["split"] == "validation"

    report = tmp_path / "scores.json"
    evaluated = subprocess.run(
        [
            *[sys.executable, "-m", "keras_deconv_cli", "evaluate"],
            *[tmp_path / "run" / "model.keras", "cam_vid", *where],
            *["--split", "validation", "--json", report],
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    assert evaluated.returncode == 0, evaluated.stderr[-3000:]
    expected = json.loads(report.read_text())
    tolerance = 1e-6 if backend == "tensorflow" else 1e-3
    for name, score in row["scores"].items():
        assert score == pytest.approx(expected[name], abs=tolerance)
    for name, scores in row["classes"].items():
        found = expected["classes"][name]
        assert scores["class_accuracy"] == pytest.approx(
            found["accuracy"], abs=10 * tolerance
        )
        assert scores["mean_iou"] == pytest.approx(
            found["iou"], abs=10 * tolerance
        )


def test_published_scores_of_camvid_are_those_of_the_rows(module):
    """The rows are complete, and the tables and the README show them."""
    camvid_report = module("camvid_report")
    rows = camvid_report.read_rows(camvid_report.ROWS)
    assert camvid_report.TABLES.read_text() == camvid_report.report(rows)
    readme = (ROOT / "README.md").read_text()
    assert len(rows) >= 3
    for row in rows:
        name = camvid_report.title(row)
        # The README and the page say this about all rows.
        assert row["images"] == {"train": 367, "validation": 101}, name
        assert row["split"] == "validation", name
        assert row["image_size"] == [180, 240], name
        assert len(row["history"]) == row["epochs"] == 40, name
        best = max(row["history"], key=lambda one: one["val_global_accuracy"])
        assert row["best_epoch"] == best["epoch"], name
        scores = [
            camvid_report.percent(row["scores"][score])
            for score in camvid_report.SCORES
        ]
        assert f"| {name} | {' | '.join(scores)} |" in readme, name
