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
# By default, neighboring tiles share this fraction of a tile.
_OVERLAP_SHARE = 8


class Prediction(NamedTuple):
    """A photo and the class of each of its pixels.

    `predict` returns an iterator of it.

    Attributes:
        path: `pathlib.Path` of the file, or None for an array.
        image: `(height, width, channels)` in 0..255, rotated by its EXIF
            orientation. uint8, or float32 if a value range is given.
        mask: uint8 `(height, width)`. Class id of each pixel.

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
    """Predict the classes of photos of any size, one photo at a time.

    Use it to get a mask of the original size for each photo, without code for
    reading, resizing and padding. The command `keras-deconv predict` does the
    same and writes the masks to files. A photo is resized to `image_size`, and
    the class probabilities are resized back, so the mask has the size of the
    photo. With `tile`, or with `image_size="original"`, nothing is resized.

    Args:
        model: Functional or Sequential `keras.Model` that maps images `(batch,
            height, width, channels)` in 0..255 to logits or probabilities
            `(batch, height, width, num_classes)`; or the path of a folder that
            `keras-deconv train` wrote, or of a `.keras` file.
        images: File name; folder, whose images are all predicted, including
            those in subfolders; array or tensor `(height, width, channels)` or,
            for grayscale, `(height, width)`. For several images: an array with
            a batch axis, or any iterable of file names and arrays. Files are
            read as by `data.from_folders`. Arrays must be uint8 unless
            `value_range` is given.
        image_size: Two ints >= 1, the height and width that the model gets;
            "original" for the size of the photo; or None. If `model` is a path
            with a `run.json` beside the model, None takes the size of the
            training. Otherwise it takes the input size of the model, or the
            size of the photo if the model takes images of any size.
        tile: int or (height, width), each >= 1, in pixels. Predict photos at
            their original size, tile by tile, as `predict_tiled` does. Use it
            for photos that do not fit into memory at their original size.
        overlap: int or (height, width), each >= 0. Number of pixels that
            neighboring tiles share. The default is an eighth of the tile.
        flip: bool. Whether to average the probabilities with those of the
            mirror image (left and right swapped), mirrored back. This takes
            twice the time.
        value_range: Tuple (low, high) of the image values that become 0 and
            255, such as (0, 65535) for 16-bit files. The default is the range
            of the training if `run.json` has one. Otherwise images must be
            8-bit.

    Returns:
        Iterator of `Prediction`, in the order of `images`; files of a folder
        are in the order of their names. Photos are read and predicted when the
        iterator reaches them, so only one is in memory at a time. After an
        error, the iterator continues with the next photo.

    Raises:
        ValueError: If `model` does not exist or does not segment images.
        ValueError: If `images` is neither of the listed kinds, or is a folder
            without images.
        ValueError: If `image_size`, `tile`, `overlap`, `flip` or `value_range`
            is not of the listed kinds.
        ValueError: If both `tile` and `image_size` are given, or `overlap`
            without `tile`.
        ValueError: If the model only supports images of another size.
        ValueError: If the model does not return one score per pixel at
            `image_size`, because it is not a multiple of the model's stride.
        ValueError: From the iterator, with the name of the file: if an image
            cannot be read, exceeds `value_range`, or has other channels than
            the model takes; or if scores are not finite.

    Edge cases:
        - A model that was built for one size predicts other sizes with the same
          layers, if all of its layers support any size.
        - A photo at its original size is padded by mirroring at the bottom and
          right, up to a multiple of the model's stride, if the model does not
          return scores of that size.
        - A network recognizes objects of the sizes that it was trained with. If
          photos were downsampled for the training, objects are larger with
          "original" and `tile`.
        - Grayscale photos are repeated for a model with three channels, and
          color photos are converted to grayscale for a model with one channel.
        - Images are resized with TensorFlow on every backend.

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

    # A generator would end with the first error.
    return map(predict_one, enumerate(_listed(images)))


@dataclasses.dataclass(frozen=True)
class Labeler:
    """Function that predicts the mask of an image.

    Args:
        model: The model, for images of any size if required.
        size: Height and width for resizing; None does not resize.
        flip: Whether probabilities are averaged with those of the mirror image.
        tiles: Tile, overlap and stride of `predict_tiled`, or None.
        built: The original model, whose sizes determine its stride.
    """

    model: keras.Model
    size: tuple[int, ...] | None
    flip: bool
    tiles: _Tiles | None
    built: keras.Model

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the mask of an image, with the size of the image.

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
        """Return a tile that contains an image, or None if it is not required.

        Networks whose poolings round an odd size down would otherwise fail, or
        shift their scores.
        """
        if tiled.restores(self.model, size):
            return None
        # Models of unknown stride may still support the image as it is.
        with contextlib.suppress(ValueError):
            stride = tiled.stride_of(self.built)
            tile = tiled.filled_up(size, stride)
            if tiled.restores(self.model, tile):
                return tile, (0, 0), stride
        return None

    def batch(self, image: np.ndarray) -> np.ndarray:
        """Return the image as a float32 batch for the model."""
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
    """Return a `Labeler`, with arguments as in `predict`.

    Raises:
        ValueError: If an argument of `predict` is not valid.
    """
    _graphs.check_graph(model)
    _arguments.boolean(flip, "flip")
    built, takes = model, tuple(model.inputs[0].shape[1:3])
    if tile is not None:
        if image_size is not None:
            raise ValueError(
                "`tile` cannot be combined with `image_size`, because it "
                "predicts images at their original size. Received: "
                f"tile={tile!r}, image_size={image_size!r}"
            )
        tile = _arguments.ints(tile, 2, "tile", 1)
        if overlap is None:
            overlap = tuple(length // _OVERLAP_SHARE for length in tile)
        # From the original model: layers that two models share report the sizes
        # of the first one.
        try:
            stride = tiled.stride_of(model)
        except ValueError as error:
            raise ValueError(
                "`tile` needs a model whose stride can be computed from the "
                f"sizes inside it. Received: {model.name!r}. In Python, pass "
                "the stride to keras_deconv.inference.predict_tiled."
            ) from error
        if takes != tile:
            model = _graphs.of_any_size(model)
        tiles = tiled.check_tiles(model, tile, overlap, stride)
        return Labeler(model, None, flip, tiles, built)
    if overlap is not None:
        raise ValueError(
            "`overlap` requires `tile`, because it is what tiles share. "
            f"Received: overlap={overlap!r} and tile=None"
        )
    size = _checked_size(image_size, takes)
    if size != takes:
        model = _graphs.of_any_size(model)
    label = Labeler(model, size, flip, None, built)
    if size and size != takes and (whole := label.one_tile(size)):
        raise ValueError(
            "`image_size` must be a size for which the model returns one score "
            f"per pixel. Received: image_size={size} for {built.name!r}. "
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

    Classes are resized one by one, because all of them at the size of a photo
    take gigabytes.

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
        # The first of equal classes wins, as in argmax.
        mask[resized > highest] = number
        np.maximum(resized, highest, out=highest)
    return mask


def read(
    path: str | os.PathLike[str],
    channels: int,
    value_range: Sequence[float] | None,
) -> np.ndarray:
    """Read a file for a model with the given number of channels.

    Raises:
        ValueError: If the file cannot be read; the message starts with its
            path.
    """
    # Imported here because these modules import tensorflow-datasets.
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
            "For a dataset of images and masks, pass only the images: "
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
        f"{name}: The image has {found} channels, but the model takes "
        f"{channels}."
    )


def _listed(images: Any) -> Iterable[Any]:
    """Return an iterable of files and arrays for `images` of `predict`."""
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
