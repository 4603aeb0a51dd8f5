"""Training on many replicas, with the engines that are there.

| strategy | what it is | how processes know of each other |
|---|---|---|
| `"one"` | one device | - |
| `"mirrored"` | TensorFlow, all devices of one host | - |
| `"multi_worker"` | TensorFlow, many hosts, a process on each | `TF_CONFIG` |
| `"data_parallel"` | JAX, the devices of one host or of many | see `connect` |

Each replica takes its share of every batch. Losses, gradients, statistics of
batch normalisation and metrics are those of the whole batch, so training goes
as on one device with the same batches, to float tolerance.

`keras.Model.fit` does the training, but for `"multi_worker"`, where Keras 3
cannot (https://github.com/keras-team/keras/issues/20585); there a loop of a
page does, around the same `train_step`.
"""

import contextlib
import dataclasses
import json
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

__all__ = ["STRATEGIES", "EpochBackup", "Replicas", "connect"]

STRATEGIES = ("one", "mirrored", "multi_worker", "data_parallel")

# What `keras.distribution.initialize` reads.
_JAX_PROCESSES = tuple(
    f"KERAS_DISTRIBUTION_{name}"
    for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)
# Launchers that JAX asks by itself, by the number of processes they started.
_LAUNCHERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
# How errors begin that come of a connection.
_XLA_STATUS = re.compile(
    "(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): "
)
_PREFIX, _SUFFIX = "backup-", ".weights.h5"


