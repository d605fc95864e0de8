"""Phase synchronization and assembly (contracts COVERAGE, OFFSETS, DENSE, AMPLITUDE, MODES)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.io import read_scan
from ptychopinn_reconstructor.physics.geometry import Layout, layout, scan_area
from ptychopinn_reconstructor.physics.prepare import PreparedScan, even_batches, prepare_scan
from ptychopinn_reconstructor.physics.stitching import stitch as stitching
from ptychopinn_reconstructor.physics.stitching import synchronizing
from ptychopinn_reconstructor.scan import Scan

N, n = 16, 8  # most tests: small patches
PHASE_RANGE = 2.4  # rad


def probe_of(modes: int = 1) -> NDArray[np.complex64]:
    """A bump whose modes differ; some of its power is outside the support: averages are right to a few percent."""
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    bump = 7 * np.exp(-(y**2 + x**2) / (2 * 2.0**2)) * np.exp(0.1j * y * x)
    return np.stack([bump, 0.4 * bump * x, 0.3 * bump * y][:modes]).astype(np.complex64)


def assemble(
    patches: NDArray[np.complex64], laid: Layout, probe: NDArray[np.complex64], neighbors: int, batch: int = 64
) -> NDArray[np.complex64]:
    """Patches in the probe's frame to a canvas, everything done batch by batch."""
    index = np.arange(len(patches))
    weight = stitching.probe_weight(probe, patches.shape[-1])
    u = np.concatenate(
        [stitching.contributions(patches[i], weight, laid.fractions[i]) for i in even_batches(index, batch)]
    )
    batches = iter(even_batches(index, batch))
    return stitching.stitch_patches(u, laid, probe, neighbors=neighbors, batches=batches).canvas()


def turned(patches: NDArray[np.complex64], seed: int = 0) -> NDArray[np.complex64]:
    """Patches with a random global phase each, as a network that cannot know it would give them."""
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(patches))
    return np.asarray(patches * np.exp(1j * angles)[:, None, None], dtype=np.complex64)


def phase_psnr(result: NDArray[np.complex64], truth: NDArray[np.complex64]) -> float:
    """dB, after the global phase."""
    difference = result * truth.conj()
    difference = np.angle(difference * np.exp(-1j * np.angle(difference.sum())))
    return float(10 * np.log10(PHASE_RANGE**2 / np.mean(difference**2)))


@pytest.fixture
def oracle(shared_data: Path) -> PreparedScan:
    """simulated_A with all positions moved by one sub-pixel constant, so that canvas and truth share a pixel grid.

    Its labels are the true object in the probe's frame: what a perfect network would predict.
    """
    scan = read_scan(shared_data / 'simulated_A.npz').scan
    corner = scan.positions - scan.positions.min(axis=0) + 3.0
    moved = Scan(
        diffraction=np.ones((len(scan), 64, 64), np.uint8),
        positions=corner + 31.5,
        probe=scan.probe,
        object=scan.object,
    )
    return prepare_scan(moved, mode='absolute')


def test_true_patches_with_random_phases_give_the_object(oracle: PreparedScan) -> None:
    """An oracle reaches 50 dB with Fourier shifts (a flat object 13 dB); unsynchronized it is lost."""
    assert oracle.scan.object is not None
    patches = oracle.labels(np.arange(len(oracle)))
    height, width = oracle.layout.shape
    truth = oracle.scan.object[3 : 3 + height, 3 : 3 + width]
    area = scan_area(oracle.scan.positions, oracle.layout.origin, margin=4)
    together = assemble(turned(patches), oracle.layout, oracle.probe, neighbors=24)[area]
    alone = assemble(turned(patches), oracle.layout, oracle.probe, neighbors=0)[area]
    aligned = assemble(patches, oracle.layout, oracle.probe, neighbors=0)[area]
    synchronized = phase_psnr(together, truth[area])
    assert synchronized >= 45
    assert phase_psnr(aligned, truth[area]) == pytest.approx(synchronized, abs=1.0)
    assert phase_psnr(alone, truth[area]) < 15
    ratio = (np.abs(together) * np.abs(truth[area])).sum() / (np.abs(truth[area]) ** 2).sum()
    assert ratio == pytest.approx(1.0, abs=0.003)


