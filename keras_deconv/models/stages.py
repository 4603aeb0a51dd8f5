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
    """Add a decoder stage to a functional model: unpooling and convolutions.

    Use it to add an unpooling decoder to a network that you build layer by
    layer. For a finished encoder, `EncoderDecoder` builds all stages. The stage
    unpools `x` with the index of one max pooling, optionally joins the
    encoder's features, and applies 3x3 convolutions with batch normalization
    and ReLU. If `x` and the index differ in the number of channels, a 1x1
    convolution with batch normalization comes first, as in ENet.

    Args:
        x: Symbolic tensor `(batch, height, width, channels)` of any float
            dtype: the current output of the decoder.
        pooled_from: Symbolic tensor: the input of the max pooling. The stage
            restores its height and width, which may be None.
        argmax: Symbolic tensor: the index that `MaxPoolWithArgmax2D` returned.
        filters: int >= 1, or None for the number of channels of `pooled_from`.
            Number of filters of the convolutions. Must be None with
            `num_convs=0`.
        num_convs: int >= 0. Number of 3x3 convolutions, each with batch
            normalization and ReLU.
        skip: How `pooled_from` joins after unpooling: False (not at all),
            "concat" (as in U-Net) or "add".
        pool_size: int or tuple of 2 ints >= 1. Window of the pooling layer, in
            pixels.
        strides: int, tuple of 2 ints >= 1, or None for `pool_size`. Strides of
            the pooling layer.
        padding: str. "valid" or "same", as in the pooling layer.
        index_format: str. "window", "flat" or "plane", as in the pooling layer.
        overlap: str. How to combine the values of several windows with the same
            maximum: "sum" adds their values, "mean" averages them. Only matters
            if windows overlap.
        name: str. Prefix of the names of the layers: `<name>_unpool`,
            `<name>_conv1` and so on.

    Returns:
        Symbolic tensor with the height and width of `pooled_from`. It has
        `filters` channels. With `num_convs=0`, it has the channels of
        `pooled_from`, or twice as many with `skip="concat"`.

    Raises:
        ValueError: If `x`, `pooled_from` or `argmax` is not a symbolic tensor,
            or if `argmax` and `x` differ in height or width.
        ValueError: If `filters` is not an int >= 1 or None, or not None with
            `num_convs=0`.
        ValueError: If `num_convs` is not an int >= 0.
        ValueError: If `skip` is not False, "concat" or "add".
        ValueError: If `pool_size` or `strides` does not consist of ints >= 1,
            or if `padding`, `index_format` or `overlap` is unknown.
        ValueError: If `name` is not a str.

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
            "`filters` must be None with num_convs=0, because it applies to "
            f"the convolutions. Received: filters={filters!r}"
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
