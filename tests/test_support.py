"""Tests for every cell of the support table in docs/support.md.

    python -m tests.test_support

prints the table. `UNSUPPORTED` lists the cells without a check mark. Their
tests require that the check fails with the given message.
"""

import functools
import inspect
import json
import subprocess
import sys
from collections.abc import Callable

import keras
import numpy as np
import pytest

import keras_deconv
from tests import bounds, formats, networks, oracles
from tests.paths import ROOT
from tests.seeds import SEED

pytestmark = [pytest.mark.backend, pytest.mark.oldest]

PAGE = ROOT / "docs" / "support.md"
BACKEND = keras.config.backend()


# A row is a list of cases. A case builds a model, and computes the expected
# output of its layers with loops. Networks do not have an expected output.
Case = tuple[Callable[[], keras.Model], Callable | None]

# Odd sizes, so that the last windows are cut off.
SIZE = (5, 7, 3)
NUM_CHANNELS = 4


def layer_model(rank, restore):
    """A model that calls `restore` between two layers with weights."""
    inputs = keras.Input((*SIZE[:rank], NUM_CHANNELS))
    x = keras.layers.Dense(NUM_CHANNELS, name="before")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(restore(x)))


def pooled_and_unpooled(rank, **options):
    window = {"pool_size": 2, "strides": None, "padding": "same", **options}
    overlap = window.pop("overlap", "sum")
    pool = getattr(keras_deconv, f"MaxPoolWithArgmax{rank}D")(**window)
    unpool = getattr(keras_deconv, f"MaxUnpool{rank}D")(
        **window, overlap=overlap
    )

    def restore(x):
        return unpool(*pool(x), like=x)

    def reference(x):
        strides = window["strides"] or window["pool_size"]
        pooled, _, plane = oracles.max_pool(
            x, (window["pool_size"],) * rank, (strides,) * rank, "same"
        )
        return oracles.max_unpool(pooled, plane, x.shape[1:-1], overlap)

    return functools.partial(layer_model, rank, restore), reference


def enlarged(name, reference, rank):
    """Pooled, and enlarged without the index."""
    pool = getattr(keras_deconv, f"MaxPoolWithArgmax{rank}D")(2, padding="same")
    unpool = getattr(keras_deconv, f"{name}{rank}D")(2)

    def loops(x):
        pooled, _, _ = oracles.max_pool(x, (2,) * rank, (2,) * rank, "same")
        return reference(pooled, (2,) * rank, x.shape[1:-1])

    def restore(x):
        pooled, _ = pool(x)
        return unpool(pooled, like=x)

    return functools.partial(layer_model, rank, restore), loops


def bed_of_nails(values, block, size):
    return oracles.bed_of_nails_unpool(values, block, (0,) * len(block), size)


ALL_RANKS = (1, 2, 3)
LAYER_ROWS = {
    "`MaxPoolWithArgmax1D`, `2D` and `MaxUnpool1D`, `2D`": [
        pooled_and_unpooled(1),
        pooled_and_unpooled(2),
    ],
    "`MaxPoolWithArgmax3D` and `MaxUnpool3D`": [pooled_and_unpooled(3)],
    "`MaxUnpool2D`, overlapping windows": [
        pooled_and_unpooled(2, pool_size=3, strides=2),
        pooled_and_unpooled(2, pool_size=3, strides=2, overlap="mean"),
    ],
    '`MaxUnpool2D`, `index_format="flat"`': [
        pooled_and_unpooled(2, index_format="flat")
    ],
    '`MaxUnpool2D`, `index_format="plane"`': [
        pooled_and_unpooled(2, index_format="plane")
    ],
    "`NearestUnpool1D`, `2D`, `3D`": [
        enlarged("NearestUnpool", oracles.nearest_unpool, rank)
        for rank in ALL_RANKS
    ],
    "`BedOfNailsUnpool1D`, `2D`, `3D`": [
        enlarged("BedOfNailsUnpool", bed_of_nails, rank) for rank in ALL_RANKS
    ],
}


def network(name, **options):
    case = networks.NETWORKS[name]
    return functools.partial(case.build, (*case.size, 3), **options), None


