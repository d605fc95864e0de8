"""Simulated scans for the engine, exact or with counting noise, and the empty object that it starts from."""

from __future__ import annotations

import numpy as np

from ptychopinn_reconstructor.physics.forward import diffract
from ptychopinn_reconstructor.physics.geometry import gather_patches, layout
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.propagation import fresnel_kernel
from ptychopinn_reconstructor.scan import Scan

N = 32


def make_probe(photons: float, modes: int = 1) -> np.ndarray:
    """A defocused round pupil, further modes its product with a ramp, (modes, N, N) in sqrt(counts)."""
    k = np.fft.fftfreq(N)
    k_squared = k[:, None] ** 2 + k[None] ** 2
    pupil = (k_squared < 0.2**2) * np.exp(1j * 90 * k_squared)
    first = np.fft.fftshift(np.fft.ifft2(pupil))
    x = (np.arange(N) - N / 2) / 4
    fields = np.stack([first, 0.5 * first * x[:, None]])[:modes]
    return np.asarray(fields * np.sqrt(photons / (np.abs(fields) ** 2).sum()), dtype=np.complex64)


def make_truth(shape: tuple[int, int]) -> np.ndarray:
    """A smooth random object: amplitude 0.7 to 1, phase within about 0.8 rad."""
    rng = np.random.default_rng(3)
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    a, b = (np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * np.exp(-((k / 0.12) ** 2))).real for _ in range(2))
    return np.asarray((0.85 + 0.15 * np.tanh(a / a.std())) * np.exp(0.4j * b / b.std()), dtype=np.complex64)


class Case:
    """A simulated scan with its truth on the canvas."""

    def __init__(
        self,
        photons: float = 1e6,
        *,
        modes: int = 1,
        side: int = 9,
        noise: bool = False,
        bad: np.ndarray | None = None,
        near: tuple[float, float] | None = None,
    ) -> None:
        rng = np.random.default_rng(0)
        grid = 4.0 * np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing='ij'), -1).reshape(-1, 2)
        self.positions = grid + rng.uniform(-1, 1, grid.shape)
        self.probe = make_probe(photons, modes)
        laid = layout(self.positions, N)
        self.truth = make_truth(laid.shape)
        self.origin = laid.origin
        patches = gather_patches(self.truth, laid.corners, N)
        self.near = near
        kernel = None if near is None else fresnel_kernel(N, near)
        exact = diffract(self.probe.astype(np.complex128), patches, laid.fractions, kernel)
        self.counts = (rng.poisson(exact) if noise else exact).astype(np.float64)
        self.bad = bad

    def prepared(self, **changes: object) -> PreparedScan:
        values: dict[str, object] = {
            'diffraction': self.counts,
            'positions': self.positions,
            'probe': self.probe,
            'bad_pixels': self.bad,
        }
        values['fresnel_number'] = self.near
        return prepare_scan(Scan(**(values | changes)), mode='absolute')  # type: ignore[arg-type]

    def lit(self, prepared: PreparedScan) -> np.ndarray:
        """Canvas pixels under at least a fifth of the largest illumination."""
        total = np.zeros(self.truth.shape)
        for row, col in prepared.layout.corners:
            total[row : row + N, col : col + N] += (np.abs(self.probe) ** 2).sum(axis=0)
        return np.asarray(total > 0.2 * total.max())


def empty(prepared: PreparedScan) -> np.ndarray:
    return np.ones(prepared.layout.shape, dtype=np.complex64)
