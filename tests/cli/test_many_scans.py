"""Several scans in one process, those of a folder as they arrive, and how much is drawn of each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused, error_lines, run
from PIL import Image
from scans import backend_options, small_scan

from ptychopinn_reconstructor.cli import many_scans
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_product, write_npz

PASSES = ('--passes', '2', '--set', 'device=cpu')


@pytest.fixture(scope='module')
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans and a file that is none, in a folder."""
    folder = tmp_path_factory.mktemp('scans')
    for seed, name in enumerate('ab'):
        write_npz(folder / f'{name}.npz', small_scan(positions=36, seed=seed))
    (folder / 'broken.npz').write_bytes(b'PK\x03\x04 and no more')
    return folder


def test_scans_are_done_one_by_one_as_each_alone(scans: Path, tmp_path: Path) -> None:
    """A folder each, the results bit by bit those of a command each, an overview of all."""
    files = [str(scans / f'{name}.npz') for name in 'ab']
    result = run('refine', *files, '--output-dir', str(tmp_path / 'both'), *PASSES, '--pictures', 'none')
    assert result.exit_code == 0, result.stderr
    overview = json.loads((tmp_path / 'both' / 'metrics.json').read_text())
    assert list(overview['scans']) == files and overview['failed'] == {}
    for name, file in zip('ab', files, strict=True):
        assert run('refine', file, '--output-dir', str(tmp_path / name), *PASSES).exit_code == 0
        together, alone = (read_product(tmp_path / part / 'product.h5') for part in (f'both/{name}', name))
        assert np.array_equal(together.object, alone.object)
        (metrics,) = overview['scans'][file]
        assert metrics['residual'] == json.loads((tmp_path / name / 'metrics.json').read_text())['residual']
        assert f'{file}: residual {metrics["residual"]:.4g}, ' in result.stdout
    first, second = (read_product(tmp_path / name / 'product.h5').object for name in 'ab')
    assert not np.array_equal(first, second)


def test_one_that_fails_leaves_the_others(scans: Path, tmp_path: Path) -> None:
    files = [str(scans / f'{name}.npz') for name in ('a', 'broken', 'b')]
    result = run('refine', *files, '--output-dir', str(tmp_path), *PASSES, '--pictures', 'none', '--json')
    assert result.exit_code == 1
    (line,) = error_lines(result.stderr)
    assert line.startswith(f'ptychopinn: error: 1 of 3 scans failed, the first ({files[1]}) with: ')
    told = json.loads(result.stdout)
    assert list(told['scans']) == [files[0], files[2]] and list(told['failed']) == [files[1]]
    assert (tmp_path / 'a' / 'product.h5').exists() and (tmp_path / 'b' / 'product.h5').exists()
    assert not (tmp_path / 'broken').exists()


def test_what_cannot_be_told_apart_is_refused_before_any_work(scans: Path, tmp_path: Path) -> None:
    shutil.copy(scans / 'a.npz', tmp_path / 'a.npz')
    files, out = [str(scans / 'a.npz'), str(tmp_path / 'a.npz')], tmp_path / 'out'
    assert_refused(run('refine', *files, '--output-dir', str(out)), (*files, 'two commands'))
    both = [str(scans / 'a.npz'), str(scans / 'b.npz')]
    assert_refused(run('refine', *both, '--truth', files[0], '--output-dir', str(out)), ('--truth', 'one scan'))
    assert_refused(run('refine', '--output-dir', str(out)), ('SCAN',))
    assert not out.exists()


