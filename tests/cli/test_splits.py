"""Tests of splits and of the default image size."""

import types

import pytest
import tensorflow_datasets as tfds

from keras_deconv_cli import decisions, splits

SIZES = {"train": 24, "validation": 5, "test": 7}


@pytest.mark.parametrize(
    "split",
    [
        *("train", "test", "train[:80%]", "train[80%:]", "train[5:9]"),
        *("train[-5:]", "train[:-20%]", "train[33%:67%]", "validation[:50%]"),
        *(
            "train[:24]",
            "train[9:5]",
            "train[:10%]+test",
            "train[1:2]+test[1:]",
        ),
    ],
)
def test_ranges_are_those_of_tfds(split):
    sizes = {
        name: types.SimpleNamespace(num_examples=size)
        for name, size in SIZES.items()
    }
    expected = []
    for part in tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes):
        stop = SIZES[part.splitname] if part.to is None else part.to
        expected.append((part.splitname, part.from_ or 0, stop))
    found = splits.ranges(split, SIZES)
    assert [(n, a, b) for n, a, b in found if a < b] == [
        (n, a, b) for n, a, b in expected if a < b
    ]


@pytest.mark.parametrize(
    "split",
    [
        "",
        "nope",
        "train[:25]",
        "train[-25:]",
        "train[25:]",
        "train[a:]",
        "train+",
    ],
)
def test_other_splits_are_refused(split):
    with pytest.raises(ValueError, match="SPLIT must be train or"):
        splits.ranges(split, SIZES)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[:80%]", "train[19:24]"),
        ("train[5:]", "train[0:5]"),
        ("train[5:9]", "train[0:5]+train[9:24]"),
        ("train", None),
    ],
)
def test_rest(split, expected):
    assert splits.rest(split, SIZES) == expected
    if expected:
        assert not splits.overlap(split, expected, SIZES)
        both = splits.ranges(f"{split}+{expected}", SIZES)
        assert sum(b - a for _, a, b in both) == 24


def test_overlap():
    assert splits.overlap("train", "test+train[:1]", SIZES)
    assert splits.overlap("train[:50%]", "train[11:]", SIZES)
    assert not splits.overlap("train[:50%]", "train[50%:]", SIZES)
    assert not splits.overlap("train", "test", SIZES)
    assert not splits.overlap("train", "train[:0]", SIZES)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (192, 256)),
        ((640, 480), (256, 192)),
        ((1080, 1920), (192, 352)),
        ((3024, 4032), (192, 256)),
        ((512, 512), (256, 256)),
        ((96, 128), (96, 128)),
        ((100, 100), (96, 96)),
        ((20, 20), (32, 32)),
        ((100, 3000), (32, 960)),
    ],
)
def test_image_sizes_keep_their_ratio(size, expected):
    assert decisions.fitted(size, 256 * 256) == expected
