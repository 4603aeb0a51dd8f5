"""Compare a classifier, a sliding window and an encoder-decoder.

    python examples/why_unpooling.py
    python examples/why_unpooling.py --camvid CamVid

Train each network for the same time, measure its costs, and write table.md,
table.json and figures to the folder why_unpooling/. The script takes less than
ten minutes on two CPU cores. It trains on street scenes that it draws itself,
or on CamVid: pass the folder that `data.load("cam_vid", manual_dir=...)` would
read.
"""

# %%
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
import numpy as np
import tensorflow as tf
from matplotlib.patches import Patch, Rectangle

from keras_deconv import data, inference, losses, metrics, models, visualize

IMAGE_SIZE = (96, 128)
PATCH_SIZE = 64
SIDES = (64, 128, 256, 512)
SEED = 0
# Okabe and Ito's colors, which color-blind readers tell apart.
LINE_COLORS = {"b": "#D55E00", "c": "#0072B2", "d": "#009E73"}

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--camvid", metavar="FOLDER", help="train on CamVid, from this folder")
add("--data-dir", help="folder of prepared datasets")
add("--output", default="why_unpooling", type=Path)
add("--seconds", default=60.0, type=float, help="training time of each network")
add("--smoke", action="store_true", help="one step, few images")
options = parser.parse_args()
if options.camvid and not Path(options.camvid).is_dir():
    parser.error(f"--camvid: {options.camvid} is not a folder")
options.output.mkdir(parents=True, exist_ok=True)
# With --smoke, training ends after the first step.
seconds = 0.0 if options.smoke else options.seconds
keras.utils.set_random_seed(SEED)
tf.get_logger().setLevel("ERROR")
# In points. Figures are six inches wide, so that phones show readable text.
plt.rcParams.update(
    {
        "axes.titlesize": 12,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.w_pad": 0.1,
        "font.size": 12,
        "image.interpolation": "nearest",
        "savefig.dpi": 120,
    }
)

# %% [markdown]
# ## Load the data
#
# The images, and the class of each pixel. Class 255 is void.

# %%
set_name = "cam_vid" if options.camvid else "scenes"
facts = data.describe(set_name)
num_classes = facts.num_classes
few = "[:4]" if options.smoke else "[:40]"


def load(split):
    """Return all images and masks of a split."""
    pairs = data.load(
        set_name,
        split,
        image_size=IMAGE_SIZE,
        batch_size=8,
        data_dir=options.data_dir,
        manual_dir=options.camvid,
        shuffle=False,
        cache=False,
    )
    parts = zip(*pairs.as_numpy_iterator(), strict=True)
    return [np.concatenate(part) for part in parts]


# Some copies of CamVid do not have a test split.
there = data.splits(
    set_name, data_dir=options.data_dir, manual_dir=options.camvid
)
test_split = "test" if "test" in there else "validation"
images, masks = load("train" + (few if options.smoke else ""))
test_images, test_masks = load(test_split + few)
rng = np.random.default_rng(SEED)
print(
    f"{set_name}: {len(images)} training images, "
    f"{len(test_images)} {test_split} images"
)


# %% [markdown]
# ## Measure the costs
#
# All costs are those of one image:
#
# - **Multiply-adds**: half of the floating-point operations that TensorFlow's
#   profiler counts in the graph.
# - **Training memory**: the size of all results of the forward pass that the
#   backward pass uses, in the graph that TensorFlow traces. Weights are not
#   included.
# - **Inference memory**: the largest number of bytes that are needed at the
#   same time if the graph runs in order and frees results after their last use.
# - **Time**: the median of three calls.

# %%
ALIASES = ("Identity", "IdentityN", "Reshape", "Squeeze", "StopGradient")
NO_ACTIVATIONS = ("Const", "Placeholder", "ReadVariableOp")


def loss_of(model):
    """Return a loss for one class per image, or for one class per pixel."""
    if len(model.output_shape) == 2:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return losses.SegmentationCrossentropy()


def graph_of(model):
    """Return the graph that predicts one image."""
    function = tf.function(lambda image: model(image, training=False))
    image = tf.TensorSpec((1, *model.input_shape[1:]))
    return function.get_concrete_function(image).graph


