"""Several processes that train one network: what one process gives, resumed from either, and what a kill does."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import ok
from torchrun import find_rank, torchrun

pytest.importorskip('torch')
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')
BASE = ('--backend', 'torch', '--set', 'n_filters_scale=0.5', '--quiet')
TOGETHER = ('--strategy', 'ddp', '--devices', '2')
AGREE = """
import sys, torch
from pathlib import Path
from types import SimpleNamespace
from torch import distributed
from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backends.torch_lightning.together import Together, end_with_others
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import TrainingError
rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
asked = []
job = TrainingJob((), (), Config(), Path(), should_stop=lambda: bool(asked), cpu_seconds=100.0, rank=rank, ranks=2)
together = Together(job)
together.begin()
first = together.agree(3 + rank), together.job.should_stop(), together.clock.seconds()
asked += [1] * rank  # the second process is asked to stop
second = together.agree(5), together.job.should_stop(), together.clock.seconds()
print(first, second, flush=True)
if rank:
    import os
    os._exit(9)
try:
    with end_with_others():
        while True:
            together.agree(1)
except TrainingError as error:
    print(error)
"""


def run_both(*arguments: object) -> subprocess.Popen[str]:
    return torchrun(*arguments, *BASE, *TOGETHER)


def losses(folder: Path) -> list[list[float]]:
    with (folder / 'metrics.csv').open(newline='') as file:
        return [
            [float(row['train_loss']), float(row['val_loss']), float(row['patterns_seen'])]
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope='module')
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('several') / 'scan.npz'
    ok('simulate', '--out', path, '--positions', 144, '--n', 32)
    return path


def test_two_processes_agree_on_time_and_stop_and_one_that_is_left_says_so(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, '-P', '-c', AGREE]
    both = [subprocess.Popen([*command, str(rank), str(tmp_path / 'store')], stdout=pipe, text=True) for rank in (0, 1)]
    said = [process.communicate()[0].splitlines() for process in both]
    assert said[0][0] == said[1][0]
    (regions, stop, seconds), (more, stopped, later) = eval('[' + said[0][0].replace(') (', '), (') + ']')
    assert (regions, stop, more, stopped) == (7, False, 10, True)
    assert 100 < seconds < later < 160  # what was spent before counts once
    assert said[0][1].startswith('Another process of the training has ended')


@pytest.mark.slow
@pytest.mark.parametrize(
    'line',
    [
        ('train', '--set', 'batch_size=24', '--set', 'gridsize=2', '--set', 'neighbor_count=3', '--set', 'mae_weight=1',
         '--set', 'probe_trainable=true', '--set', 'max_cpu_seconds=500'),
        ('pretrain', '--set', 'n_groups=192', '--set', 'batch_size=48'),
    ],
    ids=['train', 'pretrain'],
)  # fmt: skip
def test_two_processes_train_as_one_and_resume_from_either(line: tuple[str, ...], scan: Path, tmp_path: Path) -> None:
    """Not max_cpu_seconds, which is far away, but losses and patterns are those of one process, to rounding."""
    command, *settings = line
    one, two = tmp_path / 'one', tmp_path / 'two'
    ok(command, scan, *settings, '--epochs', 2, '--output-dir', one, *BASE)
    with run_both(command, scan, *settings, '--epochs', 2, '--output-dir', two) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stdout == '' and 'Initializing distributed' not in stderr
    assert losses(two) == [pytest.approx(row, rel=2e-6) for row in losses(one)]
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    with run_both(command, scan, '--resume', '--epochs', 3, '--output-dir', one) as process:
        assert process.wait() == 0, process.communicate()[1]
    ok(command, scan, '--resume', '--epochs', 3, '--output-dir', two, *BASE)
    assert losses(two) == [pytest.approx(row, rel=1e-5) for row in losses(one)] and len(losses(two)) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='asks Linux for processes')
@pytest.mark.parametrize('rank', [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(rank: int, scan: Path, tmp_path: Path) -> None:
    """Left to themselves gloo's lines would be waited on for half an hour."""
    folder = tmp_path / 'out'
    with training(scan, folder) as process:
        os.kill(find_rank(folder, rank), signal.SIGKILL)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    said = [line for line in stderr.splitlines() if line.startswith('ptychopinn: error')]
    assert len(said) == 1 and 'Another process of the training has ended' in said[0]
    assert 'Unable to shutdown' not in stderr  # which torchrun does by force after 30 s
    ok('train', scan, '--resume', '--epochs', len(losses(folder)) + 1, '--output-dir', folder, *BASE)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_all_processes_with_the_model_of_the_best_epoch(
    number: signal.Signals, scan: Path, tmp_path: Path
) -> None:
    """Told to torchrun alone, as Ctrl-C is in a terminal: the processes have sessions of their own."""
    folder = tmp_path / 'out'
    with training(scan, folder) as process:
        process.send_signal(number)
        stderr = process.communicate(timeout=60)[1]
    done = len(losses(folder))
    said = [line for line in stderr.splitlines() if line.startswith('ptychopinn: error')]
    assert len(said) == 1 and f'Stopped after epoch {done} of 100000' in said[0] and '--resume' in said[0]
    assert 'Unable to shutdown' not in stderr
    ok('verify', folder / 'model.safetensors')
    assert not list(folder.glob('.ptychopinn.lock'))


@contextmanager
def training(scan: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes that train and have done an epoch."""
    with run_both('train', scan, '--epochs', 100_000, '--output-dir', folder) as process:
        while not (folder / 'metrics.csv').exists() or not losses(folder):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        yield process