@cache
def dense() -> tuple[NDArray[np.complex64], Layout]:
    """5,184 rough patches on a jittered raster of 2 px."""
    rng = np.random.default_rng(4)
    positions = np.stack(np.divmod(np.arange(5184), 72), axis=1) * 2.0 + rng.uniform(-0.7, 0.7, (5184, 2))
    laid = layout(positions, N)
    rows, cols = np.mgrid[: laid.shape[0], : laid.shape[1]]
    scene = (1 + 0.2 * np.sin(rows / 3.1) * np.cos(cols / 2.3)) * np.exp(0.8j * np.sin(rows / 7 + cols / 5))
    windows = np.lib.stride_tricks.sliding_window_view(scene, (n, n))[laid.corners[:, 0] + 4, laid.corners[:, 1] + 4]
    noise = rng.normal(size=(2, *windows.shape)) * 0.05
    return turned((windows + noise[0] + 1j * noise[1]).astype(np.complex64)), laid


@cache
def dense_object() -> NDArray[np.complex64]:
    patches, laid = dense()
    return assemble(patches, laid, probe_of(), neighbors=6)


@pytest.mark.parametrize('batch', [7, 5184])
def test_dense_scans_do_not_depend_on_the_batch_size(batch: int) -> None:
    """DENSE: 5,184 patches, to 1e-5."""
    patches, laid = dense()
    np.testing.assert_allclose(assemble(patches, laid, probe_of(), 6, batch), dense_object(), atol=1e-5)


def test_dense_scans_give_the_scene() -> None:
    """DENSE, AMPLITUDE: the same 5,184 patches, which overlap 16 times, average to the scene."""
    rows, cols = np.indices(dense_object().shape)
    scene = (1 + 0.2 * np.sin(rows / 3.1) * np.cos(cols / 2.3)) * np.exp(0.8j * np.sin(rows / 7 + cols / 5))
    inside = (slice(12, -12),) * 2
    found = dense_object()
    # The windows were cut on whole pixels: what remains is the rounding of positions.
    assert phase_psnr(found[inside], scene[inside]) > 28
    np.testing.assert_allclose(np.abs(found[inside]).mean(), np.abs(scene[inside]).mean(), rtol=0.01)


def network_object(scan: Scan) -> NDArray[np.complex64]:
    """A stand-in network (the back-projection itself) through preparation, synchronization and stitching."""
    prepared = prepare_scan(scan, mode='absolute')
    data = prepared.patterns(np.arange(len(scan)))
    patches = data.backprojection[:, 0] + 1j * data.backprojection[:, 1]
    return assemble(patches.astype(np.complex64), prepared.layout, prepared.probe, neighbors=8)


@pytest.mark.parametrize('constant', [(0.3, -0.4), (17.25, 1e4)])
def test_order_and_offset_of_the_positions_change_nothing(constant: tuple[float, float]) -> None:
    """OFFSETS, MODES: another order and a constant on all positions, ties of a perfect raster included, to 1e-5."""
    rng = np.random.default_rng(6)
    raster = np.stack(np.divmod(np.arange(100), 10), axis=1) * 2.5
    speckle = rng.normal(size=(2, N, N)) + 1j * rng.normal(size=(2, N, N))
    probe = (probe_of()[:1] * speckle * np.array([1.0, 0.4])[:, None, None]).astype(np.complex64)
    scan = Scan(diffraction=rng.poisson(20.0, (100, N, N)).astype(np.uint16), positions=raster, probe=probe)
    shuffled = rng.permutation(100)
    other = Scan(
        diffraction=np.asarray(scan.diffraction)[shuffled], positions=raster[shuffled] + np.array(constant), probe=probe
    )
    first, second = network_object(scan), network_object(other)
    assert first.shape == second.shape
    np.testing.assert_allclose(second, first, atol=1e-5)


