"""The story of the examples: costs counted right, in the order it claims."""

import ast
import json
import re
import runpy
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_deconv import models
from tests import networks
from tests.paths import ROOT

pytestmark = pytest.mark.docs

EXAMPLES = ROOT / "examples"
PICTURES = ROOT / "docs" / "images"
STORY = ROOT / "docs" / "story.md"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return the names in why_unpooling.py, and the folder that it writes."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    level = tf.get_logger().level
    folder = tmp_path_factory.mktemp("story")
    arguments = ["--smoke", "--data-dir", folder / "tfds"]
    with pytest.MonkeyPatch.context() as patch, pyplot.rc_context():
        script = EXAMPLES / "why_unpooling.py"
        patch.setattr(
            sys,
            "argv",
            list(map(str, [script, *arguments, "--output", folder / "out"])),
        )
        names = runpy.run_path(str(script))
    pyplot.close("all")
    tf.get_logger().setLevel(level)
    return names, folder / "out"


@pytest.fixture(scope="module")
def report(told):
    _, folder = told
    return json.loads((folder / "table.json").read_text())


@pytest.mark.slow
def test_multiply_adds_of_one_convolution(told):
    names, _ = told
    inputs = keras.Input((6, 7, 3))
    conv = layers.Conv2D(4, 5, padding="same", use_bias=False)
    count = names["multiply_adds"](keras.Model(inputs, conv(inputs)))
    assert count == (6 * 7) * (5 * 5 * 3) * 4


def two_convolutions(filters):
    inputs = keras.Input((4, 6, 2))
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(x)
    # Shares the memory of what it reshapes.
    x = layers.Reshape((6, 4, filters))(x)
    x = layers.Conv2D(5, 1, use_bias=False)(x)
    return keras.Model(inputs, x)


@pytest.mark.slow
def test_training_keeps_each_map_once(told):
    names, _ = told
    # Only the output of the ReLU is kept, not that of the convolution.
    three, six = (names["training_bytes"](two_convolutions(n)) for n in (3, 6))
    assert six - three == 3 * (4 * 6) * 4


@pytest.mark.slow
def test_inference_frees_what_was_used(told):
    names, _ = told
    before, after = 3 * (4 * 6) * 4, 5 * (4 * 6) * 4
    # Before and after the ReLU, or before and after the last convolution.
    expected = before + max(before, after)
    assert names["inference_bytes"](two_convolutions(3)) == expected


def values_of(script, name):
    """Return the syntax tree of the value that a script assigns to a name."""
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.Assign):
            [target] = node.targets
            if ast.unparse(target) == name:
                return node.value
    raise AssertionError(f"{script.name} does not assign {name}")


def test_page_has_the_claims_and_lines_of_the_script():
    script, page = EXAMPLES / "why_unpooling.py", STORY.read_text()
    claims = values_of(script, "CLAIMS").keys
    told = re.search(r"```text\n(holds: .+?)```", page, re.DOTALL)[1]
    assert told.splitlines() == [f"holds: {claim.value}" for claim in claims]
    first_table = re.search(r"^\| scenes.+?\n\n", page, re.DOTALL | re.M)[0]
    titles = [line.split(" | ")[0] for line in first_table.splitlines()[2:-1]]
    lines = ast.literal_eval(values_of(script, "LINES"))
    assert titles == [f"| {title}" for title, *_ in lines]


@pytest.mark.slow
def test_costs_are_in_the_order_that_is_claimed(report):
    rows = report["rows"]
    assert report["image_size"] == [96, 128]
    b, c, deep, d = (rows[key] for key in ("b", "c", "c deep", "d"))
    assert b["multiply_adds"] >= 50 * d["multiply_adds"]
    assert b["multiply_adds"] > c["multiply_adds"] > 3 * d["multiply_adds"]
    assert deep["training_bytes"] >= 3 * d["training_bytes"]
    assert c["training_bytes"] >= 2 * d["training_bytes"]
    # The same size of network.
    for row in (c, deep):
        assert row["parameters"] == pytest.approx(d["parameters"], rel=0.01)
    assert all(report["claims"].values())
    assert len(report["claims"]) == 4


def fields(model, width):
    """How many columns each column of the output depends on."""
    for weight in model.weights:
        if "kernel" in weight.path:
            # Nothing cancels out, grows without end, or is lost.
            weight.assign(np.full(weight.shape, 1 / weight.shape[-1]))
        elif weight.path.endswith(("bias", "beta")):
            weight.assign(np.zeros(weight.shape))
    one_column_each = 255 * np.eye(width)[:, None, :, None]
    images = np.repeat(one_column_each.astype("float32"), 3, axis=-1)
    return np.count_nonzero(np.asarray(model(images))[:, 0, :, 0], axis=0)


@pytest.mark.slow
def test_pixels_see_as_far_as_is_told(monkeypatch):
    width, margin = 256, 110
    networks.make_slim(monkeypatch)
    inside = slice(margin, width - margin)
    # Nearest unpooling, through which every value goes.
    basic = models.SegNetBasic((1, width, 3), 2, decoder="nearest")
    full = models.FullResolutionNet((1, width, 3), 2, filters=(8,) * 8)
    deep = models.FullResolutionNet((1, width, 3), 2, filters=(8,) * 31)
    seen = fields(basic, width)[inside]
    assert (seen.min(), seen.max()) == (186, 202)
    assert set(fields(full, width)[inside]) == {49}
    assert set(fields(deep, width)[inside]) == {187}


@pytest.mark.slow
def test_table_has_every_cost_of_every_step(told, report):
    _, folder = told
    assert set(report["rows"]) == {"a", "b", "c", "c deep", "d"}
    table = (folder / "table.md").read_text()
    lines = table.partition("\n\n")[0].splitlines()
    assert len(lines) == 2 + 7
    assert {line.count("|") for line in lines} == {7}
    for row in report["rows"].values():
        assert 0 <= row["mean_iou"] <= 1
        for name, value in row.items():
            assert name in ("what", "mean_iou") or value > 0
        assert row["what"] in table


@pytest.mark.slow
def test_costs_grow_with_the_pixels(report):
    growth = report["growth"]
    assert set(growth) == {"b", "c", "d"}
    for key, points in growth.items():
        assert [p["side"] for p in points] == [64, 128]
        assert all(p["is_extrapolated"] == (key == "b") for p in points)
        small, large = points
        for name in ("multiply_adds", "training_bytes"):
            factor = 1 if (key, name) == ("b", "training_bytes") else 4
            assert large[name] / small[name] == pytest.approx(factor, rel=0.02)


@pytest.mark.slow
def test_pictures_are_written(told):
    _, folder = told
    for name in ("growth.png", "predictions.png"):
        assert (folder / name).stat().st_size > 10_000


def test_committed_pictures_are_small_and_shown():
    pages = "".join(page.read_text() for page in STORY.parent.glob("*.md"))
    shown = set(re.findall(r"\]\(images/(.+?)\)", pages))
    there = {picture.name for picture in PICTURES.iterdir()}
    assert shown == there
    for picture in PICTURES.iterdir():
        assert picture.stat().st_size < 150_000
        assert picture.read_bytes().startswith(b"\x89PNG")
