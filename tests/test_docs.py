"""Every example in a docstring and every Python block of the README runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import keras_deconv

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_deconv.__path__, "keras_deconv.")
)
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
        *("inference", "visualize", "callbacks", "data"),
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


def test_readme_blocks():
    blocks = readme_blocks()
    assert len(blocks) >= 3
    x = np.arange(30, dtype="float32").reshape(1, 5, 6, 1)
    names = {"x": x}
    for block in blocks:
        exec(block, names)
    assert tuple(names["y"].shape) == x.shape


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
