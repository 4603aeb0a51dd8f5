"""Compare pooling and unpooling with other implementations.

    python benchmarks/unpool.py              # times
    python benchmarks/unpool.py --memory     # peak memory, one process each
    python benchmarks/unpool.py --compile    # time of first calls
    python benchmarks/unpool.py --backend torch   # the layers on PyTorch

All candidates run in one process and take turns, so that other programs on the
machine affect all of them equally. See benchmarks/README.md.
"""

import argparse
import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Files next to this one.
import backend

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Keras reads this variable when it is imported.
os.environ["KERAS_BACKEND"] = backend.chosen()

import keras
import numpy as np
import tensorflow as tf
from measuring import (
    about,
    in_turns,
    peak_bytes,
    positive_int,
    print_about,
    print_table,
    run_again,
    seconds_of,
    summary,
    write_json,
)

import keras_deconv
from keras_deconv import config

try:
    import torch
except ImportError:
    torch = None

# TensorFlow warns about retracing, which is intended here.
tf.get_logger().setLevel("ERROR")

COPY = "copy"
FUSED = "ours fused"
PLAIN = "ours plain"
RECIPE = "argmax + scatter_nd"
KERAS = "keras upsampling"
TORCH_FIRST = "torch channels_first"
TORCH_LAST = "torch channels_last"
# With --backend torch, in both index formats.
EAGER = "ours eager, {}"
COMPILED = "ours compiled, {}"

OPERATIONS = ("pool", "unpool", "both", "train")


class Case(NamedTuple):
    """The shape of the input, channels last, and the windows."""

    shape: tuple[int, ...]
    pool_size: int = 2
    strides: int = 2

    @property
    def name(self) -> str:
        window = f"-window{self.pool_size}" if self.is_overlapping else ""
        return "x".join(map(str, self.shape)) + window

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def is_overlapping(self) -> bool:
        return self.pool_size > self.strides


class Candidate(NamedTuple):
    """An implementation: functions by operation, and how to call them."""

    functions: dict[str, Callable[..., Any]]
    convert: Callable[[np.ndarray], Any]
    prepare: Callable[..., Callable[[], Any]]


HEADLINE = Case((8, 180, 240, 64))
CASES = (
    HEADLINE,
    Case((8, 180, 240, 64), pool_size=3),
    Case((1, 360, 480, 64)),
    Case((4, 360, 480, 64)),
    Case((16, 90, 120, 128)),
    Case((8, 45, 60, 256)),
    Case((1, 16, 16, 512)),
    Case((16, 16, 16, 512)),
    Case((16, 16384, 64)),
    Case((2, 32, 64, 64, 64)),
)
SMOKE_HEADLINE = Case((2, 12, 16, 4))
SMOKE_CASES = (
    SMOKE_HEADLINE,
    Case((2, 12, 16, 4), pool_size=3),
    Case((2, 32, 4)),
    Case((1, 4, 6, 8, 4)),
)


# The candidates


def candidates(case: Case) -> dict[str, Candidate]:
    """Return all implementations for the rank of a case, without the copy."""
    if keras.config.backend() == "torch":
        return candidates_on_torch(case)
    ours = tensorflow_functions(*our_functions(case))
    upsampling = tensorflow_functions(*keras_functions(case))
    found = {
        FUSED: Candidate(ours, tf.constant, trace),
        PLAIN: Candidate(ours, tf.constant, trace_plain),
        KERAS: Candidate(upsampling, tf.constant, trace),
    }
    if case.rank == 2:
        recipe = tensorflow_functions(*recipe_functions(case))
        found[RECIPE] = Candidate(recipe, tf.constant, trace)
    if torch is not None:
        found |= torch_candidates(case)
    return found


def candidates_on_torch(case: Case) -> dict[str, Candidate]:
    """Return the layers on PyTorch, and PyTorch's own functions."""
    found = {}
    for index_format in ("window", "plane"):
        functions = differentiated_by_torch(*our_functions(case, index_format))
        for name, prepare in (
            (EAGER, functools.partial),
            (COMPILED, compile_by_torch),
        ):
            found[name.format(index_format)] = Candidate(
                functions, torch.from_numpy, prepare
            )
    return found | torch_candidates(case)


