"""Compare an object with the truth."""

from __future__ import annotations

from ..errors import ScanError
from ..io import ObjectFile
from ..physics.scoring.metrics import Comparison, compare, default_margin
from ..result import Reconstruction


def evaluate(result: ObjectFile, truth: ObjectFile, *, margin: int | None = None, pistons: bool = False) -> Comparison:
    """Compare an object with the truth on the area of the scan, less `margin` pixels.

    None: N/16 of the patterns that either was made from, 4 where both are unknown. `pistons` removes the phase factor
    of each probe spot too, for scans without overlap.
    """
    positions = result.positions if result.positions is not None else truth.positions
    if positions is None:
        raise ScanError(
            'Neither file holds scan positions, which say where the objects lie; pass a product.h5 as RESULT.'
        )
    return compare(
        result.object,
        result.origin,
        truth.object,
        truth.origin,
        positions,
        margin=default_margin(result.n_pixels or truth.n_pixels) if margin is None else margin,
        pistons=pistons,
    )


def as_object_file(result: Reconstruction) -> ObjectFile:
    """A reconstruction as `evaluate` takes it."""
    side = int(result.probe.shape[-1])
    return ObjectFile(result.object, result.origin, result.positions, result.known_pixel_size, side)
