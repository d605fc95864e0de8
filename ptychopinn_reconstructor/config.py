"""The five configuration models: what can be set, its unit, its range, and where else it is known by which name.

YAML files, Ptychodus INI settings and the command line all build a `Config`. Every field carries a description (its
docstring), the INI key under which Ptychodus users know it, and the model types it applies to; `field_table()` lists
them.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError

FORMAT_VERSION: Final = 1
# One map between the names that people see (INI, GUI) and those of the command line and the entry points.
BACKEND_NAMES = {'PyTorch': 'torch', 'TensorFlow': 'tensorflow'}
Applies = Literal['both', 'pinn', 'supervised']
PLUGIN_SECTION = 'PtychoPINNPlugin'


def _field(default: Any, *, ini: str | None = None, applies: Applies = 'both', **limits: Any) -> Any:
    """A field with its INI key and reach."""
    return Field(default, json_schema_extra={'ini': ini, 'applies': applies}, **limits)


class Section(BaseModel):
    """Base of the five: immutable, unknown keys refused, docstrings are descriptions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra='forbid', protected_namespaces=(), allow_inf_nan=False
    )


class ModelConfig(Section):
    """The network and the object it describes."""

    N: int | None = _field(None, ge=16)
    """Side of a diffraction pattern in pixels; a multiple of 16. None: that of the scan."""
    gridsize: int = _field(1, ini='PtychoPINNModel.GridSize', ge=1, le=8)
    """Patterns that must agree with each other: gridsize^2 in a region (see neighbor_count)."""
    n_filters_scale: float = _field(2, ini='PtychoPINNModel.NumFiltersScale', gt=0, le=16)
    """Width of the network: 2 gives channel widths (32, 48, 64), other values scale them in proportion."""
    model_type: Literal['pinn', 'supervised'] = 'pinn'
    """pinn learns from the likelihood of the patterns alone; supervised learns from the scan's object."""
    architecture: Literal['s2d_unet'] = 's2d_unet'
    """s2d_unet: residual U-Net on a space-to-depth grid."""
    amp_activation: Literal['sigmoid', 'swish', 'softplus', 'relu'] = _field(
        'sigmoid', ini='PtychoPINNModel.AmpActivation'
    )
    """Last function of the amplitude; each starts at an amplitude of 1. Only sigmoid is bounded, by amplitude_max."""
    amplitude_max: float = _field(2.0, gt=1, le=100)
    """Largest object amplitude that the sigmoid can reach (transmission; 1 = empty)."""
    object_big: bool = _field(True, ini='PtychoPINNModel.ObjectBig', applies='pinn')
    """True: the patterns of a region share one canvas, so that overlapping patches must agree. False: each alone."""
    probe_big: bool = False
    """True: patches of 3/4 N instead of N/2, for probes with tails."""
    probe_mask: bool = _field(False, ini='PtychoPINNModel.ProbeMask')
    """True: the probe is set to zero outside a circle of diameter N/2, its power held."""
    pad_object: bool = _field(True, ini='PtychoPINNModel.PadObject')
    """True: a patch covers the middle of its window, the rest is 1 (empty); False: it covers all N x N pixels."""
    probe_scale: float = _field(1.0, ini='PtychoPINNModel.ProbeScale', gt=0, le=100)
    """Factor on the probe's amplitude beyond probe_power; the object's amplitude is divided by it."""
    gaussian_smoothing_sigma: float = _field(0.0, ini='PtychoPINNModel.GaussianSmoothingSigma', ge=0, le=32)
    """Standard deviation in pixels of a Gaussian that smooths the network's patches; 0: none."""

    @property
    def block(self) -> int:
        """Patch pixels along one side of a cell of the network's grid, whose side is N/4."""
        return 4 if not self.pad_object else 3 if self.probe_big else 2

    @property
    def patch_size(self) -> int:
        """Side n of a patch in pixels: N/2, 3/4 N or N; N must be known."""
        assert self.N is not None
        return self.block * self.N // 4


