"""Cropping to the size of another tensor."""

from typing import Any

import keras

from keras_deconv import _arguments, _backends
from keras_deconv.layers._base import SpatialLayer

__all__ = ["CropLike2D"]


@keras.saving.register_keras_serializable("keras_deconv")
class CropLike2D(SpatialLayer):
    """Cut rows and columns off, to the size of another tensor.

    What a transposed convolution needs to restore an odd size: it can only
    give multiples of its strides.

    Args:
        data_format: "channels_last", "channels_first" or None for the one of
            the Keras configuration.
        center: bool. True cuts off as many at the beginning as at the end (of
            an odd number, one more at the end); False cuts off the end only.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        inputs: Tensor `(batch, height, width, channels)` of any dtype.
        like: Tensor of at most that height and width; unknown ones allowed.

    Returns:
        `inputs[:, :like_height, :like_width]`, or the middle of `inputs`.

    Raises:
        ValueError: If `like` is larger than the inputs, or `center` is not a
            bool.

    Example:
        >>> import numpy as np, keras_deconv
        >>> crop = keras_deconv.layers.CropLike2D()
        >>> tuple(crop(np.zeros((1, 4, 6, 2)), np.zeros((1, 3, 6, 9))).shape)
        (1, 3, 6, 2)
    """

    num_spatial_dims = 2

    def __init__(
        self,
        data_format: str | None = None,
        center: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.center = _arguments.boolean(center, "center")

    def call(self, inputs: Any, like: Any) -> Any:
        self._check_traced_sizes()
        like = _arguments.tensor(like, "like")
        shapes = map(_backends.static_shape, (inputs, like))
        self.compute_output_shape(*shapes)
        inputs = self._require_larger(inputs, like)
        sizes = [self._spatial_size(_backends.shape(x)) for x in (inputs, like)]
        rows, columns = map(self._kept, *sizes)
        if self.data_format == "channels_last":
            return inputs[:, rows, columns]
        return inputs[:, :, rows, columns]

    def _kept(self, length: Any, target: Any) -> slice:
        """What is left of an axis."""
        start = (length - target) // 2 if self.center else 0
        return slice(start, start + target)

    def _require_larger(self, inputs: Any, like: Any) -> Any:
        """`compute_output_shape` for sizes not known until run time."""
        sizes = [self._spatial_size(_backends.shape(x)) for x in (inputs, like)]
        return _backends.require_lengths(
            (to <= n for n, to in zip(*sizes, strict=True)),
            "`like` must not be larger than `inputs`: cropping takes away "
            "only. Received: inputs of size",
            *sizes[0],
            "like of size",
            *sizes[1],
            before=inputs,
        )

    def compute_output_shape(self, inputs_shape: Any, like_shape: Any) -> tuple:
        size, target = map(self._spatial_size, (inputs_shape, like_shape))
        if any(
            n is not None and to is not None and to > n
            for n, to in zip(size, target, strict=True)
        ):
            raise ValueError(
                "`like` must not be larger than `inputs`: cropping takes "
                f"away only. Received: inputs of size {size}, like of size "
                f"{target}"
            )
        return self._with_spatial_size(inputs_shape, target)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "center": self.center}

    def compute_output_spec(self, inputs: Any, like: Any) -> keras.KerasTensor:
        self._require_tensors(inputs, like)
        shape = self.compute_output_shape(inputs.shape, like.shape)
        return keras.KerasTensor(shape, self._output_dtype(inputs))
