"""Read a dataset once to find problems."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deconv import _arguments
from keras_deconv._arguments import VOID
from keras_deconv._labels import IgnoreClass
from keras_deconv.data._errors import plain_text
from keras_deconv.data._stray_labels import summarize
from keras_deconv.data.frequencies import check_has_end

__all__ = ["DataReport", "check"]

# Largest number of examples that a report lists per problem.
_NUM_SHOWN = 10
# A dataset of unknown length may raise errors forever.
_MAX_FAILURES_IN_A_ROW = 100
# Part of the error message of tf.data.experimental.assert_cardinality.
_WRONG_NUMBER = "dataset was expected to contain"
_WHERE_THEY_WENT = (
    "A cached dataset may lose examples that cannot be read the first time. "
    "Load it with cache=False, shuffle=False, batch_size=1 and check it again."
)


@dataclasses.dataclass(frozen=True)
class DataReport:
    """The report that `check` returns.

    Print it to read it, or use its attributes in a script. `ok` tells whether a
    model can be trained on the dataset. Examples are numbered from 0, in the
    order of reading, not counting those that could not be read.

    Args:
        num_classes: int. Expected number of classes.
        num_examples: int. Number of examples that could be read.
        pixel_counts: Tuple of ints. Number of pixels of each class.
        num_void_pixels: int. Number of void pixels.
        strays: dict from each label that is neither a class nor void to a tuple
            of the numbers of the examples that contain it.
        sizes: dict from (height, width), in pixels, to the number of images of
            that size.
        mismatches: Tuple of ints. Numbers of the first ten examples whose image
            and mask differ in size.
        failures: Tuple of str. Error messages of the examples that could not be
            read.
        image_range: Tuple of the smallest and the largest image value, or None
            if no image was read.
        class_names: Tuple of str, one per class, or () if they are unknown.
        allow_missing_classes: bool. Whether the report can be `ok` if a class
            never occurs.
        early_end: str. Why the dataset was not read to its end, or "".

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
    image_range: tuple[float, float] | None = None
    class_names: tuple[str, ...] = ()
    allow_missing_classes: bool = False
    early_end: str = ""

    @property
    def ok(self) -> bool:
        """Whether a model can be trained on the dataset.

        True if there are examples, all of them are free of problems, and every
        class occurs. With `allow_missing_classes`, classes may be missing,
        because a small part of a dataset may lack one.
        """
        return (
            self.num_examples > 0
            and not (self.strays or self.mismatches or self.failures)
            and not self.early_end
            and (self.allow_missing_classes or not self.absent_classes)
        )

    @property
    def absent_classes(self) -> tuple[int, ...]:
        """Classes that never occur in the examples that could be read."""
        return tuple(
            number
            for number, count in enumerate(self.pixel_counts)
            if not count
        )

    def __str__(self) -> str:
        num_pixels = max(1, sum(self.pixel_counts) + self.num_void_pixels)
        lines = [
            f"{'ok' if self.ok else 'NOT OK'}: {self.num_examples} "
            f"{'example' if self.num_examples == 1 else 'examples'}, "
            f"{self.num_classes} classes",
            "Sizes (height, width): "
            + _listed(f"{size} {times}x" for size, times in self.sizes.items()),
        ]
        if self.image_range:
            low, high = self.image_range
            lines.append(f"Image values: {low:g} to {high:g}")
        for number, count in enumerate(self.pixel_counts):
            share = f"{count / num_pixels:.2%} of pixels"
            lines.append(f"Class {self._name(number)}: {share}")
        lines.append(f"Void: {self.num_void_pixels / num_pixels:.2%} of pixels")
        lines += self._lines_of_absent_classes()
        # NaN cannot be sorted, so it comes last.
        strays = sorted(
            self.strays, key=lambda label: (math.isnan(label), label)
        )
        for label in strays[:_NUM_SHOWN]:
            examples = self.strays[label]
            is_one = len(examples) == 1
            lines.append(
                f"{len(examples)} mask{' contains' if is_one else 's contain'} "
                f"label {label:g}, neither class nor void "
                f"(example{'' if is_one else 's'} "
                f"{_listed(map(str, examples))})"
            )
        if len(strays) > _NUM_SHOWN:
            lines.append(
                "Other labels that are neither class nor void: "
                f"{len(strays) - _NUM_SHOWN}"
            )
        if self.mismatches:
            lines.append(
                "Image and mask differ in size in examples "
                f"{_listed(map(str, self.mismatches))}"
            )
        if self.failures:
            number = len(self.failures)
            failed = "1 example" if number == 1 else f"{number} examples"
            lines.append(f"{failed} could not be read:")
            # List all failures, because each is a file to repair.
            lines += [f"  {text}" for text in summarize(self.failures)]
        if self.early_end:
            lines.append(self.early_end)
        return "\n".join(lines)

    def _name(self, number: int) -> str:
        names = self.class_names
        return f"{number} ({names[number]})" if names else str(number)

    def _lines_of_absent_classes(self) -> list[str]:
        absent = self.absent_classes
        if not absent or not self.num_examples:
            return []
        names = _listed(map(self._name, absent))
        if self.failures or self.early_end:
            # The classes may occur in the other examples.
            return [f"Classes not in the examples that could be read: {names}"]
        lines = [f"Classes that never occur: {names}"]
        if len(absent) == self.num_classes:
            lines.append("All pixels are void, so there is nothing to learn.")
        elif self.num_classes == 2 and absent == (1,) and self.num_void_pixels:
            lines.append(
                "If the masks are binary, with 255 for the second class, 255 "
                "was read as void. Load folders with foreground=255; convert "
                "arrays with numpy.where(mask == 255, 1, mask)."
            )
        return lines


