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

from keras_deconv import _files, inference, visualize
from keras_deconv._graphs import gives_probabilities
from keras_deconv.data.folders import list_pictures
from keras_deconv_cli import explain, runs

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def predict(options: argparse.Namespace) -> int:
    """Labels pictures."""
    output = pathlib.Path(options.output)
    _check_is_outside(output, options.pictures)
    files = _find(options.pictures)
    model, run = runs.load(options.model_path)
    output.mkdir(parents=True, exist_ok=True)
    failures = []
    progress = keras.utils.Progbar(len(files), unit_name="picture")
    for file, name in zip(files, _output_names(files), strict=True):
        try:
            _label(model, run, _read(file), output, name, options)
        except UserWarning:  # The fault of the model, not of a picture.
            raise ValueError(
                "--monte-carlo needs a model with dropout, such as "
                f"bayesian_segnet_basic. Received: {options.model_path!r}, "
                "which has none."
            ) from None
        except (OSError, ValueError, tf.errors.OpError) as error:
            failures.append(f"{file} cannot be labeled: {explain(error)}")
        progress.add(1)
    print(f"Wrote {len(files) - len(failures)} labeled pictures to {output}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _check_is_outside(output: pathlib.Path, arguments: Sequence[str]) -> None:
    for argument in arguments:
        path = pathlib.Path(argument).expanduser()
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise ValueError(
                "--output must lie outside of the folders given as PICTURE, or "
                "masks would be labeled as pictures the next time. Received: "
                f"{output}, which lies in {argument!r}. Give another --output, "
                "or a pattern such as 'photos/*.jpg'."
            )


def _find(arguments: Sequence[str]) -> list[pathlib.Path]:
    """Lists the pictures that files, folders and patterns stand for."""
    # By absolute path, for each picture to be there once.
    files: dict[str, pathlib.Path] = {}
    for argument in arguments:
        path = pathlib.Path(argument).expanduser()
        if path.is_dir():
            found = list_pictures(path, _SUFFIXES)
        elif path.exists() or not glob.has_magic(argument):
            found = [path]
        else:
            matches = map(pathlib.Path, glob.glob(str(path), recursive=True))
            found = sorted(match for match in matches if match.is_file())
        if not found:
            raise ValueError(
                "PICTURE must be a picture, or a folder or pattern with some "
                f"({', '.join(_SUFFIXES)}). Received: {argument!r}, which has "
                "none."
            )
        for file in found:
            files.setdefault(os.path.abspath(file), file)
    return list(files.values())


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
    try:
        return tf.io.decode_image(
            file.read_bytes(), channels=3, expand_animations=False
        ).numpy()
    except tf.errors.OpError as error:
        raise ValueError(
            "it must be a complete PNG, JPEG or BMP file"
        ) from error


def _label(
    model: keras.Model,
    run: runs.Run,
    image: np.ndarray,
    output: pathlib.Path,
    name: str,
    options: argparse.Namespace,
) -> None:
    """Predicts one picture and writes what is to be seen."""

    def file(kind: str) -> pathlib.Path:
        return output / f"{name}_{kind}.png"

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
        probabilities = _finite(sampled.probabilities)
        figure = visualize.draw_uncertainty(
            batch, sampled, class_names=run.class_names, palette=run.palette
        )
        with _files.replaced(file("uncertainty")) as part:
            figure.savefig(part)
    else:
        probabilities = _finite(_probabilities(model, batch))
    mask = _most_probable(probabilities, size)
    void = run.ignore_class
    for kind, pixels in (
        ("mask", mask[..., None]),
        ("color", visualize.color_mask(mask, run.palette, void)),
        (
            "overlay",
            visualize.overlay(image, mask, run.palette, ignore_class=void),
        ),
    ):
        with _files.replaced(file(kind)) as part:
            part.write_bytes(tf.io.encode_png(pixels).numpy())


def _most_probable(
    probabilities: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The class of each pixel, of probabilities that are resized to a size.

    Class numbers have nothing in between; probabilities do. Class by class, as
    all of them at the size of a photo take gigabytes.
    """
    mask = np.zeros(size, "uint8")
    highest = np.full(size, -np.inf, "float32")
    for number in range(probabilities.shape[-1]):
        resized = tf.image.resize(
            probabilities[..., number : number + 1], size, "bilinear"
        ).numpy()[0, ..., 0]
        # Of equals the first, as argmax does.
        mask[resized > highest] = number
        np.maximum(resized, highest, out=highest)
    return mask


def _finite(probabilities: np.ndarray) -> np.ndarray:
    if not np.isfinite(probabilities).all():
        raise ValueError("the model's scores are not finite")
    return probabilities


def _probabilities(model: keras.Model, batch: np.ndarray) -> np.ndarray:
    scores = np.asarray(model.predict_on_batch(batch), "float32")
    if gives_probabilities(model):
        return scores
    return keras.ops.convert_to_numpy(keras.ops.softmax(scores))


def _sample(
    model: keras.Model, batch: np.ndarray, options: argparse.Namespace
) -> inference.MonteCarloPrediction:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*has no dropout")
        return inference.predict_monte_carlo(
            model,
            batch,
            options.monte_carlo,
            seed=options.seed,
            from_logits=not gives_probabilities(model),
            verbose=0,
        )
