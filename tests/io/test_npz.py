"""Scans, probes and objects as NPZ files (specs/data_contracts.md, sections 1 and 2)."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_inputs import BAD_OBJECTS, BAD_PROBES, BAD_SCANS, Builder, good_arrays, npz, write_good
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.io import read_object, read_probe, read_scan, write_npz
from ptychopinn_reconstructor.io.domain import decide_domain
from ptychopinn_reconstructor.scan import Scan


def _raises_one_sentence(call: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ScanError) as caught:
        call()
    message = str(caught.value)
    assert '\n' not in message and len(message) > 20
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(('build', 'words'), [e[1:] for e in BAD_SCANS], ids=[e[0] for e in BAD_SCANS])
def test_bad_scan_is_refused_in_one_sentence(tmp_path: Path, build: Builder, words: tuple[str, ...]) -> None:
    """D3."""
    _raises_one_sentence(lambda: read_scan(build(tmp_path)), words)


@pytest.mark.parametrize(('build', 'words'), [e[1:] for e in BAD_PROBES], ids=[e[0] for e in BAD_PROBES])
def test_bad_probe_is_refused_in_one_sentence(tmp_path: Path, build: Builder, words: tuple[str, ...]) -> None:
    """D3, D40."""
    _raises_one_sentence(lambda: read_probe(str(build(tmp_path))), words)


@pytest.mark.parametrize(('build', 'words'), [e[1:] for e in BAD_OBJECTS], ids=[e[0] for e in BAD_OBJECTS])
def test_bad_object_is_refused_in_one_sentence(tmp_path: Path, build: Builder, words: tuple[str, ...]) -> None:
    """D3, D41."""
    _raises_one_sentence(lambda: read_object(build(tmp_path)), words)


def test_axes_of_positions(tmp_path: Path) -> None:
    """D11: xcoords are columns, ycoords rows."""
    scan = read_scan(write_good(tmp_path)).scan
    np.testing.assert_array_equal(scan.positions[:, 0], good_arrays()['ycoords'])
    np.testing.assert_array_equal(scan.positions[:, 1], good_arrays()['xcoords'])


@pytest.mark.parametrize('kind', [str, Path])
def test_path_types(tmp_path: Path, kind: type) -> None:
    """D1."""
    assert len(read_scan(kind(write_good(tmp_path))).scan) == 10


def test_stored_patterns_are_mapped_and_compressed_ones_keep_their_dtype(tmp_path: Path) -> None:
    """D14."""
    mapped = read_scan(write_good(tmp_path)).scan.diffraction
    assert isinstance(mapped, np.memmap) and mapped.dtype == np.uint16 and not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, good_arrays()['diff3d'])
    np.savez_compressed(tmp_path / 'small.npz', **good_arrays())
    unpacked = read_scan(tmp_path / 'small.npz').scan.diffraction
    assert unpacked.dtype == np.uint16
    np.testing.assert_array_equal(unpacked, mapped)


@pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from the kernel of Linux')
def test_a_big_stored_scan_is_not_held_in_memory(tmp_path: Path) -> None:
    """D14, MEMORY: 400 MB of patterns are read and summed with far less private memory."""
    path = tmp_path / 'big.npz'
    header = {'descr': '<u2', 'fortran_order': False, 'shape': (50_000, 64, 64)}
    block = np.ones((1000, 64, 64), np.uint16)
    with zipfile.ZipFile(path, 'w') as archive:
        for key in ('xcoords', 'ycoords'):
            with archive.open(f'{key}.npy', 'w') as member:
                np.save(member, np.arange(50_000) % 200.0)
        with archive.open('diff3d.npy', 'w', force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(50):
                member.write(block.tobytes())
    code = (
        'import sys; from ptychopinn_reconstructor.io import read_scan\n'
        'scan = read_scan(sys.argv[1]).scan\n'
        'assert scan.mean_counts == 4096, scan.mean_counts\n'
        "print(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1])"
    )
    run = subprocess.run([sys.executable, '-c', code, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200_000, 'private memory in kB'


@pytest.mark.parametrize('shape', [(16, 16), (3, 16, 16), (16, 16, 1), (1, 2, 16, 16)])
def test_shapes_of_probes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """D12: one mode, several modes, a trailing axis, one relaxation mode."""
    values = np.arange(np.prod(shape)).reshape(shape) * (1 + 2j)
    probe = read_scan(npz(probeGuess=values)(tmp_path)).scan.probe
    assert probe is not None and probe.dtype == np.complex64
    np.testing.assert_array_equal(probe, values.astype(np.complex64).reshape(-1, 16, 16))


@pytest.mark.parametrize('axis', [1, 2])
@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_pattern_axis_is_moved_to_the_front(tmp_path: Path, axis: int, save: Any) -> None:
    """D13: legacy (H, W, M) order; the axis that matches the positions counts the patterns."""
    arrays = good_arrays()
    save(tmp_path / 's.npz', **{**arrays, 'diff3d': np.moveaxis(arrays['diff3d'], 0, axis)})
    file = read_scan(tmp_path / 's.npz')
    np.testing.assert_array_equal(file.scan.diffraction, arrays['diff3d'])
    assert any(f'Moved axis {axis}' in notice.text for notice in file.notices)


def test_a_cube_is_read_when_its_axes_are_declared(tmp_path: Path) -> None:
    """D13: N patterns of N x N pixels are unambiguous with diff3d_axes, which write_npz adds."""
    diffraction = np.random.default_rng(0).poisson(5, (16, 16, 16)).astype(np.uint16)
    positions = np.random.default_rng(1).uniform(0, 30, (16, 2))
    write_npz(tmp_path / 'cube.npz', Scan(diffraction=diffraction, positions=positions))
    np.testing.assert_array_equal(read_scan(tmp_path / 'cube.npz').scan.diffraction, diffraction)


def test_pickled_metadata_is_skipped_with_a_note(tmp_path: Path) -> None:
    """D15: everything else is read."""
    file = read_scan(npz(_metadata=np.array(['{}'], dtype=object), Y=np.ones(3))(tmp_path))
    assert len(file.scan) == 10
    assert any('_metadata' in notice.text for notice in file.notices) and any(
        "'Y'" in notice.text for notice in file.notices
    )


def test_alias_of_diffraction(tmp_path: Path) -> None:
    """D10."""
    arrays = good_arrays()
    assert len(read_scan(npz(diff3d=None, diffraction=arrays['diff3d'])(tmp_path)).scan) == 10


def test_object_off_the_positions_is_left_out_with_a_note(tmp_path: Path) -> None:
    """D16: such an object is no label."""
    file = read_scan(npz(objectGuess=np.ones((20, 20), complex))(tmp_path))
    assert file.scan.object is None and any('objectGuess' in notice.text for notice in file.notices)


@pytest.mark.parametrize(
    ('places', 'side', 'expected'),
    [((7.5, 52.5), 61, True), ((7.5, 52.5), 60, False), ((7.49, 52.0), 60, True), ((6.9, 40.0), 60, False)],
)
def test_results_lie_on_the_grid_of_an_object_that_holds_every_patch(
    tmp_path: Path, places: tuple[float, float], side: int, expected: bool
) -> None:
    """D16, U11: patches of 16 pixels from the smallest center to the largest, rounded to whole pixels."""
    centers = np.linspace(*places, 10)
    file = npz(xcoords=centers, ycoords=centers[::-1], objectGuess=np.ones((side, 60 + side % 2), complex))(tmp_path)
    scan = read_scan(file).scan
    assert scan.object is not None and scan.on_object_grid is expected
    assert not read_scan(npz(objectGuess=None)(tmp_path)).scan.on_object_grid


def exported(**changes: Any) -> dict[str, Any]:
    """The arrays of a file as Ptychodus exports it: a detector of 0.37 per photon, two modes, one bad pixel."""
    arrays = good_arrays()
    noise = np.random.default_rng(1).uniform(0, 40, arrays['diff3d'].shape)
    bad = np.zeros((16, 16), bool)
    bad[3, 5] = True
    new = {
        'xcoords_start': arrays['xcoords'],
        'ycoords_start': arrays['ycoords'],
        'diff3d': (0.37 * arrays['diff3d'] + noise).astype(np.float32),
        'bad_pixels': bad,
        'probeGuess': np.ones((2, 16, 16), complex),
        'objectGuess': np.ones((60, 60), complex),
        'scan_index': np.zeros(10, int),
    }
    return {key: value for key, value in {**arrays, **new, **changes}.items() if value is not None}


@pytest.mark.parametrize('name', ['train_data.npz', 'test_data.npz', 'any.npz'])
def test_what_ptychodus_exports_as_intensity_is_intensity(tmp_path: Path, name: str) -> None:
    """D25: floating-point values that nothing tells from amplitudes, and even values whose squares are whole."""
    np.savez(tmp_path / name, **exported())
    file = read_scan(tmp_path / name)
    np.testing.assert_array_equal(file.scan.diffraction, exported()['diff3d'])
    assert (file.scan.domain, file.scan.on_object_grid) == ('counts', True)
    assert file.scan.bad_pixels is not None and file.scan.bad_pixels.sum() == 1
    assert any('counts, because the file is one that Ptychodus exports' in notice.text for notice in file.notices)
    np.savez(tmp_path / name, **exported(diff3d=np.sqrt(good_arrays()['diff3d'])))
    assert read_scan(tmp_path / name).scan.domain == 'counts'
    assert read_scan(tmp_path / name, domain='amplitude').scan.domain == 'amplitude'


@pytest.mark.parametrize(
    'changes',
    [
        {'bad_pixels': None},
        {'scan_index': np.arange(10)},
        {'scan_index': None},
        {'objectGuess': None},
        {'Y': np.ones(3)},
        {'measurement_domain': np.array('amplitude')},
    ],
    ids=['no bad pixels', 'several scans', 'no scan index', 'no object', 'labels', 'declared'],
)
def test_other_files_are_not_taken_for_an_export(tmp_path: Path, changes: dict[str, Any]) -> None:
    """D20, D25: roots of counts are amplitude there, and what cannot be told is refused as ever."""
    np.savez(tmp_path / 's.npz', **exported(diff3d=np.sqrt(good_arrays()['diff3d']), **changes))
    assert read_scan(tmp_path / 's.npz', as_is=True).scan.domain == 'amplitude'
    if 'measurement_domain' not in changes:
        np.savez(tmp_path / 's.npz', **exported(**changes))
        with pytest.raises(ScanError, match='measurement_domain=counts or amplitude'):
            read_scan(tmp_path / 's.npz', as_is=True)


def _photons(n: int = 40, side: int = 32, peak: float = 300.0) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side // 2
    return np.random.default_rng(5).poisson(peak * np.exp(-(x**2 + y**2) / 60.0), (n, side, side)).astype(np.float64)


@pytest.mark.parametrize(
    ('make', 'expected'),
    [
        (lambda c: c.astype(np.int64), 'counts'),
        (lambda c: c.astype(np.float32), 'counts'),
        (lambda c: c * 0.37, 'counts'),
        (lambda c: c + 0.3 * np.random.default_rng(1).normal(size=c.shape), 'counts'),
        (lambda c: np.sqrt(c).astype(np.float32), 'amplitude'),
        (lambda c: (np.sqrt(c) * 0.0123).astype(np.float32), 'amplitude'),
        (lambda c: np.abs(np.sqrt(c) + 0.1 * np.random.default_rng(1).normal(size=c.shape)), 'amplitude'),
    ],
    ids=['integers', 'whole floats', 'gain', 'read noise', 'roots', 'scaled roots', 'noisy roots'],
)
def test_domain_is_decided(make: Any, expected: str) -> None:
    """D20 to D23: steps of counting in the values or their squares, then the counting noise."""
    assert decide_domain(make(_photons()))[0] == expected


@pytest.mark.parametrize('root', [False, True])
def test_domain_without_noise_is_refused(root: bool) -> None:
    """D24: a noise-free simulation could be either."""
    y, x = np.mgrid[:32, :32] - 16
    smooth = np.tile(300.1 * np.exp(-(x**2 + y**2) / 60.0), (8, 1, 1))
    with pytest.raises(ScanError, match='measurement_domain=counts or amplitude'):
        decide_domain(np.sqrt(smooth) if root else smooth)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    peak=st.floats(2.0, 1e4),
    scale=st.floats(1e-3, 1e3) | st.sampled_from([1.0, 2.0, 5.0, 2**0.5, 0.1]),
)
def test_domain_is_never_mistaken(seed: int, peak: float, scale: float) -> None:
    """D20 to D24: whatever the dose and the unit, roots are never called counts nor counts amplitude."""
    y, x = np.mgrid[:16, :16] - 8
    counts = np.random.default_rng(seed).poisson(peak * np.exp(-(x**2 + y**2) / 20.0), (12, 16, 16)).astype(np.float64)
    for values, expected in ((counts * scale, 'counts'), (np.sqrt(counts) * scale, 'amplitude')):
        try:
            assert decide_domain(values)[0] == expected
        except ScanError:
            event(f'{expected} refused')
            assert scale != 1.0, 'the plain unit is always recognized'


@pytest.mark.parametrize('name', ['simulated_A', 'siemens_star_velociprobe'])
@pytest.mark.parametrize('root', [False, True])
def test_domain_of_real_patterns(shared_data: Path, name: str, root: bool) -> None:
    """D21, D22."""
    with np.load(shared_data / f'{name}.npz') as data:
        patterns = data['diff3d'][::8].astype(np.float32)
    assert decide_domain(np.sqrt(patterns) if root else patterns)[0] == ('amplitude' if root else 'counts')


def test_given_domain_wins_and_notes_say_so(tmp_path: Path) -> None:
    """D20."""
    file = read_scan(write_good(tmp_path), domain='amplitude')
    assert file.scan.domain == 'amplitude' and any('amplitude, as given' in notice.text for notice in file.notices)
    with pytest.raises(ScanError, match='intensity'):
        read_scan(write_good(tmp_path), domain='intensity')  # type: ignore[arg-type]


def _scan(seed: int, n: int, modes: int, dtype: str, domain: str) -> Scan:
    random = np.random.default_rng(seed)
    values = random.poisson(9, (n, 16, 16)).astype(dtype)
    positions = random.uniform(-20, 40, (n, 2))
    positions[:2] = [[-20, -20], [40, 40]]  # two at random may lie too close to be a scan

    def complex_(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)

    return Scan(
        diffraction=np.sqrt(values) if domain == 'amplitude' else values,
        positions=positions,
        probe=complex_(modes, 16, 16),
        domain=domain,  # type: ignore[arg-type]
        object=complex_(90, 80),
        object_origin=(25.5, 30.25),
        bad_pixels=random.uniform(size=(16, 16)) < 0.1,
        scan_index=random.integers(0, 3, n),
        pixel_size=(1e-8, 2e-8),
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(2, 300),
    modes=st.integers(1, 3),
    dtype=st.sampled_from(['u1', '<u2', '>u2', 'i8', 'f4', 'f8']),
    domain=st.sampled_from(['counts', 'amplitude']),
    compressed=st.booleans(),
)
def test_written_scan_reads_back(
    tmp_path: Path, seed: int, n: int, modes: int, dtype: str, domain: str, compressed: bool
) -> None:
    """D17: every field; positions come back on the grid of the object."""
    scan = _scan(seed, n, modes, dtype, domain)
    write_npz(tmp_path / 's.npz', scan, compressed=compressed)
    back = read_scan(tmp_path / 's.npz', as_is=True).scan
    for field in ('diffraction', 'probe', 'object', 'bad_pixels', 'scan_index'):
        np.testing.assert_array_equal(getattr(back, field), getattr(scan, field), err_msg=field)
    assert back.diffraction.dtype == scan.diffraction.dtype
    assert (back.domain, back.pixel_size) == (scan.domain, scan.pixel_size)
    np.testing.assert_allclose(back.positions + back.object_origin, scan.positions + scan.object_origin, atol=1e-12)
    assert back.object_origin == (0.0, 0.0)
    assert os.listdir(tmp_path) == ['s.npz']


def test_numpy_reads_what_is_written_and_equal_scans_make_equal_files(tmp_path: Path) -> None:
    """D17: the file is plain NPZ."""
    scan = _scan(1, 5, 1, 'u2', 'counts')
    write_npz(tmp_path / 'a.npz', scan)
    write_npz(tmp_path / 'b.npz', scan)
    assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()
    with np.load(tmp_path / 'a.npz', allow_pickle=False) as data:
        assert {'xcoords', 'ycoords', 'xcoords_start', 'ycoords_start', 'diff3d', 'probeGuess'} <= set(data.files)
        np.testing.assert_array_equal(data['diff3d'], scan.diffraction)
        np.testing.assert_array_equal(data['xcoords'], scan.positions[:, 1] + 30.25)


def test_probe_in_place_of_the_scans(tmp_path: Path) -> None:
    """D40: the scan's own probe is not even looked at; the notes say which probe is used."""
    other = np.full((2, 16, 16), 3 + 1j, np.complex64)
    np.savez(tmp_path / 'p.npz', probe=other, mine=2 * other, probeGuess=0 * other)
    path = npz(probeGuess=np.ones((32, 32)))(tmp_path)
    file = read_scan(path, probe=f'{tmp_path / "p.npz"}:mine')
    np.testing.assert_array_equal(file.scan.probe, 2 * other)
    assert any('p.npz:mine' in notice.text for notice in file.notices)
    np.testing.assert_array_equal(read_probe(tmp_path / 'p.npz'), other)
    np.save(tmp_path / 'p.npy', other[0])
    np.testing.assert_array_equal(read_probe(str(tmp_path / 'p.npy')), other[:1])


