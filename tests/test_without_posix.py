"""Nothing that only POSIX systems have is needed: every module and the commands run where it cannot be imported."""

from __future__ import annotations

import json
import math
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import ptychopinn_reconstructor
from ptychopinn_reconstructor.io.system import collect_cost, measure_peak_memory

# What Windows lacks is taken away before anything of ours is imported.
WITHOUT = """
import sys
sys.modules |= dict.fromkeys(['fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty'])
import os, signal
for module, names in ((os, 'wait4 wait3 getuid geteuid fork killpg'), (signal, 'SIGKILL SIGHUP SIGUSR1 SIGBUS')):
    for name in names.split():
        delattr(module, name)
"""
COMMANDS = [
    ['--help'],
    ['simulate', '--out', 'scan.npz', '--n', '32', '--positions', '25', '--step', '5'],
    ['refine', 'scan.npz', '--passes', '1', '--output-dir', 'engine'],
    ['evaluate', 'engine/product.h5', 'scan.npz'],
    ['doctor', '--quick'],
]
RUN = """
import json
from ptychopinn_reconstructor.cli.main import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""
HAND_OVER = """
import json, math
from pathlib import Path
from ptychopinn_reconstructor.experiments.processes import run_command
from ptychopinn_reconstructor.worker.handover import PREFIX, Scratch, remove_leftovers
here = Path.cwd()
left = here / f'{PREFIX}left'
left.mkdir()
with Scratch(0, here) as scratch:
    remove_leftovers(here)
    print(scratch.path.is_dir(), left.is_dir())
print(scratch.path.exists())
finished = run_command(['--version'], 'The version')
print(finished.output.startswith('ptychopinn'), finished.cost.wall_seconds > 0, math.isnan(finished.cost.cpu_seconds))
"""


def without_posix(program: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, '-P', '-c', WITHOUT + program, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_is_imported(tmp_path: Path) -> None:
    """All but what imports a framework, Ptychodus, a cluster's engine or Bokeh, and the examples, which are scripts."""
    left_out = (
        '.jobs.dask.', '.jobs.slurm.', '.backends.', '.examples.', '.host.', '.__main__',
        '.viewer.document.', '.viewer.pictures.', '.viewer.curves.',
    )  # fmt: skip
    found = pkgutil.walk_packages(ptychopinn_reconstructor.__path__, 'ptychopinn_reconstructor.')
    names = [module.name for module in found if not any(part in f'{module.name}.' for part in left_out)]
    assert {'ptychopinn_reconstructor.worker.main', 'ptychopinn_reconstructor.cli.main'} <= {*names} and len(names) > 50
    program = 'import importlib, json\nfor name in json.loads(sys.argv[1]): importlib.import_module(name)'
    assert without_posix(program, tmp_path, json.dumps(names)) == ''


def test_the_commands_run(tmp_path: Path) -> None:
    said = without_posix(RUN, tmp_path, json.dumps(COMMANDS))
    assert 'simulate' in said and 'residual' in said
    metrics = json.loads((tmp_path / 'engine' / 'metrics.json').read_text())
    assert metrics['peak_memory_mib'] is None and 0 < metrics['residual'] < 0.5


def test_scratch_folders_and_processes_go_without_locks_and_costs(tmp_path: Path) -> None:
    """Without locks nobody can tell whose folder is left over: none is removed, but one's own at the end."""
    assert without_posix(HAND_OVER, tmp_path).split() == ['True', 'True', 'False', 'True', 'True', 'True']


def test_what_a_process_cost() -> None:
    """64 MiB that the child fills, and half a second that it computes."""
    program = 'import time\nheld = b"1" * 2**26\nwhile time.process_time() < 0.5: pass'
    with subprocess.Popen([sys.executable, '-c', program]) as process:
        while (cost := collect_cost(process)) is None:
            time.sleep(0.02)
    # No upper limit: on Linux the largest memory of a child begins with that of the process that started it.
    assert process.returncode == 0 and 0.5 <= cost[0] < 60 and cost[1] > 64
    assert math.isnan(collect_cost(process)[0])  # type: ignore[index]
    assert 20 < measure_peak_memory() < 20_000