def multiply_adds(model):
    """Count the multiply-adds for one image."""
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    what = builder(builder.float_operation()).with_empty_output().build()
    counted = tf.compat.v1.profiler.profile(graph_of(model), options=what)
    return counted.total_float_ops // 2


def owner(tensor):
    """Return the tensor whose memory this tensor shares."""
    while tensor.op.type in ALIASES:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def num_bytes(tensor):
    """Return the bytes of an activation, and 0 for other tensors."""
    if tensor.op.type in NO_ACTIVATIONS:
        return 0
    return tensor.shape.num_elements() * tensor.dtype.size


def training_bytes(model):
    """Count the bytes that the forward pass keeps for the backward pass."""
    loss = loss_of(model)
    forward = []

    def step(image, label):
        with tf.GradientTape() as tape:
            value = loss(label, model(image, training=True))
        forward.extend(tf.compat.v1.get_default_graph().get_operations())
        return tape.gradient(value, model.trainable_variables)

    graph = (
        tf.function(step)
        .get_concrete_function(
            tf.TensorSpec((1, *model.input_shape[1:])),
            tf.TensorSpec((1, *model.output_shape[1:-1]), "int32"),
        )
        .graph
    )
    is_forward = set(forward)
    kept = {
        owner(tensor).ref()
        for operation in graph.get_operations()
        if operation not in is_forward
        for tensor in operation.inputs
        if tensor.op in is_forward
    }
    return sum(num_bytes(reference.deref()) for reference in kept)


def inference_bytes(model):
    """Return the largest number of bytes that activations need at once."""
    operations = graph_of(model).get_operations()
    last_use = {}
    for number, operation in enumerate(operations):
        for tensor in (*operation.inputs, *operation.outputs):
            last_use[owner(tensor).ref()] = number
    alive = peak = 0
    ends = [0] * len(operations)
    for number, operation in enumerate(operations):
        for tensor in operation.outputs:
            if owner(tensor) is tensor:
                alive += num_bytes(tensor)
                ends[last_use[tensor.ref()]] += num_bytes(tensor)
        peak = max(peak, alive)
        alive -= ends[number]
    return peak


