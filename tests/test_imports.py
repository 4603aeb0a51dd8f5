"""Which module may import which, and what nobody may import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_deconv

PACKAGE = Path(keras_deconv.__file__).parent
ROOT = PACKAGE.parent
COMMAND = ROOT / "keras_deconv_cli"
# A module of the package: the modules of the package that it imports. A line
# that begins with blanks goes on with the one before. Each module stands below
# or above those that it imports, so that there is no circle.
TABLE = """
_arguments: _backends
_backends:
_batches: _arguments _backends
_files:
_graphs: _arguments
_kernels: _kernels.autodiff _kernels.fused _kernels.native_torch
_kernels.autodiff: _kernels.positions _kernels.windows
_kernels.fused: _kernels.positions _kernels.windows config
_kernels.native_torch: _backends _kernels.windows
_kernels.positions: _kernels.windows
_kernels.windows: _backends _shapes
_labels: _arguments _backends
_locks:
_network:
_palettes:
_resizing:
_runs: _arguments _files models
_shapes:
callbacks: _arguments _backends _files _labels visualize
config: _arguments
data: data._devices data._sets data.augmentation data.camvid data.checking
    data.folders data.frequencies data.label_maps data.pipeline data.scenes
    data.sources data.writing
data._caching:
data._catalog: _arguments _palettes data._sets
data._devices:
data._epochs: data._errors
data._errors:
data._images: data._errors data._tiff data._value_ranges
data._mask_formats: _arguments data._sets
data._masks: data._errors data._images data._mask_formats data._sets
    data._stray_labels data._tiff
data._pairs: _arguments data._errors data._images data._masks
data._preparation: _files
data._sets: _arguments _palettes
data._splits: _arguments
data._stray_labels: data._sets
data._tiff:
data._value_ranges: _arguments data._errors
data.augmentation: _arguments data._errors data._value_ranges
data.camvid: data._catalog
data.checking: _arguments _labels data._errors data._stray_labels
    data.frequencies
data.folders: _arguments data._caching data._epochs data._errors data._images
    data._mask_formats data._masks data._pairs data._sets data._splits
    data._value_ranges data.pipeline
data.frequencies: _arguments _labels
data.label_maps: _arguments data._errors data._sets
data.pipeline: _arguments _resizing data._caching data._catalog data._epochs
    data._errors data._sets data._value_ranges
data.scenes: _arguments data._catalog
data.sources: _arguments _network data._caching data._catalog data._epochs
    data._preparation data._sets data._value_ranges data.camvid data.pipeline
    data.scenes
data.writing: _arguments data._catalog data._errors data._images
    data._mask_formats data._masks data._pairs data._preparation data._sets
    data._value_ranges
distribution: distribution.backup distribution.connection
    distribution.replicas
distribution._jax: distribution.replicas
distribution._tensorflow: _graphs distribution.replicas
distribution.backup: _arguments _files distribution.replicas
distribution.connection: _arguments distribution._jax distribution._tensorflow
    distribution.replicas
distribution.replicas: _arguments
export: export.onnx export.saved_model export.tflite
export._channel_ranges: layers
export._descriptions: _arguments export._models
export._models: _arguments _files _graphs
export._quiet:
export.onnx: config export._descriptions export._models export._quiet
export.saved_model: _graphs _resizing config export._descriptions
    export._models inference.monte_carlo
export.tflite: _arguments _batches _kernels.fused config
    export._channel_ranges export._descriptions export._models export._quiet
inference: inference.monte_carlo inference.photos inference.sliding_window
    inference.tiled
inference._scores: _graphs
inference.monte_carlo: _arguments _backends _batches _graphs _locks
inference.photos: _arguments _graphs _locks _resizing _runs data._errors
    data._images data._pairs inference._scores inference.tiled
inference.sliding_window: _arguments _batches _graphs _locks
inference.tiled: _arguments _backends _graphs _locks inference._scores
initializers: _arguments
layers: layers.cropping layers.fixed_unpooling layers.max_pooling
    layers.max_unpooling
layers._base: _arguments _backends _shapes
layers.cropping: _arguments _backends layers._base
layers.fixed_unpooling: _arguments _shapes layers._base ops
layers.max_pooling: _arguments _shapes layers._base ops
layers.max_unpooling: _arguments _shapes layers._base ops
losses: _arguments _backends _labels
metrics: metrics.boundary metrics.confusion
metrics._base: _arguments _backends _labels
metrics.boundary: _backends _labels metrics._base
metrics.confusion: _backends _labels metrics._base
models: models.baselines models.batch_statistics models.deconvnet
    models.encoder_decoder models.enet models.quicknat models.relaynet
    models.segnet models.stages
