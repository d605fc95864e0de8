"""Model file of a reconstructor, opened without a framework, and its checks against a scan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backend import resolve_title
from ..config import FINE_TUNING, Config
from ..errors import ModelFileError
from ..events import Notice
from ..model_file.manifest import NETWORK_SETTINGS, Manifest
from ..model_file.opening import Model, open_model
from ..model_file.probes import find_probe_mismatch
from ..model_file.training_range import TrainingRange
from ..scan import check_probe
from .scans import HostScan

SAMPLE = 32  # patterns from which the dose is estimated before a job starts
OUTLIER = 5.0  # times more or less than the median: a frame without the beam, or a mad one
MODEL_SUFFIX = '.safetensors'
MODEL_FILTER = f'PtychoPINN Model (*{MODEL_SUFFIX})'


@dataclass(frozen=True, eq=False)
class ModelFile:
    """Opened model with the path of its file.

    `written` is the time of its last change, in nanoseconds, since a training replaces the file.
    """

    path: Path
    model: Model
    written: int

    @classmethod
    def open(cls, path: Path) -> ModelFile:
        """Model file read and checked; ModelFileError says in one sentence what is wrong."""
        model = open_model(path)
        written = path.stat().st_mtime_ns
        return cls(path.absolute(), model, written)

    def is_at(self, path: Path | None) -> bool:
        """Whether a path still refers to this model, unmodified."""
        return path == self.path and path.is_file() and path.stat().st_mtime_ns == self.written

    @property
    def config(self) -> Config:
        """Configuration of the training."""
        return self.model.config

    @property
    def manifest(self) -> Manifest:
        """Manifest of the model."""
        return self.model.manifest

    @property
    def is_pretrained(self) -> bool:
        """Whether it was trained on simulated objects only."""
        return self.config.data.source == 'procedural'

    @property
    def training_summary(self) -> str:
        """Clause that states training data and epochs."""
        training = self.manifest.training
        epochs = f'{training.epochs} epochs'
        if training.interrupted:
            epochs = f'stopped after {training.epochs} of {self.config.training.nepochs} epochs'
        if self.is_pretrained:
            return f'pretrained for its probe ({training.patterns_seen} simulated patterns, {epochs})'
        scans = [Path(str(scan)).name or str(scan) for scan in training.scans]
        return f'trained on {", ".join(scans)} ({training.patterns} patterns, {epochs})'

    def __str__(self) -> str:
        model = self.config.model
        written_by = self.manifest.backend
        return (
            f'{self.path.name}: {model.model_type}, {resolve_title(written_by)}, N = {model.N}, '
            f'gridsize {model.gridsize}, {self.training_summary}'
        )

    def check(self, scan: HostScan) -> None:
        """Raise ModelFileError if the patterns have another N than the model."""
        size = int(scan.patterns.shape[-1])
        if size != self.config.model.N:
            raise ModelFileError(
                f'The model {self.path.name} is for patterns of N = {self.config.model.N} pixels but this scan has '
                f'{size}; load a model trained for this N, or crop the patterns on loading.'
            )

    def adapt_config(self, config: Config) -> Config:
        """Configuration of a training from this model: its network, and the fine-tuning rate unless changed."""
        network = {key: getattr(self.config.model, key) for key in NETWORK_SETTINGS if key != 'N'}
        default = config.training.learning_rate == Config().training.learning_rate
        return config.merged({'model': network} | (FINE_TUNING if default else {}))

    def compare_training(self, scan: HostScan, config: Config) -> Iterator[Notice]:
        """Warnings where scan or settings differ from the training: gridsize, probe, its power, dose, overlap."""
        from ..physics.prepare import detected_share
        from ..physics.scaling import resolve_probe_power

        mine, asked = self.config.data.probe_power, config.data.probe_power
        yield from self._compare_settings(config)
        probe = check_probe(scan.product.probes.get_probe_no_opr().get_array())
        if (correlation := find_probe_mismatch(probe, self.model)) is not None:
            text = (
                f'The probe differs from the one that the model was trained with (correlation {correlation:.3f}); '
                'use that one, or train with this one, if the object looks wrong.'
            )
            yield Notice('probe_shape', text)
        counts = estimate_mean_counts(scan) / detected_share(probe, scan.bad_pixels)
        if not counts > 0:
            return
        trained = self.manifest.scaling.probe_power
        gauge = resolve_probe_power(probe, counts, mine if asked == 'auto' else asked)
        if asked == mine == 'auto' and not self.is_pretrained and gauge.choice != trained:
            text = (
                f'The power of the probe was {trained} in the training and is {gauge.choice} here (mean counts / '
                f'sum |P|^2 = {gauge.ratio:.3g}): the amplitude has another unit; set ProbePower if it should not.'
            )
            yield Notice('power_unit', text)
        here = TrainingRange.of_scan(counts, gauge.probe, scan.positions)
        yield from self.manifest.trained_for.list_departures(here)

    def _compare_settings(self, config: Config) -> Iterator[Notice]:
        """Warnings where the settings differ from those of the training."""
        mine, asked = self.config.model.gridsize, config.model.gridsize
        if mine != asked:
            text = (
                f'The model was trained with gridsize {mine} but the settings say {asked}; gridsize counts in training '
                'only, so the result is that of the model.'
            )
            yield Notice('gridsize', text)
        power, wanted = self.config.data.probe_power, config.data.probe_power
        if wanted not in ('auto', power):
            text = f'The model was trained with ProbePower {power} but the settings say {wanted}; {wanted} is used.'
            yield Notice('power_setting', text)


def estimate_mean_counts(scan: HostScan) -> float:
    """Mean counts of SAMPLE patterns spread over the scan, without pixels and frames that are no measurement.

    The worker mends the scan that it is given; what it will mask must not raise a warning before it starts.
    """
    from ..physics.inspection.pixels import hot_pixels
    from ..physics.inspection.values import impossible_values

    index = np.unique(np.linspace(0, len(scan.patterns) - 1, SAMPLE).astype(int))
    sample, shape = np.asarray(scan.patterns[index]), scan.patterns.shape[1:]
    bad = np.zeros(shape, bool) if scan.bad_pixels is None else np.asarray(scan.bad_pixels, dtype=bool)
    impossible = impossible_values(sample, bad)
    bad = bad | impossible.pixels
    counts = np.where(bad | ~np.isfinite(sample), 0.0, sample.astype(np.float64))[~impossible.frames]
    sums = counts[:, ~hot_pixels(counts.sum(axis=0), bad)].sum(axis=1)
    typical = np.median(sums)
    return float(sums[(sums > typical / OUTLIER) & (sums < typical * OUTLIER)].mean()) if typical > 0 else 0.0
