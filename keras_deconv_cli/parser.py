"""What can be written after `keras-deconv`.

Imports neither Keras nor TensorFlow, which take seconds.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

# Name in the command, name in `keras_deconv.models`.
MODELS = {
    "segnet_basic": "SegNetBasic",
    "segnet": "SegNet",
    "bayesian_segnet_basic": "BayesianSegNetBasic",
    "bayesian_segnet": "BayesianSegNet",
    "deconvnet": "DeconvNet",
    "enet": "ENet",
}
# Those that have the layers of VGG-16.
WITH_ENCODER_WEIGHTS = ("segnet", "bayesian_segnet", "deconvnet")
DECODERS = ("max_unpool", "bed_of_nails", "nearest", "conv_transpose")
# Name in the command, name in `keras_deconv.losses`.
LOSSES = {
    "crossentropy": "SegmentationCrossentropy",
    "focal": "SegmentationFocal",
    "dice": "SegmentationDice",
    "tversky": "SegmentationTversky",
}
# Those of `keras_deconv.distribution`.
STRATEGIES = ("one", "mirrored", "multi_worker", "data_parallel")
MAX_SEED = 2**31 - 1
WITH_CLASS_WEIGHTS = ("crossentropy", "focal")
FORMATS = ("saved_model", "tflite", "onnx")
QUANTIZATIONS = ("float16", "dynamic", "int8")

_MODEL_HELP = "folder that train wrote, or a .keras file"

_DESCRIPTION = """\
Semantic segmentation with real unpooling: train a network, measure it, and
let it label pictures. For a start, on street scenes that are drawn on the
spot:

  keras-deconv train
  keras-deconv evaluate runs/scenes_segnet_basic
  keras-deconv predict runs/scenes_segnet_basic photos/ --output labeled
"""

_TRAIN = """\
Train a network, on a data set of tensorflow-datasets or on folders of your
own. Pictures are PNG or JPEG files; masks are PNG files of the same names
whose pixels are class numbers.

  keras-deconv train
  keras-deconv train oxford_iiit_pet --image-size 128x128 --epochs 20
  keras-deconv train --images photos --masks labels --classes sky,road,car

Into --output it writes model.keras (the best one by the mean IoU of the
validation pictures; without validation the last one), history.csv,
per_class.csv, previews/ and run.json; files of these names that are no run's
it does not touch. Stopped, even killed, it goes on after the last finished
epoch when the same command is given again.

On many GPUs each takes its share of every batch. --strategy mirrored: those of
this host. Those of many hosts: the same command in a process on each, with the
same --output and --data-dir, which all see; the first process writes. The best
way is --strategy data_parallel, with these in the environment (or under Slurm
or Open MPI without):

  KERAS_BACKEND=jax
  KERAS_DISTRIBUTION_JOB_ADDRESSES=host0:12345   # of the first process
  KERAS_DISTRIBUTION_NUM_PROCESSES=2
  KERAS_DISTRIBUTION_PROCESS_ID=0                # 1 in the other

With TensorFlow it is --strategy multi_worker, and in the environment

  TF_CONFIG='{"cluster": {"worker": ["host0:12345", "host1:12345"]},
              "task": {"type": "worker", "index": 0}}'
"""

_EVALUATE = """\
Measure a model: global accuracy, class accuracy, mean IoU and boundary F1, in
all and class by class. Without a data set: on the test split of the one that
it was trained with, else on its validation split.

  keras-deconv evaluate runs/scenes_segnet_basic
  keras-deconv evaluate model.keras cam_vid --manual-dir CamVid
"""

_PREDICT = """\
Label pictures, files or folders or patterns such as 'photos/*.jpg', of any
size. Each is resized to the size that the model was trained with, and what the
model is sure of is resized back, so that masks have the size of their picture.

  keras-deconv predict runs/scenes_segnet_basic photos/ --output labeled

