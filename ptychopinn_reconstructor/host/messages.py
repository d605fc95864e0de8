"""Conversion of a worker's messages to the host's products, progress and log lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.reconstruct import ReconstructOutput

from ..config import Config
from ..worker.messages import Epoch, Preview, ReconstructDone
from .model_file import ModelFile
from .scans import HostScan
from .wording import say

WHOLE = 100  # progress of a complete reconstruction: percent
AFTER_NETWORK = 90  # percent at which the network's object is complete, when it is refined afterwards


def take_array(path: Path) -> NDArray[Any]:
    """Array that the worker wrote; the file is removed."""
    values: NDArray[Any] = np.load(path, allow_pickle=False)
    path.unlink()
    return values


def make_preview_output(
    scan: HostScan, preview: Preview, scratch: Path, model: ModelFile | None, config: Config
) -> ReconstructOutput:
    """Output with the current object and the losses of the model's training, none where no model is used."""
    object_ = scan.make_object(take_array(scratch / preview.object), preview.origin)
    product = scan.make_product(object_, losses=() if model is None else model.manifest.training.losses)
    return ReconstructOutput(product, progress=compute_percent(preview, config, uses_network=model is not None))


def make_result_output(scan: HostScan, done: ReconstructDone, scratch: Path) -> ReconstructOutput:
    """Output of a complete reconstruction."""
    product = scan.make_product(
        scan.make_object(take_array(scratch / done.object), done.origin),
        probe=take_array(scratch / done.probe),
        positions=None if done.positions is None else take_array(scratch / done.positions),
        losses=done.losses,
        comment=say(done.comments),
    )
    return ReconstructOutput(product, progress=WHOLE)


def compute_percent(preview: Preview, config: Config, *, uses_network: bool = True) -> int:
    """Progress of a reconstruction in percent, below WHOLE."""
    network = (AFTER_NETWORK if config.refinement.passes != 0 else WHOLE - 1) if uses_network else 0
    if preview.stage == 'network':
        return max(1, int(network * (preview.patterns or 0) / preview.total))
    return min(WHOLE - 1, network + int((WHOLE - network) * (preview.epoch or 0) / preview.total))


def format_epoch(epoch: Epoch) -> str:
    """Log line with epoch and losses of a training."""
    held_out = '' if epoch.val_loss is None else f', held-out loss {epoch.val_loss:.5g}'
    return f'Epoch {epoch.epoch} of {epoch.total}: loss {epoch.train_loss:.5g}{held_out}'


def format_result(done: ReconstructDone) -> str:
    """Log line with the reliability of the result."""
    return f'Done after {done.run.refine_passes} refinement passes: {done.reliability}.'
