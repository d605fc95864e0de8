"""Single-process measurements of bench.py: `python kernels.py NAME [N] [--quick]` prints its rows as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from networks import BATCH, compiled, inference
from timing import (
    BLOCK_PIXELS,
    GEMM_SIDE,
    Reference,
    Row,
    Timed,
    Work,
    fft2_pair_reference,
    fft2_reference,
    gemm_reference,
    paired,
    per_pattern_row,
    rate_row,
)

from ptychopinn_reconstructor.backend import find_missing_modules

if TYPE_CHECKING:
    from ptychopinn_reconstructor.physics.prepare import PreparedScan

NEIGHBORS = 24


def prepared(n: int, positions: int) -> PreparedScan:
    """A simulated scan, ready to be streamed."""
    from ptychopinn_reconstructor.physics.prepare import prepare_scan
    from ptychopinn_reconstructor.physics.simulation.simulate import simulate

    return prepare_scan(simulate(n=n, positions=positions, step=n / 8, seed=0), stride=16)


def machine(n: int, quick: bool) -> list[Row]:
    """What this machine can do: matrix products and FFTs."""
    import torch

    repeats = 5 if quick else 15
    gemm = gemm_reference()
    a, b = np.random.default_rng(0).random((2, GEMM_SIDE, GEMM_SIDE), dtype=np.float32)
    by_numpy = paired(lambda: a @ b, gemm, repeats=repeats)
    rate = 1 / by_numpy.unit_seconds
    rows = [
        Row(f'matrix product, {GEMM_SIDE} x {GEMM_SIDE} float32, PyTorch', f'{rate:.1f} GFLOP/s'),
        Row('the same, numpy', f'{gemm.units / by_numpy.seconds:.1f} GFLOP/s', f'{by_numpy.ratio / gemm.units:.2f}',
            'time of PyTorch'),
    ]  # fmt: skip
    for side in (64, 128):
        reference = fft2_reference(side)
        block = torch.rand(BLOCK_PIXELS // side**2, side, side, dtype=torch.complex64)
        by_torch = paired(partial(torch.fft.fft2, block), reference, repeats=repeats, calls=4)
        flops = 5 * side**2 * np.log2(side**2)
        achieved = flops / by_torch.unit_seconds * 1e-9
        rows += [
            Row(f'FFT2 of {side} x {side} complex64, scipy', f'{by_torch.unit_seconds * 1e6:.1f} µs',
                f'{achieved / rate:.2f}', f'rate of PyTorch GEMM, at {achieved:.1f} GFLOP/s'),
            Row('the same, PyTorch', f'{by_torch.seconds / len(block) * 1e6:.1f} µs',
                f'{by_torch.ratio / len(block):.2f}', 'time of scipy'),
        ]  # fmt: skip
    return rows


def network_input_row(n: int, quick: bool) -> list[Row]:
    """From counts to the network's input."""
    scan = prepared(n, BATCH)
    counts = scan.counts(np.arange(BATCH))
    timed = paired(lambda: scan.scaler.counts_to_input(counts), fft2_reference(n), repeats=5 if quick else 15)
    return [per_pattern_row(f'counts_to_input, N = {n}', timed, BATCH, f'FFT2 of {n} x {n}')]


def stitching(n: int, quick: bool) -> list[Row]:
    """Contributions, overlaps, synchronization and assembly of patches with random global phases."""
    from ptychopinn_reconstructor.physics.stitching import stitch as s
    from ptychopinn_reconstructor.physics.stitching.synchronizing import synchronizing_phases

    total = 256 if quick else 1024
    scan = prepared(n, total)
    turns = np.exp(2j * np.pi * np.random.default_rng(0).random(total))[:, None, None]
    patches = (scan.labels(np.arange(total)) * turns).astype(np.complex64)
    weight, corners = s.probe_weight(scan.probe, scan.patch_size), scan.layout.corners
    u = s.contributions(patches, weight, scan.layout.fractions)
    pairs = s.neighbor_pairs(corners, NEIGHBORS, u.shape[-1])
    c = s.overlaps(u, corners, pairs)
    phases = synchronizing_phases(c, pairs, total)

    def contribute() -> None:
        for index in scan.batches(BATCH):
            s.contributions(patches[index], weight, scan.layout.fractions[index])

    def assemble() -> None:
        stitcher = s.Stitcher(scan.layout, scan.probe, scan.patch_size)
        for index in scan.batches(BATCH):
            stitcher.add(u[index], index, phases[index])
        stitcher.canvas()

    steps: dict[str, Work] = {
        'contributions': contribute,
        f'neighbor pairs, {NEIGHBORS} neighbors': lambda: s.neighbor_pairs(corners, NEIGHBORS, u.shape[-1]),
        f'overlaps of {len(pairs) / total:.1f} pairs a pattern': lambda: s.overlaps(u, corners, pairs),
        'synchronizing phases': lambda: synchronizing_phases(c, pairs, total),
        'assembly': assemble,
    }
    return step_rows(steps, n, total, fft2_reference(n), quick)


def step_rows(steps: dict[str, Work], n: int, total: int, reference: Reference, quick: bool) -> list[Row]:
    """A row for each of some steps that work on `total` patterns of n x n pixels, beside a reference."""
    repeats = 3 if quick else 7
    return [
        per_pattern_row(f'{what}, N = {n}', paired(work, reference, repeats=repeats), total, reference.name)
        for what, work in steps.items()
    ]


