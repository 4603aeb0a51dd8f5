"""The benchmarks run and report every candidate; never how fast."""

import json
import math
import runpy
import subprocess
import sys
from importlib import util

import pytest

from tests.paths import ROOT

FOLDER = ROOT / "benchmarks"

OPERATIONS = {"pool", "unpool", "both", "train"}
DECODERS = {
    "max_unpool",
    "nearest",
    "bed_of_nails",
    "conv_transpose",
    "keras upsampling",
}


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, FOLDER / script, *arguments],
        capture_output=True,
        text=True,
    )


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
    assert "graphs came after the warm-up" in result.stderr


def test_mistake_ends_in_one_sentence(monkeypatch, capsys):
    script = str(FOLDER / "unpool.py")
    monkeypatch.setattr(sys, "argv", [script, "--case", "9x9"])
    monkeypatch.syspath_prepend(FOLDER)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert end.value.code == 2
    assert "--case 9x9 is none of: 8x180x240x64, " in capsys.readouterr().err
