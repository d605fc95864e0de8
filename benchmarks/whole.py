"""From a file to the object, in one process: `python whole.py NAME [N] [--quick]` prints its rows as JSON.

The floor of a pattern is what no implementation of the method can do without: the convolutions of the network, and 25
FFTs, of which five passes of three are 15. Weights are drawn: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timing import BLOCK_PIXELS, Row, Work, cpu

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.backend import TrainedModel, load_backend
from ptychopinn_reconstructor.backends.torch_lightning.s2d_unet import build_network
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.model_file.trained import write_trained_model
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate

PASSES, FFTS = 5, 25
BATCH, CALLS = 64, 64  # patterns of the convolutions, and blocks of FFTs, that are timed at once
PATTERNS = 1024
LEAST_SHARE = 0.01  # of the whole: stages that take less are not told of
GROWING = (1024, 4096, 16384, 65536)
NO_TRAINING = {'epochs': 0, 'patterns_seen': 0, 'cpu_seconds': 0.0, 'device': 'cpu', 'monitor': 'train_loss'}


class Spent(NamedTuple):
    """Seconds of one reconstruction, and of its stages in CPU time."""

    cpu: float
    wall: float
    stages: dict[str, float]


class Reconstruction:
    """A file of so many simulated patterns of N pixels, and a model for it, both in a folder."""

    def __init__(self, folder: Path, n: int, patterns: int) -> None:
        self.patterns, self.config = patterns, Config().merged({'model': {'N': n}})
        scan = simulate(n=n, positions=patterns, step=n / 8, seed=0)
        self.scan = folder / f'scan_{n}_{patterns}.npz'
        write_npz(self.scan, scan)
        self.model = folder / f'model_{n}.safetensors'
        if not self.model.exists():
            prepared = prepare_scan(scan, stride=16)
            backend = load_backend('torch')
            weights = backend.draw_weights(self.config, 1 + self.config.training.seed)
            drawn = TrainedModel(weights, (prepared.probe,), ((1, 1.0),), NO_TRAINING)
            write_trained_model(self.model, backend, self.config, prepared, drawn)

    def run(self, threads: int = 1) -> Spent:
        """Read the file and reconstruct the object with `PASSES` passes; nothing is written."""
        execution = {'device': 'cpu', 'threads': threads}
        config = self.config.merged({'refinement': {'passes': PASSES}, 'execution': execution})
        start = time.process_time(), time.perf_counter()
        result = pp.reconstruct(pp.read_scan(self.scan).scan, self.model, config)
        spent = time.process_time() - start[0], time.perf_counter() - start[1]
        return Spent(*spent, {name: stage['cpu_seconds'] for name, stage in result.report.stages.items()})


def floor(n: int, quick: bool) -> Iterator[Row]:
    """File to object on one thread, beside the convolutions and FFTs, measured in turn with it."""
    repeats, patterns = (2, 256) if quick else (3, PATTERNS)
    convolutions, transforms = convolve(n), transform(n)
    with tempfile.TemporaryDirectory() as folder:
        job = Reconstruction(Path(folder), n, patterns)
        job.run(), convolutions(), transforms()
        runs, least, parts = [], [], []
        for _ in range(repeats):
            part = cpu(convolutions) / BATCH, FFTS * cpu(transforms) / CALLS / (BLOCK_PIXELS // n**2)
            parts.append(part)
            least.append(sum(part))
            runs.append(job.run())
    cost = statistics.median(run.cpu for run in runs) / patterns
    ratio = statistics.median(run.cpu / patterns / one for run, one in zip(runs, least, strict=True))
    each, ffts = (statistics.median(column) * 1e3 for column in zip(*parts, strict=True))
    floor = f'its floor: {each:.3f} ms of convolutions, {ffts:.3f} of {FFTS} FFTs by PyTorch'
    yield Row(
        f'file to object, {PASSES} passes, N = {n}, {patterns} patterns', _per_pattern(cost), f'{ratio:.2f}', floor
    )
    middle = min(runs, key=lambda run: abs(run.cpu / patterns - cost))
    rest = middle.cpu - sum(middle.stages.values())
    for name, seconds in (middle.stages | {'reading, checks and the rest': rest}).items():
        yield Row(f'- {name}', _per_pattern(seconds / patterns), f'{seconds / middle.cpu:.3f}', 'whole')


def threads(n: int, quick: bool) -> Iterator[Row]:
    """Wall time on two threads, in turn with one."""
    repeats, patterns = (2, 256) if quick else (3, PATTERNS)
    with tempfile.TemporaryDirectory() as folder:
        job = Reconstruction(Path(folder), n, patterns)
        job.run()
        pairs = [(job.run(1), job.run(2)) for _ in range(repeats)]
    faster = statistics.median(one.wall / two.wall for one, two in pairs)
    more = statistics.median(two.cpu / one.cpu for one, two in pairs)
    wall = statistics.median(two.wall for _, two in pairs) / patterns
    what = f'one thread: so many times faster, for {more:.2f} times the CPU time'
    yield Row(
        f'file to object on two threads, N = {n}, {patterns} patterns: wall', _per_pattern(wall), f'{faster:.2f}', what
    )


def growth(n: int, quick: bool) -> Iterator[Row]:
    """Cost a pattern as scans grow, and the exponent of each stage: total cost goes with n to that power."""
    sizes, costs = GROWING[: 2 if quick else None], list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            job = Reconstruction(Path(folder), n, size)
            spent = job.run()
            job.scan.unlink()
            costs.append({'file to object': spent.cpu / size} | {k: v / size for k, v in spent.stages.items()})
    told = {name: value for name, value in costs[-1].items() if value > LEAST_SHARE * costs[-1]['file to object']}
    for name, largest in told.items():
        values = [cost[name] for cost in costs]
        shown = ', '.join(f'{value * 1e3:.3f}' for value in values) + ' ms/pattern'
        exponent = 1 + math.log(largest / values[-2]) / math.log(sizes[-1] / sizes[-2])
        patterns = ', '.join(f'{size:,}' for size in sizes)
        what = f'exponent from {sizes[-2]:,} to {sizes[-1]:,} patterns'
        yield Row(f'{name}, N = {n}, {patterns} patterns', shown, f'{exponent:.2f}', what)


def convolve(n: int) -> Work:
    """All convolutions of the network for a batch, on the inputs that they have there."""
    network, calls = build_network(Config()).eval(), list[tuple[Any, Any]]()
    hooks = [
        layer.register_forward_hook(lambda module, given, _: calls.append((module, given[0].clone())))
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    with torch.inference_mode():
        network(torch.rand(BATCH, n, n), torch.randn(BATCH, 2, n // 2, n // 2))
    for hook in hooks:
        hook.remove()

    def run() -> None:
        with torch.inference_mode():
            for layer, given in calls:
                layer(given)

    return run


def transform(n: int) -> Work:
    """`CALLS` blocks of FFTs, by PyTorch: the fastest at hand."""
    block = torch.rand(BLOCK_PIXELS // n**2, n, n, dtype=torch.complex64)

    def run() -> None:
        for _ in range(CALLS):
            torch.fft.fft2(block)

    return run


def _per_pattern(seconds: float) -> str:
    return f'{seconds * 1e3:.3f} ms/pattern'


MEASUREMENTS: dict[str, Callable[[int, bool], Iterator[Row]]] = {'floor': floor, 'threads': threads, 'growth': growth}


def main() -> None:
    """Run one measurement and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', choices=MEASUREMENTS)
    parser.add_argument('n', type=int)
    parser.add_argument('--quick', action='store_true')
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps([row.to_json() for row in MEASUREMENTS[options.name](options.n, options.quick)]))


if __name__ == '__main__':
    main()
