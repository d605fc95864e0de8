"""A reconstructor as Ptychodus calls it: every job runs in a worker process (specs/ptychodus_api_spec.md)."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ptychodus.api.object import Object
from ptychodus.api.observer import Observable, Observer
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, TrainableReconstructor, TrainOutput

from ..config import Config
from ..errors import BundleError, Interrupted, OutputError, PtychoPINNError, ScanError
from ..files import atomic_path
from ..handover import Scratch, write_arrays
from ..requests import ReconstructRequest, Request, TrainRequest
from ..training_folder import MODEL, can_resume, losses_so_far
from .messages import WHOLE, epoch_line, gist, output_of, result_line, taken
from .model_file import ModelFile
from .releases import export_training_data
from .runner import Message, Worker
from .scans import HostScan
from .settings import shown
from .training_data import TrainingSource

if TYPE_CHECKING:
    from .library import Session
    from .settings import PluginSettings

SCAN_FOLDER = 'scan'
DRAWN_EVERY = 1.0  # seconds: the host's window is drawn once a second, and a loss curve takes it a while


class PtychoPINNReconstructor(TrainableReconstructor, Observer):
    """The network of one model type ('pinn' or 'supervised'): train, open and save models, reconstruct.

    Raises PtychoPINNError (errors.py) in one sentence, which also goes to the library's logger.
    """

    def __init__(
        self, name: str, model_type: str, settings: PluginSettings, session: Session, logger: logging.Logger
    ) -> None:
        super().__init__()
        self._name, self.model_type = name, model_type
        self.settings, self.session, self.logger = settings, session, logger
        self._model: ModelFile | None = None
        settings['model_path'].add_observer(self)

    @property
    def name(self) -> str:
        """As it stands in the key of the algorithm."""
        return self._name

    def get_progress_goal(self) -> int:
        """Epochs of a training, percent of a reconstruction."""
        return int(self.settings['nepochs'].get_value()) if self.session.selected is not None else WHOLE

    # Models

    @property
    def model(self) -> ModelFile | None:
        """The model that Infer would use, opened: the one loaded or trained last, else that of the settings."""
        if self._model is None and (path := self._configured()) is not None:
            self._model = ModelFile.open(path)
            self.logger.info('Model: %s', self._model)
        return self._model

    def _configured(self) -> Path | None:
        path = self.settings.model_path()
        return path if path is not None and path.is_file() else None

    def _update(self, observable: Observable) -> None:
        """Follow ModelPath, which both reconstructors share."""
        if self._model is not None and not self._model.is_at(self.settings.model_path()):
            self._model = None

    def is_model_loaded(self) -> bool:
        """Whether there is a model to infer with; nothing is opened to find out."""
        return self._model is not None or self._configured() is not None

    def get_model_file_filter(self) -> str:
        """For the host's file dialog."""
        return 'PtychoPINN Model (*.zip)'

    def get_model_file_extension(self) -> str:
        """With its dot."""
        return '.zip'

    def load_model_from_file(self, file_path: Path) -> None:
        """Open a model and check all of it, without any framework; BundleError when it is none of ours."""
        with self._told():
            self._use(ModelFile.open(Path(file_path)))

    def save_model(self, file_path: Path) -> None:
        """Copy the model in use to a file; BundleError when there is none."""
        with self._told():
            model = self._needed_model()
            if Path(file_path).absolute() == model.path:
                return
            with atomic_path(file_path) as temporary:
                shutil.copyfile(model.path, temporary)

    def _use(self, model: ModelFile) -> None:
        self._model = model
        self.logger.info('Model: %s', model)

        def tell() -> None:
            self.settings['model_path'].set_value(model.path, notify=False)
            self.settings['model_path'].notify_observers()  # another model may have come to the same path
            self.session.changed()

        self.session.foreground(tell)

    def _needed_model(self) -> ModelFile:
        model = self.model
        if model is None:
            named = self.settings.model_path()
            there = f'The model {named} does not exist' if named is not None else 'No model is loaded'
            raise BundleError(f'{there}; train one, or load a model.zip (Load Model, or ModelPath in the settings).')
        if not model.path.is_file():
            raise BundleError(f'The model {model.path} is not there any more; load or train another.')
        return model

    # Training data

    def get_training_data_file_filter(self) -> str:
        """For the host's file dialog."""
        return 'NumPy Zipped Archive (*.npz)'

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        """Write the scan as the host writes it for PtychoPINN: NPZ, patterns as intensity."""
        with self._told():
            HostScan.of(parameters)
            if not parameters.product.object_.get_array().size:
                name = parameters.product.metadata.name
                raise ScanError(f'The product {name!r} has no object, which the file holds; initialize it first.')
            path = Path(file_path)
            with atomic_path(path if path.suffix == '.npz' else path.with_name(f'{path.name}.npz')) as temporary:
                export_training_data(temporary, parameters)

    # Jobs

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Infer; yields the object as it grows, at most about once a second, and the complete one last."""
        with self._told():
            model, scan = self._needed_model(), HostScan.of(parameters)
            config = self.settings.config(self.model_type)
            model.check(scan)
            warnings = [*scan.notes, *model.notes(scan, config)]
            self._warn(warnings)
            config = _for_model(config, model)
            with self._scratch(scan.nbytes) as scratch, self._worker(scratch.path, config) as worker:
                hand_over(scan, scratch.path / SCAN_FOLDER)
                request = ReconstructRequest(scan=scratch.path / SCAN_FOLDER, model=model.path, config=config.to_json())
                for message in self._run(worker, request):
                    if message['event'] == 'done':
                        self._conclude(message, warnings)
                    if (output := output_of(scan, message, scratch.path, model, config)) is not None:
                        yield output

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Train on the files in a folder, or on the scan selected in the host; model.zip is left in `output_path`.

        Where the settings say so, it pretrains for the probe of that scan, or goes on from the model in use. Yields
        once an epoch. A stop ends the iteration; the last checkpoint stays.
        """
        with self._told():
            config = self.settings.config(self.model_type)
            pretraining = config.data.source == 'procedural'
            source = TrainingSource.of(Path(input_path), self.session.selected, pretraining=pretraining)
            files, scan = source.files, source.scan
            if scan is not None:
                self._warn(scan.notes)
            self.logger.info('%s', source)
            start = self._start(scan)
            if start is not None:
                config = self._with_network_of(start, config)
            folder = config.training.output_dir or Path(output_path)
            with self._scratch(scan.nbytes if scan else 0) as scratch, self._worker(scratch.path, config) as worker:
                if scan is not None:
                    hand_over(scan, scratch.path / SCAN_FOLDER)
                request = TrainRequest(
                    output_dir=folder.absolute(),
                    config=config.to_json(),
                    scan=scratch.path / SCAN_FOLDER if scan is not None else None,
                    name=source.name,
                    files=tuple(path.absolute() for path in files.scans) if files else (),
                    validation=files.validation.absolute() if files and files.validation else None,
                    initial=start.path if start else None,
                    resume=self._resumes(folder),
                )
                yield from self._training(worker, request, scratch.path, Path(output_path), pretraining=pretraining)

    def _conclude(self, message: Message, warnings: Sequence[str]) -> None:
        """Tell what was decided about the data, unless it was told as a warning, and how far to trust the object."""
        told = {gist(line) for line in warnings}
        for line in (*message['notes'], result_line(message)):
            if gist(line) not in told:
                self.logger.info('%s', line)

    def _start(self, scan: HostScan | None) -> ModelFile | None:
        """The model whose weights a training starts from, None where the settings ask for new ones."""
        if not self.settings['start_from_model'].get_value():
            return None
        model = self._needed_model()
        if scan is not None:
            model.check_size(scan)
        self.logger.info('The training starts from %s.', model)
        return model

    def _with_network_of(self, model: ModelFile, config: Config) -> Config:
        """The configuration with the network of a model, and a word where the settings describe another."""
        found = model.as_start(config)
        for name, row in self.settings.rows.items():
            mine, other = (getattr(each.model, name, None) for each in (config, found))
            if mine != other:
                self.logger.info('%s = %s is not used: the model has %s.', shown(row), mine, other)
        return found

    def _resumes(self, folder: Path) -> bool:
        if not self.settings['resume'].get_value():
            return False
        if not can_resume(folder):
            self.logger.info('There is nothing to resume in %s: the training starts anew.', folder)
            return False
        return True

    def _training(
        self, worker: Worker, request: TrainRequest, scratch: Path, output: Path, *, pretraining: bool
    ) -> Iterator[TrainOutput]:
        earlier = losses_so_far(request.output_dir) if request.resume else []
        losses = [LossValue(epoch, value) for epoch, value in earlier]
        held_out: list[LossValue] = []
        shown = float('-inf')
        try:
            for message in self._run(worker, request):
                if message['event'] == 'epoch' and message.get('stage') == 'train':
                    epoch = int(message['epoch'])
                    losses = [loss for loss in losses if loss.epoch < epoch]  # one that no checkpoint held is redone
                    losses.append(LossValue(epoch, float(message['train_loss'])))
                    if message.get('val_loss') is not None:
                        held_out.append(LossValue(epoch, float(message['val_loss'])))
                    self.logger.info(epoch_line(message))
                    if time.monotonic() - shown > DRAWN_EVERY:
                        shown = time.monotonic()
                        self._show(None, losses)
                    yield TrainOutput(list(losses), list(held_out), progress=epoch)
                elif message['event'] == 'preview':
                    self._show(self._preview(message, scratch, apart=pretraining), losses)
                elif message['event'] == 'done':
                    losses = [LossValue(int(epoch), float(value)) for epoch, value in message['losses']]
                    self._adopt(Path(message['model']), output)
        finally:  # after a stop too, and when it fails
            if pretraining and self.session.selected is not None:
                own = self.session.selected.product.object_  # what was seen is no object of this scan
                self._show(own, losses, last=True)
            elif losses:
                self._show(None, losses, last=True)

    def _preview(self, message: Message, scratch: Path, *, apart: bool) -> Object | None:
        """The object as the network sees it, that of the selected scan, or one that lies `apart` from it."""
        values, selected = taken(scratch / message['object']), self.session.selected
        if selected is None:
            return None
        scan = HostScan.of(selected)
        return scan.object_apart(values) if apart else scan.object_of(values, message['origin'])

    def _show(self, preview: Object | None, losses: list[LossValue], *, last: bool = False) -> None:
        """Let the host show the losses, and the object as the network sees it now."""
        if self.session.training is not None and self.session.selected is not None:
            scan = HostScan.of(self.session.selected)
            pairs = [(loss.epoch, loss.value) for loss in losses]
            self.session.training.show(scan, preview, pairs, last=last)

    def _adopt(self, model: Path, output: Path) -> None:
        """Use a model that was just written, and leave a copy where the host expects it."""
        wanted = output / MODEL
        if wanted.absolute() != model.absolute():
            with atomic_path(wanted) as temporary:
                shutil.copyfile(model, temporary)
        self._use(ModelFile.open(model))

    # What every job needs

    def _scratch(self, size: int) -> Scratch:
        return Scratch(size, self.settings.scratch_folder())

    def _worker(self, scratch: Path, config: Config) -> Worker:
        return Worker(scratch, config.execution.backend, self.session.should_stop)

    def _run(self, worker: Worker, request: Request) -> Iterator[Message]:
        """The messages of a job but for those that are only to be told; a stop ends them."""
        worker.ask(request)
        try:
            for message in worker.events():
                if message['event'] == 'log':
                    level = logging.getLevelNamesMapping().get(str(message['level']).upper(), logging.INFO)
                    self.logger.log(level, '%s', message['message'])
                elif message['event'] == 'started':
                    self.logger.info('%s on %s.', message['backend'], message['device'])
                else:
                    yield message
        except Interrupted as stopped:
            self.logger.warning('%s', stopped)
        except GeneratorExit:  # the host has seen its Stop before the job did, and closes this iterator
            self.logger.warning('%s', worker.when_stopped)
            raise

    def _warn(self, notes: Iterator[str] | Sequence[str]) -> None:
        for note in notes:
            self.logger.warning('%s', note)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors also go to the library's logger: the host shows those of its own thread nowhere."""
        try:
            yield
        except PtychoPINNError as error:
            self._tell(str(error))
            raise
        except OSError as error:
            self._tell(text := f'A file cannot be read or written: {error}; check the folder.')
            raise OutputError(text) from error
        except Exception as error:  # a fault of ours, or of the host's: it must be seen too
            self._tell(f'PtychoPINN has failed: {type(error).__name__}: {error}')
            raise

    def _tell(self, text: str) -> None:
        self.logger.error('%s', text)
        self.session.foreground(self.session.changed)


def hand_over(scan: HostScan, folder: Path) -> None:
    """Write a scan where the worker maps it."""
    write_arrays(folder, scan.arrays(), scan.description())


def _for_model(config: Config, model: ModelFile) -> Config:
    """The power of the probe is understood as in the training unless the user says otherwise."""
    if config.data.probe_power != 'auto':
        return config
    return config.merged({'data': {'probe_power': model.config.data.probe_power}})
