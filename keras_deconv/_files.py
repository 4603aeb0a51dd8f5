"""Atomic writes: a file or folder is complete as soon as it exists.

Output is written to a temporary folder beside its target and renamed when it is
complete. A lock file in that folder tells other processes that the writer is
still running. The kernel releases the lock when the process ends for any
reason.
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

# Prefix of temporary folders. `tempfile` adds eight characters.
_PREFIX = ".keras_deconv."
_LOCK = "lock"
# Subfolders of a temporary folder: for the new file or folder, and for the one
# that it replaces. Both keep the name of the target.
_NEW, _BEFORE = "new", "before"
# Errors of file systems that do not support locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# Errors of file systems that cannot exchange two names.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
# A process locks its folder right after creating it. A folder without a lock
# that is older than this was left behind.
_SECONDS_TO_LOCK = 3600
# Folders whose entries are links to the open files of a process.
_OPEN_FILES = ("/proc/self/fd", "/dev/fd")

# Without this interval, writing many files to one folder would search it for
# each of them.
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
    """Yield a path to write to, which replaces `path` when the block ends.

    The yielded path has the name of `path`, because Keras and TensorFlow read
    the suffix. It lies in a new folder beside `path`, because renaming does not
    work across disks. The block may write other temporary files to the same
    folder. If the block raises, `path` is unchanged. If `path` is a symbolic
    link, the target of the link is replaced and the link is kept.

    A process that is killed leaves its temporary folder behind. The next
    process that writes to the same place deletes it. On Linux and macOS, a
    folder is replaced in one step. On other systems it takes two renames. If a
    process is killed between them, the next process restores the previous
    folder.

    Raises:
        ValueError: If `path` exists and is neither a regular file nor a folder.
        ValueError: If `path` is a folder and the block wrote a file.
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
            # A subfolder, because `target` may have the name of the lock.
            (folder / _NEW).mkdir()
            part = folder / _NEW / target.name
            yield part
            if target.is_dir():
                _replace_folder(target, part, folder / _BEFORE)
                return
            if target.is_file():
                shutil.copymode(target, part)
            os.replace(part, target)
    # HDF5 and TensorFlow do not raise OSError, but their messages contain the
    # text of the system error.
    except Exception as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        kept = " The previous file is kept." if target.exists() else ""
        raise DiskFullError(
            f"The disk is full: '{target}' could not be written.{kept}"
        ) from error


@contextlib.contextmanager
def _new_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Create and lock a temporary folder, so that other processes keep it."""
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
                # Another process may have deleted the folder before it was
                # locked.
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
    """Refuse to replace a path that is neither a regular file nor a folder.

    For root, a device is like any other file: a rename would remove it.

    Args:
        path: Path of a file or folder. A path that does not exist is accepted.
        name: Name of the argument or option, for the error message.

    Raises:
        ValueError: If `path` is a device, a pipe or a socket.
        ValueError: If the file system cannot say what `path` is.
    """
    # Command-line options are written without backticks.
    shown = name if name.startswith("-") else f"`{name}`"
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{shown} must be a path that can be written to. Received: "
            f"{name}={os.fspath(path)!r}: {reason}"
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _is_descriptor(path):
        raise ValueError(
            f"{shown} must be a regular file or a path that does not exist, "
            "since existing files are replaced. Received: "
            f"{name}={os.fspath(path)!r}, which is a device, a pipe or a socket"
        )


def is_stream(path: Path) -> bool:
    """Return whether `path` is a device, a pipe or an open file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _is_descriptor(
        path
    )


def write_text(path: Path, text: str) -> None:
    """Write a text to a file, in one step, or to a stream.

    Raises:
        OSError: If the text cannot be written.
    """
    if is_stream(path):
        # Standard output may be redirected to a file that already has content.
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
        return
    with replaced(path) as part:
        part.write_text(text, "utf-8")


def check_readable(path: Path) -> None:
    """Refuse to read from pipes and devices, which may never end.

    Raises:
        ValueError: If `path` exists and is not a regular file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError("it is not a regular file")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file until the block ends, and then delete it.

    Windows and file systems without locks do not exclude other processes.

    Args:
        path: Path of the lock file, in a folder that exists.
        wait: Whether to wait until the current holder releases the lock.

    Yields:
        Whether the lock excludes other processes. False if the file system does
        not support locks.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.
        ValueError: If `path` is not an empty file, so it is not a lock file.
    """
    while True:
        _check_is_lock(path)
        with _open_locked(path, wait) as (file, is_locked):
            # The previous holder may have deleted the file during the wait.
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
    """Refuse a file that is not a lock file, since it would be deleted.

    Raises:
        ValueError: If the path exists and is not an empty regular file.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        raise ValueError(
            f"'{os.fspath(path)}' must not exist or must be an empty file, "
            "since it is used as a lock file and deleted afterwards. Move it."
        )


@contextlib.contextmanager
def _open_locked(path: Path, wait: bool = True) -> Iterator[tuple[int, bool]]:
    """Open a lock file; yield it, and whether it excludes others."""
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
    """Delete the folders of processes that were killed inside `replaced`."""
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
            folder.rmdir()  # Fails if the folder is not empty.
        return
    with _open_locked(folder / _LOCK, wait=False) as (_, is_locked):
        # Without locks, only the age of the folder tells whether the writer may
        # still be running.
        if not is_locked and not is_old:
            return
        for before in (folder / _BEFORE).glob("*"):
            target = folder.with_name(before.name)
            if not target.exists():
                os.replace(before, target)
        shutil.rmtree(folder, ignore_errors=True)


def _is_descriptor(path: Path) -> bool:
    """Return whether a path leads to an open file, as /dev/stdout does.

    The path may have any name: links to open files are recognized by their file
    system, which contains nothing else.
    """
    devices = set[int]()
    for folder in _OPEN_FILES:
        with contextlib.suppress(OSError):
            devices.add(os.stat(folder).st_dev)
    # If such a folder is an ordinary folder on the root file system, its device
    # number does not identify open files.
    devices.discard(os.stat(os.sep).st_dev)
    name = os.path.abspath(path)
    for _ in range(40):  # Linux follows at most 40 links.
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
    """Exchange two names in one step; return False if the system cannot."""
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
