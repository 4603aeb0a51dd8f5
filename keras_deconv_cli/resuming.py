"""The output folder of a training, which is locked and can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from keras_deconv import _files
from keras_deconv_cli import api, commands, runs
from keras_deconv_cli.history import HISTORY, RESUME

__all__ = [
    "BY_CLASS",
    "PREVIEWS",
    "TENSORBOARD",
    "alone",
    "default_output",
    "delete_leftovers",
    "delete_leftovers_if_free",
    "earlier_epochs",
    "is_finished",
    "resumed",
    "what_is_kept",
]

# Options that set the locations of files and of the cache. They do not change
# the weights, with one exception: without `--cache memory`, more than 1000
# images are shuffled in another order.
_HARMLESS = {"data_dir", "manual_dir", "cache", "module"}
# How runs were trained before these options existed.
_OLDER = {
    "strategy": "one",
    "unmatched": "error",
    "void_colors": [],
    "image_suffix": "",
    "lossy_masks": False,
    "channels": 3,
    "cache": "memory",
    "extra_classifier": False,
    "squeeze_excitation": False,
}
# Other files in the folder of a run.
BY_CLASS, PREVIEWS, TENSORBOARD = "per_class.csv", "previews", "tensorboard"
_LOCK = ".keras_deconv.lock"
_WRITTEN = (
    *(runs.MODEL_FILE, HISTORY, BY_CLASS, PREVIEWS),
    *(TENSORBOARD, RESUME),
)


def resumed(
    options: commands.Train, folder: pathlib.Path
) -> tuple[commands.Train, runs.Run | None]:
    """Fill in options from the run in a folder; return them and the run."""
    before = runs.read(folder)
    if before is None:
        _check_is_free(folder)
        return options, None
    return _as_before(options, before, folder), before


def is_finished(
    options: commands.Train, before: runs.Run | None, folder: pathlib.Path
) -> bool:
    """Return whether the training is complete; if so, print it."""
    if before is None or not before.is_finished or _is_longer(options, before):
        return False
    print(
        f"The training in {folder} is finished. To train longer, use a larger "
        "--epochs. To train again, use another --output or delete the folder."
    )
    return True


def _is_longer(options: commands.Train, before: runs.Run) -> bool:
    """Return whether `--epochs` is larger than the epochs of the run."""
    number = before.options.get("epochs")
    if not number or not options.epochs or options.smoke:
        return False
    return bool(options.epochs > number)


def earlier_epochs(
    options: commands.Train,
    before: runs.Run | None,
    num_done: int,
    folder: pathlib.Path,
) -> list[dict[str, int]]:
    """Return earlier values of `--epochs` for `run.json`.

    Raises:
        ValueError: If the backup of the last epoch of a finished run does not
            exist.
    """
    if before is None:
        return []
    if not _is_longer(options, before):
        return before.earlier_epochs
    number = before.options["epochs"]
    if before.is_finished and not num_done:
        raise ValueError(
            "--epochs can be raised only if the backup of the last epoch "
            f"exists. Received: --epochs {options.epochs} for {folder}, which "
            f"was trained for {number} epochs and does not have a backup in "
            f"{RESUME}. Start another run from its model: --init-from {folder} "
            "--output OTHER"
        )
    print(
        f"Training for {options.epochs} epochs instead of {number}. From epoch "
        f"{num_done + 1}, the learning rate decays over {options.epochs} "
        "epochs."
    )
    return [*before.earlier_epochs, {"epochs": number, "trained": num_done}]


def delete_leftovers(folder: pathlib.Path) -> None:
    """Delete incomplete files of a training that was killed."""
    for each in (folder, folder / RESUME, folder / PREVIEWS):
        _files.clean(each)


def delete_leftovers_if_free(folder: pathlib.Path) -> None:
    """Delete incomplete files unless the folder is in use or read-only."""
    with (
        contextlib.suppress(OSError, ValueError),
        _files.locked(folder / _LOCK, wait=False),
    ):
        delete_leftovers(folder)


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Create a folder and lock it against other trainings.

    Raises:
        ValueError: If another training holds the lock.
        ValueError: If the lock file cannot be created.
    """
    runs.make_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_files.locked(folder / _LOCK, wait=False))
        except BlockingIOError:
            raise ValueError(
                "--output must be a folder that is not in use by another "
                f"training. Received: {folder}, which another process has "
                "locked. Wait until it ends, or give another --output."
            ) from None
        yield


def what_is_kept(folder: pathlib.Path) -> str:
    """Return a text on the files that remain when the disk is full."""
    kept = [name for name in _WRITTEN if (folder / name).exists()]
    return (
        f"{folder} keeps the files that were already written"
        + (f" ({', '.join(kept)})" if kept else "")
        + ". Free some space and repeat the command to resume."
    )


def default_output(options: commands.Train) -> str:
    """Return the folder of a training without --output."""
    name = options.data.dataset or pathlib.Path(str(options.data.images)).name
    network = options.encoder or options.model
    # The name of a file without its folders, or of a function without its
    # module.
    network = pathlib.Path(network).name.removesuffix(".keras")
    network = network.rpartition(":")[2]
    return f"runs/{re.sub(r'[^A-Za-z0-9]+', '_', name)}_{network}"


def _check_is_free(folder: pathlib.Path) -> None:
    """Raise an error if files that are not part of a run would be replaced."""
    foreign = [name for name in _WRITTEN if os.path.lexists(folder / name)]
    if foreign:
        raise ValueError(
            "--output must be a folder of a run, or a folder without files "
            f"that would be replaced. Received: {folder}, which contains "
            f"{', '.join(foreign)} but not {runs.RUN_FILE}. Give another "
            "--output."
        )


def _as_before(
    options: commands.Train, before: runs.Run, folder: pathlib.Path
) -> commands.Train:
    """Take options that are not given from the run.

    Raises:
        ValueError: If given options differ from those of the run.
    """
    recorded = before.options
    changes: dict[str, Any] = {}
    for name, option in api.OPTIONS.items():
        if option.is_decided and getattr(options, name) is None:
            value = recorded.get(name)
            changes[name] = tuple(value) if isinstance(value, list) else value
    options = dataclasses.replace(options, **changes)
    differences = [
        f"{api.flag(name)} was {recorded.get(name)} and is {value}"
        + (
            " (it can only be raised)"
            if name == "epochs" and recorded.get(name) and not options.smoke
            else ""
        )
        for name, value in options.record().items()
        if name not in _HARMLESS
        and not (name == "epochs" and _is_longer(options, before))
        and recorded.get(name, _OLDER.get(name)) != value
    ]
    if differences:
        raise ValueError(
            f"{folder} contains a run with other options: "
            f"{'; '.join(differences)}. Give another --output, or delete "
            f"{folder}."
        )
    return options
