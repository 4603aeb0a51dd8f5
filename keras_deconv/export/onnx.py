"""Networks as ONNX files."""

import warnings
from collections.abc import Sequence

import keras

from keras_deconv import config
from keras_deconv.export._models import (
    Path,
    check_backend,
    in_float32,
    of_size,
    one_tensor,
    replaced,
)

__all__ = ["to_onnx"]


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

    The values of the images are in 0..255. If the model was trained with a
    `value_range` (low, high), which is not part of the file, compute
    `numpy.clip((images - low) * 255 / (high - low), 0, 255)` first.

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
    check_backend("to_onnx")
    model = of_size(in_float32(one_tensor(model)), image_size)
    try:
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ONNX files are written by tf2onnx, which is not installed: "
            'pip install "keras-deconv[onnx]"'
        ) from error
    # Keras exports no model to ONNX that was never called.
    model(keras.KerasTensor(model.input_shape))
    with (
        config.exporting(),
        replaced(path) as part,
        warnings.catch_warnings(),
    ):
        # Keras names np.object to tf2onnx, which NumPy does not like.
        warnings.simplefilter("ignore", FutureWarning)
        model.export(str(part), format="onnx", verbose=False)
