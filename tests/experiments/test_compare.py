"""`ptychopinn compare`: its figures against known ones and against the files, its processes, its errors."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import assert_refused, error_lines, make_model, run, snapshot
from pictures import imread
from scans import small_scan

from ptychopinn_reconstructor.backend import describe_backends, find_missing_modules, installed
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import BackendError, ConfigError, InputError, Interrupted
from ptychopinn_reconstructor.experiments.agreement import (
    Cell,
    collect_notes,
    compare_independent,
    compare_parity,
    relative_difference,
)
from ptychopinn_reconstructor.experiments.compare import find_truth, resolve_backends
from ptychopinn_reconstructor.experiments.compare_report import format_report, summarize_report, write_pictures
from ptychopinn_reconstructor.experiments.exchange import (
    find_best_epoch,
    format_probe_arguments,
    select_changed_settings,
)
from ptychopinn_reconstructor.experiments.processes import Cost, run_command
from ptychopinn_reconstructor.experiments.steps import Truth, score_result
from ptychopinn_reconstructor.io import ObjectFile, ScanFile, read_product, write_npz, write_product
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.result import Reconstruction
from ptychopinn_reconstructor.training.metrics_table import EpochLosses

BOTH = ['torch', 'tensorflow']
needs_both = pytest.mark.skipif(
    any(find_missing_modules(name) for name in BOTH), reason='PyTorch and TensorFlow are not both installed'
)
SIZE, MARGIN = 96, 4
POSITIONS = np.stack(np.meshgrid(*[np.arange(20.0, 77.0, 8.0)] * 2, indexing='ij'), axis=-1).reshape(-1, 2)


# figures, from results whose differences are known


def smooth(seed: int) -> np.ndarray:
    """Real noise (SIZE, SIZE) of unit variance, correlated over a few pixels."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIZE, SIZE)), 2.0)
    return np.asarray((noise - noise.mean()) / noise.std())


TRUTH = (0.9 + 0.03 * smooth(0)) * np.exp(0.4j * smooth(1))


def result(folder: Path, object: np.ndarray, residual: float = 0.5, notes: tuple[str, ...] = ()) -> None:
    """The files of a reconstruction, as `ptychopinn reconstruct` writes them, without its pictures."""
    probe = np.ones((1, 32, 32), np.complex64)
    whole = Reconstruction(object.astype(np.complex64), (0.0, 0.0), probe, POSITIONS)
    stages = {'network': {'wall_seconds': 2.0, 'cpu_seconds': 1.5, 'patterns_per_second': 7.0}}
    folder.mkdir()
    write_product(folder / 'product.h5', whole.with_pixel_size(None))
    values = {'device': 'cpu', 'residual': residual, 'stages': stages, 'notes': list(notes)}
    (folder / 'metrics.json').write_text(json.dumps(values))


def cells_of(folder: Path, objects: dict[str, np.ndarray], truth: ObjectFile | None, **residuals: float) -> Any:
    """Cells 'T_in_R' of the backends one and two, read from files."""
    found = {}
    for name, values in objects.items():
        result(folder / name, values, residuals.get(name, 0.5), (f'note of {name}', 'note of all'))
        trained, _, other = name.partition('_in_')
        true = None if truth is None else Truth(truth, MARGIN)
        found[name] = Cell(trained, other, score_result(folder / name, Cost(3.0, 2.0, 100.0), true))
    return found


def four(own_one: np.ndarray, own_two: np.ndarray) -> dict[str, np.ndarray]:
    """Objects of four cells; each model gives the same object in the other backend, but for one pixel."""
    foreign_one, foreign_two = own_one.copy(), own_two.copy()
    foreign_one[50, 40] += 3e-6 * np.abs(own_one).max()
    foreign_two[50, 40] -= 3e-5j * np.abs(own_two).max()
    return {'one_in_one': own_one, 'one_in_two': foreign_one, 'two_in_one': foreign_two, 'two_in_two': own_two}