def connect(strategy: str) -> "Replicas":
    """Finds the devices, and the other processes, of a training.

    Call it first: before anything is computed, and the same way in each
    process. It waits for all of them.

    Args:
        strategy: str. `"one"`: the device that Keras takes by itself.
            `"mirrored"` (TensorFlow): all GPUs of this host; without any, all
            logical CPU devices. `"multi_worker"` (TensorFlow): the devices of
            the processes that the environment variable `TF_CONFIG` names, as
            `tf.distribute.MultiWorkerMirroredStrategy` has it.
            `"data_parallel"` (JAX): all devices of this host; or of several
            processes, if `KERAS_DISTRIBUTION_JOB_ADDRESSES` (host:port of the
            first one, or of each, with commas between them),
            `KERAS_DISTRIBUTION_NUM_PROCESSES` and
            `KERAS_DISTRIBUTION_PROCESS_ID` (from 0) say so, or Slurm or Open
            MPI started them.

    Returns:
        The `Replicas` to train with.

    Raises:
        ValueError: `strategy` is unknown or not one of the backend, there is
            only one device, the environment variables are missing or wrong,
            or the port that is to be this process' own is taken.

    Example:
        >>> from keras_deconv import distribution
        >>> replicas = distribution.connect("one")
        >>> replicas.num_replicas, replicas.is_chief
        (1, True)
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(map(repr, STRATEGIES))}. "
            f"Received: strategy={strategy!r}"
        )
    kind, backend = _KINDS[strategy], keras.config.backend()
    if kind.backend not in (None, backend):
        other = "jax" if kind.backend == "jax" else "tensorflow"
        raise ValueError(
            f"`strategy` {strategy!r} needs the backend {other}. Received: the "
            f"backend {backend}. Set KERAS_BACKEND={other} in the environment."
        )
    replicas = kind.connect()
    if strategy != "one" and replicas.num_replicas == 1:
        raise ValueError(
            f"`strategy` {strategy!r} needs two devices or more. Received: one "
            "device in one process. Use 'one'."
        )
    return replicas


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The devices of a training; `connect` makes it.

    Attributes:
        num_replicas: int >= 1. Devices in all processes.
        num_processes: int >= 1.
        process_id: int, from 0. Process 0 is the chief, which writes.

    Example:
        >>> import keras, numpy as np, tensorflow as tf
        >>> from keras_deconv import distribution, losses
        >>> replicas = distribution.connect("one")
        >>> with replicas.scope():
        ...     model = keras.Sequential(
        ...         [keras.Input((4, 6, 3)), keras.layers.Conv2D(2, 1)])
        ...     model.compile("sgd", losses.SegmentationCrossentropy())
        >>> train = tf.data.Dataset.from_tensors((
        ...     np.zeros((2, 4, 6, 3), "float32"),
        ...     np.zeros((2, 4, 6), "int32")))
        >>> history = replicas.fit(model, train, epochs=3, verbose=0)
        >>> len(history.history["loss"])
        3
    """

    num_replicas: int = 1
    num_processes: int = 1
    process_id: int = 0
    backend: ClassVar[str | None] = None

    @classmethod
    def connect(cls) -> "Replicas":
        """Finds devices and processes; `distribution.connect` calls it."""
        return cls()

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that writes files."""
        return self.process_id == 0

    def scope(self) -> Any:
        """Context in which to build, compile and restore the model.

        All processes do the same in it, with the same seed.
        """
        return contextlib.nullcontext()

    def alone(self, model: keras.Model | None = None) -> Any:
        """Context for what one process does without the others.

        Saving above all. Within it batch normalisations of `model` are those
        of one device, so that a file of it loads on every backend.
        """
        return contextlib.nullcontext()

    def check_batch_size(self, batch_size: int) -> None:
        """Sees to it that a batch can be shared among the replicas.

        Raises:
            ValueError: `batch_size` does not divide by their number.
        """
        if batch_size % self.num_replicas:
            raise ValueError(
                "The batch size must be a multiple of the number of replicas, "
                f"{self.num_replicas}: it is that of all of them together. "
                f"Received: {batch_size}"
            )

    def wait(self) -> None:
        """Waits until all processes have come here."""
        self._gather(0)

    def check_same(self, number: int, what: str) -> None:
        """Compares a number of all processes; they wait for each other.

        Raises:
            ValueError: it is not the same in all of them.
        """
        numbers = self._gather(number)
        if len(set(numbers)) > 1:
            raise ValueError(
                f"{what} must be the same in all processes. Received: "
                f"{', '.join(map(str, numbers))}, in the order of the "
                "processes."
            )

    def fit(
        self,
        model: keras.Model,
        train: Any,
        *,
        validation_data: Any = None,
        epochs: int = 1,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        ignore_class: int = 255,
        verbose: Any = "auto",
    ) -> keras.callbacks.History:
        """Trains as `keras.Model.fit`, on all replicas.

        Call it in each process with the same arguments. Give the whole sets:
        each process takes its share of every batch. All but the chief are
        silent; callbacks that write are for the chief alone, those that
        evaluate or predict for one process (or for all of them alike).

        Args:
            model: compiled, built and compiled within `scope()`.
            train: `tf.data.Dataset` of batches (image, mask) or (image, mask,
                weight) of one known size, the one of all replicas together:
                `data.load(..., drop_remainder=True)`.
            validation_data: such a set, whose last batch may be smaller, or
                None. What such a batch lacks is filled up with void, which
                metrics do not count; `val_loss` weighs it as a whole batch.
            epochs: int. The epoch to end with, as in `fit`.
            initial_epoch: int. The epoch to begin with, from 0.
            callbacks: callbacks of Keras.
            ignore_class: int. The label to fill up with: one that is void for
                loss and metrics.
            verbose: As in `fit`.

        Returns:
            The `keras.callbacks.History`, as `fit`.

        Raises:
            ValueError: batches whose size is not known or does not divide by
                the number of replicas.
            ConnectionError: another process is gone. Start all of them again.

        Edge cases:
            Where random numbers depend on the replica (dropout on TensorFlow)
            they are not those of one device.
        """
        batch_size = self._batch_size(train)
        if validation_data is not None and batch_size is not None:
            validation_data = _filled(validation_data, batch_size, ignore_class)
        with self._lost_processes():
            return self._fit(
                model,
                train,
                validation_data=validation_data,
                epochs=epochs,
                initial_epoch=initial_epoch,
                callbacks=list(callbacks),
                verbose=verbose if self.is_chief else 0,
            )

    def _fit(
        self, model: keras.Model, train: Any, **options: Any
    ) -> keras.callbacks.History:
        return model.fit(train, shuffle=False, **options)

    def _batch_size(self, train: Any) -> int | None:
        """The size of all batches; None if it does not matter."""
        if self.num_replicas == 1:
            return None
        size = train.element_spec[0].shape[0]
        if size is None:
            raise ValueError(
                "`train` must have batches of one known size. Received: "
                f"{train.element_spec[0]}. Load it with drop_remainder=True."
            )
        self.check_batch_size(size)
        return size

    def _gather(self, number: int) -> list[int]:
        return [number]

    @contextlib.contextmanager
    def _lost_processes(self) -> Iterator[None]:
        """Says what happened where an engine says what it saw of it."""
        try:
            yield
        except Exception as error:
            reason = str(error).strip().split("\n")[0][:200]
            if self.num_processes == 1 or not self._is_lost(error, reason):
                raise
            raise ConnectionError(
                "another process of the training is gone. Start all of them "
                f"again with the same command. {reason}"
            ) from error

    def _is_lost(self, error: Exception, reason: str) -> bool:
        """Whether an error comes of another process that is gone."""
        return False


@dataclasses.dataclass(frozen=True)
class _Mirrored(Replicas):
    strategy: Any = None
    backend: ClassVar[str | None] = "tensorflow"

    @classmethod
    def connect(cls) -> Replicas:
        import tensorflow as tf

        devices = tf.config.list_logical_devices(
            "GPU"
        ) or tf.config.list_logical_devices("CPU")
        names = [device.name for device in devices]
        return cls(len(names), strategy=tf.distribute.MirroredStrategy(names))

    def scope(self) -> Any:
        return self.strategy.scope()

    def alone(self, model: keras.Model | None = None) -> Any:
        return _synchronised(model, False)

    def _fit(
        self, model: keras.Model, train: Any, **options: Any
    ) -> keras.callbacks.History:
        with _synchronised(model, True):
            return super()._fit(model, train, **options)


@dataclasses.dataclass(frozen=True)
class _MultiWorker(_Mirrored):
    @classmethod
    def connect(cls) -> Replicas:
        import tensorflow as tf

        num_processes, process_id = _read_tf_config()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return cls(
            strategy.num_replicas_in_sync, num_processes, process_id, strategy
        )

    def _fit(
        self, model: keras.Model, train: Any, **options: Any
    ) -> keras.callbacks.History:
        with _synchronised(model, True):
            return _loop(self.strategy, model, train, **options)

    def _gather(self, number: int) -> list[int]:
        import tensorflow as tf

        with self._lost_processes():
            gathered = tf.function(self._gather_in_graph)(tf.constant(number))
        return gathered.numpy()[
            :: self.num_replicas // self.num_processes
        ].tolist()

    def _gather_in_graph(self, number: Any) -> Any:
        values = self.strategy.run(lambda: number[None])
        return self.strategy.gather(values, axis=0)

    def _is_lost(self, error: Exception, reason: str) -> bool:
        import tensorflow as tf

        return isinstance(
            error,
            tf.errors.AbortedError
            | tf.errors.CancelledError
            | tf.errors.DeadlineExceededError
            | tf.errors.UnavailableError,
        )


@dataclasses.dataclass(frozen=True)
class _DataParallel(Replicas):
    distribution: Any = None
    backend: ClassVar[str | None] = "jax"

    @classmethod
    def connect(cls) -> Replicas:
        import jax
        import tensorflow as tf

        # TensorFlow only reads the data; the memory of GPUs is for JAX.
        tf.config.set_visible_devices([], "GPU")
        if _has_jax_processes():
            keras.distribution.initialize()
        return cls(
            jax.device_count(),
            jax.process_count(),
            jax.process_index(),
            keras.distribution.DataParallel(),
        )

    def scope(self) -> Any:
        return self.distribution.scope()

    def _fit(
        self, model: keras.Model, train: Any, **options: Any
    ) -> keras.callbacks.History:
        with self.scope(), warnings.catch_warnings():
            # Keras does not know how many batches a share has.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            return super()._fit(model, train, **options)

    @contextlib.contextmanager
    def alone(self, model: keras.Model | None = None) -> Iterator[None]:
        # Keras makes variables when it saves: all processes would have to.
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    def _gather(self, number: int) -> list[int]:
        from jax.experimental import multihost_utils

        with self._lost_processes():
            gathered = multihost_utils.process_allgather(
                np.array([number], "int32")
            )
        return np.ravel(gathered).tolist()

    def _is_lost(self, error: Exception, reason: str) -> bool:
        # JAX raises a ValueError, too, with what XLA said.
        return bool(_XLA_STATUS.match(reason))


_KINDS: dict[str, type[Replicas]] = dict(
    zip(
        STRATEGIES,
        (Replicas, _Mirrored, _MultiWorker, _DataParallel),
        strict=True,
    )
)


class EpochBackup(keras.callbacks.Callback):
    """Keeps what a training needs to go on after its last finished epoch.

    As `keras.callbacks.BackupAndRestore`, for many processes: the chief writes,
    all of them read. The file has the weights, the state of the optimizer and,
    in its name, the number of epochs that are done; it is there in full or not
    at all, whenever a process is killed.

    Args:
        replicas: `Replicas`.
        folder: str or path, which all processes see. Made where it is missing.

    Edge cases:
        Put it last among the callbacks: what goes wrong in those before it is
        not backed up. Together with `callbacks.EpochSeed` the training ends
        with the weights that it would have had.

    Example:
        >>> import tempfile
        >>> import keras, numpy as np, tensorflow as tf
        >>> from keras_deconv import distribution
        >>> replicas = distribution.connect("one")
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> train = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones(4)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     backup = distribution.EpochBackup(replicas, folder)
        ...     first = backup.restore(model)
        ...     _ = replicas.fit(
        ...         model, train, epochs=3, callbacks=[backup], verbose=0)
        ...     first, backup.restore(model)
        (0, 3)
    """

    def __init__(
        self, replicas: Replicas, folder: str | os.PathLike[str]
    ) -> None:
        super().__init__()
        self.replicas = replicas
        self.folder = Path(folder)

    def restore(self, model: keras.Model) -> int:
        """Loads the last backup into a compiled model.

        Returns:
            int, the number of epochs that are done: 0 without a backup.

        Raises:
            ValueError: processes see different backups.
        """
        num_done = 0
        with self.replicas.scope():
            # Or there would be nothing to load its state into.
            model.optimizer.build(model.trainable_variables)
            for file in self._files()[-1:]:
                model.load_weights(file)
                num_done = _epochs_of(file)
        self.replicas.check_same(
            num_done, f"The backup in '{self.folder}', which all have to see,"
        )
        return num_done

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.write(self.model, epoch + 1)

    def write(self, model: keras.Model, num_done: int) -> None:
        """Replaces the backup, in the chief."""
        if not self.replicas.is_chief:
            return
        old = self._files()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{_PREFIX}{num_done}{_SUFFIX}"
        # In front, as Keras wants the suffix.
        part = file.with_name(f".part.{file.name}")
        with self.replicas.alone(model):
            model.save_weights(part)
        os.replace(part, file)
        for other in old:
            if other != file:
                other.unlink()

    def delete(self) -> None:
        """Deletes the backup, and the folder if nothing else is in it."""
        if not self.replicas.is_chief:
            return
        for file in [
            *self._files(),
            *self.folder.glob(f".part.{_PREFIX}*{_SUFFIX}"),
        ]:
            file.unlink()
        # Not there, or with files of somebody else in it.
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        files = self.folder.glob(f"*{_SUFFIX}")
        return sorted(filter(_is_backup, files), key=_epochs_of)


def _is_backup(file: Path) -> bool:
    """Whether the name is one that is written here, and nobody else's."""
    number = file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return file.name == f"{_PREFIX}{number}{_SUFFIX}" and number.isdecimal()


