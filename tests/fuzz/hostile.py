"""Hostile calls of every public name, and what becomes of them.

See the package's docstring for how to run them.
"""

import collections
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import json
import linecache
import os
import pathlib
import random
import selectors
import subprocess
import sys
import tempfile
import time
import traceback

from tests.paths import ROOT, TESTS

KEPT = TESTS / "fuzz" / "kept.txt"
"""Calls that failed once, one a line, as `Call.text` writes them."""

SECONDS = 60
"""A call that takes longer hangs."""
SECONDS_TO_START = 240
MEMORY = 4 * 2**30
"""Bytes that a call may use. Huge sizes then raise an error and do not swap."""

OUTCOMES = ("right", "clear", "wrong", "obscure", "crash", "hang")

NOT_CALLED = {
    "keras_deconv.data.CamVid": "the constructor is that of tfds",
    "keras_deconv.data.CamVid.download_and_prepare": "reads from the network",
    "keras_deconv.data.Scenes": "the constructor is that of tfds",
}
# Calls that take seconds if the arguments are valid.
SLOW = (
    "keras_deconv.export.",
    "keras_deconv.models.",
    "keras_deconv.data.load",
    "keras_deconv.data.splits",
    "keras_deconv.data.describe",
    "keras_deconv.data.to_tfds",
    "keras_deconv.distribution.Replicas.fit",
    "keras_deconv.visualize.draw_",
    "keras_deconv.callbacks.PredictionPreview",
)


@dataclasses.dataclass(frozen=True)
class Target:
    """Something public to call: a function, a class or a method."""

    name: str
    owner: str  # the last part of the name of the function or class
    function: object  # whose signature counts
    of_class: type | None  # of which a method is called

    def arguments(self):
        """Names of all arguments, and of those that are required."""
        parameters = list(inspect.signature(self.function).parameters.values())
        if self.of_class is not None:
            del parameters[0]  # self
        names, required = [], []
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                names += ["name", "dtype"]  # as any layer
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                names.append(parameter.name)
                if parameter.default is parameter.empty:
                    required.append(parameter.name)
        return names, required


def targets():
    """All that is public and takes arguments, by its name."""
    from tests.test_public_api import OF_KERAS, public_modules

    found, seen = {}, set()
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for one in module.__all__:
            value = getattr(module, one)
            if not callable(value) or id(value) in seen:
                continue
            seen.add(id(value))
            name = f"{module_name}.{one}"
            for target in _of(name, one, value):
                is_ours = target.name.rpartition(".")[2] not in OF_KERAS
                if is_ours and target.arguments()[0]:
                    found[target.name] = target
    return {
        name: target
        for name, target in sorted(found.items())
        if name not in NOT_CALLED
    }


def _of(name, owner, value):
    """A function, or a class with its public methods."""
    import keras

    yield Target(name, owner, value, None)
    if not inspect.isclass(value):
        return
    members = {}
    for base in reversed(value.__mro__):
        if base.__module__.startswith("keras_deconv"):
            members |= vars(base)
    if "__call__" in members:
        # One calls the other; that of layers has no names.
        is_layer = issubclass(value, keras.layers.Layer)
        members.pop("__call__" if is_layer else "call", None)
    for member, function in members.items():
        is_called = member == "__call__" or (
            # Keras calls the others.
            not member.startswith(("_", "on_"))
        )
        if is_called and inspect.isfunction(function):
            yield Target(f"{name}.{member}", owner, function, value)