def test_the_difference_is_the_largest_over_the_largest_amplitude() -> None:
    a = np.array([[1.0 + 0j, 2j], [0.5, 0]], np.complex64)
    b = a + np.array([[0, 0.25], [0, -0.5j]], np.complex64)
    assert relative_difference(a, b) == 0.25 and relative_difference(a, a) == 0
    assert relative_difference(b, a) == pytest.approx(0.5 / np.abs(b).max())
    with pytest.raises(InputError, match=r'\(2, 2\) and \(2, 1\)'):
        relative_difference(a, a[:, :1])


def test_parity_of_known_differences(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, four(TRUTH, TRUTH * 0.5), None, one_in_two=0.51, two_in_one=0.5)
    found = compare_parity(cells, ['one', 'two'], 1e-5)
    first, second = found['models']
    assert (first['trained'], first['reconstructed'], first['refined']) == ('one', 'two', None)
    assert first['network']['object_difference'] == pytest.approx(3e-6, rel=0.05) and first['network']['met'] is True
    assert first['network']['residual_difference'] == pytest.approx(0.02)
    assert (second['trained'], second['reconstructed']) == ('two', 'one')
    assert second['network']['object_difference'] == pytest.approx(3e-5, rel=0.05) and second['network']['met'] is False
    assert second['network']['residual_difference'] == 0
    assert found['met'] is False and compare_parity(cells, ['one', 'two'], 1e-4)['met'] is True


def test_models_trained_independently_differ_by_known_decibels(tmp_path: Path) -> None:
    """Twice the phase error is 6.02 dB, half the amplitude is half the ratio and no PSNR."""
    noise = np.random.default_rng(3).standard_normal((SIZE, SIZE)) * 0.02
    objects = four(TRUTH * np.exp(1j * noise), 0.5 * TRUTH * np.exp(2j * noise))
    truth = ObjectFile(TRUTH.astype(np.complex64), (0.0, 0.0), POSITIONS)
    cells = cells_of(tmp_path, objects, truth, one_in_one=0.25, two_in_two=0.75)
    (pair,) = compare_independent(cells, ['one', 'two'], 1.0, MARGIN)['pairs']
    figures = pair['network']['figures']
    assert pair['backends'] == ['one', 'two'] and figures['residual'] == 0.5
    assert figures['phase_psnr'] == pytest.approx(-20 * np.log10(2), abs=0.1)
    assert figures['amplitude_ratio'] == pytest.approx(-0.5, abs=1e-3)
    assert pair['network']['met'] is False
    # the phase of the second differs from that of the first by `noise` itself
    expected = 10 * np.log10(2.4**2 / np.mean(noise**2))
    assert pair['network']['agreement']['phase_psnr'] == pytest.approx(expected, abs=0.5)
    assert pair['network']['agreement']['amplitude_ratio'] == pytest.approx(0.5, abs=1e-3)
    assert compare_independent(cells, ['one', 'two'], 7.0, MARGIN)['met'] is True
    assert cells['one_in_one'].to_json()['network']['image'] == cells['one_in_one'].network.image.to_dict()


def test_without_a_truth_backends_are_compared_with_each_other(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, four(TRUTH, TRUTH), None)
    found = compare_independent(cells, ['one', 'two'], 1.0, MARGIN)
    assert found['met'] is None and found['pairs'][0]['network']['agreement']['phase_psnr'] > 100
    assert list(found['pairs'][0]['network']['figures']) == ['residual']


def test_a_result_that_cannot_be_compared_is_noted(tmp_path: Path) -> None:
    """A network that has learned nothing must not lose the whole report: no figures, and a sentence why."""
    truth = ObjectFile(TRUTH.astype(np.complex64), (0.0, 0.0), POSITIONS)
    cells = cells_of(tmp_path, four(TRUTH, np.roll(TRUTH, (7, 6), axis=(0, 1))), truth)
    assert cells['one_in_one'].network.image is not None and cells['two_in_two'].network.image is None
    assert compare_independent(cells, ['one', 'two'], 1.0, MARGIN)['met'] is None
    said = collect_notes(cells)
    assert any(note.startswith('two_in_one, two_in_two: No figures against the truth: ') for note in said)
    assert 'note of all' in said and 'one_in_two: note of one_in_two' in said and len(said) == 6


