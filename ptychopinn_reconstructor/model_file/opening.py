"""Opening and checking a model file without a framework (specs/checkpoint_format.md)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ModelFileError, ScanError
from ..scan import check_probe
from .exported import decode_export, is_export
from .format import WEIGHTS, Float32, Json, Tensors, decode
from .manifest import MAX_TOLERANCE, NETWORK_SETTINGS, Manifest, parse_manifest
from .self_test import SelfTest
from .showing import describe_model, format_model

PROBE = ('probe/real', 'probe/imag')
COUNTS, PATCHES = 'selftest/counts', ('selftest/patches_real', 'selftest/patches_imag')


@dataclass(frozen=True, eq=False)
class Model:
    """One trained model as read from its file: plain arrays and a typed manifest.

    Parameters
    ----------
    manifest
        What the model says of itself.
    weights
        Name -> float32 array in the backend-neutral layout.
    probe
        (modes, N, N) complex64 in sqrt(counts).
    self_test
        Recorded input and output.
    """

    manifest: Manifest
    weights: dict[str, Float32]
    probe: NDArray[np.complex64]
    self_test: SelfTest

    @property
    def config(self) -> Config:
        """Configuration of the training, N included."""
        return self.manifest.config

    def __repr__(self) -> str:
        return describe_model(self.manifest)

    def _repr_html_(self) -> str:
        return format_model(self.manifest, self.probe, self.self_test)


@dataclass(frozen=True, eq=False)
class Inspection:
    """Summary of a model file for `inspect`: path, size in bytes, manifest and array shapes."""

    path: Path
    size: int
    manifest: Manifest
    shapes: dict[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            'path': str(self.path),
            'size': self.size,
            'manifest': self.manifest.to_json(),
            'arrays': {name: list(shape) for name, shape in self.shapes.items()},
        }


def open_model(path: str | os.PathLike[str]) -> Model:
    """Read and check a whole model file.

    Raises ModelFileError when the file is absent, foreign, truncated, altered, absurdly large, of an unknown version,
    or when its parts disagree.
    """
    file = Path(path)
    values, tensors = read_parts(file)
    manifest = parse_manifest(values, f"'{file}'")
    try:
        return _assemble(manifest, tensors)
    except (ModelFileError, ScanError) as error:
        raise ModelFileError(f"The model '{file}' is not usable: {error}") from error


def read_parts(file: Path) -> tuple[Json, Tensors]:
    """Manifest, in plain JSON types, and arrays of a model file or an export; errors as in `open_model`."""
    return decode_export(file) if is_export(file) else decode(file)


def open_start_model(path: str | os.PathLike[str], config: Config) -> Model:
    """Model to train further; ModelFileError if its N or its network differs from the configuration's."""
    model = open_model(path)
    for key in ('architecture', *NETWORK_SETTINGS):
        mine, other = getattr(config.model, key), getattr(model.config.model, key)
        if mine != other:
            raise ModelFileError(f'The model {path} has {key} = {other} but {mine} is asked for; set {key} to {other}.')
    return model


def inspect_model(path: str | os.PathLike[str]) -> Inspection:
    """Summary of a model file, after every check of `open_model`."""
    file = Path(path)
    model = open_model(file)
    arrays = {
        **{f'weights/{name}': weight for name, weight in sorted(model.weights.items())},
        'probe': model.probe,
        'selftest/counts': model.self_test.counts,
        'selftest/patches': model.self_test.patches,
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    return Inspection(file, file.stat().st_size, model.manifest, shapes)


def _assemble(manifest: Manifest, tensors: Tensors) -> Model:
    """Model assembled from its arrays; ModelFileError or ScanError if one is missing, superfluous or ill-shaped."""
    weights = {name.removeprefix(WEIGHTS): array for name, array in tensors.items() if name.startswith(WEIGHTS)}
    others = {name for name in tensors if not name.startswith(WEIGHTS)}
    expected = {*PROBE, COUNTS, *PATCHES}
    if others != expected:
        raise ModelFileError(
            f'besides the weights it holds the arrays {sorted(others)}, not {sorted(expected)}; do not use it.'
        )
    parameters, architecture = sum(int(array.size) for array in weights.values()), manifest.architecture
    if parameters != architecture.parameters:
        raise ModelFileError(f'it holds {parameters} parameters, not {architecture.parameters}; do not use it.')
    test = SelfTest(tensors[COUNTS], join_complex(tensors, *PATCHES), manifest.self_test.tolerance)
    _check_sizes(manifest, test)
    return Model(manifest, weights, check_probe(join_complex(tensors, *PROBE), architecture.N), test)


def _check_sizes(manifest: Manifest, test: SelfTest) -> None:
    sizes = {
        'self-test input': (test.counts.shape[1:], (manifest.architecture.N,) * 2),
        'input': (manifest.input.shape, (None, *test.counts.shape[1:])),
        'self-test output': (test.patches.shape[1:], (manifest.config.model.patch_size,) * 2),
        'output': (manifest.output.shape, (None, *test.patches.shape[1:])),
    }
    for name, (actual, expected) in sizes.items():
        if actual != expected:
            raise ModelFileError(f'the {name} has shape {actual}, not {expected}; do not use it.')
    # Processors differ in the last digit of an absolute value.
    if not math.isclose(manifest.self_test.amplitude_range, test.amplitude_range, rel_tol=MAX_TOLERANCE):
        raise ModelFileError(
            f'the amplitude range is {test.amplitude_range}, not {manifest.self_test.amplitude_range}; do not use it.'
        )


def join_complex(tensors: Tensors, real: str, imaginary: str) -> NDArray[np.complex64]:
    """Complex array of its real and imaginary parts; ModelFileError if their shapes differ."""
    if tensors[real].shape != tensors[imaginary].shape:
        raise ModelFileError(f'{real!r} and {imaginary!r} have different shapes; do not use it.')
    joined = np.empty(tensors[real].shape, np.complex64)
    joined.real, joined.imag = tensors[real], tensors[imaginary]
    return joined
