"""Configuration models (contracts section 3; SETTINGS, TYPES, BACKENDNAMES)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from ptychopinn_reconstructor import config as configuration
from ptychopinn_reconstructor.config import (
    SECTIONS,
    Config,
    RefinementConfig,
    applicable,
    field_table,
    migrate,
    parse,
    section_of,
)
from ptychopinn_reconstructor.errors import ConfigError

ROWS = list(field_table())
# What the unmodified host knows (specs/ptychodus_api_spec.md); everything else goes into our own INI section, and
# so does probe_big: the host's ProbeBig is true in every file that it has saved, which can be no wish.
HOST_KEYS = {
    'PtychoPINNModel': 'GridSize NumFiltersScale AmpActivation ObjectBig ProbeMask PadObject ProbeScale '
    'GaussianSmoothingSigma',
    'PtychoPINNTraining': 'NumPhotons BatchSize NumEpochs MAEWeight NLLWeight RealspaceMAEWeight RealspaceWeight '
    'PositionsProvided ProbeTrainable IntensityScaleTrainable',
    'PtychoPINNInference': 'ModelPath NumNearestNeighbors',
}
CONTRACT_FIELDS = [
    'N', 'gridsize', 'n_filters_scale', 'model_type', 'architecture', 'amp_activation', 'object_big', 'probe_big',
    'probe_mask', 'pad_object', 'probe_scale', 'gaussian_smoothing_sigma', 'train_data_file', 'test_data_file',
    'batch_size', 'nepochs', 'mae_weight', 'nll_weight', 'realspace_mae_weight', 'realspace_weight', 'nphotons',
    'n_groups', 'n_subsample', 'neighbor_count', 'positions_provided', 'probe_trainable',
    'intensity_scale_trainable', 'output_dir', 'model_path', 'debug', 'learning_rate', 'scheduler', 'accum_steps',
    'gradient_clip_val', 'num_workers', 'pin_memory', 'checkpoint_monitor_metric', 'early_stop_patience',
    'logger_backend', 'inference_batch_size', 'middle_trim',
]  # fmt: skip


def test_every_field_of_the_contract_is_there() -> None:
    """SETTINGS: the fields of the Ptychodus interface keep their names; five that nobody needs are not taken over."""
    assert set(CONTRACT_FIELDS) <= {row.name for row in ROWS}


@pytest.mark.parametrize('row', ROWS, ids=lambda row: f'{row.section}.{row.name}')
def test_every_field_is_described(row: configuration.FieldInfo) -> None:
    """SETTINGS: a sentence a user can read, an INI key, an option, and to which model type it applies."""
    assert len(row.description) > 15
    assert row.description.endswith('.')
    assert row.ini.count('.') == 1
    assert row.option.startswith('--')
    assert row.applies in ('both', 'pinn', 'supervised')


def test_names_keys_and_options_are_unique() -> None:
    """SETTINGS: one field, one name, one INI key, one option."""
    for column in ('name', 'ini', 'option'):
        counts = Counter(getattr(row, column) for row in ROWS)
        assert [value for value, count in counts.items() if count > 1] == []


def test_ini_keys_are_those_of_the_host_or_in_our_own_section() -> None:
    """SETTINGS: the host's keys are used by their exact names; no key of ours is put into the host's sections."""
    host = {f'{section}.{key}' for section, keys in HOST_KEYS.items() for key in keys.split()}
    ours = {row.ini for row in ROWS if row.ini.startswith('PtychoPINNPlugin.')}
    assert {row.ini for row in ROWS} == host | ours
    assert 'PtychoPINNPlugin.LearningRate' in ours


def test_defaults_are_those_of_the_method() -> None:
    """One set of defaults."""
    config = Config()
    assert (config.model.gridsize, config.data.neighbor_count) == (1, 7)
    assert config.model.amplitude_max == 2.0
    assert config.training.learning_rate == 2e-3
    assert config.data.validation_fraction == 0.05
    assert 16 <= config.inference.sync_neighbors <= 32
    assert config.refinement == RefinementConfig() and config.refinement.passes is None
    assert config.execution.logger_backend == 'csv'


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'model': {'gridsise': 2}}, r"no setting 'model.gridsise'"),
        ({'modell': {}}, r"no setting 'modell'"),
        ({'model': {'gridsize': 0}}, r'model.gridsize.*greater than or equal to 1.*got 0'),
        (
            {'model': {'amp_activation': 'gelu'}},
            r"amp_activation.*'sigmoid', 'swish', 'softplus' or 'relu'.*got 'gelu'",
        ),
        ({'model': {'model_type': 'unsupervised'}}, r"model_type.*'pinn' or 'supervised'"),
        ({'training': {'learning_rate': float('nan')}}, r'learning_rate.*finite'),
        ({'training': {'max_cpu_seconds': float('inf')}}, r'max_cpu_seconds.*finite'),
        ({'training': {'nepochs': 2.5}}, r'nepochs.*got 2.5'),
        ({'execution': {'precision': '64'}}, r"precision.*got '64'"),
        ({'data': {'probe_power': 'guess'}}, r'probe_power'),
        ({'model': 3}, r'model.*got 3'),
        ({'format_version': 2}, r'format_version 2 .* reads 1'),
        ({'format_version': 'new'}, r"format_version 'new'"),
        ([], r'configuration is \[\]'),
        (None, r'configuration is None'),
    ],
)
def test_bad_values_are_one_sentence(values: Any, sentence: str) -> None:
    """Contracts section 5: what is wrong, with the value seen; no traceback of the library in it."""
    with pytest.raises(ConfigError, match=sentence) as error:
        parse(values)
    assert '\n' not in str(error.value)
    assert 'pydantic' not in str(error.value)


def test_a_bad_section_is_refused_when_merging() -> None:
    """Contracts section 5."""
    with pytest.raises(ConfigError, match=r"no section 'modle'; choose one of model, data, training"):
        Config().merged({'modle': {'N': 64}})
    with pytest.raises(ConfigError, match=r"section 'model' is None"):
        Config().merged({'model': None})  # type: ignore[dict-item]


def test_configurations_are_frozen() -> None:
    """Contracts section 3: neither a section nor the whole can be changed in place."""
    config = Config()
    with pytest.raises(ValidationError, match='frozen'):
        config.model.N = 64
    with pytest.raises(ValidationError, match='frozen'):
        config.model = configuration.ModelConfig(N=64)
    with pytest.raises(ValidationError, match='Extra inputs'):
        configuration.DataConfig(photons=3)  # type: ignore[call-arg]


CHANGED: dict[str, dict[str, Any]] = {
    'model': {'N': 128, 'gridsize': 2, 'amplitude_max': 1.5},
    'data': {'train_data_file': Path('some folder/scan.npz'), 'n_groups': 12, 'probe_power': 'absolute'},
    'training': {'max_cpu_seconds': 12.5, 'early_stop_patience': 4},
    'refinement': {'passes': 2},
    'execution': {'device': 'cuda:1', 'precision': 'bf16-mixed', 'progress': False},
}


@pytest.mark.parametrize('overrides', [{}, CHANGED])
def test_round_trip_through_json_and_yaml(overrides: dict[str, dict[str, Any]]) -> None:
    """CHECKPOINT: plain types only; what is written is what is read."""
    config = Config().merged(overrides)
    for values in (
        json.loads(json.dumps(config.to_json(), allow_nan=False)),
        yaml.safe_load(yaml.safe_dump(config.to_json())),
    ):
        assert parse(values) == config
    assert Config(**config.to_json()) == config


def test_merging_goes_field_by_field_and_the_later_wins() -> None:
    """Contracts section 3: command line > file > default."""
    file = {'training': {'nepochs': 7, 'seed': 3}, 'model': {'gridsize': 2}}
    line = {'training': {'nepochs': 9}, 'data': {}}
    merged = Config().merged(file).merged(line)
    assert (merged.training.nepochs, merged.training.seed, merged.model.gridsize) == (9, 3, 2)
    assert merged.training.learning_rate == Config().training.learning_rate
    assert Config().training.nepochs not in (7, 9)  # neither has changed the defaults


@pytest.mark.parametrize('value', [64, '64', np.int64(64), np.uint8(64), 64.0, np.float32(64)])
def test_numpy_scalars_and_text_are_accepted_as_numbers(value: Any) -> None:
    """TYPES."""
    found = parse({'model': {'N': value}, 'training': {'learning_rate': np.float32(0.5), 'probe_trainable': np.True_}})
    assert found.model.N == 64
    assert type(found.model.N) is int
    assert (found.training.learning_rate, found.training.probe_trainable) == (0.5, True)


@pytest.mark.parametrize('path', ['out', Path('out')])
def test_text_and_paths_are_accepted_as_paths(path: str | Path) -> None:
    """TYPES."""
    assert parse({'training': {'output_dir': path}}).training.output_dir == Path('out')


def test_automatic_is_one_word() -> None:
    """None in Python and JSON; people write auto, and only where it means something."""
    rows = [row for row in ROWS if row.auto]
    assert {row.name for row in rows} >= {'N', 'batch_size', 'passes', 'prior'}
    for row in rows:
        assert row.default is None and 'auto: ' in row.description
        assert Config().merged({row.section: {row.name: 'auto'}}) == Config()
    assert not [row.name for row in ROWS if 'auto: ' in row.description and not row.auto]
    with pytest.raises(ConfigError, match=r"n_subsample.*got 'auto'"):
        Config().merged({'data': {'n_subsample': 'auto'}})


# Which settings mean nothing where; stated here once more, by name.
LIKELIHOOD = {
    'gridsize', 'object_big', 'neighbor_count', 'positions_provided', 'nll_weight', 'mae_weight', 'probe_trainable',
    'intensity_scale_trainable',
}  # fmt: skip
LABELS = {'realspace_mae_weight', 'far_field_weight'}
SCANS = {'test_data_file', 'n_subsample', 'validation_fraction', 'refine_probe_first', 'refine_positions_first'}


def void(model_type: str, source: str) -> set[str]:
    """The settings without an effect; simulated patterns have labels, and nothing else is pretrained on."""
    names = {'dose_range'} if source == 'scans' else set()
    names |= LIKELIHOOD if model_type == 'supervised' or source == 'procedural' else set()
    names |= LABELS if model_type == 'pinn' and source == 'scans' else set()
    return names | (SCANS if source == 'procedural' else set())


def another(row: configuration.FieldInfo) -> Any:
    """A valid value that is not the default."""
    if isinstance(row.default, bool):
        return not row.default
    if row.default is None:
        return 'other.npz' if row.name.endswith('_file') else 2
    return row.default / 2 or 0.5 if isinstance(row.default, float) else row.default + 1


@pytest.mark.parametrize('source', ['scans', 'procedural', 'mixed'])
@pytest.mark.parametrize('model_type', ['pinn', 'supervised'])
def test_a_setting_applies_or_is_refused(model_type: str, source: str) -> None:
    """S10: by one sentence that names field, value, reason and remedy; what is left out for it can be parsed."""
    kind = {'model': {'model_type': model_type}, 'data': {'source': source}}
    assert Config().merged(kind).to_json() == parse(Config().merged(kind).to_json()).to_json()
    rows = [row for row in ROWS if row.name in LIKELIHOOD | LABELS | SCANS | {'dose_range'}]
    assert {row.name for row in ROWS if not row.has_effect(model_type, source)} == void(model_type, source)
    for row in rows:
        setting = {row.section: {row.name: another(row)}}
        if row.name not in void(model_type, source):
            assert getattr(getattr(Config().merged(kind, setting), row.section), row.name) != row.default
            continue
        with pytest.raises(ConfigError, match=rf'^Setting {row.section}.{row.name} = ') as error:
            Config().merged(kind, setting)
        for part in (str(another(row)), ' has no effect: it is for ', f'leave it at its default, {row.default!r}.'):
            assert part in str(error.value) and '\n' not in str(error.value)
        assert Config().merged(kind, applicable(setting, model_type, source)) == Config().merged(kind)


def test_there_must_be_something_to_learn() -> None:
    """Where the likelihood counts; a supervised training has no use for its weights at all."""
    nothing = {'training': {'nll_weight': 0.0}}
    with pytest.raises(ConfigError, match=r'nll_weight and mae_weight are both 0, so there is nothing to learn'):
        Config().merged(nothing)
    assert Config().merged({'training': {'nll_weight': 0.0, 'mae_weight': 1.0}}).training.mae_weight == 1
    with pytest.raises(ConfigError, match=r'nll_weight = 0.0 has no effect'):
        Config().merged(nothing, {'model': {'model_type': 'supervised'}})


def test_only_the_whole_is_checked() -> None:
    """Contracts section 3: a file may hold what the command line makes possible."""
    file = {'training': {'far_field_weight': 0.5}}
    assert Config().merged(file, {'model': {'model_type': 'supervised'}}).training.far_field_weight == 0.5
    with pytest.raises(ConfigError, match='far_field_weight'):
        Config().merged(file)


def test_settings_are_found_by_name() -> None:
    """SETTINGS: alone or with their section; a wrong name gets the nearest ones."""
    assert section_of('nepochs') == section_of('training.nepochs') == ('training', 'nepochs')
    assert all(section_of(row.name) == (row.section, row.name) for row in ROWS)
    with pytest.raises(ConfigError, match=r"no setting 'nepoch'; did you mean nepochs"):
        section_of('nepoch')
    with pytest.raises(ConfigError, match=r"no setting 'model.nepochs'; did you mean nepochs"):
        section_of('model.nepochs')
    with pytest.raises(ConfigError, match=r"'xyzzy'; see ptychopinn train --help"):
        section_of('xyzzy')


def test_migrating_the_present_format_changes_nothing() -> None:
    """Contracts section 3: one format_version, one migrate()."""
    values = {'format_version': 1, 'model': {'N': 64}}
    assert migrate(values) == values
    assert migrate({'model': {}}) == {'model': {}}


def test_any_backend_and_architecture_can_be_named() -> None:
    """Which there are is known where backends are found, not here."""
    config = Config().merged({'execution': {'backend': 'mine'}, 'model': {'architecture': 'its own'}})
    assert (config.execution.backend, config.model.architecture) == ('mine', 'its own')
    assert Config().execution.backend == 'torch'


def test_sections_are_the_six_models() -> None:
    """Contracts section 3."""
    assert list(SECTIONS) == ['model', 'data', 'training', 'inference', 'refinement', 'execution']
    assert set(Config.model_fields) == {'format_version', *SECTIONS}


def test_importing_the_configuration_loads_pydantic_and_the_standard_library_only() -> None:
    """Contracts section 3, in a new process: compared with what pydantic itself brings."""
    script = """if True:
        import json, sys
        import pydantic
        pydantic.BaseModel
        pydantic.Field, pydantic.ConfigDict, pydantic.ValidationError, pydantic.model_validator
        class Model(pydantic.BaseModel):
            x: int = 1
        before = set(sys.modules)
        import ptychopinn_reconstructor.config
        print(json.dumps(sorted(name.partition('.')[0] for name in set(sys.modules) - before)))
    """
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True, timeout=300)
    foreign = set(json.loads(done.stdout)) - sys.stdlib_module_names - {'pydantic', 'pydantic_core'}
    assert foreign == {'ptychopinn_reconstructor'}
