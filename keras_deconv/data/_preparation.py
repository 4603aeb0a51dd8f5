"""One process at a time writes a dataset, and cleans up after the killed."""

import contextlib
import functools
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from keras_deconv import _files

# Before the name of a temporary folder of tfds: a file that says it is ours.
_NOTE = ".keras_deconv."


@contextlib.contextmanager
def alone(data_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Wait until no other process of this package prepares a dataset.

    What was left by one that was killed is deleted.

    Args:
        data_dir: Folder of the version that is prepared. The lock lies beside
            it while the block runs. Where it is on another machine
            ("gs://..."), nobody is kept out.

    Raises:
        OSError: If nothing can be written there.
        ValueError: If somebody else's file has the name of the lock.
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
        # Nobody holds the lock any more who has made a note.
        _delete_incomplete(target)
        try:
            yield
        finally:
            _delete_incomplete(target)


def note_folder(builder: tfds.core.DatasetBuilder) -> None:
    """Let a builder note which temporary folder it writes to.

    The names of tfds do not tell whose they are, and other processes may
    prepare the same dataset without a lock. The next holder of the lock
    deletes the folder that a note names, as its writer is dead.
    """
    if _is_remote(builder.data_dir):
        return
    prepare = builder._download_and_prepare

    @functools.wraps(prepare)
    def note_and_prepare(*arguments: Any, **options: Any) -> None:
        # Meanwhile it is the temporary folder.
        folder = pathlib.Path(builder.data_dir)
        folder.with_name(f"{_NOTE}{folder.name}").touch()
        prepare(*arguments, **options)

    builder._download_and_prepare = note_and_prepare


def clean(data_dir: str | os.PathLike[str]) -> None:
    """Delete what a process left that was killed when all was prepared."""
    if _is_remote(data_dir):
        return
    target = pathlib.Path(data_dir)
    if not _lock_of(target).exists():
        return
    # Somebody else may hold it, or nothing can be deleted there.
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
    """Delete temporary folders of those who held the lock, and their notes."""
    for note in target.parent.glob(f"{_NOTE}incomplete.??????_{target.name}"):
        folder = note.with_name(note.name.removeprefix(_NOTE))
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            note.unlink()
