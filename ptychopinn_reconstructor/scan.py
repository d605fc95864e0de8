"""Scan: the validated, immutable data of one measurement (specs/data_contracts.md, section 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ScanError, quote, shorten
from .patterns import Counted, Unit, split_into_blocks
from .patterns import Domain as Domain
from .patterns import PatternsOnDemand as PatternsOnDemand

if TYPE_CHECKING:
    from .display.document import Part

PROBE_POWERS = (1e-24, 1e24)  # counts; beyond, squares leave the range of float32
SHOWN_PATTERNS = 64  # of which a notebook shows the mean: reading all of a large scan would take minutes
MAX_CANVAS = 32768  # pixels along one side of the object; larger means that the positions have another unit


@dataclass(frozen=True, eq=False)
class Scan:
    """One ptychographic measurement.

    Parameters
    ----------
    diffraction
        (n, N, N) real, >= 0, zero frequency at [N//2, N//2]; counts, or their square root (see `domain`). May be
        memory-mapped: it is read in blocks and never copied.
    positions
        (n, 2) float64, [row, column] of the patch centers, object pixels, arbitrary origin.
    probe
        (modes, N, N) complex64; (N, N) and (N, N, 1) are accepted. None when unknown.
    domain
        'counts' (intensity) or 'amplitude' (square root of counts) of `diffraction`.
    object
        (H, W) complex64 label or guess, or None.
    object_origin
        (2,) array coordinates [row, column] in `object` of the scan position (0, 0).
    on_object_grid
        Whether results lie on the pixel grid of `object`: index on their canvas less index in `object` is a whole
        number. Needs `object_origin`, not the object itself; otherwise a canvas begins at the smallest position.
    bad_pixels
        (N, N) bool, True = bad, or None.
    scan_index
        (n,) integers naming the scan of each pattern, or None.
    pixel_size
        (height, width) of an object pixel in meters, or None where only pixels are known.
    fresnel_number
        Of the near field, F = pixel^2 / (wavelength * effective distance) along rows and columns, or one number for
        both (`physics.propagation`); None: the far field.
    count_unit
        Counts that a unit of intensity stands for, where the patterns do not hold counts (see `photons`).
    pattern_indexes
        (n,) the host's index of each pattern, or None where the file does not number them.
    metadata
        Free text and numbers that travel to the product (name, comments, energy ...).
    as_is
        Whether training and reconstruction take it as it is; otherwise they first mend what is certain, as the readers
        do (see `physics.inspection.inspect.mend_scan`).
    counted
        What an earlier reading of all patterns has told of them: they are read again where it was of others.

    Raises
    ------
    ScanError
        When anything above does not hold; the sentence names the value seen and the remedy.
    """

    diffraction: NDArray[Any]
    positions: NDArray[np.float64]
    probe: NDArray[np.complex64] | None = None
    domain: Domain = 'counts'
    object: NDArray[np.complex64] | None = None
    object_origin: tuple[float, float] = (0.0, 0.0)
    on_object_grid: bool = False
    bad_pixels: NDArray[np.bool_] | None = None
    scan_index: NDArray[np.int64] | None = None
    pixel_size: tuple[float, float] | None = None
    fresnel_number: tuple[float, float] | None = None
    pattern_indexes: NDArray[np.int64] | None = None
    count_unit: float = 1.0
    metadata: Mapping[str, str | float] = field(default_factory=dict)
    as_is: bool = False
    counted: Counted | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.domain not in ('counts', 'amplitude'):
            raise ScanError(f"The measurement domain is {quote(self.domain)}; pass 'counts' or 'amplitude'.")
        n, side = _check_shape(self.diffraction)
        self._set('diffraction', self.diffraction)
        self._set('positions', _check_positions(self.positions, n))
        if self.probe is not None:
            self._set('probe', check_probe(self.probe, side))
        if self.object is not None:
            self._set('object', _check_object(self.object))
        if np.shape(self.object_origin) != (2,) or not np.isfinite(self.object_origin).all():
            raise ScanError(f'The object origin is {self.object_origin}; it must be two finite numbers, [row, column].')
        if self.bad_pixels is not None:
            self._set('bad_pixels', _check_bad_pixels(self.bad_pixels, side))
        if self.scan_index is not None:
            self._set('scan_index', _check_integers('scan_index', self.scan_index, n))
        if self.pattern_indexes is not None:
            self._set('pattern_indexes', _check_integers('pattern_indexes', self.pattern_indexes, n))
        if self.pixel_size is not None and not all(np.isfinite(s) and s > 0 for s in self.pixel_size):
            raise ScanError(f'The object pixel size is {self.pixel_size}; both numbers must be positive meters.')
        if self.fresnel_number is not None:
            self._set('fresnel_number', check_fresnel_number(self.fresnel_number))
        if not (np.isfinite(self.count_unit) and self.count_unit > 0):
            raise ScanError(f'The count unit is {self.count_unit}; it must be a positive number of counts.')
        self._set('metadata', MappingProxyType(dict(self.metadata)))
        # Last: it reads every pattern, and needs the domain, the mask and the unit checked above.
        if self.counted is None or not self.counted.tells_of(self.diffraction, self._unit):
            self._set('counted', Counted.by_reading(self.diffraction, self._unit))
        if not self.mean_counts > 0:
            raise ScanError('All diffraction patterns are zero; check the file and the bad-pixel mask.')

    def _set(self, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            value = value.view()
            value.flags.writeable = False
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.diffraction)

    @property
    def n_pixels(self) -> int:
        """Side N of a diffraction pattern in pixels."""
        return int(self.diffraction.shape[1])

    def counts(self, index: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Intensity in counts of the patterns at `index`, (b, N, N) float32, bad pixels set to zero."""
        return self.convert_to_counts(np.asarray(self.diffraction[index]))

    def convert_to_counts(self, patterns: NDArray[Any]) -> NDArray[np.float32]:
        """Intensity in counts, bad pixels set to zero, of patterns (b, N, N) stored as those of this scan are."""
        return self._unit.convert_to_counts(patterns)

    @property
    def _unit(self) -> Unit:
        return Unit(self.domain, self.count_unit, self.bad_pixels)

    def blocks(self) -> Iterator[slice]:
        """Consecutive slices over the patterns, small enough to be held in memory (see `split_into_blocks`)."""
        return split_into_blocks(self.diffraction.shape)

    @property
    def pattern_counts(self) -> NDArray[np.float64]:
        """Counts of each pattern over good pixels, (n,)."""
        assert self.counted is not None
        return self.counted.counts

    @property
    def mean_counts(self) -> float:
        """Mean counts per pattern over good pixels."""
        return float(self.pattern_counts.mean())

    def __repr__(self) -> str:
        name, modes = str(self.metadata.get('name', '')), 0 if self.probe is None else len(self.probe)
        parts = [
            shorten(name, 60),
            f'{len(self)} patterns of {self.n_pixels} x {self.n_pixels} pixels',
            f'{self.mean_counts:.3g} counts each',
            'near field' if self.fresnel_number is not None else '',
            f'probe of {modes} mode{"s" * (modes > 1)}' if modes else 'no probe',
            '' if self.object is None else 'with an object',
        ]
        return f'Scan({", ".join(filter(None, parts))})'

    def _repr_html_(self) -> str:
        from .display.document import format_fragment

        return format_fragment(repr(self), self.describe())

    def describe(self) -> list[Part]:
        """The facts and pictures of the scan that a notebook shows."""
        from .display.document import Gallery, Table
        from .display.pictures import picture_amplitude_phase, picture_places, picture_probe, picture_values

        every = -(-len(self) // SHOWN_PATTERNS)
        patterns = np.log10(1 + self.counts(np.arange(0, len(self), every)).mean(axis=0))
        pictures = [
            picture_values(patterns, f'Mean of {-(-len(self) // every)} patterns, logarithm of the counts'),
            picture_places(self.positions, self.pattern_counts),
        ]
        if self.probe is not None:
            pictures.append(picture_probe(self.probe))
        if self.object is not None:
            pictures += picture_amplitude_phase(self.object, 'of the object in the file')
        return [Table(('', ''), [*self._list_facts().items()]), Gallery(pictures)]

    def _list_facts(self) -> dict[str, str]:
        rows, columns = np.ptp(self.positions, axis=0)
        counts, bad = self.pattern_counts, self.bad_pixels
        facts = {
            'counts of a pattern': f'{counts.min():.3g} to {counts.max():.3g}',
            'positions': f'{rows:.0f} x {columns:.0f} object pixels',
            'bad pixels': 'none' if bad is None else f'{int(bad.sum())}, {bad.mean():.2%}',
        }
        if self.pixel_size is not None:
            facts['object pixel'] = ' x '.join(f'{size * 1e9:.3g}' for size in self.pixel_size) + ' nm'
        if self.fresnel_number is not None:
            facts['Fresnel number'] = ' x '.join(f'{number:.3g}' for number in self.fresnel_number)
        return facts

    def with_probe(self, probe: ArrayLike) -> Self:
        """The same scan with another probe."""
        return replace(self, probe=np.asarray(probe))


def _check_shape(diffraction: NDArray[Any]) -> tuple[int, int]:
    """The number of patterns n and their side N."""
    shape: tuple[int, ...] = getattr(diffraction, 'shape', ())
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ScanError(f'The diffraction array has shape {shape}; expected (n, N, N): n square patterns.')
    if shape[0] < 2:
        raise ScanError(f'The scan holds {shape[0]} pattern(s); ptychography needs at least 2 overlapping ones.')
    if shape[1] % 4 or shape[1] < 16:
        raise ScanError(
            f'The patterns are N = {shape[1]} pixels wide; N must be divisible by 4 and at least 16: crop or pad them.'
        )
    dtype = np.dtype(diffraction.dtype)
    if dtype.kind not in 'uif':
        raise ScanError(f'The diffraction patterns are of type {dtype}; they must be real numbers (counts).')
    return shape[0], shape[1]


def _check_positions(positions: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.asarray(positions)
    if array.dtype.kind not in 'uif':
        raise ScanError(f'The positions are of type {array.dtype}; they must be real numbers in object pixels.')
    array = np.array(array, dtype=np.float64)
    if array.shape != (n, 2):
        raise ScanError(f'The positions have shape {array.shape}; expected ({n}, 2): [row, column] of each pattern.')
    if not np.isfinite(array).all():
        raise ScanError('The positions hold NaN or infinity; leave out the patterns whose position is not known.')
    extent = float(np.ptp(array, axis=0).max())
    if extent < 0.5:
        raise ScanError(
            f'The positions span only {extent:.3g} pixels: they are probably in meters; '
            'divide them by the object pixel size.'
        )
    if extent > MAX_CANVAS:
        raise ScanError(
            f'The positions span {extent:.3g} pixels, more than {MAX_CANVAS}: they are probably not in object pixels; '
            'divide them by the object pixel size in their own unit.'
        )
    return array


def check_probe(probe: ArrayLike, side: int | None = None) -> NDArray[np.complex64]:
    """A probe as (modes, N, N) complex64; accepts (N, N), (N, N, 1) and (modes, N, N).

    Raises ScanError when the shape is another, its side is not `side`, a value is not finite or all are zero.
    """
    array = np.asarray(probe)
    if array.dtype.kind not in 'uifc':
        raise ScanError(f'The probe is of type {array.dtype}; it must be an array of complex numbers.')
    if array.ndim == 3 and array.shape[2] == 1 and array.shape[0] == array.shape[1]:
        array = array[..., 0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1] != array.shape[2] or not array.shape[0]:
        raise ScanError(f'The probe has shape {np.shape(probe)}; expected (N, N) or (modes, N, N).')
    if side is not None and array.shape[1] != side:
        raise ScanError(
            f'The probe is {array.shape[1]} pixels wide but the patterns are {side}; '
            'hand in a probe on the pattern grid.'
        )
    if not np.isfinite(array).all():
        raise ScanError('The probe holds NaN or infinity; hand in another probe.')
    if not np.abs(array).max() > 0:
        raise ScanError('The probe is zero everywhere; hand in another probe.')
    with np.errstate(over='ignore', under='ignore'):
        power = float(np.sum(np.abs(array.astype(np.complex128)) ** 2))
    if not PROBE_POWERS[0] <= power <= PROBE_POWERS[1]:
        raise ScanError(
            f'The power of the probe, the sum of its squared amplitudes, is {power:.3g}, not within '
            f'{PROBE_POWERS[0]:g} and {PROBE_POWERS[1]:g}; scale the probe to the square root of counts.'
        )
    return np.ascontiguousarray(array, dtype=np.complex64)


def _check_object(values: ArrayLike) -> NDArray[np.complex64]:
    array = np.asarray(values)
    if array.dtype.kind not in 'uifc':
        raise ScanError(f'The object is of type {array.dtype}; it must be an array of complex numbers.')
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise ScanError(f'The object has shape {array.shape}; expected (H, W): one layer.')
    if not np.isfinite(array).all():
        raise ScanError('The object holds NaN or infinity; hand in another object.')
    return np.ascontiguousarray(array, dtype=np.complex64)


def _check_bad_pixels(values: ArrayLike, side: int) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.shape != (side, side):
        raise ScanError(f'bad_pixels has shape {array.shape}; expected ({side}, {side}), True where a pixel is bad.')
    if array.dtype.kind not in 'bui':
        raise ScanError(f'bad_pixels is of type {array.dtype}; expected booleans, True where a pixel is bad.')
    array = array.astype(bool)
    if array.all():
        raise ScanError('bad_pixels marks every pixel as bad; expected True only where a pixel is bad.')
    return array


def check_fresnel_number(values: ArrayLike) -> tuple[float, float]:
    """That along rows and along columns; ScanError where it is no positive number, or two."""
    array = np.ravel(np.asarray(values, dtype=np.float64))
    if array.size not in (1, 2) or not (np.isfinite(array).all() and (array > 0).all()):
        raise ScanError(
            f'The Fresnel number is {array.tolist()}; expected one positive number, or two for rows and columns: '
            'pixel^2 / (wavelength * effective distance).'
        )
    return float(array[0]), float(array[-1])


def _check_integers(name: str, values: ArrayLike, n: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in 'uif':
        raise ScanError(f'{name} has shape {array.shape} and type {array.dtype}; expected {n} integers.')
    return array.astype(np.int64)
