"""`keras-deconv export`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_deconv_cli import api, commands, runs, sources

__all__ = ["export"]

# With more images, the ranges of the activations barely change.
_NUM_REPRESENTATIVE = 100


def export(options: commands.Export) -> int:
    """Export a model; return the exit code."""
    model, run = runs.load(options.model_path)
    arguments: dict[str, Any] = {
        "image_size": run.image_size,
        "class_names": run.class_names,
        "palette": run.palette,
        "value_range": run.value_range,
    }
    if options.quantize:
        arguments["quantize"] = api.CHOICES["quantize"][options.quantize]
    if options.quantize == "int8":
        arguments["representative_images"] = _representative_images(
            options, run
        )
    if options.io_dtype:
        arguments["io_dtype"] = options.io_dtype
    api.find("format", options.format)(model, options.output, **arguments)
    print(f"Wrote {options.output}")
    if run.value_range:
        low, high = run.value_range
        print(
            "The exported model expects image values from 0 to 255. Scale "
            f"values from {low:g} to {high:g}, the range of the training, to "
            "that range and clip the others."
        )
    return 0


def _representative_images(
    options: commands.Export, run: runs.Run
) -> tf.data.Dataset:
    """Return images that the model was trained with."""
    if run.data is None:
        raise ValueError(
            "--quantize int8 needs the training images. Received: "
            f"{options.model_path!r} without {runs.RUN_FILE} in its folder. "
            "Use --quantize dynamic, which does not need images, or pass "
            "images to keras_deconv.export.to_tflite."
        )
    data = sources.moved(
        run.data, data_dir=options.data_dir, manual_dir=options.manual_dir
    )
    source = sources.find(data, run.files)
    dataset = source.load(
        run.splits["train"],
        image_size=run.image_size,
        # Without an image size, images can have different sizes.
        batch_size=1,
        shuffle=True,
        cache=False,
    )
    return dataset.take(_NUM_REPRESENTATIVE)
