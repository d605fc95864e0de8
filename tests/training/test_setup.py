"""What is settled before a training, setting by setting, and which model is kept after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from scans import short_config, small_scan

from ptychopinn_reconstructor.backend import Backend, TrainedModel
from ptychopinn_reconstructor.errors import ConfigError, ScanError
from ptychopinn_reconstructor.events import Event
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.scaling import mask_probe, probe_power
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training import fine_tuning
from ptychopinn_reconstructor.training.setup import (
    check_labels,
    complete_config,
    prepare_scans,
    split_scan,
    split_scans,
)


@pytest.fixture(scope='module')
def scan() -> Scan:
    return small_scan(positions=64)


def prepared(scan: Scan, **changes: Any) -> PreparedScan:
    (found,) = prepare_scans([scan], short_config(model__N=32, **changes), 16, probe=None)
    return found


def test_the_configuration_is_completed_by_the_scans(scan: Scan) -> None:
    config = short_config(training__nepochs=3)
    assert complete_config([scan], config) == config.merged({'model': {'N': 32}})
    pretraining = complete_config([scan], short_config(data__source='procedural'))
    assert (pretraining.model.N, pretraining.model.model_type) == (32, 'supervised')
    with pytest.raises(ConfigError, match='N is 64 but the patterns are 32 pixels wide'):
        complete_config([scan], short_config(model__N=64))
    with pytest.raises(ScanError, match='32 and 64 pixels'):
        complete_config([scan, small_scan(n=64, positions=9)], config)
    with pytest.raises(ConfigError, match='positions_provided = False has no effect'):
        short_config(model__model_type='supervised', data__positions_provided=False)


def test_supervised_training_needs_the_object_of_every_scan(scan: Scan) -> None:
    bare, supervised = replace(scan, object=None), short_config(model__model_type='supervised')
    check_labels([scan, scan], supervised)
    check_labels([scan, bare], short_config())
    with pytest.raises(ScanError, match='needs an object'):
        check_labels([scan, bare], supervised)


def test_each_setting_reaches_the_scan_that_is_trained_on(scan: Scan) -> None:
    assert scan.probe is not None
    plain = prepared(scan)
    assert plain.patch_size == 16 and plain.gauge.choice == 'absolute' and np.ptp(plain.layout.fractions) > 0.5
    np.testing.assert_array_equal(plain.probe, scan.probe)
    masked = prepared(scan, model__probe_mask=True)
    np.testing.assert_allclose(masked.probe, mask_probe(scan.probe), rtol=1e-6)
    np.testing.assert_allclose(prepared(scan, model__probe_scale=1.5).probe, 1.5 * scan.probe, rtol=1e-6)
    assert prepared(scan, model__pad_object=False).patch_size == 32
    from_counts = prepared(scan, data__probe_power='from_counts')
    assert probe_power(from_counts.probe) == pytest.approx(scan.mean_counts, rel=1e-5)
    unplaced = prepared(scan, data__positions_provided=False)
    assert not unplaced.layout.fractions.any()
    np.testing.assert_array_equal(unplaced.layout.corners, plain.layout.corners)


def test_a_refined_probe_takes_the_place_of_every_guess_like_the_first(scan: Scan) -> None:
    assert scan.probe is not None
    same, other = small_scan(positions=36, seed=4), small_scan(positions=36, seed=5)
    assert same.probe is not None
    other = other.with_probe(same.probe * np.float32(1.001))
    better = np.roll(scan.probe, 1, axis=-1)
    found = prepare_scans([scan, same, other], short_config(model__N=32), 16, probe=better)
    np.testing.assert_array_equal(found[0].probe, better)
    np.testing.assert_array_equal(found[1].probe, better)
    np.testing.assert_array_equal(found[2].probe, other.probe)


def test_the_last_scan_validates_where_asked(scan: Scan) -> None:
    config = short_config(model__N=32, data__validation_fraction=0.25)
    scans = prepare_scans([scan, small_scan(positions=36)], config, 16, probe=None)
    first, second = split_scans(scans, config, last_validates=False)
    assert len(first.validation) == pytest.approx(0.25 * 64, abs=4) and len(second.validation) > 0
    assert not {*first.training} & {*first.validation}
    first, second = split_scans(scans, config, last_validates=True)
    assert {*first.training} == {*range(64)} and len(first.validation) == 0
    assert len(second.training) == 0 and {*second.validation} == {*range(36)}


def test_a_part_of_the_patterns_is_drawn_by_the_seed(scan: Scan) -> None:
    one = prepare_scan(scan)
    drawn = [split_scan(one, short_config(data__n_subsample=40, training__seed=seed)) for seed in (0, 0, 1)]
    whole = split_scan(one, short_config())
    assert 20 < len(drawn[0].training) <= 40 and {*drawn[0].training} <= {*whole.training}
    np.testing.assert_array_equal(drawn[0].training, drawn[1].training)
    assert not np.array_equal(drawn[0].training, drawn[2].training)
    np.testing.assert_array_equal(drawn[0].validation, whole.validation)
    assert len(split_scan(one, short_config(data__n_subsample=64)).training) == len(whole.training)
    with pytest.raises(ConfigError, match='n_subsample is 65 but the scan has 64'):
        split_scan(one, short_config(data__n_subsample=65))


@pytest.mark.parametrize(
    ('before', 'after', 'start_kept'),
    [(0.2, 0.1, False), (0.1, 0.2, True), (0.1, 0.1005, False), (0.1, 0.1015, True), (0.1, float('nan'), True)],
)
def test_the_better_model_is_kept(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, before: float, after: float, start_kept: bool
) -> None:
    """By the residuals that the two leave, here given, each under its own probe."""
    one = prepare_scan(scan)
    start, new = {'w': np.zeros(1, np.float32)}, {'w': np.ones(1, np.float32)}
    moved = np.roll(one.probe, 2, axis=-1)
    trained = TrainedModel(new, (moved, one.probe), ((1, 0.5),), {'epochs': 1})
    seen: list[tuple[float, bool]] = []

    def given(weights: dict[str, Any], backend: object, config: object, part: PreparedScan, options: object) -> float:
        seen.append((float(weights['w'][0]), np.array_equal(part.probe, moved)))
        return before if weights is start else after

    monkeypatch.setattr(fine_tuning, 'compute_refined_residual', given)
    told: list[Event] = []
    found, notice = fine_tuning.keep_better_model(
        trained, start, cast(Backend, None), short_config(), one, emit=told.append
    )
    assert seen == [(0.0, False), (1.0, True)]
    assert found.weights is (start if start_kept else new)
    np.testing.assert_array_equal(found.probes[0], one.probe if start_kept else moved)
    assert len(found.probes) == 2 and found.losses == trained.losses
    assert (found.summary['start_kept'], found.summary['start_residual']) == (start_kept, before)
    assert ('started from is kept' in notice.text) == start_kept and notice.text.startswith('Residual after 5 passes: ')
    assert len(told) == 1
