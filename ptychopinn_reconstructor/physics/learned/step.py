"""The learned step: the object of the engine, corrected by a network that sees what the patterns say of it.

The engine's prior knows that edges are rare; the network has seen objects. A step costs one look at all patterns, as a
pass does, the network itself, and the misfit before and after. It is guarded by the data: kept only where the patterns
fit no worse than before, or as well as counting noise lets the truth fit (its misfit is 1 in units of that noise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Arrays
from ..engine.far_field_step import FarFieldStep
from ..engine.residuals import residuals
from ..engine.update import Engine
from ..prepare import PreparedScan
from .features import Evidence, describe_canvas, known_share, noise_level, typical_light
from .network import REACH, STRIDE, Network

WORSE = 0.03  # of the misfit in units of noise: where it rises by as much nothing of the step is kept
TILE = 512  # pixels: of larger canvases so much at a time, for memory


@dataclass(frozen=True, eq=False)
class LearnedStep:
    """A canvas after a step, by how much it has changed, in transmission, and the share that was kept, (H, W) each."""

    canvas: NDArray[np.complex64]
    change: NDArray[np.float32]
    kept: NDArray[np.float32]


def take_step(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    network: Network,
    *,
    probe: NDArray[np.complex64] | None = None,
    strength: float = 1.0,
    arrays: Arrays = NUMPY,
) -> LearnedStep:
    """The canvas (H, W) after `strength` times the network's correction, as far as the patterns allow it.

    It stays as it was where they would fit worse than they do and than counting noise lets the truth fit. `probe`
    (modes, N, N) in sqrt(counts) replaces the scan's.
    """
    probe = prepared.probe if probe is None else probe
    before = gather_evidence(prepared, canvas, probe, arrays)
    correction = strength * correct(network, canvas, before)
    misfit = map_misfit(prepared, canvas + correction, probe, before.light, arrays)
    kept = np.clip(1 - (misfit - np.maximum(before.misfit, 1)) / WORSE, 0, 1).astype(np.float32)
    correction *= kept
    return LearnedStep(canvas + correction, np.abs(correction), kept)


def gather_evidence(
    prepared: PreparedScan, canvas: NDArray[np.complex64], probe: NDArray[np.complex64], arrays: Arrays = NUMPY
) -> Evidence:
    """What all patterns of a scan say of a canvas (H, W) under a probe (modes, N, N), nothing moved."""
    engine = Engine(prepared, canvas, probe, FarFieldStep.for_scan(prepared, arrays))
    direction, light = engine.lacking_object(np.arange(len(prepared)))
    return Evidence(direction, light, map_misfit(prepared, canvas, probe, light, arrays))


def map_misfit(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    light: NDArray[np.float32],
    arrays: Arrays = NUMPY,
) -> NDArray[np.float32]:
    """The misfit of patterns in units of counting noise, averaged where their light overlaps, (H, W)."""
    misfit = residuals(prepared, canvas, probe, arrays=arrays).noise_ratio_per_pattern.astype(np.float32)
    power, spread = (np.abs(probe) ** 2).sum(axis=0).astype(np.float32), np.zeros(canvas.shape, dtype=np.float32)
    for value, corner in zip(misfit, prepared.layout.corners, strict=True):
        NUMPY.scatter(spread, (value * power)[None], corner[None])
    return np.asarray(spread / np.maximum(light, 1e-6))


def correct(network: Network, canvas: NDArray[np.complex64], evidence: Evidence) -> NDArray[np.complex64]:
    """The network's correction of a canvas (H, W); of one that is turned as a whole it is turned alike."""
    turn = np.exp(-1j * np.angle((canvas * evidence.light).sum())).astype(np.complex64)
    turned = evidence._replace(direction=evidence.direction * turn)
    image, typical = canvas * turn, typical_light(evidence.light)
    correction = np.empty_like(canvas)
    for inner, outer in _tiles(canvas.shape):
        part = turned.part(outer)
        found = _apply(network, describe_canvas(image[outer], part, typical))
        found *= noise_level(part.light, typical) * known_share(part.light, typical)
        first = [own.start - around.start for own, around in zip(inner, outer, strict=True)]
        rows, cols = (slice(at, at + own.stop - own.start) for at, own in zip(first, inner, strict=True))
        correction[inner] = found[rows, cols]
    return np.asarray(correction * turn.conj())


def _apply(network: Network, channels: NDArray[np.float32]) -> NDArray[np.complex64]:
    """The network's answer (H, W) to channels (9, H, W) of any size."""
    height, width = channels.shape[1:]
    margin = ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE))
    real, imag = network(np.pad(channels, margin, mode='edge'))[:, :height, :width]
    return np.asarray(real + 1j * imag, dtype=np.complex64)


def _tiles(shape: tuple[int, ...]) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Windows that make up a canvas (H, W), each with the larger one around it that its answer depends on."""
    rows, cols = (
        [(slice(at, min(at + TILE, size)), slice(max(0, at - REACH), at + TILE + REACH)) for at in range(0, size, TILE)]
        for size in shape
    )
    return [((row, col), (near_row, near_col)) for row, near_row in rows for col, near_col in cols]
