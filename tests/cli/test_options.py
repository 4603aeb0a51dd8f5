"""Tests of invalid options, and of the table of options and arguments."""

import dataclasses
import inspect
import operator
import os
import re
import subprocess
import sys

import keras
import pytest

import keras_deconv
from keras_deconv import data, distribution, export, losses, models
from keras_deconv.export import tflite
from keras_deconv.inference import photos
from keras_deconv.models import _blocks, _mirrored, enet
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
    """Return the public names of a module in the notation of CHOICES."""
    names = set(module.__all__) - set(without)
    return {
        f"{module.__name__.removeprefix('keras_deconv.')}.{n}" for n in names
    }


def test_words_are_those_of_the_library():
    words = {option: set(c.values()) for option, c in api.CHOICES.items()}
    assert words == {
        # Excluded names are not networks with a decoder, or need an encoder.
        "model": objects(
            models,
            {
                *("PatchClassifier", "FullResolutionNet", "EncoderDecoder"),
                *("recompute_batch_statistics", "unpool_stage"),
            },
        ),
        "encoder": words["encoder"] & set(vars(keras.applications)),
        "skips": set(_mirrored.SKIPS),
        "decoder": set(_blocks.DECODERS),
        "decoder_activation": set(enet.ACTIVATIONS),
        "loss": objects(losses),
        "class_weights": {
            *("", "data.median_frequency_weights", "data.enet_weights")
        },
        "mixed_precision": {"mixed_float16", "mixed_bfloat16"},
        "strategy": set(distribution.STRATEGIES),
        "format": objects(export),
        "quantize": set(tflite.QUANTIZATIONS),
        "io_dtype": set(tflite.IO_DTYPES) - {"float32"},
        "unmatched": {"error", "skip"},
        "at": {"", photos.ORIGINAL},
        "cache": {"memory", "disk", ""},
    }
    # The library does not have other functions for class weights.
    assert {n for n in data.__all__ if n.endswith("_weights")} == {
        *("median_frequency_weights", "enet_weights")
    }
    for option, choices in api.CHOICES.items():
        for word, name in choices.items():
            if "." in name:
                assert callable(api.find(option, word)), name
            if name.startswith("mixed_"):
                assert keras.dtype_policies.get(name).name == name


def fields_of(*kinds):
    fields = [field for kind in kinds for field in dataclasses.fields(kind)]
    return {field.name for field in fields} - {"data", "results", "view"}


def test_every_option_is_in_the_table(capsys, monkeypatch):
    # argparse would break narrow lines at hyphens.
    monkeypatch.setenv("COLUMNS", "1000")
    kinds = commands.Command.__args__
    assert api.OPTIONS.keys() == fields_of(
        *kinds, commands.Data, commands.Results, commands.View
    )
    flags = set()
    for kind in kinds:
        with pytest.raises(SystemExit):
            main([kind.__name__.lower(), "--help"])
        flags |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = {api.flag(name) for name in api.OPTIONS}
    assert flags - {"--help", "--debug"} == {
        *(name for name in named if name.startswith("--")),
        *("--split", "--no-cache"),
    }


def test_every_argument_is_one_of_the_library():
    for option in api.OPTIONS.values():
        for path in option.arguments:
            function, _, argument = path.rpartition(".")
            function = operator.attrgetter(function)(keras_deconv)
            assert argument in inspect.signature(function).parameters, path
    # The other options belong to the command or Keras, or select a function.
    assert {n for n, o in api.OPTIONS.items() if not o.arguments} == {
        *("augment", "early_stopping", "encoder", "epochs", "format"),
        *("init_from", "inputs", "json", "label_map", "module"),
        *("learning_rate", "loss", "mixed_precision", "model"),
        *("smoke", "subject", "tensorboard"),
    }
    # All arguments for folders are options, except those of splits.
    given = inspect.signature(data.from_folders).parameters.keys()
    loading = inspect.signature(data.load).parameters.keys()
    assert given - loading - {"images", "masks", "files"} == {
        *(set(api.FOLDER_ARGUMENTS) - {"value_range"}),
        *("validation_split", "subset"),
    }


