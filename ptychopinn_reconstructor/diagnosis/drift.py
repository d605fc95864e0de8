"""Whether the defocus of the probe changes along the scan: what its first third says of it, and what its last.

The object is reconstructed from patterns of each under the probe as it is, and propagated by one step either way. The
misfit falls towards the right defocus, whatever else is wrong, so that a difference between the two ends is told from
a probe that is wrong everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..physics.inspection.places import nearest_to_middle
from ..physics.sampling import scan_step
from ..scan import Scan
from .defocus import STEP, defocus_step, propagate_probe
from .finding import Finding
from .trials import Freedom, Laboratory, take_part

PATTERNS, FEWEST = 36, 25  # of a third
SPARSE = 1.5  # times the step of the scan: the third of a scan in random order holds no patch of object
# Of the misfits' difference between either way: per count, and in standard errors of counting noise.
LEAST, STANDARD_ERRORS = 0.0015, 6.0
NOISE = 0.35  # standard deviation of (sqrt I - sqrt I_pred)^2 of a lit pixel
APART = (
    0.12  # steps between the best defocus of both ends: .08 at most on clean scans, .23 at least with a drift of .5 rad
)
SHARE = 0.5  # of the misfits under the probe as it is: 0.9 at least with a drift; less of what something else causes
OPPOSITE = 0.6  # of the sum of both differences: less where the probe is wrong everywhere


@dataclass(frozen=True)
class End:
    """What one end of a scan says: its misfit under the probe propagated backwards, as it is, and forwards."""

    misfits: tuple[float, float, float]
    error: float

    @property
    def slope(self) -> float:
        """How much less the misfit is forwards than backwards."""
        return self.misfits[0] - self.misfits[2]

    @property
    def best(self) -> float:
        """The defocus that fits best, in steps, at most one either way."""
        bend = self.misfits[0] + self.misfits[2] - 2 * self.misfits[1]
        return (
            float(np.clip(self.slope / 2 / bend, -1, 1)) if bend > abs(self.slope) / 2 else float(np.sign(self.slope))
        )


def find_drift(scan: Scan, held: Freedom, laboratory: Laboratory) -> Finding | None:
    """A finding where the defocus of the probe at the end of a scan is not that of its beginning."""
    ends = choose_ends(scan)
    if ends is None or scan.probe is None:
        return None
    step = defocus_step(scan.probe)
    first, last = (_judge_end(take_part(scan, index), step, held, laboratory) for index in ends)
    if not differ(first, last):
        return None
    change = abs(last.best - first.best) * STEP
    return Finding(
        'probe_drift',
        f'The defocus of the probe changes along the scan: from the middle of its first third to that of its last by '
        f'about {change:.2g} rad rms of phase in its pupil.',
        'likely',
        'Refine it, and it may vary along the scan where the patterns ask for that: --refine-probe.',
        figures={'first': first.best * STEP, 'last': last.best * STEP},
    )


def choose_ends(scan: Scan) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Indexes of patterns that lie together, from the first and from the last third; None where there are none."""
    parts = np.array_split(np.arange(len(scan), dtype=np.int64), 3)
    first, last = (part[nearest_to_middle(scan.positions[part], PATTERNS)] for part in (parts[0], parts[-1]))
    whole = scan_step(scan.positions)
    sparse = any(scan_step(scan.positions[part]) > SPARSE * whole for part in (first, last))
    return None if min(len(first), len(last)) < FEWEST or sparse else (first, last)


def differ(first: End, last: End) -> bool:
    """Whether two ends of a scan ask for another defocus each."""
    difference = abs(first.slope - last.slope)
    clear = difference > max(LEAST, STANDARD_ERRORS * float(np.hypot(first.error, last.error)))
    telling = difference > SHARE * (first.misfits[1] + last.misfits[1])
    opposite = difference > OPPOSITE * (abs(first.slope) + abs(last.slope))
    return clear and telling and opposite and abs(first.best - last.best) > APART


def _judge_end(part: Scan, step: float, held: Freedom, laboratory: Laboratory) -> End:
    assert part.probe is not None
    probes = [propagate_probe(part.probe, distance) for distance in (-step, 0.0, step)]
    trials = [laboratory.compare(part.with_probe(probe), 'another defocus', held) for probe in probes]
    misfit = trials[1].misfit
    lit = float((trials[1].predicted > 1).sum())
    backwards, middle, forwards = (trial.excess for trial in trials)
    return End((backwards, middle, forwards), NOISE * np.sqrt(lit) / max(float(misfit.counts.sum()), 1.0))
