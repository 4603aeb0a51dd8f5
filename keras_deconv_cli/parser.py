"""The options of `keras-deconv`.

Imports neither Keras nor TensorFlow, which take seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, TypeVar

from keras_deconv_cli import commands, modules
from keras_deconv_cli.api import (
    CHOICES,
    FOLDER_ARGUMENTS,
    OPTIONS,
    WEIGHT_FILES,
    flag,
    words_for,
)

__all__ = ["classes", "parse"]

MAX_SEED = 2**31 - 1
_MODEL, _DECODER = "segnet_basic", "max_unpool"
_MODEL_SUFFIX = ".keras"
_Kind = TypeVar("_Kind")

_MODEL_HELP = "folder that train wrote, or a .keras file"

_DESCRIPTION = """\
Semantic segmentation with max unpooling: train a network, evaluate it, and
label images with it. To try it on generated street scenes:

  keras-deconv train
  keras-deconv evaluate runs/scenes_segnet_basic
  keras-deconv predict runs/scenes_segnet_basic photos/ --output labeled
"""

_TRAIN = """\
Train a network on a dataset of tensorflow-datasets or on your own folders.
Images are PNG, JPEG, TIFF, WebP, BMP or GIF files. Masks are files of the same
names whose pixels are class ids, of any of these formats but JPEG.

  keras-deconv train
  keras-deconv train oxford_iiit_pet --image-size 128x128 --epochs 20
  keras-deconv train --images photos --masks labels --classes sky,road,car

The command writes model.keras, history.csv, per_class.csv, previews/ and
run.json into --output. model.keras is the model with the best validation mean
IoU; without validation it is the last one. Existing files of these names are
never replaced unless the folder holds a run. If training stops, or the process
is killed, repeat the same command to resume after the last finished epoch. To
train a run longer, finished or not, repeat it with a larger --epochs.

On several GPUs each device processes its share of every batch. --strategy
mirrored uses all GPUs of this host. To train on several hosts, start the same
command on each of them with the same --output and --data-dir on a shared file
system; the first process writes. We recommend --strategy data_parallel with
these environment variables (Slurm and Open MPI do not need them):

  KERAS_BACKEND=jax
  KERAS_DISTRIBUTION_JOB_ADDRESSES=host0:12345   # of the first process
  KERAS_DISTRIBUTION_NUM_PROCESSES=2
  KERAS_DISTRIBUTION_PROCESS_ID=0                # 1 in the other process

With TensorFlow use --strategy multi_worker and the environment variable

  TF_CONFIG='{"cluster": {"worker": ["host0:12345", "host1:12345"]},
              "task": {"type": "worker", "index": 0}}'
"""

_EVALUATE = """\
Evaluate a model: global accuracy, class accuracy, mean IoU and boundary F1,
overall and per class. Without a dataset, the model is evaluated on the test
split of its training dataset, or else on the validation split. With --images
and --masks alone, masks are read as those of the training.

  keras-deconv evaluate runs/scenes_segnet_basic
  keras-deconv evaluate runs/photos_segnet_basic --images new --masks new_masks
  keras-deconv evaluate model.keras cam_vid --manual-dir CamVid

Images and masks are resized to the image size of the training. With --at,
--tile or --flip, the masks that predict writes with these options are compared,
at the size of the images.
"""

_PREDICT = """\
Label images of any size. An IMAGE is a file, a folder, or a pattern such as
'photos/*.jpg'. Each image is resized to the image size of the training. The
probabilities are resized back, so each mask has the size of its image. With
--at original or --tile, the network sees images at their own size.

  keras-deconv predict runs/scenes_segnet_basic photos/ --output labeled
  keras-deconv predict runs/scenes_segnet_basic large.tif --output labeled \\
      --tile 512 --overlap 64

For street.jpg the command writes street_mask.png, whose pixels are class ids
and look black in a viewer, and in the colors of the classes street_color.png
and street_overlay.png. Images with the same name in several folders get the
folder names as a prefix, and a number where names are still equal. Hidden files
in folders are ignored; other files that are not images are named. --output must
be outside these folders. Images that cannot be labeled are skipped; the exit
code is then 1.
"""

_EXPORT = """\
Export a model so that it runs without keras_deconv: as a SavedModel for
TensorFlow Serving, which accepts images of any size, as a TFLite file (LiteRT),
or as an ONNX file. --quantize makes a TFLite file smaller; int8 calibrates
with 100 training images.

  keras-deconv export runs/scenes_segnet_basic --output saved_model
  keras-deconv export model.keras --format onnx --output model.onnx
  keras-deconv export runs/scenes_segnet_basic --format tflite \\
      --quantize int8 --output model.tflite
