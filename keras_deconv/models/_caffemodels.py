"""Arrays of a `.caffemodel` by the names of its layers, without Caffe.

The file is one protobuf message. This module reads only the fields that it
needs. The protobuf library would create an object for everything that a file
declares: 15 MB of empty layers take 300 MB. Here, a file takes at most about 20
MB of memory, because arrays are views of the file.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".caffemodel",)

# Field numbers in caffe.proto. The layers of NetParameter, with the fields of
# their name and their blobs: V1LayerParameter and LayerParameter.
_LAYERS = {2: (4, 6), 100: (1, 7)}
# BlobProto: num, channels, height and width of older files; data; shape.
_SIZES, _DATA, _SHAPE = (1, 2, 3, 4), 5, 7
# BlobShape: dim.
_DIM = 1
# Wire types of protobuf, and the number of bytes of those of a fixed size.
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_FIXED_SIZES = {_DOUBLE: 8, _FLOAT: 4}

# Blobs of convolutions; for SegNet's normalization, scale and shift.
_PARTS = ("weight", "bias")
# Limits far above any network; the first two are those of protobuf and Caffe.
_MAX_BYTES = 2**31
_MAX_AXES = 32
_MAX_NAME = 1000
_MAX_FIELDS = 100_000

Value = int | memoryview
Field = tuple[int, int, Value]


class _DamagedError(Exception):
    """An error that describes the damage of a file."""


def read(path: Path, argument: str) -> dict[str, np.ndarray]:
    """Return arrays by layer and part, named as in PyTorch's state dicts.

    Args:
        path: The file. The layers of older versions of Caffe ("layers") and of
            newer ones ("layer") are both read.
        argument: Name of the user's argument, for errors.

    Returns:
        Read-only float32 arrays in Caffe's layout. Names are such as
        "conv1_1.weight" and "conv1_1.bias"; further blobs are named "bn.blob2".

    Raises:
        ValueError: If the file is empty, truncated, or not written by Caffe.
    """
    try:
        return _read(path)
    except _DamagedError as error:
        raise ValueError(
            f"`{argument}` must be a complete .caffemodel file, as written by "
            f"Caffe. Received: {str(path)!r}, in which {error}"
        ) from None


def _read(path: Path) -> dict[str, np.ndarray]:
    num_bytes = path.stat().st_size
    if not 0 < num_bytes < _MAX_BYTES:
        raise _DamagedError(f"there are {num_bytes} bytes")
    message = np.memmap(path, np.uint8, "r").data
    budget = iter(range(_MAX_FIELDS))
    arrays: dict[str, np.ndarray] = {}
    for number, kind, layer in _fields(message, budget):
        if number not in _LAYERS or kind != _BYTES:
            continue
        name, blobs = _read_layer(layer, *_LAYERS[number], budget)
        for i, blob in enumerate(blobs):
            part = _PARTS[i] if i < len(_PARTS) else f"blob{i}"
            if f"{name}.{part}" in arrays:
                raise _DamagedError(f"two layers are called {name!r}")
            arrays[f"{name}.{part}"] = _read_blob(blob, name, budget)
    if not arrays:
        raise _DamagedError("there is no layer with weights")
    return arrays


def _read_layer(
    layer: Value, name_field: int, blobs_field: int, budget: Iterator[int]
) -> tuple[str, list[Value]]:
    name, blobs = "", []
    for number, kind, value in _fields(layer, budget):
        if kind != _BYTES:
            continue
        if number == name_field:
            name = _text(value)
        elif number == blobs_field:
            blobs.append(value)
    return name, blobs


def _read_blob(blob: Value, name: str, budget: Iterator[int]) -> np.ndarray:
    sizes = dict.fromkeys(_SIZES, 0)
    shape: list[int] | None = None
    data: list[Any] = []
    for number, kind, value in _fields(blob, budget):
        if number == _DATA and kind in (_BYTES, _FLOAT):
            if kind == _BYTES and data:
                # Joining the pieces would copy arrays of any size.
                raise _DamagedError(f"layer {name!r} has floats in two pieces")
            data.append(value)
        elif number == _SHAPE and kind == _BYTES:
            shape = _read_shape(value, budget)
        elif number in sizes and isinstance(value, int):
            sizes[number] = value
    if shape is None:
        shape = list(sizes.values())
    # Caffe writes one piece, which is not copied.
    joined = data[0] if len(data) == 1 else b"".join(data)
    if (
        len(joined) != 4 * math.prod(shape)
        # NumPy rejects sizes above its limit even if one of them is 0.
        or math.prod(n or 1 for n in shape) >= _MAX_BYTES
    ):
        raise _DamagedError(
            f"layer {name!r} has {len(joined)} bytes for float32 of shape "
            f"{tuple(shape)}"
        )
    return np.frombuffer(joined, "<f4").reshape(shape)


def _read_shape(shape: Value, budget: Iterator[int]) -> list[int]:
    sizes: list[int] = []
    for number, _, value in _fields(shape, budget):
        if number != _DIM:
            continue
        position = 0
        # Caffe writes sizes packed; protobuf also allows one by one.
        packed = value if isinstance(value, memoryview) else memoryview(b"")
        if isinstance(value, int):
            sizes.append(value)
        while position < len(packed) and len(sizes) <= _MAX_AXES:
            size, position = _varint(packed, position)
            sizes.append(size)
    if len(sizes) > _MAX_AXES:
        raise _DamagedError(f"a shape has more than {_MAX_AXES} axes")
    return sizes


def _text(value: Value) -> str:
    if not isinstance(value, memoryview) or len(value) > _MAX_NAME:
        raise _DamagedError(
            f"a layer has a name of more than {_MAX_NAME} bytes"
        )
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise _DamagedError("the name of a layer is not UTF-8") from None


def _fields(message: Value, budget: Iterator[int]) -> Iterator[Field]:
    """Yield number, type and value of each field of a message, in order.

    Inner messages are yielded as values, without parsing them.

    Raises:
        _DamagedError: If `message` is not a message, or the budget is spent.
    """
    if not isinstance(message, memoryview):
        raise _DamagedError("a number stands in place of a message")
    position = 0
    while position < len(message):
        if next(budget, None) is None:
            raise _DamagedError(f"there are more than {_MAX_FIELDS} fields")
        key, position = _varint(message, position)
        number, kind = divmod(key, 8)
        if kind == _VARINT:
            number_value, position = _varint(message, position)
            yield number, kind, number_value
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in _FIXED_SIZES:
            length = _FIXED_SIZES[kind]
        else:
            raise _DamagedError("there are fields that Caffe does not write")
        if length > len(message) - position:
            raise _DamagedError("data is missing at the end")
        yield number, kind, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read a number of up to ten bytes, and return it and the next position."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _DamagedError("data is missing at the end")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise _DamagedError("a number has more than ten bytes")
