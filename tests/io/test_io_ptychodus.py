"""Ptychodus diffraction and product files (specs/data_contracts.md, section 3)."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bad_inputs import hdf5, replace_dataset, write_good_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scans import noise_product

from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.io import lazy as lazy_module
from ptychopinn_reconstructor.io import (
    read_object,
    read_probe,
    read_product,
    read_scan,
    write_cxi,
    write_diffraction,
    write_npz,
    write_product,
)
from ptychopinn_reconstructor.io.lazy import LazyPatterns
from ptychopinn_reconstructor.io.matching import match_by_index
from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder
from ptychopinn_reconstructor.io.scratch import FilePatterns, Scratch
from ptychopinn_reconstructor.patterns import PatternsOnDemand
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.result import NOMINAL_PIXEL_SIZE, Reconstruction


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    modes=st.integers(1, 3),
    pixel=st.tuples(st.floats(1e-10, 1e-6), st.floats(1e-10, 1e-6)),
    origin=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
)
def test_written_product_reads_back(
    tmp_path: Path, seed: int, modes: int, pixel: tuple[float, float], origin: tuple[float, float]
) -> None:
    """D31, D36."""
    result = noise_product(seed, modes, pixel_size=pixel, origin=origin)
    write_product(tmp_path / 'p.h5', result)
    back = read_product(tmp_path / 'p.h5')
    np.testing.assert_array_equal(back.object, result.object)
    np.testing.assert_array_equal(back.probe, result.probe)
    np.testing.assert_allclose(back.positions, result.positions, rtol=0, atol=1e-9)
    np.testing.assert_allclose(back.origin, origin, rtol=0, atol=1e-9)
    assert (back.pixel_size, back.losses, back.name) == (pixel, result.losses, 'test')
    assert (back.comments, back.metadata['photon_energy_eV']) == ('a comment', 8000.0)
    np.testing.assert_array_equal(back.metadata['probe_position_indexes'], np.arange(20) + 3)
    assert os.listdir(tmp_path) == ['p.h5']


def test_meters_in_the_file(tmp_path: Path) -> None:
    """D32: index = (x_m - center_x_m) / pixel_width_m + (W - 1) / 2, x along columns."""
    result = noise_product()
    write_product(tmp_path / 'p.h5', result)
    with h5py.File(tmp_path / 'p.h5') as file:
        assert file['object'].shape == (1, 91, 80) and file['probe'].shape == (1, 2, 16, 16)
        attributes = file['object'].attrs
        column = (file['probe_position_x_m'][()] - attributes['center_x_m']) / attributes['pixel_width_m'] + 79 / 2
        row = (file['probe_position_y_m'][()] - attributes['center_y_m']) / attributes['pixel_height_m'] + 90 / 2
        assert file['object_layer_spacing_m'].shape == (0,)
        assert {'name', 'comments', 'detector_object_distance_m', 'photon_energy_eV', 'far_field'} <= set(file.attrs)
    np.testing.assert_allclose(column, result.positions[:, 1] + 37.5, atol=1e-9)
    np.testing.assert_allclose(row, result.positions[:, 0] + 41.25, atol=1e-9)


def test_nominal_pixel_size_is_said(tmp_path: Path) -> None:
    """D37."""
    write_product(tmp_path / 'p.h5', noise_product(pixel_size=None))
    back = read_product(tmp_path / 'p.h5')
    assert back.pixel_size == (NOMINAL_PIXEL_SIZE, NOMINAL_PIXEL_SIZE)
    assert 'Object pixels of 1e-08 m are nominal' in back.comments and back.comments.startswith('a comment')
    assert back.pixel_size_is_nominal and back.known_pixel_size is None
    write_diffraction(tmp_path / 'd.h5', np.ones((5, 16, 16), np.uint16), np.arange(5) + 3)
    assert read_scan(tmp_path / 'd.h5', product=tmp_path / 'p.h5').scan.pixel_size is None
    with h5py.File(tmp_path / 'p.h5', 'a') as file:
        del file.attrs['ptychopinn_pixel_size_is_nominal']
    assert read_product(tmp_path / 'p.h5').known_pixel_size == back.pixel_size  # whatever the comments say


def test_a_pixel_size_that_the_user_gives_is_not_nominal(tmp_path: Path) -> None:
    """D37."""
    write_product(tmp_path / 'p.h5', noise_product(pixel_size=None).with_pixel_size(2.5e-8))
    back = read_product(tmp_path / 'p.h5')
    assert back.known_pixel_size == pytest.approx((2.5e-8, 2.5e-8)) and '2.5e-08 m are as given' in back.comments
    assert noise_product().with_pixel_size(2.5e-8).pixel_size == noise_product().pixel_size
    np.testing.assert_allclose(back.positions, noise_product().positions, atol=1e-9)


def test_old_names_are_understood(tmp_path: Path) -> None:
    """D31: probe_energy_eV, costs, a probe of three axes and no pixel size of its own."""
    write_product(tmp_path / 'p.h5', noise_product())
    with h5py.File(tmp_path / 'p.h5', 'a') as file:
        del file.attrs['photon_energy_eV'], file['loss_values'], file['loss_epochs'], file['object_layer_spacing_m']
        file.attrs['probe_energy_eV'] = 7000.0
        file['costs'] = [3.0, 2.0]
        probe = file['probe'][0]
        del file['probe']
        file['probe'] = probe
    back = read_product(tmp_path / 'p.h5')
    assert back.metadata['photon_energy_eV'] == 7000.0 and back.losses == ((0, 3.0), (1, 2.0))
    np.testing.assert_array_equal(back.probe, noise_product().probe)


def test_folder_file_and_product_elsewhere(tmp_path: Path) -> None:
    """D30."""
    folder = write_good_folder(tmp_path)
    whole = read_scan(folder).scan
    assert (whole.domain, whole.pixel_size, whole.metadata['name']) == ('counts', (1e-8, 1e-8), 'good')
    (folder / 'other').mkdir()
    (folder / 'product.h5').rename(folder / 'other' / 'result.h5')
    other = read_scan(str(folder / 'diffraction.h5'), product=folder / 'other' / 'result.h5').scan
    np.testing.assert_array_equal(other.positions, whole.positions)
    np.testing.assert_array_equal(other.diffraction, whole.diffraction)


def test_probe_and_object_of_a_product(tmp_path: Path) -> None:
    """D40, D41."""
    result = noise_product()
    write_product(tmp_path / 'product.h5', result)
    np.testing.assert_array_equal(read_probe(tmp_path / 'product.h5'), result.probe)
    found = read_object(tmp_path)
    np.testing.assert_array_equal(found.object, result.object)
    np.testing.assert_allclose(found.origin, result.origin, atol=1e-9)
    assert found.positions is not None and found.pixel_size == result.pixel_size


def test_constant_weights_are_accepted(tmp_path: Path) -> None:
    """D34."""

    def weights(_: h5py.File, product: h5py.File) -> None:
        product['opr_weights'] = np.ones((10, 1))

    assert len(read_scan(hdf5(weights)(tmp_path)).scan) == 10


def test_a_probe_that_varies_is_read_as_its_mean_and_told(tmp_path: Path) -> None:
    """Two relaxation modes, the second with weights about .5; a single one whose power varies stays as it is."""
    along = np.linspace(0.3, 0.7, 10)

    def modes(_: h5py.File, product: h5py.File) -> None:
        one = product['probe'][()]
        del product['probe']
        product['probe'] = np.concatenate([one, 1j * one])
        product['opr_weights'] = np.stack([np.ones(10), along], axis=1)

    def powers(_: h5py.File, product: h5py.File) -> None:
        product['opr_weights'] = np.linspace(0.9, 1.1, 10)[:, None]

    found = []
    for name, change in {'plain': lambda *_: None, 'modes': modes, 'powers': powers}.items():
        (tmp_path / name).mkdir()
        found.append(read_scan(hdf5(change)(tmp_path / name)))
    plain, mean, single = found
    assert plain.scan.probe is not None and mean.scan.probe is not None and single.scan.probe is not None
    np.testing.assert_allclose(mean.scan.probe, plain.scan.probe * (1 + 0.5j), rtol=1e-5)
    np.testing.assert_array_equal(single.scan.probe, plain.scan.probe)
    told = [[notice.code for notice in read.notices].count('varying_probe') for read in found]
    assert told == [0, 1, 1]


def test_components_of_a_probe_are_written_as_relaxation_modes(tmp_path: Path) -> None:
    """The first mode of each pattern is the weighted sum of them, the other modes are those of the mean probe."""
    rng = np.random.default_rng(0)
    probe = (rng.normal(size=(2, 16, 16)) + 1j).astype(np.complex64)
    components, weights = probe[:1] * np.complex64(0.1j), np.stack([np.ones(5), np.linspace(-1, 1, 5)], axis=1)
    result = Reconstruction(
        np.ones((40, 40), np.complex64),
        (8.0, 8.0),
        probe,
        np.arange(10.0).reshape(5, 2),
        metadata={'probe_components': components, 'opr_weights': weights},
    )
    write_product(tmp_path / 'product.h5', result)
    with h5py.File(tmp_path / 'product.h5') as file:
        stored, along = file['probe'][()], file['opr_weights'][()]
    np.testing.assert_array_equal(along, weights)
    np.testing.assert_array_equal(stored[:, 0], [probe[0], components[0]])
    np.testing.assert_array_equal(stored[:, 1], [probe[1], np.zeros((16, 16))])
    np.testing.assert_allclose(read_product(tmp_path / 'product.h5').probe, probe, atol=1e-6)


def test_matching_averages_interpolates_and_leaves_out() -> None:
    """D35: an independent loop over the patterns gives the same positions."""
    indexes = np.array([7, 2, 3, 4, -1, 25, 12, 1])
    known = np.array([2, 3, 3, 6, 12])
    positions = np.array([[0.0, 1.0], [2.0, 0.0], [4.0, 8.0], [9.0, 1.0], [3.0, 7.0]])
    matched = match_by_index(indexes, known, positions)
    # 7: a sixth of the way from 6 to 12; 4: a third of the way from 3 (mean [3, 4]) to 6
    expected = [[8.0, 2.0], [0.0, 1.0], [3.0, 4.0], [5.0, 3.0], [3.0, 7.0]]
    np.testing.assert_array_equal(matched.rows, [0, 1, 2, 3, 6])
    np.testing.assert_allclose(matched.positions, expected)
    said = ' '.join(notice.text for notice in matched.notices)
    assert '5 of 8' in said and 'Left out 3 patterns' in said and 'of 2 patterns' in said and 'Averaged 1' in said


def test_a_slot_that_was_never_filled_is_left_out() -> None:
    """D35: a negative index marks an empty slot of the host, whatever the positions' indexes are."""
    matched = match_by_index(np.array([-1, 0, 1]), np.array([-1, 0, 1]), np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(matched.rows, [1, 2])
    np.testing.assert_array_equal(matched.positions, [[2, 3], [4, 5]])


def test_left_out_patterns_are_named_and_keep_their_indexes(tmp_path: Path) -> None:
    """D35: the host's indexes of what is left travel with the scan."""
    patterns = np.random.default_rng(0).poisson(9, (30, 16, 16)).astype(np.uint16)
    write_product(tmp_path / 'product.h5', noise_product())
    write_diffraction(tmp_path / 'diffraction.h5', patterns, np.arange(30)[::-1])
    file = read_scan(tmp_path)
    assert file.scan.pattern_indexes is not None and any(
        'Left out 10 patterns' in notice.text for notice in file.notices
    )
    np.testing.assert_array_equal(file.scan.pattern_indexes, np.arange(22, 2, -1))
    np.testing.assert_array_equal(file.scan.diffraction, patterns[7:27])
    np.testing.assert_allclose(file.scan.positions, noise_product().positions[::-1], atol=1e-9)


PACKED = {'chunks': (7, 16, 16), 'compression': 'lzf'}


@pytest.mark.parametrize('storage', [{}, {'chunks': (1, 16, 16)}, PACKED], ids=['plain', 'chunked', 'packed'])
@pytest.mark.parametrize('order', ['whole', 'reversed'])
def test_big_patterns_stay_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: dict[str, Any], order: str
) -> None:
    """D33, MEMORY: packed ones are unpacked, others read on demand, to the same scan."""
    folder = write_good_folder(tmp_path)
    patterns = np.random.default_rng(1).poisson(9, (10, 16, 16)).astype(np.uint16)
    with h5py.File(folder / 'diffraction.h5', 'a') as file:
        del file['patterns']
        file.create_dataset('patterns', data=patterns, **storage)
        if order == 'reversed':
            replace_dataset(file, 'indexes', np.array([9, -1, 7, 6, 5, 4, 3, 2, 1, 0]))
    at_once = read_scan(folder).scan
    monkeypatch.setattr(lazy_module, 'LARGE', 1)
    scan = read_scan(folder).scan
    expected: type[PatternsOnDemand] = LazyPatterns if storage else FilePatterns
    if storage is PACKED:
        expected = Scratch
    stored: Any = scan.diffraction
    assert isinstance(stored, expected) and isinstance(at_once.diffraction, np.ndarray)
    assert scan.mean_counts == at_once.mean_counts
    for index in (slice(2, 5), np.array([8, 0, 8, 3]), np.arange(0)):
        np.testing.assert_array_equal(scan.counts(index), at_once.counts(index))


