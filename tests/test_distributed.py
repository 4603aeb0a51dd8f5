"""Many replicas train as one does, and go on when a process is killed."""

import csv
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_deconv
from keras_deconv import data, models
from keras_deconv_command import main, runs
from tests import tiny_datasets

ROOT = pathlib.Path(__file__).parent.parent
NUM_EPOCHS = 2
SCORES = ("loss", "mean_iou", "val_mean_iou", "val_global_accuracy")

# The command with a network of seconds, on devices made of one CPU.
COMMAND = """
import sys, time
import tensorflow as tf
from keras_deconv import callbacks, models
from keras_deconv_command import main
from tests.test_distributed import small_model

seconds, num_devices = float(sys.argv[1]), int(sys.argv[2])
if num_devices > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_devices,
    )
models.SegNetBasic = small_model
if seconds:
    # So that a signal comes in the middle of an epoch.
    callbacks.EpochSeed.on_train_batch_begin = (
        lambda self, batch, logs=None: time.sleep(seconds)
    )
sys.exit(main(sys.argv[3:]))
"""


def small_model(input_shape, num_classes, *, decoder="max_unpool"):
    """Has what depends on the whole batch: batch normalisation."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    pooled, argmax = keras_deconv.MaxPoolWithArgmax2D()(x)
    x = keras.layers.Conv2D(8, 3, padding="same")(pooled)
    x = keras_deconv.MaxUnpool2D()(x, argmax)
    return keras.Model(inputs, keras.layers.Conv2D(num_classes, 1)(x))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Scenes with more void in some pictures than in others."""
    folder = tmp_path_factory.mktemp("folders")
    for split, num_pictures in (("train", 8), ("val", 6)):
        for number in range(num_pictures):
            image, mask = data.draw_scene(number, (16, 24))
            mask = mask.copy()
            mask[: 2 * number] = 255
            name = f"{number}.png"
            tiny_datasets.write_png(folder / split / name, image)
            tiny_datasets.write_png(
                folder / f"{split}_masks" / name, mask[..., None]
            )
    return [
        *["--images", str(folder / "train")],
        *["--masks", str(folder / "train_masks")],
        *["--val-images", str(folder / "val")],
        *["--val-masks", str(folder / "val_masks")],
    ]


@pytest.fixture(scope="module")
def options(folders):
    return [
        *["train", *folders, "--classes", "6", "--image-size", "16x24"],
        *["--batch-size", "4", "--epochs", str(NUM_EPOCHS), "--augment"],
        *["--preview-every", "0"],
    ]


@pytest.fixture(scope="module")
def one(options, tmp_path_factory):
    """The folder of the same training on one device, with TensorFlow."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "SegNetBasic", small_model)
        assert main([*options, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def one_with_jax(options, tmp_path_factory):
    """With JAX, which draws other weights to begin with."""
    folder = tmp_path_factory.mktemp("runs") / "one_with_jax"
    codes, logs = finish(start("one", options, folder, backend="jax"), folder)
    assert codes == [0], logs
    return folder


def start(
    strategy,
    options,
    folder,
    num_processes=1,
    num_devices=1,
    backend="tensorflow",
    seconds=0,
):
    """Starts the processes of a training, and does not wait for them.

    Devices are made of the one CPU; every batch takes some seconds more.
    """
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(num_processes)]
    processes = []
    for number in range(num_processes):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": (
                f"--xla_force_host_platform_device_count={num_devices}"
            ),
        }
        if num_processes > 1:
            environment |= variables(backend, addresses, number)
        arguments = [str(seconds), str(num_devices), *options]
        arguments += ["--strategy", strategy, "--output", str(folder)]
        with log_of(folder, number).open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", COMMAND, *arguments],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def log_of(folder, number):
    return folder.with_name(f"{folder.name}_{number}.log")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def variables(backend, addresses, number):
    """How the processes know of each other."""
    if backend == "tensorflow":
        cluster = {"worker": addresses}
        task = {"type": "worker", "index": number}
        return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(addresses)),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
    }


def finish(processes, folder, seconds=120):
    """The exit codes of processes, which must end by themselves."""
    try:
        codes = [process.wait(seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    logs = [
        log_of(folder, number).read_text() for number in range(len(processes))
    ]
    return codes, logs


def read_history(folder):
    with (folder / "history.csv").open(newline="") as text:
        return list(csv.DictReader(text))


def assert_same_training(folder, other):
    rows, expected = read_history(folder), read_history(other)
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in expected]
    for row, right in zip(rows, expected, strict=True):
        for name in SCORES:
            np.testing.assert_allclose(
                float(row[name]), float(right[name]), rtol=1e-4, err_msg=name
            )
    model, right = (runs.load(str(path))[0] for path in (folder, other))
    for weight, expected in zip(model.weights, right.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(weight),
            keras.ops.convert_to_numpy(expected),
            rtol=1e-3,
            atol=1e-4,
        )


def test_two_devices_train_as_one(options, one, tmp_path):
    folder = tmp_path / "run"
    processes = start("mirrored", options, folder, num_devices=2)
    codes, logs = finish(processes, folder)
    assert codes == [0], logs
    assert "2 replicas in 1 processes" in logs[0]
    assert_same_training(folder, one)


def test_two_processes_train_as_one(options, one, tmp_path):
    folder = tmp_path / "run"
    codes, logs = finish(start("multi_worker", options, folder, 2), folder)
    assert codes == [0, 0], logs
    assert "2 replicas in 2 processes" in logs[0]
    assert "Epoch" not in logs[1]
    assert_same_training(folder, one)


def test_two_processes_train_as_one_with_jax(options, one_with_jax, tmp_path):
    folder = tmp_path / "run"
    processes = start("data_parallel", options, folder, 2, backend="jax")
    codes, logs = finish(processes, folder)
    assert codes == [0, 0], logs
    assert "2 replicas in 2 processes" in logs[0]
    assert "Epoch" not in logs[1]
    assert_same_training(folder, one_with_jax)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "backend", "reference"),
    [
        ("multi_worker", "tensorflow", "one"),
        ("data_parallel", "jax", "one_with_jax"),
    ],
)
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_all_and_they_go_on(
    strategy, backend, reference, killed, options, tmp_path, request
):
    folder = tmp_path / "run"
    backup = folder / ".resume" / "1.weights.h5"
    processes = start(strategy, options, folder, 2, backend=backend, seconds=2)
    while not backup.exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[killed].kill()
    start_of_wait = time.monotonic()
    codes, logs = finish(processes, folder)
    print(time.monotonic() - start_of_wait, codes, logs[1 - killed][-3000:])
    assert 0 not in codes
    assert len(read_history(folder)) == 1

    processes = start(strategy, options, folder, 2, backend=backend)
    codes, logs = finish(processes, folder)
    assert codes == [0, 0], logs
    assert f"Resuming at epoch 2 of {NUM_EPOCHS}." in logs[0]
    assert not backup.parent.exists()
    assert_same_training(folder, request.getfixturevalue(reference))
