"""`ptychopinn simulate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import PtychoPINNError, ScanError, quote
from ..io import read_probe, write_npz
from ..io.ptychodus_folder import write_ptychodus_folder
from ..io.scratch import empty_patterns
from ..physics.probes import PROBES
from ..physics.simulation import simulate as simulation
from ..scan import Scan
from .app import debug_option, json_option, quiet_option
from .configuration import read_file
from .folders import check_output_folder
from .progress import ProgressBar
from .report import format_pairs, show

REFINE_PASSES = 2  # of the engine after the network, in the settings.ini of a simulated folder


@click.command()
@click.option(
    '--out', required=True, type=click.Path(path_type=Path), help='File, or folder of --format ptychodus, to write.'
)
@click.option(
    '--format',
    'kind',
    type=click.Choice(['npz', 'ptychodus']),
    default='npz',
    show_default=True,
    help='ptychodus: a folder with diffraction.h5, product.h5, settings.ini and truth.h5.',
)
@click.option('--n', type=int, help='Side of a diffraction pattern, pixels [default: 64, or that of the probe file].')
@click.option('--positions', type=int, default=1024, show_default=True, help='Number of scan positions.')
@click.option('--step', type=float, default=8.0, show_default=True, help='Distance of neighboring positions, pixels.')
@click.option('--photons', type=float, default=1e5, show_default=True, help='Photons incident per pattern.')
@click.option(
    '--object',
    'name',
    default='cells',
    show_default=True,
    metavar='NAME',
    help='Kind of object, such as cells, clouds, spokes, mixed or flat; an unknown name lists all.',
)
@click.option(
    '--probe',
    default='defocused',
    show_default=True,
    metavar='NAME|FILE[:KEY]',
    help='Kind of probe, such as defocused, zone_plate, gaussian or diffuser, or a file that holds one.',
)
@click.option('--modes', type=int, default=1, show_default=True, help='Incoherent probe modes.')
@click.option(
    '--fresnel-number',
    type=float,
    metavar='NUMBER',
    help='pixel^2 / (wavelength * effective distance): patterns of the near field; the probe diffuser suits it '
    '[default: the far field].',
)
@click.option('--seed', type=int, default=0, show_default=True, help='Seed of positions, object and noise.')
@json_option
@quiet_option
@debug_option
def simulate(
    out: Path,
    kind: str,
    n: int | None,
    positions: int,
    step: float,
    photons: float,
    name: str,
    probe: str,
    modes: int,
    fresnel_number: float | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate a scan with counting noise: patterns, positions, and the true object and probe.

    The true object is in the NPZ file as objectGuess, the true probe, in sqrt(counts), as probeGuess. The folder of
    --format ptychodus is ready for `ptychodus -b train`: the object of its product is flat, the true one is in
    truth.h5, and its settings.ini asks for a short training.
    """
    there = check_output_folder(out.absolute().parent if kind == 'npz' else out)
    with ProgressBar('simulate', quiet=quiet):
        scan = simulation.simulate(
            n=n,
            positions=positions,
            step=step,
            photons=photons,
            object=name,
            probe=_read_probe(probe),
            modes=modes,
            fresnel_number=fresnel_number,
            seed=seed,
            empty=partial(empty_patterns, folder=there),
        )
        _write(out, scan, kind)
    shape = [] if scan.object is None else list(scan.object.shape)
    values = {
        'path': str(out),
        'patterns': len(scan),
        'N': scan.n_pixels,
        'mean_counts': scan.mean_counts,
        'object': name,
        'object_shape': shape,
        **({} if scan.fresnel_number is None else {'fresnel_number': scan.fresnel_number[0]}),
        'probe_modes': 0 if scan.probe is None else len(scan.probe),
        'seed': seed,
    }
    if as_json or not quiet:
        show(values, as_json=as_json, text=format_pairs(values))


def _write(out: Path, scan: Scan, kind: str) -> None:
    if kind == 'npz':
        write_npz(out, scan)
    else:
        quick = read_file('quick')
        write_ptychodus_folder(out, scan, {**quick, 'refinement': {'passes': REFINE_PASSES}})


def _read_probe(probe: str) -> Any:
    if probe in PROBES:
        return probe
    try:
        return read_probe(probe)
    except PtychoPINNError as error:
        if Path(probe.partition(':')[0]).exists():
            raise
        raise ScanError(
            f'There is no probe {quote(probe)}: choose one of {", ".join(PROBES)}, or name a file.'
        ) from error
