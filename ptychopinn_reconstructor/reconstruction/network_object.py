"""A trained network over a whole scan: every position once, synchronized, stitched, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import Network
from ..config import Config
from ..errors import ConfigError, Interrupted
from ..events import Notice, Previews, Progress, ShouldStop, ignore, never
from ..io.scratch import Scratch
from ..physics.arrays import NUMPY, Arrays, Found, NumpyArrays
from ..physics.engine.wavefront import correct_long_range_phase
from ..physics.prepare import even_batches
from ..physics.processes import own_part
from ..physics.scaling import crop_support
from ..physics.scoring.halves import split_interleaved
from ..physics.stitching.count_scale import LARGEST_CHANGE, count_gauge
from ..physics.stitching.stitch import Stitcher, contributions, probe_weight, stitch_patches
from .initial_object import InitialObject
from .memory import IN_MEMORY, ITEM
from .patches import Keep, kept_patches
from .refinement import reconstruction_threads
from .report import StageTimes

if TYPE_CHECKING:
    from ..physics.prepare import PreparedScan

TORN = 0.01  # of the overlaps: noise of .4 rad a pair leaves 1e-4 apart, .7 rad, at which a scan can be lost, 3 %
BATCH_PIXELS, LARGEST_BATCH = 2**20, 64  # of the detector, and patterns: what bounds the memory of the network
BATCHES_A_ROUND = 8  # of each process, between two questions whether to stop


class Predicted(NamedTuple):
    """Patches of a network and their contributions to the canvas, both (b, n, n)."""

    patches: NDArray[np.complex64]
    contributions: NDArray[np.complex64]


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
) -> InitialObject:
    """The network's object on the canvas of `prepared`: all positions, synchronized, stitched, its wavefront corrected.

    With `split_frc` each of two interleaved halves of the patches is stitched too. `patches_file` keeps the patches
    before stitching (`kept_patches`). `previews` are shown what there is after each batch, and the complete object;
    they also hear of the progress. `arrays` are those of the device that corrects the wavefront.
    """
    n, total, times = stitched_size(config, prepared), len(prepared), times or StageTimes()
    previews = previews or Previews(ignore, None)
    cpu = arrays if isinstance(arrays, NumpyArrays) else NumpyArrays(reconstruction_threads(config), arrays.processes)
    with patch_store((total, n, n), scratch) as store:
        with times.stage('network', total), kept_patches(patches_file, prepared, n) as keep:
            predict_all(store, prepared, network, config, keep, previews=previews, should_stop=should_stop, arrays=cpu)
        with times.stage('stitch', total):
            stitcher = stitch_contributions(store, prepared, np.arange(total), config, spread=True, arrays=cpu)
        halves = []
        if config.inference.split_frc:
            with times.stage('stitch_halves', total):
                for index in split_interleaved(total):
                    halves.append(stitch_contributions(store, prepared, index, config, rows=index, arrays=cpu))
    with times.stage('gauge', total):
        gauge = count_gauge(prepared, stitcher.canvas(), arrays=cpu)
        scale, notices = amplitude_correction(gauge)
        notices = (*notices, *notice_tear(stitcher.torn))
        canvas, deviation = stitcher.canvas(scale), stitcher.deviation(scale)
        halved = [half.canvas(scale) for half in halves]
    if config.refinement.wavefront:
        correct = partial(correct_wavefront, arrays=arrays, previews=previews, should_stop=should_stop)
        with times.stage('wavefront', total):
            canvas = correct(prepared, canvas, stitcher.weight)
            for number, index in enumerate(split_interleaved(total) if halved else ()):
                halved[number] = correct(prepared.part(index), halved[number], halves[number].weight)
    origin = prepared.layout.origin
    previews.offer('network', lambda: canvas, origin, complete=True, patterns=total, total=total)
    return InitialObject(canvas, deviation, halves=tuple(halved), count_gauge=gauge, notices=notices)


def predict_all(
    store: Any,
    prepared: PreparedScan,
    network: Network,
    config: Config,
    keep: Keep,
    *,
    previews: Previews,
    should_stop: ShouldStop,
    arrays: Arrays = NUMPY,
) -> None:
    """Fill `store` (patterns, n, n), an array or a `Scratch`, with all contributions, in canonical order.

    Of several processes each fills its own part.
    """
    weight, total = probe_weight(prepared.probe, store.shape[-1]), len(prepared)

    def compute(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], Predicted]:
        return index, predict_contributions(prepared, network, index, weight, arrays)

    for index, predicted in map_own(compute, total, batch_size(config, prepared.n_pixels), arrays):
        if should_stop():
            raise Interrupted('Stopped before the object was complete; nothing is written.')
        keep(index, predicted.patches)
        store[index] = predicted.contributions
        done = int(index[-1]) + 1
        previews.emit(Progress('network', done, total))
        if done < total and arrays.processes.total == 1:
            canvas = partial(partial_object, store, done, prepared, config)
            previews.offer('network', canvas, prepared.layout.origin, patterns=done, total=total)
    if total - 1 not in own_part(total, arrays.processes):  # as long as the whole, with what is not its own left open
        store[np.array([total - 1])] = np.zeros((1, *store.shape[1:]), np.complex64)


def map_own(compute: Callable[[NDArray[np.int64]], Found], total: int, size: int, arrays: Arrays) -> Iterator[Found]:
    """What `compute` finds of the batches of at most `size` of those of `total` patterns that are this process's own.

    Now and then all processes ask each other whether to stop.
    """
    own, count = own_part(total, arrays.processes), arrays.processes.total
    batches = even_batches(np.arange(own.start, own.stop), size)
    if count == 1:
        yield from arrays.map_blocks(compute, batches)
        return
    largest = -(-total // count)  # so that all have as many rounds
    for begin in range(0, -(-largest // size), BATCHES_A_ROUND):
        yield from arrays.map_blocks(compute, batches[begin : begin + BATCHES_A_ROUND])
        arrays.processes.gather(None)


def correct_wavefront(
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
        previews.emit(Progress('wavefront', done, len(prepared)))

    return arrays.get(
        correct_long_range_phase(prepared, arrays.put(canvas), light=weight, arrays=arrays, after_block=after_block)
    )


def predict_contributions(
    prepared: PreparedScan,
    network: Network,
    index: NDArray[np.int64],
    weight: NDArray[np.float32],
    arrays: Arrays = NUMPY,
) -> Predicted:
    """What a network makes of the patterns at `index`, as large as `weight`, in its own phases."""
    data = prepared.patterns(index)
    patches = crop_support(network.predict(data.root4, data.backprojection), weight.shape[-1])
    return Predicted(patches, contributions(patches, weight, data.fractions, arrays))


def stitch_contributions(
    u: Any,
    prepared: PreparedScan,
    index: NDArray[np.int64],
    config: Config,
    *,
    rows: NDArray[np.int64] | None = None,
    spread: bool = False,
    arrays: Arrays = NUMPY,
) -> Stitcher:
    """Contributions of the patterns at `index`, synchronized and added up on the canvas of the whole scan.

    They are the first of u (b, n, n), or its `rows`; `spread` as in `stitch_patches`.
    """
    return stitch_patches(
        u,
        prepared.layout.part(index),
        prepared.probe,
        neighbors=config.inference.sync_neighbors,
        batches=even_batches(np.arange(len(index)), batch_size(config, prepared.n_pixels)),
        rows=rows,
        spread=spread,
        arrays=arrays,
    )


def partial_object(store: Any, done: int, prepared: PreparedScan, config: Config) -> NDArray[np.complex64]:
    """The object on the canvas of the whole scan from its first `done` patterns, in canonical order."""
    return stitch_contributions(store, prepared, np.arange(done), config).canvas()


def notice_tear(share: float) -> tuple[Notice, ...]:
    """A notice where so much of the overlaps is left apart that the patches are no single object."""
    if share <= TORN:
        return ()
    text = (
        f'Of the overlaps of the patches {share:.1%} stay more than a quarter turn apart once their phases are '
        'synchronized: the object of the network may have seams, which more passes or a scan that overlaps more mend.'
    )
    return (Notice('patches_torn', text),)


def amplitude_correction(gauge: float) -> tuple[float, tuple[Notice, ...]]:
    """The factor on the stitched object when the counts ask for `gauge`: 1, with a notice, when that is far off."""
    if abs(gauge - 1) <= LARGEST_CHANGE:
        return gauge, ()
    text = (
        f'The measured counts ask for {gauge:.2f} times the amplitude of the network, too much to be corrected: '
        "the probe's power may be wrong (data.probe_power=from_counts), or the model may not fit this scan."
    )
    return 1.0, (Notice('count_gauge', text),)


@contextmanager
def patch_store(shape: tuple[int, int, int], scratch: Path | None) -> Iterator[Any]:
    """Room for all contributions: in memory, or in a file in `scratch` (removed afterwards) when they are many.

    Raises OutputError when the disk has not the room, before any work.
    """
    if math.prod(shape) * ITEM <= IN_MEMORY:
        yield np.empty(shape, dtype=np.complex64)
        return
    with closing(Scratch(np.complex64, shape[1:], scratch, "The network's patches", expected=shape[0])) as file:
        yield file
