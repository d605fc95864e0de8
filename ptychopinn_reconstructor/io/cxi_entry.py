"""The entry of a CXI file: energies and lengths in their units, positions along the detector's axes, mask.

Coordinates of CXI are right-handed, in meters: z along the beam, y up. The translation is that of the sample, so the
beam moves over the sample by its negative; the detector's basis vectors say where its rows and columns point, by
default to -y and -x. Rows and columns of the object point as those of the detector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError, quote
from ..events import Notice
from .far_field import EV_TIMES_METERS, JOULES_PER_EV
from .hdf5 import decode_text, find_dataset, find_entry, is_ptychography, read_whole

WHAT = 'CXI file'
WAVELENGTHS = ('instrument_1/source_1/wavelength', 'instrument_1/beam_1/incident_wavelength')
ILLUMINATION = 'instrument_1/source_1/illumination'
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


class Entry:
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

    def find_patterns(self) -> Any:
        """The dataset of the patterns, (n, N, N) where the file has that form of them beside that of a raster."""
        keys = ('instrument_1/detector_1/data', 'data_1/data', 'image_1/data')
        datasets = (self.find_optional(key) for key in keys)
        flat = next((dataset for dataset in datasets if dataset is not None and dataset.ndim == 3), None)
        return self.find('data', *keys) if flat is None else flat

    def is_near_field(self) -> bool:
        """Whether the file calls itself a measurement of the near field."""
        for name, value in _iterate_facts(self.file):
            says = bool(_NEAR.search(value)) if isinstance(value, str) else bool(value) and bool(_NEAR.search(name))
            if says or (name == 'far_field' and not isinstance(value, str) and not value):
                return True
        return False

    def read_source_distance(self) -> float:
        """From the source, or the focus, to the sample in meters; infinite where the file does not say."""
        dataset = self.find_optional('instrument_1/source_1/distance', 'instrument_1/beam_1/focus_distance')
        if dataset is None:
            return math.inf
        values = np.ravel(np.asarray(read_whole(dataset)))
        if values.size != 1 or values.dtype.kind not in 'uif' or not abs(float(values[0])) > 0:
            return math.inf
        return abs(float(values[0])) * self._factor(dataset, LENGTHS)

    @property
    def _energy_keys(self) -> list[str]:
        """Where the photon energy may be; that of the source is the energy of the machine's electrons in NeXus."""
        keys = [f'instrument_1/beam_1/{key}' for key in ('energy', 'incident_beam_energy', 'incident_energy')]
        return keys if self.is_nexus else ['instrument_1/source_1/energy', *keys]

    def check_geometry(self) -> None:
        """Raise a ScanError that names all that the file lacks of its geometry."""
        detector = 'instrument_1/detector_1'
        wanted = {
            'the photon energy': [*self._energy_keys, *WAVELENGTHS],
            'the detector distance': [f'{detector}/distance'],
            'the size of detector pixels': [f'{detector}/x_pixel_size', f'{detector}/basis_vectors'],
        }
        lacking = [f'{what} ({keys[0]})' for what, keys in wanted.items() if self.find_optional(*keys) is None]
        if lacking:
            raise ScanError(
                f'{self.path} is a CXI file without {", ".join(lacking)} in {self.name}, by which lengths become '
                'object pixels; add what is lacking, or hand the scan in as NPZ.'
            )

    def read_energy(self) -> float:
        """The photon energy in eV, from a wavelength or an energy, in the unit of the attribute or in SI units."""
        dataset = self.find_optional(*WAVELENGTHS)
        if dataset is not None:
            return EV_TIMES_METERS / self._number(dataset, LENGTHS)
        dataset = self.find('the photon energy', *self._energy_keys)
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
        basis = np.asarray(read_whole(dataset), np.float64)
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
            xyz = np.asarray(read_whole(dataset), np.float64) * self._factor(dataset, LENGTHS)
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
        return np.ravel(np.asarray(read_whole(dataset), np.float64)) * self._factor(dataset, LENGTHS)

    def read_mask(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """(N, N), true where a bit of the mask calls the pixel bad, in any pattern where there is one for each."""
        dataset = self.find_optional(
            'instrument_1/detector_1/mask', 'instrument_1/detector_1/pixel_mask', 'data_1/mask'
        )
        if dataset is None:
            return None
        if dataset.shape[-2:] != shape[1:] or dataset.dtype.kind not in 'buif':
            raise ScanError(
                f'The mask of {self.path} has shape {dataset.shape}; expected {shape[1:]}, as the patterns.'
            )
        if dataset.ndim == 2:
            return _find_bad(read_whole(dataset))
        bad = np.zeros(shape[1:], bool)
        for part in range(len(dataset)):  # one by one: all of them take as much memory as the patterns
            bad |= _find_bad(dataset[part]).reshape(-1, *shape[1:]).any(axis=0)
        return bad

    def read_probe(self) -> NDArray[Any] | None:
        """The illumination as it is in the file, or None."""
        dataset = self.find_optional(ILLUMINATION)
        return None if dataset is None or dataset.dtype.kind != 'c' else np.asarray(read_whole(dataset))

    def read_title(self) -> str:
        """The title, or the name of the file."""
        dataset = self.find_optional('title')
        return self.path.stem if dataset is None else decode_text(np.ravel(read_whole(dataset))[0])

    def note_ignored(self) -> tuple[Notice, ...]:
        """Notices about what is in the file and not used."""
        if self.find_optional('instrument_1/detector_1/data_dark') is None:
            return ()
        return (Notice('key_ignored', 'Ignored data_dark: subtract the dark frames before, where they matter.'),)

    def _number(self, dataset: Any, units: dict[str, float]) -> float:
        values = np.ravel(np.asarray(read_whole(dataset)))
        number = float(values[0]) if values.size and values.dtype.kind in 'uif' else np.nan
        if not (np.isfinite(number) and number > 0):
            raise ScanError(f'{quote(dataset.name)} of {self.path} is {number}; expected a positive number.')
        return number * self._factor(dataset, units)

    def _factor(self, dataset: Any, units: dict[str, float]) -> float:
        unit = decode_text(dataset.attrs.get('units', next(iter(units)))).strip().lower()
        factor = units.get(unit, units.get(unit.removesuffix('s')))
        if factor is None:
            known = ', '.join(units)
            raise ScanError(f'{quote(dataset.name)} of {self.path} is in {quote(unit)}; expected one of {known}.')
        return factor


def _find_bad(mask: NDArray[Any]) -> NDArray[np.bool_]:
    return mask if mask.dtype.kind == 'b' else (mask.astype(np.int64) & BAD_BITS) != 0


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
            values[name.rpartition('/')[2]] = read_whole(item)
        for key, value in values.items():
            single = np.ravel(value)[0] if np.size(value) == 1 else ''
            facts.append((key, decode_text(single) if isinstance(single, bytes | str) else single))

    visit('', file)
    file.visititems(visit)
    yield from facts
