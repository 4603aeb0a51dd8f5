"""Arrays by name from files of PyTorch, without executing their code."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".pth", ".pt", ".safetensors")
# Older versions of PyTorch execute code in archives of the oldest format, even
# with `weights_only=True` (CVE-2025-32434).
_OLDEST_TORCH = (2, 6)
# Far above any network of this package. A sparse file may declare any size.
_MAX_BYTES = 2**32


def read(path: Path, argument: str, advice: str = "") -> dict[str, Any]:
    """Return the tensors of a state dict by name, for `to_array`.

    Shapes can be compared before memory is allocated: a tensor may declare a
    size that the file does not contain.

    Args:
        path: A file of safetensors if it ends in .safetensors, otherwise one
            that `torch.save` wrote. The state dict of a training checkpoint,
            under the key "state_dict", is found.
        argument: Name of the user's argument, for errors.
        advice: Advice for files that contain other objects than tensors.

    Raises:
        ValueError: If a package is missing, or the file is not a state dict.
    """
    try:
        num_bytes = path.stat().st_size
        if num_bytes > _MAX_BYTES:
            raise ValueError(f"a file of {num_bytes} bytes")
        if path.suffix.lower() == ".safetensors":
            from safetensors.numpy import load_file

            arrays: dict[str, Any] = load_file(path)
            return arrays
        return _read_torch(path)
    except ImportError as error:
        raise ValueError(
            f"`{argument}` in a {path.suffix} file requires another package. "
            f"Run: pip install 'keras-deconv[torch]'. {error}"
        ) from error
    except Exception as error:
        # PyTorch's message is left out: it advises to execute the file's code.
        is_pickle = isinstance(error, pickle.UnpicklingError)
        raise ValueError(
            f"`{argument}` in a {path.suffix} file must be a PyTorch state "
            "dict: tensors by name and nothing else, as from "
            "torch.save(model.state_dict(), path). Received: "
            f"{str(path)!r}, which failed with {type(error).__name__}"
            + (f". {advice}" if advice and is_pickle else "")
        ) from None


def to_array(value: Any) -> np.ndarray:
    """Convert a tensor or an array to a float32 array.

    Raises:
        TypeError: If it does not contain floats.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind != "f":
            raise TypeError(f"dtype {value.dtype}")
        # Values that are too large become infinite, and are rejected later.
        with np.errstate(over="ignore"):
            return value.astype("float32")
    if not value.is_floating_point():
        raise TypeError(f"dtype {value.dtype}")
    array: np.ndarray = value.detach().float().numpy()
    return array


def _read_torch(path: Path) -> dict[str, Any]:
    import torch

    version = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if version < _OLDEST_TORCH:
        raise ImportError(
            "PyTorch must be 2.6 or newer: older versions can execute code "
            f"from a file. Found: {torch.__version__}"
        )
    _check_is_stored(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    if not isinstance(state, Mapping):
        raise TypeError(f"state_dict is {type(state).__name__}")
    return {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def _check_is_stored(path: Path) -> None:
    """Reject an archive that would expand; PyTorch does not compress.

    Raises:
        ValueError: If an entry is compressed, or the entries are larger than
            the archive.
        zipfile.BadZipFile: If the file starts like an archive but is not one.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    is_stored = all(e.compress_type == zipfile.ZIP_STORED for e in entries)
    if not is_stored or size > path.stat().st_size:
        raise ValueError(f"an archive of {size} bytes")