models._blocks: _arguments layers layers.cropping
models._caffemodels:
models._layers:
models._mirrored: layers layers.cropping models._blocks models._reductions
models._pairs: _graphs models._mirrored models._reductions
models._preprocessing: _graphs models._vgg16
models._reductions: _graphs _shapes layers
models._state_dicts:
models._vgg16: _network models._state_dicts models._weight_files
models._weight_files: models._caffemodels models._state_dicts
models.baselines: _arguments models._blocks
models.batch_statistics: _arguments _backends _graphs _locks
models.deconvnet: _arguments models._blocks models._vgg16
models.encoder_decoder: _arguments _graphs models._blocks models._mirrored
    models._preprocessing models._reductions
models.enet: _arguments layers.cropping models._blocks models._layers
    models._weight_files
models.quicknat: _arguments models._blocks models._weight_files
models.relaynet: _arguments models._blocks models._weight_files
models.segnet: _arguments models._blocks models._layers models._vgg16
    models._weight_files
models.stages: _arguments layers models._blocks models._mirrored
ops: ops.convolution ops.fixed_unpooling ops.index_formats ops.pooling
ops._layout: _arguments _backends _kernels.windows _shapes
ops.convolution: _arguments _shapes
ops.fixed_unpooling: _arguments _backends _kernels _kernels.windows _shapes
    ops._layout
ops.index_formats: _arguments _backends _kernels.positions _kernels.windows
    _shapes ops._layout
ops.pooling: _arguments _backends _kernels _kernels.windows _shapes
    ops._layout
visualize: _arguments _labels _palettes models._pairs
"""

# The same for the command, with modules of the package by their full names.
COMMAND_TABLE = """
__init__: commands errors modules parser startup
__main__: __init__
api:
commands:
decisions: commands keras_deconv._arguments keras_deconv.data
    keras_deconv.data._caching keras_deconv.data._images runs sources splits
errors: api keras_deconv.data._errors
evaluation: commands keras_deconv._files keras_deconv.data._pairs
    keras_deconv.data._sets keras_deconv.metrics prediction progress runs
    sources splits
exporting: api commands runs sources
history: keras_deconv._files keras_deconv.distribution runs
inspection: api commands keras_deconv keras_deconv.data
    keras_deconv.data._catalog keras_deconv.data._sets progress runs sources
modules:
parser: api commands modules
prediction: api commands errors keras_deconv._files keras_deconv._graphs
    keras_deconv.data._errors keras_deconv.data._images
    keras_deconv.data._pairs keras_deconv.inference
    keras_deconv.inference.photos keras_deconv.visualize progress runs
progress:
resuming: api commands history keras_deconv._files runs
runs: api commands keras_deconv keras_deconv._arguments keras_deconv._files
    keras_deconv._palettes keras_deconv._runs keras_deconv.data._sets modules
sources: api commands keras_deconv.data keras_deconv.data._catalog
    keras_deconv.data._mask_formats keras_deconv.data._pairs
    keras_deconv.data._sets keras_deconv.data._splits
    keras_deconv.data.sources splits
splits:
startup:
training: api commands decisions evaluation history keras_deconv._arguments
    keras_deconv._files keras_deconv._graphs keras_deconv.callbacks
    keras_deconv.data keras_deconv.distribution keras_deconv.metrics
    keras_deconv.models progress resuming runs sources user_models
user_models: keras_deconv._arguments keras_deconv._graphs keras_deconv._runs
    modules runs
"""


# These import the package, which does not import them.
ABOVE = ("keras_deconv_cli", "tests", "examples", "benchmarks")


def read_table(text):
    """Allowed imports by module, in the order of the table."""
    rows = text.strip().replace("\n    ", " ").splitlines()
    pairs = (row.split(":") for row in rows)
    return {name: set(imported.split()) for name, imported in pairs}


def modules(folder=PACKAGE):
    """Files of a package by the names that the table has."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            found[".".join(parts)] = path
    return found


