"""Data parallelism with JAX, on one or several hosts."""

import contextlib
import dataclasses
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import keras
import numpy as np

from keras_deconv.distribution.replicas import Replicas, check_port

# The environment variables of `keras.distribution.initialize`.
_JAX_PROCESSES = tuple(
    f"KERAS_DISTRIBUTION_{name}"
    for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)
# JAX detects these launchers by their number of processes.
_LAUNCHERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
# Errors of a connection start with these words.
_XLA_STATUS = re.compile(
    "(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): "
)


@dataclasses.dataclass(frozen=True)
class DataParallel(Replicas):
    distribution: Any = None
    backend: ClassVar[str | None] = "jax"

    @classmethod
    def from_environment(cls) -> Replicas:
        import jax
        import tensorflow as tf

        # TensorFlow only reads the data. It must not reserve memory of GPUs.
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
            # Keras does not know the number of batches of a share.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            return super()._fit(model, train, **options)

    @contextlib.contextmanager
    def alone(self, model: keras.Model | None = None) -> Iterator[None]:
        # Saving creates variables. In a distribution, all processes must do so.
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
        # JAX also raises a ValueError with XLA's message.
        return bool(_XLA_STATUS.match(reason))


def _has_jax_processes() -> bool:
    """Whether the environment declares several processes.

    Raises:
        ValueError: If the variables are incomplete or wrong, or if this is the
            first process and its port is in use.
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
            "host:port of the first process (or of all, separated by commas), "
            "the number of processes, and the number of this process, from 0. "
            f"Received: {given}"
        )
    if int(process_id) == 0:
        check_port(addresses[0])
    return True
