"""Converters that say nothing, but for errors."""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

# Notes and warnings of TensorFlow's C++ code, and a line of its quantizer. They
# go to the process's standard error; `TF_CPP_MIN_LOG_LEVEL`, the one public
# switch, is read while TensorFlow is imported, and the quantizer does not ask.
_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\.cc:\d+\] "
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] \S+\.cc:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called "
    rb"|fully_quantize: "
)
_STDERR = 2
# Each would take what the other put in place for the real one.
_lock = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back standard error for a while, and pass on all but the noise."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock)
        try:
            before = os.dup(_STDERR)
            stack.callback(os.close, before)
            held = stack.enter_context(tempfile.TemporaryFile())
        # A process may have no standard error, or no folder for such files.
        except OSError:
            yield
            return
        try:
            os.dup2(held.fileno(), _STDERR)
            yield
        finally:
            os.dup2(before, _STDERR)
            held.seek(0)
            # An export does not fail because nobody reads what it says.
            with contextlib.suppress(OSError):
                for line in held:
                    if not _NOISE.match(line):
                        os.write(_STDERR, line)
