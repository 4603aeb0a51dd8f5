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
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# Thread pools of one library spin for a while when another's turn has come.
PAUSE_SECONDS = 0.01


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
    names = ["tensorflow", "keras", "keras-deconv", "numpy"]
    if util.find_spec("torch"):
        names.append("torch")
    versions = {name: metadata.version(name) for name in names}
    return dict(
        device=device_name(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        versions=versions,
        date=datetime.date.today().isoformat(),
    )


def device_name() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("device_name", "GPU of unknown name")
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
    print()
    for line in (heads, rule, *lines):
        padded = (
            word.ljust(width) if text else word.rjust(width)
            for word, width, text in zip(line, widths, is_text, strict=True)
        )
        print("| " + " | ".join(padded) + " |", flush=True)


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def write_json(file: Path | None, report: dict[str, Any]) -> None:
    if file is None:
        return
    try:
        file.write_text(json.dumps(report, indent=1) + "\n")
    except OSError as error:
        sys.exit(f"--json: {file} cannot be written: {error.strerror}.")


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
