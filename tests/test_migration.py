"""The README's table for those who come from elsewhere, line by line."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_deconv

README = (Path(__file__).parent.parent / "README.md").read_text()
GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "vectors.npz"))


def rows():
    """Pairs of what there was and the code that replaces it."""
    section = README.split("## Coming from elsewhere")[1].split("\n## ")[0]
    table = re.findall(r"^\| (.+?) \| `(.+?)` \|$", section, re.MULTILINE)
    return [row for row in table if "keras_deconv." in row[1]]


def scatter(values, flat, shape):
    """The pasted recipe, for an index without the batch in it."""
    num_images, num_cells = shape[0], int(np.prod(shape[1:]))
    first = np.arange(num_images).reshape(-1, 1, 1, 1) * num_cells
    y = tf.scatter_nd(
        tf.reshape(flat + first, (-1, 1)),
        tf.reshape(values, (-1,)),
        tf.constant([num_images * num_cells], tf.int64),
    )
    return np.asarray(y).reshape(shape)


def tensorflow_names(rng):
    x = rng.integers(-3, 4, (2, 6, 8, 3)).astype("float32")
    pooled, flat = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")
    _, batch_flat = tf.nn.max_pool_with_argmax(
        x, 2, 2, "SAME", include_batch_in_index=True
    )
    _, argmax = keras_deconv.MaxPoolWithArgmax2D(padding="same")(x)
    names = dict(x=x, pooled=pooled, flat=flat, batch_flat=batch_flat)
    names.update(argmax=argmax, updates=pooled, mask=flat)
    expected = dict(pooled=pooled, y=scatter(pooled, flat, x.shape))
    return names, expected


def pytorch_names(rng):
    vectors = {
        name: GOLDEN[f"torch_2d_2_2/{name}"]
        for name in ("x", "pooled", "argmax", "unpooled")
    }
    names = dict(
        x=vectors["x"],
        pooled=vectors["pooled"],
        indices=vectors["argmax"],
        onnx=GOLDEN["onnx_2d_2_2/argmax"],
    )
    expected = dict(
        pooled=vectors["pooled"],
        indices=vectors["argmax"],
        y=vectors["unpooled"],
    )
    return names, expected


def onnx_names(rng):
    names, _ = pytorch_names(rng)
    x = names["x"] = GOLDEN["onnx_2d_2_2/x"]
    _, indices = keras_deconv.MaxPoolWithArgmax2D(
        data_format="channels_first", index_format="plane"
    )(x)
    return names, dict(indices=indices)


@pytest.mark.parametrize(("before", "code"), rows(), ids=lambda text: text[:30])
def test_row(before, code, rng):
    if "PyTorch" in before:
        names, expected = pytorch_names(rng)
    elif "ONNX" in before:
        names, expected = onnx_names(rng)
    else:
        names, expected = tensorflow_names(rng)
    results = [name.strip() for name in code.split(" = ")[0].split(",")]
    exec(code, {**names, "keras_deconv": keras_deconv}, names)
    compared = [name for name in results if name in expected]
    assert compared
    for name in compared:
        np.testing.assert_array_equal(names[name], expected[name])


def test_every_row_is_there():
    origins = " ".join(before for before, _ in rows())
    for origin in ("scatter_nd", "TF Addons", "PyTorch", "ONNX", "batch"):
        assert origin in origins
    assert len(rows()) == 8
