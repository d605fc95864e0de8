"""Several objects of one scan as one: their mean, and how far they disagree.

Objects of different networks differ by a global phase, which no pattern determines; each is turned to the mean of those
before it, weighted by the light that has fallen on a pixel. What the networks have in common, such as a blind spot of
their training, their disagreement does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mean_object(
    objects: Sequence[NDArray[np.complex64]], light: NDArray[np.float32]
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Mean and standard deviation (of a sample) of two or more objects (H, W) on one canvas, their phases aligned.

    `light` (H, W) weighs the pixels in the alignment.
    """
    total = objects[0].astype(np.complex128)
    turned = [total.copy()]
    for other in objects[1:]:
        phase = np.angle(np.sum(np.conj(total) * other * light))
        turned.append(other * np.exp(-1j * phase))
        total += turned[-1]
    mean = total / len(objects)
    square = sum(np.abs(one - mean) ** 2 for one in turned)
    deviation = np.sqrt(square / (len(objects) - 1))
    return mean.astype(np.complex64), np.asarray(deviation, dtype=np.float32)
