"""A probe from the patterns alone: its pupil's amplitude from their mean, its defocus from short trials.

| symbol | meaning                                                                  | unit                          |
|--------|--------------------------------------------------------------------------|-------------------------------|
| q      | spatial frequency of a detector pixel                                    | cycles / pixel                |
| A      | amplitude of the pupil: the square root of the mean pattern              | sqrt(counts)                  |
| z      | defocus: the probe is F^-1 A exp(i pi z q^2)                             | pi rad at one cycle per pixel |

The object spreads light on the detector, but most of the mean pattern is the pupil itself, so that what is unknown of a
focused probe is above all one number, z, with its sign. Each z whose spot fits the window is tried on a few patterns
next to each other, where they differ most: an empty object and the probe are fitted to them in a few passes. A wrong
z leaves two to four times the misfit of the right one, and one that is wrong by 2 rad at the pupil's edge still leads
there, so that the z are tried in steps of that size and the best few are tried further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

from ..counting_noise import expected_residual
from ..geometry import Layout
from ..prepare import PreparedScan
from ..probes import energy_diameter
from ..scaling import probe_power
from .batches import even_sampling
from .modes import HOPELESS, Modes
from .update import BLEND, Engine, ObjectStep

SAMPLED, CHUNK = 256, 16  # patterns whose mean is taken, and at a time
TRIED = 64  # patterns of a trial
NEIGHBORS = 8  # patterns that say how much those of a place differ from the mean
PUPIL = 0.2  # of the largest amplitude: less is light that the object has spread
STEP = 0.9  # rad rms of the pupil's phase from one defocus to the next: half as much does not matter
LARGEST = 0.9  # of the window, the diameter of a probe
TOLERATED = 0.8  # of the noise of the mean pattern, above that of the patterns; early passes leave more
MOST = 60  # steps of defocus to either side
BATCHES = 12  # of a pass of a trial
FIRST, FURTHER, FINALISTS = 2, 3, 3  # passes of each trial, those that the best make more, and how many these are
BETTER = 0.75  # of the misfit beyond noise that the given probe leaves, which another one must not exceed


def search_probe(engine: Engine, given: Modes, listen: Callable[[], None]) -> Modes | None:
    """A probe (1, N, N) that explains the patterns of an engine much better than `given`; None: there is none.

    `listen` is called often, and may raise. In the near field no pattern tells of a pupil.
    """
    if engine.prepared.scan.fresnel_number is not None:
        return None
    part = compact_part(engine.prepared, varied_patterns(engine.prepared))
    candidates = [given, *defocused_probes(mean_pupil(engine.prepared), probe_power(given))]
    trials = [_Trial.begin(engine, part, probe, listen) for probe in candidates]
    finalists = {id(trial): trial for trial in (trials[0], *sorted(trials, key=_misfit_of)[:FINALISTS])}.values()
    for trial in finalists:
        trial.run(FURTHER, listen)
    best = min(finalists, key=_misfit_of)
    noise = counting_noise(part, np.arange(len(part)))
    return best.engine.probe if best.misfit - noise < BETTER * (trials[0].misfit - noise) else None


def is_hopeless(prepared: PreparedScan, residual: float) -> bool:
    """Whether a pass has left so much beyond counting noise that its probe is not understood at all."""
    return residual > HOPELESS and residual > HOPELESS + TOLERATED * counting_noise(prepared, _sample(prepared))


def counting_noise(prepared: PreparedScan, index: NDArray[np.int64]) -> float:
    """Residual per count that counting noise leaves of the patterns at `index`, from their mean."""
    mean = np.asarray(sum(counts.sum(axis=0, dtype=np.float64) for _, counts in _counts(prepared, index)) / len(index))
    lit = mean[prepared.good]
    return float(expected_residual(lit).sum() / max(float(lit.sum()), 1e-12))


def mean_pupil(prepared: PreparedScan) -> NDArray[np.float64]:
    """A (N, N): the square root of the mean pattern, without the dim light that the object has spread."""
    index = _sample(prepared)
    total = sum(counts.sum(axis=0, dtype=np.float64) for _, counts in _counts(prepared, index))
    amplitude = np.sqrt(total * prepared.good / len(index))
    return np.where(amplitude < PUPIL * np.quantile(amplitude, 0.99), 0.0, amplitude)


def defocused_probes(pupil: NDArray[np.float64], power: float) -> list[Modes]:
    """Probes (1, N, N) of a pupil (N, N) in and out of focus, both ways, as far as they fit the window."""
    side = len(pupil)
    q = (np.arange(side) - side // 2) / side
    q2 = q[:, None] ** 2 + q**2
    weight = pupil**2 / (pupil**2).sum()
    spread = np.sqrt(max(float((weight * q2**2).sum() - (weight * q2).sum() ** 2), side**-4.0))
    found: list[Modes] = []
    for number in range(MOST + 1):
        phase = number * STEP / spread * q2
        pair = [_from_pupil(pupil * np.exp(1j * sign * phase), power) for sign in ((1, -1) if number else (1,))]
        if number and energy_diameter(pair[0]) > LARGEST * side:
            break
        found += pair
    return found


def varied_patterns(prepared: PreparedScan) -> NDArray[np.int64]:
    """The `TRIED` patterns next to each other about the place where patterns differ most from their mean."""
    index = _sample(prepared)
    roots = sum(np.sqrt(counts).sum(axis=0, dtype=np.float64) for _, counts in _counts(prepared, index))
    mean = roots / len(index)
    differing = np.concatenate(
        [((np.sqrt(counts) - mean) ** 2 * prepared.good).sum(axis=(1, 2)) for _, counts in _counts(prepared, index)]
    )
    places = prepared.positions[index]
    _, near = cKDTree(places).query(places, k=[*range(1, min(NEIGHBORS, len(places)) + 1)])
    middle = places[np.argmax(differing[near].mean(axis=1))]
    _, chosen = cKDTree(prepared.positions).query(middle, k=[*range(1, min(TRIED, len(prepared)) + 1)])
    return np.sort(chosen).astype(np.int64)


def compact_part(prepared: PreparedScan, index: NDArray[np.int64]) -> PreparedScan:
    """The patterns at `index` alone, on a canvas that is no larger than they need."""
    part = prepared.part(index)
    corners = part.layout.corners - part.layout.corners.min(axis=0)
    height, width = (int(size) for size in corners.max(axis=0) + prepared.n_pixels)
    return replace(part, layout=Layout(corners, part.layout.fractions, part.layout.origin, (height, width)))


@dataclass(eq=False)
class _Trial:
    """An engine that begins with a probe and an empty object, and the misfit that it leaves."""

    engine: Engine
    misfit: float = np.inf
    passes: int = 0

    @classmethod
    def begin(cls, engine: Engine, part: PreparedScan, probe: Modes, listen: Callable[[], None]) -> _Trial:
        """A trial with its first passes made."""
        empty = engine.arrays.xp.zeros_like(engine.canvas[: part.layout.shape[0], : part.layout.shape[1]]) + 1
        trial = cls(Engine(part, empty, probe, engine.step, blend=BLEND))
        trial.run(FIRST, listen)
        return trial

    def run(self, passes: int, listen: Callable[[], None]) -> None:
        """Make so many passes; the probe is held in the first of all, which finds a first object."""
        prepared, generator = self.engine.prepared, np.random.default_rng(self.passes)
        for _ in range(passes):
            for batch in even_sampling(prepared.positions, min(BATCHES, len(prepared)), generator):
                listen()
                self.engine.update(batch, ObjectStep(), with_probe=self.passes > 0)
            self.passes += 1
        misfit = self.engine.measure_misfit(np.arange(len(prepared)))
        self.misfit = misfit if np.isfinite(misfit) else np.inf


def _misfit_of(trial: _Trial) -> float:
    return trial.misfit


def _from_pupil(pupil: NDArray[np.complex128], power: float) -> Modes:
    probe = fft.fftshift(fft.ifft2(fft.ifftshift(pupil)))
    return np.asarray(probe * np.sqrt(power / np.sum(np.abs(probe) ** 2)), dtype=np.complex64)[None]


def _sample(prepared: PreparedScan) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, len(prepared) - 1, SAMPLED).astype(np.int64))


def _counts(
    prepared: PreparedScan, index: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The patterns at `index` in chunks: their indices, and counts (b, N, N)."""
    for part in np.array_split(index, -(-len(index) // CHUNK)):
        yield part, prepared.counts(part)
