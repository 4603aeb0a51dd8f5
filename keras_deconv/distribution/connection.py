"""Connection of the devices and processes of a training."""

import keras

from keras_deconv import _arguments
from keras_deconv.distribution._jax import DataParallel
from keras_deconv.distribution._tensorflow import Mirrored, MultiWorker
from keras_deconv.distribution.replicas import Replicas

__all__ = ["STRATEGIES", "connect"]

STRATEGIES = ("one", "mirrored", "multi_worker", "data_parallel")


def connect(strategy: str) -> "Replicas":
    """Find the devices and the other processes of a training.

    Call it at the beginning of a program, before any computation, and with the
    same argument in each process. It waits for all processes.

    Args:
        strategy: str. One of these:

            - "one": the default device of Keras.
            - "mirrored" (TensorFlow): all GPUs of this host, or all logical CPU
              devices if it does not have GPUs.
            - "multi_worker" (TensorFlow): the devices of all processes that the
              environment variable `TF_CONFIG` lists, in the format of
              `tf.distribute.MultiWorkerMirroredStrategy`.
            - "data_parallel" (JAX): all devices of this host, or of several
              processes that Slurm or Open MPI started or that environment
              variables declare. `KERAS_DISTRIBUTION_JOB_ADDRESSES` is host:port
              of the first process, or of all, separated by commas.
              `KERAS_DISTRIBUTION_NUM_PROCESSES` is the number of processes.
              `KERAS_DISTRIBUTION_PROCESS_ID` is the number of this process,
              from 0.

    Returns:
        The `Replicas` to train with.

    Raises:
        ValueError: If `strategy` is unknown, or needs another backend.
        ValueError: If there is only one device and `strategy` is not "one".
        ValueError: If environment variables are missing or wrong.
        ValueError: If the port of this process is in use.

    Example:
        >>> from keras_deconv import distribution
        >>> replicas = distribution.connect("one")
        >>> replicas.num_replicas, replicas.is_chief
        (1, True)
    """
    strategy = _arguments.choice(strategy, "strategy", STRATEGIES)
    kind, backend = _KINDS[strategy], keras.config.backend()
    if kind.backend not in (None, backend):
        other = "jax" if kind.backend == "jax" else "tensorflow"
        raise ValueError(
            f"`strategy` {strategy!r} needs the backend {other}. Received: the "
            f"backend {backend}. Set KERAS_BACKEND={other} in the environment."
        )
    replicas = kind.from_environment()
    if strategy != "one" and replicas.num_replicas == 1:
        raise ValueError(
            f"`strategy` {strategy!r} needs at least two devices. Received: "
            "one device in one process. Use 'one'."
        )
    return replicas


_KINDS: dict[str, type[Replicas]] = dict(
    zip(
        STRATEGIES,
        (Replicas, Mirrored, MultiWorker, DataParallel),
        strict=True,
    )
)
