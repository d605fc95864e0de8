"""`diagnose`: looks at a scan, makes trial reconstructions where they help, and names what is wrong, causes first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import chain

import numpy as np

from ..errors import ScanError
from ..events import Emit, Notice, ShouldStop, ignore, never
from ..model_file.opening import Model
from ..physics.inspection.inspect import mend_scan
from ..physics.inspection.stored import fields_of_frames
from ..physics.probes import energy_diameter
from ..physics.sampling import scan_overlap, scan_step
from ..physics.scaling import ABSOLUTE_RANGE, probe_power
from ..scan import Scan
from .finding import Diagnosis, Finding, TrialImages
from .looks import MENDED, doubled_positions, explain_notices, look, look_at_refusal, look_at_window, saturated_pixels
from .model_probe import look_at_model
from .search import find_causes
from .trials import BUDGET, Laboratory
from .unit import find_unit, guess_unit

# Findings that no cause explains: they stand after those that one may.
REMARKS = ('single_hits', 'dose', 'overlap', 'probe_power', 'unexplained')


def diagnose(
    scan: Scan,
    *,
    notices: Iterable[Notice] = (),
    model: Model | None = None,
    seconds: float = BUDGET,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Diagnosis:
    """What is wrong with a scan, the first cause first, and the scan mended as far as that is possible.

    `notices` are those of its reading, which has mended part of it; with a `model` the probe is compared. Trial
    reconstructions cost at most about `seconds` of CPU time; none are made where the scan has no probe, or with 0.

    Raises ScanError for a scan of the near field.
    """
    if scan.fresnel_number is not None:
        raise ScanError(
            'The scan is of the near field, which a diagnosis does not know: it looks at far fields; `refine` says in '
            'its verdict how well the scan is explained.'
        )
    laboratory = Laboratory(seconds, emit, should_stop)
    unit: Finding | None = None
    try:
        mended, seen = _mend(scan)
    except ScanError as error:
        unit, scaled = look_at_refusal(scan, str(error)), _scale_to_pixels(scan, laboratory)
        if scaled is None:
            return Diagnosis((unit,), (), scan, _measure(scan), tuple(notices), laboratory.spent)
        mended, seen = _mend(scaled)
    said = tuple(chain(notices, seen))
    findings = [*explain_notices(said), *look(mended)]
    mended = _mend_looks(mended, findings)
    images: tuple[TrialImages, ...] = ()
    if mended.probe is None:
        findings.append(_no_probe())
    elif seconds > 0:
        causes, mended, trials = find_causes(mended, laboratory)
        if not list(look_at_window(mended)):  # a probe out of its plane fills its window
            findings = [finding for finding in findings if finding.code != 'probe_window']
        findings = _order_by_cause(findings, causes)
        images = tuple(trial.images for trial in trials)
    if unit is not None:
        left = [finding for finding in findings if finding.code != 'position_scale']
        findings = [_tell_unit(unit, scan, mended), *left]
    if model is not None:
        findings += look_at_model(mended, model)
    rest = tuple(notice for notice in said if notice.code not in MENDED)
    ordered = sorted(findings, key=lambda one: one.code in REMARKS)  # stable: otherwise the order of the causes stays
    return Diagnosis(tuple(ordered), tuple(laboratory.made), mended, _measure(mended), rest, laboratory.spent, images)


def _mend(scan: Scan) -> tuple[Scan, tuple[Notice, ...]]:
    return mend_scan(**{entry.name: getattr(scan, entry.name) for entry in fields(scan)})


def _scale_to_pixels(scan: Scan, laboratory: Laboratory) -> Scan | None:
    """The scan with its positions in object pixels, where these are in another unit and trials tell which."""
    given = guess_unit(scan) if laboratory.budget > 0 else None
    if given is None:
        return None
    try:
        return find_unit(given, _mend(given)[0], laboratory)
    except ScanError:  # something else is wrong, too
        return None


def _tell_unit(unit: Finding, given: Scan, mended: Scan) -> Finding:
    """What the unit of the positions was found to be by trials, with what was left to map."""
    factor = scan_step(mended.positions) / scan_step(given.positions)
    text = f'The positions are not in object pixels: multiplied by {factor:.4g} they fit the patterns. {unit.finding}'
    figures = {**unit.figures, 'factor': factor}
    return replace(unit, finding=text, remedy=f'{unit.remedy} --fix does.', mended=True, figures=figures)


def _order_by_cause(seen: list[Finding], causes: list[Finding]) -> list[Finding]:
    """What was seen, then the causes of the misfit; but turned patterns make a probe look off center.

    What trials tell of the beam replaces what the counts alone may mean.
    """
    if any(finding.code == 'flicker' for finding in causes):
        seen = [finding for finding in seen if finding.code != 'flicker']
    if not any(finding.code == 'orientation' for finding in causes):
        return seen + causes
    turned = [finding for finding in causes if finding.code == 'orientation']
    left = [finding for finding in seen if finding.code != 'center' or finding.mended]
    return [*turned, *left, *(finding for finding in causes if finding.code != 'orientation')]


def _no_probe() -> Finding:
    return Finding(
        'no_probe',
        'The scan has no probe: no trial reconstruction can be made.',
        'certain',
        'Pass one with --probe FILE[:KEY].',
    )


def _mend_looks(scan: Scan, findings: list[Finding]) -> Scan:
    codes = {finding.code for finding in findings}
    if 'positions_doubled' in codes:
        kept = np.flatnonzero(~doubled_positions(scan))
        whole = {entry.name: getattr(scan, entry.name) for entry in fields(scan)}
        scan = replace(scan, diffraction=scan.diffraction[kept], **fields_of_frames(whole, kept))
    if 'saturated' in codes:
        bad = saturated_pixels(scan)
        scan = replace(scan, bad_pixels=bad if scan.bad_pixels is None else bad | scan.bad_pixels)
    if 'probe_power' in codes and scan.probe is not None:
        factor = np.sqrt(scan.mean_counts / probe_power(scan.probe) / ABSOLUTE_RANGE[1] * PASSING)
        scan = scan.with_probe(scan.probe * np.float32(factor))
    return scan


PASSING = 1.375  # makes mean counts .8 of the probe's power: what a usual sample lets through


def _measure(scan: Scan) -> dict[str, float]:
    """The figures of a scan that say how it was measured."""
    figures = {
        'patterns': float(len(scan)),
        'N': float(scan.n_pixels),
        'median_counts': float(np.median(scan.pattern_counts)),
        'step': scan_step(scan.positions),
    }
    if scan.probe is not None:
        figures |= {
            'probe_diameter': energy_diameter(scan.probe),
            'overlap': scan_overlap(scan.positions, scan.probe),
            'modes': float(len(scan.probe)),
            'power_ratio': scan.mean_counts / probe_power(scan.probe),
        }
    return figures
