"""A reconstructor that remembers the object it was trained on: the smallest one that keeps the contract."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.io import load_product
from ptychodus.api.object import Object
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, TrainableReconstructor, TrainOutput

from ptychopinn_reconstructor.host.conformance import FORMS, Instance, Subject
from ptychopinn_reconstructor.host.releases import export_training_data, is_far_field

EPOCHS = 5
LOGGER = 'toy_reconstructor'


class Toy(TrainableReconstructor):
    """What it infers is the object that it was trained on, on the canvas of the scan."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.stopped = threading.Event()
        self.selected: ReconstructInput | None = None
        self.remembered: NDArray[Any] | None = None

    @contextmanager
    def training_on(self, selected: ReconstructInput) -> Iterator[None]:
        self.selected = selected
        yield
        self.selected = None

    @property
    def name(self) -> str:
        return 'Toy'

    def get_progress_goal(self) -> int:
        return EPOCHS

    def is_model_loaded(self) -> bool:
        return self.remembered is not None

    def get_model_file_filter(self) -> str:
        return 'NumPy Array (*.npy)'

    def get_model_file_extension(self) -> str:
        return '.npy'

    def load_model_from_file(self, file_path: Path) -> None:
        try:
            self.remembered = np.load(file_path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f'{file_path} is no model of this reconstructor.') from error

    def save_model(self, file_path: Path) -> None:
        np.save(file_path, self.model())

    def model(self) -> NDArray[Any]:
        if self.remembered is None:
            raise self.failure('There is no model; train one first.')
        return self.remembered

    def get_training_data_file_filter(self) -> str:
        return 'NumPy Zipped Archive (*.npz)'

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        export_training_data(file_path, parameters)

    def failure(self, text: str) -> ValueError:
        logging.getLogger(LOGGER).error(text)
        return ValueError(text)

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        files, layout = sorted(input_path.glob('*.npz')), input_path / 'product.h5'
        if not files and not layout.exists() and self.selected is None:
            raise self.failure(f'There is nothing to train on in {input_path}.')
        if files:
            learned = np.load(files[0])['objectGuess']
        elif layout.exists():
            learned = load_product(layout).object_.get_layer(0)
        else:
            assert self.selected is not None
            learned = self.selected.product.object_.get_layer(0).copy()
        yield from self.epochs()
        self.remembered = learned
        self.save_model(output_path / f'model{self.get_model_file_extension()}')

    def epochs(self) -> Iterator[TrainOutput]:
        for epoch in range(1, EPOCHS + 1):
            if self.stopped.is_set():
                return
            yield TrainOutput([LossValue(e, 1 / e) for e in range(1, epoch + 1)], [], progress=epoch)

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        if not is_far_field(parameters.product.metadata):
            raise self.failure('The product is near field, which this reconstructor does not know.')
        array = self.model()
        for progress in (EPOCHS // 2, EPOCHS):
            yield self.output(parameters, array, progress)

    def output(self, parameters: ReconstructInput, array: NDArray[Any], progress: int) -> ReconstructOutput:
        geometry = parameters.product.object_.get_geometry()
        found = Object(array.astype(complex), geometry.get_pixel_geometry(), geometry.get_center())
        product = replace(parameters.product, object_=found, losses=[LossValue(1, 0.5)])
        return ReconstructOutput(product, progress=progress)


def subject_of(kind: type[Toy], **changes: Any) -> Subject:
    """A toy, or one with a fault, and what is declared of it."""

    def make(scratch: Path, quick: bool) -> Instance:
        toy = kind(scratch)
        return Instance(toy, toy.training_on, toy.stopped.set)

    settings: dict[str, Any] = {
        'library': 'Toys',
        'make': make,
        'training_forms': frozenset(FORMS),
        'likeness': 0.9,
        'logger': LOGGER,
    }
    return Subject(**settings | changes)
