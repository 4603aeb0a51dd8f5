"""Replicas of JAX: data parallelism on one host or many."""

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


@dataclasses.dataclass(frozen=True)
class DataParallel(Replicas):
    distribution: Any = None
    backend: ClassVar[str | None] = "jax"

    @classmethod
    def from_environment(cls) -> Replicas:
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
        check_port(addresses[0])
    return True
