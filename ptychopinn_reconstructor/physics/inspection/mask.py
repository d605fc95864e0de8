"""Whether a mask of bad pixels is the wrong way round, or hides the beam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError

MANY = 0.5  # share of the pixels marked as bad from which a mask may be inverted
HIDDEN = 0.6  # share of the light under the mask
LEAST = 0.05  # share of the unscattered probe that must be seen
BRIGHTEST = 0.999  # quantile of the pixels to which single ones are limited: values under a mask may be anything


def is_inverted(patterns: NDArray[Any], bad_pixels: NDArray[np.bool_]) -> bool:
    """Whether (N, N) `bad_pixels` mark most pixels, and these hold the light of `patterns` (b, N, N), as stored."""
    if bad_pixels.mean() <= MANY or bad_pixels.all():
        return False
    values = patterns.astype(np.float64)
    values[~np.isfinite(values) | (values < 0) | (values >= 2**31 - 1)] = 0.0
    total = values.sum(axis=0)
    light = np.sqrt(np.minimum(total, np.quantile(total, BRIGHTEST)))
    return bool(light[bad_pixels].sum() > HIDDEN * light.sum() > 0)


def check_mask(bad_pixels: NDArray[np.bool_], probe_counts: NDArray[Any]) -> None:
    """Raise ScanError where the mask (N, N) hides the far field (N, N) of the unscattered probe."""
    seen = float(probe_counts[~bad_pixels].sum() / probe_counts.sum())
    if seen < LEAST:
        raise ScanError(
            f'bad_pixels marks {bad_pixels.mean():.1%} of the pixels as bad, and with them {1 - seen:.1%} of the beam; '
            'expected True only where a pixel is bad (or pass as_is if that is right).'
        )
