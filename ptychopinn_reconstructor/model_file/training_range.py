"""What a model was trained for, kept in its bundle (`training.domain`), and whether a scan lies within it.

Every entry is a range, smallest and largest value; one that is unknown (an older bundle) is None and warns of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..events import Notice
from ..physics.prepare import PreparedScan, incident_counts
from ..physics.sampling import scan_overlap
from ..physics.scaling import probe_power

DOSE_FACTOR = 3.0  # beyond the range of the training, from which on a word is due
OVERLAP_MARGIN = 0.15  # the same for the overlap, in its own unit
Range = tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """What was trained on, or what one scan is.

    Parameters
    ----------
    counts
        Mean counts a pattern, what bad pixels have swallowed added: the dose.
    probe_power
        Sum over modes of abs(P)^2, counts.
    overlap
        1 - s / D of `physics.sampling`: the mean distance of neighbors against the size of the probe.
    """

    counts: Range | None = None
    probe_power: Range | None = None
    overlap: Range | None = None

    @classmethod
    def of(cls, counts: float, probe: NDArray[np.complex64], positions: NDArray[np.float64]) -> Self:
        """That of one scan: mean counts a pattern, probe (modes, N, N) in sqrt(counts), positions (n, 2) in pixels."""
        power, overlap = probe_power(probe), scan_overlap(positions, probe)
        return cls((counts, counts), (power, power), (overlap, overlap))

    @classmethod
    def of_scans(cls, *prepared: PreparedScan) -> Self:
        """That of scans that are trained on together."""
        return cls().joined(
            *(cls.of(incident_counts(one.scan, one.probe), one.probe, one.positions) for one in prepared)
        )

    @classmethod
    def from_json(cls, values: object) -> Self:
        """From `training.domain` of a manifest; what is missing or not a range of two numbers is unknown."""
        there = values if isinstance(values, Mapping) else {}
        return cls(**{field.name: _range(there.get(field.name)) for field in fields(cls)})

    def joined(self, *others: Domain) -> Self:
        """The smallest domain that holds this one and the others."""
        parts: list[Domain] = [self, *others]
        return type(self)(**{name: _hull([part.entry(name) for part in parts]) for name in self.names})

    @property
    def names(self) -> list[str]:
        """The entries' names."""
        return [field.name for field in fields(self)]

    def entry(self, name: str) -> Range | None:
        """An entry by its name."""
        found: Range | None = getattr(self, name)
        return found

    def to_json(self) -> dict[str, list[float] | None]:
        """Plain JSON types, for the manifest."""
        return {name: None if (entry := self.entry(name)) is None else list(entry) for name in self.names}

    def outside(self, scan: Domain) -> tuple[Notice, ...]:
        """In what a scan lies outside of this domain: a notice for each of dose (or probe power) and overlap."""
        notices = []
        if _far(scan.counts, self.counts, DOSE_FACTOR):
            text = (
                f'The patterns hold {_text(scan.counts)} counts on average but the model was trained on '
                f'{_text(self.counts)}; train on patterns of a similar dose if the object looks wrong.'
            )
            notices.append(Notice('dose', text))
        elif _far(scan.probe_power, self.probe_power, DOSE_FACTOR):
            text = (
                f'The probe has a power of {_text(scan.probe_power)} counts but the model was trained with '
                f'{_text(self.probe_power)}; check the probe, or set probe_power, if the object looks wrong.'
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


def _range(value: object) -> Range | None:
    numbers = value if isinstance(value, list | tuple) and len(value) == 2 else ()
    if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        return None
    low, high = (float(n) for n in numbers)
    return (low, high) if low <= high else None


def _hull(ranges: list[Range | None]) -> Range | None:
    known = [entry for entry in ranges if entry is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _far(scan: Range | None, trained: Range | None, factor: float) -> bool:
    """Whether a scan's value lies further outside than by `factor`."""
    if scan is None or trained is None:
        return False
    return scan[1] > trained[1] * factor or scan[0] * factor < trained[0]


def _text(entry: Range | None) -> str:
    return ' to '.join(dict.fromkeys(f'{value:.3g}' for value in entry or ()))
