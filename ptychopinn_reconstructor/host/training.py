"""Training in Ptychodus: its data, its initial model, and its display in the host."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ptychodus.api.object import Object
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import TrainOutput

from ..config import Config
from ..errors import PtychoPINNError
from ..io.atomic import write_atomically
from ..training.folder import MODEL, can_resume, find_start_model
from ..training.metrics_table import read_losses
from ..worker.messages import Epoch, Preview, TrainDone
from ..worker.requests import TrainRequest
from .job_status import TrainingClock
from .jobs import Jobs, hand_over
from .messages import format_epoch, take_array
from .model_file import ModelFile
from .model_in_use import ModelInUse
from .runner import Worker
from .scans import HostScan
from .settings import format_key
from .training_data import TrainingSource

if TYPE_CHECKING:
    from .session import Session
    from .settings import PluginSettings

DRAWN_EVERY = 1.0  # seconds: the host's window is drawn once a second, and a loss curve takes it a while


@dataclass
class Course:
    """How far a training is: losses of every epoch, epochs of this run, and whether its model is written."""

    losses: list[LossValue]
    held_out: list[LossValue]
    epochs: int = 0
    is_done: bool = False

    def add(self, epoch: Epoch) -> None:
        """Record an epoch; one that no checkpoint held is done again, and replaces what followed it."""
        assert epoch.train_loss is not None
        self.losses = [loss for loss in self.losses if loss.epoch < epoch.epoch]
        self.losses.append(LossValue(epoch.epoch, epoch.train_loss))
        self.held_out = [loss for loss in self.held_out if loss.epoch < epoch.epoch]
        if epoch.val_loss is not None:
            self.held_out.append(LossValue(epoch.epoch, epoch.val_loss))
        self.epochs += 1


@dataclass(frozen=True)
class Training:
    """Runs trainings of either model type with the current settings."""

    settings: PluginSettings
    session: Session
    logger: logging.Logger
    models: ModelInUse
    jobs: Jobs

    def run(self, config: Config, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Outputs of a training on the files in a folder, or on the selected scan, which writes a model.safetensors."""
        pretraining = config.data.source == 'procedural'
        source = TrainingSource.of(input_path, self.session.selected, pretraining=pretraining)
        files, scan = source.files, source.scan
        if scan is not None:
            self.jobs.warn(scan.notices)
        self.logger.info('%s', source)
        folder = config.training.output_dir or output_path
        resume = self._can_resume(folder)
        start = self._open_start_model(scan, folder, resume=resume)
        if start is not None:
            config = self._adapt_config(start, config)
        earlier = read_losses(folder) if resume else []
        course = Course(
            [LossValue(row.epoch, row.train_loss) for row in earlier],
            [LossValue(row.epoch, row.val_loss) for row in earlier if row.val_loss is not None],
        )
        with ExitStack() as held:
            scratch = held.enter_context(self.jobs.scratch(scan.nbytes if scan else 0)).path
            try:
                with self.jobs.worker(scratch, config) as worker:
                    request = TrainRequest(
                        output_dir=folder.absolute(),
                        config=config.to_json(),
                        scan=hand_over(scan, scratch) if scan is not None else None,
                        name=source.name,
                        files=tuple(path.absolute() for path in files.scans) if files else (),
                        validation=files.validation.absolute() if files and files.validation else None,
                        initial=start.path if start else None,
                        resume=resume,
                    )
                    yield from self._follow(worker, request, course, scratch, output_path, pretraining=pretraining)
            except GeneratorExit:  # the host has seen its Stop before the job did, and closes this iterator
                self._finish_later(course, request, held, scratch, output_path)
                raise
            self._finish_later(course, request, held, scratch, output_path)

    def _finish_later(
        self, course: Course, request: TrainRequest, held: ExitStack, scratch: Path, output: Path
    ) -> None:
        """Let a second process make a model of a stopped training, while the host goes on; it inherits the scratch.

        Nothing is to be done where the training has come to its end, or to none of an epoch, or the host ends.
        """
        begin = self.session.in_background
        if begin is None or course.is_done or not course.epochs or self.session.closing():
            return
        if not can_resume(request.output_dir):
            return
        self.logger.info('The best epoch of the stopped training becomes a model.')
        self.session.is_finishing = True
        begin(partial(self._finish, request.model_copy(update={'finish': True}), held.pop_all(), scratch, output))

    def _finish(self, request: TrainRequest, held: ExitStack, scratch: Path, output: Path) -> None:
        """Write the model of a stopped training, and use it."""
        backend = request.config['execution']['backend']
        try:
            with (
                suppress(PtychoPINNError),
                self.jobs.log_errors(),
                held,
                Worker(scratch, backend, self.session.closing) as worker,
            ):
                worker.ask(request)
                for message in worker.events():
                    if isinstance(message, TrainDone):
                        self._adopt(message.model, output)
        finally:
            self.session.is_finishing = False
            self.jobs.tell('')
            self.session.foreground(self.session.changed)

    def _can_resume(self, folder: Path) -> bool:
        if not self.settings['resume'].get_value():
            return False
        if not can_resume(folder):
            self.logger.info('There is nothing to resume in %s: the training starts anew.', folder)
            return False
        return True

    def _open_start_model(self, scan: HostScan | None, folder: Path, *, resume: bool) -> ModelFile | None:
        """Model whose weights a training starts from; None for random weights.

        A resumed training has its own, whatever the settings say now.
        """
        if resume:
            own = find_start_model(folder, None, resume=True)
            return None if own is None else ModelFile.open(own)
        if not self.settings['start_from_model'].get_value():
            return None
        model = self.models.require()
        if scan is not None:
            model.check(scan)
        self.logger.info('The training starts from %s.', model)
        return model

    def _adapt_config(self, model: ModelFile, config: Config) -> Config:
        """Configuration with the network of a model and the fine-tuning rate; logs the settings that are not used."""
        adapted = model.adapt_config(config)
        for name, row in self.settings.rows.items():
            mine, other = (getattr(each.model, name, None) for each in (config, adapted))
            if mine != other:
                self.logger.info('%s = %s is not used: the model has %s.', format_key(row), mine, other)
        rate = adapted.training.learning_rate
        if rate != config.training.learning_rate:
            self.logger.info('Learning rate %g, the default of a training that starts from a model.', rate)
        return adapted

    def _follow(
        self, worker: Worker, request: TrainRequest, course: Course, scratch: Path, output: Path, *, pretraining: bool
    ) -> Iterator[TrainOutput]:
        """Outputs of a training, one for each epoch, which the host also displays."""
        last_drawn, clock = float('-inf'), TrainingClock(request.config['training']['max_cpu_seconds'])
        try:
            for message in self.jobs.run(worker, request):
                if isinstance(message, Epoch) and message.train_loss is not None:
                    course.add(message)
                    self.logger.info(format_epoch(message))
                    self.jobs.tell(clock.describe(message))
                    if time.monotonic() - last_drawn > DRAWN_EVERY:
                        last_drawn = time.monotonic()
                        self._show(None, course)
                    yield TrainOutput(list(course.losses), list(course.held_out), progress=message.epoch)
                elif isinstance(message, Preview):
                    self._show(self._read_preview(message, scratch, apart=pretraining), course)
                elif isinstance(message, TrainDone):
                    course.losses = [LossValue(epoch, value) for epoch, value in message.losses]
                    course.is_done = True
                    self._adopt(message.model, output)
        finally:  # after a stop too, and when it fails
            if pretraining and self.session.selected is not None:
                own = self.session.selected.product.object_  # what was seen is no object of this scan
                self._show(own, course, last=True)
            elif course.losses:
                self._show(None, course, last=True)

    def _read_preview(self, preview: Preview, scratch: Path, *, apart: bool) -> Object | None:
        """Object that the network predicts for the selected scan; with `apart` one unrelated to it."""
        values, selected = take_array(scratch / preview.object), self.session.selected
        if selected is None:
            return None
        scan = HostScan.of(selected)
        return scan.make_separate_object(values) if apart else scan.make_object(values, preview.origin)

    def _show(self, preview: Object | None, course: Course, *, last: bool = False) -> None:
        """Display losses and object in the host."""
        if self.session.training is not None and self.session.selected is not None:
            scan = HostScan.of(self.session.selected)
            pairs = [(loss.epoch, loss.value) for loss in course.losses]
            self.session.training.held_out = [(loss.epoch, loss.value) for loss in course.held_out]
            self.session.training.show(scan, preview, pairs, last=last)

    def _adopt(self, model: Path, output: Path) -> None:
        """Use a model that was just written, and copy it to where the host expects it."""
        wanted = output / MODEL
        if wanted.absolute() != model.absolute():
            with write_atomically(wanted) as temporary:
                shutil.copyfile(model, temporary)
        self.models.use(model)
