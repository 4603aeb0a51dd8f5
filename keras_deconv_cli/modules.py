"""Python modules of the user, which run code.

They are imported only if the user names them in this very command. A name that
stands in a file, such as `run.json`, is never imported.
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
    """Whether it can be the name of a module, with its packages."""
    return isinstance(text, str) and bool(_NAME.fullmatch(text))


def load(name: str, option: str) -> types.ModuleType:
    """Imports a module, which may lie in the current folder.

    Args:
        name: of the module, with its packages.
        option: that names it, for the error.

    Raises:
        ValueError: If the module does not exist, or raises.
    """
    # Last, so that files there do not hide other modules, which are imported
    # later.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    # Whatever a module of somebody else raises, or a script that exits.
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{option} must name a module that can be imported: one in the "
            "current folder, in PYTHONPATH, or of an installed package. "
            f"Received: {name}, which raises {type(error).__name__}: {error}"
        ) from error
