"""Draw the figures of docs/layers.md and docs/story.md.

    python examples/unpooling_pictures.py

The figures are written to the folder unpooling_pictures/:

- grids.png: a 4x4 example of pooling and three ways to undo it
- index_formats.png: the index formats
- odd_sizes.png: unpooling to an odd size
- feature_map.png: pooling and unpooling of a feature map. The script trains a
  network for half a minute to get it.
- matrix.png: a convolution as a matrix, and its transpose
"""

# %%
import argparse
import functools
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from keras_deconv import data, losses, models, ops

# Okabe and Ito's colors, which color-blind readers tell apart.
COLORS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442")
GRAY = "#767676"
# In points. Figures are six inches wide, so that phones show readable text.
TEXT_SIZE = 12
SEED = 0

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data-dir", help="folder of prepared datasets")
parser.add_argument("--output", default="unpooling_pictures", type=Path)
parser.add_argument("--smoke", action="store_true", help="train very little")
options = parser.parse_args()
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
# ## A 4x4 example
#
# Max pooling keeps the largest value of each 2x2 window. The index is the
# position of this value in its window. Positions 0 and 1 are in the upper row,
# 2 and 3 in the lower row.

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
    "nearest": "Each value fills\nits window.\nLost: where it was.",
    "bed of nails": "Each value goes\nto the corner.\nLost: where it was.",
    "max unpooling": "Each value goes\nback to its place.\nLost: the others.",
}


def plane(tensor):
    """Return the only channel of the only image."""
    return keras.ops.convert_to_numpy(tensor)[0, :, :, 0].astype(int)


def compare(restored, before):
    """Count the cells with the old value, a wrong value, and no value."""
    is_right = restored == before
    is_empty = (restored == 0) & ~is_right
    return is_right.sum(), (~is_right & ~is_empty).sum(), is_empty.sum()


def draw_grid(axis, numbers, colors, title, note="", gray=None):
    """Draw numbers in their cells. A cell without a color stays white.

    Numbers are gray where `gray` is true. By default, zeros in white cells are.
    """
    rows, columns = numbers.shape
    axis.imshow([[to_rgb(c or "white") for c in line] for line in colors])
    for (row, column), number in np.ndenumerate(numbers):
        is_gray = number == 0 and colors[row][column] is None
        if gray is not None:
            is_gray = gray[row, column]
        ink = GRAY if is_gray else "black"
        axis.text(column, row, number, ha="center", va="center", color=ink)
    axis.set_xticks(np.arange(columns + 1) - 0.5, [])
    axis.set_yticks(np.arange(rows + 1) - 0.5, [])
    axis.grid(color=GRAY, linewidth=1)
    axis.tick_params(length=0)
    axis.set_title(title)
    axis.set_xlabel(note, linespacing=1.3)


def draw_windows(axis, num_windows):
    """Draw a frame around each window of 2x2 cells."""
    for row, column in np.ndindex(*num_windows):
        corner = (2 * column - 0.5, 2 * row - 0.5)
        axis.add_patch(Rectangle(corner, 2, 2, fill=False, linewidth=2))
    axis.autoscale_view()


def colors_of(numbers):
    """Return the colors of cells: each maximum has its own color."""
    of_maximum = dict(zip(plane(pooled).ravel(), COLORS, strict=True))
    return [[of_maximum.get(n) for n in line] for line in numbers]


figure, axes = plt.subplots(2, 3, figsize=(6, 5.9), layout="constrained")
window_colors = np.reshape(COLORS, (2, 2))
draw_grid(axes[0, 0], values, colors_of(values), "before pooling")
draw_grid(axes[0, 1], plane(pooled), window_colors, "max pooling")
draw_grid(axes[0, 2], plane(argmax), window_colors, "its index")
for axis, (name, tensor) in zip(axes[1], restored.items(), strict=True):
    numbers = plane(tensor)
    num_right, num_wrong, num_empty = compare(numbers, values)
    counts = f"{num_right} right, {num_wrong} wrong,\n{num_empty} empty"
    note = f"{LOST[name]}\n{counts}"
    draw_grid(axis, numbers, colors_of(numbers), name, note)
