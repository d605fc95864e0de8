"""How Lightning writes and reads its checkpoints here: whole or not at all, sealed, and never unpickled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ptychopinn_reconstructor.io.sealing import open_sealed, write_sealed


class SealedCheckpointIO(TorchCheckpointIO):
    """Lightning's own, which saves through the folder for temporary files: from there to another disk is a copy."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save under a temporary name in the same folder; OutputError where the disk is full."""
        buffer = io.BytesIO()  # so that a full disk is the system's error and not one of PyTorch's own
        torch.save(checkpoint, buffer)
        with write_sealed(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint in a file, whatever Lightning asks for."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint in a file, on the CPU; ModelFileError where it is damaged or holds more than plain values."""
    with open_sealed(path):
        # no pickle is executed; before PyTorch 2.6 that is not the default
        loaded: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
        return loaded
