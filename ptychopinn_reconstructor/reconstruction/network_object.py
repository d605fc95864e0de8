"""A trained network over a whole scan: every position once, synchronized, stitched, in bounded memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import Network, TrainingJob
from ..config import Config
from ..errors import ConfigError, Interrupted
from ..events import Event, Previews, ShouldStop, ignore, never
from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.wavefront import leveled
from ..physics.illumination import illumination
from ..physics.prepare import even_batches
from ..physics.scaling import crop_support
from ..physics.scoring.halves import interleaved
from ..physics.stitching.average import combined
from ..physics.stitching.count_scale import LARGEST_CHANGE, count_gauge
from ..physics.stitching.stitch import Stitcher, collect, contributions, probe_weight
from .patches import Keep, kept_patches

if TYPE_CHECKING:
    from ..physics.prepare import PreparedScan
    from .diagnostics import Trust

IN_MEMORY = 512 * 2**20  # bytes of patches kept in memory; more go to a scratch file
BATCH_PIXELS, LARGEST_BATCH = 2**20, 64  # of the detector, and patterns: what bounds the memory of the network
SHOWN_PATTERNS = 1024  # predicted for a preview in training: seconds on one core at most


@dataclass(eq=False)
class Report:
    """What goes into metrics.json beside the image metrics; times in seconds, `patterns` (n,) in file order."""

    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    residual: float = float('nan')
    residual_per_pattern: NDArray[np.float64] | None = None
    trust: Trust | None = None
    _spent: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, patterns: int) -> Iterator[None]:
        """Time a stage that handles `patterns` patterns; one that comes again adds up."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = np.array([time.perf_counter() - wall, time.process_time() - cpu, patterns])
        self._spent[name] = spent = self._spent.get(name, np.zeros(3)) + spent
        self.stages[name] = {
            'wall_seconds': round(float(spent[0]), 4),
            'cpu_seconds': round(float(spent[1]), 4),
            'patterns_per_second': round(float(spent[2] / max(spent[0], 1e-9)), 1),
        }


@dataclass(frozen=True, eq=False)
class Start:
    """An object to begin with (H, W), how uncertain it is, and the same from two halves of the scan.

    `deviation` (H, W) is a standard deviation, NaN where unknown, None without a network; `source` says of what.
    `halves` go with `physics.halves.interleaved`; none where no split is asked for.
    """

    canvas: NDArray[np.complex64]
    deviation: NDArray[np.float32] | None = None
    source: Literal['patches', 'models'] = 'patches'
    halves: tuple[NDArray[np.complex64], ...] = ()


def together(starts: Sequence[Start], prepared: PreparedScan) -> Start:
    """The objects of several networks as one, with what they differ; of one network its own."""
    if len(starts) == 1:
        return starts[0]
    light = illumination(prepared.layout, prepared.probe)
    canvas, deviation = combined([start.canvas for start in starts], light)
    halves = (combined(half, light)[0] for half in zip(*(start.halves for start in starts), strict=True))
    return Start(canvas, deviation, 'models', tuple(halves))


