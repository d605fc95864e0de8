"""The worker as a process: its conversation, its end, and what it leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pytest
from scans import short_config, small_scan

from ptychopinn_reconstructor.backend import find_missing_modules
from ptychopinn_reconstructor.io import read_scan, write_npz
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.reconstruction.diagnostic_pictures import from_bytes
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.folder import can_resume
from ptychopinn_reconstructor.worker import main
from ptychopinn_reconstructor.worker.handover import PREFIX, Scratch, write_arrays
from ptychopinn_reconstructor.worker.messages import Message
from ptychopinn_reconstructor.worker.requests import (
    DevicesRequest,
    DiagnoseRequest,
    ReconstructRequest,
    Request,
    TrainRequest,
)

LONG = 400  # epochs that no test waits for
HANG = 300.0  # seconds after which a test gives up
Said = dict[str, Any]

INSTALLED = [name for name in ('torch', 'tensorflow') if not find_missing_modules(name)]

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals and processes of POSIX')
BACKENDS = [
    pytest.param(name, marks=[pytest.mark.skipif(bool(find_missing_modules(name)), reason=f'{name} is not installed')])
    for name in ('torch', 'tensorflow')
]


class Process:
    """A worker with its stdin and stdout as a host has them; what it says is kept in `said`."""

    def __init__(self, folder: Path, backend: str = '', *, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor.worker.main']
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*command, backend] if backend else command,
            cwd=folder,
            env=dict(os.environ) | (env or {}),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        self.said: list[Said] = []
        self.stderr: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert self.process.stdout is not None and self.process.stderr is not None
        streams = ((self._read, self.process.stdout), (self._hear, self.process.stderr))
        self._threads = [threading.Thread(target=target, args=(stream,)) for target, stream in streams]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def _hear(self, stream: IO[str]) -> None:
        self.stderr.extend(stream)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()

    def ask(self, request: Request) -> Self:
        self.tell(request.model_dump_json())
        return self

    def hear(self) -> Said | None:
        """The next event, None when the worker has said its last word; every line is one JSON object."""
        line = self._lines.get(timeout=HANG)
        if line is None:
            return None
        said: Said = json.loads(line, parse_constant=lambda text: pytest.fail(f'{text} is not JSON'))
        assert isinstance(said['event'], str) and line.endswith('\n')
        self.said.append(said)
        return said

    def until(self, is_it: Callable[[Said], bool]) -> Said:
        while (said := self.hear()) is not None:
            if is_it(said):
                return said
        raise AssertionError(f'not said: {self.said[-3:]} {"".join(self.stderr[-20:])}')

    def rest(self) -> int:
        """Hear everything to the end; the exit code."""
        while self.hear() is not None:
            pass
        return self.process.wait(HANG)

    def of(self, kind: str) -> list[Said]:
        return [said for said in self.said if said['event'] == kind]

    def close(self) -> int:
        """Close stdin; the exit code of the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(HANG)


@pytest.fixture(scope='module')
def scan() -> Scan:
    return small_scan(positions=64)


def hand_over(scan: Scan, folder: Path) -> Path:
    arrays = {name: getattr(scan, name) for name in ('diffraction', 'positions', 'probe', 'object')}
    write_arrays(folder, arrays, {'domain': 'counts', 'on_object_grid': True, 'metadata': {'name': 'small'}})
    return folder


@pytest.fixture
def job(scan: Scan, tmp_path: Path) -> Iterator[Path]:
    """The scratch folder of a job, with a scan handed over in `scan`."""
    parent = tmp_path / 'scratch'
    parent.mkdir()
    with Scratch(1000, parent) as scratch:
        hand_over(scan, scratch.path / 'scan')
        yield scratch.path


def config(backend: str = 'torch', **changes: Any) -> dict[str, Any]:
    values = {'training__nepochs': 2, 'model__n_filters_scale': 0.5, 'execution__backend': backend} | changes
    return short_config(**values).to_json()


