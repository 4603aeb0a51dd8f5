"""Mirrored training with TensorFlow, on one or several hosts."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import keras

from keras_deconv._graphs import batch_norms
from keras_deconv.distribution.replicas import Replicas, check_port


@dataclasses.dataclass(frozen=True)
class Mirrored(Replicas):
    strategy: Any = None
    backend: ClassVar[str | None] = "tensorflow"

    @classmethod
    def from_environment(cls) -> Replicas:
        import tensorflow as tf

        devices = tf.config.list_logical_devices(
            "GPU"
        ) or tf.config.list_logical_devices("CPU")
        names = [device.name for device in devices]
        return cls(len(names), strategy=tf.distribute.MirroredStrategy(names))

    def scope(self) -> Any:
        return self.strategy.scope()

    def alone(self, model: keras.Model | None = None) -> Any:
        return _synchronized(model, False)

    def _fit(
        self, model: keras.Model, train: Any, **options: Any
    ) -> keras.callbacks.History:
        with _synchronized(model, True):
            return super()._fit(model, train, **options)


@dataclasses.dataclass(frozen=True)
class MultiWorker(Mirrored):
    @classmethod
    def from_environment(cls) -> Replicas:
        import tensorflow as tf

        num_processes, process_id = _read_tf_config()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return cls(
            strategy.num_replicas_in_sync, num_processes, process_id, strategy
        )

    def _fit(
        self, model: keras.Model, train: Any, **options: Any
    ) -> keras.callbacks.History:
        with _synchronized(model, True):
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


def _read_tf_config() -> tuple[int, int]:
    """Return the number of processes and that of this one; 0 is the chief.

    Raises:
        ValueError: If TF_CONFIG is missing or wrong, or the port of this
            process is in use.
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
            "The environment variable TF_CONFIG must list the processes, and "
            f"which one this is, such as {json.dumps(example)} on host0, and "
            f"with index 1 on host1. Received: {text or 'none'}"
        )
    check_port(own[index])
    number = index if kind == "chief" else len(chiefs) + index
    return len(chiefs) + len(workers), number


@contextlib.contextmanager
def _synchronized(model: keras.Model | None, value: bool) -> Iterator[None]:
    """Set whether batch normalization averages over all replicas."""
    norms = [] if model is None else list(batch_norms(model))
    before = [norm.synchronized for norm in norms]
    for norm in norms:
        norm.synchronized = value
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.synchronized = old


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
    """Train as `fit` does, with strategies that `fit` does not support.

    Callbacks get the scores at the end of epochs, not of batches, because
    reading a metric synchronizes all processes.
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
    """Give every process its share of each batch, and not whole files."""
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
    """Run a step on every batch, and return the scores."""
    model.reset_metrics()
    for number, batch in enumerate(batches):
        on_begin(number)
        step(batch)
        on_end(number)
    return {
        name: float(value) for name, value in model.get_metrics_result().items()
    }
