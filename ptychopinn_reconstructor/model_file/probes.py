"""Comparison and choice of probes: given, of the scan, of the model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError, ScanError
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
        return _check_probe(given, scan, model), 'given', _warn_of_mismatch(given, model, 'The probe given')
    if scan.probe is None:
        notice = Notice('probe_of_model', 'The scan has no probe: the one of the model is used.')
        return _check_probe(model.probe, scan, model), 'model', [notice]
    if hash_probe(scan.probe) == model.manifest.scaling.refined_from:
        text = "The scan's probe is the guess that the training refined: the refined probe of the model is used."
        return model.probe, 'model', [Notice('refined_probe', text)]
    return _check_probe(scan.probe, scan, model), 'scan', _warn_of_mismatch(scan.probe, model, "The scan's probe")


def find_probe_mismatch(probe: NDArray[np.complex64], model: Model) -> float | None:
    """Correlation of a probe (modes, N, N) with the training's; None if it is one of the training's probes."""
    scaling = model.manifest.scaling
    correlation = correlate_probes(probe, model.probe)
    known = (scaling.refined_from, *scaling.other_probes)
    return None if correlation >= SAME_PROBE or hash_probe(probe) in known else correlation


def _warn_of_mismatch(probe: NDArray[np.complex64], model: Model, what: str) -> list[Notice]:
    """Warning if a probe is not one of the training's; else an empty list."""
    correlation = find_probe_mismatch(probe, model)
    if correlation is None:
        return []
    text = (
        f'{what} differs from the one the model was trained with (correlation {correlation:.3f}); '
        'pass another with --probe FILE[:KEY] if that is not meant.'
    )
    return [Notice('probe_shape', text)]


def _check_probe(probe: NDArray[np.complex64], scan: Scan, model: Model) -> NDArray[np.complex64]:
    if probe.shape[1] != scan.n_pixels:
        raise ScanError(
            f'The probe is {probe.shape[1]} pixels wide but the patterns are {scan.n_pixels}; pass another.'
        )
    if len(probe) != len(model.probe):
        raise ModelFileError(
            f'The model was trained with {len(model.probe)} probe mode(s) but the probe here has {len(probe)}; '
            'pass a probe with as many modes, or train anew.'
        )
    return probe