def test_every_position_counts_once_up_to_the_border() -> None:
    """COVERAGE: patches of one value give that value wherever the probe shines, the outermost ones included."""
    laid = layout(np.random.default_rng(7).uniform(0, 20, (40, 2)), N)
    patches = np.full((40, n, n), 1.3, dtype=np.complex64)
    found = assemble(patches, laid, probe_of(3), neighbors=8)
    for corner in laid.corners:
        middle = found[corner[0] + 7 : corner[0] + 9, corner[1] + 7 : corner[1] + 9]
        np.testing.assert_allclose(middle, 1.3, rtol=0.03)
    for i in range(40):
        changed = patches.copy()
        changed[i] *= 1.2
        other = assemble(changed, laid, probe_of(3), neighbors=8)
        window = tuple(slice(c, c + N) for c in laid.corners[i])
        assert np.abs(other - found)[window].max() > 0.01
        outside = np.ones(found.shape, dtype=bool)
        outside[window] = False
        np.testing.assert_allclose(other[outside], found[outside], atol=1e-5)


def test_a_canvas_is_one_where_nothing_shines() -> None:
    """U9: the empty corners of the canvas and the space between two parts."""
    positions = np.concatenate([np.random.default_rng(8).uniform(0, 6, (9, 2)), [[80.0, 80.0]]])
    laid = layout(positions, N)
    found = assemble(np.full((10, n, n), 0.7j, dtype=np.complex64), laid, probe_of(), neighbors=4)
    np.testing.assert_allclose(found[:40, 40:], 1, atol=1e-6)
    np.testing.assert_allclose(found[30:75, 30:75], 1, atol=1e-6)


def test_two_islands_are_each_synchronized() -> None:
    """A scan in two parts that do not overlap: each is right up to a phase of its own."""
    rng = np.random.default_rng(9)
    positions = np.concatenate([rng.uniform(0, 10, (25, 2)), rng.uniform(0, 10, (25, 2)) + np.array([0, 70])])
    laid = layout(positions, N)
    truth = np.full((50, n, n), 0.8, dtype=np.complex64)
    found = assemble(turned(truth), laid, probe_of(), neighbors=8)
    for columns in (slice(8, 16), slice(78, 86)):
        island = found[8:16, columns]
        np.testing.assert_allclose(np.abs(island), 0.8, rtol=0.03)
        np.testing.assert_allclose(island * island[0, 0].conj() / np.abs(island[0, 0]) ** 2, 1, atol=0.03)


def test_patterns_at_one_position_average() -> None:
    """Repeated positions synchronize like any others: 30 patches at each of three places."""
    positions = np.repeat([[0.0, 0.0], [0.0, 3.0], [3.0, 1.5]], [30, 2, 2], axis=0)
    patches = np.full((34, n, n), 0.9, dtype=np.complex64)
    found = assemble(turned(patches), layout(positions, N), probe_of(), neighbors=33)
    np.testing.assert_allclose(found[8:10, 8:10], 0.9, rtol=0.01)
    two = assemble(turned(patches[:2]), layout(np.zeros((2, 2)), N), probe_of(), neighbors=24)
    np.testing.assert_allclose(two[7:9, 7:9], 0.9, rtol=0.01)


def test_without_neighbors_patches_are_averaged_as_they_are() -> None:
    """SETTINGS sync_neighbors = 0: opposite phases cancel."""
    laid = layout(np.zeros((3, 2)), N)
    patches = np.ones((3, n, n), dtype=np.complex64) * np.array([1, 1j, -1j])[:, None, None]
    middle = (slice(7, 9),) * 2
    np.testing.assert_allclose(assemble(patches, laid, probe_of(), 0)[middle], 1 / 3, rtol=0.01)
    np.testing.assert_allclose(assemble(patches, laid, probe_of(), 2)[middle], 1.0, rtol=0.01)


