"""Instrument of a pretraining: probe, photons per pattern and bad pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ConfigError, ScanError
from ..events import Notice
from ..io.members import NpzMembers
from ..model_file.probes import SAME_PROBE, correlate_probes
from ..physics.prepare import prepare_scan
from ..physics.probes import scale_to_power
from ..physics.scaling import ProbePower, probe_power
from ..reconstruction.notices import power_notice
from ..reconstruction.writing import write_probe
from ..scan import Scan, check_probe

INSTRUMENT = 'probe.npz'  # its file in the folder of a pretraining
LOWEST_PHOTONS = 10.0  # per pattern


@dataclass(frozen=True, eq=False)
class Instrument:
    """Probe (modes, N, N) in sqrt(counts) and bad pixels (N, N) of an instrument."""

    probe: NDArray[np.complex64]
    bad_pixels: NDArray[np.bool_] | None = None
    notice: Notice | None = None

    @classmethod
    def of_scan(cls, scan: Scan, mode: ProbePower = 'auto', photons: float | None = None) -> Instrument:
        """Instrument of a scan with a probe, whose power follows from the counts unless `photons` are given."""
        if photons is None:
            prepared = prepare_scan(scan, mode=mode)
            return cls(prepared.probe, scan.bad_pixels, power_notice(prepared))
        if scan.probe is None:
            raise ScanError('The scan has no probe (probeGuess); hand one in (probe=).')
        return replace(cls.of_probe(scan.probe, photons), bad_pixels=scan.bad_pixels)

    @classmethod
    def of_probe(cls, probe: NDArray[np.complex64], photons: float | None = None) -> Instrument:
        """Instrument of a probe and the photons incident per pattern (its power by default); ConfigError if too few."""
        power = probe_power(probe)
        if photons is None and power < LOWEST_PHOTONS:
            raise ConfigError(
                f'The power of the probe is {power:.4g}, which cannot be photons per pattern; hand in a scan, or the '
                'photons (photons=).'
            )
        origin = 'as given' if photons else "the probe's own power"
        notice = Notice('instrument', f'Photons per pattern: {photons or power:.4g}, {origin}.')
        return cls(scale_to_power(probe, photons or power).astype(np.complex64), None, notice)

    def write(self, path: Path) -> None:
        """Write `probe` and, if there are any, `bad_pixels` to an NPZ file."""
        write_probe(path, self.probe, **({} if self.bad_pixels is None else {'bad_pixels': self.bad_pixels}))


def read_instrument(folder: Path) -> Instrument:
    """Instrument of the pretraining in `folder`; ConfigError if there is none."""
    file = folder / INSTRUMENT
    if not file.exists():
        raise ConfigError(f'There is no pretraining to resume: {file} does not exist; leave out resume=True.')
    with NpzMembers(file) as members:
        bad = members.read('bad_pixels').astype(bool) if 'bad_pixels' in members else None
        notice = Notice('instrument', f'The probe is that of {file}.')
        return Instrument(check_probe(members.read('probe')), bad, notice)


def resolve_instrument(scan: Scan, config: Config, folder: Path, *, resume: bool) -> Instrument:
    """Instrument of a scan, or on resume that of the pretraining in `folder`; ConfigError if their probes differ."""
    if not resume:
        return Instrument.of_scan(scan, config.data.probe_power)
    stored = read_instrument(folder)
    probe = stored.probe if scan.probe is None else check_probe(scan.probe)
    likeness = correlate_probes(probe, stored.probe) if probe.shape == stored.probe.shape else 0.0
    if likeness < SAME_PROBE:
        raise ConfigError(
            f'The pretraining in {folder} is for another probe than that of the scan (correlation {likeness:.3f}); '
            'choose a scan with that probe, or pretrain anew in another folder.'
        )
    return stored
