"""The model bundle: one self-describing, self-testing file per trained model (specs/checkpoint_format.md).

A zip of manifest.json and three safetensors members (weights, probe, self-test), all written and read without any
framework. Opening never unpickles; whatever does not fit is one ModelFileError sentence.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError, ScanError, VerificationError
from ..io.atomic import atomic_path
from ..scan import checked_probe
from .archive import open_archive, read_member
from .manifest import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MAX_MANIFEST,
    MAX_TOLERANCE,
    MEMBERS,
    PROBE,
    SELFTEST,
    WEIGHTS,
    axes_tables,
    parse_manifest,
    plain,
    weight_table,
)
from .tensors import decode, encode, joined, split

MIN_DISTANCE = 100  # tolerances between the trained and a fresh network's output

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A recorded input and output of the network.

    Parameters
    ----------
    counts
        (b, N, N) float32 diffraction patterns in counts, zero frequency at [N//2, N//2].
    patches
        (b, n, n) complex64 object patches that the trained network gave for them.
    tolerance
        Largest difference allowed on replay, in units of the amplitude range max|patches|; at most 1e-5.
    """

    counts: Float32
    patches: Complex64
    tolerance: float = MAX_TOLERANCE

    def __post_init__(self) -> None:
        counts, patches = np.asarray(self.counts), np.asarray(self.patches)
        if counts.dtype != np.float32 or counts.ndim != 3 or counts.shape[1] != counts.shape[2] or not counts.size:
            raise ModelFileError(f'The self-test input is {counts.dtype} {counts.shape}; it must be float32 (b, N, N).')
        if patches.dtype != np.complex64 or patches.ndim != 3 or patches.shape[1] != patches.shape[2]:
            raise ModelFileError(
                f'The self-test output is {patches.dtype} {patches.shape}; it must be complex64 (b, n, n).'
            )
        if len(patches) != len(counts) or not patches.size:
            raise ModelFileError(
                f'The self-test has {len(counts)} inputs but {len(patches)} outputs; record one for each.'
            )
        if not np.isfinite(counts).all() or counts.min() < 0:
            raise ModelFileError('The self-test input holds negative values, NaN or infinity; record measured counts.')
        if not np.isfinite(patches).all() or not self.amplitude_range > 0:
            raise ModelFileError("The self-test output is zero, NaN or infinite; record a trained network's output.")
        if not 0 < self.tolerance <= MAX_TOLERANCE:
            raise ModelFileError(f'The self-test tolerance is {self.tolerance}; it must be in (0, {MAX_TOLERANCE}].')

    @property
    def amplitude_range(self) -> float:
        """Largest recorded amplitude: the unit of the tolerance."""
        return float(np.abs(self.patches).max())

    def difference(self, patches: NDArray[Any]) -> float:
        """Largest absolute difference from the recorded output, over the amplitude range; NaN stays NaN.

        Raises VerificationError when the shape of `patches` differs.
        """
        if np.shape(patches) != self.patches.shape:
            raise VerificationError(
                f'The self-test gave patches of shape {np.shape(patches)} where {self.patches.shape} are recorded; '
                'the backend does not build the network that this bundle describes.'
            )
        return float(np.abs(np.asarray(patches) - self.patches).max()) / self.amplitude_range


@dataclass(frozen=True, eq=False)
class Bundle:
    """One trained model as read from disk: plain arrays and plain JSON types.

    Parameters
    ----------
    manifest
        The content of manifest.json; `architecture`, `config`, `scaling`, `training` and `versions` are in it.
    weights
        Name -> float32 array in the backend-neutral layout.
    probe
        (modes, N, N) complex64 in sqrt(counts).
    selftest
        Recorded input and output.
    """

    manifest: Mapping[str, Any]
    weights: dict[str, Float32]
    probe: Complex64
    selftest: SelfTest


Predict = Callable[[Bundle, Float32], NDArray[Any]]


@dataclass(frozen=True)
class VerifyReport:
    """What replaying the self-test gave; lengths in units of the amplitude range."""

    path: Path
    backend: str
    patterns: int
    difference: float
    tolerance: float
    distance_to_fresh: float


