"""Import TensorFlow without its start-up messages.

The child process that filters standard error runs this file as a script.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

__all__ = ["import_tensorflow"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_STDERR = 2
# TensorFlow logs some notes before it reads TF_CPP_MIN_LOG_LEVEL. The errors
# mean that the machine does not have a CUDA driver (303), and that TensorFlow
# registers a CUDA plug-in twice. Other errors are shown.
_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\.cc:\d+\] "
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] \S+\.cc:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called "
    rb"|.* failed call to cuInit: .*UNKNOWN ERROR \(303\)"
    rb"|.* Unable to register cu\w+ factory: "
)


def import_tensorflow() -> None:
    """Import TensorFlow without messages that users cannot act on.

    Errors are shown. `TF_CPP_MIN_LOG_LEVEL=0` or `1` in the environment shows
    all messages. Nothing changes if TensorFlow is imported already.
    """
    if not sys.stderr.isatty():
        # The progress bars of tensorflow-datasets consist of escape codes.
        os.environ.setdefault("TQDM_DISABLE", "1")
    is_wanted = os.environ.setdefault(_LEVEL, "2") in ("0", "1")
    if is_wanted or "tensorflow" in sys.modules:
        return
    with _filtered_stderr():
        import tensorflow as tf

        # TensorFlow logs more when it first looks for GPUs.
        tf.config.list_physical_devices()
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _filtered_stderr() -> Iterator[None]:
    """Pass what the process writes to standard error through a filter.

    The filter is a process, so the message of a fatal error is still shown
    when TensorFlow aborts this process.
    """
    with contextlib.ExitStack() as stack:
        try:
            before = os.dup(_STDERR)
            stack.callback(os.close, before)
            read, write = os.pipe()
            with open(read, "rb"), open(write, "wb"):
                child = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__], stdin=read
                )
                os.dup2(write, _STDERR)
        # The process may not have a standard error, or may not start others.
        except OSError:
            yield
            return
        try:
            yield
        finally:
            # The filter ends when nothing holds the other end of its pipe.
            os.dup2(before, _STDERR)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)


def _filter() -> None:
    """Copy standard input to standard error, without the noise."""
    # Ctrl-C ends the parent, which closes the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        if not _NOISE.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    _filter()
