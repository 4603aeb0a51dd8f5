"""The options of `keras-deconv`.

This module does not import Keras or TensorFlow, which takes seconds.
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

_MODEL_HELP = "folder written by keras-deconv train, or a .keras file"

_DESCRIPTION = """\
Semantic segmentation with max unpooling: train a network, evaluate it, and
label images with it. To try it on generated street scenes:

  keras-deconv train
  keras-deconv evaluate runs/scenes_segnet_basic
  keras-deconv predict runs/scenes_segnet_basic photos/ --output labeled

The command hides the start-up messages of TensorFlow. To show them, set the
environment variable TF_CPP_MIN_LOG_LEVEL=0.
"""

_TRAIN = """\
Train a network on a dataset of tensorflow-datasets or on your own folders.
Images are PNG, JPEG, TIFF, WebP, BMP or GIF files. Masks can have any of these
formats except JPEG. Each mask has the name of its image, and its pixels are
class ids.

  keras-deconv train
  keras-deconv train oxford_iiit_pet --image-size 128x128 --epochs 20
  keras-deconv train --images photos --masks labels --classes sky,road,car

The command writes model.keras, history.csv, per_class.csv, previews/ and
run.json to --output. model.keras is the model with the best validation mean
IoU, or the last model if there is no validation. Existing files with these
names are replaced only if the folder contains a run. If training stops, or the
process is killed, repeat the same command to resume after the last finished
epoch. To train a run longer, finished or not, repeat the command with a larger
--epochs.

On several GPUs, each device processes its share of every batch. --strategy
mirrored uses all GPUs of this host. To train on several hosts, start the same
command on each of them with the same --output and --data-dir on a shared file
system. The first process writes the files. We recommend --strategy
data_parallel with these environment variables (Slurm and Open MPI do not need
them):

  KERAS_BACKEND=jax
  KERAS_DISTRIBUTION_JOB_ADDRESSES=host0:12345   # of the first process
  KERAS_DISTRIBUTION_NUM_PROCESSES=2
  KERAS_DISTRIBUTION_PROCESS_ID=0                # 1 in the other process

With TensorFlow, use --strategy multi_worker and this environment variable:

  TF_CONFIG='{"cluster": {"worker": ["host0:12345", "host1:12345"]},
              "task": {"type": "worker", "index": 0}}'
"""

_EVALUATE = """\
Evaluate a model: global accuracy, class accuracy, mean IoU and boundary F1,
overall and per class. Without a dataset, the model is evaluated on the test
split of its training dataset, or else on the validation split. If you give only
--images and --masks, masks are read with the mask options of the training.

  keras-deconv evaluate runs/scenes_segnet_basic
  keras-deconv evaluate runs/photos_segnet_basic --images new --masks new_masks
  keras-deconv evaluate model.keras cam_vid --manual-dir CamVid

Images and masks are resized to the image size of the training. With --at,
--tile or --flip, masks are compared at the size of the images, as keras-deconv
predict writes them with these options.
"""

_PREDICT = """\
Label images of any size. IMAGE is a file, a folder, or a pattern such as
'photos/*.jpg'. Each image is resized to the image size of the training. The
probabilities are resized back, so each mask has the size of its image. With
--at original or --tile, images are not resized.

  keras-deconv predict runs/scenes_segnet_basic photos/ --output labeled
  keras-deconv predict runs/scenes_segnet_basic large.tif --output labeled \\
      --tile 512 --overlap 64

For street.jpg, the command writes three files. The pixels of street_mask.png
are class ids, which look black in a viewer. street_color.png and
street_overlay.png show the classes in color. If several images have the same
name, their masks get the names of their folders as a prefix, and a number if
names are still equal. Hidden files in folders are ignored. Other files that are
not images are skipped with a warning. --output must be outside these folders.
Images that cannot be labeled are skipped, and the exit code is then 1.
"""

_EXPORT = """\
Export a model so that it runs without keras_deconv. The formats are a
SavedModel for TensorFlow Serving, which accepts images of any size; a TFLite
file (LiteRT); and an ONNX file. --quantize makes a TFLite file smaller. int8
calibrates with 100 training images.

  keras-deconv export runs/scenes_segnet_basic --output saved_model
  keras-deconv export model.keras --format onnx --output model.onnx
  keras-deconv export runs/scenes_segnet_basic --format tflite \\
      --quantize int8 --output model.tflite
