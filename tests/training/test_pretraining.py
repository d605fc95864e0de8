"""Pretraining: in every backend, on the same patterns; a sample that was never seen is reconstructed; it resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from scans import backend_here, backend_options, short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.backend import TrainingJob, installed
from ptychopinn_reconstructor.backend.batches import PROCEDURAL, make_steps
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ConfigError, ScanError
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.physics.grouping import hold_out_all
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.probes import make_probe
from ptychopinn_reconstructor.physics.scaling import probe_power
from ptychopinn_reconstructor.physics.simulation.procedural import ProceduralPatterns
from ptychopinn_reconstructor.training.instrument import Instrument, read_instrument, resolve_instrument
from ptychopinn_reconstructor.training.pretraining import pretrain, simulate_held_out_scans
from ptychopinn_reconstructor.training.run import make_procedural_patterns
from ptychopinn_reconstructor.training.setup import split_scan

N = 32
PROBE = make_probe('defocused', N, photons=1e5).astype(np.complex64)
BACKENDS = pytest.mark.parametrize(
    'backend',
    [
        pytest.param(name, marks=[] if name == backend_here() else [pytest.mark.slow])
        for name in installed(training=True)
    ],
)


MEASURED: dict[str, Any] = {'data__source': 'scans', 'data__n_groups': None, 'training__dose_range': 3.0}


def config_of(backend: str, **changes: Any) -> Config:
    settings: dict[str, Any] = {'training__nepochs': 2, 'data__n_groups': 64, 'training__dose_range': 2.0}
    settings |= {'data__source': 'procedural'}
    return short_config(execution__backend=backend, **settings | changes)


@pytest.mark.slow
@BACKENDS
def test_a_pretrained_network_reconstructs_what_it_has_never_seen(backend: str, tmp_path: Path) -> None:
    """Better than an empty object, and closer to the patterns than the network it started from."""
    config = config_of(backend, training__nepochs=6, data__n_groups=256)
    done = pretrain(Instrument.of_probe(PROBE), config, tmp_path)
    scan = small_scan()
    result = pp.reconstruct(scan, done.model, config)
    flat = pp.refine(scan, config)
    assert result.report.residual < 0.5 * flat.report.residual
    losses = [loss for _, loss in done.trained.losses]
    assert losses[-1] < 0.7 * losses[0]
    manifest = open_model(done.model).manifest
    assert manifest.training.scans == ('procedural objects',)
    assert manifest.config.data.source == 'procedural'
    assert manifest.config.model.model_type == 'supervised'


def test_steps_are_numbered_through_the_epochs_and_validate_on_held_out_scans(tmp_path: Path) -> None:
    config = config_of('torch', model__N=N, model__model_type='supervised')
    scans = tuple(prepare_scan(scan, mode='absolute', stride=16) for scan in simulate_held_out_scans(PROBE, config))
    splits = tuple(hold_out_all(len(scan)) for scan in scans)
    source = ProceduralPatterns(PROBE, (0.5, 2.0))
    steps = make_steps(TrainingJob(scans, splits, config, tmp_path, procedural=source))
    assert [int(step.regions[0, 0]) for step in steps.draw_epoch(2)] == [8, 9, 10, 11]
    batch = steps.batch(steps.draw_epoch(2)[1])
    assert np.array_equal(batch.counts[:, 0], source.draw(9, 16).counts)
    assert (batch.dose == source.draw(9, 16).dose).all()
    held_out = steps.list_validation_steps()
    assert sum(step.regions.size for step in held_out) == sum(len(scan) for scan in scans)
    assert all(step.scan != PROCEDURAL for step in held_out)
    assert (steps.batch(held_out[0]).dose == 1).all()


@pytest.mark.slow
@BACKENDS
def test_mixed_training_learns_from_the_scan_and_from_procedural_patterns(backend: str, tmp_path: Path) -> None:
    """Half of the steps each, in an order of their own."""
    config = config_of(backend, data__source='mixed', data__n_groups=None, training__nepochs=6)
    done = pp.train([small_scan()], config, tmp_path)
    losses = [loss for _, loss in done.trained.losses]
    assert losses[-1] < 0.7 * losses[0]


def test_mixed_steps_are_half_and_half() -> None:
    scan = prepare_scan(small_scan(), mode='absolute', stride=16)
    config = config_of('torch', model__N=N, data__source='mixed', data__n_groups=None)
    split = split_scan(scan, config)
    job = TrainingJob((scan,), (split,), config, Path(), procedural=make_procedural_patterns(scan.probe, None, config))
    steps = make_steps(job)
    for epoch in (0, 1):
        kinds = [step.scan == PROCEDURAL for step in steps.draw_epoch(epoch)]
        assert len(kinds) == len(steps)
        assert sum(kinds) == len(kinds) / 2
        assert kinds != sorted(kinds)
    numbers = [int(s.regions[0, 0]) for epoch in (0, 1) for s in steps.draw_epoch(epoch) if s.scan == PROCEDURAL]
    assert sorted(numbers) == list(range(len(steps)))
    drawn = next(steps.batch(step) for step in steps.draw_epoch(0) if step.scan == PROCEDURAL)
    measured = next(steps.batch(step) for step in steps.draw_epoch(0) if step.scan != PROCEDURAL)
    assert drawn.counts.shape == (16, 1, N, N)
    assert measured.counts.shape == (2, 8, N, N)
    assert drawn.labels is not None
    assert measured.labels is None


def test_a_scan_or_a_probe_says_what_the_instrument_is() -> None:
    scan = small_scan(photons=5e4)
    assert scan.probe is not None
    assert probe_power(Instrument.of_scan(scan).probe) == pytest.approx(5e4, rel=1e-5)
    assert probe_power(Instrument.of_scan(scan, photons=2e3).probe) == pytest.approx(2e3, rel=1e-5)
    assert probe_power(Instrument.of_probe(1e-3 * scan.probe, 1e4).probe) == pytest.approx(1e4, rel=1e-5)
    with pytest.raises(ConfigError, match='cannot be photons per pattern'):
        Instrument.of_probe(1e-3 * scan.probe)


def test_weights_of_a_likelihood_are_refused(tmp_path: Path) -> None:
    """S10: no pretraining has one; nothing is written."""
    config = config_of('torch', **MEASURED, training__nll_weight=2.0)
    with pytest.raises(ConfigError, match=r'nll_weight = 2.0 has no effect.*procedural trains a supervised one'):
        pretrain(Instrument.of_probe(PROBE), config, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_instrument_is_kept_with_its_bad_pixels(tmp_path: Path) -> None:
    bad = np.zeros((N, N), dtype=bool)
    bad[3, 5] = True
    Instrument(PROBE, bad).write(tmp_path / 'probe.npz')
    found = read_instrument(tmp_path)
    assert found.bad_pixels is not None
    assert np.array_equal(found.bad_pixels, bad)
    assert np.array_equal(found.probe, PROBE)


def test_a_pretraining_is_resumed_for_its_own_probe_only(tmp_path: Path) -> None:
    """The kept instrument is what is resumed: a scan may have its probe in another unit, or none, but no other one."""
    scan, config = small_scan(), config_of('torch')
    assert scan.probe is not None
    kept = Instrument.of_scan(scan, photons=2e3)
    kept.write(tmp_path / 'probe.npz')
    for probe in (scan.probe, 7j * scan.probe, None):
        found = resolve_instrument(replace(scan, probe=probe), config, tmp_path, resume=True)
        assert np.array_equal(found.probe, kept.probe)
    turned = np.ascontiguousarray(np.exp(0.2j * np.arange(N) ** 2) * scan.probe)
    for other in (turned.astype(np.complex64), np.concatenate([scan.probe, 0.1 * scan.probe])):
        with pytest.raises(ConfigError, match='is for another probe than that of the scan'):
            resolve_instrument(replace(scan, probe=other), config, tmp_path, resume=True)
        fresh = resolve_instrument(replace(scan, probe=other), config, tmp_path, resume=False)
        assert np.allclose(fresh.probe / other.max(), other / other.max(), atol=0.05)


@BACKENDS
def test_a_stopped_pretraining_goes_on_from_the_command_line(backend: str, tmp_path: Path) -> None:
    """--resume needs nothing but the folder, and continues the numbering of the steps."""
    write_npz(tmp_path / 'scan.npz', small_scan())
    short = ('--n-groups', 64, '--dose-range', 2, '--batch-size', 16, '--backend', backend, '--quiet')
    folder = tmp_path / 'out'
    assert _exit('pretrain', tmp_path / 'scan.npz', '--output-dir', folder, '--epochs', 1, *short) == 0
    assert _exit('pretrain', '--output-dir', folder, '--resume', '--epochs', 2, '--quiet') == 0
    rows = (folder / 'metrics.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows[1:]] == ['1', '2']
    assert [float(row.split(',')[4]) for row in rows[1:]] == [64, 128]


def test_a_training_on_a_scan_is_no_pretraining_to_resume(tmp_path: Path) -> None:
    write_npz(tmp_path / 'scan.npz', small_scan())
    arguments = ('--output-dir', tmp_path / 'out', '--epochs', 4, '--batch-size', 16, '--quiet')
    assert _exit('train', tmp_path / 'scan.npz', *arguments, *backend_options()) == 0
    result = run('pretrain', '--output-dir', str(tmp_path / 'out'), '--resume')
    assert result.exit_code == 2
    assert 'holds no pretraining to resume' in result.stderr


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--output-dir', 'out'], 'Neither a scan nor a probe is named'),
        (['--probe', 'weak.npz', '--output-dir', 'out'], 'hand in a scan, or the photons (--photons)'),
        (['--probe', 'weak.npz', '--photons', '20', '--output-dir', 'out'], 'too few to learn from'),
        (['--output-dir', 'out', '--resume'], 'There is nothing to resume'),
        (['--probe', 'weak.npz'], 'No output folder is named'),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / 'weak.npz', probe=PROBE * 1e-4)
    result = run('pretrain', *arguments, *backend_options())
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not (tmp_path / 'out').exists()


def test_a_scan_without_a_probe_is_refused() -> None:
    with pytest.raises(ScanError, match='no probe'):
        Instrument.of_scan(replace(small_scan(), probe=None), photons=1e4)


def _exit(*arguments: object) -> int:
    return int(run(*map(str, arguments)).exit_code)
