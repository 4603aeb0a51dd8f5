"""The folder of a training: who writes there, and what is resumed."""

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

# Options that say where files are, on this machine or after reading; they do
# not change the weights, except that more than 1000 images that are not in
# memory have another order.
_HARMLESS = {"data_dir", "manual_dir", "cache", "module"}
# What older runs did before there was an option.
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
# What is written into the folder of a run besides run.json.
BY_CLASS, PREVIEWS, TENSORBOARD = "per_class.csv", "previews", "tensorboard"
_LOCK = ".keras_deconv.lock"
_WRITTEN = (
    *(runs.MODEL_FILE, HISTORY, BY_CLASS, PREVIEWS),
    *(TENSORBOARD, RESUME),
)


def resumed(
    options: commands.Train, folder: pathlib.Path
) -> tuple[commands.Train, runs.Run | None]:
    """The options, completed by those of the run in a folder, and that run."""
    before = runs.read(folder)
    if before is None:
        _check_is_free(folder)
        return options, None
    return _as_before(options, before, folder), before


def is_finished(
    options: commands.Train, before: runs.Run | None, folder: pathlib.Path
) -> bool:
    """Whether nothing is left to do; the user is told so."""
    if before is None or not before.is_finished or _is_longer(options, before):
        return False
    print(
        f"The training in {folder} is finished. To train longer give a larger "
        "--epochs. To train again give another --output, or delete the folder."
    )
    return True


def _is_longer(options: commands.Train, before: runs.Run) -> bool:
    """Whether there are more epochs than the run was to have."""
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
    """The numbers of epochs that the run had before, for `run.json`.

    Raises:
        ValueError: the last epoch of a finished run is not there.
    """
    if before is None:
        return []
    if not _is_longer(options, before):
        return before.earlier_epochs
    number = before.options["epochs"]
    if before.is_finished and not num_done:
        raise ValueError(
            "--epochs can be raised only while the last epoch is kept. "
            f"Received: --epochs {options.epochs} for {folder}, which has "
            f"{number} and no backup in {RESUME}. Start another run from its "
            f"model: --init-from {folder} --output OTHER"
        )
    print(
        f"Trained for {options.epochs} epochs instead of {number}: from epoch "
        f"{num_done + 1} on, the learning rate is that of {options.epochs}."
    )
    return [*before.earlier_epochs, {"epochs": number, "trained": num_done}]


def delete_leftovers(folder: pathlib.Path) -> None:
    """Deletes what was half written when a training was killed."""
    for each in (folder, folder / RESUME, folder / PREVIEWS):
        _files.clean(each)


def delete_leftovers_if_free(folder: pathlib.Path) -> None:
    """Leaves a folder as it is that is in use, or cannot be changed."""
    with (
        contextlib.suppress(OSError, ValueError),
        _files.locked(folder / _LOCK, wait=False),
    ):
        delete_leftovers(folder)


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Keep other trainings out of a folder, which is made.

    Raises:
        ValueError: If there is another one, or a file of the lock's name.
    """
    runs.make_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_files.locked(folder / _LOCK, wait=False))
        except BlockingIOError:
            raise ValueError(
                "--output must be a folder that no other training is writing "
                f"to. Received: {folder}, which another process holds. Wait "
                "until it ends, or give another --output."
            ) from None
        yield


def what_is_kept(folder: pathlib.Path) -> str:
    """What the user still has when the disk is full."""
    kept = [name for name in _WRITTEN if (folder / name).exists()]
    return (
        f"{folder} keeps what was written before"
        + (f" ({', '.join(kept)})" if kept else "")
        + ". Free some space and repeat the command to resume."
    )


def default_output(options: commands.Train) -> str:
    """The folder of a training that was started without --output."""
    name = options.data.dataset or pathlib.Path(str(options.data.images)).name
    network = options.encoder or options.model
    # A file without its folders, a function without its module.
    network = pathlib.Path(network).name.removesuffix(".keras")
    network = network.rpartition(":")[2]
    return f"runs/{re.sub(r'[^A-Za-z0-9]+', '_', name)}_{network}"


def _check_is_free(folder: pathlib.Path) -> None:
    """Refuses a folder with files that are not of a run."""
    foreign = [name for name in _WRITTEN if os.path.lexists(folder / name)]
    if foreign:
        raise ValueError(
            "--output must be a folder with a run, or without files that "
            f"would be replaced. Received: {folder}, which has "
            f"{', '.join(foreign)} without {runs.RUN_FILE}. Give another "
            "--output."
        )


def _as_before(
    options: commands.Train, before: runs.Run, folder: pathlib.Path
) -> commands.Train:
    """The options with those of the run where they were left open.

    Raises:
        ValueError: others differ.
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
            f"{folder} holds a run with other options: "
            f"{'; '.join(differences)}. Give another --output, or delete "
            f"{folder}."
        )
    return options
