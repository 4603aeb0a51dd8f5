"""Networks as files that run without keras_deconv, and without Python.

A SavedModel for TensorFlow Serving and `tf.saved_model.load`, a TFLite file for
LiteRT on phones, an ONNX file for everything else. All three hold plain
operations alone: unpooling with window indices is comparisons and selections.
"""

import contextlib
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_deconv import arguments, equalization, labels
from keras_deconv.inference import graphs, predict_monte_carlo
from keras_deconv.inference.batches import check_images
from keras_deconv.inference.monte_carlo import can_be_sampled

__all__ = ["to_onnx", "to_saved_model", "to_tflite"]

Path = str | os.PathLike[str]

HALF_PRECISION = ("float16", "bfloat16")
QUANTIZATIONS = ("float16", "dynamic", "int8")
SAVED_MODEL_FILES = ("saved_model.pb", "fingerprint.pb", "variables", "assets")
CLASS_NAMES_FILE = "class_names.txt"
PALETTE_FILE = "palette.txt"


def to_saved_model(
    model: keras.Model,
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    palette: Any = None,
    image_size: Sequence[int] | None = None,
) -> None:
    """Write a SavedModel that labels images of any size as they come.

    It loads with `tf.saved_model.load` and in TensorFlow Serving, in a process
    that has TensorFlow alone. Signatures, each with any batch size:

    - `serving_default`: uint8 `images` to `class_ids` (int32 `(batch, height,
      width)`) and `probabilities` (float32 `(batch, height, width,
      num_classes)`). Images are resized to `image_size` (bilinear,
      antialiased, rounded to whole values), probabilities back to the size of
      the images (bilinear); class ids are of the largest. `keras-deconv
      predict` does the same.
    - `logits`: float32 `images` as the model takes them, in 0..255, to
      `logits`, as the model gives them. Of a model that ends in a softmax,
      logarithms of its probabilities.
    - `monte_carlo`, of models with dropout: uint8 `images` and a scalar int32
      `samples` to what `inference.MonteCarloPrediction` holds, resized back.
      Drawn anew in each call.

    Args:
        model: Built Functional or Sequential model from `(batch, height, width,
            channels)` to `(batch, height, width, num_classes)`, of logits or
            probabilities, such as `models.SegNet`.
        path: Folder to write: new, empty, or a SavedModel and nothing else,
            which is replaced once the new one is complete.
        class_names: One name per class, written to `assets/class_names.txt`,
            one a line; also the attribute `class_names` of what is loaded.
        palette: One (red, green, blue) in 0..255 per class, written to
            `assets/palette.txt` as `red,green,blue`, one a line; also the
            attribute `palette`.
        image_size: Height and width that images are resized to. None: those
            that the model takes; where it takes any, images are left as they
            are.

    Raises:
        ValueError: The model is another one, or not on the TensorFlow backend;
            names or palette are not one per class; `image_size` is none that
            the model takes; `path` cannot be written or is something else.

    Edge cases: an image that `image_size` leaves as it is gives the numbers
    that the model gives. Entropies and variances are resized as they are, and
    not computed again from resized probabilities.

    Example:
        >>> import tempfile
        >>> import tensorflow as tf
        >>> from keras_deconv import export, models
        >>> model = models.SegNetBasic((16, 24, 3), num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export.to_saved_model(
        ...         model, f"{folder}/saved", class_names=["road", "sky"])
        ...     loaded = tf.saved_model.load(f"{folder}/saved")
        ...     images = tf.zeros((1, 30, 40, 3), tf.uint8)
        ...     outputs = loaded.signatures["serving_default"](images=images)
        >>> outputs["class_ids"].shape.as_list()
        [1, 30, 40]
    """
    tf = _tensorflow("to_saved_model")
    model = _plain(model)
    graphs.check_is_segmentation(model)
    graphs.check_from_logits(
        model, from_logits=not graphs.gives_probabilities(model)
    )
    num_classes = model.output_shape[-1]
    assets = {}
    if class_names is not None:
        names = _class_names(class_names, num_classes)
        assets["class_names"] = (CLASS_NAMES_FILE, names)
    if palette is not None:
        colours = labels.palette(palette, num_classes).tolist()
        lines = [",".join(map(str, colour)) for colour in colours]
        assets["palette"] = (PALETTE_FILE, lines)
    size = _image_size(model, image_size)

    module = tf.Module()
    # So that they are written: functions alone do not own them.
    module.model_variables = [v.value for v in model.variables]
    signatures = _signatures(model, size)
    for name, function in signatures.items():
        setattr(module, name, function)
    with _written(path, is_folder=True) as part:
        for name, (file, lines) in assets.items():
            source = part.with_name(file)
            source.write_text("".join(f"{line}\n" for line in lines), "utf-8")
            setattr(module, name, tf.saved_model.Asset(str(source)))
        tf.saved_model.save(module, str(part), signatures=signatures)


