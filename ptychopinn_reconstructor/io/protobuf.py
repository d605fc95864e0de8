"""The wire format of protocol buffers: messages as numbered fields, written and read without a schema."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST = 10  # bytes of a varint, which holds 64 bits
MASK = 2**64 - 1


def write_field(number: int, value: int | float | str | bytes) -> bytes:
    """A field of a message: an integer as varint, a float in single precision, text and messages with their length."""
    if isinstance(value, float):
        return _write_varint(number << 3 | FIXED32) + struct.pack('<f', value)
    if isinstance(value, int):
        return _write_varint(number << 3 | VARINT) + _write_varint(value & MASK)
    data = value.encode() if isinstance(value, str) else value
    return _write_varint(number << 3 | BYTES) + _write_varint(len(data)) + data


def read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: an integer, or the bytes of anything else, which are not copied.

    Raises ValueError where the bytes are no message.
    """
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _read_varint(message, place)
            yield number, value
            continue
        if kind == BYTES:
            length, place = _read_varint(message, place)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f'a field of the unknown type {kind}')
        if length > len(message) - place:
            raise ValueError(f'a field of {length} bytes where {len(message) - place} are left')
        yield number, message[place : place + length]
        place += length


def _write_varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    """A varint and the place behind it."""
    value = 0
    for count, byte in enumerate(message[place : place + LONGEST]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value & MASK, place + count + 1
    raise ValueError('a number that does not end')
