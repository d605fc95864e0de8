"""What a user asks for: train, reconstruct, refine, evaluate. Prepare, hand to a backend, stitch; events by callback.

Files are written by `outputs`; nothing here prints, and no framework is imported before the input has been checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backend import TrainingJob, arrays_on, load_backend
from .bundle import Bundle, open_bundle
from .config import Config
from .domain import Domain
from .errors import BundleError, ScanError
from .events import Emit, Event, ShouldStop, ignore, log, never
from .files import writable_folder
from .fine_tuning import not_worse
from .finishing import Result, finish
from .inference import Report, Start, network_object, together
from .io import ObjectFile
from .models import bundle_config, choose_probe, likeness_of_another, open_fitting, write_model
from .outputs import write_config
from .photons import with_photons
from .physics.metrics import Comparison, compare, default_margin
from .physics.prepare import PreparedScan, prepare_scan
from .physics.refine import RefineOptions
from .previews import Previews
from .reconstruction import Reconstruction
from .refining_first import flat_canvas, refined_first
from .scan import Scan
from .training_folder import keep_start, start_of
from .training_job import check_labels, complete_config, prepared_scans, splits_of
from .training_run import Trained, empty_note, gauge_note, procedural_patterns, trained_by


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
    """Train on scans and write checkpoints, metrics.csv, config.yaml and model.zip to `output_dir`.

    `initial` is a bundle whose weights are trained further (`config.FINE_TUNING` holds what suits that); a resumed
    training knows its own. `sources` say in the model what it was trained on, such as the scans' paths (by default
    their names). `preview_seconds` is the smallest time between two previews of the first scan's object, None: no
    previews; they change nothing in the model, but the CPU time that `max_cpu_seconds` limits holds theirs. With
    data.source procedural the first scan only says what the instrument is (pretraining.py).

    Raises ScanError, ConfigError, BackendError or DeviceError before any work on bad input, TrainingError on a loss
    that is not finite, Interrupted when stopped before the first epoch was complete. A later stop still writes the
    model, and says so in `trained.interrupted`; unless `keep_interrupted`, it is Interrupted too, at once.
    """
    if config.data.source == 'procedural':
        from .pretraining import instrument_of, pretrain

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
    found = [with_photons(scan, config.data.nphotons) for scan in whole]
    everything, told = [scan for scan, _ in found], [note for _, notes in found for note in notes]
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
    notes = (*first.notes, *told, *(note for scan in prepared for note in (gauge_note(scan), *empty_note(scan.scan))))
    for note in notes:
        log(emit, note)
    splits = splits_of(prepared, config, last_validates=validation is not None)
    keep_start(folder, began)
    write_config(folder / 'config.yaml', config)
    weights = start.weights if start else None
    job = TrainingJob(prepared, splits, config, folder, weights, resume, emit=emit, should_stop=should_stop)
    if config.data.source == 'mixed':
        job = replace(job, procedural=procedural_patterns(prepared[0].probe, prepared[0].scan.bad_pixels, config))
    trained = trained_by(backend, job, preview_seconds=preview_seconds, keep_interrupted=keep_interrupted)
    if weights is not None:
        trained, judged = not_worse(trained, weights, backend, config, prepared[0], emit=emit)
        notes = (*notes, *judged)
    remembered = _remembered(scans, prepared[: len(scans)], config, start, refined=first.probe is not None)
    named = list(sources) or [str(scan.metadata.get('name', 'unnamed')) for scan in scans]
    model = write_model(folder / 'model.zip', backend, config, prepared[0], trained, sources=named, **remembered)
    emit(Event('done', {'model': str(model), **trained.summary}))
    return Trained(model, trained, notes)


def _remembered(
    scans: Sequence[Scan], prepared: Sequence[PreparedScan], config: Config, start: Bundle | None, *, refined: bool
) -> dict[str, Any]:
    """What a model keeps of the scans it was trained on, as `write_model` takes it: their probes and their domain.

    `start` is what the training began from, `refined` says that the engine improved the first scan's probe for it.
    """
    changed = refined or config.training.probe_trainable or config.training.intensity_scale_trainable
    # A masked probe may look like another one.
    others = scans[0 if config.model.probe_mask else 1 :]
    domain = Domain.of_scans(*prepared)
    if start is not None:
        domain = domain.joined(Domain.from_json(start.manifest['training'].get('domain')))
    return {
        'guess': scans[0].probe if changed else None,
        'others': [scan.probe for scan in others if scan.probe is not None],
        'domain': domain,
    }


def reconstruct(
    scan: Scan,
    model: str | Path,
    config: Config,
    *,
    ensemble: Sequence[str | Path] = (),
    probe: NDArray[np.complex64] | None = None,
    refine_passes: int | None = None,
    scratch: Path | None = None,
    patches_file: Path | None = None,
    preview_seconds: float | None = None,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Result:
    """Reconstruct a scan with a trained model: network, phase synchronization, stitching, refinement.

    `config.inference` and `config.execution` count, the backend among them; the network is the bundle's. With further
    models, `ensemble`, refinement starts from the mean of all networks' objects, and what they differ is the
    uncertainty; `model` decides on the probe. With `inference.debug` the patches of `model` before stitching go to
    `patches_file`. `preview_seconds` is the smallest time between two previews, None: no previews. The first is due
    after the first batch, and the network's complete object is shown in any case.
    """
    scan, told = with_photons(scan, config.data.nphotons)
    bundle, described = open_for(model, scan)
    others = [(path, *open_for(path, scan)) for path in ensemble]
    chosen, source, notes = choose_probe(scan, bundle, probe)
    backend = load_backend(config.execution.backend)
    device = backend.resolve_device(config.execution.device)
    report = Report(notes=[*told, *notes])
    emit(Event('started', {'job': 'reconstruct', 'device': device, 'backend': backend.title}))
    with report.stage('prepare', len(scan)):
        prepared = prepared_for_model(scan, chosen, described, config, backend.stride, own=source == 'bundle')
        execution = {'execution': config.execution.model_dump(mode='json')}
        network = backend.network(described.merged(execution), bundle.weights, device)
    outside = Domain.from_json(bundle.manifest['training'].get('domain')).outside(Domain.of_scans(prepared))
    report.notes += [gauge_note(prepared), *empty_note(scan), *outside.values()]
    unlike = ['probe shape'] if likeness_of_another(chosen, bundle) is not None else []
    report.facts = {
        **_facts(prepared, backend.name, device, described.model.model_type, source),
        'model': str(model),
        'outside_training': [*unlike, *outside],
    }
    previews = Previews(emit, preview_seconds)
    arrays = arrays_on(backend, device)
    infer = partial(
        network_object, config=config, report=report, scratch=scratch, arrays=arrays, should_stop=should_stop
    )
    kept = patches_file if config.inference.debug else None
    starts = [infer(prepared, network, patches_file=kept, previews=previews)]
    if kept is not None:
        report.notes.append(f'The patches before stitching are in {kept}.')
    for path, other, its in others:
        report.notes += [f'{path}: {note}' for note in choose_probe(scan, other, chosen)[2]]
        its_network = backend.network(its.merged(execution), other.weights, device)
        starts.append(infer(replace(prepared, patch_size=its.model.patch_size), its_network, previews=previews))
        report.facts.setdefault('ensemble', []).append(str(path))
    start = together(starts, prepared)
    options = RefineOptions.for_scan(
        prepared,
        config.inference.refine_passes if refine_passes is None else refine_passes,
        prior=config.inference.refine_prior,
        refine_probe=config.inference.refine_probe,
        refine_positions=config.inference.refine_positions,
        wavefront=config.inference.wavefront,
        seed=described.training.seed,
    )
    losses = _losses(bundle)
    return finish(
        prepared,
        start,
        options,
        report,
        losses=losses,
        previews=previews,
        should_stop=should_stop,
        arrays=arrays,
    )


def prepared_for_model(
    scan: Scan, probe: NDArray[np.complex64], described: Config, config: Config, stride: int, *, own: bool
) -> PreparedScan:
    """A scan as a model with the configuration `described` sees it, for a backend with this stride.

    `own`: `probe` (modes, N, N) is the model's own, which is masked and scaled already. `config` is the user's.
    """
    model = described.model
    # A trained scale is part of the model's probe: rescaling that to the counts would undo it.
    scaled = own and (described.training.intensity_scale_trainable or model.probe_scale != 1)
    return prepare_scan(
        scan,
        probe=probe,
        mode='absolute' if scaled else config.data.probe_power,
        stride=stride,
        patch_size=model.patch_size,
        probe_mask=model.probe_mask and not own,
        probe_scale=1.0 if own else model.probe_scale,
    )


def _facts(prepared: PreparedScan, backend: str, device: str, model_type: str, probe_source: str) -> dict[str, Any]:
    """What metrics.json tells of how a reconstruction was made, by a network or by the engine alone."""
    return {
        'backend': backend,
        'device': device,
        'model_type': model_type,
        'probe_source': probe_source,
        'probe_power': prepared.gauge.choice,
        'power_ratio': float(prepared.gauge.ratio),
        'patterns': len(prepared),
        'N': prepared.n_pixels,
    }


def open_for(model: str | Path, scan: Scan) -> tuple[Bundle, Config]:
    """A model and its configuration; BundleError when it is for another size of patterns than the scan's."""
    bundle = open_bundle(model)
    described = bundle_config(bundle)
    if scan.n_pixels != described.model.N:
        raise BundleError(
            f'The model {model} is for patterns of N = {described.model.N} pixels but the scan has {scan.n_pixels}; '
            'use a model trained for this N.'
        )
    return bundle, described


