"""Sending a scan as a detector and a stage would: over ZMQ, into a growing HDF5 file, or into a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, OutputError
from ..events import ShouldStop
from ..io.atomic import write_atomically
from ..scan import Scan
from .sources import STREAM
from .sources.eiger import POSITIONS, RAW, Codec

Send = Callable[[int, NDArray[Any], NDArray[np.float64]], None]
WAIT = 30.0  # seconds for a receiver of the last messages


def replay(scan: Scan, to: str, rate: float, should_stop: ShouldStop, *, encoding: str = RAW) -> int:
    """Send the patterns of a scan, `rate` a second, with their positions; how many were sent.

    `to` is 'tcp://HOST:PORT', where receivers connect, a file that is made (.h5), or a folder that is. `encoding` of
    the frames of a stream: '<', 'lz4<' or 'bs<bits>-lz4<'. Raises OutputError where a file is, or a port is taken.
    """
    with _open_sender(scan, to, encoding) as send:
        begin = time.monotonic()
        for number in range(len(scan)):
            if should_stop():
                return number
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            send(number, np.asarray(scan.diffraction[number]), scan.positions[number])
    return len(scan)


@contextmanager
def _open_sender(scan: Scan, to: str, encoding: str) -> Iterator[Send]:
    if to.startswith(STREAM):
        opened = _open_stream(scan, to, encoding)
    elif to.endswith(('.h5', '.hdf5', '.nxs')):
        opened = _open_file(scan, Path(to))
    else:
        opened = _open_folder(Path(to))
    with opened as send:
        yield send


@contextmanager
def _open_stream(scan: Scan, to: str, encoding: str) -> Iterator[Send]:
    try:
        import zmq
    except ImportError as error:
        text = 'A ZMQ stream needs pyzmq, which is not installed; pip install ptychopinn-reconstructor[live].'
        raise BackendError(text) from error
    dtype = np.dtype(scan.diffraction.dtype).name
    side = scan.n_pixels
    codec = Codec((side, side), dtype, encoding)
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    try:
        try:
            socket.bind(to)
        except zmq.ZMQError as error:
            raise OutputError(f'{to} cannot be served ({error}); choose another port.') from error
        series = {'series': 1}

        def send(number: int, pattern: NDArray[Any], position: NDArray[np.float64]) -> None:
            now = {'sent': time.time()}
            head = {'htype': 'dimage-1.0', **series, 'frame': number, 'hash': ''}
            blob = codec.encode(pattern)
            about = {
                'htype': 'dimage_d-1.0', 'shape': [side, side], 'type': dtype, 'encoding': encoding, 'size': len(blob),
            }  # fmt: skip
            config = {'htype': 'dconfig-1.0', 'start_time': 0, 'stop_time': 0, 'real_time': 0, **now}
            socket.send_multipart([_dump(head), _dump(about), blob, _dump(config)])
            place = {'htype': POSITIONS, 'index': [number], 'positions': [position.tolist()], 'unit': 'pixel', **now}
            socket.send_multipart([_dump(place)])

        socket.send_multipart([_dump({'htype': 'dheader-1.0', **series, 'header_detail': 'none'})])
        yield send
        socket.send_multipart([_dump({'htype': 'dseries_end-1.0', **series})])
    finally:
        socket.close(linger=round(1000 * WAIT))
        context.term()


def _dump(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()


@contextmanager
def _open_file(scan: Scan, path: Path) -> Iterator[Send]:
    """A file that others may read from the first pattern on (SWMR)."""
    import h5py

    if path.exists():
        raise OutputError(f'There is a file {path} already; choose another name.')
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w', libver='latest') as file:
        side = scan.n_pixels
        patterns = file.create_dataset(
            'patterns', (0, side, side), scan.diffraction.dtype, maxshape=(None, side, side), chunks=(1, side, side)
        )
        positions = file.create_dataset('positions', (0, 2), np.float64, maxshape=(None, 2), fillvalue=np.nan)
        positions.attrs['units'] = 'pixel'
        file.swmr_mode = True

        def send(number: int, pattern: NDArray[Any], position: NDArray[np.float64]) -> None:
            for dataset, values in ((patterns, pattern), (positions, position)):
                dataset.resize(number + 1, axis=0)
                dataset[number] = values
                dataset.flush()

        yield send


@contextmanager
def _open_folder(path: Path) -> Iterator[Send]:
    """NPZ files of one pattern with its position, each complete when it has its name."""
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise OutputError(f'The folder {path} is not empty; choose another.')

    def send(number: int, pattern: NDArray[Any], position: NDArray[np.float64]) -> None:
        values = {'patterns': pattern[None], 'positions': position[None], 'index': np.array([number])}
        with write_atomically(path / f'pattern_{number:06}.npz') as temporary:
            np.savez(temporary, allow_pickle=False, **values)

    yield send
