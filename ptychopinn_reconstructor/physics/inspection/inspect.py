"""A scan as it is used: what its values, pixels, frames, positions and unit show of faults is mended and said.

First what keeps the values from being a scan's at all, then what only the patterns show together, and the probe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError, SeveralScansError
from ...events import Notice
from ...scan import Scan, check_probe
from ..forward import measure, propagate
from ..probes import energy_diameter
from ..scaling import probe_power
from .center import Shift, beam_offset, is_probe_off
from .corrected import Values, corrected_patterns
from .counts import find_count_unit, sample_patterns
from .frames import bright_frames, dark_frames, is_mad
from .hits import single_hits
from .mask import check_mask, is_inverted
from .neighbors import neighbors_of
from .pixels import dark_pixels, hot_pixels, peak_ratio
from .places import check_step, lost_positions
from .values import MOST, impossible_values

SAMPLED_PATTERNS = 512  # evenly spaced: enough for what is the same in all frames
BLOCK, PARTS = 64, 8  # patterns at a time, and in how many parts
SAMPLED_FOR_MASK = 16
MOST_HITS = 0.01  # share of all values; more are no single ones
NAMED = 5  # numbers of patterns that are listed


def mend_scan(**fields: Any) -> tuple[Scan, tuple[Notice, ...]]:
    """A `Scan` of these fields as far as they can be trusted, and what was left out or mended.

    Values that no detector counts and pixels that are hot or dead become bad pixels; frames without the beam, mad ones
    and those whose position is lost are left out; single hits become the median of their neighbors; a beam off the
    center is brought there; a constant factor of the counts is divided out; an inverted mask is turned.

    Raises ScanError when the fields are no scan, the mask hides the beam, or positions are in another unit than pixels.
    """
    if not _are_shaped(fields):
        return Scan(**fields), ()
    fields, kept, notices = _check_values(fields)
    scan = Scan(**fields)
    found = _Findings(scan, kept)
    return found.mended(), (*notices, *found.notices)


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
    listed = ', '.join(map(str, present[:NAMED])) + (', ...' if len(present) > NAMED else '')
    if index is None:
        text = (
            f'The file holds {len(present)} scans (scan_index {listed}); choose one of them, or take it as_is for one.'
        )
        raise SeveralScansError(text, present)
    if index not in present:
        raise ScanError(f'scan_index is {index}, but the file holds {listed}; choose one of these.')
    frames = np.flatnonzero(np.asarray(numbers) == index)
    patterns = corrected_patterns(fields['diffraction'], frames, Values.none())
    return {**fields, **_fields_of_frames(fields, frames), 'diffraction': patterns}


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


def _check_values(fields: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.int64], list[Notice]]:
    """Fields without values that are none, the frames that are left, and what was done."""
    patterns, positions = fields['diffraction'], np.asarray(fields['positions'], dtype=np.float64)
    n, side = len(patterns), patterns.shape[1]
    bad = np.zeros((side, side), bool) if fields.get('bad_pixels') is None else np.asarray(fields['bad_pixels'], bool)
    notices = []
    step = max(1, n // SAMPLED_FOR_MASK)
    if is_inverted(np.asarray(patterns[::step]), bad):
        text = f'bad_pixels marks {bad.mean():.0%} of the pixels, which hold the light: it is turned, True means bad.'
        notices.append(Notice('mask_inverted', text))
        bad = ~bad
    pixels, lost, single = impossible_values(patterns, bad)
    if (bad | pixels).mean() > MOST >= bad.mean():  # then it is no defect; Scan says what is wrong with the values
        pixels, single = np.zeros_like(pixels), Values.none()
    away = lost_positions(positions, side) & ~lost
    if (probe := _find_probe(fields)) is not None:
        check_step(positions[~(lost | away)], probe, fields.get('pixel_size'))
    notices += _value_notices(pixels, lost, single, away, positions)
    kept = np.flatnonzero(~(lost | away))
    mended = corrected_patterns(patterns, kept, _filled(patterns, single, bad | pixels).of_frames(kept, n))
    return (
        {
            **fields,
            **_fields_of_frames(fields, kept),
            'diffraction': mended,
            'bad_pixels': bad | pixels if pixels.any() or bad.any() else fields.get('bad_pixels'),
        },
        kept,
        notices,
    )


def _find_probe(fields: dict[str, Any]) -> NDArray[np.complex64] | None:
    """The probe, None where there is none or Scan will say what is wrong with it."""
    with suppress(ScanError):
        return None if fields.get('probe') is None else check_probe(fields['probe'], fields['diffraction'].shape[1])
    return None


def _fields_of_frames(fields: dict[str, Any], kept: NDArray[np.int64]) -> dict[str, Any]:
    names = ('positions', 'scan_index', 'pattern_indexes')
    n = len(fields['diffraction'])
    return {
        name: np.asarray(fields[name])[kept]
        for name in names
        if fields.get(name) is not None and np.shape(fields[name])[:1] == (n,)
    }


def _filled(patterns: Any, single: Values, bad: NDArray[np.bool_]) -> Values:
    """The single values with the median of those of their eight neighbors that are counts; zero without any."""
    values = np.zeros(len(single))
    for frame in np.unique(single.frames):
        part = np.flatnonzero(single.frames == frame)
        rows, columns = single.rows[part], single.columns[part]
        image = np.array(patterns[int(frame)], dtype=np.float64)
        image[bad] = np.nan
        image[rows, columns] = np.nan
        beside = neighbors_of(image[None], np.zeros(len(part), np.int64), rows, columns)
        values[part] = [np.median(b[np.isfinite(b)]) if np.isfinite(b).any() else 0.0 for b in beside]
    return single.with_values(values)


def _value_notices(
    pixels: NDArray[np.bool_],
    lost: NDArray[np.bool_],
    single: Values,
    away: NDArray[np.bool_],
    positions: NDArray[np.float64],
) -> Iterator[Notice]:
    if pixels.any():
        text = f'{pixels.sum()} pixels hold values that no detector counts (such as 2^32-1, -1, NaN): they are masked.'
        yield Notice('impossible_values', text)
    if len(single):
        text = f'{len(single)} single values are none that a detector counts: the median of their neighbors is used.'
        yield Notice('impossible_values', text)
    if lost.any():
        text = f'{_name_patterns(np.flatnonzero(lost))} left out: they hold values that no detector counts.'
        yield Notice('lost_frames', text)
    if away.any():
        first = np.flatnonzero(away)[0]
        row, column = positions[first]
        where = f'at row {row:.6g}, column {column:.6g}'
        text = f'{_name_patterns(np.flatnonzero(away))} left out: far from all others, {where}.'
        yield Notice('lost_positions', text)


def _name_patterns(numbers: NDArray[np.int64]) -> str:
    """'Pattern 7 is', 'Patterns 7, 9 are', 'Patterns 1, 2, 3, 4, 5 and 12 more are'."""
    more = f' and {len(numbers) - NAMED} more' if len(numbers) > NAMED else ''
    names = ', '.join(str(number) for number in numbers[:NAMED])
    return f'Pattern {names} is' if len(numbers) == 1 else f'Patterns {names}{more} are'


@dataclass
class _Findings:
    """What the patterns of a scan show together; `kept` are the numbers of its frames in the file."""

    scan: Scan
    kept: NDArray[np.int64]
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        scan = self.scan
        self.bad = np.zeros((scan.n_pixels,) * 2, bool) if scan.bad_pixels is None else scan.bad_pixels.copy()
        self.probe_counts = None if scan.probe is None else measure(propagate(scan.probe)[None])[0]
        self.unit, self.shift, self.hits = self._find_unit(), (0, 0), Values.none()
        self.left = np.zeros(len(scan), bool)
        if scan.probe is not None and self.probe_counts is not None:
            check_mask(self.bad, self.probe_counts)
        self._look_at_pixels()
        self._look_at_frames()

    def _find_unit(self) -> float:
        scan = self.scan
        sample = sample_patterns(scan.diffraction)
        sample[:, self.bad] = 0.0
        unit = find_count_unit(sample, scan.domain)
        if unit is None:
            text = 'The patterns are neither counts nor a multiple of them: pass nphotons if you know the photons.'
            self.notices.append(Notice('count_factor', text))
        elif unit != 1 and scan.count_unit == 1:
            text = f'One count is {unit:.6g} in the patterns: they are divided by that.'
            self.notices.append(Notice('count_factor', text))
            return 1 / unit
        return 1.0

    def _counts(self, index: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        return self.scan.counts(index) * np.float32(self.unit)

    def _look_at_pixels(self) -> None:
        quarters, total = self._sum_patterns()
        hot = hot_pixels(total, self.bad, self.probe_counts)
        expected = self.probe_counts
        if expected is not None and self.scan.probe is not None:
            extent = float(np.ptp(self.scan.positions, axis=0).max()) / max(energy_diameter(self.scan.probe), 1.0)
            offset = beam_offset(quarters, ~(self.bad | hot), expected, extent)
            self._center(offset)
            expected = np.roll(expected, offset, axis=(0, 1))
        dark = dark_pixels(total, self.bad | hot, expected)
        if hot.any() and dark.any():  # beside a gap what is bright has fewer bright neighbors
            hot = hot_pixels(total, self.bad | dark, self.probe_counts)
            dark = dark_pixels(total, self.bad | hot, expected)
        self._mask(hot, 'hot_pixels', 'count far more than their neighbors in all frames')
        self._mask(dark, 'dark_pixels', 'count nothing between bright ones (dead, a gap, or a beam stop)')
        self.mean = np.where(self.bad, 0.0, total / self.sampled)

    def _sum_patterns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of an evenly spaced part of the patterns without mad frames: in the quarters of the scan, and of all.

        (4, N, N) and (N, N); the latter from the median of eight parts, in which single hits do not count.
        """
        positions, usable = self.scan.positions, np.flatnonzero(~self._bright_frames())
        chosen = usable[np.unique(np.linspace(0, len(usable) - 1, SAMPLED_PATTERNS).astype(np.int64))]
        self.sampled = len(chosen)
        beyond = positions > np.median(positions, axis=0)
        quarter = beyond[:, 0] * 2 + beyond[:, 1]
        quarters, parts = np.zeros((4, *self.bad.shape)), np.zeros((PARTS, *self.bad.shape))
        for start in range(0, len(chosen), BLOCK):
            index = chosen[start : start + BLOCK]
            counts = self._counts(index)
            for number in range(4):
                quarters[number] += counts[quarter[index] == number].sum(axis=0, dtype=np.float64)
            for number in range(PARTS):  # a block holds whole rounds of the parts
                parts[number] += counts[number::PARTS].sum(axis=0, dtype=np.float64)
        return quarters, np.median(parts, axis=0) * PARTS

    def _bright_frames(self) -> NDArray[np.bool_]:
        probe = self.scan.probe
        counts = self.scan.pattern_counts * self.unit
        return bright_frames(counts, 0.0 if probe is None else probe_power(probe))

    def _mask(self, pixels: NDArray[np.bool_], code: Any, why: str) -> None:
        if pixels.any():
            row, column = np.argwhere(pixels)[0]
            text = f'{pixels.sum()} pixels {why}, the first at row {row}, column {column}: they are masked.'
            self.notices.append(Notice(code, text))
            self.bad |= pixels

    def _center(self, offset: Shift) -> None:
        if not any(offset):
            return
        if self.probe_counts is not None and is_probe_off(offset, self.probe_counts):
            text = (
                f'The far field of the probe is off center by {(-offset[0], -offset[1])} pixels, the patterns are not.'
            )
            self.notices.append(Notice('beam_offset', f'{text} Neither is moved: the object gets the slope.'))
            return
        self.shift = (-offset[0], -offset[1])
        half = self.scan.n_pixels // 2
        where = 'in the corner of the array' if offset == (-half, -half) else f'off center by {offset} pixels'
        text = f'The zero frequency is {where}, seen from the probe: the patterns are moved by {self.shift}.'
        self.notices.append(Notice('beam_offset', text))

    def _look_at_frames(self) -> None:
        """One reading of all patterns: their counts on good pixels, and single hits."""
        counts, hits, mad = [], [], []
        bright = self._bright_frames()
        sharpest = peak_ratio(self.probe_counts)
        average = max(float(self.mean.sum()), 1e-12)
        for block in self.scan.blocks():
            values = self._counts(block)
            values[:, self.bad] = 0.0
            sums = values.sum(axis=(1, 2), dtype=np.float64)
            frames, *found = single_hits(values, self.mean, sums / average, sharpest)
            hits.append((frames + block.start, *found))
            counts.append(sums)
            suspects = np.flatnonzero(bright[block])
            mad += [at + block.start for at in suspects if is_mad(values[at], self.mean, ~self.bad)]
        self._leave_out(np.isin(np.arange(len(self.scan)), mad), 'far brighter than all others, with another pattern')
        usable = np.flatnonzero(~self.left)
        dark = dark_frames(np.concatenate(counts)[usable], self.scan.positions[usable], self.scan.probe)
        self._leave_out(np.isin(np.arange(len(self.scan)), usable[dark]), 'without the beam that their neighbors have')
        self._replace_hits(Values(*(np.concatenate(parts) for parts in zip(*hits, strict=True))))

    def _leave_out(self, frames: NDArray[np.bool_], why: str) -> None:
        if frames.any():
            text = f'{_name_patterns(self.kept[frames])} left out: {why}.'
            self.notices.append(Notice('lost_frames', text))
            self.left |= frames

    def _replace_hits(self, hits: Values) -> None:
        hits = hits.part(~self.left[hits.frames])
        if not 0 < len(hits) <= MOST_HITS * self.scan.diffraction.size:
            return
        what = 'far above their neighbors and what their pixels count in other patterns (cosmic rays)'
        text = f'{len(hits)} single values are {what}: the median of their neighbors is used.'
        self.notices.append(Notice('single_hits', text))
        stored = hits.values / self.unit / self.scan.count_unit
        self.hits = hits.with_values(np.sqrt(stored) if self.scan.domain == 'amplitude' else stored)

    def mended(self) -> Scan:
        """The scan as it is used."""
        if not self.notices:
            return self.scan
        scan, kept = self.scan, np.flatnonzero(~self.left)
        fields = {'diffraction': scan.diffraction, **{name: getattr(scan, name) for name in _OF_FRAMES}}
        return replace(
            scan,
            **_fields_of_frames(fields, kept),
            diffraction=corrected_patterns(scan.diffraction, kept, self.hits.of_frames(kept, len(scan)), self.shift),
            bad_pixels=_moved_mask(self.bad, self.shift) if self.bad.any() or any(self.shift) else scan.bad_pixels,
            count_unit=scan.count_unit * self.unit,
        )


_OF_FRAMES = ('positions', 'scan_index', 'pattern_indexes')


def _moved_mask(bad: NDArray[np.bool_], shift: Shift) -> NDArray[np.bool_]:
    """The mask rolled with the patterns; what comes in at the other side was not measured there, unless it is half."""
    moved = np.roll(bad, shift, axis=(0, 1))
    for axis, by in enumerate(shift):
        if abs(by) != len(bad) // 2 and by:
            edge = [slice(None), slice(None)]
            edge[axis] = slice(None, by) if by > 0 else slice(by, None)
            moved[tuple(edge)] = True
    return moved
