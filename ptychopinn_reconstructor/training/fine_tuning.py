"""Choice between the fine-tuned and the initial weights, by the residual of a refined reconstruction.

What counts is the object that a user gets by default, so both networks reconstruct the first scan, with the passes of
the engine that its dose and overlap ask for, and the smaller residual wins. The network's own residual would not do:
learning from the likelihood lowers it even where the object becomes worse. After the passes the residual tells networks
apart that differ by a dB of phase.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel, Weights, select_arrays
from ..config import Config, RefinementConfig
from ..events import Emit, Log, Notice
from ..physics.engine.options import RefineOptions
from ..physics.engine.refine import refine
from ..physics.engine.residuals import residuals
from ..physics.prepare import PreparedScan
from ..reconstruction.network_object import network_object
from ..reconstruction.refinement import refinement_options

SAME = 1.01  # after refinement two good networks differ by less, either way: then the trained one is what was asked for
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
    """Trained model, or the same with its initial weights where these reconstruct `prepared` with a smaller residual.

    The summary gets `start_residual`, `residual` and `start_kept`; the notice names the one kept.
    """
    # Default settings instead of config.refinement: without passes the residual does not rank the networks.
    options = refinement_options(RefinementConfig(), prepared, start='network', seed=config.training.seed)
    scan = prepared.part(np.arange(min(len(prepared), COMPARED_PATTERNS)))
    before, after = (
        compute_refined_residual(weights, backend, config, replace_probe(scan, probe), options)
        for weights, probe in ((start, prepared.probe), (trained.weights, trained.probes[0]))
    )
    kept = not after < SAME * before  # a residual that is not a number is no improvement
    which = 'the model it started from is kept' if kept else 'the trained model is kept'
    text = f'Residual after {options.passes} passes: {before:.5g} before the training, {after:.5g} after it; {which}.'
    emit(Log(text))
    notice = Notice('model_kept', text)
    summary = {**trained.summary, 'start_residual': before, 'residual': after, 'start_kept': kept}
    if not kept:
        return replace(trained, summary=summary), notice
    probes = (prepared.probe, *trained.probes[1:])
    return replace(trained, weights=start, probes=probes, summary=summary), notice


def compute_refined_residual(
    weights: Weights, backend: Backend, config: Config, scan: PreparedScan, options: RefineOptions
) -> float:
    """Overall normalized residual of a scan reconstructed with these weights and refined with `options`.

    Where the network's object explains the scan less than an empty one, the engine begins from that, and what it
    reaches says nothing of the network: then its residual before the refinement.
    """
    network = backend.network(config, weights, config.execution.device)
    arrays = select_arrays(backend, config.execution.device)
    canvas = network_object(scan, network, config, arrays=arrays).canvas
    refined = refine(scan, canvas, options, arrays=arrays)
    if refined.start_dropped:
        return residuals(scan, canvas, arrays=arrays).overall
    return residuals(scan, refined.canvas, refined.probe, arrays=arrays).overall


def replace_probe(scan: PreparedScan, probe: NDArray[np.complex64]) -> PreparedScan:
    """Scan with its probe replaced by (modes, N, N) in sqrt(counts)."""
    return replace(scan, gauge=scan.gauge._replace(probe=probe))