def test_options_are_for_the_words_that_have_the_argument():
    for other in ("model", "loss", "format"):
        functions = {word: api.find(other, word) for word in api.CHOICES[other]}
        for name, option in api.OPTIONS.items():
            for path in option.arguments:
                function, _, argument = path.rpartition(".")
                if function not in api.CHOICES[other].values():
                    continue
                words = {
                    word
                    for word, function in functions.items()
                    if argument in inspect.signature(function).parameters
                }
                stated = set(option.only_for.get(other, functions))
                assert stated == words, name


@pytest.mark.parametrize("suffixes", api.WEIGHT_FILES)
def test_networks_take_the_weight_files_of_the_table(suffixes, tmp_path):
    for word in api.WEIGHT_FILES[suffixes]:
        with pytest.raises(ValueError, match="`weights` must be") as caught:
            api.find("model", word)((8, 8, 3), 2, weights=tmp_path)
        ends = str(caught.value).split("ends in ")[1].split(". Received")[0]
        assert ends == suffixes.replace(" or", ",")


def test_a_field_without_an_option_is_a_fault(monkeypatch):
    fields = [("more", str, dataclasses.field(default=""))]
    kind = dataclasses.make_dataclass(
        "Info", fields, bases=(commands.Info,), frozen=True
    )
    monkeypatch.setattr(commands, "Info", kind)
    with pytest.raises(KeyError, match="more"):
        parser.parse(["info"])