def write_bundle(
    path: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    backend: str,
    architecture: Mapping[str, Any],
    weights: Mapping[str, Float32],
    probe: NDArray[Any],
    scaling: Mapping[str, Any],
    training: Mapping[str, Any],
    versions: Mapping[str, str],
    selftest: SelfTest,
    fresh_patches: NDArray[Any],
    predict: Predict,
) -> Path:
    """Write a bundle, reopen it from disk, replay its self-test, and only then give it its name.

    Parameters
    ----------
    config, architecture, scaling, training
        Plain JSON types (NumPy scalars, paths and tuples are converted); numbers that are not finite are allowed in
        `training` only, where they become null.
    weights
        Name -> float32 array in the backend-neutral layout.
    probe
        (modes, N, N) complex in sqrt(counts), N that of the self-test.
    fresh_patches
        (b, n, n) complex: output of a freshly initialized network of the same architecture for `selftest.counts`.
    predict
        Builds the network from a Bundle alone and gives its patches for counts (b, N, N).

    Raises
    ------
    ModelFileError
        When a part is not fit to be written.
    VerificationError
        When the reopened bundle does not reproduce the recorded output within its tolerance, or that output is less
        than 100 tolerances from the fresh network's: then nothing is written and an earlier file stays.
    OutputError
        When the folder cannot be written.
    """
    distance = selftest.difference(fresh_patches)
    if not MIN_DISTANCE * selftest.tolerance < distance < np.inf:
        raise VerificationError(
            f"The trained network's output differs from a fresh network's by {distance:.2g} of its amplitude range, "
            f'not by more than {MIN_DISTANCE} tolerances of {selftest.tolerance:g}: its weights were not trained '
            'or not exported; train longer.'
        )
    members = _encoded(weights, probe, selftest)
    manifest = {
        'format': FORMAT,
        'format_version': FORMAT_VERSION,
        'created': datetime.now(UTC).isoformat(timespec='seconds'),
        'backend': backend,
        'architecture': plain(architecture),
        'config': plain(config),
        **axes_tables(selftest.counts.shape[1], selftest.patches.shape[1]),
        'scaling': plain(scaling),
        'training': plain(training, finite=False),
        'versions': plain(versions),
        'members': {name: {'size': len(data), 'sha256': _sha256(data)} for name, data in members.items()},
        'weights': weight_table(weights),
        'selftest': {
            'tolerance': float(selftest.tolerance),
            'amplitude_range': selftest.amplitude_range,
            'distance_to_fresh': distance,
        },
    }
    with atomic_path(path) as temporary:
        _write_zip(temporary, {MANIFEST: json.dumps(manifest, indent=2, allow_nan=False).encode(), **members})
        _replayed(Path(path), open_bundle(temporary), predict)
    return Path(path)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and check a whole bundle, without any framework.

    Raises ModelFileError when the file is absent, foreign, truncated, altered, hostile, of an unknown version, or when
    its parts disagree (specs/checkpoint_format.md, section 2).
    """
    file = Path(path)
    manifest, members = _read(file)
    weights = decode(file, WEIGHTS, members[WEIGHTS])
    _check_weights(file, manifest, weights)
    probe = joined(file, PROBE, decode(file, PROBE, members[PROBE]), ('probe',))
    test = joined(file, SELFTEST, decode(file, SELFTEST, members[SELFTEST]), ('patches',), ('counts',))
    try:
        selftest = SelfTest(test['counts'], test['patches'], manifest['selftest']['tolerance'])
        checked = checked_probe(probe['probe'], selftest.counts.shape[1])
    except (ModelFileError, ScanError) as error:
        raise ModelFileError(f"The model bundle '{file}' is not usable: {error}") from error
    return Bundle(MappingProxyType(manifest), weights, checked, selftest)


def inspect_bundle(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a bundle holds, as plain JSON types, after every check of `open_bundle`; no framework is imported.

    Keys: path, size (bytes), manifest, members (name, size, sha256, sha256_matches), parameters (number of weights).
    """
    file = Path(path)
    bundle = open_bundle(file)
    manifest = dict(bundle.manifest)
    # open_bundle has refused the file if a checksum differs
    members = [{'name': name, **entry, 'sha256_matches': True} for name, entry in manifest['members'].items()]
    parameters = sum(int(weight.size) for weight in bundle.weights.values())
    return {
        'path': str(file),
        'size': file.stat().st_size,
        'manifest': manifest,
        'members': members,
        'parameters': parameters,
    }


