"""Pictures of masks, predictions and their uncertainty.

Arrays become colors with numpy alone. Figures need matplotlib, which is
imported when one is drawn; no backend is chosen and nothing is kept, so that
servers and notebooks may draw as they like: `figure.savefig(path)`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_deconv import _arguments, _labels, _palettes
from keras_deconv._labels import IgnoreClass

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "VOID_COLOR",
    "color_mask",
    "default_palette",
    "draw_predictions",
    "draw_stages",
    "draw_uncertainty",
    "overlay",
]

Palette = Sequence[Sequence[int]] | np.ndarray
Legend = list[tuple[str, str]]

VOID_COLOR = (255, 255, 255)
"""White, which neither the default palette nor one of the catalog has."""

ERROR_COLOR = (230, 0, 60)
# Encoder and decoder in a figure of stages: Okabe and Ito's blue and orange.
STAGE_COLORS = ("#0072B2", "#E69F00")
# Inches of a row and of its columns: both boxes, and the text between them.
STAGE_HEIGHT = 0.75
STAGE_WIDTHS = (2.0, 3.6, 2.0)
# Weights of red, green and blue in the brightness of a color (Rec. 601).
BRIGHTNESS = (0.299, 0.587, 0.114)
# The largest number of colors that differ, and of labels in 8 bits.
MAX_COLORS = 256

# Sizes in figures: inches, and points for the text.
CELL_AREA = 4.6
CELL_SIDES = (1.7, 4.6)
TITLE_HEIGHT = 0.32
COLOR_BAR_WIDTH = 0.8
TEXT_SIZE = 9.0
POINTS_PER_INCH = 72


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Return colors for classes that do not have any.

    The first eight are those of Okabe and Ito, which differ for color-blind
    readers too, with a gray in place of black; all others are darker and
    lighter shades of them. A class has the same color whatever the number of
    classes. None is black or white, which is the color of void.

    Reference: Okabe and Ito, 2008, "Color Universal Design",
    https://jfly.uni-koeln.de/color.

    Args:
        num_classes: int in 1..256.

    Returns:
        Tuple of `num_classes` distinct (red, green, blue) in 0..255.

    Raises:
        ValueError: If `num_classes` is not an int in 1..256.

    Example:
        >>> from keras_deconv.visualize import default_palette
        >>> default_palette(3)
        ((90, 90, 90), (230, 159, 0), (86, 180, 233))
    """
    if _arguments.positive_int(num_classes, "num_classes") > MAX_COLORS:
        raise ValueError(
            f"`num_classes` must be at most {MAX_COLORS}, for colors to be "
            f"distinct. Received: num_classes={num_classes!r}"
        )
    return _palettes.default_palette(num_classes)


def color_mask(
    mask: Any,
    palette: Palette | None = None,
    ignore_class: IgnoreClass = 255,
) -> np.ndarray:
    """Paint each class of a mask in its color, and void in white.

    Args:
        mask: Array of any integer dtype `(..., height, width)`: class ids, or
            void.
        palette: One (red, green, blue) in 0..255 for each class; for a set of
            the catalog `data.describe(name).palette`. Defaults to
            `default_palette`.
        ignore_class: int, tuple of ints or None. Labels that are void.

    Returns:
        uint8 array `(..., height, width, 3)`.

    Raises:
        ValueError: Labels that are neither class nor void, no integers, or not
            a palette.

    Edge cases:
        A label that is both void and a class is void, as in the metrics.

    Example:
        >>> from keras_deconv.visualize import color_mask
        >>> color_mask([[0, 1, 255]], [(0, 0, 0), (128, 0, 64)]).tolist()
        [[[0, 0, 0], [128, 0, 64], [255, 255, 255]]]
    """
    colors = _colors(palette, _num_labels(mask, "mask", ignore_class))
    ids = _class_ids(mask, "mask", len(colors), ignore_class)
    return _paint(ids, colors)


