"""Processes that find less than this one."""

import os

from tests.paths import ROOT


def without_tensorflow(folder):
    """The variable of a process that finds this package, but not TensorFlow."""
    for name in ("tensorflow", "tensorflow_datasets"):
        text = f"raise ImportError('{name} is not installed')\n"
        (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT)))}
