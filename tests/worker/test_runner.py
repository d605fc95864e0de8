"""The host's edge of a worker: how a job ends, and what is told of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans import short_config, small_scan

from ptychopinn_reconstructor.errors import ConfigError, Interrupted, ModelFileError, PtychoPINNError
from ptychopinn_reconstructor.host.runner import Worker, WorkerDied
from ptychopinn_reconstructor.worker.handover import Scratch, write_arrays
from ptychopinn_reconstructor.worker.messages import Epoch, ReconstructDone, Started, TrainDone
from ptychopinn_reconstructor.worker.requests import DevicesRequest, ReconstructRequest, Request, TrainRequest

LONG = 400  # epochs that no test waits for
MANY = 1000  # refinement passes that no test waits for

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')


@pytest.fixture(scope='module')
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A scratch folder with a scan handed over."""
    scan = small_scan(positions=64)
    with Scratch(1000, tmp_path_factory.mktemp('scratch')) as folder:
        arrays = {name: getattr(scan, name) for name in ('diffraction', 'positions', 'probe')}
        write_arrays(folder.path / 'scan', arrays, {'domain': 'counts'})
        yield folder.path


def config(backend: str, **changes: Any) -> dict[str, Any]:
    values = {'training__nepochs': LONG, 'model__n_filters_scale': 0.5, 'execution__backend': backend} | changes
    return short_config(**values).to_json()


def train_request(scratch: Path, output: Path, backend: str, **changes: Any) -> TrainRequest:
    return TrainRequest(scan=scratch / 'scan', output_dir=output, config=config(backend, **changes))


