"""Choose the options of a training that are not given, and report them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Iterator

import tensorflow as tf

from keras_deconv._arguments import VOID
from keras_deconv.data import ClassFrequencies, _caching
from keras_deconv.data._images import median_size
from keras_deconv_cli import commands, runs, sources, splits
from keras_deconv_cli.sources import Source

__all__ = [
    "NUM_SMOKE_BATCHES",
    "Plan",
    "check_learnable",
    "decide",
    "fitted",
    "warnings_of",
]

NUM_SMOKE_BATCHES = 2
"""Number of training batches with `--smoke`."""
# The generated scenes are small, so that a first training takes a minute.
_SCENES_SIZE = (48, 64)
_MAX_PIXELS, _MAX_PIXELS_GPU = 256 * 256, 512 * 512
_MULTIPLE = 32
# With fewer epochs a network learns little, and with fewer steps nothing.
_MIN_EPOCHS, _MIN_STEPS = 6, 60
# A cache of at least this many bytes is reported.
_MIN_SAID = 1e9
# The image size of a tfds dataset is the median of this many images.
_NUM_SIZES = 32


@dataclasses.dataclass(frozen=True)
class Plan:
    """All options and data of a training.

    `splits` has the keys "train" and, with validation, "validation". `lines`
    report the choices to the user.
    """

    options: commands.Train
    source: Source
    splits: dict[str, str]
    image_size: tuple[int, int]
    num_epochs: int
    lines: tuple[str, ...]

    @property
    def files(self) -> dict[str, list[str]]:
        """Names of the pairs of each split of folders."""
        return {name: part.names for name, part in self.source.parts.items()}


def decide(options: commands.Train, before: runs.Run | None) -> Plan:
    """Choose values for options that are not given.

    If the run exists, its values are used again.
    """
    num_unused = 0
    if before is not None:
        source = sources.find(options.data, before.files)
        names = before.splits
    else:
        whole = sources.find(options.data)
        source, names = whole.divide(
            options.train_split, options.val_split, options.seed
        )
        if source.parts:
            num_unused = sum(whole.sizes().values())
            num_unused -= sum(source.sizes().values())
    if options.early_stopping and "validation" not in names:
        raise ValueError("--early-stopping needs a validation split.")
    image_size, reason = options.image_size, ""
    if image_size is None and before is not None and before.image_size:
        height, width = before.image_size
        image_size, reason = (height, width), "as before"
    elif image_size is None:
        image_size, reason = _image_size(source, names["train"])
    num_epochs = options.epochs or _num_epochs(source, names, options)
    about_cache = list(_about_cache(source, names, image_size, options))
    lines = [
        _about_splits(source, names, options),
        *_about_unused(num_unused),
        _about_size(image_size, reason),
        *_about_crop(options),
        *about_cache,
        *_about_classes(source),
        f"Model: {options.encoder or options.model}, batches of "
        f"{options.batch_size} images, "
        + _about_epochs(source, names, options, num_epochs),
    ]
    # The run records the number of epochs, which can be raised later.
    options = dataclasses.replace(options, epochs=num_epochs)
    num_epochs = 1 if options.smoke else num_epochs
    return Plan(options, source, names, image_size, num_epochs, tuple(lines))


def _num_epochs(
    source: Source, split_names: dict[str, str], options: commands.Train
) -> int:
    num_batches = max(1, _num_batches(source, split_names, options))
    return max(_MIN_EPOCHS, math.ceil(_MIN_STEPS / num_batches))


def _num_batches(
    source: Source, split_names: dict[str, str], options: commands.Train
) -> int:
    """Return the number of training batches if examples are single images."""
    found = splits.ranges(split_names["train"], source.sizes())
    num_images = sum(stop - start for _, start, stop in found)
    return math.ceil(num_images / options.batch_size)


def _about_epochs(
    source: Source,
    split_names: dict[str, str],
    options: commands.Train,
    num_epochs: int,
) -> str:
    if options.smoke:
        num_batches = _num_batches(source, split_names, options)
        # With several replicas, a last batch that is not full is dropped.
        at_most = "" if num_batches > NUM_SMOKE_BATCHES else "at most "
        return f"1 epoch of {at_most}{NUM_SMOKE_BATCHES} batches (--smoke)"
    text = f"{num_epochs} epoch{'' if num_epochs == 1 else 's'}"
    if options.epochs:
        return text
    return f"{text} (assumed; change it with --epochs)"


def _image_size(source: Source, split: str) -> tuple[tuple[int, int], str]:
    if source.options.dataset == "scenes":
        return _SCENES_SIZE, "for scenes"
    if source.parts:
        files = source.part(split).files
        height, width = median_size(path for _, path, _ in files)
    else:
        sizes = list(_sizes(source, split))
        height = statistics.median_high(height for height, _ in sizes)
        width = statistics.median_high(width for _, width in sizes)
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    limit = _MAX_PIXELS_GPU if on_gpu else _MAX_PIXELS
    size = fitted((height, width), limit)
    return size, f"from the median {height}x{width} of the images"


def _sizes(source: Source, split: str) -> Iterator[tuple[int, int]]:
    examples = source.load(split, image_size=None, batch_size=1, cache=False)
    for image, _ in examples.take(_NUM_SIZES):
        yield int(image.shape[1]), int(image.shape[2])


def fitted(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """Return a similar size whose height and width are multiples of 32.

    The area is about that of `size`, but at most slightly more than
    `max_pixels`. The aspect ratio has priority over the area.

    >>> fitted((480, 640), 256 * 256), fitted((1080, 1920), 256 * 256)
    ((192, 256), (192, 352))
    """
    height, width = size
    area = min(height * width, max_pixels)

    def deviation(candidate: tuple[int, int]) -> float:
        ratio = math.log(candidate[0] * width / (candidate[1] * height))
        return 10 * abs(ratio) + abs(math.log(math.prod(candidate) / area))

    # Each height with the matching width, rounded down and rounded up.
    candidates = [
        (rows * _MULTIPLE, columns * _MULTIPLE)
        for rows in range(1, math.isqrt(max_pixels) // _MULTIPLE * 2 + 1)
        for columns in _neighbors(rows * width / height)
    ]
    limit = max(1.1 * max_pixels, _MULTIPLE**2)
    return min(
        (c for c in candidates if math.prod(c) <= limit),
        key=deviation,
        default=(_MULTIPLE, _MULTIPLE),
    )


def _neighbors(number: float) -> set[int]:
    return {max(1, math.floor(number)), math.ceil(number)}


def _about_splits(
    source: Source, names: dict[str, str], options: commands.Train
) -> str:
    train, validation = names["train"], names.get("validation")
    if source.parts:
        parts = source.parts
        number = len(parts["train"].files)
        train = f"{number} image{'' if number == 1 else 's'} in {source}"
        if validation:
            other = parts["validation"].images
            where = "" if other == parts["train"].images else f" in {other}"
            number = len(parts["validation"].files)
            others = "other" if number == 1 else "others"
            validation = f"{number} {others}{where}"
    if not validation:
        text = f"Training on {train}, without validation"
        share = options.val_split or sources.VALIDATION_SHARE
        if options.val_split == "rest":
            text += (
                f", since --train-split {options.train_split} does not leave "
                "out any images"
            )
        elif source.parts and splits.share(share) and number == 1:
            text += ", since a single image cannot be split"
        return f"{text}."
    text = f"Training on {train}, validating on {validation}"
    if options.val_split is None:
        if source.parts and not options.data.val_images:
            text += f", drawn with seed {options.seed}"
        text += " (assumed; change it with --val-split)"
    return f"{text}."


def _about_unused(number: int) -> Iterator[str]:
    if number:
        is_one = number == 1
        yield (
            f"{number} image{' is' if is_one else 's are'} not used for "
            "training or validation. --val-split rest validates "
            "on the images that --train-split leaves out."
        )


def _about_size(size: tuple[int, int], reason: str) -> str:
    text = "Image size: {}x{}".format(*size)
    if not reason:
        return text
    return f"{text}, {reason} (assumed; change it with --image-size)"


def _about_crop(options: commands.Train) -> Iterator[str]:
    if options.crop:
        yield "Training on random crops of {}x{}".format(*options.crop)


def _about_cache(
    source: Source,
    names: dict[str, str],
    image_size: tuple[int, int],
    options: commands.Train,
) -> Iterator[str]:
    """Report the memory of the cached images.

    Raises:
        ValueError: If the images do not fit into memory.
    """
    if options.cache != "memory" or options.smoke:
        return
    sizes, number = source.sizes(), 0
    # Loading a split that does not exist raises the error.
    with contextlib.suppress(ValueError):
        for split in names.values():
            found = splits.ranges(split, sizes)
            number += sum(stop - start for _, start, stop in found)
    # Most tfds datasets have color images.
    channels = (source.options.channels or 3) if source.parts else 3
    is_float = source.value_range is not None
    needed = _caching.num_bytes(number, image_size, channels, is_float)
    height, width = image_size
    _caching.check_fits(
        True, needed, f"{number} images of {height}x{width} pixels"
    )
    if needed >= _MIN_SAID:
        yield (
            f"Images cached in memory: about {_caching.shown(needed)} (change "
            "it with --cache)"
        )


def _about_classes(source: Source) -> Iterator[str]:
    names = enumerate(source.class_names)
    yield "Classes: " + ", ".join(f"{number} {name}" for number, name in names)
    if source.labels:
        options = source.options
        text = "Values in the masks: " + ", ".join(
            f"{label} {name}" for label, name in sorted(source.labels.items())
        )
        given = (options.labels, options.foreground, options.void_labels)
        if given == (None, None, None):
            text += (
                " (assumed; change it with --labels, --foreground or "
                "--void-labels)"
            )
        yield text
    if source.options.palette:
        yield "Colors in the masks: " + ", ".join(
            "{:02x}{:02x}{:02x}".format(*color) + f" {name}"
            for color, name in (
                *zip(source.palette, source.class_names, strict=True),
                *((color, "void") for color in source.options.void_colors),
            )
        )
    if source.value_range:
        yield "Image values: {:g} to {:g}, scaled to 0 to 255".format(
            *source.value_range
        )


def check_learnable(counted: ClassFrequencies, source: Source) -> None:
    """Refuse training masks with fewer than two classes.

    Raises:
        ValueError: If fewer than two classes have pixels.
    """
    present = _present(counted, source.class_names)
    if len(present) > 1:
        return
    text = (
        "The training masks must contain at least two classes. Received: only "
        f"{' and '.join(present) or 'void'} {_where(counted)} "
        f"({_pixels(counted, source.class_names)})."
    )
    if not source.parts:
        raise ValueError(f"{text} Use a larger --train-split.")
    text += " Check --labels, --foreground and --void-labels."
    labels = source.labels
    void = [label for label, name in labels.items() if name == "void"]
    if present == [labels.get(0)] and counted.void_pixels and void == [VOID]:
        text += (
            f" The masks contain only the values 0 and {VOID}, and {VOID} "
            f"means void. If {VOID} is a class, use two classes and "
            f"--foreground {VOID}."
        )
    raise ValueError(text)


def warnings_of(
    counted: ClassFrequencies, class_names: tuple[str, ...]
) -> Iterator[str]:
    """Yield warnings about classes that the training images do not contain.

    >>> counted = ClassFrequencies((4, 0), (1, 0), (4, 0), 4, 1)
    >>> print(*warnings_of(counted, ("sky", "road")))  # doctest: +ELLIPSIS
    1 of 2 classes never occurs in the 1 training image: road. ...
    """
    present = _present(counted, class_names)
    absent = [name for name in class_names if name not in present]
    if absent:
        yield (
            f"{len(absent)} of {len(class_names)} classes never "
            f"{'occurs' if len(absent) == 1 else 'occur'} {_where(counted)}: "
            f"{', '.join(absent)}. The model cannot learn "
            f"{'it' if len(absent) == 1 else 'them'}. "
            f"Pixels: {_pixels(counted, class_names)}. "
            "Check --labels, --foreground and --void-labels."
        )


def _present(
    counted: ClassFrequencies, class_names: tuple[str, ...]
) -> list[str]:
    counts = zip(class_names, counted.pixels, strict=True)
    return [name for name, count in counts if count]


def _where(counted: ClassFrequencies) -> str:
    plural = "" if counted.num_images == 1 else "s"
    return f"in the {counted.num_images} training image{plural}"


def _pixels(counted: ClassFrequencies, class_names: tuple[str, ...]) -> str:
    counts = zip(class_names, counted.pixels, strict=True)
    shares = [f"{name} {count}" for name, count in counts]
    return ", ".join([*shares, f"void {counted.void_pixels}"])