def time_of(model, batch_size=1):
    """Return the seconds to predict a batch, without the first call."""
    batch = np.zeros((batch_size, *model.input_shape[1:]), "float32")
    times = []
    for _ in range(4):
        start = time.perf_counter()
        model.predict_on_batch(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def costs_of(model):
    """Return the parameters and all costs except the time."""
    return {
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "training_bytes": training_bytes(model),
        "inference_bytes": inference_bytes(model),
    }


# %% [markdown]
# ## Train and score
#
# Every network is trained for the same time with the same optimizer. The score
# uses a random sample of pixels from each test image, because the sliding
# window is too slow for all of them. The sample is the same for every network.

# %%
PIXELS_PER_IMAGE = 10 if options.smoke else 100


class StopAfter(keras.callbacks.Callback):
    """Stops training when a number of seconds have passed after step 1."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.start = None
        self.num_steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.num_steps += 1
        if self.start is None:
            self.start = time.perf_counter()
        if time.perf_counter() - self.start > self.seconds:
            self.model.stop_training = True


def train(model, batches):
    """Train for the given time and return the number of steps."""
    # Tracing a graph takes longer than the one step of --smoke.
    model.compile(
        keras.optimizers.Adam(1e-3), loss_of(model), run_eagerly=options.smoke
    )
    stop = StopAfter(seconds)
    model.fit(
        batches, epochs=10_000, shuffle=False, callbacks=[stop], verbose=0
    )
    print(f"{model.name}: {stop.num_steps} steps in {seconds:g} seconds")
    return stop.num_steps


def choose_pixels(mask, number):
    """Return the rows and columns of random pixels that are not void."""
    return rng.choice(np.argwhere(mask != 255), number)


def mean_iou(predicted):
    """Score the classes that were predicted for the chosen pixels."""
    metric = metrics.MeanIoU(num_classes)
    metric.update_state(true_classes, np.reshape(predicted, (1, -1)))
    return float(metric.result())


def at_pixels(maps):
    """Return the values of masks at the chosen pixels."""
    return np.concatenate(
        [one[tuple(p.T)] for one, p in zip(maps, test_pixels, strict=True)]
    )


test_pixels = [choose_pixels(mask, PIXELS_PER_IMAGE) for mask in test_masks]
true_classes = at_pixels(test_masks)[None].astype("int32")
image_batches = (
    tf.data.Dataset.from_tensor_slices((images, masks))
    .shuffle(len(images), seed=SEED)
    .batch(1 if options.smoke else 4, drop_remainder=True)
)
rows = {}
predictions = {}

# %% [markdown]
# ## a. One class per image
#
# A classifier returns one vector of scores. Here, it learns the most frequent
# class of the image. If you assign this class to every pixel, most pixels are
# wrong.


# %%
def most_frequent(mask):
    """Return the most frequent class, ignoring void."""
    return np.bincount(mask[mask != 255], minlength=num_classes).argmax()


classifier = models.PatchClassifier(
    (*IMAGE_SIZE, 3), num_classes, name="classifier"
)
labels = np.array([most_frequent(mask) for mask in masks])
num_steps = train(
    classifier,
    tf.data.Dataset.from_tensor_slices((images, labels))
    .shuffle(len(images), seed=SEED)
    .batch(16),
)
answers = classifier.predict(test_images, verbose=0).argmax(-1)
rows["a"] = {
    "what": "one class per image",
    **costs_of(classifier),
    "seconds_per_image": time_of(classifier),
    "steps": num_steps,
    "mean_iou": mean_iou(np.repeat(answers, PIXELS_PER_IMAGE)),
}
predictions["a"] = np.full(IMAGE_SIZE, answers[0])

# %% [markdown]
# ## b. Sliding window
#
# To classify a pixel, cut out the patch around it and classify the patch.
# Repeat this for every pixel. This works, but the patches of neighboring pixels
# are almost equal, and nothing computed for one is reused for the next.


# %%
class Patches(keras.utils.PyDataset):
    """Batches of random patches with the class of their center pixel."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        patches, classes = [], []
        for i in rng.integers(len(images), size=32):
            [pixel] = choose_pixels(masks[i], 1)
            patches.append(patch_at(images[i], *pixel))
            classes.append(masks[i][tuple(pixel)])
        return np.stack(patches), np.stack(classes)


def patch_at(image, row, column):
    """Return the patch around a pixel, black outside of the image."""
    half = PATCH_SIZE // 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)))
    return padded[row : row + PATCH_SIZE, column : column + PATCH_SIZE]


patch_classifier = models.PatchClassifier(
    (PATCH_SIZE, PATCH_SIZE, 3), num_classes
)
num_steps = train(patch_classifier, Patches())
test_patches = [
    patch_at(image, *pixel)
    for image, pixels in zip(test_images, test_pixels, strict=True)
    for pixel in pixels
]
answers = patch_classifier.predict(np.stack(test_patches), verbose=0).argmax(-1)

start = time.perf_counter()
part = slice(0, 8) if options.smoke else slice(None)
logits = inference.predict_sliding_window(
    patch_classifier, test_images[:1, part], verbose=0
)
seconds_of_part = time.perf_counter() - start
num_pixels = math.prod(IMAGE_SIZE)
per_patch = costs_of(patch_classifier)
rows["b"] = {
    "what": "sliding window",
    **per_patch,
    "multiply_adds": num_pixels * per_patch["multiply_adds"],
    "seconds_per_image": seconds_of_part * num_pixels / logits[..., 0].size,
    "steps": num_steps,
    "mean_iou": mean_iou(answers),
}
predictions["b"] = logits[0].argmax(-1)

# %% [markdown]
# ## c. Full resolution
#
# Convolutions with padding preserve the size of the image. One pass classifies
# all pixels, and nothing is computed twice. But every feature map has full
# size.
#
# There are two such networks. One has the eight convolutions of SegNet-Basic
# without its pooling, and its receptive field is 49x49 pixels. The other has as
# many parameters in 31 thinner layers, and its receptive field is 187x187
# pixels. The receptive field of SegNet-Basic has 186 to 202 pixels per side.


# %%
def train_and_measure(key, what, model):
    """Fill the row of a network that predicts whole masks."""
    num_steps = train(model, image_batches)
    maps = model.predict(test_images, batch_size=4, verbose=0).argmax(-1)
    rows[key] = {
        "what": what,
        **costs_of(model),
        "seconds_per_image": time_of(model),
        "steps": num_steps,
        "mean_iou": mean_iou(at_pixels(maps)),
    }
    predictions[key] = maps[0]


image_shape = (*IMAGE_SIZE, 3)
train_and_measure(
    "c",
    "full resolution",
    models.FullResolutionNet(image_shape, num_classes),
)
train_and_measure(
    "c deep",
    "31 thinner layers",
    models.FullResolutionNet(
        image_shape, num_classes, filters=(31,) * 31, name="full_resolution_31"
    ),
)

# %% [markdown]
# ## d. Encoder-decoder
#
# Pooling makes the feature maps smaller, so convolutions are cheaper and the
# receptive field grows faster. Unpooling restores the size and puts each value
# at the position of its maximum.

# %%
train_and_measure(
    "d", "encoder-decoder", models.SegNetBasic(image_shape, num_classes)
)

# %% [markdown]
# ## Results
#
# The table, and how its numbers were measured.

# %%
LINES = (
    ("parameters, millions", "parameters", 1e6, ".2f"),
    ("multiply-adds, billions", "multiply_adds", 1e9, ".1f"),
    ("training memory, MB", "training_bytes", 1e6, ".1f"),
    ("inference memory, MB", "inference_bytes", 1e6, ".1f"),
    ("time per image, seconds", "seconds_per_image", 1, ".3f"),
    ("training steps", "steps", 1, ".0f"),
    ("mIoU", "mean_iou", 1, ".3f"),
)
header = [f"{key}: {row['what']}" for key, row in rows.items()]
table = [
    f"| {set_name}, {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} | {' | '.join(header)} |",
    "|---" + "|---:" * len(rows) + "|",
]
for title, name, unit, form in LINES:
    cells = [format(row[name] / unit, form) for row in rows.values()]
    table.append(f"| {title} | {' | '.join(cells)} |")
notes = f"""
Each step was trained for {seconds:g} seconds.

- mIoU is measured on {true_classes.size} pixels of {len(test_images)} images of
  the {test_split} split.
- Multiply-adds are half of the floating-point operations that TensorFlow's
  profiler counts.
- Training memory is the size of all results of the forward pass that the
  backward pass uses.
- Inference memory is the largest amount that is needed at the same time.
- Memory is given for one example: one patch in b, and one image in the others.

Measured on {os.cpu_count()} CPU cores, {datetime.date.today()}, with TensorFlow
{tf.__version__} and Keras {keras.__version__}.
"""
table = "\n".join(table) + "\n" + notes
print(table)
report = {
    "data_set": set_name,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "seconds_of_training": seconds,
    "test_images": len(test_images),
    "test_pixels": true_classes.size,
    "date": str(datetime.date.today()),
    "cores": os.cpu_count(),
    "tensorflow": tf.__version__,
    "keras": keras.__version__,
    "rows": rows,
}

# %% [markdown]
# ## Costs by image size
#
# The costs of the sliding window are those of one patch times the number of
# pixels. Larger images would take too long to measure.

# %%
MAKERS = {
    "c": models.FullResolutionNet,
    "d": models.SegNetBasic,
}
sides = SIDES[:2] if options.smoke else SIDES
growth = {"b": [], "c": [], "d": []}
batch_size = 256
seconds_per_patch = time_of(patch_classifier, batch_size) / batch_size
for side in sides:
    growth["b"].append(
        {
            "side": side,
            "multiply_adds": side**2 * per_patch["multiply_adds"],
            "training_bytes": per_patch["training_bytes"],
            "seconds_per_image": side**2 * seconds_per_patch,
            "is_extrapolated": True,
        }
    )
    for key, make in MAKERS.items():
        model = make((side, side, 3), num_classes)
        growth[key].append(
            {
                "side": side,
                **costs_of(model),
                "seconds_per_image": time_of(model),
                "is_extrapolated": False,
            }
        )
report["growth"] = growth

PANELS = (
    ("multiply-adds per image, billions", "multiply_adds", 1e9),
    ("seconds per image", "seconds_per_image", 1),
    ("training memory, MB (b: one patch)", "training_bytes", 1e6),
)
NAMES = {
    "b": "b: sliding window\n(from one patch)",
    "c": "c: full resolution",
    "d": "d: encoder-decoder",
}
figure, axes = plt.subplots(
    3, 1, figsize=(6, 10), sharex=True, layout="constrained"
)
for axis, (title, name, unit) in zip(axes, PANELS, strict=True):
    for (key, points), marker in zip(growth.items(), "s^o", strict=True):
        heights = [point[name] / unit for point in points]
        axis.plot(
            sides,
            heights,
            color=LINE_COLORS[key],
            linestyle="--" if key == "b" else "-",
            marker=marker,
            # Hollow: extrapolated.
            markerfacecolor="white" if key == "b" else LINE_COLORS[key],
        )
        axis.annotate(
            NAMES[key],
            (sides[-1], heights[-1]),
            xytext=(10, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=LINE_COLORS[key],
            fontsize=11,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sides, [str(side) for side in sides])
    axis.margins(y=0.12)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_title(title)
    axis.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("side of the image, pixels")
figure.savefig(options.output / "growth.png")

# %% [markdown]
# ## Predictions
#
# A test image, its true classes, and the prediction of each step.

# %%
colors = facts.palette
figure, axes = plt.subplots(4, 2, figsize=(6, 10), layout="constrained")
axes = axes.ravel()
axes[0].imshow(test_images[0].astype("uint8"))
# The window of a pixel and the window of the next pixel.
for left, color, style in ((24, "white", "-"), (25, "black", ":")):
    axes[0].add_patch(
        Rectangle(
            (left, 16),
            PATCH_SIZE,
            PATCH_SIZE,
            fill=False,
            edgecolor=color,
            linestyle=style,
            linewidth=2,
        )
    )
share = (PATCH_SIZE - 1) / PATCH_SIZE
axes[0].set_title(f"a test image: windows of\nneighbors share {share:.0%}")
true_mask = test_masks[0]
axes[1].imshow(visualize.color_mask(true_mask, colors))
axes[1].set_title("true classes\n(white: void)")
for axis, (key, mask) in zip(axes[2:], predictions.items(), strict=False):
    axis.imshow(visualize.color_mask(mask, colors))
    axis.set_title(
        f"{key}: {rows[key]['what']}\nmIoU {rows[key]['mean_iou']:.2f}"
    )
for axis in axes:
    axis.set_axis_off()
legend = [
    Patch(facecolor=np.array(color) / 255, edgecolor="black", label=name)
    for name, color in zip(facts.class_names, colors, strict=True)
]
axes[-1].legend(handles=legend, loc="center", frameon=False)
figure.savefig(options.output / "predictions.png")

# %% [markdown]
# ## Check the claims of docs/story.md

# %%
b, c, deep, d = (rows[key] for key in ("b", "c", "c deep", "d"))
CLAIMS = {
    "b computes at least 50 times as much as d": (
        b["multiply_adds"] >= 50 * d["multiply_adds"]
    ),
    "b computes more than c, and c more than d": (
        b["multiply_adds"] > c["multiply_adds"] > d["multiply_adds"]
    ),
    "c needs at least twice the training memory of d": (
        c["training_bytes"] >= 2 * d["training_bytes"]
    ),
    "c deep needs at least 3 times the training memory of d": (
        deep["training_bytes"] >= 3 * d["training_bytes"]
    ),
}
report["claims"] = CLAIMS
(options.output / "table.md").write_text(table, "utf-8")
(options.output / "table.json").write_text(json.dumps(report, indent=1) + "\n")
for claim, holds in CLAIMS.items():
    print("holds:" if holds else "DOES NOT HOLD:", claim)
if not all(CLAIMS.values()):
    raise SystemExit("docs/story.md makes a claim that does not hold.")
print(f"Saved table.md, table.json and figures in {options.output}")