@settings(max_examples=60)
@given(data=st.data())
def test_lazy_patterns_index_like_numpy(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """D33."""
    path = tmp_path_factory.getbasetemp() / 'lazy.h5'
    values = np.random.default_rng(0).integers(0, 99, (23, 4, 5)).astype(np.uint16)
    if not path.exists():
        with h5py.File(path, 'w') as file:
            file.create_dataset('patterns', data=values, chunks=(5, 4, 4), compression='gzip')
    rows = data.draw(st.lists(st.integers(0, 22), min_size=1, max_size=30))
    index = data.draw(
        st.one_of(
            st.integers(-len(rows), len(rows) - 1),
            st.slices(len(rows)),
            st.lists(st.integers(-len(rows), len(rows) - 1)).map(lambda v: np.array(v, dtype=np.int64)),
            st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)).map(lambda v: np.array(v, dtype=bool)),
            st.tuples(st.slices(len(rows)), st.integers(0, 3)),
            st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 3), st.integers(0, 4)),
        )
    )
    patterns, expected = LazyPatterns(path, 'patterns', np.array(rows)), values[rows]
    assert (len(patterns), patterns.shape, patterns.dtype) == (len(rows), expected.shape, expected.dtype)
    np.testing.assert_array_equal(patterns[index], expected[index])
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(patterns))), expected)


