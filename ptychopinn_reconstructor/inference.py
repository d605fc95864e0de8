"""A trained network over a whole scan: every position once, synchronized, stitched, in bounded memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .backend import Network
from .config import Config
from .errors import Interrupted
from .events import Emit, Event, ShouldStop, ignore, never
from .physics.gauge import LARGEST_CHANGE, count_gauge
from .physics.scaling import support_size
from .physics.stitching import Stitcher, collect, contributions, probe_weight

if TYPE_CHECKING:
    from .physics.prepare import PreparedScan

IN_MEMORY = 512 * 2**20  # bytes of patches kept in memory; more go to a scratch file


@dataclass(eq=False)
class Report:
    """What goes into metrics.json beside the image metrics; times in seconds, `patterns` (n,) in file order."""

    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    residual: float = float('nan')
    residual_per_pattern: NDArray[np.float64] | None = None

    @contextmanager
    def stage(self, name: str, patterns: int) -> Iterator[None]:
        """Time a stage that handles `patterns` patterns."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        seconds = time.perf_counter() - wall
        self.stages[name] = {
            'wall_seconds': round(seconds, 4),
            'cpu_seconds': round(time.process_time() - cpu, 4),
            'patterns_per_second': round(patterns / max(seconds, 1e-9), 1),
        }


def network_object(
    prepared: PreparedScan,
    network: Network,
    config: Config,
    report: Report,
    *,
    scratch: Path | None = None,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> NDArray[np.complex64]:
    """The network's object on the canvas of `prepared`: every position once, synchronized, stitched."""
    size, n = config.inference.inference_batch_size, support_size(prepared.n_pixels)
    weight, total = probe_weight(prepared.probe), len(prepared)
    with patch_store((total, n, n), scratch) as store:
        with report.stage('network', total):
            for index in prepared.batches(size):
                if should_stop():
                    raise Interrupted('Stopped before the object was complete; nothing is written.')
                data = prepared.patterns(index)
                store[index] = contributions(network.predict(data.root4, data.backprojection), weight, data.fractions)
                emit(Event('progress', {'stage': 'network', 'done': int(index[-1]) + 1, 'total': total}))
        with report.stage('stitch', total):
            stitcher = collect(
                store,
                prepared.layout,
                prepared.probe,
                neighbors=config.inference.sync_neighbors,
                batches=prepared.batches(size),
            )
    with report.stage('gauge', total):
        return in_gauge(prepared, stitcher, report)


def in_gauge(prepared: PreparedScan, stitcher: Stitcher, report: Report) -> NDArray[np.complex64]:
    """The stitched object with the amplitude that the counts ask for; as it is, with a note, when that is far off."""
    canvas = stitcher.canvas()
    scale = count_gauge(prepared, canvas)
    report.facts['count_gauge'] = scale
    if abs(scale - 1) <= LARGEST_CHANGE:
        return stitcher.canvas(scale)
    report.notes.append(
        f'The measured counts ask for {scale:.2f} times the amplitude of the network, too much to be corrected: '
        "the probe's power may be wrong (--probe-power from_counts), or the model may not fit this scan."
    )
    return canvas


@contextmanager
def patch_store(shape: tuple[int, int, int], scratch: Path | None) -> Iterator[NDArray[np.complex64]]:
    """Room for all contributions: in memory, or in a file in `scratch` (removed afterwards) when they are many."""
    if np.prod(shape) * 8 <= IN_MEMORY:
        yield np.empty(shape, dtype=np.complex64)
        return
    with tempfile.TemporaryFile(dir=scratch, prefix='ptychopinn-') as file:
        yield np.memmap(file, dtype=np.complex64, mode='w+', shape=shape)
