"""Errors of tf.data pipelines: raising them, and reading their text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import tensorflow as tf


def require(condition: tf.Tensor, parts: Sequence[str | tf.Tensor]) -> None:
    """Raise an error in a graph if `condition` is false.

    The parts are joined, so that the text is one sentence: TensorFlow puts
    each tensor in brackets. Parts must not contain quotes, which it escapes.
    """
    tf.debugging.Assert(condition, [tf.strings.join(parts)], summarize=1)


def printable(name: str | os.PathLike[str]) -> str:
    """Return a file name that can be printed and stored as UTF-8.

    Python stands for bytes that are not UTF-8 with lone surrogates, which
    cannot be encoded.
    """
    return os.fspath(name).encode("utf-8", "backslashreplace").decode()


# What TensorFlow puts around the text of an error. Names of files may have
# brackets too, so those of TensorFlow are recognized by what is in them, or by
# the line that they begin.
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
    """Return what an error says, in one line, without TensorFlow's wrapping."""
    text = str(error).split("Traceback (most recent call last)")[0]
    text = " ".join(_WRAPPING.sub("", text).split())
    # What a generator or another function of Python raised inside a pipeline.
    text = re.sub(r"^(?:(?:ValueError|InvalidArgumentError): )+", "", text)
    if text.startswith("[") and text.endswith("]"):
        # The parts of an assertion, each in brackets.
        text = text[1:-1].replace("] [", " ")
        text = re.sub(r"\\(['\"\\])", r"\1", text)
    return text or type(error).__name__
