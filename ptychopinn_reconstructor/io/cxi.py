"""CXI files (version 1.6), also as NeXus (NXcxi_ptycho): patterns, positions, geometry, mask, probe, object.

Coordinates of CXI are right-handed, in meters: z along the beam, y up. The translation is that of the sample, so the
beam moves over the sample by its negative; the detector's basis vectors say where its rows and columns point, by
default to -y and -x. Rows and columns of the object point as those of the detector.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from ..result import NOMINAL_PIXEL_SIZE
from ..scan import Scan, check_probe
from .arrays import drop_relaxation_axis, extract_object_layer
from .atomic import write_atomically
from .domain import DomainChoice
from .far_field import EV_TIMES_METERS, JOULES_PER_EV, Measurement, make_scan
from .hdf5 import decode_text, find_dataset, find_entry, is_ptychography, open_hdf5
from .lazy import open_patterns
from .records import ObjectFile, ScanFile

WHAT, VERSION = 'CXI file', 160
NOMINAL = {'energy': 8000.0, 'detector_pixel': 75e-6}  # eV, meters: of a scan that is known in pixels only
ILLUMINATION = 'instrument_1/source_1/illumination'
NOMINAL_KEY = 'ptychopinn_geometry_is_nominal'
# Bits of the mask that make a pixel useless: invalid, saturated, hot, dead, shadowed, to be ignored, bad, missing,
# noisy, not corrected. The others (peaks, resolution limits, corrections, signal) do not.
BAD_BITS = 1 | 2 | 4 | 8 | 16 | 64 | 128 | 512 | 1024 | 4096
LENGTHS = {
    'm': 1.0,
    'meter': 1.0,
    'metre': 1.0,
    'cm': 1e-2,
    'mm': 1e-3,
    'um': 1e-6,
    'µm': 1e-6,
    'nm': 1e-9,
    'pm': 1e-12,
}
LENGTHS |= {'angstrom': 1e-10, 'a': 1e-10, 'micron': 1e-6}
ENERGIES = {'j': 1 / JOULES_PER_EV, 'joule': 1 / JOULES_PER_EV, 'ev': 1.0, 'kev': 1e3}
_NEAR = re.compile(r'near[ _-]?field', re.IGNORECASE)


def read_cxi(path: str | Path, *, domain: DomainChoice = 'auto', probe: NDArray[Any] | None = None) -> ScanFile:
    """A scan from a CXI or NXcxi_ptycho file; large patterns stay on disk.

    `domain` 'auto' decides from the values; `probe` takes the place of the file's illumination.

    Raises ScanError when the file is of the near field, lacks the geometry of the far field, or is incomplete.
    """
    path = Path(path)
    with open_hdf5(path, WHAT) as file:
        entry = _Entry(path, file)
        entry.refuse_near_field()
        energy, distance, pixel = entry.read_energy(), entry.read_length('distance'), entry.read_detector_pixel()
        stored = entry.find('data', 'instrument_1/detector_1/data', 'data_1/data', 'image_1/data')
        patterns, notices = _read_patterns(path, stored)
        measured = Measurement(
            patterns=patterns,
            positions=entry.read_positions(len(patterns)),
            energy=energy,
            distance=distance,
            detector_pixel=pixel,
            bad_pixels=entry.read_mask(patterns.shape),
            probe=entry.read_probe(),
            metadata={'name': entry.read_title()},
            is_nominal=bool(file.attrs.get(NOMINAL_KEY, False)),
        )
        notices += entry.note_ignored()
    return make_scan(path, measured, domain, probe, notices)


class _Entry:
    """The first entry of an open CXI file."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file = path, file
        name = find_entry(file)
        if name is None:
            raise ScanError(f'{path} is a CXI file without an entry (entry_1); write it again with its data.')
        self.name = name
        self.group = file[self.name]
        self.is_nexus = is_ptychography(self.group)

    def find(self, what: str, *keys: str) -> Any:
        """The first dataset of `keys` that the entry holds; ScanError that names the first of them without any."""
        dataset = self.find_optional(*keys)
        if dataset is None:
            raise ScanError(
                f'{self.path} is a CXI file without {what} ({self.name}/{keys[0]}); add it, or hand the scan in as NPZ.'
            )
        return dataset

    def find_optional(self, *keys: str) -> Any:
        """The first dataset of `keys` that the entry holds, complete; None without any."""
        for key in keys:
            parent, _, name = key.rpartition('/')
            group = self.group.get(parent) if parent else self.group
            if group is not None and name in [*group]:  # broken links included, which are named then
                return find_dataset(self.path, self.file, f'{self.name}/{key}', WHAT)
        return None

    def refuse_near_field(self) -> None:
        """Refuse what calls itself a near-field measurement, before anything else is asked of it."""
        for name, value in _iterate_facts(self.file):
            says = bool(_NEAR.search(value)) if isinstance(value, str) else bool(value) and bool(_NEAR.search(name))
            if says or (name == 'far_field' and not isinstance(value, str) and not value):
                raise ScanError(
                    f"{self.path} is a near-field scan ('{name}' is '{value}'); only the far field is supported."
                )

    def read_energy(self) -> float:
        """The photon energy in eV, from a wavelength or an energy, in the unit of the attribute or in SI units."""
        wave = ('instrument_1/source_1/wavelength', 'instrument_1/beam_1/incident_wavelength')
        dataset = self.find_optional(*wave)
        if dataset is not None:
            return EV_TIMES_METERS / self._number(dataset, LENGTHS)
        keys = [f'instrument_1/beam_1/{key}' for key in ('energy', 'incident_beam_energy', 'incident_energy')]
        if not self.is_nexus:  # there it is the energy of the electrons of the machine
            keys.insert(0, 'instrument_1/source_1/energy')
        dataset = self.find('the photon energy', *keys)
        energy = self._number(dataset, ENERGIES)
        return energy if 'units' in dataset.attrs else _correct_unit(energy)

    def read_length(self, name: str) -> float:
        """A length of the detector in meters."""
        return self._number(self.find(f'the detector {name}', f'instrument_1/detector_1/{name}'), LENGTHS)

    def read_detector_pixel(self) -> tuple[float, float]:
        """(height, width) of a pixel of the detector in meters, from its sizes or its basis vectors."""
        basis = self._read_basis()
        if basis is not None and self.find_optional('instrument_1/detector_1/x_pixel_size') is None:
            height, width = np.linalg.norm(basis, axis=1)
            return float(height), float(width)
        return self.read_length('y_pixel_size'), self.read_length('x_pixel_size')

    def _read_basis(self) -> NDArray[np.float64] | None:
        dataset = self.find_optional('instrument_1/detector_1/basis_vectors')
        if dataset is None:
            return None
        basis = np.asarray(dataset[()], np.float64)
        basis = basis[0] if basis.ndim == 3 else basis  # one for each pattern
        basis = basis.T if basis.shape == (3, 2) else basis
        if basis.shape != (2, 3) or not np.linalg.norm(basis, axis=1).all():
            raise ScanError(f'The basis vectors of {self.path} have shape {dataset.shape}; expected (2, 3), not zero.')
        return basis

    def read_positions(self, n: int) -> NDArray[np.float64]:
        """(n, 2) [row, column] in meters of the beam on the sample."""
        dataset = self.find_optional(
            'sample_1/geometry_1/translation', 'data_1/translation', 'instrument_1/detector_1/translation',
            'sample_1/geometry/translation',
        )  # fmt: skip
        if dataset is None:
            xyz = np.stack([self._read_motor(axis) for axis in 'xy'], axis=1)
        else:
            xyz = np.asarray(dataset[()], np.float64) * self._factor(dataset, LENGTHS)
            xyz = xyz.T if xyz.ndim == 2 and xyz.shape[1] not in (2, 3) else xyz
        if xyz.ndim != 2 or xyz.shape[0] != n or xyz.shape[1] not in (2, 3):
            raise ScanError(f'The translation of {self.path} has shape {xyz.shape}; expected ({n}, 3): x, y and z.')
        xyz = np.pad(xyz, ((0, 0), (0, 3 - xyz.shape[1])))
        basis = self._read_basis()
        axes = np.array([[0, -1.0, 0], [-1.0, 0, 0]]) if basis is None else basis
        return np.asarray(-xyz @ (axes / np.linalg.norm(axes, axis=1, keepdims=True)).T)

    def _read_motor(self, axis: str) -> NDArray[np.float64]:
        dataset = self.find(
            'positions', 'sample_1/geometry_1/translation', f'sample_1/transformations/{axis}', f'data_1/{axis}'
        )
        return np.ravel(np.asarray(dataset[()], np.float64)) * self._factor(dataset, LENGTHS)

    def read_mask(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """(N, N), true where a bit of the mask calls the pixel bad, in any pattern where there is one for each."""
        dataset = self.find_optional(
            'instrument_1/detector_1/mask', 'instrument_1/detector_1/pixel_mask', 'data_1/mask'
        )
        if dataset is None:
            return None
        values = np.asarray(dataset[()])
        if values.shape[-2:] != shape[1:] or values.dtype.kind not in 'buif':
            raise ScanError(f'The mask of {self.path} has shape {values.shape}; expected {shape[1:]}, as the patterns.')
        bad = values if values.dtype.kind == 'b' else (values.astype(np.int64) & BAD_BITS) != 0
        return np.asarray(bad.reshape(-1, *shape[1:]).any(axis=0))

    def read_probe(self) -> NDArray[Any] | None:
        """The illumination as it is in the file, or None."""
        dataset = self.find_optional(ILLUMINATION)
        return None if dataset is None or dataset.dtype.kind != 'c' else np.asarray(dataset[()])

    def read_title(self) -> str:
        """The title, or the name of the file."""
        dataset = self.find_optional('title')
        return self.path.stem if dataset is None else decode_text(np.ravel(dataset[()])[0])

    def note_ignored(self) -> tuple[Notice, ...]:
        """Notices about what is in the file and not used."""
        if self.find_optional('instrument_1/detector_1/data_dark') is None:
            return ()
        return (Notice('key_ignored', 'Ignored data_dark: subtract the dark frames before, where they matter.'),)

    def _number(self, dataset: Any, units: dict[str, float]) -> float:
        values = np.ravel(np.asarray(dataset[()]))
        number = float(values[0]) if values.size and values.dtype.kind in 'uif' else np.nan
        if not (np.isfinite(number) and number > 0):
            raise ScanError(f"'{dataset.name}' of {self.path} is {number}; expected a positive number.")
        return number * self._factor(dataset, units)

    def _factor(self, dataset: Any, units: dict[str, float]) -> float:
        unit = decode_text(dataset.attrs.get('units', next(iter(units)))).strip().lower()
        factor = units.get(unit, units.get(unit.removesuffix('s')))
        if factor is None:
            known = ', '.join(units)
            raise ScanError(f"'{dataset.name}' of {self.path} is in {unit!r}; expected one of {known}.")
        return factor


def read_cxi_probe(path: Path, key: str | None = None) -> NDArray[np.complex64]:
    """The illumination of a CXI file, or its dataset `key`, as a probe (modes, N, N) complex64."""
    with open_hdf5(path, WHAT) as file:
        entry = _Entry(path, file)
        values = entry.read_probe() if key is None else np.asarray(find_dataset(path, file, key, WHAT)[()])
    if values is None:
        raise ScanError(f'{path} is a CXI file without an illumination ({ILLUMINATION}); name another file or dataset.')
    return check_probe(drop_relaxation_axis(values, f'The probe of {path}'))


def read_cxi_object(path: Path, key: str | None = None) -> ObjectFile:
    """The image of a CXI file, or its dataset `key`, as an object, with its pixel size where the image has a size."""
    with open_hdf5(path, WHAT) as file:
        entry = _Entry(path, file)
        dataset = entry.find('an image', 'image_1/data') if key is None else find_dataset(path, file, key, WHAT)
        values = extract_object_layer(np.asarray(dataset[()]), f"'{dataset.name}' of {path}")
        extent = entry.find_optional('image_1/image_size') if key is None else None
        size = None if extent is None else np.asarray(extent[()], np.float64)
    if size is None or size.shape != (3,) or not (size[:2] > 0).all():
        return ObjectFile(values)
    return ObjectFile(values, pixel_size=(float(size[1] / values.shape[0]), float(size[0] / values.shape[1])))


def _correct_unit(energy: float) -> float:
    """The photon energy in eV, where a number that should be in J is in keV (below 50) or eV: no photon has 1 mJ."""
    number = energy * JOULES_PER_EV
    if number < 1e-3:
        return energy
    return number * 1e3 if number < 50 else number


def _iterate_facts(file: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of attributes and of small datasets, as text or number."""
    facts: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        values = dict(item.attrs)
        if getattr(item, 'size', None) == 1:
            values[name.rpartition('/')[2]] = item[()]
        for key, value in values.items():
            single = np.ravel(value)[0] if np.size(value) == 1 else ''
            facts.append((key, decode_text(single) if isinstance(single, bytes | str) else single))

    visit('', file)
    file.visititems(visit)
    yield from facts


def _read_patterns(path: Path, dataset: Any) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """(n, N, N) patterns; those of a raster scan, (rows, columns, N, N), one row after the other."""
    if dataset.ndim == 4:
        return np.asarray(dataset[()]).reshape(-1, *dataset.shape[2:]), ()
    if dataset.ndim != 3:
        raise ScanError(f"'{dataset.name}' of {path} has shape {dataset.shape}; expected (n, N, N): n square patterns.")
    return open_patterns(dataset, np.arange(len(dataset)))


def write_cxi(path: str | Path, scan: Scan) -> None:
    """Write a scan as CXI: counts, translation, geometry, mask, and the illumination where the probe is known.

    Of a scan that is known in pixels only the geometry is nominal, which an attribute says.

    Raises OutputError when the file cannot be written.
    """
    import h5py

    size = scan.pixel_size or (NOMINAL_PIXEL_SIZE, NOMINAL_PIXEL_SIZE)
    energy, distance, pixel = _choose_geometry(scan, size)
    with write_atomically(path) as temporary, h5py.File(temporary, 'w') as file:
        file['cxi_version'] = VERSION
        file.attrs[NOMINAL_KEY] = scan.pixel_size is None
        file['entry_1/title'] = str(scan.metadata.get('name', 'scan'))
        source, detector = (file.create_group(f'entry_1/instrument_1/{name}_1') for name in ('source', 'detector'))
        source['energy'], source['wavelength'] = energy * JOULES_PER_EV, EV_TIMES_METERS / energy
        if scan.probe is not None:
            source['illumination'] = scan.probe
        detector['distance'], detector['y_pixel_size'], detector['x_pixel_size'] = distance, *pixel
        detector['basis_vectors'] = np.array([[0, -pixel[0], 0], [-pixel[1], 0, 0]])
        bad = np.zeros(scan.diffraction.shape[1:], bool) if scan.bad_pixels is None else scan.bad_pixels
        detector['mask'] = np.where(bad, 1, 0).astype(np.uint32)
        _write_counts(detector, scan)
        rows, columns = (scan.positions * size).T
        translation = np.stack([columns, rows, np.zeros_like(rows)], axis=1)
        file['entry_1/sample_1/geometry_1/translation'] = translation
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
    energy = float(scan.metadata.get('photon_energy_eV') or 0) or NOMINAL['energy']
    distance = float(scan.metadata.get('detector_object_distance_m') or 0)
    n, wavelength = scan.n_pixels, EV_TIMES_METERS / energy
    distance = distance or size[0] * n * NOMINAL['detector_pixel'] / wavelength
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

    with write_atomically(path) as temporary, h5py.File(temporary, 'w') as file:
        file['cxi_version'] = VERSION
        image = file.create_group('entry_1/image_1')
        image['data'], image['data_space'], image['data_type'] = object, 'real', 'complex transmission'
        if pixel_size is not None:
            height, width = np.array(object.shape) * pixel_size
            image['image_size'] = np.array([width, height, 0.0])
            image['image_size'].attrs['units'] = 'm'
        file['entry_1/data_1/data'] = h5py.SoftLink('/entry_1/image_1/data')
