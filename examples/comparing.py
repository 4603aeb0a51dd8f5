"""What the scripts that compare networks share: a training, and its scores."""

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
    """Adam, with a cosine schedule that ends after so many steps."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    model.compile(
        keras.optimizers.Adam(schedule), losses.SegmentationCrossentropy()
    )


def train_and_score(
    build, seed, epochs, data_dir, few="", *, recompute_statistics=False
):
    """The scores on the test split after one training.

    `build` makes the compiled network for a number of steps. Networks of one
    seed begin with the same encoder. With `recompute_statistics`, the
    statistics of batch normalization are measured once more at the end.
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
    # Only now, since scores of the training images would cost time.
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
    """What was computed for a key, in an earlier run or now."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if key not in known:
        known[key] = compute()
        part = file.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
        part.replace(file)
    return known[key]


def describe(name, seed, scores):
    """One line of progress."""
    return (
        f"{name}, seed {seed}: mIoU {scores['mean_iou']:.3f}, "
        f"boundary F1 {scores['boundary_f1']:.3f}"
    )


def with_spread(values):
    """Mean and standard deviation, of one seed the value alone."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}"
