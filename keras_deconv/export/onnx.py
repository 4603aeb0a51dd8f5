"""Export networks to ONNX files."""

import json
import math
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_deconv import config
from keras_deconv.export._descriptions import beside, describe
from keras_deconv.export._models import (
    Path,
    check_backend,
    in_float32,
    known_size,
    of_size,
    one_tensor,
    replaced,
)
from keras_deconv.export._quiet import quiet

__all__ = ["to_onnx"]


def to_onnx(
    model: keras.Model,
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    palette: Any = None,
    value_range: Sequence[float] | None = None,
    image_size: Sequence[int] | None = None,
) -> None:
    """Write an ONNX file with standard operations only.

    Use it to run a network in onnxruntime, OpenVINO or another runtime that
    reads ONNX. It needs tf2onnx: `pip install "keras-deconv[onnx]"`.

    The input of the file is `images`, a float32 tensor `(batch, height, width,
    channels)` with values in 0..255. The output is `logits`, the float32 output
    of the model, which holds probabilities if the model ends in a softmax. The
    batch size is dynamic. Height and width are dynamic if they are None in the
    model. Dynamic sizes are named `batch`, `height` and `width`, or
    `output_height` and `output_width`. A model in mixed precision is written in
    float32.

    If the model was trained with a `value_range` (low, high), compute
    `numpy.clip((images - low) * 255 / (high - low), 0, 255)` before you call
    the file.

    `class_names`, `palette`, `value_range` and `image_size` are written to the
    `metadata_props` of the file, each as JSON, and to the file `path`.json.

    Args:
        model: Built Functional or Sequential model with one input and one
            output, such as `models.SegNet`.
        path: File to write. An existing file is replaced.
        class_names: One name per class.
        palette: One (red, green, blue) in 0..255 per class.
        value_range: The (low, high) of the training. It is recorded, and does
            not change what the file computes.
        image_size: Height and width in pixels of all images that the file will
            take, for a model that accepts any size. Such a file is smaller and
            faster. The default None keeps the sizes of the model.

    Raises:
        ImportError: If tf2onnx is not installed.
        ValueError: If the backend is not TensorFlow.
        ValueError: If `model` is not built, or does not have one input and one
            output.
        ValueError: If there is not one name or color per class.
        ValueError: If `value_range` is not (low, high).
        ValueError: If the model does not accept images of `image_size`.
        ValueError: If a layer keeps numbers in tensors instead of weights.
        ValueError: If ONNX lacks an operation of the model, such as a grouped
            convolution with several channels per group.
        ValueError: If `path` or `path`.json cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_deconv import export, models
        >>> model = models.SegNetBasic((16, 24, 3), num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "model.onnx")
        ...     export.to_onnx(model, file)  # doctest: +SKIP
    """
    check_backend("to_onnx")
    model = _translatable(in_float32(one_tensor(model)))
    model = of_size(model, image_size)
    description = describe(
        model, known_size(model), class_names, palette, value_range
    )
    try:
        import onnx
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Writing ONNX files needs tf2onnx, which is not installed. Run: "
            'pip install "keras-deconv[onnx]"'
        ) from error
    # The file takes these names.
    images = keras.Input(
        model.input_shape[1:], name="images", dtype=model.inputs[0].dtype
    )
    named = keras.Model(images, {"logits": model(images)})
    # Keras only exports models that were called.
    named(keras.KerasTensor(model.input_shape))
    with (
        beside(path, description),
        config.exporting(),
        replaced(path) as part,
        warnings.catch_warnings(),
    ):
        # Keras gives np.object to tf2onnx, which NumPy warns about.
        warnings.simplefilter("ignore", FutureWarning)
        with quiet():
            named.export(str(part), format="onnx", verbose=False)
        file = onnx.load(part)
        _check_inputs(file.graph)
        _name_dynamic_sizes(file.graph)
        onnx.helper.set_model_props(
            file,
            {key: json.dumps(value) for key, value in description.items()},
        )
        onnx.save(file, part)
        _check_operations(onnx, part)