figure.savefig(options.output / "grids.png")

# %% [markdown]
# None of the three is an inverse of pooling. Nearest and bed of nails unpooling
# do not use the index. Max unpooling puts every maximum back at its position
# and leaves the other three cells of the window empty. The next convolution
# fills them.
#
# ## Index formats
#
# There are four formats for the position of a maximum. All of them count from
# 0. `ops.convert_argmax` converts between them. Each cell shows its number in
# the format. The maxima are colored, and their numbers are the index.

# %%
FORMATS = {
    "window": "inside the window,\nrow by row.\nThe default: 1 byte",
    "flat": "rows, columns and\nchannels of an image.\nTensorFlow",
    "plane": "rows and columns\nof a channel.\nPyTorch",
    "onnx": "images, channels,\nrows and columns.\nONNX",
}
NUM_IMAGES, SIZE, NUM_CHANNELS = 2, (4, 4), 2
# Every number occurs once, so there are no ties.
mixed = np.random.default_rng(SEED).permutation(
    np.arange(NUM_IMAGES * NUM_CHANNELS * 16) + 1
)
tensor = mixed.reshape(NUM_IMAGES, *SIZE, NUM_CHANNELS).astype("float32")
pooled, argmax = ops.max_pool_with_argmax(tensor)
is_maximum = (
    keras.ops.convert_to_numpy(ops.max_unpool(pooled, argmax)) == tensor
)


def numbers_of_cells(index_format):
    """Return the number that each cell would have as the maximum."""
    numbers = 0
    for place in range(4):
        here = np.full(pooled.shape, place, "uint8")
        index = here
        if index_format != "window":
            index = ops.convert_argmax(
                here, "window", index_format, input_size=SIZE
            )
        numbers = numbers + keras.ops.convert_to_numpy(
            ops.max_unpool(keras.ops.cast(index, "int32"), here)
        )
    return numbers


