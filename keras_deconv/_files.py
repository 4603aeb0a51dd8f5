"""Files and folders that are complete whenever they exist.

What is written goes into a temporary folder beside its target, and is renamed
when it is complete. A lock in that folder tells others that its writer lives:
the kernel releases it, however the process ends.
"""

import contextlib
import ctypes
import errno
import math
import os
import pathlib
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

Path = str | os.PathLike[str]

# Of the names of temporary folders; tempfile adds eight characters.
_PREFIX = ".keras_deconv."
_LOCK = "lock"
# Folders for what is written and for what is replaced, under its own name.
_NEW, _BEFORE = "new", "before"
# What a file system answers that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# What it answers if it cannot exchange two names.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
# Nobody takes that long from making a folder to locking it.
_SECONDS_TO_LOCK = 3600
# What is in them leads to the open files of a process.
_OPEN_FILES = ("/proc/self/fd", "/dev/fd")

# A folder with many files is not looked through for each of them.
_SECONDS_BETWEEN_CLEANING = 60
_cleaned = dict[pathlib.Path, float]()


class DiskFullError(OSError):
    """A file could not be written because the disk is full."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[pathlib.Path]:
    """A path to write to; what is written there then becomes `path`.

    It has the name of `path`, since Keras and TensorFlow read the suffix, and
    lies in a new folder beside it, since renaming must not change the disk.
    There is room in that folder for files that are needed meanwhile. If the
    block raises, `path` stays as it was. If `path` is a symbolic link, what it
    points to is replaced, and the link stays.

    A process that is killed leaves its folder, which the next process that
    writes there deletes. Where a folder is replaced, one of the two is there
    all the time on Linux and macOS; elsewhere the next process brings the old
    one back if one is killed between two renames.

    Raises:
        ValueError: If `path` is neither free, nor a regular file, nor a folder,
            or is a folder and what was written is a file.
        DiskFullError: If the disk is full.
        OSError: If files cannot be written there.
    """
    check_replaceable(path)
    target = pathlib.Path(path).resolve()
    now = time.monotonic()
    before = _cleaned.get(target.parent, -math.inf)
    if now - before > _SECONDS_BETWEEN_CLEANING:
        _cleaned[target.parent] = now
        clean(target.parent)
    try:
        with _new_folder(target.parent) as folder:
            # Of its own, since `target` may have any name.
            (folder / _NEW).mkdir()
            part = folder / _NEW / target.name
            yield part
            if target.is_dir():
                _replace_folder(target, part, folder / _BEFORE)
                return
            if target.is_file():
                shutil.copymode(target, part)
            os.replace(part, target)
    # HDF5 and TensorFlow raise errors of their own, with this text in them.
    except Exception as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        kept = " The previous file is kept." if target.exists() else ""
        raise DiskFullError(
            f"The disk is full: '{target}' could not be written.{kept}"
        ) from error


@contextlib.contextmanager
def _new_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder that is locked, so that nobody else deletes it."""
    while True:
        with tempfile.TemporaryDirectory(
            dir=parent, prefix=_PREFIX, ignore_cleanup_errors=True
        ) as name:
            folder = pathlib.Path(name)
            with contextlib.ExitStack() as stack:
                try:
                    lock = _open_locked(folder / _LOCK)
                    file, _ = stack.enter_context(lock)
                except FileNotFoundError:
                    continue
                # Another process may have deleted it before it was locked.
                if not _is_at(file, folder / _LOCK):
                    continue
                yield folder
                return


def _replace_folder(
    target: pathlib.Path, part: pathlib.Path, before: pathlib.Path
) -> None:
    if not part.is_dir():
        raise ValueError(
            "`path` must be a file. Received: "
            f"path={os.fspath(target)!r}, which is a folder"
        )
    if not _exchange(part, target):
        before.mkdir()
        os.replace(target, before / target.name)
        os.replace(part, target)


def check_replaceable(path: Path, name: str = "path") -> None:
    """Refuse to replace what is neither a regular file nor a folder.

    To root, a device is a file like others, which a rename would remove.

    Args:
        path: Path of a file or folder; one that does not exist passes.
        name: Name of the argument or option, for the error.

    Raises:
        ValueError: If `path` is something else, or cannot be looked at.
    """
    # Options of the command stand without backticks.
    shown = name if name.startswith("-") else f"`{name}`"
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{shown} must be where files can be written. Received: "
            f"{name}={os.fspath(path)!r}: {reason}"
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _is_descriptor(path):
        raise ValueError(
            f"{shown} must be a regular file or a new name, since what is "
            f"there is replaced. Received: {name}={os.fspath(path)!r}, which "
            "is a device, a pipe or a socket"
        )


