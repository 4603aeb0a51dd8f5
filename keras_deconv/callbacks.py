"""Callbacks for `fit`: previews, scores by class and reproducible resuming.

They complement the callbacks of Keras, such as `CSVLogger`, `ModelCheckpoint`
and `BackupAndRestore`.
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

# First columns of the file of `PerClassReport`; those of the metrics follow.
KEYS = ("epoch", "split", "class")


def _first_images(
    dataset: Iterable[Any], num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images of a dataset and their masks, as arrays."""
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for batch in dataset:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ValueError(
                "`dataset` must contain batches (image, mask) or (image, mask, "
                f"weight), as data.load returns. Received: a batch of type "
                f"{type(batch).__name__}"
            )
        image, mask = map(_as_numpy, batch[:2])
        images.extend(image)
        masks.extend(mask)
        # A `keras.utils.PyDataset` without a length may return empty batches.
        if len(images) >= num_images or not len(image):
            break
    sizes = {part.shape[:2] for part in (*images, *masks)}
    if len(sizes) != 1 or len(images) != len(masks):
        raise ValueError(
            "`dataset` must contain at least one image and a mask for each "
            f"image, all of the same size. Received: {len(images)} images and "
            f"{len(masks)} masks of the sizes {sorted(sizes)}. To resize them, "
            "pass image_size=(height, width) to data.load."
        )
    return np.stack(images[:num_images]), np.stack(masks[:num_images])


def _as_numpy(tensor: Any) -> np.ndarray:
    # On other backends, batches of tf.data are not tensors.
    if ops.is_tensor(tensor):
        return ops.convert_to_numpy(tensor)
    return np.asarray(tensor)


def _metrics_per_class(metrics: Iterable[Any]) -> Iterator[Any]:
    """Yield metrics with scores of classes; Keras nests metrics in others."""
    for metric in metrics:
        if hasattr(metric, "per_class"):
            yield metric
        yield from _metrics_per_class(getattr(metric, "metrics", ()))


def _table(rows: list[Row]) -> str:
    """Return a text table with one line per class and aligned columns."""
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
    """Return the states of the seed generators of a model, in layer order.

    They are the variables that Keras does not count as weights.
    """
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) not in weights]


