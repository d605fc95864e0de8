"""The classical engine: one minibatch step of ptychographic phase retrieval on a shared canvas.

Per pattern: exit wave psi = P_f O_r, far field Psi = F psi, correction g Psi (engine_step), back to d = F^-1 g Psi.
Per batch: O += sum conj(P_f) d / ((1 - b) W + b max(W) + tau) with W = sum abs(P_f)^2, and likewise
P += sum shift_-f(conj(O_r) d) / ((1 - b) V + b max(V)) with V = sum abs(O_r)^2, the power of P then set back to what
it was. b is the blend of rPIE (Maiden, Johnson, Li, Optica 4, 736 (2017)); tau, in counts, is the precision of what is
known beforehand: where a pixel has seen fewer photons than that, the step shrinks instead of following the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .coverage import illumination
from .engine_phase import LongRangePhase
from .engine_step import FarFieldStep
from .geometry import fourier_shift, patch_slice, scatter_patches, shift_ramp
from .positions import Displacements, motion
from .prepare import PreparedScan
from .scaling import probe_power

BLEND = 0.1  # b
PRIOR_COUNTS = 50.0  # tau
BLOCK_PIXELS = 65536  # complex pixels worked on at a time: half a megabyte, so that a block stays in the cache


@dataclass(eq=False)
class Sums:
    """What a batch adds up: object numerator and weight (H, W), those of the probe (a spectrum), misfit, counts.

    `motion` holds for each block the index of its patterns, and b and H of their positions (see `positions`).
    """

    object: NDArray[np.complex64]
    weight: NDArray[np.float32]
    probe: NDArray[np.complex64]
    probe_weight: NDArray[np.float32]
    error: float = 0.0
    counts: float = 0.0
    motion: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)


@dataclass(eq=False)
class Engine:
    """State of a refinement: canvas (H, W), probe (modes, N, N) in sqrt(counts), velocity; `update` advances it.

    `damping` is tau, in counts; `illumination` (H, W) what the whole scan's probe brings to each pixel, in counts.
    `displacements` of the positions from the scan's; None: they are taken as they are.
    """

    prepared: PreparedScan
    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    step: FarFieldStep
    damping: float = PRIOR_COUNTS
    displacements: Displacements | None = None
    velocity: NDArray[np.complex64] = field(init=False)
    illumination: NDArray[np.float32] = field(init=False)
    phase: LongRangePhase = field(init=False)

    def __post_init__(self) -> None:
        self.canvas = np.array(self.canvas, dtype=np.complex64)
        self.velocity = np.zeros_like(self.canvas)
        self._power = probe_power(self.probe)
        self._center = center_of(self.probe)
        self.set_probe(self.probe)
        self.measure_illumination()

    def set_probe(self, probe: NDArray[np.complex64]) -> None:
        """Take another probe, scaled to the power that the engine started with."""
        scale = np.sqrt(self._power / probe_power(probe))
        self.probe = (probe * np.float32(scale)).astype(np.complex64)
        # A spectrum with its zero frequency in the middle is that of P (-1)^(x + y), whose far field is centered too.
        self._spectrum = fft.fftshift(fft.fft2(self.probe), axes=(-2, -1))

    def center_probe(self) -> None:
        """Shift the probe back to the center that it had at first: moving, it takes the object along, unseen."""
        self.set_probe(fourier_shift(self.probe, (self._center - center_of(self.probe))[None]))

    def measure_illumination(self) -> None:
        """Fit the long-range phase step to the probe of now."""
        self.illumination = illumination(self.prepared.layout, self.probe)
        self.phase = LongRangePhase.for_probe(self.probe, self.illumination)

    def update(
        self,
        index: NDArray[np.int64],
        *,
        momentum: float,
        long_range: float,
        with_probe: bool,
        with_positions: bool = False,
        after_block: Callable[[int], None] | None = None,
    ) -> tuple[float, float]:
        """One step on the patterns at `index`; their misfit before it and their counts.

        `after_block` hears how many patterns of the batch are done; an exception of it leaves everything as it was.
        """
        sums = self._accumulate(index, with_probe, with_positions, after_block)
        self._update_object(sums, momentum, long_range)
        if with_probe:
            self._update_probe(sums)
        if self.displacements is not None:
            for part, slope, curvature in sums.motion:
                self.displacements.step(part, slope, curvature)
        return sums.error, sums.counts

    def _accumulate(
        self,
        index: NDArray[np.int64],
        with_probe: bool,
        with_positions: bool,
        after_block: Callable[[int], None] | None,
    ) -> Sums:
        canvas, probe, side = self.canvas, self.probe, self.probe.shape[-1]
        weights = (np.zeros(canvas.shape, np.float32), np.zeros((side, side), np.float32))
        sums = Sums(np.zeros_like(canvas), weights[0], np.zeros_like(probe), weights[1])
        done = 0
        for block in self._blocks(index):
            self._add_block(sums, block, with_probe, with_positions)
            done += len(block)
            if after_block is not None:
                after_block(done)
        return sums

    def _blocks(self, index: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        size = max(1, BLOCK_PIXELS // self.probe.size)
        return (index[i : i + size] for i in range(0, len(index), size))

    def _add_block(self, sums: Sums, index: NDArray[np.int64], with_probe: bool, with_positions: bool) -> None:
        side, corners = self.probe.shape[-1], self.prepared.layout.corners[index]
        ramp = fft.fftshift(shift_ramp(self._fractions(index), side), axes=(-2, -1))[:, None]
        probe = fft.ifft2(self._spectrum * ramp, overwrite_x=True)
        patches = np.stack([self.canvas[patch_slice(corner, side)] for corner in corners])[:, None]
        wave = fft.fft2(probe * patches, norm='ortho', overwrite_x=True)
        counts = self.prepared.counts(index)
        predicted = (wave.real**2 + wave.imag**2).sum(axis=1)
        correction = self.step(counts, predicted)
        sums.error += correction.error
        sums.counts += float(counts.sum(dtype=np.float64))
        if with_positions:
            moved = self._moved(self._spectrum * ramp, patches)
            sums.motion.append((index, *motion(wave, moved, counts, predicted, self.step.good)))
        wave *= correction.factor[:, None]
        wave = fft.ifft2(wave, norm='ortho', overwrite_x=True)
        if with_probe:
            sums.probe += (fft.fft2(wave * patches.conj()) * ramp.conj()).sum(axis=0)
            sums.probe_weight += (patches.real**2 + patches.imag**2).sum(axis=(0, 1))
        wave *= probe.conj()
        scatter_patches(sums.object, wave.sum(axis=1), corners)
        scatter_patches(sums.weight, (probe.real**2 + probe.imag**2).sum(axis=1), corners)

    def _fractions(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        own = self.prepared.layout.fractions[index]
        return own if self.displacements is None else own + self.displacements.values[index]

    def _moved(self, spectrum: NDArray[np.complex64], patches: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """The derivative of the far field by the position, (b, 2, modes, N, N), of probes with these spectra."""
        k = fft.fftshift(fft.fftfreq(spectrum.shape[-1])).astype(np.float32)
        parts = [fft.ifft2(np.complex64(-2j * np.pi) * axis * spectrum) for axis in (k[:, None], k)]
        return np.asarray(fft.fft2(np.stack([part * patches for part in parts], axis=1), norm='ortho'))

    def _update_object(self, sums: Sums, momentum: float, long_range: float) -> None:
        damped = np.float32(1 - BLEND) * sums.weight + np.float32(BLEND * sums.weight.max() + self.damping)
        update = sums.object / damped
        if long_range:
            update += np.complex64(1j * long_range) * self.phase.rotation(update, self.canvas) * self.canvas
        if not momentum:
            self.canvas += update
            return
        self.velocity *= np.float32(momentum)
        self.velocity += update
        self.canvas += update + np.float32(momentum) * self.velocity

    def _update_probe(self, sums: Sums) -> None:
        weight = sums.probe_weight
        damped = np.float32(1 - BLEND) * weight + np.float32(BLEND * weight.max())
        update = fft.ifft2(fft.ifftshift(sums.probe, axes=(-2, -1)))
        self.set_probe((self.probe + update / damped).astype(np.complex64))


def center_of(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Center of mass [row, col] of sum abs(P)^2 of a probe (modes, N, N), pixels."""
    intensity = (np.abs(probe) ** 2).sum(axis=0, dtype=np.float64)
    x = np.arange(probe.shape[-1])
    return np.asarray([intensity.sum(axis=1) @ x, intensity.sum(axis=0) @ x]) / float(intensity.sum())
