"""Cases of `make quality` over many objects, probes, overlaps and doses: `ptychopinn refine` as it comes.

Its settings follow from overlap, dose and texture; here is seen whether they suit what they were not made on, and that
more data never make an object worse.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from quality_cases import BUDGET, Case, Figures, engine, run
from quality_reach import FIGURES
from quality_scans import KINDS, PHOTONS, PROBES, every, make_scan, write_scan

from ptychopinn_reconstructor.io import write_npz

OVERLAP = 65.0  # percent, where objects are compared
OVERLAPS = (0.0, 30.0, 50.0, 80.0, 95.0)
SWEPT = ('camera', 'grass')  # the objects that are seen at every overlap and dose
DOSES = (1e3, 1e4)  # photons per pattern
SHARES, PASSES = (10, 3, 1), 20  # every so manieth pattern of a dense scan


def refined(scan: Path, out: Path, *options: Any) -> Figures:
    """`ptychopinn refine`, compared with the truth in the scan's file."""
    from quality_cases import figures

    return figures(run('refine', scan, '--truth', scan, '--output-dir', out, *options))


def without_overlap(scan: Path, out: Path) -> Figures:
    """The same where the spots are apart: each has a phase of its own, which is taken out."""
    row = refined(scan, out)
    (found,) = run('evaluate', out / 'product.h5', scan, '--pistons')['results']
    return row | {key: found[key] for key in FIGURES}


def over_objects(probe: str, work: Path) -> Figures:
    """Every kind of object at one overlap."""
    return {
        f'{kind}, {OVERLAP:g} % overlap': refined(
            write_scan(work / f'{kind}.npz', kind, probe, overlap=OVERLAP), work / kind
        )
        for kind in KINDS
    }


def over_overlaps(probe: str, work: Path) -> Figures:
    """From spots that are apart to spots that nearly coincide."""
    rows: Figures = {}
    for kind in SWEPT:
        for overlap in OVERLAPS:
            scan = write_scan(work / f'{kind}_{overlap:g}.npz', kind, probe, overlap=overlap)
            score = refined if overlap > 0 else without_overlap
            rows[f'{kind}, {overlap:g} % overlap'] = score(scan, work / scan.stem)
    return rows


def over_doses(probe: str, work: Path) -> Figures:
    """Where counting noise decides."""
    rows: Figures = {}
    for kind in SWEPT:
        for photons in DOSES:
            scan = write_scan(work / f'{kind}_{photons:g}.npz', kind, probe, overlap=OVERLAP, photons=photons)
            rows[f'{kind}, {photons:.0e} photons'] = refined(scan, work / scan.stem)
    return rows


def more_data(probe: str, work: Path) -> Figures:
    """A dense scan, and a tenth and a third of its patterns: with as many passes, and with those it takes by itself."""
    rows: Figures = {}
    work.mkdir(parents=True, exist_ok=True)
    whole = make_scan('camera', probe, overlap=95.0, photons=PHOTONS)
    for share in SHARES:
        scan = work / f'every_{share}.npz'
        write_npz(scan, every(whole, share))
        rows[f'1 pattern of {share}, {PASSES} passes'] = engine(work, scan, scan, BUDGET.passes(PASSES))
        rows[f'1 pattern of {share}'] = refined(scan, work / scan.stem)
    return rows


def cases() -> dict[str, Case]:
    """All of them by name."""
    kinds = {'objects': over_objects, 'overlaps': over_overlaps, 'doses': over_doses}
    found: dict[str, Case] = {
        f'varied {what}, {probe}': partial(of, probe) for what, of in kinds.items() for probe in PROBES
    }
    return found | {f'more data, {probe}': partial(more_data, probe) for probe in ('measured', 'window')}
