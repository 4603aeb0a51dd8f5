"""Run all measurements on a GPU with one command, in a few minutes.

    KERAS_BACKEND=jax python benchmarks/gpu.py
    KERAS_BACKEND=torch python benchmarks/gpu.py --minutes 5
    KERAS_BACKEND=jax python benchmarks/gpu.py --camvid camvid.npz --minutes 4

The parts are: correctness (GPU against CPU), bandwidth of pooling and
unpooling, `fit` of two networks, and PyTorch's own layers, in this order. Each
part runs in a new process and is printed and written when it ends. The script
requires Keras, NumPy, JAX or PyTorch, and the source of this package on
PYTHONPATH. It does not use the network. See benchmarks/README.md.
"""

import argparse
import functools
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Parts run one after the other and measure memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import keras
import numpy as np

# Files next to this one.
from devices import (
    accelerator,
    as_numpy,
    compiled,
    copy,
    in_turns,
    is_on,
    peak_bytes,
    place,
    with_gradient,
)
from measuring import (
    about,
    markdown_table,
    print_about,
    print_table,
    summary,
    write_json,
    write_text,
)
from training import (
    RECIPES,
    Batches,
    compile_for_training,
    measure,
    recompute_statistics,
    size_of,
    unpack,
)
from upsampling import BASELINE, segnet

from keras_deconv import callbacks, losses, models, ops

NETWORKS = {"segnet_basic": models.SegNetBasic, "segnet": models.SegNet}
SMOKE_NETWORKS = {
    "segnet_basic": functools.partial(models.SegNetBasic, filters=(4, 4)),
    "segnet": functools.partial(
        models.SegNet, filters=(4, 4), convs_per_stage=(1, 2)
    ),
}
PRECISIONS = ("float32", "mixed_bfloat16")
FITS = list(itertools.product(NETWORKS, ("max_unpool", BASELINE), PRECISIONS))
SMOKE_FITS = [FITS[1], FITS[-2]]
NUM_CLASSES = 11
SEED = 0

# Added to --minutes, to score the network after its training.
MAX_SCORING_SECONDS = 180

Row = dict[str, Any]
Report = Callable[[Row], None]


# Correctness: the GPU against the CPU.


