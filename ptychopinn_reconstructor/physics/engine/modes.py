"""Incoherent modes of a probe: made orthogonal, and added where the patterns ask for them.

| symbol | meaning                                                              | unit         |
|--------|----------------------------------------------------------------------|--------------|
| P      | modes of the probe (m, N, N)                                         | sqrt(counts) |
| G      | Gram matrix P P^H (m, m) = V diag(power) V^H                         | counts       |
| E      | misfit of patterns that were held out, per count                     | 1            |

Only sum_m P_m(x) conj(P_m(y)) can be measured, which any unitary mixing of the modes leaves as it is; V^H P is the one
whose modes are orthogonal, the strongest first.

A mode of no power has no gradient, so that a new one begins with a share of the power: the first mode times the next
product of Hermite polynomials, as a partially coherent beam has it. Whether it stays is decided with the object held:
the probe is fitted to one part of the patterns, and E of another part must fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..illumination import illuminated_area
from ..probes import probe_modes
from ..scaling import probe_power
from .residuals import residuals_there
from .update import Engine

Modes = NDArray[np.complex64]

NEW_SHARE = 0.1  # of the power, of a mode that begins
FITTED, HELD_OUT = 48, 48  # patterns of a trial
STEPS = 4  # of the probe in a trial, for each number of modes
# Of the misfit of the held-out patterns beyond counting noise, by which a probe that was fitted to others lowers it:
# in shape, and by one mode more. Measured where the probe is right, whatever else is wrong: below .07, and below .01.
GAIN, GAIN_OF_MODE = 0.08, 0.035
# In units of counting noise, and beyond it per count: below either there is nothing that a probe could explain.
MISFIT, EXCESS = 2.0, 0.012
HOPELESS = 0.12  # per count: a probe that leaves so much is not understood at all, and modes would hide that
EARLIEST, SHARE = 3, 1 / 4  # passes, and their share, that make an object which a probe can be judged with
FALLING = 0.65  # of the residual one pass before
FEWEST_PATTERNS = 64  # of fewer too little can be held out
FEWEST, LEFT = 2, 3  # passes at least before, and after: in fewer a new probe comes to nothing
SMOOTHED = 5  # pixels: the transmission of single ones is noise
WELL_LIT = 0.3  # of the typical illumination
MOST = 6  # modes that are added without being asked for


def orthogonalize(probe: Modes) -> Modes:
    """Orthogonal modes (m, N, N) of the same mutual intensity, the strongest first."""
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    _, vectors = np.linalg.eigh(flat @ flat.conj().T)
    return np.asarray((vectors[:, ::-1].conj().T @ flat).reshape(probe.shape), dtype=np.complex64)


def add_mode(probe: Modes) -> Modes:
    """A probe (m, N, N) with one mode more, which begins with `NEW_SHARE` of the power; the total is held."""
    count = len(probe) + 1
    shape = probe_modes(probe[0], count)[-1].ravel()
    known = np.linalg.qr(probe.reshape(len(probe), -1).T.astype(np.complex128))[0]
    shape = shape - known @ (known.conj().T @ shape)
    power = probe_power(probe)
    new = shape.reshape(probe.shape[1:]) * np.sqrt(NEW_SHARE * power / np.sum(np.abs(shape) ** 2))
    return np.concatenate([probe * np.float32(np.sqrt(1 - NEW_SHARE)), new[None].astype(np.complex64)])


def set_number(probe: Modes, number: int) -> Modes:
    """The probe with so many modes: weakest ones left out, new ones added, the total power held."""
    kept = orthogonalize(probe)[:number] if number < len(probe) else probe
    kept = np.asarray(kept * np.sqrt(probe_power(probe) / probe_power(kept)), dtype=np.complex64)
    while len(kept) < number:
        kept = add_mode(kept)
    return kept


def brightest_amplitude(canvas: NDArray[np.complex64], light: NDArray[np.float32]) -> float:
    """abs(O) of a canvas (H, W), smoothed, that a hundredth of its well lit area exceeds; `light` (H, W) in counts.

    1 where some part of the object is clear: more says that the probe has less power than the beam had.
    """
    intensity = ndimage.uniform_filter(canvas.real**2 + canvas.imag**2, SMOOTHED)
    return float(np.sqrt(np.quantile(intensity[illuminated_area(light, WELL_LIT)], 0.99)))


def first_asked(passes: int, *, refined: bool) -> int:
    """The first pass of `passes` after which the patterns may be asked for the probe; `refined`: it moves anyway."""
    return min(EARLIEST if refined else max(EARLIEST, round(SHARE * passes)), passes - LEFT)


def asks_after(residuals: Sequence[float], passes: int, *, refined: bool) -> bool:
    """Whether the patterns are to be asked for the probe after passes with these residuals, of `passes`.

    While the residual falls fast it is the object that the misfit is of.
    """
    number = len(residuals)
    enough = max(first_asked(passes, refined=refined), FEWEST) <= number <= passes - LEFT
    return enough and residuals[-1] > FALLING * residuals[-2]


def find_modes(engine: Engine, residual: float) -> Modes | None:
    """The probe (modes, N, N) that the patterns ask for instead of the engine's; None where they ask for none.

    `residual` is that of the last pass, per count. The engine's own probe stays as it is.
    """
    count = len(engine.prepared)
    if count < FEWEST_PATTERNS or residual < EXCESS:
        return None
    sample = np.unique(np.linspace(0, count - 1, min(FITTED + HELD_OUT, count)).astype(np.int64))
    trial = Trial(engine, sample[::2], sample[1::2])
    if residual < max(MISFIT * trial.noise, trial.noise + EXCESS):
        return None
    return trial.run(MOST if residual < HOPELESS else 0)


@dataclass(frozen=True, eq=False)
class Trial:
    """Fits the probe of an engine to the patterns at `fitted`, the object held, and judges it by those at `judged`."""

    engine: Engine
    fitted: NDArray[np.int64]
    judged: NDArray[np.int64]

    @cached_property
    def noise(self) -> float:
        """What counting noise alone makes of the misfit of the judged patterns, per count."""
        engine, part = self.engine, self.engine.prepared.part(self.judged)
        found = residuals_there(part, engine.canvas, engine.probe, arrays=engine.arrays)
        return float(found.lit_noise.sum() / max(float(found.counts.sum()), 1.0))

    def run(self, most: int) -> Modes | None:
        """The probe with the fewest modes, up to `most`, that one more would hardly better; None: the engine's own."""
        given = self.engine.probe
        try:
            return self._grow(given, most)
        finally:
            self.engine.set_probe(given)

    def _grow(self, given: Modes, most: int) -> Modes | None:
        best, misfit = None, self._misfit()
        for number in range(len(given), max(most, len(given)) + 1):
            if number > len(given):
                self.engine.set_probe(add_mode(self.engine.probe))
            for _ in range(STEPS):
                self.engine.update_probe(self.fitted)
            found = self._misfit()
            least = GAIN if number == len(given) else GAIN_OF_MODE
            if misfit - found > least * max(misfit - self.noise, 0.0):
                best, misfit = orthogonalize(self.engine.probe), found
            elif number > len(given):  # what is too coherent may already be as good as that many modes can be
                break
        return best

    def _misfit(self) -> float:
        return self.engine.measure_misfit(self.judged)
