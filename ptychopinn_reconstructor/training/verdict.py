"""The verdict on a training: whether its network explains patterns that it has not seen, and what to do if not.

Misfit in units of counting noise, of the network's object and of what the engine makes of that: where the engine comes
down to the noise the scan is sound and the network has learned too little, else the scan, its probe or its positions
are at fault. The thresholds were measured (docs/explanation/verdict.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, Network, TrainedModel, select_arrays
from ..config import Config, RefinementConfig
from ..physics.arrays import Arrays
from ..physics.engine.refine import refine
from ..physics.engine.residuals import residuals
from ..physics.grouping import Index, Split
from ..physics.inspection.corrected import Values, corrected_patterns
from ..physics.prepare import PreparedScan
from ..physics.residual import Residual
from ..physics.scoring.goodness_of_fit import measure_excess
from ..reconstruction.diagnostics import assess
from ..reconstruction.network_object import network_object
from ..reconstruction.reconstruct import run_info
from ..reconstruction.refinement import FAR_FROM_DATA, classify_start, refinement_options
from ..reconstruction.verdict import judge
from ..result import Reason, Verdict, Word, tell_verdict
from .fine_tuning import replace_probe

JUDGED_PIXELS, FEWEST_JUDGED, MOST_JUDGED = 2**20, 64, 256  # of the detector; patterns: seconds on one core
UNTRAINED_MUCH = 3 * FAR_FROM_DATA  # of the held-out counts that the network leaves unexplained beyond noise
BESIDE = 2  # patterns that were trained on for one that was held out
MEND_FIRST = 'mend the scan first, or train with training.refine_probe_first=20 or training.refine_positions_first=20'
OVERFITTED = 1.5  # times the misfit of patterns that were trained on


@dataclass(frozen=True)
class TrainingVerdict:
    """Whether a trained network can be used.

    Parameters
    ----------
    word
        'good', 'doubtful' or 'bad': that of the worst reason.
    ratio
        Misfit of the network's object in units of counting noise, of patterns that were held out.
    trained_ratio
        The same of patterns nearby that were trained on; None where there are none.
    refined_ratio
        The same of all of them after the engine; None where the scans are simulated and need no judging.
    held_out
        Number of those that were held out; 0: none were, and `ratio` is of patterns that were trained on.
    reasons
        The worst first; none where it is good.
    """

    word: Word
    ratio: float
    trained_ratio: float | None
    refined_ratio: float | None
    held_out: int
    reasons: tuple[Reason, ...] = ()

    @property
    def fit(self) -> str:
        """The ratios as a clause."""
        which = 'held-out patterns fit' if self.held_out else 'patterns fit'
        refined = '' if self.refined_ratio is None else f', after the engine to {self.refined_ratio:.3g}'
        return f'{which} to {self.ratio:.3g} times counting noise{refined}'

    @property
    def sentence(self) -> str:
        """The verdict with its first reason and what to do, for people."""
        return tell_verdict(f'Trained: {self.fit}: {self.word}', self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types by the names of the fields, as metrics.json holds them."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return values | {'reasons': [reason.to_json() for reason in self.reasons]}


def judge_training(
    trained: TrainedModel,
    backend: Backend,
    config: Config,
    scans: Sequence[PreparedScan],
    splits: Sequence[Split],
    *,
    measured: bool,
) -> TrainingVerdict:
    """The verdict on a trained model, from the scan of which most is held out, or from all that are not `measured`."""
    network = backend.network(config, trained.weights, config.execution.device)
    arrays = select_arrays(backend, config.execution.device)
    most = int(np.argmax([len(split.validation) for split in splits]))
    found, after_engine = [], None
    for number in [most] if measured else range(len(scans)):  # a simulated object may be flat, which is no test
        chosen = _choose_patterns(scans[number], splits[number])
        part = replace_probe(_cut_out(scans[number], chosen.patterns), trained.probes[number])
        canvas, misfit = predict_misfit(part, network, config, arrays)
        after_engine = judge_scan(part, canvas, config.training.seed, arrays) if measured else None
        found.append((misfit.part(chosen.unseen), misfit.part(chosen.seen)))
    unseen, seen = (Residual.join(list(parts)) for parts in zip(*found, strict=True))
    held_out = len(unseen.counts)
    if not held_out:
        unseen, seen = seen, unseen
    beside = seen if len(seen.counts) else None
    reasons = sorted(list_reasons(unseen, beside, after_engine), key=lambda reason: reason.word != 'bad')
    return TrainingVerdict(
        word=reasons[0].word if reasons else 'good',
        ratio=unseen.noise_ratio,
        trained_ratio=None if beside is None else beside.noise_ratio,
        refined_ratio=None if after_engine is None else after_engine.ratio,
        held_out=held_out,
        reasons=tuple(reasons),
    )


class Chosen(NamedTuple):
    """Patterns that are judged, increasing, and which of them were held out, or trained on next to those."""

    patterns: Index
    unseen: NDArray[np.bool_]
    seen: NDArray[np.bool_]


def _choose_patterns(scan: PreparedScan, split: Split) -> Chosen:
    """The patterns nearest to those that were held out, or to the middle.

    All of them make the object; with patterns of its edge, where neighbors are missing, nothing is compared.
    """
    count = int(np.clip(JUDGED_PIXELS // scan.n_pixels**2, FEWEST_JUDGED, MOST_JUDGED))
    unseen = np.isin(np.arange(len(scan)), split.validation)
    center = scan.positions[unseen if unseen.any() else slice(None)].mean(axis=0)
    near = np.argsort(np.linalg.norm(scan.positions - center, axis=1), kind='stable')[:count]
    beside = near[~unseen[near]][: BESIDE * int(unseen.sum()) or None]
    index = np.sort(near)
    return Chosen(index, unseen[index], np.isin(index, beside))


def predict_misfit(
    part: PreparedScan, network: Network, config: Config, arrays: Arrays
) -> tuple[NDArray[np.complex64], Residual]:
    """The network's own object (H, W) of a scan, stitched as in a reconstruction by default, and its misfit."""
    canvas = network_object(part, network, Config().merged({'model': config.to_json()['model']}), arrays=arrays).canvas
    return canvas, residuals(part, canvas, arrays=arrays)


