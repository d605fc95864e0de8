"""The amplitude that a stitched object owes to the counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.stitching.count_scale import count_gauge
from ptychopinn_reconstructor.physics.stitching.stitch import contributions, probe_weight, stitch_patches
from ptychopinn_reconstructor.reconstruction.network_object import amplitude_correction
from ptychopinn_reconstructor.scan import Scan


def true_canvas(scan: Scan, prepared: PreparedScan) -> np.ndarray:
    """The truth on the canvas of a scan."""
    assert scan.object is not None
    row, col = (round(o - t) for o, t in zip(scan.object_origin, prepared.layout.origin, strict=True))
    height, width = prepared.layout.shape
    return np.asarray(scan.object[row : row + height, col : col + width])


@pytest.mark.parametrize('photons', [1e3, 1e7])
def test_a_truth_of_wrong_amplitude_is_found_out(photons: float) -> None:
    """AMPLITUDE: the factor is that by which the object is too weak, to the counting noise of all patterns."""
    scan = small_scan(photons=photons)
    prepared = prepare_scan(scan, mode='absolute')
    noise = 0.5 / np.sqrt(scan.pattern_counts.sum())
    for factor in (0.95, 1.0, 1.07):
        found = count_gauge(prepared, (factor * true_canvas(scan, prepared)).astype(np.complex64))
        assert found == pytest.approx(1 / factor, abs=5 * noise + 1e-4)


def test_bad_pixels_are_left_out() -> None:
    """Counts that the detector has lost are not missed in the object."""
    scan = small_scan()
    bad = np.zeros((32, 32), dtype=bool)
    bad[14:18, 10:22] = True
    masked = replace(scan, bad_pixels=bad)
    prepared = prepare_scan(masked, mode='absolute')
    assert masked.mean_counts < 0.95 * scan.mean_counts
    assert count_gauge(prepared, true_canvas(scan, prepared)) == pytest.approx(1.0, abs=3e-3)


@pytest.mark.parametrize(('factor', 'corrected'), [(0.97, True), (0.7, False)])
def test_a_small_bias_is_corrected_and_a_large_one_is_told(factor: float, corrected: bool) -> None:
    """AMPLITUDE: oracle patches of a wrong amplitude; beyond 10 % the user is told and nothing is hidden."""
    scan = small_scan(object='flat')
    prepared = prepare_scan(scan, mode='absolute', stride=16)
    index = np.arange(len(prepared))
    patches = factor * prepared.labels(index)
    u = contributions(patches, probe_weight(prepared.probe, prepared.patch_size), prepared.layout.fractions)
    stitcher = stitch_patches(u, prepared.layout, prepared.probe, neighbors=8, batches=prepared.batches(64))
    plain = stitcher.canvas()
    gauge = count_gauge(prepared, plain)
    scale, notices = amplitude_correction(gauge)
    found = stitcher.canvas(scale)
    assert bool(notices) is not corrected
    middle = np.s_[25:-25, 25:-25]
    ratio = float(np.abs(found[middle]).mean() / np.abs(plain[middle]).mean())
    assert ratio == pytest.approx(gauge if corrected else 1.0, rel=1e-3)
    assert gauge > 1.01
    assert found[0, 0] == pytest.approx(1.0, abs=1e-6)  # nothing illuminates the corner


@pytest.mark.parametrize('scale', [0.5, 1.25])
def test_counts_ask_a_scaled_probe_for_a_weaker_object(scale: float) -> None:
    """S4, SETTINGS: the amplitude of maximum likelihood is divided by probe_scale, whatever the object."""
    scan = small_scan()
    canvas = np.full(prepare_scan(scan).layout.shape, 0.9 + 0.1j, np.complex64)
    plain, scaled = (count_gauge(prepare_scan(scan, probe_scale=factor), canvas) for factor in (1.0, scale))
    assert scaled == pytest.approx(plain / scale, rel=1e-5)
