"""One run of a study: simulate its scan, train unless another run has, reconstruct, and score the object.

Trainings and reconstructions are commands of ours, each in a process of its own: one that crashes takes nothing along,
and time and memory are its own. What a stopped or killed study leaves is complete or is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import Interrupted, PtychoPINNError
from ...io import read_object
from ...io.atomic import write_atomically
from ...io.locks import FolderLock
from ...io.plain_json import write_json
from ...model_file.trained import collect_versions
from ...physics.scoring.metrics import Comparison, default_margin
from ...training.folder import MODEL, can_resume
from ..processes import Cost
from ..steps import Steps, Truth, summarize_model
from .description import Study, layer_settings
from .grid import Run
from .records import DONE, FAILED, PICTURE, RECORD, UNSCORED, Values, is_finished, read_record
from .scans import Sample

Sections = Mapping[str, Mapping[str, Any]]
TRAINED, CLAIM = 'training.json', '.claim.lock'
ENDLESS = 1_000_000  # epochs
NO_OVERLAP = 0.0  # percent, at and below which spots know nothing of each other's phase


@dataclass(eq=False)
class Runner:
    """Executes runs in `folder`; a training that failed in this session is not tried again."""

    study: Study
    sample: Sample
    folder: Path
    steps: Steps
    failed: dict[str, PtychoPINNError] = field(default_factory=dict)

    def read_record(self, run: Run) -> Values | None:
        """Record of a run that is complete or has failed; None for others."""
        return read_record(self.folder / 'runs' / run.name / RECORD)

    def execute(self, run: Run) -> Values:
        """Record of a run, executed unless complete; failures are recorded.

        Raises Interrupted when asked to stop, FolderInUseError where another process executes it.
        """
        with FolderLock(self.folder / 'runs' / run.name, f'run {run.name}'):
            known = self.read_record(run)
            return known if known is not None and is_finished(known) else self._execute(run)

    def _execute(self, run: Run) -> Values:
        record = self.folder / 'runs' / run.name / RECORD
        record.unlink(missing_ok=True)  # of a failure that may not be told again
        values: Values = {**run.factors(), 'status': FAILED, 'error': None}
        try:
            values |= self._score(run)
        except Exception as error:  # whatever it is, the other runs go on
            if self.steps.should_stop():
                raise Interrupted('Stopped on request.') from error
            values['error'] = _format_error(error)
        write_json(record, values)
        return values

    def _score(self, run: Run) -> Values:
        scan = self._simulate_scan(run.scan, self.sample.write, run)
        values: Values = {'step_px': self.sample.step(run), 'patterns': self.sample.patterns(run)}
        (command, *options), trained = self._build_command(run)
        out, truth = self.folder / 'runs' / run.name, self._read_truth(run, scan)
        line, what = [command, str(scan), *options], f'The reconstruction {run.name}'
        result = self.steps.reconstruct(f'reconstruct {run.name}', what, line, out, truth)
        values |= {key: result.metrics.get(key) for key in ('residual', 'refine_passes')}
        values |= (
            trained | _cost_columns(result.cost, '') | _select_reliability(result.metrics.get('reliability') or {})
        )
        if result.image is None:
            return values | {'status': UNSCORED, 'error': f'There are no figures: {result.unscored}'}
        _save_objects(out / PICTURE, result.image)
        return values | {'status': DONE, **result.image.to_dict()}

    def _build_command(self, run: Run) -> tuple[list[str], Values]:
        """Command line of the reconstruction, and the columns that describe the training."""
        if run.backend is None:
            passes = [] if run.passes is None else ['--passes', str(run.passes)]
            return ['refine', *passes, '--seed', str(run.seed)], {'versions': _format_versions(collect_versions())}
        model, trained = self._find_model(run)
        options = ['--model', str(model), '--backend', run.backend, '--config', str(self._write_settings(run))]
        return ['reconstruct', *options, *([] if run.passes is None else ['--passes', str(run.passes)])], trained

    def _read_truth(self, run: Run, scan: Path) -> Truth:
        side = int(self.sample.probe.shape[-1])
        return Truth(read_object(scan), default_margin(side), pistons=run.overlap <= NO_OVERLAP)

    # scans

    def _simulate_scan(self, name: str, write: Callable[[Path, Run], None], run: Run) -> Path:
        path = self.folder / 'scans' / f'{name}.npz'
        if not path.exists():
            self.steps.report_stage(f'simulate {name}')
            write(path, run)
        return path

    # trainings

    def _find_model(self, run: Run) -> tuple[Path, Values]:
        if run.model == 'pretrained':
            if self.study.pretrained is not None:
                return self.study.pretrained, _model_columns(self.study.pretrained)
            return self._train_once(run.pretraining, run, self._pretrain)
        return self._train_once(run.training, run, self._train)

    def _train_once(self, name: str, run: Run, train: Callable[[Run, Path], Cost]) -> tuple[Path, Values]:
        if name in self.failed:
            raise self.failed[name]
        folder = self.folder / 'trainings' / name
        # The training itself takes the folder's own lock: this one lets runs of other processes wait for their model.
        with FolderLock(folder, f'training of {run.name}', name=CLAIM, should_stop=self.steps.should_stop):
            known = read_record(folder / TRAINED)
            if known is None or not (folder / MODEL).exists():
                try:
                    known = _cost_columns(train(run, folder), 'train_') | _model_columns(folder / MODEL)
                except PtychoPINNError as error:
                    self.failed[name] = error
                    raise
                write_json(folder / TRAINED, known)
        return folder / MODEL, known

    def _train(self, run: Run, folder: Path) -> Cost:
        scan = self._simulate_scan(run.scan, self.sample.write, run)
        if run.train_patterns is not None:
            scan = self._simulate_scan(run.training_scan, self.sample.write_training_scan, run)
        mode = ['--resume'] if can_resume(folder) else ['--overwrite']
        command = ['train', str(scan), '--config', str(self._write_settings(run)), '--backend', str(run.backend), *mode]
        return self._run_training(command, folder)

    def _pretrain(self, run: Run, folder: Path) -> Cost:
        """Cost of a pretraining, which ends by CPU time and not by the number of epochs."""
        scan = self._simulate_scan(run.scan, self.sample.write, run)
        mode = ['--resume'] if can_resume(folder) else ['--overwrite']
        settings = self._write_layers(
            run.pretraining, [self._training_section(run, ENDLESS), *layer_settings(self.study, run.model)]
        )
        options = ['--probe', str(scan), '--photons', repr(run.dose), '--backend', str(run.backend), *mode]
        return self._run_training(['pretrain', *options, '--config', str(settings)], folder)

    def _run_training(self, command: list[str], folder: Path) -> Cost:
        return self.steps.run(f'train {folder.name}', f'The training {folder.name}', command, folder)

    # settings

    def _write_settings(self, run: Run) -> Path:
        """Path of the settings of a run: the study's, and those that follow from its factors."""
        patterns = run.train_patterns or self.sample.patterns(run)
        layers = [self._training_section(run, max(1, round(self.study.patterns_seen / patterns)))]
        layers += layer_settings(self.study, run.model)
        if run.gridsize is not None:
            layers.append({'model': {'gridsize': run.gridsize}, 'data': {'neighbor_count': run.gridsize**2 - 1}})
        return self._write_layers(run.training, layers)

    def _training_section(self, run: Run, epochs: int) -> Sections:
        limit = self.study.max_cpu_seconds
        return {'training': {'nepochs': epochs, 'max_cpu_seconds': limit, 'seed': run.seed}}

    def _write_layers(self, name: str, layers: Sequence[Sections]) -> Path:
        """Path of a YAML file for --config, later layers over earlier ones."""
        import yaml

        joined: dict[str, dict[str, Any]] = {}
        for section, fields in (item for layer in layers for item in layer.items()):
            joined.setdefault(section, {}).update(fields)
        path = self.folder / 'trainings' / f'{name}.yaml'
        with write_atomically(path) as temporary:
            temporary.write_text(yaml.safe_dump(joined))
        return path


def _format_error(error: Exception) -> str:
    return str(error) if isinstance(error, PtychoPINNError) else f'Unexpected {type(error).__name__}: {error}'


def _select_reliability(reliability: Mapping[str, Any]) -> Values:
    """Numeric columns of the reliability figures, which need no truth."""
    return {f'reliability_{key}': value for key, value in reliability.items() if type(value) in (int, float)}


def _save_objects(path: Path, image: Comparison) -> None:
    with write_atomically(path) as temporary:
        np.savez(temporary, result=image.result.astype(np.complex64), truth=image.truth.astype(np.complex64))


def _cost_columns(cost: Cost, prefix: str) -> Values:
    return {
        f'{prefix}cpu_seconds': cost.cpu_seconds,
        f'{prefix}wall_seconds': cost.wall_seconds,
        f'{prefix}peak_memory_mib': cost.peak_memory_mib,
    }


def _model_columns(model: Path) -> Values:
    """Columns that describe the training of a model."""
    facts = summarize_model(model)
    return {key: value for key, value in facts.items() if key != 'device'} | {
        'versions': _format_versions(facts['versions'])
    }


def _format_versions(versions: Mapping[str, str]) -> str:
    return ', '.join(f'{name} {number}' for name, number in versions.items())