def _epochs_of(file: Path) -> int:
    return int(file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))


def _read_tf_config() -> tuple[int, int]:
    """The number of processes and that of this one, chief first.

    Raises:
        ValueError: TF_CONFIG is missing or says something else, or the port
            of this process is taken.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs, workers = cluster.get("chief", []), cluster["worker"]
        kind, index = task["type"], task["index"]
        own = {"chief": chiefs, "worker": workers}[kind]
        is_right = (
            len(chiefs) <= 1
            and all(isinstance(one, str) for one in (*chiefs, *workers))
            and all(one.count(":") for one in (*chiefs, *workers))
            and isinstance(index, int)
            and 0 <= index < len(own)
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        is_right = False
    if not is_right:
        example = {
            "cluster": {"worker": ["host0:12345", "host1:12345"]},
            "task": {"type": "worker", "index": 0},
        }
        raise ValueError(
            "The environment variable TF_CONFIG must name the processes, and "
            f"which one this is, such as {json.dumps(example)} on host0 and "
            f"with index 1 on host1. Received: {text or 'none'}"
        )
    _check_port(own[index])
    number = index if kind == "chief" else len(chiefs) + index
    return len(chiefs) + len(workers), number


def _check_port(address: str) -> None:
    """Finds out whether this process can listen at its host:port.

    JAX would crash, and TensorFlow not say which.

    Raises:
        ValueError: another program does.
    """
    port = address.rsplit(":", 1)[1]
    with socket.socket() as probe:
        # So that what a killed process leaves behind is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except (OSError, OverflowError, ValueError) as error:
            raise ValueError(
                "The address of this process must end with a port that is "
                f"free. Received: {address} ({error}). Give all processes "
                "another one."
            ) from error


def _has_jax_processes() -> bool:
    """Whether there are several processes, or are said to be.

    Raises:
        ValueError: what is said is not complete or wrong, or the port of the
            first process, which this is, is taken.
    """
    given = {name: os.environ.get(name, "") for name in _JAX_PROCESSES}
    text, number, process_id = given.values()
    if not any(given.values()):
        return any(os.environ.get(name, "1") != "1" for name in _LAUNCHERS)
    addresses = text.split(",")
    if not (
        all(":" in address for address in addresses)
        and number.isdecimal()
        and len(addresses) in (1, int(number))
        and process_id.isdecimal()
        and int(process_id) < int(number)
    ):
        raise ValueError(
            f"The environment variables {', '.join(_JAX_PROCESSES)} must be "
            "host:port of the first process (or of each, with commas), the "
            "number of processes, and which one this is, from 0. Received: "
            f"{given}"
        )
    if int(process_id) == 0:
        _check_port(addresses[0])
    return True


def _filled(dataset: Any, batch_size: int, ignore_class: int) -> Any:
    """Fills up batches with pixels that are void and weigh nothing."""
    import tensorflow as tf

    fillers = (0, ignore_class, 0)

    def fill(*batch: Any) -> tuple[Any, ...]:
        missing = batch_size - tf.shape(batch[0])[0]
        is_enough = tf.debugging.Assert(
            missing >= 0,
            [
                "`validation_data` must have batches of at most the size of "
                "those of `train`."
            ],
        )
        # Or padding could fail first.
        with tf.control_dependencies([is_enough]):
            missing = tf.identity(missing)
        return tuple(
            tf.ensure_shape(
                tf.pad(
                    tensor,
                    [[0, missing], *[[0, 0]] * (len(tensor.shape) - 1)],
                    constant_values=tf.cast(filler, tensor.dtype),
                ),
                (batch_size, *tensor.shape[1:]),
            )
            for tensor, filler in zip(batch, fillers, strict=False)
        )

    return dataset.map(fill)


@contextlib.contextmanager
def _synchronised(model: keras.Model | None, value: bool) -> Iterator[None]:
    """Lets batch normalisation look at all replicas, or at each alone."""
    norms = [] if model is None else list(_batch_norms(model, set()))
    before = [norm.synchronized for norm in norms]
    for norm in norms:
        norm.synchronized = value
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.synchronized = old


def _batch_norms(layer: Any, seen: set[int]) -> Iterator[Any]:
    """Batch normalisations of a model and of all that it holds, each once."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    if isinstance(layer, keras.layers.BatchNormalization):
        yield layer
    for value in list(vars(layer).values()):
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, keras.Layer):
                yield from _batch_norms(inner, seen)


