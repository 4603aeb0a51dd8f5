"""Comparison of exported networks, whose windows may have nearly equal values.

Other programs add floats in another order. If two values of a window are equal
up to rounding, either of them may be the maximum. Its value is then
unpooled to another position.
"""

import keras
import numpy as np
import pytest

import keras_deconv

# Tolerance of sums in another order, relative to the largest logit.
MAX_DIFFERENCE = 1e-4
MIN_SAME_CLASSES = 0.999
# Keras may break ties in another way if the batch has another size.
MAX_OTHER_INDICES = 1e-4
MAX_STEP_OF_A_TIE = 1e-5


def check_same(logits, expected):
    assert logits.shape == expected.shape
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    same = (logits.argmax(-1) == expected.argmax(-1)).mean()
    print(f"largest difference {difference:.1e}, same classes {same:.4%}")
    assert difference <= MAX_DIFFERENCE
    assert same >= MIN_SAME_CLASSES


def check_numbers(run, model, images):
    """Check the outputs of a file of `with_indices(model)`, in batches."""
    logits = check_with_indices(run, model, images)
    expected = np.concatenate([model(image[None]) for image in images])
    same = (np.argmax(logits, -1) == expected.argmax(-1)).mean()
    print(f"same classes with the indices of the program {same:.4%}")
    assert same >= MIN_SAME_CLASSES


def check_with_indices(run, model, images):
    """Check that the model with the indices of the file returns its logits."""
    rows = [row for part in (images[:1], images[1:]) for row in run(part)]
    logits = []
    for image, row in zip(images, rows, strict=True):
        theirs, indices = split(model, row.ravel(), image.shape[:2])
        check_same(theirs, logits_with(model, image, indices))
        logits.append(theirs)
    return logits


def poolings(model):
    pool = keras_deconv.MaxPoolWithArgmax2D
    return [layer for layer in model.layers if isinstance(layer, pool)]


@keras.saving.register_keras_serializable("tests")
class Row(keras.layers.Layer):
    """Layer that converts any tensors to one row of numbers per image."""

    def call(self, tensors):
        rows = [
            keras.ops.reshape(
                keras.ops.cast(x, "float32"), (keras.ops.shape(x)[0], 1, -1, 2)
            )
            for x in tensors
        ]
        return keras.ops.concatenate(rows, axis=2)


def with_indices(model):
    """Return a model that also returns the index of each pooling."""
    indices = [layer.output[1] for layer in poolings(model)]
    return keras.Model(model.inputs[0], Row()([model.outputs[0], *indices]))


def split(model, row, size):
    """Return the logits and the indices from the row of an image."""
    tensors = [
        model.outputs[0],
        *(layer.output[1] for layer in poolings(model)),
    ]
    shapes = keras.Model(model.inputs[0], tensors).compute_output_shape(
        (1, *size, 3)
    )
    parts = np.split(row, np.cumsum([np.prod(shape) for shape in shapes]))
    assert parts.pop().size == 0
    logits, *indices = map(np.reshape, parts, shapes)
    return logits[0], indices


def value_at(layer, x, argmax):
    """Return the value of each window at an index."""
    plane = keras_deconv.ops.convert_argmax(
        argmax,
        layer.index_format,
        "plane",
        pool_size=layer.pool_size,
        strides=layer.strides,
        padding=layer.padding,
        input_size=x.shape[1:3],
    )
    cells = np.reshape(x, (len(x), -1, x.shape[-1]))
    positions = np.reshape(plane, (len(x), -1, x.shape[-1]))
    return keras.ops.reshape(
        np.take_along_axis(cells, positions.astype("int64"), axis=1),
        argmax.shape,
    )


def logits_with(model, image, indices):
    """Return the logits of the model with the indices of another program.

    Checks that two values of a window are equal up to rounding if their indices
    differ.
    """
    layers = poolings(model)
    steps, others = [0.0], [np.zeros(1, bool)]
    with pytest.MonkeyPatch.context() as patch:
        for layer, index in zip(layers, indices, strict=True):

            def pool(x, layer=layer, index=index):
                pooled, own = type(layer).call(layer, x)
                theirs = keras.ops.cast(index, own.dtype)
                chosen = value_at(layer, x, theirs)
                others.append(np.ravel(own != theirs))
                steps.append(np.max(pooled - chosen) / np.max(np.abs(x)))
                return chosen, theirs

            patch.setattr(layer, "call", pool)
        logits = np.asarray(model(image[None]))[0]
    share = np.mean(np.concatenate(others))
    print(f"other indices {share:.1e}, by {max(steps):.1e} at most")
    assert share <= MAX_OTHER_INDICES
    assert max(steps) <= MAX_STEP_OF_A_TIE
    return logits
