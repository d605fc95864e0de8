"""Our commands in two processes that torchrun starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

TORCHRUN = [sys.executable, '-P', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """The command `ptychopinn ARGUMENTS` in two processes."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    line = [*TORCHRUN, '-m', 'ptychopinn_reconstructor', *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def find_rank(folder: Path, rank: int) -> int:
    """The process of this rank that works for `folder`."""
    while True:
        for entry in Path('/proc').iterdir():
            try:
                words = (entry / 'cmdline').read_bytes() if entry.name.isdecimal() else b''
                named = str(folder).encode() in words and b'torch.distributed.run' not in words
                if named and f'\0LOCAL_RANK={rank}\0'.encode() in (entry / 'environ').read_bytes():
                    return int(entry.name)
            except OSError:
                continue
        time.sleep(0.1)
