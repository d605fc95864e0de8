"""The messages of a worker, checked on both sides (specs/ptychodus_api_spec.md, P51, P52)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ptychopinn_reconstructor import events
from ptychopinn_reconstructor.events import Notice
from ptychopinn_reconstructor.result import Reason, RunInfo, Verdict
from ptychopinn_reconstructor.worker.messages import (
    Epoch,
    Log,
    Message,
    Progress,
    ReconstructDone,
    Started,
    message_of,
    parse_message,
)


def reconstructed(residual: float) -> ReconstructDone:
    run = RunInfo(
        backend='torch',
        device='cpu',
        model_type='pinn',
        probe_source='scan',
        probe_power='absolute',
        power_ratio=0.9,
        patterns=25,
        n_pixels=64,
        outside_training=('dose',),
        refine_passes=2,
        residual_by_pass=(0.5, 0.25),
        verdict=Verdict('doubtful', 1.5, 1.25, 0.5, (Reason('background', 'doubtful', 'found', 'causes', 'remedy'),)),
    )
    return ReconstructDone(
        object=Path('object-1.npy'),
        probe=Path('probe-2.npy'),
        positions=None,
        origin=(1.5, -2.0),
        comments='of a test',
        losses=((1, 0.5), (2, residual)),
        residual=residual,
        reliability='residual 0.25',
        reliability_file=Path('reliability.npz'),
        run=run,
        notices=(Notice('dose', 'Too bright.'),),
        stages={'network': {'wall_seconds': 0.5}},
        import_seconds=1.0,
    )


def test_a_result_comes_back_as_it_was_sent() -> None:
    """P52: with what is typed in it."""
    sent = reconstructed(0.25)
    assert parse_message(sent.model_dump_json()) == sent


def test_numbers_that_are_not_finite_are_null() -> None:
    """P51."""

    def refuse(text: str) -> float:
        raise AssertionError(f'{text} is not JSON')

    line = reconstructed(math.nan).model_dump_json()
    values = json.loads(line, parse_constant=refuse)
    assert values['residual'] is None and values['losses'] == [[1, 0.5], [2, None]]
    back = parse_message(line)
    assert isinstance(back, ReconstructDone) and math.isnan(back.residual) and math.isnan(back.losses[1][1])


@pytest.mark.parametrize(
    'line',
    [
        '{"event": "dance"}',
        '{"message": "no event"}',
        '{"event": "done", "job": "train", "losses": [], "notices": []}',
        '{"event": "done", "job": "reconstruct", "model": "model.safetensors", "losses": [], "notices": []}',
        '{"event": "log", "level": "info", "message": "one", "more": 1}',
        'Epoch 1',
    ],
    ids=['another event', 'no event', 'no model', 'another job', 'a field too many', 'no JSON'],
)
def test_what_is_no_message_is_refused(line: str) -> None:
    """P51."""
    with pytest.raises(ValidationError):
        parse_message(line)


@pytest.mark.parametrize(
    ('event', 'message'),
    [
        (events.Started('train', 'cpu', 'PyTorch'), Started(job='train', device='cpu', backend='PyTorch')),
        (events.Progress('train', 0.5, 1.0), Progress(stage='train', done=0.5, total=1.0)),
        (
            events.Epoch('train', 3, 5, train_loss=np.float32(0.5)),  # type: ignore[arg-type]
            Epoch(stage='train', epoch=3, total=5, train_loss=0.5),
        ),
        (events.Log('a word'), Log(level='info', message='a word')),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_become_messages(event: events.Event, message: Message) -> None:
    """P51."""
    assert not isinstance(event, events.Preview | events.Done)
    assert message_of(event) == message == parse_message(message.model_dump_json())
