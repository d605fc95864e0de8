"""Several threads find what one finds, bit by bit, and hand it out in order."""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from engine_cases import Case
from numpy.typing import NDArray

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.io.lazy import LazyPatterns
from ptychopinn_reconstructor.physics.arrays import NumpyArrays, row_bands
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.prior import Smoothness
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.physics.stitching.stitch import contributions, probe_weight, stitch_patches
from ptychopinn_reconstructor.physics.threads import AHEAD, Threads, available_threads
from ptychopinn_reconstructor.reconstruction.refinement import reconstruction_threads
from ptychopinn_reconstructor.scan import PatternsOnDemand


def small_blocks(threads: int) -> NumpyArrays:
    """Arrays whose blocks are so small that a small scan has many."""
    arrays = NumpyArrays(threads)
    arrays.block_pixels = 2048
    return arrays


def test_results_come_in_order_from_several_threads() -> None:
    """The first blocks end last; both threads must have been at work at once, or the barrier would break."""
    together, gate = threading.Barrier(2, timeout=60), threading.Event()

    def compute(number: int) -> int:
        if number < 2:
            together.wait()
        if number == 0:
            gate.wait(60)
        if number == 1:
            gate.set()
        return number**2

    assert [*Threads(2).map(compute, range(20))] == [n**2 for n in range(20)]


def test_no_more_is_begun_than_memory_is_foreseen_for() -> None:
    begun: list[int] = []
    found = Threads(2).map(begun.append, range(100))
    next(found)
    assert len(begun) <= AHEAD * 2 + 1


def test_an_error_comes_out_and_the_threads_go_on() -> None:
    threads = Threads(2)
    with pytest.raises(ZeroDivisionError):
        [*threads.map(lambda n: 1 / (5 - n), range(10))]
    assert [*threads.map(lambda n: -n, range(3))] == [0, -1, -2]


def test_threads_end_with_what_refers_to_them() -> None:
    arrays = NumpyArrays(3)
    assert [*arrays.map_blocks(abs, [-1, -2, -3, -4])] == [1, 2, 3, 4]
    ours = [thread for thread in threading.enumerate() if thread.name.startswith('blocks')]
    assert ours
    del arrays
    for thread in ours:
        thread.join(60)
    assert not any(thread.is_alive() for thread in ours)


def test_one_thread_takes_none() -> None:
    names = [*Threads(1).map(lambda _: threading.current_thread().name, range(3))]
    assert names == [threading.current_thread().name] * 3


def test_a_share_of_the_cores_is_respected_and_the_configuration_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = available_threads({})
    assert cores >= 1 and available_threads({'OMP_NUM_THREADS': '1,4'}) == 1
    assert {available_threads({'OMP_NUM_THREADS': text}) for text in ('0', '', 'many', '100000')} == {cores}
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    assert reconstruction_threads(Config()) == 1
    assert reconstruction_threads(Config().merged({'execution': {'threads': 3}})) == 3


def run(threads: int, options: RefineOptions, fresnel: tuple[float, float] | None = None) -> Refined:
    """A refinement of a scan with a background, from an empty object."""
    scan = simulate(n=32, positions=100, step=4.0, photons=1e5, jitter=1.0, seed=1, fresnel_number=fresnel)
    counts = scan.diffraction + np.random.default_rng(2).poisson(0.5, scan.diffraction.shape)
    prepared = prepare_scan(replace(scan, diffraction=counts.astype(np.uint32)))
    return refine(prepared, np.ones(prepared.layout.shape, np.complex64), options, arrays=small_blocks(threads))