# Spatial axes by the number of all axes.
_SPATIAL_AXES = {
    3: ("length",),
    4: ("height", "width"),
    5: ("depth", "height", "width"),
}


def _name_dynamic_sizes(graph: Any) -> None:
    """Name the dynamic sizes of a file."""
    for value, prefix in (
        *((one, "") for one in graph.input),
        # The output has different names, since a model may change the size.
        *((one, "output_") for one in graph.output),
    ):
        batch, *sizes = value.type.tensor_type.shape.dim
        if not batch.HasField("dim_value"):
            batch.dim_param = "batch"
        # The channels, whose number is known, are the last axis or the second.
        is_last = sizes and sizes[-1].HasField("dim_value")
        names = _SPATIAL_AXES.get(1 + len(sizes), ())
        for size, name in zip(
            sizes[:-1] if is_last else sizes[1:], names, strict=False
        ):
            if not size.HasField("dim_value"):
                size.dim_param = prefix + name


def _translatable(model: keras.Model) -> keras.Model:
    """Return the model, or a copy without layers that tf2onnx cannot convert.

    The tensors of a `Normalization` layer would become inputs of the file.
    Keras compiles grouped convolutions, and ONNX cannot call compiled
    functions. The GELU of Keras uses an operation that tf2onnx does not know.
    """
    pairs = []

    def copied(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Normalization):
            copy = type(layer).from_config(layer.get_config())
        elif _has_a_group_per_channel(layer):
            copy = _depthwise(layer)
        elif _is_gelu(layer):
            copy = keras.layers.Activation(
                _gelu, name=layer.name, dtype=layer.dtype_policy
            )
        else:
            return layer
        pairs.append((layer, copy))
        return copy

    clone = keras.models.clone_model(
        model, clone_function=copied, recursive=True
    )
    for layer, copy in pairs:
        if isinstance(copy, keras.layers.Normalization):
            copy.mean = np.asarray(layer.mean)
            copy.variance = np.asarray(layer.variance)
        elif copy.weights:
            kernel, *bias = layer.get_weights()
            copy.set_weights([kernel.reshape(copy.kernel.shape), *bias])
    return clone if pairs else model


def _has_a_group_per_channel(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups > 1
        and layer.kernel.shape[2] == 1
    )


def _depthwise(layer: keras.layers.Conv2D) -> keras.layers.DepthwiseConv2D:
    """Return the same convolution as a layer that Keras does not compile."""
    config = layer.get_config()
    names = (
        *("name", "dtype", "kernel_size", "strides", "padding"),
        *("data_format", "dilation_rate", "activation", "use_bias"),
    )
    return keras.layers.DepthwiseConv2D(
        depth_multiplier=layer.filters // layer.groups,
        **{name: config[name] for name in names},
    )


def _is_gelu(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Activation
        and layer.activation is keras.activations.gelu
    )


def _gelu(x: Any) -> Any:
    """Compute GELU by the error function; TensorFlow uses its complement."""
    return x / 2 * (1 + keras.ops.erf(x / math.sqrt(2)))


def _check_inputs(graph: Any) -> None:
    """Refuse a file that would ask for more than the images.

    Raises:
        ValueError: If there is more than one input.
    """
    _, *others = (one.name for one in graph.input)
    if others:
        raise ValueError(
            "`model` must keep its numbers in weights. Received: a model with "
            f"a layer that keeps them in tensors ({', '.join(others)}), which "
            "would become inputs of the ONNX file. Keep them in "
            "self.add_weight(..., trainable=False), or as NumPy arrays."
        )


def _check_operations(onnx: Any, path: pathlib.Path) -> None:
    """Refuse a file with operations that ONNX does not have.

    Raises:
        ValueError: If there is one.
    """
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise ValueError(
            "`model` must only use operations that ONNX has. Received: a model "
            f"from which tf2onnx makes an invalid file: {error}. Grouped "
            "convolutions with several channels per group are such a case."
        ) from None
