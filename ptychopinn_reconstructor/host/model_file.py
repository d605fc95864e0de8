"""The model that a reconstructor infers with, opened without any framework, and whether it fits a scan."""

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

SAMPLE = 32  # patterns whose counts are looked at before starting
MODEL_SUFFIX = '.safetensors'
MODEL_FILTER = f'PtychoPINN Model (*{MODEL_SUFFIX})'


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model and the path of its file.

    `written` is the time of its last change, in nanoseconds, since a training replaces the file.
    """

    path: Path
    model: Model
    written: int

    @classmethod
    def open(cls, path: Path) -> ModelFile:
        """Open and check all of a model file; ModelFileError in one sentence."""
        model = open_model(path)
        written = path.stat().st_mtime_ns
        return cls(path.absolute(), model, written)

    def is_at(self, path: Path | None) -> bool:
        """Whether a path still leads to this model."""
        return path == self.path and path.is_file() and path.stat().st_mtime_ns == self.written

    @property
    def config(self) -> Config:
        """The configuration that it was trained with."""
        return self.model.config

    @property
    def manifest(self) -> Manifest:
        """What the model says of itself."""
        return self.model.manifest

    @property
    def is_pretrained(self) -> bool:
        """Whether it has learned from simulated objects under a probe instead of from scans."""
        return self.config.data.source == 'procedural'

    @property
    def learned_from(self) -> str:
        """What it was trained on, and for how long."""
        training = self.manifest.training
        if self.is_pretrained:
            return f'pretrained for its probe ({training.patterns_seen} simulated patterns, {training.epochs} epochs)'
        scans = [Path(str(scan)).name or str(scan) for scan in training.scans]
        return f'trained on {", ".join(scans)} ({training.patterns} patterns, {training.epochs} epochs)'

    def __str__(self) -> str:
        model = self.config.model
        written_by = self.manifest.backend
        return (
            f'{self.path.name}: {model.model_type}, {resolve_title(written_by)}, N = {model.N}, '
            f'gridsize {model.gridsize}, {self.learned_from}'
        )

    def check(self, scan: HostScan) -> None:
        """ModelFileError when the model cannot work on this scan at all: another N, another number of probe modes."""
        self.check_size(scan)
        modes, mine = int(scan.product.probes.num_incoherent_modes), len(self.model.probe)
        if modes != mine:
            raise ModelFileError(
                f'The model {self.path.name} was trained with {mine} probe mode(s) but this probe has {modes}; '
                'use a probe with as many modes, or train anew.'
            )

    def check_size(self, scan: HostScan) -> None:
        """ModelFileError when the model is for patterns of another N."""
        size = int(scan.patterns.shape[-1])
        if size != self.config.model.N:
            raise ModelFileError(
                f'The model {self.path.name} is for patterns of N = {self.config.model.N} pixels but this scan has '
                f'{size}; load a model trained for this N, or crop the patterns on loading.'
            )

    def as_start(self, config: Config) -> Config:
        """The settings of a training that starts from this model: its network, and a rate for that unless changed."""
        network = {key: getattr(self.config.model, key) for key in NETWORK_SETTINGS if key != 'N'}
        default = config.training.learning_rate == Config().training.learning_rate
        return config.merged({'model': network} | (FINE_TUNING if default else {}))

    def notices(self, scan: HostScan, config: Config) -> Iterator[Notice]:
        """What is different from the training, as warnings: gridsize, probe, its power, dose, overlap."""
        from ..physics.prepare import detected_share
        from ..physics.scaling import resolve_probe_power

        mine, asked = self.config.data.probe_power, config.data.probe_power
        yield from self._unlike_settings(config)
        probe = check_probe(scan.product.probes.get_probe_no_opr().get_array())
        if (likeness := find_probe_mismatch(probe, self.model)) is not None:
            text = (
                f'The probe differs from the one that the model was trained with (correlation {likeness:.3f}); '
                'use that one, or train with this one, if the object looks wrong.'
            )
            yield Notice('probe_shape', text)
        counts = mean_counts(scan) / detected_share(probe, scan.bad_pixels)
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

    def _unlike_settings(self, config: Config) -> Iterator[Notice]:
        """Where the settings ask for something else than the training had."""
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


def mean_counts(scan: HostScan) -> float:
    """Mean counts of a few patterns over the scan; bad pixels are zero in what the host hands over."""
    index = np.unique(np.linspace(0, len(scan.patterns) - 1, SAMPLE).astype(int))
    sample = np.asarray(scan.patterns[index], dtype=np.float64)
    if scan.bad_pixels is not None:
        sample[:, np.asarray(scan.bad_pixels, dtype=bool)] = 0.0
    return float(sample.sum() / len(index))
