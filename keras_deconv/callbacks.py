"""Callbacks of `fit`: pictures, scores by class, and training resumed exactly.

What Keras has stays Keras': `CSVLogger`, `ModelCheckpoint`, `BackupAndRestore`.
"""

import csv
import importlib.util
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deconv import _arguments, _backends, _files, visualize
from keras_deconv._labels import IgnoreClass

__all__ = ["EpochSeed", "PerClassReport", "PredictionPreview"]

Row = dict[str, Any]

# Columns of the file of `PerClassReport` before those of the metrics.
KEYS = ("epoch", "split", "class")


def _first_images(
    dataset: Iterable[Any], num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first images of batches, fewer if there are fewer, and the masks."""
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for batch in dataset:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ValueError(
                "`dataset` must give batches (image, mask) or (image, mask, "
                f"weight), as data.load does. Received: {type(batch).__name__}"
            )
        image, mask = map(_as_numpy, batch[:2])
        images.extend(image)
        masks.extend(mask)
        # Sequences that do not say where they end may give empty batches.
        if len(images) >= num_images or not len(image):
            break
    sizes = {part.shape[:2] for part in (*images, *masks)}
    if len(sizes) != 1 or len(images) != len(masks):
        raise ValueError(
            "`dataset` must give at least one image, images of one size, and a "
            f"mask of that size for each. Received: {len(images)} images and "
            f"{len(masks)} masks of the sizes {sorted(sizes)}. data.load "
            "resizes with image_size=(height, width)."
        )
    return np.stack(images[:num_images]), np.stack(masks[:num_images])


def _as_numpy(tensor: Any) -> np.ndarray:
    # Batches of tf.data are no tensors of the other backends.
    if ops.is_tensor(tensor):
        return ops.convert_to_numpy(tensor)
    return np.asarray(tensor)


def _metrics_per_class(metrics: Iterable[Any]) -> Iterator[Any]:
    """Metrics that have scores of classes; Keras keeps them inside others."""
    for metric in metrics:
        if hasattr(metric, "per_class"):
            yield metric
        yield from _metrics_per_class(getattr(metric, "metrics", ()))


def _table(rows: list[Row]) -> str:
    """Text with one line per class, columns aligned."""
    columns = []
    for title in rows[0]:
        values = [row[title] for row in rows]
        if title == "class":
            width = max(len(text) for text in (title, *values))
            columns.append([text.ljust(width) for text in (title, *values)])
        else:
            texts = ["-" if v is None else f"{v:.3f}" for v in values]
            width = max(len(text) for text in (title, *texts))
            columns.append([text.rjust(width) for text in (title, *texts)])
    return "\n".join(map("  ".join, zip(*columns, strict=True)))


def _seed_states(model: keras.Model) -> list[Any]:
    """States of the seed generators of a model, in the order of its layers.

    They are the variables that Keras does not count among the weights.
    """
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) not in weights]


class PredictionPreview(keras.callbacks.Callback):
    """Draws what the model predicts, after every n-th epoch.

    The same images each time, so that one sees the model learn. They are read
    once, and predicted in one batch; neither the metrics of `fit` nor the
    sequence of dropout notice.

    Args:
        dataset: Batches (image, mask) or (image, mask, weight), such as
            `data.load` gives: images in 0..255 of any number of channels,
            masks of class ids or void. Anything that can be iterated over.
            All images of one size.
        output_dir: str or path. Folder for the pictures, made where it is
            missing: `epoch_0001.png` is drawn after the first epoch.
        class_names: One str per class.
        palette: One (red, green, blue) in 0..255 for each class.
        ignore_class: int, tuple of ints or None. Labels that are void.
        num_images: int >= 1. Images to take from the start of `dataset`.
        every: int >= 1. Draw after every n-th epoch; and once more at the end
            of training, if its last epoch is none of them.
        log_dir: str or path. Folder of TensorBoard, which then shows the same
            pictures, with the number of the epoch, from 0, as step. None:
            pictures are files only.
        channels: Sequence of three ints >= 0, the channels that are drawn as
            red, green and blue, such as (3, 2, 1); or of one, drawn as gray.
            Defaults to the first three; of two channels to the first one.
        value_range: Tuple (low, high) of the values that are drawn as 0 and
            255, for images that are not in 0..255. Values beyond are clipped.
            Defaults to none.

    Raises:
        ValueError: At construction: an argument that breaks the rule that the
            error names. When training begins: a model whose outputs are not
            one number for each class.
        ImportError: matplotlib, or with `log_dir` tensorboard, is missing.

    Edge cases:
        A training that is killed leaves whole pictures only. One that is
        resumed draws anew what it does anew.

    Example:
        >>> import os, tempfile
        >>> import keras, numpy as np
        >>> from keras_deconv import callbacks, losses
        >>> images = np.zeros((2, 4, 6, 3), "float32")
        >>> masks = np.zeros((2, 4, 6), "uint8")
        >>> model = keras.Sequential(
        ...     [keras.Input((4, 6, 3)), keras.layers.Conv2D(2, 1)])
        >>> model.compile("sgd", losses.SegmentationCrossentropy())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     preview = callbacks.PredictionPreview(
        ...         [(images, masks)], folder, class_names=("sky", "road"),
        ...         palette=((128, 128, 128), (128, 64, 128)))
        ...     _ = model.fit(
        ...         images, masks, epochs=2, callbacks=[preview], verbose=0)
        ...     sorted(os.listdir(folder))
        ['epoch_0001.png', 'epoch_0002.png']
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        palette: visualize.Palette,
        ignore_class: IgnoreClass = 255,
        num_images: int = 4,
        every: int = 1,
        log_dir: str | os.PathLike[str] | None = None,
        channels: Sequence[int] | None = None,
        value_range: _arguments.ValueRange | None = None,
    ) -> None:
        super().__init__()
        self.images, self.masks = _first_images(
            _arguments.batches(dataset, "dataset"),
            _arguments.positive_int(num_images, "num_images"),
        )
        self.output_dir = _arguments.path(output_dir, "output_dir")
        self.class_names = _arguments.class_names(class_names)
        self.palette = palette
        self.ignore_class = ignore_class
        self.every = _arguments.positive_int(every, "every")
        if log_dir is not None:
            _arguments.path(log_dir, "log_dir")
        self.log_dir = log_dir
        self.channels = channels
        self.value_range = value_range
        self._writer: Any = None
        self._undrawn: int | None = None
        if log_dir is not None and not importlib.util.find_spec("tensorboard"):
            raise ImportError(
                "`log_dir` needs tensorboard, which is not installed: "
                "pip install tensorboard"
            )
        # Wrong arguments should show before an epoch has been trained.
        self._figure(np.zeros(self.masks.shape, "int32"))

    def on_train_begin(self, logs: Any = None) -> None:
        # A model that is not Functional knows the shape only when called.
        shape = getattr(self.model, "output_shape", None)
        num_classes = len(self.class_names)
        if isinstance(shape, tuple) and shape[-1] not in (num_classes, None):
            raise ValueError(
                "The model must give one number for each of the "
                f"{num_classes} `class_names`. Received: a model whose "
                f"output_shape={shape}"
                + (f". {_arguments.TWO_LOGITS}" if shape[-1] == 1 else "")
            )
        self._undrawn = None
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._undrawn = epoch
        # The last one not only when training ends: a callback that backs up
        # the epoch comes before that, and then it would not be drawn again.
        is_last = epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every == 0 or is_last:
            self._draw(epoch)

    def on_train_end(self, logs: Any = None) -> None:
        if self._undrawn is not None:
            self._draw(self._undrawn)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _draw(self, epoch: int) -> None:
        predictions = self.model.predict_on_batch(self.images)
        # A strategy of two replicas predicts the batch on each of them.
        figure = self._figure(predictions[: len(self.images)])
        path = self.output_dir / f"epoch_{epoch + 1:04}.png"
        with _files.replaced(path) as part:
            figure.savefig(part, format="png")
        if self.log_dir is not None:
            self._log(path, epoch)
        self._undrawn = None

    def _figure(self, predictions: np.ndarray) -> Any:
        return visualize.draw_predictions(
            self.images,
            predictions,
            self.masks,
            class_names=self.class_names,
            palette=self.palette,
            ignore_class=self.ignore_class,
            channels=self.channels,
            value_range=self.value_range,
        )

    def _log(self, path: Path, epoch: int) -> None:
        # Backends other than TensorFlow do without it until here.
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))
        picture = tf.io.decode_png(path.read_bytes(), channels=3)
        with self._writer.as_default():
            tf.summary.image("predictions", picture[None], step=epoch)
        self._writer.flush()


