"""Prepared data of PtyPy (.ptyd): chunks of patterns with positions in meters, and the geometry of the experiment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from .domain import DomainChoice
from .far_field import Measurement, make_scan
from .hdf5 import decode_text, find_dataset, open_hdf5, read_whole
from .records import MENDED, ScanFile, Use
from .scratch import LARGE, Scratch

WHAT = 'PtyPy data file'


def read_ptyd(
    path: str | Path, *, domain: DomainChoice = 'auto', probe: NDArray[Any] | None = None, use: Use = MENDED
) -> ScanFile:
    """A scan from a .ptyd file: positions are (row, column) in meters, energies in keV, weights 0 where a pixel is bad.

    Raises ScanError when the file holds no data, or lacks the geometry.
    """
    path = Path(path)
    with open_hdf5(path, WHAT) as file:
        near_field = _is_near_field(file['meta'])
        energy, distance = (_read_number(path, file, key) for key in ('energy', 'distance'))
        height, width = _read_pixel(path, file)
        chunks = [f'chunks/{name}' for name in sorted(file['chunks'], key=_number_of)]
        patterns = _join_patterns(path, file, chunks, use.scratch)
        positions = _join(path, file, chunks, 'positions')
        bad = _read_bad(path, file, chunks)
    if patterns.ndim != 3 or positions.shape != (len(patterns), 2):
        raise ScanError(
            f'{path} holds data {patterns.shape} and positions {positions.shape}; expected (n, N, N) and (n, 2).'
        )
    measured = Measurement(
        patterns,
        positions.astype(np.float64),
        energy * 1e3,
        distance,
        (height, width),
        bad,
        metadata={'name': path.stem},
        is_near_field=near_field,
    )
    return make_scan(path, measured, domain, probe, (), use)


def _number_of(name: str) -> tuple[int, str]:
    return (int(name) if name.isdigit() else -1, name)


def _is_near_field(meta: Any) -> bool:
    """Whether lengths are those of the near field: PtyPy has them at the sample, as of a parallel beam."""
    value = meta.get('propagation')
    kind = '' if value is None or not hasattr(value, 'shape') else decode_text(np.ravel(read_whole(value))[0])
    return 'near' in kind.lower()


def _find(path: Path, file: Any, key: str) -> NDArray[Any] | None:
    parent, _, name = key.rpartition('/')
    if name not in [*file[parent]]:
        return None
    if hasattr(file[parent].get(name), 'keys'):  # a list is a group of its elements
        group = file[key]
        return np.array([np.asarray(read_whole(group[item])) for item in sorted(group, key=_number_of)])
    return np.asarray(read_whole(find_dataset(path, file, key, WHAT)))


def _read_number(path: Path, file: Any, key: str) -> float:
    value = _find(path, file, f'meta/{key}')
    if value is None or value.size != 1 or value.dtype.kind not in 'uif' or not float(value.item()) > 0:
        raise ScanError(f'{path} is a PtyPy data file without meta/{key}, a positive number; prepare it again with it.')
    return float(value.item())


def _read_pixel(path: Path, file: Any) -> tuple[float, float]:
    """(height, width) of a pixel of the detector in meters."""
    value = _find(path, file, 'meta/psize')
    if value is None or value.size not in (1, 2) or value.dtype.kind not in 'uif' or not (value > 0).all():
        raise ScanError(f'{path} is a PtyPy data file without meta/psize, in meters; prepare it again with it.')
    height, width = np.broadcast_to(np.ravel(value), 2)
    return float(height), float(width)


def _join(path: Path, file: Any, chunks: list[str], key: str) -> NDArray[Any]:
    """The arrays of all chunks, one after the other."""
    parts = [part for chunk in chunks if (part := _find(path, file, f'{chunk}/{key}')) is not None and part.size]
    if not parts:
        raise ScanError(f"{path} is a PtyPy data file without '{key}' in its chunks; save it again with its data.")
    return np.concatenate(parts)


def _join_patterns(path: Path, file: Any, chunks: list[str], scratch: Path | None) -> NDArray[Any]:
    """The patterns of all chunks, one after the other; many go chunk by chunk into a scratch file."""
    stored = [data for chunk in chunks if hasattr(data := file[chunk].get('data'), 'shape')]
    size = sum(math.prod(data.shape) * data.dtype.itemsize for data in stored)
    if size <= LARGE or len({(data.dtype, data.shape[1:]) for data in stored}) != 1 or len(stored) < len(chunks):
        return _join(path, file, chunks, 'data')
    total = sum(len(data) for data in stored)
    patterns: Any = Scratch(stored[0].dtype, stored[0].shape[1:], scratch, f'Patterns of {path}', expected=total)
    for chunk in chunks:
        patterns.append(_find(path, file, f'{chunk}/data'))
    return patterns  # type: ignore[no-any-return]


def _read_bad(path: Path, file: Any, chunks: list[str]) -> NDArray[np.bool_] | None:
    """(N, N), true where the weight is zero in any pattern; of the whole file (info) where chunks hold none."""
    keys = [*(f'{chunk}/{name}' for chunk in chunks for name in ('weights', 'mask'))]
    keys += [f'{group}/{name}' for group in ('info', 'meta') if group in file for name in ('weight2d', 'weights')]
    weights = [part for key in keys if (part := _find(path, file, key)) is not None and part.ndim >= 2]
    if not weights:
        return None
    side = weights[0].shape[-2:]
    zero = [~(part.reshape(-1, *side) > 0) for part in weights if part.shape[-2:] == side]
    return np.asarray(np.concatenate(zero).any(axis=0))