def train_request(job: Path, output: Path, **changes: Any) -> TrainRequest:
    values: dict[str, Any] = {'scan': job / 'scan', 'name': 'small', 'output_dir': output, 'preview_seconds': None}
    return TrainRequest(**values | changes)


def is_epoch(said: Said) -> bool:
    return bool(said['event'] == 'epoch' and said['stage'] == 'train')


NOISY = """
import os, sys
def hear(event, arguments):
    if event == 'import' and arguments[0] in ('scipy', 'torch', 'tensorflow'):
        print('a library prints when it is imported')
        os.write(1, b'{"event": "done", "by": "a library in C"}\\nno end of line')
sys.addaudithook(hear)
"""


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_train_stop_resume_reconstruct(backend: str, scan: Scan, job: Path, tmp_path: Path) -> None:
    """The life of a model, in three processes; the second of them has a library that prints to stdout."""
    output = tmp_path / 'out'
    with Process(job, backend) as worker:
        worker.ask(train_request(job, output, config=config(backend, training__nepochs=LONG)))
        worker.until(lambda said: is_epoch(said) and said['epoch'] == 2)
        worker.tell('stop')
        assert worker.rest() == 130
    assert worker.said[0]['event'] == 'started' and worker.said[0]['device']
    assert worker.said[-1]['event'] == 'stopped' and 'last checkpoint' in worker.said[-1]['message']
    assert not (output / 'model.safetensors').exists()
    assert can_resume(output) and list(output.glob('checkpoints/last.*'))
    first = worker.of('epoch')
    done = int(first[-1]['epoch'])
    assert [said['epoch'] for said in first] == list(range(1, done + 1)) and done < LONG

    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(NOISY)
    with Process(job, backend, env={'PYTHONPATH': str(tmp_path / 'site')}) as worker:
        # The end is two epochs on; preview_seconds 0: as often as their cost allows.
        request = train_request(job, output, config=config(backend, training__nepochs=done + 2), resume=True)
        worker.ask(request.model_copy(update={'preview_seconds': 0.0}))
        assert worker.rest() == 0, worker.stderr
    assert 'a library prints when it is imported\n' in worker.stderr
    assert [said['epoch'] for said in worker.of('epoch')] == [done + 1, done + 2]
    final = worker.said[-1]
    assert final['event'] == 'done' and Path(final['model']) == output / 'model.safetensors'
    losses = [(said['epoch'], said['train_loss']) for said in [*first, *worker.of('epoch')]]
    assert [epoch for epoch, _ in losses] == list(range(1, done + 3))
    assert np.allclose(final['losses'], losses)
    assert np.allclose(open_model(output / 'model.safetensors').manifest.training.losses, losses)
    with (output / 'metrics.csv').open(newline='') as table:
        assert [int(row['epoch']) for row in csv.DictReader(table)] == list(range(1, done + 3))
    preview = worker.of('preview')[-1]
    shown = np.load(job / preview['object'])
    assert shown.dtype == np.complex64 and preview['stage'] == 'train' and np.ptp(np.abs(shown)) > 0

    with Process(job, backend) as worker:
        asked = config(backend, refinement__passes=2, inference__inference_batch_size=16)
        worker.ask(
            ReconstructRequest(scan=job / 'scan', model=output / 'model.safetensors', config=asked, preview_seconds=0)
        )
        assert worker.rest() == 0
    check_reconstruction(worker.said, job, scan)
    assert np.allclose(worker.said[-1]['losses'], losses) and worker.said[-1]['import_seconds'] > 0


