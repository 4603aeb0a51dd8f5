"""The tables of docs/models.md, generated from the networks.

Run `python -m tests.models.test_architectures` to print the tables.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import pytest

from keras_deconv import models
from tests.paths import ROOT

PAGE = ROOT / "docs" / "models.md"
# DeconvNet has a gigabyte of weights. It is built with FEW_UNITS, a number that
# its other layers do not have, and counted as if it had the published number.
FEW_UNITS, PUBLISHED_UNITS = 24, 4096


def first_word(name):
    return name.partition("_")[0]


def deconvnet_row(name):
    return "fully connected" if name.startswith("fc") else first_word(name)


def enet_row(name):
    """Blocks that change the size get a row each; the others share one."""
    if not name.startswith("bottleneck"):
        return first_word(name)
    stage, number = re.findall(r"\d", name)[:2]
    if stage == "3":
        return "bottlenecks 3.0 to 3.7"
    if number == "0" or stage == "5":
        return f"bottleneck {stage}.{number}"
    rest = {"1": "to 1.4", "2": "to 2.8", "4": "and 4.2"}
    return f"bottlenecks {stage}.1 {rest[stage]}"


class Network(NamedTuple):
    build: Callable[..., keras.Model]
    size: tuple[int, int]
    num_parameters: int  # as published; see tests/models/test_models.py
    num_classes: int = 11
    channels: int = 3
    row_of: Callable[[str], str] = first_word


NETWORKS = {
    "SegNet": Network(models.SegNet, (360, 480), 29_449_355),
    "SegNetBasic": Network(models.SegNetBasic, (360, 480), 1_416_587),
    "DeconvNet": Network(
        functools.partial(models.DeconvNet, fc_units=FEW_UNITS),
        size=(224, 224),
        num_parameters=251_805_653,
        num_classes=21,
        row_of=deconvnet_row,
    ),
    "ENet": Network(models.ENet, (360, 480), 363_791, row_of=enet_row),
    "ReLayNet": Network(
        models.ReLayNet, (512, 64), 777_489, num_classes=10, channels=1
    ),
    "QuickNAT": Network(
        models.QuickNAT, (256, 256), 3_516_971, num_classes=28, channels=1
    ),
}


def number(n):
    return PUBLISHED_UNITS if n == FEW_UNITS else n


def count(weights):
    return sum(math.prod(map(number, weight.shape)) for weight in weights)


def by(size, separator="x"):
    return separator.join(map(str, size))


POOLINGS = {
    "MaxPoolWithArgmax2D": "pool",
    "MaxPooling2D": "plain pool",
    "MaxUnpool2D": "unpool",
}


def kind(layer):
    """A short description of a layer; empty for layers that are omitted."""
    name = type(layer).__name__
    if name in POOLINGS:
        assert layer.pool_size == (2, 2), "the page says so of all of them"
        return POOLINGS[name]
    if name not in ("Conv2D", "Conv2DTranspose"):
        return ""
    # The table omits the 1x1 convolutions at both ends of a bottleneck.
    if re.search(r"bottleneck\d.*_conv[13]$", layer.name) and (
        layer.kernel_size == (1, 1)
    ):
        return ""
    words = "conv" if name == "Conv2D" else "transposed conv"
    text = f"{words} {by(layer.kernel_size)}"
    if layer.strides != (1, 1):
        text += f" / {layer.strides[0]}"
    if layer.dilation_rate != (1, 1):
        text += f" dilated {layer.dilation_rate[0]}"
    return text


def folded(texts):
    """Replace equal neighbors by their number and text."""
    for text, group in itertools.groupby(texts):
        times = len(list(group))
        yield f"{times} × {text}" if times > 1 else text  # noqa: RUF001


@functools.cache
def rows(name):
    """Name, layers, output, filters and trainable parameters of each stage."""
    network = NETWORKS[name]
    shape = (*network.size, network.channels)
    model = network.build(shape, network.num_classes)
    result = []
    for row, group in itertools.groupby(
        model.layers, lambda layer: network.row_of(layer.name)
    ):
        stage = list(group)
        told = [layer for layer in stage if kind(layer)]
        weights = [w for layer in stage for w in layer.trainable_weights]
        if not told:
            assert not weights
            continue
        filters = [number(n.filters) for n in told if hasattr(n, "filters")]
        if len(set(filters)) == 1:
            filters = filters[:1]
        output = keras.tree.flatten(stage[-1].output)[0].shape[1:]
        # Lines must break between layers, not within the text of a layer.
        texts = ", ".join(
            text.replace(" ", "\N{NO-BREAK SPACE}")
            for text in folded(map(kind, told))
        )
        result.append(
            (row, texts, by(output), by(filters, ", "), count(weights))
        )
    assert sum(row[-1] for row in result) == count(model.trainable_weights)
    return result, count(model.non_trainable_weights)


def table(name):
    """The table as Markdown."""
    network = NETWORKS[name]
    size = by((*network.size, network.channels))
    lines = [
        ("stage", "layers", f"output of {size}", "filters", "parameters"),
        ("---", "---", "---", "---", "---:"),
    ]
    stages, num_fixed = rows(name)
    lines += [(*texts, f"{n:,}") for *texts, n in stages]
    total = sum(n for *_, n in stages)
    fixed = f"plus {num_fixed:,} non-trainable"
    lines.append(("**total**", fixed, "", "", f"**{total:,}**"))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("name", NETWORKS)
def test_page_has_the_table(name):
    assert table(name) in PAGE.read_text()


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_add_up_to_what_is_published(name):
    stages, _ = rows(name)
    assert sum(n for *_, n in stages) == NETWORKS[name].num_parameters


def test_rows_are_stages():
    stages, _ = rows("SegNet")
    names = [name for name, *_ in stages]
    encoder = [f"block{n}" for n in (1, 2, 3, 4, 5)]
    decoder = [f"decoder{n}" for n in (5, 4, 3, 2, 1)]
    assert names == [*encoder, *decoder, "logits"]
    sizes = [output for _, _, output, _, _ in stages]
    # Each decoder stage has the size that its encoder stage pooled.
    assert sizes[4] == "12x15x512"
    assert sizes[5] == "23x30x512"


if __name__ == "__main__":
    for name in NETWORKS:
        print(f"{name}\n\n{table(name)}")
