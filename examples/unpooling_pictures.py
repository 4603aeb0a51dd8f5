# %% [markdown]
# # Unpooling in pictures

# %% [markdown]
"""Pictures of what pooling loses, and of what each unpooling gives back.

    python examples/unpooling_pictures.py

draws into unpooling_pictures/: grids.png (a 4x4 example in numbers),
feature_map.png (the same with a map of a network that it trains for half a
minute) and matrix.png (a convolution as a matrix, and its transpose).
"""

# %%
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb

from keras_deconv import data, losses, models, ops

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442")
GREY = "#767676"
# Points, on pictures six inches wide: readable on a phone.
TEXT_SIZE = 12
SEED = 0

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data-dir", help="where tfds keeps prepared data sets")
parser.add_argument("--output", default="unpooling_pictures", type=Path)
parser.add_argument("--smoke", action="store_true", help="hardly any training")
# A notebook has no command line: there the environment holds the options.
is_notebook = "ipykernel" in sys.modules
notebook_options = os.environ.get("EXAMPLE_OPTIONS", "").split()
options = parser.parse_args(notebook_options if is_notebook else None)
options.output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(SEED)
plt.rcParams.update(
    {
        "axes.titlesize": TEXT_SIZE,
        "figure.constrained_layout.w_pad": 0.1,
        "font.size": TEXT_SIZE,
        "savefig.dpi": 120,
    }
)

# %% [markdown]
# ## A 4x4 example in numbers
#
# Max pooling keeps the largest value of each 2x2 window. It may remember where
# in the window that was: 0 and 1 are above 2 and 3.

# %%
values = np.array([[1, 5, 2, 1], [3, 2, 7, 4], [6, 2, 1, 3], [2, 1, 2, 8]])
batch = values.astype("float32")[None, :, :, None]
pooled, argmax = ops.max_pool_with_argmax(batch)
restored = {
    "nearest": ops.nearest_unpool(pooled),
    "bed of nails": ops.bed_of_nails_unpool(pooled),
    "max unpooling": ops.max_unpool(pooled, argmax),
}

LOST = {
    "nearest": "Each value fills\nits window.\nLost: the place.",
    "bed of nails": "Each value goes\nto the corner.\nLost: the place.",
    "max unpooling": "Each value goes\nback to its place.\nLost: the others.",
}


def plane(tensor):
    """Height and width of the one image with one channel."""
    return keras.ops.convert_to_numpy(tensor)[0, :, :, 0].astype(int)


def compare(restored, before):
    """How many cells are as before, other than before, and left empty."""
    is_right = restored == before
    is_empty = (restored == 0) & ~is_right
    return is_right.sum(), (~is_right & ~is_empty).sum(), is_empty.sum()


def draw_grid(axis, numbers, colours, title, note=""):
    """Draw numbers in their cells; a cell without a colour stays white."""
    rows, columns = numbers.shape
    axis.imshow([[to_rgb(c or "white") for c in line] for line in colours])
    for (row, column), number in np.ndenumerate(numbers):
        is_empty = number == 0 and colours[row][column] is None
        ink = GREY if is_empty else "black"
        axis.text(column, row, number, ha="center", va="center", color=ink)
    axis.set_xticks(np.arange(columns + 1) - 0.5, [])
    axis.set_yticks(np.arange(rows + 1) - 0.5, [])
    axis.grid(color=GREY, linewidth=1)
    axis.tick_params(length=0)
    axis.set_title(title)
    axis.set_xlabel(note, linespacing=1.3)


def colours_of(numbers):
    """Each maximum has its colour, wherever it is."""
    of_maximum = dict(zip(plane(pooled).ravel(), COLOURS, strict=True))
    return [[of_maximum.get(n) for n in line] for line in numbers]


figure, axes = plt.subplots(2, 3, figsize=(6, 5.9), layout="constrained")
window_colours = np.reshape(COLOURS, (2, 2))
draw_grid(axes[0, 0], values, colours_of(values), "before pooling")
draw_grid(axes[0, 1], plane(pooled), window_colours, "max pooling")
draw_grid(axes[0, 2], plane(argmax), window_colours, "the places")
for axis, (name, tensor) in zip(axes[1], restored.items(), strict=True):
    numbers = plane(tensor)
    num_right, num_wrong, num_empty = compare(numbers, values)
    counts = f"{num_right} right, {num_wrong} wrong,\n{num_empty} empty"
    note = f"{LOST[name]}\n{counts}"
    draw_grid(axis, numbers, colours_of(numbers), name, note)
figure.savefig(options.output / "grids.png")

# %% [markdown]
# None of the three is an inverse. Nearest and bed of nails forget the place;
# max unpooling puts every maximum back where it was, and leaves the other
# three cells of a window empty. The convolution that follows fills them.
#
# ## A feature map of a trained network
#
# The same with what the first convolution of a SegNet-Basic sees in a street
# scene, after a short training.

