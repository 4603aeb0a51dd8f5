"""Find the examples of a split, such as `train[:80%]`."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["Ranges", "overlap", "ranges", "rest", "share"]

_SLICE = re.compile(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", re.ASCII)
_SHARE = re.compile(r"([1-9]\d?)%", re.ASCII)

Ranges = list[tuple[str, int, int]]


def share(text: str) -> int | None:
    """Return 20 for `20%`; None if the text is not a percentage."""
    match = _SHARE.fullmatch(text)
    return int(match[1]) if match else None


def ranges(split: str, sizes: Mapping[str, int]) -> Ranges:
    """Return the examples of a split as (name, start, stop), like tfds.

    Raises:
        ValueError: If `split` is not a split of `sizes`, a slice of one, or a
            sum of them.

    >>> ranges("train[:80%]+test", {"train": 24, "test": 5})
    [('train', 0, 19), ('test', 0, 5)]
    """
    found = []
    for part in split.split("+"):
        match = _SLICE.fullmatch(part.strip())
        size = sizes.get(match[1], 0) if match else 0
        start, stop = (
            _boundary(match[group] if match else None, size, default)
            for group, default in ((2, 0), (3, size))
        )
        if (
            match is None
            or match[1] not in sizes
            or not (0 <= start <= size and stop <= size)
        ):
            known = ", ".join(f"{name} ({n})" for name, n in sizes.items())
            raise ValueError(
                f"SPLIT must be {' or '.join(sizes)}, or a slice such as "
                f"{next(iter(sizes))}[:80%]. Received: {split!r}. Number of "
                f"images per split: {known}"
            )
        found.append((match[1], start, max(start, stop)))
    return found


def _boundary(text: str | None, size: int, default: int) -> int:
    if text is None:
        return default
    number = int(text.rstrip("%"))
    if text.endswith("%"):
        number = round(number * size / 100)
    return number + size if number < 0 else number


def rest(split: str, sizes: Mapping[str, int]) -> str | None:
    """Return what a slice of a split leaves out; None if nothing."""
    [(name, start, stop), *others] = ranges(split, sizes)
    if others:
        raise ValueError(
            "--val-split rest does not support splits joined with +. "
            f"Received: --train-split {split}. Give another --val-split."
        )
    parts = [
        f"{name}[{low}:{high}]"
        for low, high in ((0, start), (stop, sizes[name]))
        if low < high
    ]
    return "+".join(parts) or None


def overlap(one: str, other: str, sizes: Mapping[str, int]) -> bool:
    """Return whether two splits have an example in common."""
    return any(
        name == other_name and max(start, other_start) < min(stop, other_stop)
        for name, start, stop in ranges(one, sizes)
        for other_name, other_start, other_stop in ranges(other, sizes)
    )
