"""The search for causes: of all explanations the one that leaves least misfit is taken, mended, and it begins anew.

So the first cause comes first: what a fault has caused goes with it. Among explanations that fit alike the simplest is
taken, since one with more freedom fits better whatever is wrong (`Explanation.price`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..physics.engine.affine import estimate_affine
from ..physics.forward import measure, propagate
from ..scan import Scan
from .beam import find_beam_drift
from .drift import find_drift
from .explanations import (
    AS_IT_IS,
    BETWEEN,
    NEAR,
    NO_STRAY_LIGHT,
    Explanation,
    explain_blur,
    explain_defocus,
    explain_map,
    find_background,
    is_alike,
    is_free,
    list_alike,
    list_explanations,
)
from .finding import Certainty, Finding
from .trials import FIXED, Freedom, Laboratory, Trial, choose_part, take_part

ROUNDS = 4
SPARE = 0.0006  # misfit beyond noise per count that is none: what few passes leave in scans without faults
SPARE_RATIO = 1.08  # the same in units of counting noise
# What is left without a cause, as in the verdict on a result.
DOUBTFUL, DOUBTFUL_EXCESS = 1.2, 0.0015
STEPS = 3  # at most, of a map, each of which finds two thirds of what is left, and more
SMALLEST_MAP = 0.003  # of the extent: less moves no position of such a part by half a pixel
UNLIKE = 0.6  # cosine of mean amplitudes: .81 to .998 for right probes, below .25 for a Gaussian spot of their size
WORTH = 1.35  # factor by which a misfit must fall
SCREENING = 0.45  # of the budget may be spent when something is screened: the rest is for trials in full
PROMOTED = 2  # of the screened explanations that are tried in full
REFINED = {'probe', 'probe_modes', 'positions_inaccurate', 'flicker', 'probe_drift'}
MADE_BY_DRIFT = {'probe', 'probe_modes', 'blur', 'positions_inaccurate'}  # in the middle of the scan
PART = 1.6  # the same, where nothing is worth it
CLEAR, BETTER = 5.0, 2.0  # the same, for a cause that is certain, or likely


@dataclass(eq=False)
class Search:
    """The state of a search: the whole scan and the part that trials are made on, as mended so far.

    `matrix` (2, 2) is by what positions were multiplied in all; `held` has what the detector adds, as far as found,
    `width` and `steps` are those of the blur and of the defocus.
    """

    scan: Scan
    part: Scan
    trial: Trial
    expected: float = 0.0
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(2))
    held: Freedom = FIXED
    width: float = 0.0
    steps: float = 0.0

    @property
    def doubtful(self) -> bool:
        """Whether the misfit that is left is one that a result would be doubted for."""
        return self.trial.excess > DOUBTFUL_EXCESS and self.trial.ratio > DOUBTFUL

    def misfit(self, trial: Trial) -> float:
        """Misfit of a trial beyond what is to be expected of a scan without faults, at least what is none."""
        return max(trial.excess - min(self.expected, SPARE), SPARE)

    def fits(self, trial: Trial) -> bool:
        """Whether nothing is left to explain."""
        return self.misfit(trial) <= SPARE or trial.ratio < SPARE_RATIO


def find_causes(scan: Scan, laboratory: Laboratory) -> tuple[list[Finding], Scan, tuple[Trial, ...]]:
    """What explains the misfit of a scan, the first cause first; the scan mended so; first and last trial."""
    part = take_part(scan, choose_part(scan))
    search = Search(scan, part, laboratory.try_scan(part, 'the scan as it is'))
    findings: dict[str, Finding] = {}
    first = search.trial
    if not search.fits(first) and (unlike := _suspect_probe(first)) is not None:
        return [unlike], scan, (first,)
    _explain_misfit(search, laboratory, findings)
    if search.fits(search.trial):
        _look_closer(search, laboratory, findings)
    drifting = None if 'flicker' in findings else find_beam_drift(search.scan, search.trial)
    if drifting is not None:
        findings['flicker'] = drifting
    drift = find_drift(search.scan, search.held, laboratory) if laboratory.has_time else None
    if drift is not None:
        told = {code: one for code, one in findings.items() if code not in MADE_BY_DRIFT}
        findings = {'probe_drift': drift, **told}
    # What has been refined in few passes has not come to its end.
    if search.doubtful and not search.fits(search.trial) and not REFINED & findings.keys():
        findings['unexplained'] = _tell_unexplained(search, alone=not findings)
    return list(findings.values()), search.scan, (first,) if search.trial is first else (first, search.trial)


def _explain_misfit(search: Search, laboratory: Laboratory, findings: dict[str, Finding]) -> None:
    """Take the best explanation, again and again, while there is a misfit that one explains."""
    for number in range(ROUNDS):
        if not search.fits(search.trial) and laboratory.has_time:
            search.trial = laboratory.try_longer(search.trial, search.held)
        if search.fits(search.trial):
            return
        if number == 0:
            search.expected = laboratory.try_clean(search.trial).excess
        found = _find_best(search, laboratory)
        if found is None:
            return
        explanation, trial = found
        earlier = findings.get(explanation.code)
        if earlier is None or explanation.on_whole:  # what is mended by a number is not made vaguer by a refinement
            findings[explanation.code] = _tell(search, explanation, trial, earlier)
        _adopt(search, explanation, trial, on_whole=explanation.on_whole and findings[explanation.code].mended)


def _look_closer(search: Search, laboratory: Laboratory, findings: dict[str, Finding]) -> None:
    """Faults that leave hardly a misfit: a small stretch, a small background."""
    if not findings or 'position_scale' in findings:
        _map_what_is_left(search, laboratory, findings)
    if 'background' not in findings:
        _find_small_background(search, findings)


def _map_what_is_left(search: Search, laboratory: Laboratory, findings: dict[str, Finding]) -> None:
    """Take a stretch of the positions that leaves hardly a misfit from the slopes of the last trial, step by step."""
    for _ in range(STEPS):
        trial = search.trial
        found = estimate_affine(trial.prepared, trial.canvas, trial.probe)
        if not found.needed or np.abs(found.matrix - np.eye(2)).max() < SMALLEST_MAP or not laboratory.has_time:
            return
        step = explain_map(found.matrix, 'positions mapped as their patterns ask')
        before = findings.get('position_scale')
        _adopt(search, step, laboratory.try_scan(step.mend(search.part), step.assumption, search.held))
        whole = explain_map(search.matrix, step.assumption)
        findings['position_scale'] = Finding(
            'position_scale',
            f'{whole.finding}; the patterns say so by {found.significance:.0f} standard errors.',
            'certain' if before is None else before.certainty,
            whole.remedy,
            mended=True,
            figures={'standard_errors': found.significance},
        )


def _find_small_background(search: Search, findings: dict[str, Finding]) -> None:
    """A background too small for a misfit, from the contrast of the dark part of the patterns."""
    found = find_background(search.trial)
    if found is not None:
        text = f'{found.per_pixel:.2g} counts a pixel ({found.share:.1%} of all) are a background.'
        findings['background'] = Finding('background', text, 'likely', NO_STRAY_LIGHT)


def _find_best(search: Search, laboratory: Laboratory) -> tuple[Explanation, Trial] | None:
    """The explanation that leaves least misfit by its price, with its trial; None where none is worth it."""
    before = search.misfit(search.trial)
    tried: list[tuple[float, Explanation, Trial]] = []
    for explanation in _promising(search, laboratory):
        if not laboratory.has_time:
            break
        explanation, trial = _sharpen(search, laboratory, explanation, _try(search, laboratory, explanation))
        tried.append((search.misfit(trial) * explanation.price, explanation, trial))
        if not is_free(explanation) and search.fits(trial) and search.misfit(trial) * CLEAR < before:
            break  # nothing can be simpler
    if not tried:
        return None
    left, explanation, trial = min(tried, key=lambda one: one[0])
    if left * WORTH < before:
        return explanation, trial
    # Nothing simple explains a misfit that more freedom takes a good part of: better than no word.
    telling = [one for one in tried if search.doubtful and search.misfit(one[2]) * PART < before]
    return min(telling, key=lambda one: one[0])[1:] if telling else None


def _try(search: Search, laboratory: Laboratory, explanation: Explanation) -> Trial:
    freedom = explanation.freedom.holding(search.held)
    return laboratory.try_scan(explanation.mend(search.part), explanation.assumption, freedom)


def _sharpen(
    search: Search, laboratory: Laboratory, explanation: Explanation, trial: Trial
) -> tuple[Explanation, Trial]:
    """An explanation by a map, a blur or a defocus that takes a good part of the misfit, nearer to the truth.

    Otherwise one with more freedom, which need not be near to anything, would fit better than the right one.
    """
    for _ in range(STEPS):
        if search.fits(trial) or search.misfit(trial) * WORTH > search.misfit(search.trial):
            break
        others = [
            (one, _try(search, laboratory, one)) for one in _list_nearer(explanation, trial) if laboratory.has_time
        ]
        better = min([(explanation, trial), *others], key=lambda one: one[1].excess)
        if better[0] is explanation:
            break
        explanation, trial = better
    return explanation, trial


def _list_nearer(explanation: Explanation, trial: Trial) -> list[Explanation]:
    if explanation.matrix is None:
        return list_alike(explanation, NEAR)
    found = estimate_affine(trial.prepared, trial.canvas, trial.probe)
    return [explain_map(found.matrix @ explanation.matrix, explanation.assumption)] if found.needed else []


def _promising(search: Search, laboratory: Laboratory) -> Iterator[Explanation]:
    """Simple ones that the trial itself proposes; the best of those that are screened; then those with more freedom."""
    explanations = list(list_explanations(search.trial))
    yield from (one for one in explanations if not one.screened and one.price == 1)
    yield from _screen(search, laboratory, [one for one in explanations if one.screened])
    yield from (one for one in explanations if not one.screened and one.price > 1)


def _screen(search: Search, laboratory: Laboratory, explanations: list[Explanation]) -> list[Explanation]:
    """The best of many after few passes each, the best first; of a family that differs in a size, the best size."""

    def judge(some: list[Explanation]) -> list[tuple[float, Explanation]]:
        return [
            (laboratory.screen(one.mend(search.part), one.assumption, search.held), one)
            for one in some
            if laboratory.spent < SCREENING * laboratory.budget
        ]

    judged = sorted(judge([AS_IT_IS, *explanations]), key=lambda pair: pair[0])
    better = judged[: next((at for at, (_, one) in enumerate(judged) if one is AS_IT_IS), 0)]
    chosen: list[Explanation] = []
    for excess, one in better:
        if len(chosen) < PROMOTED and not any(is_alike(one, before) for before in chosen):
            near = judge(list_alike(one, BETWEEN))
            chosen.append(min([(excess, one), *near], key=lambda pair: pair[0])[1])
    return chosen


def _adopt(search: Search, explanation: Explanation, trial: Trial, *, on_whole: bool = True) -> None:
    search.part, search.held = explanation.mend(search.part), search.held.holding(explanation.freedom)
    if on_whole:
        search.scan = explanation.mend(search.scan)
    search.width, search.steps = float(np.hypot(search.width, explanation.width)), search.steps + explanation.steps
    if explanation.matrix is not None:
        search.matrix = explanation.matrix @ search.matrix
    if explanation.freedom.probe:
        search.part = search.part.with_probe(trial.probe)
    if explanation.freedom.positions:
        search.part = replace(search.part, positions=trial.prepared.scan.positions)
    search.trial = trial


def _tell(search: Search, explanation: Explanation, trial: Trial, earlier: Finding | None) -> Finding:
    if earlier is not None and explanation.matrix is not None:
        explanation = explain_map(explanation.matrix @ search.matrix, explanation.assumption)
    if earlier is not None and explanation.width:
        explanation = explain_blur(float(np.hypot(explanation.width, search.width)))
    if earlier is not None and explanation.steps:
        explanation = explain_defocus(explanation.steps + search.steps)
    before, after = search.trial, trial
    fall = search.misfit(before) / search.misfit(after)
    clear = fall > CLEAR and search.fits(after)
    certainty: Certainty = 'certain' if clear and explanation.price == 1 else 'likely' if fall > BETTER else 'possible'
    # A probe that is wrong in another way fits a little better in another plane, too.
    sized = bool(explanation.steps or explanation.width)
    unsure = sized and (certainty == 'possible' or (earlier is not None and not earlier.mended))
    return Finding(
        explanation.code,
        f'{explanation.finding.format(trial=trial)}: with {explanation.assumption} a trial fits to {after.ratio:.3g} '
        f'times counting noise, without to {before.ratio:.3g}.',
        certainty,
        explanation.remedy,
        mended=explanation.on_whole and not unsure,
        figures={'noise_ratio_before': before.ratio, 'noise_ratio_after': after.ratio},
    )


def _suspect_probe(trial: Trial) -> Finding | None:
    """A probe so far from the truth that few passes cannot find it: its far field is unlike the mean pattern."""
    likeness = _compare_far_field(trial, trial.probe)
    if likeness > UNLIKE:
        return None
    return Finding(
        'probe',
        f'The far field of the probe is unlike the mean pattern ({likeness:.2f} alike), and a trial fits to '
        f'{trial.ratio:.3g} times counting noise only: the probe is not that of the scan.',
        'likely',
        'Give the probe of this instrument, or one nearer to it, and refine it: --refine-probe.',
        figures={'likeness': likeness, 'noise_ratio': trial.ratio},
    )


def _compare_far_field(trial: Trial, probe: NDArray[np.complex64]) -> float:
    """Cosine of the amplitudes of the mean pattern and of the unscattered probe, on good pixels."""
    good = trial.prepared.good
    own = np.sqrt(measure(propagate(probe)[None])[0][good])
    mean = np.sqrt(trial.measured.mean(axis=0)[good])
    return float(own @ mean / max(float(np.linalg.norm(own) * np.linalg.norm(mean)), 1e-12))


def _tell_unexplained(search: Search, *, alone: bool) -> Finding:
    trial = search.trial
    what = 'Trial reconstructions fit' if alone else 'With all that mended, trial reconstructions still fit'
    return Finding(
        'unexplained',
        f'{what} to {trial.ratio:.3g} times counting noise, and nothing that was tried explains it.',
        'certain',
        'Check what no trial can: the probe, the wavelength and distance, the order of frames, a sample that changes.',
        figures={'noise_ratio': trial.ratio, 'excess': trial.excess},
    )