def to_tflite(
    model: keras.Model,
    path: Path,
    quantize: str | None = None,
    *,
    representative_images: Any = None,
    image_size: Sequence[int] | None = None,
) -> None:
    """Write a TFLite file of built-in operations alone, for LiteRT.

    It takes the images that the model takes, float32 in 0..255, and gives what
    the model gives, in float32, quantised or not. The batch may be any, and so
    may height and width where the model takes any: call `resize_tensor_input`.
    The signature is `serving_default`, its output `logits` (whatever the model
    ends in). A model in mixed precision is written as one in float32.

    Args:
        model: Built Functional or Sequential model with one input and one
            output, such as `models.SegNet`.
        path: File to write; what is there is replaced.
        quantize: How weights and activations are kept. None: float32.
            "float16": weights in half precision, half the size. "dynamic":
            weights of 8 bits, a quarter of the size. "int8": weights and
            activations of 8 bits, a quarter of the size, and integer
            arithmetic where TFLite has it. While the file is written, batch
            normalisations before `MaxPoolWithArgmax` bring their channels to
            one range, and the convolutions that read them take it back: there
            are fewer ties then (Nagel et al., 2019,
            https://arxiv.org/abs/1906.04721, section 4.1). The model has its
            own weights again afterwards.
        representative_images: For "int8", some 100 images like those to come,
            which tell the range of each activation: array `(number, height,
            width, channels)` in 0..255, or an iterable of batches, such as a
            `tf.data.Dataset` of images or of (images, masks).
        image_size: Height and width to write a file for, where the model takes
            any. It is smaller and faster then. None: any.

    Raises:
        ValueError: An argument breaks the rule that the error names; the model
            is not on the TensorFlow backend, or does what TFLite's built-in
            operations cannot; `path` cannot be written.

    Edge cases: activations must be numbers; NaN and infinity are not looked
    after as they are in Keras. With "int8" the index is that of the quantised
    activations: values that are one quantised value are equal, and of equal
    ones the first in row-major order wins, as everywhere. So the index may
    differ from that of floats, where the maximum is ahead by less than one
    step of quantisation, but unpooling puts each maximum exactly where pooling
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
    tf = _tensorflow("to_tflite")
    from keras_deconv import fused

    if quantize is not None:
        quantize = arguments.choice(quantize, "quantize", QUANTIZATIONS)
    model = _plain(model)
    if (quantize == "int8") != (representative_images is not None):
        raise ValueError(
            "`representative_images` must be given for quantize='int8', which "
            "takes the ranges of activations from them, and for nothing else. "
            f"Received: quantize={quantize!r}, representative_images="
            f"{_kind(representative_images)}. Some 100 images of the training "
            "set will do."
        )
    with _written(path) as part, contextlib.ExitStack() as stack:
        images = None
        if quantize == "int8":
            sized = _of_size(model, image_size)
            images = _representative(sized, representative_images)
            stack.enter_context(equalization.equal_channels(model, images()))
        model = _of_size(_in_float32(model), image_size)

        @tf.function(input_signature=[_spec(model)])
        def logits(images: Any) -> dict[str, Any]:
            return {"logits": model(images, training=False)}

        module = tf.Module()
        module.model_variables = [v.value for v in model.variables]
        module.logits = logits
        folder = str(part.with_name("saved_model"))
        with fused.numbers_alone():
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
        part.write_bytes(_convert(converter, model))


def to_onnx(
    model: keras.Model,
    path: Path,
    *,
    image_size: Sequence[int] | None = None,
) -> None:
    """Write an ONNX file of standard operations alone.

    It takes the images that the model takes, float32 `(batch, height, width,
    channels)` in 0..255, and gives what the model gives, in float32. The batch
    may be any, and so may height and width where the model takes any. Written
    by `model.export(format="onnx")`, so that it needs tf2onnx: `pip install
    "keras-deconv[onnx]"`. A model in mixed precision is written as one in
    float32.

    Args:
        model: Built Functional or Sequential model with one input and one
            output, such as `models.SegNet`.
        path: File to write; what is there is replaced.
        image_size: Height and width to write a file for, where the model takes
            any. It is smaller and faster then. None: any.

    Raises:
        ImportError: tf2onnx is missing.
        ValueError: The model is another one, or not on the TensorFlow backend;
            `image_size` is none that the model takes; `path` cannot be
            written.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_deconv import export, models
        >>> model = models.SegNetBasic((16, 24, 3), num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "model.onnx")
        ...     export.to_onnx(model, file)  # doctest: +SKIP
    """
    _tensorflow("to_onnx")
    model = _of_size(_in_float32(_plain(model)), image_size)
    try:
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ONNX files are written by tf2onnx, which is not installed: "
            'pip install "keras-deconv[onnx]"'
        ) from error
    # Keras exports no model to ONNX that was never called.
    model(keras.KerasTensor(model.input_shape))
    with _written(path) as part, warnings.catch_warnings():
        # Keras names np.object to tf2onnx, which NumPy does not like.
        warnings.simplefilter("ignore", FutureWarning)
        model.export(str(part), format="onnx", verbose=False)


def _tensorflow(function: str) -> Any:
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"export.{function} needs the TensorFlow backend. Received: "
            f"backend {keras.config.backend()!r}. Save the model as a .keras "
            "file, and load and export it with KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    return tf


def _plain(model: keras.Model) -> keras.Model:
    """The model from one tensor to one tensor.

    A loaded model may take a list of one, which would be in the signature.
    """
    graphs.check_graph(model)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _of_size(
    model: keras.Model, image_size: Sequence[int] | None
) -> keras.Model:
    """The model for images of one size, if there is one."""
    if image_size is None:
        return model
    size = _checked_size(model, image_size)
    takes = model.inputs[0]
    inputs = keras.Input(
        (*size, *takes.shape[3:]), name=takes.name, dtype=takes.dtype
    )
    return keras.Model(inputs, model(inputs), name=model.name)


def _in_float32(model: keras.Model) -> keras.Model:
    """The model, or where it computes in half precision one that does not.

    Converters mix the two up.
    """
    is_half = False

    def in_float32(layer: Any) -> Any:
        nonlocal is_half
        if getattr(layer, "compute_dtype", None) not in HALF_PRECISION:
            return layer
        is_half = True
        config = {**layer.get_config(), "dtype": "float32"}
        return type(layer).from_config(config)

    single = keras.models.clone_model(
        model, clone_function=in_float32, recursive=True
    )
    if not is_half:
        return model
    single.set_weights(model.get_weights())
    for layer in graphs.layers_of(single):
        if isinstance(layer, keras.layers.Normalization):
            # It computes with what it has made of its weights.
            layer.finalize_state()
    return single


def _image_size(
    model: keras.Model, image_size: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Height and width that images get; None to leave them as they are."""
    if image_size is not None:
        return _checked_size(model, image_size)
    takes = model.input_shape[1:3]
    return None if None in takes else takes


