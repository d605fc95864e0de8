"""Train a network on scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from ..backend import arrays_on
from ..config import Config
from ..events import Emit, Notice, Previews, ShouldStop, ignore, never
from ..model_file.training_range import TrainingRange
from ..physics.photons import with_photons
from ..physics.prepare import PreparedScan
from ..reconstruction.notices import scan_notices
from ..scan import Scan
from .instrument import instrument_of
from .pretraining import Pretraining
from .refining_first import RefinedFirst, refined_first
from .run import Trained, TrainingData, TrainingPlan, TrainingRun, procedural_patterns, run_training
from .setup import check_labels, complete_config, prepared_scans, splits_of


def train(
    scans: Sequence[Scan],
    config: Config,
    output_dir: str | Path,
    *,
    validation: Scan | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    sources: Sequence[str] = (),
    keep_interrupted: bool = True,
    preview_seconds: float | None = None,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Trained:
    """Train on scans and write checkpoints, metrics.csv, config.yaml and model.safetensors to `output_dir`.

    `initial` is a model whose weights are trained further (`config.FINE_TUNING` holds what suits that); a resumed
    training knows its own. `sources` say in the model what it was trained on, such as the scans' paths (by default
    their names). `preview_seconds` is the smallest time between two previews of the first scan's object, None: no
    previews; they change nothing in the model, but the CPU time that `max_cpu_seconds` limits holds theirs. With
    data.source procedural the first scan only says what the instrument is (pretraining.py).

    Raises ScanError, ConfigError, BackendError or DeviceError before any work on bad input, TrainingError on a loss
    that is not finite, Interrupted when stopped before the first epoch was complete. A later stop still writes the
    model, and says so in `trained.interrupted`; unless `keep_interrupted`, it is Interrupted too, at once.
    """
    plan: TrainingPlan
    if config.data.source == 'procedural':
        scan, _ = with_photons(scans[0], config.data.nphotons)
        plan = Pretraining.of(instrument_of(scan, config, Path(output_dir), resume=resume), config)
    else:
        plan = ScanTraining.of(scans, config, validation, sources)
    return run_training(
        plan,
        output_dir,
        initial=initial,
        resume=resume,
        keep_interrupted=keep_interrupted,
        preview_seconds=preview_seconds,
        emit=emit,
        should_stop=should_stop,
    )


@dataclass(frozen=True, eq=False)
class ScanTraining:
    """The plan of a training on `scans`, which the `validation` scan, if there is one, is not among."""

    scans: tuple[Scan, ...]
    validation: Scan | None
    config: Config
    sources: tuple[str, ...]
    notices: tuple[Notice, ...]
    job: Literal['train'] = 'train'

    @classmethod
    def of(cls, scans: Sequence[Scan], config: Config, validation: Scan | None, sources: Sequence[str]) -> Self:
        """The scans in counts; ScanError or ConfigError where they and the configuration do not fit each other."""
        everything = [*scans, *([validation] if validation is not None else [])]
        scaled, notices = zip(*(with_photons(scan, config.data.nphotons) for scan in everything), strict=True)
        config = complete_config(scaled, config)
        check_labels(scaled, config)
        return cls(
            scans=scaled[: len(scans)],
            validation=None if validation is None else scaled[-1],
            config=config,
            sources=tuple(sources) or tuple(str(scan.metadata.get('name', 'unnamed')) for scan in scans),
            notices=tuple(notice for own in notices for notice in own),
        )

    def prepare(self, run: TrainingRun) -> TrainingData:
        """The scans with the probe and the positions that the engine finds first, where it is asked to."""
        first, config = self._refined_first(run), self.config
        placed = self.scans[0] if first.positions is None else replace(self.scans[0], positions=first.positions)
        everything = [placed, *self.scans[1:], *([self.validation] if self.validation is not None else [])]
        prepared = prepared_scans(everything, config, run.backend.stride, probe=first.probe)
        mixed, one = config.data.source == 'mixed', prepared[0]
        return TrainingData(
            scans=prepared,
            splits=splits_of(prepared, config, last_validates=self.validation is not None),
            notices=(*first.notices, *self.notices, *(notice for scan in prepared for notice in scan_notices(scan))),
            sources=self.sources,
            trained_for=self._range(prepared[: len(self.scans)], run),
            procedural=procedural_patterns(one.probe, one.scan.bad_pixels, config) if mixed else None,
            guess=self.scans[0].probe if self._changes_the_probe(first) else None,
            # A masked probe may look like another one.
            others=[s.probe for s in self.scans[0 if config.model.probe_mask else 1 :] if s.probe is not None],
        )

    def _refined_first(self, run: TrainingRun) -> RefinedFirst:
        return refined_first(
            self.scans[0],
            self.config,
            run.folder,
            resume=run.resume,
            previews=Previews(run.emit, run.preview_seconds),
            should_stop=run.should_stop,
            arrays=arrays_on(run.backend, run.device),
        )

    def _range(self, prepared: Sequence[PreparedScan], run: TrainingRun) -> TrainingRange:
        """What the model is for: scans like these, and what the model that it starts from was for."""
        own = TrainingRange.of_scans(*prepared)
        return own if run.start is None else own.join(run.start.manifest.trained_for)

    def _changes_the_probe(self, first: RefinedFirst) -> bool:
        """Whether the model has another probe than the first scan, by the engine or by the training."""
        training = self.config.training
        return first.probe is not None or training.probe_trainable or training.intensity_scale_trainable
