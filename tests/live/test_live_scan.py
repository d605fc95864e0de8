"""LiveScan: the object grows with what arrives, improves with time, and ends as that of `reconstruct`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ConfigError, Interrupted, ScanError
from ptychopinn_reconstructor.events import Event, Progress
from ptychopinn_reconstructor.live.live_scan import LiveScan
from ptychopinn_reconstructor.scan import Scan

N, SUPPORT = 32, 16


@pytest.fixture(scope='module')
def scan() -> Scan:
    """Not that of the training."""
    return small_scan(positions=144, seed=7, object='leaves')


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> Path:
    """A network that has seen little."""
    training = small_scan(positions=196, object='mixed')
    return pp.train([training], short_config(training__nepochs=4), tmp_path_factory.mktemp('model')).model


@pytest.fixture
def live(model: Path, scan: Scan) -> Iterator[LiveScan]:
    with LiveScan(model, scan.probe, config=_config()) as one:
        yield one


def _config(passes: int = 3) -> Config:
    return short_config(refinement__passes=passes)


def _patterns(scan: Scan) -> NDArray[np.uint16]:
    return np.asarray(scan.diffraction)


def _noise_ratio(live: LiveScan) -> float:
    found = live.reliability()
    assert found is not None
    return found.misfit.noise_ratio


def _add(live: LiveScan, scan: Scan, index: NDArray[np.int64]) -> tuple[slice, slice] | None:
    return live.add(_patterns(scan)[index], scan.positions[index], index)


def test_in_the_end_it_is_the_object_of_reconstruct_whatever_came_how(live: LiveScan, model: Path, scan: Scan) -> None:
    """Shuffled, in batches of any size, some twice, some parts late, some without the other, with passes between."""
    draw, patterns = np.random.default_rng(3), _patterns(scan)
    order = draw.permutation(len(scan))
    lonely_pattern, lonely_position = order[:2]
    for part in np.split(order, np.sort(draw.choice(np.arange(1, len(scan)), 12, replace=False))):
        first, then = part[part != lonely_position], draw.permutation(part[part != lonely_pattern])
        live.add(patterns[first], index=first)
        live.settle(0.02)
        again = np.concatenate([then, then[:2]])
        live.add(positions=scan.positions[again], index=again)
    live.add(patterns[order[5:9]], scan.positions[order[5:9]] + 1, order[5:9])
    assert live.placed == len(scan) - 2
    result = live.settle(math.inf)
    assert result is not None
    there = np.sort(order[2:])
    same = Scan(diffraction=patterns[there], positions=scan.positions[there], probe=scan.probe)
    expected = pp.reconstruct(same, model, _config())
    assert np.abs(live.canvas() - expected.reconstruction.object).max() < 1e-5
    assert np.array_equal(result.reconstruction.object, expected.reconstruction.object)
    assert live.origin == expected.reconstruction.origin
    assert result.reconstruction.metadata['probe_position_indexes'].tolist() == there.tolist()
    assert np.array_equal(_patterns(live.scan()), patterns[there])


def test_it_tells_what_has_changed_on_the_canvas(live: LiveScan, scan: Scan) -> None:
    _add(live, scan, np.arange(100))  # whole lines: the next ones lie within
    before, origin = live.canvas(), live.origin
    area = _add(live, scan, np.arange(100, 104))
    assert area is not None
    after = live.canvas()
    grown = np.rint(np.array(live.origin) - origin).astype(int)
    old = np.ones_like(after)
    old[grown[0] : grown[0] + before.shape[0], grown[1] : grown[1] + before.shape[1]] = before
    changed = np.argwhere(np.abs(after - old) > 0)
    low, high = changed.min(axis=0), changed.max(axis=0) + 1
    assert (low >= [part.start for part in area]).all() and (high <= [part.stop for part in area]).all()
    corners = scan.positions[100:104] + live.origin - (SUPPORT - 1) / 2
    assert np.abs([part.start for part in area] - corners.min(axis=0)).max() <= 1
    assert np.abs([part.stop for part in area] - corners.max(axis=0) - SUPPORT).max() <= 1


def test_nothing_changes_before_both_parts_are_there(live: LiveScan, scan: Scan) -> None:
    index = np.arange(40)
    assert live.add(_patterns(scan)[index], index=index) is None and live.canvas().size == 0
    assert live.reliability() is None and live.probe is None
    assert live.add(positions=scan.positions[100:110], index=np.arange(100, 110)) is None
    assert live.add(positions=scan.positions[index[:20]], index=index[:20]) is not None
    assert live.placed == 20 and live.count() == (40, 30, 20, 0)


def test_between_arrivals_it_improves(live: LiveScan, scan: Scan) -> None:
    """From the network's patches, each laid on as it came, in random order."""
    for part in np.array_split(np.random.default_rng(0).permutation(len(scan)), 30):
        _add(live, scan, part)
    first = _noise_ratio(live)
    live.settle(0.3)
    second = _noise_ratio(live)
    live.settle(60.0)
    third = _noise_ratio(live)
    assert first > 1.2 * second and third < 1.05 * second and third < 1.5
    begin = time.process_time()
    live.settle(60.0)  # nothing is left to do
    assert time.process_time() - begin < 10


