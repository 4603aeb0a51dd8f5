"""Prediction of an image of any size, tile by tile."""

import fractions
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_deconv import _arguments, _backends, _locks
from keras_deconv._graphs import (
    check_graph,
    check_is_segmentation,
    every_layer,
    is_graph,
)
from keras_deconv.inference._scores import predict_probabilities, predict_scores

__all__ = ["predict_tiled"]

# Strides are found if this size is a multiple of them. Memory is not allocated,
# because only shapes are computed.
PROBE_SIZE = 2**6 * 3**2 * 5 * 7 * 11 * 13
# A larger result means that PROBE_SIZE is not a multiple of the stride.
MAX_STRIDE = 4096


def predict_tiled(
    model: keras.Model,
    image: Any,
    tile: int | Sequence[int] | None,
    overlap: int | Sequence[int],
    *,
    margin: int | Sequence[int] | None = None,
    stride: int | None = None,
    class_ids: bool = False,
    flip: bool = False,
    output: Any = None,
    batch_size: int = 1,
    verbose: int = 1,
) -> Any:
    """Predict an image that is too large for one call of the model, in tiles.

    Use it for satellite and aerial images, slides and scans, including files
    that do not fit into memory. Neighboring tiles share at least `overlap`
    pixels. At borders between tiles, `margin` pixels of each tile are
    discarded, because the model does not see their full surroundings. Over the
    rest of the overlap, the tiles are blended linearly, with weights that sum
    to one.

    The result equals the prediction of the whole image if the model looks at
    most `margin` pixels to each side. With the default margin, this is the case
    if the receptive field, of `2 * reach + 1` pixels, is at most the
    overlap. Tiles start at multiples of the model's stride, so that pooling
    windows are the same as in the whole image.

    Memory holds one batch of tiles and the scores of one row of tiles (tile
    height x image width x num_classes x 4 bytes). The image is read tile by
    tile. Each row of the output is written once, from top to bottom, as soon as
    it is finished.

    Reference: Ronneberger, Fischer and Brox, 2015, "U-Net", figure 2
    (overlapping tiles), https://arxiv.org/abs/1505.04597.

    Args:
        model: Built Functional or Sequential `keras.Model` with one input and
            one output, such as `models.SegNet`. It maps images `(batch, height,
            width, channels)` to scores for each pixel and class `(batch,
            height, width, num_classes)`.
        image: One image `(height, width, channels)` of ints or floats, in the
            value range that the model takes (0..255 for those of this package).
            Any object with `shape` and `dtype` that can be sliced: a NumPy
            array, `np.memmap`, an array of h5py or zarr; or an open raster of
            rasterio, of which all bands are used.
        tile: int or (height, width), each >= 1, in pixels. Size of a tile.
            Larger tiles compute less in overlaps. None takes the input size of
            the model, if it is known.
        overlap: int or (height, width), each >= 0. Minimum number of pixels
            that neighboring tiles share. The tile must be larger than the
            overlap by at least `stride`.
        margin: int or (height, width), from 0 to `overlap // 2`. Number of
            pixels that are discarded at borders between tiles. None takes
            `(overlap - 1) // 2`, which leaves one or two pixels for blending.
            Use a smaller value for a model whose receptive field is larger than
            any overlap, such as SegNet: the result is not exact, but seams are
            softer. 0 blends over the whole overlap.
        stride: int >= 1. Total stride of the model. Shifting the input by this
            many pixels shifts the output by the same amount. It is the product
            of the strides of poolings and convolutions along a path, 32 for
            `models.SegNet`. None computes it from the sizes of the tensors in
            the model.
        class_ids: bool. False returns scores, True the class with the largest
            score.
        flip: bool. Whether to average the probabilities of each tile with those
            of its mirror image (left and right swapped), mirrored back. This
            takes twice the time.
        output: Object to write to, or None for a new array. Scores need
            `(height, width, num_classes)` of float32 or float64; class ids need
            `(height, width)` of ints. Any object with `shape` and `dtype` that
            supports assignment to slices of rows, as for `image`; or a raster
            that is open for writing, with one band per class, or one band for
            class ids.
        batch_size: int >= 1. Number of tiles per call of the model, all from
            one row of tiles. The last batch is padded, so that the graph is not
            compiled again.
        verbose: int. 0 for silent, 1 for a progress bar over the tiles.

    Returns:
        `output`, or a new array. Scores are float32 `(height, width,
        num_classes)`: the outputs of the model, or probabilities with `flip`.
        Class ids are uint8 `(height, width)`, or int32 with more than 256
        classes.

    Raises:
        ValueError: If `model` does not return one score per pixel and class, or
            returns NaN or infinity. Rows that were finished before are in
            `output`.
        ValueError: If `image` does not contain ints or floats, has another
            shape than `(height, width, channels)` or other channels than the
            model, is empty, or is traced by a compiled function.
        ValueError: If `tile`, `overlap`, `margin` or `stride` is out of range,
            or `tile` is not a size that the model takes.
        ValueError: If `stride` is None and cannot be computed.
        ValueError: If `class_ids` or `flip` is not a bool, `class_ids` is True
            for a model with one score per pixel, or `batch_size` is not an int
            >= 1.
        ValueError: If `output` has another shape, has a dtype that cannot hold
            the results, cannot be written to, or is the image itself.

    Edge cases:
        - An image that is smaller than a tile is predicted as one tile of its
          size. It is padded by mirroring at the bottom and right if the model
          takes only one size, or, up to a multiple of `stride`, if the model
          does not return scores of that size.
        - The result is exact up to the border if the size of the image minus
          that of the tile is a multiple of `stride`. Otherwise, the last tiles
          are padded by mirroring, by less than `stride` pixels, and predictions
          near the bottom and right border differ, as far as the model sees.
          Strided layers with "same" padding align windows with the end of the
          image: with them, the result is not exact at all in this case.
        - If a tile is not a multiple of `stride`, the remainder only counts as
          `overlap` at the border of the image.
        - Layers that look at the whole image, such as global pooling, see only
          the tile.
        - The computed stride does not include strides inside a layer that
          restores the size itself, nor strides before an inner model. Pass
          `stride` for such models.
        - Other functions of this package that temporarily change the model wait
          in other threads until the prediction is complete.

    Example:
        From file to file, neither of which must fit into memory:

        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from keras_deconv import inference, models
        >>> model = models.SegNetBasic((None, None, 3), num_classes=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image = np.lib.format.open_memmap(
        ...         pathlib.Path(folder, "image.npy"), "w+", "uint8",
        ...         (100, 150, 3))
        ...     classes = np.lib.format.open_memmap(
        ...         pathlib.Path(folder, "classes.npy"), "w+", "uint8",
        ...         (100, 150))
        ...     _ = inference.predict_tiled(
        ...         model, image, 64, 16, class_ids=True, output=classes,
        ...         verbose=0)
        ...     int(classes.max()) < 4
        True

        Rasters, with rasterio (`pip install "keras-deconv[geo]"`):

        >>> import rasterio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     profile = dict(
        ...         driver="GTiff", height=100, width=150, dtype="uint8",
        ...         transform=rasterio.Affine(2, 0, 0, 0, -2, 0))
        ...     source, target = f"{folder}/city.tif", f"{folder}/classes.tif"
        ...     rasterio.open(source, "w", count=3, **profile).close()
        ...     with (
        ...         rasterio.open(source) as image,
        ...         rasterio.open(target, "w", count=1, **profile) as output,
        ...     ):
        ...         _ = inference.predict_tiled(
        ...             model, image, 64, 16, class_ids=True, output=output,
        ...             verbose=0)
        ...     rasterio.open(target).shape
        (100, 150)
    """
    check_graph(model)
    check_is_segmentation(model)
    takes, num_classes = model.inputs[0].shape[1:], model.outputs[0].shape[-1]
    image = _check_image(image, takes[-1])
    size = tuple(image.shape[:2])
    tile, overlap, stride = check_tiles(model, tile, overlap, stride)
    margin = _check_margin(margin, overlap)
    batch_size = _arguments.positive_int(batch_size, "batch_size")
    _check_class_ids(class_ids, num_classes)
    _arguments.boolean(flip, "flip")
    shape = size if class_ids else (*size, num_classes)
    target = _check_output(output, image, shape, class_ids, num_classes)
    smaller = tuple(
        min(t, s) if fixed is None else t
        for t, s, fixed in zip(tile, size, takes[:2], strict=True)
    )
    if smaller != tile and not restores(model, smaller):
        smaller = filled_up(smaller, stride)
    tile = smaller
    _check_sizes(model, tile)

    rows, columns = (
        _Axis.of(*of_axis, stride)
        for of_axis in zip(size, tile, overlap, margin, strict=True)
    )
    batch_size = min(batch_size, len(columns.starts))
    progress = keras.utils.Progbar(
        len(rows.starts) * len(columns.starts),
        verbose=_arguments.verbose(verbose),
    )
    # Locked for all tiles, so that weights and statistics do not change.
    with _locks.held(every_layer(model)):
        # Unfinished rows, starting at the first one of a row of tiles.
        band = np.zeros((tile[0], size[1], num_classes), "float32")
        for row, top in enumerate(rows.starts):
            inside, row_weights = rows.weights(row)
            for first in range(0, len(columns.starts), batch_size):
                lefts = columns.starts[first : first + batch_size]
                scores = _predict(
                    model, image, top, lefts, tile, batch_size, flip
                )
                for column, left in enumerate(lefts, first):
                    across, column_weights = columns.weights(column)
                    weights = row_weights[:, None] * column_weights
                    band[: len(row_weights), across] += (
                        weights[..., None]
                        * scores[
                            column - first,
                            inside.start - top : inside.stop - top,
                            across.start - left : across.stop - left,
                        ]
                    )
                progress.add(len(lefts))
            is_last = row + 1 == len(rows.starts)
            finished = size[0] if is_last else rows.weights(row + 1)[0].start
            ready, rest = np.split(band, [finished - inside.start])
            values = ready.argmax(axis=-1) if class_ids else ready
            target[inside.start : finished] = values.astype(
                target.dtype, copy=False
            )
            band[: len(rest)] = rest
            band[len(rest) :] = 0
    return target if output is None else output