@pytest.fixture(scope='module')
def model(scratch: Path, tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> Path:
    """A model of one epoch."""
    request = train_request(scratch, tmp_path_factory.mktemp('model'), backend_name, training__nepochs=1)
    with Worker(scratch, backend_name) as worker:
        worker.ask(request)
        *_, done = worker.events()
    assert worker.process.returncode == 0
    assert isinstance(done, TrainDone)
    return done.model


def is_gone(worker: Worker) -> bool:
    """Whether the process has ended and nothing of it is left open here."""
    streams = (worker.process.stdin, worker.process.stdout, worker.process.stderr)
    return worker.process.poll() is not None and all(stream is not None and stream.closed for stream in streams)


CAUSES = {
    signal.SIGKILL: ('exit code -9', 'SIGKILL', 'out of memory'),
    signal.SIGSEGV: ('exit code -11', 'SIGSEGV', 'crash'),
    signal.SIGABRT: ('exit code -6', 'SIGABRT', 'framework gave up'),
    signal.SIGBUS: ('exit code -7', 'SIGBUS', 'shortened while it was read'),
}


@pytest.mark.parametrize('number', CAUSES, ids=lambda number: number.name)
def test_the_signal_that_ended_a_worker_is_told(number: signal.Signals, tmp_path: Path) -> None:
    """With its exit code and the likely cause, in one sentence."""
    with Worker(tmp_path) as worker:
        worker.process.send_signal(number)
        with pytest.raises(WorkerDied) as raised:
            list(worker.events())
    message = str(raised.value)
    assert is_gone(worker) and all(part in message for part in CAUSES[number]) and '\n' not in message


@pytest.mark.slow
@pytest.mark.parametrize('job', ['training', 'inference'])
def test_a_worker_that_dies_is_told(
    job: str, scratch: Path, request: pytest.FixtureRequest, tmp_path: Path, backend_name: str
) -> None:
    """In the midst of its work."""
    with Worker(scratch, backend_name) as worker:
        if job == 'training':
            worker.ask(train_request(scratch, tmp_path, backend_name))
            awaited = ('epoch', 'train')
        else:
            asked = config(backend_name, refinement__passes=MANY)
            model = request.getfixturevalue('model')
            worker.ask(ReconstructRequest(scan=scratch / 'scan', model=model, config=asked))
            awaited = ('progress', 'refine')
        events = worker.events()
        for message in events:
            if (message.event, getattr(message, 'stage', None)) == awaited:
                break
        worker.process.kill()
        with pytest.raises(WorkerDied, match='SIGKILL'):
            list(events)
    assert is_gone(worker)


def test_a_worker_that_ends_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words on stderr are told: here a package of ours is broken."""
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'pydantic.py').write_text("import sys; sys.exit('the license has expired')")
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'site'))
    with Worker(tmp_path) as worker:
        worker.ask(DevicesRequest(backends=()))
        with pytest.raises(WorkerDied, match=r'exit code 1, without saying why.*the license has expired'):
            list(worker.events())


def test_an_error_of_the_worker_is_raised_as_its_class(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / 'model.safetensors').write_bytes(b'no zip')
    requests: dict[type[PtychoPINNError], Request] = {
        ModelFileError: ReconstructRequest(
            scan=scratch / 'scan', model=tmp_path / 'model.safetensors', config=config('torch')
        ),
        ConfigError: TrainRequest(
            output_dir=tmp_path, scan=scratch / 'scan', config={'training': {'batch_size': 'many'}}
        ),
    }
    for kind, request in requests.items():
        with Worker(scratch) as worker:
            worker.ask(request)
            with pytest.raises(kind) as raised:
                list(worker.events())
            assert type(raised.value) is kind
        assert is_gone(worker) and worker.process.returncode == 2


@pytest.mark.slow
def test_closing_the_iterator_early_ends_the_worker(scratch: Path, tmp_path: Path, backend_name: str) -> None:
    """As the host does when it stops looping over a generator; the last checkpoint stays."""

    def epochs() -> Iterator[int]:
        with Worker(scratch, backend_name) as worker:
            workers.append(worker)
            worker.ask(train_request(scratch, tmp_path, backend_name))
            for message in worker.events():
                if isinstance(message, Epoch):
                    yield message.epoch

    workers: list[Worker] = []
    generator = epochs()
    assert [next(generator), next(generator)] == [1, 2]
    generator.close()  # type: ignore[attr-defined]
    assert is_gone(workers[0])
    assert list(tmp_path.glob('checkpoints/last.*'))


@pytest.mark.slow
def test_an_exception_ends_the_worker(scratch: Path, tmp_path: Path, backend_name: str) -> None:
    with pytest.raises(ZeroDivisionError), Worker(scratch, backend_name) as worker:
        worker.ask(train_request(scratch, tmp_path, backend_name))
        for message in worker.events():
            if isinstance(message, Started):
                raise ZeroDivisionError
    assert is_gone(worker)


@pytest.mark.parametrize(
    'when',
    [
        'at once',
        pytest.param('while the framework is imported', marks=pytest.mark.slow),
        pytest.param('in training', marks=pytest.mark.slow),
        pytest.param('in refinement', marks=pytest.mark.slow),
    ],
)
def test_a_stop_ends_a_job(
    when: str, scratch: Path, request: pytest.FixtureRequest, tmp_path: Path, backend_name: str
) -> None:
    """Long before its last epoch or pass; how soon, `make bench` measures."""
    wish: list[bool] = []

    def should_stop() -> bool:
        if when == 'at once' and not wish:
            wish.append(True)
        if when.startswith('while') and not wish:
            maps = Path(f'/proc/{worker.process.pid}/maps').read_text()
            if backend_name in maps:
                wish.append(True)
        return bool(wish)

    worker = Worker(scratch, backend_name, should_stop)
    with pytest.raises(Interrupted, match=r'[Ss]topped'), worker:
        if when == 'in refinement':
            asked, model = config(backend_name, refinement__passes=MANY), request.getfixturevalue('model')
            worker.ask(ReconstructRequest(scan=scratch / 'scan', model=model, config=asked))
        else:
            worker.ask(train_request(scratch, tmp_path, backend_name))
        for message in worker.events():
            running = isinstance(message, Epoch) or getattr(message, 'stage', None) == 'refine'
            if when.startswith('in') and running and not wish:
                wish.append(True)
    assert wish and is_gone(worker)
    assert bool(list(tmp_path.glob('checkpoints/last.*'))) == (when == 'in training')


@pytest.mark.slow
def test_a_worker_that_does_not_listen_is_ended(scratch: Path, tmp_path: Path, backend_name: str) -> None:
    """A stopped process neither stops by itself nor on SIGTERM."""
    wish: list[bool] = []
    worker = Worker(scratch, backend_name, lambda: bool(wish))
    with pytest.raises(Interrupted, match='Stopped on request'), worker:
        worker.ask(train_request(scratch, tmp_path, backend_name))
        for message in worker.events():
            if isinstance(message, Started):
                os.kill(worker.process.pid, signal.SIGSTOP)
                wish.append(True)
    assert worker.process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_two_workers_at_once(scratch: Path, model: Path, backend_name: str) -> None:
    """Each answers its own request, from its own folder."""
    other_scan = small_scan(positions=64, seed=3)
    with Scratch(1000, scratch.parent) as other:
        arrays = {name: getattr(other_scan, name) for name in ('diffraction', 'positions', 'probe')}
        write_arrays(other.path / 'scan', arrays, {'domain': 'counts'})
        with Worker(scratch, backend_name) as first, Worker(other.path, backend_name) as second:
            results = []
            for worker in (first, second):
                request = ReconstructRequest(scan=worker.scratch / 'scan', model=model, config=config(backend_name))
                worker.ask(request)
            for worker in (first, second):
                *_, done = worker.events()
                assert isinstance(done, ReconstructDone)
                results.append(np.load(worker.scratch / done.object))
    assert results[0].shape != results[1].shape or np.abs(results[0] - results[1]).max() > 0.1