def check_reconstruction(told: list[Said], job: Path, scan: Scan) -> None:
    """What is said of a reconstruction in batches of 16 with two passes, and the object that it leaves."""
    final = told[-1]
    found, probe = np.load(job / final['object']), np.load(job / final['probe'])
    assert found.dtype == np.complex64 and probe.shape == scan.probe.shape  # type: ignore[union-attr]
    # On the grid of the true object, whose phase it has but for a constant.
    rows, columns = (slice(int(o) + 20, int(o) + 50) for o in final['origin'])
    truth = scan.object[20:50, 20:50]  # type: ignore[index]
    product = found[rows, columns] * truth.conj()
    assert abs(product.sum()) / np.abs(product).sum() > 0.9
    assert 0 < final['residual'] < 1 and {'network', 'refine', 'prepare'} <= final['stages'].keys()
    previews = [said for said in told if said['event'] == 'preview']
    network = [said for said in previews if said['stage'] == 'network']
    assert network[0]['patterns'] == 16 and network[-1]['complete']
    assert [said['epoch'] for said in previews if said['stage'] == 'refine'][-1] == 2
    assert np.array_equal(np.load(job / previews[-1]['object']), found)


class Channel(main.Channel):
    """One that keeps what is said, and is asked to stop when that is what it is."""

    def __init__(self, stop_at: Callable[[Said], bool]) -> None:
        super().__init__(io.StringIO())
        self.said: list[Said] = []
        self.stop_at = stop_at

    def say(self, message: Message) -> None:
        self.said.append(json.loads(message.model_dump_json()))
        if self.stop_at(self.said[-1]):
            self.stopped.set()


def answered(
    asked: Request | str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[[Said], bool] = lambda _: False,
) -> tuple[int, list[Said]]:
    """The exit code and what is said of a request that is answered in this process, in its scratch folder."""
    monkeypatch.chdir(folder)
    channel = Channel(stop_at)
    code = main.answer(channel, asked if isinstance(asked, str) else asked.model_dump_json())
    return code, channel.said


