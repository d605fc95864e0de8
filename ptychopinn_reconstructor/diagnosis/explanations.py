"""Explanations of a misfit: what could be wrong with a scan, each with the scan in which that is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..physics.engine.affine import affine_rotation, affine_scale, estimate_affine
from ..physics.forward import measure, propagate
from ..physics.scoring.goodness_of_fit import Background, estimate_background
from ..scan import Scan
from .blur import blur_probe
from .defocus import STEP, defocus_step, propagate_probe
from .finding import FindingCode
from .trials import FIXED, Freedom, Trial
from .turns import TURNS, Turn, conjugate_probe, is_symmetric, turn_detector, turn_positions

Mend = Callable[[Scan], Scan]
# By how much a trial that has more freedom must fit better than one with less, as a factor of the misfit.
FREE, OF_DEFOCUS, OF_BLUR, OF_PROBE, OF_MODES, OF_POSITIONS = 1.0, 1.1, 1.2, 1.6, 3.2, 1.6
UNEVEN = 0.03  # spread of the patterns' factors from which they are looked at
# Coarse: what is nearer to the truth is estimated from the trial's own object.
SCALES, ANGLES = (0.8, 0.9, 1.1, 1.25), (-9.0, 9.0)  # degrees
BLURS = (0.5, 0.75, 1.1, 1.6)  # pixels of the detector, rms along each axis
DEFOCUS = (-10, -6, -3, -1.5, 1.5, 3, 6, 10)  # steps
SAMPLED_PATTERNS = 64
BETWEEN, NEAR = (
    (0.8, 1.25),
    (0.92, 1.08),
)  # factors of a size that has been tried: of one screened, of one tried in full
TRIED_MODES = 3


@dataclass(frozen=True, eq=False)
class Explanation:
    """What could be wrong: `mend` gives a scan without it, in which the trial has `freedom`.

    `assumption` names the trial, `finding` and `remedy` are sentences for the user, the former of what the `trial` that
    it is formatted with has found. `price` is the factor by which it
    must fit better than an explanation that costs nothing; `on_whole`: whether `mend` serves the whole scan, too;
    `screened`: whether few passes on few patterns tell if it is worth a trial; `matrix` (2, 2) of a map of positions,
    `width` of a blur in pixels, `steps` of a defocus.
    """

    code: FindingCode
    assumption: str
    finding: str
    remedy: str
    mend: Mend
    freedom: Freedom = FIXED
    price: float = FREE
    on_whole: bool = True
    screened: bool = False
    matrix: NDArray[np.float64] | None = None
    width: float = 0.0
    steps: float = 0.0


def as_it_is(scan: Scan) -> Scan:
    """The scan unchanged."""
    return scan


AS_IT_IS = Explanation('unexplained', 'the scan as it is', '', '', as_it_is)


def list_explanations(trial: Trial) -> Iterator[Explanation]:
    """Everything that is tried on the part of a scan whose `trial` fits badly, the cheap and frequent first."""
    yield from _turned_detectors(trial)
    yield from _turned_positions(trial)
    yield from _uneven_light(trial)
    yield from _background(trial)
    yield from _stretched_positions(trial)
    yield from (explain_defocus(steps) for steps in DEFOCUS)
    yield from (explain_blur(width) for width in BLURS)
    yield from _refinements(trial)


def _turned_detectors(trial: Trial) -> Iterator[Explanation]:
    for turn in TURNS:
        if turn == HALF_TURN:
            yield CONJUGATE
            continue
        mirrored = '' if not is_symmetric(trial.probe, turn) else ' (or the positions, which this probe cannot tell)'
        yield Explanation(
            'orientation',
            f'patterns {turn.name}',
            f'The patterns are {turn.name}{mirrored}',
            'Turn the patterns back where they are written; --fix does.',
            lambda scan, turn=turn: turn_detector(scan, turn, _mean_pattern(scan)),  # type: ignore[misc]
            screened=True,
        )


def _mean_pattern(scan: Scan) -> NDArray[np.float64]:
    index = np.unique(np.linspace(0, len(scan) - 1, SAMPLED_PATTERNS).astype(np.int64))
    return np.asarray(scan.counts(index).mean(axis=0, dtype=np.float64))


HALF_TURN = Turn(False, True, True)
# Of the two that no pattern tells apart the one that leaves what was measured as it is.
CONJUGATE = Explanation(
    'orientation',
    'probe complex-conjugated',
    'The probe is complex-conjugated, or the patterns are rotated by 180 degrees: to every pattern both are the same',
    'Take the complex conjugate of the probe; --fix does. If the probe is right, rotate the patterns instead, or the '
    'object will be complex-conjugated.',
    conjugate_probe,
    screened=True,
)


def _turned_positions(trial: Trial) -> Iterator[Explanation]:
    for turn in TURNS:
        if not is_symmetric(trial.probe, turn):
            yield Explanation(
                'orientation',
                f'positions {turn.name}',
                f'The positions are {_of_axes(turn)}',
                'Exchange or reverse their columns where they are written; --fix does.',
                lambda scan, turn=turn: turn_positions(scan, turn),  # type: ignore[misc]
                screened=True,
            )


def _of_axes(turn: Turn) -> str:
    swapped = ['swapped (x for y)'] if turn.transposed else []
    axes = ' and '.join(
        name for name, flag in (('rows', turn.rows_reversed), ('columns', turn.columns_reversed)) if flag
    )
    return ', then '.join([*swapped, *([f'of the wrong sign in {axes}'] if axes else [])])


def _uneven_light(trial: Trial) -> Iterator[Explanation]:
    if float(np.std(np.log(pattern_factors(trial)))) > UNEVEN:
        yield Explanation(
            'flicker',
            'a power of the beam for each pattern',
            'The power of the beam changes from pattern to pattern by {trial.spread:.0%}',
            'Nothing more than --intensity on, which finds it along with the object, or a monitor of the beam.',
            as_it_is,
            Freedom(intensity=True),
            on_whole=False,
        )


def pattern_factors(trial: Trial) -> NDArray[np.float64]:
    """Measured over predicted counts of each pattern (n,) in canonical order, their median 1."""
    good = trial.prepared.good
    measured, predicted = (
        images[:, good].sum(axis=1, dtype=np.float64) for images in (trial.measured, trial.predicted)
    )
    factors = measured / np.maximum(predicted, 1.0)
    return np.asarray(np.clip(factors / np.median(factors), 0.1, 10.0))


def _background(trial: Trial) -> Iterator[Explanation]:
    if find_background(trial) is not None:
        yield Explanation(
            'background',
            'a background',
            '{trial.background:.2g} counts a pixel are a background that no object explains',
            NO_STRAY_LIGHT,
            as_it_is,
            Freedom(background=True),
            on_whole=False,
        )


NO_STRAY_LIGHT = 'Nothing more than --background on, which finds it along with the object; better keep light off.'


def find_background(trial: Trial) -> Background | None:
    """The light that the dark part of the patterns does not share with speckle, if there is some."""
    prepared = trial.prepared
    if trial.misfit.detector is None or prepared.background is not None:
        return None
    unscattered = measure(propagate(trial.probe)[None])[0]
    return estimate_background(trial.misfit.detector, len(prepared), unscattered, prepared.good)


def stretch(scan: Scan, matrix: NDArray[np.float64]) -> Scan:
    """The scan with its positions mapped by `matrix` (2, 2) about their mean."""
    middle = scan.positions.mean(axis=0)
    return replace(scan, positions=(scan.positions - middle) @ matrix.T + middle, object=None, on_object_grid=False)


def _stretched_positions(trial: Trial) -> Iterator[Explanation]:
    found = estimate_affine(trial.prepared, trial.canvas, trial.probe)
    if found.needed:
        yield explain_map(found.matrix, 'positions mapped as their patterns ask')
    for scale in SCALES:
        yield explain_map(scale * np.eye(2), f'positions times {scale:.4g}', screened=True)
    for angle in ANGLES:
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        yield explain_map(
            np.array([[cos, sin], [-sin, cos]]), f'positions turned by {angle:.3g} degrees', screened=True
        )


def explain_map(matrix: NDArray[np.float64], assumption: str, *, screened: bool = False) -> Explanation:
    """Positions that must be multiplied by `matrix` (2, 2), about their mean, to be right."""
    rows = f'[[{matrix[0, 0]:.4f}, {matrix[0, 1]:.4f}], [{matrix[1, 0]:.4f}, {matrix[1, 1]:.4f}]]'
    return Explanation(
        'position_scale',
        assumption,
        f'The positions are stretched or rotated: they must be multiplied by {rows} about their mean, a scale of '
        f'{affine_scale(matrix):.4f} and {affine_rotation(matrix):.2f} degrees from rows towards columns',
        'Check the object pixel size (wavelength, distance, detector pixel) and the axes of the stage; --fix maps.',
        lambda scan: stretch(scan, matrix),
        screened=screened,
        matrix=matrix,
    )


def explain_defocus(steps: float) -> Explanation:
    """A probe that is right in a plane so many steps further on."""
    return Explanation(
        'probe',
        f'the probe propagated by {steps * STEP:+.2g} rad',
        f'The defocus of the probe is wrong by about {abs(steps) * STEP:.2g} rad rms of phase over its pupil',
        'Give the probe in the plane of the sample, or refine it: --refine-probe; --fix propagates it.',
        lambda scan: _propagate(scan, steps),
        price=OF_DEFOCUS,
        screened=True,
        steps=steps,
    )


def _propagate(scan: Scan, steps: float) -> Scan:
    """The scan with its probe so many steps further on."""
    assert scan.probe is not None
    return scan.with_probe(propagate_probe(scan.probe, steps * defocus_step(scan.probe)))


def is_alike(one: Explanation, other: Explanation) -> bool:
    """Whether two explanations differ in the size of a blur or of a defocus alone."""
    return bool((one.width and other.width) or (one.steps and other.steps))


def is_free(one: Explanation) -> bool:
    """Whether an explanation has numbers for single pixels, patterns or positions, so that it fits better anyway."""
    return one.price > OF_BLUR


def list_alike(one: Explanation, factors: tuple[float, ...]) -> list[Explanation]:
    """The same with a blur or a defocus so many times as large."""
    if one.width:
        return [explain_blur(one.width * factor) for factor in factors]
    return [explain_defocus(one.steps * factor) for factor in factors] if one.steps else []


def explain_blur(width: float) -> Explanation:
    """Patterns whose pixels share their light with their neighbors, Gaussian of `width` pixels rms along each axis."""
    return Explanation(
        'blur',
        f'patterns blurred by {width:.2g} pixels',
        f'The patterns are blurred by about {width:.2g} pixels rms, by the detector or by a source that is wide',
        'Give the probe the modes that this comes to; --fix does.',
        lambda scan: blur_probe(scan, width),
        price=OF_BLUR,
        screened=True,
        width=width,
    )


def _refinements(trial: Trial) -> Iterator[Explanation]:
    modes = len(trial.probe)
    yield Explanation(
        'probe', 'a refined probe', 'The probe is not that of the scan', 'Refine it: --refine-probe.',
        as_it_is, Freedom(probe=True, modes=modes), OF_PROBE, on_whole=False,
    )  # fmt: skip
    if modes < TRIED_MODES:
        yield Explanation(
            'probe_modes', f'{TRIED_MODES} refined modes of the probe',
            f'The patterns ask for more modes than {modes}: partial coherence, or a blur of the patterns',
            'Give the probe its modes and refine it: --refine-probe.',
            as_it_is, Freedom(probe=True, modes=TRIED_MODES), OF_MODES, on_whole=False,
        )  # fmt: skip
    yield Explanation(
        'positions_inaccurate', 'refined positions', 'The positions are inaccurate', 'Refine them: --refine-positions.',
        as_it_is, Freedom(positions=True), OF_POSITIONS, on_whole=False,
    )  # fmt: skip
