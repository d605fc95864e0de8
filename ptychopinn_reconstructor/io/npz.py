"""Scans as NPZ files, as PtychoPINN and Ptychodus write them (specs/data_contracts.md, section 2)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError, quote, shorten
from ..events import Notice
from ..patterns import PatternsOnDemand
from ..scan import Scan
from .arrays import describe_layers, drop_relaxation_axis, extract_object_layer, project_layers
from .atomic import write_atomically
from .domain import DomainChoice, decide_domain
from .members import NpzMembers
from .memory import require_memory
from .records import MENDED, ObjectFile, ScanFile, Use, build_scan

AXES_KEY, AXES = 'diff3d_axes', 'pattern,row,column'
DOMAIN_KEY, PIXEL_KEY, FRESNEL_KEY = 'measurement_domain', 'object_pixel_size_m', 'fresnel_number'
PROBE_KEYS = ('probe', 'probeGuess')
_DIFFRACTION_KEYS = ('diff3d', 'diffraction')
_IGNORED_KEYS = ('Y', 'label')
_USED_KEYS = {
    *_DIFFRACTION_KEYS, *PROBE_KEYS, 'xcoords', 'ycoords', 'xcoords_start', 'ycoords_start', 'object', 'objectGuess',
    'origin_row', 'origin_col', 'bad_pixels', 'scan_index', AXES_KEY, DOMAIN_KEY, PIXEL_KEY,
    FRESNEL_KEY,
}  # fmt: skip
_PTYCHODUS_EXPORT = {
    'xcoords', 'ycoords', 'xcoords_start', 'ycoords_start', 'diff3d', 'bad_pixels', 'probeGuess', 'objectGuess',
    'scan_index',
}  # fmt: skip


def read_npz(
    path: str | Path, *, domain: DomainChoice = 'auto', probe: NDArray[Any] | None = None, use: Use = MENDED
) -> ScanFile:
    """A scan from an NPZ file; stored patterns are memory-mapped, compressed ones keep their dtype in memory.

    `domain` decides what the patterns are (see `decide_domain`); `probe` takes the place of the file's.
    `use`: whether it is mended, and which of several scans is read.

    Raises ScanError when the file is damaged, a key is missing, pickled or misshapen, or the domain is ambiguous.
    """
    with NpzMembers(Path(path)) as members:
        notices = _note_ignored_keys(members)
        positions = _read_positions(members)
        diffraction, moved = _read_patterns(members, len(positions), use.scratch)
        chosen, why = _decide_domain(members, diffraction, domain)
        label, origin = _read_object(members, positions, notices)
        side = diffraction.shape[1]
        scan, mended = build_scan(
            use,
            diffraction=diffraction,
            positions=positions,
            probe=_read_probe(members) if probe is None else probe,
            domain=chosen,
            object=label,
            object_origin=origin,
            on_object_grid=label is not None and _holds_patches(label.shape, positions + origin, side),
            bad_pixels=_read_optional(members, 'bad_pixels'),
            scan_index=_read_optional(members, 'scan_index'),
            pixel_size=_read_pixel_size(members),
            fresnel_number=_read_optional(members, FRESNEL_KEY),
        )
    return ScanFile(scan, (*moved, Notice('measurement_domain', why), *notices, *mended))


def read_npz_object(path: str | Path, key: str | None = None) -> ObjectFile:
    """The object of an NPZ file: `key`, or `object` (placed by origin_row and origin_col), or `objectGuess`."""
    with NpzMembers(Path(path)) as members:
        name = members.find_first(key) if key else members.find_first('object', 'objectGuess')
        if name is None:
            raise ScanError(_describe_missing(members, key or 'object', 'objectGuess'))
        values = extract_object_layer(members.read(name), f"'{name}' of {path}")
        known = 'xcoords' in members and 'ycoords' in members
        positions = _read_positions(members) if known else None
        probe = members.find_first(*PROBE_KEYS)
        side = None if probe is None else max(members.shape(probe), default=None)
        return ObjectFile(values, _read_origin(members), positions, _read_pixel_size(members), side)


def read_npz_probe(path: str | Path, key: str | None = None) -> NDArray[Any]:
    """The probe of an NPZ file: `key`, or `probe`, or `probeGuess`, in the file's own shape and dtype."""
    with NpzMembers(Path(path)) as members:
        name = members.find_first(key) if key else members.find_first(*PROBE_KEYS)
        if name is None:
            raise ScanError(_describe_missing(members, *((key,) if key else PROBE_KEYS)))
        return members.read(name)


