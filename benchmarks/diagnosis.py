"""Hits, misses and false alarms of `diagnose`: one known fault, or two, put into simulated scans of many kinds.

`python benchmarks/diagnosis.py --out FOLDER` writes cases.csv, a line for each scan, and table.md, a line for each kind
of fault; a second run goes on where the first ended. How much of a fault there is is drawn for each scan. A hit: the
first finding is of the kind (of two faults: both are among the findings).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import faults
import numpy as np
from quality_cases import REFERENCE
from quality_scans import make_scan

from ptychopinn_reconstructor.diagnosis.diagnose import diagnose
from ptychopinn_reconstructor.diagnosis.turns import TURNS
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_scan
from ptychopinn_reconstructor.scan import Scan

PATTERNS = 196
DATA = REFERENCE.parent
Random = np.random.Generator


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


Draw = Callable[[Scan, Random], Mapping[str, Any]]


def between(name: str, low: float, high: float) -> Draw:
    """A parameter of a fault from `low` to `high`."""
    return lambda scan, rng: {name: rng.uniform(low, high)}


def either_way(name: str, low: float, high: float, about: float = 0.0) -> Draw:
    """The same, more or less than `about` by so much."""
    return lambda scan, rng: {name: about + rng.choice([-1, 1]) * rng.uniform(low, high)}


def choose(name: str, *values: Any) -> Draw:
    """One of some values."""
    return lambda scan, rng: {name: values[rng.integers(len(values))]}


def draw_shift(scan: Scan, rng: Random) -> Mapping[str, Any]:
    """3 to 6 pixels along each axis."""
    return {'shift': tuple(rng.integers(3, 7, 2) * rng.choice([-1, 1], 2))}


def draw_background(scan: Scan, rng: Random) -> Mapping[str, Any]:
    """2 to 10 percent of all counts."""
    return {'counts': rng.uniform(0.02, 0.1) * scan.mean_counts / scan.n_pixels**2}


@dataclass(frozen=True)
class Kind:
    """A kind of fault, the code of findings that name it, and how much of it is drawn; `probe` of its scans."""

    fault: Callable[..., Scan]
    code: str
    draw: Draw = lambda scan, rng: {}
    probe: str | None = None

    def put_into(self, scan: Scan, rng: Random) -> Scan:
        """The scan with the fault."""
        return self.fault(scan, rng, **self.draw(scan, rng))


KINDS: Mapping[str, Kind] = {
    'detector turned': Kind(faults.detector_turned, 'orientation', choose('turn', *TURNS)),
    'positions turned': Kind(faults.positions_turned, 'orientation', choose('turn', TURNS[1], TURNS[0], TURNS[3])),
    'probe conjugated': Kind(faults.conjugate, 'orientation'),
    # micrometers, nanometers, detector pixels
    'positions in another unit': Kind(faults.scaled, 'position_unit', choose('factor', 0.02, 20.0, 10.0)),
    'positions stretched': Kind(faults.scaled, 'position_scale', either_way('factor', 0.04, 0.12, about=1.0)),
    'positions rotated': Kind(faults.rotated, 'position_scale', either_way('degrees', 3, 10)),
    'positions inaccurate': Kind(faults.positions_off, 'positions_inaccurate', between('pixels', 1.5, 2.5)),
    'positions lost': Kind(faults.positions_lost, 'position_outliers'),
    'stage stuck': Kind(faults.stage_stuck, 'positions_doubled'),
    'off center': Kind(faults.detector_off, 'center', draw_shift),
    'counts normalized': Kind(faults.normalized, 'count_unit', between('divisor', 50, 5000)),
    'background': Kind(faults.background, 'background', draw_background),
    'hot pixels': Kind(partial(faults.hot_pixels, count=10), 'bad_pixels'),
    'cosmic hits': Kind(faults.cosmic_hits, 'single_hits'),
    'gap': Kind(faults.cross, 'bad_pixels', choose('start', *range(24, 40))),
    'saturated': Kind(faults.saturated, 'saturated'),
    'blank frames': Kind(partial(faults.blank_frames, share=0.04), 'bad_frames'),
    'beam flickers': Kind(faults.flickering_rms, 'flicker', between('rms', 0.15, 0.3)),
    'beam drifts': Kind(faults.drifting, 'flicker', between('loss', 0.3, 0.6)),
    'probe defocused': Kind(faults.defocus_wrong, 'probe', either_way('defocus', 15, 30)),
    'probe a spot': Kind(faults.spot, 'probe'),
    'one mode of three': Kind(faults.one_mode_given, 'probe_modes', probe='three modes'),
    'patterns blurred': Kind(faults.blurred, 'blur', between('pixels', 0.6, 1)),
    'mask inverted': Kind(faults.mask_inverted, 'mask'),
    'probe too weak': Kind(faults.probe_weak, 'probe_power', between('factor', 3, 30)),
    'probe drifts': Kind(partial(faults.defocus_drifting, share=1.0), 'probe_drift', between('defocus', 20, 30)),
}  # fmt: skip
# Of two faults the second is put into the scan that the first has made; what none of the two hides or undoes.
PAIRED = ('detector turned', 'positions turned', 'positions stretched', 'background', 'hot pixels', 'off center',
          'blank frames', 'positions lost', 'counts normalized', 'probe defocused')  # fmt: skip
# Real and simulated files, with the probe that they are read with; None: their own.
FILES: tuple[tuple[str, str | None], ...] = (
    ('siemens_star_velociprobe', None),
    ('siemens_star_velociprobe', f'{REFERENCE}:probe'),
    ('simulated_A', None),
    ('simulated_B', None),
)


@dataclass(frozen=True)
class Case:
    """A scan to be diagnosed, by a name, and the kinds of its faults, none for a clean one."""

    name: str
    kinds: tuple[str, ...]
    seed: int
    make: Callable[[], Scan]

    @classmethod
    def of_design(cls, design: Design, kinds: tuple[str, ...], seed: int) -> Case:
        """A simulated scan with faults."""
        return cls(design.name, kinds, seed, partial(put_faults, design, kinds, seed))

    @classmethod
    def of_file(cls, name: str, probe: str | None) -> Case:
        """A file without faults that are known."""
        title = name if probe is None else f'{name}, reference probe'
        return cls(title, (), 0, lambda: read_scan(DATA / f'{name}.npz', probe=probe).scan)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others in the table."""
        return ' + '.join(self.kinds) or 'none', self.name, str(self.seed)


