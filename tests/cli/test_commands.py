"""Every command from end to end on small simulated scans, with the values that it writes."""

from __future__ import annotations

import csv
import io
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
from click.testing import CliRunner
from command_line import TRAIN, epochs_in, error_lines, load_commands, ok, printed, process, run, snapshot, told
from scans import backend_here, backend_options, short_config

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor import __version__
from ptychopinn_reconstructor.backend import find_missing_modules, installed
from ptychopinn_reconstructor.cli.main import COMMANDS, main
from ptychopinn_reconstructor.cli.progress import ProgressBar
from ptychopinn_reconstructor.cli.settings import render_preset, render_table
from ptychopinn_reconstructor.config import Config, field_table, parse
from ptychopinn_reconstructor.events import Epoch, Log, Progress
from ptychopinn_reconstructor.io import read_product, read_scan, write_npz
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.model_file.probes import correlate_probes
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction.initial_object import flat_canvas

ROOT = Path(__file__).resolve().parents[2]
SIMULATE = ('simulate', '--n', '32', '--positions', '64', '--step', '5', '--photons', '1e5')
CHECKPOINT = {'torch': 'ckpt', 'tensorflow': 'keras'}  # the suffix of each backend's own format
PICTURES = {
    'reconstructed_amplitude.png',
    'reconstructed_phase.png',
    'residual_map.png',
    'coverage.png',
    'uncertainty.png',
}
PRODUCED = PICTURES | {'product.h5', 'metrics.json', 'report.html'}


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> Path:
    """scan.npz, other.npz (another object and noise, the same probe) and model/, trained for two epochs."""
    folder = tmp_path_factory.mktemp('work')
    ok(*SIMULATE, '--out', folder / 'scan.npz', '--seed', 1)
    ok(*SIMULATE, '--out', folder / 'other.npz', '--seed', 2, '--object', 'clouds')
    (folder / 'trained.json').write_text(
        ok(*TRAIN, folder / 'scan.npz', '--output-dir', folder / 'model', '--epochs', 2, '--json').stdout
    )
    return folder


@pytest.fixture(scope='module')
def results(work: Path) -> Path:
    """Results of the network alone and with two passes, compared with the truth."""
    for name, passes in (('network', 0), ('refined', 2)):
        line = ('reconstruct', work / 'scan.npz', '--model', work / 'model' / 'model.safetensors', '--passes', passes)
        ok(*line, '--output-dir', work / name, '--truth', work / 'scan.npz')
    return work


def metrics(folder: Path) -> Any:
    return json.loads((folder / 'metrics.json').read_text())


# simulate


def test_simulate_writes_truth_and_counts(tmp_path: Path) -> None:
    values = told(*SIMULATE, '--out', tmp_path / 's.npz')
    with np.load(tmp_path / 's.npz') as file:
        counts, probe, truth = file['diff3d'], file['probeGuess'], file['objectGuess']
        assert counts.shape == (64, 32, 32) and counts.dtype == np.uint16
        assert np.isclose((np.abs(probe) ** 2).sum(), 1e5, rtol=1e-5)  # absolute power
        assert np.isclose(counts.sum() / 64, values['mean_counts'])
        assert 0.3e5 < values['mean_counts'] < 1e5  # the object absorbs
        assert list(truth.shape) == values['object_shape'] and 0.55 < np.abs(truth).min() < np.abs(truth).max() < 1.01
        centers = np.stack([file['ycoords'], file['xcoords']], axis=1)
        assert centers.min() >= 15.5 and (centers + 15.5 < truth.shape).all()
        assert np.ptp(centers, axis=0) == pytest.approx([35, 35], abs=4.1)  # 8 x 8 positions, 5 px apart, +- 2 px


def test_simulate_is_repeatable_and_the_seed_matters(tmp_path: Path) -> None:
    for name, seed in (('a', 7), ('b', 7), ('c', 8)):
        ok(*SIMULATE, '--out', tmp_path / f'{name}.npz', '--seed', seed)
    a, b, c = ((tmp_path / f'{name}.npz').read_bytes() for name in 'abc')
    assert a == b != c


def test_simulate_takes_a_probe_from_a_file(tmp_path: Path) -> None:
    wave = np.zeros((2, 16, 16), complex)
    wave[0, 4:12, 4:12], wave[1, 5, 5] = 1, 1j
    np.savez(tmp_path / 'p.npz', mine=wave)
    values = told('simulate', '--out', tmp_path / 's.npz', '--probe', f'{tmp_path / "p.npz"}:mine', '--positions', 9)
    with np.load(tmp_path / 's.npz') as file:
        np.testing.assert_allclose(file['probeGuess'], wave * np.sqrt(1e5 / 65), rtol=1e-5)
    assert values['N'] == 16 and values['probe_modes'] == 2