def verify_bundle(path: str | os.PathLike[str], predict: Predict) -> VerifyReport:
    """Open a bundle from disk and replay its self-test through `predict`.

    Raises ModelFileError as `open_bundle` does, and VerificationError when the output differs from the recorded one by
    more than the tolerance.
    """
    return _replayed(Path(path), open_bundle(path), predict)


def _replayed(path: Path, bundle: Bundle, predict: Predict) -> VerifyReport:
    difference = bundle.selftest.difference(predict(bundle, bundle.selftest.counts.copy()))
    tolerance = bundle.selftest.tolerance
    if not difference <= tolerance:
        raise VerificationError(
            f"The self-test of '{path}' differs from its recorded output by {difference:.2g} of the amplitude range, "
            f'more than its tolerance {tolerance:g}; this backend and device do not '
            'reproduce the model: run the self-test on the CPU.'
        )
    return VerifyReport(
        path=path,
        backend=bundle.manifest['backend'],
        patterns=len(bundle.selftest.counts),
        difference=difference,
        tolerance=tolerance,
        distance_to_fresh=bundle.manifest['selftest']['distance_to_fresh'],
    )


def _encoded(weights: Mapping[str, Float32], probe: NDArray[Any], selftest: SelfTest) -> dict[str, bytes]:
    if not weights:
        raise ModelFileError('The network handed over no weights; export them before writing the bundle.')
    for name, weight in weights.items():
        if weight.dtype != np.float32:
            raise ModelFileError(
                f"The weight '{name}' is {weight.dtype}; convert it to float32 before writing the bundle."
            )
        if not np.isfinite(weight).all():
            raise ModelFileError(
                f"The weight '{name}' holds NaN or infinity; the training diverged: use an earlier checkpoint."
            )
    mode_stack = checked_probe(probe, selftest.counts.shape[1])
    return {
        WEIGHTS: encode(dict(weights)),
        PROBE: encode(split('probe', mode_stack)),
        SELFTEST: encode({'counts': selftest.counts, **split('patches', selftest.patches)}),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    with open_archive(file) as archive:
        if archive.getinfo(MANIFEST).file_size > MAX_MANIFEST:
            raise ModelFileError(f"The manifest of '{file}' is larger than {MAX_MANIFEST} bytes; do not use this file.")
        manifest = parse_manifest(file, read_member(archive, MANIFEST))
        if unexpected := sorted(set(archive.namelist()) - {MANIFEST, *MEMBERS}):
            raise ModelFileError(
                f"'{file}' holds a member '{unexpected[0]}' that no model bundle has; do not use this file."
            )
        members = {name: read_member(archive, name) for name in MEMBERS}
    for name, data in members.items():
        if manifest['members'][name] != {'size': len(data), 'sha256': _sha256(data)}:
            raise ModelFileError(
                f"The member '{name}' of '{file}' was altered: its size or checksum is not the manifest's; "
                'copy the bundle again.'
            )
    return manifest, members


def _check_weights(file: Path, manifest: Mapping[str, Any], weights: Mapping[str, Float32]) -> None:
    declared = {entry['name']: entry for entry in manifest['weights']}
    actual = {entry['name']: entry for entry in weight_table(weights)}
    for name in sorted(declared.keys() | actual.keys()):
        if declared.get(name) != actual.get(name):
            shapes = [entry['shape'] if entry else 'absent' for entry in (declared.get(name), actual.get(name))]
            raise ModelFileError(
                f"The weight '{name}' of '{file}' is {shapes[0]} in the manifest but {shapes[1]} in the file; "
                'do not use this file.'
            )
    if len(declared) != len(manifest['weights']):
        raise ModelFileError(f"The manifest of '{file}' names a weight twice; do not use this file.")
