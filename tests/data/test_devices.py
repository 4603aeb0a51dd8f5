"""TensorFlow does not use GPU memory if it only reads data."""

import importlib
import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from keras_deconv import data
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("backend", "kept", "hidden"),
    [
        ("jax", None, [([], "GPU")]),
        ("torch", "0", [([], "GPU")]),
        ("jax", "1", []),
        ("tensorflow", None, []),
    ],
)
@pytest.mark.parametrize("is_initialized", [False, True])
def test_importing_data_hides_gpus(
    backend, kept, hidden, is_initialized, monkeypatch
):
    calls = []

    def set_visible_devices(*arguments):
        calls.append(arguments)
        if is_initialized:
            raise RuntimeError("Visible devices cannot be modified after")

    monkeypatch.setattr(tf.config, "set_visible_devices", set_visible_devices)
    monkeypatch.setattr(keras.config, "backend", lambda: backend)
    monkeypatch.delenv("KERAS_DECONV_TENSORFLOW_GPU", raising=False)
    if kept is not None:
        monkeypatch.setenv("KERAS_DECONV_TENSORFLOW_GPU", kept)
    importlib.reload(data)
    assert calls == hidden


IMPORT = """
import tensorflow as tf
import keras_deconv
calls = []
hide = tf.config.set_visible_devices
tf.config.set_visible_devices = lambda *x: (calls.append(x), hide(*x))
keras_deconv.data.load
# This call fails if TensorFlow is initialized.
tf.config.threading.set_inter_op_parallelism_threads(3)
assert calls == [([], "GPU")], calls
"""


@pytest.mark.slow
def test_gpus_are_hidden_before_tensorflow_is_initialized():
    pytest.importorskip("jax")
    environment = dict(os.environ, KERAS_BACKEND="jax", PYTHONPATH=str(ROOT))
    environment.pop("KERAS_DECONV_TENSORFLOW_GPU", None)
    result = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
