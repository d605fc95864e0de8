"""Training range of a model: dose, probe power and overlap, and whether a scan lies within it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ..events import Notice
from .entry import Entry, Range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..physics.prepare import PreparedScan

DOSE_FACTOR = 3.0  # outside of the training range, beyond which a notice is due
OVERLAP_MARGIN = 0.15  # the same for the overlap, in its own unit


class TrainingRange(Entry):
    """Smallest and largest dose, probe power and overlap of one or more scans; None where unknown.

    Parameters
    ----------
    counts
        Mean counts a pattern, what bad pixels have swallowed added: the dose.
    probe_power
        Sum over modes of abs(P)^2, counts.
    overlap
        1 - s / D of `physics.sampling`: the mean distance of neighbors against the size of the probe.
    """

    counts: Range | None
    probe_power: Range | None
    overlap: Range | None

    @classmethod
    def of_scan(cls, counts: float, probe: NDArray[np.complex64], positions: NDArray[np.float64]) -> Self:
        """Range of one scan: mean counts a pattern, probe (modes, N, N) in sqrt(counts), positions (n, 2) in pixels."""
        from ..physics.sampling import scan_overlap
        from ..physics.scaling import probe_power

        power, overlap = probe_power(probe), float(scan_overlap(positions, probe))
        return cls(counts=(counts, counts), probe_power=(power, power), overlap=(overlap, overlap))

    @classmethod
    def of_scans(cls, *prepared: PreparedScan) -> Self:
        """Smallest range that contains all scans, at least one."""
        from ..physics.prepare import incident_counts

        first, *others = (
            cls.of_scan(incident_counts(one.scan, one.probe), one.probe, one.positions) for one in prepared
        )
        return first.join(*others)

    def join(self, *others: TrainingRange) -> Self:
        """Smallest range that contains this one and the others."""
        parts: list[TrainingRange] = [self, *others]
        return type(self)(
            counts=_join_ranges([part.counts for part in parts]),
            probe_power=_join_ranges([part.probe_power for part in parts]),
            overlap=_join_ranges([part.overlap for part in parts]),
        )

    def widen(self, factor: float) -> Self:
        """Range widened by a factor of dose and with any overlap, as a pretraining covers it."""
        return type(self)(
            counts=_widen_range(self.counts, factor), probe_power=_widen_range(self.probe_power, factor), overlap=None
        )

    def list_departures(self, scan: TrainingRange) -> tuple[Notice, ...]:
        """Notices for dose (or probe power) and overlap of a scan outside of this range."""
        notices = []
        if _is_far(scan.counts, self.counts):
            text = (
                f'The patterns hold {_format_range(scan.counts)} counts on average but the model was trained on '
                f'{_format_range(self.counts)}; train on patterns of a similar dose if the object looks wrong.'
            )
            notices.append(Notice('dose', text))
        elif _is_far(scan.probe_power, self.probe_power):
            text = (
                f'The probe has a power of {_format_range(scan.probe_power)} counts but the model was trained with '
                f'{_format_range(self.probe_power)}; check the probe, or set probe_power, if the object looks wrong.'
            )
            notices.append(Notice('probe_power', text))
        if scan.overlap and self.overlap and scan.overlap[0] < self.overlap[0] - OVERLAP_MARGIN:
            text = (
                f'Neighboring spots overlap by {scan.overlap[0]:.0%} but the model was trained on '
                f'{" to ".join(f"{value:.0%}" for value in dict.fromkeys(self.overlap))}; '
                'scan more densely, or train on such scans, if the object looks wrong.'
            )
            notices.append(Notice('overlap', text))
        return tuple(notices)


def _join_ranges(ranges: list[Range | None]) -> Range | None:
    known = [entry for entry in ranges if entry is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _widen_range(entry: Range | None, factor: float) -> Range | None:
    return entry and (entry[0] / factor, entry[1] * factor)


def _is_far(scan: Range | None, trained: Range | None) -> bool:
    """Whether a scan's dose lies outside by more than DOSE_FACTOR."""
    if scan is None or trained is None:
        return False
    return scan[1] > trained[1] * DOSE_FACTOR or scan[0] * DOSE_FACTOR < trained[0]


def _format_range(entry: Range | None) -> str:
    return ' to '.join(dict.fromkeys(f'{value:.3g}' for value in entry or ()))