def check(
    dataset: Iterable[Any],
    num_classes: int,
    ignore_class: IgnoreClass = VOID,
    *,
    class_names: Sequence[str] | None = None,
    allow_missing_classes: bool = False,
    verbose: int | bool = True,
) -> DataReport:
    """Read a dataset once and report problems that would affect training.

    Use it before a long training. It finds files that cannot be read, labels
    that are neither a class nor void, images and masks of different sizes, and
    classes that never occur. Such data do not raise errors here: the report
    lists them, and reading continues with the next example, or with the next
    batch if the dataset is batched.

    Load the dataset with `cache=False, shuffle=False, batch_size=1`. Then a bad
    example does not hide other images in the batch, and examples are numbered
    in the order of the dataset. Numbers start at 0 and do not count examples
    that could not be read. A dataset that you cached yourself may permanently
    lose examples that cannot be read the first time: only the first report
    names them.

    A class that never occurs is a problem, because the model cannot learn it.
    It often means that labels were misread. For example, binary masks of 0 and
    255 do not contain class 1 if 255 is void.

    Args:
        dataset: `tf.data.Dataset`, or any iterable, of (image, mask) or (image,
            mask, weight): single examples or batches. Images have the shape
            ([batch,] height, width, channels). Masks have the shape ([batch,]
            height, width), with or without a last axis of size 1. Pass
            `zip(images, masks)` for NumPy arrays.
        num_classes: int in 2..10000. Number of classes, not counting void.
        ignore_class: int, tuple of ints or None. Labels that are void. Defaults
            to 255.
        class_names: Sequence of one str per class, or None. Names for the
            report.
        allow_missing_classes: bool. Whether the report can be `ok` if a class
            never occurs. Use it for small parts of a dataset.
        verbose: bool. Whether to show a progress bar.

    Returns:
        A `DataReport`.

    Raises:
        ValueError: If `dataset` contains elements other than pairs and triples.
        ValueError: If `dataset` is known to be infinite.
        ValueError: If `num_classes` is not an int in 2..10000.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.
        ValueError: If `class_names` does not have one distinct name per class.

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
        Image values: 0 to 0
        Class 0: 28.57% of pixels
        Class 1: 57.14% of pixels
        Class 2: 0.00% of pixels
        Void: 14.29% of pixels
        Classes that never occur: 2
        1 mask contains label 9, neither class nor void (example 1)
    """
    num_classes = _arguments.num_classes(num_classes)
    void = _arguments.ignore_class(ignore_class, num_classes)
    names: tuple[str, ...] = ()
    if class_names is not None:
        names = _arguments.class_names(class_names, num_classes)
    _arguments.boolean(allow_missing_classes, "allow_missing_classes")
    verbose = _arguments.verbose(verbose)
    _arguments.batches(dataset, "dataset")
    if isinstance(dataset, tf.data.Dataset):
        check_has_end(dataset)
    void_labels = {void} if isinstance(void, int) else set(void or ())
    counts: collections.Counter[float] = collections.Counter()
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    examples_of: dict[float, list[int]] = {}
    mismatches: list[int] = []
    failures: list[str] = []
    num_examples = 0
    low, high = math.inf, -math.inf
    early_end: list[str] = []
    for image, mask in _read(dataset, failures, early_end, verbose):
        if image.size:
            low = min(low, float(image.min()))
            high = max(high, float(image.max()))
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
        # A label that is both void and a class is void, as in losses and
        # metrics.
        pixel_counts=tuple(
            0 if number in void_labels else counts[number]
            for number in range(num_classes)
        ),
        num_void_pixels=sum(counts[label] for label in void_labels),
        strays={
            label: tuple(examples)
            for label, examples in examples_of.items()
            if label not in known
        },
        sizes=dict(sizes),
        mismatches=tuple(mismatches[:_NUM_SHOWN]),
        failures=tuple(failures),
        image_range=(low, high) if low <= high else None,
        class_names=names,
        allow_missing_classes=allow_missing_classes,
        early_end="".join(early_end),
    )


def _count(mask: np.ndarray) -> dict[float, int]:
    """Return the number of pixels of each label in a mask."""
    found, counts = np.unique(mask, return_counts=True)
    # Two NaN objects are different keys, so use a single object.
    keys = (
        math.nan if math.isnan(label) else label for label in found.tolist()
    )
    return dict(zip(keys, counts.tolist(), strict=True))


def _read(
    dataset: Iterable[Any],
    failures: list[str],
    early_end: list[str],
    verbose: int | bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield single pairs, and record failures and why reading ended early."""
    try:
        # `len` raises TypeError for infinite and unknown lengths.
        target: int | None = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        target = None
    # Each failure stands for one element.
    max_in_a_row = _MAX_FAILURES_IN_A_ROW if target is None else target + 1
    progress = keras.utils.Progbar(target, verbose=_arguments.verbose(verbose))
    elements = iter(dataset)
    num_came = num_in_a_row = 0
    missing = None
    while num_in_a_row < max_in_a_row:
        try:
            element = next(elements)
        except StopIteration:
            if target is not None and num_came < target:
                missing = (
                    f"The dataset has {num_came} elements instead of {target}."
                )
            break
        except Exception as error:
            text = plain_text(error)
            if _WRONG_NUMBER in text:
                # The dataset has ended, and would raise this error forever.
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
        early_end.append(
            f"Stopped reading after {num_in_a_row} consecutive failures."
        )
    if missing and num_came + len(failures) < (target or 0):
        early_end.append(f"{missing} {_WHERE_THEY_WENT}")


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


def _listed(parts: Iterable[str]) -> str:
    shown = list(parts)
    more = ", ..." if len(shown) > _NUM_SHOWN else ""
    return ", ".join(shown[:_NUM_SHOWN]) + more
