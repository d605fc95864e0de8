"""A trained network over a whole scan: every position once, synchronized, stitched, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import Network, TrainingJob
from ..config import Config
from ..errors import ConfigError, Interrupted
from ..events import Event, Notice, Previews, ShouldStop, ignore, never
from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.wavefront import correct_long_range_phase
from ..physics.illumination import illumination
from ..physics.prepare import even_batches
from ..physics.scaling import crop_support
from ..physics.scoring.halves import split_interleaved
from ..physics.stitching.average import mean_object
from ..physics.stitching.count_scale import LARGEST_CHANGE, count_gauge
from ..physics.stitching.stitch import Stitcher, contributions, probe_weight, stitch_patches
from .patches import Keep, kept_patches
from .refinement import solves_wavefront
from .report import StageTimes

if TYPE_CHECKING:
    from ..physics.prepare import PreparedScan

IN_MEMORY = 512 * 2**20  # bytes of patches kept in memory; more go to a scratch file
BATCH_PIXELS, LARGEST_BATCH = 2**20, 64  # of the detector, and patterns: what bounds the memory of the network
SHOWN_PATTERNS = 1024  # predicted for a preview in training: seconds on one core at most


@dataclass(frozen=True, eq=False)
class Start:
    """An object to begin with (H, W), how uncertain it is, and the same from two halves of the scan.

    `deviation` (H, W) is a standard deviation, NaN where unknown, None without a network; `source` says of what.
    `halves` go with `physics.scoring.halves.interleaved`; none where no split is asked for. `count_gauge` is the factor
    on the network's amplitude that the counts ask for, None without a network; `notices` are for the user.
    """

    canvas: NDArray[np.complex64]
    deviation: NDArray[np.float32] | None = None
    source: Literal['patches', 'models'] = 'patches'
    halves: tuple[NDArray[np.complex64], ...] = ()
    count_gauge: float | None = None
    notices: tuple[Notice, ...] = ()


def average_objects(starts: Sequence[Start], prepared: PreparedScan) -> Start:
    """The mean of several networks' objects, with their standard deviation; of one network its own object.

    The count gauge is that of the first network.
    """
    if len(starts) == 1:
        return starts[0]
    weight = illumination(prepared.layout, prepared.probe)
    canvas, deviation = mean_object([start.canvas for start in starts], weight)
    halves = (mean_object(half, weight)[0] for half in zip(*(start.halves for start in starts), strict=True))
    notices = tuple(notice for start in starts for notice in start.notices)
    return Start(canvas, deviation, 'models', tuple(halves), starts[0].count_gauge, notices)


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
    *,
    times: StageTimes | None = None,
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
    times = times or StageTimes()
    with patch_store((total, n, n), scratch) as store:
        with times.stage('network', total), kept_patches(patches_file, prepared, n) as keep:
            for index in prepared.batches(size):
                if should_stop():
                    raise Interrupted('Stopped before the object was complete; nothing is written.')
                store[index] = predicted(prepared, network, index, weight, keep)
                done = int(index[-1]) + 1
                previews.emit(Event('progress', {'stage': 'network', 'done': done, 'total': total}))
                if done < total:
                    partial_canvas = partial(partial_object, store, done, prepared, config)
                    previews.offer('network', partial_canvas, origin, patterns=done, total=total)
        with times.stage('stitch', total):
            stitcher = stitched(store, prepared, np.arange(total), config, spread=True)
        halves = []
        if config.inference.split_frc:
            with times.stage('stitch_halves', total):
                for index in split_interleaved(total):
                    halves.append(stitched(store, prepared, index, config, rows=index))
    with times.stage('gauge', total):
        gauge = count_gauge(prepared, stitcher.canvas())
        scale, notices = gauge_scale(gauge)
        canvas, deviation = stitcher.canvas(scale), stitcher.deviation(scale)
        halved = [half.canvas(scale) for half in halves]
    if solves_wavefront(config.refinement, 'network'):
        level = partial(level_object, arrays=arrays, previews=previews, should_stop=should_stop)
        with times.stage('wavefront', total):
            canvas = level(prepared, canvas, stitcher.weight)
            for number, index in enumerate(split_interleaved(total) if halved else ()):
                halved[number] = level(prepared.part(index), halved[number], halves[number].weight)
    previews.offer('network', lambda: canvas, origin, complete=True, patterns=total, total=total)
    return Start(canvas, deviation, halves=tuple(halved), count_gauge=gauge, notices=notices)


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

    return arrays.get(
        correct_long_range_phase(prepared, arrays.put(canvas), light=weight, arrays=arrays, after_block=after_block)
    )


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

    They are u (b, n, n), or its `rows`; `spread` as in `stitch_patches`.
    """
    return stitch_patches(
        u,
        prepared.layout.part(index),
        prepared.probe,
        neighbors=config.inference.sync_neighbors,
        batches=iter(even_batches(np.arange(len(index)), batch_size(config, prepared.n_pixels))),
        rows=rows,
        spread=spread,
    )


def partial_object(
    store: NDArray[np.complex64], done: int, prepared: PreparedScan, config: Config
) -> NDArray[np.complex64]:
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


def gauge_scale(gauge: float) -> tuple[float, tuple[Notice, ...]]:
    """The factor on the stitched object when the counts ask for `gauge`: 1, with a notice, when that is far off."""
    if abs(gauge - 1) <= LARGEST_CHANGE:
        return gauge, ()
    text = (
        f'The measured counts ask for {gauge:.2f} times the amplitude of the network, too much to be corrected: '
        "the probe's power may be wrong (--probe-power from_counts), or the model may not fit this scan."
    )
    return 1.0, (Notice('count_gauge', text),)


@contextmanager
def patch_store(shape: tuple[int, int, int], scratch: Path | None) -> Iterator[NDArray[np.complex64]]:
    """Room for all contributions: in memory, or in a file in `scratch` (removed afterwards) when they are many."""
    if np.prod(shape) * 8 <= IN_MEMORY:
        yield np.empty(shape, dtype=np.complex64)
        return
    with tempfile.TemporaryFile(dir=scratch, prefix='ptychopinn-') as file:
        yield np.memmap(file, dtype=np.complex64, mode='w+', shape=shape)