For street.jpg it writes street_mask.png (class numbers), street_color.png and
street_overlay.png. Pictures of one name in several folders are named with
their folders. In folders, what is hidden is not looked at; --output must lie
outside of them. What cannot be labeled is left out, and the exit code is then
1.
"""

_EXPORT = """\
Write a model as a file that runs without keras_deconv: as a SavedModel for
TensorFlow Serving, which takes pictures of any size, as a TFLite file for
phones (LiteRT), or as an ONNX file. --quantize makes a TFLite file smaller;
for int8 it looks at 100 pictures of the training.

  keras-deconv export runs/scenes_segnet_basic --output saved_model
  keras-deconv export model.keras --format onnx --output model.onnx
  keras-deconv export runs/scenes_segnet_basic --format tflite \\
      --quantize int8 --output model.tflite
"""

_CHECK = """\
Read a data set once and report labels that are no class, classes that never
occur, sizes, and pictures that cannot be read. The exit code is 1 if something
is wrong.

  keras-deconv check cam_vid --manual-dir CamVid --split train
  keras-deconv check --images photos --masks labels --classes 3
"""

_INFO = """\
Tell what a model or a data set is. Without either: versions, devices, and the
data sets and models that there are.

  keras-deconv info runs/scenes_segnet_basic
  keras-deconv info cam_vid
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads arguments; ends the process with 2 where they are wrong."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser, commands = _parsers()
    if not given or given[0] not in commands:
        parser.parse_args(given)  # --help, or no such command.
    command = commands[given[0]]
    # Intermixed, so that options may stand before a data set and after it.
    options = command.parse_intermixed_args(given[1:])
    problem = _problem(options)
    if problem:
        command.error(problem)
    return options


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, module: str, summary: str, description: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(command=name, module=module)
        command.add_argument(
            "--debug", action="store_true", help="show where an error is from"
        )
        return command

    _add_train(add("train", "training", "train a network", _TRAIN))
    _add_evaluate(add("evaluate", "evaluation", "measure a model", _EVALUATE))
    _add_predict(add("predict", "prediction", "label pictures", _PREDICT))
    _add_export(add("export", "inspection", "write for elsewhere", _EXPORT))
    _add_check(add("check", "inspection", "find faults of a data set", _CHECK))
    _add_info(
        add("info", "inspection", "tell about models and data sets", _INFO)
    )
    return parser, commands.choices