def test_the_life_of_a_model(
    scan: Scan, job: Path, tmp_path: Path, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, made a model of so far, resumed, used to reconstruct, all in this process."""
    output = tmp_path / 'out'
    request = train_request(job, output, config=config(backend_name, training__nepochs=3, training__batch_size=8))
    code, first = answered(request, job, monkeypatch, is_epoch)
    assert code == 130 and first[-1]['event'] == 'stopped' and 'last checkpoint' in first[-1]['message']
    assert can_resume(output) and not (output / 'model.safetensors').exists()
    code, finished = answered(request.model_copy(update={'finish': True}), job, monkeypatch)
    assert code == 0 and finished[-1]['event'] == 'done' and not [said for said in finished if is_epoch(said)]
    stopped = open_model(output / 'model.safetensors').manifest.training
    assert stopped.interrupted and stopped.epochs == 1 and can_resume(output)
    code, further = answered(request.model_copy(update={'resume': True}), job, monkeypatch)
    other = config(backend_name, training__nepochs=4, training__batch_size=16)
    refused, refusal = answered(request.model_copy(update={'resume': True, 'config': other}), job, monkeypatch)
    assert refused == 2 and 'whose batch_size is 8, not 16' in refusal[-1]['message']
    written = open_model(output / 'model.safetensors')
    assert written.manifest.scaling.refined_from is None and written.manifest.scaling.other_probes == ()
    said_of_it = written.manifest.training
    assert (said_of_it.scans, said_of_it.patterns, said_of_it.epochs) == (('small',), len(scan), 3)
    assert not said_of_it.interrupted and said_of_it.device == 'cpu' and written.manifest.card is None
    assert written.self_test.counts.shape == (4, 32, 32), 'a few patterns, as they were trained on'
    losses = [(said['epoch'], said['train_loss']) for said in (*first, *further) if is_epoch(said)]
    assert [epoch for epoch, _ in losses] == [1, 2, 3]
    assert code == 0 and further[-1]['event'] == 'done' and np.allclose(further[-1]['losses'], losses)
    asked = config(backend_name, refinement__passes=2, inference__inference_batch_size=16)
    model = output / 'model.safetensors'
    code, said = answered(
        ReconstructRequest(scan=job / 'scan', model=model, config=asked, preview_seconds=0), job, monkeypatch
    )
    assert code == 0 and np.allclose(said[-1]['losses'], losses)
    check_reconstruction(said, job, scan)


@pytest.mark.parametrize('moved', [True, False])
def test_the_engine_alone_leaves_its_files(moved: bool, scan: Scan, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions only where they were refined."""
    asked = config(refinement__passes=1, refinement__positions=moved)
    code, said = answered(ReconstructRequest(scan=job / 'scan', config=asked), job, monkeypatch)
    done = said[-1]
    assert code == 0 and [epoch for epoch, _ in done['losses']] == [1] and done['import_seconds'] == 0
    assert np.load(job / done['probe']).shape == scan.probe.shape  # type: ignore[union-attr]
    assert done['object'].startswith('object-') and done['probe'].startswith('probe-')
    kept = from_bytes((job / done['reliability_file']).read_bytes())
    assert kept.line() == done['reliability']
    if moved:
        assert np.load(job / done['positions']).shape == (len(scan), 2) and done['positions'].startswith('positions-')
    else:
        assert done['positions'] is None and not [*job.glob('positions-*')]


@pytest.mark.parametrize('there', [[], pytest.param(INSTALLED, marks=pytest.mark.slow)], ids=['none', 'all'])
def test_devices_of_backends(there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a backend that is not there are none."""
    code, (done,) = answered(DevicesRequest(backends=(*there, 'nonesuch')), tmp_path, monkeypatch)
    assert code == 0 and done['event'] == 'done'
    assert done['devices'].keys() == {*there, 'nonesuch'} and done['devices']['nonesuch'] == []
    assert all(done['devices'][name][0] == 'cpu' for name in there)


def test_a_diagnosis_ends_with_findings_and_a_picture(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scan that is handed over with a hot pixel, which reading would have masked already."""
    hot = np.array(scan.diffraction)
    hot[:, 4, 27] += 20_000
    folder = hand_over(replace(scan, diffraction=hot), tmp_path / 'scan')
    code, said = answered(DiagnoseRequest(scan=folder), tmp_path, monkeypatch)
    done = said[-1]
    assert code == 0 and done['job'] == 'diagnose'
    assert done['findings'][0]['code'] == 'bad_pixels' and 'row 4, column 27' in done['findings'][0]['finding']
    assert done['trials'] >= 1 and done['cpu_seconds'] > 0 and done['figures']['patterns'] == len(scan)
    assert (tmp_path / done['picture']).read_bytes().startswith(b'\x89PNG')
    assert {one['stage'] for one in said if one['event'] == 'progress'} == {'diagnose'}


def bad_value(job: Path, tmp_path: Path) -> Request:
    return train_request(job, tmp_path, config={'training': {'nepochs': -1}})


def no_scan(job: Path, tmp_path: Path) -> Request:
    return train_request(job, tmp_path, scan=tmp_path / 'absent', config=config())


def no_model(job: Path, tmp_path: Path) -> Request:
    (tmp_path / 'model.safetensors').write_bytes(b'PK is how a zip begins')
    return ReconstructRequest(scan=job / 'scan', model=tmp_path / 'model.safetensors', config=config())


def no_backend(job: Path, tmp_path: Path) -> Request:
    return train_request(job, tmp_path, config=config('nonesuch'))


def no_folder(job: Path, tmp_path: Path) -> Request:
    (tmp_path / 'file').touch()
    return train_request(job, tmp_path / 'file', config=config())


def nothing_to_resume(job: Path, tmp_path: Path) -> Request:
    return train_request(job, tmp_path / 'new', config=config(), resume=True)


def no_file(job: Path, tmp_path: Path) -> Request:
    return train_request(job, tmp_path, scan=None, files=(tmp_path / 'absent.npz',), config=config())


@pytest.mark.parametrize(
    ('request_of', 'kind', 'words'),
    [
        (bad_value, 'ConfigError', 'nepochs'),
        (no_scan, 'ScanError', 'absent'),
        (no_backend, 'BackendError', 'nonesuch'),
        (no_model, 'ModelFileError', 'model.safetensors'),
        (no_folder, 'OutputError', 'file'),
        (nothing_to_resume, 'ConfigError', 'nothing to resume'),
        (no_file, 'ScanError', 'absent.npz'),
    ],
)
def test_an_error_comes_as_its_class_in_one_sentence(
    request_of: Callable[[Path, Path], Request], kind: str, words: str, job: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, said = answered(request_of(job, tmp_path), job, monkeypatch)
    assert code == 2 and (said[-1]['event'], said[-1]['kind']) == ('error', kind)
    assert words in said[-1]['message'] and '\n' not in said[-1]['message']
    assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.parametrize(
    ('error', 'kind', 'words'),
    [
        (MemoryError('Unable to allocate 3 TiB'), 'OutputError', 'not enough memory (Unable to allocate 3 TiB)'),
        (OSError(28, 'No space left on device'), 'OutputError', 'No space left on device; check the disk'),
        (ZeroDivisionError('a bug\nof ours'), 'PtychoPINNError', 'The job failed: ZeroDivisionError: a bug of ours'),
    ],
)
def test_a_failure_of_the_job_is_one_sentence_too(
    error: Exception, kind: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(main, 'run', fails)
    code, (said,) = answered(DevicesRequest(backends=()), tmp_path, monkeypatch)
    assert (code, said['event'], said['kind']) == (1, 'error', kind)
    assert words in said['message'] and '\n' not in said['message']


@pytest.mark.slow
def test_errors_that_only_the_framework_finds(job: Path, tmp_path: Path, backend_name: str) -> None:
    """A device that is not there; a loss that is not finite, which is no bad input."""
    with Process(job, backend_name) as worker:
        asked = config(backend_name, execution__device='cuda:7')
        assert worker.ask(train_request(job, tmp_path / 'out', config=asked)).rest() == 2
    assert worker.said[-1]['kind'] == 'DeviceError' and 'cuda:7' in worker.said[-1]['message']
    with Process(job, backend_name) as worker:
        patterns = np.load(job / 'scan' / 'diffraction.npy')
        np.save(job / 'scan' / 'diffraction.npy', patterns.astype(np.float32))
        worker.ask(train_request(job, tmp_path / 'out', config=config(backend_name, training__nepochs=LONG)))
        worker.until(is_epoch)
        np.load(job / 'scan' / 'diffraction.npy', mmap_mode='r+')[...] = np.nan
        assert worker.rest() == 1
    assert worker.said[-1].get('kind') == 'TrainingError' and 'learning_rate' in worker.said[-1]['message']
    assert can_resume(tmp_path / 'out')


BAD_REQUESTS = [
    '{"job": "dance"}',
    'no JSON',
    '{"job": "devices", "backends": [], "more": 1}',
    '[]',
    '[' * 10_000,
    '{"job": "train", "output_dir": "out", "config": {}}',
    '{"job": "train", "output_dir": "out", "config": [], "scan": "x"}',
    '{"job": "reconstruct", "scan": 3, "config": {}}',
    '{"job": "' + 'x' * 10**6 + '"}',
    '{"job": "devices", "' + 'k' * 10**6 + '": 1}',
]


@pytest.mark.parametrize('line', BAD_REQUESTS, ids=range(len(BAD_REQUESTS)))
def test_a_bad_request_is_bad_input(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, (error,) = answered(line, tmp_path, monkeypatch)
    assert code == 2 and (error['event'], error['kind']) == ('error', 'InputError')
    assert 'update both sides' in error['message'] and len(error['message']) < 400
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'description',
    ['', '[]', '3', '{"unknown": 1}', '{"domain": 7}', '[' * 9000, '{"object_origin": [1]}', '{"metadata": 5}'],
)
def test_a_damaged_handover_is_a_scan_error(
    description: str, scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its arrays are no arrays."""
    asked = ReconstructRequest(scan=hand_over(scan, tmp_path / 'scan'), config=config())
    (tmp_path / 'scan' / 'scan.json').write_text(description)
    code, said = answered(asked, tmp_path, monkeypatch)
    assert code == 2 and (said[-1]['event'], said[-1]['kind']) == ('error', 'ScanError')
    hand_over(scan, tmp_path / 'scan')
    (tmp_path / 'scan' / 'positions.npy').write_bytes(b'\x93NUMPY\x01\x00\x05\x00{((((' + description.encode())
    code, said = answered(asked, tmp_path, monkeypatch)
    assert code == 2 and (said[-1]['event'], said[-1]['kind']) == ('error', 'ScanError')


@pytest.mark.parametrize('garbage', [b'\xff\xfe\n', b'{"job": "\xc3(\n'])
def test_a_line_that_is_no_text_is_the_end_of_the_host(garbage: bytes, tmp_path: Path) -> None:
    """The worker ends, though its stdin stays open."""
    with Process(tmp_path) as worker:
        assert worker.process.stdin is not None
        worker.process.stdin.buffer.write(garbage)  # type: ignore[attr-defined]
        worker.process.stdin.flush()
        assert worker.rest() == 130


@pytest.mark.slow
def test_a_full_disk_in_the_job_is_a_sentence(job: Path, tmp_path: Path, backend_name: str) -> None:
    """A limit on the size of files stands for the full disk."""
    limited = (
        'import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1));'
        "runpy.run_module('ptychopinn_reconstructor.worker.main', run_name='__main__')"
    )
    command = [sys.executable, '-P', '-c', limited]
    asked = train_request(job, tmp_path / 'out', config=config(backend_name)).model_dump_json() + '\n'
    with subprocess.Popen(command, cwd=job, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write(asked)
        worker.stdin.flush()
        said = [json.loads(line) for line in worker.stdout]
    assert said[-1]['event'] == 'error' and said[-1]['kind'] == 'OutputError', said[-1]


def test_a_stop_before_the_request_ends_the_job_at_once(job: Path, tmp_path: Path) -> None:
    with Process(job) as worker:
        worker.tell('stop')
        asked = ReconstructRequest(scan=job / 'scan', model=tmp_path / 'absent.safetensors', config=config())
        assert worker.ask(asked).rest() in (2, 130)
    assert worker.said[-1]['event'] in ('stopped', 'error')


def wait_for_nothing(worker: Process, job: Path, output: Path, backend: str) -> None:
    """No request yet, no framework."""
    time.sleep(1.0)


def wait_for_import(worker: Process, job: Path, output: Path, backend: str) -> None:
    """The framework is being imported: its libraries are mapped, and nothing has been said yet."""
    maps, begin = Path(f'/proc/{worker.process.pid}/maps'), time.monotonic()
    worker.ask(train_request(job, output, config=config(backend)))
    while backend not in maps.read_text() and time.monotonic() - begin < HANG:
        time.sleep(0.02)
    assert not worker.said


def wait_for_training(worker: Process, job: Path, output: Path, backend: str) -> None:
    worker.ask(train_request(job, output, config=config(backend, training__nepochs=LONG)))
    worker.until(is_epoch)


@pytest.mark.parametrize(
    'wait',
    [wait_for_nothing, *(pytest.param(wait, marks=pytest.mark.slow) for wait in (wait_for_import, wait_for_training))],
)
def test_a_worker_whose_stdin_is_closed_ends_and_takes_its_folder_along(
    wait: Callable[..., None], scan: Scan, tmp_path: Path, backend_name: str
) -> None:
    job = tmp_path / f'{PREFIX}of-somebody-who-is-gone'
    hand_over(scan, job / 'scan')
    with Process(job, '' if wait is wait_for_nothing else backend_name) as worker:
        wait(worker, job, tmp_path / 'out', backend_name)
        assert worker.close() == 130
    assert not job.exists()


def test_a_folder_that_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / 'mine').touch()
    with Process(tmp_path) as worker:
        worker.close()
    assert (tmp_path / 'mine').exists()


HOST = """
import sys
from pathlib import Path
from ptychopinn_reconstructor.worker import main
from ptychopinn_reconstructor.worker.handover import Scratch
from ptychopinn_reconstructor.host.runner import Worker
from ptychopinn_reconstructor.worker.requests import parse_request
parent, backend, line = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with Scratch(1000, parent) as scratch, Worker(scratch.path, backend) as worker:
    worker.ask(parse_request(line))
    print(worker.process.pid, flush=True)
    for message in worker.events():
        print(message.event, flush=True)
"""


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody waits for."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self').exists(), reason='the process is looked up in /proc')
def test_a_killed_host_takes_its_worker_along(scan: Scan, tmp_path: Path, backend_name: str) -> None:
    """A host killed in a training: soon neither the worker nor its folder is there; how soon, `make bench` measures."""
    write_npz(tmp_path / 'scan.npz', scan)
    parent = tmp_path / 'scratch'
    parent.mkdir()
    request = TrainRequest(
        files=(tmp_path / 'scan.npz',),
        output_dir=tmp_path / 'out',
        config=config(backend_name, training__nepochs=LONG),
        preview_seconds=0.0,
    )
    command = [sys.executable, '-P', '-c', HOST, str(parent), backend_name, request.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        for line in host.stdout:
            if line == 'preview\n':
                break
        assert len(list(parent.iterdir())) == 1 and not ended(pid)
        host.send_signal(signal.SIGKILL)
        begin = time.monotonic()
        while not ended(pid) and time.monotonic() - begin < HANG:
            time.sleep(0.01)
    assert ended(pid) and not (tmp_path / 'out' / 'model.safetensors').exists()
    assert list((tmp_path / 'out').glob('checkpoints/last.*'))
    with Scratch(1000, parent) as scratch:
        assert list(parent.iterdir()) == [scratch.path]


def test_training_on_files(scan: Scan, tmp_path: Path, backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several, another one to validate on, and where they are from; an earlier training there is kept."""
    files = []
    for number, part in enumerate((slice(0, 40), slice(30, 64), slice(0, 64, 3))):
        files.append(tmp_path / f'part{number}.npz')
        indexes = np.arange(64)[part]
        write_npz(
            files[-1],
            Scan(
                diffraction=scan.diffraction[indexes],
                positions=scan.positions[indexes],
                probe=scan.probe,
                object=scan.object,
            ),
        )
        assert len(read_scan(files[-1]).scan) == len(indexes)
    output = tmp_path / 'out'
    (output / 'checkpoints').mkdir(parents=True)
    for left in ('model.safetensors', 'checkpoints/last.earlier'):
        (output / left).write_text('of an earlier training')
    job = tmp_path / 'job'
    job.mkdir()
    asked = config(backend_name, training__nepochs=1)
    request = TrainRequest(files=tuple(files[:2]), validation=files[2], output_dir=output, config=asked)
    code, said = answered(request, job, monkeypatch)
    assert code == 0 and said[-1]['event'] == 'done'
    training = open_model(output / 'model.safetensors').manifest.training
    assert training.scans == tuple(str(path) for path in files[:2])
    assert all(np.isfinite(line['val_loss']) for line in said if line['event'] == 'epoch')
    kept = [path for path in output.rglob('*') if path.is_file() and path.read_bytes() == b'of an earlier training']
    assert sorted(path.suffix for path in kept) == ['.earlier', '.safetensors']
    told = ' '.join(line['message'] for line in said if line['event'] == 'log')
    assert all(path.name in told or path.parent.name in told for path in kept)
