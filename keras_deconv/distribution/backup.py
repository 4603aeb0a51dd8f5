"""Backups to resume a training with several processes."""

import contextlib
import os
from pathlib import Path
from typing import Any

import keras

from keras_deconv import (
    _arguments,
    _files,
)
from keras_deconv.distribution.replicas import Replicas

__all__ = ["EpochBackup"]

_PREFIX, _SUFFIX = "backup-", ".weights.h5"


class EpochBackup(keras.callbacks.Callback):
    """Backup after each epoch, to resume a training that was interrupted.

    Use it instead of `keras.callbacks.BackupAndRestore` if a training has
    several processes: the chief writes, and all processes read. A file contains
    the weights and the state of the optimizer; its name contains the number of
    finished epochs. If a process is killed, the file is either complete or does
    not exist.

    Args:
        replicas: `Replicas`, from `distribution.connect`.
        folder: str or path. Folder that all processes can access. It is created
            if it does not exist.

    Raises:
        ValueError: If `replicas` is not a `Replicas`, or `folder` is not a
            path.

    Edge cases:
        - Put it last in the list of callbacks: if a callback before it fails,
          the epoch is not backed up.
        - With `callbacks.EpochSeed`, a resumed training ends with the same
          weights as one that was not interrupted.

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
        self.replicas = _arguments.one_of_class(
            replicas, "replicas", Replicas, "what distribution.connect returns"
        )
        self.folder = _arguments.path(folder, "folder")

    @property
    def exists(self) -> bool:
        """Whether there is a backup."""
        return bool(self._files())

    def restore(self, model: keras.Model) -> int:
        """Load the last backup into a compiled model.

        Call it in each process before `Replicas.fit`, and pass its result as
        `initial_epoch`.

        Args:
            model: `keras.Model` that is compiled with an optimizer.

        Returns:
            int. Number of finished epochs, or 0 if there is no backup.

        Raises:
            ValueError: If `model` is not compiled with an optimizer.
            ValueError: If processes find different backups.
            ValueError: If the file is damaged, or belongs to another model.
        """
        _check_model(model)
        num_done = 0
        with self.replicas.scope():
            # The state can only be loaded into existing variables.
            model.optimizer.build(model.trainable_variables)
            for file in self._files()[-1:]:
                _load(model, file)
                num_done = _epochs_of(file)
        self.replicas.check_same(
            num_done, f"The backup in the shared folder '{self.folder}'"
        )
        return num_done

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.write(self.model, epoch + 1)

    def write(self, model: keras.Model, num_done: int) -> None:
        """Replace the backup; only the chief writes.

        Args:
            model: `keras.Model` that is compiled with an optimizer.
            num_done: int >= 0. Number of finished epochs.

        Raises:
            ValueError: If `model` is not compiled with an optimizer, or
                `num_done` is not an int >= 0.
        """
        _check_model(model)
        num_done = _arguments.natural_int(num_done, "num_done")
        if not self.replicas.is_chief:
            return
        old = self._files()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{_PREFIX}{num_done}{_SUFFIX}"
        with self.replicas.alone(model), _files.replaced(file) as part:
            model.save_weights(part)
        for other in old:
            if other != file:
                other.unlink()

    def delete(self) -> None:
        """Delete the backup, and the folder if it is empty afterward."""
        if not self.replicas.is_chief:
            return
        for file in self._files():
            file.unlink()
        _files.clean(self.folder)
        # The folder may be missing, or contain other files.
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        files = self.folder.glob(f"*{_SUFFIX}")
        return sorted(filter(_is_backup, files), key=_epochs_of)


def _check_model(model: Any) -> None:
    is_model = isinstance(model, keras.Model)
    if not is_model or getattr(model, "optimizer", None) is None:
        raise ValueError(
            "`model` must be a keras.Model that is compiled with an optimizer. "
            f"Received: model={model!r}"
        )


def _load(model: keras.Model, file: Path) -> None:
    try:
        _files.check_readable(file)
        model.load_weights(file)
    # For damaged files, h5py and Keras raise many kinds of errors.
    except Exception as error:
        raise ValueError(
            f"The backup '{file}' cannot be read: it is damaged, or belongs to "
            "another model. Delete it to restart the training, or replace it "
            f"by a copy. Received: {error}"
        ) from error


def _is_backup(file: Path) -> bool:
    """Whether the name of a file is that of a backup."""
    number = file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return file.name == f"{_PREFIX}{number}{_SUFFIX}" and number.isdecimal()


def _epochs_of(file: Path) -> int:
    return int(file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