def _add_train(command: argparse.ArgumentParser) -> None:
    data = _add_data(command, default="scenes")
    data.add_argument("--val-images", type=path, metavar="DIR")
    data.add_argument("--val-masks", type=path, metavar="DIR")
    data.add_argument(
        "--train-split",
        default="train",
        metavar="SPLIT",
        help="split to train on, such as train[:80%%] (default: %(default)s)",
    )
    data.add_argument(
        "--val-split",
        metavar="SPLIT",
        help="split to measure on after every epoch, or none (default: "
        "validation if there is one, else test)",
    )
    model = command.add_argument_group("model")
    model.add_argument(
        "--model",
        default="segnet_basic",
        choices=MODELS,
        help=f"{', '.join(MODELS)} (default: %(default)s)",
        metavar="MODEL",
    )
    model.add_argument(
        "--decoder",
        default="max_unpool",
        choices=DECODERS,
        help="how pooling is undone: "
        f"{', '.join(DECODERS)} (default: %(default)s)",
        metavar="DECODER",
    )
    model.add_argument(
        "--encoder-weights",
        metavar="WEIGHTS",
        help="imagenet, or a file with the weights of VGG-16, for "
        f"{', '.join(WITH_ENCODER_WEIGHTS)} (default: none)",
    )
    model.add_argument(
        "--image-size",
        default=(48, 64),
        type=size,
        metavar="HEIGHTxWIDTH",
        help="size that pictures are resized to (default: 48x64)",
    )
    training = command.add_argument_group("training")
    add = training.add_argument
    add(
        "--epochs",
        default=6,
        type=positive_int,
        help="times to go through the pictures (default: %(default)s)",
    )
    add(
        "--batch-size",
        default=8,
        type=positive_int,
        help="pictures per step, of all replicas together (default: "
        "%(default)s)",
    )
    add(
        "--learning-rate",
        default=2e-3,
        type=rate,
        help="Adam's at first; it falls to 0 as a cosine (default: "
        "%(default)s)",
    )
    add(
        "--loss",
        default="crossentropy",
        choices=LOSSES,
        metavar="LOSS",
        help=f"{', '.join(LOSSES)} (default: %(default)s)",
    )
    add(
        "--class-weights",
        default="none",
        choices=("none", "median", "enet"),
        metavar="KIND",
        help="none, median (rare classes weigh more, as in SegNet) or enet, "
        f"for {' and '.join(WITH_CLASS_WEIGHTS)} (default: %(default)s)",
    )
    add(
        "--augment",
        action="store_true",
        help="mirror, enlarge and brighten pictures at random",
    )
    add(
        "--mixed-precision",
        choices=("float16", "bfloat16"),
        metavar="DTYPE",
        help="float16 or bfloat16: faster on GPUs (default: neither)",
    )
    add(
        "--early-stopping",
        type=positive_int,
        metavar="PATIENCE",
        help="stop after so many epochs without a better validation mean IoU",
    )
    add(
        "--seed",
        default=0,
        type=seed,
        help="of all that is random (default: %(default)s)",
    )
    add(
        "--strategy",
        default="one",
        choices=STRATEGIES,
        metavar="STRATEGY",
        help="one device; mirrored: all of this host, with TensorFlow; "
        "multi_worker: of many hosts, with TensorFlow; data_parallel: of one "
        "host or many, with JAX. A last batch of an epoch that is not full is "
        "left out by all but one (default: %(default)s)",
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
        type=natural_number,
        metavar="EPOCHS",
        help="draw predictions after every so many epochs, 0 for never "
        "(default: %(default)s)",
    )
    results.add_argument(
        "--tensorboard",
        action="store_true",
        help="write tensorboard/, for the TensorBoard",
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model_path", metavar="MODEL", help=_MODEL_HELP)
    _add_split(_add_data(command), "test, else validation, else train")
    add = command.add_argument
    add(
        "--batch-size",
        default=8,
        type=positive_int,
        help="pictures at a time (default: %(default)s)",
    )
    add("--json", type=path, metavar="PATH", help="also write the scores there")


def _add_predict(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model_path", metavar="MODEL", help=_MODEL_HELP)
    add(
        "pictures",
        metavar="PICTURE",
        nargs="+",
        help="file, folder or pattern",
    )
    add(
        "--output",
        required=True,
        type=path,
        metavar="DIR",
        help="folder to write to",
    )
    add(
        "--monte-carlo",
        type=positive_int,
        metavar="SAMPLES",
        help="predict so many times with dropout on, and draw how sure the "
        "model is into street_uncertainty.png; for Bayesian models",
    )
    add(
        "--seed",
        default=0,
        type=seed,
        help="of --monte-carlo (default: %(default)s)",
    )


def _add_export(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model_path", metavar="MODEL", help=_MODEL_HELP)
    add(
        "--output",
        required=True,
        type=path,
        metavar="PATH",
        help="file to write, of a SavedModel the folder",
    )
    add(
        "--format",
        default="saved_model",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: %(default)s)",
    )
    add(
        "--quantize",
        choices=QUANTIZATIONS,
        metavar="KIND",
        help=f"{', '.join(QUANTIZATIONS)}, for tflite (default: none of them)",
    )
    _add_data_dir(command)
    _add_manual_dir(command)


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_split(_add_data(command, default="scenes"), "train")


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "subject",
        nargs="?",
        metavar="MODEL | DATASET",
        help=f"{_MODEL_HELP}, or the name of a data set",
    )
    _add_data_dir(command)


def _add_data(
    command: argparse.ArgumentParser, default: str | None = None
) -> Any:
    """Adds a group, whose class has no public name."""
    data = command.add_argument_group("data")
    add = data.add_argument
    shown = default or "that of the training"
    add(
        "dataset",
        nargs="?",
        metavar="DATASET",
        help="data set of tensorflow-datasets; keras-deconv info lists them "
        f"(default: {shown})",
    )
    command.set_defaults(default_dataset=default)
    _add_data_dir(data)
    _add_manual_dir(data)
    add(
        "--images",
        type=path,
        metavar="DIR",
        help="folder of pictures of your own, with --masks and --classes",
    )
    add("--masks", type=path, metavar="DIR", help="folder of their masks")
    add(
        "--classes",
        type=classes,
        metavar="N|NAME,...",
        help="how many classes the masks have, or their names; they are the "
        "numbers from 0 on that are not --void-labels",
    )
    add(
        "--void-labels",
        type=labels,
        default=[255],
        metavar="N,...",
        help="pixels of the masks that are no class (default: 255)",
    )
    add(
        "--mask-suffix",
        default="",
        metavar="TEXT",
        help="_mask, if 7.jpg has the mask 7_mask.png (default: nothing)",
    )
    return data


def _add_data_dir(data: Any) -> None:
    data.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="where tfds keeps sets",
    )


