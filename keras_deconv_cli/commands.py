"""The options of each command, as one frozen dataclass per command.

`parser` creates them. They are the only input of the modules that run the
commands. The fields have the names of the options. Paths are absolute.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

__all__ = [
    "Check",
    "Command",
    "Data",
    "Evaluate",
    "Export",
    "Info",
    "Predict",
    "Results",
    "Train",
    "View",
]


@dataclasses.dataclass(frozen=True)
class Data:
    """A dataset, or folders of images and masks.

    If `dataset` and `images` are both None, the command uses the data of a run.
    """

    dataset: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    images: str | None = None
    masks: str | None = None
    val_images: str | None = None
    val_masks: str | None = None
    # The command first reads this file into the fields below.
    label_map: str | None = None
    classes: int | tuple[str, ...] | None = None
    labels: Mapping[int, int] | Mapping[int, str] | None = None
    foreground: int | None = None
    void_labels: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    palette: tuple[tuple[int, int, int], ...] | str | None = None
    void_colors: tuple[tuple[int, int, int], ...] = ()
    image_suffix: str = ""
    mask_suffix: str = ""
    lossy_masks: bool = False
    # None: as many as the model has, in commands that load a model.
    channels: int | None = 3
    # None: the value of the run, or "error" if there is not a run.
    unmatched: str | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """The output folder of a training, and its optional files."""

    output: str | None
    preview_every: int
    tensorboard: bool


@dataclasses.dataclass(frozen=True)
class Train:
    """`keras-deconv train`; None means that the data decide the value."""

    data: Data
    results: Results
    train_split: str
    val_split: str | None
    model: str
    encoder: str | None
    skips: str | None
    decoder: str
    encoder_weights: str | None
    weights: str | None
    init_from: str | None
    module: str | None
    extra_classifier: bool
    squeeze_excitation: bool
    decoder_activation: str | None
    image_size: tuple[int, int] | None
    crop: tuple[int, int] | None
    epochs: int | None
    batch_size: int
    cache: str
    learning_rate: float
    loss: str
    class_weights: str
    augment: bool
    mixed_precision: str | None
    early_stopping: int | None
    seed: int
    strategy: str
    smoke: bool

    def record(self) -> dict[str, Any]:
        """Return the options that affect the weights, in the types of JSON."""
        values = dataclasses.asdict(self)
        del values["results"]
        values = values.pop("data") | values
        record: dict[str, Any] = json.loads(json.dumps(values))
        return record


@dataclasses.dataclass(frozen=True)
class View:
    """How images are fed to a network; None and False mean as in training."""

    at: str | None
    tile: tuple[int, int] | None
    overlap: int | None
    flip: bool


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """`keras-deconv evaluate`."""

    data: Data
    view: View
    model_path: str
    split: str | None
    batch_size: int
    json: str | None
    module: str | None


@dataclasses.dataclass(frozen=True)
class Predict:
    """`keras-deconv predict`."""

    view: View
    model_path: str
    inputs: tuple[str, ...]
    output: str
    value_range: tuple[float, float] | None
    monte_carlo: int | None
    seed: int
    module: str | None


@dataclasses.dataclass(frozen=True)
class Export:
    """`keras-deconv export`; the folders contain the training dataset."""

    data_dir: str | None
    manual_dir: str | None
    model_path: str
    output: str
    format: str
    quantize: str | None
    io_dtype: str | None
    module: str | None


@dataclasses.dataclass(frozen=True)
class Check:
    """`keras-deconv check`."""

    data: Data
    split: str | None
    allow_missing_classes: bool


@dataclasses.dataclass(frozen=True)
class Info:
    """`keras-deconv info`."""

    subject: str | None
    data_dir: str | None
    module: str | None


Command = Train | Evaluate | Predict | Export | Check | Info
