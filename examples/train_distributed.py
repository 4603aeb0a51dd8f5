"""Train a SegNet on many GPUs, of one host or of many.

All GPUs of this host, with TensorFlow:

    python examples/train_distributed.py --strategy mirrored

Many hosts, with JAX: the same on each of them, with 1 as PROCESS_ID on the
second one, and so on; --data-dir and --output are folders that all of them see:

    export KERAS_BACKEND=jax
    export KERAS_DISTRIBUTION_JOB_ADDRESSES=host0:12345
    export KERAS_DISTRIBUTION_NUM_PROCESSES=2
    export KERAS_DISTRIBUTION_PROCESS_ID=0
    python examples/train_distributed.py --strategy data_parallel

With TensorFlow it is --strategy multi_worker, and TF_CONFIG names the
processes. To try it without GPUs, --cpu-devices 2 makes two of the CPU.
If a process is killed, start all of them again: they go on after the last
finished epoch. docs/scaling.md says what to use when.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from keras_deconv import (
    callbacks,
    data,
    distribution,
    losses,
    metrics,
    models,
)

IMAGE_SIZE = (48, 64)
SEED = 0

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--strategy", default="one", choices=distribution.STRATEGIES)
add("--batch-size", default=8, type=int, help="of all replicas together")
add("--epochs", default=6, type=int)
add("--data-dir", help="where tfds keeps prepared data sets")
add("--output", default="runs/distributed", type=Path)
add("--cpu-devices", default=1, type=int, help="devices made of one CPU")
add("--smoke", action="store_true", help="a few images alone")
options = parser.parse_args()

# Devices and processes: before anything is computed.
if options.cpu_devices > 1 and keras.config.backend() == "jax":
    import jax

    jax.config.update("jax_num_cpu_devices", options.cpu_devices)
elif options.cpu_devices > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * options.cpu_devices,
    )
replicas = distribution.connect(options.strategy)
# The same weights in all processes.
keras.utils.set_random_seed(SEED)

# Data: the whole set; what belongs to which replica is settled in fit.
if replicas.is_chief:
    data.splits("scenes", data_dir=options.data_dir)
replicas.wait()
epoch = tf.Variable(0, dtype="int64", trainable=False)
splits = ["train", "validation"]
train, validation = data.load(
    "scenes",
    [f"{split}[:16]" for split in splits] if options.smoke else splits,
    image_size=IMAGE_SIZE,
    batch_size=options.batch_size,
    drop_remainder=True,
    data_dir=options.data_dir,
    seed=SEED,
    epoch=epoch,
)
scenes = data.describe("scenes")

# Model, loss and metrics: as on one device, but within the scope.
epochs = 2 if options.smoke else options.epochs
with replicas.scope():
    model = models.SegNetBasic((*IMAGE_SIZE, 3), scenes.num_classes)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(train))
        ),
        losses.SegmentationCrossentropy(),
        metrics=[metrics.MeanIoU(scenes.num_classes)],
    )

# Training: it goes on where a former one was killed.
backup = distribution.EpochBackup(replicas, options.output / "backup")
history = replicas.fit(
    model,
    train,
    validation_data=validation,
    epochs=epochs,
    initial_epoch=backup.restore(model),
    callbacks=[callbacks.EpochSeed(SEED, epoch), backup],
    verbose=2,
)

# Results: one process writes.
if replicas.is_chief:
    with replicas.alone(model):
        model.save(options.output / "model.keras")
    for number, loss in zip(
        history.epoch, history.history["loss"], strict=True
    ):
        print(f"Epoch {number + 1}: loss {loss:.6f}")
    print(f"Saved {options.output / 'model.keras'}")
backup.delete()
replicas.wait()
