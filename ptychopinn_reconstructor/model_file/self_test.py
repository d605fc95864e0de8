"""Self-test of a model: recorded network input and output that any backend must reproduce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError, VerificationError
from .manifest import MAX_TOLERANCE

MAX_PATTERNS = 256


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A recorded input and output of the network.

    Parameters
    ----------
    counts
        (b, N, N) float32 diffraction patterns in counts, zero frequency at [N//2, N//2].
    patches
        (b, n, n) complex64 object patches that the trained network gave for them.
    tolerance
        Largest difference allowed on replay, in units of the amplitude range max|patches|; at most 1e-5.
    """

    counts: NDArray[np.float32]
    patches: NDArray[np.complex64]
    tolerance: float = MAX_TOLERANCE

    def __post_init__(self) -> None:
        counts, patches = np.asarray(self.counts), np.asarray(self.patches)
        if counts.dtype != np.float32 or counts.ndim != 3 or counts.shape[1] != counts.shape[2] or not counts.size:
            raise ModelFileError(f'The self-test input is {counts.dtype} {counts.shape}; it must be float32 (b, N, N).')
        if patches.dtype != np.complex64 or patches.ndim != 3 or patches.shape[1] != patches.shape[2]:
            raise ModelFileError(
                f'The self-test output is {patches.dtype} {patches.shape}; it must be complex64 (b, n, n).'
            )
        if len(patches) != len(counts) or not patches.size or len(counts) > MAX_PATTERNS:
            raise ModelFileError(
                f'The self-test has {len(counts)} inputs and {len(patches)} outputs; record one for each, '
                f'{MAX_PATTERNS} at most.'
            )
        if not np.isfinite(counts).all() or counts.min() < 0:
            raise ModelFileError('The self-test input holds negative values, NaN or infinity; record measured counts.')
        if not np.isfinite(patches).all() or not self.amplitude_range > 0:
            raise ModelFileError("The self-test output is zero, NaN or infinite; record a trained network's output.")
        if not 0 < self.tolerance <= MAX_TOLERANCE:
            raise ModelFileError(f'The self-test tolerance is {self.tolerance}; it must be in (0, {MAX_TOLERANCE}].')

    @property
    def amplitude_range(self) -> float:
        """Largest recorded amplitude, the unit of the tolerance."""
        return float(np.abs(self.patches).max())

    def difference(self, patches: NDArray[Any]) -> float:
        """Largest absolute difference from the recorded output, over the amplitude range; NaN stays NaN.

        Raises VerificationError when the shape of `patches` differs.
        """
        if np.shape(patches) != self.patches.shape:
            raise VerificationError(
                f'The self-test gave patches of shape {np.shape(patches)} where {self.patches.shape} are recorded; '
                'the backend does not build the network that this model file describes.'
            )
        return float(np.abs(np.asarray(patches) - self.patches).max()) / self.amplitude_range

    def distance_to(self, fresh_patches: NDArray[Any]) -> float:
        """The difference from a freshly initialized network's output; VerificationError where there is none."""
        distance = self.difference(fresh_patches)
        if not 0 < distance < np.inf:
            raise VerificationError(
                f"The trained network's output differs from a fresh network's by {distance:.2g} of its amplitude "
                'range: its weights were not trained or not exported; train longer.'
            )
        return distance
