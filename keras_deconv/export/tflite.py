"""Export networks to TFLite files, for LiteRT on phones."""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_deconv import (
    _arguments,
    config,
)
from keras_deconv._batches import check_images
from keras_deconv.export import _channel_ranges
from keras_deconv.export._descriptions import beside, describe
from keras_deconv.export._models import (
    Path,
    check_backend,
    image_spec,
    in_float32,
    kind,
    known_size,
    of_size,
    one_tensor,
    replaced,
)
from keras_deconv.export._quiet import quiet

__all__ = ["to_tflite"]

QUANTIZATIONS = ("float16", "dynamic", "int8")
IO_DTYPES = ("float32", "uint8", "int8")


def to_tflite(
    model: keras.Model,
    path: Path,
    quantize: str | None = None,
    *,
    representative_images: Any = None,
    io_dtype: str = "float32",
    class_names: Sequence[str] | None = None,
    palette: Any = None,
    value_range: Sequence[float] | None = None,
    image_size: Sequence[int] | None = None,
) -> None:
    """Write a TFLite file with built-in operations only, for LiteRT.

    Use it to run a network on phones, microcontrollers and other small devices.

    The signature is `serving_default`. Its input `images` is float32 with
    values in 0..255 and the shape that the model takes. Its output `logits` is
    the float32 output of the model, which holds probabilities if the model ends
    in a softmax. Both stay float32 in quantized files, unless `io_dtype` asks
    for integers. The batch size is dynamic. Height and width are dynamic if
    they are None in the model: call `resize_tensor_input` then. A model in
    mixed precision is written in float32.

    If the model was trained with a `value_range` (low, high), compute
    `numpy.clip((images - low) * 255 / (high - low), 0, 255)` before you call
    the file.

    `class_names`, `palette`, `value_range` and `image_size` are written to
    `path`.json.

    Args:
        model: Built Functional or Sequential model with one input and one
            output, such as `models.SegNet`.
        path: File to write. An existing file is replaced.
        quantize: How the file stores numbers. None stores float32. "float16"
            stores the weights in half precision, which halves the size.
            "dynamic" stores the weights in 8 bits, a quarter of the size.
            "int8" also computes activations in 8 bits where TFLite can. For
            "int8", the ranges of the channels before `MaxPoolWithArgmax` are
            equalized while the file is written, which avoids ties in the
            windows (Nagel et al., 2019, https://arxiv.org/abs/1906.04721,
            section 4.1). The weights of the model are restored afterwards.
        representative_images: About 100 typical images for "int8", from which
            the range of each activation is measured. An array `(number, height,
            width, channels)` in 0..255, or an iterable of batches, such as a
            `tf.data.Dataset` of images or of (images, masks).
        io_dtype: Dtype of `images` and `logits` in the file: "float32", or with
            `quantize="int8"` also "uint8" or "int8", for devices that only
            compute with integers. An integer represents `(integer - zero_point)
            * scale`. The interpreter returns (scale, zero_point) in
            `get_input_details()[0]["quantization"]` for `images` and in
            `get_output_details()[0]["quantization"]` for `logits`. For `images`
            they are (1, 0) with "uint8", so pass the bytes of the image, and
            (1, -128) with "int8", so subtract 128 from them. The class of a
            pixel is the argmax of the integers.
        class_names: One name per class.
        palette: One (red, green, blue) in 0..255 per class.
        value_range: The (low, high) of the training. It is recorded, and does
            not change what the file computes.
        image_size: Height and width in pixels of all images that the file will
            take, for a model that accepts any size. Such a file is smaller and
            faster. The default None keeps the sizes of the model.

    Raises:
        ValueError: If the backend is not TensorFlow.
        ValueError: If `model` is not built, or does not have one input and one
            output.
        ValueError: If `quantize` or `io_dtype` is not one of the listed values.
        ValueError: If `representative_images` is missing with
            `quantize="int8"`, is given without it, or does not hold finite
            images that the model accepts.
        ValueError: If `io_dtype` is an integer dtype without `quantize="int8"`,
            or the representative images are not in 0..255 then.
        ValueError: If the model takes integers with `quantize="int8"`.
        ValueError: If there is not one name or color per class.
        ValueError: If `value_range` is not (low, high).
        ValueError: If the model does not accept images of `image_size`.
        ValueError: If TFLite lacks a built-in operation of the model.
        ValueError: If `path` or `path`.json cannot be written.

    Edge cases:
        NaN and infinity in activations are not handled as in Keras. With
        "int8", pooling compares quantized activations. Values quantized to the
        same level tie, and the first in row-major order wins, as everywhere. So
        the index can differ from that of the float model if the maximum leads
        by less than one quantization step. Unpooling still restores each
        maximum exactly where pooling found it.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_deconv import export, models
        >>> model = models.SegNetBasic((16, 24, 3), num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for quantize in (None, "float16"):
        ...         file = pathlib.Path(folder, f"{quantize}.tflite")
        ...         export.to_tflite(model, file, quantize)
        ...         print(file.stat().st_size // 1_000_000, "MB")
        5 MB
        2 MB
    """
    tf = check_backend("to_tflite")
    from keras_deconv._kernels import fused

    if quantize is not None:
        quantize = _arguments.choice(quantize, "quantize", QUANTIZATIONS)
    model = one_tensor(model)
    if (quantize == "int8") != (representative_images is not None):
        raise ValueError(
            "`representative_images` must be given with quantize='int8', and "
            f"only then. Received: quantize={quantize!r}, "
            f"representative_images={kind(representative_images)}. Pass about "
            "100 images of the training set to measure the ranges of "
            "activations."
        )
    io_dtype = _arguments.choice(io_dtype, "io_dtype", IO_DTYPES)
    if io_dtype != "float32" and quantize != "int8":
        raise ValueError(
            "`io_dtype` must be 'float32' unless quantize='int8'. Received: "
            f"io_dtype={io_dtype!r}, quantize={quantize!r}"
        )
    if quantize == "int8" and "float" not in model.inputs[0].dtype:
        raise ValueError(
            "`model` must take floats with quantize='int8'. Received: a model "
            f"that takes {model.inputs[0].dtype} images. Build it with "
            "keras.Input(..., dtype='float32')."
        )
    sized = of_size(model, image_size)
    description = describe(
        model, known_size(sized), class_names, palette, value_range
    )
    with (
        beside(path, description),
        replaced(path) as part,
        contextlib.ExitStack() as stack,
    ):
        images = None
        if quantize == "int8":
            images = _representative(sized, representative_images)
            if io_dtype != "float32":
                _check_range_of_integers(images())
            stack.enter_context(_channel_ranges.equal_channels(model, images()))
        model = of_size(in_float32(model), image_size)

        @tf.function(input_signature=[image_spec(model)])
        def logits(images: Any) -> dict[str, Any]:
            if io_dtype != "float32":
                # One step of the input is 1, whatever range the images have.
                images = tf.quantization.fake_quant_with_min_max_args(
                    images, 0, 255
                )
            return {"logits": model(images, training=False)}

        module = tf.Module()
        module.model_variables = [v.value for v in model.variables]
        module.logits = logits
        # `path` may have the longest name possible, so this is another name.
        folder = tempfile.mkdtemp(dir=part.parent)
        with config.exporting(), fused.numbers_alone():
            tf.saved_model.save(module, folder, signatures=logits)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if images is not None:
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            ]
            converter.representative_dataset = lambda: (
                {"images": image} for image in images()
            )
            converter.inference_input_type = tf.as_dtype(io_dtype)
            converter.inference_output_type = tf.as_dtype(io_dtype)
        part.write_bytes(_convert(converter, model))


