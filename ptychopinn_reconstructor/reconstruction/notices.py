"""What a user is told of a scan before work begins: how its probe was understood, and patterns without counts."""

from __future__ import annotations

import numpy as np

from ..events import Notice
from ..physics.engine.affine import affine_rotation, affine_scale
from ..physics.engine.refine import Refined
from ..physics.prepare import PreparedScan, brightest_counts, detected_share
from ..physics.scaling import probe_power

SELDOM = 0.1  # of the passes

FARTHEST = 0.01, 100.0  # q of a probe that may at least be of another dose
SMALLEST_SHARE, LARGEST_SHARE = 0.5, 1.1  # of the probe's power in the brightest patterns


def scan_notices(prepared: PreparedScan) -> tuple[Notice, ...]:
    """Whether it is of the near field, how the power of the probe was understood, how many patterns hold no counts."""
    return *near_field_notice(prepared), power_notice(prepared), *empty_patterns_notice(prepared)


def near_field_notice(prepared: PreparedScan) -> tuple[Notice, ...]:
    """The Fresnel number that a near field is propagated with."""
    number = prepared.scan.fresnel_number
    if number is None:
        return ()
    rows, cols = number
    text = f'{rows:.4g}' if rows == cols else f'{rows:.4g} along rows and {cols:.4g} along columns'
    return (Notice('geometry', f'The scan is of the near field: its Fresnel number is {text} a pixel.'),)


def power_notice(prepared: PreparedScan) -> Notice:
    """How the power of the probe was understood, and what is implausible in it."""
    _, ratio, choice, raised, _ = prepared.gauge
    what = 'trusted' if choice == 'absolute' else 'rescaled so that mean |O|^2 = 1'
    if raised > 1:
        what = (
            f'trusted but raised by {raised:.2f}, since the brightest patterns hold so many times its power, which no '
            'object passes: the probe may lack modes'
        )
    text = f'Probe power is {choice}: q = mean counts / sum |P|^2 = {ratio:.3g}, so it is {what}.'
    doubt = _doubt_trusted(prepared) if choice == 'absolute' else _doubt_rescaled(ratio)
    return Notice('power_choice', f'{text} {doubt}'.rstrip())


def _doubt_rescaled(ratio: float) -> str:
    """What a probe that was rescaled by sqrt(`ratio`) cannot have been."""
    if FARTHEST[0] <= ratio <= FARTHEST[1]:
        return 'The amplitude of the object is relative.'
    return 'The probe is not in sqrt(counts) at all (normalized, or of another scan): the amplitude is relative.'


def _doubt_trusted(prepared: PreparedScan) -> str:
    """What the brightest patterns say of a probe's power that was trusted."""
    scan, probe = prepared.scan, prepared.probe
    incident = probe_power(probe) * detected_share(probe, scan.bad_pixels, prepared.kernel)
    brightest = brightest_counts(scan) / incident
    if brightest > LARGEST_SHARE:
        return (
            f'But the brightest patterns hold {brightest:.2f} times its power, which no object passes: '
            'the probe is too weak; set data.probe_power=from_counts.'
        )
    if brightest < SMALLEST_SHARE:
        return (
            f'Even the brightest patterns hold only {brightest:.2f} of its power: where a part of the object is clear, '
            'the probe is too strong; set data.probe_power=from_counts then.'
        )
    return ''


def refinement_notices(refined: Refined) -> tuple[Notice, ...]:
    """What the refinement had to undo, and what it found of the positions, the probe and the detector."""
    notices = []
    if refined.affine is not None:
        text = (
            f'The patterns ask for other positions: all were scaled by {affine_scale(refined.affine):.4f} and turned '
            f'by {affine_rotation(refined.affine):.2f} degrees about their mean; check the pixel size and the axes of '
            'the scan.'
        )
        notices.append(Notice('scan_aligned', text))
    if refined.start_dropped:
        text = (
            'The object to start from explained the patterns less than an empty one, from which the refinement began '
            'instead: check that it is of this scan and this probe.'
        )
        notices.append(Notice('start_dropped', text))
    if refined.probe_replaced:
        text = (
            'The probe that was given explains hardly anything of the patterns: another one was found from them alone '
            'and refined. Where you know the given one to be right, the detector is read the wrong way round: '
            'run ptychopinn diagnose.'
        )
        notices.append(Notice('probe_replaced', text))
    elif refined.probe_asked_for:
        count = len(refined.probe)
        text = (
            f'The patterns do not fit the probe that was given: it was improved, with {count} '
            f'mode{"s" * (count > 1)}; refinement.modes=0 leaves it as it is.'
        )
        notices.append(Notice('probe_asked_for', text))
    # Momentum is chosen such that a pass of many may go too far, which says nothing of the scan.
    if refined.taken_back > SELDOM * len(refined.residuals):
        text = (
            f'{refined.taken_back} of {len(refined.residuals)} passes made the object worse and were undone; '
            'the probe or the positions may be wrong.'
        )
        notices.append(Notice('passes_taken_back', text))
    if refined.background is not None:
        text = (
            f'A background of {refined.background.mean():.2g} counts a pixel was estimated along with the object; '
            'nothing was subtracted from the patterns.'
        )
        notices.append(Notice('background', text))
    if refined.intensity is not None:
        text = f'The power of the beam varies by {refined.intensity.std():.1%} rms, estimated for each pattern.'
        notices.append(Notice('intensity', text))
    if refined.variation is not None:
        count = len(refined.variation.components)
        share = float((np.abs(refined.variation.components) ** 2).sum()) / probe_power(refined.probe)
        text = (
            f'The probe changes along the scan, {share:.1%} of its power in the mean: {count} '
            f'component{"s" * (count > 1)} and their weight for each pattern were estimated with the object; '
            'refinement.modes=0 takes one probe for all.'
        )
        notices.append(Notice('varying_probe', text))
    return tuple(notices)


def learned_notice(change: float) -> Notice:
    """How much a learned step has added to what the passes found."""
    text = (
        f'A network that has seen other objects changed this one by {change:.2g} (rms of the transmission) after the '
        'passes, within what counting noise leaves open: learned_change.png shows where. Do not rely on finer detail '
        'there that has no other evidence; refinement.learned_step=off leaves it out.'
    )
    return Notice('learned_step', text)


def empty_patterns_notice(prepared: PreparedScan) -> tuple[Notice, ...]:
    """A warning when patterns hold no counts: the shutter was closed, or the beam was lost."""
    empty = np.flatnonzero(prepared.scan.pattern_counts == 0)
    if not len(empty):
        return ()
    text = f'{len(empty)} patterns hold no counts (the first is number {empty[0]}); leave them out if the beam was off.'
    return (Notice('empty_patterns', text),)
