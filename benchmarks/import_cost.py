"""CPU seconds (user + system) that importing the package costs above `import numpy, pydantic`; prints the figure."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

REPEATS = 15


def cpu_seconds(statement: str) -> float:
    """User and system CPU time of a new interpreter that runs `statement` in isolation from the current folder."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-P', '-c', statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> None:
    """Alternate the two statements, so that both see the same load of the machine, and compare their medians."""
    base_statement = 'import numpy, pydantic'
    base, full = [], []
    for _ in range(REPEATS):
        base.append(cpu_seconds(base_statement))
        full.append(cpu_seconds(f'{base_statement}; import ptychopinn_reconstructor'))
    above = statistics.median(full) - statistics.median(base)
    print(f'{base_statement}: {statistics.median(base):.3f} s; above it: {above:.3f} s (limit 0.050, {REPEATS} runs)')


if __name__ == '__main__':
    main()