def test_the_global_phase_is_that_of_the_weighted_mean() -> None:
    """U9: a phase on all patches changes nothing, and the mean weighted by the illumination is real and positive."""
    rng = np.random.default_rng(10)
    laid = layout(rng.uniform(0, 14, (30, 2)), N)
    patches = np.exp(rng.normal(size=(30, n, n)) * 0.1 + 1j * rng.normal(size=(30, n, n)) * 0.4).astype(np.complex64)
    found = assemble(patches, laid, probe_of(2), neighbors=8)
    again = assemble(patches * np.complex64(np.exp(2.5j)), laid, probe_of(2), neighbors=8)
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-5)
    illumination = np.zeros(laid.shape)
    weights = stitching.shifted_weight(probe_of(2), laid.fractions, n)
    for weight, corner in zip(weights, laid.corners, strict=True):
        illumination[corner[0] + 4 : corner[0] + 12, corner[1] + 4 : corner[1] + 12] += weight
    assert abs(np.angle((illumination * found).sum())) < 1e-3


def test_modes_weigh_together() -> None:
    """MODES: the weight is the sum over modes of abs(P)^2, central part."""
    probe = probe_of(3)
    expected = (np.abs(probe.astype(complex)) ** 2).sum(axis=0)[4:12, 4:12]
    np.testing.assert_allclose(stitching.probe_weight(probe, n), expected, rtol=1e-5)
    np.testing.assert_allclose(stitching.shifted_weight(probe, np.zeros((1, 2)), n)[0], expected, rtol=1e-4, atol=1e-4)
    weights = stitching.shifted_weight(probe, np.array([[0.0, 0.4], [-0.5, 0.5]]), n)
    assert weights.shape == (2, n, n)
    assert weights.min() >= 0


@pytest.mark.parametrize('offset', [(0, 0), (2, -3), (-5, 1), (7, 7), (-1, -4)])
def test_overlap_is_the_inner_product_on_a_canvas(offset: tuple[int, int]) -> None:
    """c_ij = <u_i, u_j> against both patches written on a canvas."""
    rng = np.random.default_rng(11)
    one, two = rng.normal(size=(2, n, n)) + 1j * rng.normal(size=(2, n, n))
    first, second = np.zeros((2, 30, 30), dtype=complex)
    first[10:18, 10:18] = one
    second[10 + offset[0] : 18 + offset[0], 10 + offset[1] : 18 + offset[1]] = two
    corners, pairs = np.array([(10, 10), (10 + offset[0], 10 + offset[1])]), np.array([[0, 1]])
    found = stitching.overlaps(np.stack([one, two]), corners, pairs)
    np.testing.assert_allclose(found, [np.vdot(first, second)], rtol=1e-12)
    swapped = stitching.overlaps(np.stack([two, one]), corners, pairs, rows=np.array([1, 0]))
    assert np.array_equal(swapped, found)


def test_neighbors_overlap_and_are_listed_once() -> None:
    """Against all pairs by brute force: nearest neighbors that overlap, i < j, each once."""
    corners = np.random.default_rng(12).integers(0, 40, (60, 2))
    pairs = stitching.neighbor_pairs(corners, 59, n)
    near = np.abs(corners[:, None] - corners[None]).max(axis=2) < n
    expected = {(i, j) for i in range(60) for j in range(i + 1, 60) if near[i, j]}
    assert {(int(i), int(j)) for i, j in pairs} == expected
    assert len(pairs) == len(expected)
    few = stitching.neighbor_pairs(corners, 5, n)
    assert {(int(i), int(j)) for i, j in few} < expected
    assert stitching.neighbor_pairs(corners[:1], 5, n).shape == (0, 2)


def random_graph(seed: int, count: int) -> NDArray[np.int64]:
    """A connected graph: a path and random chords."""
    rng = np.random.default_rng(seed)
    pairs = {(i, i + 1) for i in range(count - 1)}
    pairs |= {(int(min(p)), int(max(p))) for p in rng.integers(0, count, (3 * count, 2)) if p[0] != p[1]}
    return np.array(sorted(pairs))


def test_consistent_overlaps_give_the_phases_back() -> None:
    """Phases that explain all overlaps are found exactly, whatever the weights, up to a constant."""
    rng = np.random.default_rng(13)
    pairs, phases = random_graph(0, 200), rng.uniform(-np.pi, np.pi, 200)
    c = np.exp(1j * (phases[pairs[:, 1]] - phases[pairs[:, 0]])) * rng.uniform(0.01, 5, len(pairs))
    error = np.exp(1j * (synchronizing.synchronizing_phases(c, pairs, 200) - phases))
    np.testing.assert_allclose(error, error[0], atol=1e-6)