def overlay(
    image: Any,
    mask: Any,
    palette: Palette | None = None,
    *,
    opacity: float = 0.5,
    ignore_class: IgnoreClass = 255,
) -> np.ndarray:
    """Lay the colors of a mask over its image.

    Args:
        image: uint8 or float array in 0..255, RGB `(..., height, width, 3)` or
            gray, `(..., height, width, 1)` or `(..., height, width)`.
        mask: Array of any integer dtype `(..., height, width)`: class ids, or
            void.
        palette: One (red, green, blue) in 0..255 for each class. Defaults to
            `default_palette`.
        opacity: float in 0..1. Share of the color: 0 is the image, 1 the mask.
        ignore_class: int, tuple of ints or None. Labels that are void; there
            the image stays as it is.

    Returns:
        uint8 array `(..., height, width, 3)`.

    Raises:
        ValueError: As `color_mask`; image and mask of different sizes, an
            image of another range, an opacity outside 0..1.

    Example:
        >>> import numpy as np
        >>> from keras_deconv.visualize import overlay
        >>> image = np.full((1, 2, 3), 100, "uint8")
        >>> overlay(image, [[0, 255]], [(200, 0, 50)]).tolist()
        [[[150, 50, 75], [100, 100, 100]]]
    """
    if not isinstance(opacity, numbers.Real) or not 0 <= float(opacity) <= 1:
        raise ValueError(
            "`opacity` must be a float in 0..1 (0 is the image, 1 the mask). "
            f"Received: opacity={opacity!r}"
        )
    colors = _colors(palette, _num_labels(mask, "mask", ignore_class))
    ids = _class_ids(mask, "mask", len(colors), ignore_class)
    rgb = _rgb(image, "image", ids.shape)
    mixed = (1 - opacity) * rgb + opacity * _paint(ids, colors)
    is_void = (ids == _labels.LEFT_OUT)[..., None]
    return np.where(is_void, rgb, np.rint(mixed)).astype("uint8")


def draw_predictions(
    images: Any,
    predictions: Any,
    truths: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: Palette | None = None,
    ignore_class: IgnoreClass = 255,
    names: Sequence[str] | None = None,
    channels: Sequence[int] | None = None,
    value_range: _arguments.ValueRange | None = None,
) -> Figure:
    """Draw image, truth, prediction and errors side by side, row by row.

    The map of errors is the image in gray, wrong pixels in red and void
    hatched; its title says which share of the pixels that are not void is
    wrong. The legend holds the classes that occur, and void if it does.

    Args:
        images: Array of numbers, in 0..255 without `value_range`: `(batch,
            height, width, channels)` with any number of channels, or gray,
            `(batch, height, width)`.
        predictions: Class ids of any integer dtype `(batch, height, width)`,
            or logits or probabilities, float `(batch, height, width,
            num_classes)`, of which the largest wins.
        truths: Class ids or void, of any integer dtype, `(batch, height,
            width)` or `(batch, height, width, 1)`. None: image, prediction and
            the prediction laid over the image are drawn.
        class_names: One str per class; for a set of the catalog
            `data.describe(name).class_names`. Defaults to class_0, class_1 and
            so on.
        palette: One (red, green, blue) in 0..255 for each class. Defaults to
            `default_palette`.
        ignore_class: int, tuple of ints or None. Labels that are void.
        names: One str per image, such as its file, to stand above it.
        channels: Sequence of three ints >= 0, the channels that are drawn as
            red, green and blue, such as (3, 2, 1); or of one, drawn as gray.
            Defaults to the first three; of two channels to the first one.
        value_range: Tuple (low, high) of the values that are drawn as 0 and
            255. Values beyond are clipped. Defaults to none, for images in
            0..255.

    Returns:
        `matplotlib.figure.Figure`; `figure.savefig(path)` writes it. In a
        notebook it shows as the last expression of a cell.

    Raises:
        ValueError: Arrays that do not belong together, labels that are neither
            class nor void, an image of another range, or `channels` that are
            not those of the images.
        ImportError: matplotlib is not installed.

    Edge cases:
        Where a class is predicted that the truth calls void, nothing is
        wrong. Without any pixel that counts the title says so.

    Example:
        >>> import numpy as np
        >>> from keras_deconv import visualize
        >>> images = np.zeros((1, 2, 3, 3), "uint8")
        >>> figure = visualize.draw_predictions(
        ...     images,
        ...     predictions=[[[0, 1, 1], [0, 0, 0]]],
        ...     truths=[[[0, 0, 1], [0, 0, 255]]],
        ...     class_names=("sky", "road"),
        ... )
        >>> [axis.get_title() for axis in figure.axes]
        ['image', 'truth', 'prediction', 'wrong: 20.0 %']
    """
    colors, class_names = _described(
        _num_classes(predictions, truths, class_names, ignore_class),
        class_names,
        palette,
    )
    predicted = _predicted_ids(predictions, len(colors), ignore_class)
    visible = _visible(images, channels, value_range)
    rgb = _rgb(visible, "images", predicted.shape)
    names = _names(names, len(rgb))
    painted = _paint(predicted, colors)
    occurring = predicted
    if truths is None:
        mixed = overlay(rgb, predicted, colors, ignore_class=_labels.LEFT_OUT)
        columns = {"image": rgb, "prediction": painted, "overlay": mixed}
    else:
        true = _class_ids(
            _without_last_axis(truths), "truths", len(colors), ignore_class
        )
        _check_sizes(true.shape, predicted.shape, "truths", "predictions")
        counted = true != _labels.LEFT_OUT
        wrong = counted & (true != predicted)
        columns = {
            "image": rgb,
            "truth": _paint(true, colors),
            "prediction": painted,
            "wrong": _error_map(rgb, wrong, ~counted),
        }
        occurring = np.stack([true, predicted])
    figure, axes = _grid(
        len(rgb),
        len(columns),
        rgb.shape[1:3],
        _legend_entries(occurring, class_names, colors),
    )
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0][column].set_title(title, fontsize=TEXT_SIZE)
        for row, picture in enumerate(pictures):
            axes[row][column].imshow(picture, interpolation="nearest")
    if truths is not None:
        for row in range(len(rgb)):
            title = _share_title(wrong[row].sum(), counted[row].sum())
            axes[row][-1].set_title(title, fontsize=TEXT_SIZE)
    _write_names(figure, axes, names)
    return figure


