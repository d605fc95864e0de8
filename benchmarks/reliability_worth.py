"""What the figures of reliability are worth: a reconstruction's own uncertainty and resolution beside its true errors.

Prints JSON: for each number of passes how the uncertainty correlates with the errors of the phase's details (what is
smoother than 12 px taken out) and with all phase errors, magnitudes smoothed by 5 px; the rms of uncertainty and
details; and the resolution in pixels that two halves claim, beside the one at which the object and the truth agree
to 0.5, which 1/7 of half data stands for.

    python benchmarks/reliability_worth.py SCAN TRUTH MODEL [--probe FILE:KEY] [--margin 4]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.io import ObjectFile, read_object, read_scan
from ptychopinn_reconstructor.physics.scoring.metrics import high_pass
from ptychopinn_reconstructor.reconstruction.evaluate import as_object_file, evaluate
from ptychopinn_reconstructor.reconstruction.reconstruct import reconstruct
from ptychopinn_reconstructor.scan import Scan

SMOOTHING = 5.0  # pixels
PASSES = {'0': 0, '2': 2, 'auto': None}  # by their name in the table


def correlation(uncertainty: NDArray[np.floating], errors: NDArray[np.float64]) -> float:
    """Pearson's, of both magnitudes (H, W) smoothed, where the uncertainty is known."""
    known = np.isfinite(uncertainty)
    weight = ndimage.gaussian_filter(known.astype(np.float64), SMOOTHING) + 1e-9
    a, b = (ndimage.gaussian_filter(np.where(known, np.abs(x), 0.0), SMOOTHING) / weight for x in (uncertainty, errors))
    return float(np.corrcoef(a[known], b[known])[0, 1])


def row(scan: Scan, truth: ObjectFile, model: Path, passes: int | None, margin: int) -> dict[str, Any]:
    """The figures after so many passes; None: as many as the scan asks for."""
    config = Config().merged({'inference': {'split_frc': True}, 'refinement': {'passes': passes}})
    result = reconstruct(scan, model, config, probe=scan.probe)
    found = evaluate(as_object_file(result.reconstruction), truth, margin=margin)
    reliability = result.report.reliability
    assert reliability.uncertainty is not None and reliability.split is not None
    shifts = np.rint(np.subtract(reliability.origin, truth.origin)).astype(int)
    rows, cols = (
        slice(window.start + shift, window.stop + shift) for window, shift in zip(found.area, shifts, strict=True)
    )
    uncertainty = reliability.uncertainty[rows, cols]
    phase = np.angle(found.result * found.truth.conj())
    details, own = high_pass(phase), reliability.split.to_json()['resolution']
    return {
        'passes': result.report.run.refine_passes,
        'correlation_details': correlation(uncertainty, details),
        'correlation_all': correlation(uncertainty, phase),
        'uncertainty_rms': float(np.sqrt(np.nanmean(uncertainty**2))),
        'details_rms': float(np.sqrt(np.mean(details**2))),
        'split_seventh_px': own['seventh']['pixels'],
        'split_half_bit_px': own['half_bit']['pixels'],
        'truth_half_px': found.frc.to_json()['resolution']['half']['pixels'],
    }


def main() -> None:
    """Print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('scan', 'truth', 'model'):
        parser.add_argument(name, type=Path)
    parser.add_argument('--probe')
    parser.add_argument('--margin', type=int, default=4)
    options = parser.parse_args()
    scan, truth = read_scan(options.scan, probe=options.probe).scan, read_object(options.truth)
    found = {text: row(scan, truth, options.model, number, options.margin) for text, number in PASSES.items()}
    json.dump(found, sys.stdout)


if __name__ == '__main__':
    main()
