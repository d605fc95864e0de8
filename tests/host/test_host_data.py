"""What Ptychodus hands over and what it gets back: geometry, bad pixels, modes, and products that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grids import same_grid
from host_sessions import CENTER, DISTANCE, PIXEL, Case, Finished, Host, small_case, unstarted
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import load_product
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.host.model_file import estimate_mean_counts
from ptychopinn_reconstructor.host.releases import KNOWS_NEAR_FIELD
from ptychopinn_reconstructor.host.scans import HostScan, place_on_host_canvas
from ptychopinn_reconstructor.model_file.opening import open_model

SAME = 1e-6
PIXELS = PixelGeometry(width_m=PIXEL, height_m=PIXEL)


@pytest.fixture
def host(model: Path) -> Host:
    return unstarted(**{'PtychoPINNInference.ModelPath': model})


def infer(host: Host, data: ReconstructInput) -> Product:
    """The last product that Infer gives."""
    *_, last = host.library.reconstructors[0].reconstruct(data)
    assert last.progress == 100
    return last.product


def correlation(one: Any, other: Any) -> float:
    return float(abs(np.vdot(one, other)) / np.linalg.norm(one) / np.linalg.norm(other))


def test_positions_are_in_pixels_of_the_host_s_object(case: Case) -> None:
    """Rows from y, columns from x; the simulated positions come back."""
    arrays = HostScan.of(case.input).arrays()
    assert np.allclose(arrays['positions'], case.scan.positions, atol=1e-6)
    assert np.array_equal(arrays['pattern_indexes'], case.indexes)
    assert arrays['diffraction'].dtype == case.scan.diffraction.dtype
    assert np.ptp(case.scan.positions, axis=0).min() > 0
    assert not np.allclose(case.scan.positions, case.scan.positions[:, ::-1])


@pytest.mark.slow
def test_no_flip_no_transpose_no_half_pixel(host: Host, case: Case) -> None:
    """An object without symmetry, refined until it is sharp, against the truth on the host's canvas."""
    host.set(**{'PtychoPINNPlugin.RefinePasses': 30})
    product = infer(host, case.input)
    assert product.object_.get_geometry() == case.product.object_.get_geometry()
    assert case.scan.object is not None
    area = (slice(22, -22), slice(22, -22))
    truth, found = (np.asarray(array)[area] for array in (case.scan.object, product.object_.get_array()[0]))
    truth, found = truth - truth.mean(), found - found.mean()
    right = correlation(truth, found)
    assert right > 0.95
    for wrong in (found[::-1], found[:, ::-1], found.T, found[::-1, ::-1], np.rot90(found), np.rot90(found, 3)):
        assert correlation(truth, wrong) < right - 0.2
    # The peak of the correlation lies at zero shift, to a fraction of a pixel in both directions.
    wide = product.object_.get_array()[0]
    for axis in (0, 1):
        values = [correlation(truth, _moved(wide, shift, axis)[area]) for shift in (-1, 0, 1)]
        peak = 0.5 * (values[0] - values[2]) / (values[0] - 2 * values[1] + values[2])
        assert abs(peak) < 0.15, (axis, peak)


def _moved(values: Any, shift: int, axis: int) -> Any:
    moved = np.roll(values, shift, axis)
    return moved - moved[22:-22, 22:-22].mean()


@pytest.mark.slow
@pytest.mark.parametrize('canvas', ['too small', 'a placeholder', 'larger', 'off center'])
def test_whatever_object_the_host_has(host: Host, trained: Finished, case: Case, canvas: str) -> None:
    """The same object at the same place, pixel by pixel; on the host's canvas where that holds it."""
    whole = load_product(trained.folder / 'infer.h5').object_
    height, width = whole.get_array().shape[1:]
    obj = {
        'too small': Object(np.ones((20, 24), dtype=complex), PIXELS, ObjectCenter(*CENTER)),
        'a placeholder': Object(None, None, None),
        'larger': Object(np.ones((height + 20, width + 8), dtype=complex), PIXELS, ObjectCenter(*CENTER)),
        'off center': Object(
            np.ones((height + 12, width + 12), dtype=complex),
            PIXELS,
            ObjectCenter(CENTER[0] + 4 * PIXEL, CENTER[1] - 3 * PIXEL),
        ),
    }[canvas]
    found = infer(host, case.with_product(object_=obj).input).object_
    if canvas in ('larger', 'off center'):
        assert found.get_geometry() == obj.get_geometry()
    one, other = same_grid(whole, found)
    assert min(other.shape) > 50
    assert np.abs(one - other).max() < 2e-5 and np.ptp(np.abs(other)) > 0.01
    assert found.num_layers == 1 and np.iscomplexobj(found.get_array())


