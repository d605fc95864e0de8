"""A probe that is found from the patterns alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.probe_search import (
    LARGEST,
    TRIED,
    compact_part,
    counting_noise,
    defocused_probes,
    is_hopeless,
    mean_pupil,
    search_probe,
    varied_patterns,
)
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine, scan_dose
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.update import Engine
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.probes import energy_diameter, make_probe
from ptychopinn_reconstructor.physics.scaling import probe_power
from ptychopinn_reconstructor.physics.scoring.metrics import Comparison, compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.notices import refinement_notices
from ptychopinn_reconstructor.scan import Scan

N = 64


def simulated(object: str = 'cells', probe: str = 'defocused', photons: float = 1e5) -> Scan:
    return simulate(n=N, positions=144, step=7.0, photons=photons, object=object, probe=probe, seed=4)


def spot(width: float = 6.0) -> NDArray[np.complex64]:
    """A Gaussian spot (1, N, N)."""
    x2 = (np.arange(N) - (N - 1) / 2) ** 2
    return np.asarray(np.exp(-np.add.outer(x2, x2) / (2 * width**2))[None], dtype=np.complex64)


def likeness(one: NDArray[np.complex64], other: NDArray[np.complex64]) -> float:
    """Of two probes (1, N, N), 1: the same but for a factor and a shift."""
    correlated = np.fft.ifft2(np.fft.fft2(one[0]) * np.fft.fft2(other[0]).conj())
    return float(np.abs(correlated).max() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture(scope='module')
def unknown() -> PreparedScan:
    """A scan of whose probe only a spot is given."""
    return prepare_scan(replace(simulated(), object=None, probe=spot()))


def found_from(prepared: PreparedScan, given: NDArray[np.complex64]) -> NDArray[np.complex64] | None:
    empty = np.ones(prepared.layout.shape, np.complex64)
    return search_probe(Engine(prepared, empty, given, FarFieldStep.for_scan(prepared)), given, lambda: None)


@pytest.mark.parametrize('name', ['defocused', 'zone_plate', 'airy'])
@pytest.mark.parametrize('sign', [1, -1])
def test_one_of_the_candidates_is_close_to_a_focused_probe(name: str, sign: int) -> None:
    """From the amplitude of its pupil alone, in focus or out of it, to either side of it."""
    probe = make_probe(name, N, photons=1e4).astype(np.complex64)
    probe = probe if sign > 0 else probe.conj()
    pupil = np.abs(np.fft.fftshift(np.fft.fft2(probe[0]))).astype(np.float64)
    candidates = defocused_probes(pupil, 1e4)
    assert max(likeness(probe, candidate) for candidate in candidates) > 0.9
    assert all(energy_diameter(candidate) <= LARGEST * N for candidate in candidates)
    np.testing.assert_allclose([probe_power(candidate) for candidate in candidates], 1e4, rtol=1e-4)


def test_the_pupil_is_the_mean_pattern_without_its_dim_parts(unknown: PreparedScan) -> None:
    """Where the true probe's far field is bright it is as bright, where that is dark there is nothing."""
    true = np.abs(np.fft.fftshift(np.fft.fft2(make_probe('defocused', N, photons=1e5)[0], norm='ortho')))
    pupil = mean_pupil(unknown)
    assert np.corrcoef(pupil.ravel(), true.ravel())[0, 1] > 0.9
    radius = np.hypot(*np.indices((N, N)) - N // 2)
    assert not pupil[radius > 20].any() and pupil[(radius > 6) & (radius < 11)].all()


def test_counting_noise_is_what_is_left_of_patterns_that_are_all_alike() -> None:
    """Patterns of an empty object, whose mean is what is expected of each."""
    scan = simulate(n=N, positions=49, step=7.0, photons=2e4, object=np.ones((140, 140)), probe='airy', seed=1)
    prepared = prepare_scan(replace(scan, object=None))
    left = residuals(prepared, np.ones(prepared.layout.shape, np.complex64)).overall
    assert counting_noise(prepared, np.arange(49)) == pytest.approx(left, rel=0.1)


def test_patterns_on_a_smaller_canvas_are_the_same(unknown: PreparedScan) -> None:
    """Next to each other, and predicted from an object's cutting as from the whole of it."""
    index = varied_patterns(unknown)
    part = compact_part(unknown, index)
    assert len(part) == TRIED and np.ptp(part.positions, axis=0).max() < 0.9 * np.ptp(unknown.positions, axis=0).max()
    rng = np.random.default_rng(0)
    canvas = (rng.normal(size=unknown.layout.shape) + 1j).astype(np.complex64)
    low, size = unknown.layout.corners[index].min(axis=0), part.layout.shape
    cut = canvas[low[0] : low[0] + size[0], low[1] : low[1] + size[1]]
    np.testing.assert_allclose(
        residuals(part, cut).per_pattern, residuals(unknown.part(index), canvas).per_pattern, rtol=1e-5
    )


def test_a_probe_is_found_from_a_spot_and_none_instead_of_the_right_one(unknown: PreparedScan) -> None:
    """Also its conjugate is told from it."""
    true = make_probe('defocused', N, photons=1e5).astype(np.complex64)
    found = found_from(unknown, unknown.probe)
    assert found is not None and likeness(found, true) > 0.95 > likeness(found, true.conj())
    assert probe_power(found) == pytest.approx(probe_power(unknown.probe), rel=1e-4)
    assert found_from(unknown, true) is None


@pytest.mark.parametrize('photons', [1e3, 1e5])
def test_a_misfit_is_hopeless_far_above_counting_noise_only(photons: float) -> None:
    """What counting noise leaves is not, at whatever dose."""
    prepared = prepare_scan(replace(simulated(photons=photons), object=None))
    noise = counting_noise(prepared, np.arange(len(prepared)))
    assert not is_hopeless(prepared, 0.9 * noise) and is_hopeless(prepared, noise + 0.13)


def refined(scan: Scan, *, refine_probe: bool, modes: int | None, passes: int = 14) -> tuple[Refined, Comparison]:
    prepared = prepare_scan(replace(scan, object=None))
    options = RefineOptions.for_scan(passes, dose=scan_dose(prepared), refine_probe=refine_probe, modes=modes)
    found = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options)
    assert scan.object is not None
    return found, compare(
        found.canvas, prepared.layout.origin, scan.object, scan.object_origin, scan.positions, margin=4
    )


@pytest.mark.parametrize(
    ('refine_probe', 'modes'), [(False, None), *(pytest.param(True, m, marks=pytest.mark.slow) for m in (None, 0, 2))]
)
def test_an_object_comes_out_of_a_spot(refine_probe: bool, modes: int | None) -> None:
    """The passes that showed that it is no probe are made once more, and it is told."""
    scan = replace(simulated(), probe=spot())
    found, figures = refined(scan, refine_probe=refine_probe, modes=modes)
    assert figures.phase_psnr > 28 and figures.amplitude_psnr > 18
    assert found.probe_replaced and 17 <= len(found.residuals) <= 19
    assert [notice.code for notice in refinement_notices(found)].count('probe_replaced') == 1


def test_a_spot_is_kept_where_the_probe_is_to_stay_as_it_is() -> None:
    """Neither refined, nor asked for."""
    found, _ = refined(replace(simulated(), probe=spot()), refine_probe=False, modes=0, passes=4)
    assert not found.probe_replaced and likeness(found.probe, spot()) > 0.999
