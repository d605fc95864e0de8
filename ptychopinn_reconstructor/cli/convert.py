"""`ptychopinn convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import OutputError
from ..io import DomainChoice, read_object, read_scan, write_cxi, write_npz
from ..io.cxi_writing import write_cxi_object
from ..io.hdf5 import holds_object_alone
from ..io.tiff import SUFFIXES, write_tiff_object
from .app import debug_option, json_option, quiet_option
from .arguments import probe_option
from .folders import check_output_folder
from .report import format_notes, format_pairs, show

WRITTEN = ('.npz', '.cxi', *SUFFIXES)


@click.command()
@click.argument('source', type=click.Path(path_type=Path))
@click.argument('target', type=click.Path(path_type=Path))
@probe_option
@click.option(
    '--measurement-domain',
    'domain',
    type=click.Choice(['auto', 'counts', 'amplitude']),
    default='auto',
    show_default=True,
    help='What the patterns of SOURCE are.',
)
@click.option(
    '--positions',
    type=click.Path(path_type=Path),
    help='CSV file with the positions of TIFF images [default: the one beside them].',
)
@click.option(
    '--pixel-size',
    type=click.FloatRange(0, min_open=True),
    metavar='METERS',
    help='Size of an object pixel, for TIFF images whose positions are lengths.',
)
@json_option
@quiet_option
@debug_option
def convert(
    source: Path,
    target: Path,
    probe: str | None,
    domain: DomainChoice,
    positions: Path | None,
    pixel_size: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert a scan to NPZ or CXI, or an object to TIFF or CXI.

    SOURCE is what every command reads: an NPZ file, a Ptychodus folder or diffraction file, a CXI or NXcxi_ptycho file,
    PtyPy data (.ptyd), a TIFF stack or a folder of TIFF images with a CSV file of positions beside it. The name of
    TARGET says what is written: .npz and .cxi hold the scan, .tif the object (amplitude, then phase). Of a product of
    Ptychodus .cxi holds the object too.
    """
    if target.suffix.lower() not in WRITTEN:
        raise OutputError(f"Cannot write '{target}': its name must end in one of {', '.join(WRITTEN)}.")
    check_output_folder(target.absolute().parent)
    if target.suffix.lower() in SUFFIXES or (target.suffix.lower() == '.cxi' and holds_object_alone(source)):
        values = _convert_object(source, target)
    else:
        read = read_scan(source, domain=domain, probe=probe, positions=positions, pixel_size=pixel_size, as_is=True)
        (write_cxi if target.suffix.lower() == '.cxi' else write_npz)(target, read.scan)
        values = {'path': str(target), 'patterns': len(read.scan), 'N': read.scan.n_pixels, 'domain': read.scan.domain}
        values['notes'] = [notice.text for notice in read.notices]
    if as_json or not quiet:
        shown = {key: value for key, value in values.items() if key != 'notes'}
        show(values, as_json=as_json, text=[*format_pairs(shown), *format_notes(values.get('notes', ()))])


def _convert_object(source: Path, target: Path) -> dict[str, Any]:
    read = read_object(source)
    write = write_cxi_object if target.suffix.lower() == '.cxi' else write_tiff_object
    write(target, read.object, read.pixel_size)
    return {'path': str(target), 'object_shape': list(read.object.shape), 'pixel_size_m': read.pixel_size}
