"""Shuffling and augmentation of an epoch, determined by its seed."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from keras_deconv.data._errors import require

Augment: TypeAlias = Callable[..., tuple[tf.Tensor, tf.Tensor]]


def drawn_by_epoch(
    pairs: tf.data.Dataset,
    shuffle_size: int,
    augment: Augment | None,
    seed: int | None,
    epoch: tf.Variable | None,
) -> tf.data.Dataset:
    """Shuffle and augment pairs with a new seed in every epoch."""
    if seed is None:
        # Drawn with `random`, so that keras.utils.set_random_seed determines
        # it.
        seed = random.getrandbits(31)

    def draw(epoch_seed: tf.Tensor) -> tf.data.Dataset:
        if not tf.executing_eagerly():
            # TensorFlow combines its global seed with the seed of the
            # operation. It fails if the global seed is 0 and the other one is a
            # tensor. This call only affects the graph of this function.
            tf.random.set_seed(1)
        drawn = pairs
        if shuffle_size:
            drawn = drawn.shuffle(
                shuffle_size, seed=epoch_seed, reshuffle_each_iteration=False
            )
        if augment is not None:
            drawn = drawn.enumerate().map(
                _augmenting(augment, epoch_seed),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        return drawn

    if epoch is None:
        numbers = tf.data.Dataset.random(
            seed, rerandomize_each_iteration=True
        ).take(1)
    else:
        numbers = tf.data.Dataset.from_tensors(seed).map(
            lambda seed: _mixed(seed, epoch)
        )
    epochs = numbers.flat_map(draw)
    cardinality = int(pairs.cardinality())
    return (
        epochs.apply(tf.data.experimental.assert_cardinality(cardinality))
        if cardinality >= 0
        else epochs
    )


def _mixed(seed: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Return a seed, an int64 scalar, that differs for every number."""
    seed = tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])
    return tf.random.stateless_uniform(
        [], seed, maxval=2**31 - 1, dtype=tf.int64
    )


def _augmenting(
    augment: Augment, epoch_seed: tf.Tensor
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Return a function that applies `augment` and checks its results."""
    parameters = inspect.signature(augment).parameters
    options: dict[str, Any] = {}
    if "check_values" in parameters:
        # The pipeline has already scaled images to 0..255. A dark image may
        # contain only values in 0..1, which the check would refuse.
        options["check_values"] = False
    takes_seed = "seed" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )

    def augment_pair(
        number: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image, mask = pair
        num_channels = image.shape[-1]
        image, mask = tf.cast(image, tf.float32), tf.cast(mask, tf.int32)
        if takes_seed:
            options["seed"] = tf.stack([epoch_seed, number])
        pair = augment(image, mask, **options)
        if isinstance(pair, tuple) and len(pair) == 2:
            image, mask = (tf.convert_to_tensor(element) for element in pair)
            ranks = image.shape.rank or 3, mask.shape.rank or 2
            if ranks == (3, 2) and mask.dtype.is_integer:
                image_size, mask_size = tf.shape(image)[:2], tf.shape(mask)
                require(
                    tf.reduce_all(image_size == mask_size),
                    [
                        "`augment` must return an image and a mask of the same "
                        "size. Received (height, width): ",
                        tf.strings.format("{} and {}", (image_size, mask_size)),
                    ],
                )
                return (
                    tf.ensure_shape(image, (None, None, num_channels)),
                    tf.ensure_shape(mask, (None, None)),
                )
        raise ValueError(
            "`augment` must return a tuple (image, mask): image (height, width,"
            " channels), and mask (height, width) of an integer dtype. "
            f"Received: {pair}"
        )

    return augment_pair
