"""How a refinement is done, and the settings measured to be best for a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ..prepare import PreparedScan
from ..probes import MAX_MODES
from ..sampling import scan_overlap
from .detector import Switch
from .modes import FEWEST, first_asked
from .update import ObjectStep

SMALLEST_BATCH = 4  # patterns; smaller batches only add noise
FIRST_BATCHES = 16  # of the first pass
BATCHES_A_PASS = 4  # of the first pass, for each pass that there is
PROBE_FROM_PASS = 3  # from which on the object is good enough to tell of the probe
SETTLING_PASSES = 3  # passes of probe update before the long-range phase can be relied on
HOLD = 0.7  # share of the passes that keep the first number of batches while the probe is refined
MOMENTUM = 0.6, 0.87  # for no light and for much: momentum keeps the noise of many batches
HORIZON = 1.8  # 1 - momentum is this over the passes, at least
WELL_TIED, LOOSE = 0.65, 0.2  # overlap at which few passes do, and most are needed
WITH_PROBE = 20  # passes at least where the probe or the positions are refined too
SCARCE = 15.0  # counts per object pixel half way between those, and at which the prior, which blurs texture, is halved
FADING = 0.35  # share of the passes over which momentum fades to none
# Where a learned step gains half a dB of detail or more (docs/explanation/learning.md): up to so many counts per object
# pixel, and where spots overlap by no more than `LOOSELY_TIED` within these.
LEARNED_DOSE, LOOSELY_TIED, LOOSE_DOSES = 30.0, 0.4, (6.0, 300.0)
SHAPING = 0.25  # share of the passes that find an object's shape: more momentum there freezes vortices in its phase


@dataclass(frozen=True)
class RefineOptions:
    """How to refine; `for_scan` gives the settings measured to be best.

    Parameters
    ----------
    passes
        Times that each pattern is visited; 0 leaves everything as it is.
    refine_probe, probe_from_pass
        Whether the probe is updated too, its power held, and from which pass on (the first pass is 1).
    modes
        How many incoherent modes the probe has, 0: as many as are given; None: they and the probe are improved where
        the patterns ask for it (`modes`).
    passes_with_probe
        Passes to be made where the patterns have asked for another probe, 0: no more than without.
    first_batches
        Batches in the first pass, at least four patterns each; their number falls to one in the last pass.
    momentum
        Share of the last step that is repeated, 0 to below 1; at most .6 in the first quarter of the passes, and it
        fades to none in the last third; none suits a probe not yet known.
    refine_positions, positions_from_pass, largest_displacement
        Whether the scan positions are updated too, from which pass on, and how far from the scan's own, pixels.
    prior
        Strength of the smoothness prior after each pass (`smoothness`), 1: as measured best; 0: none.
    wavefront
        Whether the long-range phase is solved for from the slopes of all patterns (`wavefront`), after passes 1, 2, 4,
        8 ... and the last.
    background, intensity
        Whether a background of the patterns and a factor for each on the power of the beam are estimated too; 'auto':
        where the data ask for it (`detector_fit`).
    learned_step
        Whether the object takes a learned step after the passes (`physics/learned`).
    seed
        Draws the batches.

    Raises
    ------
    ConfigError
        When a value is out of its range.
    """

    passes: int
    refine_probe: bool = False
    probe_from_pass: int = PROBE_FROM_PASS
    modes: int | None = 0
    passes_with_probe: int = 0
    first_batches: int = FIRST_BATCHES
    momentum: float = 0.0
    prior: float = 0.0
    refine_positions: bool = False
    positions_from_pass: int = 3
    largest_displacement: float = 10.0
    wavefront: bool = False
    background: Switch = 'off'
    intensity: Switch = 'off'
    learned_step: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise ConfigError(f'The number of refinement passes is {self.passes}; it must be 0 or more.')
        counted = {name: getattr(self, name) for name in ('probe_from_pass', 'positions_from_pass', 'first_batches')}
        for name, value in counted.items():
            if value < 1:
                raise ConfigError(f'{name} is {value}; it counts from 1.')
        if not 0 < self.largest_displacement < math.inf:
            raise ConfigError(f'The largest displacement is {self.largest_displacement} pixels; it must be above 0.')
        if not 0 <= self.momentum < 1:
            raise ConfigError(f'The momentum is {self.momentum}; it must be at least 0 and below 1.')
        if self.modes is not None and not 0 <= self.modes <= MAX_MODES:
            raise ConfigError(f'The probe is to have {self.modes} modes; choose 1 to {MAX_MODES}, or 0: as it has.')
        if not 0 <= self.prior < math.inf:
            raise ConfigError(f'The strength of the prior is {self.prior}; it must be 0 or more.')

    @classmethod
    def for_scan(
        cls,
        passes: int | None = None,
        *,
        dose: float = math.inf,
        overlap: float = 1.0,
        from_network: bool = False,
        prior: float | None = None,
        refine_probe: bool = False,
        modes: int | None = 0,
        refine_positions: bool = False,
        wavefront: bool = True,
        background: Switch = 'auto',
        intensity: Switch = 'auto',
        learned_step: Switch = 'auto',
        seed: int = 0,
    ) -> RefineOptions:
        """The settings for a scan of a dose (counts per object pixel) and overlap, from a network's object or none."""
        refine_probe = refine_probe or bool(modes)
        passes_with_probe = WITH_PROBE if passes is None else 0
        if passes is None:
            passes = automatic_passes(overlap, from_network=from_network, more=refine_probe or refine_positions)
        first = first_asked(passes, refined=True)
        asked = refine_probe and modes is None and first >= FEWEST
        unasked = refine_probe and not asked
        return cls(
            passes,
            refine_probe,
            first + 1 if asked else PROBE_FROM_PASS,
            modes=modes,
            passes_with_probe=passes_with_probe,
            first_batches=2 * FIRST_BATCHES if unasked and passes > 2 else FIRST_BATCHES,
            momentum=0.0 if unasked else automatic_momentum(dose, passes),
            prior=automatic_prior(dose) if prior is None else prior,
            refine_positions=refine_positions,
            wavefront=wavefront,
            background=background,
            intensity=intensity,
            learned_step=learned_step == 'on' or (learned_step == 'auto' and gains_by_learned_step(dose, overlap)),
            seed=seed,
        )

    def batches(self, n_patterns: int) -> int:
        """Batches of the first pass for a scan of `n_patterns`."""
        first = min(self.first_batches, BATCHES_A_PASS * self.passes)  # few passes must not end on many batches
        return min(first, max(1, n_patterns // SMALLEST_BATCH))

    def schedule(self, n_patterns: int) -> list[int]:
        """Number of batches of each pass for a scan of `n_patterns`."""
        most = self.batches(n_patterns)
        last = min(most, 1 if self.passes > 2 else 2)
        held = round(HOLD * self.passes) if self.refine_probe and self.passes > self.probe_from_pass else 1
        falls = self.passes - held
        tail = [max(1, round(most * (last / most) ** (t / falls))) for t in range(1, falls + 1)]
        return [most] * min(held, self.passes) + tail

    def step(self, number: int) -> ObjectStep:
        """How the batches of pass `number` (from 1) move the object: momentum keeps noise, so that it ends before."""
        left = 1 - (number - 1) / (self.passes - 1) if self.passes > 1 else 0.0
        shaping = number <= max(2, SHAPING * self.passes)
        momentum = min(self.momentum, MOMENTUM[0]) if shaping else self.momentum
        return ObjectStep(momentum * min(1.0, left / FADING))

    def alignment_passes(self, prepared: PreparedScan, probe: NDArray[np.complex64]) -> int:
        """Passes after which an object shows whether the positions must be turned, sheared or scaled as a whole."""
        overlap = scan_overlap(prepared.positions, probe)
        settled = automatic_passes(overlap, from_network=False, more=False) // 2
        return settled + (SETTLING_PASSES if self.refine_probe else 0)

    def with_probe(self, passes: int, *, known: bool) -> RefineOptions:
        """The same for as many passes more, with a probe that is to be improved and is about known by now, or not."""
        # Less momentum than a probe that is known allows: measured .1 to .3 dB better with three modes.
        return replace(
            self,
            passes=passes,
            refine_probe=True,
            probe_from_pass=1,
            modes=0,
            momentum=min(self.momentum, MOMENTUM[0]) if known else 0.0,
            first_batches=FIRST_BATCHES if known else 2 * FIRST_BATCHES,
        )

    def solves_wavefront(self, number: int) -> bool:
        """Whether the long-range phase is solved for after pass `number` (from 1): not before a probe has settled."""
        # Just before the last one it would cost as much as a pass, for .02 to .14 dB of phase; not so the first time.
        power_of_two = number & (number - 1) == 0 and (number == 1 or number + 1 < self.passes)
        return self.wavefront and (number == self.passes or (self.settled(number) and power_of_two))

    def settled(self, number: int) -> bool:
        """Whether the probe is known by the end of pass `number` (from 1)."""
        return not self.refine_probe or number >= self.probe_from_pass + SETTLING_PASSES


def automatic_passes(overlap: float, *, from_network: bool, more: bool) -> int:
    """Passes for an overlap, from a network's object or an empty one; `more`: probe or positions are refined too.

    The phases of neighbors are tied the more loosely, and come together the more slowly, the less their spots overlap.
    """
    least, most = (5, 12) if from_network else (12, 60)
    sparse = min(1.0, max(0.0, (WELL_TIED - overlap) / (WELL_TIED - LOOSE)))
    passes = round(least * math.exp(sparse * math.log(most / least)))
    return max(passes, WITH_PROBE) if more else passes


def automatic_momentum(dose: float, passes: int) -> float:
    """Momentum for a dose in counts per object pixel; few passes could not average away the noise that it keeps."""
    least, most = MOMENTUM
    most = max(least, min(most, 1 - HORIZON / max(passes, 1)))
    return least + (most - least) / (1 + SCARCE / max(dose, 1e-12))


def automatic_prior(dose: float) -> float:
    """Strength of the prior for a dose in counts per object pixel."""
    return 1 / (1 + SCARCE / max(dose, 1e-12))


def gains_by_learned_step(dose: float, overlap: float) -> bool:
    """Whether a learned step is measured to gain at a dose in counts per object pixel and an overlap."""
    least, most = LOOSE_DOSES if overlap <= LOOSELY_TIED else (0.0, LEARNED_DOSE)
    return least <= dose <= most