NETWORK_ROWS = {
    **{
        f"`{name}`": [network(name)]
        for name in networks.NETWORKS
        if name != "SegNetBasic"
    },
    **{
        f'`SegNetBasic`, `decoder="{decoder}"`': [
            network("SegNetBasic", decoder=decoder)
        ]
        for decoder in networks.DECODERS
    },
}
ROWS = {**LAYER_ROWS, **NETWORK_ROWS}


def images_for(model):
    """Three images for the model, with the same values in each call."""
    shape = (3, *model.input_shape[1:])
    return np.random.default_rng(SEED).uniform(0, 255, shape).astype("float32")


def compute(model, images):
    return keras.ops.convert_to_numpy(model(images))


def check_close(actual, expected, tolerance=1e-4):
    assert actual.shape == expected.shape
    difference = np.abs(np.float32(actual) - np.float32(expected)).max()
    assert difference <= tolerance * np.abs(expected).max()


def train(model, optimizer=None, **options):
    """Train two steps; return whether the weights changed."""
    images = images_for(model)
    targets = np.random.default_rng(1).normal(size=(3, *model.output_shape[1:]))
    optimizer = optimizer or keras.optimizers.Adam(1e-4)
    model.compile(optimizer, "mse", **options)
    before = model.get_weights()
    model.fit(images, targets, epochs=2, batch_size=3, verbose=0)
    after = model.get_weights()
    assert all(np.isfinite(weights).all() for weights in after)
    return any(map(np.any, map(np.not_equal, before, after)))


# The checks. Their docstrings are a column of the table.


def eager(build, reference, folder):
    """Eager calls. Layers give the same values as loops in Python."""
    model = build()
    images = images_for(model)
    outputs = compute(model, images)
    assert np.isfinite(outputs).all()
    if reference is not None:
        before = keras.Model(model.input, model.get_layer("before").output)
        # The last layer of the model gets the output of the tested layer.
        last = model.layers[-1]
        restored = np.float32(reference(compute(before, images)))
        check_close(outputs, compute(last, restored), 1e-5)


def graph(build, reference, folder, jit_compile=False):
    """`fit` and `predict`. The predictions equal eager calls."""
    model = build()
    assert train(model, jit_compile=jit_compile)
    images = images_for(model)
    check_close(model.predict(images, verbose=0), compute(model, images))


def xla(build, reference, folder):
    """The same with `jit_compile=True`."""
    graph(build, reference, folder, jit_compile=True)


def mixed_precision(build, reference, folder):
    """`fit` and `predict` in `mixed_float16` and `mixed_bfloat16`."""
    before = keras.config.dtype_policy()
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = build()
        finally:
            keras.config.set_dtype_policy(before)
        computed = {layer.compute_dtype for layer in model.layers}
        assert policy.removeprefix("mixed_") in computed
        # With the initial scale of Keras, the first two steps are skipped.
        assert train(
            model,
            keras.optimizers.LossScaleOptimizer(
                keras.optimizers.Adam(1e-4), initial_scale=1.0
            ),
        )
        outputs = model.predict(images_for(model), verbose=0)
        assert np.isfinite(outputs).all()


def saved_model(build, reference, folder):
    """A SavedModel with TensorFlow's own operations."""
    import tensorflow as tf

    model = build()
    model.export(folder / "saved", verbose=False)
    loaded = tf.saved_model.load(folder / "saved")
    images = images_for(model)
    check_close(loaded.serve(images).numpy(), compute(model, images))
    assert formats.foreign_ops(folder / "saved") == set()
    assert formats.must_compile(folder / "saved") == []


def tflite(build, reference, folder):
    """A file that has only built-in operations."""
    model = build()
    run = formats.run_tflite(model, folder)
    images = images_for(model)
    check_close(run(images), compute(model, images))
    assert formats.flex_and_custom_ops(folder / "model.tflite") == set()


def tflite_int8(build, reference, folder):
    """The same, quantized. Outputs correlate with those of the model."""
    model = build()
    images = images_for(model)
    run = formats.run_tflite(
        model, folder, "int8", representative_images=images
    )
    outputs = run(images)
    assert np.isfinite(outputs).all()
    expected = compute(model, images)
    assert np.corrcoef(outputs.ravel(), expected.ravel())[0, 1] > 0.9
    assert formats.flex_and_custom_ops(folder / "model.tflite") == set()


