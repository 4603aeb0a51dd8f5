"""Measure the overhead of sharing a batch among replicas.

    python benchmarks/scaling.py

The script trains SegNet-Basic with the same batch size on one device, on two
devices of one CPU and in two processes, with TensorFlow and with JAX. All
devices share the cores of this machine, so training does not get faster. The
ratio to one device is the overhead. Candidates take turns, each in its own
processes. See docs/scaling.md.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

# The file next to this one.
from measuring import (
    about,
    image_size,
    positive_int,
    print_about,
    print_table,
    write_json,
)

from keras_deconv import distribution, losses, models

NUM_CLASSES = 11
# Backend, strategy, number of processes, devices per process. The first one of
# a backend is the baseline of the others.
CANDIDATES = [
    ("tensorflow", "one", 1, 1),
    ("tensorflow", "mirrored", 1, 2),
    ("tensorflow", "multi_worker", 2, 1),
    ("jax", "one", 1, 1),
    ("jax", "data_parallel", 1, 2),
    ("jax", "data_parallel", 2, 1),
]


class Timer(keras.callbacks.Callback):
    """Measures the seconds of every epoch. The first one compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def seconds_per_step(options: argparse.Namespace) -> float:
    """Train in this process, which is one process of a candidate."""
    strategy, num_devices = options.strategy, options.devices
    if num_devices > 1 and keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", num_devices)
    elif num_devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * num_devices,
        )
    replicas = distribution.connect(strategy)
    random = np.random.default_rng(0)
    shape = (options.batch_size, *options.image_size)
    batch = (
        random.uniform(0, 255, (*shape, 3)).astype("float32"),
        random.integers(0, NUM_CLASSES, shape).astype("int32"),
    )
    train = (
        tf.data.Dataset.from_tensor_slices(batch)
        .batch(options.batch_size, drop_remainder=True)
        .repeat(options.steps)
    )
    with replicas.scope():
        model = models.SegNetBasic((*options.image_size, 3), NUM_CLASSES)
        model.compile("adam", losses.SegmentationCrossentropy())
    timer = Timer()
    replicas.fit(
        model,
        train,
        epochs=3,
        callbacks=[timer],
        verbose=0,
    )
    replicas.wait()
    return min(timer.seconds[1:]) / options.steps


def run(
    candidate: tuple[str, str, int, int], options: argparse.Namespace
) -> float:
    """Measure the seconds per step of a candidate in new processes."""
    backend, strategy, num_processes, num_devices = candidate
    height, width = options.image_size
    arguments = [
        *["--strategy", strategy, "--devices", str(num_devices)],
        *["--image-size", f"{height}x{width}", "--steps", str(options.steps)],
        *["--batch-size", str(options.batch_size)],
    ]
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(num_processes)]
    processes = []
    for number in range(num_processes):
        environment = {**os.environ, "KERAS_BACKEND": backend}
        if num_processes > 1:
            environment |= {
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": number},
                    }
                ),
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
                "KERAS_DISTRIBUTION_NUM_PROCESSES": str(num_processes),
                "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
            }
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            sys.exit(f"{' '.join(arguments)} failed: {errors[-2000:]}")
    return float(outputs[0][0].splitlines()[-1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    times: dict[tuple[str, str, int, int], list[float]] = {
        candidate: [] for candidate in CANDIDATES
    }
    for _ in range(options.repetitions):
        for candidate, seconds in times.items():
            seconds.append(run(candidate, options))
    alone = {
        backend: statistics.median(seconds)
        for (backend, strategy, *_), seconds in times.items()
        if strategy == "one"
    }
    return [
        dict(
            backend=backend,
            strategy=strategy,
            processes=num_processes,
            devices=num_devices,
            milliseconds=statistics.median(seconds) * 1e3,
            times=statistics.median(seconds) / alone[backend],
            least=min(seconds) * 1e3,
            most=max(seconds) * 1e3,
        )
        for (
            backend,
            strategy,
            num_processes,
            num_devices,
        ), seconds in times.items()
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--image-size", type=image_size, help="90x120, or 24x40 with --smoke")
    add("--batch-size", default=4, type=positive_int)
    add("--steps", type=positive_int, help="per epoch: 4, or 2 with --smoke")
    add("--repetitions", type=positive_int, help="3, or 1 with --smoke")
    add("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    add("--smoke", action="store_true", help="tiny sizes; takes minutes")
    # For the processes of a candidate.
    add("--strategy", help=argparse.SUPPRESS)
    add("--devices", type=positive_int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size, steps, repetitions = (
        ((24, 40), 2, 1) if options.smoke else ((90, 120), 4, 3)
    )
    options.image_size = options.image_size or size
    options.steps = options.steps or steps
    options.repetitions = options.repetitions or repetitions
    return options


def main() -> None:
    options = parse_arguments()
    if options.strategy:
        print(seconds_per_step(options))
        return
    rows = measure(options)
    report = dict(
        about=about(),
        image_size=options.image_size,
        batch_size=options.batch_size,
        repetitions=options.repetitions,
        rows=rows,
    )
    print_about(report["about"])
    print_table(rows)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
