"""A probe that varies along the scan: a few components, each with a weight for every pattern.

| symbol | meaning                                                                   | unit         |
|--------|---------------------------------------------------------------------------|--------------|
| P_m    | modes of the mean probe (modes, N, N)                                     | sqrt(counts) |
| V_k    | components of what varies, orthogonal (k, N, N)                           | sqrt(counts) |
| w_ik   | weight of component k in pattern i, real; mean 0 and mean square 1 over i | 1            |

The first mode of pattern i is P_1 + sum_k w_ik V_k, scaled to the power of all of them in the mean; the others are the
same in all: orthogonal probe relaxation (Odstrcil, Baksh, Boden et al., Optics Express 24, 8360 (2016)) of the coherent
mode. The power is held since a beam that grows where an object absorbs cannot be told from one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ProbeVariation:
    """`components` (k, N, N) in sqrt(counts) and `weights` (n, k), in the order of the patterns that they are for."""

    components: NDArray[np.complex64]
    weights: NDArray[np.float64]

    def part(self, index: NDArray[np.int64]) -> ProbeVariation:
        """That of the patterns at `index` alone."""
        return ProbeVariation(self.components, self.weights[index])

    def probes(self, probe: NDArray[np.complex64], index: NDArray[np.int64]) -> NDArray[np.complex64]:
        """The probes (b, modes, N, N) of the patterns at `index` with a mean probe (modes, N, N)."""
        found = np.repeat(probe[None], len(index), axis=0)
        found[:, 0] += np.tensordot(self.weights[index], self.components, axes=1).astype(np.complex64)
        found[:, 0] *= self.scales(probe, index)[:, None, None]
        return found

    def scales(self, probe: NDArray[np.complex64], index: NDArray[np.int64]) -> NDArray[np.float32]:
        """The factors (b,) that hold the power of the first mode in the patterns at `index`."""
        return power_scales(probe[0], self.components, self.weights[index], (self.weights**2).mean(axis=0))

    def relaxation_weights(self, probe: NDArray[np.complex64]) -> NDArray[np.float64]:
        """Weights (n, 1 + k) of P_1 and of the components, whose sum is the first mode of each pattern."""
        scales = self.scales(probe, np.arange(len(self.weights)))[:, None]
        return np.concatenate([scales, scales * self.weights], axis=1, dtype=np.float64)


def power_scales(
    first: NDArray[np.complex64],
    components: NDArray[np.complex64],
    weights: NDArray[np.float64],
    mean_square: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Factors (b,) on P_1 + sum_k w_ik V_k, weights (b, k), that give each |P_1|^2 + sum_k <w_k^2> |V_k|^2."""
    flat = np.concatenate([first[None], components]).reshape(1 + len(components), -1).astype(np.complex128)
    gram = (flat @ flat.conj().T).real
    along = np.concatenate([np.ones((len(weights), 1)), weights], axis=1)
    power = np.einsum('ik,kl,il->i', along, gram, along)
    mean = gram[0, 0] + float(gram.diagonal()[1:] @ mean_square)
    return np.asarray(np.sqrt(mean / power.clip(min=1e-12 * mean)), dtype=np.float32)


def decompose_probes(
    probes: NDArray[Any], count: int, weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.complex64], ProbeVariation]:
    """Mean probe (N, N) of probes, and the `count` components that vary most; the weights are real.

    `probes` (n, N, N), or (k, N, N) with `weights` (n, k): sum_k w_ik of them. The norm of a component is the square
    root of the power that varies with it. Fewer components are found where there are not as many.
    """
    real = _real(probes)
    along = np.eye(len(probes)) if weights is None else np.asarray(weights, dtype=np.float64)
    mean = along.mean(axis=0) @ real
    q, r = np.linalg.qr(real.T)
    left, size, right = np.linalg.svd((along - along.mean(axis=0)) @ r.T, full_matrices=False)
    count = min(count, int((size > 1e-9 * max(float(size.max(initial=0.0)), 1e-300)).sum()))
    scale = np.sqrt(len(along))
    parts = (q @ right[:count].T).T * (size[:count, None] / scale)
    shape = np.asarray(probes).shape[1:]
    return _complex(mean, shape), ProbeVariation(_complex(parts, shape), left[:, :count] * scale)


def remove_untold(components: NDArray[np.complex64], first: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Components (k, N, N) that leave power, phase, place and direction of P_1 (N, N) as they are.

    Along a scan that visits one place after the other, an object that changes slowly, or is stretched, explains these.
    Power, phase, slope and shift of P_1 are taken away, as much as it takes: components that have nothing in common
    with slope and shift would still move the centers of probe and far field (`orthogonal_part`).
    """
    offsets = _offsets(first)
    power = float((np.abs(first) ** 2).sum())
    directions = [-1j * np.gradient(first, axis=axis) for axis in (0, 1)]
    directions = [part - first * (np.vdot(first, part).real / power) for part in directions]
    held = _real(np.stack([first, 1j * first, *directions, *offsets]))
    moved, values = _movements(first), _real(components)
    return _complex(values - np.linalg.solve(held @ moved.T, held @ values.T).T @ moved, first.shape)


def orthogonal_part(components: NDArray[np.complex64], first: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Components (k, N, N) less what they have in common with power, phase, slope and shift of P_1 (N, N): their noise
    does not grow by that."""
    q, _ = np.linalg.qr(_movements(first).T)
    values = _real(components)
    return _complex(values - (values @ q) @ q.T, first.shape)


def _movements(first: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Power, phase, slopes and shifts of P_1."""
    slopes = [1j * offset for offset in _offsets(first)]
    return _real(np.stack([first, 1j * first, *slopes, *(np.gradient(first, axis=axis) for axis in (0, 1))]))


def _offsets(first: NDArray[np.complex64]) -> list[NDArray[Any]]:
    """P_1 times the distance from its center, along rows and columns."""
    x = np.arange(first.shape[-1], dtype=np.float64)
    light = np.abs(first) ** 2
    rows, cols = (x - float(light.sum(axis=1 - axis) @ x / light.sum()) for axis in (0, 1))
    return [rows[:, None] * first, cols * first]


def _real(values: NDArray[Any]) -> NDArray[np.float64]:
    """Real parts and imaginary parts of (k, N, N), one after the other (k, 2 N N)."""
    flat = np.asarray(values).reshape(len(values), -1)
    return np.concatenate([flat.real, flat.imag], axis=1).astype(np.float64)


def _complex(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Probes (..., N, N) of their real parts and imaginary parts, one after the other (..., 2 N N)."""
    real, imaginary = np.split(values, 2, axis=-1)
    return np.asarray((real + 1j * imaginary).reshape(*values.shape[:-1], *shape), dtype=np.complex64)
