"""The steps of a training: which regions of which scan in what order, and their arrays. The same for every backend.

Shapes: R regions of K patterns on one canvas each, N detector pixels, n pixels of a patch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ConfigError
from ..physics.grouping import covering_regions, epoch_regions, region_size
from ..physics.prepare import PreparedScan
from ..physics.simulation.procedural import ProceduralPatterns
from .interface import TrainingJob

PIXELS_A_STEP = 65_536
PROCEDURAL, PROCEDURAL_PATTERNS = -1, 4096  # the number of a scan that is none; patterns an epoch of such a one


class Step(NamedTuple):
    """Indices (R, K) of R regions of K patterns, in canonical order, of one scan.

    Of procedural patterns: the number of the step and the first and last (exclusive) of its patterns, (1, 3).
    """

    scan: int
    regions: NDArray[np.int64]


class RegionBatch(NamedTuple):
    """Arrays of a step; labels are None unless supervised."""

    counts: NDArray[np.float32]  # (R, K, N, N)
    root4: NDArray[np.float32]  # (R K, N, N)
    backprojection: NDArray[np.float32]  # (R K, 2, n, n)
    corners: NDArray[np.int64]  # (R, K, 2), relative to the smallest of the region
    fractions: NDArray[np.float32]  # (R, K, 2)
    scan: NDArray[np.int64]  # (R,) which scan's probe
    dose: NDArray[np.float32]  # (R,) photons in units of that probe's power; 1 for measured scans
    beam: NDArray[np.float32]  # (R, K) factors on the power of the beam
    background: NDArray[np.float32]  # (R, N, N) counts
    labels: NDArray[np.complex64] | None  # (R K, n, n)
    canvas: tuple[int, int]


def count_region_patterns(config: Config) -> int:
    """Number K of patterns that share a canvas; 1 where no overlap is needed."""
    model = config.model
    if model.model_type == 'supervised' or not model.object_big or not config.data.positions_provided:
        return 1
    return region_size(model.gridsize, config.data.neighbor_count)


def count_step_regions(config: Config, n_pixels: int) -> int:
    """Number R of regions in a step, from batch_size or so that a step holds about 65,000 detector pixels."""
    k = count_region_patterns(config)
    patterns = config.training.batch_size or PIXELS_A_STEP // n_pixels**2
    return max(1, patterns // k)


class Steps:
    """The steps of every epoch of a job, drawn from (seed, epoch), and those of its validation.

    Their number in an epoch, `len`, is a multiple of accum_steps, so that no group of batches is cut.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.scans, self.splits, self.config = job.scans, job.splits, job.config
        self.k = count_region_patterns(job.config)
        self.r = count_step_regions(job.config, job.scans[0].n_pixels)
        self.counts = [self._count_steps(len(split.training)) for split in job.splits]
        self.rank, self.ranks = job.rank, job.ranks
        if self.r < self.ranks:
            raise ConfigError(
                f'A step has {self.r * self.k} patterns in {self.r} regions, too few for {self.ranks} processes; '
                f'set training.batch_size to {self.ranks * self.k} or more, or start fewer processes.'
            )

    def _count_steps(self, patterns: int) -> int:
        if not patterns:  # a scan that only validates
            return 0
        groups = self.config.data.n_groups or patterns // self.k
        accumulate = self.config.training.accum_steps
        return max(1, groups // (self.r * accumulate)) * accumulate

    def __len__(self) -> int:
        return sum(self.counts)

    def draw_epoch(self, epoch: int) -> list[Step]:
        """Shuffled steps of an epoch (counted from 0) over all scans."""
        steps = [step for number in range(len(self.scans)) for step in self._draw_scan_steps(number, epoch)]
        if len(self.scans) > 1:
            order = np.random.default_rng([self.config.training.seed, epoch]).permutation(len(steps))
            steps = [steps[i] for i in order]
        return steps

    def draw_part(self, epoch: int) -> list[Step]:
        """The same with those regions alone that are this process's part of each step."""
        return [self._take_part(step) for step in self.draw_epoch(epoch)]

    def _take_part(self, step: Step) -> Step:
        return step._replace(regions=np.array_split(step.regions, self.ranks)[self.rank])

    def list_validation_part(self) -> list[Step]:
        """This process's part of the steps of the validation; all of them where there are too few to divide."""
        steps = self.list_validation_steps()
        return steps[self.rank :: self.ranks] if len(steps) >= self.ranks else steps

    def _draw_scan_steps(self, number: int, epoch: int) -> list[Step]:
        count = self.counts[number]
        if not count:
            return []
        regions = epoch_regions(
            self.scans[number].positions,
            self.splits[number].training,
            self.k,
            n_groups=count * self.r,
            seed=self.config.training.seed,
            epoch=epoch,
        )
        return [Step(number, part) for part in np.split(regions, count)]

    def batch(self, step: Step) -> RegionBatch:
        """The arrays of a step."""
        return load_region_batch(self.scans[step.scan], step, supervised=self.config.model.model_type == 'supervised')

    def list_validation_steps(self) -> list[Step]:
        """Steps that cover the held-out patterns once; none where too few are held out."""
        steps = []
        for number, (scan, split) in enumerate(zip(self.scans, self.splits, strict=True)):
            if len(split.validation) >= self.k:
                regions = covering_regions(scan.positions, split.validation, self.k)
                parts = np.array_split(regions, max(1, len(regions) // self.r))
                steps += [Step(number, part) for part in parts]
        return steps


class ProceduralSteps(Steps):
    """Steps of a pretraining: procedural patterns, numbered through all epochs; scans only validate."""

    def __init__(self, job: TrainingJob, source: ProceduralPatterns) -> None:
        super().__init__(job)
        self.source = source

    def __len__(self) -> int:
        patterns = self.config.data.n_groups or PROCEDURAL_PATTERNS
        return max(1, patterns // (self.r * self.config.training.accum_steps)) * self.config.training.accum_steps

    def draw_epoch(self, epoch: int) -> list[Step]:
        """The steps of an epoch (counted from 0)."""
        return self._number_steps(epoch * len(self), len(self))

    def _number_steps(self, first: int, count: int) -> list[Step]:
        """`count` steps whose regions hold the step's number instead of patterns."""
        return [Step(PROCEDURAL, np.array([[number, 0, self.r * self.k]])) for number in range(first, first + count)]

    def _take_part(self, step: Step) -> Step:
        if step.scan != PROCEDURAL:
            return super()._take_part(step)
        part = np.array_split(np.arange(self.r * self.k), self.ranks)[self.rank]
        return Step(PROCEDURAL, np.array([[step.regions[0, 0], part[0], part[-1] + 1]]))

    def batch(self, step: Step) -> RegionBatch:
        """Arrays of a step: procedural patterns, or those of a scan."""
        if step.scan != PROCEDURAL:
            return super().batch(step)
        number, first, last = (int(value) for value in step.regions[0])
        drawn, count = self.source.draw(number, self.r * self.k, range(first, last)), last - first
        return RegionBatch(
            drawn.counts[:, None],
            *drawn.input,
            np.zeros((count, 1, 2), dtype=np.int64),
            drawn.fractions[:, None],
            np.zeros(count, dtype=np.int64),
            np.full(count, drawn.dose, dtype=np.float32),
            np.ones((count, 1), dtype=np.float32),
            np.zeros((count, *(self.source.n_pixels,) * 2), dtype=np.float32),
            drawn.labels,
            (self.source.n_pixels,) * 2,
        )


class MixedSteps(ProceduralSteps):
    """Steps on scans and as many on procedural patterns, shuffled, so that fine-tuning keeps a network general."""

    def __len__(self) -> int:
        return 2 * Steps.__len__(self)

    def draw_epoch(self, epoch: int) -> list[Step]:
        """The steps of an epoch (counted from 0)."""
        scanned = Steps.draw_epoch(self, epoch)
        both = [*scanned, *self._number_steps(epoch * len(scanned), len(scanned))]
        order = np.random.default_rng([self.config.training.seed, 1, epoch]).permutation(len(both))
        return [both[i] for i in order]


def make_steps(job: TrainingJob) -> Steps:
    """Steps of a job: on its scans, procedural, or mixed."""
    if job.procedural is None:
        return Steps(job)
    kind = MixedSteps if job.config.data.source == 'mixed' else ProceduralSteps
    return kind(job, job.procedural)


def load_region_batch(scan: PreparedScan, step: Step, *, supervised: bool) -> RegionBatch:
    """Arrays of a step of `scan`, read and scaled; labels only where `supervised`."""
    (r, k), side = step.regions.shape, scan.n_pixels
    data = scan.patterns(step.regions.ravel())
    corners = data.corners.reshape(r, k, 2)
    corners = corners - corners.min(axis=1, keepdims=True)
    height, width = (int(size) for size in corners.max(axis=(0, 1)) + side)
    return RegionBatch(
        data.counts.reshape(r, k, side, side),
        data.root4,
        data.backprojection,
        corners,
        data.fractions.reshape(r, k, 2),
        np.full(r, step.scan, dtype=np.int64),
        np.ones(r, dtype=np.float32),
        np.ones((r, k), dtype=np.float32) if scan.intensity is None else scan.intensity[step.regions],
        np.zeros((r, side, side), dtype=np.float32) if scan.background is None else np.stack([scan.background] * r),
        scan.labels(step.regions.ravel()) if supervised else None,
        (height, width),
    )


def stack_probes(job: TrainingJob) -> NDArray[np.complex64]:
    """The probes of a job's scans, padded with empty modes to a common number: (scans, modes, N, N).

    Raises ConfigError when the scans have patterns of several sizes.
    """
    sizes = sorted({scan.n_pixels for scan in job.scans})
    if len(sizes) > 1:
        raise ConfigError(f'The scans have patterns of {sizes} pixels; one training needs one size.')
    modes = max(len(scan.probe) for scan in job.scans)
    probes = np.zeros((len(job.scans), modes, sizes[0], sizes[0]), dtype=np.complex64)
    for padded, scan in zip(probes, job.scans, strict=True):
        padded[: len(scan.probe)] = scan.probe
    return probes


def stack_good_pixels(job: TrainingJob) -> NDArray[np.float32]:
    """Masks (scans, N, N) of a job's scans: 1 for good pixels, 0 for bad ones."""
    return np.stack([scan.good for scan in job.scans]).astype(np.float32)


def split_probes(probes: NDArray[np.complex64], job: TrainingJob) -> tuple[NDArray[np.complex64], ...]:
    """Probe of each scan without padded modes."""
    return tuple(probe[: len(scan.probe)] for probe, scan in zip(probes, job.scans, strict=True))