def draw_stages(
    model: keras.Model, image_size: Sequence[int] | None = None
) -> Figure:
    """Draw the stages of an encoder, and how the decoder undoes each of them.

    A row for each reduction of height and width, from the size of the image
    down: on the left what the encoder reduces, on the right what the decoder
    stage ends with, and between them the layer that reduces and what undoes
    it.

    Args:
        model: Network with decoder stages that mirror its encoder, as
            `models.EncoderDecoder`, `models.SegNet` and `models.SegNetBasic`
            build it.
        image_size: Two ints, height and width of the image. None takes those
            of the model, and 256 where they are not known.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `model` does not have such stages, or if `image_size` is
            not two ints >= 1.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from keras_deconv import models, visualize
        >>> model = models.SegNetBasic((48, 64, 3), 4, filters=(8, 16))
        >>> figure = visualize.draw_stages(model)
        >>> shown = [text.get_text() for text in figure.axes[0].texts]
        >>> "block1_pool (max pooling 2x2/2)" in shown
        True
    """
    # Keras is imported where there is a model only.
    from keras_deconv.models import _pairs

    if image_size is not None:
        image_size = _arguments.ints(image_size, 2, "image_size", minimum=1)
    rows = _pairs.pairs(model, image_size)
    # The bottleneck is a row of its own.
    left, between, right = STAGE_WIDTHS
    figure = _figure_class()(
        figsize=(left + between + right, (len(rows) + 1) * STAGE_HEIGHT),
        dpi=120,
        layout="constrained",
    )
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_xlim(0, left + between + right)
    axis.set_ylim(len(rows) + 0.5, -0.5)
    places = (left / 2, left + between + right / 2)
    for height, row in enumerate(rows):
        for x, shape, color in zip(
            places, (row.before, row.restored), STAGE_COLORS, strict=True
        ):
            _draw_box(axis, x, height, shape, color)
        start, end = left * 0.97, left + between + right * 0.03
        arrow = dict(arrowstyle="->", color="gray")
        axis.annotate("", (end, height), (start, height), arrowprops=arrow)
        for text, offset, baseline in (
            (row.reduction, -0.06, "bottom"),
            (f"{row.unpooling} (decoder{row.number}_unpool)", 0.06, "top"),
        ):
            axis.text(
                (start + end) / 2,
                height + offset,
                _without_formulas(text),
                ha="center",
                va=baseline,
                fontsize=TEXT_SIZE - 2,
            )
    middle = (left + between + right) / 2
    _draw_box(axis, middle, len(rows), rows[-1].after, "#999999")
    return figure


