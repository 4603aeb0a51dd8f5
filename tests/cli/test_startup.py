"""Tests of the messages that TensorFlow logs when the command starts."""

import os
import subprocess
import sys

import pytest

import keras_deconv
from keras_deconv_cli import startup
from tests.paths import ROOT

# Lines of TensorFlow 2.20 and 2.21 on machines without a CUDA driver, and of
# TensorFlow 2.19 on machines with one.
NOISE = b"""\
WARNING: All log messages before absl::InitializeLog() is called are written
I0000 00:00:1795979987.112572    6920 cudart_stub.cc:31] Could not find cuda
2025-01-01 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom
E0000 00:00:1795979998.060091    6920 cuda_platform.cc:52] failed call to \
cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
E0000 00:00:1746000000.000000    1234 cuda_dnn.cc:8310] Unable to register \
cuDNN factory: Attempting to register factory for plugin cuDNN
"""
ERRORS = b"""\
E0000 00:00:1795979998.060091    6920 cuda_platform.cc:52] failed call to \
cuInit: INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_NO_DEVICE
F0000 00:00:1795979998.060091    6920 cpu_feature_guard.cc:80] The library was \
compiled to use AVX instructions
UserWarning: of a Python module
"""
ABORT = f"""\
import os
from keras_deconv_cli import startup

with startup._filtered_stderr():
    os.write(2, {NOISE + ERRORS!r})
    os.abort()
"""


def environment():
    """The environment of a user, without settings of the tests."""
    settings = ("TF_CPP_MIN_LOG_LEVEL", "TQDM_DISABLE")
    kept = {n: value for n, value in os.environ.items() if n not in settings}
    return {**kept, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_info_prints_only_its_own_lines():
    result = subprocess.run(
        [sys.executable, "-m", "keras_deconv_cli", "info"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0
    assert result.stderr == ""
    version = f"keras_deconv {keras_deconv.__version__}\n"
    assert result.stdout.startswith(version)


def test_errors_are_shown_even_if_the_process_aborts():
    result = subprocess.run(
        [sys.executable, "-c", ABORT], env=environment(), capture_output=True
    )
    assert result.returncode != 0
    assert result.stderr == ERRORS


def test_output_continues_after_the_filter(capfd):
    with startup._filtered_stderr():
        os.write(2, NOISE + b"inside\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "inside\nafter\n"


def test_users_can_ask_for_all_messages(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delitem(sys.modules, "tensorflow")
    # The import follows later, without a filter.
    startup.import_tensorflow()
    assert "tensorflow" not in sys.modules
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
