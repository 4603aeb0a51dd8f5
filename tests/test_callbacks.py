"""Previews, scores by class, and training that resumes exactly."""

import builtins
import csv
import sys

import keras
import numpy as np
import pytest

from keras_deconv import callbacks, losses, metrics

pytestmark = [pytest.mark.oldest, pytest.mark.backend]

as_numpy = keras.ops.convert_to_numpy

NAMES = ("sky", "road", "car")
PALETTE = ((0, 0, 0), (128, 0, 64), (10, 20, 30))
NAMING = dict(class_names=NAMES, palette=PALETTE)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0, 255, (6, 8, 12, 3)).astype("float32")
# Class 2 does not occur.
MASKS = RANDOM.integers(0, 2, (6, 8, 12)).astype("uint8")
MASKS[:, 0] = 255


class Interrupt(keras.callbacks.Callback):
    """Callback that stops training with an error when an epoch begins."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def tiny(*layers, scores=True, **options):
    """Return a model with one convolution that learns from values in 0..255."""
    model = keras.Sequential(
        [
            keras.Input((8, 12, 3)),
            keras.layers.Rescaling(1 / 255),
            *layers,
            keras.layers.Conv2D(3, 1, data_format="channels_last"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.1),
        losses.SegmentationCrossentropy(),
        metrics=[
            metrics.GlobalAccuracy(3),
            *([metrics.ClassAccuracy(3), metrics.MeanIoU(3)] if scores else []),
        ],
        **{"run_eagerly": True, **options},
    )
    return model


def fit(model, *callbacks, epochs=3, **options):
    return model.fit(
        IMAGES,
        MASKS,
        batch_size=3,
        epochs=epochs,
        callbacks=list(callbacks),
        shuffle=False,
        verbose=0,
        **options,
    )


def preview(folder, dataset=((IMAGES, MASKS),), **options):
    return callbacks.PredictionPreview(dataset, folder, **NAMING, **options)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# Previews.


@pytest.mark.slow
def test_preview_writes_every_nth_epoch_and_the_last(tmp_path):
    fit(tiny(), preview(tmp_path / "new" / "folder", every=2), epochs=5)
    assert files(tmp_path / "new" / "folder") == [
        "epoch_0002.png",
        "epoch_0004.png",
        "epoch_0005.png",
    ]
    content = (tmp_path / "new" / "folder" / "epoch_0005.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.slow
def test_preview_of_a_training_that_stops_early(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    fit(tiny(), preview(tmp_path, every=10), Stop(), epochs=9)
    assert files(tmp_path) == ["epoch_0002.png"]


@pytest.mark.slow
@pytest.mark.release
def test_preview_of_the_last_epoch_comes_before_a_backup(tmp_path):
    """A training killed after the last backup does not draw when resumed."""
    found = []

    class Backup(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(files(tmp_path))

    fit(tiny(), preview(tmp_path, every=10), Backup(), epochs=2)
    assert found == [[], ["epoch_0002.png"]]


@pytest.mark.numeric
def test_preview_draws_what_the_model_predicts(tmp_path, monkeypatch):
    drawn = []
    original = callbacks.visualize.draw_predictions

    def draw(images, predictions, truths, **options):
        drawn.append((images, predictions, truths))
        return original(images, predictions, truths, **options)

    model, callback = tiny(), preview(tmp_path, num_images=2)
    monkeypatch.setattr(callbacks.visualize, "draw_predictions", draw)
    fit(model, callback, epochs=2)
    images, predictions, truths = drawn[-1]
    np.testing.assert_array_equal(images, IMAGES[:2])
    np.testing.assert_array_equal(truths, MASKS[:2])
    np.testing.assert_allclose(
        predictions, model.predict(IMAGES[:2], verbose=0), atol=1e-5
    )
    assert np.abs(predictions - drawn[0][1]).max() > 1e-3


def test_preview_of_many_channels(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        callbacks.visualize,
        "draw_predictions",
        lambda images, *_, **options: drawn.append((images.shape, options)),
    )
    images = np.zeros((2, 4, 6, 7), "float32")
    masks = np.zeros((2, 4, 6), "uint8")
    preview(
        tmp_path, [(images, masks)], channels=(3, 2, 1), value_range=(0, 0.3)
    )
    [(shape, options)] = drawn
    assert shape == images.shape
    assert options["channels"] == (3, 2, 1)
    assert options["value_range"] == (0, 0.3)


@pytest.mark.slow
def test_preview_disturbs_neither_metrics_nor_dropout(tmp_path):
    """An epoch has exactly the same results with and without the preview."""
    histories = []
    for extra in ([], [preview(tmp_path)]):
        keras.utils.set_random_seed(0)
        model = tiny(keras.layers.Dropout(0.5, seed=1))
        validation = (IMAGES[:2], MASKS[:2])
        history = fit(model, *extra, validation_data=validation).history
        histories.append((history, [as_numpy(v) for v in model.variables]))
    assert histories[0][0] == histories[1][0]
    for without, with_it in zip(histories[0][1], histories[1][1], strict=True):
        np.testing.assert_array_equal(without, with_it)


def test_preview_takes_the_first_images_of_any_batches(tmp_path):
    weights = np.ones(MASKS.shape, "float32")
    batches = [
        (IMAGES[:2], MASKS[:2], weights[:2]),
        (keras.ops.array(IMAGES[2:4]), keras.ops.array(MASKS[2:4])),
    ]
    callback = preview(tmp_path, batches, num_images=3)
    np.testing.assert_array_equal(callback.images, IMAGES[:3])
    np.testing.assert_array_equal(callback.masks, MASKS[:3])
    assert len(preview(tmp_path, batches, num_images=9).images) == 4


def test_preview_of_batches_that_do_not_say_where_they_end(tmp_path):
    class Slices(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            here = slice(3 * number, 3 * number + 3)
            return IMAGES[here], MASKS[here]

    callback = preview(tmp_path, Slices(), num_images=9)
    np.testing.assert_array_equal(callback.images, IMAGES)


@pytest.mark.slow
def test_preview_of_tf_data_is_read_once(tmp_path):
    tf = pytest.importorskip("tensorflow")
    read = []

    def batches():
        read.append(1)
        yield from [(IMAGES[:3], MASKS[:3]), (IMAGES[3:], MASKS[3:])]

    dataset = tf.data.Dataset.from_generator(
        batches,
        output_signature=(
            tf.TensorSpec((None, 8, 12, 3), "float32"),
            tf.TensorSpec((None, 8, 12), "uint8"),
        ),
    )
    callback = preview(tmp_path, dataset, num_images=4)
    np.testing.assert_array_equal(callback.images, IMAGES[:4])
    fit(tiny(), callback, epochs=2)
    assert len(read) == 1
    assert len(files(tmp_path)) == 2


def test_a_killed_preview_leaves_no_half_picture(tmp_path, monkeypatch):
    callback = preview(tmp_path)
    (tmp_path / "epoch_0001.png").write_bytes(b"an older one")

    class Killed:
        def savefig(self, path, **options):
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    monkeypatch.setattr(callback, "_figure", lambda *_: Killed())
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), callback)
    assert (tmp_path / "epoch_0001.png").read_bytes() == b"an older one"


@pytest.mark.slow
def test_preview_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    tf = pytest.importorskip("tensorflow")
    logs = tmp_path / "logs"
    fit(tiny(), preview(tmp_path, log_dir=logs), epochs=2)
    found = []
    for file in logs.iterdir():
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                width, height, content = value.tensor.string_val[:3]
                found.append((event.step, value.tag))
                picture = tf.io.decode_png(content)
                assert picture.shape == (int(height), int(width), 3)
                written = tmp_path / f"epoch_{event.step + 1:04}.png"
                np.testing.assert_array_equal(
                    picture, tf.io.decode_png(written.read_bytes(), channels=3)
                )
    assert found == [(0, "predictions"), (1, "predictions")]


def test_preview_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        preview(tmp_path, log_dir=tmp_path)


def test_preview_without_matplotlib(tmp_path, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="examples"):
        preview(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(num_images=0), "`num_images` must be an int >= 1"),
        (dict(every=0), "`every` must be an int >= 1"),
        (dict(dataset=[]), "at least one image"),
        (dict(dataset=[IMAGES]), r"batches \(image, mask\)"),
        (dict(dataset=[(IMAGES, MASKS[:, :4])]), "all of the same size"),
        (dict(dataset=[(IMAGES, MASKS[:2])]), "6 images and 2 masks"),
        (dict(dataset=[(IMAGES / 255, MASKS)]), "Multiply by 255"),
        (dict(dataset=[(IMAGES, MASKS + 3)]), "`truths` must hold class ids"),
        (dict(ignore_class=None), "other labels: 255"),
    ],
)
def test_preview_mistakes_show_at_construction(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        preview(tmp_path, **arguments)


def test_preview_of_another_model_shows_before_training(tmp_path):
    callback = callbacks.PredictionPreview(
        [(IMAGES, MASKS)],
        tmp_path,
        class_names=("sky", "road"),
        palette=PALETTE[:2],
    )
    with pytest.raises(ValueError, match="2 `class_names`"):
        fit(tiny(), callback)


# Scores by class.


def report(tables, **options):
    return callbacks.PerClassReport(
        NAMES, print_function=tables.append, **options
    )


def scores_by_hand(model, images, masks):
    """Compute accuracy and IoU in a loop over the classes."""
    predicted = model.predict(images, verbose=0).argmax(-1)
    for label in range(3):
        true = masks == label
        mine = (predicted == label) & (masks != 255)
        both = np.sum(true & mine)
        accuracy = both / np.sum(true) if np.any(true) else None
        union = np.sum(true | mine)
        yield accuracy, both / union if union else None


def read_scores(rows):
    for row in rows:
        yield tuple(
            float(row[name]) if row[name] else None
            for name in ("class_accuracy", "mean_iou")
        )


@pytest.mark.slow
@pytest.mark.numeric
def test_report_is_of_the_validation_data(tmp_path):
    tables, path = [], tmp_path / "scores" / "scores.csv"
    model = tiny()
    validation = (IMAGES[4:], MASKS[4:])
    history = fit(
        model,
        report(tables, path=path),
        validation_data=validation,
        validation_batch_size=1,
        epochs=2,
    ).history
    rows = rows_of(path)
    assert list(rows[0]) == [
        *("epoch", "split", "class"),
        *("class_accuracy", "mean_iou"),
    ]
    assert [row["epoch"] for row in rows] == ["0"] * 3 + ["1"] * 3
    assert [row["class"] for row in rows] == [*NAMES, *NAMES]
    assert {row["split"] for row in rows} == {"validation"}
    expected = list(scores_by_hand(model, *validation))
    for ours, theirs in zip(read_scores(rows[3:]), expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a == b if b is None else a == pytest.approx(b, rel=1e-5)
    accuracies = [s for s, _ in read_scores(rows[:3]) if s is not None]
    mean = np.mean(accuracies)
    assert history["val_class_accuracy"][0] == pytest.approx(mean)
    assert history["class_accuracy"][0] != pytest.approx(mean)
    assert tables[0].splitlines()[0] == "Epoch 1, validation"
    assert tables[1].splitlines()[-1].split() == ["car", "-", "-"]


@pytest.mark.numeric
def test_report_without_validation_is_of_the_training_data(tmp_path):
    tables, path = [], tmp_path / "scores.csv"
    history = fit(tiny(), report(tables, path=path), epochs=1).history
    rows = rows_of(path)
    assert [row["split"] for row in rows] == ["training"] * 3
    means = np.array(list(read_scores(rows)), float)
    for name, mean in zip(
        ("class_accuracy", "mean_iou"), np.nanmean(means, axis=0), strict=True
    ):
        assert history[name][0] == pytest.approx(mean, rel=1e-5)
    assert [row["class_accuracy"] for row in rows][2] == ""


@pytest.mark.slow
def test_report_says_which_data_where_validation_is_rare():
    tables = []
    fit(
        tiny(),
        report(tables),
        validation_data=(IMAGES, MASKS),
        validation_freq=2,
    )
    assert [t.splitlines()[0] for t in tables] == [
        "Epoch 1, training",
        "Epoch 2, validation",
        "Epoch 3, training",
    ]


@pytest.mark.slow
@pytest.mark.release
def test_report_columns_are_aligned():
    tables = []
    fit(tiny(), report(tables, every=2))
    (table,) = tables
    title, *lines = table.splitlines()
    assert title == "Epoch 2, training"
    assert lines[0] == "class  class_accuracy  mean_iou"
    assert len({len(line) for line in lines}) == 1
    assert lines[3] == "car                 -         -"


def test_report_begins_below_the_progress_bar(capsys):
    tables, model = [], tiny()
    for verbose in ("auto", 2):
        callback = report(tables)
        model.fit(IMAGES, MASKS, callbacks=[callback], verbose=verbose)
    starts = [table.split(",")[0] for table in tables]
    assert starts == ["\nEpoch 1", "Epoch 1"]


@pytest.mark.slow
def test_another_evaluation_does_not_change_the_report(tmp_path):
    """Another callback may evaluate other data before the report."""

    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(IMAGES[:1], MASKS[:1], verbose=0)

    written = []
    for extra in ([], [Evaluate()]):
        keras.utils.set_random_seed(0)
        path = tmp_path / f"{len(extra)}.csv"
        validation = (IMAGES[4:], MASKS[4:])
        fit(
            tiny(),
            *extra,
            report([], path=path),
            validation_data=validation,
            epochs=1,
        )
        written.append(path.read_text())
    assert written[0] == written[1]


def test_evaluate_alone_reports_nothing():
    tables = []
    callback = report(tables)
    tiny().evaluate(IMAGES, MASKS, callbacks=[callback], verbose=0)
    assert tables == []


@pytest.mark.slow
def test_a_resumed_report_has_each_epoch_once(tmp_path):
    path = tmp_path / "scores.csv"
    fit(tiny(), report([], path=path), epochs=4)
    first = rows_of(path)
    # Epochs 0 and 1 stay; epochs 2 and 3 are repeated.
    fit(tiny(), report([], path=path), epochs=5, initial_epoch=2)
    rows = rows_of(path)
    assert [r["epoch"] for r in rows] == [str(i // 3) for i in range(15)]
    assert rows[:6] == first[:6]
    assert rows[6:12] != first[6:12]
    # A new training may use the same callback.
    callback = report([], path=path)
    for epochs in (2, 1):
        fit(tiny(), callback, epochs=epochs)
        assert len(rows_of(path)) == 3 * epochs
    assert files(tmp_path) == ["scores.csv"]


def test_report_of_a_file_with_other_columns(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1.5\n")
    with pytest.raises(ValueError, match=r"the columns epoch, split, class"):
        fit(tiny(), report([], path=path))
    assert path.read_text() == "epoch,loss\n0,1.5\n"


def test_report_needs_metrics_of_classes():
    """Keras may build metrics in the first batch, which may be the only one."""
    for extra in ({}, dict(validation_data=(IMAGES, MASKS))):
        with pytest.raises(ValueError, match=r"metrics=\[metrics.MeanIoU"):
            fit(tiny(scores=False), report([]), epochs=1, **extra)
    model = tiny(scores=False)
    model.train_on_batch(IMAGES, MASKS)
    before = [as_numpy(w) for w in model.weights]
    with pytest.raises(ValueError, match=r"Received: no such metrics"):
        fit(model, report([]), epochs=1)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, as_numpy(new))


@pytest.mark.slow
@pytest.mark.release
def test_report_of_two_metrics_of_one_name():
    model = tiny()
    model.compile(
        "sgd",
        losses.SegmentationCrossentropy(),
        metrics=[metrics.MeanIoU(3), metrics.ClassAccuracy(3, name="mean_iou")],
    )
    with pytest.raises(ValueError, match="distinct names"):
        fit(model, report([]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(class_names="sky"), "`class_names` must be"),
        (dict(class_names=("sky", "sky")), "distinct names"),
        (dict(class_names=("sky",)), "at least two"),
        (dict(every=0), "`every` must be an int >= 1"),
        (dict(print_function="print"), "`print_function` must"),
    ],
)
def test_report_mistakes(arguments, words):
    with pytest.raises(ValueError, match=words):
        callbacks.PerClassReport(**{"class_names": NAMES, **arguments})


@pytest.mark.slow
def test_report_of_another_number_of_classes():
    with pytest.raises(ValueError, match="'class_accuracy', which has 3"):
        fit(tiny(), callbacks.PerClassReport(("sky", "road")))


# Resumed training.


def dropouts():
    """Return a model with plain, nested and wrapped dropout."""
    inner = keras.Sequential(
        [keras.layers.SpatialDropout2D(0.3, data_format="channels_last")]
    )
    wrapped = keras.layers.TimeDistributed(keras.layers.GaussianDropout(0.5))
    return keras.layers.Dropout(0.5, seed=3), inner, wrapped


def weights_after(folder, seeds, interrupt=False):
    """Return the weights after four epochs, or after two and two."""

    def train(*extra):
        # The initial weights must not matter, since they are restored.
        model = tiny(*dropouts(), run_eagerly=False)
        backup = keras.callbacks.BackupAndRestore(folder)
        fit(model, *seeds, *extra, backup, epochs=4)
        return [as_numpy(w) for w in model.weights]

    keras.utils.set_random_seed(0)
    if interrupt:
        with pytest.raises(KeyboardInterrupt):
            train(Interrupt(2))
        keras.utils.set_random_seed(99)
    return train()


def differs(first, second):
    return any(np.any(a != b) for a, b in zip(first, second, strict=True))


@pytest.mark.numeric
@pytest.mark.slow
def test_a_resumed_training_is_the_same_to_the_bit(tmp_path):
    seeds = [callbacks.EpochSeed(5)]
    whole = weights_after(tmp_path / "a", seeds)
    resumed = weights_after(tmp_path / "b", seeds, interrupt=True)
    assert not differs(whole, resumed)
    assert differs(
        whole, weights_after(tmp_path / "c", [callbacks.EpochSeed(6)])
    )


@pytest.mark.slow
@pytest.mark.release
def test_without_seeds_it_is_not_the_same(tmp_path):
    """This proves that the test above fails without the callback."""
    whole = weights_after(tmp_path / "a", [])
    assert differs(whole, weights_after(tmp_path / "b", [], interrupt=True))


def states_at(model, seed, epoch):
    callback = callbacks.EpochSeed(seed)
    callback.set_model(model)
    callback.on_epoch_begin(epoch)
    weights = {id(w) for w in model.weights}
    return [
        tuple(as_numpy(v).tolist())
        for v in model.variables
        if id(v) not in weights
    ]


def test_every_generator_is_seeded_by_seed_place_and_epoch():
    model = tiny(*dropouts())
    generators = [
        model.layers[1].seed_generator,
        model.layers[2].layers[0].seed_generator,
        model.layers[3].layer.seed_generator,
    ]
    states = states_at(model, 1, 0)
    assert len(states) == 3
    for generator, state in zip(generators, states, strict=True):
        assert tuple(as_numpy(generator.state).tolist()) == state
        assert state[1] == 0
    assert len({*states, *states_at(model, 1, 1), *states_at(model, 2, 0)}) == 9
    assert states_at(model, 1, 0) == states
    # The same code builds a model whose layers have other names.
    assert states_at(tiny(*dropouts()), 1, 0) == states


def test_the_epoch_is_there_before_the_data_is_read(tmp_path):
    tf = pytest.importorskip("tensorflow")
    epoch, seen = tf.Variable(-1, dtype="int64"), []

    def record(number):
        seen.append(int(number))
        return np.int64(number)

    def read(image, mask):
        number = tf.numpy_function(record, [epoch], tf.int64)
        with tf.control_dependencies([number]):
            return tf.identity(image), mask

    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, MASKS))
    dataset = dataset.map(read).batch(3).prefetch(2)
    model = tiny()
    model.fit(
        dataset,
        epochs=4,
        initial_epoch=1,
        callbacks=[callbacks.EpochSeed(0, epoch)],
        shuffle=False,
        verbose=0,
    )
    # Keras may read a batch before the first epoch, to build the model.
    trained = [number for number in seen if number >= 0]
    assert trained == sorted([1, 2, 3] * len(IMAGES))
    assert int(epoch) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(seed=-1), "`seed` must be an int >= 0"),
        (dict(seed=None), "`seed` must be an int >= 0"),
        (dict(seed=0, epoch=3), r"tf.Variable\(0, dtype='int64'\)"),
    ],
)
def test_seed_mistakes(arguments, words):
    with pytest.raises(ValueError, match=words):
        callbacks.EpochSeed(**arguments)


def test_epoch_variables_of_other_kinds():
    tf = pytest.importorskip("tensorflow")
    for wrong in (tf.Variable(0), tf.Variable([0], dtype="int64")):
        with pytest.raises(ValueError, match=r"`epoch` must be a tf\.Variable"):
            callbacks.EpochSeed(0, wrong)
