"""What a command says while it works: lines where there is no terminal, a log file, and Python's logging."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from command_line import run
from scans import small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.backend.common import Journal
from ptychopinn_reconstructor.backend.interface import TrainingJob
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.events import LOGGER
from ptychopinn_reconstructor.io.npz import write_npz


@pytest.fixture(scope='module')
def line(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp('logs')
    write_npz(folder / 'scan.npz', small_scan())
    return ['refine', str(folder / 'scan.npz'), '--passes', '3', '--as-is', '--output-dir', str(folder / 'result')]


def test_without_a_terminal_each_pass_is_a_line_on_stderr(line: list[str], tmp_path: Path) -> None:
    """With the time; in a file as JSON, too, where each has the fields of what has happened; --quiet says nothing."""
    file = tmp_path / 'log.jsonl'
    told = run(*line, '--log-file', str(file), '--log-format', 'text')
    assert told.exit_code == 0
    lines = [text for text in told.stderr.splitlines() if 'pass ' in text]
    assert [re.sub(r'^\d\d:\d\d:\d\d ', '', text).partition(':')[0] for text in lines] == [
        f'pass {number} of 3' for number in (1, 2, 3)
    ]
    assert 'refine: numpy on cpu' in told.stderr and file.read_text() == told.stderr
    file.unlink()
    silent = run(*line, '--quiet', '--log-file', str(file), '--log-format', 'json')
    assert silent.exit_code == 0 and silent.stderr == ''
    records = [json.loads(text) for text in file.read_text().splitlines()]
    passes = [record for record in records if record.get('event') == 'epoch']
    assert [record['epoch'] for record in passes] == [1, 2, 3] and passes[-1]['residual'] < passes[0]['residual']
    assert all(record['level'] == 'info' and record['time'].endswith('+00:00') for record in passes)
    assert not logging.getLogger(LOGGER).handlers


def test_a_log_file_that_cannot_be_written_is_one_line(line: list[str], tmp_path: Path) -> None:
    refused = run(*line, '--log-file', str(tmp_path / 'no' / 'log'))
    assert refused.exit_code == 2 and 'Cannot write the log file' in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_log_file_ends_with_the_error_and_its_class(line: list[str], tmp_path: Path) -> None:
    """Once, as a sentence in the words of the command line; as JSON the class is a field."""
    text, fields = tmp_path / 'log', tmp_path / 'log.jsonl'
    bad = [*line, '--probe', 'nothing.npz']
    refused = run(*bad, '--log-file', str(text))
    sentence = refused.stderr.splitlines()[-1].removeprefix('ptychopinn: error: ')
    assert refused.exit_code == 2
    assert re.sub(r'^\d\d:\d\d:\d\d ', '', text.read_text().splitlines()[-1]) == f'error: {sentence} (ScanError)'
    assert text.read_text().count(sentence) == 1
    run(*bad, '--log-file', str(fields), '--log-format', 'json')
    last = json.loads(fields.read_text().splitlines()[-1])
    assert last['level'] == 'error' and last['error'] == 'ScanError' and last['message'] == sentence


def test_python_s_logging_hears_of_each_pass(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=LOGGER):
        pp.refine(small_scan(), Config().merged({'refinement': {'passes': 2}}))
    told = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert told[0] == 'refine: numpy on cpu' and [text[:11] for text in told if text.startswith('pass')] == [
        'pass 1 of 2',
        'pass 2 of 2',
    ]


def test_the_limit_of_cpu_time_includes_the_preparation(tmp_path: Path) -> None:
    config = Config().merged({'training': {'max_cpu_seconds': 8.0}})
    clock = Journal(TrainingJob((), (), config, tmp_path, cpu_seconds=6.0)).clock
    assert 6.0 <= clock.seconds() < 7.0
    assert clock.progress(0.0, config.training) == pytest.approx(clock.seconds() / 8.0, rel=0.1)
