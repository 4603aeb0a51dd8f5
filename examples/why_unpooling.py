# %% [markdown]
# # Why unpooling?

# %% [markdown]
"""From one class per image to one per pixel, step by step, with the costs.

    python examples/why_unpooling.py
    python examples/why_unpooling.py --camvid CamVid

trains every step for the same time on drawn street scenes (or on CamVid, a
folder as `data.load("cam_vid", manual_dir=...)` takes it), measures what each
costs, and writes into why_unpooling/: table.md, table.json and pictures. Less
than ten minutes on two CPU cores.
"""

# %%
import argparse
import datetime
import json
import math
import os
import statistics
import sys
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
add("--camvid", metavar="FOLDER", help="tell it on CamVid, which lies there")
add("--data-dir", help="where tfds keeps prepared data sets")
add("--output", default="why_unpooling", type=Path)
add("--seconds", default=60.0, type=float, help="of training, for each step")
add("--smoke", action="store_true", help="hardly any training, few images")
# A notebook has no command line: there the environment holds the options.
is_notebook = "ipykernel" in sys.modules
notebook_options = os.environ.get("EXAMPLE_OPTIONS", "").split()
options = parser.parse_args(notebook_options if is_notebook else None)
if options.camvid and not Path(options.camvid).is_dir():
    parser.error(f"--camvid: {options.camvid} is no folder")
options.output.mkdir(parents=True, exist_ok=True)
# A smoke run ends after the first step.
seconds = 0.0 if options.smoke else options.seconds
keras.utils.set_random_seed(SEED)
tf.get_logger().setLevel("ERROR")
# Points, on pictures six inches wide: readable on a phone.
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
# The pictures, and the class of each of their pixels; 255 is void.

# %%
set_name = "cam_vid" if options.camvid else "scenes"
facts = data.describe(set_name)
num_classes = facts.num_classes
few = "[:4]" if options.smoke else "[:40]"


def load(split):
    """All images and masks of a split."""
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


# Some copies of CamVid have no test split.
there = data.splits(
    set_name, data_dir=options.data_dir, manual_dir=options.camvid
)
test_split = "test" if "test" in there else "validation"
images, masks = load("train" + (few if options.smoke else ""))
test_images, test_masks = load(test_split + few)
rng = np.random.default_rng(SEED)
print(
    f"{set_name}: {len(images)} images to train with, "
    f"{len(test_images)} of {test_split}"
)


# %% [markdown]
# ## How costs are measured
#
# - **Multiply-adds** of one image: half the floating-point operations that
#   TensorFlow's profiler counts in the graph.
# - **Training memory** of one image: the bytes of all results of the forward
#   pass that the backward pass uses, in the graph that TensorFlow traces.
#   Weights do not count.
# - **Inference memory** of one image: the most bytes that are needed at once
#   when that graph runs in order, and every result is freed after its last use.
# - **Time** of one image: the median of three calls.

# %%
ALIASES = ("Identity", "IdentityN", "Reshape", "Squeeze", "StopGradient")
NO_ACTIVATIONS = ("Const", "Placeholder", "ReadVariableOp")


def loss_of(model):
    """One class for the whole input, or one for each pixel."""
    if len(model.output_shape) == 2:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return losses.SegmentationCrossentropy()


def graph_of(model):
    """What predicting one image computes."""
    function = tf.function(lambda image: model(image, training=False))
    image = tf.TensorSpec((1, *model.input_shape[1:]))
    return function.get_concrete_function(image).graph


def multiply_adds(model):
    """Multiply-adds of one image."""
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    what = builder(builder.float_operation()).with_empty_output().build()
    counted = tf.compat.v1.profiler.profile(graph_of(model), options=what)
    return counted.total_float_ops // 2


def owner(tensor):
    """The tensor whose memory this one shares."""
    while tensor.op.type in ALIASES:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def num_bytes(tensor):
    """Bytes of an activation; nothing else counts."""
    if tensor.op.type in NO_ACTIVATIONS:
        return 0
    return tensor.shape.num_elements() * tensor.dtype.size


