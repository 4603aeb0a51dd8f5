"""Colors of images, and the content and layout of figures."""

import builtins
import io
import itertools
import sys

import keras
import numpy as np
import pytest

from keras_deconv import data, inference, models, visualize
from keras_deconv.data import _catalog

PALETTE = ((0, 0, 0), (128, 0, 64), (10, 20, 30))
NAMES = ("sky", "road", "car")
NAMING = dict(class_names=NAMES, palette=PALETTE)
IMAGES = np.full((1, 2, 3, 3), 100, "uint8")
TRUTHS = np.array([[[0, 0, 1], [0, 0, 255]]])
PREDICTIONS = np.array([[[0, 1, 1], [0, 0, 0]]])


def draw(images=IMAGES, predictions=PREDICTIONS, truths=TRUTHS, **options):
    return visualize.draw_predictions(
        images, predictions, truths, **{**NAMING, **options}
    )


def pictures(figure):
    """Return the arrays in a figure, row by row."""
    return [axis.images[0].get_array() for axis in figure.axes]


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def cut_texts(figure):
    """Return texts that exceed the figure or overlap another text."""
    figure.draw_without_rendering()
    texts = [*figure.legends[0].get_texts()]
    for axis in figure.axes:
        texts.append(axis.title)
        for beside in axis.child_axes:
            low, high = beside.get_ylim()
            texts += [
                text
                for text in beside.get_yticklabels()
                if low
                <= text.get_position()[1]
                <= high  # Others are not drawn.
            ]
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_text()
    ]
    whole = figure.bbox
    for number, (text, box) in enumerate(boxes):
        if not (
            whole.x0 <= box.x0
            and box.x1 <= whole.x1
            and whole.y0 <= box.y0
            and box.y1 <= whole.y1
        ):
            yield text
        if any(box.overlaps(other) for _, other in boxes[:number]):
            yield text


def bad_aspects(figure, image_size):
    """Return the sizes, in inches, of images that are stretched or tiny."""
    figure.draw_without_rendering()
    for axis in figure.axes:
        box = axis.images[0].get_window_extent()
        stretched = box.width / box.height / (image_size[1] / image_size[0])
        longer = max(box.width, box.height) / figure.dpi
        if abs(stretched - 1) > 0.05 or longer < 1.5:
            yield axis.get_title(), box


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_color_mask(dtype):
    mask = np.array([[[0, 1, 255]]], dtype)
    painted = visualize.color_mask(mask, PALETTE)
    assert painted.dtype == "uint8"
    assert painted.tolist() == [[[[0, 0, 0], [128, 0, 64], [255, 255, 255]]]]
    assert visualize.VOID_COLOR == (255, 255, 255)


def test_void_may_be_other_labels_several_or_none():
    painted = visualize.color_mask([[0, 1, -1]], PALETTE, (-1, 1))
    assert painted[0].tolist() == [[0, 0, 0], [255] * 3, [255] * 3]
    with pytest.raises(ValueError, match="other labels: 255"):
        visualize.color_mask([[0, 255]], PALETTE, None)


