"""One run of a study: its scan, its training unless another run has made it, its reconstruction, its score.

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
from ...io.plain_json import write_json
from ...model_file.trained import own_versions
from ...physics.scoring.metrics import Comparison, default_margin
from ...training.folder import MODEL, can_resume
from ..processes import Cost
from ..steps import Steps, Truth, training_facts
from .description import Study, settings_of
from .grid import Run
from .records import DONE, FAILED, PICTURE, RECORD, UNSCORED, Values, finished, read
from .scans import Sample

Sections = Mapping[str, Mapping[str, Any]]
TRAINED = 'training.json'
ENDLESS = 1_000_000  # epochs
NO_OVERLAP = 0.0  # percent, at and below which spots know nothing of each other's phase


@dataclass(eq=False)
class Runner:
    """Does runs in `folder`; what trainings of this session have failed with is remembered, not tried again."""

    study: Study
    sample: Sample
    folder: Path
    steps: Steps
    failed: dict[str, PtychoPINNError] = field(default_factory=dict)

    def record(self, run: Run) -> Values | None:
        """What is known of a run that has been done or has failed."""
        return read(self.folder / 'runs' / run.name / RECORD)

    def do(self, run: Run) -> Values:
        """Do a run unless it is done; a failure is part of the record. Raises Interrupted when asked to stop."""
        known = self.record(run)
        if known is not None and finished(known):
            return known
        values: Values = {**run.factors(), 'status': FAILED, 'error': None}
        try:
            values |= self._measured(run)
        except Exception as error:  # whatever it is, the other runs go on
            if self.steps.should_stop():
                raise Interrupted('Stopped on request.') from error
            values['error'] = _sentence(error)
        write_json(self.folder / 'runs' / run.name / RECORD, values)
        return values

    def _measured(self, run: Run) -> Values:
        scan = self._scan(run.scan, self.sample.write, run)
        values: Values = {'step_px': self.sample.step(run), 'patterns': self.sample.patterns(run)}
        (command, *options), trained = self._method(run)
        out, truth = self.folder / 'runs' / run.name, self._truth(run, scan)
        line, what = [command, str(scan), *options], f'The reconstruction {run.name}'
        found = self.steps.reconstruct(f'reconstruct {run.name}', what, line, out, truth)
        values |= {key: found.metrics.get(key) for key in ('residual', 'refine_passes')}
        values |= trained | _cost(found.cost, '') | _reliability(found.metrics.get('reliability') or {})
        if found.image is None:
            return values | {'status': UNSCORED, 'error': f'There are no figures: {found.unscored}'}
        _keep(out / PICTURE, found.image)
        return values | {'status': DONE, **found.image.to_dict()}

    def _method(self, run: Run) -> tuple[list[str], Values]:
        """The command of the reconstruction and its options, and what is known of the training."""
        if run.backend is None:
            passes = [] if run.passes is None else ['--passes', str(run.passes)]
            return ['refine', *passes, '--seed', str(run.seed)], {'versions': _versions(own_versions())}
        model, trained = self._model(run)
        options = ['--model', str(model), '--backend', run.backend, '--config', str(self._settings(run))]
        return ['reconstruct', *options, *([] if run.passes is None else ['--passes', str(run.passes)])], trained

    def _truth(self, run: Run, scan: Path) -> Truth:
        side = int(self.sample.probe.shape[-1])
        return Truth(read_object(scan), default_margin(side), pistons=run.overlap <= NO_OVERLAP)

    # scans

    def _scan(self, name: str, write: Callable[[Path, Run], None], run: Run) -> Path:
        path = self.folder / 'scans' / f'{name}.npz'
        if not path.exists():
            self.steps.tell(f'simulate {name}')
            write(path, run)
        return path

    # trainings

    def _model(self, run: Run) -> tuple[Path, Values]:
        if run.model == 'pretrained':
            if self.study.pretrained is not None:
                return self.study.pretrained, _known(self.study.pretrained)
            return self._trained(run.pretraining, run, self._pretrain)
        return self._trained(run.training, run, self._train)

    def _trained(self, name: str, run: Run, train: Callable[[Run, Path], Cost]) -> tuple[Path, Values]:
        folder = self.folder / 'trainings' / name
        model = folder / MODEL
        known = read(folder / TRAINED)
        if known is None or not model.exists():
            if name in self.failed:
                raise self.failed[name]
            try:
                cost = train(run, folder)
                known = _cost(cost, 'train_') | _known(model)
            except PtychoPINNError as error:
                self.failed[name] = error
                raise
            write_json(folder / TRAINED, known)
        return model, known

    def _train(self, run: Run, folder: Path) -> Cost:
        scan = self._scan(run.scan, self.sample.write, run)
        if run.train_patterns is not None:
            scan = self._scan(run.training_scan, self.sample.write_for_training, run)
        begun = ['--resume'] if can_resume(folder) else ['--overwrite']
        command = ['train', str(scan), '--config', str(self._settings(run)), '--backend', str(run.backend), *begun]
        return self._command(command, folder)

    def _pretrain(self, run: Run, folder: Path) -> Cost:
        """By the clock: its epochs have no end."""
        scan = self._scan(run.scan, self.sample.write, run)
        begun = ['--resume'] if can_resume(folder) else ['--overwrite']
        settings = self._written(run.pretraining, [self._training(run, ENDLESS), *settings_of(self.study, run.model)])
        options = ['--probe', str(scan), '--photons', repr(run.dose), '--backend', str(run.backend), *begun]
        return self._command(['pretrain', *options, '--config', str(settings)], folder)

    def _command(self, command: list[str], folder: Path) -> Cost:
        return self.steps.run(f'train {folder.name}', f'The training {folder.name}', command, folder)

    # settings

    def _settings(self, run: Run) -> Path:
        """The settings of a run: the study's, and those that follow from the factors."""
        patterns = run.train_patterns or self.sample.patterns(run)
        layers = [self._training(run, max(1, round(self.study.patterns_seen / patterns)))]
        layers += settings_of(self.study, run.model)
        if run.gridsize is not None:
            layers.append({'model': {'gridsize': run.gridsize}, 'data': {'neighbor_count': run.gridsize**2 - 1}})
        return self._written(run.training, layers)

    def _training(self, run: Run, epochs: int) -> Sections:
        limit = self.study.max_cpu_seconds
        return {'training': {'nepochs': epochs, 'max_cpu_seconds': limit, 'seed': run.seed}}

    def _written(self, name: str, layers: Sequence[Sections]) -> Path:
        """Settings as a file for --config, later layers over earlier ones."""
        import yaml

        joined: dict[str, dict[str, Any]] = {}
        for section, fields in (item for layer in layers for item in layer.items()):
            joined.setdefault(section, {}).update(fields)
        path = self.folder / 'trainings' / f'{name}.yaml'
        with write_atomically(path) as temporary:
            temporary.write_text(yaml.safe_dump(joined))
        return path


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, PtychoPINNError) else f'Unexpected {type(error).__name__}: {error}'


def _reliability(reliability: Mapping[str, Any]) -> Values:
    """The numbers that say, without a truth, how far to trust a result."""
    return {f'reliability_{key}': value for key, value in reliability.items() if type(value) in (int, float)}


def _keep(path: Path, image: Comparison) -> None:
    with write_atomically(path) as temporary:
        np.savez(temporary, result=image.result.astype(np.complex64), truth=image.truth.astype(np.complex64))


def _cost(cost: Cost, prefix: str) -> Values:
    return {
        f'{prefix}cpu_seconds': cost.cpu_seconds,
        f'{prefix}wall_seconds': cost.wall_seconds,
        f'{prefix}peak_memory_mib': cost.peak_memory_mib,
    }


def _known(model: Path) -> Values:
    """What a model tells of its training."""
    facts = training_facts(model)
    return {key: value for key, value in facts.items() if key != 'device'} | {'versions': _versions(facts['versions'])}


def _versions(versions: Mapping[str, str]) -> str:
    return ', '.join(f'{name} {number}' for name, number in versions.items())
