"""Hits, misses and false alarms of `diagnose`: one known fault, or two, put into simulated scans of many kinds.

`python benchmarks/diagnosis.py --out FOLDER` writes cases.csv, a line for each scan, and table.md, a line for each kind
of fault. What a detector would have seen is drawn anew from the fault's own expected counts, so that noise is that of
counting. A hit: the first finding is of the kind (of two faults: both are among the findings).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_scans import PROBES, make_scan
from scipy import fft, ndimage

from ptychopinn_reconstructor.diagnosis.diagnose import diagnose
from ptychopinn_reconstructor.diagnosis.turns import TURNS, turn_positions
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.physics.probes import energy_diameter
from ptychopinn_reconstructor.physics.simulation.simulate import expected_counts
from ptychopinn_reconstructor.scan import Scan

PATTERNS = 196
Random = np.random.Generator
Fault = Callable[[Scan, Random], Scan]


@dataclass(frozen=True)
class Design:
    """A scan without faults: object, probe, overlap in percent, photons a pattern."""

    object: str
    probe: str
    overlap: float
    photons: float

    @property
    def name(self) -> str:
        return f'{self.object}, {self.probe}, {self.overlap:g} %, {self.photons:.0e}'

    def make(self, probe: str | None = None) -> Scan:
        """The scan, with its truth; of another probe where one is named."""
        return make_scan(
            self.object, probe or self.probe, overlap=self.overlap, photons=self.photons, patterns=PATTERNS
        )


DESIGNS = (
    Design('page', 'ring', 60, 1e5),
    Design('coins', 'measured', 75, 1e5),
    Design('star', 'ring', 70, 1e6),
    Design('grass', 'measured', 70, 1e5),
    Design('camera', 'window', 70, 1e5),
    Design('mixed', 'ring', 65, 3e4),
    Design('cell', 'measured', 80, 1e5),
    Design('brick', 'ring', 60, 1e5),
    Design('mixed', 'window', 75, 1e6),
    Design('coins', 'ring', 65, 1e4),
)
CLEAN = tuple(
    Design(object, probe, overlap, photons)
    for (object, probe), (overlap, photons) in zip(
        itertools.product(('page', 'coins', 'star', 'grass', 'mixed'), ('ring', 'measured', 'window', 'three modes')),
        itertools.cycle(((60, 1e5), (75, 1e6), (65, 1e4), (80, 1e5), (50, 1e5), (70, 3e3), (60, 1e6))),
        strict=False,
    )
)


def ideal(scan: Scan) -> NDArray[np.float64]:
    """Expected counts (n, N, N) of a simulated scan."""
    assert scan.object is not None and scan.probe is not None
    return np.concatenate(list(expected_counts(scan.object, scan.probe, scan.positions + scan.object_origin)))


def count(scan: Scan, expected: NDArray[np.float64], rng: Random) -> Scan:
    """The scan with patterns drawn from expected counts."""
    return replace(scan, diffraction=rng.poisson(expected).astype(np.uint32))


def counts_of(scan: Scan) -> NDArray[np.int64]:
    """Its patterns, to be changed."""
    return np.asarray(scan.diffraction).astype(np.int64)


def with_counts(scan: Scan, counts: NDArray[np.int64]) -> Scan:
    """The scan with other patterns."""
    return replace(scan, diffraction=counts.astype(np.uint32))


def turned_detector(scan: Scan, rng: Random) -> Scan:
    """One of seven ways, by reversing indices as a reader would."""
    turn = TURNS[rng.integers(len(TURNS))]
    return replace(scan, diffraction=np.ascontiguousarray(turn.images(np.asarray(scan.diffraction))))


def turned_positions(scan: Scan, rng: Random) -> Scan:
    """x and y swapped, or one of them reversed."""
    return turn_positions(scan, TURNS[rng.choice([1, 0, 3])])


def conjugate_probe(scan: Scan, rng: Random) -> Scan:
    """The sign convention of another program."""
    assert scan.probe is not None
    return scan.with_probe(scan.probe.conj())


def wrong_unit(scan: Scan, rng: Random) -> Scan:
    """Positions in micrometers, nanometers or detector pixels."""
    return moved(scan, scan.positions * rng.choice([0.02, 20.0, 10.0]))


def stretched(scan: Scan, rng: Random) -> Scan:
    """By 4 to 12 percent."""
    return moved(scan, scan.positions * (1 + rng.choice([-1, 1]) * rng.uniform(0.04, 0.12)))


def rotated(scan: Scan, rng: Random) -> Scan:
    """By 3 to 10 degrees."""
    angle = np.deg2rad(rng.choice([-1, 1]) * rng.uniform(3, 10))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return moved(scan, scan.positions @ matrix.T)


def inaccurate(scan: Scan, rng: Random) -> Scan:
    """By 1.5 to 2.5 pixels along each axis."""
    return moved(scan, scan.positions + rng.normal(0, rng.uniform(1.5, 2.5), scan.positions.shape))


def moved(scan: Scan, positions: NDArray[np.float64]) -> Scan:
    """The scan at other positions."""
    return replace(scan, positions=positions, on_object_grid=False)


def lost_position(scan: Scan, rng: Random) -> Scan:
    """Two far from all others."""
    positions = scan.positions.copy()
    positions[rng.choice(len(positions), 2, replace=False)] += [3000.0, -2500.0]
    return moved(scan, positions)


def stuck_stage(scan: Scan, rng: Random) -> Scan:
    """A tenth of the scan at one place."""
    positions, start = scan.positions.copy(), rng.integers(20, 150)
    positions[start : start + 20] = positions[start]
    return moved(scan, positions)


def off_center(scan: Scan, rng: Random) -> Scan:
    """By 3 to 6 pixels."""
    shift = rng.integers(3, 7, 2) * rng.choice([-1, 1], 2)
    return replace(scan, diffraction=np.roll(np.asarray(scan.diffraction), shift, axis=(1, 2)))


def normalized(scan: Scan, rng: Random) -> Scan:
    """Divided by a constant."""
    return replace(scan, diffraction=(counts_of(scan) / rng.uniform(50, 5000)).astype(np.float32))


def background(scan: Scan, rng: Random) -> Scan:
    """Stray light of 2 to 10 percent of all counts."""
    level = rng.uniform(0.02, 0.1) * scan.mean_counts / scan.n_pixels**2
    return with_counts(scan, counts_of(scan) + rng.poisson(level, scan.diffraction.shape))


def hot(scan: Scan, rng: Random) -> Scan:
    """Ten pixels."""
    counts, rows = counts_of(scan), rng.integers(0, scan.n_pixels, (2, 10))
    counts[:, rows[0], rows[1]] += rng.poisson(rng.uniform(1000, 5000, 10), (len(counts), 10))
    return with_counts(scan, counts)


def gap(scan: Scan, rng: Random) -> Scan:
    """Three rows and three columns between modules."""
    counts, at = counts_of(scan), int(rng.integers(24, 40))
    counts[:, at : at + 3, :] = counts[:, :, at : at + 3] = 0
    return with_counts(scan, counts)


def saturated(scan: Scan, rng: Random) -> Scan:
    """Cut at what half of the patterns exceed."""
    counts = counts_of(scan)
    return with_counts(scan, np.minimum(counts, int(np.median(counts.max(axis=(1, 2))))))


def blank(scan: Scan, rng: Random) -> Scan:
    """Eight frames without light."""
    counts = counts_of(scan)
    counts[rng.choice(len(counts), 8, replace=False)] = 0
    return with_counts(scan, counts)


def flickering(scan: Scan, rng: Random) -> Scan:
    """By 15 to 30 percent from pattern to pattern."""
    return count(scan, ideal(scan) * np.exp(rng.normal(0, rng.uniform(0.15, 0.3), len(scan)))[:, None, None], rng)


def drifting(scan: Scan, rng: Random) -> Scan:
    """The beam loses 30 to 60 percent over the scan."""
    return count(scan, ideal(scan) * np.linspace(1, rng.uniform(0.4, 0.7), len(scan))[:, None, None], rng)


def defocused(scan: Scan, rng: Random) -> Scan:
    """The probe given is propagated too far."""
    assert scan.probe is not None
    return scan.with_probe(propagated(scan.probe, rng.choice([-1, 1]) * rng.uniform(15, 30)))


def propagated(probe: NDArray[np.complex64], distance: float) -> NDArray[np.complex64]:
    """A probe (modes, N, N) in another plane; pi rad at a spatial frequency of one cycle per pixel is 1."""
    side = probe.shape[-1]
    k2 = np.add.outer(*[fft.fftfreq(side) ** 2] * 2)
    return np.asarray(fft.ifft2(fft.fft2(probe) * np.exp(1j * np.pi * distance * k2)), dtype=np.complex64)


def spot(scan: Scan, rng: Random) -> Scan:
    """A Gaussian spot of the probe's size."""
    assert scan.probe is not None
    x = np.arange(scan.n_pixels) - scan.n_pixels / 2
    width = energy_diameter(scan.probe) / 3
    shape = np.exp(-np.add.outer(x**2, x**2) / width**2)[None]
    return scan.with_probe(shape * np.linalg.norm(scan.probe) / np.linalg.norm(shape))


