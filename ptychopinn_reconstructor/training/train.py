"""Train a network on scans: prepare them, hand them to a backend, write the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backend import TrainingJob, arrays_on, load_backend
from ..config import Config
from ..events import Emit, Event, Previews, ShouldStop, ignore, log_notices, never
from ..io.atomic import writable_folder
from ..model_file.opening import Model, open_fitting
from ..model_file.trained import write_trained_model
from ..model_file.training_range import TrainingRange
from ..physics.photons import with_photons
from ..physics.prepare import PreparedScan
from ..reconstruction.notices import scan_notices
from ..reconstruction.writing import write_config
from ..scan import Scan
from ..training.fine_tuning import keep_better_model
from ..training.folder import MODEL, keep_start, start_of
from ..training.refining_first import refined_first
from ..training.run import Trained, procedural_patterns, trained_by
from ..training.setup import check_labels, complete_config, prepared_scans, splits_of


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
    if config.data.source == 'procedural':
        from ..training.pretraining import instrument_of, pretrain

        return pretrain(
            instrument_of(with_photons(scans[0], config.data.nphotons)[0], config, Path(output_dir), resume=resume),
            config,
            output_dir,
            initial=initial,
            resume=resume,
            keep_interrupted=keep_interrupted,
            preview_seconds=preview_seconds,
            emit=emit,
            should_stop=should_stop,
        )
    whole = [*scans, *([validation] if validation is not None else [])]
    scaled = [with_photons(scan, config.data.nphotons) for scan in whole]
    everything = [scan for scan, _ in scaled]
    scans = everything[: len(scans)]
    config = complete_config(everything, config)
    check_labels(everything, config)
    backend = load_backend(config.execution.backend)
    device = backend.resolve_device(config.execution.device)
    backend.check(config)
    began = start_of(Path(output_dir), initial, resume=resume)
    start = open_fitting(began, config) if began is not None else None
    folder = writable_folder(output_dir)
    emit(Event('started', {'job': 'train', 'device': device, 'backend': backend.title}))
    first = refined_first(
        scans[0],
        config,
        folder,
        resume=resume,
        previews=Previews(emit, preview_seconds),
        should_stop=should_stop,
        arrays=arrays_on(backend, device),
    )
    if first.positions is not None:
        everything[0] = replace(everything[0], positions=first.positions)
    prepared = prepared_scans(everything, config, backend.stride, probe=first.probe)
    notices = (*first.notices, *(n for _, own in scaled for n in own), *(n for s in prepared for n in scan_notices(s)))
    log_notices(emit, notices)
    splits = splits_of(prepared, config, last_validates=validation is not None)
    keep_start(folder, began)
    write_config(folder / 'config.yaml', config)
    weights = start.weights if start else None
    job = TrainingJob(prepared, splits, config, folder, weights, resume, emit=emit, should_stop=should_stop)
    if config.data.source == 'mixed':
        job = replace(job, procedural=procedural_patterns(prepared[0].probe, prepared[0].scan.bad_pixels, config))
    trained = trained_by(backend, job, preview_seconds=preview_seconds, keep_interrupted=keep_interrupted)
    if weights is not None:
        trained, kept = keep_better_model(trained, weights, backend, config, prepared[0], emit=emit)
        notices = (*notices, kept)
    remembered = _remembered(scans, prepared[: len(scans)], config, start, refined=first.probe is not None)
    named = list(sources) or [str(scan.metadata.get('name', 'unnamed')) for scan in scans]
    model = write_trained_model(folder / MODEL, backend, config, prepared[0], trained, sources=named, **remembered)
    emit(Event('done', {'model': str(model), **trained.summary}))
    return Trained(model, trained, notices)


def _remembered(
    scans: Sequence[Scan], prepared: Sequence[PreparedScan], config: Config, start: Model | None, *, refined: bool
) -> dict[str, Any]:
    """What a model keeps of the scans it was trained on, for `write_trained_model`: their probes and their range.

    `start` is what the training began from, `refined` says that the engine improved the first scan's probe for it.
    """
    changed = refined or config.training.probe_trainable or config.training.intensity_scale_trainable
    # A masked probe may look like another one.
    others = scans[0 if config.model.probe_mask else 1 :]
    trained_for = TrainingRange.of_scans(*prepared)
    if start is not None:
        trained_for = trained_for.join(start.manifest.trained_for)
    return {
        'guess': scans[0].probe if changed else None,
        'others': [scan.probe for scan in others if scan.probe is not None],
        'trained_for': trained_for,
    }
