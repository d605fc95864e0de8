"""Whether a probe varies along the scan, asked of the patterns; and what is put in order after each pass if it does.

| symbol | meaning                                                                       | unit         |
|--------|-------------------------------------------------------------------------------|--------------|
| g_i    | what the probe of pattern i lacks by itself (`varying_probe.LackingProbes`)   | sqrt(counts) |
| c_ij   | sqrt(2) cos(pi j (i + 1/2) / n), i in the order of acquisition                | 1            |
| V_j    | 1/n sum_i c_ij g_i: what follows the j-th cosine                              | sqrt(counts) |

What one pattern says is mostly noise and errors of the object, which all cosines share alike; a drift is in the first
ones alone, and stands out there since all patterns add up. It is believed where |V_j|^2 of one of the first exceeds
that of any of those that follow, by a factor: errors of an object are slow along some scans, too, but not slow alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..probe_variation import ProbeVariation, decompose_probes, orthogonal_part, remove_untold
from .modes import Trial
from .update import Engine

SAMPLED = 512  # patterns that are asked
FEWEST_PATTERNS = 64
MISFIT = 1.75  # times counting noise: below it there is nothing that a drift could explain
SLOW, COMPARED = 2, 16  # the first cosines, and the last one that they are compared with
CLEAR = 2.2  # of |V|^2: measured up to 1.8 where nothing drifts


def settle_variation(engine: Engine) -> None:
    """After a pass: the mean of what varies goes to the mean probe, the rest, made orthogonal, to the scan."""
    varying = engine.varying
    if varying is None:
        return
    told = remove_untold(varying.components, engine.probe[0])
    mean, variation = decompose_probes(told, len(told), varying.weights)
    engine.prepared = replace(engine.prepared, variation=variation if len(variation.components) else None)
    engine.take_variation()
    probe = engine.probe.copy()
    probe[0] += mean
    engine.set_probe(probe)


def find_variation(engine: Engine, residual: float) -> ProbeVariation | None:
    """Components and weights of a drift that the patterns tell of; None where they do not.

    `residual` is that of the last pass, per count. The engine stays as it is.
    """
    count = len(engine.prepared)
    if count < FEWEST_PATTERNS or engine.varying is not None:
        return None
    sample = np.unique(np.linspace(0, count - 1, min(SAMPLED, count)).astype(np.int64))
    if residual < MISFIT * Trial(engine, sample, sample[:: max(1, len(sample) // 48)]).noise:
        return None
    slow = slow_components(engine.lacking_probes(sample), engine.prepared.order[sample])
    power = (np.abs(orthogonal_part(slow, engine.probe[0])) ** 2).sum(axis=(1, 2))
    clear = np.flatnonzero(power[:SLOW] > CLEAR * power[SLOW + 1 :].max())
    if not len(clear):
        return None
    weights = _cosines(engine.prepared.order, len(engine.prepared.scan.positions), clear + 1)
    return decompose_probes(remove_untold(slow[clear], engine.probe[0]), len(clear), weights)[1]


def slow_components(lacking: NDArray[np.complex64], order: NDArray[np.int64]) -> NDArray[np.complex64]:
    """V_j (j, N, N) of g (n, N, N) of patterns that were acquired in an order (n,)."""
    rank = np.argsort(np.argsort(order))
    cosines = _cosines(rank, len(rank), np.arange(1, COMPARED + 1)).astype(np.float32)
    found = cosines.T @ lacking.reshape(len(lacking), -1) / len(lacking)
    return np.asarray(found.reshape(-1, *lacking.shape[1:]), dtype=np.complex64)


def _cosines(rank: NDArray[np.int64], count: int, number: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(2) * np.cos(np.pi * (rank[:, None] + 0.5) / count * number))
