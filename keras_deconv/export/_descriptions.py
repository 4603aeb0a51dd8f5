"""Describe an exported model in JSON: class names, palette, image size."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_deconv import _arguments
from keras_deconv.export._models import Path, replaced

SUFFIX = ".json"
# Marks files that an export may replace.
_WRITTEN_BY = {"written_by": "keras_deconv"}


def describe(
    model: keras.Model,
    image_size: Sequence[int] | None,
    class_names: Sequence[str] | None,
    palette: Any,
    value_range: Sequence[float] | None,
) -> dict[str, Any]:
    """Return the content of JSON files and metadata; unknown values are None.

    Args:
        model: Model whose last output axis holds the classes.
        image_size: Height and width that images are resized to, or that the
            file requires.
        class_names: One name per class.
        palette: One (red, green, blue) in 0..255 per class.
        value_range: Values of the training images that became 0 and 255.

    Raises:
        ValueError: If there is not one name or color per class.
        ValueError: If `value_range` is not (low, high).
    """
    num_classes = model.output_shape[-1]
    limits = _arguments.value_range(value_range)
    return {
        **_WRITTEN_BY,
        "class_names": None
        if class_names is None
        else list(_arguments.class_names(class_names, num_classes)),
        "palette": None
        if palette is None
        else _arguments.palette(palette, num_classes).tolist(),
        "value_range": None if limits is None else list(limits),
        "image_size": None if image_size is None else list(image_size),
    }


def as_text(description: dict[str, Any]) -> str:
    return json.dumps(description, indent=2, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def beside(path: Path, description: dict[str, Any]) -> Iterator[None]:
    """Write the description to `path`.json if the block does not raise.

    It is complete in a temporary file before the block begins. So an error in
    writing it leaves the model that `path` held before.

    Raises:
        ValueError: If a file of that name exists that this package did not
            write.
        ValueError: If the file cannot be written.
    """
    path = _arguments.path(path, "path")
    file = path.parent / f"{path.name}{SUFFIX}"
    if os.path.exists(file) and not _is_ours(file):
        raise ValueError(
            f"`path` must be a name whose '{SUFFIX}' is free, since class "
            "names and image size are written there. Received: "
            f"path={os.fspath(path)!r}, and {os.fspath(file)!r} was not "
            "written by keras_deconv. Move it away or choose another name."
        )
    with replaced(file) as part:
        part.write_text(as_text(description), "utf-8")
        yield


def _is_ours(file: pathlib.Path) -> bool:
    try:
        return (
            _WRITTEN_BY.items() <= json.loads(file.read_text("utf-8")).items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False