def report_of(folder: Path, cells: Any, truth: ObjectFile | None) -> dict[str, Any]:
    """A report as `compare` makes it, of cells whose trainings are told by hand."""
    training = {
        'model': 'model.safetensors', 'device': 'cpu', 'parameters': 5, 'versions': {'numpy': '2'}, 'epochs': 2,
        'patterns_seen': 10, 'fit_cpu_seconds': 1.0, 'cpu_ms_per_pattern': 100.0, 'first_loss': 3.0, 'last_loss': 2.0,
        'best_loss': 2.0, 'last_val_loss': None, 'best_val_loss': None, 'best_epoch': 2,
        'history': [(1, 3.0, None), (2, 2.0, None)],
        'process': {'wall_seconds': 3.0, 'cpu_seconds': 2.0, 'peak_memory_mib': 100.0},
    }  # fmt: skip
    report = {
        'scan': 'scan.npz', 'patterns': 64, 'N': 32, 'truth': None if truth is None else 'it', 'margin': MARGIN,
        'backends': ['one', 'two'], 'settings': {}, 'training': {'one': training, 'two': training}, 'notes': [],
        'machine': {'processor': 'p', 'cpus': 2, 'platform': 'Linux'},
        'cells': {name: cell.to_json() for name, cell in cells.items()},
        'parity': compare_parity(cells, ['one', 'two'], 1e-5),
        'independent': compare_independent(cells, ['one', 'two'], 1.0, MARGIN),
    }  # fmt: skip
    return report | {'pictures': write_pictures(folder, report, cells, MARGIN)}


