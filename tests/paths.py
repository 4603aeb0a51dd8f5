"""Where the files are that tests look at."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
CAMVID = ROOT.parent / "shared" / "camvid"
"""Real images, where there is a copy; tests are complete without it."""

GOLDEN = TESTS / "golden" / "vectors.npz"
