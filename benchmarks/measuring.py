"""Shared by the benchmarks: timing, processes, tables and options."""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

# This file does not import Keras or a backend. Scripts choose the backend
# first, and those for GPUs also run without TensorFlow.

# The thread pool of one library still spins when the next library takes its
# turn.
PAUSE_SECONDS = 0.01
PACKAGES = ("tensorflow", "jax", "torch", "keras", "keras-deconv", "numpy")


def in_turns(
    calls: dict[Any, Callable[[], Any]], repetitions: int
) -> dict[Any, list[float]]:
    """Measure the seconds of each call. Each repetition runs all calls once."""
    times = {key: [] for key in calls}
    for repetition in range(-1, repetitions):
        for key, call in calls.items():
            time.sleep(PAUSE_SECONDS)
            seconds = seconds_of(call)
            if repetition >= 0:  # The first round compiles.
                times[key].append(seconds)
    return times


def seconds_of(call: Callable[[], Any]) -> float:
    """Measure the time until the result is complete, without freeing it."""
    import tensorflow as tf

    start = time.perf_counter()
    result = call()
    # Waits for GPUs. On CPUs, results are complete when a call returns.
    tf.test.experimental.sync_devices()
    seconds = time.perf_counter() - start
    del result
    return seconds


def summary(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the interquartile range in milliseconds."""
    low, median, high = np.percentile(seconds, (25, 50, 75)) * 1e3
    return float(median), float(high - low)


def run_again(script: str, arguments: list[str]) -> dict[str, Any]:
    """Run a script in a new process and return the JSON of its last line."""
    result = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(
            f"The process for {' '.join(arguments)} failed: "
            f"{result.stderr[-2000:]}"
        )
    return json.loads(result.stdout.splitlines()[-1])


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def about() -> dict[str, Any]:
    """Return the device, date and versions of this run."""
    return dict(
        device=device_name(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        versions=versions(),
        date=datetime.date.today().isoformat(),
    )


def versions() -> dict[str, str]:
    """Return the versions of the installed packages and of this one."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "keras-deconv":  # on PYTHONPATH, not installed
                import keras_deconv

                found[name] = keras_deconv.__version__
    return found


def device_name() -> str:
    """Return the name of the GPU that Keras uses, or of the CPU."""
    return gpu_name() or cpu_name()


def gpu_name() -> str | None:
    import keras

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if backend == "torch":
        import torch

        return (
            torch.cuda.get_device_name() if torch.cuda.is_available() else None
        )
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get("device_name", "unknown GPU")


def cpu_name() -> str:
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        for line in cpus.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_about(facts: dict[str, Any]) -> None:
    versions = ", ".join(f"{n} {v}" for n, v in facts["versions"].items())
    print(f"{facts['device']}, {facts['cores']} cores, {facts['date']}")
    print(f"Python {facts['python']}, {versions}")


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"\n{markdown_table(rows)}", flush=True)


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Format a Markdown table. Numbers are aligned to the right."""
    heads = list(rows[0])
    lines = [[cell(row[head]) for head in heads] for row in rows]
    widths = [
        max(map(len, column)) for column in zip(heads, *lines, strict=True)
    ]
    is_text = [isinstance(rows[0][head], str) for head in heads]
    rule = [
        "-" * width if text else "-" * (width - 1) + ":"
        for width, text in zip(widths, is_text, strict=True)
    ]
    table = []
    for line in (heads, rule, *lines):
        padded = (
            word.ljust(width) if text else word.rjust(width)
            for word, width, text in zip(line, widths, is_text, strict=True)
        )
        table.append("| " + " | ".join(padded) + " |")
    return "\n".join(table)


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def write_json(file: Path | None, report: Any) -> None:
    if file is not None:
        write_text(file, json.dumps(report, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a file atomically, so that it is never incomplete."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError as error:
        sys.exit(f"Cannot write {file}: {error.strerror}.")


def positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer >= 1")
    return int(text)


def image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be HEIGHTxWIDTH in pixels, such as 180x240"
        )
    return int(match[1]), int(match[2])
