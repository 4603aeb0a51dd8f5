"""`keras-deconv export`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_deconv_cli import api, commands, runs, sources

__all__ = ["export"]

# More images hardly widen the range of an activation.
_NUM_REPRESENTATIVE = 100


def export(options: commands.Export) -> int:
    """Exports a model."""
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
            "The exported model takes images in 0..255. Scale the range of "
            f"the training, {low:g} to {high:g}, to it first, and clip values "
            "beyond."
        )
    return 0


def _representative_images(
    options: commands.Export, run: runs.Run
) -> tf.data.Dataset:
    """Images that the model was trained with."""
    if run.data is None:
        raise ValueError(
            "--quantize int8 needs the training images. Received: "
            f"{options.model_path!r} without {runs.RUN_FILE} beside it. "
            "--quantize dynamic does not need images, and "
            "keras_deconv.export.to_tflite accepts your own."
        )
    data = sources.moved(
        run.data, data_dir=options.data_dir, manual_dir=options.manual_dir
    )
    source = sources.find(data, run.files)
    dataset = source.load(
        run.splits["train"],
        image_size=run.image_size,
        # Without a size, images may differ in theirs.
        batch_size=1,
        shuffle=True,
        cache=False,
    )
    return dataset.take(_NUM_REPRESENTATIVE)
