"""`keras-deconv predict`."""

from __future__ import annotations

import argparse
import collections
import glob
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_deconv import inference, visualize
from keras_deconv_command import runs

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def predict(options: argparse.Namespace) -> int:
    """Labels pictures."""
    files = _find(options.pictures)
    model, run = runs.load(options.model_path)
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    failures = []
    progress = keras.utils.Progbar(len(files), unit_name="picture")
    for file, name in zip(files, _output_names(files), strict=True):
        try:
            image = _read(file)
        except (OSError, tf.errors.OpError) as error:
            failures.append(f"{file} cannot be read: {_reason(error)}")
        else:
            _label(model, run, image, output / name, options)
        progress.add(1)
    print(f"Wrote {len(files) - len(failures)} labelled pictures to {output}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _find(arguments: Sequence[str]) -> list[pathlib.Path]:
    """Lists the pictures that files, folders and patterns stand for."""
    files: dict[pathlib.Path, None] = {}
    for argument in arguments:
        path = pathlib.Path(argument).expanduser()
        if path.is_dir():
            found = [
                file
                for file in sorted(path.rglob("*"))
                # Hidden files are what macOS leaves behind.
                if file.suffix.lower() in _SUFFIXES and file.name[0] != "."
            ]
        elif path.exists() or not glob.has_magic(argument):
            found = [path]
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            found = [pathlib.Path(match) for match in matches]
        if not found:
            raise ValueError(
                "PICTURE must be a picture, or a folder or pattern with some "
                f"({', '.join(_SUFFIXES)}). Received: {argument!r}, which has "
                "none."
            )
        files |= dict.fromkeys(found)
    return list(files)


def _output_names(files: Sequence[pathlib.Path]) -> list[str]:
    """Gives every picture a name of its own, without folders in it.

    That is its own name; where several have it, with its folders in front, and
    a number behind where that does not tell them apart.
    """
    absolute = [file.absolute() for file in files]
    stems = collections.Counter(file.stem for file in absolute)
    common = os.path.commonpath([file.parent for file in absolute])
    names: dict[str, None] = {}
    for file in absolute:
        name = file.stem
        if stems[name] > 1:
            name = "_".join(file.relative_to(common).with_suffix("").parts)
        number = 1
        unique = name
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names[unique] = None
    return list(names)


def _read(file: pathlib.Path) -> np.ndarray:
    return tf.io.decode_image(
        file.read_bytes(), channels=3, expand_animations=False
    ).numpy()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it must be a complete PNG, JPEG or BMP file"


def _label(
    model: keras.Model,
    run: runs.Run,
    image: np.ndarray,
    path: pathlib.Path,
    options: argparse.Namespace,
) -> None:
    """Predicts one picture and writes what is to be seen."""
    size = image.shape[:2]
    batch = image[None]
    if run.image_size:
        # As the pictures of the training were.
        batch = tf.image.resize(
            batch, run.image_size, "bilinear", antialias=True
        )
        batch = np.round(batch)
    batch = np.asarray(batch, "float32")
    if options.monte_carlo:
        sampled = _sample(model, batch, options)
        probabilities = sampled.probabilities
        figure = visualize.draw_uncertainty(
            batch, sampled, class_names=run.class_names, palette=run.palette
        )
        figure.savefig(f"{path}_uncertainty.png")
    else:
        probabilities = _probabilities(model, batch)
    # Class numbers have nothing in between; probabilities do.
    probabilities = tf.image.resize(probabilities, size, "bilinear")
    mask = np.argmax(probabilities[0], axis=-1).astype("uint8")
    void = run.ignore_class
    for kind, pixels in (
        ("mask", mask[..., None]),
        ("colour", visualize.colour_mask(mask, run.palette, void)),
        (
            "overlay",
            visualize.overlay(image, mask, run.palette, ignore_class=void),
        ),
    ):
        content = tf.io.encode_png(pixels).numpy()
        pathlib.Path(f"{path}_{kind}.png").write_bytes(content)


def _probabilities(model: keras.Model, batch: np.ndarray) -> np.ndarray:
    scores = np.asarray(model.predict_on_batch(batch), "float32")
    if inference.gives_probabilities(model):
        return scores
    return keras.ops.convert_to_numpy(keras.ops.softmax(scores))


def _sample(
    model: keras.Model, batch: np.ndarray, options: argparse.Namespace
) -> inference.MonteCarloPrediction:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*has no dropout")
        try:
            return inference.predict_monte_carlo(
                model,
                batch,
                options.monte_carlo,
                seed=options.seed,
                from_logits=not inference.gives_probabilities(model),
                verbose=0,
            )
        except UserWarning:
            raise ValueError(
                "--monte-carlo needs a model with dropout, such as "
                f"bayesian_segnet_basic. Received: {options.model_path!r}, "
                "which has none."
            ) from None
