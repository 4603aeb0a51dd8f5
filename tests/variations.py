"""Runs the tests marked `numeric` as other CPUs and other seeds would.

    python -m tests.variations            # every setting, about an hour
    python -m tests.variations seed=7     # those that are named

Prints a table of what passed and what failed. Bounds have to hold in all of
them: see `tests/bounds.py`.
"""

import os
import re
import subprocess
import sys

from tests.paths import ROOT

SETTINGS = {
    "as here": {},
    **{
        f"oneDNN {isa}": {"ONEDNN_MAX_CPU_ISA": isa}
        for isa in ("SSE41", "AVX2", "AVX512_CORE")
    },
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "XLA AVX2": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    **{
        f"{number} threads": {
            "OMP_NUM_THREADS": number,
            "TF_NUM_INTRAOP_THREADS": number,
        }
        for number in ("1", "4")
    },
    **{f"seed={seed}": {"TEST_SEED": seed} for seed in ("1", "2", "3")},
}


def run(setting):
    """The closing line of pytest, and the tests that failed."""
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            *["-m", "numeric and not slow and not gpu"],
        ],
        env={**os.environ, **setting},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    failed = [
        re.sub(r" - .*", "", line)
        for line in lines
        if line.startswith(("FAILED", "ERROR"))
    ]
    return lines[-1].strip("= ") if lines else done.stderr[-500:], failed


def main(names):
    failures = 0
    print("| setting | result |\n|---|---|")
    for name in names or SETTINGS:
        setting = SETTINGS.get(name)
        if setting is None:
            key, _, value = name.partition("=")
            setting = {"TEST_SEED" if key == "seed" else key: value}
        result, failed = run(setting)
        print(f"| {name} | {result} |", flush=True)
        for line in failed:
            print(f"|  | {line} |", flush=True)
        failures += len(failed)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
