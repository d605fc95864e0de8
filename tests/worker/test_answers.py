"""What a worker answers, in this process: errors by their kinds, one message a line, arrays as files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scans import short_config, small_scan

from ptychopinn_reconstructor import events
from ptychopinn_reconstructor.errors import Interrupted, ScanError, shorten
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.worker import main
from ptychopinn_reconstructor.worker.handover import PREFIX, write_arrays
from ptychopinn_reconstructor.worker.messages import Log, Preview
from ptychopinn_reconstructor.worker.requests import DevicesRequest, TrainRequest, parse_request


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> main.Channel:
    """A channel that writes to memory; its scratch folder is the current one."""
    monkeypatch.chdir(tmp_path)
    return main.Channel(io.StringIO())


def said(channel: main.Channel) -> list[dict[str, Any]]:
    assert isinstance(channel.out, io.StringIO)
    return [json.loads(line) for line in channel.out.getvalue().splitlines()]


def answer_with(channel: main.Channel, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit code of a request whose job ends with an error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(main, 'run', fail)
    return main.answer(channel, DevicesRequest(backends=()).model_dump_json())


@pytest.mark.parametrize(
    ('error', 'code', 'kind', 'message'),
    [
        (ScanError('It has no patterns.'), 2, 'ScanError', 'It has no patterns.'),
        (MemoryError('3 GiB'), 1, 'OutputError', 'There is not enough memory (3 GiB); use a smaller batch size'),
        (
            OSError(5, 'Input/output error'),
            1,
            'OutputError',
            'A file cannot be read or written: [Errno 5] Input/output',
        ),
        (KeyError('x' * 900), 1, 'PtychoPINNError', f'The job failed: KeyError: {shorten(KeyError("x" * 900), 300)}'),
        (ZeroDivisionError(), 1, 'PtychoPINNError', 'The job failed: ZeroDivisionError: no message'),
    ],
)
def test_an_error_has_its_kind_and_its_exit_code(
    channel: main.Channel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    kind: str,
    message: str,
) -> None:
    assert answer_with(channel, monkeypatch, error) == code
    (last,) = said(channel)
    assert (last['event'], last['kind']) == ('error', kind) and last['message'].startswith(message)
    assert len(last['message']) < 350 and ('KeyError' not in message or last['message'] == message)
    assert ('Traceback' in capsys.readouterr().err) == message.startswith('The job failed'), 'a bug leaves its trace'


def test_a_stop_is_no_error(channel: main.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer_with(channel, monkeypatch, Interrupted('Stopped after 2 of 5 epochs.')) == 130
    assert said(channel) == [{'event': 'stopped', 'message': 'Stopped after 2 of 5 epochs.'}]


@pytest.mark.parametrize('error', [RuntimeError('cancelled'), ValueError()])
def test_what_a_framework_raises_when_it_is_stopped_is_a_stop(
    channel: main.Channel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    channel.stopped.set()
    assert answer_with(channel, monkeypatch, error) == 130
    assert said(channel) == [{'event': 'stopped', 'message': 'Stopped on request.'}]


def test_a_request_that_is_none_is_an_error_of_the_input(channel: main.Channel) -> None:
    assert main.answer(channel, '{"job": "dance"}') == 2
    (last,) = said(channel)
    assert last['kind'] == 'InputError' and 'asked for nothing that it can do' in last['message']


def test_devices_are_listed_by_backend(channel: main.Channel) -> None:
    assert main.answer(channel, DevicesRequest(backends=('nobody',)).model_dump_json()) == 0
    assert said(channel) == [{'event': 'done', 'job': 'devices', 'devices': {'nobody': []}}]


def test_messages_are_lines_and_a_reader_that_is_gone_is_no_error(channel: main.Channel) -> None:
    channel.log('one\ntwo')
    channel.emit(events.Log(message='three', level='warning'))
    assert said(channel) == [
        {'event': 'log', 'level': 'info', 'message': 'one\ntwo'},
        {'event': 'log', 'level': 'warning', 'message': 'three'},
    ]

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    main.Channel(Gone()).log('nobody hears it')


def test_a_message_goes_out_at_once(tmp_path: Path) -> None:
    """A host that waits for it must not wait for the next one."""
    with (tmp_path / 'out').open('w', buffering=2**16) as file:
        main.Channel(file).log('now')
        assert json.loads((tmp_path / 'out').read_text())['message'] == 'now'


def test_arrays_are_files_with_numbers_of_their_own(channel: main.Channel) -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert [channel.save('object', values), channel.save('object', values + 1)] == [
        Path('object-1.npy'),
        Path('object-2.npy'),
    ]
    assert np.array_equal(np.load('object-1.npy'), values) and np.array_equal(np.load('object-2.npy'), values + 1)
    with pytest.raises(ValueError, match='allow_pickle'):
        channel.save('pickle', np.array([{}], object))


def test_a_preview_is_a_file_and_the_last_event_stays_here(channel: main.Channel) -> None:
    preview = events.Preview('refine', np.ones((2, 2), np.complex64), (1.0, 2.0), complete=False, total=5, epoch=3)
    channel.emit(preview)
    (one,) = said(channel)
    read = Preview.model_validate(one)
    assert np.array_equal(np.load(read.object), preview.object)
    assert (read.stage, read.origin, read.complete, read.total, read.epoch) == ('refine', (1.0, 2.0), False, 5, 3)
    channel.emit(events.Done(*([None] * len(events.Done.__dataclass_fields__))))
    assert len(said(channel)) == 1, 'the worker says by itself where the result lies'


@pytest.mark.parametrize(('name', 'stays'), [(f'{PREFIX}abc', False), ('home', True)])
def test_only_a_scratch_folder_of_ours_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stays: bool
) -> None:
    folder = tmp_path / name
    (folder / 'inside').mkdir(parents=True)
    monkeypatch.chdir(folder)
    main.remove_scratch()
    assert folder.exists() == stays


def test_what_is_said_and_asked_cannot_be_changed_afterwards() -> None:
    message, request = Log(level='info', message='a'), DevicesRequest(backends=())
    with pytest.raises(ValidationError, match='frozen'):
        message.message = 'b'
    with pytest.raises(ValidationError, match='frozen'):
        request.backends = ('torch',)


@pytest.mark.parametrize(
    ('job', 'fields', 'expected'),
    [
        (
            'reconstruct',
            {'scan': 's', 'config': {}},
            {'model': None, 'ensemble': (), 'preview_seconds': 1.0},
        ),
        (
            'train',
            {'output_dir': 'o', 'config': {}, 'scan': 's'},
            {
                'name': '', 'files': (), 'validation': None, 'initial': None, 'resume': False, 'finish': False,
                'preview_seconds': 3.0,
            },
        ),
    ],
)  # fmt: skip
def test_what_is_not_asked_for_has_its_default(job: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = parse_request(json.dumps({'job': job, **fields}))
    assert {key: getattr(request, key) for key in expected} == expected


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('{"job": "train", "output_dir": "o", "config": {}}', 'neither a scan nor files'),
        ('{"job": "train", "output_dir": "o", "config": {}, "scan": "s", "more": 1}', 'train.more: Extra inputs'),
        ('{"job": "diagnose"}', 'diagnose.scan: Field required'),
        ('nothing', 'Invalid JSON'),
        ('[' * 100_000, ''),
    ],
)
def test_a_request_that_is_none_names_what_is_wrong(line: str, words: str) -> None:
    with pytest.raises(Exception, match='The worker was asked for nothing that it can do: ') as caught:
        parse_request(line)
    assert (
        words in str(caught.value) and len(str(caught.value)) < 400 and str(caught.value).endswith('update both sides.')
    )


def test_a_listener_hands_over_requests_and_stops(channel: main.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines are nothing; the end of stdin is the end of the job, and of its process a second later."""
    ends: list[object] = []
    lines = b'\n{"job": "x"}\n stop \n' + b'{"job": "y"}\n'
    monkeypatch.setattr('sys.stdin', io.TextIOWrapper(io.BytesIO(lines)))
    monkeypatch.setattr('time.sleep', ends.append)
    monkeypatch.setattr(main, 'remove_scratch', lambda: ends.append('scratch'))
    monkeypatch.setattr('os._exit', ends.append)
    channel.listen()
    asked = [channel.requests.get_nowait() for _ in range(3)]
    assert asked == ['{"job": "x"}\n', '{"job": "y"}\n', ''] and channel.requests.empty()
    assert channel.stopped.is_set() and channel.orphaned.is_set() and ends == [1.0, 'scratch', 130]


