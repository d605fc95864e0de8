"""Reading CXI files (version 1.6), also as NeXus (NXcxi_ptycho): scans, illuminations, images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError, quote
from ..events import Notice
from ..scan import check_probe
from .arrays import drop_relaxation_axis, extract_object_layer
from .cxi_entry import ILLUMINATION, WHAT, Entry
from .domain import DomainChoice
from .far_field import Measurement, make_scan
from .hdf5 import find_dataset, open_hdf5, read_whole
from .lazy import open_patterns
from .records import MENDED, ObjectFile, ScanFile, Use

NOMINAL_KEY = 'ptychopinn_geometry_is_nominal'  # an attribute of ours: only pixels are known
INDEX_KEY = 'data_1/scan_index'  # a dataset of ours: which scan each pattern belongs to


def read_cxi(
    path: str | Path, *, domain: DomainChoice = 'auto', probe: NDArray[Any] | None = None, use: Use = MENDED
) -> ScanFile:
    """A scan from a CXI or NXcxi_ptycho file; large patterns stay on disk.

    `domain` 'auto' decides from the values; `probe` takes the place of the file's illumination.

    Raises ScanError when the file lacks its geometry, or is incomplete.
    """
    path = Path(path)
    with open_hdf5(path, WHAT) as file:
        entry = Entry(path, file)
        entry.check_geometry()
        energy, distance, pixel = entry.read_energy(), entry.read_length('distance'), entry.read_detector_pixel()
        patterns, notices = _read_patterns(path, entry.find_patterns(), use.scratch)
        index = entry.find_optional(INDEX_KEY)
        measured = Measurement(
            patterns=patterns,
            positions=entry.read_positions(len(patterns)),
            energy=energy,
            distance=distance,
            detector_pixel=pixel,
            bad_pixels=entry.read_mask(patterns.shape),
            probe=entry.read_probe(),
            scan_index=None if index is None else np.asarray(read_whole(index)),
            metadata={'name': entry.read_title()},
            is_nominal=bool(file.attrs.get(NOMINAL_KEY, False)),
            is_near_field=entry.is_near_field(),
            source_distance=entry.read_source_distance(),
        )
        notices += entry.note_ignored()
    return make_scan(path, measured, domain, probe, notices, use)


def read_cxi_probe(path: Path, key: str | None = None) -> NDArray[np.complex64]:
    """The illumination of a CXI file, or its dataset `key`, as a probe (modes, N, N) complex64."""
    with open_hdf5(path, WHAT) as file:
        entry = Entry(path, file)
        values = entry.read_probe() if key is None else np.asarray(read_whole(find_dataset(path, file, key, WHAT)))
    if values is None:
        raise ScanError(f'{path} is a CXI file without an illumination ({ILLUMINATION}); name another file or dataset.')
    return check_probe(drop_relaxation_axis(values, f'The probe of {path}'))


def read_cxi_object(path: Path, key: str | None = None) -> ObjectFile:
    """The image of a CXI file, or its dataset `key`, as an object, with its pixel size where the image has a size."""
    with open_hdf5(path, WHAT) as file:
        entry = Entry(path, file)
        dataset = entry.find('an image', 'image_1/data') if key is None else find_dataset(path, file, key, WHAT)
        values = extract_object_layer(np.asarray(read_whole(dataset)), f'{quote(dataset.name)} of {path}')
        extent = entry.find_optional('image_1/image_size') if key is None else None
        size = None if extent is None else np.asarray(read_whole(extent), np.float64)
    if size is None or size.shape != (3,) or not (size[:2] > 0).all():
        return ObjectFile(values)
    return ObjectFile(values, pixel_size=(float(size[1] / values.shape[0]), float(size[0] / values.shape[1])))


def _read_patterns(path: Path, dataset: Any, scratch: Path | None) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """(n, N, N) patterns; those of a raster scan, (rows, columns, N, N), one row after the other."""
    if dataset.ndim not in (3, 4):
        raise ScanError(
            f'{quote(dataset.name)} of {path} has shape {dataset.shape}; expected (n, N, N): n square patterns.'
        )
    return open_patterns(dataset, np.arange(math.prod(dataset.shape[:-2])), scratch)
