"""Writing scans and objects as CXI files (version 1.6); axes and units are those of `cxi_entry`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..result import NOMINAL_PIXEL_SIZE
from ..scan import Scan
from .cxi import INDEX_KEY, NOMINAL_KEY
from .cxi_entry import ILLUMINATION
from .far_field import EV_TIMES_METERS, JOULES_PER_EV
from .hdf5_writing import write_hdf5

VERSION = 160
NOMINAL_ENERGY, NOMINAL_DETECTOR_PIXEL = 8000.0, 75e-6  # eV, meters: of a scan that is known in pixels only


def write_cxi(path: str | Path, scan: Scan) -> None:
    """Write a scan as CXI: counts, translation, geometry, mask, and the illumination where the probe is known.

    Of a scan that is known in pixels only the geometry is nominal, which an attribute says.

    Raises OutputError when the file cannot be written.
    """
    import h5py

    size = scan.pixel_size or (NOMINAL_PIXEL_SIZE, NOMINAL_PIXEL_SIZE)
    energy, distance, pixel = _choose_geometry(scan, size)
    with write_hdf5(path) as file:
        file['cxi_version'] = VERSION
        file.attrs[NOMINAL_KEY] = scan.pixel_size is None
        if scan.fresnel_number is not None:
            file['entry_1/near_field'] = True  # of a parallel beam: what else a magnified one has is not known
        file['entry_1/title'] = str(scan.metadata.get('name', 'scan'))
        source, detector = (file.create_group(f'entry_1/instrument_1/{name}_1') for name in ('source', 'detector'))
        source['energy'], source['wavelength'] = energy * JOULES_PER_EV, EV_TIMES_METERS / energy
        if scan.probe is not None:
            file[f'entry_1/{ILLUMINATION}'] = scan.probe
        detector['distance'], detector['y_pixel_size'], detector['x_pixel_size'] = distance, *pixel
        detector['basis_vectors'] = np.array([[0, -pixel[0], 0], [-pixel[1], 0, 0]])
        bad = np.zeros(scan.diffraction.shape[1:], bool) if scan.bad_pixels is None else scan.bad_pixels
        detector['mask'] = np.where(bad, 1, 0).astype(np.uint32)
        _write_counts(detector, scan)
        rows, columns = (scan.positions * size).T
        translation = np.stack([columns, rows, np.zeros_like(rows)], axis=1)
        file['entry_1/sample_1/geometry_1/translation'] = translation
        if scan.scan_index is not None:
            file[f'entry_1/{INDEX_KEY}'] = scan.scan_index
        _label_units(file)
        file['entry_1/data_1/data'] = h5py.SoftLink('/entry_1/instrument_1/detector_1/data')
        file['entry_1/data_1/translation'] = h5py.SoftLink('/entry_1/sample_1/geometry_1/translation')


def _write_counts(detector: Any, scan: Scan) -> None:
    """CXI holds intensities: amplitudes and scaled patterns are written as counts, others in their own type."""
    plain = scan.domain == 'counts' and scan.count_unit == 1
    shape, dtype = scan.diffraction.shape, scan.diffraction.dtype if plain else np.dtype(np.float32)
    data = detector.create_dataset('data', shape, dtype)
    for block in scan.blocks():
        data[block] = scan.diffraction[block] if plain else scan.counts(block)


def _choose_geometry(scan: Scan, size: tuple[float, float]) -> tuple[float, float, tuple[float, float]]:
    """Energy in eV, distance and detector pixels (height, width) in meters that give the object pixels of a scan."""
    energy = float(scan.metadata.get('photon_energy_eV') or 0) or NOMINAL_ENERGY
    distance = float(scan.metadata.get('detector_object_distance_m') or 0)
    n, wavelength = scan.n_pixels, EV_TIMES_METERS / energy
    if scan.fresnel_number is not None:
        return energy, size[0] ** 2 / (wavelength * scan.fresnel_number[0]), size
    distance = distance or size[0] * n * NOMINAL_DETECTOR_PIXEL / wavelength
    height, width = (wavelength * distance / (n * side) for side in size)
    return energy, distance, (height, width)


def _label_units(file: Any) -> None:
    units = {
        'instrument_1/source_1/energy': 'J', 'instrument_1/source_1/wavelength': 'm',
        'sample_1/geometry_1/translation': 'm',
    } | {f'instrument_1/detector_1/{key}': 'm' for key in ('distance', 'x_pixel_size', 'y_pixel_size')}  # fmt: skip
    for key, unit in units.items():
        file[f'entry_1/{key}'].attrs['units'] = unit


def write_cxi_object(path: str | Path, object: NDArray[np.complex64], pixel_size: tuple[float, float] | None) -> None:
    """Write an object (H, W) as the image of a CXI file, with its size in meters where its pixels (height, width) are.

    Raises OutputError when the file cannot be written.
    """
    import h5py

    with write_hdf5(path) as file:
        file['cxi_version'] = VERSION
        image = file.create_group('entry_1/image_1')
        image['data'], image['data_space'], image['data_type'] = object, 'real', 'complex transmission'
        if pixel_size is not None:
            height, width = np.array(object.shape) * pixel_size
            image['image_size'] = np.array([width, height, 0.0])
            image['image_size'].attrs['units'] = 'm'
        file['entry_1/data_1/data'] = h5py.SoftLink('/entry_1/image_1/data')
