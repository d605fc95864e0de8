"""The verdict at the end of a training: what it says of network and scan, and where it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.events import Event, Log
from ptychopinn_reconstructor.physics.residual import Residual
from ptychopinn_reconstructor.result import Reason, ReasonCode, Verdict
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.instrument import Instrument
from ptychopinn_reconstructor.training.run import TrainingResult
from ptychopinn_reconstructor.training.verdict import TrainingVerdict, list_reasons

pytestmark = pytest.mark.usefixtures('backend_name')


def misfit(ratio: float, noise_share: float = 0.01) -> Residual:
    """So many times counting noise, which is this share of the counts, in each of four patterns."""
    counts = np.full(4, 1e4)
    noise = noise_share * counts
    return Residual(ratio * noise, counts, counts, counts, ratio * noise, noise, counts)


def engine(word: Literal['good', 'bad'], *codes: ReasonCode) -> Verdict:
    reasons = tuple(Reason(code, 'bad', 'a finding', 'causes', 'a remedy') for code in codes)
    return Verdict(word, 1.0, 1.0, 0.0, reasons)


@pytest.mark.parametrize(
    ('unseen', 'seen', 'after', 'expected'),
    [
        (misfit(4.0), misfit(3.9), engine('good'), []),
        (misfit(8.0), misfit(7.9), engine('good'), [('untrained', 'doubtful')]),
        (misfit(30.0), misfit(29.0), engine('good'), [('untrained', 'bad')]),
        (misfit(8.0), misfit(4.0), engine('good'), [('untrained', 'doubtful'), ('overfitted', 'doubtful')]),
        (misfit(8.0), misfit(7.9), engine('bad', 'misfit'), [('misfit', 'bad')]),  # no training mends a scan
        (misfit(4.0), None, engine('bad', 'background'), [('background', 'bad')]),
        (misfit(30.0), None, None, [('untrained', 'bad')]),
    ],
)
def test_each_misfit_has_its_reason(
    unseen: Residual, seen: Residual | None, after: Verdict | None, expected: list[tuple[str, str]]
) -> None:
    found = list(list_reasons(unseen, seen, after))
    assert [(reason.code, reason.word) for reason in found] == expected
    assert all('training.refine_probe_first=20' in reason.remedy for reason in found if reason.code == 'misfit')


def trained(scan: Scan, folder: Path, **changes: Any) -> tuple[TrainingResult, TrainingVerdict, list[str]]:
    events: list[Event] = []
    result = pp.train([scan], short_config(training__nepochs=3, **changes), folder, emit=events.append)
    assert result.verdict is not None
    return result, result.verdict, [event.message for event in events if isinstance(event, Log)]


def test_a_sound_scan_is_told_from_one_whose_positions_are_mixed_up(tmp_path: Path) -> None:
    scan = small_scan(positions=100, photons=1e5)
    result, sound, lines = trained(scan, tmp_path / 'sound')
    assert sound.held_out == 8 and sound.refined_ratio is not None and sound.trained_ratio is not None
    assert sound.refined_ratio < sound.ratio and not any(reason.code == 'misfit' for reason in sound.reasons)
    assert sound.sentence in lines
    written = json.loads((tmp_path / 'sound' / 'metrics.json').read_text())
    assert written['verdict'] == json.loads(json.dumps(sound.to_json())) and written['epochs'] == 3
    assert written['last_loss'] == result.trained.losses[-1][1]
    shuffled = scan.positions[np.random.default_rng(0).permutation(len(scan.positions))]
    _, wrong, lines = trained(replace(scan, positions=shuffled), tmp_path / 'wrong')
    assert wrong.word == 'bad' and any(reason.code == 'misfit' for reason in wrong.reasons)
    assert wrong.refined_ratio is not None and wrong.refined_ratio > 2 * sound.refined_ratio
    assert wrong.sentence in lines


def test_a_pretraining_is_judged_by_its_simulated_scans(tmp_path: Path) -> None:
    probe = small_scan(positions=9).probe
    assert probe is not None
    config = short_config(training__nepochs=2, data__n_groups=256)
    verdict = pp.pretrain(Instrument.of_probe(probe, 1e4), config, tmp_path).verdict
    assert verdict is not None and verdict.held_out == 6 * 64 and verdict.trained_ratio is None
    assert verdict.refined_ratio is None and verdict.word != 'good' and verdict.reasons[0].code == 'untrained'
    assert verdict.sentence.startswith('Trained: held-out patterns fit to ')
