"""Selection and order of the files of a folder."""

import numpy as np
import pytest

from keras_deconv import data
from keras_deconv.data._pairs import match_files
from keras_deconv.data._splits import split_files
from tests.tiny_datasets import write_png

NUM_PAIRS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write images whose values are their numbers; one in a subfolder."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(NUM_PAIRS):
        name = f"{'sub/' if number == 7 else ''}{number:02}.png"
        image = np.full((2, 2, 3), number, np.uint8)
        write_png(folder / "images" / name, image)
        mask = np.uint8([[[0], [1]], [[1], [0]]])
        write_png(folder / "masks" / name, mask)
    return folder


def read(folder, **options):
    options = {"classes": 2, "image_size": None, "batch_size": 4} | options
    return data.from_folders(folder / "images", folder / "masks", **options)


def numbers(pairs):
    return [int(n) for image, *_ in pairs for n in image[:, 0, 0, 0]]


def test_shuffled_unless_told_otherwise(folder):
    in_order = sorted(range(NUM_PAIRS), key=lambda n: (n == 7, n))
    assert numbers(read(folder, shuffle=False)) == in_order
    pairs = read(folder, seed=1)
    first, second = numbers(pairs), numbers(pairs)
    assert first != in_order
    assert second != first
    assert sorted(first) == sorted(second) == list(range(NUM_PAIRS))
    assert numbers(read(folder, seed=1)) == first
    part = {"validation_split": 0.5, "seed": 1}
    validation = numbers(read(folder, subset="validation", **part))
    assert validation == [n for n in in_order if n in validation]
    training = numbers(read(folder, subset="training", **part))
    assert training != [n for n in in_order if n in training]
    shuffled = read(folder, subset="validation", shuffle=True, **part)
    assert numbers(shuffled) != validation
    assert sorted(numbers(shuffled)) == sorted(validation)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_parts(folder, seed):
    train, validation = read(
        folder, validation_split=0.2, subset="both", seed=seed
    )
    assert (len(train), len(validation)) == (4, 1)
    held_out = numbers(validation)
    assert len(held_out) == NUM_PAIRS * 0.2
    assert sorted(numbers(train) + held_out) == list(range(NUM_PAIRS))
    # Loading a single part gives the same files.
    for subset, part in (("training", train), ("Validation", validation)):
        alone = read(folder, validation_split=0.2, subset=subset, seed=seed)
        assert sorted(numbers(alone)) == sorted(numbers(part))
    files = match_files(folder / "images", folder / "masks")
    _, drawn = split_files(files, 0.2, seed)
    assert [int(name[-2:]) for name, _, _ in drawn] == held_out


def test_another_seed_draws_other_files():
    files = [(f"{number}",) for number in range(100)]
    _, one = split_files(files, 0.2, 0)
    _, other = split_files(files, 0.2, 1)
    assert len(one) == len(other) == 20
    assert one != other


def test_files_stay_in_their_part_when_others_are_added():
    files = [(f"{number}",) for number in range(100)]
    training, validation = split_files(files, 0.2, 0)
    more = [*files, *((f"new {number}",) for number in range(25))]
    new_training, new_validation = split_files(more, 0.2, 0)
    assert len(new_validation) == 25
    moved = set(training) & set(new_validation)
    moved |= set(validation) & set(new_training)
    # Only files near the boundary move: about 5 in 125.
    assert len(moved) <= 10


@pytest.mark.parametrize(
    ("number", "share", "expected"),
    [(2, 0.01, 1), (2, 0.99, 1), (3, 0.9, 2), (10, 0.25, 2), (24, 0.2, 5)],
)
def test_both_parts_have_files(number, share, expected):
    files = [(str(n),) for n in range(number)]
    training, validation = split_files(files, share, 0)
    assert (len(training), len(validation)) == (number - expected, expected)


def test_what_is_for_training_only(folder):
    train, validation = read(
        folder,
        validation_split=0.2,
        subset="both",
        class_weights=[1, 2],
        drop_remainder=True,
        batch_size=5,
        augment=lambda image, mask: (image[:1], mask[:1]),
    )
    assert len(train.element_spec) == 3
    assert len(validation.element_spec) == 2
    assert (len(train), len(validation)) == (3, 1)
    assert next(iter(train))[0].shape[1] == 1
    assert next(iter(validation))[0].shape == (4, 2, 2, 3)


def test_chosen_files(folder):
    pairs = read(folder, files=["12", "sub/07", "03"], shuffle=False)
    assert numbers(pairs) == [3, 12, 7]
    with pytest.raises(
        ValueError,
        match=r"`files` must be .* 2 names that do not exist \(07, x\)",
    ):
        read(folder, files=["x", "07", "03"])
    for wrong in ([], "03"):
        with pytest.raises(ValueError, match="`files` must be a sequence"):
            read(folder, files=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "both"}, "must be given together"),
        ({"validation_split": 0.2}, "must be given together"),
        ({"validation_split": 0.2, "subset": "training"}, "`seed` must be"),
        ({"validation_split": 0.2, "subset": "test"}, "`subset` must be one"),
        ({"validation_split": 0, "subset": "both"}, "above 0 and below 1"),
        ({"validation_split": 1.0, "subset": "both"}, "above 0 and below 1"),
        ({"validation_split": True, "subset": "both"}, "above 0 and below 1"),
        ({"validation_split": "20%", "subset": "both"}, "above 0 and below 1"),
        (
            {"validation_split": 0.5, "subset": "both", "files": ["03"]},
            "at least two images",
        ),
    ],
)
def test_wrong_arguments(folder, options, message):
    with pytest.raises(ValueError, match=message):
        read(folder, **options)