def onnx(build, reference, folder):
    """A file that has only standard operations."""
    model = build()
    run = formats.run_onnx(model, folder)
    images = images_for(model)
    check_close(run(images), compute(model, images))
    assert formats.foreign_domains(folder / "model.onnx") == set()


def openvino_runtime(build, reference, folder):
    """ONNX files and SavedModels, in full precision."""
    openvino = formats.missing_is_skipped("openvino", "openvino")
    model = build()
    images = images_for(model)
    expected = compute(model, images)
    formats.run_onnx(model, folder)
    model.export(folder / "saved", verbose=False)
    for read in (
        openvino.Core().read_model(str(folder / "model.onnx")),
        openvino.convert_model(str(folder / "saved")),
    ):
        check_close(formats.in_openvino(read)(images), expected)


def openvino_backend(build, reference, folder):
    """`KERAS_BACKEND=openvino`: eager calls, `predict`, `model.export`."""
    eager(build, reference, folder)
    model = build()
    images = images_for(model)
    expected = compute(model, images)
    # Keras exports `Flatten` for a batch of one image only.
    if not any(isinstance(x, keras.layers.Flatten) for x in model.layers):
        file = str(folder / "model.xml")
        model.export(file, format="openvino", verbose=False)
        run = formats.in_openvino(file)
        for x in (images[:1], images):
            check_close(run(x), expected[: len(x)])
    # In `predict`, OpenVINO chooses the precision.
    outputs = model.predict(images, verbose=0)
    assert outputs.shape == expected.shape
    assert np.corrcoef(outputs.ravel(), expected.ravel())[0, 1] > 0.9


def on_backend(build, reference, folder):
    """The backend of Keras: eager calls, `fit` and `predict`."""
    eager(build, reference, folder)
    graph(build, reference, folder, jit_compile="auto")


COLUMNS = {
    "eager": ("tensorflow", eager),
    "graph": ("tensorflow", graph),
    "XLA": ("tensorflow", xla),
    "mixed precision": ("tensorflow", mixed_precision),
    "SavedModel": ("tensorflow", saved_model),
    "TFLite": ("tensorflow", tflite),
    "TFLite int8": ("tensorflow", tflite_int8),
    "ONNX": ("tensorflow", onnx),
    "OpenVINO runtime": ("tensorflow", openvino_runtime),
    "JAX": ("jax", on_backend),
    "PyTorch": ("torch", on_backend),
    "OpenVINO backend": ("openvino", openvino_backend),
}
# This column is checked in a separate process, because the switch is global.
DETERMINISTIC = "deterministic"
DETERMINISTIC_CHECK = (
    "Two training runs with `enable_op_determinism()` end with the same "
    "weights."
)

# The cells without a check mark, and the error. Use the index format "window".
UNSUPPORTED = {
    (f'`MaxUnpool2D`, `index_format="{index_format}"`', column): "with FloorDiv"
    for index_format in ("flat", "plane")
    for column in ("TFLite", "TFLite int8")
} | {
    (f'`MaxUnpool2D`, `index_format="{index_format}"`', "OpenVINO backend"): (
        "whose scatter needs a known batch"
    )
    for index_format in ("flat", "plane")
}

# The default tests run one pair of layers in every column that does not write
# files, and one network on every backend. They only call the other layers.
# tests/export and tests/test_training.py cover a network in the other columns.
# CI also converts overlapping windows, which need the most operations.
QUICK_LAYERS, _, OVERLAPPING, *_ = ROWS
QUICK_NETWORK = '`SegNetBasic`, `decoder="max_unpool"`'
QUICK_COLUMNS = ("eager", "JAX", "PyTorch", "OpenVINO backend")
FILES = ("SavedModel", "TFLite", "TFLite int8", "ONNX", "OpenVINO runtime")


def marks_of(name, column):
    if name == QUICK_LAYERS and column not in FILES:
        return ()
    if column in QUICK_COLUMNS and name in (*LAYER_ROWS, QUICK_NETWORK):
        return ()
    if name == OVERLAPPING and column in ("TFLite", "ONNX", "OpenVINO runtime"):
        return (pytest.mark.slow,)
    return pytest.mark.slow, pytest.mark.release