@pytest.mark.parametrize(
    ('pictures', 'expected'),
    [
        ('full', {'reconstructed_amplitude', 'reconstructed_phase', 'residual_map', 'coverage', 'uncertainty'}),
        ('plain', {'reconstructed_amplitude', 'reconstructed_phase'}),
        ('none', set()),
    ],
)
def test_pictures_are_those_that_are_asked_for(scans: Path, tmp_path: Path, pictures: str, expected: set[str]) -> None:
    """And none of an earlier result stays."""
    for name in ('reconstructed_phase.png', 'uncertainty.png', 'split_frc.png', 'report.html'):
        (tmp_path / name).write_bytes(b'old')
    args = ('refine', str(scans / 'a.npz'), '--output-dir', str(tmp_path), *PASSES, '--pictures', pictures, '--json')
    files = json.loads(run(*args).stdout)['files']
    assert {path.stem for path in tmp_path.glob('*.png')} == expected
    assert {Path(path).stem for path in files.values() if path.endswith('.png')} == expected
    assert ('report' in files) is (tmp_path / 'report.html').exists() is (pictures == 'full')


def test_a_plain_picture_shows_the_object_pixel_by_pixel(scans: Path, tmp_path: Path) -> None:
    run('refine', str(scans / 'a.npz'), '--output-dir', str(tmp_path), *PASSES, '--pictures', 'plain')
    picture = np.asarray(Image.open(tmp_path / 'reconstructed_amplitude.png'), float)
    amplitude = np.abs(read_product(tmp_path / 'product.h5').object)
    assert picture.ndim == 2 and picture.shape[0] < amplitude.shape[0]
    found = [
        np.corrcoef(picture.ravel(), amplitude[row:, col:][: picture.shape[0], : picture.shape[1]].ravel())[0, 1]
        for row in range(amplitude.shape[0] - picture.shape[0] + 1)
        for col in range(amplitude.shape[1] - picture.shape[1] + 1)
    ]
    assert max(found) > 0.98


def test_a_folder_is_looked_through_for_scans_that_have_settled(scans: Path, tmp_path: Path) -> None:
    """Oldest first, each once; left out: what still grows, what is no scan, what has a younger result."""
    folder, results = tmp_path / 'in', tmp_path / 'out'
    folder.mkdir()
    names = ('c.npz', 'a.h5', 'b.npz', 'note.txt', '.hidden.npz', 'done.npz')
    for age, name in enumerate(names):
        (folder / name).write_bytes(b'x')
        stamp = time.time() - 100 + age
        os.utime(folder / name, (stamp, stamp))
    (folder / 'growing.npz').write_bytes(b'x')
    (results / 'done').mkdir(parents=True)
    (results / 'done' / 'metrics.json').write_text('{}')
    looks = iter([False] * 8 + [True])
    found = [path.name for path in many_scans.watch_folder(folder, results, lambda: next(looks, True))]
    assert found == ['c.npz', 'a.h5', 'b.npz']


def test_watching_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match='is no folder'):
        next(many_scans.watch_folder(tmp_path / 'absent', tmp_path, lambda: False))


@pytest.mark.slow
def test_scans_that_arrive_are_reconstructed_until_it_is_stopped(scans: Path, tmp_path: Path) -> None:
    """A real process; a scan that was there and one that arrives later, then Ctrl-C."""
    folder, out, trained = tmp_path / 'in', tmp_path / 'out', tmp_path / 'trained'
    small = ('--set', 'n_filters_scale=0.1', '--set', 'nepochs=1', '--set', 'batch_size=4', *backend_options())
    assert run('train', str(scans / 'a.npz'), '--output-dir', str(trained), *small, '--quiet').exit_code == 0
    folder.mkdir()
    shutil.copy(scans / 'a.npz', folder)
    model = str(trained / 'model.safetensors')
    command = ('watch', str(folder), '--model', model, '--output-dir', str(out), '--pictures', 'none')
    program = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *command, '--passes', '1']
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(out / 'a' / 'metrics.json', process)
        shutil.copy(scans / 'b.npz', folder)
        _wait_for(out / 'b' / 'metrics.json', process)
    finally:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert [line.partition(':')[0] for line in stdout.splitlines()] == [str(folder / f'{name}.npz') for name in 'ab']


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