def test_star_and_its_reference_agree_on_the_origin(shared_data: Path) -> None:
    """D41: index in the array = position + origin puts every patch inside the reference object."""
    scan = read_scan(
        shared_data / 'siemens_star_velociprobe.npz', probe=f'{shared_data}/siemens_star_reference.npz'
    ).scan
    truth = read_object(shared_data / 'siemens_star_reference.npz')
    assert scan.domain == 'counts' and scan.probe is not None
    np.testing.assert_allclose(np.sum(np.abs(scan.probe) ** 2), 4.6e5, rtol=0.02)
    centers = scan.positions + truth.origin
    assert centers.min() >= 63.5 and (centers + 63.5 <= np.array(truth.object.shape) - 1 + 1e-3).all()


def test_simulated_scan_is_read_with_its_truth(shared_data: Path) -> None:
    """D16: the object is on the positions' grid."""
    scan = read_scan(shared_data / 'simulated_A.npz').scan
    assert scan.object is not None and scan.object.shape == (321, 321) and scan.object_origin == (0.0, 0.0)
    truth = read_object(shared_data / 'simulated_A.npz')
    assert truth.positions is not None
    np.testing.assert_array_equal(truth.positions, scan.positions)
    np.testing.assert_array_equal(truth.object, scan.object)


def test_unwritable_target_is_one_sentence(tmp_path: Path) -> None:
    """D2."""
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='Cannot write'):
        write_npz(tmp_path / 'file' / 'scan.npz', _scan(1, 5, 1, 'u2', 'counts'))


def test_reading_loads_nothing_heavy(tmp_path: Path) -> None:
    """D1: an NPZ scan needs numpy only, unless it is looked at."""
    code = (
        'import sys; from ptychopinn_reconstructor.io import read_scan; read_scan(sys.argv[1], as_is=True)\n'
        "print(sorted({'h5py', 'matplotlib', 'scipy', 'torch', 'lightning'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, '-c', code, str(write_good(tmp_path))], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == '[]'
