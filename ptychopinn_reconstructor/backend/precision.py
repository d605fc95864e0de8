"""Half precision on a CPU: faster with instructions for it, several times slower without them.

Time of a network's prediction, N = 64 and 128, in units of single precision: bf16-mixed .4 with AMX, 1.2 with
AVX512_BF16, 3 with AVX-512 alone, 6 with AVX2; 16-mixed 1.3 with AVX512_FP16 and 6 to 9 without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..config import ExecutionConfig
from ..errors import ConfigError

CPUINFO: Final = Path('/proc/cpuinfo')
# Of the kernel's names: x86 with AVX-512, with AMX, with AVX2; Arm.
BFLOAT16: Final = frozenset({'avx512_bf16', 'amx_bf16', 'avx_ne_convert', 'bf16'})


def check_precision(execution: ExecutionConfig, device: str) -> None:
    """Raise ConfigError where a network in half precision would be slow on `device`, a backend's name of one."""
    if device != 'cpu' or execution.precision == '32':
        return
    if execution.precision == '16-mixed':
        raise ConfigError(
            'execution.precision is 16-mixed, but a CPU takes 1.3 to 9 times as long with float16 as in single '
            'precision; set it to 32, or choose a GPU.'
        )
    if not computes_bfloat16():
        raise ConfigError(
            'execution.precision is bf16-mixed, but this CPU has no instructions for bfloat16 (AVX512_BF16 or AMX) and '
            'takes 3 to 7 times as long with it as in single precision; set it to 32, or choose a GPU.'
        )


def computes_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor has instructions for bfloat16; True where the system does not tell (only Linux does)."""
    lines = cpuinfo.read_text(encoding='utf-8', errors='replace').splitlines() if cpuinfo.exists() else []
    flags = {flag for line in lines if line.startswith(('flags', 'Features')) for flag in line.split()}
    return not flags or not BFLOAT16.isdisjoint(flags)
