"""Progress bars, which are shown only in a terminal."""

from __future__ import annotations

import sys

__all__ = ["verbosity"]


def verbosity() -> int:
    """Return `verbose` for Keras: 1 in a terminal, or else 2.

    The progress bars of 1 contain escape codes. With 2, Keras prints one line
    per epoch.
    """
    return 1 if sys.stdout.isatty() else 2