class Case(NamedTuple):
    """The arguments of a pooling and its unpooling."""

    size: tuple[int, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    data_format: str
    index_format: str
    overlap: str
    dtype: str
    batch: int = 2
    channels: int = 3

    @property
    def num_windows(self) -> tuple[int, ...]:
        return tuple(
            -(-n // s) if self.padding == "same" else (n - k) // s + 1
            for n, k, s in zip(
                self.size, self.pool_size, self.strides, strict=True
            )
        )

    @property
    def num_terms(self) -> int:
        """The largest number of windows, and so of terms of a sum, per cell."""
        return math.prod(
            -(-k // s)
            for k, s in zip(self.pool_size, self.strides, strict=True)
        )

    def shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        if self.data_format == "channels_first":
            return (self.batch, self.channels, *size)
        return (self.batch, *size, self.channels)


# Distance from 1 to the next number.
EPSILONS = {"float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}
INDEX_FORMATS = ("window", "plane", "flat")


def random_cases(number: int) -> Iterator[Case]:
    rng = np.random.default_rng(SEED)

    def draw(low: int, high: int, rank: int) -> tuple[int, ...]:
        return tuple(rng.integers(low, high + 1, rank).tolist())

    for index in range(number):
        rank = index % 3 + 1
        longest = (64, 17, 9)[rank - 1]
        pool_size = draw(1, 4 if rank < 3 else 3, rank)
        yield Case(
            size=draw(4, longest, rank),
            pool_size=pool_size,
            # Half of the windows may overlap, and some have gaps between them.
            strides=pool_size if index % 2 else draw(1, 4, rank),
            padding=str(rng.choice(["valid", "same"])),
            data_format=str(rng.choice(["channels_last", "channels_first"])),
            index_format=str(rng.choice(INDEX_FORMATS)),
            overlap=str(rng.choice(["sum", "mean"])),
            dtype=list(EPSILONS)[index // 3 % 3],
        )


def arithmetic(case: Case) -> Callable[..., dict[str, Any]]:
    """Return a function for pooling, unpooling and the gradients of both."""
    window = dict(
        pool_size=case.pool_size,
        strides=case.strides,
        padding=case.padding,
        data_format=case.data_format,
        index_format=case.index_format,
    )

    def run(x: Any, values: Any, upstream: Any, weights: Any) -> dict:
        pooled, argmax = ops.max_pool_with_argmax(x, **window)
        restored, read = with_gradient(
            lambda values: ops.max_unpool(
                values, argmax, like=x, overlap=case.overlap, **window
            ),
            values,
            weights,
        )
        _, put = with_gradient(
            lambda x: ops.max_pool_with_argmax(x, **window)[0], x, upstream
        )
        return dict(
            pooled=pooled,
            argmax=argmax,
            unpooled=restored,
            gradient_of_pooling=put,
            gradient_of_unpooling=read,
        )

    return run


def draw_inputs(case: Case, number: int) -> list[np.ndarray]:
    """Draw the inputs of pooling and unpooling, and two upstream gradients.

    The first inputs of each case have a normal distribution. The others are
    small integers, so that their sums are exact in every dtype. The inputs of
    pooling also contain ties, infinities and NaN.
    """
    rng = np.random.default_rng((SEED, number))
    shapes = [
        case.shape(size)
        for size in (case.size, *[case.num_windows] * 2, case.size)
    ]
    if number == 0:
        return [rng.standard_normal(shape, "float32") for shape in shapes]
    x, *others = (
        rng.integers(-3, 4, shape).astype("float32") for shape in shapes
    )
    x[rng.random(x.shape) < 0.05] = -np.inf
    x[rng.random(x.shape) < 0.02] = np.nan
    return [x, *others]


def allowed(case: Case, name: str, arrays: list[np.ndarray]) -> float:
    """Return the largest possible difference of two correct results.

    Selecting, copying and sums of small integers are exact. A sum of n numbers
    up to 1 rounds n - 1 times. Each time, a number up to n changes by half a
    unit in its last place, and two sums are compared. A mean may be computed
    relative to its largest value: differences of numbers up to 1, their sum, a
    division and a sum round by 2 n + 3 such half units.
    """
    is_sum = name == "gradient_of_pooling" or (
        name == "unpooled" and case.overlap == "sum"
    )
    is_mean = case.overlap == "mean" and "unpool" in name
    n = case.num_terms
    unit = EPSILONS[case.dtype] * max(np.abs(a).max() for a in arrays[1:])
    is_rounded = any((a % 1).any() for a in arrays[1:])
    if n > 1 and is_mean:
        return (2 * n + 3) * unit
    if n > 1 and is_sum and is_rounded:
        return (n - 1) * n * unit
    return 0.0


def differs(
    actual: np.ndarray, expected: np.ndarray, bound: float
) -> tuple[bool, float]:
    """Return whether arrays differ by more than a bound, and their distance."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return True, math.inf
    same = (actual == expected) | ((actual != actual) & (expected != expected))
    with np.errstate(invalid="ignore"):
        distances = np.abs(actual.astype("float64") - expected)
    distances = np.where(
        same, 0, np.where(np.isnan(distances), np.inf, distances)
    )
    largest = float(distances.max(initial=0))
    return bool(largest > bound), largest


def check_case(case: Case, num_inputs: int) -> Iterator[Row]:
    """Compare both devices, and two runs on the GPU."""
    run = compiled(arithmetic(case))
    places = (accelerator(), "cpu:0")
    for number in range(num_inputs):
        arrays = draw_inputs(case, number)
        results = []
        for device in (*places[:1], *places):  # the GPU twice
            with keras.device(device):
                tensors = [place(a, case.dtype, device) for a in arrays]
                found = run(*tensors)
            wrong = [n for n, y in found.items() if not is_on(y, device)]
            if wrong:
                raise RuntimeError(f"{', '.join(wrong)} not on {device}")
            results.append({n: as_numpy(y) for n, y in found.items()})
        first, again, expected = results
        for name, of_cpu in expected.items():
            bound = allowed(case, name, arrays)
            is_wrong, distance = differs(first[name], of_cpu, bound)
            yield dict(
                name=name,
                bound=bound,
                distance=distance,
                is_wrong=is_wrong,
                is_repeated=not differs(again[name], first[name], 0)[0],
            )


def measure_correctness(options: argparse.Namespace, report: Report) -> None:
    cases, num_inputs = list(random_cases(60)), 5
    if options.smoke:  # one case per rank and dtype
        cases, num_inputs = cases[:9:4], 2
    totals = {
        dtype: dict(
            dtype=dtype,
            cases=0,
            compared=0,
            exact=0,
            within_bounds=0,
            wrong=0,
            not_repeated=0,
        )
        for dtype in EPSILONS
    }
    for case in cases:
        total = totals[case.dtype]
        total["cases"] += num_inputs
        for found in check_case(case, num_inputs):
            total["compared"] += 1
            total["exact"] += found["distance"] == 0
            total["within_bounds"] += (
                0 < found["distance"] and not found["is_wrong"]
            )
            total["wrong"] += found["is_wrong"]
            total["not_repeated"] += not found["is_repeated"]
            if found["is_wrong"]:
                print(f"wrong: {case}: {found}", flush=True)
        # Reported after each case, since the part may be stopped.
        report(dict(key=total["dtype"], **total))
    for index_format in INDEX_FORMATS[: 1 if options.smoke else None]:
        report(repeat(index_format, options.smoke))


def repeat(index_format: str, is_small: bool) -> Row:
    """Test whether large sums of rounded numbers are reproducible."""
    case = Case(
        size=(11, 13) if is_small else (91, 119),
        pool_size=(3, 3),
        strides=(2, 2),
        padding="same",
        data_format="channels_last",
        index_format=index_format,
        overlap="sum",
        dtype="float32",
        batch=4,
        channels=16,
    )
    runs = 5
    run = compiled(arithmetic(case))
    device = accelerator()
    with keras.device(device):
        tensors = [
            place(array, case.dtype, device) for array in draw_inputs(case, 0)
        ]
        results = [
            {n: as_numpy(y) for n, y in run(*tensors).items()}
            for _ in range(runs)
        ]
    changed = {
        name
        for name, first in results[0].items()
        if any(differs(other[name], first, 0)[0] for other in results[1:])
    }
    return dict(
        table="Repeated runs",
        key=index_format,
        index=index_format,
        windows="3x3, strides of 2, float32",
        runs=runs,
        identical=not changed,
        changed=", ".join(sorted(changed)) or "-",
    )


# Bandwidth: pooling and unpooling against a copy.

COPY = "copy"
OURS = "ours"
COMPILED = "ours, torch.compile"
RECIPE = "positions and scatter"
SHAPES = (
    (8, 180, 240, 64),
    (16, 180, 240, 64),
    (8, 360, 480, 64),
    (16, 360, 480, 64),
)
SMOKE_SHAPES = ((2, 12, 16, 4),)
DTYPES = ("float32", "bfloat16")
OPERATIONS = ("pool", "unpool", "both", "train")


class Candidate(NamedTuple):
    """An implementation, and the bytes of its index per window."""

    pool: Callable[[Any], tuple]
    unpool: Callable[..., Any]
    index_bytes: int
    prepare: Callable[[Callable], Callable] = compiled
    arrange: Callable[[Any], Any] = lambda x: x


def candidates(shape: tuple[int, ...], dtype: str) -> dict[str, Candidate]:
    is_torch = keras.config.backend() == "torch"
    options = dict(data_format="channels_last", dtype=dtype)
    pooling = keras.layers.MaxPooling2D(**options)
    return {
        OURS: Candidate(ops.max_pool_with_argmax, ops.max_unpool, 1),
        BASELINE: Candidate(
            lambda x: (pooling(x),),
            keras.layers.UpSampling2D(**options),
            index_bytes=0,
        ),
        RECIPE: Candidate(
            functools.partial(ops.max_pool_with_argmax, index_format="flat"),
            functools.partial(scatter, shape=shape),
            index_bytes=4 if keras.config.backend() == "jax" else 8,
        ),
    } | ({COMPILED: compiled_by_torch()} if is_torch else {})


def compiled_by_torch() -> Candidate:
    import torch

    return Candidate(
        ops.max_pool_with_argmax,
        ops.max_unpool,
        index_bytes=1,
        prepare=functools.partial(torch.compile, fullgraph=True, dynamic=False),
    )


def scatter(pooled: Any, argmax: Any, shape: tuple[int, ...]) -> Any:
    """Unpool with a common recipe: one scatter over all images."""
    first = keras.ops.arange(shape[0], dtype=argmax.dtype)
    first = keras.ops.reshape(first * math.prod(shape[1:]), (-1, 1, 1, 1))
    flat = keras.ops.scatter(
        keras.ops.reshape(argmax + first, (-1, 1)),
        keras.ops.reshape(pooled, (-1,)),
        (math.prod(shape),),
    )
    return keras.ops.reshape(flat, shape)


def torch_candidates(
    shape: tuple[int, ...], dtype: str
) -> dict[str, Candidate]:
    """Return PyTorch's own functions, in both of its memory formats."""
    from torch.nn import functional

    def arrange(x: Any, is_last: bool) -> Any:
        x = x.movedim(-1, 1)
        return x if is_last else x.contiguous()

    return {
        f"torch {name}": Candidate(
            functools.partial(
                functional.max_pool2d, kernel_size=2, return_indices=True
            ),
            functools.partial(functional.max_unpool2d, kernel_size=2),
            index_bytes=8,
            arrange=functools.partial(arrange, is_last=is_last),
        )
        for name, is_last in (
            ("channels_first", False),
            ("channels_last", True),
        )
    }


def measure_bandwidth(
    options: argparse.Namespace,
    report: Report,
    find: Callable[..., dict[str, Candidate]] = candidates,
) -> None:
    shapes, dtypes = SHAPES, DTYPES
    if options.smoke:
        shapes, dtypes = SMOKE_SHAPES, DTYPES[1:]
    for shape, dtype in itertools.product(shapes, dtypes):
        found = find(shape, dtype)
        # Compiling takes a minute and requires a compiler.
        if shape != SHAPES[-1]:
            found.pop(COMPILED, None)
        for row in bandwidths(shape, dtype, found, 2 if options.smoke else 7):
            report(row)


def bandwidths(
    shape: tuple[int, ...],
    dtype: str,
    found: dict[str, Candidate],
    repetitions: int,
) -> Iterator[Row]:
    with keras.device(accelerator()):
        x, upstream = (
            keras.random.normal(shape, dtype=dtype, seed=seed)
            for seed in (1, 2)
        )
        calls = {(COPY, COPY): functools.partial(compiled(copy), x)}
        for name, candidate in found.items():
            arranged = map(candidate.arrange, (x, upstream))
            for operation, call in prepared(candidate, *arranged):
                calls[operation, name] = call
        times = in_turns(calls, repetitions)
    itemsize = 4 if dtype == "float32" else 2
    copied, _ = summary(times[COPY, COPY])
    copied_bytes = 2 * math.prod(shape) * itemsize
    for (operation, name), seconds in times.items():
        milliseconds, spread = summary(seconds)
        moved = (
            copied_bytes
            if name == COPY
            else num_bytes(operation, shape, itemsize, found[name].index_bytes)
        )
        shown = "x".join(map(str, shape))
        yield dict(
            table=f"{shown}, {dtype}",
            key=f"{shown} {dtype} {operation} {name}",
            operation=operation,
            candidate=name,
            microseconds=milliseconds * 1e3,
            spread=spread * 1e3,
            copies=milliseconds / copied,
            gigabytes_per_second=moved / milliseconds / 1e6,
            share=moved / milliseconds * copied / copied_bytes,
        )


def prepared(
    candidate: Candidate, x: Any, upstream: Any
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Return the operations of a candidate, with all inputs created."""
    pool, unpool = map(candidate.prepare, (candidate.pool, candidate.unpool))
    pooled = pool(x)
    yield "pool", functools.partial(pool, x)
    yield "unpool", functools.partial(unpool, *pooled)
    yield "both", lambda: unpool(*pool(x))

    def forward(x: Any) -> Any:
        return candidate.unpool(*candidate.pool(x))

    if candidate.prepare is compiled:
        train = compiled(functools.partial(with_gradient, forward))
    else:  # PyTorch compiles the gradient with the forward pass.
        train = functools.partial(with_gradient, candidate.prepare(forward))
    yield "train", functools.partial(train, x, upstream)


def num_bytes(
    operation: str, shape: tuple[int, ...], itemsize: int, index_bytes: int
) -> int:
    """Return the minimum number of bytes that an operation reads and writes.

    The gradient moves as many bytes as the forward pass. It reads the upstream
    gradient at the index and writes the values back.
    """
    cells = math.prod(shape)
    one_way = cells * itemsize + cells // 4 * (itemsize + index_bytes)
    return one_way * dict(pool=1, unpool=1, both=2, train=4)[operation]


# Training with `fit`.


class EpochSeconds(keras.callbacks.Callback):
    """Measures the seconds of each epoch. The first one compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # The logs contain the loss of the epoch, so the device has finished.
        self.seconds.append(time.perf_counter() - self.start)


class Load(NamedTuple):
    """The size of the training."""

    image_size: tuple[int, int] = (360, 480)
    batch_size: int = 8
    steps: int = 16
    epochs: int = 4

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(SEED)
        shape = (self.batch_size * self.steps, *self.image_size)
        images = rng.integers(0, 256, (*shape, 3)).astype("float32")
        return images, rng.integers(0, NUM_CLASSES, shape).astype("int32")


SMOKE_LOAD = Load((24, 40), batch_size=2, steps=2, epochs=2)


def measure_fit(
    options: argparse.Namespace,
    report: Report,
    network: str,
    decoder: str,
    precision: str,
) -> None:
    load = SMOKE_LOAD if options.smoke else Load()
    build = (SMOKE_NETWORKS if options.smoke else NETWORKS)[network]
    keras.utils.set_random_seed(SEED)
    keras.config.set_dtype_policy(precision)
    model = segnet(build, load.image_size, NUM_CLASSES, decoder)
    keras.config.set_dtype_policy("float32")
    model.compile("adam", losses.SegmentationCrossentropy())
    watcher = EpochSeconds()
    model.fit(
        *load.draw(),
        batch_size=load.batch_size,
        epochs=load.epochs,
        callbacks=[watcher],
        verbose=0,
    )
    report(
        fit_row(
            load, network, decoder, precision, watcher.seconds, peak_bytes()
        )
    )


def fit_row(
    load: Load,
    network: str,
    decoder: str,
    precision: str,
    seconds: list[float],
    peak: int | None,
) -> Row:
    first, *others = seconds
    num_images = load.batch_size * load.steps
    return dict(
        key=f"{network} {decoder} {precision}",
        network=network,
        decoder=decoder,
        precision=precision,
        images_per_second=num_images / float(np.median(others)),
        slowest=num_images / max(others),
        first_epoch_seconds=first,
        peak_gigabytes=None if peak is None else peak / 1e9,
    )


def measure_torch_segnet(options: argparse.Namespace, report: Report) -> None:
    """Train SegNet in plain PyTorch, with a plain training loop."""
    import torch
    from torch_segnet import SegNet, epoch_seconds

    load = SMOKE_LOAD if options.smoke else Load()
    sizes = dict(filters=(4, 4), convs=(1, 2)) if options.smoke else {}
    images, masks = load.draw()
    for precision, memory_format in itertools.product(
        PRECISIONS, ("contiguous_format", "channels_last")
    ):
        torch.manual_seed(SEED)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        seconds = epoch_seconds(
            SegNet(NUM_CLASSES, **sizes),
            images,
            masks,
            load.batch_size,
            memory_format=memory_format,
            is_mixed=precision != "float32",
            num_epochs=load.epochs,
        )
        decoder = f"torch.nn, {memory_format}"
        report(
            fit_row(load, "segnet", decoder, precision, seconds, peak_bytes())
        )


# CamVid in a few minutes.


def measure_camvid(options: argparse.Namespace, report: Report) -> None:
    """Train SegNet-Basic for a given time and score it.

    The learning rate follows a cosine of the time and ends at 0. The scores are
    those of the last epoch.
    """
    arrays = unpack(options.camvid)
    recipe = RECIPES["segnet_basic"]
    keras.utils.set_random_seed(SEED)
    model = recipe.build((*size_of(arrays), 3), len(arrays["class_names"]))
    compile_for_training(
        model, arrays, recipe.learning_rate, recipe.class_weights
    )
    start, share = time.perf_counter(), 0.0
    for epoch in itertools.count():
        model.optimizer.learning_rate = (
            recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2
        )
        history = model.fit(
            Batches(
                arrays["train_images"],
                arrays["train_masks"],
                recipe.batch_size,
                draw=(SEED, epoch),
                augment=True,
                workers=os.cpu_count() or 1,
            ),
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[callbacks.EpochSeed(SEED)],
            shuffle=False,
            verbose=0,
        ).history
        seconds = time.perf_counter() - start
        share = seconds / (60 * options.minutes)
        [loss] = history["loss"]
        print(
            f"Epoch {epoch + 1}: loss {loss:.4f}, {seconds:.0f} s", flush=True
        )
        if share >= 1:
            break
    recompute_statistics(model, arrays, recipe.batch_size)
    split = "test" if "test_images" in arrays else "validation"
    scores, classes = measure(model, arrays, split)
    report(
        dict(
            key="segnet_basic",
            network="segnet_basic",
            image_size="x".join(map(str, size_of(arrays))),
            split=split,
            epochs=epoch + 1,
            minutes=seconds / 60,
            **scores,
            classes=classes,
        )
    )


# Parts, each in a new process.


class Part(NamedTuple):
    """A measurement, its time limit and the backend that it requires."""

    title: str
    measure: Callable[[argparse.Namespace, Report], None]
    max_seconds: float = math.inf
    backend: str | None = None


def parts(options: argparse.Namespace) -> dict[str, Part]:
    """Return all parts, the most important first."""
    if options.camvid is not None:
        return {"camvid": Part("CamVid", measure_camvid)}
    found = {
        "correctness": Part("Correctness", measure_correctness, 150),
        "bandwidth": Part("Bandwidth", measure_bandwidth, 120),
    }
    for network, decoder, precision in SMOKE_FITS if options.smoke else FITS:
        found[f"fit {network} {decoder} {precision}"] = Part(
            "Training",
            functools.partial(
                measure_fit,
                network=network,
                decoder=decoder,
                precision=precision,
            ),
        )
    if util.find_spec("torch"):
        found["torch bandwidth"] = Part(
            "Bandwidth",
            functools.partial(measure_bandwidth, find=torch_candidates),
            60,
            "torch",
        )
        found["torch segnet"] = Part(
            "Training", measure_torch_segnet, backend="torch"
        )
    return found


def run_part(
    options: argparse.Namespace, name: str, part: Part, max_seconds: float
) -> tuple[str, list[Row]]:
    """Run a part in a new process and return its status and rows."""
    file = options.output / ".rows.jsonl"
    file.write_text("")
    command = [sys.executable, __file__, "--child", name, "--rows", str(file)]
    command += ["--minutes", str(options.minutes)]
    command += ["--smoke"] * options.smoke
    if options.camvid is not None:
        command += ["--camvid", str(options.camvid)]
    environment = dict(os.environ)
    if part.backend is not None:
        environment["KERAS_BACKEND"] = part.backend
    try:
        done = subprocess.run(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            timeout=max_seconds,
            check=False,
        )
        status = "failed" if done.returncode else "done"
        if done.returncode:
            print(done.stderr[-3000:], flush=True)
    except subprocess.TimeoutExpired:
        status = "stopped"
    lines = file.read_text().splitlines(keepends=True)
    file.unlink()
    # The last line may be incomplete.
    return status, [json.loads(line) for line in lines if line[-1] == "\n"]


def run_child(options: argparse.Namespace) -> None:
    with options.rows.open("a") as file:

        def report(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        parts(options)[options.child].measure(options, report)


def run_here(options: argparse.Namespace, part: Part) -> tuple[str, list[Row]]:
    """Run a part in this process, since imports take longer than tiny parts."""
    rows: list[Row] = []
    part.measure(options, rows.append)
    return "done", rows


def newest(rows: list[Row]) -> list[Row]:
    """Return the last row of each key. Parts report changed rows again."""
    return list({row["key"]: row for row in rows}.values())


def tables(rows: list[Row]) -> Iterator[tuple[str | None, list[Row]]]:
    """Group rows by table, without the values that do not fit into one."""
    names = dict.fromkeys(row.get("table") for row in rows)
    for name in names:
        yield (
            name,
            [
                {
                    key: value
                    for key, value in row.items()
                    if key not in ("table", "key")
                    and not isinstance(value, dict)
                }
                for row in rows
                if row.get("table") == name
            ],
        )


def write_report(options: argparse.Namespace, report: Row) -> None:
    stem = "gpu_camvid" if options.camvid is not None else "gpu"
    stem = f"{stem}_{keras.config.backend()}"
    write_json(options.output / f"{stem}.json", report)
    facts = report["about"]
    lines = [
        f"{facts['device']}, {facts['date']}, Python {facts['python']}, "
        + ", ".join(f"{n} {v}" for n, v in facts["versions"].items())
        + f". Backend: {report['backend']}."
    ]
    by_title: dict[str, list[Row]] = {}
    for part in report["parts"]:
        by_title.setdefault(part["title"], []).extend(part["rows"])
    for title, rows in by_title.items():
        lines.append(f"## {title}")
        for name, of_table in tables(rows):
            lines += [f"### {name}"] * (name is not None)
            lines.append(markdown_table(of_table))
    lines += ["## Parts", markdown_table(statuses(report))]
    write_text(options.output / f"{stem}.md", "\n\n".join(lines) + "\n")


def statuses(report: Row) -> list[Row]:
    return [
        {key: part[key] for key in ("name", "status", "seconds")}
        for part in report["parts"]
    ]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="in total (default: 8)")
    add("--only", action="append", metavar="PART", help="can be repeated")
    add("--list", action="store_true", help="print the names of the parts")
    add("--output", type=Path, default=Path("runs/gpu"), help="folder")
    add("--camvid", type=Path, metavar="FILE", help="train on this file")
    add("--smoke", action="store_true", help="tiny sizes, also on a CPU")
    add("--child", help=argparse.SUPPRESS)
    add("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes must be greater than 0.")
    known = parts(options)
    for name in options.only or ():
        if name not in known:
            parser.error(f"--only {name} is not one of: {', '.join(known)}.")
    return options


def main() -> int:
    options = parse_arguments()
    if options.child is not None:
        run_child(options)
        return 0
    chosen = parts(options)
    if options.only:
        chosen = {name: chosen[name] for name in options.only}
    if options.list:
        print(*chosen, sep="\n")
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    report = dict(about=about(), backend=keras.config.backend(), parts=[])
    print_about(report["about"])
    end = time.monotonic() + 60 * options.minutes
    if options.camvid is not None:
        end += MAX_SCORING_SECONDS
    for name, part in chosen.items():
        start = time.monotonic()
        status, rows = "skipped", []
        if start < end:
            is_first = not report["parts"]
            is_here = part.backend in (None, report["backend"])
            if options.smoke and is_here and not is_first:
                status, rows = run_here(options, part)
            else:
                seconds = min(end - start, part.max_seconds)
                status, rows = run_part(options, name, part, seconds)
        rows = newest(rows)
        report["parts"].append(
            dict(
                name=name,
                title=part.title,
                status=status,
                seconds=time.monotonic() - start,
                rows=rows,
            )
        )
        print(f"\n{name}: {status}", flush=True)
        for _, of_table in tables(rows):
            print_table(of_table)
        write_report(options, report)
    print_table(statuses(report))
    is_wrong = any(
        part["status"] == "failed"
        or any(row.get("wrong") for row in part["rows"])
        for part in report["parts"]
    )
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
