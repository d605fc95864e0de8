"""Reconstruct a scan: with a trained network and the engine, or with the engine alone.

Files are written by `writing`; nothing here prints, and no framework is imported before the input has been checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, check_precision, check_requests, describe, load_backend, select_arrays
from ..config import Config
from ..errors import ConfigError, ModelFileError
from ..events import OUTSIDE_TRAINING, Emit, Notice, Previews, ShouldStop, Started, ignore, never, with_logging
from ..model_file.opening import Model, open_model
from ..model_file.probes import choose_probe
from ..model_file.trained import check_before_use
from ..model_file.training_range import TrainingRange
from ..physics.arrays import Arrays
from ..physics.prepare import PreparedScan, prepare_scan
from ..physics.processes import ALONE, Processes
from ..result import ProbeSource, RunInfo
from ..scan import Scan
from .blas import one_blas_thread
from .diagnosed import follow_diagnosis
from .earlier_result import EarlierResult, place_object, read_earlier_result
from .finish import Result, finish
from .initial_object import InitialObject, average_objects, flat_canvas
from .memory import foresee_memory
from .network_object import network_object
from .notices import scan_notices
from .refinement import Start, choose_device, classify_start, engine_arrays, reconstruction_threads, refinement_options
from .report import StageTimes
from .usable_scan import make_usable, make_usable_for_network, set_propagation


@one_blas_thread()
def reconstruct(
    scan: Scan,
    model: str | Path,
    config: Config,
    *,
    ensemble: Sequence[str | Path] = (),
    probe: NDArray[np.complex64] | None = None,
    scratch: Path | None = None,
    patches_file: Path | None = None,
    preview_seconds: float | None = None,
    processes: Processes = ALONE,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Result:
    """Reconstruct a scan with a trained model: network, phase synchronization, stitching, refinement.

    The sections `inference`, `refinement` and `execution` of `config` count; the network is the model's. With further
    models, `ensemble`, refinement starts from the mean of all networks' objects, and what they differ is the
    uncertainty; `model` decides on the probe. With `inference.debug` the patches of `model` before stitching go to
    `patches_file`. `preview_seconds` is the smallest time between two previews, None: no previews. The first is due
    after the first batch, and the network's complete object is shown in any case. Of several `processes` each is to be
    asked for the same; they divide the work, and all have the result.
    """
    emit = with_logging(emit)
    scan, changes = make_usable_for_network(scan, config)
    trained, *others = (open_for(path, scan) for path in (model, *ensemble))
    chosen, source, chosen_notices = choose_probe(scan, trained, probe)
    backend = load_backend(config.execution.backend)
    device, times = choose_device(backend, config.execution.device, processes), StageTimes()
    check_requests(describe(backend.name), config, training=False)
    check_precision(config.execution, device)
    scan, mended, config, diagnosed = follow_diagnosis(scan, chosen, config, emit, should_stop)
    chosen = chosen if mended is None else mended
    emit(Started('reconstruct', device, backend.title))
    with times.stage('prepare', len(scan)):
        prepared = prepare_for_model(scan, chosen, trained.config, config, backend.stride, own=source == 'model')
        foresee_memory(prepared)
    departures = trained.manifest.trained_for.list_departures(TrainingRange.of_scans(prepared))
    notices = [*changes, *diagnosed, *chosen_notices, *scan_notices(prepared), *departures]
    run = replace(
        run_info(prepared, backend.name, device, trained.config.model.model_type, source),
        model=str(model),
        ensemble=tuple(str(path) for path in ensemble),
        outside_training=tuple(notice.code for notice in notices if notice.code in OUTSIDE_TRAINING),
    )
    if config.inference.debug and processes.total > 1:
        raise ConfigError('inference.debug keeps the patches of one process; leave it out, or start one.')
    kept = patches_file if config.inference.debug else None
    if kept is not None:
        notices.append(Notice('patches_kept', f'The patches before stitching are in {kept}.'))
    for path, other in zip(ensemble, others, strict=True):
        notices += [
            Notice('further_model', f'{path}: {notice.text}') for notice in choose_probe(scan, other, chosen)[2]
        ]
    arrays = select_arrays(backend, device, reconstruction_threads(config), processes)
    previews = Previews(emit, preview_seconds)
    start = models_object(
        prepared,
        [*zip(map(Path, (model, *ensemble)), (trained, *others), strict=True)],
        backend,
        device,
        config,
        patches_file=kept,
        times=times,
        scratch=scratch or config.execution.scratch_dir,
        previews=previews,
        arrays=arrays,
        should_stop=should_stop,
    )
    begin = classify_start(prepared, start.canvas, arrays)
    options = refinement_options(config.refinement, prepared, start=begin, seed=trained.config.training.seed)
    return finish(
        prepared,
        start,
        options,
        run,
        times,
        notices=notices,
        losses=trained.manifest.training.losses,
        previews=previews,
        should_stop=should_stop,
        arrays=arrays,
    )


def models_object(
    prepared: PreparedScan,
    models: Sequence[tuple[Path, Model]],
    backend: Backend,
    device: str,
    config: Config,
    *,
    patches_file: Path | None,
    times: StageTimes,
    scratch: Path | None,
    previews: Previews,
    arrays: Arrays,
    should_stop: ShouldStop,
) -> InitialObject:
    """The mean of the objects of all models' networks, each with its file, which must pass its self-test.

    `patches_file` keeps the patches of the first. Raises VerificationError when a self-test is not reproduced.
    """
    infer = partial(network_object, config=config, times=times, scratch=scratch, arrays=arrays, should_stop=should_stop)
    execution = config.execution.model_dump(mode='json') | {'threads': reconstruction_threads(config)}
    objects = []
    for (path, model), file in zip(models, [patches_file, *[None] * (len(models) - 1)], strict=True):
        with times.stage('prepare', 0):
            network = backend.network(model.config.merged({'execution': execution}), model.weights, device)
        with times.stage('self_test', len(model.self_test.counts)):
            check_before_use(path, model, network, backend, device, config.execution.precision)
        own = replace(prepared, patch_size=model.config.model.patch_size)
        objects.append(infer(own, network, patches_file=file, previews=previews))
    return average_objects(objects, prepared)


def prepare_for_model(
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


def run_info(prepared: PreparedScan, backend: str, device: str, model_type: str, probe_source: ProbeSource) -> RunInfo:
    """How a reconstruction is made, by a network or by the engine alone, as far as it is known before it is made."""
    return RunInfo(
        backend=backend,
        device=device,
        model_type=model_type,
        probe_source=probe_source,
        probe_power=prepared.gauge.choice,
        power_ratio=float(prepared.gauge.ratio),
        patterns=len(prepared),
        n_pixels=prepared.n_pixels,
    )


def open_for(path: str | Path, scan: Scan) -> Model:
    """An opened model; ModelFileError when it is for another size of patterns than the scan's."""
    model = open_model(path)
    if scan.n_pixels != model.config.model.N:
        raise ModelFileError(
            f'The model {path} is for patterns of N = {model.config.model.N} pixels but the scan has {scan.n_pixels}; '
            'use a model trained for this N.'
        )
    return model