def put_faults(design: Design, kinds: tuple[str, ...], seed: int) -> Scan:
    """The scan of a design as its user has it."""
    rng = np.random.default_rng(seed)
    scan = design.make(next((KINDS[kind].probe for kind in kinds if KINDS[kind].probe), None))
    for kind in kinds:
        scan = KINDS[kind].put_into(scan, rng)
    return replace(scan, object=None, object_origin=(0.0, 0.0), on_object_grid=False, scan_index=None)


def judge(case: Case) -> dict[str, str]:
    """What the diagnosis of a case says, and whether that is right."""
    start = time.process_time()
    trials, spent = 0, 0.0
    try:
        found = diagnose(case.make())
        codes = [str(finding.code) for finding in found.findings]
        detail, trials, spent = found.findings[0].finding if codes else '', len(found.trials), found.cpu_seconds
    except ScanError as error:
        codes, detail = [f'error: {error}'], str(error)
    wanted = [KINDS[kind].code for kind in case.kinds]
    hit = set(wanted) <= set(codes) if len(wanted) > 1 else codes[:1] == wanted
    kind, name, seed = case.key
    return {
        'kind': kind,
        'scan': name,
        'seed': seed,
        'hit': str(int(hit)),
        'findings': ' '.join(codes),
        'first': detail,
        'trials': str(trials),
        'trial_seconds': f'{spent:.1f}',
        'cpu_seconds': f'{time.process_time() - start:.1f}',
    }


def list_cases(kinds: Iterable[str], scans: int, pairs: int, skip: int = 0) -> list[Case]:
    """Clean scans and files, each kind of fault in `scans` designs, and `pairs` of two."""
    cases = [Case.of_file(*file) for file in FILES] if 'none' in kinds else []
    cases += [Case.of_design(design, (), 0) for design in CLEAN] if 'none' in kinds else []
    single = [kind for kind in KINDS if kind in kinds]
    pairable = [two for two in itertools.permutations(PAIRED, 2) if KINDS[two[0]].code != KINDS[two[1]].code]
    drawn = np.random.default_rng(1).permutation(len(pairable))[:pairs]
    for n in range(skip, scans):  # all kinds of one design after another, so that a part of the table tells of all
        design = DESIGNS[n % 10]
        cases += [Case.of_design(design, (kind,), 100 * list(KINDS).index(kind) + n) for kind in single]
        cases += [Case.of_design(design, pairable[one], 5000 + int(one)) for one in drawn[n::scans]]
    return cases


def tabulate(rows: list[dict[str, str]]) -> str:
    """Hits and median CPU time by kind, a Markdown table; what was said instead."""
    lines = ['| fault | named first | CPU-s, median, most | said instead |', '|---|---|---|---|']
    kinds = dict.fromkeys('two faults' if '+' in row['kind'] else row['kind'] for row in rows)
    for kind in kinds:
        of_kind = [row for row in rows if row['kind'] == kind or (kind == 'two faults' and '+' in row['kind'])]
        missed = [row['findings'] or 'nothing' for row in of_kind if row['hit'] == '0']
        seconds = [float(row['cpu_seconds']) for row in of_kind]
        hits, spent = f'{len(of_kind) - len(missed)} of {len(of_kind)}', f'{np.median(seconds):.1f}, {max(seconds):.1f}'
        lines.append(f'| {kind} | {hits} | {spent} | {"; ".join(missed)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Run the cases that are not in the table yet, writing as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--kinds', nargs='*', default=['none', *KINDS])
    parser.add_argument('--scans', type=int, default=10)
    parser.add_argument('--skip', type=int, default=0, help='designs left out of each kind')
    parser.add_argument('--pairs', type=int, default=20)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / 'cases.csv'
    rows = list(csv.DictReader(table.read_text(encoding='utf-8').splitlines())) if table.exists() else []
    known = {(row['kind'], row['scan'], row['seed']) for row in rows}
    for case in list_cases(options.kinds, options.scans, options.pairs, options.skip):
        if case.key in known:
            continue
        rows.append(judge(case))
        with table.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (options.out / 'table.md').write_text(tabulate(rows), encoding='utf-8')


if __name__ == '__main__':
    main()
