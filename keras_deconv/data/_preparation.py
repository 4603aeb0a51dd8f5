"""Locks for preparing datasets, and cleanup after killed processes."""

import contextlib
import functools
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from keras_deconv import _files

# Prefix of files that mark a temporary folder of tfds as created by this
# package.
_NOTE = ".keras_deconv."


@contextlib.contextmanager
def alone(data_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Wait until no other process of this package prepares a dataset.

    Files that a killed process left behind are deleted.

    Args:
        data_dir: Folder of the version that is prepared. The lock file lies
            beside it while the block runs. On remote storage ("gs://..."),
            other processes are not excluded.

    Raises:
        OSError: If files cannot be written there.
        ValueError: If another file has the name of the lock.
    """
    if _is_remote(data_dir):
        yield
        return
    target = pathlib.Path(data_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(target)
    with contextlib.ExitStack() as stack:
        try:
            is_locked = stack.enter_context(_files.locked(lock, wait=False))
        except BlockingIOError:
            print(f"Waiting for another process that prepares '{target}' ...")
            is_locked = stack.enter_context(_files.locked(lock, wait=True))
        if not is_locked:
            yield
            return
        # Processes that made notes held the lock, so they have ended.
        _delete_incomplete(target)
        try:
            yield
        finally:
            _delete_incomplete(target)


def note_folder(builder: tfds.core.DatasetBuilder) -> None:
    """Make a builder note the name of its temporary folder.

    The folder names of tfds do not tell which process created them, and
    processes of other programs may prepare the same dataset without the lock.
    The next process that holds the lock deletes the folders named by notes,
    because their writers have ended.
    """
    if _is_remote(builder.data_dir):
        return
    prepare = builder._download_and_prepare

    @functools.wraps(prepare)
    def note_and_prepare(*arguments: Any, **options: Any) -> None:
        # During the preparation, `data_dir` is the temporary folder.
        folder = pathlib.Path(builder.data_dir)
        folder.with_name(f"{_NOTE}{folder.name}").touch()
        prepare(*arguments, **options)

    builder._download_and_prepare = note_and_prepare


def clean(data_dir: str | os.PathLike[str]) -> None:
    """Delete the files of a process that was killed after the preparation."""
    if _is_remote(data_dir):
        return
    target = pathlib.Path(data_dir)
    if not _lock_of(target).exists():
        return
    # Another process may hold the lock, or the folder may be read-only.
    with (
        contextlib.suppress(OSError, ValueError),
        _files.locked(_lock_of(target), wait=False) as is_locked,
    ):
        if is_locked:
            _delete_incomplete(target)


def _is_remote(data_dir: str | os.PathLike[str]) -> bool:
    return "://" in os.fspath(data_dir)


def _lock_of(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".keras_deconv.{target.name}.lock")


def _delete_incomplete(target: pathlib.Path) -> None:
    """Delete the temporary folders of earlier lock holders, and the notes."""
    for note in target.parent.glob(f"{_NOTE}incomplete.??????_{target.name}"):
        folder = note.with_name(note.name.removeprefix(_NOTE))
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            note.unlink()
