"""How the engine refines: the section `refinement` of the configuration as its options, and where it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, installed, load_backend, select_arrays
from ..config import Config, RefinementConfig
from ..physics.arrays import NUMPY, Arrays, NumpyArrays
from ..physics.engine.detector import Switch
from ..physics.engine.options import RefineOptions
from ..physics.engine.refine import scan_dose
from ..physics.engine.residuals import residuals
from ..physics.prepare import PreparedScan
from ..physics.processes import ALONE, Processes
from ..physics.sampling import scan_overlap
from ..physics.scoring.goodness_of_fit import measure_excess
from ..physics.threads import available_threads

Start = Literal['network', 'empty']
# What a driver of a GPU leaves in Linux: NVIDIA, AMD, and both in WSL.
DRIVERS: Final = ('/proc/driver/nvidia', '/dev/nvidiactl', '/dev/kfd', '/dev/dxg')
# Of the counts that an object leaves unexplained beyond noise: with more, few passes do not do (a sharp phase of 6 rad
# from a network that has not learned such: 30 dB after 6 passes, 36 after 15).
FAR_FROM_DATA: Final = 0.05
SAMPLED: Final = 64  # patterns that tell


def refinement_options(
    section: RefinementConfig, prepared: PreparedScan, *, start: Start, seed: int = 0
) -> RefineOptions:
    """The options of the engine for a scan, from a network's object or an empty one: what automatic means there."""
    return RefineOptions.for_scan(
        section.passes,
        dose=scan_dose(prepared),
        overlap=scan_overlap(prepared.positions, prepared.probe),
        from_network=start == 'network',
        prior=section.prior,
        refine_probe=section.probe,
        modes=section.modes,
        refine_positions=section.positions,
        wavefront=section.wavefront,
        background=section.background,
        intensity=section.intensity,
        learned_step=_choose_learned_step(section, prepared),
        seed=seed,
    )


def _choose_learned_step(section: RefinementConfig, prepared: PreparedScan) -> Switch:
    """In the near field, of which its network has seen nothing, only where it is asked for."""
    unseen = prepared.scan.fresnel_number is not None and section.learned_step == 'auto'
    return 'off' if unseen else section.learned_step


def classify_start(prepared: PreparedScan, canvas: NDArray[np.complex64], arrays: Arrays = NUMPY) -> Start:
    """Whether an object (H, W) explains the patterns as a network's does, or needs as many passes as an empty one."""
    index = np.unique(np.linspace(0, len(prepared) - 1, SAMPLED).astype(np.int64))
    misfit = residuals(prepared.part(index), canvas, arrays=arrays)
    return 'network' if measure_excess(misfit) <= FAR_FROM_DATA else 'empty'


def engine_arrays(config: Config, processes: Processes = ALONE) -> tuple[Arrays, str]:
    """Where the engine runs that needs no network, and what computes it: 'numpy', or the name of a backend.

    auto takes a GPU through the backend where that is installed. Raises BackendError when another device than the CPU
    is asked for and the backend is not installed, DeviceError when the device is not there.
    """
    device, name = config.execution.device, config.execution.backend
    threads = reconstruction_threads(config)
    if device == 'cpu' or (device == 'auto' and not (may_have_gpu() and name in installed())):
        return NumpyArrays(threads, processes), 'numpy'
    backend = load_backend(name)
    arrays = select_arrays(backend, choose_device(backend, device, processes), threads, processes)
    return arrays, 'numpy' if isinstance(arrays, NumpyArrays) else backend.name


def choose_device(backend: Backend, device: str, processes: Processes) -> str:
    """Framework's name of the device of this process; of several on a machine each has a GPU of its own."""
    found = backend.resolve_device(device)
    kind, separator, _ = found.partition(':')
    gpus = [name for name in backend.devices() if name.startswith(f'{kind}:')]
    return gpus[processes.number % len(gpus)] if separator and processes.total > 1 else found


def reconstruction_threads(config: Config) -> int:
    """Threads of the CPU for what is no training: as many as are set, else all cores that this process may use."""
    return config.execution.threads or available_threads()


def may_have_gpu() -> bool:
    """False where there is surely no GPU, so that no framework need be imported (seconds) to ask."""
    return sys.platform != 'linux' or any(Path(driver).exists() for driver in DRIVERS)
