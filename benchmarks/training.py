"""Packed images, batches, recipes and scores, for camvid.py and gpu.py.

It needs Keras with any backend, NumPy and this package, but TensorFlow and
tensorflow-datasets only to read the images from tfds.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_deconv import inference, losses, metrics, models

VOID = 255
SPLITS = ("train", "validation", "test")
# As `keras-deconv train --augment` has them.
LARGEST_SCALE = 1.5
BRIGHTNESS = 0.1 * 255
# The batch size of `keras-deconv evaluate`. Rounding of convolutions depends on
# it, and changes the class of a few pixels.
SCORED_AT_ONCE = 8

Arrays = dict[str, np.ndarray]


# Images


def read_tfds(
    name: str,
    image_size: tuple[int, int],
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> Arrays:
    """Return the images and masks that `data.load` reads, as arrays.

    Returns:
        Dict of arrays. For each split, "SPLIT_images" has the shape (count,
        height, width, 3), and "SPLIT_masks" has the shape (count, height,
        width) and 255 for void. Both have the dtype uint8. The other arrays
        are the names and colors of the classes, and the class weights of each
        scheme.
    """
    from keras_deconv import data

    where = dict(data_dir=data_dir, manual_dir=manual_dir)
    entry = data.describe(name)
    arrays = {
        "class_names": np.array(entry.class_names),
        "palette": np.array(entry.palette, "uint8"),
    }
    for split in data.splits(name, **where):
        pairs = data.load(
            name,
            split,
            image_size=image_size,
            batch_size=1,
            shuffle=False,
            cache=False,
            **where,
        )
        images, masks = zip(*pairs.as_numpy_iterator(), strict=True)
        # Resized images are rounded, as CamVid has integers.
        arrays[f"{split}_images"] = np.concatenate(images).astype("uint8")
        arrays[f"{split}_masks"] = np.concatenate(masks).astype("uint8")
        if split == "train":
            counted = data.class_frequencies(
                pairs, entry.num_classes, verbose=0
            )
    arrays["median_weights"] = data.median_frequency_weights(counted)
    arrays["enet_weights"] = data.enet_weights(counted)
    arrays["segnet_weights"] = data.CAMVID_SEGNET_CLASS_WEIGHTS
    arrays["none_weights"] = np.ones(entry.num_classes)
    return {key: np.asarray(array) for key, array in arrays.items()}


def pack(arrays: Arrays, file: Path) -> None:
    part = file.with_name(f".{file.name}.part.npz")
    np.savez_compressed(part, **arrays)
    part.replace(file)


def unpack(file: Path) -> Arrays:
    with np.load(file) as packed:
        return {key: packed[key] for key in packed}


def size_of(arrays: Arrays) -> tuple[int, int]:
    return arrays["train_masks"].shape[1:]


class Batches(keras.utils.PyDataset):
    """Batches of float32 images and int32 masks.

    In their order, or, with `draw=(seed, epoch)`, in one that depends on these
    two numbers alone, as do the changes of the images.
    """

    def __init__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        batch_size: int,
        *,
        draw: tuple[int, int] | None = None,
        augment: bool = False,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers)
        self.images = images
        self.masks = masks
        self.batch_size = batch_size
        self.draw = draw
        self.augment = augment
        self.order = np.arange(len(images))
        if draw is not None:
            np.random.default_rng(draw).shuffle(self.order)

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        first = number * self.batch_size
        chosen = self.order[first : first + self.batch_size]
        images, masks = self.images[chosen], self.masks[chosen]
        if self.augment:
            pairs = [
                augmented(*pair, np.random.default_rng((*self.draw, index)))
                for *pair, index in zip(images, masks, chosen, strict=True)
            ]
            images, masks = map(np.stack, zip(*pairs, strict=True))
        return images.astype("float32"), masks.astype("int32")


def augmented(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror, enlarge and brighten at random.

    The kinds and ranges of changes are those of `keras-deconv train --augment`,
    which needs TensorFlow. The random numbers are different.
    """
    factor = rng.uniform(1, LARGEST_SCALE)
    rows, columns = (_visible(n, factor, rng) for n in mask.shape)
    if rng.random() < 0.5:
        columns = columns[::-1]
    image = image.astype("float32")
    for axis, coordinates in enumerate((rows, columns)):
        image = _between(image, coordinates, axis)
    mask = mask[np.ix_(*(np.rint(x).astype(int) for x in (rows, columns)))]
    image += np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    return np.clip(image, 0, 255), mask