"""

_CHECK = """\
Read a dataset once and report labels that are not a class, classes that never
occur, image sizes, images without mask, and all files that cannot be read. The
exit code is 1 if there is a problem.

  keras-deconv check cam_vid --manual-dir CamVid --split train
  keras-deconv check --images photos --masks labels --classes 3
"""

_INFO = """\
Describe a model or a dataset. Without an argument, list versions, devices,
datasets and models.

  keras-deconv info runs/scenes_segnet_basic
  keras-deconv info cam_vid
"""


def parse(
    arguments: Sequence[str] | None = None,
) -> tuple[commands.Command, bool]:
    """Reads arguments; ends the process with 2 where they are wrong.

    Returns:
        What is asked for, and whether to show where an error comes from.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser, known = _parsers()
    if not given or given[0] not in known:
        parser.parse_args(given)  # --help, or an unknown command.
    command = known[given[0]]
    # Intermixed, so that options may stand before a dataset and after it.
    options = command.parse_intermixed_args(given[1:])
    problem = _problem(options)
    if problem:
        command.error(problem)
    parts: dict[str, Any] = {}
    if "data" in _field_names(options.kind):
        # Without a default, the data are those of a training.
        dataset = options.dataset or options.default_dataset
        parts["data"] = _pick(
            commands.Data, options, dataset=None if options.images else dataset
        )
    if "results" in _field_names(options.kind):
        parts["results"] = _pick(commands.Results, options)
    if "view" in _field_names(options.kind):
        parts["view"] = _pick(commands.View, options)
    return _pick(options.kind, options, **parts), options.debug


def _field_names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _pick(
    kind: Callable[..., _Kind], options: argparse.Namespace, **more: Any
) -> _Kind:
    """Makes a dataclass; each field is an option of its name, or in `more`.

    Raises:
        KeyError: If a field is neither.
    """
    given = vars(options) | more
    return kind(**{name: given[name] for name in _field_names(kind)})