def hostile():
    """Values of all kinds, by what they are; each is a function."""
    import keras
    import numpy as np
    import tensorflow as tf

    values = {
        "None": lambda: None,
        "True": lambda: True,
        "0": lambda: 0,
        "1": lambda: 1,
        "-1": lambda: -1,
        "2.5": lambda: 2.5,
        "300": lambda: 300,
        "2**31": lambda: 2**31,
        "10**30": lambda: 10**30,
        "nan": lambda: float("nan"),
        "inf": lambda: float("inf"),
        "a complex number": lambda: 1 + 2j,
        "a str": lambda: "text",
        "an empty str": lambda: "",
        "a str with a null": lambda: "a\0b",
        "a line break": lambda: "a\nb",
        "a long str": lambda: "long" * 1000,
        "float99": lambda: "float99",
        "int32": lambda: "int32",
        "bytes": lambda: b"bytes",
        "an empty tuple": lambda: (),
        "an empty list": lambda: [],
        "an empty dict": lambda: {},
        "an empty set": set,
        "a tuple of large ints": lambda: (2**31, 2**31),
        "a tuple of five": lambda: (1, 2, 3, 4, 5),
        "a list of None": lambda: [None],
        "a list of strs": lambda: ["a", "a"],
        "a list of dicts": lambda: [{}],
        "uneven lists": lambda: [[1], [2, 3]],
        "a dict": lambda: {"a": 1},
        "a dict of ints": lambda: {1: "a"},
        "a set": lambda: {"a", "b"},
        "an object": object,
        "a function": lambda: len,
        "a class": lambda: int,
        "a generator": lambda: (n for n in range(3)),
        "a range": lambda: range(3),
        "a path": lambda: pathlib.Path("missing", "file"),
        "a scalar array": lambda: np.array(2),
        "a scalar float array": lambda: np.array(2.5),
        "a NumPy int": lambda: np.int64(2),
        "a NumPy float": lambda: np.float32(2.5),
        "a NumPy dtype": lambda: np.dtype("float32"),
        "an empty array": lambda: np.zeros((0,)),
        "an empty batch": lambda: np.zeros((0, 4, 4, 2), "float32"),
        "floats": lambda: np.ones((1, 4, 4, 2), "float32"),
        "float64s": lambda: np.ones((2, 8, 8, 3)),
        "NaNs": lambda: np.full((1, 4, 4, 3), np.nan, "float32"),
        "ints": lambda: np.ones((1, 4, 4), "int32"),
        "large ints": lambda: np.full((1, 2, 2, 2), 2**40),
        "negative ints": lambda: np.full((1, 2, 2, 2), -1),
        "uint64s": lambda: np.ones((1, 2, 2, 2), "uint64"),
        "bools": lambda: np.ones((1, 4, 4), bool),
        "complexes": lambda: np.ones((1, 4, 4, 2), "complex64"),
        "strs": lambda: np.full((1, 2, 2, 2), "a"),
        "objects": lambda: np.full((1, 2, 2, 2), None),
        "dates": lambda: np.zeros((1, 2, 2, 2), "datetime64[s]"),
        "records": lambda: np.zeros((1, 2), [("a", "i4")]),
        "a masked array": lambda: np.ma.masked_equal(np.ones((1, 4, 4)), 1),
        "six axes": lambda: np.zeros((1, 2, 2, 2, 2, 2), "float32"),
        "a scalar tensor": lambda: keras.ops.convert_to_tensor(2),
        "a scalar float tensor": lambda: keras.ops.convert_to_tensor(2.5),
        "a tensor": lambda: keras.ops.ones((1, 4, 4, 2)),
        "a variable": lambda: keras.Variable(np.ones((1, 4, 4, 2), "float32")),
        "a symbolic scalar": lambda: keras.KerasTensor((), "int32"),
        "a symbolic tensor": lambda: keras.Input((4, 4, 2)),
        "a symbolic vector": lambda: keras.Input((3,)),
        "a sparse tensor": lambda: tf.sparse.from_dense(tf.ones((1, 4, 4, 2))),
        "a ragged tensor": lambda: tf.ragged.constant([[[1.0]], [[2.0, 3.0]]]),
        "a tensor of strs": lambda: tf.constant([["a"]]),
        "a tensor of TensorFlow": lambda: tf.ones((1, 4, 4, 2)),
        "an empty dataset": lambda: tf.data.Dataset.range(0),
        "a dataset": lambda: tf.data.Dataset.range(3),
        "an endless dataset": lambda: tf.data.Dataset.range(3).repeat(),
        "a layer": lambda: keras.layers.Dense(1),
        "a model": lambda: keras.Sequential([keras.layers.Dense(1)]),
        "a metric": lambda: keras.metrics.Mean(),
        "a list of metrics": lambda: [keras.metrics.Mean()],
        "a series": lambda: _of_library(
            "pandas", lambda pandas: pandas.Series([1.0, 2.0])
        ),
        "a data frame": lambda: _of_library(
            "pandas", lambda pandas: pandas.DataFrame({"a": [1], "b": ["c"]})
        ),
        "a sparse matrix": lambda: _of_library(
            "scipy.sparse", lambda sparse: sparse.csr_array(np.eye(4))
        ),
        "a sparse tensor of PyTorch": lambda: _of_library(
            "torch", lambda torch: torch.ones((1, 4, 4, 2)).to_sparse()
        ),
    }
    return values


