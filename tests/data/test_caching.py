"""Caches in memory and on disk, and caches that do not fit."""

import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from keras_deconv import data
from keras_deconv.data import _caching
from tests.tiny_datasets import write_png


def examples(number=4, counts=None):
    def read(index):
        if counts is not None:
            counts.append(int(index))
        return np.full((2, 3, 3), index, np.uint8), np.zeros(
            (2, 3, 1), np.uint8
        )

    def example(index):
        image, mask = tf.py_function(read, [index], (tf.uint8, tf.uint8))
        return {
            "image": tf.ensure_shape(image, (2, 3, 3)),
            "segmentation_mask": tf.ensure_shape(mask, (2, 3, 1)),
        }

    return tf.data.Dataset.range(number).map(example)


def pairs(dataset, **options):
    options = {"image_size": (2, 3), "batch_size": 2} | options
    return data.segmentation_pairs(dataset, num_classes=2, **options)


@pytest.mark.parametrize(
    ("cache", "times"), [(True, 1), ("disk", 1), (False, 3)]
)
def test_how_often_files_are_read(cache, times, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    counts = []
    dataset = pairs(examples(counts=counts), cache=cache, shuffle=True, seed=0)
    epochs = [
        np.concatenate([image[:, 0, 0, 0] for image, _ in dataset])
        for _ in range(3)
    ]
    assert len(counts) == 4 * times
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    on_disk = list(tmp_path.glob("keras_deconv.*/*"))
    assert bool(on_disk) == (cache == "disk")


def test_a_reading_that_stops_early_leaves_no_half_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dataset = pairs(examples(), cache="disk")
    next(iter(dataset))
    assert len(list(dataset)) == 2


def test_the_file_of_a_cache_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    at_exit = []
    monkeypatch.setattr(
        _caching.atexit,
        "register",
        lambda *call, **named: at_exit.append((call, named)),
    )
    list(pairs(examples(), cache="disk"))
    assert list(tmp_path.glob("keras_deconv.*"))
    [((function, *arguments), named)] = at_exit
    function(*arguments, **named)
    assert not list(tmp_path.glob("keras_deconv.*"))


@pytest.mark.parametrize("cache", [None, "memory", 1, "yes"])
def test_other_caches(cache, tmp_path):
    with pytest.raises(ValueError, match=r"`cache` must be True .* 'disk' or"):
        pairs(examples(), cache=cache)


def test_a_cache_that_does_not_fit(monkeypatch):
    # A pixel takes 4 bytes, or 13 as floats.
    monkeypatch.setattr(_caching, "free_memory", lambda: 4 * 6 * 4)
    pairs(examples())
    message = (
        r"`cache` must fit into memory\. Received: cache=True for 4 examples "
        r"of 2x3 pixels, which need about 0\.0 MB.*Pass cache='disk'"
    )
    with pytest.raises(ValueError, match=message):
        pairs(examples(), value_range=(0, 255))
    for cache in ("disk", False):
        pairs(examples(), value_range=(0, 255), cache=cache)


def test_a_cache_of_images_of_their_own_sizes(tmp_path, monkeypatch):
    for name in "ab":
        image = np.zeros((20, 30, 3), np.uint8)
        write_png(tmp_path / "images" / f"{name}.png", image)
        write_png(tmp_path / "masks" / f"{name}.png", image[..., :1])
    options = {"classes": 2, "image_size": None, "batch_size": 1}
    folders = tmp_path / "images", tmp_path / "masks"
    monkeypatch.setattr(_caching, "free_memory", lambda: 2 * 600 * 4 - 1)
    with pytest.raises(ValueError, match="2 examples of about 20x30 pixels"):
        data.from_folders(*folders, **options)
    data.from_folders(*folders, cache=False, **options)
    monkeypatch.setattr(_caching, "free_memory", lambda: None)
    data.from_folders(*folders, **options)


def test_caches_of_both_parts_together(tmp_path, monkeypatch):
    for name in "abcd":
        image = np.zeros((2, 3, 3), np.uint8)
        write_png(tmp_path / "images" / f"{name}.png", image)
        write_png(tmp_path / "masks" / f"{name}.png", image[..., :1])
    options = {"classes": 2, "image_size": (20, 30), "batch_size": 1}
    options |= {"validation_split": 0.5, "seed": 0}
    folders = tmp_path / "images", tmp_path / "masks"
    # Each part fits, but not both together.
    monkeypatch.setattr(_caching, "free_memory", lambda: 4 * 600 * 4 - 1)
    data.from_folders(*folders, subset="training", **options)
    with pytest.raises(ValueError, match="4 examples of 20x30 pixels"):
        data.from_folders(*folders, subset="both", **options)
    data.from_folders(*folders, subset="both", cache="disk", **options)
    monkeypatch.setattr(_caching, "free_memory", lambda: 4 * 600 * 4)
    data.from_folders(*folders, subset="both", **options)


def test_free_memory(tmp_path, monkeypatch):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(_caching, "_MEMORY_INFO", info)
    names = _caching._GROUPS[0][1]
    monkeypatch.setattr(_caching, "_GROUPS", ((tmp_path, names),))
    assert _caching.free_memory() == 4000 * 1024
    for name, content in zip(
        names, ("max", "700000", "anon 5\ninactive_file 100000\n"), strict=False
    ):
        (tmp_path / name).write_text(content)
    assert _caching.free_memory() == 4000 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    assert _caching.free_memory() == 400_000
    monkeypatch.setattr(_caching, "_MEMORY_INFO", pathlib.Path("nowhere"))
    monkeypatch.setattr(_caching, "_GROUPS", ())
    assert _caching.free_memory() is None
