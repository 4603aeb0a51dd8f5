"""`keras-deconv train`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_deconv import (
    _files,
    callbacks,
    data,
    distribution,
    losses,
    metrics,
    models,
)
from keras_deconv.data.catalog import VOID
from keras_deconv_cli import evaluation, parser, runs, sources
from keras_deconv_cli.sources import Source

# Options that change what is written, or where things lie, not what is learned.
_HARMLESS = {"data_dir", "manual_dir"}
# What was done before there was an option.
_OLDER = {"strategy": "one"}
_NOT_RECORDED = {
    *("command", "module", "debug"),
    *("output", "preview_every", "tensorboard"),
}
# How many examples of a split are looked at before the training.
_NUM_CHECKED = 32
_NUM_SMOKE_BATCHES = 2
_SCORE = "val_mean_iou"
# What is written into the folder of a run, beside run.json.
_HISTORY, _BY_CLASS, _PREVIEWS = "history.csv", "per_class.csv", "previews"
_TENSORBOARD, _RESUME = "tensorboard", ".resume"
_WRITTEN = (
    *(runs.MODEL_FILE, _HISTORY, _BY_CLASS, _PREVIEWS),
    *(_TENSORBOARD, _RESUME),
)


def train(options: argparse.Namespace) -> int:
    """Trains a network, or goes on with it."""
    folder = pathlib.Path(options.output or _default_output(options))
    recorded = {
        name: value
        for name, value in vars(options).items()
        if name not in _NOT_RECORDED
    }
    before = _read_before(folder, recorded)
    if before is not None and before.is_finished:
        print(
            f"The training in {folder} is finished. To train again give "
            "another --output, or delete the folder."
        )
        return 0
    # Before anything is computed.
    replicas = distribution.connect(options.strategy)
    replicas.check_batch_size(options.batch_size)
    with contextlib.ExitStack() as stack:
        if not replicas.is_chief:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        _train(options, folder, recorded, replicas)
    return 0


def _train(
    options: argparse.Namespace,
    folder: pathlib.Path,
    recorded: dict[str, Any],
    replicas: distribution.Replicas,
) -> None:
    if options.preview_every:
        _require("matplotlib", "--preview-every 0 does without.")
    if options.tensorboard:
        _require("tensorboard", "It goes without --tensorboard, too.")
    source = sources.from_options(options)
    _make_folder(folder)
    _prepare(source, replicas)
    validation_split = _validation_split(source, options)
    if options.early_stopping and validation_split is None:
        raise ValueError("--early-stopping needs a validation split.")
    _check_sample(source, options, options.train_split)
    if validation_split is not None:
        _check_sample(source, options, validation_split)

    run = runs.Run(
        class_names=list(source.class_names),
        palette=[list(color) for color in source.palette],
        image_size=list(options.image_size),
        ignore_class=VOID,
        options={**recorded, "val_split": validation_split or "none"},
    )
    keras.utils.set_random_seed(options.seed)
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    train_set = _load_train(source, options, epoch)
    validation = one_by_one = None
    if validation_split is not None:
        validation = _load_validation(
            source, options, validation_split, options.batch_size
        )
        # For boundary F1, which takes memory for each class of each picture.
        one_by_one = _load_validation(source, options, validation_split, 1)
    loss = _loss(source, options)
    num_batches = _count(train_set)
    with replicas.scope():
        model = _build_model(source, options, loss, num_batches)
    history = History(folder, model, options.early_stopping, replicas)
    _say_start(history, options)
    if replicas.is_chief:
        run.write(folder)
    try:
        _fit(model, history, train_set, validation, run, options, epoch)
    except KeyboardInterrupt:
        if not history.model_file.exists():
            history.save_model(model)
        print(
            f"\nStopped. What has been learned is in {history.model_file}; "
            "the same command goes on after the last finished epoch."
        )
        raise
    if replicas.is_chief:
        _close(history, one_by_one, run)
    # Processes that end take the others with them.
    replicas.wait()


class History(keras.callbacks.Callback):
    """Keeps the best model, the scores, and all that is needed to go on.

    Written here, and not with ModelCheckpoint, CSVLogger, EarlyStopping and
    BackupAndRestore, so that a process may be killed at any time: every file
    is there in full or not at all, what counts as best or as no better is read
    off the rows of history.csv, and the weights to go on with carry their
    epoch in their name. Of several processes the chief writes.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        model: keras.Model,
        patience: int | None,
        replicas: distribution.Replicas,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.model_file = folder / runs.MODEL_FILE
        self.patience = patience
        self.replicas = replicas
        self.backup = distribution.EpochBackup(replicas, folder / _RESUME)
        self.num_done = self.backup.restore(model)
        # An epoch that was written down and not backed up is repeated.
        self.rows = self._read_rows()[: self.num_done]

    @property
    def is_stuck(self) -> bool:
        """Whether there was no better score for the epochs of `patience`."""
        if not self.patience or not self.rows:
            return False
        scores = [float(row[_SCORE]) for row in self.rows]
        return len(scores) - 1 - scores.index(max(scores)) >= self.patience

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(row["loss"]):
            raise ValueError(
                f"the loss is {row['loss']} in epoch {epoch + 1}. Give a "
                "smaller --learning-rate, and another --output."
            )
        before = [float(row.get(_SCORE, 0)) for row in self.rows]
        if _SCORE not in row or row[_SCORE] > max(before, default=-1):
            self.save_model(self.model)
        # Counted from 0, as Keras and PerClassReport do.
        self.rows.append({"epoch": epoch, **row})
        if self.replicas.is_chief:
            self._write_rows()
        self.backup.write(self.model, epoch + 1)
        if self.is_stuck:
            print(f"No better mean IoU for {self.patience} epochs: stopped.")
            self.model.stop_training = True

    def save_model(self, model: keras.Model) -> None:
        """Writes `model.keras`, all at once."""
        if not self.replicas.is_chief:
            return
        with (
            self.replicas.alone(model),
            _files.replaced(self.model_file) as part,
        ):
            model.save(part)

    def _write_rows(self) -> None:
        with (
            _files.replaced(self.folder / _HISTORY) as part,
            part.open("w", newline="") as text,
        ):
            writer = csv.DictWriter(
                text, list(self.rows[0]), lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(self.rows)

    def _read_rows(self) -> list[dict[str, Any]]:
        file = self.folder / _HISTORY
        if not file.exists():
            return []
        with file.open(newline="") as text:
            return list(csv.DictReader(text))


def _default_output(options: argparse.Namespace) -> str:
    name = options.dataset or pathlib.Path(options.images).name
    return f"runs/{re.sub(r'[^A-Za-z0-9]+', '_', name)}_{options.model}"


def _read_before(
    folder: pathlib.Path, recorded: dict[str, Any]
) -> runs.Run | None:
    """The run in a folder, if it is there and has the same options.

    Raises:
        ValueError: it has others.
    """
    way_out = f"Give another --output, or delete {folder}."
    before = runs.read(folder)
    if before is None:
        foreign = [name for name in _WRITTEN if os.path.lexists(folder / name)]
        if foreign:
            raise ValueError(
                "--output must be a folder with a run, or without files of "
                f"the names that are written. Received: {folder}, which has "
                f"{', '.join(foreign)} without {runs.RUN_FILE}. Give another "
                "--output."
            )
        return None
    # As JSON gives it back: without tuples.
    now = json.loads(json.dumps(recorded))
    if now["val_split"] is None:
        now["val_split"] = before.options.get("val_split")
    differences = [
        f"{_flag(name)} was {before.options.get(name)} and is {value}"
        for name, value in now.items()
        if name not in _HARMLESS
        and before.options.get(name, _OLDER.get(name)) != value
    ]
    if differences:
        raise ValueError(
            f"{folder} holds a training with other options: "
            f"{'; '.join(differences)}. {way_out}"
        )
    return before


def _flag(name: str) -> str:
    return "DATASET" if name == "dataset" else f"--{name.replace('_', '-')}"


def _require(package: str, way_out: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"this needs a package that is not installed. Install it with: "
            f"pip install {package}. {way_out}"
        )


def _make_folder(folder: pathlib.Path) -> None:
    """Finds out before the training whether results can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written to: {error}"
        ) from error


def _prepare(source: Source, replicas: distribution.Replicas) -> None:
    """Lets the chief prepare a data set before the others look for it."""
    if replicas.num_processes == 1:
        return
    if replicas.is_chief:
        source.splits()
    replicas.wait()


def _validation_split(
    source: Source, options: argparse.Namespace
) -> str | None:
    """The split to measure on, None if there is none; says which one."""
    if options.val_split == "none":
        return None
    if options.val_split is not None:
        return options.val_split
    available = source.splits()
    for split in ("validation", "test"):
        if split in available:
            print(f"Training on {options.train_split}, validating on {split}.")
            return split
    print(f"Training on {options.train_split}, without validation.")
    return None


def _check_sample(
    source: Source, options: argparse.Namespace, split: str
) -> None:
    sample = source.load(
        split,
        image_size=options.image_size,
        batch_size=1,
        shuffle=False,
        cache=False,
    ).take(_NUM_CHECKED)
    report = data.check(
        sample,
        source.num_classes,
        allow_missing_classes=True,
        verbose=False,
    )
    if not report.ok:
        print(report)
        raise ValueError(
            f"{source}, split {split}, cannot be trained on; the report above "
            "says why. keras-deconv check reads all of it."
        )


def _load_train(
    source: Source, options: argparse.Namespace, epoch: tf.Variable
) -> tf.data.Dataset:
    augment = None
    if options.augment:
        augment = data.augmentation(scale=(1.0, 1.5), brightness=0.1)
    train_set = source.load(
        options.train_split,
        image_size=options.image_size,
        batch_size=options.batch_size,
        # The first ones are enough, and do not need the others to be read.
        shuffle=not options.smoke,
        cache=not options.smoke,
        augment=augment,
        seed=options.seed,
        epoch=epoch,
        drop_remainder=options.strategy != "one",
    )
    if int(train_set.cardinality()) == 0:
        raise ValueError(
            "--batch-size must be at most the number of pictures. Received: "
            f"{options.batch_size}"
        )
    return train_set.take(_NUM_SMOKE_BATCHES) if options.smoke else train_set


def _load_validation(
    source: Source, options: argparse.Namespace, split: str, batch_size: int
) -> tf.data.Dataset:
    validation = source.load(
        split,
        image_size=options.image_size,
        batch_size=batch_size,
        shuffle=False,
        # What is read once need not be kept.
        cache=batch_size == options.batch_size and not options.smoke,
    )
    if options.smoke:
        num_pictures = _NUM_SMOKE_BATCHES * options.batch_size
        return validation.take(num_pictures // batch_size)
    return validation


def _build_model(
    source: Source,
    options: argparse.Namespace,
    loss: keras.losses.Loss,
    num_batches: int,
) -> keras.Model:
    weights = {}
    if options.encoder_weights:
        weights["encoder_weights"] = options.encoder_weights
    with _precision(options.mixed_precision):
        build = getattr(models, parser.MODELS[options.model])
        model = build(
            (*options.image_size, 3),
            source.num_classes,
            decoder=options.decoder,
            **weights,
        )
        decay = keras.optimizers.schedules.CosineDecay(
            options.learning_rate, _num_epochs(options) * num_batches
        )
        # jit_compile stays "auto": with a GPU Keras compiles with XLA.
        model.compile(
            keras.optimizers.Adam(decay),
            loss,
            metrics=[
                metrics.GlobalAccuracy(source.num_classes),
                metrics.ClassAccuracy(source.num_classes),
                metrics.MeanIoU(source.num_classes),
            ],
        )
    return model


@contextlib.contextmanager
def _precision(name: str | None) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{name}" if name else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _loss(source: Source, options: argparse.Namespace) -> keras.losses.Loss:
    build = getattr(losses, parser.LOSSES[options.loss])
    if options.class_weights == "none":
        return build()
    counted = data.class_frequencies(
        source.load(
            options.train_split,
            image_size=options.image_size,
            batch_size=options.batch_size,
            shuffle=False,
            cache=False,
        ),
        source.num_classes,
        verbose=0,
    )
    weigh = {
        "median": data.median_frequency_weights,
        "enet": data.enet_weights,
    }[options.class_weights]
    weights = weigh(counted)
    shown = [
        f"{name} {weight:.2f}"
        for name, weight in zip(source.class_names, weights, strict=True)
    ]
    print(f"Class weights: {', '.join(shown)}")
    return build(class_weights=weights)


def _num_epochs(options: argparse.Namespace) -> int:
    return 1 if options.smoke else options.epochs


def _count(dataset: tf.data.Dataset) -> int:
    """How many batches there are; of films, that is known by reading them."""
    count = int(dataset.cardinality())
    return count if count >= 0 else sum(1 for _ in dataset)


def _say_start(history: History, options: argparse.Namespace) -> None:
    replicas = history.replicas
    devices = tf.config.list_physical_devices("GPU")
    if replicas.num_replicas > 1:
        print(
            f"Training on {replicas.num_replicas} replicas in "
            f"{replicas.num_processes} processes."
        )
    elif devices:
        details = tf.config.experimental.get_device_details(devices[0])
        print(f"Training on {len(devices)} GPU: {details.get('device_name')}")
    else:
        print(f"Training on the CPU ({os.cpu_count()} cores), no GPU found.")
    if 0 < history.num_done < _num_epochs(options):
        print(
            f"Resuming at epoch {history.num_done + 1} of "
            f"{_num_epochs(options)}."
        )


def _fit(
    model: keras.Model,
    history: History,
    train_set: tf.data.Dataset,
    validation: tf.data.Dataset | None,
    run: runs.Run,
    options: argparse.Namespace,
    epoch: tf.Variable,
) -> None:
    if history.is_stuck:
        return
    tensorboard = history.folder / _TENSORBOARD
    replicas = history.replicas
    watchers: list[keras.callbacks.Callback] = [
        keras.callbacks.TerminateOnNaN(),
        callbacks.EpochSeed(options.seed, epoch),
        callbacks.PerClassReport(
            run.class_names,
            path=history.folder / _BY_CLASS if replicas.is_chief else None,
            print_function=lambda table: None,
        ),
    ]
    if options.tensorboard and replicas.is_chief:
        watchers.append(keras.callbacks.TensorBoard(tensorboard))
    if options.preview_every and replicas.num_processes > 1:
        print("Several processes draw no previews.")
    elif options.preview_every:
        watchers.append(
            callbacks.PredictionPreview(
                validation or train_set,
                history.folder / _PREVIEWS,
                class_names=run.class_names,
                palette=run.palette,
                ignore_class=run.ignore_class,
                every=options.preview_every,
                log_dir=tensorboard if options.tensorboard else None,
            )
        )
    replicas.fit(
        model,
        train_set,
        validation_data=validation,
        epochs=_num_epochs(options),
        initial_epoch=history.num_done,
        # What goes wrong above is not backed up.
        callbacks=[*watchers, history],
    )


def _close(
    history: History, validation: tf.data.Dataset | None, run: runs.Run
) -> None:
    """Says how good the model is that is kept, class by class."""
    folder = history.folder
    print(f"Saved {history.model_file}")
    # Before measuring, which may fail and can be done again with evaluate.
    dataclasses.replace(run, is_finished=True).write(folder)
    history.backup.delete()
    if validation is not None:
        model, _ = runs.load(str(folder))
        scores = evaluation.measure(model, validation, run, verbose=0)
        print(f"\nValidation, the best epoch:\n{scores}")
