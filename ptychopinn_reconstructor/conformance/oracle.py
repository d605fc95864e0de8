"""What a backend must compute, written down once more in NumPy: the network, and the loss of an epoch.

The network is clauses B19, B21 and B22 of specs/backend_contract.md, the loss B25 and B26.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import e, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Weights
from ..config import Config
from ..physics.forward import amplitude_loss, diffract, measure, object_error, poisson_loss, propagate, total_variation
from ..physics.geometry import gather_patches, scatter_patches
from ..physics.grouping import Split, covering_regions, epoch_regions, region_size
from ..physics.prepare import PreparedScan
from ..physics.scaling import crop_support
from ..physics.simulation.procedural import ProceduralPatterns
from ..physics.smoothing import smooth_patches
from ..physics.stitching.stitch import EPSILON_WEIGHT, contributions, probe_weight, shifted_weight

Real = NDArray[np.float64]
PIXELS_A_STEP = 65_536


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of `s2d_unet` by name (B21)."""
    w1, w2, w3 = (max(4, round(width * config.model.n_filters_scale / 2)) for width in (32, 48, 64))
    r2 = config.model.block**2
    kernels = {'stem': (3, 16 + 2 * r2, w1), 'down1': (3, w1, w2), 'down2': (3, w2, w3)}
    kernels |= {'up2': (1, w3, 4 * w2), 'up1': (1, w2, 4 * w1), 'head': (3, w1, 2 * r2)}
    for block, width in (('enc1', w1), ('enc2', w2), ('middle', w3), ('dec2', w2), ('dec1', w1)):
        kernels |= {f'{block}.conv1': (3, width, width), f'{block}.conv2': (3, width, width)}
    found: dict[str, tuple[int, ...]] = {}
    for layer, (size, inside, outside) in kernels.items():
        found |= {f'{layer}.kernel': (size, size, inside, outside), f'{layer}.bias': (outside,)}
    return found


def predict_patches(
    config: Config, weights: Weights, root4: NDArray[Any], backprojection: NDArray[Any]
) -> NDArray[np.complex128]:
    """Patches (b, n, n) of root4 (b, N, N) and backprojection (b, 2, n, n), in double precision."""
    net = _Net(weights)
    parts = (
        _space_to_depth(root4[..., None], 4),
        _space_to_depth(backprojection.transpose(0, 2, 3, 1), config.model.block),
    )
    x1 = net.residual('enc1', net.convolve('stem', np.concatenate(parts, axis=3).astype(np.float64)))
    x2 = net.residual('enc2', net.convolve('down1', _apply_leaky_relu(x1), stride=2))
    x3 = net.residual('middle', net.convolve('down2', _apply_leaky_relu(x2), stride=2))
    x2 = net.residual('dec2', x2 + _depth_to_space(net.convolve('up2', x3), 2))
    x1 = net.residual('dec1', x1 + _depth_to_space(net.convolve('up1', x2), 2))
    y = _depth_to_space(net.convolve('head', _apply_leaky_relu(x1)), config.model.block)
    phase = np.exp(1j * np.pi * np.tanh(y[..., 1]))
    patches = amplitude(y[..., 0], config.model.amp_activation, config.model.amplitude_max) * phase
    return smooth_patches(np.asarray(patches), config.model.gaussian_smoothing_sigma)


def amplitude(y: Real, activation: str, top: float) -> Real:
    """A(y) of B22."""
    if activation == 'sigmoid':
        return np.asarray(top / (1 + np.exp(log(top - 1) - y)))
    if activation == 'softplus':
        return np.asarray(np.log1p(np.exp(y + log(e - 1))))
    if activation == 'swish':
        return np.asarray((y + 1.2784645) / (1 + np.exp(-(y + 1.2784645))))
    return np.maximum(0.0, y + 1)


