"""Paths of the files that tests read."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
CAMVID = ROOT.parent / "shared" / "camvid"
"""Real images, if there is a copy. All other tests pass without it."""

GOLDEN = TESTS / "golden" / "vectors.npz"
