"""Previews: how often, and what each stage of a job shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor import events as previews
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import Interrupted
from ptychopinn_reconstructor.events import Done, Epoch, Event, Preview, Previews, Progress
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.physics.geometry import canonical_order, scan_area
from ptychopinn_reconstructor.physics.stitching.count_scale import LARGEST_CHANGE
from ptychopinn_reconstructor.reconstruction.finish import Result
from ptychopinn_reconstructor.reconstruction.network_object import predict_contributions
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training import previews as training_previews

BATCH = 40
OFTEN = 0.0  # as often as their cost allows
ORIGIN = (0.0, 0.0)


@dataclass(eq=False)
class Listener:
    """Keeps events, and the arrays in them both as they were and as they are."""

    events: list[Event] = field(default_factory=list)
    copies: list[NDArray[Any]] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Preview):
            self.copies.append(event.object.copy())

    def shown(self, stage: str) -> list[dict[str, Any]]:
        """The previews of a stage."""
        return [dict(vars(e)) for e in self.events if isinstance(e, Preview) and e.stage == stage]

    @property
    def unchanged(self) -> bool:
        """Whether every array is still what it was when it came."""
        arrays = [e.object for e in self.events if isinstance(e, Preview)]
        return all(np.array_equal(one, other) for one, other in zip(arrays, self.copies, strict=True))


@dataclass(eq=False)
class Clock:
    """A clock that is set by hand."""

    now: float = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    hand = Clock()
    monkeypatch.setattr(previews, 'time', hand)
    return hand


def config_of(**changes: Any) -> Config:
    return short_config(
        **{
            'training__nepochs': 1,
            'model__n_filters_scale': 0.5,
            'inference__inference_batch_size': BATCH,
            'refinement__wavefront': False,  # previews are shown before it
        }
        | changes
    )


@pytest.fixture(scope='module')
def scan() -> Scan:
    return replace(small_scan(positions=144), on_object_grid=True)


@pytest.fixture(scope='module')
def training(scan: Scan, tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> tuple[Path, Listener]:
    """A model, and what was heard of its training, one epoch."""
    heard = Listener()
    folder = tmp_path_factory.mktemp('model')
    return pp.train([scan], config_of(), folder, preview_seconds=OFTEN, emit=heard).model, heard


def gauge_of(result: Result) -> float:
    """The factor that the counts have given to the network's amplitude: 1 where they ask for too much."""
    scale = result.report.run.count_gauge
    assert scale is not None
    return scale if abs(scale - 1) <= LARGEST_CHANGE else 1.0


def makes(clock: Clock, seconds: float) -> Callable[[], NDArray[np.complex64]]:
    """Makes a canvas in so many seconds."""

    def make() -> NDArray[np.complex64]:
        clock.now += seconds
        return np.full((2, 3), clock.now, dtype=np.complex64)

    return make


def test_two_previews_are_so_many_seconds_apart(clock: Clock) -> None:
    heard = Listener()
    shown = Previews(heard, 2.0)
    for seconds in (0.0, 1.9, 0.2, 1.5, 1.0):
        clock.now += seconds
        shown.offer('network', makes(clock, 0.0), ORIGIN, patterns=7, total=9)
    times = [float(data['object'][0, 0].real) for data in heard.shown('network')]
    assert times == pytest.approx([100.0, 102.1, 104.6])
    data = heard.shown('network')[0]
    assert {key: data[key] for key in ('stage', 'origin', 'complete', 'patterns')} == {
        'stage': 'network',
        'origin': ORIGIN,
        'complete': False,
        'patterns': 7,
    }


def test_previews_cost_a_tenth_of_the_time_at_most(clock: Clock) -> None:
    heard = Listener()
    shown = Previews(heard, 0.5)
    for _ in range(1000):
        clock.now += 0.3
        shown.offer('train', makes(clock, 2.0), ORIGIN, total=9)
    cost = 2.0 * len(heard.shown('train'))
    assert 0.08 * (clock.now - 100) < cost < 0.1 * (clock.now - 100)


def test_a_complete_object_is_shown_at_once_and_nothing_unless_asked(clock: Clock) -> None:
    heard, unheard = Listener(), Listener()
    for listener, seconds in ((heard, 60.0), (unheard, None)):
        shown = Previews(listener, seconds)
        for complete in (False, False, True):
            shown.offer('network', makes(clock, 0.0), ORIGIN, total=9, complete=complete)
    assert [data['complete'] for data in heard.shown('network')] == [False, True]
    assert not unheard.events and unheard.copies == []


def test_nothing_to_show_is_no_preview(clock: Clock) -> None:
    heard = Listener()
    shown = Previews(heard, 1.0)
    shown.offer('train', lambda: None, ORIGIN, total=9)
    assert not heard.events


def test_nothing_is_shown_unless_asked(scan: Scan, training: tuple[Path, Listener], tmp_path: Path) -> None:
    """And the model is bit by bit the same with previews and without."""
    heard = Listener()
    model = pp.train([scan], config_of(), tmp_path, emit=heard).model
    pp.reconstruct(scan, model, config_of(refinement__passes=1), emit=heard)
    assert {type(event) for event in heard.events} >= {Progress, Epoch, Done}
    assert Preview not in {type(event) for event in heard.events}
    mine, other = open_model(model).weights, open_model(training[0]).weights
    assert all(np.array_equal(mine[name], other[name]) for name in other)


