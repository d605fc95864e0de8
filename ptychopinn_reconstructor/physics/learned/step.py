"""The learned step: the object of the engine, corrected by a network that sees what the patterns say of it.

The engine's prior knows that edges are rare; the network has seen objects. A step costs one look at all patterns, as a
pass does, and the network itself. It is guarded by the data: kept only where the patterns fit no worse than before, or
as well as counting noise lets the truth fit (its misfit is 1 in units of that noise).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY
from ..counting_noise import expected_residual
from ..engine.far_field_step import Correction, FarFieldStep
from ..engine.update import Engine
from ..prepare import PreparedScan
from .features import Evidence, describe_canvas, known_share, noise_level
from .network import STRIDE, Network

LIT = 0.1  # counts, as of `residual`
WORSE = 0.03  # of the misfit in units of noise: where it rises by as much nothing of the step is kept


class _Watched:
    """A far-field step that keeps each pattern's misfit in units of counting noise."""

    def __init__(self, step: FarFieldStep) -> None:
        self.step, self.arrays, self.good = step, step.arrays, step.good
        self.misfit: list[NDArray[np.float64]] = []

    def __call__(self, counts: NDArray[np.float32], predicted: NDArray[np.float32]) -> Correction:
        lit = predicted > LIT if self.good is None else (predicted > LIT) & self.good
        error = ((np.sqrt(counts) - np.sqrt(predicted)) ** 2 * lit).sum(axis=(1, 2), dtype=np.float64)
        noise = (expected_residual(predicted) * lit).sum(axis=(1, 2))
        self.misfit.append(error / np.maximum(noise, 1e-9))
        return self.step(counts, predicted)


def gather_evidence(prepared: PreparedScan, canvas: NDArray[np.complex64]) -> Evidence:
    """What all patterns of a scan say of a canvas (H, W), nothing moved."""
    watched = _Watched(FarFieldStep.for_scan(prepared, NUMPY))
    engine = Engine(prepared, canvas, prepared.probe, watched)  # type: ignore[arg-type]
    sums = engine._accumulate(np.arange(len(prepared)), False, False, None)
    per_pattern = np.concatenate(watched.misfit)
    power = (np.abs(prepared.probe) ** 2).sum(axis=0).astype(np.float32)
    spread = np.zeros(canvas.shape, dtype=np.float32)
    spots = per_pattern.astype(np.float32)[:, None, None] * power
    NUMPY.scatter(spread, spots, prepared.layout.corners)
    return Evidence(sums.object, sums.weight, spread / np.maximum(sums.weight, 1e-6), per_pattern)


def correct(network: Network, canvas: NDArray[np.complex64], evidence: Evidence) -> NDArray[np.complex64]:
    """The canvas (H, W) with the network's correction; turned as a whole, it is corrected alike."""
    turn = np.exp(-1j * np.angle((canvas * evidence.light).sum())).astype(np.complex64)
    turned = evidence._replace(direction=evidence.direction * turn)
    channels = describe_canvas(canvas * turn, turned)
    height, width = canvas.shape
    margin = ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE))
    real, imag = network(np.pad(channels, margin, mode='edge'))[:, :height, :width]
    step = noise_level(evidence.light) * known_share(evidence.light) * (real + 1j * imag)
    return np.asarray(canvas + step * turn.conj(), dtype=np.complex64)


def learned_step(prepared: PreparedScan, canvas: NDArray[np.complex64], network: Network) -> NDArray[np.complex64]:
    """The canvas (H, W) after a step; it stays as it was where the patterns would fit worse than they do and than
    counting noise lets the truth fit."""
    before = gather_evidence(prepared, canvas)
    corrected = correct(network, canvas, before)
    rise = gather_evidence(prepared, corrected).misfit - np.maximum(before.misfit, 1)
    kept = np.clip(1 - rise / WORSE, 0, 1)
    return np.asarray(canvas + kept * (corrected - canvas), dtype=np.complex64)
