"""Pretraining for an instrument: supervised, on procedural objects under its own probe, with its counting statistics.

No scan is trained on: afterwards a new sample needs no training at all, or a short one that starts from the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backend import TrainingJob, load_backend
from ..config import Config, ModelConfig
from ..errors import ConfigError, ScanError
from ..events import Emit, Event, Notice, ShouldStop, ignore, log_notices, never
from ..io.atomic import writable_folder
from ..io.members import Members
from ..model_file.opening import open_fitting
from ..model_file.probes import SAME_PROBE, probe_likeness
from ..model_file.trained import write_trained_model
from ..model_file.training_range import TrainingRange
from ..physics.grouping import hold_out_all
from ..physics.prepare import prepare_scan
from ..physics.probes import scale_to_power
from ..physics.scaling import ProbePower, mask_probe, probe_power
from ..physics.simulation.objects import random_object
from ..physics.simulation.procedural import OBJECT_SIZE
from ..physics.simulation.simulate import simulate
from ..reconstruction.notices import power_notice
from ..reconstruction.writing import write_config, write_probe
from ..scan import Scan, checked_probe
from .folder import MODEL, keep_start, start_of
from .run import Trained, procedural_patterns, trained_by

SOURCE, INSTRUMENT = 'procedural objects', 'probe.npz'
HELD_OUT_SCANS, HELD_OUT_POSITIONS = 6, 64  # simulated scans of other objects, which choose the best epoch
LOWEST_PHOTONS = 10.0


@dataclass(frozen=True, eq=False)
class Instrument:
    """What a pretraining has to know: the probe (modes, N, N) in sqrt(counts) and bad pixels (N, N)."""

    probe: NDArray[np.complex64]
    bad_pixels: NDArray[np.bool_] | None = None
    notice: Notice | None = None

    @classmethod
    def of_scan(cls, scan: Scan, mode: ProbePower = 'auto', photons: float | None = None) -> Instrument:
        """That of a scan with a probe: the power of its probe is resolved by its counts, unless `photons` are given."""
        if photons is None:
            prepared = prepare_scan(scan, mode=mode)
            return cls(prepared.probe, scan.bad_pixels, power_notice(prepared))
        if scan.probe is None:
            raise ScanError('The scan has no probe (probeGuess); pass one with --probe FILE[:KEY].')
        return replace(cls.of_probe(scan.probe, photons), bad_pixels=scan.bad_pixels)

    @classmethod
    def of_probe(cls, probe: NDArray[np.complex64], photons: float | None = None) -> Instrument:
        """A probe and the photons incident per pattern, its own power unless given; ConfigError when too few."""
        power = probe_power(probe)
        if photons is None and power < LOWEST_PHOTONS:
            raise ConfigError(
                f'The power of the probe is {power:.4g}, which cannot be photons per pattern; pass SCAN or --photons.'
            )
        origin = 'as given' if photons else "the probe's own power"
        notice = Notice('instrument', f'Photons per pattern: {photons or power:.4g}, {origin}.')
        return cls(scale_to_power(probe, photons or power).astype(np.complex64), None, notice)

    def write(self, path: Path) -> None:
        """As NPZ: `probe` and, if there are any, `bad_pixels`."""
        write_probe(path, self.probe, **({} if self.bad_pixels is None else {'bad_pixels': self.bad_pixels}))


def read_instrument(folder: Path) -> Instrument:
    """The instrument of the pretraining in `folder`; ConfigError when there is none."""
    file = folder / INSTRUMENT
    if not file.exists():
        raise ConfigError(f'There is no pretraining to resume: {file} does not exist; leave out --resume.')
    with Members(file) as members:
        bad = members.read('bad_pixels').astype(bool) if 'bad_pixels' in members else None
        notice = Notice('instrument', f'The probe is that of {file}.')
        return Instrument(checked_probe(members.read('probe')), bad, notice)


def instrument_of(scan: Scan, config: Config, folder: Path, *, resume: bool) -> Instrument:
    """That of a scan; of the pretraining in `folder` when that is resumed, ConfigError when it is of another probe."""
    if not resume:
        return Instrument.of_scan(scan, config.data.probe_power)
    stored = read_instrument(folder)
    probe = stored.probe if scan.probe is None else checked_probe(scan.probe)
    likeness = probe_likeness(probe, stored.probe) if probe.shape == stored.probe.shape else 0.0
    if likeness < SAME_PROBE:
        raise ConfigError(
            f'The pretraining in {folder} is for another probe than that of the scan (correlation {likeness:.3f}); '
            'choose a scan with that probe, or pretrain anew in another folder.'
        )
    return stored


def pretrain(
    instrument: Instrument,
    config: Config,
    output_dir: str | Path,
    *,
    initial: str | Path | None = None,
    resume: bool = False,
    keep_interrupted: bool = True,
    preview_seconds: float | None = None,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Trained:
    """Pretrain a network for an instrument; writes what `train` writes, and the instrument's probe.npz.

    Photons per pattern are drawn from the probe's power divided by training.dose_range to it times that. `initial` is
    a model whose weights are trained further. Raises ConfigError, BackendError or DeviceError before any work on bad
    input, TrainingError on a loss that is not finite, Interrupted when stopped before the first epoch was complete.
    """
    probe = checked_probe(instrument.probe)
    config = pretraining_config(config, probe)
    probe = trained_probe(probe, config.model)
    backend = load_backend(config.execution.backend)
    device = backend.resolve_device(config.execution.device)
    backend.check(config)
    began = start_of(Path(output_dir), initial, resume=resume)
    start = open_fitting(began, config) if began is not None else None
    held_out = [
        prepare_scan(scan, mode='absolute', stride=backend.stride, patch_size=config.model.patch_size)
        for scan in held_out_scans(probe, config)
    ]
    folder = writable_folder(output_dir)
    emit(Event('started', {'job': 'pretrain', 'device': device, 'backend': backend.title}))
    text = f'Pretraining on {SOURCE}, {photons_of(probe, config)} photons a pattern.'
    notices = (*([instrument.notice] if instrument.notice else []), Notice('pretraining', text))
    log_notices(emit, notices)
    keep_start(folder, began)
    write_config(folder / 'config.yaml', config)
    instrument.write(folder / INSTRUMENT)
    job = TrainingJob(
        tuple(held_out),
        tuple(hold_out_all(len(scan)) for scan in held_out),
        config,
        folder,
        start.weights if start else None,
        resume,
        emit=emit,
        should_stop=should_stop,
        procedural=procedural_patterns(probe, instrument.bad_pixels, config),
    )
    trained = trained_by(backend, job, preview_seconds=preview_seconds, keep_interrupted=keep_interrupted)
    model = write_trained_model(
        folder / MODEL,
        backend,
        config,
        held_out[0],
        trained,
        sources=[SOURCE],
        trained_for=TrainingRange.of_scans(*held_out).widen(config.training.dose_range),
    )
    emit(Event('done', {'model': str(model), **trained.summary}))
    return Trained(model, trained, notices)


def trained_probe(probe: NDArray[np.complex64], model: ModelConfig) -> NDArray[np.complex64]:
    """The probe as `model` has it: masked and scaled, as that of a scan will be (specs/settings_defined.md)."""
    whole = mask_probe(probe) if model.probe_mask else probe
    return np.asarray(whole * model.probe_scale, dtype=np.complex64)


def pretraining_config(config: Config, probe: NDArray[np.complex64]) -> Config:
    """The configuration with what a pretraining settles: N, supervised; ConfigError when that contradicts it."""
    if config.model.N not in (None, probe.shape[-1]):
        raise ConfigError(f'N is {config.model.N} but the probe is {probe.shape[-1]} pixels wide; leave N out.')
    power = probe_power(probe)
    if power / config.training.dose_range < LOWEST_PHOTONS:
        raise ConfigError(
            f'The probe holds {power:.4g} photons a pattern, divided by dose_range too few to learn from; say how many '
            'there are (--photons), or lower dose_range.'
        )
    settled = {'N': probe.shape[-1], 'model_type': 'supervised'}
    return config.merged({'model': settled, 'data': {'source': 'procedural'}})


def photons_of(probe: NDArray[np.complex64], config: Config) -> str:
    """The range of photons per pattern, for the user."""
    power, spread = probe_power(probe), config.training.dose_range
    return f'{power:.3g}' if spread == 1 else f'{power / spread:.3g} to {power * spread:.3g}'


def held_out_scans(probe: NDArray[np.complex64], config: Config) -> list[Scan]:
    """Simulated scans of objects that are not trained on, to choose the best epoch and to show how it goes."""
    n_pixels, seed = probe.shape[-1], config.training.seed
    rngs = [np.random.default_rng([seed, 2, number]) for number in range(HELD_OUT_SCANS)]
    return [
        simulate(
            positions=HELD_OUT_POSITIONS,
            step=n_pixels / 8,
            photons=probe_power(probe),
            object=random_object(rng, (OBJECT_SIZE * n_pixels,) * 2),
            probe=probe,
            modes=len(probe),
            seed=seed,
        )
        for rng in rngs
    ]
