"""`keras-deconv predict`."""

from __future__ import annotations

import collections
import glob
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deconv import _files, inference, visualize
from keras_deconv._graphs import gives_probabilities
from keras_deconv.data._errors import printable
from keras_deconv.data._images import IMAGE_SUFFIXES
from keras_deconv.data._pairs import list_files, list_pictures
from keras_deconv.inference import photos
from keras_deconv_cli import api, commands, progress, runs
from keras_deconv_cli.errors import explain

__all__ = ["labeler", "predict"]

# Messages name at most this many files.
_NUM_SHOWN = 5


def predict(options: commands.Predict) -> int:
    """Label images; return the exit code."""
    output = pathlib.Path(options.output)
    _check_is_outside(output, options.inputs)
    files = _find(options.inputs)
    model, run = runs.load(options.model_path)
    label = labeler(model, run, options.view)
    limits = options.value_range or run.value_range
    channels = model.input_shape[-1]
    runs.make_folder(output)
    failures = []
    bar = keras.utils.Progbar(
        len(files), verbose=progress.verbosity(), unit_name="image"
    )
    names = _output_names(files)
    _say_numbered(files, names)
    for file, name in zip(files, names, strict=True):
        try:
            image = photos.read(file, channels, limits)
            _label(label, run, image, output, name, options)
        except UserWarning:  # The model is unsuitable for all images.
            raise ValueError(
                "--monte-carlo needs a model with dropout, such as "
                f"bayesian_segnet_basic. Received: {options.model_path!r}, "
                "which does not have dropout."
            ) from None
        except (OSError, ValueError, tf.errors.OpError) as error:
            shown = api.plain(printable(file))
            # Errors while reading begin with the name of the file.
            reason = str(explain(error)).removeprefix(f"{shown}: ")
            failures.append(f"{shown} cannot be labeled: {reason}")
        bar.add(1)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    number = len(files) - len(failures)
    if number:
        skipped = f"; skipped {len(failures)}" if failures else ""
        print(f"Wrote {number} labeled images to {output}{skipped}")
        print(
            "The pixels of NAME_mask.png are class ids (0, 1, 2, ...), which "
            "look black in a viewer. NAME_color.png and NAME_overlay.png show "
            "the classes in color."
        )
    return 1 if failures else 0


def labeler(
    model: keras.Model, run: runs.Run, view: commands.View
) -> photos.Labeler:
    """Return a callable that predicts the mask of an image.

    Raises:
        ValueError: If the model does not support the options.
    """
    image_size: Any = run.image_size
    if view.tile:
        image_size = None
    elif view.at == photos.ORIGINAL:
        image_size = view.at
    return photos.labeler(
        model,
        image_size=image_size,
        tile=view.tile,
        overlap=view.overlap,
        flip=view.flip,
    )


def _check_is_outside(output: pathlib.Path, arguments: Sequence[str]) -> None:
    for argument in arguments:
        path = pathlib.Path(argument).expanduser()
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise ValueError(
                "--output must be outside the folders given as IMAGE, since "
                "the next run would label the masks as images. Received: "
                f"{output}, which is inside {argument!r}. Give another "
                "--output, or a pattern such as 'photos/*.jpg' as IMAGE."
            )


def _find(arguments: Sequence[str]) -> list[pathlib.Path]:
    """List the images of files, folders and patterns."""
    # The keys are absolute paths, so each image occurs once.
    files: dict[str, pathlib.Path] = {}
    for argument in arguments:
        path = pathlib.Path(argument).expanduser()
        if path.is_dir():
            found = list_pictures(path)
            _say_left_out(path, found)
        elif path.exists() or not glob.has_magic(argument):
            found = [path]
        else:
            matches = map(pathlib.Path, glob.glob(str(path), recursive=True))
            found = sorted(match for match in matches if match.is_file())
        if not found:
            raise ValueError(
                "IMAGE must be an image file, or a folder or pattern that "
                "contains image files. Received: "
                f"{argument!r}, which does not contain any "
                f"{', '.join(IMAGE_SUFFIXES)} file."
            )
        for file in found:
            files.setdefault(os.path.abspath(file), file)
    return list(files.values())


