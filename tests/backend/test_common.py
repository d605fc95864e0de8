"""What is the same for every backend: the learning rate, the CPU budget, what is told, the steps of an epoch."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans import short_config, small_scan

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backend.batches import (
    count_region_patterns,
    count_step_regions,
    make_steps,
    split_probes,
    stack_probes,
)
from ptychopinn_reconstructor.backend.common import (
    CpuClock,
    Journal,
    StopRequested,
    compute_rate_factor,
    compute_widths,
)
from ptychopinn_reconstructor.errors import ConfigError, TrainingError
from ptychopinn_reconstructor.events import Epoch, Event, Progress
from ptychopinn_reconstructor.physics.grouping import Split
from ptychopinn_reconstructor.physics.prepare import prepare_scan


def job(*, modes: tuple[int, ...] = (1,), **changes: Any) -> TrainingJob:
    """A job on scans of 100 patterns each; the first 80 are trained on, the others held out."""
    config = short_config(model__N=32, **changes)
    scans = tuple(prepare_scan(small_scan(modes=count), mode='absolute', stride=16) for count in modes)
    return TrainingJob(scans, (Split(np.arange(80), np.arange(80, 100)),) * len(scans), config, Path())


@pytest.mark.parametrize(
    ('progress', 'cosine', 'constant'),
    [(0.0, 1e-3, 1e-3), (0.04, 0.5, 0.5), (0.08, 1.0, 1.0), (0.54, 0.51, 1.0), (1.0, 0.02, 1.0), (1.2, 0.02, 1.0)],
)
def test_the_rate_warms_up_and_falls_to_a_fiftieth(progress: float, cosine: float, constant: float) -> None:
    """B28: linear for 8 % of the training, then half a cosine, or constant."""
    assert compute_rate_factor(progress, 'cosine') == pytest.approx(cosine)
    assert compute_rate_factor(progress, 'constant') == pytest.approx(constant)


def test_the_cpu_budget_is_the_progress_where_it_is_further_on() -> None:
    """B28: never behind the steps; the CPU time before a resume counts."""
    clock = CpuClock(before=50.0)
    limited = short_config(training__max_cpu_seconds=100.0).training
    assert clock.progress(0.25, limited) == pytest.approx(0.5, abs=0.05)
    assert clock.progress(0.75, limited) == 0.75
    assert clock.progress(0.25, short_config().training) == 0.25


@pytest.mark.parametrize(('scale', 'widths'), [(2.0, (32, 48, 64)), (0.5, (8, 12, 16)), (0.1, (4, 4, 4))])
def test_widths_follow_the_scale(scale: float, widths: tuple[int, int, int]) -> None:
    """B21."""
    assert compute_widths(scale) == widths


def test_a_journal_counts_tells_and_is_restored() -> None:
    """B33 to B35: patterns and losses go on where a checkpoint has left them."""
    events: list[Event] = []
    journal = Journal(replace(job(training__nepochs=7), emit=events.append))
    journal.clock.resume_from(400.0)
    journal.record_step(16, 0.25)
    journal.record_epoch(1, {'train_loss': 2.0, 'val_loss': 3.0}, learning_rate=1e-3)
    assert events[0] == Progress('train', 0.25, 1.0)
    assert isinstance(events[1], Epoch) and events[1].cpu_seconds == pytest.approx(400, abs=40)
    assert replace(events[1], cpu_seconds=4.0) == Epoch(
        'train', 1, 7, train_loss=2.0, val_loss=3.0, learning_rate=1e-3, patterns_seen=16, cpu_seconds=4.0
    )
    again = Journal(replace(job(), should_stop=lambda: True))
    again.restore(journal.state())
    with pytest.raises(StopRequested):
        again.record_step(16, 0.5)
    summary = again.summary(device='cpu', monitor='val_loss', parameters=3)
    assert again.losses == [(1, 2.0)] and summary['patterns_seen'] == 32
    assert summary['epochs'] == 1 and summary['cpu_seconds'] == pytest.approx(400, abs=40)


@pytest.mark.parametrize('loss', [inf, -inf, float('nan')])
def test_a_loss_that_is_not_finite_is_an_error(loss: float) -> None:
    """B40."""
    with pytest.raises(TrainingError, match=r'epoch 3.*lower learning_rate'):
        Journal(job()).check(loss, 3)


def test_a_step_holds_as_many_patterns_as_asked_for() -> None:
    """B25: regions of max(gridsize^2, neighbors + 1); 65,536 detector pixels unless set; one region at least."""
    plain = short_config(training__batch_size=None, data__neighbor_count=0)
    assert (count_region_patterns(plain), count_step_regions(plain, 64), count_step_regions(plain, 512)) == (1, 16, 1)
    grid = short_config(model__gridsize=3, data__neighbor_count=4, training__batch_size=20)
    assert (count_region_patterns(grid), count_step_regions(grid, 64)) == (9, 2)
    assert count_region_patterns(short_config(data__neighbor_count=4)) == 5
    assert count_region_patterns(short_config(data__neighbor_count=4, data__positions_provided=False)) == 1
    assert count_region_patterns(short_config(model__object_big=False)) == 1


def test_steps_of_an_epoch_are_drawn_from_seed_and_epoch() -> None:
    """B25: other regions in every epoch, the same for the same seed; no group of accumulated batches is cut."""
    steps, again = (make_steps(job(data__neighbor_count=0, training__accum_steps=2)) for _ in range(2))
    assert len(steps) == len(steps.draw_epoch(0)) == 4  # 80 patterns in steps of 16, which were 5
    one, two, other = (
        np.concatenate([step.regions for step in some.draw_epoch(epoch)]) for some, epoch in
        ((steps, 0), (again, 0), (steps, 1))
    )  # fmt: skip
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert len(np.unique(one)) == one.size == 64 and one.max() < 80
    seeded = make_steps(job(data__neighbor_count=0, training__seed=1, training__accum_steps=2))
    assert not np.array_equal(one, np.concatenate([step.regions for step in seeded.draw_epoch(0)]))


def test_held_out_patterns_are_covered_once() -> None:
    """B24: in regions, by the same steps every time; none where fewer are held out than a region needs."""
    held_out = make_steps(job(model__gridsize=2, data__neighbor_count=0)).list_validation_steps()
    regions = np.concatenate([step.regions for step in held_out])
    assert regions.shape == (5, 4) and regions.min() >= 80 and {*regions[:, 0]} == {80, 84, 88, 92, 96}
    few = job(model__gridsize=2, data__neighbor_count=0)
    few = replace(few, splits=(Split(np.arange(97), np.arange(97, 100)),))
    assert make_steps(few).list_validation_steps() == []


def test_steps_of_several_scans_are_shuffled_and_know_their_scan() -> None:
    """B23: each scan has its own steps, canvas, and probe, padded to the same number of modes and cut again."""
    asked = job(modes=(1, 3), data__neighbor_count=0)
    steps = make_steps(asked)
    scans = [step.scan for step in steps.draw_epoch(0)]
    assert sorted(scans) == [0] * 5 + [1] * 5 and scans != sorted(scans)
    assert scans != [step.scan for step in steps.draw_epoch(1)]
    batch = steps.batch(next(step for step in steps.draw_epoch(0) if step.scan == 1))
    assert set(batch.scan) == {1} and (batch.dose == 1).all() and batch.labels is None
    assert (batch.corners.min(axis=1) == 0).all() and batch.canvas == (32, 32)
    probes = stack_probes(asked)
    assert probes.shape == (2, 3, 32, 32) and not probes[0, 1:].any()
    for back, scan in zip(split_probes(probes, asked), asked.scans, strict=True):
        assert np.array_equal(back, scan.probe)


def test_scans_of_two_sizes_are_refused() -> None:
    """N: one training needs one size."""
    other = prepare_scan(small_scan(n=48, positions=30), mode='absolute', stride=16)
    asked = job()
    with pytest.raises(ConfigError, match=r'32, 48'):
        stack_probes(replace(asked, scans=(*asked.scans, other)))
