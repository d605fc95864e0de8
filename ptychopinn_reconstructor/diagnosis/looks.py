"""Looks: what a scan shows of faults without a reconstruction; each takes a scan and gives a finding or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..events import Notice, NoticeCode
from ..physics.inspection.places import find_absurd_step, pairs_at_one_place, pairs_of_neighbors
from ..physics.probes import energy_diameter
from ..physics.sampling import scan_overlap, scan_step
from ..physics.scaling import ABSOLUTE_RANGE, probe_power
from ..scan import Scan
from .finding import Finding, FindingCode

# What reading a scan has mended, in the order in which one causes the next.
MENDED: dict[NoticeCode, FindingCode] = {
    'mask_inverted': 'mask',
    'impossible_values': 'bad_pixels',
    'beam_offset': 'center',
    'count_factor': 'count_unit',
    'lost_positions': 'position_outliers',
    'lost_frames': 'bad_frames',
    'hot_pixels': 'bad_pixels',
    'dark_pixels': 'bad_pixels',
    'single_hits': 'single_hits',
}
DONE = 'Nothing: every command does that when it reads the scan (unless --as-is is given); --fix does, too.'
LOOSE = 0.3  # overlap below which the phases of neighbors are hardly tied
FEWEST_COUNTS = 200.0  # per pattern
RIM, ON_RIM, ON_RIM_MUCH = 1 / 16, 0.02, 0.08  # of N: the frame about the window; share of the probe's power there
SMALLEST = 4.0  # pixels: the diameter of a probe that is sampled too coarsely
CLIPPED_SHARE, FEWEST_CLIPPED = 0.2, 8.0
FEWEST_DOUBLED = 0.02  # share of the positions
ALIKE = 0.8  # of the likeness that neighbors one step apart have, for patterns at the same place
TIMES, FEWEST_A_TIME, STEADY = 6, 8, 0.2  # parts of a scan in time, patterns in each; change of log(counts)
IMPLAUSIBLE = 100.0  # factor between counts and the probe's power that is no unit of the probe's but an error


def explain_notices(notices: Iterable[Notice]) -> list[Finding]:
    """Findings of what reading the scan has mended; the causes before what they cause."""
    order = list(MENDED)
    found = sorted((notice for notice in notices if notice.code in MENDED), key=lambda one: order.index(one.code))
    return [_explain_notice(notice) for notice in found]


def _explain_notice(notice: Notice) -> Finding:
    code = MENDED[notice.code]
    if 'pass nphotons' in notice.text:  # the one look that finds a unit it cannot mend
        return Finding(
            code,
            'The patterns are neither counts nor a multiple of them: normalized, smoothed or interpolated.',
            'likely',
            'Hand in the counts as the detector wrote them, or pass the mean photons a pattern (--nphotons).',
        )
    if 'Neither is moved' in notice.text:
        return Finding(code, notice.text, 'likely', 'Center the probe: its far field belongs at [N//2, N//2].')
    return Finding(code, notice.text, 'certain', DONE, mended=True)


def look_at_refusal(scan: Scan, why: str) -> Finding:
    """Why a scan cannot be used at all, which `why` says: positions in another unit, or a mask that hides the beam."""
    found = None if scan.probe is None else find_absurd_step(scan.positions, scan.probe)
    if found is None:
        return Finding('mask', why, 'certain', 'Correct bad_pixels: True only where a pixel is bad.')
    step, _, diameter = found
    return Finding(
        'position_unit',
        why,
        'certain',
        'Give the positions in object pixels: lengths divided by wavelength x distance / (N x detector pixel).',
        figures={'step': step, 'probe_diameter': diameter},
    )


def look(scan: Scan) -> list[Finding]:
    """What the looks find, the most certain causes first."""
    return [finding for one in LOOKS for finding in one(scan)]


def look_for_clipping(scan: Scan) -> Iterator[Finding]:
    """Counts that end at one value in many patterns: a saturated detector."""
    brightest = np.concatenate([scan.counts(block).max(axis=(1, 2)) for block in scan.blocks()])
    largest = float(brightest.max())
    share = float((brightest == largest).mean())
    if share > CLIPPED_SHARE and largest >= FEWEST_CLIPPED:
        yield Finding(
            'saturated',
            f'{share:.0%} of the patterns end at exactly {largest:g} counts: the detector saturates there.',
            'certain',
            'Mask the pixels that reach it (--fix does), and measure with less light next time.',
            mended=True,
            figures={'share_of_patterns': share, 'largest_count': largest},
        )


def saturated_pixels(scan: Scan) -> NDArray[np.bool_]:
    """Pixels (N, N) that reach the largest count of all in some pattern."""
    highest = np.max([scan.counts(block).max(axis=0) for block in scan.blocks()], axis=0)
    return np.asarray(highest == highest.max())


def look_for_doubled_positions(scan: Scan) -> Iterator[Finding]:
    """Patterns with the same position that are less alike than neighbors: the stage or its record stood still."""
    pairs = pairs_at_one_place(scan.positions)
    share = len(np.unique(pairs)) / len(scan)
    if share < FEWEST_DOUBLED or not len(pairs):
        return
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), 64)).astype(int)]
    twin = _likeness(scan, pairs)
    places = np.unique(scan.positions, axis=0, return_index=True)[1]
    near = pairs_of_neighbors(scan.positions[places])[:64]
    if twin < ALIKE * _likeness(scan, places[near]):
        yield Finding(
            'positions_doubled',
            f'{share:.0%} of the positions occur twice, with patterns that differ ({twin:.2f} alike).',
            'certain',
            'Correct the positions: the stage or its record stood still; --fix leaves the doubled ones out.',
            mended=True,
            figures={'share_of_positions': share, 'likeness': twin},
        )


def doubled_positions(scan: Scan) -> NDArray[np.bool_]:
    """Those (n,) of the positions that another pattern has, too."""
    doubled = np.zeros(len(scan), bool)
    doubled[np.unique(pairs_at_one_place(scan.positions))] = True
    return doubled


def _likeness(scan: Scan, pairs: NDArray[np.int64]) -> float:
    """Median cosine of the amplitudes, less their mean pattern, of pairs (k, 2) of patterns."""
    first, second = (np.sqrt(scan.counts(pairs[:, side])).reshape(len(pairs), -1) for side in (0, 1))
    mean = (first.mean(axis=0) + second.mean(axis=0)) / 2
    first, second = first - mean, second - mean
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.median((first * second).sum(axis=1) / np.maximum(norms, 1e-12)))


def look_at_overlap(scan: Scan) -> Iterator[Finding]:
    """Spots that hardly overlap."""
    if scan.probe is None:
        return
    overlap, step = scan_overlap(scan.positions, scan.probe), scan_step(scan.positions)
    if overlap < LOOSE:
        yield Finding(
            'overlap',
            f'Neighboring spots overlap by {overlap:.0%} only: a step of {step:.3g} pixels under a probe of '
            f'{energy_diameter(scan.probe):.3g}.',
            'certain',
            'Measure in smaller steps (60 % overlap is usual); more passes help a little (--passes).',
            figures={'overlap': overlap, 'step': step},
        )


def look_at_dose(scan: Scan) -> Iterator[Finding]:
    """Patterns of hardly any light."""
    counts = float(np.median(scan.pattern_counts))
    if counts < FEWEST_COUNTS:
        yield Finding(
            'dose',
            f'The median pattern holds {counts:.3g} counts: too few to tell an object from noise.',
            'certain',
            'Measure longer; if the patterns are not in counts, pass the mean photons a pattern (--nphotons).',
            figures={'counts': counts},
        )


def look_at_window(scan: Scan) -> Iterator[Finding]:
    """A probe that does not fit its window, or is hardly larger than a pixel."""
    if scan.probe is None:
        return
    share, diameter = share_on_rim(scan.probe), energy_diameter(scan.probe)
    if share > ON_RIM_MUCH:
        yield Finding(
            'probe_window',
            f'{share:.0%} of the probe lies at the border of its window of {scan.n_pixels} pixels: it is cut off.',
            'likely',
            'Keep more of the detector about each pixel: smaller detector pixels or a larger distance give the probe '
            'more room; or give a smaller probe.',
            figures={'share_on_rim': share, 'diameter': diameter},
        )
    elif diameter < SMALLEST:
        yield Finding(
            'probe_window',
            f'The probe is {diameter:.2g} pixels wide in a window of {scan.n_pixels}: it is hardly sampled.',
            'likely',
            'Check the probe and the size of an object pixel; use more of the detector.',
            figures={'diameter': diameter},
        )


def share_on_rim(probe: NDArray[np.complex64]) -> float:
    """Share of the power of a probe (modes, N, N) within N/16 of the border of its window."""
    intensity = (np.abs(probe) ** 2).sum(axis=0, dtype=np.float64)
    rim = max(1, round(RIM * len(intensity)))
    return float(1 - intensity[rim:-rim, rim:-rim].sum() / intensity.sum())


def look_at_power(scan: Scan) -> Iterator[Finding]:
    """A probe whose power is neither that of the counts nor in another unit."""
    if scan.probe is None:
        return
    ratio = scan.mean_counts / probe_power(scan.probe)
    if ABSOLUTE_RANGE[1] < ratio < IMPLAUSIBLE or 1 / IMPLAUSIBLE < ratio < ABSOLUTE_RANGE[0]:
        what = 'more' if ratio > 1 else 'less'
        yield Finding(
            'probe_power',
            f'The patterns hold {ratio:.3g} times the counts of the probe, {what} than a sample lets through.',
            'likely',
            'Nothing has to be done where the object is known up to a factor: the power is taken from the counts '
            '(--probe-power from_counts); otherwise give the probe in sqrt(counts). --fix scales it.',
            mended=True,
            figures={'power_ratio': ratio},
        )


def look_for_trend(scan: Scan) -> Iterator[Finding]:
    """Counts that rise or fall steadily from the first pattern to the last."""
    if len(scan) < TIMES * FEWEST_A_TIME:
        return
    logarithm = np.log(np.maximum(scan.pattern_counts, 1.0))
    medians = np.array([np.median(part) for part in np.array_split(logarithm, TIMES)])
    change, steps = medians[-1] - medians[0], np.diff(medians)
    trend = np.linspace(medians[0], medians[-1], len(scan))
    scatter = float(np.median(np.abs(logarithm - trend)))
    if abs(change) > STEADY and (steps * np.sign(change) > 0).all() and scatter < abs(change) / 4:
        share = 1 - np.exp(-abs(change))
        yield Finding(
            'flicker',
            f'The counts {"fall" if change < 0 else "rise"} steadily, by {share:.0%} from first to last pattern.',
            'possible',
            'Unless the sample is so: divide the patterns by a monitor of the beam.',
            figures={'change': float(np.expm1(change)), 'scatter': scatter},
        )


Look = Callable[[Scan], Iterator[Finding]]
LOOKS: tuple[Look, ...] = (
    look_for_doubled_positions,
    look_for_clipping,
    look_for_trend,
    look_at_dose,
    look_at_power,
    look_at_window,
    look_at_overlap,
)