def _parsers() -> tuple[
    argparse.ArgumentParser, dict[str, argparse.ArgumentParser]
]:
    """The parser of all, and that of each command."""
    parser = argparse.ArgumentParser(
        prog="keras-deconv",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=metadata.version("keras-deconv")
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for kind, summary, description, add_options in (
        (commands.Train, "train a network", _TRAIN, _add_train),
        (commands.Evaluate, "evaluate a model", _EVALUATE, _add_evaluate),
        (commands.Predict, "label images", _PREDICT, _add_predict),
        (commands.Export, "export a model", _EXPORT, _add_export),
        (commands.Check, "find problems in a dataset", _CHECK, _add_check),
        (commands.Info, "describe models and datasets", _INFO, _add_info),
    ):
        command = subparsers.add_parser(
            kind.__name__.lower(),
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(kind=kind)
        command.add_argument(
            "--debug", action="store_true", help="show where an error is from"
        )
        add_options(command)
    return parser, subparsers.choices


def _add_train(command: argparse.ArgumentParser) -> None:
    data = _add_data(command, default="scenes")
    data.add_argument("--val-images", type=path, metavar="DIR")
    data.add_argument("--val-masks", type=path, metavar="DIR")
    data.add_argument(
        "--train-split",
        default="train",
        metavar="SPLIT",
        help="split to train on, or a slice such as train[:80%%], for folders "
        "too (default: %(default)s)",
    )
    data.add_argument(
        "--val-split",
        type=val_split,
        metavar="SPLIT",
        help="split to validate on after every epoch; a share of the training "
        "images, such as 20%%; rest, for the images that --train-split leaves "
        "out; or none (default: validation, else test, else 20%%; with a slice "
        "of folders: rest)",
    )
    model = command.add_argument_group("model")
    model.add_argument(
        "--model",
        default=_MODEL,
        type=network,
        metavar="MODEL",
        help=f"{', '.join(CHOICES['model'])}; or a network of your own: "
        "package.module:function, which is called with input_shape and "
        "num_classes, or a .keras file, which is trained further (default: "
        "%(default)s)",
    )
    _add_choice(
        model,
        "encoder",
        "network of keras.applications that gets a decoder, instead of "
        "--model: ",
    )
    _add_choice(
        model,
        "skips",
        "how features of --encoder join after each unpooling: ",
    )
    _add_choice(
        model,
        "decoder",
        "how pooling is undone (max_unpool with --encoder: what is not max "
        "pooling by transposed convolution): ",
        _DECODER,
    )
    model.add_argument(
        "--encoder-weights",
        metavar="WEIGHTS",
        help="imagenet, or a file: with the weights of VGG-16, for "
        f"{words_for('encoder_weights', 'model')}; of Keras, for --encoder "
        "(default: none)",
    )
    files = "; ".join(
        f"{suffixes} for {', '.join(networks)}"
        for suffixes, networks in WEIGHT_FILES.items()
    )
    model.add_argument(
        "--weights",
        type=path,
        metavar="FILE",
        help="start from weights that the authors of the network trained, with "
        "as many classes and --channels: a file that ends in "
        f"{files} (default: none)",
    )
    for name, text in (
        ("extra_classifier", "one convolution more at the end"),
        ("squeeze_excitation", "weigh channels and pixels after each stage"),
    ):
        model.add_argument(
            flag(name),
            action="store_true",
            help=f"for {words_for(name, 'model')}: {text}, as some "
            "trained --weights need it",
        )
    model.add_argument(
        flag("decoder_activation"),
        choices=CHOICES["decoder_activation"],
        metavar="ACTIVATION",
        help=f"for {words_for('decoder_activation', 'model')}: relu, or prelu "
        "as in the network that its authors trained on Cityscapes (default: "
        "relu)",
    )
    model.add_argument(
        "--init-from",
        type=path,
        metavar="MODEL",
        help="start from the weights of another model, a folder that train "
        "wrote or a .keras file: those of all layers with the same name and "
        "shapes, so the number of classes may differ (default: none)",
    )
    _add_import(model)
    model.add_argument(
        "--image-size",
        type=size,
        metavar="HEIGHTxWIDTH",
        help="size that images are resized to (default: the median size of the "
        "images, reduced to about 256x256 pixels (GPU: 512x512) and rounded "
        "to multiples of 32; 48x64 for scenes)",
    )
    training = command.add_argument_group("training")
    add = training.add_argument
    add(
        "--epochs",
        type=integer(1),
        help="number of epochs (default: 6, or more if there are few images). "
        "Repeat the command with a larger number to train a run longer",
    )
    add(
        "--batch-size",
        default=8,
        type=integer(1),
        help="images per step, on all devices together (default: %(default)s)",
    )
    _add_choice(
        training,
        "cache",
        "where resized images are kept after the first epoch, in a temporary "
        "file for disk: ",
        "memory",
    )
    add(
        "--no-cache",
        dest="cache",
        action="store_const",
        const="none",
        help="read images in every epoch: --cache none",
    )
    add(
        "--learning-rate",
        default=2e-3,
        type=rate,
        help="initial learning rate of Adam, with cosine decay to 0 (default: "
        "%(default)s)",
    )
    _add_choice(training, "loss", "", "crossentropy")
    _add_choice(
        training,
        "class_weights",
        f"for {words_for('class_weights', 'loss')}; median is that of SegNet: ",
        "none",
    )
    add(
        "--augment",
        action="store_true",
        help="mirror, enlarge and brighten images at random",
    )
    add(
        "--crop",
        type=size,
        metavar="HEIGHTxWIDTH",
        help="train on parts of this size, cut out of images of --image-size "
        "at random; validation and prediction use whole images (default: "
        "train on whole images)",
    )
    _add_choice(training, "mixed_precision", "faster on GPUs: ")
    add(
        "--early-stopping",
        type=integer(1),
        metavar="PATIENCE",
        help="stop after this many epochs without a better validation mean IoU",
    )
    add(
        "--seed",
        default=0,
        type=integer(0, MAX_SEED),
        help="seed of everything random (default: %(default)s)",
    )
    _add_choice(
        training,
        "strategy",
        "one device; mirrored: all devices of this host, with TensorFlow; "
        "multi_worker: those of several hosts, with TensorFlow; data_parallel: "
        "one host or several, with JAX. All but one drop an incomplete last "
        "batch: ",
        "one",
    )
    add(
        "--smoke",
        action="store_true",
        help="one epoch of two batches, to see whether it runs",
    )
    results = command.add_argument_group("results")
    results.add_argument(
        "--output",
        type=path,
        metavar="DIR",
        help="folder to write to (default: runs/DATASET_MODEL)",
    )
    results.add_argument(
        "--preview-every",
        default=1,
        type=integer(0),
        metavar="EPOCHS",
        help="draw predictions every this many epochs, 0 for never (default: "
        "%(default)s)",
    )
    results.add_argument(
        "--tensorboard",
        action="store_true",
        help="write logs for TensorBoard into tensorboard/",
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model_path", metavar="MODEL", help=_MODEL_HELP)
    _add_split(_add_data(command), "test, else validation, else train")
    # Those of the training, for its images; and of the model.
    command.set_defaults(unmatched=None, channels=None)
    command.add_argument(
        "--batch-size",
        default=8,
        type=integer(1),
        help="images per batch (default: %(default)s)",
    )
    _add_view(command)
    command.add_argument(
        "--json", type=path, metavar="PATH", help="also write the scores here"
    )
    _add_import(command)


def _add_predict(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model_path", metavar="MODEL", help=_MODEL_HELP)
    add("inputs", metavar="IMAGE", nargs="+", help="file, folder or pattern")
    add(
        "--output",
        required=True,
        type=path,
        metavar="DIR",
        help="folder to write to",
    )
    _add_value_range(command, "that of the training")
    _add_view(command)
    add(
        "--monte-carlo",
        type=integer(1),
        metavar="SAMPLES",
        help="predict this many times with dropout and draw the uncertainty "
        "into street_uncertainty.png; for Bayesian models",
    )
    add(
        "--seed",
        default=0,
        type=integer(0, MAX_SEED),
        help="seed of --monte-carlo (default: %(default)s)",
    )
    _add_import(command)


def _add_export(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model_path", metavar="MODEL", help=_MODEL_HELP)
    add(
        "--output",
        required=True,
        type=path,
        metavar="PATH",
        help="file to write; for a SavedModel the folder",
    )
    _add_choice(command, "format", "", "saved_model")
    _add_choice(command, "quantize", "for tflite: ")
    _add_choice(
        command,
        "io_dtype",
        "for --quantize int8: images and logits as integers, not float32: ",
    )
    _add_where(command)
    _add_import(command)


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_split(_add_data(command, default="scenes"), "train")
    command.add_argument(
        "--allow-missing-classes",
        action="store_true",
        help="do not count classes that never occur as a problem",
    )


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "subject",
        nargs="?",
        metavar="MODEL | DATASET",
        help=f"{_MODEL_HELP}, or the name of a dataset",
    )
    _add_where(command, with_manual_dir=False)
    _add_import(command)


def _add_data(
    command: argparse.ArgumentParser, default: str | None = None
) -> Any:
    """Adds a group, whose class has no public name.

    Without a default dataset, the data are those of a training.
    """
    data = command.add_argument_group("data")
    add = data.add_argument
    add(
        "dataset",
        nargs="?",
        metavar="DATASET",
        help="dataset of tensorflow-datasets; keras-deconv info lists them "
        f"(default: {default or 'that of the training'})",
    )
    command.set_defaults(default_dataset=default)
    # Options of train alone.
    command.set_defaults(val_images=None, val_masks=None)
    _add_where(data)
    add(
        "--images",
        type=path,
        metavar="DIR",
        help="folder of your own images, with --masks and --classes, --labels, "
        "--foreground or --label-map"
        + ("" if default else " (default: masks as those of the training)"),
    )
    add("--masks", type=path, metavar="DIR", help="folder of their masks")
    add(
        "--label-map",
        type=path,
        metavar="FILE",
        help="label file of a labeling tool, which says what the masks hold: "
        "labelmap.txt of CVAT or VOC, label_colors.txt of CamVid, a CSV "
        "file name,r,g,b, a list of names, or a JSON object",
    )
    add(
        "--classes",
        type=classes,
        metavar="N|NAME,...",
        help="number or names of the classes in the masks; their labels are "
        "the numbers from 0 that are not in --void-labels",
    )
    add(
        "--labels",
        type=labels,
        metavar="N=NAME,...",
        help="what the values in the masks mean, such as "
        "0=background,255=building; names the classes",
    )
    add(
        "--foreground",
        type=integer(1, 255),
        metavar="N",
        help="for binary masks: the value of the foreground, such as 255; all "
        "else is 0, the background",
    )
    add(
        "--void-labels",
        type=void_labels,
        metavar="N,...",
        help="values in the masks that belong to no class, or none (default: "
        "255, unless it is a label or the foreground)",
    )
    add(
        "--palette",
        type=palette,
        metavar="voc|RRGGBB,...",
        help="for masks whose colors are the classes: the color of each class "
        "in hexadecimal, in the order of --classes, such as 808080,00ff00; or "
        "voc for the colors of VOC",
    )
    add(
        "--void-colors",
        default=commands.Data.void_colors,
        type=colors,
        metavar="RRGGBB,...",
        help="with --palette: colors that belong to no class (default: none)",
    )
    if default:
        _add_value_range(data)
    else:
        _add_value_range(data, "that of the training")
    add(
        "--channels",
        default=commands.Data.channels,
        type=integer(1),
        metavar="N",
        help="channels of the images: 3 for colors, 1 for gray, or as many as "
        "the files have (default: %(default)s)",
    )
    add(
        "--image-suffix",
        default=commands.Data.image_suffix,
        metavar="TEXT",
        help="_leftImg8bit if 7_leftImg8bit.png has the mask 7.png (default: "
        "nothing)",
    )
    add(
        "--mask-suffix",
        default=commands.Data.mask_suffix,
        metavar="TEXT",
        help="_mask if 7.jpg has the mask 7_mask.png (default: nothing)",
    )
    add(
        "--lossy-masks",
        action="store_true",
        help="read JPEG masks, whose values must be within 2 of a label",
    )
    _add_choice(
        data,
        "unmatched",
        "images without mask and masks without image"
        + ("" if default else " (of a training: as there, unless given)")
        + ": ",
        "error",
    )
    return data


def _add_view(group: Any) -> None:
    add = group.add_argument
    add(
        "--at",
        choices=CHOICES["at"],
        metavar="SIZE",
        help="size at which the network sees an image: training, that of the "
        "training, to which the image is resized; or original, its own "
        "(default: training)",
    )
    add(
        "--tile",
        type=tile,
        metavar="N|HEIGHTxWIDTH",
        help="predict images at their own size in tiles of this size, such as "
        "512; for images that do not fit into memory with --at original",
    )
    add(
        "--overlap",
        type=integer(0),
        metavar="N",
        help="pixels that neighboring tiles share (default: an eighth of "
        "--tile)",
    )
    add(
        "--flip",
        action="store_true",
        help="average the probabilities with those of the mirror image, which "
        "takes twice the time",
    )


def _add_value_range(
    group: Any, default: str = "none, for 8-bit images"
) -> None:
    group.add_argument(
        "--value-range",
        type=value_range,
        metavar="LOW,HIGH",
        help="image values that become 0 and 255, such as 0,65535; needed for "
        f"images of more than 8 bits (default: {default})",
    )


def _add_choice(
    group: Any, option: str, text: str, default: str | None = None
) -> None:
    words = CHOICES[option]
    group.add_argument(
        flag(option),
        default=default,
        choices=words,
        metavar=option.rpartition("_")[2].upper(),
        help=f"{text}{', '.join(words)} (default: {default or 'none of them'})",
    )


def _add_where(group: Any, with_manual_dir: bool = True) -> None:
    group.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="where tensorflow-datasets keeps datasets",
    )
    if with_manual_dir:
        group.add_argument(
            "--manual-dir",
            type=path,
            metavar="DIR",
            help="folder with archives or images that cannot be downloaded",
        )


def _add_import(group: Any) -> None:
    group.add_argument(
        "--import",
        dest="module",
        type=module,
        metavar="MODULE",
        help="Python module that registers the layers of a model, for models "
        "with layers of your own; its code runs (default: none)",
    )


def _add_split(data: Any, default: str) -> None:
    data.add_argument(
        "--split",
        metavar="SPLIT",
        help=f"such as test or train[:10%%] (default: {default})",
    )


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are valid each on its own."""
    given = vars(options)
    if "images" in given:
        meaning = ("classes", "labels", "foreground", "label_map")
        folders = [
            options.images,
            options.masks,
            any(given[name] for name in meaning) or None,
        ]
        if options.kind is commands.Evaluate and not folders[2]:
            # The training says what masks hold.
            if bool(options.images) != bool(options.masks):
                return "--images and --masks go together"
        elif any(folders) and not all(folders):
            return (
                "--images, --masks and --classes (or --labels, --foreground, "
                "or --label-map) go together"
            )
        for name in (*meaning[:3], "palette", "void_colors"):
            if options.label_map and given[name]:
                return (
                    f"--label-map says what {flag(name)} would say, so they do "
                    "not go together"
                )
        if options.images and options.dataset:
            return "give a DATASET or --images, not both"
        if not options.images:
            for name in FOLDER_ARGUMENTS:
                # Datasets have values too, and a training may be of folders.
                if name in ("value_range", "unmatched"):
                    continue
                if given[name] not in (None, getattr(commands.Data, name)):
                    return f"{flag(name)} goes with --images"
    if "flip" in given and (problem := _view_problem(options)):
        return problem
    if options.kind is commands.Train and (problem := _val_problem(options)):
        return problem
    if options.kind is commands.Train and (problem := _model_problem(options)):
        return problem
    if options.kind is commands.Train and (problem := _crop_problem(options)):
        return problem
    if options.kind is commands.Train and options.encoder:
        if options.model != _MODEL:
            return (
                "--encoder builds a network of its own, so it does not go with "
                f"--model {options.model}"
            )
        if options.weights:
            return (
                "--weights are those of a --model; an --encoder has "
                "--encoder-weights"
            )
        # The weights are those of the encoder.
        given = {**given, "encoder_weights": None}
    elif given.get("skips"):
        return "--skips goes with --encoder"
    for name, option in OPTIONS.items():
        for other, words in option.only_for.items():
            is_given = given.get(name) not in (None, "none", False)
            if not is_given or given[other] in words:
                continue
            if given[other] is None:
                return (
                    f"{flag(name)} goes with {flag(other)} "
                    f"{words_for(name, other)}"
                )
            reason = f", not for {given[other]}"
            if name == "class_weights":
                reason = f"; {given[other]} weighs all classes equally"
            return f"{flag(name)} is for {words_for(name, other)}{reason}"
    return None


def _val_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the options for the images of the validation."""
    if bool(options.val_images) != bool(options.val_masks):
        return "--val-images and --val-masks go together"
    if options.val_images and not options.images:
        return "--val-images goes with --images"
    if options.val_images and options.val_split not in (None, "validation"):
        return (
            "--val-split decides how --images are divided, so it does not go "
            "with --val-images, which are all for validation"
        )
    return None


def _model_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the options for a network of the user."""
    if options.init_from:
        for name in ("weights", "encoder_weights"):
            if getattr(options, name):
                return (
                    f"--init-from gives the weights, so it does not go with "
                    f"{flag(name)}"
                )
    if options.model in CHOICES["model"]:
        return None
    if options.decoder != _DECODER:
        return (
            f"--decoder is for {', '.join(CHOICES['model'])}, not for "
            f"{options.model}"
        )
    if options.model.endswith(_MODEL_SUFFIX):
        for name in ("init_from", "mixed_precision"):
            if getattr(options, name):
                return (
                    f"{flag(name)} does not go with --model {options.model}, "
                    "which is trained as it is"
                )
    return None


def network(text: str) -> str:
    """A network of the library, a function, or the path of a file."""
    name, colon, function = text.partition(":")
    is_function = modules.is_name(name) and function.isidentifier()
    if text in CHOICES["model"] or (colon and is_function):
        return text
    if text.endswith(_MODEL_SUFFIX):
        return path(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} must be one of {', '.join(CHOICES['model'])}; a function "
        "of your own, such as package.module:function; or a file that ends "
        f"in {_MODEL_SUFFIX}"
    )


def module(text: str) -> str:
    """The name of a Python module."""
    if not modules.is_name(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be the name of a Python module, such as "
            "package.module"
        )
    return text


def _view_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the options for how the network sees images."""
    if options.tile and options.at:
        return (
            "--tile predicts images at their own size, so it does not go with "
            "--at"
        )
    if options.overlap is not None and not options.tile:
        return "--overlap is what tiles share, so it goes with --tile"
    if options.tile and (options.overlap or 0) >= min(options.tile):
        return (
            f"--overlap must be less than --tile. Received: {options.overlap}"
            f" and {options.tile[0]}x{options.tile[1]}"
        )
    if getattr(options, "monte_carlo", None):
        for name in ("tile", "flip"):
            if getattr(options, name):
                return f"--monte-carlo does not go with {flag(name)}"
    return None


def _crop_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the size of the parts to train on."""
    if options.crop is None:
        return None
    if options.image_size is None:
        return (
            "--crop goes with --image-size, the size that images are resized "
            "to before a part is cut out"
        )
    if options.encoder == "nasnetmobile":
        return (
            "--crop does not go with --encoder nasnetmobile, which takes "
            "images of one size only"
        )
    (height, width), (rows, columns) = options.image_size, options.crop
    if rows > height or columns > width:
        return (
            "--crop must not be larger than --image-size. Received: --crop "
            f"{rows}x{columns}, --image-size {height}x{width}"
        )
    return None


def path(text: str) -> str:
    """A path that means the same in every working directory."""
    return os.path.abspath(os.path.expanduser(text))


def val_split(text: str) -> str:
    """A split, or a share; what looks like a share must be one."""
    is_number = re.fullmatch(r"[-+]?[\d.,]+\s*%?", text, re.ASCII)
    if is_number and not re.fullmatch(r"[1-9]\d?%", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a share from 1% to 99% in whole percent, such "
            "as 20%; a split such as validation, or a slice such as "
            "train[80%:]; rest; or none"
        )
    return text


def size(text: str) -> tuple[int, int]:
    """Height and width."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be HEIGHTxWIDTH in pixels, such as 180x240"
        )
    return int(match[1]), int(match[2])


def tile(text: str) -> tuple[int, int]:
    """Height and width; one number for both."""
    if re.fullmatch(r"[1-9]\d*", text, re.ASCII):
        return int(text), int(text)
    try:
        return size(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a number of pixels, or HEIGHTxWIDTH, such as "
            "512 or 384x512"
        ) from None


def integer(low: int, high: float = math.inf) -> Callable[[str], int]:
    """Makes a function that reads a number from `low` to `high`."""
    rule = f">= {low}" if high == math.inf else f"from {low} to {high}"

    def read(text: str) -> int:
        is_number = re.fullmatch(r"\d+", text, re.ASCII)
        if not is_number or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} must be an integer {rule}"
            )
        return int(text)

    return read


