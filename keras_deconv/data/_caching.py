"""Caches of examples in memory or on disk."""

from __future__ import annotations

import atexit
import contextlib
import pathlib
import shutil
import tempfile
from typing import Any, TypeAlias

import tensorflow as tf

Cache: TypeAlias = bool | str

_MEMORY_INFO = pathlib.Path("/proc/meminfo")
# Memory limits of containers, for version 2 and version 1 of control groups.
# The files contain the limit, the usage and the statistics. The last name is
# the statistic of cached files that the kernel can drop.
_GROUPS = (
    (
        pathlib.Path("/sys/fs/cgroup"),
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ),
    (
        pathlib.Path("/sys/fs/cgroup/memory"),
        (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "memory.stat",
            "total_inactive_file",
        ),
    ),
)


def checked(cache: Any) -> Cache:
    """Return `cache` if it is True, False or "disk".

    Raises:
        ValueError: If `cache` is any other value.
    """
    if isinstance(cache, bool) or (isinstance(cache, str) and cache == "disk"):
        return cache
    raise ValueError(
        "`cache` must be True (keep examples in memory), 'disk' or False. "
        f"Received: cache={cache!r}"
    )


def cached(dataset: tf.data.Dataset, cache: Cache) -> tf.data.Dataset:
    """Return a dataset that keeps its elements after they are first read."""
    if not cache:
        return dataset
    if cache is True:
        return dataset.cache()
    folder = tempfile.mkdtemp(prefix="keras_deconv.")
    # Datasets derived from this one may read the file until Python ends.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return dataset.cache(str(pathlib.Path(folder, "examples")))


def num_bytes(
    num_examples: int, size: tuple[int, int], channels: int, is_float: bool
) -> int:
    """Return the memory of examples: images, and masks of 1 byte a pixel."""
    height, width = size
    bytes_per_pixel = channels * (4 if is_float else 1) + 1
    return num_examples * height * width * bytes_per_pixel


def check_fits(cache: Cache, needed: int, what: str) -> None:
    """Refuse a cache that is larger than the free memory.

    Args:
        cache: Value returned by `checked`. Only True needs memory.
        needed: Size of the cache in bytes.
        what: Description of the content for the error message, such as "9
            examples of 3x4 pixels".

    Raises:
        ValueError: If the cache does not fit into memory.
    """
    free = free_memory() if cache is True else None
    if free is not None and needed > free:
        raise ValueError(
            "`cache` must fit into memory. Received: cache=True for "
            f"{what}, which need about {shown(needed)}. Free memory: "
            f"{shown(free)}. Pass cache='disk' to use a temporary file, "
            "cache=False to read the examples in every epoch, or a smaller "
            "`image_size`."
        )


def shown(number: int) -> str:
    """Return a number of bytes as text, such as `1.5 GB`.

    >>> shown(1_500_000_000), shown(2_000_000)
    ('1.5 GB', '2.0 MB')
    """
    unit, size = ("GB", 1e9) if number >= 1e9 else ("MB", 1e6)
    return f"{number / size:.1f} {unit}"


def free_memory() -> int | None:
    """Return the free memory of this process in bytes, None if unknown."""
    known = [_free_on_host(), *(_free_in_group(*group) for group in _GROUPS)]
    return min((free for free in known if free is not None), default=None)


def _free_on_host() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMORY_INFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return 1024 * int(value.split()[0])
    return None


def _free_in_group(
    folder: pathlib.Path, names: tuple[str, str, str, str]
) -> int | None:
    limit_file, usage_file, statistics_file, key = names
    # Without a limit, the file contains "max", or a number larger than any
    # memory.
    with contextlib.suppress(OSError, ValueError):
        limit = int((folder / limit_file).read_text())
        used = int((folder / usage_file).read_text())
        lines = (folder / statistics_file).read_text().splitlines()
        statistics = dict(line.split() for line in lines)
        return max(0, limit - used + int(statistics.get(key, 0)))
    return None
