"""Preparation of a training: complete configuration, prepared scans, split into training and validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..backend.batches import count_region_patterns
from ..config import Config
from ..errors import ConfigError, ScanError
from ..model_file.probes import have_same_probe
from ..physics.grouping import Split, check_oversampling, hold_out, hold_out_all, region_size
from ..physics.prepare import PreparedScan, prepare_scan
from ..scan import Scan


def complete_config(scans: Sequence[Scan], config: Config) -> Config:
    """Configuration with N set to the size of the patterns, and supervised for a pretraining.

    Raises ConfigError or ScanError if scans and configuration contradict each other.
    """
    sizes = sorted({scan.n_pixels for scan in scans})
    if len(sizes) > 1:
        raise ScanError(
            f'The scans have patterns of {" and ".join(map(str, sizes))} pixels; train on one size at a time.'
        )
    if config.model.N not in (None, sizes[0]):
        raise ConfigError(
            f'N is {config.model.N} but the patterns are {sizes[0]} pixels wide; leave N out or crop the scan.'
        )
    settled = {'N': sizes[0]} | ({'model_type': 'supervised'} if config.data.source == 'procedural' else {})
    return config.merged({'model': settled})


def split_scan(prepared: PreparedScan, config: Config) -> Split:
    """Indices of training and validation patterns; ConfigError if there are fewer than the configuration needs."""
    model, data = config.model, config.data
    check_oversampling(data.n_groups, len(prepared), model.gridsize, data.neighbor_count)
    size = region_size(model.gridsize, data.neighbor_count)
    split = hold_out(prepared.positions, data.validation_fraction, size, config.training.seed)
    if data.n_subsample is not None:
        if data.n_subsample > len(prepared):
            raise ConfigError(f'n_subsample is {data.n_subsample} but the scan has {len(prepared)} patterns; lower it.')
        drawn = np.random.default_rng(config.training.seed).choice(len(prepared), data.n_subsample, replace=False)
        split = Split(np.intersect1d(split.training, drawn), split.validation)
    needed = count_region_patterns(config)
    if len(split.training) < needed:
        raise ConfigError(
            f'A region needs {needed} patterns but there are {len(split.training)} to train on; '
            'lower gridsize or neighbor_count, or train on more.'
        )
    return split


def check_labels(scans: Sequence[Scan], config: Config) -> None:
    """Raise ScanError if a training is supervised and a scan has no object."""
    if config.model.model_type == 'supervised' and any(scan.object is None for scan in scans):
        raise ScanError(
            'Supervised training needs an object (objectGuess) in every scan file, and one has none; '
            'add it, or train with model_type pinn.'
        )


def prepare_scans(
    scans: Sequence[Scan], config: Config, stride: int, *, probe: NDArray[np.complex64] | None
) -> tuple[PreparedScan, ...]:
    """Prepared scans for a backend whose networks need sizes that are multiples of `stride`.

    `probe` (modes, N, N) replaces the first scan's, and that of every scan with the same one.
    """
    prepared = tuple(
        prepare_scan(
            scan,
            probe=probe if have_same_probe(scan, scans[0]) else None,
            mode=config.data.probe_power,
            stride=stride,
            patch_size=config.model.patch_size,
            probe_mask=config.model.probe_mask,
            probe_scale=config.model.probe_scale,
        )
        for scan in scans
    )
    if config.data.positions_provided:
        return prepared
    return tuple(scan.round_positions() for scan in prepared)


def split_scans(prepared: Sequence[PreparedScan], config: Config, *, last_validates: bool) -> tuple[Split, ...]:
    """Split of each scan; with `last_validates` all patterns of the last one are held out, and none of the others."""
    if not last_validates:
        return tuple(split_scan(scan, config) for scan in prepared)
    splits = [split_scan(scan, config) for scan in prepared[:-1]]
    return (*(Split(np.union1d(*s), s.validation[:0]) for s in splits), hold_out_all(len(prepared[-1])))
