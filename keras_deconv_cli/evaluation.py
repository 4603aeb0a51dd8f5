"""`keras-deconv evaluate`."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deconv import _files, metrics
from keras_deconv.data._pairs import list_pictures, name_of
from keras_deconv.data._sets import generic_names
from keras_deconv_cli import (
    commands,
    prediction,
    progress,
    runs,
    sources,
    splits,
)

__all__ = ["Scores", "evaluate", "measure"]

_SCORES = {
    "global_accuracy": "global accuracy",
    "class_accuracy": "class accuracy",
    "mean_iou": "mean IoU",
    "boundary_f1": "boundary F1",
}
# At most this many classes with other names than in the model are listed.
_NUM_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of a model: overall, and per class by name.

    The accuracy of a class that does not occur in the masks is None. Its IoU is
    0 if the model predicts it.
    """

    overall: dict[str, float]
    classes: dict[str, dict[str, float | None]]

    def __str__(self) -> str:
        width = max(16, *(len(name) + 2 for name in self.classes))
        lines = [
            f"{'class':<{width}}{'accuracy':>10}{'IoU':>10}{'F1':>10}",
            *(
                f"{name:<{width}}" + _row(scores)
                for name, scores in self.classes.items()
            ),
            "   ".join(
                f"{name} {_shown(self.overall[key])}"
                for key, name in _SCORES.items()
            ),
        ]
        return "\n".join(lines)


def evaluate(options: commands.Evaluate) -> int:
    """Evaluate a model; return the exit code."""
    if options.json:
        _check_json(options.json)
    model, run = runs.load(options.model_path)
    given = sources.resolved(options.data)
    if given.channels is None:
        given = dataclasses.replace(given, channels=model.input_shape[-1])
    options = dataclasses.replace(options, data=_as_trained(given, run))
    is_own = not (options.data.dataset or options.data.images)
    source = _source(options, run, is_own)
    if source.num_classes != run.num_classes:
        raise ValueError(
            "The dataset must have as many classes as the model. Received: "
            f"{source.num_classes} classes in {source}, {run.num_classes} in "
            f"{options.model_path}."
        )
    is_permuted = sorted(source.class_names) == sorted(run.class_names)
    if is_permuted and list(source.class_names) != run.class_names:
        raise ValueError(
            "The dataset must have the same order of classes as the model: "
            f"{', '.join(run.class_names)}. Received: "
            f"{', '.join(source.class_names)}."
        )
    for line in _about_names(run, source):
        print(line)
    # A model file without a run does not contain the names.
    run = dataclasses.replace(run, class_names=list(source.class_names))
    available = source.sizes()
    validation = run.splits.get("validation") if is_own else None
    split = options.split or next(
        split
        for split in ("test", validation, "validation", *available)
        if split in available or (split and split == validation)
    )
    print(f"Evaluating on {source}, split {split}.")
    if source.value_range:
        text = "Image values: {:g} to {:g}, scaled to 0 to 255"
        assumed = options.data.value_range is None
        print(
            text.format(*source.value_range)
            + (" (assumed; change it with --value-range)" if assumed else "")
        )
    was_trained_on = _shares(source, split, run, "train")
    chose_model = _shares(source, split, run, "validation")
    if was_trained_on:
        print(
            "warning: The model was trained on images of this split, so scores "
            "on other images will be lower. Evaluate held-out images with "
            "--split, or with --images and --masks."
        )
    if chose_model:
        print(
            "The model was selected on this split, so scores on other images "
            "may be lower."
        )
    is_viewed = options.view != commands.View(None, None, None, False)
    size = None if is_viewed else run.image_size
    if is_viewed:
        # Errors of the options are raised before the data are read.
        label = prediction.labeler(model, run, options.view)
        print(
            "Masks are compared at the size of the images, as keras-deconv "
            "predict writes them with these options."
        )
    dataset = source.load(
        split,
        image_size=size,
        # Without an image size, images can have different sizes.
        batch_size=options.batch_size if size else 1,
        shuffle=False,
        cache=False,
    )
    if is_viewed:
        # predict reads images with these dtypes, and rounds resized ones.
        dtype = "float32" if source.value_range else "uint8"
        model, dataset = _unchanged(), _labeled(dataset, label, dtype)
    scores = measure(model, dataset, run, progress.verbosity())
    print(scores)
    if options.json:
        _write_json(
            pathlib.Path(options.json),
            {
                "dataset": str(source),
                "split": split,
                "split_was_trained_on": was_trained_on,
                "split_chose_model": chose_model,
                **scores.overall,
                "classes": scores.classes,
            },
        )
    return 0


