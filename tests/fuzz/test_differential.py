"""Random poolings and unpoolings against NumPy loops, on the backend in use.

`KERAS_BACKEND=torch` or `jax` (with `JAX_ENABLE_X64=1` too) before the command
chooses it. The default suite draws a few cases, `-m release` 1,500 for each way
to run a function (100 on JAX), always the same.
"""

import os
import subprocess
import sys

import keras
import pytest

from keras_deconv import config, ops
from tests.fuzz import differential
from tests.fuzz.differential import (
    FLOATS,
    INTEGERS,
    Case,
    columns,
    differences,
    equals_loops,
    hunt,
)
from tests.paths import ROOT

# JAX compiles every operation for every new size: seconds for each case. On
# TensorFlow, other columns than eager trace or compile a graph for each case.
IS_SLOW = keras.config.backend() == "jax"
FEW = 3 if IS_SLOW else 25
FEWER = 3
MANY = 100
PARTS = 1 if IS_SLOW else 15

COLUMNS = [
    "eager",
    *(pytest.param(one, marks=pytest.mark.slow) for one in columns()[1:]),
]

# JAX has no 64 bits unless told, and says so; 32 are compared then.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Explicitly requested dtype:UserWarning"
)


@pytest.fixture(scope="module", autouse=True)
def _plain_kernels():
    """Nothing is compiled by XLA: that takes long for ever new sizes."""
    config.enable_compiled_kernels(False)
    yield
    config.enable_compiled_kernels(True)


@pytest.mark.backend
@pytest.mark.parametrize("column", COLUMNS)
def test_few_random_cases(column):
    hunt(column, seed=0, number=FEW if column == "eager" else FEWER)


@pytest.mark.backend
@pytest.mark.parametrize("index_format", ["window", "flat", "plane"])
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_every_dtype(dtype, index_format):
    if IS_SLOW and index_format == "flat":
        pytest.skip("as the plane, and slow on JAX")
    equals_loops(
        Case(
            *((5, 4), (3, 2), (2, 2), "same", index_format, "channels_last"),
            *(dtype, "sum", 2, 2, 1),
        )
    )


@pytest.mark.backend
@pytest.mark.skipif("compiled" not in columns(), reason="needs XLA")
@pytest.mark.parametrize(
    ("dtype", "overlap"),
    [("float32", "sum"), ("float32", "mean"), ("int32", "sum")],
)
def test_compiled_unpooling_of_a_narrow_plane_does_not_crash(dtype, overlap):
    """XLA generated code that crashed on CPUs with AVX-512."""
    equals_loops(
        Case(
            *((5, 2), (2, 2), (1, 1), "valid", "window", "channels_last"),
            *(dtype, overlap, 1, 1, 1),
        ),
        "compiled",
    )


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("part", range(1, PARTS + 1))
@pytest.mark.parametrize("column", columns())
def test_many_random_cases(column, part):
    """In processes: TensorFlow keeps what it compiles, more than 16 GB."""
    command = [sys.executable, "-m", differential.__name__, column]
    child = subprocess.run(
        [*command, str(part), str(MANY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr


@pytest.mark.backend
@pytest.mark.parametrize("column", COLUMNS)
def test_a_wrong_result_is_found(column, monkeypatch):
    """The comparison can fail: values, index and gradient, each by a little."""
    case = Case(
        *((4, 4), (2, 2), (2, 2), "valid", "window", "channels_last"),
        *("float32", "sum", 1, 1, 1),
    )
    assert not list(differences(case, column))
    pool, unpool = ops.max_pool_with_argmax, ops.max_unpool
    mutants = {
        "max_pool_with_argmax": lambda x, **window: (
            pool(x, **window)[0] + 1,
            pool(x, **window)[1],
        ),
        "max_unpool": lambda *args, **window: 2 * unpool(*args, **window),
    }
    for name, mutant in mutants.items():
        with monkeypatch.context() as patch:
            patch.setattr(ops, name, mutant)
            assert list(differences(case, column)), name


NARROWER = {
    "float32": "float16",
    "float64": "float32",
    "int16": "int8",
    "int32": "float32",
    "int64": "int32",
}


@pytest.mark.backend
@pytest.mark.parametrize("dtype", NARROWER)
def test_narrowing_is_found(dtype, monkeypatch):
    """In pooling, and in unpooling."""
    cases = [
        Case(
            *((6, 6), (2, 2), (2, 2), "valid", "plane", "channels_last"),
            *(dtype, "sum", 2, 1, seed),
        )
        for seed in (1, 2, 4)
    ]
    if cases[0].held_dtype != dtype:
        pytest.skip(f"needs {dtype}, which JAX has with JAX_ENABLE_X64=1")
    pool, unpool = ops.max_pool_with_argmax, ops.max_unpool

    def narrow(x):
        return keras.ops.cast(keras.ops.cast(x, NARROWER[dtype]), dtype)

    mutants = {
        "max_pool_with_argmax": lambda x, **window: pool(narrow(x), **window),
        "max_unpool": lambda x, *args, **window: unpool(
            narrow(x), *args, **window
        ),
    }
    for name, mutant in mutants.items():
        with monkeypatch.context() as patch:
            patch.setattr(ops, name, mutant)
            assert any(list(differences(case)) for case in cases), name


def test_jax_ran_with_the_integers_that_were_asked_for():
    """`JAX_ENABLE_X64=1` reaches JAX; without it int64 is not there."""
    if keras.config.backend() != "jax":
        pytest.skip("needs KERAS_BACKEND=jax")
    import jax

    assert jax.config.jax_enable_x64 == (
        os.environ.get("JAX_ENABLE_X64", "0") == "1"
    )