def test_a_stop_alone_orphans_nobody(channel: main.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """While stdin is open the host is there."""
    heard: list[bool] = []

    class Stdin(io.BytesIO):
        def __next__(self) -> bytes:
            if self.tell():
                heard.append(channel.stopped.is_set() and not channel.orphaned.is_set())
            return super().__next__()

    monkeypatch.setattr('sys.stdin', io.TextIOWrapper(Stdin(b'stop\n')))
    quiet: list[Callable[..., None]] = [lambda *_: None] * 2
    monkeypatch.setattr('time.sleep', quiet[0])
    monkeypatch.setattr('os._exit', quiet[1])
    channel.listen()
    assert heard == [True]


def test_what_was_decided_about_a_scan_is_logged(channel: main.Channel, tmp_path: Path) -> None:
    """Of one that is handed over, and of files, which are named then."""
    scan = small_scan(positions=25)
    patterns = np.array(scan.diffraction)
    patterns[3] = 0
    lost = {'diffraction': patterns, 'positions': scan.positions, 'probe': scan.probe}
    write_arrays(tmp_path / 'scan', lost, {})
    request = TrainRequest(output_dir=tmp_path, config={}, scan=tmp_path / 'scan', name='mine')
    scans, sources = main.training_scans(request, short_config(), channel)
    assert sources == ['mine'] and [len(scan) for scan in scans] == [24]
    write_npz(tmp_path / 'a.npz', scan)
    request = TrainRequest(output_dir=tmp_path, config={}, files=(tmp_path / 'a.npz',) * 2)
    scans, sources = main.training_scans(request, short_config(), channel)
    assert sources == [str(tmp_path / 'a.npz')] * 2 and [len(scan) for scan in scans] == [25, 25]
    logged = [line['message'] for line in said(channel)]
    assert 'Pattern 3 is left out' in logged[0] and not logged[0].startswith('a.npz')
    assert logged[1:] and all(line.startswith('a.npz: ') for line in logged[1:])


def test_a_backend_that_is_not_there_is_told_when_it_is_used() -> None:
    assert 0 <= main.preload('nonesuch') < 60


NOISY = """
import os, sys
def hear(event, arguments):
    if event == 'import' and arguments[0] == 'ptychopinn_reconstructor.backend':
        os.write(1, b'a library prints')
sys.addaudithook(hear)
"""


@pytest.mark.parametrize('backend', ['', 'nonesuch'])
def test_what_libraries_print_does_not_come_between(backend: str, tmp_path: Path) -> None:
    """With the name of a backend what a training imports is loaded before the request is there."""
    (tmp_path / 'sitecustomize.py').write_text(NOISY)
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor.worker.main', *([backend] if backend else [])]
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    with subprocess.Popen(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(DevicesRequest(backends=('nonesuch',)).model_dump_json() + '\n')
        process.stdin.flush()
        assert [json.loads(line)['event'] for line in process.stdout] == ['done']
        assert 'a library prints' in process.stderr.read()


def test_the_command_of_a_worker_answers_one_request(tmp_path: Path) -> None:
    """Its exit code is that of the answer; without a request nobody has asked."""
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor.worker.main']
    asked = DevicesRequest(backends=('nonesuch',)).model_dump_json()
    for line, code, last in ((asked, 0, 'done'), ('{}', 2, 'error')):
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, cwd=tmp_path) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(line + '\n')
            process.stdin.flush()
            messages = [json.loads(line) for line in process.stdout]
            assert process.wait() == code and [message['event'] for message in messages] == [last]
    nobody = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path, check=False)
    assert (nobody.returncode, nobody.stdout) == (130, b'')
