"""Import Python modules of the user, which executes their code.

A module is imported only if an option of the current command names it. Names in
files, such as `run.json`, are never imported.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import types

__all__ = ["is_name", "load"]

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def is_name(text: object) -> bool:
    """Return whether a value is a valid module name, possibly with packages."""
    return isinstance(text, str) and bool(_NAME.fullmatch(text))


def load(name: str, option: str) -> types.ModuleType:
    """Import a module, which may be in the current folder.

    Args:
        name: The name of the module, including its packages.
        option: The option that names the module, for the error message.

    Raises:
        ValueError: If the module does not exist.
        ValueError: If the module raises an error.
    """
    # Last in the search path, so that files in the current folder do not hide
    # modules that are imported later.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    # The code of the user may raise any error, and a script may exit.
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{option} must name a module that Python can import, from the "
            "current folder, PYTHONPATH or an installed package. "
            f"Received: {name}, which raises {type(error).__name__}: {error}"
        ) from error
