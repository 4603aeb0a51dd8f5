"""Networks as SavedModel, for TensorFlow Serving."""

import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_deconv import _graphs, _resizing, config
from keras_deconv.export._descriptions import as_text, describe
from keras_deconv.export._models import (
    Path,
    check_backend,
    checked_size,
    image_spec,
    known_size,
    one_tensor,
    replaced,
)
from keras_deconv.inference.monte_carlo import (
    can_be_sampled,
    predict_monte_carlo,
)

__all__ = ["to_saved_model"]

CLASS_NAMES_FILE = "class_names.txt"
PALETTE_FILE = "palette.txt"
DESCRIPTION_FILE = "description.json"


def to_saved_model(
    model: keras.Model,
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    palette: Any = None,
    value_range: Sequence[float] | None = None,
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

    The values of the images are in 0..255. If the model was trained with a
    `value_range` (low, high), compute `numpy.clip((images - low) * 255 /
    (high - low), 0, 255)` first, and round for the signatures that take uint8.

    `class_names`, `palette`, `value_range` and `image_size` are in
    `assets/description.json`, as beside the files of the other formats.

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
        value_range: The (low, high) of the training, for those who read the
            file. It does not change what the model computes.
        image_size: Height and width that images are resized to. None: those
            that the model takes; where it takes any, images are left as they
            are.

    Raises:
        ValueError: The model is another one, or not on the TensorFlow backend;
            names or palette are not one per class; `value_range` is not (low,
            high); `image_size` is none that the model takes; `path` cannot be
            written or is something else.

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
    tf = check_backend("to_saved_model")
    model = one_tensor(model)
    _graphs.check_is_segmentation(model)
    _graphs.check_from_logits(
        model, from_logits=not _graphs.gives_probabilities(model)
    )
    size = _image_size(model, image_size)
    description = describe(model, size, class_names, palette, value_range)
    assets = {"description": (DESCRIPTION_FILE, as_text(description))}
    if class_names is not None:
        lines = description["class_names"]
        assets["class_names"] = (CLASS_NAMES_FILE, _as_lines(lines))
    if palette is not None:
        lines = [",".join(map(str, one)) for one in description["palette"]]
        assets["palette"] = (PALETTE_FILE, _as_lines(lines))

    module = tf.Module()
    # So that they are written: functions alone do not own them.
    module.model_variables = [v.value for v in model.variables]
    signatures = _signatures(model, size)
    for name, function in signatures.items():
        setattr(module, name, function)
    with config.exporting(), replaced(path, is_folder=True) as part:
        # Of its own, since the SavedModel may have any name.
        folder = pathlib.Path(tempfile.mkdtemp(dir=part.parent))
        for name, (file, text) in assets.items():
            source = folder / file
            source.write_text(text, "utf-8")
            setattr(module, name, tf.saved_model.Asset(str(source)))
        tf.saved_model.save(module, str(part), signatures=signatures)


def _image_size(
    model: keras.Model, image_size: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Height and width that images get; None to leave them as they are."""
    if image_size is not None:
        return checked_size(model, image_size)
    return known_size(model)


def _as_lines(texts: Sequence[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _signatures(
    model: keras.Model, size: tuple[int, ...] | None
) -> dict[str, Callable[..., Any]]:
    """What a SavedModel can be asked for."""
    import tensorflow as tf

    gives_probabilities = _graphs.gives_probabilities(model)
    spec = image_spec(model)
    images_spec = tf.TensorSpec(
        (None, None, None, spec.shape[-1]), tf.uint8, "images"
    )

    def prepare(images: Any) -> Any:
        if size is not None:
            images = _resizing.exported_images(images, size)
        return tf.cast(images, spec.dtype)

    def restore(maps: Any, images: Any) -> Any:
        """Maps `(batch, height, width, ...)` at the size of the images."""
        return _resizing.scores(maps, tf.shape(images)[1:3])

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
