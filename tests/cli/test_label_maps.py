"""Tests of label files, channels and caches in the command."""

import json

import numpy as np
import PIL.Image
import pytest

from keras_deconv.data import color_map
from keras_deconv_cli import decisions, main, runs
from keras_deconv_cli.parser import parse
from tests.data import file_kinds
from tests.data.test_label_maps import KINDS
from tests.tiny_datasets import write_png

FAST = ["--image-size", "8x8", "--preview-every", "0", "--smoke"]


def write_pairs(folder, mask, number=4):
    for count in range(number):
        name = f"{count}.png"
        write_png(folder / "images" / name, np.zeros((8, 8, 3), np.uint8))
        write_png(folder / "masks" / name, np.roll(mask, count, axis=1))
    return [
        *["--images", str(folder / "images")],
        *["--masks", str(folder / "masks")],
    ]


def mask_of(arguments):
    """Return a mask whose halves are the first two classes of a label file."""
    if "palette" in arguments:
        first, second, *_ = arguments["palette"]
        mask = np.full((8, 8, 3), first, np.uint8)
    else:
        first, second = arguments["labels"]
        mask = np.full((8, 8, 1), first, np.uint8)
    mask[:, 4:] = second
    return mask


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        # `tests/data/test_label_maps.py` reads all kinds of masks.
        pytest.param(kind, marks=() if kind in few else pytest.mark.slow)
        for few in [("voc",)]
        for kind in KINDS
    ],
)
def test_a_label_map_trains(kind, tiny_models, tmp_path, capsys):
    text, arguments = KINDS[kind]
    path = tmp_path / "map.txt"
    path.write_text(text)
    given = write_pairs(tmp_path, mask_of(arguments))
    run = tmp_path / "run"
    command = ["train", *given, "--label-map", str(path), *FAST]
    command += ["--output", str(run)]
    assert main(command) == 0
    names = arguments.get("classes") or tuple(arguments["labels"].values())
    assert runs.read(run).class_names == list(names)
    if kind != "voc":
        return
    # The run does not need the label file.
    assert main(command) == 0
    assert "is finished" in capsys.readouterr().out
    path.unlink()
    assert main(["evaluate", str(run)]) == 0
    assert main(["check", *given, "--label-map", str(path)]) == 1
    assert "map.txt: A label map must hold" in capsys.readouterr().err


def test_colors_of_voc(tmp_path, capsys):
    first, second, third = color_map(3)
    mask = np.full((8, 8, 3), first, np.uint8)
    mask[:2], mask[2:4], mask[4] = second, third, (224, 224, 192)
    given = [*write_pairs(tmp_path, mask), "--classes", "a,b,c"]
    assert main(["check", *given, "--palette", "voc"]) == 0
    assert "Void: 12.50% of pixels" in capsys.readouterr().out


@pytest.mark.slow
def test_bands_train_and_are_predicted(tiny_models, tmp_path):
    pytest.importorskip("rasterio")
    given = write_pairs(tmp_path, np.uint8(np.eye(8))[..., None])
    rng = np.random.default_rng(0)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
        bands = rng.integers(0, 3000, (8, 8, 5)).astype(np.uint16)
        content = file_kinds.geotiff(bands)
        path.with_suffix(".tif").write_bytes(content)
    run = tmp_path / "run"
    command = ["train", *given, "--classes", "2", *FAST]
    command += ["--channels", "5", "--value-range", "0,3000"]
    command[command.index("--preview-every") + 1] = "1"
    assert main([*command, "--output", str(run)]) == 0
    model, _ = runs.load(str(run))
    assert model.input_shape[-1] == 5
    assert (run / "previews" / "epoch_0001.png").exists()
    assert main(["evaluate", str(run), *given, "--classes", "2"]) == 0
    predict = ["predict", str(run), str(tmp_path / "images")]
    assert main([*predict, "--output", str(tmp_path / "out")]) == 0
    with PIL.Image.open(tmp_path / "out" / "0_overlay.png") as image:
        assert (image.mode, image.size) == ("RGB", (8, 8))


@pytest.mark.parametrize(
    ("options", "cache"),
    [
        pytest.param([], "memory", marks=pytest.mark.slow),
        (["--cache", "disk"], "disk"),
        pytest.param(["--no-cache"], "none", marks=pytest.mark.slow),
    ],
)
def test_caches(options, cache, tiny_models, tmp_path, monkeypatch):
    from keras_deconv_cli import training

    given = write_pairs(tmp_path, np.uint8(np.eye(8))[..., None])
    used = []
    load = training.data.from_folders
    monkeypatch.setattr(
        training.data,
        "from_folders",
        lambda *a, **options: (
            used.append(options["cache"]) or load(*a, **options)
        ),
    )
    command = ["train", *given, "--classes", "2", *FAST[:-1], "--epochs", "1"]
    run = tmp_path / "run"
    assert main([*command, *options, "--output", str(run)]) == 0
    kept = {"memory": True, "disk": "disk", "none": False}[cache]
    assert used.count(kept) >= 2
    options = json.loads((run / "run.json").read_text())["options"]
    assert options["cache"] == cache


def test_a_cache_that_does_not_fit(tiny_models, tmp_path, monkeypatch, capsys):
    from keras_deconv.data import _caching

    given = write_pairs(tmp_path, np.uint8(np.eye(8))[..., None])
    monkeypatch.setattr(_caching, "free_memory", lambda: 100)
    command = ["train", *given, "--classes", "2", *FAST[:-1], "--epochs", "1"]
    assert main([*command, "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "error: --cache must fit into memory" in error
    assert "--cache memory for 4 images of 8x8 pixels, which need" in error
    assert "Pass --cache disk to use a" in error


def test_a_large_cache_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(decisions, "_MIN_SAID", 1000)
    given = write_pairs(tmp_path, np.uint8(np.eye(8))[..., None])
    command = ["train", *given, "--classes", "2", "--image-size", "32x32"]
    for options, said in (([], True), (["--no-cache"], False)):
        options, _ = parse([*command, *options])
        lines = decisions.decide(options, None).lines
        line = "Images cached in memory: about 0.0 MB (change it with --cache)"
        assert (line in lines) == said
