"""Scans as Ptychodus holds them, and scripted sessions of it; everything is written with its own functions."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.constants import energy_eV_to_wavelength_m
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.object import Object, ObjectCenter, ObjectPosition
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePositionSequence
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput
from ptychodus.model import ModelCore
from scans import small_scan

from ptychopinn_reconstructor.host.library import PtychoPINNLibrary
from ptychopinn_reconstructor.host.releases import make_metadata
from ptychopinn_reconstructor.scan import Scan

PINN, SUPERVISED = 'ptychopinn_pinn', 'ptychopinn_supervised'
PIXEL = 1e-8  # meters
ENERGY, DISTANCE = 8000.0, 1.0  # eV, meters
CENTER = (3.1e-6, -2.3e-6)  # meters, [x, y], of the object: nowhere near zero
TITLES = {'torch': 'PyTorch', 'tensorflow': 'TensorFlow'}
QUICK = {
    'PtychoPINNModel.NumFiltersScale': 1,
    'PtychoPINNTraining.NumEpochs': 2,
    'PtychoPINNPlugin.Device': 'cpu',
}
Changes = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A simulated scan with its truth, and the product as the host has it."""

    scan: Scan
    product: Product
    indexes: NDArray[np.int64]
    bad_pixels: NDArray[np.bool_]

    @classmethod
    def of(cls, scan: Scan, *, center: Sequence[float] = CENTER, far_field: bool = True) -> Case:
        """The object that the host starts from is flat, on the grid of the truth."""
        assert scan.object is not None and scan.probe is not None
        pixel = PixelGeometry(width_m=PIXEL, height_m=PIXEL)
        guess = Object(np.ones_like(scan.object, dtype=complex), pixel, ObjectCenter(*center))
        geometry = guess.get_geometry()
        corner = scan.object_origin
        points = [
            geometry.map_coordinates_object_to_probe(ObjectPosition(index, column - corner[1], row - corner[0]))
            for index, (row, column) in enumerate(scan.positions)
        ]
        metadata = make_metadata(
            name='demo',
            comments='made by a test',
            detector_distance_m=DISTANCE,
            photon_energy_eV=ENERGY,
            probe_photon_count=1e5,
            exposure_time_s=0.5,
            mass_attenuation_m2_per_kg=0.0,
            tomography_angle_deg=0.0,
            **({} if far_field else {'far_field': False}),
        )
        probes = ProbeSequence(scan.probe.astype(complex)[None], None, pixel)
        product = Product(metadata, ProbePositionSequence(points), probes, guess, [])
        size = scan.n_pixels
        return cls(scan, product, np.arange(len(scan)), np.zeros((size, size), dtype=bool))

    @property
    def data(self) -> AssembledDiffractionData:
        patterns = np.array(self.scan.diffraction)
        # Of the detector: the host derives the pixel of the object from it.
        pixel = energy_eV_to_wavelength_m(ENERGY) * DISTANCE / (patterns.shape[-1] * PIXEL)
        return AssembledDiffractionData(self.indexes, patterns, PixelGeometry(pixel, pixel), self.bad_pixels)

    @property
    def input(self) -> ReconstructInput:
        return ReconstructInput(np.array(self.scan.diffraction), self.bad_pixels, self.product)

    def with_product(self, **changes: Any) -> Case:
        return replace(self, product=replace(self.product, **changes))

    def write(self, folder: Path) -> Path:
        """diffraction.h5 and product.h5, as remote and batch folders hold them."""
        folder.mkdir(parents=True, exist_ok=True)
        save_diffraction_data(folder / 'diffraction.h5', self.data)
        save_product(folder / 'product.h5', self.product)
        return folder


def small_case(**changes: Any) -> Case:
    """81 patterns of 32 x 32 pixels of an object that has no symmetry."""
    return Case.of(small_scan(**{'positions': 81} | changes))


class Host:
    """A session of Ptychodus."""

    def __init__(self, model: ModelCore) -> None:
        self.model, self.api = model, model.workflow_api
        self.monitor = model.processing_core.processing_api.task_monitor

    @property
    def library(self) -> PtychoPINNLibrary:
        """Ours."""
        from ptychopinn_reconstructor.host.hook import LIBRARY

        found: PtychoPINNLibrary = getattr(self.model.processing_core.processing_api, LIBRARY)
        return found

    @property
    def algorithm(self) -> str:
        return str(self.model.processing_core.algorithm_parameter.get_value())

    def set(self, **changes: Any) -> None:
        """Settings by 'Section.Key'."""
        for name, value in changes.items():
            section, key = name.split('.')
            self.model.settings_registry[section].parameters()[key].set_value(value)

    def get(self, name: str) -> Any:
        section, key = name.split('.')
        return self.model.settings_registry[section].parameters()[key].get_value()

    def open(self, folder: Path) -> Any:
        """The product of a folder with its patterns."""
        data = self.api.load_assembled_diffraction_data(folder / 'diffraction.h5')
        return self.api.load_product(folder / 'product.h5', diffraction=data)

    def products(self) -> list[Product]:
        self.model.run_tasks()
        repository = self.model.product_core.product_repository
        return [repository[index].get_product() for index in range(len(repository))]

    def log(self) -> list[str]:
        """What the Processing panel has to show since the last call."""
        return list(self.monitor.get_log_handler().messages())


def unstarted(settings: Path | None = None, /, **changes: Any) -> Host:
    """Ptychodus whose worker thread does not run: for settings, and for calls of a reconstructor itself."""
    logging.getLogger('ptychopinn_reconstructor').setLevel(logging.INFO)
    host = Host(ModelCore(settings))
    host.set(**({} if settings else QUICK) | changes)
    return host


@contextmanager
def session(settings: Path | None = None, backend: str = 'torch', /, **changes: Any) -> Iterator[Host]:
    """Ptychodus without a window, with quick settings unless a file of settings is given."""
    logging.getLogger('ptychopinn_reconstructor').setLevel(logging.INFO)
    with ModelCore(settings) as model:
        host = Host(model)
        quick: Changes = {} if settings else QUICK | {'PtychoPINNPlugin.Backend': TITLES[backend]}
        host.set(**quick | changes)
        yield host


@dataclass(frozen=True)
class Finished:
    """A process that has ended well: what it said, and what it left in `folder`."""

    folder: Path
    out: str
    facts: dict[str, Any]


def run_script(script: str, folder: Path, *arguments: object) -> Finished:
    """Run a script, which has no `__main__` guard, as a user does; its facts are in facts.json."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / 'script.py'
    file.write_text(script)
    done = run_command(sys.executable, '-P', file, folder, *arguments)
    facts: dict[str, Any] = json.loads((folder / 'facts.json').read_text())
    return Finished(folder, done.stdout + done.stderr, facts)


def run_command(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment to its end; its exit code must be `code`."""
    name, *arguments = map(str, command)
    path = name if os.sep in name else str(Path(sys.executable).with_name(name))
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done.stdout + done.stderr
    return done
