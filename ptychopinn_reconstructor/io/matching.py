"""Pairing patterns to positions by their indexes (specs/data_contracts.md, D35)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice


@dataclass(frozen=True, eq=False)
class Matching:
    """Patterns paired to positions: `rows` of the pattern array, their `positions` (len(rows), 2), and notices."""

    rows: NDArray[np.int64]
    positions: NDArray[np.float64]
    notices: tuple[Notice, ...]


def match_by_index(
    pattern_indexes: NDArray[np.int64], position_indexes: NDArray[np.int64], positions: NDArray[np.float64]
) -> Matching:
    """The position of each pattern by its index, as Ptychodus pairs them.

    The patterns decide: positions of one index are averaged, an index between two known ones is interpolated
    linearly, and patterns outside the range of the positions or with a negative index (never filled) are left out.

    Raises ScanError when no pattern has a position.
    """
    finite = np.isfinite(positions).all(axis=1)
    if not finite.all():
        raise ScanError(f'{int((~finite).sum())} probe positions are NaN or infinity; leave out these positions.')
    known, inverse = np.unique(position_indexes, return_inverse=True)
    if not known.size:
        raise ScanError('The product holds no probe positions; pass the product of this scan.')
    usable = (pattern_indexes >= 0) & (pattern_indexes >= known[0]) & (pattern_indexes <= known[-1])
    rows = np.flatnonzero(usable)
    if not rows.size:
        raise ScanError(
            f'No pattern has a position: pattern indexes span {pattern_indexes.min(initial=0)} to '
            f'{pattern_indexes.max(initial=0)}, position indexes {known[0]} to {known[-1]}; '
            'pass the product of this scan.'
        )
    wanted = pattern_indexes[rows]
    repeats = np.bincount(inverse)
    means = [np.bincount(inverse, column) / repeats for column in positions.T]
    matched = np.stack([np.interp(wanted, known, mean) for mean in means], axis=1)
    return Matching(rows, matched, _describe_matching(usable, wanted, known, len(position_indexes)))


def _describe_matching(
    usable: NDArray[np.bool_], wanted: NDArray[np.int64], known: NDArray[np.int64], n_positions: int
) -> tuple[Notice, ...]:
    interpolated = int(np.count_nonzero(~np.isin(wanted, known)))
    averaged = n_positions - len(known)
    unused = int(np.count_nonzero(~np.isin(known, wanted)))
    notices = [Notice('positions_matched', f'Paired {len(wanted)} of {len(usable)} patterns to positions by index.')]
    if not usable.all():
        text = f'Left out {int((~usable).sum())} patterns without a position.'
        notices.append(Notice('patterns_left_out', text))
    if interpolated:
        text = f'Interpolated the positions of {interpolated} patterns between their neighbors.'
        notices.append(Notice('positions_interpolated', text))
    if averaged:
        text = f'Averaged {averaged} positions that share an index with another.'
        notices.append(Notice('positions_averaged', text))
    if unused:
        notices.append(Notice('positions_left_out', f'Left out {unused} positions without a pattern.'))
    return tuple(notices)