def test_a_result_that_the_canvas_does_not_hold_has_its_own(case: Case) -> None:
    """Its center follows from where its first pixel lies in the host's."""
    geometry = case.product.object_.get_geometry()
    values = np.arange(80 * 90).reshape(80, 90).astype(np.complex64)
    # Array coordinate of the host's pixel (0, 0) in the result: the result begins 7 rows above, 3 columns left of it.
    found = place_on_host_canvas(values, (7.0, 3.0), geometry)
    assert np.array_equal(found.get_array()[0], values)
    mine = found.get_geometry()
    corner = [mine.center_x_m - 44.5 * PIXEL, mine.center_y_m - 39.5 * PIXEL]
    host_corner = [
        geometry.center_x_m - (geometry.width_px - 1) / 2 * PIXEL,
        geometry.center_y_m - (geometry.height_px - 1) / 2 * PIXEL,
    ]
    assert np.allclose(np.subtract(corner, host_corner) / PIXEL, [-3, -7])


@pytest.mark.slow
def test_counts_under_the_bad_pixels_change_nothing(host: Host, case: Case, tmp_path: Path) -> None:
    """Neither in the input of the network nor in the loss nor in the refinement; without the mask they would."""
    host.set(**{'PtychoPINNPlugin.RefinePasses': 2, 'PtychoPINNTraining.NumEpochs': 1})
    bad = np.zeros((32, 32), dtype=bool)
    bad[10:13, 20:22] = bad[16, 16] = True
    results = []
    for garbage, mask in ((0, bad), (60_000, bad), (60_000, ~(bad | ~bad))):
        patterns = np.array(case.scan.diffraction)
        patterns[:, bad] = garbage
        data = ReconstructInput(patterns, mask, case.product)
        results.append(infer(host, data).object_.get_array()[0])
    clean, dirty, unmasked = results
    assert np.array_equal(clean, dirty) and np.abs(unmasked - clean).max() > 0.05

    losses = []
    for garbage in (0, 60_000):
        patterns = np.array(case.scan.diffraction)
        patterns[:, bad] = garbage
        (tmp_path / f'in{garbage}').mkdir()
        with host.library.session.training_on(ReconstructInput(patterns, bad, case.product)):
            outputs = list(host.library.reconstructors[0].train(tmp_path / f'in{garbage}', tmp_path / f'out{garbage}'))
        losses.append((outputs[-1].training_loss[-1].value, outputs[-1].validation_loss[-1].value))
    assert losses[0] == losses[1]
    probes = [open_model(tmp_path / f'out{garbage}' / 'model.safetensors') for garbage in (0, 60_000)]
    assert all(np.array_equal(probes[0].weights[name], probes[1].weights[name]) for name in probes[0].weights)


@pytest.mark.slow
def test_incoherent_modes_are_used(host: Host, tmp_path: Path) -> None:
    """Trained with two modes and inferred with two; the product keeps both."""
    host.set(**{'PtychoPINNTraining.NumEpochs': 1, 'PtychoPINNPlugin.RefinePasses': 10})
    two = small_case(modes=2)
    assert two.product.probes.num_incoherent_modes == 2
    (tmp_path / 'in').mkdir()
    with host.library.session.training_on(two.input):
        list(host.library.reconstructors[0].train(tmp_path / 'in', tmp_path / 'out'))
    assert open_model(tmp_path / 'out' / 'model.safetensors').probe.shape == (2, 32, 32)
    host.model.run_tasks()
    product = infer(host, two.input)
    probes = product.probes.get_array()
    assert probes.shape == (1, 2, 32, 32) and product.probes.get_opr_weights_or_none() is None
    power = (np.abs(probes[0]) ** 2).sum(axis=(1, 2))
    true = (np.abs(two.product.probes.get_array()[0]) ** 2).sum(axis=(1, 2))
    assert np.allclose(power / power.sum(), true / true.sum(), atol=0.05) and power.min() > 0
    assert two.scan.object is not None
    area = (slice(20, -20), slice(20, -20))
    assert correlation(two.scan.object[area], product.object_.get_array()[0][area]) > 0.95