def _cut_out(scan: PreparedScan, index: Index) -> PreparedScan:
    """The patterns at `index` as a scan of their own, on the same canvas; they keep their numbers."""
    part, frames, whole = scan.part(index), np.sort(scan.order[index]), scan.scan
    numbers = frames if whole.pattern_indexes is None else whole.pattern_indexes[frames]
    own = replace(
        whole,
        diffraction=corrected_patterns(whole.diffraction, frames, Values.none()),
        positions=whole.positions[frames],
        scan_index=None,
        pattern_indexes=numbers,
    )
    return replace(part, scan=own, order=np.searchsorted(frames, part.order))


def judge_scan(part: PreparedScan, canvas: NDArray[np.complex64], seed: int, arrays: Arrays) -> Verdict:
    """The verdict on what the engine makes of an object (H, W) by default."""
    begin = classify_start(part, canvas, arrays)
    options = refinement_options(RefinementConfig(), part, start=begin, seed=seed)
    refined = refine(part, canvas, options, arrays=arrays)
    reliability = assess(part, residuals(part, refined.canvas, refined.probe, arrays=arrays), refined.probe)
    run = run_info(part, 'numpy', arrays.device, 'engine', 'scan')
    run = replace(run, refine_passes=options.passes, residual_by_pass=tuple(map(float, refined.residuals)))
    return judge(part, run, reliability, refined.canvas, refined.probe, arrays)


def list_reasons(unseen: Residual, seen: Residual | None, after_engine: Verdict | None) -> Iterator[Reason]:
    """Reasons why a network cannot be used, from the misfit of patterns held out and trained on.

    What the engine's object of the same patterns is judged by is a fault of the scan: no training mends that.
    """
    reasons = () if after_engine is None else after_engine.reasons
    for reason in reasons:
        yield reason if reason.code != 'misfit' or len(reasons) > 1 else replace(reason, remedy=MEND_FIRST)
    scan_fits = not any(reason.code == 'misfit' for reason in reasons)
    excess = measure_excess(unseen)
    if excess > FAR_FROM_DATA and scan_fits:
        yield Reason(
            'untrained',
            'bad' if excess > UNTRAINED_MUCH else 'doubtful',
            f'the network leaves {excess:.1%} of the counts unexplained',
            'too short a training, or too few patterns',
            'train longer (training.nepochs), on more scans, or from a pretrained model (initial=)',
        )
    if seen is not None and excess > FAR_FROM_DATA and unseen.noise_ratio > OVERFITTED * seen.noise_ratio:
        yield Reason(
            'overfitted',
            'doubtful',
            f'patterns that were held out fit {unseen.noise_ratio / seen.noise_ratio:.2g} times worse than others',
            'too few patterns to learn from for so many epochs',
            'train on more scans, from a pretrained model (initial=), or shorter (training.nepochs)',
        )