def _checked_size(
    model: keras.Model, image_size: Sequence[int]
) -> tuple[int, ...]:
    size = arguments.ints(image_size, 2, "image_size", 1)
    takes = model.input_shape[1:3]
    if any(n not in (None, to) for n, to in zip(takes, size, strict=True)):
        raise ValueError(
            "`image_size` must be a height and width that the model takes. "
            f"Received: image_size={size}, for a model of images "
            f"{model.input_shape}"
        )
    return size


def _class_names(class_names: Sequence[str], num_classes: int) -> list[str]:
    names = [str(name) for name in class_names]
    if (
        isinstance(class_names, str)
        or len(names) != num_classes
        or any(len(name.splitlines()) != 1 for name in names)
    ):
        raise ValueError(
            "`class_names` must hold one name for each class of the model, "
            f"{num_classes} in all, each of one line. Received: "
            f"class_names={class_names!r}"
        )
    return names


def _spec(model: keras.Model) -> Any:
    import tensorflow as tf

    shape = (None, *model.input_shape[1:])
    return tf.TensorSpec(shape, model.inputs[0].dtype, "images")


def _signatures(
    model: keras.Model, size: tuple[int, ...] | None
) -> dict[str, Callable[..., Any]]:
    """What a SavedModel can be asked for."""
    import tensorflow as tf

    gives_probabilities = graphs.gives_probabilities(model)
    spec = _spec(model)
    images_spec = tf.TensorSpec(
        (None, None, None, spec.shape[-1]), tf.uint8, "images"
    )

    def prepare(images: Any) -> Any:
        x = tf.cast(images, tf.float32)
        if size is not None:
            x = tf.image.resize(x, size, "bilinear", antialias=True)
            x = tf.round(x)
        return tf.cast(x, spec.dtype)

    def restore(maps: Any, images: Any) -> Any:
        """Maps `(batch, height, width, ...)` at the size of the images."""
        return tf.image.resize(maps, tf.shape(images)[1:3], "bilinear")

    @tf.function(input_signature=[images_spec])
    def serving_default(images: Any) -> dict[str, Any]:
        scores = tf.cast(model(prepare(images), training=False), tf.float32)
        if not gives_probabilities:
            scores = tf.nn.softmax(scores)
        probabilities = restore(scores, images)
        return {
            "class_ids": tf.argmax(probabilities, -1, tf.int32),
            "probabilities": probabilities,
        }

    @tf.function(input_signature=[spec])
    def logits(images: Any) -> dict[str, Any]:
        scores = tf.cast(model(images, training=False), tf.float32)
        if gives_probabilities:
            scores = tf.math.log(tf.maximum(scores, np.finfo("float32").tiny))
        return {"logits": scores}

    @tf.function(
        input_signature=[images_spec, tf.TensorSpec((), tf.int32, "samples")]
    )
    def monte_carlo(images: Any, samples: Any) -> dict[str, Any]:
        prediction = predict_monte_carlo(
            model,
            prepare(images),
            samples,
            from_logits=not gives_probabilities,
            verbose=0,
        )
        maps = prediction._asdict()
        del maps["class_ids"]
        outputs = {
            name: restore(values, images)
            if values.shape.rank == 4
            else restore(values[..., None], images)[..., 0]
            for name, values in maps.items()
        }
        outputs["class_ids"] = tf.argmax(outputs["probabilities"], -1, tf.int32)
        return outputs

    signatures = {"serving_default": serving_default, "logits": logits}
    if can_be_sampled(model):
        signatures["monte_carlo"] = monte_carlo
    return signatures


