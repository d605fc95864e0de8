"""Procedural diffraction patterns with their labels, drawn on the fly: what a pretraining learns from.

Objects of random kinds (objects.random_object) lie in a pool that moves on slowly: each step draws from a few of them,
turned and mirrored at random, under the instrument's own probe, with its counting statistics. The truth is known, so
learning is supervised; a network trained so has seen no sample in particular, and every sample of the instrument.

Everything is drawn from (seed, number of the step) and (seed, number of the object) alone: the same in every run,
process and backend, whatever was drawn before.

| symbol | meaning                                                          | unit               |
|--------|------------------------------------------------------------------|--------------------|
| P      | probe, its power that of dose 1, (modes, N, N)                   | sqrt(counts)       |
| d      | dose: photons incident per pattern in units of sum abs(P)^2      | 1, log-uniform     |
| I      | counts, drawn from Poisson(d abs(F P_f O)^2)                     | counts             |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..forward import diffract
from ..geometry import fourier_shift, gather_patches
from ..scaling import InputScaler, NetworkInput, crop_support
from .objects import random_object

OBJECT_SIZE = 3  # side of an object in units of N
POOL = 32  # objects that are in use at a time
OBJECTS_A_STEP = 4  # so many of them in one step
STEPS_AN_OBJECT = 8  # after which the oldest of the pool makes room for a new one


class Drawn(NamedTuple):
    """b patterns: counts (b, N, N), network input, labels (b, n, n) in the probe's frame, fractions (b, 2), dose."""

    counts: NDArray[np.float32]
    input: NetworkInput
    labels: NDArray[np.complex64]
    fractions: NDArray[np.float32]
    dose: float


@dataclass(frozen=True, eq=False)
class ProceduralPatterns:
    """Patterns of procedural objects under one instrument.

    `probe` (modes, N, N) in sqrt(counts), `doses` the range of d, `bad_pixels` (N, N) True where the detector is bad,
    `patch_size` the side n of a label (None: N/2).
    """

    probe: NDArray[np.complex64]
    doses: tuple[float, float] = (1.0, 1.0)
    bad_pixels: NDArray[np.bool_] | None = None
    seed: int = 0
    patch_size: int | None = None
    _pool: dict[int, NDArray[np.complex64]] = field(default_factory=dict, init=False, repr=False)

    @property
    def n_pixels(self) -> int:
        """Side N of a pattern."""
        return int(self.probe.shape[-1])

    def draw(self, step: int, count: int, chosen: range | None = None) -> Drawn:
        """The `chosen` of `count` patterns of step number `step`, all of one dose; those of others cost nothing."""
        chosen = range(count) if chosen is None else chosen
        rng = np.random.default_rng([self.seed, 1, step])
        dose = float(np.exp(rng.uniform(*np.log(self.doses))))
        parts = np.array_split(np.arange(count), min(OBJECTS_A_STEP, count))
        patches = np.concatenate([self._windows(rng, step, parts, part, chosen) for part in range(len(parts))])
        fractions = rng.uniform(-0.5, 0.5, (count, 2))[chosen]
        counts = self._count_photons(step, chosen, dose * diffract(self.probe, patches, fractions))
        if self.bad_pixels is not None:
            counts[:, self.bad_pixels] = 0
        scaler = self._scaler(dose)
        labels = crop_support(fourier_shift(patches, -fractions), scaler.support).astype(np.complex64)
        return Drawn(counts, scaler.counts_to_input(counts), labels, fractions.astype(np.float32), dose)

    def object(self, number: int) -> NDArray[np.complex64]:
        """Object `number`, (3 N, 3 N)."""
        side = OBJECT_SIZE * self.n_pixels
        return random_object(np.random.default_rng([self.seed, 0, number]), (side, side))

    def _count_photons(self, step: int, chosen: range, expected: NDArray[Any]) -> NDArray[np.float32]:
        """Counts (b, N, N); each pattern has noise of its own number, whichever are drawn together."""
        rngs = (np.random.default_rng([self.seed, 3, step, number]) for number in chosen)
        return np.stack([rng.poisson(one) for rng, one in zip(rngs, expected, strict=True)]).astype(np.float32)

    def _windows(
        self, rng: Generator, step: int, parts: Sequence[NDArray[np.int64]], part: int, chosen: range
    ) -> NDArray[np.complex64]:
        """Windows (b, N, N) of one object of the pool, all turned and mirrored alike, for the chosen of a part.

        Each part of a step has objects of its own, so that processes that share the steps share the drawing of objects.
        """
        first, groups = step // STEPS_AN_OBJECT, len(parts)
        number = first + (part - first) % groups + groups * int(rng.integers(POOL // groups))
        turns, mirrored, side = int(rng.integers(4)), rng.random() < 0.5, OBJECT_SIZE * self.n_pixels
        corners = rng.integers(0, side - self.n_pixels + 1, (len(parts[part]), 2))[np.isin(parts[part], chosen)]
        if not len(corners):
            return np.zeros((0, self.n_pixels, self.n_pixels), dtype=np.complex64)
        turned = np.rot90(self._pooled(number, step), turns)
        return gather_patches(turned.T if mirrored else turned, corners, self.n_pixels)

    def _pooled(self, number: int, step: int) -> NDArray[np.complex64]:
        if number not in self._pool:
            for old in [key for key in self._pool if not 0 <= key - step // STEPS_AN_OBJECT < POOL]:
                del self._pool[old]
            self._pool[number] = self.object(number)
        return self._pool[number]

    def _scaler(self, dose: float) -> InputScaler:
        probe = (self.probe * np.float32(np.sqrt(dose))).astype(np.complex64)
        return InputScaler(probe, self.bad_pixels, self.patch_size)