def _about_names(run: runs.Run, source: sources.Source) -> Iterator[str]:
    """Yield a note if classes have other names than in the training."""
    given = list(source.class_names)
    unnamed = list(generic_names(run.num_classes))
    if unnamed in (run.class_names, given):
        return
    different = [
        f"class {number} is {before!r} in the model and {now!r} here"
        for number, (before, now) in enumerate(
            zip(run.class_names, given, strict=True)
        )
        if before != now
    ]
    if different:
        text = "; ".join(different[:_NUM_SHOWN])
        number = len(different) - _NUM_SHOWN
        more = f"; {number} more differ" if number > 0 else ""
        yield f"{text[0].upper()}{text[1:]}{more}."


def _as_trained(given: commands.Data, run: runs.Run) -> commands.Data:
    """Fill in the data options that are not given.

    If the user does not describe the masks of folders, they are read like those
    of the training. If the model was not trained on folders, the values in the
    masks are the class ids of the model.
    """
    before = run.data
    if given.dataset:
        if before is None or _base_name(given) != _base_name(before):
            return given
        return dataclasses.replace(
            given,
            data_dir=given.data_dir or before.data_dir,
            manual_dir=given.manual_dir or before.manual_dir,
        )
    if not given.images or any((given.classes, given.labels, given.foreground)):
        return given
    if before is None or not before.images:
        names = ", ".join(f"{i} {n}" for i, n in enumerate(run.class_names))
        print(
            f"Values in the masks: {names} (assumed; change it with --classes, "
            "--labels or --label-map)"
        )
        return dataclasses.replace(given, classes=tuple(run.class_names))
    print("The masks are read with the mask options of the training.")
    default = commands.Data()
    changes = {
        field.name: getattr(given, field.name)
        for field in dataclasses.fields(given)
        if getattr(given, field.name) != getattr(default, field.name)
    }
    changes |= {"val_images": None, "val_masks": None}
    return dataclasses.replace(before, **changes)


def _source(
    options: commands.Evaluate, run: runs.Run, is_own: bool
) -> sources.Source:
    """Return the given data, or the data of the training."""
    if not is_own:
        source = sources.find(options.data)
        if source.value_range or not run.value_range:
            return source
        # The images of the training were scaled from this range.
        low, high = run.value_range
        data = dataclasses.replace(options.data, value_range=(low, high))
        return dataclasses.replace(
            source, options=data, value_range=data.value_range
        )
    if run.data is None:
        raise ValueError(
            "DATASET or --images must be given for a model without "
            f"{runs.RUN_FILE} in its folder. Received: {options.model_path!r}"
        )
    data = sources.moved(
        run.data,
        data_dir=options.data.data_dir,
        manual_dir=options.data.manual_dir,
        value_range=options.data.value_range,
        unmatched=options.data.unmatched,
    )
    return sources.find(data, run.files)


