"""Cropping layer."""

from typing import Any

import keras

from keras_deconv import _arguments, _backends
from keras_deconv.layers._base import SpatialLayer

__all__ = ["CropLike2D"]


@keras.saving.register_keras_serializable("keras_deconv")
class CropLike2D(SpatialLayer):
    """Cropping of images to the height and width of another tensor.

    Use this layer after a transposed convolution or an upsampling layer to
    restore an odd size: their outputs are multiples of the strides.

    Args:
        data_format: "channels_last", "channels_first" or None. None uses the
            Keras configuration (`keras.config.image_data_format()`).
        center: bool. False removes rows and columns only at the end. True
            removes them at both sides; if their number is odd, one more at
            the end. The default is False.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and
            `trainable`.

    Call arguments:
        inputs: Tensor of any dtype.
        like: Tensor of rank 4 with the height and width to crop to. Its values
            and its channels are not used.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` with `data_format="channels_first"`.
        Each size may be None.

    Output shape:
        The input shape with the height and width of `like`.

    Returns:
        `inputs[:, :like_height, :like_width]`, or the center of `inputs` with
        `center=True`.

    Raises:
        ValueError: If `data_format` is not one of the values above.
        ValueError: If `center` is not a bool.
        ValueError: If `inputs` or `like` does not have rank 4.
        ValueError: If `like` is larger than `inputs`.
        ValueError: If a model with an unknown height or width is exported from
            the PyTorch or OpenVINO backend.
        tf.errors.InvalidArgumentError: If `like` is larger than `inputs`, in a
            TensorFlow graph built for unknown sizes.

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
        """Return the part of an axis that remains."""
        start = (length - target) // 2 if self.center else 0
        return slice(start, start + target)

    def _require_larger(self, inputs: Any, like: Any) -> Any:
        """Check at run time that `like` is not larger than `inputs`."""
        sizes = [self._spatial_size(_backends.shape(x)) for x in (inputs, like)]
        return _backends.require_lengths(
            (to <= n for n, to in zip(*sizes, strict=True)),
            "`like` must not be larger than `inputs`, since cropping only "
            "removes pixels. Received: inputs of size",
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
                "`like` must not be larger than `inputs`, since cropping only "
                f"removes pixels. Received: inputs of size {size}, like of "
                f"size {target}"
            )
        return self._with_spatial_size(inputs_shape, target)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "center": self.center}

    def compute_output_spec(self, inputs: Any, like: Any) -> keras.KerasTensor:
        self._require_tensors(inputs, like)
        shape = self.compute_output_shape(inputs.shape, like.shape)
        return keras.KerasTensor(shape, self._output_dtype(inputs))
