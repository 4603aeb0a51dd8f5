"""Training on several replicas equals one device, and can be resumed."""

import csv
import json
import os
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from keras_deconv import data, distribution, models
from keras_deconv.distribution import _jax, _tensorflow
from keras_deconv.distribution.replicas import _filled, check_port
from keras_deconv_cli import main, runs
from tests import tiny_datasets
from tests.paths import ROOT

pytestmark = pytest.mark.distributed

NUM_EPOCHS = 2
SCORES = ("loss", "mean_iou", "val_mean_iou", "val_global_accuracy")

# The command with a small network, on logical devices of one CPU.
COMMAND = """\
import sys, time
import tensorflow as tf
from keras_deconv import callbacks, models
from keras_deconv_cli import main
from tests.distribution.test_distribution import small_model

seconds, num_devices = float(sys.argv[1]), int(sys.argv[2])
if num_devices > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_devices,
    )
models.SegNetBasic = small_model
if seconds:
    # Slow batches, so that a signal arrives in the middle of an epoch.
    callbacks.EpochSeed.on_train_batch_begin = (
        lambda self, batch, logs=None: time.sleep(seconds)
    )
sys.exit(main(sys.argv[3:]))
"""


def small_model(input_shape, num_classes, *, decoder="max_unpool"):
    """A model with batch normalization, which depends on the whole batch."""
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
    """Scenes with different shares of void."""
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
    """The folder of the same training on one device with TensorFlow."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "SegNetBasic", small_model)
        assert main([*options, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def one_with_jax(options, tmp_path_factory):
    """The same with JAX, whose initial weights differ."""
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
    """Start the processes of a training, without waiting for them.

    Devices are logical devices of one CPU. `seconds` delays every batch.
    """
    if backend == "jax":
        pytest.importorskip("jax")
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
    """The environment variables by which processes find each other."""
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
    """Wait for processes, and return their exit codes and logs."""
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
    assert '"synchronized": true' not in model.to_json()
    for weight, expected in zip(model.weights, right.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(weight),
            keras.ops.convert_to_numpy(expected),
            rtol=1e-3,
            atol=1e-4,
        )


SINGLE_STEPS = """\
import keras, numpy as np, tensorflow as tf
from keras_deconv import losses

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
random = np.random.default_rng(0)
images = random.normal(size=(5, 3, 5, 2)).astype("float32")
masks = random.integers(0, 3, (5, 3, 5)).astype("int32")
masks[0], masks[1, :2], masks[2, 0] = 255, 255, 255

def step(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3, 5, 2)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.5), loss)
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(4)
    history = model.fit(
        data, validation_data=data, epochs=2, shuffle=False, verbose=0
    )
    return history.history, model.get_weights()

for loss in (
    losses.SegmentationCrossentropy([1, 2, 3]), losses.SegmentationDice()
):
    alone, weights = step(loss)
    with strategy.scope():
        together, others = step(loss)
    for name, values in alone.items():
        np.testing.assert_allclose(
            together[name], values, rtol=1e-5, err_msg=f"{loss.name} {name}"
        )
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.release
def test_losses_are_those_of_the_whole_batch():
    """`fit` of Keras, also with a smaller last batch."""
    result = subprocess.run(
        [sys.executable, "-c", SINGLE_STEPS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize(
    "config",
    [
        *["", "{", "[]", "{}", '{"cluster": {"worker": ["a:1", "b:1"]}}'],
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker"}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index":0}}',
        '{"cluster": {"worker": ["a:1"]},'
        ' "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]},'
        ' "task": {"type": "worker", "index": "0"}}',
    ],
)
def test_a_wrong_tf_config_is_refused(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="TF_CONFIG must list"):
        distribution.connect("multi_worker")


@pytest.mark.parametrize(
    "values",
    [
        ("host0:1", "2", ""),
        ("", "2", "0"),
        ("host0:1", "", "0"),
        ("host0", "2", "0"),
        ("host0:1", "2", "2"),
        ("host0:1", "two", "0"),
        ("host0:1", "2", "-1"),
        ("host0:1,host1:1,host2:1", "2", "0"),
        ("host0:1,host1", "2", "0"),
    ],
)
def test_wrong_variables_of_jax_are_refused(values, monkeypatch):
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    for name, value in zip(names, values, strict=True):
        monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    with pytest.raises(ValueError, match="KERAS_DISTRIBUTION_PROCESS_ID must"):
        _jax._has_jax_processes()


