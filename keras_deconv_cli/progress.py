"""Progress bars, which are shown only in a terminal."""

from __future__ import annotations

import sys
from typing import Any

import keras

__all__ = ["ScoresOnly", "verbosity"]


def verbosity() -> int:
    """Return `verbose` for Keras: 1 in a terminal, or else 2.

    The progress bars of 1 contain escape codes. With 2, Keras prints one line
    per epoch.
    """
    return 1 if sys.stdout.isatty() else 2


class ScoresOnly(keras.callbacks.ProgbarLogger):
    """The progress line of `evaluate` without the loss, which is always 0."""

    def on_test_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Show the scores of the batches so far."""
        super().on_test_batch_end(batch, _without_loss(logs))

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Show the scores of all batches."""
        super().on_test_end(_without_loss(logs))


def _without_loss(logs: dict[str, Any] | None) -> dict[str, Any]:
    return {
        name: value for name, value in (logs or {}).items() if name != "loss"
    }
