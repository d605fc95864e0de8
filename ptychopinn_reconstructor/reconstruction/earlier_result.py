"""The object and the probe of an earlier result, placed on the canvas of a scan, for a refinement to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from ..io import PRODUCT_NAME, ObjectFile, read_object, read_probe
from ..physics.illumination import illuminated_area, illumination
from ..physics.prepare import PreparedScan
from ..physics.stitching.count_scale import count_gauge
from ..physics.stitching.placing import place_on_canvas
from ..scan import Scan

MOVED = 5.0  # pixels rms that refined positions may lie from the scan's: what a refinement allows at most
SAME_SIZE = 0.01  # relative: pixel sizes that differ by less are rounded differently
SMALLEST_COVER = 0.5  # of the lit area that the object must cover; the rest begins empty


@dataclass(frozen=True, eq=False)
class EarlierResult:
    """An object with its place, its probe (modes, N, N) where the file holds one, and the file (or what it is)."""

    path: Path | str
    object: ObjectFile
    probe: NDArray[np.complex64] | None


def read_earlier_result(path: str | Path, scan: Scan) -> EarlierResult:
    """The object of a product (or its folder), an NPZ or a CXI file, and the probe beside it where it fits `scan`.

    Raises ScanError when there is no object, or its pixels have another size than the scan's.
    """
    path = Path(path)
    path = path / PRODUCT_NAME if path.is_dir() else path
    object = read_object(path)
    _check_size(path, object, scan)
    try:
        probe = read_probe(path)
    except ScanError:  # an object alone is enough: the scan has a probe
        return EarlierResult(path, object, None)
    return EarlierResult(path, object, probe if probe.shape[-1] == scan.n_pixels else None)


def own_result(scan: Scan) -> EarlierResult | None:
    """The scan's own object as a result to go on from; None where it is constant, an empty guess.

    Raises ScanError when the scan has none.
    """
    if scan.object is None:
        raise ScanError('The scan has no object to go on from; start from another, or from none.')
    if np.all(scan.object == scan.object.flat[0]):
        return None
    own = ObjectFile(scan.object, scan.object_origin, scan.positions, scan.pixel_size, scan.n_pixels)
    return EarlierResult('the scan', own, None)


def _check_size(path: Path, object: ObjectFile, scan: Scan) -> None:
    if object.pixel_size is not None and scan.pixel_size is not None:
        one, other = np.array(object.pixel_size), np.array(scan.pixel_size)
        if (np.abs(one / other - 1) > SAME_SIZE).any():
            raise ScanError(
                f'The object of {path} has pixels of {one[0] * 1e9:.4g} x {one[1] * 1e9:.4g} nm, those of the scan are '
                f'{other[0] * 1e9:.4g} x {other[1] * 1e9:.4g} nm; start from a result of the same geometry.'
            )
    elif object.n_pixels not in (None, scan.n_pixels):
        raise ScanError(
            f'The object of {path} is from patterns of {object.n_pixels} pixels, which makes its pixels another size '
            f'than those of the scan, N = {scan.n_pixels}; start from a result of the same geometry.'
        )


def place_object(earlier: EarlierResult, prepared: PreparedScan) -> tuple[NDArray[np.complex64], Notice]:
    """The object on the canvas (H, W) of `prepared`, 1 where it has none, its amplitude as the counts ask for.

    Raises ScanError when it holds NaN, its positions are others, or it covers less than half of the lit area.
    """
    file = earlier.object
    if not np.isfinite(file.object).all():
        raise ScanError(f'The object of {earlier.path} holds NaN or infinity; start from another result.')
    shift = np.array(file.origin) - _find_offset(earlier, prepared.scan) - np.array(prepared.layout.origin)
    canvas, inside = place_on_canvas(file.object, shift, prepared.layout.shape)
    _check_cover(earlier, inside, prepared)
    # Other programs share the power between object and probe in their own way.
    scale = count_gauge(prepared, canvas)
    canvas[inside] *= scale
    what = 'object' if earlier.probe is None else 'object and probe'
    return canvas, Notice('earlier_result', f'Goes on from the {what} of {earlier.path}, amplitude times {scale:.3g}.')


def _find_offset(earlier: EarlierResult, scan: Scan) -> NDArray[np.float64]:
    """What the scan's positions lie off those of the earlier result, pixels: a constant that the file has lost."""
    positions = earlier.object.positions
    if positions is None or positions.shape != scan.positions.shape:
        return np.zeros(2)
    difference = scan.positions - positions
    offset = np.median(difference, axis=0)
    moved = float(np.sqrt(((difference - offset) ** 2).sum(axis=1).mean()))
    if moved > MOVED:
        raise ScanError(
            f'The positions of {earlier.path} differ from those of the scan by {moved:.3g} pixels rms; start from a '
            'result of this scan.'
        )
    return np.asarray(offset)


def _check_cover(earlier: EarlierResult, inside: NDArray[np.bool_], prepared: PreparedScan) -> None:
    lit = illuminated_area(illumination(prepared.layout, prepared.probe))
    share = float(inside[lit].mean())
    if share < SMALLEST_COVER:
        raise ScanError(
            f'The object of {earlier.path} covers {share:.0%} of the area that the scan lights; start from a result of '
            'this scan.'
        )
