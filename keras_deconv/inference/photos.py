"""Prediction of photos: files, folders and arrays of any size."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from keras_deconv import _arguments, _graphs, _locks, _resizing, _runs
from keras_deconv.inference import tiled
from keras_deconv.inference._scores import predict_probabilities

__all__ = ["Prediction", "predict"]

ORIGINAL = "original"
# Tile, overlap and stride of `predict_tiled`.
_Tiles: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], int]
# Of a tile, which neighboring tiles share unless `overlap` is given.
_OVERLAP_SHARE = 8


class Prediction(NamedTuple):
    """One photo and the class of each of its pixels.

    Attributes:
        path: `pathlib.Path` of the file; None for an array.
        image: The image as the file shows it, turned by its EXIF orientation:
            `(height, width, channels)` in 0..255, uint8 or, with a value range,
            float32.
        mask: uint8 `(height, width)`: the class id of each pixel.

    Example:
        >>> import numpy as np
        >>> from keras_deconv import inference, models
        >>> model = models.SegNetBasic((48, 64, 3), num_classes=4)
        >>> photo = np.zeros((100, 150, 3), "uint8")
        >>> [prediction] = inference.predict(model, photo)
        >>> prediction.path is None, prediction.mask.shape
        (True, (100, 150))
    """

    path: pathlib.Path | None
    image: np.ndarray
    mask: np.ndarray


def predict(
    model: keras.Model | str | os.PathLike[str],
    images: Any,
    *,
    image_size: Sequence[int] | str | None = None,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] | None = None,
    flip: bool = False,
    value_range: Sequence[float] | None = None,
) -> Iterator[Prediction]:
    """Predict the classes of photos of any size, one after the other.

    `keras-deconv predict` does the same and writes the masks to files. A photo
    is resized to `image_size`, and the probabilities of the classes are resized
    back, so that a mask has the size of its photo. With `tile`, or with
    `image_size="original"`, nothing is resized.

    Args:
        model: Functional or Sequential model from images `(batch, height,
            width, channels)` in 0..255 to logits or probabilities `(batch,
            height, width, num_classes)`; or the path of a folder that
            `keras-deconv train` wrote, or of a `.keras` file.
        images: File name; folder, of which all images are predicted, those in
            folders below included; array or tensor `(height, width, channels)`
            or gray, `(height, width)`; or several of them: an array with
            a batch axis, or any iterable of file names and arrays. Files are
            read as `data.from_folders` reads them. Arrays must be uint8 unless
            `value_range` is given.
        image_size: Two ints, the height and width that the model gets. None
            takes the size of the training if `model` is a path and `run.json`
            lies beside the model, else the size that the model takes, and else
            that of the photo. `"original"` takes the size of the photo.
        tile: int or (height, width), each >= 1. Predict photos at their own
            size, tile by tile, as `predict_tiled` does. It suits photos that
            do not fit into memory at their own size.
        overlap: int or (height, width), each >= 0. Pixels that neighboring
            tiles share. Defaults to an eighth of the tile.
        flip: Whether to average the probabilities with those of the mirror
            image (left and right swapped), mirrored back. It takes twice the
            time.
        value_range: Tuple (low, high) of the image values that become 0 and
            255, such as (0, 65535) for 16-bit files. Defaults to that of the
            training, as `image_size`; else to none, for 8-bit images.

    Returns:
        Iterator of `Prediction`, in the order of the images and, in a folder,
        of the names. Only one photo is in memory at a time. Photos are read and
        predicted when the iterator gets to them. After an error it goes on
        with the next one.

    Raises:
        ValueError: If `model` does not exist or does not segment images; if
            `images` are not as described or a folder does not hold images; if
            a size, `overlap` or `flip` is not as described; if `tile` and
            `image_size` are both given, or `overlap` without `tile`; if the
            model takes images of one size only, and another one is asked for;
            if the model does not give scores for each pixel at `image_size`,
            which is not a multiple of its stride.
            From the iterator, with the name of the file: if an image cannot be
            read, does not fit `value_range` or the channels of the model, or
            the scores of the model are not finite.

    Edge cases:
        - A model that was built for one size is predicted at others with the
          same layers, if all of them take any size.
        - A photo at its own size is mirrored at the bottom and right, up to a
          multiple of the model's stride, if the model does not give scores of
          that size.
        - A network knows objects of the size that it was trained with. Where
          photos were reduced for the training, `"original"` and `tile` show it
          larger ones.
        - Grayscale photos are repeated for a model of three channels, and
          color is reduced to gray for a model of one.
        - Images are resized with TensorFlow, on every backend.

    Example:
        >>> import pathlib, tempfile
        >>> import PIL.Image
        >>> from keras_deconv import data, inference, models
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     models.SegNetBasic((48, 64, 3), 6).save(f"{folder}/model.keras")
        ...     photos = pathlib.Path(folder, "photos")
        ...     photos.mkdir()
        ...     for number in range(2):
        ...         image, _ = data.draw_scene(number)
        ...         PIL.Image.fromarray(image).save(photos / f"{number}.png")
        ...     for path, image, mask in inference.predict(folder, photos):
        ...         print(path.name, image.shape, mask.shape)
        0.png (96, 128, 3) (96, 128)
        1.png (96, 128, 3) (96, 128)
    """
    trained = _runs.Images()
    if isinstance(model, str | os.PathLike):
        model, trained = _runs.load(model)
    else:
        _graphs.check_graph(model)
        _runs.check_segments(model, f"{model.name!r}")
    if image_size is None and tile is None:
        image_size = trained.image_size
    label = labeler(
        model, image_size=image_size, tile=tile, overlap=overlap, flip=flip
    )
    limits = _arguments.value_range(value_range) or trained.value_range
    channels = model.inputs[0].shape[-1]

    def predict_one(numbered: tuple[int, Any]) -> Prediction:
        number, source = numbered
        if isinstance(source, str | os.PathLike):
            path = pathlib.Path(source).expanduser()
            name, image = str(path), read(path, channels, limits)
        else:
            path, name = None, f"images[{number}]"
            image = _read_array(source, name, channels, limits)
        try:
            return Prediction(path, image, label(image))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    # Not a generator, which would end with the first error.
    return map(predict_one, enumerate(_listed(images)))


@dataclasses.dataclass(frozen=True)
class Labeler:
    """How an image gets its mask.

    Args:
        model: The model, for images of any size where that is needed.
        size: Height and width that images are resized to; None if they keep
            theirs.
        flip: Whether probabilities are averaged with those of the mirror image.
        tiles: Tile, overlap and stride of `predict_tiled`, or None.
        built: The model as it was built, whose sizes tell its stride.
    """

    model: keras.Model
    size: tuple[int, ...] | None
    flip: bool
    tiles: _Tiles | None
    built: keras.Model

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the mask of an image, of its size.

        Raises:
            ValueError: If the scores of the model are not finite.
        """
        tiles = self.tiles
        if not tiles and not self.size:
            tiles = self.one_tile(image.shape[:2])
        if tiles:
            tile, overlap, stride = tiles
            mask: np.ndarray = tiled.predict_tiled(
                self.model,
                image,
                tile,
                overlap,
                stride=stride,
                class_ids=True,
                flip=self.flip,
                verbose=0,
            )
            return mask
        with _locks.held(_graphs.every_layer(self.model)):
            probabilities = predict_probabilities(
                self.model, self.batch(image), self.flip
            )
        return most_probable(probabilities, image.shape[:2])

    def one_tile(self, size: tuple[int, ...]) -> _Tiles | None:
        """Return a tile to fill up an image to, if the model needs that.

        Without it, networks whose poolings round an odd size down would fail,
        or move their scores.
        """
        if tiled.restores(self.model, size):
            return None
        # Of some models the stride is not known; they may take the image.
        with contextlib.suppress(ValueError):
            stride = tiled.stride_of(self.built)
            tile = tiled.filled_up(size, stride)
            if tiled.restores(self.model, tile):
                return tile, (0, 0), stride
        return None

    def batch(self, image: np.ndarray) -> np.ndarray:
        """Return the image as the model gets it, float32, as a batch."""
        batch = image[None]
        if self.size:
            batch = _resizing.images(batch, self.size)
        return np.asarray(batch, "float32")


