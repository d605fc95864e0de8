"""What the patterns of a scan show together, and beside its probe: pixels, center, frames, single hits, unit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...events import Notice, NoticeCode
from ...patterns import Counted, Unit
from ...scan import Scan
from ..forward import unscattered_counts
from ..prepare import find_kernel
from ..probes import energy_diameter
from ..scaling import probe_power
from .center import Shift, beam_offset, is_probe_off
from .corrected import Values, corrected_patterns
from .counts import find_count_unit, sample_patterns
from .frames import bright_frames, dark_frames, is_mad
from .hits import single_hits
from .mask import check_mask
from .pixels import dark_pixels, hot_pixels, peak_ratio
from .stored import OF_FRAMES, fields_of_frames, name_patterns

SAMPLED_PATTERNS = 512  # evenly spaced: enough for what is the same in all frames
BLOCK, PARTS = 64, 8  # patterns at a time, and in how many parts
MOST_HITS = 0.01  # share of all values; more are no single ones


@dataclass
class Findings:
    """What the patterns of a scan show together; `kept` are the numbers of its frames in the file."""

    scan: Scan
    kept: NDArray[np.int64]
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        scan = self.scan
        self.bad = np.zeros((scan.n_pixels,) * 2, bool) if scan.bad_pixels is None else scan.bad_pixels.copy()
        self.probe_counts = None if scan.probe is None else unscattered_counts(scan.probe, find_kernel(scan))
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
        quarters, parts = self._sum_patterns()
        total = np.median(parts, axis=0) * PARTS  # single hits do not count
        # Nor do they here, but what only few frames light, such as those of an edge, is not dark.
        lit = np.where(total == 0, np.sort(parts, axis=0)[-3] * PARTS, total)
        hot = hot_pixels(total, self.bad, self.probe_counts)
        expected = self.probe_counts
        if expected is not None and self.scan.probe is not None:
            extent = float(np.ptp(self.scan.positions, axis=0).max()) / max(energy_diameter(self.scan.probe), 1.0)
            near = self.scan.fresnel_number is not None  # whose illumination may lie anywhere
            offset = (0, 0) if near else beam_offset(quarters, ~(self.bad | hot), expected, extent)
            self._center(offset)
            expected = np.roll(expected, offset, axis=(0, 1))
        dark = dark_pixels(lit, self.bad | hot, expected)
        if hot.any() and dark.any():  # beside a gap what is bright has fewer bright neighbors
            hot = hot_pixels(total, self.bad | dark, self.probe_counts)
            dark = dark_pixels(lit, self.bad | hot, expected)
        self._mask(hot, 'hot_pixels', 'count far more than their neighbors in all frames')
        self._mask(dark, 'dark_pixels', 'count nothing between bright ones (dead, a gap, or a beam stop)')
        self.mean = np.where(self.bad, 0.0, total / self.sampled)

    def _sum_patterns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of an evenly spaced part of the patterns without mad frames.

        (4, N, N) in the quarters of the scan, and (PARTS, N, N) in turns.
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
        return quarters, parts

    def _bright_frames(self) -> NDArray[np.bool_]:
        probe = self.scan.probe
        counts = self.scan.pattern_counts * self.unit
        return bright_frames(counts, 0.0 if probe is None else probe_power(probe))

    def _mask(self, pixels: NDArray[np.bool_], code: NoticeCode, why: str) -> None:
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
        self.counts, usable = np.concatenate(counts), np.flatnonzero(~self.left)
        dark = dark_frames(self.counts[usable], self.scan.positions[usable], self.scan.probe)
        self._leave_out(np.isin(np.arange(len(self.scan)), usable[dark]), 'without the beam that their neighbors have')
        self._replace_hits(Values(*(np.concatenate(parts) for parts in zip(*hits, strict=True))))

    def _leave_out(self, frames: NDArray[np.bool_], why: str) -> None:
        if frames.any():
            text = f'{name_patterns(self.kept[frames])} left out: {why}.'
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
        fields = {'diffraction': scan.diffraction, **{name: getattr(scan, name) for name in OF_FRAMES}}
        hits = self.hits.of_frames(kept, len(scan))
        mended = corrected_patterns(scan.diffraction, kept, hits, self.shift)
        bad = _moved_mask(self.bad, self.shift) if self.bad.any() or any(self.shift) else scan.bad_pixels
        unit = Unit(scan.domain, scan.count_unit * self.unit, bad)
        return replace(
            scan,
            **fields_of_frames(fields, kept),
            diffraction=mended,
            bad_pixels=bad,
            count_unit=unit.count_unit,
            counted=None if any(self.shift) else Counted(mended, unit, self._recount(mended, unit, kept, hits)),
        )

    def _recount(self, mended: Any, unit: Unit, kept: NDArray[np.int64], hits: Values) -> NDArray[np.float64]:
        """Counts of the mended patterns: those of the last reading, but where values are replaced."""
        counts = self.counts[kept]
        changed = np.unique(hits.frames)
        if len(changed):
            for part in np.array_split(changed, -(-len(changed) // BLOCK)):
                counts[part] = unit.sum_counts(np.asarray(mended[part]))
        return counts


def _moved_mask(bad: NDArray[np.bool_], shift: Shift) -> NDArray[np.bool_]:
    """The mask rolled with the patterns; what comes in at the other side was not measured there, unless it is half."""
    moved = np.roll(bad, shift, axis=(0, 1))
    for axis, by in enumerate(shift):
        if abs(by) != len(bad) // 2 and by:
            edge = [slice(None), slice(None)]
            edge[axis] = slice(None, by) if by > 0 else slice(by, None)
            moved[tuple(edge)] = True
    return moved
