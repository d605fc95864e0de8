"""The wire format of protocol buffers: what is written is read, and what is no message is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptychopinn_reconstructor.io.protobuf import read_fields, write_field

FIELDS = st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=300)), max_size=8)


@given(FIELDS)
def test_what_is_written_is_read(fields: list[tuple[int, int | bytes]]) -> None:
    message = b''.join(write_field(number, value) for number, value in fields)
    found = [(n, v if isinstance(v, int) else bytes(v)) for n, v in read_fields(memoryview(message))]
    assert found == fields


def test_bytes_are_those_of_the_specification() -> None:
    """The examples of Google's description of the encoding; a negative number takes ten bytes."""
    assert write_field(1, 150) == bytes.fromhex('089601')
    assert write_field(2, 'testing') == bytes.fromhex('120774657374696e67')
    assert write_field(1, -2) == bytes.fromhex('08feffffffffffffffff01')
    assert write_field(2, 0.5) == bytes([2 << 3 | 5]) + struct.pack('<f', 0.5)


def test_fixed_lengths_are_read_as_bytes() -> None:
    message = bytes([3 << 3 | 1]) + bytes(range(8)) + write_field(2, 0.5) + write_field(1, 7)
    found = [
        (number, value if isinstance(value, int) else len(value)) for number, value in read_fields(memoryview(message))
    ]
    assert found == [(3, 8), (2, 4), (1, 7)]


@pytest.mark.parametrize(
    ('message', 'reason'),
    [
        (b'\x0a\x05abc', '5 bytes where 3 are left'),
        (b'\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fabc', 'are left'),
        (b'\x08\xff', 'does not end'),
        (b'\x08' + b'\xff' * 11, 'does not end'),
        (b'\x0b', 'unknown type 3'),
        (b'\x0d\x00\x00', '4 bytes where 2 are left'),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(read_fields(memoryview(message)))