class DataConfig(Section):
    """Which patterns are used, and in which unit they and the probe are."""

    train_data_file: Path | None = None
    """Scan to train on; the command line's SCAN arguments come first."""
    test_data_file: Path | None = None
    """Scan to validate on, instead of holding out a part of the training scan."""
    source: Literal['scans', 'procedural', 'mixed'] = 'scans'
    """scans: train on them; procedural: pretrain for their probe, on objects drawn on the fly; mixed: both in turns."""
    measurement_domain: Literal['auto', 'counts', 'amplitude'] = 'auto'
    """Unit of the patterns in a file: counts, their square root, or decided by a test that refuses doubtful cases."""
    probe_power: Literal['auto', 'absolute', 'from_counts'] = 'auto'
    """absolute trusts the probe's power (counts); from_counts rescales it so that mean abs(O)^2 = 1; auto decides."""
    nphotons: float | None = _field(None, ini='PtychoPINNTraining.NumPhotons', gt=0)
    """Mean photons per pattern, for patterns that hold no counts (normalized ones); None: taken as they are."""
    n_groups: int | None = _field(None, ge=1)
    """Regions an epoch; None: as many as see each pattern once on average."""
    n_subsample: int | None = _field(None, ge=2)
    """Train on so many randomly drawn patterns only; None: all."""
    neighbor_count: int = _field(7, ini='PtychoPINNInference.NumNearestNeighbors', ge=0, le=63)
    """Nearest neighbors of a seed: a region holds max(gridsize^2, neighbor_count + 1) patterns."""
    positions_provided: bool = _field(True, ini='PtychoPINNTraining.PositionsProvided', applies='pinn')
    """False: training does not use the scan positions, each pattern is learnt alone; reconstruction always does."""
    validation_fraction: float = _field(0.05, ge=0, lt=0.5)
    """Part of the patterns, contiguous in position, that is held out to choose the best epoch."""


class TrainingConfig(Section):
    """How the network is trained."""

    batch_size: int | None = _field(None, ini='PtychoPINNTraining.BatchSize', ge=1)
    """Patterns a step, rounded down to whole regions (at least one); None: about 65,000 detector pixels."""
    nepochs: int = _field(44, ini='PtychoPINNTraining.NumEpochs', ge=1)
    """Epochs; one sees about every training pattern once."""
    max_cpu_seconds: float | None = _field(None, gt=0)
    """End training cleanly after so much CPU time of the process, the learning-rate schedule scaled to it."""
    nll_weight: float = _field(1.0, ini='PtychoPINNTraining.NLLWeight', ge=0, applies='pinn')
    """Weight of the Poisson likelihood per pixel."""
    mae_weight: float = _field(0.0, ini='PtychoPINNTraining.MAEWeight', ge=0, applies='pinn')
    """Weight of the mean absolute error of the diffraction amplitude, in units of its root mean square."""
    realspace_mae_weight: float = _field(0.0, ini='PtychoPINNTraining.RealspaceMAEWeight', ge=0, applies='supervised')
    """Weight of the mean absolute error of the object where the probe lights it."""
    realspace_weight: float = _field(0.0, ini='PtychoPINNTraining.RealspaceWeight', ge=0)
    """Weight of the total variation of the object where the probe lights it: the larger, the flatter."""
    far_field_weight: float = _field(1.0, ge=0, applies='supervised')
    """Weight of the error of the complex far field beside that of the exit wave."""
    dose_range: float = _field(3.0, ge=1, le=1000)
    """Pretraining only: photons per pattern are drawn from the instrument's divided by this to those times this."""
    probe_trainable: bool = _field(False, ini='PtychoPINNTraining.ProbeTrainable', applies='pinn')
    """True: the probe is trained too, its power held, with a weak pull to where it began."""
    intensity_scale_trainable: bool = _field(False, ini='PtychoPINNTraining.IntensityScaleTrainable', applies='pinn')
    """True: a factor on the probe, confined to 5 %, is trained and folded into the saved probe."""
    refine_probe_first: int = _field(0, ge=0)
    """Passes of the engine over the first scan that improve its probe, for all scans with the same, before training."""
    refine_positions_first: int = _field(0, ge=0)
    """Passes of the engine over the first scan that improve its scan positions before training."""
    learning_rate: float = _field(2e-3, gt=0, le=1)
    """Largest learning rate of AdamW; of a training that starts from a model 5e-4 unless another is set."""
    scheduler: Literal['cosine', 'constant'] = 'cosine'
    """cosine: 8 % warm-up, then a cosine down to 2 %; constant: warm-up, then constant."""
    accum_steps: int = _field(1, ge=1)
    """Batches whose gradients are added up before a step."""
    gradient_clip_val: float = _field(1.0, ge=0)
    """Largest norm of the gradient; 0: not clipped."""
    seed: int = _field(0, ge=0)
    """Seed of the weights, the regions, the held-out part and the patterns drawn by n_subsample."""
    checkpoint_monitor_metric: Literal['val_loss', 'train_loss'] = 'val_loss'
    """What `best` and early stopping look at; train_loss is used where nothing is held out."""
    early_stop_patience: int | None = _field(None, ge=1)
    """Stop after so many epochs without improvement; None: train to the end."""
    output_dir: Path | None = None
    """Folder for checkpoints, metrics and the model; the command line's --output-dir comes first."""

    @model_validator(mode='after')
    def _need_a_loss(self) -> Self:
        if not self.nll_weight and not self.mae_weight:
            raise ValueError('nll_weight and mae_weight are both 0, so there is nothing to learn; set one above 0')
        return self