@pytest.mark.parametrize('known', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_report_is_written_from_what_there_is(tmp_path: Path, known: bool) -> None:
    """With a truth that one of the results cannot be compared with, and without any truth."""
    truth = ObjectFile(TRUTH.astype(np.complex64), (0.0, 0.0), POSITIONS) if known else None
    cells = cells_of(tmp_path, four(TRUTH, np.roll(TRUTH, (7, 6), axis=(0, 1))), truth)
    report = report_of(tmp_path, cells, truth)
    # one object and the truth can be shown side by side; two objects too far apart, without a truth, cannot
    pictures = {'losses', 'parity'} | ({'network', 'network_difference'} if known else set())
    assert set(report['pictures']) == pictures
    text = format_report(report)
    assert 'goal 1e-05): not met' in text and '3.0e-05' in summarize_report(report)[0]
    assert ('| one | one | network alone | 0.5 | 200 |' in text) is known  # a perfect phase, 200 dB
    assert '| two | two | network alone | 0.5 | – | – | – | – | 1.5 | 2 | 100 |' in text
    assert 'residual +0 (no truth)' in summarize_report(report)[1]


def test_the_best_epoch_is_that_of_the_monitored_loss() -> None:
    history = [EpochLosses(1, 3.5, 4.5), EpochLosses(2, 2.5, None), EpochLosses(3, 2.0, 5.0)]
    assert find_best_epoch(history, 'val_loss') == 1 and find_best_epoch(history, 'train_loss') == 3
    assert find_best_epoch([EpochLosses(1, 3.5, None)], 'val_loss') is None


def test_changed_settings_are_those_that_matter() -> None:
    config = Config().merged(
        {'training': {'nepochs': 3, 'output_dir': 'x'}, 'execution': {'backend': 'tensorflow', 'threads': 2}}
    )
    assert select_changed_settings(config) == {'training.nepochs': 3, 'execution.threads': 2}


def test_the_probe_of_a_reconstruction_is_the_trained_one(tmp_path: Path) -> None:
    """A probe given for training must not undo in the reconstruction what the training has made of it."""
    scan = small_scan()
    assert scan.probe is not None
    write_npz(tmp_path / 'scan.npz', replace(scan, probe=2 * scan.probe))
    with np.load(tmp_path / 'scan.npz') as arrays:
        make_model(tmp_path / 'model.safetensors', dict(arrays))
    model, file = tmp_path / 'model.safetensors', tmp_path / 'probe.npz'
    assert format_probe_arguments('p.npz:key', Config(), model, file) == ['--probe', 'p.npz:key'] and not file.exists()
    refined = Config().merged({'training': {'refine_probe_first': 2}})
    assert format_probe_arguments('p.npz:key', refined, model, file) == ['--probe', str(file)]
    np.testing.assert_array_equal(np.load(file)['probe'], open_model(model).probe)
    scaled = Config().merged({'training': {'intensity_scale_trainable': True}})
    assert format_probe_arguments('p', scaled, model, file)[2:] == ['--probe-power', 'absolute']


def test_the_truth_is_the_one_given_or_the_scan_s_own(tmp_path: Path) -> None:
    scan = small_scan()
    assert scan.object is not None
    np.savez(tmp_path / 'other.npz', object=scan.object.conj())
    given, source, notes = find_truth(ScanFile(scan), tmp_path / 'other.npz', 2)
    assert source == str(tmp_path / 'other.npz') and given is not None and given.margin == 2 and notes == ()
    np.testing.assert_array_equal(given.object.object, scan.object.conj())
    own, source, notes = find_truth(ScanFile(scan), None, 2)
    assert own is not None and own.object.origin == scan.object_origin and '--truth' in notes[0]
    assert source == "the scan's own object"
    np.testing.assert_array_equal(own.object.object, scan.object)


@pytest.mark.parametrize(
    ('values', 'said'),
    [(None, 'has no object'), (np.ones((80, 80)), 'is flat'), (np.arange(600).reshape(20, 30) + 1, 'cannot serve')],
)
def test_an_object_that_is_no_truth_is_noted(values: np.ndarray | None, said: str) -> None:
    """A scan without one, with an empty guess, and with one that the scan does not lie on."""
    scan = replace(small_scan(), object=None if values is None else values.astype(np.complex64))
    found, source, notes = find_truth(ScanFile(scan), None, 2)
    assert found is None and source is None and said in notes[0]


# processes


def test_a_command_in_a_process_hands_back_its_output_and_its_cost() -> None:
    finished = run_command(['doctor', '--quick', '--json'], 'The check')
    assert json.loads(finished.output)['cpus'] == os.cpu_count()
    assert finished.cost.wall_seconds > 0 and finished.cost.cpu_seconds > 0
    assert 10 < finished.cost.peak_memory_mib < 4000


def test_an_error_of_a_process_keeps_its_sentence_and_its_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'^The check failed: .*none\.npz') as error:
        run_command(['inspect', str(tmp_path / 'none.npz')], 'The check')
    assert error.value.exit_code == 2 and len(str(error.value).splitlines()) == 1


def test_a_process_that_is_stopped_is_interrupted() -> None:
    with pytest.raises(Interrupted, match='The check was stopped on request'):
        run_command(['simulate', '--out', os.devnull, '--n', '256', '--positions', '100000'], 'The check',
                    should_stop=lambda: True)  # fmt: skip


# errors, before any work


def test_backends_must_be_two_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match='jax backend selected, but no backend of that name'):
        resolve_backends(['jax', 'caffe'])
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    with pytest.raises(BackendError, match=r'TensorFlow backend selected.*pip install .*\[tensorflow\]'):
        resolve_backends(['TensorFlow'])
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(ConfigError, match=r'needs two backends but none is all that is installed.*pip install'):
        resolve_backends(None)


