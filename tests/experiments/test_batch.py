"""`ptychopinn batch`: its list, its records, and real commands, done once and resumed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from command_line import assert_refused, epochs_in, error_lines, ok, process, run, told
from scans import backend_options

from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.experiments.batch import BEGUN, DONE, RECORD, Line, read_list
from ptychopinn_reconstructor.io import read_object


def write_list(folder: Path, *lines: str) -> Path:
    path = folder / 'list.txt'
    path.write_text('\n'.join(lines), encoding='utf-8')
    return path


def test_a_list_is_read_as_a_shell_reads_it(tmp_path: Path) -> None:
    path = write_list(
        tmp_path,
        '# an ensemble',
        'ptychopinn train "my scan.npz" --output-dir m/0 --seed 0  # the first',
        '',
        'train scan.npz --seed 1 --output-dir=m/1',
    )
    assert read_list(path) == [
        Line('m/0', ('train', 'my scan.npz', '--output-dir', 'm/0', '--seed', '0')),
        Line('m/1', ('train', 'scan.npz', '--seed', '1', '--output-dir=m/1')),
    ]


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        (['rm -r x'], r"Line 1 of .* begins with 'rm'; choose one of train"),
        (['refine s.npz'], 'Line 1 of .* has no --output-dir DIR'),
        (['refine s.npz --output-dir'], 'Line 1 of .* has no --output-dir DIR'),
        (['', 'refine "s.npz --output-dir o'], 'Line 2 of .* close the quotation'),
        (['refine a --output-dir o', 'refine b --output-dir o'], 'Line 2 of .* output folder o of another'),
        (['#'], 'holds no command'),
    ],
)
def test_a_line_that_is_no_job_is_named(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_list(write_list(tmp_path, *lines))


def test_a_list_that_is_not_there_and_an_unknown_job_are_refused(tmp_path: Path) -> None:
    assert_refused(run('batch', str(tmp_path / 'no.txt')), ('no.txt', 'a command a line'))
    path = write_list(tmp_path, 'refine s.npz --output-dir o')
    assert_refused(run('batch', str(path), '--run', 'p'), ("no job 'p'", '--list'))


def test_a_begun_training_is_resumed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / 'm'
    line = Line(str(folder), ('train', 's.npz', '--output-dir', str(folder), '--overwrite'))
    assert line._resume() == line.arguments  # no checkpoint yet
    (folder / 'checkpoints').mkdir(parents=True)
    (folder / 'checkpoints' / 'last.ckpt').touch()
    (folder / 'config.yaml').touch()
    assert line._resume() == ('train', 's.npz', '--output-dir', str(folder), '--resume')
    assert Line(str(folder), ('refine', *line.arguments[1:]))._resume()[-1] == '--overwrite'


@pytest.fixture(scope='module')
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('batch') / 'scan.npz'
    ok('simulate', '--out', path, '--positions', 36, '--n', 32)
    return path


def test_a_job_is_done_once_and_a_failed_one_again(scan: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / 'good', tmp_path / 'bad'
    path = write_list(
        tmp_path,
        f'refine {scan} --output-dir {good} --passes 1',
        f'refine {tmp_path / "absent.npz"} --output-dir {bad} --passes 1',
    )
    result = run('batch', str(path))
    assert result.exit_code == 1 and '1 of 2 jobs are done' in result.stdout
    assert '1 of 2 jobs failed' in error_lines(result.stderr)[-1] and 'absent.npz' in result.stderr
    record = json.loads((good / RECORD).read_text())
    assert record['status'] == DONE and record['cost']['wall_seconds'] > 0
    before = (good / 'product.h5').stat().st_mtime_ns
    (tmp_path / 'absent.npz').write_bytes(scan.read_bytes())
    assert told('batch', path, '--list')['jobs'] == {str(good): 'done', str(bad): 'failed'}
    assert told('batch', path) == {'jobs': 2, 'failed': 0, 'errors': {}}
    assert (good / 'product.h5').stat().st_mtime_ns == before
    assert (read_object(good / 'product.h5').object == read_object(bad / 'product.h5').object).all()


@pytest.mark.slow
def test_an_ensemble_in_several_processes_is_that_of_one(scan: Path, tmp_path: Path) -> None:
    """One of them was killed after its first epoch: it is resumed, with the losses that it would have had."""
    lines = {}
    for place in ('one', 'two'):
        common = f'train {scan} {" ".join(backend_options())} --epochs 30 --set n_filters_scale=0.5'
        lines[place] = [f'{common} --seed {seed} --output-dir {tmp_path / place / str(seed)}' for seed in (0, 1)]
    ok('batch', write_list(tmp_path, *lines['one']))
    begun = read_list(write_list(tmp_path, *lines['two']))[0]
    with process(*begun.arguments, '--quiet') as training:
        while not (Path(begun.name) / 'metrics.csv').exists() or not epochs_in(Path(begun.name)):
            time.sleep(0.02)
        training.kill()
    (Path(begun.name) / RECORD).write_text(json.dumps({'status': BEGUN, 'arguments': [*begun.arguments]}))
    assert told('batch', write_list(tmp_path, *lines['two']), '--workers', 2)['failed'] == 0
    for seed in ('0', '1'):
        tables = [(tmp_path / place / seed / 'metrics.csv').read_text().splitlines()[1:] for place in ('one', 'two')]
        losses = [[row.split(',')[:3] for row in table] for table in tables]
        assert losses[0] == losses[1] and len(losses[0]) == 30