def colors_of_channel(image, channel):
    """Return the colors of cells: the maximum of each window has one."""
    colors = np.full(SIZE, None)
    for (row, column), _ in np.ndenumerate(colors):
        if is_maximum[image, row, column, channel]:
            colors[row, column] = COLORS[row // 2 * 2 + column // 2]
    return colors


figure, axes = plt.subplots(
    5, 3, figsize=(6, 9.6), layout="constrained", width_ratios=(1.15, 1, 1)
)
drawn = {"values": tensor.astype(int)}
drawn |= {name: numbers_of_cells(name) for name in FORMATS}
for line, (name, numbers) in zip(axes, drawn.items(), strict=True):
    text = "of image 0,\nin windows of 2x2"
    if name != "values":
        [step] = np.unique(numbers[1] - numbers[0])
        more = f"{step} more" if step else "the same"
        text = f"{FORMATS[name]}\n\nimage 1: {more}"
        # The index that pooling returns in this format.
        index = (
            ops.convert_argmax(argmax, "window", name, input_size=SIZE)
            if name == "onnx"
            else ops.max_pool_with_argmax(tensor, index_format=name)[1]
        )
        np.testing.assert_array_equal(
            np.sort(numbers[is_maximum]),
            np.sort(keras.ops.convert_to_numpy(index), axis=None),
        )
    line[0].set_axis_off()
    line[0].text(0, 0.97, name, va="top", weight="bold")
    line[0].text(0, 0.78, text, va="top", linespacing=1.3)
    for channel, axis in enumerate(line[1:]):
        draw_grid(
            axis,
            numbers[0, :, :, channel],
            colors_of_channel(0, channel),
            f"channel {channel}" if name == "values" else "",
            gray=~is_maximum[0, :, :, channel],
        )
        draw_windows(axis, (2, 2))
figure.savefig(options.output / "index_formats.png")

# %% [markdown]
# Only the window index does not depend on the size of the image, its channels
# or the batch. Therefore, it fits into one byte and cannot point outside of the
# window.
#
# ## Odd sizes
#
# Sizes of 5x7 and 6x8 both pool to 3x4. Pass the tensor that was pooled as
# `like` to restore the right one. With "same" padding, the last windows are cut
# off at the border. With "valid" padding, the remaining cells do not belong to
# any window.

# %%
odd = np.random.default_rng(5).integers(1, 10, (5, 7))
odd_batch = odd.astype("float32")[None, :, :, None]

figure, axes = plt.subplots(3, 2, figsize=(6, 7.2), layout="constrained")
for column, padding in zip(axes.T, ("same", "valid"), strict=True):
    pooled, argmax = ops.max_pool_with_argmax(odd_batch, padding=padding)
    num_windows = pooled.shape[1:3]
    unpool = functools.partial(ops.max_unpool, pooled, argmax, padding=padding)
    unpooled = unpool(like=odd_batch)
    colors = np.full((6, 8), None)
    for row, place in np.argwhere(plane(unpooled)):
        # Neighboring windows have different colors.
        colors[row, place] = COLORS[row // 2 % 2 * 2 + place // 2 % 2]
    for axis, tensor, title in (
        (column[0], odd_batch, f'x, pooled "{padding}"'),
        (column[1], unpooled, "unpooled, like=x"),
        (column[2], unpool(), "unpooled, without like"),
    ):
        numbers = plane(tensor)
        height, width = numbers.shape
        draw_grid(
            axis,
            numbers,
            colors[:height, :width],
            f"{title}\n{height}x{width}",
        )
        draw_windows(axis, num_windows)
        axis.set_axis_off()
        # The same scale everywhere.
        axis.set_xlim(-0.6, 7.6)
        axis.set_ylim(5.6, -0.6)
figure.savefig(options.output / "odd_sizes.png")

# %% [markdown]
# ## A feature map of a trained network
#
# The same for a feature map of a street scene: the output of the first
# convolution of SegNet-Basic after a short training.

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
# The channel with the most contrast. It is cropped, so that cells are visible.
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
axes[0].set_title("part of a scene")
for axis, (name, tensor) in zip(axes[1:], maps.items(), strict=True):
    cells = keras.ops.convert_to_numpy(tensor)[0, :, :, 0]
    title = name
    if name in restored:
        num_right, num_wrong, _ = compare(cells, feature_map[0, :, :, 0])
        right, wrong = (100 * n / cells.size for n in (num_right, num_wrong))
        title = f"{name}\n{right:.0f} % right, {wrong:.0f} % wrong"
    drawn = axis.imshow(cells, cmap="cividis", vmin=0, vmax=feature_map.max())
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
# Transposed convolution also makes feature maps larger. A convolution with a
# 3x3 kernel maps a 4x4 image to 2x2 outputs. If images are written as vectors,
# the convolution is a matrix with 4 rows, one per output, and 16 columns.
# Transposed convolution multiplies by the transpose of that matrix. It restores
# the size but not the values, so it is not an inverse.

# %%
kernel = np.arange(1, 10).reshape(3, 3)
matrix = ops.conv2d_matrix(kernel, (4, 4))
x = values
y = (matrix @ x.ravel()).reshape(2, 2)
back = (matrix.T @ y.ravel()).reshape(4, 4)

# Keras computes the same.
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
row_colors = [
    [c if n else None for n in r] for r, c in zip(matrix, COLORS, strict=True)
]
column_colors = [list(column) for column in zip(*row_colors, strict=True)]
draw_grid(
    figure.add_subplot(grid[0, :]),
    matrix,
    row_colors,
    "convolution with the kernel 1..9: the matrix M, 4x16",
)
draw_grid(
    figure.add_subplot(grid[1:, 0]),
    matrix.T,
    column_colors,
    "transposed: $M^T$, 16x4",
)
output_colors = np.reshape(COLORS, (2, 2))
blank = np.full((4, 4), None)
for place, numbers, colors, title in (
    (grid[1, 1], x, blank, "an image x"),
    (grid[2, 1], y, output_colors, "y = M x"),
    (grid[3, 1], back, blank, "$M^T$ y has the size of x, not its values"),
):
    draw_grid(figure.add_subplot(place), numbers, colors, title)
figure.savefig(options.output / "matrix.png")

# %% [markdown]
# A matrix with 4 rows and 16 columns does not have an inverse, because 4
# numbers cannot determine 16. A decoder does not learn to invert the encoder.
# It learns to predict the classes.
