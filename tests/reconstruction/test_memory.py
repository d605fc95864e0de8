"""Memory and disk are foreseen, and a model proves itself before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans import short_config, small_scan

from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.errors import OutputError, ScanError, VerificationError
from ptychopinn_reconstructor.io import memory
from ptychopinn_reconstructor.io.memory import measure_available_memory, require_memory
from ptychopinn_reconstructor.model_file import format as model_format
from ptychopinn_reconstructor.model_file.format import decode, encode
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction import network_object
from ptychopinn_reconstructor.reconstruction.memory import CANVASES, foresee_memory
from ptychopinn_reconstructor.reconstruction.network_object import patch_store
from ptychopinn_reconstructor.reconstruction.reconstruct import reconstruct, refine_scan
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.train import train

GOLDEN = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with 1 GiB, of which its batch queue has left half."""
    reported = {'info': 'MemFree: 1 kB\nMemAvailable: 1048576 kB\n', 'max': f'{2**30}\n', 'now': f'{2**29}\n'}
    for name, text in reported.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, 'MEMINFO', tmp_path / 'info')
    monkeypatch.setattr(memory, 'CGROUPS', ((tmp_path / 'max', tmp_path / 'now'),))


def far_scan(pixels: float) -> Scan:
    """A scan of which one position is far from the others."""
    scan = small_scan(positions=25)
    positions = np.array(scan.positions)
    positions[17] += pixels
    return Scan(scan.diffraction, positions, scan.probe, as_is=True)


@pytest.mark.usefixtures('small_machine')
def test_the_smallest_limit_counts() -> None:
    assert measure_available_memory() == 2**29
    require_memory(2**29, 'A scan', 'leave some out')
    with pytest.raises(
        OutputError, match=r'A scan needs 1\.0 GiB of memory but 0\.5 GiB are available; leave some out'
    ):
        require_memory(2**30, 'A scan', 'leave some out', OutputError)


def test_where_nothing_is_reported_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, 'MEMINFO', tmp_path / 'absent')
    monkeypatch.setattr(memory, 'CGROUPS', ((tmp_path / 'absent', tmp_path / 'absent'),))
    require_memory(1e15, 'A scan', 'leave some out')


@pytest.mark.usefixtures('small_machine')
def test_one_position_far_away_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """Before anything of the size of the canvas is made, by the engine as by a training."""
    scan = far_scan(30_000)
    size = CANVASES * 8 * 30_000**2 / 2**30
    with pytest.raises(
        ScanError, match=r'object of 30\d{3} x 30\d{3} pixels .* needs (\S+) GiB.*leave out pattern 17,'
    ) as caught:
        refine_scan(scan, short_config())
    assert float(str(caught.value).split(' needs ')[1].split()[0]) == pytest.approx(size, rel=0.02)
    with pytest.raises(ScanError, match='leave out pattern 17,'):
        train([scan], short_config(model__n_filters_scale=0.1), tmp_path / 'out')
    assert not (tmp_path / 'out' / 'model.safetensors').exists()


@pytest.mark.usefixtures('small_machine')
def test_a_scan_that_fits_is_not_refused() -> None:
    foresee_memory(prepare_scan(small_scan(), mode='absolute'))


def test_patches_that_no_disk_holds_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(OutputError, match=r'patches need 7,450\.6 GiB of scratch space .*execution\.scratch_dir'),
        patch_store((10**6, 1000, 1000), tmp_path),
    ):
        pass
    monkeypatch.setattr(network_object, 'IN_MEMORY', 10)
    with patch_store((10, 4, 4), tmp_path) as store:
        values = np.random.default_rng(0).normal(size=(10, 4, 4)).astype(np.complex64)
        store[np.arange(6)] = values[:6]
        store[np.arange(6, 10)] = values[6:]
        assert store.shape == (10, 4, 4) and np.array_equal(store[[9, 0, 1, 0]], values[[9, 0, 1, 0]])


def altered(change: Any, path: Path) -> Path:
    """The golden model with other contents, hashed and named as a model is: altered on purpose."""
    manifest, tensors = decode(GOLDEN)
    change(manifest, tensors)
    manifest.pop(model_format.DIGEST)
    path.write_bytes(encode(manifest, tensors))
    return path


def _weights(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    name = next(name for name in sorted(tensors) if name.startswith('weights/') and name.endswith('kernel'))
    tensors[name][...] *= 1.02


def _probe(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors['probe/real'][...] *= 1.1


def _smoothing(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest['config']['model']['gaussian_smoothing_sigma'] = 0.7


@pytest.mark.parametrize('change', [_weights, _probe, _smoothing])
def test_a_model_altered_on_purpose_fails_its_self_test(change: Any, tmp_path: Path) -> None:
    """Though its hashes are right: weights, probe, and a setting that changes what comes out."""
    load_backend(short_config().execution.backend)
    path = altered(change, tmp_path / 'model.safetensors')
    with pytest.raises(VerificationError, match='its weights were altered'):
        reconstruct(small_scan(), path, short_config())


def test_the_cost_of_the_self_test_is_shown(tmp_path: Path) -> None:
    path = altered(lambda manifest, tensors: None, tmp_path / 'model.safetensors')
    done = reconstruct(small_scan(), path, short_config())
    assert done.report.stages['self_test']['cpu_seconds'] >= 0
