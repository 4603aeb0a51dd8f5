"""`keras-deconv check` and `info`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
import platform

import keras
import tensorflow as tf

import keras_deconv
from keras_deconv import data
from keras_deconv.data._catalog import names
from keras_deconv.data._sets import Color
from keras_deconv_cli import api, commands, progress, runs, sources

__all__ = ["check", "info"]


def check(options: commands.Check) -> int:
    """Read a dataset and report its problems; return the exit code."""
    where, is_matched = sources.resolved(options.data), True
    if where.images:
        # Unmatched files are reported here. The other files are checked below.
        pairing = sources.pairing(where)
        is_matched = where.unmatched == "skip" or not pairing.problems
        where = dataclasses.replace(where, unmatched="skip")
        for line in pairing.lines():
            print(f"{'skipped' if is_matched else 'NOT OK'}: {api.plain(line)}")
        if not is_matched and pairing.files:
            print(api.in_options(pairing.ways_out()))
    source = sources.find(where, verbose=False)
    dataset = source.load(
        options.split or "train",
        image_size=None,
        # An unreadable image would hide other images in the batch.
        batch_size=1,
        shuffle=False,
        cache=False,
    )
    report = data.check(
        dataset,
        source.num_classes,
        class_names=source.class_names,
        allow_missing_classes=options.allow_missing_classes,
        verbose=progress.verbosity(),
    )
    print(api.in_options(str(report)))
    if report.absent_classes and not options.allow_missing_classes:
        print("Use --allow-missing-classes to accept classes that never occur.")
    return 0 if report.ok and is_matched else 1


def info(options: commands.Info) -> int:
    """Describe a model, a dataset or the installation; return the exit code."""
    if options.subject is None:
        _describe_installation()
    elif _is_model(options.subject):
        _describe_model(options.subject)
    else:
        _describe_set(options.subject, options.data_dir)
    return 0


def _is_model(subject: str) -> bool:
    """Return whether the user means a model, which may not exist."""
    path = pathlib.Path(subject).expanduser()
    return (
        path.is_file()
        or subject.endswith(".keras")
        or any((path / n).exists() for n in (runs.MODEL_FILE, runs.RUN_FILE))
    )


def _describe_installation() -> None:
    print(f"keras_deconv {keras_deconv.__version__}")
    print(f"Python {platform.python_version()}")
    for package in ("tensorflow", "keras", "tensorflow-datasets", "numpy"):
        print(f"{package} {importlib.metadata.version(package)}")
    print(f"Keras backend: {keras.backend.backend()}")
    devices = [device.name for device in tf.config.list_physical_devices()]
    print(f"Devices: {', '.join(devices)}")
    print(f"Datasets: {', '.join(names())}")
    for option in ("model", "encoder", "decoder"):
        print(f"{option.capitalize()}s: {', '.join(api.CHOICES[option])}")
    for suffixes, networks in api.WEIGHT_FILES.items():
        print(f"Weights in {suffixes}: {', '.join(networks)}")


def _describe_model(path: str) -> None:
    model, run = runs.load(path)
    height, width = run.image_size or ("any height", "any width")
    print(
        f"{api.plain(model.name)}: {len(model.layers)} layers, "
        f"{model.count_params():,} parameters"
    )
    print(f"Image size {height} x {width}; other images are resized")
    if run.data is not None:
        source = run.data.dataset or run.data.images
        state = "finished" if run.is_finished else "not finished"
        smoke = ", smoke run" if run.options.get("smoke") else ""
        print(f"Trained on {source} ({state}{smoke})")
    _print_classes(run.class_names, run.palette)


def _describe_set(name: str, data_dir: str | None) -> None:
    entry = sources.describe(name, data_dir)
    print(f"{entry.name}: {entry.num_classes} classes")
    print(f"Splits with masks: {', '.join(entry.splits)}")
    _print_classes(entry.class_names, entry.palette)


def _print_classes(
    names: list[str] | tuple[str, ...],
    palette: list[list[int]] | tuple[Color, ...],
) -> None:
    for number, (name, color) in enumerate(zip(names, palette, strict=True)):
        red, green, blue = color
        print(f"{number:>4}  #{red:02x}{green:02x}{blue:02x}  {name}")