def _draw_box(
    axis: Axes, x: float, y: float, shape: Sequence[int], color: str
) -> None:
    """The size and channels of a feature map on its color."""
    axis.text(
        x,
        y,
        "x".join(map(str, shape)),
        ha="center",
        va="center",
        fontsize=TEXT_SIZE,
        bbox=dict(facecolor=color, alpha=0.35, boxstyle="round,pad=0.5"),
    )


def draw_uncertainty(
    images: Any,
    prediction: Any,
    *,
    class_names: Sequence[str] | None = None,
    palette: Palette | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw what a model predicts and how sure it is, row by row.

    Image, classes, mean variance, predictive entropy (nats) and mutual
    information (nats). The scale of a map starts at 0 and is the same in all
    rows; bright is unsure.

    Args:
        images: uint8 or float array in 0..255, `(batch, height, width, 3)`, or
            gray, `(batch, height, width, 1)` or `(batch, height, width)`: what
            the model was given.
        prediction: `inference.MonteCarloPrediction` of these images.
        class_names: One str per class. Defaults to class_0, class_1 and so on.
        palette: One (red, green, blue) in 0..255 for each class. Defaults to
            `default_palette`.
        names: One str per image, such as its file, to stand above it.

    Returns:
        `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ValueError: Images and prediction do not belong together.
        ImportError: matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from keras_deconv import inference, models, visualize
        >>> model = models.BayesianSegNetBasic((8, 8, 3), 2)
        >>> images = np.zeros((1, 8, 8, 3), "float32")
        >>> figure = visualize.draw_uncertainty(
        ...     images,
        ...     inference.predict_monte_carlo(model, images, 2, verbose=0),
        ...     class_names=("sky", "road"),
        ...     palette=((128, 128, 128), (128, 64, 128)),
        ... )
        >>> figure.axes[3].get_title()
        'predictive entropy (nats)'
    """
    if not hasattr(prediction, "mutual_information"):
        raise ValueError(
            "`prediction` must be what inference.predict_monte_carlo returns. "
            f"Received: a value of type {type(prediction).__name__}"
        )
    colors, class_names = _described(
        _num_classes(prediction.class_ids, None, class_names, None),
        class_names,
        palette,
    )
    ids = _class_ids(
        prediction.class_ids, "prediction.class_ids", len(colors), None
    )
    rgb = _rgb(images, "images", ids.shape)
    names = _names(names, len(rgb))
    maps = {
        "mean variance": prediction.mean_variance,
        "predictive entropy (nats)": prediction.predictive_entropy,
        "mutual information (nats)": prediction.mutual_information,
    }
    pictures = {"image": rgb, "classes": _paint(ids, colors)}
    figure, axes = _grid(
        len(rgb),
        len(pictures) + len(maps),
        rgb.shape[1:3],
        _legend_entries(ids, class_names, colors),
        extra_width=COLOR_BAR_WIDTH,
    )
    columns = {**pictures, **maps}
    for column, (title, values) in enumerate(columns.items()):
        values = np.asarray(values)
        # A map that is 0 everywhere has a scale all the same.
        largest = float(values.max()) or 1.0
        axes[0][column].set_title(title, fontsize=TEXT_SIZE)
        for row, picture in enumerate(values):
            # What is RGB takes no notice of scale and color map.
            drawn = axes[row][column].imshow(
                picture,
                cmap="viridis",
                vmin=0,
                vmax=largest,
                interpolation="nearest",
            )
            if title in maps:
                _draw_color_bar(drawn)
    _write_names(figure, axes, names)
    return figure


def _colors(palette: Palette | None, num_classes: int) -> np.ndarray:
    if palette is None:
        palette = _palettes.default_palette(num_classes)
    return _arguments.palette(palette)


def _described(
    num_classes: int,
    class_names: Sequence[str] | None,
    palette: Palette | None,
) -> tuple[np.ndarray, Sequence[str]]:
    """A color and a name for each class, whatever of them is given.

    Raises:
        ValueError: If there is not one name per color.
    """
    colors = _colors(palette, num_classes)
    if class_names is None:
        return colors, [f"class_{number}" for number in range(len(colors))]
    return colors, _arguments.class_names(class_names, len(colors))


def _num_classes(
    predictions: Any,
    truths: Any,
    class_names: Sequence[str] | None,
    ignore_class: IgnoreClass,
) -> int:
    """How many classes there are, as far as anything says."""
    if class_names is not None:
        return len(_arguments.class_names(class_names))
    scores = _arguments.array(predictions, "predictions")
    if scores.dtype.kind not in "iu" and scores.ndim:
        return max(1, min(scores.shape[-1], MAX_COLORS))
    return max(
        _num_labels(mask, name, ignore_class)
        for name, mask in (("predictions", predictions), ("truths", truths))
        if mask is not None
    )


def _num_labels(mask: Any, name: str, ignore_class: IgnoreClass) -> int:
    """The largest label that is not void, and 1; errors come later."""
    mask = _arguments.array(mask, name)
    if mask.dtype.kind not in "iu":
        return 1
    void = _arguments.ignore_class(ignore_class)
    is_void = np.isin(mask, [] if void is None else void)
    # 255 classes where 255 is void.
    limit = MAX_COLORS - int(void == _arguments.VOID)
    return int(np.clip(mask[~is_void].max(initial=0) + 1, 1, limit))


def _share_title(num_wrong: int, num_counted: int) -> str:
    if not num_counted:
        return "nothing to compare"
    return f"wrong: {100 * num_wrong / num_counted:.1f} %"


def _draw_color_bar(drawn: AxesImage) -> None:
    """A scale beside a picture, as high as it is."""
    height, width = drawn.get_size()
    # Widths are shares of that of the picture, which may be a narrow one.
    unit = 0.02 * max(2, height / width)
    beside = drawn.axes.inset_axes((1 + unit, 0, 1.5 * unit, 1))
    # Numbers in full: a factor above the bar would push the title up.
    drawn.axes.figure.colorbar(drawn, cax=beside, format="%.3g")
    beside.tick_params(labelsize=TEXT_SIZE - 2)
    beside.locator_params(nbins=4)


def _names(names: Sequence[str] | None, num_images: int) -> list[str]:
    if names is None:
        return []
    names = _arguments.sequence(names, "names")
    if len(names) != num_images:
        raise ValueError(
            f"`names` must hold one name for each of the {num_images} images. "
            f"Received: names={names!r}"
        )
    return [str(name) for name in names]


def _class_ids(
    mask: Any, name: str, num_classes: int, ignore_class: IgnoreClass
) -> np.ndarray:
    """Class ids, and `labels.LEFT_OUT` where the mask is void."""
    mask = _arguments.array(mask, name)
    if mask.ndim < 2 or mask.size == 0 or mask.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must hold integers, (..., height, width), at least one "
            f"pixel. Received: {name}.shape={mask.shape}, "
            f"dtype={mask.dtype.name}. Logits become class ids with "
            "logits.argmax(-1)."
        )
    void = _arguments.ignore_class(ignore_class, num_classes)
    is_void = np.isin(mask, [] if void is None else void)
    strays = mask[~is_void & ((mask < 0) | (mask >= num_classes))]
    if strays.size:
        found = np.unique(strays)
        listed = ", ".join(map(str, found[:10].tolist()))
        more = ", ..." if len(found) > 10 else ""
        raise ValueError(
            f"`{name}` must hold class ids 0..{num_classes - 1}, one for each "
            f"color of `palette`, or void (ignore_class={ignore_class}). "
            f"Received other labels: {listed}{more}. Add them to "
            "`ignore_class` if they are void, or give each its color."
        )
    return np.where(is_void, _labels.LEFT_OUT, mask.astype("int64"))


def _predicted_ids(
    predictions: Any, num_classes: int, ignore_class: IgnoreClass
) -> np.ndarray:
    predictions = _arguments.array(predictions, "predictions")
    if predictions.dtype.kind not in "iu":
        if predictions.ndim != 4 or predictions.shape[-1] != num_classes:
            way_out = "A single one becomes a batch by prediction[None]."
            if predictions.shape[-1:] == (1,):
                way_out = _arguments.TWO_LOGITS
            raise ValueError(
                "`predictions` must be class ids, integers (batch, height, "
                "width), or logits or probabilities (batch, height, width, "
                f"{num_classes}), one for each color of `palette`. Received: "
                f"predictions.shape={predictions.shape}, "
                f"dtype={predictions.dtype.name}. {way_out}"
            )
        predictions = predictions.argmax(-1)
    predictions = _without_last_axis(predictions)
    if predictions.ndim != 3:
        raise ValueError(
            "`predictions` that are class ids must have the shape (batch, "
            f"height, width). Received: predictions.shape={predictions.shape}. "
            "A single one becomes a batch by prediction[None]."
        )
    return _class_ids(predictions, "predictions", num_classes, ignore_class)


def _without_last_axis(mask: Any) -> np.ndarray:
    """A batch of masks without the axis of size 1 it may end with."""
    mask = _arguments.array(mask, "truths")
    return mask[..., 0] if mask.ndim == 4 and mask.shape[-1] == 1 else mask


def _visible(
    images: Any,
    channels: Sequence[int] | None,
    value_range: _arguments.ValueRange | None,
) -> np.ndarray:
    """Choose the channels of images that are drawn, and scale them to 0..255.

    Raises:
        ValueError: If there are no such channels, or values are not finite.
    """
    images = _arguments.array(images, "images")
    if images.ndim == 4:
        number = images.shape[-1]
        if channels is None:
            channels = range(3 if number >= 3 else 1)
        images = images[..., _channels(channels, number)]
    limits = _arguments.value_range(value_range)
    if limits is None:
        return images
    if images.dtype.kind not in "iuf" or not np.isfinite(images).all():
        raise ValueError(
            "`images` must hold finite numbers. Received: "
            f"dtype={images.dtype.name}, from {images.min()} to {images.max()}"
        )
    low, high = limits
    values = (images.astype("float64") - low) * (255 / (high - low))
    # Rounded here: a dark image in 0..1 would be taken for one in fractions.
    return np.rint(np.clip(values, 0, 255))


def _channels(channels: Any, number: int) -> list[int]:
    given = _arguments.elements(channels) or []
    found = [
        index
        for index in given
        if isinstance(index, numbers.Integral) and 0 <= int(index) < number
    ]
    if len(found) not in (1, 3) or len(found) != len(given):
        raise ValueError(
            "`channels` must be three channels of the images, for red, green "
            f"and blue, or one, from 0 to {number - 1}. "
            f"Received: channels={channels!r}"
        )
    return [int(index) for index in found]


def _rgb(image: Any, name: str, size: tuple[int, ...]) -> np.ndarray:
    """The image as uint8 `size + (3,)`.

    Raises:
        ValueError: Another size, other channels, or values outside 0..255.
    """
    image = _arguments.array(image, name)
    if image.ndim == len(size):
        image = image[..., None]
    if image.ndim != len(size) + 1 or image.shape[-1] not in (1, 3):
        raise ValueError(
            f"`{name}` must be gray or RGB, {size} or {(*size, 3)}. Received: "
            f"{name}.shape={image.shape}. Of more channels choose three, as "
            f"{name}[..., :3]."
        )
    _check_sizes(image.shape[:-1], size, name, "the masks")
    # A comparison with NaN is false, so that NaN is refused too.
    if image.dtype.kind not in "iuf" or not (
        image.min() >= 0 and image.max() <= 255
    ):
        raise ValueError(
            f"`{name}` must hold numbers in 0..255. Received: "
            f"dtype={image.dtype.name}, from {image.min()} to {image.max()}. "
            "Give the image as it was before it was normalized."
        )
    if image.max() <= 1 and (image % 1).any():
        raise ValueError(
            f"`{name}` must hold numbers in 0..255. Received: fractions in "
            "0..1. Multiply by 255."
        )
    rgb = np.broadcast_to(image, (*image.shape[:-1], 3))
    return np.rint(rgb).astype("uint8")


def _check_sizes(
    shape: tuple[int, ...], expected: tuple[int, ...], name: str, other: str
) -> None:
    if shape != expected:
        raise ValueError(
            f"`{name}` must have the size of {other}. Received: {shape} and "
            f"{expected}. Masks are resized with nearest neighbor only."
        )


def _paint(ids: np.ndarray, colors: np.ndarray) -> np.ndarray:
    # LEFT_OUT is -1: it takes the last color.
    return np.vstack([colors, VOID_COLOR]).astype("uint8")[ids]


def _error_map(
    rgb: np.ndarray, wrong: np.ndarray, is_void: np.ndarray
) -> np.ndarray:
    """The image in gray, errors in one color, void in stripes."""
    height, width = rgb.shape[1:3]
    # Neither black nor white, for the color and the stripes to stand out.
    gray = 60 + 0.55 * (rgb @ np.array(BRIGHTNESS))
    result = np.repeat(gray[..., None], 3, axis=-1)
    # As wide in large pictures as in small ones.
    stripe = max(1, round(min(height, width) / 60))
    rows, columns = np.indices((height, width))
    stripes = np.where((rows + columns) // stripe % 4 == 0, 120, 255)
    result = np.where(is_void[..., None], stripes[..., None], result)
    return np.where(wrong[..., None], ERROR_COLOR, result).astype("uint8")


def _legend_entries(
    occurring: np.ndarray, class_names: Sequence[str], colors: np.ndarray
) -> Legend:
    """Name and color, as matplotlib takes it, of what occurs; void last."""
    ids = np.unique(occurring)
    entries = [(class_names[i], colors[i]) for i in ids if i >= 0]
    if _labels.LEFT_OUT in ids:
        entries.append(("void", VOID_COLOR))
    return [(name, bytes(color).hex()) for name, color in entries]


def _figure_class() -> type[Figure]:
    """What draws; asked for first, since matplotlib may not be installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed: "
            'pip install "keras-deconv[examples]"'
        ) from error
    return Figure


def _grid(
    num_rows: int,
    num_columns: int,
    image_size: tuple[int, int],
    legend: Legend,
    extra_width: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with room for images of one size and the legend below them."""
    figure_class = _figure_class()
    aspect = image_size[1] / image_size[0]
    smallest, largest = CELL_SIDES
    width = min(max(math.sqrt(CELL_AREA * aspect), smallest), largest)
    height = min(width / aspect, largest)
    figure_width = num_columns * (width + extra_width)
    num_legend_columns, legend_height = _legend_size(legend, figure_width)
    figure = figure_class(
        figsize=(
            figure_width,
            num_rows * (height + TITLE_HEIGHT) + legend_height,
        ),
        dpi=120,
        layout="constrained",
    )
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    _draw_legend(figure, legend, num_legend_columns)
    return figure, axes.tolist()


def _legend_size(legend: Legend, figure_width: float) -> tuple[int, float]:
    """Columns that fit beside each other, and the height in inches."""
    # Around a name: patch, gap and distance of columns, as matplotlib has it.
    widest = (
        max(_text_width(name) for name, _ in legend)
        + 5.5 * TEXT_SIZE / POINTS_PER_INCH
    )
    columns = max(1, min(len(legend), int(figure_width / widest)))
    rows = math.ceil(len(legend) / columns)
    return columns, (rows * 1.5 + 1.5) * TEXT_SIZE / POINTS_PER_INCH


def _text_width(text: str) -> float:
    """Width of a text in inches."""
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    path = TextPath((0, 0), _without_formulas(text), size=TEXT_SIZE)
    return path.get_extents().width / POINTS_PER_INCH


def _without_formulas(text: str) -> str:
    """The text as it is; matplotlib takes what is between `$` for formulas."""
    return text.replace("$", r"\$")


def _draw_legend(figure: Figure, legend: Legend, num_columns: int) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(
                facecolor=f"#{color}",
                edgecolor="gray",
                label=_without_formulas(name),
            )
            for name, color in legend
        ],
        loc="outside lower center",
        ncols=num_columns,
        fontsize=TEXT_SIZE,
        frameon=False,
    )


def _write_names(
    figure: Figure, axes: list[list[Axes]], names: list[str]
) -> None:
    """The name of each image above it, its end where it is too long."""
    room = 0.9 * figure.get_figwidth() / len(axes[0])
    for row, name in zip(axes, names, strict=False):
        short = name
        while len(short) > 4 and _text_width(short) > room:
            short = "..." + short[4:]
        row[0].set_title(_without_formulas(short), fontsize=TEXT_SIZE)