def test_the_first_batch_is_shown_then_the_complete_object(scan: Scan, training: tuple[Path, Listener]) -> None:
    """The first preview is the object of the first batch's patterns, on the canvas of the whole scan."""
    heard = Listener()
    found = pp.reconstruct(scan, training[0], config_of(refinement__passes=1), preview_seconds=OFTEN, emit=heard)
    first, *_, last = heard.shown('network')
    assert found.network is not None
    assert (first['patterns'], first['total'], first['complete']) == (36, 144, False)  # 144 in four even batches
    assert (last['patterns'], last['total'], last['complete']) == (144, 144, True)
    assert np.array_equal(last['object'], found.network) and last['object'].dtype == np.complex64
    assert first['origin'] == last['origin'] == found.reconstruction.origin
    assert first['object'].shape == last['object'].shape
    assert (first['object'][-20:] == 1).all() and (last['object'][-20:] != 1).any()

    few = canonical_order(scan.positions)[:36]
    alone = replace(scan, diffraction=scan.diffraction[few], positions=scan.positions[few], scan_index=None)
    other = pp.reconstruct(alone, training[0], config_of(refinement__passes=0))
    mine = first['object'][scan_area(alone.positions, first['origin'])]
    theirs = other.reconstruction.object[scan_area(alone.positions, other.reconstruction.origin)]
    assert np.ptp(np.angle(theirs)) > 0.1
    assert np.abs(mine * gauge_of(other) - theirs).max() < 1e-3


def test_the_complete_object_of_the_network_comes_before_the_refinement(
    scan: Scan, training: tuple[Path, Listener]
) -> None:
    """Even where a preview has just been shown; progress is told after every batch."""
    heard = Listener()
    pp.reconstruct(scan, training[0], config_of(refinement__passes=2), preview_seconds=3600, emit=heard)
    told = [(type(e), getattr(e, 'stage', None), getattr(e, 'complete', None)) for e in heard.events]
    complete = told.index((Preview, 'network', True))
    assert complete < told.index((Progress, 'refine', None))
    assert [told.count((Preview, 'network', complete)) for complete in (False, True)] == [1, 1]
    assert told.count((Preview, 'refine', False)) == 0
    done = [e.done for e in heard.events if isinstance(e, Progress) and e.stage == 'network']
    assert done == [36, 72, 108, 144]


def test_refinement_shows_the_canvas_after_a_pass(scan: Scan) -> None:
    heard = Listener()
    found = pp.refine(scan, config_of(refinement__passes=3), preview_seconds=OFTEN, emit=heard)
    first, *_, last = heard.shown('refine')
    assert (first['epoch'], first['total'], first['complete']) == (1, 3, False)
    assert (last['epoch'], last['total'], last['complete']) == (3, 3, True)
    assert first['origin'] == last['origin'] == found.reconstruction.origin
    assert np.array_equal(last['object'], found.reconstruction.object)
    one = pp.refine(scan, config_of(refinement__passes=3), emit=lambda event: None)
    assert np.array_equal(one.reconstruction.object, found.reconstruction.object)
    assert np.abs(first['object'] - last['object']).max() > 1e-2
    assert heard.unchanged


def test_training_shows_the_first_scan_after_an_epoch(scan: Scan, training: tuple[Path, Listener]) -> None:
    """It is the object that a reconstruction with the network of that epoch gives, but for its amplitude's gauge."""
    model, heard = training
    (data,) = heard.shown('train')
    assert (data['epoch'], data['total'], data['complete']) == (1, 1, False)
    found = pp.reconstruct(scan, model, config_of(refinement__passes=0))
    assert data['origin'] == found.reconstruction.origin and data['object'].dtype == np.complex64
    area = scan_area(scan.positions, data['origin'])
    assert found.network is not None and data['object'].shape == found.network.shape
    assert np.abs(data['object'] * gauge_of(found) - found.network)[area].max() < 1e-3
    kinds = [type(event) for event in heard.events if isinstance(event, Epoch | Preview | Done)]
    assert kinds == [Epoch, Preview, Done]


def test_a_large_scan_is_shown_by_a_part_of_its_patterns(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend_name: str
) -> None:
    """Every k-th in canonical order, over the whole canvas."""
    monkeypatch.setattr(training_previews, 'SHOWN_PATTERNS', 50)
    asked: list[int] = []
    predict = predict_contributions

    def counting(prepared: Any, network: Any, index: NDArray[np.int64], weight: Any) -> Any:
        asked.extend(index.tolist())
        return predict(prepared, network, index, weight)

    monkeypatch.setattr(training_previews, 'predict_contributions', counting)
    heard = Listener()
    pp.train([scan], config_of(), tmp_path, preview_seconds=OFTEN, emit=heard)
    assert asked == list(range(0, 144, 3))
    (data,) = heard.shown('train')
    area = np.abs(data['object'][scan_area(scan.positions, data['origin'])] - 1)
    assert (area[:8] > 1e-3).any() and (area[-8:] > 1e-3).any()


def test_a_stop_ends_a_preview_too(scan: Scan, tmp_path: Path, backend_name: str) -> None:
    """Asked to stop while it predicts for a preview, a job shows nothing and stops; the checkpoint stays."""
    heard = Listener()

    def should_stop() -> bool:
        return any(isinstance(event, Epoch) for event in heard.events)

    with pytest.raises(Interrupted, match='last checkpoint'):
        pp.train(
            [scan],
            config_of(training__nepochs=3),
            tmp_path,
            preview_seconds=OFTEN,
            keep_interrupted=False,
            emit=heard,
            should_stop=should_stop,
        )
    assert not heard.shown('train')
    assert list(tmp_path.glob('checkpoints/last.*')) and not (tmp_path / 'model.safetensors').exists()
