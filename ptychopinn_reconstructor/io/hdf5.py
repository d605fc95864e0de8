"""Opening HDF5 files and reading their attributes; failures become a ScanError of one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from .files import detect_file_kind


@contextmanager
def open_hdf5(path: Path, what: str, *keys: str) -> Iterator[Any]:
    """An HDF5 file that holds the datasets `keys`; anything h5py cannot read becomes a ScanError."""
    import h5py

    if detect_file_kind(path) != 'hdf5':
        raise ScanError(f'{path} is not an HDF5 file; pass a {what}.')
    try:
        with h5py.File(path, 'r') as file:
            lacking = [key for key in keys if not isinstance(file.get(key), h5py.Dataset)]
            if lacking:
                held = ', '.join(file.keys()) or 'none'
                raise ScanError(f"{path} is not a {what}: it has no dataset '{lacking[0]}' (it holds: {held}).")
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ScanError(f'{path} is damaged or not a {what} ({error}); copy or write it again.') from error


def read_pixel_size(path: Path, attributes: Mapping[str, Any], what: str) -> NDArray[np.float64]:
    """(height, width) in meters of the pixels of the dataset `what` with these attributes."""
    size = np.array([read_number(path, attributes, f'pixel_{side}_m') for side in ('height', 'width')])
    if not (size > 0).all():
        raise ScanError(f'The {what} of {path} has pixels of {size[0]:g} x {size[1]:g} m; both must be positive.')
    return size


def read_number(path: Path, attributes: Mapping[str, Any], key: str) -> float:
    """The value of the attribute `key`, a finite number."""
    value = np.asarray(attributes.get(key, np.nan))
    if value.size != 1 or value.dtype.kind not in 'uif' or not np.isfinite(value).all():
        raise ScanError(f"{path} is no complete Ptychodus product: its attribute '{key}' is missing or not a number.")
    return float(value.item())


def decode_text(value: Any) -> str:
    """An attribute as text, whether stored as text or bytes."""
    return value.decode('utf-8', 'replace') if isinstance(value, bytes) else str(value)
