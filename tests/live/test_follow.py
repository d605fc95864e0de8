"""Following a source: none is lost, the end is that of `reconstruct`, and a page shows what there is."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from scans import backend_here, short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.display.png import encode_png
from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.io import read_product, write_npz
from ptychopinn_reconstructor.live.follow import Follower, Output, Snapshot, crop_patterns, join_arrivals
from ptychopinn_reconstructor.live.latency import Latencies
from ptychopinn_reconstructor.live.live_scan import LiveScan
from ptychopinn_reconstructor.live.page import Page
from ptychopinn_reconstructor.live.replay import replay
from ptychopinn_reconstructor.live.sources import open_source
from ptychopinn_reconstructor.live.sources.source import Arrival, Source
from ptychopinn_reconstructor.scan import Scan


@pytest.fixture(scope='module')
def scan() -> Scan:
    """Not that of the training."""
    return small_scan(positions=100, seed=7, object='leaves')


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> Path:
    """A network that has seen little."""
    training = small_scan(positions=144, object='mixed')
    return pp.train([training], short_config(training__nepochs=3), tmp_path_factory.mktemp('model')).model


def _fetch(address: str, host: str = '127.0.0.1') -> bytes:
    request = urllib.request.Request(address, headers={'Host': host})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize('transport', ['stream', 'file', 'folder'])
def test_none_is_lost_and_the_end_is_that_of_reconstruct(
    tmp_path: Path, model: Path, scan: Scan, transport: str
) -> None:
    if transport == 'stream':
        pytest.importorskip('zmq')
    where = {'stream': f'ipc://{tmp_path}/frames', 'file': str(tmp_path / 'a.h5'), 'folder': str(tmp_path / 'folder')}
    to, config = where[transport], short_config(refinement__passes=2)
    if transport == 'stream':
        sender = threading.Thread(target=replay, args=(scan, to, 400.0, lambda: False))
        sender.start()
    else:  # HDF5 opens no file twice in a process
        write_npz(tmp_path / 'scan.npz', scan)
        run('replay', str(tmp_path / 'scan.npz'), '--to', to, '--rate', '10000')
        sender = threading.Thread()
    seen: list[Snapshot] = []
    with LiveScan(model, scan.probe, config=config) as live, open_source(to) as source, Page() as page:
        outputs = [Output(seen.append, 0.0), Output(page.show, 0.0)]
        follower = Follower(live, source, scan.n_pixels, end_after=2.0, outputs=outputs)
        follower.run(lambda: False)
        assert live.placed == len(scan) and live.count() == (100, 100, 100, 0)
        assert int(follower.latencies.counts.sum()) == len(scan)
        result = live.settle(math.inf)
        assert result is not None
        follower.finish('complete')
        object_, origin = live.canvas(), live.origin
        state = json.loads(_fetch(page.address + 'state.json'))
        assert state['phase'] == 'complete' and state['placed'] == 100
        assert state['covered'] == pytest.approx(result.report.reliability.coverage.mean(), abs=0.02)
        assert sum(count for _, count in state['latency']['histogram']) == 100
        assert state['shape'] == list(object_.shape) and len(state['looked_at']) == 48
        row, column, _ = state['looked_at'][0]
        assert [row, column] == pytest.approx((scan.positions[0] + origin).tolist(), abs=0.51)
    if transport == 'stream':
        sender.join()
    expected = pp.reconstruct(scan, model, config).reconstruction
    assert origin == expected.origin and np.abs(object_ - expected.object).max() < 1e-5
    assert [one.version for one in seen] == sorted({one.version for one in seen})
    assert seen[0].placed <= seen[-1].placed == len(scan)


def test_the_command_follows_another_program(tmp_path: Path, model: Path, scan: Scan) -> None:
    pytest.importorskip('zmq')
    write_npz(tmp_path / 'scan.npz', scan)
    write_npz(tmp_path / 'probe.npz', scan)
    endpoint = f'ipc://{tmp_path}/frames'
    command = [sys.executable, '-m', 'ptychopinn_reconstructor', 'replay', str(tmp_path / 'scan.npz')]
    sender = subprocess.Popen([*command, '--to', endpoint])
    options = ('--probe', str(tmp_path / 'probe.npz'), '--passes', '2', '--end-after', '5', '--device', 'cpu')
    done = run(
        'live', endpoint, '--model', str(model), '--output-dir', str(tmp_path / 'out'), *options,
        '--backend', backend_here(),
    )  # fmt: skip
    assert sender.wait(60) == 0
    assert 'The object is shown at http://127.0.0.1:' in done.stderr
    assert '100, 100, 100' in done.stdout and 'latency, median' in done.stdout
    product = read_product(tmp_path / 'out' / 'product.h5')
    config = pp.Config().merged(pp.open_model(model).manifest.defaults, {'refinement': {'passes': 2}})
    expected = pp.reconstruct(scan, model, config).reconstruction
    assert np.abs(product.object - expected.object).max() < 1e-5
    metrics = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert metrics['patterns'] == 100 and metrics['refine_passes'] == 2


# parts


class Given(Source):
    """Hands over what it was given, one poll at a time."""

    def __init__(self, *polls: list[Arrival]) -> None:
        self.polls = [*polls]

    def poll(self, seconds: float) -> list[Arrival]:
        self.over = not self.polls
        return self.polls.pop(0) if self.polls else []

    def close(self) -> None:
        """Nothing is open."""


def test_larger_patterns_are_cropped_about_the_beam(model: Path, scan: Scan) -> None:
    wide = np.zeros((len(scan), 50, 60), np.uint16)
    wide[:, 5:37, 20:52] = scan.diffraction
    config, index = short_config(), np.arange(len(scan))
    with LiveScan(model, scan.probe, config=config) as live, LiveScan(model, scan.probe, config=config) as other:
        polls = [Arrival(index, wide, None)], [Arrival(index, None, scan.positions)]
        Follower(live, Given(*polls), 32, center=(21, 36)).run(lambda: False)
        other.add(scan.diffraction, scan.positions)
        first = other.canvas()
        other.settle(60.0)
        assert live.placed == len(scan) and live.canvas().shape == first.shape


def test_it_ends_when_it_is_asked_to(model: Path, scan: Scan) -> None:
    asked = iter([False, False, False, True])
    with LiveScan(model, scan.probe, config=short_config()) as live:
        Follower(live, Given(*[[]] * 5), 32).run(lambda: next(asked))
        assert live.placed == 0 and next(asked, None) is None


def test_crops() -> None:
    patterns = np.arange(2 * 6 * 8).reshape(2, 6, 8)
    assert np.array_equal(crop_patterns(patterns, 4), patterns[:, 1:5, 2:6])
    assert np.array_equal(crop_patterns(patterns, 4, (2, 6)), patterns[:, 0:4, 4:8])
    with pytest.raises(ScanError, match='6 x 8 pixels and do not hold 4 x 4 about row 5, column 4; pass another'):
        crop_patterns(patterns, 4, (5, 4))


def test_arrivals_alike_become_one_batch() -> None:
    def frames(*numbers: int, dtype: Any = np.uint16) -> Arrival:
        return Arrival(np.array(numbers), patterns=np.stack([np.full((2, 2), one, dtype) for one in numbers]))

    place = Arrival(np.array([1]), positions=np.ones((1, 2)))
    joined = join_arrivals([frames(3), place, frames(1, 2), frames(9, dtype=np.uint32), place])
    assert [one.index.tolist() for one in joined] == [[1, 1], [3, 1, 2], [9]]
    patterns = joined[1].patterns
    assert patterns is not None and patterns[:, 0, 0].tolist() == [3, 1, 2] and joined[0].positions is not None


def test_latencies_begin_with_the_later_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, 'time', lambda: 100.0)
    latencies = Latencies()
    assert latencies.note(np.array([1, 2]), True, 99.0) == []
    assert latencies.note(np.array([1]), True, 99.5) == []  # again
    complete = latencies.note(np.array([2, 1, 3]), False, 99.9)
    assert complete == [99.9, 99.9]
    latencies.arrive(complete)
    assert latencies.percentile(50) == pytest.approx(0.1, rel=0.13)
    latencies.arrive([0.0] * 8)
    told = latencies.to_json()
    assert told['median'] == pytest.approx(1e5, rel=0.13) and [count for _, count in told['histogram']] == [2, 8]
    assert Latencies().to_json() == {'median': None, 'p90': None, 'p99': None, 'histogram': []}


def test_pictures_are_png() -> None:
    matplotlib = pytest.importorskip('matplotlib.image')
    values = np.arange(256, dtype=np.uint8)
    colors = np.stack([values, values[::-1], np.full_like(values, 7)], axis=1)
    pixels = np.random.default_rng(0).integers(0, 256, (13, 20)).astype(np.uint8)
    shown = matplotlib.imread(io.BytesIO(encode_png(pixels, colors)), format='png')
    assert np.array_equal(np.rint(255 * shown[..., :3]).astype(np.uint8), colors[pixels])


def test_the_page_is_for_this_machine_alone() -> None:
    with Page() as page:
        assert (
            b'<title>ptychopinn live</title>' in _fetch(page.address)
            and json.loads(_fetch(page.address + 'state.json')) == {}
        )
        for address, host in ((page.address, 'elsewhere.example'), (page.address + '../secret', '127.0.0.1')):
            with pytest.raises(urllib.error.HTTPError, match='404'):
                _fetch(address, host)
        with pytest.raises(OutputError, match=r'The page cannot .*port \d+ .*; choose another'):
            Page(int(page.address.rpartition(':')[2].rstrip('/')))
