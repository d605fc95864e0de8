"""Small simulated scan as the host passes it: far field, an object without symmetry, fractional positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.constants import energy_eV_to_wavelength_m
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.object import Object, ObjectCenter, ObjectGeometry
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductMetadata
from ptychodus.api.reconstruct import ReconstructInput

from ..releases import list_indexes, make_metadata

N = 32  # pixels, the side of a pattern
ROWS, COLUMNS, STEP, JITTER = 8, 11, 4.0, 1.0  # pixels; the canvas is not square
BORDER = 2.0  # pixels
PIXEL = PixelGeometry(width_m=1e-8, height_m=1e-8)
CENTER = ObjectCenter(x_m=3e-6, y_m=-2e-6)
ENERGY_EV, DISTANCE_M = 8000.0, 1.0
NAME = 'conformance'
BAD = np.zeros((N, N), dtype=bool)
BAD[3:5, 10:20] = BAD[20, 7] = True


@dataclass(frozen=True, eq=False)
class Simulated:
    """Scan with an empty object, as before a first reconstruction, its true object and positions [row, column]."""

    unknown: ReconstructInput
    truth: Object
    centers: NDArray[np.float64]

    @property
    def labeled(self) -> ReconstructInput:
        """Scan with its true object, the labels of a supervised training."""
        return replace(self.unknown, product=replace(self.unknown.product, object_=self.truth))


@cache
def simulate_scan(*, modes: int = 1, masked: bool = False) -> Simulated:
    """Simulated scan of 88 patterns of 32 x 32 pixels, optionally with several modes or zeroed bad pixels."""
    from ...physics.simulation.simulate import simulate

    centers = _draw_centers()
    shape = _canvas_shape(centers)
    scan = simulate(n=N, positions=centers, object=_make_object(shape), modes=modes, photons=1e6)
    assert scan.probe is not None
    patterns, bad = np.array(scan.diffraction), BAD if masked else np.zeros_like(BAD)
    patterns[:, bad] = 0
    product = Product(
        metadata=_make_metadata(),
        probe_positions=_make_positions(centers, shape),
        probes=ProbeSequence(scan.probe.astype(complex), None, PIXEL),
        object_=Object(np.ones(shape, dtype=complex), PIXEL, CENTER),
        losses=[],
    )
    truth = Object(np.array(scan.object, dtype=complex), PIXEL, CENTER)
    return Simulated(ReconstructInput(patterns, bad, product), truth, centers)


def copy_input(parameters: ReconstructInput) -> ReconstructInput:
    """Deep copy of an input, which a job may modify."""
    product = parameters.product
    copied = replace(
        product,
        probe_positions=product.probe_positions.copy(),
        probes=product.probes.copy(),
        object_=product.object_.copy(),
    )
    return ReconstructInput(parameters.diffraction_patterns.copy(), parameters.bad_pixels.copy(), copied)


def list_positions(product: Product) -> NDArray[np.float64]:
    """Array (n, 3) of index, x and y (meters) of every scan position."""
    return np.array([(position.index, position.x_m, position.y_m) for position in product.probe_positions])


def make_near_field_input(parameters: ReconstructInput) -> ReconstructInput:
    """Input with its product marked as near field."""
    product = parameters.product
    return replace(parameters, product=replace(product, metadata=replace(product.metadata, far_field=False)))


def write_layout(parameters: ReconstructInput, folder: Path) -> None:
    """Write the host's standard layout: diffraction.h5 and product.h5."""
    wavelength = energy_eV_to_wavelength_m(ENERGY_EV)
    detector = PixelGeometry(*[wavelength * DISTANCE_M / (N * size) for size in (PIXEL.width_m, PIXEL.height_m)])
    indexes = list_indexes(parameters.product.probe_positions)
    data = AssembledDiffractionData(indexes, parameters.diffraction_patterns, detector, parameters.bad_pixels)
    save_diffraction_data(folder / 'diffraction.h5', data)
    save_product(folder / 'product.h5', parameters.product)


def _draw_centers() -> NDArray[np.float64]:
    """Patch centers [row, column] in pixels of the object, all fractional."""
    grid = np.stack(np.divmod(np.arange(ROWS * COLUMNS), COLUMNS), axis=1) * STEP
    centers = grid + np.random.default_rng(0).uniform(-JITTER, JITTER, grid.shape)
    return np.asarray(centers - centers.min(axis=0) + (N - 1) / 2 + BORDER + 0.3)


def _canvas_shape(centers: NDArray[np.float64]) -> tuple[int, int]:
    height, width = (np.ceil(centers.max(axis=0) + (N - 1) / 2 + BORDER) + 1).astype(int).tolist()
    return height, width


def _make_object(shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Object of a letter and bars, which no reflection, rotation or conjugation maps to itself."""
    from scipy.ndimage import gaussian_filter

    letter, bars = np.zeros(shape), np.zeros(shape)
    letter[20:44, 22:26] = letter[20:24, 22:40] = letter[30:33, 22:33] = letter[38:43, 46:51] = 1
    bars[26:29, 36:54] = bars[20:40, 54:56] = 1
    letter, bars = gaussian_filter(letter, 0.8), gaussian_filter(bars, 0.8)
    return np.asarray((1 - 0.3 * bars) * np.exp(1j * (letter - 0.4 * bars)), dtype=np.complex64)


def _make_positions(centers: NDArray[np.float64], shape: tuple[int, int]) -> ProbePositionSequence:
    """Positions in meters, with scan indexes that differ from row numbers."""
    geometry = ObjectGeometry(shape[1], shape[0], PIXEL.width_m, PIXEL.height_m, CENTER.x_m, CENTER.y_m)
    middle_x, middle_y = (geometry.width_px - 1) / 2, (geometry.height_px - 1) / 2
    return ProbePositionSequence(
        [
            ProbePosition(
                5 + 2 * index,
                CENTER.x_m + (column - middle_x) * PIXEL.width_m,
                CENTER.y_m + (row - middle_y) * PIXEL.height_m,
            )
            for index, (row, column) in enumerate(centers.tolist())
        ]
    )


def _make_metadata() -> ProductMetadata:
    return make_metadata(
        name=NAME,
        comments='simulated',
        detector_distance_m=DISTANCE_M,
        photon_energy_eV=ENERGY_EV,
        probe_photon_count=0.0,
        exposure_time_s=0.0,
        mass_attenuation_m2_per_kg=0.0,
        tomography_angle_deg=0.0,
    )
