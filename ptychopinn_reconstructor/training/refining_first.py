"""Refinement of probe and scan positions by the engine before a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import Interrupted
from ..events import Notice, Previews, ShouldStop
from ..io.members import NpzMembers
from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.options import RefineOptions
from ..physics.engine.positions import displace_scan
from ..physics.engine.refine import Refined
from ..physics.prepare import prepare_scan
from ..reconstruction.finish import refine_with_previews
from ..reconstruction.initial_object import flat_canvas
from ..reconstruction.refinement import refinement_options
from ..reconstruction.writing import write_probe
from ..scan import Scan, check_probe

PROBE_FILE, POSITIONS = 'probe.npz', 'positions'


@dataclass(frozen=True, eq=False)
class InitialRefinement:
    """Probe and positions refined before a training; None where not asked for.

    `probe` (modes, N, N), `positions` (n, 2) in pixels and the order of the scan file, `notices` for the user.
    """

    probe: NDArray[np.complex64] | None = None
    positions: NDArray[np.float64] | None = None
    notices: tuple[Notice, ...] = ()


def refine_before_training(
    scan: Scan,
    config: Config,
    folder: Path,
    *,
    resume: bool,
    previews: Previews,
    should_stop: ShouldStop,
    arrays: Arrays = NUMPY,
) -> InitialRefinement:
    """Probe and positions after refine_probe_first and refine_positions_first passes of the engine, kept in probe.npz.

    Both are refined jointly, in the larger number of passes. Raises Interrupted when stopped.
    """
    with_probe, with_positions = config.training.refine_probe_first, config.training.refine_positions_first
    if not (with_probe or with_positions):
        return InitialRefinement()
    file = folder / PROBE_FILE
    if resume and file.exists():
        return _read(file, with_probe=bool(with_probe))
    prepared = prepare_scan(scan, mode=config.data.probe_power)
    asked = {'passes': max(with_probe, with_positions), 'probe': bool(with_probe), 'positions': bool(with_positions)}
    section = config.refinement.model_copy(update=asked)
    options = refinement_options(section, prepared, start='empty', seed=config.training.seed)
    refined = refine_with_previews(prepared, flat_canvas(prepared), options, previews, should_stop, arrays)
    if refined.stopped:
        raise Interrupted('Stopped before probe and positions were refined; nothing is written.')
    positions = None if refined.displacements is None else displace_scan(prepared, refined.displacements).scan.positions
    write_probe(file, refined.probe, **({} if positions is None else {POSITIONS: positions}))
    return InitialRefinement(refined.probe if with_probe else None, positions, (_notice(options, refined, file),))


def _read(file: Path, *, with_probe: bool) -> InitialRefinement:
    with NpzMembers(file) as members:
        positions = members.read(POSITIONS) if POSITIONS in members else None
        probe = check_probe(members.read('probe')) if with_probe else None
    notice = Notice('refined_first', f'What was refined before is taken from {file}.')
    return InitialRefinement(probe, positions, (notice,))


def _notice(options: RefineOptions, refined: Refined, file: Path) -> Notice:
    what = 'The probe was' if refined.displacements is None else 'The positions were'
    if options.refine_probe and refined.displacements is not None:
        what = 'Probe and positions were'
    moved = (
        '' if refined.displacements is None else f', moved by {np.sqrt((refined.displacements**2).mean()):.2f} px rms'
    )
    text = (
        f'{what} refined in {options.passes} passes of the engine (residual {refined.residuals[-1]:.4f}{moved}); '
        f'see {file}.'
    )
    return Notice('refined_first', text)