"""

_CHECK = """\
Read a dataset once and report labels that are not a class, classes that never
occur, image sizes, images without a mask, and all files that cannot be read.
The exit code is 1 if there is a problem.

  keras-deconv check cam_vid --manual-dir CamVid --split train
  keras-deconv check --images photos --masks labels --classes 3
"""

_INFO = """\
Describe a model or a dataset. Without an argument, list the versions, devices,
datasets and models.

  keras-deconv info runs/scenes_segnet_basic
  keras-deconv info cam_vid
"""


def parse(
    arguments: Sequence[str] | None = None,
) -> tuple[commands.Command, bool]:
    """Parse arguments; end the process with code 2 if they are wrong.

    Returns:
        The command with its options, and whether to show the tracebacks of
        errors.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser, known = _parsers()
    if not given or given[0] not in known:
        parser.parse_args(given)  # --help, or an unknown command.
    command = known[given[0]]
    # Intermixed, so that options can come before or after the dataset.
    options = command.parse_intermixed_args(given[1:])
    problem = _problem(options)
    if problem:
        command.error(problem)
    parts: dict[str, Any] = {}
    if "data" in _field_names(options.kind):
        # Commands without a default dataset use the data of a training.
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
    """Return a dataclass whose fields are taken from options and `more`.

    Raises:
        KeyError: If a field is missing.
    """
    given = vars(options) | more
    return kind(**{name: given[name] for name in _field_names(kind)})


def _parsers() -> tuple[
    argparse.ArgumentParser, dict[str, argparse.ArgumentParser]
]:
    """Return the main parser, and the parser of each command."""
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
            "--debug", action="store_true", help="show the tracebacks of errors"
        )
        add_options(command)
    return parser, subparsers.choices


