"""Steps of an epoch as data-loader items: regions are drawn, read and scaled batch by batch, nothing is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.grouping import covering_regions, epoch_regions, region_size
from ptychopinn_reconstructor.physics.prepare import PreparedScan

from .module import Batch

PIXELS_A_STEP = 65_536
Step = tuple[int, NDArray[np.int64]]  # which scan, regions (R, K)


def patterns_of_region(config: Config) -> int:
    """K: patterns that share a canvas; 1 where nothing needs to overlap."""
    model = config.model
    if model.model_type == 'supervised' or not model.object_big:
        return 1
    return region_size(model.gridsize, config.data.neighbor_count)


def regions_of_step(config: Config, n_pixels: int) -> int:
    """R: regions in a step, from batch_size or so that a step holds about 65,000 detector pixels."""
    k = patterns_of_region(config)
    patterns = config.training.batch_size or PIXELS_A_STEP // n_pixels**2
    return max(1, patterns // k)


class Steps(Sampler[Step]):
    """The steps of an epoch over all scans, drawn from (seed, epoch); a whole number of accumulation groups."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.epoch = 0
        config = job.config
        self.k = patterns_of_region(config)
        self.r = regions_of_step(config, job.scans[0].n_pixels)
        self.counts = [self._steps_of(len(split.training)) for split in job.splits]

    def _steps_of(self, patterns: int) -> int:
        if not patterns:  # a scan that only validates
            return 0
        groups = self.job.config.data.n_groups or patterns // self.k
        accumulate = self.job.config.training.accum_steps
        return max(1, groups // (self.r * accumulate)) * accumulate

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[Step]:
        config = self.job.config
        seed = config.training.seed
        steps: list[Step] = []
        for number, (scan, split, count) in enumerate(zip(self.job.scans, self.job.splits, self.counts, strict=True)):
            if not count:
                continue
            regions = epoch_regions(
                scan.positions,
                split.training,
                self.k,
                n_groups=count * self.r,
                seed=seed,
                epoch=self.epoch,
                sequential=config.data.sequential_sampling,
            )
            steps += [(number, part) for part in np.split(regions, count)]
        if len(self.job.scans) > 1 and not config.data.sequential_sampling:
            order = np.random.default_rng([seed, self.epoch]).permutation(len(steps))
            steps = [steps[i] for i in order]
        yield from steps


@dataclass(eq=False)
class HeldOutSteps(Sampler[Step]):
    """The steps of a validation: regions that cover the held-out patterns once."""

    job: TrainingJob
    steps: list[Step] = field(init=False)

    def __post_init__(self) -> None:
        k = patterns_of_region(self.job.config)
        r = regions_of_step(self.job.config, self.job.scans[0].n_pixels)
        self.steps = []
        for number, (scan, split) in enumerate(zip(self.job.scans, self.job.splits, strict=True)):
            if len(split.validation) >= k:
                regions = covering_regions(scan.positions, split.validation, k)
                self.steps += [(number, part) for part in np.array_split(regions, max(1, len(regions) // r))]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        yield from self.steps


@dataclass(eq=False)
class StepData(Dataset[Batch]):
    """Turns a step into tensors."""

    scans: tuple[PreparedScan, ...]
    supervised: bool

    def __getitem__(self, step: Step) -> Batch:
        number, regions = step
        scan = self.scans[number]
        r, k = regions.shape
        data = scan.patterns(regions.ravel())
        corners = data.corners.reshape(r, k, 2)
        corners = corners - corners.min(axis=1, keepdims=True)
        height, width = (int(size) for size in corners.max(axis=(0, 1)) + scan.n_pixels)
        return Batch(
            torch.from_numpy(data.counts).view(r, k, scan.n_pixels, scan.n_pixels),
            torch.from_numpy(data.root4),
            torch.from_numpy(data.backprojection),
            torch.from_numpy(corners),
            torch.from_numpy(data.fractions.reshape(r, k, 2)),
            torch.full((r,), number),
            torch.from_numpy(scan.labels(regions.ravel())) if self.supervised else None,
            (height, width),
        )


def loader(job: TrainingJob, steps: Sampler[Step]) -> DataLoader[Batch]:
    """A loader whose items are whole steps."""
    execution = job.config.execution
    return DataLoader(
        StepData(job.scans, job.config.model.model_type == 'supervised'),
        batch_size=None,
        sampler=steps,
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.num_workers > 0,
    )
