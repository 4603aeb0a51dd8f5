"""Measure a training step and a prediction of networks with each decoder.

    python benchmarks/models.py              # times, side by side
    python benchmarks/models.py --memory     # one process per network

The baseline is the same network with MaxPooling2D and UpSampling2D of Keras.
See benchmarks/README.md.
"""

import argparse
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

# The file next to this one.
from measuring import (
    about,
    image_size,
    in_turns,
    peak_bytes,
    positive_int,
    print_about,
    print_table,
    run_again,
    summary,
    write_json,
)
from upsampling import BASELINE, segnet

from keras_deconv import losses, models


def vgg16(shape: tuple[int, ...], num_classes: int, decoder: str) -> Any:
    """VGG16 of Keras with the same decoder convolutions in all cases."""
    encoder = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=shape
    )
    return models.EncoderDecoder(encoder, num_classes, decoder=decoder)


MODELS = {
    "segnet_basic": models.SegNetBasic,
    "segnet": models.SegNet,
    "vgg16": vgg16,
}
DECODERS = ("max_unpool", "nearest", "bed_of_nails", "conv_transpose", BASELINE)
OPERATIONS = ("train", "predict")
NUM_CLASSES = 11


def build(options: argparse.Namespace, decoder: str) -> keras.Model:
    """Return a compiled network with random weights."""
    model = segnet(
        MODELS[options.model], options.image_size, NUM_CLASSES, decoder
    )
    model.compile("adam", losses.SegmentationCrossentropy())
    return model


def calls(
    model: keras.Model, options: argparse.Namespace
) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    shape = (options.batch_size, *options.image_size)
    images = rng.uniform(0, 255, (*shape, 3)).astype("float32")
    labels = rng.integers(0, NUM_CLASSES, shape)
    return dict(
        train=functools.partial(model.train_on_batch, images, labels),
        predict=functools.partial(model.predict_on_batch, images),
    )


def measure_times(options: argparse.Namespace) -> list[dict[str, Any]]:
    by_decoder = {
        decoder: calls(build(options, decoder), options) for decoder in DECODERS
    }
    times = in_turns(
        {
            (operation, decoder): by_decoder[decoder][operation]
            for operation in OPERATIONS
            for decoder in DECODERS
        },
        options.repetitions,
    )
    rows = []
    for (operation, decoder), seconds in times.items():
        milliseconds, spread = summary(seconds)
        baseline, _ = summary(times[operation, BASELINE])
        rows.append(
            dict(
                operation=operation,
                decoder=decoder,
                milliseconds=milliseconds,
                spread=spread,
                baselines=milliseconds / baseline,
            )
        )
    return rows


def measure_memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    height, width = options.image_size
    rows = []
    for decoder in DECODERS:
        rows.append(
            run_again(
                __file__,
                [
                    *["--memory-of", decoder, "--model", options.model],
                    *["--image-size", f"{height}x{width}"],
                    *["--batch-size", str(options.batch_size)],
                ],
            )
        )
    (baseline,) = (r["peak_bytes"] for r in rows if r["decoder"] == BASELINE)
    return [row | {"baselines": row["peak_bytes"] / baseline} for row in rows]


def memory_of(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the peak memory of two training steps in this process."""
    train = calls(build(options, options.memory_of), options)["train"]
    before = peak_bytes()
    train()
    train()
    peak = peak_bytes()
    return dict(
        decoder=options.memory_of,
        peak_bytes=peak,
        training_bytes=peak - before,
    )


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="segnet_basic", choices=MODELS)
    add("--image-size", type=image_size, help="360x480, or 32x40 with --smoke")
    add("--batch-size", type=positive_int, help="4, or 1 with --smoke")
    add("--repetitions", type=positive_int, help="5, or 2 with --smoke")
    add("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    add("--smoke", action="store_true", help="tiny sizes; takes seconds")
    add("--memory", action="store_true", help="peak memory of training")
    add("--memory-of", choices=DECODERS, help="memory of one, as JSON")
    options = parser.parse_args(arguments)
    size, batch, repetitions = (
        ((32, 40), 1, 2) if options.smoke else ((360, 480), 4, 5)
    )
    options.image_size = options.image_size or size
    options.batch_size = options.batch_size or batch
    options.repetitions = options.repetitions or repetitions
    return options


def main() -> None:
    options = parse_arguments()
    if options.memory_of is not None:
        print(json.dumps(memory_of(options)))
        return
    report = dict(
        about=about(),
        model=options.model,
        image_size=options.image_size,
        batch_size=options.batch_size,
    )
    print_about(report["about"])
    height, width = options.image_size
    print(f"{options.model}, {options.batch_size} images of {height}x{width}")
    if options.memory:
        report["memory"] = measure_memory(options)
        print_table(report["memory"])
    else:
        report["repetitions"] = options.repetitions
        report["rows"] = measure_times(options)
        print_table(report["rows"])
    write_json(options.json, report)


if __name__ == "__main__":
    main()