def test_patterns_far_outside_enlarge_the_canvas_and_lost_ones_do_not(live: LiveScan, scan: Scan) -> None:
    inner = np.flatnonzero((scan.positions < 30).all(axis=1))
    _add(live, scan, inner)
    shape, value = live.canvas().shape, live.canvas()[16, 16]
    assert live.add(_patterns(scan)[:1], [[1e7, -1e7]], [1000]) is None and live.canvas().shape == shape
    outer = np.setdiff1d(np.arange(len(scan)), inner)
    _add(live, scan, outer)
    assert live.canvas()[tuple(np.rint(np.array(live.origin) - 15.5 + 16).astype(int))] == pytest.approx(value, abs=0.5)
    extent = np.ptp(scan.positions, axis=0)
    assert np.abs(np.array(live.canvas().shape) - extent - N).max() <= 1
    assert live.placed == len(scan) and live.count().pairs == len(scan) + 1
    result = live.settle(math.inf)  # the lost one is left out there, too
    assert result is not None and np.abs(np.array(live.canvas().shape) - extent - N).max() <= 1
    assert len(result.reconstruction.positions) == len(scan)


def test_what_comes_after_the_end_is_laid_on_that(live: LiveScan, scan: Scan) -> None:
    left, right = (np.flatnonzero(side) for side in (scan.positions[:, 1] < 30, scan.positions[:, 1] >= 30))
    _add(live, scan, left)
    live.settle(math.inf)
    settled, origin, before = live.canvas(), np.array(live.origin), _noise_ratio(live)
    _add(live, scan, right)
    grown = np.rint(np.array(live.origin) - origin).astype(int)
    there = live.canvas()[grown[0] :, grown[1] :][: settled.shape[0], :21]
    assert np.array_equal(there, settled[:, :21])  # no new patch reaches there
    live.settle(60.0)
    assert np.abs(live.canvas()[grown[0] :, grown[1] :][8:24, 8:16] - settled[8:24, 8:16]).max() < 0.3
    assert before < 1.5 and _noise_ratio(live) < 1.5
    result = live.settle(math.inf)
    assert result is not None and len(result.reconstruction.positions) == len(scan)


def test_an_earlier_object_gives_the_phase(model: Path, scan: Scan) -> None:
    """New patches take the phase of what is there, whatever that is."""
    turned = np.exp(1j * 2.0).astype(np.complex64)
    first = pp.reconstruct(scan, model, _config()).reconstruction
    given = replace(first, object=first.object * turned)
    with LiveScan(model, scan.probe, given, config=_config()) as live:
        assert live.canvas().size == 0  # before the first patterns nothing is known of N
        _add(live, scan, np.arange(60))
        live.settle(60.0)
        shift = np.rint(np.array(live.origin) - first.origin).astype(int)
        inside = live.canvas()[shift[0] :, shift[1] :][16:40, 16:40]
        assert np.angle(np.vdot(first.object[16:40, 16:40] * turned, inside)) == pytest.approx(0, abs=0.2)


def test_codes_for_no_data_are_masked_and_dark_patterns_left_out(model: Path, scan: Scan) -> None:
    patterns = _patterns(scan).astype(np.uint32)
    patterns[:, 3, 5] = 2**32 - 1
    patterns[70] = 0
    with LiveScan(model, scan.probe, config=_config()) as live:
        live.add(patterns[:100], scan.positions[:100])
        assert live.unusable == 1 and live.placed == 99
        assert {notice.code for notice in live.notices} >= {'impossible_values'}
        assert _noise_ratio(live) < 50
        result = live.settle(math.inf)
    same = Scan(diffraction=patterns[:100], positions=scan.positions[:100], probe=scan.probe)
    expected = pp.reconstruct(same, model, _config())
    assert result is not None and np.abs(result.reconstruction.object - expected.reconstruction.object).max() < 1e-5


def test_a_beam_off_the_center_is_brought_there(model: Path, scan: Scan) -> None:
    rolled = np.roll(_patterns(scan), (16, 16), axis=(1, 2))
    with LiveScan(model, scan.probe, config=_config()) as live, LiveScan(model, scan.probe, config=_config()) as other:
        live.add(rolled, scan.positions)
        other.add(_patterns(scan), scan.positions)
        assert {notice.code for notice in live.notices} >= {'beam_offset'}
        assert np.abs(live.canvas() - other.canvas()).max() < 1e-4


def test_what_cannot_be_is_said(live: LiveScan, scan: Scan) -> None:
    with pytest.raises(ScanError, match='No pattern has arrived'):
        live.settle(math.inf)
    with pytest.raises(ConfigError, match='budget is -1'):
        live.settle(-1)
    assert live.settle(1.0) is None
    patterns = _patterns(scan)
    assert live.add(patterns[:10], np.zeros((10, 2))) is None  # all at one place: the next may not be
    with pytest.raises(ScanError, match=r'spans 0 pixels.*probably in meters'):
        live.add(patterns[10:40], np.zeros((30, 2)))
    _add(live, scan, np.arange(40, 120))
    assert live.placed == 120


def test_the_end_can_be_stopped_and_followed(live: LiveScan, scan: Scan) -> None:
    _add(live, scan, np.arange(len(scan)))
    before, heard = live.canvas(), list[Event]()
    with pytest.raises(Interrupted):
        live.settle(math.inf, emit=heard.append, should_stop=lambda: len(heard) > 2)
    assert np.array_equal(live.canvas(), before) and any(isinstance(event, Progress) for event in heard)