def test_a_port_that_is_taken_is_refused(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for name, value in variables("jax", [address] * 2, 0).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f"port. Received: {address} "):
            _jax._has_jax_processes()
        # The first address of a list is that of the first process.
        monkeypatch.setenv(
            "KERAS_DISTRIBUTION_JOB_ADDRESSES", f"{address},host1:port"
        )
        with pytest.raises(ValueError, match=f"port. Received: {address} "):
            _jax._has_jax_processes()
        for name, value in variables("tensorflow", [address] * 2, 0).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f"port. Received: {address}"):
            distribution.connect("multi_worker")
    check_port(address)
    with pytest.raises(ValueError, match="a free port"):
        check_port("host0:port")


def test_launchers_are_seen(monkeypatch):
    for name in (*_jax._JAX_PROCESSES, *_jax._LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    assert not _jax._has_jax_processes()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not _jax._has_jax_processes()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert _jax._has_jax_processes()


def test_strategies_are_checked():
    with pytest.raises(ValueError, match="must be one of 'one', 'mirrored'"):
        distribution.connect("all")
    with pytest.raises(ValueError, match="needs the backend jax"):
        distribution.connect("data_parallel")
    with pytest.raises(ValueError, match="at least two devices"):
        distribution.connect("mirrored")


def batches(num_images, batch_size, **options):
    images = np.ones((num_images, 4, 6, 3), "float32")
    masks = np.ones((num_images, 4, 6), "int32")
    weights = np.ones((num_images, 4, 6), "float32")
    dataset = tf.data.Dataset.from_tensor_slices((images, masks, weights))
    return dataset.batch(batch_size, **options)


def test_batches_are_checked():
    replicas = distribution.Replicas(num_replicas=2)
    replicas.check_batch_size(4)
    with pytest.raises(ValueError, match="a multiple of the number"):
        replicas.check_batch_size(3)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="a multiple of the number"):
        replicas.fit(model, batches(6, 3, drop_remainder=True))
    with pytest.raises(ValueError, match="drop_remainder=True"):
        replicas.fit(model, batches(6, 4))


def test_last_batches_are_filled_with_void():
    filled = _filled(batches(6, 4), 4, 255)
    assert len(filled) == 2
    for spec in filled.element_spec:
        assert spec.shape[0] == 4
    _, (images, masks, weights) = filled
    assert masks[:, 0, 0].numpy().tolist() == [1, 1, 255, 255]
    assert weights[:, 0, 0].numpy().tolist() == [1, 1, 0, 0]
    assert images[:, 0, 0, 0].numpy().tolist() == [1, 1, 0, 0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="larger batches"):
        list(_filled(batches(6, 4), 2, 255))


def test_normalizations_are_synchronized_for_a_while():
    inner = keras.Sequential([keras.layers.BatchNormalization()])
    model = keras.Sequential(
        [keras.Input((2,)), inner, keras.layers.BatchNormalization()]
    )
    norms = [inner.layers[0], model.layers[1]]
    norms[1].synchronized = True
    with _tensorflow._synchronized(model, True):
        assert [norm.synchronized for norm in norms] == [True, True]
        with _tensorflow._synchronized(model, False):
            assert [norm.synchronized for norm in norms] == [False, False]
        assert [norm.synchronized for norm in norms] == [True, True]
    assert [norm.synchronized for norm in norms] == [False, True]


def test_processes_must_see_the_same_backup(tmp_path, monkeypatch):
    replicas = distribution.Replicas(num_replicas=2, num_processes=2)
    monkeypatch.setattr(
        distribution.Replicas, "_gather", lambda self, number: [number, 1]
    )
    model = small_model((4, 6, 3), 2)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="Received: 0, 1"):
        distribution.EpochBackup(replicas, tmp_path).restore(model)


def test_only_the_chief_writes_backups(tmp_path):
    model = small_model((4, 6, 3), 2)
    model.compile("adam", "mse")
    other = distribution.Replicas(2, 2, 1)
    distribution.EpochBackup(other, tmp_path / "backup").write(model, 1)
    assert not (tmp_path / "backup").exists()


def test_files_of_others_are_no_backups(tmp_path):
    model = small_model((4, 6, 3), 2)
    model.compile("adam", "mse")
    others = {"07.weights.h5", "2024-best.weights.h5", "backup-x.weights.h5"}
    for name in others:
        (tmp_path / name).write_bytes(b"of somebody else")
    backup = distribution.EpochBackup(distribution.Replicas(), tmp_path)
    assert backup.restore(model) == 0
    for num_done in (1, 2):
        backup.write(model, num_done)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*others, "backup-2.weights.h5"}
    assert backup.restore(model) == 2
    backup.delete()
    assert {path.name for path in tmp_path.iterdir()} == others


