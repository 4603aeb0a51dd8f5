"""One process at a time writes a dataset, and cleans up after the killed."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from keras_deconv import _files


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
    """
    if "://" in os.fspath(data_dir):
        yield
        return
    target = pathlib.Path(data_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(target)
    with contextlib.ExitStack() as stack:
        try:
            begun = stack.enter_context(_files.locked(lock, wait=False))
        except BlockingIOError:
            print(f"Waiting for another process that prepares '{target}' ...")
            begun = stack.enter_context(_files.locked(lock, wait=True))
        if begun is not None:
            _delete_incomplete(target, begun)
        yield


def clean(data_dir: str | os.PathLike[str]) -> None:
    """Delete the lock of a process that was killed when all was prepared."""
    _files.delete_lock(_lock_of(pathlib.Path(data_dir)))


def _lock_of(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".{target.name}.lock")


def _delete_incomplete(target: pathlib.Path, begun: float) -> None:
    """Delete what tfds had written when its process was killed.

    Older folders are not of that process.
    """
    for folder in target.parent.glob(f"incomplete.??????_{target.name}"):
        with contextlib.suppress(OSError):
            if not folder.is_symlink() and folder.stat().st_mtime >= begun:
                shutil.rmtree(folder)
