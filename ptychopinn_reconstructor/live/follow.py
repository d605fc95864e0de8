"""Following a source: what comes is laid on the canvas at once; between arrivals the object is improved and shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import ShouldStop
from .arrivals import Counted
from .latency import Latencies
from .live_scan import LiveScan, Overview
from .sources.source import Arrival, Source

SLICE = 0.02  # CPU seconds of settling between two looks at the source
WAIT = 0.05  # seconds for the source when nothing is left to do
SHARE = 0.05  # of the time, at most, is spent on showing
AFTER_THE_END = 1.0  # seconds in which late ones may still come when the sender has said that it is over
LARGEST = 1024  # pixels along a side of what is shown
LEAST = 1e-9


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What there is at a moment, for those who show it; `version` counts them."""

    version: int
    overview: Overview | None
    count: Counted
    placed: int
    unusable: int
    rate: float
    latencies: Latencies
    notes: tuple[str, ...]
    phase: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `looked_at` are rows, columns and misfits, in times of noise, of some patterns."""
        known: dict[str, Any] = {
            'noise_ratio': None,
            'residual': None,
            'covered': None,
            'looked_at': [],
            'shape': [0, 0],
        }
        there = self.overview
        if there is not None:
            ratios = there.misfit.noise_ratio_per_pattern
            known = {
                'noise_ratio': there.misfit.noise_ratio,
                'residual': there.misfit.overall,
                'covered': float(there.covered.mean()),
                'looked_at': np.column_stack([there.centers, ratios]).round(2).tolist(),
                'shape': [*there.shape],
            }
        return {
            'version': self.version,
            'phase': self.phase,
            **self.count._asdict(),
            'placed': self.placed,
            'unusable': self.unusable,
            'rate': self.rate,
            'latency': self.latencies.to_json(),
            'notes': [*self.notes],
            **known,
        }


@dataclass(eq=False)
class Output:
    """What is shown now and then: `show` at least `seconds` apart, and at the cost of a twentieth of the time."""

    show: Callable[[Snapshot], None]
    seconds: float
    _next: float = 0.0

    def offer(self, make: Callable[[], Snapshot], *, now: bool = False) -> None:
        """Show what `make` returns if it is time, or at once."""
        begin = time.monotonic()
        if begin >= self._next or now:
            self.show(make())
            end = time.monotonic()
            self._next = end + max(self.seconds, (end - begin) / SHARE)


@dataclass(eq=False)
class Follower:
    """Lays what a source hands over on the canvas of a live scan of N = `n` pixels.

    Larger patterns are cropped about `center` [row, column], None: their middle. It is over `end_after` seconds after
    the last arrival, or a second after it where the sender has said so.
    """

    live: LiveScan
    source: Source
    n: int
    center: tuple[int, int] | None = None
    end_after: float = 30.0
    outputs: Sequence[Output] = ()
    latencies: Latencies = field(default_factory=Latencies)
    _versions: int = 0
    _begun: float = math.nan
    _phase: str = 'receiving'

    def run(self, should_stop: ShouldStop) -> None:
        """Follow the source to its end, or until asked to stop."""
        last, left = time.monotonic(), False
        while not should_stop():
            arrivals = self.source.poll(0.0 if left else WAIT)
            if arrivals:
                last = time.monotonic()
                self._begun = last if math.isnan(self._begun) else self._begun
                self._add(arrivals)
            left = bool(self.live.improve(0.0 if arrivals else SLICE))
            for output in self.outputs:
                output.offer(self.snapshot)
            quiet = time.monotonic() - last
            if not math.isnan(self._begun) and quiet > (AFTER_THE_END if self.source.over else self.end_after):
                return

    def finish(self, phase: str) -> None:
        """Show for the last time, under this title."""
        self._phase = phase
        for output in self.outputs:
            output.offer(self.snapshot, now=True)

    def snapshot(self) -> Snapshot:
        """What there is now."""
        live, elapsed = self.live, time.monotonic() - self._begun
        self._versions += 1
        return Snapshot(
            version=self._versions,
            overview=live.overview(LARGEST),
            count=live.count(),
            placed=live.placed,
            unusable=live.unusable,
            rate=0.0 if math.isnan(elapsed) else live.placed / max(elapsed, LEAST),
            latencies=self.latencies,
            notes=tuple(notice.text for notice in live.notices),
            phase=self._phase,
        )

    def _add(self, arrivals: list[Arrival]) -> None:
        complete, now = [], time.time()
        for one in arrivals:
            sent = now if one.sent is None else one.sent
            if one.patterns is not None:
                complete += self.latencies.note(one.index, True, sent)
            if one.positions is not None:
                complete += self.latencies.note(one.index, False, sent)
        # Positions first: what comes with them is laid on with its patterns.
        for one in join_arrivals(arrivals):
            patterns = None if one.patterns is None else crop_patterns(one.patterns, self.n, self.center)
            self.live.add(patterns, one.positions, one.index)
        self.latencies.arrive(complete)


def join_arrivals(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those alike as one batch, which a network is faster on; positions first."""
    groups: dict[tuple[Any, ...], list[Arrival]] = {}
    for one in sorted(arrivals, key=lambda one: one.patterns is not None):
        shape = None if one.patterns is None else (one.patterns.shape[1:], one.patterns.dtype)
        groups.setdefault((shape, one.positions is None), []).append(one)
    return [_join(group) for group in groups.values()]


def _join(group: list[Arrival]) -> Arrival:
    index = np.concatenate([one.index for one in group])
    patterns = [one.patterns for one in group if one.patterns is not None]
    positions = [one.positions for one in group if one.positions is not None]
    return Arrival(
        index, np.concatenate(patterns) if patterns else None, np.concatenate(positions) if positions else None
    )


def crop_patterns(patterns: NDArray[Any], n: int, center: tuple[int, int] | None = None) -> NDArray[Any]:
    """The n x n pixels of patterns (k, H, W) about a center [row, column]; None: about their middle.

    Raises ScanError when they do not reach as far.
    """
    height, width = patterns.shape[1:]
    row, column = (height // 2, width // 2) if center is None else center
    top, left = row - n // 2, column - n // 2
    if top < 0 or left < 0 or top + n > height or left + n > width:
        raise ScanError(
            f'The patterns are {height} x {width} pixels and do not hold {n} x {n} about row {row}, column {column}; '
            'pass another center, or use a model for smaller patterns.'
        )
    return patterns[:, top : top + n, left : left + n]
