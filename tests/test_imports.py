"""Modules import downwards only, in the order of the design."""

import ast
import subprocess
import sys
from pathlib import Path

import keras_deconv

PACKAGE = Path(keras_deconv.__file__).parent
# Lower modules first. Modules on one line know nothing of each other.
LEVELS = [
    {"backends"},
    {"arguments"},
    {"shapes"},
    {"kernels"},
    {"fused", "autodiff"},
    {"ops"},
    {"layers", "initializers"},
    {"blocks"},
    {"models"},
    {"labels"},
    {"losses", "metrics"},
    {"inference", "visualize", "equalization"},
    {"export"},
    {"callbacks"},
    {"data"},
    {"distribution"},
]


def level(module):
    return next(i for i, names in enumerate(LEVELS) if module in names)


def upward_imports(source, own):
    """Imports of `keras_deconv` modules that are not below `own`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            # Relative imports are not used: their names say too little.
            base = "." * node.level + (node.module or "")
            targets = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            continue
        for target in targets:
            package, *names = target.split(".")
            if package == "":
                yield target
            elif package == "keras_deconv" and names and names[0] != own:
                if level(names[0]) >= level(own):
                    yield target


def test_imports_point_downwards():
    seen = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert list(upward_imports(path.read_text(), own)) == [], path
        seen += 1
    assert seen > 10


def test_an_upward_import_is_found():
    assert list(upward_imports("from keras_deconv import ops", "kernels"))
    assert list(upward_imports("import keras_deconv.layers.base", "ops"))
    assert list(upward_imports("from keras_deconv.data import x", "losses"))
    assert list(upward_imports("import os, keras_deconv.data", "losses"))
    assert list(upward_imports("from . import arguments", "ops"))
    assert list(upward_imports("from .data import x", "ops"))
    assert not list(upward_imports("from keras_deconv import shapes", "ops"))


def test_only_public_api_and_no_assert():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), path
            if isinstance(node, ast.Import | ast.ImportFrom):
                text = ast.unparse(node)
                for private in ("keras.src", "tensorflow.python", "tf_keras"):
                    assert private not in text, path


def test_import_brings_neither_data_sets_nor_pictures():
    heavy = ("tensorflow_datasets", "matplotlib", "PIL")
    code = (
        # Keras imports some of these itself where they are installed.
        "import sys, keras; before = set(sys.modules);"
        "import keras_deconv; new = set(sys.modules) - before;"
        f"print([m for m in {heavy!r} if m in new])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
