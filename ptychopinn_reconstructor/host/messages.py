"""What the messages of a worker become in the host: products, progress, lines of the log."""

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

WHOLE = 100  # progress of a complete reconstruction: percent
AFTER_NETWORK = 90  # percent at which the network's object is complete, when it is refined afterwards


def take_array(path: Path) -> NDArray[Any]:
    """An array that the worker has left, whose file is then removed."""
    values: NDArray[Any] = np.load(path, allow_pickle=False)
    path.unlink()
    return values


def preview_output(
    scan: HostScan, preview: Preview, scratch: Path, model: ModelFile, config: Config
) -> ReconstructOutput:
    """A product with the object as it is now, and the losses of the model's training."""
    object_ = scan.object_of(take_array(scratch / preview.object), preview.origin)
    return ReconstructOutput(
        scan.product_with(object_, losses=model.manifest.training.losses), progress=percent(preview, config)
    )


def result_output(scan: HostScan, done: ReconstructDone, scratch: Path) -> ReconstructOutput:
    """The product of a complete reconstruction."""
    product = scan.product_with(
        scan.object_of(take_array(scratch / done.object), done.origin),
        probe=take_array(scratch / done.probe),
        positions=None if done.positions is None else take_array(scratch / done.positions),
        losses=done.losses,
        comment=done.comments,
    )
    return ReconstructOutput(product, progress=WHOLE)


def percent(preview: Preview, config: Config) -> int:
    """How far a reconstruction is, below WHOLE."""
    network = AFTER_NETWORK if config.refinement.passes != 0 else WHOLE - 1
    if preview.stage == 'network':
        return max(1, int(network * (preview.patterns or 0) / preview.total))
    return min(WHOLE - 1, network + int((WHOLE - network) * (preview.epoch or 0) / preview.total))


def epoch_line(epoch: Epoch) -> str:
    """How far a training is, for the log."""
    held_out = '' if epoch.val_loss is None else f', held-out loss {epoch.val_loss:.5g}'
    return f'Epoch {epoch.epoch} of {epoch.total}: loss {epoch.train_loss:.5g}{held_out}'


def result_line(done: ReconstructDone) -> str:
    """How far to trust the object, for the log."""
    return f'Done after {done.run.refine_passes} refinement passes: {done.reliability}.'