def write_npz(path: str | Path, scan: Scan, *, compressed: bool = False) -> None:
    """Write a scan in the NPZ contract, pattern block by pattern block, and put it in place in one step.

    Positions are moved onto the grid of the object where the scan has one, as the contract requires.

    Raises OutputError when the file cannot be written.
    """
    offset = np.asarray(scan.object_origin) if scan.object is not None else np.zeros(2)
    rows, columns = (scan.positions + offset).T
    arrays: dict[str, Any] = {'xcoords': columns, 'ycoords': rows, 'xcoords_start': columns, 'ycoords_start': rows}
    arrays |= {'probeGuess': scan.probe, 'objectGuess': scan.object, 'bad_pixels': scan.bad_pixels}
    arrays['scan_index'] = np.zeros(len(scan), np.int64) if scan.scan_index is None else scan.scan_index
    arrays |= {AXES_KEY: np.array(AXES), DOMAIN_KEY: np.array(scan.domain)}
    arrays[PIXEL_KEY] = None if scan.pixel_size is None else np.array(scan.pixel_size)
    arrays[FRESNEL_KEY] = None if scan.fresnel_number is None else np.array(scan.fresnel_number)
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with write_atomically(path) as temporary, zipfile.ZipFile(temporary, 'w', method) as archive:
        for key, value in arrays.items():
            if value is not None:
                _write_member(archive, key, np.ascontiguousarray(value).reshape(np.shape(value)))
        _write_member(archive, 'diff3d', scan.diffraction, scan.blocks())


def _write_member(archive: zipfile.ZipFile, key: str, array: Any, blocks: Iterable[Any] = (...,)) -> None:
    info = zipfile.ZipInfo(f'{key}.npy')  # its fixed date makes equal scans equal files
    info.compress_type = archive.compression
    dtype = np.dtype(array.dtype)
    header = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False, 'shape': tuple(array.shape)}
    with archive.open(info, 'w', force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(array[block], dtype).tobytes())


def _note_ignored_keys(members: NpzMembers) -> list[Notice]:
    notices = []
    for key in members.keys:
        if members.is_pickled(key) and key not in _USED_KEYS:
            text = f'Skipped the pickled key {quote(key)}: pickles are never loaded.'
            notices.append(Notice('key_ignored', text))
        elif key in _IGNORED_KEYS:
            text = f"Ignored the key '{key}': labels are made from objectGuess."
            notices.append(Notice('key_ignored', text))
    return notices


def _describe_missing(members: NpzMembers, *keys: str) -> str:
    wanted = ' or '.join(map(quote, keys))
    held = shorten(', '.join(members.keys), 300) or 'none'
    return f'{members.path} has no key {wanted} (keys present: {held}); add it or name another file.'


def _require_key(members: NpzMembers, *keys: str) -> str:
    name = members.find_first(*keys)
    if name is None:
        raise ScanError(_describe_missing(members, *keys))
    return name


def _read_optional(members: NpzMembers, key: str) -> NDArray[Any] | None:
    return members.read(key) if key in members else None


def _read_positions(members: NpzMembers) -> NDArray[np.float64]:
    arrays = (members.read(_require_key(members, key)) for key in ('xcoords', 'ycoords'))
    x, y = (a.ravel() if a.size == max(a.shape, default=0) else a for a in arrays)
    if x.ndim != 1 or x.shape != y.shape:
        raise ScanError(
            f'xcoords and ycoords of {members.path} have shapes {x.shape} and {y.shape}; '
            'expected one number per pattern.'
        )
    if x.dtype.kind not in 'uif' or y.dtype.kind not in 'uif':
        raise ScanError(f'xcoords and ycoords of {members.path} are {x.dtype} and {y.dtype}; expected real numbers.')
    return np.stack([y, x], axis=1).astype(np.float64)


