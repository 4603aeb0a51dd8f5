"""Split files into a training part and a validation part."""

from __future__ import annotations

import hashlib
import numbers
import os
from collections.abc import Sequence
from typing import Any, TypeVar

from keras_deconv import _arguments

_File = TypeVar("_File", bound=tuple[Any, ...])
SUBSETS = ("training", "validation", "both")


def split_files(
    files: Sequence[_File], validation_split: float, seed: int
) -> tuple[list[_File], list[_File]]:
    """Split files at random into a training part and a validation part.

    A hash of `seed` and the name decides where a file goes. So the parts are
    the same on every machine, and most files keep their part when files are
    added.

    Args:
        files: Tuples that start with a distinct name.
        validation_split: Fraction of the files in the validation part, above 0
            and below 1.
        seed: int >= 0.

    Returns:
        Training files and validation files, in the order of `files`. Each part
        has at least one file.

    Raises:
        ValueError: If `validation_split` is not above 0 and below 1.
        ValueError: If there are fewer than two files.
    """
    if (
        isinstance(validation_split, bool)
        or not isinstance(validation_split, numbers.Real)
        or not 0 < float(validation_split) < 1
    ):
        raise ValueError(
            "`validation_split` must be a float above 0 and below 1. "
            f"Received: validation_split={validation_split!r}"
        )
    if len(files) < 2:
        raise ValueError(
            "`validation_split` needs at least two images, one for each part. "
            f"Received: {len(files)}"
        )
    number = round(float(validation_split) * len(files))
    number = min(max(number, 1), len(files) - 1)

    def place(file: _File) -> bytes:
        name = f"{seed}:".encode() + os.fsencode(file[0])
        return hashlib.sha256(name).digest()

    drawn = {file[0] for file in sorted(files, key=place)[:number]}
    return (
        [file for file in files if file[0] not in drawn],
        [file for file in files if file[0] in drawn],
    )


def check_subset(
    validation_split: float | None, subset: str | None, seed: int | None
) -> str | None:
    """Return `subset` in lowercase, or None if files are not split.

    Raises:
        ValueError: If only one of `validation_split` and `subset` is given.
        ValueError: If `subset` is unknown.
        ValueError: If a single part is requested without a seed.
    """
    if (validation_split is None) != (subset is None):
        raise ValueError(
            "`validation_split` and `subset` must be given together, such as "
            "validation_split=0.2, subset='both'. Received: "
            f"validation_split={validation_split!r}, subset={subset!r}"
        )
    if subset is None:
        return None
    subset = _arguments.choice(subset, "subset", SUBSETS)
    if subset != "both" and seed is None:
        raise ValueError(
            "`seed` must be given with `subset`, because the parts overlap "
            "unless both are loaded with the same seed. Received: seed=None, "
            f"subset={subset!r}. Pass a seed, or load both parts with "
            "subset='both'."
        )
    return subset
