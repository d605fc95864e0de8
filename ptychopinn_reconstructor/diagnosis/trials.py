"""Trial reconstructions: a few passes of the engine on patterns that lie together, under a budget of CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..events import Emit, Progress, ShouldStop, ignore, never
from ..physics.engine.options import RefineOptions
from ..physics.engine.positions import displace_scan
from ..physics.engine.refine import refine, scan_dose
from ..physics.forward import diffract
from ..physics.geometry import gather_patches, scan_area
from ..physics.inspection.places import nearest_to_middle
from ..physics.prepare import PreparedScan, prepare_scan
from ..physics.probes import probe_modes
from ..physics.residual import Residual, residual
from ..physics.sampling import scan_overlap
from ..physics.scoring.goodness_of_fit import measure_excess
from ..physics.simulation.simulate import expected_counts
from ..scan import Scan
from .finding import TrialImages, TrialRecord
from .reduction import crop_scan

VALUES = 262_144  # of all patterns together: a trial takes half a second
FEWEST, MOST = 36, 64  # patterns
SCREENED = 25  # of them, on which explanations are screened before they are tried in full
PASSES, PASSES_WITH_MORE = 8, 16  # of the engine; where the probe or the positions are refined too
PASSES_OF_SCREENING, PATIENT = 5, 24  # to tell what is worth a trial; that an object only needs more of them
BUDGET = 60.0  # CPU-seconds of all trials together


@dataclass(frozen=True, eq=False)
class Trial:
    """What a trial came to: the part of the scan, canvas (H, W), probe (modes, N, N), and the misfit of its patterns.

    `measured` and `predicted` (n, N, N) are its patterns in counts, in canonical order. A background and the power of
    the beam stand in `prepared`, as refined positions do.
    """

    assumption: str
    prepared: PreparedScan
    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    measured: NDArray[np.float32]
    predicted: NDArray[np.float32]
    misfit: Residual

    @property
    def excess(self) -> float:
        """Misfit beyond counting noise as a share of the counts."""
        return measure_excess(self.misfit)

    @property
    def ratio(self) -> float:
        """Misfit in units of counting noise."""
        return self.misfit.noise_ratio

    @property
    def background(self) -> float:
        """Counts a pixel that were found beside the diffraction of the object."""
        found = self.prepared.background
        return 0.0 if found is None else float(found[self.prepared.good].mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of the power of the beam over the patterns."""
        found = self.prepared.intensity
        return 0.0 if found is None else float(np.std(np.log(found)))

    @property
    def images(self) -> TrialImages:
        """The trial to look at."""
        area = scan_area(self.prepared.scan.positions, self.prepared.layout.origin)
        means = (images.mean(axis=0) for images in (self.measured, self.predicted))
        return TrialImages(f'{self.assumption}: {self.ratio:.3g} x noise', self.canvas[area], *means)

    @property
    def record(self) -> TrialRecord:
        """The figures of the trial."""
        return TrialRecord(self.assumption, round(self.ratio, 4), round(self.excess, 6))


@dataclass(frozen=True)
class Freedom:
    """What a trial refines beside the object: the probe, with so many modes, the positions, what the detector adds."""

    probe: bool = False
    modes: int = 1
    positions: bool = False
    background: bool = False
    intensity: bool = False

    def holding(self, held: Freedom) -> Freedom:
        """With what the detector adds in `held`, too, since that has been found."""
        background, intensity = self.background or held.background, self.intensity or held.intensity
        return replace(self, background=background, intensity=intensity)


FIXED = Freedom()


