"""Reads a data set once and says what is wrong with it."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv._labels import IgnoreClass
from keras_deconv.data.catalog import VOID
from keras_deconv.data.frequencies import check_has_end

__all__ = ["DataReport", "check"]

# Of how many examples a report gives the numbers, for each thing it found.
_NUM_SHOWN = 10
# A set of which nothing more can be read may go on saying so for ever.
_MAX_FAILURES_IN_A_ROW = 100
# What tf.data.experimental.assert_cardinality says at the end.
_WRONG_NUMBER = "dataset was expected to contain"
_WHERE_THEY_WENT = (
    "A cached set may lose what cannot be read the first time. Load it with "
    "cache=False, shuffle=False, batch_size=1 and check that to see why."
)


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What `check` found. Printed, it is a page to read.

    Args:
        num_classes: int. How many classes were expected.
        num_examples: int. How many examples could be read.
        pixel_counts: tuple of int, the number of pixels of each class.
        num_void_pixels: int.
        strays: dict from each label that is neither class nor void to a tuple
            of the numbers of (the first ten) examples that have it.
        sizes: dict from (height, width) to the number of pictures of that
            size.
        mismatches: tuple of the numbers of (the first ten) examples whose
            picture and mask differ in size.
        failures: tuple of str, the errors of examples that could not be read.

    Example:
        >>> from keras_deconv.data import DataReport
        >>> report = DataReport(
        ...     num_classes=3, num_examples=1, pixel_counts=(6, 2, 0),
        ...     num_void_pixels=0, strays={7: (0,)}, sizes={(3, 3): 1},
        ...     mismatches=(), failures=())
        >>> report.ok, report.absent_classes
        (False, (2,))
    """

    num_classes: int
    num_examples: int
    pixel_counts: tuple[int, ...]
    num_void_pixels: int
    strays: Mapping[float, tuple[int, ...]]
    sizes: Mapping[tuple[int, int], int]
    mismatches: tuple[int, ...]
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all examples can be trained on, and there are some.

        A class that never occurs does not count against a set: a small split
        may lack one.
        """
        return self.num_examples > 0 and not (
            self.strays or self.mismatches or self.failures
        )

    @property
    def absent_classes(self) -> tuple[int, ...]:
        """The classes that never occur."""
        return tuple(
            number
            for number, count in enumerate(self.pixel_counts)
            if not count
        )

    def __str__(self) -> str:
        num_pixels = max(1, sum(self.pixel_counts) + self.num_void_pixels)
        lines = [
            f"{'ok' if self.ok else 'NOT OK'}: {self.num_examples} examples, "
            f"{self.num_classes} classes",
            "Sizes (height, width): "
            + _listed(f"{size} {times}x" for size, times in self.sizes.items()),
        ]
        for number, count in enumerate(self.pixel_counts):
            lines.append(f"Class {number}: {count / num_pixels:.2%} of pixels")
        lines.append(f"Void: {self.num_void_pixels / num_pixels:.2%} of pixels")
        if self.absent_classes:
            absent = _listed(map(str, self.absent_classes))
            lines.append(f"Classes that never occur: {absent}")
        # NaN is neither more nor less than another, so it is put last.
        strays = sorted(
            self.strays, key=lambda label: (math.isnan(label), label)
        )
        for label in strays[:_NUM_SHOWN]:
            lines.append(
                f"Label {label:g} is neither class nor void; in examples "
                f"{_listed(map(str, self.strays[label]))}"
            )
        if len(strays) > _NUM_SHOWN:
            lines.append(
                "Other labels that are neither class nor void: "
                f"{len(strays) - _NUM_SHOWN}"
            )
        if self.mismatches:
            lines.append(
                "Picture and mask differ in size in examples "
                f"{_listed(map(str, self.mismatches))}"
            )
        if self.failures:
            lines.append(f"{len(self.failures)} could not be read:")
            lines += [f"  {text}" for text in self.failures[:_NUM_SHOWN]]
        return "\n".join(lines)


def check(
    dataset: Iterable[Any],
    num_classes: int,
    ignore_class: IgnoreClass = VOID,
    *,
    verbose: int | bool = True,
) -> DataReport:
    """Reads a data set once and reports what training would stumble over.

    Nothing is raised for bad data: what cannot be read is noted, and reading
    goes on with the next example (with the next batch, if it is in batches).
    Numbers of examples count those that could be read, from 0, in the order of
    this reading.

    So load what you check with `cache=False, shuffle=False, batch_size=1`: no
    neighbors are lost, and the numbers are those of the set. A set that you
    cached yourself may lose for good what cannot be read the first time: the
    first report names it, later ones may not.

    Args:
        dataset: `tf.data.Dataset`, or anything that can be read once, of
            (image, mask) or (image, mask, weight); single, or in batches.
        num_classes: int >= 2.
        ignore_class: int, tuple of ints or None. Labels that are void.
        verbose: bool. Show a progress bar.

    Returns:
        A `DataReport`.

    Raises:
        ValueError: if `dataset` gives something else than pairs or has no end,
            or `num_classes` or `ignore_class` are out of range.

    Example:
        >>> import numpy as np
        >>> from keras_deconv.data import check
        >>> image = np.zeros((2, 2, 3))
        >>> pairs = [(image, np.array([[0, 1], [1, 255]])),
        ...          (image, np.array([[0, 9], [1, 1]]))]
        >>> report = check(pairs, num_classes=3, verbose=False)
        >>> report.ok
        False
        >>> print(report)
        NOT OK: 2 examples, 3 classes
        Sizes (height, width): (2, 2) 2x
        Class 0: 28.57% of pixels
        Class 1: 57.14% of pixels
        Class 2: 0.00% of pixels
        Void: 14.29% of pixels
        Classes that never occur: 2
        Label 9 is neither class nor void; in examples 1
    """
    num_classes = _arguments.num_classes(num_classes)
    void = _arguments.ignore_class(ignore_class, num_classes)
    if isinstance(dataset, tf.data.Dataset):
        check_has_end(dataset)
    void_labels = {void} if isinstance(void, int) else set(void or ())
    counts: collections.Counter[float] = collections.Counter()
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    examples_of: dict[float, list[int]] = {}
    mismatches: list[int] = []
    failures: list[str] = []
    num_examples = 0
    for image, mask in _read(dataset, failures, verbose):
        sizes[image.shape[:2]] += 1
        if mask.shape != image.shape[:2]:
            mismatches.append(num_examples)
        for label, count in _count(mask).items():
            counts[label] += count
            examples_of.setdefault(label, []).append(num_examples)
        num_examples += 1
    known = {*range(num_classes), *void_labels}
    return DataReport(
        num_classes=num_classes,
        num_examples=num_examples,
        # Void wins over classes, as in losses and metrics.
        pixel_counts=tuple(
            0 if number in void_labels else counts[number]
            for number in range(num_classes)
        ),
        num_void_pixels=sum(counts[label] for label in void_labels),
        strays={
            label: tuple(examples[:_NUM_SHOWN])
            for label, examples in examples_of.items()
            if label not in known
        },
        sizes=dict(sizes),
        mismatches=tuple(mismatches[:_NUM_SHOWN]),
        failures=tuple(failures),
    )


def _count(mask: np.ndarray) -> dict[float, int]:
    """Counts the pixels of every label of a mask."""
    found, counts = np.unique(mask, return_counts=True)
    # Two NaN are two keys, unless they are one object.
    keys = (
        math.nan if math.isnan(label) else label for label in found.tolist()
    )
    return dict(zip(keys, counts.tolist(), strict=True))


def _read(
    dataset: Iterable[Any], failures: list[str], verbose: int | bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives pairs one by one, and notes what could not be read."""
    try:
        # -1 and -2 are how tf.data says that it does not know.
        target: int | None = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        target = None
    progress = keras.utils.Progbar(target, verbose=int(verbose))
    elements = iter(dataset)
    num_came = num_in_a_row = 0
    missing = None
    while num_in_a_row < _MAX_FAILURES_IN_A_ROW:
        try:
            element = next(elements)
        except StopIteration:
            if target is not None and num_came < target:
                missing = f"{num_came} elements came instead of {target}."
            break
        except Exception as error:
            text = _plain_text(error)
            if _WRONG_NUMBER in text:
                # It is the end, and would come for ever.
                missing = text
                break
            failures.append(text)
            num_in_a_row += 1
        else:
            yield from _single_pairs(element)
            num_came += 1
            num_in_a_row = 0
        progress.add(1)
    else:
        failures.append(f"Given up: {num_in_a_row} failures one after another.")
    # After failures it is no wonder.
    if missing and not failures:
        failures.append(f"{missing} {_WHERE_THEY_WENT}")