class PerClassReport(keras.callbacks.Callback):
    """Prints the scores of each class after every n-th epoch.

    One row per class, one column for each compiled metric that has
    `per_class()`, such as `metrics.ClassAccuracy`, `metrics.MeanIoU` and
    `metrics.BoundaryF1`. The scores are those of the validation data where
    `fit` has some, else those of training: the title says which.

    Args:
        class_names: One str per class, all different; for a set of the catalog
            `data.describe(name).class_names`.
        path: str or path of a CSV file for the scores, which is added to.
            Columns: `epoch` (from 0, as `keras.callbacks.CSVLogger` counts),
            `split` ("validation" or "training"), `class`, and one for each
            metric. None: print only.
        every: int >= 1. Report every n-th epoch.
        print_function: Function that takes the table as one str.

    Raises:
        ValueError: At construction: an argument that breaks the rule that the
            error names. When training begins: no metric with scores of
            classes, two of one name, another number of classes, or a file of
            other columns. On TensorFlow Keras builds metrics in the first
            batch: then it is after that.

    Edge cases:
        A class that does not occur is "-" in the table, empty in the file.
        A training that is resumed, or begun anew, first drops the rows of the
        epochs that it will write again: no epoch is there twice. Put
        `BackupAndRestore` after this callback, so that none is missing either,
        and callbacks that evaluate something else too: without validation data
        the metrics hold what was measured last.
        Where validation is not done in each epoch (`validation_freq`), the
        epochs between report training.

    Example:
        >>> import keras, numpy as np
        >>> from keras_deconv import callbacks, losses, metrics
        >>> model = keras.Sequential([
        ...     keras.Input((4, 6, 3)),
        ...     keras.layers.Conv2D(
        ...         2, 1, bias_initializer=lambda *_, **__: [9.0, 0.0]),
        ... ])
        >>> model.compile(
        ...     "sgd", losses.SegmentationCrossentropy(),
        ...     metrics=[metrics.ClassAccuracy(2), metrics.MeanIoU(2)])
        >>> _ = model.fit(
        ...     np.zeros((1, 4, 6, 3)), np.zeros((1, 4, 6), "uint8"),
        ...     callbacks=[callbacks.PerClassReport(("sky", "road"))],
        ...     verbose=0)
        Epoch 1, training
        class  class_accuracy  mean_iou
        sky             1.000     1.000
        road                -         -
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        path: str | os.PathLike[str] | None = None,
        every: int = 1,
        print_function: Callable[[str], Any] = print,
    ) -> None:
        super().__init__()
        if not callable(print_function):
            raise ValueError(
                "`print_function` must take a str, as print does. Received: "
                f"print_function={print_function!r}"
            )
        self.class_names = _arguments.class_names(class_names)
        self.path = None if path is None else _arguments.path(path, "path")
        self.every = _arguments.positive_int(every, "every")
        self.print_function = print_function
        self._epoch: int | None = None
        self._metrics: list[Any] = []
        self._validation: list[Row] | None = None
        self._rows: list[Row] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._epoch = self._rows = None
        # Before the first batch Keras may not know the metrics it will have.
        is_known = all(getattr(m, "built", True) for m in self.model.metrics)
        self._metrics = self._found_metrics() if is_known else []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._validation = None
        if self._metrics:
            self._prepare()

    # Not on_train_batch_end, for which Keras would wait after each batch.
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch:
            self._prepare()

    def on_test_end(self, logs: Any = None) -> None:
        # Another callback may evaluate something else before the epoch ends.
        if self._epoch is not None:
            self._prepare()
            self._validation = self._scores()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._prepare()
        if (epoch + 1) % self.every == 0:
            split = "training" if self._validation is None else "validation"
            self._report(epoch, split, self._validation or self._scores())

    def on_train_end(self, logs: Any = None) -> None:
        self._epoch = None

    def _prepare(self) -> None:
        """Find the metrics and clear the file, once in a training."""
        if self._rows is None:
            self._metrics = self._found_metrics()
            self._rows = self._rows_before(self._epoch)
            self._write_rows()

    def _found_metrics(self) -> list[Any]:
        found = list(_metrics_per_class(self.model.metrics))
        names = [metric.name for metric in found]
        if not found or len(set(names)) < len(names):
            raise ValueError(
                "The model must be compiled with metrics that have scores of "
                "classes, such as metrics=[metrics.MeanIoU(num_classes)], each "
                f"of its own name. Received: {', '.join(names) or 'none'}"
            )
        expected = len(self.class_names)
        for metric in found:
            number = getattr(metric, "num_classes", expected)
            if number != expected:
                raise ValueError(
                    "`class_names` must be one name for each class of the "
                    f"metric {metric.name!r}, which has {number}. "
                    f"Received: class_names={self.class_names!r}"
                )
        return found

    def _scores(self) -> list[Row]:
        """For each class its name, and its score by each metric or None."""
        rows: list[Row] = [{"class": name} for name in self.class_names]
        for metric in self._metrics:
            scores = ops.convert_to_numpy(metric.per_class()).tolist()
            for row, score in zip(rows, scores, strict=True):
                row[metric.name] = None if math.isnan(score) else score
        return rows

    def _report(self, epoch: int, split: str, scores: list[Row]) -> None:
        # The progress bar of fit has not ended its line yet.
        start = "\n" if self.params.get("verbose") in (1, "auto") else ""
        title = f"{start}Epoch {epoch + 1}, {split}"
        self.print_function(f"{title}\n{_table(scores)}")
        self._rows = [
            *(self._rows or []),
            *({"epoch": epoch, "split": split, **row} for row in scores),
        ]
        self._write_rows()

    def _columns(self) -> list[str]:
        return [*KEYS, *(metric.name for metric in self._metrics)]

    def _rows_before(self, epoch: int | None) -> list[Row]:
        """What the file says of the epochs before one."""
        if self.path is None or epoch is None or not self.path.exists():
            return []
        try:
            _files.check_readable(self.path)
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                columns, rows = reader.fieldnames, list(reader)
            # A row that is too short or too long has None in it.
            if any(None in (*row, *row.values()) for row in rows):
                raise ValueError("not every line has all columns")
            before = [row for row in rows if int(row.get("epoch", 0)) < epoch]
        except (ValueError, csv.Error) as error:
            raise ValueError(
                "`path` must be a file that this callback wrote, or a new one. "
                f"Received: {str(self.path)!r}, which is damaged: {error}"
            ) from error
        if columns != self._columns():
            raise ValueError(
                "`path` must be a file with the columns "
                f"{', '.join(self._columns())}, or a new one. Received: "
                f"{str(self.path)!r}, whose first line is {columns}"
            )
        return before

    def _write_rows(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (
            _files.replaced(self.path) as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self._columns(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows or [])


class EpochSeed(keras.callbacks.Callback):
    """Makes an epoch the same, whether or not training was interrupted before.

    `keras.callbacks.BackupAndRestore` brings back weights, optimizer and the
    number of the epoch, but neither what dropout would have drawn next nor the
    order of the data. Here both follow from a seed and the epoch alone.

    Args:
        seed: int >= 0.
        epoch: `tf.Variable`, an int64 scalar, which is set to the epoch, from
            0, as each one begins: `data.load(..., epoch=epoch)` reads it. None:
            the data takes care of itself.

    Raises:
        ValueError: An argument breaks the rule that the error names.

    Edge cases:
        All sources of randomness that are part of the model are set: those of
        models inside it, of wrapped layers and of layers of your own that hold
        a `keras.random.SeedGenerator`. On PyTorch, where Keras' dropout has
        none, `torch.manual_seed` is set. Random numbers that are drawn without
        a generator (`keras.random.normal` without seed) are not followed, nor
        is the shuffling of arrays by `fit`: give it a data set.
        A training is resumed at the begin of an epoch: keep the default
        `save_freq="epoch"` of `BackupAndRestore`. The model must be made by
        the same code again. With `steps_per_epoch`, or a data set that repeats,
        tf.data reads ahead across the end of an epoch, before `epoch` is set:
        let `fit` go through the data set once in each epoch.

    Example:
        >>> import keras, tensorflow as tf
        >>> from keras_deconv import callbacks
        >>> dropout = keras.layers.Dropout(0.5)
        >>> model = keras.Sequential([keras.Input((4,)), dropout])
        >>> epoch = tf.Variable(0, dtype="int64")
        >>> seeds = callbacks.EpochSeed(0, epoch)
        >>> seeds.set_model(model)  # fit does this, and what follows
        >>> seeds.on_epoch_begin(7)
        >>> int(epoch)
        7
    """

    def __init__(self, seed: int, epoch: Any = None) -> None:
        super().__init__()
        self.seed = _arguments.natural_int(seed, "seed")
        self.epoch = epoch
        _arguments.check_epoch(epoch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.epoch is not None:
            self.epoch.assign(epoch)
        _backends.set_global_seed(self._seed(epoch, 0))
        for place, state in enumerate(_seed_states(self.model), start=1):
            state.assign([self._seed(epoch, place), 0])

    def _seed(self, epoch: int, place: int) -> int:
        """Unlike those of other places and epochs; it fits into an int32."""
        sequence = np.random.SeedSequence([self.seed, epoch, place])
        return int(sequence.generate_state(1)[0]) >> 1