# Colors as seen without receptors for red, green or blue, in linear RGB, by
# Machado, Oliveira and Fernandes, 2009.
COLOR_BLINDNESS = {
    "none": np.eye(3),
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def differences(palette, kind):
    """Return the CIELAB distances of all color pairs; 2 is just noticeable."""
    colors = np.array(palette) / 255
    linear = np.where(
        colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4
    )
    seen = np.clip(linear @ np.transpose(COLOR_BLINDNESS[kind]), 0, 1)
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    xyz = seen @ np.transpose(to_xyz) / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return np.linalg.norm(lab[:, None] - lab[None], axis=-1)


@pytest.mark.parametrize("kind", COLOR_BLINDNESS)
def test_the_default_palette_is_for_all_readers(kind):
    palette = visualize.default_palette(256)
    assert len(set(palette)) == 256
    assert all(20 < max(color) and min(color) < 230 for color in palette)
    assert min(palette[0]) > 80
    first = differences(palette[:8], kind)[~np.eye(8, dtype=bool)]
    assert first.min() > 15
    # Objects next to each other often have adjacent class ids.
    assert np.diagonal(differences(palette, kind), 1).min() > 4
    # Some VOC colors look the same without receptors for red or green.
    voc = differences(data.color_map(8), kind)[~np.eye(8, dtype=bool)]
    assert (voc.min() > 15) == (kind == "none")


def test_a_class_has_one_color_in_all_palettes():
    assert visualize.default_palette(3) == visualize.default_palette(9)[:3]
    for wrong in (0, 257, 2.5):
        with pytest.raises(ValueError, match="`num_classes` must be"):
            visualize.default_palette(wrong)


def test_every_class_of_the_catalog_differs_from_void():
    for name in _catalog.names():
        palette = data.describe(name).palette
        assert visualize.VOID_COLOR not in palette


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_overlay_of_gray_and_rgb(shape, dtype):
    image = np.full(shape, 100, dtype)
    mixed = visualize.overlay(image, TRUTHS[0], PALETTE, opacity=0.25)
    assert mixed.dtype == "uint8"
    assert mixed.shape == (2, 3, 3)
    assert mixed[0, 0].tolist() == [75, 75, 75]
    assert mixed[0, 2].tolist() == [107, 75, 91]
    assert mixed[1, 2].tolist() == [100, 100, 100]  # Void.


def test_opacity_from_image_to_mask():
    image, mask = IMAGES[0], PREDICTIONS[0]
    painted = visualize.color_mask(mask, PALETTE)
    for opacity, expected in ((0, image), (1, painted)):
        mixed = visualize.overlay(image, mask, PALETTE, opacity=opacity)
        np.testing.assert_array_equal(mixed, expected)


def test_columns_and_legend_hold_what_occurs():
    figure = draw()
    assert titles(figure) == ["image", "truth", "prediction", "wrong: 20.0 %"]
    image, truth, prediction, errors = pictures(figure)
    np.testing.assert_array_equal(image, IMAGES[0])
    painted = visualize.color_mask(TRUTHS[0], PALETTE)
    np.testing.assert_array_equal(truth, painted)
    painted = visualize.color_mask(PREDICTIONS[0], PALETTE)
    np.testing.assert_array_equal(prediction, painted)
    is_red = (errors == visualize.ERROR_COLOR).all(-1)
    assert is_red.tolist() == [[False, True, False], [False] * 3]
    # The car is missing, since it occurs in neither mask.
    assert legend(figure) == ["sky", "road", "void"]


def test_without_names_and_palette():
    for truths, predictions, names in (
        (TRUTHS, PREDICTIONS, ["class_0", "class_1", "void"]),
        (None, PREDICTIONS, ["class_0", "class_1"]),
        (None, np.eye(4)[PREDICTIONS], ["class_0", "class_1"]),
    ):
        figure = visualize.draw_predictions(IMAGES, predictions, truths)
        assert legend(figure) == names
        palette = visualize.default_palette(2)
        expected = visualize.color_mask(PREDICTIONS[0], palette)
        found = pictures(figure)[1 if truths is None else 2]
        np.testing.assert_array_equal(found, expected)
    colors = visualize.color_mask([[0, 3, 255]])
    palette = visualize.default_palette(4)
    assert colors[0].tolist() == [[*palette[0]], [*palette[3]], [255] * 3]
    figure = visualize.draw_predictions(
        IMAGES, PREDICTIONS, class_names=("sky", "road", "car")
    )
    assert legend(figure) == ["sky", "road"]
    with pytest.raises(ValueError, match="other labels: 256"):
        visualize.color_mask([[256]])


def test_without_truths_the_prediction_lies_over_the_image():
    figure = draw(truths=None)
    assert titles(figure) == ["image", "prediction", "overlay"]
    np.testing.assert_array_equal(
        pictures(figure)[-1],
        visualize.overlay(IMAGES[0], PREDICTIONS[0], PALETTE),
    )
    assert legend(figure) == ["sky", "road"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_logits_are_argmaxed(dtype):
    logits = np.eye(3, dtype=dtype)[PREDICTIONS] - 5
    expected = pictures(draw())
    for ours, theirs in zip(
        pictures(draw(IMAGES, logits)), expected, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_masks_with_a_last_axis_of_one():
    figure = draw(predictions=PREDICTIONS[..., None], truths=TRUTHS[..., None])
    assert titles(figure) == titles(draw())


def test_nothing_but_void():
    figure = draw(truths=np.full_like(TRUTHS, 255))
    assert titles(figure)[-1] == "nothing to compare"


def test_shares_and_names_stand_in_their_rows():
    figure = draw(
        np.repeat(IMAGES, 2, 0),
        np.concatenate([PREDICTIONS, TRUTHS]),
        np.concatenate([TRUTHS, TRUTHS]),
        names=("a.png", "folder/" * 9 + "b.png"),
    )
    first, *_, last = titles(figure)
    assert (first, last) == ("a.png", "wrong: 0.0 %")
    long = titles(figure)[4]
    assert long.startswith("...")
    assert long.endswith("b.png")


def test_names_are_no_formulas():
    names = ("$x$", r"$\frac$", "y")
    figure = draw(class_names=names, names=["a$^$b.png"])
    assert list(cut_texts(figure)) == []
    assert list(legend(figure))[:2] == [r"\$x\$", r"\$\frac\$"]
    figure.savefig(io.BytesIO())


def test_a_figure_keeps_nothing_and_chooses_no_backend():
    was_there = "matplotlib.pyplot" in sys.modules
    draw()
    assert ("matplotlib.pyplot" in sys.modules) == was_there


def random_masks(num_classes, num_images, size, rng):
    return rng.integers(0, num_classes, (num_images, *size))


# Not part of CI: the layout rarely changes, and drawing takes seconds.
LAYOUTS = (pytest.mark.slow, pytest.mark.release)
SIZES = [(45, 61), (30, 120), (120, 30), (30, 300)]


@pytest.mark.parametrize(
    ("num_classes", "num_images", "size"),
    [
        pytest.param(
            num_classes,
            num_images,
            size,
            # The layout of large legends takes seconds.
            marks=()
            if (num_classes, num_images, size)
            in [(6, 1, SIZES[0]), (6, 4, SIZES[3])]
            else LAYOUTS,
        )
        for num_images in (1, 4)
        for num_classes in (6, 150)
        for size in SIZES
    ],
)
def test_nothing_is_cut_or_stretched(num_classes, num_images, size, rng):
    truths = random_masks(num_classes, num_images, size, rng)
    truths[:, 0, 0] = 255
    figure = draw(
        np.zeros((*truths.shape, 3)),
        random_masks(num_classes, num_images, size, rng),
        truths,
        class_names=[f"chest of drawers {i}" for i in range(num_classes)],
        palette=data.color_map(num_classes),
        names=[f"{i:040}.png" for i in range(num_images)],
    )
    assert len(legend(figure)) == num_classes + 1
    assert list(cut_texts(figure)) == []
    assert list(bad_aspects(figure, size)) == []


def test_the_checks_of_the_layout_can_fail():
    figure = draw(np.zeros((1, 2, 3, 3)))
    assert not list(cut_texts(figure))
    assert not list(bad_aspects(figure, (2, 3)))
    assert list(bad_aspects(figure, (3, 2)))
    figure.axes[1].set_title("truth" * 40)
    assert len(list(cut_texts(figure))) > 1
    figure.axes[0].set_aspect("auto")
    figure.set_size_inches(5, 5)
    assert list(bad_aspects(figure, (2, 3)))


def prediction_of(ids, scale=1.0):
    values = np.linspace(0, scale, ids.size, dtype="float32").reshape(ids.shape)
    return inference.MonteCarloPrediction(
        None, ids, None, values / 4, values * 2, values / 9
    )


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        pytest.param(size, scale, marks=LAYOUTS if i % 4 else ())
        for i, (size, scale) in enumerate(
            itertools.product(SIZES, [1.0, 1e-6, 0.0])
        )
    ],
)
def test_uncertainty(size, scale, rng):
    ids = random_masks(3, 2, size, rng)
    figure = visualize.draw_uncertainty(
        np.zeros((*ids.shape, 1)), prediction_of(ids, scale), **NAMING
    )
    assert titles(figure)[:5] == [
        "image",
        "classes",
        "mean variance",
        "predictive entropy (nats)",
        "mutual information (nats)",
    ]
    maps = [axis.images[0] for axis in figure.axes[2:5]]
    assert {drawn.get_cmap().name for drawn in maps} == {"viridis"}
    # All rows have the same scale.
    for first, second in zip(figure.axes[2:5], figure.axes[7:], strict=True):
        assert first.images[0].get_clim() == second.images[0].get_clim()
    assert [len(a.child_axes) for a in figure.axes] == [0, 0, 1, 1, 1] * 2
    assert maps[1].get_clim()[1] == pytest.approx(scale * 2 or 1)
    assert list(cut_texts(figure)) == []
    assert list(bad_aspects(figure, size)) == []


def test_without_matplotlib(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r'install "keras-deconv\[examples\]'):
        draw()
    assert visualize.color_mask([[0]], PALETTE).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("number", "channels", "shown"),
    [
        (5, None, (0, 1, 2)),
        (5, (3, 2, 1), (3, 2, 1)),
        (4, None, (0, 1, 2)),
        (2, None, (0, 0, 0)),
        (6, (5,), (5, 5, 5)),
        (3, [2, 1, 0], (2, 1, 0)),
        (1, None, (0, 0, 0)),
    ],
)
def test_channels_that_are_drawn(number, channels, shown):
    images = np.arange(6 * number).reshape(1, 2, 3, number)
    drawn = pictures(draw(images, channels=channels))[0]
    np.testing.assert_array_equal(drawn, images[0][..., list(shown)])
    # Reflectances; those of clouds are outside the range.
    scaled = images / 50 - 0.1
    drawn = pictures(draw(scaled, channels=channels, value_range=(-0.1, 0.3)))[
        0
    ]
    expected = np.rint(np.clip(images[0] * (255 / 20), 0, 255))
    np.testing.assert_allclose(drawn, expected[..., list(shown)], atol=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(images=IMAGES[0]), "`images` must have the size of the masks"),
        (dict(channels=(0, 1)), r"`channels` must be three.*0 to 2\. Rec"),
        (dict(channels=(0, 1, 3)), r"`channels` must be three"),
        (dict(channels=5), r"`channels` must be three"),
        (dict(value_range=(1, 0)), r"`value_range` must be a tuple"),
        (
            dict(images=IMAGES * np.nan, value_range=(0, 1)),
            "must hold finite numbers",
        ),
        (dict(images=IMAGES[:, :1]), "`images` must have the size"),
        (dict(images=IMAGES / 255), "Multiply by 255"),
        (dict(images=IMAGES - 200.0), "from -100.0 to -100.0"),
        (dict(images=IMAGES * np.nan), "numbers in 0..255"),
        (dict(predictions=PREDICTIONS[0]), r"prediction\[None\]"),
        (dict(predictions=PREDICTIONS / 1), "logits or probabilities"),
        (dict(predictions=np.zeros((1, 2, 3, 2))), "width, 3\\)"),
        (dict(predictions=PREDICTIONS + 3), "other labels: 3, 4"),
        (dict(truths=TRUTHS[:, :1]), "`truths` must have the size"),
        (dict(truths=TRUTHS / 1), "`truths` must hold integers"),
        (dict(truths=TRUTHS + 1), "`truths` .* other labels: 256"),
        (dict(class_names=NAMES[:2]), "`class_names` must be 3 distinct names"),
        (dict(palette=(*PALETTE[:2], (1, 2))), "`palette` must hold"),
        (dict(palette=((0, 0, 300),) * 3), "`palette` must hold"),
        (dict(palette=np.ones((3, 3)) / 2), "`palette` must hold"),
        (dict(names=("a", "b")), "`names` must hold one name"),
        (dict(ignore_class="void"), "`ignore_class` must be"),
    ],
)
def test_mistakes(arguments, words):
    with pytest.raises(ValueError, match=words):
        draw(**arguments)