def _single_pairs(element: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if not isinstance(element, tuple | list) or len(element) not in (2, 3):
        raise ValueError(
            "`dataset` must give pairs (image, mask) or triples (image, mask, "
            f"weight). Received: {type(element).__name__}. Load it with "
            "data.load, segmentation_pairs or from_folders."
        )
    image, mask = (keras.ops.convert_to_numpy(part) for part in element[:2])
    if image.ndim == 3:
        image, mask = image[None], mask[None]
    if mask.ndim == 4 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if image.ndim != 4 or mask.ndim != 3 or len(image) != len(mask):
        raise ValueError(
            "`dataset` must give images ([batch,] height, width, channels) and "
            "masks ([batch,] height, width). Received: shapes "
            f"{image.shape} and {mask.shape}."
        )
    yield from zip(image, mask, strict=True)


# What TensorFlow puts around the text of an error.
_WRAPPING = re.compile(
    r"Error in user-defined function passed to \S+ transformation with "
    r"iterator: \S+:|assertion failed:|\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]"
    r"|name:\s*$",
    flags=re.DOTALL,
)


def _plain_text(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error).split("Traceback (most recent call last)")[0]
    text = " ".join(_WRAPPING.sub("", text).split())
    return text or type(error).__name__


def _listed(parts: Iterable[str]) -> str:
    shown = list(parts)
    more = ", ..." if len(shown) > _NUM_SHOWN else ""
    return ", ".join(shown[:_NUM_SHOWN]) + more
