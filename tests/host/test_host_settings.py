"""Settings in INI files, and the model that they name."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_sessions import PINN, SUPERVISED, Case, Host, small_case, unstarted
from ptychodus.api.probe import ProbeSequence

from ptychopinn_reconstructor.config import PLUGIN_SECTION, Config, field_table
from ptychopinn_reconstructor.errors import ConfigError, ModelFileError, PtychoPINNError
from ptychopinn_reconstructor.host.model_file import ModelFile
from ptychopinn_reconstructor.host.scans import HostScan
from ptychopinn_reconstructor.host.settings import FROM_THE_HOST
from ptychopinn_reconstructor.host.wording import say

# Each with a value that is not its default.
CHANGED: dict[str, Any] = {
    'PtychoPINNPlugin.AmplitudeMax': 1.5,
    'PtychoPINNPlugin.MeasurementDomain': 'counts',
    'PtychoPINNPlugin.ProbePower': 'from_counts',
    'PtychoPINNPlugin.NGroups': 7,
    'PtychoPINNPlugin.ValidationFraction': 0.125,
    'PtychoPINNPlugin.MaxCpuSeconds': 12.5,
    'PtychoPINNPlugin.LearningRate': 0.00125,
    'PtychoPINNPlugin.AccumSteps': 2,
    'PtychoPINNPlugin.Seed': 11,
    'PtychoPINNPlugin.EarlyStopPatience': 4,
    'PtychoPINNPlugin.RefinePasses': 3,
    'PtychoPINNPlugin.Backend': 'TensorFlow',
    'PtychoPINNPlugin.Device': 'cpu',
    'PtychoPINNPlugin.LoggerBackend': 'none',
    'PtychoPINNPlugin.Source': 'procedural',
    'PtychoPINNPlugin.DoseRange': 5.0,
    'PtychoPINNPlugin.StartFromModel': True,
    'PtychoPINNPlugin.StartFromObject': True,
    'PtychoPINNPlugin.Resume': True,
    'PtychoPINNPlugin.ScratchDir': '/somewhere/else',
    'PtychoPINNPlugin.FurtherModels': '/one/model.safetensors:/another/model.safetensors',
    'PtychoPINNPlugin.RefinePositions': True,
    'PtychoPINNPlugin.OutputDir': '/some/where',
    'PtychoPINNModel.GridSize': 2,
    'PtychoPINNModel.NumFiltersScale': 1,
    'PtychoPINNModel.AmpActivation': 'swish',
    'PtychoPINNPlugin.ProbeBig': True,
    'PtychoPINNModel.PadObject': False,
    'PtychoPINNModel.ProbeMask': True,
    'PtychoPINNModel.ProbeScale': 2.0,
    'PtychoPINNModel.GaussianSmoothingSigma': 0.5,
    'PtychoPINNPlugin.MiddleTrim': 8,
    'PtychoPINNPlugin.Debug': True,
    'PtychoPINNTraining.NumPhotons': 5e6,
    'PtychoPINNTraining.RealspaceMAEWeight': 0.25,
    'PtychoPINNTraining.RealspaceWeight': 0.125,
    'PtychoPINNTraining.PositionsProvided': False,
    'PtychoPINNTraining.BatchSize': 8,
    'PtychoPINNTraining.NumEpochs': 3,
    'PtychoPINNTraining.MAEWeight': 0.5,
    'PtychoPINNTraining.ProbeTrainable': True,
    'PtychoPINNInference.NumNearestNeighbors': 9,
}
ONLY_HERE = {'Resume', 'StartFromModel', 'StartFromObject', 'ScratchDir', 'FurtherModels'}


@pytest.fixture
def host() -> Host:
    return unstarted()


def config_of(host: Host, model_type: str = 'pinn') -> Config:
    return host.library.settings.config(model_type)


def test_settings_survive_an_ini_file(host: Host, tmp_path: Path) -> None:
    before = {name: host.get(name) for name in CHANGED}
    assert all(before[name] != value for name, value in CHANGED.items() if not name.endswith(('Device', 'Scale')))
    host.set(**CHANGED)
    wanted = config_of(host)
    host.api.save_settings(tmp_path / 'settings.ini')
    other = unstarted(tmp_path / 'settings.ini')
    assert {name: other.get(name) for name in CHANGED} == CHANGED
    assert config_of(other) == wanted
    assert str(other.library.settings.scratch_folder()) == '/somewhere/else'
    assert other.library.settings['resume'].get_value() is True
    assert other.library.settings.further_models() == (
        Path('/one/model.safetensors'),
        Path('/another/model.safetensors'),
    )


def test_the_configuration_is_that_of_the_settings(host: Host) -> None:
    host.set(**CHANGED)
    found = config_of(host, 'supervised').to_json()
    values = {row.ini: found[row.section][row.name] for row in field_table()}
    void = {row.ini: row.default for row in field_table() if not row.has_effect('supervised', 'procedural')}
    assert {name: values[name] for name in void} == void and void.keys() & CHANGED.keys()  # the file has them for pinn
    for name, value in CHANGED.items():
        if name in void:
            continue
        expected = {'TensorFlow': 'tensorflow'}.get(value, value) if isinstance(value, str) else value
        assert name.rpartition('.')[2] in ONLY_HERE or values[name] == expected, name
    assert found['model']['model_type'] == 'supervised' and found['model']['N'] is None


def test_every_setting_is_in_the_ini_file_in_the_section_that_its_table_names(host: Host, tmp_path: Path) -> None:
    """Under the host's own key where that has one; nothing of the other built-in library is touched."""
    host.api.save_settings(tmp_path / 'settings.ini')
    file = configparser.ConfigParser(interpolation=None)
    file.optionxform = str  # type: ignore[assignment,method-assign]
    file.read(tmp_path / 'settings.ini')
    for row in field_table():
        section, key = row.ini.split('.')
        if row.name not in FROM_THE_HOST:
            assert key in file[section], row.ini
    own = set(file[PLUGIN_SECTION])
    rows = {row.ini.split('.')[1] for row in field_table() if row.name in host.library.settings.rows}
    assert own == rows & own | ONLY_HERE


