"""What the issues ask for, figure by figure, and what was measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from statistics import median
from typing import Any

from engine_best import seconds_to_equal
from quality_cases import CASES, EXCHANGED, TENSORFLOW, Figures
from quality_reach import DOSES, ENGINE, POINTS

TOLERANCE_DB = 1.0  # by which a PSNR of TensorFlow may lie below what PyTorch is asked for, in issue 3 of 4
INFINITE = float('inf')
FIRST = 'Issues 1 and 3 of 4'
REACH = 'Issue 4 of 4: what it must reach'
FASTER = ('phase_psnr',)  # reaching the same phase error is being equal
NOT_COUNTED = ('residual', 'trust', 'stitch_halves', 'refine_halves')  # stages that judge the object, not make it
Found = Mapping[str, Figures]


@dataclass(frozen=True)
class Goal:
    """A figure of a row that must lie between `low` and `high`.

    `case` may be a pattern: the median of the cases that it fits counts. `engine` names a case of best engine runs: a
    figure then counts less the best of that case, and `equal` figures make it a speed, the engine's time to reach them
    over the row's own. `kind` is that of the engine: as it is (its best may also be a textbook run), `textbook`
    without our long-range phase step, or `prior` with the smoothness prior that follows a network.
    """

    case: str
    row: str
    key: str
    low: float = -INFINITE
    high: float = INFINITE
    engine: str = ''
    kind: str = ''
    equal: tuple[str, ...] = ()
    issue: str = FIRST

    @property
    def figure(self) -> str:
        """What is measured, in words."""
        engine = {
            '': 'the best engine',
            'textbook': 'the best textbook engine',
            'prior': 'the best engine with our prior and wavefront',
        }[self.kind]
        if self.equal:
            return f'times as fast as {engine}, equal {", ".join(self.equal)}'
        return f'{self.key} over {engine}' if self.engine else self.key

    @property
    def asked(self) -> str:
        """The limits as text."""
        text = ' to '.join(f'{x:.4g}' for x in (self.low, self.high) if abs(x) != INFINITE)
        sign = '>= ' if self.high == INFINITE else '<= ' if self.low == -INFINITE else ''
        return sign + text

    def measured(self, found: Found) -> tuple[float | None, int]:
        """The median over the cases that have been run, and how many these are."""
        names = [name for name in found if fnmatchcase(name, self.case)]
        values = [value for name in names if (value := self._value(found, name)) is not None]
        return (median(values), len(values)) if values else (None, 0)

    def _value(self, found: Found, name: str) -> float | None:
        row: Mapping[str, Any] = found[name].get(self.row, {})
        if not self.engine:
            value = row.get(self.key)
            return None if value is None else float(value)
        points = self._points(found)
        if not points or any(row.get(key) is None for key in self.equal or (self.key,)):
            return None
        if self.equal:
            return seconds_to_equal(points, {key: row[key] for key in self.equal}) / reconstruction_seconds(row)
        return float(row[self.key] - max(point[self.key] for point in points))

    def _points(self, found: Found) -> list[dict[str, Any]]:
        kinds = ('', 'textbook') if not (self.kind or self.equal) else (self.kind,)
        titles = [f'{kind}: {POINTS}' if kind else POINTS for kind in kinds]
        rows = found.get(self.engine, {})
        return [point for title in titles for point in rows.get(title, {}).get('points', [])]


def reconstruction_seconds(row: Mapping[str, Any]) -> float:
    """CPU seconds of the stages that make the object, those that only judge it left out."""
    stages: Mapping[str, float] = row['stages']
    return sum(seconds for name, seconds in stages.items() if name not in NOT_COUNTED)


def goals() -> Iterator[Goal]:
    """All of them, those of issue 4 of 4 first."""
    yield from (replace(goal, issue=REACH) for goal in reach_goals())
    yield from pytorch_goals()
    for goal in pytorch_goals():  # with the same settings, but not within the same time
        if TENSORFLOW + goal.case in CASES and goal.key != 'cpu_seconds':
            low = goal.low - TOLERANCE_DB * goal.key.endswith('_psnr')
            yield replace(goal, case=TENSORFLOW + goal.case, low=low)
    for what, backend in product(('simulated A', 'star'), ('PyTorch', 'TensorFlow')):
        yield Goal(EXCHANGED, f'{what}, trained by {backend}', 'object_difference', high=1e-5)


def least(case: str, row: str, phase: float, amplitude: float | None, area: float | None) -> Iterator[Goal]:
    """Phase and amplitude PSNR and FRC area that a row must reach."""
    for key, low in (('phase_psnr', phase), ('amplitude_psnr', amplitude), ('frc_area', area)):
        if low is not None:
            yield Goal(case, row, key, low)


def reach_goals() -> Iterator[Goal]:
    """The table 'what it must reach' of issue 4 of 4, row by row; TensorFlow with one seed."""
    for case in ('trained on A, seed *', f'{TENSORFLOW}trained on A'):
        yield Goal(case, 'train', 'cpu_seconds', high=240)
        yield Goal(case, 'A network + 0', 'phase_psnr', 27)
        yield Goal(case, 'A network + 0', 'amplitude_ratio', 0.99, 1.01)
        yield from least(case, 'A network + 2', 28, 27, 0.95)
        yield from least(case, 'B network + 2', 24, None, 0.90)
    for case in ('pretrained 12 min, seed *', f'{TENSORFLOW}pretrained 12 min'):
        yield from pretrained_goals(case, 720, (29, 26.5, 0.95), (31, 27, 0.91))
    yield from pretrained_goals('pretrained 60 min', 3600, (31, 27, 0.955), (33, 28, 0.93))
    for case in ('star, pretrained, seed *', f'{TENSORFLOW}star, pretrained'):
        yield Goal(case, 'train', 'cpu_seconds', high=720)
        yield from least(case, 'star network + 2', 34, 28, 0.93)
    for case in ('trained on the star, seed *', f'{TENSORFLOW}trained on the star'):
        yield Goal(case, 'train', 'cpu_seconds', high=240)
        yield from least(case, 'star network + 2', 34.5, 28.5, 0.94)
        all_three = ('phase_psnr', 'amplitude_psnr', 'frc_area')
        yield Goal(case, 'star network + 2', 'speed', 1, engine=f'{ENGINE}, star', equal=all_three)
    yield from ratio_goals()
    yield from engine_goals()
    for what in ('probe', 'positions'):
        for kind, key in product(('engine', 'network'), ('phase_psnr', 'amplitude_psnr')):
            yield Goal(f'wrong {what}', f'{kind}, refined', f'{key}_below_true', high=2)


def pretrained_goals(
    case: str, seconds: float, a: tuple[float, float, float], b: tuple[float, float, float]
) -> Iterator[Goal]:
    """What a pretrained network must reach on A and on B, and how fast; against both kinds of engine."""
    yield Goal(case, 'train', 'cpu_seconds', high=seconds)
    for name, figures in (('A', a), ('B', b)):
        yield from least(case, f'{name} network + 2', *figures)
        for kind in ('', 'textbook'):
            engine = f'{ENGINE}, {name}'
            yield Goal(case, f'{name} network + 2', 'speed', 8, engine=engine, kind=kind, equal=FASTER)


def ratio_goals() -> Iterator[Goal]:
    """The amplitude is absolute from 1e3 to 1e7 photons, of the network and after refinement."""
    for photons, passes in product((1e3, 1e4, 1e5, 1e6, 1e7), (0, 2)):
        yield Goal(f'{photons:.0e} photons', f'network + {passes}', 'amplitude_ratio', 0.98, 1.02)


def engine_goals() -> Iterator[Goal]:
    """Sparse scans and few photons: how much better than the best engine run, whose passes the truth has chosen.

    Against the engine as it is, and against one that has our prior too: what is then left is due to the network.
    """
    for (overlap, more), kind in product(((50, 0), (30, 3), (0, 6)), ('', 'prior')):
        name = f'{overlap}% overlap'
        row, engine = f'{name} network + auto', f'{ENGINE}, {name}'
        yield Goal(f'{name}, pretrained, seed *', row, 'phase_psnr', more, engine=engine, kind=kind)
    for photons, key, kind in product(DOSES, ('phase_psnr', 'amplitude_psnr'), ('', 'prior')):
        name = f'{photons:.0e} photons'
        row, engine = f'{name} network + auto', f'{ENGINE}, {name}'
        yield Goal(f'{name}, pretrained, seed *', row, key, 2, engine=engine, kind=kind)


def pytorch_goals() -> Iterator[Goal]:
    """What issue 1 of 4 asks for."""
    star = 'star, reference probe'
    yield Goal(star, 'train', 'cpu_seconds', high=300)
    for key, low in (('phase_psnr', 30), ('amplitude_psnr', 20), ('frc_area', 0.45)):
        yield Goal(star, 'network + 0', key, low)
    yield Goal(star, 'network + 0', 'amplitude_ratio', 0.98, 1.02)
    for key, low in (('phase_psnr', 33), ('amplitude_psnr', 26), ('frc_area', 0.88)):
        yield Goal(star, 'network + 3', key, low)
    alone = 'star, scan file alone'
    yield Goal(alone, 'train', 'cpu_seconds', high=300)
    yield Goal(alone, 'network + 3', 'residual', high=0.016)
    for key, low in (('phase_psnr', 27.5), ('frc_area', 0.50)):
        yield Goal(alone, 'network + 3', key, low)
    both = 'simulated A and B'
    yield Goal(both, 'train', 'cpu_seconds', high=240)
    yield Goal(both, 'A network + 0', 'phase_psnr', 23)
    yield Goal(both, 'A network + 0', 'amplitude_ratio', 0.98, 1.02)
    for key, low in (('phase_psnr', 25), ('amplitude_psnr', 25.5), ('frc_area', 0.93)):
        yield Goal(both, 'A network + 2', key, low)
    for key, low in (('phase_psnr', 21), ('frc_area', 0.86)):
        yield Goal(both, 'B network + 2', key, low)
    yield Goal('supervised on A', 'A network + 0', 'phase_psnr', 23)
    yield Goal('supervised on A', 'A network + 0', 'amplitude_ratio', 0.98, 1.02)
    torch_cases = [name for name in CASES if not name.startswith(TENSORFLOW)]
    for case in (name for name in torch_cases if name.startswith('gridsize')):
        yield Goal(case, 'train', 'cpu_seconds', high=61)
        yield Goal(case, 'network + 2', 'phase_psnr', 18)
        yield Goal(case, 'network + 2', 'residual_to_flat', high=1 / 3)
    yield from ratio_goals()  # contracts.md, AMPLITUDE
