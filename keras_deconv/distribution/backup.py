"""Backups that let a training of many processes go on."""

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
        self.replicas = _arguments.one_of_class(
            replicas, "replicas", Replicas, "what distribution.connect returns"
        )
        self.folder = _arguments.path(folder, "folder")

    @property
    def exists(self) -> bool:
        """Whether there is a backup."""
        return bool(self._files())

    def restore(self, model: keras.Model) -> int:
        """Loads the last backup into a compiled model.

        Returns:
            int, the number of epochs that are done: 0 without a backup.

        Raises:
            ValueError: If processes see different backups, or the file cannot
                be read into the model.
        """
        _check_model(model)
        num_done = 0
        with self.replicas.scope():
            # Or there would be nothing to load its state into.
            model.optimizer.build(model.trainable_variables)
            for file in self._files()[-1:]:
                _load(model, file)
                num_done = _epochs_of(file)
        self.replicas.check_same(
            num_done, f"The backup in '{self.folder}', which all have to see,"
        )
        return num_done

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.write(self.model, epoch + 1)

    def write(self, model: keras.Model, num_done: int) -> None:
        """Replaces the backup, in the chief."""
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
        """Deletes the backup, and the folder if nothing else is in it."""
        if not self.replicas.is_chief:
            return
        for file in self._files():
            file.unlink()
        _files.clean(self.folder)
        # Not there, or with files of somebody else in it.
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
    # Files that are damaged make h5py and Keras raise whatever comes.
    except Exception as error:
        raise ValueError(
            f"The backup '{file}' cannot be read: it is damaged, or of another "
            "model. Delete it to begin the training anew, or put a copy in its "
            f"place. Received: {error}"
        ) from error


def _is_backup(file: Path) -> bool:
    """Whether the name is one that is written here, and nobody else's."""
    number = file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return file.name == f"{_PREFIX}{number}{_SUFFIX}" and number.isdecimal()


def _epochs_of(file: Path) -> int:
    return int(file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
