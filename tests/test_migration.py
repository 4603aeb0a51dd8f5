"""docs/migration.md, line by line: each replacement gives the same result.

If a framework is not installed, its examples are skipped. The lines of the
table are then compared with its recorded results (tests/golden).
"""

import re
import types

import numpy as np
import pytest
import tensorflow as tf

import keras_deconv
from tests.paths import GOLDEN, ROOT

pytestmark = [pytest.mark.oldest, pytest.mark.live]

PAGE = (ROOT / "docs" / "migration.md").read_text()
GOLDEN_VECTORS = dict(np.load(GOLDEN))


def rows():
    """Pairs of what there was and the code that replaces it."""
    table = re.findall(r"^\| (.+?) \| `(.+?)` \|$", PAGE, re.MULTILINE)
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


def keras_names(rng):
    x = rng.normal(size=(2, 3, 5, 2)).astype("float32")
    return dict(x=x), dict(y=x.repeat(2, axis=1).repeat(2, axis=2))


def pytorch_names(rng):
    vectors = {
        name: GOLDEN_VECTORS[f"torch_2d_2_2/{name}"]
        for name in ("x", "pooled", "argmax", "unpooled")
    }
    names = dict(
        x=vectors["x"],
        pooled=vectors["pooled"],
        indices=vectors["argmax"],
    )
    expected = dict(
        pooled=vectors["pooled"],
        indices=vectors["argmax"],
        y=vectors["unpooled"],
    )
    return names, expected


def rounded_up_names(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 3, 5, 7)).astype("float32")
    pool = torch.nn.MaxPool2d(2, ceil_mode=True)
    return dict(x=x), dict(pooled=pool(torch.from_numpy(x)).numpy())


def onnx_names(rng):
    x, pooled, index = (
        GOLDEN_VECTORS[f"onnx_2d_2_2/{name}"]
        for name in ("x", "pooled", "argmax")
    )
    _, indices = keras_deconv.MaxPoolWithArgmax2D(
        data_format="channels_first", index_format="plane"
    )(x)
    # MaxUnpool, as the ONNX standard defines it.
    y = np.zeros(x.size, x.dtype)
    y[index.ravel()] = pooled.ravel()
    names = dict(x=x, onnx=index, pooled=pooled, indices=indices)
    return names, dict(indices=indices, y=y.reshape(x.shape))


def names_for(before):
    for origin, names in (
        ("ceil_mode", rounded_up_names),
        ("PyTorch", pytorch_names),
        ("ONNX", onnx_names),
        ("UpSampling2D", keras_names),
    ):
        if origin in before:
            return names
    return tensorflow_names


@pytest.mark.numeric
@pytest.mark.parametrize(("before", "code"), rows(), ids=lambda text: text[:30])
def test_row(before, code, rng):
    names, expected = names_for(before)(rng)
    results = [name.strip() for name in code.split(" = ")[0].split(",")]
    exec(code, {**names, "keras_deconv": keras_deconv}, names)
    compared = [name for name in results if name in expected]
    assert compared
    for name in compared:
        np.testing.assert_array_equal(names[name], expected[name])


def test_every_row_is_there():
    origins = " ".join(before for before, _ in rows())
    for origin in (
        *("scatter_nd", "TF Addons", "PyTorch", "ceil_mode", "batch"),
        *("ONNX `MaxPool`", "ONNX `MaxUnpool`", "UpSampling2D"),
    ):
        assert origin in origins
    assert len(rows()) == 11


# Code before and after, and what is said in between.
PAIRS = re.findall(
    r"```py\n(.+?)```\n\nwith:\n\n```python\n(.+?)```", PAGE, re.DOTALL
)


class MaxUnpooling2D:
    """TF Addons' layer, as its documentation says; the package is dead.

    https://github.com/tensorflow/addons, layers/max_unpooling_2d.py: by
    default windows and strides of 2, padding "SAME", and the size that the
    strides give.
    """

    def __call__(self, updates, mask):
        batch, height, width, channels = updates.shape
        return scatter(updates, mask, (batch, 2 * height, 2 * width, channels))


def frameworks_of(code):
    """The names that a piece of code uses, each from its package."""
    names = {}
    if "tfa." in code:
        layers = types.SimpleNamespace(MaxUnpooling2D=MaxUnpooling2D)
        names["tfa"] = types.SimpleNamespace(layers=layers)
    if "torch." in code:
        names["torch"] = pytest.importorskip("torch")
    if "helper." in code:
        onnx = pytest.importorskip("onnx")
        names["helper"] = onnx.helper
        names["ReferenceEvaluator"] = pytest.importorskip(
            "onnx.reference"
        ).ReferenceEvaluator
    return names


def common_names():
    """The names that the page defines before its examples."""
    names = {}
    exec(re.search(r"```python\n(.+?)```", PAGE, re.DOTALL).group(1), names)
    return names


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("before", "after"), PAIRS, ids=lambda code: code.split("(")[0][-30:]
)
def test_before_and_after_give_the_same(before, after):
    results = []
    for code in (before, after):
        names = common_names() | frameworks_of(code)  # the same numbers each
        exec(code, names)
        results.append(np.asarray(names["y"]))
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-6)
    assert np.abs(results[0]).max() > 1


def test_every_example_is_there():
    befores = " ".join(before for before, _ in PAIRS)
    for what in (
        *("tf.scatter_nd", "tfa.", "torch.nn.MaxUnpool2d", "conv_transpose2d"),
        *('"MaxUnpool"', "UpSampling2D"),
    ):
        assert what in befores
    assert PAGE.count("```py\n") == len(PAIRS) + len(KERAS_HUB) == 6 + 2


# These blocks replace nothing, so they are only run.
KERAS_HUB = re.findall(r"```py\n(import keras_hub\n.+?)```", PAGE, re.DOTALL)


def test_keras_hub():
    pytest.importorskip("keras_hub")
    names = {}
    for code in KERAS_HUB:
        exec(code, names)
    shape = names["model"].compute_output_shape((1, 45, 61, 3))
    assert shape == (1, 45, 61, 4)
    segmenter = names["deeplab"](input_shape=(64, 64, 3), num_classes=6)
    logits = segmenter(np.zeros((1, 64, 64, 3), "float32"))
    assert logits.shape == (1, 64, 64, 6)