def _losses(bundle: Bundle) -> tuple[tuple[int, float], ...]:
    pairs: Sequence[Sequence[float]] = bundle.manifest['training'].get('losses', [])
    return tuple((int(epoch), float(value)) for epoch, value in pairs)


def refine_scan(
    scan: Scan,
    config: Config,
    options: RefineOptions,
    *,
    probe: NDArray[np.complex64] | None = None,
    preview_seconds: float | None = None,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Result:
    """The classical engine alone, from an empty object: the honest baseline.

    `preview_seconds` is the smallest time between two previews, None: no previews.
    """
    emit(Event('started', {'job': 'refine', 'device': 'cpu', 'backend': 'numpy'}))
    report = Report()
    with report.stage('prepare', len(scan)):
        prepared = prepare_scan(scan, probe=probe, mode=config.data.probe_power)
    report.notes += [gauge_note(prepared), *empty_note(scan)]
    report.facts = _facts(prepared, 'numpy', 'cpu', 'engine', 'scan' if probe is None else 'given')
    previews, flat = Previews(emit, preview_seconds), flat_canvas(prepared)
    start = Start(flat, halves=(flat, flat) if config.inference.split_frc else ())
    result = finish(prepared, start, options, report, losses=(), previews=previews, should_stop=should_stop)
    return replace(result, network=None)


def evaluate(result: ObjectFile, truth: ObjectFile, *, margin: int | None = None, pistons: bool = False) -> Comparison:
    """Compare an object with the truth on the area of the scan, less `margin` pixels.

    None: N/16 of the patterns that either was made from, 4 where both are unknown. `pistons` removes the phase factor
    of each probe spot too, for scans without overlap.
    """
    positions = result.positions if result.positions is not None else truth.positions
    if positions is None:
        raise ScanError(
            'Neither file holds scan positions, which say where the objects lie; pass a product.h5 as RESULT.'
        )
    return compare(
        result.object,
        result.origin,
        truth.object,
        truth.origin,
        positions,
        margin=default_margin(result.n_pixels or truth.n_pixels) if margin is None else margin,
        pistons=pistons,
    )


def as_object_file(result: Reconstruction) -> ObjectFile:
    """A reconstruction as `evaluate` takes it."""
    side = int(result.probe.shape[-1])
    return ObjectFile(result.object, result.origin, result.positions, result.known_pixel_size, side)