def test_unwritable_product_is_one_sentence_and_leaves_the_old_one(tmp_path: Path) -> None:
    """D2."""
    write_product(tmp_path / 'p.h5', noise_product())
    before = (tmp_path / 'p.h5').read_bytes()
    with pytest.raises(TypeError):
        write_product(tmp_path / 'p.h5', noise_product(metadata={'exposure_time_s': [1, 2]}))
    assert (tmp_path / 'p.h5').read_bytes() == before and os.listdir(tmp_path) == ['p.h5']
    with pytest.raises(OutputError, match='Cannot write'):
        write_product(tmp_path / 'p.h5' / 'q.h5', noise_product())


def test_a_product_is_no_scan_of_another_size(tmp_path: Path) -> None:
    """D3, D12."""
    folder = write_good_folder(tmp_path)
    write_product(folder / 'product.h5', replace(noise_product(), probe=np.ones((1, 32, 32), np.complex64)))
    with pytest.raises(ScanError, match='32 pixels wide'):
        read_scan(folder)


def test_results_lie_on_the_grid_of_the_products_object(tmp_path: Path) -> None:
    """D32, U11."""
    scan = read_scan(write_good_folder(tmp_path)).scan
    assert scan.on_object_grid and scan.object_origin == (29.5, 29.5)


