import numpy as np
import pytest
import tensorflow as tf

from keras_deconv.data import (
    check,
    draw_scene,
    from_folders,
    load,
    segmentation_pairs,
)
from tests.tiny_datasets import write_camvid

IMAGE = np.zeros((4, 6, 3), np.float32)


def mask_of(*values):
    """Return a mask of 24 pixels with these labels, filled up with 0."""
    mask = np.zeros(24, np.int32)
    mask[: len(values)] = values
    return mask.reshape(4, 6)


def run(pairs, num_classes=3, **options):
    return check(pairs, num_classes, verbose=False, **options)


def test_counts_of_a_good_set():
    report = run([(IMAGE, mask_of(1, 1, 2, 255)), (IMAGE, mask_of(255))])
    assert report.ok
    assert report.num_examples == 2
    assert report.pixel_counts == (20 + 23, 2, 1)
    assert report.num_void_pixels == 2
    assert report.absent_classes == ()
    assert report.sizes == {(4, 6): 2}
    assert report.failures == report.mismatches == ()
    assert str(report).startswith("ok: 2 examples, 3 classes\n")


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("last_axis", [False, True])
def test_batches_are_taken_apart(batch_size, last_axis):
    masks = np.stack(
        [mask_of(number % 3, 77 * (number == 3)) for number in range(5)]
    )
    if last_axis:
        masks = masks[..., None]
    images = np.stack([IMAGE] * 5)
    weights = np.ones((5, 4, 6))
    pairs = tf.data.Dataset.from_tensor_slices((images, masks, weights))
    report = run(pairs.batch(batch_size))
    assert report == run(pairs)
    assert report.strays == {77: (3,)}
    assert not report.ok
    assert report.num_examples == 5


def test_strays_with_the_first_examples_that_have_them():
    pairs = [
        (IMAGE, mask_of(7, -1 if number == 4 else 0)) for number in range(12)
    ]
    report = run(pairs)
    assert not report.ok
    assert report.strays == {7: tuple(range(12)), -1: (4,)}
    text = str(report)
    assert (
        "12 masks contain label 7, neither class nor void (examples 0, " in text
    )
    assert "8, 9, ...)" in text
    assert "1 mask contains label -1, " in text
    assert text.index("label -1") < text.index("label 7")


def test_many_strays_are_counted():
    depth = np.arange(3, 303).reshape(10, 30)
    pairs = [(np.zeros((10, 30, 3)), depth)] * 2
    report = run(pairs)
    assert len(report.strays) == 299  # 255 is void.
    lines = str(report).splitlines()
    assert (
        "2 masks contain label 12, neither class nor void (examples 0, 1)"
        in lines
    )
    assert lines[-1] == "Other labels that are neither class nor void: 289"
    assert sum("neither" in line for line in lines) == 11


def test_nan_is_one_label():
    masks = np.full((3, 4, 6), np.nan)
    masks[:, 0, 0] = (7, -1, 0)
    report = run([(IMAGE, mask) for mask in masks])
    labels = [line for line in str(report).splitlines() if " label " in line]
    assert [line.split()[4][:-1] for line in labels] == ["-1", "7", "nan"]
    assert labels[-1].endswith("(examples 0, 1, 2)")
    assert len(report.strays) == 3


def test_labels_that_are_no_whole_numbers():
    report = run([(IMAGE, np.where(mask_of(1) == 1, 0.5, 0.0))])
    assert report.strays == {0.5: (0,)}
    assert "label 0.5" in str(report)


@pytest.mark.parametrize(
    ("ignore_class", "counts", "num_void", "strays"),
    [
        (255, (21, 1, 1), 1, set()),
        (None, (21, 1, 1), 0, {255}),
        ((255, 1), (21, 0, 1), 2, set()),
        (0, (0, 1, 1), 21, {255}),
    ],
)
def test_ignore_class(ignore_class, counts, num_void, strays):
    report = run([(IMAGE, mask_of(1, 2, 255))], ignore_class=ignore_class)
    assert report.pixel_counts == counts
    assert report.num_void_pixels == num_void
    assert set(report.strays) == strays


