"""Memory of a reconstruction, computed from its canvas and the number of its patterns before the work begins."""

from __future__ import annotations

import numpy as np

from ..io.memory import require_memory
from ..physics.prepare import PreparedScan

ITEM = 8  # bytes of a complex64
CANVASES = 13  # arrays of the canvas' size at the peak: measured 12 of the engine alone, 13 after a network
IN_MEMORY = 512 * 2**20  # bytes of patches kept in memory; more go to a scratch file
PER_PATTERN = 2000  # bytes at the peak, when phases are synchronized, a dozen pairs each; measured 1300 to 1630


def foresee_memory(prepared: PreparedScan) -> None:
    """Raise ScanError with the numbers when a scan needs more memory than is available.

    Names the pattern that is farthest from the others, since one lost position alone can ask for the whole of it.
    """
    height, width = prepared.layout.shape
    patches = min(IN_MEMORY, len(prepared) * prepared.patch_size**2 * ITEM) + len(prepared) * PER_PATTERN
    corners = prepared.layout.corners
    apart = np.abs(corners - np.median(corners, axis=0)).max(axis=1)
    farthest = int(np.argmax(apart))
    require_memory(
        CANVASES * ITEM * height * width + patches,
        f'The object of {height} x {width} pixels that the positions span',
        f'leave out pattern {int(prepared.order[farthest])}, {apart[farthest]:.0f} pixels from the middle of all, if '
        'its position is wrong, or use a larger machine',
    )