def test_options_become_a_typed_command():
    command, debug = parser.parse(
        "train --images a --masks b --classes x,y --debug --augment".split()
    )
    assert debug
    assert isinstance(command, commands.Train)
    assert command.data.images == os.path.abspath("a")
    assert command.data.classes == ("x", "y")
    assert command.results == commands.Results(
        output=None, preview_every=1, tensorboard=False
    )
    assert command.augment
    record = command.record()
    assert record["masks"] == command.data.masks
    assert record["augment"] is True
    assert not record.keys() & {"output", "debug", "data", "results", "kind"}
    # Each command has its own class.
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
        ("train --model unet", "a function of your own, such as"),
        ("train --model ../nets:unet", "a file that ends in .keras"),
        (
            "train --model nets:unet --decoder nearest",
            "Received: --model nets:unet",
        ),
        (
            "train --model nets:unet --weights x.pth",
            "Received: --model nets:unet",
        ),
        ("train --encoder vgg16 --model nets:unet", "be used with --mod"),
        ("train --model x.keras --init-from y.keras", "trained unchanged"),
        ("train --init-from x.keras --weights y.pth", "loads the weights"),
        ("evaluate m --import a;b", "name of a Python module"),
        ("train --crop 8", "HEIGHTxWIDTH"),
        ("train --crop 8x8", "--crop requires --image-size"),
        (
            "train --crop 8x25 --image-size 16x24",
            "larger than --image-size. Received: --crop 8x25, --image-size 16",
        ),
        (
            "train --crop 8x8 --image-size 9x9 --encoder nasnetmobile",
            "--crop cannot be used with --encoder nasnetmobile",
        ),
        ("train --classes 1", "2 to 255"),
        ("train --void-labels 256", "0 to 255"),
        ("train --labels 0", "0=background,255=building"),
        ("train --labels 0=a,0=b", "distinct values"),
        ("train --labels 0=a,256=b", "0 to 255"),
        ("train --labels 0=,1=b", "names of their classes"),
        ("train --foreground 0", "from 1 to 255"),
        ("train --value-range 5", "LOW,HIGH"),
        ("train --value-range 5,5", "LOW,HIGH"),
        ("train --value-range 0,inf", "LOW,HIGH"),
        ("train --void-labels 0", "--void-labels requires --images"),
        ("check cam_vid --mask-suffix _m", "--mask-suffix requires --images"),
        ("train --images a --masks b --unmatched no", "error"),
        ("train --foreground 255", "or --label-map) must be given together"),
        ("train --label-map a", "or --label-map) must be given together"),
        (
            "train --images a --masks b --label-map c --classes 2",
            "--classes cannot be used with --label-map",
        ),
        ("train --channels 0", "integer >= 1"),
        ("train --cache ram", "argument --cache: invalid choice: 'ram'"),
        ("check cam_vid --channels 4", "--channels requires --images"),
        ("check cam_vid --lossy-masks", "--lossy-masks requires --images"),
        ("train --images a", "--masks"),
        ("train --images a --masks b", "--classes"),
        ("train cam_vid --images a --masks b --classes 2", "not both"),
        ("train --val-images a", "--val-masks"),
        ("train --val-images a --val-masks b", "--images"),
        ("train --encoder-weights imagenet", "Received: --model segnet_ba"),
        ("train --encoder vgg16 --model segnet", "cannot be used with --model"),
        ("train --encoder vgg16 --weights x.pth", "use --encoder-weights"),
        ("train --model deconvnet --weights x.pth", "Received: --model deconv"),
        (
            "train --model enet --extra-classifier",
            "--extra-classifier can be used only with --model segnet and "
            "bayesian_segnet. Received: --model enet",
        ),
        ("train --squeeze-excitation", "with --model quicknat. Received: --"),
        ("train --decoder-activation prelu", "with --model enet. Received: --"),
        ("train --skips add", "--skips requires --encoder"),
        ("train --encoder vgg", "resnet50"),
        ("train --loss dice --class-weights median", "crossentropy and focal"),
        ("train --strategy all", "data_parallel"),
        ("train --palette 80808", "RRGGBB in hexadecimal"),
        ("train --palette 808080,red", "RRGGBB in hexadecimal"),
        ("train --palette 808080", "--palette requires --images"),
        ("train --void-colors 808080", "--void-colors requires --images"),
        *(
            (
                f"train --val-split {text}",
                f"argument --val-split: '{text}' must be a share from 1% to "
                "99% in whole percent, such as 20%; a split such as "
                "validation; a slice such as train[80%:]; `rest`; or `none`",
            )
            for text in ("0.2", "0%", "100%", "12.5%", "20", "020%")
        ),
        ("train --smo", "unrecognized"),
        ("evaluate", "MODEL"),
        ("predict model picture", "--output"),
        ("predict m p --output o --monte-carlo 0", "integer >= 1"),
        ("predict m p --output o --tile 0", "such as 512 or 384x512"),
        ("predict m p --output o --tile 64 --at original", "own size"),
        ("predict m p --output o --overlap 8", "--overlap requires --tile"),
        (
            "predict m p --output o --tile 64x96 --overlap 64",
            "less than --tile. Received: 64 and 64x96",
        ),
        ("predict m p --output o --flip --monte-carlo 2", "with --flip"),
        ("evaluate m --overlap 8", "--overlap requires --tile"),
        ("evaluate m --images a", "--masks must be given together"),
        ("export model", "--output"),
        ("export model --output o --quantize int8", "with --format tflite"),
        ("export model --output o --format tflite --quantize x", "float16"),
        (
            "export model --output o --format tflite --io-dtype uint8",
            "--io-dtype requires --quantize int8",
        ),
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


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("classes", text) for text in ("a\nb,c", "a,b\u2028c", "a, ,b")),
        *(("classes", text) for text in ("a,a", "a,,b", "sky", "a,\x1bb")),
        *(("labels", text) for text in ("0=a\nb,1=c", "0=a,1= ", "0=a,1=a")),
    ],
)
def test_the_library_decides_about_names_of_classes(option, text, capsys):
    arguments = ["--images", "x", "--masks", "x", f"--{option}", text]
    assert main(["check", *arguments]) == 1
    error = capsys.readouterr().err
    assert f"error: --{option} must be at least two distinct names" in error


def test_names_of_classes_are_without_blanks_around_them():
    assert parser.classes(" sky, traffic light\n") == ("sky", "traffic light")


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
        ("crop=(8, 12)", "--crop 8x12"),
        ("needs squeeze_excitation=True)", "needs --squeeze-excitation)"),
        ("foreground=None", "no --foreground"),
        ("cache='disk' or cache=False, or", "--cache disk or --cache none, or"),
        ("name='pets'", "DATASET 'pets'"),
        ("classes=['a', 'b']", "--classes a,b"),
        ("split='x[:2]'", "SPLIT 'x[:2]'"),
        ("with unmatched='skip'.", "with --unmatched skip."),
        # Paths, options and other names are not arguments.
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
