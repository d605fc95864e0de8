"""Findings of a diagnosis: what is wrong, how sure that is, which figure says so, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..events import Notice
from ..scan import Scan

FindingCode = Literal[
    # of the patterns
    'mask', 'bad_pixels', 'saturated', 'single_hits', 'center', 'count_unit', 'background', 'blur', 'dose',
    # of the frames
    'bad_frames', 'flicker', 'several_samples',
    # of the positions
    'orientation', 'position_unit', 'position_scale', 'position_outliers', 'positions_inaccurate',
    'positions_doubled', 'overlap',
    # of the probe
    'no_probe', 'probe', 'probe_modes', 'probe_power', 'probe_window', 'probe_drift', 'unlike_model',
    # of the whole
    'unexplained',
]  # fmt: skip
Certainty = Literal['certain', 'likely', 'possible']


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a scan.

    Parameters
    ----------
    code
        Its kind, for programs.
    finding
        What was found, a sentence with the figure that says so.
    certainty
        'certain', 'likely' or 'possible'.
    remedy
        What to do, a sentence; with the option or setting that does it, where there is one.
    mended
        Whether the mended scan is without it.
    figures
        The numbers behind it, by their names.
    """

    code: FindingCode
    finding: str
    certainty: Certainty
    remedy: str
    mended: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types by the names of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)} | {'figures': dict(self.figures)}


@dataclass(frozen=True)
class TrialRecord:
    """A trial reconstruction: what it assumed, and its misfit: in units of counting noise, and beyond it per count."""

    assumption: str
    noise_ratio: float
    excess: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types by the names of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, eq=False)
class TrialImages:
    """A trial to look at: the object (H, W) where the scan's part lies, and mean patterns (N, N) in counts."""

    title: str
    object: NDArray[np.complex64]
    measured: NDArray[np.float32]
    predicted: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What is wrong with a scan, the first cause first; nothing where `findings` is empty.

    Parameters
    ----------
    findings
        What is wrong.
    trials
        The trial reconstructions, in the order in which they were made.
    scan
        The scan mended as far as the findings say.
    figures
        What was measured of the scan, by names.
    notices
        What else the reading of the scan has said.
    cpu_seconds
        What the trials have cost.
    images
        The first trial, and the last one with all that was mended, to look at.
    """

    findings: tuple[Finding, ...]
    trials: tuple[TrialRecord, ...]
    scan: Scan
    figures: Mapping[str, float]
    notices: tuple[Notice, ...] = ()
    cpu_seconds: float = 0.0
    images: tuple[TrialImages, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: all but the scan and the images."""
        return {
            'findings': [finding.to_json() for finding in self.findings],
            'figures': dict(self.figures),
            'trials': [trial.to_json() for trial in self.trials],
            'notes': [notice.text for notice in self.notices],
            'cpu_seconds': round(self.cpu_seconds, 2),
        }
