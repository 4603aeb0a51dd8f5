"""Make the golden vectors: what PyTorch, TensorFlow and ONNX answer.

    pip install -e ".[test,oracles]" && python tests/golden/make.py

writes `vectors.npz` beside this file. Each case has the input and the index
and values of pooling, and what unpooling gives, in that framework's layout.
"""

import itertools
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
import torch
from onnx.reference import ReferenceEvaluator

FOLDER = Path(__file__).parent
SIZES = {1: (7,), 2: (5, 6), 3: (3, 4, 5)}
WINDOWS = [(2, 2), (3, 2), (2, 3)]  # window and strides, same on every axis


def pytorch(x, window, stride):
    rank = x.ndim - 2
    pool = getattr(torch.nn.functional, f"max_pool{rank}d")
    unpool = getattr(torch.nn.functional, f"max_unpool{rank}d")
    tensor = torch.from_numpy(x)
    pooled, argmax = pool(tensor, window, stride, return_indices=True)
    if stride < window:  # PyTorch: one of several values, undefined which
        return {"pooled": pooled, "argmax": argmax}
    unpooled = unpool(pooled, argmax, window, stride, output_size=x.shape)
    return {"pooled": pooled, "argmax": argmax, "unpooled": unpooled}


def pytorch_padded(x):
    """Padding at both ends, which neither "valid" nor "same" can express."""
    pooled, argmax = torch.nn.functional.max_pool2d(
        torch.from_numpy(x), 2, 2, padding=1, return_indices=True
    )
    unpooled = torch.nn.functional.max_unpool2d(
        pooled, argmax, 2, 2, padding=1, output_size=x.shape
    )
    return {"pooled": pooled, "argmax": argmax, "unpooled": unpooled}


def tensorflow(x, window, stride, padding, batch):
    pooled, argmax = tf.nn.max_pool_with_argmax(
        x, window, stride, padding, include_batch_in_index=batch
    )
    return {"pooled": pooled, "argmax": argmax}


def onnx_standard(x, window, stride):
    rank = x.ndim - 2
    options = {"kernel_shape": [window] * rank, "strides": [stride] * rank}
    helper = onnx.helper
    pool = helper.make_node("MaxPool", ["x"], ["y", "i"], **options)
    graph = helper.make_graph(
        [pool],
        "pool",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [
            helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None),
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, None),
        ],
    )
    model = helper.make_model(graph)
    pooled, argmax = ReferenceEvaluator(model).run(None, {"x": x})
    return {"pooled": pooled, "argmax": argmax}


def main():
    rng = np.random.default_rng(7)
    vectors = {}

    def add(name, x, answer):
        for key, value in {"x": x, **answer}.items():
            vectors[f"{name}/{key}"] = np.asarray(value)

    for (rank, size), (window, stride) in itertools.product(
        SIZES.items(), WINDOWS
    ):
        # Small integers: most windows have ties.
        x = rng.integers(-3, 4, (2, 3, *size)).astype("float32")
        name = f"{rank}d_{window}_{stride}"
        add(f"torch_{name}", x, pytorch(x, window, stride))
        if rank == 2:
            add(f"onnx_{name}", x, onnx_standard(x, window, stride))
            images = np.moveaxis(x, 1, -1)
            for padding, batch in itertools.product(
                ("VALID", "SAME"), (False, True)
            ):
                add(
                    f"tf_{name}_{padding}_{batch}",
                    images,
                    tensorflow(images, window, stride, padding, batch),
                )
    x = rng.integers(-3, 4, (2, 3, 5, 6)).astype("float32")
    add("padded_2d", x, pytorch_padded(x))
    np.savez_compressed(FOLDER / "vectors.npz", **vectors)
    print(f"{len(vectors)} arrays")


if __name__ == "__main__":
    main()
