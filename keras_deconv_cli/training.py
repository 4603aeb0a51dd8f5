"""`keras-deconv train`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_deconv import callbacks, data, distribution, metrics
from keras_deconv.data.catalog import VOID
from keras_deconv_cli import api, commands, evaluation, parser, runs, sources
from keras_deconv_cli.history import HISTORY, RESUME, History
from keras_deconv_cli.sources import Source

# Options that say where files are; they do not change the weights.
_HARMLESS = {"data_dir", "manual_dir"}
# What older runs did before there was an option.
_OLDER = {"strategy": "one"}
# Number of examples of a split that are checked before the training.
_NUM_CHECKED = 32
_NUM_SMOKE_BATCHES = 2
# What is written into the folder of a run besides run.json.
_BY_CLASS, _PREVIEWS, _TENSORBOARD = "per_class.csv", "previews", "tensorboard"
_WRITTEN = (
    *(runs.MODEL_FILE, HISTORY, _BY_CLASS, _PREVIEWS),
    *(_TENSORBOARD, RESUME),
)


def train(options: commands.Train) -> int:
    """Trains a network, or resumes its training."""
    folder = pathlib.Path(options.results.output or _default_output(options))
    before = _read_before(folder, options.record())
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
        _train(options, folder, replicas)
    return 0


def _train(
    options: commands.Train,
    folder: pathlib.Path,
    replicas: distribution.Replicas,
) -> None:
    if options.results.preview_every:
        _require("matplotlib", "Or use --preview-every 0.")
    if options.results.tensorboard:
        _require("tensorboard", "Or leave out --tensorboard.")
    source = sources.find(options.data)
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
        options={**options.record(), "val_split": validation_split or "none"},
    )
    keras.utils.set_random_seed(options.seed)
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    train_set = _load_train(source, options, epoch)
    validation = one_by_one = None
    if validation_split is not None:
        validation = _load_validation(
            source, options, validation_split, options.batch_size
        )
        # Boundary F1 takes memory for each class of each image of a batch.
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
            f"\nStopped. The model is in {history.model_file}. Repeat the "
            "command to resume after the last finished epoch."
        )
        raise
    if replicas.is_chief:
        _close(history, one_by_one, run)
    # A process that ends early stops the others.
    replicas.wait()


def _default_output(options: commands.Train) -> str:
    name = options.data.dataset or pathlib.Path(str(options.data.images)).name
    return f"runs/{re.sub(r'[^A-Za-z0-9]+', '_', name)}_{options.model}"


def _read_before(
    folder: pathlib.Path, recorded: dict[str, Any]
) -> runs.Run | None:
    """The run in a folder, None if there is none.

    Raises:
        ValueError: its options differ.
    """
    way_out = f"Give another --output, or delete {folder}."
    before = runs.read(folder)
    if before is None:
        foreign = [name for name in _WRITTEN if os.path.lexists(folder / name)]
        if foreign:
            raise ValueError(
                "--output must be a folder with a run, or without files that "
                f"would be replaced. Received: {folder}, which has "
                f"{', '.join(foreign)} without {runs.RUN_FILE}. Give another "
                "--output."
            )
        return None
    now = dict(recorded)
    if now["val_split"] is None:
        now["val_split"] = before.options.get("val_split")
    differences = [
        f"{parser.flag(name)} was {before.options.get(name)} and is {value}"
        for name, value in now.items()
        if name not in _HARMLESS
        and before.options.get(name, _OLDER.get(name)) != value
    ]
    if differences:
        raise ValueError(
            f"{folder} holds a run with other options: "
            f"{'; '.join(differences)}. {way_out}"
        )
    return before


def _require(package: str, way_out: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"The package {package} is not installed. Install it with: "
            f"pip install {package}. {way_out}"
        )


def _make_folder(folder: pathlib.Path) -> None:
    """Checks before the training whether results can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written to: {error}"
        ) from error


def _prepare(source: Source, replicas: distribution.Replicas) -> None:
    """Lets the chief prepare a dataset before the others look for it."""
    if replicas.num_processes == 1:
        return
    if replicas.is_chief:
        source.splits()
    replicas.wait()


def _validation_split(source: Source, options: commands.Train) -> str | None:
    """The split to validate on, or None; prints which one."""
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


def _check_sample(source: Source, options: commands.Train, split: str) -> None:
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
            f"{source}, split {split}, cannot be used for training; see the "
            "report above. keras-deconv check reads all of it."
        )


