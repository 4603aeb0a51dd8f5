"""`keras-deconv check`, `info` and `export`."""

from __future__ import annotations

import argparse
import importlib.metadata
import pathlib
import platform

import keras
import tensorflow as tf

import keras_deconv
from keras_deconv import data
from keras_deconv.data import catalog
from keras_deconv_cli import parser, runs, sources

# More hardly widen the range of an activation.
_NUM_REPRESENTATIVE = 100


def check(options: argparse.Namespace) -> int:
    """Reads a data set and reports its faults."""
    source = sources.from_options(options)
    dataset = source.load(
        options.split or "train",
        image_size=None,
        # Of a batch all is lost if one is unreadable.
        batch_size=1,
        shuffle=False,
        cache=False,
    )
    report = data.check(dataset, source.num_classes)
    print(report)
    names = enumerate(source.class_names)
    print("Classes: " + ", ".join(f"{number} {name}" for number, name in names))
    return 0 if report.ok else 1


def export(options: argparse.Namespace) -> int:
    """Writes a model for elsewhere."""
    model, run = runs.load(options.model_path)
    if options.format == "saved_model":
        keras_deconv.export.to_saved_model(
            model,
            options.output,
            class_names=run.class_names,
            palette=run.palette,
            image_size=run.image_size,
        )
    elif options.format == "tflite":
        images = None
        if options.quantize == "int8":
            images = _representative_images(options, run)
        keras_deconv.export.to_tflite(
            model,
            options.output,
            options.quantize,
            representative_images=images,
            image_size=run.image_size,
        )
    else:
        keras_deconv.export.to_onnx(
            model, options.output, image_size=run.image_size
        )
    print(f"Wrote {options.output}")
    return 0


def _representative_images(
    options: argparse.Namespace, run: runs.Run
) -> tf.data.Dataset:
    """Images that the model was trained with."""
    if not run.options:
        raise ValueError(
            "--quantize int8 needs pictures of a training. Received: "
            f"{options.model_path!r} without {runs.RUN_FILE} beside it. "
            "--quantize dynamic needs none, and "
            "keras_deconv.export.to_tflite takes pictures of your own."
        )
    source = sources.of_run(run.options, options)
    split = run.options["train_split"]
    # Without a size, pictures may differ in theirs.
    dataset = source.load(
        split, image_size=run.image_size, batch_size=1, cache=False
    )
    return dataset.take(_NUM_REPRESENTATIVE)


def info(options: argparse.Namespace) -> int:
    """Tells what a model or a data set is, or what there is."""
    if options.subject is None:
        _describe_installation()
    elif _is_model(options.subject):
        _describe_model(options.subject)
    else:
        _describe_set(options.subject, options.data_dir)
    return 0


def _is_model(subject: str) -> bool:
    """Whether it is a model, there or not, and no name of a data set."""
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
    print(f"Data sets: {', '.join(catalog.names())}")
    print(f"Models: {', '.join(parser.MODELS)}")
    print(f"Decoders: {', '.join(parser.DECODERS)}")


def _describe_model(path: str) -> None:
    model, run = runs.load(path)
    height, width = run.image_size or ("any height", "any width")
    print(
        f"{model.name}: {len(model.layers)} layers, "
        f"{model.count_params():,} parameters"
    )
    print(f"Pictures of {height} x {width}, resized before prediction")
    if run.options:
        source = run.options["dataset"] or run.options["images"]
        state = "finished" if run.is_finished else "not finished"
        print(f"Trained on {source} ({state})")
    _print_classes(run.class_names, run.palette)


def _describe_set(name: str, data_dir: str | None) -> None:
    entry = data.describe(name, data_dir=data_dir)
    print(f"{entry.name}: {entry.num_classes} classes")
    print(f"Splits with masks: {', '.join(entry.splits)}")
    _print_classes(entry.class_names, entry.palette)


def _print_classes(
    names: list[str] | tuple[str, ...],
    palette: list[list[int]] | tuple[catalog.Color, ...],
) -> None:
    for number, (name, color) in enumerate(zip(names, palette, strict=True)):
        red, green, blue = color
        print(f"{number:>4}  #{red:02x}{green:02x}{blue:02x}  {name}")