def imported(source, names, package="keras_deconv", above=ABOVE):
    """Modules of the package that a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            # Relative imports are not used: their names say too little.
            assert node.level == 0, ast.unparse(node)
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            continue
        for target in targets:
            top = target.partition(".")[0]
            # The package does not import the code that builds on it.
            assert top not in above, ast.unparse(node)
            if top != package:
                continue
            target = target.removeprefix(package).removeprefix(".")
            # A target that is not a module is a name in a module.
            while target and target not in names:
                target = target.rpartition(".")[0]
            found.add(target)
    return found


def command_imports():
    """Imports of the modules of the command, as its table has them."""
    files = modules(COMMAND) | {"__init__": COMMAND / "__init__.py"}
    found = {}
    for name, path in files.items():
        source = path.read_text()
        above = set(ABOVE) - {COMMAND.name}
        own = imported(source, files, COMMAND.name, above)
        library = imported(source, modules(), above=above)
        found[name] = {one or "__init__" for one in own}
        found[name] |= {f"keras_deconv.{one}".rstrip(".") for one in library}
    return found


def circles(table):
    """Modules that can be reached from themselves."""
    reached = {name: targets & table.keys() for name, targets in table.items()}
    for _ in table:
        for targets in reached.values():
            for target in list(targets):
                targets |= reached[target]
    return sorted(name for name, targets in reached.items() if name in targets)


def test_every_import_is_in_the_table():
    table, files = read_table(TABLE), modules()
    actual = {
        name: imported(path.read_text(), files) for name, path in files.items()
    }
    assert actual == table
    assert command_imports() == read_table(COMMAND_TABLE)


def test_parts_import_those_below_them():
    """As ARCHITECTURE.md says."""
    page = (ROOT / "ARCHITECTURE.md").read_text().split("## Parts")[1]
    rows = [line.split("|")[1] for line in page.splitlines() if "|" in line]
    height = {}
    for number, row in enumerate(rows):
        for part in re.findall(r"`(\w+)", row):
            height[part] = -number
    for name, targets in read_table(TABLE).items():
        part = name.partition(".")[0]
        for target in {target.partition(".")[0] for target in targets}:
            assert target == part or height[target] < height[part], (
                f"{name} imports {target}"
            )


def test_there_is_no_circle():
    assert circles(read_table(TABLE)) == []
    assert circles(read_table(COMMAND_TABLE)) == []


def test_a_forbidden_import_and_a_circle_are_found():
    names = {"data", "data.folders", "ops", "_shapes"}
    for source, expected in (
        ("from keras_deconv import ops", {"ops"}),
        ("import os, keras_deconv.data.folders", {"data.folders"}),
        ("from keras_deconv.data import x", {"data"}),
        (
            "def f():\n    from keras_deconv.data import folders",
            {"data.folders"},
        ),
        ("import keras, keras_deconvolution", set()),
    ):
        assert imported(source, names) == expected, source
    for source in (
        "from . import ops",
        "import keras, keras_deconv_cli",
        "from keras_deconv_cli.main import main",
        "from tests import oracles",
    ):
        with pytest.raises(AssertionError):
            imported(source, names)
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == ["a", "b"]


def is_private(module):
    return any(part.startswith("_") for part in module.split("."))


def test_public_modules_state_their_names():
    names = [f"keras_deconv.{name}" for name in modules()]
    names += [f"{COMMAND.name}.{name}" for name in modules(COMMAND)]
    for module in ["keras_deconv", COMMAND.name, *names]:
        if is_private(module):
            continue
        __import__(module)
        stated = sys.modules[module].__all__
        assert stated, module
        assert all(hasattr(sys.modules[module], one) for one in stated), module


def test_users_code_imports_nothing_private():
    sources = [
        *(ROOT / "examples").glob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
    ]
    texts = {str(path): path.read_text() for path in sources}
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        blocks = page.read_text().split("```python\n")[1:]
        texts[str(page)] = "".join(block.split("```")[0] for block in blocks)
    assert len(texts) > 10
    for name, text in texts.items():
        # Examples may use the command too.
        above = set(ABOVE) - {COMMAND.name}
        for module in (
            *imported(text, modules(), above=above),
            *imported(text, modules(COMMAND), COMMAND.name, above),
        ):
            assert not is_private(module), f"{name} imports {module}"


def test_only_public_api_and_no_assert():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), path
            if isinstance(node, ast.Import | ast.ImportFrom):
                text = ast.unparse(node)
                for private in ("keras.src", "tensorflow.python", "tf_keras"):
                    assert private not in text, path


def test_import_brings_neither_datasets_nor_matplotlib():
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
