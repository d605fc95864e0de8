"""Commands in child processes: what ended one is told."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from ptychopinn_reconstructor.errors import PtychoPINNError
from ptychopinn_reconstructor.experiments.processes import run_command

CAUSES = [('SIGBUS', 'shortened while it was read'), ('SIGKILL', 'enough memory'), ('SIGSEGV', 'undamaged')]
KILL = """
import os, sys
os.kill(os.getpid(), int(sys.argv[-1]))
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')
@pytest.mark.parametrize(('name', 'cause'), CAUSES)
def test_a_signal_is_told_with_its_likely_cause(name: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number, original = int(signal.Signals[name]), subprocess.Popen

    def kill_itself(*_: Any, **settings: Any) -> Any:
        return original([sys.executable, '-c', KILL, str(number)], **settings)

    monkeypatch.setattr(subprocess, 'Popen', kill_itself)
    with pytest.raises(PtychoPINNError, match=rf'The training failed: .* signal {number} \({name}\).*{cause}'):
        run_command(['train'], 'The training')
