"""Compare four decoders for the same encoder.

    python examples/compare_decoders.py

Train SegNet-Basic with every decoder and several seeds on drawn street scenes.
This takes about ten minutes on two CPU cores. Write table.md, table.json and
scores.png to the folder compare_decoders/.
"""

import argparse
import datetime
import json
import math
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib.pyplot as plt
import tensorflow as tf

# The file next to this one.
from comparing import (
    BATCH_SIZE,
    IMAGE_SIZE,
    compile_for,
    describe,
    train_and_score,
    with_spread,
)

from keras_deconv import MaxPoolWithArgmax2D, data, models

DECODERS = ("max_unpool", "bed_of_nails", "nearest", "conv_transpose")
# Okabe and Ito's colors, which color-blind readers tell apart.
SCORE_COLORS = {"mean_iou": "#0072B2", "boundary_f1": "#D55E00"}

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--data-dir", help="folder of prepared datasets")
add("--epochs", default=6, type=int)
add("--output", default="compare_decoders", type=Path)
add("--seeds", default=3, type=int, help="number of seeds, from 0")
add("--smoke", action="store_true", help="one seed, one epoch, two decoders")
options = parser.parse_args()
if min(options.epochs, options.seeds) < 1:
    parser.error("--epochs and --seeds must be at least 1")
options.output.mkdir(parents=True, exist_ok=True)
epochs = 1 if options.smoke else options.epochs
num_seeds = 1 if options.smoke else options.seeds
decoders = DECODERS[:2] if options.smoke else DECODERS
few = "[:16]" if options.smoke else ""
num_classes = data.describe("scenes").num_classes


def build(decoder, num_steps):
    """Return a compiled network."""
    model = models.SegNetBasic((*IMAGE_SIZE, 3), num_classes, decoder=decoder)
    compile_for(model, 2e-3, num_steps)
    return model


def index_bytes(model):
    """Return the size of the indices that the decoder gets for one image."""
    return sum(
        math.prod(layer.output[1].shape[1:])
        * tf.as_dtype(layer.output[1].dtype).size
        for layer in model.layers
        if isinstance(layer, MaxPoolWithArgmax2D)
    )


def skip_bytes(model):
    """Return the size of all feature maps before pooling, for one image."""
    return sum(
        math.prod(layer.input.shape[1:]) * tf.as_dtype(layer.input.dtype).size
        for layer in model.layers
        if isinstance(layer, MaxPoolWithArgmax2D)
    )


def times_in_turns(by_decoder, repetitions):
    """Measure a training step and a prediction: the median of all turns."""
    images = tf.random.uniform((BATCH_SIZE, *IMAGE_SIZE, 3), maxval=255)
    labels = tf.zeros((BATCH_SIZE, *IMAGE_SIZE), "int32")
    times = {}
    for turn in range(-1, repetitions):
        for decoder, model in by_decoder.items():
            for what, call in (
                ("train", lambda m=model: m.train_on_batch(images, labels)),
                ("predict", lambda m=model: m.predict_on_batch(images)),
            ):
                start = time.perf_counter()
                call()
                if turn >= 0:  # The first turn compiles.
                    passed = time.perf_counter() - start
                    times.setdefault((decoder, what), []).append(passed)
    return {key: statistics.median(values) for key, values in times.items()}


# Costs.
keras.utils.set_random_seed(0)
by_decoder = {decoder: build(decoder, 1) for decoder in decoders}
times = times_in_turns(by_decoder, 2 if options.smoke else 15)
rows = {}
for decoder, model in by_decoder.items():
    rows[decoder] = {
        "parameters": model.count_params(),
        "index_bytes": index_bytes(model),
        "train_milliseconds": 1e3 * times[decoder, "train"] / BATCH_SIZE,
        "predict_milliseconds": 1e3 * times[decoder, "predict"] / BATCH_SIZE,
    }
instead = skip_bytes(by_decoder["max_unpool"])

# Scores: decoders take turns, so that an interrupted run compares all.
scores = {decoder: [] for decoder in decoders}
for seed in range(num_seeds):
    for decoder in decoders:
        trained = train_and_score(
            lambda num_steps, decoder=decoder: build(decoder, num_steps),
            seed,
            epochs,
            options.data_dir,
            few,
        )
        print(describe(decoder, seed, trained), flush=True)
        scores[decoder].append(trained)
for decoder, of_seeds in scores.items():
    for name in SCORE_COLORS:
        rows[decoder][name] = [one[name] for one in of_seeds]

table = [
    "| decoder | parameters | index, bytes per image | training, ms per image "
    "| prediction, ms per image | mIoU | boundary F1 |",
    "|---|---:|---:|---:|---:|---:|---:|",
]
for decoder, row in rows.items():
    table.append(
        f"| `{decoder}` | {row['parameters']:,} | {row['index_bytes']:,} "
        f"| {row['train_milliseconds']:.1f} "
        f"| {row['predict_milliseconds']:.1f} "
        f"| {with_spread(row['mean_iou'])} "
        f"| {with_spread(row['boundary_f1'])} |"
    )
notes = f"""
Scenes of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} pixels, {epochs} epochs, {num_seeds}
seeds. The scores are the mean and standard deviation over the seeds. Boundaries
match within one pixel. The feature maps before pooling would take {instead:,}
bytes per image. Measured on {os.cpu_count()} CPU cores,
{datetime.date.today()}, with TensorFlow {tf.__version__} and Keras
{keras.__version__}.
"""
table = "\n".join(table) + "\n" + notes
print(f"\n{table}")

(options.output / "table.md").write_text(table, "utf-8")
report = {
    "image_size": IMAGE_SIZE,
    "epochs": epochs,
    "seeds": num_seeds,
    "date": str(datetime.date.today()),
    "cores": os.cpu_count(),
    "tensorflow": tf.__version__,
    "keras": keras.__version__,
    "skip_bytes": instead,
    "rows": rows,
}
(options.output / "table.json").write_text(json.dumps(report, indent=1) + "\n")

plt.rcParams.update({"font.size": 12, "axes.titlesize": 12})
figure, axes = plt.subplots(
    2, 1, figsize=(6, 5), sharey=True, layout="constrained"
)
titles = ("mIoU on test images", "boundary F1, within one pixel")
for axis, title, (name, color) in zip(
    axes, titles, SCORE_COLORS.items(), strict=True
):
    for height, row in enumerate(rows.values()):
        mean = statistics.mean(row[name])
        axis.plot(
            row[name],
            [height] * len(row[name]),
            "o",
            color=color,
            markerfacecolor="none",
        )
        axis.plot([mean], [height], "|", color=color, markersize=22)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_title(title)
    axis.locator_params(axis="x", nbins=5)
    axis.grid(axis="x", alpha=0.4)
    axis.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("circles: seeds; bar: mean")
figure.savefig(options.output / "scores.png", dpi=120)
print(f"Saved table.md, table.json and scores.png in {options.output}")
