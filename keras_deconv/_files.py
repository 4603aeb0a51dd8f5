"""Files and folders that are complete whenever they exist."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A path to write to; what is written there then becomes `path`.

    It has the name of `path`, since Keras and TensorFlow read the suffix, and
    lies in a new folder beside it, since renaming must not change the disk.
    There is room in that folder for files that are needed meanwhile. If the
    block raises, `path` stays as it was.
    """
    target = pathlib.Path(path)
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix=f".{target.name}."
    ) as folder:
        part = pathlib.Path(folder, target.name)
        yield part
        if target.is_dir():
            os.replace(target, pathlib.Path(folder, "before"))
        os.replace(part, target)
