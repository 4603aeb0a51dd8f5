"""The devices of a training, with the methods that strategies share."""

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
    """The devices of a training, and the methods to train on them.

    `distribution.connect` returns it.

    Attributes:
        num_replicas: int >= 1. Number of devices in all processes.
        num_processes: int >= 1. Number of processes.
        process_id: int >= 0. Number of this process. Process 0 is the chief,
            which writes files.

    Raises:
        ValueError: If `num_replicas` or `num_processes` is not an int >= 1, or
            `process_id` is not an int >= 0.

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
        """Find devices and processes; `distribution.connect` calls it."""
        return cls()

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that writes files."""
        return self.process_id == 0

    def scope(self) -> Any:
        """Return the context in which to build, compile and restore the model.

        All processes must run the same code in it, with the same seed.
        """
        return contextlib.nullcontext()

    def alone(self, model: keras.Model | None = None) -> Any:
        """Return a context for code that only one process runs, such as saving.

        Inside it, batch normalization layers of `model` are configured for one
        device, so that saved files load on every backend.

        Args:
            model: `keras.Model` that is saved, or None.
        """
        return contextlib.nullcontext()

    def check_batch_size(self, batch_size: int) -> None:
        """Check that a batch can be divided among the replicas.

        Args:
            batch_size: int >= 1. Batch size of all replicas together.

        Raises:
            ValueError: If `batch_size` is not a multiple of the number of
                replicas.
        """
        batch_size = _arguments.positive_int(batch_size, "batch_size")
        if batch_size % self.num_replicas:
            raise ValueError(
                "The batch size must be a multiple of the number of replicas, "
                f"{self.num_replicas}, because it is that of all replicas "
                f"together. Received: {batch_size}"
            )

    def wait(self) -> None:
        """Wait until all processes reach this call."""
        self._gather(0)

    def check_same(self, number: int, what: str) -> None:
        """Check that a number is the same in all processes.

        The processes wait for each other.

        Args:
            number: int >= 0. The number to compare.
            what: str. Description of the number, the subject of the error
                message.

        Raises:
            ValueError: If `number` is not the same in all processes.
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
        """Train a model on all replicas, like `keras.Model.fit` on one device.

        Call it in each process with the same arguments and the whole datasets:
        each process takes its share of every batch. Only the chief prints
        progress. Pass callbacks that write files only in the chief. Pass
        callbacks that evaluate or predict in one process, or the same ones in
        all processes.

        Args:
            model: `keras.Model` that was built and compiled within `scope()`.
            train: `tf.data.Dataset` of batches (image, mask) or (image, mask,
                weight). Batches must have one known size, that of all replicas
                together, as from `data.load(..., drop_remainder=True)`.
            validation_data: Dataset like `train`, whose last batch may be
                smaller, or None. A smaller batch is padded with void, which
                metrics ignore; `val_loss` weights it like a full batch.
            epochs: int >= 1. Number of the last epoch, as in `fit`.
            initial_epoch: int >= 0. Number of finished epochs at the start, as
                in `fit`.
            callbacks: Sequence of `keras.callbacks.Callback`.
            ignore_class: int. Label for padding, which loss and metrics must
                treat as void.
            verbose: "auto", 0, 1 or 2, as in `fit`.

        Returns:
            The `keras.callbacks.History` of the training, as from `fit`.

        Raises:
            ValueError: If batches of `train` do not have a known size, or one
                that is not a multiple of the number of replicas.
            ValueError: If `model` is not a `keras.Model`, or `callbacks`
                contains other objects than callbacks.
            ValueError: If `epochs` is not an int >= 1, `initial_epoch` is not
                an int >= 0, `ignore_class` is not one int, or `verbose` is
                unknown.
            ConnectionError: If another process ended. Restart all processes.

        Edge cases:
            If random numbers depend on the replica, as those of dropout do on
            TensorFlow, results differ from those on one device.
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
                "`ignore_class` must be one int, the label for padding. "
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
        """Return the size of all batches, or None if any size is supported."""
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
        """Turn errors of engines about a lost process into a clear one."""
        try:
            yield
        except Exception as error:
            reason = str(error).strip().split("\n")[0][:200]
            if self.num_processes == 1 or not self._is_lost(error, reason):
                raise
            raise ConnectionError(
                "Another process of the training ended. Restart all processes "
                f"with the same command. {reason}"
            ) from error

    def _is_lost(self, error: Exception, reason: str) -> bool:
        """Whether an error means that another process ended."""
        return False


def check_port(address: str) -> None:
    """Check that this process can listen at its host:port.

    Otherwise JAX would crash, and TensorFlow would not name the port.

    Raises:
        ValueError: If another program uses the port, or it is not a port.
    """
    port = address.rsplit(":", 1)[1]
    with socket.socket() as probe:
        # A killed process may have left connections at the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except (OSError, OverflowError, ValueError) as error:
            raise ValueError(
                "The address of this process must end with a free port. "
                f"Received: {address} ({error}). Use another port in the "
                "environment variables of all processes."
            ) from error


def _filled(dataset: Any, batch_size: int, ignore_class: int) -> Any:
    """Pad batches with pixels that are void and have a weight of 0."""
    import tensorflow as tf

    fillers = (0, ignore_class, 0)

    def fill(*batch: Any) -> tuple[Any, ...]:
        missing = batch_size - tf.shape(batch[0])[0]
        is_enough = tf.debugging.Assert(
            missing >= 0,
            ["`validation_data` must not have larger batches than `train`."],
        )
        # Padding must not fail before the assertion.
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
