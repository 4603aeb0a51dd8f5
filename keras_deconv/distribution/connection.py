"""Finding the devices and processes of a training."""

import keras

from keras_deconv import _arguments
from keras_deconv.distribution._jax import DataParallel
from keras_deconv.distribution._tensorflow import Mirrored, MultiWorker
from keras_deconv.distribution.replicas import Replicas

__all__ = ["STRATEGIES", "connect"]

STRATEGIES = ("one", "mirrored", "multi_worker", "data_parallel")


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
            f"`strategy` {strategy!r} needs two devices or more. Received: one "
            "device in one process. Use 'one'."
        )
    return replicas


_KINDS: dict[str, type[Replicas]] = dict(
    zip(
        STRATEGIES,
        (Replicas, Mirrored, MultiWorker, DataParallel),
        strict=True,
    )
)
