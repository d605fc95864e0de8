"""Which probe is whose: that of a scan, that of a model, and whether they are the same."""

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


def same_probe(a: Scan, b: Scan) -> bool:
    """Whether two scans come with the same probe, number by number: what is better for one is better for the other."""
    return a.probe is not None and b.probe is not None and np.array_equal(a.probe, b.probe)


def probe_digest(probe: NDArray[np.complex64]) -> str:
    """SHA-256 of a probe as it stands in a file, whatever its container."""
    return hashlib.sha256(np.ascontiguousarray(probe, dtype=np.complex64).tobytes()).hexdigest()


def probe_likeness(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> float:
    """Normalized correlation of the strongest modes, 0 to 1, whatever their power and global phase."""
    one, two = (p[np.argmax((np.abs(p) ** 2).sum(axis=(1, 2)))].astype(np.complex128) for p in (a, b))
    return float(abs(np.vdot(one, two)) / (np.linalg.norm(one) * np.linalg.norm(two)))


def choose_probe(
    scan: Scan, model: Model, given: NDArray[np.complex64] | None
) -> tuple[NDArray[np.complex64], Literal['given', 'scan', 'model'], list[Notice]]:
    """The probe of a reconstruction, where it is from, and warnings: the one given, the scan's, or the model's.

    A scan's own probe gives way to the model's when it is the guess that the training has refined.
    """
    if given is not None:
        return _fitting_probe(given, scan, model), 'given', _unlike(given, model, 'The probe given')
    if scan.probe is None:
        notice = Notice('probe_of_model', 'The scan has no probe: the one of the model is used.')
        return _fitting_probe(model.probe, scan, model), 'model', [notice]
    if probe_digest(scan.probe) == model.manifest.scaling.refined_from:
        text = "The scan's probe is the guess that the training refined: the refined probe of the model is used."
        return model.probe, 'model', [Notice('refined_probe', text)]
    return _fitting_probe(scan.probe, scan, model), 'scan', _unlike(scan.probe, model, "The scan's probe")


def likeness_of_another(probe: NDArray[np.complex64], model: Model) -> float | None:
    """The correlation of a probe (modes, N, N) with that of the training; None where it is one of the training's."""
    scaling = model.manifest.scaling
    likeness = probe_likeness(probe, model.probe)
    known = (scaling.refined_from, *scaling.other_probes)
    return None if likeness >= SAME_PROBE or probe_digest(probe) in known else likeness


def _unlike(probe: NDArray[np.complex64], model: Model, what: str) -> list[Notice]:
    """A warning when a probe is not the one of the training."""
    likeness = likeness_of_another(probe, model)
    if likeness is None:
        return []
    text = (
        f'{what} differs from the one the model was trained with (correlation {likeness:.3f}); '
        'pass another with --probe FILE[:KEY] if that is not meant.'
    )
    return [Notice('probe_shape', text)]


def _fitting_probe(probe: NDArray[np.complex64], scan: Scan, model: Model) -> NDArray[np.complex64]:
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
