"""Networks as TFLite files, for LiteRT on phones."""

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
    """Write a TFLite file of built-in operations alone, for LiteRT.

    It takes the images that the model takes, float32 in 0..255, and gives what
    the model gives, in float32, quantized or not, unless `io_dtype` asks for
    integers. The batch may be any, and so may height and width where the model
    takes any: call `resize_tensor_input`. The signature is `serving_default`,
    its input `images` and its output `logits` (whatever the model ends in). A
    model in mixed precision is written as one in float32.

    The values of the images are in 0..255. If the model was trained with a
    `value_range` (low, high), compute `numpy.clip((images - low) * 255 /
    (high - low), 0, 255)` first.

    `class_names`, `palette`, `value_range` and `image_size` are written to
    `path`.json.

    Args:
        model: Built Functional or Sequential model with one input and one
            output, such as `models.SegNet`.
        path: File to write; what is there is replaced.
        quantize: How weights and activations are kept. None: float32.
            "float16": weights in half precision, half the size. "dynamic":
            weights of 8 bits, a quarter of the size. "int8": weights and
            activations of 8 bits, a quarter of the size, and integer
            arithmetic where TFLite has it. While the file is written, batch
            normalizations before `MaxPoolWithArgmax` bring their channels to
            one range, and the convolutions that read them take it back: there
            are fewer ties then (Nagel et al., 2019,
            https://arxiv.org/abs/1906.04721, section 4.1). The model has its
            own weights again afterwards.
        representative_images: For "int8", some 100 images like those to come,
            which tell the range of each activation: array `(number, height,
            width, channels)` in 0..255, or an iterable of batches, such as a
            `tf.data.Dataset` of images or of (images, masks).
        io_dtype: Dtype of `images` and `logits` in the file: "float32", or with
            `quantize="int8"` also "uint8" or "int8", for devices that compute
            with integers only. An integer stands for `(integer - zero_point) *
            scale`. The interpreter has both numbers as (scale, zero_point) in
            `get_output_details()[0]["quantization"]` for `logits` and in
            `get_input_details()[0]["quantization"]` for `images`. Those of
            `images` are (1, 0) with "uint8", which takes images as they are,
            and (1, -128) with "int8", which takes `images - 128`. The class of
            a pixel is the argmax of the integers.
        class_names: One name per class.
        palette: One (red, green, blue) in 0..255 per class.
        value_range: The (low, high) of the training, for those who read the
            file. It does not change what the file computes.
        image_size: Height and width to write a file for, where the model takes
            any. It is smaller and faster then. None: any.

    Raises:
        ValueError: An argument breaks the rule that the error names;
            `io_dtype` is an integer dtype without `quantize="int8"`; the model
            takes integers with it; the model is not on the TensorFlow backend,
            or does what TFLite's built-in operations cannot; `path` or
            `path`.json cannot be written.

    Edge cases: activations must be numbers; NaN and infinity are not looked
    after as they are in Keras. With "int8" the index is that of the quantized
    activations: values that are one quantized value are equal, and of equal
    ones the first in row-major order wins, as everywhere. So the index may
    differ from that of floats, where the maximum is ahead by less than one
    step of quantization, but unpooling puts each maximum exactly where pooling
    found it.

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
            "`representative_images` must be given for quantize='int8', which "
            "takes the ranges of activations from them, and for nothing else. "
            f"Received: quantize={quantize!r}, representative_images="
            f"{kind(representative_images)}. Some 100 images of the training "
            "set will do."
        )
    io_dtype = _arguments.choice(io_dtype, "io_dtype", IO_DTYPES)
    if io_dtype != "float32" and quantize != "int8":
        raise ValueError(
            "`io_dtype` must be 'float32' unless quantize='int8'. Received: "
            f"io_dtype={io_dtype!r}, quantize={quantize!r}"
        )
    if quantize == "int8" and "float" not in model.inputs[0].dtype:
        raise ValueError(
            "`model` must take floats for quantize='int8'. Received: a model "
            f"of {model.inputs[0].dtype} images. Build it on a keras.Input of "
            "dtype float32."
        )
    takes = known_size(of_size(model, image_size))
    description = describe(model, takes, class_names, palette, value_range)
    with (
        beside(path, description),
        replaced(path) as part,
        contextlib.ExitStack() as stack,
    ):
        images = None
        if quantize == "int8":
            sized = of_size(model, image_size)
            images = _representative(sized, representative_images)
            if io_dtype != "float32":
                _check_range_of_integers(images())
            stack.enter_context(_channel_ranges.equal_channels(model, images()))
        model = of_size(in_float32(model), image_size)

        @tf.function(input_signature=[image_spec(model)])
        def logits(images: Any) -> dict[str, Any]:
            if io_dtype != "float32":
                # One step of the input is 1, whatever the images hold.
                images = tf.quantization.fake_quant_with_min_max_args(
                    images, 0, 255
                )
            return {"logits": model(images, training=False)}

        module = tf.Module()
        module.model_variables = [v.value for v in model.variables]
        module.logits = logits
        # Not after `path`, whose name may be as long as names can be.
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
    """Images one by one, as often as they are asked for."""
    if isinstance(images, Iterator):
        images = list(images)
    if not isinstance(images, Iterable):
        raise ValueError(
            "`representative_images` must be a batch of images or an iterable "
            f"of batches. Received: {kind(images)}. A function that gives "
            "some is to be called."
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
                    "tuples that begin with one. Received a batch of: "
                    f"{kind(batch)}"
                ) from error
            check_images(model, batch, name="representative_images")
            if not np.isfinite(batch).all():
                raise ValueError(
                    "`representative_images` must hold finite numbers. "
                    "Received: NaN or infinity, which have no range."
                )
            for image in batch:
                number += 1
                yield image[None]
        if not number:
            raise ValueError(
                "`representative_images` must hold at least one image, each "
                "time that it is gone through. Received: none."
            )

    return generate


def _check_range_of_integers(images: Iterable[np.ndarray]) -> None:
    """Refuse images that integers of step 1, from 0 to 255, would not hold.

    Raises:
        ValueError: If the images leave 0..255, or all lie in 0..1, so that
            they would have two values only.
    """
    ranges = [(float(image.min()), float(image.max())) for image in images]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if low < 0 or high > 255 or high <= 1:
        raise ValueError(
            "`representative_images` must have values in 0..255, not in 0..1, "
            "for an integer `io_dtype`. Received: values in "
            f"{low:g}..{high:g}. "
            "Put a keras.layers.Rescaling in front of the model, or use "
            "io_dtype='float32'."
        )


def _convert(converter: Any, model: keras.Model) -> bytes:
    try:
        with quiet(), warnings.catch_warnings():
            # What TensorFlow itself calibrates with.
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
                ". Some operations can only be written for a known height and "
                "width: pass `image_size`, for example image_size=(224, 224)."
            )
        raise ValueError(
            "`model` must do only what TFLite's built-in operations can. "
            f"Received: {model.name!r}, with {', '.join(missing)}{hint}"
        ) from error
