"""Call an exported SegNet-Basic many times from two threads.

    python benchmarks/serving.py

The script writes a SavedModel and loads it in a process that does not import
keras_deconv. It predicts batches of several sizes in random order. It prints
the time of the calls, and the memory and the number of graphs before and after.
The exit status is 1 if memory grows, or if TensorFlow traces a function after
the warm-up. See benchmarks/README.md.
"""

import argparse
import collections
import gc
import itertools
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

# The file next to this one.
from measuring import (
    about,
    image_size,
    peak_bytes,
    positive_int,
    print_about,
    print_table,
    run_again,
    write_json,
)

NUM_CLASSES = 11
BATCH_SIZES = (1, 2, 4, 8, 16)
# A fraction of the calls. It lets the memory pools grow.
WARM_UP_SHARE = 0.15
# 4 kB per call for 2,000 calls, the size of the class ids of one small image.
# All other inputs and outputs of a call are larger.
ALLOWED_BYTES = 8e6
RETRACE_EVERY = 10
# Faults that the checks must find.
FAULTS = ("leak", "retrace")


def export(folder: str) -> None:
    # The process that serves the model does not import these.
    import keras

    from keras_deconv import export, models

    keras.utils.set_random_seed(0)
    model = models.SegNetBasic((None, None, 3), NUM_CLASSES)
    export.to_saved_model(model, folder)


def resident_bytes() -> int:
    """Return the memory of this process, or its peak if not on Linux."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return peak_bytes()
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def num_graphs() -> int:
    """Count live graphs. Functions keep the graphs that they traced."""
    gc.collect()
    return sum(isinstance(item, tf.Graph) for item in gc.get_objects())


def serve(folder: str, options: argparse.Namespace) -> dict[str, Any]:
    """Load the SavedModel, call it, and return the measurements."""
    loaded = tf.saved_model.load(folder)
    label = loaded.signatures["serving_default"]
    if options.fault == "retrace":
        label = tf.function(
            lambda images, number: loaded.signatures["serving_default"](images)
        )
    kinds = list(itertools.product(options.image_sizes, BATCH_SIZES))
    generator = np.random.default_rng(0)
    images = {
        (size, batch_size): generator.integers(
            0, 256, (batch_size, *size, 3), "uint8"
        )
        for size, batch_size in kinds
    }
    numbers = itertools.count()
    kept = []

    def call(kind: tuple[tuple[int, int], int]) -> tuple[float, int]:
        number = next(numbers)
        start = time.perf_counter()
        batch = tf.constant(images[kind])
        if options.fault == "retrace":
            outputs = label(batch, number // RETRACE_EVERY)
        else:
            outputs = label(images=batch)
        class_ids = outputs["class_ids"].numpy()
        seconds = time.perf_counter() - start
        size, batch_size = kind
        if class_ids.shape != (batch_size, *size):
            raise RuntimeError(f"{class_ids.shape} for {kind}")
        if options.fault == "leak":
            kept.append(outputs)
        return seconds, resident_bytes()

    def plan(number: int) -> list[tuple[tuple[int, int], int]]:
        """Return every kind equally often, in random order."""
        chosen = [kinds[i % len(kinds)] for i in range(number)]
        random.Random(number).shuffle(chosen)
        return chosen

    # Memory peaks if all threads predict the largest batch at the same time.
    largest = max(kinds, key=lambda kind: math.prod(kind[0]) * kind[1])
    warm_up = plan(max(round(options.calls * WARM_UP_SHARE), len(kinds)))
    planned = plan(options.calls)
    with ThreadPoolExecutor(options.threads) as threads:
        list(threads.map(call, [*warm_up, *[largest] * 4 * options.threads]))
        graphs = [num_graphs()]
        seconds, memory = zip(*threads.map(call, planned), strict=True)
        graphs.append(num_graphs())
    times = collections.defaultdict(list)
    for kind, taken in zip(planned, seconds, strict=True):
        times[kind].append(taken)
    return dict(
        rows=[row(*kind, times[kind]) for kind in kinds],
        graphs=graphs,
        memory=memory_of(memory),
        knows_keras_deconv="keras_deconv" in sys.modules,
    )


def row(
    size: tuple[int, int], batch_size: int, seconds: list[float]
) -> dict[str, Any]:
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return dict(
        size="x".join(map(str, size)),
        batch_size=batch_size,
        calls=len(seconds),
        p50=float(p50),
        p99=float(p99),
        images_per_second=batch_size / float(np.mean(seconds)),
    )


def memory_of(samples: Sequence[int]) -> dict[str, Any]:
    """Return the growth in bytes: between medians, and of a fitted line.

    The medians are those of the first and last fifth, because single samples
    include the memory of running calls.
    """
    fifth = max(len(samples) // 5, 1)
    before, after = np.median(samples[:fifth]), np.median(samples[-fifth:])
    slope, _ = np.polyfit(np.arange(len(samples)), samples, 1)
    return dict(
        after_warm_up=float(before),
        at_end=float(after),
        growth=float(after - before),
        slope_per_call=float(slope),
        highest=float(max(samples)),
        samples=samples[:: max(len(samples) // 50, 1)],
    )


def complaints(report: dict[str, Any]) -> list[str]:
    """Return a message for each check that failed."""
    found = []
    before, after = report["graphs"]
    if after > before:
        found.append(f"{after - before} graphs were added after the warm-up.")
    memory = report["memory"]
    if memory["growth"] > ALLOWED_BYTES:
        found.append(
            f"Memory grew by {memory['growth'] / 1e6:.1f} MB; "
            f"{ALLOWED_BYTES / 1e6:.0f} MB are allowed."
        )
    if report["knows_keras_deconv"]:
        found.append("The serving process imported keras_deconv.")
    return found


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--image-size",
        dest="image_sizes",
        action="append",
        type=image_size,
        help="can be repeated; default: 24x32, 31x43 and 45x60, or 9x13 and "
        "16x24 with --smoke",
    )
    add("--calls", type=positive_int, help="2000, or 200 with --smoke")
    add("--threads", default=2, type=positive_int)
    add("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    add("--smoke", action="store_true", help="tiny sizes; takes seconds")
    add(
        "--fault",
        choices=FAULTS,
        help="keep all outputs, or retrace; the checks must find it",
    )
    add("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes, calls = (
        ([(9, 13), (16, 24)], 200)
        if options.smoke
        else ([(24, 32), (31, 43), (45, 60)], 2000)
    )
    options.image_sizes = options.image_sizes or sizes
    options.calls = options.calls or calls
    return options


def main() -> None:
    options = parse_arguments()
    if options.serve:
        print(json.dumps(serve(options.serve, options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        export(folder)
        report = run_again(__file__, [*sys.argv[1:], "--serve", folder])
    report = dict(
        about=about(), calls=options.calls, threads=options.threads, **report
    )
    print_about(report["about"])
    print(f"{options.calls} calls from {options.threads} threads, milliseconds")
    print_table(report["rows"])
    print()
    memory = report["memory"]
    print(
        f"Memory: {memory['after_warm_up'] / 1e6:.1f} MB after the warm-up, "
        f"{memory['at_end'] / 1e6:.1f} MB at the end, "
        f"{memory['highest'] / 1e6:.1f} MB at most; "
        f"slope {memory['slope_per_call']:.0f} bytes per call"
    )
    before, after = report["graphs"]
    print(f"Graphs: {before} after the warm-up, {after} at the end")
    write_json(options.json, report)
    sys.exit(" ".join(complaints(report)) or 0)


if __name__ == "__main__":
    main()
