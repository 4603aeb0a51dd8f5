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

# Strides that divide it are found. Shapes are computed, nothing is allocated.
PROBE_SIZE = 2**6 * 3**2 * 5 * 7 * 11 * 13
# What looks larger is one that does not divide it.
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
    """Predict an image that is too large for one call, tile by tile.

    Neighboring tiles share `overlap` pixels at least. Of these each gives up
    `margin` at its border, where its surroundings are missing, and over the
    rest the two fade into each other linearly: weights that sum to one.

    The prediction is that of the whole image wherever the model looks no
    farther than `margin` pixels to either side. As `margin` is by default,
    that is so if the receptive field, of `2 * reach + 1` pixels, is below the
    overlap. Tiles start at multiples of the stride of the model, so that
    pooling windows are those of the whole image.

    Memory holds one row of tiles of the scores, tile height x width x
    num_classes x 4 bytes, and one batch of tiles. The image is read tile by
    tile, and rows are written as soon as they are finished, from top to bottom,
    each once.

    Reference: Ronneberger, Fischer and Brox, 2015, "U-Net",
    https://arxiv.org/abs/1505.04597, figure 2, for tiles that overlap by what
    the network needs to see.

    Args:
        model: Built Functional or Sequential model with one input and one
            output, from `(batch, height, width, channels)` to a score for each
            pixel and class `(batch, height, width, num_classes)`, such as
            `models.SegNet`.
        image: One image `(height, width, channels)` of integers or floats in
            the range that the model takes (0..255 for those of this package).
            Anything that has `shape` and `dtype` and is read by slices: a
            NumPy array, `np.memmap`, arrays of h5py or zarr; or a raster that
            rasterio has opened, with all its bands.
        tile: int or (height, width), each >= 1. Size of a tile; larger ones
            waste less on the overlap. None: the size that the model takes, if
            it is known.
        overlap: int or (height, width), each >= 0. Pixels that neighboring
            tiles share, at least; the tile must be larger by `stride` or more.
        margin: int or (height, width), from 0 to `overlap // 2`. Pixels at the
            borders between tiles that are thrown away. None: as many as leave
            a pixel or two to fade over, `(overlap - 1) // 2`. Less suits a
            model whose receptive field is larger than any overlap, as SegNet's
            is: seams are softer, and nothing is exact. 0 fades over all of the
            overlap.
        stride: int >= 1. Multiple of the pixels by which the model's output
            moves with its input: the product of the strides of its poolings
            and convolutions along a path, 32 for `models.SegNet`. None: as
            found from the sizes of the tensors in the model.
        class_ids: False for scores, True for the class of the largest.
        flip: Whether to average the probabilities of each tile with those of
            its mirror image (left and right swapped), mirrored back. It takes
            twice the time.
        output: Where to write to, `(height, width, num_classes)` of float32 or
            float64, or for class ids `(height, width)` of integers. Anything
            that has `shape` and `dtype` and takes slices of rows, as `image`;
            or a raster opened for writing, with a band for each class, or one
            for class ids. None: a new array.
        batch_size: int >= 1. Tiles at a time, of one row of tiles. The last
            batch is filled up, so that one graph does for all.
        verbose: 0 silent, 1 progress bar over the tiles.

    Returns:
        `output`, or a new array: float32 `(height, width, num_classes)` of what
        the model gives, logits or probabilities, or of probabilities with
        `flip`; for class ids `(height, width)` of uint8, or int32 with more
        than 256 classes.

    Raises:
        ValueError: An argument breaks the rule that the error names, or the
            model gives NaN or infinity. Rows that were finished before are in
            `output`.

    Edge cases:
        - An image smaller than a tile is one tile of its own size. It is
          mirrored at the bottom and right where the model takes one size only,
          and, up to a multiple of `stride`, where the model does not give
          scores of that size.
        - The size of the image less that of the tile is best a multiple of
          `stride`: then the prediction is exact up to the border. Otherwise
          the last tiles are filled up by mirroring, by less than `stride`
          pixels: near the bottom and right border, as far as the model sees,
          the prediction is another. "same" padding of strided layers counts
          from the end of an image; with such layers nothing is exact then.
        - Of a tile that is no multiple of `stride`, what is over counts as
          `overlap` only at the border of the image.
        - Layers that look at the whole image, such as global pooling, see the
          tile.
        - Strides inside a layer that gives back the size itself are not seen,
          nor those before a model inside the model: give `stride`.
        - Other functions of this package that change the model for a while wait
          in other threads until the prediction is complete.

    Example:
        From file to file, neither of which has to fit in memory:

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
    # All the while, so that all tiles are of the same weights and statistics.
    with _locks.held(every_layer(model)):
        # Rows that are not finished, from the first one of a row of tiles on.
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
    """Whether the model gives scores for each pixel of images of a size."""
    try:
        _check_sizes(model, size)
    except ValueError:
        return False
    return True


def filled_up(size: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """The next multiples of the stride."""
    return tuple(-(-length // stride) * stride for length in size)


def check_tiles(
    model: keras.Model,
    tile: int | Sequence[int] | None,
    overlap: int | Sequence[int],
    stride: int | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Tile, overlap and stride as `predict_tiled` needs them.

    Raises:
        ValueError: They do not fit each other or the model.
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
    """Where tiles lie along one axis, and where they pass to the next one."""

    size: int
    tile: int
    starts: list[int]
    centers: list[float]
    """The middle of what a tile shares with the next one."""
    ramp: int
    """Pixels over which they fade into each other."""

    @classmethod
    def of(
        cls, size: int, tile: int, overlap: int, margin: int, stride: int
    ) -> "_Axis":
        """Tiles at multiples of `stride`, as evenly as that allows."""
        # Pooling windows that a border inside the image cuts do not count.
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
        """Pixels that a tile contributes to, and its share in each.

        A share is what the tile has faded in less what the next one has, so
        that all of them sum to one, whatever number of tiles overlap.
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
        # Without a ramp, a pixel that the middle halves belongs to both.
        return np.clip(distance / max(self.ramp, 1) + 0.5, 0, 1)