# train


def test_train_writes_the_files_of_the_contract(work: Path) -> None:
    folder, values = work / 'model', json.loads((work / 'trained.json').read_text())
    checkpoints = {f'checkpoints/{name}.{CHECKPOINT[backend_here()]}' for name in ('last', 'best')}
    written = {'metrics.csv', 'metrics.json', 'config.yaml', 'model.safetensors'}
    assert set(snapshot(folder)) == {'checkpoints', *checkpoints, *written}
    assert epochs_in(folder) == [1, 2] and values['epochs'] == 2
    with (folder / 'metrics.csv').open(newline='') as lines:
        rows = list(csv.DictReader(lines))
    assert float(rows[0]['train_loss']) > float(rows[1]['train_loss']) > 0
    assert float(rows[1]['train_loss']) == pytest.approx(values['last_loss'], rel=1e-5)
    assert int(rows[1]['patterns_seen']) == values['patterns_seen']
    config = parse(yaml.safe_load((folder / 'config.yaml').read_text()))
    assert config.model.N == 32 and config.training.nepochs == 2
    assert open_model(folder / 'model.safetensors').manifest.config == config
    assert values['model'] == str(folder / 'model.safetensors') and values['peak_memory_mib'] > 10
    assert any('Measurement domain: counts' in note for note in values['notes'])


def test_the_same_seed_trains_the_same_weights(work: Path, tmp_path: Path) -> None:
    line = (*TRAIN, work / 'scan.npz', '--output-dir', tmp_path / 'm', '--epochs', 2, '--quiet')
    ok(*line)
    first = open_model(work / 'model' / 'model.safetensors').weights
    again = open_model(tmp_path / 'm' / 'model.safetensors').weights
    assert all(np.array_equal(first[name], again[name]) for name in first)
    ok(*line, '--overwrite', '--seed', 5)
    other = open_model(tmp_path / 'm' / 'model.safetensors').weights
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_resume_goes_on_with_the_next_epoch_and_the_stored_settings(work: Path, tmp_path: Path) -> None:
    line = (*TRAIN, work / 'scan.npz', '--output-dir', tmp_path / 'm')
    ok(*line, '--epochs', 1, '--learning-rate', 1e-3, '--n-filters-scale', 0.5, '--batch-size', 8)
    before = open_model(tmp_path / 'm' / 'model.safetensors').weights
    assert told(*line, '--resume', '--epochs', 2)['epochs'] == 2
    model = open_model(tmp_path / 'm' / 'model.safetensors')
    assert epochs_in(tmp_path / 'm') == [1, 2]
    assert model.manifest.config.training.learning_rate == 1e-3
    assert model.weights['stem.kernel'].shape == before['stem.kernel'].shape == (3, 3, 24, 8)
    assert not np.array_equal(model.weights['stem.kernel'], before['stem.kernel'])
    again = told(*line, '--resume', '--epochs', 1)  # fewer than are done
    assert again['epochs'] == 2 and not again['interrupted'] and epochs_in(tmp_path / 'm') == [1, 2]
    assert any('2 epochs already, more than the 1 asked for' in note for note in again['notes'])
    kept = open_model(tmp_path / 'm' / 'model.safetensors').weights
    assert all(np.array_equal(kept[name], values) for name, values in model.weights.items())


