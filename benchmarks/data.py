"""Compare the speed of data loading with the speed of training.

    python benchmarks/data.py

The script draws street scenes and writes them as PNG and JPEG files in folders
and as a tfds dataset. It reads them in several ways and trains SegNet-Basic on
them, in turns. Data loading should be several times as fast as training, so
that training does not wait for it. See benchmarks/README.md.
"""

import argparse
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

# The file next to this one.
from measuring import (
    about,
    image_size,
    in_turns,
    positive_int,
    print_about,
    print_table,
    summary,
    write_json,
)

from keras_deconv import data, losses, models

NAME = "drawn_scenes"
TRAINING = "train SegNetBasic"
AUGMENT = data.augmentation(
    scale=(0.8, 1.25), rotation=10, brightness=0.1, contrast=0.1
)
WAYS = {
    "from disk": dict(cache=False),
    "from disk, augmented": dict(cache=False, augment=AUGMENT),
    "cached": dict(),
    "cached, augmented": dict(augment=AUGMENT),
}


# Folders of images, each with the same masks.
FOLDERS = {"folder of PNG": "images", "folder of JPEG": "photos"}


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Write scenes to folders and to a tfds dataset."""
    for number in range(options.images):
        image, mask = data.draw_scene(number, options.image_size)
        for kind, pixels in (("images", image), ("masks", mask[..., None])):
            path = folder / kind / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(tf.io.encode_png(pixels).numpy())
        path = folder / "photos" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(image, quality=90).numpy())
    data.to_tfds(
        NAME,
        {"train": (folder / "images", folder / "masks")},
        classes=data.describe("scenes").class_names,
        data_dir=folder / "tfds",
    )


def load(
    folder: Path, options: argparse.Namespace, **way: Any
) -> tf.data.Dataset:
    return data.load(
        NAME,
        "train",
        image_size=options.image_size,
        batch_size=options.batch_size,
        data_dir=folder / "tfds",
        seed=0,
        **way,
    )


def load_folder(
    images: Path, masks: Path, options: argparse.Namespace
) -> tf.data.Dataset:
    return data.from_folders(
        images,
        masks,
        classes=data.describe("scenes").class_names,
        image_size=options.image_size,
        batch_size=options.batch_size,
        seed=0,
        cache=False,
    )


def read_all(dataset: tf.data.Dataset) -> None:
    for _ in dataset:
        pass


def training(
    dataset: tf.data.Dataset, options: argparse.Namespace
) -> Callable[[], Any]:
    """Return a call that trains for one epoch with `fit`."""
    num_classes = data.describe("scenes").num_classes
    model = models.SegNetBasic((*options.image_size, 3), num_classes)
    model.compile("adam", losses.SegmentationCrossentropy())
    return functools.partial(model.fit, dataset, verbose=0, shuffle=False)


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    prepare(folder, options)
    datasets = {
        name: load(folder, options, **way) for name, way in WAYS.items()
    } | {
        name: load_folder(folder / images, folder / "masks", options)
        for name, images in FOLDERS.items()
    }
    calls = {
        name: functools.partial(read_all, dataset)
        for name, dataset in datasets.items()
    }
    calls[TRAINING] = training(datasets["cached"], options)
    seconds = {
        name: summary(times)[0] / 1e3
        for name, times in in_turns(calls, options.repetitions).items()
    }
    return [
        dict(
            what=name,
            images_per_second=options.images / taken,
            trainings=seconds[TRAINING] / taken,
        )
        for name, taken in seconds.items()
    ]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--image-size", type=image_size, help="180x240, or 24x40 with --smoke")
    add("--images", type=positive_int, help="64, or 8 with --smoke")
    add("--batch-size", default=8, type=positive_int)
    add("--repetitions", type=positive_int, help="5, or 2 with --smoke")
    add("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    add("--smoke", action="store_true", help="tiny sizes; takes seconds")
    options = parser.parse_args(arguments)
    size, images, repetitions = (
        ((24, 40), 8, 2) if options.smoke else ((180, 240), 64, 5)
    )
    options.image_size = options.image_size or size
    options.images = options.images or images
    options.repetitions = options.repetitions or repetitions
    return options


def main() -> None:
    options = parse_arguments()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    report = dict(
        about=about(),
        image_size=options.image_size,
        batch_size=options.batch_size,
        images=options.images,
        repetitions=options.repetitions,
        rows=rows,
    )
    print_about(report["about"])
    height, width = options.image_size
    print(f"{options.images} images of {height}x{width}")
    print_table(rows)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
