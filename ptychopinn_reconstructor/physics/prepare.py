"""PreparedScan: a scan in canonical order with its probe in sqrt(counts), ready to be streamed to a backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..errors import ConfigError, ScanError
from ..scan import Scan, check_probe
from .forward import unscattered_counts
from .geometry import Layout, canonical_order, fourier_shift, gather_patches, layout, relative_positions
from .probe_variation import ProbeVariation
from .propagation import fresnel_kernel
from .scaling import Gauge, InputScaler, ProbePower, crop_support, mask_probe, resolve_probe_power, support_size

BRIGHTEST, NEIGHBORS = 0.98, 5  # quantile of the patterns' counts, each the median of so many next to each other
SMALLEST_SHARE = 0.1  # of the unscattered probe on good pixels: below it there is nothing to extrapolate from


class Patterns(NamedTuple):
    """A batch: counts (b, N, N), network input, corners (b, 2) on the canvas, fractions (b, 2) in pixels."""

    counts: NDArray[np.float32]
    root4: NDArray[np.float32]
    backprojection: NDArray[np.float32]
    corners: NDArray[np.int64]
    fractions: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan whose patterns are addressed in canonical order; `gauge.probe` is in sqrt(counts).

    `patch_size` is the side n of the network's patches. Where the engine has found them: `background` (N, N) in counts,
    the same in every pattern, and `intensity` (n,), factors on the power of the beam,
    `variation` of the probe along the scan.
    """

    scan: Scan
    gauge: Gauge
    order: NDArray[np.int64]
    positions: NDArray[np.float64]
    layout: Layout
    patch_size: int
    background: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None
    variation: ProbeVariation | None = None

    def __len__(self) -> int:
        return len(self.order)

    @property
    def probe(self) -> NDArray[np.complex64]:
        """(modes, N, N) in sqrt(counts)."""
        return self.gauge.probe

    @property
    def n_pixels(self) -> int:
        """Side N of a pattern."""
        return self.scan.n_pixels

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """(N, N), True where the detector can be trusted."""
        bad = self.scan.bad_pixels
        return np.ones((self.n_pixels,) * 2, dtype=bool) if bad is None else ~bad

    @cached_property
    def kernel(self) -> NDArray[np.complex64] | None:
        """What `forward.propagate` takes from the exit wave to the detector; None: the far field."""
        return find_kernel(self.scan)

    @cached_property
    def scaler(self) -> InputScaler:
        """Turns counts into the network's input for this scan's probe."""
        return InputScaler(self.probe, self.scan.bad_pixels, self.patch_size)

    def counts(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Counts (b, N, N) of patterns in canonical order."""
        return self.scan.counts(self.order[index])

    def patterns(self, index: NDArray[np.int64]) -> Patterns:
        """Everything a backend needs of the patterns at `index` (canonical order)."""
        counts = self.counts(index)
        fractions = self.layout.fractions[index].astype(np.float32)
        return Patterns(counts, *self.scaler.counts_to_input(counts), self.layout.corners[index], fractions)

    def labels(self, index: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Patches of the scan's object in the probe's own frame, (b, n, n): cropped at r, shifted by -f.

        Raises ScanError when the scan has no object or the object does not cover every patch.
        """
        truth = self.scan.object
        if truth is None:
            raise ScanError('Supervised training needs an object (objectGuess) in the scan file, and there is none.')
        corner = self.scan.positions[self.order[index]] + self.scan.object_origin - (self.n_pixels - 1) / 2
        whole = np.rint(corner).astype(np.int64)
        if (whole < 0).any() or (whole + self.n_pixels > truth.shape).any():
            raise ScanError(
                f'The object is {truth.shape[0]} x {truth.shape[1]} pixels and does not cover every scan position; '
                'positions must be on the pixel grid of objectGuess.'
            )
        patches = gather_patches(truth, whole, self.n_pixels)
        return crop_support(fourier_shift(patches, whole - corner), self.patch_size).astype(np.complex64)

    def part(self, index: NDArray[np.int64]) -> PreparedScan:
        """The patterns at `index` (canonical order, increasing) alone, on the same canvas."""
        order, positions = self.order[index], self.positions[index]
        intensity = None if self.intensity is None else self.intensity[index]
        variation = None if self.variation is None else self.variation.part(index)
        layout = self.layout.part(index)
        return replace(self, order=order, positions=positions, layout=layout, intensity=intensity, variation=variation)

    def detect(self, diffracted: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
        """Expected counts (b, N, N) of the patterns at `index` from the intensities that their patches diffract."""
        scaled = diffracted if self.intensity is None else diffracted * self.intensity[index][:, None, None]
        return scaled if self.background is None else scaled + self.background

    def round_positions(self) -> PreparedScan:
        """The same scan without the sub-pixel part of its positions, for a training that must not use them."""
        laid = self.layout
        whole = Layout(laid.corners, np.zeros_like(laid.fractions), laid.origin, laid.shape)
        return replace(self, layout=whole)

    def batches(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Indices of all patterns in batches of at most `size`, split evenly."""
        yield from even_batches(np.arange(len(self), dtype=np.int64), size)


def even_batches(index: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Split indices into the fewest batches of at most `size`, of even length (a left-over batch of 4 hurts)."""
    return np.array_split(index, max(1, -(-len(index) // size)))


def prepare_scan(
    scan: Scan,
    *,
    probe: NDArray[np.complex64] | None = None,
    mode: ProbePower = 'auto',
    stride: int = 4,
    patch_size: int | None = None,
    probe_mask: bool = False,
    probe_scale: float = 1.0,
) -> PreparedScan:
    """Sort a scan, resolve the power of its probe (or of `probe`) and lay its patches on a canvas.

    `patch_size` is the side n of the patches of the network that is to see the scan, None: N/2. `probe_mask` cuts the
    probe to a circle (`scaling.mask_probe`); `probe_scale` multiplies its amplitude once its power is resolved.

    Raises ConfigError when N is not a multiple of the network's `stride`, ScanError when there is no probe.
    """
    if scan.n_pixels % stride:
        raise ConfigError(
            f'N is {scan.n_pixels} but the network needs a multiple of {stride}; crop or pad the patterns.'
        )
    chosen = scan.probe if probe is None else probe
    if chosen is None:
        raise ScanError('The scan has no probe (probeGuess); hand one in (probe=).')
    chosen = check_probe(chosen, scan.n_pixels)
    chosen = mask_probe(chosen) if probe_mask else chosen
    order = canonical_order(scan.positions)
    positions = relative_positions(scan.positions)[order]
    grid = scan.object_origin if scan.on_object_grid else None
    laid = layout(scan.positions[order], scan.n_pixels, grid)
    brightest = brightest_counts(scan) / detected_share(chosen, scan.bad_pixels, find_kernel(scan))
    gauge = resolve_probe_power(chosen, incident_counts(scan, chosen), mode, brightest=brightest)
    gauge = gauge._replace(probe=np.asarray(gauge.probe * probe_scale, dtype=np.complex64))
    return PreparedScan(scan, gauge, order, positions, laid, patch_size or support_size(scan.n_pixels))


def brightest_counts(scan: Scan) -> float:
    """Counts of the brightest place of a scan, over good pixels: what two percent of the patterns exceed.

    Each is the median of a pattern and its neighbors, which an object makes alike, but a beam that flickers does not.
    """
    nearest = min(NEIGHBORS, len(scan.positions))
    _, index = cKDTree(scan.positions).query(scan.positions, k=[*range(1, nearest + 1)])
    return float(np.quantile(np.median(scan.pattern_counts[index], axis=1), BRIGHTEST))


def incident_counts(scan: Scan, probe: NDArray[np.complex64]) -> float:
    """Mean counts a pattern would have without bad pixels, whose share is taken from the unscattered probe.

    Otherwise a masked gap or beam stop would pass for absorption, and the object would come out too strong.
    """
    return scan.mean_counts / detected_share(probe, scan.bad_pixels, find_kernel(scan))


def detected_share(
    probe: NDArray[np.complex64],
    bad_pixels: NDArray[np.bool_] | None,
    kernel: NDArray[np.complex64] | None = None,
) -> float:
    """The part of the unscattered probe's counts that does not fall on bad pixels (N, N)."""
    if bad_pixels is None or not bad_pixels.any():
        return 1.0
    empty = unscattered_counts(probe, kernel)
    return max(float(empty[~bad_pixels].sum() / empty.sum()), SMALLEST_SHARE)


def find_kernel(scan: Scan) -> NDArray[np.complex64] | None:
    """The kernel of `forward.propagate` for a scan; None: the far field."""
    return None if scan.fresnel_number is None else fresnel_kernel(scan.n_pixels, scan.fresnel_number)
