"""Fine-tuning never makes the result worse: what it started from is kept where that explains the patterns better.

What counts is the object that a user gets by default, so both networks reconstruct the first scan, with the passes of
the engine that its dose and overlap ask for, and the smaller residual wins. The network's own residual would not do:
learning from the likelihood lowers it even where the object becomes worse. After the passes the residual tells networks
apart that differ by a dB of phase.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel, Weights, arrays_on
from ..config import Config, RefinementConfig
from ..events import Emit, Log, Notice
from ..physics.engine.refine import RefineOptions, refine, residuals
from ..physics.prepare import PreparedScan
from ..reconstruction.network_object import network_object
from ..reconstruction.refinement import refinement_options

COMPARED_PATTERNS = 1024  # the first of the scan in canonical order: one stripe, seconds on one core


def keep_better_model(
    trained: TrainedModel,
    start: Weights,
    backend: Backend,
    config: Config,
    prepared: PreparedScan,
    *,
    emit: Emit,
) -> tuple[TrainedModel, Notice]:
    """The trained model or, where that reconstructs `prepared` less well, one with the weights it started from.

    The summary gets `start_residual`, `residual` and `start_kept`; the notice says which was kept.
    """
    # Not config.refinement: what a user gets by default is compared, and with no passes nothing could be told.
    options = refinement_options(RefinementConfig(), prepared, start='network', seed=config.training.seed)
    scan = prepared.part(np.arange(min(len(prepared), COMPARED_PATTERNS)))
    before, after = (
        refined_residual(weights, backend, config, with_probe(scan, probe), options)
        for weights, probe in ((start, prepared.probe), (trained.weights, trained.probes[0]))
    )
    kept = not after < before  # a residual that is not a number is no improvement
    which = 'the model it started from is kept' if kept else 'the trained model is kept'
    text = f'Residual after {options.passes} passes: {before:.5g} before the training, {after:.5g} after it; {which}.'
    emit(Log(text))
    notice = Notice('model_kept', text)
    summary = {**trained.summary, 'start_residual': before, 'residual': after, 'start_kept': kept}
    if not kept:
        return replace(trained, summary=summary), notice
    probes = (prepared.probe, *trained.probes[1:])
    return replace(trained, weights=start, probes=probes, summary=summary), notice


def refined_residual(
    weights: Weights, backend: Backend, config: Config, scan: PreparedScan, options: RefineOptions
) -> float:
    """Overall normalized residual of a scan reconstructed with these weights and so refined."""
    network = backend.network(config, weights, config.execution.device)
    arrays = arrays_on(backend, config.execution.device)
    canvas = network_object(scan, network, config, arrays=arrays).canvas
    refined = refine(scan, canvas, options, arrays=arrays)
    return residuals(scan, refined.canvas, refined.probe, arrays=arrays).overall


def with_probe(scan: PreparedScan, probe: NDArray[np.complex64]) -> PreparedScan:
    """The same scan under another probe (modes, N, N) in sqrt(counts)."""
    return replace(scan, gauge=scan.gauge._replace(probe=probe))
