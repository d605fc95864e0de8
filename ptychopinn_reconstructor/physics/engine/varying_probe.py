"""A probe that varies along the scan (`probe_variation`), within the engine: its steps.

| symbol | meaning                                                                      | unit         |
|--------|------------------------------------------------------------------------------|--------------|
| d_i    | what the exit wave of pattern i lacks (`update`)                             | sqrt(counts) |
| g_i    | shift_-f(conj(O) d_i): what the first mode of pattern i lacks, times abs(O)^2 | sqrt(counts) |
| t_i    | abs(O)^2 as the probe of pattern i sees it                                   | 1            |

V_k += sum_i w_ik g_i over the batch, divided as the step of the probe is; w_ik += Re <V_k, g_i> / (t_i |V_k|^2) once a
pass, the step of Gauss and Newton for one pattern.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..arrays import Array, Arrays
from ..probe_variation import ProbeVariation, power_scales


@dataclass(eq=False)
class VaryingSums:
    """What a batch says: sum_i w_ik g_i (k, N N) as spectra, and for each block its patterns and their steps (b, k)."""

    probe: VaryingProbe
    spectra: Array
    steps: list[tuple[NDArray[np.int64], NDArray[np.float64]]]

    def add(self, index: NDArray[np.int64], back: Array, transmission: Array) -> None:
        """Take in the spectra `back` (b, N, N) of g of the patterns at `index`, and t (b,)."""
        arrays, ours = self.probe.arrays, self.probe.flat
        flat = back.reshape(len(index), -1)
        self.spectra += self.probe.weights_there(index).T @ flat
        slope = arrays.get((flat @ ours.conj().T).real) / flat.shape[1]
        self.steps.append((index, slope / (self.probe.powers * arrays.get(transmission)[:, None])))


@dataclass(eq=False)
class LackingProbes:
    """Gathers g_i / t_i of each pattern."""

    arrays: Arrays
    found: list[NDArray[np.complex64]] = field(default_factory=list)

    def add(self, index: NDArray[np.int64], back: Array, transmission: Array) -> None:
        """Take in the spectra `back` (b, N, N) of g of the patterns at `index`, and t (b,)."""
        spectra = self.arrays.get(back / transmission[:, None, None])
        self.found.append(np.asarray(fft.ifft2(fft.ifftshift(spectra, axes=(-2, -1))), dtype=np.complex64))

    def probes(self) -> NDArray[np.complex64]:
        """Those of all patterns, (n, N, N)."""
        return np.concatenate(self.found)


class VaryingProbe:
    """Components (k, N, N) of an engine's probe, and their weights (n, k), as batches change them."""

    def __init__(self, variation: ProbeVariation, arrays: Arrays) -> None:
        self.arrays = arrays
        self.weights = variation.weights.copy()
        self.set_components(variation.components)

    def set_components(self, components: NDArray[np.complex64]) -> None:
        """Take other components, with the weights as they are."""
        self.components = np.asarray(components, dtype=np.complex64)
        spectra = fft.fftshift(fft.fft2(self.components), axes=(-2, -1))
        self.flat = self.arrays.put(spectra.reshape(len(components), -1).astype(np.complex64))

    @property
    def powers(self) -> NDArray[np.float64]:
        """Of each component, (k,), counts."""
        return np.asarray((np.abs(self.components) ** 2).sum(axis=(1, 2), dtype=np.float64)).clip(min=1e-12)

    @property
    def power(self) -> float:
        """Counts of a pattern that vary, in the mean."""
        return float(self.powers @ (self.weights**2).mean(axis=0))

    def weights_there(self, index: NDArray[np.int64]) -> Array:
        """Weights (b, k) on the device, complex as what they multiply."""
        return self.arrays.put(self.weights[index].astype(np.complex64))

    def spectra(self, mean: Array, index: NDArray[np.int64]) -> Array:
        """Spectra (b, modes, N, N) of the probes of the patterns at `index`, that of the mean given."""
        varied = self.weights_there(index) @ self.flat
        found = self.arrays.xp.stack([mean] * len(index), axis=0)
        found[:, 0] += varied.reshape(len(index), *mean.shape[1:])
        found[:, 0] *= self.arrays.put(self._scales(index)[:, None, None])
        return found

    def hold_power(self, first: NDArray[np.complex64]) -> None:
        """Take P_1 (N, N) for that of the mean probe, by which the power of each pattern is held."""
        self._first, self._mean_square = first, (self.weights**2).mean(axis=0)

    def _scales(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        return power_scales(self._first, self.components, self.weights[index], self._mean_square)

    def empty_sums(self) -> VaryingSums:
        """Those of no pattern."""
        return VaryingSums(self, self.arrays.xp.zeros_like(self.flat), [])

    def step(self, sums: VaryingSums, damped: NDArray[np.float32]) -> None:
        """Change components and weights as a batch asks for; `damped` (N, N) divides as it does for the probe."""
        spectra = self.arrays.get(sums.spectra).reshape(self.components.shape)
        update = fft.ifft2(fft.ifftshift(spectra, axes=(-2, -1))) / damped
        for index, steps in sums.steps:
            self.weights[index] += steps
        self.set_components((self.components + update).astype(np.complex64))