def test_noisy_overlaps_are_met_in_the_least_squares_sense() -> None:
    """Against a dense solver: phases minimize sum abs(c) (phi_j - phi_i - arg c)^2, whatever wraps around."""
    rng = np.random.default_rng(14)
    pairs, phases = random_graph(1, 120), rng.uniform(-np.pi, np.pi, 120)
    difference = phases[pairs[:, 1]] - phases[pairs[:, 0]] + rng.normal(size=len(pairs)) * 0.15
    weight = rng.uniform(0.1, 1, len(pairs))
    found = synchronizing.synchronizing_phases(weight * np.exp(1j * difference), pairs, 120)
    design = np.zeros((len(pairs), 120))
    design[np.arange(len(pairs)), pairs[:, 1]] = 1
    design[np.arange(len(pairs)), pairs[:, 0]] = -1
    root = np.sqrt(weight)
    expected = np.linalg.lstsq(root[:, None] * design, root * difference, rcond=None)[0]
    error = np.exp(1j * (found - expected))
    np.testing.assert_allclose(error, error[0], atol=1e-5)


def lattice(side: int, noise: float, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float64]]:
    """c and pairs of patches on a jittered lattice whose overlaps are off by so many radians, and the true phases."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing='ij'), axis=-1).reshape(-1, 2)
    corners = 10 * grid + rng.integers(-2, 3, grid.shape)
    pairs, phases = stitching.neighbor_pairs(corners, 24, 32), rng.uniform(-np.pi, np.pi, side**2)
    weight = (1 - np.abs(corners[pairs[:, 1]] - corners[pairs[:, 0]]) / 32).prod(axis=1)
    difference = phases[pairs[:, 1]] - phases[pairs[:, 0]] + rng.normal(0, noise, len(pairs))
    return weight * np.exp(1j * difference), pairs, phases


@pytest.mark.parametrize(('side', 'noise', 'error'), [(24, 0.1, 0.05), (64, 0.4, 0.2), (128, 0.1, 0.06)])
def test_noise_does_not_add_up_along_large_scans(side: int, noise: float, error: float) -> None:
    """Along a tree of single pairs it does: rms errors of 1.5 rad at 64 x 64 and .4, of 1.0 at 128 x 128 and .1."""
    c, pairs, phases = lattice(side, noise)
    found = synchronizing.synchronizing_phases(c, pairs, len(phases))
    off = np.exp(1j * (found - phases))
    assert np.sqrt((np.angle(off * off.sum().conj()) ** 2).mean()) < error
    assert synchronizing.torn_share(c, pairs, found) < 1e-3


def test_what_no_phases_can_align_is_told() -> None:
    c, pairs, _ = lattice(24, 3.0)
    assert synchronizing.torn_share(c, pairs, synchronizing.synchronizing_phases(c, pairs, 24**2)) > 0.2
    assert synchronizing.torn_share(0 * c, pairs, np.zeros(24**2)) == 0


def test_a_solver_that_does_not_converge_gives_way_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    c, pairs, _ = lattice(12, 0.1)
    found = synchronizing.synchronizing_phases(c, pairs, 144)
    monkeypatch.setattr(synchronizing, 'ITERATIONS', 2)
    error = np.exp(1j * (synchronizing.synchronizing_phases(c, pairs, 144) - found))
    np.testing.assert_allclose(error, error[0], atol=1e-6)


def test_overlaps_that_vanish_leave_the_patches_as_they_are() -> None:
    """Dark patches, or none that overlap."""
    pairs = np.array([[0, 1], [1, 2]])
    np.testing.assert_array_equal(synchronizing.synchronizing_phases(np.zeros(2, dtype=complex), pairs, 3), 0)
    np.testing.assert_array_equal(synchronizing.synchronizing_phases(np.empty(0, dtype=complex), pairs[:0], 3), 0)