def _representative(
    model: keras.Model, images: Any
) -> Callable[[], Iterator[np.ndarray]]:
    """Images one by one, as often as they are asked for."""
    if isinstance(images, Iterator):
        images = list(images)
    if not isinstance(images, Iterable):
        raise ValueError(
            "`representative_images` must be a batch of images or an iterable "
            f"of batches. Received: {_kind(images)}. A function that gives "
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
                    f"{_kind(batch)}"
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


def _convert(converter: Any, model: keras.Model) -> bytes:
    try:
        with warnings.catch_warnings():
            # What TensorFlow itself calibrates with.
            warnings.filterwarnings(
                "ignore", r"\s*Warning: tf.lite.Interpreter"
            )
            return converter.convert()
    except Exception as error:
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is", str(error))))
        if not missing:
            raise
        raise ValueError(
            "`model` must do only what TFLite's built-in operations can. "
            f"Received: {model.name!r}, with {', '.join(missing)}"
        ) from error


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


@contextlib.contextmanager
def _written(path: Path, is_folder: bool = False) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` when all is written.

    Beside it is room for files that are needed meanwhile.

    Raises:
        ValueError: There cannot be written, or is what must not be replaced.
    """
    target = pathlib.Path(path).expanduser().resolve()
    if is_folder and target.exists():
        is_ours = (target / "saved_model.pb").is_file() and all(
            path.name in SAVED_MODEL_FILES for path in target.iterdir()
        )
        if not is_ours and not (target.is_dir() and not any(target.iterdir())):
            raise ValueError(
                "`path` must be a folder that is new, empty or a SavedModel "
                "without files of others in it, which is replaced. Received: "
                f"path={os.fspath(path)!r}"
            )
    if not is_folder and target.is_dir():
        raise ValueError(
            "`path` must be a file. Received: "
            f"path={os.fspath(path)!r}, which is a folder"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, for what is renamed must not change the disk.
        room = tempfile.TemporaryDirectory(
            dir=target.parent, prefix=f".{target.name}."
        )
    except OSError as error:
        raise ValueError(
            "`path` must be where files can be written. Received: "
            f"path={os.fspath(path)!r}: {error.strerror}"
        ) from error
    with room as folder:
        part = pathlib.Path(folder, "part")
        yield part
        if target.is_dir():
            os.replace(target, pathlib.Path(folder, "before"))
        os.replace(part, target)