@pytest.mark.slow
def test_scrambled_and_missing_indexes(host: Host, case: Case, tmp_path: Path) -> None:
    """Patterns and positions are paired by index as the host does it: the order in the files changes nothing."""
    order = np.random.default_rng(0).permutation(81)
    keep = order[:70]
    patterns = np.array(case.scan.diffraction)
    points = list(case.product.probe_positions)
    sequence = type(case.product.probe_positions)
    scrambled = replace(
        case,
        scan=replace(case.scan, diffraction=patterns[keep], positions=case.scan.positions[keep], scan_index=None),
        indexes=keep,
        product=replace(case.product, probe_positions=sequence([points[i] for i in order[::-1]])),
    )
    ordered = np.sort(keep)
    plain = replace(case.input, diffraction_patterns=patterns[ordered])
    plain = replace(plain, product=replace(case.product, probe_positions=sequence([points[i] for i in ordered])))
    product = host.open(scrambled.write(tmp_path / 'scrambled'))
    found = infer(host, product.get_reconstruct_input())
    wanted = infer(host, plain)
    assert len(found.probe_positions) in (70, 81)
    assert np.abs(found.object_.get_array() - wanted.object_.get_array()).max() < 2e-5


@pytest.mark.slow
def test_varying_probe_and_layers_are_handled_with_a_warning(host: Host, case: Case) -> None:
    """The first coherent mode for all positions, and the first layer: the result is that of the plain product."""
    plain = infer(host, case.input)
    assert not [line for line in host.log() if '[WARNING]' in line]
    probe = case.product.probes.get_array()
    varying = np.concatenate([probe, 0.1 * probe[:, :, ::-1]])
    weights = np.column_stack([np.ones(81), np.linspace(-1, 1, 81)])
    layers = np.stack([np.ones_like(case.product.object_.get_array()[0])] * 3)
    obj = Object(layers, PIXELS, ObjectCenter(*CENTER), [1e-6, 1e-6])
    data = case.with_product(probes=ProbeSequence(varying, weights, PIXELS), object_=obj).input
    found = infer(host, data)
    warnings = ' '.join(line for line in host.log() if '[WARNING]' in line)
    assert 'orthogonal probe relaxation' in warnings and '2 coherent modes' in warnings and '3 layers' in warnings
    assert np.abs(found.object_.get_array() - plain.object_.get_array()).max() < SAME
    assert found.object_.num_layers == 1 and found.probes.num_coherent_modes == 1


@pytest.mark.parametrize(
    ('weights', 'code'), [(None, None), ('ones', 'normalized_probe'), ('varying', 'varying_probe')]
)
def test_weights_of_the_probe_that_are_all_alike_are_no_variation(
    case: Case, weights: str | None, code: str | None
) -> None:
    """Pty-Chi writes ones, and normalizes the probe: the amplitude is relative then."""
    values = {'ones': np.ones((81, 1)), 'varying': np.linspace(0.5, 1.5, 81)[:, None], None: None}[weights]
    probes = ProbeSequence(case.product.probes.get_array(), values, PIXELS)
    notices = HostScan.of(case.with_product(probes=probes).input).notices
    assert [notice.code for notice in notices] == ([] if code is None else [code])
    assert all(('Pty-Chi' in notice.text) == (code == 'normalized_probe') for notice in notices)