OLD = """
[Processing]
Algorithm = ptychopinn_supervised

[PtychoPINNModel]
GridSize = 2
NumFiltersScale = 2
AmpActivation = sigmoid
ObjectBig = True
ProbeBig = True
ProbeMask = False
PadObject = True
ProbeScale = 4.0
GaussianSmoothingSigma = 0.0

[PtychoPINNTraining]
NumPhotons = 1000000.0
BatchSize = 32
NumEpochs = 12
MAEWeight = 0.0
NLLWeight = 1.0
RealspaceMAEWeight = 0.0
RealspaceWeight = 0.0
PositionsProvided = True
ProbeTrainable = False
IntensityScaleTrainable = True

[PtychoPINNInference]
ModelPath = /path/to/model.zip
NumNearestNeighbors = 7
NumSamples = 1

[PtychoPINNTorchModel]
GridSize = 1
"""


def test_a_file_from_before_the_plugin_works_unchanged(tmp_path: Path) -> None:
    """No section of ours; the built-in library's own defaults mean nothing by themselves and cause no warning."""
    (tmp_path / 'settings.ini').write_text(OLD)
    host = unstarted(tmp_path / 'settings.ini')
    assert host.algorithm == SUPERVISED
    found = config_of(host, 'supervised')
    assert (found.model.gridsize, found.training.batch_size, found.training.nepochs) == (1, 32, 12)
    assert found.execution == Config().execution.model_copy(update={'progress': False})
    assert found.model == Config().merged({'model': {'model_type': 'supervised'}}).model
    assert config_of(host, 'pinn').model.gridsize == 2  # which a supervised training has no use for
    assert found.inference.model_path is None and not host.library.reconstructors[0].is_model_loaded()