@pytest.mark.parametrize(
    ('number', 'epochs', 'options'),
    [
        pytest.param(signal.SIGINT, 120, ('--scheduler', 'constant', '--batch-size', 8), id='SIGINT'),
        pytest.param(signal.SIGTERM, 50000, (), id='SIGTERM, still warming up', marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_training_cleanly_and_it_resumes(
    work: Path, tmp_path: Path, number: signal.Signals, epochs: int, options: tuple[object, ...]
) -> None:
    folder, first = tmp_path / 'm', 1 if epochs > 1000 else 10  # the rate warms up over six of 120 epochs
    line = (*TRAIN, work / 'scan.npz', '--output-dir', folder)
    with process(*line, '--n-filters-scale', 0.5, '--epochs', epochs, *options, '--quiet') as running:
        try:
            end = time.monotonic() + 120
            while (
                not ((folder / 'metrics.csv').exists() and len(epochs_in(folder)) >= first) and time.monotonic() < end
            ):
                assert running.poll() is None, running.communicate()
                time.sleep(0.1)
            running.send_signal(number)
            out, said = running.communicate(timeout=300)
        finally:
            running.kill()
    assert running.returncode == 130, said
    assert out == '' and said.count('\n') == 1
    assert said.endswith(f'train {work / "scan.npz"} --output-dir {folder} --resume\n')
    assert f'of {epochs}; {folder / "model.safetensors"} is the best' in said
    assert 'model.safetensors' in snapshot(folder)  # hardly trained or not
    assert not [name for name in snapshot(folder) if 'partial' in name]
    done = max(epochs_in(folder))
    ok(*line, '--resume', '--epochs', done + 2)
    assert epochs_in(folder) == list(range(1, done + 3))


@pytest.mark.slow
def test_a_training_stopped_in_its_first_epoch_leaves_a_checkpoint(work: Path, tmp_path: Path) -> None:
    """C20: also where an earlier training is replaced, whose model is gone by then."""
    (tmp_path / 'checkpoints').mkdir()
    best, last = (f'{name}.{CHECKPOINT[backend_here()]}' for name in ('best', 'last'))
    old = [tmp_path / 'checkpoints' / best, tmp_path / 'checkpoints' / last, tmp_path / 'model.safetensors']
    for path in old:
        path.write_bytes(b'old')
    line = (*TRAIN, work / 'scan.npz', '--output-dir', tmp_path, '--overwrite', '--quiet')
    # 4,000 regions an epoch: some twenty seconds
    with process(*line, '--batch-size', 8, '--gridsize', 2, '--n-groups', 4000) as running:
        try:
            end = time.monotonic() + 120
            while old[2].exists() and time.monotonic() < end:
                assert running.poll() is None, running.communicate()
                time.sleep(0.1)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=300)
        finally:
            running.kill()
    assert running.returncode == 130 and epochs_in(tmp_path) == [] and said.endswith('--resume\n')
    assert sorted(path.name for path in (tmp_path / 'checkpoints').iterdir()) == [last]
    assert old[1].stat().st_size > 100_000


def test_a_second_signal_ends_at_once() -> None:
    program = (
        'import os, signal, time; from ptychopinn_reconstructor.cli.stopping import catch_stop_signals\n'
        'with catch_stop_signals() as should_stop:\n'
        '    os.kill(os.getpid(), signal.SIGINT); assert should_stop()\n'
        '    os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n'
    )
    result = subprocess.run([sys.executable, '-P', '-c', program], capture_output=True, timeout=300, check=False)
    assert result.returncode == 130 and result.stderr == b''


def test_validation_scan_and_further_training(work: Path, tmp_path: Path) -> None:
    line = (*TRAIN, work / 'other.npz', '--output-dir', tmp_path / 'm', '--epochs', 1, '--learning-rate', 1e-6)
    values = told(*line, '--from', work / 'model' / 'model.safetensors', '--validation', work / 'scan.npz')
    start = open_model(work / 'model' / 'model.safetensors').weights['stem.kernel']
    end = open_model(tmp_path / 'm' / 'model.safetensors').weights['stem.kernel']
    assert 0 < np.abs(end - start).max() < 1e-4  # went on from there, at this rate
    assert values['patterns_seen'] >= 64  # nothing was held out of the training scan


@pytest.mark.slow
def test_the_probe_is_refined_before_training(work: Path, tmp_path: Path) -> None:
    """From a wrong guess: the refined probe is in probe.npz and in the model, nearer to the true one."""
    with np.load(work / 'scan.npz') as file:
        true, arrays = file['probeGuess'], dict(file)
    arrays['probeGuess'] = true * np.exp(0.8j * np.linspace(-1, 1, 32) ** 2)[:, None]
    np.savez(tmp_path / 'guess.npz', **arrays)
    ok(
        *TRAIN,
        tmp_path / 'guess.npz',
        '--output-dir',
        tmp_path / 'm',
        '--epochs',
        1,
        '--batch-size',
        8,
        '--refine-probe-first',
        12,
    )
    with np.load(tmp_path / 'm' / 'probe.npz') as file:
        refined = file['probe']
    np.testing.assert_array_equal(open_model(tmp_path / 'm' / 'model.safetensors').probe, refined)
    before = correlate_probes(arrays['probeGuess'].reshape(1, 32, 32), true.reshape(1, 32, 32))
    assert correlate_probes(refined, true.reshape(1, 32, 32)) > before + 0.3 * (1 - before)
    values = told(
        'reconstruct',
        tmp_path / 'guess.npz',
        '--model',
        tmp_path / 'm' / 'model.safetensors',
        '--output-dir',
        tmp_path / 'r',
    )
    assert values['probe_source'] == 'model' and any('refined' in note for note in values['notes'])


# settings


def test_command_line_over_file_over_default(tmp_path: Path) -> None:
    (tmp_path / 'c.yaml').write_text(
        'training: {nepochs: 7, learning_rate: 0.01, early_stop_patience: 3}\nexecution: {precision: 32}\nmodel:\n'
    )
    assert printed() == Config()
    config = printed(
        '--config', tmp_path / 'c.yaml', '--epochs', 9, '--set', 'early_stop_patience=null', '--set', 'data.n_groups=5'
    )
    assert (config.training.nepochs, config.training.learning_rate) == (9, 0.01)
    assert (config.training.early_stop_patience, config.execution.precision, config.data.n_groups) == (None, '32', 5)
    assert printed('--config', tmp_path / 'c.yaml').training.early_stop_patience == 3
    assert printed('--no-object-big').model.object_big is False


def test_a_printed_configuration_is_taken_as_it_is(tmp_path: Path) -> None:
    line = ('--gridsize', 2, '--scheduler', 'constant', '--max-cpu-seconds', 12.5, '--set', 'logger_backend=none')
    (tmp_path / 'c.yaml').write_text(ok('train', *line, '--print-config').stdout)
    assert printed('--config', tmp_path / 'c.yaml') == printed(*line)


def test_presets() -> None:
    assert printed('--config', 'default') == Config()
    assert printed('--config', 'supervised').model.model_type == 'supervised'
    assert printed('--config', 'quick').training.max_cpu_seconds == 60


def test_reconstruct_starts_from_the_model_and_lets_the_command_line_decide(work: Path, tmp_path: Path) -> None:
    model = tmp_path / 'm' / 'model.safetensors'
    options = ('--epochs', 1, '--batch-size', 8, '--probe-power', 'from_counts')
    ok(*TRAIN, work / 'scan.npz', '--output-dir', tmp_path / 'm', *options)
    line = ('reconstruct', work / 'scan.npz', '--output-dir', tmp_path / 'r', '--print-config')
    config = parse(yaml.safe_load(ok(*line, '--model', model).stdout))
    assert config.execution.backend == backend_here()  # the model's
    assert (config.data.probe_power, config.inference.model_path) == ('from_counts', model)
    changed = ('--set', f'model_path={model}', '--probe-power', 'absolute', '--passes', 3, '--sync-neighbors', 6)
    config = parse(yaml.safe_load(ok(*line, *changed).stdout))
    assert (config.data.probe_power, config.refinement.passes, config.inference.sync_neighbors) == (
        'absolute',
        3,
        6,
    )
    assert not (tmp_path / 'r').exists()


def test_refine_takes_settings_like_every_other_command(work: Path, tmp_path: Path) -> None:
    """Command line over file over default; what only a training or a network has is refused."""
    (tmp_path / 'own.yaml').write_text('refinement: {passes: 7, prior: 0.5, wavefront: no}\nexecution: {device: cpu}')
    line = ('refine', work / 'scan.npz', '--output-dir', tmp_path / 'r')
    told = ok(*line, '--config', tmp_path / 'own.yaml', '--passes', 3, '--set', 'split_frc=true', '--print-config')
    values = yaml.safe_load(told.stdout)
    expected = {'passes': 3, 'prior': 0.5, 'probe': False, 'positions': False, 'auto': False, 'wavefront': False}
    assert {**values['refinement'], **expected} == values['refinement']
    assert (values['inference']['split_frc'], values['execution']['device']) == (True, 'cpu')
    assert not (tmp_path / 'r').exists()
    for setting, words in (('sync_neighbors=3', 'no setting of the engine alone'), ('passes=none', "got 'none'")):
        failed = run(*map(str, line), '--set', setting)
        assert failed.exit_code == 2 and words in failed.stderr and setting.partition('=')[0] in failed.stderr


def test_no_command_has_an_option_twice() -> None:
    """A setting called like an option of the command line itself, such as --debug, would take its place."""
    for name, command in load_commands().items():
        options = [option for one in command.params for option in (*one.opts, *one.secondary_opts)]
        assert len(options) == len(set(options)), name


def test_the_documents_of_all_settings_are_in_step() -> None:
    """After a change of a field run ptychopinn_reconstructor.cli.settings, as it says."""
    assert (ROOT / 'specs' / 'settings.md').read_text(encoding='utf-8') == render_table()
    assert (ROOT / 'configs' / 'default.yaml').read_text(encoding='utf-8') == render_preset()
    assert parse(yaml.safe_load(render_preset())) == Config()


def test_every_option_in_the_table_of_settings_exists() -> None:
    existing = {name for command in load_commands().values() for option in command.params for name in option.opts}
    rows = [line.split(' | ') for line in render_table().splitlines() if line.startswith('| `')]
    assert len(rows) == len(list(field_table()))
    for row in rows:
        name = row[2].strip('`()')
        assert name in existing or name == 'SCAN' or row[5] == 'default only', row


# reconstruct, refine, evaluate


def test_reconstruct_writes_what_the_pipeline_gives(results: Path) -> None:
    assert set(snapshot(results / 'network')) == PRODUCED
    scan, model = read_scan(results / 'scan.npz').scan, results / 'model' / 'model.safetensors'
    expected = pp.reconstruct(scan, model, short_config()).reconstruction
    product = read_product(results / 'network' / 'product.h5')
    np.testing.assert_array_equal(product.object, expected.object)
    np.testing.assert_array_equal(product.probe, expected.probe)
    np.testing.assert_allclose(product.positions, scan.positions, atol=1e-9)
    np.testing.assert_allclose(product.origin, expected.origin, atol=1e-9)
    for name in ('amplitude', 'phase'):
        assert (results / 'network' / f'reconstructed_{name}.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


def test_metrics_hold_the_residual_of_the_product(results: Path) -> None:
    """The residual, overall and per pattern, recomputed from the product's object and probe."""
    for name in ('network', 'refined'):
        found, product = metrics(results / name), read_product(results / name / 'product.h5')
        prepared = prepare_scan(read_scan(results / 'scan.npz').scan)
        again = residuals(prepared, product.object, product.probe)
        assert found['residual'] == pytest.approx(again.overall, rel=1e-5)
        np.testing.assert_allclose(
            np.array(found['residual_per_pattern'])[prepared.order], again.per_pattern, rtol=1e-4
        )
        stages = {'prepare', 'self_test', 'network', 'stitch', 'gauge', 'wavefront', 'residual', 'reliability'} | (
            {'refine', 'error_bars'} if name == 'refined' else set()
        )
        assert set(found['stages']) == stages
        assert all(stage['patterns_per_second'] > 0 for stage in found['stages'].values())
        assert found['reliability']['r_factor'] == pytest.approx(again.r_factor, rel=1e-5)
        source = 'result' if name == 'refined' else 'patches'
        assert found['reliability']['uncertainty_of'] == source and found['reliability']['split_frc'] is None
        assert found['peak_memory_mib'] > 10 and found['cpu_seconds'] > 0
        assert (found['backend'], found['patterns'], found['probe_source']) == (backend_here(), 64, 'scan')


def test_refinement_improves_the_network_and_both_are_reported(results: Path) -> None:
    network, refined = metrics(results / 'network'), metrics(results / 'refined')
    assert refined['residual'] < 0.8 * network['residual']
    assert refined['image']['amplitude_psnr'] > network['image']['amplitude_psnr']
    assert refined['image_network'] == pytest.approx(network['image'], rel=1e-4, abs=1e-6)
    assert 'image_network' not in network and refined['refine_passes'] == 2


def test_evaluate_agrees_with_truth(results: Path) -> None:
    for name in ('network', 'refined'):
        (values,) = told('evaluate', results / name / 'product.h5', results / 'scan.npz')['results']
        image = metrics(results / name)['image']
        assert {key: values[key] for key in image} == pytest.approx(image, rel=1e-5, abs=1e-7)
        expected = 2 * 2  # N/16 on both sides
        with np.load(results / 'scan.npz') as file:
            assert values['area_rows'] == pytest.approx(np.ptp(file['ycoords']) - expected, abs=1.01)
    (wide,) = told('evaluate', results / 'network', '--truth', results / 'scan.npz', '--margin', 5)['results']
    assert wide['area_rows'] == values['area_rows'] - 6


def test_evaluate_of_the_truth_itself_is_perfect(work: Path) -> None:
    (values,) = told('evaluate', work / 'scan.npz', work / 'scan.npz')['results']
    assert values['phase_psnr'] > 100 and values['amplitude_ratio'] == pytest.approx(1, abs=1e-6)
    text = ok('evaluate', work / 'scan.npz', work / 'scan.npz').stdout
    assert 'phase PSNR' in text and 'amplitude ratio' in text and 'FRC area' in text


def test_pixel_size(results: Path, work: Path, tmp_path: Path) -> None:
    line = ('refine', work / 'scan.npz', '--passes', 1, '--output-dir', tmp_path)
    product = read_product(results / 'network' / 'product.h5')
    assert product.pixel_size == pytest.approx((1e-8, 1e-8)) and 'nominal' in product.comments
    ok(*line, '--pixel-size', 2.5e-8)
    product = read_product(tmp_path / 'product.h5')
    assert product.pixel_size == pytest.approx((2.5e-8, 2.5e-8)) and '2.5e-08 m' in product.comments
    scan = read_scan(work / 'scan.npz').scan
    write_npz(tmp_path / 'sized.npz', replace(scan, pixel_size=(3e-8, 4e-8)))
    told_notes = told('refine', tmp_path / 'sized.npz', *line[2:], '--pixel-size', 2.5e-8)['notes']
    assert any('--pixel-size is not used' in note for note in told_notes)
    product = read_product(tmp_path / 'product.h5')
    assert product.pixel_size == pytest.approx((3e-8, 4e-8)) and 'nominal' not in product.comments


@pytest.mark.slow
def test_another_probe_is_used_and_reported(work: Path, tmp_path: Path) -> None:
    with np.load(work / 'scan.npz') as file:
        np.savez(
            tmp_path / 'p.npz', turned=np.exp(0.5j) * file['probeGuess'], flipped=file['probeGuess'][..., ::-1].conj()
        )
    model = ('--model', work / 'model' / 'model.safetensors', '--output-dir', tmp_path / 'r')
    held = ('--modes', 0)  # else the engine finds a better one than the second
    for key in ('turned', 'flipped'):
        values = told('reconstruct', work / 'scan.npz', *model, '--probe', f'{tmp_path / "p.npz"}:{key}', *held)
        assert values['probe_source'] == 'given'
        with np.load(tmp_path / 'p.npz') as file:
            np.testing.assert_allclose(read_product(tmp_path / 'r' / 'product.h5').probe[0], file[key].reshape(32, 32))


def test_the_engine_alone(work: Path, tmp_path: Path) -> None:
    line = ('refine', work / 'scan.npz', '--output-dir', tmp_path, '--passes', 8, '--truth', work / 'scan.npz')
    values = told(*line, '--split-frc')
    prepared = prepare_scan(read_scan(work / 'scan.npz').scan)
    flat = residuals(prepared, flat_canvas(prepared), prepared.probe).overall
    assert values['residual'] < flat / 3
    assert len(values['residual_by_pass']) == 8 and values['backend'] == 'numpy'
    assert 0.9 < values['image']['amplitude_ratio'] < 1.1 and 'image_network' not in values
    assert 0.3 < values['reliability']['split_frc']['area'] < 1
    assert set(snapshot(tmp_path)) == PRODUCED | {'split_frc.png'}  # no probe.npz: it was held fixed
    np.testing.assert_array_equal(read_product(tmp_path / 'product.h5').probe, prepared.probe)


def test_the_engine_alone_solves_for_the_wavefront_unless_told_not_to(work: Path, tmp_path: Path) -> None:
    line = ('refine', work / 'scan.npz', '--output-dir', tmp_path, '--passes', 3, '--truth', work / 'scan.npz')
    plain, solved = told(*line, '--no-wavefront'), told(*line)
    assert (plain['wavefront'], solved['wavefront']) == (False, True)
    assert solved['image']['phase_psnr'] > plain['image']['phase_psnr'] + 1
    assert solved['image']['amplitude_psnr'] > plain['image']['amplitude_psnr'] - 0.2


@pytest.mark.slow
def test_the_engine_writes_a_probe_that_it_has_refined(work: Path, tmp_path: Path) -> None:
    ok('refine', work / 'scan.npz', '--output-dir', tmp_path, '--passes', 5, '--refine-probe')
    with np.load(tmp_path / 'probe.npz') as file:
        probe = file['probe']
    np.testing.assert_array_equal(read_product(tmp_path / 'product.h5').probe, probe)
    start = prepare_scan(read_scan(work / 'scan.npz').scan).probe
    assert not np.array_equal(probe, start)
    ok(
        'refine',
        work / 'scan.npz',
        '--output-dir',
        tmp_path / 'again',
        '--probe',
        tmp_path / 'probe.npz',
        '--passes',
        1,
    )


@pytest.mark.slow
def test_the_same_command_gives_the_same_result(work: Path, tmp_path: Path) -> None:
    for name in 'ab':
        ok('refine', work / 'scan.npz', '--output-dir', tmp_path / name, '--passes', 2, '--seed', 3)
    a, b = (read_product(tmp_path / name / 'product.h5').object for name in 'ab')
    np.testing.assert_array_equal(a, b)


# inspect, verify, doctor, help


def test_inspect_and_verify(work: Path) -> None:
    model = work / 'model' / 'model.safetensors'
    values, weights = told('inspect', model), open_model(model).weights
    parameters = values['manifest']['architecture']['parameters']
    assert parameters == sum(w.size for w in weights.values())
    assert values['manifest']['backend'] == backend_here() and values['size'] == model.stat().st_size
    assert str(work) not in json.dumps(values['manifest'])
    text = ok('inspect', model).stdout
    assert str(work / 'scan') not in text
    assert 'pinn' in text and '32 pixels' in text and f'{parameters:,} parameters' in text
    verified = told('verify', model)
    assert verified['difference'] <= verified['tolerance'] <= 1e-5 and verified['distance_to_fresh'] > 1e-3
    assert verified['backend'] == verified['written_by'] == backend_here()


def doctor(*options: str, **environment: str) -> Any:
    """What `ptychopinn doctor` tells in a new process with these environment variables."""
    with process('doctor', '--json', *options, env=os.environ | environment) as running:
        out, said = running.communicate(timeout=300)
    assert running.returncode == 0, said
    return json.loads(out)


@pytest.mark.slow
def test_doctor_names_versions_backends_and_devices(tmp_path: Path) -> None:
    values = doctor()
    assert values['ptychopinn_reconstructor'] == __version__ and values['packages']['numpy'] == np.__version__
    assert {'torch', 'tensorflow'} <= set(values['backends'])
    for name, found in values['backends'].items():
        assert found['installed'] == (name in installed())
        if found['installed']:
            assert found['devices'][0] == 'cpu' and not found['reason']
            assert {*found['versions']} <= {'torch', 'lightning', 'tensorflow', 'keras', 'onnxruntime'} and found[
                'versions'
            ]
        else:
            assert 'cannot be imported' in found['reason'] and not found['devices'] and not found['versions']
    assert 'Ptychodus: ' in ok('doctor', '--quick').stdout


@pytest.mark.slow
def test_doctor_imports_what_a_training_imports(tmp_path: Path) -> None:
    """And says on stderr that it does, since it takes seconds."""
    (tmp_path / 'lightning').mkdir()
    (tmp_path / 'lightning' / '__init__.py').write_text('raise ImportError("torchmetrics is broken")')
    with process('doctor', '--json', env=os.environ | {'PYTHONPATH': str(tmp_path)}) as running:
        out, said = running.communicate(timeout=300)
    found = json.loads(out)['backends']['torch']
    assert not found['installed'] and 'torchmetrics is broken' in found['reason']
    assert 'Importing the backend torch ...' in said


def test_doctor_in_a_hurry_says_the_same_of_the_backends(tmp_path: Path) -> None:
    for name, found in doctor('--quick', KERAS_HOME=str(tmp_path))['backends'].items():
        assert found['installed'] == (name in installed()) == (not found['reason'])
        assert found['devices'] == [] and found['versions'] == {}
    assert list(tmp_path.iterdir()) == []  # Keras, when imported, would have written its settings there


@pytest.mark.parametrize(
    ('place', 'quick'),
    [('variable', True), ('file', True), pytest.param('file', False, marks=pytest.mark.slow)],
)
def test_doctor_says_when_keras_is_set_to_another_backend(tmp_path: Path, place: str, quick: bool) -> None:
    """TensorFlow cannot train then: what is set, and where, is in the reason."""
    if missing := find_missing_modules('tensorflow'):
        pytest.skip(f'TensorFlow is not installed ({" and ".join(missing)})')
    (tmp_path / 'keras.json').write_text(json.dumps({'backend': 'numpy' if place == 'file' else 'tensorflow'}))
    variable = {'KERAS_BACKEND': 'numpy' if place == 'variable' else ''}
    found = doctor(*['--quick'] * quick, KERAS_HOME=str(tmp_path), **variable)['backends']['tensorflow']
    where = 'KERAS_BACKEND' if place == 'variable' else tmp_path / 'keras.json'
    assert not found['installed'] and f'Keras is set to its backend numpy in {where}' in found['reason']


LIGHT = """
import json, sys
from ptychopinn_reconstructor.cli.main import COMMANDS, main
for line in json.loads(sys.argv[1]):
    try:
        main(line)
    except SystemExit as end:
        assert not end.code, (line, end.code)
print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'tensorflow', 'keras', 'lightning'}))
"""


def test_commands_that_need_no_framework_import_none(work: Path, tmp_path: Path) -> None:
    scan, model = str(work / 'scan.npz'), str(work / 'model' / 'model.safetensors')
    lines = [
        ['--help'], ['train', '--help'], ['--version'], ['doctor', '--quick'], ['inspect', model],
        ['simulate', '--out', str(tmp_path / 's.npz'), '--n', '16', '--positions', '4'], ['evaluate', scan, scan],
        ['refine', scan, '--output-dir', str(tmp_path / 'r'), '--passes', '1'], ['train', '--print-config'],
        ['reconstruct', scan, '--model', model, '--output-dir', str(tmp_path / 'x'), '--print-config'],
    ]  # fmt: skip
    command = [sys.executable, '-P', '-c', LIGHT, json.dumps(lines)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == '[]' and error_lines(result.stderr) == []


@pytest.mark.parametrize('name', ['', *COMMANDS])
def test_help_explains_every_option(name: str) -> None:
    command = COMMANDS[name].load() if name else main
    assert command.help and 'Usage: ptychopinn' in ok(*name.split(), '--help').stdout
    for option in command.params:
        if option.param_type_name == 'option':
            assert len(getattr(option, 'help', None) or '') > 10, option.name


def test_the_list_of_commands_is_printed_without_importing_one() -> None:
    program = (
        'import sys\nfrom ptychopinn_reconstructor.cli.main import COMMANDS, main\n'
        'try:\n    main(["--help"])\nexcept SystemExit:\n'
        '    modules = {entry.target.partition(":")[0] for entry in COMMANDS.values()}\n'
        '    print(modules & {*sys.modules}, "numpy" in sys.modules)'
    )
    result = subprocess.run(
        [sys.executable, '-P', '-c', program], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.stdout.splitlines()[-1] == 'set() False', result.stderr
    listed = result.stdout.partition('Commands:')[2]
    assert [line.split()[0] for line in listed.splitlines() if re.match(r'  \w', line)] == sorted(COMMANDS)


@pytest.mark.parametrize('name', COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_own_help_says(name: str) -> None:
    command, line = COMMANDS[name].load(), COMMANDS[name].help
    assert command.name == name and line.endswith('.')
    assert line.split()[:4] == (command.help or '').split()[:4]


def test_version_and_no_command() -> None:
    assert ok('--version').stdout.split() == ['ptychopinn,', 'version', __version__]
    assert ok().stdout == ok('--help').stdout


def test_quiet_says_nothing(work: Path, tmp_path: Path) -> None:
    """But for what is asked for with --json."""
    assert ok(*SIMULATE, '--out', tmp_path / 's.npz', '--quiet').stdout == ''
    assert told('refine', work / 'scan.npz', '--passes', 1, '--output-dir', tmp_path / 'r', '--quiet')['patterns'] == 64


# progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, bar: ProgressBar) -> str:
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '200')
    monkeypatch.setattr(sys, 'stderr', stream)
    with bar:
        if bar._timer is not None and bar.delay < 1:
            bar._timer.join()
        bar.emit(Progress('train', 1, 4))
        bar.emit(Epoch('train', 1, 3, train_loss=0.5))
        bar.emit(Log('nothing to draw'))
        if bar._bar is not None:
            bar._bar.refresh()
    return stream.getvalue()


def test_a_terminal_shows_stage_epoch_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(monkeypatch, Terminal(), ProgressBar('reading', delay=0.01))
    assert 'train' in text and 'epoch 1/3, train_loss 0.5' in text and '25%' in text


def test_what_is_short_or_quiet_or_no_terminal_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, Terminal(), ProgressBar('reading', delay=3600)) == ''
    assert drawn(monkeypatch, Terminal(), ProgressBar('reading', quiet=True, delay=0.01)) == ''
    assert drawn(monkeypatch, io.StringIO(), ProgressBar('reading', delay=0.01)) == ''


# demo


@pytest.mark.slow
@pytest.mark.usefixtures('backend_name')
def test_demo_goes_through_all_steps_and_refuses_a_bad_result(tmp_path: Path) -> None:
    """Small scans and two seconds of training: every file is there, the exit code says that this is not enough."""
    line = ('demo', '--out', str(tmp_path / 'd'), '--max-cpu-seconds', '2', '--positions', '64')
    result = CliRunner().invoke(main, [*line, '--json', *backend_options()])
    summary = json.loads(result.stdout)
    assert set(summary['results']) == {'A', 'B'}
    for name in 'AB':
        assert (tmp_path / 'd' / f'comparison_{name}.png').read_bytes()[:4] == b'\x89PNG'
        for method in ('network', 'refined', 'engine'):
            values = metrics(tmp_path / 'd' / f'{name}_{method}')
            assert summary['results'][name][method]['phase_psnr'] == pytest.approx(
                values['image']['phase_psnr'], rel=1e-6
            )
    reached = summary['results']['A']['refined']['phase_psnr']
    assert result.exit_code == (1 if reached < 20 else 0)
    assert (f'{reached:.1f} dB, below 20 dB' in result.stderr) == (reached < 20)


# examples


@pytest.mark.slow
@pytest.mark.skipif(bool(backend_options()), reason='PyTorch, the default backend of the examples, is not installed')
def test_the_example_that_follows_a_training_runs(tmp_path: Path) -> None:
    """The other example for Python is a command of the README that `ptychopinn init` writes, tested with it."""
    ok('simulate', '--out', tmp_path / 'scan.npz', '--positions', '100', '--n', '32', '--step', '5')
    command = [sys.executable, '-P', str(ROOT / 'examples' / 'follow_a_training.py'), '3']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert 'stopped early: True' in result.stdout and len([*tmp_path.rglob('model.safetensors')]) == 1
    assert (tmp_path / 'losses.png').stat().st_size > 5_000
