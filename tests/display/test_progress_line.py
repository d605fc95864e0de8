"""The line of progress: on a terminal, in a log, and in the kernel of a notebook."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ptychopinn_reconstructor.display import progress
from ptychopinn_reconstructor.display.progress import ProgressLine
from ptychopinn_reconstructor.events import Done, Epoch, Event, Log, Progress, Started

JOB: list[Event] = [
    Started('train', 'cpu', 'PyTorch'),
    Progress('train', 1, 4),
    Epoch('train', 1, 2, train_loss=0.5),
    Progress('train', 4, 4),
    Epoch('train', 2, 2, train_loss=0.25, val_loss=0.3),
    Done(model='m'),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """As a terminal answers."""
        return True


class Publisher:
    """What the kernel of a notebook was asked to show: data, whose identity, and whether in its place."""

    def __init__(self) -> None:
        self.shown: list[tuple[dict[str, str], str, bool]] = []

    def publish(self, data: dict[str, str], *, transient: dict[str, str], update: bool) -> None:
        """Take what is to be shown."""
        self.shown.append((data, transient['display_id'], update))


@pytest.fixture(autouse=True)
def every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is drawn, however soon after the last one."""
    monkeypatch.setattr(progress, 'RATE', 0.0)


def run(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, events: list[Event]) -> str:
    monkeypatch.setattr(sys, 'stderr', stream)
    line = ProgressLine()
    for event in events:
        line(event)
    return stream.getvalue()


def test_on_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(monkeypatch, Terminal(), JOB)
    assert text.count('\n') == 1 and text.endswith('\n')
    drawn = [line.rstrip() for line in text.split('\r')[1:]]
    assert drawn[0] == '25%  train' and drawn[1] == '25%  train  epoch 1/2, train_loss 0.5'
    assert drawn[-2] == '100%  train  epoch 2/2, train_loss 0.25, val_loss 0.3'
    assert drawn[-1].startswith('done in ') and drawn[-1].endswith('epoch 2/2, train_loss 0.25, val_loss 0.3')
    lengths = [len(line) for line in text.split('\r')[1:]]
    assert all(later >= len(earlier) for later, earlier in zip(lengths[1:], drawn[:-1], strict=True)), 'nothing stays'


def test_in_a_log_each_epoch_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, io.StringIO(), [*JOB[:-1], Log('a word'), JOB[-1]]).splitlines()
    assert lines[0] == 'train: PyTorch on cpu' and lines[1] == 'epoch 1 of 2: loss 0.5'
    assert len(lines) == 5 and lines[3] == 'a word' and lines[4].startswith('done in ')


def test_in_a_notebook_one_output_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher()
    shell = SimpleNamespace(kernel=object(), display_pub=publisher)
    ipython: Any = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    assert run(monkeypatch, io.StringIO(), [*JOB, *JOB]) == ''
    of_a_job = len(publisher.shown) // 2
    first, second = publisher.shown[:of_a_job], publisher.shown[of_a_job:]
    assert [update for _, _, update in first] == [False] + [True] * (of_a_job - 1)
    assert len({identity for _, identity, _ in first}) == 1 and first[0][1] != second[0][1], 'each job has its line'
    assert first[0][0]['text/plain'] == '25%  train' and 'value="0.250"' in first[0][0]['text/html']


def test_a_terminal_of_ipython_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython: Any = SimpleNamespace(get_ipython=lambda: SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    assert run(monkeypatch, Terminal(), JOB).count('\r') == 6 - 1
