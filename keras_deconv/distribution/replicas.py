"""The devices of a training, and what all strategies do alike."""

import contextlib
import dataclasses
import socket
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import keras

from keras_deconv import _arguments

__all__ = ["Replicas"]


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

    def __post_init__(self) -> None:
        _arguments.positive_int(self.num_replicas, "num_replicas")
        _arguments.positive_int(self.num_processes, "num_processes")
        _arguments.natural_int(self.process_id, "process_id")

    @classmethod
    def from_environment(cls) -> "Replicas":
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

        Saving above all. Within it batch normalizations of `model` are those
        of one device, so that a file of it loads on every backend.
        """
        return contextlib.nullcontext()

    def check_batch_size(self, batch_size: int) -> None:
        """Sees to it that a batch can be shared among the replicas.

        Raises:
            ValueError: `batch_size` does not divide by their number.
        """
        batch_size = _arguments.positive_int(batch_size, "batch_size")
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
        numbers = self._gather(_arguments.natural_int(number, "number"))
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
        epochs = _arguments.positive_int(epochs, "epochs")
        initial_epoch = _arguments.natural_int(initial_epoch, "initial_epoch")
        if isinstance(verbose, str):
            verbose = _arguments.choice(verbose, "verbose", ("auto",))
        else:
            verbose = _arguments.verbose(verbose)
        callbacks = _arguments.sequence(callbacks, "callbacks")
        for callback in callbacks:
            _arguments.one_of_class(
                callback,
                "callbacks",
                keras.callbacks.Callback,
                "a sequence of keras.callbacks.Callback",
            )
        if not isinstance(_arguments.ignore_class(ignore_class), int):
            raise ValueError(
                "`ignore_class` must be one int, the label to fill up with. "
                f"Received: ignore_class={ignore_class!r}"
            )
        train = _arguments.batches(train, "train")
        if validation_data is not None:
            _arguments.batches(validation_data, "validation_data")
        batch_size = self._batch_size(train)
        _arguments.one_of_class(
            model, "model", keras.Model, "a compiled keras.Model"
        )
        if validation_data is not None and batch_size is not None:
            validation_data = _filled(validation_data, batch_size, ignore_class)
        with self._lost_processes():
            return self._fit(
                model,
                train,
                validation_data=validation_data,
                epochs=epochs,
                initial_epoch=initial_epoch,
                callbacks=callbacks,
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


def check_port(address: str) -> None:
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