def _of_library(name, make):
    """Return `make(library)`, or None without it, so that seeds stay equal."""
    if importlib.util.find_spec(name):
        return make(importlib.import_module(name))
    return None


@dataclasses.dataclass(frozen=True)
class Call:
    """A public name, and which arguments are of which hostile kind."""

    target: Target
    hostile: dict[str, str]

    @property
    def text(self):
        arguments = "; ".join(f"{n}={kind}" for n, kind in self.hostile.items())
        return f"{self.target.name} {arguments}"

    @classmethod
    def of_text(cls, text):
        name, _, arguments = text.strip().partition(" ")
        pairs = (one.partition("=") for one in arguments.split("; ") if one)
        return cls(targets()[name], {n: kind for n, _, kind in pairs})

    @classmethod
    def of_seed(cls, seed, quick=False):
        """Draw a name, one of its arguments or two, and kinds for them."""
        draw = random.Random(seed)
        chosen = [
            target
            for name, target in targets().items()
            if not (quick and name.startswith(SLOW))
        ]
        target = draw.choice(chosen)
        names, _ = target.arguments()
        number = min(len(names), draw.choice((1, 1, 1, 2)))
        kinds = list(hostile())
        return cls(
            target, {n: draw.choice(kinds) for n in draw.sample(names, number)}
        )

    def make(self):
        """Build what is called, and its arguments: a function to call."""
        values = hostile()
        owner = self.target.owner
        of_class = self.target.of_class
        rank = getattr(
            of_class or self.target.function, "num_spatial_dims", None
        )
        # Without a rank, the inputs are images.
        rank = rank if isinstance(rank, int) else 2
        function = self.target.function
        if of_class is not None:
            instance = of_class(**usual(Target(owner, owner, of_class, None)))
            member = self.target.name.rpartition(".")[2]
            is_call = member in ("call", "__call__")
            function = instance if is_call else getattr(instance, member)
        arguments = usual(self.target, rank)
        for name, kind in self.hostile.items():
            arguments[name] = values[kind]()
        return lambda: function(**arguments)


def usual(target, rank=2):
    """Ordinary values of the arguments that are required or take long."""
    from tests.fuzz.ordinary import ALWAYS, ordinary

    names, required = target.arguments()
    return {
        name: ordinary(target.owner, name)(rank)
        for name in names
        if name in required
        or (name in ALWAYS or f"{target.owner}.{name}" in ALWAYS)
    }


# --- outcomes ----------------------------------------------------------------

REFUSALS = (ImportError, OSError, TypeError, ValueError)
# Messages of Keras' layers, which name the layer.
CLEAR_OF_OTHERS = (
    "Inputs to a layer should be tensors",
    "expects 1 input(s), but it received",
    "is incompatible with the layer: expected ndim",
)


def outcome(call):
    """Make a call, and return its outcome and one line of explanation."""
    import tensorflow as tf

    run = call.make()
    try:
        result = run()
    except (*REFUSALS, tf.errors.InvalidArgumentError) as error:
        is_clear = (
            _names_it(error, call)
            or _is_raised_by_us(error)
            or any(words in str(error) for words in CLEAR_OF_OTHERS)
        )
        return ("clear" if is_clear else "obscure"), _line(error)
    except Exception as error:
        return "obscure", _line(error)
    if _has_new_nan(result, call):
        return "wrong", "the result is NaN"
    return "right", ""


def _names_it(error, call):
    """Whether an error names one of the hostile arguments."""
    text = str(error)
    return any(
        mark in text
        for name in call.hostile
        for mark in (f"`{name}`", f"`{name}.", f"'{name}'", f"{name}=")
    )


def _is_raised_by_us(error):
    """Whether the package has a `raise` where the error comes from."""
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    path = frame.f_code.co_filename
    is_ours = pathlib.Path(path).is_relative_to(ROOT / "keras_deconv")
    return is_ours and linecache.getline(path, line).strip().startswith("raise")


def _line(error):
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    ours = [
        f"{pathlib.Path(f.f_code.co_filename).relative_to(ROOT)}:{n}"
        for f, n in traceback.walk_tb(error.__traceback__)
        if f.f_code.co_filename.startswith(str(ROOT / "keras_deconv"))
    ]
    text = " ".join(str(error).split())[:160]
    place = ours[-1] if ours else f"{frame.f_code.co_filename}:{line}"
    return f"{type(error).__name__}: {text} [{place}]"


