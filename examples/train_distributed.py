"""Train a SegNet on several GPUs, on one host or on several.

To use all GPUs of this host with TensorFlow:

    python examples/train_distributed.py --strategy mirrored

To use several hosts with JAX, run these commands on each host. Count
PROCESS_ID from 0. --data-dir and --output must name folders that all hosts
share:

    export KERAS_BACKEND=jax
    export KERAS_DISTRIBUTION_JOB_ADDRESSES=host0:12345
    export KERAS_DISTRIBUTION_NUM_PROCESSES=2
    export KERAS_DISTRIBUTION_PROCESS_ID=0
    python examples/train_distributed.py --strategy data_parallel

With TensorFlow, use --strategy multi_worker and list the processes in
TF_CONFIG. To test the script without GPUs, split the CPU into two devices with
--cpu-devices 2. If a process is killed, start all of them again. Training
continues after the last finished epoch. docs/scaling.md compares the
strategies.
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
add("--batch-size", default=8, type=int, help="images on all replicas")
add("--epochs", default=6, type=int)
add("--data-dir", help="folder of prepared datasets")
add("--output", default="runs/distributed", type=Path)
add("--cpu-devices", default=1, type=int, help="number of devices on the CPU")
add("--smoke", action="store_true", help="use few images")
options = parser.parse_args()

# Set up devices and processes before any computation.
if options.cpu_devices > 1 and keras.config.backend() == "jax":
    import jax

    jax.config.update("jax_num_cpu_devices", options.cpu_devices)
elif options.cpu_devices > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * options.cpu_devices,
    )
replicas = distribution.connect(options.strategy)
# All processes start with the same weights.
keras.utils.set_random_seed(SEED)

# Data: every process loads the whole dataset; fit divides each batch.
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

# Model, loss and metrics: as on one device, but in the scope.
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

# Training: resumes after the last epoch that was saved.
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

# Results: only one process writes files.
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
