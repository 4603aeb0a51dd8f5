"""Figures of masks, predictions, uncertainty and network stages.

Figures require matplotlib, which is imported when the first figure is drawn.
The functions do not select a matplotlib backend or keep figures open. Save a
figure with `figure.savefig(path)`.
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
"""White, which the default palette and those of the catalog do not use."""

ERROR_COLOR = (230, 0, 60)
# Colors of encoder and decoder in `draw_stages`: Okabe and Ito's blue and
# orange.
STAGE_COLORS = ("#0072B2", "#E69F00")
# Inches of a row and its columns: left box, text, right box.
STAGE_HEIGHT = 0.75
STAGE_WIDTHS = (2.0, 3.6, 2.0)
# Weights of red, green and blue in the brightness (Rec. 601).
BRIGHTNESS = (0.299, 0.587, 0.114)
# Number of distinct colors, and of labels in 8 bits.
MAX_COLORS = 256

# Sizes in figures, in inches; text is in points.
CELL_AREA = 4.6
CELL_SIDES = (1.7, 4.6)
TITLE_HEIGHT = 0.32
COLOR_BAR_WIDTH = 0.8
TEXT_SIZE = 9.0
POINTS_PER_INCH = 72


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Return distinct colors for a number of classes.

    Use this function for datasets that do not define colors. The first eight
    colors are those of Okabe and Ito, with gray instead of black. They are
    distinguishable for color-blind readers. The others are darker and lighter
    shades of them. The color of a class does not depend on the number of
    classes. Black and white are not used; white is the color of void.

    Reference: Okabe and Ito, 2008, "Color Universal Design",
    https://jfly.uni-koeln.de/color.

    Args:
        num_classes: int in 1..256. Number of colors.

    Returns:
        A tuple of `num_classes` distinct tuples (red, green, blue) in 0..255.

    Raises:
        ValueError: If `num_classes` is not an int in 1..256.

    Example:
        >>> from keras_deconv.visualize import default_palette
        >>> default_palette(3)
        ((90, 90, 90), (230, 159, 0), (86, 180, 233))
    """
    if _arguments.positive_int(num_classes, "num_classes") > MAX_COLORS:
        raise ValueError(
            f"`num_classes` must be at most {MAX_COLORS} for distinct colors. "
            f"Received: num_classes={num_classes!r}"
        )
    return _palettes.default_palette(num_classes)