class _Net:
    """Layers by name, arrays (b, height, width, channels)."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: values.astype(np.float64) for name, values in weights.items()}

    def convolve(self, layer: str, x: Real, stride: int = 1) -> Real:
        kernel, bias = self.weights[f'{layer}.kernel'], self.weights[f'{layer}.bias']
        size, (height, width) = len(kernel), x.shape[1:3]
        pad = size // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        y = np.zeros((len(x), height // stride, width // stride, kernel.shape[3])) + bias
        for row, col in np.ndindex(size, size):
            y += padded[:, row : row + height : stride, col : col + width : stride] @ kernel[row, col]
        return y

    def residual(self, block: str, x: Real) -> Real:
        inner = self.convolve(f'{block}.conv1', _apply_leaky_relu(x))
        return np.asarray(x + self.convolve(f'{block}.conv2', _apply_leaky_relu(inner)))


def _apply_leaky_relu(x: Real) -> Real:
    return np.where(x > 0, x, 0.1 * x)


def _space_to_depth(x: NDArray[Any], r: int) -> NDArray[Any]:
    b, height, width, c = x.shape
    blocks = x.reshape(b, height // r, r, width // r, r, c)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, height // r, width // r, r * r * c)


def _depth_to_space(x: Real, r: int) -> Real:
    b, height, width, c = x.shape
    blocks = x.reshape(b, height, width, r, r, c // r**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, height * r, width * r, c // r**2)


def plan(config: Config, n_pixels: int, patterns: int) -> tuple[int, int, int]:
    """Patterns of a region K, regions of a step R and steps of an epoch, of `patterns` to train on (B25)."""
    model, training = config.model, config.training
    alone = model.model_type == 'supervised' or not model.object_big or not config.data.positions_provided
    k = 1 if alone else region_size(model.gridsize, config.data.neighbor_count)
    r = max(1, (training.batch_size or PIXELS_A_STEP // n_pixels**2) // k)
    groups = config.data.n_groups or patterns // k
    return k, r, max(1, groups // (r * training.accum_steps)) * training.accum_steps


def draw_regions(scan: PreparedScan, split: Split, config: Config) -> NDArray[np.int64]:
    """Regions (steps R, K) of the first epoch, indices in canonical order (B25)."""
    k, r, steps = plan(config, scan.n_pixels, len(split.training))
    return epoch_regions(scan.positions, split.training, k, n_groups=steps * r, seed=config.training.seed, epoch=0)


def compute_epoch_losses(
    scans: Sequence[PreparedScan], splits: Sequence[Split], config: Config, weights: Weights
) -> tuple[float, float]:
    """Training and validation loss of the first epoch for weights that do not move, one region a step (B26, B27)."""
    losses: tuple[list[float], list[float]] = [], []
    for scan, split in zip(scans, splits, strict=True):
        k = plan(config, scan.n_pixels, len(split.training))[0]
        if len(split.training):
            regions = draw_regions(scan, split, config)
            losses[0].extend(_compute_region_loss(scan, region, config, weights) for region in regions)
        if len(split.validation):
            regions = covering_regions(scan.positions, split.validation, k)
            losses[1].extend(_compute_region_loss(scan, region, config, weights) for region in regions)
    return float(np.mean(losses[0])), float(np.mean(losses[1]))


def _compute_region_loss(scan: PreparedScan, region: NDArray[np.int64], config: Config, weights: Weights) -> float:
    data = scan.patterns(region)
    fractions = scan.layout.fractions[region]
    patches = predict_patches(config, weights, data.root4, data.backprojection)
    if config.model.model_type == 'supervised':
        return _compute_supervised_loss(config, patches, scan.labels(region), scan.probe, data.counts)
    corners = data.corners - data.corners.min(axis=0)
    windows = gather_patches(_assemble_canvas(scan, patches, corners, fractions), corners, scan.n_pixels)
    intensity = scan.detect(diffract(scan.probe.astype(np.complex128), windows, fractions), region)
    loss = config.training.nll_weight * poisson_loss(intensity, data.counts, scan.good)
    if config.training.mae_weight:
        unit = float(np.sqrt(data.counts.mean(dtype=np.float64)))
        loss += config.training.mae_weight * amplitude_loss(intensity, data.counts, scan.good) / unit
    if config.training.realspace_weight:
        weight = probe_weight(scan.probe, scan.patch_size)
        loss += config.training.realspace_weight * total_variation(patches, weight)
    return loss


def procedural_loss(source: ProceduralPatterns, step: int, count: int, config: Config, weights: Weights) -> float:
    """Supervised loss of the procedural patterns of a step, with the probe at their dose (B27, B44)."""
    drawn = source.draw(step, count)
    patches = predict_patches(config, weights, *drawn.input)
    return _compute_supervised_loss(config, patches, drawn.labels, source.probe * np.sqrt(drawn.dose), drawn.counts)


def _compute_supervised_loss(
    config: Config,
    patches: NDArray[np.complex128],
    labels: NDArray[Any],
    probe: NDArray[Any],
    counts: NDArray[Any],
) -> float:
    """Supervised loss of patches and labels (b, n, n), probe (modes, N, N) and counts (b, N, N) (B27)."""
    labels, probe, n = labels.astype(np.complex128), probe.astype(np.complex128), labels.shape[-1]
    weight = crop_support((np.abs(probe) ** 2).sum(axis=0), n)
    inner = (weight * labels * patches.conj()).sum(axis=(-2, -1), keepdims=True)
    error = patches * np.exp(1j * np.angle(inner)) - labels
    exit_wave = (weight * np.abs(error) ** 2).sum(axis=(-2, -1)) / weight.sum()
    wave = np.zeros((len(patches), *probe.shape), dtype=complex)
    crop_support(wave, n)[:] = crop_support(probe, n) * error[:, None]
    far_field = measure(propagate(wave)) / (counts + 1)
    training = config.training
    loss = float(exit_wave.mean() + training.far_field_weight * far_field.mean())
    loss += training.realspace_mae_weight * object_error(patches, labels, weight)
    return loss + training.realspace_weight * total_variation(patches, weight)


def _assemble_canvas(
    scan: PreparedScan, patches: NDArray[np.complex128], corners: NDArray[np.int64], fractions: Real
) -> NDArray[np.complex128]:
    """Patches synchronized by the leading eigenvector of their overlaps, the first one's phase kept, and assembled."""
    weight = probe_weight(scan.probe, scan.patch_size)
    u = contributions(patches, weight, fractions).astype(np.complex128)
    height, width = (int(size) for size in corners.max(axis=0) + scan.n_pixels)
    inset = (scan.n_pixels - u.shape[-1]) // 2
    placed = np.zeros((len(u), height, width), dtype=complex)
    for i in range(len(u)):
        scatter_patches(placed[i], u[i : i + 1], corners[i : i + 1], inset)
    flat = placed.reshape(len(u), -1)
    leading = np.linalg.eigh(flat @ flat.conj().T)[1][:, -1]
    factors = np.exp(-1j * (np.angle(leading) - np.angle(leading[0])))
    light = np.zeros((height, width))
    scatter_patches(light, shifted_weight(scan.probe, fractions, scan.patch_size).astype(np.float64), corners, inset)
    eps = EPSILON_WEIGHT * float(weight.max())
    return np.asarray((np.tensordot(factors, placed, 1) + eps) / (light + eps))