def test_layers_of_an_object_are_read_as_their_product(tmp_path: Path) -> None:
    """D34: the projection of a thin sample, with a sentence on what is lost."""
    scan = simulate(n=32, positions=9, step=4.0, seed=0)
    write_ptychodus_folder(tmp_path, scan)
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / 'product.h5', 'r+') as file:
        shape = file['object'].shape[1:]
        layers = np.exp(1j * rng.normal(0, 0.2, (3, *shape))).astype(np.complex64)
        attributes = dict(file['object'].attrs)
        del file['object'], file['object_layer_spacing_m']
        file['object'], file['object_layer_spacing_m'] = layers, np.array([2e-6, 4e-6])
        file['object'].attrs.update(attributes)
    read = read_scan(tmp_path)
    assert read.scan.object == pytest.approx(layers.prod(axis=0), abs=1e-6)
    told = next(notice.text for notice in read.notices if notice.code == 'object_layers')
    assert '3 layers' in told and '6 um apart' in told and '30.5 nm (3 pixels) is lost' in told


@pytest.mark.parametrize('focus', [0.0, -0.02, 0.02])
def test_a_product_of_the_near_field_has_a_fresnel_number(tmp_path: Path, focus: float) -> None:
    """D34: from energy, distances and object pixels, as the host propagates; ours is written and read again."""
    scan = simulate(n=32, positions=9, step=4.0, seed=0, probe='diffuser', fresnel_number=0.05)
    write_ptychodus_folder(tmp_path, scan)
    assert read_scan(tmp_path).scan.fresnel_number == (0.05, 0.05)
    with h5py.File(tmp_path / 'product.h5', 'r+') as file:
        assert not file.attrs['far_field']
        del file.attrs['ptychopinn_fresnel_number']
        file.attrs['focus_object_distance_m'] = focus
        distance = float(file.attrs['detector_object_distance_m'])
    magnification = 1 if focus == 0 else abs((distance - focus) / focus)
    found = read_scan(tmp_path).scan.fresnel_number
    assert found == pytest.approx((0.05 * magnification,) * 2, rel=1e-6)


def test_files_of_the_near_field_are_read_as_they_were_written(tmp_path: Path) -> None:
    """D34, D74: NPZ keeps the Fresnel number, CXI lengths of a parallel beam that make it."""
    scan = simulate(n=32, positions=9, step=4.0, seed=0, probe='diffuser', fresnel_number=0.05)
    write_npz(tmp_path / 'scan.npz', scan)
    write_cxi(tmp_path / 'scan.cxi', scan)
    for name in ('scan.npz', 'scan.cxi'):
        read = read_scan(tmp_path / name, as_is=True).scan
        assert read.fresnel_number == pytest.approx((0.05, 0.05))
        assert np.ptp(read.positions, axis=0) == pytest.approx(np.ptp(scan.positions, axis=0))
