"""A scan as it is used: what its values, pixels, frames, positions and unit show of faults is mended and said.

First what keeps the values from being a scan's at all (stored.py), then what only the patterns show together, and the
probe (findings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ...errors import ScanError, SeveralScansError
from ...events import Notice
from ...scan import Scan
from .corrected import Values, corrected_patterns
from .findings import Findings
from .stored import NAMED, check_values, fields_of_frames


def mend_scan(**fields: Any) -> tuple[Scan, tuple[Notice, ...]]:
    """A `Scan` of these fields as far as they can be trusted, and what was left out or mended.

    Values that no detector counts and pixels that are hot or dead become bad pixels; frames without the beam, mad ones
    and those whose position is lost are left out; single hits become the median of their neighbors; a beam off the
    center is brought there; a constant factor of the counts is divided out; an inverted mask is turned.

    Raises ScanError when the fields are no scan, the mask hides the beam, or positions are in another unit than pixels.
    """
    fields = {**fields, 'as_is': True}  # what is mended, or cannot be, is not looked at again
    if not _are_shaped(fields):
        return Scan(**fields), ()
    fields, kept, notices = check_values(fields)
    scan = Scan(**fields)
    found = Findings(scan, kept)
    return found.mended(), (*notices, *found.notices)


def mend_unless_as_is(scan: Scan, *, as_is: bool) -> tuple[Scan, tuple[Notice, ...]]:
    """A scan as `mend_scan` mends it, and its notices; as it is where that is asked for, here or by the scan.

    Raises what `mend_scan` raises, and ScanError when its patterns are of several scans.
    """
    if as_is or scan.as_is:
        return scan, ()
    if scan.scan_index is not None and len(numbers := np.unique(scan.scan_index)) > 1:
        raise ScanError(
            f'The patterns are of {len(numbers)} scans (scan_index {_list_numbers(numbers.tolist())}); '
            'make a Scan of each, or set as_is to take all for one.'
        )
    return mend_scan(**{entry.name: getattr(scan, entry.name) for entry in fields(scan)})


def choose_scan(fields: dict[str, Any], index: int | None) -> dict[str, Any]:
    """The fields of the scan with the number `index` where `scan_index` tells several apart, else as they are.

    Raises SeveralScansError when there are several and none is chosen, ScanError when there is none of that number.
    """
    numbers = fields.get('scan_index')
    if numbers is None or not _are_shaped(fields) or np.shape(numbers) != (len(fields['diffraction']),):
        return fields
    present = tuple(int(number) for number in np.unique(numbers))
    if index is None and len(present) == 1:
        return fields
    listed = _list_numbers(present)
    if index is None:
        text = (
            f'The file holds {len(present)} scans (scan_index {listed}); choose one by scan_index, or set '
            'data.as_is=true to take all for one scan.'
        )
        raise SeveralScansError(text, present)
    if index not in present:
        raise ScanError(f'scan_index is {index}, but the file holds {listed}; choose one of these.')
    frames = np.flatnonzero(np.asarray(numbers) == index)
    patterns = corrected_patterns(fields['diffraction'], frames, Values.none())
    return {**fields, **fields_of_frames(fields, frames), 'diffraction': patterns}


def _list_numbers(numbers: Sequence[int]) -> str:
    return ', '.join(map(str, numbers[:NAMED])) + (', ...' if len(numbers) > NAMED else '')


def _are_shaped(fields: dict[str, Any]) -> bool:
    """Whether patterns, positions and mask have shapes and types that can be looked at; Scan says what is wrong."""
    patterns, positions, bad = fields['diffraction'], np.asarray(fields['positions']), fields.get('bad_pixels')
    shape: tuple[int, ...] = getattr(patterns, 'shape', ())
    return (
        len(shape) == 3
        and shape[0] > 1
        and shape[1] == shape[2] > 0
        and patterns.dtype.kind in 'uif'
        and positions.shape == (shape[0], 2)
        and positions.dtype.kind in 'uif'
        and (bad is None or (np.shape(bad) == shape[1:] and np.asarray(bad).dtype.kind in 'bui'))
    )
