"""Hunters: random calls and random numbers that look for mistakes.

Two of them:

- `hostile.py` calls every public name with arguments of the wrong kind, such as
  a str in place of a tensor. Names and arguments are those of the inventory
  (`tests/test_public_api.py`), so new names are covered by themselves;
  `ordinary.py` holds what an argument usually is. A child process makes the
  calls, and a watchdog ends it when a call takes too long.
- `differential.py` compares random poolings and unpoolings with NumPy loops:
  eager, in graphs, compiled, and with sizes that are not known.

One seed of the first, with the traceback, or one call of `kept.txt`:

    python -m tests.fuzz.hostile 123
    python -m tests.fuzz.hostile "keras_deconv.ops.max_unpool values=a str"

Seeds 1000 to 1999, and a table of the outcomes:

    python -m tests.fuzz.hostile 1000 2000

`KERAS_BACKEND=jax` or `torch` before the command chooses the backend. Seeds
draw other calls once a public name is added or removed: a call that failed is
kept as a line of `kept.txt`, which the default tests run.

100 cases of the second, in a way to run functions, with the seed 3:

    python -m tests.fuzz.differential compiled 3 100

One case is a line to paste, as Hypothesis prints it:

    python -c "from tests.fuzz.differential import *
    equals_loops(Case(...), 'compiled')"
"""