def _read_patterns(members: NpzMembers, n: int, scratch: Path | None) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    key = _require_key(members, *_DIFFRACTION_KEYS)
    patterns: Any = members.open(key, scratch)
    if patterns.ndim != 3:
        raise ScanError(f"'{key}' of {members.path} has shape {patterns.shape}; expected (n, N, N): n square patterns.")
    axis = (
        0
        if _read_text(members, AXES_KEY) == AXES
        else _find_pattern_axis(patterns.shape, n, f"'{key}' of {members.path}")
    )
    if axis == 0 and (isinstance(patterns, PatternsOnDemand) or patterns.flags.c_contiguous):
        return patterns, ()
    require_memory(
        patterns.nbytes,
        f"'{key}' of {members.path}, whose patterns do not lie one after the other,",
        'save it with the patterns first, or use a larger machine',
    )
    text = f'Moved axis {axis} of {key} {patterns.shape} to the front: it matches the {n} positions.'
    return np.ascontiguousarray(np.moveaxis(np.asarray(patterns), axis, 0)), (
        Notice('axis_moved', text),
    ) if axis else ()


def _find_pattern_axis(shape: tuple[int, ...], n: int, name: str) -> int:
    matching = [i for i in range(3) if shape[i] == n]
    if len(matching) == 3:
        raise ScanError(
            f'{name} has shape {shape}, so any axis may count the {n} patterns; '
            f"save it with the patterns first and add the key {AXES_KEY} = '{AXES}'."
        )
    if not matching:
        raise ScanError(f'{name} has shape {shape} but there are {n} positions; one axis must match the positions.')
    return matching[0]


def _decide_domain(members: NpzMembers, diffraction: NDArray[Any], choice: DomainChoice) -> tuple[Any, str]:
    declared = _read_text(members, DOMAIN_KEY)
    if choice == 'auto' and declared in ('counts', 'amplitude'):
        return declared, f'Measurement domain: {declared}, as the file declares.'
    if choice == 'auto' and _is_ptychodus_export(members):
        return 'counts', 'Measurement domain: counts, because the file is one that Ptychodus exports.'
    return decide_domain(diffraction, choice)


def _is_ptychodus_export(members: NpzMembers) -> bool:
    """Whether the file has the keys of the host's export and no others; PtychoPINN's own files hold no bad_pixels."""
    return set(members.keys) == _PTYCHODUS_EXPORT and not members.read('scan_index').any()


def _read_text(members: NpzMembers, key: str) -> str | None:
    return str(members.read(key)) if key in members else None


def _read_probe(members: NpzMembers) -> NDArray[Any] | None:
    name = members.find_first(*PROBE_KEYS[::-1])
    return None if name is None else drop_relaxation_axis(members.read(name), f"'{name}' of {members.path}")


def _read_origin(members: NpzMembers) -> tuple[float, float]:
    values = [members.read(key) if key in members else np.zeros(()) for key in ('origin_row', 'origin_col')]
    if any(v.size != 1 or v.dtype.kind not in 'uif' or not np.isfinite(v).all() for v in values):
        raise ScanError(f'origin_row and origin_col of {members.path} must be one finite number each.')
    return float(values[0].item()), float(values[1].item())


def _holds_patches(shape: tuple[int, ...], centers: NDArray[np.float64], side: int) -> bool:
    """Whether an array of `shape` holds all patches of `side` pixels around centers (n, 2), each at its whole pixel."""
    corners = np.rint(np.round(centers - (side - 1) / 2, 6))  # noise of a millionth of a pixel decides nothing
    return bool((corners >= 0).all() and (corners + side <= shape).all())


def _read_pixel_size(members: NpzMembers) -> tuple[float, float] | None:
    if PIXEL_KEY not in members:
        return None
    values = members.read(PIXEL_KEY)
    if values.shape != (2,) or values.dtype.kind not in 'uif':
        raise ScanError(f'{PIXEL_KEY} of {members.path} has shape {values.shape}; expected (2,): height and width.')
    return float(values[0]), float(values[1])


def _read_object(
    members: NpzMembers, positions: NDArray[np.float64], notices: list[Notice]
) -> tuple[NDArray[np.complex64] | None, tuple[float, float]]:
    name = members.find_first('objectGuess', 'object')
    if name is None:
        return None, (0.0, 0.0)
    stored, origin, what = members.read(name), _read_origin(members), f"'{name}' of {members.path}"
    values = project_layers(stored, what)
    if text := describe_layers(stored.shape[0] if stored.ndim == 3 else 1, what):
        notices.append(Notice('object_layers', text))
    index = positions + origin
    if np.isfinite(index).all() and ((index < 0) | (index > np.array(values.shape) - 1)).any():
        text = f'Left out {name}: scan positions lie outside its {values.shape} pixels.'
        notices.append(Notice('object_ignored', text))
        return None, (0.0, 0.0)
    return values, origin