# Scores of classes that do not occur.
NAN_BY_DESIGN = ("per_class",)


def _has_new_nan(result, call):
    import keras
    import numpy as np

    member = call.target.name.rpartition(".")[2]
    if member in NAN_BY_DESIGN or {"NaNs", "nan"} & {*call.hostile.values()}:
        return False
    parts = result if isinstance(result, tuple | list) else (result,)
    for part in parts:
        if isinstance(part, float | np.ndarray) or keras.ops.is_tensor(part):
            array = np.asarray(keras.ops.convert_to_numpy(part))
            if array.dtype.kind == "f" and np.isnan(array).any():
                return True
    return False


# --- processes ---------------------------------------------------------------


def outcomes(texts_or_seeds, quick=False):
    """Make calls in a child process: yields (call, outcome, line) of each.

    A child that crashes, or hangs, is replaced by another, which goes on.
    """
    rest = list(texts_or_seeds)
    while rest:
        with _child(rest, quick) as child:
            for text, result, line in _read(child):
                del rest[0]
                yield text, result, line


def _child(work, quick):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_GCE_CHECK": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "tests.fuzz.hostile", "--child"]
    child = subprocess.Popen(
        [*command, json.dumps(quick)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=ROOT,
    )
    child.stdin.write(json.dumps(work).encode())
    child.stdin.close()
    return child


def _read(child):
    """Yield the results of a child process, and kill it if it hangs."""
    text, limit, buffer = None, SECONDS_TO_START, b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + limit
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                child.kill()
                if text is None:
                    raise TimeoutError("The child process does not start.")
                yield text, "hang", f"more than {SECONDS} seconds"
                return
            part = os.read(child.stdout.fileno(), 2**16)
            if not part:
                break
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                text, *result = json.loads(line)
                deadline = time.monotonic() + SECONDS
                if result:
                    yield text, *result
                    text = None
                    # The next call begins at once.
                    deadline = time.monotonic() + SECONDS_TO_START
    if text is not None:
        child.wait()
        yield text, "crash", f"exit code {child.returncode}"
    elif child.wait():
        raise RuntimeError(f"The child process ends with {child.returncode}.")


def _be_child(quick):
    """Make the calls that stdin lists, and write their outcomes to stdout."""
    work = json.load(sys.stdin)
    # The output of the calls themselves is discarded.
    channel = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def say(*message):
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    with apart():
        for one in work:
            call = _call(one, quick)
            say(call.text)
            say(call.text, *outcome(call))


def _call(text_or_seed, quick=False):
    if isinstance(text_or_seed, int):
        return Call.of_seed(text_or_seed, quick)
    return Call.of_text(text_or_seed)


@contextlib.contextmanager
def apart():
    """Work in a temporary folder, without a network and with limited memory."""
    import resource
    import socket
    import warnings

    import keras

    from keras_deconv import config
    from tests.fuzz import ordinary  # noqa: F401

    warnings.simplefilter("ignore")
    keras.config.disable_traceback_filtering()
    # Otherwise, each new size is compiled.
    config.enable_compiled_kernels(False)

    def refuse(self, address):
        raise ConnectionRefusedError(f"no network in fuzzing: {address}")

    socket.socket.connect = refuse
    status = pathlib.Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = os.environ["TFDS_DATA_DIR"] = folder
        os.chdir(folder)
        yield
        os.chdir(ROOT)


# --- the command -------------------------------------------------------------


def _show(text_or_seed):
    """Make one call here, and show what happens."""
    call = _call(text_or_seed)
    print(call.text)
    with apart():
        result = outcome(call)
        print(*result)
        if result[0] != "right":
            call.make()()


def _table(start, stop):
    counts = collections.Counter()
    for seed, (text, result, line) in zip(
        range(start, stop), outcomes(range(start, stop)), strict=True
    ):
        counts[result] += 1
        if result not in ("right", "clear"):
            print(f"{seed} {result}: {text}\n    {line}", flush=True)
        elif "-v" in sys.argv:
            print(f"{seed} {result}: {text} {line}", flush=True)
    print(", ".join(f"{name} {counts[name]}" for name in OUTCOMES))


def _main(arguments):
    if arguments[0] == "--child":
        _be_child(json.loads(arguments[1]))
    elif len(arguments) > 1:
        _table(*map(int, arguments[:2]))
    else:
        [one] = arguments
        _show(int(one) if one.isdecimal() else one)


if __name__ == "__main__":
    _main(sys.argv[1:])
