"""What all layers of the package share."""

from typing import Any

import keras

from keras_deconv import _arguments, _shapes


class SpatialLayer(keras.layers.Layer):
    """Layer over batches with `num_spatial_dims` spatial axes.

    A family of layers is one subclass with the only `__init__`, `call` and
    `get_config`; its members for 1, 2 and 3 axes set `num_spatial_dims`.
    """

    num_spatial_dims: int

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=self.num_spatial_dims + 2)

    def ints(self, value: object, name: str) -> tuple[int, ...]:
        """One int >= 1 per spatial axis."""
        return _arguments.ints(value, self.num_spatial_dims, name, minimum=1)

    def spatial_size(self, shape: Any) -> tuple[int | None, ...]:
        """Spatial part of a static shape.

        Raises:
            ValueError: The shape has another rank than the layer takes.
        """
        if len(shape) != self.num_spatial_dims + 2:
            raise ValueError(
                f"{type(self).__name__} takes batches with "
                f"{self.num_spatial_dims} spatial axes, that is tensors of "
                f"rank {self.num_spatial_dims + 2}. Received: shape "
                f"{tuple(shape)}"
            )
        return _shapes.spatial_size(tuple(shape), self.data_format)

    def with_spatial_size(self, shape: Any, size: Any) -> tuple:
        """Static shape with another spatial size."""
        return _shapes.with_spatial_size(tuple(shape), size, self.data_format)

    def output_dtype(self, inputs: Any) -> str:
        """Dtype of what comes out: floats follow the policy, integers stay."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return self.compute_dtype if "float" in dtype else dtype

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