@pytest.mark.parametrize(
    ('name', 'value', 'choices'),
    [
        ('PtychoPINNPlugin.Backend', 'JAX', ['PyTorch', 'TensorFlow']),
        ('PtychoPINNModel.AmpActivation', 'tanh', ['sigmoid', 'swish', 'softplus', 'relu']),
        ('PtychoPINNPlugin.ProbePower', 'relative', ['auto', 'absolute', 'from_counts']),
        ('PtychoPINNPlugin.Precision', '8', ['32']),
        ('PtychoPINNPlugin.Scheduler', 'none of these', ['cosine']),
        ('PtychoPINNPlugin.LoggerBackend', 'wandb', ['csv', 'tensorboard', 'mlflow', 'none']),
    ],
)
def test_an_unknown_value_names_section_key_and_choices(
    host: Host, case: Case, tmp_path: Path, name: str, value: str, choices: list[str]
) -> None:
    """Where it is used, and in the Processing panel; it was loaded from a file."""
    section, key = name.split('.')
    (tmp_path / 'settings.ini').write_text(f'[{section}]\n{key} = {value}\n')
    other = unstarted(tmp_path / 'settings.ini')
    with pytest.raises(ConfigError) as raised:
        next(iter(other.library.reconstructors[0].train(tmp_path, tmp_path)))
    message = str(raised.value)
    assert f'[{section}] {key}' in message and repr(value) in message, message
    assert all(choice in message for choice in choices) and '\n' not in message
    assert any('[ERROR]' in line and message in line for line in other.log())


@pytest.mark.parametrize(
    ('key', 'text', 'kind'),
    [('Seed', 'many', 'a whole number'), ('RefinePasses', '1.5', 'a whole number'), ('LearningRate', 'fast', 'number')],
)
def test_text_that_is_no_number_does_not_keep_ptychodus_from_starting(
    tmp_path: Path, key: str, text: str, kind: str
) -> None:
    """It is told at once, and is an error where it is used, until it is mended."""
    (tmp_path / 'settings.ini').write_text(f'[{PLUGIN_SECTION}]\n{key} = {text}\nAccumSteps = 3\n')
    host = unstarted(tmp_path / 'settings.ini')
    assert any(key in line and text in line and '[ERROR]' in line for line in host.log())
    with pytest.raises(ConfigError, match=rf'\[{PLUGIN_SECTION}\] {key} = .{text}.*{kind}'):
        config_of(host)
    assert host.get(f'{PLUGIN_SECTION}.AccumSteps') == 3
    host.model.settings_registry[PLUGIN_SECTION].parameters()[key].set_value_from_string('1')
    assert config_of(host).training.accum_steps == 3


@pytest.mark.parametrize('text', ['nan', 'inf', '-1'])
def test_a_number_out_of_range(tmp_path: Path, text: str) -> None:
    """It is brought into the range by the host, or is an error that names the setting; never used as it is."""
    (tmp_path / 'settings.ini').write_text(f'[{PLUGIN_SECTION}]\nLearningRate = {text}\n')
    host = unstarted(tmp_path / 'settings.ini')
    try:
        found = config_of(host).training.learning_rate
    except ConfigError as error:
        assert 'LearningRate' in str(error) or 'learning_rate' in str(error)
    else:
        assert 0 < found <= 1


# The model


def test_the_model_of_the_settings_is_opened_when_it_is_used(host: Host, model: Path, case: Case) -> None:
    pinn, supervised = host.library.reconstructors
    assert [pinn.is_model_loaded(), pinn.model] == [False, None]
    host.set(**{'PtychoPINNInference.ModelPath': model})
    assert pinn.is_model_loaded() and supervised.is_model_loaded()
    assert pinn.model is not None and 'N = 32' in str(pinn.model) and 'trained on demo' in str(pinn.model)
    assert 'PyTorch' in str(pinn.model) and 'pinn' in str(pinn.model) and '2 epochs' in str(pinn.model)
    host.set(**{'PtychoPINNInference.ModelPath': Path('/path/to/model.zip')})
    assert not pinn.is_model_loaded()


def test_a_model_of_the_settings_that_is_not_there(host: Host, case: Case, tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / 'absent.safetensors', 'absent.safetensors does not exist'),
        (Path('/path/to/model.zip'), 'No model'),
    ):
        host.set(**{'PtychoPINNInference.ModelPath': path})
        pinn = host.library.reconstructors[0]
        assert not pinn.is_model_loaded()
        with pytest.raises(ModelFileError, match=words):
            next(iter(pinn.reconstruct(case.input)))


def test_a_model_that_is_loaded_is_named_in_the_settings(host: Host, model: Path, tmp_path: Path) -> None:
    """Under any name; a broken one changes nothing."""
    known = tmp_path / 'wts.safetensors'
    shutil.copy(model, known)
    processing = host.model.processing_core.processing_api
    assert processing.get_model_file_extension(algorithm=PINN) == '.safetensors'
    processing.load_model_from_file(known, algorithm=PINN)
    host.model.run_tasks()
    pinn = host.library.reconstructors[0]
    assert host.get('PtychoPINNInference.ModelPath') == known and pinn.is_model_loaded()
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r'broken\.safetensors'):
        processing.load_model_from_file(broken)
    assert any('broken.safetensors' in line and '[ERROR]' in line for line in host.log())
    host.model.run_tasks()
    assert pinn.model is not None and pinn.model.path == known
    assert host.get('PtychoPINNInference.ModelPath') == known