def _load_train(
    source: Source, options: commands.Train, epoch: tf.Variable
) -> tf.data.Dataset:
    augment = None
    if options.augment:
        augment = data.augmentation(scale=(1.0, 1.5), brightness=0.1)
    train_set = source.load(
        options.train_split,
        image_size=options.image_size,
        batch_size=options.batch_size,
        # The first examples are enough; the others need not be read.
        shuffle=not options.smoke,
        cache=not options.smoke,
        augment=augment,
        seed=options.seed,
        epoch=epoch,
        drop_remainder=options.strategy != "one",
    )
    if int(train_set.cardinality()) == 0:
        raise ValueError(
            "--batch-size must be at most the number of images. Received: "
            f"{options.batch_size}"
        )
    return train_set.take(_NUM_SMOKE_BATCHES) if options.smoke else train_set


def _load_validation(
    source: Source, options: commands.Train, split: str, batch_size: int
) -> tf.data.Dataset:
    validation = source.load(
        split,
        image_size=options.image_size,
        batch_size=batch_size,
        shuffle=False,
        # Boundary F1 reads it only once.
        cache=batch_size == options.batch_size and not options.smoke,
    )
    if options.smoke:
        num_images = _NUM_SMOKE_BATCHES * options.batch_size
        return validation.take(num_images // batch_size)
    return validation


def _build_model(
    source: Source,
    options: commands.Train,
    loss: keras.losses.Loss,
    num_batches: int,
) -> keras.Model:
    weights = {}
    if options.encoder_weights:
        weights["encoder_weights"] = options.encoder_weights
    with _precision(options.mixed_precision):
        model = api.find("model", options.model)(
            (*options.image_size, 3),
            source.num_classes,
            decoder=api.CHOICES["decoder"][options.decoder],
            **weights,
        )
        decay = keras.optimizers.schedules.CosineDecay(
            options.learning_rate, options.num_epochs * num_batches
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
def _precision(word: str | None) -> Iterator[None]:
    before = keras.config.dtype_policy()
    policy = api.CHOICES["mixed_precision"][word] if word else before
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _loss(source: Source, options: commands.Train) -> keras.losses.Loss:
    build = api.find("loss", options.loss)
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
    weights = api.find("class_weights", options.class_weights)(counted)
    shown = [
        f"{name} {weight:.2f}"
        for name, weight in zip(source.class_names, weights, strict=True)
    ]
    print(f"Class weights: {', '.join(shown)}")
    return build(class_weights=weights)


def _count(dataset: tf.data.Dataset) -> int:
    """The number of batches; videos must be read to know it."""
    count = int(dataset.cardinality())
    return count if count >= 0 else sum(1 for _ in dataset)


def _say_start(history: History, options: commands.Train) -> None:
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
    if 0 < history.num_done < options.num_epochs:
        next_epoch = history.num_done + 1
        print(f"Resuming at epoch {next_epoch} of {options.num_epochs}.")


def _fit(
    model: keras.Model,
    history: History,
    train_set: tf.data.Dataset,
    validation: tf.data.Dataset | None,
    run: runs.Run,
    options: commands.Train,
    epoch: tf.Variable,
) -> None:
    if history.is_stuck:
        return
    tensorboard = history.folder / _TENSORBOARD
    replicas, results = history.replicas, options.results
    watchers: list[keras.callbacks.Callback] = [
        keras.callbacks.TerminateOnNaN(),
        callbacks.EpochSeed(options.seed, epoch),
        callbacks.PerClassReport(
            run.class_names,
            path=history.folder / _BY_CLASS if replicas.is_chief else None,
            print_function=lambda table: None,
        ),
    ]
    if results.tensorboard and replicas.is_chief:
        watchers.append(keras.callbacks.TensorBoard(tensorboard))
    if results.preview_every and replicas.num_processes > 1:
        print("Previews are not drawn with several processes.")
    elif results.preview_every:
        watchers.append(
            callbacks.PredictionPreview(
                validation or train_set,
                history.folder / _PREVIEWS,
                class_names=run.class_names,
                palette=run.palette,
                ignore_class=run.ignore_class,
                every=results.preview_every,
                log_dir=tensorboard if results.tensorboard else None,
            )
        )
    replicas.fit(
        model,
        train_set,
        validation_data=validation,
        epochs=options.num_epochs,
        initial_epoch=history.num_done,
        # Last, so that an epoch that fails above is not backed up.
        callbacks=[*watchers, history],
    )


def _close(
    history: History, validation: tf.data.Dataset | None, run: runs.Run
) -> None:
    """Prints the scores of the model that is kept."""
    folder = history.folder
    print(f"Saved {history.model_file}")
    # Before the scores, which may fail and can be repeated with evaluate.
    dataclasses.replace(run, is_finished=True).write(folder)
    history.backup.delete()
    if validation is not None:
        model, _ = runs.load(str(folder))
        scores = evaluation.measure(model, validation, run, verbose=0)
        print(f"\nValidation scores of the best epoch:\n{scores}")
