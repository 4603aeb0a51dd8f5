"""Hostile calls end in an error that names the argument, or are right."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.fuzz import hostile
from tests.fuzz.hostile import Call, Target

NUM_CALLS = 200
NUM_MANY_CALLS = 5000
MOST_OBSCURE = 0.01


def bad(found):
    return [
        f"{result}: {text}\n    {line}"
        for text, result, line in found
        if result not in ("right", "clear")
    ]


def test_every_required_argument_has_an_ordinary_value():
    """Or calls would fail because of it: see `tests/fuzz/ordinary.py`."""
    from tests.fuzz.ordinary import ordinary

    missing = [
        f"{name}: {argument}"
        for name, target in hostile.targets().items()
        for argument in target.arguments()[1]
        if ordinary(target.owner, argument) is None
    ]
    assert not missing


def test_few_hostile_calls():
    """Some that failed once, and as many seeds as there is time for."""
    kept = hostile.KEPT.read_text().splitlines()
    found = bad(hostile.outcomes([*kept, *range(NUM_CALLS)], quick=True))
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_ordinary_calls_are_right():
    """So that what is refused is refused because of the hostile argument."""
    found = hostile.outcomes(f"{name} " for name in hostile.targets())
    wrong = [one for one in found if one[1] != "right"]
    assert not wrong


@pytest.mark.slow
@pytest.mark.release
def test_many_hostile_calls():
    found = bad(hostile.outcomes(range(NUM_MANY_CALLS)))
    print(*found, sep="\n")
    assert all(one.startswith("obscure") for one in found)
    assert len(found) < MOST_OBSCURE * NUM_MANY_CALLS


# --- the hunter can fail -----------------------------------------------------


def ends_in(function, monkeypatch, **kinds):
    monkeypatch.setattr(hostile, "usual", lambda target, rank=2: {})
    call = Call(Target("module.function", "function", function, None), kinds)
    return hostile.outcome(call)[0]


def test_outcomes_are_told_apart(monkeypatch):
    def obscure(size):
        return size.shape

    def clear(size):
        raise ValueError(f"`size` must be an int. Received: size={size!r}")

    def other(size):
        raise ValueError("Bad value.")

    def no_number(size):
        return keras.ops.convert_to_tensor(np.nan)

    for function, expected in (
        (obscure, "obscure"),
        (clear, "clear"),
        (other, "obscure"),
        (no_number, "wrong"),
        (str, "right"),
    ):
        kinds = {} if function is str else {"size": "a str"}
        assert ends_in(function, monkeypatch, **kinds) == expected, function


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import time; time.sleep(99)", "hang"),
        ("import os; os._exit(3)", "crash"),
    ],
)
def test_hangs_and_crashes_are_seen(code, expected, monkeypatch):
    if expected == "hang":
        monkeypatch.setattr(hostile, "SECONDS", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", f"print('[\"a call\"]', flush=True); {code}"],
        stdout=subprocess.PIPE,
    ) as child:
        [(text, result, _)] = hostile._read(child)
    assert (text, result) == ("a call", expected)
