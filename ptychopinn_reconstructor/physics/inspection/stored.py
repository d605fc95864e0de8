"""What keeps stored values from being a scan: an inverted mask, values that no detector counts, lost positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...events import Notice
from ...patterns import Counted, Unit
from ...scan import check_probe
from .corrected import Values, corrected_patterns
from .mask import is_inverted
from .neighbors import neighbors_of
from .places import check_step, lost_positions
from .values import MOST, impossible_values

SAMPLED_FOR_MASK = 16
NAMED = 5  # numbers of patterns that are listed
OF_FRAMES = ('positions', 'scan_index', 'pattern_indexes')


def check_values(fields: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.int64], list[Notice]]:
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
    mask = bad if fields.get('bad_pixels') is not None else None
    unit = Unit(fields.get('domain', 'counts'), fields.get('count_unit', 1.0), mask)
    pixels, lost, single, counts = impossible_values(patterns, bad, unit)
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
            **fields_of_frames(fields, kept),
            'diffraction': mended,
            'bad_pixels': bad | pixels if pixels.any() or bad.any() else fields.get('bad_pixels'),
            'counted': None if counts is None or pixels.any() else Counted(mended, unit, counts[kept]),
        },
        kept,
        notices,
    )


def _find_probe(fields: dict[str, Any]) -> NDArray[np.complex64] | None:
    """The probe, None where there is none or Scan will say what is wrong with it."""
    with suppress(ScanError):
        return None if fields.get('probe') is None else check_probe(fields['probe'], fields['diffraction'].shape[1])
    return None


def fields_of_frames(fields: dict[str, Any], kept: NDArray[np.int64]) -> dict[str, Any]:
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
        text = f'{name_patterns(np.flatnonzero(lost))} left out: they hold values that no detector counts.'
        yield Notice('lost_frames', text)
    if away.any():
        first = np.flatnonzero(away)[0]
        row, column = positions[first]
        where = f'at row {row:.6g}, column {column:.6g}'
        text = f'{name_patterns(np.flatnonzero(away))} left out: far from all others, {where}.'
        yield Notice('lost_positions', text)


def name_patterns(numbers: NDArray[np.int64]) -> str:
    """'Pattern 7 is', 'Patterns 7, 9 are', 'Patterns 1, 2, 3, 4, 5 and 12 more are'."""
    more = f' and {len(numbers) - NAMED} more' if len(numbers) > NAMED else ''
    names = ', '.join(str(number) for number in numbers[:NAMED])
    return f'Pattern {names} is' if len(numbers) == 1 else f'Patterns {names}{more} are'