def _add_manual_dir(data: Any) -> None:
    data.add_argument(
        "--manual-dir",
        type=path,
        metavar="DIR",
        help="folder with archives or pictures that are not to be downloaded",
    )


def _add_split(data: Any, default: str) -> None:
    data.add_argument(
        "--split",
        metavar="SPLIT",
        help=f"such as test or train[:10%%] (default: {default})",
    )


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are right each on its own."""
    given = vars(options)
    if "images" in given:
        folders = [given[name] for name in ("images", "masks", "classes")]
        if any(folders) and not all(folders):
            return "--images, --masks and --classes go together"
        if options.images and options.dataset:
            return "give a DATASET or --images, not both"
        if not options.images:
            options.dataset = options.dataset or options.default_dataset
        del options.default_dataset
    if options.command == "export":
        if options.quantize and options.format != "tflite":
            return f"--quantize is for tflite, not for {options.format}"
    if options.command != "train":
        return None
    if bool(options.val_images) != bool(options.val_masks):
        return "--val-images and --val-masks go together"
    if options.val_images and not options.images:
        return "--val-images goes with --images"
    if options.encoder_weights and options.model not in WITH_ENCODER_WEIGHTS:
        return (
            f"--encoder-weights is for {', '.join(WITH_ENCODER_WEIGHTS)}, "
            f"not for {options.model}"
        )
    if options.class_weights != "none" and (
        options.loss not in WITH_CLASS_WEIGHTS
    ):
        return (
            f"--class-weights is for {' and '.join(WITH_CLASS_WEIGHTS)}; "
            f"{options.loss} counts all classes alike"
        )
    return None


def path(text: str) -> str:
    """A path that means the same in every working directory."""
    return os.path.abspath(os.path.expanduser(text))


def size(text: str) -> tuple[int, int]:
    """Height and width."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be HEIGHTxWIDTH in pixels, such as 180x240"
        )
    return int(match[1]), int(match[2])


def natural_number(text: str) -> int:
    """A number from 0."""
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer >= 0")
    return int(text)


def seed(text: str) -> int:
    """A seed that every backend takes."""
    number = int(text) if re.fullmatch(r"\d+", text, re.ASCII) else -1
    if not 0 <= number <= MAX_SEED:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be an integer from 0 to {MAX_SEED}"
        )
    return number


def positive_int(text: str) -> int:
    """A number from 1."""
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer >= 1")
    return int(text)


def rate(text: str) -> float:
    """A learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def classes(text: str) -> int | list[str]:
    """The number of classes, or their names."""
    if re.fullmatch(r"\d+", text, re.ASCII):
        number = int(text)
        if 2 <= number <= 255:
            return number
    else:
        names = [name.strip() for name in text.split(",")]
        if (
            2 <= len(names) <= 255
            and len(set(names)) == len(names)
            # One line each: neither none nor several.
            and all(len(name.splitlines()) == 1 for name in names)
        ):
            return names
    raise argparse.ArgumentTypeError(
        f"{text!r} must be a number from 2 to 255, or as many different names "
        "of one line with commas between them"
    )


def labels(text: str) -> list[int]:
    """Labels of a mask."""
    numbers = text.split(",")
    if not all(
        re.fullmatch(r"\d+", number, re.ASCII) and int(number) < 256
        for number in numbers
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers from 0 to 255 with commas between them"
        )
    return [int(number) for number in numbers]
