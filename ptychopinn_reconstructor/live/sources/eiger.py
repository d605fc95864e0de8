"""Frames of Eiger's stream (version 1): their JSON headers, and the encodings of their values.

A message begins with JSON whose `htype` says what it is: dheader-1.0 and dseries_end-1.0 around the images dimage-1.0.
The second part of an image (dimage_d-1.0) has `shape` [width, height], `type` and `encoding`, the third the values, and
the fourth (dconfig-1.0) the times. Positions beside it are ours: one part of JSON, `htype` positions-1.0, `index` (k),
`positions` (k) of [row, column] and `unit`. `sent` in the last part of either, in seconds since 1970, is when it was
sent. The filters that decompress are those of HDF5, which know the same formats.
"""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError, quote

POSITIONS = 'positions-1.0'
RAW, LZ4 = '<', 'lz4<'
TYPES = ('uint8', 'uint16', 'uint32', 'int16', 'int32', 'float32')
LARGEST = 2**28  # pixels of a frame


class Codec:
    """Compresses and decompresses frames of one shape and type in one encoding: '<', 'lz4<' or 'bs<bits>-lz4<'."""

    def __init__(self, shape: tuple[int, int], dtype: str, encoding: str) -> None:
        """Raises ScanError when there is no such type or encoding, or no such frame."""
        if dtype not in TYPES or min(shape) < 1 or shape[0] * shape[1] > LARGEST:
            raise ScanError(f'A frame has the shape {shape} and the type {quote(dtype)}; known are {", ".join(TYPES)}.')
        self.shape, self.dtype, self.encoding = shape, np.dtype(dtype), encoding
        self._dataset: Any = None
        if encoding not in (RAW, LZ4, f'bs{8 * self.dtype.itemsize}-lz4<'):
            raise ScanError(
                f'A frame of {dtype} is encoded as {quote(encoding)}; set the detector to bslz4, lz4 or no compression.'
            )
        if encoding != RAW:
            self._dataset = self._open()

    def _open(self) -> Any:
        """A dataset of one frame in a file in memory."""
        import h5py
        import hdf5plugin

        packed = hdf5plugin.LZ4(nbytes=self._bytes) if self.encoding == LZ4 else hdf5plugin.Bitshuffle(cname='lz4')
        file = h5py.File(f'frame-{id(self)}', 'w', driver='core', backing_store=False)
        return file.create_dataset('frame', self.shape, self.dtype, chunks=self.shape, **packed)

    @property
    def _bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def decode(self, blob: bytes) -> NDArray[Any]:
        """The frame (H, W) in these bytes; ScanError when they are damaged."""
        if self.encoding == RAW:
            if len(blob) != self._bytes:
                raise ScanError(f'A frame has {len(blob)} bytes, not {self._bytes}; check the sender.')
            return np.frombuffer(blob, self.dtype.newbyteorder('<')).astype(self.dtype).reshape(self.shape)
        if self.encoding == LZ4:  # the one block without the header that HDF5's filter has
            blob = struct.pack('>qII', self._bytes, self._bytes, len(blob)) + blob
        if len(blob) < 12 or struct.unpack('>q', blob[:8])[0] != self._bytes:
            raise ScanError(f'A frame does not unpack to {self._bytes} bytes; check the sender.')
        try:
            with _hold_hdf5():
                self._dataset.id.write_direct_chunk((0, 0), blob)
                return np.asarray(self._dataset[()])
        except OSError as error:
            raise ScanError(f'A frame cannot be unpacked ({error}); check the sender.') from error

    def encode(self, frame: NDArray[Any]) -> bytes:
        """The bytes of a frame (H, W)."""
        values = np.ascontiguousarray(frame, dtype=self.dtype)
        if self.encoding == RAW:
            return values.astype(self.dtype.newbyteorder('<')).tobytes()
        with _hold_hdf5():
            self._dataset[...] = values
            self._dataset.flush()
            blob = bytes(self._dataset.id.read_direct_chunk((0, 0))[1])
        return blob[16:] if self.encoding == LZ4 else blob


def _hold_hdf5() -> AbstractContextManager[Any]:
    """The lock of h5py, which its direct access to chunks does not take: HDF5 bears one thread at a time."""
    from h5py._objects import phil

    held: AbstractContextManager[Any] = phil
    return held
