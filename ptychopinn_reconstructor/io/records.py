"""Records that the readers return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..events import Notice
from ..scan import Scan


@dataclass(frozen=True, eq=False)
class ScanFile:
    """A scan as read from a file, and the decisions of the reader.

    Parameters
    ----------
    scan
        The validated scan.
    notices
        For the user: the measurement domain and why, skipped keys, a moved axis, patterns left out.
    """

    scan: Scan
    notices: tuple[Notice, ...] = ()

    def _repr_html_(self) -> str:
        from ..display.document import Items, format_fragment

        return format_fragment(repr(self.scan), [*self.scan.describe(), Items([one.text for one in self.notices])])


@dataclass(frozen=True)
class Use:
    """Which part of a file becomes a scan, and whether it is mended.

    Parameters
    ----------
    as_is
        Nothing is mended, and scans that `scan_index` tells apart are taken for one.
    scan_index
        The number of the scan that is read where a file holds several.
    fresnel_number
        Of a pixel in the near field, whatever the file says; None: as it says.
    scratch
        Folder for patterns that are unpacked; None: the system's for temporary files.
    """

    as_is: bool = False
    scan_index: int | None = None
    fresnel_number: float | None = None
    scratch: Path | None = None


MENDED = Use()


def build_scan(use: Use, **fields: Any) -> tuple[Scan, tuple[Notice, ...]]:
    """A scan of these fields with what was mended in it, or, `as_is`, of nothing but them.

    Raises ScanError when they are no scan (see `Scan` and `physics.inspection.inspect.mend_scan`), and
    SeveralScansError when they are several of which none is chosen.
    """
    if use.fresnel_number is not None:
        fields['fresnel_number'] = use.fresnel_number
    if use.as_is:
        return Scan(**fields | {'as_is': True}), ()
    from ..physics.inspection.inspect import choose_scan, mend_scan

    return mend_scan(**choose_scan(fields, use.scan_index))


@dataclass(frozen=True, eq=False)
class ObjectFile:
    """An object as read from a file.

    Parameters
    ----------
    object
        (H, W) complex64.
    origin
        Array coordinates [row, column] of the scan position (0, 0): index = position + origin.
    positions
        (n, 2) float64 [row, column] patch centers in object pixels, or None where the file holds none.
    pixel_size
        (height, width) of an object pixel in meters, or None.
    n_pixels
        Side N of the patterns it was made from, or None.
    """

    object: NDArray[np.complex64]
    origin: tuple[float, float] = (0.0, 0.0)
    positions: NDArray[np.float64] | None = None
    pixel_size: tuple[float, float] | None = None
    n_pixels: int | None = None
