"""Training a network on scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from ..backend import select_arrays
from ..config import Config
from ..events import Emit, Notice, Previews, ShouldStop, ignore, never
from ..model_file.training_range import TrainingRange
from ..physics.prepare import PreparedScan
from ..reconstruction.notices import scan_notices
from ..reconstruction.usable_scan import make_usable_for_network
from ..scan import Scan
from .detector import find_background
from .instrument import resolve_instrument
from .pretraining import Pretraining
from .refining_first import InitialRefinement, refine_before_training
from .run import TrainingData, TrainingPlan, TrainingResult, TrainingRun, make_procedural_patterns, run_training
from .setup import check_labels, complete_config, prepare_scans, split_scans


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
) -> TrainingResult:
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
        scan, _ = make_usable_for_network(scans[0], config)
        plan = Pretraining.of(resolve_instrument(scan, config, Path(output_dir), resume=resume), config)
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
    """Plan of a training on `scans`; a `validation` scan is not one of them."""

    scans: tuple[Scan, ...]
    validation: Scan | None
    config: Config
    sources: tuple[str, ...]
    notices: tuple[Notice, ...]
    job: Literal['train'] = 'train'

    @classmethod
    def of(cls, scans: Sequence[Scan], config: Config, validation: Scan | None, sources: Sequence[str]) -> Self:
        """Plan with the scans mended and in counts; ScanError or ConfigError if these contradict the configuration."""
        all_scans = [*scans, *([validation] if validation is not None else [])]
        scaled, notices = zip(*(make_usable_for_network(scan, config) for scan in all_scans), strict=True)
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
        """Prepared scans, with probe and positions refined by the engine first where the settings ask for it."""
        first, config = self._refine_before_training(run), self.config
        placed = self.scans[0] if first.positions is None else replace(self.scans[0], positions=first.positions)
        all_scans = [placed, *self.scans[1:], *([self.validation] if self.validation is not None else [])]
        prepared, found = self._find_backgrounds(
            prepare_scans(all_scans, config, run.backend.stride, probe=first.probe), run
        )
        procedural = None
        if config.data.source == 'mixed':
            procedural = make_procedural_patterns(prepared[0].probe, prepared[0].scan.bad_pixels, config)
        of_scans = [notice for scan in prepared for notice in scan_notices(scan)]
        return TrainingData(
            scans=prepared,
            splits=split_scans(prepared, config, last_validates=self.validation is not None),
            notices=(*first.notices, *found, *self.notices, *of_scans),
            sources=self.sources,
            trained_for=self._find_training_range(prepared[: len(self.scans)], run),
            procedural=procedural,
            guess=self.scans[0].probe if self._is_probe_changed(first) else None,
            # A masked probe may look like another one.
            others=[s.probe for s in self.scans[0 if config.model.probe_mask else 1 :] if s.probe is not None],
        )

    def _refine_before_training(self, run: TrainingRun) -> InitialRefinement:
        return refine_before_training(
            self.scans[0],
            self.config,
            run.folder,
            resume=run.resume,
            previews=Previews(run.emit, run.preview_seconds),
            should_stop=run.should_stop,
            arrays=select_arrays(run.backend, run.device),
        )

    def _find_backgrounds(
        self, prepared: Sequence[PreparedScan], run: TrainingRun
    ) -> tuple[tuple[PreparedScan, ...], list[Notice]]:
        """The scans with the backgrounds that they have, and notices of them."""
        arrays = select_arrays(run.backend, run.device)
        found = [
            find_background(scan, self.config, Previews(run.emit, run.preview_seconds), run.should_stop, arrays)
            for scan in prepared
        ]
        return tuple(scan for scan, _ in found), [notice for _, notices in found for notice in notices]

    def _find_training_range(self, prepared: Sequence[PreparedScan], run: TrainingRun) -> TrainingRange:
        """Training range of these scans, joined with that of the model that the training starts from."""
        own = TrainingRange.of_scans(*prepared)
        return own if run.start is None else own.join(run.start.manifest.trained_for)

    def _is_probe_changed(self, first: InitialRefinement) -> bool:
        """Whether the engine or the training changes the first scan's probe."""
        training = self.config.training
        return first.probe is not None or training.probe_trainable or training.intensity_scale_trainable