# %%
scenes = data.describe("scenes")
train = data.load(
    "scenes",
    "train[:16]" if options.smoke else "train",
    image_size=(48, 64),
    batch_size=8,
    data_dir=options.data_dir,
    seed=SEED,
)
model = models.SegNetBasic((None, None, 3), scenes.num_classes)
model.compile("adam", losses.SegmentationCrossentropy())
model.fit(train, epochs=1 if options.smoke else 2, shuffle=False, verbose=2)

image, _ = data.draw_scene(seed=7, image_size=(96, 128))
first_stage = keras.Model(
    model.input, model.get_layer("block1_conv1_relu").output
)
features = keras.ops.convert_to_numpy(first_stage(image[None]))
# The channel that has most to tell; a part of it, so that cells are seen.
channel = features.std(axis=(0, 1, 2)).argmax()
rows, columns = slice(32, 72), slice(40, 80)
feature_map = features[:, rows, columns, channel, None]

pooled, argmax = ops.max_pool_with_argmax(feature_map)
maps = {
    "the feature map": feature_map,
    "max pooling": pooled,
    "nearest": ops.nearest_unpool(pooled),
    "bed of nails": ops.bed_of_nails_unpool(pooled),
    "max unpooling": ops.max_unpool(pooled, argmax),
}

figure, axes = plt.subplots(3, 2, figsize=(6, 9), layout="constrained")
axes = axes.ravel()
axes[0].imshow(image[rows, columns])
axes[0].set_title("a part of a scene")
for axis, (name, tensor) in zip(axes[1:], maps.items(), strict=True):
    picture = keras.ops.convert_to_numpy(tensor)[0, :, :, 0]
    title = name
    if name in restored:
        num_right, num_wrong, _ = compare(picture, feature_map[0, :, :, 0])
        right, wrong = (100 * n / picture.size for n in (num_right, num_wrong))
        title = f"{name}\n{right:.0f} % right, {wrong:.0f} % wrong"
    drawn = axis.imshow(picture, cmap="cividis", vmin=0, vmax=feature_map.max())
    axis.set_title(title)
for axis in axes:
    axis.set_xticks([])
    axis.set_yticks([])
figure.colorbar(
    drawn, ax=axes[4:], location="bottom", label="activation", shrink=0.9
)
figure.savefig(options.output / "feature_map.png")

# %% [markdown]
# ## Convolution as a matrix, and its transpose
#
# Transposed convolution also makes small maps larger. A 3x3 kernel takes a 4x4
# image to 2x2; with the images as vectors that is a matrix of 4 rows and 16
# columns, one row per output. Transposed convolution is the transpose of that
# matrix. It restores the size, and not the values: no inverse.

# %%
kernel = np.arange(1, 10).reshape(3, 3)
matrix = ops.conv2d_matrix(kernel, (4, 4))
x = values
y = (matrix @ x.ravel()).reshape(2, 2)
back = (matrix.T @ y.ravel()).reshape(4, 4)

# What Keras computes is the same.
kernel_4d = kernel.astype("float32")[:, :, None, None]
by_keras = keras.ops.conv(batch, kernel_4d)
back_by_keras = keras.ops.conv_transpose(by_keras, kernel_4d, 1)
np.testing.assert_array_equal(plane(by_keras), y)
np.testing.assert_array_equal(plane(back_by_keras), back)
assert not np.array_equal(back, x)  # noqa: S101

figure = plt.figure(figsize=(6, 9), layout="constrained")
grid = figure.add_gridspec(
    4, 2, width_ratios=(1, 1.6), height_ratios=(1.5, 1.5, 1, 1.5)
)
row_colours = [
    [c if n else None for n in r] for r, c in zip(matrix, COLOURS, strict=True)
]
column_colours = [list(column) for column in zip(*row_colours, strict=True)]
draw_grid(
    figure.add_subplot(grid[0, :]),
    matrix,
    row_colours,
    "convolution with the kernel 1..9: the matrix M, 4x16",
)
draw_grid(
    figure.add_subplot(grid[1:, 0]),
    matrix.T,
    column_colours,
    "transposed: $M^T$, 16x4",
)
output_colours = np.reshape(COLOURS, (2, 2))
blank = np.full((4, 4), None)
for place, numbers, colours, title in (
    (grid[1, 1], x, blank, "an image x"),
    (grid[2, 1], y, output_colours, "y = M x"),
    (grid[3, 1], back, blank, "$M^T$ y has the size of x, not its values"),
):
    draw_grid(figure.add_subplot(place), numbers, colours, title)
figure.savefig(options.output / "matrix.png")

# %% [markdown]
# A matrix with 4 rows cannot be inverted: 16 numbers do not come back out of
# 4. What a decoder learns is not to undo the encoder, but to say what was
# there.
