"""Steps as data-loader items: regions are drawn, read and scaled batch by batch, nothing is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ptychopinn_reconstructor.backend.batches import Step, Steps
from ptychopinn_reconstructor.backends.torch_lightning.module import Batch


@dataclass(eq=False)
class EpochSteps(Sampler[Step]):
    """The steps of the epoch that Lightning has set."""

    steps: Steps
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        yield from self.steps.draw_part(self.epoch)


@dataclass(eq=False)
class HeldOutSteps(Sampler[Step]):
    """The steps of a validation, in the same order every time."""

    steps: list[Step]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        yield from self.steps


@dataclass(eq=False)
class StepData(Dataset[Batch]):
    """Turns a step into tensors."""

    steps: Steps

    def __getitem__(self, step: Step) -> Batch:
        arrays = self.steps.batch(step)
        return Batch(
            counts=torch.from_numpy(arrays.counts),
            root4=torch.from_numpy(arrays.root4),
            backprojection=torch.from_numpy(arrays.backprojection),
            corners=torch.from_numpy(arrays.corners),
            fractions=torch.from_numpy(arrays.fractions),
            scan=torch.from_numpy(arrays.scan),
            dose=torch.from_numpy(arrays.dose),
            beam=torch.from_numpy(arrays.beam),
            background=torch.from_numpy(arrays.background),
            labels=None if arrays.labels is None else torch.from_numpy(arrays.labels),
            canvas=arrays.canvas,
        )


def make_loader(steps: Steps, chosen: Sampler[Step]) -> DataLoader[Batch]:
    """A loader whose items are whole steps."""
    execution = steps.config.execution
    return DataLoader(
        StepData(steps),
        batch_size=None,
        sampler=chosen,
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory and torch.cuda.is_available(),  # PyTorch warns where there is no GPU
        persistent_workers=execution.num_workers > 0,
    )
