"""Save the model, the scores and a backup after each epoch."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_deconv import _files, distribution
from keras_deconv_cli import runs

__all__ = ["HISTORY", "RESUME", "History"]

HISTORY, RESUME = "history.csv", ".resume"
_SCORE = "val_mean_iou"


class History(keras.callbacks.Callback):
    """Callback that saves the best model, the scores, and backups to resume.

    It replaces ModelCheckpoint, CSVLogger, EarlyStopping and BackupAndRestore,
    because the process may be killed at any time. Each file is either complete
    or absent. A resumed training reads the best score, and the number of epochs
    without a better one, from history.csv. The names of the backups contain
    their epoch. If there are several processes, the chief writes the files.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        model: keras.Model,
        patience: int | None,
        replicas: distribution.Replicas,
        *,
        has_score: bool = True,
    ) -> None:
        """Restore the backup into the model, if there is one.

        Args:
            folder: The folder of the run.
            model: The compiled model.
            patience: The number of epochs without a better score after which
                the training stops, or None.
            replicas: The replicas that train.
            has_score: Whether the training has validation data, which the
                score needs.

        Raises:
            ValueError: If the backup is damaged.
            ValueError: If history.csv is damaged.
        """
        super().__init__()
        self.has_score = has_score
        self.folder = folder
        self.model_file = folder / runs.MODEL_FILE
        self.patience = patience
        self.replicas = replicas
        # `patience` does not count epochs before this one.
        self.start = 0
        self.backup = distribution.EpochBackup(replicas, folder / RESUME)
        self.is_new = not self.backup.exists
        self.num_done = self.backup.restore(model)
        # An epoch that is in history.csv but not in a backup is repeated.
        self.rows = self._read_rows(self.num_done)

    @property
    def is_stuck(self) -> bool:
        """Whether the last `patience` epochs did not improve the best score."""
        if not self.patience or not self.rows:
            return False
        scores = [float(row[_SCORE]) for row in self.rows]
        after_best = scores.index(max(scores)) + 1
        return len(scores) - max(after_best, self.start) >= self.patience

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        self._check_columns({"epoch", *row})
        if not math.isfinite(row["loss"]):
            raise ValueError(
                f"The loss is {row['loss']} in epoch {epoch + 1}. Train again "
                "with a smaller --learning-rate and another --output."
            )
        before = [float(row[_SCORE]) for row in self.rows if self.has_score]
        if not self.has_score or row[_SCORE] > max(before, default=-1):
            self.save_model(self.model)
        # Epochs count from 0, as in Keras and PerClassReport.
        self.rows.append({"epoch": epoch, **row})
        if self.replicas.is_chief:
            self._write_rows()
        self.backup.write(self.model, epoch + 1)
        if self.is_stuck:
            print(
                f"Stopped: the mean IoU did not improve for {self.patience} "
                f"epoch{'' if self.patience == 1 else 's'}."
            )
            self.model.stop_training = True

    def _check_columns(self, columns: set[str]) -> None:
        """Raise an error for other columns before any file is replaced."""
        found = set(self.rows[0]) if self.rows else columns
        if found != columns:
            raise self._damaged(
                f"the columns {', '.join(sorted(found))} instead of "
                f"{', '.join(sorted(columns))}"
            )

    def save_model(self, model: keras.Model) -> None:
        """Write `model.keras`, which is either complete or not replaced."""
        if not self.replicas.is_chief:
            return
        with (
            self.replicas.alone(model),
            _files.replaced(self.model_file) as part,
        ):
            model.save(part)

    def _write_rows(self) -> None:
        with (
            _files.replaced(self.folder / HISTORY) as part,
            part.open("w", newline="", encoding="utf-8") as text,
        ):
            writer = csv.DictWriter(
                text, list(self.rows[0]), lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(self.rows)

    def _read_rows(self, num_rows: int) -> list[dict[str, Any]]:
        """Read the rows of all epochs up to that of the backup.

        Raises:
            ValueError: If the file is damaged.
        """
        file = self.folder / HISTORY
        if not num_rows:
            self._check_nothing_is_lost(file)
            return []
        try:
            _files.check_readable(file)
            with file.open(newline="", encoding="utf-8") as text:
                reader = csv.DictReader(text, strict=True)
                columns = reader.fieldnames or []
                rows = list(reader)[:num_rows]
            _check_rows(rows, num_rows, columns, self.has_score)
        except (OSError, ValueError, csv.Error) as error:
            raise self._damaged(error) from error
        return rows

    def _check_nothing_is_lost(self, file: pathlib.Path) -> None:
        """Raise an error if a new training would overwrite a trained model.

        One epoch in history.csv is allowed, since the file is written before
        the backup.
        """
        num_lines = file.read_bytes().count(b"\n") if file.is_file() else 0
        if num_lines > 2:
            raise ValueError(
                f"{self.folder} must contain a backup of the last epoch in "
                f"{RESUME} to resume the training. Received: "
                f"{num_lines - 1} epochs in {HISTORY} without a backup. Copies "
                "of a folder often leave out hidden folders such as this one. "
                f"Start another run from the model: --init-from {self.folder} "
                "--output OTHER. Or delete the folder to train again."
            )

    def _damaged(self, what: object) -> ValueError:
        return ValueError(
            f"{self.folder / HISTORY} must be as keras-deconv train wrote it, "
            f"since it contains the best score. Received: {what}. Restore the "
            f"file, or delete {self.folder} to train again."
        )


def _check_rows(
    rows: list[dict[str, Any]],
    num_rows: int,
    columns: Sequence[str],
    has_score: bool,
) -> None:
    if len(rows) < num_rows:
        raise ValueError(f"{len(rows)} of {num_rows} epochs")
    # The columns that select the best model and number the epochs.
    decisive = {"epoch", "loss", *([_SCORE] if has_score else [])}
    missing = decisive - set(columns)
    if missing:
        raise ValueError(f"missing column {', '.join(sorted(missing))}")
    if not has_score and _SCORE in columns:
        raise ValueError(f"a column {_SCORE} without validation data")
    if len(set(columns)) < len(columns):
        raise ValueError(f"a duplicate column in {', '.join(columns)}")
    for number, row in enumerate(rows):
        for name, value in row.items():
            if not _is_number(value, must_be_finite=name in decisive):
                raise ValueError(f"{name} {value!r} in epoch {number}")
        if float(row["epoch"]) != number:
            raise ValueError(f"epoch {row['epoch']!r} instead of {number}")
        if has_score and not 0 <= float(row[_SCORE]) <= 1:
            raise ValueError(f"{_SCORE} {row[_SCORE]!r} in epoch {number}")


def _is_number(value: Any, must_be_finite: bool) -> bool:
    try:
        return math.isfinite(float(value)) or not must_be_finite
    except (TypeError, ValueError):
        return False
