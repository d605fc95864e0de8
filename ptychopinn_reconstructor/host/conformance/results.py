"""Reconstructions: clauses P15, P18, P20, P31 to P37, P56."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ptychodus.api.object import Object
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructOutput

from .runs import Reconstruction, Runs
from .scans import NAME, Simulated, list_positions, simulate_scan
from .watch import Heard

HALF = 0.5  # pixel
MARGIN = 2  # pixels inside the outermost patch centers
Image = NDArray[np.complex128]
SYMMETRIES: dict[str, Callable[[Image], Image]] = {
    'as it is': lambda image: image,
    'upside down': lambda image: image[::-1],
    'mirrored': lambda image: image[:, ::-1],
    'turned by 180 degrees': lambda image: image[::-1, ::-1],
    'transposed': lambda image: image.T,
    'turned by 90 degrees': lambda image: np.rot90(image),
    'turned by 270 degrees': lambda image: np.rot90(image, 3),
    'transposed along the other diagonal': lambda image: np.rot90(image, 2).T,
}


def check_progress(heard: Heard[Any]) -> None:
    """Assert P8, P18, P19: progress never decreases, never exceeds the goal, and reaches it."""
    progress = [output.progress for output in heard.outputs]
    assert progress and all(isinstance(value, int) for value in progress)
    assert all(goal > 0 for goal in heard.goals), heard.goals
    assert progress[0] >= 0 and all(before <= after for before, after in pairwise(progress)), progress
    assert all(value <= goal for value, goal in zip(progress, heard.goals[1:], strict=True)), progress
    assert progress[-1] == heard.goals[-1], f'{progress[-1]} of {heard.goals[-1]}'


def check_losses(losses: Any) -> None:
    """Assert P19, P20: losses are finite, one for each epoch, in order."""
    assert all(isinstance(loss, LossValue) and np.isfinite(loss.value) for loss in losses)
    epochs = [loss.epoch for loss in losses]
    assert epochs == sorted(set(epochs))


def largest_difference(one: Reconstruction, other: Reconstruction) -> float:
    """Largest difference of two objects, relative to the largest amplitude."""
    first, second = (found.last.product.object_.get_array() for found in (one, other))
    assert first.shape == second.shape
    return float(np.abs(first - second).max() / np.abs(second).max())


def crop_pair(found: Object, scan: Simulated, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Image, Image]:
    """Square of the true object, and the found object there by its own center and pixel size, plus `shift`."""
    from ...physics.geometry import scan_area
    from ...physics.scoring.registration import sample

    rows, columns = scan_area(scan.centers, (0.0, 0.0), MARGIN)
    side = min(rows.stop - rows.start, columns.stop - columns.start)
    window = (slice(rows.start, rows.start + side), slice(columns.start, columns.start + side))
    true, mine = scan.truth.get_geometry(), found.get_geometry()
    down = (true.center_y_m - mine.center_y_m) / mine.pixel_height_m + (mine.height_px - true.height_px) / 2
    right = (true.center_x_m - mine.center_x_m) / mine.pixel_width_m + (mine.width_px - true.width_px) / 2
    corner = np.array([rows.start + down + shift[0], columns.start + right + shift[1]])
    image = found.get_layers_flattened().astype(np.complex128)
    return np.asarray(scan.truth.get_layer(0)[window], dtype=np.complex128), sample(image, corner, (side, side))


def coherence(one: Image, other: Image) -> float:
    """Coherence of two images less their means: 1 for the same structure up to a complex factor."""
    a, b = one - one.mean(), other - other.mean()
    return float(abs(np.vdot(a, b)) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))


def find_peak_offset(below: float, middle: float, above: float) -> float:
    """Offset (pixels) of the parabolic peak of three values, half a pixel apart, from the middle one."""
    curvature = 2 * middle - below - above
    return HALF / 2 * (above - below) / curvature if curvature > 0 else np.inf


def measure_shift(found: Object, scan: Simulated) -> tuple[float, float]:
    """Shift [row, column] in pixels of the found object against the true one."""
    along = [[(k, 0.0) for k in (-HALF, 0.0, HALF)], [(0.0, k) for k in (-HALF, 0.0, HALF)]]
    values = [[coherence(*crop_pair(found, scan, shift)) for shift in shifts] for shifts in along]
    return find_peak_offset(*values[0]), find_peak_offset(*values[1])


def check_product(product: Product, scan: Simulated) -> None:
    """Assert P20, P32, P34, P36: shapes, types and metadata that the host needs of a product."""
    asked = scan.unknown.product
    assert product.metadata.name == NAME, 'the host drops the losses of a product whose name has changed'
    assert replace(product.metadata, comments=asked.metadata.comments) == asked.metadata
    np.testing.assert_array_equal(list_positions(product), list_positions(asked))
    object_ = product.object_
    array = object_.get_array()
    assert np.iscomplexobj(array) and array.ndim == 3 and array.size and np.isfinite(array).all()
    assert object_.get_pixel_geometry() == asked.object_.get_pixel_geometry()
    assert np.isfinite([object_.get_center().x_m, object_.get_center().y_m]).all()
    assert len(object_.layer_spacing_m) == object_.num_layers - 1
    assert product.probes.get_array().shape[-2:] == scan.unknown.diffraction_patterns.shape[1:]
    assert product.probes.get_pixel_geometry() == asked.probes.get_pixel_geometry()
    assert np.isfinite(product.probes.get_array()).all()
    check_losses(product.losses)


class ResultChecks:
    """Checks of the outputs of `reconstruct`."""

    @pytest.mark.slow
    def test_a_reconstruction_reports_its_progress(self, conformance_jobs: Runs) -> None:
        """P8, P15, P18: in a thread that is not the main one."""
        heard = conformance_jobs.result.heard
        assert all(isinstance(output, ReconstructOutput) for output in heard.outputs)
        check_progress(heard)

    @pytest.mark.slow
    def test_every_product_is_what_the_host_needs(self, conformance_jobs: Runs) -> None:
        """P20, P32, P34, P36: those before the last one too, since the host shows and saves them."""
        assert conformance_jobs.result.heard.outputs
        for output in conformance_jobs.result.heard.outputs:
            check_product(output.product, conformance_jobs.scan)

    @pytest.mark.slow
    def test_the_object_lies_where_the_true_one_lies(self, conformance_jobs: Runs) -> None:
        """P32, P34, P35: no reflection, no transposition, no twin, no shift, its center in the right place."""
        found, scan = conformance_jobs.result.last.product.object_, conformance_jobs.scan
        true, image = crop_pair(found, scan)
        fits = {f'{name}': coherence(true, turn(image)) for name, turn in SYMMETRIES.items()}
        fits |= {f'{name}, conjugate': coherence(true, turn(image).conj()) for name, turn in SYMMETRIES.items()}
        assert max(fits, key=lambda name: fits[name]) == 'as it is', fits
        assert fits['as it is'] >= conformance_jobs.subject.likeness
        assert np.abs(measure_shift(found, scan)).max() <= conformance_jobs.subject.largest_shift, measure_shift(
            found, scan
        )

    @pytest.mark.slow
    def test_nothing_is_left_and_nothing_handed_in_changes(self, conformance_jobs: Runs) -> None:
        """P31, P47, P59: arrays of the host are read only; no child process, no file."""
        for run in (conformance_jobs.trained, conformance_jobs.result):
            assert not run.changed_input
            assert run.leftovers == {}

    @pytest.mark.slow
    def test_bad_pixels_do_not_spoil_the_object(self, conformance_jobs: Runs) -> None:
        """P31: they are zero in what the host hands over, and that is no measurement."""
        scan, trained = simulate_scan(masked=True), conformance_jobs.trained
        found = conformance_jobs.reconstruct(trained.place, trained.instance, scan.unknown)
        check_product(found.last.product, scan)
        assert not found.changed_input
        assert coherence(*crop_pair(found.last.product.object_, scan)) >= 0.9 * conformance_jobs.subject.likeness

    @pytest.mark.slow
    def test_two_incoherent_modes(self, conformance_jobs: Runs) -> None:
        """P33: trained on and reconstructed, and both come back."""
        if not conformance_jobs.subject.modes:
            pytest.skip('it takes probes with one mode only')
        scan = simulate_scan(modes=2)
        trained = conformance_jobs.train(conformance_jobs.form(), scan.labeled)
        product = conformance_jobs.reconstruct(trained.place, trained.instance, scan.unknown).last.product
        check_product(product, scan)
        assert product.probes.num_incoherent_modes == 2

    @pytest.mark.slow
    def test_no_framework_is_imported_here(self, conformance_jobs: Runs) -> None:
        """P56: by training, opening, saving or inferring."""
        declared = set(conformance_jobs.subject.not_imported)
        if early := declared & conformance_jobs.modules:
            pytest.skip(f'{", ".join(sorted(early))} was imported before the first job, by something else')
        assert conformance_jobs.result.heard.outputs
        assert not declared & sys.modules.keys()