def test_saving_copies_the_model_in_use(host: Host, model: Path, tmp_path: Path) -> None:
    pinn = host.library.reconstructors[0]
    with pytest.raises(ModelFileError, match='No model is loaded'):
        pinn.save_model(tmp_path / 'copy.zip')
    pinn.load_model_from_file(model)
    pinn.save_model(tmp_path / 'copy.zip')
    assert (tmp_path / 'copy.zip').read_bytes() == model.read_bytes()
    pinn.save_model(model)  # onto itself
    assert (tmp_path / 'copy.zip').read_bytes() == model.read_bytes()


def before_a_worker_starts(host: Host, tmp_path: Path) -> None:
    """From here on a job that comes as far as its scratch folder fails with OutputError."""
    host.set(**{'PtychoPINNPlugin.ScratchDir': str(tmp_path / 'absent')})


@pytest.mark.parametrize(
    ('changes', 'words'),
    [({'n': 64, 'positions': 9}, r'N = 32 .* has 64')],
)
def test_a_model_that_cannot_fit_is_refused_before_a_worker_starts(
    host: Host, model: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    before_a_worker_starts(host, tmp_path)
    other = small_case(**changes)
    host.set(**{'PtychoPINNInference.ModelPath': model})
    with pytest.raises(ModelFileError, match=words):
        next(iter(host.library.reconstructors[0].reconstruct(other.input)))
    assert any('[ERROR]' in line for line in host.log())


@pytest.mark.parametrize(
    ('settings', 'scan', 'words'),
    [
        ({'PtychoPINNModel.GridSize': 2}, {}, ['gridsize 1', 'say 2']),
        ({'PtychoPINNPlugin.ProbePower': 'from_counts'}, {}, ['Probe power', 'from_counts']),
        ({}, {'photons': 1e3}, ['counts on average', 'dose']),
        ({}, {'photons': 1e7}, ['counts on average', 'dose']),
        ({}, {'photons': 2e5}, None),
        ({}, {}, None),
    ],
)
def test_what_differs_from_the_training_is_told_before_a_worker_starts(
    host: Host, model: Path, tmp_path: Path, settings: dict[str, Any], scan: dict[str, Any], words: list[str] | None
) -> None:
    before_a_worker_starts(host, tmp_path)
    host.set(**settings, **{'PtychoPINNInference.ModelPath': model})
    other = small_case(**scan)
    pinn = host.library.reconstructors[0]
    with pytest.raises(PtychoPINNError, match='scratch space'):
        next(iter(pinn.reconstruct(other.input)))
    warnings = [line for line in host.log() if '[WARNING]' in line]
    assert len(warnings) == (words is not None)
    assert words is None or all(word in warnings[0] for word in words)
    opened = ModelFile.open(model)
    notices = opened.compare_training(HostScan.of(other.input), config_of(host))
    assert [say(notice.text) for notice in notices] == [line.partition(': ')[2] for line in warnings]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda probe: 30 * probe, 'power of the probe was absolute in the training and is from_counts here'),
        (np.abs, 'The probe differs from the one that the model was trained with'),
        (lambda probe: 1.1j * probe, None),
    ],
    ids=['power', 'shape', 'the same'],
)
def test_another_probe_is_told_before_a_worker_starts(
    host: Host, model: Path, case: Case, tmp_path: Path, change: Any, words: str | None
) -> None:
    before_a_worker_starts(host, tmp_path)
    host.set(**{'PtychoPINNInference.ModelPath': model})
    probes = case.product.probes
    other = ProbeSequence(change(probes.get_array()).astype(complex), None, probes.get_pixel_geometry())
    with pytest.raises(PtychoPINNError, match='scratch space'):
        next(iter(host.library.reconstructors[0].reconstruct(case.with_product(probes=other).input)))
    warnings = [line for line in host.log() if '[WARNING]' in line]
    assert len(warnings) == (words is not None) and (words is None or words in warnings[0])
