"""Compare encoders with decoders that mirror them, with and without skips.

    python examples/compare_encoders.py

trains VGG16, ResNet50 and MobileNetV2, not pre-trained, on drawn street scenes
with decoders of equal width: `mirror`, `nearest` and `conv_transpose`, each
with and without skip connections, three seeds. It writes table.md and
table.json into compare_encoders/. Whatever comes out is reported.
"""

import argparse
import datetime
import json
import math
import os
import statistics
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from keras_deconv import callbacks, data, losses, metrics, models

IMAGE_SIZE = (48, 64)
BATCH_SIZE = 8
ENCODERS = ("VGG16", "ResNet50", "MobileNetV2")
DECODERS = ("mirror", "nearest", "conv_transpose")
SKIPS = (False, "concat")
# The same for all encoders, so that decoders differ in how they unpool.
DECODER_FILTERS = 64
# Boundaries match within one pixel, as a share of the diagonal.
TOLERANCE = 1.001 / math.hypot(*IMAGE_SIZE)

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--data-dir", help="where tfds keeps prepared datasets")
add("--epochs", default=10, type=int)
add("--output", default="compare_encoders", type=Path)
add("--seeds", default=3, type=int, help="how many, from 0 on")
add("--encoders", nargs="+", default=ENCODERS, choices=ENCODERS)
add("--smoke", action="store_true", help="one seed, one epoch, few images")
options = parser.parse_args()
if min(options.epochs, options.seeds) < 1:
    parser.error("--epochs and --seeds must be at least 1")
options.output.mkdir(parents=True, exist_ok=True)
epochs = 1 if options.smoke else options.epochs
num_seeds = 1 if options.smoke else options.seeds
few = "[:16]" if options.smoke else ""
num_classes = data.describe("scenes").num_classes


def build(encoder, decoder, skips, seed, num_steps):
    """A compiled network; those of a seed begin with the same encoder."""
    keras.utils.set_random_seed(seed)
    model = models.EncoderDecoder(
        getattr(keras.applications, encoder)(
            input_shape=(*IMAGE_SIZE, 3), include_top=False, weights=None
        ),
        num_classes,
        decoder=decoder,
        decoder_filters=DECODER_FILTERS,
        skips=skips,
        preprocessing="auto",
    )
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-3, num_steps)
        ),
        losses.SegmentationCrossentropy(),
    )
    return model


def train_and_score(encoder, decoder, skips, seed):
    """Parameters, and the scores on the test split after one training."""
    epoch = tf.Variable(0, dtype="int64", trainable=False)
    train, test = data.load(
        "scenes",
        [f"train{few}", f"test{few}"],
        image_size=IMAGE_SIZE,
        batch_size=BATCH_SIZE,
        data_dir=options.data_dir,
        seed=seed,
        epoch=epoch,
    )
    model = build(encoder, decoder, skips, seed, epochs * len(train))
    in_order = callbacks.EpochSeed(seed, epoch)
    model.fit(
        train, epochs=epochs, shuffle=False, callbacks=[in_order], verbose=0
    )
    # Only now, since scores of the training images would cost time.
    model.compile(
        loss=losses.SegmentationCrossentropy(),
        metrics=[
            metrics.MeanIoU(num_classes),
            metrics.BoundaryF1(num_classes, tolerance=TOLERANCE),
        ],
    )
    scores = model.evaluate(test, verbose=0, return_dict=True)
    print(
        f"{encoder}, {decoder}, skips={skips}, seed {seed}: "
        f"mIoU {scores['mean_iou']:.3f}, "
        f"boundary F1 {scores['boundary_f1']:.3f}",
        flush=True,
    )
    return model.count_params(), scores


# Seeds in the outermost loop, so that a stopped run compares what it has.
rows = {}
for seed in range(num_seeds):
    for encoder in options.encoders:
        for decoder in DECODERS:
            for skips in SKIPS:
                key = f"{encoder} | {decoder} | {skips or 'none'}"
                count, scores = train_and_score(encoder, decoder, skips, seed)
                row = rows.setdefault(key, {"parameters": count})
                for name in ("mean_iou", "boundary_f1"):
                    row.setdefault(name, []).append(scores[name])
                keras.utils.clear_session()


def with_spread(values):
    """Mean and standard deviation, of one seed the value alone."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}"


table = [
    "| encoder | decoder | skips | parameters | mIoU | boundary F1 |",
    "|---|---|---|---:|---:|---:|",
]
for key, row in rows.items():
    table.append(
        f"| {key} | {row['parameters']:,} | {with_spread(row['mean_iou'])} "
        f"| {with_spread(row['boundary_f1'])} |"
    )
notes = f"""
Scenes of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}, epochs: {epochs}, seeds: {num_seeds};
mean and standard deviation over the seeds. Boundaries match within one pixel.
{datetime.date.today()}, TensorFlow {tf.__version__}, Keras {keras.__version__}.
"""
table = "\n".join(table) + "\n" + notes
print(f"\n{table}")
(options.output / "table.md").write_text(table, "utf-8")
report = {
    "image_size": IMAGE_SIZE,
    "epochs": epochs,
    "seeds": num_seeds,
    "date": str(datetime.date.today()),
    "tensorflow": tf.__version__,
    "keras": keras.__version__,
    "rows": rows,
}
(options.output / "table.json").write_text(json.dumps(report, indent=1) + "\n")
print(f"Saved table.md and table.json in {options.output}")
