"""Train and score a network, for the scripts that compare networks."""

import json
import math
import statistics

import keras
import tensorflow as tf

from keras_deconv import callbacks, data, losses, metrics, models

IMAGE_SIZE = (48, 64)
BATCH_SIZE = 8
# Boundaries match within one pixel, as a share of the diagonal.
TOLERANCE = 1.001 / math.hypot(*IMAGE_SIZE)


def load(seed, epoch, data_dir, few=""):
    """Batches of drawn street scenes to train on and to test with."""
    return data.load(
        "scenes",
        [f"train{few}", f"test{few}"],
        image_size=IMAGE_SIZE,
        batch_size=BATCH_SIZE,
        data_dir=data_dir,
        seed=seed,
        epoch=epoch,
    )


def compile_for(model, learning_rate, num_steps):
    """Compile with Adam and a cosine schedule of `num_steps` steps."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    model.compile(
        keras.optimizers.Adam(schedule), losses.SegmentationCrossentropy()
    )


def train_and_score(
    build, seed, epochs, data_dir, few="", *, recompute_statistics=False
):
    """Train a network, and return its scores on the test split.

    `build` takes the number of steps and returns a compiled network. Networks
    with the same seed start with the same encoder. With `recompute_statistics`,
    the statistics of batch normalization are measured again at the end.
    """
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    train, test = load(seed, epoch, data_dir, few)
    keras.utils.set_random_seed(seed)
    model = build(epochs * len(train))
    in_order = callbacks.EpochSeed(seed, epoch)
    model.fit(
        train, epochs=epochs, shuffle=False, callbacks=[in_order], verbose=0
    )
    if recompute_statistics:
        models.recompute_batch_statistics(model, train, verbose=0)
    # The metrics are added only now: scoring training images would take time.
    num_classes = model.output_shape[-1]
    model.compile(
        loss=losses.SegmentationCrossentropy(),
        metrics=[
            metrics.MeanIoU(num_classes),
            metrics.BoundaryF1(num_classes, tolerance=TOLERANCE),
        ],
    )
    scores = model.evaluate(test, verbose=0, return_dict=True)
    return {
        "parameters": model.count_params(),
        **{name: scores[name] for name in ("mean_iou", "boundary_f1")},
    }


def remembered(file, key, compute):
    """Return the value of a key from the file, or compute and store it."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if key not in known:
        known[key] = compute()
        part = file.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
        part.replace(file)
    return known[key]


def describe(name, seed, scores):
    """Return one line of progress."""
    return (
        f"{name}, seed {seed}: mIoU {scores['mean_iou']:.3f}, "
        f"boundary F1 {scores['boundary_f1']:.3f}"
    )


def with_spread(values):
    """Format the mean and the standard deviation, or a single value."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}"
