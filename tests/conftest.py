"""Fixtures of all tests, and settings that TensorFlow reads when imported.

Each fixture imports Keras itself, because pytest-xdist also reads this file in
a process that does not run tests.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Otherwise, tensorflow-datasets asks a metadata server whether it runs on GCE.
os.environ.setdefault("NO_GCE_CHECK", "true")

import fcntl
import gc
import socket

import numpy as np
import pytest

from tests.seeds import SEED


def pytest_collection_finish():
    # Imported modules stay in memory. Searching them for garbage takes long.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_sessionfinish():
    # At the end, pytest collects garbage several times, in gigabytes of graphs.
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Fail tests that connect to a network: without one, they would hang."""
    connect = socket.socket.connect

    def refuse(self, address):
        local = isinstance(address, str) or address[0] in ("127.0.0.1", "::1")
        if not local:
            raise AssertionError(f"a test reached for {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _seed():
    import keras

    keras.utils.set_random_seed(SEED)


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


@pytest.fixture
def compiled_kernels():
    """Compile the kernels of small tensors too."""
    from keras_deconv import config

    config.enable_compiled_kernels(min_elements=0)
    yield
    config.enable_compiled_kernels()


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory):
    """A data_dir with a few of the drawn scenes."""
    from keras_deconv.data import scenes

    with pytest.MonkeyPatch.context() as patch:
        few = {"train": 60, "validation": 20, "test": 20}
        patch.setattr(scenes, "_SPLIT_SIZES", few)
        return _prepare_scenes(tmp_path_factory, "few_scenes")


@pytest.fixture(scope="session")
def all_scenes_dir(tmp_path_factory):
    """A data_dir with all of the drawn scenes."""
    return _prepare_scenes(tmp_path_factory, "scenes")


def _prepare_scenes(tmp_path_factory, name):
    """Return a folder that all processes of a run share."""
    from keras_deconv import data

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / name
    with open(folder.with_name(f"{name}.lock"), "w") as lock:
        # Prepared once; the other processes wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        data.splits("scenes", data_dir=folder)
    return folder
