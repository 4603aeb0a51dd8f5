"""Base classes of the layers."""

import inspect
import itertools
from typing import Any

import keras

from keras_deconv import _arguments, _backends, _shapes
from keras_deconv._arguments import IntOrInts


class SpatialLayer(keras.layers.Layer):
    """Base class of layers over batches with `num_spatial_dims` spatial axes.

    One subclass per family implements `__init__`, `call` and `get_config`. The
    public 1D, 2D and 3D classes only set `num_spatial_dims`.
    """

    num_spatial_dims: int

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        if "dtype" in kwargs:
            _arguments.dtype_policy(kwargs["dtype"])
        super().__init__(**kwargs)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=self.num_spatial_dims + 2)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Convert arrays to tensors and call the layer.

        Raises:
            ValueError: If an array does not hold numbers. The error names the
                argument, which the error of Keras does not.
        """
        if any(map(_is_array, (*args, *kwargs.values()))):
            names = tuple(inspect.signature(self.call).parameters)
            named = zip(args, names, strict=False)
            args = (*itertools.starmap(_as_tensor, named), *args[len(names) :])
            kwargs = {n: _as_tensor(x, n) for n, x in kwargs.items()}
        return super().__call__(*args, **kwargs)

    def _spatial_size(self, shape: Any) -> tuple[int | None, ...]:
        """Return the spatial part of a static shape.

        Raises:
            ValueError: If the shape does not have the rank of the layer's
                inputs.
        """
        if len(shape) != self.num_spatial_dims + 2:
            raise ValueError(
                f"{type(self).__name__} requires batches with "
                f"{self.num_spatial_dims} spatial axes, which are tensors of "
                f"rank {self.num_spatial_dims + 2}. Received: shape "
                f"{tuple(shape)}"
            )
        return _shapes.spatial_size(tuple(shape), self.data_format)

    def _with_spatial_size(self, shape: Any, size: Any) -> tuple:
        """Return a static shape with another spatial size."""
        return _shapes.with_spatial_size(tuple(shape), size, self.data_format)

    def _require_tensors(self, *inputs: Any) -> None:
        """Refuse inputs that are neither a tensor nor None.

        Raises:
            ValueError: If one of them has no shape.
        """
        for x in inputs:
            if x is not None and not hasattr(x, "shape"):
                raise ValueError(
                    f"{type(self).__name__} must be called on tensors. "
                    f"Received: {x!r}"
                )

    def _check_traced_sizes(self) -> None:
        """Refuse to be traced for a file that leaves a size open.

        PyTorch and OpenVINO write the sizes of the traced example as constants,
        so that the file would be wrong for images of any other size.

        Raises:
            ValueError: If the file that is being written leaves a size open.
        """
        if _backends.has_open_sizes():
            backend = keras.config.backend()
            name = {"torch": "PyTorch", "openvino": "OpenVINO"}[backend]
            raise ValueError(
                f"{type(self).__name__} cannot be exported from the {name} "
                "backend with an unknown size: only the batch may be None "
                "there. Build the model with known sizes, for example "
                "keras.Input((height, width, channels)), or save it as "
                ".keras, load it with KERAS_BACKEND=tensorflow and export it "
                "there."
            )

    def _output_dtype(self, inputs: Any) -> str:
        """Return the compute dtype for floats, the input dtype for integers."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return self.compute_dtype if "float" in dtype else dtype

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


def _is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor of another framework."""
    return (
        hasattr(value, "shape")
        and hasattr(value, "dtype")
        and not isinstance(value, keras.KerasTensor)
        and not keras.ops.is_tensor(value)
    )


def _as_tensor(value: Any, name: str) -> Any:
    return _arguments.tensor(value, name) if _is_array(value) else value


class WindowLayer(SpatialLayer):
    """Base class of layers with a pooling window."""

    _max_cells = _arguments.MAX_CELLS

    def __init__(
        self,
        pool_size: IntOrInts,
        strides: IntOrInts | None,
        padding: str,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.pool_size, self.strides, self.padding = _arguments.window(
            *(pool_size, strides, padding, self.num_spatial_dims),
            max_cells=self._max_cells,
        )

    @property
    def _window(self) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        """The arguments `pool_size`, `strides` and `padding` of functions."""
        return self.pool_size, self.strides, self.padding

    def get_config(self) -> dict[str, Any]:
        names = ("pool_size", "strides", "padding")
        return super().get_config() | {n: getattr(self, n) for n in names}


class UnpoolLayer(WindowLayer):
    """Base class of layers that restore the size before pooling."""

    def __init__(
        self,
        pool_size: IntOrInts,
        strides: IntOrInts | None,
        padding: str,
        output_size: IntOrInts | None,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.output_size = _arguments.output_size(
            output_size, self.num_spatial_dims
        )

    def _restored_size(self, values_shape: Any, like_shape: Any) -> tuple:
        """Return the spatial size to restore, with None for unknown axes."""
        size = self._spatial_size(values_shape)
        return _shapes.settle_size(
            self.output_size,
            None if like_shape is None else self._spatial_size(like_shape),
            default=_shapes.unpooled_size(size, *self._window),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_size": self.output_size}