def _representative(
    model: keras.Model, images: Any
) -> Callable[[], Iterator[np.ndarray]]:
    """Return a function that yields the images one by one."""
    if isinstance(images, Iterator):
        images = list(images)
    if not isinstance(images, Iterable):
        raise ValueError(
            "`representative_images` must be a batch of images or an iterable "
            f"of batches. Received: {kind(images)}. Call a generator function "
            "and pass its result."
        )

    def generate() -> Iterator[np.ndarray]:
        number = 0
        for batch in [images] if hasattr(images, "shape") else images:
            batch = batch[0] if isinstance(batch, tuple | list) else batch
            try:
                batch = np.asarray(batch, "float32")
            except (TypeError, ValueError) as error:
                raise ValueError(
                    "`representative_images` must hold batches of images, or "
                    "tuples that start with one. Received: a batch of type "
                    f"{kind(batch)}"
                ) from error
            check_images(model, batch, name="representative_images")
            if not np.isfinite(batch).all():
                raise ValueError(
                    "`representative_images` must hold finite numbers. "
                    "Received: images with NaN or infinity"
                )
            for image in batch:
                number += 1
                yield image[None]
        if not number:
            raise ValueError(
                "`representative_images` must yield at least one image in "
                "every pass over it. Received: an empty iterable"
            )

    return generate


def _check_range_of_integers(images: Iterable[np.ndarray]) -> None:
    """Refuse images that the integers 0 to 255 cannot represent.

    Raises:
        ValueError: If images have values outside 0..255, or only values in
            0..1, which would become two levels.
    """
    ranges = [(float(image.min()), float(image.max())) for image in images]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if low < 0 or high > 255 or high <= 1:
        raise ValueError(
            "`representative_images` must have values in 0..255, not in 0..1, "
            "for an integer `io_dtype`. Received: values in "
            f"{low:g}..{high:g}. Add a keras.layers.Rescaling at the start of "
            "the model, or use io_dtype='float32'."
        )


def _convert(converter: Any, model: keras.Model) -> bytes:
    try:
        with quiet(), warnings.catch_warnings():
            # TensorFlow calibrates with its deprecated interpreter.
            warnings.filterwarnings(
                "ignore", r"\s*Warning: tf.lite.Interpreter"
            )
            return converter.convert()
    except Exception as error:
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is", str(error))))
        if not missing:
            raise
        hint = ""
        if None in model.input_shape[1:]:
            hint = (
                ". Some operations need a known height and width: pass "
                "`image_size`, for example image_size=(224, 224)."
            )
        raise ValueError(
            "`model` must only use operations that TFLite has. "
            f"Received: {model.name!r}, with {', '.join(missing)}{hint}"
        ) from error