def torch_candidates(case: Case) -> dict[str, Candidate]:
    functions = torch_functions(case)
    found = {
        TORCH_FIRST: Candidate(functions, channels_first, functools.partial)
    }
    if case.rank > 1:  # PyTorch needs two axes for the other layout.
        found[TORCH_LAST] = Candidate(
            functions, channels_last, functools.partial
        )
    return found


def our_functions(
    case: Case, index_format: str = "window"
) -> tuple[Callable, Callable]:
    windows = dict(
        pool_size=case.pool_size,
        strides=case.strides,
        padding="same",
        index_format=index_format,
    )

    def pool(x: Any) -> tuple:
        return keras_deconv.ops.max_pool_with_argmax(x, **windows)

    def unpool(pooled: Any, argmax: Any) -> Any:
        return keras_deconv.ops.max_unpool(
            pooled, argmax, output_size=case.shape[1:-1], **windows
        )

    return pool, unpool


def recipe_functions(case: Case) -> tuple[Callable, Callable]:
    """A common recipe. It adds the values of overlapping windows."""

    def pool(x: Any) -> tuple:
        return tf.nn.max_pool_with_argmax(
            x,
            case.pool_size,
            case.strides,
            "SAME",
            include_batch_in_index=True,
        )

    def unpool(pooled: Any, argmax: Any) -> Any:
        flat = tf.scatter_nd(
            tf.reshape(argmax, (-1, 1)),
            tf.reshape(pooled, (-1,)),
            tf.constant([math.prod(case.shape)], argmax.dtype),
        )
        return tf.reshape(flat, case.shape)

    return pool, unpool


def keras_functions(case: Case) -> tuple[Callable, Callable]:
    """Pooling and upsampling without an index."""
    pooling = getattr(keras.layers, f"MaxPooling{case.rank}D")(
        case.pool_size,
        case.strides,
        padding="same",
        data_format="channels_last",
    )
    # The layer for one axis does not have the argument.
    options = {} if case.rank == 1 else {"data_format": "channels_last"}
    upsampling = getattr(keras.layers, f"UpSampling{case.rank}D")(
        case.strides, **options
    )
    return lambda x: (pooling(x),), upsampling


def tensorflow_functions(
    pool: Callable, unpool: Callable
) -> dict[str, Callable]:
    def both(x: Any) -> Any:
        return unpool(*pool(x))

    def train(x: Any, upstream: Any) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = both(x)
        return y, tape.gradient(y, x, upstream)

    return dict(pool=pool, unpool=unpool, both=both, train=train)


def torch_functions(case: Case) -> dict[str, Callable]:
    """PyTorch's own. Unpooling keeps one of several values on a cell."""
    max_pool = getattr(torch.nn.functional, f"max_pool{case.rank}d")
    max_unpool = getattr(torch.nn.functional, f"max_unpool{case.rank}d")

    def pool(x: Any) -> tuple:
        return max_pool(
            x,
            case.pool_size,
            case.strides,
            ceil_mode=True,  # as TensorFlow's "SAME"
            return_indices=True,
        )

    def unpool(pooled: Any, indices: Any) -> Any:
        return max_unpool(
            pooled,
            indices,
            case.pool_size,
            case.strides,
            output_size=case.shape[1:-1],
        )

    functions = differentiated_by_torch(pool, unpool)
    return dict(pool=pool) if case.is_overlapping else functions


def differentiated_by_torch(
    pool: Callable, unpool: Callable
) -> dict[str, Callable]:
    def both(x: Any) -> Any:
        return unpool(*pool(x))

    return dict(
        pool=pool, unpool=unpool, both=both, train=gradient_by_torch(both)
    )


def gradient_by_torch(both: Callable) -> Callable:
    def train(x: Any, upstream: Any) -> tuple:
        x = x.detach().requires_grad_()
        y = both(x)
        return y.detach(), torch.autograd.grad(y, x, upstream)

    train.forward = both
    return train


def compile_by_torch(function: Callable, *tensors: Any) -> Callable[[], Any]:
    """Compile the forward pass. PyTorch then compiles its gradient too."""
    forward = getattr(function, "forward", None)
    if forward is None:
        function = torch.compile(function, fullgraph=True)
    else:
        function = gradient_by_torch(torch.compile(forward, fullgraph=True))
    return functools.partial(function, *tensors)