def test_one_backend_alone_is_refused(backend_name: str) -> None:
    title = {'torch': 'PyTorch', 'tensorflow': 'TensorFlow'}[backend_name]
    for names in ([backend_name], [backend_name, backend_name], [backend_name, title]):
        with pytest.raises(ConfigError, match=f'needs two different backends but only {backend_name} is named'):
            resolve_backends(names)


@needs_both
def test_all_installed_backends_are_the_default() -> None:
    able = {name for name, description in describe_backends().items() if description.trains}
    assert resolve_backends(None)[:2] == BOTH and set(resolve_backends(None)) == set(installed()) & able
    assert resolve_backends(['TensorFlow', ' torch']) == ['tensorflow', 'torch']


@pytest.fixture(scope='module')
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('scans')
    scan = small_scan()
    write_npz(folder / 'scan.npz', scan)
    write_npz(folder / 'no_probe.npz', replace(scan, probe=None))
    np.savez(folder / 'small.npz', objectGuess=np.ones((20, 20), np.complex64))
    (folder / 'file').write_text('not a folder')
    (folder / 'old').mkdir()
    (folder / 'old' / 'report.json').write_text('{}')
    return folder


BAD: list[tuple[str, str, tuple[str, ...]]] = [
    ('one backend', '{s}/scan.npz --output-dir {o} --backends torch', ('torch',)),
    ('no backend', '{s}/scan.npz --output-dir {o} --backends ,', ('two different backends', 'none')),
    ('unknown backend', '{s}/scan.npz --output-dir {o} --backends jax,caffe', ('jax', 'no backend of that name')),
    ('backend as a setting', '{s}/scan.npz --output-dir {o} --set backend=torch', ('backend', '--backends')),
    ('model as a setting', '{s}/scan.npz --output-dir {o} --set model_path=m.zip', ('model_path', 'trained here')),
    ('folder as a setting', '{s}/scan.npz --output-dir {o} --set output_dir=m', ('output_dir', '--output-dir')),
    ('setting out of range', '{s}/scan.npz --output-dir {o} --epochs 0', ('nepochs', '0')),
    ('unknown setting', '{s}/scan.npz --output-dir {o} --set epoch=3', ('epoch', 'nepochs')),
    ('unknown option', '{s}/scan.npz --output-dir {o} --epoch 3', ('--epoch', "'ptychopinn compare --help'")),
    ('no output folder', '{s}/scan.npz', ('--output-dir',)),
    ('output is a file', '{s}/scan.npz --output-dir {s}/file', ('file', 'choose another')),
    ('output in a file', '{s}/scan.npz --output-dir {s}/file/below', ('file', 'choose another')),
    ('no such preset', '{s}/scan.npz --output-dir {o} --config nothing', ('nothing', 'default')),
]
BAD_FOR_BOTH: list[tuple[str, str, tuple[str, ...]]] = [
    ('no scan', '{s}/none.npz --output-dir {o}', ('none.npz',)),
    ('no probe', '{s}/no_probe.npz --output-dir {o}', ('no_probe.npz', '--probe')),
    ('wrong N', '{s}/scan.npz --output-dir {o} --n 64', ('64', '32')),
    ('bad truth', '{s}/scan.npz --output-dir {o} --truth {s}/small.npz', ('truth',)),
    ('earlier comparison', '{s}/scan.npz --output-dir {s}/old', ('report.json', '--overwrite')),
]


def refused(scans: Path, out: Path, line: str, words: tuple[str, ...]) -> None:
    before = snapshot(scans)
    assert_refused(run('compare', *line.format(s=scans, o=out).split()), words)
    assert not out.exists() and snapshot(scans) == before