def _visible(
    length: int, factor: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the source positions of the visible pixels of an enlarged axis."""
    begin = rng.uniform(0, (factor - 1) * length)
    centers = (np.arange(length) + 0.5 + begin) / factor - 0.5
    return np.clip(centers, 0, length - 1)


def _between(
    image: np.ndarray, coordinates: np.ndarray, axis: int
) -> np.ndarray:
    """Linear interpolation along an axis."""
    low = np.floor(coordinates).astype(int)
    high = np.minimum(low + 1, image.shape[axis] - 1)
    shape = [1] * image.ndim
    shape[axis] = -1
    share = (coordinates - low).astype("float32").reshape(shape)
    before, after = image.take(low, axis), image.take(high, axis)
    return before + share * (after - before)


# Networks


class Recipe(NamedTuple):
    """A network, and how it is trained unless options say otherwise."""

    build: Callable[..., keras.Model]
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    class_weights: str
    l2: float


_SEGNET = dict(
    epochs=60,
    batch_size=4,
    learning_rate=2e-3,
    schedule="cosine",
    class_weights="median",
    l2=0.0,
)
RECIPES = {
    "segnet_basic": Recipe(models.SegNetBasic, **_SEGNET),
    "bayesian_segnet_basic": Recipe(models.BayesianSegNetBasic, **_SEGNET),
    "segnet": Recipe(models.SegNet, **_SEGNET),
    # As its authors train it, but in one stage.
    "enet": Recipe(
        models.ENet,
        epochs=300,
        batch_size=10,
        learning_rate=5e-4,
        schedule="steps",
        class_weights="enet",
        l2=2e-4,
    ),
}


def cosine(learning_rate: float, num_steps: int) -> Any:
    return keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)


def steps(learning_rate: float, num_steps: int) -> Any:
    """A tenth after each third of the training."""
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [num_steps // 3, num_steps * 2 // 3],
        [learning_rate, learning_rate / 10, learning_rate / 100],
    )


SCHEDULES = {"cosine": cosine, "steps": steps}


def scores_of(num_classes: int, *, boundaries: bool = False) -> list[Any]:
    """New metrics, which count as the SegNet authors do."""
    found = [
        metrics.GlobalAccuracy(num_classes),
        metrics.ClassAccuracy(num_classes, absent_classes="zero"),
        metrics.MeanIoU(num_classes, absent_classes="zero"),
    ]
    if boundaries:
        found.append(metrics.BoundaryF1(num_classes))
    return found


def compile_for_training(
    model: keras.Model,
    arrays: Arrays,
    learning_rate: Any,
    class_weights: str,
    l2: float = 0.0,
) -> None:
    weights = arrays[f"{class_weights}_weights"].tolist()
    if l2:
        # Coupled, as in Torch: the gradient of a weight w grows by l2 * w.
        for weight in model.trainable_weights:
            weight.regularizer = keras.regularizers.L2(l2 / 2)
    model.compile(
        keras.optimizers.Adam(learning_rate),
        losses.SegmentationCrossentropy(class_weights=weights),
        metrics=scores_of(len(weights)),
    )


def recompute_statistics(
    model: keras.Model, arrays: Arrays, batch_size: int
) -> None:
    """Recompute the batch statistics, with the final weights."""
    images = Batches(arrays["train_images"], arrays["train_masks"], batch_size)
    models.recompute_batch_statistics(model, images, verbose=0)


# Scores


def measure(
    model: keras.Model,
    arrays: Arrays,
    split: str,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, float], dict[str, dict[str, float | None]]]:
    """Return the scores of all classes together, and of each class.

    With `samples`, average this number of predictions with dropout.
    """
    class_names = arrays["class_names"].tolist()
    images, masks = arrays[f"{split}_images"], arrays[f"{split}_masks"]
    if samples is not None:
        images = inference.predict_monte_carlo(
            model, images, samples, seed=seed, verbose=0
        ).probabilities
        model = _identity(len(class_names))
    found = scores_of(len(class_names), boundaries=True)
    model.compile(loss=losses.SegmentationCrossentropy(), metrics=found)
    overall = model.evaluate(
        Batches(images, masks, SCORED_AT_ONCE),
        verbose=0,
        return_dict=True,
    )
    by_metric = {
        metric.name: metric.per_class_by_name(class_names)
        for metric in found
        if hasattr(metric, "per_class_by_name")
    }
    return (
        {metric.name: float(overall[metric.name]) for metric in found},
        {
            name: {key: column[name] for key, column in by_metric.items()}
            for name in class_names
        },
    )


def _identity(num_classes: int) -> keras.Model:
    """Return a model that returns its inputs, which are predictions."""
    inputs = keras.Input((None, None, num_classes))
    return keras.Model(inputs, keras.layers.Activation("linear")(inputs))
