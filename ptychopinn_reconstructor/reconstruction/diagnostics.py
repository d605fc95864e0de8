"""How far a reconstruction can be trusted, from the data alone: no truth is needed.

| what        | computed from                                                      | where                          |
|-------------|--------------------------------------------------------------------|--------------------------------|
| residual, R | predicted and measured patterns (physics/residual.py)              | at each scan position          |
| coverage    | probe power summed over all positions (physics/coverage.py)        | canvas, yes or no              |
| uncertainty | of a refined object: its detail, what the patterns still ask for,  | canvas, radius of 90 % error   |
|             | what the last pass has changed (physics/scoring/error_bars.py)     | bars of the transmission       |
|             | without refinement: how far overlapping patches of the network, or | canvas, standard deviation of  |
|             | the objects of several networks, disagree                          | the complex transmission       |
| split FRC   | two halves of the patterns, each reconstructed (scoring/halves.py) | one curve                      |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..physics.geometry import scan_area
from ..physics.illumination import COVERED, illuminated_area, illumination
from ..physics.prepare import PreparedScan
from ..physics.residual import Residual
from ..physics.scoring.frc import FRC, describe_half_data
from ..physics.scoring.halves import halves_frc, split_interleaved

Refine = Callable[[PreparedScan, NDArray[np.complex64]], NDArray[np.complex64]]
Source = Literal['result', 'patches', 'models']
HIGH = 95  # percentile of the uncertainty that is reported beside the median


@dataclass(frozen=True, eq=False)
class Reliability:
    """What the data say about a result.

    Parameters
    ----------
    misfit
        Of each pattern, in the order of the scan file.
    positions, origin, pixel_size
        Of the result: array index = position + origin; (height, width) in meters or None.
    coverage
        (H, W), true where the object was illuminated.
    uncertainty, source
        (H, W) in units of transmission, NaN where unknown, and of what. Of the 'result': the radius about a refined
        object that holds the true transmission in 90 % of the pixels. Without refinement a standard deviation, of the
        network's overlapping 'patches' or the objects of an ensemble's 'models'. None where neither is known.
    learned_change
        (H, W) by how much a learned step has changed the transmission, None where none was taken.
    split
        Fourier ring correlation of two halves, None where not asked for.
    outside
        In what the scan lies outside of what the model was trained for (events.OUTSIDE_TRAINING); empty where it does
        not, or no one knows.
    from_network
        Whether it began with a network's object, which two halves then share.
    """

    misfit: Residual
    positions: NDArray[np.float64]
    origin: tuple[float, float]
    pixel_size: tuple[float, float] | None
    coverage: NDArray[np.bool_]
    uncertainty: NDArray[np.float32] | None = None
    source: Source = 'patches'
    learned_change: NDArray[np.float32] | None = None
    split: FRC | None = None
    outside: tuple[str, ...] = ()
    from_network: bool = False

    @property
    def area(self) -> tuple[slice, slice]:
        """The canvas between the outermost patch centers."""
        return scan_area(self.positions, self.origin)

    def uncertain(self, percentile: float) -> float | None:
        """A percentile of the uncertainty over the covered part of the scan's area."""
        if self.uncertainty is None:
            return None
        values = self.uncertainty[self.area][self.coverage[self.area]]
        known = values[np.isfinite(values)]
        return float(np.percentile(known, percentile)) if known.size else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, as metrics.json holds them under `reliability` (specs/data_contracts.md, section 6)."""
        per_pattern = self.misfit.per_pattern
        return {
            'residual': self.misfit.overall,
            'r_factor': self.misfit.r_factor,
            'residual_median': float(np.median(per_pattern)),
            'residual_largest': float(per_pattern.max()),
            'residual_largest_pattern': int(per_pattern.argmax()),
            'coverage_threshold': COVERED,
            'covered_share': float(self.coverage[self.area].mean()) if self.coverage[self.area].size else 0.0,
            'uncertainty_of': None if self.uncertainty is None else self.source,
            'uncertainty_median': self.uncertain(50),
            f'uncertainty_p{HIGH}': self.uncertain(HIGH),
            'split_frc': None if self.split is None else self.split.to_json(self.pixel_size),
            'outside_training': list(self.outside),
        }

    def line(self) -> str:
        """One line for a product's comments."""
        parts = [f'residual {self.misfit.overall:.4g}', f'R {self.misfit.r_factor:.3g}']
        if (median := self.uncertain(50)) is not None:
            refined = self.source == 'result'
            what = f'90 % error bars of {median:.2g}' if refined else f'{self.source} disagree by {median:.2g}'
            parts.append(f'{what} (median)')
        if self.split is not None:
            found = describe_half_data(self.split.to_json(self.pixel_size)['resolution'])
            shared = 'the network' if self.from_network else 'the probe'
            parts.append(f'half-data FRC {found} (both halves share {shared})')
        if self.outside:
            parts.append(f'outside of the training: {", ".join(self.outside).replace("_", " ")}')
        return ', '.join(parts)


def assess(
    prepared: PreparedScan,
    misfit: Residual,
    probe: NDArray[np.complex64],
    *,
    uncertainty: NDArray[np.float32] | None = None,
    source: Source = 'patches',
    halves: Sequence[NDArray[np.complex64]] = (),
    outside: Sequence[str] = (),
    from_network: bool = False,
) -> Reliability:
    """Gather what is known about a result on the canvas of `prepared`.

    `misfit` is in canonical order; `probe` (modes, N, N) is that of the result; `halves` are the objects of two halves
    of the patterns, none where no split was asked for.
    """
    scan, layout = prepared.scan, prepared.layout
    reliability = Reliability(
        misfit=misfit.ordered(prepared.order),
        positions=scan.positions,
        origin=layout.origin,
        pixel_size=scan.pixel_size,
        coverage=illuminated_area(illumination(layout, probe)),
        uncertainty=uncertainty,
        source=source,
        outside=tuple(outside),
        from_network=from_network,
    )
    return replace(reliability, split=_split(halves, reliability.area)) if halves else reliability


def refined_halves(
    prepared: PreparedScan, halves: Sequence[NDArray[np.complex64]], refine: Refine
) -> tuple[NDArray[np.complex64], ...]:
    """Both halves' objects after `refine(part of the scan, object)`."""
    parts = (prepared.part(index) for index in split_interleaved(len(prepared)))
    return tuple(refine(part, half) for part, half in zip(parts, halves, strict=True))


def _split(halves: Sequence[NDArray[np.complex64]], area: tuple[slice, slice]) -> FRC | None:
    one, other = halves
    try:
        return halves_frc(one, other, area)
    except InputError:  # an area of less than four pixels has no shells
        return None