class PredictionPreview(keras.callbacks.Callback):
    """Callback that draws predictions of the same images during training.

    Use it to watch the model improve. The images are read once and predicted in
    one batch. The preview does not change the metrics of `fit` or the random
    numbers of dropout.

    Args:
        dataset: Iterable of batches (image, mask) or (image, mask, weight),
            such as `data.load` returns. Images have values in 0..255 (unless
            `value_range` is set) and any number of channels. Masks hold class
            ids or void. All images must have the same size.
        output_dir: str or path. Folder for the figures. It is created if it
            does not exist. The file `epoch_0001.png` shows the model after the
            first epoch.
        class_names: Sequence of one str per class.
        palette: Sequence of one (red, green, blue) in 0..255 per class.
        ignore_class: int, tuple of ints or None. Void labels. The default is
            255.
        num_images: int >= 1. Number of images to draw, from the start of
            `dataset`. The default is 4.
        every: int >= 1. Draw after every n-th epoch, and after the last one.
            The default is 1.
        log_dir: None, str or path. Folder for TensorBoard, which shows the same
            figures with the epoch, counted from 0, as step. None writes only
            files.
        channels: None, or a sequence of three or one ints >= 0. Three channels
            are drawn as red, green and blue, for example (3, 2, 1). One channel
            is drawn in gray. None draws the first three channels, or the first
            one if there are fewer than three.
        value_range: None, or a tuple (low, high) of the values to draw as 0 and
            255. Values outside are clipped. None is for images in 0..255.

    Raises:
        ValueError: If an argument does not have the type or the range above.
        ValueError: If `dataset` does not return images of one size with masks.
        ValueError: If the masks hold labels that are neither a class nor void.
        ValueError: If the model does not output one number per class. This is
            checked when training begins.
        ImportError: If matplotlib is not installed, or tensorboard if `log_dir`
            is set.

    Edge cases:
        Figures are complete even if the training is killed while writing. If
        the training is resumed, repeated epochs overwrite their figures.

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
                "`log_dir` requires tensorboard, which is not installed. "
                "Install it with: pip install tensorboard"
            )
        # This raises errors for wrong arguments before the first epoch.
        self._figure(np.zeros(self.masks.shape, "int32"))

    def on_train_begin(self, logs: Any = None) -> None:
        # Subclassed models do not know the shape before they are called.
        shape = getattr(self.model, "output_shape", None)
        num_classes = len(self.class_names)
        if isinstance(shape, tuple) and shape[-1] not in (num_classes, None):
            raise ValueError(
                "The model must output one number for each of the "
                f"{num_classes} `class_names`. Received: a model with "
                f"output_shape={shape}"
                + (f". {_arguments.TWO_LOGITS}" if shape[-1] == 1 else "")
            )
        self._undrawn = None
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._undrawn = epoch
        # Draw the last epoch before training ends: if a backup callback saves
        # the epoch first, a resumed training would not draw it.
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
        # Each replica of a strategy predicts the whole batch.
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
        # Other backends need TensorFlow only here.
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))
        picture = tf.io.decode_png(path.read_bytes(), channels=3)
        with self._writer.as_default():
            tf.summary.image("predictions", picture[None], step=epoch)
        self._writer.flush()


class PerClassReport(keras.callbacks.Callback):
    """Callback that prints the scores of each class during training.

    Use it to see which classes a model does not learn. The table has one row
    per class, and one column for each compiled metric with `per_class()`, such
    as `metrics.ClassAccuracy`, `metrics.MeanIoU` and `metrics.BoundaryF1`. It
    shows the scores of the validation data if `fit` has validation data, and
    otherwise those of the training data. The title says which.

    Args:
        class_names: Sequence of one distinct str per class. For a dataset of
            the catalog, pass `data.describe(name).class_names`.
        path: None, str or path of a CSV file to add the scores to. The columns
            are `epoch` (from 0, as in `keras.callbacks.CSVLogger`), `split`
            ("validation" or "training"), `class`, and one for each metric. None
            only prints.
        every: int >= 1. Report after every n-th epoch. The default is 1.
        print_function: Function that prints the table, given as one str. The
            default is `print`.

    Raises:
        ValueError: If an argument does not have the type or the range above.
        ValueError: If the model does not have a metric with scores of classes,
            or two of them have the same name.
        ValueError: If a metric has another number of classes than
            `class_names`.
        ValueError: If the file is damaged or has other columns. These errors
            and those of the model are raised when training begins. On
            TensorFlow, where Keras builds metrics in the first batch, they are
            raised after it.

    Edge cases:
        A class that does not occur is "-" in the table and empty in the file.

        If the training is resumed or repeated, the callback first drops the
        rows of the epochs that it will write again, so that each epoch occurs
        only once. Put `BackupAndRestore` after this callback, so that no epoch
        is missing. Put other callbacks that evaluate the model after it too:
        without validation data, the metrics hold the scores of the last
        evaluation.

        If `fit` does not validate after every epoch (`validation_freq`), the
        epochs between report training scores.

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
                "`print_function` must be a function of one str, such as "
                f"print. Received: print_function={print_function!r}"
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
        # Keras may not build all metrics before the first batch.
        is_known = all(getattr(m, "built", True) for m in self.model.metrics)
        self._metrics = self._found_metrics() if is_known else []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._validation = None
        if self._metrics:
            self._prepare()

    # With on_train_batch_end, Keras would wait after each batch.
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
        """Find the metrics and clean up the file, once per training."""
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
                "classes and distinct names, such as "
                "metrics=[metrics.MeanIoU(num_classes)]. Received: "
                f"{', '.join(names) or 'no such metrics'}"
            )
        expected = len(self.class_names)
        for metric in found:
            number = getattr(metric, "num_classes", expected)
            if number != expected:
                raise ValueError(
                    "`class_names` must be one name for each class of the "
                    f"metric {metric.name!r}, which has {number} classes. "
                    f"Received: class_names={self.class_names!r}"
                )
        return found

    def _scores(self) -> list[Row]:
        """Return the name and the scores of each class; None if absent."""
        rows: list[Row] = [{"class": name} for name in self.class_names]
        for metric in self._metrics:
            scores = ops.convert_to_numpy(metric.per_class()).tolist()
            for row, score in zip(rows, scores, strict=True):
                row[metric.name] = None if math.isnan(score) else score
        return rows

    def _report(self, epoch: int, split: str, scores: list[Row]) -> None:
        # The progress bar of `fit` has not ended its line yet.
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
        """Read the rows of the epochs before one from the file."""
        if self.path is None or epoch is None or not self.path.exists():
            return []
        try:
            _files.check_readable(self.path)
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                columns, rows = reader.fieldnames, list(reader)
            # `csv` adds None to rows that are too short or too long.
            if any(None in (*row, *row.values()) for row in rows):
                raise ValueError("a line does not have all columns")
            before = [row for row in rows if int(row.get("epoch", 0)) < epoch]
        except (ValueError, csv.Error) as error:
            raise ValueError(
                "`path` must be a file that this callback wrote, or a new "
                f"file. Received: {str(self.path)!r}, which is damaged: {error}"
            ) from error
        if columns != self._columns():
            raise ValueError(
                "`path` must be a file with the columns "
                f"{', '.join(self._columns())}, or a new file. Received: "
                f"{str(self.path)!r} with the columns {columns}"
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
    """Callback that makes epochs reproducible after an interruption.

    Use it together with `keras.callbacks.BackupAndRestore`, which restores
    weights, optimizer and the number of the epoch. It does not restore the
    random numbers of dropout or the order of the data. With this callback, both
    depend only on a seed and the number of the epoch.

    Args:
        seed: int >= 0. Seed of all epochs.
        epoch: None, or a scalar int64 `tf.Variable`. At the beginning of each
            epoch it is set to the number of the epoch, from 0, for
            `data.load(..., epoch=epoch)`. None does not change the data.

    Raises:
        ValueError: If `seed` is not an int >= 0.
        ValueError: If `epoch` is neither None nor a scalar int64 `tf.Variable`.

    Edge cases:
        The callback sets every seed generator that is part of the model,
        including those of nested models, of wrapped layers and of your own
        layers with a `keras.random.SeedGenerator`. On PyTorch, where the
        dropout of Keras does not have a generator, it calls
        `torch.manual_seed`. It does not control random numbers drawn without a
        generator (`keras.random.normal` without a seed) or the shuffling of
        arrays by `fit`; pass a dataset to `fit` instead.

        Training must be resumed at the beginning of an epoch: keep the default
        `save_freq="epoch"` of `BackupAndRestore`. Build the model with the same
        code again.

        With `steps_per_epoch`, or with a dataset that repeats, tf.data reads
        ahead into the next epoch before `epoch` is set. Let `fit` iterate over
        the dataset once per epoch.

    Example:
        >>> import keras, tensorflow as tf
        >>> from keras_deconv import callbacks
        >>> dropout = keras.layers.Dropout(0.5)
        >>> model = keras.Sequential([keras.Input((4,)), dropout])
        >>> epoch = tf.Variable(0, dtype="int64")
        >>> seeds = callbacks.EpochSeed(0, epoch)
        >>> seeds.set_model(model)  # fit calls this and the next method
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
        """Return a distinct int31 seed for an epoch and a generator."""
        sequence = np.random.SeedSequence([self.seed, epoch, place])
        return int(sequence.generate_state(1)[0]) >> 1
