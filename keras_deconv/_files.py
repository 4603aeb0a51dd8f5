"""Files and folders that are complete whenever they exist."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator


class DiskFullError(OSError):
    """A file could not be written because the disk is full."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A path to write to; what is written there then becomes `path`.

    It has the name of `path`, since Keras and TensorFlow read the suffix, and
    lies in a new folder beside it, since renaming must not change the disk.
    There is room in that folder for files that are needed meanwhile. If the
    block raises, `path` stays as it was.

    Raises:
        DiskFullError: If the disk is full.
    """
    target = pathlib.Path(path)
    try:
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix=f".{target.name}."
        ) as folder:
            part = pathlib.Path(folder, target.name)
            yield part
            if target.is_dir():
                os.replace(target, pathlib.Path(folder, "before"))
            os.replace(part, target)
    # HDF5 and TensorFlow raise errors of their own, with this text in them.
    except Exception as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        kept = " The previous file is kept." if target.exists() else ""
        raise DiskFullError(
            f"The disk is full: '{target}' could not be written.{kept}"
        ) from error
