"""Comparison and choice of probes: given, of the scan, of the model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from ..scan import Scan

if TYPE_CHECKING:
    from .opening import Model

SAME_PROBE = 0.98  # normalized correlation above which two probes are the same


def have_same_probe(a: Scan, b: Scan) -> bool:
    """Whether two scans have element-wise equal probes, so that one refined probe serves both."""
    return a.probe is not None and b.probe is not None and np.array_equal(a.probe, b.probe)


def hash_probe(probe: NDArray[np.complex64]) -> str:
    """SHA-256 of the complex64 values of a probe, independent of the file format."""
    return hashlib.sha256(np.ascontiguousarray(probe, dtype=np.complex64).tobytes()).hexdigest()


def correlate_probes(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> float:
    """Normalized correlation (0 to 1) of the strongest modes, invariant to power and global phase."""
    one, two = (p[np.argmax((np.abs(p) ** 2).sum(axis=(1, 2)))].astype(np.complex128) for p in (a, b))
    return float(abs(np.vdot(one, two)) / (np.linalg.norm(one) * np.linalg.norm(two)))


def choose_probe(
    scan: Scan, model: Model, given: NDArray[np.complex64] | None
) -> tuple[NDArray[np.complex64], Literal['given', 'scan', 'model'], list[Notice]]:
    """Probe of a reconstruction, its source and warnings: the given one, else the scan's, else the model's.

    A scan's own probe gives way to the model's when it is the guess that the training has refined.
    """
    if given is not None:
        return _check_size(given, scan), 'given', _compare_with_training(given, model, 'The probe given')
    if scan.probe is None:
        notice = Notice('probe_of_model', 'The scan has no probe: the one of the model is used.')
        return _check_size(model.probe, scan), 'model', [notice]
    if hash_probe(scan.probe) == model.manifest.scaling.refined_from:
        text = "The scan's probe is the guess that the training refined: the refined probe of the model is used."
        return model.probe, 'model', [Notice('refined_probe', text)]
    return _check_size(scan.probe, scan), 'scan', _compare_with_training(scan.probe, model, "The scan's probe")


def find_probe_mismatch(probe: NDArray[np.complex64], model: Model) -> float | None:
    """Correlation of a probe (modes, N, N) with the training's; None if it is one of the training's probes."""
    scaling = model.manifest.scaling
    correlation = correlate_probes(probe, model.probe)
    known = (scaling.refined_from, *scaling.other_probes)
    return None if correlation >= SAME_PROBE or hash_probe(probe) in known else correlation


def _compare_with_training(probe: NDArray[np.complex64], model: Model, what: str) -> list[Notice]:
    """Notices where a probe is not one of the training's, or of another number of modes."""
    notices, correlation = [], find_probe_mismatch(probe, model)
    if correlation is not None:
        text = (
            f'{what} differs from the one the model was trained with (correlation {correlation:.3f}); '
            'hand in another (probe=) if that is not meant.'
        )
        notices.append(Notice('probe_shape', text))
    if len(probe) != len(model.probe):
        text = (
            f'{what} has {len(probe)} mode(s), that of the training {len(model.probe)}: the network is guided by the '
            'strongest one, the engine uses all.'
        )
        notices.append(Notice('probe_modes', text))
    return notices


def _check_size(probe: NDArray[np.complex64], scan: Scan) -> NDArray[np.complex64]:
    if probe.shape[1] != scan.n_pixels:
        raise ScanError(
            f'The probe is {probe.shape[1]} pixels wide but the patterns are {scan.n_pixels}; pass another.'
        )
    return probe