@dataclass(eq=False)
class Laboratory:
    """Makes trials while their budget of CPU-seconds lasts."""

    budget: float = BUDGET
    emit: Emit = ignore
    should_stop: ShouldStop = never
    made: list[TrialRecord] = field(default_factory=list)
    clock: Callable[[], float] = time.process_time
    spent: float = 0.0
    longest: float = 0.0

    @property
    def has_time(self) -> bool:
        """Whether the budget holds another trial."""
        return self.spent + self.longest < self.budget

    def try_scan(self, scan: Scan, assumption: str, freedom: Freedom = FIXED) -> Trial:
        """Reconstruct a small scan with its probe; `assumption` says what of it is assumed."""
        more = freedom.probe or freedom.positions
        trial = self._make(scan, assumption, freedom, PASSES_WITH_MORE if more else PASSES)
        self.made.append(trial.record)
        return trial

    def try_longer(self, trial: Trial, freedom: Freedom = FIXED) -> Trial:
        """The same trial with so many passes that an object comes together slowly, too; the better of the two."""
        longer = self._make(trial.prepared.scan, f'{trial.assumption}, more passes', freedom, PATIENT)
        self.made.append(longer.record)
        return min(trial, longer, key=lambda one: one.excess)

    def compare(self, scan: Scan, assumption: str, freedom: Freedom) -> Trial:
        """A trial that counts beside others like it alone: it is not recorded."""
        return self._make(scan, assumption, freedom, PASSES)

    def screen(self, scan: Scan, assumption: str, freedom: Freedom = FIXED) -> float:
        """Misfit beyond noise per count after few passes on few patterns of a small scan."""
        small = take_part(scan, choose_part(scan, SCREENED))
        return self._make(small, assumption, freedom, PASSES_OF_SCREENING).excess

    def _make(self, scan: Scan, assumption: str, freedom: Freedom, passes: int) -> Trial:
        begin = self.clock()
        trial = _reconstruct(scan, assumption, freedom, passes, self.should_stop)
        took = self.clock() - begin
        self.spent, self.longest = self.spent + took, max(self.longest, took)
        self.emit(Progress('diagnose', min(self.spent, self.budget), self.budget))
        return trial

    def try_clean(self, trial: Trial) -> Trial:
        """The trial of a simulated scan like that of `trial` in all but its faults: what misfit is to be expected."""
        prepared, rng = trial.prepared, np.random.default_rng(0)
        blocks = expected_counts(trial.canvas, trial.probe, prepared.scan.positions + prepared.layout.origin)
        counts = np.concatenate([rng.poisson(block) for block in blocks]).astype(np.float32)
        return self.try_scan(replace(prepared.scan, diffraction=counts, count_unit=1.0), 'a simulated scan like this')


def _reconstruct(scan: Scan, assumption: str, freedom: Freedom, passes: int, should_stop: ShouldStop) -> Trial:
    prepared = prepare_scan(scan)
    probe = prepared.probe
    if freedom.modes > len(probe):
        strongest = probe[np.argmax((np.abs(probe) ** 2).sum(axis=(1, 2)))]
        probe = probe_modes(strongest, freedom.modes).astype(np.complex64)
        probe *= np.sqrt((np.abs(prepared.probe) ** 2).sum() / (np.abs(probe) ** 2).sum())
    options = RefineOptions.for_scan(
        passes,
        dose=scan_dose(prepared),
        overlap=scan_overlap(prepared.positions, probe),
        refine_probe=freedom.probe,
        refine_positions=freedom.positions,
        background='on' if freedom.background else 'off',
        intensity='on' if freedom.intensity else 'off',
    )
    canvas = np.ones(prepared.layout.shape, np.complex64)
    refined = refine(prepared, canvas, options, probe=probe, should_stop=should_stop)
    moved = refined.displacements
    placed = prepared if moved is None else displace_scan(prepared, moved)
    placed = replace(placed, background=refined.background, intensity=refined.intensity)
    measured = prepared.counts(np.arange(len(prepared)))
    predicted = _predict(placed, refined.canvas, refined.probe)
    misfit = residual(predicted, measured, prepared.good)
    return Trial(assumption, placed, refined.canvas, refined.probe, measured, predicted, misfit)


def _predict(
    prepared: PreparedScan, canvas: NDArray[np.complex64], probe: NDArray[np.complex64]
) -> NDArray[np.float32]:
    patches = gather_patches(canvas, prepared.layout.corners, prepared.n_pixels)
    diffracted = diffract(probe, patches, prepared.layout.fractions)
    return np.asarray(prepared.detect(diffracted, np.arange(len(prepared))), dtype=np.float32)


def choose_part(scan: Scan, count: int | None = None) -> NDArray[np.int64]:
    """Indexes (k,), increasing, of `count` patterns about the middle of the scan, by default as many as a trial has."""
    count = count or int(np.clip(VALUES // scan.n_pixels**2, FEWEST, MOST))
    return nearest_to_middle(scan.positions, count)


def take_part(scan: Scan, index: NDArray[np.int64]) -> Scan:
    """The patterns at `index` as a scan of their own, in memory, in counts, with fewer pixels where these are many."""
    part = replace(
        scan,
        diffraction=scan.counts(index),
        domain='counts',
        count_unit=1.0,
        positions=scan.positions[index],
        object=None,
        object_origin=(0.0, 0.0),
        on_object_grid=False,
        scan_index=None,
        pattern_indexes=None,
    )
    return crop_scan(part)