def engine(n: int, quick: bool) -> Iterator[Row]:
    """One pass of the refinement engine, object alone and with the probe; the same on PyTorch's tensors."""
    from ptychopinn_reconstructor.physics.arrays import NUMPY, Arrays
    from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
    from ptychopinn_reconstructor.physics.engine.options import MOMENTUM
    from ptychopinn_reconstructor.physics.engine.update import Engine, ObjectStep

    total = 128 if quick else 512
    scan = prepared(n, total)
    canvas = np.ones(scan.layout.shape, dtype=np.complex64)
    reference, repeats = fft2_pair_reference(n), 3 if quick else 7

    def one_pass(arrays: Arrays, *, with_probe: bool) -> Work:
        state = Engine(scan, canvas, scan.probe, FarFieldStep.for_scan(scan, arrays))

        def run() -> None:
            for index in scan.batches(BATCH):
                state.update(index, ObjectStep(MOMENTUM[1]), with_probe=with_probe)

        return run

    for with_probe, what in ((False, f'engine, a pass, N = {n}'), (True, f'engine, a pass, probe too, N = {n}')):
        timed = paired(one_pass(NUMPY, with_probe=with_probe), reference, repeats=repeats)
        yield per_pattern_row(what, timed, total, reference.name)
    if find_missing_modules('torch'):
        yield Row("- on PyTorch's tensors", 'not installed')
        return
    import torch

    from ptychopinn_reconstructor.backends.torch_lightning.arrays import TorchArrays

    torch.set_num_threads(1)
    by_numpy = Reference('numpy', one_pass(NUMPY, with_probe=False), 1)
    timed = paired(one_pass(TorchArrays('cpu'), with_probe=False), by_numpy, repeats=repeats)
    value = f'{timed.seconds / total * 1e3:.3f} ms/pattern'
    yield Row(f"- a pass on PyTorch's tensors, on the CPU, N = {n}", value, f'{timed.ratio:.2f}', 'numpy')


def wavefront(n: int, quick: bool) -> list[Row]:
    """The long-range phase: the slopes of all patterns, and the systems that are solved for it."""
    from ptychopinn_reconstructor.physics.engine.sloped_waves import slopes
    from ptychopinn_reconstructor.physics.engine.wavefront import long_range_phase

    total = 256 if quick else 1024
    scan = prepared(n, total)
    canvas = np.ones(scan.layout.shape, dtype=np.complex64)
    found = slopes(scan, canvas, scan.probe)
    steps: dict[str, Work] = {
        'slopes': lambda: slopes(scan, canvas, scan.probe),
        'phase from them': lambda: long_range_phase(scan.layout, found, scan.probe),
    }
    return step_rows(steps, n, total, fft2_pair_reference(n), quick)


def training(n: int, quick: bool) -> Iterator[Row]:
    """A step of training: PyTorch's whole and in its parts, and TensorFlow's whole in the same process."""
    from training_step import Parts, job_of, patterns_of_step, whole_step

    reference, repeats = gemm_reference(), 3 if quick else 15
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(prepared(n, 160 if quick else 512), Path(folder))
        patterns, whole = patterns_of_step(job), whole_step('torch', job, reference)
        step = Parts(job)
        work, parts = step.gigaflops(), step.timed(reference, repeats=repeats)
        physics = step.timed(fft2_reference(n), repeats=repeats)
        yield rate_row(f'whole step, N = {n}, {patterns} patterns', whole, patterns, work)
        yield from part_rows(whole, parts, patterns)
        for key in ('physics forward', 'physics backward'):
            yield per_pattern_row(f'{key}, N = {n}', physics[key], patterns, f'FFT2 of {n} x {n}')
        what = f'TensorFlow: whole step, N = {n}, {patterns} patterns'
        if find_missing_modules('tensorflow'):
            yield Row(what, 'not installed')
            return
        other = whole_step('tensorflow', job, reference)
    yield rate_row(what, other, patterns, work)
    against = f'{other.ratio / whole.ratio:.2f}'
    yield Row('- each in units of PyTorch GEMM timed between its steps', '', against, 'PyTorch')


def part_rows(whole: Timed, parts: dict[str, Timed], patterns: int) -> Iterator[Row]:
    """The parts of a step, and what they leave of it."""
    for what, timed in parts.items():
        value = f'{timed.seconds / patterns * 1e3:.3f} ms/pattern'
        yield Row(f'- {what}', value, f'{timed.ratio / whole.ratio:.3f}', 'whole step')
    rest = 1 - sum(timed.ratio for timed in parts.values()) / whole.ratio
    value = f'{rest * whole.seconds / patterns * 1e3:.3f} ms/pattern'
    yield Row('- the rest (Lightning, logging, events), by difference', value, f'{rest:.3f}', 'whole step')


MEASUREMENTS: dict[str, Callable[[int, bool], Iterable[Row]]] = {
    'machine': machine,
    'inference': inference,
    'training': training,
    'compiled': compiled,
    'input': network_input_row,
    'stitching': stitching,
    'engine': engine,
    'wavefront': wavefront,
}


def main() -> None:
    """Run one measurement and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', choices=MEASUREMENTS)
    parser.add_argument('n', type=int, nargs='?', default=64)
    parser.add_argument('--quick', action='store_true')
    options = parser.parse_args()
    if 'torch' not in sys.modules and options.name not in ('input', 'stitching', 'engine', 'wavefront'):
        import torch

        torch.set_num_threads(1)
    print(json.dumps([row.to_json() for row in MEASUREMENTS[options.name](options.n, options.quick)]))


if __name__ == '__main__':
    main()