def _loop(
    strategy: Any,
    model: keras.Model,
    train: Any,
    *,
    validation_data: Any,
    epochs: int,
    initial_epoch: int,
    callbacks: list[keras.callbacks.Callback],
    verbose: Any,
) -> keras.callbacks.History:
    """What `fit` does, in few lines, where it cannot.

    Callbacks are given the scores at the end of epochs, not of batches: to
    read a metric is to ask all processes.
    """
    history = keras.callbacks.History()
    length = int(train.cardinality())
    watchers = keras.callbacks.CallbackList(
        [*callbacks, history],
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=length if length >= 0 else None,
    )
    train_step = _on_replicas(strategy, model.train_step)
    test_step = _on_replicas(strategy, model.test_step)
    train = _shared(strategy, train)
    if validation_data is not None:
        validation_data = _shared(strategy, validation_data)
    model.stop_training = False
    watchers.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(initial_epoch, epochs):
        watchers.on_epoch_begin(epoch)
        logs = _go_through(
            model,
            train,
            train_step,
            watchers.on_train_batch_begin,
            watchers.on_train_batch_end,
        )
        if validation_data is not None:
            watchers.on_test_begin()
            scores = _go_through(
                model,
                validation_data,
                test_step,
                watchers.on_test_batch_begin,
                watchers.on_test_batch_end,
            )
            watchers.on_test_end(scores)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        watchers.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    watchers.on_train_end(logs)
    return history


def _shared(strategy: Any, dataset: Any) -> Any:
    """Gives every process its part of each batch, and none whole files."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return strategy.experimental_distribute_dataset(
        dataset.with_options(options)
    )


def _on_replicas(
    strategy: Any, step: Callable[[Any], Any]
) -> Callable[[Any], None]:
    import tensorflow as tf

    @tf.function
    def run(batch: Any) -> None:
        strategy.run(step, args=(batch,))

    return run


def _go_through(
    model: keras.Model,
    batches: Iterable[Any],
    step: Callable[[Any], None],
    on_begin: Callable[[int], None],
    on_end: Callable[[int], None],
) -> dict[str, float]:
    """Takes a step with every batch and gives the scores of all of them."""
    model.reset_metrics()
    for number, batch in enumerate(batches):
        on_begin(number)
        step(batch)
        on_end(number)
    return {
        name: float(value) for name, value in model.get_metrics_result().items()
    }
