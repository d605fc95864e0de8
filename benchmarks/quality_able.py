"""The cases "able" of `make quality`: dirty data that a richer model of the measurement explains.

As the cases "real": 324 patterns of 64 x 64 pixels, 1e5 photons, 60 % overlap, an annular probe, one fault a scan. Some
take an option; where the geometry is wrong the doctor mends the scan first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations

import faults
import numpy as np
from faults import Fault
from quality_cases import Case
from quality_real import Situation, cases_of

PROBE, POSITIONS = ('--refine-probe',), ('--refine-positions',)
TWO = ('page', 'coins')
SITUATIONS: Mapping[str, Situation] = {
    '3 modes, one given, probe refined': Situation(faults.one_mode_given, TWO, 'three modes', options=PROBE),
    'background of 5 counts': Situation(partial(faults.background, counts=5.0), TWO),
    'halo of 2 counts': Situation(faults.scattered, TWO),
    'positions off by 2 px, refined, 20 passes': Situation(faults.positions_off, TWO, passes=20, options=POSITIONS),
    'positions off by 2 px, refined, 60 passes': Situation(faults.positions_off, TWO, passes=60, options=POSITIONS),
    'scan scaled by 1.02': Situation(faults.scaled, TWO, passes=20, options=POSITIONS),
    'scan rotated by 1.5 degrees': Situation(faults.rotated, TWO, passes=20, options=POSITIONS),
    'intensity drifts by 20 %': Situation(faults.drifting, TWO),
    'intensity flickers by 10 %': Situation(faults.flickering_rms, TWO),
    'defocus drifts by 40 %': Situation(faults.defocus_drifting, TWO),
    'blurred by .7 px': Situation(faults.blurred, TWO),
    'blurred by .7 px, probe refined': Situation(faults.blurred, TWO, options=PROBE),
    'sharp phase of 6 rad': Situation(objects=('phase of 6 rad',)),
    'probe guess: a Gaussian spot': Situation(faults.spot, TWO, passes=60, options=PROBE),
    'probe guess 3 px off': Situation(faults.probe_off, TWO, options=PROBE),
    'probe conjugate, mended': Situation(faults.conjugate, mended=True),
    'detector flipped, mended': Situation(faults.flipped, mended=True),
    'detector transposed, mended': Situation(faults.transposed, mended=True),
    'x and y swapped, mended': Situation(faults.swapped, mended=True),
}
PAIRED: Mapping[str, Fault] = {
    'background': faults.background,
    'halo': faults.scattered,
    'drift': faults.drifting,
    'flicker': faults.flickering_rms,
    'blur': faults.blurred,
    'cosmic hits': faults.cosmic_hits,
    'blank frames': faults.blank_frames,
    'detector off': faults.detector_off,
    'scaled': faults.scaled,
    'hot pixels': faults.hot_pixels,
}


def draw_pairs(count: int = 10) -> dict[str, Situation]:
    """So many pairs of faults at once, drawn once and for all."""
    pairs = list(combinations(PAIRED, 2))
    chosen = np.random.default_rng(17).choice(len(pairs), count, replace=False)
    return {
        f'{one} and {other}': Situation(faults.both(PAIRED[one], PAIRED[other]), passes=20)
        for one, other in (pairs[i] for i in sorted(chosen))
    }


def cases() -> dict[str, Case]:
    """All of them."""
    return cases_of('able', {**SITUATIONS, **draw_pairs()})
