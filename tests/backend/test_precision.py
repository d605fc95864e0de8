"""Half precision where it would be slow: refused before anything is computed, by what the processor says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from scans import short_config

from ptychopinn_reconstructor.backend import precision
from ptychopinn_reconstructor.backend.precision import check_precision, computes_bfloat16
from ptychopinn_reconstructor.errors import ConfigError


@pytest.mark.parametrize(
    ('flags', 'has'),
    [
        ('flags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n', False),
        ('flags\t\t: fpu avx2 avx512f avx512_bf16\n', True),
        ('flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile\n', True),
        ('Features\t: fp asimd sve i8mm\n', False),
        ('Features\t: fp asimd sve bf16 i8mm\n', True),
        ('processor\t: 0\nmachine\t: a kind that lists no flags, not even avx512_bf16\n', True),
    ],
)
def test_the_processor_tells_whether_it_computes_bfloat16(tmp_path: Path, flags: str, has: bool) -> None:
    told = tmp_path / 'cpuinfo'
    told.write_text(f'processor\t: 0\nmodel name\t: one with bf16 in its name\n{flags}\n')
    assert computes_bfloat16(told) is has
    assert computes_bfloat16(tmp_path / 'none')  # no such file: another system


def test_half_precision_is_refused_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """PRECISION: on a CPU without instructions for it, with the figure and the remedy; a GPU is not asked."""
    bfloat, float16, single = (short_config(execution__precision=kind) for kind in ('bf16-mixed', '16-mixed', '32'))
    monkeypatch.setattr(precision, 'computes_bfloat16', lambda: False)
    with pytest.raises(ConfigError, match=r'bf16-mixed, but this CPU .* 3 to 7 times as long .* set it to 32'):
        check_precision(bfloat.execution, 'cpu')
    with pytest.raises(ConfigError, match=r'16-mixed, but a CPU takes 1.3 to 9 times as long .* set it to 32'):
        check_precision(float16.execution, 'cpu')
    check_precision(single.execution, 'cpu')
    for config in (bfloat, float16):
        check_precision(config.execution, 'cuda:0')
    monkeypatch.setattr(precision, 'computes_bfloat16', lambda: True)
    check_precision(bfloat.execution, 'cpu')
