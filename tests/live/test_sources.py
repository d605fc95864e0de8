"""Where patterns come from: real sockets, files that another process writes, folders that are filled."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scans import small_scan

from ptychopinn_reconstructor.errors import ConfigError, OutputError, ScanError
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.live.replay import replay
from ptychopinn_reconstructor.live.sources import folder as folder_module
from ptychopinn_reconstructor.live.sources import open_source
from ptychopinn_reconstructor.live.sources.eiger import Codec
from ptychopinn_reconstructor.live.sources.source import Arrival, Source, to_pixels
from ptychopinn_reconstructor.scan import Scan

LONGEST = 60.0  # seconds


@pytest.fixture(scope='module')
def scan() -> Scan:
    """Counts in 16 bits."""
    return small_scan(positions=64)


def _gather(source: Source, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """All that comes, by index, until there is enough."""
    found: dict[str, Any] = {'patterns': {}, 'positions': {}}
    end = time.monotonic() + LONGEST
    while not until(found):
        assert time.monotonic() < end, {name: sorted(values) for name, values in found.items()}
        for arrival in source.poll(0.05):
            for name in found:
                if (values := getattr(arrival, name)) is not None:
                    found[name].update(dict(zip(arrival.index.tolist(), values, strict=True)))
    return found


def _has_all(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda found: all(len(values) == count for values in found.values())


def _check(found: dict[str, Any], scan: Scan) -> None:
    for number in range(len(scan)):
        assert np.array_equal(found['patterns'][number], scan.diffraction[number])
        assert found['positions'][number] == pytest.approx(scan.positions[number], abs=1e-9)


# frames


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32', 'int32', 'float32'])
@pytest.mark.parametrize('encoding', ['<', 'lz4<', 'bs-lz4<'])
def test_frames_survive_each_encoding(dtype: str, encoding: str) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    codec = Codec((24, 40), dtype, encoding.replace('bs', f'bs{bits}'))
    for seed in range(3):
        frame = np.random.default_rng(seed).poisson(0.5, (24, 40)).astype(dtype)
        blob = codec.encode(frame)
        assert np.array_equal(codec.decode(blob), frame) and codec.decode(blob).dtype == np.dtype(dtype)
        assert encoding == '<' or len(blob) < frame.nbytes


def test_a_block_of_lz4_is_what_its_specification_says() -> None:
    """A token of fifteen literals and more, how many more, the literals; no header."""
    literals = np.arange(16, dtype=np.uint8)
    assert np.array_equal(Codec((4, 4), 'uint8', 'lz4<').decode(b'\xf0\x01' + literals.tobytes()).ravel(), literals)


def test_bitshuffled_frames_begin_with_their_sizes() -> None:
    blob = Codec((16, 16), 'uint16', 'bs16-lz4<').encode(np.ones((16, 16), np.uint16))
    assert int.from_bytes(blob[:8], 'big') == 512 and int.from_bytes(blob[8:12], 'big') % 16 == 0


@pytest.mark.parametrize('encoding', ['<', 'lz4<', 'bs16-lz4<'])
def test_damaged_frames_are_refused(encoding: str) -> None:
    codec = Codec((16, 16), 'uint16', encoding)
    for blob in (b'', b'\x00' * 12, b'\xff' * 40):
        with pytest.raises(ScanError, match='check the sender'):
            codec.decode(blob)


@pytest.mark.parametrize(
    ('shape', 'dtype', 'encoding', 'said'),
    [
        ((16, 16), 'uint16', 'bs32-lz4<', 'encoded as .bs32-lz4<.; set the detector to bslz4, lz4 or no compression'),
        ((16, 16), 'object', '<', 'type .object.; known are uint8'),
        ((0, 16), 'uint16', '<', r'shape \(0, 16\)'),
        ((2**20, 2**20), 'uint16', '<', r'shape \(1048576, 1048576\)'),
    ],
)
def test_frames_that_cannot_be_are_refused(shape: tuple[int, int], dtype: str, encoding: str, said: str) -> None:
    with pytest.raises(ScanError, match=said):
        Codec(shape, dtype, encoding)


def test_threads_may_pack_and_unpack_while_others_use_hdf5() -> None:
    """h5py takes no lock for its direct access to chunks, and HDF5 bears one thread at a time."""
    frame = np.random.default_rng(0).integers(0, 9, (32, 32)).astype(np.uint16)
    packed = Codec((32, 32), 'uint16', 'bs16-lz4<').encode(frame)

    def pack(_: int) -> bool:
        codec = Codec((32, 32), 'uint16', 'bs16-lz4<')
        return all(codec.encode(frame) == packed for _ in range(500))

    def unpack(_: int) -> bool:
        codec = Codec((32, 32), 'uint16', 'bs16-lz4<')
        return all(np.array_equal(codec.decode(packed), frame) for _ in range(500))

    with ThreadPoolExecutor(4) as pool:
        assert all(future.result() for future in [pool.submit(pack, 0), *(pool.submit(unpack, i) for i in range(3))])


# streams


def _endpoint(tmp_path: Path) -> str:
    return f'ipc://{tmp_path}/frames'


@pytest.mark.parametrize('encoding', ['<', 'lz4<', 'bs16-lz4<'])
def test_a_stream_is_received_whole(tmp_path: Path, scan: Scan, encoding: str) -> None:
    pytest.importorskip('zmq')
    endpoint = _endpoint(tmp_path)
    with open_source(endpoint) as source:
        sender = threading.Thread(
            target=replay, args=(scan, endpoint, 1e4, lambda: False), kwargs={'encoding': encoding}
        )
        sender.start()
        found = _gather(source, _has_all(len(scan)))
        _gather(source, lambda _: source.over)
        sender.join()
    _check(found, scan)


def test_another_program_sends_over_tcp(tmp_path: Path, scan: Scan) -> None:
    pytest.importorskip('zmq')
    write_npz(tmp_path / 'scan.npz', scan)
    port = 20_000 + int(np.random.default_rng().integers(20_000))
    command = [sys.executable, '-m', 'ptychopinn_reconstructor', 'replay', str(tmp_path / 'scan.npz')]
    sender = subprocess.Popen([*command, '--to', f'tcp://127.0.0.1:{port}', '--rate', '500'], stdout=subprocess.PIPE)
    with open_source(f'tcp://127.0.0.1:{port}') as source:
        _check(_gather(source, _has_all(len(scan))), scan)
        _gather(source, lambda _: source.over)
    assert sender.communicate(timeout=LONGEST)[0] == b'64 patterns sent.\n' and sender.returncode == 0


def test_messages_that_cannot_be_read_are_counted_and_a_second_series_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zmq = pytest.importorskip('zmq')
    from ptychopinn_reconstructor.live.sources.stream import Stream

    context = zmq.Context()
    frames, places = context.socket(zmq.PUSH), context.socket(zmq.PUSH)
    frames.bind(_endpoint(tmp_path))
    places.bind(f'ipc://{tmp_path}/places')
    frame = np.arange(16, dtype='<u2').reshape(4, 4)
    about = {'htype': 'dimage_d-1.0', 'shape': [4, 4], 'type': 'uint16', 'encoding': '<'}

    def image(series: int, number: int, blob: bytes) -> list[bytes]:
        head = {'htype': 'dimage-1.0', 'series': series, 'frame': number}
        return [json.dumps(head).encode(), json.dumps(about).encode(), blob]

    with Stream(_endpoint(tmp_path), f'ipc://{tmp_path}/places', pixel_size=2e-6) as source:
        for parts in (
            [b'no json'],
            [b'[1]'],
            [b'{"htype": "positions-1.0", "index": [0]}'],
            [b'{"htype": "something else"}'],
            image(7, 0, frame.tobytes()),
            image(7, 1, b'short'),
            image(7, 2, frame.tobytes()),
            image(8, 0, frame.tobytes()),
        ):
            frames.send_multipart(parts)
        places.send_json({'htype': 'positions-1.0', 'index': [0, 2], 'positions': [[2, 4], [6, 8]], 'unit': 'um'})
        found = _gather(source, lambda found: source.over and len(found['positions']) == 2)
        assert sorted(found['patterns']) == [0, 2] and np.array_equal(found['patterns'][2], frame)
        assert np.array([*found['positions'].values()]) == pytest.approx(np.array([[1.0, 2.0], [3.0, 4.0]]))
        assert source.unreadable == 4 and caplog.text.count('A message cannot be read') == 4
    for socket in (frames, places):
        socket.close(linger=0)
    context.term()


def test_channels_of_pv_access_are_monitored(scan: Scan) -> None:
    pva = pytest.importorskip('pvaccess')
    from pvapy.utility.adImageUtility import AdImageUtility

    kind = {'index': [pva.LONG], 'row': [pva.DOUBLE], 'column': [pva.DOUBLE], 'unit': pva.STRING}
    server = pva.PvaServer()
    server.addRecord('live:image', AdImageUtility.generateNtNdArray2D(0, np.asarray(scan.diffraction[0])))
    server.addRecord('live:place', pva.PvObject(kind))
    with open_source('pva:live:image', positions='pva:live:place') as source:
        _gather(source, lambda found: 0 in found['patterns'])  # connected
        for number in range(len(scan)):
            server.update(
                'live:image', AdImageUtility.generateNtNdArray2D(number, np.asarray(scan.diffraction[number]))
            )
            time.sleep(0.002)
        rows, columns = scan.positions.T.tolist()
        values = {'index': [*range(len(scan))], 'row': rows, 'column': columns, 'unit': 'pixel'}

        def send_again(found: dict[str, Any]) -> bool:
            """It may take a while until the second channel is connected."""
            server.update('live:place', pva.PvObject(kind, values))
            return _has_all(len(scan))(found)

        _check(_gather(source, send_again), scan)
    server.stop()


# files


def test_a_file_is_read_while_another_process_writes_it(tmp_path: Path, scan: Scan) -> None:
    write_npz(tmp_path / 'scan.npz', scan)
    path = tmp_path / 'growing.h5'
    with open_source(str(path)) as source:
        assert source.poll(0.01) == []  # not there yet
        command = [sys.executable, '-m', 'ptychopinn_reconstructor', 'replay', str(tmp_path / 'scan.npz')]
        writer = subprocess.Popen([*command, '--to', str(path), '--rate', '100'])
        _gather(source, lambda found: len(found['patterns']) > 5)
        assert writer.poll() is None  # it is still writing
        source._read.update(patterns=0, positions=0)  # type: ignore[attr-defined]  # once more from the first
        found = _gather(source, _has_all(len(scan)))
        _gather(source, lambda _: source.over)
    _check(found, scan)
    assert writer.wait(LONGEST) == 0


def _write_file(path: Path, **datasets: NDArray[Any]) -> Any:
    import h5py

    with h5py.File(path, 'w') as file:
        for name, values in datasets.items():
            file[name.replace('__', '/')] = values
    return path


def test_a_complete_file_of_other_names_and_units(tmp_path: Path, scan: Scan) -> None:
    order = np.random.default_rng(0).permutation(len(scan))
    path = _write_file(
        tmp_path / 'a.h5',
        entry__detector=np.asarray(scan.diffraction)[order],
        numbers=order,
        y=scan.positions[:, 0] * 20e-9 * 1e6,
        xcoords=scan.positions[:, 1] * 20e-9 * 1e6,
    )
    import h5py

    with h5py.File(path, 'a') as file:
        file['y'].attrs['units'] = 'um'
    keys = {'patterns': 'entry/detector', 'indexes': 'numbers', 'rows': 'y'}
    with open_source(str(path), pixel_size=20e-9, keys=keys) as source:
        _check(_gather(source, lambda _: source.over), scan)
    with (
        open_source(str(path), keys=keys) as source,
        pytest.raises(ConfigError, match=r'positions are in um, .* pass pixel_size='),
    ):
        source.poll(1.0)
    with pytest.raises(ScanError, match=r'holds entry, numbers, xcoords, y but no patterns'):
        open_source(str(path)).poll(1.0)
    with pytest.raises(ScanError, match=r'has no dataset nowhere; name another \(keys=\)'):
        open_source(str(path), keys={'patterns': 'nowhere'}).poll(1.0)
    with pytest.raises(ConfigError, match="no dataset 'pattern'; the keys are patterns, positions"):
        open_source(str(path), keys={'pattern': 'nowhere'})


# folders


def test_a_folder_is_read_as_it_fills(tmp_path: Path, scan: Scan) -> None:
    path = tmp_path / 'folder'
    path.mkdir()
    with open_source(str(path)) as source:
        writer = threading.Thread(target=replay, args=(scan, str(tmp_path / 'other'), 1e4, lambda: False))
        writer.start()
        writer.join()
        for number, file in enumerate(sorted((tmp_path / 'other').iterdir())):
            file.rename(path / file.name)
            if number == 20:
                _gather(source, lambda found: len(found['patterns']) == 21)
        source._done.clear()  # type: ignore[attr-defined]  # once more from the first
        _check(_gather(source, _has_all(len(scan))), scan)


@pytest.mark.parametrize('first', [0, 1])
def test_images_belong_to_the_rows_of_a_table_by_their_numbers(tmp_path: Path, scan: Scan, first: int) -> None:
    table, head = tmp_path / 'positions.csv', 'x_px,y_px\n'
    with open_source(str(tmp_path)) as source:
        tifffile.imwrite(tmp_path / f'frame_{first + 3}.tif', np.asarray(scan.diffraction[3]))
        table.write_text(head + ''.join(f'{x},{y}\n' for y, x in scan.positions[:2].tolist()))
        for _ in range(5):
            assert source.poll(0.05) == []  # whether images count from 0 or 1 is not known yet
        for number in (2, 0, 1):
            tifffile.imwrite(tmp_path / f'frame_{first + number}.tif', np.asarray(scan.diffraction[number]))
        np.save(tmp_path / f'more_{first + 4}.npy', np.asarray(scan.diffraction[4:]))
        _gather(source, lambda found: len(found['positions']) == 2)
        table.write_text(head + ''.join(f'{x},{y}\n' for y, x in scan.positions.tolist()))
        found = _gather(source, lambda found: len(found['positions']) == len(scan) - 2)
        source._done.clear()  # type: ignore[attr-defined]
        source._rows.clear()  # type: ignore[attr-defined]
        source._tables.clear()  # type: ignore[attr-defined]
        found = _gather(source, _has_all(len(scan)))
    _check(found, scan)


def test_a_file_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_module, 'ATTEMPTS', 3)
    (tmp_path / 'a_0.npz').write_bytes(b'PK no zip')
    np.savez(tmp_path / 'b_1.npz', patterns=np.ones((1, 4, 4)), positions=np.ones((1, 2)), index=np.array([7]))
    with open_source(str(tmp_path)) as source:
        found = _gather(source, lambda found: 'a_0.npz is left out' in caplog.text and len(found['patterns']) == 1)
    assert found['positions'][7].tolist() == [1, 1]


# arguments


def test_a_replay_overwrites_nothing(tmp_path: Path, scan: Scan) -> None:
    (tmp_path / 'there.h5').write_bytes(b'x')
    with pytest.raises(OutputError, match=r'There is a file .*there.h5 already'):
        replay(scan, str(tmp_path / 'there.h5'), 1.0, lambda: False)
    with pytest.raises(OutputError, match='is not empty'):
        replay(scan, str(tmp_path), 1.0, lambda: False)


@pytest.mark.parametrize(
    ('name', 'options', 'said'),
    [
        ('.', {'keys': {'patterns': 'a'}}, 'is a folder, which has no datasets; leave out the keys patterns'),
        ('a.h5', {'positions': 'tcp://x:1'}, 'beside its patterns; leave out tcp://x:1'),
        ('tcp://127.0.0.1:1', {'keys': {'patterns': 'a'}}, 'has no datasets'),
    ],
)
def test_what_does_not_belong_to_a_source_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_source(name, **options)


def test_units() -> None:
    assert to_pixels(np.array([[1.0, 2.0]]), 'nm', 0.5e-9).tolist() == [[2, 4]]
    assert to_pixels(np.array([1.0, 2.0]), 'pixel', None).tolist() == [[1, 2]]
    with pytest.raises(ScanError, match="unit of the positions is 'furlong'; use pixel, m, mm"):
        to_pixels(np.zeros((1, 2)), 'furlong', 1.0)
    assert Arrival(np.array([1])).patterns is None
