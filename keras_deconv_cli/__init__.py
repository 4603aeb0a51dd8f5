"""The command `keras-deconv`: the library from a shell.

A thin layer: `parser` reads the options into a dataclass of `commands`, one of
the modules in `_MODULES` calls the library with it and prints. Only these, and
what they share, import Keras and TensorFlow, so that `--help` and errors in the
options are shown at once. That is why this is a package beside `keras_deconv`,
which registers its layers with Keras when it is imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from keras_deconv_cli import commands, errors, modules, parser

__all__ = ["main"]

_MODULES: dict[type, str] = {
    commands.Train: "training",
    commands.Evaluate: "evaluation",
    commands.Predict: "prediction",
    commands.Export: "exporting",
    commands.Check: "inspection",
    commands.Info: "inspection",
}
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: sequence of str, what follows `keras-deconv`. Default: the
            arguments of this process.

    Returns:
        The exit code: 0 for success, 1 for a failure (faulty data, an
        unreadable image), 130 if stopped by Ctrl-C. Errors in the options end
        the process with 2.

    Example:
        >>> from keras_deconv_cli import main
        >>> main(["info", "scenes"])  # doctest: +ELLIPSIS
        scenes: 6 classes
        ...
        0
    """
    command, debug = parser.parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not sys.stderr.isatty():
        # The bars of tfds are made of escape codes.
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        # Before models are loaded, whose layers it registers.
        if name := getattr(command, "module", None):
            modules.load(name, "--import")
        kind = type(command)
        module = importlib.import_module(f"keras_deconv_cli.{_MODULES[kind]}")
        return getattr(module, kind.__name__.lower())(command)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        text = errors.explain(error)
        if debug or text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return FAILED
