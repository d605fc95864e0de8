"""Whether a scan's probe is the one that a model was trained with."""

from __future__ import annotations

from collections.abc import Iterator

from ..model_file.opening import Model
from ..model_file.probes import SAME_PROBE, correlate_probes, find_probe_mismatch
from ..scan import Scan
from .finding import Finding
from .turns import TURNS


def look_at_model(scan: Scan, model: Model) -> Iterator[Finding]:
    """A probe of another size or shape than the model's; turned or complex-conjugated ones are recognized."""
    if scan.probe is None:
        return
    side = model.probe.shape[-1]
    if side != scan.n_pixels:
        yield Finding(
            'unlike_model',
            f'The model was trained on patterns of {side} pixels; those of the scan have {scan.n_pixels}.',
            'certain',
            'Crop or bin the patterns to the size of the model, or train on such scans.',
        )
        return
    correlation = find_probe_mismatch(scan.probe, model)
    if correlation is not None:
        yield Finding(
            'unlike_model',
            f'The probe of the scan is not that of the model (correlation {correlation:.3f}){_explain(scan, model)}.',
            'certain',
            'Pass the probe of the model with --probe if it is that of the scan; otherwise train on this scan, or '
            'pretrain for its probe.',
            figures={'correlation': correlation},
        )


def _explain(scan: Scan, model: Model) -> str:
    assert scan.probe is not None
    if correlate_probes(scan.probe.conj(), model.probe) > SAME_PROBE:
        return ', but its complex conjugate'
    for turn in TURNS:
        if correlate_probes(turn.images(scan.probe), model.probe) > SAME_PROBE:
            return f', but that {turn.name}'
    return ''
