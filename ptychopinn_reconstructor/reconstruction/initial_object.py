"""The object that a refinement begins with: a network's, the mean of several networks', or an empty one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..events import Notice
from ..physics.illumination import illumination
from ..physics.prepare import PreparedScan
from ..physics.stitching.average import mean_object


@dataclass(frozen=True, eq=False)
class InitialObject:
    """An object to begin with (H, W), how uncertain it is, and the same from two halves of the scan.

    `deviation` (H, W) is a standard deviation, NaN where unknown, None without a network; `source` says of what.
    `halves` go with `physics.scoring.halves.split_interleaved`; none where no split is asked for. `count_gauge` is the
    factor on the network's amplitude that the counts ask for, None without a network; `notices` are for the user.
    """

    canvas: NDArray[np.complex64]
    deviation: NDArray[np.float32] | None = None
    source: Literal['patches', 'models'] = 'patches'
    halves: tuple[NDArray[np.complex64], ...] = ()
    count_gauge: float | None = None
    notices: tuple[Notice, ...] = ()


def average_objects(starts: Sequence[InitialObject], prepared: PreparedScan) -> InitialObject:
    """The mean of several networks' objects, with their standard deviation; of one network its own object.

    The count gauge is that of the first network.
    """
    if len(starts) == 1:
        return starts[0]
    weight = illumination(prepared.layout, prepared.probe)
    canvas, deviation = mean_object([start.canvas for start in starts], weight)
    halves = (mean_object(half, weight)[0] for half in zip(*(start.halves for start in starts), strict=True))
    notices = tuple(notice for start in starts for notice in start.notices)
    return InitialObject(canvas, deviation, 'models', tuple(halves), starts[0].count_gauge, notices)


def flat_canvas(prepared: PreparedScan) -> NDArray[np.complex64]:
    """An empty object: 1 everywhere."""
    return np.ones(prepared.layout.shape, dtype=np.complex64)
