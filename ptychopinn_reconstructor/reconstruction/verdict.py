"""The verdict on a result: good, doubtful or bad, why, and what to do about it.

The thresholds were measured on simulated scans, clean and with known faults (docs/explanation/verdict.md). Two figures
judge a misfit together: in units of counting noise, since more than that is no accident; and as a share of the counts,
since at a high dose a misfit that spoils nothing is many times the noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.affine import AffineMap, estimate_affine
from ..physics.engine.slope_misfit import SlopeMisfit, measure_slope_misfit
from ..physics.forward import unscattered_counts
from ..physics.prepare import PreparedScan
from ..physics.residual import Residual
from ..physics.scoring.frc import FRC
from ..physics.scoring.goodness_of_fit import (
    Background,
    estimate_background,
    find_bad_pixels,
    find_clipping,
    find_outlier_patterns,
    measure_bright_share,
    measure_excess,
    measure_mean_pattern,
)
from ..result import Reason, ReasonCode, RunInfo, Verdict
from .diagnostics import Reliability

DOUBTFUL, DOUBTFUL_EXCESS = 1.2, 0.0015
BAD, BAD_EXCESS = 2.25, 0.01
BAD_ANYWAY, BAD_ANYWAY_EXCESS = 1.5, 0.05  # a misfit of a fifth of the amplitude, whatever the dose
BELOW_NOISE = 0.75  # an object follows a tenth of the noise, seldom a seventh
MEAN_PATTERN, MEAN_PATTERN_EXCESS = 3.0, 0.008
ROSE, ROSE_MUCH = 1.05, 1.3  # times the lowest residual of a pass
# Slopes in units of noise, and the phase in radians that they make: more is no accident, and spoils something.
SHIFTED, SHIFTED_MUCH = (2.2, 0.03), (10.0, 0.3)
MAPPED, MAPPED_GAIN = 6.0, 0.001  # standard errors of a map of the positions, and the share of the misfit it explains
CLIPPED_SHARE = 0.2  # of the patterns
FALLING = 0.95  # of the residual one pass before: the object is still on its way
BRIGHT_SHARE, BRIGHT_MUCH = 0.005, 0.2  # of the area
BACKGROUND_MUCH = 0.2  # of the counts
COARSE, AGREE = 1 / 8, 0.5  # cycles per pixel up to which two halves must agree, and by how much
NAMED = 5  # patterns that a reason names


def judge(
    prepared: PreparedScan,
    run: RunInfo,
    reliability: Reliability,
    object: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    arrays: Arrays = NUMPY,
) -> Verdict:
    """The verdict on an object (H, W) and a probe (modes, N, N) in sqrt(counts), from what is known of their fit."""
    misfit = reliability.misfit
    background = _estimate_background(prepared, misfit, probe)
    # What names its cause stands first; a misfit of the whole may have many.
    pixels = [*_judge_pixels(misfit)]
    clipping = [] if pixels else [*_judge_clipping(misfit)]  # hot pixels end at one value, too
    reasons = [*_judge_background(background), *pixels, *clipping, *_judge_patterns(prepared, misfit)]
    named = bool(reasons)
    reasons += [*_judge_passes(run, misfit.overall), *_judge_misfit(misfit, run, named=named)]
    if not named and misfit.noise_ratio > BELOW_NOISE:
        reasons += _judge_map(estimate_affine(prepared, object, probe, arrays=arrays))
        reasons += _judge_slopes(measure_slope_misfit(prepared, object, probe, arrays))
    if prepared.gauge.choice == 'absolute':
        reasons += _judge_brightness(object, reliability)
    if not reasons:
        reasons += _judge_mean_pattern(misfit)
    reasons += _judge_halves(reliability.split)
    reasons.sort(key=lambda reason: reason.word != 'bad')  # stable: within a word the order stays
    return Verdict(
        word=reasons[0].word if reasons else 'good',
        ratio=misfit.noise_ratio,
        median_ratio=float(np.median(misfit.noise_ratio_per_pattern)),
        background=0.0 if background is None else background.per_pixel,
        reasons=tuple(reasons),
    )


def _reason(code: ReasonCode, is_bad: bool, finding: str, causes: str, remedy: str) -> Reason:
    return Reason(code, 'bad' if is_bad else 'doubtful', finding, causes, remedy)


def _estimate_background(prepared: PreparedScan, misfit: Residual, probe: NDArray[np.complex64]) -> Background | None:
    # Counting noise is taken out of the variance: where the patterns are no counts the test means nothing.
    # So it does in the near field, whose patterns are bright and vary little.
    if misfit.detector is None or misfit.noise_ratio < BELOW_NOISE or prepared.kernel is not None:
        return None
    unscattered = unscattered_counts(probe)
    return estimate_background(misfit.detector, len(prepared), unscattered, prepared.good)


def _judge_background(background: Background | None) -> Iterator[Reason]:
    if background is not None:
        yield _reason(
            'background',
            background.share > BACKGROUND_MUCH,
            f'about {background.per_pixel:.2g} counts a pixel ({background.share:.1%} of all) are a background',
            'dark current, stray light or scatter of the air; or a probe of more modes than were given',
            'estimate it with the object (refinement.background=on), or give the probe its modes',
        )


def _judge_pixels(misfit: Residual) -> Iterator[Reason]:
    if misfit.detector is None:
        return
    hot, dead = find_bad_pixels(misfit.detector)
    for pixels, what, cause in (
        (hot, 'brighter', 'hot pixels, or values that mark bad ones'),
        (dead, 'darker', 'a beam stop, a gap between modules, or dead pixels'),
    ):
        if pixels.any():
            row, column = np.argwhere(pixels)[0]
            yield _reason(
                'bad_pixels',
                False,
                f'{int(pixels.sum())} pixels are far {what} than an object makes them (the first: row {row}, '
                f'column {column})',
                cause,
                'mask them: bad_pixels in the scan file',
            )


def _judge_clipping(misfit: Residual) -> Iterator[Reason]:
    largest, share = find_clipping(misfit)
    if share > CLIPPED_SHARE:
        yield _reason(
            'clipped',
            False,
            f'{share:.0%} of the patterns end at exactly {largest:g} counts',
            'a saturated detector, or values cut at a limit',
            'mask the pixels that saturate (bad_pixels in the scan file), or measure with less light',
        )


def _judge_patterns(prepared: PreparedScan, misfit: Residual) -> Iterator[Reason]:
    outliers = find_outlier_patterns(misfit)
    if len(outliers):
        indexes = prepared.scan.pattern_indexes
        numbers = outliers if indexes is None else indexes[outliers]
        yield _reason(
            'outlier_patterns',
            False,
            f'{len(outliers)} patterns fit far worse than the others (number {_enumerate(numbers)})',
            'a closed shutter, a lost beam, or frames out of order',
            'leave them out of the scan file',
        )


def _enumerate(numbers: Iterable[int]) -> str:
    first, *others = [str(number) for number in numbers]
    return ', '.join([first, *others[: NAMED - 1], *(['...'] if len(others) >= NAMED else [])])


def _judge_map(found: AffineMap) -> Iterator[Reason]:
    if found.significance > MAPPED and found.gain > MAPPED_GAIN:
        yield _reason(
            'stretched_positions',
            False,
            f'the patterns ask for positions {found.scale:.4f} times as far apart and turned by {found.rotation:.2g} '
            f'degrees ({found.significance:.0f} standard errors)',
            'a wrong pixel size (wavelength, distance), or axes of the stage that are not those of the detector',
            'let the engine map them (refinement.positions=true), or check pixel size and axes',
        )


def _judge_slopes(found: SlopeMisfit | None) -> Iterator[Reason]:
    if found is None:
        return

    def exceeds(limit: tuple[float, float]) -> bool:
        return found.ratio > limit[0] and found.phase > limit[1]

    if exceeds(SHIFTED):
        yield _reason(
            'shifted_patterns',
            exceeds(SHIFTED_MUCH),
            f'patterns lie {found.shift:.2g} detector pixels rms from where the object puts them, beyond noise '
            f'({found.phase:.2g} rad of phase)',
            'wrong positions, a wrong probe, patterns off center, or a long-range phase that has not settled',
            'make more passes (refinement.passes); try refinement.positions=true and refinement.probe=true; check the '
            'positions and the probe',
        )


def _judge_passes(run: RunInfo, end: float) -> Iterator[Reason]:
    if len(run.residual_by_pass) < 2:
        return
    # A last pass that rose may have been taken back: then the object at the `end` is better than it tells.
    lowest, last = min(run.residual_by_pass), min(run.residual_by_pass[-1], end)
    if last > ROSE * lowest:
        yield _reason(
            'residual_rose',
            last > ROSE_MUCH * lowest,
            f'the residual rose from {lowest:.3g} to {last:.3g} over the passes',
            'a probe that is partially coherent, wrong, or wider than its window',
            'make fewer passes (refinement.passes), or give the right probe with its modes',
        )


def _judge_misfit(misfit: Residual, run: RunInfo, *, named: bool) -> Iterator[Reason]:
    """`named`: its causes are known from other reasons."""
    ratio, excess = misfit.noise_ratio, measure_excess(misfit)
    if ratio < BELOW_NOISE:
        yield _reason(
            'below_noise',
            False,
            f'the misfit is {ratio:.2g} times counting noise, less than photon counts can have',
            'patterns divided by a constant, smoothed, or clipped at a largest value',
            'hand in the counts as the detector wrote them',
        )
    elif ratio > DOUBTFUL and excess > DOUBTFUL_EXCESS:
        is_bad = (ratio > BAD and excess > BAD_EXCESS) or (ratio > BAD_ANYWAY and excess > BAD_ANYWAY_EXCESS)
        finding = f'{excess:.1%} of the counts are misfit beyond noise'
        known = ('what the other reasons name', 'mend what the other reasons name')
        yield _reason('misfit', is_bad, finding, *(known if named else _explain_misfit(run)))


def _explain_misfit(run: RunInfo) -> tuple[str, str]:
    """Likely causes of a misfit, and the remedy."""
    if not run.refine_passes:
        return 'the object is as the network made it', 'let the engine improve it (refinement.passes=auto)'
    causes = 'wrong positions, a wrong probe or too few modes of it, patterns off center, or values that are no counts'
    remedy = (
        'try refinement.positions=true and refinement.probe=true; check the probe, the center of the patterns and '
        'their unit'
    )
    if len(run.residual_by_pass) > 1:
        before, last = run.residual_by_pass[-2:]
        if last < FALLING * before:
            return (
                f'too few passes, since the residual fell by {1 - last / before:.0%} in the last one; or {causes}',
                f'make more passes (refinement.passes); {remedy}',
            )
    return causes, remedy


def _judge_brightness(object: NDArray[np.complex64], reliability: Reliability) -> Iterator[Reason]:
    area = reliability.area
    share = measure_bright_share(object[area], reliability.coverage[area])
    if share > BRIGHT_SHARE:
        yield _reason(
            'too_bright',
            share > BRIGHT_MUCH,
            f'abs(O) exceeds 1.1 on {share:.1%} of the area, which no sample transmits',
            'a probe that is wrong or weaker than it was, a background, or unmasked pixels',
            'check the probe, or take its power from the counts (data.probe_power=from_counts)',
        )


def _judge_mean_pattern(misfit: Residual) -> Iterator[Reason]:
    if misfit.detector is None:
        return
    ratio, excess = measure_mean_pattern(misfit.detector)
    if ratio > MEAN_PATTERN and excess > MEAN_PATTERN_EXCESS:
        yield _reason(
            'mean_pattern',
            False,
            f'the mean pattern differs from the predicted one by {ratio:.2g} times its counting noise',
            'patterns off center, a wrong probe, unmasked pixels, or a background',
            'check the center of the patterns and the probe',
        )


def _judge_halves(split: FRC | None) -> Iterator[Reason]:
    if split is None:
        return
    agreement = float(split.curve[split.frequency <= COARSE].mean()) if (split.frequency <= COARSE).any() else 1.0
    if agreement < AGREE:
        yield _reason(
            'halves_disagree',
            False,
            f'two halves of the patterns agree by {agreement:.2f} only on what is coarser than 8 pixels',
            'too little light or overlap, or wrong positions',
            'measure longer or in smaller steps; check the positions',
        )
