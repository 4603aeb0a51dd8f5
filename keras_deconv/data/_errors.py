"""Raise errors in tf.data pipelines, and extract their messages."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import tensorflow as tf


def require(condition: tf.Tensor, parts: Sequence[str | tf.Tensor]) -> None:
    """Raise an error in a graph if `condition` is false.

    The parts are joined into one string, because TensorFlow prints each tensor
    in brackets. Parts must not contain quotes, because TensorFlow escapes them.
    """
    tf.debugging.Assert(condition, [tf.strings.join(parts)], summarize=1)


def printable(name: str | os.PathLike[str]) -> str:
    """Return a file name that can be printed and stored as UTF-8.

    Python represents bytes that are not UTF-8 by lone surrogates, which cannot
    be encoded.
    """
    return os.fspath(name).encode("utf-8", "backslashreplace").decode()


# Text that TensorFlow adds to an error message. File names may contain brackets
# too. So brackets of TensorFlow are recognized by their content, or by the line
# that they start.
_WRAPPING = re.compile(
    r"Graph execution error:|Detected at node .*?<stack traces unavailable>"
    r"|Detected at node \S+ defined at \(most recent call last\):\s*"
    r'(?:File "[^"\n]*", line \d+, in \S+\s*)*'
    r"|Error in user-defined function passed to \S+ transformation with "
    r"iterator: \S+:|assertion failed:|\{\{(?:function_)?node [^{}]*\}\}"
    r"|\n\t \[\[[^\n]*?\]\](?=\s*\[Op:|\s*\n|\s*$)"
    r"|\[Op:\w+\](?:\s*name:\s*)?\s*$",
    flags=re.DOTALL,
)


def plain_text(error: Exception) -> str:
    """Return the message of an error in one line, without TensorFlow's text."""
    text = str(error).split("Traceback (most recent call last)")[0]
    text = " ".join(_WRAPPING.sub("", text).split())
    # Errors of Python functions in a pipeline start with their class name.
    text = re.sub(r"^(?:(?:ValueError|InvalidArgumentError): )+", "", text)
    if text.startswith("[") and text.endswith("]"):
        # TensorFlow prints each part of an assertion in brackets.
        text = text[1:-1].replace("] [", " ")
        text = re.sub(r"\\(['\"\\])", r"\1", text)
    return text or type(error).__name__