def one_mode(scan: Scan, rng: Random) -> Scan:
    """The first mode alone of a probe with three."""
    assert scan.probe is not None
    return scan.with_probe(scan.probe[:1])


def blurred(scan: Scan, rng: Random) -> Scan:
    """By .6 to 1 pixel of the detector."""
    return count(scan, ndimage.gaussian_filter(ideal(scan), (0, *[rng.uniform(0.6, 1.0)] * 2)), rng)


def inverted_mask(scan: Scan, rng: Random) -> Scan:
    """True where a pixel is good."""
    bad = np.ones((scan.n_pixels,) * 2, bool)
    bad[rng.integers(0, 64, 30), rng.integers(0, 64, 30)] = False
    return replace(scan, bad_pixels=bad)


def weak_probe(scan: Scan, rng: Random) -> Scan:
    """Too weak by a factor of 3 to 30."""
    assert scan.probe is not None
    return scan.with_probe(scan.probe / np.sqrt(rng.uniform(3, 30)))


def probe_drift(scan: Scan, rng: Random) -> Scan:
    """The probe's defocus changes over the scan."""
    assert scan.probe is not None and scan.object is not None
    parts, far = [], rng.uniform(20, 30)
    for index in np.array_split(np.arange(len(scan)), 14):
        probe = propagated(scan.probe, far * (index.mean() / len(scan) - 0.5))
        parts += list(expected_counts(scan.object, probe, scan.positions[index] + scan.object_origin))
    return count(scan, np.concatenate(parts), rng)