class InferenceConfig(Section):
    """How a trained network is turned into an object."""

    model_path: Path | None = _field(None, ini='PtychoPINNInference.ModelPath')
    """The model bundle (model.zip); the command line's --model comes first."""
    inference_batch_size: int | None = _field(None, ge=1)
    """Patterns a batch; does not change the result. None: 64, and fewer above N = 128 (about a million pixels)."""
    sync_neighbors: int = _field(24, ge=0, le=128)
    """Neighbors of a patch in the phase synchronization; 0: none, patches are averaged as they are."""
    wavefront: bool = True
    """True: the long-range phase follows from the slopes of all patterns, after stitching and after the last pass."""
    refine_passes: int | None = _field(None, ge=0, le=1000)
    """Refinement passes after stitching; None: 5, or 10 where light is scarce, 20 or 60 where spots overlap little."""
    refine_prior: float = _field(1.0, ge=0, le=100)
    """Strength of the refinement's prior, which takes back what only follows counting noise; 0: none."""
    refine_probe: bool = False
    """True: the refinement improves the probe too, its power and center held; 20 passes unless others are set."""
    refine_positions: bool = False
    """True: the refinement improves the scan positions too, by 5 pixels at most; 20 passes unless others are set."""
    split_frc: bool = False
    """True: two halves of the patterns are stitched and refined too, and their agreement (FRC) tells the resolution."""
    middle_trim: int | None = _field(None, ge=2, multiple_of=2)
    """Side in pixels of the middle of each patch that is stitched, an even number; None: the whole patch."""
    debug: bool = False
    """True: the patches before stitching are kept beside the result, in patches.h5."""


class ExecutionConfig(Section):
    """Where and how it runs; never changes the mathematics."""

    backend: Literal['torch', 'tensorflow'] | str = _field('torch', ini=f'{PLUGIN_SECTION}.Backend')
    """Backend by entry-point name: torch (PyTorch) or tensorflow (TensorFlow)."""
    device: str = _field('auto', ini=f'{PLUGIN_SECTION}.Device')
    """auto, cpu, cuda, cuda:1, mps, gpu:0 ...; one that is not there is an error."""
    num_workers: int = _field(0, ge=0)
    """Processes that prepare batches; 0: none besides the main one."""
    pin_memory: bool = False
    """True: batches are put in page-locked memory, for faster transfer to a GPU (PyTorch only)."""
    precision: Literal['32', '16-mixed', 'bf16-mixed'] = '32'
    """Number format of the network; the physics stays in single precision."""
    threads: int = _field(1, ge=1, le=256)
    """CPU threads of the network; more end sooner on an idle machine but cost 1.4 to 5 times the CPU time."""
    logger_backend: Literal['csv', 'tensorboard', 'mlflow', 'none'] = 'csv'
    """Where metrics go besides metrics.csv, which is always written unless this is none."""
    progress: bool = True
    """False: no progress bar."""


