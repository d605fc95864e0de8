"""Previews of the object that the network in training predicts, after an epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..backend import Network, TrainingJob
from ..events import Epoch, Event, Previews
from ..physics.prepare import even_batches
from ..physics.stitching.stitch import probe_weight
from ..reconstruction.network_object import batch_size, predict_contributions, stitch_contributions

SHOWN_PATTERNS = 1024  # predicted for a preview: seconds on one core at most


def add_previews(job: TrainingJob, previews: Previews) -> TrainingJob:
    """Job that also previews the first scan's object after an epoch, from at most SHOWN_PATTERNS patterns."""
    prepared, config, epoch = job.scans[0], job.config, 0
    index = np.arange(0, len(prepared), -(-len(prepared) // SHOWN_PATTERNS), dtype=np.int64)
    weight = probe_weight(prepared.probe, prepared.patch_size)

    def emit(event: Event) -> None:
        nonlocal epoch
        if isinstance(event, Epoch):
            epoch = event.epoch
        job.emit(event)

    def predict_object(network: Network) -> NDArray[np.complex64] | None:
        parts = []
        for part in even_batches(index, batch_size(config, prepared.n_pixels)):
            if job.should_stop():
                return None
            parts.append(predict_contributions(prepared, network, part, weight).contributions)
        return stitch_contributions(np.concatenate(parts), prepared, index, config).canvas()

    def inspect(network: Network) -> None:
        total = config.training.nepochs
        previews.offer('train', lambda: predict_object(network), prepared.layout.origin, epoch=epoch, total=total)

    return replace(job, emit=emit, inspect=inspect)