@pytest.mark.parametrize(
    'options',
    [
        RefineOptions(6, prior=1.0, wavefront=True, momentum=0.8, background='on', intensity='on'),
        RefineOptions(6, refine_probe=True, modes=2, refine_positions=True, wavefront=True),
    ],
    ids=['object and detector', 'probe and positions'],
)
def test_a_refinement_is_the_same_bit_by_bit(options: RefineOptions) -> None:
    one, several = run(1, options), run(3, options)
    assert np.array_equal(one.canvas, several.canvas) and np.array_equal(one.probe, several.probe)
    assert one.residuals == several.residuals and one.residuals[-1] < one.residuals[0]
    for a, b in ((one.displacements, several.displacements), (one.background, several.background)):
        assert (a is None and b is None) or np.array_equal(np.asarray(a), np.asarray(b))


def test_the_near_field_is_the_same_bit_by_bit() -> None:
    options = RefineOptions(3, wavefront=True)
    one, several = (run(threads, options, (0.02, 0.02)) for threads in (1, 3))
    assert np.array_equal(one.canvas, several.canvas) and one.residuals == several.residuals


def test_patterns_on_demand_are_read_for_one_thread_at_a_time(tmp_path: Path) -> None:
    """A file has one place where it is read: two threads at once would get each other's patterns."""

    class OneReader(PatternsOnDemand):
        inside, most = 0, 0

        def read(self, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.001)
            self.inside -= 1
            return np.broadcast_to(wanted[:, None, None], (len(wanted), 4, 4)).astype(np.float32)

    patterns = OneReader(np.dtype(np.float32), (64, 4, 4))
    copied = pickle.loads(pickle.dumps(LazyPatterns(_hdf5(tmp_path / 'p.h5'), 'data')))
    for source in (patterns, copied):
        read = partial(_read_one, source)
        assert [*Threads(4).map(read, range(64))] == [*range(64)]
    assert patterns.most == 1


def _read_one(source: PatternsOnDemand, number: int) -> float:
    return float(source[np.array([number])][0, 0, 0])


def _hdf5(path: Path) -> Path:
    with h5py.File(path, 'w') as file:
        file['data'] = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None], (64, 4, 4))
    return path


def test_stitching_and_residuals_are_the_same_bit_by_bit() -> None:
    case = Case(1e5, noise=True)
    prepared = case.prepared()
    n = prepared.patch_size
    rng = np.random.default_rng(3)
    drawn = rng.normal(size=(len(prepared), n, n)) + 1j * rng.normal(size=(len(prepared), n, n))
    u = contributions(drawn, probe_weight(prepared.probe, n), prepared.layout.fractions)
    found = []
    for threads in (1, 3):
        arrays = small_blocks(threads)
        stitcher = stitch_patches(
            u, prepared.layout, prepared.probe, neighbors=8, batches=prepared.batches(7), spread=True, arrays=arrays
        )
        misfit = residuals(prepared, case.truth, batch=5, arrays=arrays)
        found.append((stitcher.canvas(), stitcher.deviation(), misfit.per_pattern, misfit.overall))
    for one, several in zip(*found, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(several), equal_nan=True)


def test_bands_of_the_prior_are_seamless() -> None:
    """A tall image, smoothed in bands, is what it is smoothed at once."""
    rng = np.random.default_rng(4)
    image = (1 + 0.2 * (rng.normal(size=(700, 40)) + 1j * rng.normal(size=(700, 40)))).astype(np.complex64)
    whole, banded = NumpyArrays(), small_blocks(2)
    whole.block_pixels = 4 * image.size
    assert len(row_bands(image.shape, banded.block_pixels // 4, 128)) == 5
    found = [Smoothness(np.full(image.shape, 0.3, np.float32), arrays)(image) for arrays in (whole, banded)]
    assert np.array_equal(*found)


@pytest.mark.parametrize(('shape', 'pixels', 'least'), [((100, 10), 250, 1), ((7, 5), 1, 1), ((50, 3), 30, 20)])
def test_bands_cover_all_rows_once(shape: tuple[int, int], pixels: int, least: int) -> None:
    bands = row_bands(shape, pixels, least)
    assert np.array_equal(np.concatenate([np.arange(*band.indices(shape[0])) for band in bands]), np.arange(shape[0]))
    assert min(band.stop - band.start for band in bands) >= min(least, shape[0])
