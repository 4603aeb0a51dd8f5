"""Hold back what converters print, except errors."""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

# Notes and warnings of TensorFlow's C++ code, and a line of its quantizer. They
# go to the standard error of the process. `TF_CPP_MIN_LOG_LEVEL`, the only
# public switch, is read when TensorFlow is imported, and the quantizer ignores
# it.
_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\.cc:\d+\] "
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] \S+\.cc:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called "
    rb"|fully_quantize: "
)
_STDERR = 2
# A second thread would take the file of the first for standard error.
_lock = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back standard error during the block, then pass on all but noise.

    This concerns the whole process: what other threads write to standard error
    appears when the block ends. TF_CPP_MIN_LOG_LEVEL=0 turns it off.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock)
        try:
            before = os.dup(_STDERR)
            stack.callback(os.close, before)
            held = stack.enter_context(tempfile.TemporaryFile())
        # Standard error may be closed, or temporary files be impossible.
        except OSError:
            yield
            return
        try:
            os.dup2(held.fileno(), _STDERR)
            yield
        finally:
            os.dup2(before, _STDERR)
            held.seek(0)
            # An export does not fail because nobody reads its messages.
            with contextlib.suppress(OSError):
                for line in held:
                    if not _NOISE.match(line):
                        os.write(_STDERR, line)