def _add_train(command: argparse.ArgumentParser) -> None:
    data = _add_data(command, default="scenes")
    data.add_argument(
        "--val-images",
        type=path,
        metavar="DIR",
        help="folder of images to validate on (default: a share of --images)",
    )
    data.add_argument(
        "--val-masks",
        type=path,
        metavar="DIR",
        help="folder of the masks of --val-images",
    )
    data.add_argument(
        "--train-split",
        default="train",
        metavar="SPLIT",
        help="split to train on, or a slice of one such as train[:80%%]; the "
        "images of folders are the split train (default: %(default)s)",
    )
    data.add_argument(
        "--val-split",
        type=val_split,
        metavar="SPLIT",
        help="images to validate on after every epoch: a split or a slice of "
        "one; a share of the training images such as 20%%; `rest`, the images "
        "that --train-split leaves out; or `none`. Default: validation, or "
        "else test. Without these splits: 20%%, or `rest` if --train-split is "
        "a slice",
    )
    model = command.add_argument_group("model")
    model.add_argument(
        "--model",
        default=_MODEL,
        type=network,
        metavar="MODEL",
        help=f"network to train: {', '.join(CHOICES['model'])}; or your own: "
        "package.module:function, which is called with input_shape and "
        "num_classes, or a .keras file, whose training continues (default: "
        "%(default)s)",
    )
    _add_choice(
        model,
        "encoder",
        "network of keras.applications to which a decoder is added, instead "
        "of --model: ",
    )
    _add_choice(
        model,
        "skips",
        "how features of --encoder are merged after each unpooling: ",
    )
    _add_choice(
        model,
        "decoder",
        "upsampling in the decoder (max_unpool with --encoder uses transposed "
        "convolution for downsampling that is not max pooling): ",
        _DECODER,
    )
    model.add_argument(
        "--encoder-weights",
        metavar="WEIGHTS",
        help="pretrained weights of the encoder: imagenet, or a file. For "
        f"{words_for('encoder_weights', 'model')} the file contains the "
        "weights of VGG-16. For --encoder it is a weight file of Keras "
        "(default: random weights)",
    )
    files = "; ".join(
        f"{suffixes} for {', '.join(networks)}"
        for suffixes, networks in WEIGHT_FILES.items()
    )
    model.add_argument(
        "--weights",
        type=path,
        metavar="FILE",
        help="start from weights that the authors of the network published, "
        "for the same number of classes and --channels: a file that ends in "
        f"{files} (default: random weights)",
    )
    for name, text in (
        ("extra_classifier", "add a convolution at the end"),
        ("squeeze_excitation", "weight channels and pixels after each stage"),
    ):
        model.add_argument(
            flag(name),
            action="store_true",
            help=f"for {words_for(name, 'model')}: {text}, which some files "
            "for --weights need",
        )
    model.add_argument(
        flag("decoder_activation"),
        choices=CHOICES["decoder_activation"],
        metavar="ACTIVATION",
        help=f"for {words_for('decoder_activation', 'model')}: activation of "
        "the decoder: relu, or prelu as in the weights that the authors "
        "trained on Cityscapes (default: relu)",
    )
    model.add_argument(
        "--init-from",
        type=path,
        metavar="MODEL",
        help="start from the weights of another model: a folder written by "
        "keras-deconv train, or a .keras file. All layers with the same name "
        "and shapes are copied, so the number of classes may differ (default: "
        "random weights)",
    )
    _add_import(model)
    model.add_argument(
        "--image-size",
        type=size,
        metavar="HEIGHTxWIDTH",
        help="size to which images are resized, in pixels. Default: the median "
        "size of the images, reduced to about 256x256 pixels (with a GPU "
        "512x512) and rounded to multiples of 32. For scenes: 48x64",
    )
    training = command.add_argument_group("training")
    add = training.add_argument
    add(
        "--epochs",
        type=integer(1),
        help="number of epochs; repeat the command with a larger number to "
        "train a run longer (default: 6, or more if there are few images)",
    )
    add(
        "--batch-size",
        default=8,
        type=integer(1),
        help="images per step, in total over all devices (default: "
        "%(default)s)",
    )
    _add_choice(
        training,
        "cache",
        "where resized images are cached after the first epoch (disk: in a "
        "temporary file): ",
        "memory",
    )
    add(
        "--no-cache",
        dest="cache",
        action="store_const",
        const="none",
        help="same as `--cache none`: read the images again in every epoch",
    )
    add(
        "--learning-rate",
        default=2e-3,
        type=rate,
        help="initial learning rate of Adam, which decays to 0 along a cosine "
        "(default: %(default)s)",
    )
    _add_choice(training, "loss", "loss function: ", "crossentropy")
    _add_choice(
        training,
        "class_weights",
        f"weights of the classes for {words_for('class_weights', 'loss')}; "
        "median is the method of SegNet: ",
        "none",
    )
    add(
        "--augment",
        action="store_true",
        help="flip images, enlarge them and change their brightness at random",
    )
    add(
        "--crop",
        type=size,
        metavar="HEIGHTxWIDTH",
        help="train on random crops of this size, in pixels, from images of "
        "--image-size; validation and prediction use whole images (default: "
        "whole images)",
    )
    _add_choice(
        training, "mixed_precision", "dtype of computations, faster on GPUs: "
    )
    add(
        "--early-stopping",
        type=integer(1),
        metavar="PATIENCE",
        help="stop after this many epochs without a better validation mean IoU "
        "(default: train all epochs)",
    )
    add(
        "--seed",
        default=0,
        type=integer(0, MAX_SEED),
        help="seed of all random numbers (default: %(default)s)",
    )
    _add_choice(
        training,
        "strategy",
        "devices to train on. one: a single device; mirrored: all devices of "
        "this host, with TensorFlow; multi_worker: the devices of several "
        "hosts, with TensorFlow; data_parallel: the devices of one or several "
        "hosts, with JAX. All except `one` drop an incomplete last batch. "
        "Choices: ",
        "one",
    )
    add(
        "--smoke",
        action="store_true",
        help="train for one epoch of two batches, to test the options",
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
        help="number of epochs between previews of predictions, or 0 for no "
        "previews (default: %(default)s)",
    )
    results.add_argument(
        "--tensorboard",
        action="store_true",
        help="write logs for TensorBoard to tensorboard/ in --output",
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model_path", metavar="MODEL", help=_MODEL_HELP)
    _add_split(_add_data(command), "test, else validation, else train")
    # None: `unmatched` of the training and the channels of the model.
    command.set_defaults(unmatched=None, channels=None)
    command.add_argument(
        "--batch-size",
        default=8,
        type=integer(1),
        help="images per batch (default: %(default)s)",
    )
    _add_view(command)
    command.add_argument(
        "--json",
        type=path,
        metavar="PATH",
        help="file to which the scores are also written, as JSON",
    )
    _add_import(command)


def _add_predict(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model_path", metavar="MODEL", help=_MODEL_HELP)
    add(
        "inputs",
        metavar="IMAGE",
        nargs="+",
        help="image file, folder of images, or pattern",
    )
    add(
        "--output",
        required=True,
        type=path,
        metavar="DIR",
        help="folder to write to",
    )
    _add_value_range(command, "the range of the training")
    _add_view(command)
    add(
        "--monte-carlo",
        type=integer(1),
        metavar="SAMPLES",
        help="number of predictions with dropout, which show the uncertainty "
        "in street_uncertainty.png; for Bayesian models (default: one "
        "prediction without dropout)",
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
        help="file to write, or the folder of a SavedModel",
    )
    _add_choice(command, "format", "format of the export: ", "saved_model")
    _add_choice(command, "quantize", "quantization of the model, for tflite: ")
    _add_choice(
        command,
        "io_dtype",
        "for --quantize int8: dtype of images and logits, instead of float32: ",
    )
    _add_where(command)
    _add_import(command)


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_split(_add_data(command, default="scenes"), "train")
    command.add_argument(
        "--allow-missing-classes",
        action="store_true",
        help="accept classes that never occur",
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
    """Add the data options; return their group, whose class is not public.

    Commands without a default dataset use the data of a training.
    """
    data = command.add_argument_group("data")
    add = data.add_argument
    add(
        "dataset",
        nargs="?",
        metavar="DATASET",
        help="dataset of tensorflow-datasets, as listed by keras-deconv info "
        f"(default: {default or 'the dataset of the training'})",
    )
    command.set_defaults(default_dataset=default)
    # Only train has these options.
    command.set_defaults(val_images=None, val_masks=None)
    _add_where(data)
    add(
        "--images",
        type=path,
        metavar="DIR",
        help="folder of your own images; requires --masks, and --classes, "
        "--labels, --foreground or --label-map"
        + ("" if default else ", or else the mask options of the training"),
    )
    add(
        "--masks",
        type=path,
        metavar="DIR",
        help="folder of the masks of --images",
    )
    add(
        "--label-map",
        type=path,
        metavar="FILE",
        help="file of a labeling tool that describes the masks: labelmap.txt "
        "of CVAT or VOC, label_colors.txt of CamVid, a CSV file with the "
        "columns name,r,g,b, a list of names, or a JSON object",
    )
    add(
        "--classes",
        type=classes,
        metavar="N|NAME,...",
        help="number or names of the classes in the masks; the values in the "
        "masks are 0, 1, 2, ..., without --void-labels",
    )
    add(
        "--labels",
        type=labels,
        metavar="N=NAME,...",
        help="values in the masks and the names of their classes, such as "
        "0=background,255=building",
    )
    add(
        "--foreground",
        type=integer(1, 255),
        metavar="N",
        help="for binary masks: the value of the foreground, such as 255; the "
        "background is 0",
    )
    add(
        "--void-labels",
        type=void_labels,
        metavar="N,...",
        help="values in the masks that do not belong to a class, or `none` "
        "(default: 255, unless it is a label or the foreground)",
    )
    add(
        "--palette",
        type=palette,
        metavar="voc|RRGGBB,...",
        help="for color masks: the color of each class in hexadecimal, in the "
        "order of --classes, such as 808080,00ff00; or voc for the colors of "
        "VOC",
    )
    add(
        "--void-colors",
        default=commands.Data.void_colors,
        type=colors,
        metavar="RRGGBB,...",
        help="with --palette: colors that do not belong to a class (default: "
        "not set)",
    )
    if default:
        _add_value_range(data)
    else:
        _add_value_range(data, "the range of the training")
    add(
        "--channels",
        default=commands.Data.channels,
        type=integer(1),
        metavar="N",
        help="number of channels of the images: 3 for color, 1 for gray, or as "
        "many as the files have "
        f"(default: {'%(default)s' if default else 'as many as the model'})",
    )
    add(
        "--image-suffix",
        default=commands.Data.image_suffix,
        metavar="TEXT",
        help="end of the names of images that the names of masks do not have: "
        "_leftImg8bit if 7_leftImg8bit.png has the mask 7.png (default: empty)",
    )
    add(
        "--mask-suffix",
        default=commands.Data.mask_suffix,
        metavar="TEXT",
        help="end of the names of masks that the names of images do not have: "
        "_mask if 7.jpg has the mask 7_mask.png (default: empty)",
    )
    add(
        "--lossy-masks",
        action="store_true",
        help="allow JPEG masks, whose values must differ from a label by at "
        "most 2",
    )
    _add_choice(
        data,
        "unmatched",
        "what to do with images without a mask and masks without an image"
        + ("" if default else " (for training data: by default as in training)")
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
        help="size at which an image is fed to the network: `training` resizes "
        "it to the image size of the training, `original` does not resize it "
        "(default: training)",
    )
    add(
        "--tile",
        type=tile,
        metavar="N|HEIGHTxWIDTH",
        help="predict images at their own size in tiles of this size in "
        "pixels, such as 512, if they do not fit into memory with --at "
        "original (default: whole images)",
    )
    add(
        "--overlap",
        type=integer(0),
        metavar="N",
        help="number of pixels that neighboring tiles share (default: an "
        "eighth of --tile)",
    )
    add(
        "--flip",
        action="store_true",
        help="average the probabilities with those of the flipped image, which "
        "takes twice the time",
    )


def _add_value_range(
    group: Any, default: str = "not set, for 8-bit images"
) -> None:
    group.add_argument(
        "--value-range",
        type=value_range,
        metavar="LOW,HIGH",
        help="image values that are scaled to 0 and 255, such as 0,65535; "
        f"required for images of more than 8 bits (default: {default})",
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
        help=f"{text}{', '.join(words)} (default: {default or 'not set'})",
    )


def _add_where(group: Any, with_manual_dir: bool = True) -> None:
    group.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="folder of prepared datasets of tensorflow-datasets (default: the "
        "environment variable TFDS_DATA_DIR, or else ~/tensorflow_datasets)",
    )
    if with_manual_dir:
        group.add_argument(
            "--manual-dir",
            type=path,
            metavar="DIR",
            help="folder of archives or images that you must download yourself",
        )


def _add_import(group: Any) -> None:
    group.add_argument(
        "--import",
        dest="module",
        type=module,
        metavar="MODULE",
        help="Python module that registers the custom layers of a model; the "
        "code of the module is executed",
    )


def _add_split(data: Any, default: str) -> None:
    data.add_argument(
        "--split",
        metavar="SPLIT",
        help="split, or a slice of one, such as test or train[:10%%] (default: "
        f"{default})",
    )


def _problem(options: argparse.Namespace) -> str | None:
    """Return an error message for options that contradict each other."""
    given = vars(options)
    if "images" in given:
        meaning = ("classes", "labels", "foreground", "label_map")
        folders = [
            options.images,
            options.masks,
            any(given[name] for name in meaning) or None,
        ]
        if options.kind is commands.Evaluate and not folders[2]:
            # The run describes the masks.
            if bool(options.images) != bool(options.masks):
                return "--images and --masks must be given together"
        elif any(folders) and not all(folders):
            return (
                "--images, --masks and --classes (or --labels, --foreground "
                "or --label-map) must be given together"
            )
        for name in (*meaning[:3], "palette", "void_colors"):
            if options.label_map and given[name]:
                return (
                    f"{flag(name)} cannot be used with --label-map, whose file "
                    "describes the masks"
                )
        if options.images and options.dataset:
            return "use either DATASET or --images, not both"
        if not options.images:
            for name in FOLDER_ARGUMENTS:
                # These also apply to datasets, and to the folders of a run.
                if name in ("value_range", "unmatched"):
                    continue
                if given[name] not in (None, getattr(commands.Data, name)):
                    return f"{flag(name)} requires --images"
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
                "--encoder builds a different network, so it cannot be used "
                f"with --model {options.model}"
            )
        if options.weights:
            return (
                "--weights cannot be used with --encoder; use --encoder-weights"
            )
        # --encoder allows --encoder-weights with the default of --model.
        given = {**given, "encoder_weights": None}
    elif given.get("skips"):
        return "--skips requires --encoder"
    for name, option in OPTIONS.items():
        for other, words in option.only_for.items():
            is_given = given.get(name) not in (None, "none", False)
            if not is_given or given[other] in words:
                continue
            if given[other] is None:
                return (
                    f"{flag(name)} requires {flag(other)} "
                    f"{words_for(name, other)}"
                )
            reason = ""
            if name == "class_weights":
                reason = ", which weights all classes equally"
            return (
                f"{flag(name)} can be used only with {flag(other)} "
                f"{words_for(name, other)}. Received: {flag(other)} "
                f"{given[other]}{reason}"
            )
    return None


def _val_problem(options: argparse.Namespace) -> str | None:
    """Return an error message for wrong options of the validation images."""
    if bool(options.val_images) != bool(options.val_masks):
        return "--val-images and --val-masks must be given together"
    if options.val_images and not options.images:
        return "--val-images requires --images"
    if options.val_images and options.val_split not in (None, "validation"):
        return (
            "--val-split splits --images, so it cannot be used with "
            "--val-images, which are all used for validation"
        )
    return None


def _model_problem(options: argparse.Namespace) -> str | None:
    """Return an error message for wrong options of the network."""
    if options.init_from:
        for name in ("weights", "encoder_weights"):
            if getattr(options, name):
                return (
                    "--init-from loads the weights, so it cannot be used with "
                    f"{flag(name)}"
                )
    if options.model in CHOICES["model"]:
        return None
    if options.decoder != _DECODER:
        return (
            "--decoder can be used only with --model "
            f"{', '.join(CHOICES['model'])}. Received: --model {options.model}"
        )
    if options.model.endswith(_MODEL_SUFFIX):
        for name in ("init_from", "mixed_precision"):
            if getattr(options, name):
                return (
                    f"{flag(name)} cannot be used with --model "
                    f"{options.model}, since a file is trained unchanged"
                )
    return None


def network(text: str) -> str:
    """Parse a network of the library, a function, or the path of a file."""
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
    """Parse the name of a Python module."""
    if not modules.is_name(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be the name of a Python module, such as "
            "package.module"
        )
    return text


def _view_problem(options: argparse.Namespace) -> str | None:
    """Return an error message for wrong options of the image size."""
    if options.tile and options.at:
        return (
            "--tile predicts images at their own size, so it cannot be used "
            "with --at"
        )
    if options.overlap is not None and not options.tile:
        return "--overlap requires --tile"
    if options.tile and (options.overlap or 0) >= min(options.tile):
        return (
            f"--overlap must be less than --tile. Received: {options.overlap}"
            f" and {options.tile[0]}x{options.tile[1]}"
        )
    if getattr(options, "monte_carlo", None):
        for name in ("tile", "flip"):
            if getattr(options, name):
                return f"--monte-carlo cannot be used with {flag(name)}"
    return None


def _crop_problem(options: argparse.Namespace) -> str | None:
    """Return an error message for a wrong size of crops."""
    if options.crop is None:
        return None
    if options.image_size is None:
        return (
            "--crop requires --image-size, the size to which images are "
            "resized before they are cropped"
        )
    if options.encoder == "nasnetmobile":
        return (
            "--crop cannot be used with --encoder nasnetmobile, which supports "
            "only images of one size"
        )
    (height, width), (rows, columns) = options.image_size, options.crop
    if rows > height or columns > width:
        return (
            "--crop must not be larger than --image-size. Received: --crop "
            f"{rows}x{columns}, --image-size {height}x{width}"
        )
    return None


def path(text: str) -> str:
    """Return an absolute path."""
    return os.path.abspath(os.path.expanduser(text))


def val_split(text: str) -> str:
    """Parse a split or a share; a number must be a valid share."""
    is_number = re.fullmatch(r"[-+]?[\d.,]+\s*%?", text, re.ASCII)
    if is_number and not re.fullmatch(r"[1-9]\d?%", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a share from 1% to 99% in whole percent, such "
            "as 20%; a split such as validation; a slice such as train[80%:]; "
            "`rest`; or `none`"
        )
    return text


def size(text: str) -> tuple[int, int]:
    """Parse height and width."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be HEIGHTxWIDTH in pixels, such as 180x240"
        )
    return int(match[1]), int(match[2])


def tile(text: str) -> tuple[int, int]:
    """Parse height and width, or one number for both."""
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
    """Return a function that parses an integer from `low` to `high`."""
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
    """Parse a learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def classes(text: str) -> int | tuple[str, ...]:
    """Parse the number of classes, or their names, which the library checks."""
    if not re.fullmatch(r"\d+", text, re.ASCII):
        return tuple(name.strip() for name in text.split(","))
    number = int(text)
    if not 2 <= number <= 255:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a number from 2 to 255 (background and "
            "foreground are two classes), or as many distinct names separated "
            "by commas, each on one line"
        )
    return number


def labels(text: str) -> dict[int, str] | dict[int, int]:
    """Parse values in the masks with the names or ids of their classes.

    The library checks the names.
    """
    names: dict[int, str] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*=(.+)", part, re.ASCII | re.DOTALL)
        if match is None or int(match[1]) > 255 or int(match[1]) in names:
            raise argparse.ArgumentTypeError(
                f"{text!r} must be distinct values from 0 to 255 with the "
                "names of their classes, such as 0=background,255=building"
            )
        names[int(match[1])] = match[2].strip()
    if all(name.isdecimal() for name in names.values()):
        return {label: int(name) for label, name in names.items()}
    return names


def value_range(text: str) -> tuple[float, float]:
    """Parse two numbers, the lower one first."""
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
    """Parse the colors of the classes, or the word `voc`."""
    return text if text == "voc" else colors(text)


def colors(text: str) -> tuple[tuple[int, int, int], ...]:
    """Parse colors written as in HTML."""
    parts = [part.strip().removeprefix("#") for part in text.split(",")]
    if not all(re.fullmatch("[0-9a-fA-F]{6}", part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be colors RRGGBB in hexadecimal, separated by "
            "commas, such as 808080,00ff00"
        )
    return tuple(
        (int(part[:2], 16), int(part[2:4], 16), int(part[4:], 16))
        for part in parts
    )


def void_labels(text: str) -> tuple[int, ...]:
    """Parse the values in a mask that mean void."""
    if text == "none":
        return ()
    numbers = text.split(",")
    if not all(
        re.fullmatch(r"\d+", number, re.ASCII) and int(number) < 256
        for number in numbers
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers from 0 to 255, separated by commas, or "
            "`none`"
        )
    return tuple(int(number) for number in numbers)