def batch_size(config: Config, n_pixels: int) -> int:
    """Patterns a batch: as it is set, or as many as BATCH_PIXELS hold, at most LARGEST_BATCH."""
    return config.inference.inference_batch_size or max(1, min(LARGEST_BATCH, BATCH_PIXELS // n_pixels**2))


def stitched_size(config: Config, prepared: PreparedScan) -> int:
    """Side in pixels of what is stitched of a patch; ConfigError when middle_trim is larger than the patch."""
    trim, n = config.inference.middle_trim, prepared.patch_size
    if trim is not None and trim > n:
        raise ConfigError(f'middle_trim is {trim} but the patches of this model are {n} pixels wide; lower it.')
    return trim or n


def network_object(
    prepared: PreparedScan,
    network: Network,
    config: Config,
    report: Report,
    *,
    scratch: Path | None = None,
    patches_file: Path | None = None,
    previews: Previews | None = None,
    arrays: Arrays = NUMPY,
    should_stop: ShouldStop = never,
) -> Start:
    """The network's object on the canvas of `prepared`: every position once, synchronized, stitched, leveled.

    With `split_frc` each of two interleaved halves of the patches is stitched too. `patches_file` keeps the patches
    before stitching (`kept_patches`). `previews` are shown what there is after each batch, and the complete object;
    they also hear of the progress. `arrays` are those of the device that levels.
    """
    size, n = batch_size(config, prepared.n_pixels), stitched_size(config, prepared)
    weight, total = probe_weight(prepared.probe, n), len(prepared)
    previews, origin = previews or Previews(ignore, None), prepared.layout.origin
    with patch_store((total, n, n), scratch) as store:
        with report.stage('network', total), kept_patches(patches_file, prepared, n) as keep:
            for index in prepared.batches(size):
                if should_stop():
                    raise Interrupted('Stopped before the object was complete; nothing is written.')
                store[index] = predicted(prepared, network, index, weight, keep)
                done = int(index[-1]) + 1
                previews.emit(Event('progress', {'stage': 'network', 'done': done, 'total': total}))
                if done < total:
                    canvas_so_far = partial(so_far, store, done, prepared, config)
                    previews.offer('network', canvas_so_far, origin, patterns=done, total=total)
        with report.stage('stitch', total):
            stitcher = stitched(store, prepared, np.arange(total), config, spread=True)
        halves = []
        if config.inference.split_frc:
            with report.stage('stitch_halves', total):
                for index in interleaved(total):
                    halves.append(stitched(store, prepared, index, config, rows=index))
    with report.stage('gauge', total):
        scale = gauge_scale(prepared, stitcher, report)
        canvas, deviation = stitcher.canvas(scale), stitcher.deviation(scale)
        halved = [half.canvas(scale) for half in halves]
    if config.inference.wavefront:
        level = partial(level_object, arrays=arrays, previews=previews, should_stop=should_stop)
        with report.stage('wavefront', total):
            canvas = level(prepared, canvas, stitcher.weight)
            for number, index in enumerate(interleaved(total) if halved else ()):
                halved[number] = level(prepared.part(index), halved[number], halves[number].weight)
    previews.offer('network', lambda: canvas, origin, complete=True, patterns=total, total=total)
    return Start(canvas, deviation, halves=tuple(halved))


def level_object(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    weight: NDArray[np.float32],
    *,
    arrays: Arrays,
    previews: Previews,
    should_stop: ShouldStop,
) -> NDArray[np.complex64]:
    """A canvas stitched with `weight`, both (H, W), with the long-range phase that the patterns ask for."""

    def after_block(done: int) -> None:
        if should_stop():
            raise Interrupted('Stopped before the object was complete; nothing is written.')
        previews.emit(Event('progress', {'stage': 'wavefront', 'done': done, 'total': len(prepared)}))

    return arrays.get(leveled(prepared, arrays.put(canvas), light=weight, arrays=arrays, after_block=after_block))


def predicted(
    prepared: PreparedScan,
    network: Network,
    index: NDArray[np.int64],
    weight: NDArray[np.float32],
    keep: Keep | None = None,
) -> NDArray[np.complex64]:
    """Contributions (b, n, n) of the patterns at `index`, as large as `weight`, in the phases of the network.

    `keep` is handed the patches themselves.
    """
    data = prepared.patterns(index)
    patches = crop_support(network.predict(data.root4, data.backprojection), weight.shape[-1])
    if keep is not None:
        keep(index, patches)
    return contributions(patches, weight, data.fractions)


def stitched(
    u: NDArray[np.complex64],
    prepared: PreparedScan,
    index: NDArray[np.int64],
    config: Config,
    *,
    rows: NDArray[np.int64] | None = None,
    spread: bool = False,
) -> Stitcher:
    """Contributions of the patterns at `index`, synchronized and added up on the canvas of the whole scan.

    They are u (b, n, n), or its `rows`; `spread` as in `collect`.
    """
    return collect(
        u,
        prepared.layout.part(index),
        prepared.probe,
        neighbors=config.inference.sync_neighbors,
        batches=iter(even_batches(np.arange(len(index)), batch_size(config, prepared.n_pixels))),
        rows=rows,
        spread=spread,
    )


def so_far(store: NDArray[np.complex64], done: int, prepared: PreparedScan, config: Config) -> NDArray[np.complex64]:
    """The object on the canvas of the whole scan from its first `done` patterns, in canonical order."""
    return stitched(store[:done], prepared, np.arange(done), config).canvas()


def inspected(job: TrainingJob, previews: Previews) -> TrainingJob:
    """The same job, which also shows the first scan's object after an epoch: at most SHOWN_PATTERNS of its patterns."""
    prepared, config, epoch = job.scans[0], job.config, 0
    index = np.arange(0, len(prepared), -(-len(prepared) // SHOWN_PATTERNS), dtype=np.int64)
    weight = probe_weight(prepared.probe, prepared.patch_size)

    def emit(event: Event) -> None:
        nonlocal epoch
        if event.kind == 'epoch':
            epoch = event.data['epoch']
        job.emit(event)

    def made_by(network: Network) -> NDArray[np.complex64] | None:
        parts = []
        for part in even_batches(index, batch_size(config, prepared.n_pixels)):
            if job.should_stop():
                return None
            parts.append(predicted(prepared, network, part, weight))
        return stitched(np.concatenate(parts), prepared, index, config).canvas()

    def inspect(network: Network) -> None:
        total = config.training.nepochs
        previews.offer('train', lambda: made_by(network), prepared.layout.origin, epoch=epoch, total=total)

    return replace(job, emit=emit, inspect=inspect)


def gauge_scale(prepared: PreparedScan, stitcher: Stitcher, report: Report) -> float:
    """The factor on the stitched object that the counts ask for; 1, with a note, when it is far off."""
    scale = count_gauge(prepared, stitcher.canvas())
    report.facts['count_gauge'] = scale
    if abs(scale - 1) <= LARGEST_CHANGE:
        return scale
    report.notes.append(
        f'The measured counts ask for {scale:.2f} times the amplitude of the network, too much to be corrected: '
        "the probe's power may be wrong (--probe-power from_counts), or the model may not fit this scan."
    )
    return 1.0


@contextmanager
def patch_store(shape: tuple[int, int, int], scratch: Path | None) -> Iterator[NDArray[np.complex64]]:
    """Room for all contributions: in memory, or in a file in `scratch` (removed afterwards) when they are many."""
    if np.prod(shape) * 8 <= IN_MEMORY:
        yield np.empty(shape, dtype=np.complex64)
        return
    with tempfile.TemporaryFile(dir=scratch, prefix='ptychopinn-') as file:
        yield np.memmap(file, dtype=np.complex64, mode='w+', shape=shape)