class Config(BaseModel):
    """Everything that can be set, with the version of its format."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra='forbid')

    format_version: Literal[1] = FORMAT_VERSION
    """Version of this layout; older ones are brought up by `migrate`."""
    model: ModelConfig = ModelConfig()
    """The network and the object it describes."""
    data: DataConfig = DataConfig()
    """Which patterns are used, and their unit."""
    training: TrainingConfig = TrainingConfig()
    """How the network is trained."""
    inference: InferenceConfig = InferenceConfig()
    """How a trained network is turned into an object."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where and how it runs."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode='json')

    def merged(self, overrides: Mapping[str, Mapping[str, Any]]) -> Config:
        """A copy with `overrides` (section -> field -> value) applied and checked; ConfigError when one is bad."""
        values = self.to_json()
        for section, fields in overrides.items():
            if section not in SECTIONS:
                raise ConfigError(f'There is no section {section!r}; choose one of {", ".join(SECTIONS)}.')
            if not isinstance(fields, Mapping):
                raise ConfigError(f'The section {section!r} is {fields!r}; it must hold settings as key: value.')
            values[section] |= fields
        return parse(values)


SECTIONS: dict[str, type[Section]] = {
    'model': ModelConfig,
    'data': DataConfig,
    'training': TrainingConfig,
    'inference': InferenceConfig,
    'execution': ExecutionConfig,
}

# Defaults of a training that starts from a model, where they differ from those of the fields.
FINE_TUNING: Final = {'training': {'learning_rate': 5e-4}}


class FieldInfo(NamedTuple):
    """One row of the table of all settings."""

    section: str
    name: str
    default: Any
    ini: str
    option: str
    applies: Applies
    description: str


def field_table() -> Iterator[FieldInfo]:
    """Every setting: YAML section and key, default, INI Section.Key, option, model types, meaning."""
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            camel = ''.join(part[:1].upper() + part[1:] for part in name.split('_'))
            ini = extra.get('ini') or f'{PLUGIN_SECTION}.{camel}'
            option = {
                'nepochs': '--epochs',
                'refine_passes': '--refine',
                'model_path': '--model',
                'debug': '--keep-patches',
            }.get(name, '--' + name.replace('_', '-').lower())
            applies: Any = extra.get('applies', 'both')
            description = _docstrings()[model.__name__, name]
            yield FieldInfo(section, name, field.default, str(ini), option, applies, description)


@functools.cache
def _docstrings() -> dict[tuple[str, str], str]:
    """The text below each field in this file, by class and field.

    pydantic's own use_attribute_docstrings looks for this file among all modules: 0.1 s in a process like Ptychodus's.
    """
    found: dict[tuple[str, str], str] = {}
    classes = [node for node in ast.parse(Path(__file__).read_text('utf-8')).body if isinstance(node, ast.ClassDef)]
    for model in classes:
        for field, text in pairwise(model.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str() as words)):
                    found[model.name, name] = inspect.cleandoc(words)
    return found


def section_of(key: str) -> tuple[str, str]:
    """Section and field of 'section.field' or of a field's name alone; ConfigError names the nearest ones."""
    rows = list(field_table())
    for row in rows:
        if key in (row.name, f'{row.section}.{row.name}'):
            return row.section, row.name
    import difflib

    near = difflib.get_close_matches(key.rpartition('.')[2], [row.name for row in rows], n=3)
    hint = f'did you mean {", ".join(near)}' if near else 'see ptychopinn train --help for the names'
    raise ConfigError(f'There is no setting {key!r}; {hint}.')


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the plain values of an older format to this one; ConfigError when the version is unknown."""
    if not isinstance(values, Mapping):
        raise ConfigError(
            f'The configuration is {values!r}; it must hold sections of settings, as --print-config shows.'
        )
    version = values.get('format_version', FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ConfigError(
            f'The configuration has format_version {version!r} but this version reads {FORMAT_VERSION}; '
            'update ptychopinn-reconstructor.'
        )
    return dict(values)


def parse(values: Mapping[str, Any]) -> Config:
    """A Config from plain values of any known version; ConfigError (one sentence) when something is wrong."""
    try:
        return Config.model_validate(migrate(values))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = '.'.join(str(part) for part in first['loc'] if not str(part).startswith(('literal', 'constrained')))
    if first['type'] == 'extra_forbidden':
        return f'There is no setting {key!r}; see ptychopinn train --help for the names.'
    message = first['msg'].removeprefix('Value error, ')
    value = '' if first['type'] == 'value_error' else f' (got {first["input"]!r})'
    return f'Setting {key}: {message}{value}.'
