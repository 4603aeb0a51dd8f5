"""A decoder stage for networks that are built by hand."""

from typing import Any

import keras

from keras_deconv import _arguments
from keras_deconv._arguments import IntOrInts
from keras_deconv.layers import MaxUnpool2D
from keras_deconv.models import _mirrored
from keras_deconv.models._blocks import LAST

__all__ = ["unpool_stage"]

Tensor = Any


def unpool_stage(
    x: Tensor,
    pooled_from: Tensor,
    argmax: Tensor,
    *,
    filters: int | None = None,
    num_convs: int = 2,
    skip: str | bool = False,
    pool_size: IntOrInts = 2,
    strides: IntOrInts | None = None,
    padding: str = "valid",
    index_format: str = "window",
    overlap: str = "sum",
    name: str,
) -> Tensor:
    """Undo one max pooling of a functional model: unpool, then convolve.

    Max unpooling needs values with the channels of the index. Where `x` has
    another number, a convolution of 1x1 with batch normalization, as in ENet,
    comes first.

    Args:
        x: Symbolic tensor `(batch, height, width, channels)` of any float
            dtype: what the decoder has so far.
        pooled_from: Symbolic tensor that was pooled; its height and width are
            restored, unknown ones included.
        argmax: The index that `MaxPoolWithArgmax2D` gave for it.
        filters: int >= 1. Filters of the convolutions. None takes the channels
            of `pooled_from`; required with `num_convs=0`.
        num_convs: int >= 0. Number of 3x3 convolutions, each with batch
            normalization and ReLU.
        skip: Whether `pooled_from` joins after the unpooling: False, "concat"
            (U-Net) or "add".
        pool_size: As in the pooling layer.
        strides: As in the pooling layer.
        padding: As in the pooling layer.
        index_format: As in the pooling layer.
        overlap: "sum" or "mean", as in `MaxUnpool2D`.
        name: What the names of the layers begin with: `<name>_unpool`,
            `<name>_conv1` and so on.

    Returns:
        Symbolic tensor with the height and width of `pooled_from`. It has
        `filters` channels; with `num_convs=0`, those of `pooled_from`, or twice
        as many with `skip="concat"`.

    Raises:
        ValueError: If an argument is not as described, or if `argmax` does not
            have the height and width of `x`.

    Example:
        >>> import keras, keras_deconv
        >>> image = keras.Input((None, None, 3))
        >>> features = keras.layers.Conv2D(8, 3, padding="same")(image)
        >>> x, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(
        ...     features
        ... )
        >>> x = keras.layers.Conv2D(16, 3, padding="same")(x)
        >>> y = keras_deconv.models.unpool_stage(
        ...     x, features, argmax, padding="same", name="decoder1"
        ... )
        >>> keras.Model(image, y).compute_output_shape((1, 45, 61, 3))
        (1, 45, 61, 8)
    """
    for tensor, argument in (
        (x, "x"),
        (pooled_from, "pooled_from"),
        (argmax, "argmax"),
    ):
        _arguments.one_of_class(
            tensor,
            argument,
            keras.KerasTensor,
            "a symbolic tensor of a functional model",
        )
    _arguments.text(name, "name")
    num_convs = _arguments.natural_int(num_convs, "num_convs")
    skip = _mirrored.check_skips(skip, "skip")
    if filters is not None and not num_convs:
        raise ValueError(
            "`filters` must be None with num_convs=0: they are those of the "
            f"convolutions. Received: filters={filters!r}"
        )
    if filters is None:
        filters = pooled_from.shape[-1]
    filters = _arguments.positive_int(filters, "filters")
    x = _mirrored.project_and_unpool(
        x,
        argmax,
        like=pooled_from,
        unpool=MaxUnpool2D(
            pool_size,
            strides,
            padding,
            data_format=LAST,
            index_format=index_format,
            overlap=overlap,
            name=f"{name}_unpool",
        ),
    )
    if skip:
        x = _mirrored.join(x, pooled_from, str(skip), f"{name}_skip")
    return _mirrored.convolve(x, [filters] * num_convs, prefix=name)
