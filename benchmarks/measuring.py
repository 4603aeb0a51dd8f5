"""What the benchmarks share: timing in turns, processes, tables, options."""

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

# Neither Keras nor a backend is imported here: scripts choose the backend
# first, and those for GPUs run where TensorFlow is not installed.

# Thread pools of one library spin for a while when another's turn has come.
PAUSE_SECONDS = 0.01
PACKAGES = ("tensorflow", "jax", "torch", "keras", "keras-deconv", "numpy")


def in_turns(
    calls: dict[Any, Callable[[], Any]], repetitions: int
) -> dict[Any, list[float]]:
    """Seconds of every call, all calls once in each repetition."""
    times = {key: [] for key in calls}
    for repetition in range(-1, repetitions):
        for key, call in calls.items():
            time.sleep(PAUSE_SECONDS)
            seconds = seconds_of(call)
            if repetition >= 0:  # The first round compiles.
                times[key].append(seconds)
    return times


def seconds_of(call: Callable[[], Any]) -> float:
    """From call to completed result; freeing the result does not count."""
    import tensorflow as tf

    start = time.perf_counter()
    result = call()
    # Waits for GPUs; on CPUs results are there when a call returns.
    tf.test.experimental.sync_devices()
    seconds = time.perf_counter() - start
    del result
    return seconds


def summary(seconds: list[float]) -> tuple[float, float]:
    """Median and distance of the quartiles, in milliseconds."""
    low, median, high = np.percentile(seconds, (25, 50, 75)) * 1e3
    return float(median), float(high - low)


def run_again(script: str, arguments: list[str]) -> dict[str, Any]:
    """Run a script in a process of its own that prints JSON at its end."""
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
    """The most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def about() -> dict[str, Any]:
    """Where and with what this runs."""
    return dict(
        device=device_name(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        versions=versions(),
        date=datetime.date.today().isoformat(),
    )


def versions() -> dict[str, str]:
    """Versions of the packages that are installed, and of this one."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "keras-deconv":  # its source is on PYTHONPATH
                import keras_deconv

                found[name] = keras_deconv.__version__
    return found


def device_name() -> str:
    """The GPU that the backend of Keras uses, else the CPU."""
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
    return details.get("device_name", "GPU of unknown name")


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
    """A Markdown table, numbers to the right."""
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
    """Writes a file that is complete whenever it is there."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError as error:
        sys.exit(f"{file} cannot be written: {error.strerror}.")


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