def color_mask(
    mask: Any,
    palette: Palette | None = None,
    ignore_class: IgnoreClass = 255,
) -> np.ndarray:
    """Convert a mask to an image with one color per class and white for void.

    Args:
        mask: Array of an integer dtype and shape `(..., height, width)`, with
            class ids or void labels.
        palette: None, or a sequence of one (red, green, blue) in 0..255 per
            class. None uses `default_palette`. For a dataset of the catalog,
            pass `data.describe(name).palette`.
        ignore_class: int, tuple of ints or None. Void labels. The default is
            255.

    Returns:
        A uint8 array of shape `(..., height, width, 3)`.

    Raises:
        ValueError: If `mask` does not hold integers, or is empty.
        ValueError: If a label is neither a class nor void.
        ValueError: If `palette` is not one (red, green, blue) in 0..255 per
            class.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.

    Edge cases:
        A label that is both void and a class counts as void, as in the metrics.

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
    """Blend the colors of a mask with its image.

    Args:
        image: uint8 or float array in 0..255. The shape is
            `(..., height, width, 3)` for RGB, and `(..., height, width, 1)` or
            `(..., height, width)` for gray.
        mask: Array of an integer dtype and shape `(..., height, width)`, with
            class ids or void labels.
        palette: None, or a sequence of one (red, green, blue) in 0..255 per
            class. None uses `default_palette`. For a dataset of the catalog,
            pass `data.describe(name).palette`.
        opacity: float in 0..1. Weight of the mask: 0 returns the image, 1 the
            colors. The default is 0.5.
        ignore_class: int, tuple of ints or None. Void labels, at which the
            image stays unchanged. The default is 255.

    Returns:
        A uint8 array of shape `(..., height, width, 3)`.

    Raises:
        ValueError: If `image` has another shape than above, another size than
            `mask`, or values outside 0..255.
        ValueError: If `mask` does not hold integers, or is empty.
        ValueError: If a label is neither a class nor void.
        ValueError: If `palette` is not one (red, green, blue) in 0..255 per
            class.
        ValueError: If `opacity` is not a number in 0..1.
        ValueError: If `ignore_class` is not an int, a tuple of ints or None.

    Example:
        >>> import numpy as np
        >>> from keras_deconv.visualize import overlay
        >>> image = np.full((1, 2, 3), 100, "uint8")
        >>> overlay(image, [[0, 255]], [(200, 0, 50)]).tolist()
        [[[150, 50, 75], [100, 100, 100]]]
    """
    if not isinstance(opacity, numbers.Real) or not 0 <= float(opacity) <= 1:
        raise ValueError(
            "`opacity` must be a float in 0..1 (0 shows the image, 1 the "
            f"mask). Received: opacity={opacity!r}"
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
    """Draw images, ground truth, predictions and errors in a grid.

    Use this function to see where a model is wrong. The figure has one row per
    image. The error map shows the image in gray, wrong pixels in red and void
    hatched. Its title shows the percentage of wrong pixels, not counting void.
    The legend lists the classes that occur, and void if it occurs.

    Args:
        images: Array of numbers, in 0..255 unless `value_range` is set. The
            shape is `(batch, height, width, channels)` with any number of
            channels, or `(batch, height, width)` for gray.
        predictions: Class ids of an integer dtype and shape
            `(batch, height, width)`, or float logits or probabilities of shape
            `(batch, height, width, num_classes)`. The largest value is the
            predicted class.
        truths: None, or class ids or void of an integer dtype. The shape is
            `(batch, height, width)` or `(batch, height, width, 1)`. With None,
            the figure shows the image, the prediction and the prediction over
            the image.
        class_names: None, or a sequence of one str per class. None uses
            class_0, class_1 and so on. For a dataset of the catalog, pass
            `data.describe(name).class_names`.
        palette: None, or a sequence of one (red, green, blue) in 0..255 per
            class. None uses `default_palette`. For a dataset of the catalog,
            pass `data.describe(name).palette`.
        ignore_class: int, tuple of ints or None. Void labels. The default is
            255.
        names: None, or a sequence of one str per image to show above it, such
            as its file name.
        channels: None, or a sequence of three or one ints >= 0. Three channels
            are drawn as red, green and blue, for example (3, 2, 1). One channel
            is drawn in gray. None draws the first three channels, or the first
            one if there are fewer than three.
        value_range: None, or a tuple (low, high) of the values to draw as 0 and
            255. Values outside are clipped. None is for images in 0..255.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig(path)`. A
        notebook shows it if it is the last expression of a cell.

    Raises:
        ValueError: If the shapes of `images`, `predictions` and `truths` do not
            match.
        ValueError: If a label is neither a class nor void.
        ValueError: If `images` has values outside 0..255 without `value_range`,
            or values that are not finite.
        ValueError: If `channels` are not one or three channels of the images.
        ValueError: If `class_names`, `palette`, `names`, `ignore_class` or
            `value_range` does not have the type and the length above.
        ImportError: If matplotlib is not installed.

    Edge cases:
        Predictions at void pixels are not errors. If every pixel is void, the
        title of the error map is "nothing to compare".

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
    """Draw the stages of an encoder, and how the decoder reverses each of them.

    Use this function to see which layers a network pairs. The figure has one
    row for each reduction of height and width, from the size of the image down.
    The left box is the feature map before the reduction, and the right box is
    the output of the decoder stage. The text between them names the layer that
    reduces the size and the method that restores it.

    Args:
        model: Model with decoder stages that mirror its encoder, such as
            `models.EncoderDecoder`, `models.SegNet` and `models.SegNetBasic`
            build.
        image_size: None, int or tuple of 2 ints >= 1. Height and width of the
            image. None uses the input size of the model, and 256 if it is
            unknown.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig(path)`.

    Raises:
        ValueError: If `model` does not have such stages.
        ValueError: If `image_size` is not None, an int >= 1 or a tuple of 2
            ints >= 1.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from keras_deconv import models, visualize
        >>> model = models.SegNetBasic((48, 64, 3), 4, filters=(8, 16))
        >>> figure = visualize.draw_stages(model)
        >>> shown = [text.get_text() for text in figure.axes[0].texts]
        >>> "block1_pool (max pooling 2x2/2)" in shown
        True
    """
    # The other functions do not need Keras models.
    from keras_deconv.models import _pairs

    if image_size is not None:
        image_size = _arguments.ints(image_size, 2, "image_size", minimum=1)
    rows = _pairs.pairs(model, image_size)
    # The bottleneck has a separate row.
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
    """Draw the size and the channels of a feature map in a colored box."""
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
    """Draw the predictions of a model and their uncertainty in a grid.

    Use this function with `inference.predict_monte_carlo`. The figure has one
    row per image. The columns are the image, the classes, the mean variance,
    the predictive entropy in nats and the mutual information in nats. The scale
    of a map starts at 0 and is the same in all rows. Bright pixels are
    uncertain.

    Args:
        images: uint8 or float array in 0..255, as passed to the model. The
            shape is `(batch, height, width, 3)` for RGB, and
            `(batch, height, width, 1)` or `(batch, height, width)` for gray.
        prediction: `inference.MonteCarloPrediction` of these images.
        class_names: None, or a sequence of one str per class. None uses
            class_0, class_1 and so on. For a dataset of the catalog, pass
            `data.describe(name).class_names`.
        palette: None, or a sequence of one (red, green, blue) in 0..255 per
            class. None uses `default_palette`. For a dataset of the catalog,
            pass `data.describe(name).palette`.
        names: None, or a sequence of one str per image to show above it, such
            as its file name.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig(path)`.

    Raises:
        ValueError: If `prediction` is not a result of
            `inference.predict_monte_carlo`.
        ValueError: If `images` and `prediction` have different sizes.
        ValueError: If `images` has values outside 0..255.
        ValueError: If `class_names`, `palette` or `names` does not have the
            type and the length above.
        ImportError: If matplotlib is not installed.

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
            "`prediction` must be a result of inference.predict_monte_carlo. "
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
        # A map of zeros needs a scale too.
        largest = float(values.max()) or 1.0
        axes[0][column].set_title(title, fontsize=TEXT_SIZE)
        for row, picture in enumerate(values):
            # matplotlib ignores the scale and the color map for RGB images.
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
    """Return a color and a name for each class, with defaults.

    Raises:
        ValueError: If `class_names` is not one name per color.
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
    """Return the number of classes that the arguments imply."""
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
    """Return 1 plus the largest label that is not void, without checks."""
    mask = _arguments.array(mask, name)
    if mask.dtype.kind not in "iu":
        return 1
    void = _arguments.ignore_class(ignore_class)
    is_void = np.isin(mask, [] if void is None else void)
    # There are at most 255 classes if 255 is void.
    limit = MAX_COLORS - int(void == _arguments.VOID)
    return int(np.clip(mask[~is_void].max(initial=0) + 1, 1, limit))


def _share_title(num_wrong: int, num_counted: int) -> str:
    if not num_counted:
        return "nothing to compare"
    return f"wrong: {100 * num_wrong / num_counted:.1f} %"


def _draw_color_bar(drawn: AxesImage) -> None:
    """Draw a color bar to the right of an image, with the same height."""
    height, width = drawn.get_size()
    # Widths are relative to that of the image, which may be narrow.
    unit = 0.02 * max(2, height / width)
    beside = drawn.axes.inset_axes((1 + unit, 0, 1.5 * unit, 1))
    # Numbers are written in full, since a factor above the bar would move the
    # title up.
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
    """Return class ids, with `_labels.LEFT_OUT` at void pixels."""
    mask = _arguments.array(mask, name)
    if mask.ndim < 2 or mask.size == 0 or mask.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must hold integers (..., height, width), and at least "
            f"one pixel. Received: {name}.shape={mask.shape}, "
            f"dtype={mask.dtype.name}. To convert logits to class ids, call "
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
            "`ignore_class` if they are void; otherwise, pass a palette with "
            "more colors."
        )
    return np.where(is_void, _labels.LEFT_OUT, mask.astype("int64"))


def _predicted_ids(
    predictions: Any, num_classes: int, ignore_class: IgnoreClass
) -> np.ndarray:
    predictions = _arguments.array(predictions, "predictions")
    if predictions.dtype.kind not in "iu":
        if predictions.ndim != 4 or predictions.shape[-1] != num_classes:
            way_out = "For a single prediction, pass prediction[None]."
            if predictions.shape[-1:] == (1,):
                way_out = _arguments.TWO_LOGITS
            raise ValueError(
                "`predictions` must be integer class ids (batch, height, "
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
            "For a single prediction, pass prediction[None]."
        )
    return _class_ids(predictions, "predictions", num_classes, ignore_class)


def _without_last_axis(mask: Any) -> np.ndarray:
    """Remove a last axis of size 1 from a batch of masks."""
    mask = _arguments.array(mask, "truths")
    return mask[..., 0] if mask.ndim == 4 and mask.shape[-1] == 1 else mask


def _visible(
    images: Any,
    channels: Sequence[int] | None,
    value_range: _arguments.ValueRange | None,
) -> np.ndarray:
    """Select the channels to draw, and scale them to 0..255.

    Raises:
        ValueError: If the images do not have these channels, or have values
            that are not finite.
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
            f"dtype={images.dtype.name}, values from {images.min()} to "
            f"{images.max()}"
        )
    low, high = limits
    values = (images.astype("float64") - low) * (255 / (high - low))
    # Rounding prevents `_rgb` from refusing a dark image as fractions in 0..1.
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
            "`channels` must be three channels of the images (red, green and "
            f"blue) or one channel, from 0 to {number - 1}. Received: "
            f"channels={channels!r}"
        )
    return [int(index) for index in found]


def _rgb(image: Any, name: str, size: tuple[int, ...]) -> np.ndarray:
    """Return the image as a uint8 array of shape `size + (3,)`.

    Raises:
        ValueError: If the image has another size or other channels, or values
            outside 0..255.
    """
    image = _arguments.array(image, name)
    if image.ndim == len(size):
        image = image[..., None]
    if image.ndim != len(size) + 1 or image.shape[-1] not in (1, 3):
        raise ValueError(
            f"`{name}` must be gray or RGB, {size} or {(*size, 3)}. Received: "
            f"{name}.shape={image.shape}. To select three channels, pass "
            f"{name}[..., :3]."
        )
    _check_sizes(image.shape[:-1], size, name, "the masks")
    # A comparison with NaN is false, so this refuses NaN too.
    if image.dtype.kind not in "iuf" or not (
        image.min() >= 0 and image.max() <= 255
    ):
        raise ValueError(
            f"`{name}` must hold numbers in 0..255. Received: "
            f"dtype={image.dtype.name}, values from {image.min()} to "
            f"{image.max()}. Pass the image before normalization."
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
            f"{expected}. Resize masks only with nearest-neighbor sampling."
        )


def _paint(ids: np.ndarray, colors: np.ndarray) -> np.ndarray:
    # LEFT_OUT is -1, the index of the last color.
    return np.vstack([colors, VOID_COLOR]).astype("uint8")[ids]


def _error_map(
    rgb: np.ndarray, wrong: np.ndarray, is_void: np.ndarray
) -> np.ndarray:
    """Draw the image in gray, errors in one color and void in stripes."""
    height, width = rgb.shape[1:3]
    # Without black and white, the error color and the stripes stand out.
    gray = 60 + 0.55 * (rgb @ np.array(BRIGHTNESS))
    result = np.repeat(gray[..., None], 3, axis=-1)
    # The width of stripes is proportional to the size of the image.
    stripe = max(1, round(min(height, width) / 60))
    rows, columns = np.indices((height, width))
    stripes = np.where((rows + columns) // stripe % 4 == 0, 120, 255)
    result = np.where(is_void[..., None], stripes[..., None], result)
    return np.where(wrong[..., None], ERROR_COLOR, result).astype("uint8")


def _legend_entries(
    occurring: np.ndarray, class_names: Sequence[str], colors: np.ndarray
) -> Legend:
    """Return names and colors of the classes that occur; void comes last."""
    ids = np.unique(occurring)
    entries = [(class_names[i], colors[i]) for i in ids if i >= 0]
    if _labels.LEFT_OUT in ids:
        entries.append(("void", VOID_COLOR))
    return [(name, bytes(color).hex()) for name, color in entries]


def _figure_class() -> type[Figure]:
    """Import the figure class of matplotlib, which may not be installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Drawing requires matplotlib, which is not installed. Install it "
            'with: pip install "keras-deconv[examples]"'
        ) from error
    return Figure


def _grid(
    num_rows: int,
    num_columns: int,
    image_size: tuple[int, int],
    legend: Legend,
    extra_width: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """Create a figure with a grid of images of one size and a legend below."""
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
    """Return the number of columns of the legend, and its height in inches."""
    # The additional width is the patch, the gap and the column spacing of
    # matplotlib.
    widest = (
        max(_text_width(name) for name, _ in legend)
        + 5.5 * TEXT_SIZE / POINTS_PER_INCH
    )
    columns = max(1, min(len(legend), int(figure_width / widest)))
    rows = math.ceil(len(legend) / columns)
    return columns, (rows * 1.5 + 1.5) * TEXT_SIZE / POINTS_PER_INCH


def _text_width(text: str) -> float:
    """Return the width of a text in inches."""
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    path = TextPath((0, 0), _without_formulas(text), size=TEXT_SIZE)
    return path.get_extents().width / POINTS_PER_INCH


def _without_formulas(text: str) -> str:
    """Escape `$`, which starts a formula in matplotlib."""
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
    """Write names above images, and shorten names that are too long."""
    room = 0.9 * figure.get_figwidth() / len(axes[0])
    for row, name in zip(axes, names, strict=False):
        short = name
        while len(short) > 4 and _text_width(short) > room:
            short = "..." + short[4:]
        row[0].set_title(_without_formulas(short), fontsize=TEXT_SIZE)
