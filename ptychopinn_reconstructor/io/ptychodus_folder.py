"""The input folder of Ptychodus's batch mode, for a simulated scan: diffraction.h5, product.h5, settings.ini.

All lengths follow from the photon energy, the pixels of the detector and of the object, and the far field:
object pixel = wavelength * distance / (N * detector pixel), as Ptychodus computes it.
"""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import resolve_title
from ..config import Config, field_table
from ..errors import ScanError
from ..result import NOMINAL_PIXEL_SIZE, Reconstruction
from ..scan import Scan
from .atomic import make_folder, write_atomically
from .far_field import EV_TIMES_METERS
from .ptychodus import FRESNEL_KEY, write_diffraction, write_product

DIFFRACTION, PRODUCT, SETTINGS, TRUTH = 'diffraction.h5', 'product.h5', 'settings.ini', 'truth.h5'
PHOTON_ENERGY = 8000.0  # eV
DETECTOR_PIXEL = 75e-6  # meters
ALGORITHMS = {'pinn': 'ptychopinn_pinn', 'supervised': 'ptychopinn_supervised'}

Settings = Mapping[str, Mapping[str, Any]]  # section -> field -> value, as for Config.merged


def write_ptychodus_folder(folder: str | Path, scan: Scan, settings: Settings | None = None) -> dict[str, Path]:
    """Write a scan with a known object as Ptychodus reads it; returns the paths by kind.

    The object of product.h5 is flat, as before any reconstruction; the true one is in truth.h5, also a product.
    `settings` are those of settings.ini besides the algorithm (see `write_settings`).

    Raises ScanError when the scan has no probe or no object, ConfigError for a bad setting, OutputError when the
    folder cannot be written.
    """
    if scan.probe is None or scan.object is None:
        raise ScanError('The scan has no probe or no object; write one that was simulated, or give it both.')
    folder = make_folder(folder)
    paths = {Path(name).stem: folder / name for name in (DIFFRACTION, PRODUCT, TRUTH, SETTINGS)}
    truth = _make_truth(scan, scan.probe, scan.object)
    detector_pixel = DETECTOR_PIXEL if scan.fresnel_number is None else NOMINAL_PIXEL_SIZE  # not magnified
    write_diffraction(paths['diffraction'], scan.diffraction, detector_pixel_size=(detector_pixel, detector_pixel))
    write_product(paths['truth'], truth)
    write_product(paths['product'], dataclasses.replace(truth, object=np.ones_like(truth.object)))
    write_settings(paths['settings'], settings or {})
    return paths


def _make_truth(scan: Scan, probe: Any, object: Any) -> Reconstruction:
    pixel, number = NOMINAL_PIXEL_SIZE, scan.fresnel_number
    distance = compute_detector_distance(scan.n_pixels, object_pixel=pixel)
    if number is not None:
        distance = pixel**2 * PHOTON_ENERGY / EV_TIMES_METERS / number[0]
    return Reconstruction(
        object=object,
        origin=scan.object_origin,
        probe=probe,
        positions=scan.positions,
        pixel_size=(pixel, pixel),
        name=str(scan.metadata.get('name', 'scan')),
        metadata={
            'photon_energy_eV': PHOTON_ENERGY,
            'detector_object_distance_m': distance,
            'probe_photon_count': float(np.sum(np.abs(probe) ** 2)),
        }
        | ({} if number is None else {FRESNEL_KEY: number}),
    )


def compute_detector_distance(
    n: int,
    *,
    object_pixel: float,
    detector_pixel: float = DETECTOR_PIXEL,
    energy: float = PHOTON_ENERGY,
) -> float:
    """Object-to-detector distance at which n detector pixels give `object_pixel`; lengths in meters, energy in eV."""
    return object_pixel * n * detector_pixel * energy / EV_TIMES_METERS


def write_settings(path: str | Path, settings: Settings) -> None:
    """Write settings as an INI file of Ptychodus: the algorithm, and the given ones under their section and key.

    `settings` are by section and field of `config`, as for `Config.merged`, which checks them: ConfigError. Those
    that are None are left out.
    """
    config = Config().merged(settings)
    values = config.to_json()
    ini = configparser.ConfigParser(interpolation=None)
    ini.optionxform = str  # type: ignore[assignment,method-assign]  # Ptychodus writes its keys in capitals
    ini['Processing'] = {'Algorithm': ALGORITHMS[config.model.model_type]}
    for row in field_table():
        value = values[row.section][row.name]
        if row.name in settings.get(row.section, {}) and row.name != 'model_type' and value is not None:
            section, key = row.ini.split('.')
            if section not in ini:
                ini.add_section(section)
            ini[section][key] = resolve_title(value) if row.name == 'backend' else str(value)
    with write_atomically(path) as temporary, temporary.open('w') as file:
        ini.write(file)
