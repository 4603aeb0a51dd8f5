"""The command `keras-deconv`, which uses the library from a shell.

`parser` reads the options into a dataclass of `commands`. One of the modules in
`_MODULES` then calls the library with it and prints the results. Only these
modules, and the modules that they share, import Keras and TensorFlow, so
`--help` and errors in the options are shown at once. This is why the command is
not part of `keras_deconv`, which imports Keras to register its layers.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from keras_deconv_cli import commands, errors, modules, parser, startup

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
    """Run the command.

    Args:
        arguments: Sequence of str. The arguments that follow `keras-deconv`.
            Defaults to the arguments of this process.

    Returns:
        The exit code: 0 for success, 1 for an error (such as invalid data or an
        unreadable image), or 130 if Ctrl-C stopped the command. If an option is
        wrong, the process exits with code 2 instead.

    Example:
        >>> from keras_deconv_cli import main
        >>> main(["info", "scenes"])  # doctest: +ELLIPSIS
        scenes: 6 classes
        ...
        0
    """
    command, debug = parser.parse(arguments)
    try:
        startup.import_tensorflow()
        # The module registers layers, so it comes before the models.
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
