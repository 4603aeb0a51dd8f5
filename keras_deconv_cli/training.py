"""`keras-deconv train`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib.util
import os
import pathlib
import shlex
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_deconv import (
    _files,
    callbacks,
    data,
    distribution,
    metrics,
    models,
)
from keras_deconv._arguments import VOID
from keras_deconv._graphs import gives_probabilities
from keras_deconv_cli import (
    api,
    commands,
    decisions,
    evaluation,
    progress,
    resuming,
    runs,
    sources,
    user_models,
)
from keras_deconv_cli.decisions import Plan
from keras_deconv_cli.history import History

__all__ = ["train"]

# This many examples of each split are checked before the training.
_NUM_CHECKED = 32
# Arguments that only some networks have.
_NETWORK_OPTIONS = (
    *("encoder_weights", "weights", "extra_classifier"),
    *("squeeze_excitation", "decoder_activation"),
)
# The words of --cache and the values of the argument `cache`.
_CACHES = {"memory": True, "disk": "disk", "none": False}


def train(options: commands.Train) -> int:
    """Train a network, or resume its training; return the exit code."""
    options = dataclasses.replace(options, data=sources.resolved(options.data))
    folder = pathlib.Path(
        options.results.output or resuming.default_output(options)
    )
    options, before = resuming.resumed(options, folder)
    if resuming.is_finished(options, before, folder):
        resuming.delete_leftovers_if_free(folder)
        return 0
    # Must come before any computation.
    replicas = distribution.connect(options.strategy)
    replicas.check_batch_size(options.batch_size)
    with contextlib.ExitStack() as stack:
        if replicas.is_chief:
            stack.enter_context(resuming.alone(folder))
            # Another training may have ended in the meantime.
            options, before = resuming.resumed(options, folder)
            if resuming.is_finished(options, before, folder):
                resuming.delete_leftovers(folder)
                return 0
        else:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            _train(options, folder, before, replicas)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _files.DiskFullError(
                    f"{error.strerror} {resuming.what_is_kept(folder)}"
                ) from error
            raise
    return 0


def _train(
    options: commands.Train,
    folder: pathlib.Path,
    before: runs.Run | None,
    replicas: distribution.Replicas,
) -> None:
    if options.results.preview_every:
        _require("matplotlib", "Or use --preview-every 0.")
    if options.results.tensorboard:
        _require("tensorboard", "Or leave out --tensorboard.")
    if options.data.dataset:
        _prepare(options.data, replicas)
    if options.model.endswith(".keras") and not options.image_size:
        size = user_models.image_size(options.model)
        options = dataclasses.replace(options, image_size=size)
    plan = decisions.decide(options, before)
    print(*plan.lines, f"Writing to {folder}", sep="\n")
    for split in plan.splits.values():
        _check_sample(plan, split)

    source = plan.source
    run = runs.Run(
        class_names=list(source.class_names),
        palette=[list(color) for color in source.palette],
        image_size=list(plan.image_size),
        ignore_class=VOID,
        options=plan.options.record(),
        value_range=list(source.value_range) if source.value_range else None,
        splits=plan.splits,
        files=plan.files,
    )
    keras.utils.set_random_seed(options.seed)
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    train_set = _load_train(plan, epoch)
    validation = one_by_one = None
    if "validation" in plan.splits:
        validation = _load_validation(plan, options.batch_size)
        # Boundary F1 needs memory per class and image of a batch.
        one_by_one = _load_validation(plan, 1)
    loss = _loss(plan, is_new=before is None)
    num_batches = _count(train_set)
    with replicas.scope():
        channels = train_set.element_spec[0].shape[-1]
        model = _build_model(plan, loss, num_batches, channels)
    if options.model not in api.CHOICES["model"] and before is None:
        _check_user_model(model, plan, replicas)
    history = History(
        folder,
        model,
        options.early_stopping,
        replicas,
        has_score="validation" in plan.splits,
    )
    earlier = resuming.earlier_epochs(
        plan.options, before, history.num_done, folder
    )
    if earlier:
        run = dataclasses.replace(run, earlier_epochs=earlier)
        history.start = earlier[-1]["trained"]
    _say_start(history, plan.num_epochs)
    is_initialized = bool(options.init_from) and history.is_new
    if is_initialized:
        with replicas.scope():
            for line in user_models.initialize(model, str(options.init_from)):
                print(line)
    if replicas.is_chief:
        run.write(folder)
    if is_initialized:
        # A resumed training does not need the file of --init-from.
        history.backup.write(model, 0)
    try:
        _fit(model, history, train_set, validation, run, plan, epoch)
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
        print(_next_steps(folder, options))
    # The first process to end would stop the others.
    replicas.wait()


def _check_user_model(
    model: keras.Model, plan: Plan, replicas: distribution.Replicas
) -> None:
    name = plan.options.model
    if replicas.num_processes == 1:
        user_models.check_runs(name, model, plan.image_size)
        if plan.options.crop:
            user_models.check_runs(name, model, plan.options.crop, "--crop")
    if replicas.is_chief:
        with replicas.alone(model):
            user_models.check_saves(name, model)


def _require(package: str, way_out: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"The package {package} is not installed. Install it with: "
            f"pip install {package}. {way_out}"
        )


def _prepare(where: commands.Data, replicas: distribution.Replicas) -> None:
    """Let the chief prepare a dataset before the other processes open it."""
    if replicas.num_processes == 1:
        return
    if replicas.is_chief:
        sources.find(where).sizes()
    replicas.wait()


def _check_sample(plan: Plan, split: str) -> None:
    source = plan.source
    sample = source.load(
        split, image_size=plan.image_size, batch_size=1, cache=False
    ).take(_NUM_CHECKED)
    report = data.check(
        sample,
        source.num_classes,
        class_names=source.class_names,
        allow_missing_classes=True,
        verbose=False,
    )
    if not report.ok:
        print(api.in_options(str(report)))
        raise ValueError(
            f"{source}, split {split}, cannot be used for training. See the "
            "report above. Use keras-deconv check to check all images."
        )


def _load_train(plan: Plan, epoch: tf.Variable) -> tf.data.Dataset:
    options = plan.options
    augment = None
    if options.augment:
        augment = data.augmentation(
            scale=(1.0, 1.5), brightness=0.1, crop=options.crop
        )
    elif options.crop:
        augment = data.augmentation(flip=False, crop=options.crop)
    train_set = plan.source.load(
        plan.splits["train"],
        image_size=plan.image_size,
        batch_size=options.batch_size,
        # --smoke needs only the first examples, so the others are not read.
        shuffle=not options.smoke,
        cache=_CACHES[options.cache] if not options.smoke else False,
        augment=augment,
        seed=options.seed,
        epoch=epoch,
        drop_remainder=options.strategy != "one",
    )
    if options.smoke:
        return train_set.take(decisions.NUM_SMOKE_BATCHES)
    return train_set


def _load_validation(plan: Plan, batch_size: int) -> tf.data.Dataset:
    options = plan.options
    validation = plan.source.load(
        plan.splits["validation"],
        image_size=plan.image_size,
        batch_size=batch_size,
        # The dataset of single images is read only once, for boundary F1.
        cache=_CACHES[options.cache]
        if batch_size == options.batch_size and not options.smoke
        else False,
    )
    if options.smoke:
        num_images = decisions.NUM_SMOKE_BATCHES * options.batch_size
        return validation.take(num_images // batch_size)
    return validation


def _build_model(
    plan: Plan, loss: keras.losses.Loss, num_batches: int, channels: int
) -> keras.Model:
    options, num_classes = plan.options, plan.source.num_classes
    # The model is trained on crops and validated on whole images.
    size = (None, None) if options.crop else plan.image_size
    input_shape = (*size, channels)
    with _precision(options.mixed_precision):
        if options.model not in api.CHOICES["model"]:
            model = user_models.build(options.model, input_shape, num_classes)
        elif options.encoder:
            model = _build_on_encoder(options, input_shape, num_classes)
        else:
            model = _build_published(options, input_shape, num_classes)
        if options.crop:
            _check_crop(model, options.crop)
        if gives_probabilities(model):
            config = {**loss.get_config(), "from_logits": False}
            loss = type(loss).from_config(config)
        decay = keras.optimizers.schedules.CosineDecay(
            options.learning_rate, plan.num_epochs * num_batches
        )
        # jit_compile stays "auto": with a GPU Keras compiles with XLA.
        model.compile(
            keras.optimizers.Adam(decay),
            loss,
            metrics=[
                metrics.GlobalAccuracy(num_classes),
                metrics.ClassAccuracy(num_classes),
                metrics.MeanIoU(num_classes),
            ],
        )
    return model


def _check_crop(model: keras.Model, crop: tuple[int, int]) -> None:
    """Raise an error if the network does not support crops of this size."""
    size = model.input_shape[1:3]
    if size != (None, None):
        raise ValueError(
            "--crop needs a network that supports images of any size. "
            f"Received: {model.name}, which supports only images of "
            f"{size[0]}x{size[1]}"
        )
    shape = (1, *crop, model.input_shape[-1])
    try:
        model.compute_output_shape(shape)
    except ValueError as error:
        raise ValueError(
            "--crop must be large enough for the network. Received: --crop "
            f"{crop[0]}x{crop[1]} with {model.name}: {error}"
        ) from error


def _build_published(
    options: commands.Train,
    input_shape: tuple[int | None, ...],
    num_classes: int,
) -> keras.Model:
    given = {
        name: getattr(options, name)
        for name in _NETWORK_OPTIONS
        if getattr(options, name)
    }
    model: keras.Model = api.find("model", options.model)(
        input_shape,
        num_classes,
        decoder=api.CHOICES["decoder"][options.decoder],
        **given,
    )
    return model


def _build_on_encoder(
    options: commands.Train,
    input_shape: tuple[int | None, ...],
    num_classes: int,
) -> keras.Model:
    is_rgb = input_shape[-1] == 3
    if options.encoder_weights == "imagenet" and not is_rgb:
        raise ValueError(
            "--encoder-weights imagenet with --encoder needs --channels 3. "
            f"Received: {input_shape[-1]} channels. With --model segnet, the "
            "weights of VGG-16 support any number of channels."
        )
    name = api.CHOICES["encoder"][str(options.encoder)]
    try:
        encoder = getattr(keras.applications, name)(
            input_shape=input_shape,
            include_top=False,
            weights=options.encoder_weights,
        )
    except Exception as error:  # Downloads by Keras can raise any error.
        raise ValueError(
            f"--encoder {options.encoder} cannot be built with "
            f"--encoder-weights {options.encoder_weights} for images of shape "
            f"{input_shape}: {error}"
        ) from error
    decoder = options.decoder
    return models.EncoderDecoder(
        encoder,
        num_classes,
        # "mirror" also mirrors downsampling that is not max pooling.
        decoder="mirror" if decoder == "max_unpool" else decoder,
        skips=options.skips or False,
        # The preprocessing of ImageNet is defined only for RGB images.
        preprocessing="auto" if is_rgb else None,
        name=f"{options.encoder}_encoder_decoder",
    )


@contextlib.contextmanager
def _precision(word: str | None) -> Iterator[None]:
    before = keras.config.dtype_policy()
    policy = api.CHOICES["mixed_precision"][word] if word else before
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _loss(plan: Plan, is_new: bool) -> keras.losses.Loss:
    """Return the loss; warn about classes that do not occur.

    Raises:
        ValueError: If the training masks contain fewer than two classes.
    """
    options, source = plan.options, plan.source
    build = api.find("loss", options.loss)
    is_weighted = options.class_weights != "none"
    if not is_weighted and not is_new:
        return build()
    if not is_weighted and options.smoke:
        counted = _class_frequencies(plan, decisions.NUM_SMOKE_BATCHES)
        if sum(count > 0 for count in counted.pixels) > 1:
            return build()
    # All images count, even for --smoke, since class weights of fewer images
    # would differ, and other images can contain more classes.
    counted = _class_frequencies(plan)
    decisions.check_learnable(counted, source)
    for text in decisions.warnings_of(counted, source.class_names):
        print(f"warning: {text}")
    if not is_weighted:
        return build()
    weights = api.find("class_weights", options.class_weights)(counted)
    shown = [
        f"{name} {weight:.2f}"
        for name, weight in zip(source.class_names, weights, strict=True)
    ]
    print(f"Class weights: {', '.join(shown)}")
    return build(class_weights=weights)


def _class_frequencies(
    plan: Plan, num_batches: int = -1
) -> data.ClassFrequencies:
    """Count the classes of the first training batches; -1 counts all."""
    train_set = plan.source.load(
        plan.splits["train"],
        image_size=plan.image_size,
        batch_size=plan.options.batch_size,
        cache=False,
    )
    return data.class_frequencies(
        train_set.take(num_batches), plan.source.num_classes, verbose=0
    )


def _count(dataset: tf.data.Dataset) -> int:
    """Return the number of batches, which for videos requires reading them."""
    count = int(dataset.cardinality())
    return count if count >= 0 else sum(1 for _ in dataset)


def _say_start(history: History, num_epochs: int) -> None:
    replicas = history.replicas
    devices = tf.config.list_physical_devices("GPU")
    if replicas.num_replicas > 1:
        print(
            f"Training on {replicas.num_replicas} replicas in "
            f"{replicas.num_processes} processes."
        )
    elif devices:
        details = tf.config.experimental.get_device_details(devices[0])
        plural = "" if len(devices) == 1 else "s"
        print(
            f"Training on {len(devices)} GPU{plural}: "
            f"{details.get('device_name')}"
        )
    else:
        print(f"Training on the CPU ({os.cpu_count()} cores), no GPU found.")
    if 0 < history.num_done < num_epochs:
        next_epoch = history.num_done + 1
        print(f"Resuming at epoch {next_epoch} of {num_epochs}.")


def _fit(
    model: keras.Model,
    history: History,
    train_set: tf.data.Dataset,
    validation: tf.data.Dataset | None,
    run: runs.Run,
    plan: Plan,
    epoch: tf.Variable,
) -> None:
    if history.is_stuck:
        return
    tensorboard = history.folder / resuming.TENSORBOARD
    options, replicas = plan.options, history.replicas
    results = options.results
    watchers: list[keras.callbacks.Callback] = [
        keras.callbacks.TerminateOnNaN(),
        callbacks.EpochSeed(options.seed, epoch),
        callbacks.PerClassReport(
            run.class_names,
            path=history.folder / resuming.BY_CLASS
            if replicas.is_chief
            else None,
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
                history.folder / resuming.PREVIEWS,
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
        epochs=plan.num_epochs,
        initial_epoch=history.num_done,
        # Last, so that an epoch in which another callback fails does not get a
        # backup.
        callbacks=[*watchers, history],
        verbose=progress.verbosity(),
    )


def _close(
    history: History, validation: tf.data.Dataset | None, run: runs.Run
) -> None:
    """Mark the run as finished, and print the scores of its best model."""
    folder = history.folder
    print(f"Saved {history.model_file}")
    # Before the scores, since they can fail and `keras-deconv evaluate` repeats
    # them.
    dataclasses.replace(run, is_finished=True).write(folder)
    # The backup remains, so the training can continue with a larger --epochs.
    resuming.delete_leftovers(folder)
    if validation is not None:
        model, _ = runs.load(str(folder))
        scores = evaluation.measure(model, validation, run, verbose=0)
        print(f"\nValidation scores of the best epoch:\n{scores}")


def _next_steps(folder: pathlib.Path, options: commands.Train) -> str:
    """Return the commands that use the model of a run."""
    run, module = shlex.quote(str(folder)), options.module
    if not module and options.model not in api.CHOICES["model"]:
        # The module of `module:function` can define layers of the model.
        if not options.model.endswith(".keras"):
            module = options.model.rpartition(":")[0]
    more = f" --import {shlex.quote(module)}" if module else ""
    images = shlex.quote(options.data.images or "photos/")
    labeled, exported = (
        shlex.quote(str(folder / name)) for name in ("labeled", "saved_model")
    )
    previews = folder / resuming.PREVIEWS
    lines = [
        *([f"\nPreviews: {previews}"] if previews.is_dir() else []),
        "\nNext steps: score the model per class, label images with it, and "
        "export it.",
        f"  keras-deconv evaluate {run}{more}",
        f"  keras-deconv predict {run} {images} --output {labeled}{more}",
        f"  keras-deconv export {run} --output {exported}{more}",
    ]
    return "\n".join(lines)