def restores(model: keras.Model, size: tuple[int, ...]) -> bool:
    """Whether the model returns one score per pixel for a size."""
    try:
        _check_sizes(model, size)
    except ValueError:
        return False
    return True


def filled_up(size: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Return the next multiples of the stride."""
    return tuple(-(-length // stride) * stride for length in size)


def check_tiles(
    model: keras.Model,
    tile: int | Sequence[int] | None,
    overlap: int | Sequence[int],
    stride: int | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return tile, overlap and stride in the form that `predict_tiled` needs.

    Raises:
        ValueError: If they do not fit each other or the model.
    """
    tile = _check_tile(tile, model.inputs[0].shape[1:])
    overlap = _arguments.ints(overlap, 2, "overlap", 0)
    if stride is None:
        stride = stride_of(model)
    else:
        stride = _arguments.positive_int(stride, "stride")
    _check_overlap(overlap, tile, stride)
    return tile, overlap, stride


class _Axis(NamedTuple):
    """Positions of tiles along one axis, and where neighbors meet."""

    size: int
    tile: int
    starts: list[int]
    centers: list[float]
    """The middle of the pixels that a tile shares with the next one."""
    ramp: int
    """Number of pixels over which they are blended."""

    @classmethod
    def of(
        cls, size: int, tile: int, overlap: int, margin: int, stride: int
    ) -> "_Axis":
        """Place tiles at multiples of `stride`, as evenly as possible."""
        # A pooling window that the end of a tile cuts off is not exact.
        whole = tile // stride * stride
        steps = -(-max(size - tile, 0) // stride)
        gaps = -(-steps // max((whole - overlap) // stride, 1))
        starts = [0]
        starts += [steps * i // gaps * stride for i in range(1, gaps + 1)]
        centers = [
            (start + whole + following) / 2
            for start, following in itertools.pairwise(starts)
        ]
        return cls(size, tile, starts, centers, overlap - 2 * margin)

    def weights(self, number: int) -> tuple[slice, np.ndarray]:
        """Return the pixels to which a tile contributes, and its share in each.

        A share is the fade-in of the tile minus that of the next one, so shares
        sum to one for any number of overlapping tiles.
        """
        start = self.starts[number]
        pixels = np.arange(start, min(start + self.tile, self.size))
        shares = np.ones(len(pixels))
        if number > 0:
            shares = self._faded_in(pixels, self.centers[number - 1])
        if number < len(self.centers):
            shares = shares - self._faded_in(pixels, self.centers[number])
        used = np.flatnonzero(shares)
        inside = slice(int(pixels[used[0]]), int(pixels[used[-1]]) + 1)
        return inside, shares[used[0] : used[-1] + 1].astype("float32")

    def _faded_in(self, pixels: np.ndarray, center: float) -> np.ndarray:
        distance = pixels + 0.5 - center
        # Without a ramp, a pixel in the exact middle belongs to both tiles.
        return np.clip(distance / max(self.ramp, 1) + 0.5, 0, 1)


class _Raster:
    """A raster of rasterio, read and written by slices like an array."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.shape = (dataset.height, dataset.width, dataset.count)
        self.dtype = np.result_type(*dataset.dtypes)

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        rows, columns = window
        bands = self.dataset.read(
            window=((rows.start, rows.stop), (columns.start, columns.stop))
        )
        return np.moveaxis(bands, 0, -1)

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        bands = values.reshape(*values.shape[:2], self.shape[-1])
        window = ((rows.start, rows.stop), (0, self.shape[1]))
        self.dataset.write(np.moveaxis(bands, -1, 0), window=window)


def _is_raster(value: Any) -> bool:
    return all(
        hasattr(value, name) for name in ("count", "height", "width", "dtypes")
    )


def _predict(
    model: keras.Model,
    image: Any,
    top: int,
    lefts: Sequence[int],
    tile: tuple[int, ...],
    batch_size: int,
    flip: bool,
) -> np.ndarray:
    """Return the scores of some tiles of one row.

    Raises:
        ValueError: If they are not finite.
    """
    tiles = [_read(image, (top, left), tile) for left in lefts]
    tiles += tiles[-1:] * (batch_size - len(tiles))
    predict = predict_probabilities if flip else predict_scores
    scores = predict(model, np.stack(tiles))[: len(lefts)]
    if not np.isfinite(scores).all():
        raise ValueError(
            "`model` must return finite scores. Received: NaN or infinity from "
            f"{model.name!r}, for tiles of {tile} pixels at row {top} and "
            f"columns {list(lefts)}. Look for such values in the image and in "
            "the weights."
        )
    return scores


def _read(
    image: Any, start: tuple[int, int], tile: tuple[int, ...]
) -> np.ndarray:
    """Read a tile of the image, mirrored beyond its end."""
    stops = [
        min(first + length, size)
        for first, length, size in zip(start, tile, image.shape, strict=False)
    ]
    window = tuple(map(slice, start, stops))
    pixels = np.asarray(image[window]).astype("float32")
    missing = [
        (0, length - size)
        for length, size in zip(tile, pixels.shape, strict=False)
    ]
    return np.pad(pixels, [*missing, (0, 0)], "symmetric")


def stride_of(model: keras.Model) -> int:
    """Return the number of pixels that shifts all tensors by whole pixels.

    It is computed from how sizes inside the model grow with the image.

    Raises:
        ValueError: If sizes cannot be computed, or do not determine the stride.
    """
    try:
        strides = set(_strides(model))
        if max(strides) > MAX_STRIDE:
            raise ValueError(
                f"{PROBE_SIZE} is not a multiple of the stride, or the stride "
                f"is above {MAX_STRIDE}"
            )
        return math.lcm(*strides)
    except Exception as error:
        raise ValueError(
            f"`stride` must be given for {model.name!r}, because it cannot be "
            "computed. It is the product of the strides of poolings and "
            "convolutions along a path, or 1 without any. Received: "
            f"stride=None. {type(error).__name__}: {error}"
        ) from error


def _strides(model: keras.Model) -> Iterator[int]:
    tensors = []
    # A Sequential model does not have the attribute `operations`.
    for operation in keras.Model(model.inputs, model.outputs).operations:
        if is_graph(operation):
            yield from _strides(operation)
        else:
            # The output of its first call.
            tensors += keras.tree.flatten(operation.output)
    probe = keras.Model(model.inputs, tensors)
    # Allow sizes that the model does not take.
    probe.input_spec = None
    small, large = (
        probe.compute_output_spec(
            [
                keras.KerasTensor((1, size, size, x.shape[-1]), x.dtype)
                for x in model.inputs
            ]
        )
        for size in (PROBE_SIZE, 2 * PROBE_SIZE)
    )
    for before, after in zip(small, large, strict=True):
        for length, longer in zip(before.shape, after.shape, strict=True):
            if longer > length:
                yield fractions.Fraction(PROBE_SIZE, longer - length).numerator


def _check_image(image: Any, num_channels: int | None) -> Any:
    """Return the image as an object with a shape that is read by slices.

    Raises:
        ValueError: If it does not contain numbers, or has another shape.
    """
    if _is_raster(image):
        image = _Raster(image)
    elif keras.ops.is_tensor(image):
        if _backends.is_traced(image):
            raise ValueError(
                "`image` must not be traced: predict_tiled cannot be compiled. "
                "Call it outside of compiled functions. Received: a traced "
                "image"
            )
        image = keras.ops.convert_to_numpy(image)
    elif not hasattr(image, "shape") or not hasattr(image, "dtype"):
        image = np.asarray(image)
    if np.dtype(image.dtype).kind not in "iuf":
        raise ValueError(
            "`image` must contain ints or floats. Received: dtype "
            f"{image.dtype}. Open a file first, with numpy.load(path, "
            "mmap_mode='r') or rasterio.open(path)."
        )
    shape = tuple(image.shape)
    if len(shape) != 3 or 0 in shape or shape[-1] != num_channels:
        raise ValueError(
            "`image` must be one image (height, width, channels) with the "
            f"{num_channels} channels that the model takes, and at least one "
            f"pixel. Received: image.shape={shape}. From a batch, pass "
            "images[i]."
        )
    return image


def _check_tile(tile: Any, takes: Sequence[int | None]) -> tuple[int, ...]:
    """Return height and width of a tile.

    Raises:
        ValueError: If `tile` is not a size, or not the one that the model
            takes.
    """
    if tile is None:
        tile = takes[:2]
        if None in tile:
            raise ValueError(
                "`tile` must be given for a model that takes images of any "
                f"size: an int or (height, width). Received: tile=None, model "
                f"input {tuple(takes)}"
            )
    tile = _arguments.ints(tile, 2, "tile", 1)
    if any(n not in (None, t) for n, t in zip(takes[:2], tile, strict=True)):
        raise ValueError(
            f"`tile` must be the size that the model takes, {takes[:2]}, or "
            f"None. Received: tile={tile}"
        )
    return tile


def _check_margin(margin: Any, overlap: tuple[int, ...]) -> tuple[int, ...]:
    if margin is None:
        return tuple(max(n - 1, 0) // 2 for n in overlap)
    result = _arguments.ints(margin, 2, "margin", 0)
    if any(m > n // 2 for m, n in zip(result, overlap, strict=True)):
        raise ValueError(
            "`margin` must be at most half of the overlap, because it is "
            f"discarded on both sides. Received: margin={margin!r}, "
            f"overlap={overlap}"
        )
    return result


def _check_overlap(
    overlap: tuple[int, ...], tile: tuple[int, ...], stride: int
) -> None:
    if any(
        t // stride * stride - n < stride
        for t, n in zip(tile, overlap, strict=True)
    ):
        raise ValueError(
            "`overlap` must be smaller than the tile by at least the stride, "
            f"{stride}, where the tile is rounded down to a multiple of the "
            f"stride. Received: overlap={overlap}, tile={tile}. Use larger "
            "tiles or a smaller overlap."
        )


def _check_sizes(model: keras.Model, tile: tuple[int, ...]) -> None:
    """Reject a tile for which the model does not return the same size.

    Raises:
        ValueError: If the model does not take the tile, or returns another
            size.
    """
    images = model.inputs[0]
    shape = (1, *tile, images.shape[-1])
    graph = keras.Model(images, model.outputs[0])
    try:
        scores = graph.compute_output_spec(
            keras.KerasTensor(shape, images.dtype)
        )
    except Exception as error:
        raise ValueError(
            "`tile` must be a size that the model takes, or the size of a "
            "smaller image must be. Received: a tile of "
            f"{tile} for {model.name!r}: {error}"
        ) from error
    if tuple(scores.shape[1:3]) != tile:
        raise ValueError(
            "`model` must return scores for each pixel of a tile. Received: "
            f"{tuple(scores.shape[1:])} for a tile of {tile}. If the model "
            "restores only some sizes, try a tile that is a multiple of its "
            "stride."
        )


def _check_class_ids(class_ids: Any, num_classes: int) -> None:
    if _arguments.boolean(class_ids, "class_ids") and num_classes < 2:
        raise ValueError(
            "`class_ids` must be False for a model with one score per pixel. "
            f"Received: class_ids=True. {_arguments.TWO_LOGITS}"
        )


def _check_output(
    output: Any,
    image: Any,
    shape: tuple[int, ...],
    class_ids: bool,
    num_classes: int,
) -> Any:
    """Return an object with a dtype that supports assignment to slices of rows.

    Raises:
        ValueError: If `output` has another shape, has a dtype that cannot hold
            the results, or cannot be written to.
    """
    if output is None:
        small = "uint8" if num_classes <= 256 else "int32"
        return np.empty(shape, small if class_ids else "float32")
    if output is getattr(image, "dataset", image) or (
        isinstance(output, np.ndarray)
        and isinstance(image, np.ndarray)
        and np.may_share_memory(output, image)
    ):
        raise ValueError(
            "`output` must not be the image, which is still read while rows "
            "are written. Received: both in the same memory"
        )
    target = output
    if _is_raster(output):
        target = _Raster(output)
        # A raster has a last axis even with one band.
        shape = (*shape[:2], 1) if class_ids else shape
    if (
        not (hasattr(target, "__setitem__") and hasattr(target, "dtype"))
        or keras.ops.is_tensor(output)
        or not getattr(getattr(output, "flags", None), "writeable", True)
        or (_is_raster(output) and not hasattr(output, "write"))
    ):
        raise ValueError(
            "`output` must be an array or a raster that can be written to, "
            f"such as np.memmap(path, mode='w+', ...). Received: "
            f"{type(output).__name__}"
        )
    dtype = np.dtype(target.dtype)
    if class_ids:
        is_wide = dtype.kind in "iu" and np.iinfo(dtype).max >= num_classes - 1
    else:
        is_wide = dtype in ("float32", "float64")
    if tuple(target.shape) != shape or not is_wide:
        kind = (
            f"ints up to {num_classes - 1}"
            if class_ids
            else "float32 or float64"
        )
        raise ValueError(
            f"`output` must have the shape {shape} and hold {kind}, with "
            f"class_ids={class_ids}. Received: shape {tuple(target.shape)}, "
            f"dtype {dtype}"
        )
    return target