CELLS = [
    pytest.param(
        name,
        column,
        id=f"{column}-{name}".replace("`", ""),
        marks=[
            *marks_of(name, column),
            *[bounds.needs_half_precision] * (column == "mixed precision"),
        ],
    )
    for column, (backend, _) in COLUMNS.items()
    for name in ROWS
    if backend == BACKEND
]


@pytest.mark.numeric
@pytest.mark.parametrize(("name", "column"), CELLS)
def test_cell(name, column, tmp_path, monkeypatch):
    networks.make_slim(monkeypatch)
    _, check = COLUMNS[column]
    for build, reference in ROWS[name]:
        keras.utils.set_random_seed(SEED)
        if (name, column) in UNSUPPORTED:
            with pytest.raises(Exception, match=UNSUPPORTED[name, column]):
                check(build, reference, tmp_path)
        else:
            check(build, reference, tmp_path)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.skipif(BACKEND != "tensorflow", reason="asks TensorFlow for it")
def test_deterministic_column():
    """TensorFlow raises an error for operations that it knows to differ."""
    command = [sys.executable, "-m", "tests.test_support", DETERMINISTIC]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert json.loads(found.splitlines()[-1]) == list(ROWS)


def deterministic_rows():
    """Rows that end with the same weights in two trainings."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    with pytest.MonkeyPatch.context() as patch:
        networks.make_slim(patch)
        for name, cases in ROWS.items():
            if all(trains_alike(build) for build, _ in cases):
                yield name


def trains_alike(build):
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = build()
        assert train(model)
        weights.append(model.get_weights())
    return all(map(np.array_equal, *weights))


@pytest.mark.numeric
def test_checks_see_what_is_broken(tmp_path):
    """The checks fail for wrong layers, and layers that differ in graphs."""

    def twice_as_large(x):
        return 2 * x

    build = functools.partial(layer_model, 2, twice_as_large)
    with pytest.raises(AssertionError):
        eager(build, lambda x: x, tmp_path)
    eager(build, twice_as_large, tmp_path)
    if BACKEND != "tensorflow":
        return

    class DiffersWhenCompiled(keras.layers.Layer):
        def call(self, x):
            return x + 1 if "Symbolic" in type(x).__name__ else x

    build = functools.partial(layer_model, 2, DiffersWhenCompiled())
    for check in (graph, saved_model):
        with pytest.raises(AssertionError):
            check(build, None, tmp_path)


# Rows with the same cells share a column of the table.
GROUPS = {
    "Layers": [name for name in LAYER_ROWS if "index_format" not in name],
    "Other index formats": [
        name for name in LAYER_ROWS if "index_format" in name
    ],
    "Networks": list(NETWORK_ROWS),
}


def mark(names, column):
    """The cell of a group; its rows must agree."""
    [is_unsupported] = {(name, column) in UNSUPPORTED for name in names}
    return "-" if is_unsupported else "✓"


def table():
    """The table as Markdown, and a list of the rows in each group."""
    checks = {
        column: inspect.getdoc(check) for column, (_, check) in COLUMNS.items()
    }
    checks[DETERMINISTIC] = DETERMINISTIC_CHECK
    lines = [["", *GROUPS, "Test"], ["---", *[":-:"] * len(GROUPS), "---"]]
    for column, check in checks.items():
        marks = [mark(names, column) for names in GROUPS.values()]
        lines.append([column, *marks, check])
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    for group, names in GROUPS.items():
        text += f"\n**{group}:** {'; '.join(names)}.\n"
    return text


def test_page_has_the_table():
    assert table() in PAGE.read_text()


def test_table_shows_every_row_and_unsupported_cell():
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(ROWS)
    assert table().count(" - |") == 3  # TFLite, TFLite int8, OpenVINO backend
    with pytest.raises(ValueError, match="too many values"):
        mark(list(LAYER_ROWS), "TFLite")  # Rows that differ.


if __name__ == "__main__":
    if sys.argv[1:] == [DETERMINISTIC]:
        print(json.dumps(list(deterministic_rows())))
    else:
        print(table(), end="")
