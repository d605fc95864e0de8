"""A seeded sample of the cases of benchmarks/diagnosis.py: each fault is named first, and a clean scan has none."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
REFERENCE = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'siemens_star_reference.npz'


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kinds', 'design'),
    [
        ((), 0),
        ((), 5),
        (('positions turned',), 3),
        (('positions rotated',), 0),
        (('background',), 7),
        (('one mode of three',), 0),
        (('off center', 'detector turned'), 7),
    ],
)
def test_a_case_is_a_hit(monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], design: int) -> None:
    pytest.importorskip('skimage', reason='scikit-image is not installed')
    if not REFERENCE.exists():
        pytest.skip(f'{REFERENCE} is not there')
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from diagnosis import DESIGNS, Case, judge

    found = judge(Case.of_design(DESIGNS[design], kinds, 7))
    assert found['hit'] == '1', (found['findings'], found['first'])