@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_damaged_backup_is_named(size, tmp_path):
    model = small_model((4, 6, 3), 2)
    model.compile("adam", "mse")
    backup = distribution.EpochBackup(distribution.Replicas(), tmp_path)
    backup.write(model, 1)
    file = tmp_path / "backup-1.weights.h5"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"backup-1.*damaged.*Delete it"):
        backup.restore(model)


@pytest.mark.slow
def test_the_loop_takes_sets_of_unknown_length():
    model = small_model((4, 6, 3), 2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    batch = np.ones((2, 4, 6, 3), "float32"), np.ones((2, 4, 6), "int32")
    train = tf.data.Dataset.from_tensors(batch).repeat(3)
    train = train.filter(lambda image, mask: True)
    history = _tensorflow._loop(
        tf.distribute.get_strategy(),
        model,
        train,
        validation_data=None,
        epochs=2,
        initial_epoch=0,
        callbacks=[],
        verbose=0,
    )
    first, second = history.history["loss"]
    assert 0 < second < first


@pytest.mark.slow
@pytest.mark.release
def test_scaling_is_measured(tmp_path):
    pytest.importorskip("jax")
    file = tmp_path / "report.json"
    script = ROOT / "benchmarks" / "scaling.py"
    result = subprocess.run(
        [sys.executable, script, "--smoke", "--json", file],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = json.loads(file.read_text())["rows"]
    assert [(row["backend"], row["strategy"]) for row in rows] == [
        ("tensorflow", "one"),
        ("tensorflow", "mirrored"),
        ("tensorflow", "multi_worker"),
        ("jax", "one"),
        ("jax", "data_parallel"),
        ("jax", "data_parallel"),
    ]
    assert all(row["milliseconds"] > 0 for row in rows)


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "backend"),
    [("mirrored", "tensorflow"), ("data_parallel", "jax")],
)
def test_example_runs_on_two_devices(strategy, backend, tmp_path):
    pytest.importorskip(backend)
    result = subprocess.run(
        [
            *[sys.executable, ROOT / "examples" / "train_distributed.py"],
            *["--smoke", "--strategy", strategy, "--cpu-devices", "2"],
            *["--data-dir", tmp_path / "tfds", "--output", tmp_path / "run"],
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Epoch 2: loss" in result.stdout
    assert [file.name for file in (tmp_path / "run").iterdir()] == [
        "model.keras"
    ]


@pytest.mark.slow
def test_two_devices_train_as_one(options, one, tmp_path):
    folder = tmp_path / "run"
    processes = start("mirrored", options, folder, num_devices=2)
    codes, logs = finish(processes, folder)
    assert codes == [0], logs
    assert "2 replicas in 1 processes" in logs[0]
    assert_same_training(folder, one)


@pytest.mark.slow
def test_two_processes_train_as_one(options, one, tmp_path):
    folder = tmp_path / "run"
    codes, logs = finish(start("multi_worker", options, folder, 2), folder)
    assert codes == [0, 0], logs
    assert "2 replicas in 2 processes" in logs[0]
    assert "Epoch" not in logs[1]
    assert_same_training(folder, one)


@pytest.mark.slow
@pytest.mark.release
def test_two_processes_train_as_one_with_jax(options, one_with_jax, tmp_path):
    folder = tmp_path / "run"
    processes = start("data_parallel", options, folder, 2, backend="jax")
    codes, logs = finish(processes, folder)
    assert codes == [0, 0], logs
    assert "2 replicas in 2 processes" in logs[0]
    assert "Epoch" not in logs[1]
    assert_same_training(folder, one_with_jax)


@pytest.mark.slow
@pytest.mark.release
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
    backup = folder / ".resume" / "backup-1.weights.h5"
    processes = start(strategy, options, folder, 2, backend=backend, seconds=2)
    while not backup.exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[killed].kill()
    codes, logs = finish(processes, folder)
    # TensorFlow reports it at once. JAX's chief waits up to 100 seconds for a
    # heartbeat; JAX ends the other processes itself.
    assert 0 not in codes
    if backend == "tensorflow" or killed == 1:
        assert "Another process of the training ended" in logs[1 - killed]
    assert len(read_history(folder)) == 1

    processes = start(strategy, options, folder, 2, backend=backend)
    codes, logs = finish(processes, folder)
    assert codes == [0, 0], logs
    assert f"Resuming at epoch 2 of {NUM_EPOCHS}." in logs[0]
    assert not backup.exists()
    assert_same_training(folder, request.getfixturevalue(reference))
