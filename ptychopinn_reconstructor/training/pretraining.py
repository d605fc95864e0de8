"""Pretraining for an instrument: supervised, on procedural objects under its own probe, with its counting statistics.

No scan is trained on: afterwards a new sample needs no training at all, or a short one that starts from the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..config import Config, ModelConfig
from ..errors import ConfigError
from ..events import Emit, Notice, ShouldStop, ignore, never
from ..model_file.training_range import TrainingRange
from ..physics.grouping import hold_out_all
from ..physics.prepare import prepare_scan
from ..physics.scaling import mask_probe, probe_power
from ..physics.simulation.objects import random_object
from ..physics.simulation.procedural import OBJECT_SIZE
from ..physics.simulation.simulate import simulate
from ..scan import Scan, check_probe
from .instrument import INSTRUMENT, LOWEST_PHOTONS, Instrument
from .run import TrainingData, TrainingResult, TrainingRun, make_procedural_patterns, run_training

SOURCE = 'procedural objects'
HELD_OUT_SCANS, HELD_OUT_POSITIONS = 6, 64  # simulated scans of other objects, which choose the best epoch


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
) -> TrainingResult:
    """Pretrain a network for an instrument; writes the files of `train` and the instrument's probe.npz.

    Photons per pattern are drawn from the probe's power divided by training.dose_range to it times that. `initial` is
    a model whose weights are trained further. Raises ConfigError, BackendError or DeviceError before any work on bad
    input, TrainingError on a loss that is not finite, Interrupted when stopped before the first epoch was complete.
    """
    return run_training(
        Pretraining.of(instrument, config),
        output_dir,
        initial=initial,
        resume=resume,
        keep_interrupted=keep_interrupted,
        preview_seconds=preview_seconds,
        emit=emit,
        should_stop=should_stop,
    )


@dataclass(frozen=True, eq=False)
class Pretraining:
    """Plan of a pretraining; `probe` (modes, N, N) is the instrument's as the model applies it."""

    instrument: Instrument
    probe: NDArray[np.complex64]
    config: Config
    job: Literal['pretrain'] = 'pretrain'

    @classmethod
    def of(cls, instrument: Instrument, config: Config) -> Self:
        """Plan for an instrument; ConfigError if instrument and configuration contradict each other."""
        probe = check_probe(instrument.probe)
        config = complete_pretraining_config(config, probe)
        return cls(instrument, prepare_trained_probe(probe, config.model), config)

    def prepare(self, run: TrainingRun) -> TrainingData:
        """Procedural training patterns, drawn on the fly, and simulated validation scans."""
        config, stride = self.config, run.backend.stride
        held_out = tuple(
            prepare_scan(scan, mode='absolute', stride=stride, patch_size=config.model.patch_size)
            for scan in simulate_held_out_scans(self.probe, config)
        )
        self.instrument.write(run.folder / INSTRUMENT)
        text = f'Pretraining on {SOURCE}, {format_photons(self.probe, config)} photons a pattern.'
        known = self.instrument.notice
        return TrainingData(
            scans=held_out,
            splits=tuple(hold_out_all(len(scan)) for scan in held_out),
            notices=(*([] if known is None else [known]), Notice('pretraining', text)),
            sources=[SOURCE],
            trained_for=TrainingRange.of_scans(*held_out).widen(config.training.dose_range),
            procedural=make_procedural_patterns(self.probe, self.instrument.bad_pixels, config),
            measured=False,
        )


def prepare_trained_probe(probe: NDArray[np.complex64], model: ModelConfig) -> NDArray[np.complex64]:
    """Probe (modes, N, N) masked and scaled as `model` asks for (specs/settings_defined.md)."""
    whole = mask_probe(probe) if model.probe_mask else probe
    return np.asarray(whole * model.probe_scale, dtype=np.complex64)


def complete_pretraining_config(config: Config, probe: NDArray[np.complex64]) -> Config:
    """Configuration with N of the probe and supervised training; ConfigError if it contradicts them."""
    if config.model.N not in (None, probe.shape[-1]):
        raise ConfigError(f'N is {config.model.N} but the probe is {probe.shape[-1]} pixels wide; leave N out.')
    power = probe_power(probe)
    if power / config.training.dose_range < LOWEST_PHOTONS:
        raise ConfigError(
            f'The probe holds {power:.4g} photons a pattern, divided by dose_range too few to learn from; say how many '
            'there are (photons=), or lower dose_range.'
        )
    settled = {'N': probe.shape[-1], 'model_type': 'supervised'}
    return config.merged({'model': settled, 'data': {'source': 'procedural'}})


def format_photons(probe: NDArray[np.complex64], config: Config) -> str:
    """Text that states the range of photons per pattern."""
    power, spread = probe_power(probe), config.training.dose_range
    return f'{power:.3g}' if spread == 1 else f'{power / spread:.3g} to {power * spread:.3g}'


def simulate_held_out_scans(probe: NDArray[np.complex64], config: Config) -> list[Scan]:
    """Simulated scans of held-out objects, for validation and previews."""
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
