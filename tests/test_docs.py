"""Every example in a docstring and every Python block of the README runs."""

import contextlib
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import keras_deconv
from keras_deconv import data, losses, metrics, models
from tests import tiny_datasets

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_deconv.__path__, "keras_deconv.")
)
MODULES.append("keras_deconv_command")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(autouse=True)
def _own_data_dir(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "tfds"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=FLAGS, verbose=False
    )
    assert results.failed == 0


def test_every_public_object_has_an_example():
    for home in (
        *("layers", "ops", "initializers", "models", "losses", "metrics"),
        *("inference", "visualize", "export", "callbacks", "data"),
        "distribution",
    ):
        module = importlib.import_module(f"keras_deconv.{home}")
        assert module.__all__
        for name in module.__all__:
            if name.isupper():  # A constant has no docstring of its own.
                continue
            text = getattr(module, name).__doc__
            assert ">>>" in text, f"{home}.{name} has no example"


def readme_blocks():
    text = (ROOT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


# Keras 3.15 warns of its own default where it is given a tf.data.Dataset.
fit_may_say_shuffle = pytest.mark.filterwarnings("ignore:`shuffle=True` was")


@fit_may_say_shuffle
def test_readme_blocks():
    blocks = readme_blocks()
    assert len(blocks) >= 3
    x = np.arange(30, dtype="float32").reshape(1, 5, 6, 1)
    names = {"x": x}
    for block in blocks:
        with pets_from_mock(block):
            exec(block, names)
    assert tuple(names["y"].shape) == x.shape


def pets_from_mock(block):
    is_needed = "oxford_iiit_pet" in block
    return tiny_datasets.mock_pets() if is_needed else contextlib.nullcontext()


@fit_may_say_shuffle
def test_three_lines_to_fit():
    [block] = (b for b in readme_blocks() if "oxford_iiit_pet" in b)
    imports, *three, fit = (line for line in block.splitlines() if line)
    assert imports.startswith("from keras_deconv import")
    assert len(three) == 3
    assert fit == "model.fit(train, validation_data=val)"
    # The same three on drawn scenes.
    for pets, scenes in (
        ("oxford_iiit_pet:4.*.*", "scenes"),
        ('["train", "test"]', '["train[:16]", "validation[:8]"]'),
        ("(96, 128", "(48, 64"),
        ("num_classes=3", "num_classes=6"),
    ):
        assert any(pets in line for line in three), pets
        three = [line.replace(pets, scenes) for line in three]
    names = {"data": data, "losses": losses}
    names |= {"metrics": metrics, "models": models}
    exec("\n".join(three), names)
    history = eval(fit, names).history
    assert set(history) == {"loss", "mean_iou", "val_loss", "val_mean_iou"}
    assert np.isfinite(list(history.values())).all()


def test_a_broken_example_fails():
    def broken():
        """Say what is not so.

        >>> 1 + 1
        3
        """

    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    for test in finder.find(broken, "broken"):
        runner.run(test, out=lambda text: None)
    assert runner.failures == 1
