"""The best that the engine can do on a scan, chosen by the truth: an upper bound for whatever is compared with it.

Runs five schedules, two of them without momentum, up to a number of passes, scores the object on the way and prints
JSON: a list of points with `schedule`, `passes`, `cpu_seconds` (of the engine alone, reading and scoring left out) and
the figures. A schedule ends early where every figure had its best long ago: more passes then only fit the noise. A run
ends with the wavefront step, as a reconstruction does. `--textbook` leaves out that step, at the end
and within the run, as other engines of this kind do. `--prior` adds the smoothness prior.

    python benchmarks/engine_best.py SCAN TRUTH [--probe FILE:KEY] [--passes 300] [--margin 4] [--pistons]
        [--textbook | --prior]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import InputError
from ptychopinn_reconstructor.io import ObjectFile, read_object, read_scan
from ptychopinn_reconstructor.physics.engine.options import MOMENTUM, RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.update import ObjectStep
from ptychopinn_reconstructor.physics.engine.wavefront import correct_long_range_phase
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.scoring.metrics import compare

SCORED = ('phase_psnr', 'amplitude_psnr', 'frc_area', 'amplitude_ratio')
MOMENTA = (0.0, MOMENTUM[1])  # of the falling schedule
HELD = ((16, 0.0), (16, 0.5), (4, 0.8))  # batches and momentum of the others
GROWTH = 1.06  # from one number of passes that is scored to the next, above the first twenty
WHOLE_RUNS = 1.5  # the same for the falling schedule, of which each number of passes is a run of its own
JUDGED = SCORED[:3]  # the figures of which the best is looked for
PATIENCE = 2, 30  # times the passes that the last best figure took, and so many more, before a schedule ends early


@dataclass(frozen=True)
class Options(RefineOptions):
    """RefineOptions that can hold the number of batches, so that one long run contains all shorter ones."""

    held: bool = False

    def schedule(self, n_patterns: int) -> list[int]:
        """Number of batches of each pass."""
        if not self.held:
            return super().schedule(n_patterns)
        return [self.batches(n_patterns)] * self.passes

    def step(self, number: int) -> ObjectStep:
        """How a pass moves the object: a run that is scored on the way must not know where it ends."""
        return ObjectStep(self.momentum) if self.held else super().step(number)


def scored_passes(most: int, growth: float, first: int) -> list[int]:
    """Every number of passes up to `first`, then in steps of `growth`, `most` being the last."""
    numbers = [*range(1, min(first, most) + 1)]
    while numbers[-1] < most:
        numbers.append(min(most, max(numbers[-1] + 1, round(numbers[-1] * growth))))
    return numbers


@dataclass(eq=False)
class Scores:
    """The points of all schedules."""

    prepared: PreparedScan
    truth: ObjectFile
    margin: int
    pistons: bool
    textbook: bool = False
    prior: float = 0.0
    points: list[dict[str, Any]] = field(default_factory=list)

    def options(self) -> dict[str, Any]:
        """What all schedules have in common."""
        return {'wavefront': not self.textbook, 'prior': self.prior}

    def add(self, schedule: str, passes: int, seconds: float, canvas: NDArray[np.complex64]) -> None:
        """Score a canvas; one that cannot be registered has no figures and is left out."""
        origin, scan = self.prepared.layout.origin, self.prepared.scan
        if not self.textbook:
            begin = time.process_time()
            canvas = correct_long_range_phase(self.prepared, canvas)
            seconds += time.process_time() - begin
        try:
            found = compare(
                canvas, origin, self.truth.object, self.truth.origin, scan.positions,
                margin=self.margin, pistons=self.pistons,
            ).to_dict()  # fmt: skip
        except InputError:
            return
        figures = {key: found[key] for key in SCORED}
        self.points.append({'schedule': schedule, 'passes': passes, 'cpu_seconds': round(seconds, 3), **figures})

    def declined(self, schedule: str) -> bool:
        """Whether a schedule has passed its best."""
        return declined([point for point in self.points if point['schedule'] == schedule])


def falling(scores: Scores, most: int, momentum: float) -> None:
    """16 batches that fall to one; each number of passes is a run of its own."""
    schedule = f'falling, momentum {momentum:g}'
    for passes in scored_passes(most, WHOLE_RUNS, 3):
        begin = time.process_time()
        options = Options(passes, first_batches=16, momentum=momentum, **scores.options())
        found = refine(scores.prepared, flat(scores.prepared), options)
        scores.add(schedule, passes, time.process_time() - begin, found.canvas)
        if scores.declined(schedule):
            break


def held(scores: Scores, most: int, batches: int, momentum: float) -> None:
    """One run with as many batches in every pass, scored on the way."""
    wanted, scoring, schedule = set(scored_passes(most, GROWTH, 20)), 0.0, f'{batches} batches, momentum {momentum:g}'
    begin = time.process_time()

    def after_pass(number: int, canvas: NDArray[np.complex64]) -> None:
        nonlocal scoring
        if number in wanted:
            at = time.process_time()
            scores.add(schedule, number, at - begin - scoring, canvas)
            scoring += time.process_time() - at

    options = Options(most, first_batches=batches, momentum=momentum, held=True, **scores.options())
    refine(
        scores.prepared,
        flat(scores.prepared),
        options,
        should_stop=lambda: scores.declined(schedule),
        after_pass=after_pass,
    )


def flat(prepared: PreparedScan) -> NDArray[np.complex64]:
    """An empty object."""
    return np.ones(prepared.layout.shape, dtype=np.complex64)


def declined(points: list[dict[str, Any]]) -> bool:
    """Whether a run, at its last point now, had its best figures so long ago that more passes cannot help."""
    times, more = PATIENCE
    return bool(points) and points[-1]['passes'] > times * max(best(points, key)['passes'] for key in JUDGED) + more


def best(points: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """The point with the largest figure."""
    return max(points, key=lambda point: float(point[key]))


def front(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other equals in every figure in less CPU time: all that a comparison of times needs."""

    def beaten(point: dict[str, Any]) -> bool:
        others = (other for other in points if other['cpu_seconds'] < point['cpu_seconds'])
        return any(all(other[key] >= point[key] for key in JUDGED) for other in others)

    return [point for point in points if not beaten(point)]


def main() -> None:
    """Print the points as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scan', type=Path)
    parser.add_argument('truth', type=Path)
    parser.add_argument('--probe')
    parser.add_argument('--passes', type=int, default=300)
    parser.add_argument('--margin', type=int, default=4)
    parser.add_argument('--pistons', action='store_true')
    parser.add_argument('--textbook', action='store_true')
    parser.add_argument('--prior', action='store_true')
    options = parser.parse_args()
    scan = read_scan(options.scan, probe=options.probe).scan
    begin = time.process_time()
    prepared = prepare_scan(scan, probe=scan.probe if options.probe else None)
    preparing = time.process_time() - begin
    scores = Scores(
        prepared, read_object(options.truth), options.margin, options.pistons, options.textbook, float(options.prior)
    )
    for momentum in MOMENTA:
        falling(scores, options.passes, momentum)
    for batches, momentum in HELD:
        held(scores, options.passes, batches, momentum)
    for point in scores.points:
        point['cpu_seconds'] += preparing
    json.dump(scores.points, sys.stdout)


if __name__ == '__main__':
    main()