def cropped(case: Case) -> ReconstructInput:
    return replace(case.input, diffraction_patterns=np.array(case.scan.diffraction)[:, :28])


REFUSED: dict[str, tuple[Any, str]] = {
    'near field': (lambda case: Case.of(case.scan, far_field=False).input, 'near field'),
    'not square': (cropped, r'\(28, 32\).*square'),
    'no pixel size': (
        lambda case: (
            case.with_product(
                object_=Object(None, None, None), probes=ProbeSequence(case.product.probes.get_array(), None, None)
            ).input
        ),
        'no pixel size',
    ),
    'two pixel sizes': (
        lambda case: (
            case.with_product(
                probes=ProbeSequence(case.product.probes.get_array(), None, PixelGeometry(2 * PIXEL, 2 * PIXEL))
            ).input
        ),
        r'2e-08 m but the object of 1e-08',
    ),
}


def test_a_fault_of_the_program_is_told_too(host: Host, case: Case) -> None:
    """Whatever it is: the host shows an error of its thread nowhere."""
    with pytest.raises(AttributeError):
        next(iter(host.library.reconstructors[0].reconstruct(replace(case.input, product=None))))  # type: ignore[arg-type]
    assert any('[ERROR]' in line and 'has failed: AttributeError' in line for line in host.log())


@pytest.mark.parametrize('what', REFUSED)
def test_what_the_method_cannot_do_is_refused_with_a_sentence(
    host: Host, case: Case, tmp_path: Path, what: str
) -> None:
    """In inference, in training and on export; the panel tells it, and nothing is written."""
    if what == 'near field' and not KNOWS_NEAR_FIELD:
        pytest.skip('this Ptychodus knows far field only')
    make, words = REFUSED[what]
    data, pinn = make(case), host.library.reconstructors[0]
    (tmp_path / 'in').mkdir()
    with pytest.raises(ScanError, match=words):
        next(iter(pinn.reconstruct(data)))
    with host.library.session.training_on(data), pytest.raises(ScanError, match=words):
        next(iter(pinn.train(tmp_path / 'in', tmp_path / 'out')))
    with pytest.raises(ScanError, match=words):
        pinn.export_training_data(tmp_path / 'exported.npz', data)
    assert len([line for line in host.log() if ('[ERROR]' in line and 'demo' in line) or 'probe' in line]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ['in']


def test_counts_are_estimated_without_what_is_no_measurement(case: Case) -> None:
    """Values that no detector counts, a hot pixel and a mad frame change the dose that is compared by little."""
    clean = estimate_mean_counts(HostScan.of(case.input))
    assert clean == pytest.approx(case.scan.mean_counts, rel=0.1)
    patterns = np.array(case.input.diffraction_patterns, dtype=np.int32)
    patterns[:, 10:14, :] = -1
    patterns[:, 3, 5] = 2_000_000
    patterns[0] = 50_000
    faulty = estimate_mean_counts(HostScan.of(replace(case.input, diffraction_patterns=patterns)))
    assert 0.5 * clean < faulty < 1.1 * clean


@pytest.mark.skipif(not KNOWS_NEAR_FIELD, reason='this Ptychodus knows far field only')
def test_the_engine_is_handed_the_fresnel_number_of_a_near_field_product(case: Case) -> None:
    """dx^2 / (wavelength z / M), with the host's own magnification."""
    near = Case.of(case.scan, far_field=False)
    metadata = replace(near.product.metadata, focus_object_distance_m=-0.5 * DISTANCE)
    found = HostScan.of(near.with_product(metadata=metadata).input, by_engine=True).description()['fresnel_number']
    assert metadata.magnification == pytest.approx(3)
    effective = metadata.detector_distance_m / metadata.magnification
    assert found == pytest.approx([PIXEL**2 / (metadata.photon_wavelength_m * effective)] * 2, rel=1e-6)
    assert HostScan.of(case.input).description()['fresnel_number'] is None
    unset = near.with_product(metadata=replace(metadata, photon_energy_eV=0.0)).input
    with pytest.raises(ScanError, match='photon energy or detector distance is not set'):
        HostScan.of(unset, by_engine=True).description()