def _say_left_out(folder: pathlib.Path, images: Sequence[pathlib.Path]) -> None:
    read = set(images)
    others = [path for path in list_files(folder) if path not in read]
    if others:
        is_one = len(others) == 1
        names = [printable(path.name) for path in others[:_NUM_SHOWN]]
        more = ", ..." if len(others) > _NUM_SHOWN else ""
        print(
            f"warning: Skipped {len(others)} file{'' if is_one else 's'} in "
            f"{api.plain(printable(folder))} without a suffix of an image "
            f"({', '.join(IMAGE_SUFFIXES)}): "
            f"{', '.join(map(api.plain, names))}{more}",
            file=sys.stderr,
        )


def _output_names(files: Sequence[pathlib.Path]) -> list[str]:
    """Return a unique name without folders for each image.

    The name is that of the file. If several files have the same name, the names
    of their folders are added as a prefix. If names are still equal, a number
    is added as a suffix.
    """
    names: dict[str, None] = {}
    for name in _plain_names(files):
        number = 1
        unique = name
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names[unique] = None
    return list(names)


def _plain_names(files: Sequence[pathlib.Path]) -> list[str]:
    absolute = [file.absolute() for file in files]
    stems = collections.Counter(file.stem for file in absolute)
    common = os.path.commonpath([file.parent for file in absolute])
    return [
        "_".join(file.relative_to(common).with_suffix("").parts)
        if stems[file.stem] > 1
        else file.stem
        for file in absolute
    ]


def _say_numbered(files: Sequence[pathlib.Path], names: Sequence[str]) -> None:
    numbered = [
        f"{api.plain(printable(file))} as {api.plain(name)}"
        for file, plain, name in zip(
            files, _plain_names(files), names, strict=True
        )
        if name != plain
    ]
    if numbered:
        more = ", ..." if len(numbered) > _NUM_SHOWN else ""
        print(
            "Some images have the same name, so their masks get a number: "
            f"{', '.join(numbered[:_NUM_SHOWN])}{more}"
        )


def _label(
    label: photos.Labeler,
    run: runs.Run,
    image: np.ndarray,
    output: pathlib.Path,
    name: str,
    options: commands.Predict,
) -> None:
    """Label one image and write its mask, color mask and overlay."""

    def file(kind: str) -> pathlib.Path:
        return output / f"{name}_{kind}.png"

    if options.monte_carlo:
        size = image.shape[:2]
        if not label.size and (tile := label.one_tile(size)):
            raise ValueError(
                "--monte-carlo with --at original needs images whose height "
                "and width are multiples of the stride of the model "
                f"({tile[-1]}). Received: an image of {size[0]}x{size[1]}. "
                "Leave out --at, or resize the images."
            )
        batch = label.batch(image)
        sampled = _sample(label.model, batch, options)
        mask = photos.most_probable(sampled.probabilities, image.shape[:2])
        figure = visualize.draw_uncertainty(
            _visible(batch),
            sampled,
            class_names=run.class_names,
            palette=run.palette,
        )
        with _files.replaced(file("uncertainty")) as part:
            figure.savefig(part)
    else:
        mask = label(image)
    void = run.ignore_class
    for kind, pixels in (
        ("mask", mask[..., None]),
        ("color", visualize.color_mask(mask, run.palette, void)),
        (
            "overlay",
            visualize.overlay(
                np.round(_visible(image)).astype("uint8"),
                mask,
                run.palette,
                ignore_class=void,
            ),
        ),
    ):
        with _files.replaced(file(kind)) as part:
            part.write_bytes(tf.io.encode_png(pixels).numpy())


def _visible(images: np.ndarray) -> np.ndarray:
    """Return the channels to draw: the first three, or else the first one."""
    return images[..., : 3 if images.shape[-1] >= 3 else 1]


def _sample(
    model: keras.Model, batch: np.ndarray, options: commands.Predict
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