def rate(text: str) -> float:
    """A learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def classes(text: str) -> int | tuple[str, ...]:
    """The number of classes, or their names, which the library checks."""
    if not re.fullmatch(r"\d+", text, re.ASCII):
        return tuple(name.strip() for name in text.split(","))
    number = int(text)
    if not 2 <= number <= 255:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a number from 2 to 255 (background and "
            "foreground are two classes), or as many different names of one "
            "line with commas between them"
        )
    return number


def labels(text: str) -> dict[int, str] | dict[int, int]:
    """Mask values with the names, or the ids, of their classes.

    The library checks the names.
    """
    names: dict[int, str] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*=(.+)", part, re.ASCII | re.DOTALL)
        if match is None or int(match[1]) > 255 or int(match[1]) in names:
            raise argparse.ArgumentTypeError(
                f"{text!r} must be different values from 0 to 255 with names "
                "of classes, such as 0=background,255=building"
            )
        names[int(match[1])] = match[2].strip()
    if all(name.isdecimal() for name in names.values()):
        return {label: int(name) for label, name in names.items()}
    return names


def value_range(text: str) -> tuple[float, float]:
    """Two numbers, the lower one first."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be LOW,HIGH, two numbers such as 0,65535"
        )
    return low, high


def palette(text: str) -> tuple[tuple[int, int, int], ...] | str:
    """Colors of the classes, or those of VOC."""
    return text if text == "voc" else colors(text)


def colors(text: str) -> tuple[tuple[int, int, int], ...]:
    """Colors (red, green, blue), as web pages write them."""
    parts = [part.strip().removeprefix("#") for part in text.split(",")]
    if not all(re.fullmatch("[0-9a-fA-F]{6}", part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be colors RRGGBB in hexadecimal with commas "
            "between them, such as 808080,00ff00"
        )
    return tuple(
        (int(part[:2], 16), int(part[2:4], 16), int(part[4:], 16))
        for part in parts
    )


def void_labels(text: str) -> tuple[int, ...]:
    """Labels of a mask that mean void."""
    if text == "none":
        return ()
    numbers = text.split(",")
    if not all(
        re.fullmatch(r"\d+", number, re.ASCII) and int(number) < 256
        for number in numbers
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers from 0 to 255 with commas between them, "
            "or none"
        )
    return tuple(int(number) for number in numbers)