class _Raster:
    """A raster of rasterio as an array: read and written by slices."""

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
    """Scores of some tiles of one row.

    Raises:
        ValueError: They are not finite.
    """
    tiles = [_read(image, (top, left), tile) for left in lefts]
    tiles += tiles[-1:] * (batch_size - len(tiles))
    predict = predict_probabilities if flip else predict_scores
    scores = predict(model, np.stack(tiles))[: len(lefts)]
    if not np.isfinite(scores).all():
        raise ValueError(
            "`model` must give finite scores, which can be blended. Received: "
            f"NaN or infinity from {model.name!r}, for tiles of {tile} pixels "
            f"at row {top} and columns {list(lefts)}. Look for such values in "
            "the image and in the weights."
        )
    return scores


def _read(
    image: Any, start: tuple[int, int], tile: tuple[int, ...]
) -> np.ndarray:
    """A tile of the image, mirrored beyond its end."""
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
    """How far the input has to move for every tensor to move by whole pixels.

    Read from how sizes inside the model grow with the size of the image.

    Raises:
        ValueError: They cannot be computed for other sizes, or tell nothing.
    """
    try:
        strides = set(_strides(model))
        if max(strides) > MAX_STRIDE:
            raise ValueError(
                f"a stride that does not divide {PROBE_SIZE}, or is above "
                f"{MAX_STRIDE}"
            )
        return math.lcm(*strides)
    except Exception as error:
        raise ValueError(
            f"`stride` must be given for {model.name!r}, of which the sizes "
            "inside do not tell it: the product of the strides of poolings and "
            "convolutions along a path; 1 if there are none. "
            f"Received: stride=None. {type(error).__name__}: {error}"
        ) from error


def _strides(model: keras.Model) -> Iterator[int]:
    tensors = []
    # A Sequential model has no operations.
    for operation in keras.Model(model.inputs, model.outputs).operations:
        if is_graph(operation):
            yield from _strides(operation)
        else:
            # What it gave when it was first called.
            tensors += keras.tree.flatten(operation.output)
    probe = keras.Model(model.inputs, tensors)
    # Let it take other sizes than the model does.
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
    """The image as something that has a shape and is read by slices.

    Raises:
        ValueError: It holds no numbers, or has another shape.
    """
    if _is_raster(image):
        image = _Raster(image)
    elif keras.ops.is_tensor(image):
        if _backends.is_traced(image):
            raise ValueError(
                "`image` must have values: predict_tiled cannot be compiled. "
                "Call it outside. Received: a traced image"
            )
        image = keras.ops.convert_to_numpy(image)
    elif not hasattr(image, "shape") or not hasattr(image, "dtype"):
        image = np.asarray(image)
    if np.dtype(image.dtype).kind not in "iuf":
        raise ValueError(
            "`image` must hold integers or floats. Received: dtype "
            f"{image.dtype}. A file has to be opened, by numpy.load(path, "
            "mmap_mode='r') or rasterio.open(path)."
        )
    shape = tuple(image.shape)
    if len(shape) != 3 or 0 in shape or shape[-1] != num_channels:
        raise ValueError(
            "`image` must be one image (height, width, channels) with the "
            f"{num_channels} channels that the model takes, and at least one "
            f"pixel. Received: image.shape={shape}. One of a batch is "
            "images[i]."
        )
    return image


def _check_tile(tile: Any, takes: Sequence[int | None]) -> tuple[int, ...]:
    """Height and width of a tile.

    Raises:
        ValueError: They are none, or not those that the model takes.
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
            "`margin` must be at most half of the overlap, since tiles give it "
            f"up on either side. Received: margin={margin!r}, overlap={overlap}"
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
            f"`overlap` must be less than the tile by the stride, {stride}, or "
            "more, where the tile counts in multiples of it. Received: "
            f"overlap={overlap}, tile={tile}. Take larger tiles or a smaller "
            "overlap."
        )


def _check_sizes(model: keras.Model, tile: tuple[int, ...]) -> None:
    """Refuse a tile that the model does not give back in the same size.

    Raises:
        ValueError: As described.
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
            "`tile` must be a size that the model takes, and so must an image "
            f"that is smaller. Received: a tile of {tile} for {model.name!r}: "
            f"{error}"
        ) from error
    if tuple(scores.shape[1:3]) != tile:
        raise ValueError(
            "`model` must give scores for each pixel of a tile. Received: "
            f"{tuple(scores.shape[1:])} for a tile of {tile}. A model that "
            "restores some sizes only may take a tile that is a multiple of "
            "its stride."
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
    """Something that has a dtype and takes slices of rows.

    Raises:
        ValueError: It has another shape, a dtype that does not hold the
            results, or cannot be written to.
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
        # One band is a last axis.
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
            f"integers that count to {num_classes - 1}"
            if class_ids
            else "float32 or float64"
        )
        raise ValueError(
            f"`output` must have the shape {shape} and hold {kind}, with "
            f"class_ids={class_ids}. Received: shape {tuple(target.shape)}, "
            f"dtype {dtype}"
        )
    return target
