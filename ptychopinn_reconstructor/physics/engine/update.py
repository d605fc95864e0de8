"""The classical engine: one minibatch step of ptychographic phase retrieval on a shared canvas.

Per pattern: exit wave psi = P_f O_r, at the detector Psi = F psi, correction g Psi (far_field_step), back to
d = F^-1 g Psi; in the near field F is another unitary transform (`propagation`).
Per batch: O += sum conj(P_f) d / ((1 - b) W + b max(W) + tau) with W = sum abs(P_f)^2, and likewise
P += sum shift_-f(conj(O_r) d) / ((1 - b) V + b max(V)) with V = sum abs(O_r)^2, the power of P then set back to what
it was. b is the blend of rPIE (Maiden, Johnson, Li, Optica 4, 736 (2017)); tau, in counts, is the precision of what is
known beforehand: where a pixel has seen fewer photons than that, the step shrinks instead of following the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..arrays import Array, Arrays, row_bands, sum_axis
from ..geometry import fourier_shift
from ..illumination import illumination
from ..prepare import PreparedScan, even_batches
from ..processes import own_blocks
from ..propagation import Propagator
from ..scaling import probe_power
from .detector import DetectorSums, add_background, scale_beam
from .far_field_step import FarFieldStep
from .positions import Displacements, displace_scan, displacement_gradient
from .sums import Sums
from .varying_probe import LackingProbes, VaryingProbe, VaryingSums

BLEND = 0.1  # b of the probe, and of the object while the probe, wrong at first, is refined
OBJECT_BLEND = 0.01  # b of the object: more holds back all that a probe with a bright spot lights dimly
LEAST_SEEN = 1e-12  # share of Newton's step: a batch without any light
LIT = 0.05  # of the largest illumination: dimmer pixels of the object may not outshine the others
PRIOR_COUNTS = 50.0  # tau
LEAST_POWER = 0.5  # of all, of the probe's mean where it varies


@dataclass(frozen=True)
class ObjectStep:
    """How a batch moves the object: momentum, and the gain of its step."""

    momentum: float = 0.0
    gain: float = 1.0


@dataclass(eq=False)
class Engine:
    """State of a refinement: canvas (H, W), probe (modes, N, N) in sqrt(counts), velocity; `update` advances it.

    Canvas and velocity are on the device of `arrays`, and so is all that is computed for each pattern; what is as small
    as a probe, or done once a pass, is numpy. `damping` is tau, in counts, `blend` b; `illumination` (H, W) what the
    whole scan's probe brings to each pixel, in counts. `displacements` of the positions from the scan's; None: as they
    are. The scan may come to have a background and an intensity, for which `detector` gathers what
    the patterns say; None: nothing.
    """

    prepared: PreparedScan
    canvas: Array
    probe: NDArray[np.complex64]
    step: FarFieldStep
    damping: float = PRIOR_COUNTS
    blend: float = OBJECT_BLEND
    displacements: Displacements | None = None
    detector: DetectorSums | None = None
    velocity: Array = field(init=False)
    illumination: NDArray[np.float32] = field(init=False)
    varying: VaryingProbe | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.canvas = self.arrays.put(np.array(self.canvas, dtype=np.complex64))
        self.velocity = self.arrays.xp.zeros_like(self.canvas)
        self._power = probe_power(self.probe)
        self._center = center_of(self.probe)
        self.take_variation()
        self.set_probe(self.probe)
        self.measure_illumination()

    @property
    def arrays(self) -> Arrays:
        """Where the engine runs: where its far-field step does."""
        return self.step.arrays

    @property
    def placed(self) -> PreparedScan:
        """The scan with the positions as they are by now."""
        moved = self.displacements
        return self.prepared if moved is None else displace_scan(self.prepared, moved.values)

    def set_probe(self, probe: NDArray[np.complex64]) -> None:
        """Take another probe, scaled to the power that the engine started with."""
        varying = 0.0 if self.varying is None else self.varying.power
        scale = np.sqrt(max(self._power - varying, LEAST_POWER * self._power) / probe_power(probe))
        self.probe = (probe * np.float32(scale)).astype(np.complex64)
        if self.varying is not None:
            self.varying.hold_power(self.probe[0])
        # A spectrum with its zero frequency in the middle is that of P (-1)^(x + y), whose far field is centered too.
        self._spectrum = self.arrays.put(fft.fftshift(fft.fft2(self.probe), axes=(-2, -1)))

    def take_variation(self) -> None:
        """Let the probe vary as the scan's does, or not at all."""
        found = self.prepared.variation
        self.varying = None if found is None else VaryingProbe(found, self.arrays)
        if self.varying is not None:
            self.varying.hold_power(self.probe[0])

    def replace_probe(self, probe: NDArray[np.complex64]) -> None:
        """Take a probe that has nothing to do with the one before: it is held where it is."""
        self._center = center_of(probe)
        self.set_probe(probe)
        self.measure_illumination()

    def scale_power(self, factor: float) -> None:
        """Change the power of the probe, which is held otherwise."""
        self._power *= factor
        self.set_probe(self.probe)
        self.measure_illumination()

    def center_probe(self) -> None:
        """Shift the probe back to the center that it had at first: moving, it takes the object along, unseen.

        Not in the near field, which is where the probe is.
        """
        if self.prepared.kernel is not None:
            return
        offset = (self._center - center_of(self.probe))[None]
        self.set_probe(fourier_shift(self.probe, offset))
        if self.varying is not None:
            self.varying.set_components(fourier_shift(self.varying.components, offset))

    def measure_illumination(self) -> None:
        """What the probe of now brings to each pixel."""
        light = self.probe if self.varying is None else np.concatenate([self.probe, self.varying.components])
        self.illumination = illumination(self.prepared.layout, light, self.arrays)
        self._lit = self.arrays.put(self.illumination > LIT * self.illumination.max())

    def limit_amplitude(self) -> None:
        """Take back what no count can have asked for: abs(O) above what the brightest pattern would allow if all of it
        came from the brightest pixel of the probe, and pixels in hardly any light that outshine those in full light."""
        xp = self.arrays.xp
        size = xp.sqrt(self.canvas.real**2 + self.canvas.imag**2)
        brightest = float(np.quantile(self.prepared.scan.pattern_counts, 0.99))
        highest = np.sqrt(brightest / float((np.abs(self.probe) ** 2).sum(axis=0).max()))
        largest = xp.where(self._lit, size, 0.0).max().clip(min=1.0, max=highest)
        limit = xp.where(self._lit, highest, largest)
        self.canvas *= (limit / size.clip(min=1e-6)).clip(max=1.0)

    def update(
        self,
        index: NDArray[np.int64],
        step: ObjectStep,
        *,
        with_probe: bool,
        with_positions: bool = False,
        after_block: Callable[[int], None] | None = None,
    ) -> tuple[float, float]:
        """One step on the patterns at `index`; their misfit before it and their counts.

        `after_block` hears how many patterns of the batch are done; an exception of it leaves everything as it was.
        """
        sums = self._accumulate(index, with_probe, with_positions, after_block)
        self._update_object(sums, step)
        if with_probe:
            self._update_probe(sums)
        if self.displacements is not None:
            for part, slope, curvature in sums.motion:
                self.displacements.step(part, slope, curvature)
        return sums.error, sums.counts

    def update_probe(self, index: NDArray[np.int64]) -> None:
        """One step of the probe alone on the patterns at `index`, the object held."""
        self._update_probe(self._accumulate(index, True, False, None))

    def lacking_probes(self, index: NDArray[np.int64]) -> NDArray[np.complex64]:
        """What the first mode of each pattern at `index` lacks by itself, (b, N, N), nothing moved."""
        lacking = LackingProbes(self.arrays)
        self._accumulate(index, True, False, None, lacking)
        return lacking.probes()

    def weight_steps(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Steps (b, k) of the weights of a probe that varies, of the patterns at `index`, nothing moved."""
        assert self.varying is not None
        sums = self.varying.empty_sums()
        self._accumulate(index, True, False, None, sums)
        return np.concatenate([steps for _, steps in sums.steps])

    def lacking_object(self, index: NDArray[np.int64]) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Numerator and weight (H, W) of the step that the patterns at `index` ask of the object, nothing moved."""
        sums = self._accumulate(index, False, False, None)
        return self.arrays.get(sums.object), self.arrays.get(sums.weight)

    def measure_misfit(self, index: NDArray[np.int64]) -> float:
        """Residual of the patterns at `index`, as the steps are told it."""
        sums = self._accumulate(index, False, False, None)
        return sums.error / max(sums.counts, 1.0)

    def _accumulate(
        self,
        index: NDArray[np.int64],
        with_probe: bool,
        with_positions: bool,
        after_block: Callable[[int], None] | None,
        varying: VaryingSums | LackingProbes | None = None,
    ) -> Sums:
        zeros, canvas, spectrum = self.arrays.xp.zeros_like, self.canvas, self._spectrum
        sums = Sums(zeros(canvas), zeros(canvas.real), zeros(spectrum), zeros(spectrum[0].real))
        if varying is not None:
            sums.varying = varying
        elif with_probe and self.varying is not None:
            sums.varying = self.varying.empty_sums()
        shared = self.arrays.processes.total > 1
        sums.detector = self.detector.empty_part() if shared and self.detector is not None else self.detector
        done = 0
        compute = partial(self._compute_block, sums, with_probe=with_probe, with_positions=with_positions)
        for add in self.arrays.map_blocks(compute, own_blocks(self._blocks(index), self.arrays.processes)):
            done += add()
            if after_block is not None:
                after_block(done)
        sums.merge(self.arrays, self.detector, index)
        return sums

    def _blocks(self, index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return even_batches(index, max(1, self.arrays.block_pixels // self.probe.size))

    def _compute_block(
        self, sums: Sums, index: NDArray[np.int64], *, with_probe: bool, with_positions: bool
    ) -> Callable[[], int]:
        """What adds the patterns at `index` to `sums`, and says how many they are; until then nothing is changed."""
        arrays, side, corners = self.arrays, self.probe.shape[-1], self.prepared.layout.corners[index]
        ramp = arrays.shift_ramp(self._fractions(index), side)
        propagator = Propagator.for_patterns(self.prepared.scan.fresnel_number, ramp, arrays)
        ramp = scale_beam(self.prepared, index, ramp, arrays)[:, None]
        spectrum = self._spectrum if self.varying is None else self.varying.spectra(self._spectrum, index)
        patches = arrays.gather(self.canvas, corners, side)[:, None]
        if with_probe or with_positions or len(self.probe) > 1:
            probe = arrays.ifft2(spectrum * ramp)
            wave = propagator.forward(probe * patches)
        else:  # nothing of them is needed any more: memory that is at hand is faster than new
            ramp *= spectrum
            probe = arrays.ifft2(ramp)
            patches *= probe
            wave = propagator.forward(patches)
        measured = self.prepared.counts(index)
        counts = arrays.put(measured)
        predicted = sum_axis(wave.real**2 + wave.imag**2, 1)
        predicted = add_background(self.prepared, predicted, arrays)
        detector = sums.detector
        if detector is not None:
            detected = detector.measure(self.prepared, index, counts, predicted, self.step.good, arrays)
        correction = self.step(counts, predicted)
        if with_positions:
            moved = propagator.moved_along(wave, self._moved(spectrum * ramp, patches))
            motion = displacement_gradient(wave, moved, counts, predicted, self.step.good, arrays)
        wave *= correction.factor[:, None]
        wave = propagator.backward(wave)
        if with_probe:
            back = arrays.fft2(wave * patches.conj())
            back *= ramp.conj()
            probe_sum, passed = back.sum(axis=0), (patches.real**2 + patches.imag**2).sum(axis=(0, 1))
        wave *= probe.conj()
        moved_object, light = sum_axis(wave, 1), sum_axis(probe.real**2 + probe.imag**2, 1)
        total = float(measured.sum(dtype=np.float64))

        def add() -> int:
            sums.error += correction.error
            sums.counts += total
            if detector is not None:
                detector.add(detected)
            if with_positions:
                sums.motion.append((index, *motion))
            if with_probe:
                sums.probe += probe_sum
                sums.probe_weight += passed
                if sums.varying is not None:
                    sums.varying.add(index, back[:, 0], _mean_transmission(probe, patches))
            arrays.scatter(sums.object, moved_object, corners)
            arrays.scatter(sums.weight, light, corners)
            return len(index)

        return add

    def _fractions(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        own = self.prepared.layout.fractions[index]
        return own if self.displacements is None else own + self.displacements.values[index]

    def _moved(self, spectrum: Array, patches: Array) -> Array:
        """Exit waves (b, 2, modes, N, N) under the derivative of probes with these spectra by their position."""
        arrays = self.arrays
        k = arrays.put(fft.fftshift(fft.fftfreq(spectrum.shape[-1])).astype(np.float32))
        parts = [arrays.ifft2(-2j * np.pi * axis * spectrum) for axis in (k[:, None], k)]
        return arrays.xp.stack([part * patches for part in parts], axis=1)

    def _update_object(self, sums: Sums, step: ObjectStep) -> None:
        largest = sums.weight.max()
        least = self.blend * largest + self.damping
        damped_most = (1 - self.blend) * largest + least
        brightest = (largest / damped_most).clip(min=LEAST_SEEN)

        def update(band: slice) -> None:
            weight = sums.weight[band]
            share = (1 - self.blend) * weight
            share += least
            share = 1 / share
            update = sums.object[band]
            update *= step.gain * share if step.gain != 1 else share
            self.canvas[band] += update
            if not step.momentum:
                return
            # Where this batch brings no light, nothing would tell a pixel that it has gone too far.
            seen = share
            seen *= weight
            seen *= (step.momentum - 1) / brightest
            velocity = self.velocity[band]
            velocity += seen * velocity
            velocity += update
            seen *= step.momentum / (step.momentum - 1)
            self.canvas[band] += seen * velocity

        for _ in self.arrays.map_blocks(update, row_bands(sums.weight.shape, self.arrays.block_pixels)):
            pass

    def _update_probe(self, sums: Sums) -> None:
        weight = self.arrays.get(sums.probe_weight)
        damped = np.float32(1 - BLEND) * weight + np.float32(BLEND * weight.max())
        update = fft.ifft2(fft.ifftshift(self.arrays.get(sums.probe), axes=(-2, -1)))
        if self.varying is not None and isinstance(sums.varying, VaryingSums):
            self.varying.step(sums.varying, damped)
        self.set_probe((self.probe + update / damped).astype(np.complex64))


def _mean_transmission(probe: Array, patches: Array) -> Array:
    """abs(O)^2 as each pattern's probe sees it, (b,)."""
    light = (probe.real**2 + probe.imag**2).sum(axis=1)
    passed = light * (patches.real**2 + patches.imag**2)[:, 0]
    return passed.sum(axis=(1, 2)) / light.sum(axis=(1, 2))


def center_of(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Center of mass [row, col] of sum abs(P)^2 of a probe (modes, N, N), pixels."""
    intensity = (np.abs(probe) ** 2).sum(axis=0, dtype=np.float64)
    x = np.arange(probe.shape[-1])
    return np.asarray([intensity.sum(axis=1) @ x, intensity.sum(axis=0) @ x]) / float(intensity.sum())
