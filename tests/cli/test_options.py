"""The options: what is refused, and what they are in the library."""

import argparse
import dataclasses
import inspect
import os
import subprocess
import sys

import keras
import pytest

from keras_deconv import data, distribution, export, losses, models
from keras_deconv.export import tflite
from keras_deconv.models import _blocks
from keras_deconv_cli import api, commands, main, parser


def test_help_comes_without_tensorflow():
    result = subprocess.run(
        [
            *[sys.executable, "-X", "importtime", "-m", "keras_deconv_cli"],
            *["train", "--help"],
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "keras-deconv train" in result.stdout
    assert "(default: runs/DATASET_MODEL)" in result.stdout
    assert "keras_deconv_cli.parser" in result.stderr
    for module in ("tensorflow", "numpy", "keras_deconv.models"):
        assert module not in result.stderr


def objects(module, without=()):
    """Public names of a module of the library, as CHOICES writes them."""
    names = set(module.__all__) - set(without)
    return {
        f"{module.__name__.removeprefix('keras_deconv.')}.{n}" for n in names
    }


def test_words_are_those_of_the_library():
    words = {option: set(c.values()) for option, c in api.CHOICES.items()}
    assert words == {
        # No encoder-decoders, no decoder; a function for trained models.
        "model": objects(
            models,
            {
                *("PatchClassifier", "FullResolutionNet"),
                "recompute_batch_statistics",
            },
        ),
        "decoder": set(_blocks.DECODERS),
        "loss": objects(losses),
        "class_weights": {
            *("", "data.median_frequency_weights", "data.enet_weights")
        },
        "mixed_precision": {"mixed_float16", "mixed_bfloat16"},
        "strategy": set(distribution.STRATEGIES),
        "format": objects(export),
        "quantize": set(tflite.QUANTIZATIONS),
        "unmatched": {"error", "skip"},
    }
    # Those are all functions that make weights of frequencies.
    assert {n for n in data.__all__ if n.endswith("_weights")} == {
        *("median_frequency_weights", "enet_weights")
    }
    for option, choices in api.CHOICES.items():
        for word, name in choices.items():
            if "." in name:
                assert callable(api.find(option, word)), name
            if name.startswith("mixed_"):
                assert keras.dtype_policies.get(name).name == name


def test_options_of_some_words_are_those_of_the_library():
    for option, names, argument in (
        ("model", api.WITH_ENCODER_WEIGHTS, "encoder_weights"),
        ("loss", api.WITH_CLASS_WEIGHTS, "class_weights"),
    ):
        assert set(names) == {
            word
            for word in api.CHOICES[option]
            if argument in inspect.signature(api.find(option, word)).parameters
        }


def test_options_become_a_typed_command():
    command, debug = parser.parse(
        "train --images a --masks b --classes x,y --debug --augment".split()
    )
    assert debug
    assert isinstance(command, commands.Train)
    assert command.data.images == os.path.abspath("a")
    assert command.data.classes == ("x", "y")
    assert command.results == commands.Results()
    assert command.augment
    record = command.record()
    assert record["masks"] == command.data.masks
    assert record["augment"] is True
    assert not record.keys() & {"output", "debug", "data", "results", "kind"}
    # Each command has its class, and each class is used.
    for text, kind in (
        ("evaluate m", commands.Evaluate),
        ("predict m p --output o", commands.Predict),
        ("export m --output o", commands.Export),
        ("check", commands.Check),
        ("info", commands.Info),
    ):
        command, debug = parser.parse(text.split())
        assert type(command) is kind
        assert not debug
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.subject = "scenes"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "COMMAND"),
        ("dance", "invalid choice"),
        ("train --epochs 0", "integer >= 1"),
        ("train --batch-size -1", "integer >= 1"),
        ("train --learning-rate nan", "number above 0"),
        ("train --learning-rate 0", "number above 0"),
        ("train --seed x", "integer from 0 to 2147483647"),
        ("train --seed 4294967296", "integer from 0 to 2147483647"),
        ("predict m p --output o --seed 2147483648", "0 to 2147483647"),
        ("train --preview-every -1", "integer >= 0"),
        ("train --image-size 0x0", "HEIGHTxWIDTH"),
        ("train --image-size 64", "such as 180x240"),
        ("train --model unet", "segnet_basic"),
        ("train --classes 1", "2 to 255"),
        ("train --classes a,a", "different names"),
        ("train --classes a,,b", "different names"),
        ("train --void-labels 256", "0 to 255"),
        ("train --labels 0", "0=background,255=building"),
        ("train --labels 0=a,0=b", "different values"),
        ("train --labels 0=a,256=b", "0 to 255"),
        ("train --labels 0=,1=b", "names of classes"),
        ("train --foreground 0", "from 1 to 255"),
        ("train --value-range 5", "LOW,HIGH"),
        ("train --value-range 5,5", "LOW,HIGH"),
        ("train --value-range 0,inf", "LOW,HIGH"),
        ("train --void-labels 0", "--void-labels goes with --images"),
        ("check cam_vid --mask-suffix _m", "--mask-suffix goes with --images"),
        ("train --images a --masks b --unmatched no", "error"),
        ("train --foreground 255", "--labels, or --foreground) go together"),
        ("train --images a", "--masks"),
        ("train --images a --masks b", "--classes"),
        ("train cam_vid --images a --masks b --classes 2", "not both"),
        ("train --val-images a", "--val-masks"),
        ("train --val-images a --val-masks b", "--images"),
        ("train --encoder-weights imagenet", "not for segnet_basic"),
        ("train --loss dice --class-weights median", "crossentropy and focal"),
        ("train --strategy all", "data_parallel"),
        ("train --palette 80808", "RRGGBB in hexadecimal"),
        ("train --palette 808080,red", "RRGGBB in hexadecimal"),
        ("train --palette 808080", "--palette goes with --images"),
        ("train --void-colors 808080", "--void-colors goes with --images"),
        *(
            (
                f"train --val-split {text}",
                f"argument --val-split: '{text}' must be a share from 1% to "
                "99% in whole percent, such as 20%; a split such as "
                "validation, or a slice such as train[80%:]; rest; or none",
            )
            for text in ("0.2", "0%", "100%", "12.5%", "20", "020%")
        ),
        ("train --smo", "unrecognized"),
        ("evaluate", "MODEL"),
        ("predict model picture", "--output"),
        ("predict m p --output o --monte-carlo 0", "integer >= 1"),
        ("export model", "--output"),
        ("export model --output o --quantize int8", "is for tflite"),
        ("export model --output o --format tflite --quantize x", "float16"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments.split())
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert "usage:" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("text", ["a\nb,c", "a,b\u2028c", "a, ,b"])
def test_names_of_classes_are_one_line_each(text):
    with pytest.raises(argparse.ArgumentTypeError, match="of one line"):
        parser.classes(text)
    assert parser.classes(" sky, traffic light\n") == ("sky", "traffic light")


def test_arguments_are_those_of_the_library():
    functions = (data.from_folders, data.load, models.SegNet, export.to_tflite)
    functions += (distribution.connect, data.check)
    known = {
        name
        for function in functions
        for name in inspect.signature(function).parameters
    }
    assert api.OPTIONS.keys() <= known
    # Every argument about folders is an option, but for those of splits.
    given = inspect.signature(data.from_folders).parameters.keys()
    loading = inspect.signature(data.load).parameters.keys()
    assert given - loading - {"images", "masks", "files"} == {
        *(set(api.FOLDER_ARGUMENTS) - {"value_range"}),
        *("validation_split", "subset"),
    }
    # And every option is one of some command.
    _, known_commands = parser._parsers()
    options = "".join(c.format_help() for c in known_commands.values())
    assert all(option in options for option in api.OPTIONS.values())
    fields = {field.name for field in dataclasses.fields(commands.Data)}
    assert set(api.FOLDER_ARGUMENTS) <= fields


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`classes` must be", "--classes must be"),
        ("Received: classes=3.", "Received: --classes 3."),
        ("use void_labels=(0,) or", "use --void-labels 0 or"),
        ("void_labels=()", "--void-labels none"),
        ("labels={1: 0, 2: 1}.", "--labels 1=0,2=1."),
        ("labels={0: 'a b', 1: 'c'}", "--labels 0=a b,1=c"),
        ("labels={0: 0, V: 1}", "--labels {0: 0, V: 1}"),
        ("value_range=(0, 4095).", "--value-range 0,4095."),
        ("input_shape=(48, 64, 3)", "--image-size 48x64"),
        ("foreground=None", "no --foreground"),
        ("name='pets'", "DATASET 'pets'"),
        ("classes=['a', 'b']", "--classes a,b"),
        ("split='x[:2]'", "SPLIT 'x[:2]'"),
        ("with unmatched='skip'.", "with --unmatched skip."),
        # Not arguments: paths, other names, numbers of classes.
        ("/tmp/images=3/a.png", "/tmp/images=3/a.png"),
        ("--classes=3", "--classes=3"),
        ("num_classes=3", "num_classes=3"),
        (
            "`palette` must say. Received: palette=None",
            "--palette must say. Received: no --palette",
        ),
        ("palette=[(128, 0, 255), (0, 0, 1)]", "--palette 8000ff,000001"),
    ],
)
def test_messages_name_options(text, expected):
    assert api.in_options(text) == expected
