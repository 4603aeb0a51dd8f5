"""Export networks as SavedModel, for TensorFlow Serving."""

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
    """Write a SavedModel that segments images of any size.

    Use it to serve a network. `tf.saved_model.load` and TensorFlow Serving load
    it without keras_deconv. It has these signatures, each with a dynamic
    batch size:

    - `serving_default`: takes uint8 `images` and returns `class_ids` (int32
      `(batch, height, width)`) and `probabilities` (float32 `(batch, height,
      width, num_classes)`). The images are resized to `image_size` (bilinear,
      antialiased, rounded to whole values) and the probabilities back to the
      size of the images (bilinear). The class ids are the argmax of the resized
      probabilities. `keras-deconv predict` processes images the same way,
      except that up to 1 in 1,000 values of a resized image can differ by 1.
    - `logits`: takes float32 `images` of the size that the model requires, with
      values in 0..255, and returns `logits`, the output of the model. If the
      model ends in a softmax, these are the logarithms of its probabilities.
    - `monte_carlo`, if the model has dropout: takes uint8 `images` and a scalar
      int32 `samples`, and returns the fields of
      `inference.MonteCarloPrediction`, resized to the size of the images. Each
      call draws new samples.

    If the model was trained with a `value_range` (low, high), compute
    `numpy.clip((images - low) * 255 / (high - low), 0, 255)` before you call a
    signature, and round the result for those that take uint8.

    `class_names`, `palette`, `value_range` and `image_size` are written to
    `assets/description.json`.

    Args:
        model: Built Functional or Sequential model from `(batch, height, width,
            channels)` to logits or probabilities `(batch, height, width,
            num_classes)`, such as `models.SegNet`.
        path: Folder to write. It must be new, empty, or hold a SavedModel and
            no other files. A SavedModel is replaced when the new one is
            complete.
        class_names: One name per class, written to `assets/class_names.txt`,
            one per line, and available as the attribute `class_names` of the
            loaded object.
        palette: One (red, green, blue) in 0..255 per class, written to
            `assets/palette.txt` as `red,green,blue`, one per line, and
            available as the attribute `palette`.
        value_range: The (low, high) of the training. It is recorded, and does
            not change what the model computes.
        image_size: Height and width in pixels that images are resized to. The
            default None resizes to the size that the model requires. If the
            model accepts any size, images are not resized then.

    Raises:
        ValueError: If the backend is not TensorFlow.
        ValueError: If `model` is not built, or does not map images to scores
            per pixel.
        ValueError: If there is not one name or color per class.
        ValueError: If `value_range` is not (low, high).
        ValueError: If the model does not accept images of `image_size`.
        ValueError: If `path` cannot be written, or holds something other than a
            SavedModel.

    Edge cases:
        An image that already has the size `image_size` gets exactly the output
        of the model. Entropies and variances are resized directly, not computed
        from resized probabilities.

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
    # Only variables of the module are written; functions do not own theirs.
    module.model_variables = [v.value for v in model.variables]
    signatures = _signatures(model, size)
    for name, function in signatures.items():
        setattr(module, name, function)
    with config.exporting(), replaced(path, is_folder=True) as part:
        # A separate folder, since the SavedModel may have any name.
        folder = pathlib.Path(tempfile.mkdtemp(dir=part.parent))
        for name, (file, text) in assets.items():
            source = folder / file
            source.write_text(text, "utf-8")
            setattr(module, name, tf.saved_model.Asset(str(source)))
        tf.saved_model.save(module, str(part), signatures=signatures)


def _image_size(
    model: keras.Model, image_size: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Return the size that images are resized to; None to leave them."""
    if image_size is not None:
        return checked_size(model, image_size)
    return known_size(model)


def _as_lines(texts: Sequence[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _signatures(
    model: keras.Model, size: tuple[int, ...] | None
) -> dict[str, Callable[..., Any]]:
    """Return the functions of a SavedModel by their names."""
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
        """Resize maps `(batch, height, width, ...)` to that of the images."""
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
