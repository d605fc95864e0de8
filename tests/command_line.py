"""Running the command line in this process or in one of its own, and what a refusal must look like."""

from __future__ import annotations

import csv
import hashlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from click.testing import CliRunner, Result
from model_files import description
from scans import backend_options

from ptychopinn_reconstructor.cli.main import COMMANDS, main
from ptychopinn_reconstructor.config import Config, parse
from ptychopinn_reconstructor.model_file.self_test import SelfTest
from ptychopinn_reconstructor.model_file.writing import write_model


def load_commands() -> dict[str, click.Command]:
    """All commands by name, their modules imported."""
    return {name: entry.load() for name, entry in COMMANDS.items()}


# Before click 8.2 stderr is a stream of its own only where that is asked for.
APART: Any = {'mix_stderr': False} if 'mix_stderr' in inspect.signature(CliRunner).parameters else {}


def run(*args: str) -> Result:
    return CliRunner(**APART).invoke(main, args)


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder with the checksum of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'folder'
        for path in sorted(folder.rglob('*'))
    }


def error_lines(stderr: str) -> list[str]:
    """The lines on stderr but those of the log, which begin with the time of the day."""
    return [line for line in stderr.splitlines() if not re.match(r'\d\d:\d\d:\d\d ', line)]


def assert_refused(result: Result, words: tuple[str, ...]) -> None:
    lines = error_lines(result.stderr)
    assert result.exit_code == 2, (result.exit_code, result.stderr, result.stdout)
    assert len(lines) == 1 and lines[0].startswith('ptychopinn: error: '), result.stderr
    assert len(lines[0]) > 40 and lines[0].endswith(('.', "'", ')', '?')), lines[0]
    assert result.stdout == ''
    for word in words:
        assert word in lines[0], f'{word!r} is not in: {lines[0]}'


def make_model(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A valid model file for N = 32 and one mode, made without a framework; no network has its weights."""
    rng = np.random.default_rng(5)
    patches = (1 + 0.1 * rng.standard_normal((2, 16, 16))).astype(np.complex64)
    counts = arrays['diff3d'][:2].astype(np.float32)
    write_model(
        path,
        description(Config().merged({'model': {'N': 32}}), parameters=36),
        weights={'layer.kernel': np.ones((3, 3, 2, 2), np.float32)},
        probe=arrays['probeGuess'],
        self_test=SelfTest(counts, patches),
        fresh_patches=np.ones_like(patches) * 3,
        predict=lambda model, _: model.self_test.patches,
    )


TRAIN = ('train', *backend_options())


def ok(*args: object) -> Result:
    result = run(*map(str, args))
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    assert error_lines(result.stderr) == []
    return result


def told(*args: object) -> Any:
    return json.loads(ok(*args, '--json').stdout)


def process(*args: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


def epochs_in(folder: Path) -> list[int]:
    with (folder / 'metrics.csv').open(newline='') as lines:
        return [int(row['epoch']) for row in csv.DictReader(lines)]


def printed(*args: object) -> Config:
    return parse(yaml.safe_load(ok('train', '--output-dir', 'x', *args, '--print-config').stdout))