def test_absent_classes():
    pairs = [(IMAGE, mask_of(1))]
    names = ["sky", "road", "car", "tree", "sign"]
    report = run(pairs, num_classes=5, class_names=names)
    assert not report.ok
    assert report.absent_classes == (2, 3, 4)
    text = str(report)
    assert text.startswith("NOT OK: 1 example, 5 classes")
    assert "Class 1 (road): 4.17% of pixels" in text
    assert "Classes that never occur: 2 (car), 3 (tree), 4 (sign)" in text
    allowed = run(pairs, num_classes=5, allow_missing_classes=True)
    assert allowed.ok
    assert "Classes that never occur: 2, 3, 4" in str(allowed)
    with pytest.raises(
        ValueError, match="`class_names` must be 5 distinct names"
    ):
        run(pairs, num_classes=5, class_names=names[:4])


def test_a_set_that_is_all_void():
    report = run([(IMAGE, np.full((4, 6), 255))])
    assert not report.ok
    assert "All pixels are void" in str(report)


def test_binary_masks_of_arrays():
    mask = 255 * mask_of(1, 1)
    report = run([(IMAGE, mask)], num_classes=2)
    assert not report.ok
    assert "numpy.where(mask == 255, 1, mask)" in str(report)
    fixed = run([(IMAGE, np.where(mask == 255, 1, mask))], num_classes=2)
    assert fixed.ok
    assert "numpy.where" not in str(fixed)


def test_values_of_images():
    report = run([(IMAGE - 1000, mask_of(1, 2)), (IMAGE + 0.5, mask_of())])
    assert report.image_range == (-1000, 0.5)
    assert "Image values: -1000 to 0.5" in str(report)
    assert run([]).image_range is None


def test_sizes_and_mismatches():
    wide = np.zeros((4, 9, 3))
    report = run([(IMAGE, mask_of()), (wide, mask_of()), (IMAGE, mask_of())])
    assert report.sizes == {(4, 6): 2, (4, 9): 1}
    assert report.mismatches == (1,)
    assert not report.ok
    assert "differ in size in examples 1" in str(report)


def test_reading_goes_on_after_a_failure():
    def fail(number):
        tf.debugging.Assert(number % 4 != 2, ["Number", number, "is bad"])
        return IMAGE, mask_of(1)

    for parallel in (None, 2):
        pairs = tf.data.Dataset.range(8).map(fail, num_parallel_calls=parallel)
        report = run(pairs)
        assert report.num_examples == 6
        assert report.failures == ("Number 2 is bad", "Number 6 is bad")
        assert "2 examples could not be read:" in str(report)
        # The two other examples may contain the class.
        assert "never occur" not in str(report)
        assert "in the examples that could be read: 2" in str(report)
        assert not report.ok


def test_reading_ends_where_nothing_comes():
    class Broken:
        def __iter__(self):
            return self

        def __next__(self):
            raise OSError("the disk is gone")

    report = run(Broken())
    assert report.num_examples == 0
    assert report.failures == ("the disk is gone",) * 100
    assert report.early_end.startswith("Stopped reading after 100 consecutive")
    assert not report.ok
    assert "100 examples could not be read:" in str(report)
    assert str(report).endswith(report.early_end)


