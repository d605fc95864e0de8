"""The folder that Ptychodus's batch mode reads, for a simulated scan."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from ptychopinn_reconstructor.cli.main import main
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ConfigError, OutputError, ScanError
from ptychopinn_reconstructor.io import read_object, read_product, read_scan
from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder, write_settings
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

PLANCK, LIGHT, CHARGE = 6.62607015e-34, 299792458.0, 1.602176634e-19


@pytest.fixture
def scan() -> Scan:
    return simulate(n=32, positions=30, step=6.0, seed=3)


def ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_the_folder_reads_back_as_the_scan_with_a_flat_object(tmp_path: Path, scan: Scan) -> None:
    assert scan.object is not None and scan.probe is not None
    paths = write_ptychodus_folder(tmp_path / 'new' / 'folder', scan)
    assert {kind: path.name for kind, path in paths.items()} == {
        'diffraction': 'diffraction.h5', 'product': 'product.h5', 'truth': 'truth.h5', 'settings': 'settings.ini'
    }  # fmt: skip
    found = read_scan(tmp_path / 'new' / 'folder').scan
    assert found.object is not None and found.probe is not None
    assert np.array_equal(found.diffraction[:], scan.diffraction[:]) and found.domain == 'counts'
    assert np.allclose(found.positions, scan.positions, rtol=0, atol=1e-9)
    assert np.array_equal(found.probe, scan.probe)
    assert np.array_equal(found.object, np.ones(scan.object.shape))
    truth = read_object(paths['truth'])
    assert np.array_equal(truth.object, scan.object)
    assert np.allclose(truth.origin, scan.object_origin, rtol=0, atol=1e-9)


@pytest.mark.parametrize('n', [32, 64])
def test_the_object_pixel_follows_from_wavelength_distance_and_detector(tmp_path: Path, n: int) -> None:
    paths = write_ptychodus_folder(tmp_path, simulate(n=n, positions=4, seed=0))
    product = read_product(paths['product'])
    wavelength = PLANCK * LIGHT / (CHARGE * product.metadata['photon_energy_eV'])
    with h5py.File(paths['diffraction']) as file:
        pixels = [float(file['patterns'].attrs[f'detector_pixel_{side}_m']) for side in ('height', 'width')]
    expected = [wavelength * product.metadata['detector_object_distance_m'] / (n * pixel) for pixel in pixels]
    assert product.pixel_size == pytest.approx(expected, rel=1e-9)


def test_the_settings_are_those_given_and_the_algorithm(tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        'model': {'model_type': 'supervised'},
        'training': {'nepochs': 7, 'realspace_weight': 0.5, 'early_stop_patience': None},
        'execution': {'backend': 'tensorflow'},
    }
    write_settings(tmp_path / 's.ini', settings)
    found = ini(tmp_path / 's.ini')
    assert {name: dict(found[name]) for name in found.sections()} == {
        'Processing': {'Algorithm': 'ptychopinn_supervised'},
        'PtychoPINNPlugin': {'Backend': 'TensorFlow'},
        'PtychoPINNTraining': {'NumEpochs': '7', 'RealspaceWeight': '0.5'},
    }


def test_bad_input_is_refused(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(ConfigError, match='nepochs'):
        write_settings(tmp_path / 's.ini', {'training': {'nepochs': 0}})
    assert not (tmp_path / 's.ini').exists()
    bare = Scan(diffraction=scan.diffraction, positions=scan.positions, probe=scan.probe)
    with pytest.raises(ScanError, match='no probe or no object'):
        write_ptychodus_folder(tmp_path / 'bare', bare)
    (tmp_path / 'file').touch()
    with pytest.raises(OutputError, match='file'):
        write_ptychodus_folder(tmp_path / 'file', scan)


def test_simulate_writes_the_folder(tmp_path: Path) -> None:
    options = ['--format', 'ptychodus', '--positions', '9', '--n', '32', '--seed', '5', '--quiet']
    result = CliRunner().invoke(main, ['simulate', '--out', str(tmp_path / 'scan'), *options])
    assert result.exit_code == 0, result.output
    assert np.array_equal(
        read_scan(tmp_path / 'scan').scan.diffraction[:], simulate(n=32, positions=9, seed=5).diffraction[:]
    )
    written = ini(tmp_path / 'scan' / 'settings.ini')
    assert written['Processing']['Algorithm'] == 'ptychopinn_pinn'
    assert int(written['PtychoPINNTraining']['NumEpochs']) < Config().training.nepochs
    assert float(written['PtychoPINNPlugin']['MaxCpuSeconds']) <= 60


def test_simulate_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / 'scan').touch()
    options = ['--format', 'ptychodus', '--positions', '9', '--n', '32']
    result = CliRunner().invoke(main, ['simulate', '--out', str(tmp_path / 'scan'), *options])
    assert result.exit_code == 2 and 'is a file' in result.output
