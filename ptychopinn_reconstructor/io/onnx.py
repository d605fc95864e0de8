"""The parts of an ONNX file, written and read by their field numbers (onnx.proto3); the package onnx is not needed.

Graphs are written for operator set 13 of version 7 of the format, which every runtime since 2021 reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from .protobuf import read_fields, write_field

VERSION, OPERATORS = 7, 13
PRODUCER = 'ptychopinn-reconstructor'
START = write_field(1, VERSION) + write_field(2, PRODUCER)  # what the files written here begin with
GRAPH, METADATA = 7, 14  # fields of a model
INITIALIZER: Final = 5  # of a graph
TYPES = {np.dtype('<f4'): 1, np.dtype('<i8'): 7}
FLOAT32 = 1
Shape = Sequence[int | str]
MAX_AXES = 8
Field = tuple[int, int | memoryview]
Value = TypeVar('Value')
Attribute = int | float | Sequence[int] | NDArray[Any]


def encode_model(graph: bytes) -> bytes:
    """A whole file of a graph; metadata may be appended."""
    return START + write_field(GRAPH, graph) + write_field(8, write_field(2, OPERATORS))


def encode_graph(
    nodes: Iterable[bytes],
    weights: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
) -> bytes:
    """A graph of nodes in the order in which they run; a length that is a word may be any."""
    parts = [write_field(1, node) for node in nodes] + [write_field(2, PRODUCER)]
    parts += [write_field(INITIALIZER, encode_tensor(values, name)) for name, values in weights.items()]
    for number, ends in ((11, inputs), (12, outputs)):
        parts += [write_field(number, _encode_end(name, shape)) for name, shape in ends.items()]
    return b''.join(parts)


def encode_node(kind: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Mapping[str, Attribute]) -> bytes:
    """A node that applies an operator."""
    parts = [write_field(1, name) for name in inputs] + [write_field(2, name) for name in outputs]
    parts += [write_field(4, kind)]
    return b''.join(parts + [write_field(5, _encode_attribute(*pair)) for pair in attributes.items()])


def encode_tensor(values: NDArray[Any], name: str = '') -> bytes:
    """An array of float32 or int64."""
    parts = [write_field(1, length) for length in values.shape] + [write_field(2, TYPES[values.dtype])]
    return b''.join([*parts, *([write_field(8, name)] if name else []), write_field(9, values.tobytes())])


def encode_metadata(key: str, value: str) -> bytes:
    """A line of text about the model, to be appended to its file."""
    return write_field(METADATA, write_field(1, key) + write_field(2, value))


def read_model(data: bytes) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Weights and metadata of a file that was written here; they are copied, nothing is executed.

    Raises ValueError where it is none, where a name is there twice, or an array is not what it says.
    """
    fields = list(read_fields(memoryview(data)))
    graphs = [list(read_fields(graph)) for graph in _select(fields, GRAPH)]
    weights = [_read_tensor(tensor) for graph in graphs for tensor in _select(graph, INITIALIZER)]
    return _by_name(weights), _by_name([_read_metadata(pair) for pair in _select(fields, METADATA)])


def to_onnx(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel (height, width, in, out) as ONNX stores it, (out, in, height, width); a bias as it is."""
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1)) if values.ndim == 4 else values


def from_onnx(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `to_onnx`."""
    return np.ascontiguousarray(values.transpose(2, 3, 1, 0)) if values.ndim == 4 else values


def _read_tensor(message: memoryview) -> tuple[str, NDArray[np.float32]]:
    """Name and values of an array of float32."""
    fields = list(read_fields(message))
    shape = [length for number, length in fields if number == 1 and isinstance(length, int)]
    kind = [value for number, value in fields if number == 2]
    (name,), (raw,) = _select(fields, 8), _select(fields, 9)
    if kind != [FLOAT32] or len(shape) > MAX_AXES or len(raw) != 4 * math.prod(shape):
        raise ValueError(f'{len(raw)} bytes of the type {kind} for an array of the shape {shape[:MAX_AXES]}')
    return str(name, 'utf-8'), np.frombuffer(raw, dtype='<f4').reshape(shape).copy()


def _read_metadata(message: memoryview) -> tuple[str, str]:
    fields = list(read_fields(message))
    (key,), (value,) = _select(fields, 1), _select(fields, 2)
    return str(key, 'utf-8'), str(value, 'utf-8')


def _select(fields: Iterable[Field], number: int) -> list[memoryview]:
    """The messages of that number among the fields."""
    return [value for found, value in fields if found == number and isinstance(value, memoryview)]


def _by_name(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError('a name is there twice')
    return found


def _encode_attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, np.ndarray):
        kind, fields = 4, write_field(5, encode_tensor(value))
    elif isinstance(value, int):
        kind, fields = 2, write_field(3, value)
    elif isinstance(value, float):
        kind, fields = 1, write_field(2, value)
    else:
        kind, fields = 7, b''.join(write_field(8, number) for number in value)
    return write_field(1, name) + fields + write_field(20, kind)


def _encode_end(name: str, shape: Shape) -> bytes:
    """An input or output of float32."""
    lengths = [write_field(1, write_field(1 if isinstance(length, int) else 2, length)) for length in shape]
    return write_field(1, name) + write_field(
        2, write_field(1, write_field(1, FLOAT32) + write_field(2, b''.join(lengths)))
    )
