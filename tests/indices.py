"""Numbers of an exported network, where two values of a window may be equal.

In another program sums of floats have another order. Where two values of a
window differ by as little, the other one may be the maximum, and a value is
unpooled beside its place.
"""

import keras
import numpy as np
import pytest

import keras_deconv

# Of the largest logit: what sums of floats in another order may differ by.
MAX_DIFFERENCE = 1e-4
MIN_SAME_CLASSES = 0.999
# Keras itself breaks ties otherwise in batches of another size.
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
    """Check what a file of `with_indices(model)` gives, in batches."""
    logits = check_with_indices(run, model, images)
    expected = np.concatenate([model(image[None]) for image in images])
    same = (np.argmax(logits, -1) == expected.argmax(-1)).mean()
    print(f"same classes with an index of its own {same:.4%}")
    assert same >= MIN_SAME_CLASSES


def check_with_indices(run, model, images):
    """The logits of the file, which the model gives with the file's indices."""
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
    """Tensors of any shape and type as one row of numbers per image."""

    def call(self, tensors):
        rows = [
            keras.ops.reshape(
                keras.ops.cast(x, "float32"), (keras.ops.shape(x)[0], 1, -1, 2)
            )
            for x in tensors
        ]
        return keras.ops.concatenate(rows, axis=2)


def with_indices(model):
    """The model, which also gives the index of each pooling."""
    indices = [layer.output[1] for layer in poolings(model)]
    return keras.Model(model.inputs[0], Row()([model.outputs[0], *indices]))


def split(model, row, size):
    """Logits and indices of one image, out of its row."""
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
    """The value of each window at an index."""
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
    """What the model gives with indices from elsewhere, which must be as good.

    Where they are others, two values of a window are equal up to rounding.
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
