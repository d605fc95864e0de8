"""Model that Infer uses: the one loaded or trained last, else that of the settings."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ptychodus.api.observer import Observable, Observer

from ..errors import ModelFileError
from ..io.atomic import write_atomically
from .model_file import ModelFile

if TYPE_CHECKING:
    from .session import Session
    from .settings import PluginSettings


class ModelInUse(Observer):
    """Model at ModelPath, which both reconstructors share; opened on first use."""

    def __init__(self, settings: PluginSettings, session: Session, logger: logging.Logger) -> None:
        super().__init__()
        self._settings, self._session, self._logger = settings, session, logger
        self._opened: ModelFile | None = None
        settings['model_path'].add_observer(self)

    def get(self) -> ModelFile | None:
        """Opened model; None if there is none, ModelFileError if it cannot be opened."""
        if self._opened is None and (path := self._configured()) is not None:
            self._opened = ModelFile.open(path)
            self._logger.info('Model: %s', self._opened)
        return self._opened

    def is_available(self) -> bool:
        """Whether there is a model, without opening it."""
        return self._opened is not None or self._configured() is not None

    def require(self) -> ModelFile:
        """Opened model; ModelFileError if there is none."""
        model = self.get()
        if model is None:
            named = self._settings.model_path()
            there = f'The model {named} does not exist' if named is not None else 'No model is loaded'
            raise ModelFileError(
                f'{there}; train one, or load a model.safetensors (Load Model, or ModelPath in the settings).'
            )
        if not model.path.is_file():
            raise ModelFileError(f'The model {model.path} is not there any more; load or train another.')
        return model

    def use(self, path: Path) -> None:
        """Open and check a model, and make it the one in use."""
        self._opened = model = ModelFile.open(path)
        self._logger.info('Model: %s', model)

        def adopt() -> None:
            self._settings['model_path'].set_value(model.path, notify=False)
            self._settings['model_path'].notify_observers()  # another model may have come to the same path
            self._session.changed()

        self._session.foreground(adopt)

    def save(self, path: Path) -> None:
        """Copy the model to a file; ModelFileError if there is none."""
        model = self.require()
        if path.absolute() == model.path:
            return
        with write_atomically(path) as temporary:
            shutil.copyfile(model.path, temporary)

    def _configured(self) -> Path | None:
        path = self._settings.model_path()
        return path if path is not None and path.is_file() else None

    def _update(self, observable: Observable) -> None:
        if self._opened is not None and not self._opened.is_at(self._settings.model_path()):
            self._opened = None