def training_bytes(model):
    """Bytes that the forward pass keeps for the backward pass, one image."""
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
    """The most bytes of activations that are needed at once, one image."""
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
    """Seconds of predicting a batch; the first call compiles."""
    batch = np.zeros((batch_size, *model.input_shape[1:]), "float32")
    times = []
    for _ in range(4):
        start = time.perf_counter()
        model.predict_on_batch(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def costs_of(model):
    """All of these but the time, and the number of parameters."""
    return {
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "training_bytes": training_bytes(model),
        "inference_bytes": inference_bytes(model),
    }


# %% [markdown]
# ## The same training for all
#
# Every network is trained for the same time, by the same optimizer, and scored
# on the same pixels: some of every test image, because the sliding window is
# too slow for all of them.

# %%
PIXELS_PER_IMAGE = 10 if options.smoke else 100


class StopAfter(keras.callbacks.Callback):
    """Ends training after some seconds, which begin after the first step."""

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
    """Train for the given time; gives the number of steps."""
    # For the one step of a smoke run, building a graph takes too long.
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
    """Row and column of some pixels that are not void."""
    return rng.choice(np.argwhere(mask != 255), number)


def mean_iou(predicted):
    """The score of the classes that were predicted at the chosen pixels."""
    metric = metrics.MeanIoU(num_classes)
    metric.update_state(true_classes, np.reshape(predicted, (1, -1)))
    return float(metric.result())


def at_pixels(maps):
    """What maps of the test images say at the chosen pixels."""
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
pictures = {}

# %% [markdown]
# ## a. One class for the whole image
#
# A classifier ends in one vector of scores: here, the class that most of the
# pixels have. Said of every pixel, that is mostly wrong.


# %%
def most_frequent(mask):
    """The class of most pixels; void does not count."""
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
pictures["a"] = np.full(IMAGE_SIZE, answers[0])

# %% [markdown]
# ## b. Every pixel by its own patch
#
# Cut out the patch around a pixel, and classify that: the class of the pixel.
# Then move on by one pixel. That is right, and nearly the same patch is
# computed again and again.


# %%
class Patches(keras.utils.PyDataset):
    """Batches of patches from anywhere, with the class of their middle."""

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
    """The patch around a pixel, black beyond the border of the image."""
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
pictures["b"] = logits[0].argmax(-1)

# %% [markdown]
# ## c. All pixels at once, at full size
#
# Convolutions that pad their input give a map of the size of the image: all
# pixels in one pass, and nothing is computed twice. But every feature map is
# of full size. Two of them: the eight convolutions of SegNet-Basic without its
# pooling, of which a pixel sees 49x49 pixels; and as many parameters in 31
# thinner layers, which see 187x187. SegNet-Basic sees 186 to 202 to a side.


# %%
def train_and_measure(key, what, model):
    """A row of the table for a network from images to maps."""
    num_steps = train(model, image_batches)
    maps = model.predict(test_images, batch_size=4, verbose=0).argmax(-1)
    rows[key] = {
        "what": what,
        **costs_of(model),
        "seconds_per_image": time_of(model),
        "steps": num_steps,
        "mean_iou": mean_iou(at_pixels(maps)),
    }
    pictures[key] = maps[0]


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
# ## d. Shrink, then restore: the encoder-decoder
#
# Pooling makes the maps small, so that convolutions are cheap and see far;
# unpooling makes them large again, with each maximum where it was.

# %%
train_and_measure(
    "d", "encoder-decoder", models.SegNetBasic(image_shape, num_classes)
)

# %% [markdown]
# ## The table
#
# What was measured, and under it how.

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
Each step was trained for {seconds:g} seconds. mIoU: on {true_classes.size}
pixels of {len(test_images)} images of the {test_split} split. Multiply-adds:
half the operations that TensorFlow's profiler counts. Training memory: all
results of the forward pass that the backward pass uses. Inference memory: the
most that is needed at once. Memory is of one example: of one patch in b, of one
image in the others.
Measured on {os.cpu_count()} CPU cores, {datetime.date.today()}, with
TensorFlow {tf.__version__} and Keras {keras.__version__}.
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
# ## How the costs grow with the image
#
# Of the sliding window one patch is measured, and multiplied by the number of
# pixels: its larger images would take too long.

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
    ("multiply-adds of an image, billions", "multiply_adds", 1e9),
    ("seconds per image", "seconds_per_image", 1),
    ("training memory, MB (b: of one patch)", "training_bytes", 1e6),
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
# ## What each of them sees
#
# A test image, what is in it, and what each step says.

# %%
colors = facts.palette
figure, axes = plt.subplots(4, 2, figsize=(6, 10), layout="constrained")
axes = axes.ravel()
axes[0].imshow(test_images[0].astype("uint8"))
# A window, and the window of the next pixel.
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
axes[1].set_title("what is in it\n(white: void)")
for axis, (key, picture) in zip(axes[2:], pictures.items(), strict=False):
    axis.imshow(visualize.color_mask(picture, colors))
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
# ## What the story claims, held against the table

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
    "c that sees as much as d needs at least 3 times its training memory": (
        deep["training_bytes"] >= 3 * d["training_bytes"]
    ),
}
report["claims"] = CLAIMS
(options.output / "table.md").write_text(table, "utf-8")
(options.output / "table.json").write_text(json.dumps(report, indent=1) + "\n")
for claim, holds in CLAIMS.items():
    print("holds:" if holds else "DOES NOT HOLD:", claim)
if not all(CLAIMS.values()):
    raise SystemExit("The story claims what was not measured.")
print(f"Saved table.md, table.json and pictures in {options.output}")
