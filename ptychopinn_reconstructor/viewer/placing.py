"""Results on the pixels of the first one, and what two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io import ObjectFile
from ..io.images import without_ramp
from ..physics.geometry import scan_area
from ..physics.scoring.frc import FRC, frc
from ..physics.scoring.registration import align
from ..reconstruction.evaluate import evaluate

Point = tuple[float, float]  # row, column


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object (h, w) on the area and the pixels of the first result.

    `factor` is what its amplitude was divided by, `shift` the pixels that it was moved by, `mean` the phase of the
    first result, about which phases are shown.
    """

    object: NDArray[np.complex64]
    mean: float
    factor: float = 1.0
    shift: float = 0.0

    @property
    def amplitude(self) -> NDArray[np.float32]:
        """Amplitude (h, w)."""
        return np.abs(self.object)

    @property
    def phase(self) -> NDArray[np.float32]:
        """Phase (h, w) in radians about `mean`."""
        return np.asarray(np.angle(self.object * np.complex64(np.exp(-1j * self.mean))))


def place_objects(files: Mapping[str, ObjectFile]) -> dict[str, PlacedObject]:
    """All objects between the outermost positions of the first result, registered on it.

    The first is shown without its phase ramp, the others without shift, ramp and factor against the first. Raises
    InputError, which names the result, when one does not cover the area of the first or is shifted by too much.
    """
    (name, first), *others = files.items()
    if first.positions is None:
        raise InputError(f'{name} holds no scan positions, which say where it lies; name a product.h5 first.')
    shown, _ = without_ramp(first.object[scan_area(first.positions, first.origin)])
    mean = float(np.angle(shown.sum(dtype=np.complex128)))
    placed = {name: PlacedObject(shown, mean)}
    flat = _replace_area(first, shown)
    for name, other in others:
        try:
            found = evaluate(replace(other, positions=None), flat, margin=0)  # on the area of the first
        except InputError as error:
            raise type(error)(f'{name}: {error}') from error
        values = (found.result / found.amplitude_ratio).astype(np.complex64)
        placed[name] = PlacedObject(values, mean, found.amplitude_ratio, found.alignment.distance)
    return placed


def _replace_area(file: ObjectFile, shown: NDArray[np.complex64]) -> ObjectFile:
    """The first result as it is shown, as the truth that others are compared with."""
    assert file.positions is not None
    area = scan_area(file.positions, file.origin)
    row, column = (origin - side.start for origin, side in zip(file.origin, area, strict=True))
    return ObjectFile(shown, (row, column), file.positions, file.pixel_size, file.n_pixels)


@dataclass(frozen=True, eq=False)
class Difference:
    """What the second of two objects has more than the first, (h, w) each, and their Fourier ring correlation."""

    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    frc: FRC

    @classmethod
    def of(cls, first: PlacedObject, second: PlacedObject) -> Difference:
        """Of two objects on the same pixels, the second registered on the first."""
        one, other = (placed.object.astype(np.complex128) for placed in (first, second))
        _, other, _ = align(other, (0.0, 0.0), one)
        return cls(np.abs(other) - np.abs(one), np.angle(other * one.conj()), frc(other, one))


def sample_line(
    values: NDArray[np.floating], start: Point, end: Point
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances in pixels and values along a line over an image (h, w), about one a pixel, between pixels linear."""
    from scipy import ndimage

    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    share = np.linspace(0, 1, max(int(np.ceil(length)) + 1, 2))
    rows, columns = (a + (b - a) * share for a, b in zip(start, end, strict=True))
    line = ndimage.map_coordinates(np.asarray(values, dtype=np.float64), (rows, columns), order=1, mode='nearest')
    return share * length, np.asarray(line)