def labeler(
    model: keras.Model,
    *,
    image_size: Sequence[int] | str | None = None,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] | None = None,
    flip: bool = False,
) -> Labeler:
    """Return what gives an image its mask; arguments as in `predict`.

    Raises:
        ValueError: As in `predict`.
    """
    _graphs.check_graph(model)
    _arguments.boolean(flip, "flip")
    built, takes = model, tuple(model.inputs[0].shape[1:3])
    if tile is not None:
        if image_size is not None:
            raise ValueError(
                "`tile` predicts images at their own size, so it does not go "
                f"with `image_size`. Received: tile={tile!r}, "
                f"image_size={image_size!r}"
            )
        tile = _arguments.ints(tile, 2, "tile", 1)
        if overlap is None:
            overlap = tuple(length // _OVERLAP_SHARE for length in tile)
        # Of the model itself: layers that two models share tell the sizes of
        # the first one.
        try:
            stride = tiled.stride_of(model)
        except ValueError as error:
            raise ValueError(
                "`tile` needs a model whose layers tell its stride, by how "
                "sizes inside it grow with the image. Received: "
                f"{model.name!r}. In Python, give the stride to "
                "keras_deconv.inference.predict_tiled."
            ) from error
        if takes != tile:
            model = _graphs.of_any_size(model)
        tiles = tiled.check_tiles(model, tile, overlap, stride)
        return Labeler(model, None, flip, tiles, built)
    if overlap is not None:
        raise ValueError(
            "`overlap` is what tiles share, so it goes with `tile`. "
            f"Received: overlap={overlap!r} and tile=None"
        )
    size = _checked_size(image_size, takes)
    if size != takes:
        model = _graphs.of_any_size(model)
    label = Labeler(model, size, flip, None, built)
    if size and size != takes and (whole := label.one_tile(size)):
        raise ValueError(
            "`image_size` must be a size of which the model gives scores for "
            f"each pixel. Received: image_size={size} for {built.name!r}. "
            f"Choose multiples of its stride, {whole[-1]}, such as {whole[0]}."
        )
    return label


def _checked_size(
    image_size: Any, takes: tuple[int | None, ...]
) -> tuple[int, ...] | None:
    if image_size is None:
        image_size = ORIGINAL if None in takes else takes
    if isinstance(image_size, str):
        if image_size != ORIGINAL:
            raise ValueError(
                "`image_size` must be (height, width), 'original' or None. "
                f"Received: image_size={image_size!r}"
            )
        return None
    return _arguments.ints(image_size, 2, "image_size", minimum=1)


def most_probable(
    probabilities: np.ndarray, size: tuple[int, ...]
) -> np.ndarray:
    """Return the class of each pixel, from probabilities resized to `size`.

    Class by class, since all of them at the size of a photo take gigabytes.

    Raises:
        ValueError: If the probabilities are not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError(
            "The model's scores are not finite. Look for NaN and infinity in "
            "its weights."
        )
    mask = np.zeros(size, "uint8")
    highest = np.full(size, -np.inf, "float32")
    for number in range(probabilities.shape[-1]):
        scores = probabilities[..., number : number + 1]
        resized = _resizing.scores(scores, size).numpy()[0, ..., 0]
        # The first of equal ones, as argmax.
        mask[resized > highest] = number
        np.maximum(resized, highest, out=highest)
    return mask


def read(
    path: str | os.PathLike[str],
    channels: int,
    value_range: Sequence[float] | None,
) -> np.ndarray:
    """Read a file for a model of so many channels.

    Raises:
        ValueError: If that is not possible; the error begins with the path.
    """
    # They bring tensorflow-datasets along: imported when used.
    from keras_deconv.data import _errors, _images

    try:
        return _images.read_image(
            path, channels=channels, value_range=value_range
        )
    except _images.ChannelsError as error:
        raise _other_channels(
            _errors.printable(path), error.found, channels
        ) from None


def _read_array(
    values: Any,
    name: str,
    channels: int,
    value_range: tuple[float, float] | None,
) -> np.ndarray:
    from keras_deconv.data import _images

    if keras.ops.is_tensor(values):
        values = keras.ops.convert_to_numpy(values)
    try:
        values = _arguments.array(values, "images")
    except ValueError as error:
        raise ValueError(
            f"{name}: An image must be a file name or an array of numbers "
            f"(height, width, channels). Received: a {type(values).__name__}. "
            "Of a dataset of images and masks, pass the images alone: "
            "dataset.unbatch().map(lambda image, mask: image)."
        ) from error
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or not values.size or values.dtype.kind not in "iuf":
        raise ValueError(
            f"{name}: An image must be a file name or an array of numbers "
            "(height, width, channels), with at least one pixel. Received: "
            f"shape {values.shape}, dtype {values.dtype.name}"
        )
    try:
        return _images.from_array(values, name, channels, value_range)
    except _images.ChannelsError as error:
        raise _other_channels(name, error.found, channels) from None


def _other_channels(name: str, found: int, channels: int) -> ValueError:
    return ValueError(
        f"{name}: It has {found} channels, and the model takes {channels}."
    )


def _listed(images: Any) -> Iterable[Any]:
    """Files and arrays, from whatever `predict` takes."""
    if isinstance(images, str | os.PathLike):
        return _files_of(pathlib.Path(images).expanduser())
    ndim = getattr(images, "ndim", None)
    if ndim in (2, 3):
        return [images]
    if ndim == 0 or not isinstance(images, Iterable):
        raise ValueError(
            "`images` must be a file name, a folder, an array, or an iterable "
            f"of file names and arrays. Received: images={images!r}"
        )
    return images


def _files_of(path: pathlib.Path) -> list[pathlib.Path]:
    from keras_deconv.data import _images, _pairs

    if not path.exists():
        raise ValueError(
            "`images` must be a file or a folder that exists. Received: "
            f"images={str(path)!r}"
        )
    if not path.is_dir():
        return [path]
    files = _pairs.list_pictures(path)
    if not files:
        raise ValueError(
            "`images` must be a folder with images "
            f"({', '.join(_images.IMAGE_SUFFIXES)}). Received: "
            f"images={str(path)!r}, which does not contain any"
        )
    return files