@one_blas_thread()
def refine_scan(
    scan: Scan,
    config: Config,
    *,
    probe: NDArray[np.complex64] | None = None,
    initial: str | Path | EarlierResult | None = None,
    preview_seconds: float | None = None,
    processes: Processes = ALONE,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Result:
    """The classical engine alone, from an empty object, or from that of an earlier result, `initial`.

    `initial` is a product or its folder, an NPZ or a CXI file, or already read; its probe is taken too, unless `probe`
    is given. The sections `refinement` and `execution` of `config` count, the seed of its training, and
    `inference.split_frc`. `preview_seconds` is the smallest time between two previews, None: no previews. `processes`
    as in `reconstruct`.
    """
    if initial is not None and config.inference.split_frc:
        raise ConfigError('split_frc compares halves, which would share the object they begin with; leave out one.')
    emit = with_logging(emit)
    arrays, computed_by = engine_arrays(config, processes)
    emit(Started('refine', arrays.device, computed_by))
    times = StageTimes()
    scan, changes = make_usable(set_propagation(scan, config.refinement), config.data)
    earlier = read_earlier_result(initial, scan) if isinstance(initial, str | Path) else initial
    named = initial.path if isinstance(initial, EarlierResult) else initial
    source: ProbeSource = 'scan' if probe is None else 'given'
    if probe is None and earlier is not None and earlier.probe is not None:
        probe, source = earlier.probe, 'earlier_result'
    scan, probe, config, diagnosed = follow_diagnosis(scan, probe, config, emit, should_stop)
    with times.stage('prepare', len(scan)):
        prepared = prepare_scan(scan, probe=probe, mode=config.data.probe_power)
        foresee_memory(prepared)
    run = run_info(prepared, computed_by, arrays.device, 'engine', source)
    run = replace(run, initial=None if named is None else str(named))
    start = _empty_object(prepared, config) if earlier is None else _earlier_object(prepared, earlier)
    begin: Start = 'empty' if earlier is None else classify_start(prepared, start.canvas, arrays)
    options = refinement_options(config.refinement, prepared, start=begin, seed=config.training.seed)
    result = finish(
        prepared,
        start,
        options,
        run,
        times,
        notices=[*changes, *diagnosed, *scan_notices(prepared)],
        previews=Previews(emit, preview_seconds),
        should_stop=should_stop,
        arrays=arrays,
    )
    return replace(result, network=None)


def _empty_object(prepared: PreparedScan, config: Config) -> InitialObject:
    flat = flat_canvas(prepared)
    return InitialObject(flat, halves=(flat, flat) if config.inference.split_frc else ())


def _earlier_object(prepared: PreparedScan, earlier: EarlierResult) -> InitialObject:
    canvas, notice = place_object(earlier, prepared)
    return InitialObject(canvas, notices=(notice,))