@pytest.mark.parametrize(('line', 'words'), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input(scans: Path, tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    refused(scans, tmp_path / 'out', line, words)


@pytest.mark.slow
@needs_both
def test_a_device_that_is_not_there_ends_the_first_training(scans: Path, tmp_path: Path) -> None:
    refused(
        scans,
        tmp_path / 'out',
        '{s}/scan.npz --output-dir {o} --device cuda:7',
        ('The training with torch failed', 'cuda:7'),
    )


@needs_both
@pytest.mark.parametrize(('line', 'words'), [case[1:] for case in BAD_FOR_BOTH], ids=[case[0] for case in BAD_FOR_BOTH])
def test_bad_input_where_both_backends_are_installed(
    scans: Path, tmp_path: Path, line: str, words: tuple[str, ...]
) -> None:
    refused(scans, tmp_path / 'out', line, words)


# the whole command


@pytest.fixture(scope='module')
def compared(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A comparison of PyTorch and TensorFlow, trained for two epochs; the folder, and what was printed."""
    if any(find_missing_modules(name) for name in BOTH):
        pytest.skip('PyTorch and TensorFlow are not both installed')
    folder = tmp_path_factory.mktemp('compared') / 'out'
    line = ['compare', str(scans / 'scan.npz'), '--output-dir', str(folder), '--backends', 'torch,tensorflow']
    line += ['--epochs', '2', '--batch-size', '16', '--device', 'cpu', '--passes', '1', '--json']
    done = run(*line)
    assert done.exit_code == 0 and error_lines(done.stderr) == [], done.stderr or repr(done.exception)
    return folder, json.loads(done.stdout)


def no_constant(text: str) -> None:
    raise AssertionError(f'{text} is not a finite number')


@pytest.mark.slow
def test_the_report_is_what_was_printed_and_is_finite(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = compared
    report = json.loads((folder / 'report.json').read_text(), parse_constant=no_constant)
    assert report == printed and report['format_version'] == 1 and report['backends'] == BOTH
    assert list(report['cells']) == ['torch_in_torch', 'torch_in_tensorflow', 'tensorflow_in_torch',
                                     'tensorflow_in_tensorflow']  # fmt: skip
    assert report['settings'] == {
        'training.batch_size': 16, 'training.nepochs': 2, 'refinement.passes': 1, 'execution.device': 'cpu',
    }  # fmt: skip
    assert report['truth'] == "the scan's own object" and report['margin'] == 2
    assert not list(folder.rglob('*.partial*'))


@pytest.mark.slow
def test_one_model_gives_the_same_object_in_both_backends(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, report = compared
    assert report['parity']['met'] is True and len(report['parity']['models']) == 2
    for model in report['parity']['models']:
        trained, other = model['trained'], model['reconstructed']
        for stage, below in (('network', ''), ('refined', 'refined')):
            a, b = (
                read_product(folder / f'{trained}_in_{name}' / below / 'product.h5').object for name in (trained, other)
            )
            expected = np.abs(a.astype(complex) - b).max() / np.abs(a.astype(complex)).max()
            assert 0 < model[stage]['object_difference'] == pytest.approx(expected, rel=1e-3) and expected <= 1e-5
    own = [read_product(folder / f'{name}_in_{name}' / 'product.h5').object for name in BOTH]
    assert relative_difference(*own) > 1e-3, 'the two were trained on their own, not one model told twice'


@pytest.mark.slow
def test_the_figures_are_those_of_the_files(compared: tuple[Path, dict[str, Any]], scans: Path) -> None:
    folder, report = compared
    for name, cell in report['cells'].items():
        assert name == f'{cell["trained"]}_in_{cell["reconstructed"]}'
        for stage, below, passes in (('network', '', 0), ('refined', 'refined', 1)):
            metrics = json.loads((folder / name / below / 'metrics.json').read_text())
            assert metrics['backend'] == cell['reconstructed'] and metrics['refine_passes'] == passes
            assert cell[stage]['residual'] == metrics['residual'] and cell[stage]['stages'] == metrics['stages']
            line = ('evaluate', str(folder / name / below / 'product.h5'), str(scans / 'scan.npz'), '--json')
            (again,) = json.loads(run(*line).stdout)['results']
            image = cell[stage]['image']
            assert image == pytest.approx({key: again[key] for key in image}, rel=1e-9)
            assert cell[stage]['process']['peak_memory_mib'] >= 0.99 * metrics['peak_memory_mib']
    own = [report['cells'][f'{name}_in_{name}']['refined'] for name in BOTH]
    figures = report['independent']['pairs'][0]['refined']['figures']
    assert figures['phase_psnr'] == own[1]['image']['phase_psnr'] - own[0]['image']['phase_psnr']
    assert figures['residual'] == own[1]['residual'] - own[0]['residual']


@pytest.mark.slow
def test_each_backend_has_trained_its_model_with_the_same_settings(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, report = compared
    configs = []
    for name, values in report['training'].items():
        manifest = open_model(folder / values['model']).manifest
        assert manifest.backend == name and values['versions'] == manifest.versions
        with (folder / name / 'model' / 'metrics.csv').open(newline='') as lines:
            rows = [
                (int(row['epoch']), float(row['train_loss']), float(row['val_loss'])) for row in csv.DictReader(lines)
            ]
        assert [tuple(row) for row in values['history']] == rows and values['epochs'] == len(rows) == 2
        assert values['last_loss'] == rows[-1][1] and values['best_val_loss'] == min(row[2] for row in rows)
        assert values['process']['cpu_seconds'] > values['fit_cpu_seconds'] > 0
        configs.append(yaml.safe_load((folder / name / 'model' / 'config.yaml').read_text()))
    assert [config['execution'].pop('backend') for config in configs] == BOTH
    assert configs[0] == configs[1] and configs[0]['training']['nepochs'] == 2
    seen = [values['patterns_seen'] for values in report['training'].values()]
    assert seen[0] == seen[1] > 0


@pytest.mark.slow
def test_the_markdown_shows_the_figures_and_the_pictures(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, report = compared
    text = (folder / 'report.md').read_text(encoding='utf-8')
    links = re.findall(r'\]\(([^)]+)\)', text)
    assert len(links) == 8 and all((folder / link).is_file() for link in links)
    assert set(links) == {
        *report['pictures'].values(),
        'torch/model/model.safetensors',
        'tensorflow/model/model.safetensors',
    }
    for cell in report['cells'].values():
        image = cell['refined']['image']
        row = (f'| {cell["trained"]} | {cell["reconstructed"]} | refined | {cell["refined"]["residual"]:.4g} | '
               f'{image["phase_psnr"]:.4g} | {image["amplitude_psnr"]:.4g} |')  # fmt: skip
        assert row in text
    for path in report['pictures'].values():
        pixels = imread(folder / path)[..., :3]
        assert pixels.shape[0] > 400 and pixels.shape[1] > 600 and pixels.std() > 0.05


@pytest.mark.slow
def test_an_earlier_comparison_is_not_replaced_by_mistake(compared: tuple[Path, dict[str, Any]], scans: Path) -> None:
    folder, _ = compared
    before = snapshot(folder)
    assert_refused(run('compare', str(scans / 'scan.npz'), '--output-dir', str(folder)), ('report.json', '--overwrite'))
    assert snapshot(folder) == before


@pytest.mark.slow
@needs_both
@pytest.mark.skipif(sys.platform == 'win32', reason='process groups are those of POSIX')
def test_an_interrupt_ends_the_child_too(scans: Path, tmp_path: Path) -> None:
    """Ctrl-C goes to every process of the terminal's group; whatever arrives first, none is left and none reports."""
    line = ['compare', str(scans / 'scan.npz'), '--output-dir', str(tmp_path / 'out'), '--epochs', '10000']
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *line],
        stdout=pipe, stderr=pipe, text=True, start_new_session=True,
    )  # fmt: skip
    begun = tmp_path / 'out' / 'torch' / 'model' / 'checkpoints' / 'last.ckpt'
    while not begun.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=300)
    assert process.returncode == 130 and out == ''
    (told,) = error_lines(said)
    assert told.startswith('ptychopinn: error: The training with torch')
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(tmp_path.glob('out/report.*')) and not list((tmp_path / 'out').rglob('*.partial*'))
