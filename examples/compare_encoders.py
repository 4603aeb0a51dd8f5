"""Compare encoders with decoders that mirror them, with and without skips.

    python examples/compare_encoders.py

trains VGG16, ResNet50 and MobileNetV2 from random weights, on drawn street
scenes, with decoders of equal width: `mirror`, `nearest` and `conv_transpose`,
each with and without skip connections, three seeds. MobileNetV2 has strided
convolutions only, so its `mirror` is `conv_transpose` and trained once. The
script writes table.md and table.json into compare_encoders/. Repeat the command
to continue a stopped run.
"""

import argparse
import datetime
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

# A file beside this one: scripts find what lies in their own folder.
from comparing import (
    IMAGE_SIZE,
    compile_for,
    describe,
    remembered,
    train_and_score,
    with_spread,
)

from keras_deconv import data, models

DECODERS = ("mirror", "nearest", "conv_transpose")
ENCODERS = {
    "VGG16": DECODERS,
    "ResNet50": DECODERS,
    "MobileNetV2": DECODERS[:2],
}
SKIPS = (False, "concat")
# The same for all encoders, so that decoders differ in how they unpool.
DECODER_FILTERS = 64

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--data-dir", help="where tfds keeps prepared datasets")
add("--epochs", default=5, type=int)
add("--output", default="compare_encoders", type=Path)
add("--seeds", default=3, type=int, help="how many, from 0 on")
add("--encoders", nargs="+", default=ENCODERS, choices=ENCODERS)
add("--smoke", action="store_true", help="one seed, epoch and decoder")
options = parser.parse_args()
if min(options.epochs, options.seeds) < 1:
    parser.error("--epochs and --seeds must be at least 1")
options.output.mkdir(parents=True, exist_ok=True)
epochs = 1 if options.smoke else options.epochs
num_seeds = 1 if options.smoke else options.seeds
few = "[:16]" if options.smoke else ""
num_classes = data.describe("scenes").num_classes


def build(encoder, decoder, skips, num_steps):
    """A compiled network."""
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
    compile_for(model, 1e-3, num_steps)
    return model


def train(encoder, decoder, skips, seed):
    """Parameters and scores of one network."""
    scores = train_and_score(
        lambda num_steps: build(encoder, decoder, skips, num_steps),
        seed,
        epochs,
        options.data_dir,
        few,
        # MobileNetV2 keeps 99.9 % of its running statistics at each step. A few
        # hundred steps are not enough to update them.
        recompute_statistics=True,
    )
    keras.utils.clear_session()
    return scores


# Seeds in the outermost loop, so that a stopped run compares what it has.
rows = {}
for seed in range(num_seeds):
    for encoder in options.encoders:
        for decoder in ENCODERS[encoder][: 1 if options.smoke else None]:
            for skips in SKIPS:
                name = f"{encoder} | {decoder} | {skips or 'none'}"
                scores = remembered(
                    options.output / "scores.json",
                    f"{name} | seed {seed}, epochs {epochs} {few}",
                    lambda case=(encoder, decoder, skips, seed): train(*case),
                )
                print(describe(name, seed, scores), flush=True)
                row = rows.setdefault(name, {})
                row["parameters"] = scores["parameters"]
                for metric in ("mean_iou", "boundary_f1"):
                    row.setdefault(metric, []).append(scores[metric])

table = [
    "| encoder | decoder | skips | parameters | mIoU | boundary F1 |",
    "|---|---|---|---:|---:|---:|",
]
for name, row in rows.items():
    table.append(
        f"| {name} | {row['parameters']:,} | {with_spread(row['mean_iou'])} "
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