def test_more_mistakes():
    with pytest.raises(ValueError, match="`opacity` must be a float"):
        visualize.overlay(IMAGES[0], TRUTHS[0], PALETTE, opacity=1.5)
    with pytest.raises(ValueError, match="`opacity` must be a float"):
        visualize.overlay(IMAGES[0], TRUTHS[0], PALETTE, opacity="x")
    with pytest.raises(ValueError, match=r"`image` must have the size"):
        visualize.overlay(IMAGES[0, :1], TRUTHS[0], PALETTE)
    with pytest.raises(ValueError, match=r"1, 2, 3, .*10, \.{4} Add"):
        visualize.color_mask(np.arange(20).reshape(4, 5), PALETTE[:1])


def test_stages_are_drawn_with_what_undoes_them():
    image = keras.Input((45, 61, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", name="first")(image)
    x = keras.layers.MaxPooling2D(padding="same", name="pool")(x)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="strided")(x)
    model = models.EncoderDecoder(keras.Model(image, x), 4)
    figure = visualize.draw_stages(model)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in shown if text] == [
        *("45x61x6", "45x61x6", "pool (max pooling 2x2/2)"),
        "max unpooling (decoder1_unpool)",
        *("23x31x6", "23x31x6", "strided (convolution 3x3/2)"),
        "transposed convolution (decoder2_unpool)",
        "12x16x8",
    ]
    figure.draw_without_rendering()
    whole = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= whole.x0
        assert box.x1 <= whole.x1


def test_model_without_stages_is_not_drawn():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="decoder1_unpool and so on"):
        visualize.draw_stages(model)