def channels_last(x: np.ndarray) -> Any:
    """Keep the memory of NumPy, with the axis order of PyTorch."""
    return torch.from_numpy(x).movedim(-1, 1)


def channels_first(x: np.ndarray) -> Any:
    return channels_last(x).contiguous()


def trace(function: Callable, *tensors: Any) -> Callable[[], Any]:
    function = tf.function(function, autograph=False)
    return functools.partial(function.get_concrete_function(*tensors), *tensors)


def trace_plain(function: Callable, *tensors: Any) -> Callable[[], Any]:
    """Trace for unknown sizes, the case in which plain kernels are used."""
    signature = [
        tf.TensorSpec([*[None] * (len(t.shape) - 1), t.shape[-1]], t.dtype)
        for t in tensors
    ]
    function = tf.function(function, input_signature=signature, autograph=False)
    return functools.partial(function.get_concrete_function(), *tensors)


# Times


def measure_case(case: Case, repetitions: int) -> dict[str, Any]:
    x, upstream = inputs(case)
    calls = {(COPY, COPY): copy_call(x)}
    for name, candidate in candidates(case).items():
        for operation, call in prepared_calls(candidate, x, upstream):
            calls[operation, name] = call
    times = in_turns(calls, repetitions)
    (copy_milliseconds, _) = summary(times[COPY, COPY])
    rows = []
    for (operation, name), seconds in times.items():
        milliseconds, spread = summary(seconds)
        rows.append(
            dict(
                operation=operation,
                candidate=name,
                milliseconds=milliseconds,
                spread=spread,
                copies=milliseconds / copy_milliseconds,
            )
        )
    rows.sort(key=lambda row: (COPY, *OPERATIONS).index(row["operation"]))
    return dict(
        case=case.name,
        shape=case.shape,
        pool_size=case.pool_size,
        strides=case.strides,
        megabytes=x.nbytes / 1e6,
        rows=rows,
        ratios=list(ratios(rows)),
    )


def copy_call(x: np.ndarray) -> Callable[[], Any]:
    if keras.config.backend() == "torch":
        return functools.partial(torch.add, torch.from_numpy(x), 1)
    copy = tf.function(lambda x: x + 1, jit_compile=True)
    return functools.partial(copy, tf.constant(x))


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, upstream = (
        rng.standard_normal(case.shape, dtype=np.float32) for _ in range(2)
    )
    return x, upstream


