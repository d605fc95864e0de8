"""Writing a model file: reopened from disk and replayed before it gets its name (specs/checkpoint_format.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError
from ..io.atomic import write_atomically
from ..scan import check_probe
from .format import WEIGHTS, Float32, encode
from .manifest import FORMAT, FORMAT_VERSION, Description, describe_input, describe_output
from .opening import COUNTS, PATCHES, PROBE, open_model
from .replaying import Predict, replay
from .self_test import SelfTest


def write_model(
    path: str | os.PathLike[str],
    description: Description,
    *,
    weights: Mapping[str, Float32],
    probe: NDArray[Any],
    self_test: SelfTest,
    fresh_patches: NDArray[Any],
    predict: Predict,
) -> Path:
    """Write a model file, reopen it from disk, replay its self-test, and only then give it its name.

    Parameters
    ----------
    weights
        Name -> float32 array in the backend-neutral layout.
    probe
        (modes, N, N) complex in sqrt(counts), N that of the self-test.
    fresh_patches
        (b, n, n) complex: output of a freshly initialized network of the same architecture for `self_test.counts`.
    predict
        Builds the network from a Model alone and gives its patches for counts (b, N, N).

    Raises
    ------
    ModelFileError
        When a part is not fit to be written.
    VerificationError
        When the reopened model does not reproduce the recorded output within its tolerance, or that output is less
        than 100 tolerances from the fresh network's: then nothing is written and an earlier file stays.
    OutputError
        When the folder cannot be written.
    """
    distance = self_test.distance_to(fresh_patches)
    manifest = {
        **description.model_dump(mode='json'),
        'format': FORMAT,
        'format_version': FORMAT_VERSION,
        'created': datetime.now(UTC).isoformat(timespec='seconds'),
        'input': describe_input(self_test.counts.shape[1]).model_dump(mode='json'),
        'output': describe_output(self_test.patches.shape[1]).model_dump(mode='json'),
        'self_test': {
            'tolerance': float(self_test.tolerance),
            'amplitude_range': self_test.amplitude_range,
            'distance_to_fresh': distance,
        },
    }
    data = encode(manifest, _name_tensors(weights, probe, self_test))
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
        replay(Path(path), open_model(temporary), predict)
    return Path(path)


def _name_tensors(
    weights: Mapping[str, Float32], probe: NDArray[Any], self_test: SelfTest
) -> dict[str, NDArray[np.float32]]:
    """Arrays by their names in the file; complex ones split in real and imaginary parts, which every reader knows."""
    if not weights:
        raise ModelFileError('The network handed over no weights; export them before writing the model.')
    for name, weight in weights.items():
        if weight.dtype != np.float32:
            raise ModelFileError(f"The weight '{name}' is {weight.dtype}; convert it to float32 before writing it.")
        if not np.isfinite(weight).all():
            raise ModelFileError(
                f"The weight '{name}' holds NaN or infinity; the training diverged: use an earlier checkpoint."
            )
    modes = check_probe(probe, self_test.counts.shape[1])
    patches = self_test.patches
    return {
        **{WEIGHTS + name: weight for name, weight in weights.items()},
        **dict(zip(PROBE, (modes.real, modes.imag), strict=True)),
        COUNTS: self_test.counts,
        **dict(zip(PATCHES, (patches.real, patches.imag), strict=True)),
    }