@dataclass(frozen=True)
class Kind:
    """A kind of fault, and the codes of findings that name it; `probe` that the scan is made with."""

    fault: Fault
    codes: tuple[str, ...]
    probe: str | None = None


KINDS: Mapping[str, Kind] = {
    'detector turned': Kind(turned_detector, ('orientation',)),
    'positions turned': Kind(turned_positions, ('orientation',)),
    'probe conjugated': Kind(conjugate_probe, ('orientation',)),
    'positions in another unit': Kind(wrong_unit, ('position_unit',)),
    'positions stretched': Kind(stretched, ('position_scale',)),
    'positions rotated': Kind(rotated, ('position_scale',)),
    'positions inaccurate': Kind(inaccurate, ('positions_inaccurate',)),
    'positions lost': Kind(lost_position, ('position_outliers',)),
    'stage stuck': Kind(stuck_stage, ('positions_doubled',)),
    'off center': Kind(off_center, ('center',)),
    'counts normalized': Kind(normalized, ('count_unit',)),
    'background': Kind(background, ('background',)),
    'hot pixels': Kind(hot, ('bad_pixels',)),
    'gap': Kind(gap, ('bad_pixels',)),
    'saturated': Kind(saturated, ('saturated',)),
    'blank frames': Kind(blank, ('bad_frames',)),
    'beam flickers': Kind(flickering, ('flicker',)),
    'beam drifts': Kind(drifting, ('flicker',)),
    'probe defocused': Kind(defocused, ('probe',)),
    'probe a spot': Kind(spot, ('probe',)),
    'one mode of three': Kind(one_mode, ('probe_modes',), 'three modes'),
    'patterns blurred': Kind(blurred, ('blur', 'probe_modes')),
    'mask inverted': Kind(inverted_mask, ('mask',)),
    'probe too weak': Kind(weak_probe, ('probe_power',)),
    'probe drifts': Kind(probe_drift, ('probe_drift',)),
}
# Pairs are drawn from those that can be put into one scan after another.
PAIRED = ('detector turned', 'positions turned', 'positions stretched', 'background', 'hot pixels', 'off center',
          'blank frames', 'positions lost', 'counts normalized', 'probe defocused')  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A scan to be diagnosed: its design and the kinds of its faults, none for a clean one."""

    design: Design
    kinds: tuple[str, ...]
    seed: int

    def make(self) -> Scan:
        """The scan as its user has it."""
        rng = np.random.default_rng(self.seed)
        scan = self.design.make(next((KINDS[kind].probe for kind in self.kinds if KINDS[kind].probe), None))
        for kind in self.kinds:
            scan = KINDS[kind].fault(scan, rng)
        return replace(scan, object=None, object_origin=(0.0, 0.0), on_object_grid=False, scan_index=None)


def judge(case: Case) -> dict[str, object]:
    """What the diagnosis of a case says, and whether that is right."""
    start = time.process_time()
    try:
        found = diagnose(case.make())
        codes = [str(finding.code) for finding in found.findings]
        detail = found.findings[0].finding if codes else ''
    except ScanError as error:
        codes, detail = [f'error: {error}'], str(error)
    wanted = [KINDS[kind].codes for kind in case.kinds]
    if not wanted:
        hit = not codes
    elif len(wanted) == 1:
        hit = bool(codes) and codes[0] in wanted[0]
    else:
        hit = all(any(code in codes for code in one) for one in wanted)
    return {
        'kind': ' + '.join(case.kinds) or 'none',
        'design': case.design.name,
        'seed': case.seed,
        'hit': int(hit),
        'findings': ' '.join(codes),
        'first': detail,
        'cpu_seconds': round(time.process_time() - start, 1),
    }


def list_cases(kinds: Iterable[str], scans: int, pairs: int, skip: int = 0) -> list[Case]:
    """Clean scans, each kind of fault in `scans` designs, and `pairs` of two."""
    cases = [Case(design, (), 0) for design in CLEAN] if 'none' in kinds else []
    single = [kind for kind in KINDS if kind in kinds]
    cases += [
        Case(DESIGNS[n % 10], (kind,), 100 * list(KINDS).index(kind) + n) for n in range(skip, scans) for kind in single
    ]
    rng = np.random.default_rng(1)
    drawn = [tuple(str(kind) for kind in rng.choice(PAIRED, 2, replace=False)) for _ in range(pairs)]
    return cases + [Case(DESIGNS[n % 10], pair, 5000 + n) for n, pair in enumerate(drawn)]


def tabulate(rows: list[dict[str, object]]) -> str:
    """Hits by kind, a Markdown table; what was said instead."""
    lines = ['| fault | named first | said instead |', '|---|---|---|']
    kinds = dict.fromkeys('two faults' if '+' in str(row['kind']) else str(row['kind']) for row in rows)
    for kind in kinds:
        of_kind = [row for row in rows if row['kind'] == kind or (kind == 'two faults' and '+' in str(row['kind']))]
        missed = [str(row['findings']) or 'nothing' for row in of_kind if not row['hit']]
        lines.append(f'| {kind} | {len(of_kind) - len(missed)} of {len(of_kind)} | {"; ".join(missed)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Run the cases, writing as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--kinds', nargs='*', default=['none', *KINDS])
    parser.add_argument('--scans', type=int, default=10)
    parser.add_argument('--skip', type=int, default=0, help='designs left out of each kind')
    parser.add_argument('--pairs', type=int, default=20)
    options = parser.parse_args()
    assert set(PROBES) >= {design.probe for design in DESIGNS}
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for case in list_cases(options.kinds, options.scans, options.pairs, options.skip):
        rows.append(judge(case))
        with (options.out / 'cases.csv').open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (options.out / 'table.md').write_text(tabulate(rows), encoding='utf-8')


if __name__ == '__main__':
    main()
