"""Reconstructor for Ptychodus, whose jobs run in worker processes (specs/ptychodus_api_spec.md)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, TrainableReconstructor, TrainOutput

from ..config import Config
from ..errors import ModelFileError, ScanError
from ..events import Notice
from ..io.atomic import write_atomically
from ..worker.messages import Preview, ReconstructDone
from ..worker.requests import ReconstructRequest
from .job_status import describe_preview
from .jobs import Jobs, hand_over
from .last_reliability import ReliabilityRecord
from .messages import WHOLE, format_result, make_preview_output, make_result_output
from .model_file import MODEL_FILTER, MODEL_SUFFIX, ModelFile
from .model_in_use import ModelInUse
from .releases import export_training_data
from .scans import HostScan
from .training import Training
from .wording import say

if TYPE_CHECKING:
    from .session import Session
    from .settings import PluginSettings


class PtychoPINNReconstructor(TrainableReconstructor):
    """Reconstructor of one model type ('pinn' or 'supervised'): train, open and save models, reconstruct.

    Raises PtychoPINNError (errors.py) in one sentence, which also goes to the library's logger.
    """

    def __init__(
        self, name: str, model_type: str, settings: PluginSettings, session: Session, logger: logging.Logger
    ) -> None:
        super().__init__()
        self._name, self.model_type = name, model_type
        self.settings, self.session, self.logger = settings, session, logger
        self._models = ModelInUse(settings, session, logger)
        self._jobs = Jobs(settings, session, logger)
        self._training = Training(settings, session, logger, self._models, self._jobs)

    @property
    def name(self) -> str:
        """Name in the key of the algorithm."""
        return self._name

    def get_progress_goal(self) -> int:
        """Epochs of a training, percent of a reconstruction."""
        return int(self.settings['nepochs'].get_value()) if self.session.selected is not None else WHOLE

    # Models

    @property
    def model(self) -> ModelFile | None:
        """Opened model that Infer would use: the one loaded or trained last, else that of the settings."""
        return self._models.get()

    def is_model_loaded(self) -> bool:
        """Whether Infer can begin: there is a model, which is not opened, or none is needed."""
        return self._starts_from_object() or self._models.is_available()

    def get_model_file_filter(self) -> str:
        """For the host's file dialog."""
        return MODEL_FILTER

    def get_model_file_extension(self) -> str:
        """File name extension of a model, with its dot."""
        return MODEL_SUFFIX

    def load_model_from_file(self, file_path: Path) -> None:
        """Open and check a model, and use it from now on; ModelFileError if it is not one of ours."""
        with self._jobs.log_errors():
            self._models.use(Path(file_path))

    def save_model(self, file_path: Path) -> None:
        """Copy the model in use to a file; ModelFileError when there is none."""
        with self._jobs.log_errors():
            self._models.save(Path(file_path))

    # Training data

    def get_training_data_file_filter(self) -> str:
        """For the host's file dialog."""
        return 'NumPy Zipped Archive (*.npz)'

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        """Write the scan as the host writes it for PtychoPINN: NPZ, patterns as intensity."""
        with self._jobs.log_errors():
            HostScan.of(parameters)
            if not parameters.product.object_.get_array().size:
                name = parameters.product.metadata.name
                raise ScanError(f'The product {name!r} has no object, which the file holds; initialize it first.')
            path = Path(file_path)
            with write_atomically(path if path.suffix == '.npz' else path.with_name(f'{path.name}.npz')) as temporary:
                export_training_data(temporary, parameters)

    # Jobs

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Outputs of an inference: the partial object, at most about once a second, and the complete one last."""
        with self._jobs.log_errors():
            model = None if self._starts_from_object() else self._models.require()
            scan = HostScan.of(parameters, by_engine=model is None)
            config = self.settings.config(self.model_type)
            warnings, others = [*scan.notices], tuple[Path, ...]()
            if model is None:
                scan.require_object()
            else:
                model.check(scan)
                others = self._further_models(model, scan)
                warnings += model.compare_training(scan, config)
                config = _adapt_probe_power(config, model)
            self._jobs.warn(warnings)
            with self._jobs.scratch(scan.nbytes) as scratch, self._jobs.worker(scratch.path, config) as worker:
                request = ReconstructRequest(
                    scan=hand_over(scan, scratch.path),
                    model=None if model is None else model.path,
                    ensemble=others,
                    config=config.to_json(),
                )
                for message in self._jobs.run(worker, request):
                    if isinstance(message, Preview):
                        self._jobs.tell(describe_preview(message))
                        self.session.status.has_output = True
                        yield make_preview_output(scan, message, scratch.path, model, config)
                    elif isinstance(message, ReconstructDone):
                        self._log_result(message, warnings)
                        self._record_reliability(scan, message, scratch.path)
                        self.session.status.has_output = True
                        yield make_result_output(scan, message, scratch.path)

    def _starts_from_object(self) -> bool:
        return bool(self.settings['start_from_object'].get_value())

    def _further_models(self, model: ModelFile, scan: HostScan) -> tuple[Path, ...]:
        """Paths of the further models in the settings; ModelFileError if one does not fit the scan."""
        paths = [path.absolute() for path in self.settings.further_models()]
        for path in paths:
            if [model.path, *paths].count(path) > 1:
                raise ModelFileError(f'The model {path} is named twice; name others in FurtherModels.')
            ModelFile.open(path).check(scan)
        return tuple(paths)

    def _record_reliability(self, scan: HostScan, done: ReconstructDone, scratch: Path) -> None:
        """Pass the reliability figures of a result to the window."""
        data = (scratch / done.reliability_file).read_bytes()
        record = ReliabilityRecord(str(scan.product.metadata.name), done.run.verdict, done.reliability, data)
        self.session.foreground(partial(self.session.reliability.update, record))

    def _log_result(self, done: ReconstructDone, warnings: Sequence[Notice]) -> None:
        """Log the notices of a result, without those that were warnings, its reliability and the verdict on it."""
        warned = {warning.code for warning in warnings}
        for notice in done.notices:
            if notice.code not in warned:
                self.logger.info('%s', say(notice.text))
        self.logger.info('%s', format_result(done))
        verdict = done.run.verdict
        if verdict is not None:
            self.logger.log(logging.INFO if verdict.word == 'good' else logging.WARNING, '%s', say(verdict.sentence))

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Outputs of a training on the files in a folder, or on the selected scan, which writes a model.safetensors.

        Where the settings say so, it pretrains for the probe of that scan, or goes on from the model in use. Yields
        once an epoch. A stop ends the iteration; the last checkpoint stays.
        """
        with self._jobs.log_errors():
            config = self.settings.config(self.model_type)
            yield from self._training.run(config, Path(input_path), Path(output_path))


def _adapt_probe_power(config: Config, model: ModelFile) -> Config:
    """Configuration with the training's probe_power, unless the user sets another."""
    if config.data.probe_power != 'auto':
        return config
    return config.merged({'data': {'probe_power': model.config.data.probe_power}})
