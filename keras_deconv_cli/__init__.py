"""The command `keras-deconv`: the library from a shell.

A thin layer: it parses, calls what the library has, and prints. One module for
what there is to do: `training`, `evaluation`, `prediction` and `inspection`.
Nothing here but they import Keras or TensorFlow, so that `--help` and mistakes
in the options are answered at once. That is why it is a package beside
`keras_deconv`, whose layers Keras has to know as soon as it is imported.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence

from keras_deconv_cli import parser

__all__ = ["main"]

# What TensorFlow says of its own code, before and after what happened.
_WHERE = re.compile(
    r"^.*assertion failed:|\[\[.*?\]\]|\[Op:[^\]]*\]"
    r"|Traceback \(most recent call last\).*",
    re.DOTALL,
)

FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: sequence of str, what stands after `keras-deconv`. Default:
            what this process was started with.

    Returns:
        The exit code: 0 done, 1 failed (faulty data, an unreadable picture),
        130 stopped by Ctrl-C. Mistakes in the options end the process with 2.

    Example:
        >>> from keras_deconv_cli import main
        >>> main(["info", "scenes"])  # doctest: +ELLIPSIS
        scenes: 6 classes
        ...
        0
    """
    options = parser.parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        module = importlib.import_module(f"keras_deconv_cli.{options.module}")
        return getattr(module, options.command)(options)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        text = explain(error)
        if options.debug or text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return FAILED


def explain(error: Exception) -> str | None:
    """One line on a mistake of the user; None for what is none of theirs."""
    if isinstance(error, ValueError | OSError | ImportError):
        text = str(error)
    else:
        import tensorflow as tf

        if not isinstance(error, tf.errors.OpError):
            return None
        text = _WHERE.sub("", str(error.message))
    return " ".join(text.split()) or type(error).__name__