def _labeled(
    dataset: tf.data.Dataset,
    label: Callable[[np.ndarray], np.ndarray],
    dtype: str,
) -> tf.data.Dataset:
    """Replace the images of a dataset by their predicted masks."""
    _, truths = dataset.element_spec

    def pairs() -> Iterator[tuple[np.ndarray, tf.Tensor]]:
        for images, masks in dataset:
            images = images.numpy().astype(dtype)
            yield np.stack([label(image) for image in images]), masks

    labeled = tf.data.Dataset.from_generator(
        pairs,
        output_signature=(tf.TensorSpec((None, None, None), "uint8"), truths),
    )
    number = int(dataset.cardinality())
    if number < 0:  # Unknown, for example for videos.
        return labeled
    return labeled.apply(tf.data.experimental.assert_cardinality(number))


def _unchanged() -> keras.Model:
    """Return a model that returns its input, class ids."""
    class_ids = keras.Input((None, None), dtype="uint8")
    return keras.Model(class_ids, class_ids)


def _shares(
    source: sources.Source, split: str, run: runs.Run, name: str
) -> bool:
    """Return whether a split contains images of the training or validation."""
    data, before = source.options, run.data
    if before is None or name not in run.splits:
        return False
    if source.parts:
        if not before.images:
            return False
        folder = before.val_images if name == "validation" else None
        used = _files_of(
            folder or before.images, run.files[name], before.image_suffix
        )
        return not used.isdisjoint(
            os.path.realpath(path) for _, path, _ in source.part(split).files
        )
    return _base_name(data) == _base_name(before) and splits.overlap(
        split, run.splits[name], source.sizes()
    )


def _files_of(folder: str, names: Sequence[str], suffix: str) -> set[str]:
    """Return the images with these names, with symbolic links resolved."""
    wanted = set(names)
    suffix = unicodedata.normalize("NFC", suffix)
    return {
        os.path.realpath(path)
        for path in list_pictures(folder)
        if name_of(path, folder).removesuffix(suffix) in wanted
    }


def _base_name(data: commands.Data) -> str | None:
    """Return the dataset without its version, which does not change splits."""
    return data.dataset and data.dataset.partition(":")[0]


def measure(
    model: keras.Model,
    dataset: tf.data.Dataset,
    run: runs.Run,
    verbose: int = 1,
) -> Scores:
    """Evaluate a model that maps images or class ids, in one pass."""
    num_classes, void = run.num_classes, run.ignore_class
    by_class = {
        "accuracy": metrics.ClassAccuracy(num_classes, ignore_class=void),
        "iou": metrics.MeanIoU(num_classes, ignore_class=void),
        "boundary_f1": metrics.BoundaryF1(num_classes, ignore_class=void),
    }
    model.compile(
        loss=_no_loss,
        metrics=[
            metrics.GlobalAccuracy(num_classes, ignore_class=void),
            *by_class.values(),
        ],
    )
    overall = model.evaluate(
        dataset,
        callbacks=[progress.ScoresOnly()],
        verbose=verbose,
        return_dict=True,
    )
    columns = {
        name: metric.per_class_by_name(run.class_names)
        for name, metric in by_class.items()
    }
    return Scores(
        overall={name: float(overall[name]) for name in _SCORES},
        classes={
            name: {key: column[name] for key, column in columns.items()}
            for name in run.class_names
        },
    )


def _no_loss(truths: Any, scores: Any) -> Any:
    """Return 0 as the loss, which Keras requires but the scores do not."""
    return keras.ops.zeros((1,))


def _row(scores: dict[str, float | None]) -> str:
    if scores["accuracy"] is None:
        return "  does not occur"
    return "".join(f"{_shown(value):>10}" for value in scores.values())


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _check_json(path: str) -> None:
    """Raise an error if the scores cannot be written after the evaluation."""
    if _files.is_stream(path):
        return
    _files.check_replaceable(path, "--json")
    if pathlib.Path(path).is_dir():
        raise ValueError(
            f"--json must be a file. Received: {path!r}, which is a folder"
        )


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    if _files.is_stream(path):
        # The path may be standard output, which has lines in its buffer.
        sys.stdout.flush()
        _files.write_text(path, text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write_text(path, text)
    print(f"Wrote {path}")