def test_many_faults_do_not_end_the_reading():
    """Reading continues to the last example, because the length is known."""

    def fail(number):
        tf.debugging.Assert(number >= 150, ["Number", number, "is bad"])
        return IMAGE, mask_of(1, 2)

    report = run(tf.data.Dataset.range(151).map(fail))
    assert len(report.failures) == 150
    assert report.num_examples == 1
    assert report.early_end == ""
    assert "150 examples could not be read:" in str(report)
    # Not a single example can be read.
    report = run(tf.data.Dataset.range(120).map(fail))
    assert (len(report.failures), report.early_end) == (120, "")


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_loaded_set_fails_again_though_it_is_cached(is_shuffled, batch_size):
    labels = np.zeros((6, 4, 6, 1), np.uint8)
    labels[2] = 9
    pairs = segmentation_pairs(
        tf.data.Dataset.from_tensor_slices(
            {
                "image": np.zeros((6, 4, 6, 3), np.uint8),
                "segmentation_mask": labels,
            }
        ),
        num_classes=3,
        image_size=None,
        batch_size=batch_size,
        shuffle=is_shuffled,
    )
    for _ in range(3):
        report = run(pairs)
        assert not report.ok
        assert "Example 2" in str(report)


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_a_cached_set_that_lost_an_example(is_shuffled):
    def read(number):
        tf.debugging.Assert(number != 2, ["Number", number, "is bad"])
        return IMAGE, mask_of(1)

    pairs = tf.data.Dataset.range(6).map(read).cache()
    if is_shuffled:
        count = tf.data.experimental.assert_cardinality(6)
        pairs = pairs.shuffle(6).apply(count)
    first, second = run(pairs), run(pairs)
    assert first.failures == ("Number 2 is bad",)
    assert first.num_examples == second.num_examples == 5
    assert not second.ok
    assert second.failures == ()
    reason = second.early_end
    assert "cache=False, shuffle=False, batch_size=1" in reason
    assert ("only 5" if is_shuffled else "has 5 elements") in reason
    assert reason in str(second)


def test_fewer_elements_than_the_length_says():
    class Short(list):
        def __len__(self):
            return 3

    report = run(Short([(IMAGE, mask_of())] * 2))
    assert not report.ok
    assert report.early_end.startswith(
        "The dataset has 2 elements instead of 3."
    )


def test_nothing_is_not_ok():
    report = run([])
    assert not report.ok
    assert str(report).startswith("NOT OK: 0 examples")


def test_faulty_files_are_named(tmp_path):
    write_camvid(tmp_path, {"train": 4})
    (tmp_path / "trainannot" / "train_1.png").write_bytes(b"not a picture")
    pairs = from_folders(
        tmp_path / "train",
        tmp_path / "trainannot",
        classes=11,
        void_labels=(11,),
        image_size=None,
        batch_size=1,
        shuffle=False,
    )
    report = run(pairs, num_classes=11)
    assert report.num_examples == 3
    (failure,) = report.failures
    assert "trainannot/train_1.png: The file cannot be read" in failure


def test_loaded_set_is_ok(scenes_dir, capsys):
    pairs = load(
        "scenes",
        "validation",
        image_size=None,
        batch_size=16,
        data_dir=scenes_dir,
    )
    capsys.readouterr()
    report = check(pairs, num_classes=6)
    assert "2/2" in capsys.readouterr().out
    assert report.ok
    assert report.num_examples == 20
    masks = np.stack([draw_scene((1, number))[1] for number in range(20)])
    assert report.pixel_counts == tuple(np.bincount(masks.flat)[:6].tolist())
    assert report.num_void_pixels == np.sum(masks == 255)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([{"image": IMAGE}], "Received: dict"),
        ([(IMAGE,)], "Received: tuple"),
        ([(IMAGE[..., 0], mask_of())], r"Received: shapes \(4, 6\)"),
        ([(IMAGE, np.zeros((4, 6, 3)))], "Received: shapes"),
        ([(IMAGE[None], np.zeros((2, 4, 6)))], "Received: shapes"),
    ],
)
def test_what_gives_no_pairs(pairs, message):
    with pytest.raises(ValueError, match=f"`dataset` must give.*{message}"):
        run(pairs)


def test_wrong_arguments():
    pairs = tf.data.Dataset.from_tensors((IMAGE, mask_of()))
    with pytest.raises(ValueError, match="`dataset` must have an end"):
        run(pairs.repeat())
    assert run(pairs.repeat().take(3)).num_examples == 3
    with pytest.raises(ValueError, match="`num_classes` must be"):
        run([], num_classes=1)
    with pytest.raises(ValueError, match="`ignore_class` must be"):
        run([], ignore_class="void")
