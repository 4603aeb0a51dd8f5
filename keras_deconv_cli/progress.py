"""Progress bars, which are for terminals."""

from __future__ import annotations

import sys

__all__ = ["verbosity"]


def verbosity() -> int:
    """What Keras calls `verbose`: 2, one line each, where there is no terminal.

    The bars of 1 are made of escape codes.
    """
    return 1 if sys.stdout.isatty() else 2