def is_stream(path: Path) -> bool:
    """Whether to write to `path` as it is: a device, a pipe, /dev/stdout."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _is_descriptor(
        path
    )


def write_text(path: Path, text: str) -> None:
    """Write a text to a file, in whole, or to a stream.

    Raises:
        OSError: If it cannot be written there.
    """
    if is_stream(path):
        # Standard output may be a file that others have written to.
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
        return
    with replaced(path) as part:
        part.write_text(text, "utf-8")


def check_readable(path: Path) -> None:
    """Refuse what would be waited for, or is not a file.

    Raises:
        ValueError: If `path` exists and is not a regular file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError("it is not a regular file")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file, which is deleted in the end; others wait or give up.

    File systems without locks, and Windows, keep nobody out.

    Args:
        path: Name of the file, in a folder that exists.
        wait: Whether to wait for whoever holds it.

    Yields:
        Whether the lock excludes others. False if the file system does not
        support locks.

    Raises:
        BlockingIOError: If another one holds it, and `wait` is False.
        ValueError: If `path` is not an empty file, so somebody else's.
    """
    while True:
        _check_is_lock(path)
        with _open_locked(path, wait) as (file, is_locked):
            # Its last holder may have deleted it while this one waited.
            if not _is_at(file, path):
                continue
            _check_is_lock(path)
            try:
                yield is_locked
            finally:
                with contextlib.suppress(OSError, ValueError):
                    _check_is_lock(path)
                    if _is_at(file, path):
                        os.unlink(path)
            return


def _check_is_lock(path: Path) -> None:
    """Refuse a file that was not made as a lock: that would be deleted.

    Raises:
        ValueError: If it exists and is not an empty regular file.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        raise ValueError(
            f"'{os.fspath(path)}' must be a free name or an empty file, since "
            "a lock of that name is made there and deleted. Move it away."
        )


@contextlib.contextmanager
def _open_locked(path: Path, wait: bool = True) -> Iterator[tuple[int, bool]]:
    """A file, which is made, and whether nobody else can lock it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    file = os.open(path, flags, 0o600)
    try:
        yield file, _lock(file, wait)
    finally:
        os.close(file)


def _lock(file: int, wait: bool) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def clean(parent: pathlib.Path) -> None:
    """Delete what processes left in a folder that were killed in `replaced`."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}????????"):
            with contextlib.suppress(OSError):
                _clean(folder)


def _clean(folder: pathlib.Path) -> None:
    status = os.lstat(folder)
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not stat.S_ISDIR(status.st_mode) or not is_own:
        return
    is_old = time.time() - status.st_mtime > _SECONDS_TO_LOCK
    if not (folder / _LOCK).exists():
        if is_old:
            folder.rmdir()  # if it is empty
        return
    with _open_locked(folder / _LOCK, wait=False) as (_, is_locked):
        # Without locks, only its age tells whether its writer may still run.
        if not is_locked and not is_old:
            return
        for before in (folder / _BEFORE).glob("*"):
            target = folder.with_name(before.name)
            if not target.exists():
                os.replace(before, target)
        shutil.rmtree(folder, ignore_errors=True)


def _is_descriptor(path: Path) -> bool:
    """Whether a path leads to an open file, as /dev/stdout does.

    Whatever it is called: links to open files lie on a file system that has
    nothing but such things.
    """
    devices = set[int]()
    for folder in _OPEN_FILES:
        with contextlib.suppress(OSError):
            devices.add(os.stat(folder).st_dev)
    # An ordinary folder on the root's disk does not tell open files apart.
    devices.discard(os.stat(os.sep).st_dev)
    name = os.path.abspath(path)
    for _ in range(40):  # as many as Linux follows
        try:
            status = os.lstat(name)
        except OSError:
            return False
        if status.st_dev in devices:
            return True
        if not stat.S_ISLNK(status.st_mode):
            return False
        name = os.path.join(os.path.dirname(name), os.readlink(name))
        name = os.path.abspath(name)
    return False


def _exchange(a: pathlib.Path, b: pathlib.Path) -> bool:
    """Let two names change places at once; False if the system cannot."""
    if sys.platform == "win32":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(a), os.fsencode(b)
    if hasattr(library, "renameat2"):  # Linux: RENAME_EXCHANGE
        here = -100  # AT_FDCWD
        failed = library.renameat2(here, names[0], here, names[1], 2)
    elif hasattr(library, "renamex_np"):  # macOS: RENAME_SWAP
        failed = library.renamex_np(*names, 2)
    else:
        return False
    if failed and ctypes.get_errno() not in _NO_EXCHANGE:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(b))
    return not failed