def prepared_calls(
    candidate: Candidate, x: np.ndarray, upstream: np.ndarray
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Return each operation of a candidate, with all inputs created."""
    x, upstream = candidate.convert(x), candidate.convert(upstream)
    pool = candidate.prepare(candidate.functions["pool"], x)
    arguments = dict(pool=(x,), unpool=pool(), both=(x,), train=(x, upstream))
    for operation, function in candidate.functions.items():
        yield operation, candidate.prepare(function, *arguments[operation])


def ratios(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Divide the times of the others by those of the package."""
    for operation in OPERATIONS:
        found = {
            row["candidate"]: row["milliseconds"]
            for row in rows
            if row["operation"] == operation
        }
        torches = [found[n] for n in (TORCH_FIRST, TORCH_LAST) if n in found]
        if keras.config.backend() == "torch":
            yield from ratios_on_torch(operation, found)
            continue
        rivals = {
            PLAIN: found[PLAIN],
            RECIPE: found.get(RECIPE),
            "torch best": min(torches, default=None),
            KERAS: found[KERAS],
        }
        yield dict(operation=operation) | {
            f"{name} / ours": value and value / found[FUSED]
            for name, value in rivals.items()
        }


def ratios_on_torch(
    operation: str, found: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Divide the times of the package by those of PyTorch's functions."""
    natives = [name for name in (TORCH_FIRST, TORCH_LAST) if name in found]
    if not natives:  # overlapping windows
        return
    for name, milliseconds in found.items():
        if name not in natives:
            yield dict(operation=operation, candidate=name) | {
                f"/ {native}": milliseconds / found[native]
                for native in natives
            }


# Memory


def measure_memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    case = SMOKE_HEADLINE if options.smoke else HEADLINE
    rows = []
    for name in candidates(case):
        arguments = ["--memory-of", name, *["--smoke"] * options.smoke]
        arguments += ["--backend", options.backend]
        rows.append(run_again(__file__, arguments))
    return rows


def memory_of(name: str, smoke: bool) -> dict[str, Any]:
    case = SMOKE_HEADLINE if smoke else HEADLINE
    # The first call of each library sets it up, which is not measured.
    first = Case((2, 8, 8, 4))
    training_call(candidates(first)[name], *inputs(first))()
    arrays = inputs(case)  # kept, so that their memory is not reused
    call = training_call(candidates(case)[name], *arrays)
    before = peak_bytes()
    call()
    peak = peak_bytes() - before
    kept = kept_bytes(case, name, *arrays)
    return dict(
        candidate=name,
        case=case.name,
        input_bytes=arrays[0].nbytes,
        peak_bytes=peak,
        kept_bytes=kept,
        peak_inputs=peak / arrays[0].nbytes,
        kept_inputs=kept / arrays[0].nbytes,
    )


def training_call(
    candidate: Candidate, x: np.ndarray, upstream: np.ndarray
) -> Callable[[], Any]:
    return candidate.prepare(
        candidate.functions["train"], *map(candidate.convert, (x, upstream))
    )


def kept_bytes(
    case: Case, name: str, x: np.ndarray, upstream: np.ndarray
) -> int:
    """Count the bytes of the forward pass that the backward pass reads."""
    candidate = candidates(case)[name]
    if keras.config.backend() == "torch" or name in (TORCH_FIRST, TORCH_LAST):
        return kept_by_torch(training_call(candidate, x, upstream))
    return kept_by_tensorflow(candidate, x, upstream)


def kept_by_torch(call: Callable[[], Any]) -> int:
    kept = {}

    def pack(tensor: Any) -> Any:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        call()
    return sum(kept.values())


def kept_by_tensorflow(
    candidate: Candidate, x: np.ndarray, upstream: np.ndarray
) -> int:
    """Find the results of the forward pass that the backward pass reads."""
    forward = backward = ()

    def train(x: Any, upstream: Any) -> Any:
        nonlocal forward, backward
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = candidate.functions["both"](x)
        operations = x.graph.get_operations()
        gradient = tape.gradient(y, x, upstream)
        forward = {o.name for o in operations if o is not upstream.op}
        backward = x.graph.get_operations()[len(operations) :]
        return gradient

    candidate.prepare(train, *map(candidate.convert, (x, upstream)))
    read = {
        tensor.name: source(tensor)
        for operation in backward
        # These operations use only the shape.
        if operation.type not in ("Shape", "ShapeN", "Size", "ZerosLike")
        for tensor in operation.inputs
        if tensor.op.name in forward
    }
    kept = {tensor.name: tensor for tensor in read.values()}
    return sum(
        tensor.shape.num_elements() * tensor.dtype.size
        for tensor in kept.values()
        if tensor.op.type != "Const"
    )


def source(tensor: Any) -> Any:
    """Return the tensor whose memory this tensor shares."""
    while tensor.op.type in (
        "Identity",
        "IdentityN",
        "StopGradient",
        "Reshape",
    ):
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


# Compilation


def measure_compilation(smoke: bool) -> list[dict[str, Any]]:
    return [*first_predictions(smoke), *eager_calls(smoke)]


def first_predictions(smoke: bool) -> list[dict[str, Any]]:
    """Measure the first call of a prediction function with new image sizes.

    The feature maps of these sizes all differ, so nothing is compiled yet.
    """
    build = keras_deconv.models.SegNet
    # The first four of five stages are large enough to be compiled.
    sizes = [(320, 448), (352, 480), (384, 512)]
    if smoke:
        build = keras_deconv.models.SegNetBasic
        sizes = [(48, 64)]
    model = build((None, None, 3), 11)
    # Set-up that does not depend on the size is not measured.
    for prepare in (trace_plain, trace):
        seconds_of_first_prediction(model, (32, 32), prepare)
    times = {PLAIN: [], FUSED: []}
    for size in sizes:
        # The first call with a size sets up the convolutions for both.
        seconds_of_first_prediction(model, size, trace_plain)
        for name, prepare in ((PLAIN, trace_plain), (FUSED, trace)):
            times[name].append(
                seconds_of_first_prediction(model, size, prepare)
            )
    times["fused - plain"] = np.subtract(times[FUSED], times[PLAIN])
    return compilation_rows(f"first prediction of {model.name}", times)


def seconds_of_first_prediction(
    model: keras.Model, size: tuple[int, int], prepare: Callable
) -> float:
    images = tf.zeros((1, *size, 3))

    def predict(images: Any) -> Any:
        return model(images, training=False)

    return seconds_of(lambda: prepare(predict, images)())


def eager_calls(smoke: bool) -> list[dict[str, Any]]:
    """Measure eager pooling and unpooling with new sizes."""
    num_sizes, channels = (2, 4) if smoke else (8, 64)
    rows = []
    times = {n: {PLAIN: [], FUSED: []} for n in (1, 2, 3)}
    # The first size is not measured: it checks for a compiler.
    for i in range(-1, num_sizes):
        case = Case((1, 98 + 2 * i, 130 + 2 * i, channels))
        both = tensorflow_functions(*our_functions(case))["both"]
        call = functools.partial(both, tf.constant(inputs(case)[0]))
        for of_number in times.values():
            for name, of_name in of_number.items():
                config.enable_compiled_kernels(
                    name == FUSED, min_elements=0 if smoke else 2**19
                )
                seconds = seconds_of(call)
                if i >= 0:
                    of_name.append(seconds)
    config.enable_compiled_kernels(True)
    for number, of_number in times.items():
        rows += compilation_rows(f"eager call {number} of a size", of_number)
    return rows


def compilation_rows(
    what: str, times: dict[str, list[float]]
) -> list[dict[str, Any]]:
    rows = []
    for name, seconds in times.items():
        milliseconds, spread = summary(seconds)
        rows.append(
            dict(
                what=what,
                candidate=name,
                milliseconds=milliseconds,
                spread=spread,
            )
        )
    return rows


# Reports


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[backend.option],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--case", action="append", metavar="NAME", help="can be repeated")
    add("--list", action="store_true", help="print the names of the cases")
    add("--repetitions", type=positive_int, help="15, or 2 with --smoke")
    add("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    add("--smoke", action="store_true", help="tiny sizes; takes seconds")
    add("--memory", action="store_true", help="peak memory of training")
    add("--memory-of", metavar="CANDIDATE", help="memory of one, as JSON")
    add("--compile", action="store_true", help="time of first calls")
    options = parser.parse_args(arguments)
    if options.backend == "torch" and options.compile:
        parser.error("--compile requires --backend tensorflow.")
    if options.smoke:  # otherwise nothing would be compiled
        config.enable_compiled_kernels(min_elements=0)
    cases = {c.name: c for c in (SMOKE_CASES if options.smoke else CASES)}
    for name in options.case or ():
        if name not in cases:
            parser.error(f"--case {name} is not one of: {', '.join(cases)}.")
    known = candidates(SMOKE_HEADLINE)
    if options.memory_of is not None and options.memory_of not in known:
        parser.error(
            f"--memory-of {options.memory_of} is not one of: "
            f"{', '.join(known)}."
        )
    options.cases = [cases[name] for name in options.case or cases]
    options.repetitions = options.repetitions or (2 if options.smoke else 15)
    return options


def main() -> None:
    options = parse_arguments()
    if options.list:
        for case in options.cases:
            print(case.name)
        return
    if options.memory_of is not None:
        print(json.dumps(memory_of(options.memory_of, options.smoke)))
        return
    report = dict(about=about())
    print_about(report["about"])
    if options.memory:
        report["memory"] = measure_memory(options)
        print_table(report["memory"])
    elif options.compile:
        report["compile"] = measure_compilation(options.smoke)
        print_table(report["compile"])
    else:
        report["repetitions"] = options.repetitions
        report["cases"] = []
        for case in options.cases:
            result = measure_case(case, options.repetitions)
            report["cases"].append(result)
            print(f"\n### {case.name} ({result['megabytes']:.1f} MB)")
            print_table(result["rows"])
            print_table(result["ratios"])
    write_json(options.json, report)


if __name__ == "__main__":
    main()
