"""The third backend of the examples, installed as its users would: it is short, and passes the conformance suite."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from frameworks import needs
from scans import small_scan

from ptychopinn_reconstructor.io import write_npz

EXAMPLE = Path(__file__).resolve().parents[2] / 'examples' / 'third_backend'
LEFT_OUT = {'half precision', 'training in several processes', 'TensorBoard and MLflow'}


def count_lines(source: Path) -> int:
    """Lines of code: neither blank, nor a comment, nor a docstring."""
    text, documentation = source.read_text(encoding='utf-8'), set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documentation.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(number not in documentation and line[:1] not in ('', '#') for number, line in lines)


def test_it_is_short() -> None:
    """What the documents say of it."""
    assert 200 < sum(map(count_lines, (EXAMPLE / 'plain_torch').glob('*.py'))) <= 250
    tests = '\n'.join(path.read_text(encoding='utf-8') for path in sorted((EXAMPLE / 'tests').glob('*.py')))
    assert len([line for line in tests.splitlines() if line]) <= 4


@pytest.fixture(scope='module')
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process that sees the example installed beside this package."""
    source, target = tmp_path_factory.mktemp('source') / 'example', tmp_path_factory.mktemp('installed')
    shutil.copytree(EXAMPLE, source)
    pip = '-P -m pip install --quiet --no-index --no-deps --no-build-isolation'
    subprocess.run([sys.executable, *pip.split(), '--target', str(target), str(source)], check=True, timeout=300)
    return {**os.environ, 'PYTHONPATH': str(target), 'OMP_NUM_THREADS': '1'}


def run(environment: dict[str, str], folder: Path, *command: Any) -> subprocess.CompletedProcess[str]:
    """A Python process in `folder`."""
    words = [sys.executable, '-P', *map(str, command)]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=1400, check=False)


@needs('torch')
@pytest.mark.slow
def test_it_passes_the_conformance_suite(environment: dict[str, str], tmp_path: Path) -> None:
    """B1 to B47, but for what it leaves out, which is skipped with that reason."""
    tests = shutil.copytree(EXAMPLE / 'tests', tmp_path / 'tests')
    done = run(environment, tests, '-m', 'pytest', '-p', 'no:cacheprovider', '--strict-markers', '-q', '-rs')
    assert done.returncode == 0, done.stdout[-8000:]
    skipped = re.findall(r'the Plain PyTorch backend leaves out ([^\n]+)', done.stdout)
    assert set(skipped) == LEFT_OUT
    passed = re.search(r'(\d+) passed', done.stdout)
    assert passed is not None and int(passed[1]) > 100


@needs('torch')
@pytest.mark.slow
def test_who_asks_for_what_it_leaves_out_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    """B46, ERRORS: on the command line, by the option, with the backends that have it; nothing is written."""
    write_npz(tmp_path / 'scan.npz', small_scan())
    command = ['-m', 'ptychopinn_reconstructor', 'train', 'scan.npz', '--backend', 'plain', '--output-dir', 'out']
    for option, value, left_out, able in (
        ('--precision', 'bf16-mixed', 'half precision', 'torch or --backend tensorflow'),
        ('--strategy', 'ddp', 'training in several processes', 'torch'),
        ('--logger-backend', 'mlflow', 'TensorBoard and MLflow', 'torch or --backend tensorflow'),
    ):
        done = run(environment, tmp_path, *command, option, value)
        assert done.returncode == 2 and not (tmp_path / 'out').exists()
        (sentence,) = done.stderr.splitlines()
        assert f'Plain PyTorch backend leaves out {left_out}; ' in sentence and f'--backend {able} ' in sentence
        assert f'{option} is {value}, but the ' in sentence or option == '--strategy'  # which is asked for first
